r"""Order statistics of the cells of a group: maximum, quantile, exceeded fraction.

With the weights :math:`w` of the cells, :math:`W = \sum w`:

.. math::

   M = \max_{w_i \ne 0} y_i, \qquad
   Q_q = \min \{v : \textstyle\sum_{y_i \le v} w_i \ge q W\}, \qquad
   F_\theta = \textstyle\sum_{y_i \ge \theta} w_i / W .

A projection moves the cells nearest to the value or threshold, just as far as it. With equal
weights that is the nearest field. With unequal ones it is a knapsack, and cells are taken in the
order of their distance: the condition holds, the field is nearest up to one cell. A fraction moves
in steps of cells: an equality holds to half of the largest cell, and residuals count from there.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ...errors import ConstraintError
from .distance import Distant
from .protocol import Condition, known
from .ranges import Range
from .rows import Rows

__all__ = ["Exceedance", "Maximum", "Quantile"]

_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class _Ordered(Distant):
    """Bounds of an order statistic of groups that share no cells."""

    rows: Rows

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rows.disjoint or bool((self.rows.weights < 0).any()):
            raise ConstraintError(
                f"{self.name}: expected groups that share no cells, with weights of at least 0."
            )

    @property
    def convex(self) -> bool:
        """Whether the fields that hold it are a convex set."""
        return False

    @property
    def _shares(self) -> Tensor:
        return self.rows.mean().weights

    def project(self, y: Tensor) -> Tensor:
        """Return the field with the cells moved that are nearest to what is bound."""
        value = known(self, self.measure(y))
        cells = self.rows.gather(y)
        sample, row = torch.nonzero(self.residual(y), as_tuple=True)
        if not len(sample):
            return y
        cells = cells.clone()
        shares = self._shares.to(y.device)[row]
        lower, upper = (bound.expand_as(value)[sample, row] for bound in self.bounds(value))
        cells[sample, row] = self._moved(cells[sample, row], shares, lower, upper)
        return self.rows.put(y, cells)

    def linearized(self, y: Tensor) -> tuple[Condition, ...]:
        """Return a range of each cell within which it holds, about one field (1, T, H, W, C).

        Each cell stays on that side of what is bound where the projection brings it.
        """
        cells = self.rows.gather(self.project(y), self.name)[0].double()
        lower, upper = (bound[:, None].expand_as(cells) for bound in self._sides(cells))
        has = self.rows.weights.to(cells.device) != 0
        low, high = self._kept(cells, lower, upper)
        flat = torch.full((2, self.rows.shape.numel()), torch.inf, dtype=torch.float64)
        index = self.rows.index[has.cpu()]
        flat[0, index], flat[1, index] = -low[has].cpu(), high[has].cpu()
        low, high = -flat[0].reshape(self.rows.shape), flat[1].reshape(self.rows.shape)
        return (Range(lower=low, upper=high, name=self.name),)

    def _sides(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Return both bounds of the cells of one field, (m,)."""
        lower, upper = self.bounds(cells)
        return lower.expand(len(cells)), upper.expand(len(cells))

    @abstractmethod
    def _kept(self, cells: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ranges of cells (m, k) that hold it, within which it still holds."""

    @abstractmethod
    def _moved(self, cells: Tensor, shares: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the cells (R, k) of groups that do not hold it, moved so that they do."""


@dataclass(frozen=True, eq=False)
class Maximum(_Ordered):
    """Bounds of the largest cell of each group: below (convex), above, equal.

    Examples
    --------
    >>> whole = Rows.over(torch.ones(1, 1, 3, 1), frames=True)
    >>> gust = Maximum(whole, lower=9.0, upper=9.0)
    >>> gust.project(torch.tensor([1.0, 7.0, 3.0]).reshape(1, 1, 1, 3, 1)).flatten().tolist()
    [1.0, 9.0, 3.0]
    """

    @property
    def convex(self) -> bool:
        """Whether the fields that hold it are a convex set: without a lower bound."""
        return bool((torch.as_tensor(self.lower) == -torch.inf).all())

    def measure(self, y: Tensor) -> Tensor:
        """Return the largest cells, float64 (N, m)."""
        cells = self.rows.gather(y, self.name).double()
        return torch.where(self.rows.weights.to(y.device) != 0, cells, -torch.inf).amax(-1)

    def _kept(self, cells: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        has = self.rows.weights.to(cells.device) != 0
        largest = torch.where(has, cells, -torch.inf).argmax(-1, keepdim=True)
        low = torch.full_like(cells, -torch.inf).scatter(-1, largest, lower[:, :1])
        return low, upper

    def _moved(self, cells: Tensor, shares: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        high = upper[:, None].to(cells)
        cells = torch.where(shares != 0, torch.minimum(cells, high), cells)
        largest = torch.where(shares != 0, cells, -torch.inf).argmax(-1, keepdim=True)
        value = torch.maximum(cells.gather(-1, largest), lower[:, None].to(cells))
        return cells.scatter(-1, largest, value)


@dataclass(frozen=True, eq=False)
class Quantile(_Ordered):
    """Bounds of a weighted quantile of the cells of each group.

    Parameters
    ----------
    rows : Rows
    q : float
        From 0 (excluded) to 1.

    Examples
    --------
    >>> whole = Rows.over(torch.ones(1, 1, 4, 1), frames=True)
    >>> median = Quantile(whole, q=0.5, upper=2.0)
    >>> median.project(torch.tensor([1.0, 7.0, 3.0, 9.0]).reshape(1, 1, 1, 4, 1)).flatten().tolist()
    [1.0, 7.0, 2.0, 9.0]
    """

    _: KW_ONLY
    q: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.q <= 1:
            raise ConstraintError(f"{self.name}: q={self.q}: expected more than 0 and at most 1.")

    def measure(self, y: Tensor) -> Tensor:
        """Return the quantiles, float64 (N, m)."""
        cells = self.rows.gather(y, self.name).double()
        has = self.rows.weights.to(y.device) != 0
        ordered, order = torch.where(has, cells, torch.inf).sort(-1)
        shares = self._shares.to(y.device).expand_as(cells).gather(-1, order).cumsum(-1)
        at = (shares < self.q - _ROUNDING).sum(-1, keepdim=True).clamp(max=cells.shape[-1] - 1)
        # the last cell that has weight, where rounding keeps the sum of all below q
        at = torch.minimum(at, has.sum(-1)[None, :, None] - 1)
        missing = (cells.isnan() & has).any(-1)
        return torch.where(missing, torch.nan, ordered.gather(-1, at)[..., 0])

    def _kept(self, cells: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.where(cells >= lower, lower, -torch.inf)
        return low, torch.where(cells <= upper, upper, torch.inf)

    def _moved(self, cells: Tensor, shares: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        low, high = lower[:, None].to(cells), upper[:, None].to(cells)
        has = shares != 0
        below = torch.where((cells <= high) & has, shares, 0.0).sum(-1)
        need = self.q - _ROUNDING - below  # of the group to come down to the upper bound
        cells = _nearest_moved(cells, high, shares, (cells > high) & has, need)
        under = torch.where((cells < low) & has, shares, 0.0).sum(-1)
        need = under - self.q + 2 * _ROUNDING  # to come up: less than q stays below
        return _nearest_moved(cells, low, shares, (cells < low) & has, need)


@dataclass(frozen=True, eq=False)
class Exceedance(_Ordered):
    """Bounds of the fraction of each group that is at or above a threshold.

    Parameters
    ----------
    rows : Rows
    threshold : float
    lower, upper : Tensor (m,) or (N, m), or float
        From 0 to 1.

    Examples
    --------
    >>> whole = Rows.over(torch.ones(1, 1, 4, 1), frames=True)
    >>> half = Exceedance(whole, threshold=5.0, lower=0.5, upper=0.5)
    >>> half.project(torch.tensor([1.0, 7.0, 3.0, 2.0]).reshape(1, 1, 1, 4, 1)).flatten().tolist()
    [1.0, 7.0, 5.0, 2.0]
    """

    _: KW_ONLY
    threshold: float

    def __post_init__(self) -> None:
        super().__post_init__()
        lower, upper = self.bounds(torch.empty(0))
        if bool((lower > 1).any() | (upper < 0).any()):
            raise ConstraintError(
                f"{self.name}: expected a fraction from 0 to 1, found the bounds "
                f"{float(lower.max())} and {float(upper.min())}. 3 % is 0.03."
            )

    def measure(self, y: Tensor) -> Tensor:
        """Return the fractions, float64 (N, m)."""
        cells = self.rows.gather(y, self.name).double()
        shares = self._shares.to(y.device)
        fraction = torch.where(cells >= self.threshold, shares, shares.new_zeros(())).sum(-1)
        missing = (cells.isnan() & (shares != 0)).any(-1)
        return torch.where(missing, torch.nan, fraction)

    def bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return both bounds, half a cell wider where no number of cells is between them."""
        lower, upper = super().bounds(like)
        grain = self._shares.amax(-1).to(lower.device)
        slack = ((grain - (upper - lower)) / 2).clamp(min=0) + _ROUNDING
        return lower - slack, upper + slack

    def magnitude(self, y: Tensor) -> Tensor:
        """Return 1: fractions are of the whole, (N, m)."""
        return torch.ones_like(self.measure(y))

    def _kept(self, cells: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        line = torch.full_like(cells, self.threshold)
        under = _above(line.float(), -1).to(cells)
        return (
            torch.where(cells >= line, line, -torch.inf),
            torch.where(cells >= line, torch.inf, torch.maximum(cells, under)),
        )

    def _moved(self, cells: Tensor, shares: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        has = shares != 0
        line = torch.full_like(cells[:, :1], self.threshold)
        line = torch.where(line.double() < self.threshold, _above(line), line)
        over = (cells >= line) & has
        fraction = torch.where(over, shares, 0.0).sum(-1)
        # just below the threshold in float32 too, to which a float64 field may be rounded later
        under = _above(line.float(), -1).to(cells)
        cells = _nearest_moved(cells, under, shares, over, fraction - upper)
        return _nearest_moved(cells, line, shares, ~over & has, lower - fraction)


def _above(value: Tensor, sign: int = 1) -> Tensor:
    return value.nextafter(value.new_tensor(sign * torch.inf))


def _nearest_moved(
    cells: Tensor, goal: Tensor, shares: Tensor, movable: Tensor, need: Tensor
) -> Tensor:
    """Return the cells with the nearest movable ones put to the goal until ``need`` is moved."""
    if not bool((need > 0).any()):
        return cells
    distance = torch.where(movable, (cells - goal).abs().double(), torch.inf)
    order = distance.sort(dim=-1, stable=True).indices
    part = torch.where(movable, shares, 0.0).gather(-1, order)
    before = part.cumsum(-1) - part
    chosen = (before < need[:, None] - _ROUNDING) & movable.gather(-1, order)
    picked = torch.zeros_like(movable).scatter(-1, order, chosen)
    return torch.where(picked, goal.expand_as(cells), cells)
