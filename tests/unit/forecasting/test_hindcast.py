"""A hindcast is the same numbers as its forecasts one by one, made only when asked for."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import ConfigError, TimeAxisError
from xearth.forecasting.hindcast import hindcast
from xearth.reference.lim import LIM
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.testing.assertions import raise_if_dask_computes


@pytest.fixture(scope="module")
def sst() -> xr.DataArray:
    return samples.open("kaplan_sst").sel(time=slice("1960", "1990")).load()


@pytest.fixture(scope="module")
def damped(sst):
    return DampedPersistence.fit(sst.sel(time=slice("1960", "1981")), horizon=4)


def test_equals_the_forecasts_one_by_one(sst, damped):
    starts = ["1982-01", "1982-02", "1985-07", "1990-12"]
    lazy = hindcast(sst, damped, init=starts, members=3, seed=5, starts_per_block=2)
    one_by_one = [damped.forecast(sst, init=s, members=3, seed=5) for s in starts]
    expected = xr.concat(one_by_one, "init")
    assert lazy.chunks[0] == (2, 2)
    xr.testing.assert_equal(lazy.compute(), expected)
    assert lazy.attrs == expected.attrs
    assert lazy["lead"].attrs == expected["lead"].attrs


@pytest.mark.parametrize("block", [1, 5, 100])
def test_blocks_do_not_change_numbers(sst, block):
    model = LIM.fit(sst.sel(time=slice("1960", "1981")), horizon=3, modes=5)
    init = slice("1983-01", "1983-12")
    whole = model.forecast(sst, init=init, members=2)
    blocked = hindcast(sst, model, init=init, members=2, starts_per_block=block).compute()
    np.testing.assert_allclose(blocked.values, whole.values, rtol=0, atol=1e-12)


def test_nothing_is_computed_before_it_is_asked_for(sst, damped):
    """The first start is forecast at once; no task of the result may run."""
    lazy_sst = sst.chunk(time=60)
    hc = hindcast(lazy_sst, damped, init=slice("1982", "1989"))
    with raise_if_dask_computes():
        part = hc.isel(init=slice(0, 5)).mean("lead")
    xr.testing.assert_allclose(
        part.compute(), damped.forecast(sst, init=slice("1982-01", "1982-05")).mean("lead")
    )


def test_a_block_reads_only_what_its_starts_need(sst, damped):
    read = []

    class Recorder:
        name, history, horizon = "recorder", 12, damped.horizon

        def forecast(self, history, **options):
            read.append(history.sizes["time"])
            return damped.forecast(history, **options)

    hindcast(sst, Recorder(), init=slice("1982-01", "1983-12"), starts_per_block=6).compute(
        scheduler="synchronous"
    )
    first, *blocks = read
    assert first == sst.sizes["time"]
    assert blocks == [12 + 5] * 4


def test_slice_keeps_starts_with_a_complete_history(sst):
    model = LIM.fit(sst.sel(time=slice("1960", "1981")), horizon=3, modes=5, smoothing=3)
    assert model.history == 3
    hc = hindcast(sst, model, init=slice("1960-01", "1960-12"))
    assert hc.sizes["init"] == 12 - (model.history - 1)
    with pytest.raises(TimeAxisError, match="history"):
        hindcast(sst, model, init=slice("1960-01", "1960-02"))


def test_default_is_every_possible_start(sst, damped):
    assert hindcast(sst, damped).sizes["init"] == sst.sizes["time"]


def test_unsorted_time_gives_the_same_numbers(sst):
    model = Persistence.fit(sst.sel(time=slice("1960", "1981")), horizon=2)
    shuffled = sst.isel(time=np.random.default_rng(0).permutation(sst.sizes["time"]))
    init = slice("1983-01", "1983-06")
    xr.testing.assert_equal(
        hindcast(shuffled, model, init=["1983-01", "1983-04"]).compute(),
        hindcast(sst, model, init=["1983-01", "1983-04"]).compute(),
    )
    assert hindcast(sst, model, init=init).sizes["init"] == 6


def test_impossible_block(sst, damped):
    with pytest.raises(ConfigError, match="starts_per_block"):
        hindcast(sst, damped, starts_per_block=0)
