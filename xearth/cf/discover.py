"""Find the axes of a labeled field: by CF attributes first, by names last and said so."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from ..errors import AxisError, DataTypeError, DiscoveryWarning, warn
from .clues import BARE_NAMES, WEAK, Clue, clues

__all__ = ["Axes", "discover"]

KINDS = ("time", "lat", "lon", "y", "x", "init", "lead", "member")

_WORDS: Mapping[str, str] = {
    "time": "time axis",
    "y": "y axis (rows)",
    "x": "x axis (columns)",
    "lat": "latitude",
    "lon": "longitude",
    "init": "axis of starts (forecast_reference_time)",
    "lead": "lead axis (forecast_period)",
    "member": "ensemble axis (realization)",
}

_REMEDIES: Mapping[str, str] = {
    "time": "obj[{name!r}].attrs.update(standard_name='time', axis='T')",
    "lat": "obj[{name!r}].attrs.update(standard_name='latitude', units='degrees_north')",
    "lon": "obj[{name!r}].attrs.update(standard_name='longitude', units='degrees_east')",
    "y": "obj[{name!r}].attrs.update(axis='Y')",
    "x": "obj[{name!r}].attrs.update(axis='X')",
    "member": "obj[{name!r}].attrs.update(standard_name='realization')",
}


@dataclass(frozen=True)
class Axes:
    """The axes of a labeled field.

    Parameters
    ----------
    time, y, x, init, lead, member : str or None
        Names of DIMENSIONS. ``time`` is also the name of its 1-D coordinate.
    lat, lon : str or None
        Names of COORDINATES: 1-D on (``y``,) and (``x``,), or 2-D on (``y``, ``x``).
    notes : tuple of str
        How each axis was found, weak hints first.
    """

    time: str | None = None
    y: str | None = None
    x: str | None = None
    lat: str | None = None
    lon: str | None = None
    init: str | None = None
    lead: str | None = None
    member: str | None = None
    notes: tuple[str, ...] = ()

    def other_dims(self, obj: xr.DataArray | xr.Dataset) -> tuple[str, ...]:
        """Name the dimensions of ``obj`` that are none of these axes, in their order."""
        mine = {self.time, self.y, self.x, self.init, self.lead, self.member}
        return tuple(str(d) for d in obj.dims if d not in mine)


def discover(
    obj: xr.DataArray | xr.Dataset,
    *,
    time: str | None = None,
    lat: str | None = None,
    lon: str | None = None,
    require: Sequence[str] = ("time", "y", "x"),
) -> Axes:
    """Find time, latitude, longitude, rows, columns, starts, leads and members.

    Attributes decide: ``standard_name``, then ``axis``, ``units``, ``_CoordinateAxisType``, then
    a dtype of dates. Bare names (``lat``, ``nav_lon``, ``x`` ...) and plain ``degrees`` come last
    and are reported by a `DiscoveryWarning` where they are required. No value of ``obj`` is read
    or computed.

    Parameters
    ----------
    obj : xarray.DataArray or Dataset
    time, lat, lon : str, optional
        The name of the coordinate, where the attributes cannot tell.
    require : sequence of str
        Fields of `Axes` that must be found; ``("time",)`` for an index series.

    Returns
    -------
    Axes

    Raises
    ------
    AxisError
        A required axis is missing, or two coordinates claim one axis; the message lists the
        candidates with what speaks for each, and the remedy.
    DataTypeError
        ``obj`` is no DataArray or Dataset.

    Examples
    --------
    >>> import numpy as np, pandas as pd, xarray as xr
    >>> da = xr.DataArray(
    ...     np.zeros((2, 3, 4)),
    ...     dims=("t", "j", "i"),
    ...     coords={
    ...         "t": pd.date_range("2000-01", periods=2, freq="MS"),
    ...         "j": ("j", [10.0, 0.0, -10.0], {"units": "degrees_north"}),
    ...         "i": ("i", [0.0, 90.0, 180.0, 270.0], {"units": "degrees_east"}),
    ...     },
    ... )
    >>> axes = discover(da)
    >>> axes.time, axes.lat, axes.x
    ('t', 'j', 'i')
    """
    axes = find_axes(obj, {"time": time, "lat": lat, "lon": lon}, require)
    warn_of_weak(obj, axes, [k for kind in require for k in {kind, *_SYNONYMS[kind]}])
    return axes


def warn_of_weak(obj: xr.DataArray | xr.Dataset, axes: Axes, kinds: Iterable[str]) -> None:
    """Say which of some axes were found by a weak hint."""
    kinds = set(kinds)
    notes = [note for note in axes.notes if note.endswith(_WEAK_END)]
    weak = [note for note in notes if note.split(":")[0] in kinds]
    if weak:
        warn(f"{_label(obj)}: {'; '.join(weak)}. Set CF attributes to be sure.", DiscoveryWarning)


def find_axes(
    obj: xr.DataArray | xr.Dataset,
    given: Mapping[str, str | None] | None = None,
    require: Sequence[str] = (),
) -> Axes:
    """Do as `discover` does, without the warning: for a second look at a known object."""
    unknown = [r for r in require if r not in KINDS]
    if unknown:
        raise AxisError(f"Cannot require {unknown}: the axes are {list(KINDS)}.")
    search = _Search(obj, given or {})
    axes = search.axes()
    for kind in require:
        if getattr(axes, kind) is None:
            raise AxisError(search.missing(kind, axes))
    return axes


def find_time(obj: xr.DataArray | xr.Dataset) -> str | None:
    """Find the time axis alone, whatever else of ``obj`` is unclear; None where there is none."""
    try:
        return _Search(obj, {}).time()
    except AxisError:
        return None


_WEAK_END = "(weak)"


class _Search:
    """One look at an object: its candidates, and the choice among them."""

    def __init__(self, obj: xr.DataArray | xr.Dataset, given: Mapping[str, str | None]) -> None:
        if not isinstance(obj, xr.DataArray | xr.Dataset):
            raise DataTypeError(
                f"Expected an xarray DataArray or Dataset, found {type(obj).__name__}. Label it: "
                "xr.DataArray(values, dims=..., coords=...)."
            )
        self.obj = obj
        #: Plain variables: a DataArray of each would be made anew at every look.
        self.coords = dict(obj.coords.variables)
        self.given = {kind: name for kind, name in given.items() if name is not None}
        for kind, name in self.given.items():
            if name not in self.coords and name not in obj.dims:
                raise AxisError(
                    f"{kind}={name!r} is neither a coordinate nor a dimension of {_label(obj)}, "
                    f"which has coordinates {_names(self.coords)} and dims {_names(obj.dims)}. "
                    "Give one of these."
                )
        self.candidates = self._candidates()
        self.notes: list[str] = []

    def _candidates(self) -> dict[str, list[Clue]]:
        bounds = bounds_of(self.obj)
        found: dict[str, list[Clue]] = {kind: [] for kind in KINDS}
        for name, coord in self.coords.items():
            if name in bounds or not isinstance(name, str):
                continue
            for kind, clue in clues(name, coord).items():
                if coord.ndim <= (2 if kind in ("lat", "lon", "time") else 1):
                    found[kind].append(clue)
        return found

    def axes(self) -> Axes:
        """Choose one candidate for each kind."""
        lat, lon = self._horizontal("lat"), self._horizontal("lon")
        y, x = self._rows_and_columns(lat, lon)
        time = self.time()
        taken = {time, y, x}
        init, lead, member = (self._forecast(kind, taken) for kind in ("init", "lead", "member"))
        if init is None and "time" not in self.given and self._is_start(time, lead):
            self.notes.append(f"init: {time!r} by the 2-D valid time on ({time!r}, {lead!r})")
            time, init = None, time
        notes = sorted(self.notes, key=lambda note: not note.endswith(_WEAK_END))
        return Axes(time, y, x, lat, lon, init, lead, member, tuple(notes))

    def _note(self, kind: str, clue: Clue) -> None:
        end = f" {_WEAK_END}" if clue.strength == WEAK else ""
        self.notes.append(f"{kind}: {clue.name!r} by {clue.why}{end}")

    def _choose(self, kind: str, among: list[Clue]) -> Clue | None:
        """Take the strongest candidate; refuse to guess between equals."""
        if not among:
            return None
        best = max(clue.strength for clue in among)
        equals = [clue for clue in among if clue.strength == best]
        if len(equals) > 1:
            equals = self._tie(equals)
        if len(equals) > 1:
            keyword = kind if kind in ("time", "lat", "lon") else None
            pick = f"Pass {keyword}={equals[0].name!r}, or drop" if keyword else "Drop"
            raise AxisError(
                f"{_label(self.obj)} has {len(equals)} candidates for the {_WORDS[kind]}: "
                f"{', '.join(map(str, equals))}. {pick} the other: "
                f"obj.drop_vars({equals[1].name!r})."
            )
        return equals[0]

    def _tie(self, equals: list[Clue]) -> list[Clue]:
        """Prefer an index of a dimension, then what the field's own ``coordinates`` names."""
        indexes = [c for c in equals if c.name in self.obj.dims]
        if len(indexes) == 1:
            return indexes
        listed = str(self.obj.encoding.get("coordinates", "")).split()
        named = [c for c in equals if c.name in listed]
        return named if len(named) == 1 else equals

    def _horizontal(self, kind: str) -> str | None:
        if kind in self.given:
            name = self.given[kind]
            return name if name in self.coords else None
        clue = self._choose(kind, self.candidates[kind])
        if clue is None:
            return None
        self._note(kind, clue)
        return clue.name

    def _rows_and_columns(self, lat: str | None, lon: str | None) -> tuple[str | None, str | None]:
        dims = {
            name: tuple(str(d) for d in self.coords[name].dims) if name else ()
            for name in (lat, lon)
        }
        if lat and lon and len(dims[lat]) == len(dims[lon]) == 1 and dims[lat] == dims[lon]:
            raise AxisError(
                f"{lat!r} and {lon!r} of {_label(self.obj)} share the one dimension "
                f"{dims[lat][0]!r}: an unstructured grid or a list of stations. xearth needs rows "
                "and columns; regrid it to a latitude-longitude grid first."
            )
        plane = next((dims[n] for n in (lat, lon) if n and len(dims[n]) == 2), None)
        if plane is not None:
            return self._plane(plane)
        return self._line("y", lat, dims.get(lat, ())), self._line("x", lon, dims.get(lon, ()))

    def _line(self, kind: str, coord: str | None, dims: tuple[str, ...]) -> str | None:
        """Give the dimension of a 1-D latitude (or longitude), else a projected axis."""
        if len(dims) == 1:
            return dims[0]
        if coord is not None:  # a scalar: one row (or column), no dimension
            return None
        named = self.given.get({"y": "lat", "x": "lon"}[kind])
        if named is not None:
            return named
        return self._projected(kind, [str(d) for d in self.obj.dims])

    def _plane(self, plane: tuple[str, ...]) -> tuple[str, str]:
        """Tell rows from columns of a 2-D latitude."""
        y, x = self._projected("y", list(plane)), self._projected("x", list(plane))
        if y is not None and x is None:
            x = next(d for d in plane if d != y)
        elif x is not None and y is None:
            y = next(d for d in plane if d != x)
        if y is None or x is None or y == x:
            y, x = plane
            self.notes.append(f"y, x: {y!r}, {x!r} by the order of dims of the 2-D latitude")
        return y, x

    def _projected(self, kind: str, dims: list[str]) -> str | None:
        among = [c for c in self.candidates[kind] if self._dim(c.name) in dims]
        bare = [
            Clue(d, WEAK, f"name {d!r} only")
            for d in dims
            if d not in self.coords and BARE_NAMES[kind].fullmatch(d)
        ]
        clue = self._choose(kind, among or bare)
        if clue is None:
            return None
        if not (clue in bare and len(dims) == 2 and self.candidates["lat"]):
            self._note(kind, clue)
        return self._dim(clue.name)

    def _dim(self, name: str) -> str | None:
        """Give the dimension that a 1-D coordinate lies on."""
        if name in self.coords:
            dims = self.coords[name].dims
            return str(dims[0]) if len(dims) == 1 else None
        return name

    def time(self) -> str | None:
        """Choose the time axis."""
        if "time" in self.given:
            return self._own_dim("time", self.given["time"])
        flat = [c for c in self.candidates["time"] if self._dim(c.name) is not None]
        clue = self._choose("time", self._indexes_first(flat))
        if clue is None:
            return None
        dim = self._own_dim("time", clue.name)
        self._note("time", clue)
        return dim

    def _indexes_first(self, flat: list[Clue]) -> list[Clue]:
        """Leave out dates along another axis (for example the valid time of each start)."""
        indexes = [c for c in flat if c.name in self.obj.dims]
        forecast = {self._dim(c.name) for k in ("init", "lead") for c in self.candidates[k]}
        return indexes or [c for c in flat if self._dim(c.name) not in forecast]

    def _own_dim(self, kind: str, name: str) -> str:
        if name in self.obj.dims:
            return name
        dims = self.coords[name].dims
        if len(dims) == 1:
            raise AxisError(
                f"The {_WORDS[kind]} {name!r} of {_label(self.obj)} lies on dimension "
                f"{dims[0]!r}, which is named otherwise. Make it the index: "
                f"obj.swap_dims({dims[0]}={name!r})."
            )
        raise AxisError(
            f"{kind}={name!r} of {_label(self.obj)} has dims {dims}; expected one. Select a "
            "single start (or lead) first, or name a 1-D coordinate."
        )

    def _is_start(self, time: str | None, lead: str | None) -> bool:
        """Tell whether a 1-D time is the start of forecasts: a valid time lies on it and a lead."""
        if time is None or lead is None:
            return False
        return any(
            set(self.coords[clue.name].dims) == {time, lead}
            for clue in self.candidates["time"]
            if clue.name in self.coords
        )

    def _forecast(self, kind: str, taken: set[str | None]) -> str | None:
        among = []
        for clue in self.candidates[kind]:
            dim = self._dim(clue.name)
            if dim is not None and dim not in taken:
                among.append(clue)
        among += [
            Clue(str(d), WEAK, f"name {d!r} only")
            for d in self.obj.dims
            if d not in self.coords and d not in taken and BARE_NAMES[kind].fullmatch(str(d))
        ]
        chosen = self._choose(kind, among)
        if chosen is None:
            return None
        self._note(kind, chosen)
        return self._dim(chosen.name)

    def missing(self, kind: str, axes: Axes) -> str:
        """Explain that a required axis was not found."""
        dims, coords = _names(self.obj.dims), _names(self.coords)
        text = f"{_label(self.obj)} has no {_WORDS[kind]}: dims are {dims}, coordinates {coords}."
        scalar = [c.name for k in _SYNONYMS[kind] for c in self.candidates[k] if self._flat(c)]
        if kind == "time" and (axes.init is not None or axes.lead is not None):
            first = f"Select one start: obj.isel({axes.init}=0). " if axes.init is not None else ""
            return (
                f"{text} It is a forecast: its valid time depends on start and lead. {first}Then "
                f"swap the lead for the valid time, as in obj.swap_dims(lead='valid_time')"
                f"{f', or pass time={axes.init!r}' if axes.init is not None else ''}."
            )
        if scalar:
            return (
                f"{text} {scalar[0]!r} is a single value; keep it as a dimension of length 1: "
                f"obj.expand_dims({scalar[0]!r})."
            )
        hidden = self._hidden(kind)
        if hidden:
            return f"{text} {hidden}"
        if kind in ("init", "lead"):
            return (
                f"{text} Bring hindcasts of an archive (C3S, NMME, S2S, climpred ...) to one "
                "layout, which knows their names and how they count leads: "
                f"xearth.as_hindcast(obj), or as_hindcast(obj, {kind}=...) with the name."
            )
        used = {axes.time, axes.y, axes.x, axes.init, axes.lead, axes.member}
        free = next((d for d in dims if d not in used), None)
        name = free or {"y": "lat", "x": "lon"}.get(kind, kind)
        mark = {"y": "lat", "x": "lon"}.get(kind, kind)
        keyword = f", or pass {mark}={name!r}" if mark in ("time", "lat", "lon") else ""
        lack = "" if name in coords else f" (after giving {name!r} coordinate values)"
        return f"{text} Mark it: {_REMEDIES[mark].format(name=name)}{lack}{keyword}."

    def _flat(self, clue: Clue) -> bool:
        return clue.name in self.coords and self.coords[clue.name].ndim == 0

    def _hidden(self, kind: str) -> str:
        """Name a data variable of a Dataset that would have been the coordinate."""
        if isinstance(self.obj, xr.DataArray):
            return ""
        for name, variable in self.obj.data_vars.items():
            found = clues(str(name), variable.variable)
            clue = found.get({"y": "lat", "x": "lon"}.get(kind, kind))
            if clue is not None and clue.strength > WEAK:
                return (
                    f"Variable {name!r} looks like it ({clue.why}) but is no coordinate. Make it "
                    f"one: obj.set_coords({name!r})."
                )
        return ""


_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    **{kind: (kind,) for kind in KINDS},
    "y": ("lat", "y"),
    "x": ("lon", "x"),
}


def bounds_of(obj: xr.DataArray | xr.Dataset) -> set[Hashable]:
    """Name the variables that are bounds of others."""
    found: set[Hashable] = set()
    for variable in obj.coords.variables.values():
        for place in (variable.attrs, variable.encoding):
            found |= {place[k] for k in ("bounds", "climatology") if k in place}
    return found


def _label(obj: xr.DataArray | xr.Dataset) -> str:
    if isinstance(obj, xr.Dataset):
        return f"Dataset({', '.join(map(repr, _names(obj.data_vars)[:6]))})"
    return "DataArray" if obj.name is None else f"DataArray {obj.name!r}"


def _names(names: Iterable[Hashable]) -> list[str]:
    return [str(name) for name in names]
