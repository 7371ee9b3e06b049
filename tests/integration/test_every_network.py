"""Every network of the tables learns from a labeled field, is kept, comes back and forecasts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from xearth.data.sources import samples
from xearth.data.windows import Window
from xearth.forecasting.fit import fit
from xearth.forecasting.io import load
from xearth.models.baselines.convlstm import ConvLSTMConfig
from xearth.models.baselines.e3d_lstm import E3DLSTMConfig
from xearth.models.baselines.phydnet import PhyDNetConfig
from xearth.models.baselines.predrnn import PredRNNConfig
from xearth.models.baselines.rainformer import RainformerConfig
from xearth.models.baselines.simvp import SimVPConfig
from xearth.models.baselines.stacked_convlstm import StackedConvLSTMConfig
from xearth.models.baselines.unet import UNetConfig
from xearth.models.config import EarthformerConfig
from xearth.models.config_parts import GlobalVectors

WINDOW = Window(history=4, horizon=3)
NETWORKS = {
    "earthformer": (EarthformerConfig, {"base_units": 16}),
    "earthformer_global": (
        EarthformerConfig,
        {"base_units": 16, "global_vectors": GlobalVectors()},
    ),
    "unet": (UNetConfig, {"base_units": 4, "levels": 2, "center_factor": 4}),
    "convlstm": (
        ConvLSTMConfig,
        {"channels": (6, 8, 8), "first_channels": 4, "last_channels": 4},
    ),
    "stacked_convlstm": (StackedConvLSTMConfig, {"hidden": (8, 8)}),
    "predrnn": (PredRNNConfig, {"hidden": (8, 8)}),
    "phydnet": (PhyDNetConfig, {"width": 16, "hidden": (8, 32)}),
    "e3d_lstm": (E3DLSTMConfig, {"hidden": (4, 4)}),
    "rainformer": (RainformerConfig, {"width": 8}),
    "simvp": (SimVPConfig, {"width": 8, "translator_width": 16, "blocks": 2}),
}


@pytest.fixture(scope="module")
def sst() -> xr.DataArray:
    """Return two years of the tropical Pacific."""
    return samples.open("kaplan_sst").sel(time=slice("1950", "1952"), lat=slice(-10, 10)).load()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_learns_is_kept_and_forecasts_a_labeled_field(name, sst, tmp_path):
    """The file gives the forecast of the fitted one to the last bit, and training changed it."""
    kind, changes = NETWORKS[name]
    config = kind.for_data(sst, WINDOW, **changes)
    model = fit(config, sst, window=WINDOW, epochs=1, seed=1, progress=False)
    path = model.save(tmp_path / "model.safetensors")
    back = load(path)
    assert type(back.config) is kind
    before = model.forecast(sst, init="1952-06")
    after = back.forecast(sst, init="1952-06")
    for forecast in (before, after):
        del forecast.attrs["history"]  # the time of the call
    xr.testing.assert_identical(before, after)
    assert after.sizes == {"init": 1, "lead": 3, **{d: sst.sizes[d] for d in ("lat", "lon")}}
    assert after.attrs["units"] == sst.attrs["units"]
    assert (np.isfinite(after.values) == np.isfinite(sst.values).any(0)).all()
    torch.manual_seed(1)
    first = model.config.build().state_dict()
    moved = [k for k, v in model.states[0].items() if not torch.equal(v, first[k])]
    assert moved
