"""Scores of the Nino indices, as rows: the area mean over a box first, then a score over starts.

``nino34_correlation`` is the correlation of the forecast Nino3.4 index with the observed one;
any score of :data:`~xearth.verification.SCORES` can stand behind the name of a box, those
of ensembles included.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...errors import ConfigError
from ..block import Array, Block
from ..score import Score
from ..scores.indices import REGIONS
from ..statistics import Mean

__all__ = ["index_block", "index_row"]

_SHORT = {"corr": "correlation"}


def _members(block: Block) -> Array:
    """Anomalies of the members (n, S, M), as departures from the truth plus its anomaly."""
    return np.moveaxis(block.deviation + block.truth_anomaly, 0, -1)


def _known(block: Block) -> Array:
    """Members that are known where the truth is (n, S, M): each has a mean of its own."""
    return np.moveaxis(block.known, 0, -1)


MEMBERS = Mean("index_of_members", _members, _known, ("member",))
TRUTH = Mean("index_of_truth", lambda block: block.truth_anomaly)


def index_row(name: str, score: Score | None, box: str) -> Score:
    """Return a score of an index.

    Parameters
    ----------
    name : str
        Of the result.
    score : Score
        What is made of the index.
    box : str
        One of :data:`~xearth.verification.scores.indices.REGIONS`.

    Raises
    ------
    ConfigError
        A score that is itself one of cells or of an index.
    """
    if score is None or score.over in ("case", "cell", "index"):
        raise ConfigError(
            f"score {name!r}: an index has one value for each start and lead, of which {name!r} "
            "cannot be taken. Use for example 'nino34_correlation' or 'nino34_rmse'."
        )
    region = REGIONS[box]
    facts = replace(
        score.facts, name=name, long_name=f"{score.facts.long_name} of the index {region}"
    )
    return Score(facts, (MEMBERS, TRUTH), score.finish, "index", score.coords, box=region, of=score)


def split_name(name: str) -> tuple[str, str] | None:
    """Return the box and the score that a name such as "nino34_rmse" names, else None."""
    box, _, rest = name.partition("_")
    return (box, _SHORT.get(rest, rest)) if box in REGIONS and rest else None


def index_block(members: Array, truth: Array) -> Block:
    """Return the index of cases as a block: members (n, M) and truth (n,) as n cells."""
    return Block(np.ascontiguousarray(members.T)[:, None, :], truth[None, :])
