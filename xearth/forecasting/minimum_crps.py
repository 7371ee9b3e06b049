r"""Nonhomogeneous Gaussian regression by minimum CRPS, many cells at once, on plain arrays.

For ensembles of mean :math:`\bar x` and variance :math:`s^2` the truth is taken to be normal,

.. math:: y \sim N(\mu, \sigma^2), \qquad \mu = a + b \bar x, \qquad \sigma^2 = c + d s^2,
          \qquad b, c, d \ge 0,

and :math:`(a, b, c, d)` have the lowest mean CRPS over the cases,
:math:`\sigma [ z (2 \Phi(z) - 1) + 2 \varphi(z) - 1 / \sqrt\pi ]` with
:math:`z = (y - \mu) / \sigma` (Gneiting et al. 2005).

**Method.** The CRPS is convex in :math:`(\mu, \sigma)`, with the Hessian
:math:`\frac{2 \varphi(z)}{\sigma} (1, z)^T (1, z)`. Its pullback to :math:`(a, b, c, d)` is
positive semidefinite and, where the forecast is calibrated, equals the expected Hessian: Newton
steps with it go downhill and converge fast. The bounds are met by projection with an active set
(Bertsekas 1982), each step is halved until it goes down enough, and all cells step together. The
start is the closed form of least squares.

References
----------
Gneiting, T., Raftery, A. E., Westveld, A. H. and Goldman, T. (2005), Mon. Wea. Rev. 133, 1098-1118.
Bertsekas, D. P. (1982), SIAM J. Control Optim. 20, 221-246.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["least_squares", "minimum_crps"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

STEPS = 100
HALVINGS = 30
#: Cases times cells that are worked on at once.
BLOCK = 500_000
#: The variance stays above this part of that of the errors, and the step stops here.
FLOOR, TOLERANCE = 1e-8, 1e-10
_BOUNDED = np.array([False, True, True, True])


def least_squares(x: Floats, y: Floats, known: Bools) -> tuple[Floats, Floats, Floats]:
    """Return intercept, slope (not below 0) and mean square of the residuals, each (P,).

    Parameters
    ----------
    x, y : ndarray (n, P)
    known : ndarray of bool (n, P)
        Which cases count; the others may hold anything.

    Examples
    --------
    >>> x, y = np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [3.0], [5.0]])
    >>> [part.tolist() for part in least_squares(x, y, np.isfinite(x))]
    [[1.0], [2.0], [0.0]]
    """
    n = np.maximum(known.sum(axis=0), 1)
    mean_x, mean_y = (np.where(known, v, 0.0).sum(axis=0) / n for v in (x, y))
    dx, dy = np.where(known, x - mean_x, 0.0), np.where(known, y - mean_y, 0.0)
    xx = (dx**2).sum(axis=0)
    slope = np.where(xx > 0, (dx * dy).sum(axis=0) / np.where(xx > 0, xx, 1.0), 0.0).clip(min=0.0)
    return mean_y - slope * mean_x, slope, ((dy - slope * dx) ** 2).sum(axis=0) / n


def minimum_crps(x: Floats, variance: Floats, y: Floats) -> Floats:
    """Return the coefficients a, b, c, d of each cell.

    Parameters
    ----------
    x, variance, y : ndarray (n, P)
        Ensemble mean, ensemble variance and truth of n cases and P cells; a case counts in a cell
        where all three are finite.

    Returns
    -------
    ndarray (4, P)
        NaN in cells without a case. Where least squares leave no error c and d are 0.

    Examples
    --------
    >>> x = np.linspace(-1.0, 1.0, 50).repeat(2)[:, None]
    >>> y = 1 + 2 * x + np.tile([-0.5, 0.5], 50)[:, None]
    >>> a, b, c, d = minimum_crps(x, np.zeros_like(x), y).round(6)
    >>> a.item(), b.item(), d.item(), round(0.25 / c.item(), 5)  # z squared is the log of 2
    (1.0, 2.0, 0.0, 0.69315)
    """
    width = max(1, BLOCK // max(1, len(x)))
    parts = [slice(start, start + width) for start in range(0, x.shape[1], width)]
    found = np.empty((4, x.shape[1]))
    for part in parts:
        found[:, part] = _block(x[:, part], variance[:, part], y[:, part])
    return found


def _block(x: Floats, variance: Floats, y: Floats) -> Floats:
    """Do as `minimum_crps` with a few cells."""
    known = np.isfinite(x) & np.isfinite(variance) & np.isfinite(y)
    intercept, slope, error = least_squares(x, y, known)
    count = known.sum(axis=0)
    found = np.stack([intercept, slope, 0 * error, 0 * error])
    found[:, count == 0] = np.nan
    size = np.where(known, y**2, 0.0).max(axis=0, initial=0.0)
    live = (count > 0) & (error > 1e-20 * size)
    if not live.any():
        return found
    some = known[:, live]
    problem = _Problem.of(x[:, live], variance[:, live], y[:, live], some, error[live])
    found[:, live] = problem.solve(intercept[live], slope[live])
    return found


@dataclass(frozen=True, eq=False)
class _Problem:
    """The cells in their own units: x and y without their means, over the size of the errors.

    Attributes
    ----------
    u, t, y : ndarray (n, P)
        Mean and variance of the ensemble and truth, scaled; 0 where not known.
    weight : ndarray (n, P)
        Of the cases, adding up to 1 in each cell.
    scales : ndarray (5, P)
        Means of x and y, size of the errors, size of x, mean of the variance.
    """

    u: Floats
    t: Floats
    y: Floats
    weight: Floats
    scales: Floats

    @classmethod
    def of(cls, x: Floats, variance: Floats, y: Floats, known: Bools, error: Floats) -> _Problem:
        weight = known / known.sum(axis=0)
        x, variance, y = (np.where(known, v, 0.0) for v in (x, variance, y))
        mean_x, mean_y, mean_v = ((weight * v).sum(axis=0) for v in (x, y, variance))
        size = np.sqrt((weight * (x - mean_x) ** 2).sum(axis=0))
        size = np.where(size > 0, size, 1.0)
        root, mean_v = np.sqrt(error), np.where(mean_v > 0, mean_v, 1.0)
        parts = ((x - mean_x) / size, variance / mean_v, (y - mean_y) / root)
        u, t, scaled = (np.where(known, part, 0.0) for part in parts)
        return cls(u, t, scaled, weight, np.stack([mean_x, mean_y, root, size, mean_v]))

    def solve(self, intercept: Floats, slope: Floats) -> Floats:
        """Return a, b, c, d (4, P) in the units of the data."""
        mean_x, mean_y, root, size, mean_v = self.scales
        start = np.stack(
            [
                (intercept + slope * mean_x - mean_y) / root,
                slope * size / root,
                np.full(root.shape, 0.5),
                np.where((self.t > 0).any(axis=0), 0.5, 0.0),
            ]
        )
        a, b, c, d = _descend(self, start)
        b = b * root / size
        return np.stack([a * root + mean_y - b * mean_x, b, c * root**2, d * root**2 / mean_v])

    def part(self, cells: Bools) -> _Problem:
        """Return some of the cells."""
        parts = (self.u, self.t, self.y, self.weight, self.scales)
        return _Problem(*(part[:, cells] for part in parts))

    def value(self, theta: Floats) -> Floats:
        """Return the mean CRPS (P,)."""
        sigma, z, density, cdf = self._normal(theta)
        crps = sigma * (z * (2 * cdf - 1) + 2 * density - 1 / np.sqrt(np.pi))
        return np.asarray((self.weight * crps).sum(axis=0))

    def slopes(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return the gradient (P, 4) and the positive semidefinite Hessian (P, 4, 4)."""
        sigma, z, density, cdf = self._normal(theta)
        by_mean = 1 - 2 * cdf
        by_variance = (2 * density - 1 / np.sqrt(np.pi)) / (2 * sigma)
        ones = np.ones_like(self.u)
        gradient = np.stack(
            [
                (self.weight * g * f).sum(axis=0)
                for g, f in zip(
                    (by_mean, by_mean, by_variance, by_variance),
                    (ones, self.u, ones, self.t),
                    strict=True,
                )
            ],
            axis=-1,
        )
        bend = z / (2 * sigma)
        rows = np.stack([ones, self.u, bend, bend * self.t])
        weighted = rows * (self.weight * 2 * density / sigma)
        hessian = np.empty((self.u.shape[1], 4, 4))
        for i in range(4):
            for j in range(i, 4):
                hessian[:, i, j] = hessian[:, j, i] = (weighted[i] * rows[j]).sum(axis=0)
        return gradient, hessian

    def _normal(self, theta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        from scipy.special import ndtr

        a, b, c, d = theta
        sigma = np.sqrt(c + d * self.t)
        z = (self.y - a - b * self.u) / sigma
        return sigma, z, np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi), ndtr(z)


