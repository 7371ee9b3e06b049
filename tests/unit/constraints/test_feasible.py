"""Contradictions are found and named; what can hold is let pass; bad input is refused before."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import optimize, sparse

import xearth
from xearth.constraints import program
from xearth.constraints.claims import Claim
from xearth.errors import ConstraintError, LeadError, MissingDataError, RegionError, UnitsError

from .conftest import forecast, labeled, tensor

Q = xearth.Q
mean, cells = xearth.AreaMean(), xearth.EachCell()
HALF = xearth.Mask((forecast()["lat"] < 52) & (forecast()["lon"] > 0), "south")
GAUGE = xearth.Points(lat=50.0, lon=20.0)
REST = xearth.Mask((forecast()["lat"] >= 52) & (forecast()["lon"] > 0), "north")


def mm(value):
    return Q(value, "mm/h")


decibels = xearth.TransformedMean(least=mm(0.1))

IMPOSSIBLE = {
    "two means": [mean == mm(1), mean == mm(2)],
    "a mean above the range": [mean >= mm(8), cells <= mm(5)],
    "a mean below the range": [mean <= mm(-1), xearth.NonNegative()],
    "parts and the whole": [
        xearth.AreaMean(HALF) >= mm(5), xearth.AreaMean(REST) >= mm(5), mean <= mm(4),
    ],
    "frames and the horizon": [mean >= mm(3), xearth.AreaMean(per="horizon") <= mm(2)],
    "a part with the rest at its least": [
        xearth.AreaMean(HALF) == mm(9), mean <= mm(2), xearth.NonNegative(),
    ],
    "the largest below the mean": [xearth.AreaMaximum() <= mm(2), mean >= mm(3)],
    "the largest beyond the range": [xearth.AreaMaximum() >= mm(9), cells <= mm(8)],
    "a fraction that makes too much": [
        xearth.AreaFraction(above=mm(20)) >= Q(50, "%"), mean <= mm(9), xearth.NonNegative(),
    ],
    "a fraction that leaves too little": [
        xearth.AreaFraction(above=mm(1)) <= Q(10, "%"), mean >= mm(5), cells <= mm(30),
    ],
    "a quantile above the mean": [
        xearth.AreaQuantile(level=0.5) >= mm(8), mean <= mm(3), xearth.NonNegative(),
    ],
    "a quantile below the mean": [
        xearth.AreaQuantile(level=0.9) <= mm(1), mean >= mm(5), cells <= mm(30),
    ],
    "a gauge out of range": [
        xearth.AtPoints(xearth.Points(lat=50.0, lon=20.0)) == mm(9), cells <= mm(5),
    ],
    "what is conserved and changes": [
        xearth.Conserved(mean), xearth.AreaMean(leads=(1,)) == mm(1),
        xearth.AreaMean(leads=(4,)) == mm(2),
    ],
    "what only rises and falls": [
        xearth.Monotone(), xearth.AreaMean(leads=(1,)) >= mm(5),
        xearth.AreaMean(leads=(4,)) <= mm(3),
    ],
    "what only falls and rises at a gauge": [
        xearth.Monotone("falling"), xearth.AtPoints(GAUGE, leads=(1,)) <= mm(1),
        xearth.AtPoints(GAUGE, leads=(3,)) >= mm(2),
    ],
    "a part that rises beyond the whole": [
        xearth.Monotone(where=HALF), xearth.AreaMean(HALF, leads=(2,)) >= mm(9),
        xearth.AreaMean(leads=(4,)) <= mm(2), xearth.NonNegative(),
    ],
    "ranges that rise and fall": [
        xearth.Monotone(), xearth.EachCell(HALF, leads=(1,)) >= mm(5),
        xearth.EachCell(leads=(4,)) <= mm(3),
    ],
    "a largest value that is higher before": [
        xearth.Monotone(), xearth.AreaMaximum(leads=(1,)) >= mm(9),
        xearth.AreaMaximum(leads=(4,)) <= mm(5),
    ],
    "a fraction by cells that are lower later": [
        xearth.Monotone(), xearth.AreaFraction(above=mm(5), leads=(1,)) >= Q(80, "%"),
        xearth.EachCell(HALF, leads=(4,)) <= mm(3),
    ],
    "two fractions": [
        xearth.AreaFraction(above=mm(3)) >= Q(40, "%"),
        xearth.AreaFraction(above=mm(3)) <= Q(20, "%"),
    ],
    "more above more": [
        xearth.AreaFraction(above=mm(5)) >= Q(40, "%"),
        xearth.AreaFraction(above=mm(3)) <= Q(20, "%"),
    ],
    "two quantiles": [
        xearth.AreaQuantile(level=0.5) >= mm(5), xearth.AreaQuantile(level=0.5) <= mm(3),
    ],
    "quantiles that fall": [
        xearth.AreaQuantile(level=0.5) >= mm(5), xearth.AreaQuantile(level=0.9) <= mm(3),
    ],
    "a quantile and a fraction": [
        xearth.AreaQuantile(level=0.5) >= mm(5), xearth.AreaFraction(above=mm(4)) <= Q(30, "%"),
    ],
    "two means of decibels": [decibels >= Q(5, "1"), decibels <= Q(3, "1")],
    "decibels that make too much": [decibels >= Q(9, "1"), mean <= mm(7.9), xearth.NonNegative()],
    "few decibels that make too much": [
        decibels >= Q(-8, "1"), mean <= mm(0.1 * np.e * 0.2 / np.log10(np.e) - 0.001),
        xearth.NonNegative(),
    ],
    "decibels above the range": [decibels >= Q(5, "1"), cells <= mm(3)],
    "decibels that rise and fall": [
        xearth.Monotone(), xearth.TransformedMean(least=mm(0.1), leads=(1,)) >= Q(5, "1"),
        xearth.TransformedMean(least=mm(0.1), leads=(4,)) <= Q(3, "1"),
    ],
}  # fmt: skip

POSSIBLE = {
    "the same mean twice": [mean == mm(1), mean == Q(0.1, "cm/h")],
    "a mean within the range": [mean == mm(5), cells <= mm(5), xearth.NonNegative()],
    "parts and the whole": [xearth.AreaMean(HALF) >= mm(5), mean <= mm(4)],
    "a fraction just reached": [
        xearth.AreaFraction(above=mm(20)) >= Q(40, "%"), mean <= mm(9), xearth.NonNegative(),
    ],
    "extremes": [
        xearth.AreaMaximum() >= mm(30), xearth.AreaQuantile(level=0.5) <= mm(1), mean >= mm(3),
    ],
    "quantiles and fractions that agree": [
        xearth.AreaQuantile(level=0.5) == mm(5), xearth.AreaQuantile(level=0.9) >= mm(5),
        xearth.AreaFraction(above=mm(5)) >= Q(50, "%"),
    ],
    "what only rises and rises": [
        xearth.Monotone(), xearth.AreaMean(leads=(1,)) == mm(1),
        xearth.AreaMean(leads=(4,)) == mm(1),
        xearth.NonNegative(),
    ],
    "a half that falls while the whole rises": [
        xearth.Monotone(where=HALF), xearth.AreaMean(REST, leads=(1,)) >= mm(5),
        xearth.AreaMean(REST, leads=(4,)) <= mm(3), mean >= mm(2),
    ],
    "decibels and their mean": [decibels >= Q(9, "1"), mean <= mm(8), xearth.NonNegative()],
    "a mean and a Gaussian one": [mean == mm(1), mean.near(mm(9), mm(1))],
}  # fmt: skip


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_hold_is_named_and_each_of_the_named_is_needed(name):
    asked = [*IMPOSSIBLE[name], xearth.AreaMean(leads=(2,)) <= mm(50)]
    fc = forecast()
    found = xearth.conflicts(asked, fc)
    assert set(found) == set(IMPOSSIBLE[name])
    for left_out in found:
        assert xearth.conflicts([c for c in asked if c != left_out], fc) == ()
    with pytest.raises(ConstraintError, match="no forecast can hold all of") as error:
        xearth.require_feasible(asked, fc)
    assert all(str(c) in str(error.value) for c in found)


@pytest.mark.parametrize("name", ["a gauge out of range", "a mean above the range",
                                  "a part that rises beyond the whole"])  # fmt: skip
def test_ranges_carried_through_a_large_program_contradict(name, monkeypatch):
    monkeypatch.setattr(program, "_MOST", 0)
    assert set(xearth.conflicts(IMPOSSIBLE[name], forecast())) == set(IMPOSSIBLE[name])
    assert all(xearth.conflicts(asked, forecast()) == () for asked in POSSIBLE.values())


@pytest.mark.parametrize("name", POSSIBLE)
def test_what_can_hold_is_let_pass(name):
    asked = xearth.All(tuple(POSSIBLE[name]))
    fc = forecast()
    assert xearth.conflicts(asked, fc) == ()
    if name != "a mean and a Gaussian one":
        held = labeled(asked.on(fc).project(tensor(fc)), fc)
        assert asked.check(held).all()
        compared = (xearth.Monotone, xearth.NonNegative)
        assert not any(c.violation(held).any() for c in asked.of if isinstance(c, compared))


def test_means_of_decibels_say_nothing_of_cells_that_may_be_negative():
    asked = [decibels >= Q(9, "1"), mean <= mm(7.9)]
    assert xearth.conflicts(asked, forecast()) == ()
    assert set(xearth.conflicts([*asked, cells >= mm(0)], forecast())) == {*asked, cells >= mm(0)}


def test_two_slopes_and_two_masks():
    fc = forecast(missing=False)
    slope = xearth.SpectrumSlope(waves=(1, 3))
    asked = [slope <= Q(-3, "1"), mean >= mm(1), slope >= Q(-2, "1")]
    assert xearth.conflicts(asked, fc) == (asked[0], asked[2])
    assert xearth.conflicts([slope <= Q(-2, "1"), slope >= Q(-3, "1")], fc) == ()
    south, rest = (xearth.PersistentMask(m) for m in (HALF, REST))
    assert xearth.conflicts([south, mean >= mm(1), rest], fc) == (south, rest)
    assert xearth.conflicts([south, xearth.PersistentMask(HALF)], fc) == ()


def test_orders_of_variables_meet_their_means():
    one = forecast()
    ds = xr.Dataset(
        {n: one.rename(n).assign_attrs(standard_name=n) for n in ("low", "mid", "high")}
    )
    ordered = xearth.Ordered(("low", "mid", "high"))
    above = xearth.AreaMean(HALF, "low") >= mm(5)
    below = xearth.AreaMean(HALF, "high", per="horizon") <= mm(4)
    rises = xearth.Monotone(variable="mid")
    assert xearth.conflicts([rises, above, ordered, below], ds) == (above, ordered, below)
    late = xearth.AreaMean(HALF, "high", leads=(4,)) <= mm(4)
    early = xearth.AreaMean(HALF, "low", leads=(1,)) >= mm(5)
    assert set(xearth.conflicts([rises, early, ordered, late], ds)) == {rises, early, ordered, late}
    assert xearth.conflicts([early, ordered, late], ds) == ()


@pytest.mark.parametrize("seed", range(60))
def test_merged_chains_are_judged_as_all_cells_are(seed, monkeypatch):
    """Random sums, ranges and orders of cells, some of which are alike: a program of them all."""
    rng = np.random.default_rng(seed)
    T, P = rng.integers(2, 4), rng.integers(3, 7)
    kind, scale = rng.integers(0, 2, P), rng.choice([0.5, 1.0, 2.0], P)
    A = (rng.integers(-1, 2, (3, T, 2))[..., kind] * scale).reshape(3, -1)
    A = A[np.abs(A).sum(1) > 0]
    lower = rng.uniform(-2, 3, len(A))
    upper = lower + rng.choice([0, 0.5, np.inf], len(A))
    low, high = (
        np.repeat(rng.uniform(*ends, (T, 1)), P, 1).ravel() for ends in ((-1, 0.2), (0.2, 2))
    )
    cells = np.arange(T * P).reshape(T, P)
    before, after = cells[:-1].ravel(), cells[1:].ravel()
    claims = [
        Claim(T * P, sums=sparse.csr_array(A), lower=lower, upper=upper),
        Claim(T * P, low=low, high=high),
        Claim(T * P, before=before, after=after),
    ]
    order = np.eye(T * P)[before] - np.eye(T * P)[after]
    bounded = np.isfinite(upper)
    whole = optimize.linprog(
        np.zeros(T * P),
        np.vstack([-A, A[bounded], order]),
        np.concatenate([-lower, upper[bounded], np.zeros(len(order))]),
        bounds=np.stack([low, high], -1),
    )
    small = program.merged(claims)
    assert program.possible(small) == program.possible(claims) == (whole.status == 0)
    monkeypatch.setattr(program, "_MOST", 0)  # as of programs too large to be solved
    for each in (small, claims):
        assert program.possible(each) or whole.status != 0


def test_columns_of_large_fields_are_few_unknowns():
    lat = xr.Variable("lat", np.linspace(-60, 60, 240), {"units": "degrees_north"})
    lon = xr.Variable("lon", np.linspace(0, 119.5, 240), {"units": "degrees_east"})
    big = xr.DataArray(
        np.ones((240, 240)), {"lat": lat, "lon": lon}, ("lat", "lon"), attrs={"units": "K"}
    )
    a = xearth.AreaMean(xearth.Box(-20, 20, 10, 60)) >= Q(3, "K")
    assert xearth.conflicts([a, mean <= Q(3, "K")], big) == ()
    assert len(xearth.conflicts([a, cells <= Q(2.9, "K")], big)) == 2


@pytest.mark.parametrize(
    ("constraint", "error", "match"),
    [
        (lambda: xearth.AreaMean(xearth.NINO34) >= mm(1), RegionError, "covers"),
        (lambda: xearth.AtPoints(xearth.Points(0.0, 0.0)) >= mm(1), RegionError, "outside"),
        (lambda: mean >= Q(1, "K"), ConstraintError, "Cannot convert"),
        (lambda: xearth.AreaFraction(above=Q(1, "K")) >= Q(1, "%"), ConstraintError, "Cannot"),
        (lambda: xearth.AreaMean(leads=(9,)) >= mm(1), LeadError, "found"),
        (lambda: xearth.AreaMean(season="JJA") >= mm(1), LeadError, "whole season"),
        (lambda: xearth.Index(xearth.TROPICS, lead=9) >= mm(1), LeadError, "lead"),
        (lambda: xearth.AreaMean(variable="snow") >= mm(1), ConstraintError, "rainfall_rate"),
        (lambda: xearth.Mask(forecast()["lat"].expand_dims(q=3) > 0), RegionError, "dims"),
        (lambda: xearth.SpectrumSlope((1, 9)) >= Q(1, "1"), ConstraintError, "at most 3"),
        (lambda: xearth.SpectrumSlope((1, 3)) >= Q(1, "1"), MissingDataError, "missing"),
    ],
)
def test_what_the_forecast_lacks_is_refused_before_sampling(constraint, error, match):
    made = constraint()
    made = xearth.AreaMean(made) >= mm(1) if isinstance(made, xearth.Mask) else made
    with pytest.raises(error, match=match):
        made.on(forecast())


def test_a_place_without_valid_cells_is_refused():
    fc = forecast()
    gone = fc.isel(init=0, lead=0, member=0, drop=True).isnull().drop_attrs()
    for functional in (xearth.AreaMean(xearth.Mask(gone)), xearth.AreaMaximum(xearth.Mask(gone))):
        for ask in ("violation", "check", "on"):
            with pytest.raises(RegionError, match="with a value"):
                getattr(functional >= mm(1), ask)(fc)
    gauge = xearth.Points(lat=45.0, lon=20.0)
    assert np.isnan(xearth.AtPoints(gauge).measure(fc)).all()
    with pytest.raises(MissingDataError, match="missing ones at the points"):
        (xearth.AtPoints(gauge) >= mm(1)).on(fc)
    with pytest.raises(RegionError, match="found none that is True"):
        xearth.Mask(gone & False)


def test_absolute_temperatures_are_no_index():
    sst = forecast(units="degC").assign_attrs(standard_name="sea_surface_temperature")
    lon = np.arange(190.0, 254, 8)
    sst = sst.assign_coords(lat=np.arange(-10.0, 11, 4), lon=lon)
    for name, units in (("lat", "degrees_north"), ("lon", "degrees_east")):
        sst[name].attrs = {"units": units}
    with pytest.raises(ConstraintError, match="expected anomalies"):
        (xearth.Nino34(lead=3) >= Q(1, "K")).on(sst)


def test_something_else_than_constraints_is_refused():
    with pytest.raises(ConstraintError, match="expected comparisons"):
        xearth.require_feasible([mean], forecast())
    with pytest.raises(ConstraintError, match="attrs"):
        (mean >= mm(1)).check(forecast().drop_attrs(deep=False))
    with pytest.raises((ConstraintError, UnitsError)):
        (mean >= mm(1)).check(forecast(units="furlong per"))


def test_an_audit_says_what_was_asked_and_what_is_held():
    import json

    fc = forecast()
    asked = [mean == mm(2), xearth.NonNegative()]
    found = xearth.audit(fc, asked)
    assert found["holds"].dims == ("constraint", "init", "member")
    assert found["constraint"].values.tolist() == [str(c) for c in asked]
    worst = abs(mean.measure(fc) - 2).max("lead")
    np.testing.assert_allclose(found["violation_1"], worst.transpose("init", "member"))
    assert found["violation_1"].attrs["units"] == "mm h-1"
    entries = json.loads(xearth.audit_attrs(fc, asked[0] & asked[1])["xearth_audit"])
    assert [xearth.Constraint.from_json(json.dumps(e["constraint"])) for e in entries] == asked
    assert [e["held"] for e in entries] == [0, 3]
    assert entries[0]["worst"] == pytest.approx(float(worst.max()))
    assert entries[0]["highest"] == pytest.approx(float(mean.measure(fc).max()))
    text = xearth.audit_attrs(fc, asked)["xearth_constraints"]
    assert "held by 0 of 3, off by" in text
    assert len(text.splitlines()) == 2
