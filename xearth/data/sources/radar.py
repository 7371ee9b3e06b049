"""Radar archives in CF NetCDF or Zarr: rain rate and reflectivity, frame by frame.

A frame is a map on projected x and y (or on latitude and longitude), at an even step of minutes.
Missing is where the radars do not see; zero is where they see no rain. They are never mixed:
floating data have NaN and 0, packed ones the declared ``_FillValue`` and the number that unpacks
to 0.

Between reflectivity and rain rate convert :func:`~xearth.fields.rain.rain_rate` and
:func:`~xearth.fields.rain.reflectivity`, by the relation that the file states.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ...cf.discover import Axes, discover
from ...cf.packing import decoded
from ...cf.timeaxis import TimeAxis
from ...errors import (
    AxisError,
    MissingDataError,
    SourceError,
    TimeAxisError,
    TimeAxisWarning,
    warn,
)
from ...fields.rain import kind_of

__all__ = ["check", "fill_gaps", "open"]

_CARRIED = ("title", "institution", "source", "license", "references")
_LAW = re.compile(r"Z\s*=\s*([\d.]+)\s*\*?\s*R\s*(?:\^|\*\*)\s*\(?([\d.]+?)\)?(?=[^\d.]|\.?$|\.\D)")
_NOTHING = re.compile(r"(-?\d+(?:\.\d+)?) dBZ means no echo")
_SHOWN = 3
#: dBZ, below what any service writes for no echo.
LOWEST = -100.0


def open(
    path: str | Path, *, variable: str | None = None, packed: bool = False, chunks: Any = None
) -> xr.DataArray:
    """Open the frames of an archive lazily; only coordinates are read, and checked.

    Parameters
    ----------
    path : path
        A NetCDF file or Zarr store that follows the CF conventions.
    variable : str, optional
        Which one; needed where several are rain rates or reflectivities.
    packed : bool, default False
        Keep packed integers as they are on file, with their packing in the attributes: a network
        unpacks them batch by batch. Otherwise values are unpacked when they are read.
    chunks : optional
        Dask chunks as in :meth:`xarray.DataArray.chunk`, by default xarray's own lazy arrays.

    Returns
    -------
    DataArray (time, y, x)
        With lat, lon and the grid mapping of the file, and its title and terms among the
        attributes; ``zr_a`` and ``zr_b`` where the file states its Z-R relation. Amounts of rain
        in each frame stay amounts: :func:`~xearth.fields.rain.rain_rate` makes rates of them.

    Warns
    -----
    TimeAxisWarning
        Frames are missing between others, with their times.

    Raises
    ------
    SourceError
        The file is missing, truncated, or holds no radar field, or several.
    TimeAxisError
        Frames are not at an even step (the odd interval is named), not in order, or repeated.
    AxisError
        Rows or columns cannot be told, or are not evenly spaced.

    Examples
    --------
    >>> from xearth.data.sources import radar, samples
    >>> path = samples.FOLDER / "knmi_radar.nc"
    >>> rain = radar.open(path)
    >>> rain.dims, rain.shape, rain.units
    (('time', 'y', 'x'), (92, 208, 209), 'mm h-1')
    >>> radar.open(path, packed=True).dtype
    dtype('int16')
    """
    ds = _dataset(Path(path), packed=packed)
    da = ds[_choose(ds, str(path), variable)]
    axes = discover(da)
    # a height of its own, say: a label of the frames, not a dimension
    da = da.squeeze([dim for dim in axes.other_dims(da) if da.sizes[dim] == 1])
    if da.ndim != 3:
        extra = [d for d in da.dims if d not in (axes.time, axes.y, axes.x)]
        raise AxisError(
            f"{da.name!r} of {path}: expected frames (time, y, x), found the dims {da.dims}. "
            f"Select one of {extra}, for example with ds.isel({extra[0]}=0), and write the file "
            "anew."
        )
    da = da.transpose(axes.time, axes.y, axes.x)
    _evenly_spaced(da, axes)
    _frames(da, axes)
    carried = {key: ds.attrs[key] for key in _CARRIED if key in ds.attrs}
    da = da.assign_attrs({**carried, **_stated(ds, da), **da.attrs})
    return da if chunks is None else da.chunk(chunks)


def _dataset(path: Path, *, packed: bool) -> xr.Dataset:
    engine: Any = "zarr" if path.is_dir() or path.suffix == ".zarr" else "netcdf4"
    if not path.exists():
        raise SourceError(f"{path}: no such file. Expected a CF NetCDF file or a Zarr store.")
    try:
        return xr.open_dataset(
            path, engine=engine, decode_coords="all", mask_and_scale=not packed, chunks=None
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SourceError(
            f"{path}: expected a CF NetCDF file or a Zarr store, which cannot be read: {error}. If "
            "it was cut short while it was copied, copy it again."
        ) from error


def _choose(ds: xr.Dataset, path: str, variable: str | None) -> str:
    names = {str(name): kind_of(da) for name, da in ds.data_vars.items()}
    found = [name for name, kind in names.items() if kind]
    if variable is not None and variable in names and variable not in found:
        raise SourceError(
            f"{variable!r} of {path}: expected a rain rate, an amount of rain or a reflectivity, "
            f"found the units {ds[variable].attrs.get('units')!r} and no name that says rain. Set "
            "attrs['units'] to 'mm h-1' or 'dBZ' if they are wrong; of an amount in mm, set "
            "attrs['long_name'] to 'rain amount'."
        )
    if variable is not None and variable in found:
        return variable
    if variable is not None or len(found) != 1:
        wanted = "one rain rate, amount or reflectivity" if variable is None else repr(variable)
        raise SourceError(
            f"{path}: expected {wanted}, found {found or list(names)}. Name the variable, for "
            f"example variable={(found or list(names) or ['rain'])[0]!r}; a rain rate is in "
            "mm h-1 and a reflectivity in dBZ."
        )
    return found[0]


def _evenly_spaced(da: xr.DataArray, axes: Axes) -> None:
    for dim in (axes.y, axes.x):
        if dim not in da.coords or da.sizes[dim] < 3:
            continue
        steps = np.diff(da[dim].values.astype(np.float64))
        usual = float(np.median(steps))
        odd = np.flatnonzero(np.abs(steps - usual) > 0.01 * abs(usual))
        if odd.size:
            first, second = da[dim].values[odd[0] : odd[0] + 2]
            raise AxisError(
                f"{dim!r} of {da.name!r}: expected an even spacing of {usual:g}, found "
                f"{second - first:g} between {first:g} and {second:g}. Interpolate to an even "
                f"grid, for example with da.interp({dim}=...)."
            )


def _frames(da: xr.DataArray, axes: Axes) -> None:
    """Refuse times that are no sequence of frames; tell of gaps."""
    axis = TimeAxis.from_array(da[axes.time])
    if axis.duplicates or not axis.is_sorted:
        what = (
            f"{len(axis.duplicates)} repeated ones, first {axis.duplicates[0]}"
            if axis.duplicates
            else "others"
        )
        raise TimeAxisError(
            f"{axes.time!r} of {da.name!r}: expected frames in order, each once, found {what}. "
            f"Use ds.sortby({axes.time!r}).drop_duplicates({axes.time!r})."
        )
    absent = _absent(axis)
    if absent.size:
        warn(
            f"{da.name!r}: {absent.size} frames are missing between others: {_listed(absent)}. "
            "No window reaches over them; xearth.data.sources.radar.fill_gaps interpolates "
            "single ones.",
            TimeAxisWarning,
        )


def _absent(axis: TimeAxis) -> np.ndarray:
    """Return the stamps missing between the first and the last."""
    return np.concatenate(
        [axis.values[:0]]
        + [axis.offsets(np.array([before]), np.arange(1, n + 1))[0] for before, _, n in axis.gaps]
    )


def _listed(stamps: Any) -> str:
    text = ", ".join(str(stamp)[:19] for stamp in stamps[:_SHOWN])
    return text + (f" and {len(stamps) - _SHOWN} more" if len(stamps) > _SHOWN else "")


def _stated(ds: xr.Dataset, da: xr.DataArray) -> dict[str, Any]:
    """Return what comments of the file state about its Z-R relation and its lowest level."""
    text = f"{da.attrs.get('comment', '')} {ds.attrs.get('comment', '')}"
    found: dict[str, Any] = {k: ds.attrs[k] for k in ("zr_a", "zr_b") if k in ds.attrs}
    if law := _LAW.search(text):
        found = {"zr_a": float(law[1]), "zr_b": float(law[2]), **found}
    if nothing := _NOTHING.search(text):
        found["no_echo"] = float(nothing[1])
    return found


def check(da: xr.DataArray) -> xr.DataArray:
    """Read every frame once and refuse what no forecast can start from.

    Parameters
    ----------
    da : DataArray (time, y, x)
        Frames, decoded or packed: a history, or a whole archive.

    Returns
    -------
    DataArray
        ``da`` itself.

    Raises
    ------
    TimeAxisError
        Frames are missing between others; they are named.
    MissingDataError
        Frames have no value at all; they are named. Or rain below zero, or reflectivities below
        -100 dBZ: codes of missing data that the file does not declare.

    Examples
    --------
    >>> from xearth.data.sources import radar, samples
    >>> rain = samples.open("knmi_radar")[:6]
    >>> radar.check(rain) is rain
    True
    """
    axes = discover(da)
    time = da[axes.time]
    axis = TimeAxis.from_array(time)
    absent = _absent(axis)
    if absent.size:
        raise TimeAxisError(
            f"{da.name!r}: expected frames every {axis.step} from {axis.values.min()} to "
            f"{axis.values.max()}, found {absent.size} missing between others: {_listed(absent)}. "
            "Begin after them, or interpolate single ones with "
            "xearth.data.sources.radar.fill_gaps(da)."
        )
    lowest = LOWEST if kind_of(da) == "reflectivity" else 0.0
    empty = []
    for i, stamp in enumerate(axis.values):
        frame = decoded(da.isel({axes.time: i}))
        least = float(frame.min())
        if least < lowest:
            raise MissingDataError(
                f"{da.name!r}: expected values from {lowest:g} {da.attrs.get('units', '')} on, "
                f"found {least:g} in {int((frame < lowest).sum())} cells of the frame {stamp}. A "
                "code of missing data is declared as attrs['_FillValue'] in the file, or taken "
                f"out with da.where(da >= {lowest:g})."
            )
        if np.isnan(least):
            empty.append(stamp)
    if empty:
        raise MissingDataError(
            f"{da.name!r}: {len(empty)} of {len(axis)} frames have no value at all: "
            f"{_listed(empty)}. A frame without rain holds zeros. Leave them out, for example "
            f"with da.dropna({axes.time!r}, how='all'), and interpolate single ones with "
            "xearth.data.sources.radar.fill_gaps."
        )
    return da


def fill_gaps(da: xr.DataArray, *, longest: int = 1) -> xr.DataArray:
    """Put frames where some are missing: each cell linear in time between its neighbors.

    Rain moves, so such a frame shows it in two places at once, each too weak. It serves to begin a
    forecast, not to verify one.

    Parameters
    ----------
    da : DataArray (time, y, x)
        Frames, some of them absent or without any value.
    longest : int
        Most frames missing in a row.

    Returns
    -------
    DataArray
        ``da`` itself if no frame is missing; otherwise with ``interpolated`` (time), True where a
        frame was put.

    Warns
    -----
    TimeAxisWarning
        Names the frames that were put.

    Raises
    ------
    TimeAxisError
        More frames than ``longest`` are missing in a row, or the first or last is.

    Examples
    --------
    >>> import warnings
    >>> from xearth.data.sources import radar, samples
    >>> rain = samples.open("knmi_radar").isel(time=[0, 1, 3, 4])
    >>> with warnings.catch_warnings(action="ignore"):
    ...     whole = radar.fill_gaps(rain)
    >>> whole.interpolated.values.tolist()
    [False, False, True, False, False]
    """
    axes = discover(da)
    values = decoded(da)
    present = values.notnull().any([axes.y, axes.x]).values
    axis = TimeAxis.from_array(da[axes.time])
    if present.all() and not axis.gaps:
        return da
    if not present[[0, -1]].all():
        raise TimeAxisError(
            f"{da.name!r}: expected values in the first and the last frame, found none in "
            f"{_listed(axis.values[[0, -1]][~present[[0, -1]]])}. Leave it out: there is nothing "
            "to interpolate from."
        )
    kept = values.isel({axes.time: present})
    there = TimeAxis.from_array(kept[axes.time])
    long = [gap for gap in there.gaps if gap[2] > longest]
    if long:
        raise TimeAxisError(
            f"{da.name!r}: expected at most {longest} missing frames in a row, found {long[0][2]} "
            f"between {long[0][0]} and {long[0][1]}. Begin after them; longest={long[0][2]} would "
            "interpolate so many."
        )
    absent = _absent(there)
    after = np.searchsorted(there.values, absent)
    low, high = (kept.isel({axes.time: i}).variable for i in (after - 1, after))
    share = (absent - there.values[after - 1]) / (there.values[after] - there.values[after - 1])
    weight = xr.Variable((axes.time,), share.astype(kept.dtype))
    put = kept.isel({axes.time: after}).assign_coords({axes.time: absent})
    put = put.copy(data=(low * (1 - weight) + high * weight).data)
    label = {"long_name": "frame was interpolated in time", "units": "1"}
    kept, put = (
        part.assign_coords(interpolated=(axes.time, np.full(part.sizes[axes.time], flag), label))
        for part, flag in ((kept, False), (put, True))
    )
    found = xr.concat([kept, put], axes.time, coords="minimal", compat="override", join="override")
    found = found.sortby(axes.time).transpose(*da.dims)
    found[axes.time].attrs.update(da[axes.time].attrs)
    found.attrs = {**kept.attrs, "comment": _also(kept, f"Frames interpolated: {_listed(absent)}.")}
    warn(
        f"{da.name!r}: {absent.size} missing frames are interpolated in time, linear in each cell: "
        f"{_listed(absent)}.",
        TimeAxisWarning,
    )
    return found


def _also(da: xr.DataArray, text: str) -> str:
    return f"{da.attrs.get('comment', '')} {text}".strip()
