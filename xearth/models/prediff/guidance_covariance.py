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
:class:`CovarianceWalk` works them out at some levels only.

Source: Rozet et al. (2024), *Learning diffusion priors from observations by expectation
maximization*; the bounds are ours.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...errors import ConfigError, ConstraintError, SamplingError
from ..conditions.conjunction import All
from ..conditions.linear import Linear
from ..conditions.protocol import Bounded, Condition
from ..conditions.rows import Rows
from .guidance import Decode, decoded, differentiable, weight_of
from .levels import Level, Predictor
from .truncated import shift_within

__all__ = ["CovarianceGuidance", "CovarianceWalk", "conjugate_gradients"]

#: Corrections of a solution by the part of a matrix that is not symmetric, at most.
_REFINED = 6


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

    Examples
    --------
    >>> from xearth.models.conditions.linear import Linear
    >>> from xearth.models.conditions.rows import Rows
    >>> from xearth.models.prediff.gaussian import GaussianField
    >>> mean = Rows.over(torch.ones(1, 4, 4, 1), frames=True).mean()
    >>> wet = Linear(mean, lower=1.0, upper=1.0)
    >>> clean = GaussianField(torch.zeros(4, 4), torch.ones(4, 4))
    >>> guidance = CovarianceGuidance(condition=wet)
    >>> led = guidance(torch.randn(2, 1, 4, 4, 1), Level(9.0, 0.8, 0.6), clean)
    >>> torch.allclose(led.mean((1, 2, 3, 4)), torch.ones(2), atol=1e-5)
    True
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

    def _known(self, measured: Sequence[Tensor]) -> _Known:
        """Return what is known of the measures of the parts."""
        known = []
        for part, value in zip(self._parts, measured, strict=True):
            sd = getattr(part, "sd", None)
            variance = torch.zeros(()) if sd is None else torch.as_tensor(sd).square()
            bounds = part.bounds(value) if isinstance(part, Bounded) else ()
            known.append([side.to(value).expand_as(value) for side in (*bounds, variance)])
        return _Known(*(torch.cat(k, -1) for k in zip(*known, strict=True)))

    def __call__(self, z: Tensor, level: Level, predict: Predictor) -> Tensor:
        """Return the guided clean field."""
        if level.alpha == 0.0:
            return predict(z, level)
        with torch.enable_grad():
            state = differentiable(z)
            mean = predict(state, level)
            measure, law = self.measure(mean.detach()), _Law(state, mean, weight_of(level))
            if self.solver == "cg":
                return mean.detach() + self._iterative(law, measure)
            spread = law.rows(measure)
        return _moved(mean.detach(), law.weight, spread, measure)

    def measure(self, clean: Tensor) -> _Measure:
        """Return what is measured of clean fields, and how it depends on them."""
        parts = self._parts
        if self.decode is None and all(isinstance(part, Linear) for part in parts):
            value = [part.measure(clean) for part in parts]
            rows = [part.rows for part in parts if isinstance(part, Linear)]
            return _Sums(torch.cat(value, -1), self._known(value), clean, rows)
        with torch.enable_grad():
            leaf = clean.detach().requires_grad_()
            fields = decoded(self.decode, leaf)
            value = [part.measure(fields) for part in parts]
            graph = torch.cat(value, -1)
        return _Derivative(graph.detach(), self._known(value), leaf, graph)

    def _iterative(self, law: _Law, measure: _Measure) -> Tensor:
        known = measure.known
        if not bool((known.lower == known.upper).all()):
            raise ConstraintError(
                f"{self.condition.name}: CovarianceGuidance(solver='cg') takes equalities only, as "
                "the shift by an inequality needs the variance of each number measured. "
                "Use solver='direct'."
            )

        def product(v: Tensor) -> Tensor:
            spread = law.weight * law.product(measure.transposed(v))
            return measure.forward(spread) + known.variance * v

        right = known.lower - measure.value
        factors = conjugate_gradients(product, right, iterations=self.iterations)
        return law.weight * law.product(measure.transposed(factors))


