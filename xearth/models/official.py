r"""Configurations of the reference implementation, read into :class:`EarthformerConfig`.

The reference names 65 constructor arguments; the tables below say what each of them is
here. What its checkpoints depend on is set as the reference has it: the decoder's cuboids
are sized by the history, the relative index is sliced, padded tokens keep their place in
the mask of global vectors.

Source: the constructor of the reference network and the YAML files published with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MissingDependencyError
from .config import EarthformerConfig
from .config_parts import Auxiliary, ConvStem, Dropout, GlobalVectors, StackStem
from .cuboid.patterns import CrossLayer, CuboidLayer, Shape3, parse, parse_cross
from .setups import SETUPS

__all__ = [
    "CUBOID_FIELDS",
    "OFFICIAL_DEFAULTS",
    "block_layers",
    "cross_layers",
    "official_config",
    "tuples",
]

_LLL, _DDD, _DLL = ("l", "l", "l"), ("d", "d", "d"), ("d", "l", "l")

# Every argument of the reference with its default.
OFFICIAL_DEFAULTS: dict[str, Any] = {
    "input_shape": None,
    "target_shape": None,
    "base_units": 128,
    "block_units": None,
    "scale_alpha": 1.0,
    "num_heads": 4,
    "attn_drop": 0.0,
    "proj_drop": 0.0,
    "ffn_drop": 0.0,
    "downsample": 2,
    "downsample_type": "patch_merge",
    "upsample_type": "upsample",
    "upsample_kernel_size": 3,
    "enc_depth": (4, 4, 4),
    "enc_attn_patterns": None,
    "enc_cuboid_size": ((4, 4, 4), (4, 4, 4)),
    "enc_cuboid_strategy": (_LLL, _DDD),
    "enc_shift_size": ((0, 0, 0), (0, 0, 0)),
    "enc_use_inter_ffn": True,
    "dec_depth": (2, 2),
    "dec_cross_start": 0,
    "dec_self_attn_patterns": None,
    "dec_self_cuboid_size": ((4, 4, 4), (4, 4, 4)),
    "dec_self_cuboid_strategy": (_LLL, _DDD),
    "dec_self_shift_size": ((1, 1, 1), (0, 0, 0)),
    "dec_cross_attn_patterns": None,
    "dec_cross_cuboid_hw": ((4, 4), (4, 4)),
    "dec_cross_cuboid_strategy": (_LLL, _DLL),
    "dec_cross_shift_hw": ((0, 0), (0, 0)),
    "dec_cross_n_temporal": (1, 2),
    "dec_cross_last_n_frames": None,
    "dec_use_inter_ffn": True,
    "dec_hierarchical_pos_embed": False,
    "num_global_vectors": 4,
    "use_dec_self_global": True,
    "dec_self_update_global": True,
    "use_dec_cross_global": True,
    "use_global_vector_ffn": True,
    "use_global_self_attn": False,
    "separate_global_qkv": False,
    "global_dim_ratio": 1,
    "z_init_method": "nearest_interp",
    "initial_downsample_type": "conv",
    "initial_downsample_activation": "leaky",
    "initial_downsample_scale": 1,
    "initial_downsample_conv_layers": 2,
    "final_upsample_conv_layers": 2,
    "initial_downsample_stack_conv_num_layers": 1,
    "initial_downsample_stack_conv_dim_list": None,
    "initial_downsample_stack_conv_downscale_list": (1,),
    "initial_downsample_stack_conv_num_conv_list": (2,),
    "ffn_activation": "leaky",
    "gated_ffn": False,
    "norm_layer": "layer_norm",
    "padding_type": "ignore",
    "pos_embed_type": "t+hw",
    "checkpoint_level": True,
    "use_relative_pos": True,
    "self_attn_use_final_proj": True,
    "dec_use_first_self_attn": False,
    "attn_linear_init_mode": "0",
    "ffn_linear_init_mode": "0",
    "conv_init_mode": "0",
    "down_up_linear_init_mode": "0",
    "norm_init_mode": "0",
    "auxiliary_channels": 1,
    "unet_dec_cross_mode": "up",
}

# Names that only the YAML files use.
_YAML_NAMES = {
    "self_pattern": "enc_attn_patterns",
    "cross_self_pattern": "dec_self_attn_patterns",
    "cross_pattern": "dec_cross_attn_patterns",
}


def _factors(value: Any) -> Shape3:
    """Read a downsampling factor: s is (1, s, s), (a, b) is (1, a, b)."""
    if isinstance(value, int):
        return (1, value, value)
    T, H, W = value if len(value) == 3 else (1, *value)
    return (T, H, W)


# Field here -> (argument there, how its value is read), of all networks of cuboid attention.
CUBOID_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "input_shape": ("input_shape", tuple),
    "base_units": ("base_units", int),
    "block_units": ("block_units", lambda v: None if v is None else tuple(v)),
    "scale_alpha": ("scale_alpha", float),
    "heads": ("num_heads", int),
    "downsample": ("downsample", _factors),
    "positions": ("pos_embed_type", str),
    "activation": ("ffn_activation", str),
    "gated_ffn": ("gated_ffn", bool),
    "norm": ("norm_layer", lambda v: "none" if v is None else v),
    "padding": ("padding_type", str),
    "relative_positions": ("use_relative_pos", bool),
    "final_projection": ("self_attn_use_final_proj", bool),
    "checkpoint": ("checkpoint_level", lambda v: ("none", "ffn", "all")[min(int(v), 2)]),
}

_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    **CUBOID_FIELDS,
    "target_shape": ("target_shape", tuple),
    "encoder_depth": ("enc_depth", tuple),
    "decoder_depth": ("dec_depth", tuple),
    "upsample_kernel": ("upsample_kernel_size", int),
    "cross_start": ("dec_cross_start", int),
    "cross_last_frames": ("dec_cross_last_n_frames", lambda v: v),
    "first_self_attention": ("dec_use_first_self_attn", bool),
    "encoder_inter_ffn": ("enc_use_inter_ffn", bool),
    "decoder_inter_ffn": ("dec_use_inter_ffn", bool),
    "hierarchical_positions": ("dec_hierarchical_pos_embed", bool),
    "z_init": ("z_init_method", str),
}

_GLOBAL_FIELDS = {
    "count": "num_global_vectors",
    "ratio": "global_dim_ratio",
    "self_attention": "use_global_self_attn",
    "separate_qkv": "separate_global_qkv",
    "ffn": "use_global_vector_ffn",
    "decoder_self": "use_dec_self_global",
    "decoder_self_update": "dec_self_update_global",
    "decoder_cross": "use_dec_cross_global",
}


def tuples(value: Any) -> Any:
    """Turn lists into tuples, at every depth.

    Examples
    --------
    >>> tuples([1, [2, 3]])
    (1, (2, 3))
    """
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value


def block_layers(cuboids: Any, strategies: Any, shifts: Any) -> tuple[CuboidLayer, ...]:
    """Return the pattern of explicit official sizes, one layer per cuboid."""
    triples = zip(cuboids, strategies, shifts, strict=True)
    return tuple(CuboidLayer(tuple(c), "".join(how), tuple(s)) for c, how, s in triples)


def cross_layers(windows: Any, strategies: Any, shifts: Any, counts: Any) -> tuple[CrossLayer, ...]:
    """Return the cross pattern of explicit official sizes, one layer per window."""
    rows = zip(windows, strategies, shifts, counts, strict=True)
    return tuple(CrossLayer(tuple(w), "".join(how), tuple(s), n) for w, how, s, n in rows)


def _per_level(value: Any, levels: int, *, depth: int) -> tuple[Any, ...]:
    """Repeat an explicit value for every level unless it is nested one deeper already."""
    probe = value
    for _ in range(depth):
        probe = probe[0]
    return tuple(value) if isinstance(probe, tuple) else (value,) * levels


def _named(names: Any, read: Callable[[str], Any], shapes: tuple[Shape3, ...]) -> tuple[Any, ...]:
    names = (names,) * len(shapes) if isinstance(names, str) else names
    return tuple(read(name)(shape) for name, shape in zip(names, shapes, strict=True))


def _self_patterns(ctor: Mapping[str, Any], part: str, shapes: tuple[Shape3, ...]) -> Any:
    names, prefix = ctor[f"{part}_attn_patterns"], part
    if names is not None:
        return _named(names, parse, shapes)
    explicit = (
        _per_level(ctor[f"{prefix}_{name}"], len(shapes), depth=2)
        for name in ("cuboid_size", "cuboid_strategy", "shift_size")
    )
    return tuple(block_layers(*level) for level in zip(*explicit, strict=True))


def _cross_patterns(ctor: Mapping[str, Any], shapes: tuple[Shape3, ...]) -> Any:
    if ctor["dec_cross_attn_patterns"] is not None:
        return _named(ctor["dec_cross_attn_patterns"], parse_cross, shapes)
    explicit = (
        _per_level(ctor[f"dec_cross_{name}"], len(shapes), depth=depth)
        for name, depth in (("cuboid_hw", 2), ("cuboid_strategy", 2), ("shift_hw", 2))
    )
    counts = _per_level(ctor["dec_cross_n_temporal"], len(shapes), depth=1)
    return tuple(cross_layers(*level) for level in zip(*explicit, counts, strict=True))


def _stem(ctor: Mapping[str, Any]) -> ConvStem | StackStem:
    prefix, kind = "initial_downsample", ctor["initial_downsample_type"]
    if kind == "conv":
        return ConvStem(
            scale=_factors(ctor[f"{prefix}_scale"]),
            encoder_layers=ctor[f"{prefix}_conv_layers"],
            decoder_layers=ctor["final_upsample_conv_layers"],
            activation=ctor[f"{prefix}_activation"],
        )
    if kind != "stack_conv":
        raise ConfigError(f"initial_downsample_type must be 'conv' or 'stack_conv'; got {kind!r}")
    n, stack = ctor[f"{prefix}_stack_conv_num_layers"], f"{prefix}_stack_conv"
    dims, convs = ctor[f"{stack}_dim_list"], tuple(ctor[f"{stack}_num_conv_list"])
    # The reference reverses the list before it cuts it: a longer one is no mirror image.
    back = convs[::-1][:n] if len(convs) > n else None
    return StackStem(
        dims=(ctor["base_units"],) * n if dims is None else tuple(dims)[:n],
        scales=tuple(ctor[f"{stack}_downscale_list"])[:n],
        convs=convs[:n],
        decoder_convs=back,
        activation=ctor[f"{prefix}_activation"],
    )


def _complete(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of the reference, given ones over defaults."""
    given = {_YAML_NAMES.get(key, key): tuples(value) for key, value in model.items()}
    unknown = sorted(set(given) - set(OFFICIAL_DEFAULTS))
    if unknown:
        raise ConfigError(
            f"the reference network has no argument {', '.join(unknown)}; it has "
            f"{', '.join([*OFFICIAL_DEFAULTS, *_YAML_NAMES])}"
        )
    ctor = {**OFFICIAL_DEFAULTS, **given}
    for key in ("input_shape", "target_shape"):
        if ctor[key] is None:
            raise ConfigError(f"the official configuration has no {key}: give (T, H, W, C)")
    fixed = {"downsample_type": "patch_merge", "upsample_type": "upsample"}
    for key, only in fixed.items():
        if ctor[key] != only:
            raise ConfigError(f"{key} is {ctor[key]!r}; the reference knows only {only!r}")
    return ctor


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {path.name} needs PyYAML: pip install PyYAML, or pass the 'model:' keys "
            "as a mapping"
        ) from error
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path} as YAML: {error}") from error
    model = document.get("model") if isinstance(document, Mapping) else None
    if not isinstance(model, Mapping):
        raise ConfigError(f"{path} has no 'model:' section; an official configuration has one")
    return model


