from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import AxisError, GridMismatchError, MissingDataError, UnitsError
from xearth.verification.significance.field_tests import _angles, _fit, hering_genton

LAT, LON = np.linspace(-25, 25, 14), np.linspace(120, 240, 24)


def maps(reach: float, number: int, seed: int = 0) -> xr.DataArray:
    """Gaussian fields with an exponential correlation that falls to 5 % at ``reach`` radians."""
    lat, lon = np.meshgrid(np.deg2rad(LAT), np.deg2rad(LON), indexing="ij")
    h, _ = _angles(lat.ravel(), lon.ravel())
    root = np.linalg.cholesky(np.exp(-3 * h / reach) + 0.1 * np.eye(lat.size))
    noise = np.random.default_rng(seed).standard_normal((number, lat.size))
    coords = {
        "lat": ("lat", LAT, {"units": "degrees_north"}),
        "lon": ("lon", LON, {"units": "degrees_east"}),
    }
    values = (noise @ root.T).reshape(number, *lat.shape)
    return xr.DataArray(values, coords, ("case", "lat", "lon"), attrs={"units": "K2"})


def test_level_of_correlated_maps():
    fields = maps(0.3, 200)
    found = hering_genton(fields, xr.zeros_like(fields))
    assert 0.01 <= (found.p_value < 0.05).mean() <= 0.1
    # as if cells were independent, most maps would be "significant"
    plain = fields.mean(("lat", "lon")) / (fields.std(("lat", "lon")) / np.sqrt(fields[0].size))
    assert (abs(plain) > 1.96).mean() > 0.4


def test_power_and_sign():
    fields = maps(0.3, 50)
    better = hering_genton(fields - 2, xr.zeros_like(fields))
    assert (better.statistic < 0).all()
    assert (better.p_value < 0.05).mean() > 0.9
    np.testing.assert_allclose(
        better.value, (fields - 2).weighted(np.cos(np.deg2rad(fields.lat))).mean(("lat", "lon"))
    )
    assert better.value.attrs["units"] == "K2"
    back = hering_genton(xr.zeros_like(fields), fields - 2)
    np.testing.assert_allclose(back.statistic, -better.statistic)


def test_fit_of_an_exact_semivariogram():
    """Values whose semivariogram is the model's in expectation: the average fit finds it."""
    lat, lon = np.meshgrid(np.deg2rad(LAT), np.deg2rad(LON), indexing="ij")
    h, _ = _angles(lat.ravel(), lon.ravel())
    fits = np.array([_fit(field.ravel(), h) for field in maps(0.3, 60).values])
    nugget, sill, reach = np.median(fits, axis=0)
    assert 0.5 < sill + nugget < 1.3
    assert 0.15 < reach < 0.45


def test_angles():
    angle, weight = _angles(np.deg2rad([0.0, 0.0, 90.0]), np.deg2rad([350.0, 10.0, 77.0]))
    np.testing.assert_allclose(np.rad2deg(angle[0]), [0, 20, 90], atol=1e-6)
    np.testing.assert_allclose(weight, [1, 1, 0], atol=1e-12)


def test_lazy_missing_and_thinned():
    fields = maps(0.3, 3).where(maps(0.3, 1).isel(case=0) > -1.5)
    zero = xr.zeros_like(fields)
    whole = hering_genton(fields, zero)
    lazy = hering_genton(fields.chunk(lat=5, case=1), zero.chunk())
    assert lazy.p_value.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), whole)
    assert (whole.n == fields[0].notnull().sum()).all()
    np.testing.assert_allclose(hering_genton(fields[:, ::-1], zero[:, ::-1]).p_value, whole.p_value)
    fine = fields.interp(lat=np.linspace(-25, 25, 60), lon=np.linspace(120, 240, 80))
    fine["lat"].attrs, fine["lon"].attrs = fields.lat.attrs, fields.lon.attrs
    found = hering_genton(fine, xr.zeros_like(fine))
    assert found.attrs["step_of_rows_and_columns"] == 2


def test_nothing_to_tell():
    fields = maps(0.3, 2)
    same = hering_genton(fields, fields)
    assert np.isnan(same.p_value).all()
    assert (same.value == 0).all()
    few = fields.where(fields.lat < -24).where(fields.lon < 180)
    assert np.isnan(hering_genton(few, 0 * few).p_value).all()
    with pytest.raises(MissingDataError, match="12 cells"):
        hering_genton(fields[:, :3, :4], fields[:, :3, :4])
    with pytest.raises(GridMismatchError):
        hering_genton(fields, fields.mean("lon"))
    with pytest.raises(GridMismatchError):
        hering_genton(fields, fields.assign_coords(lat=LAT + 1))
    with pytest.raises(UnitsError):
        hering_genton(fields, fields.assign_attrs(units="m"))
    with pytest.raises(AxisError):
        hering_genton(fields.rename(lat="row").drop_vars("row"), fields)
