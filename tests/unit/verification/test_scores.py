"""Scores against other libraries, brute force and closed forms."""

from __future__ import annotations

import dask.array
import numpy as np
import properscoring
import pytest
import scores.continuous
import scores.probability
import xarray as xr
import xskillscore
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.errors import AxisError, ConfigError, GridMismatchError, UnitsError
from xearth.verification.scores.deterministic import bias, correlation, mae, rmse
from xearth.verification.scores.probabilistic import (
    crps_ensemble,
    skill,
    spread,
    spread_skill_ratio,
)

KELVIN = {"units": "K", "standard_name": "sea_surface_temperature", "valid_min": 0.0}


def pairs(seed=0, members=None, holes=False):
    random = np.random.default_rng(seed)
    shape = (30, 4, *((members,) if members else ()), 5)
    dims = ("init", "lead", *(("member",) if members else ()), "lat")
    truth = random.standard_normal((30, 4, 5)) + 280
    noise = random.standard_normal(shape)
    f = (truth[:, :, None] if members else truth) + noise
    if holes:
        f = np.where(random.random(shape) < 0.15, np.nan, f)
        truth = np.where(random.random(truth.shape) < 0.15, np.nan, truth)
    coords = {
        "lead": ("lead", [1, 2, 3, 4], {"standard_name": "forecast_period", "units": "months"}),
        "lat": ("lat", np.linspace(-60, 60, 5), {"units": "degrees_north"}),
    }
    forecast = xr.DataArray(f, coords, dims, "sst", dict(KELVIN))
    return forecast, xr.DataArray(truth, coords, ("init", "lead", "lat"), "sst", dict(KELVIN))


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("dim", ["init", ["init", "lat"], None])
def test_deterministic_scores_are_those_of_xskillscore(dim, holes):
    f, o = pairs(holes=holes)
    peers = {
        bias: xskillscore.me,
        mae: xskillscore.mae,
        rmse: xskillscore.rmse,
        correlation: xskillscore.pearson_r,
    }
    for own, peer in peers.items():
        expected = peer(f, o, dim=dim, skipna=True)
        np.testing.assert_allclose(own(f, o, dim=dim), expected, rtol=1e-11)


def test_deterministic_scores_are_those_of_scores():
    f, o = pairs(holes=True)
    keep = {"preserve_dims": ["lead"]}
    for own, peer in {
        bias: scores.continuous.additive_bias,
        mae: scores.continuous.mae,
        rmse: scores.continuous.rmse,
    }.items():
        np.testing.assert_allclose(own(f, o, dim=["init", "lat"]), peer(f, o, **keep), rtol=1e-12)


def test_weights_by_hand():
    f, o = pairs(holes=True)
    w = np.cos(np.deg2rad(o.lat))
    error = (f - o).values
    weight = np.where(np.isfinite(error), w.values, 0)
    expected = np.sqrt((weight * np.nan_to_num(error) ** 2).sum((0, 2)) / weight.sum((0, 2)))
    np.testing.assert_allclose(rmse(f, o, dim=["init", "lat"], weights=w), expected, rtol=1e-12)
    both = f.notnull() & o.notnull()
    peer = xskillscore.pearson_r(f[:, 0].where(both[:, 0]), o[:, 0], dim="lat", skipna=True)
    own = correlation(f[:, 0], o[:, 0], dim="lat")
    np.testing.assert_allclose(own, peer, rtol=1e-10)
    weighted = correlation(f[0, 0], o[0, 0], weights=w)
    ok = both[0, 0].values
    c = np.cov(f[0, 0].values[ok], o[0, 0].values[ok], aweights=w.values[ok])
    assert weighted.item() == pytest.approx(c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]), rel=1e-12)


def test_correlation_of_what_does_not_vary_is_nan():
    f, o = pairs()
    assert np.isnan(correlation(f * 0 + 0.1, o).item())
    assert np.isnan(correlation(f, o * 0 + 280.1).item())
    one = correlation(f.isel(init=[0]), o.isel(init=[0]), dim="init")
    assert bool(one.isnull().all())


