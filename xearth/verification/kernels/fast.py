"""The kernels compiled by numba: the same numbers, faster.

Points are worked on :data:`WIDTH` at a time in the innermost cache, so that each comparator of the
sorting network is a few vector instructions. The kernels release the interpreter lock. numba is
imported, and a kernel compiled, at first use; compiled kernels are kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ...errors import MissingDependencyError
from .network import sorting_network
from .sorting import GROUP, Array, block_points, tiles

__all__ = ["crps", "parts", "sweep"]

WIDTH = 128  # points side by side
PAD = 16  # so that a point's members do not all fall on the same lines of the cache
CHUNK = 2048  # points compared with all thresholds in turn


@cache
def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        import numba
    except ImportError as error:
        raise MissingDependencyError(
            "engine='numba' needs numba, which is not installed: pip install 'xearth[fast]', or "
            "use engine='numpy'."
        ) from error
    compiled: Callable[..., Any] = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    return compiled


@cache
def _network(rows: int) -> tuple[Array, Array]:
    """Return comparators (low, high, row to write the lower to), and where each rank ends up.

    One row is spare. The lower goes there and the higher stays, so that nothing is read after it
    was written, which is what lets the compiler use vector instructions.
    """
    places, spare, table = list(range(rows)), rows, []
    for a, b in sorting_network(rows):
        table.append((places[a], places[b], spare))
        places[a], spare = spare, places[a]
    return np.array(table, np.int64).reshape(-1, 3), np.array(places, np.int64)


def _workspace(members: int, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return comparators, places, and rows to sort: one buffer three times.

    For the compiler these are different arrays, of which it checks while running that the rows in
    use do not overlap.
    """
    rows = np.zeros((members + 1, WIDTH + PAD), dtype)
    return (*_network(members), (rows, rows, rows))


def crps(members: Array, truth: Array, fair: int) -> Array:
    """Return the CRPS (...) of members (M, ...) and truth (...) of one floating type."""
    kernel, work = _compile(_crps), _workspace(len(members), members.dtype)
    out = np.empty(truth.shape, members.dtype)
    stack = _stack(members)
    if stack is not None and truth.flags.c_contiguous:
        kernel(stack, truth.reshape(-1), fair, work, out.reshape(-1))
        return out
    for index in tiles(truth.shape, block_points(len(members), members.itemsize)):
        x = np.ascontiguousarray(members[(slice(None), *index)]).reshape(1, len(members), -1)
        score = np.empty(x.shape[2], x.dtype)
        y = np.ascontiguousarray(truth[index]).reshape(-1)
        kernel(x, y, fair, work, score)
        out[index] = score.reshape(out[index].shape)
    return out


def _stack(members: Array) -> Array | None:
    """Return members (M, ...) as a contiguous view (outer, M, inner), if they are one."""
    for axis in range(members.ndim):
        x = np.moveaxis(members, 0, axis)
        if x.flags.c_contiguous:
            return x.reshape(int(np.prod(x.shape[:axis])), len(members), -1)
    return None


def parts(d: Array) -> tuple[Array, Array]:
    """Return counts (n,) and mean, variance, mean |d|, pairwise sum (4, n) of deviations (M, n)."""
    d = np.ascontiguousarray(d)
    counts, values = np.empty(d.shape[1], np.int64), np.empty((4, d.shape[1]))
    _compile(_parts)(d, _workspace(len(d), d.dtype), counts, values)
    return counts, values


def sweep(forecast: Array, truth: Array, marks: Sequence[Sequence[Any]]) -> Array:
    """Return counts (thresholds, 4): both, forecast, truth, known; thresholds ascend."""
    table = np.zeros((len(marks[0]), 4), np.int64)
    bounds = [_reachable(m, x.dtype) for m, x in zip(marks, (forecast, truth), strict=True)]
    kernel = _compile(_sweep)
    for index in tiles(forecast.shape, 1 << 20):
        f, t = (np.ascontiguousarray(x[index]).reshape(-1) for x in (forecast, truth))
        kernel(f, t, *bounds, table)
    return table


