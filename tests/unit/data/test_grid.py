"""Grid: what it remembers, matches and refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from xearth.data.grid import Grid
from xearth.data.tensors import LabeledTensor, to_tensor
from xearth.errors import AxisError, CheckpointError, GridMismatchError, MissingDataError
from xearth.testing.assertions import assert_roundtrip, assert_same

LAT = {"standard_name": "latitude", "units": "degrees_north"}
LON = {"standard_name": "longitude", "units": "degrees_east"}


def field(lat: np.ndarray, lon: np.ndarray, months: int = 3, **attrs: object) -> xr.DataArray:
    """Return lat + lon/1000 + 100 month: each value tells where it belongs."""
    time = xr.date_range("2001-01", periods=months, freq="MS", use_cftime=False)
    lat, lon = np.asarray(lat, dtype=float), np.asarray(lon, dtype=float)
    values = lat[:, None] + (lon % 360) / 1000 + 100 * np.arange(months)[:, None, None]
    return xr.DataArray(
        values,
        dims=("time", "lat", "lon"),
        coords={"time": time, "lat": ("lat", lat, LAT), "lon": ("lon", lon, LON)},
        name="sst",
        attrs={"units": "K", **attrs},
    )


def projected(y: np.ndarray, x: np.ndarray, *, measured: bool = True) -> xr.DataArray:
    """Return a field on projected coordinates with 2-D latitudes and longitudes."""
    lat = 50 + np.asarray(y)[:, None] / 1e5 + 0 * np.asarray(x)
    lon = 10 + np.asarray(x) / 1e5 + 0 * np.asarray(y)[:, None]
    coords = {"lat": (("y", "x"), lat, LAT), "lon": (("y", "x"), lon, LON)}
    if measured:
        unit = {"units": "m"}
        coords["y"] = ("y", y, {"standard_name": "projection_y_coordinate", **unit})
        coords["x"] = ("x", x, {"standard_name": "projection_x_coordinate", **unit})
    else:
        coords["lat"][2]["axis"] = "Y"
    time = xr.date_range("2001-01", periods=2, freq="D", use_cftime=False)
    values = lat + lon / 1000 + np.arange(2)[:, None, None]
    return xr.DataArray(
        values, dims=("time", "y", "x"), coords={**coords, "time": time}, name="vil"
    )


def test_tensor_layout_is_south_first_and_eastward() -> None:
    da = field([10, 0, -10], [350, 355, 0, 5])
    tensor = Grid.from_array(da).to_tensor(da)
    assert tensor.shape == (1, 3, 3, 4, 1)
    assert tensor.dtype == torch.float64
    lat, lon = np.array([-10, 0, 10.0]), np.array([350, 355, 0, 5.0])
    expected = lat[:, None] + lon / 1000 + 100 * np.arange(3)[:, None, None]
    np.testing.assert_array_equal(tensor[0, ..., 0].numpy(), expected)


def test_no_time_gives_one_step_and_other_dims_fold() -> None:
    da = field([0, 10], [0, 10])
    assert to_tensor(da.isel(time=0, drop=True)).tensor.shape == (1, 1, 2, 2, 1)
    many = da.expand_dims(site=2, version=3).transpose("lat", "site", "time", "lon", "version")
    many = many + xr.DataArray(np.arange(2), dims="site") * 1000
    labeled = to_tensor(many)
    assert labeled.tensor.shape == (6, 3, 2, 2, 1)
    # N runs over the other dims in stored order: site, then version.
    np.testing.assert_allclose(labeled.tensor[3:] - 1000, labeled.tensor[:3], atol=1e-9)
    assert_roundtrip(many)


def test_curvilinear_grid_is_turned_as_a_whole() -> None:
    y, x = np.arange(4) * 1000.0, np.arange(5) * 1000.0
    north_first = projected(y, x).isel(y=slice(None, None, -1))
    labeled = to_tensor(north_first)
    assert np.all(np.diff(labeled.grid.lat[:, 0]) > 0)
    bare = north_first.drop_vars(["y", "x"])
    np.testing.assert_array_equal(to_tensor(bare).tensor, labeled.tensor)
    assert_roundtrip(bare)
    assert_roundtrip(north_first)
    assert np.all(labeled.grid.cell_weights == 1)


def test_weights_are_the_cosine_of_latitude() -> None:
    grid = Grid.from_array(field([60, 0, -60], [0, 10]))
    np.testing.assert_allclose(grid.cell_weights, [[0.5, 0.5], [1, 1], [0.5, 0.5]])
    poles = Grid.from_array(field([-90, 0, 90], [0, 10])).cell_weights
    assert (poles >= 0).all()
    assert poles[0, 0] < 1e-12


@pytest.mark.parametrize(
    "dtype", ["f2", "f4", "f8", ">f4", ">f8", "u1", "i2", ">i2", "i8", "u2", "u4", "?"]
)
def test_dtypes_keep_every_bit(dtype: str) -> None:
    da = field([0, 10], [0, 10]).astype(dtype)
    labeled = to_tensor(da)
    assert labeled.tensor.numpy().dtype == np.dtype(dtype).newbyteorder("=")
    assert labeled.to_array().dtype == np.dtype(dtype)
    assert_roundtrip(da)


def test_signalling_nan_is_quieted() -> None:
    """The R missing value: bits that make numpy's nanmax lie."""
    signalling = np.array([0x7FF00000000007A2], dtype=np.uint64).view(np.float64)[0]
    da = field([0, 10], [0, 10]).copy()
    da.values[0, 0, 0] = signalling
    assert da.values.view(np.uint64)[0, 0, 0] & (1 << 51) == 0  # the quiet bit is unset
    labeled = to_tensor(da)
    assert labeled.mask.sum() == labeled.mask.numel() - 1
    assert torch.isfinite(labeled.tensor).all()
    raw = labeled.grid.to_tensor(da).numpy()
    assert np.nanmax(raw) == np.max(da.values[1:])
    bits = labeled.to_array().values.view(np.uint64)[0, 0, 0]
    assert bits & (1 << 51)
    assert_roundtrip(da)


