"""Write forecasts, hindcasts, nowcasts, scores and plain fields as strict CF-1.11; read back."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..errors import DataTypeError, MissingDependencyError, SourceError, TimeAxisError
from .attrs import append_history
from .calendars import DAY, Calendar
from .clues import is_dates
from .dates import undecoded
from .discover import KINDS, find_axes, warn_of_weak
from .encode import CONVENTIONS, encode, legal_names, time_encoding
from .layout import from_file_layout, to_file_layout
from .packing import guarded, packed_on_file, unpacked
from .timeaxis import Step, TimeAxis

__all__ = ["from_cf", "to_cf"]

_NETCDF = (".nc", ".nc4", ".cdf")
_COMPRESSION = {"zlib": True, "complevel": 4, "shuffle": True}
_MEAN = re.compile(r"\btime: (mean|sum|maximum|minimum|standard_deviation|variance)\b(?! *\()")


def to_cf(
    obj: xr.DataArray | xr.Dataset,
    path: str | os.PathLike[str] | None = None,
    *,
    history: str = "written by xearth.to_cf",
    **attributes: Any,
) -> xr.Dataset:
    """Make a strict CF-1.11 Dataset of a forecast, scores or plain fields; write it if asked.

    One start becomes a series along ``time`` with a scalar ``forecast_reference_time`` and a
    ``forecast_period``; several become (realization, forecast_period, forecast_reference_time,
    y, x) with a 2-D auxiliary ``time``. See :doc:`the user guide </guide/output>`.

    Parameters
    ----------
    obj : xarray.DataArray or Dataset
        In the in-memory layout (init, lead, member, y, x) or without forecast axes. Dask arrays
        stay lazy until they are written.
    path : path, optional
        Ends in ``.nc`` (NetCDF4) or ``.zarr`` (needs the extra ``io``). It is written under a
        temporary name in the same folder and renamed, so a failure leaves nothing behind and
        an older file whole.
    history : str
        The line added, with the date, to the history.
    **attributes
        Global attributes: title, institution, source, references, comment ...

    Returns
    -------
    xarray.Dataset
        In CF layout, with encodings set: ``to_netcdf`` of it is compliant too.

    Raises
    ------
    SourceError
        The path has another ending, or its folder is missing.
    MissingDependencyError
        Zarr is asked for and not installed.
    MissingDataError
        Lazy values leave the range of the packing they came with.

    Examples
    --------
    >>> import numpy as np, pandas as pd, xarray as xr
    >>> from xearth.cf.forecast_coords import forecast_coords
    >>> from xearth.cf.timeaxis import TimeAxis
    >>> time = xr.DataArray(pd.date_range("2000-01", periods=3, freq="MS"), dims="time")
    >>> coords = forecast_coords(TimeAxis.from_array(time), [2], 2, members=3)
    >>> fc = xr.DataArray(
    ...     np.zeros((1, 2, 3), "f4"),
    ...     dims=("init", "lead", "member"),
    ...     coords=coords,
    ...     name="nino34",
    ...     attrs={"long_name": "Nino3.4", "units": "K"},
    ... )
    >>> to_cf(fc, title="a forecast").nino34.dims
    ('realization', 'time')
    """
    target = checked_target(path)
    ds = _dataset(obj)
    ds = ds.assign({name: packed_on_file(v).variable for name, v in ds.data_vars.items()})
    ds.attrs = _global_attrs(ds, history, attributes)
    axes = find_axes(ds)
    warn_of_weak(ds, axes, [k for k in KINDS if getattr(axes, k) in ds.coords])
    laid = legal_names(to_file_layout(ds, axes))
    on_file = find_axes(laid)
    step = _step(laid)
    laid = _ordered(encode(laid, on_file), on_file.y, on_file.x)
    laid = _with_time_bounds(laid, step)
    safe = laid.assign({name: guarded(laid[name]) for name in laid.data_vars})
    if target is not None:
        _atomically(target, _zarr(laid) if target.suffix == ".zarr" else _netcdf(safe))
    return safe


def from_cf(path: str | os.PathLike[str] | xr.Dataset) -> xr.Dataset:
    """Read a CF forecast into the in-memory layout; the inverse of `to_cf`.

    Parameters
    ----------
    path : path or xarray.Dataset
        A ``.nc`` file, a ``.zarr`` store, or a Dataset in the layout of `to_cf`.

    Returns
    -------
    xarray.Dataset
        With ``init``, ``lead``, ``member`` and ``valid_time`` where it holds forecasts. Values
        of a file are read when they are used.

    Raises
    ------
    SourceError
        There is no such file, or it cannot be read.

    Examples
    --------
    >>> import xarray as xr
    >>> ds = xr.Dataset(coords={"forecast_period": ("forecast_period", [1.0], {"units": "days"})})
    >>> from_cf(ds).lead.item()
    1
    """
    if isinstance(path, xr.Dataset):
        return from_file_layout(path)
    place = Path(path).expanduser()
    if not place.exists():
        raise SourceError(f"There is no file {str(place)!r}. Check the path.")
    if place.suffix == ".zarr":
        _need_zarr()
    engine: Any = "zarr" if place.suffix == ".zarr" else "netcdf4"
    how: dict[str, Any] = {"consolidated": False} if engine == "zarr" else {}
    try:
        opened = xr.open_dataset(
            place, engine=engine, decode_timedelta=False, decode_coords="all", **how
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceError(
            f"Cannot read {str(place)!r} as {engine}: {error}. The file may be damaged or of "
            "another format."
        ) from error
    return from_file_layout(opened)


def checked_target(path: str | os.PathLike[str] | None) -> Path | None:
    """Check, before any work, that the path can be written."""
    if path is None:
        return None
    target = Path(path).expanduser()
    if target.suffix not in (*_NETCDF, ".zarr"):
        raise SourceError(
            f"Cannot tell the format of {str(target)!r}: expected a name that ends in .nc or .zarr."
        )
    if not target.absolute().parent.is_dir():
        raise SourceError(
            f"The folder {str(target.parent)!r} does not exist. Make it first, or write elsewhere."
        )
    if target.suffix == ".zarr":
        _need_zarr()
        store = (target / "zarr.json", target / ".zgroup", target / ".zmetadata")
        if target.exists() and not any(mark.exists() for mark in store):
            raise SourceError(
                f"{str(target)!r} exists and is no Zarr store: it is not replaced. Remove it, or "
                "choose another name."
            )
    elif target.is_dir():
        raise SourceError(f"{str(target)!r} is a folder; expected the name of a file.")
    return target


def _need_zarr() -> None:
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "Zarr stores need the package zarr, which is not installed. Install it with "
            "pip install 'xearth[io]', or use a name that ends in .nc."
        ) from error


def _dataset(obj: xr.DataArray | xr.Dataset) -> xr.Dataset:
    if isinstance(obj, xr.Dataset):
        return obj.copy()
    if not isinstance(obj, xr.DataArray):
        raise DataTypeError(
            f"to_cf takes a DataArray or Dataset; got {type(obj).__name__}. Label it first."
        )
    name = obj.name if obj.name is not None else obj.attrs.get("standard_name", "data")
    ds = obj.to_dataset(name=name)
    ds[name].encoding = dict(obj.encoding)
    return ds


def _global_attrs(ds: xr.Dataset, history: str, attributes: dict[str, Any]) -> dict[str, Any]:
    found = {**ds.attrs, **{k: v for k, v in attributes.items() if v is not None}}
    if not found.get("title"):
        names = [str(v.attrs.get("long_name", n)) for n, v in ds.data_vars.items()]
        found["title"] = ", ".join(names) or "coordinates"
    found["Conventions"] = CONVENTIONS
    return append_history(found, history)


def _step(ds: xr.Dataset) -> Step | None:
    """Give the step of the file's time, from its lead where it has one."""
    for unit in ("months", "years"):
        name = f"lead_{unit[:-1]}"
        if name in ds.coords:
            counts = np.unique(ds[name].values)
            return Step(int(np.diff(counts).min()) if counts.size > 1 else 1, unit)
    if "forecast_period" in ds.coords:
        return Step(1, str(ds["forecast_period"].attrs.get("units", "days")))
    if "time" not in ds.coords or ds["time"].ndim != 1:
        return None
    if not is_dates(ds["time"].variable):
        raise TimeAxisError(undecoded(ds["time"], "time"))
    try:
        return TimeAxis.from_array(ds["time"]).step
    except TimeAxisError:  # an uneven axis can be written; it has no step and gets no bounds
        return None


