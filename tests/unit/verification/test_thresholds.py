"""Thresholds carry units and are converted once."""

from __future__ import annotations

import numpy as np
import pint
import pytest
import xarray as xr

from xearth.errors import ConfigError, UnitsError, UnitsWarning, XearthWarning
from xearth.units import Q
from xearth.verification.thresholds import Thresholds, check_op, read_thresholds


def data(units: str | None, **attrs: str) -> xr.DataArray:
    found = xr.DataArray([0.0], dims="x", name="field", attrs=attrs)
    if units is not None:
        found.attrs["units"] = units
    return found


@pytest.mark.parametrize(
    ("thresholds", "units", "expected"),
    [
        ("5 mm/h", "mm h-1", (5.0,)),
        (["36 mm/h", "3.6 mm/h"], "m s-1", (1e-6, 1e-5)),
        ("35 dBZ", "dBZ", (35.0,)),
        ("0 degC", "K", (273.15,)),
        ("-1.5e1 degC", "degC", (-15.0,)),
        ([".5 mm", "+1 mm", "1.0 mm"], "mm", (0.5, 1.0)),
        (Q([5, 1], "mm/h"), "mm h-1", (1.0, 5.0)),
        (pint.UnitRegistry().Quantity(2.5, "cm"), "mm", (25.0,)),
        (xr.DataArray([1.0, 2.0], attrs={"units": "cm"}), "mm", (10.0, 20.0)),
        ("50 %", "1", (0.5,)),
        (0, None, (0.0,)),
        (0, "1", (0.0,)),
        ([219, 16, 74.0, 16], "1", (16.0, 74.0, 219.0)),
        (np.array([3, 1]), None, (1.0, 3.0)),
        (Thresholds((1.0,), "cm"), "mm", (10.0,)),
        ("7", None, (7.0,)),
    ],
)
def test_values(thresholds, units, expected):
    found = read_thresholds(thresholds, data(units))
    assert found.values == expected
    assert found.units == units


def test_an_anomaly_has_thresholds_of_differences():
    anomaly = data("K", units_metadata="temperature: difference")
    assert read_thresholds("0.5 degC", anomaly).values == (0.5,)


def test_a_depth_of_water_becomes_a_mass_and_says_so():
    rain = data("kg m-2 s-1", standard_name="precipitation_flux")
    with pytest.warns(UnitsWarning, match=r"'3\.6 mm/h'.*liquid water"):
        assert read_thresholds("3.6 mm/h", rain).values == (0.001,)


@pytest.mark.parametrize(
    ("thresholds", "units", "text"),
    [
        (5, "mm h-1", "'5 mm h-1'"),
        ([0, "5 mm/h"], "mm h-1", "threshold 0 has no unit"),
        (50, "%", "'50 %'"),
        ("5 mm/h", None, "'field' has none"),
        ("5 K", "mm", "dimensions differ"),
        ("5 furlongs per fortnight or so", "mm", "Cannot read the unit"),
    ],
)
def test_units_that_do_not_fit(thresholds, units, text):
    with pytest.raises(UnitsError, match=text):
        read_thresholds(thresholds, data(units))


@pytest.mark.parametrize("thresholds", ["a lot", [], float("nan"), [1, np.inf], object(), {}])
def test_what_is_no_threshold(thresholds):
    with pytest.raises(ConfigError):
        read_thresholds(thresholds, data(None))


@pytest.mark.parametrize("values", [(), (2.0, 1.0), (1.0, 1.0), (np.nan,)])
def test_a_table_of_thresholds_is_ascending(values):
    with pytest.raises(ConfigError):
        Thresholds(values)


def test_label_and_operator():
    label = read_thresholds(["1 mm", "5 mm"], data("mm")).coord().threshold
    assert label.values.tolist() == [1.0, 5.0]
    assert label.attrs["units"] == "mm"
    assert [check_op(op) for op in (">=", ">")] == [">=", ">"]
    with pytest.raises(ConfigError, match="'>='"):
        check_op("<")


@pytest.mark.parametrize(
    "attrs",
    [
        {"units_metadata": "temperature: difference"},
        {"standard_name": "surface_temperature_anomaly"},
        {"long_name": "monthly SST Anomalies"},
    ],
)
def test_thresholds_of_anomalies_are_differences(attrs):
    assert read_thresholds(["1 degC", "-1.8 degF"], data("K", **attrs)).values == (-1.0, 1.0)
    for temperature in ("300 K", "-273.15 degC", "200 degF"):
        with pytest.raises(UnitsError, match=r"is an anomaly.*'1 K'.*on_scale"):
            read_thresholds(temperature, data("degC", **attrs))
    with pytest.warns(XearthWarning, match=r"read as a difference, 27 K.*write '27 K'"):
        assert read_thresholds("27 degC", data("K", **attrs)).values == (27.0,)
    assert read_thresholds("27 K", data("degC", **attrs)).values == (27.0,)


def test_a_name_alone_can_be_overruled():
    marked = data("K", long_name="anomaly of another day", units_metadata="temperature: on_scale")
    assert read_thresholds("27 degC", marked).values == (300.15,)


def test_a_difference_is_no_threshold_of_temperatures():
    with pytest.raises(UnitsError, match=r"-272\.65 degC.*temperature: difference"):
        read_thresholds("0.5 K", data("degC"))
    assert read_thresholds("300 K", data("degC")).values == (26.85,)
    assert read_thresholds("0.5 K", data("K")).values == (0.5,)  # no conversion, nothing told


def test_other_anomalies_have_thresholds_in_their_units():
    rain = data("mm day-1", long_name="precipitation anomaly")
    assert read_thresholds("240 mm/h", rain).values == (5760.0,)