def test_data_are_copied_not_shared() -> None:
    da = field([0, 10], [0, 10])
    before = da.copy(deep=True)
    labeled = to_tensor(da)
    labeled.tensor.add_(1)
    xr.testing.assert_identical(da, before)
    labeled.to_array().values[:] = 0
    assert (labeled.tensor != 0).any()


@pytest.mark.parametrize(
    "data",
    [np.array([["2000-01-01"]], dtype="M8[ns]"), np.array([[1j]]), np.array([["text"]])],
    ids=["dates", "complex", "text"],
)
def test_what_is_no_number_is_refused(data: np.ndarray) -> None:
    da = field([0], [0]).isel(time=0, drop=True).copy(data=data)
    with pytest.raises(TypeError, match=r"'sst': expected numbers .* found dtype"):
        to_tensor(da)


def test_missing_latitude_is_refused() -> None:
    with pytest.raises(AxisError, match=r"'lat': expected finite numbers.*positions \[1\]"):
        Grid.from_array(field([0, np.nan], [0, 10]))


def test_dataset_channels_series_and_riders() -> None:
    da = field([0, 10], [0, 10])
    ds = da.to_dataset()
    ds["wind"] = da.astype("f4").assign_attrs(units="m s-1").transpose("lon", "time", "lat")
    ds["nino34"] = ("time", [1.5, 2.5, np.nan], {"units": "K"})
    ds["depth"] = (("lat", "lon"), np.array([[1, 2], [3, 4]], dtype="i2"))
    ds["crs"] = ((), 0, {"grid_mapping_name": "latitude_longitude"})
    ds["lat_bnds"] = (("lat", "bnds"), np.zeros((2, 2)))
    ds["lat"].attrs["bounds"] = "lat_bnds"
    ds["label"] = ("time", ["a", "b", "c"])
    labeled = to_tensor(ds)
    assert [c.name for c in labeled.grid.channels] == ["sst", "wind", "nino34", "depth"]
    assert labeled.tensor.shape == (1, 3, 2, 2, 4)
    np.testing.assert_array_equal(labeled.tensor[0, :2, 1, 1, 2], [1.5, 2.5])
    assert not labeled.mask[0, 2, ..., 2].any()
    assert_roundtrip(ds)
    changed = labeled.to_array(labeled.tensor * 2)
    assert changed["depth"].dtype == np.int16
    np.testing.assert_array_equal(changed["depth"], ds["depth"] * 2)
    np.testing.assert_array_equal(changed["nino34"], ds["nino34"] * 2)
    half = labeled.to_array(labeled.tensor * 0.5)
    assert half["depth"].dtype == np.float64  # fractional: nothing is cut off
    np.testing.assert_array_equal(half["depth"], ds["depth"] * 0.5)


