r"""One configuration for all Earthformers: every size and choice, nothing computed twice.

Grid sizes are (T, H, W), tensors (N, T, H, W, C). Level 0 is the working grid behind the
initial encoder; level i + 1 has the patches of level i. Patterns are values: what the
networks attend in stands in the configuration, cuboid by cuboid.

Source: Gao et al. (2022), *Earthformer*, and the configurations published with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigError
from .config_parts import (
    INTEGERS,
    Auxiliary,
    ConvStem,
    Dropout,
    GlobalVectors,
    StackStem,
    block_settings,
    ceil_shape,
    check,
    from_plain,
    integers,
    per_level,
    to_plain,
)
from .cuboid.patterns import (
    CrossLayer,
    CuboidLayer,
    Shape3,
    axial,
    cross,
)
from .cuboid.settings import (
    BlockSettings,
    Checkpoint,
    GlobalMask,
    Padding,
    RelativeIndex,
)
from .setups import SETUPS

if TYPE_CHECKING:
    from .auxiliary import AuxiliaryEarthformer
    from .describe import Description
    from .earthformer import Earthformer

__all__ = [
    "Auxiliary",
    "ConvStem",
    "Dropout",
    "EarthformerConfig",
    "GlobalVectors",
    "Shape4",
    "StackStem",
]

Shape4 = tuple[int, int, int, int]


# Given: a function of the level's grid, one pattern, or one of either per level.
# Kept: tuple[Pattern, ...] (or tuple[CrossPattern, ...]), one per level.
LevelPatterns = Any


_CROSS_ONE = cross(1)


def _setup(name: str) -> Mapping[str, Any]:
    if name not in SETUPS:
        raise ConfigError(f"no published set-up is called {name!r}; there are {', '.join(SETUPS)}")
    return SETUPS[name]


@dataclass(frozen=True, kw_only=True)
class EarthformerConfig:
    """Everything that defines an Earthformer.

    The defaults are the published ENSO network with what its checkpoint had to keep set
    right (see ``docs/beware.rst``); the class methods are the published set-ups to the
    parameter.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon; H and W are the same.
    base_units, scale_alpha : int, float
        Channels of level 0; level i has base * int((largest downsample ** alpha) ** i).
    block_units : tuple of int, optional
        Channels of each level, instead.
    heads : int
        Attention heads.
    encoder_depth, decoder_depth : tuple of int
        Blocks of each level.
    downsample : tuple of int
        Patch (d_T, d_H, d_W) between levels.
    upsample_kernel : int
        Odd size of the convolution after an enlargement between levels.
    stem : ConvStem or StackStem
        From the data grid to level 0 and back.
    encoder_patterns, decoder_patterns, cross_patterns
        A pattern, a function of the level's grid (T, H, W), or one of either per level;
        kept as one pattern per level.
    cross_start : int
        First level with cross-attention.
    cross_last_frames : int, optional
        How many frames of the memory cross-attention reads; all by default.
    first_self_attention : bool
        Whether the decoder starts with self-attention at its coarsest level.
    encoder_inter_ffn, decoder_inter_ffn : bool
        One feed-forward network per attention layer, or one per block.
    positions : str
        ``t+h+w`` or ``t+hw``.
    hierarchical_positions : bool
        Whether the decoder adds positions at each level.
    z_init : str
        What the decoder starts from: ``zeros`` (its positions), or the coarsest memory:
        ``nearest_interp``, ``last``, ``mean``.
    global_vectors : GlobalVectors, optional
        None for no global vectors.
    auxiliary : Auxiliary, optional
        Makes it the network with a second input.
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
    relative_index, global_mask, spare_decoder_positions
        What published checkpoints depend on: ``sliced``, ``unordered``, True.

    Raises
    ------
    ConfigError
        If a value is impossible; the message says which would do.

    Examples
    --------
    >>> config = EarthformerConfig.for_shape("icar_enso", (12, 12, 22, 1), (18, 12, 22, 1))
    >>> config.encoder_shapes
    ((12, 12, 11), (12, 6, 6))
    >>> config.decoder_patterns[0][0].cuboid
    (18, 1, 1)
    """

    input_shape: Shape4 = (12, 24, 48, 1)
    target_shape: Shape4 = (14, 24, 48, 1)
    base_units: int = 64
    scale_alpha: float = 1.0
    block_units: tuple[int, ...] | None = None
    heads: int = 4
    encoder_depth: tuple[int, ...] = (1, 1)
    decoder_depth: tuple[int, ...] = (1, 1)
    downsample: Shape3 = (1, 2, 2)
    upsample_kernel: int = 3
    stem: ConvStem | StackStem = field(default_factory=ConvStem)
    encoder_patterns: LevelPatterns = axial
    decoder_patterns: LevelPatterns = axial
    cross_patterns: LevelPatterns = _CROSS_ONE
    cross_start: int = 0
    cross_last_frames: int | None = None
    first_self_attention: bool = False
    encoder_inter_ffn: bool = True
    decoder_inter_ffn: bool = True
    positions: Literal["t+h+w", "t+hw"] = "t+h+w"
    hierarchical_positions: bool = False
    z_init: Literal["zeros", "nearest_interp", "last", "mean"] = "zeros"
    global_vectors: GlobalVectors | None = None
    auxiliary: Auxiliary | None = None
    dropout: Dropout = field(default_factory=Dropout)
    activation: str = "gelu"
    gated_ffn: bool = False
    norm: Literal["layer_norm", "rms_norm", "none"] = "layer_norm"
    padding: Padding = "ignore"
    relative_positions: bool = True
    final_projection: bool = True
    checkpoint: Checkpoint = "none"
    relative_index: RelativeIndex = "recomputed"
    global_mask: GlobalMask = "reordered"
    spare_decoder_positions: bool = False

    def __post_init__(self) -> None:
        for name in INTEGERS:
            object.__setattr__(self, name, integers(name, getattr(self, name)))
        check(self)
        patterns = {
            "encoder_patterns": per_level(self.encoder_patterns, self.encoder_shapes, CuboidLayer),
            "decoder_patterns": per_level(self.decoder_patterns, self.decoder_shapes, CuboidLayer),
            "cross_patterns": per_level(self.cross_patterns, self.encoder_shapes, CrossLayer),
        }
        for name, value in patterns.items():
            object.__setattr__(self, name, value)

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.encoder_depth)

    @property
    def units(self) -> tuple[int, ...]:
        """Channels of each level."""
        if self.block_units is not None:
            return self.block_units
        growth = max(self.downsample) ** self.scale_alpha
        return tuple(self.base_units * int(growth**i) for i in range(self.levels))

    @property
    def encoder_shapes(self) -> tuple[Shape3, ...]:
        """Grid (T, H, W) of each level of the encoder."""
        T, H, W, _ = self.input_shape
        shapes = [self.stem.reduced((T, H, W))]
        for _ in range(1, self.levels):
            shapes.append(ceil_shape(shapes[-1], self.downsample))
        return tuple(shapes)

    @property
    def decoder_shapes(self) -> tuple[Shape3, ...]:
        """Grid (T, H, W) of each level of the decoder: all frames of the horizon."""
        return tuple((self.target_shape[0], H, W) for _, H, W in self.encoder_shapes)

    @property
    def needs_decoder_positions(self) -> bool:
        """Whether the decoder starts from positions of its own."""
        return self.auxiliary is None and self.z_init == "zeros"

    def blocks(self, part: Literal["encoder", "decoder_self", "decoder_cross"]) -> BlockSettings:
        """Return what the blocks of one part of the network share."""
        g = self.global_vectors
        used = g is not None and (
            part == "encoder"
            or (part == "decoder_self" and g.decoder_self)
            or (part == "decoder_cross" and g.decoder_cross)
        )
        inter_ffn = self.encoder_inter_ffn if part == "encoder" else self.decoder_inter_ffn
        return block_settings(self, global_vectors=g if used else None, inter_ffn=inter_ffn)

    def build(self) -> Earthformer | AuxiliaryEarthformer:
        """Return a new network with the published initialization.

        Examples
        --------
        >>> model = EarthformerConfig.for_shape(
        ...     "icar_enso", (3, 4, 6, 1), (2, 4, 6, 1), base_units=16
        ... ).build()
        >>> sum(p.numel() for p in model.parameters()) > 0
        True
        """
        if self.auxiliary is not None:
            from .auxiliary import AuxiliaryEarthformer

            return AuxiliaryEarthformer(self)
        from .earthformer import Earthformer

        return Earthformer(self)

    def describe(self) -> Description:
        """Return parameters, MACs and FLOPs of each part of the network; print it.

        Examples
        --------
        >>> EarthformerConfig.moving_mnist().describe().total.parameters
        6702109
        """
        from .describe import describe

        return describe(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values; :meth:`from_dict` reads it.

        Examples
        --------
        >>> config = EarthformerConfig.sevir()
        >>> EarthformerConfig.from_dict(config.to_dict()) == config
        True
        """
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EarthformerConfig:
        """Return the configuration that :meth:`to_dict` wrote.

        Raises
        ------
        ConfigError
            If a key is unknown; the message lists the known ones.
        """
        return from_plain(cls, values)

    @classmethod
    def for_shape(
        cls, like: str, input_shape: Shape4, target_shape: Shape4, **changes: Any
    ) -> EarthformerConfig:
        """Size a published set-up for another grid, with what the checkpoints kept set right.

        Parameters
        ----------
        like : str
            Name of a class method: ``icar_enso``, ``sevir``, ...
        input_shape, target_shape : tuple of int
            (T, H, W, C) of history and horizon. Any size works: incomplete patches are padded.
        **changes
            Any field of the configuration.

        Raises
        ------
        ConfigError
            If no set-up is called ``like`` or a changed field does not exist.

        Examples
        --------
        >>> EarthformerConfig.for_shape(
        ...     "icar_enso", (12, 12, 22, 2), (18, 12, 22, 1), base_units=32
        ... ).units
        (32, 64)
        """
        setup = _setup(like)
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ConfigError(
                f"EarthformerConfig has no field {', '.join(unknown)}; it has "
                f"{', '.join(sorted(known))}"
            )
        shapes = {"input_shape": tuple(input_shape), "target_shape": tuple(target_shape)}
        return cls(**{**setup, **shapes, **changes})

    @classmethod
    def for_data(
        cls, data: Any, window: Any, *, like: str = "icar_enso", **changes: Any
    ) -> EarthformerConfig:
        """Size a published set-up for labeled data.

        Parameters
        ----------
        data : DataArray or Dataset
            Its rows, columns and variables become H, W and C; of all that xarray is, only
            ``data.earthformer.frame_shape`` is asked for.
        window : Window
            Its history and horizon become the frames of input and target.
        like : str
            Name of a class method: ``icar_enso``, ``sevir``, ...
        **changes
            Any field of the configuration.

        Raises
        ------
        AxisError
            If ``data`` has no grid.
        ConfigError
            If no set-up is called ``like`` or a changed field does not exist.

        Examples
        --------
        >>> import xearth
        >>> sst = xearth.samples.open("kaplan_sst")
        >>> window = xearth.Window(history=12, horizon=18)
        >>> config = EarthformerConfig.for_data(sst, window, like="icar_enso", base_units=32)
        >>> config.input_shape, config.target_shape
        ((12, 12, 22, 1), (18, 12, 22, 1))
        """
        frame = tuple(data.earthformer.frame_shape)
        return cls.for_shape(like, (window.history, *frame), (window.horizon, *frame), **changes)

    @classmethod
    def _published(cls, name: str) -> EarthformerConfig:
        """Return a set-up as its checkpoint needs it."""
        plain = cls(**_setup(name))
        return dataclasses.replace(
            plain,
            decoder_patterns=tuple(axial(shape) for shape in plain.encoder_shapes),
            padding="zeros",
            relative_index="sliced",
            global_mask="unordered",
            spare_decoder_positions=True,
        )

    @classmethod
    def sevir(cls) -> EarthformerConfig:
        """SEVIR, 13 -> 12 frames of 384 x 384: the published checkpoint (8,659,677 parameters)."""
        return cls._published("sevir")

    @classmethod
    def sevir_lr(cls) -> EarthformerConfig:
        """SEVIR-LR, 7 -> 6 frames of 128 x 128 (1,505,069 parameters)."""
        return cls._published("sevir_lr")

    @classmethod
    def icar_enso(cls) -> EarthformerConfig:
        """ICAR-ENSO, 12 -> 14 months of 24 x 48 cells: the published checkpoint (1,394,325)."""
        return cls._published("icar_enso")

    @classmethod
    def earthnet(cls) -> EarthformerConfig:
        """EarthNet2021, 10 -> 20 frames of 128 x 128 with auxiliary fields (60,618,380)."""
        return cls._published("earthnet")

    @classmethod
    def moving_mnist(cls) -> EarthformerConfig:
        """MovingMNIST and N-body MNIST, 10 -> 10 frames of 64 x 64 (6,702,109 parameters)."""
        return cls._published("moving_mnist")

    @classmethod
    def sevir_table(cls, *, global_vectors: bool = True) -> EarthformerConfig:
        """SEVIR network of the paper's table, with or without global vectors (15.1 M, 13.1 M)."""
        config = cls._published("sevir_table")
        return config if global_vectors else dataclasses.replace(config, global_vectors=None)

    @classmethod
    def icar_enso_table(cls, *, global_vectors: bool = True) -> EarthformerConfig:
        """ENSO network of the paper's table, with or without global vectors (7.6 M, 6.6 M)."""
        config = cls._published("icar_enso_table")
        return config if global_vectors else dataclasses.replace(config, global_vectors=None)
