r"""The time axis: calendar, step, gaps, and the arithmetic of stamps.

Notation
--------
:math:`t_i` are the stamps in chronological order without repeats. The *step* :math:`\Delta` is
the commonest interval, a count of calendar months or years where every stamp lies in a month of
its own, else a fixed duration. Every interval must be a whole multiple of it,
:math:`t_{i+1} - t_i = k_i \Delta`; :math:`k_i > 1` is a gap of :math:`k_i - 1` steps. The
*ordinal* of a stamp is :math:`\sum_{j<i} k_j`, its number of steps since the first stamp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import cftime
import numpy as np
import xarray as xr

from ..errors import TimeAxisError
from . import dates
from .calendars import DAY, SECONDS, Calendar, Style, add_months

__all__ = ["Step", "TimeAxis"]

MONTHS = {"months": 1, "years": 12}
_TOLERANCE = 0.01  # of a step: radar clocks jitter by a second or two
_DRIFT = 3 * DAY  # stamps of one monthly series stray no further than this in their months


@dataclass(frozen=True)
class Step:
    """The interval between two neighboring stamps.

    Parameters
    ----------
    count : int
        Positive.
    unit : {"years", "months", "days", "hours", "minutes", "seconds"}

    Raises
    ------
    TimeAxisError
        The unit is another one, or the count is not a positive integer.

    Examples
    --------
    >>> str(Step(1, "months")), str(Step(5, "minutes"))
    ('1 month', '5 minutes')
    """

    count: int
    unit: str

    def __post_init__(self) -> None:
        known = [*MONTHS, *SECONDS]
        if self.unit not in known:
            raise TimeAxisError(f"A step is counted in one of {known}; got {self.unit!r}.")
        if isinstance(self.count, bool) or self.count != int(self.count) or self.count < 1:
            raise TimeAxisError(f"A step has a whole positive count; got {self.count!r}.")

    def __str__(self) -> str:
        return f"{self.count} {self.unit if self.count > 1 else self.unit[:-1]}"

    @property
    def months(self) -> int | None:
        """Length in calendar months; None for a fixed duration."""
        return self.count * MONTHS[self.unit] if self.unit in MONTHS else None

    @property
    def seconds(self) -> int | None:
        """Length in seconds; None for calendar months and years."""
        return self.count * SECONDS[self.unit] if self.unit in SECONDS else None


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """A time axis that has been understood.

    Parameters
    ----------
    name : str
        Name of the coordinate.
    values : numpy.ndarray, shape (N,)
        Stamps as they are stored: datetime64 or cftime objects, in the order of the data.
    calendar : str
        CF name of the calendar.
    step : Step or None
        None when there is a single stamp.
    ordinals : numpy.ndarray of int64, shape (N,)
        Steps since the earliest stamp, one per stamp; equal for repeated stamps.
    microseconds : numpy.ndarray of int64, shape (N,)
        Stamps as microseconds since 1970-01-01 in their own calendar.
    style : Style
        How monthly stamps lie in their months.

    Examples
    --------
    >>> import pandas as pd, xarray as xr
    >>> time = xr.DataArray(pd.date_range("2000-01", periods=4, freq="MS"), dims="time")
    >>> axis = TimeAxis.from_array(time.isel(time=[0, 1, 3]))
    >>> axis.step, axis.ordinals.tolist(), axis.runs()
    (Step(count=1, unit='months'), [0, 1, 3], [(0, 2), (2, 3)])
    """

    name: str
    values: np.ndarray
    calendar: str
    step: Step | None
    ordinals: np.ndarray
    microseconds: np.ndarray = field(repr=False)
    style: Style = field(repr=False)

    @classmethod
    def from_array(cls, coord: xr.DataArray) -> TimeAxis:
        """Understand a time coordinate.

        Parameters
        ----------
        coord : xarray.DataArray
            One dimension (or none: a single stamp) of datetime64 or cftime stamps, in any order,
            with gaps or repeats.

        Returns
        -------
        TimeAxis

        Raises
        ------
        TimeAxisError
            The stamps are not decoded, missing, of mixed calendars, or not evenly spaced; the
            message names the odd interval.
        """
        name = str(coord.name if coord.name is not None else "time")
        if coord.ndim > 1:
            raise TimeAxisError(
                f"{name!r} has dims {coord.dims}; expected one. A 2-D valid time belongs to a set "
                "of forecasts: select one start first."
            )
        values = np.atleast_1d(coord.values)
        if values.size == 0:
            raise TimeAxisError(f"{name!r} is empty; expected at least one stamp.")
        if values.dtype.kind not in "MO":
            raise TimeAxisError(dates.undecoded(coord, name))
        calendar = Calendar.of(values, name)
        u = calendar.encode(values)
        if values.dtype.kind == "M" and not (calendar.decode(u) == values).all():
            raise TimeAxisError(
                f"{name!r} has stamps finer than a microsecond; expected microseconds or coarser. "
                f"Round them: obj[{name!r}].dt.round('us')."
            )
        unique, first, back = np.unique(u, return_index=True, return_inverse=True)
        stamps = values[first]
        step, ordinals = _understand(name, calendar, stamps, unique)
        style = Style.of(calendar, unique, calendar.months(stamps))
        return cls(name, values, calendar.name, step, ordinals[back].astype(np.int64), u, style)

    def __len__(self) -> int:
        return int(self.values.size)

    @cached_property
    def order(self) -> np.ndarray:
        """Positions of the unique stamps in chronological order (first of each repeat)."""
        return np.unique(self.microseconds, return_index=True)[1]

    @property
    def is_sorted(self) -> bool:
        """No stamp is earlier than the one before it."""
        return bool((np.diff(self.microseconds) >= 0).all())

    @property
    def duplicates(self) -> list[Any]:
        """Stamps that appear more than once, each once."""
        _, first, count = np.unique(self.microseconds, return_index=True, return_counts=True)
        return [self.values[i] for i in first[count > 1]]

    @property
    def gaps(self) -> list[tuple[Any, Any, int]]:
        """Gaps as (stamp before, stamp after, number of missing steps)."""
        missing = np.diff(self.ordinals[self.order]) - 1
        stamps = self.values[self.order]
        return [(stamps[i], stamps[i + 1], int(missing[i])) for i in np.flatnonzero(missing)]

    def runs(self) -> list[tuple[int, int]]:
        """Unbroken runs as (start, stop) positions in `order`."""
        breaks = np.flatnonzero(np.diff(self.ordinals[self.order]) != 1) + 1
        edges = [0, *breaks.tolist(), self.order.size]
        return list(pairwise(edges))

    def offset(self, value: Any, n: int) -> Any:
        """Give the stamp ``n`` steps after ``value``, in the style of this axis.

        Parameters
        ----------
        value : numpy.datetime64 or cftime.datetime
        n : int
            May be negative.

        Returns
        -------
        same type as the stamps

        Raises
        ------
        TimeAxisError
            The axis has a single stamp, so no step.
        """
        return self.offsets(_one(value, self.values.dtype), np.array([n]))[0, 0]

    def offsets(self, values: np.ndarray, ns: Sequence[int] | np.ndarray) -> np.ndarray:
        """Give the stamps ``ns`` steps after each of ``values``.

        Parameters
        ----------
        values : numpy.ndarray, shape (N,)
        ns : sequence of int, length K

        Returns
        -------
        numpy.ndarray, shape (N, K)
        """
        if self.step is None:
            raise TimeAxisError(
                f"{self.name!r} has the single stamp {self.values[0]}, so its step is unknown. "
                "Give data with at least two stamps."
            )
        return shift(self.style, np.asarray(values), np.asarray(ns), self.step)

    def locate(self, when: Any) -> int:
        """Find the position of one stamp.

        Parameters
        ----------
        when : str, datetime, numpy.datetime64, pandas.Timestamp or cftime.datetime
            A partial string such as ``"1997-06"`` means the only stamp within that month.

        Returns
        -------
        int

        Raises
        ------
        TimeAxisError
            No stamp fits, or several do; the message lists the nearest.
        """
        return dates.locate(self, when)

    def select(self, init: Any = None) -> np.ndarray:
        """Find the positions that a selection means, in chronological order.

        Parameters
        ----------
        init : None, scalar, slice or sequence
            None is the last stamp. A scalar or each item of a sequence is read as by `locate`;
            a sequence keeps its own order. The ends of a slice are both included, as in xarray.

        Returns
        -------
        numpy.ndarray of int64

        Raises
        ------
        TimeAxisError
            Nothing is selected, or a stamp is not on the axis.
        """
        return dates.select(self, init)


def shift(style: Style, values: np.ndarray, ns: np.ndarray, step: Step) -> np.ndarray:
    """Move stamps by whole steps.

    Parameters
    ----------
    style : Style
        How monthly stamps lie in their months; not used by steps of fixed length.
    values : numpy.ndarray, shape (N,)
    ns : numpy.ndarray of int, shape (K,)
    step : Step

    Returns
    -------
    numpy.ndarray, shape (N, K)
    """
    if step.months is not None:
        return add_months(style, values, ns * step.months)
    length = (step.seconds or 0) * 1_000_000
    u = style.calendar.encode(values)[:, None] + ns[None, :].astype(np.int64) * length
    return style.calendar.decode(u)


def _one(value: Any, dtype: np.dtype) -> np.ndarray:
    """Make an array of one stamp of the axis' own type."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if dtype.kind == "M":
        try:
            return np.array([value], dtype=dtype)
        except (ValueError, TypeError) as error:
            raise TimeAxisError(f"{value!r} is no stamp of a {dtype} axis: {error}.") from error
    if not isinstance(value, cftime.datetime):
        raise TimeAxisError(
            f"{value!r} ({type(value).__name__}) is no stamp of this axis, which holds cftime "
            "stamps. Take one of axis.values, for example by axis.locate(...)."
        )
    out = np.empty(1, dtype=object)
    out[0] = value
    return out


