r"""A mean or total met by a factor.

.. math:: y' = y\, b / \textstyle\sum_i w_i y_i .

For fields of one sign: signs and zeros stay, so rain stays rain and dry stays dry. Exact. It is
nearest in relative entropy, :math:`\sum_i w_i (y'_i \log (y'_i / y_i) - y'_i + y_i)`, not in
squared distance. A total of 0 has no such factor and is refused.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ...errors import ConstraintError
from .linear import Linear
from .protocol import Bounded, Condition, beyond, known
from .rows import Rows

__all__ = ["Scaled"]


@dataclass(frozen=True, eq=False)
class Scaled(Bounded):
    """Bounds of sums that are met by multiplying their cells.

    Parameters
    ----------
    rows : Rows
        Sums that share no cells.
    units : str
        Of the sums, for errors.
    remedy : str
        What to do where there is no factor, for errors.

    Raises
    ------
    ConstraintError
        As :class:`Bounded`; sums that share cells.

    Examples
    --------
    >>> mean = Rows.over(torch.ones(1, 1, 2, 1), frames=True).mean()
    >>> wetter = Scaled(mean, lower=3.0, upper=3.0)
    >>> wetter.project(torch.tensor([0.0, 2.0]).reshape(1, 1, 1, 2, 1)).flatten().tolist()
    [0.0, 6.0]
    """

    rows: Rows
    _: KW_ONLY
    units: str = ""
    remedy: str = "Add to the cells in place of multiplying them: Linear, with Range for the sign."

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rows.disjoint:
            raise ConstraintError(
                f"{self.name}: a cell cannot have two factors; the sums share cells. Use Linear."
            )

    @property
    def convex(self) -> bool:
        """Whether the projection is the nearest field: not in squared distance."""
        return False

    def measure(self, y: Tensor) -> Tensor:
        """Return A y, float64 (N, m)."""
        return self.rows.apply(y.double(), self.name)

    def magnitude(self, y: Tensor) -> Tensor:
        """Return the larger of the bounds and of the sums of absolute terms, (N, m)."""
        return torch.maximum(super().magnitude(y), self.rows.absolute(y))

    def project(self, y: Tensor) -> Tensor:
        """Return the fields with the cells of each sum multiplied by its factor."""
        value = known(self, self.measure(y))
        off = beyond(value, *self.bounds(value))
        target = value - off
        wrong = (off != 0) & ((value.abs() <= 1e-12 * self.rows.absolute(y)) | (value * target < 0))
        if bool(wrong.any()):
            i, j = torch.nonzero(wrong)[0].tolist()
            asked, found = (
                f"{float(part[i, j]):.6g} {self.units}".strip() for part in (target, value)
            )
            raise ConstraintError(
                f"{self.name}: no factor makes {asked} of {found} (sample {i}, sum {j} of "
                f"{len(self.rows)}). {self.remedy}"
            )
        factor = torch.where(off == 0, torch.ones_like(value), target / value)
        return self.rows.put(y, self.rows.gather(y).double() * factor[..., None])

    def linearized(self, y: Tensor) -> tuple[Condition, ...]:
        """Return the sums over the cells of one field (1, T, H, W, C) that are not 0."""
        cells = self.rows.gather(y, self.name)[0].cpu()
        weights = self.rows.weights * (cells != 0)
        has = (weights != 0).any(-1)
        if not bool(has.any()):
            return ()
        ends = (bound.expand(len(has))[has] for bound in self.bounds(self.rows.weights))
        lower, upper = ends
        rows = Rows(self.rows.index[has], weights[has], self.rows.shape)
        return (Linear(rows, lower=lower, upper=upper, name=self.name),)
