"""All scores by name: the tables joined."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from ..errors import ConfigError
from .deterministic_rows import ROWS as DETERMINISTIC
from .facts import ScoreFacts
from .probabilistic_rows import ROWS as PROBABILISTIC
from .score import Score

__all__ = ["SCORES", "facts", "row"]

_TABLES = (DETERMINISTIC, PROBABILISTIC)

#: The scores that need no parameter, by name.
SCORES: Mapping[str, Score] = MappingProxyType(
    {score.name: score for table in _TABLES for score in table}
)


def row(name: str) -> Score:
    """Return a score by its name.

    Parameters
    ----------
    name : str

    Returns
    -------
    Score

    Raises
    ------
    ConfigError
        No score of this name.

    Examples
    --------
    >>> row("rmse").facts.unit_power
    1
    """
    if name not in SCORES:
        close = get_close_matches(name, SCORES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"unknown score {name!r}.{hint} The known ones are: {', '.join(SCORES)}.")
    return SCORES[name]


def facts(name: str) -> ScoreFacts:
    """Return what is known of a score: range, perfect value, unit, what it needs.

    Parameters and errors as in :func:`row`.

    Examples
    --------
    >>> facts("crps_fair").members, facts("correlation").perfect
    (2, 1.0)
    """
    return row(name).facts
