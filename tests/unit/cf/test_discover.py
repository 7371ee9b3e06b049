"""Discovery: real layouts (headers of real files), synthetic oddities, typed errors."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.cf.discover import Axes, discover, find_axes
from xearth.errors import AxisError, DataTypeError, DiscoveryWarning

HEADERS = json.loads(
    (Path(__file__).parents[2] / "data" / "cf" / "headers.json").read_text(encoding="utf-8")
)

LAT = {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
LON = {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}

EXPECTED: dict[str, dict[str, str]] = {
    "awkward_canesm5_tas_noleap": {
        "time": "time", "y": "lat", "x": "lon", "lat": "lat", "lon": "lon",
    },
    "awkward_csm_ts_365days": {"time": "time", "y": "lat", "x": "lon", "lat": "lat", "lon": "lon"},
    "awkward_ostia_monthly": {
        "time": "time", "y": "latitude", "x": "longitude", "lat": "latitude", "lon": "longitude",
    },
    "hindcast_c3s_system5_tas_med": {
        "init": "init", "lead": "lead", "member": "member", "y": "lat", "x": "lon", "lat": "lat",
        "lon": "lon",
    },
    "hindcast_cesm_dple_sst_epac": {
        "init": "init", "lead": "lead", "y": "nlat", "x": "nlon", "lat": "TLAT", "lon": "TLONG",
    },
    "hindcast_geos_rmm1_1999-2009": {"init": "init", "lead": "lead", "member": "member"},
    "obs_cesm_fosi_sst_epac": {
        "time": "time", "y": "nlat", "x": "nlon", "lat": "TLAT", "lon": "TLONG",
    },
    "radar_fmi_20160928": {"time": "time", "y": "y", "x": "x", "lat": "lat", "lon": "lon"},
    "sst_kaplan_anom_185601-200312": {
        "time": "time", "y": "lat", "x": "lon", "lat": "lat", "lon": "lon",
    },
    "index_xro_oras5_197901-202412": {"time": "time"},
    "mnist_t10k_0-7999": {"y": "y", "x": "x"},
    "forecast_ensemble": {
        "time": "time", "member": "realization", "y": "lat", "x": "lon", "lat": "lat",
        "lon": "lon",
    },
    "hindcast": {
        "init": "forecast_reference_time", "lead": "forecast_period", "member": "realization",
        "y": "lat", "x": "lon", "lat": "lat", "lon": "lon",
    },
    "radar_nowcast": {
        "time": "time", "member": "realization", "y": "y", "x": "x", "lat": "lat", "lon": "lon",
    },
    "scores": {"time": "time", "y": "lat", "x": "lon", "lat": "lat", "lon": "lon"},
}  # fmt: skip

# Layouts whose makers left attributes out: what is then said.
WEAK = {
    "hindcast_cesm_dple_sst_epac": "init",
    "obs_cesm_fosi_sst_epac": "time",
    "mnist_t10k_0-7999": "y",
}


def from_header(name: str, **decode: Any) -> xr.Dataset:
    """Build a Dataset with the dims, attributes and coordinate values of a real file."""
    header = HEADERS[name]
    variables = {}
    for key, spec in header["variables"].items():
        shape = [header["sizes"][d] for d in spec["dims"]]
        values = np.array(spec.get("values", np.zeros(shape)), dtype=spec["dtype"]).reshape(shape)
        attrs = dict(spec["attrs"])
        if attrs.get("_FillValue") == "nan":
            attrs["_FillValue"] = np.nan
        variables[key] = (spec["dims"], values, attrs)
    raw = xr.Dataset(variables, attrs=header["attrs"])
    return xr.decode_cf(raw, decode_timedelta=False, **decode)


def names(axes: Axes) -> dict[str, str]:
    found = {k: v for k, v in vars(axes).items() if k != "notes"}
    return {k: v for k, v in found.items() if v is not None}


@pytest.mark.parametrize("name", EXPECTED)
def test_real_layouts(name: str) -> None:
    ds = from_header(name, decode_times=name != "awkward_csm_ts_365days")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        axes = discover(ds, require=tuple(EXPECTED[name]))
    assert names(axes) == EXPECTED[name]
    if name in WEAK:
        assert [w.category for w in caught] == [DiscoveryWarning]
        assert f"{WEAK[name]}: " in str(caught[0].message)
    else:
        assert not caught


@pytest.mark.parametrize("name", EXPECTED)
def test_real_layouts_of_one_variable(name: str) -> None:
    ds = from_header(name, decode_times=name != "awkward_csm_ts_365days")
    field = max(ds.data_vars.values(), key=lambda v: v.ndim)
    found = names(find_axes(field))
    wanted = {
        k: v
        for k, v in EXPECTED[name].items()
        if v in field.dims or (k in ("lat", "lon") and v in field.coords)
    }
    assert found == wanted


def test_a_calendar_that_cannot_be_decoded_is_still_discovered() -> None:
    axes = discover(from_header("awkward_csm_ts_365days", decode_times=False))
    assert axes.time == "time"
    assert any("days since 0000-00-00" in note for note in axes.notes)


def plain(
    lat: dict[str, Any], lon: dict[str, Any], names: tuple[str, str] = ("j", "i")
) -> xr.DataArray:
    y, x = names
    return xr.DataArray(
        np.zeros((2, 3, 4)),
        dims=("time", y, x),
        coords={
            "time": pd.date_range("2000-01-01", periods=2),
            y: (y, [10.0, 0.0, -10.0], lat),
            x: (x, [0.0, 1.0, 2.0, 3.0], lon),
        },
        name="field",
    )


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        (LAT, LON),
        ({"standard_name": "latitude"}, {"standard_name": "longitude"}),
        ({"units": "degrees_north"}, {"units": "degreeE"}),
        ({"_CoordinateAxisType": "Lat"}, {"_CoordinateAxisType": "Lon"}),
    ],
)
def test_each_attribute_alone_is_enough(lat: dict[str, str], lon: dict[str, str]) -> None:
    axes = discover(plain(lat, lon))
    assert (axes.y, axes.x, axes.lat, axes.lon) == ("j", "i", "j", "i")


@pytest.mark.parametrize("units", ["degrees", "degree", None])
@pytest.mark.parametrize(
    "pair", [("lat", "lon"), ("latitude", "longitude"), ("nav_lat", "nav_lon")]
)
def test_bare_names_come_last_and_are_said(units: str | None, pair: tuple[str, str]) -> None:
    attrs = {} if units is None else {"units": units}
    with pytest.warns(DiscoveryWarning, match="Set CF attributes"):
        axes = discover(plain(attrs, attrs, pair))
    assert (axes.lat, axes.lon) == pair
    assert sum("(weak)" in note for note in axes.notes) == 2


def test_plain_degrees_without_a_telling_name_are_not_guessed() -> None:
    with pytest.raises(AxisError, match=r"no y axis.*standard_name='latitude'"):
        discover(plain({"units": "degrees"}, {"units": "degrees"}, ("a", "b")))


def test_attributes_beat_names() -> None:
    da = plain(LON, LAT, ("lat", "lon"))  # a field with swapped names
    axes = discover(da)
    assert (axes.lat, axes.lon, axes.y, axes.x) == ("lon", "lat", "lon", "lat")


def test_two_latitudes_are_not_guessed() -> None:
    da = plain(LAT, LON).assign_coords(
        TLAT=(("j", "i"), np.zeros((3, 4)), {"standard_name": "latitude"}),
        ULAT=(("j", "i"), np.zeros((3, 4)), {"standard_name": "latitude"}),
    )
    axes = discover(da)
    assert axes.lat == "j", "the index of a dimension is preferred"
    two = da.drop_vars(["j", "i"])
    with pytest.raises(AxisError) as caught:
        discover(two)
    for part in ("2 candidates", "'TLAT'", "'ULAT'", "standard_name='latitude'", "Pass lat="):
        assert part in str(caught.value)


def test_the_fields_own_coordinates_attribute_decides() -> None:
    two = (
        plain(LAT, LON)
        .drop_vars(["j", "i"])
        .assign_coords(
            TLAT=(("j", "i"), np.zeros((3, 4)), {"standard_name": "latitude"}),
            ULAT=(("j", "i"), np.zeros((3, 4)), {"standard_name": "latitude"}),
            TLON=(("j", "i"), np.zeros((3, 4)), {"standard_name": "longitude"}),
        )
    )
    two.encoding["coordinates"] = "TLON TLAT"
    assert discover(two).lat == "TLAT"


def test_overrides_win() -> None:
    two = (
        plain(LAT, LON)
        .drop_vars(["j", "i"])
        .assign_coords(
            TLAT=(("j", "i"), np.zeros((3, 4)), {"standard_name": "latitude"}),
            ULAT=(("j", "i"), np.zeros((3, 4)), {"standard_name": "latitude"}),
            TLON=(("j", "i"), np.zeros((3, 4)), {"standard_name": "longitude"}),
        )
    )
    axes = discover(two, lat="ULAT")
    assert (axes.lat, axes.y, axes.x) == ("ULAT", "j", "i")
    da = plain({}, {}, ("a", "b"))
    axes = discover(da, lat="a", lon="b")
    assert (axes.lat, axes.y, axes.x) == ("a", "a", "b")


def test_an_override_that_is_not_there() -> None:
    with pytest.raises(AxisError, match=r"lat='nope' is neither.*'j'"):
        discover(plain(LAT, LON), lat="nope")


def test_no_time_axis() -> None:
    with pytest.raises(
        AxisError, match=r"no time axis: dims are \['j', 'i'\].*standard_name='time'"
    ):
        discover(plain(LAT, LON).isel(time=0, drop=True))


def test_scalar_time_and_scalar_latitude() -> None:
    with pytest.raises(AxisError, match="'time' is a single value"):
        discover(plain(LAT, LON).isel(time=0))
    with pytest.raises(AxisError, match=r"expand_dims\('j'\)"):
        discover(plain(LAT, LON).isel(j=0))
    assert discover(plain(LAT, LON).isel(j=0), require=("time", "x")).lat == "j"


def test_index_series() -> None:
    series = xr.DataArray(
        np.zeros(3), dims="time", coords={"time": pd.date_range("2000-01-01", periods=3)}
    )
    assert names(discover(series, require=("time",))) == {"time": "time"}
    with pytest.raises(AxisError, match="no y axis"):
        discover(series)


def test_time_index_of_another_name_than_its_dimension() -> None:
    da = xr.DataArray(
        np.zeros(3),
        dims="nt",
        coords={"time": ("nt", pd.date_range("2000-01-01", periods=3), {"axis": "T"})},
    )
    with pytest.raises(AxisError, match=r"swap_dims\(nt='time'\)"):
        discover(da, require=("time",))


def test_one_dimensional_time_is_preferred_to_the_valid_time() -> None:
    da = plain(LAT, LON).assign_coords(
        valid_time=(("time", "j"), np.zeros((2, 3), "M8[ns]"), {"standard_name": "time"})
    )
    assert discover(da).time == "time"


def test_dates_along_the_start_are_no_time_axis() -> None:
    da = xr.DataArray(
        np.zeros((2, 3)),
        dims=("init", "lead"),
        coords={
            "init": pd.date_range("2000-01-01", periods=2),
            "lead": ("lead", [1, 2, 3], {"units": "days"}),
            "first_valid": ("init", pd.date_range("2000-01-02", periods=2)),
        },
    )
    axes = discover(da, require=("init", "lead"))
    assert axes.time is None
    with pytest.raises(AxisError, match=r"It is a forecast.*time='init'"):
        discover(da, require=("time",))
    assert discover(da, time="init", require=("time",)).time == "init"
    with pytest.raises(AxisError, match=r"forecast.*swap_dims\(lead='valid_time'\)"):
        discover(da.isel(init=0), require=("time",))


def test_grib_style_start_named_time() -> None:
    start = pd.date_range("2000-01-01", periods=2)
    da = xr.DataArray(
        np.zeros((2, 3)),
        dims=("time", "step"),
        coords={
            "time": ("time", start, {"standard_name": "time"}),
            "step": (
                "step",
                pd.to_timedelta([6, 12, 18], "h"),
                {"standard_name": "forecast_period"},
            ),
            "valid_time": (("time", "step"), np.zeros((2, 3), "M8[ns]"), {"standard_name": "time"}),
        },
    )
    axes = discover(da, require=())
    assert (axes.init, axes.lead, axes.time) == ("time", "step", None)


def test_analysis_with_a_reference_time_along_time() -> None:
    da = plain(LAT, LON).assign_coords(
        forecast_reference_time=(
            "time", pd.date_range("2000-01-01", periods=2),
            {"standard_name": "forecast_reference_time"},
        )
    )  # fmt: skip
    axes = discover(da)
    assert (axes.time, axes.init) == ("time", None)


def test_projected_grid_without_latitudes() -> None:
    da = plain(
        {"standard_name": "projection_y_coordinate"}, {"standard_name": "projection_x_coordinate"}
    )
    axes = discover(da)
    assert (axes.y, axes.x, axes.lat, axes.lon) == ("j", "i", None, None)


def test_rotated_pole() -> None:
    rotated = plain(
        {"standard_name": "grid_latitude", "units": "degrees", "axis": "Y"},
        {"standard_name": "grid_longitude", "units": "degrees", "axis": "X"},
        ("rlat", "rlon"),
    ).assign_coords(
        lat=(("rlat", "rlon"), np.zeros((3, 4)), {"standard_name": "latitude"}),
        lon=(("rlat", "rlon"), np.zeros((3, 4)), {"standard_name": "longitude"}),
    )
    axes = discover(rotated.transpose("rlon", "time", "rlat"))
    assert (axes.y, axes.x, axes.lat, axes.lon) == ("rlat", "rlon", "lat", "lon")


@pytest.mark.parametrize("units", ["degrees", "degrees_north"])
def test_rotated_latitudes_are_no_latitudes(units: str) -> None:
    rotated = plain(
        {"standard_name": "grid_latitude", "units": units},
        {"standard_name": "grid_longitude", "units": units.replace("north", "east")},
        ("rlat", "rlon"),
    )
    axes = discover(rotated)
    assert (axes.y, axes.x, axes.lat, axes.lon) == ("rlat", "rlon", None, None)


def test_axes_of_a_plane_without_telling_names_follow_its_dims() -> None:
    da = (
        plain(LAT, LON, ("a", "b"))
        .drop_vars(["a", "b"])
        .assign_coords(
            la=(("a", "b"), np.zeros((3, 4)), {"standard_name": "latitude"}),
            lo=(("a", "b"), np.zeros((3, 4)), {"standard_name": "longitude"}),
        )
    )
    axes = discover(da)
    assert (axes.y, axes.x) == ("a", "b")
    assert any("order of dims" in note for note in axes.notes)


def test_stations_are_refused() -> None:
    da = xr.DataArray(
        np.zeros((2, 5)),
        dims=("time", "station"),
        coords={
            "time": pd.date_range("2000-01-01", periods=2),
            "lat": ("station", np.zeros(5), LAT),
            "lon": ("station", np.zeros(5), LON),
        },
    )
    with pytest.raises(AxisError, match="unstructured"):
        discover(da)


def test_latitude_hidden_among_the_variables() -> None:
    ds = xr.Dataset(
        {"sst": (("j", "i"), np.zeros((3, 4))), "TLAT": (("j", "i"), np.zeros((3, 4)), LAT)}
    )
    with pytest.raises(AxisError, match=r"set_coords\('TLAT'\)"):
        discover(ds, require=("lat",))


def test_bounds_are_no_candidates() -> None:
    da = plain({**LAT, "bounds": "lat_bnds"}, LON)
    ds = da.to_dataset().assign_coords(lat_bnds=(("j", "bnds"), np.zeros((3, 2)), LAT))
    assert discover(ds).lat == "j"


def test_other_dims_and_member_without_axis() -> None:
    da = plain(LAT, LON).expand_dims(realization=[0, 1], height=[2.0])
    da.realization.attrs["standard_name"] = "realization"
    axes = discover(da)
    assert axes.member == "realization"
    assert axes.other_dims(da) == ("height",)


def test_unknown_requirement() -> None:
    with pytest.raises(AxisError, match="Cannot require"):
        discover(plain(LAT, LON), require=("depth",))


def test_nothing_is_computed() -> None:
    def explode(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("computed")

    lazy = dask.array.zeros((3, 4)).map_blocks(explode, dtype="f8", meta=np.empty((0, 0)))
    da = (
        plain(LAT, LON)
        .drop_vars(["j", "i"])
        .assign_coords(
            lat=(("j", "i"), lazy, {"standard_name": "latitude"}),
            lon=(("j", "i"), lazy, {"standard_name": "longitude"}),
        )
    )
    assert discover(da).lat == "lat"


def test_weak_hints_for_axes_that_are_not_required_are_kept_to_the_notes() -> None:
    time = pd.date_range("2000-01", periods=2, freq="MS")
    da = xr.DataArray(np.zeros((2, 3, 4)), {"time": time}, ("time", "run", "x"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = discover(da, require=("time",))
    assert (axes.member, axes.x) == ("run", "x")
    assert sum(note.endswith("(weak)") for note in axes.notes) == 2
    with pytest.warns(DiscoveryWarning, match="member: 'run'") as caught:
        discover(da, require=("member",))
    assert "'x'" not in str(caught[0].message)
    assert caught[0].filename == __file__  # the line to mend, so that each is shown once


def test_rows_and_columns_need_latitude_and_longitude() -> None:
    da = xr.DataArray(np.zeros((2, 3)), {"lat": [0.0, 1.0], "lon": [0.0, 1.0, 2.0]}, ("lat", "lon"))
    with pytest.warns(DiscoveryWarning, match="lat: 'lat' .*lon: 'lon'"):
        discover(da, require=("y", "x"))


@pytest.mark.parametrize("obj", [np.zeros((2, 3)), [1.0], None])
def test_what_has_no_labels_is_refused(obj: Any) -> None:
    with pytest.raises(DataTypeError, match=rf"DataArray or Dataset, found {type(obj).__name__}"):
        discover(obj)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("S", "L"), "lead"),
        (("time", "forecastMonth"), "init"),
        (("forecast_reference_time", "forecastMonth"), "lead"),
    ],
)
def test_archives_are_sent_to_as_hindcast(names, missing):
    """To mark C3S's forecastMonth as a lead would be one month off."""
    starts = np.array(["2000-01", "2000-02"], "M8[ns]")
    da = xr.DataArray(np.zeros((2, 2)), {names[0]: starts, names[1]: [1, 2]}, names, "t")
    with pytest.raises(AxisError, match=rf"xearth\.as_hindcast\(obj\).*{missing}=") as caught:
        discover(da, require=("init", "lead"))
    assert "attrs.update" not in str(caught.value)
