"""A hindcast is the same numbers as its forecasts one by one, made only when asked for."""

from __future__ import annotations

import pickle

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xearth.data.sources import samples
from xearth.errors import CheckpointError, ConfigError, MissingDataError, TimeAxisError
from xearth.forecasting import hindcast as module
from xearth.forecasting.forecaster import NetworkForecaster, forecast
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.shipping import resident, saved
from xearth.reference.analog import Analog
from xearth.reference.climatology import Climatology
from xearth.reference.cslim import CSLIM
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
    assert lazy.attrs.items() >= expected.attrs.items()
    assert lazy["lead"].attrs == expected["lead"].attrs


@pytest.mark.parametrize("block", [1, 5, 100])
def test_blocks_do_not_change_numbers(sst, block):
    model = LIM.fit(sst.sel(time=slice("1960", "1981")), horizon=3, modes=5)
    init = slice("1983-01", "1983-12")
    whole = model.forecast(sst, init=init, members=2)
    blocked = hindcast(sst, model, init=init, members=2, starts_per_block=block).compute()
    np.testing.assert_allclose(blocked.values, whole.values, rtol=0, atol=1e-12)


def test_nothing_is_computed_before_it_is_asked_for(sst, damped):
    """The first start is looked at at once; no task of the result may run."""
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
    assert first == 12
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


def test_a_block_is_computed_without_any_other(sst, damped):
    """Whatever is selected, only the blocks it lies in run, and a chain of them stays small."""
    ran = []

    class Recorder:
        name, history, horizon = "recorder", 1, damped.horizon

        def forecast(self, history, *, init=None, **options):
            ran.append(np.size(init))
            return damped.forecast(history, init=init, **options)

    hc = hindcast(sst, Recorder(), init=slice("1982", "1984"), members=4, starts_per_block=6)
    ran.clear()
    for part in (
        hc.isel(init=7),
        hc.isel(init=7, lead=0),
        hc.isel(init=slice(6, 12), member=3, lat=2),
        hc.isel(init=[8, 10]).mean(("lat", "lon")),
    ):
        part.compute(scheduler="synchronous")
        assert ran == [6]
        ran.clear()
    hc.isel(member=0, lead=0).compute(scheduler="synchronous")
    assert ran == [6] * 6


