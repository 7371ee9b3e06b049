"""Units: spelling, affine conversion against UDUNITS and closed forms, typed errors."""

from __future__ import annotations

import subprocess
import sys

import dask.array
import numpy as np
import pytest
import xarray as xr

from xearth.errors import UnitsError, UnitsWarning
from xearth.units import (
    Q,
    affine,
    cf_format,
    compatible,
    convert,
    convert_array,
    is_difference,
    parse,
    registry,
)

SPELLINGS = {
    "K": "K",
    "kelvin": "K",
    "degC": "degC",
    "Celsius": "degC",
    "degree_Celsius": "degC",
    "°C": "degC",
    "degrees C": "degC",
    "kg m-2 s-1": "kg m-2 s-1",
    "kg/m2/s": "kg m-2 s-1",
    "kg m**-2 s**-1": "kg m-2 s-1",
    "mm/h": "mm h-1",
    "mm h-1": "mm h-1",
    "mm/day": "mm d-1",
    "m s-1": "m s-1",
    "meter second-1": "m s-1",
    "W m-2": "W m-2",
    "m2 s-2": "m2 s-2",
    "%": "%",
    "percent": "%",
    "1": "1",
    "": "1",
    "dBZ": "dBZ",
    "psu": "1e-3",
    "degrees_north": "degrees_north",
    "degree_east": "degrees_east",
    "degrees": "degree",
    "hPa": "hPa",
    "mb": "mbar",
    "um": "um",
    "1/s": "s-1",
    "knots": "knot",
}


@pytest.mark.parametrize(("given", "written"), SPELLINGS.items())
def test_spellings(given: str, written: str) -> None:
    assert cf_format(given) == written
    assert compatible(given, written)
    assert affine(given, written) == (1.0, 0.0)


PAIRS = [
    ("degC", "K"),
    ("K", "degC"),
    ("degF", "K"),
    ("K", "degF"),
    ("mm h-1", "m s-1"),
    ("kg m-2 s-1", "g m-2 day-1"),
    ("hPa", "Pa"),
    ("%", "1"),
    ("knot", "m s-1"),
    ("m2 s-2", "J kg-1"),
    ("degrees_north", "radian"),
    ("days", "minutes"),
    ("um", "mm"),
    ("1e-3", "%"),
    ("inch", "mm"),
]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_conversion_agrees_with_udunits(source: str, target: str) -> None:
    cf_units = pytest.importorskip("cf_units")
    values = np.array([-40.0, 0.0, 1.0, 273.15, 1e4])
    expected = cf_units.Unit(source).convert(values, cf_units.Unit(target))
    np.testing.assert_allclose(convert(values, source, target), expected, rtol=1e-9, atol=1e-9)


def test_closed_forms() -> None:
    assert affine("degC", "K") == (1.0, 273.15)
    scale, offset = affine("degF", "degC")
    assert scale == pytest.approx(5 / 9)
    assert offset == pytest.approx(-160 / 9)
    assert affine("mm h-1", "m s-1")[0] == pytest.approx(1e-3 / 3600)


def test_a_difference_has_no_offset() -> None:
    assert affine("degC", "K", difference=True) == (1.0, 0.0)
    assert affine("degF", "K", difference=True)[0] == pytest.approx(5 / 9)
    assert affine("degF", "K", difference=True)[1] == 0.0


def test_units_of_anomalies_in_products_convert_as_differences() -> None:
    assert affine("degC m-1", "K m-1") == (1.0, 0.0)


def test_equal_units_return_the_same_object() -> None:
    values = np.ones(3)
    assert convert(values, "K", "K") is values
    assert convert(values, "degC", "Celsius") is values
    assert convert(values, "degC", "K", difference=True) is values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_type_is_kept(dtype: str) -> None:
    assert convert(np.ones(2, dtype), "degC", "K").dtype == dtype
    assert convert(np.ones(2, dtype), "mm", "m").dtype == dtype


