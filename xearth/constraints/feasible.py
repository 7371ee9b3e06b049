r"""Constraints that contradict each other, found before anything is sampled.

With the linear numbers :math:`A y` of all constraints and the ranges :math:`l_i \le y_i \le u_i` of
cells, a forecast that holds them all exists if and only if

.. math:: \exists\, y: \quad b \le A y \le c, \quad l \le y \le u ,

a linear program. Cells whose columns of :math:`A` are multiples of each other, with the same
range, are one unknown, so that fields of any size make small programs. A largest value, a quantile
and a fraction of the area are not linear; what they imply for the mean over the same place is: with
the part :math:`f` of the area at or above :math:`c`,

.. math:: f c + (1 - f)\, l \ \le\ \bar y\ \le\ f u + (1 - f)\, c .

So what is refused can certainly not hold; of what these kinds leave open, some may still not.
Orders between frames and variables, masks, spectra and Gaussian bounds refuse nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import ConstraintError
from .audit import flattened
from .constraint import Constraint, Forecast

if TYPE_CHECKING:
    from ..models.conditions.protocol import Condition
    from ..models.conditions.rows import Rows

__all__ = ["conflicts", "require_feasible"]

Floats = npt.NDArray[np.float64]
#: Cells, their weights, and both bounds of the sum.
_Row = tuple[npt.NDArray[np.intp], Floats, float, float]
_SAME = 1e-9  # of a part of an area
_SLACK = 1e-7  # of the largest bound: rounding of what was asked for
_INFEASIBLE = 2  # of linprog


def require_feasible(constraints: Constraint | Sequence[Constraint], template: Forecast) -> None:
    """Refuse constraints that no forecast can hold together.

    Parameters
    ----------
    constraints : Constraint or sequence of them
    template : DataArray or Dataset
        A forecast like those that will hold them; only its grid, units and missing cells count.

    Raises
    ------
    ConstraintError
        They contradict each other; the message names those that do.
    LeadError, RegionError
        The forecast lacks the leads or the place.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").isel(time=[0])
    >>> much = xearth.AreaMean() >= xearth.Q(8, "mm/h")
    >>> require_feasible([much, xearth.NonNegative()], rain)
    >>> weak = xearth.EachCell() <= xearth.Q(5, "mm/h")
    >>> require_feasible([much, xearth.NonNegative(), weak], rain)
    Traceback (most recent call last):
    ...
    xearth.errors.ConstraintError: no forecast can hold all of: (1) the area mean over the whole ...
    """
    found = conflicts(constraints, template)
    if found:
        listed = "; ".join(f"({k}) {c}" for k, c in enumerate(found, start=1))
        alone = "the bounds cannot be reached" if len(found) == 1 else "any one of them could go"
        raise ConstraintError(
            f"no forecast can hold all of: {listed}. Widen a bound or leave one out; {alone}."
        )


def conflicts(
    constraints: Constraint | Sequence[Constraint], template: Forecast
) -> tuple[Constraint, ...]:
    """Return the fewest constraints that certainly cannot hold together, none if there are none.

    Leaving out any one of those that are returned resolves this contradiction (there may be
    another).

    Parameters
    ----------
    constraints, template
        As for :func:`require_feasible`.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").isel(time=[0])
    >>> asked = [xearth.AreaMean() == xearth.Q(1, "mm/h"), xearth.NonNegative(),
    ...          xearth.AreaMean() == xearth.Q(2, "mm/h")]
    >>> [str(c)[-11:] for c in xearth.conflicts(asked, rain)]
    ['is 1 mm h-1', 'is 2 mm h-1']
    """
    judged = [(c, _claim(c.on(template))) for c in flattened(constraints)]
    left = [(c, claim) for c, claim in judged if claim is not None]
    if not left or _possible([claim for _, claim in left]):
        return ()
    for pair in list(left):
        rest = [other for other in left if other is not pair]
        if not _possible([claim for _, claim in rest]):
            left = rest
    return tuple(c for c, _ in left)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Weighted sums of cells, the cells (m, k) counted through a field of ``n``."""

    index: npt.NDArray[np.intp]
    weights: Floats
    n: int

    @classmethod
    def of(cls, rows: Rows) -> _Sums:
        return cls(rows.index.numpy(), rows.weights.numpy(), rows.shape.numel())

    def row(self, j: int) -> tuple[npt.NDArray[np.intp], Floats]:
        """Return cells and weights of a sum."""
        has = self.weights[j] != 0
        return self.index[j][has], self.weights[j][has]


@dataclass(frozen=True, eq=False)
class _Claim:
    """What a condition says: bounds of sums, ranges (n,) of cells, or parts of areas.

    A part is (threshold, least, most): of each sum, the part of its weight whose cells are at or
    above the threshold lies between.
    """

    n: int
    sums: _Sums | None = None
    lower: Floats | None = None
    upper: Floats | None = None
    low: Floats | None = None
    high: Floats | None = None
    shares: tuple[tuple[Floats, Floats, Floats], ...] = ()


