"""Constructor arguments of the reference implementation, read into configurations.

Its arguments of initialization say nothing about a trained network and are not read.

Source: the code and configurations published with Gao et al. (2023), *PreDiff*.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import ConfigError, XearthError
from ..config_parts import Dropout, GlobalVectors
from ..cuboid.patterns import parse
from ..official import CUBOID_FIELDS, block_layers, tuples
from .config import AlignmentConfig, AutoencoderConfig, DenoiserConfig, PreDiffConfig
from .grids import is_number, is_whole
from .process import Diffusion

__all__ = ["alignment_config", "autoencoder_config", "denoiser_config", "official_config"]

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
    "mid_block_add_attention": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
}
# What the reference can be told, and the one value with which it ran, or which has a place here.
_FIXED = {
    "downsample_type": "patch_merge",
    "upsample_type": "upsample",
    "hierarchical_pos_embed": False,
    "pool": "attention",
    "readout_seq": True,
    "act_fn": "silu",
    "mid_block_add_attention": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "clip_denoised": False,
    "given_betas": None,
    "scale_by_std": False,
}
_REMEDIES = {
    "clip_denoised": "clip where you sample: model.sample(context, sampler=DDPM(clip=1.0))",
    "scale_by_std": "give the factor that it worked out as scale_factor",
}
# What says nothing of a trained network: how it was initialized, how it was trained.
_UNREAD = {
    *(
        f"{part}_init_mode"
        for part in (
            *("attn_linear", "ffn_linear", "ffn2_linear", "attn_proj_linear", "global_proj_linear"),
            *("conv", "down_linear", "up_linear", "down_up_linear", "norm"),
        )
    ),
}
# What the configuration files of the library that it was copied from say besides.
_UNREAD_AUTOENCODER = {
    *("_class_name", "_diffusers_version", "force_upcast"),
    *("latents_mean", "latents_std", "shift_factor"),
}
_UNREAD_PROCESS = {
    *("loss_type", "monitor", "use_ema", "log_every_t", "original_elbo_weight", "l_simple_weight"),
    *("learn_logvar", "logvar_init", "num_timesteps_cond", "cond_stage_trainable"),
}
# What the published YAML files call an argument.
_YAML_NAMES = {"self_pattern": "block_attn_patterns"}
# Arguments that can be more than their default says.
_ALSO: dict[str, tuple[type | None, ...]] = {
    "input_shape": (tuple,),
    "target_shape": (tuple,),
    "block_units": (tuple, None),
    "block_attn_patterns": (str, tuple, None),
    "downsample": (int, tuple),
    "norm_layer": (str, None),
    "checkpoint_level": (int, bool),
    "out_len": (int, None),
}
_SAID = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}


# Field here -> (argument there, how its value is read).
_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    **CUBOID_FIELDS,
    "depth": ("depth", tuple),
    "inter_ffn": ("use_inter_ffn", bool),
    "time_factor": ("time_embed_channels_mult", int),
    "time_scale_shift": ("time_embed_use_scale_shift_norm", bool),
    "time_drop": ("time_embed_dropout", float),
}


def _is(value: Any, kind: type | None) -> bool:
    """Return whether a value is of a kind: true is no number, a whole number is one."""
    if kind is bool:
        return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))
    if kind is int:
        return is_whole(value)
    if kind is float:
        return is_number(value)
    return value is None if kind is None else isinstance(value, kind)


def _check_kind(key: str, value: Any, default: Any) -> None:
    """Raise ConfigError unless a value is of a kind that the argument can be."""
    kinds = _ALSO.get(key, (None if default is None else type(default),))
    if any(_is(value, kind) for kind in kinds):
        return
    said = " or ".join("null" if k is None else _SAID.get(k, "a list") for k in kinds)
    text = isinstance(value, str) and {int, float} & set(kinds)
    hint = ", which YAML reads as text: write it with a point, 1.0e-4" if text else ""
    raise ConfigError(f"{key} is {value!r}{hint}; expected {said}")


def _complete(
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    required: tuple[str, ...] = (),
    unread: set[str] = _UNREAD,
) -> dict[str, Any]:
    """Return all arguments of a network of the reference, given ones over defaults."""
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"official arguments are given as {type(given).__name__}; expected a mapping of "
            "names to values"
        )
    values = {_YAML_NAMES.get(key, key): tuples(value) for key, value in given.items()}
    if len(values) < len(given):
        raise ConfigError(f"the same argument is given twice among {', '.join(map(str, given))}")
    unknown = sorted(map(str, values.keys() - defaults.keys() - unread))
    if unknown:
        near = difflib.get_close_matches(unknown[0], [*defaults, *unread], 1)
        raise ConfigError(
            f"the reference network has no argument {', '.join(unknown)}"
            f"{f' (did you mean {near[0]}?)' if near else ''}; it has {', '.join(defaults)}"
        )
    ctor = {**defaults, **{k: v for k, v in values.items() if k in defaults}}
    for key in required:
        if ctor[key] is None:
            raise ConfigError(f"the official arguments lack {key}: give (T, H, W, C)")
        if not isinstance(ctor[key], tuple) or len(ctor[key]) != 4:
            raise ConfigError(f"{key} is {ctor[key]!r}, expected four numbers (T, H, W, C)")
    for key, only in _FIXED.items():
        if ctor.get(key, only) != only:
            remedy = _REMEDIES.get(key, "the reference runs with no other, nor does this network")
            raise ConfigError(f"{key} is {ctor[key]!r}, expected {only!r}: {remedy}")
    for key, value in ctor.items():
        _check_kind(key, value, defaults[key])
    return ctor


def _patterns(ctor: Mapping[str, Any]) -> Any:
    """Return the patterns of all levels: official names, or sizes, one level or all."""
    names = ctor["block_attn_patterns"]
    if isinstance(names, str):
        return parse(names)
    if names is not None:
        return tuple(parse(str(name)) for name in names)
    keys = [f"block_cuboid_{name}" for name in ("size", "strategy", "shift_size")]
    parts = [ctor[key] for key in keys]
    try:
        if not isinstance(parts[0][0][0], tuple):
            return block_layers(*parts)
        return tuple(block_layers(*level) for level in zip(*parts, strict=True))
    except XearthError:
        raise
    except (TypeError, ValueError, LookupError) as error:
        raise ConfigError(
            f"{', '.join(keys)} are {', '.join(map(repr, parts))}; expected lists of one "
            "length, of three numbers or letters for each layer, for one level or all"
        ) from error


def _read(key: str, value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key} is {value!r}, which can not be read: {error}") from error


def _cuboid_fields(ctor: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: _read(key, ctor[key], read) for name, (key, read) in _FIELDS.items()}
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
    ctor = _complete(arguments, _AUTOENCODER_DEFAULTS, unread=_UNREAD_AUTOENCODER)
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


# Argument of the reference's process -> field of ours, with its default there.
_PROCESS = {
    "timesteps": ("steps", 1000),
    "beta_schedule": ("schedule", "linear"),
    "linear_start": ("start", 1e-4),
    "linear_end": ("end", 2e-2),
    "cosine_s": ("cosine_offset", 8e-3),
    "v_posterior": ("v_posterior", 0.0),
    "parameterization": ("prediction", "eps"),
}
_PROCESS_DEFAULTS = {
    **{key: default for key, (_, default) in _PROCESS.items()},
    "scale_factor": 1.0,
    **{key: _FIXED[key] for key in ("clip_denoised", "given_betas", "scale_by_std")},
}
_PARTS = ("autoencoder", "denoiser", "alignment", "diffusion")


def official_config(config: str | Mapping[str, Any] | PreDiffConfig) -> PreDiffConfig:
    """Return the configuration that official files need.

    Parameters
    ----------
    config : str, mapping or PreDiffConfig
        ``sevir_lr``; or the official arguments of each part by name: ``autoencoder``,
        ``denoiser``, and where there are any ``alignment`` and ``diffusion`` (those of the
        process, with ``scale_factor``); or a configuration, which is returned.

    Raises
    ------
    ConfigError
        If the name, a part or an argument is unknown, or a value impossible.

    Examples
    --------
    >>> official_config("sevir_lr").process.steps
    1000
    """
    if isinstance(config, PreDiffConfig):
        return config
    if isinstance(config, str):
        if config != "sevir_lr":
            raise ConfigError(
                f"no published PreDiff is called {config!r}; there is 'sevir_lr'. For another "
                f"one give the official arguments by part: a mapping with {', '.join(_PARTS)}"
            )
        return PreDiffConfig.sevir_lr()
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"config is given as {type(config).__name__}; expected 'sevir_lr', a PreDiffConfig, or "
            f"a mapping with {', '.join(_PARTS)}"
        )
    if not {"autoencoder", "denoiser"} <= set(config) <= set(_PARTS):
        raise ConfigError(
            f"the official arguments are given for {', '.join(map(str, config)) or 'no part'}; "
            f"expected autoencoder and denoiser, and if wanted alignment and diffusion"
        )
    process = _complete(config.get("diffusion", {}), _PROCESS_DEFAULTS, unread=_UNREAD_PROCESS)
    aligned = config.get("alignment")
    return PreDiffConfig(
        autoencoder=autoencoder_config(config["autoencoder"]),
        denoiser=denoiser_config(config["denoiser"]),
        alignment=None if aligned is None else alignment_config(aligned),
        process=Diffusion(**{ours: process[theirs] for theirs, (ours, _) in _PROCESS.items()}),
        latent_scale=float(process["scale_factor"]),
    )
