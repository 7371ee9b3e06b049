from __future__ import annotations

import pickle

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import optimize, stats

from xearth.errors import (
    AxisError,
    CheckpointError,
    ConfigError,
    GridMismatchError,
    LeakageWarning,
    MissingDataError,
    UnitsError,
    XearthWarning,
)
from xearth.forecasting.calibrate import EMOS, EnsembleDressing
from xearth.forecasting.minimum_crps import least_squares, minimum_crps
from xearth.verification.leaks.leakage import guard
from xearth.verification.leaks.provenance import Judged, Provenance

TRAINING, LATER = slice("1980", "2004"), slice("2005", None)


def simulated(*, years=35, leads=2, members=8, cells=(2, 3), seed=0):
    """A biased ensemble with half of the spread it should have, and its truth (init, lead, ...)."""
    rng = np.random.default_rng(seed)
    init = pd.date_range("1980-01-01", periods=12 * years, freq="MS")
    shape = (init.size, leads, *cells)
    signal = 20 + 2 * rng.normal(size=shape)
    truth = signal + rng.normal(size=shape)
    noise = rng.normal(size=(*shape[:2], members, *cells))
    raw = signal[:, :, None] + 1.5 + 0.5 * noise
    lat, lon = np.arange(cells[0]) * 2.0, np.arange(cells[1]) * 2.0 + 180
    coords = {
        "init": ("init", init, {"standard_name": "forecast_reference_time"}),
        "lead": ("lead", np.arange(1, leads + 1), {"units": "months"}),
        "member": ("member", np.arange(members), {"standard_name": "realization"}),
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    attrs = {"units": "degC", "standard_name": "sea_surface_temperature"}
    forecast = xr.DataArray(raw, coords, ("init", "lead", "member", "lat", "lon"), "sst", attrs)
    return forecast, xr.DataArray(
        truth,
        {k: v for k, v in coords.items() if k != "member"},
        ("init", "lead", "lat", "lon"),
        "sst",
        attrs,
    )


def crps(forecast, truth):
    """CRPS of the ensemble by the definition, over all pairs of members."""
    x, y = forecast.transpose("member", *truth.dims).values, truth.values
    pairs = np.abs(x[:, None] - x[None]).mean(axis=(0, 1)) / 2
    return (np.abs(x - y).mean(axis=0) - pairs).mean()


def test_coefficients_of_a_simulation_are_found():
    rng = np.random.default_rng(1)
    x, variance = rng.normal(15, 2, (40_000, 3)), rng.gamma(2, 0.5, (40_000, 3))
    y = 1 + 0.8 * x + np.sqrt(0.3 + 0.5 * variance) * rng.normal(size=x.shape)
    found = minimum_crps(x, variance, y)
    wanted = np.broadcast_to(np.array([1, 0.8, 0.3, 0.5])[:, None], (4, 3))
    np.testing.assert_allclose(found, wanted, atol=0.05, rtol=0.05)


def test_the_minimum_is_that_of_a_general_optimizer():
    rng = np.random.default_rng(2)
    x, variance = rng.normal(size=(80, 4)), rng.gamma(2, 0.5, (80, 4))
    y = 1 + 0.8 * x + np.sqrt(0.3 + 0.5 * variance) * rng.normal(size=x.shape)
    found = minimum_crps(x, variance, y)

    def mean_crps(theta, k):
        a, b, c, d = theta
        sigma = np.sqrt(c + d * variance[:, k])
        z = (y[:, k] - a - b * x[:, k]) / sigma
        terms = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
        return (sigma * terms).mean()

    for k in range(4):
        bounds = [(None, None), (0, None), (1e-6, None), (0, None)]
        other = optimize.minimize(
            mean_crps, [1, 1, 0.5, 0.5], (k,), "L-BFGS-B", bounds=bounds, tol=1e-14
        )
        assert mean_crps(found[:, k], k) <= other.fun + 1e-12
        np.testing.assert_allclose(found[:, k], other.x, atol=2e-3)


def test_balanced_errors_have_the_closed_form_of_least_squares():
    # each x once with the error +e and once with -e: the mean is that of least squares, and the
    # width solves 2 phi(e / sigma) = 1 / sqrt(pi): sigma = e / sqrt(log 2)
    x = np.repeat(np.random.default_rng(3).normal(size=(30, 5)), 2, axis=0)
    error = np.tile([[0.7], [-0.7]], (30, 5))
    y = 2 + 1.5 * x + error
    a, b, c, d = minimum_crps(x, np.zeros_like(x), y)
    intercept, slope, square = least_squares(x, y, np.isfinite(x))
    np.testing.assert_allclose(a, intercept, rtol=1e-8)
    np.testing.assert_allclose(b, slope, rtol=1e-8)
    np.testing.assert_allclose(c, square / np.log(2), rtol=1e-6)
    assert (d == 0).all()


def test_without_errors_the_fit_is_least_squares_itself():
    x = np.random.default_rng(4).normal(size=(20, 2))
    a, b, c, d = minimum_crps(x, np.ones_like(x), 3 - 0 * x + 2 * x)
    np.testing.assert_allclose([a, b, c, d], np.array([[3, 3], [2, 2], [0, 0], [0, 0]]), atol=1e-12)


def test_a_slope_against_the_truth_becomes_zero():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 1))
    y = 4 - x + 0.1 * rng.normal(size=x.shape)
    a, b, c, _ = minimum_crps(x, np.zeros_like(x), y)
    assert b.item() == 0
    assert a.item() == pytest.approx(np.median(y), abs=0.2)
    assert np.sqrt(c.item()) == pytest.approx(y.std(), rel=0.1)


