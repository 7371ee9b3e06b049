"""A score as a row of a table: facts, statistics, and the formula that finishes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..fields.regions import Box
from .block import Array
from .facts import ScoreFacts
from .statistics import Statistic

__all__ = ["Finish", "Score"]

Finish = Callable[[Mapping[str, Any]], Array]


@dataclass(frozen=True)
class Score:
    """One score.

    Parameters
    ----------
    facts : ScoreFacts
    statistics : tuple of Statistic
        What is accumulated; scores that share a statistic share its computation.
    finish : callable
        From the result of each statistic, by name, to the score; elementwise.
    over : {"all", "case", "cell", "index"}
        What the finish sees at once: everything that is averaged over; one start and lead, the
        scores of which are then averaged (a pattern correlation); one cell over all starts,
        the scores of which are then averaged over the area (a temporal correlation); or all
        starts of the mean over ``box``, of which ``statistics`` keep each start and lead and
        ``of`` is the score.
    coords : mapping of str to array
        Labels of the trailing axes of the result, in their order, such as thresholds or ranks.
    box : Box, optional
        Of an index.
    of : Score, optional
        What is made of the index.

    Examples
    --------
    >>> import numpy as np
    >>> from xearth.verification.block import Block
    >>> from xearth.verification.statistics import Mean
    >>> mse = Mean("squared_error", lambda block: block.mean_error**2)
    >>> rmse = Score(ScoreFacts(name="rmse", long_name="root mean square error"), (mse,),
    ...              lambda found: np.sqrt(found["squared_error"]))
    >>> block = Block(np.array([[[1.0, 5.0]]]), np.array([[1.0, 1.0]]))
    >>> state = mse.observe(block, np.ones((1, 2)))
    >>> rmse.finish({"squared_error": mse.result(state)}).round(4).tolist()
    [[2.8284]]
    """

    facts: ScoreFacts
    statistics: tuple[Statistic, ...]
    finish: Finish = field(compare=False)
    over: Literal["all", "case", "cell", "index"] = "all"
    coords: Mapping[str, Any] = field(default_factory=dict, compare=False)
    box: Box | None = None
    of: Score | None = None

    @property
    def name(self) -> str:
        """The name in ``verify(scores=[...])``."""
        return self.facts.name
