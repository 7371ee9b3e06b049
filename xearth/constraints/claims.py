r"""What a condition says of the cells of a field, as rows of a linear program.

The unknowns are the cells :math:`y_i` of the flattened field and, for each transform :math:`g` of a
transformed mean, their images :math:`z_i = g(y_i)`. As :math:`g` rises, a range :math:`l \le y_i
\le u` is :math:`g(l) \le z_i \le g(u)`, and what is in order in :math:`y` is so in :math:`z`. A
mean of :math:`z` leaves that of cells of at least 0 a least value, by Jensen's inequality for the
least concave function above :math:`g`. That :math:`z_i` belongs to :math:`y_i` beyond that is left
out: the program knows of fewer contradictions than there are, and of none that is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .compiled_kinds import Part

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ..models.conditions.extremes import Exceedance, Maximum, Quantile
    from ..models.conditions.ordered import Monotone, Ordering
    from ..models.conditions.protocol import Bounded, Condition
    from ..models.conditions.ranges import Range
    from ..models.conditions.rows import Rows
    from ..models.conditions.transformed import Transform

__all__ = ["Claim", "claim_of", "lifted"]

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.intp]


_SURELY = 2e-9  # of a part of an area: that it is more


@dataclass(frozen=True, eq=False)
class Claim:
    """What a condition says of ``n`` unknowns.

    Parameters
    ----------
    n : int
    sums : csr_array (m, n), optional
        Of which ``lower`` and ``upper`` (m,) are bounds.
    low, high : arrays (n,), optional
        Ranges of the unknowns.
    shares : tuple of (threshold, least, most), each (m,)
        Of each sum, the part of its weight whose unknowns are at or above the threshold lies
        between.
    before, after : int arrays (e,), optional
        Pairs of unknowns, the first not above the second.
    transform : Transform, optional
        Of the unknowns of the sums.
    least : array (m,), optional
        Lower bounds of the sums whose unknowns are all at least 0.
    """

    n: int
    sums: csr_array | None = None
    lower: Floats | None = None
    upper: Floats | None = None
    low: Floats | None = None
    high: Floats | None = None
    shares: tuple[tuple[Floats, Floats, Floats], ...] = ()
    before: Cells | None = None
    after: Cells | None = None
    transform: Transform | None = None
    least: Floats | None = None


def claim_of(condition: Condition, shape: tuple[int, ...]) -> Claim | None:
    """Return what is judged of a condition on fields (T, H, W, C), None if nothing is."""
    from ..models.conditions.extremes import Exceedance, Maximum, Quantile
    from ..models.conditions.linear import Linear
    from ..models.conditions.ordered import Monotone, Ordering
    from ..models.conditions.ranges import Range
    from ..models.conditions.scaled import Scaled
    from ..models.conditions.transformed import TransformedMean

    if isinstance(condition, Range):
        return _ranged(condition, shape)
    inner = condition.condition if isinstance(condition, Part) else condition
    if isinstance(inner, Monotone | Ordering):
        return _ordered(inner, condition, shape)
    if isinstance(condition, Linear | Scaled | TransformedMean):
        sums, (lower, upper) = _sums(condition.rows), _ends(condition)
        transform = condition.transform if isinstance(condition, TransformedMean) else None
        found = Claim(sums.shape[1], sums, lower, upper, transform=transform)
        return found if condition.exact else None
    if isinstance(condition, Maximum | Quantile | Exceedance):
        return _shared(condition)
    return None


def _shared(condition: Maximum | Quantile | Exceedance) -> Claim:
    """Return what is said of parts of areas."""
    from ..models.conditions.extremes import Exceedance, Quantile

    m, (lower, upper) = len(condition.rows), _ends(condition)
    sums, ones, none = _sums(condition.rows.mean()), np.ones(m), np.zeros(m)
    if isinstance(condition, Exceedance):
        threshold = np.full(m, condition.threshold)
        return Claim(sums.shape[1], sums, shares=((threshold, lower, upper),))
    if isinstance(condition, Quantile):
        part = np.full(m, 1.0 - condition.q)
        # more than this part is at or above the lower bound, and at most this above the upper one
        below = lower, np.minimum(part + _SURELY, 1.0), ones
        above = np.nextafter(upper, np.inf), none, part
        return Claim(sums.shape[1], sums, shares=(below, above))
    high = np.full(sums.shape[1], np.inf)
    row, cell = (part.numpy() for part in condition.rows.entries[:2])
    high[cell] = upper[row]
    least = np.array([sums[[j]].data.min() for j in range(m)])
    return Claim(sums.shape[1], sums, high=high, shares=((lower, least, ones),))


def _ends(condition: Bounded) -> tuple[Floats, Floats]:
    """Return both bounds of each sum, (m,)."""
    m, weights = len(condition.rows), condition.rows.weights  # type: ignore[attr-defined]
    lower, upper = (np.broadcast_to(b.numpy(), (m,)) for b in condition.bounds(weights))
    return lower, upper


def _sums(rows: Rows) -> csr_array:
    from scipy import sparse

    row, cell, weight = (part.numpy() for part in rows.entries)
    return sparse.csr_array((weight, (row, cell)), shape=(len(rows), rows.shape.numel()))


def _ranged(condition: Range, shape: tuple[int, ...]) -> Claim:
    where = True if condition.where is None else condition.where.numpy()
    low, high = (b.numpy() for b in condition.bounds(condition.lower))  # type: ignore[arg-type]
    low, high = np.where(where, low, -np.inf), np.where(where, high, np.inf)
    low, high = (np.broadcast_to(b, shape).ravel() for b in (low, high))
    return Claim(int(np.prod(shape)), low=low, high=high)


def _ordered(inner: Monotone | Ordering, whole: Condition, shape: tuple[int, ...]) -> Claim:
    """Return pairs of cells that follow each other; those that are left out are passed over."""
    from ..models.conditions.ordered import Ordering

    cells = np.arange(int(np.prod(shape))).reshape(shape)
    has: npt.NDArray[np.bool_] = np.ones(shape, dtype=bool)
    if isinstance(whole, Part):
        cells = cells[..., np.asarray(whole.channels)]
        has = np.broadcast_to(whole.where.numpy(), cells.shape)
    axis = 0
    if isinstance(inner, Ordering):
        axis, channels = -1, np.asarray(inner.channels)
        cells, has = cells[..., channels], has[..., channels]
    chains = (np.moveaxis(a, axis, -1).reshape(-1, a.shape[axis]) for a in (cells, has))
    chain, valid = chains
    number = np.nonzero(valid)[0]
    inside = chain[valid]
    same = number[1:] == number[:-1]
    pair = inside[:-1][same], inside[1:][same]
    before, after = pair if getattr(inner, "sign", 1) > 0 else pair[::-1]
    return Claim(int(np.prod(shape)), before=before, after=after)


def lifted(claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims on the cells and on their images by each transform that occurs."""
    from scipy import sparse

    spaces = list(dict.fromkeys(c.transform for c in claims if c.transform is not None))
    if not spaces:
        return list(claims)
    found, n = [], claims[0].n
    whole = n * (len(spaces) + 1)
    for claim in claims:
        at = 0 if claim.transform is None else n * (1 + spaces.index(claim.transform))
        low, high, sums = claim.low, claim.high, claim.sums
        if sums is not None:
            place = (sums.data, sums.indices + at, sums.indptr)
            sums = sparse.csr_array(place, shape=(sums.shape[0], whole))
        low = None if low is None else np.concatenate([low, *(_image(g, low) for g in spaces)])
        high = None if high is None else np.concatenate([high, *(_image(g, high) for g in spaces)])
        if claim.transform is not None:
            low = np.full(whole, -np.inf)
            low[at : at + n] = claim.transform.floor
        before, after = (
            None if e is None else np.concatenate([e + k * n for k in range(len(spaces) + 1)])
            for e in (claim.before, claim.after)
        )
        moved = replace(claim, n=whole, sums=sums, low=low, high=high, transform=None)
        found.append(_with_least(replace(moved, before=before, after=after), claim))
    return found


def _with_least(moved: Claim, claim: Claim) -> Claim:
    """Return a claim on transformed means that also tells the means of the cells themselves."""
    import torch
    from scipy import sparse

    if claim.transform is None or claim.sums is None or claim.lower is None:
        return moved
    own = (claim.sums.data, claim.sums.indices, claim.sums.indptr)
    m, size = len(claim.lower), np.asarray(claim.sums.sum(1)).ravel()
    least = claim.transform.least_mean(torch.from_numpy(claim.lower / size)).numpy() * size
    free = np.full(m, np.inf)
    return replace(
        moved,
        sums=sparse.vstack([moved.sums, sparse.csr_array(own, shape=(m, moved.n))], format="csr"),
        lower=np.concatenate([claim.lower, -free]),
        upper=np.concatenate([claim.upper, free]),
        least=np.concatenate([-free, least]),
    )


def _image(transform: Transform, ends: Floats) -> Floats:
    """Return transformed ends of ranges."""
    import torch

    values, back = np.unique(ends, return_inverse=True)
    return np.asarray(transform.forward(torch.from_numpy(values)).numpy()[back])
