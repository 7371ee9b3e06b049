"""Windows: arithmetic against a plain search through the stamps."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.cf.timeaxis import TimeAxis
from xearth.data.windows import Window
from xearth.errors import TimeAxisError, TimeAxisWarning


def axis_of(months: list[int], calendar: str = "standard", day: int = 1) -> TimeAxis:
    """Return an axis of the given months since 2000-01, in the given order."""
    whole = xr.date_range(
        "2000-01", periods=max(months) + 1, freq="MS", calendar=calendar,
        use_cftime=calendar != "standard",
    )  # fmt: skip
    stamps = whole[np.array(months)] + pd.Timedelta(days=day - 1).to_pytimedelta()
    return TimeAxis.from_array(xr.DataArray(stamps, dims="time", name="time"))


def search(months: list[int], window: Window) -> list[int]:
    """Return init positions by looking every needed month up: slow and obvious."""
    first = {}
    for position, month in enumerate(months):
        first.setdefault(month, position)
    found = []
    for month in sorted(first):
        past = range(month - window.history + 1, month + 1)
        last = month + (window.gap + window.horizon if window.horizon else 0)
        if all(m in first for m in [*past, *range(month, last + 1)]):
            found.append(first[month])
    return found[:: window.stride]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=12, max_size=30),
    st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(1, 3), st.integers(0, 2)),
)
@pytest.mark.filterwarnings("ignore::xearth.errors.TimeAxisWarning")
def test_starts_equal_the_search(months: list[int], numbers: tuple[int, int, int, int]) -> None:
    window = Window(*numbers)
    # Four neighbors settle that the step is a month.
    months = [*months, *range(40, 44)]
    expected = search(months, window)
    if not expected:
        with pytest.raises(TimeAxisError):
            window.starts(axis_of(months))
        return
    np.testing.assert_array_equal(window.starts(axis_of(months)), expected)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
@pytest.mark.parametrize("day", [1, 15])
def test_calendars_and_mid_month_stamps(calendar: str, day: int) -> None:
    starts = Window(12, 18).starts(axis_of(list(range(60)), calendar, day))
    np.testing.assert_array_equal(starts, np.arange(11, 42))


def test_gap_is_told_with_the_number_of_windows() -> None:
    axis = axis_of([m for m in range(40) if m != 20])
    with pytest.warns(TimeAxisWarning, match="1 after 2001-08-01") as caught:
        starts = Window(3, 2).starts(axis)
    assert len(caught) == 1
    assert "4 windows of 35 dropped" in str(caught[0].message)
    assert len(starts) == 31
    assert not set(range(18, 22)) & set(starts.tolist())


def test_gaps_between_inits_that_are_named_cost_nothing(recwarn: pytest.WarningsRecorder) -> None:
    axis = axis_of([m for m in range(40) if m != 20])
    np.testing.assert_array_equal(
        Window(3, 2, stride=4).allowed(axis), [*range(2, 18), *range(22, 37)]
    )
    assert not recwarn.list
    with pytest.warns(TimeAxisWarning, match="1 repeated stamps"):
        Window(1, 1).allowed(axis_of([0, 1, 1, 2]))


def test_duplicates_and_order_are_told() -> None:
    axis = axis_of([3, 2, 1, 0, 4, 5, 5])
    with pytest.warns(TimeAxisWarning, match="1 repeated stamps.*not sorted"):
        starts = Window(2, 1).starts(axis)
    np.testing.assert_array_equal(starts, [2, 1, 0, 4])


def test_gap_inside_the_only_window() -> None:
    axis = axis_of([0, 1, 2, 3, 5, 6, 7, 8])
    with pytest.raises(
        TimeAxisError, match=r"at most 4 because of missing steps \(1 after 2000-04"
    ):
        Window(4, 4).starts(axis)


def test_too_short() -> None:
    with pytest.raises(TimeAxisError, match=r"needs 30 consecutive steps, found 12 .*2000-01-01"):
        Window(12, 18).starts(axis_of(list(range(12))))


def test_history_starts_reach_the_end() -> None:
    axis = axis_of(list(range(12)))
    np.testing.assert_array_equal(Window(12, 18).history_starts(axis), [11])
    np.testing.assert_array_equal(Window(10, 0).starts(axis), [9, 10, 11])


@pytest.mark.parametrize(
    "numbers",
    [{"history": 0}, {"horizon": -1}, {"stride": 0}, {"gap": -1}, {"history": 1.5}, {"gap": True}],
)
def test_impossible_numbers(numbers: dict) -> None:
    with pytest.raises(TimeAxisError, match=r"Window\(.*expected a whole number of steps"):
        Window(**{"history": 1, "horizon": 1, **numbers})


def test_twelve_thousand_windows_in_ten_milliseconds() -> None:
    stamps = (np.datetime64("1000-01", "M") + np.arange(12029)).astype("M8[us]")
    axis = TimeAxis.from_array(xr.DataArray(stamps, dims="time", name="time"))
    window = Window(12, 18)
    seconds = []
    for _ in range(5):
        begin = time.process_time()
        starts = window.starts(axis)
        seconds.append(time.process_time() - begin)
    assert len(starts) == 12000
    assert min(seconds) < 0.010
