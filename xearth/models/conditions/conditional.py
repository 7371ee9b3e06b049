r"""The conditional law of a low-rank Gaussian under linear conditions, drawn from exactly.

Notation: :math:`Y = \mu + \sum_k z_k L_k`, :math:`z \sim \mathcal N(0, I)`, of
:mod:`xearth.models.heads`; sums :math:`A Y = a + B z` with :math:`a = A \mu` and
:math:`B_{jk} = A_j L_k`. Conditions on :math:`A Y` are conditions on :math:`z`, in K dimensions:

.. math::

   \textrm{equal:} \; B z = b - a, \qquad
   \textrm{between:} \; l - a \le B z \le u - a, \qquad
   \textrm{observed:} \; b - a = B z + \sigma \epsilon .

*Equalities and observations* leave a Gaussian,

.. math:: z \mid b \sim \mathcal N(G (b - a),\, I - G B), \qquad
   G = B^\top (B B^\top + R)^{-1},

with :math:`R = \mathrm{diag}(\sigma^2)`, 0 for equalities: kriging of the factors.

*Intervals* leave a truncated one. The sums :math:`v = B z` are drawn first, then
:math:`z = v`'s kriging plus what does not move :math:`v`. One sum is drawn from the truncated
normal by the inverse of its distribution: exact, however far in the tail. Several are drawn by
Gibbs sampling, each from its truncated normal given the others, from a point within: the law is
that of the limit, with ``sweeps`` of them for each draw from a start of its own.

All conditions hold for each member (to rounding), and for one sum, equalities and observations the
members are independent draws of the exact law.

Source: Botev (2017) on truncated normals; Chiles and Delfiner (2012) for conditioning by kriging.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConstraintError
from ..heads import Prediction
from .linear import Linear
from .quadratic import multipliers

__all__ = ["Conditional", "truncated_normal"]

_RANK = 1e-10  # of the largest eigenvalue: what counts as no variance


def truncated_normal(uniform: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the standard normal between bounds whose distribution function is ``uniform``.

    Computed with logarithms of tails, so it is exact to rounding far from 0 too.

    Parameters
    ----------
    uniform, lower, upper : Tensor, float64
        Broadcastable; uniform within (0, 1).

    Examples
    --------
    >>> half = torch.tensor(0.5, dtype=torch.float64)
    >>> far = truncated_normal(half, half * 0 + 20, half * torch.inf)
    >>> round(float(far), 4)
    20.0345
    """
    uniform, lower, upper = torch.broadcast_tensors(uniform, lower, upper)
    flip = lower > 0  # work in the lower tail
    low, high = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    share = torch.where(flip, 1 - uniform, uniform)
    bottom, top = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    # log of (1 - share) Phi(low) + share Phi(high)
    log_p = torch.logaddexp((-share).log1p() + bottom, share.log() + top)
    x = _log_quantile(log_p)
    x = torch.minimum(torch.maximum(x, low), high)
    return torch.where(flip, -x, x)


def _log_quantile(log_p: Tensor) -> Tensor:
    """Return x with log Phi(x) = log_p, by Newton's method from both tails' asymptotics."""
    tail = -torch.sqrt((-2 * log_p - (-4 * torch.pi * log_p.clamp(max=-1)).log()).clamp(min=0))
    x = torch.where(log_p < -20, tail, torch.special.ndtri(log_p.exp()))
    x = x.clamp(-1e150, 38.0)
    # Each x stops by itself, so that it is the same whatever is computed beside it.
    moving = torch.ones_like(x, dtype=torch.bool)
    for _ in range(8):
        value = torch.special.log_ndtr(x)
        slope = torch.exp(-0.5 * x.square() - 0.9189385332046727 - value)
        step = (value - log_p) / slope
        step = torch.where(moving & step.isfinite(), step, 0.0).clamp(-2.0, 2.0)
        x = x - step
        moving = step.abs() > 1e-12 * x.abs().clamp(min=1.0)
        if not moving.any():
            break
    return x


