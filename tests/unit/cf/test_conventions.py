"""Hindcasts in the conventions of the archives come out as one: same values, same valid times."""

from __future__ import annotations

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.cf.conventions import as_hindcast, count_members, open_hindcast
from xearth.cf.nominal import decode_times
from xearth.cf.writer import from_cf, to_cf
from xearth.errors import (
    AxisError,
    DiscoveryWarning,
    GridMismatchError,
    LeadError,
    SourceError,
    TimeAxisError,
    TimeAxisWarning,
    UnitsError,
)
from xearth.testing.assertions import raise_if_dask_computes
from xearth.verification.align import observations_at

INITS = pd.date_range("1999-11-01", periods=4, freq="MS")
VALUES = np.random.default_rng(0).standard_normal((4, 3, 2, 5, 6)).astype("float32")


def monthly(names=("init", "lead", "member"), **coords):
    """Four starts, three months from the month of the start on, two members, 5 x 6 cells."""
    dims = (*names, "lat", "lon")
    given = {
        names[0]: INITS.values,
        names[1]: np.arange(3),
        names[2]: np.arange(2),
        "lat": ("lat", np.linspace(-10, 10, 5), {"units": "degrees_north"}),
        "lon": ("lon", np.arange(6) * 60.0, {"units": "degrees_east"}),
    }
    given = {k: v for k, v in {**given, **coords}.items() if v is not None}
    return xr.Dataset({"sst": (dims, VALUES.copy(), {"units": "K", "long_name": "sst"})}, given)


def _climpred():
    return monthly(lead=("lead", [0, 1, 2], {"units": "months"}))


def _cf():
    return monthly(
        ("reftime", "period", "realization"),
        reftime=("reftime", INITS.values, {"standard_name": "forecast_reference_time"}),
        period=("period", [0, 1, 2], {"standard_name": "forecast_period", "units": "months"}),
        realization=("realization", [0, 1], {"standard_name": "realization", "units": "1"}),
    ).transpose("realization", "period", "reftime", ...)


def _nmme():
    months = (INITS.year - 1960) * 12 + INITS.month - 1
    since = {"units": "months since 1960-01-01", "calendar": "360", "standard_name":
             "forecast_reference_time"}  # fmt: skip
    return monthly(
        ("S", "L", "M"),
        S=("S", np.asarray(months, dtype="f4"), since),
        L=("L", np.array([0.5, 1.5, 2.5], "f4"), {
            "units": "months", "standard_name": "forecast_period"}),
        M=("M", np.array([1.0, 2.0], "f4"), {
            "standard_name": "realization", "units": "unitless"}),
    ).transpose("S", "M", "L", ...)  # fmt: skip


def _nmme_without_attributes():
    return monthly(("S", "L", "M"), L=("L", [0.5, 1.5, 2.5], {"units": "months"}))


def _c3s():
    return monthly(("time", "forecastMonth", "number"), forecastMonth=[1, 2, 3])


def _c3s_reference_time():
    return monthly(
        ("forecast_reference_time", "forecastMonth", "number"), forecastMonth=[1, 2, 3]
    ).transpose("number", "forecastMonth", "forecast_reference_time", ...)


def _described():
    attrs = {"units": "months", "long_name": "forecast month (1 = the month of the start date)"}
    return monthly(lead=("lead", [1, 2, 3], attrs))


def _cstools():
    return monthly(
        ("sdate", "ftime", "member"),
        sdate=("sdate", INITS.strftime("%Y%m%d").to_numpy(dtype="U8")),
        ftime=("ftime", [1, 2, 3], {
            "units": "months", "long_name": "forecast time, 1: month of the start"}),
    )  # fmt: skip


def _digits():
    return monthly(
        ("start_date", "lead_month", "ens"),
        start_date=("start_date", INITS.strftime("%Y%m%d").astype(int)),
        lead_month=[0, 1, 2],
    )


def _text():
    return monthly(init=INITS.strftime("%Y-%m-%dT%H:%M:%S").to_numpy(dtype="U19"),
                   lead=("lead", [0, 1, 2], {"units": "Months"}))  # fmt: skip


def _unit_in_words():
    return monthly(lead=("lead", [0, 1, 2], {"long_name": "lead month"}))


