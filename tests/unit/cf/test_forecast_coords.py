"""Forecast coordinates: leads, valid times, members; leads counted in steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.cf.forecast_coords import (
    forecast_coords,
    lead_counts,
    lead_steps,
    lead_unit,
    valid_time,
)
from xearth.cf.timeaxis import Step, TimeAxis
from xearth.errors import LeadError, TimeAxisError


def axis(stamps: Any) -> TimeAxis:
    return TimeAxis.from_array(xr.DataArray(stamps, dims="time", name="time"))


def test_monthly() -> None:
    coords = forecast_coords(axis(pd.date_range("2000-01-15", periods=12, freq="30D")), [0], 1)
    assert coords["lead"].attrs["units"] == "days"
    months = axis(pd.date_range("2000-01-01", periods=12, freq="MS"))
    coords = forecast_coords(months, [11, 3], 3, members=4)
    assert coords["lead"].values.tolist() == [1, 2, 3]
    assert coords["lead"].dtype == np.int64
    assert coords["lead"].attrs["units"] == "months"
    assert coords["lead"].attrs["standard_name"] == "forecast_period"
    assert coords["init"].attrs["standard_name"] == "forecast_reference_time"
    assert coords["valid_time"].attrs["standard_name"] == "time"
    assert coords["member"].values.tolist() == [0, 1, 2, 3]
    expected = [["2001-01", "2001-02", "2001-03"], ["2000-05", "2000-06", "2000-07"]]
    assert coords["valid_time"].values.astype("M8[M]").astype(str).tolist() == expected


def test_lead_counts_the_step() -> None:
    radar = axis(pd.date_range("2000-01-01", periods=5, freq="5min"))
    coords = forecast_coords(radar, [4], 3)
    assert coords["lead"].values.tolist() == [5, 10, 15]
    assert "member" not in coords
    elapsed = coords["valid_time"].values[0] - radar.values[4]
    assert elapsed.astype("m8[m]").astype(int).tolist() == [5, 10, 15]


@pytest.mark.parametrize(("leads", "members"), [(0, None), (1.5, None), (3, 0)])
def test_impossible_sizes(leads: Any, members: Any) -> None:
    with pytest.raises(LeadError, match="at least 1"):
        forecast_coords(axis(pd.date_range("2000", periods=3)), [0], leads, members=members)


def test_single_stamp_has_no_step() -> None:
    with pytest.raises(TimeAxisError, match="single stamp"):
        forecast_coords(axis(pd.date_range("2000", periods=1)), [0], 1)


def lead(values: Any, units: str | None = None) -> xr.DataArray:
    return xr.DataArray(
        values, dims="lead", name="lead", attrs={} if units is None else {"units": units}
    )


@pytest.mark.parametrize(
    ("given", "step", "expected"),
    [
        (lead([1, 2], "months"), Step(1, "months"), [1, 2]),
        (lead([1, 2], "years"), Step(1, "months"), [12, 24]),
        (lead([1, 2], "seasons"), Step(3, "months"), [1, 2]),
        (lead([12, 24], "months"), Step(1, "years"), [1, 2]),
        (lead([1.0, 2.0], "weeks"), Step(1, "days"), [7, 14]),
        (lead([0.5], "days"), Step(6, "hours"), [2]),
        (lead(np.array([0.25], "f4"), "days"), Step(6, "hours"), [1]),
        (lead([60], "min"), Step(1, "hours"), [1]),
        (lead(pd.to_timedelta([6, 12], "h")), Step(6, "hours"), [1, 2]),
    ],
)
def test_leads_in_steps(given: xr.DataArray, step: Step, expected: list[int]) -> None:
    found = lead_steps(given, step)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("given", "step", "message"),
    [
        (lead([1], "months"), Step(1, "days"), "do not convert"),
        (lead([1], "days"), Step(1, "months"), "do not convert"),
        (lead([7], "minutes"), Step(5, "minutes"), "no whole number of steps"),
        (lead([1]), Step(1, "days"), "has units ''"),
        (lead([1.5], "months"), Step(1, "months"), "whole numbers"),
        (lead([np.nan], "days"), Step(1, "days"), "whole numbers"),
    ],
)
def test_leads_that_are_none(given: xr.DataArray, step: Step, message: str) -> None:
    with pytest.raises(LeadError, match=message):
        lead_steps(given, step)


def test_valid_time_is_computed_in_the_style_of_the_starts() -> None:
    init = pd.to_datetime(["2000-01-31", "2000-02-29", "2000-06-30"])
    obj = xr.DataArray(
        np.zeros((3, 2)),
        dims=("init", "lead"),
        coords={"init": init, "lead": ("lead", [1, 12], {"units": "months"})},
    )
    found = valid_time(obj)
    assert found.dims == ("init", "lead")
    assert found.values.astype("M8[D]").astype(str).tolist() == [
        ["2000-02-29", "2001-01-31"],
        ["2000-03-31", "2001-02-28"],
        ["2000-07-31", "2001-06-30"],
    ]


def test_valid_time_of_uneven_starts_and_of_scalars() -> None:
    init = pd.to_datetime(["2000-01-01", "2000-01-06", "2000-01-08"])
    obj = xr.DataArray(
        np.zeros((3, 2)),
        dims=("init", "lead"),
        coords={"init": init, "lead": ("lead", [1.0, 2.0], {"units": "days"})},
    )
    expected = init.values[:, None] + np.array([1, 2], "m8[D]")
    np.testing.assert_array_equal(valid_time(obj), expected)
    one = valid_time(obj.isel(init=1, lead=0))
    assert one.dims == ()
    assert one.values == expected[1, 0]
    np.testing.assert_array_equal(valid_time(obj.isel(init=1)), expected[1])


def test_an_existing_valid_time_is_used() -> None:
    own = np.zeros((1, 2), "M8[ns]")
    obj = xr.DataArray(
        np.zeros((1, 2)),
        dims=("init", "lead"),
        coords={
            "init": pd.date_range("2000", periods=1),
            "lead": ("lead", [1, 2], {"units": "days"}),
            "when": (("init", "lead"), own, {"standard_name": "time"}),
        },
    )
    np.testing.assert_array_equal(valid_time(obj).values, own)


def test_valid_time_needs_dates_and_a_lead() -> None:
    years = xr.DataArray(
        np.zeros((1, 1)),
        dims=("init", "lead"),
        coords={
            "init": ("init", [1954], {"standard_name": "forecast_reference_time"}),
            "lead": ("lead", [1], {"units": "years"}),
        },
    )
    with pytest.raises(TimeAxisError, match="may be years"):
        valid_time(years)
    with pytest.raises(TimeAxisError, match="no lead"):
        valid_time(years.isel(lead=0, drop=True))


@pytest.mark.parametrize(("name", "unit"), [("lead_month", "months"), ("lead_year", "years")])
def test_whole_months_beside_nominal_days_count(name, unit):
    words = f"lead in calendar {unit} after forecast_reference_time"
    label = ("lead", [1, 2], {"long_name": words, "units": "1"})
    coords = {"lead": ("lead", [30.4375, 60.875], {"units": "days"}), name: label}
    lead = xr.Dataset(coords=coords)["lead"]
    assert lead_unit(lead) == (1, unit)
    counts, found = lead_counts(lead)
    assert (counts.tolist(), found) == ([1, 2], unit)
    other = lead.assign_coords({name: ("lead", [1, 2], {"long_name": "month 1 is that of start"})})
    assert lead_unit(other) == (1, "days")
    assert lead_unit(lead[name].assign_attrs(units="days")) == (1, "days")


def test_labels_of_archives_are_sent_to_as_hindcast():
    middles = xr.DataArray([0.5, 1.5], dims="L", name="L", attrs={"units": "months"})
    for lead in (middles, middles.drop_attrs()):
        with pytest.raises(LeadError, match="as_hindcast"):
            lead_counts(lead)
