from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr

from xearth.data.windows import Window
from xearth.errors import (
    AxisError,
    ConfigError,
    GridMismatchError,
    MissingDataError,
    TimeAxisError,
    TimeAxisWarning,
    TrainingError,
    UnitsError,
)
from xearth.forecasting.firstguess import LinearGuess
from xearth.forecasting.fit import fit
from xearth.forecasting.inputs import Reader, year_fraction
from xearth.forecasting.io import load
from xearth.forecasting.recipe import Recipe
from xearth.models.config import EarthformerConfig
from xearth.models.config_parts import Dropout
from xearth.models.heads import LowRankGaussian
from xearth.training.losses import MSE, GaussianCRPS
from xearth.training.optim import Schedule
from xearth.training.options import TrainOptions

WINDOW = Window(3, 2)
QUICK = TrainOptions(epochs=1, batch_size=16, progress=False, accelerator="cpu")


def config(data, **changes):
    return EarthformerConfig.for_data(data, WINDOW, base_units=16, **changes)


def quick(data, *, window=WINDOW, recipe=None, **kwargs):
    recipe = Recipe(options=QUICK) if recipe is None else recipe
    return fit(config(data), data, window=window, recipe=recipe, **kwargs)


@pytest.fixture(scope="module")
def fitted(field):
    recipe = Recipe(
        head=LowRankGaussian(2),
        networks=2,
        season=True,
        guess=LinearGuess(components=2, lags=(0, 2), blocks=3),
        options=QUICK,
        name="small",
    )
    return quick(field, recipe=recipe, validation=slice("2003-01", None))


def test_defaults_are_the_published_training():
    recipe = Recipe()
    assert recipe.chosen_head().rank == 0
    assert recipe.chosen_loss() == MSE()
    assert Recipe(head=LowRankGaussian(2)).chosen_loss() == GaussianCRPS()
    assert recipe.options.schedule.clip == 1.0


def test_what_comes_back(field, fitted, tmp_path):
    assert fitted.history == 3
    assert fitted.horizon == 2
    assert len(fitted.states) == 2
    assert fitted.config.input_shape == (3, 4, 6, 3)
    assert fitted.config.target_shape == (2, 4, 6, 3)
    fc = fitted.forecast(field, init="2003-06", members=3)
    assert fc.shape == (1, 2, 3, 4, 6)
    assert bool(np.isfinite(fc.values[..., ~np.isnan(field.values[0])]).all())
    back = load(fitted.save(tmp_path / "small.safetensors"))
    xr.testing.assert_equal(back.forecast(field, init="2003-06", members=3), fc)


def test_provenance(fitted):
    facts = fitted.provenance
    assert facts["training_period"] == "2000-01/2002-12"
    assert facts["training_windows"] == 36 - 4
    assert facts["validation_period"] == "2002-10/2003-12"  # the history may reach back
    assert facts["validation_windows"] == 11
    assert facts["base_period"] == "1991-2020"
    assert facts["seeds"] == [0, 1]
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["options"]["epochs"] == 1
    assert [len(lines) for lines in fitted.metrics["epochs"]] == [1, 1]
    assert fitted.metrics["epochs"][0][0]["valid_loss"] > 0