def _valid_time_alone():
    """Leads that are numbered only: the valid times tell what they are."""
    valid = INITS.values.astype("M8[M]")[:, None] + np.arange(3)
    return monthly(valid_time=(("init", "lead"), valid.astype("M8[ns]")), lead=[1, 2, 3])


def _two_dimensional_valid_time():
    """Labels that say nothing of the counting: the valid times do."""
    middle = [[(i + pd.DateOffset(months=n)).replace(day=15) for n in range(3)] for i in INITS]
    return monthly(
        lead=("lead", [1, 2, 3], {"units": "months"}),
        valid=(("init", "lead"), np.array(middle, "M8[ns]"), {"standard_name": "time"}),
    )


def _days_with_middles_of_months():
    middle = [[(i + pd.DateOffset(months=n)).replace(day=16) for n in range(3)] for i in INITS[:1]]
    ds = monthly().isel(init=[0])
    days = (np.array(middle, "M8[ns]")[0] - INITS.values[0]) / np.timedelta64(1, "D")
    return ds.assign_coords(
        lead=("lead", days, {"units": "days", "standard_name": "forecast_period"}),
        time=("lead", np.array(middle, "M8[ns]")[0], {"standard_name": "time"}),
    )


def _single_start_along_its_time():
    ds = monthly().isel(init=0).rename(lead="time", init="forecast_reference_time")
    return ds.assign_coords(time=pd.date_range("1999-11-01", periods=3, freq="MS"))


def _durations_of_months():
    """As cfgrib gives monthly means: steps in days, all starts in one month of common years."""
    ds = monthly(("time", "step", "number")).isel(time=[0])
    steps = pd.to_timedelta([0, 30, 61], unit="D")
    return ds.assign_coords(step=steps)


def _transposed_with_bounds():
    bounds = np.stack([[0, 1, 2], [1, 2, 3]], -1)
    ds = _cf()
    ds["period"].attrs["bounds"] = "period_bnds"
    return ds.assign_coords(period_bnds=(("period", "bnds"), bounds))