def test_series_that_a_network_changed_comes_back_as_mean() -> None:
    ds = field([0, 10], [0, 10]).to_dataset().assign(index=("time", [1.0, 2.0, 3.0]))
    labeled = to_tensor(ds)
    tensor = labeled.tensor.clone()
    tensor[..., 0, 0, 1] += 4.0
    np.testing.assert_allclose(labeled.to_array(tensor)["index"], [2.0, 3.0, 4.0])


def test_dataset_without_a_field_is_refused() -> None:
    with pytest.raises(AxisError):
        to_tensor(xr.Dataset({"index": ("time", [1.0, 2.0])}))


def test_prediction_of_another_length_gets_the_land_back() -> None:
    da = field([0, 10], [0, 10])
    da = da.where(da.lat + da.lon > 0)
    da[1, 1, 1] = np.nan  # missing once: not land
    da = da.assign_coords(step=("time", [0, 1, 2]))
    labeled = to_tensor(da)
    np.testing.assert_array_equal(labeled.grid.mask, [[False, True], [True, True]])
    found = labeled.to_array(torch.ones(1, 5, 2, 2, 1, dtype=torch.float32))
    assert found.dims == da.dims
    assert found.sizes["time"] == 5
    assert set(found.coords) == {"lat", "lon"}
    assert found.dtype == np.float32
    assert np.isnan(found[:, 0, 0]).all()
    assert np.isfinite(found.values).sum() == 15


def test_bfloat16_and_float32_predictions() -> None:
    da = field([0, 10], [0, 10])
    labeled = to_tensor(da, dtype=torch.bfloat16)
    assert labeled.tensor.dtype == torch.bfloat16
    assert labeled.to_array().dtype == np.float32
    single = to_tensor(da, dtype="float32")
    assert_same(single.to_array(), da.astype("float32"))
    with pytest.raises(TypeError, match="dtype='float33'"):
        to_tensor(da, dtype="float33")


def test_packed_missing_values_are_masked_and_stay() -> None:
    da = field([0, 10], [0, 10]).copy(data=np.arange(12).reshape(3, 2, 2)).astype("u1")
    da = da.assign_attrs(_FillValue=np.uint8(7), scale_factor=0.5)
    labeled = to_tensor(da)
    assert labeled.tensor.dtype == torch.uint8
    assert (~labeled.mask).sum() == 1
    assert labeled.tensor[~labeled.mask].item() == 7
    assert_roundtrip(da)


def test_grid_outlives_its_file(tmp_path: object) -> None:
    da = projected(np.arange(3) * 1e3, np.arange(4) * 1e3)
    path = f"{tmp_path}/field.nc"
    da.to_netcdf(path)
    with xr.open_dataset(path) as ds:
        labeled = to_tensor(ds["vil"])
    np.testing.assert_array_equal(labeled.to_array()["lat"], da["lat"])


def test_errors_of_shape() -> None:
    da = field([0, 10], [0, 10])
    labeled = to_tensor(da)
    with pytest.raises(GridMismatchError, match="expected the shape"):
        labeled.grid.to_array(torch.zeros(1, 3, 2, 3, 1))
    with pytest.raises(GridMismatchError, match="mask of shape"):
        labeled.grid.with_mask(np.ones((3, 3), dtype=bool))
    with pytest.raises(GridMismatchError, match="LabeledTensor"):
        LabeledTensor(labeled.tensor, labeled.mask[:, :1], labeled.grid)
    with pytest.raises(GridMismatchError, match="expected the dims"):
        labeled.grid.to_tensor(da.isel(lat=[0]))
    with pytest.raises(GridMismatchError, match="'sst'"):
        Grid.from_array(da.to_dataset()).to_tensor(da.to_dataset(name="other"))
    with pytest.raises(GridMismatchError, match="last two of size"):
        labeled.grid.label(np.zeros((3, 3)))


# -- matching -----------------------------------------------------------------------------------

