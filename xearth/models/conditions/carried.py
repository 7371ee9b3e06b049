r"""Conditions on transformed cells.

A transform :math:`z = g(y)` that rises keeps the order of cells: what is in order, below a bound or
does not fall is so in :math:`z` too, and a mean of :math:`g` is a plain mean there. A transformed
mean beside orders and ranges is so a convex problem, in another space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .extremes import Maximum
from .linear import Linear
from .ordered import Monotone, Ordering
from .protocol import Condition
from .ranges import Range
from .transformed import Transform, TransformedMean

__all__ = ["carried", "restored"]


def carried(
    parts: Sequence[Condition], y: Tensor
) -> tuple[Transform, tuple[Condition, ...]] | None:
    """Return the one transform of the parts and all of them as conditions on transformed cells.

    None where two transforms meet, or there is a part that is no such condition. The cells of a
    transformed mean that are dry in ``y`` (1, T, H, W, C) stay so.

    Examples
    --------
    >>> from .rows import Rows
    >>> from .transformed import Decibel
    >>> mean = Rows.over(torch.ones(1, 1, 2, 1), frames=True).mean()
    >>> loud = TransformedMean(mean, transform=Decibel(0.1), lower=4.0, upper=4.0)
    >>> _, there = carried([loud, Range(upper=10.0)], torch.ones(1, 1, 1, 2, 1))
    >>> [type(part).__name__ for part in there]
    ['Linear', 'Range', 'Range']
    """
    transforms = [part.transform for part in parts if isinstance(part, TransformedMean)]
    if not transforms or any(one != transforms[0] for one in transforms):
        return None
    transform, there = transforms[0], list[Condition]()
    for part in parts:
        if isinstance(part, TransformedMean):
            mean = Linear(part.rows, lower=part.lower, upper=part.upper, name=part.name)
            there.extend((mean, _kept_dry(part, y)))
        elif isinstance(part, Monotone | Ordering) and getattr(part, "sign", 1) == 1:
            there.append(part)
        elif isinstance(part, Range):
            low, high = (_ended(transform, end) for end in part.bounds(torch.empty(0)))
            there.append(Range(lower=low, upper=high, where=part.where, name=part.name))
        elif isinstance(part, Maximum) and part.convex:
            high = _ended(transform, part.bounds(torch.empty(0))[1])
            there.append(Maximum(part.rows, upper=high, name=part.name))
        else:
            return None
    return transform, tuple(there)


def _kept_dry(part: TransformedMean, y: Tensor) -> Range:
    """Return the range in which dry cells of the mean stay dry and no cell is below the floor."""
    cells = part.rows.cells.reshape(part.rows.shape)
    dry = cells & (y[0].cpu() <= part.transform.dry)
    floor = torch.tensor(part.transform.floor, dtype=torch.float64)
    high = torch.where(dry, floor, torch.inf)
    return Range(lower=floor, upper=high, name=part.name)


def _ended(transform: Transform, end: Tensor) -> Tensor:
    return torch.where(end.isfinite(), transform.forward(end), end)


def restored(transform: Transform, z: Tensor, y: Tensor) -> Tensor:
    """Return the fields of transformed cells; those at the floor are as dry as in ``y``."""
    dry = torch.minimum(y, y.new_tensor(transform.dry))
    return torch.where(z > transform.floor, transform.inverse(z), dry)
