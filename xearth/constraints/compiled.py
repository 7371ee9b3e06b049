r"""Constraints as conditions on tensors: weights, cells and bounds in the forecast's own units.

A linear number is a row of a sparse matrix: cells of the flattened tensor (T, H, W, C) and their
weights. Areas, blocks, gauges, differences between frames and budgets all become such rows, and
missing cells have no weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..errors import ConstraintError, LeadError, RegionError
from .areal import AreaFraction, Areal, AreaMean, AreaTotal
from .blocks import BlockMeans, FrameMeans
from .cells import AtPoints, EachCell
from .compiled_kinds import extreme_condition, transformed_condition
from .constraint import Bound
from .extremes import AreaMaximum, AreaQuantile
from .frames import frame_dim
from .functional import Index
from .geometry import Geometry
from .intensity import TransformedMean
from .reading import field_of
from .relations import BudgetClosed, Conserved, several_frames, step_seconds
from .sums import (
    Row,
    bounds_of,
    cells_inside,
    frame_rows,
    horizon,
    joined,
    linear,
    observed,
    one_row,
    point_rows,
    positions,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.conditions.protocol import Condition

Forecast = xr.DataArray | xr.Dataset

__all__ = [
    "all_of",
    "areal_condition",
    "block_condition",
    "budget_condition",
    "conserved_condition",
    "frame_means_condition",
    "index_condition",
]


def all_of(conditions: Sequence[Condition]) -> Condition:
    """Return the conjunction of conditions."""
    from ..models.conditions.conjunction import All

    return All(list(conditions))


def areal_condition(functional: Areal, template: Forecast, bound: Bound) -> Condition:
    """Return the condition that what is measured over a place lies within bounds."""
    geometry = Geometry(template)
    if isinstance(functional, EachCell):
        return _range(functional, geometry, bound)
    options = bounds_of(functional, bound, geometry)
    if isinstance(functional, AreaMean | AreaTotal):
        rows = frame_rows(functional, geometry)
        rows = horizon(rows, 1) if functional.per == "horizon" else rows
        return linear(rows, geometry, **options)
    if isinstance(functional, AtPoints):
        rows = point_rows(functional, geometry)
        each = len(rows) // max(len(positions(functional, geometry)), 1)
        rows = horizon(rows, each) if functional.per == "horizon" else rows
        return linear(rows, geometry, **options)
    if isinstance(functional, AreaMaximum | AreaQuantile | AreaFraction):
        return extreme_condition(functional, geometry, options)
    if isinstance(functional, TransformedMean):
        return transformed_condition(functional, geometry, options)
    raise ConstraintError(f"{functional}: expected a functional with a condition.")


def _range(functional: EachCell, geometry: Geometry, bound: Bound) -> Condition:
    import torch

    from ..models.conditions.ranges import Range

    field = geometry.one(functional.variable)
    at = positions(functional, geometry)
    sides: dict[str, Tensor] = {}
    for side, amount, none in (("lower", bound.lower, -np.inf), ("upper", bound.upper, np.inf)):
        values = np.full((geometry.shape[0], 1, 1, 1), none)
        if amount is not None:
            values[at, 0, 0, 0] = amount.within(field)
        sides[side] = torch.as_tensor(values)
    where = torch.as_tensor(cells_inside(functional, geometry))
    finite = [np.abs(b.within(field)).max() for b in (bound.lower, bound.upper) if b is not None]
    options: dict[str, Any] = {"scale": max(finite) or 1.0, "name": str(bound)}
    if bound.sd is not None:
        options["sd"] = torch.as_tensor(bound.sd.within(field, spread=True))
    options, wrapped = observed(options, one=True)
    lower, upper = sides["lower"], sides["upper"]
    return wrapped(Range(where=where, lower=lower, upper=upper, **options))


def index_condition(index: Index, template: Forecast, bound: Bound) -> Condition:
    """Return the linear condition of an index."""
    each = index.by_start(field_of(template, index.variable))
    if (each != each[0]).any():
        raise LeadError(
            f"{index}: expected one set of leads, found others for each start. Make the condition "
            "of each start: template.isel(init=[0])."
        )
    geometry = Geometry(template)
    weights = geometry.canonical(index.box.weights(geometry.one(index.variable)))
    known, channel = geometry.known(index.variable), geometry.channel(index.variable)
    rows: list[Row] = []
    for t in each[0]:
        inside = weights * known[t]
        if not inside.any():
            raise RegionError(f"{index}: expected some cell with a value in {index.box}.")
        rows.append(one_row(inside / inside.sum(), geometry.cells(int(t), channel)))
    return linear(horizon(rows, 1), geometry, **bounds_of(index, bound, geometry))


def conserved_condition(constraint: Conserved, template: Forecast) -> Condition:
    """Return the linear condition of the changes from frame to frame."""
    geometry, of = Geometry(template), constraint.of
    if not isinstance(of, AreaMean | AreaTotal):
        raise ConstraintError(
            f"{constraint}: expected an area mean or total, which is linear, for a condition. Its "
            "violation can be audited."
        )
    several_frames(geometry.one(of.variable), constraint)
    rows = frame_rows(of, geometry)
    changes = [joined(pair, [1.0, -1.0]) for pair in zip(rows[1:], rows[:-1], strict=True)]
    measured = of.measure(geometry.one(of.variable))
    allowed = 0.0
    if constraint.within is not None:
        allowed = float(constraint.within.within(measured, spread=True)[0])
    scale = _typical(of.size(geometry.one(of.variable)))
    ends = {"lower": -allowed, "upper": allowed}
    return linear(changes, geometry, scale=scale, name=str(constraint), **ends)


def budget_condition(constraint: BudgetClosed, template: Forecast) -> Condition:
    """Return the linear condition of the imbalances."""
    geometry = Geometry(template)
    units, rate, factors = constraint.factors(template)
    stored = geometry.one(constraint.storage)
    seconds = np.broadcast_to(
        np.asarray(step_seconds(stored, constraint)).ravel(), geometry.shape[0] - 1
    )
    storage = frame_rows(AreaMean(constraint.where, constraint.storage), geometry)
    fluxes = [frame_rows(AreaMean(constraint.where, n), geometry) for n, _ in constraint.terms]
    rows: list[Row] = []
    for t in range(1, geometry.shape[0]):
        per_step = rate / float(seconds[t - 1])
        terms = [storage[t], storage[t - 1], *(flux[t] for flux in fluxes)]
        signed = [-s * f for (_, s), f in zip(constraint.terms, factors, strict=True)]
        rows.append(joined(terms, [per_step, -per_step, *signed]))
    allowed = 0.0
    if constraint.within is not None:
        like = xr.DataArray(0.0, attrs={"units": units})
        allowed = float(constraint.within.within(like, spread=True)[0])
    sizes = [AreaMean(constraint.where, n).size(template) for n, _ in constraint.terms]
    scale = max(_typical(size) * f for size, f in zip(sizes, factors, strict=True))
    ends = {"lower": -allowed, "upper": allowed}
    return linear(rows, geometry, scale=scale, name=str(constraint), **ends)


def _typical(size: xr.DataArray) -> float:
    """Return the size of numbers in the template, 1 where it holds none."""
    mean = float(size.mean())
    return mean if np.isfinite(mean) and mean > 0 else 1.0


def block_condition(constraint: BlockMeans, template: Forecast) -> Condition:
    """Return the linear condition of means over coarse cells; those without values bind nothing."""
    geometry = Geometry(template)
    field, coarse = constraint.matched(geometry.one(constraint.variable))
    whole = geometry.one(constraint.variable)
    dim, channel = frame_dim(whole), geometry.channel(constraint.variable)
    in_rows, in_columns = constraint.overlaps(field)
    in_rows = take_last(in_rows, geometry.grid.y_index)
    in_columns = take_last(in_columns, geometry.grid.x_index)
    frames = np.arange(geometry.shape[0])
    if dim in coarse.dims:
        frames = np.flatnonzero(np.isin(whole[dim].values, coarse[dim].values))
        coarse = coarse.sel({dim: whole[dim].values[frames]})
    dims = [d for d in coarse.dims if d != dim]
    values = coarse.transpose(..., *dims).values
    values = np.broadcast_to(values, (len(frames), *values.shape[-2:]))
    known = geometry.known(constraint.variable)
    rows: list[Row] = []
    targets: list[float] = []
    for frame, target in zip(frames, values, strict=True):
        cells = geometry.cells(int(frame), channel)
        for j, i in np.argwhere(np.isfinite(target)):
            block = np.ix_(np.flatnonzero(in_rows[j]), np.flatnonzero(in_columns[i]))
            share = in_rows[j][block[0]] * in_columns[i][block[1]] * known[frame][block]
            if share.any():
                rows.append(one_row(share / share.sum(), cells[block]))
                targets.append(target[j, i])
    return _equal(rows, targets, geometry, constraint)


def take_last(matrix: npt.NDArray, order: npt.NDArray) -> npt.NDArray:
    """Return the columns of a matrix in another order."""
    return np.asarray(matrix[:, order])


def _equal(
    rows: list[Row], targets: list[float], geometry: Geometry, constraint: object
) -> Condition:
    """Return the condition that sums have values."""
    import torch

    if not rows:
        raise RegionError(f"{constraint}: expected some cell with a value in both fields.")
    values = torch.as_tensor(np.asarray(targets, dtype=np.float64))
    scale = float(values.abs().max()) or 1.0
    return linear(rows, geometry, lower=values, upper=values, scale=scale, name=str(constraint))


def frame_means_condition(constraint: FrameMeans, template: Forecast) -> Condition:
    """Return the linear condition of the means or sums of blocks of frames."""
    geometry = Geometry(template)
    _, coarse, _ = constraint.matched(geometry.one(constraint.variable))
    channel, known = geometry.channel(constraint.variable), geometry.known(constraint.variable)
    values = geometry.canonical(coarse)
    steps = geometry.shape[0] // len(values)
    weight = 1.0 / steps if constraint.how == "mean" else 1.0
    rows: list[Row] = []
    targets: list[float] = []
    for b, target in enumerate(values):
        frames = range(b * steps, (b + 1) * steps)
        bound = np.isfinite(target) & known[list(frames)].all(0)
        cells = np.stack([geometry.cells(t, channel)[bound] for t in frames], -1)
        rows.extend((row, np.full(steps, weight)) for row in cells)
        targets.extend(target[bound].tolist())
    return _equal(rows, targets, geometry, constraint)
