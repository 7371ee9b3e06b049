r"""Two layouts of one forecast: in memory (init, lead, member) and on file, as CF wants it.

In memory, ``lead`` is a whole count with units and ``valid_time`` (init, lead) the time axis. On
file a single start is a series along ``time`` with a scalar ``forecast_reference_time``; a set of
starts has the dims (realization, forecast_period, forecast_reference_time, y, x) and a 2-D
auxiliary ``time``. Calendar months have no fixed length, so ``lead_month`` (or ``lead_year``)
holds the exact lead beside the ``forecast_period`` in days.

`to_file_layout` and `from_file_layout` are inverses.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from ..errors import AxisError, TimeAxisError
from .calendars import DAY, SECONDS, Calendar
from .clues import is_dates
from .discover import Axes
from .forecast_coords import (
    INIT_ATTRS,
    LEAD_ATTRS,
    MEMBER_ATTRS,
    VALID_ATTRS,
    lead_counts,
    valid_time,
)
from .timeaxis import MONTHS

PERIOD_ATTRS = {"standard_name": "forecast_period", "long_name": "lead time"}
COLLAPSED_ATTRS = {
    "standard_name": "realization",
    "long_name": "members collapsed by cell_methods",
    "units": "1",
}
LABEL = "_label"
EXACT_LEADS: Mapping[str, str] = {"months": "lead_month", "years": "lead_year"}
_YEAR_DAYS = {"360_day": 360.0, "noleap": 365.0, "365_day": 365.0, "all_leap": 366.0,
              "366_day": 366.0}  # fmt: skip


def to_file_layout(ds: xr.Dataset, axes: Axes) -> xr.Dataset:
    """Turn the layout in memory into that on file.

    Parameters
    ----------
    ds : xarray.Dataset
        Forecasts (starts and leads, either may be scalar), scores by lead, or plain fields.
    axes : Axes
        Of ``ds``.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    AxisError
        A dimension of ``ds`` has a name that the layout needs for another.
    """
    ds = _monotonic(_labels_aside(ds), axes)
    init = axes.init or _scalar(ds, "forecast_reference_time")
    lead = axes.lead or _scalar(ds, "forecast_period")
    ds = _renamed(ds, axes.member, "realization", MEMBER_ATTRS, np.int32)
    if lead is None or (axes.time is not None and axes.lead is None):
        return _plain(ds, axes)
    if ds[lead].ndim == 0:
        ds = ds.expand_dims({lead: 1}) if init is not None else ds
    if ds[lead].ndim == 0:
        return _plain(ds, axes)
    if axes.time is not None:
        raise AxisError(
            f"The object has both a time axis {axes.time!r} and a lead axis {lead!r}; a CF file "
            "can hold only one of them as its time. Write the two parts to files of their own."
        )
    if init is not None and init in ds.dims and ds.sizes[init] > 1:
        return _hindcast(ds, init, lead)
    if init is not None:
        return _single(ds, init, lead)
    return _by_lead(ds, lead)


def _monotonic(ds: xr.Dataset, axes: Axes) -> xr.Dataset:
    """Sort times, starts and leads, and unwrap longitudes: CF coordinates are monotonic."""
    for dim in (axes.time, axes.init, axes.lead):
        if dim is None or dim not in ds.coords or ds.sizes[dim] < 2:
            continue
        index = ds.indexes[dim]
        if not index.is_unique:
            repeated = index[index.duplicated()][0]
            raise TimeAxisError(
                f"{dim!r} holds {repeated} more than once; a CF file can hold each once. Drop the "
                f"repeats: obj.drop_duplicates({dim!r})."
            )
        rising = index.is_monotonic_increasing or (
            dim == axes.time and index.is_monotonic_decreasing
        )
        ds = ds if rising else ds.sortby(dim)
    if axes.lon is not None and ds[axes.lon].dims == (axes.lon,) and ds.sizes[axes.lon] > 1:
        ds = _unwrapped(ds, axes.lon)
    return ds


def _unwrapped(ds: xr.Dataset, lon: str) -> xr.Dataset:
    """Add whole turns to longitudes across the dateline (or Greenwich) until they rise or fall."""
    coord = ds[lon].variable
    steps = np.diff(coord.values)
    if (steps > 0).all() or (steps < 0).all():
        return ds
    turns = np.concatenate([[0.0], np.cumsum(-np.rint(steps / 360.0))]) * 360.0
    values = (coord.values + turns).astype(coord.dtype)
    found = ds.assign_coords({lon: (coord.dims, values, coord.attrs)})
    bounds = coord.attrs.get("bounds", coord.encoding.get("bounds"))
    if bounds in ds.variables:
        away = np.mod(ds[bounds].values - coord.values[:, None] + 180.0, 360.0) - 180.0
        found[bounds] = (ds[bounds].dims, values[:, None] + away)
    return found


def _labels_aside(ds: xr.Dataset) -> xr.Dataset:
    """Make labels (strings) along a dimension auxiliary: a CF coordinate variable is numeric."""
    labels = [d for d in ds.dims if d in ds.coords and ds[d].dtype.kind in "OUST"]
    labels = [d for d in labels if not is_dates(ds[d].variable)]
    for dim in labels:
        ds = ds.reset_index(dim)  # of several levels, each stays as a coordinate
        if dim in ds.coords:
            ds = ds.rename_vars({dim: f"{dim}{LABEL}"})
    return ds


def _labels_back(ds: xr.Dataset) -> xr.Dataset:
    """Undo `_labels_aside`."""
    for name in [str(n) for n in ds.coords if str(n).endswith(LABEL)]:
        dim = name.removesuffix(LABEL)
        if ds[name].dims == (dim,) and dim not in ds.coords:
            ds = ds.rename_vars({name: dim}).set_xindex(dim)
    return ds


def _scalar(ds: xr.Dataset, standard_name: str) -> str | None:
    """Name the scalar coordinate of a standard name."""
    for name, coord in ds.coords.items():
        if coord.ndim == 0 and coord.attrs.get("standard_name") == standard_name:
            return str(name)
    return None


def _plain(ds: xr.Dataset, axes: Axes) -> xr.Dataset:
    if axes.time is None or axes.time == "time":
        return ds
    return _renamed(ds, axes.time, "time", None, None)


def _renamed(
    ds: xr.Dataset,
    old: str | None,
    new: str,
    attrs: Mapping[str, str] | None,
    dtype: type | None,
) -> xr.Dataset:
    """Rename a dimension and its index coordinate, with new attributes and type."""
    if old is None:
        return ds
    if old != new:
        if new in ds.variables or new in ds.dims:
            raise AxisError(
                f"Cannot rename {old!r} to {new!r} for the CF file: {new!r} exists already with "
                f"dims {ds[new].dims}. Drop or rename it first."
            )
        ds = ds.rename({old: new})
    if new not in ds.coords or attrs is None:
        return ds
    coord = ds[new].variable
    values = coord.values if dtype is None or coord.dtype.kind not in "iu" else coord.astype(dtype)
    return ds.assign_coords({new: (coord.dims, np.asarray(values), dict(attrs))})


def _periods(ds: xr.Dataset, lead: str, calendar: str) -> dict[str, xr.Variable]:
    """Make ``forecast_period`` of a lead alone; days are nominal for months and years."""
    counts, unit = lead_counts(ds[lead])
    if unit not in MONTHS:
        attrs = {**PERIOD_ATTRS, "units": unit}
        return {"forecast_period": xr.Variable((lead,), counts.astype(float), attrs)}
    days = counts * (MONTHS[unit] / 12.0 * _YEAR_DAYS.get(calendar, 365.25))
    attrs = {**PERIOD_ATTRS, "long_name": "nominal lead time", "units": "days"}
    return {
        "forecast_period": xr.Variable((lead,), days, attrs),
        EXACT_LEADS[unit]: _exact(lead, counts, unit),
    }


def _exact(dim: str, counts: np.ndarray, unit: str) -> xr.Variable:
    attrs = {"long_name": f"lead in calendar {unit} after forecast_reference_time", "units": "1"}
    return xr.Variable((dim,), counts.astype(np.int32), attrs)


def _hindcast(ds: xr.Dataset, init: str, lead: str) -> xr.Dataset:
    """Lay out several starts: 2-D auxiliary time, 1-D start and lead."""
    valid = valid_time(ds).transpose(lead, init)
    starts = ds[init].values
    calendar = Calendar.of(starts, init).name
    periods = _periods(ds, lead, calendar)
    ds = _drop_valid(ds)
    ds = ds.assign_coords(time=((lead, init), valid.values, dict(VALID_ATTRS)))
    extra = {k: v for k, v in periods.items() if k != "forecast_period"}
    ds = ds.assign_coords({lead: periods["forecast_period"], **extra})
    ds = _renamed(ds, lead, "forecast_period", periods["forecast_period"].attrs, None)
    return _renamed(ds, init, "forecast_reference_time", INIT_ATTRS, None)


def _single(ds: xr.Dataset, init: str, lead: str) -> xr.Dataset:
    """Lay out one start: a series along the valid time."""
    if init in ds.dims:
        ds = ds.isel({init: 0})
    valid = np.atleast_1d(valid_time(ds).values)
    start = np.atleast_1d(ds[init].values)
    counts, unit = lead_counts(ds[lead])
    calendar = Calendar.of(start, init)
    size = DAY if unit in MONTHS else SECONDS[unit] * 1_000_000
    elapsed = (calendar.encode(valid) - calendar.encode(start)) / size
    period = {**PERIOD_ATTRS, "units": "days" if unit in MONTHS else unit}
    coords = {
        "time": xr.Variable((lead,), valid, dict(VALID_ATTRS)),
        "forecast_period": xr.Variable((lead,), elapsed, period),
        "forecast_reference_time": xr.Variable((), ds[init].values, dict(INIT_ATTRS)),
    }
    if unit in MONTHS:
        coords[EXACT_LEADS[unit]] = _exact(lead, counts, unit)
    ds = _drop_valid(ds).drop_vars({init, lead} & set(map(str, ds.variables)))
    return ds.assign_coords(coords).swap_dims({lead: "time"})


def _by_lead(ds: xr.Dataset, lead: str) -> xr.Dataset:
    """Lay out scores by lead: no start, no time."""
    periods = _periods(ds, lead, "standard")
    ds = ds.assign_coords({lead: periods.pop("forecast_period"), **periods})
    attrs = {str(k): v for k, v in ds[lead].attrs.items()}
    return _renamed(ds, lead, "forecast_period", attrs, None)


def _drop_valid(ds: xr.Dataset) -> xr.Dataset:
    names = [
        str(n)
        for n, c in ds.coords.items()
        if n == "valid_time" or (c.attrs.get("standard_name") == "time" and n not in ds.dims)
    ]
    return ds.drop_vars(names)


def from_file_layout(ds: xr.Dataset) -> xr.Dataset:
    """Turn the layout on file back into that in memory; the inverse of `to_file_layout`.

    Parameters
    ----------
    ds : xarray.Dataset

    Returns
    -------
    xarray.Dataset
        With init, lead, member and valid_time where ``ds`` holds forecasts; else as it is.
    """
    ds = _labels_back(ds)
    drop = [n for n in ("time_bnds", "forecast_period_bnds") if n in ds.variables]
    if "forecast_period" not in ds.coords:
        return _member(ds)
    ds = ds.drop_vars(drop)
    period = ds["forecast_period"]
    if period.ndim != 1:
        return _member(ds)
    lead, names = _lead_of(ds, str(period.dims[0]))
    if period.dims == ("time",) and _scalar(ds, "forecast_reference_time") is not None:
        ds = _start_dim(ds)
    ds = ds.drop_vars([n for n in ("forecast_period", *names) if n in ds.variables])
    ds = ds.rename({d: "lead" for d in period.dims if d in ds.dims and d != "lead"})
    ds = ds.assign_coords(lead=lead)
    if "forecast_reference_time" in ds.dims:
        ds = ds.rename(forecast_reference_time="init")
        ds = ds.assign_coords(init=("init", ds["init"].values, dict(INIT_ATTRS)))
    if "time" in ds.coords and set(ds["time"].dims) == {"init", "lead"}:
        valid = ds["time"].transpose("init", "lead").values
        ds = ds.drop_vars("time").assign_coords(
            valid_time=(("init", "lead"), valid, dict(VALID_ATTRS))
        )
    ds = _member(ds)
    return ds.transpose("init", "lead", "member", ..., missing_dims="ignore")


def _start_dim(ds: xr.Dataset) -> xr.Dataset:
    """Make the single start a dimension again, of the variables that run along time."""
    start, valid = ds["forecast_reference_time"].values, ds["time"].values
    ds = ds.drop_vars(["forecast_reference_time", "time"])
    grown = {
        name: variable.expand_dims("forecast_reference_time")
        for name, variable in ds.data_vars.items()
        if "time" in variable.dims
    }
    return ds.assign(grown).assign_coords(
        forecast_reference_time=("forecast_reference_time", np.atleast_1d(start)),
        valid_time=(("forecast_reference_time", "time"), valid[None, :], dict(VALID_ATTRS)),
    )


def _lead_of(ds: xr.Dataset, dim: str) -> tuple[xr.Variable, tuple[str, ...]]:
    """Read the whole lead and its unit from a file."""
    for unit, name in EXACT_LEADS.items():
        if name in ds.coords:
            counts = ds[name].values.astype(np.int64)
            return xr.Variable(("lead",), counts, {**LEAD_ATTRS, "units": unit}), (name,)
    period = ds["forecast_period"]
    counts, unit = lead_counts(period)
    return xr.Variable(("lead",), counts, {**LEAD_ATTRS, "units": unit}), ()


def _member(ds: xr.Dataset) -> xr.Dataset:
    if "realization" not in ds.dims:
        return ds.drop_vars("realization", errors="ignore") if _collapsed(ds) else ds
    ds = ds.rename(realization="member")
    values = ds["member"].values.astype(np.int64)
    return ds.assign_coords(member=("member", values, dict(MEMBER_ATTRS)))


def _collapsed(ds: xr.Dataset) -> bool:
    """Tell whether the scalar ``realization`` stands for members that are gone."""
    return "realization" in ds.coords and ds["realization"].attrs == COLLAPSED_ATTRS
