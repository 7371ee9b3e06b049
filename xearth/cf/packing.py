r"""How the values of a data variable are stored.

A packed value is :math:`p = \mathrm{round}((v - b) / a)` with scale :math:`a` and offset
:math:`b`. Packing of the source is kept where CF and the checkers allow it and every value fits;
a forecast that leaves the packed range is an error, never a wrapped number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..errors import DataTypeError, MissingDataError

_FILL = {"float32": np.float32(9.969209968386869e36), "float64": 9.969209968386869e36}
_MISSING = ("_FillValue", "missing_value")
_SCALING = ("scale_factor", "add_offset")
_COUNTED = ("valid_min", "valid_max", "valid_range", "actual_range")  # in packed numbers


def fill_values(attrs: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the numbers that mean "missing" according to the attributes of undecoded data.

    Examples
    --------
    >>> fill_values({"_FillValue": np.uint8(255), "units": "1"})
    (255,)
    """
    found: list[float] = []
    for key in _MISSING:
        if key in attrs:
            found += [v for v in np.ravel(attrs[key]).tolist() if v not in found]
    return tuple(found)


def decoded(da: xr.DataArray) -> xr.DataArray:
    """Return one field as numbers: packed integers unpacked, declared fill values as NaN.

    For data opened without decoding (``mask_and_scale=False``), which keep their packing in the
    attributes. Lazy data stay lazy.

    Parameters
    ----------
    da : DataArray

    Returns
    -------
    DataArray
        ``da`` itself where nothing is packed; else float64 (floats keep their dtype).

    Raises
    ------
    DataTypeError
        It is no DataArray.

    Examples
    --------
    >>> packed = xr.DataArray(
    ...     np.array([5, 255], dtype="uint8"),
    ...     dims="x",
    ...     attrs={"scale_factor": 0.5, "_FillValue": 255},
    ... )
    >>> decoded(packed).values
    array([2.5, nan])
    """
    if not isinstance(da, xr.DataArray):
        names = list(da.data_vars) if isinstance(da, xr.Dataset) else []
        found = f"a Dataset with {names}" if names else type(da).__name__
        raise DataTypeError(
            f"Expected one field as a DataArray, found {found}. "
            f"Select one: ds[{names[0] if names else 'name'!r}]."
        )
    missing = [number for number in fill_values(da.attrs) if not np.isnan(number)]
    scaled = da.dtype.kind in "iu" and any(key in da.attrs for key in _SCALING)
    if da.dtype.kind not in "iuf" or not (missing or scaled):
        return da
    found = da if da.dtype.kind == "f" else da.astype(np.float64)
    found = found.where(~da.isin(missing)) if missing else found
    if scaled:
        scale, offset = (da.attrs.get(k, d) for k, d in zip(_SCALING, (1.0, 0.0), strict=True))
        found = found * float(scale) + float(offset)
    dropped = (*_MISSING, *((*_SCALING, *_COUNTED) if scaled else ()))
    found.attrs = {k: v for k, v in da.attrs.items() if k not in dropped}
    return found.rename(da.name)


def packed_on_file(da: xr.DataArray) -> xr.DataArray:
    """Move the packing of undecoded integers from the attributes to the encoding, as xarray does.

    Parameters
    ----------
    da : DataArray

    Returns
    -------
    DataArray
        ``da`` itself where the attributes hold no scale or offset.
    """
    if da.dtype.kind not in "iu" or not any(key in da.attrs for key in _SCALING):
        return da
    found = decoded(da)
    if np.result_type(da.dtype, np.float32) == np.float32 and da.dtype.itemsize <= 2:
        found = found.astype(np.float32)
    kept = {k: da.attrs[k] for k in (*_MISSING, *_SCALING) if k in da.attrs}
    found.encoding = {**da.encoding, **kept, "dtype": da.dtype}
    return found


