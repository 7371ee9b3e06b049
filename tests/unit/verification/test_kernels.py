"""Kernels on plain arrays: against other libraries, slow definitions, and each other."""

from __future__ import annotations

import itertools
import sys
import tracemalloc

import numpy as np
import properscoring
import pytest
import scores
import scoringrules
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.errors import AxisError, ConfigError, DataTypeError, MissingDependencyError
from xearth.verification.kernels import fast
from xearth.verification.kernels.ensemble import (
    contingency,
    crps_ensemble,
    ensemble_parts,
    gini,
    sort_members,
)
from xearth.verification.kernels.network import sorting_network

ENGINES = ("numpy", "numba")
ESTIMATORS = ("ensemble", "fair")


def sample(members, points, *, missing=0.0, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((members, *points)).astype(dtype)
    y = rng.standard_normal(points).astype(dtype)
    x[rng.random(x.shape) < missing] = np.nan
    y[rng.random(y.shape) < missing] = np.nan
    return x, y


def by_definition(x, y, estimator):
    """The CRPS of one point, all pairs of known members written out."""
    x = x[~np.isnan(x)].astype(float)
    size = len(x)
    pairs = size * size if estimator == "ensemble" else size * (size - 1)
    if np.isnan(y) or pairs == 0:
        return np.nan
    return np.abs(x - y).mean() - np.abs(x[:, None] - x).sum() / (2 * pairs)


def by_quadrature(x, y):
    """The integral of (F - step)^2, exactly, interval by interval."""
    knots = np.sort([*x, y])
    middle = (knots[1:] + knots[:-1]) / 2
    steps = (np.asarray(x)[:, None] <= middle).mean(axis=0) - (y <= middle)
    return (steps**2 * np.diff(knots)).sum()


# ---- sorting -------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", range(1, 13))
def test_a_network_sorts_all_zeros_and_ones_hence_everything(rows):
    table = np.array(list(itertools.product((0, 1), repeat=rows))).T.reshape(rows, -1)
    for a, b in sorting_network(rows):
        assert 0 <= a < b < rows
        table[[a, b]] = np.minimum(table[a], table[b]), np.maximum(table[a], table[b])
    assert (np.diff(table, axis=0) >= 0).all()


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(13, 130), ones=st.integers(0, 130), seed=st.integers(0, 99))
def test_larger_networks_sort_zeros_and_ones(rows, ones, seed):
    row = (np.arange(rows) < ones).astype(int)
    table = np.random.default_rng(seed).permuted(np.tile(row, (64, 1)), axis=1).T
    for a, b in sorting_network(rows):
        table[[a, b]] = np.minimum(table[a], table[b]), np.maximum(table[a], table[b])
    assert (np.diff(table, axis=0) >= 0).all()


def test_sizes_of_networks():
    assert [len(sorting_network(n)) for n in (0, 1, 2, 4, 8, 10, 16, 51, 64)] == [
        *(0, 0, 1, 5, 19, 32, 63, 415, 543)
    ]
    with pytest.raises(ConfigError, match="found -1"):
        sorting_network(-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 5), (7,), (51, 3, 700), (10, 70_000), (101, 40), (130, 900)])
def test_sort_members_is_a_sort(shape, dtype):
    d = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    d[-1, ...] = np.inf
    before, out = d.copy(), np.empty_like(d)
    np.testing.assert_array_equal(sort_members(d), np.sort(d, axis=0))
    assert sort_members(d, out) is out
    np.testing.assert_array_equal(out, np.sort(d, axis=0))
    np.testing.assert_array_equal(d, before)