def _ordered(ds: xr.Dataset, y: str | None, x: str | None) -> xr.Dataset:
    """Bring dims to the order of CF: others, members, lead, start or time, z, y, x."""
    last = ["realization", "forecast_period", "forecast_reference_time", "time"]
    order = [*last, *(str(d) for d in ds.dims if _axis(ds, str(d)) == "Z")]
    order += [d for d in (y, x) if d is not None]
    bounds = {v.attrs.get("bounds") for v in ds.variables.values()}
    for name, variable in ds.variables.items():
        if name not in bounds and variable.ndim > 1:
            front = [d for d in variable.dims if d not in order]
            wanted = [*front, *(d for d in order if d in variable.dims)]
            ds[name] = ds[name].transpose(*wanted)
    return ds


def _axis(ds: xr.Dataset, dim: str) -> str | None:
    return ds[dim].attrs.get("axis") if dim in ds.coords else None


def _with_time_bounds(ds: xr.Dataset, step: Step | None) -> xr.Dataset:
    """Add the bounds of monthly, yearly and daily means, which the stamp and the step tell."""
    if "time" not in ds.coords or ds["time"].ndim != 1 or "time" not in ds.dims or step is None:
        return ds
    means = any(_MEAN.search(str(v.attrs.get("cell_methods", ""))) for v in ds.variables.values())
    if not means or "bounds" in ds["time"].attrs or "time_bnds" in ds.variables:
        return ds
    edges = _edges(ds["time"], step)
    if edges is None:
        return ds
    two = "bnds" if ds.sizes.get("bnds", 2) == 2 else "time_ends"
    ds = ds.assign(time_bnds=(("time", two), edges))
    ds["time"].attrs["bounds"] = "time_bnds"
    encoding = time_encoding(ds["time"], ds["time"].encoding["units"])
    ds["time_bnds"].encoding = {**encoding, "coordinates": None}
    if "forecast_period" in ds.coords and ds["forecast_period"].dims == ("time",):
        calendar = Calendar.of(ds["time"].values, "time")
        start = np.atleast_1d(ds["forecast_reference_time"].values)
        size = DAY if ds["forecast_period"].attrs["units"] == "days" else None
        if size is not None:
            elapsed = (calendar.encode(edges) - calendar.encode(start)) / size
            ds = ds.assign(forecast_period_bnds=(("time", two), elapsed))
            ds["forecast_period"].attrs["bounds"] = "forecast_period_bnds"
            ds["forecast_period_bnds"].encoding = {"_FillValue": None, "coordinates": None}
    return ds


