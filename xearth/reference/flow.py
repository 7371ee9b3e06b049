r"""Motion of a pattern and its extrapolation along that motion, on plain arrays.

Notation
--------
:math:`z_k(x)` is frame :math:`k` at the cell :math:`x`, :math:`v(x)` the motion in cells per step,
as (row, column), and :math:`g` a gradient per cell.

**Motion.** If the pattern moves without change, :math:`z_{k+1}(x + v/2) = z_k(x - v/2)`. With the
error :math:`e` of this at the motion known so far, :math:`v_0`, and the gradient :math:`g` of the
mean of both sides, the motion at :math:`x` is that of least squares in a window :math:`W` around
it,

.. math:: (G + \lambda I)\, v = r + \lambda \bar v, \quad
          G = \sum_{k, W} g g^\top, \quad r = \sum_{k, W} g\, (g^\top v_0 - e),

where :math:`\bar v = (\sum_x G)^{-1} \sum_x r` is the motion of all cells together: what there is
where nothing can be seen to move. :math:`\lambda` is ``stiffness`` times the mean of
:math:`\mathrm{tr}(G) / 2` over all cells. The window is a box applied three times, nearly a
Gaussian. This is repeated ``iterations`` times, and that from coarse to fine: each level has cells
of 2 x 2 of the one below.

**Extrapolation.** The cell :math:`x` receives, :math:`n` steps later, what was at
:math:`x - d_n(x)` (semi-Lagrangian, backward), with

.. math:: d_{n+1}(x) = d_n(x) + \alpha, \qquad \alpha = v(x - d_n(x) - \alpha / 2),

found by iteration; the motion does not change in time. Values in between are bilinear.

Source: Lucas, B. D. and T. Kanade (1981): An iterative image registration technique with an
application to stereo vision. *Proc. IJCAI*, 674-679; Germann, U. and I. Zawadzki (2002):
Scale-dependence of the predictability of precipitation from continental radar images, part I.
*Mon. Wea. Rev.* 130, 2859-2873.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["displacements", "motion", "sample", "warp"]

Floats = npt.NDArray[np.float64]

#: Cells of the shorter side below which frames are not halved again.
COARSEST = 16
#: Iterations that find the middle of a step of a trajectory, from that of the step before.
MIDPOINT = 2
#: Determinant, in squares of the trace, of equations that say nothing of one direction.
SINGULAR = 1e-9
NEARLY_ONE = 1 - 1e-3


def motion(
    frames: npt.ArrayLike, *, window: float = 8.0, iterations: int = 3, stiffness: float = 0.1
) -> Floats:
    """Find the motion of a pattern.

    Parameters
    ----------
    frames : array (T, H, W)
        At even steps, T at least 2; NaN where missing. Logarithms of rain rates serve better than
        rates.
    window : float
        Standard deviation of the window in cells.
    iterations : int
        At each level.
    stiffness : float
        How much a cell follows the motion of all cells together.

    Returns
    -------
    ndarray (H, W, 2)
        Cells per step along rows and columns; zero where the frames hold no pattern at all.

    Examples
    --------
    >>> rows, columns = np.mgrid[:32, :48]
    >>> def blob(t):
    ...     return np.exp(-((rows - 14 - t) ** 2 + (columns - 20 - 2 * t) ** 2) / 40)
    >>> motion([blob(0), blob(1), blob(2)])[16, 24].round(2)
    array([1., 2.])
    """
    pyramid = [_known(np.asarray(frames, dtype=np.float64))]
    while min(pyramid[-1][0].shape[-2:]) >= 2 * COARSEST:
        pyramid.append(_halve(*pyramid[-1]))
    v = np.zeros((*pyramid[-1][0].shape[-2:], 2))
    for level in range(len(pyramid) - 1, -1, -1):
        z, known = _smooth(*pyramid[level])
        if v.shape[:2] != z.shape[-2:]:
            v = _enlarge(v, z.shape[-2:])
        for _ in range(iterations):
            v = _step(z, known, v, window / 2**level, stiffness)
    return v


def displacements(v: Floats, steps: int) -> Floats:
    """Follow trajectories backward.

    Parameters
    ----------
    v : ndarray (H, W, 2)
        Motion in cells per step; beyond the edge it is that of the edge.
    steps : int
        Number of leads, L.

    Returns
    -------
    ndarray (L, H, W, 2)
        How far what arrives in a cell has come, in cells.

    Examples
    --------
    >>> displacements(np.full((3, 4, 2), 0.5), 2)[:, 0, 0].tolist()
    [[0.5, 0.5], [1.0, 1.0]]
    """
    x = _cells(*v.shape[:2])
    d, alpha = np.zeros_like(v), v
    found = []
    for _ in range(steps):
        for _ in range(MIDPOINT):
            alpha = sample(v, x - d - alpha / 2)
        d = d + alpha
        found.append(d)
    return np.stack(found)


def warp(field: npt.ArrayLike, d: Floats) -> Floats:
    """Bring a field to the cells where it has moved.

    Parameters
    ----------
    field : array (H, W)
        NaN where missing.
    d : ndarray (..., H, W, 2)
        Displacements.

    Returns
    -------
    ndarray (..., H, W)
        Missing where it has come from beyond the edge, or more from missing cells than from
        others.

    Examples
    --------
    >>> warp([[1.0, 2.0, np.nan, 4.0]], np.full((1, 4, 2), (0.0, 1.0)))
    array([[nan,  1.,  2., nan]])
    """
    values = np.asarray(field, dtype=np.float64)
    filled, known = _known(values)
    at = _cells(*values.shape) - d
    inside = _inside(at, values.shape)[..., 0]
    both = sample(np.stack([filled, known], axis=-1), at)
    share = both[..., 1]
    found = both[..., 0] / np.where(share > 0, share, 1.0)
    return np.where(inside & (share >= 0.5), found, np.nan)


def sample(values: Floats, at: Floats) -> Floats:
    """Interpolate bilinearly; beyond the edge the value is that of the edge.

    Parameters
    ----------
    values : ndarray (H, W, C)
    at : ndarray (..., 2)
        Rows and columns, not whole.

    Returns
    -------
    ndarray (..., C)

    Examples
    --------
    >>> sample(np.array([[[0.0], [1.0]], [[2.0], [3.0]]]), np.array([[0.5, 0.5], [9.0, 0.0]]))
    array([[1.5],
           [2. ]])
    """
    where = np.moveaxis(at, -1, 0)
    channels = [
        ndimage.map_coordinates(values[..., c], where, order=1, mode="nearest")
        for c in range(values.shape[-1])
    ]
    return np.stack(channels, axis=-1)


# --- least squares ------------------------------------------------------------------------------


def _step(z: Floats, known: Floats, v: Floats, window: float, stiffness: float) -> Floats:
    """Improve the motion once."""
    x = _cells(*v.shape[:2])
    n = len(z) - 1
    # frame k where it will be half a step later, frame k + 1 where it was half a step before
    before, after = x - v / 2, x + v / 2
    early = sample(np.moveaxis(np.concatenate([z[:-1], known[:-1]]), 0, -1), before)
    late = sample(np.moveaxis(np.concatenate([z[1:], known[1:]]), 0, -1), after)
    a, b = early[..., :n], late[..., :n]
    inside = _inside(before, v.shape[:2]) & _inside(after, v.shape[:2])
    w = np.where(inside & (early[..., n:] * late[..., n:] > NEARLY_ONE), 1.0, 0.0)
    e = b - a
    row, column = _gradient((a + b) / 2)
    r = row * v[..., :1] + column * v[..., 1:] - e
    products = (row * row, row * column, column * column, row * r, column * r)
    sums = np.stack([(w * p).sum(-1) for p in products], axis=-1)
    whole = _solve(sums.sum((0, 1)), 0.0, np.zeros(2))
    local = _window(sums, window)
    scale = stiffness * float((local[..., 0] + local[..., 2]).mean()) / 2
    return _solve(local, scale, whole)


def _solve(sums: Floats, stiffness: float, toward: Floats) -> Floats:
    """Solve two equations per cell, (..., 5) -> (..., 2); zero where there are none."""
    g00, g01, g11, r0, r1 = np.moveaxis(sums, -1, 0)
    g00, g11 = g00 + stiffness, g11 + stiffness
    r0, r1 = r0 + stiffness * toward[0], r1 + stiffness * toward[1]
    det = g00 * g11 - g01 * g01
    sound = det > SINGULAR * (g00 + g11) ** 2
    det = np.where(sound, det, 1.0)
    rows = np.where(sound, g11 * r0 - g01 * r1, 0.0) / det
    columns = np.where(sound, g00 * r1 - g01 * r0, 0.0) / det
    return np.stack([rows, columns], axis=-1)


def _gradient(z: Floats) -> tuple[Floats, Floats]:
    """Central differences along rows and columns of (H, W, K), zero at the edge."""
    row, column = np.zeros_like(z), np.zeros_like(z)
    row[1:-1] = (z[2:] - z[:-2]) / 2
    column[:, 1:-1] = (z[:, 2:] - z[:, :-2]) / 2
    return row, column


def _window(field: Floats, window: float) -> Floats:
    """Sum in a window around each cell (H, W, ...), up to a factor; beyond the edge is zero."""
    width = 2 * max(1, round(window)) + 1
    for axis in (0, 1):
        for _ in range(3):
            field = ndimage.uniform_filter1d(field, width, axis=axis, mode="constant")
    return field


# --- levels -------------------------------------------------------------------------------------


def _cells(rows: int, columns: int) -> Floats:
    return np.moveaxis(np.indices((rows, columns), dtype=np.float64), 0, -1)


def _inside(at: Floats, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Whether places (..., 2) lie within the cells of the grid, (..., 1)."""
    row, column = at[..., :1], at[..., 1:]
    along = (row >= -0.5) & (row <= shape[0] - 0.5)
    return along & (column >= -0.5) & (column <= shape[1] - 0.5)


