"""Every network of the tables learns from a labeled field, is kept, comes back and forecasts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from xearth.data.sources import samples
from xearth.data.windows import Window
from xearth.errors import ConfigError
from xearth.forecasting.firstguess import LinearGuess
from xearth.forecasting.fit import fit
from xearth.forecasting.io import load
from xearth.forecasting.recipe import Recipe
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
from xearth.training.options import TrainOptions
from xearth.training.physics_losses import E3DLSTMLoss, PhyDNetLoss, TeacherForcing
from xearth.training.strategies import (
    NextFrameLoss,
    ReverseScheduledSampling,
    SampledLoss,
    ScheduledSampling,
)

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


FALLING = ScheduledSampling(start=1.0, rate=0.1, stop=8)
STRATEGIES: dict[str, tuple[SampledLoss, dict[str, object]]] = {
    "stacked_convlstm": (NextFrameLoss(sampling=FALLING), {}),
    "predrnn": (
        NextFrameLoss(
            sampling=ReverseScheduledSampling(step1=2, step2=6, alpha=2.0), decoupling=0.1
        ),
        {"decoupling": True},
    ),
    "phydnet": (PhyDNetLoss(sampling=TeacherForcing(steps_per_epoch=4, decay=0.5)), {}),
    "e3d_lstm": (E3DLSTMLoss(sampling=FALLING), {}),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_trains_a_forecaster_and_can_be_resumed(name, sst, tmp_path):
    """Two epochs at once, or the first one, a fall and the second: the same forecaster."""
    kind, changes = NETWORKS[name]
    loss, more = STRATEGIES[name]
    config = kind.for_data(sst, WINDOW, **changes, **more)

    def recipe(folder):
        options = TrainOptions(epochs=2, batch_size=8, seed=1, progress=False)
        return Recipe(loss=loss, options=options, checkpoints=tmp_path / folder)

    straight = fit(config, sst, window=WINDOW, recipe=recipe("straight"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.optim.AdamW.step", _falls_at(6))
        with pytest.raises(RuntimeError, match="power cut"):
            fit(config, sst, window=WINDOW, recipe=recipe("fallen"))
    resumed = fit(config, sst, window=WINDOW, recipe=recipe("fallen"))
    assert all(torch.equal(straight.states[0][k], v) for k, v in resumed.states[0].items())
    plain = fit(config, sst, window=WINDOW, epochs=2, batch_size=8, seed=1, progress=False)
    assert any(not torch.equal(straight.states[0][k], v) for k, v in plain.states[0].items())
    assert straight.provenance["loss"] == repr(loss)
    path = straight.save(tmp_path / "model.safetensors")
    assert np.isfinite(load(path).forecast(sst, init="1952-06")).any()


def _falls_at(count):
    """Return an optimizer's step that fails when it is called so many times."""
    real, left = torch.optim.AdamW.step, iter(range(count - 1))

    def step(*args, **kwargs):
        if next(left, None) is None:
            raise RuntimeError("power cut")
        return real(*args, **kwargs)

    return step


def test_a_strategy_refuses_what_does_not_predict_frame_by_frame(sst):
    loss = NextFrameLoss(sampling=FALLING)
    kind, changes = NETWORKS["convlstm"]
    config = kind.for_data(sst, WINDOW, **changes)
    with pytest.raises(ConfigError, match=r"StackedConvLSTM, PredRNN.*found ConvLSTM"):
        fit(config, sst, window=WINDOW, recipe=Recipe(loss=loss))
    kind, changes = NETWORKS["stacked_convlstm"]
    config = kind.for_data(sst, WINDOW, **changes)
    with pytest.raises(ConfigError, match="found 3 and 1"):
        fit(config, sst, window=WINDOW, recipe=Recipe(loss=loss, season=True))
    with pytest.raises(ConfigError, match="not departures"):
        Recipe(loss=loss, guess=LinearGuess())
