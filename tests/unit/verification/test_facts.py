"""What every score states about itself, held against what it computes."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.errors import ConfigError
from xearth.verification.block import Block
from xearth.verification.evaluate import evaluate
from xearth.verification.facts import ScoreFacts
from xearth.verification.scores.table import PARAMETRIZED, SCORES, Parameters, facts, names, row
from xearth.verification.statistics import Mean
from xearth.verification.thresholds import Thresholds

MEMBERS = 5
OVER = ("init", "lat", "lon")
# ranks and intervals of an ensemble with a missing member are those of another ensemble
WHOLE = {"rank_histogram", "rank_flatness", "interval_coverage", "interval_width"}


def rows(members=MEMBERS):
    parameters = Parameters(
        thresholds=Thresholds((-0.5, 0.25, 1.0), "K"),
        members=members,
        levels=(0.2, 0.5),
        reference=(0.7, 0.4, 0.2),
    )
    return [row(name, parameters) for name in names()]


def each(*scores):
    return pytest.mark.parametrize("score", scores, ids=lambda score: score.name)


ALL = each(*rows())
ENSEMBLES = each(*(score for score in rows() if score.facts.members))


def sample(members=MEMBERS, *, seed=0):
    random = np.random.default_rng(seed)
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    dims = ("init", "lead", "lat", "lon")
    truth = random.standard_normal((12, 2, 3, 4))
    noise = random.standard_normal((members, *truth.shape))
    f = xr.DataArray(0.7 * truth + 0.6 * noise, dims=("member", *dims), attrs=attrs)
    return f, xr.DataArray(truth, dims=dims, attrs=attrs)


def weights(o):
    return xr.DataArray(np.cos(np.deg2rad([-60.0, 0.0, 45.0])), dims="lat")


def forecast_for(score, f):
    """Return the ensemble and its member dimension, or a single forecast."""
    return (f, "member") if score.facts.members else (f.isel(member=0), None)


def value(score, f, o, dim=OVER, **changes):
    f, member = forecast_for(score, f)
    return evaluate(score, f, o, dim=dim, member=member, **changes)


@ALL
def test_a_perfect_forecast(score):
    _, o = sample()
    f = o.expand_dims(member=MEMBERS)
    found = value(score, f, o)
    if score.facts.perfect is not None:  # 0.0 is a perfect value
        np.testing.assert_allclose(found, score.facts.perfect, atol=1e-12)
    else:
        # what has no perfect value says so: nothing is better or worse, or nothing is best
        assert score.facts.better != "nearest"


@ALL
@pytest.mark.parametrize("seed", range(3))
def test_bounds(score, seed):
    f, o = sample(seed=seed)
    for found in (value(score, f, o), value(score, -3 * f, o, dim="init")):
        known = found.values[~np.isnan(found.values)]
        assert known.size
        assert known.min() >= score.facts.lower - 1e-12
        assert known.max() <= score.facts.upper + 1e-12


# noise may have the right mean and number of events, and flat ranks
@each(*(s for s in rows() if s.name not in ("bias", "frequency_bias", "rank_flatness")))
def test_a_forecast_of_noise_is_no_better_than_a_good_one(score):
    f, o = sample()
    noise = f.copy(data=np.random.default_rng(9).standard_normal(f.shape) * 2)
    good, bad = value(score, f, o, dim=None), value(score, noise, o, dim=None)
    if score.facts.better == "lower":
        assert (good < bad).all()
    elif score.facts.better == "higher":
        assert (good > bad).all()
    elif score.facts.better == "nearest":
        assert (abs(good - score.facts.perfect) < abs(bad - score.facts.perfect)).all()


@ALL
def test_the_unit_of_the_result(score):
    found = value(score, *sample())
    assert found.attrs["units"] == {0: "1", 1: "K", 2: "K2"}[score.facts.unit_power]
    assert found.attrs["long_name"] == score.facts.long_name
    assert "standard_name" not in found.attrs
    assert found.name == score.name
    f, o = sample()
    double = value(score, (2 * f).assign_attrs(f.attrs), (2 * o).assign_attrs(o.attrs))
    if score.name in SCORES and score.name != "log_score_gaussian":
        np.testing.assert_allclose(double, 2**score.facts.unit_power * value(score, f, o))


@ALL
def test_weights_scale_out_and_count(score):
    f, o = sample()
    w = weights(o)
    found = value(score, f, o, weights=w)
    np.testing.assert_allclose(value(score, f, o, weights=7 * w), found, rtol=1e-12, atol=1e-14)
    ones = value(score, f, o, weights=w * 0 + 1)
    np.testing.assert_allclose(ones, value(score, f, o), rtol=1e-12, atol=1e-14)
    # a weight of 2 is a point twice, of 0 none
    twice = xr.concat([f.isel(lat=[0, 1]), f.isel(lat=[1])], "lat")
    truth = xr.concat([o.isel(lat=[0, 1]), o.isel(lat=[1])], "lat")
    two = value(score, f, o, weights=xr.DataArray([1.0, 2.0, 0.0], dims="lat"))
    if score.name in PARAMETRIZED and row(score.name, _parameters()).statistics[0].parts == (
        "count",
    ):
        twice, truth = twice.isel(lat=[0, 1]), truth.isel(lat=[0, 1])  # counts know no weights
    np.testing.assert_allclose(two, value(score, twice, truth), rtol=1e-10, atol=1e-13)


def _parameters():
    return Parameters(
        thresholds=Thresholds((-0.5, 0.25, 1.0)), members=MEMBERS, reference=(0.7, 0.4, 0.2)
    )


@ENSEMBLES
def test_members_in_any_order_and_place(score):
    f, o = sample()
    expected = value(score, f, o)
    turned = value(score, f.isel(member=[3, 0, 4, 2, 1]), o)
    np.testing.assert_allclose(turned, expected, rtol=1e-12, atol=1e-14)
    moved = value(score, f.transpose("lat", "member", "lead", "init", "lon"), o)
    moved = moved.transpose(*expected.dims)
    np.testing.assert_allclose(moved, expected, rtol=1e-12, atol=1e-14)


@ALL
def test_points_without_a_truth_do_not_count(score):
    f, o = sample()
    holes = o.where(~o.lat.isin(1) if "lat" in o.coords else xr.DataArray([1, 0, 1], dims="lat"))
    kept = value(score, f.isel(lat=[0, 2]), o.isel(lat=[0, 2]))
    np.testing.assert_allclose(value(score, f, holes), kept, rtol=1e-12, atol=1e-14)
    nothing = value(score, f, o.where(False))
    assert bool(nothing.isnull().all())


@ENSEMBLES
def test_missing_members_are_left_out_point_by_point(score):
    f, o = sample()
    holes = f.where(xr.DataArray([1, 1, 0, 1, 1], dims="member"))
    found = value(score, holes, o)
    if score.name in WHOLE:
        assert bool(found.isnull().all())
        return
    (smaller,) = (one for one in rows(MEMBERS - 1) if one.name == score.name)
    kept = value(smaller, f.isel(member=[0, 1, 3, 4]), o)
    if found.shape == kept.shape:  # classes of probability are those of the ensemble
        np.testing.assert_allclose(found, kept, rtol=1e-10, atol=1e-12)


@ALL
@pytest.mark.parametrize("chunks", [{"init": 5, "lat": 2}, {"member": 2, "lead": 1, "lon": 3}])
def test_any_chunks_give_the_same_lazily(score, chunks):
    f, o = sample()
    w = weights(o)
    whole = value(score, f, o, weights=w)
    lazy = value(score, f.chunk(chunks), o.chunk({"init": 4}), weights=w)
    assert isinstance(lazy.data, dask.array.Array)
    np.testing.assert_allclose(lazy.compute(), whole, rtol=1e-12, atol=1e-14)


def block(seed, cases=6, cells=7):
    random = np.random.default_rng(seed)
    members = random.standard_normal((MEMBERS, cases, cells)).round(1)
    truth = random.standard_normal((cases, cells)).round(1)
    members[0, 1, :3], truth[2, 4] = np.nan, np.nan
    return Block(members, truth, random.standard_normal((cases, cells)))


def states(parts, axis, statistic):
    stacked = {name: np.stack([part[name] for part in parts], axis=axis) for name in parts[0]}
    return statistic.combine(stacked, axis)


STATISTICS = {
    statistic.name: statistic for score in rows() for statistic in score.statistics
}.values()


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda statistic: statistic.name)
@settings(max_examples=8, deadline=None)
@given(cut=st.integers(1, 5), seed=st.integers(0, 9))
def test_states_add_in_any_order(statistic, cut, seed):
    whole = block(seed)
    w = np.random.default_rng(seed).random((2, whole.truth.shape[1]))
    state = statistic.observe(whole, w)
    cases = [{name: part[k] for name, part in state.items()} for k in range(len(whole.truth))]
    left, right = states(cases[:cut], 0, statistic), states(cases[cut:], 0, statistic)
    together = states(cases, 0, statistic)
    for pair in ([left, right], [right, left]):
        for name, part in states(pair, 0, statistic).items():
            np.testing.assert_allclose(part, together[name], rtol=1e-12, atol=1e-12)
    # cells: the sum over the cases of each, with weights of one
    cells = statistic.observe_cells(whole)
    summed = states(cases, 0, statistic)
    ones = statistic.observe(whole, np.ones((1, whole.truth.shape[1])))
    if "sum" in statistic.parts:
        np.testing.assert_allclose(cells["sum"].sum(0), ones["sum"].sum((0, 1)), atol=1e-10)
    assert summed.keys() == cells.keys()


SHORT_CUTS = [one for one in STATISTICS if isinstance(one, Mean) and type(one) is not Mean]


@pytest.mark.parametrize("statistic", SHORT_CUTS, ids=lambda statistic: statistic.name)
def test_short_cuts_give_the_state_of_the_plain_mean(statistic):
    plain = Mean(statistic.name, statistic.term, statistic.valid, statistic.dims)
    w = np.random.default_rng(1).random((3, 7))
    for own, other in (
        (statistic.observe(block(3), w), plain.observe(block(3), w)),
        (statistic.observe_cells(block(3)), plain.observe_cells(block(3))),
    ):
        assert own.keys() == other.keys()
        for name, part in own.items():
            assert part.shape == other[name].shape
            np.testing.assert_allclose(part, other[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda statistic: statistic.name)
@pytest.mark.parametrize(("cases", "cells"), [(0, 7), (6, 0)])
def test_nothing_adds_nothing(statistic, cases, cells):
    whole, empty = block(4), block(4)
    nothing = Block(
        empty.members[:, :cases, :cells],
        empty.truth[:cases, :cells],
        empty.climatology[:cases, :cells],
    )
    w = np.random.default_rng(0).random((2, 7))
    some, none = statistic.observe(whole, w), statistic.observe(nothing, w[:, :cells])
    for name, part in none.items():
        assert part.shape == (cases, *some[name].shape[1:])
        assert not part.any()


def test_facts_are_complete_and_names_are_unique():
    assert len(set(names())) == len(names())
    for score in rows():
        assert score.facts.long_name
        assert score.facts.reference, score.name
        assert facts(score.name).name == score.name


def test_facts_that_contradict_themselves_are_refused():
    with pytest.raises(ConfigError, match="lower < upper"):
        ScoreFacts(name="x", long_name="x", lower=1.0, upper=0.0)
    with pytest.raises(ConfigError, match="outside"):
        ScoreFacts(name="x", long_name="x", lower=0.0, perfect=-1.0)
    with pytest.raises(ConfigError, match="nearest"):
        ScoreFacts(name="x", long_name="x", better="nearest")


def test_unknown_and_incomplete_scores_say_what_to_do():
    with pytest.raises(ConfigError, match="Did you mean 'rmse'"):
        row("rmsee")
    with pytest.raises(ConfigError, match="Did you mean 'crps_ensemble' or 'crps_fair'"):
        row("crps")
    with pytest.raises(ConfigError, match="correlation"):
        facts("no such thing")
    with pytest.raises(ConfigError, match="'brier' needs thresholds"):
        row("brier")
    with pytest.raises(ConfigError, match="'rank_histogram' is one of ensembles"):
        row("rank_histogram")
    with pytest.raises(ConfigError, match="one for each of the 1 thresholds"):
        row("rps_skill", Parameters(thresholds=Thresholds((1.0,)), members=4))
    with pytest.raises(ConfigError, match="resolve central intervals up to"):
        row("interval_coverage", Parameters(members=4, levels=(0.9,)))


def test_fewer_members_than_a_score_needs():
    f, o = sample(members=1)
    with pytest.raises(ConfigError, match="needs 2 members"):
        evaluate(row("crps_fair"), f, o, member="member")
