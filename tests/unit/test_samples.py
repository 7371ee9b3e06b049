"""The shipped samples: what they hold, that they open lazily, and that their terms are stated."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import LeakageWarning, SourceError
from xearth.reference.persistence import Persistence
from xearth.verification.one_pass.verify import verify


def test_the_samples_are_there_and_small():
    names = "cpc_nino geos_rmm1 kaplan_sst knmi_radar mnist_digits oisst oisst_nino34 rmm"
    assert samples.available() == (*names.split(), "xro_indices")
    assert sum(path.stat().st_size for path in samples.FOLDER.glob("*.nc")) < 4e6


@pytest.mark.parametrize("name", samples.available())
def test_terms_and_citation_are_stated(name):
    attrs = samples.open(name).attrs
    for key in ("title", "source", "license", "references"):
        assert len(attrs[key]) > 5, key


@pytest.mark.parametrize("name", samples.available())
def test_every_sample_is_strictly_cf(name, tmp_path):
    from compliance_checker.runner import CheckSuite, ComplianceChecker

    CheckSuite.load_all_available_checkers()
    report = tmp_path / "report.txt"
    passed, errors = ComplianceChecker.run_checker(
        str(samples.FOLDER / f"{name}.nc"), ["cf:1.11"], 0, "strict", output_filename=str(report)
    )
    assert passed, report.read_text()
    assert not errors


def test_opening_reads_no_values():
    chunked = samples.open("kaplan_sst", chunks={})
    assert chunked.chunks is not None
    plain = samples.open("kaplan_sst")
    assert not plain.variable._in_memory
    np.testing.assert_array_equal(chunked.compute(), plain)


def test_kaplan_says_what_it_is():
    sst = samples.open("kaplan_sst")
    assert sst.dims == ("time", "lat", "lon")
    assert sst.shape == (1776, 12, 22)
    assert sst.dtype == np.float32
    assert sst.attrs["standard_name"] == "sea_surface_temperature"
    assert sst.attrs["units"] == "K"
    assert sst.attrs["units_metadata"] == "temperature: difference"
    assert sst.attrs["base_period"] == "1951-01/1980-12"
    assert str(sst.time.values[0])[:7] == "1856-01"
    assert str(sst.time.values[-1])[:7] == "2003-12"


def test_kaplan_values_vanish_over_the_base_it_names():
    sst = samples.open("kaplan_sst")
    base = sst.sel(time=slice("1951", "1980")).groupby("time.month").mean()
    early = sst.sel(time=slice("1971", "2000")).groupby("time.month").mean()
    assert abs(base).mean() < 0.04
    assert abs(early).mean() > 2 * abs(base).mean()


def test_series_with_several_variables_are_datasets():
    cpc = samples.open("cpc_nino")
    assert isinstance(cpc, xr.Dataset)
    assert cpc.nino34anom.attrs["units_metadata"] == "temperature: difference"
    assert "WWV" in samples.open("xro_indices")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SourceError, match="kaplan_sst, knmi_radar"):
        samples.open("ersst")


def test_warm_water_leads_nino34_as_the_recharge_has_it():
    xro = samples.open("xro_indices")
    warm, nino = xro.WWV.values, xro.Nino34.values
    for lag, expected in {0: 0.22, 3: 0.51, 6: 0.57, 9: 0.49, 12: 0.39}.items():
        n = nino.size - lag
        assert np.corrcoef(warm[:n], nino[lag:])[0, 1] == pytest.approx(expected, abs=0.006)


def test_the_leak_guard_names_the_leak_of_the_whole_record():
    """Their anomalies are from all of 1979-2024, so every verification on them is told."""
    xro = samples.open("xro_indices")
    assert {da.attrs["base_period"] for da in xro.data_vars.values()} == {"1979-01/2024-12"}
    means = xro.Nino34.groupby("time.month").mean()
    assert abs(means).max() < 0.01 * xro.Nino34.std()
    index = xro.Nino34.load()
    model = Persistence.fit(index.sel(time=slice("1979", "2001")), horizon=3)
    forecast = model.forecast(index, init=slice("2002", "2010"))
    with pytest.warns(LeakageWarning, match="climatology is that of 1979-01/2024-12"):
        verify(forecast, index, ["rmse"])


def test_the_radar_tells_no_rain_from_no_data():
    rain = samples.open("knmi_radar")
    assert not rain.variable._in_memory
    assert rain.dims == ("time", "y", "x")
    assert (rain.shape, rain.dtype) == ((92, 208, 209), np.float32)
    assert (rain.units, rain.standard_name) == ("mm h-1", "rainfall_rate")
    assert rain.encoding["dtype"] == np.int16
    assert set(np.unique(np.diff(rain.time))) == {np.timedelta64(5, "m")}
    assert rain.isnull().mean() == pytest.approx(0.21586, abs=1e-5)
    assert (rain == 0).mean() > 0.1
    covered = rain.notnull().all("time")
    assert covered.mean() == pytest.approx(0.78, abs=0.005)
    assert rain.max().item() == pytest.approx(18.12)


def test_the_radar_lies_in_the_netherlands():
    """Latitude and longitude agree with the projection: two routes to one place."""
    from pyproj import CRS, Transformer

    rain = samples.open("knmi_radar")
    mapping = rain[rain.encoding["grid_mapping"]].attrs
    assert mapping["grid_mapping_name"] == "polar_stereographic"
    crs = CRS.from_cf({k: v for k, v in mapping.items() if k != "crs_wkt"})
    to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    lon, lat = to_degrees.transform(*np.meshgrid(rain.x, rain.y))
    np.testing.assert_allclose(rain.lat, lat, atol=1e-3)
    np.testing.assert_allclose(rain.lon, lon, atol=1e-3)
    assert rain.lat.min() < 52 < rain.lat.max()
    assert rain.lon.min() < 5 < rain.lon.max()


def test_the_digits_are_ten():
    digits = samples.open("mnist_digits")
    assert digits.image.shape == (1500, 28, 28)
    assert digits.image.dtype == np.uint8
    assert set(np.unique(digits.label).tolist()) == set(range(10))
