r"""Networks of the reference implementation: its arguments, its names, its files.

The tables say what each constructor argument and each parameter of the reference is called
here. Its arguments of initialization say nothing about a trained network and are not read.
A ``.ckpt`` file of its trainer holds all parts under prefixes, and moving averages of the
denoiser's weights,

.. math:: \bar\theta_k = d_k \bar\theta_{k-1} + (1 - d_k) \, \theta_k, \qquad
          d_k = \min\big(d, (1 + k) / (10 + k)\big),

under names without dots; those are what sampling uses here.

Source: the code, configurations and key tables published with Gao et al. (2023), *PreDiff*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from ...errors import CheckpointError, ConfigError
from ..checkpoints import RENAMED, Renamed, below, load_official_state, tensors_of, unpickle
from ..config_parts import Dropout, GlobalVectors
from ..cuboid.patterns import parse
from ..official import block_layers, tuples
from .alignment import Alignment
from .autoencoder import Autoencoder
from .config import AlignmentConfig, AutoencoderConfig, DenoiserConfig
from .denoiser import Denoiser

__all__ = [
    "ALIGNMENT_NAMES",
    "AUTOENCODER_NAMES",
    "DENOISER_NAMES",
    "DIFFUSERS_NAMES",
    "alignment_config",
    "autoencoder_config",
    "denoiser_config",
    "load_alignment",
    "load_autoencoder",
    "load_denoiser",
]

Weights = str | PathLike[str] | Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)

# --- names of parameters: (official part, our part) --------------------------------------------

_TIME_NAMES: Renamed = (
    (".in_layers.0.", ".norm_1."),
    (".in_layers.2.", ".conv_1."),
    (".emb_layers.1.", ".time."),
    (".out_layers.0.", ".norm_2."),
    (".out_layers.3.", ".conv_2."),
    (".skip_connection.", ".skip."),
)
_DOWN_NAMES: Renamed = (
    *RENAMED,
    *_TIME_NAMES,
    (".first_proj.", ".down.first."),
    (".pos_embed.", ".down.positions."),
    (".time_embed.layer.0.", ".down.embed.first."),
    (".time_embed.layer.2.", ".down.embed.second."),
    (".init_global_vectors", ".down.vectors"),
    (".downsample_layers.", ".down.merge."),
    (".down_layer_global_proj.", ".down.merge_global."),
    (".down_self_blocks.", ".down.blocks."),
    (".down_time_embed_blocks.", ".down.time_blocks."),
)
DENOISER_NAMES: Renamed = (
    *_DOWN_NAMES,
    (".upsample_layers.", ".up.enlarge."),
    (".up_layer_global_proj.", ".up.enlarge_global."),
    (".up_self_blocks.", ".up.blocks."),
    (".up_time_embed_blocks.", ".up.time_blocks."),
    (".final_proj.", ".out."),
)
ALIGNMENT_NAMES: Renamed = (
    *_DOWN_NAMES,
    (".out.0.", ".pool_norm."),
    (".out.2.positional_embedding", ".pool.positions"),
    (".out.2.qkv_proj.", ".pool.qkv."),
    (".out.2.c_proj.", ".pool.out."),
)
_FRAME_NAMES: Renamed = (
    (".encoder.down_blocks.", ".encoder.levels."),
    (".decoder.up_blocks.", ".decoder.levels."),
    (".mid_block.resnets.0.", ".middle.before."),
    (".mid_block.resnets.1.", ".middle.after."),
    (".mid_block.attentions.0.", ".middle.attention."),
    (".resnets.", ".blocks."),
    (".downsamplers.0.conv.", ".shrink."),
    (".upsamplers.0.conv.", ".enlarge."),
    (".norm1.", ".norm_1."),
    (".norm2.", ".norm_2."),
    (".conv1.", ".conv_1."),
    (".conv2.", ".conv_2."),
    (".conv_shortcut.", ".skip."),
    (".conv_norm_out.", ".norm_out."),
    (".group_norm.", ".norm."),
    (".quant_conv.", ".to_moments."),
    (".post_quant_conv.", ".from_latent."),
)
AUTOENCODER_NAMES: Renamed = (
    *_FRAME_NAMES,
    (".query.", ".q."),
    (".key.", ".k."),
    (".value.", ".v."),
    (".proj_attn.", ".out."),
)
# The same network as later releases of the library it was copied from call it.
DIFFUSERS_NAMES: Renamed = (
    *_FRAME_NAMES,
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".to_out.0.", ".out."),
)

# --- constructor arguments -----------------------------------------------------------------------

_LLL, _DDD = ("l", "l", "l"), ("d", "d", "d")

# Every argument of the reference's two cuboid networks that says what they compute.
_CUBOID_DEFAULTS: dict[str, Any] = {
    "input_shape": None,
    "base_units": 128,
    "block_units": None,
    "scale_alpha": 1.0,
    "num_heads": 4,
    "attn_drop": 0.0,
    "proj_drop": 0.0,
    "ffn_drop": 0.0,
    "downsample": 2,
    "downsample_type": "patch_merge",
    "depth": (4, 4, 4),
    "block_attn_patterns": None,
    "block_cuboid_size": ((4, 4, 4), (4, 4, 4)),
    "block_cuboid_strategy": (_LLL, _DDD),
    "block_cuboid_shift_size": ((0, 0, 0), (0, 0, 0)),
    "num_global_vectors": 4,
    "use_global_vector_ffn": True,
    "use_global_self_attn": False,
    "separate_global_qkv": False,
    "global_dim_ratio": 1,
    "ffn_activation": "leaky",
    "gated_ffn": False,
    "norm_layer": "layer_norm",
    "padding_type": "ignore",
    "checkpoint_level": 0,
    "use_inter_ffn": True,
    "hierarchical_pos_embed": False,
    "pos_embed_type": "t+h+w",
    "use_relative_pos": True,
    "self_attn_use_final_proj": True,
    "time_embed_channels_mult": 4,
    "time_embed_use_scale_shift_norm": False,
    "time_embed_dropout": 0.0,
}
_DENOISER_DEFAULTS = {
    **_CUBOID_DEFAULTS,
    "target_shape": None,
    "upsample_type": "upsample",
    "upsample_kernel_size": 3,
    "unet_res_connect": True,
}
_ALIGNMENT_DEFAULTS = {
    **_CUBOID_DEFAULTS,
    "out_channels": 1,
    "pool": "attention",
    "readout_seq": True,
    "out_len": None,
}
_AUTOENCODER_DEFAULTS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",),
    "up_block_types": ("UpDecoderBlock2D",),
    "block_out_channels": (64,),
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 32,
    "scaling_factor": 0.18215,
}
# What the reference can be told, and the one value with which it ran.
_FIXED = {
    "downsample_type": "patch_merge",
    "upsample_type": "upsample",
    "hierarchical_pos_embed": False,
    "pool": "attention",
    "readout_seq": True,
    "act_fn": "silu",
}


def _factors(value: Any) -> Any:
    return (1, value, value) if isinstance(value, int) else value


# Field here -> (argument there, how its value is read).
_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "input_shape": ("input_shape", tuple),
    "base_units": ("base_units", int),
    "block_units": ("block_units", lambda v: v),
    "scale_alpha": ("scale_alpha", float),
    "heads": ("num_heads", int),
    "depth": ("depth", tuple),
    "downsample": ("downsample", _factors),
    "inter_ffn": ("use_inter_ffn", bool),
    "positions": ("pos_embed_type", str),
    "activation": ("ffn_activation", str),
    "gated_ffn": ("gated_ffn", bool),
    "norm": ("norm_layer", lambda v: "none" if v is None else v),
    "padding": ("padding_type", str),
    "relative_positions": ("use_relative_pos", bool),
    "final_projection": ("self_attn_use_final_proj", bool),
    "checkpoint": ("checkpoint_level", lambda v: ("none", "ffn", "all")[min(int(v), 2)]),
    "time_factor": ("time_embed_channels_mult", int),
    "time_scale_shift": ("time_embed_use_scale_shift_norm", bool),
    "time_drop": ("time_embed_dropout", float),
}


def _complete(
    given: Mapping[str, Any], defaults: Mapping[str, Any], required: tuple[str, ...]
) -> dict[str, Any]:
    """Return all arguments of a network of the reference, given ones over defaults."""
    values = {key: tuples(value) for key, value in given.items()}
    unknown = sorted(k for k in values.keys() - defaults.keys() if not k.endswith("_init_mode"))
    if unknown:
        raise ConfigError(
            f"the reference network has no argument {', '.join(unknown)}; it has "
            f"{', '.join(defaults)}"
        )
    ctor = {**defaults, **values}
    for key in required:
        if ctor[key] is None:
            raise ConfigError(f"the official arguments lack {key}: give (T, H, W, C)")
    for key, only in _FIXED.items():
        if ctor.get(key, only) != only:
            raise ConfigError(
                f"{key} is {ctor[key]!r}; the reference runs with {only!r} only, and so does "
                "this network"
            )
    return ctor


def _patterns(ctor: Mapping[str, Any]) -> Any:
    """Return the patterns of all levels: official names, or sizes, one level or all."""
    names = ctor["block_attn_patterns"]
    if isinstance(names, str):
        return parse(names)
    if names is not None:
        return tuple(parse(name) for name in names)
    parts = [ctor[f"block_cuboid_{name}"] for name in ("size", "strategy", "shift_size")]
    if not isinstance(parts[0][0][0], tuple):
        return block_layers(*parts)
    return tuple(block_layers(*level) for level in zip(*parts, strict=True))


def _cuboid_fields(ctor: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: read(ctor[key]) for name, (key, read) in _FIELDS.items()}
    if ctor["num_global_vectors"] > 0:
        fields["global_vectors"] = GlobalVectors(
            count=ctor["num_global_vectors"],
            ratio=ctor["global_dim_ratio"],
            self_attention=ctor["use_global_self_attn"],
            separate_qkv=ctor["separate_global_qkv"],
            ffn=ctor["use_global_vector_ffn"],
        )
    drops = ("attn_drop", "proj_drop", "ffn_drop")
    attention, projection, ffn = (ctor[key] for key in drops)
    fields["dropout"] = Dropout(attention=attention, projection=projection, ffn=ffn)
    return {**fields, "patterns": _patterns(ctor)}


def autoencoder_config(arguments: Mapping[str, Any]) -> AutoencoderConfig:
    """Return the configuration of the autoencoder with the official arguments.

    Raises
    ------
    ConfigError
        If an argument is unknown, or a value is one that the network has not.

    Examples
    --------
    >>> kinds = {"down_block_types": ["DownEncoderBlock2D"] * 2,
    ...          "up_block_types": ["UpDecoderBlock2D"] * 2}
    >>> autoencoder_config(
    ...     {"in_channels": 1, "out_channels": 1, "block_out_channels": [32, 64], **kinds}
    ... ).factor
    2
    """
    ctor = _complete(arguments, _AUTOENCODER_DEFAULTS, ())
    levels = len(ctor["block_out_channels"])
    for key, kind in (
        ("down_block_types", "DownEncoderBlock2D"),
        ("up_block_types", "UpDecoderBlock2D"),
    ):
        if ctor[key] != (kind,) * levels:
            raise ConfigError(
                f"{key} is {ctor[key]}; expected {kind!r} for each of the {levels} levels of "
                "block_out_channels"
            )
    if ctor["in_channels"] != ctor["out_channels"]:
        raise ConfigError(
            f"in_channels is {ctor['in_channels']} and out_channels {ctor['out_channels']}: an "
            "autoencoder returns what it gets, make them equal"
        )
    return AutoencoderConfig(
        channels=ctor["in_channels"],
        latent_channels=ctor["latent_channels"],
        widths=ctor["block_out_channels"],
        layers=ctor["layers_per_block"],
        groups=ctor["norm_num_groups"],
    )


def denoiser_config(arguments: Mapping[str, Any]) -> DenoiserConfig:
    """Return the configuration of the denoiser with the official arguments.

    Raises
    ------
    ConfigError
        If an argument is unknown or missing, or a value is one that the network has not.

    Examples
    --------
    >>> shapes = {"input_shape": [3, 8, 8, 4], "target_shape": [2, 8, 8, 4]}
    >>> config = denoiser_config(
    ...     {**shapes, "block_attn_patterns": "axial", "depth": [1], "num_global_vectors": 0}
    ... )
    >>> config.patterns[0][0].cuboid
    (5, 1, 1)
    """
    ctor = _complete(arguments, _DENOISER_DEFAULTS, ("input_shape", "target_shape"))
    return DenoiserConfig(
        **_cuboid_fields(ctor),
        target_shape=tuple(ctor["target_shape"]),
        upsample_kernel=ctor["upsample_kernel_size"],
        skip=ctor["unet_res_connect"],
    )


def alignment_config(arguments: Mapping[str, Any]) -> AlignmentConfig:
    """Return the configuration of the alignment network with the official arguments.

    Raises
    ------
    ConfigError
        If an argument is unknown or missing, or a value is one that the network has not.

    Examples
    --------
    >>> alignment_config(
    ...     {"input_shape": [2, 8, 8, 4], "block_attn_patterns": "axial", "depth": [1, 1]}
    ... ).frames
    2
    """
    ctor = _complete(arguments, _ALIGNMENT_DEFAULTS, ("input_shape",))
    return AlignmentConfig(
        **_cuboid_fields(ctor),
        frames=ctor["input_shape"][0] if ctor["out_len"] is None else ctor["out_len"],
        outputs=ctor["out_channels"],
    )


# --- files ---------------------------------------------------------------------------------------

# Prefixes of each part in files of the trainers of the reference; the first that occurs counts.
_PREFIXES = {
    "autoencoder": ("first_stage_model.", "torch_nn_module."),
    "denoiser": ("torch_nn_module.",),
    "alignment": ("alignment_model.torch_nn_module.", "alignment_model.", "torch_nn_module."),
}
_AVERAGES = "model_ema."
_COUNTERS = ("decay", "num_updates")


@dataclass(frozen=True)
class _Source:
    """A state_dict and where it is from."""

    state: Mapping[str, Tensor]
    name: str

    @classmethod
    def read(cls, weights: Weights, part: str) -> _Source:
        if isinstance(weights, Mapping):
            name = f"the state_dict given as {part}"
            return cls(tensors_of(weights, name), name)
        name = str(Path(weights))
        return cls(tensors_of(unpickle(weights), name), name)

    def part(self, part: str) -> dict[str, Tensor]:
        """Return the weights of one part, without prefix."""
        found = (below(self.state, prefix) for prefix in _PREFIXES[part])
        return next((state for state in found if state), dict(self.state))

    def averaged(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the denoiser's weights with the moving averages where the file holds them."""
        averages = below(self.state, _AVERAGES)
        averages = {k: v for k, v in averages.items() if k not in _COUNTERS}
        if not averages:
            return state
        names = {name.replace(".", ""): name for name in state}
        unknown = sorted(averages.keys() - names.keys())
        learned = {k for k, v in names.items() if state[v].is_floating_point()}
        missing = sorted(learned - averages.keys())
        if unknown or missing or len(names) != len(state):
            raise CheckpointError(
                f"the moving averages in {self.name} are not of its denoiser: of "
                f"{len(learned)} weights {len(missing)} have none, and {len(unknown)} averages "
                f"are of no weight ({', '.join((unknown or missing)[:3])})"
            )
        return {**state, **{names[k]: v for k, v in averages.items()}}