def _edges(time: xr.DataArray, step: Step) -> np.ndarray | None:
    """Give the cell of each stamp, (time, 2), where it is known beyond doubt."""
    values = time.values
    calendar = Calendar.of(values, "time")
    m = calendar.months(values)
    if step == Step(1, "months"):
        first, last = m, m + 1
    elif step == Step(1, "years"):
        first = m // 12 * 12
        last = first + 12
    elif step == Step(1, "days"):
        day = calendar.encode(values) // DAY * DAY
        if not np.isin(calendar.encode(values) - day, [0, DAY // 2]).all():
            return None
        return calendar.decode(np.stack([day, day + DAY], axis=-1))
    else:
        return None
    return calendar.decode(np.stack([calendar.month_start(first), calendar.month_start(last)], -1))


def _atomically(target: Path, write: Callable[[Path], None]) -> None:
    """Write under a temporary name beside the target, then rename."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}{target.suffix}")
    try:
        try:
            write(temporary)
        except OSError as error:
            raise SourceError(
                f"Cannot write {str(target)!r}: {error}. Is there room and permission?"
            ) from error
        if target.suffix == ".zarr" and target.exists():
            _swap(temporary, target)
        else:
            os.replace(temporary, target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def _swap(new: Path, target: Path) -> None:
    """Put a new store in the place of an old one; the old one comes back on failure."""
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
    os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old)


def _netcdf(ds: xr.Dataset) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        # On the variables, not by the argument: that one refuses grid_mapping and coordinates.
        packed = ds.copy()
        for variable in packed.data_vars.values():
            if variable.ndim > 1 and variable.dtype.kind in "iuf":
                variable.encoding = {**variable.encoding, **_COMPRESSION}
        packed.to_netcdf(path, engine="netcdf4", format="NETCDF4")

    return write


def _zarr(ds: xr.Dataset) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        # Unpacked: a Zarr store keeps the scale as a JSON number, so float32 would come back as
        # float64; its compression makes up for the packing.
        plain = ds.copy()
        for variable in plain.data_vars.values():
            if "scale_factor" in variable.encoding:
                variable.encoding = {**variable.encoding, **unpacked(variable)}
                del variable.encoding["scale_factor"], variable.encoding["add_offset"]
        plain.to_zarr(path, mode="w-", consolidated=False)

    return write
