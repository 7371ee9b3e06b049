"""Hypothesis strategies: labeled fields in all the ways the field stores them.

Needs the extra ``test`` (hypothesis). Shapes are small; what varies is everything a round trip
can lose: order of dims, direction of latitude, convention and cut of longitude, calendar, dtype,
byte order and memory layout, missing cells, chunks, coordinates, attributes and encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import xarray as xr

from ..errors import MissingDependencyError

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingDependencyError(
        f"xearth.testing.strategies: expected hypothesis, found none ({error}). Install it with "
        "pip install 'xearth[test]'."
    ) from error

__all__ = ["CALENDARS", "DTYPES", "cf_arrays", "cf_datasets", "horizontals", "times"]

CALENDARS = ("standard", "noleap", "360_day", "proleptic_gregorian")
DTYPES = ("f4", "f8", "f2", ">f4", ">f8", "u1", "i1", "i2", ">i2", "i4", "i8", "?")
_MEMORY = ("plain", "read-only", "reversed", "fortran")


@st.composite
def times(draw: Any, size: int, calendars: Sequence[str] = CALENDARS) -> xr.DataArray:
    """Draw a time coordinate of ``size`` even steps: monthly (start or middle), daily or hourly.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(times(3), lambda coord: True).sizes["time"]
    3
    """
    calendar = draw(st.sampled_from(tuple(calendars)))
    frequency = draw(st.sampled_from(["MS", "mid", "D", "6h", "5min"]))
    year = draw(st.integers(1860, 2040))
    cftime = calendar != "proleptic_gregorian"
    values = xr.date_range(
        f"{year}-{draw(st.integers(1, 12)):02d}-01",
        periods=size,
        freq="MS" if frequency == "mid" else frequency,
        calendar=calendar,
        use_cftime=cftime,
    )
    if frequency == "mid":
        values = values + timedelta(days=15)
    attrs = {"standard_name": "time", "axis": "T"}
    return xr.DataArray(values, dims="time", name="time", attrs=attrs)


@st.composite
def horizontals(draw: Any, projected: bool | None = None) -> dict[str, Any]:
    """Draw horizontal coordinates: a mapping of names to coordinates, rows before columns."""
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    if projected if projected is not None else draw(st.booleans()):
        y = np.arange(height) * 1000.0
        x = np.arange(width) * 1000.0
        if draw(st.booleans()):
            y = y[::-1]
        lat = 50 + y[:, None] / 1e5 + 0 * x
        lon = 10 + x / 1e5 + 0 * y[:, None]
        unit = {"units": "m"}
        return {
            "y": ("y", y, {"standard_name": "projection_y_coordinate", "axis": "Y", **unit}),
            "x": ("x", x, {"standard_name": "projection_x_coordinate", "axis": "X", **unit}),
            "lat": (("y", "x"), lat, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": (("y", "x"), lon, {"standard_name": "longitude", "units": "degrees_east"}),
        }
    names = draw(st.sampled_from([("lat", "lon"), ("latitude", "longitude"), ("j", "i")]))
    south, step = draw(st.integers(-60, 40)), draw(st.sampled_from([1.0, 2.5, 5.0]))
    lat = south + step * np.arange(height)
    if draw(st.booleans()):
        lat = lat[::-1]
    west = draw(st.sampled_from([120.0, 170.0, 350.0, 0.0, -60.0]))
    lon = west + step * np.arange(width)
    low = draw(st.sampled_from([0.0, -180.0]))
    lon = (lon - low) % 360.0 + low
    if draw(st.booleans()):
        lon = np.sort(lon)
    coordinate_dtype = draw(st.sampled_from(["f4", "f8"]))
    return {
        names[0]: (names[0], lat.astype(coordinate_dtype), {"units": "degrees_north"}),
        names[1]: (names[1], lon.astype(coordinate_dtype), {"units": "degrees_east"}),
    }


@st.composite
def _values(draw: Any, shape: tuple[int, ...], dtypes: Sequence[str]) -> np.ndarray:
    """Draw data of a shape: dtype, missing cells and memory layout vary."""
    dtype = np.dtype(draw(st.sampled_from(tuple(dtypes))))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    if dtype.kind == "f":
        values = (rng.standard_normal(shape) * 10).astype(dtype)
        if draw(st.booleans()):
            values[rng.random(shape) < 0.3] = np.nan
        if draw(st.booleans()):
            values[rng.random(shape) < 0.1] = -0.0
    elif dtype.kind == "b":
        values = rng.random(shape) < 0.5
    else:
        info = np.iinfo(dtype)
        values = rng.integers(
            info.min, info.max, shape, endpoint=True, dtype=dtype.newbyteorder("=")
        )
        values = values.astype(dtype)
    memory = draw(st.sampled_from(_MEMORY))
    if memory == "reversed":
        values = values[..., ::-1].copy()[..., ::-1]
    elif memory == "fortran":
        values = np.asfortranarray(values)
    elif memory == "read-only":
        values.flags.writeable = False
    return values


@st.composite
def _chunks(draw: Any, sizes: dict[Any, int]) -> dict[Any, tuple[int, ...]]:
    """Draw a chunking of each dim."""
    found = {}
    for dim, size in sizes.items():
        cut = draw(st.integers(1, size))
        found[dim] = tuple(min(cut, size - i) for i in range(0, size, cut))
    return found


@st.composite
def cf_arrays(
    draw: Any,
    *,
    dtypes: Sequence[str] = DTYPES,
    calendars: Sequence[str] = CALENDARS,
    projected: bool | None = None,
    time: bool | None = None,
    chunked: bool | None = None,
) -> xr.DataArray:
    """Draw a labeled field that CF attributes describe.

    Parameters
    ----------
    dtypes : sequence of str
        To choose from.
    calendars : sequence of str
        To choose from.
    projected, time, chunked : bool, optional
        Whether the grid is projected with 2-D latitudes and longitudes, there is a time axis,
        and the data are Dask-backed; None draws both.

    Returns
    -------
    strategy of DataArray

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5, database=None)
    ... @given(cf_arrays())
    ... def test_has_rows_and_columns(da):
    ...     assert da.ndim >= 2
    >>> test_has_rows_and_columns()
    """
    coords: dict[str, Any] = dict(draw(horizontals(projected)))
    dims = list(coords)[:2]
    sizes = {d: len(coords[d][1]) for d in dims}
    if time if time is not None else draw(st.booleans()):
        stamps = draw(times(draw(st.integers(2, 5)), calendars))
        coords["time"] = stamps
        dims.append("time")
        sizes["time"] = stamps.size
        if draw(st.booleans()):
            coords["step"] = ("time", np.arange(stamps.size), {"long_name": "running number"})
    if draw(st.booleans()):
        sizes["member"] = draw(st.integers(1, 3))
        dims.append("member")
        if draw(st.booleans()):
            coords["member"] = (
                "member",
                np.arange(sizes["member"]),
                {"standard_name": "realization"},
            )
    if draw(st.booleans()):
        coords["height"] = ((), 2.0, {"units": "m"})
    if draw(st.booleans()):
        coords["zone"] = (dims[0], np.array(["z"] * sizes[dims[0]]))
    dims = list(draw(st.permutations(dims)))
    da = xr.DataArray(
        draw(_values(tuple(sizes[d] for d in dims), dtypes)),
        dims=dims,
        coords=coords,
        name=draw(st.sampled_from(["sst", None, "vil"])),
        attrs=draw(st.sampled_from([{"units": "K"}, {}, {"units": "1", "flags": [1, 2]}])),
    )
    if chunked if chunked is not None else draw(st.booleans()):
        da = da.chunk(draw(_chunks(dict(da.sizes))))
    da.encoding = draw(st.sampled_from([{}, {"dtype": "int16", "scale_factor": 0.1, "zlib": True}]))
    return da


@st.composite
def cf_datasets(draw: Any, **options: Any) -> xr.Dataset:
    """Draw a Dataset: one or two fields, maybe a static field, a series, and riders.

    Parameters
    ----------
    **options
        Given to `cf_arrays`.

    Returns
    -------
    strategy of Dataset
    """
    first = draw(cf_arrays(**options)).rename("first")
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    variables: dict[str, Any] = {"first": first}
    if draw(st.booleans()):
        order = draw(st.permutations(first.dims))
        second = first.transpose(*order).copy()
        variables["second"] = second.assign_attrs(units="m s-1")
    if "time" in first.dims and draw(st.booleans()):
        variables["nino34"] = ("time", rng.standard_normal(first.sizes["time"]), {"units": "K"})
    if draw(st.booleans()):
        rows = [d for d in first.dims if d not in ("time", "member")]
        shape = tuple(first.sizes[d] for d in rows)
        variables["depth"] = (rows, rng.standard_normal(shape).astype("f4"), {"units": "m"})
    if draw(st.booleans()):
        variables["crs"] = ((), np.int32(0), {"grid_mapping_name": "latitude_longitude"})
    ds = xr.Dataset(variables, attrs={"title": "drawn"})
    ds.encoding = {"unlimited_dims": {"time"}}
    return ds
