"""Climatologies and anomalies: values by a second route, laziness, metadata, refusals."""

from __future__ import annotations

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import (
    ConfigError,
    GridMismatchError,
    MissingDataError,
    TimeAxisError,
    TimeAxisWarning,
    UnitsError,
)
from xearth.fields.climatology import anomaly, climatology, from_anomaly
from xearth.fields.regrid import regrid
from xearth.reference.persistence import Persistence


def months(start="1990-01", n=48, **attrs):
    time = pd.date_range(start, periods=n, freq="MS")
    values = np.arange(float(n)) + 10 * np.cos(2 * np.pi * np.arange(n) / 12)
    coords = {"time": ("time", time, {"standard_name": "time"})}
    return xr.DataArray(values, coords, ("time",), "t", {"units": "degC", **attrs})


def test_monthly_means_by_reshaping():
    da = months()
    clim = climatology(da)
    np.testing.assert_allclose(clim, da.values.reshape(4, 12).mean(axis=0), rtol=1e-14)
    assert clim.dims == ("month",)
    assert clim.month.values.tolist() == list(range(1, 13))


def test_anomalies_vanish_over_their_base_and_add_back():
    da = months()
    base = ("1991-01", "1992-12")
    departure = anomaly(da, base=base)
    inside = departure.sel(time=slice(*base))
    np.testing.assert_allclose(inside.values.reshape(2, 12).mean(axis=0), 0, atol=1e-13)
    clim = climatology(da, base=base)
    back = departure.groupby("time.month") + clim
    np.testing.assert_allclose(back, da, rtol=1e-14)
    xr.testing.assert_identical(departure, anomaly(da, clim))


def test_from_anomaly_is_the_inverse_of_anomaly():
    da = months()
    clim = climatology(da, base=("1991", "1992"))
    back = from_anomaly(anomaly(da, clim), clim)
    np.testing.assert_allclose(back, da, rtol=1e-14)
    assert back.attrs["units_metadata"] == "temperature: on_scale"
    assert "anomaly" not in back.attrs["long_name"]
    assert "base_period" not in back.attrs
    kelvin = anomaly(da, clim).assign_attrs(units="K")  # differences: the same numbers
    np.testing.assert_allclose(from_anomaly(kelvin, clim), da, rtol=1e-14)
    xr.testing.assert_allclose(from_anomaly(anomaly(da, clim).chunk(time=5), clim), back)


def test_forecasts_come_back_on_the_grid_and_in_the_units_of_the_data():
    sst = samples.open("kaplan_sst").sel(time=slice("1950", "1981")).load()
    fc = Persistence.fit(sst, horizon=3).forecast(sst, init="1981-12")
    oisst = samples.open("oisst")
    clim = climatology(oisst).assign_attrs(base_period="1951-01/1980-12")
    back = from_anomaly(regrid(fc, like=oisst), clim)
    at = {"lat": 0.5, "lon": 220.5}
    for lead, month in ((1, 1), (2, 2), (3, 3)):
        expected = fc.sel(lead=lead, lat=2.5, lon=222.5) + clim.sel(month=month, **at)
        assert back.sel(lead=lead, **at).item() == pytest.approx(expected.item(), rel=1e-6)
    assert back.attrs["units"] == "degC"
    assert (back.isnull().any("lead") >= clim.isnull().any("month")).all()


def test_from_anomaly_refuses_another_base_and_what_is_no_anomaly():
    da = months()
    clim = climatology(da, base=("1991", "1992"))
    with pytest.raises(ConfigError, match=r"1991-01/1992-12.*\('1990-01', '1993-12'\)"):
        from_anomaly(anomaly(da), clim)
    with pytest.raises(UnitsError, match="expected anomalies"):
        from_anomaly(da, clim)


def test_own_anomalies_are_those_of_noaa():
    """CPC's anomalies depart from 1991-2020; ours come from its absolute values."""
    cpc = samples.open("cpc_nino")
    for name in ("nino12", "nino3", "nino34", "nino4"):
        own = anomaly(cpc[name], base=("1991", "2020"))
        assert abs(own - cpc[f"{name}anom"]).max() < 0.25
        assert np.corrcoef(own, cpc[f"{name}anom"])[0, 1] > 0.99


def test_winters_of_record():
    index = anomaly(samples.open("oisst_nino34"), base=("1991", "2020"))
    winters = {1982: 2.59, 1988: -1.91, 1997: 2.43, 2015: 2.58}
    for year, expected in winters.items():
        djf = index.sel(time=slice(f"{year}-12", f"{year + 1}-02")).mean()
        assert float(djf) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "standard"])