def test_integers_become_floats() -> None:
    np.testing.assert_array_equal(convert(np.array([1, 2]), "degC", "K"), [274.15, 275.15])


def test_input_is_never_written_to() -> None:
    values = np.array([1.0, 2.0])
    values.flags.writeable = False
    convert(values, "degC", "degF")
    np.testing.assert_array_equal(values, [1.0, 2.0])


def test_dask_stays_lazy() -> None:
    def explode(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("computed")

    lazy = dask.array.ones(4, chunks=2).map_blocks(explode, dtype="f8", meta=np.empty(0))
    assert isinstance(convert(lazy, "degC", "K"), dask.array.Array)


@pytest.mark.parametrize(
    "bad", ["banana", "m of water", "10-6 s-1", "days since 2000-01-01", "m^^2"]
)
def test_unknown_unit_is_named(bad: str) -> None:
    with pytest.raises(UnitsError, match=r"unit|Decode") as caught:
        parse(bad)
    assert repr(bad) in str(caught.value)


def test_a_number_is_no_unit() -> None:
    with pytest.raises(UnitsError, match="must be a string"):
        parse(1)  # type: ignore[arg-type]


def test_incompatible_names_both() -> None:
    with pytest.raises(UnitsError, match=r"'mm'.*'K'"):
        convert(1.0, "mm", "K")


def test_coulomb_is_explained() -> None:
    with pytest.raises(UnitsError, match="degrees Celsius are 'degC'"):
        affine("C", "K")


def test_reflectivity_is_not_affine() -> None:
    with pytest.raises(UnitsError, match="logarithmic"):
        affine("dBZ", "mm6 m-3")


def test_fractional_exponent_has_no_spelling() -> None:
    with pytest.raises(UnitsError, match="whole exponents"):
        cf_format(registry().Unit("meter ** 0.5"))


def test_quantity() -> None:
    assert Q(36, "km/h").to("m/s").magnitude == pytest.approx(10.0)
    with pytest.raises(UnitsError, match="banana"):
        Q(1, "banana")


def test_convert_array_sets_attributes() -> None:
    sst = xr.DataArray(
        np.array([20.0, np.nan], "f4"),
        dims="time",
        name="sst",
        attrs={"units": "degC", "valid_range": np.array([-2.0, 40.0]), "long_name": "SST"},
    )
    sst.encoding = {"scale_factor": 0.01, "dtype": "int16"}
    kelvin = convert_array(sst, "K")
    assert kelvin.dtype == np.float32
    assert kelvin.attrs["units"] == "K"
    assert kelvin.attrs["long_name"] == "SST"
    np.testing.assert_allclose(kelvin.attrs["valid_range"], [271.15, 313.15])
    assert kelvin.encoding == {}, "the packing of degrees Celsius does not fit kelvins"
    assert kelvin.values[0] == pytest.approx(293.15)
    assert np.isnan(kelvin.values[1])
    assert sst.attrs["units"] == "degC", "the input is left alone"


def test_packed_valid_range_goes_with_its_packing() -> None:
    sst = xr.DataArray(
        [1.0], dims="t", attrs={"units": "degC", "valid_range": np.array([-200, 4000])}
    )
    sst.encoding = {"scale_factor": 0.01, "dtype": "int16"}
    assert "valid_range" not in convert_array(sst, "K").attrs


def test_convert_array_of_an_anomaly() -> None:
    anomaly = xr.DataArray(
        [1.5], dims="t", attrs={"units": "degC", "units_metadata": "temperature: difference"}
    )
    found = convert_array(anomaly, "K")
    assert found.item() == 1.5
    assert found.attrs["units"] == "K"


def test_convert_array_to_its_own_unit_is_itself() -> None:
    sst = xr.DataArray([1.5], dims="t", attrs={"units": "K"})
    assert convert_array(sst, "K") is sst


@pytest.mark.parametrize(
    ("attrs", "message"),
    [({}, "no attrs"), ({"units": "m"}, "dimensions differ"), ({"units": "qq"}, "Cannot read")],
)
def test_convert_array_names_the_field(attrs: dict[str, str], message: str) -> None:
    with pytest.raises(UnitsError, match=message) as caught:
        convert_array(xr.DataArray([1.0], dims="t", name="sst", attrs=attrs), "K")
    assert "'sst'" in str(caught.value)


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"units": "K"}, False),
        ({"units_metadata": "temperature: difference"}, True),
        ({"standard_name": "surface_temperature_anomaly"}, True),
        ({"standard_name": "surface_temperature_anomaly",
          "units_metadata": "temperature: on_scale"}, False),
        ({"cell_methods": "realization: standard_deviation"}, True),
        ({"standard_name": "sea_surface_temperature", "cell_methods": "time: mean"}, False),
    ],
)  # fmt: skip
def test_is_difference(attrs: dict[str, str], expected: bool) -> None:
    assert is_difference(attrs) is expected


