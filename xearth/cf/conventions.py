"""Hindcasts of the world's archives, brought to one layout: (init, lead, member, ...).

======================  ===============================================================
archive                 its names for start, lead and member
======================  ===============================================================
CF                      forecast_reference_time, forecast_period, realization
climpred                init, lead, member
NMME, SubX (IRI)        S, L, M
C3S, cfgrib             time or forecast_reference_time, forecastMonth or step, number
S2S                     hdate or time, step, number
CSTools, s2dv           sdate, ftime, member
WeatherBench            init_time or time, lead_time or prediction_timedelta, number
======================  ===============================================================

Attributes decide before names. How each counts its leads is in :mod:`xearth.cf.leads`; dates that
only the archives themselves can read are decoded by :mod:`xearth.cf.nominal`.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from ..errors import AxisError, SourceError, TimeAxisError, TimeAxisWarning, warn
from .calendars import Calendar
from .clues import is_dates
from .forecast_coords import INIT_ATTRS, MEMBER_ATTRS, VALID_ATTRS, valid_time
from .joining import join_starts
from .leads import Counting, Leads, read_leads
from .nominal import decode_times, decoded_dates
from .roles import WORDS, Roles, find_roles
from .timeaxis import MONTHS, TimeAxis

__all__ = ["as_hindcast", "count_members", "open_hindcast"]

Labeled = TypeVar("Labeled", xr.DataArray, xr.Dataset)

_START = {**INIT_ATTRS, "long_name": "start of the forecast"}


def open_hindcast(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | xr.Dataset,
    *,
    init: str | None = None,
    lead: str | None = None,
    member: str | None = None,
    counting: Counting | None = None,
    chunks: Any = None,
) -> xr.Dataset:
    """Open the hindcasts of an archive in the layout (init, lead, member, ...).

    Parameters
    ----------
    source : path, pattern, sequence of paths, or Dataset
        A NetCDF file, a Zarr store, or several of them (``"hc_*.nc"``) that hold different
        starts. Members or leads that some files lack are missing values there; see
        :func:`count_members`. Variables, units, grid and calendar must be the same.
    init, lead, member : str, optional
        Names in the file, where attributes and names do not tell. With ``member="model"`` the
        models of a multi-model archive are the members; else they stay a dimension of their own.
    counting : {"elapsed", "ordinal", "midpoint"}, optional
        How the file counts its leads, where it does not tell; see :mod:`xearth.cf.leads`.
    chunks : optional
        Dask chunks, as for :func:`xarray.open_dataset`; several files are always chunked.

    Returns
    -------
    Dataset
        As :func:`as_hindcast` gives it; values are read when they are used.

    Raises
    ------
    SourceError
        There is no such file, it cannot be read, or files hold other variables.
    UnitsError, GridMismatchError
        Files differ in their units or grids.
    AxisError, LeadError, TimeAxisError
        As :func:`as_hindcast`.

    Examples
    --------
    >>> import xarray as xr
    >>> nmme = xr.Dataset(
    ...     {"sst": (("S", "L"), [[26.0, 26.5]], {"units": "degC"})},
    ...     {"S": ("S", [480.0], {"units": "months since 1960-01-01", "calendar": "360"}),
    ...      "L": ("L", [0.5, 1.5], {"units": "months"})},
    ... )
    >>> hc = open_hindcast(nmme)
    >>> hc.sst.dims, hc.lead.values.tolist(), hc.valid_time.dt.month.values.tolist()
    (('init', 'lead'), [0, 1], [[1, 2]])
    """
    names: dict[str, Any] = {"init": init, "lead": lead, "member": member, "counting": counting}
    if isinstance(source, xr.Dataset):
        return as_hindcast(decode_times(source), **names)
    paths = _paths(source)
    if len(paths) == 1:
        return as_hindcast(decode_times(_opened(paths[0], chunks)), **names)
    parts = [
        as_hindcast(decode_times(_opened(p, {} if chunks is None else chunks)), **names)
        for p in paths
    ]
    joined = join_starts(list(zip(paths, parts, strict=True)))
    return joined.assign_coords(valid_time=_valid(joined))


def as_hindcast(
    obj: Labeled,
    *,
    init: str | None = None,
    lead: str | None = None,
    member: str | None = None,
    counting: Counting | None = None,
) -> Labeled:
    """Bring hindcasts of another convention to (init, lead, member, ...) with ``valid_time``.

    Parameters
    ----------
    obj : DataArray or Dataset
        With starts and leads (either may be a single value) and perhaps members, recognized by
        CF attributes, then by the names that archives use. Lazy data stay lazy.
    init, lead, member : str, optional
        Names of these in ``obj``, where attributes and names do not tell.
    counting : {"elapsed", "ordinal", "midpoint"}, optional
        How the leads count, where the object does not tell.

    Returns
    -------
    same type as ``obj``
        ``init`` (dates), ``lead`` (whole elapsed counts with units: valid time = init + lead; its
        comment says how the source counted), ``valid_time`` (init, lead), ``member``. Where the
        labels of the source were others they stay as a coordinate under their own name.

    Raises
    ------
    AxisError
        No starts or no leads, or several candidates; the message lists them.
    LeadError
        Leads without units, or that no counting fits.
    TimeAxisError
        Starts that are no dates, or repeated.

    Warns
    -----
    TimeAxisWarning
        Starts without a date (NaT) are left out; the warning counts them.
    DiscoveryWarning
        Monthly leads from 1 that do not say whether 1 is the month of the start.

    Examples
    --------
    >>> ds = xr.Dataset(
    ...     {"t2m": (("time", "forecastMonth", "number"), np.zeros((1, 2, 3)))},
    ...     {"time": ("time", np.array(["2000-11-01"], "M8[ns]")), "forecastMonth": [1, 2]},
    ... )
    >>> hc = as_hindcast(ds)
    >>> hc.t2m.dims, hc.lead.values.tolist(), hc.lead.units
    (('init', 'lead', 'member'), [0, 1], 'months')
    """
    if isinstance(obj, xr.DataArray):
        name = obj.name if obj.name is not None else "_hindcast"
        made = as_hindcast(
            obj.to_dataset(name=name), init=init, lead=lead, member=member, counting=counting
        )
        found: Any = made[name].rename(obj.name)
        return found
    roles = find_roles(obj, {"init": init, "lead": lead, "member": member})
    ds = _dims_of_roles(obj, roles)
    ds = ds.assign_coords(init=_starts(ds["init"], roles.init))
    ds = _without_missing_starts(ds)
    valid = ds["_valid"] if "_valid" in ds.coords else None
    leads = read_leads(ds["lead"].rename(roles.lead), ds["init"], valid, counting=counting)
    ds = _labeled(ds, leads, roles, valid)
    return ds.transpose("init", "lead", "member", ..., missing_dims="ignore")


def count_members(hindcast: xr.DataArray, *, member: str = "member") -> xr.DataArray:
    """Return how many members hold a value at each start and lead, lazily where it is lazy.

    An archive often has fewer members at some starts. A mean over members leaves the missing ones
    out; this tells where, so that it is not done unseen.

    Parameters
    ----------
    hindcast : DataArray (init, lead, member, ...)
    member : str
        Name of the dimension of members.

    Returns
    -------
    DataArray (init, lead)
        Whole numbers.

    Raises
    ------
    AxisError
        There is no such dimension.

    Examples
    --------
    >>> hc = xr.DataArray([[[1.0, np.nan]], [[1.0, 2.0]]], dims=("init", "lead", "member"))
    >>> count_members(hc).values.tolist()
    [[1], [2]]
    """
    if member not in hindcast.dims:
        raise AxisError(
            f"{hindcast.name!r} has no dimension {member!r} of members; its dims are "
            f"{hindcast.dims}. Name it with member=..."
        )
    rest = [dim for dim in hindcast.dims if dim not in ("init", "lead", member)]
    counts = hindcast.notnull().any(rest).sum(member)
    counts.attrs = {"long_name": "number of members with a value", "units": "1"}
    return counts.rename("n_members")


# -- files ----------------------------------------------------------------------------------------


def _paths(source: Any) -> list[Path]:
    """Return the files that are meant."""
    if not isinstance(source, str | os.PathLike):
        found = [Path(path) for path in source]
    elif any(sign in str(source) for sign in "*?["):
        found = [Path(path) for path in sorted(glob.glob(str(source)))]
    else:
        found = [Path(source)]
    absent = [str(path) for path in found if not path.exists()]
    if absent or not found:
        raise SourceError(f"There is no file {(absent or [str(source)])[0]!r}. Check the path.")
    return found


def _opened(path: Path, chunks: Any) -> xr.Dataset:
    try:
        engine = "zarr" if path.is_dir() else None
        return xr.open_dataset(
            path, engine=engine, decode_times=False, decode_coords="all", chunks=chunks
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise SourceError(
            f"Cannot read {str(path)!r} as {'Zarr' if path.is_dir() else 'NetCDF'}: {error}. The "
            "file may be damaged or of another format."
        ) from error


# -- the layout -----------------------------------------------------------------------------------


def _dims_of_roles(ds: xr.Dataset, roles: Roles) -> xr.Dataset:
    """Give each role a dimension of its name; the valid time becomes ``_valid``."""
    names = {"init": roles.init, "lead": roles.lead, "member": roles.member}
    parts = {role: _values_of(ds, role, name) for role, name in names.items() if name is not None}
    valid = None if roles.valid is None else ds[roles.valid].variable
    if is_dates(parts["lead"]):  # the series of one start
        valid = parts["lead"]
        parts["lead"] = _elapsed(ds[roles.lead], parts["init"])
    to_role = {dim: role for role, dim in roles.dims.items() if dim is not None}
    taken = {*names.values(), roles.valid, *to_role, *parts, "valid_time"}
    taken |= {_bounds(ds, name) for name in (*names.values(), roles.valid)}
    ds = ds.drop_vars([n for n in taken if n in ds.variables and n not in ds.data_vars])
    ds = ds.rename_dims({dim: role for dim, role in to_role.items() if dim != role})
    for role in ("lead", "init"):  # a single value gets a dimension of its own
        if roles.dims[role] is None:
            along = {n: v for n, v in ds.data_vars.items() if role == "lead" or "lead" in v.dims}
            ds = ds.assign({n: v.expand_dims(role) for n, v in along.items()})
    if roles.member is not None and roles.dims["member"] is None:
        parts.pop("member")
    coords = {
        role: ((role,), np.atleast_1d(part.values), part.attrs) for role, part in parts.items()
    }
    ds = ds.assign_coords(coords)
    return ds if valid is None else ds.assign_coords(_valid=_on_both(valid, to_role, ds))


def _bounds(ds: xr.Dataset, name: str | None) -> str | None:
    """Name the bounds of a coordinate, which hold no longer once it counts otherwise."""
    if name not in ds.coords:
        return None
    return ds[name].attrs.get("bounds", ds[name].encoding.get("bounds"))


def _values_of(ds: xr.Dataset, role: str, name: str) -> xr.Variable:
    """Return the coordinate of a role; members without one are counted from 0."""
    if name in ds.coords:
        return ds[name].variable
    if role == "member":
        return xr.Variable((name,), np.arange(ds.sizes[name], dtype=np.int64))
    raise AxisError(
        f"The {WORDS[role]} {name!r} have no coordinate, so nobody knows what they are. Give them "
        f"values, as in ds.assign_coords({name}=({name!r}, values, {{'units': 'months'}}))."
    )


def _on_both(valid: xr.Variable, to_role: Mapping[str, str], ds: xr.Dataset) -> xr.Variable:
    """Return valid times on (init, lead); those of a single start lack one of them."""
    dims = [to_role[str(dim)] for dim in valid.dims]
    named = xr.Variable(dims, valid.values, valid.attrs)
    return named.set_dims({"init": ds.sizes["init"], "lead": ds.sizes["lead"]})


def _elapsed(times: xr.DataArray, init: xr.Variable) -> xr.Variable:
    """Return the leads of a series of valid times from one start, in the unit of its step."""
    axis = TimeAxis.from_array(times)
    start = np.atleast_1d(init.values)
    calendar = Calendar.of(start, "init")
    if axis.step is not None and axis.step.months is not None:
        months = axis.style.calendar.months(axis.values) - calendar.months(start)
        return xr.Variable(("lead",), months, {"units": "months"})
    micro = axis.microseconds - calendar.encode(start)
    return xr.Variable(("lead",), micro // 1_000_000, {"units": "seconds"})


def _starts(init: xr.DataArray, source: str) -> xr.Variable:
    """Return the starts as dates."""
    values = init.values
    if not is_dates(init.variable):
        dates = decoded_dates(source, values)
        if dates is None or " since " in str(init.attrs.get("units", "")):
            raise TimeAxisError(
                f"The starts {source!r} hold {init.dtype} values such as {values[:2].tolist()}, "
                "not dates. Open the file with xearth.open_hindcast, or decode them."
            )
        values = dates
    return xr.Variable(("init",), values, dict(_START))


def _without_missing_starts(ds: xr.Dataset) -> xr.Dataset:
    """Leave out starts without a date, and say how many; refuse repeated ones."""
    known = ds["init"].notnull().values
    if not known.all():
        warn(
            f"{int((~known).sum())} of {known.size} starts have no date (NaT) and are left out.",
            TimeAxisWarning,
        )
        ds = ds.isel(init=np.flatnonzero(known))
    if ds.sizes["init"] == 0:
        raise TimeAxisError("No start has a date; expected at least one.")
    calendar = Calendar.of(ds["init"].values, "init")
    numbers, counts = np.unique(calendar.encode(ds["init"].values), return_counts=True)
    if (counts > 1).any():
        again = calendar.decode(numbers[counts > 1])[0]
        raise TimeAxisError(
            f"{int((counts > 1).sum())} starts appear more than once, first {again}; expected each "
            "once. Drop the repeats: ds.drop_duplicates('init')."
        )
    return ds


def _labeled(ds: xr.Dataset, leads: Leads, roles: Roles, valid: xr.DataArray | None) -> xr.Dataset:
    """Set the coordinates lead, valid_time and member; keep other labels of the source."""
    source = ds["lead"]
    ds = ds.assign_coords(lead=leads.variable())
    numbers = source.dtype.kind in "iuf"
    if leads.counting != "elapsed" or (numbers and not np.array_equal(source, leads.counts)):
        name = roles.lead if roles.lead != "lead" else "lead_label"
        attrs = {k: v for k, v in source.attrs.items() if k != "standard_name"}
        ds = ds.assign_coords({name: (("lead",), source.values, attrs)})
    ds = ds.drop_vars(["_valid", "valid_time"], errors="ignore")
    ds = ds.assign_coords(valid_time=_valid(ds, valid))
    if "member" in ds.coords:
        ds = ds.assign_coords(member=_members(ds["member"]))
    return ds


def _members(member: xr.DataArray) -> xr.Variable:
    values = member.values
    if values.dtype.kind == "f" and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind in "iu":
        return xr.Variable(("member",), values.astype(np.int64), dict(MEMBER_ATTRS))
    attrs = {k: v for k, v in MEMBER_ATTRS.items() if k != "units"}
    return xr.Variable(("member",), values, attrs)


def _valid(ds: xr.Dataset, source: xr.DataArray | None = None) -> xr.Variable:
    """Return the valid times: those of the source if it has all of them, else init + lead."""
    bare = xr.Dataset(coords={"init": ds["init"].variable, "lead": ds["lead"].variable})
    values = valid_time(bare).transpose("init", "lead").values
    if source is not None and bool(source.notnull().all()):
        theirs = source.transpose("init", "lead").values
        monthly = str(ds["lead"].attrs["units"]) in MONTHS
        values = theirs if monthly or theirs.dtype.kind != values.dtype.kind else values
    return xr.Variable(("init", "lead"), values, dict(VALID_ATTRS))
