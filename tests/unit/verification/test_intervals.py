from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import ConfigError, GridMismatchError, MissingDataError
from xearth.fields.regions import Box
from xearth.verification.align import observations_at
from xearth.verification.one_pass.intervals import differences, intervals, scale_of
from xearth.verification.one_pass.results import finish
from xearth.verification.one_pass.verify import accumulate
from xearth.verification.scores.table import SCORES
from xearth.verification.significance.bootstrap import bootstrap, compare

SOUTH, NORTH = Box(-9, 0, 190, 240, "south"), Box(0, 9, 190, 240, "north")
NAMES = ["rmse", "bias", "correlation", "crps_fair", "spread_skill_ratio"]


NEITHER = {name for name in NAMES if SCORES[name].facts.better is None}


def make(skill: float, seed: int, inits: int = 72, members: int | None = 4):
    """Forecasts (init, lead[, member], lat, lon) of a red field, and the truth (time, lat, lon)."""
    rng = np.random.default_rng(0)
    n = inits + 3
    time = xr.date_range("1990-01", periods=n, freq="MS")
    lat = xr.Variable("lat", np.arange(-8.0, 9, 4), {"units": "degrees_north"})
    lon = xr.Variable("lon", np.arange(192.5, 240, 5), {"units": "degrees_east"})
    field = rng.standard_normal((n, lat.size, lon.size)) + 1.5 * rng.standard_normal((n, 1, 1))
    for t in range(1, n):
        field[t] = 0.7 * field[t - 1] + 0.7 * field[t]
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    coords = {"time": ("time", time, {"standard_name": "time"}), "lat": lat, "lon": lon}
    truth = xr.DataArray(field, coords, ("time", "lat", "lon"), name="sst", attrs=attrs)
    noise = np.random.default_rng(seed)
    shape = (inits, 2, members or 1, lat.size, lon.size)
    errors = noise.standard_normal(shape) + noise.standard_normal((inits, 2, 1, 1, 1))
    leads = np.arange(1, 3)
    target = field[np.arange(inits)[:, None] + leads]
    values = skill * target[:, :, None] + (1.3 - skill) * errors
    lead = xr.Variable("lead", leads, {"units": "months", "standard_name": "forecast_period"})
    init = xr.Variable("init", time[:inits], {"standard_name": "forecast_reference_time"})
    member = xr.Variable("member", np.arange(members or 1), {"standard_name": "realization"})
    fc = xr.DataArray(
        values,
        {"init": init, "lead": lead, "member": member, "lat": lat, "lon": lon},
        ("init", "lead", "member", "lat", "lon"),
        name="sst",
        attrs=attrs,
    )
    return (fc if members else fc.isel(member=0, drop=True)), truth


def state(skill=0.8, seed=1, scores=NAMES, **options):
    fc, truth = make(skill, seed)
    return accumulate(fc, truth, scores, **options)


def test_scores_are_those_without_intervals():
    found = intervals(state(), n=200)
    exact = finish(state())
    xr.testing.assert_identical(found[list(exact)].drop_attrs(), exact.drop_attrs())
    for name in NAMES:
        lower, upper = found[f"{name}_lower"], found[f"{name}_upper"]
        assert ((lower < found[name]) & (found[name] < upper)).all()
        assert lower.attrs["units"] == found[name].attrs["units"]
    assert found.attrs["confidence"] == 0.95


@pytest.mark.parametrize("name", sorted(set(NAMES) | {"acc", "nino34_correlation", "nino34_rmse"}))
def test_value_of_the_resampled_formula_is_the_score(name):
    """The middle of each interval is computed from linear sums: it must be the score itself."""
    one = state(scores=[name])
    found, exact = intervals(one, n=100), finish(one)[name]
    there, back = scale_of(one.scores[0].facts)
    middle = back((there(found[f"{name}_lower"]) + there(found[f"{name}_upper"])) / 2)
    np.testing.assert_allclose(middle, exact, rtol=1e-9)


def test_rmse_as_bootstrap_of_losses():
    fc, truth = make(0.8, 1, members=None)
    found = intervals(accumulate(fc, truth, ["rmse"], weights=None), n=300)
    loss = ((fc - observations_at(fc, truth)) ** 2).mean(("lat", "lon"))
    direct = bootstrap(
        {"loss": loss, "n": xr.ones_like(loss)}, lambda t: np.log(t["loss"] / t["n"]) / 2, n=300
    )
    np.testing.assert_allclose(found.rmse_lower, np.exp(direct.lower), rtol=1e-6)
    np.testing.assert_allclose(found.rmse_upper, np.exp(direct.upper), rtol=1e-6)


