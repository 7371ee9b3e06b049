"""Scores of probabilities, ranks and intervals against other libraries and closed forms."""

from __future__ import annotations

import operator

import dask.array
import numpy as np
import properscoring
import pytest
import scores.probability
import scoringrules
import xarray as xr
import xskillscore
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from xearth.errors import AxisError, ConfigError, UnitsError
from xearth.verification.scores.brier import brier, brier_decomposition, brier_skill, rps, rps_skill
from xearth.verification.scores.categories import categories
from xearth.verification.scores.probabilistic import (
    crps_components,
    crps_ensemble,
    threshold_weighted_crps,
    unbiased_spread_skill,
)
from xearth.verification.scores.ranks import (
    interval_coverage,
    interval_width,
    rank_flatness,
    rank_histogram,
)
from xearth.verification.scores.reliability import reliability, roc, roc_area

RAIN = {"units": "mm h-1"}
LIMITS = ["0.5 mm/h", "2 mm/h"]


def rain(members=6, n=400, seed=0):
    random = np.random.default_rng(seed)
    scale = random.gamma(2.0, 1.0, n)
    f = xr.DataArray(
        random.exponential(scale[:, None], (n, members)).round(2),
        dims=("init", "member"),
        attrs=RAIN,
    )
    return f, xr.DataArray(random.exponential(scale).round(2), dims="init", attrs=RAIN)


def probabilities(n=500, seed=1):
    random = np.random.default_rng(seed)
    p = random.random(n).round(2)
    o = (random.random(n) < p).astype(float)
    return xr.DataArray(p, dims="init"), xr.DataArray(o, dims="init")


# --- Brier and ranked probability scores -----------------------------------------------------


@pytest.mark.parametrize("op", [">=", ">"])
@pytest.mark.parametrize("estimator", ["ensemble", "fair"])
def test_brier_is_that_of_scores_and_xskillscore(op, estimator):
    f, o = rain()
    own = brier(f, o, thresholds=LIMITS, op=op, estimator=estimator, dim=())
    compare = np.greater_equal if op == ">=" else np.greater
    peer = scores.probability.brier_score_for_ensemble(
        f,
        o,
        "member",
        np.array([0.5, 2.0]),
        preserve_dims="all",
        fair_correction=estimator == "fair",
        event_threshold_operator=operator.ge if op == ">=" else operator.gt,
    )
    np.testing.assert_allclose(own, peer.transpose("init", "threshold"), atol=1e-13)
    other = xskillscore.brier_score(
        compare(o, 2.0), compare(f, 2.0), member_dim="member", dim="init", fair=estimator == "fair"
    )
    np.testing.assert_allclose(own.sel(threshold=2.0).mean(), other, rtol=1e-12)


def test_brier_at_a_threshold_is_that_of_properscoring():
    f, o = rain()
    own = brier(f, o, thresholds=LIMITS, op=">", dim=())
    peer = properscoring.threshold_brier_score(o.values, f.values, np.array([0.5, 2.0]))
    np.testing.assert_allclose(own, peer, atol=1e-14)


def test_brier_of_probabilities_is_that_of_scoringrules():
    p, o = probabilities()
    np.testing.assert_allclose(brier(p, o, dim=()), scoringrules.brier_score(o.values, p.values))
    percent = (100 * p).assign_attrs(units="%")
    np.testing.assert_allclose(brier(percent, o == 1), brier(p, o), rtol=1e-12)


def test_the_fair_brier_score_does_not_depend_on_the_size_of_the_ensemble():
    random = np.random.default_rng(0)
    x = xr.DataArray(random.standard_normal((40_000, 12)), dims=("init", "member"))
    y = xr.DataArray(random.standard_normal(40_000), dims="init")
    fair = [brier(x[:, :m], y, thresholds=0, estimator="fair").item() for m in (2, 12)]
    plain = [brier(x[:, :m], y, thresholds=0).item() for m in (2, 12)]
    np.testing.assert_allclose(fair, 0.25, atol=0.005)
    np.testing.assert_allclose(plain, [0.375, 0.25 + 0.25 / 12], atol=0.005)


