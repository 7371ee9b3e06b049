"""Parameters of scores: thresholds, ensemble size, levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ConfigError
from ..score import Score
from ..thresholds import Op, Thresholds, check_op
from .events import Classes, EnsembleEvent

__all__ = ["Factory", "Parameters"]


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What scores with parameters are made of.

    Parameters
    ----------
    score : str
        The name of the score, for messages.
    thresholds : Thresholds, optional
        In the units of the forecast.
    op : {">=", ">"}
        An event is a value at or above the threshold, or above it.
    members : int
        Size of the ensemble.
    levels : float or sequence of float
        Probabilities of central intervals.
    reference : float or sequence of float, optional
        Probability of the event at each threshold in ascending order, of a skill score.

    Raises
    ------
    ConfigError
        Another operator, or levels that are no numbers, none at all or repeated.

    Examples
    --------
    >>> from xearth.verification.thresholds import Thresholds
    >>> Parameters(thresholds=Thresholds((5.0,)), members=10).event().name
    '>=5.0'
    """

    score: str = "score"
    thresholds: Thresholds | None = None
    op: Op = ">="
    members: int = 0
    levels: Sequence[float] = (0.5,)
    reference: Sequence[float] | None = None

    def __post_init__(self) -> None:
        check_op(self.op)
        object.__setattr__(self, "levels", _numbers("levels", self.levels))
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise ConfigError(f"expected one or more levels, each once; found {self.levels}.")
        if self.reference is not None:
            object.__setattr__(self, "reference", _numbers("base_rates", self.reference))

    def limits(self) -> Thresholds:
        """Return the thresholds that a score needs."""
        if self.thresholds is None:
            raise ConfigError(
                f"score {self.score!r} needs thresholds; found none. Give them with units, "
                "such as thresholds=['1 mm/h', '5 mm/h']."
            )
        return self.thresholds

    def event(self) -> EnsembleEvent:
        """Return the events that a score needs."""
        return EnsembleEvent(self.limits(), self.op)

    def classes(self) -> Classes:
        """Return one class of probability for each number of members."""
        return Classes.of_members(self.size())

    def size(self) -> int:
        """Return the size of the ensemble that a score needs."""
        if self.members < 1:
            raise ConfigError(
                f"score {self.score!r} is one of ensembles; found no member dimension. "
                "Forecast with members=..., or ask for a score of single forecasts."
            )
        return self.members

    def probabilities(self) -> npt.NDArray[np.float64]:
        """Return the probabilities of the reference that a skill score needs."""
        limits = self.limits()
        number = len(limits.values)
        if self.reference is None or len(self.reference) != number:
            raise ConfigError(
                f"score {self.score!r} needs the probabilities of the event, one for each of the "
                f"{number} thresholds {limits.values}, from years that are not judged; found "
                f"{self.reference}. Give verify(..., base_rates=[...])."
            )
        found = np.asarray(self.reference, dtype=np.float64)
        if not ((found >= 0) & (found <= 1)).all() or (np.diff(found) > 0).any():
            raise ConfigError(
                f"base_rates are probabilities in 0 .. 1, no greater at a higher threshold; found "
                f"{self.reference} for {limits.values}. Give them in the order of ascending "
                "thresholds."
            )
        return found


def _numbers(name: str, given: Any) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in np.ravel(given))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} are numbers between 0 and 1; found {given!r}.") from error


#: Makes a score with these parameters.
Factory = Callable[[Parameters], Score]