def _claim(condition: Condition) -> _Claim | None:
    """Return what is judged of a condition, None if nothing is."""
    from ..models.conditions.extremes import Exceedance, Maximum, Quantile
    from ..models.conditions.linear import Linear
    from ..models.conditions.ranges import Range
    from ..models.conditions.scaled import Scaled

    if isinstance(condition, Range) and condition.where is not None:
        where = condition.where.numpy()
        low, high = (
            np.broadcast_to(b.numpy(), where.shape) for b in condition.bounds(condition.where)
        )
        low, high = np.where(where, low, -np.inf).ravel(), np.where(where, high, np.inf).ravel()
        return _Claim(where.size, low=low, high=high)
    if not isinstance(condition, Linear | Scaled | Maximum | Quantile | Exceedance):
        return None
    sums, m = _Sums.of(condition.rows), len(condition.rows)
    lower, upper = (
        np.broadcast_to(b.numpy(), (m,)) for b in condition.bounds(condition.rows.weights)
    )
    if isinstance(condition, Linear | Scaled):
        return _Claim(sums.n, sums, lower, upper) if condition.exact else None
    sums = _Sums.of(condition.rows.mean())
    if isinstance(condition, Exceedance):
        threshold = np.full(m, condition.threshold)
        return _Claim(sums.n, sums, shares=((threshold, lower, upper),))
    ones, none = np.ones(m), np.zeros(m)
    if isinstance(condition, Quantile):
        part = np.full(m, 1.0 - condition.q)
        return _Claim(sums.n, sums, shares=((lower, part, ones), (upper, none, part)))
    high = np.full(sums.n, np.inf)
    for j in range(m):
        high[sums.row(j)[0]] = upper[j]
    least = np.where(sums.weights > 0, sums.weights, np.inf).min(1)
    return _Claim(sums.n, sums, high=high, shares=((lower, least, ones),))


def _possible(claims: Sequence[_Claim]) -> bool:
    """Tell whether some field holds all claims, as far as is judged."""
    low, high = np.full(claims[0].n, -np.inf), np.full(claims[0].n, np.inf)
    for claim in claims:
        low = low if claim.low is None else np.maximum(low, claim.low)
        high = high if claim.high is None else np.minimum(high, claim.high)
    if (low > high).any():
        return False
    rows: list[_Row] = []
    for claim in claims:
        if claim.sums is None:
            continue
        if claim.lower is not None and claim.upper is not None:
            ends = zip(claim.lower, claim.upper, strict=True)
            rows.extend((*claim.sums.row(j), *end) for j, end in enumerate(ends))
        for share in claim.shares:
            implied = _implied(claim.sums, share, low, high)
            if implied is None:
                return False
            rows.extend(implied)
    rows = [row for row in rows if np.isfinite(row[2:]).any()]
    return not rows or _solvable(rows, low, high)


def _implied(
    sums: _Sums, share: tuple[Floats, Floats, Floats], low: Floats, high: Floats
) -> list[_Row] | None:
    """Return bounds of means that parts of areas imply, None if the parts cannot be."""
    found: list[_Row] = []
    for j, (threshold, least, most) in enumerate(zip(*share, strict=True)):
        if not np.isfinite(threshold):
            continue
        cells, w = sums.row(j)
        may, must = w[high[cells] >= threshold].sum(), w[low[cells] > threshold].sum()
        if least > may + _SAME or most < must - _SAME:
            return None
        bottom, top = low[cells].min(), high[cells].max()
        part, rest = max(least, 0.0), max(1 - most, 0.0)
        mean_low = part * threshold + (1 - part) * bottom if part < 1 else threshold
        mean_high = (1 - rest) * top + rest * threshold if rest < 1 else threshold
        found.append((cells, w, float(mean_low), float(mean_high)))
    return found


def _solvable(rows: Sequence[_Row], low: Floats, high: Floats) -> bool:
    """Tell whether a linear program has a solution; cells with like columns are one unknown."""
    from scipy import optimize, sparse

    cells = np.concatenate([row[0] for row in rows])
    weights = np.concatenate([row[1] / np.abs(row[1]).sum() for row in rows])
    number = np.repeat(np.arange(len(rows)), [len(row[0]) for row in rows])
    used, place = np.unique(cells, return_inverse=True)
    A = sparse.csc_array((weights, (number, place)), shape=(len(rows), len(used)))
    size = np.asarray(abs(A).sum(0)).ravel()
    rng = np.random.default_rng(0)
    marks = [np.round((rng.standard_normal(len(rows)) @ A) / size, 9) for _ in range(2)]
    keys = np.stack([*marks, low[used], high[used]], -1)
    _, first, atom = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    atom = atom.ravel()
    merge = sparse.csr_array((size, (np.arange(len(used)), atom)), shape=(len(used), len(first)))
    # an unknown is the mean of its cells, weighted by size: its column is the sum of theirs
    total = np.asarray(merge.sum(0)).ravel()
    columns = A[:, first].tocsc() * (total / size[first])
    ends = np.array([[row[2], row[3]] for row in rows])
    ends = ends / np.array([np.abs(row[1]).sum() for row in rows])[:, None]
    unit = np.abs(ends[np.isfinite(ends)]).max(initial=0.0) or 1.0
    ends, span = ends / unit, np.stack([low[used][first], high[used][first]], -1) / unit
    above, below = np.isfinite(ends[:, 1]), np.isfinite(ends[:, 0])
    stacked = sparse.vstack([columns[above], -columns[below]])
    most = np.concatenate([ends[above, 1], -ends[below, 0]]) + _SLACK
    solved = optimize.linprog(np.zeros(len(first)), A_ub=stacked, b_ub=most, bounds=span)
    return bool(solved.status != _INFEASIBLE)
