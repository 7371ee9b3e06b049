"""Nino indices, the relative index, and means over months."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import ConfigError, RegionError, TimeAxisError
from xearth.fields.climatology import anomaly
from xearth.fields.regions import NINO34, TROPICS, Box, box_mean
from xearth.reference.persistence import Persistence
from xearth.verification.scores.indices import (
    nino3,
    nino4,
    nino12,
    nino34,
    nino_index,
    relative_nino34,
    running_mean,
)

DATA = Path(__file__).parents[2] / "data"


def globe(n=120):
    time = pd.date_range("2000-01", periods=n, freq="MS")
    lat, lon = np.arange(-87.5, 90, 5.0), np.arange(0, 360, 5.0)
    coords = {
        "time": ("time", time, {"standard_name": "time"}),
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    values = np.random.default_rng(0).standard_normal((n, lat.size, lon.size))
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    return xr.DataArray(values, coords, ("time", "lat", "lon"), "sst", attrs)


def test_names_and_functions_agree():
    da = globe(3)
    for name, function in {
        "nino12": nino12,
        "nino3": nino3,
        "nino34": nino34,
        "nino4": nino4,
    }.items():
        index = function(da)
        assert index.name == name
        xr.testing.assert_identical(index, nino_index(da, name))
    boxed = nino_index(da, Box(0, 10, 200, 220, "mine"))
    assert boxed.name == "mine"


def test_an_unknown_region_lists_the_known():
    with pytest.raises(RegionError, match="nino12, nino3, nino34, nino4"):
        nino_index(globe(2), "nino5")


def test_relative_index_by_its_definition():
    da = globe()
    n, t = box_mean(da, NINO34), box_mean(da, TROPICS)
    difference = n - t
    index = relative_nino34(da)
    np.testing.assert_allclose(index, difference * n.std() / difference.std(), rtol=1e-12)
    assert float(index.std()) == pytest.approx(float(n.std()), rel=1e-12)
    assert index.attrs["scale"] == pytest.approx(float(n.std() / difference.std()))
    xr.testing.assert_allclose(relative_nino34(da, scale=2.0), 2 * difference)


def test_relative_index_does_not_see_a_warming_of_the_tropics():
    da = globe()
    warmer = da + xr.DataArray(np.linspace(0, 2, 120), {"time": da.time}, ("time",))
    warmer.attrs = da.attrs
    scale = relative_nino34(da).attrs["scale"]
    xr.testing.assert_allclose(relative_nino34(warmer, scale=scale), relative_nino34(da))


def test_relative_index_of_an_absolute_field_takes_its_base():
    da = globe()
    seasons = 290 + 3 * np.cos(2 * np.pi * da.time.dt.month / 12)
    absolute = (da + seasons).drop_attrs(deep=False).assign_attrs(units="K")
    index = relative_nino34(absolute, base=("2000", "2004"))
    by_field = relative_nino34(anomaly(absolute, base=("2000", "2004")))
    xr.testing.assert_allclose(index, by_field)
    assert index.attrs["base_period"] == "2000-01/2004-12"
    assert index.attrs["units_metadata"] == "temperature: difference"
    with pytest.raises(ConfigError, match="already is an anomaly"):
        relative_nino34(da, base=("2000", "2004"))


def test_relative_index_needs_the_tropics():
    with pytest.raises(RegionError, match="tropics"):
        relative_nino34(samples.open("kaplan_sst"))


def test_relative_index_of_ostia_follows_roni():
    """OSTIA's rows end at 5 degrees, so its own belt stands in for 20S-20N."""
    sst = xr.open_dataset(DATA / "ostia_monthly.nc").surface_temperature
    index = relative_nino34(sst, tropics=Box(-5.2, 4.7, 0, 360, "belt"))
    season = running_mean(index, align="centered")
    roni = xr.open_dataset(DATA / "roni.nc").roni
    known = roni.time.values.astype("M8[M]")
    truth = roni.values[np.searchsorted(known, season.time.values.astype("M8[M]"))]
    ok = np.isfinite(season.values)
    assert ok.sum() == 52
    assert np.corrcoef(season.values[ok], truth[ok])[0, 1] > 0.97
    assert season.values[ok].std() == pytest.approx(truth[ok].std(), rel=0.03)


def test_means_over_months_are_those_of_xarray():
    index = samples.open("oisst_nino34")
    trailing = index.rolling(time=3).mean()
    np.testing.assert_allclose(running_mean(index), trailing, rtol=1e-6)
    centered = index.rolling(time=5, center=True).mean()
    np.testing.assert_allclose(running_mean(index, 5, align="centered"), centered, rtol=1e-6)
    np.testing.assert_array_equal(running_mean(index, 1), index)
    assert running_mean(index).attrs["units"] == "degC"
    assert "trailing 3-month mean" in running_mean(index).attrs["long_name"]


