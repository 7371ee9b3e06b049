"""What verify takes and refuses: repeated and unsorted starts, groups, files with bounds."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import xarray as xr

from xearth.errors import ConfigError, LeakageWarning, TimeAxisError, UnitsWarning
from xearth.testing.assertions import raise_if_dask_computes
from xearth.verification.one_pass import verify as module
from xearth.verification.one_pass.intervals import intervals
from xearth.verification.one_pass.verify import accumulate, verify

KELVIN = {"units": "K", "units_metadata": "temperature: difference"}


def make(inits: int = 40) -> tuple[xr.DataArray, xr.DataArray]:
    """A red series of errors (init, lead, lat, lon), and a truth (time, lat, lon)."""
    rng = np.random.default_rng(3)
    time = xr.date_range("2000-01", periods=inits + 2, freq="MS")
    lat = xr.Variable("lat", [-45.0, 0.0, 45.0], {"units": "degrees_north"})
    lon = xr.Variable("lon", [0.0, 90.0, 180.0, 270.0], {"units": "degrees_east"})
    truth = xr.DataArray(
        rng.standard_normal((inits + 2, 3, 4)),
        {"time": time, "lat": lat, "lon": lon},
        ("time", "lat", "lon"),
        "t",
        KELVIN,
    )
    red = np.zeros((inits, 2, 3, 4))
    for k in range(1, inits):
        red[k] = 0.8 * red[k - 1] + rng.standard_normal((2, 1, 1))
    place = np.arange(inits)[:, None] + [1, 2]
    lead = xr.Variable("lead", [1, 2], {"units": "months"})
    coords = {"init": time[:inits], "lead": lead, "lat": lat, "lon": lon}
    forecast = xr.DataArray(
        truth.values[place] + red, coords, ("init", "lead", "lat", "lon"), "t", KELVIN
    )
    return forecast, truth


def test_order_of_the_starts_does_not_matter_to_intervals() -> None:
    forecast, truth = make()
    shuffled = forecast.isel(init=np.random.default_rng(0).permutation(40))
    found = [intervals(accumulate(f, truth, ["rmse"]), n=200) for f in (forecast, shuffled)]
    np.testing.assert_allclose(found[1].rmse_lower, found[0].rmse_lower, rtol=1e-9)
    np.testing.assert_allclose(found[1].rmse_upper, found[0].rmse_upper, rtol=1e-9)


@pytest.mark.parametrize("dim", ["init", "lead"])
def test_repeated_starts_and_leads_are_refused(dim: str) -> None:
    forecast, truth = make()
    again = forecast.isel({dim: [0, 0, 0, 1]}).chunk(init=1)
    for function in (verify, accumulate):
        with raise_if_dask_computes(), pytest.raises(TimeAxisError, match="more than once"):
            function(again, truth.chunk(time=3))


def test_names_of_groups_and_references() -> None:
    forecast, truth = make()
    for by in (["lead", "lead"], ["month", "lead", "month"], ["lat", "lat"], ["region", "region"]):
        with pytest.raises(ConfigError, match="more than once"):
            verify(forecast, truth, by=by, regions={"a": truth.lat > 0} if "region" in by else None)
    named = forecast.rename(init="forecast_reference_time")
    named["forecast_reference_time"].attrs["standard_name"] = "forecast_reference_time"
    with pytest.raises(ConfigError, match="more than once"):
        verify(named, truth, by=["init", "forecast_reference_time"])
    with pytest.raises(ConfigError, match="reference"):
        verify(forecast, truth, reference={})


def test_bounds_and_grid_mapping_are_no_fields() -> None:
    forecast, truth = make(8)
    expected = verify(forecast, truth)

    def with_helpers(field: xr.DataArray, time: str) -> xr.Dataset:
        ds = field.assign_attrs(grid_mapping="crs").to_dataset(name="t")
        ds["lat"].attrs["bounds"] = "lat_bnds"
        ds[time].attrs["bounds"] = f"{time}_bnds"
        ds["lat_bnds"] = (("lat", "nv"), np.zeros((3, 2)))
        ds[f"{time}_bnds"] = ((time, "nv"), np.stack([ds[time].values] * 2, axis=1))
        ds["crs"] = ((), 0, {"grid_mapping_name": "latitude_longitude"})
        return ds

    found = verify(with_helpers(forecast, "init"), with_helpers(truth, "time"))
    np.testing.assert_array_equal(found.rmse, expected.rmse)
    reference = verify(forecast, truth, reference=with_helpers(forecast * 0.5, "init"))
    assert reference.rmse_difference.sizes == {"reference": 1, "lead": 2}


def test_each_warning_comes_once() -> None:
    forecast, truth = make()
    forecast.attrs["xearth_training_period"] = "2000-01/2001-12"
    truth.attrs["xearth_base_period"] = "2000-01/2001-12"
    others = {"half": forecast * 0.5, "less": forecast * 0.4}
    others = {k: v.assign_attrs(forecast.attrs) for k, v in others.items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        verify(forecast, truth, ["rmse"], reference=others)
    said = [str(w.message) for w in caught if issubclass(w.category, LeakageWarning)]
    assert said
    assert len(said) == len(set(said))
    depth = {"units": "mm day-1", "standard_name": "lwe_precipitation_rate"}
    mass = {"units": "kg m-2 s-1", "standard_name": "precipitation_flux"}
    rain = [abs(f) for f in (forecast, others["half"], truth)]
    for f, attrs in zip(rain, (depth, depth, mass), strict=True):
        f.attrs = attrs
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        verify(rain[0], rain[2], ["rmse"], reference=rain[1])
    said = [str(w.message) for w in caught if issubclass(w.category, UnitsWarning)]
    assert len(said) == 1
    assert caught[0].filename == __file__


def test_filters_of_other_threads_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads verify at once, and the one that came first is done first."""
    forecast, truth = make(8)
    forecast.attrs["xearth_training_period"] = "2000-01/2000-06"
    second_is_in, first_is_done = threading.Event(), threading.Event()
    inside = module.matched

    def waits(*fields):
        if threading.current_thread().name == "first":
            assert second_is_in.wait(20)
        else:
            second_is_in.set()
            assert first_is_done.wait(20)
        return inside(*fields)

    def work():
        verify(forecast, truth)
        first_is_done.set()

    monkeypatch.setattr(module, "matched", waits)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters), warnings._showwarnmsg_impl
        threads = [threading.Thread(target=work, name=name) for name in ("first", "second")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (list(warnings.filters), warnings._showwarnmsg_impl) == before
    said = [str(w.message) for w in caught if issubclass(w.category, LeakageWarning)]
    assert said
    assert sorted(said) == sorted([*set(said)] * 2)


def test_an_error_is_not_followed_by_warnings() -> None:
    forecast, truth = make(8)
    forecast.attrs["xearth_training_period"] = "2000-01/2000-06"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ConfigError, match="members"):
            verify(forecast, truth, "crps_fair")
        assert not caught
        verify(forecast, truth)
    assert caught
