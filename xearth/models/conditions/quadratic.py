r"""Multipliers of the nearest point that holds linear equalities and inequalities.

With :math:`G = A C A^\top` and :math:`a = A y`, the nearest :math:`y' = y - C A^\top \lambda` with
:math:`l \le A y' \le u` has

.. math:: a' = a - G \lambda, \quad
   \lambda_j > 0 \Rightarrow a'_j = u_j, \quad
   \lambda_j < 0 \Rightarrow a'_j = l_j, \quad l \le a' \le u .

Which bounds are active is found by the primal-dual active set method; where that cycles, by
coordinate ascent (Hildreth), after which the active set is solved for once more. Float64.

Sources: Hintermueller, Ito and Kunisch (2002); Hildreth (1957).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ConstraintError
from .protocol import beyond

__all__ = ["multipliers"]

_ROUNDS, _SWEEPS = 60, 2000
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
    lower, upper = (bound.expand_as(a) for bound in (lower, upper))
    found, settled = _active_set(G, a, lower, upper, torch.zeros_like(a))
    if not bool(settled.all()):
        rest = ~settled
        start = _hildreth(G, a[rest], lower[rest], upper[rest])
        polished, well = _active_set(G, a[rest], lower[rest], upper[rest], start)
        found = found.clone()
        found[rest] = torch.where(well[:, None], polished, start)
    _check(G, a, lower, upper, found)
    return found


def _check(G: Tensor, a: Tensor, lower: Tensor, upper: Tensor, found: Tensor) -> None:
    size = a.abs()
    for bound in (lower, upper):
        size = torch.maximum(size, bound.abs().where(bound.isfinite(), bound.new_zeros(())))
    off = beyond(a - found @ G, lower, upper).abs()
    if bool((off > _HELD * size.amax(-1, keepdim=True)).any()):
        sample, row = divmod(int(off.argmax()), a.shape[1])
        raise ConstraintError(
            f"no field holds all {a.shape[1]} linear conditions: number {row} stays off by "
            f"{float(off.max()):.4g} (expected {float(lower[sample, row]):.6g} to "
            f"{float(upper[sample, row]):.6g}) when the others hold. They contradict each other, "
            "or bind cells that may not vary. Leave one out or widen its bounds."
        )


def _active_set(
    G: Tensor, a: Tensor, lower: Tensor, upper: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the multipliers and for which samples the set of active bounds settled."""
    diagonal, equal = G.diagonal(), lower == upper
    found, before = start, None
    settled = torch.zeros(len(a), dtype=torch.bool, device=a.device)
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
    return found, settled


def _solve(G: Tensor, active: Tensor, target: Tensor) -> Tensor:
    """Return the multipliers of active bounds, the others 0; one factorization for each set."""
    found = torch.zeros_like(target)
    patterns, which = torch.unique(active, dim=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = torch.nonzero(which == number).flatten()
        on = torch.nonzero(pattern).flatten()
        if not len(on):
            continue
        part, right = G[on][:, on], target[rows][:, on].mT
        factor, bad = torch.linalg.cholesky_ex(part)
        pivots = factor.diagonal()
        if bool(bad) or bool(pivots.min() < 1e-7 * pivots.max()):
            solved = torch.linalg.pinv(part, hermitian=True, rtol=1e-12) @ right
        else:
            solved = torch.cholesky_solve(right, factor)
        found[rows[:, None], on] = solved.mT
    return found


def _hildreth(G: Tensor, a: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return multipliers by coordinate ascent of the dual, cyclically."""
    found, value = torch.zeros_like(a), a.clone()
    diagonal = G.diagonal()
    for _ in range(_SWEEPS):
        moved = 0.0
        for j in torch.nonzero(diagonal > 0).flatten().tolist():
            free = value[:, j] + diagonal[j] * found[:, j]
            best = beyond(free, lower[:, j], upper[:, j]) / diagonal[j]
            step = best - found[:, j]
            found[:, j] = best
            value = value - step[:, None] * G[j]
            moved = max(moved, float(step.abs().max() * diagonal[j]))
        if moved <= 1e-13 * float(a.abs().max()):
            break
    return found
