r"""Covariance-aware guidance: the exact correction for Gaussian laws and linear conditions.

The clean field given the state has the mean :math:`\hat x_0` and, by Tweedie's second formula,
the covariance

.. math:: V = \mathrm{Cov}(x_0 \mid z_t) = \frac{\sigma_t^2}{\alpha_t}\,
    \frac{\partial \hat x_0}{\partial z_t}.

For a measure :math:`a(y) = A y` with an error of variance R, what is known of it moves the
clean field by

.. math:: \hat x_0' = \hat x_0 + V A^\top (A V A^\top + R)^{-1} d,

where :math:`d_j` is the shift of the mean of :math:`a_j \sim \mathcal{N}(A \hat x_0, A V A^\top +
R)` by its bounds: :math:`b - A \hat x_0` for an equality, that of a truncated normal for an
inequality. If the law is Gaussian, this is :math:`\mathrm{E}[x_0 \mid z_t, \text{condition}]`, for
equalities and for a single inequality, and sampling reaches the conditional law; with R = 0 the
predicted field holds the condition at every step, so the last one does. Decoders and measures
that are not linear are linearized at :math:`\hat x_0`.

:math:`V A^\top` costs one product with the Jacobian of the network for each number measured
(``solver="direct"``), or one for each iteration of conjugate gradients (``"cg"``) for many.

Source: Rozet et al. (2024), *Learning diffusion priors from observations by expectation
maximization*; the bounds are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...errors import ConfigError, ConstraintError
from ..conditions.conjunction import All
from ..conditions.protocol import Bounded, Condition
from .guidance import Decode, decoded, differentiable, weight_of
from .levels import Level, Predictor
from .truncated import shift_within

__all__ = ["CovarianceGuidance", "conjugate_gradients"]


@dataclass(frozen=True, eq=False, kw_only=True)
class CovarianceGuidance:
    r"""Guidance by the covariance of the predicted clean field.

    Parameters
    ----------
    condition : Bounded or All
        A measure with bounds, or several; linear for what is said above to be exact. Observations
        with an error (``sd``) bring their R.
    decode : callable, optional
        From clean states to the fields of the condition.
    solver : {"direct", "cg"}
        "direct" for few numbers measured, "cg" for many, which must be equalities.
    iterations : int
        At most so many of "cg".

    Raises
    ------
    ConfigError
        Fewer than 1 iteration, an unknown solver.
    ConstraintError
        A part of the condition without bounds.
    """

    condition: Condition
    decode: Decode | None = None
    solver: Literal["direct", "cg"] = "direct"
    iterations: int = 20

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.solver not in ("direct", "cg"):
            raise ConfigError(
                f"CovarianceGuidance(solver={self.solver!r}, iterations={self.iterations}): "
                "expected 'direct' or 'cg', and at least 1 iteration"
            )
        for part in self._parts:
            if not isinstance(part, Bounded):
                raise ConstraintError(
                    f"{part.name} has no measure with bounds, which covariance-aware guidance "
                    "needs. Use PosteriorGuidance or ProjectionGuidance for it."
                )

    @property
    def _parts(self) -> tuple[Condition, ...]:
        return tuple(self.condition.parts) if isinstance(self.condition, All) else (self.condition,)

    def _measure(self, fields: Tensor) -> tuple[Tensor, _Known]:
        """Return what is measured, (N, m), and what is known of it."""
        measured, known = [], []
        for part in self._parts:
            value = part.measure(fields)
            sd = getattr(part, "sd", None)
            variance = torch.zeros(()) if sd is None else torch.as_tensor(sd).square()
            bounds = part.bounds(value) if isinstance(part, Bounded) else ()
            known.append([side.to(value).expand_as(value) for side in (*bounds, variance)])
            measured.append(value)
        return torch.cat(measured, -1), _Known(
            *(torch.cat(k, -1) for k in zip(*known, strict=True))
        )

    def __call__(self, z: Tensor, level: Level, predict: Predictor) -> Tensor:
        """Return the guided clean field."""
        if level.alpha == 0.0:
            return predict(z, level)
        with torch.enable_grad():
            state = differentiable(z)
            clean = predict(state, level)
            leaf = clean.detach().requires_grad_()
            measured, known = self._measure(decoded(self.decode, leaf))
            move = self._direct if self.solver == "direct" else self._iterative
            change = move(_Linear(state, clean, leaf, measured, weight_of(level)), known)
        return clean.detach() + change

    def _direct(self, at: _Linear, known: _Known) -> Tensor:
        value = at.measured.detach()
        rows = [at.transposed(_one(value, j)) for j in range(value.shape[1])]
        spread = torch.stack([at.covariance(row) for row in rows], 1)  # (N, m, ...)
        inner = (torch.stack(rows, 1).flatten(2) @ spread.flatten(2).mT).to(value)
        inner = 0.5 * (inner + inner.mT) + torch.diag_embed(known.variance)
        variance = inner.diagonal(dim1=1, dim2=2)
        shift = shift_within(value, variance, known.lower, known.upper)
        factors = _pseudo_solve(inner, shift)
        return torch.einsum("nm,nm...->n...", factors.to(spread), spread)

    def _iterative(self, at: _Linear, known: _Known) -> Tensor:
        value = at.measured.detach()
        if not bool((known.lower == known.upper).all()):
            raise ConstraintError(
                f"{self.condition.name}: CovarianceGuidance(solver='cg') takes equalities only, as "
                "the shift by an inequality needs the variance of each number measured. "
                "Use solver='direct'."
            )

        def product(v: Tensor) -> Tensor:
            return at.forward(at.covariance(at.transposed(v))) + known.variance * v

        factors = conjugate_gradients(product, known.lower - value, iterations=self.iterations)
        return at.covariance(at.transposed(factors))


class _Known(NamedTuple):
    """Bounds of what is measured and the variance of its error, each (N, m)."""

    lower: Tensor
    upper: Tensor
    variance: Tensor


@dataclass(frozen=True, eq=False)
class _Linear:
    """The measure A of the clean field and V, as products; each sample on its own."""

    state: Tensor
    clean: Tensor
    leaf: Tensor
    measured: Tensor
    weight: float

    def transposed(self, v: Tensor) -> Tensor:
        """Return A^T v, v (N, m)."""
        (row,) = torch.autograd.grad(self.measured, self.leaf, v, retain_graph=True)
        return row

    def covariance(self, field: Tensor) -> Tensor:
        """Return V field, by the Jacobian of the network, which is symmetric for an exact one."""
        (row,) = torch.autograd.grad(self.clean, self.state, field, retain_graph=True)
        return self.weight * row

    def forward(self, field: Tensor) -> Tensor:
        """Return A field, (N, m): the derivative of A^T v, which is linear in v, by v."""
        v = torch.zeros_like(self.measured).requires_grad_()
        (row,) = torch.autograd.grad(self.measured, self.leaf, v, create_graph=True)
        (value,) = torch.autograd.grad(row, v, field)
        return value


def _one(like: Tensor, j: int) -> Tensor:
    unit = torch.zeros_like(like)
    unit[:, j] = 1.0
    return unit


def _pseudo_solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Return M^+ b for symmetric M (N, m, m): two statements of one thing do no harm."""
    if matrix.shape[1] == 1:
        only = matrix[:, 0]
        return torch.where(only > 0.0, right / only.clamp(min=1e-300), torch.zeros_like(right))
    values, vectors = torch.linalg.eigh(matrix)
    least = 1e-10 * values[:, -1:].clamp(min=1e-300)
    inverse = torch.where(values > least, 1.0 / values.clamp(min=1e-300), torch.zeros_like(values))
    along = torch.einsum("nmk,nm->nk", vectors, right)
    return torch.einsum("nmk,nk->nm", vectors, inverse * along)


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    *,
    iterations: int,
    tolerance: float = 1e-8,
) -> Tensor:
    """Return x of M x = b for each row b of (N, m), M symmetric and not negative.

    Parameters
    ----------
    product : callable
        (N, m) -> M of each row.
    right : Tensor (N, m)
    iterations : int
        At most.
    tolerance : float
        A row is done when its residual is this small against b.

    Examples
    --------
    >>> conjugate_gradients(lambda v: 4.0 * v, torch.tensor([[8.0, 2.0]]), iterations=3)
    tensor([[2.0000, 0.5000]])
    """
    x, r = torch.zeros_like(right), right.clone()
    p, rho = r, r.square().sum(-1, keepdim=True)
    goal = tolerance**2 * rho
    for _ in range(iterations):
        busy = rho > goal
        if not bool(busy.any()):
            break
        mp = product(p)
        curve = (p * mp).sum(-1, keepdim=True)
        size = torch.where(busy & (curve > 0.0), rho / curve.clamp(min=1e-300), 0.0 * rho)
        x, r = x + size * p, r - size * mp
        new = r.square().sum(-1, keepdim=True)
        p = r + torch.where(busy, new / rho.clamp(min=1e-300), 0.0 * rho) * p
        rho = torch.where(busy, new, rho)
    return x
