"""Say in words what was understood of a labeled object: axes, grid, calendar, gaps, units."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import xarray as xr

from ..errors import AxisError, TimeAxisError
from ..units import is_difference
from .discover import Axes, bounds_of, find_axes, find_time
from .timeaxis import TimeAxis

__all__ = ["Description", "describe"]

_SHOWN = 3
_COUNTED = 10_000_000  # cells that may be read from a file for a description


@dataclass(frozen=True)
class Description:
    """A description, printed as text or, in a notebook, as a table.

    Parameters
    ----------
    title : str
    rows : tuple of (str, str)
        Label and text; repeated labels go on from the line above.
    """

    title: str
    rows: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        width = max((len(label) for label, _ in self.rows), default=0)
        lines = [f"{label:<{width}}  {text}" for label, text in self.rows]
        return "\n".join([self.title, *lines])

    def __repr__(self) -> str:
        return str(self)

    def __getitem__(self, label: str) -> str:
        """Give the text of a label, its lines joined by a line break."""
        found = [text for row, text in self.rows if row == label]
        if not found:
            labels = sorted({row for row, _ in self.rows})
            raise AxisError(f"The description has no row {label!r}; it has {labels}.")
        return "\n".join(found)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left;vertical-align:top'>{escape(label)}</th>"
            f"<td style='text-align:left'>{escape(text)}</td></tr>"
            for label, text in self.rows
        )
        return f"<div><b>{escape(self.title)}</b><table>{rows}</table></div>"


def describe(obj: xr.DataArray | xr.Dataset) -> Description:
    """Describe what xearth understands of an object. Never computes a Dask array.

    Parameters
    ----------
    obj : xarray.DataArray or Dataset

    Returns
    -------
    Description
        What cannot be understood (two candidate latitudes, an uneven step ...) is a row that
        says so, not an error.

    Examples
    --------
    >>> import numpy as np, pandas as pd, xarray as xr
    >>> sst = xr.DataArray(
    ...     np.zeros((3, 2)),
    ...     dims=("time", "lat"),
    ...     coords={
    ...         "time": pd.date_range("2000-01", periods=3, freq="MS"),
    ...         "lat": ("lat", [10.0, 0.0], {"standard_name": "latitude"}),
    ...     },
    ...     name="sst",
    ...     attrs={"units": "degC"},
    ... )
    >>> print(describe(sst)["step"])
    1 month, no gaps
    """
    rows: list[tuple[str, str]] = []
    try:
        axes = find_axes(obj)
    except AxisError as error:
        rows.append(("axes", f"not understood: {error}"))
        axes = Axes(time=find_time(obj))
    rows += _axis_rows(obj, axes)
    rows += _forecast_rows(obj, axes)
    rows += _time_rows(obj, axes)
    rows += _grid_rows(obj, axes)
    for field in _fields(obj):
        rows += _field_rows(field)
    return Description(_title(obj), tuple(rows))


def _fields(obj: xr.DataArray | xr.Dataset) -> list[xr.DataArray]:
    """Leave out what only serves the coordinates: bounds, grid mappings."""
    if isinstance(obj, xr.DataArray):
        return [obj]
    helpers = bounds_of(obj)
    return [
        v
        for n, v in obj.data_vars.items()
        if n not in helpers and "grid_mapping_name" not in v.attrs
    ]


def _title(obj: xr.DataArray | xr.Dataset) -> str:
    sizes = ", ".join(f"{d}: {n}" for d, n in obj.sizes.items())
    name = f" {obj.name!r}" if isinstance(obj, xr.DataArray) and obj.name is not None else ""
    return f"<xearth description of {type(obj).__name__}{name} ({sizes})>"


def _axis_rows(obj: xr.DataArray | xr.Dataset, axes: Axes) -> list[tuple[str, str]]:
    rows = []
    for note in axes.notes:
        kind, _, text = note.partition(": ")
        rows.append((kind, text.replace("(weak)", "- a weak hint: set CF attributes to be sure")))
    others = axes.other_dims(obj)
    if others:
        rows.append(("other dims", ", ".join(others)))
    return rows


def _forecast_rows(obj: xr.DataArray | xr.Dataset, axes: Axes) -> list[tuple[str, str]]:
    rows = []
    if axes.init in obj.coords:
        starts = obj[axes.init].values
        rows.append(("starts", f"{starts.size}, {_stamp(starts.min())} to {_stamp(starts.max())}"))
    if axes.lead in obj.coords:
        leads = np.sort(obj[axes.lead].values)
        units = obj[axes.lead].attrs.get("units", "no units")
        rows.append(("leads", f"{leads.size}, {leads[0]} to {leads[-1]} {units}"))
    if axes.member is not None:
        rows.append(("members", str(obj.sizes[axes.member])))
    return rows


def _time_rows(obj: xr.DataArray | xr.Dataset, axes: Axes) -> list[tuple[str, str]]:
    if axes.time is None:
        return []
    try:
        axis = TimeAxis.from_array(obj[axes.time])
    except TimeAxisError as error:
        return [("step", f"not usable: {error}")]
    ordered = axis.values[axis.order]
    span = f"{_stamp(ordered[0])} to {_stamp(ordered[-1])}, {len(axis)} stamps"
    rows = [("period", span), ("calendar", axis.calendar)]
    gaps = axis.gaps
    if axis.step is None:
        rows.append(("step", "unknown: a single stamp"))
    elif not gaps:
        rows.append(("step", f"{axis.step}, no gaps"))
    else:
        missing = sum(n for _, _, n in gaps)
        rows.append(("step", f"{axis.step}, {len(gaps)} gaps with {missing} missing stamps"))
        rows += [
            ("gap", f"{n} missing between {_stamp(a)} and {_stamp(b)}") for a, b, n in gaps[:_SHOWN]
        ]
        if len(gaps) > _SHOWN:
            rows.append(("gap", f"and {len(gaps) - _SHOWN} more"))
    repeats = axis.duplicates
    if repeats:
        some = ", ".join(_stamp(v) for v in repeats[:_SHOWN])
        rows.append(("repeated", f"{len(repeats)} of them more than once: {some}"))
    if not axis.is_sorted:
        rows.append(("order", "the stamps are not in chronological order"))
    return rows


def _stamp(value: object) -> str:
    """Write a stamp without the zeros of midnight."""
    text = str(value).replace("T", " ").removesuffix(".000000000").removesuffix(".000000")
    return text.removesuffix(" 00:00:00")


def _grid_rows(obj: xr.DataArray | xr.Dataset, axes: Axes) -> list[tuple[str, str]]:
    rows = []
    for label, name, dim in (("rows", axes.lat, axes.y), ("columns", axes.lon, axes.x)):
        if name is None:
            continue
        coord = obj[name]
        if coord.chunks is not None:
            rows.append((label, f"{name!r} is lazy: not looked at"))
        elif coord.ndim == 1:
            text = _orientation(coord) if label == "rows" else longitude_convention(coord.values)
            rows.append((label, f"{coord.size} of {name!r}, {text}"))
        else:
            low, high = float(np.nanmin(coord.values)), float(np.nanmax(coord.values))
            size = obj.sizes[dim] if dim is not None else 1
            rows.append((label, f"{size} along {dim!r}, 2-D {name!r} from {low:g} to {high:g}"))
    mapping = [
        str(c.attrs["grid_mapping_name"])
        for c in obj.coords.values()
        if "grid_mapping_name" in c.attrs
    ]
    return rows + [("projection", name) for name in mapping]


def _orientation(lat: xr.DataArray) -> str:
    values = lat.values.astype(float)
    ends = f"{values[0]:g} to {values[-1]:g}"
    steps = np.diff(values)
    if steps.size == 0:
        return f"at {values[0]:g}"
    if (steps > 0).all():
        return f"{ends}, south to north{_spacing(steps)}"
    if (steps < 0).all():
        return f"{ends}, north to south (descending){_spacing(steps)}"
    return f"{ends}, neither ascending nor descending"


def _spacing(steps: np.ndarray) -> str:
    even = np.ptp(steps) <= 1e-3 * abs(steps.mean())
    return f", every {abs(steps.mean()):g} degrees" if even else ", unevenly spaced"


def longitude_convention(lon: np.ndarray) -> str:
    """Say how longitudes are written, and what the region crosses.

    Parameters
    ----------
    lon : numpy.ndarray, shape (W,)
        Degrees east, in the order of the data.

    Returns
    -------
    str

    Examples
    --------
    >>> longitude_convention(np.arange(0.0, 360.0, 90.0))
    '0 to 270, every 90 degrees, 0..360, global'
    >>> longitude_convention(np.array([170.0, 175.0, -180.0, -175.0]))
    '170 to -175, every 5 degrees, -180..180, across the dateline'
    """
    values = np.asarray(lon, dtype=float)
    ends = f"{values[0]:g} to {values[-1]:g}"
    steps = np.diff(values)
    eastward = np.mod(steps + 180.0, 360.0) - 180.0
    parts = [ends]
    if steps.size:
        parts.append(_spacing(eastward).removeprefix(", "))
        if (eastward < 0).all():
            parts.append("westward")
    parts.append(_convention(values))
    size = abs(eastward.mean()) if steps.size else 0.0
    if steps.size and abs(eastward.sum()) + size >= 360.0 - 0.5 * size:
        return ", ".join([*parts, "global"])
    west, east = values[0], values[0] + eastward.sum()
    low, high = min(west, east), max(west, east)
    if _crosses(low, high, 180.0):
        parts.append("across the dateline")
    if _crosses(low, high, 0.0):
        parts.append("across Greenwich")
    return ", ".join(p for p in parts if p)


def _convention(values: np.ndarray) -> str:
    if values.min() >= 0.0 and 180.0 < values.max() <= 360.0:
        return "0..360"
    if -180.0 <= values.min() < 0.0 and values.max() <= 180.0:
        return "-180..180"
    if values.min() < 0.0 or values.max() > 180.0:
        return "own convention"
    return "the same in 0..360 and -180..180"


def _crosses(low: float, high: float, meridian: float) -> bool:
    """Tell whether a meridian lies strictly inside a range of unwrapped longitudes."""
    first = np.floor((low - meridian) / 360.0) + 1.0
    return bool(meridian + 360.0 * first < high)


def _field_rows(field: xr.DataArray) -> list[tuple[str, str]]:
    label = f"field {field.name!r}" if field.name is not None else "field"
    units = field.attrs.get("units")
    kind = " (a difference)" if units is not None and is_difference(field.attrs) else ""
    said = f"units {units!r}{kind}" if units is not None else "no units"
    stored = field.encoding.get("dtype")
    packed = "scale_factor" in field.encoding or "add_offset" in field.encoding
    store = f", packed as {np.dtype(stored)} in its file" if packed and stored is not None else ""
    return [(label, f"{said}, {field.dtype}{store}, missing cells: {_missing(field)}")]


def _missing(field: xr.DataArray) -> str:
    if field.dtype.kind not in "fc":
        return f"none ({field.dtype} holds none)"
    if field.chunks is not None:
        return "not counted (lazy)"
    if not field._in_memory and field.size > _COUNTED:
        return "not counted (not read yet)"
    count = int(np.isnan(field.values).sum())
    if count == 0:
        return "none"
    return f"{count} of {field.size} ({100.0 * count / field.size:.3g} %)"
