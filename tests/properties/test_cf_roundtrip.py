"""to_cf and from_cf are inverses on forecasts of any calendar, step, size and grid."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.cf.forecast_coords import forecast_coords
from xearth.cf.timeaxis import TimeAxis
from xearth.cf.writer import from_cf, to_cf

LAT = {"standard_name": "latitude", "units": "degrees_north"}
LON = {"standard_name": "longitude", "units": "degrees_east"}


@st.composite
def forecasts(
    draw: Any, calendars: tuple[str, ...] = ("datetime64", "noleap", "360_day")
) -> xr.DataArray:
    calendar = draw(st.sampled_from(calendars))
    freq = draw(st.sampled_from(["MS", "YS", "D", "6h", "5min"]))
    n = draw(st.integers(2, 8))
    if calendar == "datetime64":
        unit = draw(st.sampled_from(["ns", "us", "s"]))
        times: Any = pd.date_range("1999-11-01", periods=n, freq=freq).as_unit(unit)
    else:
        times = xr.date_range(
            "1999-11-01", periods=n, freq=freq, calendar=calendar, use_cftime=True
        )
    axis = TimeAxis.from_array(xr.DataArray(times, dims="time", name="time"))
    starts = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    members = draw(st.none() | st.integers(1, 3))
    leads = draw(st.integers(1, 5))
    coords: dict[str, Any] = dict(forecast_coords(axis, sorted(starts), leads, members=members))
    grid = draw(st.sampled_from(["latlon", "plane", "series"]))
    dims = ("init", "lead", *(() if members is None else ("member",)))
    if grid == "latlon":
        coords["lat"] = ("lat", [10.0, 0.0], {**LAT, "axis": "Y"})
        coords["lon"] = ("lon", [-10.0, -5.0, 0.0], {**LON, "axis": "X"})
        dims += ("lat", "lon")
    if grid == "plane":
        meters = {"units": "m", "axis": "Y", "standard_name": "projection_y_coordinate"}
        coords["y"] = ("y", [0.0, 1.0], meters)
        coords["x"] = (
            "x",
            [0.0, 1.0, 2.0],
            {**meters, "axis": "X", "standard_name": "projection_x_coordinate"},
        )
        coords["lat"] = (("y", "x"), np.zeros((2, 3)), LAT)
        coords["lon"] = (("y", "x"), np.ones((2, 3)), LON)
        dims += ("y", "x")
    ds = xr.Dataset(coords=coords)
    shape = [ds.sizes[d] for d in dims]
    dtype = draw(st.sampled_from(["f4", "f8", "i4"]))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(-99, 99, shape).astype(dtype)
    if dtype != "i4" and draw(st.booleans()):
        values.flat[0] = np.nan
    attrs = {"long_name": "a field", "units": "m"}
    return xr.DataArray(values, dims=dims, coords=ds.coords, name="field", attrs=attrs)


@settings(deadline=None, max_examples=35)
@given(fc=forecasts(), order=st.randoms(use_true_random=False))
def test_in_memory(fc: xr.DataArray, order: Any) -> None:
    dims = list(fc.dims)
    order.shuffle(dims)
    xr.testing.assert_identical(from_cf(to_cf(fc.transpose(*dims)))["field"], fc)


@settings(deadline=None, max_examples=10)
@given(fc=forecasts(), suffix=st.sampled_from([".nc", ".nc", ".zarr"]))
def test_through_a_file(fc: xr.DataArray, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"fc{suffix}"
        to_cf(fc, path)
        back = from_cf(path).load()["field"]
        assert back.dtype == fc.dtype
        for name, coord in fc.coords.items():
            if coord.dtype.kind == "M":  # a file does not keep the resolution of stamps
                back[name] = back[name].astype(coord.dtype)
        xr.testing.assert_equal(back, fc)
        assert back.attrs == fc.attrs
        for name, coord in fc.coords.items():
            assert back[name].attrs == coord.attrs, name
