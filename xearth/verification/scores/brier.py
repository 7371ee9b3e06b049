r"""The Brier score, its parts, and the ranked probability score.

Let :math:`p` be the forecast probability of an event, of an ensemble the fraction :math:`i / M`
of its members, and :math:`o` 1 where it happens, else 0.

======================  ========================================================================
Brier                   :math:`\langle (p - o)^2 \rangle`
Brier, fair             :math:`\langle (p - o)^2 - p (1 - p) / (M - 1) \rangle`
Brier skill             :math:`1 - B / \langle (r - o)^2 \rangle` of a reference probability r
ranked probability      the sum of the Brier scores of all thresholds
======================  ========================================================================

**Parts.** Over classes of probability :math:`b` with shares :math:`w_b`, mean probabilities
:math:`\bar p_b`, observed frequencies :math:`\bar o_b` and :math:`\bar o = \sum w_b \bar o_b`,

.. math::
   B = \underbrace{\sum w_b (\bar p_b - \bar o_b)^2}_\text{reliability}
     - \underbrace{\sum w_b (\bar o_b - \bar o)^2}_\text{resolution}
     + \underbrace{\bar o (1 - \bar o)}_\text{uncertainty}
     + \underbrace{\sum w_b \langle (p - \bar p_b)^2 \rangle_b
     - 2 \sum w_b \langle (p - \bar p_b)(o - \bar o_b) \rangle_b}_\text{within the classes},

and the last two vanish where every class holds one probability (Murphy 1973; Stephenson et al.
2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ...cf.attrs import score_attrs
from ...errors import ConfigError
from ..block import Array
from ..pairs import Dims
from ..points import over_points
from ..thresholds import Op
from .event_inputs import Bins, read_events
from .events import Classes, EnsembleEvent, EventSource, GivenEvent
from .probabilistic import check_estimator
from .probability_rows import PARTS, decomposed
from .probability_rows import brier as brier_row
from .probability_rows import brier_decomposition as decomposition_row
from .probability_rows import rps as rps_row
from .probability_rows import skill as skill_row

__all__ = ["brier", "brier_decomposition", "brier_skill", "rps", "rps_skill"]

Estimator = Literal["ensemble", "fair"]


def brier(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any = None,
    op: Op = ">=",
    estimator: Estimator = "ensemble",
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the Brier score of an ensemble at thresholds, or of given probabilities.

    Parameters
    ----------
    forecast, obs : DataArray
        Ensemble and truth; or, without thresholds, probabilities of an event (0 .. 1, or
        percent with such units) and outcomes (0 or 1).
    thresholds : str, quantity, number, or a sequence of them, optional
        With units, such as ``["1 mm/h", "5 mm/h"]``.
    op : {">=", ">"}
        An event is a value at or above the threshold, or above it.
    estimator : {"ensemble", "fair"}
        Of the fraction of the members, or what infinitely many would have.
    dim : name or names, optional
        What to average over; by default all dimensions but the member's, ``()`` for none.
    weights : DataArray, optional
        On dimensions that are averaged over.
    member : str
        Name of the member dimension. Members that are NaN are left out, point by point.

    Returns
    -------
    DataArray
        With a dimension ``threshold`` for an ensemble.

    Raises
    ------
    AxisError
        No member dimension.
    ConfigError
        Probabilities outside of 0 .. 1, outcomes other than 0 and 1, another estimator, or the
        fair one of probabilities or of one member.
    UnitsError
        Thresholds without units, or units that do not convert.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[0.0, 2.0, 6.0, 8.0]], dims=("init", "member"), attrs={"units": "mm h-1"})
    >>> o = xr.DataArray([7.0], dims="init", attrs={"units": "mm h-1"})
    >>> brier(f, o, thresholds=["1 mm/h", "5 mm/h"]).values.tolist()
    [0.0625, 0.25]
    >>> brier(xr.DataArray([0.25, 1.0]), xr.DataArray([0, 1])).item()
    0.03125
    """
    fair = _fair(estimator, thresholds)
    events = read_events(forecast, obs, thresholds, op=op, member=member)
    return events.evaluate(brier_row(events.source, fair=fair), dim=dim, weights=weights)


def rps(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    estimator: Estimator = "ensemble",
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the ranked probability score: the sum over the thresholds of the Brier scores.

    Not divided by the number of thresholds. Parameters as in :func:`brier`.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[0.0, 2.0, 6.0, 8.0]], dims=("init", "member"))
    >>> rps(f, xr.DataArray([7.0], dims="init"), thresholds=[1, 5]).item()
    0.3125
    """
    fair = _fair(estimator, thresholds)
    events = read_events(forecast, obs, thresholds, op=op, member=member)
    score = rps_row(_require_thresholds(events.source), fair=fair)
    return events.evaluate(score, dim=dim, weights=weights)


def brier_skill(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    reference: float | Sequence[float],
    thresholds: Any = None,
    op: Op = ">=",
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the Brier skill score against a constant probability.

    Parameters as in :func:`brier`, and

    Parameters
    ----------
    reference : float or sequence of float
        Probability of the event, one for each threshold in ascending order: its frequency in
        years that are not judged. Their own frequency is a forecast nobody could make; a score
        against it is ``(resolution - reliability) / uncertainty`` of :func:`brier_decomposition`.

    Returns
    -------
    DataArray
        1 for a perfect forecast, 0 for the reference.

    Examples
    --------
    >>> import xarray as xr
    >>> p, o = xr.DataArray([0.25, 1.0]), xr.DataArray([0, 1])
    >>> brier_skill(p, o, reference=0.5).item()
    0.875
    """
    events = read_events(forecast, obs, thresholds, op=op, member=member)
    score = skill_row(events.source, _reference(reference, events.source))
    return events.evaluate(score, dim=dim, weights=weights)