def _reachable(marks: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    """Return the bounds that values of the type can reach, in that type."""
    if dtype.kind == "f":
        return np.array(marks, dtype)
    info = np.iinfo(dtype)
    return np.array([max(m, info.min) for m in marks if m <= info.max], dtype)


# ---- what is compiled ----------------------------------------------------------------------
# One function each: a compiled function that calls another cannot be kept on disk unless numba is
# imported with this module.


def _crps(x, y, fair, work, out):  # type: ignore[no-untyped-def]  # noqa: PLR0912
    """Write the CRPS of members x (outer, M, inner) and truth y (outer * inner) to out."""
    network, places, rows = work
    members, inner = x.shape[1], x.shape[2]
    count, total, group = np.zeros(WIDTH, x.dtype), np.zeros(WIDTH), np.zeros(WIDTH, x.dtype)
    one, zero, far = x.dtype.type(1), x.dtype.type(0), x.dtype.type(np.inf)
    for start in range(0, y.size, WIDTH):
        width = min(WIDTH, y.size - start)
        count[:], total[:] = zero, 0.0
        truth = y[start : start + width]
        lead, first = divmod(start, inner)
        if first + width <= inner:  # points lie side by side
            for m in range(members):
                row, source = rows[0][m], x[lead, m, first : first + width]
                for i in range(width):
                    row[i] = source[i] - truth[i]
                for i in range(WIDTH):
                    d = row[i]
                    count[i] += zero if np.isnan(d) else one
                    row[i] = far if np.isnan(d) else d
        else:
            for i in range(width):
                known = 0
                for m in range(members):
                    d = x[lead, m, first] - truth[i]
                    known += not np.isnan(d)
                    rows[0][m, i] = far if np.isnan(d) else d
                count[i], first = known, first + 1
                if first == inner:
                    lead, first = lead + 1, 0
        for c in range(len(network)):
            low, high = rows[0][network[c, 0]], rows[1][network[c, 1]]
            spare = rows[2][network[c, 2]]
            for i in range(WIDTH):
                a, b = low[i], high[i]
                spare[i] = min(b, a)
                high[i] = max(a, b)
        for k in range(members):
            row, rank = rows[0][places[k]], x.dtype.type(k)
            down = x.dtype.type(fair - 2 * k - 1)
            for i in range(WIDTH):
                up = row[i] * (x.dtype.type(2) * (count[i] - rank) - x.dtype.type(1 + fair))
                below = row[i] * down
                term = max(below, up)
                group[i] += term if rank < count[i] else zero
            if k % GROUP == GROUP - 1 or k == members - 1:
                total += group
                group[:] = zero
        for i in range(width):
            score = total[i] / (np.float64(count[i]) * (count[i] - fair))
            out[start + i] = score if count[i] <= fair or abs(score) < np.inf else np.inf


def _parts(d, work, counts, values):  # type: ignore[no-untyped-def]
    """Write counts and parts of deviations d (M, n)."""
    network, places, rows = work
    members, dtype = len(d), d.dtype.type
    count, center = np.zeros(WIDTH, d.dtype), np.zeros(WIDTH, d.dtype)
    group, other = np.zeros(WIDTH, d.dtype), np.zeros(WIDTH, d.dtype)
    total, size, square, pairs = np.zeros(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH)
    zero, one, far = dtype(0), dtype(1), dtype(np.inf)
    for start in range(0, d.shape[1], WIDTH):
        width = min(WIDTH, d.shape[1] - start)
        count[:], total[:], size[:], square[:], pairs[:] = zero, 0.0, 0.0, 0.0, 0.0
        for m in range(members):
            row, source = rows[0][m], d[m, start : start + width]
            for i in range(width):
                row[i] = source[i]
            for i in range(WIDTH):
                v = row[i]
                count[i] += zero if np.isnan(v) else one
                group[i] += zero if np.isnan(v) else v
                other[i] += zero if np.isnan(v) else abs(v)
                row[i] = far if np.isnan(v) else v
            if m % GROUP == GROUP - 1 or m == members - 1:
                total += group
                size += other
                group[:], other[:] = zero, zero
        for i in range(WIDTH):
            total[i] /= max(count[i], one)
            center[i] = total[i] if abs(total[i]) < np.inf else 0.0
        for c in range(len(network)):
            low, high = rows[0][network[c, 0]], rows[1][network[c, 1]]
            spare = rows[2][network[c, 2]]
            for i in range(WIDTH):
                a, b = low[i], high[i]
                spare[i] = min(b, a)
                high[i] = max(a, b)
        for k in range(members):
            row, rank, twice = rows[0][places[k]], dtype(k), dtype(2 * k + 1)
            for i in range(WIDTH):
                v = row[i] - center[i]
                v, weight = v if rank < count[i] else zero, twice - count[i]
                group[i] += v * v
                other[i] += v * weight if weight != zero else zero
            if k % GROUP == GROUP - 1 or k == members - 1:
                square += group
                pairs += other
                group[:], other[:] = zero, zero
        for i in range(width):
            counts[start + i], values[0, start + i] = np.int64(count[i]), total[i]
            finite = abs(total[i]) < np.inf
            values[1, start + i] = square[i] / max(count[i] - one, one) if finite else np.nan
            values[2, start + i], values[3, start + i] = size[i] / max(count[i], one), pairs[i]


def _sweep(f, t, low, high, table):  # type: ignore[no-untyped-def]
    """Add the counts of events of f and t at all bounds to the table."""
    for start in range(0, f.size, CHUNK):
        stop = min(start + CHUNK, f.size)
        known = 0
        for i in range(start, stop):
            known += not (np.isnan(f[i]) or np.isnan(t[i]))
        for k in range(len(table)):
            table[k, 3] += known
        for k in range(max(len(low), len(high))):
            here, there = k < len(low), k < len(high)
            a = low[k] if here else low[0]
            b = high[k] if there else high[0]
            both, foreseen, happened = np.int32(0), np.int32(0), np.int32(0)
            for i in range(start, stop):
                u = here & (f[i] >= a) & ~np.isnan(t[i])
                v = there & (t[i] >= b) & ~np.isnan(f[i])
                both = np.int32(both + (u & v))
                foreseen = np.int32(foreseen + u)
                happened = np.int32(happened + v)
            table[k, 0] += both
            table[k, 1] += foreseen
            table[k, 2] += happened
            if foreseen == 0 and happened == 0:  # nor at any higher threshold
                break
