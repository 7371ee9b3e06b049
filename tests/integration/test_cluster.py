"""A cluster of processes: the same numbers, and each worker loads a model once."""

from __future__ import annotations

import multiprocessing

import dask
import numpy as np
import pytest
import xarray as xr

from xearth.cf.writer import from_cf
from xearth.data.sources import samples
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.io import load
from xearth.forecasting.store import write_hindcast
from xearth.reference.persistence import Persistence
from xearth.verification.one_pass.verify import verify

# what the tasks of workers import: once, in the process that the workers are copies of
LIBRARIES = [
    "distributed.worker",
    "netCDF4",
    "scipy.stats",
    "torch",
    "xearth.forecasting.forecaster",
    "xearth.forecasting.store",
    "xearth.verification.one_pass.verify",
]


@pytest.fixture
def cluster():
    """Two processes of one thread, their scheduler, and a client of it."""
    distributed = pytest.importorskip("distributed")
    from distributed.utils import get_mp_context

    fast = "forkserver" in multiprocessing.get_all_start_methods()
    quiet = {
        "distributed.worker.multiprocessing-method": "forkserver" if fast else "spawn",
        "distributed.worker.profile.enabled": False,
    }
    with dask.config.set(quiet):
        context = get_mp_context()
        if fast:
            context.set_forkserver_preload(LIBRARIES)
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
            ) as made,
            distributed.Client(made) as client,
        ):
            yield client


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


def test_a_cluster_of_processes_loads_the_model_once_per_worker(cluster, tmp_path):
    begin, tell = _counting()
    sst = samples.open("kaplan_sst", chunks={"time": 120}).sel(time=slice("1979", "1980"))
    init = slice("1980-01", "1980-08")
    model = load("enso-small")
    networks = len(model.states)
    by_name = hindcast(sst, "enso-small", init=init, members=2, starts_per_block=2)
    in_memory = hindcast(sst, model, init=init, members=2, starts_per_block=2)
    expected = model.forecast(sst.load(), init=init, members=2)
    cluster.run(begin)
    found = by_name.compute()
    xr.testing.assert_equal(found, expected)
    counts = cluster.run(tell).values()
    # loading checks the weights against a network on the device "meta": one build more
    assert [c["load"] for c in counts] == [1, 1]
    assert {c["build"] for c in counts} == {networks + 1}
    again = in_memory.compute()
    xr.testing.assert_equal(again, expected)
    counts = cluster.run(tell).values()
    assert [c["load"] for c in counts] == [1, 1]
    assert max(c["build"] for c in counts) <= 2 * networks + 1
    written = from_cf(write_hindcast(by_name, tmp_path / "hc.zarr"))["ssta"].load()
    xr.testing.assert_equal(written, expected)
    assert np.isfinite(found.isel(init=0, lead=0, member=0)).any()


def test_scores_on_a_cluster_of_processes_are_the_same(cluster):
    rng = np.random.default_rng(0)
    lat = xr.Variable("lat", np.linspace(-75.0, 75.0, 6), {"units": "degrees_north"})
    lon = xr.Variable("lon", np.arange(8) * 45.0, {"units": "degrees_east"})
    time = xr.date_range("2000-01", periods=24, freq="MS")
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    sst = xr.DataArray(rng.standard_normal((24, 6, 8)), {"time": time, "lat": lat, "lon": lon},
                       ("time", "lat", "lon"), "sst", attrs)  # fmt: skip
    f = Persistence.fit(sst[:6], horizon=3).forecast(sst, init=slice("2000-08", "2001-09"))
    noise = xr.DataArray(rng.standard_normal((4,)), dims="member")
    f = (f + noise).transpose("init", "lead", "member", "lat", "lon").assign_attrs(f.attrs)
    names = ["rmse", "crps_fair", "acc", "acc_temporal", "nino34_correlation"]
    expected = verify(f, sst, names)
    lazy = verify(f.chunk(init=3, lat=3, member=2), sst.chunk(time=7), names)
    found = lazy.compute()
    assert len(cluster.scheduler_info()["workers"]) == 2
    xr.testing.assert_allclose(found, expected, rtol=1e-12)