def test_cftime_calendars(calendar):
    time = [cftime.datetime(2000 + i // 12, i % 12 + 1, 16, calendar=calendar) for i in range(36)]
    values = np.random.default_rng(1).standard_normal((36, 2))
    coords = {"time": ("time", time, {"standard_name": "time"})}
    da = xr.DataArray(values, coords, ("time", "cell"), "t", {"units": "K"})
    departure = anomaly(da, base=("2000", "2001"))
    expected = values - np.tile(values[:24].reshape(2, 12, 2).mean(axis=0), (3, 1))
    np.testing.assert_allclose(departure, expected, rtol=1e-13)
    assert departure.attrs["base_period"] == "2000-01/2001-12"


def test_day_of_year():
    time = pd.date_range("2001-01-01", "2003-12-31")
    values = np.random.default_rng(2).standard_normal(time.size)
    coords = {"time": ("time", time, {"standard_name": "time"})}
    da = xr.DataArray(values, coords, ("time",), "t", {"units": "K"})
    clim = climatology(da, frequency="dayofyear")
    np.testing.assert_allclose(clim, values.reshape(3, 365).mean(axis=0), rtol=1e-13)
    departure = anomaly(da, frequency="dayofyear")
    np.testing.assert_allclose(departure, values - np.tile(clim.values, 3), rtol=1e-12)
    assert "day-of-year" in departure.attrs["comment"]


def test_missing_values_are_left_out():
    da = months()
    da[0] = np.nan
    clim = climatology(da)
    assert clim.sel(month=1).item() == pytest.approx(da.values[12::12].mean())
    assert np.isnan(anomaly(da)[0])


def test_metadata_name_the_base_and_the_difference():
    da = months(standard_name="sea_surface_temperature", long_name="SST", valid_min=-2.0)
    departure = anomaly(da, base=("1990", "1991"))
    assert departure.attrs["units"] == "degC"
    assert departure.attrs["units_metadata"] == "temperature: difference"
    assert departure.attrs["base_period"] == "1990-01/1991-12"
    assert "1990-01/1991-12" in departure.attrs["comment"]
    assert "anomaly" in departure.attrs["long_name"]
    assert "valid_min" not in departure.attrs
    clim = climatology(da)
    assert clim.attrs["base_period"] == "1990-01/1993-12"
    assert "valid_min" not in clim.attrs
    assert anomaly(months(units="m")).attrs.get("units_metadata") is None


def test_climatology_in_other_units_is_converted():
    da = months()
    clim = climatology(da)
    kelvin = (clim + 273.15).assign_attrs(clim.attrs, units="K")
    np.testing.assert_allclose(anomaly(da, kelvin), anomaly(da), atol=1e-12)
    with pytest.raises(UnitsError):
        anomaly(da, clim.assign_attrs(units="m"))


def test_dask_stays_lazy_with_the_chunks_of_the_data():
    sst = samples.open("oisst", chunks={"time": 48})
    lazy = anomaly(sst, base=("1982", "1991"))
    assert lazy.chunks == sst.chunks
    assert climatology(sst).chunks is not None
    eager = anomaly(sst.compute(), base=("1982", "1991"))
    xr.testing.assert_allclose(lazy.compute(), eager, atol=1e-5)
    assert lazy.dtype == eager.dtype == np.float32


def test_dims_keep_their_order():
    da = samples.open("oisst").transpose("lon", "time", "lat").isel(lon=slice(0, 3))
    assert anomaly(da).dims == da.dims
    assert climatology(da).dims == ("lon", "month", "lat")


def test_unsorted_times_give_the_same():
    da = months()
    shuffled = da.isel(time=np.random.default_rng(0).permutation(da.size))
    xr.testing.assert_allclose(anomaly(shuffled).sortby("time"), anomaly(da))


@pytest.mark.parametrize("base", [("1985", "1992"), ("1990", "2000"), ("1980", "1989")])
def test_a_base_beyond_the_record_is_refused(base):
    with pytest.raises(TimeAxisError):
        climatology(months(), base=base)


def test_a_base_without_a_month_is_refused():
    with pytest.raises(MissingDataError, match=r"no month \[12\]"):
        climatology(months(), base=("1991-01", "1991-11"))


def test_a_base_of_uneven_years_is_told():
    with pytest.warns(TimeAxisWarning, match="2 to 3 of each"):
        climatology(months(), base=("1990-01", "1992-06"))
    gappy = months().drop_isel(time=15)
    with pytest.warns(TimeAxisWarning, match=r"\[4\]"):
        climatology(gappy, base=("1990", "1993"))


def test_what_contradicts_itself_is_refused():
    da = months()
    clim = climatology(da)
    with pytest.raises(ConfigError, match="both"):
        anomaly(da, clim, base=("1990", "1991"))
    with pytest.raises(ConfigError, match="month"):
        climatology(da, frequency="week")
    with pytest.raises(ConfigError, match="dim"):
        anomaly(da, da)
    with pytest.raises(MissingDataError, match=r"month \[1\]"):
        anomaly(da, clim.isel(month=slice(1, None)))


def test_forecasts_depart_from_the_month_of_their_valid_time():
    da = months()
    clim = climatology(da)
    fc = Persistence.fit(da, horizon=3).forecast(da, init=["1992-11", "1993-05"])
    departure = anomaly(fc, clim)
    expected = fc.values - clim.values[[[11, 0, 1], [5, 6, 7]]]
    np.testing.assert_allclose(departure, expected, rtol=1e-12)
    assert departure.dims == ("init", "lead")
    assert departure.attrs["base_period"] == "1990-01/1993-12"


def fields(lat):
    da = months(units="degC").expand_dims(lat=len(lat), axis=1)
    return da.assign_coords(lat=("lat", lat, {"units": "degrees_north"}))


def test_a_climatology_of_another_grid_is_refused_and_of_the_same_turned():
    da = fields([-5.0, 0.0, 5.0]) * xr.DataArray([1.0, 2.0, 3.0], dims="lat")
    da.attrs["units"] = "degC"
    clim = climatology(da)
    xr.testing.assert_identical(anomaly(da, clim[:, ::-1]), anomaly(da, clim))
    for other in (clim[:, :2], clim.assign_coords(lat=clim.lat + 0.2)):
        with pytest.raises(GridMismatchError, match=r"differ along 'lat': . against 3 labels"):
            anomaly(da, other)
    with pytest.raises(GridMismatchError, match="has the dim 'lat', which the data"):
        anomaly(da.isel(lat=0), clim)


@pytest.mark.parametrize("base", ["1990", ("1990",), ("1990", "1991", "1992")])
def test_a_base_period_has_two_ends(base):
    with pytest.raises(ConfigError, match="first and last time"):
        climatology(months(), base=base)
