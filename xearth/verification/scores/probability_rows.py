r"""The scores of probabilities of events as rows.

All but the Brier score come from one statistic: by class of probability, the weighted sums of
:math:`1, o, p, p^2, p o`. They add, so that reliability, sharpness, ROC and the parts of the
Brier score are those of all data whatever the chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..block import Array, Block
from ..facts import ScoreFacts
from ..score import Score
from ..statistics import Mean, known
from .events import Classes, EnsembleEvent, EventSource, binned
from .parameters import Factory

__all__ = [
    "PARTS",
    "TABLE",
    "brier",
    "brier_decomposition",
    "reliability",
    "roc",
    "roc_area",
    "rps",
    "skill",
]

#: The parts of the Brier score, see :func:`brier_decomposition`.
PARTS = (
    "reliability",
    "resolution",
    "uncertainty",
    "within_class_variance",
    "within_class_covariance",
    "brier",
)
#: What :func:`reliability` holds for each class.
TABLE = ("share", "probability", "frequency")

_BRIER = "Brier (1950), Mon. Wea. Rev. 78, 1-3"
_FAIR = "Ferro (2014), Q. J. R. Meteorol. Soc. 140, 1917-1923"
_MURPHY = "Murphy (1973), J. Appl. Meteorol. 12, 595-600"
_STEPHENSON = "Stephenson, Coelho and Jolliffe (2008), Wea. Forecasting 23, 752-757"
_MASON = "Mason and Graham (1999), Wea. Forecasting 14, 713-725"


def _members(source: EventSource, smallest: int) -> int:
    return smallest if isinstance(source, EnsembleEvent) else 0


def _brier_statistic(source: EventSource, *, fair: bool) -> Mean:
    def term(block: Block) -> Array:
        p = source.probability(block)
        error = (p - source.outcome(block)) ** 2
        if not fair:
            return np.asarray(error)
        others = np.maximum(block.count - 1, 1)[..., None]
        return np.asarray(error - p * (1 - p) / others)

    kind = "fair" if fair else "ensemble"
    valid = (lambda block: block.count > 1) if fair else known
    return Mean(f"brier {kind} {source.name}", term, valid, source.dims)


def brier(source: EventSource, *, fair: bool = False) -> Score:
    """Return the Brier score of events; the fair one takes out what few members add.

    Examples
    --------
    >>> from xearth.verification.thresholds import Thresholds
    >>> brier(EnsembleEvent(Thresholds((5.0, 10.0)))).coords["threshold"].values.tolist()
    [5.0, 10.0]
    """
    statistic = _brier_statistic(source, fair=fair)
    facts = ScoreFacts(
        name="brier_fair" if fair else "brier",
        long_name="Brier score" + (" (fair estimator)" if fair else ""),
        lower=0.0,
        upper=1.0,
        perfect=0.0,
        better="lower",
        members=_members(source, 2 if fair else 1),
        reference=_FAIR if fair else _BRIER,
    )
    return Score(facts, (statistic,), lambda found: found[statistic.name], coords=source.coords)


def rps(source: EnsembleEvent, *, fair: bool = False) -> Score:
    """Return the ranked probability score: the sum of the Brier scores of all thresholds."""
    statistic = _brier_statistic(source, fair=fair)
    facts = ScoreFacts(
        name="rps_fair" if fair else "rps",
        long_name="ranked probability score" + (" (fair estimator)" if fair else ""),
        lower=0.0,
        upper=float(len(source.thresholds.values)),
        perfect=0.0,
        better="lower",
        members=_members(source, 2 if fair else 1),
        reference="Epstein (1969), J. Appl. Meteorol. 8, 985-987",
    )
    return Score(facts, (statistic,), lambda found: found[statistic.name].sum(axis=-1))


def skill(source: EventSource, reference: Array, *, ranked: bool = False) -> Score:
    """Return the skill of the Brier score, or of their sum, against constant probabilities."""
    statistic = _brier_statistic(source, fair=False)
    rate = Mean(f"event {source.name}", source.outcome, known, source.dims)

    def finish(found: Mapping[str, Any]) -> Array:
        error, happened = found[statistic.name], found[rate.name]
        expected = reference**2 - 2 * reference * happened + happened
        if ranked:
            error, expected = error.sum(axis=-1), expected.sum(axis=-1)
        return np.asarray(1 - error / np.where(expected > 0, expected, np.nan))

    name = "ranked probability" if ranked else "Brier"
    facts = ScoreFacts(
        name="rps_skill" if ranked else "brier_skill",
        long_name=f"{name} skill score against constant probabilities",
        upper=1.0,
        perfect=1.0,
        better="higher",
        members=_members(source, 1),
        reference=_MURPHY,
    )
    return Score(facts, (statistic, rate), finish, coords={} if ranked else source.coords)


def _by_class(source: EventSource, classes: Classes) -> Mean:
    def sort(block: Block) -> tuple[Array, tuple[Array, ...]]:
        p, o = source.probability(block), source.outcome(block)
        return classes.index(p), (np.ones_like(p), o, p, p * p, p * o)

    return binned(
        f"classes {source.name} {classes.name}",
        sort,
        len(classes.labels),
        dims=(*source.dims, "probability_class", "amount"),
    )


def decomposed(table: Array) -> Array:
    """Return :data:`PARTS` (..., 6) of the means of 1, o, p, p^2, po by class (..., B, 5)."""
    w, o, p, pp, po = np.moveaxis(table, -1, 0)
    some = np.where(w > 0, w, 1.0)
    base = o.sum(axis=-1)
    frequency, forecast = o / some, p / some
    parts = [
        (w * (forecast - frequency) ** 2).sum(axis=-1),
        (w * (frequency - base[..., None]) ** 2).sum(axis=-1),
        base * (1 - base),
        (pp - p * forecast).sum(axis=-1),
        2 * (po - p * frequency).sum(axis=-1),
        (pp - 2 * po + o).sum(axis=-1),
    ]
    return np.stack(parts, axis=-1)


def brier_decomposition(source: EventSource, classes: Classes) -> Score:
    r"""Return the parts of the Brier score.

    With classes of equal probabilities (one for each number of members) Murphy's identity
    ``brier = reliability - resolution + uncertainty`` is exact; with wider ones it needs the two
    terms within the classes: ``+ within_class_variance - within_class_covariance``.
    """
    statistic = _by_class(source, classes)
    facts = ScoreFacts(
        name="brier_decomposition",
        long_name="Brier score and its parts: brier = reliability - resolution + uncertainty + "
        "within_class_variance - within_class_covariance",
        lower=-1.0,
        upper=1.0,
        members=_members(source, 1),
        reference=f"{_MURPHY}; {_STEPHENSON}",
    )
    return Score(
        facts,
        (statistic,),
        lambda found: decomposed(found[statistic.name]),
        coords={**source.coords, "brier_component": np.array(PARTS)},
    )


def reliability(source: EventSource, classes: Classes) -> Score:
    """Return the data of a reliability diagram: share, mean probability, observed frequency."""
    statistic = _by_class(source, classes)

    def finish(found: Mapping[str, Any]) -> Array:
        share, o, p = np.moveaxis(found[statistic.name][..., :3], -1, 0)
        some = np.where(share > 0, share, np.nan)
        return np.stack([share, p / some, o / some], axis=-1)

    facts = ScoreFacts(
        name="reliability",
        long_name="share of the forecasts, their mean probability and the observed frequency",
        lower=0.0,
        upper=1.0,
        members=_members(source, 1),
        reference=_MURPHY,
    )
    coords = {**source.coords, **classes.coords(), "quantity": np.array(TABLE)}
    return Score(facts, (statistic,), finish, coords=coords)


def _rates(table: Array) -> tuple[Array, Array]:
    """Return hit and false-alarm rate (..., B + 1) of "yes" from each class upwards, then never."""
    w, o = table[..., 0], table[..., 1]
    rates = []
    for amount in (o, w - o):
        above = np.flip(np.cumsum(np.flip(amount, -1), axis=-1), -1)
        total = np.where(above[..., :1] > 0, above[..., :1], np.nan)
        rates.append(np.concatenate([above / total, 0 * total], axis=-1))
    return rates[0], rates[1]


def _roc_facts(name: str, source: EventSource, long_name: str, **changes: Any) -> ScoreFacts:
    return ScoreFacts(
        **{
            "name": name,
            "long_name": long_name,
            "lower": 0.0,
            "upper": 1.0,
            "members": _members(source, 1),
            "reference": _MASON,
            **changes,
        }
    )


def roc(source: EventSource, classes: Classes) -> Score:
    """Return hit and false-alarm rate of "yes" at or above each probability."""
    statistic = _by_class(source, classes)
    least = np.array([*classes.least, np.inf])
    return Score(
        _roc_facts("roc", source, "hit rate and false alarm rate"),
        (statistic,),
        lambda found: np.stack(_rates(found[statistic.name]), axis=-1),
        coords={
            **source.coords,
            "least_probability": least,
            "rate": np.array(["hit_rate", "false_alarm_rate"]),
        },
    )


def area_under(table: Array) -> Array:
    """Return the area under the ROC by trapezoids of the classes; NaN without both outcomes."""
    hits, alarms = _rates(table)
    width = alarms[..., :-1] - alarms[..., 1:]
    return np.asarray((width * (hits[..., :-1] + hits[..., 1:]) / 2).sum(axis=-1))


def roc_area(source: EventSource, classes: Classes) -> Score:
    """Return the area under the ROC curve, exact where a class holds one probability."""
    statistic = _by_class(source, classes)
    return Score(
        _roc_facts("roc_area", source, "area under the ROC curve", perfect=1.0, better="higher"),
        (statistic,),
        lambda found: area_under(found[statistic.name]),
        coords=source.coords,
    )


#: The scores of events by name.
PARAMETRIZED: Mapping[str, Factory] = {
    "brier": lambda p: brier(p.event()),
    "brier_fair": lambda p: brier(p.event(), fair=True),
    "brier_skill": lambda p: skill(p.event(), p.probabilities()),
    "brier_decomposition": lambda p: brier_decomposition(p.event(), p.classes()),
    "reliability": lambda p: reliability(p.event(), p.classes()),
    "roc": lambda p: roc(p.event(), p.classes()),
    "roc_area": lambda p: roc_area(p.event(), p.classes()),
    "rps": lambda p: rps(p.event()),
    "rps_fair": lambda p: rps(p.event(), fair=True),
    "rps_skill": lambda p: skill(p.event(), p.probabilities(), ranked=True),
}
