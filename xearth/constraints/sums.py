r"""What is measured as sums over cells of tensors.

A linear number is a row of a sparse matrix: cells of the flattened tensor (T, H, W, C) and their
weights. Missing cells have no weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..errors import ConstraintError, MissingDataError, RegionError
from .areal import Areal, AreaMean, AreaTotal
from .cells import AtPoints
from .constraint import Bound
from .functional import Functional
from .geometry import Geometry
from .reading import field_of
from .where import Points, area_weights, areas, cells_of, place_text

if TYPE_CHECKING:
    from ..models.conditions.linear import Linear
    from ..models.conditions.protocol import Condition
    from ..models.conditions.rows import Rows

Forecast = xr.DataArray | xr.Dataset

__all__ = [
    "Row",
    "bounds_of",
    "cells_inside",
    "frame_rows",
    "horizon",
    "joined",
    "linear",
    "mean_rows",
    "observed",
    "one_row",
    "point_rows",
    "positions",
    "sums",
]

#: Cells of the flattened tensor and their weights: one sum.
Row = tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]


def sums(rows: Sequence[Row], geometry: Geometry) -> Rows:
    """Return weighted sums as the rows of a sparse matrix."""
    import torch

    from ..models.conditions.rows import Rows

    longest = max(len(cells) for cells, _ in rows)
    index = np.zeros((len(rows), longest), dtype=np.int64)
    weights = np.zeros((len(rows), longest))
    for j, (cells, w) in enumerate(rows):
        index[j, : len(cells)], weights[j, : len(w)] = cells, w
    return Rows(torch.as_tensor(index), torch.as_tensor(weights), torch.Size(geometry.shape))


def linear(rows: Sequence[Row], geometry: Geometry, **options: Any) -> Linear:
    """Return the bounds of weighted sums; ``options`` as of the condition ``Linear``."""
    from ..models.conditions.linear import Linear

    return Linear(sums(rows, geometry), **options)


def one_row(weights: npt.NDArray, cells: npt.NDArray) -> Row:
    """Return the cells that have weight, from arrays (H, W)."""
    some = weights != 0
    return cells[some], weights[some]


def joined(rows: Sequence[Row], factors: Sequence[float]) -> Row:
    """Return a weighted sum of rows that share no cells."""
    cells = np.concatenate([row[0] for row in rows])
    scaled = [f * row[1] for f, row in zip(factors, rows, strict=True)]
    return cells, np.concatenate(scaled)


def positions(functional: Areal, geometry: Geometry) -> npt.NDArray[np.intp]:
    """Return the frames that a functional looks at, the same for all starts."""
    return functional.frames.positions(field_of(geometry.template, functional.variable))


def frame_rows(functional: AreaMean | AreaTotal, geometry: Geometry) -> list[Row]:
    """Return the mean or total of each frame as rows."""
    field, channel = geometry.one(functional.variable), geometry.channel(functional.variable)
    mean = isinstance(functional, AreaMean)
    place = area_weights(functional.where, field) if mean else areas(functional.where, field)
    known = geometry.known(functional.variable)
    weights = geometry.canonical(place)
    rows: list[Row] = []
    for t in positions(functional, geometry):
        inside = weights * known[t]
        if not inside.any():
            raise RegionError(
                f"{functional}: expected some cell with a value, found none in frame {t}. Choose a "
                "place with valid cells."
            )
        inside = inside / inside.sum() if mean else inside
        rows.append(one_row(inside, geometry.cells(int(t), channel)))
    return rows


def point_rows(functional: AtPoints, geometry: Geometry) -> list[Row]:
    """Return the values at points as rows, frame by frame."""
    field, channel = geometry.one(functional.variable), geometry.channel(functional.variable)
    if not isinstance(functional.where, Points):
        raise ConstraintError(f"{functional}: expected points.")
    stored = np.zeros((field.sizes[geometry.grid.axes.y], field.sizes[geometry.grid.axes.x]), int)
    y, x = cells_of(functional.where, field)
    number = np.arange(stored.size).reshape(stored.shape)
    place = {int(n): i for i, n in enumerate(geometry.canonical(number).ravel())}
    at = np.array([place[int(n)] for n in number[y, x]])
    known = geometry.known(functional.variable)
    rows: list[Row] = []
    for t in positions(functional, geometry):
        if not known[t].ravel()[at].all():
            raise MissingDataError(
                f"{functional}: expected cells with values, found missing ones at the points "
                f"{np.flatnonzero(~known[t].ravel()[at]).tolist()}. Leave these points out."
            )
        cells = geometry.cells(int(t), channel).ravel()[at]
        rows.extend((cells[[i]], np.ones(1)) for i in range(len(at)))
    return rows


def horizon(rows: list[Row], each: int) -> list[Row]:
    """Return the mean over frames of rows, ``each`` of a frame."""
    frames = len(rows) // each
    return [joined(rows[i::each], [1.0 / frames] * frames) for i in range(each)]


def bounds_of(functional: Functional, bound: Bound, geometry: Geometry) -> dict[str, Any]:
    """Return lower, upper, scale, sd and name of a condition, in the forecast's units."""
    import torch

    measured = functional.measure(_first(geometry.template))
    axes = discover(geometry.template, require=())
    cases = {axes.init, axes.member} & set(measured.dims)
    measured = measured.isel(dict.fromkeys(cases, 0))
    ends = [e.broadcast_like(measured).values.ravel() for e in bound.ends(measured)]
    sizes = [np.abs(e[np.isfinite(e)]).max(initial=0.0) for e in ends]
    found = {
        "lower": torch.as_tensor(ends[0]),
        "upper": torch.as_tensor(ends[1]),
        "scale": max(sizes) or 1.0,
        "name": str(bound),
    }
    if bound.sd is not None:
        sd = functional.spread_out(bound.sd.within(measured, spread=True), measured)
        found["sd"] = torch.as_tensor(sd.broadcast_like(measured).values.ravel())
    return found


