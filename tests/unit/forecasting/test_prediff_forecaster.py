"""Ensembles of rain by diffusion: labels, members, files, constraints; with a new small model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.signal import periodogram

import xearth
from xearth.errors import (
    CheckpointError,
    ConfigError,
    ConstraintError,
    RegionError,
    TimeAxisError,
)
from xearth.forecasting.io import load
from xearth.forecasting.nowcast import NowcastForecaster
from xearth.forecasting.prediff import PreDiffForecaster
from xearth.forecasting.prediff_fit import equalized
from xearth.models.checkpoints import load_tensors, save_tensors
from xearth.models.nowcast import NowcastConfig
from xearth.models.prediff.rain import RainDiffusion, RainDiffusionConfig

INIT = "2010-08-26T04:30"


@pytest.fixture(scope="module")
def model() -> PreDiffForecaster:
    torch.manual_seed(0)
    config = RainDiffusionConfig(leads=3, told=(1, 3), block=4, channels=6, base_units=8)
    built = config.build()
    torch.nn.init.normal_(built.denoiser.out.weight, std=0.05)
    base = NowcastConfig(width=8, hidden=8)
    return PreDiffForecaster(
        config=config,
        state=built.weights(),
        base=NowcastForecaster(config=base, state=base.build().state_dict(), horizon=3),
        steps=3,
        name="small",
        provenance={"trained_on": "nothing"},
    )


@pytest.fixture(scope="module")
def rain() -> xr.DataArray:
    return xearth.samples.open("knmi_radar").isel(y=slice(80, 125), x=slice(60, 110)).load()


@pytest.fixture(scope="module")
def forecast(model: PreDiffForecaster, rain: xr.DataArray) -> xr.DataArray:
    return model.forecast(rain, init=INIT, members=3)


def test_forecast_is_labeled_like_the_history(forecast: xr.DataArray, rain: xr.DataArray) -> None:
    assert dict(forecast.sizes) == {"init": 1, "lead": 3, "member": 3, "y": 45, "x": 50}
    assert forecast.units == rain.units
    assert forecast.forecaster == "small"
    assert "PreDiffForecaster 'small'" in forecast.attrs["history"]
    assert forecast.lead.values.tolist() == [5, 10, 15]
    np.testing.assert_array_equal(forecast.y, rain.y)
    seen = np.isfinite(rain.sel(time=INIT).values)
    np.testing.assert_array_equal(np.isfinite(forecast.values[0, 1, 2]), seen)
    assert float(forecast.min()) >= 0.0


def test_members_differ_and_do_not_depend_on_their_number(
    model: PreDiffForecaster, rain: xr.DataArray, forecast: xr.DataArray
) -> None:
    one = model.forecast(rain, init=INIT, members=1)
    np.testing.assert_allclose(one[:, :, 0], forecast[:, :, 0], atol=1e-4, rtol=1e-3)
    assert float(abs(forecast[:, :, 0] - forecast[:, :, 1]).max()) > 0.01
    other = model.forecast(rain, init=INIT, members=1, seed=1)
    assert float(abs(other - one).max()) > 0.01


def test_forecast_turns_with_the_rows(
    model: PreDiffForecaster, rain: xr.DataArray, forecast: xr.DataArray
) -> None:
    other = model.forecast(rain.isel(y=slice(None, None, -1)), init=INIT, members=3)
    xr.testing.assert_allclose(other.sel(y=forecast.y), forecast, atol=1e-4)


def test_without_members_it_is_the_mean_of_the_nowcast_inside(
    model: PreDiffForecaster, rain: xr.DataArray
) -> None:
    found = model.forecast(rain, init=INIT)
    np.testing.assert_allclose(found, model.base.forecast(rain, init=INIT), atol=1e-5)


def test_file_gives_the_same_forecaster(
    model: PreDiffForecaster, rain: xr.DataArray, forecast: xr.DataArray, tmp_path: Path
) -> None:
    again = load(model.save(tmp_path / "model.safetensors"))
    assert isinstance(again, PreDiffForecaster)
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(again.forecast(rain, init=INIT, members=3), forecast)
    half = load(model.save(tmp_path / "half.safetensors", dtype="float16"))
    np.testing.assert_allclose(
        half.forecast(rain, init=INIT, members=3), forecast, atol=0.5, rtol=0.2
    )


def test_damaged_files_are_refused(model: PreDiffForecaster, tmp_path: Path) -> None:
    path = model.save(tmp_path / "model.safetensors")
    tensors, facts = load_tensors(path)
    del tensors["diffusion.scale"]
    with pytest.raises(CheckpointError, match="'scale'"):
        load(save_tensors(tmp_path / "less.safetensors", tensors, facts))
    with pytest.raises(CheckpointError):
        model.save(tmp_path / "nowhere" / "model.safetensors")


def area_mean(fc: xr.DataArray) -> xr.DataArray:
    """Second route to the mean over the cells of a forecast, which have one size nearly."""
    return xearth.AreaMean().measure(fc)


@pytest.mark.parametrize("impose", ["exact", "guided"])
def test_a_mean_that_is_asked_for_is_reached(
    model: PreDiffForecaster,
    rain: xr.DataArray,
    forecast: xr.DataArray,
    impose: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, sample = [], RainDiffusion.sample

    def counted(self: RainDiffusion, *args: object, members: range, **more: object) -> object:
        drawn.extend(members)
        return sample(self, *args, members=members, **more)

    monkeypatch.setattr(RainDiffusion, "sample", counted)
    free = float(area_mean(forecast).mean())
    wanted = 1.5 * free
    asked = xearth.AreaMean(per="horizon") == xearth.Q(wanted, "mm/h")
    found = model.forecast(rain, init=INIT, members=2, constraints=asked, impose=impose)
    reached = asked.measure(found).values
    allowed = 1e-5 if impose == "exact" else 0.05
    np.testing.assert_allclose(reached, wanted, rtol=allowed)
    assert float(found.min()) >= 0.0
    assert found.attrs["xearth_imposed"] == impose
    (entry,) = json.loads(found.attrs["xearth_audit"])
    assert entry["units"] == "mm h-1"
    assert entry["worst"] <= allowed * wanted * 1.01
    assert drawn == [0, 1]  # free members are not drawn to tell how far off they would be
    assert "before" not in entry
    assert "before" not in found.attrs["xearth_constraints"]
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(forecast.isel(member=[0, 1])))


def test_constraints_are_refused_before_anything_is_drawn(
    model: PreDiffForecaster, rain: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("sampled")

    monkeypatch.setattr(PreDiffForecaster, "_start", never)
    less = xearth.AreaMean() <= xearth.Q(-1, "mm/h")
    with pytest.raises(ConstraintError, match="at least 0"):
        model.forecast(rain, init=INIT, members=2, constraints=less)
    far = xearth.AreaMean(xearth.Box(-40, -30, 100, 110, "elsewhere")) >= xearth.Q(1, "mm/h")
    with pytest.raises(RegionError):
        model.forecast(rain, init=INIT, members=2, constraints=far)
    much = xearth.AreaMean() >= xearth.Q(1, "mm/h")
    with pytest.raises(ConfigError, match="members=10"):
        model.forecast(rain, init=INIT, constraints=much)
    with pytest.raises(ConfigError, match="exact, guided"):
        model.forecast(rain, init=INIT, members=2, constraints=much, impose="softly")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="members=0"):
        model.forecast(rain, init=INIT, members=0)
    slope = xearth.SpectrumSlope((2, 8)) >= xearth.Q(-2, "1")
    with pytest.raises(ConstraintError, match="impose='guided'"):
        model.forecast(rain, init=INIT, members=2, constraints=slope)
    dbz = xearth.reflectivity(rain, a=200, b=1.6)
    with pytest.raises(ConstraintError, match="rain_rate"):
        model.forecast(dbz, init=INIT, members=2, constraints=much)


def test_cells_much_finer_than_those_of_training_are_averaged(
    model: PreDiffForecaster, rain: xr.DataArray
) -> None:
    def twice(da: xr.DataArray, dim: str) -> xr.DataArray:
        step = float(da[dim][1] - da[dim][0])
        fine = da.isel({dim: np.repeat(np.arange(da.sizes[dim]), 2)})
        places = fine[dim].values + np.tile([-0.25, 0.25], da.sizes[dim]) * step
        return fine.assign_coords({dim: (dim, places, da[dim].attrs)})

    bare = rain.drop_vars([c for c in rain.coords if rain[c].ndim == 2])
    fine = twice(twice(bare, "y"), "x")
    wide = model.forecast(bare, init=INIT, members=1)
    found = model.forecast(fine, init=INIT, members=1)
    np.testing.assert_allclose(found[..., ::2, ::2].values, wide.values, atol=1e-4)
    mean = xearth.AreaMaximum() <= xearth.Q(5, "mm/h")
    capped = model.forecast(fine, init=INIT, members=1, constraints=mean)
    assert float(capped.max()) <= 5.0 * (1 + 1e-5)


# -- equalizer -------------------------------------------------------------------------------------


def test_equalized_members_come_nearer_to_the_spectrum_of_what_was_observed(
    model: PreDiffForecaster, rain: xr.DataArray
) -> None:
    """With the measure of another library: power of rows of decibels, by scipy."""
    event = rain.isel(time=slice(0, 16))
    scores = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = equalized(model, [event], scores, starts=2, members=2, rounds=2)
    init = event.time.values[8]

    def off(forecaster: PreDiffForecaster) -> float:
        drawn = forecaster.forecast(event, init=init, members=4, seed=7).values[0]
        fields = [np.log10(np.maximum(x, 0.1)) for x in (drawn, event.values[9:12][:, None])]
        powers = [periodogram(x, window="hann", axis=-1)[1].mean((0, 1, 2)) for x in fields]
        return float(np.abs(np.log(powers[0] / powers[1]))[3:-1].mean())

    assert off(made) < 0.85 * off(model)  # the gains have limits, this model is far off
    assert not torch.equal(made.state["equalizer.gain"], model.state["equalizer.gain"])


def test_events_too_short_to_compare_with_are_refused(
    model: PreDiffForecaster, rain: xr.DataArray
) -> None:
    with pytest.raises(TimeAxisError, match="has 5 times"):
        equalized(model, [rain.isel(time=slice(0, 5))], torch.ones(1, 3, 8, 8))
