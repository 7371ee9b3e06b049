r"""Earthformer: a hierarchical encoder-decoder of cuboid attention.

.. math::
    X &= \mathrm{stem}(x) + P_{enc}, \qquad
    (M_0, \dots, M_{L-1}) = \mathrm{Encoder}(X), \\
    Z &= \mathrm{proj}(P_{dec}), \qquad
    y = \mathrm{head}\big(\mathrm{stem}^{-1}(\mathrm{Decoder}(Z; M_0, \dots, M_{L-1}))\big)

Level 0 is the finest. Each level of the encoder is a stack of self-attention blocks, and
patch merging leads to the next; the decoder starts at the coarsest level, reads the memory
of each by cross-attention and enlarges. Global vectors ride along with the encoder.

Source: Gao et al. (2022), *Earthformer: Exploring Space-Time Transformers for Earth System
Forecasting*, NeurIPS.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import GridMismatchError
from .config import EarthformerConfig
from .config_parts import ConvStem
from .cuboid.blocks import CrossBlock, SelfBlock
from .layers import PatchMerging3D, PositionEmbedding, Upsample3D, linear, small_normal
from .pieces import in_pieces
from .stems import ConvFinalDecoder, ConvInitialEncoder, StackFinalDecoder, StackInitialEncoder

if TYPE_CHECKING:
    from .auxiliary import AuxiliaryEarthformer
    from .describe import Description

__all__ = [
    "Decoder",
    "Earthformer",
    "Encoder",
    "check_input",
    "cross_blocks",
    "final_decoder",
    "global_vectors",
    "initial_encoder",
]


def check_input(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise GridMismatchError unless x is (N, *shape)."""
    if tuple(x.shape[1:]) != tuple(shape):
        raise GridMismatchError(
            f"{name} must be a tensor (N, T, H, W, C) = (N, {', '.join(map(str, shape))}), the "
            f"grid this network was built for; got {tuple(x.shape)}. Build one for that grid "
            "with EarthformerConfig.for_shape"
        )


def initial_encoder(
    config: EarthformerConfig, channels: int
) -> ConvInitialEncoder | StackInitialEncoder:
    """Return the stem from a data grid of some channels to level 0."""
    stem = config.stem
    if isinstance(stem, ConvStem):
        return ConvInitialEncoder(
            channels,
            config.base_units,
            scale=stem.scale,
            layers=stem.encoder_layers,
            activation_name=stem.activation,
            padding=config.padding,
        )
    return StackInitialEncoder(
        channels,
        stem.dims,
        scales=stem.scales,
        convs=stem.convs,
        activation_name=stem.activation,
        padding=config.padding,
    )


def final_decoder(config: EarthformerConfig) -> ConvFinalDecoder | StackFinalDecoder:
    """Return the stem from level 0 back to the data grid."""
    stem, (T, H, W, _) = config.stem, config.target_shape
    if isinstance(stem, ConvStem):
        return ConvFinalDecoder(config.base_units, (H, W), stem.decoder_layers, stem.activation)
    sizes = [(h, w) for _, h, w in stem.frames((T, H, W))[:-1]]
    return StackFinalDecoder(
        config.base_units, stem.dims[::-1], sizes[::-1], stem.back, stem.activation
    )


def global_vectors(config: EarthformerConfig) -> nn.Parameter | None:
    """Return the initial global vectors (G, ratio * base_units), if there are any."""
    g = config.global_vectors
    if g is None:
        return None
    return nn.Parameter(small_normal(torch.empty(g.count, g.ratio * config.base_units)))


