r"""A condition that is known with an error: guidance, no projection.

.. math:: E(y) = \frac{1}{2} \sum_j \left(\frac{a_j(y) - \mu_j}{\sigma_j}\right)^2 ,

the energy of the condition :math:`a(y) = \mu` with :math:`\sigma` as its scale. Many fields hold
it, some better than others, so there is no nearest one. Sums have this in
:class:`~xearth.models.conditions.linear.Linear` itself, where the conditional law is Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...errors import ConstraintError
from .protocol import Condition

__all__ = ["Observed"]


@dataclass(frozen=True, eq=False)
class Observed:
    """A condition whose bound has a standard deviation, which is the scale of its energy.

    Parameters
    ----------
    condition : Condition

    Examples
    --------
    >>> import torch
    >>> from xearth.models.conditions.extremes import Maximum
    >>> from xearth.models.conditions.rows import Rows
    >>> whole = Rows.over(torch.ones(1, 1, 2, 1), frames=True)
    >>> gust = Observed(Maximum(whole, lower=9.0, upper=9.0, scale=2.0))
    >>> gust.exact, gust.energy(torch.tensor([1.0, 5.0]).reshape(1, 1, 1, 2, 1)).tolist()
    (False, [2.0])
    """

    condition: Condition

    @property
    def name(self) -> str:
        """What a reader calls it."""
        return self.condition.name

    @property
    def exact(self) -> bool:
        """Whether there is a projection: not of what is known with an error."""
        return False

    @property
    def convex(self) -> bool:
        """Whether the fields that hold it are a convex set."""
        return self.condition.convex

    def measure(self, y: Tensor) -> Tensor:
        """Return what is bound (N, m)."""
        return self.condition.measure(y)

    def residual(self, y: Tensor) -> Tensor:
        """Return the signed distance from the mean (N, m)."""
        return self.condition.residual(y)

    def magnitude(self, y: Tensor) -> Tensor:
        """Return what a residual is small or large against (N, m)."""
        return self.condition.magnitude(y)

    def energy(self, y: Tensor) -> Tensor:
        """Return a smooth penalty (N,)."""
        return self.condition.energy(y)

    def project(self, y: Tensor) -> Tensor:
        """Refuse.

        Raises
        ------
        ConstraintError
        """
        raise ConstraintError(
            f"{self.name}: an observation with error (sd) has no nearest field that holds it. "
            "Impose it by guidance; without sd it is exact."
        )