def test_cells_are_fitted_alone_and_missing_cases_do_not_count():
    rng = np.random.default_rng(6)
    x, variance = rng.normal(size=(60, 3)), rng.gamma(2, 0.5, (60, 3))
    y = x + rng.normal(size=x.shape)
    y[::4, 1] = np.nan
    y[:, 2] = np.nan
    found = minimum_crps(x, variance, y)
    keep = np.isfinite(y[:, 1])
    alone = minimum_crps(*(v[keep, 1:2] for v in (x, variance, y)))
    np.testing.assert_allclose(found[:, 1], alone[:, 0], rtol=1e-6, atol=1e-7)
    assert np.isnan(found[:, 2]).all()


def test_blocks_of_cells_are_the_whole(monkeypatch):
    rng = np.random.default_rng(7)
    x, variance = rng.normal(size=(40, 11)), rng.gamma(2, 0.5, (40, 11))
    y = x + rng.normal(size=x.shape)
    whole = minimum_crps(x, variance, y)
    monkeypatch.setattr("xearth.forecasting.minimum_crps.BLOCK", 120)
    np.testing.assert_allclose(minimum_crps(x, variance, y), whole, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("method", "price"), [(EMOS, 1.02), (EnsembleDressing, 1 + 1 / 8)])
def test_crps_of_later_years_improves_and_spread_matches_error(method, price):
    raw, truth = simulated()
    fitted = method.fit(raw, truth, by=("lead", "season"), training=TRAINING)
    new, at = raw.sel(init=LATER), truth.sel(init=LATER)
    found = fitted.apply(new)
    # raw: bias 1.5 and half the spread; perfect are 1 / sqrt(pi) = 0.56, times 1 + 1 / M for
    # members that are random draws
    assert crps(new, at) > 1.1
    assert crps(found, at) == pytest.approx(price / np.sqrt(np.pi), rel=0.06)
    spread = np.sqrt(found.var("member", ddof=1).mean())
    error = np.sqrt(((found.mean("member") - at) ** 2).mean())
    assert float(spread / error) == pytest.approx(1, abs=0.12)
    assert abs(float((found.mean("member") - at).mean())) < 0.1


def test_members_keep_their_ranks():
    raw, truth = simulated(cells=(2, 2))
    found = EMOS.fit(raw, truth, by="lead", training=TRAINING).apply(raw.sel(init=LATER))
    before = raw.sel(init=LATER).values.argsort(axis=2)
    np.testing.assert_array_equal(found.values.argsort(axis=2), before)


def test_equal_members_are_ranked_by_their_number():
    raw, truth = simulated(cells=(1, 1))
    emos = EMOS.fit(raw, truth, by=(), training=TRAINING)
    new = raw.sel(init=LATER).round(0)
    found = emos.apply(new)
    assert np.unique(found.values, axis=2).shape == found.shape
    before = new.values.argsort(axis=2, kind="stable")
    np.testing.assert_array_equal(found.values.argsort(axis=2), before)


