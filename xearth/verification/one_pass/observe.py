"""One block of the forecast, with its truth, to the states of all statistics at once.

A block holds some starts and leads on a part of the grid, all members. It is worked through in
pieces that stay in the cache: several whole cases where the fields are small, rows of one case
where they are large. The states of the pieces are combined, so that what comes back is small:

* states of *cases*: ``{area: {statistic: {part: (I, L, R, ...)}}}``;
* states of *cells*: ``{group: {statistic: {part: (Y, X, ...)}}}``, for the groups that occur.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..block import Array, Block, Room
from ..kernels.sorting import Engine, block_points
from ..statistics import Parts, Statistic

__all__ = ["Observed", "Rows", "Work", "add_cases", "add_cells", "cases_of", "observe"]

_ROOM = Room()
#: The part of the cells without truth from which on they are left out before any arithmetic.
GAPS = 0.05

Cut = tuple[slice, slice, slice]
#: States of cases, by area and statistic.
ByArea = dict[str, dict[str, Parts]]


@dataclass(frozen=True, eq=False)
class Work:
    """What is accumulated.

    Parameters
    ----------
    cases : mapping of str to tuple of Statistic
        For each set of weights, by its name, the statistics kept for each start and lead.
    cells : tuple of Statistic
        The statistics kept for each cell.
    engine : {"numpy", "numba"}
        What works out the parts of ensembles.
    """

    cases: Mapping[str, tuple[Statistic, ...]]
    cells: tuple[Statistic, ...] = ()
    engine: Engine = "numpy"


@dataclass(eq=False)
class Observed:
    """The states of a block."""

    cases: ByArea = field(default_factory=dict)
    cells: dict[int, dict[str, Parts]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Rows:
    """Fields (row, Y, X) in one or more pieces along the rows, looked up by case.

    Parameters
    ----------
    parts : sequence of array (row, Y, X)
    of : array (I, L)
        The row of each case over all parts, -1 where there is none.
    """

    parts: Sequence[Array]
    of: npt.NDArray[np.int64]

    def take(self, cut: Cut) -> Array:
        """Return the fields (n, S) of the cases and rows of cells of a cut; NaN without one."""
        wanted = self.of[cut[0], cut[1]].ravel()
        known = wanted >= 0
        if len(self.parts) == 1 and known.all():
            chosen = wanted if len(wanted) > 1 else slice(wanted[0], wanted[0] + 1)  # not a copy
            return self.parts[0][chosen, cut[2]].reshape(len(wanted), -1)
        ends = np.cumsum([len(part) for part in self.parts])
        place = np.searchsorted(ends, wanted, side="right")
        sample = self.parts[0][0, cut[2]]
        shape = (len(wanted), *sample.shape)
        if known.all():
            fields = np.empty(shape, sample.dtype)
        else:
            fields = np.full(shape, np.nan, np.result_type(sample.dtype, np.float32))
        for k in np.unique(place[known]):
            own = (place == k) & known
            part = self.parts[k]
            fields[own] = part[wanted[own] - ends[k] + len(part), cut[2]]
        return fields.reshape(len(wanted), -1)


def observe(
    work: Work,
    members: Sequence[Array],
    fields: tuple[Rows, Rows | None],
    weights: Mapping[str, Array],
    groups: npt.NDArray[np.int64],
) -> Observed:
    """Return the states of a block.

    Parameters
    ----------
    work : Work
    members : sequence of array (I, L, m, Y, X)
        The members in one or more pieces. Without cases or cells the states are those of nothing.
    fields : (Rows, Rows or None)
        Truth and climatology.
    weights : mapping of str to array (R, Y, X)
    groups : array (I, L)
        The group of each case, of the states of cells.
    """
    inits, leads, _, ys, xs = members[0].shape
    observed = _observe if inits * leads * ys * xs else _observe_nothing
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return observed(work, members, fields, weights, groups)


def _observe(
    work: Work,
    members: Sequence[Array],
    fields: tuple[Rows, Rows | None],
    weights: Mapping[str, Array],
    groups: npt.NDArray[np.int64],
) -> Observed:
    found = Observed()
    kept: dict[str, dict[str, list[Parts]]] = {
        area: {s.name: [] for s in statistics} for area, statistics in work.cases.items()
    }
    for cuts in _cuts(members):
        pieces: dict[str, dict[str, list[Parts]]] = {
            area: {s.name: [] for s in statistics} for area, statistics in work.cases.items()
        }
        for cut in cuts:
            block, cells = _block(members, fields, cut, work.engine)
            for area, statistics in work.cases.items():
                inside = weights[area][:, cut[2]].reshape(len(weights[area]), -1)
                inside = inside if cells is None else np.take(inside, cells, axis=1)
                near, inside = _near(block, inside, area)
                for statistic in statistics:
                    pieces[area][statistic.name].append(statistic.observe(near, inside))
            if work.cells:
                shape = members[0][:1, :1, 0, cut[2]].shape[2:]
                own = _by_group(block, groups[cut[0], cut[1]].ravel(), work.cells, (shape, cells))
                _put_cells(found.cells, own, cut[2], members[0].shape[-2:], work.cells)
        for area, statistics in work.cases.items():
            for statistic in statistics:
                kept[area][statistic.name].append(_joined(statistic, pieces[area][statistic.name]))
    shape = members[0].shape[:2]
    for area, statistics in work.cases.items():
        found.cases[area] = {
            s.name: {
                part: np.concatenate([state[part] for state in kept[area][s.name]]).reshape(
                    *shape, *kept[area][s.name][0][part].shape[1:]
                )
                for part in s.parts
            }
            for s in statistics
        }
    return found


def _observe_nothing(
    work: Work,
    members: Sequence[Array],
    fields: tuple[Rows, Rows | None],
    weights: Mapping[str, Array],
    groups: npt.NDArray[np.int64],
) -> Observed:
    """Return the states of a block without cases or without cells, which cannot be cut."""
    inits, leads, _, ys, xs = members[0].shape
    piece = np.concatenate([_flat(part, None, k) for k, part in enumerate(members)])
    truth = np.empty((inits * leads, ys * xs), fields[0].parts[0].dtype)
    block = Block(piece, truth, truth if fields[1] is not None else None, _ROOM, work.engine)
    found = Observed(cells=_by_group(block, groups.ravel(), work.cells, ((ys, xs), None)))
    for area, statistics in work.cases.items():
        inside = weights[area].reshape(len(weights[area]), -1)
        found.cases[area] = {
            s.name: {
                part: values.reshape(inits, leads, *values.shape[1:])
                for part, values in s.observe(block, inside).items()
            }
            for s in statistics
        }
    return found


def _cuts(members: Sequence[Array]) -> Iterator[list[Cut]]:
    """Cut a block: for some cases in C order, the rows of cells that make up their fields."""
    inits, leads, _, ys, xs = members[0].shape
    points = block_points(sum(part.shape[2] for part in members), members[0].itemsize)
    whole = max(1, points // (ys * xs))
    rows = max(1, points // xs)
    across = min(whole, leads)
    down = max(1, whole // leads) if across == leads else 1
    for i in range(0, inits, down):
        for k in range(0, leads, across):
            cases = (slice(i, min(i + down, inits)), slice(k, min(k + across, leads)))
            yield [(*cases, slice(y, min(y + rows, ys))) for y in range(0, ys, rows)]


def _block(
    members: Sequence[Array], fields: tuple[Rows, Rows | None], cut: Cut, engine: Engine
) -> tuple[Block, npt.NDArray[np.int64] | None]:
    """Return the piece of a cut, and the cells it holds if not all.

    Cells that never have a truth, such as land, are left out. A missing climatology is taken as
    a missing truth, so that all scores count the same points.
    """
    truth, climatology = fields
    known, base = truth.take(cut), None
    absent = np.isnan(known)
    if climatology is not None:
        base = climatology.take(cut)
        unknown = np.isnan(base) & ~absent
        if unknown.any():
            known, absent = np.where(unknown, np.nan, known), absent | unknown
    gaps = absent[0] if len(absent) == 1 else absent.all(axis=0)
    cells = np.flatnonzero(~gaps) if gaps.sum() > GAPS * gaps.size else None
    if cells is not None:
        known = np.take(known, cells, axis=1)
        base = None if base is None else np.take(base, cells, axis=1)
    parts = [_flat(part[cut[0], cut[1], :, cut[2]], cells, k) for k, part in enumerate(members)]
    piece = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if piece.dtype not in (np.float32, np.float64):
        piece = piece.astype(np.float32 if piece.dtype == np.float16 else np.float64)
    return Block(piece, known, base, _ROOM, engine), cells


def _flat(part: Array, cells: npt.NDArray[np.int64] | None, k: int) -> Array:
    """Return members (m, n, S) of a part (I, L, m, rows, X), some of its cells only."""
    inits, leads, count = part.shape[:3]
    flat = part.reshape(inits * leads, count, part.shape[3] * part.shape[4])
    if cells is not None:
        inside = _ROOM.take(f"inside {k}", (*flat.shape[:2], cells.size), flat.dtype)
        flat = np.take(flat, cells, axis=2, out=inside, mode="clip")
    return np.moveaxis(flat, 1, 0)


def _near(block: Block, weights: Array, area: str) -> tuple[Block, Array]:
    """Leave out the cells that no row of an area of its own weighs."""
    if not area:
        return block, weights
    cells = np.asarray(weights.any(axis=0))
    return block.cells(cells), weights[:, cells]


def _joined(statistic: Statistic, states: list[Parts]) -> Parts:
    """Combine the states of the pieces of the same cases."""
    if len(states) == 1:
        return states[0]
    return statistic.combine(
        {part: np.stack([state[part] for state in states]) for part in statistic.parts}, axis=0
    )


def _by_group(
    block: Block,
    groups: npt.NDArray[np.int64],
    statistics: Sequence[Statistic],
    place: tuple[tuple[int, ...], npt.NDArray[np.int64] | None],
) -> dict[int, dict[str, Parts]]:
    """Return the states of the cells (rows, X, ...) for each group among the cases."""
    shape, cells = place

    def whole(values: Array) -> Array:
        if cells is not None:
            found = np.zeros((int(np.prod(shape)), *values.shape[1:]), values.dtype)
            found[cells] = values
            values = found
        return values.reshape(*shape, *values.shape[1:])

    states: dict[int, dict[str, Parts]] = {}
    for group in np.unique(groups):
        own = groups == group
        part = block if own.all() else block.cases(own)
        states[int(group)] = {
            s.name: {name: whole(values) for name, values in s.observe_cells(part).items()}
            for s in statistics
        }
    return states


def _put_cells(
    cells: dict[int, dict[str, Parts]],
    own: Mapping[int, Mapping[str, Parts]],
    rows: slice,
    shape: tuple[int, ...],
    statistics: Sequence[Statistic],
) -> None:
    """Combine states of some rows of cells with those of the whole block, in place."""
    for group, states in own.items():
        if group not in cells:
            cells[group] = {
                s.name: {
                    part: np.zeros((*shape, *values.shape[2:]), values.dtype)
                    for part, values in states[s.name].items()
                }
                for s in statistics
            }
        for s in statistics:
            whole = cells[group][s.name]
            before = {part: whole[part][rows] for part in s.parts}
            for part, values in _joined(s, [before, states[s.name]]).items():
                whole[part][rows] = values


def cases_of(state: Observed | ByArea) -> ByArea:
    """Return the states of cases of a block, or those that were combined before."""
    return state.cases if isinstance(state, Observed) else state


def add_cases(work: Work, states: Sequence[Observed | ByArea]) -> ByArea:
    """Combine the states of the same cases from several blocks, such as parts of the grid."""
    kept = [cases_of(state) for state in states]
    return {
        area: {
            s.name: s.combine(
                {part: np.stack([k[area][s.name][part] for k in kept]) for part in s.parts}, axis=0
            )
            for s in statistics
        }
        for area, statistics in work.cases.items()
    }


def add_cells(
    states: Sequence[dict[int, dict[str, Parts]]], statistics: Sequence[Statistic]
) -> dict[int, dict[str, Parts]]:
    """Combine the states of the same cells from several blocks, group by group."""
    found: dict[int, dict[str, Parts]] = {}
    for group in sorted({group for state in states for group in state}):
        own = [state[group] for state in states if group in state]
        found[group] = {s.name: _joined(s, [state[s.name] for state in own]) for s in statistics}
    return found
