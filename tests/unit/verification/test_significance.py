from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter
from scipy.stats import norm, ttest_1samp
from scipy.stats import t as t_of_student

from xearth.errors import (
    AxisError,
    ConfigError,
    GridMismatchError,
    MissingDataError,
    TimeAxisError,
    UnitsError,
)
from xearth.verification.significance.accuracy_tests import (
    diebold_mariano,
    field_significance,
    sign_test,
)
from xearth.verification.significance.bootstrap import (
    bootstrap,
    compare,
    distinguishable,
    paired_losses,
)
from xearth.verification.significance.resampling import Bootstrap, block_length

DATA = Path(__file__).parents[2] / "data"


def red(phi: float, shape: tuple[int, ...], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((*shape[:-1], shape[-1] + 200))
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], noise)[..., 200:]


def losses(n: int = 120, leads: int = 3, seed: int = 0, factor: float = 1.0) -> xr.DataArray:
    values = factor * red(0.5, (leads, n), seed).T ** 2
    init = xr.date_range("1990-01", periods=n, freq="MS")
    return xr.DataArray(
        values,
        {"init": init, "lead": np.arange(1, leads + 1)},
        ("init", "lead"),
        name="squared_error",
        attrs={"units": "K2"},
    )


def root(total):
    return np.sqrt(total[..., 0] / total[..., 2]) - np.sqrt(total[..., 1] / total[..., 2])


# -- the bootstrap ------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_intervals_cover(phi):
    """Difference of RMSE, 264 months, 1,000 replicates; ci/coverage_simulation.py has them all."""
    common, a, b = red(phi, (3, 1000, 264), seed=int(10 * phi))
    errors = np.stack([common + a, 1.2 * (common + b), np.full_like(a, 1)], -1)
    found = Bootstrap(n=499).run(errors**2, root)
    truth = np.sqrt(2) * (1 - 1.2)
    covered = (found[:, 1] <= truth) & (truth <= found[:, 2])
    assert 0.92 <= covered.mean() <= 0.97
    # p-value and interval are two views of the same: 0 outside <=> p <= 5 %
    outside = (found[:, 1] > 0) | (found[:, 2] < 0)
    assert (outside == (found[:, 4] <= 0.05)).mean() > 0.995


def test_independent_starts_give_the_t_interval():
    x = np.random.default_rng(1).standard_normal((1, 400))
    sums = np.stack([x, np.ones_like(x)], -1)
    found = Bootstrap(n=4000, block=1).run(sums, lambda t: t[..., 0] / t[..., 1])[0]
    exact = ttest_1samp(x[0], 0.0).confidence_interval()
    np.testing.assert_allclose(found[[1, 2]], exact, atol=0.006)
    np.testing.assert_allclose(found[3], x.std(ddof=1) / 20, rtol=1e-12)


def test_resampled_as_by_hand():
    """Counts times sums equal indexing the starts of each block, for score and spread."""
    from xearth.verification.significance.resampling import _counts, _Draw, _split

    n, length, blocks, B = 30, 4, 8, 60
    x = np.random.default_rng(2).gamma(2.0, size=(1, n, 3))
    weights = _counts(n, blocks, B, [0, length])
    draw = _Draw(*_split(x), weights / blocks, length, blocks)
    score, spread = draw.resampled(root)
    for b in range(0, B, 7):
        starts = np.repeat(np.arange(n), weights[b].astype(int))
        index = (starts[:, None] + np.arange(length)) % n
        sample = x[0, index]  # (blocks, length, 3)
        total = sample.sum((0, 1)) * n / (blocks * length)
        np.testing.assert_allclose(score[b, 0], root(total), rtol=1e-12)
        mean = total / n
        gradient = np.array(
            [0.5 / np.sqrt(mean[0] * mean[2]), -0.5 / np.sqrt(mean[1] * mean[2]), 0]
        )
        gradient[2] = -0.5 * (np.sqrt(mean[0]) - np.sqrt(mean[1])) / mean[2] ** 1.5
        along = sample.mean(1) @ gradient
        np.testing.assert_allclose(spread[b, 0], along.std(ddof=1) / np.sqrt(blocks), rtol=1e-4)


