"""Contingency tables and their scores: libraries, brute force, identities, laziness."""

from __future__ import annotations

import operator
from pathlib import Path

import cloudpickle
import dask
import numpy as np
import pandas as pd
import pytest
import scores.categorical
import xarray as xr
import xskillscore
from scipy.special import xlogy

from xearth.errors import AxisError, ConfigError, DataTypeError, GridMismatchError, UnitsError
from xearth.verification.align import observations_at
from xearth.verification.block import Block
from xearth.verification.evaluate import evaluate
from xearth.verification.one_pass.verify import verify
from xearth.verification.scores import categorical
from xearth.verification.scores.categorical import CATEGORICAL, categorical_scores
from xearth.verification.scores.contingency import OUTCOMES, contingency
from xearth.verification.scores.ensembles import Vote, combine_members
from xearth.verification.scores.event_scores import categorical_rows
from xearth.verification.thresholds import Thresholds

GOLDEN = np.load(Path(__file__).parents[2] / "data" / "events.npz")
LIMITS = [16, 74, 133, 160, 181, 219]
OVER = ("event", "y", "x")
# names of the stored scores that are not ours
NAMES = {"success_ratio": "sucr", "freq_bias": "frequency_bias", "peirce": "pss"}


def stored(name: str) -> xr.DataArray:
    dims = ("event", "time", "y", "x")
    return xr.DataArray(GOLDEN[name], dims=dims, attrs={"units": "1"})


@pytest.fixture(scope="module")
def table() -> xr.Dataset:
    return contingency(stored("cat_fc"), stored("cat_obs"), thresholds=LIMITS, dim=OVER)


def rain(seed: int, shape: tuple[int, ...], dims: tuple[str, ...]) -> xr.DataArray:
    values = np.random.default_rng(seed).gamma(0.5, 4.0, shape).astype(np.float32)
    return xr.DataArray(values, dims=dims, attrs={"units": "mm h-1"})


def test_counts_equal_those_of_the_original_evaluator(table):
    for peer in ("earthformer", "brute"):
        expected = GOLDEN[f"sevir_counts::{peer}"]
        for name, counts in zip(("hits", "misses", "false_alarms"), expected, strict=True):
            np.testing.assert_array_equal(table[name], counts)