def test_quantiles_are_those_of_the_normal_distribution_and_miss_no_member():
    raw, truth = simulated(cells=(1, 1))
    emos = EMOS.fit(raw, truth, by=(), training=TRAINING)
    new = raw.sel(init=LATER).copy()
    new[:, :, 3] = np.nan
    found = emos.apply(new).isel(lat=0, lon=0)
    a, b, c, d = (float(emos.coefficients.table[name].item()) for name in "abcd")
    x = new.isel(init=5, lead=1, lat=0, lon=0).dropna("member").values
    sigma = np.sqrt(c + d * x.var(ddof=1))
    wanted = stats.norm.ppf((np.arange(7) + 0.5) / 7, a + b * x.mean(), sigma)
    one = found.isel(init=5, lead=1).values
    np.testing.assert_allclose(np.sort(one)[:7], wanted, rtol=1e-12)
    assert np.isnan(one).tolist() == [False] * 3 + [True] + [False] * 4


def test_one_known_member_is_not_calibrated():
    raw, truth = simulated(cells=(1, 1))
    emos = EMOS.fit(raw, truth, by=(), training=TRAINING)
    new = raw.sel(init=LATER).copy()
    new[:, :, 1:] = np.nan
    assert emos.apply(new).isnull().all()


@pytest.mark.parametrize("seed", range(8))
def test_random_chunks_give_the_same(seed):
    raw, truth = simulated(years=26)
    fitted = EMOS.fit(raw, truth, by="lead", training=TRAINING)
    new = raw.sel(init=LATER)
    rng = np.random.default_rng(seed)
    chunks = {dim: int(rng.integers(1, size + 1)) for dim, size in new.sizes.items()}
    found = fitted.apply(new.chunk(chunks)).compute(scheduler="sync")
    xr.testing.assert_allclose(found, fitted.apply(new), rtol=1e-13)


@pytest.mark.parametrize("method", [EMOS, EnsembleDressing])
def test_any_chunks_give_the_same_and_stay_lazy(method):
    raw, truth = simulated(years=28)
    fitted = method.fit(raw, truth, by=("lead", "month"), training=TRAINING)
    chunks = {"init": 7, "lead": 1, "member": 3, "lat": 1, "lon": 2}
    lazy = method.fit(
        raw.chunk(chunks), truth.chunk({"init": 11}), by=("lead", "month"), training=TRAINING
    )
    xr.testing.assert_allclose(lazy.coefficients.table, fitted.coefficients.table, rtol=1e-8)
    new = raw.sel(init=LATER)
    found = fitted.apply(new.chunk(chunks))
    assert isinstance(found.data, da.Array)
    assert found.chunks[0] == new.chunk(chunks).chunks[0]
    xr.testing.assert_allclose(found.compute(), fitted.apply(new), rtol=1e-13)


def test_applying_computes_nothing():
    raw, truth = simulated(years=28)
    fitted = EMOS.fit(raw, truth, by="lead", training=TRAINING)

    def refuse(block):
        raise AssertionError("computed")

    new = raw.sel(init=LATER).chunk({"init": 4})
    new = new.copy(data=new.data.map_blocks(refuse, dtype=float, meta=np.empty((0,) * 5)))
    assert fitted.apply(new).shape == new.shape


def test_units_of_truth_and_forecast_are_converted():
    raw, truth = simulated(years=28)
    kelvin = (truth + 273.15).assign_attrs(truth.attrs, units="K")
    one = EMOS.fit(raw, truth, by="lead", training=TRAINING)
    two = EMOS.fit(raw, kelvin, by="lead", training=TRAINING)
    xr.testing.assert_allclose(one.coefficients.table, two.coefficients.table, rtol=1e-6)
    assert one.coefficients.table.a.attrs["units"] == "degC"
    new = raw.sel(init=LATER)
    warm = (new + 273.15).assign_attrs(new.attrs, units="K")
    found = one.apply(warm)
    assert found.attrs["units"] == "K"
    np.testing.assert_allclose(found.values, one.apply(new).values + 273.15)
    with pytest.raises(UnitsError):
        one.apply(new.assign_attrs(units="m"))
    with pytest.raises(UnitsError, match="has units None"):
        one.apply(new.drop_attrs(deep=False))