def test_nothing_is_learned_from_the_validation(field, fitted):
    spoiled = field.copy()
    spoiled.loc[{"time": slice("2003-01", None)}] *= 50
    recipe = Recipe(
        head=LowRankGaussian(2),
        networks=2,
        season=True,
        guess=LinearGuess(components=2, lags=(0, 2), blocks=3),
        options=QUICK,
        name="small",
    )
    again = quick(spoiled, recipe=recipe, validation=slice("2003-01", None))
    assert again.normalizer == fitted.normalizer
    np.testing.assert_array_equal(again.guess.coefficients, fitted.guess.coefficients)
    for ours, theirs in zip(again.states, fitted.states, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_normalizer_is_fitted_to_the_training_period(field, fitted):
    values = field.sel(time=slice(None, "2002-12")).values
    assert fitted.normalizer.center[0] == pytest.approx(np.nanmean(values), abs=1e-6)
    assert fitted.normalizer.scale[0] == pytest.approx(np.nanstd(values), abs=1e-6)


def test_training_makes_it_better(field):
    recipe = Recipe(
        options=TrainOptions(
            epochs=8, batch_size=8, progress=False, schedule=Schedule(lr=3e-3), accelerator="cpu"
        )
    )
    shape = config(field, dropout=Dropout(attention=0.0, projection=0.0, ffn=0.0))
    trained = fit(shape, field, window=WINDOW, recipe=recipe)
    losses = [line["loss"] for line in trained.metrics["epochs"][0]]
    assert losses[-1] < 0.6 * losses[0]


def test_seeds(field):
    first, again, other = (quick(field, seed=seed) for seed in (0, 0, 1))
    name = "dec_final_proj.weight"
    assert torch.equal(first.states[0][name], again.states[0][name])
    assert not torch.equal(first.states[0][name], other.states[0][name])


def test_validation_on_other_data(field):
    turned = field.sel(time=slice("2002-01", None)).isel(lat=slice(None, None, -1))
    train = field.sel(time=slice(None, "2001-12"))
    trained = quick(train, validation=turned.assign_attrs(units="degC"))
    assert trained.provenance["validation_windows"] == 24 - 4
    with pytest.raises(GridMismatchError):
        quick(train, validation=turned.isel(lon=slice(1, None)))
    with pytest.raises(UnitsError):
        quick(train, validation=turned.assign_attrs(units="m", units_metadata=""))


def test_datasets_have_channels(field):
    data = xr.Dataset({"ssta": field, "double": (2 * field).assign_attrs(field.attrs)})
    trained = quick(data)
    assert trained.config.input_shape == (3, 4, 6, 2)
    fc = trained.forecast(data)
    assert list(fc.data_vars) == ["ssta", "double"]
    assert fc["double"].dims == ("init", "lead", "lat", "lon")


def test_windows_do_not_span_gaps(field):
    holed = field.drop_sel(time=["2001-05-01"])
    with pytest.warns(TimeAxisWarning, match="missing steps"):
        trained = quick(holed)
    assert trained.provenance["training_windows"] == (16 - 4) + (31 - 4)


def test_cells_that_are_sometimes_missing_are_not_required(field):
    holed = field.copy()
    holed[10, 0, 0] = np.nan
    trained = quick(holed)
    assert not trained.required[0, 0]
    assert trained.grid.mask[0, 0]
    late = field.copy()
    late[-1, 0, 0] = np.nan
    assert np.isfinite(trained.forecast(late).values[0, 0, 0, 0])
    late[-1, 0, 1] = np.nan
    with pytest.raises(MissingDataError, match="row 0, column 1"):
        trained.forecast(late)


def test_resume(field, tmp_path):
    recipe = Recipe(options=dataclasses.replace(QUICK, epochs=2), checkpoints=tmp_path, networks=2)
    first = quick(field, recipe=recipe)
    assert {path.name for path in tmp_path.iterdir()} == {"network-0", "network-1"}
    again = quick(field, recipe=recipe)
    assert again.metrics == first.metrics


def test_nan_loss_names_the_inits(field):
    wild = dataclasses.replace(QUICK, epochs=3, schedule=Schedule(lr=1e30, warmup=0.0))
    with pytest.raises(TrainingError, match=r"epoch .* with init 200"):
        quick(field, recipe=Recipe(options=wild))


def test_sizes(field):
    assert field.earthformer.frame_shape == (4, 6, 1)
    sized = config(field)
    assert isinstance(sized, EarthformerConfig)
    assert sized.input_shape == (3, 4, 6, 1)
    with pytest.raises(ConfigError, match="for_data"):
        fit(sized, field.isel(lat=slice(3)), window=WINDOW)
    with pytest.raises(ConfigError, match="at least 1"):
        Recipe(networks=0)


def test_impossible_periods(field):
    with pytest.raises(TimeAxisError, match="no training window"):
        quick(field, validation=slice("2000-03", "2003-10"))
    with pytest.raises(TimeAxisError, match="no window of 2 target steps"):
        quick(field, validation=slice("2003-05", "2003-05"))
    with pytest.raises(TimeAxisError, match="needs 5 consecutive steps, found 4"):
        quick(field.isel(time=slice(4)))
    with pytest.raises(TimeAxisError, match="horizon of at least 1"):
        fit(config(field), field, window=Window(3, 0))


def test_extra_dims_are_refused(field):
    pair = field.expand_dims(member=[0, 1])
    pair["member"].attrs["standard_name"] = "realization"
    with pytest.raises(AxisError, match="member"):
        quick(pair)


def test_statistics_are_lazy_until_the_labels_are_checked(field):
    def refuse(block):
        raise RuntimeError("computed")

    lazy = field.chunk(time=10).map_blocks(refuse, template=field.chunk(time=10))
    with pytest.raises(TimeAxisError):
        quick(lazy.isel(time=slice(4)))
    with pytest.raises(RuntimeError, match="computed"):
        quick(lazy)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_season_channels(field, calendar):
    from xearth.cf.timeaxis import TimeAxis
    from xearth.data.loader import Windows

    time = xr.date_range(
        "2000-01-16", periods=48, freq="30D" if calendar == "360_day" else "MS",
        calendar=calendar, use_cftime=True,
    )  # fmt: skip
    data = field.assign_coords(time=("time", time))
    windows = Windows(data, WINDOW)
    batch = windows.batch([0, 9])
    x = Reader(windows, season=True).network_input(batch.x, batch.init_positions)
    assert x.shape == (2, 3, 4, 6, 3)
    months = np.array([stamp.month for stamp in time])
    for n, first in enumerate((0, 9)):
        angle = 2 * np.pi * (months[first : first + 3] - 1) / 12
        np.testing.assert_allclose(x[n, :, 2, 3, 1], np.cos(angle), atol=1e-6)
        np.testing.assert_allclose(x[n, :, 0, 0, 2], np.sin(angle), atol=1e-6)
    fractions = year_fraction(TimeAxis.from_array(data.time))
    assert fractions.min() >= 0
    assert fractions.max() < 1


def test_time_of_year_of_short_steps():
    from xearth.cf.timeaxis import TimeAxis

    time = xr.date_range("2001-01-01", periods=800, freq="12h", use_cftime=False)
    fractions = year_fraction(TimeAxis.from_array(xr.DataArray(time, dims="time", name="time")))
    assert fractions[:3].tolist() == [0, 0.5 / 366, 1 / 366]
    assert fractions.max() < 1