@pytest.mark.parametrize("key", [k for k in GOLDEN.files if k.startswith("cat_") and "::" in k])
def test_scores_equal_those_of_the_libraries(table, key):
    name = key.removeprefix("cat_").split("::")[0]
    name = NAMES.get(name, name)
    found = categorical_scores(table, [name])[name]
    np.testing.assert_allclose(found, GOLDEN[key], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("op", [">=", ">"])
def test_every_score_equals_that_of_scores(op):
    theirs = {
        "csi": "critical_success_index",
        "pod": "probability_of_detection",
        "far": "false_alarm_ratio",
        "sucr": "success_ratio",
        "pofd": "probability_of_false_detection",
        "frequency_bias": "frequency_bias",
        "accuracy": "accuracy",
        "ets": "equitable_threat_score",
        "hss": "heidke_skill_score",
        "pss": "peirce_skill_score",
        "odds_ratio": "odds_ratio",
        "orss": "odds_ratio_skill_score",
        "f1": "f1_score",
        "sedi": "symmetric_extremal_dependence_index",
    }
    assert set(theirs) == set(CATEGORICAL)
    f, o = rain(0, (4, 20, 30), ("init", "y", "x")), rain(1, (4, 20, 30), ("init", "y", "x"))
    f, o = f.round(), o.round()
    for limit in (1.0, 4.0):
        manager = scores.categorical.ThresholdEventOperator(
            default_event_threshold=limit, default_op_fn=operator.ge if op == ">=" else operator.gt
        ).make_contingency_manager(f, o)
        manager = manager.transform(preserve_dims="init")
        for name, method in theirs.items():
            own = getattr(categorical, name)(
                f, o, thresholds=f"{limit} mm/h", op=op, dim=("y", "x")
            )
            expected = getattr(manager, method)()
            np.testing.assert_allclose(own.squeeze("threshold"), expected, rtol=1e-12)


def test_counts_equal_those_of_xskillscore():
    f, o = rain(2, (50, 40), ("y", "x")), rain(3, (50, 40), ("y", "x"))
    edges = np.array([-np.inf, 2.0, np.inf])
    theirs = xskillscore.Contingency(o, f, edges, edges, dim=("y", "x"))
    own = contingency(f, o, thresholds="2 mm/h")
    assert own.hits.item() == theirs.hits().item()
    assert own.misses.item() == theirs.misses().item()
    assert own.false_alarms.item() == theirs.false_alarms().item()
    assert own.correct_negatives.item() == theirs.correct_negatives().item()


def test_missing_pairs_are_in_none_and_counted():
    f, o = rain(4, (6, 8, 9), ("init", "y", "x")), rain(5, (6, 8, 9), ("init", "y", "x"))
    f[0, :2], o[0, 1:4], o[3, 5, 5] = np.nan, np.nan, np.nan
    found = contingency(f, o, thresholds=["1 mm/h", "4 mm/h"], dim=("y", "x"))
    absent = np.isnan(f.values) | np.isnan(o.values)
    np.testing.assert_array_equal(found.missing, absent.sum((1, 2)))
    for k, limit in enumerate((1.0, 4.0)):
        told, seen = f.values >= limit, o.values >= limit
        known = ~absent
        np.testing.assert_array_equal(found.hits[k], (told & seen & known).sum((1, 2)))
        np.testing.assert_array_equal(found.misses[k], (~told & seen & known).sum((1, 2)))
        np.testing.assert_array_equal(found.false_alarms[k], (told & ~seen & known).sum((1, 2)))
    total = sum(found[name] for name in OUTCOMES) + found.missing
    assert (total == 72).all()
    everything = contingency(f * np.nan, o, thresholds="1 mm/h")
    assert np.isnan(categorical_scores(everything).csi).all()
    assert everything.missing.item() == f.size


@pytest.mark.parametrize("dim", [(), "init", ("init", "y", "x"), None])
def test_short_and_long_tables_count_the_same(dim):
    f, o = rain(6, (40, 7, 9), ("init", "y", "x")), rain(7, (40, 7, 9), ("init", "y", "x"))
    f[3, 2, :4] = np.nan
    found = contingency(f, o, thresholds=["1 mm/h", "4 mm/h"], dim=dim)
    single = contingency(f, o, thresholds=["1 mm/h", "4 mm/h"], dim=())
    for name in OUTCOMES:
        rest = [d for d in single[name].dims if d not in found[name].dims]
        xr.testing.assert_equal(single[name].sum(rest), found[name])
        assert found[name].dtype == np.int64


def test_an_event_is_in_the_precision_of_the_data():
    values = xr.DataArray(np.array([0.7, 0.1], dtype=np.float32), dims="x")
    found = contingency(values, values.astype(np.float64).round(6), thresholds=[0.1, 0.7])
    assert found.hits.values.tolist() == [2, 1]
    assert found.misses.values.tolist() == found.false_alarms.values.tolist() == [0, 0]


def test_threshold_zero_and_strict_operator():
    f = xr.DataArray([-1.0, 0.0, 1.0], dims="x", attrs={"units": "degC"})
    o = f.copy(data=f.values + 273.15).assign_attrs(units="K")
    assert contingency(f, o, thresholds="0 degC").hits.item() == 2
    assert contingency(f, f, thresholds="0 degC", op=">").hits.item() == 1
    with pytest.raises(ConfigError, match="op must be"):
        contingency(f, f, thresholds="0 degC", op="<")


def test_undefined_scores_are_nan_and_perfect_ones_perfect():
    quiet = xr.DataArray(np.zeros(5), dims="x")
    table = contingency(quiet, quiet, thresholds=1)
    found = categorical_scores(table, list(CATEGORICAL))
    undefined = [name for name in found if np.isnan(found[name]).all()]
    assert set(undefined) == set(CATEGORICAL) - {"accuracy", "pofd"}
    mixed = xr.DataArray([0.0, 0.0, 2.0, 3.0], dims="x")
    perfect = categorical_scores(contingency(mixed, mixed, thresholds=1), list(CATEGORICAL))
    for name, facts in CATEGORICAL.items():
        if facts.perfect is not None:
            assert perfect[name].item() == facts.perfect


def test_sedi_has_its_limit_in_chance():
    h, m, f, c = 30.0, 10.0, 20.0, 40.0
    table = xr.Dataset(dict(zip(OUTCOMES, (h, m, f, c), strict=True)))
    p, q = h / (h + m), f / (f + c)
    top = xlogy(1, q) - xlogy(1, p) - np.log1p(-q) + np.log1p(-p)
    bottom = xlogy(1, q) + xlogy(1, p) + np.log1p(-q) + np.log1p(-p)
    assert categorical_scores(table, ["sedi"]).sedi.item() == pytest.approx(top / bottom, rel=1e-14)


def test_large_counts_do_not_overflow():
    table = xr.Dataset({name: np.int64(4 * 10**18 // 4) for name in OUTCOMES})
    assert categorical_scores(table, ["odds_ratio", "orss"]).odds_ratio.item() == 1.0


def test_results_are_labeled():
    f = rain(8, (3, 4, 5), ("init", "y", "x")).assign_coords(init=[10, 20, 30])
    found = categorical.csi(f, f, thresholds="0.5 m/day", dim=("y", "x"))
    assert found.dims == ("threshold", "init")
    assert found.init.values.tolist() == [10, 20, 30]
    assert found.threshold.attrs["units"] == "mm h-1"
    assert found.threshold.item() == pytest.approx(500 / 24)
    assert found.attrs["units"] == "1"
    assert found.attrs["event"] == "value >= threshold"
    assert "standard_name" not in found.attrs


@pytest.mark.parametrize("chunks", [{"init": 1}, {"y": 3, "x": 2}, {"init": 2, "y": 4, "x": 5}])
def test_lazy_and_equal_for_any_chunks(chunks):
    f, o = rain(9, (5, 8, 9), ("init", "y", "x")), rain(10, (5, 8, 9), ("init", "y", "x"))
    whole = contingency(f, o, thresholds=["1 mm/h", "4 mm/h"], dim=("init", "x"))
    with dask.config.set(scheduler=_fail):
        lazy = contingency(
            f.chunk(chunks), o.chunk({"y": 2}), thresholds=["1 mm/h", "4 mm/h"], dim=("init", "x")
        )
        lazy_scores = categorical_scores(lazy, ["csi", "hss"])
    assert lazy.hits.chunks is not None
    xr.testing.assert_identical(lazy.compute(), whole)
    xr.testing.assert_identical(lazy_scores.compute(), categorical_scores(whole, ["csi", "hss"]))


def _fail(*_, **__):
    raise AssertionError("computed")


def test_the_graph_grows_with_the_blocks_only():
    f, o = (rain(k, (40, 8, 9), ("init", "y", "x")).chunk({"init": 1}) for k in (11, 12))
    lazy = contingency(f, o, thresholds=[f"{k} mm/h" for k in range(1, 7)])
    tasks = len(lazy.hits.data.__dask_graph__())
    assert tasks < 40 * 5 + 20


def test_tasks_do_not_carry_the_fields():
    """A task that holds the whole graph would be sent to every worker, for every block."""
    f, o = (rain(k, (10, 40, 50), ("init", "y", "x")).chunk({"init": 1}) for k in (11, 12))
    lazy = contingency(f, o, thresholds="1 mm/h").hits.data
    tasks = [v for k, v in dict(lazy.__dask_graph__()).items() if "xarray-" not in str(k)]
    assert len(tasks) > 10
    assert max(len(cloudpickle.dumps(task)) for task in tasks) < 8000


def test_bad_pairs():
    f = rain(13, (3, 4), ("y", "x")).assign_coords(x=[0, 1, 2, 3])
    with pytest.raises(GridMismatchError):
        contingency(f, f.assign_coords(x=[0, 1, 2, 4]), thresholds="1 mm/h")
    with pytest.raises(UnitsError):
        contingency(f, f.assign_attrs(units="K"), thresholds="1 mm/h")
    with pytest.raises(UnitsError, match="'1 mm h-1'"):
        contingency(f, f, thresholds=1)
    with pytest.raises(AxisError):
        contingency(f, f, thresholds="1 mm/h", dim="z")
    with pytest.raises(GridMismatchError, match="differ in length"):
        contingency(f, f.drop_vars("x")[:2], thresholds="1 mm/h")
    for dtype in (complex, str, bool):
        with pytest.raises(DataTypeError, match=r"real numbers|events need numbers"):
            contingency(f.astype(dtype), f, thresholds="1 mm/h", dim="x")
    with pytest.raises(ConfigError, match="unknown scores"):
        categorical_scores(contingency(f, f, thresholds="1 mm/h"), ["skill"])
    with pytest.raises(ConfigError, match="correct_negatives"):
        categorical_scores(xr.Dataset({"hits": 1}))


# --- ensembles ------------------------------------------------------------------------------


@pytest.fixture
def ensemble() -> xr.DataArray:
    return rain(20, (5, 3, 6, 7), ("member", "init", "y", "x"))


def test_an_ensemble_needs_a_way_to_be_judged(ensemble):
    o = rain(21, (3, 6, 7), ("init", "y", "x"))
    with pytest.raises(ConfigError, match="5 members"):
        contingency(ensemble, o, thresholds="1 mm/h")
    with pytest.raises(AxisError, match="no member dimension"):
        contingency(o, o, thresholds="1 mm/h", ensemble="mean")
    with pytest.raises(ConfigError, match="must be one of"):
        combine_members(ensemble, "median")  # type: ignore[arg-type]


def test_members_are_pooled(ensemble):
    o = rain(21, (3, 6, 7), ("init", "y", "x"))
    pooled = contingency(ensemble, o, thresholds="3 mm/h", dim=("y", "x"), ensemble="members")
    single = [
        contingency(ensemble.isel(member=k), o, thresholds="3 mm/h", dim=("y", "x"))
        for k in range(5)
    ]
    xr.testing.assert_equal(pooled, sum(single[1:], start=single[0]))


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.6, 1.0])
@pytest.mark.parametrize("op", [">=", ">"])
def test_a_vote_is_a_fraction_of_the_members(ensemble, p, op):
    ensemble = ensemble.round()
    ensemble[1, 0, 2, :3] = np.nan
    o = xr.zeros_like(ensemble.isel(member=0, drop=True)) + 99
    reaches = operator.ge if op == ">=" else operator.gt
    known = (~np.isnan(ensemble.values)).sum(0)
    for limit in (1.0, 3.0):
        told = reaches(ensemble.values, limit).sum(0) / known >= p
        found = contingency(ensemble, o, thresholds=f"{limit} mm/h", op=op, ensemble=Vote(p))
        assert found.hits.item() == told.sum()


@pytest.mark.parametrize("p", [0.0, -0.1, 1.1])
def test_a_vote_is_above_zero(p):
    with pytest.raises(ConfigError):
        Vote(p)


def test_the_matched_mean_has_the_pattern_of_the_mean_and_the_values_of_the_members(ensemble):
    found = combine_members(ensemble, "matched mean")
    mean = ensemble.mean("member")
    for start in range(3):
        own, pattern = found[start].values.ravel(), mean[start].values.ravel()
        assert (np.argsort(own) == np.argsort(pattern)).all()
        pooled = np.sort(ensemble[:, start].values.ravel())[::-1][::5]
        np.testing.assert_array_equal(np.sort(own)[::-1], pooled)
    ensemble[2, 0, 0, 0] = np.nan
    assert np.isnan(combine_members(ensemble, "matched mean")[0, 0, 0])


@pytest.mark.parametrize("way", ["mean", "matched mean", "members", "first", Vote(0.5)])
def test_ways_are_lazy_and_keep_units_and_precision(ensemble, way):
    whole = combine_members(ensemble, way)
    with dask.config.set(scheduler=_fail):
        lazy = combine_members(ensemble.chunk(member=2, y=3), way)
    assert lazy.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-6)
    assert whole.attrs["units"] == "mm h-1"
    assert whole.dtype == np.float32


# --- rows for one pass --------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CATEGORICAL))
def test_rows_give_the_same_scores(name):
    f, o = stored("cat_fc").astype(np.float32), stored("cat_obs").astype(np.float32)
    f[0, 1, :4] = np.nan
    row = next(row for row in categorical_rows(Thresholds((16.0, 133.0))) if row.name == name)
    own = evaluate(row, f, o, dim=OVER).transpose("threshold", "time")
    table = contingency(f, o, thresholds=[16, 133], dim=OVER)
    np.testing.assert_allclose(own, categorical_scores(table, [name])[name], rtol=1e-14)


def test_rows_judge_the_mean_of_the_known_members():
    members = np.array([[[2.0, np.nan]], [[4.0, 9.0]]])
    block = Block(members, np.array([[3.0, 1.0]]))
    rows = categorical_rows(Thresholds((3.0,)))
    counts = {s.name: s.observe(block, np.ones((1, 2)))["count"] for s in rows[0].statistics}
    assert [int(c.ravel()[0]) for c in counts.values()] == [1, 2, 1, 2]


@pytest.mark.parametrize("members", [1, 3])
def test_verify_counts_the_same(members):
    """One pass over many scores: the same thresholds, precision and mean of the members."""
    rng = np.random.default_rng(30)
    times = pd.date_range("2000-01", periods=24, freq="MS")
    lat = ("lat", np.arange(-10.0, 11.0, 5.0), {"units": "degrees_north"})
    lon = ("lon", np.arange(0.0, 40.0, 10.0), {"units": "degrees_east"})
    tenths = rng.random((24, 5, 4)).round(1).astype(np.float32)
    attrs = {"units": "mm"}
    obs = xr.DataArray(tenths, {"time": times, "lat": lat, "lon": lon}, ("time", "lat", "lon"))
    obs = obs.rename("rain").assign_attrs(attrs)
    values = rng.random((members, 12, 3, 5, 4)).round(1).astype(np.float32)
    lead = ("lead", np.arange(1, 4), {"units": "months"})
    coords = {"member": range(members), "init": times[:12], "lead": lead, "lat": lat, "lon": lon}
    f = xr.DataArray(values, coords, list(coords), "rain", attrs)
    f = f.isel(member=0, drop=True) if members == 1 else f
    found = verify(f, obs, scores=["csi", "hss"], thresholds=["0.7 mm", "0.3 mm"], by="lead")
    table = contingency(
        f,
        observations_at(f, obs).drop_vars("valid_time"),
        thresholds=["0.3 mm", "0.7 mm"],
        dim=("init", "lat", "lon"),
        ensemble=None if members == 1 else "mean",
    )
    for name, expected in categorical_scores(table, ["csi", "hss"]).items():
        np.testing.assert_allclose(found[name].transpose("threshold", "lead"), expected, rtol=1e-14)
