"""One score of labeled arrays, over any of their dimensions, lazily and as they are chunked.

Each block of the forecast, with all its members, becomes the states of the statistics of the
score; states of blocks along reduced dimensions are combined by a tree. What is done with a block
is what :func:`~xearth.verification.verify` does: the dimensions that are kept are its cases, those
that are reduced its cells.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.core import flatten

from ..errors import AxisError, ConfigError, GridMismatchError
from .block import Array
from .one_pass.observe import ByArea, Cut, Rows, Work, add_cases, observe
from .pairs import (
    Dims,
    finish,
    floating,
    in_double,
    known_weights,
    reduced_dims,
    refuse_record,
    same_terms,
)
from .score import Score
from .statistics import Parts

__all__ = ["evaluate"]

Names = tuple[Hashable, ...]


def evaluate(
    score: Score,
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    climatology: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return one score of a forecast.

    Parameters
    ----------
    score : Score
        A row of one of the tables.
    forecast, obs : DataArray
        Forecast and truth; the truth is converted to the units of the forecast and may lack
        dimensions of the forecast. Dask arrays stay lazy: the forecast is read as it is chunked,
        along members too, and the truth is brought to its chunks.
    dim : name or names, optional
        What the score is taken over; by default all dimensions but the member's, ``()`` for
        none.
    weights : DataArray, optional
        On dimensions that are reduced, such as the area of the cells.
    climatology : DataArray, optional
        What anomalies are taken from, like ``obs``; without it both are anomalies already. A
        point at which it is missing does not count.
    member : str, optional
        Name of the member dimension; without it the forecast is taken as single forecasts.

    Returns
    -------
    DataArray
        The dimensions that are kept, then the score's own. Units of the forecast to the power
        of the score.

    Raises
    ------
    AxisError
        No such member dimension, or weights on a dimension that is kept.
    ConfigError
        Fewer members than the score is defined for, negative or infinite weights.
    DataTypeError, GridMismatchError, UnitsError
        As :func:`~xearth.verification.pairs.same_terms`; weights with other labels.

    Warns
    -----
    XearthWarning
        Both are anomalies, from different base periods.
    """
    _check_members(score, forecast, member)
    refuse_record(forecast, obs)
    # a threshold is met by what is stored; all else is worked out in double precision
    of_events = any("threshold" in statistic.dims for statistic in score.statistics)
    exact = floating if of_events else in_double
    f, o = (exact(field) for field in same_terms(forecast, obs))
    if climatology is not None:
        climatology = exact(same_terms(forecast, climatology)[1])
    fields = [f, o] if climatology is None else [f, o, climatology]
    single = _single(fields, member)
    dims = reduced_dims(single, dim)
    w = _weights(weights, dims, fields)
    layout = _Layout(
        score=score,
        kept=tuple(name for name in single.dims if name not in dims),
        reduced=tuple(dims),
        member=() if member is None else (member,),
        inputs=(f.dims, w.dims, *(field.dims for field in fields[1:])),
    )
    value = layout.value([f.variable, w, *(field.variable for field in fields[1:])])
    coords = _coords(fields, layout.kept)
    result = xr.DataArray(value, coords, [*layout.kept, *score.coords])
    result = result.assign_coords(score.coords)
    result = finish(result, forecast, score.facts.long_name, score.facts.unit_power)
    return result.rename(score.name)


@dataclass(frozen=True, eq=False)
class _Layout:
    """What the dimensions are for, and those of each array: forecast, weights, truth ..."""

    score: Score
    kept: Names
    reduced: Names
    member: Names
    inputs: tuple[Names, ...]

    @property
    def work(self) -> Work:
        """What is accumulated."""
        return Work({"": self.score.statistics})

    def value(self, variables: Sequence[xr.Variable]) -> Any:
        """Return the score (kept..., own...), lazy if any of the arrays is."""
        if all(variable.chunks is None for variable in variables):
            return self.finished(self.observed(*(variable.values for variable in variables)))
        chunks = _chunks(variables)
        axes = {name: k for k, name in enumerate((*self.kept, *self.reduced, *self.member))}
        arguments: list[Any] = []
        for variable in variables:
            own = {name: chunks[name] for name in variable.dims}
            arguments += [variable.chunk(own).data, [axes[name] for name in variable.dims]]
        kept, points = range(len(self.kept)), range(len(self.kept) + len(self.reduced))
        states = da.blockwise(
            self.observed,
            points,
            *arguments,
            concatenate=False,  # members come as a list of pieces
            align_arrays=False,
            meta=np.empty((0,) * len(points)),
        )
        if self.reduced:
            states = da.reduction(
                states,
                chunk=_as_it_is,
                aggregate=partial(_added, work=self.work),
                axis=tuple(points[len(kept) :]),
                concatenate=False,
                dtype=np.float64,
                meta=np.empty((0,) * len(points)),
            )
        labels = self.score.coords.values()
        extra = {len(axes) + k: len(label) for k, label in enumerate(labels)}
        return da.blockwise(
            self.finished,
            [*kept, *extra],
            states,
            kept,
            new_axes=extra,
            meta=np.empty((0,) * (len(kept) + len(extra))),
        )

    def observed(self, forecast: Array | list[Array], *others: Array) -> ByArea:
        """Return the states (kept..., own...) of a block, of which members may be in pieces."""
        pieces = forecast if isinstance(forecast, list) else [forecast]
        sizes: dict[Hashable, int] = {}
        for names, array in zip(self.inputs, (pieces[0], *others), strict=True):
            sizes |= dict(zip(names, array.shape, strict=True))
        shape = tuple(sizes[name] for name in self.kept)
        n, cells = prod(shape), prod(sizes[name] for name in self.reduced)

        def laid(array: Array, own: Names, dims: Names) -> Array:
            """Return an array with these dimensions, whichever of them it has."""
            moved = array.transpose([own.index(name) for name in dims if name in own])
            moved = moved[tuple(slice(None) if name in own else None for name in dims)]
            return np.broadcast_to(moved, [
                size if name in own else sizes[name]
                for name, size in zip(dims, moved.shape, strict=True)
            ])  # fmt: skip

        order, points = (*self.kept, *self.member, *self.reduced), (*self.kept, *self.reduced)
        members = [laid(piece, self.inputs[0], order) for piece in pieces]
        counts = [piece.shape[len(shape)] if self.member else 1 for piece in members]
        members = [m.reshape(n, 1, k, cells, 1) for m, k in zip(members, counts, strict=True)]
        weights = laid(others[0], self.inputs[1], self.reduced).astype(np.float64)
        truth, *base = [
            laid(array, own, points).reshape(n, cells, 1)
            for array, own in zip(others[1:], self.inputs[2:], strict=True)
        ]
        states = _observed(self.work, members, [truth, *base], weights.reshape(1, cells, 1))
        return {
            "": {
                name: {part: v.reshape((*shape, *v.shape[3:])) for part, v in parts.items()}
                for name, parts in states.items()
            }
        }

    def finished(self, state: ByArea) -> Array:
        """Return the score (kept..., own...) of combined states."""
        kept = len(self.kept)
        found: dict[str, Any] = {}
        for statistic in self.score.statistics:
            parts = state[""][statistic.name]
            shape = next(iter(parts.values())).shape[:kept]
            flat = {k: v.reshape((prod(shape), *v.shape[kept:])) for k, v in parts.items()}
            found[statistic.name] = statistic.result(flat)
        value = np.asarray(self.score.finish(found), dtype=np.float64)
        return value.reshape((*shape, *value.shape[1:]))