ROWS, COLUMNS = np.arange(-20.0, 21, 10), np.arange(120.0, 290, 10)
WHOLE = np.arange(0.0, 360, 10)
SAME = {
    "north first": (ROWS[::-1], COLUMNS),
    "-180..180": (ROWS, (COLUMNS + 180) % 360 - 180),
    "-180..180 sorted": (ROWS, np.sort((COLUMNS + 180) % 360 - 180)),
    "westward": (ROWS, COLUMNS[::-1]),
    "float32": (ROWS.astype("f4"), COLUMNS.astype("f4")),
    "rounded": (ROWS + 0.01, COLUMNS - 0.02),
}


@pytest.mark.parametrize(("lat", "lon"), SAME.values(), ids=SAME.keys())
def test_align_brings_the_same_values(lat: np.ndarray, lon: np.ndarray) -> None:
    model, da = Grid.from_array(field(ROWS, COLUMNS)).horizontal(), field(lat, lon)
    grid = Grid.from_array(da)
    rows, columns = model.align(grid)
    tensor = grid.to_tensor(da)[:, :, rows][:, :, :, columns]
    expected = Grid.from_array(field(ROWS, COLUMNS)).to_tensor(field(ROWS, COLUMNS))
    np.testing.assert_allclose(tensor, expected, atol=0.02)


def test_align_rolls_a_global_grid() -> None:
    model = Grid.from_array(field(ROWS, WHOLE)).horizontal()
    da = field(ROWS, (WHOLE + 180) % 360 - 180).sortby("lon")
    rows, columns = model.align(Grid.from_array(da))
    tensor = Grid.from_array(da).to_tensor(da)[:, :, rows][:, :, :, columns]
    np.testing.assert_array_equal(
        tensor, Grid.from_array(field(ROWS, WHOLE)).to_tensor(field(ROWS, WHOLE))
    )


OTHER = {
    "size": (ROWS, COLUMNS[:-1], "5 rows 20S .. 20N, 16 columns 120E .. 90W"),
    "region east": (ROWS, COLUMNS + 10, "130E .. 70W"),
    "region north": (ROWS + 10, COLUMNS, "10S .. 30N"),
    "spacing": (ROWS * 1.5, COLUMNS, "30S .. 30N"),
}


@pytest.mark.parametrize(("lat", "lon", "found"), OTHER.values(), ids=OTHER.keys())
def test_align_refuses_another_grid_and_tells_both(
    lat: np.ndarray, lon: np.ndarray, found: str
) -> None:
    model = Grid.from_array(field(ROWS, COLUMNS)).horizontal()
    with pytest.raises(GridMismatchError) as caught:
        model.align(Grid.from_array(field(lat, lon)))
    assert "expected 5 rows 20S .. 20N, 17 columns 120E .. 80W" in str(caught.value)
    assert found in str(caught.value)


def test_align_of_projected_grids() -> None:
    y, x = np.arange(4) * 1000.0, np.arange(5) * 1000.0
    model = Grid.from_array(projected(y, x)).horizontal()
    model.align(Grid.from_array(projected(y[::-1], x)))
    with pytest.raises(GridMismatchError):
        model.align(Grid.from_array(projected(y + 1000, x)))
    moved = projected(y, x)
    moved = moved.assign_coords(lon=moved.lon + 5)
    with pytest.raises(GridMismatchError):
        model.align(Grid.from_array(moved))
    with pytest.raises(GridMismatchError, match="latitude and longitude"):
        Grid.from_array(field(np.arange(4), np.arange(5))).align(model)


# -- horizontal, label, storage -----------------------------------------------------------------


def test_horizontal_keeps_places_and_drops_times() -> None:
    da = field([10, 0], [0, 10]).assign_coords(
        height=((), 2.0, {"units": "m"}),
        reftime=((), np.datetime64("2000-01-01", "ns")),
        realization=((), 3, {"standard_name": "realization"}),
        area=(("lat", "lon"), np.ones((2, 2))),
    )
    grid = Grid.from_array(da).horizontal()
    assert set(grid.template.coords) == {"lat", "lon", "height", "area"}
    assert grid.sizes == (1, 1, 2, 2, 1)
    np.testing.assert_array_equal(grid.lat, [0, 10])


