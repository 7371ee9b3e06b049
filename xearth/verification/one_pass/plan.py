"""The graph of one pass: one task for each block of the forecast, then a tree.

A block of the forecast is one of its chunks, with all the chunks of its members; its task reads
them, looks up the truth of its valid times in the chunks that hold them, and returns the states
of every statistic. States of the same cases are combined over the grid and put side by side;
states of cells are combined over the starts. Nothing of the archive is rechunked, and no task
depends on more than one block and a few states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from ..block import Array
from ..statistics import Parts, Statistic
from .areas import Weights
from .groups import Groups
from .matched import Matched, Places
from .observe import Observed, Rows, Work, add_cases, add_cells, cases_of, observe

__all__ = ["lazy_parts"]

#: States that one task combines.
FAN = 8
#: Bytes of a piece of an array in memory that is worked on as a block.
PIECE = 64 * 2**20

Graph = dict[Any, Any]
Lazy = dict[tuple[str, str, str], da.Array]


def lazy_parts(
    pairs: Matched,
    work: Work,
    weights: Mapping[str, Weights],
    groups: Groups,
) -> Lazy:
    """Return the state of every statistic as lazy arrays.

    Parameters
    ----------
    pairs : Matched
    work : Work
    weights : mapping of str to array (R, Y, X)
    groups : Groups
        Of the states of cells.

    Returns
    -------
    dict
        By (area, statistic, part): (I, L, R, ...), for ``cells`` (groups..., Y, X, ...).
    """
    forecast = _chunked(pairs.forecast)
    truth = _on_cells(pairs.truth, forecast)
    climatology = None
    if pairs.climatology is not None:
        climatology = _on_cells(pairs.climatology, forecast).rechunk({0: -1})
    token = tokenize(forecast.name, truth.name, pairs.rows, weights, groups.codes, work)
    graph = _Graph(f"verify-{token}", pairs, work, groups, forecast, truth, climatology)
    graph.put(("work",), work)
    graph.add_weights(weights)
    cases, cells = graph.add_blocks()
    dependencies: list[Any] = [x for x in (forecast, truth, climatology) if x is not None]
    base = HighLevelGraph.from_collections(graph.name, graph.layer, dependencies=dependencies)
    sample = _sample(work, weights, forecast.shape[2])
    lazy: Lazy = {}
    sizes = forecast.shape[:2]
    for area, statistics in work.cases.items():
        for s, part, like in _each(statistics, sample.cases[area]):
            chunks = tuple((n,) for n in (*sizes, len(weights[area]), *like.shape[3:]))
            tasks: Graph = {(0,) * len(chunks): (_case_part, cases, area, s, part)}
            lazy[area, s, part] = _array(
                base, f"{graph.name}:{area}.{s}.{part}", tasks, (chunks, like.dtype)
            )
    for s, part, like in _each(work.cells, sample.cells.get(0, {})):
        own = tuple((n,) for n in like.shape[2:])
        chunks = (*((n,) for n in groups.shape), *forecast.chunks[3:], *own)
        first, last = (0,) * len(groups.shape), (0,) * len(own)
        tasks = {
            (*first, *place, *last): (_dense, key, s, part, list(groups.shape))
            for place, key in cells.items()
        }
        lazy["cells", s, part] = _array(
            base, f"{graph.name}:cells.{s}.{part}", tasks, (chunks, like.dtype)
        )
    return lazy


@dataclass(eq=False)
class _Graph:
    """The layer as it grows; keys are (name, what, ...)."""

    name: str
    pairs: Matched
    work: Work
    groups: Groups
    forecast: da.Array
    truth: da.Array
    climatology: da.Array | None
    layer: Graph = field(default_factory=dict)

    def put(self, key: tuple[Any, ...], task: Any) -> tuple[Any, ...]:
        """Add a task."""
        self.layer[(self.name, *key)] = task
        return (self.name, *key)

    def add_weights(self, weights: Mapping[str, Weights]) -> None:
        """Add the weights of each part of the grid, once for all blocks on it."""
        ys, xs = (_spans(chunks) for chunks in self.forecast.chunks[3:])
        for (j, y), (i, x) in product(enumerate(ys), enumerate(xs)):
            self.put(("weights", j, i), {a: w[:, y, x] for a, w in weights.items()})

    def add_blocks(self) -> tuple[Any, dict[tuple[int, int], Any]]:
        """Add the tasks of all blocks and the trees.

        Returns the key of the states of cases, and those of the states of cells by the part of
        the grid.
        """
        inits, leads, _, ys, xs = self.forecast.chunks
        grid = list(product(range(len(ys)), range(len(xs))))
        cells: dict[tuple[int, int], list[Any]] = {place: [] for place in grid}
        lines = []
        for a, init in enumerate(_spans(inits)):
            line = []
            for b, lead in enumerate(_spans(leads)):
                blocks = [self._block((a, b), (init, lead), place) for place in grid]
                for place, key in zip(grid, blocks, strict=True):
                    cells[place].append(key)
                alone = len(blocks) == 1 and not self.work.cells
                line.append(blocks[0] if alone else self._tree(("cases", a, b), blocks, add_cases))
            lines.append(self._joined(("line", a), line, 1))
        cases = self._joined(("cases",), lines, 0)
        if not self.work.cells:
            return cases, {}
        return cases, {
            place: self._tree(("cells", *place), keys, _add_cells) for place, keys in cells.items()
        }

    def _block(
        self, numbers: tuple[int, int], cases: tuple[slice, slice], place: tuple[int, int]
    ) -> Any:
        """Add the task of one block."""
        members = range(len(self.forecast.chunks[2]))
        parts = [(self.forecast.name, *numbers, m, *place) for m in members]
        rows, chunks = _local(self.pairs.rows[cases], self.truth.chunks[0])
        truth = [(self.truth.name, c, *place) for c in chunks]
        climatology, periods = None, None
        if self.climatology is not None and self.pairs.periods is not None:
            climatology = (self.climatology.name, 0, *place)
            periods = self.pairs.periods[cases]
        task = _Observe(rows, periods, self.groups.codes[cases], len(parts))
        weights = (self.name, "weights", *place)
        # one flat list of keys: a nested one costs Dask several objects for each block
        return self.put(
            ("block", *numbers, *place),
            (task, (self.name, "work"), weights, climatology, *parts, *truth),
        )

    def _tree(self, key: tuple[Any, ...], keys: list[Any], add: Any) -> Any:
        """Combine states, a few at a time."""
        level = 0
        work = (self.name, "work")
        while True:
            keys = [
                self.put((*key, level, k), (add, work, keys[k : k + FAN]))
                for k in range(0, len(keys), FAN)
            ]
            level += 1
            if len(keys) == 1:
                return keys[0]

    def _joined(self, key: tuple[Any, ...], keys: list[Any], axis: int) -> Any:
        """Put states of different cases side by side."""
        if len(keys) == 1:
            return keys[0]
        return self.put((*key, "joined"), (_side_by_side, keys, axis))


# ---- tasks ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Observe:
    """The task of one block: which rows of its truth its cases need, and their groups."""

    rows: Places
    periods: Places | None
    groups: Places
    parts: int

    def __call__(
        self,
        work: Work,
        weights: Mapping[str, Array],
        climatology: Array | None,
        *fields: Array,
    ) -> Observed:
        members, truth = fields[: self.parts], fields[self.parts :]
        base = None
        if climatology is not None and self.periods is not None:
            base = Rows([climatology], self.periods)
        return observe(work, members, (Rows(truth, self.rows), base), weights, self.groups)


def _add_cells(work: Work, states: list[Any]) -> dict[int, dict[str, Parts]]:
    return add_cells(
        [state.cells if isinstance(state, Observed) else state for state in states], work.cells
    )


def _side_by_side(states: list[Any], axis: int) -> dict[str, dict[str, Parts]]:
    kept = [cases_of(state) for state in states]
    return {
        area: {
            name: {
                part: np.concatenate([state[area][name][part] for state in kept], axis=axis)
                for part in parts
            }
            for name, parts in statistics.items()
        }
        for area, statistics in kept[0].items()
    }


def _case_part(state: Any, area: str, name: str, part: str) -> Array:
    return cases_of(state)[area][name][part]


def _dense(state: dict[int, dict[str, Parts]], name: str, part: str, shape: list[int]) -> Array:
    """Return the states of all groups (G..., Y, X, ...), 0 for a group that never occurs."""
    like = next(iter(state.values()))[name][part]
    found = np.zeros((int(np.prod(shape, dtype=int)), *like.shape), like.dtype)
    for group, states in state.items():
        found[group] = states[name][part]
    return found.reshape(*shape, *like.shape)


# ---- arrays --------------------------------------------------------------------------------


def _chunked(variable: xr.Variable) -> da.Array:
    """Return the forecast as a Dask array, chunked as it is; in memory by the start."""
    if isinstance(variable.data, da.Array):
        return variable.data
    shape = variable.shape
    each = max(1, variable.dtype.itemsize * int(np.prod(shape[1:])))
    chunks = (max(1, PIECE // each), *shape[1:])
    return da.from_array(variable.values, chunks=chunks, name=False)


def _on_cells(variable: xr.Variable, forecast: da.Array) -> da.Array:
    """Return fields (row, y, x) as a Dask array with the chunks of the forecast in space."""
    space = {1: forecast.chunks[3], 2: forecast.chunks[4]}
    data = variable.data
    if variable.ndim == 4:  # the truth of each start and lead: their rows are one after another
        data = data.reshape((-1, *variable.shape[2:]))
    if isinstance(data, da.Array):
        return data.rechunk(space)
    return da.from_array(np.asarray(data), chunks=(-1, *space.values()), name=False)


def _spans(chunks: Sequence[int]) -> list[slice]:
    ends = np.cumsum(chunks).tolist()
    return [slice(end - size, end) for end, size in zip(ends, chunks, strict=True)]


def _local(
    rows: npt.NDArray[np.int64], chunks: Sequence[int]
) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Return rows counted within the chunks that hold them, and these chunks.

    At least one chunk is named, so that a block without any truth has the type of the truth.
    """
    starts = np.cumsum([0, *chunks[:-1]])
    known = rows >= 0
    of = np.searchsorted(starts, rows, side="right") - 1
    used = np.unique(of[known]).tolist() or [0]
    before = np.zeros(len(chunks), dtype=np.int64)
    before[used] = np.cumsum([0, *(chunks[c] for c in used[:-1])])
    local = np.where(known, rows - starts[of] + before[of], -1)
    return local, used


def _sample(work: Work, weights: Mapping[str, Weights], members: int) -> Observed:
    """Return the states of a single missing point: their shapes and types."""
    missing = np.full((1, 1, members, 1, 1), np.nan)
    one = np.zeros((1, 1), dtype=np.int64)
    rows = Rows([missing[0, :, 0]], one)
    ones = {area: np.ones((1, 1, 1)) for area in weights}
    return observe(work, [missing], (rows, rows), ones, one)


def _each(
    statistics: Sequence[Statistic], states: Mapping[str, Parts]
) -> list[tuple[str, str, Array]]:
    return [(s.name, part, states[s.name][part]) for s in statistics for part in s.parts]


def _array(
    base: HighLevelGraph,
    name: str,
    tasks: Graph,
    form: tuple[tuple[tuple[int, ...], ...], np.dtype[Any]],
) -> da.Array:
    """Return the array of these tasks; its name begins with that of the layer."""
    parent = name.partition(":")[0]
    layer: Graph = {(name, *index): task for index, task in tasks.items()}
    graph = HighLevelGraph({**base.layers, name: layer}, {**base.dependencies, name: {parent}})
    return da.Array(graph, name, form[0], dtype=form[1])
