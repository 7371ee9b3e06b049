"""Thresholds of events, with units.

An event is a value at or above (or strictly above) a threshold. A bare 5 is 5 of what? For data
with units a threshold therefore names its own: ``"5 mm/h"``, ``"35 dBZ"``, a pint quantity, or a
labeled array with ``units``. It is converted once, to the units of the data; the data are not
touched. ``"0 degC"`` is a threshold like any other; of an anomaly thresholds are differences, and
``"1 degC"`` is ``"1 K"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from ..errors import ConfigError, UnitsError, XearthWarning, warn
from ..units import affine, compatible, convert, convert_array
from .meaning import kind_of

__all__ = ["Op", "Thresholds", "check_op", "read_thresholds"]

Op = Literal[">=", ">"]

# attributes of the data that say how their units convert: differences, depths of water
_MEANING = ("standard_name", "long_name", "units_metadata", "cell_methods")

#: Kelvins that no anomaly on Earth reaches, and below which no temperature on it falls.
_COLDEST = 100.0
#: Kelvins from which on "27 degC" of an anomaly is rather a temperature.
_LARGE = 10.0

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*")


@dataclass(frozen=True)
class Thresholds:
    """Thresholds in the units of the data: finite, ascending, each once.

    Parameters
    ----------
    values : tuple of float
    units : str, optional
        None for data without units.

    Raises
    ------
    ConfigError
        None at all, not finite, not ascending, or repeated.

    Examples
    --------
    >>> Thresholds((1.0, 5.0), "mm h-1").coord().threshold.attrs["units"]
    'mm h-1'
    """

    values: tuple[float, ...]
    units: str | None = None

    def __post_init__(self) -> None:
        if not self.values or not all(np.isfinite(self.values)):
            raise ConfigError(
                f"expected one or more finite thresholds; found {self.values}. Give for example "
                "thresholds=['1 mm/h', '5 mm/h']."
            )
        if any(a >= b for a, b in zip(self.values, self.values[1:], strict=False)):
            raise ConfigError(
                f"expected ascending thresholds, each once; found {self.values}. Sort them."
            )

    def coord(self) -> xr.Dataset:
        """Return the labels of the ``threshold`` dimension."""
        attrs = {"long_name": "threshold of the event"}
        if self.units is not None:
            attrs["units"] = self.units
        return xr.Dataset(coords={"threshold": ("threshold", np.asarray(self.values), attrs)})


def check_op(op: str) -> Op:
    """Return the operator of an event, ``">="`` or ``">"``.

    Raises
    ------
    ConfigError
        Another one.

    Examples
    --------
    >>> check_op(">")
    '>'
    """
    if op == ">=":
        return ">="
    if op == ">":
        return ">"
    raise ConfigError(
        f"op must be '>=' (an event is a value at or above the threshold) or '>'; found {op!r}."
    )


def read_thresholds(thresholds: Any, data: xr.DataArray) -> Thresholds:
    """Read thresholds and convert them to the units of the data.

    Parameters
    ----------
    thresholds : str, quantity, number, labeled array, or a sequence of them
        Strings are a number and a CF unit. Bare numbers only for data without units or with the
        units ``"1"``.
    data : DataArray
        What is compared with them; only its attributes are read.

    Returns
    -------
    Thresholds
        Ascending, each once.

    Raises
    ------
    UnitsError
        A bare number for data with units, a unit for data without, or units that do not convert;
        a temperature for anomalies ("300 K"), or a difference for temperatures ("0.5 K" for data
        in degC).
    ConfigError
        Not a number, not finite, or none at all.

    Warns
    -----
    UnitsWarning
        A depth of water became a mass on an area, or the reverse, as liquid water.
    XearthWarning
        More than 10 degC for an anomaly, which is read as a difference.

    Examples
    --------
    >>> import xarray as xr
    >>> rain = xr.DataArray([0.0], dims="x", attrs={"units": "m s-1"})
    >>> read_thresholds(["36 mm/h", "3.6 mm/h"], rain)
    Thresholds(values=(1e-06, 1e-05), units='m s-1')
    """
    if isinstance(thresholds, Thresholds):
        thresholds = xr.DataArray(
            list(thresholds.values),
            attrs={} if thresholds.units is None else {"units": thresholds.units},
        )
    found = [_to_units(*pair, data) for pair in _pairs(thresholds)]
    units = data.attrs.get("units")
    return Thresholds(tuple(sorted(set(found))), units)


def _pairs(thresholds: Any) -> list[tuple[float, str | None]]:
    """Return each threshold as a number and its unit, None for a bare number."""
    if isinstance(thresholds, str):
        return [_read(thresholds)]
    if isinstance(thresholds, xr.DataArray):
        units = thresholds.attrs.get("units")
        return [(_number(v), units) for v in np.ravel(thresholds.values)]
    if hasattr(thresholds, "magnitude") and hasattr(thresholds, "units"):
        # the registry of another package: its units travel as text
        return [(_number(v), str(thresholds.units)) for v in np.ravel(thresholds.magnitude)]
    if isinstance(thresholds, Iterable) and not isinstance(thresholds, Mapping):
        return [pair for item in thresholds for pair in _pairs(item)]
    return [(_number(thresholds), None)]


def _read(text: str) -> tuple[float, str | None]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"cannot read the threshold {text!r}: expected a number and a unit, such as '5 mm/h' "
            "or '35 dBZ'."
        )
    return float(match[1]), match[2] or None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"cannot read the threshold {value!r}: expected a number, or text such as '5 mm/h'."
        ) from error


def _to_units(value: float, unit: str | None, data: xr.DataArray) -> float:
    units = data.attrs.get("units")
    name = "the data" if data.name is None else repr(data.name)
    if unit is None:
        if units is not None and not _is_unitless(units):
            raise UnitsError(
                f"the threshold {value:g} has no unit, but {name} has the units {units!r}. "
                f"Write '{value:g} {units}', or the unit you mean."
            )
        return value
    if units is None:
        if _is_unitless(unit):
            return value
        raise UnitsError(
            f"the threshold '{value:g} {unit}' has a unit, but {name} has none. Set "
            f"attrs['units'] of the data, for example to {unit!r}."
        )
    kept = {key: data.attrs[key] for key in _MEANING if key in data.attrs}
    if compatible(units, "K") and compatible(unit, "K"):
        kept |= _temperature(value, unit, data)
    label = f"threshold '{value:g} {unit}' for {name}"
    limit = xr.DataArray(value, name=label, attrs={**kept, "units": unit})
    converted = convert_array(limit, units).item()
    # 36 mm/h is 1e-5 m/s, not the number beside it that a product of factors gives
    return float(f"{converted:.15g}")


def _temperature(value: float, unit: str, data: xr.DataArray) -> dict[str, str]:
    """Return what marks a threshold as a difference, for anomalies; refuse what cannot be meant."""
    said, units = f"the threshold '{value:g} {unit}'", str(data.attrs["units"])
    absolute = kind_of(data) == "absolute"
    kelvins = float(convert(value, unit, "K", difference=not absolute))
    if absolute:
        if kelvins < _COLDEST and affine(unit, units)[1] != 0:
            raise UnitsError(
                f"{said} is {float(convert(value, unit, units)):.6g} {units}, but {data.name!r} is "
                "a temperature; expected one that occurs. If it is an anomaly, mark it: "
                "attrs['units_metadata'] = 'temperature: difference'; if not, give the threshold "
                f"in {units!r}."
            )
        return {}
    remedy = (
        "Give the departure from normal, such as '1 K', or verify absolute values; if "
        f"{data.name!r} is no anomaly, set attrs['units_metadata'] = 'temperature: on_scale'."
    )
    if abs(kelvins) >= _COLDEST:
        raise UnitsError(
            f"{said} is a temperature, but {data.name!r} is an anomaly, which never reaches it; "
            f"expected a difference. {remedy}"
        )
    if abs(kelvins) > _LARGE and affine(unit, "K")[1] != 0:
        warn(
            f"{said} of the anomaly {data.name!r} is read as a difference, {kelvins:g} K, not as "
            f"a temperature. {remedy} If the difference is meant, write '{kelvins:g} K'.",
            XearthWarning,
        )
    return {"units_metadata": "temperature: difference"}


def _is_unitless(units: str) -> bool:
    return compatible(units, "1") and float(convert(1.0, units, "1")) == 1.0