def test_horizontal_carries_the_grid_mapping() -> None:
    ds = projected(np.arange(3) * 1e3, np.arange(2) * 1e3).to_dataset()
    ds["crs"] = ((), 0, {"grid_mapping_name": "lambert_conformal_conic"})
    ds["vil"].attrs["grid_mapping"] = "crs"
    grid = Grid.from_array(ds).horizontal()
    assert grid.template.coords["crs"].attrs["grid_mapping_name"] == "lambert_conformal_conic"
    assert Grid.from_json(grid.to_json()).template.attrs["grid_mapping"] == "crs"


def test_label_returns_stored_orientation_and_land() -> None:
    da = field([10, 0], [350, 0])
    grid = Grid.from_array(da).horizontal().with_mask(np.array([[True, True], [False, True]]))
    values = np.arange(8.0).reshape(2, 2, 2)
    out = grid.label(values, ("lead",), coords={"lead": [1, 2]}, name="f", attrs={"units": "K"})
    assert out.dims == ("lead", "lat", "lon")
    np.testing.assert_array_equal(out.sel(lat=0, lon=350), values[:, 0, 0])
    np.testing.assert_array_equal(out.sel(lat=10, lon=0), values[:, 1, 1])
    assert np.isnan(out.sel(lat=10, lon=350)).all()
    assert out.name == "f"
    assert out.attrs == {"units": "K"}
    assert not np.isnan(values).any()
    bare = grid.label(torch.from_numpy(values), ("lead",))
    np.testing.assert_array_equal(bare, out)
    assert bare.attrs == {}


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"axes": {"q": 1}}', "null"])
def test_damaged_json_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="expected the JSON of Grid"):
        Grid.from_json(text)


def test_json_keeps_bits() -> None:
    lat = np.array([0.1, 1 / 3, np.pi]).astype("f4")
    da = field(lat, [0, 0.1 + 0.2]).assign_coords(lat=("lat", lat, LAT))
    grid = Grid.from_array(da).horizontal()
    back = Grid.from_json(grid.to_json())
    assert back.template["lat"].dtype == np.float32
    assert_same(back.template, grid.template)


def test_undecoded_fill_values_of_floats_are_refused() -> None:
    da = field([0, 10], [0, 10]).assign_attrs(_FillValue=1e20)
    assert to_tensor(da).mask.all()
    da[0, 0, 0] = 1e20
    with pytest.raises(MissingDataError, match=r"'sst'.*undecoded fill value 1e\+20"):
        to_tensor(da)


def test_quantities_are_not_stripped() -> None:
    import pint

    da = field([0, 10], [0, 10])
    wrapped = da.copy(data=pint.Quantity(da.values, "K"))
    with pytest.raises(TypeError, match="found pint"):
        to_tensor(wrapped)


def test_no_times_at_all() -> None:
    da = field([0, 10], [0, 10]).isel(time=slice(0, 0))
    assert to_tensor(da).tensor.shape == (1, 0, 2, 2, 1)
    assert_roundtrip(da)


def test_dataset_prediction_of_another_length() -> None:
    land = field([0, 10], [0, 10])
    land = land.where(land.lat + land.lon > 0)
    ds = land.to_dataset()
    ds["index"] = ("time", [1.0, 2.0, 3.0])
    ds["depth"] = (("lat", "lon"), np.ones((2, 2)))
    ds["time_bnds"] = (("time", "bnds"), np.zeros((3, 2)))
    ds["time"].attrs["bounds"] = "time_bnds"
    labeled = to_tensor(ds)
    found = labeled.to_array(labeled.tensor[:, :2])
    assert list(found.data_vars) == ["sst", "index", "depth"]
    assert found["sst"].shape == (2, 2, 2)
    np.testing.assert_array_equal(found["index"], [1.0, 2.0])
    # Each variable has its own land; the grid's mask is that of the fields together.
    np.testing.assert_array_equal(found["sst"].isnull(), land[:2].isnull())
    assert found["depth"].notnull().all()
    assert labeled.grid.mask.all()
    only = to_tensor(ds.drop_vars("depth"))
    np.testing.assert_array_equal(only.grid.mask, [[False, True], [True, True]])
    again = only.grid.to_array(only.tensor[:, :2])
    np.testing.assert_array_equal(again["index"], [1.0, 2.0])
    assert again["sst"][0].isnull().sum() == 1


def test_meta_device() -> None:
    labeled = to_tensor(field([0, 10], [0, 10]), device="meta", dtype="float16")
    assert labeled.tensor.device.type == labeled.mask.device.type == "meta"
    assert labeled.tensor.dtype == torch.float16
