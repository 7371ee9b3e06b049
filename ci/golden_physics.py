"""Golden cases of PhyDNet, E3D-LSTM, Rainformer and SimVP, and of the losses that go with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from golden_case import Case, Pairs
from torch import Tensor

from xearth.models.baselines.e3d_lstm import E3DLSTM, E3DLSTMConfig
from xearth.models.baselines.phydnet import PhyDNet, PhyDNetConfig
from xearth.models.baselines.rainformer import Rainformer, RainformerConfig
from xearth.models.baselines.simvp import SimVP, SimVPConfig
from xearth.training.physics_losses import (
    E3DLSTMLoss,
    PhyDNetLoss,
    TeacherForcing,
    difference_divergence,
    kernel_moments,
    moment_loss,
)
from xearth.training.strategies import ScheduledSampling, free_running

__all__ = ["PHYSICS", "tau"]

# Official name -> ours, as regular expressions; all that fit are applied in turn. A number in
# <> is one less here.
Table = Sequence[tuple[str, str]]

PHYDNET: Table = (
    (r"^encoder_E\.c(\d)\.main", r"encoder.<\1>"),
    (r"^encoder_Ep\.c(\d)\.main", r"to_physics.<\1>"),
    (r"^encoder_Er\.c(\d)\.main", r"to_residual.<\1>"),
    (r"^decoder_Dp\.upc(\d)\.main", r"from_physics.<\1>"),
    (r"^decoder_Dr\.upc(\d)\.main", r"from_residual.<\1>"),
    (r"^decoder_D\.upc(\d)(\.main)?", r"decoder.<\1>"),
    (r"^phycell\.cell_list\.0\.F\.conv1", "physics.filters"),
    (r"^phycell\.cell_list\.0\.F\.bn1", "physics.norm"),
    (r"^phycell\.cell_list\.0\.F\.conv2", "physics.mix"),
    (r"^phycell\.cell_list\.0\.convgate", "physics.gate"),
    (r"^convcell\.cell_list\.(\d+)\.conv", r"residual.\1.gates"),
)

RAINFORMER: Table = (
    (r"^stage(\d)\.patch_partition", r"stages.<\1>"),
    (r"^stage(\d)\.layers\.0\.([01])\.", r"stages.<\1>.blocks.\2."),
    (r"^stage(\d)\.layers\.0\.2\.conv\.", r"stages.<\1>.local.convolutions."),
    (r"^stage(\d)\.layers\.0\.3\.ca\.MLP\.", r"stages.<\1>.local.channels.mean.<>"),
    (r"^stage(\d)\.layers\.0\.3\.sa\.conv", r"stages.<\1>.local.places.0"),
    (r"^stage(\d)\.layers\.0\.3\.sa\.bn", r"stages.<\1>.local.places.1"),
    (r"^stage(\d)\.layers\.0\.4\.conv_1", r"stages.<\1>.gate.gates"),
    (r"^stage(\d)\.layers\.0\.4\.conv_2", r"stages.<\1>.gate.spare.0"),
    (r"^stage(\d)\.layers\.0\.4\.conv_3", r"stages.<\1>.gate.spare.1"),
    (r"attention_block\.fn\.norm", "attention_norm"),
    (r"attention_block\.fn\.fn\.pos_embedding", "attention.table"),
    (r"attention_block\.fn\.fn\.to_", "attention."),
    (r"attention_block\.fn\.fn\.ca\.MLP1\.", "channels.mean.<>"),
    (r"attention_block\.fn\.fn\.ca\.MLP2\.", "channels.maximum.<>"),
    (r"mlp_block\.fn\.norm", "mlp_norm"),
    (r"mlp_block\.fn\.fn\.net", "mlp"),
    # the published maps of channels start with a layer that flattens
    (r"<>(\d)", r"<\1>"),
)

SIMVP: Table = (
    (r"^enc\.enc\.(\d+)\.conv\.", r"encoder.\1."),
    (r"^dec\.dec\.(\d+)\.conv\.conv\.0", r"decoder.\1.conv"),
    (r"^dec\.dec\.(\d+)\.conv\.", r"decoder.\1."),
    (r"^dec\.readout", "readout"),
    (r"^hid\.enc\.(\d+)\.(block\.)?", r"translator.\1."),
    (r"layer_scale_", "scale"),
    (r"attn\.proj_1", "into"),
    (r"attn\.proj_2", "out"),
    (r"attn\.spatial_gating_unit\.conv0", "attention.wide.0"),
    (r"attn\.spatial_gating_unit\.conv_spatial", "attention.wide.1"),
    (r"attn\.spatial_gating_unit\.conv1", "attention.mix"),
    (r"attn\.spatial_gating_unit\.fc", "attention.channels"),
    (r"mlp\.dwconv\.dwconv", "near"),
    (r"mlp\.fc", "fc"),
    (r"reduction", "change"),
)


def _renamed(case: Case, table: Table) -> Case:
    """Return the case with our names of its weights."""
    state: dict[str, Tensor] = {}
    for official, value in case.state.items():
        name = official
        for theirs, ours in table:
            name = re.sub(theirs, ours, name)
        state[re.sub(r"<(\d+)>", lambda n: str(int(n[1]) - 1), name)] = value
    return replace(case, state=state)


def _require(kwargs: Mapping[str, Any], **values: Any) -> None:
    """Raise LookupError where a case asks for what the published network alone can do."""
    for name, value in values.items():
        if kwargs.get(name, value) != value:
            raise LookupError(f"{name}={kwargs[name]} is not known to this version, only {value}")


def _odd(kernel: Sequence[int]) -> int:
    if len(set(kernel)) != 1:
        raise LookupError(f"a kernel of {kernel} is not known to this version, only square ones")
    return kernel[0]


def _phydnet(case: Case) -> Pairs:
    k = case.kwargs
    derivatives = _odd(k["phycell_kernel"])
    _require(k, phycell_F_hidden=[derivatives**2], phycell_input_dim=2 * k["nf"])
    T, frame = k["T_in"], (k["H"], k["W"], k["in_channels"])
    config = PhyDNetConfig(
        input_shape=(T, *frame),
        target_shape=(k["T_out"], *frame),
        width=k["nf"],
        derivatives=derivatives,
        hidden=k["convcell_hidden"],
        kernel=_odd(k["convcell_kernel"]),
        output="sigmoid",
    )
    network = _renamed(case, PHYDNET).load(PhyDNet(config))
    history, target = (case.tensor(name).movedim(2, -1) for name in ("x", "target"))
    truth = torch.cat([history, target], 1)
    frames = (T, k["T_out"])
    objective = PhyDNetLoss(sampling=TeacherForcing(steps_per_epoch=1), moments=0.0)
    kept = {
        "free": free_running(len(truth), frames),
        "teacher": torch.ones(len(truth), sum(frames) - 2),
    }
    pairs: list[tuple[Any, Any]] = [
        (network(history).movedim(-1, 2), case.arrays["pred_free"]),
        (moment_loss(network.physics.filters.weight), case.arrays["moment_loss"]),
        (kernel_moments(case.tensor("kernel_test")), case.arrays["moment_test"]),
    ]
    for kind, keep in kept.items():
        y = network.rollout(truth, keep)
        pairs += [
            (y[:, : T - 1].movedim(-1, 2), case.arrays["recon"]),
            (y[:, T - 1 :].movedim(-1, 2), case.arrays[f"pred_{kind}"]),
            (objective.of(network, history, target, keep), case.arrays[f"loss_{kind}"]),
        ]
    return pairs


def _e3d_lstm(case: Case) -> Pairs:
    k, x = case.kwargs, case.tensor("x")  # (N, T + T_out, H, W, C), already patched
    T, frame = k["T_in"], tuple(x.shape[2:])
    config = E3DLSTMConfig(
        input_shape=(T, *frame),
        target_shape=(k["T_out"], *frame),
        patch=1,
        hidden=k["hidden"],
        window=k["window"],
        kernel=k["kernel"],
        memory="new" if k.get("update_memory", True) else "given",
    )
    network = case.load(E3DLSTM(config))
    mask = case.tensor("mask_scheduled_sampling")
    keep = torch.cat([torch.ones_like(x[:, 1:T]), mask], 1)
    pairs = [(network(x[:, :T]), case.arrays["y_free_running"])]
    objective = E3DLSTMLoss(sampling=ScheduledSampling())
    for kept, frames, loss in (
        (free_running(len(x), (T, k["T_out"])), "y_free_running", "loss_free"),
        (keep, "y_scheduled", "loss_scheduled"),
    ):
        pairs.append((network.rollout(x, kept)[:, -k["T_out"] :], case.arrays[frames]))
        # the published loss is a sum over the batch
        found = objective.of(network, x[:, :T], x[:, T:], kept) * len(x)
        pairs.append((found, case.arrays[loss]))
    return pairs


def _rainformer(case: Case) -> Pairs:
    k = case.kwargs
    _require(k, layers=[2, 2, 2, 2], relative_pos_embedding=True)
    config = RainformerConfig(
        input_shape=(k["input_channel"], *k["hw"], 1),
        target_shape=(k["out_channel"], *k["hw"], 1),
        width=k["hidden_dim"],
        factors=k["downscaling_factors"],
        heads=k["heads"],
        head_width=k["head_dim"],
        window=k["window_size"],
        gate="pixel",
        spare_convolutions=True,
    )
    network = _renamed(case, RAINFORMER).load(Rainformer(config))
    y = network(case.tensor("x")[..., None])[..., 0]
    return [(y, case.arrays[name]) for name in ("y_f64", "y_f32")]


def _simvp(case: Case) -> Pairs:
    k = case.kwargs
    T, C, H, W = k["in_shape"]
    config = SimVPConfig(
        input_shape=(T, H, W, C),
        target_shape=(T, H, W, C),
        width=k["hid_S"],
        layers=k["N_S"],
        translator=k["model_type"].lower(),
        translator_width=k["hid_T"],
        blocks=k["N_T"],
        ratio=k["mlp_ratio"],
        drop=k["drop"],
        drop_path=k["drop_path"],
        encoder_kernel=k["spatio_kernel_enc"],
        decoder_kernel=k["spatio_kernel_dec"],
    )
    network = _renamed(case, SIMVP).load(SimVP(config))
    y = network(case.tensor("x").movedim(2, -1)).movedim(-1, 2)
    return [(y, case.arrays[name]) for name in ("y_f64", "y_f32")]


def tau(case: Case) -> Pairs:
    """Return the divergence of TAU, of the case of schedules and losses."""
    prediction, truth = (case.tensor(n).movedim(2, -1) for n in ("tau_pred", "tau_target"))
    found = difference_divergence(
        prediction, truth, temperature=case.kwargs["tau"], epsilon=case.kwargs["eps"]
    )
    return [(found.mean(), case.arrays["tau_diff_div"])]


# Start of the model's name in an index -> runner.
PHYSICS: dict[str, Callable[[Case], Pairs]] = {
    "PhyDNet": _phydnet,
    "E3D-LSTM": _e3d_lstm,
    "Rainformer": _rainformer,
    "SimVP": _simvp,
}