def test_application_registry_is_left_alone_and_pint_is_lazy() -> None:
    code = (
        "import sys, xearth.units as u; assert 'pint' not in sys.modules; import pint; "
        "before = pint.get_application_registry().get(); u.Q(1, 'K'); "
        "assert pint.get_application_registry().get() is before; "
        "assert u.registry() is not before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        *[(s, "degC") for s in ("degree_C", "degrees_C", "degreesC", "degree_c", "celsius")],
        *[(s, "K") for s in ("degree_K", "degrees_K", "degK", "degree_kelvin", "Kelvin")],
        *[(s, "degF") for s in ("deg_F", "degree_F", "degrees_F", "fahrenheit", "Fahrenheit")],
        ("(0-1)", "1"),
        ("0-1", "1"),
    ],
)
def test_spellings_of_udunits(spelling: str, unit: str) -> None:
    assert parse(spelling) == parse(unit)
    assert affine(spelling, unit) == (1.0, 0.0)


def _rain(units: str, **attrs: str) -> xr.DataArray:
    given = {"units": units, "standard_name": "lwe_precipitation_rate", **attrs}
    return xr.DataArray(np.array([0.0, 8.64], "f4"), dims="x", name="pr", attrs=given)


@pytest.mark.parametrize("source", ["mm/day", "mm day-1", "m s-1", "mm h-1"])
def test_water_rates_become_fluxes_with_the_density_stated(source: str) -> None:
    with pytest.warns(UnitsWarning, match="1000 kg m-3"):
        flux = convert_array(_rain(source), "kg m-2 s-1")
    # one millimeter of water is one kilogram on a square meter
    expected = convert(8.64, source, "mm s-1")
    assert flux.values[1] == pytest.approx(expected, rel=1e-6)
    assert flux.dtype == np.float32
    assert flux.attrs["standard_name"] == "precipitation_flux"
    assert "1000 kg m-3" in flux.attrs["comment"]
    with pytest.warns(UnitsWarning, match="1000 kg m-3"):
        back = convert_array(flux, source)
    np.testing.assert_allclose(back.values, [0.0, 8.64], rtol=1e-6)
    assert back.attrs["standard_name"] == "lwe_precipitation_rate"


def test_water_amounts_convert_where_the_words_say_water() -> None:
    depth = _rain("mm", standard_name="lwe_thickness_of_precipitation_amount")
    with pytest.warns(UnitsWarning, match="liquid water"):
        assert convert_array(depth, "kg m-2").values[1] == pytest.approx(8.64, rel=1e-6)
    height = xr.DataArray([1.0], dims="x", name="zg", attrs={"units": "m"})
    with pytest.raises(UnitsError, match="dimensions differ"):
        convert_array(height, "kg m-2")


def test_water_is_no_way_around_other_dimensions() -> None:
    for source, target in (("K", "m"), ("mm day-1", "K"), ("kg m-2 s-1", "m"), ("m s-1", "Pa")):
        with pytest.raises(UnitsError, match="dimensions differ"):
            convert_array(_rain(source), target)
