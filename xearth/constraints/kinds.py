"""The way back from JSON: every kind by its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import ConstraintError
from ..fields.regions import Box
from .amount import Amount
from .areal import AreaFraction, AreaMean, AreaTotal
from .blocks import BlockMeans, FrameMeans
from .bodies import EnergyConserved
from .cells import AtPoints, EachCell, NonNegative
from .constraint import All, Bound
from .extremes import AreaMaximum, AreaQuantile
from .factor import ByFactor
from .functional import Index
from .held import Held
from .intensity import IntensityAnomaly, IntensityClimatology, TransformedMean
from .relations import BudgetClosed, Conserved, Monotone, Ordered, PersistentMask
from .spectrum import SpectrumSlope
from .where import Mask, Points

__all__ = ["KINDS", "decoded"]

_CLASSES: tuple[Any, ...] = (
    All,
    Amount,
    AreaFraction,
    AreaMaximum,
    AreaMean,
    AreaQuantile,
    AreaTotal,
    AtPoints,
    BlockMeans,
    Bound,
    Box,
    BudgetClosed,
    ByFactor,
    Conserved,
    EachCell,
    EnergyConserved,
    FrameMeans,
    Index,
    IntensityAnomaly,
    IntensityClimatology,
    Mask,
    Monotone,
    NonNegative,
    Ordered,
    PersistentMask,
    Points,
    SpectrumSlope,
    TransformedMean,
)

#: What JSON of a constraint is made of, by name.
KINDS: Mapping[str, Any] = {kind.__name__: kind for kind in _CLASSES}


def decoded(text: str) -> Any:
    """Return the object that JSON says.

    Raises
    ------
    ConstraintError
        No JSON, an unknown kind, or other fields than it has.
    """
    try:
        return _built(json.loads(text))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConstraintError(
            f"expected JSON of a constraint, as constraint.to_json() writes it: {error}."
        ) from error


def _built(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_built(v) for v in value)
    if not isinstance(value, dict):
        return value
    kind = value["kind"]
    given = {k: v for k, v in value.items() if k != "kind"}
    if kind == Held.__name__:
        return Held.from_dict(given)
    if kind not in KINDS:
        raise ConstraintError(f"kind {kind!r}: expected one of {', '.join(KINDS)}.")
    return KINDS[kind](**{k: _built(v) for k, v in given.items()})
