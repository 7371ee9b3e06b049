"""Sensitivities against finite differences, against closed forms, and through regridding."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import xarray as xr

from xearth.cf.writer import to_cf
from xearth.constraints.functional import Index, Nino34
from xearth.data.sources import samples
from xearth.errors import ConfigError, LeadError, RegionError
from xearth.fields.regions import NINO34, Box
from xearth.fields.regrid import Regridder
from xearth.forecasting.adapt import LEAST_OF_A_CELL, canonical
from xearth.forecasting.derivative import guess_mean
from xearth.forecasting.firstguess import LinearGuess
from xearth.forecasting.forecaster import forecast
from xearth.forecasting.history import read_histories
from xearth.forecasting.io import load
from xearth.forecasting.sensitivity import index_of, sensitivity
from xearth.forecasting.stepwise import Stepwise
from xearth.models.heads import LowRankGaussian, Point
from xearth.reference.lim import LIM

from .conftest import make_field, make_forecaster

BOX = Box(-5, 5, 155, 195, "box")
H = 1e-6  # small, since a leaky ReLU has kinks; rounding is then 1e-10
INITS = ["2001-06", "2002-01", "2002-02"]


def guess_of(field, model, **options):
    """A first guess fitted to the field of the toy forecaster."""
    past = read_histories(model, field, slice("2000-03", "2003-10"))
    x, _, season = past.batch(slice(None))
    values = model.normalizer.apply(field.fillna(0).values[..., None])
    y = np.stack([values[i + 1 : i + 3] for i in past.positions])
    spec = LinearGuess(components=4, lags=(0, 1, 2), blocks=2, **options)
    area = model.grid.cell_weights * model.grid.mask
    return spec.fit(
        x.numpy(), y * model.grid.mask[..., None], season=season, area=area, rank=model.head.rank
    )[0]


@pytest.fixture(scope="module")
def models():
    """Forecasters of every kind of first guess and head."""
    field = make_field()
    plain = make_forecaster(field, LowRankGaussian(3))
    cycle = Stepwise(share=0.5, leads=2, components=2, phases=4)
    return field, {
        "networks alone": plain,
        "point, no season": make_forecaster(field, Point(), season=False),
        "linear guess": make_forecaster(field, LowRankGaussian(3), guess=guess_of(field, plain)),
        "guess with products and steps": make_forecaster(
            field,
            LowRankGaussian(3),
            guess=guess_of(field, plain, products=2, stepwise=cycle, annual=0.6),
        ),
    }


KINDS = ("networks alone", "point, no season", "linear guess", "guess with products and steps")


def index_function(model, field, of, inits=INITS):
    """Return x (float64) of the inits and the function that gives their indices."""
    past = read_histories(model, field, inits)
    rows = slice(0, len(past.positions))
    networks = [copy.deepcopy(n).double() for n in model.networks]
    leads = of.positions(np.arange(1, model.horizon + 1))
    weights = canonical(of.box.weights(model.grid.template), model.grid) * model.grid.mask
    weights = weights / weights.sum()

    def value(x):
        x = torch.as_tensor(x).requires_grad_()  # the differentiable route of the guess
        made = index_of(model, networks, past, rows, x, leads=leads, weights=weights)
        return made.detach().numpy()

    return past.batch(rows)[0].double().numpy(), value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2])
def test_dot_product_with_a_change_of_the_history(models, kind, steps):
    """<g, dx> is the directional derivative, to 1e-6 of its size, for each init."""
    field, made = models
    model, of = made[kind], Index(BOX, lead=2, steps=steps)
    g = sensitivity(field, model, of=of, init=INITS)
    x, value = index_function(model, field, of)
    dx = np.random.default_rng(1).standard_normal(x.shape) * model.grid.mask[..., None]
    slope = (value(x + H * dx) - value(x - H * dx)) / (2 * H)
    # history steps run forward in x, lag runs backward; both sides are normalized alike
    dot = (g.fillna(0).values[:, ::-1] * dx[..., 0]).sum((1, 2, 3))
    size = np.sqrt((g.fillna(0).values ** 2).sum((1, 2, 3)) * (dx**2).sum((1, 2, 3, 4)))
    assert (np.abs(dot - slope) < 1e-6 * np.abs(slope) + 1e-9 * size).all()
    assert (size > 0).all()


@pytest.mark.parametrize("kind", KINDS[2:])
def test_the_two_forms_of_the_guess_are_equal(models, kind):
    field, made = models
    x, _ = index_function(made[kind], field, Index(BOX, 1))
    season = np.array([5, 0, 1]) / 12
    found = guess_mean(made[kind].guess, torch.as_tensor(x), season)
    np.testing.assert_allclose(found.numpy(), made[kind].guess(x, season), rtol=1e-10, atol=1e-12)


def test_the_index_is_that_of_the_forecast(models):
    field, made = models
    model, of = made["guess with products and steps"], Index(BOX, lead=2, steps=2)
    x, value = index_function(model, field, of)
    forecast_index = of.measure(forecast(field, model, init=INITS))
    normal = value(x) * model.normalizer.scale[0] + model.normalizer.center[0]
    np.testing.assert_allclose(forecast_index.values, normal, atol=2e-6)
    by_hand = forecast(field, model, init=INITS).earthformer.box_mean(BOX).mean("lead")
    np.testing.assert_allclose(forecast_index.values, by_hand.values, atol=1e-6)


def test_labels(models):
    field, made = models
    g = sensitivity(field, made["linear guess"], of=Index(BOX, lead=1), init=INITS)
    assert g.dims == ("init", "lag", "lat", "lon")
    assert g.lag.values.tolist() == [0, 1, 2]
    assert g.lag.attrs["units"] == "months"
    assert g.attrs["units"] == "K K-1"
    assert g.attrs["long_name"] == (
        "sensitivity of box at lead 1 months to sea surface temperature"
    )
    assert int(g.lead) == 1
    assert (g.isnull() == field.isel(time=0).isnull()).all()  # land is missing, not 0
    assert [str(v)[:7] for v in g.init.values] == INITS
    assert g.mean("init").attrs["units"] == "K K-1"
    assert sensitivity(field, made["linear guess"], of=Index(BOX, lead=1)).sizes["init"] == 1


def test_orientation_and_units_follow_the_data(models):
    field, made = models
    of = Index(BOX, lead=2)
    g = sensitivity(field, made["linear guess"], of=of, init=INITS)
    turned = field.isel(lat=slice(None, None, -1))
    turned = turned.assign_coords(lon=turned.lon - 360).assign_attrs(units="degC")
    turned.lon.attrs["units"] = "degrees_east"
    found = sensitivity(turned, made["linear guess"], of=of, init=INITS)
    np.testing.assert_allclose(found.isel(lat=slice(None, None, -1)).values, g.values, atol=1e-7)
    milli = (1000 * field).assign_attrs(field.attrs | {"units": "mK"})
    same = sensitivity(milli, made["linear guess"], of=of, init=INITS)
    np.testing.assert_allclose(same.values, g.values, rtol=1e-4, atol=1e-7)
    assert same.attrs["units"] == "K K-1"


def finer(field):
    """The field on cells of a third of the width, with a land cell that cuts a cell in part."""
    lat = np.arange(-10 + 5 / 6, 10, 5 / 3)
    lon = np.arange(145 + 10 / 6, 205, 10 / 3)
    fine = np.kron(field.values, np.ones((1, 3, 3))).astype("float64")
    fine[:, 7, 2:4] = np.nan
    fine += 0.1 * np.random.default_rng(3).standard_normal(fine.shape)
    coords = {
        "time": field.time,
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    return xr.DataArray(fine, coords, ("time", "lat", "lon"), "ssta", field.attrs)


def test_dot_product_through_regridding(models):
    """<g, ds> on the cells of the product, with ds brought to the model's by the regridder."""
    field, made = models
    model, of = made["guess with products and steps"], Index(BOX, lead=2)
    fine = finer(field)
    g = sensitivity(fine, model, of=of, init=INITS)
    assert g.sizes["lat"] == 12
    assert g.lag.attrs["units"] == "months"
    assert g.init.attrs["standard_name"] == "forecast_reference_time"
    assert (g.isnull().values == fine.isel(time=0).isnull().values).all()
    x, value = index_function(model, fine, of)
    ds = xr.zeros_like(g).where(g.notnull()) + np.random.default_rng(4).standard_normal(g.shape)
    regridder = Regridder.between(fine, model.grid.template)
    dx = regridder(ds, minimum_covered=LEAST_OF_A_CELL).fillna(0).values[:, ::-1, ..., None]
    dx = dx * model.grid.mask[..., None]
    slope = (value(x + H * dx) - value(x - H * dx)) / (2 * H)
    dot = (g * ds).sum(("lag", "lat", "lon")).values
    np.testing.assert_allclose(dot, slope, rtol=1e-6)


