r"""Means of a transform of the field: of the logarithm, of the rate in decibels.

.. math:: \bar g(y) = \sum_i w_i\, g(y_i), \qquad y' = g^{-1}(g(y) + s) \textrm{ in wet cells},

with one shift :math:`s` for the cells of a sum: it is the root of a piecewise linear function
(:mod:`.filling`) and found exactly. Cells keep their order. Dry cells, at the floor of the
transform, stay as they are, and wet ones that a shift brings to the floor become 0. Of the fields
with no new wet cells it is the nearest in the transformed space, weighted by area; it is not the
nearest in squared distance. The intensity anomaly :math:`\mu + n \sigma` of PreDiff is such a mean.

Source: Gao, Z. and others (2023), PreDiff, arXiv:2307.10422, for the anomaly; pysteps for the
rate in decibels.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import e, log, log10
from typing import Protocol

import torch
from torch import Tensor

from ...errors import ConstraintError
from .filling import CACHE, fill
from .linear import Linear
from .protocol import Bounded, Condition, beyond, known
from .ranges import Range
from .rows import Rows

__all__ = ["Decibel", "Log", "Transform", "TransformedMean"]


class Transform(Protocol):
    """A map of cells that rises from a floor, which is that of dry cells."""

    @property
    def floor(self) -> float:
        """The least transformed value."""

    @property
    def dry(self) -> float:
        """The largest y that has it."""

    def forward(self, y: Tensor) -> Tensor:
        """Return g(y)."""

    def inverse(self, z: Tensor) -> Tensor:
        """Return the y of z; 0 at the floor."""

    def least_mean(self, z: Tensor) -> Tensor:
        """Return the least mean that y of at least 0 have whose g(y) have the mean z."""


@dataclass(frozen=True)
class Log:
    """The natural logarithm of y + offset, of y of at least 0.

    Examples
    --------
    >>> Log(offset=1.0).forward(torch.zeros(1)).tolist()
    [0.0]
    """

    offset: float

    def __post_init__(self) -> None:
        if not self.offset > 0:
            raise ConstraintError(f"offset={self.offset}: expected more than 0, in units of y.")

    @property
    def dry(self) -> float:
        """No rain: 0."""
        return 0.0

    @property
    def floor(self) -> float:
        """The logarithm of the offset."""
        return log(self.offset)

    def forward(self, y: Tensor) -> Tensor:
        """Return log(y + offset)."""
        return torch.log(y.clamp(min=0) + self.offset)

    def inverse(self, z: Tensor) -> Tensor:
        """Return exp(z) - offset, at least 0."""
        return self.offset * torch.expm1(z - self.floor).clamp(min=0)

    def least_mean(self, z: Tensor) -> Tensor:
        """Return the mean of a field of one value: log is concave (Jensen)."""
        return self.inverse(z)


@dataclass(frozen=True)
class Decibel:
    """10 log10 of a rate, of rates below the threshold that of the threshold.

    Parameters
    ----------
    threshold : float
    unit : float
        The rate of 0 dB.

    Examples
    --------
    >>> Decibel(threshold=0.1).forward(torch.tensor([0.0, 1.0, 10.0])).tolist()
    [-10.0, 0.0, 10.0]
    """

    threshold: float
    unit: float = 1.0

    def __post_init__(self) -> None:
        if not (self.threshold > 0 and self.unit > 0):
            raise ConstraintError(
                f"threshold={self.threshold}, unit={self.unit}: expected more than 0, in units of "
                "y."
            )

    @property
    def dry(self) -> float:
        """The threshold."""
        return self.threshold

    @property
    def floor(self) -> float:
        """The threshold in decibels."""
        return 10 * log10(self.threshold / self.unit)

    def forward(self, y: Tensor) -> Tensor:
        """Return 10 log10(max(y, threshold) / unit)."""
        return 10 * torch.log10(y.clamp(min=self.threshold) / self.unit)

    def inverse(self, z: Tensor) -> Tensor:
        """Return unit 10^(z / 10); 0 at the floor."""
        return torch.where(z > self.floor, self.unit * 10 ** (z / 10), z.new_zeros(()))

    def least_mean(self, z: Tensor) -> Tensor:
        """Return the mean of a field of one value, or of some cells at e thresholds, others at 0.

        The line from (0, floor) touches g at e thresholds; below that it is the least concave
        function above g.
        """
        steep = 10 * log10(e)
        part = ((z - self.floor) / steep).clamp(min=0)
        return torch.where(part < 1, part * e * self.threshold, self.inverse(z))


@dataclass(frozen=True, eq=False)
class TransformedMean(Bounded):
    """Bounds of weighted means of the transformed cells.

    Parameters
    ----------
    rows : Rows
        Sums that share no cells, of weights of at least 0 (:meth:`Rows.mean` for means).
    transform : Transform
    lower, upper : Tensor (m,) or (N, m), or float
        Of the transformed mean.

    Raises
    ------
    ConstraintError
        As :class:`Bounded`; sums that share cells.

    Examples
    --------
    >>> mean = Rows.over(torch.ones(1, 1, 2, 1), frames=True).mean()
    >>> louder = TransformedMean(mean, transform=Decibel(0.1), lower=20.0, upper=20.0)
    >>> y = torch.tensor([1.0, 100.0]).reshape(1, 1, 1, 2, 1)
    >>> louder.project(y).flatten().tolist()
    [10.0, 1000.0]
    """

    rows: Rows
    _: KW_ONLY
    transform: Transform

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rows.disjoint or bool((self.rows.weights < 0).any()):
            raise ConstraintError(
                f"{self.name}: expected sums that share no cells, with weights of at least 0."
            )

    @property
    def convex(self) -> bool:
        """Whether the projection is the nearest field: not in squared distance."""
        return False

    def measure(self, y: Tensor) -> Tensor:
        """Return the transformed means, float64 (N, m)."""
        return self.rows.apply(self.transform.forward(y.double()), self.name)

    def magnitude(self, y: Tensor) -> Tensor:
        """Return the larger of the bounds and of the sums of absolute terms, (N, m)."""
        terms = self.rows.absolute(self.transform.forward(y.double()))
        return torch.maximum(super().magnitude(y), terms)

    def project(self, y: Tensor) -> Tensor:
        """Return the field with the transformed wet cells of each sum shifted alike.

        Raises
        ------
        ConstraintError
            There is no wet cell to shift, or the mean is below that of a dry field.
        MissingDataError
            A cell that has weight is NaN.
        """
        value = known(self, self.measure(y))
        off = beyond(value, *self.bounds(value))
        sample, row = torch.nonzero(off, as_tuple=True)
        if not len(sample):
            return y
        weights, target = self.rows.weights.to(y.device), (value - off)[sample, row]
        cells = self.rows.gather(y).clone()
        for part in torch.arange(len(sample), device=y.device).split(
            max(1, CACHE // cells.shape[-1])
        ):
            i, j = sample[part], row[part]
            cells[i, j] = self._shifted(cells[i, j], weights[j], target[part])
        return self.rows.put(y, cells)

    def linearized(self, y: Tensor) -> tuple[Condition, ...]:
        r"""Return the condition to first order about one field (1, T, H, W, C).

        .. math:: l \le \bar g(y) + \sum_i w_i\, g'(y_i)\, (y'_i - y_i) \le u ,

        for the sums with a cell that is not dry.
        """
        value = known(self, self.measure(y))
        cells = self.rows.gather(y, self.name)[0].double()
        with torch.inference_mode(False), torch.enable_grad():
            at = cells.clone().requires_grad_()
            (slopes,) = torch.autograd.grad(self.transform.forward(at).sum(), at)
        slopes = slopes * self.rows.weights.to(slopes)
        has = (slopes != 0).any(-1)
        if not bool(has.any()):
            return ()
        flat = (slopes * cells).sum(-1) - value[0]
        lower, upper = (bound.expand_as(value)[0] + flat for bound in self.bounds(value))
        rows = Rows(self.rows.index[has.cpu()], slopes[has].cpu(), self.rows.shape)
        linear = Linear(rows, lower=lower[has], upper=upper[has], name=self.name)
        return linear, self._kept(cells)

    def _kept(self, cells: Tensor) -> Range:
        """Return the range in which dry cells stay dry, and wet ones a third to tenfold as wet."""
        dry = self.transform.dry
        wet = cells > dry
        inside = self.rows.weights != 0
        index = self.rows.index[inside]
        flat = torch.full((2, self.rows.shape.numel()), torch.inf, dtype=torch.float64)
        flat[0, index] = -torch.where(wet, dry + (cells - dry) / 3, -torch.inf)[inside]
        most = torch.where(wet, dry + 10 * (cells - dry), cells.clamp(min=dry))
        flat[1, index] = most[inside]
        low, high = -flat[0].reshape(self.rows.shape), flat[1].reshape(self.rows.shape)
        return Range(lower=low, upper=high, name=self.name)

    def _shifted(self, cells: Tensor, weights: Tensor, target: Tensor) -> Tensor:
        z = self.transform.forward(cells.double())
        floor = torch.full_like(z, self.transform.floor)
        wet = (z > floor) & (weights != 0)
        most = torch.where(wet, torch.inf, torch.where(weights != 0, floor, z))
        along = wet.double()
        moved = fill(z, weights, (torch.minimum(floor, z), most), target, self.name, along=along)
        return torch.where(wet, self.transform.inverse(moved).to(cells.dtype), cells)
