"""The truth at the valid time of every forecast."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.calendars import Calendar
from ..cf.discover import discover, find_axes
from ..cf.forecast_coords import lead_counts, lead_unit, valid_time
from ..cf.leads import counts_from_one
from ..cf.packing import decoded
from ..cf.timeaxis import MONTHS, TimeAxis
from ..errors import LeadError, TimeAxisError, XearthError

__all__ = ["check_counting", "match", "observations_at", "read_as"]

#: What to do about leads that are not what they seem.
ONE_LAYOUT = (
    "If the archive counts its leads otherwise, bring it to one layout first: "
    "xearth.open_hindcast(path), or xearth.as_hindcast(obj)."
)

# Calendars that agree on every date since 1582.
_CIVIL = {"standard", "gregorian", "proleptic_gregorian"}


def observations_at(forecast: xr.DataArray | xr.Dataset, obs: xr.DataArray) -> xr.DataArray:
    """Return the observed value at the valid time of each start and lead.

    On a monthly axis a valid time matches the observation of its calendar month, whatever the
    day of the stamps and whatever the calendars; where both truth and leads count years, that of
    its calendar year; else the stamps must be equal to within 1 % of the step.

    Parameters
    ----------
    forecast : DataArray or Dataset
        With starts and leads; only its coordinates are used.
    obs : DataArray
        (time, ...), sorted or not, gaps allowed. Dask arrays stay lazy.

    Returns
    -------
    DataArray
        (init, lead, ...) with the coordinates of the forecast; NaN beyond the record and in its
        gaps.

    Raises
    ------
    LeadError
        Leads that count the period at the start as 1, as ``forecastMonth`` of C3S.
    TimeAxisError
        Repeated times, or an observed step that is not that of the leads: durations against
        calendar months, yearly (or seasonal) leads against monthly truth, monthly leads against
        yearly truth. A truth of running means (``attrs["target"]``) holds whole seasons or years
        at every month and matches by month.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.persistence import Persistence
    >>> nino34 = samples.open("oisst_nino34")
    >>> fc = Persistence.fit(nino34, horizon=2).forecast(nino34, init="1997-06")
    >>> truth = observations_at(fc, nino34)
    >>> truth.dims, bool(truth.sel(lead=2).item() == nino34.sel(time="1997-08").item())
    (('init', 'lead'), True)
    """
    obs = decoded(obs)
    time, valid, place, known = match(forecast, obs)
    lazy = obs.variable.transpose(time, ...).isel({time: place.ravel()}).data
    data = lazy.reshape((*valid.shape, *lazy.shape[1:]))
    rest = tuple(dim for dim in obs.dims if dim != time)
    coords: dict[Any, Any] = {
        name: coord.variable for name, coord in obs.coords.items() if time not in coord.dims
    }
    coords.update({name: coord.variable for name, coord in valid.coords.items()})
    coords["valid_time"] = valid.variable
    truth = xr.DataArray(data, coords, (*valid.dims, *rest), obs.name, obs.attrs)
    return truth.where(xr.DataArray(known, dims=valid.dims))


def match(
    forecast: xr.DataArray | xr.Dataset, obs: xr.DataArray
) -> tuple[str, xr.DataArray, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Find the truth of each start and lead without touching any value.

    Returns
    -------
    time : str
        The time dimension of ``obs``.
    valid : DataArray
        The valid times (init, lead).
    place : array (init, lead)
        Position of each valid time along ``time``; anything where it is not known.
    known : array (init, lead)
        Whether the record holds the valid time.

    Raises
    ------
    LeadError, TimeAxisError
        As :func:`observations_at`.
    """
    check_counting(forecast)
    time = str(discover(obs, require=("time",)).time)
    axis = TimeAxis.from_array(obs[time])
    if axis.duplicates:
        raise TimeAxisError(
            f"{time!r} of {obs.name!r} has repeated times, first {axis.duplicates[0]}; expected "
            f"one truth per time. Drop them: obj.drop_duplicates({time!r})."
        )
    valid = valid_time(forecast)
    keys, wanted = _keys(axis, valid.values, _months_of_a_key(forecast, obs, axis))
    order = np.argsort(keys)
    place = order[np.searchsorted(keys, wanted, sorter=order).clip(max=keys.size - 1)]
    place = _nearest(keys, place, order, wanted)
    return time, valid, place, np.abs(keys[place] - wanted) <= _tolerance(axis)