def test_sums_over_fine_cells_are_those_over_coarse_ones(models):
    """A uniform change of a coarse cell is that of all fine cells in it."""
    field, made = models
    model, of = made["linear guess"], Index(BOX, lead=1)
    lat, lon = finer(field).lat, finer(field).lon
    same = np.kron(field.values, np.ones((1, 3, 3)))
    fine = xr.DataArray(
        same, {"time": field.time, "lat": lat, "lon": lon}, field.dims, "ssta", field.attrs
    )
    g = sensitivity(fine, model, of=of, init=INITS).coarsen(lat=3, lon=3).sum()
    coarse = sensitivity(field, model, of=of, init=INITS).fillna(0)
    np.testing.assert_allclose(g.values, coarse.values, atol=2e-6)


@pytest.fixture(scope="module")
def small():
    return load("enso-small")


def test_enso_small_answers_a_finite_change(small):
    """The shipped model through its public forecast, in float32: a looser route."""
    sst = samples.open("kaplan_sst").sel(time=slice("1990", "1996")).load()
    of = Nino34(lead=6)
    g = sensitivity(sst, small, of=of, init="1996-06")
    weights = NINO34.weights(sst)
    change = 0.05 * (weights > 0).where(sst.isel(time=0).notnull(), False)
    for lag in (0, 2):
        bent = sst.copy()
        where = {"time": int(np.flatnonzero(sst.time == np.datetime64("1996-06"))[0]) - lag}
        bent[where] = bent[where] + change
        up = of.measure(forecast(bent, small, init="1996-06"))
        bent[where] = bent[where] - 2 * change
        down = of.measure(forecast(bent, small, init="1996-06"))
        expected = float((g.sel(lag=lag) * change).sum())
        assert float((up - down).item() / 2) == pytest.approx(expected, abs=5e-4)