def test_difference_as_compare_of_losses():
    (good, truth), (bad, _) = make(0.8, 1, members=None), make(0.5, 2, members=None)
    a, b = (accumulate(fc, truth, ["mse", "rmse"], weights=None) for fc in (good, bad))
    found = differences(a, b, n=300)
    losses = [
        ((fc - observations_at(fc, truth)) ** 2).mean(("lat", "lon")).assign_attrs(units="K2")
        for fc in (good, bad)
    ]
    for name, kind in (("mse", "mean"), ("rmse", "root")):
        direct = compare(*losses, score=kind, n=300)
        np.testing.assert_allclose(found[name], direct.value, rtol=1e-9)
        np.testing.assert_allclose(found[f"{name}_lower"], direct.lower, rtol=1e-6)
        np.testing.assert_allclose(found[f"{name}_p_value"], direct.p_value, rtol=1e-6)
    assert found.rmse_verdict.values[0].startswith("yes, better (p = 0.0")
    assert found.rmse_verdict.values[0].endswith("n = 72)")
    xr.testing.assert_allclose(found.rmse, finish(a).rmse - finish(b).rmse, rtol=1e-9)


def test_the_better_side_of_every_kind_of_score():
    scores = ["rmse", "correlation", "spread_skill_ratio", "acc", "nino34_correlation"]
    better, worse = state(0.9, 1, scores), state(0.4, 2, scores)
    found = differences(better, worse, n=200)
    back = differences(worse, better, n=200)
    for name in scores:
        words, reverse = found[f"{name}_verdict"].values, back[f"{name}_verdict"].values
        for one, other in zip(words, reverse, strict=True):
            if one.startswith("yes"):
                sides = {one.split()[1], other.split()[1]}
                assert sides == ({"differs"} if name in NEITHER else {"better", "worse"})
            else:
                assert other.startswith("no")
    assert all(v.startswith("yes, better") for v in found.rmse_verdict.values)
    assert all(v.startswith("yes, better") for v in found.correlation_verdict.values)
    assert all(v.startswith("yes, better") for v in found.nino34_correlation_verdict.values)


def test_by_month_is_that_of_these_starts_alone():
    fc, truth = make(0.8, 1)
    whole = intervals(accumulate(fc, truth, ["rmse"], by=["month", "lead"]), n=100)
    assert whole.rmse_lower.dims == ("month", "lead")
    april = fc.isel(init=slice(3, None, 12))
    alone = intervals(accumulate(april, truth, ["rmse"]), n=100)
    np.testing.assert_allclose(whole.rmse_lower.sel(month=4), alone.rmse_lower, rtol=1e-9)


@pytest.mark.parametrize(
    "by", [["region", "lead"], ["lead", "region"], ["region"], ["valid_season"]]
)
def test_groups_and_regions(by):
    fc, truth = make(0.8, 1)
    regions = {"south": SOUTH, "north": NORTH}
    found = intervals(accumulate(fc, truth, ["rmse", "correlation"], by=by, regions=regions), n=100)
    assert found.rmse_lower.dims == found.rmse.dims
    assert (found.rmse_lower < found.rmse).all()
    middle = np.tanh(
        (np.arctanh(found.correlation_lower) + np.arctanh(found.correlation_upper)) / 2
    )
    np.testing.assert_allclose(middle, found.correlation, rtol=1e-8)
    if "region" in by:
        one = intervals(
            accumulate(fc, truth, ["rmse"], by=[b for b in by if b != "region"], regions=NORTH),
            n=100,
        )
        np.testing.assert_allclose(found.rmse_upper.sel(region="north"), one.rmse_upper, rtol=1e-9)


def test_thresholds_keep_their_labels():
    fc, truth = make(0.8, 1)
    names = ["csi", "pod"]
    one = accumulate(fc, truth, names, thresholds=["-1 K", "0.5 K", "1.5 K"])
    found = intervals(one, n=100)
    for name in names:
        assert found[f"{name}_lower"].dims == found[name].dims
        assert (found[f"{name}_lower"] >= 0).all()
        assert (found[f"{name}_upper"] <= 1).all()
        assert (found[f"{name}_lower"] <= found[name]).all()
    alone = intervals(accumulate(fc, truth, ["csi"], thresholds=["0.5 K"]), n=100)
    np.testing.assert_allclose(found.csi_lower.isel(threshold=[1]), alone.csi_lower, rtol=1e-9)