def test_training_cases_lie_in_the_period_with_start_and_valid_time():
    raw, truth = simulated(leads=3)
    fitted = EMOS.fit(raw, truth, by="lead", training=slice("1980", "1989"))
    assert fitted.coefficients.table.n[:, 0, 0].values.tolist() == [119, 118, 117]
    assert fitted.coefficients.period == "1980-02-01/1989-12-01"
    beyond = raw.copy()
    beyond.loc[{"init": slice("1990", None)}] = 1e6
    wrong = truth.copy()
    valid = Judged.of(raw).valid > 19891231000000
    wrong.values[valid] = -1e6
    again = EMOS.fit(beyond, wrong, by="lead", training="1980/1989")
    xr.testing.assert_identical(again.coefficients.table, fitted.coefficients.table)


def test_two_spans_of_training():
    raw, truth = simulated()
    fitted = EMOS.fit(raw, truth, by="lead", training="1980/1989, 2000/2009")
    assert fitted.coefficients.period == "1980-02-01/1989-12-01, 2000-02-01/2009-12-01"


def test_the_result_says_what_it_has_seen_and_the_leak_is_named():
    raw, truth = simulated()
    fitted = EMOS.fit(raw, truth, by=("lead", "season"), training=TRAINING)
    found = fitted.apply(raw.sel(init=LATER))
    assert found.attrs["xearth_calibration_period"] == "1980-02-01/2004-12-01"
    assert Provenance.from_attrs(found.attrs).calibration_period == fitted.coefficients.period
    assert found.attrs["calibration"].endswith("by lead and season")
    assert found.attrs["units"] == "degC"
    assert guard(found, truth.sel(init=LATER)) == ()
    with pytest.warns(LeakageWarning, match="calibration"):
        seen = fitted.apply(raw.sel(init="2004"))
    with pytest.warns(LeakageWarning, match="calibration"):
        assert "calibration" in {leak.kind for leak in guard(seen, truth.sel(init="2004"))}


def test_a_second_calibration_adds_its_period():
    raw, truth = simulated()
    first = EnsembleDressing.fit(raw, truth, by=(), training=slice("1980", "1994"))
    middle = first.apply(raw.sel(init=slice("1995", None)))
    second = EMOS.fit(middle, truth.sel(init=slice("1995", None)), by=(), training="1995/2004")
    found = second.apply(middle.sel(init=LATER))
    period = "1980-02-01/1994-12-01, 1995-02-01/2004-12-01"
    assert found.attrs["xearth_calibration_period"] == period


def test_a_block_travels_to_other_processes():
    raw, truth = simulated(years=28)
    fitted = EMOS.fit(raw, truth, by="lead", training=TRAINING)
    new = raw.sel(init=LATER)
    lazy = pickle.loads(pickle.dumps(fitted.apply(new.chunk({"init": 6}))))
    xr.testing.assert_allclose(lazy.compute(scheduler="sync"), fitted.apply(new), rtol=1e-13)


def test_json_keeps_every_bit_and_refuses_others():
    raw, truth = simulated(years=28)
    truth[:, :, 0, 0] = np.nan
    emos = EMOS.fit(raw, truth, training=TRAINING)
    again = EMOS.from_json(emos.to_json())
    xr.testing.assert_identical(again.coefficients.table, emos.coefficients.table)
    new = raw.sel(init=LATER)
    xr.testing.assert_identical(again.apply(new), emos.apply(new))
    assert emos.apply(new).isel(lat=0, lon=0).isnull().all()
    dressing = EnsembleDressing.fit(raw, truth, training=TRAINING)
    again = EnsembleDressing.from_json(dressing.to_json())
    xr.testing.assert_identical(again.apply(new, seed=3), dressing.apply(new, seed=3))
    for text in ("{", "{}", dressing.to_json()):
        with pytest.raises(CheckpointError, match="EMOS"):
            EMOS.from_json(text)


