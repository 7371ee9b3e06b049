"""Skill by start month and its summaries, and the scores of means added to the older ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import scores.continuous
import xarray as xr
import xskillscore

from xearth.errors import ConfigError
from xearth.verification.one_pass.verify import verify
from xearth.verification.scores.climate import c_nino34, correlation_by_start, useful_lead
from xearth.verification.scores.deterministic import (
    acc,
    acc_temporal,
    kge,
    mse,
    msess,
    rank_correlation,
    slope,
)


def index(members=None, seed=0):
    """Forecasts that lose their skill at the turn from May to June."""
    random = np.random.default_rng(seed)
    time = pd.date_range("1980-01", periods=504, freq="MS")
    truth = xr.DataArray(
        random.standard_normal(504),
        {"time": ("time", time, {"standard_name": "time", "axis": "T"})},
        ("time",),
        "nino34",
        {"units": "degC", "units_metadata": "temperature: difference"},
    )
    starts, leads = time[:480], np.arange(1, 7)
    f = np.stack([truth.values[k : k + 480] for k in leads], axis=1)
    crossed = (starts.month.values[:, None] + leads > 5) & (starts.month.values[:, None] <= 5)
    noise = random.standard_normal((*f.shape, members or 1))
    values = f[..., None] + np.where(crossed, 3.0, 0.3)[..., None] * noise
    coords = {
        "init": ("init", starts, {"standard_name": "forecast_reference_time"}),
        "lead": ("lead", leads, {"standard_name": "forecast_period", "units": "months"}),
    }
    dims = ("init", "lead", "member")
    forecast = xr.DataArray(values, coords, dims, "nino34", dict(truth.attrs))
    if members is None:
        return forecast.isel(member=0), truth
    return forecast.assign_coords(
        member=("member", np.arange(members), {"standard_name": "realization"})
    ), truth


@pytest.mark.parametrize("members", [None, 4])
def test_correlation_by_start_shows_the_barrier_at_its_target_month(members):
    f, o = index(members)
    table = correlation_by_start(f, o)
    assert table.correlation.dims == ("month", "lead")
    crossed = (table.month <= 5) & (table.month + table.lead > 5)
    assert float(table.correlation.where(~crossed).min()) > 0.85
    assert float(table.correlation.where(crossed).max()) < (0.65 if members is None else 0.85)
    assert table.target_month.sel(month=11, lead=3).item() == 2
    assert table.n.sel(month=1, lead=1).item() == 40
    older = verify(f, o, ["correlation"], by=["month", "lead"])
    np.testing.assert_allclose(table.correlation, older.correlation, rtol=1e-12)
    np.testing.assert_array_equal(table.n, older.n)


def test_correlation_by_start_by_numpy():
    f, o = index()
    table = correlation_by_start(f, o)
    own = np.flatnonzero(f.init.dt.month.values == 3)
    expected = np.corrcoef(f.values[own, 1], o.values[own + 2])[0, 1]
    assert table.correlation.sel(month=3, lead=2).item() == pytest.approx(expected, rel=1e-12)
    lazy = correlation_by_start(f.chunk(init=50), o)
    assert lazy.correlation.chunks is not None
    np.testing.assert_allclose(lazy.correlation.compute(), table.correlation, rtol=1e-12)


def test_useful_lead_stops_at_the_first_loss():
    r = xr.DataArray(
        [[0.9, 0.5, 0.4, 0.9], [0.3, 0.9, 0.9, 0.9], [0.8, 0.8, 0.8, 0.8], [0.9, np.nan, 0.9, 0.9]],
        {"lead": ("lead", [1, 2, 3, 4], {"units": "months"})},
        ("month", "lead"),
    )
    found = useful_lead(r)
    assert found.values.tolist() == [2, 0, 4, 1]
    assert found.attrs["units"] == "months"
    with pytest.raises(ConfigError, match="ascending"):
        useful_lead(r.isel(lead=[1, 0]))


def test_summaries_of_the_correlation():
    r = xr.DataArray(np.linspace(0.9, 0.3, 12), {"lead": np.arange(1, 13)}, ("lead",))
    a = np.array([1.5] * 4 + [2] * 7 + [3])
    assert c_nino34(r).item() == pytest.approx(0.6)
    weighted = c_nino34(r, weighted=True)
    assert weighted.item() == pytest.approx((a * np.log(np.arange(1, 13)) * r.values).sum() / 12)
    assert "a_l" in weighted.attrs["formula"]
    assert np.isnan(c_nino34(r.where(r.lead != 4)).item())
    with pytest.raises(ConfigError, match="leads 1, 2"):
        c_nino34(r.isel(lead=slice(1, None)))


# --- scores of single forecasts ------------------------------------------------------------------


def fields(seed=0):
    random = np.random.default_rng(seed)
    truth = random.standard_normal((20, 3, 4, 5)) + 5
    f = truth + random.standard_normal(truth.shape)
    dims = ("init", "lead", "lat", "lon")
    f[2, 1, 0, 0], truth[5] = np.nan, np.nan
    return xr.DataArray(f, dims=dims), xr.DataArray(truth, dims=dims)


def test_skill_against_the_mean_of_the_truth_is_that_of_scores():
    f, o = fields()
    both = (f + o).notnull()
    f, o = f.where(both), o.where(both)
    own = msess(f, o, dim="init")
    peer = scores.continuous.nse(
        f.dropna("init", how="all"), o.dropna("init", how="all"), reduce_dims="init"
    )
    np.testing.assert_allclose(own.isel(lead=0), peer.isel(lead=0), rtol=1e-11)


def test_skill_against_a_climatology_by_hand():
    f, o = fields()
    clim = xr.full_like(o, 4.5)
    own = msess(f, o, climatology=clim, dim="init")
    both = (f + o).notnull()
    expected = 1 - mse(f, o, dim="init") / mse(clim.where(both), o, dim="init")
    np.testing.assert_allclose(own, expected, rtol=1e-12)
    assert msess(clim, o, climatology=clim).item() == pytest.approx(0)


def test_anomaly_correlation_by_hand_and_its_centered_form_by_xskillscore():
    f, o = fields()
    w = xr.DataArray(np.cos(np.deg2rad([-45.0, -15.0, 15.0, 45.0])), dims="lat")
    clim = o.mean("init").broadcast_like(o)
    own = acc(f, o, climatology=clim, weights=w)
    both = (f + o).notnull()
    a, b, share = (f - clim).where(both), (o - clim).where(both), w.broadcast_like(o).where(both)
    size = np.sqrt((share * a**2).sum(["lat", "lon"]) * (share * b**2).sum(["lat", "lon"]))
    expected = (share * a * b).sum(["lat", "lon"]) / size.where(size > 0)
    np.testing.assert_allclose(own, expected, rtol=1e-10)
    assert own.dims == ("init", "lead")
    places = {
        "latitude": ("latitude", [-45.0, -15.0, 15.0, 45.0], {"units": "degrees_north"}),
        "longitude": ("longitude", np.arange(0.0, 50.0, 10.0), {"units": "degrees_east"}),
    }
    names = {"lat": "latitude", "lon": "longitude"}
    named = [a.rename(names).assign_coords(places) for a in (f, o, clim)]
    found = acc(*named[:2], climatology=named[2], weights=w.rename(lat="latitude"))
    np.testing.assert_allclose(found, own)
    centered = acc(f, o, centered=True)
    peer = xskillscore.pearson_r(f, o, dim=["lat", "lon"], skipna=True)
    np.testing.assert_allclose(centered, peer, rtol=1e-10)


def test_anomaly_correlation_over_the_starts():
    f, o = fields()
    centered = acc_temporal(f, o, centered=True)
    np.testing.assert_allclose(
        centered, xskillscore.pearson_r(f, o, dim="init", skipna=True), rtol=1e-10
    )
    both = (f + o).notnull()
    a, b = (f - 5).where(both), (o - 5).where(both)
    expected = (a * b).sum("init") / np.sqrt((a**2).sum("init") * (b**2).sum("init"))
    own = acc_temporal(f, o, climatology=xr.full_like(o, 5.0))
    np.testing.assert_allclose(own, expected, rtol=1e-10)


def test_slope_and_efficiency():
    f, o = fields()
    both = (f + o).notnull().values.ravel()
    x, y = f.values.ravel()[both], o.values.ravel()[both]
    assert slope(f, o).item() == pytest.approx(scipy.stats.linregress(x, y).slope, rel=1e-10)
    assert np.isnan(slope(f * 0 + 1, o).item())
    peer = scores.continuous.kge(xr.DataArray(x, dims="x"), xr.DataArray(y, dims="x"))
    assert kge(f, o).item() == pytest.approx(peer.item(), rel=1e-10)


def test_rank_correlation_with_ties_and_weights():
    f, o = fields()
    f, o = f.round(0), o.round(0)
    own = rank_correlation(f, o, dim=["init", "lat", "lon"])
    for k in range(3):
        both = (f[:, k] + o[:, k]).notnull().values
        expected = scipy.stats.spearmanr(f[:, k].values[both], o[:, k].values[both]).statistic
        assert own[k].item() == pytest.approx(expected, rel=1e-12)
    w = xr.DataArray(np.ones(4) * 3, dims="lat")
    weighted = rank_correlation(f, o, dim=["init", "lat", "lon"], weights=w)
    np.testing.assert_allclose(weighted, own, rtol=1e-12)
    lazy = rank_correlation(f.chunk(init=3), o.chunk(lat=2), dim=["init", "lat", "lon"])
    assert lazy.chunks is not None
    np.testing.assert_allclose(lazy.compute(), own, rtol=1e-12)
    assert np.isnan(rank_correlation(f * 0, o).item())


def test_scores_of_an_ensemble_are_those_of_its_mean():
    random = np.random.default_rng(0)
    f = xr.DataArray(random.standard_normal((30, 5)), dims=("init", "member"))
    o = xr.DataArray(random.standard_normal(30), dims="init")
    f[3, 2] = np.nan
    for score in (mse, slope, kge, msess, rank_correlation):
        np.testing.assert_allclose(
            score(f, o, member="member"), score(f.mean("member"), o), rtol=1e-12
        )
