r"""Kernels of scores on plain arrays: ensembles point by point, and counts of events.

Everything runs over blocks of points that stay in cache, through numpy ufuncs that write into
buffers: no copy of the archive is made, and Dask's threads run side by side since ufuncs release
the interpreter lock. Each point is worked out by the same operations in the same order whatever
the block it falls into, so that results do not depend on chunking to the last bit.

**Deviations.** Error, spread and CRPS all follow from the deviations :math:`d_i = x_i - y` of the
members from the truth. These are small, so that float32 loses nothing on them that the data had.
Sums over members are carried in float64 (groups of eight float32 terms at a time).

**CRPS.** With :math:`d_{(1)} \le \dots \le d_{(M)}`,

.. math:: \mathrm{CRPS} = \frac{1}{M (M - f)} \sum_k
          \max\bigl((2(M - k) + 1 - f)\, d_{(k)},\; -(2k - 1 - f)\, d_{(k)}\bigr),

:math:`f = 0` for the empirical distribution ("ensemble") and :math:`f = 1` for the estimate that
does not depend on M ("fair"). It equals mean :math:`|d|` less the pairwise term, but no two large
numbers are subtracted: no term is negative.

**Missing and infinite values.** NaN members are left out, point by point. A deviation that is
infinite makes the CRPS infinite, as the integral that defines it; a member that is infinite like
the truth deviates by NaN and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...errors import AxisError, ConfigError
from .sorting import (
    GROUP,
    Array,
    Engine,
    block_points,
    compiled,
    sort_members,
    sorted_rows,
    tiles,
)
from .tally import Counts, contingency

__all__ = [
    "Counts",
    "Engine",
    "EnsembleParts",
    "block_points",
    "contingency",
    "crps_ensemble",
    "ensemble_parts",
    "gini",
    "sort_members",
]

Estimator = Literal["ensemble", "fair"]

RARE = 2048  # points of a block with missing members: float64, several copies
TRANSPOSED = 2048  # points of a tile whose members are brought to the first axis
FEW = 16  # members whose distances, all positive, are added up in float32


# ---- sums over members ---------------------------------------------------------------------


def _add_rows(rows: Array, spare: Array) -> Array:
    """Return the float64 sum over the first axis, groups of rows first; ``spare`` is one row."""
    total = np.zeros(rows.shape[1:])
    for start in range(0, len(rows), GROUP):
        np.add(total, np.add.reduce(rows[start : start + GROUP], axis=0, out=spare), out=total)
    return total


def gini(d_sorted: Array | Sequence[Array], count: int | Array) -> npt.NDArray[np.float64]:
    r"""Return the pairwise sum :math:`\sum_{i<j} |d_i - d_j| = \sum_k (2k - M - 1)\, d_{(k)}`.

    Parameters
    ----------
    d_sorted : array (M, ...), or rows
        Members in order, missing ones (+inf) last.
    count : int or array (...)
        How many members are known; an int if all are known everywhere.

    Returns
    -------
    array (...), float64

    Examples
    --------
    >>> import numpy as np
    >>> gini(np.array([[1.0], [2.0], [4.0]]), 3)
    array([6.])
    >>> gini(np.array([[1.0], [2.0], [np.inf]]), np.array([2]))
    array([1.])
    """
    members = len(d_sorted)
    if isinstance(count, int):
        first = np.asarray(d_sorted[0])
        own = first.dtype if members <= FEW else np.float64  # no term is negative
        inner, total = np.zeros(first.shape, own), np.zeros(first.shape, own)
        width = np.empty_like(first)
        for k in range(members // 2):  # the outermost pair goes in M - 1 times, the next M - 3 ...
            np.subtract(d_sorted[members - 1 - k], d_sorted[k], out=width)
            np.add(inner, width, out=inner)
            np.add(total, inner, out=total)
        total *= 2
        if members % 2 == 0:
            total -= inner
        return total.astype(np.float64, copy=False)
    total = np.zeros(np.shape(d_sorted[0]))
    for k in range(members):
        weight = 2.0 * k - count + 1
        total += np.where((k < count) & (weight != 0), weight * d_sorted[k], 0.0)
    return total


# ---- parts of ensemble scores --------------------------------------------------------------


@dataclass(frozen=True)
class EnsembleParts:
    r"""What the scores of ensembles are made of, point by point.

    Attributes
    ----------
    count : int or int64 array
        Known members; an int if that is so at every point.
    mean : float64 array
        Mean deviation :math:`\bar d`; 0 without a known member, as the others.
    variance : float64 array
        :math:`\frac{1}{M-1} \sum_i (d_i - \bar d)^2`; 0 for one member.
    absolute : float64 array
        Mean of :math:`|d_i|`.
    gini : float64 array
        :math:`\sum_{i<j} |d_i - d_j|`.
    """

    count: int | npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]
    absolute: npt.NDArray[np.float64]
    gini: npt.NDArray[np.float64]

    def crps(self, estimator: Estimator) -> npt.NDArray[np.float64]:
        """Return the CRPS: mean |d| less the pairwise term; NaN as in :func:`crps_ensemble`."""
        pairs = np.asarray(self.count * (self.count - _fair(estimator)), np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            score = self.absolute - self.gini / pairs
        return np.where(np.isposinf(self.absolute) & (pairs > 0), np.inf, score)


def ensemble_parts(d: Array, *, engine: Engine = "numpy") -> EnsembleParts:
    """Return count, mean, variance, mean absolute value and pairwise sum over the members.

    Parameters
    ----------
    d : array (M, ...)
        Deviations of members from the truth, float32 or float64 (others are taken as float64);
        NaN where a member or the truth is missing. It is not changed.
    engine : {"numpy", "numba"}
        "numba" is faster; it needs the extra ``fast``.

    Returns
    -------
    EnsembleParts
        Arrays of the shape of a member. float32 deviations are worked on in float32, sums are
        float64: relative errors are about 1e-7.

    Examples
    --------
    >>> import numpy as np
    >>> parts = ensemble_parts(np.array([[1.0, np.nan], [2.0, 3.0], [-3.0, np.nan]]))
    >>> parts.count, parts.mean, parts.absolute, parts.gini
    (array([3, 1]), array([0., 3.]), array([2., 3.]), array([10.,  0.]))
    >>> parts.crps("ensemble")
    array([0.88888889, 3.        ])
    """
    d = _with_members(_floating(d))
    members, points = len(d), d.shape[1:]
    if compiled(engine):
        from . import fast

        known, values = fast.parts(d.reshape(members, -1))
        count = members if (known == members).all() else known.reshape(points)
        return EnsembleParts(count, *values.reshape(4, *points))
    out = np.empty((4, *points))
    counts = np.full(points, members, np.int64)
    size = block_points(members, d.itemsize)
    buffer = np.empty((members + 1, min(size, prod(points))), d.dtype)
    whole = True
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for index in tiles(points, size):
            source = d[(slice(None), *index)]
            block = source.reshape(members, -1)
            values = _parts(block, buffer[:, : block.shape[1]])
            bad = np.flatnonzero(np.isnan(values[0]))
            if bad.size:
                whole = False
                known = np.full(block.shape[1], members, np.int64)
                known[bad], values[:, bad] = _parts_missing(block, bad)
                counts[index] = known.reshape(counts[index].shape)
            out[(slice(None), *index)] = values.reshape(4, *source.shape[1:])
    return EnsembleParts(members if whole else counts, *out)


def _parts(d: Array, buffer: Array) -> Array:
    """Return mean, variance, mean |d| and pairwise sum (4, n) of d (M, n), all members known."""
    members = len(d)
    work, spare = buffer[:-1], buffer[-1]
    mean = _add_rows(d, spare) / members
    absolute = _add_rows(np.absolute(d, out=work), spare) / members
    np.subtract(d, mean.astype(d.dtype), out=work)
    variance = _add_rows(np.multiply(work, work, out=work), spare) / max(members - 1, 1)
    work[...] = d
    return np.stack([mean, variance, absolute, gini(sorted_rows(buffer), members)])


def _parts_missing(d: Array, bad: Array) -> tuple[Array, Array]:
    """Return counts (n,) and parts (4, n) at the points ``bad``, where some deviation is NaN.

    Also where deviations of both signs are infinite.
    """
    counts, values = np.zeros(bad.size, np.int64), np.zeros((4, bad.size))
    some = np.flatnonzero(~np.isnan(np.fmax.reduce(d[:, bad], axis=0)))
    for start in range(0, some.size, RARE):
        chosen = some[start : start + RARE]
        x = d[:, bad[chosen]].astype(np.float64)
        known = ~np.isnan(x)
        count = counts[chosen] = known.sum(axis=0)
        mean = np.where(known, x, 0.0).sum(axis=0) / count
        variance = np.where(known, (x - mean) ** 2, 0.0).sum(axis=0) / np.maximum(count - 1, 1)
        absolute = np.where(known, np.abs(x), 0.0).sum(axis=0) / count
        pairs = gini(sort_members(np.where(known, x, np.inf)), count)
        values[:, chosen] = mean, variance, absolute, pairs
    return counts, values


# ---- CRPS ----------------------------------------------------------------------------------


def crps_ensemble(
    members: Array,
    truth: Array,
    *,
    axis: int = 0,
    estimator: Estimator,
    engine: Engine = "numpy",
) -> Array:
    """Return the continuous ranked probability score at each point.

    Parameters
    ----------
    members : array
        Ensemble, the members along any ``axis``; it is not copied.
    truth : array
        Of the shape of one member, or broadcast to it.
    axis : int
        Axis of the members.
    estimator : {"ensemble", "fair"}
        Of the empirical distribution of the members, or unbiased for their number.
    engine : {"numpy", "numba"}
        "numba" is faster and gives the same numbers; it needs the extra ``fast``.

    Returns
    -------
    array
        float32 if both are, else float64. NaN where the truth or all members are missing, and
        with "fair" where fewer than two members are known; infinite where a deviation is.

    Raises
    ------
    AxisError
        The truth does not fit the members.
    ConfigError
        Unknown estimator or engine.
    MissingDependencyError
        ``engine="numba"`` without numba.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0, 4.0], [1.0, np.nan, 3.0]])
    >>> crps_ensemble(x, np.array([3.0, 3.0]), axis=-1, estimator="ensemble").round(4)
    array([0.6667, 0.5   ])
    """
    fair = _fair(estimator)
    members, truth = _pair(members, truth, axis)
    if compiled(engine):
        from . import fast

        return fast.crps(members, truth, fair)
    out = np.empty(truth.shape, members.dtype)
    count = len(members)
    size = block_points(count, members.itemsize)
    buffer = np.empty((count + 1, min(size, truth.size)), members.dtype)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for index in tiles(truth.shape, size):
            x, y = members[(slice(None), *index)], truth[index]
            block = buffer[:, : y.size]
            subtract(x, y, block[:-1])
            score = _pinball(block, fair)
            rare = np.flatnonzero(~np.isfinite(score) & ~np.isnan(y.reshape(-1)))
            if rare.size:
                score[rare] = _crps_missing(x, y, rare, estimator)
            out[index] = score.reshape(y.shape)
    return out


def subtract(members: Array, truth: Array, out: Array) -> None:
    """Write the deviations of members (M, ...) from truth (...) to out (M, points)."""
    strides = [abs(stride) for stride in members.strides]
    if members.ndim == 1 or strides[0] >= min(strides[1:]):
        np.subtract(members, truth, out=out.reshape(members.shape))
        return
    first = 0  # members lie side by side: whole lines of the cache are read, a tile at a time
    for index in tiles(truth.shape, TRANSPOSED):
        x, y = np.moveaxis(members[(slice(None), *index)], 0, -1), truth[index]
        tile = np.subtract(x, y[..., None]).reshape(-1, len(members))
        out[:, first : first + len(tile)] = tile.T
        first += len(tile)


def _pinball(block: Array, fair: int) -> Array:
    """Return the CRPS (n,) from deviations block[:-1] (M, n); the block is overwritten."""
    members = len(block) - 1
    rows = sorted_rows(block)
    total = np.zeros(block.shape[1])
    term, other, group = (np.empty(block.shape[1], block.dtype) for _ in range(3))
    for k, row in enumerate(rows):
        np.multiply(row, float(2 * (members - k) - 1 - fair), out=term)
        np.multiply(row, float(fair - 2 * k - 1), out=other)
        if k % GROUP == 0:
            np.maximum(term, other, out=group)
        else:
            np.maximum(term, other, out=term)
            np.add(group, term, out=group)
        if k % GROUP == GROUP - 1 or k == members - 1:
            np.add(total, group, out=total)
    return np.divide(total, np.float64(members * (members - fair)), out=total)


def _crps_missing(x: Array, y: Array, rare: Array, estimator: Estimator) -> Array:
    """Return the CRPS at the points ``rare``, where members are missing or infinite."""
    out = np.empty(rare.size)
    where: tuple[Any, ...] = np.unravel_index(rare, y.shape) if y.ndim else ()
    for start in range(0, rare.size, RARE):
        chosen = tuple(i[start : start + RARE] for i in where)
        picked: Array = x[(slice(None), *chosen)] - y[chosen]
        d = picked.reshape(len(x), -1)
        counts, values = _parts_missing(d, np.arange(d.shape[1]))
        out[start : start + RARE] = EnsembleParts(counts, *values).crps(estimator)
    return out


def _pair(members: Array, truth: Array, axis: int) -> tuple[Array, Array]:
    """Return members (M, ...) and truth (...) of one floating type, as views if they are so."""
    members, truth = np.asarray(members), np.asarray(truth)
    if members.ndim == 0 or not -members.ndim <= axis < members.ndim:
        raise AxisError(f"members of shape {members.shape} have no axis {axis}.")
    members = _with_members(np.moveaxis(members, axis, 0))
    try:
        truth = np.broadcast_to(truth, members.shape[1:])
    except ValueError:
        raise AxisError(
            f"truth must have the shape of one member, {members.shape[1:]}; found {truth.shape}. "
            "Say with axis= where the members are."
        ) from None
    dtype = _floating_type(members.dtype, truth.dtype)
    return members.astype(dtype, copy=False), truth.astype(dtype, copy=False)


def _with_members(values: Array) -> Array:
    if values.ndim == 0 or len(values) == 0:
        raise AxisError(f"an ensemble needs members on its axis; found the shape {values.shape}.")
    return values


def _floating(values: Array) -> Array:
    values = np.asarray(values)
    return values.astype(_floating_type(values.dtype), copy=False)


def _floating_type(*types: np.dtype[Any]) -> np.dtype[Any]:
    """Return float32 if that holds them all without loss, else float64."""
    return np.result_type(*types, np.float32).newbyteorder("=")


def _fair(estimator: str) -> int:
    if estimator not in ("ensemble", "fair"):
        raise ConfigError(f"estimator must be 'fair' or 'ensemble'; found {estimator!r}.")
    return int(estimator == "fair")
