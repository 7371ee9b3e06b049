r"""Multipliers of the nearest point that holds linear equalities and inequalities.

With :math:`G = A C A^\top` and :math:`a = A y`, the nearest :math:`y' = y - C A^\top \lambda` with
:math:`l \le A y' \le u` has

.. math:: a' = a - G \lambda, \quad
   \lambda_j > 0 \Rightarrow a'_j = u_j, \quad
   \lambda_j < 0 \Rightarrow a'_j = l_j, \quad l \le a' \le u .

Which bounds are active is found by the primal-dual active set method; where that cycles, it starts
anew from the multipliers of an accelerated gradient method. Float64, rows scaled alike.

Sources: Hintermueller, Ito and Kunisch (2002); Beck and Teboulle (2009); O'Donoghue and Candes
(2015) for its restarts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ConstraintError
from .protocol import beyond

__all__ = ["multipliers"]

_ROUNDS, _STEPS, _STARTS = 25, 500, 4
_HELD = 1e-9  # of the larger of values and bounds


def multipliers(G: Tensor, a: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the multipliers (N, m).

    Parameters
    ----------
    G : Tensor, float64 (m, m)
        Symmetric, positive semidefinite.
    a, lower, upper : Tensor, float64 (N, m)

    Raises
    ------
    ConstraintError
        No field holds them all.

    Examples
    --------
    >>> G, inf = torch.eye(2, dtype=torch.float64), torch.inf
    >>> a = torch.tensor([[3.0, 3.0]], dtype=torch.float64)
    >>> multipliers(G, a, a - inf, a * 0 + 1).tolist()
    [[2.0, 2.0]]
    """
    unit = G.diagonal().sqrt()
    unit = torch.where(unit > 0, unit, torch.ones_like(unit))
    G, a = G / unit / unit[:, None], a / unit
    lower, upper = (bound.expand_as(a) / unit for bound in (lower, upper))
    found, settled = _active_set(G, a, lower, upper, torch.zeros_like(a))
    # of sums that depend on each other a set may settle that asks two things of one sum
    settled = settled & ~_off(a - found @ G, a, lower, upper).any(-1)
    if bool(settled.all()):
        return found / unit
    start = torch.zeros_like(found)
    for _ in range(_STARTS):
        if bool(settled.all()):
            break
        rest = ~settled
        start[rest], arrived = _ascent(G, a[rest], lower[rest], upper[rest], start[rest])
        better, well = _active_set(G, a[rest], lower[rest], upper[rest], start[rest])
        well &= ~_off(a[rest] - better @ G, a[rest], lower[rest], upper[rest]).any(-1)
        # where sums depend on each other multipliers are not unique, and the method never settles
        found[rest] = torch.where(well[:, None], better, start[rest])
        settled[rest] = well | arrived
    _check(a - found @ G, a, (lower, upper), unit)
    return found / unit


def _off(after: Tensor, a: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return which sums are out of their bounds by more than rounding, (N, m)."""
    size = a.abs()
    for bound in (lower, upper):
        size = torch.maximum(size, bound.abs().where(bound.isfinite(), bound.new_zeros(())))
    return beyond(after, lower, upper).abs() > _HELD * size.amax(-1, keepdim=True)


def _check(after: Tensor, a: Tensor, bounds: tuple[Tensor, Tensor], unit: Tensor) -> None:
    lower, upper = bounds
    if bool(_off(after, a, lower, upper).any()):
        off = beyond(after, lower, upper).abs()
        sample, row = divmod(int(off.argmax()), a.shape[1])
        by, low, high = (float(value[sample, row] * unit[row]) for value in (off, lower, upper))
        raise ConstraintError(
            f"no field holds all {a.shape[1]} linear conditions: number {row} stays off by "
            f"{by:.4g} (expected {low:.6g} to {high:.6g}) when the others hold. They contradict "
            "each other, or bind cells that may not vary. Leave one out or widen its bounds."
        )


def _active_set(
    G: Tensor, a: Tensor, lower: Tensor, upper: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the multipliers and for which samples the set of active bounds settled."""
    diagonal, equal = G.diagonal(), lower == upper
    found, before = start, None
    settled = torch.zeros(len(a), dtype=torch.bool, device=a.device)
    fixed = bool(equal.all())  # of equalities every one is active, whatever comes out
    for _ in range(_ROUNDS):
        trial = a - found @ G + diagonal * found
        up = (trial > upper) | equal
        active = up | (trial < lower)
        state = up.to(torch.int8) - (active & ~up).to(torch.int8)
        if before is not None:
            settled = settled | (state == before).all(-1)
            if bool(settled.all()):
                break
        before = state
        bound = torch.where(up, upper, lower)
        target = torch.where(active, a - bound, a.new_zeros(()))
        found = torch.where(settled[:, None], found, _solve(G, active, target))
        if fixed:
            return found, ~settled
    return found, settled


def _solve(G: Tensor, active: Tensor, target: Tensor) -> Tensor:
    """Return the multipliers of active bounds, the others 0; one factorization for each set."""
    if bool(active.all()):
        return _solved(G, target.mT).mT
    found = torch.zeros_like(target)
    patterns, which = torch.unique(active, dim=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = torch.nonzero(which == number).flatten()
        on = torch.nonzero(pattern).flatten()
        if not len(on):
            continue
        found[rows[:, None], on] = _solved(G[on][:, on], target[rows][:, on].mT).mT
    return found


def _solved(part: Tensor, right: Tensor) -> Tensor:
    """Return the solution of symmetric equations, the shortest where it is not unique."""
    factor, bad = torch.linalg.cholesky_ex(part)
    pivots = factor.diagonal()
    if bool(bad) or bool(pivots.min() < 1e-7 * pivots.max()):
        return torch.linalg.pinv(part, hermitian=True, rtol=1e-12) @ right
    return torch.cholesky_solve(right, factor)


def _ascent(
    G: Tensor, a: Tensor, lower: Tensor, upper: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Return multipliers by accelerated ascent of the dual, and for which samples they are exact.

    Each sample is restarted on its own.
    """
    reach = G.abs().sum(-1).max()  # at least the largest eigenvalue
    found = ahead = start
    inertia = torch.ones(len(a), 1, dtype=a.dtype, device=a.device)
    for _ in range(_STEPS):
        following = beyond(reach * ahead + a - ahead @ G, lower, upper) / reach
        turned = ((ahead - following) * (following - found)).sum(-1, keepdim=True) > 0
        after = (1 + (1 + 4 * inertia.square()).sqrt()) / 2
        weight = torch.where(turned, 0.0, (inertia - 1) / after)
        ahead = following + weight * (following - found)
        found, inertia = following, torch.where(turned, 1.0, after)
    value = a - found @ G
    step = reach * found - beyond(reach * found + value, lower, upper)
    return found, (step.abs() <= 1e-10 * a.abs().amax(-1, keepdim=True)).all(-1)
