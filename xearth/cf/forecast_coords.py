r"""The coordinates of a forecast: start, lead, valid time, member.

A forecast made from a history that ends at stamp :math:`t_0` (``init``, inclusive) has lead
:math:`n = 1 \dots N` valid at :math:`t_0 + n \Delta`, with :math:`\Delta` the step of the axis.
The ``lead`` coordinate holds :math:`n \cdot` ``step.count`` in ``step.unit``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..errors import LeadError, TimeAxisError
from .calendars import SECONDS, Calendar, Style
from .discover import discover
from .timeaxis import MONTHS, Step, TimeAxis, shift

__all__ = ["forecast_coords", "lead_steps", "valid_time"]

INIT_ATTRS = {
    "standard_name": "forecast_reference_time",
    "long_name": "time of the last observed step",
}
LEAD_ATTRS = {"standard_name": "forecast_period", "long_name": "lead"}
VALID_ATTRS = {"standard_name": "time", "long_name": "valid time"}
MEMBER_ATTRS = {"standard_name": "realization", "long_name": "ensemble member", "units": "1"}

_SYNONYMS = {
    "year": "years", "yr": "years", "yrs": "years", "month": "months", "mon": "months",
    "mons": "months", "season": "seasons", "week": "weeks", "pentad": "pentads", "day": "days",
    "d": "days", "hour": "hours", "h": "hours", "hr": "hours", "hrs": "hours",
    "minute": "minutes", "min": "minutes", "mins": "minutes", "second": "seconds",
    "sec": "seconds", "s": "seconds",
}  # fmt: skip
_OTHERS = {"weeks": (7, "days"), "pentads": (5, "days"), "seasons": (3, "months")}


def forecast_coords(
    axis: TimeAxis, positions: np.ndarray, n_leads: int, *, members: int | None = None
) -> dict[str, xr.Variable]:
    """Make the coordinates of forecasts from chosen starts.

    Parameters
    ----------
    axis : TimeAxis
        Of the history.
    positions : sequence of int, length I
        Positions on ``axis`` of the last observed step of each start.
    n_leads : int
        Number of leads N, at least 1.
    members : int, optional
        Size of the ensemble; none makes no ``member``.

    Returns
    -------
    dict of xarray.Variable
        ``init`` (I,), ``lead`` (N,) int64, ``valid_time`` (I, N), and ``member`` (M,) int64.

    Raises
    ------
    LeadError
        ``n_leads`` or ``members`` is less than 1.
    TimeAxisError
        The axis has a single stamp, so no step.

    Examples
    --------
    >>> import pandas as pd, xarray as xr
    >>> time = xr.DataArray(pd.date_range("2000-01", periods=3, freq="MS"), dims="time")
    >>> coords = forecast_coords(TimeAxis.from_array(time), [2], 2)
    >>> coords["valid_time"].values.astype("M8[M]").astype(str).tolist()
    [['2000-04', '2000-05']]
    """
    for label, number in (("leads", n_leads), ("members", 1 if members is None else members)):
        if number != int(number) or number < 1:
            raise LeadError(f"A forecast has at least 1 of its {label}; got {number!r}.")
    inits = axis.values[np.asarray(positions, dtype=np.int64)]
    steps = np.arange(1, int(n_leads) + 1, dtype=np.int64)
    valid = axis.offsets(inits, steps)
    step = axis.step or Step(1, "days")
    coords = {
        "init": xr.Variable(("init",), inits, dict(INIT_ATTRS)),
        "lead": xr.Variable(("lead",), steps * step.count, {**LEAD_ATTRS, "units": step.unit}),
        "valid_time": xr.Variable(("init", "lead"), valid, dict(VALID_ATTRS)),
    }
    if members is not None:
        numbers = np.arange(int(members), dtype=np.int64)
        coords["member"] = xr.Variable(("member",), numbers, dict(MEMBER_ATTRS))
    return coords


def exact_lead(lead: xr.DataArray) -> xr.DataArray:
    """Return the whole months (or years) that stand beside a nominal lead in days, else the lead.

    Files of xearth hold ``forecast_period`` in days, as CF wants it, and beside it ``lead_month``
    or ``lead_year``, "lead in calendar months after forecast_reference_time".
    """
    for unit, name in (("months", "lead_month"), ("years", "lead_year")):
        label = lead.coords.get(name)
        if label is None or name == lead.name or label.dims != lead.dims:
            continue
        words = str(label.attrs.get("long_name", ""))
        if label.dtype.kind in "iu" and words.endswith("after forecast_reference_time"):
            return label.rename(lead.name).drop_vars(name, errors="ignore").assign_attrs(units=unit)
    return lead


def lead_unit(lead: xr.DataArray) -> tuple[int, str]:
    """Read the unit of a lead as (factor, unit of `Step`); LeadError when it has none."""
    lead = exact_lead(lead)
    if lead.dtype.kind == "m":
        return 1, "seconds"
    said = str(lead.attrs.get("units", ""))
    unit = _SYNONYMS.get(said.strip().lower(), said.strip().lower())
    if unit in MONTHS or unit in SECONDS:
        return 1, unit
    if unit in _OTHERS:
        return _OTHERS[unit]
    raise LeadError(
        f"Lead {lead.name!r} has units {said!r}; expected one of "
        f"{[*MONTHS, *SECONDS, *_OTHERS]}. Set obj[{lead.name!r}].attrs['units'], or bring "
        "hindcasts of an archive to one layout: xearth.as_hindcast(obj)."
    )


def lead_counts(lead: xr.DataArray) -> tuple[np.ndarray, str]:
    """Read a lead as whole counts of a unit of `Step`; LeadError when they are not whole."""
    lead = exact_lead(lead)
    factor, unit = lead_unit(lead)
    if lead.dtype.kind == "m":
        micro = np.atleast_1d(lead.values).astype("timedelta64[us]").astype(np.int64)
        numbers = micro / 1e6
    else:
        numbers = np.atleast_1d(lead.values) * factor
    whole = np.rint(np.asarray(numbers, dtype=float))
    # A lead in days stored as float32 hours or minutes away from whole is finer than its unit.
    if not np.isfinite(whole).all() or (np.abs(whole - numbers) > 1e-6).any():
        if unit in SECONDS and unit != "seconds" and np.isfinite(whole).all():
            seconds = np.rint(np.asarray(numbers, dtype=float) * SECONDS[unit])
            return seconds.astype(np.int64), "seconds"
        raise LeadError(
            f"Lead {lead.name!r} holds {np.asarray(numbers).ravel()[:4].tolist()} {unit}; expected "
            "whole numbers. Use a finer unit; where they are middles of periods, as of NMME, bring "
            "the hindcasts to one layout: xearth.as_hindcast(obj)."
        )
    return whole.astype(np.int64), unit


def lead_steps(lead_coord: xr.DataArray, step: Step) -> np.ndarray:
    """Count leads in steps of an axis.

    Parameters
    ----------
    lead_coord : xarray.DataArray
        A lead with ``units`` (years, seasons, months, weeks, days, hours, minutes, seconds), or
        durations (timedelta64).
    step : Step

    Returns
    -------
    numpy.ndarray of int64

    Raises
    ------
    LeadError
        The lead has no such unit, or is no whole number of steps; months and days do not convert.

    Examples
    --------
    >>> import xarray as xr
    >>> lead = xr.DataArray([10, 20], dims="lead", attrs={"units": "minutes"}, name="lead")
    >>> lead_steps(lead, Step(5, "minutes")).tolist()
    [2, 4]
    """
    counts, unit = lead_counts(lead_coord)
    if (unit in MONTHS) != (step.unit in MONTHS):
        raise LeadError(
            f"Lead {lead_coord.name!r} counts {unit}, but the step is {step}: calendar months and "
            "fixed durations do not convert. Give the lead in the unit of the step."
        )
    sizes = MONTHS if unit in MONTHS else SECONDS
    total = counts * sizes[unit]
    steps, rest = np.divmod(total, step.count * sizes[step.unit])
    if rest.any():
        raise LeadError(
            f"Lead {lead_coord.name!r} holds {counts[rest != 0][:4].tolist()} {unit}, no whole "
            f"number of steps of {step}. Select leads that are multiples of the step."
        )
    return steps.astype(np.int64)


def valid_time(obj: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Give the valid time of each start and lead of a set of forecasts.

    Parameters
    ----------
    obj : xarray.DataArray or Dataset
        With starts and leads; either may be a single value. An existing valid time is returned,
        else it is computed by calendar arithmetic in the style of the starts.

    Returns
    -------
    xarray.DataArray
        ``valid_time`` with the dims of start and lead.

    Raises
    ------
    AxisError
        There is no start or no lead.
    TimeAxisError
        The starts are not dates.
    """
    axes = discover(obj, require=())
    names = {"init": axes.init or "init", "lead": axes.lead or "lead"}
    wanted = {d for d in (axes.init, axes.lead) if d is not None}
    for given, coord in obj.coords.variables.items():
        if coord.attrs.get("standard_name") == "time" and set(coord.dims) == wanted:
            return obj.coords[given].rename("valid_time")
    for kind, name in names.items():
        if name not in obj.coords:
            raise TimeAxisError(
                f"No valid time can be told for {obj.__class__.__name__} with coordinates "
                f"{[str(c) for c in obj.coords]}: it has no {kind}. Give it coordinate {kind!r}."
            )
    return _computed(obj[names["init"]], obj[names["lead"]])


def _computed(init: xr.DataArray, lead: xr.DataArray) -> xr.DataArray:
    values: np.ndarray = np.atleast_1d(init.values)
    if values.dtype.kind not in "MO":
        TimeAxis.from_array(init)  # says why these are not dates
    calendar = Calendar.of(values, str(init.name))
    style = Style.of(calendar, calendar.encode(values), calendar.months(values))
    counts, unit = lead_counts(lead)
    found: Any = shift(style, values, counts, Step(1, unit))
    dims = (str(init.name), str(lead.name))
    coords = {d: c.variable for d, c in zip(dims, (init, lead), strict=True) if c.ndim}
    full = xr.DataArray(found, coords, dims, "valid_time", dict(VALID_ATTRS))
    for dim, coord in zip(dims, (init, lead), strict=True):
        if coord.ndim == 0:
            full = full.isel({dim: 0}, drop=True)
    return full
