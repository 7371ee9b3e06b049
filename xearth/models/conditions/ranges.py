r"""Bounds of each cell: non-negativity, a physical range; also together with linear conditions.

.. math:: y'_i = \min(\max(y_i, l_i), u_i), \qquad E = \tfrac12 \sum_i ((y_i - y'_i) / s)^2 .

Exact. With sums that share no cells, the nearest field is that of :mod:`.filling`, exact too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConstraintError
from .filling import CACHE, fill
from .linear import Linear
from .protocol import Bounded, beyond, known

__all__ = ["Range", "box", "nearest_in_box"]


@dataclass(frozen=True, eq=False)
class Range(Bounded):
    """Every cell lies between bounds. What is measured is the least and the largest cell.

    Parameters
    ----------
    where : Tensor, bool, broadcastable to (T, H, W, C), optional
        Cells that are bound; by default all that are not NaN.
    lower, upper : Tensor broadcastable to (T, H, W, C), or float

    Examples
    --------
    >>> y = torch.tensor([-1.0, 2.0]).reshape(1, 1, 1, 2, 1)
    >>> Range(lower=0.0).project(y).flatten().tolist()
    [0.0, 2.0]
    """

    where: Tensor | None = None

    def box(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bounds of the cells of fields like ``y``, broadcastable to (T, H, W, C)."""
        lower, upper = self.bounds(y)
        if self.where is not None:
            where = self.where.to(y.device)
            lower = torch.where(where, lower, -torch.inf)
            upper = torch.where(where, upper, torch.inf)
        return lower, upper

    def measure(self, y: Tensor) -> Tensor:
        """Return the least and the largest of the cells that are bound, float64 (N, 2)."""
        bound = ~y.isnan() if self.where is None else self.where.to(y.device) & ~y.isnan()
        values = y.double()
        least = torch.where(bound, values, torch.inf).flatten(1).amin(-1)
        return torch.stack([least, torch.where(bound, values, -torch.inf).flatten(1).amax(-1)], -1)

    def _excess(self, y: Tensor) -> Tensor:
        values = torch.where(y.isnan(), y.new_zeros(()), y).double()
        excess = beyond(values, *self.box(y))
        return torch.where(y.isnan(), excess.new_zeros(()), excess)

    def residual(self, y: Tensor) -> Tensor:
        """Return how far cells are below and above the range at most, (N, 2)."""
        excess = self._excess(y).flatten(1)
        return torch.stack([excess.amin(-1).clamp(max=0), excess.amax(-1).clamp(min=0)], -1)

    def magnitude(self, y: Tensor) -> Tensor:
        """Return the largest of the cells and of the finite bounds, (N, 2)."""
        largest = y.double().nan_to_num(0.0).abs().flatten(1).amax(-1)
        for bound in self.bounds(y):
            finite = bound.abs().where(bound.isfinite(), bound.new_zeros(()))
            largest = torch.maximum(largest, finite.amax())
        return largest[:, None].expand(-1, 2)

    def energy(self, y: Tensor) -> Tensor:
        """Return half of the sum of the squared excess of all cells over the scale, (N,)."""
        excess = self._excess(y)
        return 0.5 * (excess / torch.as_tensor(self.scale).to(excess)).square().flatten(1).sum(-1)

    def project(self, y: Tensor) -> Tensor:
        """Return the cells, brought to the nearest bound where they are outside."""
        return _clamp(y, self.box(y))


def _clamp(y: Tensor, between: tuple[Tensor, Tensor]) -> Tensor:
    low, high = between
    clamped = torch.minimum(torch.maximum(y.double(), low), high).to(y.dtype)
    # rounding to float32 may step over a bound that float32 does not have
    clamped = torch.where(clamped < low, clamped.nextafter(clamped.new_tensor(torch.inf)), clamped)
    return torch.where(clamped > high, clamped.nextafter(clamped.new_tensor(-torch.inf)), clamped)


def box(ranges: Sequence[Range], y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bounds that all ranges leave.

    Raises
    ------
    ConstraintError
        They leave nothing.
    """
    low, high = ranges[0].box(y)
    for one in ranges[1:]:
        lower, upper = one.box(y)
        low, high = torch.maximum(low, lower), torch.minimum(high, upper)
        if bool((low > high).any()):
            others = ", ".join(r.name for r in ranges if r is not one)
            raise ConstraintError(
                f"{one.name} and {others} contradict each other: no cell can be above "
                f"{float(low.max()):.6g} and below {float(high.min()):.6g}. Leave one out."
            )
    return low, high


def nearest_in_box(linear: Linear, ranges: Sequence[Range], y: Tensor) -> Tensor:
    """Return the nearest field that holds ranges and sums that share no cells.

    Raises
    ------
    ConstraintError
        A sum that cannot be within the ranges.
    MissingDataError
        A cell that has weight is NaN.
    """
    between = box(ranges, y)
    clamped = _clamp(y.double(), between)
    value = known(linear, linear.measure(clamped))
    off = beyond(value, *linear.bounds(value))
    sample, row = torch.nonzero(off, as_tuple=True)
    if not len(sample):
        return clamped.to(y.dtype)
    rows, names = linear.rows, " and ".join([linear.name, *(r.name for r in ranges)])
    weights, target = rows.weights.to(y.device), (value - off)[sample, row]
    low, high = (rows.gather(b.expand_as(y[:1]))[0] for b in between)
    given, cells = rows.gather(y), rows.gather(clamped.clone())
    for part in torch.arange(len(sample), device=y.device).split(max(1, CACHE // cells.shape[-1])):
        i, j = sample[part], row[part]
        bounds = (low[j], high[j])
        cells[i, j] = fill(given[i, j].double(), weights[j], bounds, target[part], names)
    return _clamp(rows.put(clamped, cells).to(y.dtype), between)
