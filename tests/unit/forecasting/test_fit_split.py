"""What a Split lets :func:`xearth.fit` see."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from xearth import Split, hindcast, nino_index, verify
from xearth.data.windows import Window
from xearth.errors import ConfigError, LeakageWarning, TimeAxisError
from xearth.forecasting.firstguess import LinearGuess
from xearth.forecasting.fit import fit
from xearth.forecasting.io import load
from xearth.forecasting.recipe import Recipe
from xearth.models.config import EarthformerConfig
from xearth.models.heads import LowRankGaussian
from xearth.training.options import TrainOptions

WINDOW = Window(3, 2)
SPLIT = Split(train="2000/2001", choose="2002", judge="2003")
LATE_CHOICE = Split(train="2000-01/2001-12", judge="2002", choose="2003")


def split_fit(data, split, **changes):
    recipe = Recipe(
        head=LowRankGaussian(2),
        season=True,
        guess=LinearGuess(components=2, lags=(0, 2), blocks=3),
        options=TrainOptions(epochs=2, batch_size=16, progress=False, accelerator="cpu"),
        name="parted",
    )
    config = EarthformerConfig.for_data(data, WINDOW, base_units=16)
    return fit(config, data, window=WINDOW, split=split, recipe=recipe, **changes)


def same_forecaster(one, other):
    assert one.normalizer == other.normalizer
    assert one.provenance == other.provenance
    assert one.metrics["best_epoch"] == other.metrics["best_epoch"]
    losses = [[line["valid_loss"] for line in model.metrics["epochs"][0]] for model in (one, other)]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(one.required, other.required)
    np.testing.assert_array_equal(one.grid.mask, other.grid.mask)
    for name, array in one.guess.arrays().items():
        np.testing.assert_array_equal(array, other.guess.arrays()[name])
    for ours, theirs in zip(one.states, other.states, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def parted(field):
    return split_fit(field, SPLIT)


@pytest.mark.parametrize("value", [np.nan, 1e6, np.inf])
def test_the_judge_part_is_not_looked_at(field, parted, value):
    spoiled = field.copy()
    spoiled.loc[{"time": "2003"}] = value
    same_forecaster(split_fit(spoiled, SPLIT), parted)


def test_a_judge_part_between_the_others_is_not_looked_at(field):
    spoiled = field.copy()
    spoiled.loc[{"time": "2002"}] = np.nan
    same_forecaster(split_fit(spoiled, LATE_CHOICE), split_fit(field, LATE_CHOICE))


def test_the_judge_part_is_not_even_read(field):
    def late(block):
        if block.shape[0] and bool((block > 900).any()):
            raise RuntimeError("read")
        return block

    marked = field.copy()
    marked.loc[{"time": "2003"}] = 1000.0
    lazy = marked.chunk(time=12)
    lazy = lazy.copy(data=lazy.data.map_blocks(late, dtype=lazy.dtype))
    same_forecaster(split_fit(lazy, SPLIT), split_fit(field.chunk(time=12), SPLIT))


def test_the_choose_part_chooses_and_teaches_nothing(field, parted):
    other = field.copy()
    other.loc[{"time": "2002"}] *= 3
    changed = split_fit(other, SPLIT)
    assert changed.normalizer == parted.normalizer
    for name, array in changed.guess.arrays().items():
        np.testing.assert_array_equal(array, parted.guess.arrays()[name])
    losses = [[line["loss"] for line in model.metrics["epochs"][0]] for model in (changed, parted)]
    assert losses[0] == losses[1]
    assert changed.metrics["epochs"][0][0]["valid_loss"] > parted.metrics["epochs"][0][0][
        "valid_loss"
    ]  # fmt: skip


def test_statistics_and_windows_are_those_of_the_train_part(field, parted):
    values = field.sel(time=slice("2000", "2001")).values
    assert parted.normalizer.center[0] == pytest.approx(np.nanmean(values), abs=1e-6)
    assert parted.provenance["training_windows"] == 24 - 4
    assert parted.provenance["validation_windows"] == 12 - 4  # histories apart


def test_provenance_is_that_of_the_split_and_is_kept(field, parted, tmp_path):
    facts = parted.provenance
    assert facts["training_period"] == facts["normalization_period"] == "2000/2001"
    assert (facts["validation_period"], facts["judging_period"]) == ("2002", "2003")
    assert facts["split"] == SPLIT.provenance()["split"]
    back = load(parted.save(tmp_path / "parted.safetensors"))
    assert back.provenance == parted.provenance


def test_the_leak_guard_reads_the_periods(field, parted):
    def said(starts):
        index = nino_index(hindcast(wide, parted, init=starts)).compute()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LeakageWarning)
            verify(index, nino_index(wide), "rmse")
        return " ".join(str(w.message) for w in caught if w.category is LeakageWarning)

    wide = field.assign_coords(lon=("lon", np.linspace(190.0, 240.0, 6), field.lon.attrs)).fillna(0)
    config = EarthformerConfig.for_data(wide, WINDOW, base_units=16)
    parted = fit(config, wide, window=WINDOW, split=SPLIT, epochs=1, progress=False)
    assert "training" in said(slice("2000-06", "2001-06"))
    assert "validation" in said(slice("2002-03", "2002-09"))
    assert "training_period" not in said(slice("2003-03", "2003-09"))
    assert "validation_period" not in said(slice("2003-03", "2003-09"))


def test_a_split_without_a_choice_validates_nothing(field):
    trained = split_fit(field, Split(train="2000/2002", judge="2003"))
    assert "validation_period" not in trained.provenance
    assert trained.provenance["training_windows"] == 36 - 4


def test_one_of_the_two(field):
    with pytest.raises(ConfigError, match="expected one of them"):
        split_fit(field, SPLIT, validation=slice("2002", "2002"))
    with pytest.raises(TimeAxisError, match="admitted to choose"):
        split_fit(field, Split(train="2000/2001", choose="2002-01/2002-03"))
    with pytest.raises(ConfigError, match=r"fit\(epoch=\).*epochs"):
        split_fit(field, SPLIT, epoch=2)


def test_data_stored_in_another_order(field, parted):
    turned = field.isel(time=slice(None, None, -1))
    with pytest.warns(UserWarning, match="not sorted"):
        same_forecaster(split_fit(turned, SPLIT), parted)


def test_datasets_have_splits_too(field):
    both = xr.Dataset({"ssta": field, "double": (2 * field).assign_attrs(field.attrs)})
    config = EarthformerConfig.for_data(both, WINDOW, base_units=16)
    trained = fit(config, both, window=WINDOW, split=SPLIT, epochs=1, progress=False)
    assert trained.normalizer.scale[1] == pytest.approx(2 * trained.normalizer.scale[0], rel=1e-6)
