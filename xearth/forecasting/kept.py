"""What the files of all forecasters say alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FORMAT", "arguments_of", "facts_of"]

FORMAT = 1


def facts_of(forecaster: Any, kind: str) -> dict[str, Any]:
    """Return what a file says of any forecaster: what it is, its name, and where it is from.

    Examples
    --------
    >>> import xearth
    >>> facts_of(xearth.load("nowcast-small"), "NowcastForecaster")["name"]
    'nowcast-small'
    """
    return {
        "format": FORMAT,
        "kind": kind,
        "name": forecaster.name,
        "provenance": dict(forecaster.provenance),
        "metrics": dict(forecaster.metrics),
    }


def arguments_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a forecaster takes as :func:`facts_of` wrote them.

    Raises
    ------
    KeyError
        One is missing.

    Examples
    --------
    >>> arguments_of({"name": "mine", "provenance": {}, "metrics": {}, "kind": "other"})
    {'name': 'mine', 'provenance': {}, 'metrics': {}}
    """
    return {key: facts[key] for key in ("name", "provenance", "metrics")}
