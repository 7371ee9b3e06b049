"""Attributes and encodings that make a Dataset a strictly compliant CF-1.11 file.

xarray alone writes a fill value on every coordinate, ``coordinates`` on bounds, the grid mapping
among the coordinates, and different units on time and its bounds. Everything here sets encodings;
no value is computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from cf_xarray.criteria import coordinate_criteria

from ..errors import AxisError, DiscoveryWarning, UnitsError, warn
from ..units import compatible, is_difference
from .attrs import temperature_metadata
from .calendars import EPOCH, SECONDS, Calendar
from .clues import clues, is_dates
from .discover import Axes, find_axes
from .layout import COLLAPSED_ATTRS
from .packing import packing

CONVENTIONS = "CF-1.11"
_LEAP_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
_HORIZONTAL: Mapping[str, Mapping[str, str]] = {
    "lat": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "lon": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
}
# Left by readers of other conventions; the first holds the chunks of the source file.
_FOREIGN = ("_ChunkSizes", "_CoordinateAxisType", "_CoordinateAxes", "_CoordinateZisPositive")
_METHOD_NAMES = {
    "init": "forecast_reference_time",
    "lead": "forecast_period",
    "member": "realization",
    "valid_time": "time",
}
_PACKED_ATTRS = ("valid_min", "valid_max", "valid_range")
# One entry of cell_methods: its names, the method, and what belongs to it.
_METHOD = re.compile(r"(?:\w+: )+(?!\w+:)[^:()]*(?:\([^)]*\))?(?=\s\w+:|$)")
_NAMES = re.compile(r"(\w+):")
_REFERENCES = ("ancillary_variables", "grid_mapping", "bounds", "climatology", "coordinates")


def encode(ds: xr.Dataset, axes: Axes) -> xr.Dataset:
    """Set the attributes and encodings of every variable.

    Parameters
    ----------
    ds : xarray.Dataset
        In the layout of a file.
    axes : Axes
        Of ``ds``.

    Returns
    -------
    xarray.Dataset
    """
    ds = ds.copy()  # shallow: the attributes below must not reach the caller's object
    for name in ds.variables:
        variable = ds[name].variable
        ds[name].attrs = {k: v for k, v in variable.attrs.items() if k not in _FOREIGN}
    _clean(ds.attrs)
    ds = _place_auxiliaries(ds)
    for kind in ("lat", "lon"):
        _mark_horizontal(ds, getattr(axes, kind), kind)
    _mark_rows(ds, axes)
    _mark_levels(ds)
    if axes.time is not None and is_dates(ds[axes.time].variable):
        ds[axes.time].attrs.setdefault("standard_name", "time")
    ds = _members_collapsed(_cell_methods(ds))
    _unresolved_methods(ds)
    _mark_temperatures(ds)
    units = _time_units(ds)
    for name in ds.variables:
        _encode_one(ds, str(name), units)
    _encode_bounds(ds)
    return ds


def legal_names(ds: xr.Dataset) -> xr.Dataset:
    """Spell variables and dims with letters, digits and underscores, as CF wants them."""
    names = {str(n) for n in (*ds.variables, *ds.dims)}
    new = {n: re.sub(r"\W", "_", n, flags=re.ASCII) for n in names}
    new = {n: spelled if spelled[:1].isalpha() else f"v{spelled}" for n, spelled in new.items()}
    changed = {old: spelled for old, spelled in new.items() if old != spelled}
    clashes = [old for old, spelled in changed.items() if spelled in names]
    if clashes or len(set(changed.values())) < len(changed):
        raise AxisError(
            f"The names {sorted(clashes or changed)} cannot be spelled for a CF file without "
            f"clashing: it takes letters, digits and underscores, {changed}. Rename them first."
        )
    found = ds.rename(changed)
    for old, spelled in changed.items():
        if spelled in found.variables:
            found[spelled].attrs.setdefault("long_name", old)
    return found


def _place_auxiliaries(ds: xr.Dataset) -> xr.Dataset:
    """Move bounds and grid mappings out of the coordinates; forget references to nothing."""
    _grid_mapping_of_all(ds)
    external: set[str] = set()
    keep: set[str] = set()
    for name in ds.variables:
        attrs, encoding = ds[name].attrs, ds[name].encoding
        for key in _REFERENCES:
            said = attrs.pop(key, None) or encoding.pop(key, None)
            if said is None or key == "coordinates":
                continue
            words = [w.rstrip(":") for w in str(said).split()]
            present = [w for w in words if w in ds.variables]
            if not present:
                _forgotten(str(name), key, words)
                continue
            target = encoding if key == "grid_mapping" else attrs
            target[key] = str(said) if key == "grid_mapping" else " ".join(present)
            keep |= set(present) if key in ("grid_mapping", "bounds", "climatology") else set()
        measures = re.findall(r"\w+:\s*(\w+)", str(attrs.get("cell_measures", "")))
        external |= {m for m in measures if m not in ds.variables}
    if external:
        ds.attrs["external_variables"] = " ".join(sorted(external))
    return ds.reset_coords([n for n in keep if n in ds.coords and n not in ds.dims])


def _grid_mapping_of_all(ds: xr.Dataset) -> None:
    """Name the one grid mapping among the coordinates in every field that lost its reference."""
    found = [str(n) for n, v in ds.variables.items() if "grid_mapping_name" in v.attrs]
    if len(found) != 1 or found[0] not in ds.coords:
        return
    axes = find_axes(ds)
    for variable in ds.data_vars.values():
        if {axes.y, axes.x} <= set(variable.dims) and "grid_mapping" not in variable.encoding:
            variable.attrs.setdefault("grid_mapping", found[0])


def _forgotten(name: str, key: str, words: list[str]) -> None:
    """Warn of a lost grid mapping; lost bounds and ancillaries can be done without."""
    if key == "grid_mapping":
        warn(
            f"{name!r} names grid_mapping {words}, which is not among its coordinates, so the "
            "file goes without it. Open the source with decode_coords='all' to keep it.",
            DiscoveryWarning,
        )


def _mark_horizontal(ds: xr.Dataset, name: str | None, kind: str) -> None:
    if name is None:
        return
    attrs = ds[name].attrs
    wanted = dict(_HORIZONTAL[kind])
    if ds[name].ndim != 1:
        wanted.pop("axis")
        attrs.pop("axis", None)
    said = str(attrs.get("units", ""))
    if said.lower() in ("", "degree", "degrees", "deg") or not said:
        attrs.pop("units", None)
    for key, value in wanted.items():
        attrs.setdefault(key, value)


def _mark_rows(ds: xr.Dataset, axes: Axes) -> None:
    for dim, letter in ((axes.y, "Y"), (axes.x, "X")):
        if dim is not None and dim in ds.coords and dim not in (axes.lat, axes.lon):
            ds[dim].attrs.setdefault("axis", letter)


def _mark_levels(ds: xr.Dataset) -> None:
    """Mark the vertical axis, which goes before rows and columns."""
    for dim in ds.dims:
        if dim in ds.coords and set(clues(str(dim), ds[dim].variable)) == set():
            criteria = coordinate_criteria["vertical"]
            attrs = ds[dim].attrs
            if any(attrs.get(key) in values for key, values in criteria.items()):
                attrs.setdefault("axis", "Z")


def _cell_methods(ds: xr.Dataset) -> xr.Dataset:
    """Use the names of the file inside ``cell_methods``."""
    for variable in ds.variables.values():
        said = variable.attrs.get("cell_methods")
        if said:
            for old, new in _METHOD_NAMES.items():
                said = re.sub(rf"\b{old}:", f"{new}:", said)
            variable.attrs["cell_methods"] = said
    return ds


def _members_collapsed(ds: xr.Dataset) -> xr.Dataset:
    """Add the scalar ``realization`` that cell methods over members refer to."""
    used = any("realization:" in str(v.attrs.get("cell_methods")) for v in ds.variables.values())
    if not used or "realization" in ds.variables:
        return ds
    return ds.assign_coords(realization=((), np.int32(0), dict(COLLAPSED_ATTRS)))


def _unresolved_methods(ds: xr.Dataset) -> None:
    """Move cell methods over axes that are gone from the file into the comment."""
    for variable in ds.variables.values():
        said = str(variable.attrs.get("cell_methods", ""))
        entries = _METHOD.findall(said)
        known = {*map(str, ds.dims), *map(str, ds.coords), "area"}
        lost = [e for e in entries if not set(_NAMES.findall(e.split("(")[0])) <= known]
        if not lost:
            continue
        kept = " ".join(e.strip() for e in entries if e not in lost)
        variable.attrs.pop("cell_methods")
        if kept:
            variable.attrs["cell_methods"] = kept
        text = f"Statistics over axes not in this file: {' '.join(e.strip() for e in lost)}."
        before = str(variable.attrs.get("comment", "")).strip()
        variable.attrs["comment"] = f"{before} {text}".strip()


def _mark_temperatures(ds: xr.Dataset) -> None:
    """Say of each temperature whether it is one or a difference, or that nobody said."""
    for name, variable in ds.data_vars.items():
        attrs = variable.attrs
        if "units" not in attrs or "units_metadata" in attrs:
            continue
        kind = "difference" if is_difference(attrs) else "unknown"
        attrs |= temperature_metadata(str(attrs["units"]), kind)
        ds[name].attrs = attrs


def _time_units(ds: xr.Dataset) -> str:
    """Choose the coarsest unit in which every date (to the second) is exact as a double."""
    numbers = [
        Calendar.of(np.atleast_1d(coord.values), str(name)).encode(np.atleast_1d(coord.values))
        for name, coord in ds.coords.items()
        if is_dates(coord.variable) and coord.chunks is None and coord.notnull().all()
    ]
    for unit, size in SECONDS.items():
        exact = size * 500_000 if unit == "days" else size * 1_000_000  # half days are exact too
        if all((u % exact == 0).all() for u in numbers):
            return f"{unit} since 1970-01-01"
    return EPOCH


def _encode_one(ds: xr.Dataset, name: str, time_units: str) -> None:
    variable = ds[name].variable
    attrs = variable.attrs
    is_time = is_dates(variable)
    if is_time:
        for key in ("units", "calendar", "dtype"):
            attrs.pop(key, None)
        encoding: dict[str, Any] = time_encoding(ds[name], time_units)
        if name in ds.dims:
            attrs["axis"] = "T"
        if encoding["calendar"] in _LEAP_CALENDARS and attrs.get("standard_name") == "time":
            attrs["units_metadata"] = "leap_seconds: none"
    elif name in ds.coords:
        encoding = {"_FillValue": None}
    else:
        encoding = packing(ds[name])
        if _was_packed_otherwise(variable.encoding, encoding):
            ends = {k: np.asarray(attrs[k]) for k in _PACKED_ATTRS if k in attrs}
            for key in [k for k, v in ends.items() if v.dtype.kind in "iu"]:
                attrs.pop(key)  # it counted in the packing of the source
    if "standard_name" not in attrs and not attrs.get("long_name"):
        attrs["long_name"] = name.replace("_", " ")
    if attrs.get("axis") not in (None, "T", "X", "Y", "Z"):
        attrs.pop("axis")
    if "grid_mapping" in variable.encoding:
        encoding["grid_mapping"] = variable.encoding["grid_mapping"]
    _clean(attrs)
    ds[name].encoding = encoding


def _was_packed_otherwise(source: Mapping[Any, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether the packing of the source is not the one that is written."""
    if not {"scale_factor", "add_offset"} & set(source):
        return False
    if "scale_factor" not in now or np.dtype(source.get("dtype", "f8")) != np.dtype(now["dtype"]):
        return True
    defaults = {"scale_factor": 1.0, "add_offset": 0.0}
    return any(np.float32(source.get(k, d)) != np.float32(now[k]) for k, d in defaults.items())