@dataclass(frozen=True, eq=False)
class Conditional:
    """A low-rank Gaussian of fields that holds linear conditions.

    Parameters
    ----------
    prediction : Prediction
        mean (N, T, H, W, C) and factors (N, T, H, W, C, K), K of at least 1.
    conditions : sequence of Linear
        Bounds (m,) or (N, m); those with ``sd`` are observations and need lower = upper.

    Raises
    ------
    ConstraintError
        No conditions, a point forecast, an observation that is no equality; conditions that the
        factors cannot meet or that contradict each other.

    Examples
    --------
    >>> from xearth.models.conditions.rows import Rows
    >>> draw = torch.Generator().manual_seed(0)
    >>> L = torch.randn(1, 1, 4, 4, 1, 8, generator=draw)
    >>> mean = Rows.over(torch.ones(1, 4, 4, 1), frames=True).mean()
    >>> warm = Conditional(Prediction(L[..., 0] * 0, L), [Linear(mean, lower=1.5)])
    >>> z = warm.draw(100, generator=draw)
    >>> z.shape
    torch.Size([1, 100, 8])
    >>> bool((warm.members(z).mean((-4, -3, -2, -1)) > 1.5 - 1e-6).all())
    True
    """

    prediction: Prediction
    conditions: Sequence[Linear]

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", tuple(self.conditions))
        if not self.conditions or not self.prediction.rank:
            raise ConstraintError(
                f"expected conditions and a forecast with width, found {len(self.conditions)} "
                f"conditions and {self.prediction.rank} factors. A point forecast has no law to "
                "condition: project it, or load a model with a Gaussian head."
            )
        for one in self.conditions:
            lower, upper = one.bounds(torch.empty(0))
            if one.sd is not None and not torch.equal(lower, upper):
                raise ConstraintError(
                    f"{one.name}: an observation with error (sd) needs one value, found bounds. "
                    "Give lower = upper, or bounds without sd."
                )

    def _sums(self) -> tuple[Tensor, ...]:
        """Return a, lower, upper, sd (N, m) and B (N, m, K), float64."""
        mean, L = self.prediction.mean.double(), self.prediction.factors.double()
        N, K = len(mean), self.prediction.rank
        parts = []
        for one in self.conditions:
            a = one.apply(mean)
            columns = one.apply(L.movedim(-1, 1).flatten(0, 1)).unflatten(0, (N, K))
            lower, upper = (bound.expand_as(a) for bound in one.bounds(a))
            sd = torch.zeros_like(a) if one.sd is None else torch.as_tensor(one.sd).expand_as(a)
            parts.append((a, lower, upper, sd, columns.mT))
        return tuple(torch.cat(part, 1) for part in zip(*parts, strict=True))

    def draw(
        self, members: int, *, generator: torch.Generator | None = None, sweeps: int = 200
    ) -> Tensor:
        """Return standard normal coordinates of members, given the conditions.

        Parameters
        ----------
        members : int
        generator : torch.Generator, optional
        sweeps : int
            Of the Gibbs sampler, for two or more inequalities.

        Returns
        -------
        Tensor, float64 (N, members, K)
        """
        a, lower, upper, sd, B = self._sums()
        N, _, K = B.shape
        z = torch.randn(N, members, K, generator=generator, dtype=torch.float64)
        out = []
        for n in range(N):
            exact = (lower[n] == upper[n]) & (sd[n] == 0) | (sd[n] > 0)
            bounds = (lower[n] - a[n], upper[n] - a[n])
            mean, root = _posterior(B[n][exact], bounds[0][exact], sd[n][exact], K)
            given = z[n] @ root + mean
            rest = ~exact
            if bool(rest.any()):
                C, B_rest = root @ root, B[n][rest]
                sums = _Between(
                    B_rest @ C @ B_rest.mT, B_rest @ mean, bounds[0][rest], bounds[1][rest]
                )
                given = sums.move(given, B_rest, C, sums.draw(members, generator, sweeps))
            self._check(given @ B[n].mT, bounds, sd[n])
            out.append(given)
        return torch.stack(out)

    def _check(self, v: Tensor, bounds: tuple[Tensor, Tensor], sd: Tensor) -> None:
        size = v.abs().amax(0).clamp(min=torch.finfo(torch.float32).tiny)
        off = torch.maximum(v - bounds[1], bounds[0] - v).amax(0).masked_fill(sd > 0, 0.0)
        if bool((off > 1e-6 * size).any()):
            raise ConstraintError(
                "the factors of the forecast cannot meet the conditions "
                f"{', '.join(one.name for one in self.conditions)}: one stays off by "
                f"{float(off.max()):.4g}. They contradict each other, or bind more than the "
                f"{self.prediction.rank} factors leave free. Leave one out or widen its bounds."
            )

    def members(self, z: Tensor) -> Tensor:
        """Return the fields of coordinates (N, members, K): (N, members, T, H, W, C)."""
        L = self.prediction.factors
        fields = torch.einsum("nthwck,nmk->nmthwc", L, z.to(L))
        return self.prediction.mean[:, None] + fields