@pytest.mark.parametrize("members", [1, 2, 5, 8])
def test_gini_is_the_sum_over_pairs(members):
    d = np.sort(np.random.default_rng(2).standard_normal((members, 30)), axis=0)
    pairs = np.abs(d[:, None] - d[None]).sum(axis=(0, 1)) / 2
    np.testing.assert_allclose(gini(d, members), pairs, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(gini(d, np.full(30, members)), pairs, rtol=1e-12, atol=1e-15)
    some = np.concatenate([d, np.full((2, 30), np.inf)])
    np.testing.assert_allclose(gini(some, np.full(30, members)), pairs, rtol=1e-12, atol=1e-15)


# ---- CRPS ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("members", [1, 2, 10, 51, 105])
def test_crps_ensemble_agrees_with_properscoring(members, engine):
    x, y = sample(members, (40, 30))
    ours = crps_ensemble(x, y, estimator="ensemble", engine=engine)
    np.testing.assert_allclose(ours, properscoring.crps_ensemble(y, x, axis=0), rtol=1e-12)
    for point in [(0, 0), (39, 29)]:
        assert ours[point] == pytest.approx(by_quadrature(x[(..., *point)], y[point]), rel=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_crps_fair_agrees_with_scoringrules(engine):
    x, y = sample(21, (300,))
    theirs = scoringrules.crps_ensemble(y, x, m_axis=0, estimator="fair", backend="numpy")
    ours = crps_ensemble(x, y, estimator="fair", engine=engine)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_float32_loses_less_than_a_millionth(estimator, offset, engine):
    x, y = sample(51, (20_000,), dtype=np.float32)
    x, y = x + np.float32(offset), y + np.float32(offset)
    ours = crps_ensemble(x, y, estimator=estimator, engine=engine)
    exact = crps_ensemble(x.astype(float), y.astype(float), estimator=estimator)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, exact, rtol=1e-6)
    np.testing.assert_allclose(ensemble_parts(x - y).crps(estimator), exact, rtol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    members=st.integers(1, 12),
    points=st.lists(st.integers(1, 6), max_size=3),
    axis=st.integers(0, 3),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
    dtype=st.sampled_from([np.float32, np.float64]),
    estimator=st.sampled_from(ESTIMATORS),
    order=st.sampled_from("CF"),
    seed=st.integers(0, 999),
)
def test_any_axis_any_missing_members_any_engine(
    members, points, axis, missing, dtype, estimator, order, seed
):
    x, y = sample(members, tuple(points), missing=missing, dtype=dtype, seed=seed)
    expected = np.array([by_definition(x[(..., *i)], y[i], estimator) for i in np.ndindex(y.shape)])
    expected = expected.reshape(y.shape)
    axis = min(axis, len(points))
    moved = np.array(np.moveaxis(x, 0, axis), order=order)
    tolerance = {"rtol": 2e-6, "atol": 2e-6} if dtype == np.float32 else {"atol": 1e-13}
    for engine in ENGINES:
        got = crps_ensemble(moved, y, axis=axis, estimator=estimator, engine=engine)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, **tolerance)
    parts = ensemble_parts(x - y)
    np.testing.assert_allclose(parts.crps(estimator), expected, **tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("members", [1, 3, 10, 51])
def test_both_engines_agree_to_the_last_bit_without_missing_members(members, dtype):
    x, y = sample(members, (7, 901), dtype=dtype)
    y[:, :100] = np.nan
    for estimator in ESTIMATORS:
        a, b = (crps_ensemble(x, y, estimator=estimator, engine=engine) for engine in ENGINES)
        np.testing.assert_array_equal(a, b)


def test_a_point_does_not_depend_on_the_block_it_falls_into():
    x, y = sample(13, (5, 30_000), dtype=np.float32, missing=0.01)
    for engine in ENGINES:
        whole = crps_ensemble(x, y, estimator="fair", engine=engine)
        cut = [
            crps_ensemble(x[:, k, i : i + 777], y[k, i : i + 777], estimator="fair", engine=engine)
            for k in range(5)
            for i in range(0, 30_000, 777)
        ]
        np.testing.assert_array_equal(np.concatenate(cut), whole.reshape(-1))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_infinite_deviations_make_an_infinite_score(estimator, engine):
    inf, nan = np.inf, np.nan
    x = np.array([[inf, -inf, inf, 1, inf, nan], [1, 2, -inf, 2, nan, inf], [0, 1, 2, 3, 0, nan]])
    y = np.array([0.5, 0.5, 0.5, inf, 0.5, inf])
    score = crps_ensemble(x, y, estimator=estimator, engine=engine)
    np.testing.assert_array_equal(score, [inf, inf, inf, inf, inf, nan])
    assert properscoring.crps_ensemble(y[0], x[:, 0]) == inf


@pytest.mark.parametrize("engine", ENGINES)
def test_types_and_broadcasting(engine):
    x, y = sample(4, (3, 5), dtype=np.float32)
    same = crps_ensemble(x, y[0], estimator="fair", engine=engine)
    np.testing.assert_array_equal(
        same, crps_ensemble(x, np.tile(y[0], (3, 1)), estimator="fair", engine=engine)
    )
    assert crps_ensemble(x, y.astype(float), estimator="fair", engine=engine).dtype == float
    whole = np.arange(12).reshape(4, 3)
    counted = crps_ensemble(whole, np.array([1, 2, 3]), estimator="ensemble", engine=engine)
    np.testing.assert_allclose(counted, properscoring.crps_ensemble([1, 2, 3], whole, axis=0))
    swapped = x.astype(">f4")
    np.testing.assert_array_equal(crps_ensemble(swapped, y[0], estimator="fair"), same)
    one = crps_ensemble([1.0, 2.0, 4.0], 3.0, estimator="ensemble", engine=engine)
    assert one == pytest.approx(2 / 3)
    assert crps_ensemble(x[:, :0], y[:0], estimator="fair", engine=engine).shape == (0, 5)


def test_what_cannot_be_scored_is_said():
    x, y = sample(4, (3, 5))
    with pytest.raises(AxisError, match="no axis 3"):
        crps_ensemble(x, y, axis=3, estimator="fair")
    with pytest.raises(AxisError, match=r"found \(4, 3\)"):
        crps_ensemble(x, x[:, :, 0], estimator="fair")
    with pytest.raises(AxisError, match="needs members"):
        crps_ensemble(x[:0], y, estimator="fair")
    with pytest.raises(AxisError, match="needs members"):
        ensemble_parts(x[:0])
    with pytest.raises(ConfigError, match="'pwm'"):
        crps_ensemble(x, y, estimator="pwm")
    with pytest.raises(ConfigError, match="'torch'"):
        crps_ensemble(x, y, estimator="fair", engine="torch")


def test_numba_is_asked_for_by_name_of_its_extra(monkeypatch):
    fast._compile.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    x, y = sample(4, (3, 5))
    with pytest.raises(MissingDependencyError, match=r"xearth\[fast\]"):
        crps_ensemble(x, y, estimator="fair", engine="numba")
    assert crps_ensemble(x, y, estimator="fair").shape == (3, 5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_crps_needs_no_copy_of_the_archive(axis, engine):
    x, y = sample(10, (4, 250_000), dtype=np.float32)  # 40 MB
    x = np.ascontiguousarray(np.moveaxis(x, 0, axis))
    crps_ensemble(x[:1, :4, :10], y[:1, :1, None][..., 0], axis=1, estimator="fair", engine=engine)
    tracemalloc.start()
    out = crps_ensemble(x, y, axis=axis, estimator="fair", engine=engine)
    extra = tracemalloc.get_traced_memory()[1] - out.nbytes
    tracemalloc.stop()
    assert extra < 6e6


# ---- parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_parts_are_the_moments_of_known_members(missing, engine):
    x, y = sample(9, (3, 500), missing=missing)
    d = x - y
    d[:, 0, :50] = np.nan
    d[4, 1] = np.nan
    parts = ensemble_parts(d, engine=engine)
    known = ~np.isnan(d)
    np.testing.assert_array_equal(parts.count, known.sum(axis=0))
    for i in np.ndindex(3, 500):
        v = d[(known[(..., *i)], *i)]
        pairs = np.abs(v[:, None] - v).sum() / 2
        mean, absolute = (v.mean(), np.abs(v).mean()) if v.size else (0, 0)
        variance = v.var(ddof=1) if v.size > 1 else 0
        got = [p[i] for p in (parts.mean, parts.variance, parts.absolute, parts.gini)]
        np.testing.assert_allclose(got, [mean, variance, absolute, pairs], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("engine", ENGINES)
def test_count_is_one_number_where_no_member_is_missing(engine):
    d = np.random.default_rng(0).standard_normal((5, 30))
    assert ensemble_parts(d, engine=engine).count == 5
    d[2, 7] = np.nan
    assert ensemble_parts(d, engine=engine).count.tolist() == [5] * 7 + [4] + [5] * 22


@pytest.mark.parametrize("engine", ENGINES)
def test_spread_of_equal_members_far_from_the_truth_is_zero(engine):
    parts = ensemble_parts(np.full((7, 20), 123.456, np.float32), engine=engine)
    np.testing.assert_allclose(parts.variance, 0.0, atol=1e-9)
    np.testing.assert_array_equal(parts.gini, 0.0)
    d = np.random.default_rng(0).standard_normal((7, 20)) + 1e6
    got = ensemble_parts(d, engine=engine).variance
    np.testing.assert_allclose(got, d.var(axis=0, ddof=1), rtol=1e-8)


# ---- events --------------------------------------------------------------------------------


def naive_counts(f, t, threshold, op, axes):
    known = ~(np.isnan(f.astype(float)) | np.isnan(t.astype(float)))
    a, b = ((x >= threshold if op == ">=" else x > threshold) & known for x in (f, t))
    return [c.sum(axis=axes) for c in (a & b, ~a & b, a & ~b, ~a & ~b & known)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("op", [">=", ">"])
@pytest.mark.parametrize("dtypes", ["f4f4", "f8f4", "u1u1", "i2u1", "f4u1"])
def test_counts_are_those_of_plain_numpy(dtypes, op, engine):
    rng = np.random.default_rng(3)
    f, t = (rng.integers(0, 256, (3, 4, 61, 70)).astype(dtypes[i : i + 2]) for i in (0, 2))
    for x in (f, t):
        if x.dtype.kind == "f":
            x[0, 1, :30], x[rng.random(x.shape) < 0.1] = np.nan, np.nan
    thresholds = [133, 16, 74.5, 255, 300, -1]
    for keep in [(), (1,), (1, 0), (-1,)]:
        got = contingency(f, t, thresholds, op=op, keep=keep, engine=engine)
        kept = [axis % 4 for axis in keep]
        axes = tuple(axis for axis in range(4) if axis not in kept)
        for k, threshold in enumerate(thresholds):
            expected = naive_counts(f, t, threshold, op, axes)
            for ours, theirs in zip(got, expected, strict=True):
                assert ours.dtype == np.int64
                np.testing.assert_array_equal(ours[k], theirs.T if kept == [1, 0] else theirs)


@pytest.mark.parametrize("engine", ENGINES)
def test_counts_are_those_of_scores(engine):
    rng = np.random.default_rng(4)
    f, t = (xr.DataArray(rng.gamma(0.5, 4, (5, 40, 50)), dims=("lead", "y", "x")) for _ in "ft")
    f[2, :5] = np.nan
    thresholds = [0.5, 2.0, 8.0]
    got = contingency(f.values, t.values, thresholds, keep=[0], engine=engine)
    for k, threshold in enumerate(thresholds):
        events = scores.categorical.ThresholdEventOperator(default_event_threshold=threshold)
        table = events.make_contingency_manager(f, t).transform(preserve_dims="lead").get_counts()
        names = ("tp_count", "fn_count", "fp_count", "tn_count")
        for ours, name in zip(got, names, strict=True):
            np.testing.assert_array_equal(ours[k], table[name].values)


def test_a_threshold_stored_in_single_precision_is_met():
    f = np.array([0.7, 0.1], np.float32)
    for engine in ENGINES:
        assert contingency(f, f, [0.7], engine=engine).hits == [1]
        assert contingency(f, f, [0.7], op=">", engine=engine).hits == [0]


@pytest.mark.parametrize("engine", ENGINES)
def test_infinite_values_are_above_or_below_every_threshold(engine):
    f = np.array([np.inf, -np.inf, np.inf, np.nan], np.float32)
    t = np.array([np.inf, np.inf, -np.inf, np.inf], np.float32)
    for threshold in (0.0, 1e300, -1e300):
        counts = contingency(f, t, [threshold], engine=engine)
        assert [int(c[0]) for c in counts] == [1, 1, 1, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_counting_needs_little_memory(engine):
    f = np.random.default_rng(0).random((12, 5, 384, 200), np.float32)
    contingency(f[0, 0], f[0, 0], [0.5], engine=engine)
    tracemalloc.start()
    contingency(f, f[::-1], [0.1, 0.5, 0.9], keep=[1], engine=engine)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_events_that_cannot_be_counted_are_said():
    f = np.zeros((2, 3))
    with pytest.raises(AxisError, match="one shape"):
        contingency(f, f[:1], [1.0])
    with pytest.raises(AxisError, match="axes to keep"):
        contingency(f, f, [1.0], keep=[0, -2])
    with pytest.raises(ConfigError, match="finite"):
        contingency(f, f, [np.nan])
    with pytest.raises(ConfigError, match="'<'"):
        contingency(f, f, [1.0], op="<")
    with pytest.raises(DataTypeError, match="bool"):
        contingency(f > 0, f, [1.0])