def observed(
    options: dict[str, Any], *, one: bool = False
) -> tuple[dict[str, Any], Callable[[Condition], Condition]]:
    """Return options without a standard deviation, and what makes an observation of a condition.

    Parameters
    ----------
    options : dict
        As of :func:`bounds_of`; the scale becomes the standard deviation.
    one : bool
        Whether the condition has one scale for all that it bounds.
    """
    from ..models.conditions.observed import Observed

    left = dict(options)
    sd = left.pop("sd", None)
    if sd is None:
        return left, lambda condition: condition
    if one and bool((sd != sd[0]).any()):
        raise ConstraintError(
            f"{options['name']}: expected one standard deviation, found {sd.tolist()}."
        )
    return left | {"scale": sd[0] if one else sd}, Observed


def _first(obj: Forecast) -> Forecast:
    """Return one start and one member, as dims where seasons need the start."""
    axes = discover(obj, require=())
    cases = {axes.init: [0], axes.member: 0}
    return obj.isel({d: i for d, i in cases.items() if d is not None and d in obj.dims})


def cells_inside(functional: Areal, geometry: Geometry) -> npt.NDArray[np.bool_]:
    """Return the cells (T, H, W, C) that a functional looks at."""
    field = geometry.one(functional.variable)
    found = np.zeros(geometry.shape, dtype=bool)
    place = geometry.canonical(area_weights(functional.where, field)) > 0
    known = geometry.known(functional.variable)
    for t in positions(functional, geometry):
        found[t, ..., geometry.channel(functional.variable)] = place & known[t]
    if not found.any():
        raise RegionError(
            f"{functional}: expected some cell with a value in {place_text(functional.where)}, "
            "found none. Choose a place with valid cells."
        )
    return found


def mean_rows(functional: Areal, geometry: Geometry) -> list[Row]:
    """Return the mean over the same place and frames as rows."""
    same = {f.name: getattr(functional, f.name) for f in fields(AreaMean)}
    rows = frame_rows(AreaMean(**same), geometry)
    return horizon(rows, 1) if functional.per == "horizon" else rows
