"""verify(reference=...) compares on the same starts, leads and cells, and in the same units."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import GridMismatchError, MissingDataError, UnitsError
from xearth.verification.one_pass.verify import verify

KELVIN = {"units": "K", "units_metadata": "temperature: difference"}
LAT = xr.Variable("lat", [-45.0, 0.0, 45.0, 60.0], {"units": "degrees_north"})
LON = xr.Variable("lon", [0.0, 90.0, 180.0, 270.0], {"units": "degrees_east"})
TIME = xr.date_range("2000-01", periods=42, freq="MS")


@pytest.fixture
def truth() -> xr.DataArray:
    values = np.random.default_rng(3).standard_normal((42, 4, 4))
    coords = {"time": TIME, "lat": LAT, "lon": LON}
    return xr.DataArray(values, coords, ("time", "lat", "lon"), "t", KELVIN)


def make(truth: xr.DataArray, error: float, seed: int, members: int | None = None) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    place = np.arange(40)[:, None] + [1, 2]
    values = truth.values[place][:, :, None] + error * rng.standard_normal(
        (40, 2, members or 1, 4, 4)
    )
    lead = xr.Variable("lead", [1, 2], {"units": "months"})
    coords = {"init": TIME[:40], "lead": lead, "lat": LAT, "lon": LON}
    dims = ("init", "lead", "member", "lat", "lon")
    found = xr.DataArray(values, coords, dims, "t", KELVIN)
    return found if members else found.isel(member=0)


def test_equally_many_but_other_cells(truth: xr.DataArray) -> None:
    """One lacks the easy half, the other the hard half: on what both have they are equal."""
    forecast = make(truth, 1.0, 1)
    forecast = forecast.where(forecast.lon < 180, 3 * forecast)  # the east is hard
    west, east = forecast.lon < 180, forecast.lon > 90
    strip = forecast.lat == 0
    easy = forecast.where(west | strip).assign_attrs(KELVIN)
    hard = forecast.where(east | strip).assign_attrs(KELVIN)
    found = verify(easy, truth, ["rmse"], reference=hard)
    assert all(v.startswith("no") for v in found.rmse_difference_verdict.values.ravel())
    np.testing.assert_allclose(found.rmse_difference, 0, atol=1e-12)
    expected = verify(forecast.where(strip).assign_attrs(KELVIN), truth, ["rmse"])
    np.testing.assert_allclose(found.rmse, expected.rmse)
    np.testing.assert_array_equal(found.n, expected.n)
    assert found.attrs["points_left_out"] == 40 * 2 * 12
    assert found.attrs["starts_left_out"] == found.attrs["cases_left_out"] == 0


@pytest.mark.parametrize("chunks", [None, {"init": 7, "lead": 1, "lat": 3}])
def test_scores_and_differences_are_those_of_the_common_points(
    truth: xr.DataArray, chunks: dict[str, int] | None
) -> None:
    rng = np.random.default_rng(9)
    a, b, c = (make(truth, e, k, m) for e, k, m in ((1.0, 1, 4), (1.3, 2, 3), (0.8, 3, None)))
    a = a.where(rng.random(a.shape) > 0.3)
    b = b.where(rng.random(b.shape) > 0.3).isel(init=slice(2, None))
    c = c.where(c.init != c.init[5]).isel(init=slice(None, 38))
    a, b, c = (f.assign_attrs(KELVIN) for f in (a, b, c))
    known = (a.count("member") > 0) & (b.count("member") > 0) & c.notnull()
    expected = [
        verify(f.isel(init=slice(None)).sel(init=known.init).where(known).transpose(*f.dims)
               .assign_attrs(KELVIN), truth, ["rmse", "correlation"])
        for f in (a, b, c)
    ]  # fmt: skip
    given = [f.chunk(chunks) if chunks else f for f in (a, b, c)]
    record = truth.chunk(time=5) if chunks else truth
    others = {"b": given[1], "c": given[2]}
    found = verify(given[0], record, ["rmse", "correlation"], confidence=0.9, reference=others)
    np.testing.assert_array_equal(found.n, expected[0].n)
    for name in ("rmse", "correlation"):
        np.testing.assert_allclose(found[name], expected[0][name], rtol=1e-12)
        for k, label in ((1, "b"), (2, "c")):
            np.testing.assert_allclose(
                found[f"{name}_difference"].sel(reference=label),
                expected[0][name] - expected[k][name],
                rtol=1e-9,
            )
    assert found.attrs["starts_left_out"] == 4
    assert found.attrs["cases_left_out"] == 2
    some = (a.count("member") > 0) | (b.count("member") > 0) | c.notnull()
    some = some.sel(init=known.init)
    assert found.attrs["points_left_out"] == int(some.sum() - known.sum())
    assert found.attrs["confidence"] == 0.9


def test_points_of_a_score_that_needs_two_members(truth: xr.DataArray) -> None:
    """A point with one member has no fair CRPS, and so counts for neither forecast."""
    a, b = make(truth, 1.0, 1, 3), make(truth, 1.2, 2, 3)
    a = a.where((a.lat < 0) | (a.member == 0)).assign_attrs(KELVIN)
    b = b.where((b.lat > -50) & ((b.lon < 180) | (b.member == 0))).assign_attrs(KELVIN)
    found = verify(a, truth, ["crps_fair"], reference=b)
    both = (a.count("member") > 1) & (b.count("member") > 1)
    expected = [
        verify(f.where(both).transpose(*f.dims).assign_attrs(KELVIN), truth, ["crps_fair"])
        for f in (a, b)
    ]
    np.testing.assert_allclose(
        found.crps_fair_difference[0], expected[0].crps_fair - expected[1].crps_fair, rtol=1e-9
    )


def test_truth_at_the_starts(truth: xr.DataArray) -> None:
    forecast, other = make(truth, 1.0, 1), make(truth, 1.2, 2)
    place = np.arange(40)[:, None] + [1, 2]
    there = forecast.copy(data=truth.values[place])
    found = verify(forecast, there, ["rmse"], reference=other.isel(init=slice(3, None)))
    expected = verify(forecast, truth, ["rmse"], reference=other.isel(init=slice(3, None)))
    xr.testing.assert_allclose(found, expected)
    assert found.attrs["starts_left_out"] == 3


def test_nothing_in_common(truth: xr.DataArray) -> None:
    forecast = make(truth, 1.0, 1)
    west = forecast.where(forecast.lon < 180).assign_attrs(KELVIN)
    east = forecast.where(forecast.lon > 90).assign_attrs(KELVIN)
    found = verify(west, truth, ["rmse", "correlation"], reference=east, confidence=0.9)
    assert found.n.values.tolist() == [0, 0]
    assert found.rmse.isnull().all()
    assert found.rmse_difference.isnull().all()
    assert all(v.startswith("unknown (n = 0") for v in found.rmse_difference_verdict.values.ravel())
    assert found.attrs["cases_left_out"] == 80
    later = forecast.assign_coords(init=xr.date_range("2030-01", periods=40, freq="MS"))
    with pytest.raises(MissingDataError, match="0 are common"):
        verify(forecast, truth, reference=later)
    with pytest.raises(MissingDataError, match="'reference': 3}, 3 are common"):
        verify(forecast, truth, reference=forecast.isel(init=slice(3)))


def test_reference_is_converted_as_the_truth_is(truth: xr.DataArray) -> None:
    scale = {"units": "degC", "units_metadata": "temperature: on_scale"}
    kelvin = {"units": "K", "units_metadata": "temperature: on_scale"}
    o, f, r = ((x + 20).assign_attrs(scale) for x in (truth, make(truth, 1, 1), make(truth, 2, 2)))
    found = verify(f, o, ["rmse"], reference=(r + 273.15).assign_attrs(kelvin))
    expected = verify(f, o, ["rmse"], reference=r)
    np.testing.assert_allclose(found.rmse_difference, expected.rmse_difference, rtol=1e-9)
    assert found.rmse_difference.attrs["units"] == "degC"
    with pytest.raises(UnitsError, match="reference 'other'"):
        verify(f, o, reference={"other": r.assign_attrs(units="m", units_metadata="")})
    with pytest.raises(UnitsError, match="reference 'reference'"):
        verify(f, o, reference=(r - 20).assign_attrs(KELVIN))
    with pytest.raises(GridMismatchError, match="leads"):
        verify(f, o, reference=r.isel(lead=[0]))
    years = r.assign_coords(lead=("lead", [1, 2], {"units": "years"}))
    with pytest.raises(GridMismatchError, match="leads"):
        verify(f, o, reference=years)
    other = r.rename(lat="latitude", init="forecast_reference_time")
    renamed = verify(f, o, ["rmse"], reference=other)
    np.testing.assert_allclose(renamed.rmse_difference, expected.rmse_difference)