def test_thousand_resamples_are_quick_and_small():
    x = np.random.default_rng(0).gamma(1.0, size=(24, 264, 3))
    Bootstrap(n=50).run(x, root)
    tracemalloc.start()
    start = time.process_time()
    Bootstrap(n=1000).run(x, root)
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert seconds < 1.0


@pytest.mark.parametrize("chunks", [(120, 1), (40, 3), (7, 2)])
def test_any_chunking_is_the_whole(chunks):
    a, b = losses(), losses(seed=1, factor=1.3)
    whole = compare(a, b, score="root", n=200)
    lazy = compare(a.chunk(init=chunks[0], lead=chunks[1]), b.chunk(init=5), score="root", n=200)
    assert all(isinstance(lazy[name].data, da.Array) for name in lazy)
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-12)


def test_a_point_does_not_depend_on_its_neighbors():
    a, b = losses(leads=6), losses(leads=6, seed=1)
    whole, one = compare(a, b, n=200), compare(a[:, [4]], b[:, [4]], n=200)
    xr.testing.assert_allclose(whole.isel(lead=[4]), one, rtol=1e-12)


def test_missing_starts_are_left_out():
    a, b = losses(), losses(seed=1)
    a[[3, 50, 51], 0] = np.nan
    b[7, 0] = np.nan
    found = compare(a, b, n=100)
    assert found.n.values.tolist() == [116, 120, 120]
    keep = np.setdiff1d(np.arange(120), [3, 50, 51, 7])
    np.testing.assert_allclose(found.value[0], (a - b)[keep, 0].mean(), rtol=1e-12)


def test_starts_are_paired_by_label():
    a, b = losses(), losses(seed=1)
    found = compare(a[:100], b[10:], n=100)
    assert found.n[0] == 90
    assert found.attrs["starts_left_out"] == 30
    np.testing.assert_allclose(found.value, (a - b)[10:100].mean("init"), rtol=1e-12)


def test_pairing_makes_intervals_narrow():
    a = losses(leads=1)
    near = a * xr.DataArray(np.random.default_rng(3).uniform(0.9, 1.1, 120), dims="init")
    paired = compare(near, a, n=400)
    alone = bootstrap({"a": a, "n": xr.ones_like(a)}, lambda t: t["a"] / t["n"], n=400)
    assert (paired.upper - paired.lower < 0.3 * (alone.upper - alone.lower)).all()


def test_equal_losses_cannot_be_told_apart():
    a = losses()
    found = compare(a, a, n=100)
    assert (found.value == 0).all()
    assert (found.lower == 0).all()
    assert (found.p_value == 1).all()
    shifted = compare(a + 1, a, n=100)
    np.testing.assert_allclose(shifted.lower, 1.0)
    assert (shifted.p_value < 0.02).all()


def test_few_starts_say_nothing():
    a, b = losses(), losses(seed=1)
    a[4:, 1] = np.nan
    found = compare(a, b, n=100)
    assert np.isnan(found.lower[1])
    assert np.isnan(found.p_value[1])
    assert found.n[1] == 4
    assert np.isfinite(found.lower[[0, 2]]).all()
    verdict = distinguishable(a, {"other": b}, n=100).verdict
    assert verdict.values[0, 1] == "unknown (n = 4)"


def test_a_score_that_hardly_exists_has_no_interval():
    hits = xr.DataArray(np.eye(1, 60)[0], dims="init")
    found = bootstrap({"hits": hits, "events": hits}, lambda t: t["hits"] / t["events"], n=200)
    assert found.value == 1
    assert np.isnan(found.lower)


def test_dimensions_of_the_score_itself():
    counts = xr.DataArray(
        np.random.default_rng(0).poisson(5.0, (80, 2, 4)), dims=("init", "region", "rank")
    )

    def flatness(total):
        share = total["counts"] / total["counts"].sum(-1, keepdims=True)
        return ((share - 0.25) ** 2).sum(-1)

    found = bootstrap({"counts": counts}, flatness, own=("rank",), n=100)
    assert found.value.dims == ("region",)
    share = counts.sum("init") / counts.sum(("init", "rank"))
    np.testing.assert_allclose(found.value, ((share - 0.25) ** 2).sum("rank"), rtol=1e-12)


