"""Reliability diagrams, sharpness and ROC of probabilities, as sums that add.

Formulas of the parts of the Brier score: :mod:`xearth.verification.scores.brier`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ...cf.attrs import score_attrs
from ..block import Array
from ..pairs import Dims
from ..points import over_points
from ..thresholds import Op
from .event_inputs import Bins, read_events
from .events import GivenEvent
from .probability_rows import TABLE
from .probability_rows import reliability as reliability_row
from .probability_rows import roc as roc_row
from .probability_rows import roc_area as roc_area_row

__all__ = ["reliability", "roc", "roc_area"]


def reliability(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any = None,
    op: Op = ">=",
    bins: Bins = None,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.Dataset:
    """Return the data of a reliability diagram.

    Parameters
    ----------
    forecast, obs : DataArray
        Ensemble and truth; or, without thresholds, probabilities of an event (0 .. 1, or
        percent with such units) and outcomes (0 or 1).
    thresholds : str, quantity, number, or a sequence of them, optional
        With units, such as ``["1 mm/h", "5 mm/h"]``.
    op : {">=", ">"}
        An event is a value at or above the threshold, or above it.
    bins : int or sequence of float, optional
        Number of equal classes of probability, or their edges from 0 to 1. A class goes from its
        lower edge to below the next, the last one is closed. By default one class for each number
        of members, or 10 of given probabilities.
    dim : name or names, optional
        What to take together; by default all dimensions but the member's.
    weights : DataArray, optional
        On dimensions that are averaged over.
    member : str
        Name of the member dimension. Members that are NaN are left out, point by point.

    Returns
    -------
    Dataset
        By ``probability_class``, and ``threshold`` of an ensemble: ``share`` of the forecasts
        (their histogram: sharpness), their mean ``probability``, and the observed ``frequency``
        of the event; NaN in empty classes.

    Raises
    ------
    AxisError, ConfigError, UnitsError
        As :func:`~xearth.verification.brier`; edges that do not go from 0 to 1.

    Examples
    --------
    >>> import xarray as xr
    >>> p, o = xr.DataArray([0.1, 0.2, 0.2, 0.9]), xr.DataArray([0, 0, 1, 1])
    >>> reliability(p, o, bins=2).frequency.round(3).values.tolist()
    [0.333, 1.0]
    """
    events = read_events(forecast, obs, thresholds, op=op, member=member)
    score = reliability_row(events.source, events.classes(bins, 10))
    found = events.evaluate(score, dim=dim, weights=weights)
    names = {
        "share": "share of the forecasts in the class",
        "probability": "mean forecast probability",
        "frequency": "observed relative frequency",
    }
    return _parts(found, "quantity", {name: names[name] for name in TABLE})


def roc(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any = None,
    op: Op = ">=",
    bins: Bins = None,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.Dataset:
    """Return the ROC curve: hit rate against false-alarm rate of "yes" from each probability on.

    Parameters as in :func:`reliability`; by default one point for each number of members, or 100
    classes of given probabilities.

    Returns
    -------
    Dataset
        ``hit_rate`` and ``false_alarm_rate`` by ``least_probability``, from 0 (always "yes") to
        infinity (never); NaN where the event always or never happened.

    Examples
    --------
    >>> import xarray as xr
    >>> p, o = xr.DataArray([0.1, 0.6, 0.4, 0.9]), xr.DataArray([0, 0, 1, 1])
    >>> curve = roc(p, o, bins=2)
    >>> curve.hit_rate.values.tolist(), curve.false_alarm_rate.values.tolist()
    ([1.0, 0.5, 0.0], [1.0, 0.5, 0.0])
    """
    events = read_events(forecast, obs, thresholds, op=op, member=member)
    score = roc_row(events.source, events.classes(bins, 100))
    found = events.evaluate(score, dim=dim, weights=weights)
    return _parts(found, "rate", {"hit_rate": "hit rate", "false_alarm_rate": "false alarm rate"})


def roc_area(
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
    """Return the area under the ROC curve.

    The probability that a forecast before an event is higher than one before none, ties counting
    half. Parameters as in :func:`reliability`. Exact for an ensemble, and by default for given
    probabilities (then the dimensions taken together become one chunk); with ``bins`` it is that
    of the binned curve, and adds up block by block: the attribute ``method`` says which.

    Examples
    --------
    >>> import xarray as xr
    >>> p, o = xr.DataArray([0.1, 0.6, 0.4, 0.9]), xr.DataArray([0, 0, 1, 1])
    >>> roc_area(p, o).item(), roc_area(p, o, bins=2).item()
    (0.75, 0.5)
    """
    events = read_events(forecast, obs, thresholds, op=op, member=member)
    score = roc_area_row(events.source, events.classes(bins, 100))
    if bins is None and isinstance(events.source, GivenEvent):
        found = over_points(
            _area, events.forecast, events.obs, dim=dim, weights=weights, new={}
        ).rename(score.name)
        found.attrs = score_attrs(score.facts.long_name)
    else:
        found = events.evaluate(score, dim=dim, weights=weights)
    found.attrs["method"] = "exact" if bins is None else "binned"
    return found


def _area(p: Array, o: Array, w: Array) -> Array:
    """Return the exact area of points with weights: concordant pairs plus half of the ties."""
    events, others = w * o, w * (1 - o)
    if not (events.sum() > 0 and others.sum() > 0):
        return np.asarray(np.nan)
    _, kind = np.unique(p, return_inverse=True)
    yes, no = np.bincount(kind, events), np.bincount(kind, others)
    below = np.cumsum(no) - no
    return np.asarray((yes * (below + no / 2)).sum() / (yes.sum() * no.sum()))


def _parts(found: xr.DataArray, dim: str, names: dict[str, str]) -> xr.Dataset:
    """Split a score along one of its own dimensions into variables."""
    parts = {name: found.sel({dim: name}, drop=True) for name in names}
    for name, long_name in names.items():
        kept = {"event": found.attrs["event"]} if "event" in found.attrs else {}
        parts[name].attrs = score_attrs(long_name) | kept
    return xr.Dataset(parts)
