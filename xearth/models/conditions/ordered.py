r"""Values that do not fall: along time, or from one variable to the next.

The nearest sequence :math:`y'_1 \le y'_2 \le \dots` (isotonic regression) is

.. math:: y'_t = \max_{s \le t} \min_{u \ge t} \frac{1}{u - s + 1} \sum_{i=s}^{u} y_i ,

what pooling adjacent violators finds; here for all cells at once, in :math:`O(T^2)` per cell.
Exact. Missing values are skipped and stay missing.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConstraintError
from .distance import Distant

__all__ = ["Monotone", "Ordering", "isotonic"]


def isotonic(y: Tensor) -> Tensor:
    """Return the nearest values that do not fall along the last dim; NaN stays.

    Examples
    --------
    >>> isotonic(torch.tensor([1.0, 3.0, 2.0, torch.nan, 4.0])).tolist()
    [1.0, 2.5, 2.5, nan, 4.0]
    """
    rows = y.movedim(-1, 0)
    has = ~rows.isnan()
    whole = bool(has.all())
    values = torch.where(has, rows, rows.new_zeros(())).double()
    # sums of departures from the mean of each row, so that they do not round large values
    center = values.sum(0) / has.sum(0).clamp(min=1)
    total = torch.where(has, values - center, 0.0).cumsum(0)
    count = torch.arange(1, len(rows) + 1) if whole else has.double().cumsum(0)
    best = list(torch.full_like(total, -torch.inf))
    for s in range(len(rows)):
        before, counted = (total[s - 1], count[s - 1]) if s else (0.0, 0)
        least = torch.full_like(center, torch.inf)
        for u in reversed(range(s, len(rows))):
            mean = (total[u] - before) / (count[u] - counted)
            least = torch.minimum(least, mean)
            reached = least if whole else torch.where(has[s], least, -torch.inf)
            best[u] = torch.maximum(best[u], reached)
    return torch.where(has, (torch.stack(best) + center).to(y.dtype), rows).movedim(0, -1)


@dataclass(frozen=True, eq=False)
class _Isotonic(Distant):
    """Sequences that do not fall; ``lower`` and ``upper`` are not used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(torch.as_tensor(self.lower).isfinite().any()) or bool(
            torch.as_tensor(self.upper).isfinite().any()
        ):
            raise ConstraintError(f"{self.name} takes no bounds. Use Range, together with All.")

    @abstractmethod
    def _sequences(self, y: Tensor) -> Tensor:
        """Return what shall not fall along the last dim."""

    @abstractmethod
    def _put(self, y: Tensor, sequences: Tensor) -> Tensor:
        """Return the field with other sequences."""

    def measure(self, y: Tensor) -> Tensor:
        """Return by how much a value is below an earlier one at most, as a number <= 0, (N, 1)."""
        values = self._sequences(y).double()
        highest = torch.where(values.isnan(), -torch.inf, values).cummax(-1).values
        fall = torch.where(values.isnan(), 0.0, values - highest)
        return fall.flatten(1).amin(-1, keepdim=True)

    def residual(self, y: Tensor) -> Tensor:
        """Return what is measured: 0 where nothing falls."""
        return self.measure(y)

    def magnitude(self, y: Tensor) -> Tensor:
        """Return the largest absolute value, (N, 1)."""
        return self._sequences(y).double().nan_to_num(0.0).abs().flatten(1).amax(-1, keepdim=True)

    def project(self, y: Tensor) -> Tensor:
        """Return the nearest sequences that do not fall."""
        held = isotonic(self._sequences(y))
        # values that are equal up to rounding are made equal
        held = torch.where(held.isnan(), held, _highest(held))
        return self._put(y, held)


def _highest(values: Tensor) -> Tensor:
    return torch.where(values.isnan(), -torch.inf, values).cummax(-1).values


@dataclass(frozen=True, eq=False)
class Monotone(_Isotonic):
    """No cell falls along time (or rises: ``sign=-1``): accumulated rain.

    Parameters
    ----------
    sign : {1, -1}

    Examples
    --------
    >>> y = torch.tensor([1.0, 3.0, 2.0]).reshape(1, 3, 1, 1, 1)
    >>> Monotone().project(y).flatten().tolist()
    [1.0, 2.5, 2.5]
    """

    sign: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sign not in (1, -1):
            raise ConstraintError(f"{self.name}: sign={self.sign!r}: expected 1 or -1.")

    def _sequences(self, y: Tensor) -> Tensor:
        return self.sign * y.movedim(1, -1)

    def _put(self, y: Tensor, sequences: Tensor) -> Tensor:
        return self.sign * sequences.movedim(-1, 1)


@dataclass(frozen=True, eq=False)
class Ordering(_Isotonic):
    """Variables in order in each cell: lower <= central <= upper.

    Parameters
    ----------
    channels : tuple of int
        Channels, from the least to the largest.

    Examples
    --------
    >>> y = torch.tensor([5.0, 3.0, 6.0]).reshape(1, 1, 1, 1, 3)
    >>> Ordering((0, 1, 2)).project(y).flatten().tolist()
    [4.0, 4.0, 6.0]
    """

    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.channels) < 2 or len(set(self.channels)) != len(self.channels):
            raise ConstraintError(
                f"{self.name}: channels={self.channels}: expected two or more different ones."
            )

    def _sequences(self, y: Tensor) -> Tensor:
        if max(self.channels) >= y.shape[-1] or min(self.channels) < 0:
            raise ConstraintError(
                f"{self.name}: expected channels {self.channels}, found {y.shape[-1]} of them."
            )
        return y[..., list(self.channels)]

    def _put(self, y: Tensor, sequences: Tensor) -> Tensor:
        held = y.clone()
        held[..., list(self.channels)] = sequences
        return held
