r"""How the leads of an archive count, brought to one way: valid time = start + lead.

Archives label the first period of a forecast in three ways:

==========  ========================  =====================================================
counting    label of the period that  archives
            begins at the start
==========  ========================  =====================================================
elapsed     0 (so 1 is the next)      CF ``forecast_period``, climpred, ``step``, xearth
ordinal     1                         C3S ``forecastMonth``, "month 1 is the month of the
                                      start"
midpoint    0.5                       NMME and SubX ``L`` (0.5, 1.5, ... months or days)
==========  ========================  =====================================================

The elapsed lead of a midpoint label is its whole part, that of an ordinal label one less.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from ..errors import DiscoveryWarning, LeadError, TimeAxisError, warn
from .calendars import DAY, SECONDS, Calendar
from .forecast_coords import LEAD_ATTRS, lead_counts, valid_time
from .timeaxis import MONTHS, TimeAxis

__all__ = ["COUNTINGS", "Counting", "Leads", "counts_from_one", "read_leads"]

Counting = Literal["elapsed", "ordinal", "midpoint"]

COUNTINGS: tuple[Counting, ...] = ("elapsed", "ordinal", "midpoint")

# Names that count the calendar months of a forecast from 1.
ORDINAL_NAMES = re.compile(
    r"forecast_?months?|fc_?months?|leadtime_month|forecast_?years?|forecast_?weeks?", re.IGNORECASE
)
# Units that a name tells where the attribute is missing.
UNITS_OF_NAMES: Mapping[str, str] = {
    r".*months?|.*mon": "months",
    r".*years?|.*yr": "years",
    r".*weeks?": "weeks",
    r".*days?": "days",
    r".*hours?|.*_hr|fxx|tau": "hours",
    r".*minutes?": "minutes",
}
_UNIT_WORDS = ("months", "years", "weeks", "days", "hours", "minutes")
_ORDINAL_TEXT = re.compile(
    r"\b1(?:st)?\b\s*(?:=|:|is|means|for)\s*(?:the\s+)?(?:first\s+)?(?:calendar\s+|forecast\s+)?"
    r"(?:month|year|season|week|day|period)\s+"
    r"(?:of|that\s+(?:begins|starts|contains)|beginning|starting|containing|in\s+which)"
    r"[^.;)]*(?:start|init|issue|reference)",
    re.IGNORECASE,
)
_ELAPSED_TEXT = re.compile(r"\b(?:after|since|from|ahead|elapsed)\b", re.IGNORECASE)
_WORDS: Mapping[Counting, str] = {
    "elapsed": "time from the start to the valid time",
    "ordinal": "time from the start to the valid time; the source counts the period that begins "
    "at the start as 1",
    "midpoint": "time from the start to the beginning of the valid period; the source labels "
    "periods by their middle, 0.5 for the one that begins at the start",
}
_HOUR = 3_600_000_000


@dataclass(frozen=True, eq=False)
class Leads:
    """Leads that have been understood.

    Parameters
    ----------
    counts : ndarray of int64 (L,)
        Elapsed leads.
    unit : str
        Of `Step`.
    counting : {"elapsed", "ordinal", "midpoint"}
        Of the source.
    """

    counts: np.ndarray
    unit: str
    counting: Counting

    def variable(self) -> xr.Variable:
        """Return the coordinate ``lead``."""
        attrs = {**LEAD_ATTRS, "units": self.unit, "comment": _WORDS[self.counting]}
        return xr.Variable(("lead",), self.counts, attrs)


def read_leads(
    lead: xr.DataArray,
    init: xr.DataArray,
    valid: xr.DataArray | None = None,
    *,
    counting: Counting | None = None,
) -> Leads:
    """Bring leads to whole counts of one unit from the start.

    The counting is what is asked for, else what the valid times of the source show, else what
    its name or text says (``forecastMonth``; "1 = the month of the start"), else midpoint if all
    labels end in .5, else elapsed.

    Parameters
    ----------
    lead : DataArray (lead,)
        Numbers with units (or a name that tells them), or durations. Durations that lead from
        first to first of calendar months become months.
    init : DataArray (init,)
        Starts, dates.
    valid : DataArray (init, lead), optional
        Valid times of the source; missing ones are not compared.
    counting : {"elapsed", "ordinal", "midpoint"}, optional
        How the source counts.

    Returns
    -------
    Leads

    Raises
    ------
    LeadError
        No unit, negative or repeated leads, labels that do not fit the counting, or valid times
        that no counting gives.

    Warns
    -----
    DiscoveryWarning
        Monthly leads from 1 that say nothing of what 1 is.

    Examples
    --------
    >>> init = xr.DataArray(np.array(["2000-01-01"], "M8[ns]"), dims="init", name="init")
    >>> lead = xr.DataArray([0.5, 1.5], dims="lead", name="L", attrs={"units": "months"})
    >>> found = read_leads(lead, init)
    >>> found.counts.tolist(), found.unit, found.counting
    ([0, 1], 'months', 'midpoint')
    """
    if counting is not None and counting not in COUNTINGS:
        raise LeadError(f"counting={counting!r}: expected one of {COUNTINGS} or None.")
    lead = _with_units(lead)
    if lead.dtype.kind == "m" and counting not in (None, "elapsed"):
        days = lead.values / np.timedelta64(1, "D")
        lead = lead.copy(data=days.reshape(lead.shape)).assign_attrs(units="days")
    if lead.dtype.kind in "iuf" and str(lead.attrs.get("units", "")) in ("", "1"):
        told = _told_by(valid, init)
        if told is not None:
            return told
    candidates = [counting] if counting is not None else _likely(lead)
    if valid is not None and counting is None:
        candidates += [c for c in COUNTINGS if c not in candidates and _can(lead, c)]
    for kind in candidates:
        leads = _counted(lead, kind)
        if valid is None or _agrees(leads, init, valid):
            if counting is None and valid is None:
                _warn_of_ones(lead, leads, init)
            return _in_months(leads, init, valid)
    raise LeadError(
        f"lead {lead.name!r}: the valid times in {getattr(valid, 'name', None)!r} are not start + "
        f"lead however the leads are counted ({', '.join(candidates)}). Correct the leads, or drop "
        f"the valid times: ds.drop_vars({getattr(valid, 'name', None)!r})."
    )


def _with_units(lead: xr.DataArray) -> xr.DataArray:
    """Give a lead the unit that its name (or its long name) tells, where it has none."""
    if lead.dtype.kind == "m" or str(lead.attrs.get("units", "")) not in ("", "1", "unitless"):
        return lead
    for pattern, unit in UNITS_OF_NAMES.items():
        if re.fullmatch(pattern, str(lead.name), re.IGNORECASE):
            return lead.assign_attrs(units=unit)
    words = " ".join(str(lead.attrs.get(k, "")) for k in ("long_name", "description"))
    named = {u for u in _UNIT_WORDS if re.search(rf"\b{u[:-1]}s?\b", words, re.IGNORECASE)}
    return lead.assign_attrs(units=named.pop()) if len(named) == 1 else lead


def _warn_of_ones(lead: xr.DataArray, leads: Leads, init: xr.DataArray) -> None:
    """Say that monthly leads from 1 could count the month of the start as 1: nothing tells."""
    words = " ".join(str(lead.attrs.get(k, "")) for k in ("long_name", "description", "comment"))
    said = lead.attrs.get("standard_name") == "forecast_period" or _ELAPSED_TEXT.search(words)
    if said or leads.unit != "months" or leads.counting != "elapsed" or leads.counts.min() != 1:
        return
    starts = np.atleast_1d(init.values)
    calendar = Calendar.of(starts, str(init.name))
    if (calendar.encode(starts) - calendar.month_start(calendar.months(starts)) >= DAY).any():
        return
    warn(
        f"lead {lead.name!r} counts months from 1 and does not say what 1 is: it is read as the "
        "month after that of the start. If it is the month of the start pass counting='ordinal', "
        "else counting='elapsed'.",
        DiscoveryWarning,
    )


def _told_by(valid: xr.DataArray | None, init: xr.DataArray) -> Leads | None:
    """Return the leads that valid times alone tell; None where they do not."""
    if valid is None or not bool(valid.notnull().all()):
        return None
    stamps = valid.transpose("init", "lead").values
    starts = np.atleast_1d(init.values)
    calendar = Calendar.of(starts, str(init.name))
    if stamps.shape[1] > 1 and _is_monthly(stamps[0]):
        counts, unit = calendar.months(stamps) - calendar.months(starts)[:, None], "months"
    else:
        micro = calendar.encode(stamps) - calendar.encode(starts)[:, None]
        counts, unit = micro // 1_000_000, "seconds"
    if (counts != counts[0]).any():
        return None
    counts, unit = _coarsest(counts[0].astype(np.int64), unit)
    return Leads(counts, unit, "elapsed")


def _numbers(lead: xr.DataArray) -> np.ndarray:
    values = np.atleast_1d(lead.values)
    if values.dtype.kind == "m":
        return values.astype("timedelta64[us]").astype(np.int64) / 1e6
    return values.astype(np.float64)


def _can(lead: xr.DataArray, counting: Counting) -> bool:
    """Tell whether the labels could be of a counting."""
    if lead.dtype.kind == "m":
        return counting == "elapsed"
    part = np.mod(_numbers(lead), 1.0)
    if counting == "midpoint":
        return bool((np.abs(part - 0.5) < 1e-6).all())
    whole = bool((np.minimum(part, 1.0 - part) < 1e-6).all())
    return whole and bool((_numbers(lead) > 0.5).all()) if counting == "ordinal" else True


def counts_from_one(lead: xr.DataArray) -> bool:
    """Tell whether name or text say that a lead counts the period at the start as 1.

    Examples
    --------
    >>> counts_from_one(xr.DataArray([1, 2], dims="lead", name="forecastMonth"))
    True
    """
    words = " ".join(str(lead.attrs.get(k, "")) for k in ("long_name", "description", "comment"))
    ordinal = ORDINAL_NAMES.fullmatch(str(lead.name)) or _ORDINAL_TEXT.search(words)
    return bool(ordinal) and _can(lead, "ordinal")


def _likely(lead: xr.DataArray) -> list[Counting]:
    """Return the countings that fit the labels and the words, the likeliest first."""
    if counts_from_one(lead):
        return ["ordinal"]
    return ["midpoint"] if _can(lead, "midpoint") else ["elapsed"]


def _counted(lead: xr.DataArray, counting: Counting) -> Leads:
    """Return the elapsed leads under one counting."""
    if not _can(lead, counting):
        raise LeadError(
            f"lead {lead.name!r} holds {np.atleast_1d(lead.values)[:4].tolist()}, which cannot be "
            f"counted as {counting!r}: ordinal labels are whole and from 1, midpoints end in .5."
        )
    if counting != "elapsed":
        shift = np.floor(_numbers(lead)) if counting == "midpoint" else _numbers(lead) - 1.0
        lead = lead.copy(data=shift.reshape(lead.shape))
    counts, unit = _coarsest(*lead_counts(lead))
    if (counts < 0).any() or np.unique(counts).size != counts.size:
        raise LeadError(
            f"lead {lead.name!r} holds negative or repeated leads: {counts[:6].tolist()} {unit}. "
            "Keep those from the start on, each once."
        )
    return Leads(counts, unit, counting)


def _coarsest(counts: np.ndarray, unit: str) -> tuple[np.ndarray, str]:
    """Say seconds as hours or days where these are whole."""
    if unit != "seconds":
        return counts, unit
    for coarse, size in SECONDS.items():
        if counts.any() and not (counts % size).any():
            return counts // size, coarse
    return counts, unit


def _agrees(leads: Leads, init: xr.DataArray, valid: xr.DataArray) -> bool:
    """Tell whether start + lead is the valid time wherever that is known."""
    coords = {"init": init.variable, "lead": leads.variable()}
    mine = valid_time(xr.Dataset(coords=coords)).transpose("init", "lead").values
    theirs = valid.transpose("init", "lead").values
    known = ~np.asarray(xr.Variable(("i", "l"), theirs).isnull())
    if not known.any():
        return True
    mine, theirs = mine[known], theirs[known]
    a, b = Calendar.of(mine, "init + lead"), Calendar.of(theirs, str(valid.name))
    if leads.unit in MONTHS:
        return bool((a.months(mine) == b.months(theirs)).all())
    return bool((np.abs(a.encode(mine) - b.encode(theirs)) < _HOUR // 2).all())


def _in_months(leads: Leads, init: xr.DataArray, valid: xr.DataArray | None) -> Leads:
    """Say durations as calendar months where the valid times are months.

    With valid times of the source: where they are a monthly series (such as middles of months)
    from every start. Without: where every start and valid time is the first instant of a month.
    """
    if leads.unit in MONTHS or leads.counts.size < 2:
        return leads
    starts = np.atleast_1d(init.values)
    calendar = Calendar.of(starts, str(init.name))
    known = valid is not None and bool(valid.notnull().all())
    if valid is not None and known:
        stamps = valid.transpose("init", "lead").values
        if not _is_monthly(stamps[0]):
            return leads
    else:
        if np.diff(np.sort(leads.counts)).min() * SECONDS[leads.unit] < 28 * SECONDS["days"]:
            return leads
        coords = {"init": init.variable, "lead": leads.variable()}
        stamps = valid_time(xr.Dataset(coords=coords)).transpose("init", "lead").values
        both = np.concatenate([starts[:, None], stamps], axis=1)
        if (calendar.encode(both) != calendar.month_start(calendar.months(both))).any():
            return leads
    after = Calendar.of(stamps.ravel(), "valid_time").months(stamps)
    months = after - calendar.months(starts)[:, None]
    if (months != months[0]).any() or np.unique(months[0]).size != months.shape[1]:
        return leads
    return Leads(months[0].astype(np.int64), "months", leads.counting)


def _is_monthly(stamps: np.ndarray) -> bool:
    try:
        step = TimeAxis.from_array(xr.DataArray(stamps, dims="valid", name="valid_time")).step
    except TimeAxisError:  # uneven: certainly no months
        return False
    return step is not None and step.months is not None
