r"""Where a constraint looks: everywhere, a box, a mask, or points.

A place gives the weight of every cell. With the area :math:`A_i` of cell :math:`i` and the part
:math:`f_i` of it that belongs to the place, a mean and a total of a field :math:`y` are

.. math::

   \bar y = \frac{\sum_i f_i A_i\, y_i}{\sum_i f_i A_i}, \qquad Y = \sum_i f_i A_i\, y_i ,

over the cells with a value. Areas are exact on a grid of 1-D latitude and longitude; cells of a
projected grid count alike, and have the area of one step of its coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import Axes, discover
from ..errors import ConstraintError, RegionError, UnitsError
from ..fields.regions import Box
from ..fields.weights import EARTH_RADIUS, cell_area, latitude_edges, longitude_edges
from ..units import affine
from .held import Held

__all__ = [
    "Mask",
    "Place",
    "Points",
    "area_weights",
    "areas",
    "cells_of",
    "matched",
    "place_text",
    "valued_weights",
]

_NEAR = 0.01  # part of a step within which coordinates of a mask and of a grid are the same


@dataclass(frozen=True)
class Mask:
    """Cells, chosen one by one.

    Parameters
    ----------
    cells : DataArray of bool (y, x)
        With the coordinates of the grid, in any direction; True where the constraint looks.
    name : str
        For the sentence.

    Raises
    ------
    ConstraintError
        Not of bool, not on rows and columns, or no cell is True.

    Examples
    --------
    >>> import xearth
    >>> sst = xearth.samples.open("kaplan_sst")
    >>> warm = Mask(sst.mean("time") > 0.1, "warm")
    >>> warm == Mask(sst.mean("time") > 0.1, "warm")
    True
    """

    cells: Held
    name: str = "mask"

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", Held(self.cells))
        da = self.cells.da
        if da.dtype != bool or da.ndim != 2:
            raise ConstraintError(
                f"mask {self.name!r}: expected bool on two dims, found {da.dtype} on {da.dims}. "
                "Make one by a comparison, such as height > 0."
            )
        if not da.any():
            raise RegionError(f"mask {self.name!r}: expected some cell, found none that is True.")

    def __str__(self) -> str:
        return f"mask {self.name!r}, {int(self.cells.da.sum())} cells"


@dataclass(frozen=True)
class Points:
    """Places of stations or gauges.

    Parameters
    ----------
    lat, lon : tuple of float
        Degrees north and east, one for each point.
    name : str
        For the sentence.

    Raises
    ------
    ConstraintError
        Not as many latitudes as longitudes, or none.

    Examples
    --------
    >>> Points(lat=(52.1, 51.97), lon=(5.18, 4.93), name="gauges")
    Points(lat=(52.1, 51.97), lon=(5.18, 4.93), name='gauges')
    """

    lat: tuple[float, ...]
    lon: tuple[float, ...]
    name: str = "points"

    def __post_init__(self) -> None:
        for axis in ("lat", "lon"):
            numbers = np.atleast_1d(np.asarray(getattr(self, axis), dtype=np.float64))
            object.__setattr__(self, axis, tuple(numbers.tolist()))
        if len(self.lat) != len(self.lon) or not self.lat:
            raise ConstraintError(
                f"points {self.name!r}: expected a latitude and a longitude for each, found "
                f"{len(self.lat)} and {len(self.lon)}."
            )

    def __str__(self) -> str:
        one = len(self.lat) == 1
        at = f" ({self.lat[0]:g}N, {self.lon[0]:g}E)" if one else f", {len(self.lat)} of them"
        return f"{self.name}{at}"


Place = Box | Mask | Points | None


def place_text(where: Place) -> str:
    """Return a place in words."""
    return "the whole domain" if where is None else str(where)


def area_weights(where: Place, field: xr.DataArray) -> xr.DataArray:
    """Return the relative area (y, x) of each cell that belongs to a place.

    Raises
    ------
    RegionError
        The place is off the grid, or holds no cell.
    """
    axes = discover(field, require=("y", "x"))
    if isinstance(where, Box):
        return where.weights(field)
    relative = _relative_area(field, axes)
    if where is None:
        return relative
    if isinstance(where, Points):
        counted = np.zeros(relative.shape)
        np.add.at(counted, cells_of(where, field), 1.0)
        return relative.copy(data=counted)
    return relative * _on_grid(where, field, axes)


def valued_weights(where: Place, field: xr.DataArray, what: object) -> xr.DataArray:
    """Return the weights (y, x) of a place without coordinates, some of which meet a value.

    Parameters
    ----------
    where : Box, Mask or Points, optional
    field : DataArray
        Lazy values are not looked at.
    what : object
        What looks there, for messages.

    Raises
    ------
    RegionError
        The place is off the grid, or no cell of it has a value.
    """
    weights = area_weights(where, field)
    if field.chunks is None and field.size:
        known = field.notnull().any([d for d in field.dims if d not in weights.dims])
        if not ((weights.transpose(*known.dims).values > 0) & known.values).any():
            raise RegionError(
                f"{what}: expected some cell with a value in {place_text(where)}, found none. "
                "Choose a place with valid cells."
            )
    return weights.drop_vars(list(weights.coords)).reset_coords(drop=True)


def areas(where: Place, field: xr.DataArray) -> xr.DataArray:
    """Return the area (y, x) in m2 of each cell that belongs to a place.

    Raises
    ------
    ConstraintError
        The size of the cells is not known: neither degrees nor a unit of length.
    """
    axes = discover(field, require=("y", "x"))
    inside = area_weights(where, field)
    if _is_lat_lon(field, axes):
        if isinstance(where, Box):
            sines = np.sin(np.deg2rad([where.south, where.north]))
            return inside * EARTH_RADIUS**2 * (sines[1] - sines[0]) * np.deg2rad(where.width)
        return inside if not isinstance(where, Points) else inside * cell_area(field)
    return (inside > 0) * _planar_area(field, axes)


def cells_of(points: Points, field: xr.DataArray) -> tuple[npt.NDArray, npt.NDArray]:
    """Return rows and columns (n,), (n,) of the cells that hold the points.

    Raises
    ------
    RegionError
        A point off the grid, or a grid without latitude and longitude.
    """
    axes = discover(field, require=("y", "x"))
    if axes.lat is None or axes.lon is None:
        raise RegionError(
            f"{points}: expected a grid with latitude and longitude, found the coordinates "
            f"{sorted(map(str, field.coords))}. Choose cells by a Mask."
        )
    if _is_lat_lon(field, axes):
        rows = _within(latitude_edges(field, axes.lat), np.asarray(points.lat), None)
        columns = _within(longitude_edges(field, axes.lon), np.asarray(points.lon), 360.0)
    else:
        rows, columns = _nearest(points, field, axes)
    off = np.flatnonzero((rows < 0) | (columns < 0))
    if off.size:
        first = int(off[0])
        raise RegionError(
            f"{points}: expected points inside the grid, found {points.lat[first]:g}N "
            f"{points.lon[first]:g}E outside (and {off.size - 1} more). Latitudes run from "
            f"{float(field[axes.lat].min()):g} to {float(field[axes.lat].max()):g}, longitudes "
            f"from {float(field[axes.lon].min()):g} to {float(field[axes.lon].max()):g}."
        )
    return rows, columns


def _is_lat_lon(field: xr.DataArray, axes: Axes) -> bool:
    """Tell whether latitude and longitude are 1-D, each on a dim of its own."""
    if axes.lat is None or axes.lon is None:
        return False
    return field[axes.lat].dims == (axes.y,) and field[axes.lon].dims == (axes.x,)


def _shell(field: xr.DataArray, axes: Axes, values: npt.NDArray) -> xr.DataArray:
    """Return (y, x) on the grid of a field."""
    coords = {d: field[d] for d in (axes.y, axes.x) if d in field.coords}
    return xr.DataArray(values, dims=(axes.y, axes.x), coords=coords)


def _relative_area(field: xr.DataArray, axes: Axes) -> xr.DataArray:
    if _is_lat_lon(field, axes):
        return cell_area(field)
    return _shell(field, axes, np.ones((field.sizes[axes.y], field.sizes[axes.x])))


def _planar_area(field: xr.DataArray, axes: Axes) -> float:
    """Return the area in m2 of a cell of a projected grid."""
    sides = []
    for dim in (axes.y, axes.x):
        units = field[dim].attrs.get("units") if dim in field.coords else None
        try:
            step = np.diff(field[dim].values)
            if units is None or step.size == 0 or np.ptp(step) > 0.01 * abs(step[0]):
                raise UnitsError(f"{dim!r} has the units {units!r} and {step.size} steps")
            sides.append(abs(float(step.mean())) * affine(units, "m")[0])
        except UnitsError as error:
            raise ConstraintError(
                f"total over {field.name!r}: expected cells of a known and even size, found none "
                f"along {dim!r} ({error}). Give the coordinate units such as 'km', or bound the "
                "mean."
            ) from error
    return sides[0] * sides[1]


def _on_grid(mask: Mask, field: xr.DataArray, axes: Axes) -> xr.DataArray:
    """Return the cells of a mask as a field's grid stores them."""
    cells = mask.cells.da
    wrong = [d for d in (axes.y, axes.x) if d not in cells.dims]
    if wrong:
        raise RegionError(
            f"{mask}: expected the dims {(axes.y, axes.x)}, found {cells.dims}. Rename them."
        )
    order = {}
    for dim in (axes.y, axes.x):
        order[dim] = np.arange(field.sizes[dim])
        if dim in field.coords and dim in cells.coords:
            order[dim] = matched(cells[dim].values, field[dim].values, cyclic=dim == axes.lon)
        found = cells.sizes[dim] == field.sizes[dim] or dim in field.coords
        if not found or (order[dim] < 0).any():
            raise RegionError(
                f"{mask}: expected the grid of {field.name!r}, found other values along {dim!r} "
                f"({cells.sizes[dim]} against {field.sizes[dim]}). Make the mask on that grid."
            )
    return _shell(field, axes, cells.transpose(axes.y, axes.x).isel(order).values)


