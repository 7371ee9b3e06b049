"""Golden vectors: run cases of a folder (index + npz) against xearth and judge them.

Used by ``ci/golden`` and by the tests. A case holds official names: constructor arguments,
state_dict keys, inputs, outputs, cotangents and gradients of the reference implementation.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_result import Result, relative_error, safely, threads
from torch import Tensor, nn

from xearth.models.checkpoints import load_official_state, official_name, official_state
from xearth.models.cuboid.blocks import CrossBlock, SelfBlock
from xearth.models.cuboid.settings import AttentionSettings, BlockSettings, GlobalMode
from xearth.models.earthformer import Earthformer
from xearth.models.layers import (
    Downsample3D,
    FeedForward,
    PatchMerging3D,
    PositionEmbedding,
    RMSNorm,
    Upsample3D,
)
from xearth.models.official import block_layers, cross_layers, official_config, tuples
from xearth.models.stems import (
    ConvFinalDecoder,
    ConvInitialEncoder,
    StackFinalDecoder,
    StackInitialEncoder,
)

AUXILIARY = "CuboidTransformerAuxModel"


# --- layers: official class and constructor -> our module ------------------------------


def _attention(ctor: Mapping[str, Any], *, projection: bool = True) -> AttentionSettings:
    norm = ctor.get("norm_layer", "layer_norm")
    return AttentionSettings(
        heads=ctor["num_heads"],
        scale=ctor.get("qk_scale"),
        bias=ctor.get("qkv_bias", False),
        norm="none" if norm is None else norm,
        padding=ctor.get("padding_type", "ignore"),
        relative=ctor.get("use_relative_pos", True),
        relative_index="sliced",
        projection=projection,
    )


def _block(
    ctor: Mapping[str, Any], attention: AttentionSettings, *, inter_ffn: bool
) -> BlockSettings:
    mode = None
    if ctor.get("use_global_vector", False):
        mode = GlobalMode(
            ratio=ctor.get("global_dim_ratio", 1),
            separate=ctor.get("separate_global_qkv", False),
            self_attention=ctor.get("use_global_self_attn", False),
            mask="unordered",
        )
    return BlockSettings(
        attention=attention,
        global_mode=mode,
        global_ffn=ctor.get("use_global_vector_ffn", True),
        inter_ffn=ctor.get("use_inter_ffn", inter_ffn),
        activation=ctor.get("activation", "leaky"),
        gated=ctor.get("gated_ffn", False),
    )


def _self_block(ctor: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    attention = _attention(ctor, projection=ctor.get("use_final_proj", True))
    pattern = block_layers(
        ctor["block_cuboid_size"], ctor["block_strategy"], ctor["block_shift_size"]
    )
    return SelfBlock(
        ctor["dim"], shapes["x"][1:4], pattern, _block(ctor, attention, inter_ffn=False)
    )


def _cross_block(ctor: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    pattern = cross_layers(
        ctor["block_cuboid_hw"],
        ctor["block_strategy"],
        ctor["block_shift_hw"],
        ctor["block_n_temporal"],
    )
    _, T, H, W, _ = shapes["x"]
    return CrossBlock(
        ctor["dim"],
        (T, shapes["mem"][1], H, W),
        pattern,
        _block(ctor, _attention(ctor), inter_ffn=True),
        last_frames=ctor.get("cross_last_n_frames"),
        span=ctor["max_temporal_relative"],
    )


def _scale(value: Any) -> tuple[int, ...]:
    if isinstance(value, int):
        return (1, value, value)
    return value if len(value) == 3 else (1, *value)


def _patch_merging(ctor: Mapping[str, Any], _: Any) -> nn.Module:
    factors = ctor.get("downsample", (1, 2, 2))
    out = ctor.get("out_dim") or max(factors) * ctor["dim"]
    return PatchMerging3D(ctor["dim"], out, factors, ctor.get("padding_type", "nearest"))


def _stack_decoder(ctor: Mapping[str, Any], _: Any) -> nn.Module:
    targets = ctor["target_shape_list"]
    return StackFinalDecoder(
        ctor["in_dim"],
        [shape[3] for shape in targets],
        [shape[1:3] for shape in targets],
        ctor["num_conv_per_up_list"],
        ctor.get("activation", "leaky"),
    )


def _rms_norm(ctor: Mapping[str, Any], _: Any) -> nn.Module:
    fraction = ctor.get("p", -1.0)
    return RMSNorm(
        ctor["d"],
        eps=ctor.get("eps", 1e-8),
        fraction=fraction if 0.0 <= fraction <= 1.0 else None,
        bias=ctor.get("bias", False),
    )


class _ChannelsFirst(Downsample3D):
    """The reference returns (B, C, T, H, W) here."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).permute(0, 4, 1, 2, 3)


LAYERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, tuple[int, ...]]], nn.Module]] = {
    "StackCuboidSelfAttentionBlock": _self_block,
    "StackCuboidCrossAttentionBlock": _cross_block,
    "PatchMerging3D": _patch_merging,
    "Upsample3DLayer": lambda c, _: Upsample3D(
        c["dim"], c["out_dim"], c["target_size"][1:], c.get("kernel_size", 3)
    ),
    "PosEmbed": lambda c, _: PositionEmbedding(
        c["embed_dim"], (c["maxT"], c["maxH"], c["maxW"]), c.get("typ", "t+h+w")
    ),
    "PositionwiseFFN": lambda c, _: FeedForward(
        c["units"],
        c["hidden_size"],
        activation_name=c.get("activation", "relu"),
        gated=c.get("gated_proj", False),
        pre_norm=c.get("pre_norm", False),
    ),
    "InitialEncoder": lambda c, _: ConvInitialEncoder(
        c["dim"],
        c["out_dim"],
        scale=_scale(c["downsample_scale"]),
        layers=c.get("num_conv_layers", 2),
        activation_name=c.get("activation", "leaky"),
        padding=c.get("padding_type", "nearest"),
    ),
    "FinalDecoder": lambda c, _: ConvFinalDecoder(
        c["dim"],
        c["target_thw"][1:],
        c.get("num_conv_layers", 2),
        c.get("activation", "leaky"),
    ),
    "InitialStackPatchMergingEncoder": lambda c, _: StackInitialEncoder(
        c["in_dim"],
        c["out_dim_list"][: c["num_merge"]],
        scales=c["downsample_scale_list"][: c["num_merge"]],
        convs=c["num_conv_per_merge_list"][: c["num_merge"]],
        activation_name=c.get("activation", "leaky"),
        padding=c.get("padding_type", "nearest"),
    ),
    "FinalStackUpsamplingDecoder": _stack_decoder,
    "DownSampling3D": lambda c, _: _ChannelsFirst(
        (c["in_channels"], c["mid_dim"], c["out_dim"]),
        c["target_size"],
        temporal=c["arch_type"] == "3d_interp_2d",
    ),
    "RMSNorm": _rms_norm,
}


# --- one case ----------------------------------------------------------------------------


def _part(arrays: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): arrays[k] for k in arrays if k.startswith(prefix)}


