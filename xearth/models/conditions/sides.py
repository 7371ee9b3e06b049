r"""Which cells are on which side of a threshold, where conditions are to hold together.

An order statistic holds if enough of a group, by weight, is *over* one level and enough *under*
another. Once it is fixed which cells these are, it is a range of each cell, and with convex
conditions the nearest field is a convex problem. The cells are chosen by a mixed-integer linear
program,

.. math:: \min \sum_i o_i\, (l - y_i)_+^2 + u_i\, (y_i - h)_+^2, \quad
   \sum_i w_i o_i \ge \beta, \quad \sum_i w_i u_i \ge \alpha, \quad o, u \in \{0, 1\},

which knows of the bounds of single cells and of orders: with :math:`y_i \le y_j` a cell i over a
level takes j along. It does not know of sums, so that what it chooses may hold with no field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .extremes import Exceedance, Maximum, Quantile, _Ordered
from .linear import Linear
from .ordered import Monotone, Ordering
from .protocol import Condition
from .ranges import Range

__all__ = ["sided"]

#: Cells of ordered groups, at most; seconds; and how far beyond a threshold cells are put, of the
#: largest cell, so that rounding does not bring them back.
_CELLS, _SECONDS, _MARGIN = 20_000, 5.0, 1e-6
_SURELY = 1e-5


@dataclass(frozen=True, eq=False)
class _Side:
    """Cells of the groups of a condition that may be over (or under) a level."""

    cell: np.ndarray  # (e,)
    group: np.ndarray  # (e,)
    share: np.ndarray  # (e,)
    level: np.ndarray  # (e,)
    need: np.ndarray  # (m,) of the share
    over: bool

    def cost(self, y: np.ndarray, box: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return the squared way of each cell, inf where its bounds do not let it."""
        away = self.level - y[self.cell] if self.over else y[self.cell] - self.level
        low, high = box[0][self.cell], box[1][self.cell]
        barred = high < self.level if self.over else low > self.level
        return np.where(barred, np.inf, np.maximum(away, 0.0) ** 2)


def sided(parts: Sequence[Condition], y: Tensor) -> tuple[Condition, ...] | None:
    """Return the conditions with ranges of cells in place of order statistics, about one field.

    None where there are none, other conditions are not convex, or no choice of cells was found.

    Parameters
    ----------
    parts : sequence of Condition
    y : Tensor (1, T, H, W, C)
        Which the convex ones of the conditions hold.

    Examples
    --------
    >>> from .linear import points
    >>> from .rows import Rows
    >>> half = Exceedance(Rows.over(torch.ones(1, 1, 2, 1), frames=True), threshold=5.0,
    ...                   lower=0.5, upper=0.5)
    >>> gauge = points((1, 1, 2, 1), torch.tensor([[0, 0, 0, 0]]), torch.tensor([4.0]))
    >>> y = torch.tensor([4.0, 1.0]).reshape(1, 1, 1, 2, 1)
    >>> sided([half, gauge], y)[0].lower.flatten().tolist()  # the gauge is under: the other over
    [-inf, 5.000004]
    """
    ordered = [p for p in parts if isinstance(p, _Ordered) and not p.convex]
    if not ordered or not all(p.convex or p in ordered for p in parts) or bool(y.isnan().any()):
        return None
    if sum(len(p.rows.entries[0]) for p in ordered) > _CELLS:
        return None
    per_part = [_wanted(part, y) for part in ordered]
    chosen = _chosen([side for sides in per_part for side in sides], parts, y)
    if chosen is None:
        return None
    like = [part for part in parts if part not in ordered]
    ranges = list[Condition]()
    for part, sides in zip(ordered, per_part, strict=True):
        ranges.append(_range(part.name, sides, [chosen.pop(0) for _ in sides], y))
    return (*ranges, *like)


def _wanted(part: _Ordered, y: Tensor) -> list[_Side]:
    """Return how much of each group is to be over and under which level."""
    group, cell, weight = (one.numpy() for one in part.rows.entries)
    total = np.bincount(group, weight)
    lower, upper = (end.expand(len(total)).numpy() for end in part.bounds(torch.empty(0)))
    share, margin = weight / total[group], _MARGIN * float(y.abs().max())
    if isinstance(part, Exceedance):
        line = np.full(len(total), part.threshold)
        wanted = [(line + margin, lower, True), (line - margin, 1.0 - upper, False)]
    elif isinstance(part, Quantile):
        wanted = [(lower, np.full(len(total), 1.0 - part.q + _SURELY), True)]
        wanted.append((upper, np.full(len(total), part.q), False))
    elif isinstance(part, Maximum):
        least = np.full(len(total), np.inf)
        np.minimum.at(least, group, share)
        wanted = [(lower, least, True), (upper, np.full(len(total), 1.0 - _SURELY * least), False)]
    else:
        return []
    return [
        _Side(cell, group, share, level[group], need, over)
        for level, need, over in wanted
        if np.isfinite(level).any()
    ]


