"""The leak guard: what a forecast is judged on must not have gone into it, nor into the score.

Twelve ways in which a score comes out better than it will be in use, one row of :data:`RULES`
each. A row reads what the forecast says it has seen (:class:`~.provenance.Provenance`) and what is
judged (:class:`~.provenance.Judged`); some leaks also show in the numbers
(:mod:`xearth.verification.leaks.evidence`), and some can be undone, which tells their price
(:mod:`xearth.verification.leaks.honest`).

================  =================================================================================
climatology       the normal that anomalies depart from was taken from the judged window
detrending        the trend removed was fitted to years after the first start
overlap           judged starts were trained on, all their targets
shared_months     windows of training and test share months: some targets were trained on
smoothing         a running mean across starts, or over months that follow the start
bias_removal      the mean error removed holds the error of the verifying time itself
threshold         thresholds or quantiles were taken from the judged data
calibration       spread or bias were calibrated on judged times
members           members were picked by their success at judged times
validation        epochs or settings were chosen at judged times
duplicates        an event judged was also trained on
normalization     mean and standard deviation of the inputs were taken from the judged data
================  =================================================================================

A history that reaches back into the training period is no leak: a forecaster in use has seen all
that lies before its start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...errors import ConfigError, LeakageWarning, warn
from .evidence import evidence
from .honest import BY_STARTS, Price, Redo, prices
from .provenance import Judged, Provenance, joined_periods, show

__all__ = ["RULES", "Leak", "find_leaks", "guard"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Leak:
    """One leak that was found.

    Attributes
    ----------
    kind : str
        A row of :data:`RULES`.
    message : str
        What leaks, how far, and the remedy.
    prices : tuple of Price
        What it is worth in skill, where that could be computed again.
    """

    kind: str
    message: str
    prices: tuple[Price, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.message, *(f"Price: {price}." for price in self.prices)])


@dataclass(frozen=True)
class Finding:
    """What a rule found: in words, and which of the judged starts are concerned (I,)."""

    text: str
    starts: Mask


Check = Callable[[Provenance, Judged], Finding | None]


@dataclass(frozen=True)
class Rule:
    """One leak: how it is found and what is to be done.

    Attributes
    ----------
    kind : str
    field : str
        The part of a :class:`~.provenance.Provenance` that tells.
    check : callable
        Provenance and judged to a finding or None.
    remedy : str
    """

    kind: str
    field: str
    check: Check
    remedy: str


def _inside(seen: Provenance, judged: Judged, field: str) -> Mask | None:
    """Tell which judged times (I, L) a statistic has seen; None if it has seen none."""
    period = seen.period(field)
    if period is None or period.scheme != "in-sample":
        return None
    inside = judged.inside(period)
    return inside if inside.any() else None


def _period_rule(field: str, what: str) -> Check:
    """Make a check that no judged valid time lies in a period."""

    def check(seen: Provenance, judged: Judged) -> Finding | None:
        inside = _inside(seen, judged, field)
        if inside is None:
            return None
        times, all_times = np.unique(judged.valid[inside]).size, judged.stamps.size
        return Finding(
            f"{what} {getattr(seen, field)}, which holds {times} of the {all_times} judged valid "
            f"times ({judged.window})",
            np.any(inside, axis=1),
        )

    return check


def _trained_on(judged: Judged, inside: Mask) -> Mask:
    """Tell which starts (I,) have all the valid times that are judged in the training period."""
    known = np.ones_like(inside) if judged.known is None else judged.known
    whole: Mask = np.all(inside | ~known, axis=1) & np.any(inside, axis=1)
    return whole


def _overlap(seen: Provenance, judged: Judged) -> Finding | None:
    inside = _inside(seen, judged, "training_period")
    if inside is None or not _trained_on(judged, inside).any():
        return None
    return _of_training(seen, judged, _trained_on(judged, inside), "all")


def _shared(seen: Provenance, judged: Judged) -> Finding | None:
    inside = _inside(seen, judged, "training_period")
    if inside is None:
        return None
    starts: Mask = np.any(inside, axis=1) & ~_trained_on(judged, inside)
    return _of_training(seen, judged, starts, "some of") if starts.any() else None


def _of_training(seen: Provenance, judged: Judged, starts: Mask, how_many: str) -> Finding:
    first, last = (show(stamp) for stamp in judged.inits[starts][[0, -1]])
    return Finding(
        f"{starts.sum()} of {starts.size} judged starts ({first} to {last}) have {how_many} their "
        f"valid times in the training period {seen.training_period}",
        starts,
    )


def _future_trend(seen: Provenance, judged: Judged) -> Finding | None:
    period = seen.period("detrend_period")
    if period is None or period.scheme != "in-sample" or period.last <= judged.inits.min():
        return None
    return Finding(
        f"the trend removed was fitted to {seen.detrend_period}, which goes on after the first "
        f"judged start {show(judged.inits.min())}",
        judged.inits < period.last,
    )


def _smoothed(seen: Provenance, judged: Judged) -> Finding | None:
    across = [
        smoothing
        for smoothing in seen.smoothings
        if smoothing.steps > 1
        and (
            smoothing.axis == "init" or (smoothing.axis == "time" and smoothing.align != "trailing")
        )
    ]
    if not across:
        return None
    return Finding(
        f"the forecasts hold running means ({', '.join(map(str, across))}) that mix starts or "
        "reach past the start",
        np.ones(judged.inits.size, dtype=bool),
    )


def _duplicates(seen: Provenance, judged: Judged) -> Finding | None:
    twice = sorted(set(seen.events) & set(judged.events))
    if not twice:
        return None
    shown = ", ".join(twice[:5]) + (", ..." if len(twice) > 5 else "")
    starts = np.isin(np.asarray(judged.events), twice)
    known = starts.size == judged.inits.size
    return Finding(
        f"{len(twice)} judged events were also trained on ({shown})",
        starts if known else np.ones(judged.inits.size, dtype=bool),
    )


_OUTSIDE = "or verify other starts"

#: One row for each leak.
RULES: tuple[Rule, ...] = (
    Rule(
        "climatology",
        "climatology_base",
        _period_rule("climatology_base", "the climatology is that of"),
        "Take it from years before the judged ones: anomaly(obs, base=(first, last)), or leave "
        "the verifying year out",
    ),
    Rule(
        "detrending",
        "detrend_period",
        _future_trend,
        "Fit the trend to years before the first start and extrapolate it",
    ),
    Rule("overlap", "training_period", _overlap, f"Train on other years, {_OUTSIDE}"),
    Rule(
        "shared_months",
        "training_period",
        _shared,
        "Leave a gap of the horizon between the training period and the first judged start",
    ),
    Rule(
        "smoothing",
        "smoothing",
        _smoothed,
        "Smooth each forecast along its leads, or with a trailing mean that ends at the start",
    ),
    Rule(
        "bias_removal",
        "bias_removal_period",
        _period_rule("bias_removal_period", "the mean error removed is that of"),
        "Take the mean error from other years, or leave the verifying year out and say so: "
        "bias_removal_period='... (leave-one-out)'",
    ),
    Rule(
        "threshold",
        "threshold_base",
        _period_rule("threshold_base", "thresholds or quantiles are those of"),
        f"Take them from years that are not judged, {_OUTSIDE}",
    ),
    Rule(
        "calibration",
        "calibration_period",
        _period_rule("calibration_period", "the forecasts were calibrated on"),
        f"Calibrate on training years only, {_OUTSIDE}",
    ),
    Rule(
        "members",
        "members_selected_on",
        _period_rule("members_selected_on", "members were picked on"),
        f"Pick members on a validation period, {_OUTSIDE}",
    ),
    Rule(
        "validation",
        "validation_period",
        _period_rule("validation_period", "epochs or settings were chosen on"),
        f"Keep a test period apart from the validation, {_OUTSIDE}",
    ),
    Rule(
        "duplicates",
        "events",
        _duplicates,
        "Drop them from one of the two, with all their windows",
    ),
    Rule(
        "normalization",
        "normalization_period",
        _period_rule("normalization_period", "mean and standard deviation are those of"),
        "Fit the normalization to the training period alone",
    ),
)


def find_leaks(
    seen: Provenance,
    judged: Judged,
    *,
    forecast: xr.DataArray | None = None,
    truth: xr.DataArray | None = None,
    record: xr.DataArray | None = None,
    honest: Mapping[str, Redo] | None = None,
) -> tuple[Leak, ...]:
    """Return the leaks of a verification, with their price where it can be told.

    Parameters
    ----------
    seen : Provenance
        What the forecast and its truth have seen.
    judged : Judged
        What is judged.
    forecast, truth : DataArray, optional
        As judged: (init, lead, ...), the truth also (time, ...). Where both are in memory, leaks
        are sought in the numbers as well and prices are computed; Dask arrays are never computed
        for that.
    record : DataArray (time, ...), optional
        The truth beyond the judged window, in the same units and anomalies, which prices of
        climatology and detrending need; by default ``truth`` if that is (time, ...).
    honest : mapping of str to callable, optional
        For each kind of leak a function without arguments that returns forecast and truth made
        again without it; only called if that leak is found.

    Returns
    -------
    tuple of Leak

    Raises
    ------
    ConfigError
        ``honest`` holds an unknown kind.

    Examples
    --------
    >>> judged = Judged(np.array([19811201000000]), np.array([[19820101000000, 19820201000000]]))
    >>> seen = Provenance(training_period="1950-01/1982-01", climatology_base="1951/1980")
    >>> [leak.kind for leak in find_leaks(seen, judged)]
    ['shared_months']
    """
    honest = {} if honest is None else honest
    unknown = sorted(set(honest) - {rule.kind for rule in RULES})
    if unknown:
        raise ConfigError(
            f"honest={unknown}: expected kinds of leaks, of {[rule.kind for rule in RULES]}."
        )
    found = {rule.kind: rule.check(seen, judged) for rule in RULES}
    pair = None
    if forecast is not None and truth is not None and not _lazy(forecast, truth):
        pair = (forecast, truth)
        everything = np.ones(judged.inits.size, dtype=bool)
        for kind, text in evidence(*pair, seen).items():
            found[kind] = found[kind] or Finding(text, everything)
    concerned = np.zeros(judged.inits.size, dtype=bool)
    for kind in BY_STARTS:
        finding = found[kind]
        concerned |= False if finding is None else finding.starts
    leaks = []
    for rule in RULES:
        finding = found[rule.kind]
        if finding is None:
            continue
        worth: tuple[Price, ...] = ()
        if pair is not None:
            worth = prices(
                rule.kind, *pair, starts=concerned, record=record, redo=honest.get(rule.kind)
            )
        title = rule.kind.replace("_", " ")
        leaks.append(Leak(rule.kind, f"{title}: {finding.text}. {rule.remedy}.", worth))
    return tuple(leaks)


def guard(
    forecast: xr.DataArray,
    truth: xr.DataArray | None = None,
    *,
    climatology: xr.DataArray | None = None,
    seen: Provenance | None = None,
    record: xr.DataArray | None = None,
    honest: Mapping[str, Redo] | None = None,
) -> tuple[Leak, ...]:
    """Warn of every leak of a verification, and return the leaks.

    Parameters
    ----------
    forecast : DataArray (init, lead, ...)
        Its attributes say what it has seen (:meth:`~.provenance.Provenance.from_attrs`).
    truth : DataArray (time, ...) or (init, lead, ...), optional
        Its attributes tell of climatology, trend, thresholds and normalization as well: where
        both state a period, neither may hold what is judged. What lies beyond its record is not
        judged.
    climatology : DataArray, optional
        What scores of anomalies depart from; ``attrs["base_period"]`` says whence it is.
    seen : Provenance, optional
        Instead of the attributes.
    record, honest : optional
        As :func:`find_leaks`.

    Returns
    -------
    tuple of Leak

    Warns
    -----
    LeakageWarning
        One for each leak, with remedy and price.

    Raises
    ------
    ConfigError
        Attributes ``xearth_...`` that cannot be read, or an unknown kind in ``honest``.

    Examples
    --------
    >>> from xearth import samples
    >>> from xearth.reference.persistence import Persistence
    >>> sst = samples.open("oisst_nino34")
    >>> fc = Persistence.fit(sst, horizon=2).forecast(sst, init=slice("1990", "1995"))
    >>> guard(fc, seen=Provenance(training_period="1950/1981"))
    ()
    """
    seen = _seen(climatology, forecast, truth) if seen is None else seen
    leaks = find_leaks(
        seen,
        Judged.of(forecast, truth),
        forecast=forecast,
        truth=truth,
        record=record,
        honest=honest,
    )
    for leak in leaks:
        warn(str(leak), LeakageWarning)
    return leaks


_OF_THE_TRUTH = ("climatology_base", "detrend_period", "normalization_period", "threshold_base")


def _seen(
    climatology: xr.DataArray | None, forecast: xr.DataArray, truth: xr.DataArray | None
) -> Provenance:
    """Read what forecast, truth and climatology say of themselves."""
    seen = Provenance.from_attrs(forecast.attrs)
    if truth is not None:
        other = Provenance.from_attrs(truth.attrs)
        both: dict[str, Any] = {
            name: joined_periods(getattr(seen, name), getattr(other, name))
            for name in _OF_THE_TRUTH
        }
        seen = dataclasses.replace(seen, **both)
    if climatology is not None:
        base = Provenance.from_attrs(climatology.attrs).climatology_base
        seen = dataclasses.replace(seen, climatology_base=base)
    return seen


def _lazy(*arrays: xr.DataArray) -> bool:
    return any(array.chunks is not None for array in arrays)
