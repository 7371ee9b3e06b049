r"""Configurations of the networks of PreDiff: every size and choice, nothing computed twice.

Grids are (T, H, W) of the latent space, tensors (N, T, H, W, C). Level 0 is the grid itself;
level i + 1 has its patches. The defaults are the published SEVIR-LR networks.

Source: Gao et al. (2023), *PreDiff: Precipitation Nowcasting with Latent Diffusion Models*,
NeurIPS, and the configurations published with it.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from ...errors import ConfigError
from ..config_parts import Dropout, GlobalVectors, ceil_shape, from_plain, integers, to_plain
from ..cuboid.patterns import CuboidLayer, Shape3, axial
from ..cuboid.settings import (
    AttentionSettings,
    BlockSettings,
    Checkpoint,
    GlobalMask,
    GlobalMode,
    Padding,
    RelativeIndex,
)

if TYPE_CHECKING:
    from .alignment import Alignment
    from .autoencoder import Autoencoder
    from .denoiser import Denoiser

__all__ = ["AlignmentConfig", "AutoencoderConfig", "CuboidConfig", "DenoiserConfig", "Shape4"]

Shape4 = tuple[int, int, int, int]

_CHOICES: dict[str, tuple[str, ...]] = {
    "positions": ("t+h+w", "t+hw"),
    "norm": ("layer_norm", "rms_norm", "none"),
    "padding": ("zeros", "ignore", "nearest"),
    "checkpoint": ("none", "ffn", "all"),
    "relative_index": ("recomputed", "sliced"),
    "global_mask": ("reordered", "unordered"),
}


class _Plain:
    """To plain JSON values and back."""

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values; :meth:`from_dict` reads it."""
        values: dict[str, Any] = to_plain(self)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration that :meth:`to_dict` wrote.

        Raises
        ------
        ConfigError
            If a key is unknown; the message lists the known ones.
        """
        return from_plain(cls, values)


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be an integer of at least 1; got {value!r}")


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 4 or min(shape) < 1:
        raise ConfigError(f"{name} must be four positive integers (T, H, W, C); got {shape!r}")


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(_Plain):
    """Sizes of the frame-wise autoencoder.

    Parameters
    ----------
    channels : int
        Channels of a frame of data.
    latent_channels : int
        Channels of a frame of the latent space.
    widths : tuple of int
        Channels of each level; a level has half the rows and columns of the one before.
    layers : int
        Residual blocks of each level of the encoder; the decoder has one more.
    groups : int
        Groups of each normalization; they divide all widths.

    Raises
    ------
    ConfigError
        If a value is impossible.

    Examples
    --------
    >>> AutoencoderConfig().latent_shape((7, 128, 128, 1))
    (7, 16, 16, 64)
    """

    channels: int = 1
    latent_channels: int = 64
    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    groups: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", integers("widths", self.widths))
        for name in ("channels", "latent_channels", "layers", "groups"):
            _positive(name, getattr(self, name))
        if not self.widths or any(w < 1 or w % self.groups for w in self.widths):
            raise ConfigError(
                f"widths {self.widths} must be one or more multiples of groups={self.groups}: "
                "each level is normalized in so many groups of channels"
            )

    @property
    def factor(self) -> int:
        """Rows of data for one row of the latent space."""
        return int(2 ** (len(self.widths) - 1))

    def latent_shape(self, shape: Shape4) -> Shape4:
        """Return the shape (T, h, w, c) of the latent fields of data (T, H, W, C).

        Raises
        ------
        ConfigError
            If the frame is no multiple of the factor, or the channels are others.
        """
        T, H, W, C = shape
        f = self.factor
        if H % f or W % f or self.channels != C:
            raise ConfigError(
                f"frames (H, W, C) = {(H, W, C)} do not fit an autoencoder of "
                f"{self.channels} channels that divides rows and columns by {f}: pad or crop "
                f"them to multiples of {f}"
            )
        return (T, H // f, W // f, self.latent_channels)

    def build(self) -> Autoencoder:
        """Return a new network."""
        from .autoencoder import Autoencoder

        return Autoencoder(self)


def _resolve(given: Any, shapes: Sequence[Shape3]) -> tuple[Any, ...]:
    """Return one pattern per level from a function, one pattern, or one of either per level."""
    if callable(given) or (given and all(isinstance(item, CuboidLayer) for item in given)):
        given = (given,) * len(shapes)
    if len(given) != len(shapes):
        raise ConfigError(
            f"{len(given)} patterns for {len(shapes)} levels; give one for all or one per level"
        )
    pairs = zip(given, shapes, strict=True)
    return tuple(item(shape) if callable(item) else tuple(item) for item, shape in pairs)


@dataclass(frozen=True, kw_only=True)
class CuboidConfig(_Plain, abc.ABC):
    """What the denoiser and the alignment network have in common: levels of cuboid attention.

    Parameters
    ----------
    base_units, scale_alpha : int, float
        Channels of level 0; level i has base * int((largest downsample ** alpha) ** i).
    block_units : tuple of int, optional
        Channels of each level, instead.
    heads : int
        Attention heads.
    depth : tuple of int
        Blocks of each level.
    downsample : tuple of int
        Patch (1, d_H, d_W) between levels.
    patterns
        A pattern, a function of the level's grid (T, H, W), or one of either per level; kept
        as one pattern per level.
    inter_ffn : bool
        One feed-forward network per attention layer, or one per block.
    positions : str
        ``t+h+w`` or ``t+hw``.
    global_vectors : GlobalVectors, optional
        None for no global vectors; what it says of a decoder is not used.
    dropout : Dropout
        Probabilities.
    activation, gated_ffn, norm
        Of feed-forward networks; ``layer_norm``, ``rms_norm`` or ``none``.
    padding : str
        What completes a grid to whole cuboids: ``ignore`` (masked), ``zeros``, ``nearest``.
    relative_positions, final_projection : bool
        Relative position bias; projection at the end of self-attention.
    checkpoint : str
        What training recomputes to save memory: ``none``, ``ffn``, ``all``.
    relative_index, global_mask
        What published checkpoints depend on: ``sliced``, ``unordered``.
    time_factor : int
        Width of the embedding of diffusion time, in widths of level 0.
    time_scale_shift : bool
        Whether diffusion time scales and shifts the normalized features, or is added before.
    time_drop : float
        Dropout in the blocks that read diffusion time.
    """

    base_units: int = 256
    scale_alpha: float = 1.0
    block_units: tuple[int, ...] | None = None
    heads: int = 4
    depth: tuple[int, ...] = (4, 4)
    downsample: Shape3 = (1, 2, 2)
    patterns: Any = axial
    inter_ffn: bool = True
    positions: Literal["t+h+w", "t+hw"] = "t+h+w"
    global_vectors: GlobalVectors | None = None
    dropout: Dropout = field(default_factory=Dropout)
    activation: str = "gelu"
    gated_ffn: bool = False
    norm: Literal["layer_norm", "rms_norm", "none"] = "layer_norm"
    padding: Padding = "zeros"
    relative_positions: bool = True
    final_projection: bool = True
    checkpoint: Checkpoint = "none"
    relative_index: RelativeIndex = "sliced"
    global_mask: GlobalMask = "unordered"
    time_factor: int = 4
    time_scale_shift: bool = False
    time_drop: float = 0.0

    def __post_init__(self) -> None:
        for name in ("depth", "downsample", "block_units"):
            object.__setattr__(self, name, integers(name, getattr(self, name)))
        for name in ("base_units", "heads", "time_factor"):
            _positive(name, getattr(self, name))
        self._check_levels()
        self._check_choices()
        object.__setattr__(self, "patterns", _resolve(self.patterns, self.shapes))

    def _check_levels(self) -> None:
        if not self.depth or min(self.depth) < 1:
            raise ConfigError(f"depth needs a positive number per level; got {self.depth}")
        if len(self.downsample) != 3 or min(self.downsample) < 1 or self.downsample[0] != 1:
            raise ConfigError(
                f"downsample must be (1, d_H, d_W): frames keep their number; got {self.downsample}"
            )
        units = self.units
        if len(units) != len(self.depth) or units[0] != self.base_units:
            raise ConfigError(
                f"block_units {units} must name {len(self.depth)} levels and start with "
                f"base_units={self.base_units}"
            )
        for width in units:
            if width % self.heads:
                raise ConfigError(f"{self.heads} heads do not divide a level of {width} channels")

    def _check_choices(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} must be one of {choices}; got {getattr(self, name)!r}")
        for name, p in {**dataclasses.asdict(self.dropout), "time": self.time_drop}.items():
            if not 0.0 <= p < 1.0:
                raise ConfigError(f"dropout of {name} must be in [0, 1); got {p!r}")
        g = self.global_vectors
        if g is not None and (g.count < 1 or (g.ratio != 1 and not g.separate_qkv)):
            raise ConfigError(
                f"{g.count} global vectors of ratio {g.ratio}: use None for no vectors, and "
                "separate_qkv=True for a ratio other than 1"
            )

    @property
    @abc.abstractmethod
    def grid(self) -> Shape3:
        """Grid (T, H, W) of level 0."""

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.depth)

    @property
    def units(self) -> tuple[int, ...]:
        """Channels of each level."""
        if self.block_units is not None:
            return self.block_units
        growth = max(self.downsample) ** self.scale_alpha
        return tuple(self.base_units * int(growth**i) for i in range(self.levels))

    @property
    def shapes(self) -> tuple[Shape3, ...]:
        """Grid (T, H, W) of each level."""
        shapes = [self.grid]
        for _ in range(1, self.levels):
            shapes.append(ceil_shape(shapes[-1], self.downsample))
        return tuple(shapes)

    @property
    def time_units(self) -> int:
        """Width of the embedding of diffusion time."""
        return self.time_factor * self.base_units

    def blocks(self) -> BlockSettings:
        """Return what all blocks of the network share."""
        g = self.global_vectors
        mode = None
        if g is not None:
            mode = GlobalMode(
                ratio=g.ratio,
                separate=g.separate_qkv,
                self_attention=g.self_attention,
                mask=self.global_mask,
            )
        attention = AttentionSettings(
            heads=self.heads,
            attention_drop=self.dropout.attention,
            projection_drop=self.dropout.projection,
            norm=self.norm,
            padding=self.padding,
            relative=self.relative_positions,
            relative_index=self.relative_index,
            projection=self.final_projection,
        )
        return BlockSettings(
            attention=attention,
            global_mode=mode,
            global_ffn=g is not None and g.ffn,
            inter_ffn=self.inter_ffn,
            activation=self.activation,
            gated=self.gated_ffn,
            ffn_drop=self.dropout.ffn,
            checkpoint=self.checkpoint,
        )


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig(CuboidConfig):
    """Everything that defines a denoiser: a U-shaped network of cuboid attention.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of the latent context and of the latent forecast; H, W and C are the same.
    upsample_kernel : int
        Odd size of the convolution after an enlargement between levels.
    skip : bool
        Whether the way down is added to the way up, level by level.
    **others
        As in :class:`CuboidConfig`.

    Raises
    ------
    ConfigError
        If a value is impossible; the message says which would do.

    Examples
    --------
    >>> config = DenoiserConfig()
    >>> config.grid, config.units
    ((13, 16, 16), (256, 512))
    >>> DenoiserConfig.from_dict(config.to_dict()) == config
    True
    """

    input_shape: Shape4 = (7, 16, 16, 64)
    target_shape: Shape4 = (6, 16, 16, 64)
    upsample_kernel: int = 3
    skip: bool = True

    def __post_init__(self) -> None:
        for name in ("input_shape", "target_shape"):
            object.__setattr__(self, name, integers(name, getattr(self, name)))
            _check_shape(name, getattr(self, name))
        if self.input_shape[1:] != self.target_shape[1:]:
            raise ConfigError(
                f"context and forecast have latent frames of {self.input_shape[1:]} and "
                f"{self.target_shape[1:]}; they are joined along time: make them equal"
            )
        if self.upsample_kernel % 2 != 1:
            raise ConfigError(f"upsample_kernel must be odd; got {self.upsample_kernel!r}")
        super().__post_init__()

    @property
    def grid(self) -> Shape3:
        """Grid (T, H, W) of level 0: frames of the context and of the forecast."""
        T, H, W, _ = self.input_shape
        return (T + self.target_shape[0], H, W)

    def build(self) -> Denoiser:
        """Return a new network with the published initialization."""
        from .denoiser import Denoiser

        return Denoiser(self)


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig(CuboidConfig):
    """Everything that defines an alignment network: the way down of a denoiser, then a pool.

    Parameters
    ----------
    input_shape : tuple of int
        (T, H, W, C) of the noisy latent forecast.
    frames : int
        How many frames, the last ones, numbers are read from.
    outputs : int
        Numbers per frame.
    **others
        As in :class:`CuboidConfig`.

    Raises
    ------
    ConfigError
        If a value is impossible.

    Examples
    --------
    >>> AlignmentConfig().units
    (128, 256)
    """

    base_units: int = 128
    depth: tuple[int, ...] = (1, 1)
    input_shape: Shape4 = (6, 16, 16, 64)
    frames: int = 6
    outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", integers("input_shape", self.input_shape))
        _check_shape("input_shape", self.input_shape)
        _positive("outputs", self.outputs)
        if not 1 <= self.frames <= self.input_shape[0]:
            raise ConfigError(
                f"numbers are read from {self.frames!r} frames of {self.input_shape[0]}; give 1 "
                f"to {self.input_shape[0]}"
            )
        super().__post_init__()

    @property
    def grid(self) -> Shape3:
        """Grid (T, H, W) of level 0."""
        T, H, W, _ = self.input_shape
        return (T, H, W)

    def build(self) -> Alignment:
        """Return a new network with the published initialization."""
        from .alignment import Alignment

        return Alignment(self)