@dataclass(eq=False)
class CovarianceWalk:
    r"""Covariance-aware guidance of one walk, with its products at some of the levels only.

    The products of the Jacobian with the rows of A change little from level to level. Between
    the levels where they are worked out they go on as a straight line in the log signal-to-noise
    ratio through the last two; where that makes a variance of what is measured less than a quarter
    of the last one, a sample keeps its last products. :math:`(A V A^\top + R)^{-1}` is that of
    these products, so an equality without error holds at every level all the same.

    It remembers: make one for each call of :func:`~xearth.models.prediff.sampler.sample`.

    Parameters
    ----------
    guidance : CovarianceGuidance
        With ``solver="direct"``.
    every : int
        Products are worked out for each so many predictions: levels, for most samplers.

    Raises
    ------
    ConfigError
        Less than 1, a guidance of another solver.

    Examples
    --------
    >>> from ..conditions.rows import Rows
    >>> mean = Rows.over(torch.ones(1, 4, 4, 1), frames=True).mean()
    >>> guidance = CovarianceGuidance(condition=Linear(mean, lower=1.0, upper=1.0))
    >>> CovarianceWalk(guidance, every=3).every
    3
    """

    guidance: CovarianceGuidance
    every: int = 2
    _level: float = field(default=-math.inf, init=False, repr=False)
    _age: int = field(default=0, init=False, repr=False)
    _past: list[_Products] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.every < 1 or self.guidance.solver != "direct":
            raise ConfigError(
                f"CovarianceWalk(every={self.every}) of solver {self.guidance.solver!r}: expected "
                "at least 1, and 'direct'"
            )

    def __call__(self, z: Tensor, level: Level, predict: Predictor) -> Tensor:
        """Return the guided clean field.

        Raises
        ------
        SamplingError
            A level of more noise than the last one, or other samples: of another walk.
        """
        if level.alpha == 0.0:
            return predict(z, level)
        self._check(z, level)
        weight = weight_of(level)
        self._age += 1
        if not self._past or self._age >= self.every:
            with torch.enable_grad():
                state = differentiable(z)
                mean = predict(state, level)
                measure = self.guidance.measure(mean.detach())
                spread = _Law(state, mean, weight).rows(measure)
            clean, self._age = mean.detach(), 0
            older = [one for one in self._past if one.log_snr < level.log_snr]
            self._past = [_Products(level.log_snr, spread), *older[:1]]
        else:
            clean = predict(z, level)
            measure = self.guidance.measure(clean)
            spread = _onward(self._past, level.log_snr, measure)
        self._level = level.log_snr
        return _moved(clean, weight, spread, measure)

    def _check(self, z: Tensor, level: Level) -> None:
        other = bool(self._past) and self._past[0].rows[0].shape != z.shape
        if level.log_snr < self._level or other:
            raise SamplingError(
                f"CovarianceWalk: found the log signal-to-noise ratio {level.log_snr:.4g} and a "
                f"state {tuple(z.shape)} after {self._level:.4g}; expected the next level of the "
                "same walk. It remembers the last levels: make a new one for each run of a sampler."
            )


class _Products(NamedTuple):
    """Products of the Jacobian with the rows of A at a level."""

    log_snr: float
    rows: list[Tensor]


def _onward(past: Sequence[_Products], log_snr: float, measure: _Measure) -> list[Tensor]:
    """Return the products on a straight line through the last two levels."""
    if len(past) == 1:
        return past[0].rows
    last, before = past
    share = (log_snr - last.log_snr) / (last.log_snr - before.log_snr)
    pairs = zip(last.rows, before.rows, strict=True)
    rows = [torch.add(one, one - old, alpha=share) for one, old in pairs]
    good = torch.stack(
        [
            measure.by_rows(new)[:, j] > 0.25 * measure.by_rows(one)[:, j]
            for j, (new, one) in enumerate(zip(rows, last.rows, strict=True))
        ]
    ).all(0)
    if bool(good.all()):
        return rows
    keep = good.reshape(-1, *[1] * (rows[0].ndim - 1))
    return [torch.where(keep, new, one) for new, one in zip(rows, last.rows, strict=True)]


def _moved(clean: Tensor, weight: float, spread: Sequence[Tensor], measure: _Measure) -> Tensor:
    """Return the clean field moved by V A^T (A V A^T + R)^-1 d, V A^T = weight * spread."""
    value, known = measure.value, measure.known
    inner = weight * torch.stack([measure.by_rows(one) for one in spread], 2)
    inner = inner + torch.diag_embed(known.variance)
    shift = shift_within(value, inner.diagonal(dim1=1, dim2=2), known.lower, known.upper)
    factors = (weight * _refined(inner, shift)).to(clean)
    for j, one in enumerate(spread):
        clean = torch.addcmul(clean, factors[:, j].reshape(-1, *[1] * (one.ndim - 1)), one)
    return clean


