"""The time axis: steps, gaps, styles, calendars, dates as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.cf.timeaxis import Step, TimeAxis
from xearth.errors import TimeAxisError


def axis(stamps: Any) -> TimeAxis:
    return TimeAxis.from_array(xr.DataArray(stamps, dims="time", name="time"))


@pytest.mark.parametrize(
    ("freq", "step"),
    [
        ("s", Step(1, "seconds")),
        ("5min", Step(5, "minutes")),
        ("6min", Step(6, "minutes")),
        ("10min", Step(10, "minutes")),
        ("h", Step(1, "hours")),
        ("6h", Step(6, "hours")),
        ("36h", Step(36, "hours")),
        ("D", Step(1, "days")),
        ("7D", Step(7, "days")),
        ("30D", Step(30, "days")),
        ("31D", Step(31, "days")),
        ("365D", Step(365, "days")),
        ("MS", Step(1, "months")),
        ("ME", Step(1, "months")),
        ("2MS", Step(2, "months")),
        ("QS", Step(3, "months")),
        ("YS", Step(1, "years")),
        ("YE", Step(1, "years")),
    ],
)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_steps_of_any_resolution(freq: str, step: Step, unit: str) -> None:
    stamps = pd.date_range("1999-01-01", periods=24, freq=freq).as_unit(unit)
    found = axis(stamps)
    assert found.step == step
    assert found.values.dtype == f"datetime64[{unit}]"
    np.testing.assert_array_equal(found.ordinals, np.arange(24))
    assert found.gaps == []
    assert found.duplicates == []
    assert found.is_sorted
    assert found.runs() == [(0, 24)]


@pytest.mark.parametrize(
    "calendar", ["standard", "proleptic_gregorian", "noleap", "all_leap", "360_day", "julian"]
)
@pytest.mark.parametrize(
    ("freq", "step"), [("MS", Step(1, "months")), ("D", Step(1, "days")), ("YS", Step(1, "years"))]
)
def test_calendars(calendar: str, freq: str, step: Step) -> None:
    stamps = xr.date_range("1999-01-01", periods=30, freq=freq, calendar=calendar, use_cftime=True)
    found = axis(stamps)
    assert found.step == step
    assert found.calendar == calendar
    following = xr.date_range(
        "1999-01-01", periods=43, freq=freq, calendar=calendar, use_cftime=True
    )
    assert list(found.offsets(found.values[-1:], [1, 13])[0]) == [following[30], following[42]]


def test_gregorian_is_datetime64() -> None:
    assert axis(pd.date_range("2000-01-01", periods=2)).calendar == "proleptic_gregorian"


# -- styles: where a stamp lies in its month ---------------------------------------------------


def middles(n: int, start: str = "2000-01") -> np.ndarray:
    months = np.datetime64(start, "M") + np.arange(n + 1)
    edges = months.astype("datetime64[us]")
    return edges[:-1] + (edges[1:] - edges[:-1]) / 2


def test_month_centers_stay_centers() -> None:
    stamps = middles(40)
    found = axis(stamps[:3])
    np.testing.assert_array_equal(found.offsets(stamps[2:3], np.arange(1, 38))[0], stamps[3:])


def test_month_centers_of_a_short_winter() -> None:
    stamps = middles(4, "2001-01")  # Jan 16 12:00, Feb 15 00:00, Mar 16 12:00, Apr 16 00:00
    assert axis(stamps[:2]).step == Step(1, "months")
    assert axis(stamps[:2]).offset(stamps[1], 2) == stamps[3]


def test_whole_days_around_the_middle() -> None:
    stamps = middles(36).astype("datetime64[D]").astype("datetime64[ns]")
    found = axis(stamps[:14])
    assert found.step == Step(1, "months")
    np.testing.assert_array_equal(found.offsets(stamps[13:14], np.arange(1, 23))[0], stamps[14:])


def test_a_constant_day_stays() -> None:
    stamps = pd.date_range("1999-12-01", periods=6, freq="MS") + timedelta(days=14, hours=6)
    assert str(axis(stamps).offset(stamps[-1].to_datetime64(), 9))[:13] == "2001-02-15T06"


def test_month_ends_stay_ends() -> None:
    stamps = pd.date_range("2000-01-31", periods=20, freq="ME")
    found = axis(stamps[:4])
    np.testing.assert_array_equal(
        found.offsets(stamps.values[3:4], np.arange(1, 17))[0], stamps.values[4:]
    )


def test_day_30_is_clipped_and_comes_back() -> None:
    stamps = pd.to_datetime(["2000-12-30", "2001-01-30", "2001-02-28", "2001-03-30"])
    found = axis(stamps)
    assert found.step == Step(1, "months")
    assert str(found.offset(stamps.values[2], 1))[:10] == "2001-03-30"
    assert str(found.offset(stamps.values[3], 11))[:10] == "2002-02-28"


def test_a_start_outside_the_style_keeps_its_day() -> None:
    found = axis(pd.date_range("2000-01-01", periods=6, freq="MS"))
    assert str(found.offset(np.datetime64("2000-01-20"), 1))[:10] == "2000-02-20"


def test_annual_stamps_on_the_leap_day_are_clipped() -> None:
    stamps = np.array(["2000-02-29", "2001-02-28", "2002-02-28"], "M8[ns]")
    assert str(axis(stamps).offset(stamps[2], 2))[:10] == "2004-02-29"


def test_thirty_days_are_no_month() -> None:
    stamps = np.datetime64("2000-01-15") + 30 * np.arange(8).astype("m8[D]")
    assert axis(stamps.astype("M8[ns]")).step == Step(30, "days")


def test_days_that_drift_through_their_months_are_no_monthly_axis() -> None:
    stamps = np.array(["2000-01-02", "2000-02-10", "2000-03-25", "2000-04-05"], "M8[ns]")
    with pytest.raises(TimeAxisError, match="not evenly spaced"):
        axis(stamps)


def test_an_extra_stamp_far_below_the_step_is_uneven() -> None:
    stamps = np.datetime64("2000-01-01", "ns") + np.array([0, 600, 602, 1200, 1800, 2400]).astype(
        "m8[s]"
    )
    with pytest.raises(TimeAxisError, match="10 minutes"):
        axis(stamps)


def test_offset_backward_and_zero() -> None:
    stamps = middles(5)
    assert axis(stamps).offset(stamps[4], -4) == stamps[0]
    assert axis(stamps).offset(stamps[4], 0) == stamps[4]


def test_cftime_type_is_kept() -> None:
    stamps = xr.date_range("2000-01-30", periods=3, freq="MS", calendar="360_day", use_cftime=True)
    found = axis(stamps).offset(stamps[0], 13)
    assert type(found) is cftime.Datetime360Day


@pytest.mark.parametrize("calendar", ["datetime64", "noleap"])
def test_offset_of_what_is_no_stamp(calendar: str) -> None:
    cf = calendar != "datetime64"
    stamps = xr.date_range(
        "2000-01-30", periods=3, use_cftime=cf, calendar="noleap" if cf else "standard"
    )
    with pytest.raises(TimeAxisError, match="'June'"):
        axis(stamps).offset("June", 1)


# -- order, repeats, gaps ----------------------------------------------------------------------


def test_unsorted_repeated_and_missing() -> None:
    stamps = pd.date_range("2000-01-01", periods=10, freq="MS").values
    found = axis(stamps[[9, 0, 1, 1, 2, 5, 6]])
    assert not found.is_sorted
    assert found.duplicates == [stamps[1]]
    np.testing.assert_array_equal(found.ordinals, [9, 0, 1, 1, 2, 5, 6])
    np.testing.assert_array_equal(found.order, [1, 2, 4, 5, 6, 0])
    assert found.runs() == [(0, 3), (3, 5), (5, 6)]
    assert found.gaps == [(stamps[2], stamps[5], 2), (stamps[6], stamps[9], 2)]


def test_gaps_in_minutes() -> None:
    stamps = pd.date_range("2000-01-01", periods=10, freq="5min").values
    found = axis(np.delete(stamps, [3, 4]))
    assert found.step == Step(5, "minutes")
    assert found.gaps == [(stamps[2], stamps[5], 2)]


def test_winters_only() -> None:
    stamps = pd.date_range("2000-12-01", periods=27, freq="MS")
    winters = stamps[stamps.month.isin([12, 1, 2])]
    found = axis(winters)
    assert found.step == Step(1, "months")
    assert found.runs() == [(0, 3), (3, 6), (6, 9)]
    assert [n for _, _, n in found.gaps] == [9, 9]


def test_a_record_with_more_months_missing_than_not() -> None:
    stamps = pd.date_range("2000-01-01", periods=20, freq="MS")
    found = axis(stamps[[0, 2, 4, 6, 8, 15, 16, 17]])
    assert found.step == Step(1, "months")
    assert found.runs()[-1] == (5, 8)


def test_jitter_of_a_radar_clock() -> None:
    stamps = pd.date_range("2000-01-01", periods=30, freq="5min").values.copy()
    stamps[::3] += np.timedelta64(2, "s")
    found = axis(stamps)
    assert found.step == Step(5, "minutes")
    np.testing.assert_array_equal(found.ordinals, np.arange(30))


def test_single_stamp() -> None:
    found = axis(pd.date_range("2000-01-01", periods=1))
    assert found.step is None
    assert found.runs() == [(0, 1)]
    assert len(found) == 1
    with pytest.raises(TimeAxisError, match="single stamp"):
        found.offset(found.values[0], 1)


def test_scalar_coordinate() -> None:
    found = TimeAxis.from_array(xr.DataArray(np.datetime64("2000-01-01", "ns"), name="time"))
    assert len(found) == 1


def test_uneven_names_the_odd_interval() -> None:
    stamps = np.array(
        ["2000-01-01", "2000-01-02", "2000-01-03", "2000-01-04T12", "2000-01-06"], "M8[ns]"
    )
    with pytest.raises(TimeAxisError) as caught:
        axis(stamps)
    message = str(caught.value)
    for part in ("1 day", "2000-01-03", "2000-01-04T12", "1.5 days", "resample"):
        assert part in message


def test_shorter_than_the_commonest_is_uneven() -> None:
    stamps = np.datetime64("2000-01-01", "ns") + np.array([0, 2, 4, 6, 7, 9]).astype("m8[D]")
    with pytest.raises(TimeAxisError, match=r"2 days.*1 days|not evenly"):
        axis(stamps)


def test_two_stamps_in_one_month_of_a_monthly_axis() -> None:
    stamps = pd.to_datetime(["2000-01-01", "2000-02-01", "2000-02-15", "2000-03-01", "2000-04-01"])
    with pytest.raises(TimeAxisError, match="not evenly spaced"):
        axis(stamps)


@pytest.mark.parametrize(
    ("values", "attrs", "message"),
    [
        (np.array([1.0, 2.0]), {"units": "days since 2000-01-01"}, "xr.decode_cf"),
        (np.array([1.0, 2.0]), {"units": "days since 0000-00-00", "calendar": "365_days"},
         "calendar='noleap', units='days since 0000-01-01'"),
        (np.array([1948, 1949]), {}, "may be years"),
        (np.array(["a", "b"]), {}, "not dates"),
        (np.array([1, 2], "m8[D]"), {}, "durations"),
        (np.array(["2000-01-01", "NaT"], "M8[ns]"), {}, "NaT"),
        (np.array([], "M8[ns]"), {}, "empty"),
        (np.array(["2000-01-01T00:00:00.000000001"], "M8[ns]"), {}, "finer than a microsecond"),
    ],
)  # fmt: skip
def test_what_is_no_time_axis(values: np.ndarray, attrs: dict[str, str], message: str) -> None:
    with pytest.raises(TimeAxisError, match="time") as caught:
        TimeAxis.from_array(xr.DataArray(values, dims="time", name="time", attrs=attrs))
    assert message in str(caught.value)


def test_the_remedy_for_an_undecodable_calendar_works() -> None:
    ds = xr.Dataset(
        coords={
            "time": (
                "time", [6113.0, 6144.0, 6174.0],
                {"units": "days since 0000-00-00 00:00:00", "calendar": "365_days"},
            )
        }
    )  # fmt: skip
    with pytest.raises(TimeAxisError, match="365_days") as caught:
        TimeAxis.from_array(ds.time)
    remedy = str(caught.value).split("meant: ")[1].rstrip(".")
    scope = {"ds": ds, "xr": xr}
    exec(remedy, scope)
    found = TimeAxis.from_array(scope["ds"].time)
    # The file's own `date` variable says 161001, 161101, 161201.
    assert [(v.year, v.month, v.day) for v in found.values] == [
        (16, 10, 1),
        (16, 11, 1),
        (16, 12, 1),
    ]


def test_missing_and_mixed_cftime() -> None:
    good = cftime.DatetimeNoLeap(2000, 1, 1)
    holes = np.empty(2, object)
    holes[:] = [good, None]
    with pytest.raises(TimeAxisError, match="NoneType"):
        axis(holes)
    mixed = np.empty(2, object)
    mixed[:] = [good, cftime.Datetime360Day(2000, 2, 1)]
    with pytest.raises(TimeAxisError, match="mixes calendars"):
        axis(mixed)


def test_two_dimensional_time() -> None:
    with pytest.raises(TimeAxisError, match="expected one"):
        TimeAxis.from_array(xr.DataArray(np.zeros((2, 2), "M8[ns]"), dims=("a", "b"), name="t"))


@pytest.mark.parametrize("bad", [(0, "days"), (1.5, "days"), (1, "fortnights"), (True, "days")])
def test_impossible_steps(bad: tuple[Any, str]) -> None:
    with pytest.raises(TimeAxisError, match="step"):
        Step(*bad)


# -- finding dates -----------------------------------------------------------------------------

MONTHLY = axis(pd.date_range("1997-01-01", periods=24, freq="MS") + timedelta(days=14))


@pytest.mark.parametrize(
    "when",
    [
        "1997-06",
        "1997-06-15",
        "1997-06-15T00:00",
        "1997-06-15 00:00:00",
        "199706",
        "19970615",
        date(1997, 6, 15),
        datetime(1997, 6, 15),
        datetime(1997, 6, 15, 2, tzinfo=timezone(timedelta(hours=2))),
        datetime(1997, 6, 15, tzinfo=UTC),
        np.datetime64("1997-06"),
        np.datetime64("1997-06-15", "ns"),
        pd.Timestamp("1997-06-15"),
        cftime.DatetimeGregorian(1997, 6, 15),
        xr.DataArray(np.datetime64("1997-06-15", "ns")),
    ],
)
def test_locate(when: Any) -> None:
    assert MONTHLY.locate(when) == 5


@pytest.mark.parametrize(
    "when", ["1997-06", "1997-06-15", datetime(1997, 6, 15), cftime.Datetime360Day(1997, 6, 15)]
)
def test_locate_in_another_calendar(when: Any) -> None:
    stamps = xr.date_range(
        "1997-01-15", periods=24, freq="30D", calendar="360_day", use_cftime=True
    )
    assert axis(stamps).locate(when) == 5


def test_locate_on_a_shuffled_axis_gives_the_position_in_the_data() -> None:
    found = axis(MONTHLY.values[::-1].copy())
    assert found.locate("1997-06") == 18


@pytest.mark.parametrize(
    ("when", "parts"),
    [
        ("1997", ["means 12 stamps", "slice('1997', '1997')"]),
        ("1999-06", ["runs from 1997-01-15", "1998-12-15"]),
        ("1997-06-01", ["1997-05-15", "1997-06-15", "coarser"]),
        ("1997-13", ["no date of the calendar"]),
        ("June", ["Cannot read 'June'"]),
        (1997, ["Cannot read 1997 (int)"]),
        (np.datetime64("NaT"), ["NaT"]),
        (None, ["Cannot read None"]),
    ],
)
def test_locate_says_what_is_wrong(when: Any, parts: list[str]) -> None:
    with pytest.raises(TimeAxisError) as caught:
        MONTHLY.locate(when)
    for part in parts:
        assert part in str(caught.value)


def test_locate_in_a_gap() -> None:
    with pytest.raises(TimeAxisError, match="gap of 3 missing steps"):
        axis(np.delete(MONTHLY.values, [4, 5, 6])).locate("1997-06")


def test_february_30_exists_in_one_calendar_only() -> None:
    stamps = xr.date_range("2000-01-30", periods=4, freq="30D", calendar="360_day", use_cftime=True)
    assert axis(stamps).locate("2000-02-30") == 1
    with pytest.raises(TimeAxisError, match="no date of the calendar"):
        MONTHLY.locate("1997-02-30")


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (None, [23]),
        ("1997-06", [5]),
        (["1997-06", "1997-01"], [5, 0]),
        (slice("1997-06", "1997-08"), [5, 6, 7]),
        (slice(None, "1997-02"), [0, 1]),
        (slice("1998-11", None), [22, 23]),
        (slice("1997", "1997", 6), [0, 6]),
        (pd.DatetimeIndex(["1997-03-15"]), [2]),
        (np.array(["1997-03"], "M8[M]"), [2]),
    ],
)
def test_select(init: Any, expected: list[int]) -> None:
    found = MONTHLY.select(init)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize(
    "init", [slice("2005", "2006"), slice("1998", "1997"), slice("1997", "1998", -1), []]
)
def test_select_nothing(init: Any) -> None:
    with pytest.raises(TimeAxisError):
        MONTHLY.select(init)


def test_select_in_data_order_of_a_shuffled_axis() -> None:
    order = np.array([3, 1, 0, 2])
    found = axis(MONTHLY.values[:4][order])
    assert (
        found.values[found.select(slice("1997-01", "1997-03"))].tolist()
        == MONTHLY.values[:3].tolist()
    )
    assert found.select(None).tolist() == [0]
