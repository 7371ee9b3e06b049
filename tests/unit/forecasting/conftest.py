from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from xearth.cf.timeaxis import Step
from xearth.data.grid import Grid
from xearth.data.normalize import Normalizer
from xearth.data.windows import Window
from xearth.forecasting.forecaster import NetworkForecaster
from xearth.models.config import EarthformerConfig
from xearth.models.heads import LowRankGaussian, Point


def make_field(months=48, seed=0):
    """An anomaly on 4 x 6 cells, one of them land: a seasonal wave and noise."""
    rng = np.random.default_rng(seed)
    time = xr.date_range("2000-01", periods=months, freq="MS", use_cftime=False)
    wave = np.sin(2 * np.pi * np.arange(months) / 12)[:, None, None]
    values = (wave + 0.3 * rng.standard_normal((months, 4, 6))).astype("float32")
    values[:, 1, 2] = np.nan
    return xr.DataArray(
        values,
        dims=("time", "lat", "lon"),
        coords={
            "time": ("time", time, {"standard_name": "time"}),
            "lat": ("lat", [-7.5, -2.5, 2.5, 7.5], {"units": "degrees_north"}),
            "lon": ("lon", np.arange(150.0, 210.0, 10.0), {"units": "degrees_east"}),
        },
        name="ssta",
        attrs={
            "units": "K",
            "units_metadata": "temperature: difference",
            "standard_name": "sea_surface_temperature",
            "long_name": "anomaly",
            "base_period": "1991-2020",
        },
    )


def make_forecaster(data, head, networks=2, *, season=True, **changes):
    """Untrained networks around real labels: everything but the weights is as after fit."""
    window = Window(3, 2)
    mask = ~np.isnan(data.values).all(0)
    config = EarthformerConfig.for_shape(
        "icar_enso",
        (3, 4, 6, 3 if season else 1),
        (2, 4, 6, head.out_channels(1)),
        base_units=16,
    )
    states = []
    with torch.random.fork_rng():
        for k in range(networks):
            torch.manual_seed(k)
            states.append(config.build().state_dict())
    return NetworkForecaster(
        **{
            "config": config,
            "states": tuple(states),
            "head": head,
            "grid": Grid.from_array(data).horizontal().with_mask(mask),
            "normalizer": Normalizer.fit(data),
            "window": window,
            "step": Step(1, "months"),
            "required": mask,
            "season": season,
            "name": "toy",
            "provenance": {"training_period": "2000-01/2003-12"},
            **changes,
        }
    )


@pytest.fixture(scope="session")
def field():
    return make_field()


@pytest.fixture(scope="session")
def forecaster(field):
    return make_forecaster(field, LowRankGaussian(3))


@pytest.fixture(scope="session")
def point_forecaster(field):
    return make_forecaster(field, Point(), season=False)
