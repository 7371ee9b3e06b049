"""A hindcast on a cluster of processes: the same numbers, each worker loads the model once."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.cf.writer import from_cf
from xearth.data.sources import samples
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.io import load
from xearth.forecasting.store import write_hindcast


def _counting():
    """Make two functions for a worker: count loads and builds; tell the counts.

    Functions made inside a function travel by value: a worker cannot import the tests.
    """

    def begin():
        from xearth.forecasting import shipping
        from xearth.models.config import EarthformerConfig

        counts = {"load": 0, "build": 0}
        original_load, original_build = shipping.load, EarthformerConfig.build

        def counting_load(place):
            counts["load"] += 1
            return original_load(place)

        def counting_build(config):
            counts["build"] += 1
            return original_build(config)

        shipping.load, EarthformerConfig.build = counting_load, counting_build
        shipping.counts = counts

    def tell():
        from xearth.forecasting import shipping

        return shipping.counts

    return begin, tell


def test_a_cluster_of_processes_loads_the_model_once_per_worker(tmp_path):
    distributed = pytest.importorskip("distributed")
    begin, tell = _counting()
    sst = samples.open("kaplan_sst", chunks={"time": 120}).sel(time=slice("1979", "1980"))
    init = slice("1980-01", "1980-08")
    model = load("enso-small")
    networks = len(model.states)
    by_name = hindcast(sst, "enso-small", init=init, members=2, starts_per_block=2)
    in_memory = hindcast(sst, model, init=init, members=2, starts_per_block=2)
    expected = model.forecast(sst.load(), init=init, members=2)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(begin)
        found = by_name.compute()
        xr.testing.assert_equal(found, expected)
        counts = client.run(tell).values()
        # loading checks the weights against a network on the device "meta": one build more
        assert [c["load"] for c in counts] == [1, 1]
        assert {c["build"] for c in counts} == {networks + 1}
        again = in_memory.compute()
        xr.testing.assert_equal(again, expected)
        counts = client.run(tell).values()
        assert [c["load"] for c in counts] == [1, 1]
        assert max(c["build"] for c in counts) <= 2 * networks + 1
        written = from_cf(write_hindcast(by_name, tmp_path / "hc.zarr"))["ssta"].load()
        xr.testing.assert_equal(written, expected)
    assert np.isfinite(found.isel(init=0, lead=0, member=0)).any()