def rps_skill(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    reference: float | Sequence[float],
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the ranked probability skill score against constant probabilities.

    Parameters as in :func:`brier_skill`.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[0.0, 2.0, 6.0, 8.0]], dims=("init", "member"))
    >>> o = xr.DataArray([7.0], dims="init")
    >>> round(rps_skill(f, o, thresholds=[1, 5], reference=[2 / 3, 1 / 3]).item(), 4)
    0.4375
    """
    events = read_events(forecast, obs, thresholds, op=op, member=member)
    _require_thresholds(events.source)
    score = skill_row(events.source, _reference(reference, events.source), ranked=True)
    return events.evaluate(score, dim=dim, weights=weights)


def brier_decomposition(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any = None,
    op: Op = ">=",
    bins: Bins = None,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the Brier score and its parts: reliability, resolution, uncertainty.

    Parameters as in :func:`brier`, and

    Parameters
    ----------
    bins : int or sequence of float, optional
        Number of equal classes of probability, or their edges from 0 to 1; they add up block by
        block. By default one class for each probability there is, which makes the parts those of
        Murphy exactly: known beforehand for an ensemble, found in the data for given
        probabilities (then the dimensions averaged over become one chunk).

    Returns
    -------
    DataArray
        With a dimension ``brier_component``: ``brier`` = ``reliability`` - ``resolution`` +
        ``uncertainty`` + ``within_class_variance`` - ``within_class_covariance``; the last two
        are 0 where every class holds one probability.

    Examples
    --------
    >>> import xarray as xr
    >>> p, o = xr.DataArray([0.0, 0.5, 0.5, 1.0]), xr.DataArray([0, 0, 1, 1])
    >>> brier_decomposition(p, o).sel(brier_component=["reliability", "resolution"]).values.tolist()
    [0.0, 0.125]
    """
    events = read_events(forecast, obs, thresholds, op=op, member=member)
    if bins is None and isinstance(events.source, GivenEvent):
        return _exact(events.forecast, events.obs, dim, weights)
    score = decomposition_row(events.source, events.classes(bins, 10))
    return events.evaluate(score, dim=dim, weights=weights)


def _exact(
    forecast: xr.DataArray, obs: xr.DataArray, dim: Dims, weights: xr.DataArray | None
) -> xr.DataArray:
    """Return the parts with one class for each probability that occurs."""
    score = decomposition_row(GivenEvent(), Classes.of_members(1))
    found = over_points(_exact_parts, forecast, obs, dim=dim, weights=weights, new=score.coords)
    found.attrs = score_attrs(score.facts.long_name)
    return found.rename(score.name)


def _exact_parts(p: Array, o: Array, w: Array) -> Array:
    """Return the parts of one set of points (n,)."""
    total = w.sum()
    if not total > 0:
        return np.full(len(PARTS), np.nan)
    _, kind = np.unique(p, return_inverse=True)
    amounts = (np.ones_like(p), o, p, p * p, p * o)
    table = np.stack([np.bincount(kind, w * amount) for amount in amounts], axis=-1)
    return decomposed(table / total)


def _fair(estimator: str, thresholds: Any) -> bool:
    fair = check_estimator(estimator) == "fair"
    if fair and thresholds is None:
        raise ConfigError(
            "the fair Brier score is one of members; found a probability. Give the ensemble and "
            "thresholds=..., or use estimator='ensemble'."
        )
    return fair


def _require_thresholds(source: EventSource) -> EnsembleEvent:
    if isinstance(source, EnsembleEvent):
        return source
    raise ConfigError(
        "the ranked probability score needs the thresholds between its categories; found "
        "thresholds=None. Give for example thresholds=['1 mm/h', '5 mm/h']."
    )


def _reference(reference: float | Sequence[float], source: EventSource) -> Array:
    """Return the probabilities of the reference forecast: one, or one for each threshold."""
    found = np.asarray(reference, dtype=np.float64)
    number = len(source.thresholds.values) if isinstance(source, EnsembleEvent) else 1
    if found.shape not in ((), (number,)) or not ((found >= 0) & (found <= 1)).all():
        raise ConfigError(
            f"reference must hold one probability in 0 .. 1, or one for each of {number} "
            f"thresholds; found {reference!r}."
        )
    return found if isinstance(source, EnsembleEvent) else found.reshape(())
