"""What a forecast has seen, and what it is judged on, as plain text that fits in attributes.

A hindcast carries a :class:`Provenance`: on which period it was trained, validated, calibrated,
and from which periods its climatology, trend, thresholds and normalization come. A verification
knows :class:`Judged`: the starts and valid times it judges.
:mod:`xearth.verification.leaks.leakage` holds the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.discover import find_axes, find_time
from ...cf.forecast_coords import valid_time
from ...errors import ConfigError, MissingDataError
from ..align import match

__all__ = [
    "Judged",
    "Period",
    "Provenance",
    "Smoothing",
    "joined_periods",
    "same_periods",
    "show",
]

Stamps = npt.NDArray[np.int64]

PREFIX = "xearth_"
SCHEMES = ("in-sample", "leave-one-out", "cross-validated")
ALIGNMENTS = ("centered", "trailing", "leading")

# Names under which forecasters and anomalies say the same without the prefix.
_ALIASES: Mapping[str, str] = {
    "training_period": "training_period",
    "validation_period": "validation_period",
    "calibration_period": "calibration_period",
    "normalization_period": "normalization_period",
    "climatology_base": "base_period",
}

_STAMP = re.compile(
    r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2})(?::(\d{2})(?::(\d{2})(?:\.\d*)?)?)?)?)?)?"
)
_FIRST = (1, 1, 1, 0, 0, 0)
_LAST = (1, 12, 31, 23, 59, 59)
_PLACES = np.array([10**10, 10**8, 10**6, 10**4, 10**2, 1], dtype=np.int64)


@dataclass(frozen=True)
class Period:
    """One or more spans of time, both ends included, and how a statistic was taken from them.

    Ends are compared field by field (year, month, day, ...), so that any calendar will do and
    ``"1981-12"`` means the whole month.

    Parameters
    ----------
    spans : tuple of (str, str)
        First and last stamp of each span.
    scheme : {"in-sample", "leave-one-out", "cross-validated"}
        Whether the verifying time itself was left out of the statistic.

    Raises
    ------
    ConfigError
        No span, a stamp that is not ISO 8601, a span that ends before it starts, or an unknown
        scheme.

    Examples
    --------
    >>> period = Period.parse("1856-01/1981-12, 1990/1995 (leave-one-out)")
    >>> period.scheme, period.contains(np.array([19811216000000, 19820116000000])).tolist()
    ('leave-one-out', [True, False])
    >>> str(Period.parse("1981"))
    '1981/1981'
    """

    spans: tuple[tuple[str, str], ...]
    scheme: str = "in-sample"

    def __post_init__(self) -> None:
        if not self.spans or self.scheme not in SCHEMES:
            raise ConfigError(
                f"Period(spans={self.spans}, scheme={self.scheme!r}): expected at least one span "
                f"and a scheme of {SCHEMES}."
            )
        for first, last in self.spans:
            if _key(first, _FIRST) > _key(last, _LAST):
                raise ConfigError(f"Period {first}/{last}: expected the first stamp first.")

    @classmethod
    def parse(cls, text: str) -> Period:
        """Read ``"1856-01/1981-12, 1990/1995 (leave-one-out)"``; the scheme may be left out."""
        body, _, scheme = text.strip().partition("(")
        spans = []
        for span in body.split(","):
            first, _, last = (part.strip() for part in span.partition("/"))
            spans.append((first, last or first))
        return cls(tuple(spans), scheme.strip(" )") or SCHEMES[0])

    def __str__(self) -> str:
        body = ", ".join(f"{first}/{last}" for first, last in self.spans)
        return body if self.scheme == SCHEMES[0] else f"{body} ({self.scheme})"

    @property
    def first(self) -> int:
        """The earliest instant, as a number YYYYMMDDhhmmss."""
        return min(_key(first, _FIRST) for first, _ in self.spans)

    @property
    def last(self) -> int:
        """The latest instant, as a number YYYYMMDDhhmmss."""
        return max(_key(last, _LAST) for _, last in self.spans)

    def contains(self, stamps: Stamps) -> npt.NDArray[np.bool_]:
        """Tell which stamps (numbers YYYYMMDDhhmmss) lie in a span."""
        inside = np.zeros(np.shape(stamps), dtype=bool)
        for first, last in self.spans:
            inside |= (stamps >= _key(first, _FIRST)) & (stamps <= _key(last, _LAST))
        return inside


@dataclass(frozen=True)
class Smoothing:
    """A running mean: along which axis, over how many steps, and how the window lies.

    Raises
    ------
    ConfigError
        Less than one step, or an unknown alignment.

    Examples
    --------
    >>> Smoothing.parse("init 3 centered").steps
    3
    """

    axis: str
    steps: int
    align: str = "centered"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.align not in ALIGNMENTS or not self.axis:
            raise ConfigError(
                f"{self!r}: expected an axis, at least 1 step and an alignment of {ALIGNMENTS}."
            )

    @classmethod
    def parse(cls, text: str) -> Smoothing:
        """Read ``"init 3 centered"``."""
        words = text.split()
        if len(words) not in (2, 3) or not words[1].isdigit():
            raise ConfigError(
                f"smoothing {text!r}: expected axis, steps and alignment, such as 'init 3 centered'"
            )
        return cls(words[0], int(words[1]), *words[2:])

    def __str__(self) -> str:
        return f"{self.axis} {self.steps} {self.align}"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a forecast has seen; every part may be unknown (None).

    Periods are text, ``"1856-01/1981-12"``, several spans separated by commas; a scheme in
    brackets, ``"1982/2016 (leave-one-out)"``, says that the verifying time was left out.

    Parameters
    ----------
    training_period : str, optional
        All steps that training windows touch, histories and targets.
    validation_period : str, optional
        Where epochs or settings were chosen.
    members_selected_on : str, optional
        Where the members or networks of an ensemble were picked.
    climatology_base : str, optional
        Of the anomalies.
    detrend_period : str, optional
        Where the removed trend was fitted.
    bias_removal_period : str, optional
        Of the starts from which the mean error was taken.
    threshold_base : str, optional
        Where thresholds or quantiles were taken from.
    calibration_period : str, optional
        Where a calibration (dressing, EMOS, width of the spread) was fitted.
    normalization_period : str, optional
        Where mean and standard deviation of the normalization were taken from.
    smoothing : str, optional
        Running means, ``"init 3 centered"``: axis, steps, alignment; several with commas.
    history, horizon : int, optional
        Length of the windows in steps.
    events : tuple of str, optional
        Names of the events (storms, sequences) trained on.

    Raises
    ------
    ConfigError
        A text that cannot be read, or a length below 1.

    Examples
    --------
    >>> seen = Provenance(training_period="1856-01/1981-12", history=12, horizon=18)
    >>> seen.to_attrs()["xearth_training_period"]
    '1856-01/1981-12'
    >>> Provenance.from_attrs(seen.to_attrs()) == seen
    True
    """

    training_period: str | None = None
    validation_period: str | None = None
    members_selected_on: str | None = None
    climatology_base: str | None = None
    detrend_period: str | None = None
    bias_removal_period: str | None = None
    threshold_base: str | None = None
    calibration_period: str | None = None
    normalization_period: str | None = None
    smoothing: str | None = None
    history: int | None = None
    horizon: int | None = None
    events: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in PERIODS:
            try:
                self.period(name)
            except ConfigError as error:
                raise ConfigError(f"Provenance: {name}={getattr(self, name)!r}: {error}") from error
        for name in ("history", "horizon"):
            length = getattr(self, name)
            if length is not None and length < 1:
                raise ConfigError(f"Provenance({name}={length}): expected at least 1 step")
        if isinstance(self.events, str) or any("," in event for event in self.events):
            raise ConfigError(
                f"Provenance(events={self.events!r}): expected a tuple of names without commas"
            )
        self.smoothings  # noqa: B018 - read once, so that a wrong text fails here

    def period(self, name: str) -> Period | None:
        """Return one of the periods by the name of its field, parsed."""
        text = getattr(self, name)
        return None if text is None else _parsed(text)

    @property
    def smoothings(self) -> tuple[Smoothing, ...]:
        """The running means that were taken."""
        parts = (self.smoothing or "").split(",")
        return tuple(Smoothing.parse(part) for part in parts if part.strip())

    def to_attrs(self) -> dict[str, Any]:
        """Return what is known as attributes ``xearth_...``, plain text and whole numbers."""
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value != ():
                plain = ", ".join(value) if isinstance(value, tuple) else value
                found[PREFIX + field.name] = plain
        return found

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> Provenance:
        """Read attributes of a forecast, or the ``provenance`` of a forecaster.

        Attributes ``xearth_...`` go first; where there is none, ``training_period``,
        ``validation_period``, ``calibration_period``, ``normalization_period`` (as
        ``Split.provenance()`` names them) and ``base_period`` (the climatology base) are taken if
        they hold a period.

        Raises
        ------
        ConfigError
            An attribute ``xearth_...`` that cannot be read.
        """
        found: dict[str, Any] = {}
        for field in fields(cls):
            value = attrs.get(PREFIX + field.name)
            if value is None:
                value = _readable(attrs.get(_ALIASES.get(field.name, "")))
            if value is None:
                continue
            if field.name == "events":
                value = tuple(part.strip() for part in str(value).split(",") if part.strip())
            elif field.name in ("history", "horizon"):
                value = int(value)
            else:
                value = str(value)
            found[field.name] = value
        return cls(**found)


