"""Which coordinate of a hindcast holds the starts, which the leads, which the members."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import xarray as xr

from ..errors import AxisError
from .clues import STANDARD_NAMES, is_dates
from .discover import bounds_of

__all__ = ["Roles", "find_roles"]

# Names of starts, leads and members, the surest first; matched whole.
NAMES: Mapping[str, tuple[str, ...]] = {
    "init": (
        "init", "inits", "init_?time", "initial_?time", "initiali[sz]ation(_time)?", "start_?date",
        "start_?time", "sdate", "hdate", "hindcast_?date", "reference_?time", "ref_?time",
        "forecast_reference_time", "forecast_initial_time", "issue_?(date|time)?", "S",
    ),
    "lead": (
        "forecast_?months?", "fc_?months?", "lead_?time_?months?", "lead_?months?", "lead_?years?",
        "lead", "leads", "lead_?times?(_?(hours?|days?))?", "forecast_period", "step",
        "prediction_timedelta", "forecast_hours?", "f_?time", "l_?time", "fxx", "tau", "horizon",
        "L",
    ),
    "member": (
        "members?", "reali[sz]ations?", "number", "ens", "ensembles?", "ens(emble)?_?members?",
        "run", "sample", "M",
    ),
}  # fmt: skip
WORDS = {
    "init": "starts (forecast_reference_time)",
    "lead": "leads (forecast_period)",
    "member": "members (realization)",
}
_SAME_CASE = ("S", "L", "M")  # a lower-case s, l or m is something else


@dataclass(frozen=True)
class Roles:
    """The coordinate that plays each part, and the dimension it lies on (None: a single value).

    Parameters
    ----------
    init, lead : str
    member, valid : str or None
    dims : mapping of str to str or None
    """

    init: str
    lead: str
    member: str | None
    valid: str | None
    dims: Mapping[str, str | None]


def find_roles(ds: xr.Dataset, given: Mapping[str, str | None]) -> Roles:
    """Find starts, leads, members and valid times.

    Parameters
    ----------
    ds : Dataset
    given : mapping
        Names by role, None where they are to be found.

    Raises
    ------
    AxisError
        No starts or leads, or several candidates.
    """
    bounds = bounds_of(ds)
    names = [str(n) for n in dict.fromkeys((*ds.coords, *ds.dims)) if n not in bounds]
    found: dict[str, str | None] = {}
    taken: set[str | None] = set()
    for role in NAMES:
        found[role] = _candidate(ds, role, given[role], names, taken)
        if found[role] is not None:
            taken |= {_dim(ds, str(found[role]))} - {None}
    valid = _valid_name(ds, names, found)
    if found["init"] is None:
        found["init"] = _plain_time(ds, names, found, valid)
    if found["lead"] is None:
        found["lead"] = _series(ds, found, valid)
    for role in ("init", "lead"):
        if found[role] is None:
            raise AxisError(
                f"No {WORDS[role]} among the coordinates {names} of this object. Name them: "
                f"as_hindcast(ds, {role}=...), or set the standard_name."
            )
    dims = {role: _dim(ds, name) for role, name in found.items() if name is not None}
    if dims["init"] is not None and dims["init"] == dims["lead"]:
        raise AxisError(
            f"Starts {found['init']!r} and leads {found['lead']!r} lie on the one dimension "
            f"{dims['init']!r}: one forecast for each start. Give each an axis of its own, as in "
            "ds.set_index(...).unstack()."
        )
    return Roles(str(found["init"]), str(found["lead"]), found["member"], valid, dims)


def _dim(ds: xr.Dataset, name: str) -> str | None:
    """Return the dimension a coordinate lies on; None for a single value."""
    if name not in ds.coords:
        return name
    dims = ds[name].dims
    if len(dims) > 1:
        raise AxisError(
            f"{name!r} has the dims {dims}; starts, leads and members have one. Select, or name "
            "another coordinate."
        )
    return str(dims[0]) if dims else None


def _candidate(
    ds: xr.Dataset, role: str, given: str | None, names: list[str], taken: set[str | None]
) -> str | None:
    """Return the coordinate of a role: as given, by standard name, by name."""
    if given is not None:
        if given not in names:
            raise AxisError(
                f"{role}={given!r} is no coordinate or dimension of this object, which has "
                f"{names}. Give one of these."
            )
        return given
    flat = [n for n in names if n not in ds.coords or ds[n].ndim <= 1]
    said = [n for n in flat if n in ds.coords and _said(ds[n]) == role]
    if len(said) == 1 and role != "lead":
        return said[0]
    for pattern in NAMES[role]:
        flags = 0 if pattern in _SAME_CASE else re.IGNORECASE
        named = [n for n in flat if re.fullmatch(pattern, n, flags) and n not in said]
        for name in named:
            free = _dim(ds, name) is None or _dim(ds, name) not in taken
            if free and _plausible(ds, role, name) and _along(ds, name, said):
                return name
    if len(said) > 1:
        raise AxisError(
            f"Several coordinates are {WORDS[role]}: {said}. Name one: as_hindcast(ds, {role}=...)."
        )
    return said[0] if said else None


def _said(coord: xr.DataArray) -> str | None:
    return STANDARD_NAMES.get(str(coord.attrs.get("standard_name", "")))


def _along(ds: xr.Dataset, name: str, said: list[str]) -> bool:
    """Let a name overrule what has the standard name on the same dimension only."""
    return not said or any(_dim(ds, name) == _dim(ds, other) for other in said)


def _plausible(ds: xr.Dataset, role: str, name: str) -> bool:
    """Tell whether the values could be of a role."""
    if name not in ds.coords:
        return role in ("member", "lead")
    coord = ds[name]
    if role == "init":
        return is_dates(coord.variable) or coord.dtype.kind in "iufUSO"
    if role == "lead":
        return coord.dtype.kind in "iufm"
    return not is_dates(coord.variable) and coord.dtype.kind != "m"


def _valid_name(ds: xr.Dataset, names: list[str], found: Mapping[str, str | None]) -> str | None:
    """Return the coordinate of valid times: dates on starts and leads, or on leads alone."""
    dims = {_dim(ds, n) for n in (found["init"], found["lead"]) if n is not None}
    for name in names:
        if name in ds.coords and name not in found.values() and is_dates(ds[name].variable):
            on = set(map(str, ds[name].dims))
            if len(on) == 2 and (on >= dims - {None}):
                return name
            if on and found["lead"] is not None and on == {_dim(ds, found["lead"])}:
                return name
    return None


def _plain_time(
    ds: xr.Dataset, names: list[str], found: Mapping[str, str | None], valid: str | None
) -> str | None:
    """Return a time that can only be the starts: dates, not along the leads."""
    lead = None if found["lead"] is None else _dim(ds, found["lead"])
    dates = [
        n for n in names
        if n in ds.coords and n != valid and ds[n].ndim <= 1 and is_dates(ds[n].variable)
        and (lead is None or lead not in ds[n].dims)
    ]  # fmt: skip
    among = [n for n in dates if n in ds.dims] or dates
    if len(among) > 1:
        raise AxisError(f"Several times could be the starts: {among}. Name one: init=...")
    return among[0] if among and lead is not None else None


def _series(ds: xr.Dataset, found: Mapping[str, str | None], valid: str | None) -> str | None:
    """Return the time of a series from a single start, whose leads its valid times tell."""
    init = found["init"]
    if init is None or init not in ds.coords or ds[init].size != 1:
        return None
    times = [str(n) for n in ds.dims if n in ds.coords and n != init and is_dates(ds[n].variable)]
    return times[0] if len(times) == 1 else valid