def _known(z: Floats) -> tuple[Floats, Floats]:
    """Return values with zeros where missing, and 1 where known."""
    known = ~np.isnan(z)
    return np.where(known, z, 0.0), known.astype(np.float64)


def _halve(z: Floats, known: Floats) -> tuple[Floats, Floats]:
    """Mean of the known of 2 x 2 cells; an odd row or column has its own cells."""
    pad = ((0, 0), (0, z.shape[1] % 2), (0, z.shape[2] % 2))
    total, count = (_blocks(np.pad(field, pad)) for field in (z * known, known))
    return total / np.maximum(count, 1.0), (count >= 2).astype(np.float64)


def _blocks(z: Floats) -> Floats:
    n, rows, columns = z.shape
    return z.reshape(n, rows // 2, 2, columns // 2, 2).sum(axis=(2, 4))


def _enlarge(v: Floats, shape: tuple[int, ...]) -> Floats:
    """Motion in cells of the level below."""
    return 2.0 * sample(v, (_cells(*shape) - 0.5) / 2)


def _smooth(z: Floats, known: Floats) -> tuple[Floats, Floats]:
    """Twice the mean of the known of 3 x 3 cells, and 1 where all of these are known."""
    whole = known
    for _ in range(2):
        total, share, whole = _mean(z * known), _mean(known), _mean(whole)
        z = np.where(known > 0, total / np.maximum(share, 1 / 9), 0.0)
    return z, (whole > NEARLY_ONE).astype(np.float64)


def _mean(field: Floats) -> Floats:
    """Mean of 3 x 3 cells, zeros beyond the edge."""
    for axis in (1, 2):
        field = ndimage.uniform_filter1d(field, 3, axis=axis, mode="constant")
    return field