PERIODS = tuple(
    field.name
    for field in fields(Provenance)
    if field.name not in ("smoothing", "history", "horizon", "events")
)


@dataclass(frozen=True, eq=False)
class Judged:
    """The starts and valid times that a verification judges, as numbers YYYYMMDDhhmmss.

    Parameters
    ----------
    inits : ndarray (I,)
    valid : ndarray (I, L)
    events : tuple of str
        Names of the events judged, if they have any.
    known : ndarray of bool (I, L), optional
        Where there is a truth, so that something is judged; by default everywhere.

    Raises
    ------
    MissingDataError
        Nothing is judged.

    Examples
    --------
    >>> from xearth import samples
    >>> from xearth.reference.persistence import Persistence
    >>> sst = samples.open("oisst_nino34")
    >>> fc = Persistence.fit(sst, horizon=2).forecast(sst, init="1997-06")
    >>> Judged.of(fc).valid.tolist()
    [[19970701000000, 19970801000000]]
    """

    inits: Stamps
    valid: Stamps
    events: tuple[str, ...] = ()
    known: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.known is not None and not self.known.any():
            raise MissingDataError(
                f"Judged: none of the {self.valid.size} valid times, {self.window}, has a truth."
            )
        if self.inits.ndim != 1 or self.valid.ndim != 2 or self.valid.size == 0:
            raise MissingDataError(
                f"Judged: expected inits (I,) and valid times (I, L), at least one of each; found "
                f"shapes {self.inits.shape} and {self.valid.shape}."
            )

    @classmethod
    def of(cls, forecast: xr.DataArray | xr.Dataset, truth: xr.DataArray | None = None) -> Judged:
        """Read the coordinates of a forecast (init, lead, ...); no value is touched.

        Valid times outside the record of a truth (time, ...) are not judged.
        """
        forecast = _with_starts(forecast)
        axes = find_axes(forecast, require=("init", "lead"))
        init = str(axes.init)
        valid = valid_time(forecast)
        known = None
        if truth is not None and find_time(truth) in truth.dims:
            known = xr.DataArray(match(forecast, truth)[3], dims=valid.dims)
        events = forecast.coords.get("event")
        names = () if events is None else tuple(map(str, np.atleast_1d(events.values)))
        if init not in valid.dims:
            valid = valid.expand_dims(init)
        order = (init, *(dim for dim in valid.dims if dim != init))
        stamps = _numbers(valid.transpose(*order))
        size = (stamps.shape[0], -1)
        return cls(
            np.atleast_1d(_numbers(forecast[init])),
            stamps.reshape(size),
            names,
            None if known is None else known.transpose(*order).values.reshape(size),
        )

    def inside(self, period: Period) -> npt.NDArray[np.bool_]:
        """Tell which valid times with a truth (I, L) lie in a period."""
        inside = period.contains(self.valid)
        return inside if self.known is None else inside & self.known

    @property
    def stamps(self) -> Stamps:
        """The valid times that are judged, each once."""
        return np.unique(self.valid if self.known is None else self.valid[self.known])

    @property
    def window(self) -> str:
        """First and last valid time in words."""
        stamps = self.stamps if self.known is None or self.known.any() else self.valid
        return f"{show(stamps.min())} to {show(stamps.max())}"