def _layer(record: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    build = LAYERS.get(record["cls"])
    if build is None:
        raise LookupError(f"class {record['cls']} is not known to this version")
    shapes = {name: tuple(shape) for name, shape in record["inputs"].items()}
    module = build(tuples(record["ctor"]), shapes)
    load_official_state(module, state)
    return module.eval()


def _model(record: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    return Earthformer.from_official(state, config=record["ctor"])


def _parameter_error(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """Compare the norms of parameter gradients; None must be None or zero."""
    found = {official_name(name): p.grad for name, p in module.named_parameters()}
    names, none = arrays["grad_param_names"].tolist(), arrays["grad_param_none"].tolist()
    if set(names) != set(found):
        return float("inf"), f"other parameters: {sorted(set(names) ^ set(found))[:3]}"
    norms = np.array([0.0 if found[n] is None else float(found[n].norm()) for n in names])
    expected = np.where(none, 0.0, np.nan_to_num(arrays["grad_param_l2"]))
    # A norm far below the others is cancellation, in the reference as here.
    floor = 1e-3 * expected.max(initial=1e-30)
    worst = np.abs(norms - expected) / np.maximum(expected, floor)
    return float(worst.max(initial=0.0)), ""


def run_case(
    folder: Path, name: str, record: Mapping[str, Any], make: Callable[..., nn.Module]
) -> Result:
    """Run one layer or model case: outputs, gradients of inputs, norms of parameter gradients."""
    path = folder / record["file"]
    if not path.is_file():
        return Result(name, note=f"no file {record['file']}", failed=True)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    state = {key: torch.from_numpy(value) for key, value in _part(arrays, "sd/").items()}
    module = make(record, state)
    result = _errors(name, module, arrays, torch.float32)
    if result.single or result.failed:
        return result
    double = _errors(name, module, arrays, torch.float64)
    return replace(result, in_double=double.worst)


def _errors(
    name: str, module: nn.Module, arrays: Mapping[str, np.ndarray], dtype: torch.dtype
) -> Result:
    """Compare outputs, input gradients and norms of parameter gradients in one precision."""
    module = module.to(dtype)
    module.zero_grad(set_to_none=True)
    inputs = {
        key: torch.from_numpy(value).to(dtype).requires_grad_()
        for key, value in _part(arrays, "in/").items()
    }
    out = _call(module, inputs)
    expected = _part(arrays, "out/")
    if len(out) != len(expected):
        return Result(name, note=f"{len(out)} outputs, expected {len(expected)}", failed=True)
    error = max(relative_error(o.detach(), expected[str(i)]) for i, o in enumerate(out))
    cotangents = [torch.from_numpy(arrays[f"cot/{i}"]).to(dtype) for i in range(len(out))]
    torch.stack([(o * c).sum() for o, c in zip(out, cotangents, strict=True)]).sum().backward()
    gradient = max(
        relative_error(np.zeros(g.shape) if inputs[k].grad is None else inputs[k].grad, g)
        for k, g in _part(arrays, "grad/").items()
    )
    parameters, note = _parameter_error(module, arrays)
    return Result(name, error, gradient, parameters, note)


ARGUMENTS = ("x", "data", "mem", "aux_enc", "aux_dec", "global_vectors", "mem_global_vector")


def _call(module: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    unknown = set(inputs) - set(ARGUMENTS)
    if unknown:
        raise LookupError(f"inputs {sorted(unknown)} are not known to this version")
    out = module(*(inputs[key] for key in ARGUMENTS if key in inputs))
    return [o for o in (out if isinstance(out, tuple) else (out,)) if o is not None]


# --- published configurations ----------------------------------------------------------------


def procedural_state(module: nn.Module) -> dict[str, Tensor]:
    """Return weights by the recipe of the golden vectors: no file holds them."""
    state = official_state(module)
    for key in sorted(k for k, v in state.items() if v.is_floating_point()):
        shape = tuple(state[key].shape)
        a = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
        if (
            "relative_position_bias_table" in key
            or "init_global_vectors" in key
            or "_embed." in key
        ):
            a = 0.5 * a
        elif key.rsplit(".", 1)[-1] == "bias":
            a = 0.1 * a
        elif a.ndim == 1:
            a = 1.0 + 0.1 * a
        else:
            a = a / np.sqrt(np.prod(shape[1:]))
        state[key] = torch.from_numpy(a.astype(np.float32))
    return state


def procedural_inputs(config: Any) -> list[Tensor]:
    """Return the inputs of the golden vectors for a published configuration."""
    shapes = [config.input_shape]
    if config.auxiliary is not None:
        frames = (config.input_shape[0], config.target_shape[0])
        shapes += [(T, *config.input_shape[1:3], config.auxiliary.channels) for T in frames]
    return [
        torch.from_numpy(np.random.RandomState(seed).rand(1, *shape).astype(np.float32))
        for seed, shape in enumerate(shapes)
    ]


def _check_keys(path: Path, state: Mapping[str, Tensor]) -> str:
    """Return what differs between the official key table and ours, '' if nothing does."""
    if not path.is_file():
        return ""
    table = json.loads(path.read_text())
    expected = {key: tuple(shape) for key, (shape, _) in table.items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    differing = [k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k)]
    return f"other keys: {sorted(differing)[:3]}" if differing else ""


def run_published(folder: Path, name: str, record: Mapping[str, Any]) -> Result:
    """Run one full-size configuration with weights by recipe."""
    config = official_config(record["ctor"], auxiliary=record["cls"] == AUXILIARY)
    module = config.build()
    count = sum(p.numel() for p in module.parameters())
    state = procedural_state(module)
    problem = _check_keys(folder / f"state_dict_{name}.json", state)
    if count != record["n_params"] or len(state) != record["n_keys"]:
        problem = f"{count} parameters in {len(state)} tensors, {record['n_params']} expected"
    case = f"published/{name}"
    if problem:
        return Result(case, note=problem, failed=True)
    path = folder / f"out_{name}.npz"
    if "mean" not in record and not path.is_file():
        return Result(case, output=0.0, note=f"{count:,} parameters, keys and shapes equal")
    network = Earthformer.from_official(state, config=record["ctor"])
    with torch.inference_mode():
        out = network(*procedural_inputs(config)).numpy()
    error, note = 0.0, []
    if "mean" in record:
        found = [out.mean(dtype=np.float64), out.std(dtype=np.float64)]
        error = relative_error(found, [record["mean"], record["std"]])
        note.append("mean and deviation")
    if path.is_file():
        s = record["subsample"]
        with np.load(path, allow_pickle=False) as stored:
            error = max(error, relative_error(out[:, :, ::s, ::s], stored["sub"]))
            axes = (0, 2, 3)
            for key, value in (("frame_mean", out.mean(axes)), ("frame_std", out.std(axes))):
                if key in stored.files:
                    error = max(error, relative_error(value, stored[key]))
        note.append(f"output at every {s}th cell, means and deviations of frames")
    return Result(case, output=error, note=f"{count:,} parameters; {', '.join(note)}")


# --- folders -----------------------------------------------------------------------------


def _layers(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    for name, record in index.items():
        with threads(1):
            result = safely(name, lambda n=name, r=record: run_case(folder, n, r, _layer))
        yield result


def _models(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    for name, record in index.items():
        with threads(1):
            result = safely(name, lambda n=name, r=record: run_case(folder, n, r, _model))
        yield result


def _published(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    for name, record in index.items():
        yield safely(f"published/{name}", lambda n=name, r=record: run_published(folder, n, r))


Runner = Callable[[Path, Mapping[str, Any]], Iterator[Result]]


def _sevir(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    from golden_protocols import sevir  # needs the library's scores, the networks do not

    yield from sevir(folder, index)


def _enso(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    from golden_protocols import enso

    yield from enso(folder, index)


def _prediff(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    from golden_prediff import prediff

    yield from prediff(folder, index)


def _verification(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    from golden_verification import verification

    yield from verification(folder, index)


def _baselines(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    from golden_baselines import baselines

    yield from baselines(folder, index)


def _nbody(path: Path, _: Mapping[str, Any]) -> Iterator[Result]:
    from golden_nbody import nbody

    yield from nbody(path / "nbody.npz")


def _preprocess(path: Path, _: Mapping[str, Any]) -> Iterator[Result]:
    from golden_sevir import preprocess

    yield from preprocess(path / "sevir_preprocess.npz")


# Index file -> how its cases run. An index that is not here is a group of a later version. A data
# set without an index is told by the name of its file.
RUNNERS: dict[str, Runner] = {
    "index_layers.json": _layers,
    "index_models.json": _models,
    "index_published.json": _published,
    "sevir_skill.json": _sevir,
    "enso_and_data.json": _enso,
    "nbody.npz": _nbody,
    "sevir_preprocess.npz": _preprocess,
}

# Several groups call their index "index.json": what is in it tells them apart, a key or, for
# the baselines, what each record has.
BY_CONTENT: dict[str, Runner] = {"cases": _prediff, "metrics": _verification}
BASELINE = {"model", "kwargs", "file"}


def _runner(path: Path) -> Runner | None:
    if path.name != "index.json":
        return RUNNERS.get(path.name)
    index = json.loads(path.read_text())
    if index and all(isinstance(r, Mapping) and set(r) >= BASELINE for r in index.values()):
        return _baselines
    return next((run for key, run in BY_CONTENT.items() if key in index), None)


@dataclass(frozen=True)
class Group:
    """One index file of a folder; ``runner`` is None when this version cannot run it."""

    path: Path
    runner: Runner | None

    def results(self) -> Iterator[Result]:
        """Run the cases one by one."""
        if self.runner is not None:
            yield from self.runner(self.path.parent, _records(self.path))


def _records(path: Path) -> Mapping[str, Any]:
    """Return what an index holds; nothing for a file of vectors that needs none."""
    records: Mapping[str, Any] = json.loads(path.read_text()) if path.suffix == ".json" else {}
    return records


def groups(folder: Path) -> list[Group]:
    """Return the groups below a folder, by their index files."""
    paths = {path for name in ("index*.json", *RUNNERS) for path in folder.rglob(name)}
    return [Group(path, _runner(path)) for path in sorted(paths)]


def skipped(folder: Path) -> list[Path]:
    """Return folders with vectors that no index describes (scores and data sets)."""
    holders = {path.parent for path in folder.rglob("*.npz")}
    indexed = [group.path for group in groups(folder)]
    named = {
        (path.parent / record["file"]).parent
        for path in indexed
        for record in _records(path).values()
        if isinstance(record, Mapping) and "file" in record
    }
    return sorted(holders - named - {path.parent for path in indexed})
