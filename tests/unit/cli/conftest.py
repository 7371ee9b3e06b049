from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr


@pytest.fixture
def field() -> xr.DataArray:
    """Four years of a small monthly field."""
    lat, lon = [-2.5, 2.5], [192.5, 197.5, 202.5]
    time = pd.date_range("2000-01-01", periods=48, freq="MS").values
    return xr.DataArray(
        np.random.default_rng(0).normal(size=(48, 2, 3)).astype("float32"),
        {
            "time": ("time", time, {"standard_name": "time", "axis": "T"}),
            "lat": ("lat", lat, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": ("lon", lon, {"standard_name": "longitude", "units": "degrees_east"}),
        },
        ("time", "lat", "lon"),
        "ssta",
        {"units": "K", "long_name": "anomaly"},
    )


@pytest.fixture
def netcdf(field, tmp_path) -> Path:
    path = tmp_path / "field.nc"
    field.to_netcdf(path)
    return path
