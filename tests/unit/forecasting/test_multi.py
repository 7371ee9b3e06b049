"""enso-multi: fitted, kept in a file and shipped, with the skill that its table tells."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr

import xearth
from xearth.data.sources import samples
from xearth.errors import CheckpointError, GridMismatchError
from xearth.forecasting.fingerprint import fingerprint
from xearth.forecasting.io import load, shipped
from xearth.forecasting.multi import MultiForecaster, oscillators
from xearth.models.checkpoints import load_tensors, save_tensors
from xearth.reference.combination import Combination
from xearth.reference.persistence import Persistence
from xearth.reference.protocol import Forecaster
from xearth.reference.recharge import RechargeOscillator


@pytest.fixture(scope="module")
def indices():
    return samples.open("xro_indices").load()


@pytest.fixture(scope="module")
def few(indices):
    return indices[["Nino34", "WWV", "IOD"]]


@pytest.fixture(scope="module")
def model(few):
    train = few.sel(time=slice("1979", "2001"))
    return MultiForecaster.fit(
        lambda years: oscillators(years, horizon=4, replicates=3), train, name="toy", block=72
    )


@pytest.fixture
def path(model, tmp_path):
    return model.save(tmp_path / "toy.safetensors")


def test_the_file_holds_all_of_it(model, path, few):
    found = load(path)
    assert isinstance(found, Forecaster)
    assert fingerprint(found) == fingerprint(model)
    for members in (None, 5):
        xr.testing.assert_identical(
            found.forecast(few, init=["1997-05", "2015-05"], members=members, seed=2),
            model.forecast(few, init=["1997-05", "2015-05"], members=members, seed=2),
        )
    assert found.provenance["training_period"] == "1979-01/2001-12"
    assert "nonlinear + linear, 1 -> 4 months of Nino34, WWV, IOD" in repr(found)


def test_the_mean_is_that_of_the_parts_shrunk_by_cross_validation(model, few):
    fc = model.forecast(few, init="2015-05").Nino34
    parts = [
        part.forecast(few, init="2015-05").Nino34 for part in model.model.forecaster.parts.values()
    ]
    mean = np.mean([part.values.astype(float) for part in parts], axis=0)
    np.testing.assert_allclose(fc, model.model.shrinkage["Nino34"][:, 0] * mean, rtol=1e-5)
    assert fc.attrs["forecaster"] == "toy"
    assert fc.attrs["long_name"].endswith("forecast by toy")
    members = model.forecast(few, init="2015-05", members=4000).Nino34
    own = np.isin(model.model.months, [3, 4, 5])
    errors = model.model.errors["Nino34"][own, :, 0]
    np.testing.assert_allclose(
        members.std("member")[0], np.sqrt(np.nanmean(errors**2, axis=0)), rtol=0.05
    )


def test_nothing_after_the_training_period_is_used(few):
    def fit(data):
        train = data.sel(time=slice("1979", "2001"))
        return MultiForecaster.fit(
            lambda years: oscillators(years, horizon=2, replicates=3), train, block=100
        )

    later = few.copy(deep=True)
    later.loc[{"time": slice("2002", None)}] = 9.0
    assert fingerprint(fit(later)) == fingerprint(fit(few))


def test_damaged_and_foreign_files(path, tmp_path, model, few):
    tensors, facts = load_tensors(path)
    for change, match in (
        ({"parts": {"a": {"kind": "Oracle", "indices": []}}}, "Oracle"),
        ({"horizon": None}, "damaged"),
        ({"kind": "Unknown"}, "NetworkForecaster or MultiForecaster"),
    ):
        save_tensors(path, tensors, {**facts, **change})
        with pytest.raises(CheckpointError, match=match):
            load(path)
    save_tensors(path, {k: v for k, v in tensors.items() if k != "errors.WWV"}, facts)
    with pytest.raises(CheckpointError, match=r"errors.WWV"):
        load(path)
    train = few.sel(time=slice("1979", "2001"))
    strange = Combination({"persistence": Persistence.fit(train.Nino34, horizon=4)})
    other = dataclasses.replace(model.model, forecaster=strange)
    with pytest.raises(CheckpointError, match="a part of the combination is a Persistence"):
        dataclasses.replace(model, model=other).save(tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


def test_other_calendars_are_refused_by_the_file(few, tmp_path):
    train = few.sel(time=slice("1979", "2001")).convert_calendar("noleap")
    model = MultiForecaster.fit(
        lambda years: oscillators(years, horizon=2, replicates=3), train, block=100
    )
    with pytest.raises(CheckpointError, match="convert_calendar"):
        model.save(tmp_path / "toy.safetensors")


# --- the shipped one ----------------------------------------------------------------------------


def test_it_ships_and_is_reached_by_name(indices):
    assert "enso-multi" in shipped()
    fc = indices.earthformer.forecast("enso-multi", init="2015-05", members=3, leads=12)
    assert dict(fc.Nino34.sizes) == {"init": 1, "lead": 12, "member": 3}
    assert fc.Nino34.attrs["training_period"] == "1979-01/2001-12"
    with pytest.raises(GridMismatchError, match="WWV"):
        xearth.forecast(indices[["Nino34"]], "enso-multi")


def test_the_shipped_one_is_what_its_script_makes(indices):
    train = indices.sel(time=slice("1979", "2001"))
    found = load("enso-multi").model.forecaster
    made = oscillators(train)
    for label, part in made.parts.items():
        np.testing.assert_allclose(
            found.parts[label].coefficients, part.coefficients, rtol=1e-6, atol=1e-9
        )


def test_the_table_of_its_card(indices):
    """Targets 2002-2024, as in docs/models/enso-multi-table.rst, here by plain numpy."""
    model = load("enso-multi")
    xro = RechargeOscillator.fit(indices.sel(time=slice("1979", "2001")), horizon=18)
    given = slice("2000-07", "2024-11")
    truth = indices.Nino34.sel(time=slice("2002", "2024"))

    def correlations(fc):
        observed = truth.reindex(time=fc.valid_time.values.ravel()).values
        observed = observed.reshape(fc.valid_time.shape)
        known = np.isfinite(observed)
        return np.array(
            [
                np.corrcoef(f[k], o[k])[0, 1]
                for f, o, k in zip(fc.values.T, observed.T, known.T, strict=True)
            ]
        )

    ours = correlations(model.forecast(indices, init=given).Nino34)
    theirs = correlations(xro.forecast(indices, init=given).Nino34)
    marks = [972, 938, 901, 854, 806, 759, 713, 666, 619, 576, 537, 497]
    np.testing.assert_allclose(ours[:12], np.array(marks) / 1000, atol=0.002)
    assert (ours[2:8] >= theirs[2:8]).all()  # the goal was leads 3-12: 9-12 miss it
    assert np.abs(ours[8:12] - theirs[8:12]).max() < 0.04


def test_a_field_is_refused_with_the_way_on():
    with pytest.raises(GridMismatchError, match="Dataset of index series"):
        xearth.forecast(samples.open("oisst_nino34"), "enso-multi")


def test_lazy_hindcasts_are_the_forecasts(indices):
    given = slice("2010-01", "2010-06")
    lazy = xearth.hindcast(indices.chunk(time=-1), "enso-multi", init=given, members=3)
    xr.testing.assert_allclose(
        lazy.compute().Nino34, xearth.forecast(indices, "enso-multi", init=given, members=3).Nino34
    )
    assert lazy.Nino34.attrs["xearth_validation_period"] == "2002-01/2012-12"


def test_a_hindcast_of_series_is_one_block(indices):
    """A start costs hardly more than none: blocks of a few would take ten times as long."""
    lazy = xearth.hindcast(indices, "enso-multi", init=slice("1990", "2020"), members=2)
    assert lazy.Nino34.chunks[0] == (372,)