def test_units_and_names():
    a, b = losses(), losses(seed=1)
    mean, rmse = compare(a, b, n=50), compare(a, b, score="root", n=50)
    assert mean.value.attrs["units"] == "K2"
    assert rmse.value.attrs["units"] == "K"
    assert rmse.value.attrs["units_metadata"] == "temperature: difference"
    assert compare(a, b, score="skill", n=50).value.attrs["units"] == "1"
    assert "bootstrap" in mean.attrs["method"]
    with pytest.raises(UnitsError, match="K2"):
        compare(a.assign_attrs(units="K"), b.assign_attrs(units="K"), score="root", n=50)
    milli = (1e6 * b).assign_attrs(units="mK2")
    np.testing.assert_allclose(compare(a, milli, n=50).value, mean.value, rtol=1e-9)


def test_verdicts():
    a = losses(leads=1)
    found = distinguishable(
        a, {"persistence": a + 1 + losses(leads=1, seed=5), "better": 0.1 * a}, n=300
    )
    assert found.verdict.dims == ("reference", "lead")
    first, second = found.verdict.values[:, 0]
    assert first.startswith("yes, better (p = 0.00")
    assert second.startswith("yes, worse")
    assert first.endswith("n = 120)")
    skill = distinguishable(a, {"better": 0.1 * a}, score="skill", n=300)
    assert skill.verdict.values[0, 0].startswith("yes, worse")
    lazy = distinguishable(a.chunk(), {"better": 0.1 * a}, n=300)
    assert lazy.verdict.chunks is not None
    assert lazy.verdict.values[0, 0] == second


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda a: a[::-1], TimeAxisError),
        (lambda a: a[[0, 0, *range(10)]], TimeAxisError),
        (lambda a: a.rename(init="start"), AxisError),
        (lambda a: a.assign_coords(lead=[2, 3, 4]), GridMismatchError),
        (lambda a: a.assign_attrs(units="m"), UnitsError),
        (lambda a: a.drop_attrs(), UnitsError),
        (lambda a: a[:4], MissingDataError),
        (lambda a: a.assign_coords(init=xr.date_range("2090", periods=120)), MissingDataError),
        (lambda a: a * np.nan, MissingDataError),
    ],
)
def test_what_cannot_be_paired(change, error):
    a = losses()
    with xr.set_options(keep_attrs=True), pytest.raises(error):
        paired_losses(a, change(a))


def test_wrong_options():
    a = losses()
    for wrong in ({"n": 10}, {"block": 0}, {"block": "long"}, {"confidence": 95.0}):
        with pytest.raises(ConfigError):
            compare(a, a, **wrong)
    with pytest.raises(ConfigError, match="skill"):
        compare(a, a, score="ratio")
    with pytest.raises(ConfigError):
        distinguishable(a, {})
    with pytest.raises(AxisError):
        bootstrap({}, lambda t: t)


def test_block_length_grows_with_memory_and_record():
    lengths = [block_length(red(phi, (200, 264), 1)).mean() for phi in (0.0, 0.5, 0.8, 0.9)]
    assert lengths[0] < 3
    assert lengths == sorted(lengths)
    # AR(1): the optimal circular length is (3/2)^(1/3) (2 phi / (1 - phi^2))^(2/3) n^(1/3)
    n, phi = 20_000, 0.5
    optimal = 1.5 ** (1 / 3) * (2 * phi / (1 - phi**2)) ** (2 / 3) * n ** (1 / 3)
    np.testing.assert_allclose(block_length(red(phi, (20, n), 2)).mean(), optimal, rtol=0.1)


def csi_difference(total):
    return total[..., 0] / total[..., 1] - total[..., 2] / total[..., 3]


def rare_events(records: int, n: int, share: float) -> np.ndarray:
    """Hits and events of two forecasts (records, n, 4): most starts of a red series have none."""
    rng = np.random.default_rng(0)
    wet = red(0.8, (records, n), seed=3) > np.quantile(red(0.8, (1, 9999), seed=4), 1 - share)
    events = np.where(wet, rng.poisson(20, (records, n)) + 1, 0)
    hits = [rng.binomial(events, p) for p in (0.30, 0.25)]
    return np.stack([hits[0], events, hits[1], events], -1).astype(float)


