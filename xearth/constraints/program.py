r"""A linear program that tells whether some field holds all claims.

.. math:: \exists\, y: \quad b \le A y \le c, \quad l \le y \le u, \quad y_i \le y_j
   \textrm{ for pairs } (i, j) .

Unknowns that orders connect are a chain. Chains of one shape, with the same ranges, whose columns
of :math:`A` are multiples of each other, are one chain: if a field holds all claims, so does the
one with their weighted mean in each of them. So fields of any size make small programs, unless
every cell has a bound of its own.

A program of more than 20,000 unknowns is not solved. Instead ranges are carried through it: a row
leaves each of its unknowns what the ranges of the others leave of its bounds. A range that becomes
empty is a contradiction; others of so large a program are left to the projection, which is slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .claims import Cells, Claim, Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["merged", "possible"]

_SAME = 1e-9  # of a part of an area
_SLACK = 1e-7  # of the largest bound: rounding of what was asked for
_INFEASIBLE = 2  # of linprog
#: Unknowns of the largest program that is solved, seconds after which it is left undecided, and
#: how often ranges are carried through a larger one.
_MOST, _PATIENCE, _SWEEPS = 20_000, 5.0, 4


def possible(claims: Sequence[Claim]) -> bool:
    """Tell whether some field holds all claims, as far as is judged."""
    low, high = _within(claims)
    if (low > high).any() or not _nested(claims):
        return False
    rows: list[csr_array] = []
    ends: list[Floats] = []
    for claim in claims:
        if claim.sums is None:
            continue
        if claim.lower is not None and claim.upper is not None:
            rows.append(claim.sums)
            lower = claim.lower if claim.least is None else _raised(claim.sums, claim.least, low)
            ends.append(np.stack([np.maximum(lower, claim.lower), claim.upper], -1))
        for share in claim.shares:
            implied = _implied(claim.sums, share, low, high)
            if implied is None:
                return False
            rows.append(claim.sums)
            ends.append(implied)
    if not rows:
        return True
    A, bounds, unit = _scaled(rows, np.concatenate(ends))
    judge = _solvable if low.size <= _MOST else _reachable
    return judge(A, bounds, _pairs(claims), low / unit, high / unit)


def _within(claims: Sequence[Claim]) -> tuple[Floats, Floats]:
    """Return the ranges (n,) of the unknowns, carried along orders."""
    low, high = np.full(claims[0].n, -np.inf), np.full(claims[0].n, np.inf)
    for claim in claims:
        low = low if claim.low is None else np.maximum(low, claim.low)
        high = high if claim.high is None else np.minimum(high, claim.high)
    _carry(_pairs(claims), low, high)
    return low, high


def _raised(sums: csr_array, least: Floats, low: Floats) -> Floats:
    """Return the least values (m,) of sums that none of their unknowns can be below 0 in."""
    below = (sums != 0) @ (low < 0).astype(np.float64)
    return np.where(below > 0, -np.inf, least)


def _pairs(claims: Sequence[Claim]) -> list[tuple[Cells, Cells]]:
    return [(c.before, c.after) for c in claims if c.before is not None and c.after is not None]


def _carry(pairs: Sequence[tuple[Cells, Cells]], low: Floats, high: Floats) -> None:
    """Carry ranges along orders, in place, until they do not change."""
    moved = bool(pairs)
    while moved:
        was = low.copy(), high.copy()
        for before, after in pairs:
            np.maximum.at(low, after, low[before])
            np.minimum.at(high, before, high[after])
        moved = bool((low > was[0]).any() or (high < was[1]).any())


def _nested(claims: Sequence[Claim]) -> bool:
    """Tell whether no more of an area is above a threshold than above a lower one."""
    told: dict[tuple[bytes, bytes], list[tuple[float, float, float]]] = {}
    for claim in claims:
        if claim.sums is None or not claim.shares:
            continue
        for j in range(claim.sums.shape[0]):
            row = claim.sums[[j]]
            row.sort_indices()
            place = row.indices.astype(np.int64).tobytes(), row.data.round(9).tobytes()
            told.setdefault(place, []).extend(
                (float(threshold[j]), float(least[j]), float(most[j]))
                for threshold, least, most in claim.shares
            )
    return not any(
        lower <= threshold and most < least - _SAME
        for parts in told.values()
        for threshold, least, _ in parts
        for lower, _, most in parts
    )


def _implied(
    sums: csr_array, share: tuple[Floats, Floats, Floats], low: Floats, high: Floats
) -> Floats | None:
    """Return bounds (m, 2) of means that parts of areas imply, None if the parts cannot be."""
    found = np.full((sums.shape[0], 2), [-np.inf, np.inf])
    for j, (threshold, least, most) in enumerate(zip(*share, strict=True)):
        if not np.isfinite(threshold):
            continue
        at = slice(sums.indptr[j], sums.indptr[j + 1])
        cells, w = sums.indices[at], sums.data[at]
        may, must = w[high[cells] >= threshold].sum(), w[low[cells] > threshold].sum()
        if least > may + _SAME or most < must - _SAME:
            return None
        bottom, top = low[cells].min(), high[cells].max()
        part, rest = max(least, 0.0), max(1 - most, 0.0)
        found[j, 0] = part * threshold + (1 - part) * bottom if part < 1 else threshold
        found[j, 1] = (1 - rest) * top + rest * threshold if rest < 1 else threshold
    return found


def _scaled(rows: Sequence[csr_array], ends: Floats) -> tuple[csr_array, Floats, float]:
    """Return rows of weights that add up to 1, their bounds (m, 2) with slack, and the unit."""
    from scipy import sparse

    A = sparse.vstack(rows).tocsr()
    size = _sizes(A)
    A, ends = (sparse.diags_array(1 / size) @ A).tocsr(), ends / size[:, None]
    unit = float(np.abs(ends[np.isfinite(ends)]).max(initial=0.0)) or 1.0
    return A, ends / unit + [-_SLACK, _SLACK], unit


def _solvable(
    A: csr_array, ends: Floats, pairs: Sequence[tuple[Cells, Cells]], low: Floats, high: Floats
) -> bool:
    """Tell whether a linear program has a solution."""
    from scipy import optimize, sparse

    above, below = np.isfinite(ends[:, 1]), np.isfinite(ends[:, 0])
    blocks, most = [A[above], -A[below]], [ends[above, 1], -ends[below, 0]]
    for before, after in pairs:
        row, one = np.arange(len(before)), np.ones(len(before))
        at = np.concatenate([row, row]), np.concatenate([before, after])
        entries = np.concatenate([one, -one])
        blocks.append(sparse.csr_array((entries, at), shape=(len(before), A.shape[1])))
        most.append(np.zeros(len(before)))
    stacked = sparse.vstack(blocks).tocsc()
    used = np.diff(stacked.indptr) > 0
    if not used.any():
        return True
    solved = optimize.linprog(
        np.zeros(used.sum()),
        A_ub=stacked[:, used],
        b_ub=np.concatenate(most),
        bounds=np.stack([low, high], -1)[used],
        options={"time_limit": _PATIENCE},
    )
    return bool(solved.status != _INFEASIBLE)


def _reachable(
    A: csr_array, ends: Floats, pairs: Sequence[tuple[Cells, Cells]], low: Floats, high: Floats
) -> bool:
    """Tell whether ranges stay, carried through rows and along orders; there may be no field."""
    low, high = low.copy(), high.copy()
    for _ in range(_SWEEPS):
        for sign, most in ((1.0, ends[:, 1]), (-1.0, -ends[:, 0])):
            _narrow(sign * A, most, low, high)
        _carry(pairs, low, high)
        if (low > high).any():
            return False
    return True


def _narrow(A: csr_array, most: Floats, low: Floats, high: Floats) -> None:
    """Narrow ranges, in place, to what rows with A y <= most leave each unknown."""
    m, cell, w = A.shape[0], A.indices, A.data
    row = np.repeat(np.arange(m), np.diff(A.indptr))
    least = w * np.where(w > 0, low[cell], high[cell])
    open_ = np.isinf(least)
    least[open_] = 0.0
    total, opens = np.bincount(row, least, m), np.bincount(row, open_, m)
    left = np.where(opens[row] == open_, most[row] - total[row] + least, np.inf) / w
    np.minimum.at(high, cell[w > 0], left[w > 0])
    np.maximum.at(low, cell[w < 0], left[w < 0])


def _sizes(rows: csr_array) -> Floats:
    """Return the sums of the absolute weights of rows, 1 where all are 0."""
    size = np.asarray(abs(rows).sum(1)).ravel()
    return np.where(size > 0, size, 1.0)


def merged(claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims on one chain in place of all that are alike."""
    from scipy import sparse

    n = claims[0].n
    chain, place = _chains(claims, n)
    number = _alike(claims, chain, place)
    _, first, kind = np.unique(number, return_index=True, return_inverse=True)
    length = np.bincount(chain)[first]
    start = np.cumsum(length) - length
    atom = start[kind[chain]] + place
    kept = np.zeros(len(number), dtype=bool)
    kept[first] = True
    count = int(length.sum())
    cells = np.zeros(count, dtype=np.intp)
    cells[atom[kept[chain]]] = np.flatnonzero(kept[chain])
    found = []
    for claim in claims:
        sums, before, after = claim.sums, claim.before, claim.after
        if sums is not None:
            entries = sums.data, atom[sums.indices], sums.indptr
            sums = sparse.csr_array(entries, shape=(sums.shape[0], count), copy=True)
            sums.sum_duplicates()
        if before is not None and after is not None:
            some = kept[chain[before]]
            before, after = atom[before[some]], atom[after[some]]
        low, high = (None if e is None else e[cells] for e in (claim.low, claim.high))
        alike = replace(claim, n=count, sums=sums, low=low, high=high)
        found.append(replace(alike, before=before, after=after))
    return found


