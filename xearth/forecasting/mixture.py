r"""A mixture of low-rank Gaussians under linear conditions, exactly.

Notation: network :math:`s` of :math:`S` gives :math:`Y = \mu_s + \sum_k z_k L_{s,k}`, each as
probable as the others. Of its sums :math:`A Y = a_s + B_s z` (:mod:`xearth.models.conditions`) some
are bound. By Bayes' rule the conditional law is a mixture again, of the conditional laws of the
networks, with the weights

.. math::

   w_s \propto \mathcal N(b;\, a_s,\, B_s B_s^\top + R) \;
   P_s(l \le A' Y \le u \mid A Y = b),

the density of what is given as equal (or observed with the variance :math:`R`) times the
probability of the intervals given these. That of one sum is a difference of normal distribution
functions, in logarithms; of several it is integrated one after the other (Genz 1992) over
``POINTS`` quasi-random points, whose error is far below that of any ensemble.

The law of :math:`z` in each network is :class:`xearth.models.conditions.conditional.Conditional`,
which draws the bound sums first. Where some of them follow from others (more intervals than
factors) they have no joint density; the coordinates are then drawn instead, by ``SWEEPS`` of a
Gibbs sampler in a chain of its own for each member.
Members are drawn in blocks of ``BLOCK`` from the seed, the start and the number of the block, so
that a member is the same whatever the number of members.

Source: Genz, A. (1992), Numerical computation of multivariate normal probabilities, J. Comput.
Graph. Stat. 1, 141-149.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ConstraintError

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.conditions.linear import Linear
    from ..models.heads import Prediction

__all__ = ["Mixture"]

BLOCK = 512
POINTS = 4096
SWEEPS = 200
_RANK = 1e-10  # of the largest eigenvalue: what counts as no variance
_OFF = 1e-6  # part of the size of a sum that is rounding

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mixture:
    """The sums that are bound, in each network, for one start.

    Parameters
    ----------
    a : array (S, m)
        Means of the sums.
    B : array (S, m, K)
        Their factors.
    lower, upper : array (m,)
        Bounds; equal ones are an equality.
    sd : array (m,)
        Error of what was observed, 0 elsewhere.
    groups : tuple of array of int
        The sums of each condition.
    names : tuple of str
        Of the conditions.

    Raises
    ------
    ConstraintError
        No network can meet the conditions.
    """

    a: Floats
    B: Floats
    lower: Floats
    upper: Floats
    sd: Floats
    groups: tuple[npt.NDArray[np.intp], ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not np.isfinite(self.log_weights).any():
            K = self.B.shape[-1]
            raise ConstraintError(
                f"no network can meet {'; and '.join(self.names)}: they contradict each other "
                f"within its {K} factors, or bind more sums than these leave free. Leave one out, "
                "widen its bounds, or ask impose='projected'."
            )

    @classmethod
    def of(cls, predictions: Sequence[Prediction], conditions: Sequence[Linear]) -> Mixture:
        """Return the sums of predictions (1, T, H, W, C), in the units of the conditions."""
        means, factors = [], []
        for prediction in predictions:
            mean, L = prediction.mean.double(), prediction.factors.double()[0].movedim(-1, 0)
            means.append(np.concatenate([one.apply(mean)[0].numpy() for one in conditions]))
            factors.append(np.concatenate([one.apply(L).mT.numpy() for one in conditions]))
        lower, upper, sd = [], [], []
        for one in conditions:
            m = len(one.rows)
            low, high = (np.broadcast_to(b.numpy(), (m,)) for b in one.bounds(one.rows.weights))
            error = 0.0 if one.sd is None else np.asarray(one.sd, dtype=np.float64)
            lower.append(low)
            upper.append(high)
            sd.append(np.broadcast_to(error, (m,)))
        ends = np.cumsum([0, *(len(part) for part in lower)])
        groups = tuple(np.arange(i, j) for i, j in pairwise(ends))
        return cls(
            np.stack(means),
            np.stack(factors),
            *(np.concatenate(lower), np.concatenate(upper), np.concatenate(sd)),
            groups=groups,
            names=tuple(one.name for one in conditions),
        )

    @property
    def given(self) -> npt.NDArray[np.bool_]:
        """Which sums (m,) are equal to a number or observed, not within an interval."""
        return (self.lower == self.upper) | (self.sd > 0)

    @cached_property
    def log_weights(self) -> Floats:
        """The logarithm (S,) of density times probability of the conditions in each network."""
        given, rest = np.flatnonzero(self.given), np.flatnonzero(~self.given)
        return self._log_density(given) + self._log_inside(rest, given)

    def weights(self) -> Floats:
        """Return the probability (S,) of each network, given the conditions."""
        odds = np.exp(self.log_weights - self.log_weights.max())
        return np.asarray(odds / odds.sum())

    def probability(self, group: int | None = None) -> float | None:
        """Return the probability of one condition, or of all, in the unconditional mixture.

        None where an equality or an observation is among them: these have a density.
        """
        rows = np.arange(len(self.lower)) if group is None else self.groups[group]
        if self.given[rows].any():
            return None
        return float(np.exp(self._log_inside(rows, rows[:0])).mean())

    def _log_density(self, rows: npt.NDArray[np.intp]) -> Floats:
        """Return the log density (S,) of what is given, but for a constant."""
        S = len(self.a)
        if not rows.size:
            return np.zeros(S)
        B, off = self.B[:, rows], self.lower[rows] - self.a[:, rows]
        covariance = B @ B.transpose(0, 2, 1) + np.diag(self.sd[rows] ** 2)
        unit = np.sqrt(np.diagonal(covariance.mean(0)))
        unit = np.where(unit > 0, unit, 1.0)
        covariance, off = covariance / (unit[:, None] * unit), off / unit
        values, vectors = np.linalg.eigh(covariance.mean(0))
        basis = vectors[:, values > _RANK * values[-1]]
        size = 1.0 + (np.abs(self.lower[rows]) + np.abs(self.a[:, rows])) / unit
        outside = np.abs(off - off @ basis @ basis.T) > _OFF * size
        found = np.full(S, -np.inf)
        for s in np.flatnonzero(~outside.any(1)):
            values, vectors = np.linalg.eigh(basis.T @ covariance[s] @ basis)
            if values.size and values[0] <= _RANK * values[-1]:
                continue  # this network cannot move all of the sums
            along = vectors.T @ basis.T @ off[s]
            found[s] = -0.5 * (along**2 / values + np.log(values)).sum()
        return found

    def _log_inside(self, rows: npt.NDArray[np.intp], given: npt.NDArray[np.intp]) -> Floats:
        """Return the log probability (S,) of intervals, given other sums."""
        if not rows.size:
            return np.zeros(len(self.a))
        found = []
        for a, B in zip(self.a, self.B, strict=True):
            center, cov = a[rows], B[rows] @ B[rows].T
            if given.size:
                S = B[given] @ B[given].T + np.diag(self.sd[given] ** 2)
                gain = B[rows] @ B[given].T @ np.linalg.pinv(S, rcond=_RANK, hermitian=True)
                center = center + gain @ (self.lower[given] - a[given])
                cov = cov - gain @ B[given] @ B[rows].T
            found.append(_log_box(self.lower[rows] - center, self.upper[rows] - center, cov))
        return np.array(found)

    def draw(self, members: int, *, seed: int, key: int) -> tuple[npt.NDArray[np.intp], Floats]:
        """Return the networks (M,) and coordinates (M, K) of members.

        Parameters
        ----------
        members : int
        seed, key : int
            Of the ensemble and of the start.
        """
        import torch

        share = np.cumsum(self.weights())
        share[-1] = 1.0
        which = np.empty(members, dtype=np.intp)
        z = np.empty((members, self.B.shape[-1]))
        for block in range(-(-members // BLOCK)):
            source = np.random.SeedSequence([seed, key, block])
            at = np.arange(block * BLOCK, min((block + 1) * BLOCK, members))
            uniform = np.random.default_rng(source).random(BLOCK)[: len(at)]
            which[at] = np.searchsorted(share, uniform, side="right")
            streams = source.generate_state(len(share), np.uint64) >> np.uint64(1)
            for s in np.unique(which[at]):
                own = which[at] == s
                generator = torch.Generator().manual_seed(int(streams[s]))
                if self._dependent:
                    drawn = _walk(self._free(s), generator)
                else:
                    drawn = self._conditionals[s].draw(BLOCK, generator=generator)[0].numpy()
                z[at[own]] = drawn[: len(at)][own]
        return which, z

    @cached_property
    def _dependent(self) -> bool:
        """Whether some of several intervals follow from others in the factors that are free."""
        rest = np.flatnonzero(~self.given)
        if len(rest) < 2:
            return False
        columns = [(self.B[s] @ self._free(s)[1])[rest] for s in range(len(self.a))]
        return any(np.linalg.matrix_rank(C, rtol=_RANK**0.5) < len(rest) for C in columns)

    def _free(self, s: int) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return what z = mean + root x, x standard normal, is bound by: low <= C x <= high."""
        given, rest = self.given, ~self.given
        B, K = self.B[s], self.B.shape[-1]
        S = B[given] @ B[given].T + np.diag(self.sd[given] ** 2)
        gain = B[given].T @ np.linalg.pinv(S, rcond=_RANK, hermitian=True)
        mean = gain @ (self.lower - self.a[s])[given]
        values, vectors = np.linalg.eigh(np.eye(K) - gain @ B[given])
        kept = values > _RANK
        root = vectors[:, kept] * np.sqrt(values[kept])
        off = (self.a[s] + B @ mean)[rest]
        return mean, root, B[rest] @ root, self.lower[rest] - off, self.upper[rest] - off

    @cached_property
    def _conditionals(self) -> tuple:
        """The conditional law of each network, of the sums alone: a field of m cells."""
        import torch

        from ..models.conditions.conditional import Conditional
        from ..models.conditions.linear import Linear
        from ..models.conditions.rows import Rows
        from ..models.heads import Prediction

        shape = torch.Size((1, 1, len(self.lower), 1))
        conditions = []
        for rows, observed in ((self.sd == 0, False), (self.sd > 0, True)):
            at = torch.as_tensor(np.flatnonzero(rows))
            if len(at):
                cells = Rows(at[:, None], torch.ones(len(at), 1, dtype=torch.float64), shape)
                low, high = torch.tensor(self.lower[rows]), torch.tensor(self.upper[rows])
                error = torch.tensor(self.sd[rows]) if observed else None
                name = "; and ".join(self.names)
                conditions.append(Linear(cells, lower=low, upper=high, sd=error, name=name))
        laws = []
        for a, B in zip(self.a, self.B, strict=True):
            mean = torch.tensor(a).reshape(1, *shape)
            laws.append(
                Conditional(
                    Prediction(mean, torch.tensor(B)[None, None, None, :, None]), conditions
                )
            )
        return tuple(laws)