def test_rps_sums_brier_and_is_that_of_xskillscore():
    f, o = rain()
    edges = xr.DataArray([0.5, 2.0], dims="category_edge")
    own = rps(f, o, thresholds=LIMITS, op=">=", dim="init")
    parts = brier(f, o, thresholds=LIMITS, dim="init")
    np.testing.assert_allclose(own, parts.sum("threshold"), rtol=1e-13)
    edges = np.array([-1.0, 0.5, 2.0, 1e9])
    peer = xskillscore.rps(o.drop_attrs(), f.drop_attrs(), category_edges=edges, dim="init")
    np.testing.assert_allclose(own, peer, rtol=1e-12)


def test_skill_against_constant_probabilities_by_numpy():
    f, o = rain()
    r = np.array([0.7, 0.3])
    happened = np.stack([o >= 0.5, o >= 2.0], axis=-1)
    expected = ((r - happened) ** 2).mean(0)
    own = brier(f, o, thresholds=LIMITS)
    np.testing.assert_allclose(
        brier_skill(f, o, thresholds=LIMITS, reference=r), 1 - own / expected, rtol=1e-12
    )
    np.testing.assert_allclose(
        rps_skill(f, o, thresholds=LIMITS, reference=r),
        1 - own.sum() / expected.sum(),
        rtol=1e-12,
    )
    with pytest.raises(ConfigError, match="one for each of 2"):
        brier_skill(f, o, thresholds=LIMITS, reference=[0.5, 0.2, 0.1])
    with pytest.raises(ConfigError, match="reference"):
        brier_skill(f, o, thresholds=LIMITS, reference=[0.5, 1.2])


# --- decomposition, reliability, ROC -----------------------------------------------------------


def test_murphys_identity_is_exact_where_a_class_holds_one_probability():
    f, o = rain()
    for parts in (
        brier_decomposition(f, o, thresholds=LIMITS).transpose("brier_component", ...),
        brier_decomposition(*probabilities()),
    ):
        rel, res, unc, variance, covariance, score = parts.values
        np.testing.assert_allclose(rel - res + unc, score, rtol=1e-12)
        np.testing.assert_allclose(variance, 0, atol=1e-15)
        np.testing.assert_allclose(covariance, 0, atol=1e-15)
    np.testing.assert_allclose(
        brier_decomposition(f, o, thresholds=LIMITS).sel(brier_component="brier"),
        brier(f, o, thresholds=LIMITS),
        rtol=1e-12,
    )


def test_parts_by_hand():
    p, o = probabilities(60, seed=3)
    w = xr.DataArray(np.random.default_rng(0).random(60), dims="init")
    share, base = w.values / w.values.sum(), float((w * o).sum() / w.sum())
    rel = res = 0.0
    for value in np.unique(p):
        own = p.values == value
        frequency = (share * o.values)[own].sum() / share[own].sum()
        rel += share[own].sum() * (value - frequency) ** 2
        res += share[own].sum() * (frequency - base) ** 2
    parts = brier_decomposition(p, o, weights=w)
    np.testing.assert_allclose(
        parts.sel(brier_component=["reliability", "resolution", "uncertainty"]),
        [rel, res, base * (1 - base)],
        rtol=1e-12,
    )


@settings(max_examples=30, deadline=None)
@given(bins=st.integers(1, 12), seed=st.integers(0, 100), weighted=st.booleans())
def test_the_parts_within_classes_make_the_sum_right_for_any_classes(bins, seed, weighted):
    p, o = probabilities(80, seed=seed)
    w = xr.DataArray(np.random.default_rng(seed).random(80), dims="init") if weighted else None
    rel, res, unc, variance, covariance, score = brier_decomposition(p, o, bins=bins, weights=w)
    np.testing.assert_allclose(rel - res + unc + variance - covariance, score, atol=1e-14)
    np.testing.assert_allclose(score, brier(p, o, weights=w), rtol=1e-12)