def _chosen(
    sides: Sequence[_Side], parts: Sequence[Condition], y: Tensor
) -> list[np.ndarray] | None:
    """Return which cells of each side are chosen, bool (e,)."""
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    box, field = _box(parts, y), y.flatten().double().numpy()
    cost = np.concatenate([side.cost(field, box) for side in sides])
    starts = np.cumsum([0, *(len(side.cell) for side in sides)])
    blocks, least = list[sparse.csr_array](), list[np.ndarray]()
    for start, side in zip(starts, sides, strict=False):
        at = (side.group, start + np.arange(len(side.cell)))
        blocks.append(sparse.csr_array((side.share, at), shape=(len(side.need), len(cost))))
        least.append(np.where(np.isfinite(side.need), side.need, -np.inf))
    pairs = _links(sides, starts, parts, y)
    if len(pairs):  # the first is chosen only if the second is
        row = np.arange(len(pairs))
        shape = (len(pairs), len(cost))
        ahead = sparse.csr_array((np.ones(len(pairs)), (row, pairs[:, 1])), shape=shape)
        blocks.append(ahead - sparse.csr_array((np.ones(len(pairs)), (row, pairs[:, 0])), shape))
        least.append(np.zeros(len(pairs)))
    both = _apart(sides, starts)
    if len(both):  # not both
        row = np.repeat(np.arange(len(both)), 2)
        shape = (len(both), len(cost))
        blocks.append(sparse.csr_array((-np.ones(2 * len(both)), (row, both.flatten())), shape))
        least.append(-np.ones(len(both)))
    open_ = np.isfinite(cost)
    found = milp(
        np.where(open_, cost, 0.0) / max(float(cost[open_].max(initial=0.0)), 1e-300),
        integrality=np.ones(len(cost)),
        bounds=Bounds(0, open_.astype(float)),
        constraints=LinearConstraint(sparse.vstack(blocks).tocsr(), np.concatenate(least), np.inf),
        options={"time_limit": _SECONDS},
    )
    if found.x is None:
        return None
    return np.split(found.x > 0.5, starts[1:-1])


def _box(parts: Sequence[Condition], y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of single cells, (n,)."""
    low, high = np.full(y.numel(), -np.inf), np.full(y.numel(), np.inf)
    for part in parts:
        if isinstance(part, Range):
            least, most = (end.expand_as(y).flatten().numpy() for end in part.box(y))
            low, high = np.maximum(low, least), np.minimum(high, most)
        elif isinstance(part, Linear):
            group, cell, weight = (one.numpy() for one in part.rows.entries)
            alone = np.bincount(group)[group] == 1
            ends = [end.reshape(-1).expand(len(part.rows)) for end in part.bounds(y)]
            least, most = (end.numpy()[group] / weight for end in ends)
            least, most = np.minimum(least, most), np.maximum(least, most)
            np.maximum.at(low, cell[alone], least[alone])
            np.minimum.at(high, cell[alone], most[alone])
    return low, high


def _links(
    sides: Sequence[_Side], starts: np.ndarray, parts: Sequence[Condition], y: Tensor
) -> np.ndarray:
    """Return pairs of choices by orders, (p, 2): the first takes the second along."""
    index, found = torch.arange(y.numel()).reshape(y.shape), list[np.ndarray]()
    for part in parts:
        if not isinstance(part, Monotone | Ordering):
            continue
        chain = part._sequences(index).abs().flatten(0, -2).numpy()
        chain = chain[:, ::-1] if getattr(part, "sign", 1) < 0 else chain
        before, after = chain[:, :-1].flatten(), chain[:, 1:].flatten()
        for start, side in zip(starts, sides, strict=False):
            place = np.full(y.numel(), -1)
            place[side.cell] = np.arange(len(side.cell))
            one, two = (before, after) if side.over else (after, before)
            pair = np.stack([place[one], place[two]], 1)
            pair = pair[(pair >= 0).all(1)]
            ahead = side.level[pair[:, 0]] - side.level[pair[:, 1]]
            found.append(start + pair[ahead >= 0 if side.over else ahead <= 0])
    return np.concatenate(found) if found else np.zeros((0, 2), dtype=int)


def _apart(sides: Sequence[_Side], starts: np.ndarray) -> np.ndarray:
    """Return pairs of choices for one cell that exclude each other, (p, 2)."""
    found = [np.zeros((0, 2), dtype=int)]
    for a, over in enumerate(sides):
        for b, under in enumerate(sides):
            if not over.over or under.over:
                continue
            _, i, j = np.intersect1d(over.cell, under.cell, return_indices=True)
            no = over.level[i] > under.level[j]
            found.append(np.stack([starts[a] + i[no], starts[b] + j[no]], 1))
    return np.concatenate(found)


def _range(name: str, sides: Sequence[_Side], chosen: Sequence[np.ndarray], y: Tensor) -> Range:
    """Return the range of each cell by the side it was chosen for."""
    low, high = np.full(y.numel(), -np.inf), np.full(y.numel(), np.inf)
    for side, on in zip(sides, chosen, strict=True):
        end = low if side.over else high
        end[side.cell[on]] = side.level[on]
    ends = (torch.from_numpy(end).reshape(y.shape[1:]) for end in (low, high))
    lower, upper = ends
    return Range(lower=lower, upper=upper, name=name)
