"""The writer: nothing half-written, nothing computed early, nothing of the caller's changed."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.cf.attrs import anomaly_attrs, append_history, index_attrs, score_attrs
from xearth.cf.forecast_coords import forecast_coords
from xearth.cf.packing import guarded, packing
from xearth.cf.timeaxis import TimeAxis
from xearth.cf.writer import from_cf, to_cf
from xearth.errors import (
    AxisError,
    DataTypeError,
    DiscoveryWarning,
    LeadError,
    MissingDataError,
    MissingDependencyError,
    SourceError,
    TimeAxisError,
    UnitsError,
)

GRID = {
    "lat": (
        "lat",
        [0.0, 1.0],
        {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
    ),
    "lon": (
        "lon",
        [0.0, 1.0],
        {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
    ),
}
SST = {"standard_name": "sea_surface_temperature", "units": "K", "cell_methods": "time: mean",
       "units_metadata": "temperature: on_scale"}  # fmt: skip


def forecast(starts: list[int], freq: str = "MS") -> xr.DataArray:
    times = xr.DataArray(pd.date_range("2000-01-01", periods=9, freq=freq), dims="time")
    coords = {**forecast_coords(TimeAxis.from_array(times), starts, 4, members=2), **GRID}
    shape = (len(starts), 4, 2, 2, 2)
    values = np.arange(np.prod(shape), dtype="f4").reshape(shape) / 10 + 280
    dims = ("init", "lead", "member", "lat", "lon")
    return xr.DataArray(
        values, dims=dims, coords=xr.Dataset(coords=coords).coords, name="sst", attrs=SST
    )


def exploding(shape: tuple[int, ...]) -> dask.array.Array:
    def explode(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("computed")

    return dask.array.zeros(shape, dtype="f4").map_blocks(
        explode, dtype="f4", meta=np.empty((0,) * len(shape), "f4")
    )


@pytest.mark.parametrize("starts", [[8], [3, 5, 8]])
@pytest.mark.parametrize("freq", ["MS", "ME", "YS", "D", "6h", "5min", "30s"])
@pytest.mark.parametrize("suffix", [".nc", ".zarr", None])
def test_round_trip(starts: list[int], freq: str, suffix: str | None, tmp_path: Path) -> None:
    fc = forecast(starts, freq)
    if suffix is None:
        back = from_cf(to_cf(fc))
    else:
        to_cf(fc, tmp_path / f"fc{suffix}")
        back = from_cf(tmp_path / f"fc{suffix}").load()
    xr.testing.assert_identical(back["sst"], fc)


@pytest.mark.parametrize("starts", [[8], [3, 8]])
def test_a_curvilinear_grid_without_row_coordinates_round_trips(starts: list[int]) -> None:
    fc = forecast(starts).drop_vars(["lat", "lon"]).rename(lat="nlat", lon="nlon")
    fc = fc.assign_coords(
        TLAT=(
            ("nlat", "nlon"),
            np.zeros((2, 2)),
            {k: v for k, v in GRID["lat"][2].items() if k != "axis"},
        ),
        TLONG=(
            ("nlat", "nlon"),
            np.ones((2, 2)),
            {k: v for k, v in GRID["lon"][2].items() if k != "axis"},
        ),
    )
    xr.testing.assert_identical(from_cf(to_cf(fc)).sst, fc)


def test_several_variables_and_labels_round_trip() -> None:
    fc = forecast([8])
    ds = fc.to_dataset().assign(mean=fc.mean("member").assign_attrs(cell_methods="time: mean"))
    ds = ds.expand_dims(model=["a", "b"], axis=-1)
    back = from_cf(to_cf(ds))
    assert back.model.values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(back.sst.transpose(*ds.sst.dims), ds.sst)
    np.testing.assert_array_equal(back["mean"].transpose(*ds["mean"].dims), ds["mean"])


def test_the_callers_object_is_left_alone(tmp_path: Path) -> None:
    fc = forecast([3, 8])
    fc.encoding = {
        "dtype": "int16",
        "scale_factor": 0.01,
        "add_offset": 280.0,
        "chunksizes": (1,) * 5,
    }
    before, encoding = fc.copy(deep=True), dict(fc.encoding)
    coords = {n: (dict(c.attrs), dict(c.encoding)) for n, c in fc.coords.items()}
    to_cf(fc, tmp_path / "a.nc", title="x")
    xr.testing.assert_identical(fc, before)
    assert fc.encoding == encoding
    assert {n: (dict(c.attrs), dict(c.encoding)) for n, c in fc.coords.items()} == coords


def test_dask_is_computed_at_the_write_only(tmp_path: Path) -> None:
    fc = forecast([3, 8])
    lazy = fc.copy(data=exploding(fc.shape))
    lazy.encoding = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0}
    found = to_cf(lazy)
    assert found.sst.chunks is not None
    with pytest.raises(RuntimeError, match="computed"):
        to_cf(lazy, tmp_path / "a.nc")


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_failure_leaves_nothing_and_the_old_file_whole(suffix: str, tmp_path: Path) -> None:
    fc = forecast([3, 8])
    lazy = fc.copy(data=exploding(fc.shape))
    path = tmp_path / f"a{suffix}"
    with pytest.raises(RuntimeError, match="computed"):
        to_cf(lazy, path)
    assert os.listdir(tmp_path) == []
    to_cf(fc, path)
    with pytest.raises(RuntimeError, match="computed"):
        to_cf(lazy, path)
    assert os.listdir(tmp_path) == [path.name]
    np.testing.assert_array_equal(from_cf(path).sst, fc)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_replacing_a_file_even_the_one_that_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    to_cf(forecast([3, 8]), path)
    opened = from_cf(path)
    to_cf(opened + 1.0, path)
    opened.close()
    assert os.listdir(tmp_path) == [path.name]
    np.testing.assert_allclose(from_cf(path).sst, forecast([3, 8]) + 1.0)


def test_a_folder_that_is_no_store_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").write_text("years of work")
    with pytest.raises(SourceError, match="no Zarr store"):
        to_cf(forecast([8]), tmp_path / "a.zarr")
    assert (tmp_path / "a.zarr" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "b.nc").mkdir()
    with pytest.raises(SourceError, match="is a folder"):
        to_cf(forecast([8]), tmp_path / "b.nc")


@pytest.mark.parametrize(
    ("name", "message"), [("a.grib", r"\.nc or \.zarr"), ("no/a.nc", "does not exist")]
)
def test_bad_paths_are_refused_before_any_work(name: str, message: str, tmp_path: Path) -> None:
    fc = forecast([8])
    with pytest.raises(SourceError, match=message):
        to_cf(fc.copy(data=exploding(fc.shape)), tmp_path / name)


def test_zarr_is_optional(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "zarr":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"xearth\[io\]"):
        to_cf(forecast([8]), tmp_path / "a.zarr")


def test_reading_what_is_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file"):
        from_cf(tmp_path / "a.nc")
    to_cf(forecast([8]), tmp_path / "a.nc")
    whole = (tmp_path / "a.nc").read_bytes()
    (tmp_path / "b.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="Cannot read"):
        from_cf(tmp_path / "b.nc")


def test_what_cannot_be_written() -> None:
    with pytest.raises(DataTypeError, match="takes a DataArray or Dataset; got list"):
        to_cf([1, 2])  # type: ignore[arg-type]
    fc = forecast([8])
    with pytest.raises(AxisError, match="both a time axis"):
        to_cf(
            xr.Dataset(
                {"a": fc, "b": ("time", np.zeros(3))},
                coords={"time": pd.date_range("2000", periods=3)},
            )
        )
    years = fc.assign_coords(init=("init", [1954], fc.init.attrs)).drop_vars("valid_time")
    with pytest.raises(TimeAxisError, match="may be years"):
        to_cf(years)
    unitless = fc.copy()
    del unitless.lead.attrs["units"]
    with pytest.raises(LeadError, match="units ''"):
        to_cf(unitless)


def test_time_bounds_need_a_mean_and_a_known_cell() -> None:
    assert "time_bnds" in to_cf(forecast([8]))
    assert "time_bnds" in to_cf(forecast([8], "D"))
    assert "time_bnds" not in to_cf(forecast([8], "5min"))
    assert "time_bnds" not in to_cf(forecast([8]).assign_attrs(cell_methods="time: point"))
    assert "time_bnds" not in to_cf(
        forecast([8]).assign_attrs(cell_methods="time: mean (interval: 3 months)")
    )
    assert "time_bnds" not in to_cf(forecast([3, 8]))


@pytest.mark.parametrize(("calendar", "days"), [("360_day", 30.0), ("noleap", 365 / 12)])
def test_nominal_lead_days_follow_the_calendar(calendar: str, days: float) -> None:
    times = xr.date_range("2000-01-01", periods=9, freq="MS", calendar=calendar, use_cftime=True)
    axis = TimeAxis.from_array(xr.DataArray(times, dims="time", name="time"))
    ds = xr.Dataset(coords=forecast_coords(axis, [3, 8], 4))
    da = xr.DataArray(
        np.zeros((2, 4)), dims=("init", "lead"), coords=ds.coords, name="a", attrs={"units": "m"}
    )
    np.testing.assert_allclose(to_cf(da).forecast_period, days * np.arange(1, 5))
    np.testing.assert_allclose(to_cf(forecast([3, 8])).forecast_period, 30.4375 * np.arange(1, 5))


def test_annual_bounds_are_calendar_years() -> None:
    found = to_cf(forecast([8], "YE"))
    edges = found.time_bnds.values.astype("M8[D]").astype(str)
    assert edges[0].tolist() == ["2009-01-01", "2010-01-01"]


def test_time_and_bounds_share_units() -> None:
    found = to_cf(forecast([8]))
    keys = ("units", "calendar", "dtype")
    assert [found.time.encoding[k] for k in keys] == [found.time_bnds.encoding[k] for k in keys]
    assert found.time_bnds.attrs == {}


def test_source_bounds_are_kept_and_share_units(tmp_path: Path) -> None:
    time = pd.date_range("2000-01-01", periods=2, freq="MS")
    da = xr.DataArray(
        np.zeros((2, 2, 2)),
        dims=("time", "lat", "lon"),
        coords={"time": time, **GRID},
        name="sst",
        attrs=SST,
    )
    ds = da.to_dataset()
    ds["time"].attrs["bounds"] = "tb"
    ds["tb"] = (
        ("time", "nv"),
        np.array([["2000-01-01", "2000-02-01"], ["2000-02-01", "2000-03-01"]], "M8[ns]"),
    )
    to_cf(ds, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", decode_times=False) as raw:
        assert raw.tb.attrs == {}
        np.testing.assert_array_equal(raw.tb[:, 0], raw.time)
        assert "time_bnds" not in raw


def test_lost_grid_mapping_is_said() -> None:
    with pytest.warns(DiscoveryWarning, match="grid_mapping"):
        found = to_cf(forecast([8]).assign_attrs(grid_mapping="crs"))
    assert "grid_mapping" not in found.sst.attrs


def test_unknown_temperatures_are_said_to_be_unknown() -> None:
    fc = forecast([8])
    del fc.attrs["units_metadata"]
    assert to_cf(fc).sst.attrs["units_metadata"] == "temperature: unknown"
    fc.attrs["standard_name"] = "surface_temperature_anomaly"
    assert to_cf(fc).sst.attrs["units_metadata"] == "temperature: difference"


def test_plain_degrees_become_cf_units() -> None:
    fc = forecast([8])
    fc.lat.attrs["units"] = "degrees"
    assert to_cf(fc).lat.attrs["units"] == "degrees_north"


def test_uneven_times_can_be_written() -> None:
    times = np.array(["2000-01-01", "2000-01-02", "2000-01-04T12"], "M8[ns]")
    da = xr.DataArray(
        np.zeros(3), dims="time", coords={"time": times}, name="a", attrs={"units": "1"}
    )
    assert "time_bnds" not in to_cf(da)
    np.testing.assert_array_equal(to_cf(da).time, times)


def test_stamps_are_exact_on_file(tmp_path: Path) -> None:
    fc = forecast([3, 8])
    for shift in ("06:30:00", "00:00:01", "12:00:00"):
        odd = fc.assign_coords(
            init=("init", fc.init.values + pd.Timedelta(shift).to_timedelta64(), fc.init.attrs)
        ).drop_vars("valid_time")
        to_cf(odd, tmp_path / "a.nc")
        back = from_cf(tmp_path / "a.nc").load()
        np.testing.assert_array_equal(back.init, odd.init)
        moved = back.valid_time.values - fc.valid_time.values
        assert (moved == pd.Timedelta(shift).to_timedelta64()).all()


def test_unsorted_starts_leads_and_times_are_sorted() -> None:
    fc = forecast([3, 5, 8])
    mixed = fc.isel(init=[2, 0, 1], lead=[1, 0, 3, 2])
    xr.testing.assert_identical(from_cf(to_cf(mixed)).sst, fc)
    time = pd.date_range("2000-01-01", periods=3)
    da = xr.DataArray([1.0, 2.0, 3.0], dims="time", coords={"time": time}, name="a", attrs=SST)
    np.testing.assert_array_equal(to_cf(da.isel(time=[2, 0, 1])).a, [1.0, 2.0, 3.0])


def test_repeated_starts_are_refused() -> None:
    with pytest.raises(TimeAxisError, match=r"'init' holds .* more than once.*drop_duplicates"):
        to_cf(forecast([3, 3]))


def test_longitudes_across_the_dateline_are_unwrapped() -> None:
    lon = np.array([170.0, 175.0, -180.0, -175.0])
    edges = np.stack(
        [np.where(lon == -180.0, 177.5, lon - 2.5), np.where(lon == 175.0, 177.5, lon + 2.5)], -1
    )
    ds = xr.Dataset(
        {
            "a": (("lat", "lon"), np.zeros((2, 4)), {"units": "1"}),
            "lon_bnds": (("lon", "bnds"), edges),
        },
        coords={"lat": GRID["lat"], "lon": ("lon", lon, {**GRID["lon"][2], "bounds": "lon_bnds"})},
    )
    found = to_cf(ds)
    np.testing.assert_array_equal(found.lon, [170.0, 175.0, 180.0, 185.0])
    np.testing.assert_array_equal(found.lon_bnds[:, 1], found.lon + 2.5)
    np.testing.assert_array_equal(found.lon_bnds[:, 0], found.lon - 2.5)
    greenwich = ds.assign_coords(lon=("lon", [355.0, 0.0, 5.0, 10.0], GRID["lon"][2]))
    np.testing.assert_array_equal(to_cf(greenwich).lon, [355.0, 360.0, 365.0, 370.0])


def test_names_are_spelled_for_cf() -> None:
    found = to_cf(forecast([8]).rename("nino3.4 (K)"))
    assert "nino3_4__K_" in found
    assert found["nino3_4__K_"].dtype == np.float32
    two = xr.Dataset({"a.b": ("n", [1.0]), "a_b": ("n", [1.0])})
    with pytest.raises(AxisError, match="clashing"):
        to_cf(two)


@pytest.mark.parametrize("dtype", [">f4", ">f8", "float16", ">i4"])
def test_foreign_number_types(dtype: str, tmp_path: Path) -> None:
    fc = forecast([8]).astype(dtype)
    to_cf(fc, tmp_path / "a.nc")
    back = from_cf(tmp_path / "a.nc").sst
    np.testing.assert_array_equal(back, fc)
    assert back.dtype.isnative


def test_no_permission_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError("denied")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", refuse)
    with pytest.raises(SourceError, match=r"Cannot write .*denied"):
        to_cf(forecast([8]), tmp_path / "a.nc")
    assert os.listdir(tmp_path) == []


# -- packing -----------------------------------------------------------------------------------


def packed(values: Any, **encoding: Any) -> xr.DataArray:
    da = xr.DataArray(np.asarray(values, "f4"), dims="x", name="v")
    da.encoding = encoding
    return da


def test_packing_is_kept_where_it_fits(tmp_path: Path) -> None:
    fc = forecast([8])
    fc.encoding = {
        "dtype": "int16",
        "scale_factor": 0.01,
        "add_offset": 280.0,
        "_FillValue": -32768,
    }
    fc[0, 0, 0, 0, 0] = np.nan
    to_cf(fc, tmp_path / "a.nc")
    back = from_cf(tmp_path / "a.nc").sst
    assert back.dtype == np.float32
    assert back.encoding["dtype"] == np.int16
    np.testing.assert_allclose(back, fc, atol=0.0051)


@pytest.mark.parametrize(
    ("values", "encoding", "stored"),
    [
        ([0.0, 300.0], {"dtype": "int16", "scale_factor": 0.01}, "int16"),
        ([0.0, 400.0], {"dtype": "int16", "scale_factor": 0.01}, "float32"),
        ([0.0, np.inf], {"dtype": "int16", "scale_factor": 0.01}, "float32"),
        ([-327.68, 0.0], {"dtype": "int16", "scale_factor": 0.01}, "float32"),  # -32768 is missing
        ([np.nan, np.nan], {"dtype": "int16", "scale_factor": 0.01}, "int16"),
        ([0.0, 90.0], {"dtype": "uint8", "scale_factor": 0.5, "add_offset": -32.0}, "int16"),
        ([0.0, 600.0], {"dtype": "uint16", "scale_factor": 0.01}, "float32"),
        ([0.0, 300.0], {"dtype": "uint16", "scale_factor": 0.01}, "int16"),
        ([0.0, 1.0], {"dtype": "int8", "scale_factor": 0.01}, "int8"),
        ([0.0, 1.0], {"dtype": "int32", "scale_factor": 0.01}, "float32"),
        ([0.0, 1.0], {"dtype": "float32"}, "float32"),
        ([0.0, 1.0], {"dtype": "int16"}, "float32"),
        ([0.0, 1.0], {}, "float32"),
    ],
)
def test_how_values_are_stored(values: list[float], encoding: dict[str, Any], stored: str) -> None:
    found = packing(packed(values, **encoding))
    assert found["dtype"] == stored
    assert ("scale_factor" in found) == (stored.startswith("int"))


def test_lazy_values_outside_their_packing_are_an_error(tmp_path: Path) -> None:
    fc = (forecast([8]) * 10.0).chunk({"lead": 1})
    fc.encoding = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0}
    with pytest.raises(MissingDataError, match=r"'sst' holds values from .*encoding = \{\}"):
        to_cf(fc, tmp_path / "a.nc")
    assert os.listdir(tmp_path) == []
    fc.encoding = {}
    to_cf(fc, tmp_path / "a.nc")


def test_infinite_lazy_values_are_no_packed_numbers() -> None:
    da = packed([0.0, np.inf], dtype="int16", scale_factor=0.01).chunk()
    da.encoding = packing(da)
    with pytest.raises(MissingDataError, match="inf"):
        guarded(da).compute()


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_integers_and_masks_come_back(dtype: str, tmp_path: Path) -> None:
    da = xr.DataArray(
        np.array([[0, 1], [1, 1]], dtype),
        dims=("lat", "lon"),
        coords=GRID,
        name="mask",
        attrs={"units": "1", "long_name": "m"},
    )
    to_cf(da, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        assert back.mask.dtype == dtype
        np.testing.assert_array_equal(back.mask, da)


# -- attributes of derived fields --------------------------------------------------------------


def test_anomaly_attributes() -> None:
    found = anomaly_attrs(
        {**SST, "long_name": "SST", "valid_range": [270, 310], "units": "degC"}, "1991 to 2020"
    )
    assert found["units_metadata"] == "temperature: difference"
    assert found["standard_name"] == "sea_surface_temperature"
    assert found["long_name"] == "SST anomaly"
    assert "1991 to 2020" in found["comment"]
    assert "valid_range" not in found
    assert anomaly_attrs({"standard_name": "air_pressure", "units": "Pa"}, "b") == {
        "standard_name": "air_pressure_anomaly", "units": "Pa", "long_name": "air pressure anomaly",
        "comment": "Anomaly from the climatology of b.",
    }  # fmt: skip


def test_score_attributes() -> None:
    assert score_attrs("correlation") == {"long_name": "correlation", "units": "1"}
    rmse = score_attrs("RMSE", units="degC", unit_power=1, cell_methods="area: mean")
    assert rmse == {
        "long_name": "RMSE", "units": "degC", "units_metadata": "temperature: difference",
        "cell_methods": "area: mean",
    }  # fmt: skip
    assert score_attrs("MSE", units="degC", unit_power=2)["units"] == "K2"
    assert score_attrs("MSE", units="mm h-1", unit_power=2)["units"] == "mm2 h-2"
    assert "units_metadata" not in score_attrs("MSE", units="K", unit_power=2)
    with pytest.raises(UnitsError, match="'RMSE'"):
        score_attrs("RMSE", unit_power=1)


def test_index_attributes() -> None:
    found = index_attrs({**SST, "cell_methods": "time: mean area: mean where sea"}, "Nino3.4")
    assert found["cell_methods"] == "time: mean area: mean"
    assert found["long_name"] == "Nino3.4"


def test_history_grows() -> None:
    attrs = append_history(append_history({}, "first"), "second")
    lines = attrs["history"].splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == ["first", "second"]