def _walk(free: tuple[Floats, Floats, Floats, Floats, Floats], generator: Any) -> Floats:
    """Return draws (BLOCK, K) of z = mean + root x, given low <= C x <= high, by Gibbs sampling.

    One coordinate after the other, each from its truncated normal given the others.
    """
    import torch

    from ..models.conditions.conditional import truncated_normal

    mean, root, C, low, high = free
    x = torch.as_tensor(_inside(C, low, high)).repeat(BLOCK, 1)
    columns, ends = torch.as_tensor(C), (torch.as_tensor(low), torch.as_tensor(high))
    for _ in range(SWEEPS):
        u = torch.rand(len(root.T), BLOCK, generator=generator, dtype=torch.float64)
        for k, share in enumerate(u.clamp(min=1e-300)):
            column = columns[:, k]
            moves = column.abs() > _RANK * columns.abs().max()
            others = (x @ columns.mT - x[:, k, None] * column)[:, moves]
            at = [(end[moves] - others) / column[moves] for end in ends]
            least = torch.minimum(*at).amax(1) if bool(moves.any()) else share * 0 - torch.inf
            most = torch.maximum(*at).amin(1) if bool(moves.any()) else share * 0 + torch.inf
            x[:, k] = truncated_normal(share, least, torch.maximum(least, most))
    return np.asarray(mean + x.numpy() @ root.T)


