"""Radar archives: small files of the layout that services write, and the relation of Z and R."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xearth.data.loader import Windows
from xearth.data.normalize import Normalizer
from xearth.data.sources import radar, samples
from xearth.data.sources.radar import check, fill_gaps
from xearth.data.windows import Window
from xearth.errors import (
    AxisError,
    DataTypeError,
    MissingDataError,
    SourceError,
    TimeAxisError,
    TimeAxisWarning,
    UnitsError,
    UnitsWarning,
)
from xearth.fields.rain import kind_of, rain_rate, reflectivity

FINLAND = {"comment": "rain rate: Z = 223 R^1.53 (zr_a, zr_b of the file header)"}


def archive(minutes=range(0, 60, 5), *, name="rainfall_rate", dtype="u2", **attrs) -> xr.Dataset:
    """Frames of 6 x 8 cells of 2 km: no data in the first column, no rain in the second."""
    times = np.datetime64("2016-09-28T14:00", "ns") + np.array(list(minutes)) * np.timedelta64(
        1, "m"
    )
    rng = np.random.default_rng(1)
    stored = rng.integers(1, 200, (len(times), 6, 8)).astype(dtype)
    stored[..., 0], stored[..., 1] = np.iinfo(dtype).max, 0
    label = {"long_name": "radar", "grid_mapping": "crs"}
    rate = {"standard_name": "rainfall_rate", "units": "mm h-1", "scale_factor": 0.01}
    level = {"standard_name": "equivalent_reflectivity_factor", "units": "dBZ"}
    level |= {"scale_factor": 0.5, "add_offset": -32.0, "comment": "-32 dBZ means no echo"}
    label |= rate if name == "rainfall_rate" else level
    label["_FillValue"] = np.iinfo(dtype).max
    x = {"units": "m", "standard_name": "projection_x_coordinate"}
    y = {"units": "m", "standard_name": "projection_y_coordinate"}
    return xr.Dataset(
        {name: (("time", "y", "x"), stored, label)},
        {
            "time": ("time", times, {"standard_name": "time"}),
            "y": ("y", np.arange(6)[::-1] * 2000.0, y),
            "x": ("x", np.arange(8) * 2000.0, x),
            "lat": (("y", "x"), np.full((6, 8), 60.0), {"units": "degrees_north"}),
            "lon": (("y", "x"), np.full((6, 8), 25.0), {"units": "degrees_east"}),
            "crs": ((), 0, {"grid_mapping_name": "polar_stereographic"}),
        },
        {"title": "test", "Conventions": "CF-1.11", **attrs},
    )


def write(ds: xr.Dataset, path: Path) -> Path:
    for name in ds.data_vars:
        ds[name].attrs.pop("coordinates", None)
        ds[name].encoding["coordinates"] = "lat lon"
    if path.suffix == ".zarr":
        with warnings.catch_warnings(action="ignore"):
            ds.to_zarr(path, zarr_format=2, consolidated=True)
    else:
        ds.to_netcdf(path, engine="netcdf4")
    return path


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_frames_open_lazily_and_keep_no_data_apart_from_no_rain(tmp_path, suffix):
    path = write(archive(), tmp_path / f"radar{suffix}")
    rain = radar.open(path)
    assert not rain.variable._in_memory
    assert rain.dims == ("time", "y", "x")
    assert rain.attrs["title"] == "test"
    assert {"lat", "lon", "crs"} <= set(rain.coords)
    assert bool(rain[..., 0].isnull().all())
    assert bool((rain[..., 1] == 0).all())
    np.testing.assert_allclose(rain[..., 2:], archive().rainfall_rate[..., 2:] * 0.01, rtol=1e-6)
    assert radar.open(path, chunks={"time": 1}).chunks[0] == (1,) * 12


@pytest.mark.parametrize(("dtype", "name"), [("u2", "rainfall_rate"), ("u1", "reflectivity")])
def test_packed_numbers_stay_packed_to_the_batch(tmp_path, dtype, name):
    path = write(archive(name=name, dtype=dtype), tmp_path / "radar.nc")
    packed = radar.open(path, packed=True)
    assert packed.dtype == np.dtype(dtype)
    assert not packed.variable._in_memory
    assert bool((packed[..., 0] == np.iinfo(dtype).max).all())
    assert bool((packed[..., 1] == 0).all())
    values = radar.open(path)
    scale = Normalizer((name,), (1.0,), (4.0,), (values.units,))
    batch = Windows(packed, Window(3, 2), normalizer=scale).batch([0])
    expected = (values[:3, ::-1].values - 1) / 4
    assert not batch.mask_x[..., 0, 0].any()
    assert batch.mask_x[..., 1:, 0].all()
    np.testing.assert_allclose(batch.x[0, ..., 1:, 0], expected[..., 1:], rtol=1e-5)


def test_the_shipped_event_is_such_an_archive():
    rain = radar.open(samples.FOLDER / "knmi_radar.nc")
    xr.testing.assert_equal(rain, samples.open("knmi_radar"))
    assert check(rain[:3]) is not None


def test_what_a_file_states_of_its_relation_is_used(tmp_path):
    path = write(archive(name="reflectivity", dtype="u1", **FINLAND), tmp_path / "fmi.nc")
    dbz = radar.open(path)
    assert (dbz.zr_a, dbz.zr_b, dbz.no_echo) == (223.0, 1.53, -32.0)
    rate = rain_rate(dbz)
    np.testing.assert_allclose(
        rate[..., 2:], (10 ** (dbz[..., 2:] / 10) / 223) ** (1 / 1.53), rtol=1e-5
    )
    assert bool((rate[..., 1] == 0).all())
    assert bool(rate[..., 0].isnull().all())
    assert (rate.units, rate.standard_name, rate.zr_a) == ("mm h-1", "rainfall_rate", 223.0)
    assert rate.comment == "Z = 223 R^1.53"
    back = reflectivity(rate)
    np.testing.assert_allclose(back, dbz, atol=1e-4)
    assert back.standard_name == "equivalent_reflectivity_factor"
    packed = rain_rate(radar.open(path, packed=True))
    np.testing.assert_allclose(packed, rate, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("Z = 223 R^1.53 (header)", (223, 1.53)),
        ("Z=200R**1.6", (200, 1.6)),
        ("Marshall: Z = 316 * R^1.5.", (316, 1.5)),
        ("Z = 200 R^(1.6)", (200, 1.6)),
        ("no law", None),
    ],
)
def test_relations_as_they_are_written(tmp_path, text, law):
    path = write(archive(name="reflectivity", dtype="u1", comment=text), tmp_path / "z.nc")
    attrs = radar.open(path).attrs
    found = (attrs["zr_a"], attrs["zr_b"]) if "zr_a" in attrs else None
    assert found == law


def test_attributes_win_over_comments_and_arguments_over_both(tmp_path):
    path = write(
        archive(name="reflectivity", dtype="u1", zr_a=316.0, zr_b=1.5, **FINLAND), tmp_path / "z.nc"
    )
    dbz = radar.open(path)
    assert (dbz.zr_a, dbz.zr_b) == (316.0, 1.5)
    assert rain_rate(dbz, a=200, b=1.6).zr_a == 200


def test_marshall_and_palmer_at_one_millimeter_per_hour():
    dbz = xr.DataArray([10 * np.log10(200)], dims="x", attrs={"units": "dBZ"})
    assert rain_rate(dbz, a=200, b=1.6).item() == pytest.approx(1.0)


def test_lazy_fields_stay_lazy():
    dbz = xr.DataArray(np.full((4, 3), 20.0), dims=("y", "x"), attrs={"units": "dBZ"}).chunk(2)
    rate = rain_rate(dbz, a=200, b=1.6)
    assert rate.chunks is not None
    assert reflectivity(rate, a=200, b=1.6).chunks is not None


def test_a_rain_rate_is_only_brought_to_millimeters_per_hour():
    rate = xr.DataArray([1.0], dims="x", name="rain", attrs={"units": "mm min-1"})
    assert rain_rate(rate).item() == pytest.approx(60)
    flux = rate.assign_attrs(units="kg m-2 s-1")
    with pytest.warns(UnitsWarning, match="liquid water"):
        assert rain_rate(flux).item() == pytest.approx(3600)
    dbz = rate.assign_attrs(units="dBZ")
    assert reflectivity(dbz).item() == 1.0


def test_units_and_coefficients_that_are_not_stated_are_asked_for():
    dbz = xr.DataArray([20.0], dims="x", name="dbz", attrs={"units": "dBZ"})
    with pytest.raises(UnitsError, match=r"'dbz' does not state .* give both"):
        rain_rate(dbz)
    with pytest.raises(UnitsError, match="give both"):
        rain_rate(dbz, a=200)
    with pytest.raises(UnitsError, match="positive"):
        rain_rate(dbz, a=200, b=-1)
    with pytest.raises(UnitsError, match="would go unnoticed"):
        rain_rate(dbz.drop_attrs(), a=200, b=1.6)
    with pytest.raises(UnitsError, match="takes no coefficients"):
        rain_rate(dbz.rename("rain").assign_attrs(units="mm h-1"), a=200, b=1.6)
    with pytest.raises(UnitsError, match="found 'K'"):
        rain_rate(dbz.assign_attrs(units="K"), a=200, b=1.6)
    with pytest.raises(UnitsError, match="found 'K'"):
        reflectivity(dbz.assign_attrs(units="K"), a=200, b=1.6)
    with pytest.raises(UnitsError, match="takes no coefficients"):
        reflectivity(dbz, a=200, b=1.6)
    with pytest.raises(DataTypeError, match="as a DataArray with units"):
        rain_rate(np.zeros(3))


def fallen(unit, **attrs) -> xr.Dataset:
    """What fell in the 5 minutes before each frame, in `unit`."""
    ds = archive()
    ds.rainfall_rate.attrs = {
        **{k: v for k, v in ds.rainfall_rate.attrs.items() if k != "standard_name"},
        "units": unit, "scale_factor": 0.01 / 12, "long_name": "rain amount", **attrs,
    }  # fmt: skip
    return ds


@pytest.mark.parametrize("unit", ["mm", "kg m-2", "cm"])
@pytest.mark.parametrize("chunks", [None, {"time": 4}])
def test_amounts_in_each_frame_become_rates(tmp_path, unit, chunks):
    scale = {"scale_factor": 0.001 / 12} if unit == "cm" else {}
    made = radar.open(write(fallen(unit, **scale), tmp_path / "mm.nc"), chunks=chunks)
    rate = radar.open(write(archive(), tmp_path / "rate.nc"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = rain_rate(made)
    assert [w.category for w in said] == ([UnitsWarning] if unit == "kg m-2" else [])
    np.testing.assert_allclose(found, rate, rtol=1e-5)
    assert (found.chunks is None) == (chunks is None)
    assert (found.units, found.cell_methods) == ("mm h-1", "time: mean")
    assert "Amounts of 5 minutes as mean rates" in found.comment
    xr.testing.assert_identical(found.time, made.time)


def test_an_amount_without_its_interval_is_refused(tmp_path):
    amount = radar.open(write(fallen("mm"), tmp_path / "mm.nc"))
    with pytest.raises(TimeAxisError, match=r"'mm' becomes a rate .* found 1 at None"):
        rain_rate(amount[:1])
    with pytest.raises(UnitsError, match="found 'mm'"):
        rain_rate(amount, a=200, b=1.6)
    with pytest.raises(UnitsError, match="found 'mm'"):
        reflectivity(amount, a=200, b=1.6)


def test_a_rate_in_mm_needs_no_other_name(tmp_path):
    ds = archive().rename(rainfall_rate="RR")
    del ds.RR.attrs["standard_name"]
    ds.RR.attrs["units"] = "mm/h"
    rain = radar.open(write(ds, tmp_path / "rr.nc"))
    assert rain_rate(rain).units == "mm h-1"
    ds.RR.attrs["standard_name"] = "lwe_water_evaporation_rate"
    with pytest.raises(SourceError, match="one rain rate, amount or reflectivity"):
        radar.open(write(ds, tmp_path / "evaporation.nc"))
    water = xr.DataArray(0.0, name="precipitable_water", attrs={"units": "kg m-2"})
    assert kind_of(water) is None


def test_a_single_level_is_a_label_of_the_frames(tmp_path):
    rain = radar.open(write(archive().expand_dims(height=[1500.0]), tmp_path / "level.nc"))
    assert rain.dims == ("time", "y", "x")
    assert rain.height.item() == 1500


def test_codes_of_missing_data_that_are_not_declared_are_named(tmp_path):
    rain = radar.open(write(archive(), tmp_path / "rain.nc")).load()
    rain[2, 3, 4:6] = -9999.0
    with pytest.raises(MissingDataError, match=r"found -9999 in 2 cells .* 2016-09-28T14:10"):
        check(rain)
    assert check(rain.where(rain >= 0)) is not None
    level = radar.open(write(archive(name="reflectivity", dtype="u1"), tmp_path / "z.nc")).load()
    assert check(level) is level  # -32 dBZ is no echo
    level[1, 0, 0] = -999.0
    with pytest.raises(MissingDataError, match=r"values from -100 dBZ on, found -999 in 1 cells"):
        check(level)


def test_an_odd_interval_is_named(tmp_path):
    path = write(archive([0, 5, 10, 17, 20, 25]), tmp_path / "odd.nc")
    with pytest.raises(TimeAxisError, match=r"14:10:00.*14:17:00.* \(7 minutes\)"):
        radar.open(path)


def test_frames_out_of_order_or_repeated_are_refused(tmp_path):
    with pytest.raises(TimeAxisError, match="found others"):
        radar.open(write(archive([5, 0, 10, 15]), tmp_path / "order.nc"))
    with pytest.raises(TimeAxisError, match="1 repeated ones, first 2016-09-28T14:05"):
        radar.open(write(archive([0, 5, 5, 10]), tmp_path / "twice.nc"))


def test_a_missing_frame_is_named_and_can_be_interpolated(tmp_path):
    path = write(archive([0, 5, 10, 20, 25]), tmp_path / "gap.nc")
    with pytest.warns(TimeAxisWarning, match="1 frames are missing .* 2016-09-28T14:15:00"):
        rain = radar.open(path)
    with pytest.raises(TimeAxisError, match="1 missing between others: 2016-09-28T14:15:00"):
        check(rain)
    with pytest.warns(TimeAxisWarning, match="interpolated in time.*14:15"):
        whole = fill_gaps(rain)
    assert whole.interpolated.values.tolist() == [False] * 3 + [True] + [False] * 2
    np.testing.assert_allclose(whole[3], (rain[2] + rain[3]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(whole.isel(time=[0, 1, 2, 4, 5]), rain)
    assert "Frames interpolated: 2016-09-28T14:15" in whole.comment
    assert check(whole) is whole
    assert fill_gaps(whole) is whole


def test_only_so_many_in_a_row_are_interpolated(tmp_path):
    with pytest.warns(TimeAxisWarning):
        rain = radar.open(write(archive([0, 5, 20, 25]), tmp_path / "gap.nc"))
    with pytest.raises(TimeAxisError, match=r"at most 1 .* found 2 between .*14:05"):
        fill_gaps(rain)
    with pytest.warns(TimeAxisWarning):
        whole = fill_gaps(rain, longest=2)
    np.testing.assert_allclose(whole[2], rain[1] * 2 / 3 + rain[2] / 3, rtol=1e-5)


def test_frames_without_any_value_are_named(tmp_path):
    ds = archive()
    ds.rainfall_rate[3] = ds.rainfall_rate.attrs["_FillValue"]
    path = write(ds, tmp_path / "empty.nc")
    for packed in (False, True):
        rain = radar.open(path, packed=packed)
        with pytest.raises(MissingDataError, match=r"1 of 12 frames .* 2016-09-28T14:15:00"):
            check(rain)
        with pytest.warns(TimeAxisWarning, match="14:15"):
            whole = fill_gaps(rain)
        assert whole.sizes["time"] == 12
        assert bool(whole[3, :, 1:].notnull().all())
    with pytest.raises(TimeAxisError, match="first and the last"):
        fill_gaps(rain[3:])
    dry = rain.where(rain == rain._FillValue, 0).assign_attrs(rain.attrs)
    with pytest.raises(MissingDataError):
        check(dry)  # zeros are rain of 0, but the empty frame stays
    assert check(dry[4:]) is not None


def test_rows_that_are_not_even_are_named(tmp_path):
    ds = archive()
    ds = ds.assign_coords(x=ds.x.where(ds.x != 6000, 6500).assign_attrs(ds.x.attrs))
    with pytest.raises(AxisError, match=r"'x' .* of 2000, found 2500 between 4000 and 6500"):
        radar.open(write(ds, tmp_path / "x.nc"))


def test_files_that_are_no_archive_are_refused(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        radar.open(tmp_path / "none.nc")
    path = write(archive(), tmp_path / "whole.nc")
    cut = tmp_path / "cut.nc"
    cut.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SourceError, match="copy it again"):
        radar.open(cut)
    both = archive().assign(second=archive().rainfall_rate)
    path = write(both, tmp_path / "two.nc")
    with pytest.raises(SourceError, match=r"found \['rainfall_rate', 'second'\]"):
        radar.open(path)
    assert radar.open(path, variable="second").name == "second"
    with pytest.raises(SourceError, match="expected 'third'"):
        radar.open(path, variable="third")
    other = archive().rename(rainfall_rate="height")
    other.height.attrs.update(units="m", standard_name="height")
    path = write(other, tmp_path / "height.nc")
    with pytest.raises(SourceError, match="a rain rate is in mm h-1"):
        radar.open(path)
    with pytest.raises(SourceError, match="found the units 'm'"):
        radar.open(path, variable="height")
    with pytest.raises(AxisError, match="found the dims"):
        radar.open(write(archive().expand_dims(height=2), tmp_path / "levels.nc"))