def matched(has: npt.NDArray, wants: npt.NDArray, *, cyclic: bool) -> npt.NDArray[np.intp]:
    """Return for each wanted coordinate the position of its equal, or -1."""
    apart = np.abs(wants[:, None].astype(float) - has[None, :].astype(float))
    if cyclic:
        apart = np.minimum(apart % 360.0, -apart % 360.0)
    step = float(np.abs(np.diff(has)).min()) if has.size > 1 else 1.0
    nearest = apart.argmin(1)
    return np.where(apart[np.arange(wants.size), nearest] <= _NEAR * step, nearest, -1)


def _within(edges: npt.NDArray, values: npt.NDArray, cycle: float | None) -> npt.NDArray[np.intp]:
    """Return for each value the position of the cell (n, 2) that holds it, or -1."""
    low, width = edges.min(1), np.abs(edges[:, 1] - edges[:, 0])
    past = values[:, None] - low[None, :]
    if cycle is not None:
        past = past % cycle
    inside = (past >= 0) & (past <= width)
    return np.where(inside.any(1), inside.argmax(1), -1)


def _nearest(points: Points, field: xr.DataArray, axes: Axes) -> tuple[npt.NDArray, npt.NDArray]:
    """Return the cells of 2-D latitudes and longitudes, -1 where none is near."""
    from scipy.spatial import cKDTree

    lat, lon = (field[n].transpose(axes.y, axes.x).values for n in (axes.lat, axes.lon))
    centers = _sphere(lat, lon)
    steps = [np.linalg.norm(np.diff(centers, axis=a), axis=-1).max(initial=0.0) for a in (0, 1)]
    tree = cKDTree(centers.reshape(-1, 3))
    distance, found = tree.query(_sphere(np.asarray(points.lat), np.asarray(points.lon)))
    rows, columns = np.unravel_index(found, lat.shape)
    near = distance <= 0.5 * np.hypot(*steps) * 1.05
    return np.where(near, rows, -1), np.where(near, columns, -1)


def _sphere(lat: npt.NDArray, lon: npt.NDArray) -> npt.NDArray:
    phi, theta = np.deg2rad(lat.astype(float)), np.deg2rad(lon.astype(float))
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], -1)
