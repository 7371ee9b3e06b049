"""Parameters of scores: thresholds, ensemble size, levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import ConfigError
from ..score import Score
from ..thresholds import Op, Thresholds
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
    levels : sequence of float
        Probabilities of central intervals.
    reference : sequence of float, optional
        Probability of the event at each threshold, of a skill score.

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
        number = len(self.limits().values)
        if self.reference is None or len(self.reference) != number:
            raise ConfigError(
                f"score {self.score!r} needs the probabilities of a reference forecast, one for "
                f"each of the {number} thresholds; found reference={self.reference!r}."
            )
        return np.asarray(self.reference, dtype=np.float64)


#: Makes a score with these parameters.
Factory = Callable[[Parameters], Score]
