r"""Calendars as integer arithmetic: stamps <-> microseconds, months, and the style of a stamp.

Notation
--------
:math:`u` is a stamp as an integer count of microseconds since 1970-01-01 in its own calendar;
:math:`m` a month as an integer count since the year 0; :math:`s(m)` the first instant of a month
and :math:`L(m) = s(m + 1) - s(m)` its length. A stamp inside its month is
:math:`w = u - s(m)`. The *style* of a monthly axis is the rule that gives :math:`w` for any
month, so that a series of mid-month stamps goes on mid-month.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import cftime
import numpy as np

from ..errors import TimeAxisError

DAY = 86_400_000_000
SECONDS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
EPOCH = "microseconds since 1970-01-01"
_EPOCH_MONTH = 1970 * 12


# Days of a common year before each month.
_BEFORE = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30])


def _proleptic_days(m: np.ndarray) -> np.ndarray:
    days: np.ndarray = (
        (m - _EPOCH_MONTH).astype("datetime64[M]").astype("datetime64[D]").astype(int)
    )
    return days


def _noleap_days(m: np.ndarray) -> np.ndarray:
    days: np.ndarray = (m // 12 - 1970) * 365 + _BEFORE[m % 12]
    return days


def _all_leap_days(m: np.ndarray) -> np.ndarray:
    days: np.ndarray = (m // 12 - 1970) * 366 + _BEFORE[m % 12] + (m % 12 > 1)
    return days


# Days from 1970-01-01 to the first of month m, where a calendar has a closed form.
_DAYS_BEFORE: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "proleptic_gregorian": _proleptic_days,
    "standard": _proleptic_days,
    "noleap": _noleap_days,
    "365_day": _noleap_days,
    "all_leap": _all_leap_days,
    "366_day": _all_leap_days,
    "360_day": lambda m: (m - _EPOCH_MONTH) * 30,
}
_REGULAR_FROM = {"standard": 1582 * 12 + 10}  # the Gregorian reform left October 1582 short


@dataclass(frozen=True)
class Calendar:
    """A calendar and the type of its stamps.

    Parameters
    ----------
    name : str
        CF name: ``"proleptic_gregorian"`` for datetime64, else that of the cftime stamps.
    dtype : numpy.dtype or None
        The datetime64 type of the stamps; None for cftime objects.
    year_zero : bool
        Whether the cftime stamps count a year 0.
    """

    name: str
    dtype: np.dtype | None = None
    year_zero: bool = False

    @classmethod
    def of(cls, values: np.ndarray, name: str) -> Calendar:
        """Read the calendar of an array of stamps; TimeAxisError when it holds anything else."""
        if values.dtype.kind == "M":
            if np.isnat(values).any():
                missing = np.flatnonzero(np.isnat(values))
                raise TimeAxisError(
                    f"{name!r} holds {missing.size} missing stamps (NaT), first at position "
                    f"{missing[0]}. Drop them: obj.isel({name}=obj[{name!r}].notnull())."
                )
            return cls("proleptic_gregorian", values.dtype)
        kinds = {type(v) for v in values.flat}
        odd = [kind for kind in kinds if not issubclass(kind, cftime.datetime)]
        if odd:
            raise TimeAxisError(
                f"{name!r} holds {', '.join(sorted(k.__name__ for k in odd))} among its stamps; "
                "expected datetime64 or cftime stamps only. Drop missing stamps and decode the "
                "file with xr.open_dataset(..., decode_times=True)."
            )
        calendars = {(v.calendar, v.has_year_zero) for v in values.flat}
        if len(calendars) != 1:
            raise TimeAxisError(
                f"{name!r} mixes calendars {sorted(c for c, _ in calendars)}; expected one. "
                "Convert with obj.convert_calendar(...)."
            )
        calendar, year_zero = calendars.pop()
        return cls(calendar, None, year_zero)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Turn stamps into int64 microseconds."""
        if values.dtype.kind == "M":
            exact = values.astype("datetime64[us]")
            return exact.astype(np.int64)
        if values.size == 0:
            return np.zeros(values.shape, np.int64)
        m = self.months(values)
        if self._is_regular(m):
            clock = [
                (((v.day * 24 + v.hour) * 60 + v.minute) * 60 + v.second) * 1_000_000
                + v.microsecond
                for v in values.flat
            ]
            within = np.array(clock, dtype=np.int64).reshape(values.shape) - DAY
            return self.month_start(m) + within
        return self._encode_by_cftime(values)

    def _encode_by_cftime(self, values: np.ndarray) -> np.ndarray:
        numbers = cftime.date2num(
            values, EPOCH, calendar=self.name, has_year_zero=self.year_zero or None
        )
        return np.asarray(numbers).astype(np.int64)

    def decode(self, u: np.ndarray) -> np.ndarray:
        """Turn int64 microseconds into stamps; the inverse of `encode`."""
        if self.dtype is not None:
            return u.astype("datetime64[us]").astype(self.dtype)
        out = np.empty(u.shape, dtype=object)
        if u.size:
            out[...] = cftime.num2date(
                u,
                EPOCH,
                calendar=self.name,
                only_use_cftime_datetimes=True,
                has_year_zero=self.year_zero or None,
            )
        return out

    def months(self, values: np.ndarray) -> np.ndarray:
        """Count months since the year 0, one int64 per stamp."""
        if values.dtype.kind == "M":
            return values.astype("datetime64[M]").astype(np.int64) + _EPOCH_MONTH
        found = [v.year * 12 + v.month - 1 for v in values.flat]
        return np.array(found, dtype=np.int64).reshape(values.shape)

    def month_start(self, m: np.ndarray) -> np.ndarray:
        """Give the first instant of each month, in microseconds."""
        m = np.asarray(m, dtype=np.int64)
        if self.dtype is not None:
            return _proleptic_days(m) * DAY
        if self._is_regular(m):
            return _DAYS_BEFORE[self.name](m) * DAY
        unique, back = np.unique(m, return_inverse=True)
        firsts = np.empty(unique.shape, dtype=object)
        firsts[:] = [self.stamp(int(k // 12), int(k % 12) + 1) for k in unique]
        starts: np.ndarray = self._encode_by_cftime(firsts)[back].reshape(m.shape)
        return starts

    def _is_regular(self, m: np.ndarray) -> bool:
        """Tell whether months ``m`` have a closed form (much faster than one object each)."""
        known = self.name in _DAYS_BEFORE
        return known and bool(m.min() >= _REGULAR_FROM.get(self.name, 12))

    def month_length(self, m: np.ndarray) -> np.ndarray:
        """Give the length of each month, in microseconds."""
        m = np.asarray(m, dtype=np.int64)
        return self.month_start(m + 1) - self.month_start(m)

    def stamp(self, year: int, month: int = 1, day: int = 1, *clock: int) -> Any:
        """Make one stamp of this calendar; ValueError when there is no such date."""
        if self.dtype is not None:
            hour, minute, second, micro = (*clock, 0, 0, 0, 0)[:4]
            return np.datetime64(datetime(year, month, day, hour, minute, second, micro))
        return cftime.datetime(
            year, month, day, *clock, calendar=self.name, has_year_zero=self.year_zero
        )


@dataclass(frozen=True, eq=False)
class Style:
    """Where a monthly stamp lies in its month: the rule :math:`w(m)` of the module docstring.

    Parameters
    ----------
    calendar : Calendar
    kind : {"start", "end", "center", "length", "month", "own"}
        Constant from the start, constant from the end, the exact middle, by length of the month,
        by calendar month, or none of these (each stamp then keeps its own day, clipped).
    table : dict
        ``{0: w}`` for start and end, ``{length: w}`` or ``{month 0..11: w}`` for the tables.
    """

    calendar: Calendar
    kind: str
    table: dict[int, int]

    @classmethod
    def of(cls, calendar: Calendar, u: np.ndarray, m: np.ndarray) -> Style:
        """Find the style shared by stamps ``u`` in months ``m`` (both 1-D)."""
        length = calendar.month_length(m)
        w = u - calendar.month_start(m)
        after = length - w
        if (after == after[0]).all() and after[0] <= DAY and w.max() > 0:
            return cls(calendar, "end", {0: int(after[0])})
        if (2 * w == length).all():
            return cls(calendar, "center", {})
        latest = int(w.max())
        if (w == _clip(np.full_like(w, latest), length)).all():
            return cls(calendar, "start", {0: latest})
        for kind, key in (("length", length), ("month", m % 12)):
            table = dict(zip(key.tolist(), w.tolist(), strict=True))
            if all(table[k] == v for k, v in zip(key.tolist(), w.tolist(), strict=True)):
                return cls(calendar, kind, table)
        return cls(calendar, "own", {})

    def within(self, m: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Give :math:`w` for months ``m``; ``own`` answers where the style has none."""
        length = self.calendar.month_length(m)
        if self.kind == "end":
            return length - self.table[0]
        if self.kind == "center":
            return length // 2
        if self.kind == "start":
            return _clip(np.full_like(length, self.table[0]), length)
        if self.kind == "own":
            return _clip(own, length)
        key = length if self.kind == "length" else np.asarray(m) % 12
        middle = self.near_middle
        fallback = (length // 2) // DAY * DAY if middle else _clip(own, length)
        flat = [
            self.table.get(int(k), int(f))
            for k, f in zip(key.flat, np.broadcast_to(fallback, key.shape).flat, strict=True)
        ]
        return np.array(flat, dtype=np.int64).reshape(key.shape)

    @property
    def near_middle(self) -> bool:
        """The table holds whole days around the middle of the month."""
        return all(abs(w - 15 * DAY) <= 2 * DAY and w % DAY == 0 for w in self.table.values())


def _clip(w: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Keep the day within the month, and the time of day as it is."""
    day = np.minimum(w // DAY, length // DAY - 1)
    clipped: np.ndarray = day * DAY + w % DAY
    return clipped


def add_months(style: Style, values: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Move stamps by months in their style.

    Parameters
    ----------
    style : Style
    values : numpy.ndarray, shape (N,)
    n : numpy.ndarray of int, shape (K,)

    Returns
    -------
    numpy.ndarray, shape (N, K)
    """
    calendar = style.calendar
    m = calendar.months(values)[:, None]
    own = (calendar.encode(values)[:, None]) - calendar.month_start(m)
    target = m + n[None, :]
    wide = np.broadcast_to(own, target.shape)
    # A stamp that is not in the style (a user's own start) keeps its own day.
    styled = style.within(m, own) == own
    w = np.where(styled, style.within(target, wide), _clip(wide, calendar.month_length(target)))
    return calendar.decode(calendar.month_start(target) + w)