@settings(max_examples=30, deadline=None)
@given(offset=st.sampled_from([0.0, 1.0, 1e3, 1e6]), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_correlation_does_not_see_offset_and_scale(offset, scale):
    f, o = pairs()
    moved = (f * scale + offset).assign_attrs(KELVIN)
    np.testing.assert_allclose(
        correlation(moved, o, dim="init"), correlation(f, o, dim="init"), rtol=1e-7
    )


@pytest.mark.parametrize("estimator", ["fair", "ensemble"])
@pytest.mark.parametrize("holes", [False, True])
def test_crps_is_the_double_sum(estimator, holes):
    f, o = pairs(members=6, holes=holes)
    own = crps_ensemble(f, o, estimator=estimator, dim=())
    x = f.transpose("init", "lead", "lat", "member").values
    expected = np.full(o.shape, np.nan)
    for point in np.ndindex(o.shape):
        members, y = x[point][np.isfinite(x[point])], o.values[point]
        m = members.size
        pairs_sum = abs(members[:, None] - members[None]).sum() / 2
        if np.isfinite(y) and m > (estimator == "fair"):
            size = m * (m - 1) if estimator == "fair" else m**2
            expected[point] = abs(members - y).mean() - pairs_sum / size
    np.testing.assert_allclose(own, expected, rtol=1e-10, atol=1e-12)


def test_crps_is_that_of_three_other_libraries():
    f, o = pairs(members=7)
    last = f.transpose("init", "lead", "lat", "member")
    own = crps_ensemble(f, o, estimator="ensemble", dim=())
    np.testing.assert_allclose(own, properscoring.crps_ensemble(o.values, last.values), rtol=1e-9)
    np.testing.assert_allclose(
        own, xskillscore.crps_ensemble(o, f, member_dim="member", dim=[]), rtol=1e-9
    )
    fair = scores.probability.crps_for_ensemble(
        f, o, ensemble_member_dim="member", method="fair", preserve_dims="all"
    )
    np.testing.assert_allclose(crps_ensemble(f, o, estimator="fair", dim=()), fair, rtol=1e-9)


def test_crps_of_one_member_is_the_absolute_error():
    f, o = pairs(members=1)
    own = crps_ensemble(f, o, estimator="ensemble", dim="init")
    np.testing.assert_allclose(own, mae(f.isel(member=0), o, dim="init"), rtol=1e-12)
    with pytest.raises(ConfigError, match="2 members"):
        crps_ensemble(f, o, estimator="fair")


def test_fair_crps_does_not_depend_on_the_size_of_the_ensemble():
    random = np.random.default_rng(0)
    x = xr.DataArray(random.standard_normal((20_000, 12)), dims=("init", "member"))
    y = xr.DataArray(random.standard_normal(20_000), dims="init")
    fair = [crps_ensemble(x[:, :m], y, estimator="fair").item() for m in (2, 12)]
    plain = [crps_ensemble(x[:, :m], y, estimator="ensemble").item() for m in (2, 12)]
    expected = 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(fair, expected, atol=0.012)
    assert plain[0] - expected > 0.2


def test_spread_and_skill_by_numpy():
    f, o = pairs(members=6)
    x = f.transpose("member", "init", "lead", "lat").values
    expected = np.sqrt(x.var(axis=0, ddof=1).mean(axis=(0, 2)))
    np.testing.assert_allclose(spread(f, dim=["init", "lat"]), expected, rtol=1e-12)
    error = np.sqrt(((x.mean(axis=0) - o.values) ** 2).mean(axis=(0, 2)))
    np.testing.assert_allclose(skill(f, o, dim=["init", "lat"]), error, rtol=1e-12)
    ratio = spread_skill_ratio(f, o, dim=["init", "lat"])
    np.testing.assert_allclose(ratio, np.sqrt(7 / 6) * expected / error, rtol=1e-12)


@pytest.mark.parametrize("members", [2, 5, 20])
def test_a_calibrated_ensemble_of_any_size_has_the_ratio_one(members):
    draws = np.random.default_rng(members).standard_normal((60_000, members + 1))
    f = xr.DataArray(draws[:, 1:], dims=("init", "member"))
    o = xr.DataArray(draws[:, 0], dims="init")
    assert spread_skill_ratio(f, o).item() == pytest.approx(1, abs=0.015)


def test_ratio_leaves_out_what_has_no_truth():
    f, o = pairs(members=5)
    o = o.where(o.init != 3) if "init" in o.coords else o.where(np.arange(30)[:, None, None] != 3)
    wild = f.copy()
    wild[3] = wild[3] * np.arange(5)[None, :, None]
    np.testing.assert_allclose(spread_skill_ratio(wild, o), spread_skill_ratio(f, o), rtol=1e-12)


def test_scores_set_their_own_attributes():
    f, o = pairs()
    e, _ = pairs(members=4)
    for score in (bias(f, o), mae(f, o), rmse(f, o), spread(e), skill(e, o)):
        assert score.attrs["units"] == "K"
        assert score.attrs["units_metadata"] == "temperature: difference"
        assert "standard_name" not in score.attrs
        assert "valid_min" not in score.attrs
    for score in (correlation(f, o), spread_skill_ratio(e, o)):
        assert score.attrs["units"] == "1"
        assert "units_metadata" not in score.attrs
    assert "fair" in crps_ensemble(e, o, estimator="fair").attrs["long_name"]


def test_truth_is_converted_to_the_units_of_the_forecast():
    f, o = pairs()
    degc = (o - 273.15).assign_attrs(KELVIN, units="degC")
    np.testing.assert_allclose(rmse(f, degc), rmse(f, o), rtol=1e-12)
    assert rmse(f, degc).attrs["units"] == "K"


def test_units_that_do_not_match_are_refused():
    f, o = pairs()
    with pytest.raises(UnitsError):
        rmse(f, o.assign_attrs(units="m"))
    with pytest.raises(UnitsError, match="both or neither"):
        rmse(f, o.drop_attrs())
    with pytest.raises(UnitsError, match="anomaly"):
        rmse(f, o.assign_attrs(units_metadata="temperature: difference"))


def test_labels_that_do_not_match_are_refused():
    f, o = pairs()
    with pytest.raises(GridMismatchError, match="lat"):
        rmse(f, o.isel(lat=slice(0, 4)))
    with pytest.raises(GridMismatchError, match="lead"):
        rmse(f, o.assign_coords(lead=[2, 3, 4, 5]))


def test_arguments_that_cannot_be():
    f, o = pairs()
    e, _ = pairs(members=3)
    with pytest.raises(AxisError, match="height"):
        rmse(f, o, dim="height")
    with pytest.raises(AxisError, match="weights"):
        rmse(f, o, dim="init", weights=np.cos(np.deg2rad(o.lat)))
    with pytest.raises(AxisError, match="member"):
        crps_ensemble(f, o, estimator="fair")
    with pytest.raises(ConfigError, match="estimator"):
        crps_ensemble(e, o, estimator="ecdf")


def test_dask_stays_lazy_for_any_chunks():
    f, o = pairs(members=6, holes=True)
    lazy, truth = f.chunk(init=7, member=2), o.chunk(lead=3)
    for score in (
        lambda f, o: rmse(f.mean("member").assign_attrs(KELVIN), o, dim="init"),
        lambda f, o: correlation(f.mean("member").assign_attrs(KELVIN), o, dim="init"),
        lambda f, o: crps_ensemble(f, o, estimator="fair", dim="init"),
        lambda f, o: spread_skill_ratio(f, o, dim="init"),
    ):
        found = score(lazy, truth)
        assert isinstance(found.data, dask.array.Array)
        np.testing.assert_allclose(found.compute(), score(f, o), rtol=1e-10)
