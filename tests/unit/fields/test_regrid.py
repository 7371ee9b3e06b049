"""Conservative regridding against closed forms, brute force and its own conservation law."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.errors import AxisError, ConfigError, GridMismatchError
from xearth.fields.regrid import Regridder, covered_fraction, regrid
from xearth.fields.weights import cell_area
from xearth.testing.assertions import raise_if_dask_computes


def grid(lat, lon, values=None, lead=(), **attrs):
    """A field (..., lat, lon) in float64."""
    lat, lon = np.asarray(lat, float), np.asarray(lon, float)
    shape = (*(n for _, n in lead), lat.size, lon.size)
    return xr.DataArray(
        np.zeros(shape) if values is None else np.asarray(values, float).copy(),
        dims=(*(name for name, _ in lead), "lat", "lon"),
        coords={
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
        name="sst",
        attrs={"units": "K", "cell_methods": "time: mean", **attrs},
    )


def globe(rows, columns, start=0.0):
    """A global grid of even cells."""
    lat = -90 + 180 * (np.arange(rows) + 0.5) / rows
    lon = start + 360 * (np.arange(columns) + 0.5) / columns
    return lat, lon


def noise(lat, lon, seed=0, **kwargs):
    values = np.random.default_rng(seed).standard_normal((len(lat), len(lon)))
    return grid(lat, lon, values, **kwargs)


def integral(field):
    return float((field.fillna(0.0) * cell_area(field)).sum())


def test_a_mean_over_halves_of_cells_by_hand():
    fine = grid([0.5, 1.5], [0.5, 1.5, 2.5], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    coarse = grid([1.0, 3.0], [1.0, 3.0])  # cells 0..2 and 2..4
    found = regrid(fine, coarse)
    low, high = np.sin(np.deg2rad(1.0)), np.sin(np.deg2rad(2.0)) - np.sin(np.deg2rad(1.0))
    west = (low * 1.5 + high * 4.5) / (low + high)
    east = (low * 3.0 + high * 6.0) / (low + high)
    np.testing.assert_allclose(found.values[0], [west, east], rtol=1e-14)
    assert np.isnan(found.values[1]).all()
    np.testing.assert_allclose(covered_fraction(fine, coarse).values[0], [1.0, 0.5], rtol=1e-12)


@pytest.mark.parametrize("start", [0.0, -180.0, 33.0])
@pytest.mark.parametrize("flip", [False, True])
def test_global_grids_keep_constants_and_the_area_integral(start, flip):
    lat, lon = globe(36, 72)
    fine = noise(lat[::-1] if flip else lat, lon)
    coarse = grid(*globe(11, 17, start))
    found = regrid(fine, coarse)
    assert abs(integral(found) - integral(fine)) < 1e-12 * abs(fine * cell_area(fine)).sum()
    same = regrid(fine.copy(data=np.full(fine.shape, 7.25)), coarse)
    np.testing.assert_allclose(same.values, 7.25, rtol=1e-13)
    np.testing.assert_allclose(covered_fraction(fine, coarse).values, 1.0, rtol=1e-12)


def test_rows_on_the_poles_are_half_cells():
    fine = noise(np.linspace(-90, 90, 37), np.arange(0.0, 360.0, 5.0))
    coarse = grid(*globe(12, 24))
    assert abs(integral(regrid(fine, coarse)) - integral(fine)) < 1e-12 * integral(abs(fine))


def test_the_same_grid_in_another_order_is_the_same_field():
    lat, lon = globe(18, 36)
    field = noise(lat, lon)
    field[3, 4] = np.nan
    turned = field.isel(lat=slice(None, None, -1)).roll(lon=10, roll_coords=True)
    turned = turned.assign_coords(lon=turned.lon.copy(data=(turned.lon.values + 180) % 360 - 180))
    xr.testing.assert_allclose(regrid(turned, field), field, rtol=1e-13, atol=1e-14)
    xr.testing.assert_allclose(regrid(field, field), field, rtol=1e-13, atol=1e-14)


def test_coarse_cells_are_copied_to_the_fine_ones_inside_them():
    coarse = noise(*globe(6, 12))
    fine = regrid(coarse, grid(*globe(18, 36)))
    np.testing.assert_allclose(fine.values, np.kron(coarse.values, np.ones((3, 3))), rtol=1e-13)
    xr.testing.assert_allclose(regrid(fine, coarse), coarse, rtol=1e-13)  # and back


def test_regions_across_the_dateline_and_greenwich():
    lat, lon = globe(36, 72)
    whole = noise(lat, lon)
    for west in (160.0, 340.0):
        target = grid(np.arange(-25.0, 30.0, 10.0), (west + np.arange(5.0, 60.0, 10.0)) % 360)
        part = whole.sel(lat=slice(-30, 30)).roll(lon=36 if west > 200 else 0, roll_coords=True)
        expected = regrid(whole, target)
        found = regrid(part, target.assign_coords(lon=(target.lon + 180) % 360 - 180))
        # the convention of the target is that of its own coordinates
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-13)
        assert expected.notnull().all()


def test_missing_cells_are_weighted_out():
    lat, lon = globe(4, 8)
    fine = noise(lat, lon)
    fine[0:2, 0] = np.nan  # the western half of the first coarse cell
    fine[2:4, 0:2] = np.nan
    coarse = grid(*globe(2, 4))
    found = regrid(fine, coarse)
    area = cell_area(fine).isel(lat=slice(0, 2), lon=1)
    by_hand = float((fine.isel(lat=slice(0, 2), lon=1) * area).sum() / area.sum())
    assert float(found[0, 0]) == pytest.approx(by_hand, rel=1e-13)
    assert np.isnan(found[1, 0])
    assert np.isnan(regrid(fine, coarse, minimum_covered=0.51)[0, 0])
    part = covered_fraction(fine, coarse)
    assert part.values[:, 0].tolist() == pytest.approx([0.5, 0.0])
    # what is known is conserved, each mean counted with its known part
    assert integral(found * part) == pytest.approx(integral(fine), rel=1e-12)


def test_other_dims_labels_and_float32():
    lat, lon = globe(6, 12)
    field = noise(lat, lon).expand_dims(time=[0, 1, 2]).transpose("lat", "time", "lon")
    field.time.attrs["long_name"] = "number"
    field = field.astype("float32").assign_attrs(units="degC", cell_methods="time: mean")
    found = regrid(field, grid(*globe(3, 4)))
    assert found.dims == ("time", "lat", "lon")
    assert found.dtype == np.float32
    assert found.name == "sst"
    assert found.attrs["units"] == "degC"
    assert found.attrs["cell_methods"] == "time: mean area: mean"
    assert "6 x 12 cells over 3 x 4" in found.attrs["history"]
    assert list(found.coords) == ["time", "lat", "lon"]
    assert found.time.attrs == {"long_name": "number"}
    part = covered_fraction(field, grid(*globe(3, 4)))
    assert part.attrs == {"long_name": "known part of the area of the grid cell", "units": "1"}
    assert part.time.attrs == {"long_name": "number"}


def test_dask_stays_lazy_and_gives_the_same_numbers():
    lat, lon = globe(18, 36)
    values = np.random.default_rng(0).standard_normal((6, 18, 36))
    values[:, 4:6, 3] = np.nan
    field = grid(lat, lon, values, lead=(("time", 6),))
    target = grid(*globe(7, 9))
    with raise_if_dask_computes():
        lazy = regrid(field.chunk(time=2, lat=5, lon=7), target)
        part = covered_fraction(field.chunk(time=2), target)
    assert lazy.chunks[0] == (2, 2, 2)
    xr.testing.assert_allclose(lazy.compute(), regrid(field, target), rtol=1e-13)
    xr.testing.assert_allclose(part.compute(), covered_fraction(field, target))


def test_a_dataset_takes_along_what_is_not_on_the_grid():
    lat, lon = globe(6, 12)
    ds = xr.Dataset({"sst": noise(lat, lon), "wwv": ("time", [1.0, 2.0])}, attrs={"title": "t"})
    target = grid(*globe(3, 4))
    found = regrid(ds, target)
    assert found.wwv.identical(ds.wwv)
    assert found.attrs == {"title": "t"}
    xr.testing.assert_allclose(found.sst, regrid(ds.sst, target))


def test_bounds_of_a_dataset_are_used():
    ds = xr.Dataset({"sst": grid([1.0, 5.0], [10.0, 20.0], [[1.0, 2.0], [3.0, 4.0]])})
    ds["lat_bnds"] = (("lat", "bnds"), [[0.0, 2.0], [2.0, 8.0]])
    ds.lat.attrs["bounds"] = "lat_bnds"
    target = xr.Dataset({"x": grid([4.0], [10.0])})
    target["lat_bnds"] = (("lat", "bnds"), [[0.0, 8.0]])
    target["lon_bnds"] = (("lon", "bnds"), [[5.0, 15.0]])
    target.lat.attrs["bounds"], target.lon.attrs["bounds"] = "lat_bnds", "lon_bnds"
    low, high = np.sin(np.deg2rad(2.0)), np.sin(np.deg2rad(8.0))
    expected = (1.0 * low + 3.0 * (high - low)) / high
    assert regrid(ds, target).sst.item() == pytest.approx(expected, rel=1e-14)


def test_refusals_teach():
    field, target = noise(*globe(6, 12)), grid(*globe(3, 4))
    with pytest.raises(GridMismatchError, match="in common") as caught:
        regrid(field.sel(lat=slice(0, 90)), grid([-30.0, -20.0], [0.0, 10.0]))
    assert "latitude -30 to -20" in str(caught.value)
    cyclic = xr.concat([field, field.isel(lon=[0]).assign_coords(lon=[375.0])], "lon")
    cyclic.lon.attrs["units"] = "degrees_east"
    with pytest.raises(GridMismatchError, match=r"isel\(lon=slice\(None, -1\)\)"):
        regrid(cyclic, target)
    curved = xr.DataArray(
        np.zeros((2, 2)),
        dims=("y", "x"),
        coords={
            "lat": (("y", "x"), [[0.0, 0.0], [1.0, 1.0]], {"units": "degrees_north"}),
            "lon": (("y", "x"), [[0.0, 1.0], [0.0, 1.0]], {"units": "degrees_east"}),
        },
    )
    with pytest.raises(AxisError, match="1-D"):
        regrid(curved, target)
    for wrong in (0.0, 1.5, -1):
        with pytest.raises(ConfigError, match="minimum_covered"):
            regrid(field, target, minimum_covered=wrong)
    with pytest.raises(GridMismatchError, match="expected the cells"):
        Regridder.between(field, target)(field.isel(lat=slice(2)))


edges = st.lists(st.floats(0.5, 1.0), min_size=4, max_size=9)  # cells under 180 degrees


@st.composite
def uneven(draw):
    """A global Dataset with uneven cells given by bounds, stored in any order and convention."""
    rows, columns = np.array(draw(edges)), np.array(draw(edges))
    lat = -90 + 180 * np.concatenate([[0], np.cumsum(rows) / rows.sum()]).clip(0, 1)
    lon = 360 * np.concatenate([[0], np.cumsum(columns) / columns.sum()])
    lon += draw(st.floats(-400, 400))
    seed, shift = draw(st.integers(0, 9)), draw(st.integers(0, columns.size - 1))
    values = np.random.default_rng(seed).standard_normal((rows.size, columns.size))
    ds = xr.Dataset({"x": grid((lat[1:] + lat[:-1]) / 2, (lon[1:] + lon[:-1]) / 2, values)})
    ds["lat_b"] = (("lat", "b"), np.stack([lat[:-1], lat[1:]], 1))
    ds["lon_b"] = (("lon", "b"), np.stack([lon[:-1], lon[1:]], 1))
    ds.lat.attrs["bounds"], ds.lon.attrs["bounds"] = "lat_b", "lon_b"
    ds = ds.roll(lon=shift, roll_coords=True)
    return ds.isel(lat=slice(None, None, -1)) if draw(st.booleans()) else ds


@settings(max_examples=60, deadline=None)
@given(uneven(), uneven())
def test_any_two_global_grids(source, target):
    found = regrid(source, target).x
    mine, its = cell_area(source), cell_area(target)
    total = float((abs(source.x) * mine).sum())
    assert abs(float((found * its).sum() - (source.x * mine).sum())) < 1e-12 * total
    assert float(found.max()) <= float(source.x.max()) + 1e-12
    assert float(found.min()) >= float(source.x.min()) - 1e-12


@settings(max_examples=40, deadline=None)
@given(uneven(), uneven(), st.integers(0, 9))
def test_the_gradient_goes_back_by_the_transposed_map(source, target, seed):
    """<g, R x> = <R' g, x>, with missing cells, to rounding."""
    rng = np.random.default_rng(seed)
    field = source.x.where(rng.random(source.x.shape) > 0.3)
    regridder = Regridder.between(source, target)
    found = regridder(field, minimum_covered=0.2)
    gradient = found.copy(data=rng.standard_normal(found.shape)).where(found.notnull())
    back = regridder.pull_back(gradient, field.notnull())
    left = float((gradient * found).sum())
    right = float((back * field.fillna(0.0)).sum())
    size = float(abs(gradient * found).sum())
    assert left == pytest.approx(right, abs=1e-12 * max(size, 1e-3), rel=1e-11)
    assert not back.where(field.isnull(), 0.0).any()
