"""Dates as archives write them that no CF decoder reads: months since, bare years, YYYYMMDD.

Archives of seasonal forecasts count starts in calendar months (``months since 1960-01-01``, often
in a calendar called ``360`` that means no more than that), annual ones name the year alone, and
tools of the R family write ``19991101``. :func:`decode_times` turns each into dates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from ..errors import TimeAxisError
from .clues import BARE_NAMES, STANDARD_NAMES, is_dates

__all__ = ["decode_times", "decoded_dates"]

Labeled = TypeVar("Labeled", xr.DataArray, xr.Dataset)

_SINCE = re.compile(
    r"\s*(?P<unit>months?|mons?|(?:common_)?years?|yrs?)\s+since\s+"
    r"(?P<year>\d{1,4})-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2}))?",
    re.IGNORECASE,
)
# Names of no CF calendar, by what they mean. "360" counts months and says nothing of days.
_CALENDARS: Mapping[str, str] = {"360": "months", "none": "months", "360 day": "360_day"}
# Digits of a bare number -> how many years, months and days of it are digits.
_BARE: Mapping[int, tuple[int, ...]] = {4: (4,), 6: (4, 2), 8: (4, 2, 2), 10: (4, 2, 2, 2)}
_YEARS = (1000, 9999)
_NANOSECONDS = (1678, 2261)  # years that datetime64[ns] holds
_ISO = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}(:\d{2}){0,2}(\.\d+)?Z?)?)?")


def decode_times(ds: Labeled) -> Labeled:
    """Decode the dates of a labeled object, also those that xarray cannot read.

    Parameters
    ----------
    ds : Dataset or DataArray
        Opened with ``decode_times=False`` or decoded already. Coordinates counted in calendar
        months or years become dates (whole months by the calendar, fractions by the length of
        the month), as do bare years and ``YYYYMM``, ``YYYYMMDD`` in coordinates that are named as
        times or starts; everything else is decoded by xarray.

    Returns
    -------
    same type as ``ds``

    Raises
    ------
    TimeAxisError
        A date that does not exist.

    Examples
    --------
    >>> ds = xr.Dataset(coords={"S": ("S", [480.0, 481.0], {
    ...     "units": "months since 1960-01-01", "calendar": "360"})})
    >>> decode_times(ds).S.values.astype("M8[D]").astype(str).tolist()
    ['2000-01-01', '2000-02-01']
    """
    if isinstance(ds, xr.DataArray):
        whole = decode_times(ds.to_dataset(name="_field"))
        decoded: Any = whole["_field"].rename(ds.name)
        return decoded
    found = {}
    for name, coord in ds.variables.items():
        if coord.dtype.kind not in "iufUSO" or is_dates(coord) or coord.ndim > 2:
            continue
        variable = _decoded(str(name), coord)
        if variable is not None:
            found[name] = variable
    out = ds.assign_coords(found) if found else ds
    for name in out.variables:
        attrs = out[name].attrs
        calendar = str(attrs.get("calendar", "")).lower()
        if calendar in _CALENDARS:
            attrs = {**attrs, "calendar": "360_day"}
            out = out.assign_coords({name: (out[name].dims, out[name].variable._data, attrs)})
    return xr.decode_cf(out, decode_timedelta=None)


def _decoded(name: str, variable: xr.Variable) -> xr.Variable | None:
    """Return dates for a variable that counts months, or holds bare years or digits."""
    units = str(variable.attrs.get("units", ""))
    since = _SINCE.match(units)
    calendar = str(variable.attrs.get("calendar", "standard")).lower()
    if since is not None:
        if calendar == "360_day" and since["unit"].lower().startswith("mon"):
            return None  # a calendar of its own, which xarray reads
        return _with_dates(variable, _since(name, variable.values, since))
    if " since " in units or variable.ndim > 1 or not _is_time(name, variable):
        return None
    if units not in ("", "1", "year", "years", "yr", "YYYYMMDD", "YYYYMM", "day as %Y%m%d.%f"):
        return None
    dates = decoded_dates(name, variable.values)
    return None if dates is None else _with_dates(variable, dates)


def _is_time(name: str, variable: xr.Variable) -> bool:
    said = str(variable.attrs.get("standard_name", ""))
    if variable.attrs.get("axis") == "T":
        return True
    if said:
        return said == "time" or STANDARD_NAMES.get(said) == "init"
    return bool(BARE_NAMES["time"].fullmatch(name) or BARE_NAMES["init"].fullmatch(name))


def _with_dates(variable: xr.Variable, dates: np.ndarray) -> xr.Variable:
    attrs = {k: v for k, v in variable.attrs.items() if k not in ("units", "calendar")}
    return xr.Variable(variable.dims, dates.reshape(variable.shape), attrs)


def _since(name: str, values: np.ndarray, since: re.Match[str]) -> np.ndarray:
    """Add calendar months (or years) to the reference date; missing stays missing."""
    per = 1 if since["unit"].lower().startswith("mon") else 12
    numbers = np.asarray(values, dtype=np.float64) * per
    known = np.isfinite(numbers)
    whole = np.floor(np.where(known, numbers, 0.0) + 1e-6)
    part = np.where(known, numbers - whole, 0.0).clip(min=0.0)
    first = (int(since["year"]) - 1970) * 12 + int(since["month"]) - 1
    months = (whole.astype(np.int64) + first).astype("datetime64[M]")
    start = months.astype("datetime64[h]")
    length = (months + 1).astype("datetime64[h]") - start
    hours = np.rint(part * length.astype(np.int64)).astype("timedelta64[h]")
    days = np.timedelta64(24 * (int(since["day"] or 1) - 1), "h")
    found = (start + hours + days).astype("datetime64[ns]")
    return np.where(known, found, np.datetime64("NaT", "ns"))


def decoded_dates(name: str, values: np.ndarray) -> np.ndarray | None:
    """Return dates for bare years or digits (1999, 199911, 19991101), numbers or text.

    Parameters
    ----------
    name : str
        For messages.
    values : ndarray

    Returns
    -------
    ndarray of datetime64 or None
        None where the values are none of these.

    Raises
    ------
    TimeAxisError
        The digits are no date.

    Examples
    --------
    >>> decoded_dates("sdate", np.array(["19991101"])).astype("M8[D]").astype(str).tolist()
    ['1999-11-01']
    """
    if values.dtype.kind in "US":
        spelled = np.char.decode(values) if values.dtype.kind == "S" else values
        if all(_ISO.fullmatch(text) for text in spelled.ravel().tolist()):
            return _spelled(name, spelled)
    texts = [_digits(value) for value in values.ravel().tolist()]
    if not texts or any(text is None for text in texts):
        return None
    lengths = {len(text) for text in texts if text}
    if len(lengths) != 1 or lengths.copy().pop() not in _BARE:
        return None
    low, high = min(int(t[:4]) for t in texts if t), max(int(t[:4]) for t in texts if t)
    if not (_YEARS[0] <= low and high <= _YEARS[1]):
        return None
    fine = _NANOSECONDS[0] <= low and high <= _NANOSECONDS[1]
    dates = [_date(name, text) for text in texts]
    return np.array(dates, dtype="datetime64[ns]" if fine else "datetime64[us]")


def _spelled(name: str, texts: np.ndarray) -> np.ndarray:
    """Read dates spelled as ISO 8601."""
    try:
        return np.char.rstrip(texts, "Z").astype("datetime64[ns]")
    except ValueError as error:
        raise TimeAxisError(f"{name!r} holds text that is no date: {error}. Correct it.") from error


def _digits(value: Any) -> str | None:
    """Return the digits of a value that holds nothing else; "" where it is missing."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, float):
        if np.isnan(value):
            return ""
        value = int(value) if value == int(value) else value
    text = str(value).strip().replace("-", "")
    return text if text.isdigit() else None


def _date(name: str, digits: str | None) -> np.datetime64:
    if not digits:
        return np.datetime64("NaT")
    parts, at = [], 0
    for length in _BARE[len(digits)]:
        parts.append(digits[at : at + length])
        at += length
    text = "-".join(parts[:3]) + (f"T{parts[3]}" if len(parts) > 3 else "")
    try:
        return np.datetime64(text)
    except ValueError as error:
        raise TimeAxisError(
            f"{name!r} holds {digits!r}, which is no date ({error}); expected YYYY, YYYYMM or "
            "YYYYMMDD. Correct it, or give the coordinate dates."
        ) from error
