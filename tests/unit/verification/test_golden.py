"""Scores against values that five libraries agreed on, computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.verification.align import observations_at
from xearth.verification.scores.deterministic import correlation, rmse
from xearth.verification.scores.probabilistic import crps_ensemble

GOLDEN = np.load(Path(__file__).parents[2] / "data" / "verification.npz")
KEYS = [key for key in GOLDEN if "::" in key]


@pytest.mark.parametrize("key", [key for key in KEYS if key.startswith("crps")])
def test_crps(key):
    metric = key.split("::")[0]
    case = "e10nan" if "nan" in metric else metric[metric.index("[") + 1 : -1]
    estimator = "fair" if "fair" in metric else "ensemble"
    f = xr.DataArray(GOLDEN[f"{case}_fc"], dims=("point", "member"))
    o = xr.DataArray(GOLDEN[f"{case}_obs"], dims="point")
    own = crps_ensemble(f, o, estimator=estimator, dim=())
    np.testing.assert_allclose(own, GOLDEN[key], rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def hindcast():
    """20 yearly starts, 6 leads in years, 5 members, with truth 1990-2015."""
    years = {"standard_name": "forecast_period", "units": "years"}
    starts = pd.date_range("1990", periods=20, freq="YS")
    coords = {
        "init": ("init", starts, {"standard_name": "forecast_reference_time"}),
        "lead": ("lead", np.arange(1, 7), years),
    }
    dims = ("init", "lead", "member", "row", "column")
    f = xr.DataArray(GOLDEN["c_fc"], coords, dims)
    f.coords["member"] = ("member", np.arange(5), {"standard_name": "realization"})
    time = ("time", pd.date_range("1990", periods=26, freq="YS"), {"standard_name": "time"})
    o = xr.DataArray(GOLDEN["c_obs"], {"time": time}, ("time", "row", "column"))
    return f, observations_at(f, o)


@pytest.mark.parametrize("key", [key for key in KEYS if key.startswith("climpred")])
def test_hindcast_scores_of_climpred(key, hindcast):
    f, o = hindcast
    own = {
        "climpred_rmse_e2o": lambda: rmse(f.mean("member"), o, dim="init"),
        "climpred_acc_e2o": lambda: correlation(f.mean("member"), o, dim="init"),
        "climpred_crps_m2o": lambda: crps_ensemble(f, o, estimator="ensemble", dim="init"),
    }[key.split("::")[0]]()
    np.testing.assert_allclose(own, GOLDEN[key], rtol=1e-9, atol=1e-12)
