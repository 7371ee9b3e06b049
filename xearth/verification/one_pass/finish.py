"""From states to scores: states of a group are combined, then each score takes its formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..block import Array, Block
from ..score import Score
from ..statistics import Count, Mean, Parts, Statistic, Term, known
from .index_scores import MEMBERS, TRUTH, index_block

__all__ = ["PAIRS", "area_of", "finish_cases", "finish_cells", "sample_of", "statistics_of"]

#: The points that have a truth and a forecast: what ``n`` counts.
PAIRS = Count("n", known)

CaseStates = Mapping[tuple[str, str], Parts]
Codes = npt.NDArray[np.int64]


def area_of(score: Score) -> str:
    """Return the name of the weights that the states of a score are taken with."""
    return "" if score.box is None else score.box.name


def statistics_of(scores: Sequence[Score]) -> tuple[Statistic, ...]:
    """Return the statistics of some scores, each once, and the samples that are not all pairs."""
    found = {s.name: s for score in scores for s in score.statistics}
    samples = [sample_of(score) for score in scores]
    return tuple((found | {s.name: s for s in samples if s is not None}).values())


def sample_of(score: Score) -> Count | None:
    """Return what counts the points behind a score, None where these are all pairs.

    Examples
    --------
    >>> from xearth.verification.scores.table import SCORES
    >>> sample_of(SCORES["rmse"]), sample_of(SCORES["crps_fair"]).name
    (None, 'sample of crps_fair')
    """
    valid = _narrower(score)
    if not valid or score.over == "index":
        return None

    def points(block: Block) -> Array:
        # a single one as it is: where one value stands for all, no point is looked at
        first, *rest = (term(block) for term in valid)
        return np.asarray(np.logical_and.reduce([first, *rest])) if rest else first

    return Count(f"sample of {score.name}", points)


def _narrower(score: Score) -> list[Term]:
    """Return what restricts the points of a score beyond a truth and a member."""
    terms = [getattr(s, "valid", known) for s in (score.of or score).statistics]
    return [term for term in dict.fromkeys(terms) if term is not known]


def finish_cases(
    scores: Sequence[Score], states: CaseStates, codes: Codes, size: int
) -> dict[str, Array]:
    """Return scores of groups of cases.

    Parameters
    ----------
    scores : sequence of Score
        Of any kind but those of cells.
    states : mapping of (area, statistic) to parts (I, L, R, ...)
    codes : array (I, L)
        Group of each case.
    size : int
        Number of groups.

    Returns
    -------
    dict of array (G, R, ...)
        And ``n``, the number of pairs, and ``..._n`` of scores that not all of these count for.
    """
    flat = {
        key: {name: part.reshape(-1, *part.shape[2:]) for name, part in parts.items()}
        for key, parts in states.items()
    }
    groups = _members_of(codes.ravel(), size)
    grouped: dict[tuple[str, str], Parts] = {}
    for statistic in (PAIRS, *statistics_of([s for s in scores if s.over == "all"])):
        grouped["", statistic.name] = combine_groups(statistic, flat["", statistic.name], groups)
    found = {"n": grouped["", PAIRS.name]["count"]}
    for score in scores:
        if score.over == "all":
            found[score.name] = _all_at_once(score, grouped)
        elif score.over == "case":
            found[score.name] = _case_by_case(score, flat, groups)
        elif score.over == "index":
            found[score.name], found[f"{score.name}_n"] = _index(score, flat, groups)
        sample = sample_of(score)
        if sample is not None:
            counts = combine_groups(sample, flat["", sample.name], groups)
            found[f"{score.name}_n"] = counts["count"]
    return found


def finish_cells(*parts: Array, score: Score) -> Array:
    """Return a score of cells from the parts of its statistics, in their order."""
    names = [(s, name) for s in score.statistics for name in s.parts]
    states: dict[str, dict[str, Array]] = {s.name: {} for s in score.statistics}
    for (statistic, name), part in zip(names, parts, strict=True):
        states[statistic.name][name] = part
    return _finished(score, {s.name: s.result(states[s.name]) for s in score.statistics})


def combine_groups(statistic: Statistic, parts: Parts, groups: Sequence[Codes]) -> dict[str, Array]:
    """Combine the states (cases, ...) of each group: (G, ...); zeros for an empty one."""
    found = {
        name: np.zeros((len(groups), *part.shape[1:]), part.dtype) for name, part in parts.items()
    }
    single = np.array([len(members) == 1 for members in groups], dtype=bool)
    if single.any():
        cases = np.concatenate([g for g, one in zip(groups, single, strict=True) if one])
        for name, part in parts.items():
            found[name][single] = part[cases]
    for g, members in enumerate(groups):
        if len(members) > 1:
            own = {name: part[members] for name, part in parts.items()}
            for name, values in statistic.combine(own, axis=0).items():
                found[name][g] = values
    return found


def _members_of(codes: Codes, size: int) -> list[Codes]:
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(size + 1))
    return [order[a:b] for a, b in pairwise(ends)]


def _finished(score: Score, results: Mapping[str, Any]) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(score.finish(results), dtype=np.float64)


def _all_at_once(score: Score, states: Mapping[tuple[str, str], Parts]) -> Array:
    return _finished(score, {s.name: s.result(states["", s.name]) for s in score.statistics})


def _case_by_case(score: Score, states: CaseStates, groups: Sequence[Codes]) -> Array:
    """Average the scores of single cases, each of the same weight; NaN counts for nothing."""
    cases = _all_at_once(score, states)
    value = Mean(score.name, known)
    there = ~np.isnan(cases)
    parts = {"sum": np.where(there, cases, 0.0), "weight": there.astype(np.float64)}
    return value.result(combine_groups(value, parts, groups))


def _index(score: Score, states: CaseStates, groups: Sequence[Codes]) -> tuple[Array, Array]:
    """Take the score of the means over the box, all cases of a group at once, and count them."""
    area, row = area_of(score), score.of or score
    members = MEMBERS.result(states[area, MEMBERS.name])[:, 0]
    truth = TRUTH.result(states[area, TRUTH.name])[:, 0]
    valid = [known, *_narrower(score)]
    found, counts = [], []
    for own in groups:
        block = index_block(members[own], truth[own])
        weights = np.ones((1, len(own)))
        results = {
            s.name: s.result({k: v[0, 0] for k, v in s.observe(block, weights).items()})
            for s in row.statistics
        }
        found.append(_finished(row, results))
        counts.append(np.logical_and.reduce([term(block) for term in valid]).sum())
    return np.stack(found), np.array(counts, dtype=np.int64)