def test_reliability_is_that_of_xskillscore():
    p, o = probabilities()
    edges = np.linspace(0, 1, 6)
    own = reliability(p, o, bins=edges)
    peer = xskillscore.reliability(o == 1, p, dim="init", probability_bin_edges=edges)
    np.testing.assert_allclose(own.frequency, peer, rtol=1e-12)
    np.testing.assert_allclose(own.share * p.size, peer.samples)
    assert own.share.sum().item() == pytest.approx(1)
    lower = np.searchsorted(edges[1:-1], p, side="right")
    means = [p.values[lower == k].mean() for k in range(5)]
    np.testing.assert_allclose(own.probability, means, rtol=1e-12)


def test_reliability_of_an_ensemble_by_count_of_members():
    f, o = rain(members=4)
    own = reliability(f, o, thresholds="2 mm/h").squeeze("threshold")
    count = (f >= 2.0).sum("member").values
    for k in range(5):
        cell = own.isel(probability_class=k)
        assert cell.probability_class.item() == cell.probability.item() == k / 4
        np.testing.assert_allclose(cell.share, (count == k).mean(), rtol=1e-12)
        np.testing.assert_allclose(cell.frequency, (o.values >= 2.0)[count == k].mean())
    assert own.frequency.attrs["event"] == "value >= threshold"


def test_reliability_of_a_calibrated_forecast_is_the_diagonal():
    random = np.random.default_rng(5)
    p = xr.DataArray(random.random(200_000), dims="init")
    o = xr.DataArray((random.random(200_000) < p).astype(float), dims="init")
    own = reliability(p, o)
    np.testing.assert_allclose(own.frequency, own.probability, atol=0.015)
    parts = brier_decomposition(p, o, bins=20)
    assert parts.sel(brier_component="reliability").item() < 1e-3
    # of uniform probabilities: 1/6 is the Brier score, 1/12 the resolution
    np.testing.assert_allclose(parts.sel(brier_component="brier"), 1 / 6, atol=0.003)
    np.testing.assert_allclose(parts.sel(brier_component="resolution"), 1 / 12, atol=0.003)


def test_roc_area_is_that_of_three_others():
    p, o = probabilities()
    own = roc_area(p, o)
    yes, no = p.values[o.values == 1], p.values[o.values == 0]
    rank = mannwhitneyu(yes, no).statistic / (yes.size * no.size)
    assert own.item() == pytest.approx(rank, rel=1e-12)
    thresholds = np.concatenate([np.unique(p), [1.01]])
    peer = scores.probability.roc_curve_data(p, o, thresholds, check_args=False)
    assert own.item() == pytest.approx(peer.AUC.item(), rel=1e-12)
    assert own.item() == pytest.approx(scores.probability.roc_auc(p, o).item(), rel=1e-12)
    assert own.attrs["method"] == "exact"


