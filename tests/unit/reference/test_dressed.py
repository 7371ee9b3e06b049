"""A dressed forecaster: its errors by hand, its promises, and the published marks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import ConfigError, LeadError, MissingDataError
from xearth.reference.dressed import Dressed
from xearth.reference.lim import LIM
from xearth.reference.persistence import Persistence
from xearth.reference.protocol import Forecaster
from xearth.reference.recharge import PUBLISHED, RechargeOscillator

KELVIN = {"units": "K", "units_metadata": "temperature: difference"}


def series(n=240, cells=2, seed=0, phi=0.8):
    """An AR(1) process per cell."""
    random = np.random.default_rng(seed)
    x = np.zeros((n, cells))
    for t in range(1, n):
        x[t] = phi * x[t - 1] + 0.6 * random.standard_normal(cells)
    time = pd.date_range("1900", periods=n, freq="MS")
    return xr.DataArray(x, {"time": time, "cell": np.arange(cells)}, ("time", "cell"), "t", KELVIN)


def lim(years):
    return LIM.fit(years, horizon=3, modes=2)


def by_hand(da, block, gap, horizon=3):
    """Forecasts and truth (N, L, P) of the cross-validation; NaN where unknown."""
    n = da.sizes["time"]
    predicted = np.full((n, horizon, da.sizes["cell"]), np.nan)
    truth = np.full(predicted.shape, np.nan)
    for first in range(0, n, block):
        stop = min(first + block, n)
        seen = [t for t in range(n) if t < first - gap or t > stop - 1 + horizon]
        model = lim(da.isel(time=seen))
        predicted[first:stop] = model.forecast(da, init=da.time.values[first:stop])
    for lead in range(1, horizon + 1):
        truth[: n - lead, lead - 1] = da.values[lead:]
    limit = 1.25 * np.abs(da.values).max(axis=0)
    return np.clip(predicted, -limit, limit), truth


def test_shrinkage_and_errors_are_those_of_years_not_seen():
    da = series()
    model = Dressed.fit(lim, da, block=36, gap=5)
    f, o = by_hand(da, 36, 5)
    known = np.isfinite(o)
    shrinkage = np.where(known, f * o, 0).sum(axis=0) / np.where(known, f**2, 0).sum(axis=0)
    np.testing.assert_allclose(model.shrinkage["t"], shrinkage, rtol=1e-10)
    np.testing.assert_allclose(model.errors["t"], o - shrinkage * f, atol=1e-10)
    fc = model.forecast(da, init="1915-03")
    plain = model.forecaster.forecast(da, init="1915-03")
    np.testing.assert_allclose(fc, shrinkage * plain, rtol=1e-10)


def test_members_have_the_second_moments_of_the_errors_of_their_season():
    da = series(600)
    model = Dressed.fit(lim, da, season=1)
    fc = model.forecast(da, init="1915-01", members=6000)
    noise = (fc - model.forecast(da, init="1915-01")).values[0].swapaxes(0, 1).reshape(6000, -1)
    own = model.errors["t"][np.isin(model.months, [11, 0, 1])].reshape(-1, 6)
    own = own[np.isfinite(own).all(axis=1)]
    expected = own.T @ own / len(own)
    np.testing.assert_allclose(noise.T @ noise / 6000, expected, atol=0.08 * expected.max())


def test_the_interface_and_its_promises():
    da = series()
    model = Dressed.fit(lim, da)
    assert isinstance(model, Forecaster)
    assert (model.name, model.history, model.horizon) == ("dressed_lim", 1, 3)
    many = model.forecast(da, init=["1910-02", "1915-03"], members=6, seed=3)
    few = model.forecast(da, init="1915-03", members=2, seed=3)
    assert many.dims == ("init", "lead", "member", "cell")
    assert many.attrs["forecaster"] == "dressed_lim"
    assert many.attrs["training_period"] == "1900-01/1919-12"
    np.testing.assert_allclose(many.isel(init=[1], member=slice(0, 2)), few, rtol=1e-12)
    with pytest.raises(LeadError, match="members"):
        model.forecast(da, members=0)


def test_nothing_beyond_the_training_period_is_used():
    da = series(360)
    train = da.isel(time=slice(0, 240))
    model = Dressed.fit(lim, train)
    later = da.copy(deep=True)
    later[{"time": slice(301, None)}] = 99.0
    start = da.time.values[300]
    np.testing.assert_array_equal(
        model.forecast(later, init=start, members=3), model.forecast(da, init=start, members=3)
    )


def test_absolute_fields_shrink_to_their_normals():
    da = series(480) + 290 + 5 * np.cos(2 * np.pi * np.arange(480) / 12)[:, None]
    da.attrs = {"units": "K"}
    model = Dressed.fit(lambda years: Persistence.fit(years, horizon=2), da)
    clim = da.groupby("time.month").mean()
    fc = model.forecast(da, init="1920-06").isel(init=0)
    last = da.sel(time="1920-06").isel(time=0) - clim.sel(month=6)
    for lead in (1, 2):
        normal = clim.sel(month=6 + lead)
        expected = normal + model.shrinkage["t"][lead - 1] * last
        np.testing.assert_allclose(fc.sel(lead=lead), expected, rtol=1e-9)
    assert (model.shrinkage["t"] < 0.95).all()


def test_land_stays_land():
    da = series()
    da[:, 1] = np.nan
    model = Dressed.fit(lambda years: LIM.fit(years, horizon=3, modes=1), da)
    fc = model.forecast(da, init="1915-03", members=2)
    assert bool(fc.sel(cell=1).isnull().all())
    assert bool(fc.sel(cell=0).notnull().all())


@pytest.mark.parametrize(
    ("nonlinear", "crps", "covered"),
    [
        (
            PUBLISHED,
            [0.118, 0.241, 0.329, 0.369, 0.396, 0.427, 0.445],
            [0.93, 0.95, 0.96, 0.95, 0.94, 0.92, 0.92],
        ),
        (
            {},
            [0.117, 0.233, 0.330, 0.379, 0.405, 0.439, 0.457],
            [0.93, 0.95, 0.94, 0.94, 0.93, 0.90, 0.89],
        ),
    ],
)
def test_the_dressed_recharge_oscillator_has_the_published_scores(nonlinear, crps, covered):
    """Fit 1979-2001, starts 2002-2024; the marks take a seasonal deviation and a Gaussian."""
    indices = samples.open("xro_indices").load()
    model = Dressed.fit(
        lambda years: RechargeOscillator.fit(years, horizon=18, nonlinear=nonlinear),
        indices.sel(time=slice("1979", "2001")),
    )
    fc = model.forecast(indices, init=slice("2002", "2024-11"), members=100)
    assert fc.WWV.attrs["units"] == "m"
    leads = [1, 3, 6, 9, 12, 15, 18]
    members = fc.Nino34.sel(lead=leads).values.astype(float)
    truth = indices.Nino34.reindex(time=fc.valid_time.sel(lead=leads).values.ravel()).values
    truth = truth.reshape(members.shape[:2]).astype(float)
    order = np.sort(members, axis=-1)
    rank = (2 * np.arange(1, 101) - 101) / (100 * 99)
    found = np.abs(members - truth[..., None]).mean(axis=-1) - order @ rank
    np.testing.assert_allclose(np.nanmean(found, axis=0), crps, atol=0.006)
    low, high = np.quantile(members, [0.05, 0.95], axis=-1)
    inside = np.where(np.isfinite(truth), (truth >= low) & (truth <= high), np.nan)
    np.testing.assert_allclose(np.nanmean(inside, axis=0), covered, atol=0.05)


def test_variables_err_together():
    indices = samples.open("xro_indices")[["Nino34", "WWV"]].load()
    model = Dressed.fit(
        lambda years: RechargeOscillator.fit(years, horizon=2, nonlinear={}), indices
    )
    fc = model.forecast(indices, init="1990-12", members=4000).isel(init=0, lead=1)
    own = np.isin(model.months, [10, 11, 0])
    first, second = (model.errors[name][own, 1, 0] for name in ("Nino34", "WWV"))
    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    expected = (first @ second) / np.sqrt((first @ first) * (second @ second))
    found = np.corrcoef(fc.Nino34, fc.WWV)[0, 1]
    assert found == pytest.approx(expected, abs=0.05)


def test_what_it_refuses():
    da = series()
    for wrong in ({"block": 0}, {"gap": -1}, {"season": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Dressed.fit(lim, da, **wrong)
    with pytest.raises(ConfigError, match="trailing mean"):
        Dressed.fit(lambda years: LIM.fit(years, horizon=3, modes=2, smoothing=3), da)
    with pytest.raises(MissingDataError, match="left to fit to"):
        Dressed.fit(lim, da[:40])
    with pytest.raises(MissingDataError, match="members need 2"):
        Dressed.fit(
            lambda years: Persistence.fit(years, horizon=2), da[:20], block=3, gap=0, season=0
        )