class _Known(NamedTuple):
    """Bounds of what is measured and the variance of its error, each (N, m)."""

    lower: Tensor
    upper: Tensor
    variance: Tensor


@dataclass(frozen=True, eq=False)
class _Law:
    """The mean of the clean field as a function of the state; V = weight * Jacobian."""

    state: Tensor
    mean: Tensor
    weight: float

    def product(self, field: Tensor) -> Tensor:
        """Return the Jacobian of the network, symmetric for an exact one, times a field."""
        (row,) = torch.autograd.grad(self.mean, self.state, field, retain_graph=True)
        return row

    def rows(self, measure: _Measure) -> list[Tensor]:
        """Return its products with all rows of A."""
        return [self.product(measure.row(j)) for j in range(measure.value.shape[1])]


@dataclass(frozen=True, eq=False)
class _Measure(ABC):
    """What is measured of clean fields, (N, m), and A as products; each sample on its own."""

    value: Tensor
    known: _Known

    @abstractmethod
    def row(self, j: int) -> Tensor:
        """Return row j of A for each sample, in the shape of the clean field."""

    @abstractmethod
    def transposed(self, v: Tensor) -> Tensor:
        """Return A^T v, v (N, m)."""

    @abstractmethod
    def forward(self, field: Tensor) -> Tensor:
        """Return A field, (N, m)."""

    @abstractmethod
    def by_rows(self, field: Tensor) -> Tensor:
        """Return A field by all rows of A, which are at hand by then."""


@dataclass(frozen=True, eq=False)
class _Sums(_Measure):
    """Weighted sums of the clean field itself: A is the same for all samples."""

    clean: Tensor
    sums: Sequence[Rows]

    @cached_property
    def _matrix(self) -> Tensor:
        dense = torch.cat([rows.matrix().to_dense() for rows in self.sums])
        return dense.to(self.clean).reshape(-1, *self.clean.shape[1:])

    def row(self, j: int) -> Tensor:
        return self._matrix[j].expand_as(self.clean)

    def transposed(self, v: Tensor) -> Tensor:
        return torch.tensordot(v.to(self.clean), self._matrix, 1)

    def forward(self, field: Tensor) -> Tensor:
        return torch.cat([rows.sums(field) for rows in self.sums], -1)

    def by_rows(self, field: Tensor) -> Tensor:
        return self.forward(field)


@dataclass(frozen=True, eq=False)
class _Derivative(_Measure):
    """A decoder and measures to first order about the clean field."""

    leaf: Tensor
    graph: Tensor

    @cached_property
    def _matrix(self) -> Tensor:
        units = torch.eye(self.value.shape[1]).to(self.value)
        return torch.stack([self.transposed(unit.expand_as(self.value)) for unit in units])

    def row(self, j: int) -> Tensor:
        return self._matrix[j]

    def transposed(self, v: Tensor) -> Tensor:
        (row,) = torch.autograd.grad(self.graph, self.leaf, v, retain_graph=True)
        return row

    def forward(self, field: Tensor) -> Tensor:
        # the derivative of A^T v, which is linear in v, by v
        v = torch.zeros_like(self.value).requires_grad_()
        (row,) = torch.autograd.grad(self.graph, self.leaf, v, create_graph=True)
        (value,) = torch.autograd.grad(row, v, field)
        return value

    def by_rows(self, field: Tensor) -> Tensor:
        return torch.einsum("mnk,nk->nm", self._matrix.flatten(2), field.flatten(1)).to(self.value)


def _refined(matrix: Tensor, right: Tensor) -> Tensor:
    """Return M^-1 b of M (N, m, m), symmetric but for what a network is off: else it is M^+ b."""
    symmetric = 0.5 * (matrix + matrix.mT)
    found = _pseudo_solve(symmetric, right)
    left = right - torch.einsum("nij,nj->ni", matrix, found)
    for _ in range(_REFINED if matrix.shape[1] > 1 else 0):
        better = found + _pseudo_solve(symmetric, left)
        now = right - torch.einsum("nij,nj->ni", matrix, better)
        closer = now.square().sum(-1, keepdim=True) < left.square().sum(-1, keepdim=True)
        if not bool(closer.any()):
            break
        found, left = torch.where(closer, better, found), torch.where(closer, now, left)
    return found


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