def test_roc_of_classes_that_hold_one_probability_is_exact():
    f, o = rain(members=5)
    own = roc_area(f, o, thresholds="2 mm/h").item()
    p, event = (f.drop_attrs() >= 2.0).mean("member"), (o.drop_attrs() >= 2.0).astype(float)
    assert own == pytest.approx(roc_area(p, event).item(), rel=1e-12)
    curve = roc(f, o, thresholds="2 mm/h").squeeze()
    least = np.maximum(np.arange(6) / 5 - 1e-9, 0)
    peer = scores.probability.roc_curve_data(p, event, least)
    np.testing.assert_allclose(curve.hit_rate, peer.POD, rtol=1e-12)
    np.testing.assert_allclose(curve.false_alarm_rate, peer.POFD, rtol=1e-12)
    area = -np.trapezoid(curve.hit_rate, curve.false_alarm_rate)
    assert own == pytest.approx(area, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(bins=st.integers(1, 40), seed=st.integers(0, 50))
def test_the_area_of_classes_says_so_and_comes_near_the_exact_one(bins, seed):
    p, o = probabilities(200, seed=seed)
    exact, binned = roc_area(p, o).item(), roc_area(p, o, bins=bins)
    assert binned.attrs["method"] == "binned"
    assert abs(binned.item() - exact) < 0.6 / bins
    single = np.r_[0, np.arange(100) / 100 + 0.005, 1]
    np.testing.assert_allclose(roc_area(p, o, bins=single), exact)


def test_roc_without_both_outcomes_is_nan():
    p, o = probabilities()
    assert np.isnan(roc_area(p, o * 0).item())
    assert np.isnan(roc_area(p, o * 0 + 1, bins=5).item())


@pytest.mark.parametrize("function", [reliability, roc, roc_area, brier_decomposition, brier])
def test_chunks_do_not_matter_and_nothing_is_computed(function):
    f, o = rain()
    f, o = (a.assign_attrs(RAIN) for a in (f, o.where(o.init != 7) if "init" in o.coords else o))
    found = function(f.chunk(init=37, member=2), o.chunk(init=50), thresholds=LIMITS)
    arrays = found.data_vars.values() if isinstance(found, xr.Dataset) else [found]
    assert all(isinstance(array.data, dask.array.Array) for array in arrays)
    xr.testing.assert_allclose(found.compute(), function(f, o, thresholds=LIMITS), rtol=1e-12)
    p, event = probabilities()
    own = function(p.chunk(init=100), event.chunk(init=70))
    xr.testing.assert_allclose(own.compute(), function(p, event), rtol=1e-12)


def test_events_that_cannot_be():
    f, o = rain()
    p, event = probabilities()
    with pytest.raises(UnitsError, match="no unit"):
        brier(f, o, thresholds=[1.0])
    with pytest.raises(UnitsError):
        brier(f, o, thresholds="1 K")
    with pytest.raises(ConfigError, match="'>='"):
        brier(f, o, thresholds=LIMITS, op="<")
    with pytest.raises(AxisError, match="member"):
        brier(f, o, thresholds=LIMITS, member="realization")
    with pytest.raises(ConfigError, match=r"probabilities in 0 \.\. 1; found 35"):
        brier(p + 34.0 + (p * 0 + 1 - p), event)
    with pytest.raises(ConfigError, match=r"outcomes 0 or 1 .* found 0\.5"):
        roc_area(p, event * 0.5)
    with pytest.raises(ConfigError, match="fair"):
        brier(p, event, estimator="fair")
    with pytest.raises(ConfigError, match="ascending edges from 0 to 1"):
        reliability(p, event, bins=[0.1, 0.5, 1])
    lazy = brier((p + 1).chunk(), event)  # a Dask array is not looked at before it is computed
    with pytest.raises(ConfigError, match="probabilities"):
        lazy.compute()


# --- CRPS: parts and thresholds ------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["ensemble", "fair"])
def test_parts_of_the_crps_are_those_of_scores(estimator):
    f, o = rain()
    own = crps_components(f, o, estimator=estimator, dim=())
    peer = scores.probability.crps_for_ensemble(
        f,
        o,
        "member",
        method="ecdf" if estimator == "ensemble" else "fair",
        include_components=True,
        preserve_dims="all",
    )
    order = ["total", "underforecast_penalty", "overforecast_penalty", "spread"]
    np.testing.assert_allclose(own.T, peer.sel(component=order), atol=1e-12)
    total = crps_ensemble(f, o, estimator=estimator, dim=())
    np.testing.assert_allclose(own.sel(component="total"), total, atol=1e-12)


def test_pwm_is_fair():
    f, o = rain()
    fair, pwm = (crps_ensemble(f, o, estimator=name, dim=()) for name in ("fair", "pwm"))
    np.testing.assert_array_equal(fair, pwm)
    peer = scoringrules.crps_ensemble(o.values, f.values, estimator="pwm")
    np.testing.assert_allclose(pwm, peer, atol=1e-12)


@pytest.mark.parametrize(
    ("lower", "upper", "a", "b"),
    [("1 mm/h", None, 1, np.inf), (None, "2 mm/h", -np.inf, 2), ("1 mm/h", "2 mm/h", 1, 2)],
)
def test_threshold_weighted_crps_is_that_of_scores_and_an_integral(lower, upper, a, b):
    f, o = rain(n=60)
    own = threshold_weighted_crps(f, o, lower=lower, upper=upper, estimator="ensemble", dim=())
    peer = scores.probability.tw_crps_for_ensemble(
        f, o, "member", chaining_func=lambda x: np.clip(x, a, b), preserve_dims="all"
    )
    np.testing.assert_allclose(own, peer, atol=1e-13)
    t = np.linspace(max(a, 0), min(b, 60), 240_001)[:, None]
    for k in range(5):
        cdf = (f.values[k] <= t).mean(axis=1)
        integral = np.trapezoid((cdf - (o.values[k] <= t[:, 0])) ** 2, t[:, 0])
        assert own[k].item() == pytest.approx(integral, abs=2e-3)


def test_tails_add_up_to_the_crps():
    f, o = rain()
    for estimator in ("ensemble", "fair"):
        parts = [
            threshold_weighted_crps(f, o, estimator=estimator, **bounds)
            for bounds in (
                {"upper": "1 mm/h"},
                {"lower": "1 mm/h", "upper": "3 mm/h"},
                {"lower": "3 mm/h"},
            )
        ]
        np.testing.assert_allclose(sum(parts), crps_ensemble(f, o, estimator=estimator), rtol=1e-12)


def test_thresholds_of_the_crps_that_cannot_be():
    f, o = rain()
    for bounds in ({}, {"lower": "2 mm/h", "upper": "1 mm/h"}):
        with pytest.raises(ConfigError, match="lower"):
            threshold_weighted_crps(f, o, estimator="fair", **bounds)
    with pytest.raises(UnitsError):
        threshold_weighted_crps(f, o, estimator="fair", lower=1.0)
    with pytest.raises(ConfigError, match="one threshold"):
        threshold_weighted_crps(f, o, estimator="fair", lower=LIMITS)


# --- ranks and intervals --------------------------------------------------------------------------


def test_ranks_are_those_of_scores_with_ties():
    f, o = rain(members=5, n=300)
    f, o = f.round(0), o.round(0)
    own = rank_histogram(f, o)
    peer = scores.probability.rank_histogram(f, o, "member")
    np.testing.assert_allclose(own, peer, rtol=1e-12)
    assert own.sum().item() == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), weighted=st.booleans())