def test_scores_at_their_bound():
    """A perfect forecast: nothing varies; events that hardly occur: cut at the bounds."""
    _, truth = make(0.8, 1)
    fc, _ = make(1.3, 1, members=None)
    perfect = fc.copy(data=observations_at(fc, truth).transpose(*fc.dims).values)
    found = intervals(accumulate(perfect, truth, ["rmse", "correlation"]), n=100)
    assert (found.rmse_lower == 0).all()
    assert (found.rmse_upper == 0).all()
    np.testing.assert_allclose(found.correlation_lower, 1.0)
    rare = accumulate(fc, truth, ["pod"], thresholds=["3.5 K"])
    found = intervals(rare, n=100)
    assert ((found.pod_lower >= 0) & (found.pod_upper <= 1)).all()


def test_differences_of_rare_events_end_where_the_score_ends():
    """Events at a few starts: no spread in many resamples, where intervals were millions wide."""
    (a, truth), (b, _) = make(0.8, 1, inits=24, members=None), make(0.5, 2, inits=24, members=None)
    states = [accumulate(fc, truth, ["csi"], thresholds=["3 K", "4 K", "5 K"]) for fc in (a, b)]
    found = differences(*states, n=300)
    lower, upper = found.csi_lower, found.csi_upper
    assert lower.notnull().any()
    assert (abs(lower).fillna(0) <= 1).all()
    assert (abs(upper).fillna(0) <= 1).all()
    assert lower.attrs["expanded_percentile_intervals"] >= 1


def test_a_correlation_close_to_one_stays_below():
    found = intervals(state(1.25, 1, ["correlation"]), n=200)
    assert (found.correlation > 0.9).all()
    assert (found.correlation_upper < 1).all()
    assert (
        found.correlation - found.correlation_lower > found.correlation_upper - found.correlation
    ).all()


def test_far_from_zero_no_digits_are_lost():
    fc, truth = make(0.8, 1)
    warm = intervals(accumulate(fc + 1e4, truth + 1e4, ["correlation"]), n=100)
    near = intervals(accumulate(fc, truth, ["correlation"]), n=100)
    np.testing.assert_allclose(warm.correlation_lower, near.correlation_lower, rtol=1e-6)


def test_cases_that_only_one_has_are_left_out():
    (a, truth), (b, _) = make(0.8, 1), make(0.5, 2)
    b = b.where(b.init != b.init[5])
    b = b.isel(init=slice(2, None))
    found = differences(*(accumulate(fc, truth, ["rmse"]) for fc in (a, b)), n=100)
    assert found.attrs["starts_left_out"] == 2
    assert found.attrs["cases_left_out"] == 2
    keep = [i for i in range(2, 72) if i != 5]
    mine = finish(accumulate(a.isel(init=keep), truth, ["rmse"])).rmse
    theirs = finish(accumulate(b.isel(init=[i - 2 for i in keep]), truth, ["rmse"])).rmse
    np.testing.assert_allclose(found.rmse, mine - theirs, rtol=1e-9)
    assert found.rmse_verdict.values[0].endswith("n = 69)")


def test_lazy_states_are_computed_once():
    fc, truth = make(0.8, 1)
    lazy = accumulate(fc.chunk(init=10), truth.chunk(time=20), ["rmse"])
    found = intervals(lazy, n=100)
    xr.testing.assert_allclose(found, intervals(accumulate(fc, truth, ["rmse"]), n=100))


def test_what_has_no_interval():
    fc, truth = make(0.8, 1)
    one = accumulate(fc, truth, ["rmse"])
    with pytest.raises(ConfigError, match="init"):
        intervals(one, by=["init", "lead"])
    cells = accumulate(fc, truth, ["rmse"], by=["lead", "lat", "lon"])
    with pytest.raises(ConfigError, match="compare"):
        intervals(cells)
    with pytest.raises(ConfigError, match="bias"):
        differences(one, accumulate(fc, truth, ["bias"]))
    with pytest.raises(GridMismatchError, match="leads"):
        differences(one, accumulate(fc.isel(lead=[0]), truth, ["rmse"]))
    with pytest.raises(MissingDataError, match="3 starts"):
        differences(one, accumulate(fc.isel(init=[0, 1, 2]), truth, ["rmse"]))
    few = intervals(accumulate(fc.isel(init=[0, 1, 2]), truth, ["rmse"]), n=100)
    assert np.isnan(few.rmse_lower).all()
    assert np.isfinite(few.rmse).all()
