"""Read dates as people write them, and find them on a time axis."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import cftime
import numpy as np
import xarray as xr

from ..errors import TimeAxisError

if TYPE_CHECKING:
    from .timeaxis import TimeAxis

_DATE = re.compile(
    r"(?P<year>-?(?:\d{4}|\d{5,}(?=-|$)))(?:-?(?P<month>\d{2})(?:-?(?P<day>\d{2})"
    r"(?:[T ](?P<hour>\d{2})(?::?(?P<minute>\d{2})(?::?(?P<second>\d{2})"
    r"(?:\.(?P<fraction>\d{1,9}))?)?)?)?)?)?Z?$"
)
_CALENDARS = (
    "standard", "gregorian", "proleptic_gregorian", "julian", "noleap", "365_day", "all_leap",
    "366_day", "360_day",
)  # fmt: skip
_SHOWN = 3


def undecoded(coord: xr.DataArray, name: str) -> str:
    """Say why an axis of numbers (or strings) is no time axis, and what to do."""
    units = coord.attrs.get("units")
    calendar = str(coord.attrs.get("calendar", "standard"))
    found = f"{name!r} holds {coord.dtype} values, not dates"
    if coord.dtype.kind == "m":
        return (
            f"{found}: they are durations. A lead belongs to coordinate 'lead'; a time axis needs "
            f"a reference date, for example obj[{name!r}] + np.datetime64('2000-01-01')."
        )
    if coord.dtype.kind in "iuf" and units and "since" in str(units):
        faults, fix = _faults(str(units), calendar)
        if faults:
            return (
                f"{found} ({units!r}, calendar {calendar!r}): {' and '.join(faults)}, so no reader "
                f"can decode it. Correct the attributes, if this is what its maker meant: "
                f"ds[{name!r}].attrs.update({fix}); ds = xr.decode_cf(ds)."
            )
        return f"{found} ({units!r}). Decode them: ds = xr.decode_cf(ds)."
    if coord.dtype.kind in "iu" and coord.size and 0 <= int(coord.min()) <= int(coord.max()) < 9999:
        return (
            f"{found}; they may be years ({int(coord.min())} to {int(coord.max())}). Make them "
            "dates: ds = xearth.decode_times(ds)."
        )
    return (
        f"{found} (units {units!r}); expected datetime64 or cftime stamps. Open the file with "
        f"xr.open_dataset(..., decode_times=True), or assign dates to {name!r}."
    )


def _faults(units: str, calendar: str) -> tuple[list[str], str]:
    faults, fix = [], {}
    if calendar.lower() not in _CALENDARS:
        faults.append(f"{calendar!r} is no CF calendar (there are {', '.join(_CALENDARS)})")
        near = {"365": "noleap", "366": "all_leap", "360": "360_day"}
        fix["calendar"] = near.get(calendar[:3], "standard")
    match = re.search(r"since\s+(-?\d+)-(\d+)-(\d+)", units)
    if match and (int(match[2]) == 0 or int(match[3]) == 0):
        faults.append(f"the reference date {match[0][6:].strip()} does not exist")
        good = f"{match[1]}-{max(int(match[2]), 1):02d}-{max(int(match[3]), 1):02d}"
        fix["units"] = f"{units[: match.start()]}since {good}"
    return faults, ", ".join(f"{k}={v!r}" for k, v in fix.items())


def parts(when: Any) -> tuple[int, ...]:
    """Split a date into (year, month, day, hour, minute, second, microsecond), as far as given."""
    if isinstance(when, xr.DataArray):
        when = when.values
    if isinstance(when, np.ndarray) and when.ndim == 0:
        when = when[()]
    if isinstance(when, np.datetime64):
        if np.isnat(when):
            raise TimeAxisError("Cannot look for NaT on a time axis. Give a date.")
        when = str(when)
    if isinstance(when, datetime) and when.tzinfo is not None:
        when = when.astimezone(UTC)  # stamps of data are in UTC
    if isinstance(when, cftime.datetime | datetime):
        return (
            when.year, when.month, when.day, when.hour, when.minute, when.second,
            when.microsecond,
        )  # fmt: skip
    if isinstance(when, date):
        return (when.year, when.month, when.day)
    match = _DATE.fullmatch(when.strip()) if isinstance(when, str) else None
    if match is None:
        raise TimeAxisError(
            f"Cannot read {when!r} ({type(when).__name__}) as a date. Write it like '1997-06', "
            "'1997-06-15' or '1997-06-15T12:00', or pass a datetime or cftime stamp."
        )
    names = ("year", "month", "day", "hour", "minute", "second")
    found = [int(match[n]) for n in names if match[n] is not None]
    if match["fraction"]:
        found.append(int(match["fraction"].ljust(9, "0")[:6]))
    return tuple(found)


def bounds(axis: TimeAxis, when: Any) -> tuple[int, int]:
    """Give the first microsecond of the period ``when`` and the first after it."""
    given = parts(when)
    calendar = axis.style.calendar
    full = [*given, *(1, 1)[max(len(given) - 1, 0) :]] if len(given) < 3 else list(given)
    try:
        start = _encode(axis, calendar.stamp(*full))
        if len(given) > 2:
            widths = {3: 86_400_000_000, 4: 3_600_000_000, 5: 60_000_000, 6: 1_000_000, 7: 1}
            return start, start + widths[len(given)]
        year, month = (given[0] + 1, 1) if len(given) == 1 else _next_month(*given)
        return start, _encode(axis, calendar.stamp(year, month))
    except ValueError as error:
        raise TimeAxisError(
            f"{when!r} is no date of the calendar {axis.calendar!r} of {axis.name!r}: {error}. "
            "Give a date that this calendar has."
        ) from error


def _next_month(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)


def _encode(axis: TimeAxis, stamp: Any) -> int:
    if isinstance(stamp, np.datetime64):
        return int(stamp.astype("datetime64[us]").astype(np.int64))
    one = np.empty(1, dtype=object)
    one[0] = stamp
    return int(axis.style.calendar.encode(one)[0])


def locate(axis: TimeAxis, when: Any) -> int:
    """Find the one stamp that ``when`` means; see `TimeAxis.locate`."""
    start, stop = bounds(axis, when)
    stamps = axis.microseconds[axis.order]
    low, high = np.searchsorted(stamps, [start, stop])
    if high - low == 1:
        return int(axis.order[low])
    if high - low > 1:
        first = ", ".join(str(v) for v in axis.values[axis.order[low : low + _SHOWN]])
        raise TimeAxisError(
            f"{when!r} means {high - low} stamps of {axis.name!r}: {first}, ... Give the date as "
            f"finely as the axis has it, or slice({when!r}, {when!r}) where all are wanted."
        )
    raise TimeAxisError(_not_found(axis, when, int(low)))


def _not_found(axis: TimeAxis, when: Any, low: int) -> str:
    """Say where on the axis a missing date would lie; ``low`` stamps are earlier."""
    ordered = axis.values[axis.order]
    near = ordered[max(low - 1, 0) : low + 1]
    where = " and ".join(str(v) for v in near)
    ordinals = axis.ordinals[axis.order]
    if low in (0, ordered.size):
        why = f"the axis runs from {ordered[0]} to {ordered[-1]}"
    elif ordinals[low] - ordinals[low - 1] > 1:
        why = f"it falls into a gap of {int(ordinals[low] - ordinals[low - 1]) - 1} missing steps"
    else:
        why = f"no stamp is {'equal to' if axis.step is None else 'within'} it"
    return (
        f"{axis.name!r} has no stamp {when!r}: {why}. Nearest: {where}. Give one of these, or a "
        "coarser date such as '1997-06' for the stamp of that month."
    )


def select(axis: TimeAxis, init: Any) -> np.ndarray:
    """Find the positions that a selection means; see `TimeAxis.select`."""
    if init is None:
        return axis.order[-1:].astype(np.int64)
    if isinstance(init, slice):
        return _slice(axis, init)
    if isinstance(init, str | bytes) or np.ndim(init) == 0:
        return np.array([locate(axis, init)], dtype=np.int64)
    found = [locate(axis, one) for one in (init.values if hasattr(init, "values") else init)]
    if not found:
        raise TimeAxisError(f"No start was given for {axis.name!r}: the sequence is empty.")
    return np.array(found, dtype=np.int64)


def _slice(axis: TimeAxis, init: slice) -> np.ndarray:
    stamps = axis.microseconds[axis.order]
    low, high = 0, stamps.size
    if init.start is not None:
        low = int(np.searchsorted(stamps, bounds(axis, init.start)[0]))
    if init.stop is not None:
        high = int(np.searchsorted(stamps, bounds(axis, init.stop)[1]))
    step = 1 if init.step is None else init.step
    if not isinstance(step, int | np.integer) or step < 1:
        raise TimeAxisError(
            f"The step of {init} must be a positive number of stamps; got {init.step!r}."
        )
    if high <= low:
        ordered = axis.values[axis.order]
        raise TimeAxisError(
            f"{init} selects no stamp of {axis.name!r}, which runs from {ordered[0]} to "
            f"{ordered[-1]}. Give a range inside it, the earlier end first."
        )
    return axis.order[low:high:step].astype(np.int64)
