r"""Orientation and matching of horizontal coordinates, on plain numpy arrays.

Notation: :math:`\varphi_i` (degrees north) are the H row coordinates, :math:`\lambda_j` (degrees
east) the W column coordinates. The canonical order is rows south to north and columns west to
east *eastward*: the columns of a region across the date line or Greenwich follow each other as
on a globe, whatever the storage convention. An order is an integer array ``index`` such that
``stored[index]`` is canonical.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "column_match",
    "column_order",
    "eastward",
    "extent",
    "inverse",
    "is_global",
    "listing",
    "row_order",
    "take",
]

# A break is an interior jump wider than the jump back to the start by this factor: 1.5 tells a
# region stored in two pieces from a global grid with uneven (rounded, stretched) columns.
_BREAK = 1.5
_CIRCLE = 360.0
# Degrees: float32 longitudes are exact to 3e-5, and no grid has columns this close.
_CLOSE = 1e-4


def row_order(values: np.ndarray) -> np.ndarray:
    """Return the order that sorts ``values`` (H,) ascending.

    Examples
    --------
    >>> row_order(np.array([10.0, 0.0, -10.0]))
    array([2, 1, 0])
    """
    return np.argsort(np.asarray(values, dtype=np.float64), kind="stable")


def _jumps(lon: np.ndarray) -> np.ndarray:
    """Return the eastward distance (degrees, in [0, 360)) from each column to the next."""
    jumps = np.diff(lon) % _CIRCLE
    # A jump of 359.99999 is rounding of a repeated column, not a turn of the globe.
    return np.where(jumps > _CIRCLE - _CLOSE, jumps - _CIRCLE, jumps)


def _is_eastward(lon: np.ndarray) -> bool:
    """Whether the columns (W,) go eastward in one turn at most."""
    return bool(_jumps(lon).sum() <= _CIRCLE + _CLOSE)


def column_order(lon: np.ndarray) -> np.ndarray:
    """Return the order that puts longitudes ``lon`` (W,), degrees east, eastward.

    A region starts after the widest gap between its columns; a global grid keeps the start it
    is stored with.

    Examples
    --------
    >>> column_order(np.array([170.0, 175.0, -180.0, -175.0]))  # across the date line
    array([0, 1, 2, 3])
    >>> column_order(np.array([-180.0, -175.0, 170.0, 175.0]))  # the same, stored sorted
    array([2, 3, 0, 1])
    >>> column_order(np.array([350.0, 355.0, 0.0, 5.0])[::-1])
    array([3, 2, 1, 0])
    """
    lon = np.asarray(lon, dtype=np.float64)
    order = np.arange(lon.size)
    if lon.size < 2:
        return order
    if not _is_eastward(lon):
        order = order[::-1].copy()
        if not _is_eastward(lon[order]):
            order = np.argsort(lon % _CIRCLE, kind="stable")
    jumps = _jumps(lon[order])
    wrap = _CIRCLE - jumps.sum()
    widest = int(np.argmax(jumps))
    repeated = abs(wrap) <= _CLOSE  # a cyclic column is stored twice: nothing is broken
    if not repeated and jumps[widest] > _BREAK * wrap:
        order = np.roll(order, -(widest + 1))
    return order


def eastward(lon: np.ndarray) -> np.ndarray:
    """Return canonical longitudes (W,) without the jump of the storage convention.

    Examples
    --------
    >>> eastward(np.array([170.0, 175.0, -180.0, -175.0]))
    array([170., 175., 180., 185.])
    """
    lon = np.asarray(lon, dtype=np.float64)
    if lon.size < 2 or bool(np.all(np.diff(lon) > 0)):
        return lon
    turns = np.concatenate([[0.0], np.cumsum(np.diff(lon) < 0) * _CIRCLE])
    return lon + turns


def is_global(lon: np.ndarray) -> bool:
    """Whether canonical longitudes (W,) go round the globe without a gap.

    Examples
    --------
    >>> is_global(np.arange(0.0, 360.0, 5.0)), is_global(np.arange(120.0, 290.0, 5.0))
    (True, False)
    """
    if lon.size < 3:
        return False
    jumps = _jumps(np.asarray(lon, dtype=np.float64))
    wrap = _CIRCLE - jumps.sum()
    return bool(_CLOSE < wrap <= _BREAK * jumps.max())


def column_match(model: np.ndarray, data: np.ndarray, tolerance: float) -> np.ndarray | None:
    """Return ``index`` with ``data[index] == model`` modulo 360 within ``tolerance``, or None.

    Both are canonical longitudes (W,); ``data`` may start elsewhere if the grid is global.

    Examples
    --------
    >>> column_match(np.array([0.0, 90.0, 180.0, 270.0]), np.array([-180.0, -90.0, 0.0, 90.0]), 0.1)
    array([2, 3, 0, 1])
    """
    if model.shape != data.shape:
        return None
    start = int(np.argmin(_apart(data, model[0])))
    if start and not is_global(model):
        return None
    index = np.roll(np.arange(data.size), -start)
    return index if bool(np.all(_apart(data[index], model) <= tolerance)) else None


def _apart(a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
    """Return the distance of two longitudes on the circle, degrees."""
    return np.abs((np.asarray(a) - b + 180.0) % _CIRCLE - 180.0)


def inverse(index: np.ndarray) -> np.ndarray:
    """Return the permutation that undoes ``index``.

    Examples
    --------
    >>> inverse(np.array([2, 0, 1]))
    array([1, 2, 0])
    """
    back = np.empty_like(index)
    back[index] = np.arange(index.size)
    return back


def take(values: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    """Return ``values`` in the order ``index`` along ``axis``: a view when nothing or all turns.

    Examples
    --------
    >>> take(np.array([1, 2, 3]), np.array([2, 1, 0]), 0)
    array([3, 2, 1])
    """
    steps = np.arange(index.size)
    if np.array_equal(index, steps):
        return values
    if np.array_equal(index, steps[::-1]):
        return np.flip(values, axis)
    return np.take(values, index, axis)


def extent(values: np.ndarray | None, hemispheres: str = "") -> str:
    """Return " first .. last" of canonical coordinates in words, "" if there are none.

    Examples
    --------
    >>> extent(np.array([-27.5, 27.5]), "NS"), extent(np.array([122.5, 292.5]), "EW")
    (' 27.5S .. 27.5N', ' 122.5E .. 67.5W')
    """
    if values is None or values.size == 0:
        return ""
    ends = [float(values[0]), float(values[-1])]
    if hemispheres == "EW":
        ends = [(end + 180.0) % 360.0 - 180.0 for end in ends]
    if hemispheres:
        return " " + " .. ".join(f"{abs(e):g}{hemispheres[int(e < 0)]}" for e in ends)
    return f" {ends[0]:g} .. {ends[1]:g}"


def listing(values: np.ndarray) -> str:
    """Return coordinates as a short list: all up to six, else the first and last three.

    Examples
    --------
    >>> listing(np.arange(8.0))
    '[0, 1, 2, ..., 5, 6, 7]'
    """
    flat = [f"{v:g}" for v in np.ravel(values)]
    return f"[{', '.join(flat if len(flat) <= 6 else [*flat[:3], '...', *flat[-3:]])}]"
