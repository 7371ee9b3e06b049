"""Files of one hindcast, joined along their starts once it is sure that they belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..errors import (
    AxisError,
    GridMismatchError,
    LeadError,
    SourceError,
    TimeAxisError,
    UnitsError,
    XearthError,
)
from ..units import affine
from .calendars import SECONDS, Calendar
from .timeaxis import MONTHS

__all__ = ["join_starts"]

_FREE = ("init", "lead", "member")  # what files may differ in
_CIVIL = {"standard", "gregorian", "proleptic_gregorian"}  # agree since 1582

Part = tuple[Path, xr.Dataset]


def join_starts(parts: Sequence[Part]) -> xr.Dataset:
    """Join the hindcasts of several files, which hold different starts.

    Parameters
    ----------
    parts : sequence of (path, Dataset)
        As :func:`~xearth.cf.conventions.as_hindcast` gives them. Members and leads that some lack
        are missing values there; variables, units, grid, calendar and all else must be the same.

    Returns
    -------
    Dataset
        (init, lead, member, ...), sorted by start, without valid times.

    Raises
    ------
    SourceError
        Other variables or dimensions, or what does not depend on the start differs.
    UnitsError
        The same variable has other units.
    LeadError
        Calendar months in one file, fixed durations in another.
    GridMismatchError
        Other latitudes, longitudes, levels ...
    AxisError
        Members are numbered in one file, named in another.
    TimeAxisError
        Another calendar, or a start twice.

    Examples
    --------
    >>> def part(start, lead):
    ...     coords = {"init": ("init", np.array([start], "M8[ns]")),
    ...               "lead": ("lead", lead, {"units": "days"})}
    ...     return xr.Dataset({"t": (("init", "lead"), np.ones((1, len(lead))))}, coords)
    >>> join_starts([(Path("b.nc"), part("2001", [1, 2])), (Path("a.nc"), part("2000", [1]))]).t
    <xarray.DataArray 't' (init: 2, lead: 2)> Size: 32B
    array([[ 1., nan],
           [ 1.,  1.]])
    Coordinates:
      * init     (init) datetime64[ns] 16B 2000-01-01 2001-01-01
      * lead     (lead) int64 16B 1 2
    """
    parts = _same_lead_units(parts)
    for check in (_variables, _grid, _members, _calendar):
        _compare(parts, check)
    _each_start_once(parts)
    static = _static(parts)
    moving = [ds.drop_vars(list(static.variables)) for _, ds in parts]
    try:
        joined = xr.concat(
            moving, "init", data_vars="minimal", coords="minimal", compat="override", join="outer",
            combine_attrs="override",
        )  # fmt: skip
    except ValueError as error:
        raise SourceError(
            f"{len(parts)} files from {parts[0][0].name!r} to {parts[-1][0].name!r} do not make "
            f"one hindcast: {error}. Open them one by one."
        ) from error
    joined = joined.drop_vars("valid_time", errors="ignore").sortby("init")
    joined = joined.assign_coords({n: c.variable for n, c in static.coords.items()})
    return joined.assign({n: v.variable for n, v in static.data_vars.items()})


def _compare(parts: Sequence[Part], check: Callable[[Part, Part], None]) -> None:
    for part in parts[1:]:
        check(parts[0], part)


def _refuse(
    kind: type[XearthError], what: str, one: tuple[Path, Any], other: tuple[Path, Any], remedy: str
) -> XearthError:
    """Say what two files differ in."""
    files = f"{one[0].name!r} has {one[1]}, {other[0].name!r} has {other[1]}"
    return kind(f"{what} differs between files of one hindcast: {files}. {remedy}")


def _variables(first: Part, other: Part) -> None:
    """Refuse other variables, dimensions or units."""
    a, b = first[1], other[1]
    names = [sorted(map(str, ds.data_vars)) for ds in (a, b)]
    if names[0] != names[1]:
        raise _refuse(
            SourceError, "the set of variables", (first[0], names[0]), (other[0], names[1]),
            "Open only the files that belong together.",
        )  # fmt: skip
    for name in names[0]:
        dims = [sorted(map(str, ds[name].dims)) for ds in (a, b)]
        if dims[0] != dims[1]:
            raise _refuse(
                SourceError, f"the set of dimensions of {name!r}", (first[0], dims[0]),
                (other[0], dims[1]), "Give them the same, as in ds.expand_dims(member=[0]).",
            )  # fmt: skip
        units = [_units(ds[name].attrs) for ds in (a, b)]
        if not _same_units(*units):
            raise _refuse(
                UnitsError, f"the unit of {name!r}", (first[0], repr(" ".join(units[0]).strip())),
                (other[0], repr(" ".join(units[1]).strip())),
                "Convert one, or correct the attribute.",
            )  # fmt: skip


def _units(attrs: Mapping[str, Any]) -> tuple[str, str]:
    return str(attrs.get("units", "")).strip(), str(attrs.get("units_metadata", "")).strip()


def _same_units(one: tuple[str, str], other: tuple[str, str]) -> bool:
    if one == other:
        return True
    if one[1] != other[1] or not (one[0] and other[0]):
        return False
    try:
        return affine(one[0], other[0]) == (1.0, 0.0)  # other spellings of one unit
    except UnitsError:
        return False


def _same_lead_units(parts: Sequence[Part]) -> list[Part]:
    """Bring hours and days, or months and years, to the finer of both; refuse months and days."""
    units = [str(ds["lead"].attrs.get("units", "")) for _, ds in parts]
    finest = min(units, key=lambda unit: (SECONDS | MONTHS).get(unit, 0))
    found = []
    for (path, ds), unit in zip(parts, units, strict=True):
        sizes = MONTHS if unit in MONTHS else SECONDS
        if unit == finest:
            found.append((path, ds))
        elif unit in sizes and finest in sizes:
            lead = ds["lead"].variable * (sizes[unit] // sizes[finest])
            lead.attrs = {**ds["lead"].attrs, "units": finest}
            found.append((path, ds.assign_coords(lead=lead)))
        else:
            fine, other = parts[units.index(finest)], (path, ds)
            said = [f"{part[1]['lead'].values[:4].tolist()}" for part in (fine, other)]
            raise _refuse(
                LeadError, "the unit of the lead", (fine[0], f"{said[0]} {finest}"),
                (path, f"{said[1]} {unit}"), "Calendar months and fixed durations do not convert: "
                "give them the same, or open the files apart.",
            )  # fmt: skip
    return found


def _grid(first: Part, other: Part) -> None:
    """Refuse other labels along a dimension that is none of start, lead and member."""
    for name in sorted({*first[1].dims, *other[1].dims} - {*_FREE}, key=str):
        a, b = (ds[name] if name in ds.coords else None for _, ds in (first, other))
        sizes = [part[1].sizes.get(name) for part in (first, other)]
        if sizes[0] != sizes[1] or (a is None) != (b is None):
            said = [f"{size} values" if c is not None else f"{size} unlabeled cells"
                    for size, c in zip(sizes, (a, b), strict=True)]  # fmt: skip
            raise _refuse(
                GridMismatchError, f"the size of {name!r}", (first[0], said[0]),
                (other[0], said[1]), "Bring them to one grid first.",
            )  # fmt: skip
        if a is None or b is None or np.array_equal(a.values, b.values):
            continue
        at = int(np.flatnonzero(a.values != b.values)[0])
        raise _refuse(
            GridMismatchError, f"the grid ({name!r})", (first[0], repr(a.values[at].item())),
            (other[0], f"{b.values[at].item()!r} at position {at}"),
            "Bring them to one grid first; where only rounding differs, give them the same "
            f"labels: ds.assign_coords({name}=...).",
        )  # fmt: skip


def _members(first: Part, other: Part) -> None:
    """Refuse numbers in one file and names in another."""
    if "member" not in first[1].coords or "member" not in other[1].coords:
        return
    a, b = (part[1]["member"].values for part in (first, other))
    if (a.dtype.kind in "iu") != (b.dtype.kind in "iu"):
        raise _refuse(
            AxisError, "the label of members", (first[0], a[:3].tolist()),
            (other[0], b[:3].tolist()), "Number or name them in both.",
        )  # fmt: skip


def _calendar(first: Part, other: Part) -> None:
    stamps = [part[1]["init"].values for part in (first, other)]
    names = [Calendar.of(values, "init").name for values in stamps]
    same = names[0] == names[1] or {*names} <= _CIVIL
    if not same or stamps[0].dtype.kind != stamps[1].dtype.kind:
        raise _refuse(
            TimeAxisError, "the calendar of the starts", (first[0], repr(names[0])),
            (other[0], repr(names[1])), "Convert one: ds.convert_calendar(..., dim='init').",
        )  # fmt: skip


def _each_start_once(parts: Sequence[Part]) -> None:
    held: dict[Any, Path] = {}
    for path, ds in parts:
        for start in ds.indexes["init"]:
            if start in held:
                raise TimeAxisError(
                    f"{len(parts)} files hold some starts twice, first {start} in "
                    f"{held[start].name!r} and {path.name!r}; expected each once. Open members or "
                    "models one by one and join them with xr.concat."
                )
            held[start] = path


def _static(parts: Sequence[Part]) -> xr.Dataset:
    """Return what does not depend on the start: equal wherever two files know it."""
    kept = [_without_starts(ds) for _, ds in parts]
    whole = kept[0]
    for (path, _), part in zip(parts[1:], kept[1:], strict=True):
        for name in sorted({*whole.data_vars, *part.data_vars}, key=str):
            known = [name in ds.data_vars for ds in (whole, part)]
            if not all(known):
                said = ["it" if there else "none" for there in known]
            elif _fits(whole[[name]], part[[name]]):
                continue
            else:
                said = [_short(ds[name]) for ds in (whole, part)]
            raise _refuse(
                SourceError, f"{name!r}, which does not depend on the start,",
                (parts[0][0], said[0]), (path, said[1]), "Drop it, or give it to all alike.",
            )  # fmt: skip
        whole = xr.merge(
            [whole, part], compat="no_conflicts", join="outer", combine_attrs="override"
        )
    for name, first in kept[0].data_vars.items():
        if whole[name].dtype != first.dtype and not bool(whole[name].isnull().any()):
            whole[name] = whole[name].astype(first.dtype)
    whole = whole.drop_vars(list(whole.coords))
    return whole.set_coords([name for name in whole.data_vars if name in parts[0][1].coords])


def _without_starts(ds: xr.Dataset) -> xr.Dataset:
    """Leave out what has starts; what is left is a variable, or an index of one."""
    ds = ds.drop_vars([name for name, variable in ds.variables.items() if "init" in variable.dims])
    return ds.reset_coords()


def _fits(one: xr.Dataset, other: xr.Dataset) -> bool:
    try:
        xr.merge([one, other], compat="no_conflicts", join="outer", combine_attrs="override")
    except (xr.MergeError, ValueError):
        return False
    return True


def _short(variable: xr.DataArray) -> str:
    values = variable.values.ravel()
    return f"{values[:3].tolist()}{' ...' if values.size > 3 else ''}"