def test_rare_events_have_no_spread_in_some_resamples():
    """Where only a few starts have events, a resample may hold one alone: no standard error."""
    found = Bootstrap(n=499).run(rare_events(400, 25, 0.2), csi_difference)
    there = np.isfinite(found[:, 1])
    width, covered = found[:, 2] - found[:, 1], abs(found[:, 0] - 0.05) <= found[:, 2] - found[:, 0]
    plain = found[:, 7] == 0
    assert there.mean() > 0.4
    assert plain.mean() > 0.1
    assert (width[plain] < 2).all()  # it was millions
    assert covered[there].mean() > 0.92
    assert covered[plain].mean() > 0.9
    np.testing.assert_array_equal(np.isnan(found[:, 7]), ~there)


def test_expanded_percentile_interval_by_hand():
    """Five of 25 starts have events, four of them alike: quantiles of the same resamples."""
    x = np.zeros((1, 25, 4))
    x[0, 2:6], x[0, 17] = (6, 20, 5, 20), (8, 20, 6, 20)
    found = Bootstrap(n=2000, block=1).run(x, csi_difference)[0]
    drawn = np.random.default_rng([0, 1]).integers(0, 25, (2000, 25))
    with np.errstate(invalid="ignore"):
        away = abs(csi_difference(x[0][drawn].sum(1)) - found[0])
    away[np.isnan(away)] = np.inf
    wider = t_of_student.ppf(0.975, 24) / norm.ppf(0.975) * np.sqrt(25 / 24)
    half = wider * np.quantile(away, 0.95, method="higher")
    np.testing.assert_allclose(found[1:3], [found[0] - half, found[0] + half])
    np.testing.assert_allclose(found[4], (1 + (wider * away >= found[0]).sum()) / 2001)
    assert found[7] == 0


# -- tests without resampling ---------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "method"), [(1, "HLN"), (3, "HLN"), (1, "HG"), (3, "HG")])
def test_diebold_mariano_as_scores(steps, method):
    scores = pytest.importorskip("scores.stats.statistical_tests")
    a, b = losses(leads=4), losses(leads=4, seed=9, factor=1.2)
    variance = {"HLN": "harvey", "HG": "hering"}[method]
    ours = diebold_mariano(a, b, steps=steps, variance=variance)
    series = (a - b).transpose("lead", "init").drop_attrs()
    theirs = scores.diebold_mariano(
        series.assign_coords(h=("lead", [steps] * 4)),
        "lead",
        "h",
        method=method,
        statistic_distribution="t",
    )
    tolerance = 1e-9 if method == "HLN" else 2e-3  # theirs stops at an iterative fit
    np.testing.assert_allclose(ours.statistic, theirs.dm_test_stat, rtol=tolerance)
    np.testing.assert_allclose(ours.value, theirs["mean"], rtol=1e-12)


def test_diebold_mariano_of_one_step_is_the_t_test():
    a, b = losses(), losses(seed=9)
    ours = diebold_mariano(a, b)
    np.testing.assert_allclose(ours.p_value, ttest_1samp(a - b, 0.0).pvalue, rtol=1e-9)


def test_diebold_mariano_by_lead_and_lazily():
    a, b = losses(), losses(seed=9)
    b[5, 1] = np.nan
    lead = a.lead
    whole = diebold_mariano(a, b, steps=lead)
    lazy = diebold_mariano(a.chunk(init=11, lead=2), b.chunk(), steps=lead, variance="harvey")
    assert lazy.p_value.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), whole)
    assert whole.n.values.tolist() == [120, 119, 120]
    single = diebold_mariano(a, b, steps=3)
    assert whole.statistic[2] == single.statistic[2]
    assert whole.statistic[0] != single.statistic[0]


