"""What is known of a score before any data: its range, its perfect value, its unit.

Facts are data. One test reads them for every score: a perfect forecast scores ``perfect``, no
forecast leaves ``lower`` .. ``upper``, the result has the forecast's unit to ``unit_power``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError

__all__ = ["ScoreFacts"]


@dataclass(frozen=True, kw_only=True)
class ScoreFacts:
    """Facts about one score.

    Parameters
    ----------
    name : str
        The name in ``verify(scores=[...])`` and of the result.
    long_name : str
        What the result says it is.
    lower, upper : float
        Bounds of the score, infinite where there is none.
    perfect : float or None
        The score of a perfect forecast; None where there is no single one.
    better : {"lower", "higher", "nearest"} or None
        Which of two values is the better: the lower, the higher, the one nearer to ``perfect``,
        or (None) neither.
    unit_power : int
        The result has the units of the forecast to this power.
    members : int
        The smallest ensemble the score is defined for; 0 for a score of single forecasts, which
        of an ensemble is that of its mean.
    climatology : bool
        If the score is one of anomalies.
    reference : str
        Where the definition stands.

    Raises
    ------
    ConfigError
        Bounds in the wrong order, or a perfect value outside of them.

    Examples
    --------
    >>> facts = ScoreFacts(name="rmse", long_name="root mean square error", lower=0.0,
    ...                    perfect=0.0, better="lower", unit_power=1)
    >>> facts.perfect, facts.upper
    (0.0, inf)
    """

    name: str
    long_name: str
    lower: float = -math.inf
    upper: float = math.inf
    perfect: float | None = None
    better: Literal["lower", "higher", "nearest"] | None = None
    unit_power: int = 0
    members: int = 0
    climatology: bool = False
    reference: str = ""

    def __post_init__(self) -> None:
        if not self.lower < self.upper:
            raise ConfigError(
                f"score {self.name!r}: expected lower < upper, found {self.lower} and {self.upper}."
            )
        if self.perfect is not None and not self.lower <= self.perfect <= self.upper:
            raise ConfigError(
                f"score {self.name!r}: its perfect value {self.perfect} lies outside "
                f"{self.lower} .. {self.upper}."
            )
        if self.better == "nearest" and self.perfect is None:
            raise ConfigError(f"score {self.name!r}: 'nearest' needs a perfect value.")
