"""What to_cf writes passes the strict CF-1.11 checker, offline, for every layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.cf.forecast_coords import forecast_coords
from xearth.cf.timeaxis import TimeAxis
from xearth.cf.writer import from_cf, to_cf

runner = pytest.importorskip("compliance_checker.runner")
runner.CheckSuite.load_all_available_checkers()

Check = Callable[[Path], None]
SST = {
    "standard_name": "sea_surface_temperature",
    "long_name": "sea surface temperature",
    "units": "K",
    "units_metadata": "temperature: on_scale",
    "cell_methods": "time: mean area: mean where sea",
}
DBZ = {
    "standard_name": "equivalent_reflectivity_factor",
    "long_name": "radar reflectivity",
    "units": "dBZ",
    "cell_methods": "time: point",
}
LATLON = {
    "lat": (
        "lat",
        np.arange(-10.0, 11.0, 5.0),
        {"standard_name": "latitude", "units": "degrees_north"},
    ),
    "lon": (
        "lon",
        np.arange(160.0, 260.0, 20.0),
        {"standard_name": "longitude", "units": "degrees_east"},
    ),
}
PLANE = {
    "y": ("y", np.arange(4) * 1e3, {"standard_name": "projection_y_coordinate", "units": "m"}),
    "x": ("x", np.arange(5) * 1e3, {"standard_name": "projection_x_coordinate", "units": "m"}),
    "lat": (("y", "x"), np.full((4, 5), 60.0), LATLON["lat"][2]),
    "lon": (("y", "x"), np.full((4, 5), 25.0), LATLON["lon"][2]),
    "crs": (
        (), np.int32(0),
        {
            "grid_mapping_name": "lambert_azimuthal_equal_area",
            "longitude_of_projection_origin": 25.0,
            "latitude_of_projection_origin": 60.0,
            "false_easting": 0.0, "false_northing": 0.0, "earth_radius": 6370997.0,
        },
    ),
}  # fmt: skip


def months(calendar: str, n: int = 12) -> Any:
    if calendar == "datetime64":
        return pd.date_range("2000-01-01", periods=n, freq="MS")
    return xr.date_range("2000-01-15", periods=n, freq="30D" if calendar == "360_day" else "MS",
                         calendar=calendar, use_cftime=True)  # fmt: skip


def forecast(
    times: Any,
    starts: list[int],
    *,
    members: int | None = 3,
    grid: dict[str, Any] = LATLON,
    attrs: dict[str, str] = SST,
    name: str = "sst",
) -> xr.DataArray:
    axis = TimeAxis.from_array(xr.DataArray(times, dims="time", name="time"))
    coords = {**forecast_coords(axis, starts, 6, members=members), **grid}
    plane = ("y", "x") if "y" in grid else ("lat", "lon")
    dims = ("init", "lead", *(() if members is None else ("member",)), *plane)
    ds = xr.Dataset(coords=coords)
    values = np.random.default_rng(0).normal(290.0, 1.0, [ds.sizes[d] for d in dims])
    return xr.DataArray(values.astype("f4"), dims=dims, coords=ds.coords, name=name, attrs=attrs)


@pytest.fixture
def strict(tmp_path: Path) -> Check:
    def run(path: Path) -> None:
        report = tmp_path / "report.txt"
        ok, errors = runner.ComplianceChecker.run_checker(
            str(path), ["cf:1.11"], 0, "strict",
            output_filename=str(report), output_format="text",
        )  # fmt: skip
        text = report.read_text()
        assert ok, text
        assert not errors, text
        assert "All tests passed!" in text, text

    return run


CALENDARS = ["datetime64", "360_day", "noleap"]


@pytest.mark.parametrize("calendar", CALENDARS)
def test_ensemble_forecast(calendar: str, tmp_path: Path, strict: Check) -> None:
    path = tmp_path / "forecast.nc"
    to_cf(forecast(months(calendar), [11]), path, institution="a", source="b")
    strict(path)
    with xr.open_dataset(path, decode_times=False) as raw:
        assert raw.sst.dims == ("realization", "time", "lat", "lon")
        assert raw.Conventions == "CF-1.11"
        assert raw.forecast_reference_time.ndim == 0
        assert raw.time.attrs["bounds"] == "time_bnds"
        assert raw.time.attrs["axis"] == "T"
        assert not raw.time_bnds.attrs
        assert not raw.forecast_period_bnds.attrs
        starts = raw.time_bnds.values[:, 0]
        np.testing.assert_array_equal(starts[1:], raw.time_bnds.values[:-1, 1])
        assert (raw.time_bnds.values[:, 0] <= raw.time.values).all()
        assert (raw.time_bnds.values[:, 1] > raw.time.values).all()
        elapsed = raw.time.values - raw.forecast_reference_time.values
        np.testing.assert_allclose(raw.forecast_period.values, elapsed)
        assert raw.forecast_period.attrs["units"] == "days"


@pytest.mark.parametrize("calendar", CALENDARS)
def test_hindcast(calendar: str, tmp_path: Path, strict: Check) -> None:
    path = tmp_path / "hindcast.nc"
    to_cf(forecast(months(calendar), [5, 8, 11]), path)
    strict(path)
    with xr.open_dataset(path, decode_times=False) as raw:
        assert raw.sst.dims == (
            "realization", "forecast_period", "forecast_reference_time", "lat", "lon",
        )  # fmt: skip
        assert raw.time.dims == ("forecast_period", "forecast_reference_time")
        assert "bounds" not in raw.time.attrs
        assert raw.lead_month.values.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("starts", [[4], [2, 3, 4]])
@pytest.mark.parametrize("packed", [False, True])
def test_radar_nowcast(starts: list[int], packed: bool, tmp_path: Path, strict: Check) -> None:
    path = tmp_path / "nowcast.nc"
    times = pd.date_range("2016-09-28 14:45", periods=5, freq="5min")
    fc = forecast(times, starts, grid=PLANE, attrs=DBZ, name="dbz") - 290.0
    if packed:
        fc.encoding = {
            "dtype": "uint8",
            "scale_factor": 0.5,
            "add_offset": -32.0,
            "_FillValue": 255,
        }
    to_cf(fc, path)
    strict(path)
    with xr.open_dataset(
        path, mask_and_scale=False, decode_times=False, decode_coords=False
    ) as raw:
        assert raw.dbz.dtype == ("int16" if packed else "float32")
        assert raw.dbz.attrs["grid_mapping"] == "crs"
        assert "crs" not in raw.dbz.attrs["coordinates"]
        assert raw.forecast_period.attrs["units"] == "minutes"


def test_the_returned_dataset_is_compliant_when_saved_by_xarray(
    tmp_path: Path, strict: Check
) -> None:
    path = tmp_path / "saved.nc"
    to_cf(forecast(months("datetime64"), [11])).to_netcdf(path)
    strict(path)


def test_deterministic_forecast(tmp_path: Path, strict: Check) -> None:
    path = tmp_path / "forecast.nc"
    to_cf(forecast(months("datetime64"), [11], members=None), path)
    strict(path)


def test_one_lead_keeps_its_time(tmp_path: Path, strict: Check) -> None:
    path = tmp_path / "forecast.nc"
    to_cf(forecast(months("datetime64"), [11]).isel(lead=2, init=0), path)
    strict(path)
    with xr.open_dataset(path) as raw:
        assert raw.sizes["time"] == 1


def scores() -> xr.Dataset:
    fc = forecast(months("datetime64"), [5, 8, 11])
    lead = {"lead": fc.lead.variable}
    ds = xr.Dataset(
        {
            "acc": ("lead", np.linspace(1, 0, 6)),
            "rmse": (("season", "lead"), np.ones((4, 6), "f4")),
            "rmse_map": (("lead", "lat", "lon"), np.ones((6, 5, 5), "f4")),
            "prob": (("lead", "lat", "lon"), np.ones((6, 5, 5), "f4")),
            "n": ("lead", np.arange(6)),
        },
        coords={**lead, **LATLON, "season": ["DJF", "MAM", "JJA", "SON"]},
    )
    ds.acc.attrs = {"long_name": "anomaly correlation", "units": "1", "cell_methods": "init: mean"}
    rmse = {
        "long_name": "root mean square error of sst",
        "units": "K",
        "units_metadata": "temperature: difference",
        "cell_methods": "init: member: mean",
    }
    ds.rmse.attrs = ds.rmse_map.attrs = rmse
    ds.prob.attrs = {"long_name": "probability of sst above 301 K", "units": "1",
                     "cell_methods": "realization: mean"}  # fmt: skip
    ds.n.attrs = {"long_name": "number of starts", "units": "1"}
    return ds


def test_scores_by_lead(tmp_path: Path, strict: Check) -> None:
    path = tmp_path / "scores.nc"
    to_cf(scores(), path, title="skill")
    strict(path)
    back = from_cf(path)
    assert back.acc.dims == ("lead",)
    assert back.lead.attrs["units"] == "months"
    np.testing.assert_array_equal(back.acc, scores().acc)


def test_statistics_of_one_forecast(tmp_path: Path, strict: Check) -> None:
    fc = forecast(months("datetime64"), [11])
    ds = xr.Dataset(
        {
            "sst_mean": fc.mean("member").assign_attrs(cell_methods="time: mean realization: mean"),
            "sst_spread": fc.std("member").assign_attrs(
                cell_methods="time: mean realization: standard_deviation",
                units_metadata="temperature: difference",
            ),
        }
    )
    path = tmp_path / "stats.nc"
    to_cf(ds, path)
    strict(path)


@pytest.mark.parametrize("calendar", CALENDARS)
def test_plain_field_and_resaved_file(calendar: str, tmp_path: Path, strict: Check) -> None:
    da = xr.DataArray(
        np.zeros((12, 5, 5), "f4"), dims=("time", "lat", "lon"),
        coords={"time": months(calendar), **LATLON}, name="sst", attrs=SST,
    )  # fmt: skip
    first, second = tmp_path / "first.nc", tmp_path / "second.nc"
    to_cf(da, first)
    strict(first)
    with xr.open_dataset(first, decode_coords="all") as opened:
        to_cf(opened, second)
    strict(second)
    with xr.open_dataset(first) as a, xr.open_dataset(second) as b:
        xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())
        assert b.attrs["history"].count("written by xearth.to_cf") == 2


def test_bare_field_without_attributes(tmp_path: Path, strict: Check) -> None:
    da = xr.DataArray(
        np.zeros((3, 5, 5)), dims=("time", "lat", "lon"),
        coords={
            "time": pd.date_range("2000", periods=3),
            "lat": LATLON["lat"][:2],
            "lon": LATLON["lon"][:2],
        },
        name="my_field", attrs={"units": "m"},
    )  # fmt: skip
    path = tmp_path / "bare.nc"
    with pytest.warns(UserWarning, match="Set CF attributes"):
        to_cf(da, path)
    strict(path)


def test_foreign_and_stale_attributes(tmp_path: Path, strict: Check) -> None:
    da = forecast(months("datetime64"), [11])
    da.attrs |= {
        "_ChunkSizes": 12, "cell_measures": "area: areacella", "ancillary_variables": "gone",
        "flag": True, "nothing": None, "nested": {"a": 1}, "comment": "kept",
        "cell_methods": "month: year: mean time: mean (interval: 1 month) area: mean where sea",
    }  # fmt: skip
    da.encoding = {"coordinates": "gone", "chunksizes": (1, 1, 1, 1, 1), "source": "elsewhere"}
    da.member.attrs["axis"] = "E"
    before = dict(da.attrs)
    path = tmp_path / "stale.nc"
    to_cf(da, path)
    strict(path)
    assert da.attrs == before, "the caller's object is left alone"
    with xr.open_dataset(path) as raw:
        assert raw.attrs["external_variables"] == "areacella"
        assert raw.sst.attrs["comment"].startswith("kept")
        assert "month: year: mean" in raw.sst.attrs["comment"]
        assert raw.sst.attrs["cell_methods"].startswith("time: mean")


def test_zarr_holds_the_same(tmp_path: Path, strict: Check) -> None:
    zarr = pytest.importorskip("zarr")
    assert zarr.__version__
    fc = forecast(months("360_day"), [5, 8])
    to_cf(fc, tmp_path / "a.nc")
    to_cf(fc, tmp_path / "a.zarr")
    with xr.open_zarr(tmp_path / "a.zarr", consolidated=False) as store:
        with xr.open_dataset(tmp_path / "a.nc") as file:
            xr.testing.assert_equal(store.load(), file.load())
        to_cf(from_cf(store), tmp_path / "b.nc")
    strict(tmp_path / "b.nc")


@pytest.fixture
def offline_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let climpred read the table of standard names from disk, not from the network."""
    import cf_xarray.accessor
    from cf_xarray.utils import parse_cf_standard_name_table

    table = Path(runner.__file__).parent / "data" / "cf-standard-name-table.xml"
    parsed = parse_cf_standard_name_table(str(table))
    monkeypatch.setattr(
        cf_xarray.accessor, "parse_cf_standard_name_table", lambda source=None: parsed
    )