def test_hering_keeps_the_level_where_harvey_needs_the_horizon():
    """Differences with a memory of their own: the fitted variance rejects far less often."""
    a, b = (
        xr.DataArray(red(0.7, (400, 200), seed).T ** 2, dims=("init", "case")) for seed in (1, 2)
    )
    naive = (diebold_mariano(a, b).p_value < 0.05).mean()
    fitted = (diebold_mariano(a, b, variance="hering").p_value < 0.05).mean()
    assert naive > 0.12
    assert fitted < 0.1


def test_diebold_mariano_wrong_input():
    a = losses()
    for wrong in (
        {"variance": "white"},
        {"steps": 0},
        {"steps": xr.DataArray([1.5, 2, 3], dims="lead")},
    ):
        with pytest.raises(ConfigError):
            diebold_mariano(a, a, **wrong)
    assert np.isnan(diebold_mariano(a, a).statistic).all()
    assert np.isnan(diebold_mariano(a, 2 * a, steps=120).p_value).all()


def test_sign_test_as_xskillscore():
    golden = np.load(DATA / "significance.npz")
    f1, f2, obs = (xr.DataArray(golden[name], dims="init") for name in ("st_f1", "st_f2", "st_obs"))
    found = sign_test(abs(f1 - obs), abs(f2 - obs))
    np.testing.assert_array_equal(found.walk, golden["sign_test_walk::xskillscore"])
    np.testing.assert_allclose(found.bound, golden["sign_test_confidence::xskillscore"], rtol=1e-12)
    np.testing.assert_array_equal(found.distinguishable, np.abs(found.walk) > found.bound)
    with pytest.raises(ConfigError):
        sign_test(f1, f2, confidence=95)


def test_sign_test_is_lazy_and_skips_missing():
    a, b = losses(), losses(seed=1)
    a[3] = np.nan
    whole, lazy = sign_test(a, b), sign_test(a.chunk(init=7), b)
    assert lazy.walk.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), whole)
    assert (whole.walk[3] == whole.walk[2]).all()
    assert (whole.bound[3] == whole.bound[2]).all()


def by_hand(p: np.ndarray, rate: float) -> tuple[np.ndarray, float]:
    known = np.sort(p[~np.isnan(p)])
    below = np.flatnonzero(known <= rate * np.arange(1, known.size + 1) / known.size)
    threshold = known[below[-1]] if below.size else 0.0
    return (p <= threshold) & (below.size > 0), threshold


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_field_significance_by_hand(rate):
    rng = np.random.default_rng(4)
    p = rng.uniform(size=(3, 20, 30))
    p[:, :5] = rng.uniform(0, 0.01, (3, 5, 30))
    p[:, 7] = np.nan
    field = xr.DataArray(p, dims=("lead", "lat", "lon"))
    found = field_significance(field, rate=rate, dim=("lat", "lon"))
    for lead in range(3):
        mask, threshold = by_hand(p[lead], rate)
        np.testing.assert_array_equal(found.significant[lead], mask)
        assert found.threshold[lead] == threshold
    assert found.n.values.tolist() == [570] * 3
    lazy = field_significance(field.chunk(lat=4, lead=1), rate=rate, dim=("lat", "lon"))
    assert lazy.significant.chunks is not None
    xr.testing.assert_equal(lazy.compute(), found)
    together = field_significance(field, rate=rate)
    np.testing.assert_array_equal(together.significant, by_hand(p, rate)[0])


def test_no_signal_no_field_significance():
    p = xr.DataArray(np.random.default_rng(0).uniform(size=(400, 200)), dims=("map", "cell"))
    found = field_significance(p, rate=0.05, dim="cell")
    assert found.significant.any("cell").mean() < 0.09  # one by one it would be every map
    assert (found.threshold.where(~found.significant.any("cell"), 0) == 0).all()


def test_field_significance_wrong_input():
    p = xr.DataArray([0.1, 1.2], dims="x")
    for wrong, options in ((p, {}), (p / 2, {"rate": 5}), (p / 2, {"dim": ()})):
        with pytest.raises(ConfigError):
            field_significance(wrong, **options)
    with pytest.raises(AxisError):
        field_significance(p / 2, dim="y")
    empty = field_significance(p * np.nan)
    assert not empty.significant.any()
    assert empty.n == 0
