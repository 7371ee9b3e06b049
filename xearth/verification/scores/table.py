"""All scores by name: the tables joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType

from ...errors import ConfigError
from ..facts import ScoreFacts
from ..score import Score
from ..thresholds import Thresholds
from .crps_rows import PARAMETRIZED as WEIGHTED
from .crps_rows import ROWS as NORMAL
from .deterministic_rows import ROWS as DETERMINISTIC
from .event_scores import CATEGORICAL, categorical_rows
from .parameters import Factory, Parameters
from .probabilistic_rows import ROWS as PROBABILISTIC
from .probability_rows import PARAMETRIZED as PROBABILITY
from .rank_rows import PARAMETRIZED as RANKS

__all__ = ["PARAMETRIZED", "SCORES", "Parameters", "facts", "names", "row"]

_TABLES = (DETERMINISTIC, PROBABILISTIC, NORMAL)

#: The scores that need no parameter, by name.
SCORES: Mapping[str, Score] = MappingProxyType(
    {score.name: score for table in _TABLES for score in table}
)


def _categorical(name: str, parameters: Parameters) -> Score:
    rows = categorical_rows(parameters.limits(), parameters.op)
    return next(score for score in rows if score.name == name)


#: The scores that need parameters, by name: functions of :class:`Parameters`.
PARAMETRIZED: Mapping[str, Factory] = MappingProxyType(
    {
        **{name: partial(_categorical, name) for name in CATEGORICAL},
        **PROBABILITY,
        **WEIGHTED,
        **RANKS,
    }
)


_FIELDS = "whole fields, which chunks in space would cut"
_SERIES = "all values of a series at once"
_PARAMETERS = "a distribution given by its parameters or quantiles, not by members"
#: Scores that are functions and no rows of one pass, with what they need.
FUNCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "fss": _FIELDS,
        "neighborhood_contingency": _FIELDS,
        "energy_score": _FIELDS,
        "variogram_score": _FIELDS,
        "rank_correlation": _SERIES,
        "crps_distribution": _PARAMETERS,
        "crps_quadrature": _PARAMETERS,
        "crps_quantile": _PARAMETERS,
        "quantile_score": _PARAMETERS,
        "log_score": _PARAMETERS,
    }
)


def names() -> tuple[str, ...]:
    """Return the names of all scores.

    Examples
    --------
    >>> {"rmse", "brier"} <= set(names())
    True
    """
    return (*SCORES, *PARAMETRIZED)


def row(name: str, parameters: Parameters | None = None) -> Score:
    """Return a score by its name.

    Parameters
    ----------
    name : str
    parameters : Parameters, optional
        What scores of :data:`PARAMETRIZED` are made of; others do not look at it.

    Returns
    -------
    Score

    Raises
    ------
    ConfigError
        No score of this name, or a parameter that it needs is missing.

    Examples
    --------
    >>> row("rmse").facts.unit_power
    1
    >>> row("rank_histogram", Parameters(members=3)).coords["rank"].tolist()
    [1, 2, 3, 4]
    """
    if name in SCORES:
        return SCORES[name]
    if name in PARAMETRIZED:
        return PARAMETRIZED[name](replace(parameters or Parameters(), score=name))
    if name in FUNCTIONS:
        room = __name__.partition(".scores")[0]
        raise ConfigError(
            f"score {name!r} is none of one pass over any chunks: it needs {FUNCTIONS[name]}. Use "
            f"the function {room}.{name}, with the truth of each start and lead: "
            "xearth.observations_at(forecast, obs)."
        )
    # "crps" is no score: its estimators have names
    same = [known for known in names() if known.startswith(f"{name}_")]
    close = same or get_close_matches(name, names(), n=1)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ConfigError(f"unknown score {name!r}.{hint} The known ones are: {', '.join(names())}.")


def facts(name: str) -> ScoreFacts:
    """Return what is known of a score: range, perfect value, unit, what it needs.

    Parameters and errors as in :func:`row`.

    Examples
    --------
    >>> facts("crps_fair").members, facts("correlation").perfect, facts("roc_area").better
    (2, 1.0, 'higher')
    """
    any_will_do = Parameters(thresholds=Thresholds((0.0,)), members=19, reference=(0.5,))
    return row(name, any_will_do).facts