class Encoder(nn.Module):
    """Self-attention blocks level by level, with patch merging between the levels.

    Parameters
    ----------
    config : EarthformerConfig
        Sizes and choices.
    """

    def __init__(self, config: EarthformerConfig) -> None:
        super().__init__()
        settings, units = config.blocks("encoder"), config.units
        g = config.global_vectors
        # Nobody reads the vectors of the coarsest level unless the decoder does.
        self.last_update = g is not None and (g.decoder_self or g.decoder_cross)
        steps = list(itertools.pairwise(units))
        self.down_layers = nn.ModuleList(
            PatchMerging3D(a, b, config.downsample, config.padding) for a, b in steps
        )
        if g is not None:
            self.down_layer_global_proj = nn.ModuleList(
                nn.Linear(g.ratio * a, g.ratio * b) for a, b in steps
            )
        self.blocks = nn.ModuleList(
            nn.ModuleList(SelfBlock(dim, shape, pattern, settings) for _ in range(depth))
            for dim, shape, pattern, depth in zip(
                units,
                config.encoder_shapes,
                config.encoder_patterns,
                config.encoder_depth,
                strict=True,
            )
        )

    def forward(
        self, x: Tensor, g: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Encode x: (B, T, H, W, C) and g: (B, G, ratio * C).

        Returns
        -------
        list of Tensor, list of Tensor
            Memory (B, T_i, H_i, W_i, C_i) and global vectors of each level, finest first.
        """
        memory: list[Tensor] = []
        vectors: list[Tensor | None] = []
        last = len(self.blocks) - 1
        for i, stack in enumerate(self.blocks):
            *others, final = stack.children()
            for block in others:
                x, g = block(x, g)
            x, g = final(x, g, update=self.last_update or i < last)
            memory.append(x)
            vectors.append(g)
            if i < last:
                x = self.down_layers[i](x)
                g = None if g is None else self.down_layer_global_proj[i](g)
        return memory, vectors


def cross_blocks(config: EarthformerConfig, level: int) -> nn.ModuleList:
    """Return the cross-attention blocks of one level of a decoder."""
    T_mem, H, W = config.encoder_shapes[level]
    T_out = config.target_shape[0]
    return nn.ModuleList(
        CrossBlock(
            config.units[level],
            (T_out, T_mem, H, W),
            config.cross_patterns[level],
            config.blocks("decoder_cross"),
            last_frames=config.cross_last_frames,
            span=config.encoder_shapes[0][0] + T_out,
        )
        for _ in range(config.decoder_depth[level])
    )


class Decoder(nn.Module):
    """Self- and cross-attention level by level, coarsest first, with enlargement between.

    Parameters
    ----------
    config : EarthformerConfig
        Sizes and choices.
    """

    def __init__(self, config: EarthformerConfig) -> None:
        super().__init__()
        units, shapes, depth = config.units, config.decoder_shapes, config.decoder_depth
        g, top = config.global_vectors, config.levels - 1
        self.cross_start = config.cross_start
        self.first_self = config.first_self_attention
        self.self_global = g is not None and g.decoder_self
        self.update_global = g is not None and g.decoder_self and g.decoder_self_update
        self.cross_global = g is not None and g.decoder_cross
        settings = config.blocks("decoder_self")
        self.self_blocks = nn.ModuleList(
            nn.ModuleList(
                SelfBlock(units[i], shapes[i], config.decoder_patterns[i], settings)
                for _ in range(depth[i] - (i == top and not self.first_self))
            )
            for i in range(config.levels)
        )
        self.cross_blocks = nn.ModuleList(
            cross_blocks(config, i) for i in range(config.cross_start, config.levels)
        )
        self.upsample_layers = nn.ModuleList(
            Upsample3D(units[i + 1], units[i], shapes[i][1:], config.upsample_kernel)
            for i in range(top)
        )
        if config.hierarchical_positions:
            self.hierarchical_pos_embed_l = nn.ModuleList(
                PositionEmbedding(units[i], shapes[i], config.positions) for i in range(top)
            )

    def forward(self, x: Tensor, memory: list[Tensor], vectors: list[Tensor | None]) -> Tensor:
        """Decode x: (B, T_out, H_L, W_L, C_L) -> (B, T_out, H_0, W_0, C_0)."""
        for i in reversed(range(len(self.self_blocks))):
            x = self._level(i, x, memory[i], vectors[i])
            if i > 0:
                x = self.upsample_layers[i - 1](x)
                if hasattr(self, "hierarchical_pos_embed_l"):
                    x = self.hierarchical_pos_embed_l[i - 1](x)
        return x

    def _level(self, i: int, x: Tensor, memory: Tensor, g: Tensor | None) -> Tensor:
        selves, crosses = list(self.self_blocks[i].children()), []
        if i >= self.cross_start:
            crosses = list(self.cross_blocks[i - self.cross_start].children())
        if i == len(self.self_blocks) - 1 and not self.first_self:
            if crosses:
                x = crosses[0](x, memory, g if self.cross_global else None)
            crosses = crosses[1:]
        for k, block in enumerate(selves):
            read_later = (self.cross_global and bool(crosses)) or k < len(selves) - 1
            g_in = g if self.self_global else None
            x, g_out = block(x, g_in, update=self.update_global and read_later)
            if self.update_global:
                g = g_out
            if crosses:
                x = crosses[k](x, memory, g if self.cross_global else None)
        return x


class Earthformer(nn.Module):
    """Forecast of T_out frames from T frames of a grid.

    Parameters
    ----------
    config : EarthformerConfig
        Sizes and choices; without auxiliary fields.

    Examples
    --------
    >>> config = EarthformerConfig.for_shape(
    ...     "icar_enso", (4, 6, 8, 2), (3, 6, 8, 1), base_units=16
    ... )
    >>> model = Earthformer(config).eval()
    >>> model(torch.randn(1, 4, 6, 8, 2)).shape
    torch.Size([1, 3, 6, 8, 1])
    """

    def __init__(self, config: EarthformerConfig) -> None:
        super().__init__()
        self.config = config
        units, top = config.units, config.levels - 1
        self.init_global_vectors = global_vectors(config)
        self.initial_encoder = initial_encoder(config, config.input_shape[-1])
        self.final_decoder = final_decoder(config)
        stem = config.stem
        width = config.base_units if isinstance(stem, ConvStem) else stem.dims[0]
        self.dec_final_proj = linear(width, config.target_shape[-1], bias=True)
        self.encoder = Encoder(config)
        self.enc_pos_embed = PositionEmbedding(units[0], config.encoder_shapes[0], config.positions)
        self.z_proj = linear(units[top], units[top], bias=True)
        if config.needs_decoder_positions or config.spare_decoder_positions:
            self.dec_pos_embed = PositionEmbedding(
                units[top], config.decoder_shapes[top], config.positions
            )
        self.decoder = Decoder(config)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast.

        Parameters
        ----------
        x : Tensor
            History (N, T, H, W, C).

        Returns
        -------
        Tensor
            Horizon (N, T_out, H, W, C_out).

        Raises
        ------
        GridMismatchError
            If x is not of the grid the network was built for.
        """
        check_input("x", x, self.config.input_shape)
        T, H, W = self.config.encoder_shapes[0]
        # The hidden layer of the first feed-forward network is the widest tensor of a sample.
        return in_pieces(self._forecast, x, T * H * W * 4 * self.config.base_units)

    def _forecast(self, x: Tensor) -> Tensor:
        h = self.enc_pos_embed(self.initial_encoder(x))
        g = self.init_global_vectors
        memory, vectors = self.encoder(h, None if g is None else g.expand(len(x), -1, -1))
        y = self.decoder(self._start(memory[-1]), memory, vectors)
        return self.dec_final_proj(self.final_decoder(y))

    def _start(self, memory: Tensor) -> Tensor:
        """Return what the decoder starts from: (B, T_out, H_L, W_L, C_L)."""
        B, T_out = memory.shape[0], self.config.target_shape[0]
        _, H, W = self.config.decoder_shapes[-1]
        kind = self.config.z_init
        if kind == "zeros":
            return self.z_proj(self.dec_pos_embed.table(T_out, H, W)).expand(B, -1, -1, -1, -1)
        if kind == "nearest_interp":
            start = functional.interpolate(memory.permute(0, 4, 1, 2, 3), size=(T_out, H, W))
            return self.z_proj(start.permute(0, 2, 3, 4, 1))
        frame = memory[:, -1:] if kind == "last" else memory.mean(dim=1, keepdim=True)
        return self.z_proj(frame).expand(-1, T_out, -1, -1, -1)

    def describe(self) -> Description:
        """Return parameters, MACs and FLOPs of each part; print it."""
        return self.config.describe()

    @classmethod
    def from_official(
        cls,
        weights: str | PathLike[str] | Mapping[str, Tensor],
        *,
        config: str | PathLike[str] | Mapping[str, Any],
    ) -> Earthformer | AuxiliaryEarthformer:
        """Load a checkpoint of the reference implementation: same weights, same numbers.

        Parameters
        ----------
        weights : path or mapping
            An official ``.pt`` or ``.ckpt`` file, or a state_dict.
        config : str, path or mapping
            Name of a class method of :class:`EarthformerConfig` (``sevir``, ``icar_enso``,
            ``earthnet``, ...), an official YAML file, or a mapping with the official
            ``model:`` keys.

        Returns
        -------
        Earthformer or AuxiliaryEarthformer
            In evaluation mode.

        Raises
        ------
        CheckpointError
            If the file is not readable, or keys are missing, unknown or of a wrong shape.
        ConfigError
            If the configuration is unknown or impossible.

        Examples
        --------
        >>> from xearth.models.checkpoints import official_state
        >>> tiny = {"input_shape": [3, 4, 4, 1], "target_shape": [2, 4, 4, 1],
        ...         "base_units": 16, "enc_depth": [1], "dec_depth": [1], "num_global_vectors": 0,
        ...         "enc_attn_patterns": "axial", "dec_self_attn_patterns": "axial",
        ...         "dec_cross_attn_patterns": "cross_1x1"}
        >>> from xearth.models.official import official_config
        >>> state = official_state(official_config(tiny).build())
        >>> Earthformer.from_official(state, config=tiny)(torch.zeros(1, 3, 4, 4, 1)).shape
        torch.Size([1, 2, 4, 4, 1])
        """
        from .checkpoints import load_official

        return load_official(weights, config)
