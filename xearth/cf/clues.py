"""Which attributes and names betray an axis: the evidence, as data and as one reading of it.

The criteria for latitude, longitude, X, Y and T are those of cf-xarray; the forecast axes, plain
degrees and bare names are rules of xearth on top.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cftime
import xarray as xr
from cf_xarray.criteria import coordinate_criteria

STRONG, FAIR, WEAK = 3, 2, 1

STANDARD_NAMES: Mapping[str, str] = {
    "forecast_reference_time": "init",
    "forecast_period": "lead",
    "realization": "member",
}

# Accepted last, and said so.
BARE_NAMES: Mapping[str, re.Pattern[str]] = {
    "time": re.compile(r"time|t|date|datetime|valid_time|dates", re.IGNORECASE),
    "lat": re.compile(
        r"lats?|latitudes?|nav_lat\w*|[TUV]?LAT|XLAT\w*|geolat\w*|y?lat_?[0-9a-z]?|gphi[a-z]",
        re.IGNORECASE,
    ),
    "lon": re.compile(
        r"lons?|longitudes?|nav_lon\w*|[TUV]?LONG?|XLONG\w*|geolon\w*|x?lon_?[0-9a-z]?|glam[a-z]",
        re.IGNORECASE,
    ),
    "y": re.compile(r"y|j|nlat|nj|yc|rlat|y_?coord\w*|south_north|northing", re.IGNORECASE),
    "x": re.compile(r"x|i|nlon|ni|xc|rlon|x_?coord\w*|west_east|easting", re.IGNORECASE),
    "init": re.compile(
        r"init|inits|init_?time|initial_time|initialization|reference_time|"
        r"forecast_reference_time|start_date|S",
    ),
    "lead": re.compile(
        r"lead|leads|lead_?time|forecast_period|step|prediction_timedelta|forecast_hour",
        re.IGNORECASE,
    ),
    "member": re.compile(
        r"members?|realization|realisation|number|ens|ensemble|ensemble_member|run",
        re.IGNORECASE,
    ),
}

_CF_KINDS = {"latitude": "lat", "longitude": "lon", "X": "x", "Y": "y", "T": "time"}
_LEAD_UNITS = ("years", "seasons", "months", "weeks", "pentads", "days", "hours", "minutes",
               "seconds")  # fmt: skip


@dataclass(frozen=True)
class Clue:
    """One reason to take a coordinate for an axis.

    Parameters
    ----------
    name : str
        The coordinate (or dimension).
    strength : int
        STRONG (standard name), FAIR (axis, units, type), or WEAK (bare name, plain degrees).
    why : str
    """

    name: str
    strength: int
    why: str

    def __str__(self) -> str:
        return f"{self.name!r} ({self.why})"


def clues(name: str, variable: xr.DataArray | xr.Variable) -> dict[str, Clue]:
    """Read what a coordinate may be.

    Parameters
    ----------
    name : str
    variable : xarray.Variable or DataArray
        Only dims, dtype and attributes are looked at, except that cftime is told from other
        objects by its first value (index coordinates are in memory).

    Returns
    -------
    dict
        The best clue for each kind of axis that it may be.
    """
    attrs = variable.attrs
    said = str(attrs.get("standard_name", "")).split(" ")[0]
    found: dict[str, Clue] = {}
    if said in STANDARD_NAMES:
        return {STANDARD_NAMES[said]: Clue(name, STRONG, f"standard_name={said!r}")}
    for key, kind in _CF_KINDS.items():
        clue = _criterion(name, attrs, coordinate_criteria[key])
        if clue is not None:
            found[kind] = clue
    if said not in ("", "latitude", "longitude"):  # degrees of something else: a rotated pole ...
        found.pop("lat", None)
        found.pop("lon", None)
    if "time" not in found and is_dates(variable):
        if BARE_NAMES["init"].fullmatch(name):
            return {"init": Clue(name, FAIR, f"name {name!r} and dates")}
        found["time"] = Clue(name, FAIR, f"dtype {variable.dtype} holds dates")
    if "time" not in found and " since " in str(attrs.get("units", "")):
        found["time"] = Clue(name, FAIR, f"units={attrs['units']!r}")
    if not found and variable.ndim <= 1:
        found |= _lead(name, variable)
    if found.keys() <= {"x", "y"} and not said:
        found |= _weak(name, attrs, found)
    return found


def _criterion(
    name: str, attrs: Mapping[str, Any], criteria: Mapping[str, Iterable[str]]
) -> Clue | None:
    for attr, values in criteria.items():
        if attr in attrs and str(attrs[attr]) in values:
            strength = {"standard_name": STRONG, "long_name": WEAK}.get(attr, FAIR)
            return Clue(name, strength, f"{attr}={attrs[attr]!r}")
    return None


def is_dates(variable: xr.DataArray | xr.Variable) -> bool:
    """Tell whether a variable holds datetime64 or cftime stamps."""
    if variable.dtype.kind == "M":
        return True
    if variable.dtype.kind != "O" or variable.size == 0 or variable.chunks is not None:
        return False
    first = variable[(0,) * variable.ndim].values.item()
    return isinstance(first, cftime.datetime)


def _lead(name: str, variable: xr.DataArray | xr.Variable) -> dict[str, Clue]:
    if not BARE_NAMES["lead"].fullmatch(name):
        return {}
    units = str(variable.attrs.get("units", ""))
    if variable.dtype.kind == "m":
        return {"lead": Clue(name, FAIR, f"name {name!r} and durations")}
    if units.lower().rstrip("s") in [u.rstrip("s") for u in _LEAD_UNITS]:
        return {"lead": Clue(name, FAIR, f"name {name!r} and units={units!r}")}
    return {}


def _weak(name: str, attrs: Mapping[str, Any], found: Mapping[str, Clue]) -> dict[str, Clue]:
    out = {}
    units = str(attrs.get("units", ""))
    for kind, pattern in BARE_NAMES.items():
        if kind in found or not pattern.fullmatch(name):
            continue
        if kind in ("lat", "lon"):
            if units.lower().startswith("deg"):
                out[kind] = Clue(name, WEAK, f"name {name!r} and plain units={units!r}")
            elif not units:
                out[kind] = Clue(name, WEAK, f"name {name!r} only")
        elif not (kind in ("x", "y") and units.startswith("degree")):
            out[kind] = Clue(name, WEAK, f"name {name!r} only")
    return out
