"""From names of scores to rows of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...errors import ConfigError
from ..score import Score
from ..scores.event_scores import CATEGORICAL
from ..scores.parameters import Parameters
from ..scores.table import SCORES, row
from .index_scores import index_row, split_name

__all__ = ["of_cells", "rows_of"]


def rows_of(scores: Sequence[str | Score] | str | Score, given: Parameters) -> tuple[Score, ...]:
    """Return the rows of some scores.

    Parameters
    ----------
    scores : sequence of str or Score
        Names of :data:`~xearth.verification.SCORES`; of scores of events and of their
        probabilities, with thresholds; of ranks, with the number of members; of any behind the
        name of a Nino box ("nino34_rmse"); or rows.
    given : Parameters
        Thresholds, operator, levels and size of the ensemble.

    Raises
    ------
    ConfigError
        An unknown name, a score twice, none at all, or one whose parameters are missing.
    """
    asked: list[str | Score] = [scores] if isinstance(scores, str | Score) else list(scores)
    found = tuple(score if isinstance(score, Score) else _row(score, given) for score in asked)
    names = [score.name for score in found]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"expected one or more scores, each once; found {names}.")
    return found


def _row(name: str, given: Parameters) -> Score:
    index = split_name(name)
    if name not in SCORES and index is not None:
        return index_row(name, row(index[1], given), index[0])
    if name in CATEGORICAL and given.thresholds is None:
        raise ConfigError(
            f"score {name!r} is one of events; expected thresholds=['5 mm/h', ...] with it."
        )
    return row(name, given)


def of_cells(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Return scores as those of every cell.

    Raises
    ------
    ConfigError
        A score of patterns or of an index, which a cell does not have.
    """
    bad: list[Any] = [score.name for score in scores if score.over in ("case", "index")]
    if bad:
        raise ConfigError(
            f"{bad} are scores of a whole field, which single cells do not have. Leave the "
            "dimensions of the grid out of by, or take a score of cells ('acc_temporal', 'rmse')."
        )
    return tuple(replace(score, over="cell") for score in scores)
