"""Counts of events, forecast and happened: all thresholds in one sweep over the data.

Plain arrays; each block of points is read once, compared with every threshold in cache, and
counted in int64, which is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import AxisError, ConfigError, DataTypeError
from .sorting import Array, Engine, compiled, tiles

__all__ = ["Counts", "Op", "contingency"]

Op = Literal[">=", ">"]

PIXELS = 131_072  # points of a block


class Counts(NamedTuple):
    """How often events were forecast and happened, int64 (thresholds, ...)."""

    hits: npt.NDArray[np.int64]
    misses: npt.NDArray[np.int64]
    false_alarms: npt.NDArray[np.int64]
    correct_negatives: npt.NDArray[np.int64]


def contingency(
    forecast: Array,
    truth: Array,
    thresholds: Sequence[float],
    *,
    op: Op = ">=",
    keep: Sequence[int] = (),
    engine: Engine = "numpy",
) -> Counts:
    """Count hits, misses, false alarms and correct negatives at all thresholds in one sweep.

    Parameters
    ----------
    forecast, truth : array
        Of one shape; floating point or integers, packed ones as they are (with thresholds on
        their scale). A point where either is NaN counts in nothing.
    thresholds : sequence of float
        An event is a value on the side ``op`` of the threshold. Integers are compared with a
        threshold exactly; for floating point data the threshold is rounded to their type, so that
        a stored float32 0.7 meets 0.7.
    op : {">=", ">"}
        Whether a value equal to the threshold is an event.
    keep : sequence of int
        Axes to count along each element of, in this order.
    engine : {"numpy", "numba"}
        "numba" is faster and counts the same; it needs the extra ``fast``.

    Returns
    -------
    Counts
        int64 arrays (thresholds, *kept).

    Raises
    ------
    AxisError
        Shapes differ, or an axis to keep that is not there or named twice.
    ConfigError
        Unknown ``op`` or engine, a threshold that is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> f = np.array([[1.0, 5.0, np.nan], [7.0, 3.0, 2.0]])
    >>> o = np.array([[2.0, 4.0, 9.0], [0.0, 6.0, 1.0]])
    >>> contingency(f, o, [4.0, 6.0], keep=[0]).hits
    array([[1, 0],
           [0, 0]])
    >>> contingency(f, o, [4.0, 6.0]).misses
    array([1, 1])
    """
    forecast, truth = np.asarray(forecast), np.asarray(truth)
    _check_events(forecast, truth, thresholds, op)
    fused = compiled(engine)
    axes = _kept(keep, forecast.ndim)
    forecast, truth = (np.moveaxis(x, axes, range(len(axes))) for x in (forecast, truth))
    kept = forecast.shape[: len(axes)]
    order = np.argsort(thresholds, kind="stable")
    marks = [[bound(float(thresholds[i]), x.dtype, op) for i in order] for x in (forecast, truth)]
    if fused:
        from . import fast

        sweep = fast.sweep
    else:
        sweep = _sweep
    table = np.empty((len(order), *kept, 4), np.int64)  # both, forecast, truth, known
    for index in np.ndindex(*kept):
        table[(order, *index)] = sweep(forecast[index], truth[index], marks)
    both, foreseen, happened, known = np.moveaxis(table, -1, 0)
    misses, alarms = happened - both, foreseen - both
    return Counts(both.copy(), misses, alarms, known - both - misses - alarms)


def _sweep(forecast: Array, truth: Array, marks: Sequence[Sequence[Any]]) -> Array:
    """Return counts (thresholds, 4): both, forecast, truth, known; thresholds ascend."""
    table = np.zeros((len(marks[0]), 4), np.int64)
    size = min(PIXELS, forecast.size)
    buffers = np.empty((4, size), bool)
    for index in tiles(forecast.shape, PIXELS):
        f, t = forecast[index], truth[index]
        a, b, both, known = (x[: f.size].reshape(f.shape) for x in buffers)
        missing = _known(f, t, known, both)
        table[:, 3] += f.size - missing
        for k, (low, high) in enumerate(zip(*marks, strict=True)):
            np.greater_equal(f, low, out=a)
            np.greater_equal(t, high, out=b)
            if missing:
                np.logical_and(a, known, out=a)
                np.logical_and(b, known, out=b)
            counts = np.count_nonzero(a), np.count_nonzero(b)
            if not any(counts):  # nor at any higher threshold
                break
            if all(counts):
                table[k, 0] += np.count_nonzero(np.logical_and(a, b, out=both))
            table[k, 1:3] += counts
    return table


def _known(f: Array, t: Array, known: Array, work: Array) -> int:
    """Mark where both are known; return how many points are not."""
    floating = [x for x in (f, t) if x.dtype.kind == "f"]
    with np.errstate(invalid="ignore", over="ignore"):
        if all(np.isfinite(np.add.reduce(x, axis=None)) for x in floating):
            return 0  # a sum is cheaper than a mask
    np.isnan(floating[0], out=known)
    if len(floating) == 2:
        np.logical_or(known, np.isnan(floating[1], out=work), out=known)
    missing = int(np.count_nonzero(known))
    if missing:
        np.logical_not(known, out=known)
    return missing


def bound(threshold: float, dtype: np.dtype[Any], op: str) -> Any:
    """Return the smallest value of the type that is an event, so that events are ``>= bound``.

    For integers a Python int, which may lie beyond the type.
    """
    if dtype.kind != "f":
        return ceil(threshold) if op == ">=" else floor(threshold) + 1
    with np.errstate(over="ignore"):
        nearest = np.maximum(dtype.type(threshold), np.finfo(dtype).min)
    return nearest if op == ">=" else np.nextafter(nearest, dtype.type(np.inf))


def _check_events(forecast: Array, truth: Array, thresholds: Sequence[float], op: str) -> None:
    if forecast.shape != truth.shape:
        raise AxisError(
            f"forecast and truth must have one shape; found {forecast.shape} and {truth.shape}."
        )
    for x in (forecast, truth):
        if x.dtype.kind not in "fiu":
            raise DataTypeError(f"events need numbers; found {x.dtype}. Use x.astype('uint8').")
    if op not in (">=", ">"):
        raise ConfigError(f"op must be '>=' or '>'; found {op!r}.")
    if np.ndim(thresholds) != 1 or not np.isfinite(thresholds).all():
        raise ConfigError(f"thresholds must be a list of finite numbers; found {thresholds!r}.")


def _kept(keep: Sequence[int], ndim: int) -> list[int]:
    axes = [axis % ndim if -ndim <= axis < ndim else -1 for axis in keep]
    if -1 in axes or len(set(axes)) < len(axes):
        raise AxisError(f"axes to keep must be different ones of {ndim}; found {list(keep)}.")
    return axes
