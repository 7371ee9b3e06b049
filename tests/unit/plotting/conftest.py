from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def forecast() -> xr.DataArray:
    """One start, 6 leads, 5 members on a small grid with two land cells."""
    start = np.datetime64("1997-06-01", "ns")
    valid = pd.date_range("1997-07-01", periods=6, freq="MS").values
    lat = np.arange(-12.5, 15, 5.0)
    lon = np.arange(187.5, 290, 5.0)
    values = np.random.default_rng(0).normal(size=(1, 6, 5, lat.size, lon.size))
    values[..., 0, -1] = values[..., 1, -1] = np.nan
    return xr.DataArray(
        values,
        {
            "init": ("init", [start], {"standard_name": "forecast_reference_time"}),
            "lead": (
                "lead",
                np.arange(1, 7),
                {"standard_name": "forecast_period", "units": "months"},
            ),
            "member": ("member", np.arange(5), {"standard_name": "realization", "units": "1"}),
            "lat": ("lat", lat, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": ("lon", lon, {"standard_name": "longitude", "units": "degrees_east"}),
            "valid_time": (("init", "lead"), valid[None], {"standard_name": "time"}),
        },
        ("init", "lead", "member", "lat", "lon"),
        "ssta",
        {
            "long_name": "sea surface temperature anomaly",
            "units": "K",
            "units_metadata": "temperature: difference",
        },
    )


@pytest.fixture
def obs() -> xr.DataArray:
    """Three years of the observed field on the forecast's grid."""
    time = pd.date_range("1996-01-01", periods=36, freq="MS").values
    lat = np.arange(-12.5, 15, 5.0)
    lon = np.arange(187.5, 290, 5.0)
    return xr.DataArray(
        np.random.default_rng(1).normal(size=(36, lat.size, lon.size)),
        {
            "time": ("time", time, {"standard_name": "time", "axis": "T"}),
            "lat": ("lat", lat, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": ("lon", lon, {"standard_name": "longitude", "units": "degrees_east"}),
        },
        ("time", "lat", "lon"),
        "ssta",
        {"units": "K", "units_metadata": "temperature: difference"},
    )


@pytest.fixture
def scores() -> xr.Dataset:
    leads = np.arange(1, 7)
    return xr.Dataset(
        {
            "correlation": (
                ("forecaster", "lead"),
                [1 - leads / 10, 1 - leads / 7],
                {"long_name": "correlation", "units": "1"},
            ),
            "rmse": (
                ("forecaster", "lead"),
                [leads / 10, leads / 7],
                {"long_name": "root mean square error", "units": "K"},
            ),
        },
        {"forecaster": ["model", "persistence"], "lead": ("lead", leads, {"units": "months"})},
    )