def test_oisst_gets_its_own_sensitivity(small):
    """1 degree, absolute, 15S to 15N: the cells that stand in get none of it."""
    oisst = samples.open("oisst")
    with pytest.warns(UserWarning, match="52%"):
        g = sensitivity(oisst, small, of=Nino34(lead=3), init="1996-06")
    assert dict(g.sizes) == {"init": 1, "lag": 12, "lat": 30, "lon": 140}
    assert g.attrs["base_period"] == "1982-01/1996-12"
    assert g.attrs["units"] == "K K-1"
    assert float(abs(g.sel(lon=slice(150, 179))).max()) == 0.0  # west of what the model reads
    assert float(g.sel(lag=0, lat=slice(-5, 5), lon=slice(190, 270)).sum()) > 0.3


def test_dask_and_files_read_what_they_need(models):
    field, made = models
    of, model = Index(BOX, lead=2), made["linear guess"]
    fine = finer(field)
    expected = sensitivity(fine, model, of=of, init=INITS)
    found = sensitivity(fine.chunk(time=12, lat=5), model, of=of, init=INITS)
    xr.testing.assert_allclose(found, expected)


def test_it_is_written_as_cf(models, tmp_path):
    field, made = models
    g = sensitivity(field, made["networks alone"], of=Index(BOX, lead=1), init=INITS)
    to_cf(g, tmp_path / "g.nc", title="sensitivity")
    with xr.open_dataset(tmp_path / "g.nc") as ds:
        assert ds.sensitivity.attrs["units"] == "K K-1"


def test_refusals_teach(models, small):
    field, made = models
    model = made["networks alone"]
    with pytest.raises(LeadError, match=r"box at lead 3.*\[1, 2\]"):
        sensitivity(field, model, of=Index(BOX, lead=3))
    with pytest.raises(LeadError, match="2 before it"):
        sensitivity(field, model, of=Index(BOX, lead=2, steps=3))
    with pytest.raises(RegionError, match="nino34"):
        sensitivity(field, model, of=Nino34(lead=1))
    with pytest.raises(ConfigError, match="Nino34"):
        sensitivity(field, model, of="nino34")
    with pytest.raises(ConfigError, match=r"ds\['ssta'\]"):
        sensitivity(xr.Dataset({"ssta": field}), model, of=Index(BOX, lead=1))
    lim = LIM.fit(samples.open("kaplan_sst").sel(time=slice("1950", "1981")), horizon=3)
    with pytest.raises(ConfigError, match="LIM"):
        sensitivity(field, lim, of=Index(BOX, lead=1))
    with pytest.raises(ConfigError, match="lead=0"):
        Nino34(lead=0)
    with pytest.raises(ConfigError, match="steps=True"):
        Nino34(lead=1, steps=True)
