"""Small frozen parts of a configuration, its checks, and its way to JSON and back."""

from __future__ import annotations

import dataclasses
import operator
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..errors import ConfigError
from .cuboid.patterns import CrossLayer, CuboidLayer, Shape3
from .cuboid.settings import AttentionSettings, BlockSettings, GlobalMode

if TYPE_CHECKING:
    from .config import EarthformerConfig

__all__ = [
    "INTEGERS",
    "Auxiliary",
    "ConvStem",
    "Dropout",
    "GlobalVectors",
    "StackStem",
    "block_settings",
    "ceil_shape",
    "check",
    "from_plain",
    "integers",
    "per_level",
    "to_plain",
]

Config = TypeVar("Config")


def ceil_shape(shape: Shape3, factors: Shape3) -> Shape3:
    """Return the grid of patches of a grid, incomplete patches counted."""
    T, H, W = (-(-n // f) for n, f in zip(shape, factors, strict=True))
    return (T, H, W)


@dataclass(frozen=True, kw_only=True)
class ConvStem:
    """Convolutions and one patch merging; back by one enlargement.

    Parameters
    ----------
    scale : tuple of int
        Patch (d_T, d_H, d_W).
    encoder_layers, decoder_layers : int
        Convolutions before the merging and after the enlargement.
    activation : str
        After each convolution.
    """

    scale: Shape3 = (1, 1, 2)
    encoder_layers: int = 2
    decoder_layers: int = 1
    activation: str = "leaky"

    def reduced(self, shape: Shape3) -> Shape3:
        """Return the working grid (T, H, W) of a data grid."""
        return ceil_shape(shape, self.scale)

    def check(self, units: int) -> None:
        """Raise ConfigError unless the stem fits a network of this many channels."""
        if units % 16 and (self.encoder_layers or self.decoder_layers):
            raise ConfigError(
                f"a convolution stem normalizes in 16 groups: base_units={units} must be a "
                "multiple of 16"
            )


@dataclass(frozen=True, kw_only=True)
class StackStem:
    """Stages of convolutions and patch merging; back by stages of enlargement.

    Parameters
    ----------
    dims, scales, convs : tuple of int
        Channels, patch size and number of convolutions of each stage.
    activation : str
        After each convolution.
    decoder_convs : tuple of int, optional
        Convolutions of each stage on the way back, coarsest first; the mirror image of
        ``convs`` by default.
    """

    dims: tuple[int, ...]
    scales: tuple[int, ...]
    convs: tuple[int, ...]
    activation: str = "leaky"
    decoder_convs: tuple[int, ...] | None = None

    @property
    def back(self) -> tuple[int, ...]:
        """Convolutions of each stage on the way back, coarsest first."""
        return self.convs[::-1] if self.decoder_convs is None else self.decoder_convs

    def frames(self, shape: Shape3) -> list[Shape3]:
        """Return the grid (T, H, W) before each stage and after the last."""
        grids = [shape]
        for scale in self.scales:
            grids.append(ceil_shape(grids[-1], (1, scale, scale)))
        return grids

    def reduced(self, shape: Shape3) -> Shape3:
        """Return the working grid (T, H, W) of a data grid."""
        return self.frames(shape)[-1]

    def check(self, units: int) -> None:
        """Raise ConfigError unless the stem fits a network of this many channels."""
        if not len(self.dims) == len(self.scales) == len(self.convs) == len(self.back) > 0:
            raise ConfigError(
                "a stack stem needs as many dims as scales, convs and decoder_convs; got "
                f"{self.dims}, {self.scales}, {self.convs}, {self.back}"
            )
        if self.dims[-1] != units:
            raise ConfigError(
                f"the last stage of the stem has {self.dims[-1]} channels, the network "
                f"{units}; make dims[-1] equal to base_units"
            )
        for dim in self.dims:
            if dim % max(1, dim // 4):
                raise ConfigError(
                    f"{dim} channels do not divide into {dim // 4} norm groups; use a multiple of 4"
                )


@dataclass(frozen=True, kw_only=True)
class GlobalVectors:
    """Vectors that see everything and that everything sees.

    Parameters
    ----------
    count : int
        Number of vectors G.
    ratio : int
        Their width, in widths of the level.
    self_attention : bool
        Whether they attend to each other.
    separate_qkv : bool
        Whether their attention has projections of its own.
    ffn : bool
        Whether they pass through feed-forward networks.
    decoder_self, decoder_self_update, decoder_cross : bool
        Whether the decoder's self-attention reads them, changes them, and whether its
        cross-attention reads them.
    """

    count: int = 8
    ratio: int = 1
    self_attention: bool = True
    separate_qkv: bool = True
    ffn: bool = False
    decoder_self: bool = False
    decoder_self_update: bool = True
    decoder_cross: bool = False


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Dropout probabilities: attention weights, output projections, feed-forward networks."""

    attention: float = 0.1
    projection: float = 0.1
    ffn: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """Second input of the auxiliary network: known fields of history and horizon.

    Parameters
    ----------
    channels : int
        Channels of the auxiliary fields.
    cross : str
        On which path of the decoder the memory is read: ``up``, ``down`` or ``both``.
    """

    channels: int = 7
    cross: Literal["up", "down", "both"] = "both"


_CHOICES: dict[str, tuple[str, ...]] = {
    "positions": ("t+h+w", "t+hw"),
    "z_init": ("zeros", "nearest_interp", "last", "mean"),
    "norm": ("layer_norm", "rms_norm", "none"),
    "padding": ("zeros", "ignore", "nearest"),
    "checkpoint": ("none", "ffn", "all"),
    "relative_index": ("recomputed", "sliced"),
    "global_mask": ("reordered", "unordered"),
}


INTEGERS = (
    "input_shape",
    "target_shape",
    "encoder_depth",
    "decoder_depth",
    "downsample",
    "block_units",
)


def integers(name: str, value: Any) -> tuple[int, ...] | None:
    """Return a sequence of integers of any kind as a tuple of plain ones; None stays None.

    Raises
    ------
    ConfigError
        If it holds anything else.

    Examples
    --------
    >>> integers("downsample", [1, 2, 2])
    (1, 2, 2)
    """
    if value is None:
        return None
    try:
        return tuple(operator.index(n) for n in value)
    except TypeError as error:
        raise ConfigError(f"{name} must be a sequence of integers; got {value!r}") from error


def _check_shapes(config: EarthformerConfig) -> None:
    for name in ("input_shape", "target_shape"):
        shape = getattr(config, name)
        if len(shape) != 4 or min(shape) < 1:
            raise ConfigError(f"{name} must be four positive integers (T, H, W, C); got {shape!r}")
    if config.input_shape[1:3] != config.target_shape[1:3]:
        raise ConfigError(
            f"history and horizon have frames of {config.input_shape[1:3]} and "
            f"{config.target_shape[1:3]}; the network keeps the frame: make them equal"
        )


def _check_levels(config: EarthformerConfig) -> None:
    depths = (config.encoder_depth, config.decoder_depth)
    if len(depths[0]) != len(depths[1]) or not depths[0] or min(*depths[0], *depths[1]) < 1:
        raise ConfigError(
            "encoder_depth and decoder_depth need one positive number per level, as many in "
            f"both; got {depths[0]} and {depths[1]}"
        )
    if len(config.downsample) != 3 or min(config.downsample) < 1:
        raise ConfigError(
            f"downsample must be three positive integers (d_T, d_H, d_W); got {config.downsample}"
        )
    units = config.units
    if len(units) != len(depths[0]) or units[0] != config.base_units:
        raise ConfigError(
            f"block_units {units} must name {len(depths[0])} levels and start with "
            f"base_units={config.base_units}"
        )
    for width in units:
        if width % config.heads:
            raise ConfigError(f"{config.heads} heads do not divide a level of {width} channels")
    if not 0 <= config.cross_start < len(units):
        raise ConfigError(
            f"cross_start={config.cross_start} is no level; there are {len(units)} from 0"
        )


def check(config: EarthformerConfig) -> None:
    """Raise ConfigError if a configuration holds an impossible value."""
    _check_shapes(config)
    _check_levels(config)
    config.stem.check(config.base_units)
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise ConfigError(f"{name} must be one of {choices}; got {getattr(config, name)!r}")
    for name, p in dataclasses.asdict(config.dropout).items():
        if not 0.0 <= p < 1.0:
            raise ConfigError(f"dropout.{name} must be in [0, 1); got {p!r}")
    g = config.global_vectors
    if g is not None and (g.count < 1 or (g.ratio != 1 and not g.separate_qkv)):
        raise ConfigError(
            f"{g.count} global vectors of ratio {g.ratio}: use None for no vectors, and "
            "separate_qkv=True for a ratio other than 1"
        )
    if config.auxiliary is not None and config.auxiliary.cross not in ("up", "down", "both"):
        raise ConfigError(
            f"auxiliary.cross must be up, down or both; got {config.auxiliary.cross!r}"
        )


def to_plain(value: Any) -> Any:
    """Turn frozen dataclasses and tuples into dicts and lists, for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """Rebuild a dataclass that :func:`to_plain` took apart.

    Raises
    ------
    ConfigError
        If a key is unknown.
    """
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"{cls.__name__} has no {', '.join(map(repr, unknown))}; it has {', '.join(hints)}"
        )
    return cls(**{name: _rebuild(name, hints[name], value) for name, value in values.items()})


def _rebuild(name: str, hint: Any, value: Any) -> Any:
    """Rebuild one field from its type hint."""
    if name == "patterns" or name.endswith("_patterns"):
        layer = CrossLayer if name == "cross_patterns" else CuboidLayer
        return tuple(tuple(from_plain(layer, item) for item in pattern) for pattern in value)
    if isinstance(value, Mapping):
        classes = [t for t in _members(hint) if isinstance(t, type) and dataclasses.is_dataclass(t)]
        return from_plain(_closest(name, classes, value), value)
    return _tuples(value)


def _members(hint: Any) -> Sequence[Any]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _closest(name: str, classes: Sequence[type], value: Mapping[str, Any]) -> type:
    """Return the class whose fields share most keys with ``value``."""
    if not classes:
        raise ConfigError(f"{name} holds a mapping {dict(value)!r}; expected a plain value")
    return max(classes, key=lambda c: len({f.name for f in dataclasses.fields(c)} & set(value)))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def per_level(given: Any, shapes: Sequence[Shape3], layer: type) -> tuple[Any, ...]:
    """Return one pattern per level from a function, one pattern, or one of either per level."""
    if callable(given) or (given and all(isinstance(item, layer) for item in given)):
        given = (given,) * len(shapes)
    if len(given) != len(shapes):
        raise ConfigError(
            f"{len(given)} patterns for {len(shapes)} levels; give one for all or one per level"
        )
    pairs = zip(given, shapes, strict=True)
    return tuple(item(shape) if callable(item) else tuple(item) for item, shape in pairs)


def block_settings(
    config: Any, *, global_vectors: GlobalVectors | None, inter_ffn: bool
) -> BlockSettings:
    """Return what the blocks of a network of cuboid attention share.

    Parameters
    ----------
    config : EarthformerConfig or CuboidConfig
        Whose fields of one name these settings are.
    global_vectors : GlobalVectors, optional
        Those that these blocks use.
    inter_ffn : bool
        One feed-forward network per attention layer, or one per block.
    """
    mode = None
    if global_vectors is not None:
        mode = GlobalMode(
            ratio=global_vectors.ratio,
            separate=global_vectors.separate_qkv,
            self_attention=global_vectors.self_attention,
            mask=config.global_mask,
        )
    attention = AttentionSettings(
        heads=config.heads,
        attention_drop=config.dropout.attention,
        projection_drop=config.dropout.projection,
        norm=config.norm,
        padding=config.padding,
        relative=config.relative_positions,
        relative_index=config.relative_index,
        projection=config.final_projection,
    )
    every = config.global_vectors
    return BlockSettings(
        attention=attention,
        global_mode=mode,
        global_ffn=every is not None and every.ffn,
        inter_ffn=inter_ffn,
        activation=config.activation,
        gated=config.gated_ffn,
        ffn_drop=config.dropout.ffn,
        checkpoint=config.checkpoint,
    )
