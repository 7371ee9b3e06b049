"""The scores of ensembles as rows; formulas in :mod:`.probabilistic`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from ..block import Array, Block
from ..facts import ScoreFacts
from ..score import Score
from ..statistics import Mean
from .deterministic_rows import SQUARED_ERROR

__all__ = ["CRPS", "ROWS", "Estimator", "several"]

Estimator = Literal["ensemble", "fair"]


def several(block: Block) -> Array:
    """Return the points with a truth and at least two known members (n, S)."""
    return block.several


def pairs_of_members(block: Block, estimator: Estimator) -> Array:
    """Return the half mean distance of two members, of all M^2 pairs or of the M (M - 1) others."""
    count = np.maximum(block.number, 2 if estimator == "fair" else 1)
    others = count - 1 if estimator == "fair" else count
    return np.asarray(block.gini / (count * others))


def crps_of(block: Block, estimator: Estimator) -> Array:
    """Return the CRPS of each point (n, S)."""
    return np.asarray(block.absolute - pairs_of_members(block, estimator))


def _components(block: Block, estimator: Estimator) -> Array:
    """Return total, under- and overforecast and spread (n, S, 4)."""
    count = np.maximum(block.count, 1)
    over = np.where(block.known, np.maximum(block.deviation, 0), 0).sum(axis=0) / count
    under = block.absolute - over
    spread = pairs_of_members(block, estimator)
    return np.stack([under + over - spread, under, over, spread], axis=-1)


def _mean(
    name: str, term: Callable[[Block], Array], estimator: Estimator, dims: tuple[str, ...] = ()
) -> Mean:
    if estimator == "fair":
        return Mean(name, term, valid=several, dims=dims)
    return Mean(name, term, dims=dims)


_CRPS_REFERENCE = {
    "ensemble": "Gneiting and Raftery (2007), J. Am. Stat. Assoc. 102, 359-378",
    "fair": "Ferro (2014), Q. J. R. Meteorol. Soc. 140, 1917-1923",
}


def _crps_facts(name: str, long_name: str, estimator: Estimator, **changes: Any) -> ScoreFacts:
    return ScoreFacts(
        **{
            "name": name,
            "long_name": f"{long_name} ({estimator} estimator)",
            # an ensemble that straddles the truth scores below 0 with the fair estimator
            "lower": 0.0 if estimator == "ensemble" else -np.inf,
            "perfect": 0.0,
            "better": "lower",
            "unit_power": 1,
            "members": 1 if estimator == "ensemble" else 2,
            "reference": _CRPS_REFERENCE[estimator],
            **changes,
        }
    )


def _crps(estimator: Estimator) -> Score:
    name = f"crps_{estimator}"
    return Score(
        _crps_facts(name, "continuous ranked probability score", estimator),
        (_mean(name, lambda block: crps_of(block, estimator), estimator),),
        lambda found: found[name],
    )


COMPONENTS = ("total", "underforecast", "overforecast", "spread")


def _crps_components(estimator: Estimator) -> Score:
    name = "crps_components" + ("_fair" if estimator == "fair" else "")
    term = _mean(name, lambda block: _components(block, estimator), estimator, ("component",))
    return Score(
        _crps_facts(
            name,
            "continuous ranked probability score and its parts: total = underforecast + "
            "overforecast - spread",
            estimator,
            better=None,
        ),
        (term,),
        lambda found: found[name],
        coords={"component": np.array(COMPONENTS)},
    )


#: The CRPS by the name of its estimator.
CRPS: Mapping[str, Score] = {"ensemble": _crps("ensemble"), "fair": _crps("fair")}
CRPS_COMPONENTS: Mapping[str, Score] = {
    "ensemble": _crps_components("ensemble"),
    "fair": _crps_components("fair"),
}

VARIANCE = Mean("variance", lambda block: block.variance, valid=several)
ERROR_OF_SEVERAL = Mean("squared_error_several", lambda block: block.mean_error**2, valid=several)
TOTAL_VARIANCE = Mean(
    "total_variance",
    lambda block: block.variance * (block.count + 1) / np.maximum(block.count, 1),
    valid=several,
)
UNBIASED_ERROR = Mean(
    "squared_error_unbiased",
    lambda block: block.mean_error**2 - block.variance / np.maximum(block.count, 1),
    valid=several,
)


def _root_ratio(above: Array, below: Array) -> Array:
    """Return the root of a ratio, NaN where it is not one of positive numbers."""
    inside = (below > 0) & (above >= 0)
    return np.where(
        inside, np.sqrt(np.where(inside, above / np.where(inside, below, 1), 0)), np.nan
    )


_FORTIN = "Fortin et al. (2014), J. Hydrometeorol. 15, 1708-1713"
SPREAD = Score(
    ScoreFacts(
        name="spread",
        long_name="ensemble spread (standard deviation)",
        lower=0.0,
        unit_power=1,
        members=2,
        reference=_FORTIN,
    ),
    (VARIANCE,),
    lambda found: np.sqrt(found["variance"]),
)
SKILL = Score(
    ScoreFacts(
        name="skill",
        long_name="root mean square error of the ensemble mean",
        lower=0.0,
        perfect=0.0,
        better="lower",
        unit_power=1,
        members=1,
        reference=_FORTIN,
    ),
    (SQUARED_ERROR,),
    lambda found: np.sqrt(found["squared_error"]),
)
SPREAD_SKILL_RATIO = Score(
    ScoreFacts(
        name="spread_skill_ratio",
        long_name="spread over skill, times sqrt((M + 1) / M)",
        lower=0.0,
        members=2,
        reference=_FORTIN,
    ),
    (TOTAL_VARIANCE, ERROR_OF_SEVERAL),
    lambda found: _root_ratio(found["total_variance"], found["squared_error_several"]),
)
UNBIASED_SPREAD_SKILL = Score(
    ScoreFacts(
        name="unbiased_spread_skill",
        long_name="spread over skill of infinitely many members",
        lower=0.0,
        members=2,
        reference="WeatherBench-X, unbiased spread-skill ratio",
    ),
    (VARIANCE, UNBIASED_ERROR),
    lambda found: _root_ratio(found["variance"], found["squared_error_unbiased"]),
)

#: The scores of ensembles that need no parameter.
ROWS: tuple[Score, ...] = (
    *CRPS.values(),
    *CRPS_COMPONENTS.values(),
    SPREAD,
    SKILL,
    SPREAD_SKILL_RATIO,
    UNBIASED_SPREAD_SKILL,
)