def _with_starts(forecast: xr.DataArray | xr.Dataset) -> Any:
    """Give a single start or lead its dimension."""
    axes = find_axes(forecast)
    for kind in ("init", "lead"):
        single = getattr(axes, kind) is None and kind in forecast.coords
        if single and forecast[kind].ndim == 0:
            forecast = forecast.expand_dims(kind)
    return forecast


def same_periods(a: str, b: str) -> bool:
    """Tell whether two texts mean the same period, however the verifying time was treated.

    Examples
    --------
    >>> same_periods("1981/2010", "1981-01/2010-12 (leave-one-out)")
    True
    """
    if a == b:
        return True
    if _readable(a) is None or _readable(b) is None:
        return False
    mine, theirs = (
        sorted((_key(first, _FIRST), _key(last, _LAST)) for first, last in _parsed(text).spans)
        for text in (a, b)
    )
    return mine == theirs


def joined_periods(a: str | None, b: str | None) -> str | None:
    """Return the spans of two statistics that both count: what either of them has seen.

    Where only one has seen the verifying times themselves, that one is what matters.

    Examples
    --------
    >>> joined_periods("1951/1980", "1985/1995"), joined_periods("1951/1980", None)
    ('1951/1980, 1985/1995', '1951/1980')
    >>> joined_periods("1981/2010 (leave-one-out)", "1951/1980")
    '1951/1980'
    """
    if a is None or b is None or a == b:
        return b if a is None else a
    mine, theirs = _parsed(a), _parsed(b)
    if mine.scheme != theirs.scheme:
        return b if theirs.scheme == SCHEMES[0] else a
    spans = (*mine.spans, *(span for span in theirs.spans if span not in mine.spans))
    return str(Period(spans, mine.scheme))