def test_ranks_by_hand(seed, weighted):
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 4, (30, 3)), random.integers(0, 4, 30)
    w = random.random(30) if weighted else np.ones(30)
    expected = np.zeros(4)
    for members, truth, weight in zip(x, y, w, strict=True):
        places = np.flatnonzero(
            [(members < truth).sum() <= r <= (members <= truth).sum() for r in range(4)]
        )
        expected[places] += weight / places.size
    own = rank_histogram(
        xr.DataArray(x.astype(float), dims=("init", "member")),
        xr.DataArray(y.astype(float), dims="init"),
        weights=xr.DataArray(w, dims="init"),
    )
    np.testing.assert_allclose(own, expected / w.sum(), rtol=1e-12)


def test_ranks_of_what_is_drawn_alike_are_flat_and_of_too_little_spread_are_not():
    draws = np.random.default_rng(2).standard_normal((60_000, 10))
    f = xr.DataArray(draws[:, 1:], dims=("init", "member"))
    o = xr.DataArray(draws[:, 0], dims="init")
    np.testing.assert_allclose(rank_histogram(f, o), 0.1, atol=0.005)
    assert rank_flatness(f, o).item() < 0.02
    narrow = rank_histogram(f / 3, o)
    assert narrow[0] > 0.3
    assert narrow[-1] > 0.3
    assert rank_flatness(f / 3, o).item() == pytest.approx(abs(narrow - 0.1).sum().item())


