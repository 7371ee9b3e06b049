r"""What configurations of networks of cuboid attention have in common, and their way to JSON.

Grids are (T, H, W), level 0 is the grid itself; level i + 1 has its patches.

Source: the configurations published with Gao et al. (2023), *PreDiff*.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ...errors import ConfigError
from ..config_parts import (
    Dropout,
    GlobalVectors,
    block_settings,
    ceil_shape,
    from_plain,
    integers,
    per_level,
    to_plain,
)
from ..cuboid.patterns import CuboidLayer, Shape3, axial
from ..cuboid.settings import (
    BlockSettings,
    Checkpoint,
    GlobalMask,
    Padding,
    RelativeIndex,
)
from .grids import is_number

__all__ = ["CuboidConfig", "Plain", "Shape4", "check_positive", "check_shape"]

Shape4 = tuple[int, int, int, int]

_CHOICES: dict[str, tuple[str, ...]] = {
    "positions": ("t+h+w", "t+hw"),
    "norm": ("layer_norm", "rms_norm", "none"),
    "padding": ("zeros", "ignore", "nearest"),
    "checkpoint": ("none", "ffn", "all"),
    "relative_index": ("recomputed", "sliced"),
    "global_mask": ("reordered", "unordered"),
}


class Plain:
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


def check_positive(name: str, value: Any) -> None:
    """Raise ConfigError unless a value is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be an integer of at least 1; got {value!r}")


def check_shape(name: str, shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless a shape is four positive integers."""
    if not isinstance(shape, tuple) or len(shape) != 4 or min(shape) < 1:
        raise ConfigError(f"{name} must be four positive integers (T, H, W, C); got {shape!r}")


@dataclass(frozen=True, kw_only=True)
class CuboidConfig(Plain, abc.ABC):
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
        self._check_kinds()
        for name in ("depth", "downsample", "block_units"):
            object.__setattr__(self, name, integers(name, getattr(self, name)))
        for name in ("base_units", "heads", "time_factor"):
            check_positive(name, getattr(self, name))
        self._check_levels()
        self._check_choices()
        object.__setattr__(self, "patterns", per_level(self.patterns, self.shapes, CuboidLayer))

    def _check_kinds(self) -> None:
        kinds = {"dropout": Dropout, "global_vectors": GlobalVectors | None, "activation": str}
        for name, kind in {**kinds, "depth": Sequence, "downsample": Sequence}.items():
            if not isinstance(getattr(self, name), kind):
                said = getattr(kind, "__name__", str(kind))
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected {said}")
        if not is_number(self.scale_alpha) or self.scale_alpha < 0.0:
            raise ConfigError(f"scale_alpha must be at least 0; got {self.scale_alpha!r}")
        if not callable(self.patterns) and not isinstance(self.patterns, Sequence):
            raise ConfigError(
                f"patterns is {self.patterns!r}; expected a pattern, such as "
                "xearth.models.cuboid.patterns.parse('axial'), or one for each level"
            )

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
            if not is_number(p) or not 0.0 <= p < 1.0:
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
        return block_settings(self, global_vectors=self.global_vectors, inter_ffn=self.inter_ffn)