def _descend(problem: _Problem, theta: Floats) -> Floats:
    """Return where the mean CRPS is lowest, (4, P)."""
    theta = theta.copy()
    lower = np.array([-np.inf, 0.0, FLOOR, 0.0])[:, None]
    live = np.ones(theta.shape[1], dtype=bool)
    for _ in range(STEPS):
        part = problem.part(live)
        new, moved = _step(part, theta[:, live], lower)
        theta[:, live] = new
        live[live] = moved
        if not live.any():
            break
    return theta


def _step(problem: _Problem, theta: Floats, lower: Floats) -> tuple[Floats, Bools]:
    """Take one projected Newton step; tell which cells still move."""
    gradient, hessian = problem.slopes(theta)
    # Without spread there is nothing to tell d from: it stays 0.
    idle = np.zeros(theta.shape, dtype=bool)
    idle[3] = ~(problem.t > 0).any(axis=0)
    held = ((theta <= lower) & (gradient.T > 0) & _BOUNDED[:, None]) | idle
    free = ~held.T
    gradient = np.where(free, gradient, 0.0)
    hessian = np.where(free[:, :, None] & free[:, None, :], hessian, 0.0)
    size = np.einsum("pii->pi", hessian).max(axis=1)
    ridge = np.where(free, 1e-9 * size[:, None] + 1e-300, 1.0)
    hessian = hessian + np.eye(4) * ridge[:, :, None]
    direction = -np.linalg.solve(hessian, gradient[..., None])[..., 0].T
    before, length = problem.value(theta), np.ones(theta.shape[1])
    best, done = theta.copy(), np.zeros(theta.shape[1], dtype=bool)
    for _ in range(HALVINGS):
        trial = np.maximum(theta + length * direction, lower)
        # near the minimum the value changes by less than it is rounded: the slopes decide
        enough = before * (1 + 1e-14) + 1e-4 * (gradient.T * (trial - theta)).sum(axis=0)
        good = ~done & (problem.value(trial) <= enough)
        best[:, good] = trial[:, good]
        done |= good
        if done.all():
            break
        length = np.where(done, length, length / 2)
    return best, done & (np.abs(best - theta) > TOLERANCE * (1 + np.abs(theta))).any(axis=0)