def _chains(claims: Sequence[Claim], n: int) -> tuple[Cells, Cells]:
    """Return the number of the chain of each unknown, and its place in that."""
    from scipy import sparse

    pairs = [(c.before, c.after) for c in claims if c.before is not None]
    if not pairs:
        return np.arange(n), np.zeros(n, dtype=np.intp)
    before, after = (np.concatenate(side) for side in zip(*pairs, strict=True))
    links = sparse.coo_array((np.ones(len(before), dtype=bool), (before, after)), shape=(n, n))
    _, chain = sparse.csgraph.connected_components(links, directed=False)
    order = np.argsort(chain, kind="stable")
    length = np.bincount(chain)
    place = np.empty(n, dtype=np.intp)
    place[order] = np.arange(n) - np.repeat(np.cumsum(length) - length, length)
    return chain.astype(np.intp), place


def _alike(claims: Sequence[Claim], chain: Cells, place: Cells) -> npt.NDArray[np.int64]:
    """Return a number of each chain, the same for those that are alike."""
    from scipy import sparse

    rng = np.random.default_rng(0)
    spread = rng.standard_normal((6, int(place.max()) + 1))
    A = [c.sums for c in claims if c.sums is not None]
    marks: list[Floats] = []
    if A:
        rows = sparse.vstack(A).tocsr()
        rows = sparse.diags_array(1 / _sizes(rows)) @ rows
        size = np.bincount(chain, np.asarray(abs(rows).sum(0)).ravel())
        size[size == 0] = 1.0
        for k in range(2):
            seen = (rng.standard_normal(rows.shape[0]) @ rows) * spread[k][place]
            marks.append(np.bincount(chain, seen) / size)
    ranges = spread[2][place]
    for claim in claims:
        for ends in (claim.low, claim.high):
            if ends is not None:
                values, code = np.unique(ends, return_inverse=True)
                ranges = ranges + rng.standard_normal(len(values))[code] * spread[3][place]
    marks.append(np.bincount(chain, ranges).astype(np.float64))
    for claim in claims:
        if claim.before is not None and claim.after is not None:
            link = spread[4][place[claim.before]] * spread[5][place[claim.after]]
            own = rng.standard_normal()
            link = np.bincount(chain[claim.before], own * link, len(marks[-1]))
            marks.append(link.astype(np.float64))
    odd = rng.integers(2**62, size=len(marks), dtype=np.int64) * 2 + 1
    rounded = np.round(np.stack(marks) * 1e9).astype(np.int64)
    return np.asarray((rounded * odd[:, None]).sum(0))