LAYOUTS = {
    name.__name__.strip("_"): name
    for name in (
        _climpred, _cf, _nmme, _nmme_without_attributes, _c3s, _c3s_reference_time, _described,
        _cstools, _digits, _text, _unit_in_words, _valid_time_alone,
        _two_dimensional_valid_time, _days_with_middles_of_months,
        _single_start_along_its_time, _durations_of_months, _transposed_with_bounds,
    )
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_comes_out_the_same(layout):
    ds = LAYOUTS[layout]()
    hc = open_hindcast(ds)
    starts = hc.sizes["init"]
    assert hc.sst.dims == ("init", "lead", "member", "lat", "lon")
    np.testing.assert_array_equal(hc.sst.values, VALUES[:starts])
    assert hc.lead.dtype == np.int64
    assert hc.lead.values.tolist() == [0, 1, 2]
    assert hc.lead.attrs["units"] == "months"
    assert hc.lead.attrs["standard_name"] == "forecast_period"
    assert hc.member.attrs["standard_name"] == "realization"
    assert hc.init.attrs["standard_name"] == "forecast_reference_time"
    assert (hc.init.values == INITS.values[:starts]).all()
    expected = INITS.values[:starts].astype("M8[M]")[:, None] + np.arange(3)
    assert hc.valid_time.dims == ("init", "lead")
    assert (hc.valid_time.values.astype("M8[M]") == expected).all()
    assert hc.sst.attrs == ds.sst.attrs
    xr.testing.assert_equal(as_hindcast(hc), hc)
    one = as_hindcast(decode_times(ds).sst)
    assert isinstance(one, xr.DataArray)
    xr.testing.assert_equal(one, hc.sst)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_truth_is_found_for_every_layout(layout):
    """The label of the month of the start differs; the truth of that month does not."""
    time = pd.date_range("1999-01-01", "2001-12-01", freq="MS")
    obs = xr.DataArray(np.arange(36.0), {"time": time}, ("time",), "obs", {"units": "K"})
    at = observations_at(open_hindcast(LAYOUTS[layout]()).sst, obs)
    assert at.isel(init=0).values.tolist() == [10.0, 11.0, 12.0]


@pytest.mark.parametrize("layout", ["nmme", "c3s", "described", "cf"])
def test_through_a_file_and_back(layout, tmp_path):
    ds = LAYOUTS[layout]()
    ds.to_netcdf(tmp_path / "a.nc")
    hc = open_hindcast(tmp_path / "a.nc", chunks={})
    assert hc.sst.chunks is not None
    xr.testing.assert_equal(hc.load(), open_hindcast(ds))
    to_cf(hc.sst, tmp_path / "b.nc")
    for again in (open_hindcast(tmp_path / "b.nc"), from_cf(tmp_path / "b.nc")):
        np.testing.assert_array_equal(again.sst.values, VALUES)
        assert again.lead.values.tolist() == [0, 1, 2]
        assert (again.valid_time.values == hc.valid_time.values).all()


def test_labels_of_the_source_stay_under_their_name():
    hc = open_hindcast(_nmme())
    assert hc.L.dims == ("lead",)
    assert hc.L.values.tolist() == [0.5, 1.5, 2.5]
    assert "middle" in hc.lead.attrs["comment"]
    hc = open_hindcast(_described())
    assert hc.lead_label.values.tolist() == [1, 2, 3]
    assert hc.swap_dims(lead="lead_label").sst.sel(lead_label=1).sizes["init"] == 4


@pytest.mark.parametrize(
    ("values", "attrs", "counts", "unit"),
    [
        ([0.5, 1.5, 2.5], {"units": "days"}, [0, 1, 2], "days"),
        ([0.25, 0.5, 0.75], {"units": "days"}, [6, 12, 18], "hours"),
        ([0.5, 1.0, 1.5], {"units": "days"}, [12, 24, 36], "hours"),
        ([1, 2, 3], {"units": "weeks"}, [7, 14, 21], "days"),
        ([1, 2, 3], {"units": "pentads"}, [5, 10, 15], "days"),
        ([6, 12, 18], {"units": "hours"}, [6, 12, 18], "hours"),
        ([1, 2, 3], {"units": "years"}, [1, 2, 3], "years"),
        ([1, 2, 3], {"units": "seasons"}, [3, 6, 9], "months"),
        (np.array([24, 48, 72], "m8[h]"), {}, [1, 2, 3], "days"),
        (np.array([6, 12, 18], "m8[h]"), {}, [6, 12, 18], "hours"),
        (np.array([300, 600, 900], "m8[s]"), {}, [5, 10, 15], "minutes"),
    ],
)
def test_integer_float_and_duration_leads(values, attrs, counts, unit):
    hc = as_hindcast(monthly(lead=("lead", values, attrs)))
    assert hc.lead.values.tolist() == counts
    assert hc.lead.attrs["units"] == unit
    if unit in ("days", "hours", "minutes"):
        one = np.timedelta64(1, {"days": "D", "hours": "h", "minutes": "m"}[unit])
        elapsed = (hc.valid_time - hc.init).values / one
        assert elapsed[0].tolist() == counts


def test_the_counting_can_be_told():
    ds = monthly(lead=("lead", [1, 2, 3], {"units": "months"}))
    with pytest.warns(DiscoveryWarning, match="does not say what 1 is"):
        assert as_hindcast(ds).lead.values.tolist() == [1, 2, 3]
    assert as_hindcast(ds, counting="elapsed").lead.values.tolist() == [1, 2, 3]
    said = monthly(lead=("lead", [1, 2, 3], {"units": "months", "long_name": "months after init"}))
    assert as_hindcast(said).lead.values.tolist() == [1, 2, 3]
    assert as_hindcast(ds, counting="ordinal").lead.values.tolist() == [0, 1, 2]
    with pytest.raises(LeadError, match="midpoint"):
        as_hindcast(ds, counting="midpoint")
    with pytest.raises(LeadError, match="expected one of"):
        as_hindcast(ds, counting="from_one")
    with pytest.raises(LeadError, match="ordinal"):
        as_hindcast(monthly(lead=("lead", [0, 1, 2], {"units": "months"})), counting="ordinal")


@pytest.mark.parametrize("calendar", ["360_day", "noleap", "standard"])
def test_calendars_of_models(calendar):
    starts = xr.date_range("2000-01-30", periods=4, freq="MS", calendar=calendar, use_cftime=True)
    hc = as_hindcast(monthly(init=starts, lead=("lead", [0, 1, 2], {"units": "months"})))
    assert hc.valid_time.values[0, 1].calendar == calendar
    assert [v.month for v in hc.valid_time.values[0]] == [2, 3, 4]
    time = pd.date_range("2000-01-01", periods=24, freq="MS")
    obs = xr.DataArray(np.arange(24.0), {"time": time}, ("time",), "obs")
    assert observations_at(hc, obs).isel(init=0).values.tolist() == [1.0, 2.0, 3.0]


def test_days_of_a_360_day_calendar():
    starts = [cftime.Datetime360Day(2000, m, 30) for m in (1, 2, 3, 4)]
    hc = as_hindcast(monthly(init=starts, lead=("lead", [0, 30, 60], {"units": "days"})))
    assert str(hc.valid_time.values[0, 2]) == "2000-03-30 00:00:00"


def test_years_alone():
    ds = monthly(init=np.array([1954, 1955, 1956, 1957], "i4"),
                 lead=("lead", [1, 2, 3], {"units": "years"}))  # fmt: skip
    hc = as_hindcast(ds)
    assert hc.valid_time.dt.year.values[0].tolist() == [1955, 1956, 1957]
    obs = xr.Dataset({"a": ("time", np.arange(10.0))}, {"time": np.arange(1950, 1960)})
    assert decode_times(obs.a).identical(decode_times(obs).a)
    at = observations_at(hc, decode_times(obs).a)
    assert at.isel(init=0).values.tolist() == [5.0, 6.0, 7.0]


def test_years_of_a_control_run_beyond_nanoseconds():
    years = np.array([3014, 3023, 3045, 3061])
    hc = as_hindcast(monthly(init=years, lead=("lead", [1, 2, 3], {"units": "years"})))
    assert hc.valid_time.dt.year.values[3].tolist() == [3062, 3063, 3064]


def test_middles_of_days_as_durations():
    middles = np.array([12, 36, 60], "m8[h]")
    ds = monthly(lead=("lead", middles))
    assert as_hindcast(ds).lead.values.tolist() == [12, 36, 60]
    hc = as_hindcast(ds, counting="midpoint")
    assert (hc.lead.values.tolist(), hc.lead.units) == ([0, 1, 2], "days")


def test_starts_without_a_date_are_left_out_and_counted():
    starts = INITS.values.copy()
    starts[1] = np.datetime64("NaT")
    ds = monthly(init=starts, lead=("lead", [0, 1, 2], {"units": "months"}))
    with pytest.warns(TimeAxisWarning, match="1 of 4 starts"):
        hc = as_hindcast(ds)
    np.testing.assert_array_equal(hc.sst.values, VALUES[[0, 2, 3]])


def test_missing_valid_times_are_filled():
    ds = _two_dimensional_valid_time()
    ds["valid"][1, 2] = np.datetime64("NaT", "ns")
    hc = as_hindcast(ds)
    assert not hc.valid_time.isnull().any()
    assert hc.lead.values.tolist() == [0, 1, 2]


def test_valid_times_that_contradict_the_leads_are_refused():
    ds = _two_dimensional_valid_time()
    wrong = ds.assign_coords(valid=(("init", "lead"), ds.valid.values[::-1], ds.valid.attrs))
    with pytest.raises(LeadError, match="however the leads are counted"):
        as_hindcast(wrong)


def test_members_that_are_missing_are_counted():
    ds = _climpred()
    ds["sst"][1, :, 1] = np.nan
    ds["sst"][:, :, :, 0, 0] = np.nan
    hc = as_hindcast(ds.chunk(init=1))
    with raise_if_dask_computes():
        n = count_members(hc.sst)
    assert n.dims == ("init", "lead")
    assert n.values.tolist() == [[2] * 3, [1] * 3, [2] * 3, [2] * 3]
    with pytest.raises(AxisError, match="member"):
        count_members(hc.sst, member="model")


def test_nothing_is_computed():
    with raise_if_dask_computes():
        hc = as_hindcast(_c3s().chunk(time=1))
    assert hc.sst.chunks is not None


def test_files_of_one_start_each_make_one_hindcast(tmp_path):
    ds = _climpred()
    for k in range(4):
        part = ds.isel(init=[k]).drop_vars("lead")
        part = part.assign_coords(lead=ds["lead"])
        if k == 2:
            part = part.isel(member=[0])
        part.to_netcdf(tmp_path / f"hc_{3 - k}.nc")
    hc = open_hindcast(str(tmp_path / "hc_*.nc"))
    assert hc.sst.chunks is not None
    assert (hc.init.values == INITS.values).all()
    assert count_members(hc.sst).values[:, 0].tolist() == [2, 2, 1, 2]
    whole = as_hindcast(ds)
    xr.testing.assert_equal(hc.valid_time.load(), whole.valid_time)
    np.testing.assert_array_equal(hc.sst.isel(member=0).values, VALUES[:, :, 0])
    with pytest.raises(TimeAxisError, match="twice"):
        open_hindcast([tmp_path / "hc_0.nc", tmp_path / "hc_0.nc"])
    with pytest.raises(SourceError, match="no file"):
        open_hindcast(str(tmp_path / "none_*.nc"))
    with pytest.raises(SourceError, match="no file"):
        open_hindcast(tmp_path / "none.nc")
    (tmp_path / "bad.nc").write_bytes(b"no netcdf")
    with pytest.raises(SourceError, match="Cannot read"):
        open_hindcast(tmp_path / "bad.nc")


def _in_files(folder, *parts):
    for number, part in enumerate(parts):
        part.to_netcdf(folder / f"hc_{number}.nc")
    return str(folder / "hc_*.nc")


def _celsius(ds):
    return ds.assign(sst=(ds.sst - 273.15).assign_attrs(units="degC"))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (_celsius, UnitsError, ["'K'", "'degC'", "sst"]),
        (lambda ds: ds.assign(sst=ds.sst.assign_attrs(units_metadata="temperature: difference")),
         UnitsError, ["difference"]),
        (lambda ds: ds.assign(sst=ds.sst.drop_attrs(deep=False)), UnitsError, ["''"]),
        (lambda ds: ds.assign_coords(lead=("lead", [0, 1, 2], {"units": "days"})), LeadError,
         ["months", "days"]),
        (lambda ds: ds.assign_coords(lat=ds.lat + 1e-6), GridMismatchError,
         ["lat", "-10.0", "-9.999999"]),
        (lambda ds: ds.isel(lat=slice(4)), GridMismatchError, ["lat", "4", "5"]),
        (lambda ds: ds.isel(lat=slice(None, None, -1)), GridMismatchError, ["lat", "-10.0"]),
        (lambda ds: ds.drop_vars("lon"), GridMismatchError, ["lon", "unlabeled"]),
        (lambda ds: ds.rename(sst="t2m"), SourceError, ["sst", "t2m"]),
        (lambda ds: ds.isel(member=0, drop=True), SourceError, ["dimensions", "member"]),
        (lambda ds: ds.assign_coords(member=["a", "b"]), AxisError, ["member", "'a'"]),
        (lambda ds: ds.convert_calendar("noleap", dim="init"), TimeAxisError, ["noleap"]),
        (lambda ds: ds.assign_coords(height=10.0), SourceError, ["height", "2.0", "10.0"]),
        (lambda ds: ds.assign(mask=1 - ds.mask), SourceError, ["mask"]),
        (lambda ds: ds.drop_vars("height"), SourceError, ["height", "none"]),
    ],
)  # fmt: skip
def test_files_that_do_not_belong_together_are_refused(tmp_path, change, error, words):
    ds = _climpred().assign_coords(height=2.0)
    ds["mask"] = ("lat", [0, 0, 1, 1, 0])
    good = ds.isel(init=[0])
    pattern = _in_files(tmp_path, good, ds.isel(init=[1]), change(ds.isel(init=[2])))
    with pytest.raises(error) as caught:
        open_hindcast(pattern)
    assert type(caught.value) is error
    for word in ("hc_0.nc", "hc_2.nc", *words):
        assert word in str(caught.value)
    (tmp_path / "hc_2.nc").unlink()
    joined = open_hindcast(pattern)
    assert joined.height.item() == 2.0
    assert joined.mask.dims == ("lat",)
    assert joined.mask.dtype == ds.mask.dtype


