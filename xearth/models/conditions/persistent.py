"""Cells that are missing stay missing: land, what a radar cannot see.

The projection writes NaN where the mask says so; exact. It costs guidance nothing: what is not
shown may be anything. A cell that is NaN though it shall be valid cannot be invented: it is an
error.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConstraintError, MissingDataError

__all__ = ["Persistent"]


@dataclass(frozen=True, eq=False)
class Persistent:
    """Exactly the cells outside of a mask are missing.

    Parameters
    ----------
    valid : Tensor, bool, broadcastable to (T, H, W, C)
        True where there shall be values.
    name : str

    Raises
    ------
    ConstraintError
        A mask without valid cells.

    Examples
    --------
    >>> sea = Persistent(torch.tensor([True, False]).reshape(1, 1, 2, 1))
    >>> sea.project(torch.ones(1, 1, 1, 2, 1)).flatten().tolist()
    [1.0, nan]
    """

    valid: Tensor
    name: str = "mask"

    def __post_init__(self) -> None:
        if self.valid.dtype != torch.bool or not bool(self.valid.any()):
            raise ConstraintError(
                f"{self.name}: expected a bool mask with some cell that is valid, found "
                f"{self.valid.dtype} with {int(self.valid.sum())}."
            )

    @property
    def exact(self) -> bool:
        """Whether there is a projection."""
        return True

    @property
    def convex(self) -> bool:
        """Whether the fields that hold it are a convex set: values are free, or not there."""
        return True

    def measure(self, y: Tensor) -> Tensor:
        """Return how many cells are missing and shall not, or are not and shall, (N, 1)."""
        wrong = y.isnan() == self.valid.to(y.device)
        return wrong.flatten(1).sum(-1, keepdim=True).double()

    def residual(self, y: Tensor) -> Tensor:
        """Return what is measured: a number of cells."""
        return self.measure(y)

    def magnitude(self, y: Tensor) -> Tensor:
        """Return the number of cells, (N, 1)."""
        return torch.full_like(self.measure(y), y[0].numel())

    def energy(self, y: Tensor) -> Tensor:
        """Return 0, (N,)."""
        return torch.zeros(len(y), dtype=torch.float64, device=y.device)

    def project(self, y: Tensor) -> Tensor:
        """Return the field with NaN outside of the mask.

        Raises
        ------
        MissingDataError
            A cell within the mask is NaN.
        """
        valid = self.valid.to(y.device)
        lost = (y.isnan() & valid).flatten(1).sum(1)
        if bool(lost.any()):
            raise MissingDataError(
                f"{self.name}: {int(lost.max())} cells are NaN that shall have values (sample "
                f"{int(lost.argmax())}). The field is not finite: see why."
            )
        return torch.where(valid, y, torch.nan)
