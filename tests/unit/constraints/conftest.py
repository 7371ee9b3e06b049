"""Forecasts to constrain: in each orientation, with missing cells, and their tensors."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr


def forecast(
    *,
    units: str = "mm h-1",
    descending: bool = False,
    projected: bool = False,
    missing: bool = True,
) -> xr.DataArray:
    """Return a forecast (init, lead, member, y, x): 1, 4, 3, 6, 8."""
    rng = np.random.default_rng(3)
    values = rng.gamma(2.0, 1.5, (1, 4, 3, 6, 8))
    if missing:
        values[..., 1, 2] = np.nan
        values[..., 4, 7] = np.nan
    rows = np.arange(6.0)
    if projected:
        y = ("y", 2000.0 * rows, {"units": "m", "standard_name": "projection_y_coordinate"})
        x = ("x", 2000.0 * np.arange(8), {"units": "m", "standard_name": "projection_x_coordinate"})
    else:
        y = ("lat", 40 + 5 * rows, {"units": "degrees_north", "standard_name": "latitude"})
        x = (
            "lon",
            10 + 5.0 * np.arange(8),
            {"units": "degrees_east", "standard_name": "longitude"},
        )
    lead = {"standard_name": "forecast_period", "units": "months"}
    member = {"standard_name": "realization", "units": "1"}
    da = xr.DataArray(
        values,
        dims=("init", "lead", "member", y[0], x[0]),
        coords={
            "init": (
                "init",
                np.array(["2000-10-01"], "M8[ns]"),
                {"standard_name": "forecast_reference_time"},
            ),
            "lead": ("lead", [1, 2, 3, 4], lead),
            "member": ("member", [0, 1, 2], member),
            y[0]: y,
            x[0]: x,
        },
        name="rain",
        attrs={"standard_name": "rainfall_rate", "units": units},
    )
    return da.isel({y[0]: slice(None, None, -1)}) if descending else da


def tensor(da: xr.DataArray):
    """Return the members of a forecast as (N, T, H, W, C), rows south to north."""
    import torch

    y, x = da.dims[-2:]
    stored = da.isel(init=0).transpose("member", "lead", y, x).sortby(y)
    return torch.as_tensor(stored.values)[..., None]


def labeled(y, like: xr.DataArray) -> xr.DataArray:
    """Return a tensor (N, T, H, W, 1) as a forecast like another."""
    rows = like.dims[-2]
    stored = like.isel(init=0).transpose("member", "lead", ...).sortby(rows)
    found = stored.copy(data=y[..., 0].numpy()).expand_dims(init=like["init"])
    return found.reindex({rows: like[rows]}).transpose(*like.dims).assign_attrs(like.attrs)


@pytest.fixture(params=["north up", "south up", "projected"])
def fc(request) -> xr.DataArray:
    return forecast(descending=request.param == "north up", projected=request.param == "projected")