def _posterior(B: Tensor, b: Tensor, sd: Tensor, K: int) -> tuple[Tensor, Tensor]:
    """Return the mean (K,) and a symmetric root (K, K) of the covariance of z given B z = b."""
    eye = torch.eye(K, dtype=torch.float64)
    if not len(B):
        return eye[0] * 0, eye
    S = B @ B.mT + sd.square().diag()
    gain = B.mT @ torch.linalg.pinv(S, hermitian=True, rtol=_RANK)
    values, vectors = torch.linalg.eigh(eye - gain @ B)
    values = torch.where(values > _RANK, values, 0.0)
    return gain @ b, vectors @ (values.sqrt()[:, None] * vectors.mT)


@dataclass(frozen=True, eq=False)
class _Between:
    """Sums of a normal law with covariance S (m, m), between bounds (m,)."""

    S: Tensor
    center: Tensor
    low: Tensor
    high: Tensor

    def move(self, z: Tensor, B: Tensor, C: Tensor, v: Tensor) -> Tensor:
        """Return coordinates (M, K) of covariance C, moved by kriging so that B z = v."""
        gain = C @ B.mT @ torch.linalg.pinv(self.S, hermitian=True, rtol=_RANK)
        return z + (v - z @ B.mT) @ gain.mT

    def draw(self, members: int, generator: torch.Generator | None, sweeps: int) -> Tensor:
        """Return draws (M, m)."""
        spread = self.S.diagonal().clamp(min=0).sqrt()
        if float(spread.min()) <= _RANK * float(self.center.abs().max() + spread.max()):
            return self._fixed(members)
        if len(self.S) == 1:
            u = torch.rand(members, 1, generator=generator, dtype=torch.float64)
            return self.center + spread * truncated_normal(
                u.clamp(min=1e-300),
                (self.low - self.center) / spread,
                (self.high - self.center) / spread,
            )
        return self._gibbs(members, generator, sweeps)

    def _fixed(self, members: int) -> Tensor:
        """Return the sums, of which one does not vary, if they are within their bounds."""
        if bool(((self.center < self.low) | (self.center > self.high)).any()) or len(self.S) > 1:
            raise ConstraintError(
                "a bounded sum does not vary: the factors of the forecast cannot meet its bounds, "
                "or other conditions fix it already. Leave it out or widen them."
            )
        return self.center.expand(members, -1)

    def _gibbs(self, members: int, generator: torch.Generator | None, sweeps: int) -> Tensor:
        S, center, low, high = self.S, self.center, self.low, self.high
        if int(torch.linalg.matrix_rank(S, hermitian=True, rtol=_RANK)) < len(S):
            raise ConstraintError(
                f"{len(S)} inequalities depend on each other within the factors of the forecast "
                "(their sums have no joint density). Leave out those that follow from others."
            )
        # the most likely point within, from which each draw starts
        start = center - multipliers(S, center[None], low[None], high[None])[0] @ S
        v = torch.minimum(torch.maximum(start, low), high).repeat(members, 1)
        precision = torch.linalg.inv(S)
        sd = precision.diagonal().rsqrt()
        for _ in range(sweeps):
            u = torch.rand(len(S), members, generator=generator, dtype=torch.float64)
            for j, share in enumerate(u.clamp(min=1e-300)):
                others = (v - center) @ precision[j] - (v[:, j] - center[j]) * precision[j, j]
                at = center[j] - others / precision[j, j]
                x = truncated_normal(share, (low[j] - at) / sd[j], (high[j] - at) / sd[j])
                v[:, j] = at + sd[j] * x
        return v
