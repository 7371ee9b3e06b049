"""Laws of the time axis, for any calendar, step, style, order and gaps."""

from __future__ import annotations

from typing import Any

import cftime
import numpy as np
import pandas as pd
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.cf.calendars import Calendar
from xearth.cf.timeaxis import Step, TimeAxis
from xearth.units import affine, compatible, convert

CALENDARS = ["datetime64", "standard", "noleap", "360_day", "all_leap"]


def dates(calendar: str, start: str, n: int, freq: str) -> np.ndarray:
    if calendar == "datetime64":
        return pd.date_range(start, periods=n, freq=freq).values
    return xr.date_range(start, periods=n, freq=freq, calendar=calendar, use_cftime=True).values


@st.composite
def monthly(draw: Any, n: int = 60) -> np.ndarray:
    """Draw a monthly axis of one style: start, a day, end or center of the month."""
    calendar = draw(st.sampled_from(CALENDARS))
    year = draw(st.integers(1700, 2200))
    style = draw(st.sampled_from(["day", "end", "center"]))
    start = f"{year}-{draw(st.integers(1, 12)):02d}-01"
    edges = dates(calendar, start, n + 1, "MS")
    length = edges[1:] - edges[:-1]
    if style == "center":
        return edges[:-1] + length / 2
    day = (
        np.timedelta64(1, "D")
        if calendar == "datetime64"
        else pd.Timedelta(days=1).to_pytimedelta()
    )
    hour = draw(st.integers(0, 23)) * day // 24
    if style == "end":
        return edges[1:] - day + hour
    return edges[:-1] + draw(st.integers(0, 27)) * day + hour


def axis(stamps: np.ndarray) -> TimeAxis:
    return TimeAxis.from_array(xr.DataArray(stamps, dims="time", name="time"))


@settings(deadline=None, max_examples=60)
@given(stamps=monthly(), keep=st.integers(3, 40), data=st.data())
def test_monthly_offsets_continue_the_series(stamps: np.ndarray, keep: int, data: Any) -> None:
    found = axis(stamps[:keep])
    assert found.step == Step(1, "months")
    n = data.draw(st.integers(0, 59 - (keep - 1)))
    assert found.offset(stamps[keep - 1], n) == stamps[keep - 1 + n]
    assert found.offset(stamps[keep - 1], -(keep - 1)) == stamps[0]


FREQS = {
    "5min": Step(5, "minutes"), "h": Step(1, "hours"), "6h": Step(6, "hours"),
    "D": Step(1, "days"), "MS": Step(1, "months"), "YS": Step(1, "years"),
}  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(
    calendar=st.sampled_from(CALENDARS),
    freq=st.sampled_from(sorted(FREQS)),
    runs=st.lists(st.integers(3, 8), min_size=1, max_size=4),
    gap=st.lists(st.integers(1, 4), min_size=4, max_size=4),
    seed=st.randoms(use_true_random=False),
)
def test_ordinals_runs_and_gaps_of_any_order(
    calendar: str, freq: str, runs: list[int], gap: list[int], seed: Any
) -> None:
    expected: list[int] = []
    for size, hole in zip(runs, gap, strict=False):
        first = expected[-1] + 1 + hole if expected else 0
        expected += range(first, first + size)
    full = dates(calendar, "1999-11-01", expected[-1] + 1, freq)
    shuffled = list(range(len(expected)))
    seed.shuffle(shuffled)
    ordinals = np.array(expected)[shuffled]
    found = axis(full[ordinals])
    assert found.step == FREQS[freq]
    np.testing.assert_array_equal(found.ordinals, ordinals)
    np.testing.assert_array_equal(found.values[found.order], full[expected])
    assert [stop - start for start, stop in found.runs()] == runs
    assert [n for _, _, n in found.gaps] == gap[1 : len(runs)]
    for position in (0, len(expected) - 1):
        assert found.locate(found.values[position]) == position
    # The arithmetic agrees with the axis: every stamp is its ordinal away from the first.
    first = found.values[found.order[:1]]
    np.testing.assert_array_equal(found.offsets(first, ordinals)[0], found.values)


UNITS = ["K", "degC", "degF", "m", "mm", "inch", "m s-1", "mm h-1", "%", "1", "hPa", "Pa", "mb"]


@settings(deadline=None, max_examples=100)
@given(
    source=st.sampled_from(UNITS),
    target=st.sampled_from(UNITS),
    value=st.floats(-1e6, 1e6),
    difference=st.booleans(),
)
def test_conversions_are_inverses(source: str, target: str, value: float, difference: bool) -> None:
    if not compatible(source, target):
        return
    there = convert(np.array([value]), source, target, difference=difference)
    back = convert(there, target, source, difference=difference)
    scale, offset = affine(source, target, difference=difference)
    tolerance = 1e-300 + 1e-12 * (abs(value) + abs(offset / scale))
    np.testing.assert_allclose(back, value, rtol=1e-12, atol=tolerance)
    if difference:
        assert offset == 0.0


@settings(deadline=None, max_examples=100)
@given(
    calendar=st.sampled_from(
        ["standard", "proleptic_gregorian", "noleap", "all_leap", "360_day", "julian"]
    ),
    year=st.integers(1, 3000),
    rest=st.tuples(
        st.integers(1, 12), st.integers(1, 28), st.integers(0, 23), st.integers(0, 59),
        st.integers(0, 59), st.integers(0, 999_999),
    ),
)  # fmt: skip
def test_closed_forms_of_calendars_agree_with_cftime(
    calendar: str, year: int, rest: tuple[int, ...]
) -> None:
    one = np.empty(1, object)
    one[0] = cftime.datetime(year, *rest, calendar=calendar)
    found = Calendar.of(one, "time")
    expected = cftime.date2num(one, "microseconds since 1970-01-01", calendar=calendar)
    assert found.encode(one)[0] == expected[0]
    assert found.decode(found.encode(one))[0] == one[0]
    month = found.months(one)
    first = cftime.datetime(year, rest[0], 1, calendar=calendar)
    start = cftime.date2num(first, "microseconds since 1970-01-01", calendar=calendar)
    assert found.month_start(month)[0] == start
    days = first.daysinmonth
    if not (calendar == "standard" and (year, rest[0]) == (1582, 10)):
        assert found.month_length(month)[0] == days * 86_400_000_000
