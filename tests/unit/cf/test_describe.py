"""Descriptions: what is said, in text and HTML, and that nothing lazy is computed."""

from __future__ import annotations

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.cf.describe import describe, longitude_convention
from xearth.errors import AxisError

LAT = {"standard_name": "latitude", "units": "degrees_north"}
LON = {"standard_name": "longitude", "units": "degrees_east"}


def field(lat: list[float], lon: list[float], n: int = 6) -> xr.DataArray:
    return xr.DataArray(
        np.zeros((n, len(lat), len(lon)), "f4"),
        dims=("time", "lat", "lon"),
        coords={
            "time": pd.date_range("2000-01-01", periods=n, freq="MS"),
            "lat": ("lat", lat, LAT),
            "lon": ("lon", lon, LON),
        },
        name="sst",
        attrs={"units": "K"},
    )


@pytest.mark.parametrize(
    ("lat", "text"),
    [
        ([-10.0, 0.0, 10.0], "south to north, every 10 degrees"),
        ([10.0, 0.0, -10.0], "north to south (descending), every 10 degrees"),
        ([0.0, 1.0, 10.0], "unevenly spaced"),
        ([0.0, 10.0, 5.0], "neither"),
        ([5.0], "at 5"),
    ],
)
def test_orientation(lat: list[float], text: str) -> None:
    assert text in describe(field(lat, [0.0, 1.0]))["rows"]


@pytest.mark.parametrize(
    ("lon", "said", "unsaid"),
    [
        (np.arange(0, 360, 2.5), ["0..360", "global"], ["across"]),
        (np.arange(-180, 180, 2.5), ["-180..180", "global"], ["across"]),
        (np.arange(-177.5, 180.1, 2.5), ["-180..180", "global"], []),
        ([150.0, 180.0, 210.0], ["0..360", "dateline"], ["Greenwich", "global"]),
        ([170.0, 175.0, -180.0, -175.0], ["-180..180", "dateline"], ["Greenwich", "uneven"]),
        ([350.0, 355.0, 0.0, 5.0], ["0..360", "Greenwich"], ["dateline", "uneven"]),
        ([-10.0, 0.0, 10.0], ["-180..180", "Greenwich"], ["dateline"]),
        ([10.0, 20.0], ["the same"], ["across"]),
        ([-170.0, -160.0], ["-180..180"], ["across"]),
        ([5.0, 0.0, -5.0], ["westward", "Greenwich"], ["dateline"]),
        ([180.0, 190.0], ["0..360"], ["across"]),
        ([-200.0, -190.0, -170.0], ["own convention", "dateline", "uneven"], []),
        ([370.0, 380.0], ["own convention"], ["across"]),
        ([0.0], ["0"], ["across", "global"]),
    ],
)
def test_longitudes(lon: list[float], said: list[str], unsaid: list[str]) -> None:
    text = longitude_convention(np.asarray(lon))
    for part in said:
        assert part in text
    for part in unsaid:
        assert part not in text


def test_gaps_repeats_order_are_named() -> None:
    da = field([0.0, 1.0], [0.0, 1.0], 24).isel(time=[3, 0, 1, 1, 8, 12, 20, 23])
    found = describe(da)
    assert "1 month, 5 gaps with 17 missing stamps" in found["step"]
    assert "4 missing between 2000-04-01 and 2000-09-01" in found["gap"]
    assert "and " in found["gap"]
    assert "2000-02-01" in found["repeated"]
    assert "not in chronological order" in found["order"]


def test_missing_cells_are_counted() -> None:
    da = field([0.0, 1.0], [0.0, 1.0], 5)
    da[0, 0, 0] = np.nan
    assert "1 of 20 (5 %)" in describe(da)["field 'sst'"]


def test_packing_and_differences_are_said() -> None:
    da = field([0.0, 1.0], [0.0, 1.0])
    da.attrs["units_metadata"] = "temperature: difference"
    da.encoding = {"dtype": "int16", "scale_factor": 0.01}
    text = describe(da)["field 'sst'"]
    assert "packed as int16" in text
    assert "(a difference)" in text


def test_lazy_fields_are_not_counted_nor_computed() -> None:
    def explode(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("computed")

    da = field([0.0, 1.0], [0.0, 1.0])
    lazy = dask.array.zeros(da.shape, chunks=1).map_blocks(
        explode, dtype="f4", meta=np.empty((0, 0, 0))
    )
    plane = dask.array.zeros((2, 2)).map_blocks(explode, dtype="f8", meta=np.empty((0, 0)))
    da = da.copy(data=lazy).drop_vars(["lat", "lon"])
    da = da.rename(lat="y", lon="x").assign_coords(
        lat=(("y", "x"), plane, LAT), lon=(("y", "x"), plane, LON)
    )
    found = describe(da)
    assert "not counted (lazy)" in found["field 'sst'"]
    assert "not looked at" in found["rows"]
    str(found)


def test_what_is_not_understood_is_a_row() -> None:
    da = field([0.0, 1.0], [0.0, 1.0])
    two = da.drop_vars("lat").assign_coords(
        a=(("lat", "lon"), np.zeros((2, 2)), LAT), b=(("lat", "lon"), np.zeros((2, 2)), LAT)
    )
    assert "2 candidates" in describe(two)["axes"]
    assert describe(two)["step"] == "1 month, no gaps", "the time axis is clear all the same"
    uneven = da.isel(time=[0, 1, 2]).assign_coords(
        time=np.array(["2000-01-01", "2000-01-02", "2000-01-04T12"], "M8[ns]")
    )
    assert "not evenly spaced" in describe(uneven)["step"]


def test_forecasts() -> None:
    da = xr.DataArray(
        np.zeros((2, 3, 4)),
        dims=("init", "lead", "member"),
        coords={
            "init": (
                "init",
                pd.date_range("2000", periods=2),
                {"standard_name": "forecast_reference_time"},
            ),
            "lead": ("lead", [1, 2, 3], {"units": "days"}),
            "member": ("member", range(4), {"standard_name": "realization"}),
        },
    )
    found = describe(da)
    assert found["starts"] == "2, 2000-01-01 to 2000-01-02"
    assert found["leads"] == "3, 1 to 3 days"
    assert found["members"] == "4"


def test_html_is_escaped() -> None:
    da = field([0.0, 1.0], [0.0, 1.0]).rename("<b>")
    html = describe(da)._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>'" not in html
    assert html.count("<tr>") == len(describe(da).rows)


def test_a_row_that_is_not_there() -> None:
    with pytest.raises(AxisError, match="no row 'nope'"):
        describe(field([0.0, 1.0], [0.0, 1.0]))["nope"]


def test_helpers_of_a_dataset_are_left_out() -> None:
    ds = field([0.0, 1.0], [0.0, 1.0]).to_dataset()
    ds["crs"] = ((), 0, {"grid_mapping_name": "latitude_longitude"})
    ds["lat"].attrs["bounds"] = "lat_bnds"
    ds["lat_bnds"] = (("lat", "bnds"), np.zeros((2, 2)))
    fields = [label for label, _ in describe(ds).rows if label.startswith("field")]
    assert fields == ["field 'sst'"]