def test_leads_of_files_are_joined_in_the_finer_unit(tmp_path):
    ds = _climpred()
    hours = ds.isel(init=[0]).assign_coords(lead=("lead", [24, 36, 48], {"units": "hours"}))
    days = ds.isel(init=[1]).assign_coords(lead=("lead", [1, 2, 3], {"units": "days"}))
    joined = open_hindcast(_in_files(tmp_path, days, hours))
    assert joined.lead.values.tolist() == [24, 36, 48, 72]
    assert joined.lead.attrs["units"] == "hours"
    assert joined.sst.isel(member=0, lat=0, lon=0).notnull().values.tolist() == [
        [True, True, True, False], [True, False, True, True],
    ]  # fmt: skip
    np.testing.assert_array_equal(
        (joined.valid_time - joined.init).values / np.timedelta64(1, "h"),
        np.broadcast_to(joined.lead.values, (2, 4)),
    )


def test_labels_of_leads_that_some_files_lack_are_kept(tmp_path):
    ds = monthly(("time", "forecastMonth", "number"), forecastMonth=[1, 2, 3])
    parts = [ds.isel(time=[0], forecastMonth=[0, 1]), ds.isel(time=[1])]
    joined = open_hindcast(_in_files(tmp_path, *parts))
    assert joined.forecastMonth.values.tolist() == [1, 2, 3]
    assert joined.forecastMonth.dtype.kind == "i"
    assert joined.lead.values.tolist() == [0, 1, 2]