def official_config(
    config: str | PathLike[str] | Mapping[str, Any] | EarthformerConfig,
    *,
    auxiliary: bool | None = None,
) -> EarthformerConfig:
    """Return the configuration that an official checkpoint needs.

    Parameters
    ----------
    config : str, path, mapping or EarthformerConfig
        Name of a published set-up, path of an official YAML file, official ``model:`` keys,
        or a configuration, which is returned.
    auxiliary : bool, optional
        Whether a mapping or file is of the network with auxiliary fields; None looks for
        ``auxiliary_channels``.

    Raises
    ------
    ConfigError
        If the name, file or a key is unknown, or a value impossible.

    Examples
    --------
    >>> official_config("icar_enso").target_shape
    (14, 24, 48, 1)
    """
    if isinstance(config, EarthformerConfig):
        return config
    if isinstance(config, str) and config in SETUPS:
        named: EarthformerConfig = getattr(EarthformerConfig, config)()
        return named
    if not isinstance(config, Mapping):
        path = Path(config)
        if not path.exists():
            raise ConfigError(
                f"{str(config)!r} is neither a published set-up ({', '.join(SETUPS)}) nor a file"
            )
        config = _read_yaml(path)
    if auxiliary is None:
        auxiliary = "auxiliary_channels" in config
    return _translate(_complete(config), auxiliary)


def _translate(ctor: Mapping[str, Any], auxiliary: bool) -> EarthformerConfig:
    fields = {name: read(ctor[key]) for name, (key, read) in _FIELDS.items()}
    if ctor["num_global_vectors"] > 0:
        values = {name: ctor[key] for name, key in _GLOBAL_FIELDS.items()}
        fields["global_vectors"] = GlobalVectors(**values)
    if auxiliary:
        fields["auxiliary"] = Auxiliary(
            channels=ctor["auxiliary_channels"], cross=ctor["unet_dec_cross_mode"]
        )
    fields |= {
        "stem": _stem(ctor),
        "dropout": Dropout(
            attention=ctor["attn_drop"], projection=ctor["proj_drop"], ffn=ctor["ffn_drop"]
        ),
        "relative_index": "sliced",
        "global_mask": "unordered",
        "spare_decoder_positions": True,
    }
    # The grids of the levels come from the configuration itself, the patterns from the grids.
    grids = EarthformerConfig(**fields).encoder_shapes
    return EarthformerConfig(
        **fields,
        encoder_patterns=_self_patterns(ctor, "enc", grids),
        decoder_patterns=_self_patterns(ctor, "dec_self", grids),
        cross_patterns=_cross_patterns(ctor, grids),
    )
