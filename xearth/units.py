r"""Units: one registry that reads CF and UDUNITS strings, and affine conversion of values.

A conversion between two units of one dimension is affine,

.. math:: v_\mathrm{target} = a \, v_\mathrm{source} + b ,

with :math:`b \ne 0` only for absolute temperatures on different scales. A *difference* of
temperatures (an anomaly, a spread, an error) converts with :math:`b = 0`; CF marks it with
``units_metadata = "temperature: difference"``.

A depth of water and a mass of water on an area (mm day-1, kg m-2 s-1) differ in dimension; a
labeled field is converted between them as liquid water of 1000 kg m-3, with a `UnitsWarning`.

The registry is built on first use and is private to xearth: pint's application registry,
which other packages may have set, is never replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from .errors import UnitsError, UnitsWarning, warn

if TYPE_CHECKING:
    import pint

__all__ = [
    "Q",
    "affine",
    "cf_format",
    "compatible",
    "convert",
    "convert_array",
    "is_difference",
    "parse",
    "registry",
]

Values = TypeVar("Values")

# What CF files write and pint does not know, as data.
_DEFINITIONS = (
    "@alias degree_Celsius = deg_C = degree_C = degrees_C = degreesC = degree_c = degrees_c",
    "@alias degree_Celsius = Celsius = degrees_Celsius = degrees_celsius",
    "@alias kelvin = deg_K = degree_K = degrees_K = degreesK = degree_kelvin = Kelvin",
    "@alias degree_Fahrenheit = deg_F = degree_F = degrees_F = degreesF = degrees_fahrenheit",
    "@alias degree_Fahrenheit = Fahrenheit = degree_fahrenheit = degrees_Fahrenheit",
    "@alias meter = gpm",
    "degrees_north = degree = _ = degree_north = degrees_N = degree_N = degreesN = degreeN",
    "degrees_east = degree = _ = degree_east = degrees_E = degree_E = degreesE = degreeE",
    "practical_salinity_unit = 0.001 = psu = PSU",
    # A logarithmic level is not affine in mm6 m-3, so it is a dimension of its own here.
    "reflectivity_level = [reflectivity_level] = dBZ = dBz",
)

# Spellings with blanks or signs that no expression parser can take apart.
_SPELLINGS = {
    "": "dimensionless",
    "1": "dimensionless",
    "fraction": "dimensionless",
    "unitless": "dimensionless",
    "(0 - 1)": "dimensionless",
    "(0-1)": "dimensionless",
    "0-1": "dimensionless",
    "1e-3": "permille",
    "1E-3": "permille",
    "0.001": "permille",
    "°C": "degree_Celsius",
    "ºC": "degree_Celsius",
    "deg C": "degree_Celsius",
    "degree C": "degree_Celsius",
    "degrees C": "degree_Celsius",
    "degree Celsius": "degree_Celsius",
    "degrees Celsius": "degree_Celsius",
    "degrees K": "kelvin",
    "mb": "millibar",  # pint reads the millibarn of nuclear physics
}

_POWER = re.compile(r"(?<=[A-Za-z])(?![A-Za-z])(?<![0-9\-][eE])(?<![0-9\-])(?=[0-9\-])")

_SYMBOLS = {
    "degree_Celsius": "degC",
    "delta_degree_Celsius": "degC",
    "delta_degree_Fahrenheit": "degF",
    "degree_Fahrenheit": "degF",
    "percent": "%",
    "permille": "1e-3",
    "practical_salinity_unit": "1e-3",
    "reflectivity_level": "dBZ",
    "degree": "degree",
    "degrees_north": "degrees_north",
    "degrees_east": "degrees_east",
    "year": "year",
    "month": "month",
    "minute": "min",
    "knot": "knot",
}

WATER_DENSITY = 1000.0  # kg m-3
_WATER = re.compile(r"precip|rain|lwe|water_equivalent|evapo|runoff|\b(tp|pr)\b", re.IGNORECASE)
_WATER_NAMES = {"lwe_precipitation_rate": "precipitation_flux", "rainfall_rate": "rainfall_flux"}
_WATER_NAMES |= {flux: rate for rate, flux in _WATER_NAMES.items()}

_SCALED_ATTRS = ("valid_min", "valid_max", "valid_range", "actual_range")


@lru_cache(maxsize=1)
def registry() -> pint.UnitRegistry:
    """Build, once, the unit registry of xearth.

    Returns
    -------
    pint.UnitRegistry
        Knows CF names and exponent notation. It is not pint's application registry.

    Examples
    --------
    >>> str(registry()("8 mm h-1").to("m s-1").units)
    'meter / second'
    """
    import pint

    built: pint.UnitRegistry = pint.UnitRegistry(
        autoconvert_offset_to_baseunit=True,
        preprocessors=[lambda text: _POWER.sub("**", str(text)), _percent],
    )
    known = {"percent": "percent = 0.01 = %", "permille": "permille = 0.001 = ‰"}
    for name, definition in known.items():
        if name not in built:
            built.define(definition)
    for definition in _DEFINITIONS:
        built.define(definition)
    return built


def _percent(text: str) -> str:
    return text.replace("%", "percent")


def Q(value: Any, unit: str) -> pint.Quantity:  # noqa: N802 - the name in every formula
    """Make a quantity: a number (or array) with a unit.

    Parameters
    ----------
    value : number or array
    unit : str
        A CF unit string.

    Returns
    -------
    pint.Quantity

    Raises
    ------
    UnitsError
        The unit is not known.

    Examples
    --------
    >>> from xearth.units import Q
    >>> round(Q(8, "mm/h").to("m s-1").magnitude * 1e6, 3)
    2.222
    """
    quantity: pint.Quantity = registry().Quantity(value, parse(unit))
    return quantity


@lru_cache(maxsize=512)
def parse(unit: str) -> pint.Unit:
    """Read a unit string.

    Parameters
    ----------
    unit : str
        For example ``"kg m-2 s-1"``, ``"degC"``, ``"1"``, ``"%"``, ``"dBZ"``.

    Returns
    -------
    pint.Unit

    Raises
    ------
    UnitsError
        The string is not a unit.

    Examples
    --------
    >>> parse("kg m-2 s-1") == parse("kg/m2/s")
    True
    """
    if not isinstance(unit, str):
        raise UnitsError(
            f"A unit must be a string such as 'K' or 'mm h-1'; got {unit!r} "
            f"({type(unit).__name__}). Write it as a string; '1' is the unit of a bare number."
        )
    text = unit.strip()
    if re.search(r"\bsince\b", text):
        raise UnitsError(
            f"{unit!r} is a reference time, not a unit to convert. Decode the time axis first, "
            "with xr.decode_cf(ds) or xr.open_dataset(..., decode_times=True)."
        )
    try:
        found: pint.Unit = registry().parse_units(_SPELLINGS.get(text, text))
    except Exception as error:  # pint and the tokenizer below it raise a dozen kinds
        raise UnitsError(
            f"Cannot read the unit {unit!r}: {_reason(error)}. Use a CF (UDUNITS) string such as "
            "'K', 'degC', 'kg m-2 s-1', 'mm h-1', '%' or '1'."
        ) from error
    return found


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else "it is no product of units"


def compatible(a: str, b: str) -> bool:
    """Tell whether values in unit ``a`` can be converted to unit ``b``.

    Parameters
    ----------
    a, b : str

    Returns
    -------
    bool

    Examples
    --------
    >>> compatible("degC", "K"), compatible("m", "K")
    (True, False)
    """
    return bool(parse(a).dimensionality == parse(b).dimensionality)


def affine(source: str, target: str, *, difference: bool = False) -> tuple[float, float]:
    r"""Find :math:`(a, b)` of :math:`v_\mathrm{target} = a \, v_\mathrm{source} + b`.

    Parameters
    ----------
    source, target : str
    difference : bool
        The values are differences (anomalies, errors, spreads), so :math:`b = 0`.

    Returns
    -------
    scale, offset : float

    Raises
    ------
    UnitsError
        The units have different dimensions, or one of them is unknown.

    Examples
    --------
    >>> affine("degC", "K")
    (1.0, 273.15)
    >>> affine("degC", "K", difference=True)
    (1.0, 0.0)
    """
    return _affine(source, target, bool(difference))


@lru_cache(maxsize=512)
def _affine(source: str, target: str, difference: bool) -> tuple[float, float]:
    if not compatible(source, target):
        raise UnitsError(
            f"Cannot convert {source!r} ({_dimension(source)}) to {target!r} "
            f"({_dimension(target)}): the dimensions differ.{_hint(source, target)} "
            "Correct attrs['units'] if it is wrong, or ask for a unit of the same dimension."
        )
    units = registry()
    start, end = parse(source), parse(target)
    scale = float(units.Quantity(1.0, _step_unit(start)).to(_step_unit(end)).magnitude)
    if difference or (_is_multiplicative(start) and _is_multiplicative(end)):
        return scale, 0.0
    return scale, float(units.Quantity(0.0, start).to(end).magnitude)


def _hint(source: str, target: str) -> str:
    if "C" in (source, target):
        return " 'C' is the coulomb; degrees Celsius are 'degC'."
    if "[reflectivity_level]" in _dimension(source) + _dimension(target):
        return " A reflectivity in dBZ is logarithmic: convert it with 10 ** (dBZ / 10)."
    return ""


def _dimension(unit: str) -> str:
    return str(parse(unit).dimensionality)


def _is_multiplicative(unit: pint.Unit) -> bool:
    return bool(registry().Quantity(1.0, unit)._is_multiplicative)


def _step_unit(unit: pint.Unit) -> pint.Unit:
    """Give the unit of a difference of two values in ``unit`` (degC -> delta degC)."""
    if _is_multiplicative(unit):
        return unit
    step: pint.Unit = (registry().Quantity(1.0, unit) - registry().Quantity(0.0, unit)).units
    return step


def convert(values: Values, source: str, target: str, *, difference: bool = False) -> Values:
    """Convert values from one unit to another.

    Parameters
    ----------
    values : number, numpy or Dask array, DataArray
        Stays lazy when lazy; a float dtype is kept, integers become float64. Attributes of a
        DataArray are not touched: use `convert_array` for those.
    source, target : str
    difference : bool
        See `affine`.

    Returns
    -------
    same type as ``values``
        The same object when nothing has to change.

    Raises
    ------
    UnitsError
        The units have different dimensions, or one of them is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> convert(np.array([0.0, 25.0]), "degC", "K")
    array([273.15, 298.15])
    """
    if source == target:
        parse(source)
        return values
    scale, offset = affine(source, target, difference=difference)
    if scale == 1.0 and offset == 0.0:
        return values
    found: Any = np.asarray(values) if isinstance(values, list | tuple) else values
    if scale != 1.0:
        found = found * scale
    if offset != 0.0:
        found = found + offset
    return found


def is_difference(attrs: Mapping[str, Any]) -> bool:
    """Tell whether attributes describe a difference of temperatures, not a temperature.

    True for ``units_metadata = "temperature: difference"``, for a standard name of an anomaly
    and for a standard deviation by ``cell_methods``; an explicit ``on_scale`` wins.

    Parameters
    ----------
    attrs : mapping

    Returns
    -------
    bool

    Examples
    --------
    >>> is_difference({"standard_name": "surface_temperature_anomaly", "units": "K"})
    True
    """
    said = str(attrs.get("units_metadata", ""))
    if "difference" in said:
        return True
    if "on_scale" in said:
        return False
    if str(attrs.get("standard_name", "")).split(" ")[0].endswith("_anomaly"):
        return True
    return "standard_deviation" in str(attrs.get("cell_methods", ""))


def convert_array(da: xr.DataArray, target: str) -> xr.DataArray:
    """Convert a labeled field, values and attributes together.

    Parameters
    ----------
    da : xarray.DataArray
        Carries ``units``; temperature differences are recognized by `is_difference`.
    target : str

    Returns
    -------
    xarray.DataArray
        With ``units`` set to ``target``; ``da`` itself when its units are ``target``. Stays
        lazy. ``valid_range`` and its like are converted too.

    Warns
    -----
    UnitsWarning
        Depths of water became masses on an area, or the reverse, as liquid water.

    Raises
    ------
    UnitsError
        ``da`` has no units, or they cannot become ``target``; the message names the field.

    Examples
    --------
    >>> sst = xr.DataArray([20.0], dims="time", attrs={"units": "degC"})
    >>> convert_array(sst, "K").item()
    293.15
    """
    name = da.name if da.name is not None else "the field"
    if "units" not in da.attrs:
        raise UnitsError(
            f"{name!r} has no attrs['units'], so it cannot be converted to {target!r}. "
            f"Set it first, for example da.attrs['units'] = {target!r}."
        )
    source = da.attrs["units"]
    difference = is_difference(da.attrs)
    try:
        water = _through_water(da, source, target)
        line = (water, 0.0) if water else affine(source, target, difference=difference)
    except UnitsError as error:
        raise UnitsError(f"{name!r}: {error}") from error
    scale, offset = line
    if source == target:
        return da
    values: Any = da.data
    values = values if scale == 1.0 else values * scale
    found = da.copy(data=values if offset == 0.0 else values + offset)
    found.attrs = {**da.attrs, "units": target}
    if water:
        _said_of_water(found, source, target)
    if (scale, offset) != (1.0, 0.0):
        found.encoding = {}
        for key in [k for k in _SCALED_ATTRS if k in found.attrs]:
            ends = np.asarray(found.attrs.pop(key))
            if ends.dtype.kind == "f" or "scale_factor" not in da.encoding:
                found.attrs[key] = ends * scale + offset  # else it counts in the packing, now gone
    return found


def _through_water(da: xr.DataArray, source: str, target: str) -> float | None:
    """Give the factor between a depth of water and a mass on an area; None for anything else."""
    words = " ".join(str(da.attrs.get(key, "")) for key in ("standard_name", "long_name"))
    of_water = _WATER.search(f"{words} {da.name}")  # an amount could be of anything else
    for depth, mass in (("m s-1", "kg m-2 s-1"), *([("m", "kg m-2")] if of_water else [])):
        if compatible(source, depth) and compatible(target, mass):
            return affine(source, depth)[0] * WATER_DENSITY * affine(mass, target)[0]
        if compatible(source, mass) and compatible(target, depth):
            return affine(source, mass)[0] / WATER_DENSITY * affine(depth, target)[0]
    return None


def _said_of_water(found: xr.DataArray, source: str, target: str) -> None:
    """Give the converted field its new name, and say what was assumed."""
    text = f"liquid water of {WATER_DENSITY:g} kg m-3 (1 mm is 1 kg m-2)"
    name = found.attrs.pop("standard_name", None)
    if name in _WATER_NAMES:
        found.attrs["standard_name"] = _WATER_NAMES[name]
    found.attrs["comment"] = f"{found.attrs.get('comment', '')} Converted as {text}.".strip()
    warn(f"{found.name!r} is converted from {source!r} to {target!r} as {text}.", UnitsWarning)


def cf_format(unit: pint.Unit | str) -> str:
    """Write a unit as CF does: symbols, blanks, signed exponents.

    Parameters
    ----------
    unit : pint.Unit or str

    Returns
    -------
    str

    Examples
    --------
    >>> cf_format("mm/hour"), cf_format("kg/m**2/s"), cf_format("dimensionless")
    ('mm h-1', 'kg m-2 s-1', '1')
    """
    found = parse(unit) if isinstance(unit, str) else unit
    items: list[tuple[str, Any]] = list(found._units.items())
    powers = sorted(items, key=lambda item: (item[1] < 0, _symbol(item[0])))
    parts = [f"{_symbol(name)}{'' if power == 1 else _exponent(power)}" for name, power in powers]
    return " ".join(parts) or "1"


def _symbol(name: str) -> str:
    return _SYMBOLS.get(name) or registry().get_symbol(name).replace("µ", "u").replace("Δ°", "deg")


def _exponent(power: Any) -> str:
    if float(power) != int(power):
        raise UnitsError(
            f"The exponent {power} has no CF spelling: CF units take whole exponents only. "
            "Take the power of the values that makes the exponents whole."
        )
    return str(int(power))
