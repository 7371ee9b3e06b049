"""Bounds of rain in mm/h for forecasts of reflectivity in dBZ.

A bound of a cell, a quantile or a threshold is the same statement in dBZ, and is converted. A mean
is not: the mean rain rate of a reflectivity is measured of the rates.
"""

from __future__ import annotations

import xarray as xr

from ..fields.rain import NO_ECHO, kind_of, rain_rate
from ..units import compatible

__all__ = ["asks_rate", "no_echo", "rated_of"]


def asks_rate(unit: str, field: xr.DataArray) -> bool:
    """Tell whether a bound is a rain rate and the field a reflectivity."""
    return kind_of(field) == "reflectivity" and compatible(unit, "mm h-1")


def no_echo(field: xr.DataArray) -> float:
    """Return the level in dBZ that stands for no echo."""
    return float(field.attrs.get("no_echo", NO_ECHO))


def rated_of(field: xr.DataArray) -> xr.DataArray:
    """Return the rain rate in mm/h of a reflectivity, under the name of the field.

    Raises
    ------
    UnitsError
        The field does not state the coefficients of its Z-R relation.
    """
    return rain_rate(field, no_echo=no_echo(field)).rename(field.name)