@pytest.mark.parametrize("members", [3, 9, 20])
def test_intervals_of_a_calibrated_ensemble_cover_what_they_say(members):
    draws = np.random.default_rng(members).standard_normal((60_000, members + 1))
    f = xr.DataArray(draws[:, 1:], dims=("init", "member"))
    o = xr.DataArray(draws[:, 0], dims="init")
    levels = [(members + 1 - 2 * k) / (members + 1) for k in range(1, members // 2 + 1)]
    own = interval_coverage(f, o, level=levels)  # from member to member
    np.testing.assert_allclose(own, own.level, atol=0.008)
    wide = (members - 1) / (members + 1)
    np.testing.assert_allclose(interval_coverage(f, o, level=0.9 * wide), 0.9 * wide, atol=0.03)


def test_bounds_of_intervals_are_quantiles_of_numpy():
    f, o = rain(members=9)
    o = o + 0.001  # no truth is a member
    for level in (0.2, 0.55, 0.8):
        low, high = np.quantile(
            f.values, [(1 - level) / 2, (1 + level) / 2], axis=1, method="weibull"
        )
        inside = (o.values >= low) & (o.values <= high)
        np.testing.assert_allclose(interval_coverage(f, o, level=level), inside.mean())
        np.testing.assert_allclose(interval_width(f, o, level=level), (high - low).mean())
    assert interval_width(f, o, level=0.5).attrs["units"] == "mm h-1"
    with pytest.raises(ConfigError, match="9 members resolve"):
        interval_coverage(f, o, level=0.9)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        interval_coverage(f, o, level=50)


def test_unbiased_spread_skill_of_a_calibrated_ensemble_is_one():
    draws = np.random.default_rng(3).standard_normal((60_000, 4))
    f = xr.DataArray(draws[:, 1:], dims=("init", "member"))
    o = xr.DataArray(draws[:, 0], dims="init")
    assert unbiased_spread_skill(f, o).item() == pytest.approx(1, abs=0.01)
    sure = xr.zeros_like(f) + np.array([-1.0, 0.0, 1.0])
    # an error smaller than what the size of the ensemble explains has no ratio
    assert np.isnan(unbiased_spread_skill(sure, o * 0).item())


# --- thresholds of each place ------------------------------------------------------------------


def test_scores_of_terciles_of_each_place():
    random = np.random.default_rng(4)
    scale = xr.DataArray([1.0, 10.0, 100.0], dims="lat")
    f = xr.DataArray(random.standard_normal((50, 3, 8)), dims=("init", "lat", "member")) * scale
    o = xr.DataArray(random.standard_normal((50, 3)), dims=("init", "lat")) * scale
    f, o = f.assign_attrs(units="mm"), o.assign_attrs(units="mm")
    edges = (xr.DataArray([-0.43, 0.43], dims="threshold") * scale / 10).assign_attrs(units="cm")
    one, other = categories(f, edges), categories(o, edges)
    own = rps(one, other, thresholds=[1, 2])
    p = np.stack([(f >= 10 * edges[k]).mean("member") for k in range(2)], axis=-1)
    happened = np.stack([o >= 10 * edges[k] for k in range(2)], axis=-1)
    assert own.item() == pytest.approx(((p - happened) ** 2).sum(-1).mean(), rel=1e-12)
    lazy = categories(f.chunk(init=20), edges.chunk(lat=1))
    assert isinstance(lazy.data, dask.array.Array)
    xr.testing.assert_identical(lazy.compute(), one)
    assert one.attrs["units"] == "1"


def test_categories_at_edges_and_holes():
    x = xr.DataArray([1.0, 2.0, 3.0, np.nan], dims="time")
    edges = xr.DataArray([2.0, 3.0], dims="threshold")
    np.testing.assert_array_equal(categories(x, edges), [0, 1, 2, np.nan])
    np.testing.assert_array_equal(categories(x, edges, op=">"), [0, 0, 1, np.nan])
    with pytest.raises(AxisError, match="edges"):
        categories(x, edges.rename(threshold="quantile"))
    with pytest.raises(AxisError, match="month"):
        categories(x, edges.expand_dims(month=12))
    with pytest.raises(ConfigError, match="ascend"):
        categories(x, edges[::-1])
    with pytest.raises(UnitsError):
        categories(x.assign_attrs(units="mm"), edges)
