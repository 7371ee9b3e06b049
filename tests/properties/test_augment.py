"""Mirrored and turned maps: a group, with one meaning for labeled maps and tensors."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.cf.discover import discover
from xearth.data.augment import SYMMETRIES, Symmetry, draw
from xearth.data.grid import Grid
from xearth.data.loader import Windows
from xearth.data.sources import samples
from xearth.data.windows import Window
from xearth.errors import AxisError, ConfigError

symmetries = st.sampled_from(SYMMETRIES)


@st.composite
def maps(draw_one) -> xr.DataArray:
    """Return a map on y and x, either way up, with lat and lon or without, missing cells too."""
    height, width = draw_one(st.integers(2, 5)), draw_one(st.integers(2, 5))
    values = np.arange(2.0 * height * width).reshape(2, height, width)
    values[draw_one(st.integers(0, 1)), draw_one(st.integers(0, height - 1)), 0] = np.nan
    dims = draw_one(st.permutations(["time", "y", "x"]))
    da = xr.DataArray(values, dims=("time", "y", "x"), name="rain", attrs={"units": "mm h-1"})
    y, x = np.arange(height) * 2000.0 - 7e5, np.arange(width) * 1000.0 + 3e5
    y = y[::-1] if draw_one(st.booleans()) else y
    x = x[::-1] if draw_one(st.booleans()) else x
    if draw_one(st.booleans()):
        da = da.assign_coords(
            y=("y", y, {"standard_name": "projection_y_coordinate", "units": "m"}),
            x=("x", x, {"standard_name": "projection_x_coordinate", "units": "m"}),
        )
    else:
        da = da.assign_coords(
            y=("y", y, {"axis": "Y"}),
            x=("x", x, {"axis": "X"}),
        )
    if draw_one(st.booleans()):
        lat, lon = np.meshgrid(50 + (y + 7e5) / 1e5, 5 + (x - 3e5) / 1e5, indexing="ij")
        da = da.assign_coords(
            lat=(("y", "x"), lat, {"standard_name": "latitude", "units": "degrees_north"}),
            lon=(("y", "x"), lon, {"standard_name": "longitude", "units": "degrees_east"}),
        )
    time = np.datetime64("2020-01-01", "ns") + np.arange(2) * np.timedelta64(300, "s")
    return da.assign_coords(time=("time", time, {"standard_name": "time"})).transpose(*dims)


@given(maps(), symmetries)
@settings(max_examples=30, deadline=None)
def test_the_inverse_brings_everything_back(da, one):
    back = one.inverse.apply(one.apply(da))
    assert back.dims == da.dims
    np.testing.assert_array_equal(back, da)
    for name in da.coords:
        np.testing.assert_array_equal(back[name], da[name])
    assert "symmetry" not in back.attrs


@given(maps(), symmetries)
@settings(max_examples=30, deadline=None)
def test_labeled_maps_and_tensors_agree(da, one):
    moved = one.apply(da)
    tensor = Grid.from_array(da).to_tensor(da)
    expected = one.tensor(tensor)
    found = Grid.from_array(moved).to_tensor(moved)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(one.tensor(tensor.numpy()), expected)


@given(maps(), symmetries, symmetries)
@settings(max_examples=30, deadline=None)
def test_one_after_another_is_one(da, first, second):
    both = first.then(second)
    tensor = Grid.from_array(da).values(da)
    np.testing.assert_array_equal(second.tensor(first.tensor(tensor)), both.tensor(tensor))
    xr.testing.assert_identical(second.apply(first.apply(da)), both.apply(da))


@given(maps(), symmetries)
@settings(max_examples=30, deadline=None)
def test_every_value_keeps_its_place_on_earth_and_its_distance_from_the_center(da, one):
    moved = one.apply(da)
    flat, other = (
        o.isel(time=0).drop_vars("time").to_dataframe().reset_index().set_index("rain")
        for o in (da.fillna(-1), moved.fillna(-1))
    )
    other = other.loc[flat.index]
    if "lat" in da.coords:
        np.testing.assert_array_equal(other.lat, flat.lat)
        np.testing.assert_array_equal(other.lon, flat.lon)
    middle = [(da[d].values[0] + da[d].values[-1]) / 2 for d in "xy"]
    z, w = ((f.x - middle[0] + 1j * (f.y - middle[1])).to_numpy() for f in (flat, other))
    turned = (-z.conj() if one.mirror else z) * 1j**one.turns
    np.testing.assert_allclose(w, turned, atol=1e-6)


def test_the_eight_are_a_group():
    assert len(set(SYMMETRIES)) == 8
    for one in SYMMETRIES:
        assert one.then(one.inverse) == one.inverse.then(one) == Symmetry()
        assert {one.then(other) for other in SYMMETRIES} == set(SYMMETRIES)
    assert Symmetry(turns=7) == Symmetry(turns=3)


def test_maps_without_coordinates_are_numbered():
    da = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("y", "x"))
    da = da.assign_coords(
        lat=(("y", "x"), [[51.0] * 3, [50.0] * 3], {"units": "degrees_north"}),
        lon=(("y", "x"), [[4.0, 5.0, 6.0]] * 2, {"units": "degrees_east"}),
    )
    tensor = Grid.from_array(da).to_tensor(da)  # north is first on file: turned over
    for one in SYMMETRIES:
        moved = one.apply(da)
        found = Grid.from_array(moved).to_tensor(moved)
        np.testing.assert_array_equal(found, one.tensor(tensor))


def test_a_dataset_is_carried_as_a_whole_and_lazily():
    rain = samples.open("knmi_radar", chunks={"time": 12})
    ds = xr.Dataset({"rain": rain, "series": ("time", np.arange(92.0))})
    turned = Symmetry(mirror=True, turns=1).apply(ds)
    assert turned.rain.chunks is not None
    assert turned.rain.shape == (92, 209, 208)
    xr.testing.assert_identical(turned.series.variable, ds.series.variable)
    for moved in (turned.rain, Symmetry(mirror=True).apply(rain)):
        assert "grid_mapping" not in moved.encoding
        assert "crs" not in moved.coords
    assert rain.encoding["grid_mapping"] == "crs"
    assert "symmetry" not in rain.attrs
    assert "standard_name" not in turned.x.attrs
    assert turned.symmetry == "mirrored east-west, then turned by 90 degrees counterclockwise"
    axes = discover(turned)
    assert (axes.y, axes.x, axes.lat) == ("y", "x", "lat")


def test_batches_are_carried_with_their_masks():
    rain = samples.open("knmi_radar").isel(y=slice(0, 40), x=slice(0, 40))
    batch = Windows(rain, Window(2, 1)).batch([0, 5])
    one = Symmetry(turns=1)
    moved = one.batch(batch)
    for name in ("x", "y", "mask_x", "mask_y"):
        np.testing.assert_array_equal(getattr(moved, name), one.tensor(getattr(batch, name)))
    assert moved.month is batch.month
    labeled = Windows(one.apply(rain), Window(2, 1)).batch([0, 5])
    np.testing.assert_array_equal(labeled.x, moved.x)
    np.testing.assert_array_equal(labeled.mask_y, moved.mask_y)


def test_all_are_drawn_and_only_those_that_fit():
    rng = np.random.default_rng(0)
    assert {draw(rng) for _ in range(200)} == set(SYMMETRIES)
    assert {draw(rng, shape=(4, 4)) for _ in range(200)} == set(SYMMETRIES)
    oblong = {draw(rng, shape=(4, 5)) for _ in range(200)}
    assert oblong == {one for one in SYMMETRIES if one.turns in (0, 2)}


def test_what_cannot_be_carried_is_refused():
    with pytest.raises(AxisError, match="whose width changes"):
        Symmetry(turns=1).apply(samples.open("kaplan_sst"))
    wind = samples.open("knmi_radar").assign_attrs(standard_name="eastward_wind")
    with pytest.raises(ConfigError, match="new signs"):
        Symmetry(mirror=True).apply(wind)
    with pytest.raises(ConfigError, match=r"turns=0\.5"):
        Symmetry(turns=0.5)
