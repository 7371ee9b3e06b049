"""The shipped diffusion of ENSO: labels, members, constraints, files, what it says it has seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import xearth
from xearth.constraints.geometry import Geometry
from xearth.errors import CheckpointError, ConfigError, ConstraintError, SamplingError
from xearth.forecasting.constrained import Physical
from xearth.forecasting.enso_diffusion import EnsoDiffusionForecaster
from xearth.forecasting.fingerprint import fingerprint
from xearth.forecasting.history import read_histories
from xearth.forecasting.io import ARTIFACTS, load
from xearth.forecasting.mixture import Mixture
from xearth.models.checkpoints import load_tensors, save_tensors

INIT = "2000-06"
WARM = xearth.Nino34(season="DJF") >= xearth.Q(1.5, "K")


@pytest.fixture(scope="module")
def model() -> EnsoDiffusionForecaster:
    return load("enso-diffusion")


@pytest.fixture(scope="module")
def sst() -> xr.DataArray:
    return xearth.samples.open("kaplan_sst").sel(time=slice("1990", "2002")).load()


@pytest.fixture(scope="module")
def free(model: EnsoDiffusionForecaster, sst: xr.DataArray) -> xr.DataArray:
    return model.forecast(sst, init=INIT, members=32)


@pytest.fixture(scope="module")
def held(sst: xr.DataArray) -> xr.DataArray:
    return sst.earthformer.forecast("enso-diffusion", init=INIT, members=32, constraints=[WARM])


def test_a_member_is_the_same_number_whatever_is_drawn_beside_it(model, sst, free) -> None:
    few = model.forecast(sst, init=["1995-02", INIT], members=3)
    np.testing.assert_array_equal(few.sel(init=INIT).squeeze()[:, 2], free[0, :, 2])
    assert free.dims == ("init", "lead", "member", "lat", "lon")
    assert free.attrs["units"] == sst.attrs["units"]
    assert "EnsoDiffusionForecaster 'enso-diffusion'" in free.attrs["history"]
    assert float(abs(free[:, :, 0] - free[:, :, 1]).max()) > 0.3
    other = model.forecast(sst, init=INIT, members=1, seed=1)
    assert float(abs(other[:, :, 0] - free[:, :, 0]).max()) > 0.3


def test_the_mean_is_that_of_the_forecaster_inside(model, sst, free) -> None:
    mean = model.forecast(sst, init=INIT)
    np.testing.assert_array_equal(mean, load("enso-small").forecast(sst, init=INIT))
    off = free.mean("member") - mean
    assert float(abs(off).mean()) < 3 * float(free.std("member").mean()) / 32**0.5


def test_orientation_of_the_data_does_not_matter(model, sst, held) -> None:
    turned = sst.isel(lat=slice(None, None, -1))
    other = model.forecast(turned, init=INIT, members=3, constraints=[WARM])
    np.testing.assert_allclose(other.sel(lat=held.lat), held[:, :, :3], atol=1e-5)


def test_the_default_way_holds_what_is_asked_and_says_so(held, sst) -> None:
    assert bool(WARM.check(held).all())
    (entry,) = json.loads(held.attrs["xearth_audit"])
    assert (entry["held"], entry["of"], held.attrs["xearth_imposed"]) == (32, 32, "exact")
    assert entry["before"]["held"] < 16
    few = xearth.hindcast(sst, "enso-diffusion", init=[INIT], members=2, constraints=WARM)
    np.testing.assert_array_equal(few, held[:, :, :2])


def test_guided_members_have_the_conditional_law(model, sst, held) -> None:
    """Second route: exact draws of the Gaussian law by its mixture of one."""
    past = read_histories(model.reads, sst, INIT)
    template = model.forecast(sst, init=INIT)
    (start,) = model._starts(past)
    layout = Geometry(template)
    law = Physical(model.reads, past, layout).prediction(start.law, 0)
    mixture = Mixture.of([law], [WARM.on(template)])
    _, x = mixture.draw(1000, seed=0, key=0)
    index = [xearth.Nino34(lead=n) == xearth.Q(0, "K") for n in (3, 7, 12)]
    a, b = [], []
    for one in index:
        rows = one.on(template)
        mean, F = rows.apply(law.mean.double()), rows.apply(law.factors[0].movedim(-1, 0).double())
        exact = float(mean) + x @ F[:, 0].numpy()
        made = one.measure(held).values.ravel()
        a.append((made.mean() - exact.mean()) / exact.std() * 32**0.5)
        b.append(made.std() / exact.std())
    assert np.abs(a).max() < 3.5
    assert 0.6 < min(b) <= max(b) < 1.5


def test_other_ways_and_other_constraints(model, sst) -> None:
    both = [
        xearth.Nino34(lead=6) == xearth.Q(1.2, "K"),
        xearth.AreaMaximum(xearth.NINO34, per="horizon") >= xearth.Q(3, "K"),
    ]
    coarse = replace(model, steps=8)  # guidance through the decoder, of a measure of cells, is slow
    exact = coarse.forecast(sst, init=INIT, members=3, constraints=both)
    assert all(bool(one.check(exact).all()) for one in both)
    near = coarse.forecast(sst, init=INIT, members=3, constraints=both[0], impose="guided")
    assert float(both[0].violation(near).max()) < 0.02
    assert near.attrs["xearth_imposed"] == "guided"
    moved = xearth.forecast(
        sst, coarse, init=INIT, members=3, leads=9, constraints=WARM, impose="projected"
    )
    assert moved.sizes["lead"] == 9
    assert bool(WARM.check(moved).all())


def test_what_cannot_be_is_refused_before_anything_is_drawn(model, sst, monkeypatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("sampled")

    monkeypatch.setattr(EnsoDiffusionForecaster, "_drawn", never)

    def ask(constraints: object, **how: object) -> None:
        model.forecast(sst, init=INIT, constraints=constraints, **{"members": 2, **how})

    cold = xearth.Nino34(season="DJF") <= xearth.Q(0, "K")
    buoy = xearth.Nino34(lead=3).near(xearth.Q(1, "K"), sd=xearth.Q(0.3, "K"))
    with pytest.raises(ConstraintError):
        ask([WARM, cold])
    with pytest.raises(ConstraintError, match="'exact', 'guided', 'projected'"):
        ask(WARM, impose="conditional")
    with pytest.raises(ConstraintError, match="Say how many"):
        ask(WARM, members=None)
    with pytest.raises(ConfigError, match="members=0"):
        ask(WARM, members=0)
    with pytest.raises(ConstraintError, match="guided"):
        ask(buoy)


def test_nan_in_the_weights_stops_the_sampler(model, sst) -> None:
    state = {k: v.clone() for k, v in model.state.items()}
    state["network.leave.bias"][:] = torch.nan
    with pytest.raises(SamplingError, match="step 0"):
        replace(model, state=state).forecast(sst, init=INIT, members=1)


def test_the_file_gives_the_same_forecaster(model, sst, tmp_path: Path) -> None:
    path = model.save(tmp_path / "again.safetensors")
    again = load(path)
    assert fingerprint(again) == fingerprint(model)
    assert path.stat().st_size < 10e6
    assert (ARTIFACTS / "enso-diffusion.safetensors").stat().st_size < 10e6
    tensors, facts = load_tensors(path)
    del tensors["diffusion.modes"]
    with pytest.raises(CheckpointError, match="'modes'"):
        load(save_tensors(tmp_path / "less.safetensors", tensors, facts))
    with pytest.raises(ConfigError, match="widths"):
        replace(model, width=(1.0, 2.0))


def test_it_says_what_taught_it_and_what_chose(model, sst) -> None:
    told = xearth.hindcast(sst, model, init=[INIT], members=2).attrs
    assert told["xearth_training_period"] == "1856-01/1981-12"
    assert told["xearth_normalization_period"] == "1856-01/1981-12"
    assert told["xearth_validation_period"] == "1982-01/2003-12"
    assert told["xearth_calibration_period"] == "1982-01/2003-12"
