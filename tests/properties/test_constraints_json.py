"""Every constraint comes back from JSON as it was, and says the same."""

from __future__ import annotations

import numpy as np
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xearth

Q = xearth.Q
NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)
UNITS = st.sampled_from(["mm/h", "K", "degC", "kg m-2 s-1", "%", "1", "dBZ"])


@st.composite
def fields(draw, boolean: bool = False) -> xr.DataArray:
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values = rng.standard_normal(shape).astype(draw(st.sampled_from(["f4", "f8"])))
    if boolean:
        values = values > values.min() - 1
    elif draw(st.booleans()):
        values[0, 0] = np.nan
    lat = ("lat", np.arange(shape[0]) * draw(st.sampled_from([2.5, 1 / 3])))
    coords = {"lat": (*lat, {"units": "degrees_north"}), "lon": ("lon", np.arange(shape[1]))}
    attrs = {} if boolean else {"units": "K", "levels": [1.5, 2.0]}
    name = draw(st.sampled_from(["sst", None]))
    return xr.DataArray(values, coords, ("lat", "lon"), attrs=attrs, name=name)


def boxes():
    return st.builds(xearth.Box, st.integers(-80, 0), st.integers(1, 80), NUMBERS, NUMBERS)


def points():
    pair = st.tuples(st.floats(-90, 90), st.floats(-180, 360))
    return st.lists(pair, min_size=1, max_size=3).map(
        lambda found: xearth.Points(*zip(*found, strict=True))
    )


places = st.one_of(
    st.none(), boxes(), points(), fields(boolean=True).map(lambda f: xearth.Mask(f, "m"))
)


@st.composite
def functionals(draw):
    options = {
        "where": draw(places),
        "variable": draw(st.sampled_from([None, "pr", "Größe"])),
        "per": draw(st.sampled_from(["frame", "horizon"])),
    }
    if draw(st.booleans()):
        options["leads"] = tuple(draw(st.sets(st.integers(1, 99), min_size=1, max_size=3)))
    elif draw(st.booleans()):
        options["season"] = draw(st.sampled_from(["DJF", (12,), "MAM"]))
    kind = draw(st.integers(0, 8))
    plain = (xearth.AreaMean, xearth.AreaTotal, xearth.AreaMaximum, xearth.EachCell)
    if kind < len(plain):
        return plain[kind](**options)
    if kind == 4:
        return xearth.AreaQuantile(level=draw(st.floats(0.01, 0.99)), **options)
    if kind == 5:
        return xearth.AreaFraction(above=Q(draw(NUMBERS), draw(UNITS)), **options)
    if kind == 6:
        return xearth.AtPoints(**options | {"where": draw(points())})
    if kind == 7:
        return xearth.SpectrumSlope((draw(st.integers(1, 4)), 9))
    return xearth.Nino34(season="DJF")


@st.composite
def bounds(draw):
    functional, unit, values = draw(functionals()), draw(UNITS), NUMBERS
    if isinstance(functional, xearth.AreaFraction):  # a part of the area, at most all of it
        unit, values = "%", st.floats(0, 100)
    numbers = draw(st.lists(values, min_size=1, max_size=3))
    amount = Q(numbers if len(numbers) > 1 else numbers[0], unit)
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return functional >= amount
    if kind == 1:
        return functional <= amount
    if kind == 2:
        return functional == amount
    return functional.near(amount, Q(draw(st.floats(1e-3, 10)), unit))


others = st.one_of(
    st.builds(xearth.NonNegative, st.sampled_from([None, "pr"]), places),
    fields().map(xearth.BlockMeans),
    st.builds(xearth.FrameMeans, fields(), st.sampled_from(["mean", "sum"])),
    st.builds(xearth.Conserved, boxes().map(xearth.AreaMean)),
    st.builds(xearth.Monotone, st.sampled_from(["rising", "falling"])),
    st.just(xearth.Ordered(("tasmin", "tas"))),
    st.just(xearth.BudgetClosed("s", ("p",), ("e", "r"), within=Q(1, "kg m-2 s-1"))),
    fields(boolean=True).map(lambda f: xearth.PersistentMask(xearth.Mask(f))),
    st.just(xearth.EnergyConserved()),
)
constraints = st.one_of(bounds(), others)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        constraints,
        st.lists(constraints, min_size=1, max_size=3).map(lambda found: xearth.All(tuple(found))),
    )
)
def test_json_and_back_is_the_same_constraint(constraint):
    again = xearth.Constraint.from_json(constraint.to_json())
    assert again == constraint
    assert hash(again) == hash(constraint)
    assert str(again) == str(constraint)
    assert again.to_json() == constraint.to_json()