def test_windows_with_a_gap_are_nan():
    index = samples.open("oisst_nino34").isel(time=slice(0, 12))
    gappy = index.drop_isel(time=6)
    mean = running_mean(gappy)
    assert np.flatnonzero(mean.isnull()).tolist() == [0, 1, 6, 7]
    expected = running_mean(index).sel(time=mean.time)[8:]
    xr.testing.assert_allclose(mean[8:], expected)
    middle = running_mean(gappy, align="centered")
    assert np.flatnonzero(middle.isnull()).tolist() == [0, 5, 6, 10]


def test_means_of_fields_and_unsorted_times():
    da = globe(12)
    shuffled = da.isel(time=[3, 1, 0, 2, 5, 4, 6, 7, 8, 9, 11, 10])
    found = running_mean(shuffled)
    assert found.time.equals(shuffled.time)
    np.testing.assert_allclose(found.sortby("time")[2:], da.rolling(time=3).mean()[2:], atol=1e-12)
    assert running_mean(da.transpose("lat", "time", "lon")).dims == ("lat", "time", "lon")


def test_means_stay_lazy():
    da = globe(12).chunk(time=5)
    assert running_mean(da).chunks is not None
    np.testing.assert_allclose(running_mean(da).compute(), running_mean(da.compute()))


def test_forecasts_are_averaged_along_the_lead():
    index = samples.open("oisst_nino34")
    fc = Persistence.fit(index, horizon=5).forecast(index, init=["1990-01", "1995-06"])
    mean = running_mean(fc)
    assert mean.dims == ("init", "lead")
    assert bool(mean.isel(lead=[0, 1]).isnull().all())
    np.testing.assert_allclose(mean[:, 2], fc[:, 0:3].mean("lead"), rtol=1e-6)


def test_what_cannot_be_averaged():
    index = samples.open("oisst_nino34")
    with pytest.raises(ConfigError, match="odd"):
        running_mean(index, 4, align="centered")
    with pytest.raises(ConfigError, match="months"):
        running_mean(index, 0)
    with pytest.raises(TimeAxisError, match="repeated"):
        running_mean(index.isel(time=[0, 1, 1, 2]))
    days = index[:10].assign_coords(
        time=("time", pd.date_range("2000-01-01", periods=10), {"standard_name": "time"})
    )
    with pytest.raises(TimeAxisError, match="monthly"):
        running_mean(days)


def test_observations_fill_the_first_windows_of_a_forecast():
    index = samples.open("oisst_nino34").astype(float)
    model = Persistence.fit(index, horizon=4)
    fc = model.forecast(index, init=["1981-11", "1990-01", "1995-06"], members=2)
    mean = running_mean(fc, history=index)
    assert mean.dims == fc.dims
    assert mean.lead.equals(fc.lead)
    assert mean.valid_time.equals(fc.valid_time)
    past = index.sel(time=["1989-12-01", "1990-01-01"]).values
    second = fc.isel(init=1, member=0).values
    line = np.concatenate([past, second])
    expected = np.convolve(line, np.ones(3) / 3, "valid")
    np.testing.assert_allclose(mean.isel(init=1, member=0), expected, rtol=1e-12)
    assert mean.isel(init=0, member=0).isnull().values.tolist() == [True, False, False, False]
    kelvin = (index + 273.15).assign_attrs(index.attrs, units="K")
    xr.testing.assert_allclose(running_mean(fc, history=kelvin), mean)
    with pytest.raises(ConfigError, match="history"):
        running_mean(index, history=index)


def test_relative_index_with_a_scale_stays_lazy():
    da = globe(24).chunk(time=6)
    lazy = relative_nino34(da, scale=1.5)
    assert lazy.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), relative_nino34(da.compute(), scale=1.5))


def test_kaplan_has_the_events_of_record():
    index = nino34(samples.open("kaplan_sst"))
    winters = {1877: 2.19, 1888: 1.85, 1972: 1.66, 1982: 2.55, 1997: 2.47}
    for year, expected in winters.items():
        djf = index.sel(time=slice(f"{year}-12", f"{year + 1}-02")).mean()
        assert float(djf) == pytest.approx(expected, abs=0.011), year


def test_kaplan_and_oisst_see_the_same_nino34():
    kaplan = nino34(samples.open("kaplan_sst")).sel(time=slice("1981-11", "2003-12"))
    oisst = anomaly(samples.open("oisst_nino34")).sel(time=kaplan.time)
    assert np.corrcoef(kaplan, oisst)[0, 1] == pytest.approx(0.989, abs=0.003)


def test_regions_are_names_or_boxes():
    with pytest.raises(RegionError, match="unknown region"):
        nino_index(samples.open("kaplan_sst"), ["nino34"])