@dataclass(frozen=True, eq=False)
class _Aligned(Rows):
    """Fields of which row k belongs to case k."""

    def take(self, cut: Cut) -> Array:
        """Return the fields (n, S) of the cases and cells of a cut."""
        return self.parts[0][cut[0], cut[2], 0]


def _observed(
    work: Work, members: list[Array], fields: list[Array], weights: Array
) -> Mapping[str, Parts]:
    """Return the states (n, 1, 1, own...) of members (n, 1, m, S, 1) and fields (n, S, 1)."""
    rows = np.arange(len(fields[0]))[:, None]
    truth, *base = [_Aligned([field], rows) for field in fields]
    climatology = base[0] if base else None
    return observe(work, members, (truth, climatology), {"": weights}, rows * 0).cases[""]


def _as_it_is(state: Any, axis: Any, keepdims: bool) -> Any:
    return state


def _added(
    states: Any, axis: Any, keepdims: bool, *, work: Work, computing_meta: bool = False
) -> Any:
    """Combine the states of some blocks, which Dask gives as lists of lists."""
    return states if computing_meta else add_cases(work, list(flatten(states)))


def _chunks(variables: Sequence[xr.Variable]) -> dict[Hashable, tuple[int, ...]]:
    """Return the chunks of all dimensions: those of the forecast where it has any."""
    found: dict[Hashable, tuple[int, ...]] = {}
    for variable in variables:
        found = {**variable.chunksizes, **found}
    for variable in variables:
        found = {**{name: (size,) for name, size in variable.sizes.items()}, **found}
    return found


def _single(fields: Sequence[xr.DataArray], member: str | None) -> xr.DataArray:
    """Return an array without memory that has the dimensions of all but the member's."""
    f, *others = fields
    first = fields if {*others[0].dims} <= {*f.dims} else (*others, f)
    sizes = {name: size for field in first for name, size in field.sizes.items() if name != member}
    return xr.DataArray(np.broadcast_to(0.0, list(sizes.values())), dims=list(sizes))


def _coords(fields: Sequence[xr.DataArray], kept: Names) -> xr.Coordinates:
    """Return the labels of what is kept; those that contradict each other are left out."""
    merged = xr.Dataset(coords=fields[0].coords)
    for field in fields[1:]:
        merged = merged.coords.merge(field.coords)
    return merged.drop_vars([k for k, v in merged.coords.items() if {*v.dims} - {*kept}]).coords


def _weights(
    weights: xr.DataArray | None, dims: list[Hashable], fields: Sequence[xr.DataArray]
) -> xr.Variable:
    """Return the weights on some of the reduced dimensions, 0 where they are missing.

    Raises
    ------
    GridMismatchError
        Their labels are not those of the forecast.
    """
    if weights is None:
        return xr.Variable((), 1.0)
    known = known_weights(weights, dims)
    for name in known.dims:
        for field in [field for field in fields if name in field.dims]:
            same = field.sizes[name] == known.sizes[name]
            if same and name in field.coords and name in known.coords:
                same = bool((field[name].values == known[name].values).all())
            if not same:
                raise GridMismatchError(
                    f"the weights have other labels along {name!r} than {field.name!r}: "
                    f"{known.sizes[name]} against {field.sizes[name]}. Put them on its grid."
                )
    return known.variable


def _check_members(score: Score, forecast: xr.DataArray, member: str | None) -> None:
    if member is not None and member not in forecast.dims:
        raise AxisError(
            f"forecast {forecast.name!r} has no member dimension {member!r}; its dims are "
            f"{forecast.dims}. Name it with member=..., or use a score of single forecasts."
        )
    size = 1 if member is None else forecast.sizes[member]
    if size < score.facts.members:
        raise ConfigError(
            f"score {score.name!r} needs {score.facts.members} members or more; forecast "
            f"{forecast.name!r} has {size}. Forecast with members=..., or use another score."
        )
