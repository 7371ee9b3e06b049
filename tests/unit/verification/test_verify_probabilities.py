"""verify takes scores of probabilities, ranks and intervals by name, with its thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import ConfigError
from xearth.verification import (
    brier,
    interval_coverage,
    observations_at,
    rank_histogram,
    reliability,
    roc_area,
    rps,
    threshold_weighted_crps,
    verify,
)

LIMITS = ["0.3 K", "1 K"]


@pytest.fixture
def pair() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(5)
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    time = xr.date_range("2000-01", periods=40, freq="MS")
    truth = xr.DataArray(rng.standard_normal(40), {"time": time}, ("time",), "t", attrs)
    lead = xr.Variable("lead", [1, 2], {"units": "months"})
    labels = {"init": time[:36], "lead": lead}
    values = rng.standard_normal((36, 2, 7))
    return xr.DataArray(values, labels, ("init", "lead", "member"), "t", attrs), truth


def test_by_name_as_by_function(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    forecast, truth = pair
    names = ["brier", "rps", "roc_area", "rank_histogram", "interval_coverage", "crps_upper_tail"]
    found = verify(forecast, truth, [*names, "reliability"], thresholds=LIMITS, weights=None)
    there = observations_at(forecast, truth)
    for name, expected in {
        "brier": brier(forecast, there, thresholds=LIMITS, dim="init"),
        "rps": rps(forecast, there, thresholds=LIMITS, dim="init"),
        "roc_area": roc_area(forecast, there, thresholds=LIMITS, dim="init"),
        "rank_histogram": rank_histogram(forecast, there, dim="init"),
        "interval_coverage": interval_coverage(forecast, there, level=[0.5], dim="init"),
    }.items():
        np.testing.assert_allclose(
            found[name], expected.transpose(*found[name].dims), rtol=1e-12, err_msg=name
        )
    tails = [
        threshold_weighted_crps(forecast, there, estimator="ensemble", lower=limit, dim="init")
        for limit in LIMITS
    ]
    np.testing.assert_allclose(found.crps_upper_tail.T, tails, rtol=1e-12)
    table = reliability(forecast, there, thresholds=LIMITS, dim="init")
    shares = found["reliability"].sel(quantity="share")
    np.testing.assert_allclose(shares, table.share.transpose(*shares.dims), rtol=1e-12)


def test_in_chunks_and_of_an_index_series(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    forecast, truth = pair
    names = ["brier_fair", "rank_histogram", "rank_flatness"]
    whole = verify(forecast, truth, names, thresholds=LIMITS, weights=None)
    parts = forecast.chunk(init=7, member=2, lead=1)
    lazy = verify(parts, truth.chunk(time=11), names, thresholds=LIMITS, weights=None)
    assert lazy.brier_fair.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-12)


def test_what_is_missing_is_named(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    forecast, truth = pair
    with pytest.raises(ConfigError, match="needs thresholds"):
        verify(forecast, truth, "brier", weights=None)
    with pytest.raises(ConfigError, match="no member dimension"):
        verify(forecast.isel(member=0, drop=True), truth, "rank_histogram", weights=None)
