"""Another product, another grid: what a forecaster reads of it, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import GridMismatchError, MissingDataError, MissingDataWarning, UnitsError
from xearth.fields.climatology import anomaly
from xearth.fields.regrid import regrid
from xearth.forecasting.adapt import as_history, base_of
from xearth.forecasting.forecaster import forecast
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.io import load
from xearth.testing.assertions import raise_if_dask_computes


@pytest.fixture(scope="module")
def model():
    return load("enso-small")


@pytest.fixture(scope="module")
def kaplan():
    return samples.open("kaplan_sst").sel(time=slice("1949", "1990")).load()


def product(kaplan, lat, lon, *, names=("lat", "lon"), calendar=None, day=1):
    """An absolute product on another grid whose anomalies are those of Kaplan's, cell by cell."""
    target = xr.DataArray(
        np.zeros((len(lat), len(lon))),
        coords={
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
        dims=("lat", "lon"),
    )
    fine = regrid(kaplan, target)
    season = 25 + 3 * np.cos(2 * np.pi * (fine.time.dt.month - 3) / 12) - 0.002 * fine.lat**2
    absolute = (fine + season).transpose("time", "lat", "lon").astype("float32")
    absolute.attrs = {"units": "degC", "standard_name": "sea_surface_temperature"}
    time = absolute.time.copy(data=absolute.time.values + np.timedelta64(day - 1, "D"))
    absolute = absolute.assign_coords(time=time).rename("sst")
    if calendar is not None:
        absolute = absolute.convert_calendar(calendar, use_cftime=True)
    return absolute.rename(dict(zip(("lat", "lon"), names, strict=True)))


GRIDS = {
    "1 degree, north first, 15th": {
        "lat": np.arange(34.5, -35, -1.0),
        "lon": np.arange(170.5, 295.0),
        "day": 15,
    },
    "2 degrees, -180 to 180, noleap": {
        "lat": np.arange(-40.0, 41, 2.0),
        "lon": np.arange(-180.0, 180.0, 2.0),
        "calendar": "noleap",
        "names": ("latitude", "longitude"),
    },
    "the cells themselves, a global field": {
        "lat": np.arange(-87.5, 90, 5.0),
        "lon": np.arange(2.5, 360, 5.0),
        "day": 16,
    },
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_product_made_of_the_training_data_gives_their_forecast(model, kaplan, grid):
    """Climatology, units, grid, orientation, names, calendar and stamps are of no account."""
    other = product(kaplan, **grid)
    expected = forecast(anomaly(kaplan, base=("1951", "1980")), model, init="1982-06")
    found = forecast(other, model, init="1982-06")
    assert found.attrs["base_period"] == "1951-01/1980-12"
    assert found.attrs["units"] == "degC"
    assert found.attrs["units_metadata"] == "temperature: difference"
    assert "conservative means" in found.attrs["xearth_read_as"]
    np.testing.assert_array_equal(found.lat, expected.lat)
    # cells of 2 degrees smear those of 5
    same = 2e-3 if len(grid["lat"]) != 41 else 0.15
    apart = found.earthformer.nino34() - expected.earthformer.nino34().values
    assert float(abs(apart).max()) < same
    assert (found.isel(init=0).notnull().values == expected.isel(init=0).notnull().values).all()


def test_datasets_are_read_like_arrays(model, kaplan):
    other = product(kaplan, **GRIDS["1 degree, north first, 15th"])
    time = xr.DataArray(np.zeros(other.sizes["time"]), dims="time")
    data = xr.Dataset({"ssta": other, "unused": time})
    found = data.earthformer.forecast(model, init="1982-06")
    assert list(found.data_vars) == ["ssta"]
    expected = forecast(other, model, init="1982-06")
    xr.testing.assert_allclose(found.ssta.drop_attrs(), expected.rename("ssta").drop_attrs())
    own = xr.Dataset({"ssta": kaplan})
    assert as_history(own, model).ssta.identical(kaplan)


def test_what_is_read_is_anomaly_and_mean_over_cells(model, kaplan):
    other = product(kaplan, **GRIDS["1 degree, north first, 15th"])
    read = as_history(other, model)
    by_hand = regrid(anomaly(other, base=("1951", "1980")), kaplan, minimum_covered=0.1)
    required = xr.DataArray(model.required, dims=("lat", "lon"))
    xr.testing.assert_allclose(
        read.where(required).drop_attrs(), by_hand.where(required).drop_attrs(), atol=1e-5
    )
    assert as_history(read, model) is read  # nothing is done twice


def test_dask_stays_lazy(model, kaplan):
    other = product(kaplan, **GRIDS["1 degree, north first, 15th"])
    read = as_history(other.chunk(time=60), model)
    assert read.chunks is not None
    xr.testing.assert_allclose(read.compute(), as_history(other, model), atol=1e-5)
    with raise_if_dask_computes(max_computes=1):  # three fields, to see what is missing
        as_history(other.chunk(time=60), model)


def test_hindcasts_read_products_too_and_know_them_again(model, kaplan):
    other = product(kaplan, **GRIDS["1 degree, north first, 15th"])
    hc = hindcast(other, model, init=slice("1982-01", "1982-02"))
    xr.testing.assert_allclose(
        hc.compute().drop_attrs(), forecast(other, model, init=["1982-01", "1982-02"]).drop_attrs()
    )
    again = hindcast(other, model, init=slice("1982-01", "1982-02"))
    assert hc.data.name == again.data.name
    assert hc.attrs["base_period"] == "1951-01/1980-12"


def test_a_forecaster_that_reads_through_a_network_reads_products_as_it_does(model, kaplan):
    other = product(kaplan, **GRIDS["1 degree, north first, 15th"])
    drawn, asked = load("enso-diffusion"), {"init": slice("1982-01", "1982-02"), "members": 2}
    pair = [as_history(other, reader) for reader in (drawn, model)]
    for one in pair:  # it says when
        assert "anomalies from" in one.attrs.pop("history")
    xr.testing.assert_identical(*pair)
    hc = hindcast(other, drawn, **asked)
    assert hc.attrs["base_period"] == "1951-01/1980-12"
    xr.testing.assert_allclose(
        hc.compute().drop_attrs(), forecast(other, drawn, **asked).drop_attrs()
    )


def test_the_oisst_sample_goes_in_as_it_is(model):
    """Half of the area is enough for Nino3.4, with a warning; 15 years are the whole base."""
    with pytest.warns(MissingDataWarning, match=r"52%.*126 of 252 cells \(27\.5S 177\.5W"):
        fc = samples.open("oisst").earthformer.forecast(model, init="1995-06")
    assert fc.attrs["base_period"] == "1982-01/1996-12"
    assert "126 of 252 cells unknown" in fc.attrs["xearth_read_as"]
    kaplan = samples.open("kaplan_sst").earthformer.forecast(model, init="1995-06")
    mine, its = fc.earthformer.nino34(), kaplan.earthformer.nino34()
    assert float(abs(mine - its).max()) < 0.5
    assert fc.sizes == kaplan.sizes


@pytest.mark.parametrize(
    ("years", "base"),
    [
        (("1949", "1990"), ("1951-01", "1980-12")),  # that of the training data
        (("1955", "2003"), ("1955-01", "1984-12")),  # thirty years next to it
        (("1856", "1950"), ("1921-01", "1950-12")),
        (("1960-05", "1975-04"), ("1961-01", "1974-12")),  # whole calendar years
        (("1960-05", "1970-04"), ("1960-05", "1970-04")),  # ten years of any start
    ],
)
def test_the_base_period(model, years, base):
    record = samples.open("kaplan_sst").sel(time=slice(*years))
    assert base_of(record, model) == base


def test_an_explicit_base(model, kaplan):
    other = product(kaplan, **GRIDS["2 degrees, -180 to 180, noleap"])
    read = as_history(other, model, base=("1961", "1970"))
    assert read.attrs["base_period"] == "1961-01/1970-12"
    inside = read.sel(time=slice("1961", "1970")).sel(lat=2.5, lon=212.5)
    assert abs(float(inside.mean())) < 1e-5


def test_small_seas_that_a_product_lacks_are_read_as_the_training_mean(model, kaplan):
    other = product(kaplan, **GRIDS["1 degree, north first, 15th"])
    holed = other.where(~((other.lat > 20) & (other.lon > 280) & (other.lon < 285)))
    read = as_history(holed, model)
    center = model.normalizer.center[0]
    lost = read.sel(lat=[22.5, 27.5], lon=282.5)
    np.testing.assert_allclose(lost.values, center, rtol=1e-6)
    assert "2 of 252 cells unknown" in read.attrs["xearth_read_as"]
    forecast(holed, model, init="1982-06")
    gap = other.copy()
    gap[400, 30:40, 30:45] = np.nan  # missing at one time is missing: nothing stands in for it
    with pytest.raises(MissingDataError, match="row"):
        forecast(gap, model, init=str(gap.time.values[402])[:7])


def test_refusals_teach(model, kaplan):
    other = product(kaplan, **GRIDS["1 degree, north first, 15th"])
    with pytest.raises(GridMismatchError, match=r"cover \d+% of the area.*larger region"):
        forecast(other.sel(lon=slice(170, 230)), model)
    with pytest.raises(GridMismatchError, match="cover 0%"):
        forecast(other.assign_coords(lon=("lon", other.lon.values - 150, other.lon.attrs)), model)
    coarse = product(kaplan, np.arange(-83.0, 84, 12.0), np.arange(6.0, 360, 12.0))
    with pytest.raises(GridMismatchError, match=r"2\.4 times as wide"):
        forecast(coarse, model)
    with pytest.raises(UnitsError, match=r"record of 4\.0 years.*10 whole years.*base="):
        forecast(other.sel(time=slice("1980", "1983")), model)
    with pytest.raises(MissingDataError, match=r"missing are \d+ of 252 cells"):
        forecast(other.where(other.lat > 10), model)
    with pytest.raises(GridMismatchError, match=r"\(12, 22\)"):  # the model's own cells, cut
        forecast(kaplan.isel(lat=slice(2, None)), model)
