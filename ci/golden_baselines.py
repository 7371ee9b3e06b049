"""Golden vectors of the baselines: how each case of an index is built, called and compared.

A case has the keyword arguments of the published network, weights under ``sd/`` and arrays. All
is computed in float64 from the stored weights. :data:`CASES` maps the start of a case's model
name to its runner, which takes a :class:`~golden_case.Case` and returns the pairs (found, expected).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_case import Case, Pairs
from golden_physics import PHYSICS, tau
from golden_result import Result, relative_error, safely, threads
from torch import Tensor

from xearth.models.baselines.common import patch, unpatch
from xearth.models.baselines.convlstm import ConvLSTM, ConvLSTMConfig
from xearth.models.baselines.persistence import Persistence, PersistenceConfig
from xearth.models.baselines.predrnn import PredRNN, PredRNNConfig
from xearth.models.baselines.stacked_convlstm import StackedConvLSTM, StackedConvLSTMConfig
from xearth.models.baselines.unet import UNet, UNetConfig
from xearth.training.strategies import (
    NextFrameLoss,
    ReverseScheduledSampling,
    ScheduledSampling,
    free_running,
)

__all__ = ["CASES", "baselines"]


# --- persistence ------------------------------------------------------------------------------


def _persistence(case: Case) -> Pairs:
    layout = case.kwargs.get("layout", "NTHWC")
    order = [layout.index(axis) for axis in "NTHWC"]
    x, y, target = (case.tensor(name).permute(order) for name in ("x", "y", "target"))
    network = Persistence(PersistenceConfig(input_shape=x.shape[1:], target_shape=target.shape[1:]))
    found = network(x)
    return [(found, y), ((found - target).square().mean(), case.arrays["loss"])]


# --- UNet -------------------------------------------------------------------------------------


def _unet(case: Case) -> Pairs:
    x, k = case.tensor("x"), case.kwargs  # (N, H, W, T)
    grid = tuple(x.shape[1:3])
    config = UNetConfig(
        input_shape=(k["in_channels"], *grid, 1),
        target_shape=(k["out_channels"], *grid, 1),
        base_units=k["base"],
        levels=k["levels"],
        center_factor=k["center_mult"],
    )
    network = case.load(UNet(config))
    history = x.movedim(-1, 1)[..., None]

    def forecast() -> Tensor:
        return network(history)[..., 0].movedim(1, -1)

    outputs = [
        (forecast(), case.arrays[name]) for name in ("y", "y_f64_port") if name in case.arrays
    ]
    network.train()
    outputs.append((forecast(), case.arrays["y_train_mode"]))
    norm = network.enc[0].net[1]
    moved = [
        (norm.running_mean, case.arrays["first_bn_moving_mean_after_train"]),
        (norm.running_var, case.arrays["first_bn_moving_var_after_train"]),
    ]
    return outputs + moved


# --- ConvLSTM ---------------------------------------------------------------------------------

# Levels are counted from 1 there, convolutions of the forecaster downwards.
ENCODER_FORECASTER = {
    pattern: ours
    for n in range(1, 10)
    for pattern, ours in {
        rf"^encoder\.stage{n}\.conv\w+": f"encoder.{n - 1}.conv",
        rf"^encoder\.rnn{n}\._conv": f"encoder.{n - 1}.cell.conv",
        rf"^encoder\.rnn{n}\b": f"encoder.{n - 1}.cell",
        rf"^forecaster\.stage{n}\.deconv\w+": f"forecaster.{n - 1}.deconv",
        rf"^forecaster\.rnn{n}\._conv": f"forecaster.{n - 1}.cell.conv",
        rf"^forecaster\.rnn{n}\b": f"forecaster.{n - 1}.cell",
    }.items()
} | {
    r"^forecaster\.stage1\.conv\d+_leaky_2": "tail.0",
    r"^forecaster\.stage1\.conv\d+_3": "tail.2",
}


def _convlstm(case: Case) -> Pairs:
    x, k = case.tensor("x").transpose(0, 1), case.kwargs  # (N, T, C, H, W)
    same = (
        "channels",
        "first_conv_channels",
        "last_channels",
        "strides",
        "conv_kernels",
        "deconv_kernels",
        "lstm_kernel",
        "peephole",
        "leaky_slope",
    )
    sizes = {name.replace("conv_channels", "channels"): k[name] for name in same if name in k}
    config = ConvLSTMConfig(
        input_shape=(k["T_in"], k["H"], k["W"], k["in_channels"]),
        target_shape=(k["T_out"], k["H"], k["W"], case.arrays["y"].shape[2]),
        convs_widen=k.get("wiring", "B").startswith("A"),
        **sizes,
    )
    network = case.load(ConvLSTM(config), ENCODER_FORECASTER)
    return [(network(x.permute(0, 1, 3, 4, 2)).permute(1, 0, 4, 2, 3), case.arrays["y"])]


DEAD = {r"cell_list\.\d+\.conv_(o|last)\b": ""}


def _stacked_convlstm(case: Case) -> Pairs:
    k, p = case.kwargs, case.kwargs["patch_size"]
    frames = unpatch(case.tensor("x"), p)
    config = StackedConvLSTMConfig(
        input_shape=(k["T_in"], *frames.shape[2:]),
        target_shape=(k["T_out"], *frames.shape[2:]),
        hidden=k["num_hidden"],
        kernel=k["filter_size"],
        patch=p,
        layer_norm=bool(k.get("layer_norm", 0)),
    )
    network = case.load(StackedConvLSTM(config), DEAD)
    y = network.rollout(frames)
    loss = (y - frames[:, 1:]).square().mean()
    return [(patch(y, p), case.arrays["y"]), (loss, case.arrays["loss"])]


# --- PredRNN ----------------------------------------------------------------------------------


def _predrnn(case: Case) -> Pairs:
    k, p = case.kwargs, case.kwargs["patch_size"]
    frames, T = case.tensor("x"), case.kwargs["input_length"]
    beta = k.get("decouple_beta")
    config = PredRNNConfig(
        input_shape=(T, *frames.shape[2:]),
        target_shape=(k["total_length"] - T, *frames.shape[2:]),
        hidden=k["num_hidden"],
        kernel=k["filter_size"],
        patch=p,
        layer_norm=bool(k.get("layer_norm", 0)),
        forget_bias=k.get("forget_bias", 1.0),
        decoupling="adapter.weight" in case.state,
    )
    network = case.load(PredRNN(config))
    objective = NextFrameLoss(sampling=ScheduledSampling(), decoupling=beta or 0.0)
    pairs = [(patch(frames, p), case.arrays["x_patched"])]
    forecast = patch(network(frames[:, :T]), p)
    pairs.append((forecast, case.arrays["y_test"][:, T - 1 :]))
    for run in ("test", "train"):
        mask = unpatch(case.tensor(f"mask_{run}"), p)
        if not k.get("reverse_scheduled_sampling", 0):  # the history is kept whole
            mask = torch.cat([torch.ones_like(frames[:, 1:T]), mask], dim=1)
        y = network.rollout(frames[:, :-1], mask)
        pairs.append((patch(y, p), case.arrays[f"y_{run}"]))
        loss = objective.of(network, frames[:, :T], frames[:, T:], mask)
        pairs.append((loss, case.arrays[f"loss_{run}"]))
    plain = NextFrameLoss(sampling=ScheduledSampling())
    keep = free_running(len(frames), (T, config.target_shape[0]))
    mse = plain.of(network, frames[:, :T], frames[:, T:], keep)
    return [*pairs, (mse, case.arrays["mse_test"])]


def _schedules(case: Case) -> Pairs:
    falling = ScheduledSampling(**case.kwargs["ss"])
    reverse = ReverseScheduledSampling(**case.kwargs["rss"])
    iterations = case.arrays["ss"][:, 0]
    return [
        ([falling.probability(int(n)) for n in iterations], case.arrays["ss"][:, 1]),
        ([reverse.probabilities(int(n)) for n in case.arrays["rss_iter"]], case.arrays["rss"]),
        *tau(case),
    ]


# Start of the model's name in an index -> runner; the longest start that fits counts.
CASES: dict[str, Callable[[Case], Pairs]] = {
    "Persistence": _persistence,
    "UNet": _unet,
    "ConvLSTM encoder-forecaster": _convlstm,
    "ConvLSTM (stacked": _stacked_convlstm,
    "PredRNN": _predrnn,
    "training schedules": _schedules,
    **PHYSICS,
}


# --- all cases of an index ----------------------------------------------------------------------


def _run(folder: Path, name: str, record: Mapping[str, Any]) -> Result:
    fitting = [start for start in CASES if record["model"].lower().startswith(start.lower())]
    if not fitting:
        raise LookupError(f"model {record['model']!r} is not known to this version")
    path = folder / record["file"]
    if not path.is_file():
        return Result(name, note=f"no file {record['file']}", failed=True)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    state = {
        key.removeprefix("sd/"): torch.from_numpy(value)
        for key, value in arrays.items()
        if key.startswith("sd/")
    }
    case = Case(record["kwargs"], state, arrays)
    with torch.no_grad():
        pairs = CASES[max(fitting, key=len)](case)
    error = max(relative_error(found, expected) for found, expected in pairs)
    return Result(name, output=error, note=f"float64, {len(pairs)} arrays")


def baselines(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    """Run the cases of an index of baselines."""
    for name, record in index.items():
        with threads(1):
            yield safely(name, lambda n=name, r=record: _run(folder, n, r))
