"""What is horizontal about a labeled object: rulers, order of rows and columns, grid mapping."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..cf.discover import Axes
from ..errors import AxisError, CheckpointError
from .geometry import column_order, row_order

__all__ = [
    "decode",
    "encode",
    "grid_mapping",
    "horizontal_axes",
    "is_temporal",
    "orders",
    "plain",
    "ruler_name",
]

_TEMPORAL = ("time", "forecast_reference_time", "forecast_period", "realization")


def horizontal_axes(axes: Axes) -> Axes:
    """Return the Axes of rows and columns alone."""
    return Axes(y=axes.y, x=axes.x, lat=axes.lat, lon=axes.lon)


def ruler_name(obj: xr.DataArray | xr.Dataset, axes: Axes, dim: Hashable) -> Hashable | None:
    """Return the 1-D numeric coordinate that measures ``dim``: latitude or longitude first."""
    for name in (axes.lat if dim == axes.y else axes.lon, dim):
        if name is not None and name in obj.coords:
            coord = obj.coords[name]
            if coord.dims == (dim,) and coord.dtype.kind in "iuf":
                return name
    return None


def orders(obj: xr.DataArray | xr.Dataset, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored positions of the rows south to north and the columns west to east.

    A grid without 1-D coordinates is turned as a whole by its 2-D latitudes and longitudes.

    Raises
    ------
    AxisError
        If a 1-D coordinate has missing values.
    """
    found = []
    for dim, plane in ((axes.y, axes.lat), (axes.x, axes.lon)):
        name = ruler_name(obj, axes, dim)
        if name is None:
            found.append(_plane_order(obj, axes, dim, plane))
            continue
        values = obj.coords[name].values.astype(np.float64)
        if not np.isfinite(values).all():
            raise AxisError(
                f"coordinate {name!r}: expected finite numbers, found missing ones at the "
                f"positions {np.flatnonzero(~np.isfinite(values))[:5].tolist()}. Drop these rows "
                f"or columns, for example with .dropna({dim!r})."
            )
        found.append(column_order(values) if name == axes.lon else row_order(values))
    return found[0], found[1]


def _plane_order(
    obj: xr.DataArray | xr.Dataset, axes: Axes, dim: Hashable, plane: Hashable | None
) -> np.ndarray:
    """Return the order of a dim that only a 2-D coordinate (or nothing) measures."""
    order = np.arange(obj.sizes[dim])
    if plane is None or plane not in obj.coords or obj.coords[plane].ndim != 2 or order.size < 2:
        return order
    values = obj.coords[plane].transpose(axes.y, axes.x).values.astype(np.float64)
    steps = np.diff(values, axis=0 if dim == axes.y else 1)
    forward = np.nanmean((steps + 180.0) % 360.0 - 180.0)
    return order[::-1].copy() if forward < 0 else order


def is_temporal(coord: xr.DataArray) -> bool:
    """Whether a scalar coordinate tells a time, lead or member rather than a place."""
    return coord.dtype.kind in "mMO" or coord.attrs.get("standard_name") in _TEMPORAL


def grid_mapping(obj: xr.DataArray | xr.Dataset) -> str | None:
    """Return the name of the grid mapping variable of the first field that names one."""
    variables = [obj] if isinstance(obj, xr.DataArray) else list(obj.data_vars.values())
    for variable in variables:
        for source in (variable.attrs, variable.encoding):
            if "grid_mapping" in source:
                return str(source["grid_mapping"])
    return None


def plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return attributes as JSON holds them: numbers, text and lists of them.

    Examples
    --------
    >>> plain({"scale": np.float32(0.5), "flags": np.array([1, 2])})
    {'scale': 0.5, 'flags': [1, 2]}
    """
    return {
        str(key): value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for key, value in attrs.items()
        if isinstance(value, str | int | float | list | np.ndarray | np.generic)
    }


def encode(template: xr.DataArray | xr.Dataset, axes: Axes, mask: np.ndarray | None) -> str:
    """Return a horizontal template (y, x), its axes and mask (H, W) as JSON, bits kept.

    Coordinates are lists of numbers (Python writes the shortest text that reads back to the same
    bits), the mask one string of 0 and 1 per row.
    """
    coords = [
        {
            "name": str(name),
            "dims": list(coord.dims),
            "dtype": coord.dtype.str,
            "values": coord.values.tolist(),
            "attrs": plain(coord.attrs),
        }
        for name, coord in template.coords.items()
        if coord.dtype.kind in "biufU"
    ]
    rows = None if mask is None else ["".join("01"[int(v)] for v in row) for row in mask]
    return json.dumps(
        {
            "axes": {key: getattr(axes, key) for key in ("y", "x", "lat", "lon")},
            "sizes": [template.sizes[axes.y], template.sizes[axes.x]],
            "coords": coords,
            "attrs": plain(template.attrs),
            "mask": rows,
        }
    )


def decode(text: str) -> tuple[xr.DataArray, Axes, np.ndarray | None]:
    """Return the template, axes and mask written by `encode`.

    Raises
    ------
    CheckpointError
        If the text is something else.
    """
    try:
        facts = json.loads(text)
        axes = Axes(**facts["axes"])
        coords = {
            c["name"]: (c["dims"], np.array(c["values"], dtype=c["dtype"]), c["attrs"])
            for c in facts["coords"]
        }
        shell = xr.DataArray(
            np.broadcast_to(np.zeros(()), tuple(facts["sizes"])),
            dims=(axes.y, axes.x),
            coords=coords,
            attrs=facts["attrs"],
        )
        rows = facts["mask"]
        mask = None if rows is None else np.array([[c == "1" for c in row] for row in rows])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"grid: expected the JSON of Grid.to_json, found {text[:60]!r} "
            f"({type(error).__name__}: {error}). The file is damaged or of another program."
        ) from error
    return shell, axes, mask