@pytest.mark.usefixtures("offline_names")
@pytest.mark.parametrize("starts", [[5, 8, 11], [8]])
def test_climpred_accepts_what_is_read_back(starts: list[int], tmp_path: Path) -> None:
    climpred = pytest.importorskip("climpred")
    fc = forecast(months("datetime64"), starts)
    to_cf(fc, tmp_path / "fc.nc")
    back = from_cf(tmp_path / "fc.nc")[["sst"]].load()
    found = climpred.HindcastEnsemble(back.drop_vars("valid_time")).get_initialized()
    assert dict(found.sizes) == dict(fc.sizes)
    assert found.lead.attrs["units"] == "months"
    theirs = found.valid_time.transpose("init", "lead").values
    stamps = [[str(v)[:10] for v in row] for row in theirs]
    assert stamps == fc.valid_time.values.astype("M8[D]").astype(str).tolist()


def test_levels_stacked_members_and_undecoded_packing(tmp_path: Path, strict: Check) -> None:
    time = pd.date_range("2000-01-01", periods=3, freq="MS")
    depth = ("depth", [5.0, 10.0], {"standard_name": "depth", "units": "m", "positive": "down"})
    coords = {"depth": depth, "time": ("time", time), **LATLON}
    level = xr.DataArray(np.ones((2, 3, 5, 5)), coords, (*coords,), "to", SST)
    to_cf(level, tmp_path / "levels.nc")
    strict(tmp_path / "levels.nc")
    assert xr.open_dataset(tmp_path / "levels.nc").to.dims == ("time", "depth", "lat", "lon")

    stacked = level.assign_coords(depth=["a", "b"]).expand_dims(version=[1, 2])
    to_cf(stacked.stack(case=("depth", "version")), tmp_path / "cases.nc")
    strict(tmp_path / "cases.nc")
    back = from_cf(tmp_path / "cases.nc")
    assert back["depth"].values.tolist() == ["a", "a", "b", "b"]
    assert back["version"].values.tolist() == [1, 2, 1, 2]

    packed = {"scale_factor": 0.5, "add_offset": -30.0, "_FillValue": np.uint8(255)}
    radar = level.isel(depth=0, drop=True).astype("u1").assign_attrs(DBZ | packed)
    radar[0, 0, 0] = 255
    to_cf(radar, tmp_path / "radar.nc")
    strict(tmp_path / "radar.nc")
    values = from_cf(tmp_path / "radar.nc")["to"].values
    assert np.isnan(values[0, 0, 0])
    assert (values.ravel()[1:] == -29.5).all()


def test_attributes_of_any_kind_are_written(tmp_path: Path, strict: Check) -> None:
    day = np.datetime64("2000-01-01")
    da = xr.DataArray(np.ones(3), {"time": ("time", months("datetime64", 3))}, ("time",), "sst")
    da.attrs = {**SST, "made": day, "days": np.array([day]), "nested": {"a": 1}, "flag": True}
    to_cf(da, tmp_path / "odd.nc")
    strict(tmp_path / "odd.nc")
    found = from_cf(tmp_path / "odd.nc")["sst"].attrs
    assert (found["made"], found["flag"]) == ("2000-01-01", "true")
