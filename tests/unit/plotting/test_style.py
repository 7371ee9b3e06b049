from __future__ import annotations

import sys

import cftime
import numpy as np
import pytest
import xarray as xr

from xearth.errors import MissingDependencyError
from xearth.plotting.cells import latitude, longitude
from xearth.plotting.style import axis_label, is_signed, plot_dates, pyplot


@pytest.mark.parametrize(
    ("attrs", "label"),
    [
        ({"long_name": "rain", "units": "mm h-1"}, "rain (mm h-1)"),
        ({"standard_name": "air_temperature", "units": "degC"}, "air temperature (°C)"),
        ({"long_name": "correlation", "units": "1"}, "correlation"),
        ({}, "field"),
        ({"long_name": "SST anomaly, forecast by a model", "units": "K"}, "SST anomaly (K)"),
    ],
)  # fmt: skip
def test_labels_name_the_quantity_and_its_unit(attrs, label):
    assert axis_label(xr.DataArray(0.0, name="field", attrs=attrs)) == label


def test_a_nino_index_goes_by_its_name():
    index = xr.DataArray(0.0, name="nino34", attrs={"units": "degC", "long_name": "mean over ..."})
    assert axis_label(index) == "Nino3.4 SST (°C)"
    difference = index.assign_attrs(units="K", units_metadata="temperature: difference")
    assert axis_label(difference) == "Nino3.4 anomaly (K)"


def test_dates_of_other_calendars_are_drawn_in_their_month():
    stamps = np.array(
        [cftime.Datetime360Day(2000, 2, 30), cftime.DatetimeNoLeap(2001, 12, 16)], dtype=object
    )
    assert plot_dates(stamps).tolist() == [
        np.datetime64("2000-02-29").item(),
        np.datetime64("2001-12-16").item(),
    ]


def test_a_difference_is_signed_and_an_absolute_field_is_not():
    absolute = xr.DataArray([280.0, 300.0], attrs={"units": "K"})
    assert not is_signed(absolute)
    assert is_signed(absolute.assign_attrs(units_metadata="temperature: difference"))
    assert is_signed(xr.DataArray([-1.0, 2.0]))


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0°"), (180, "180°"), (190, "170°W"), (-170, "170°W"), (120, "120°E")]
)
def test_longitudes_read_as_on_a_map(value, text):
    assert longitude(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0°"), (-5, "5°S"), (12.5, "12.5°N")])
def test_latitudes_read_as_on_a_map(value, text):
    assert latitude(value) == text


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependencyError, match=r"xearth\[plot\]"):
        pyplot()
