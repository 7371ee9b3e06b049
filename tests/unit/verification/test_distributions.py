"""Scores of distributions, quantiles and vectors against other libraries and closed forms."""

from __future__ import annotations

import inspect
import sys

import dask.array
import numpy as np
import pytest
import scipy.stats
import scores.continuous
import scoringrules
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.errors import (
    AxisError,
    ConfigError,
    GridMismatchError,
    MissingDependencyError,
    UnitsError,
)
from xearth.verification.evaluate import evaluate
from xearth.verification.scores.distributions import (
    crps_distribution,
    crps_gaussian,
    crps_quadrature,
    crps_quantile,
    log_score,
    log_score_gaussian,
    quantile_score,
)
from xearth.verification.scores.families import FAMILIES
from xearth.verification.scores.multivariate import energy_score, variogram_score
from xearth.verification.scores.probabilistic import crps_ensemble
from xearth.verification.scores.table import row

CELSIUS = {"units": "degC", "standard_name": "sea_surface_temperature"}


def fields(n=30, seed=0):
    random = np.random.default_rng(seed)
    mu = xr.DataArray(20 + random.standard_normal(n), dims="time", attrs=CELSIUS)
    sigma = xr.DataArray(0.5 + random.random(n), dims="time", attrs={"units": "K"})
    o = xr.DataArray(20 + 2 * random.standard_normal(n), dims="time", attrs=CELSIUS)
    return mu, sigma, o


# --- the normal distribution ----------------------------------------


def test_normal_crps_is_that_of_scoringrules_and_the_integral():
    mu, sigma, o = fields()
    own = crps_gaussian(mu, sigma, o, dim=())
    np.testing.assert_allclose(own, scoringrules.crps_normal(o.values, mu.values, sigma.values))
    t = np.linspace(0, 40, 400_001)
    for k in range(3):
        cdf = scipy.stats.norm.cdf(t, mu[k].item(), sigma[k].item())
        integral = np.trapezoid((cdf - (t >= o[k].item())) ** 2, t)
        assert own[k].item() == pytest.approx(integral, abs=1e-4)
    assert own.attrs["units"] == "degC"
    assert own.attrs["units_metadata"] == "temperature: difference"
    assert "standard_name" not in own.attrs


def test_normal_log_score_is_minus_the_log_of_the_density():
    mu, sigma, o = fields()
    own = log_score_gaussian(mu, sigma, o, dim=())
    density = scipy.stats.norm.logpdf(o.values, mu.values, sigma.values)
    np.testing.assert_allclose(own, -density, rtol=1e-12)
    assert own.attrs["units"] == "1"