def _checked(network: Network, state: Mapping[str, Tensor], source: str, names: Renamed) -> Network:
    """Load weights that are all finite, and say where they are from where they do not fit."""
    broken = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{source} holds weights that are not finite, first {broken[0]}: the file is damaged "
            "or its training diverged"
        )
    try:
        load_official_state(network, state, names)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    return network.eval()


def load_autoencoder(weights: Weights, config: AutoencoderConfig) -> Autoencoder:
    """Return the autoencoder of an official file or state_dict, in evaluation mode.

    Names of later releases of the library it was copied from are read as well.

    Raises
    ------
    CheckpointError
        If the file can not be read, or its weights do not fit.
    """
    source = _Source.read(weights, "autoencoder")
    state = source.part("autoencoder")
    later = any(".to_q." in name for name in state)
    names = DIFFUSERS_NAMES if later else AUTOENCODER_NAMES
    return _checked(config.build(), state, source.name, names)


def load_denoiser(weights: Weights, config: DenoiserConfig) -> Denoiser:
    """Return the denoiser of an official file or state_dict, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file can not be read, or its weights do not fit.
    """
    source = _Source.read(weights, "denoiser")
    state = source.averaged(source.part("denoiser"))
    return _checked(config.build(), state, source.name, DENOISER_NAMES)


def load_alignment(weights: Weights, config: AlignmentConfig) -> Alignment:
    """Return the alignment network of an official file or state_dict, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file can not be read, or its weights do not fit.
    """
    source = _Source.read(weights, "alignment")
    return _checked(config.build(), source.part("alignment"), source.name, ALIGNMENT_NAMES)