def test_copies_of_members_differ_and_share_their_draw_over_cells_and_leads():
    raw, truth = simulated()
    dressing = EnsembleDressing.fit(raw, truth, by=(), training=TRAINING)
    new = raw.sel(init=LATER)
    found = dressing.apply(new, copies=3, seed=1)
    assert found.member.values.tolist() == list(range(24))
    width = dressing.coefficients.table["width"].values
    shift = dressing.coefficients.table["shift"].values
    z = (found.values - new.values.repeat(3, axis=2) - shift) / width
    np.testing.assert_allclose(z, np.broadcast_to(z[:, :1, :, :1, :1], z.shape), atol=1e-8)
    draws = z[:, 0, :, 0, 0]
    assert abs(draws.mean()) < 0.1
    assert draws.std() == pytest.approx(1, abs=0.05)
    assert np.unique(draws.round(9)).size == draws.size
    alone = dressing.apply(new.isel(init=[7]), copies=3, seed=1)
    xr.testing.assert_identical(alone, found.isel(init=[7]))


def test_dressing_of_a_wide_ensemble_warns():
    raw, truth = simulated()
    wide = raw + 4 * (raw - raw.mean("member"))
    with pytest.warns(XearthWarning, match="100%"):
        EnsembleDressing.fit(wide, truth, by="lead", training=TRAINING)


def test_bad_input_is_refused():
    raw, truth = simulated(years=12)
    with pytest.raises(MissingDataError, match=r"9 training cases.*lead 1, month 1.*by='lead'"):
        EMOS.fit(raw.isel(init=slice(2, 120)), truth.isel(init=slice(2, 120)), by=("lead", "month"))
    with pytest.raises(MissingDataError, match="training period"):
        EMOS.fit(raw, truth, training=slice("1950", "1960"))
    with pytest.raises(ConfigError, match="by="):
        EMOS.fit(raw, truth, by="year")
    with pytest.raises(ConfigError, match="step"):
        EMOS.fit(raw, truth, training=slice("1980", "1990", 2))
    with pytest.raises(ConfigError, match="2 members"):
        EMOS.fit(raw.isel(member=[0]), truth)
    with pytest.raises(AxisError):
        EMOS.fit(raw.isel(member=0, drop=True), truth)
    with pytest.raises(GridMismatchError):
        EMOS.fit(raw, truth.isel(lat=0, drop=True))
    with pytest.raises(UnitsError):
        EMOS.fit(raw, truth.assign_attrs(units="m"))


def test_what_was_not_trained_is_not_applied():
    raw, truth = simulated(leads=3)
    two = EMOS.fit(raw.isel(lead=slice(2)), truth.isel(lead=slice(2)), training=TRAINING)
    new = raw.sel(init=LATER)
    with pytest.raises(MissingDataError, match=r"lead \[3\]"):
        two.apply(new)
    new = new.isel(lead=[0])
    with pytest.raises(GridMismatchError, match="'lat'"):
        two.apply(new.assign_coords(lat=new.lat + 1))
    with pytest.raises(GridMismatchError, match="cells"):
        two.apply(new.isel(lon=0, drop=True))
    days = new.assign_coords(lead=("lead", [1], {"units": "days"}))
    with pytest.raises(UnitsError, match="leads in"):
        two.apply(days)
    dressing = EnsembleDressing.fit(raw, truth, training=TRAINING)
    with pytest.raises(ConfigError, match="copies"):
        dressing.apply(raw.sel(init=LATER), copies=0)


def test_truth_by_time_is_matched_by_valid_time():
    raw, _ = simulated(years=28, cells=(1, 2))
    rng = np.random.default_rng(8)
    time = pd.date_range("1980-01-01", periods=12 * 29, freq="MS")
    series = xr.DataArray(
        20 + rng.normal(size=(time.size, 1, 2)),
        {"time": ("time", time, {"standard_name": "time"}), "lat": raw.lat, "lon": raw.lon},
        ("time", "lat", "lon"),
        "sst",
        raw.attrs,
    )
    from xearth.verification.align import observations_at

    one = EMOS.fit(raw, series, by=("lead", "valid_season"), training=TRAINING)
    two = EMOS.fit(
        raw, observations_at(raw, series), by=("lead", "valid_season"), training=TRAINING
    )
    xr.testing.assert_identical(one.coefficients.table, two.coefficients.table)
    found = one.apply(raw.sel(init=LATER))
    # a start in November is a forecast for winter at lead 1
    case = {"init": "2005-11", "lead": 1, "lat": 0, "lon": 180}
    table = one.coefficients.table.sel(lead=1, valid_season="DJF", lat=0, lon=180)
    x = raw.sel(case).values.ravel()
    mean = float(table.a + table.b * x.mean())
    assert found.sel(case).mean().item() == pytest.approx(mean, abs=1e-9)