def test_a_distribution_of_no_width():
    o = xr.DataArray([1.0, 2.0, np.nan], dims="time")
    np.testing.assert_allclose(crps_gaussian(2.0, 0.0, o, dim=()), [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(
        log_score_gaussian(2.0, 0.0, o, dim=()), [np.inf, -np.inf, np.nan]
    )
    # as the width goes to 0
    np.testing.assert_allclose(crps_gaussian(2.0, 1e-9, o, dim=()), [1, 0, np.nan], atol=1e-8)


def test_a_negative_width_is_refused():
    """In memory before any work; in Dask arrays it is missing."""
    mu, sigma, o = fields()
    wrong = sigma.copy(data=sigma.values * np.where(np.arange(sigma.size) == 1, -1, 1))
    number = xr.DataArray([1.0], dims="time")
    for score in (crps_gaussian, log_score_gaussian):
        with pytest.raises(ConfigError, match="holds 1 negative value, first -"):
            score(mu, wrong, o)
        with pytest.raises(ConfigError, match="holds 1 negative value, first -1"):
            score(2.0, -1.0, number)
        lazy = score(mu, wrong.chunk(), o, dim=())
        assert lazy.isnull().values.tolist() == [False, True, *[False] * (sigma.size - 2)]
    for name in ("scale", "rate"):
        with pytest.raises(ConfigError, match=f"the {name} -0.5 holds 1 negative"):
            crps_distribution("gamma", number, shape=2.0, **{name: -0.5})


def test_a_bare_number_is_named_for_what_it_is():
    _, _, o = fields()
    with pytest.raises(UnitsError, match=r"the scale 1 has no unit.*'1 degC'"):
        log_score_gaussian("20 degC", 1.0, o)
    with pytest.raises(UnitsError, match=r"the location 20 has no unit"):
        crps_gaussian(20.0, "1 K", o)


def test_location_converts_as_a_value_and_scale_as_a_difference():
    mu, sigma, o = fields()
    expected = crps_gaussian(mu, sigma, o)
    kelvin = (mu + 273.15).assign_attrs(CELSIUS, units="K")
    np.testing.assert_allclose(crps_gaussian(kelvin, sigma, o), expected, rtol=1e-10)
    celsius = sigma.assign_attrs(units="degC")
    np.testing.assert_allclose(crps_gaussian(mu, celsius, o), expected, rtol=1e-12)
    fahrenheit = (sigma * 1.8).assign_attrs(units="degF")
    np.testing.assert_allclose(crps_gaussian(mu, fahrenheit, o), expected, rtol=1e-12)
    in_kelvin = crps_gaussian(mu, sigma, (o + 273.15).assign_attrs(CELSIUS, units="K"))
    np.testing.assert_allclose(in_kelvin, expected, rtol=1e-10)
    assert in_kelvin.attrs["units"] == "K"


def test_parameters_that_do_not_fit_the_truth():
    mu, sigma, o = fields()
    with pytest.raises(UnitsError):
        crps_gaussian(mu.assign_attrs(units="m"), sigma, o)
    with pytest.raises(UnitsError):
        crps_gaussian(mu, sigma.assign_attrs(units="m"), o)
    with pytest.raises(UnitsError, match="scale"):
        crps_gaussian(mu, sigma.drop_attrs(), o)
    with pytest.raises(UnitsError, match="no unit"):
        crps_gaussian(20.0, sigma, o)
    with pytest.raises(GridMismatchError):
        crps_gaussian(
            mu.assign_coords(time=np.arange(30)), sigma, o.assign_coords(time=np.arange(1, 31))
        )


def test_weights_and_missing_points():
    mu, sigma, o = fields()
    holes = o.where(xr.DataArray(np.arange(30) > 4, dims="time")).assign_attrs(CELSIUS)
    expected = crps_gaussian(mu[5:], sigma[5:], o[5:])
    np.testing.assert_allclose(crps_gaussian(mu, sigma, holes), expected, rtol=1e-12)
    w = xr.DataArray((np.arange(30) > 4).astype(float), dims="time")
    np.testing.assert_allclose(crps_gaussian(mu, sigma, o, weights=w), expected, rtol=1e-12)


def test_rows_of_the_normal_distribution_take_its_moments_from_the_members():
    random = np.random.default_rng(0)
    f = xr.DataArray(random.standard_normal((40, 7)), dims=("init", "member"))
    o = xr.DataArray(random.standard_normal(40), dims="init")
    mean, deviation = f.mean("member"), f.std("member", ddof=1)
    for name, function in (
        ("crps_gaussian", crps_gaussian),
        ("log_score_gaussian", log_score_gaussian),
    ):
        own = evaluate(row(name), f, o, member="member")
        np.testing.assert_allclose(own, function(mean, deviation, o), rtol=1e-12)


# --- other families -------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_of_every_family_are_those_of_scoringrules(family):
    functions = [
        getattr(scoringrules, f"{kind}_{family}")
        for kind in ("crps", "logs")
        if hasattr(scoringrules, f"{kind}_{family}")
    ]
    assert functions
    known = {name for function in functions for name in inspect.signature(function).parameters}
    assert set(FAMILIES[family]) <= known
    assert known - set(FAMILIES[family]) <= {"obs", "backend", "negative"}


CASES = {
    "logistic": (scipy.stats.logistic, {"mu": 1.0, "sigma": 2.0}, {"loc": 1.0, "scale": 2.0}),
    "gamma": (scipy.stats.gamma, {"shape": 2.0, "scale": 1.5}, {"a": 2.0, "scale": 1.5}),
    "exponential": (scipy.stats.expon, {"rate": 0.5}, {"scale": 2.0}),
    "gev": (
        scipy.stats.genextreme,
        {"shape": 0.1, "location": 1.0, "scale": 2.0},
        {"c": -0.1, "loc": 1.0, "scale": 2.0},
    ),
    "t": (
        scipy.stats.t,
        {"df": 5.0, "location": 1.0, "scale": 2.0},
        {"df": 5, "loc": 1, "scale": 2},
    ),
    "lognormal": (
        scipy.stats.lognorm,
        {"mulog": 0.2, "sigmalog": 0.4},
        {"s": 0.4, "scale": np.exp(0.2)},
    ),
}


@pytest.mark.parametrize("family", CASES)
def test_families_are_those_of_scipy_by_quadrature_and_density(family):
    distribution, own, theirs = CASES[family]
    frozen = distribution(**theirs)
    o = xr.DataArray([0.3, 1.0, 4.0, np.nan], dims="time")
    quadrature = crps_quadrature(frozen, o, dim=())
    np.testing.assert_allclose(crps_distribution(family, o, dim=(), **own), quadrature, atol=2e-5)
    density = -frozen.logpdf(o.values)
    np.testing.assert_allclose(log_score(family, o, dim=(), **own), density, rtol=1e-9)


def test_units_of_parameters_of_families():
    o = xr.DataArray([1.0, 4.0, 9.0], dims="time", attrs={"units": "mm"})
    expected = crps_distribution("gamma", o.drop_attrs(), shape=2.0, scale=2.0)
    for scale in ("0.2 cm", "2 mm", xr.DataArray([0.2] * 3, dims="time", attrs={"units": "cm"})):
        own = crps_distribution("gamma", o, shape=2.0, scale=scale)
        np.testing.assert_allclose(own, expected, rtol=1e-12)
        assert own.attrs["units"] == "mm"
    for rate in ("5 cm-1", xr.DataArray(5.0, attrs={"units": "cm-1"})):
        own = crps_distribution("gamma", o, shape=2.0, rate=rate)
        np.testing.assert_allclose(own, expected, rtol=1e-12)
    with pytest.raises(UnitsError):
        crps_distribution("gamma", o, shape="2 mm", scale="2 mm")
    with pytest.raises(UnitsError):
        crps_distribution("gamma", o, shape=2.0, rate="5 cm")


def test_families_stay_lazy_and_do_not_score_what_is_no_distribution():
    o = xr.DataArray([1.0, 4.0, 9.0], dims="time")
    scale = xr.DataArray([1.0, 0.0, np.nan], dims="time")
    own = crps_distribution("logistic", o.chunk(time=1), mu=1.0, sigma=scale, dim=())
    assert isinstance(own.data, dask.array.Array)
    np.testing.assert_array_equal(own.isnull(), [False, True, True])
    np.testing.assert_allclose(
        own[0], scoringrules.crps_logistic(1.0, 1.0, 1.0, backend="numpy"), rtol=1e-12
    )


def test_families_that_are_not_there(monkeypatch):
    o = xr.DataArray([1.0], dims="time")
    with pytest.raises(ConfigError, match="unknown family 'weibull'"):
        crps_distribution("weibull", o, shape=1.0)
    with pytest.raises(ConfigError, match="has the parameters shape, rate, scale; found alpha"):
        crps_distribution("gamma", o, alpha=1.0)
    with pytest.raises(ConfigError, match="no logs_csg0"):
        log_score("csg0", o, shape=1.0, scale=1.0)
    monkeypatch.setitem(sys.modules, "scoringrules", None)
    with pytest.raises(MissingDependencyError, match=r"xearth\[scores\]"):
        crps_distribution("gamma", o, shape=1.0, scale=1.0)
    f = xr.DataArray(np.zeros((1, 2, 2)), dims=("time", "member", "x"))
    with pytest.raises(MissingDependencyError, match="scoringrules"):
        energy_score(f, f[:, 0], over="x")


# --- quadrature and quantiles ---------------------------------------


def test_quadrature_is_the_closed_form():
    o = xr.DataArray([0.3, 1.0, np.nan], dims="time", attrs={"units": "mm"})
    own = crps_quadrature(scipy.stats.norm(1, 2), o, dim=())
    np.testing.assert_allclose(own, crps_gaussian("1 mm", "2 mm", o, dim=()), atol=1e-6)
    bounded = crps_quadrature(scipy.stats.uniform(0, 2), o, lower="-1 mm", upper="0.3 cm", dim=())
    expected = scoringrules.crps_uniform(o.values, 0.0, 2.0, backend="numpy")
    np.testing.assert_allclose(bounded, expected, atol=1e-6)
    lazy = crps_quadrature(scipy.stats.norm(1, 2), o.chunk(time=1), dim=())
    assert isinstance(lazy.data, dask.array.Array)
    np.testing.assert_allclose(lazy.compute(), own)
    with pytest.raises(ConfigError, match="quadrature"):
        crps_quadrature(scipy.stats.norm(1, 2), o, lower="0 mm", upper="1 mm")


def quantiles(seed=0):
    random = np.random.default_rng(seed)
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    values = np.sort(random.standard_normal((40, 5)), axis=1)
    f = xr.DataArray(values, {"quantile": levels}, ("init", "quantile"))
    return f, xr.DataArray(random.standard_normal(40), dims="init")


def test_quantile_score_is_that_of_scores_and_crps_that_of_scoringrules():
    f, o = quantiles()
    own = quantile_score(f, o)
    for level in f["quantile"].values:
        peer = scores.continuous.quantile_score(f.sel(quantile=level), o, level)
        np.testing.assert_allclose(own.sel(quantile=level), peer, rtol=1e-12)
    points = crps_quantile(f, o, dim=())
    peer = scoringrules.crps_quantile(o.values, f.values, f["quantile"].values, backend="numpy")
    np.testing.assert_allclose(points, peer, rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(members=st.integers(1, 9), seed=st.integers(0, 100))
def test_crps_of_the_members_as_quantiles_is_that_of_the_ensemble(members, seed):
    random = np.random.default_rng(seed)
    values = np.sort(random.standard_normal((20, members)), axis=1)
    o = xr.DataArray(random.standard_normal(20), dims="init")
    levels = (np.arange(members) + 0.5) / members
    f = xr.DataArray(values, {"quantile": levels}, ("init", "quantile"))
    ensemble = crps_ensemble(f, o, estimator="ensemble", dim=(), member="quantile")
    np.testing.assert_allclose(crps_quantile(f, o, dim=()), ensemble, rtol=1e-10, atol=1e-13)


def test_quantiles_that_cannot_be():
    f, o = quantiles()
    with pytest.raises(ConfigError, match="levels"):
        quantile_score(f.drop_vars("quantile"), o)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        crps_quantile(f.assign_coords(quantile=[10, 25, 50, 75, 90]), o)
    assert crps_quantile(f.where(f["quantile"] != 0.5), o, dim=()).isnull().all()


# --- vectors --------------------------------------------------------


def vectors(seed=0, attrs=None):
    random = np.random.default_rng(seed)
    f = xr.DataArray(
        random.standard_normal((8, 3, 6, 2)), dims=("init", "lat", "member", "lon"), attrs=attrs
    )
    return f, xr.DataArray(
        random.standard_normal((8, 3, 2)), dims=("init", "lat", "lon"), attrs=attrs
    )


def test_energy_score_by_pairs():
    f, o = vectors(attrs={"units": "mm"})
    x = f.transpose("init", "member", "lat", "lon").values.reshape(8, 6, 6)
    y = o.values.reshape(8, 6)
    error = np.linalg.norm(x - y[:, None], axis=-1).mean(-1)
    pairs = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1).sum((1, 2)) / 2
    own = energy_score(f, o, over=("lat", "lon"), dim=())
    np.testing.assert_allclose(own, error - pairs / 36, rtol=1e-10)
    fair = energy_score(f, o, over=("lat", "lon"), estimator="fair", dim=())
    np.testing.assert_allclose(fair, error - pairs / 30, rtol=1e-10)
    assert own.attrs["units"] == "mm"
    peer = scoringrules.es_ensemble(y, x, estimator="fair")
    np.testing.assert_allclose(fair, peer, rtol=1e-10)


def test_energy_score_of_one_component_is_the_crps():
    f, o = vectors()
    f, o = f.isel(lat=[0], lon=0), o.isel(lat=[0], lon=0)
    for estimator in ("ensemble", "fair"):
        own = energy_score(f, o, over="lat", estimator=estimator)
        np.testing.assert_allclose(own, crps_ensemble(f, o, estimator=estimator), rtol=1e-10)


@pytest.mark.parametrize(("order", "units"), [(0.5, "mm"), (1, "mm2")])
def test_variogram_score_by_pairs(order, units):
    f, o = vectors(attrs={"units": "mm"})
    x, y = (
        f.transpose("init", "lon", "member", "lat").values,
        o.transpose("init", "lon", "lat").values,
    )
    spread = (np.abs(x[..., :, None] - x[..., None, :]) ** order).mean(2)
    truth = np.abs(y[..., :, None] - y[..., None, :]) ** order
    own = variogram_score(f, o, over="lat", order=order, dim=())
    np.testing.assert_allclose(own, ((spread - truth) ** 2).sum((-2, -1)), rtol=1e-10)
    assert own.attrs["units"] == units


def test_vectors_with_holes_do_not_count_and_dask_stays_lazy():
    f, o = vectors()
    holes = o.copy()
    holes[2, 1, 0] = np.nan
    own = energy_score(f.chunk(init=3, lat=1), holes.chunk(), over=("lat", "lon"), dim=())
    assert isinstance(own.data, dask.array.Array)
    np.testing.assert_array_equal(own.isnull(), np.arange(8) == 2)
    others = energy_score(f.drop_isel(init=2), o.drop_isel(init=2), over=("lat", "lon"))
    np.testing.assert_allclose(own.mean(), others, rtol=1e-12)


def test_vectors_that_cannot_be():
    f, o = vectors()
    with pytest.raises(AxisError, match="level"):
        energy_score(f, o, over="level")
    with pytest.raises(AxisError, match="realization"):
        variogram_score(f, o, over="lat", member="realization")
    with pytest.raises(ConfigError, match="estimator"):
        energy_score(f, o, over="lat", estimator="pwm")
    with pytest.raises(ConfigError, match="order"):
        variogram_score(f, o, over="lat", order=0.3)
    with pytest.raises(ConfigError, match="2 members"):
        energy_score(f.isel(member=[0]), o, over="lat", estimator="fair")
