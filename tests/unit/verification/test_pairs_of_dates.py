"""A truth along dates of its own is refused by every score, never paired with every start."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import AxisError
from xearth.verification import (
    brier,
    crps_ensemble,
    crps_gaussian,
    csi,
    energy_score,
    observations_at,
    rank_correlation,
    rank_histogram,
    rmse,
)

LEAD = xr.Variable("lead", [1, 2], {"units": "months"})
TIME = xr.date_range("2000-01", periods=12, freq="MS")
FORECAST = xr.DataArray(
    np.random.default_rng(0).standard_normal((9, 2, 5)),
    {"init": TIME[:9], "lead": LEAD},
    ("init", "lead", "member"),
    attrs={"units": "1"},
)
RECORD = xr.DataArray(np.arange(12.0), {"time": TIME}, ("time",), attrs={"units": "1"})
MEAN = FORECAST.mean("member")

CALLS = {
    "rmse": lambda obs: rmse(MEAN, obs),
    "rank correlation": lambda obs: rank_correlation(MEAN, obs),
    "crps": lambda obs: crps_ensemble(FORECAST, obs, estimator="fair"),
    "crps gaussian": lambda obs: crps_gaussian(MEAN, xr.ones_like(MEAN), obs),
    "ranks": lambda obs: rank_histogram(FORECAST, obs),
    "brier": lambda obs: brier(FORECAST, obs, thresholds="1"),
    "csi": lambda obs: csi(MEAN, obs, thresholds="1"),
    "energy": lambda obs: energy_score(FORECAST, obs, over="lead"),
}


@pytest.mark.parametrize("name", CALLS)
def test_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(AxisError, match=r"xearth\.observations_at"):
        CALLS[name](RECORD)
    assert CALLS[name](observations_at(FORECAST, RECORD)) is not None


def test_a_constant_forecast_may_be_held_against_a_record() -> None:
    zero = xr.DataArray(0.0, attrs={"units": "1"})
    expected = float(np.sqrt((RECORD.values**2).mean()))
    assert rmse(zero, RECORD).item() == pytest.approx(expected, rel=1e-12)
