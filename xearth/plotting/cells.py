"""Cells of a map: their borders, and axes in degrees, in km, or in what else they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..cf.discover import Axes
from ..errors import UnitsError
from ..units import compatible, convert
from .style import axis_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes as MplAxes

__all__ = ["edges", "kilometers", "label_axes", "latitude", "length_label", "longitude"]


def edges(coord: xr.DataArray) -> np.ndarray:
    """Return the n + 1 borders of n cells: halfway between centers, mirrored at the ends."""
    centers = np.asarray(coord.values, dtype=float)
    if centers.size == 1:
        return np.array([centers[0] - 0.5, centers[0] + 0.5])
    middle = (centers[1:] + centers[:-1]) / 2
    return np.concatenate([[2 * centers[0] - middle[0]], middle, [2 * centers[-1] - middle[-1]]])


def kilometers(coord: xr.DataArray) -> float | None:
    """Return the km that one unit of a projected coordinate is, None where it is no length.

    Examples
    --------
    >>> x = xr.DataArray([0.0, 2000.0], dims="x", attrs={"units": "m"})
    >>> kilometers(x), kilometers(x.assign_attrs(units="degrees_east"))
    (0.001, None)
    """
    units = str(coord.attrs.get("units", "1"))
    try:
        return float(convert(1.0, units, "km")) if compatible(units, "m") else None
    except UnitsError:
        return None


def length_label(coord: xr.DataArray) -> str:
    """Return "x (km)" for a projected coordinate, name and units of any other.

    Examples
    --------
    >>> length_label(xr.DataArray(0.0, name="x", attrs={"units": "m", "long_name": "easting"}))
    'easting (km)'
    """
    if kilometers(coord) is None:
        return axis_label(coord)
    name = str(coord.attrs.get("standard_name", ""))
    if name.startswith("projection_"):
        return f"{name.split('_')[1]} (km)"
    return axis_label(coord.assign_attrs(units="km"))


def label_axes(ax: MplAxes, field: xr.DataArray, axes: Axes, *, ticks: int = 4) -> None:
    """Write degrees on a latitude-longitude map, km on a projected one, units on any other.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Drawn on in the units of the coordinates.
    field : xarray.DataArray
    axes : Axes
        Of ``field``.
    ticks : int
        The most intervals along an axis of degrees or km.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    x, y = field[axes.x], field[axes.y]
    ax.tick_params(labelsize=8)
    degrees = axes.lat == axes.y and axes.lon == axes.x
    scales = (kilometers(x), kilometers(y))
    if not degrees:
        ax.set_xlabel(length_label(x), fontsize=9)
        ax.set_ylabel(length_label(y), fontsize=9)
        if None in scales:
            return
    for axis, scale, written in zip(
        (ax.xaxis, ax.yaxis), scales, (longitude, latitude), strict=True
    ):
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 3, 4, 5, 10]))
        axis.set_major_formatter(FuncFormatter(written if degrees else _scaled(scale or 1.0)))
    ax.set_aspect("equal")


def _scaled(scale: float) -> Callable[..., str]:
    """Return how a tick is written when one unit is `scale` km."""
    return lambda value, _=None: f"{value * scale:g}"


def longitude(value: float, _: object = None) -> str:
    """Return 190 as 170°W."""
    east = (value + 180.0) % 360.0 - 180.0
    if east in (0.0, -180.0):
        return f"{abs(east):g}°"
    return f"{abs(east):g}°{'E' if east > 0 else 'W'}"


def latitude(value: float, _: object = None) -> str:
    """Return -5 as 5°S."""
    if value == 0:
        return "0°"
    return f"{abs(value):g}°{'N' if value > 0 else 'S'}"