def _inside(C: Floats, low: Floats, high: Floats) -> Floats:
    """Return a point with low < C x < high, near 0."""
    from scipy import optimize

    size = np.sqrt((C**2).sum(1))
    for slack in (0.1, 1e-2, 1e-4, 1e-7):
        above, below = np.isfinite(high), np.isfinite(low)
        A = np.concatenate([C[above], -C[below]])
        b = np.concatenate([(high - slack * size)[above], (slack * size - low)[below]])
        ones = np.ones(2 * C.shape[1])
        solved = optimize.linprog(ones, A_ub=np.concatenate([A, -A], 1), b_ub=b)
        if solved.status == 0:
            plus, minus = np.split(solved.x, 2)
            return np.asarray(plus - minus)
    raise ConstraintError(
        "the factors of the forecast cannot meet all intervals together. Leave one out, widen its "
        "bounds, or ask impose='projected'."
    )


def _log_box(low: Floats, high: Floats, S: Floats) -> float:
    """Return the log probability that a normal vector of mean 0 lies between bounds (m,)."""
    import torch

    from ..models.conditions.conditional import truncated_normal

    m = len(low)
    sobol = torch.quasirandom.SobolEngine(max(m - 1, 1), scramble=True, seed=0)
    points = 1 if m == 1 else POINTS
    u = sobol.draw(points, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    y = torch.zeros(points, m, dtype=torch.float64)
    root = torch.zeros(m, m, dtype=torch.float64)
    total = torch.zeros(points, dtype=torch.float64)
    C = torch.as_tensor(S)
    for j in range(m):
        left = C[j, j] - root[j, :j].square().sum()
        at = y[:, :j] @ root[j, :j]
        if float(left) <= _RANK * float(C.diagonal().max()):  # follows from the others
            slack = _OFF * (1.0 + at.abs())
            inside = (at >= low[j] - slack) & (at <= high[j] + slack)
            total = total.masked_fill(~inside, -torch.inf)
            continue
        spread = left.sqrt()
        root[j, j] = spread
        root[j + 1 :, j] = (C[j + 1 :, j] - root[j + 1 :, :j] @ root[j, :j]) / spread
        ends = (low[j] - at) / spread, (high[j] - at) / spread
        total = total + _log_between(*ends)
        if j + 1 < m:
            y[:, j] = truncated_normal(u[:, j], *ends).nan_to_num(0.0)
    return float(torch.logsumexp(total, 0) - np.log(points))


def _log_between(low: Tensor, high: Tensor) -> Tensor:
    """Return the log probability that a standard normal number lies between bounds."""
    import torch

    flip = low > 0  # work in the lower tail
    bottom = torch.special.log_ndtr(torch.where(flip, -high, low))
    top = torch.special.log_ndtr(torch.where(flip, -low, high))
    return top + torch.log1p(-torch.exp(bottom - top))