def test_networks_do_not_run_before_values_are_asked_for(field, forecaster, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a network ran")

    monkeypatch.setattr(NetworkForecaster, "_predict", fail)
    hc = hindcast(field, forecaster, members=2)
    assert dict(hc.sizes) == {"init": 46, "lead": 2, "member": 2, "lat": 4, "lon": 6}
    monkeypatch.undo()
    made = forecaster.forecast(field, init=slice(None), members=2)
    xr.testing.assert_equal(hc.compute(), made)
    assert hc.dtype == made.dtype
    assert hc.attrs.items() >= {k: v for k, v in made.attrs.items() if k != "history"}.items()
    assert {k: v.attrs for k, v in hc.coords.items()} == {
        k: v.attrs for k, v in made.coords.items()
    }


def test_bad_input_is_refused_at_once(field, forecaster):
    """As before the first forecast: no network is needed to see it."""
    holes = field.copy()
    holes[4, 0, 0] = np.nan
    with pytest.raises(MissingDataError):
        hindcast(holes, forecaster, init=slice("2000-05", None))


@pytest.fixture(scope="module")
def members_of(sst, field, forecaster):
    """Twenty members of each kind of forecaster from fourteen starts, made in one go."""
    train = sst.sel(time=slice("1960", "1981"))
    kinds = {
        "network": (field, forecaster, slice("2000-06", "2001-07")),
        "lim": (sst, LIM.fit(train, horizon=3, modes=5), slice("1983-01", "1984-02")),
        "damped": (sst, DampedPersistence.fit(train, horizon=3), slice("1983-01", "1984-02")),
        "climatology": (sst, Climatology.fit(train, horizon=3), slice("1983-01", "1984-02")),
    }
    return {
        name: (data, model, model.forecast(data, init=init, members=20, seed=11))
        for name, (data, model, init) in kinds.items()
    }


@pytest.mark.parametrize("kind", ["network", "lim", "damped", "climatology"])
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_member_k_is_the_same_number_however_it_is_made(members_of, kind, data, monkeypatch):
    """Other starts, blocks, batches and ensemble sizes: the same member, to rounding of a float."""
    history, model, whole = members_of[kind]
    count = data.draw(st.integers(1, 20), "members")
    begin = data.draw(st.integers(0, 13), "first start")
    end = data.draw(st.integers(begin + 1, 14), "end")
    block = data.draw(st.integers(1, 15), "starts per block")
    monkeypatch.setattr(
        "xearth.forecasting.forecaster._BATCH", data.draw(st.integers(1, 17), "batch")
    )
    starts = whole["init"].values[begin:end]
    made = hindcast(
        history, model, init=list(starts), members=count, seed=11, starts_per_block=block
    ).compute(scheduler="synchronous")
    expected = whole.isel(init=slice(begin, end), member=slice(count))
    np.testing.assert_allclose(made.values, expected.values, rtol=0, atol=2e-7)


def test_blocks_are_bounded_in_bytes(sst, damped, monkeypatch):
    one = damped.forecast(sst, init="1982-01", members=2).nbytes
    assert hindcast(sst, damped, members=2).chunks[0][0] == module.BLOCK_STARTS
    monkeypatch.setattr(module, "BLOCK_BYTES", 3 * one)
    assert hindcast(sst, damped, members=2).chunks[0][0] == 3
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    assert hindcast(sst, damped, members=2).chunks[0][0] == 1


class Both:
    """A forecaster of two variables."""

    name, history, horizon = "both", 1, 2

    def __init__(self, model):
        self.model, self.ran = model, 0

    def forecast(self, history, **options):
        self.ran += 1
        made = {n: self.model.forecast(history[n], **options) for n in ("a", "b")}
        return xr.Dataset(made)


def test_several_variables_come_from_one_run_of_each_block(field):
    both = xr.Dataset({"a": field, "b": 2 * field.assign_attrs(units="K")})
    model = Both(Persistence.fit(field, horizon=2))
    hc = hindcast(both, model, init=slice("2000-01", "2000-12"), members=2, starts_per_block=4)
    assert model.ran == 1
    computed = hc.compute(scheduler="synchronous")
    assert model.ran == 1 + 3
    expected = model.forecast(both, init=slice("2000-01", "2000-12"), members=2)
    xr.testing.assert_equal(computed, expected)


def test_a_file_is_read_block_by_block(field, tmp_path):
    """A history on file, without Dask, is neither read at once nor kept."""
    field.to_netcdf(tmp_path / "field.nc")
    with xr.open_dataset(tmp_path / "field.nc") as ds:
        model = DampedPersistence.fit(field, horizon=2)
        hc = hindcast(ds.ssta, model, starts_per_block=6)
        assert not ds.ssta.variable._in_memory
        xr.testing.assert_equal(hc.compute(), hindcast(field, model).compute())
        assert not ds.ssta.variable._in_memory


def test_what_the_forecaster_has_seen_is_in_the_attributes(sst, field, forecaster):
    attrs = hindcast(field, forecaster, seed=4).attrs
    assert attrs["xearth_training_period"] == "2000-01/2003-12"
    assert "xearth_climatology_base" not in attrs  # "1991-2020" is no period that can be read
    assert (attrs["xearth_history"], attrs["xearth_horizon"], attrs["xearth_seed"]) == (3, 2, 4)
    absolute = sst.assign_attrs(units_metadata="temperature: on_scale")
    del absolute.attrs["base_period"]
    train = absolute.sel(time=slice("1960", "1981"))
    attrs = hindcast(absolute, Persistence.fit(train, horizon=2)).attrs
    assert attrs["xearth_climatology_base"] == "1960-01/1981-12"
    attrs = hindcast(absolute, DampedPersistence.fit(train, horizon=2)).attrs
    assert attrs["xearth_climatology_base"] == attrs["xearth_training_period"] == "1960-01/1981-12"


def test_a_task_carries_a_path_not_the_weights(field, forecaster, tmp_path):
    path = forecaster.save(tmp_path / "toy.safetensors")
    weights = sum(v.numel() * 4 for state in forecaster.states for v in state.values())
    by_path = hindcast(field, path, starts_per_block=4)
    in_memory = hindcast(field, forecaster, starts_per_block=4)
    sizes = [len(pickle.dumps(dict(hc.__dask_graph__()))) for hc in (by_path, in_memory)]
    assert sizes[0] < weights / 2
    assert weights < sizes[1] < 1.5 * weights
    assert by_path.attrs["xearth_model"] == in_memory.attrs["xearth_model"]
    xr.testing.assert_identical(by_path.compute(), in_memory.compute())


def test_a_file_that_has_changed_is_not_used(field, forecaster, tmp_path, monkeypatch):
    path = forecaster.save(tmp_path / "toy.safetensors")
    carried, loaded = saved(path)
    assert resident(carried) is loaded
    monkeypatch.setattr("xearth.forecasting.shipping._loaded", {})
    assert resident(carried) is not loaded
    import dataclasses

    dataclasses.replace(forecaster, name="other").save(path)
    assert resident(carried).name == "toy"
    monkeypatch.setattr("xearth.forecasting.shipping._loaded", {})
    with pytest.raises(CheckpointError, match="not the one that the hindcast was defined with"):
        resident(carried)


def test_impossible_block(sst, damped):
    with pytest.raises(ConfigError, match="starts_per_block"):
        hindcast(sst, damped, starts_per_block=0)


@pytest.mark.parametrize("members", [-1, 0, 2.5, True, "3"])
@pytest.mark.parametrize("make", [hindcast, forecast])
def test_impossible_members_are_refused_before_any_work(sst, damped, make, members):
    class Unused:
        name, history, horizon = "unused", 1, 2

    for model in (Unused(), "no such file"):
        with pytest.raises(ConfigError, match=rf"members={members!r}"):
            make(sst, model, members=members)


def _models(train):
    kept = {"horizon": 2}
    yield Climatology.fit(train, **kept)
    yield Persistence.fit(train, **kept)
    yield DampedPersistence.fit(train, **kept)
    for kind in (LIM, CSLIM, Analog):
        yield kind.fit(train, modes=3, **kept)


def test_equal_hindcasts_have_equal_names(sst, field, forecaster):
    """So that a hindcast that is defined again is known again; others have other names."""
    train = sst.sel(time=slice("1960", "1981"))
    for one, two in zip(_models(train), _models(train), strict=True):
        first, second = (hindcast(sst, model, init=slice("1984", "1985")) for model in (one, two))
        assert first.data.name == second.data.name
        assert dask.is_dask_collection(first - second)
        assert bool(((first - second).fillna(0) == 0).all())
    assert hindcast(field, forecaster).data.name == hindcast(field, forecaster).data.name
    names = {
        hindcast(sst, model, init=init, members=members, starts_per_block=size, seed=seed).data.name
        for model in (two, Persistence.fit(train, horizon=2))
        for init in (slice("1984", "1985"), slice("1984", "1986"))
        for members in (None, 2)
        for size in (6, 7)
        for seed in (0, 1)
    }
    assert len(names) == 32
