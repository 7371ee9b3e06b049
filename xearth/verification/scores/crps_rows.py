r"""CRPS with a weight on thresholds, and scores of a normal distribution, as rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..block import Array, Block
from ..facts import ScoreFacts
from ..score import Score
from ..statistics import Mean, known
from ..thresholds import Thresholds
from .gaussian import gaussian_crps, gaussian_log_score
from .parameters import Factory
from .probabilistic_rows import Estimator, crps_of, several

__all__ = ["ROWS", "crps_interval", "crps_lower_tail", "crps_upper_tail"]

_GNEITING = "Gneiting and Ranjan (2011), J. Bus. Econ. Stat. 29, 411-422"


def _between(block: Block, lower: float, upper: float, estimator: Estimator) -> Array:
    """Return the CRPS (n, S) of values moved into lower .. upper."""
    chained = Block(np.clip(block.members, lower, upper), np.clip(block.truth, lower, upper))
    return crps_of(chained, estimator)


def _weighted(name: str, where: str, estimator: Estimator) -> ScoreFacts:
    return ScoreFacts(
        name=name,
        long_name=f"continuous ranked probability score {where} ({estimator} estimator)",
        lower=0.0 if estimator == "ensemble" else -np.inf,
        perfect=0.0,
        better="lower",
        unit_power=1,
        members=1 if estimator == "ensemble" else 2,
        reference=_GNEITING,
    )


def _tail(name: str, thresholds: Thresholds, estimator: Estimator, *, upper: bool) -> Score:
    limits = [(t, np.inf) if upper else (-np.inf, t) for t in thresholds.values]

    def term(block: Block) -> Array:
        return np.stack([_between(block, *pair, estimator) for pair in limits], axis=-1)

    key = f"{name} {estimator} {thresholds.values}"
    valid = several if estimator == "fair" else known
    statistic = Mean(key, term, valid, ("threshold",))
    facts = _weighted(name, "above thresholds" if upper else "below thresholds", estimator)
    coords = {"threshold": thresholds.coord().threshold.variable}
    return Score(facts, (statistic,), lambda found: found[key], coords=coords)


def crps_upper_tail(thresholds: Thresholds, *, estimator: Estimator = "ensemble") -> Score:
    """Return the CRPS of what lies above each threshold.

    Examples
    --------
    >>> crps_upper_tail(Thresholds((25.0,), "mm")).coords["threshold"].attrs["units"]
    'mm'
    """
    name = "crps_upper_tail" + ("_fair" if estimator == "fair" else "")
    return _tail(name, thresholds, estimator, upper=True)


def crps_lower_tail(thresholds: Thresholds, *, estimator: Estimator = "ensemble") -> Score:
    """Return the CRPS of what lies below each threshold."""
    name = "crps_lower_tail" + ("_fair" if estimator == "fair" else "")
    return _tail(name, thresholds, estimator, upper=False)


def crps_interval(lower: float, upper: float, *, estimator: Estimator = "ensemble") -> Score:
    """Return the CRPS of what lies between two values in the units of the forecast."""
    key = f"crps_interval {estimator} {lower} {upper}"
    valid = several if estimator == "fair" else known
    statistic = Mean(key, lambda block: _between(block, lower, upper, estimator), valid)
    name = "crps_interval" + ("_fair" if estimator == "fair" else "")
    return Score(
        _weighted(name, f"from {lower:g} to {upper:g}", estimator),
        (statistic,),
        lambda found: found[key],
    )


def _normal(
    name: str, long_name: str, term: Callable[[Array, Array], Array], **changes: Any
) -> Score:
    """Return a score of the normal distribution with mean and variance of the members."""
    statistic = Mean(
        name, lambda block: term(-block.mean_error, np.sqrt(block.variance)), valid=several
    )
    facts = ScoreFacts(name=name, long_name=long_name, better="lower", members=2, **changes)
    return Score(facts, (statistic,), lambda found: found[name])


CRPS_GAUSSIAN = _normal(
    "crps_gaussian",
    "continuous ranked probability score of a normal distribution fitted to the members",
    gaussian_crps,
    lower=0.0,
    perfect=0.0,
    unit_power=1,
    reference="Gneiting et al. (2005), Mon. Wea. Rev. 133, 1098-1118",
)
LOG_SCORE_GAUSSIAN = _normal(
    "log_score_gaussian",
    "logarithmic score of a normal distribution fitted to the members",
    gaussian_log_score,
    reference="Gneiting and Raftery (2007), J. Am. Stat. Assoc. 102, 359-378",
)

#: Scores of the normal distribution with mean and variance of the members.
ROWS: tuple[Score, ...] = (CRPS_GAUSSIAN, LOG_SCORE_GAUSSIAN)

#: The scores of what lies beyond thresholds by name.
PARAMETRIZED: Mapping[str, Factory] = {
    "crps_upper_tail": lambda p: crps_upper_tail(p.limits()),
    "crps_upper_tail_fair": lambda p: crps_upper_tail(p.limits(), estimator="fair"),
    "crps_lower_tail": lambda p: crps_lower_tail(p.limits()),
    "crps_lower_tail_fair": lambda p: crps_lower_tail(p.limits(), estimator="fair"),
}
