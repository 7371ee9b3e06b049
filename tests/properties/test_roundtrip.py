"""to_tensor and to_array are inverses, whatever the storage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, Phase, given, settings

from xearth.data.grid import Grid
from xearth.data.tensors import to_tensor
from xearth.testing.assertions import assert_roundtrip, assert_same, raise_if_dask_computes
from xearth.testing.strategies import DTYPES, cf_arrays, cf_datasets

pytestmark = pytest.mark.filterwarnings("ignore::xearth.errors.DiscoveryWarning")
LOOSE = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)


@LOOSE
@given(cf_arrays())
def test_array(da: xr.DataArray) -> None:
    assert_roundtrip(da)


@LOOSE
@given(cf_datasets(dtypes=[d for d in DTYPES if d != "i8"]))  # i8 beside floats: 53 bits
def test_dataset(ds: xr.Dataset) -> None:
    assert_roundtrip(ds)


@LOOSE
@given(cf_arrays(dtypes=("f8", ">f8", "f4")))
def test_grid_pair(da: xr.DataArray) -> None:
    grid = Grid.from_array(da)
    xr.testing.assert_identical(grid.to_array(grid.to_tensor(da)), da)


@settings(LOOSE, max_examples=25)
@given(cf_arrays(dtypes=("f8", "i2", "u1")))
def test_cast(da: xr.DataArray) -> None:
    assert_roundtrip(da, dtype=torch.float32)


@settings(LOOSE, max_examples=25)
@given(cf_arrays(chunked=True))
def test_dask_is_one_graph(da: xr.DataArray) -> None:
    with raise_if_dask_computes():
        Grid.from_array(da)
    with raise_if_dask_computes(max_computes=1):
        back = to_tensor(da).to_array()
    assert back.chunks == da.chunks


@settings(LOOSE, max_examples=25)
@given(cf_arrays())
def test_canonical_orientation_by_labels(da: xr.DataArray) -> None:
    """The second route: xarray's own sorting by latitude and by longitude on the circle."""
    labeled = to_tensor(da)
    grid = labeled.grid
    n, t, height, width, c = labeled.tensor.shape
    assert c == 1
    y, x = grid.axes.y, grid.axes.x
    rows = da.sortby(y)
    lon = da[x].values.astype(float)
    if grid.axes.lon == x:
        west = float(grid.lon[0])
        columns = rows.isel({x: np.argsort((lon - west) % 360.0, kind="stable")})
        assert np.all(np.diff(grid.lon) > 0)
        assert grid.lon[-1] - west < 360
    else:
        columns = rows.sortby(x)
    others = [d for d in da.dims if d not in ("time", y, x)]
    order = [*others, *(["time"] if "time" in da.dims else []), y, x]
    expected = columns.transpose(*order).values.reshape(n, t, height, width)
    missing = np.isnan(expected) if da.dtype.kind == "f" else np.zeros(expected.shape, dtype=bool)
    found = labeled.tensor.numpy()[..., 0]
    np.testing.assert_array_equal(found, np.where(missing, 0, expected))
    np.testing.assert_array_equal(labeled.mask.numpy()[..., 0], ~missing)


@settings(LOOSE, max_examples=25)
@given(cf_arrays())
def test_json_keeps_the_horizontal_grid(da: xr.DataArray) -> None:
    grid = Grid.from_array(da).horizontal()
    grid = grid.with_mask(np.arange(np.prod(grid.shape)).reshape(grid.shape) % 2 == 0)
    back = Grid.from_json(grid.to_json())
    assert_same(back.template, grid.template)
    np.testing.assert_array_equal(back.mask, grid.mask)
    np.testing.assert_array_equal(back.y_index, grid.y_index)
    np.testing.assert_array_equal(back.x_index, grid.x_index)
    rows, columns = back.align(grid)
    assert rows.tolist() == list(range(grid.shape[0]))
    assert columns.tolist() == list(range(grid.shape[1]))
