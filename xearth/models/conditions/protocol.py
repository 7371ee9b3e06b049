r"""What a condition on a field offers to whoever imposes it.

Let :math:`y` be a batch of fields (N, T, H, W, C) in the values the condition is written in
(physical units, whoever calls has undone the normalizer). A condition measures
:math:`m = A(y)`, one number per statement, and bounds it, :math:`l \le m \le u`. Its residual

.. math:: r = \max(0, m - u) - \max(0, l - m)

is the signed distance outside of the bounds, 0 exactly where the condition holds. Guidance
needs ``residual`` or ``energy`` with gradients; covariance-aware guidance needs a linear
:math:`A`; the exact ways need ``project``.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Condition", "LinearCondition"]


@runtime_checkable
class Condition(Protocol):
    """A statement about fields (N, T, H, W, C): tensors in, tensors out, batch-independent."""

    @property
    def linear(self) -> bool:
        """Whether ``measure`` is a linear map of the field."""
        ...

    def measure(self, y: Tensor) -> Tensor:
        """Return A(y), (N, m)."""
        ...

    def residual(self, y: Tensor) -> Tensor:
        """Return the signed distance outside of the bounds, (N, m); 0 where they hold."""
        ...

    def energy(self, y: Tensor) -> Tensor:
        """Return a penalty (N,), 0 where the condition holds, that falls towards it."""
        ...

    def project(self, y: Tensor) -> Tensor:
        """Return the field nearest to y that holds; ConstraintError where there is no exact way."""
        ...


@runtime_checkable
class LinearCondition(Condition, Protocol):
    """A condition whose measure is :math:`A y` with known rows of A."""

    @property
    def weights(self) -> Tensor:
        """Rows of A, (m, T, H, W, C)."""
        ...