def time_encoding(coord: xr.DataArray, time_units: str) -> dict[str, Any]:
    """Give the encoding that time and its bounds share."""
    calendar = "proleptic_gregorian"
    if coord.dtype.kind == "O":
        calendar = coord.variable[(0,) * coord.ndim].values.item().calendar
    return {"units": time_units, "calendar": calendar, "dtype": "float64", "_FillValue": None}


def _encode_bounds(ds: xr.Dataset) -> None:
    """Give bounds nothing of their own: units and calendar are inherited."""
    for variable in list(ds.variables.values()):
        for key in ("bounds", "climatology"):
            name = variable.attrs.get(key)
            if name in ds.variables:
                ds[name].attrs = {}
                own = {k: v for k, v in variable.encoding.items() if k in ("units", "calendar")}
                plain = {"dtype": "float64"} if ds[name].dtype.kind in "fMO" else {}
                ds[name].encoding = {**own, **plain, "_FillValue": None, "coordinates": None}


def _clean(attrs: dict[Any, Any]) -> None:
    """Make attributes writable: no None, no bool, no nested mapping."""
    for key, value in list(attrs.items()):
        if value is None:
            attrs.pop(key)
        elif isinstance(value, bool | np.bool_):
            attrs[key] = str(value).lower()
        elif np.asarray(value).dtype.kind not in "iufSU":
            attrs[key] = str(value)
    units = attrs.get("units")
    if attrs.get("units_metadata", "").startswith("temperature") and units is not None:
        try:
            if not compatible(str(units), "K"):
                attrs.pop("units_metadata")
        except UnitsError:
            attrs.pop("units_metadata")
