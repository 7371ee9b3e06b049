r"""The place of the truth among the members: ranks and intervals, as rows.

The truth has rank :math:`r = 1 + \#\{x_k < y\}` among M members; of a truth that equals members,
the :math:`\#\{x_k = y\} + 1` ranks it may have get an equal share each. A point where a member is
missing has other ranks and does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...errors import ConfigError
from ..block import Array, Block
from ..facts import ScoreFacts
from ..score import Score
from ..statistics import Mean, Term
from .parameters import Factory

__all__ = ["interval_coverage", "interval_width", "rank_flatness", "rank_histogram"]

_HAMILL = "Hamill (2001), Mon. Wea. Rev. 129, 550-560"
_DELLE_MONACHE = "Delle Monache et al. (2006), J. Geophys. Res. 111, D24307"


def complete(block: Block) -> Array:
    """Return the points with a truth and all members (n, S)."""
    return np.asarray(block.count == len(block.members))


def shares(block: Block) -> Array:
    """Return the share of each rank (n, S, M + 1)."""
    below, equal = _place(block)
    rank = np.arange(len(block.members) + 1)
    inside = (rank >= below[..., None]) & (rank <= (below + equal)[..., None])
    return np.where(inside, 1.0 / (equal + 1)[..., None], 0.0)


def _place(block: Block) -> tuple[Array, Array]:
    below = (block.deviation < 0).sum(axis=0)
    return below, (block.deviation == 0).sum(axis=0)


@dataclass(frozen=True)
class Ranks(Mean):
    """The share of each rank (..., rank), without an array of points times ranks."""

    term: Term = field(default=shares, compare=False)
    valid: Term = field(default=complete, compare=False)
    dims: tuple[str, ...] = ("rank",)

    def observe(self, block: Block, weights: Array) -> dict[str, Array]:
        """Return the state of every case: sum (n, R, M + 1) and weight (n, R)."""
        valid = self.valid(block)
        below, equal = _place(block)
        ranks = len(block.members) + 1
        case = np.arange(len(valid))[:, None] * ranks
        rows = []
        for row in weights:
            share = np.where(valid, row, 0.0)
            alone = equal == 0
            sums = np.bincount((case + below).ravel(), (share * alone).ravel(), ranks * len(valid))
            sums = sums.reshape(len(valid), ranks)
            for i, j in zip(*np.nonzero(valid & ~alone), strict=True):
                first, number = below[i, j], equal[i, j] + 1
                sums[i, first : first + number] += share[i, j] / number
            rows.append(sums)
        weight = valid.astype(np.float64) @ weights.T
        return {"sum": np.stack(rows, axis=1), "weight": weight}


def _histogram(members: int) -> Ranks:
    return Ranks(f"ranks {members}")


def rank_histogram(members: int) -> Score:
    """Return the rank histogram of an ensemble of so many members, as relative frequencies.

    Examples
    --------
    >>> rank_histogram(2).coords["rank"].tolist()
    [1, 2, 3]
    """
    statistic = _histogram(members)
    return Score(
        ScoreFacts(
            name="rank_histogram",
            long_name="relative frequency of the rank of the truth among the members",
            lower=0.0,
            upper=1.0,
            members=1,
            reference=_HAMILL,
        ),
        (statistic,),
        lambda found: found[statistic.name],
        coords={"rank": np.arange(1, members + 2)},
    )


def flatness(histogram: Array) -> Array:
    """Return the sum over the ranks (last axis) of the distance from equal frequencies."""
    return np.asarray(np.abs(histogram - 1.0 / histogram.shape[-1]).sum(axis=-1))


def rank_flatness(members: int) -> Score:
    """Return how far a rank histogram is from flat: the sum of the distances from 1 / (M + 1)."""
    statistic = _histogram(members)
    return Score(
        ScoreFacts(
            name="rank_flatness",
            long_name="distance of the rank histogram from a flat one",
            lower=0.0,
            upper=2.0,
            perfect=0.0,
            better="lower",
            members=1,
            reference=_DELLE_MONACHE,
        ),
        (statistic,),
        lambda found: flatness(found[statistic.name]),
    )


def check_levels(levels: tuple[float, ...], members: int) -> None:
    """Refuse intervals that an ensemble of so many members cannot have.

    Raises
    ------
    ConfigError
        A level outside of 0 .. 1, or wider than from the lowest to the highest member.
    """
    widest = (members - 1) / (members + 1)
    for level in levels:
        if not 0 < level < 1:
            raise ConfigError(f"levels must lie between 0 and 1; found {level}.")
        if level > widest + 1e-12:
            raise ConfigError(
                f"{members} members resolve central intervals up to {widest:.4g}: the truth of a "
                f"calibrated ensemble falls outside of all members more often than 1 - {level:g}. "
                f"Use levels up to {np.floor(widest * 1000) / 1000:g}, or more members."
            )


def _bounds(block: Block, level: float) -> tuple[Array, Array]:
    """Return the bounds of a central interval as deviations from the truth (n, S)."""
    members = len(block.members)
    bounds = []
    for probability in ((1 - level) / 2, (1 + level) / 2):
        # the k-th of M ordered members stands for the probability k / (M + 1)
        place = round(probability * (members + 1) - 1, 12)
        low = min(max(int(np.floor(place)), 0), members - 1)
        below, above = block.ordered[low], block.ordered[min(low + 1, members - 1)]
        with np.errstate(invalid="ignore"):  # infinite where a member is missing
            bounds.append(below + (place - low) * (above - below) if place > low else below)
    return bounds[0], bounds[1]


def _interval_statistic(kind: str, levels: tuple[float, ...], term: Term) -> Mean:
    return Mean(f"{kind} {','.join(map(repr, levels))}", term, complete, ("level",))


def interval_coverage(levels: tuple[float, ...], members: int) -> Score:
    """Return how often the truth lies in central intervals of the ensemble."""
    check_levels(levels, members)

    def term(block: Block) -> Array:
        bounds = [_bounds(block, level) for level in levels]
        return np.stack([(low <= 0) & (high >= 0) for low, high in bounds], axis=-1)

    statistic = _interval_statistic("inside", levels, term)
    return Score(
        ScoreFacts(
            name="interval_coverage",
            long_name="share of the truths inside the central interval of the ensemble",
            lower=0.0,
            upper=1.0,
            members=2,
            reference="Gneiting, Balabdaoui and Raftery (2007), J. R. Stat. Soc. B 69, 243-268",
        ),
        (statistic,),
        lambda found: found[statistic.name],
        coords={"level": np.asarray(levels)},
    )


def interval_width(levels: tuple[float, ...], members: int) -> Score:
    """Return the mean width of central intervals of the ensemble."""
    check_levels(levels, members)

    def term(block: Block) -> Array:
        bounds = [_bounds(block, level) for level in levels]
        with np.errstate(invalid="ignore"):
            return np.stack([high - low for low, high in bounds], axis=-1)

    statistic = _interval_statistic("width", levels, term)
    return Score(
        ScoreFacts(
            name="interval_width",
            long_name="mean width of the central interval of the ensemble",
            lower=0.0,
            unit_power=1,
            members=2,
            reference="Gneiting, Balabdaoui and Raftery (2007), J. R. Stat. Soc. B 69, 243-268",
        ),
        (statistic,),
        lambda found: found[statistic.name],
        coords={"level": np.asarray(levels)},
    )


#: The scores of ranks and intervals by name.
PARAMETRIZED: Mapping[str, Factory] = {
    "rank_histogram": lambda p: rank_histogram(p.size()),
    "rank_flatness": lambda p: rank_flatness(p.size()),
    "interval_coverage": lambda p: interval_coverage(tuple(p.levels), p.size()),
    "interval_width": lambda p: interval_width(tuple(p.levels), p.size()),
}
