r"""What a condition on a field is, for samplers: tensors only.

Notation: a clean field :math:`y`, (N, T, H, W, C), in physical units; a functional
:math:`a(y)`, (N, m); bounds :math:`l \le a(y) \le u`. The residual is the signed distance outside
the bounds, in the units of :math:`a`,

.. math:: r(y) = a(y) - \min(\max(a(y), l), u),

the energy is :math:`E(y) = \tfrac12 \sum_j (r_j / s_j)^2` with a scale :math:`s` in the same units,
and the projection is the nearest field that holds the condition.

*Missing cells* are NaN. They may be where a condition has no weight, and stay NaN.

*Relative* residuals are measured against :meth:`Bounded.magnitude`: the larger of the bounds and
of what is summed, as a total near zero of large cells cannot be met to a fraction of itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ...errors import ConstraintError, MissingDataError

__all__ = ["Bounded", "Condition", "Curved", "beyond", "known", "relative", "square"]


@runtime_checkable
class Condition(Protocol):
    """A condition on a clean field y (N, T, H, W, C), in physical units.

    ``exact``: :meth:`project` makes it hold; ``convex``: the projection is the one nearest field.
    """

    @property
    def name(self) -> str:
        """What a reader calls it, for audits and errors."""

    @property
    def exact(self) -> bool:
        """Whether there is a projection."""

    @property
    def convex(self) -> bool:
        """Whether the fields that hold it are a convex set."""

    def measure(self, y: Tensor) -> Tensor:
        """Return what is bound, float64 (N, m)."""

    def residual(self, y: Tensor) -> Tensor:
        """Return the signed distance outside the bounds (N, m), in units: 0 where it holds."""

    def magnitude(self, y: Tensor) -> Tensor:
        """Return what a residual is small or large against, (N, m), in units."""

    def energy(self, y: Tensor) -> Tensor:
        """Return a smooth penalty (N,), 0 where it holds; gradients pass."""

    def project(self, y: Tensor) -> Tensor:
        """Return the nearest field that holds it, in the dtype of ``y``.

        Raises
        ------
        ConstraintError
            There is no such projection (the message names what to do), or no such field.
        MissingDataError
            A cell that has weight is NaN.
        """


@runtime_checkable
class Curved(Protocol):
    """A condition that is not convex, and is like convex ones near a field."""

    def linearized(self, y: Tensor) -> Sequence[Condition]:
        """Return the convex conditions that it is like near one field (1, T, H, W, C)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Bounded(ABC):
    """A condition l <= a(y) <= u; what is common to them all.

    Parameters
    ----------
    lower, upper : Tensor (m,) or (N, m), or float
        Equal ones are an equality; infinite ones bind nothing.
    scale : Tensor (m,) or float
        s, in the units of what is bound: the residual that costs 1/2.
    name : str
        For audits and errors.

    Raises
    ------
    ConstraintError
        A lower bound above the upper one, a bound that is NaN, a scale that is not positive.
    """

    lower: Tensor | float = -torch.inf
    upper: Tensor | float = torch.inf
    scale: Tensor | float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", type(self).__name__)
        for key in ("lower", "upper", "scale"):
            object.__setattr__(
                self, key, torch.as_tensor(getattr(self, key), dtype=torch.float64).detach()
            )
        (lower, upper), scale = self.bounds(torch.empty(0)), torch.as_tensor(self.scale)
        if not bool((lower <= upper).all()):
            at = torch.nonzero(~(lower <= upper))[0].tolist()
            raise ConstraintError(
                f"{self.name}: expected lower <= upper, found {lower.min()} to {upper.max()} "
                f"(first at {at}). Give -inf or inf where nothing is bound."
            )
        if bool((lower == torch.inf).any() | (upper == -torch.inf).any()):
            raise ConstraintError(
                f"{self.name}: no field is above inf or below -inf. Swap the bounds."
            )
        if not bool((scale > 0).all() & scale.isfinite().all()):
            raise ConstraintError(
                f"{self.name}: expected a positive scale in the units of the bound, found {scale}."
            )

    def bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return both bounds, float64, on the device of ``like``."""
        lower = torch.as_tensor(self.lower, dtype=torch.float64, device=like.device)
        upper = torch.as_tensor(self.upper, dtype=torch.float64, device=like.device)
        lower, upper = torch.broadcast_tensors(lower, upper)
        return lower, upper

    @property
    def exact(self) -> bool:
        """Whether there is a projection."""
        return True

    @property
    def convex(self) -> bool:
        """Whether the fields that hold it are a convex set."""
        return True

    @abstractmethod
    def measure(self, y: Tensor) -> Tensor:
        """Return what is bound, float64 (N, m)."""

    @abstractmethod
    def project(self, y: Tensor) -> Tensor:
        """Return the nearest field that holds it."""

    def residual(self, y: Tensor) -> Tensor:
        """Return the signed distance outside the bounds, (N, m)."""
        value = self.measure(y)
        return beyond(value, *self.bounds(value))

    def magnitude(self, y: Tensor) -> Tensor:
        """Return the larger of the finite bounds and of what is measured, (N, m)."""
        value = self.measure(y).abs()
        for bound in self.bounds(value):
            value = torch.maximum(value, bound.abs().where(bound.isfinite(), bound.new_zeros(())))
        return value

    def energy(self, y: Tensor) -> Tensor:
        """Return half of the sum of the squared residuals over their scale, (N,)."""
        residual = self.residual(y)
        return 0.5 * (residual / torch.as_tensor(self.scale).to(residual)).square().sum(-1)


def beyond(value: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the signed distance of a value outside of its bounds."""
    return (value - upper).clamp(min=0) - (lower - value).clamp(min=0)


def relative(condition: Condition, y: Tensor) -> Tensor:
    """Return the largest relative residual of each field, (N,)."""
    tiny = torch.finfo(torch.float32).tiny
    worst = condition.residual(y).abs() / condition.magnitude(y).clamp(min=tiny)
    return worst.amax(-1)


def known(condition: Condition, measured: Tensor) -> Tensor:
    """Return what was measured if it is finite.

    Raises
    ------
    MissingDataError
    """
    if not bool(measured.isfinite().all()):
        at = torch.nonzero(~measured.isfinite())[0].tolist()
        raise MissingDataError(
            f"{condition.name}: expected finite cells wherever it has weight, found NaN or inf in "
            f"sample {at[0]}. Give such cells the weight 0, or see why the field is not finite."
        )
    return measured


def square(y: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Return the fields (N, T, H, W, C) as rows (N, n), if they are of the shape (T, H, W, C).

    Raises
    ------
    ConstraintError
        They are of another.
    """
    if y.ndim != 5 or y.shape[1:] != shape:
        raise ConstraintError(
            f"{name}: made for fields (N, {', '.join(map(str, shape))}), found {tuple(y.shape)}. "
            "Make the condition on the grid, leads and variables of the field."
        )
    return y.flatten(1)