def test_two_spellings_of_a_unit_are_one(tmp_path):
    ds = _climpred()
    other = ds.isel(init=[1])
    joined = open_hindcast(
        _in_files(
            tmp_path, ds.isel(init=[0]), other.assign(sst=other.sst.assign_attrs(units="kelvin"))
        )
    )
    assert joined.sst.attrs["units"] == "K"


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda ds: ds.isel(lead=0, drop=True), AxisError, "No leads"),
        (lambda ds: ds.isel(init=0, drop=True), AxisError, "No starts"),
        (lambda ds: ds.assign_coords(lead=("lead", [0, 1, 2])), LeadError, "units"),
        (lambda ds: ds.drop_vars("lead"), AxisError, "have no coordinate"),
        (lambda ds: ds.assign_coords(lead=("lead", [0, 1, 1], {"units": "months"})), LeadError,
         "repeated"),
        (lambda ds: ds.assign_coords(lead=("lead", [-1, 0, 1], {"units": "months"})), LeadError,
         "negative"),
        (lambda ds: ds.assign_coords(init=np.arange(4)), TimeAxisError, "not dates"),
        (lambda ds: ds.isel(init=[0, 0, 1]), TimeAxisError, "more than once"),
        (lambda ds: ds.assign_coords(init=["a", "b", "c", "d"]), TimeAxisError, "not dates"),
        (lambda ds: ds.assign_coords(init=("init", np.full(4, np.datetime64("NaT", "ns")))),
         TimeAxisError, "No start has a date"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*NaT.*")
def test_what_is_no_hindcast_is_refused(change, error, match):
    with pytest.raises(error, match=match):
        as_hindcast(change(_climpred()))


def test_names_can_be_given():
    ds = _climpred().rename(init="a", lead="b", member="c")
    with pytest.raises(AxisError, match=r"init=\.\.\."):
        as_hindcast(ds)
    hc = as_hindcast(ds, init="a", lead="b", member="c")
    xr.testing.assert_equal(hc, as_hindcast(_climpred()))
    with pytest.raises(AxisError, match="no coordinate or dimension"):
        as_hindcast(ds, init="d")


@pytest.mark.parametrize(
    ("units", "value", "expected"),
    [
        ("months since 1960-01-01", 480.5, "2000-01-16T12"),
        ("months since 1960-01-01", 481.0, "2000-02-01T00"),
        ("months since 1960-01-16", 480, "2000-01-16T00"),
        ("years since 1900-07-01", 100, "2000-07-01T00"),
        ("month since 1-1-1", 12 * 1999, "2000-01-01T00"),
    ],
)
def test_months_and_years_since(units, value, expected):
    ds = xr.Dataset(coords={"time": ("time", [value], {"units": units, "calendar": "standard"})})
    assert decode_times(ds).time.values.astype("M8[h]").astype(str).tolist() == [expected]


def test_ordinary_dates_are_left_to_xarray():
    ds = xr.Dataset(
        {"year": ("time", [2000, 2001])},
        {"time": ("time", [0, 31], {"units": "days since 2000-01-01", "calendar": "360_day"})},
    )
    out = decode_times(ds)
    assert out.time.values[1] == cftime.Datetime360Day(2000, 2, 2)
    assert out.year.dtype.kind == "i"
    with pytest.raises(TimeAxisError, match="no date"):
        decode_times(xr.Dataset(coords={"time": ("time", [20001341])}))