def check_counting(forecast: xr.DataArray | xr.Dataset) -> None:
    """Refuse leads that would be taken for elapsed ones and are not, where no valid time tells.

    Raises
    ------
    LeadError

    Examples
    --------
    >>> lead = xr.Variable("m", [1, 2], {"standard_name": "forecast_period", "units": "months"})
    >>> fc = xr.DataArray([0.0, 0.0], {"forecastMonth": lead}, ("m",))
    >>> check_counting(fc.swap_dims(m="forecastMonth"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    xearth.errors.LeadError: the leads 'forecastMonth' count the period at the start as 1...
    """
    lead, axes = _lead(forecast), find_axes(forecast)
    cases = {axes.init, axes.lead} - {None}
    told = any(
        coord.attrs.get("standard_name") == "time" and set(coord.dims) == cases
        for coord in forecast.coords.values()
    )
    if lead is None or told or not counts_from_one(lead):
        return
    raise LeadError(
        f"the leads {lead.name!r} count the period at the start as 1, by their name or text; found "
        f"{np.atleast_1d(lead.values)[:3].tolist()} ..., expected the time elapsed since the start "
        "(0 for that period) or a valid_time. Convert them: xearth.open_hindcast(path), or "
        "xearth.as_hindcast(obj)."
    )


def read_as(forecast: xr.DataArray | xr.Dataset) -> str:
    """Return how the leads are understood, for messages; nothing where they are not.

    Examples
    --------
    >>> lead = xr.Variable("lead", [1, 2], {"units": "mon"})
    >>> read_as(xr.DataArray([0.0, 0.0], {"lead": lead}, ("lead",)))
    " (leads 'lead' in 'mon' are read as 1 to 2 months from the start)"
    """
    lead = _lead(forecast)
    try:
        counts, unit = lead_counts(lead) if lead is not None else (None, "")
    except XearthError:
        counts = None
    if lead is None or counts is None or not counts.size:
        return ""
    units = f" in {lead.attrs['units']!r}" if "units" in lead.attrs else ""
    return (
        f" (leads {lead.name!r}{units} are read as {counts.min()} to {counts.max()} {unit} from "
        "the start)"
    )


def _lead(forecast: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    return forecast.coords.get(find_axes(forecast).lead or "lead")


def _months_of_a_key(
    forecast: xr.DataArray | xr.Dataset, obs: xr.DataArray, axis: TimeAxis
) -> int | None:
    """Return the calendar months that count as one time: 1, or 12; None for fixed durations."""
    lead = _lead(forecast)
    known = lead is not None and (lead.dtype.kind == "m" or "units" in lead.attrs)
    factor, unit = lead_unit(lead) if lead is not None and known else (1, None)
    if axis.step is None:
        return MONTHS.get(unit or "")
    steps = axis.step.months
    if unit is not None and (unit in MONTHS) != (steps is not None):
        raise TimeAxisError(
            f"the truth {obs.name!r} has the step {axis.step}, but the leads count "
            f"{'months' if unit in MONTHS else 'fixed durations'}: they do not match"
            f"{read_as(forecast)}. Resample the truth to the step of the forecast. {ONE_LAYOUT}"
        )
    if lead is None or unit not in MONTHS or steps is None:
        return None if steps is None else 1
    own = factor * MONTHS[unit]
    if steps % own and "target" not in obs.attrs:
        whole = "year" if own == 12 else "season"
        raise TimeAxisError(
            f"the leads count {lead.attrs['units']}, but the truth {obs.name!r} has the step "
            f"{axis.step}, of which one would stand for a whole {whole}. Average the truth over "
            f"each {whole} (obs.resample({axis.name}={'YS' if own == 12 else 'QS-DEC'!r}).mean()), "
            f"or give the leads in months if the forecast is of single months. {ONE_LAYOUT}"
        )
    apart = int(np.gcd.reduce(np.diff(np.sort(lead_counts(lead)[0] * MONTHS[unit]))))
    if apart % steps:
        raise TimeAxisError(
            f"the truth {obs.name!r} has the step {axis.step}, but the leads are "
            f"{apart} month{'s' if apart > 1 else ''} apart: most would go without a truth"
            f"{read_as(forecast)}. Give a truth of the step of the leads, or average the forecast "
            f"to that of the truth. {ONE_LAYOUT}"
        )
    return 12 if unit == "years" and steps % 12 == 0 else 1


def _keys(
    axis: TimeAxis, valid: npt.NDArray[Any], months: int | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return one integer per observed stamp and per valid time: months, years, microseconds."""
    other = Calendar.of(valid, "valid_time")
    if months is not None:
        return axis.style.calendar.months(axis.values) // months, other.months(valid) // months
    if other.name != axis.calendar and not {other.name, axis.calendar} <= _CIVIL:
        raise TimeAxisError(
            f"valid times are in the calendar {other.name!r}, the truth in {axis.calendar!r}; at "
            f"a step of {axis.step} their days do not match. Convert one: "
            "obj.convert_calendar(...)."
        )
    return axis.microseconds, other.encode(valid)


def _nearest(
    keys: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Move to the neighbor below where that is nearer."""
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    below = order[(rank[place] - 1).clip(min=0)]
    return np.where(np.abs(keys[below] - wanted) < np.abs(keys[place] - wanted), below, place)


def _tolerance(axis: TimeAxis) -> int:
    """Distance of two keys that still mean the same time."""
    if axis.step is None or axis.step.seconds is None:
        return 0
    return axis.step.seconds * 10_000
