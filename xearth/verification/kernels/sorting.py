"""Blocks of points that stay in cache, and members in order: what the kernels share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...errors import ConfigError
from .network import sorting_network

__all__ = [
    "Engine",
    "block_points",
    "compiled",
    "ordered_rows",
    "sort_members",
    "sorted_rows",
    "tiles",
]

Array = npt.NDArray[Any]
Engine = Literal["numpy", "numba"]
Index = tuple[int | slice, ...]

NETWORK_MEMBERS = 100  # beyond, numpy's sort of each point is faster than the network
BUFFER = 4_000_000  # bytes of a block's members
GROUP = 8  # float32 terms added up before they go into a float64 sum
TILE = 512  # points of a tile that is transposed in the inner caches


def block_points(members: int, itemsize: int) -> int:
    """Return how many points a block of ensembles has: many, so that few calls are made."""
    return max(1024, min(65_536, BUFFER // max(1, members * itemsize)))


def tiles(shape: Sequence[int], size: int) -> Iterator[Index]:
    """Yield indices that cut an array into runs of at most ``size`` points, in C order."""
    split = 0
    while split < len(shape) and prod(shape[split + 1 :]) > size:
        split += 1
    if not all(shape):
        return
    if split >= len(shape):  # no dimension left to cut: one point
        yield ()
        return
    step = max(1, size // prod(shape[split + 1 :]))
    for lead in np.ndindex(*shape[:split]):
        for start in range(0, shape[split], step):
            yield (*lead, slice(start, start + step))


def sort_rows(rows: list[Array], spare: Array) -> Array:
    """Sort a list of rows point by point; rows are overwritten and change places.

    ``spare`` is one row more to write to; the row that is left over is returned.
    """
    minimum, maximum = np.minimum, np.maximum
    for a, b in sorting_network(len(rows)):
        low, high = rows[a], rows[b]
        minimum(low, high, out=spare)
        maximum(low, high, out=high)
        rows[a], spare = spare, low
    return spare


def sort_members(d: Array, out: Array | None = None) -> Array:
    """Sort members along the first axis.

    Parameters
    ----------
    d : array (M, ...)
        Floating point. No NaN: set missing members to +inf, they come last (with NaN the network
        gives NaN at that point, not an order).
    out : array (M, ...), optional
        Where to write, not overlapping ``d``.

    Returns
    -------
    array (M, ...)

    Examples
    --------
    >>> import numpy as np
    >>> sort_members(np.array([[3.0, 1.0], [2.0, np.inf], [1.0, 0.0]]))
    array([[ 1.,  0.],
           [ 2.,  1.],
           [ 3., inf]])
    """
    out = np.empty_like(d) if out is None else out
    members = len(d)
    size = block_points(members, d.itemsize)
    buffer = np.empty((members + 1, min(size, prod(d.shape[1:]))), d.dtype)
    for index in tiles(d.shape[1:], size):
        source, target = d[(slice(None), *index)], out[(slice(None), *index)]
        block = buffer[:, : source[0].size]
        block[:-1].reshape(source.shape)[...] = source
        for k, row in enumerate(sorted_rows(block)):
            target[k] = row.reshape(target[k].shape)
    return out


def sorted_rows(block: Array) -> list[Array]:
    """Return the rows block[:-1] in order; the block is overwritten."""
    rows = list(block[:-1])
    if len(rows) <= NETWORK_MEMBERS:
        sort_rows(rows, block[-1])
        return rows
    for index in tiles(block.shape[1:], TILE):
        points = np.ascontiguousarray(block[:-1, index[0]].T)
        points.sort(axis=-1)
        block[:-1, index[0]] = points.T
    return rows


def ordered_rows(d: Array, buffer: Array) -> list[Array]:
    """Return the rows of d (M, n) in order, in rows of the buffer (M + 1, n); d stays as it is.

    A row is moved by the first comparator that meets it, which spares a copy beforehand.
    """
    if not 1 < len(d) <= NETWORK_MEMBERS:
        buffer[:-1] = d
        return sorted_rows(buffer)
    rows, free, moved = list(d), list(buffer), [False] * len(d)
    for a, b in sorting_network(len(d)):
        low, high, bottom = rows[a], rows[b], free.pop()
        top = high if moved[b] else free.pop()
        np.minimum(low, high, out=bottom)
        np.maximum(low, high, out=top)
        if moved[a]:
            free.append(low)
        rows[a], rows[b] = bottom, top
        moved[a] = moved[b] = True
    return rows


def compiled(engine: str) -> bool:
    """Return whether the engine is the compiled one, if it is one at all."""
    if engine not in ("numpy", "numba"):
        raise ConfigError(f"engine must be 'numpy' or 'numba'; found {engine!r}.")
    return engine == "numba"
