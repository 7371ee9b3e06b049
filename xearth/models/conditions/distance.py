r"""Conditions whose penalty is the squared distance to the nearest field that holds them.

.. math:: E(y) = \frac{1}{2 s^2} \lVert y - P(y) \rVert^2, \qquad
   \nabla E = \frac{y - P(y)}{s^2},

with the scale :math:`s` in the units of a cell. It is 0 where the condition holds, and its
gradient moves every cell that has to move; that of a quantile or of a count would move one, or
none. For convex sets it is continuously differentiable, for others almost everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .protocol import Bounded

__all__ = ["Distant"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Distant(Bounded):
    """A condition that is told by its projection; ``scale`` is in the units of a cell."""

    def energy(self, y: Tensor) -> Tensor:
        """Return half of the squared distance to the nearest field that holds it, (N,)."""
        with torch.no_grad():
            held = self.project(y)
        off = torch.where(y.isnan(), y.new_zeros(()), y - held).double()
        return 0.5 * (off / torch.as_tensor(self.scale).to(off)).square().flatten(1).sum(-1)