def packing(da: xr.DataArray) -> dict[str, Any]:
    """Give the encoding of a data variable.

    Parameters
    ----------
    da : xarray.DataArray
        Its ``encoding`` may hold the packing of the source.

    Returns
    -------
    dict
        dtype, scale, offset and fill value; unpacked floats where the source's packing does not
        fit the values or is not allowed by CF.
    """
    source = da.encoding
    kind = np.dtype(source.get("dtype") or da.dtype)
    if da.dtype.kind != "f":
        return _integers(da, source)
    if "scale_factor" not in source and "add_offset" not in source:
        return unpacked(da)
    if kind.kind not in "iu" or kind.itemsize > 2:
        return unpacked(da)
    if kind == np.uint16 and da.chunks is not None:  # int16 may not hold what is not yet known
        return unpacked(da)
    real = np.float64 if da.dtype.itemsize > 4 else np.float32
    scale = real(source.get("scale_factor", 1.0))
    offset = real(source.get("add_offset", 0.0))
    found: dict[str, Any] = {
        "dtype": "int8" if kind == np.int8 else "int16",
        "scale_factor": scale,
        "add_offset": offset,
    }
    limits = np.iinfo(found["dtype"])
    found["_FillValue"] = np.dtype(found["dtype"]).type(limits.min)
    low, high = (offset + scale * p for p in (limits.min + 1, limits.max))
    if not _fits(da, min(low, high), max(low, high)):
        return unpacked(da)
    return found


def unpacked(da: xr.DataArray) -> dict[str, Any]:
    """Give the encoding of floats as they are."""
    name = "float32" if da.dtype.itemsize < 4 else da.dtype.name  # NetCDF has no float16
    return {"dtype": name, "_FillValue": _FILL.get(name)}


def _integers(da: xr.DataArray, source: dict[Any, Any]) -> dict[str, Any]:
    """Keep integers as they are; their own fill value stays."""
    if da.dtype.kind in "iu" and source.get("_FillValue") is not None:
        return {"_FillValue": source["_FillValue"]}
    return {"_FillValue": None} if da.dtype.kind in "iub" else {}


def _fits(da: xr.DataArray, low: Any, high: Any) -> bool:
    """Tell whether values in memory fit; lazy values are checked when they are written."""
    if da.chunks is not None or da.size == 0:
        return da.size > 0
    if not np.isfinite(da.values).any():
        return True
    return bool(np.nanmin(da.values) >= low and np.nanmax(da.values) <= high)


def guarded(da: xr.DataArray) -> xr.DataArray:
    """Check lazy values against their packing at the moment they are computed.

    Parameters
    ----------
    da : xarray.DataArray
        With the encoding of `packing`.

    Returns
    -------
    xarray.DataArray
        ``da`` itself unless it is lazy and packed. Computing the result raises MissingDataError
        where a value does not fit.
    """
    if da.chunks is None or "scale_factor" not in da.encoding:
        return da
    encoding = da.encoding
    limits = np.iinfo(encoding["dtype"])
    ends = [
        encoding["add_offset"] + encoding["scale_factor"] * p for p in (limits.min + 1, limits.max)
    ]
    checked = xr.apply_ufunc(
        _check,
        da,
        kwargs={"low": min(ends), "high": max(ends), "name": str(da.name)},
        dask="parallelized",
        output_dtypes=[da.dtype],
        keep_attrs=True,
    )
    checked.encoding = dict(encoding)
    return checked


def _check(values: np.ndarray, *, low: float, high: float, name: str) -> np.ndarray:
    if values.size and np.isfinite(values).any():
        found = (np.nanmin(values), np.nanmax(values))
        if found[0] < low or found[1] > high:
            raise MissingDataError(
                f"{name!r} holds values from {found[0]:g} to {found[1]:g}, but its packing (int16 "
                f"with the source's scale) holds {low:g} to {high:g}: they would be lost. Write "
                f"it unpacked: obj[{name!r}].encoding = {{}}."
            )
    return values
