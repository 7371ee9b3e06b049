r"""Scores of yes/no forecasts, all from one contingency table.

With hits :math:`h`, misses :math:`m`, false alarms :math:`f`, correct negatives :math:`c`, their
sum :math:`n`, hits expected by chance :math:`h_r = (h + m)(h + f) / n`, :math:`P = h / (h + m)`
and :math:`F = f / (f + c)`:

==================  ==========================================================================
csi                 :math:`h / (h + m + f)`, the critical success index (threat score)
pod                 :math:`P`, the probability of detection (hit rate, recall)
far                 :math:`f / (h + f)`, the false alarm ratio
sucr                :math:`h / (h + f)`, the success ratio (precision)
pofd                :math:`F`, the probability of false detection (false alarm rate)
frequency_bias      :math:`(h + f) / (h + m)`, events forecast over events observed
accuracy            :math:`(h + c) / n`
ets                 :math:`(h - h_r) / (h + m + f - h_r)`, equitable threat score (Gilbert)
hss                 :math:`(h + c - e) / (n - e)`, Heidke, with :math:`e = [(h + m)(h + f) +
                    (c + m)(c + f)] / n`
pss                 :math:`P - F`, Peirce (true skill statistic)
odds_ratio          :math:`h c / (m f)`
orss                :math:`(h c - m f) / (h c + m f)`, odds ratio skill score (Yule's Q)
f1                  :math:`2 h / (2 h + m + f)`
sedi                :math:`\frac{\ln F - \ln P - \ln(1 - F) + \ln(1 - P)}{\ln F + \ln P + \ln(1 -
                    F) + \ln(1 - P)}` (Ferro and Stephenson 2011, Wea. Forecasting 26, 699-713)
==================  ==========================================================================

Definitions: Wilks (2019), Statistical Methods in the Atmospheric Sciences, chapter 9.

**0 / 0.** A table without events has no threat score: such a score is NaN, never 0 or 1, and
whoever averages over tables says how many were left out (see
:mod:`xearth.verification.protocols.event_protocols`). The odds ratio of a forecast without
misses or false alarms is infinite.

**Frequency bias.** One public evaluator of precipitation nowcasts prints as "bias" the square of
the ratio of events divided by ln 2; by it a perfect forecast scores 2.08. Here the bias is the
ratio of events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..block import Block
from ..facts import ScoreFacts
from ..score import Score
from ..statistics import Count
from ..thresholds import Op, Thresholds, check_op

__all__ = ["CATEGORICAL", "categorical_rows", "finish"]

Array = npt.NDArray[Any]
Formula = Callable[[Array, Array, Array, Array], Array]

_WILKS = "Wilks (2019), Statistical Methods in the Atmospheric Sciences, chapter 9"


def _sedi(h: Array, m: Array, f: Array, c: Array) -> Array:
    p, q = h / (h + m), f / (f + c)
    told, missed = np.log(p), np.log(1 - p)
    false, quiet = np.log(q), np.log(1 - q)
    return (false - told - quiet + missed) / (false + told + quiet + missed)


def _ets(h: Array, m: Array, f: Array, c: Array) -> Array:
    chance = (h + m) * (h + f) / (h + m + f + c)
    return (h - chance) / (h + m + f - chance)


def _hss(h: Array, m: Array, f: Array, c: Array) -> Array:
    n = h + m + f + c
    chance = ((h + m) * (h + f) + (c + m) * (c + f)) / n
    return (h + c - chance) / (n - chance)


@dataclass(frozen=True)
class _Row:
    facts: ScoreFacts
    formula: Formula


def _row(name: str, long_name: str, formula: Formula, **facts: Any) -> _Row:
    bounds: dict[str, Any] = {
        "lower": 0.0,
        "upper": 1.0,
        "perfect": 1.0,
        "better": "higher",
        "reference": _WILKS,
    }
    return _Row(ScoreFacts(name=name, long_name=long_name, **(bounds | facts)), formula)


_ROWS = (
    _row("csi", "critical success index", lambda h, m, f, c: h / (h + m + f)),
    _row("pod", "probability of detection", lambda h, m, f, c: h / (h + m)),
    _row("far", "false alarm ratio", lambda h, m, f, c: f / (h + f), perfect=0.0, better="lower"),
    _row("sucr", "success ratio", lambda h, m, f, c: h / (h + f)),
    _row(
        "pofd",
        "probability of false detection",
        lambda h, m, f, c: f / (f + c),
        perfect=0.0,
        better="lower",
    ),
    _row(
        "frequency_bias",
        "frequency bias: events forecast over events observed",
        lambda h, m, f, c: (h + f) / (h + m),
        upper=np.inf,
        better="nearest",
    ),
    _row("accuracy", "fraction correct", lambda h, m, f, c: (h + c) / (h + m + f + c)),
    _row("ets", "equitable threat score", _ets, lower=-1 / 3),
    _row("hss", "Heidke skill score", _hss, lower=-1.0),
    _row("pss", "Peirce skill score", lambda h, m, f, c: h / (h + m) - f / (f + c), lower=-1.0),
    _row(
        "odds_ratio", "odds ratio", lambda h, m, f, c: h * c / (m * f), upper=np.inf, perfect=np.inf
    ),
    _row(
        "orss",
        "odds ratio skill score",
        lambda h, m, f, c: (h * c - m * f) / (h * c + m * f),
        lower=-1.0,
    ),
    _row("f1", "F1 score", lambda h, m, f, c: 2 * h / (2 * h + m + f)),
    # rates of exactly 0 or 1 have no logarithm: a perfect forecast has no SEDI
    _row(
        "sedi",
        "symmetric extremal dependence index",
        _sedi,
        lower=-1.0,
        perfect=None,
        reference="Ferro and Stephenson (2011), Wea. Forecasting 26, 699-713",
    ),
)

#: Facts of the scores of this module, by name.
CATEGORICAL: Mapping[str, ScoreFacts] = {row.facts.name: row.facts for row in _ROWS}
_FORMULAS: Mapping[str, Formula] = {row.facts.name: row.formula for row in _ROWS}


def finish(name: str, counts: Sequence[Array]) -> Array:
    """Return a score of hits, misses, false alarms and correct negatives; NaN where it is 0/0."""
    # products of 64-bit counts overflow; of doubles they do not
    h, m, f, c = (np.asarray(count, dtype=np.float64) for count in counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _FORMULAS[name](h, m, f, c)


def categorical_rows(limits: Thresholds, op: Op = ">=") -> tuple[Score, ...]:
    """Return the scores of this module as rows for one pass over many scores.

    An ensemble is judged by its mean. All rows share four counts: events forecast, observed,
    both, and pairs.

    Parameters
    ----------
    limits : Thresholds
        In the units of the forecast.
    op : {">=", ">"}

    Returns
    -------
    tuple of Score
        With a trailing ``threshold`` axis.

    Examples
    --------
    >>> rows = categorical_rows(Thresholds((1.0, 5.0)))
    >>> rows[0].name, rows[0].coords["threshold"].values.tolist(), len(rows)
    ('csi', [1.0, 5.0], 14)
    """
    reaches = np.greater_equal if check_op(op) == ">=" else np.greater

    def told(block: Block) -> Array:
        return _reach(_single(block), block) & block.valid[..., None]

    def seen(block: Block) -> Array:
        return _reach(block.truth, block) & block.valid[..., None]

    def _reach(values: Array, block: Block) -> Array:
        return np.stack([reaches(values, limit) for limit in limits.values], axis=-1)

    label = f"{op} {', '.join(f'{v:.9g}' for v in limits.values)}"
    names = [f"{what} {label}" for what in ("hits", "events forecast", "events observed")]
    counts = (
        Count(names[0], lambda block: told(block) & seen(block), ("threshold",)),
        Count(names[1], told, ("threshold",)),
        Count(names[2], seen, ("threshold",)),
        Count("pairs", lambda block: block.valid),
    )

    def outcomes(found: Mapping[str, Array]) -> tuple[Array, Array, Array, Array]:
        h, forecast, observed = (found[name] for name in names)
        return h, observed - h, forecast - h, found["pairs"][..., None] - forecast - observed + h

    return tuple(
        Score(
            facts,
            counts,
            lambda found, name=name: finish(name, outcomes(found)),  # type: ignore[misc]
            coords={"threshold": limits.coord().threshold.variable},
        )
        for name, facts in CATEGORICAL.items()
    )


def _single(block: Block) -> Array:
    """Return the one forecast, or the mean of the known members (n, S); NaN without any."""
    if len(block.members) == 1:
        return block.members[0]
    total = np.where(block.known, block.members, 0).sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean = total / np.where(block.valid, block.count, np.nan)
    return mean.astype(block.members.dtype, copy=False)
