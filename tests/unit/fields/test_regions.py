"""Box means against published indices, and on every kind of grid against brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.data.sources import samples
from xearth.errors import AxisError, MissingDataError, RegionError
from xearth.fields.regions import NINO3, NINO4, NINO12, NINO34, TROPICS, Box, box_mean
from xearth.fields.weights import (
    EARTH_RADIUS,
    cell_area,
    cos_lat_weights,
    latitude_edges,
    longitude_edges,
)

DATA = Path(__file__).parents[2] / "data"
NORTH = {"units": "degrees_north", "standard_name": "latitude"}
EAST = {"units": "degrees_east", "standard_name": "longitude"}


def grid(lat, lon, values=None, dims=("lat", "lon")):
    shape = (len(lat), len(lon))
    data = np.zeros(shape) if values is None else values
    coords = {"lat": ("lat", lat, NORTH), "lon": ("lon", lon, EAST)}
    return xr.DataArray(data, coords, ("lat", "lon"), "sst").transpose(*dims)


def globe(step=2.5, first_lon=0.0):
    lat = np.arange(-90 + step / 2, 90, step)
    lon = np.arange(first_lon + step / 2, first_lon + 360, step)
    phi, theta = np.deg2rad(lat)[:, None], np.deg2rad(lon)[None, :]
    return grid(lat, lon, np.sin(3 * phi) + np.cos(phi) * np.cos(2 * theta + 0.3))


def fine_mean(da, box, n=400):
    """Mean of the cell values at many points spread evenly over the area of the box."""
    middle = (np.arange(n) + 0.5) / n
    s, t = np.sin(np.deg2rad([box.south, box.north]))
    lat = np.rad2deg(np.arcsin(s + middle * (t - s)))
    lon = box.west + middle * box.width
    rows = np.abs(da.lat.values[:, None] - lat[None]).argmin(axis=0)
    apart = (da.lon.values[:, None] - lon[None] + 180) % 360 - 180
    columns = np.abs(apart).argmin(axis=0)
    return float(da.transpose("lat", "lon").values[np.ix_(rows, columns)].mean())


def test_oisst_grid_gives_the_published_nino34():
    index = box_mean(samples.open("oisst"), NINO34)
    published = samples.open("oisst_nino34").sel(time=index.time)
    difference = index - published
    assert abs(difference).max() < 0.01
    assert float(difference.mean()) == pytest.approx(-0.0055, abs=5e-4)


@pytest.mark.parametrize(
    ("box", "name", "tolerance"), [(NINO3, "nino3", 0.01), (NINO34, "nino34", 0.02)]
)
def test_oisst_grid_gives_the_indices_of_cpc(box, name, tolerance):
    index = box_mean(samples.open("oisst"), box)
    published = samples.open("cpc_nino")[name].sel(time=index.time)
    assert abs(index - published).max() < tolerance


def test_nino12_next_to_land_is_near_that_of_cpc():
    index = box_mean(samples.open("oisst"), NINO12)
    published = samples.open("cpc_nino").nino12.sel(time=index.time)
    assert abs(index - published).max() < 0.06


def test_ostia_grid_across_greenwich_and_dateline():
    sst = xr.open_dataset(DATA / "ostia_monthly.nc").surface_temperature
    index = box_mean(sst, NINO34)
    published = samples.open("oisst_nino34")
    months = index.time.values.astype("M8[M]")
    known = published.time.values.astype("M8[M]")
    truth = published.values[np.searchsorted(known, months)] + 273.15
    assert np.corrcoef(index.values, truth)[0, 1] > 0.995
    assert float((index.values - truth).mean()) == pytest.approx(-0.12, abs=0.02)
    assert "97.2%" in index.attrs["comment"]


@pytest.mark.parametrize("box", [NINO12, NINO3, NINO34, NINO4, TROPICS])
def test_constant_field_has_its_constant_as_mean(box):
    da = globe() * 0 + 3.25
    assert box_mean(da, box).item() == pytest.approx(3.25, rel=1e-14)
    assert float(box.weights(da).sum()) == pytest.approx(1, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    south=st.floats(-80, 60),
    height=st.floats(3, 25),
    west=st.floats(-180, 360),
    width=st.floats(3, 359),
    first_lon=st.sampled_from([0.0, -180.0, 100.0]),
    flip=st.booleans(),
    transposed=st.booleans(),
)
def test_partial_cells_are_exact(south, height, west, width, first_lon, flip, transposed):
    da = globe(first_lon=first_lon)
    if flip:
        da = da.isel(lat=slice(None, None, -1))
    box = Box(south, south + height, west, west + width)
    mean = box_mean(da.transpose("lon", "lat") if transposed else da, box)
    assert mean.item() == pytest.approx(fine_mean(da, box), abs=0.02)
    assert float(box.weights(da).sum()) == pytest.approx(1, rel=1e-9)


def test_partial_cells_in_closed_form():
    da = grid([-7.5, -2.5, 2.5, 7.5], [5.0, 15.0, 25.0], np.arange(12.0).reshape(4, 3))
    box = Box(-6, 1, 8, 30)
    band = np.sin(np.deg2rad([-6, -5, 0, 1]))
    w = np.diff(band)[:, None] * np.array([2.0, 10.0, 10.0])[None]
    expected = (w * da.values[:3]).sum() / w.sum()
    assert box_mean(da, box).item() == pytest.approx(expected, rel=1e-13)


def test_longitude_conventions_and_rolled_columns_agree():
    da = globe()
    shifted = da.assign_coords(lon=("lon", (da.lon.values + 180) % 360 - 180, EAST))
    rolled = shifted.roll(lon=60, roll_coords=True)
    for other in (shifted.sortby("lon"), rolled, da.isel(lon=slice(None, None, -1))):
        for box in (NINO34, NINO4, TROPICS, Box(10, 20, 340, 20)):
            assert box_mean(other, box).item() == pytest.approx(box_mean(da, box).item(), rel=1e-12)


def test_bounds_of_a_dataset_win_over_midpoints():
    lat, lon = [-4.0, -1.0, 5.0], [0.0, 1.0, 2.5, 5.0]
    da = grid(lat, lon, np.arange(12.0).reshape(3, 4))
    da.lat.attrs["bounds"], da.lon.attrs["bounds"] = "lat_bnds", "lon_bnds"
    lat_bnds = np.array([[-5, -3], [-3, 2], [2, 8]], float)
    lon_bnds = np.array([[-1, 0.5], [0.5, 2], [2, 3.5], [3.5, 7]], float)
    ds = da.to_dataset().assign(
        lat_bnds=(("lat", "bnds"), lat_bnds), lon_bnds=(("lon", "bnds"), lon_bnds)
    )
    box = Box(-4, 3, 0, 5)
    band = np.diff(np.sin(np.deg2rad([-4, -3, 2, 3])))
    w = band[:, None] * np.array([0.5, 1.5, 1.5, 1.5])
    expected = (w * da.values).sum() / w.sum()
    assert box_mean(ds, box).sst.item() == pytest.approx(expected, rel=1e-13)
    assert box_mean(da, box).item() != pytest.approx(expected, rel=1e-3)
    with_swapped = ds.assign(lat_bnds=(("lat", "bnds"), lat_bnds[:, ::-1]))
    assert box_mean(with_swapped, box).sst.item() == pytest.approx(expected, rel=1e-13)


def test_bounds_across_the_seam():
    da = grid([0.0, 10.0], [0.0, 120.0, 240.0])
    da.lon.attrs["bounds"] = "lon_bnds"
    bounds = np.array([[300.0, 60.0], [60.0, 180.0], [180.0, 300.0]])
    ds = da.to_dataset().assign(lon_bnds=(("lon", "bnds"), bounds))
    assert np.diff(longitude_edges(ds, "lon")).ravel().tolist() == [120.0] * 3
    assert float(Box(-5, 15, 0, 360).weights(ds).sum()) == pytest.approx(1)


def test_land_is_left_out_and_the_rest_reweighted():
    da = globe()
    land = (da.lat > 0) & (da.lat < 3)
    mean = box_mean(da.where(~land), NINO34)
    weights = NINO34.weights(da).where(~land, 0)
    assert mean.item() == pytest.approx(float((da * weights).sum() / weights.sum()), rel=1e-12)


def test_a_missing_step_is_nan_and_a_box_of_land_an_error():
    da = globe().expand_dims(time=3).copy()
    da[1] = np.nan
    assert np.isnan(box_mean(da, NINO34).values).tolist() == [False, True, False]
    with pytest.raises(MissingDataError, match="nino34"):
        box_mean(da * np.nan, NINO34)


def test_a_box_beyond_the_grid_says_where_the_grid_is():
    sst = samples.open("kaplan_sst")
    with pytest.raises(RegionError, match=r"60\.0% of the box.*182\.5 to 287\.5"):
        box_mean(sst, NINO4)
    with pytest.raises(RegionError, match=r"0\.0%"):
        box_mean(sst, Box(40, 50, 0, 10))


def test_a_cyclic_column_is_refused():
    da = globe()
    cyclic = xr.concat([da, da.isel(lon=[0]).assign_coords(lon=[361.25])], "lon")
    cyclic.lon.attrs.update(EAST)
    with pytest.raises(RegionError, match="overlap"):
        box_mean(cyclic, TROPICS)


@pytest.mark.parametrize(
    ("args", "text"),
    [((5, -5, 0, 10), "south < north"), ((-95, 0, 0, 10), "-95"), ((0, 1, 0, np.inf), "finite")],
)
def test_impossible_boxes(args, text):
    with pytest.raises(RegionError, match=text):
        Box(*args)


def test_a_single_cell_without_bounds_has_no_size():
    with pytest.raises(AxisError, match="bounds"):
        NINO34.weights(globe().isel(lat=[36]))


def test_columns_out_of_order_are_refused():
    with pytest.raises(AxisError, match="sortby"):
        NINO34.weights(globe().isel(lat=[1, 0, 2]))


def test_a_curvilinear_grid_counts_centers():
    flat = globe(1.0)
    lat2, lon2 = np.meshgrid(flat.lat, flat.lon, indexing="ij")
    da = xr.DataArray(
        flat.values,
        {"tlat": (("j", "i"), lat2, NORTH), "tlon": (("j", "i"), lon2, EAST)},
        ("j", "i"),
    )
    inside = (abs(lat2) < 5) & (lon2 > 190) & (lon2 < 240)
    w = np.where(inside, np.cos(np.deg2rad(lat2)), 0)
    expected = (w * flat.values).sum() / w.sum()
    assert box_mean(da, NINO34).item() == pytest.approx(expected, rel=1e-12)
    assert box_mean(da, NINO34).item() == pytest.approx(box_mean(flat, NINO34).item(), abs=1e-3)
    with pytest.raises(RegionError, match="covers"):
        box_mean(da.isel(i=slice(0, 210)), NINO34)
    with pytest.raises(RegionError, match="no cell center"):
        box_mean(da, Box(0.1, 0.3, 0.1, 0.3))


def test_a_rotated_grid_with_missing_corners_still_covers():
    a, b = np.meshgrid(np.arange(-30, 31.0), np.arange(-60, 61.0), indexing="ij")
    angle = np.deg2rad(20)
    lat2 = a * np.cos(angle) - b * np.sin(angle)
    lon2 = 215 + a * np.sin(angle) + b * np.cos(angle)
    lat2[0, :4] = np.nan
    coords = {"tlat": (("j", "i"), lat2, NORTH), "tlon": (("j", "i"), lon2, EAST)}
    da = xr.DataArray(np.cos(np.deg2rad(np.nan_to_num(lat2))), coords, ("j", "i"))
    assert box_mean(da, NINO34).item() == pytest.approx(0.9987, abs=2e-4)


def test_dask_stays_lazy_and_gives_the_same():
    sst = samples.open("oisst", chunks={"time": 50, "lon": 40})
    lazy = box_mean(sst, NINO34)
    assert lazy.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), box_mean(sst.compute(), NINO34), rtol=1e-13)


def test_the_mean_sets_its_own_attributes():
    mean = box_mean(samples.open("kaplan_sst"), NINO34)
    assert mean.attrs["units"] == "K"
    assert mean.attrs["units_metadata"] == "temperature: difference"
    assert mean.attrs["base_period"] == "1951-01/1980-12"
    assert mean.attrs["long_name"].endswith("mean over nino34 (5S-5N, 170W-120W)")
    assert mean.attrs["cell_methods"] == "time: mean area: mean"
    assert "title" not in mean.attrs


def test_other_dimensions_are_kept():
    da = globe().expand_dims(depth=2, quantile=3)
    assert box_mean(da, NINO34).dims == ("depth", "quantile")


def test_area_of_the_globe_and_of_one_cell():
    area = cell_area(globe())
    assert float(area.sum()) == pytest.approx(4 * np.pi * EARTH_RADIUS**2, rel=1e-12)
    one = EARTH_RADIUS**2 * np.deg2rad(2.5) * np.sin(np.deg2rad(2.5))
    assert area.sel(lat=1.25, lon=1.25).item() == pytest.approx(one, rel=1e-12)
    assert area.attrs["units"] == "m2"


def test_cos_lat_approximates_area():
    da = globe(1.0)
    area, cosine = cell_area(da).isel(lon=0, drop=True), cos_lat_weights(da)
    xr.testing.assert_allclose(area / area.sum(), cosine / cosine.sum(), rtol=1e-4)
    assert cosine.dims == ("lat",)
    assert cosine.attrs["units"] == "1"


def test_area_needs_one_dimensional_coordinates():
    lat2, lon2 = np.meshgrid([0.0, 1.0], [0.0, 1.0], indexing="ij")
    coords = {"tlat": (("j", "i"), lat2, NORTH), "tlon": (("j", "i"), lon2, EAST)}
    with pytest.raises(AxisError, match="1-D"):
        cell_area(xr.DataArray(lat2, coords, ("j", "i")))


def test_latitude_edges_stop_at_the_poles():
    da = grid(np.linspace(-90, 90, 19), np.arange(0, 360, 10.0))
    edges = latitude_edges(da, "lat")
    assert edges.min() == -90
    assert edges.max() == 90
    assert float(cell_area(da).sum()) == pytest.approx(4 * np.pi * EARTH_RADIUS**2, rel=1e-12)


def test_a_hole_in_the_grid_is_not_covered():
    da = globe(2.5)
    holed = da.isel(lon=np.r_[0:80, 92:144])
    with pytest.raises(RegionError, match="covers"):
        box_mean(holed, NINO34)
    assert box_mean(holed, NINO12).item() == pytest.approx(box_mean(da, NINO12).item(), rel=1e-12)


def test_cells_may_widen_along_the_grid():
    lat = np.cumsum(np.geomspace(0.3, 2.0, 40)) - 20
    edges = latitude_edges(grid(lat, np.arange(0, 360, 5.0)), "lat")
    np.testing.assert_allclose(edges[1:, 0], edges[:-1, 1], rtol=1e-12)
    np.testing.assert_allclose(edges[1:, 0], (lat[1:] + lat[:-1]) / 2, rtol=1e-12)


def test_a_region_across_the_dateline_stored_sorted_is_the_same_region():
    sst = samples.open("oisst").isel(time=[0, 1]).load()
    turned = sst.assign_coords(lon=("lon", (sst.lon.values + 180) % 360 - 180, EAST)).sortby("lon")
    assert turned.lon[0] < -170
    assert turned.lon[-1] > 170
    for box in (NINO34, NINO4):  # Nino4 lies on both sides
        xr.testing.assert_allclose(box_mean(turned, box), box_mean(sst, box), rtol=1e-12)
    xr.testing.assert_allclose(cell_area(turned).sum(), cell_area(sst).sum(), rtol=1e-12)


def test_an_index_has_seen_what_its_field_has_seen():
    lat, lon = np.arange(-10.0, 11.0, 5.0), np.arange(180.0, 251.0, 5.0)
    field = xr.DataArray(
        np.ones((lat.size, lon.size)),
        {
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
        ("lat", "lon"),
        attrs={"units": "K", "xearth_training_period": "1856-01/1981-12", "forecaster": "lim"},
    )
    index = box_mean(field, NINO34)
    assert index.attrs["xearth_training_period"] == "1856-01/1981-12"
    assert index.attrs["forecaster"] == "lim"
