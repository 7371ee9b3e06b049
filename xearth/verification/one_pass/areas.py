"""What the cells weigh: one row of weights for each region.

A cell counts with its weight (by default its area) times the part of it that belongs to the
region. A region is a :class:`~xearth.fields.regions.Box`, a mask (true inside), or the part of
each cell that belongs to it, 0 .. 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.discover import find_axes
from ...errors import AxisError, ConfigError, GridMismatchError, RegionError
from ...fields.regions import Box
from ...fields.weights import EARTH_RADIUS, cell_area, cos_lat_weights
from ..meaning import check_numbers

__all__ = ["Areas", "areas_of", "box_weights"]

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Areas:
    """Rows of weights (R, Y, X), and the labels of the rows.

    Parameters
    ----------
    weights : array (R, Y, X)
    coords : dict
        The coordinate along the rows, of the name of its dimension; empty for a single region,
        which has no dimension in the results.
    cells : array (Y, X)
        The weights without regions.
    long_name : str
        What the weights are.
    """

    weights: Weights
    coords: dict[str, xr.Variable]
    cells: Weights
    long_name: str

    @property
    def dim(self) -> str | None:
        """The name of the dimension of the rows, if they have one in the results."""
        return next(iter(self.coords), None)


def areas_of(grid: xr.DataArray, weights: Any, regions: Any, line: str | None = None) -> Areas:
    """Return the weights of every region.

    Parameters
    ----------
    grid : DataArray (y, x)
        Labels of the cells.
    weights : "area", DataArray, or None
        None is the same weight for all.
    regions : Box, DataArray, mapping of str to either, or None
    line : str, optional
        A dimension of the grid of which every label is a region of its own.

    Raises
    ------
    ConfigError
        Negative, infinite or missing weights, or another name.
    GridMismatchError, RegionError
        Weights or regions that do not fit the grid.
    """
    cells, long_name = _cells(grid, weights)
    if line is not None:
        if regions is not None:
            raise ConfigError(
                f"by={line!r} makes a region of every {line}; found regions besides. Leave one out."
            )
        axis = grid.dims.index(line)
        rows = np.eye(grid.sizes[line])
        rows = rows[:, :, None] if axis == 0 else rows[:, None, :]
        labels = {line: grid[line].variable} if line in grid.coords else {}
        labels = labels or {line: xr.Variable((line,), np.arange(grid.sizes[line]))}
        return Areas(rows * cells, labels, cells, long_name)
    if regions is None:
        return Areas(cells[None], {}, cells, long_name)
    if not isinstance(regions, Mapping):
        return Areas(_part(grid, "region", regions)[None] * cells, {}, cells, long_name)
    if not regions:
        raise RegionError("regions is empty; expected one or more, such as {'tropics': TROPICS}.")
    stack = [_part(grid, str(name), region) * cells for name, region in regions.items()]
    names = xr.Variable(("region",), [str(name) for name in regions], {"long_name": "region"})
    return Areas(np.stack(stack), {"region": names}, cells, long_name)


def box_weights(grid: xr.DataArray, box: Box) -> Weights:
    """Return the weights (Y, X) of an area mean over a box, exact at its rim."""
    return np.asarray(box.weights(grid).transpose(*grid.dims).values, dtype=np.float64)


def _cells(grid: xr.DataArray, weights: Any) -> tuple[Weights, str]:
    shape = (grid.sizes[grid.dims[0]], grid.sizes[grid.dims[1]])
    if weights is None or (isinstance(weights, str) and weights == "area" and shape == (1, 1)):
        return np.ones(shape), "none"
    if isinstance(weights, str):
        if weights != "area":
            raise ConfigError(
                f"weights must be 'area', None or a labeled array; found {weights!r}."
            )
        return _area(grid), "area of the cell"
    if not isinstance(weights, xr.DataArray):
        raise ConfigError(
            f"weights must be 'area', None or a DataArray on {grid.dims}; found "
            f"{type(weights).__name__}. Label it: xr.DataArray(values, dims={grid.dims})."
        )
    check_numbers(weights, "weights")
    values = _on_grid(grid, weights, "weights").astype(np.float64)
    if not (values >= 0).all() or np.isinf(values).any() or not values.any():
        raise ConfigError(
            f"weights {weights.name!r} must be known, finite, 0 or more, and not all 0; found "
            f"{np.nanmin(values):g} to {np.nanmax(values):g} and {int(np.isnan(values).sum())} "
            "missing. Fill the missing: weights.fillna(0)."
        )
    return values, str(weights.attrs.get("long_name", weights.name or "given weights"))


def _area(grid: xr.DataArray) -> Weights:
    """Return the area of the cells on the unit sphere; parts of a grid have the same."""
    axes = find_axes(grid)
    if axes.lat is None or axes.lon is None:
        raise AxisError(
            f"weights='area' needs latitude and longitude; found the coordinates "
            f"{sorted(map(str, grid.coords))}. Give them, or weights=None for equal weights."
        )
    exact = grid[axes.lat].ndim == 1 and grid[axes.lon].ndim == 1 and min(grid.shape) > 1
    area = cell_area(grid) / EARTH_RADIUS**2 if exact else cos_lat_weights(grid)
    return _on_grid(grid, area, "area")


def _part(grid: xr.DataArray, name: str, region: Any) -> Weights:
    """Return the part of every cell inside a region, 0 .. 1."""
    if isinstance(region, Box):
        return _part_of_box(grid, region)
    if not isinstance(region, xr.DataArray):
        raise RegionError(
            f"region {name!r}: expected a Box, or a DataArray with a mask or the part of each "
            f"cell; found {type(region).__name__}."
        )
    values = _on_grid(grid, region, f"region {name!r}").astype(np.float64)
    values = np.where(np.isnan(values), 0.0, values)
    if values.min() < 0 or values.max() > 1 or not values.any():
        raise RegionError(
            f"region {name!r}: expected a mask, or parts of cells from 0 to 1 that are not all 0; "
            f"found {values.min():g} to {values.max():g}."
        )
    return values


def _part_of_box(grid: xr.DataArray, box: Box) -> Weights:
    inside = box_weights(grid, box)
    axes = find_axes(grid)
    if grid[axes.lat].ndim != 1 or grid[axes.lon].ndim != 1:
        return (inside > 0).astype(np.float64)
    band = np.sin(np.deg2rad(box.north)) - np.sin(np.deg2rad(box.south))
    area = band * np.deg2rad(box.width) * EARTH_RADIUS**2
    part = inside * area / _on_grid(grid, cell_area(grid), "area")
    return np.where(part > 1 - 1e-9, 1.0, part)


def _on_grid(grid: xr.DataArray, array: xr.DataArray, what: str) -> npt.NDArray[Any]:
    """Return the values on the whole grid; the labels must be those of the grid."""
    other = [name for name in array.dims if name not in grid.dims]
    if other:
        raise GridMismatchError(
            f"{what} has the dims {array.dims}; expected some of {grid.dims}. Select or average "
            f"over {other}."
        )
    for name in array.dims:
        same = array.sizes[name] == grid.sizes[name]
        if same and name in array.coords and name in grid.coords:
            same = bool((array[name].values == grid[name].values).all())
        if not same:
            raise GridMismatchError(
                f"{what} has other labels along {name!r} than the forecast: {array.sizes[name]} "
                f"against {grid.sizes[name]}. Put it on the grid of the forecast."
            )
    bare = array.drop_vars(list(array.coords))
    sizes = {name: grid.sizes[name] for name in grid.dims if name not in bare.dims}
    return np.asarray(bare.expand_dims(sizes).transpose(*grid.dims).values)