def show(stamp: int) -> str:
    """Write a number YYYYMMDDhhmmss as a date, with the clock where it is not midnight."""
    text = f"{int(stamp):014d}"
    date = f"{text[:4]}-{text[4:6]}-{text[6:8]}"
    return date if text[8:] == "000000" else f"{date}T{text[8:10]}:{text[10:12]}"


@lru_cache(maxsize=256)
def _parsed(text: str) -> Period:
    return Period.parse(text)


@lru_cache(maxsize=512)
def _key(stamp: str, filling: tuple[int, ...]) -> int:
    """Return a stamp as a number, its missing parts filled."""
    match = _STAMP.fullmatch(stamp.strip())
    if match is None:
        raise ConfigError(
            f"stamp {stamp!r}: expected ISO 8601, such as 1981, 1981-12 or 1981-12-16"
        )
    parts = [
        int(part) if part else fill for part, fill in zip(match.groups(), filling, strict=True)
    ]
    return int(np.dot(parts, _PLACES))


def _numbers(stamps: xr.DataArray) -> Stamps:
    """Return stamps of any calendar as numbers YYYYMMDDhhmmss."""
    parts = ("year", "month", "day", "hour", "minute", "second")
    total = np.zeros(stamps.shape, dtype=np.int64)
    for part, place in zip(parts, _PLACES, strict=True):
        total += np.asarray(getattr(stamps.dt, part).values, dtype=np.int64) * place
    return total


def _readable(value: Any) -> str | None:
    """Return a text of foreign attributes if it is a period, else nothing."""
    if value is None:
        return None
    try:
        return str(_parsed(str(value)))
    except ConfigError:
        return None