def _understand(
    name: str, calendar: Calendar, stamps: np.ndarray, u: np.ndarray
) -> tuple[Step | None, np.ndarray]:
    """Find the step and the ordinals of unique stamps in chronological order."""
    if u.size == 1:
        return None, np.zeros(1, np.int64)
    m = calendar.months(stamps)
    if _is_monthly(calendar, u, m):
        found = np.diff(m)
        base = _base(found)
        if (found % base).any() and not (found % found.min()).any():
            base = int(found.min())  # most months are missing, as in a record of winters
        unit, count = ("years", base // 12) if base % 12 == 0 else ("months", base)
        step = Step(int(count), unit)
        multiples, rest = np.divmod(found, base)
        odd = rest != 0
    else:
        found = np.diff(u)
        base = _base(found)
        step = _fixed_step(name, base)
        multiples = np.rint(found / base).astype(np.int64)
        odd = (np.abs(found - multiples * base) > _TOLERANCE * base) | (multiples < 1)
    if odd.any():
        i = int(np.flatnonzero(odd)[0])
        raise TimeAxisError(
            f"{name!r} is not evenly spaced: the commonest interval is {step}, but "
            f"{int(odd.sum())} of {odd.size} intervals are no whole multiple of it, first "
            f"{stamps[i]} -> {stamps[i + 1]} ({_length(u[i + 1] - u[i])}). Resample to an even "
            f"step (obj.resample({name}=...)), or select a part that has one."
        )
    return step, np.concatenate([[0], np.cumsum(multiples)])


def _is_monthly(calendar: Calendar, u: np.ndarray, m: np.ndarray) -> bool:
    """Tell calendar months from a fixed number of days."""
    months = np.diff(m)
    if (months < 1).any():
        return False
    style = Style.of(calendar, u, m)
    if style.kind in ("start", "end", "center"):
        return True
    intervals = np.diff(u)
    if u.size == 2 or (intervals == intervals[0]).all():
        length, w = calendar.month_length(m), u - calendar.month_start(m)
        return u.size == 2 and bool((np.abs(2 * w - length) <= 2 * DAY).all())
    w = u - calendar.month_start(m)
    return int(w.max() - w.min()) <= _DRIFT


def _base(intervals: np.ndarray) -> int:
    """Give the commonest interval, the shortest of equals."""
    sizes, counts = np.unique(intervals, return_counts=True)
    # How many intervals lie within the tolerance of each size: by cumulative counts, since an
    # irregular record has as many sizes as stamps.
    total = np.concatenate([[0], np.cumsum(counts)])
    low = np.searchsorted(sizes, sizes * (1 - _TOLERANCE), side="left")
    high = np.searchsorted(sizes, sizes * (1 + _TOLERANCE), side="right")
    best = int((total[high] - total[low]).argmax())
    close = slice(low[best], high[best])
    return int(np.rint(np.average(sizes[close].astype(float), weights=counts[close])))


def _fixed_step(name: str, base: int) -> Step:
    seconds = int(np.rint(base / 1e6))
    for unit, size in SECONDS.items():
        count = int(np.rint(seconds / size))
        if count and abs(base / 1e6 - count * size) <= _TOLERANCE * count * size / 10:
            return Step(count, unit)
    raise TimeAxisError(
        f"{name!r} has a step of {base} microseconds; expected a whole number of seconds. "
        "Resample it to whole seconds."
    )


def _length(u: int) -> str:
    for unit, size in SECONDS.items():
        if u >= size * 1_000_000:
            return f"{u / (size * 1e6):g} {unit}"
    return f"{u} microseconds"
