r"""The nearest cells between bounds that have a given weighted sum.

.. math:: y'_i(\lambda) = \min(\max(y_i - \lambda w_i, l_i), u_i), \qquad
   f(\lambda) = \sum_i w_i\, y'_i(\lambda) = b .

:math:`f` is continuous, piecewise linear and falls, so Newton steps within a bracket end at the
root after finitely many of them; with :math:`l = 0, u = \infty` this is the projection on a
simplex. Exact, float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ConstraintError

__all__ = ["CACHE", "fill"]

#: Cells of the rows to fill at once: what stays in the cache of one core.
CACHE = 2**17

_STEPS = 200
_CLOSE = 1e-13


def fill(
    cells: Tensor,
    weights: Tensor,
    box: tuple[Tensor, Tensor],
    target: Tensor,
    name: str,
    *,
    along: Tensor | None = None,
) -> Tensor:
    """Return the nearest cells within a box with the weighted sums of the target.

    Parameters
    ----------
    cells : Tensor, float64 (R, k)
    weights : Tensor, float64 (R, k)
        0 where a row is padded.
    box : pair of Tensor, float64 (R, k)
    target : Tensor, float64 (R,)
    name : str
        Of the condition, for errors.
    along : Tensor, float64 (R, k), optional
        How far each cell moves in place of w, of the same sign or 0: a common shift, say.

    Raises
    ------
    ConstraintError
        A sum that no cells within the box have.

    Examples
    --------
    >>> one = torch.ones(1, 3, dtype=torch.float64)
    >>> cells = torch.tensor([[0.0, 1.0, 5.0]], dtype=torch.float64)
    >>> fill(cells, one, (one * 0, one * torch.inf), one[:, 0] * 3, "total").tolist()
    [[0.0, 0.0, 3.0]]
    """
    low, high = box
    size = torch.einsum("rk,rk->r", cells.clamp(low, high).abs(), weights.abs())
    size = torch.maximum(size, target.abs())
    _check(weights, box, target, size, name)
    along = weights if along is None else along
    shift = _root(cells, (weights, along), box, target, size)
    return (cells - shift[:, None] * along).clamp(low, high)


def _check(
    weights: Tensor, box: tuple[Tensor, Tensor], target: Tensor, size: Tensor, name: str
) -> None:
    zero = weights.new_zeros(())
    least = torch.where(weights == 0, zero, torch.where(weights > 0, *box) * weights).sum(-1)
    most = torch.where(weights == 0, zero, torch.where(weights > 0, *box[::-1]) * weights).sum(-1)
    slack = 1e-9 * size
    if bool(((target < least - slack) | (target > most + slack)).any()):
        at = int(torch.maximum(least - target, target - most).argmax())
        raise ConstraintError(
            f"{name}: {float(target[at]):.6g} cannot hold with the range of the cells, within "
            f"which it is {float(least[at]):.6g} to {float(most[at]):.6g}. Change one of the two."
        )


def _root(
    cells: Tensor,
    moves: tuple[Tensor, Tensor],
    box: tuple[Tensor, Tensor],
    target: Tensor,
    size: Tensor,
) -> Tensor:
    """Return the shift of each row, (R,)."""
    (low, high), (weights, along) = box, moves
    shift = torch.zeros_like(target)
    left, right = torch.full_like(shift, -torch.inf), torch.full_like(shift, torch.inf)
    for _ in range(_STEPS):
        moved = cells - shift[:, None] * along
        kept = moved.clamp(low, high)
        excess = (kept * weights).sum(-1) - target
        far = excess.abs() > _CLOSE * size
        if not bool(far.any()):
            break
        inside = (kept == moved) & (moved != low) & (moved != high)
        slope = (weights * along * inside).sum(-1)
        left = torch.where(excess > 0, torch.maximum(left, shift), left)
        right = torch.where(excess < 0, torch.minimum(right, shift), right)
        step = shift + excess / slope
        good = (slope > 0) & (step > left) & (step < right)
        if bool((far & ~good).any()):
            middle = torch.where((right - left).isfinite(), (left + right) / 2, torch.nan)
            up, down = (_next(cells, w, box, at) for w, at in ((along, shift), (-along, -shift)))
            middle = torch.where(middle.isnan(), torch.where(excess > 0, up, -down), middle)
            step = torch.where(good, step, middle)
        shift = torch.where(far, step, shift)
    return shift


def _next(cells: Tensor, along: Tensor, box: tuple[Tensor, Tensor], at: Tensor) -> Tensor:
    """Return the first shift beyond ``at`` where a cell begins to move: there f falls again."""
    edge = torch.where(along > 0, box[1], box[0])
    starts = torch.where(along != 0, (cells - edge) / along, torch.inf)
    starts = torch.where(starts > at[:, None], starts, torch.inf).amin(-1)
    return torch.where(starts.isfinite(), starts + (1e-9 * starts.abs() + 1e-300), at + 1.0)
