r"""Earthformer with auxiliary fields: known forcings of history and horizon as a second input.

.. math::
    X &= \mathrm{stem}(x) + \mathrm{stem}_a(a_{hist}) + P_{enc}, \qquad
    (M_0, \dots, M_{L-1}) = \mathrm{Encoder}(X), \\
    y &= \mathrm{head}\big(\mathrm{stem}^{-1}(\mathrm{UNet}(\mathrm{stem}_a(a_{fut});
         M_0, \dots, M_{L-1}))\big)

The decoder starts from the auxiliary fields of the horizon at the finest level, goes down to
the coarsest and up again; self-attention on both ways, cross-attention to the memory on one
or both. There are no skip connections between the ways.

Source: Gao et al. (2022), *Earthformer*, the EarthNet2021 experiment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, GridMismatchError
from .config import EarthformerConfig
from .config_parts import ConvStem
from .cuboid.blocks import SelfBlock
from .earthformer import (
    Encoder,
    check_input,
    cross_blocks,
    final_decoder,
    global_vectors,
    initial_encoder,
)
from .layers import PatchMerging3D, PositionEmbedding, Upsample3D, linear

if TYPE_CHECKING:
    from .describe import Description

__all__ = ["AuxiliaryEarthformer", "UNetDecoder"]


def _self_blocks(config: EarthformerConfig, level: int) -> nn.ModuleList:
    return nn.ModuleList(
        SelfBlock(
            config.units[level],
            config.decoder_shapes[level],
            config.decoder_patterns[level],
            config.blocks("decoder_self"),
        )
        for _ in range(config.decoder_depth[level])
    )


class UNetDecoder(nn.Module):
    """Down to the coarsest level and up again, reading the memory of each level.

    Parameters
    ----------
    config : EarthformerConfig
        Sizes and choices, with auxiliary fields.
    """

    def __init__(self, config: EarthformerConfig) -> None:
        super().__init__()
        units, shapes, top = config.units, config.decoder_shapes, config.levels - 1
        g = config.global_vectors
        self.cross_start = config.cross_start
        self.self_global = g is not None and g.decoder_self
        self.update_global = self.self_global and g is not None and g.decoder_self_update
        self.cross_global = g is not None and g.decoder_cross
        cross = config.auxiliary.cross if config.auxiliary is not None else "up"
        levels, crossed = range(config.levels), range(config.cross_start, config.levels)
        self.downsample_layers = nn.ModuleList(
            PatchMerging3D(units[i], units[i + 1], config.downsample, config.padding)
            for i in range(top)
        )
        self.upsample_layers = nn.ModuleList(
            Upsample3D(units[i + 1], units[i], shapes[i][1:], config.upsample_kernel)
            for i in range(top)
        )
        self.hierarchical = config.hierarchical_positions
        if self.hierarchical:
            self.down_hierarchical_pos_embed_l = nn.ModuleList(
                PositionEmbedding(units[i + 1], shapes[i + 1], config.positions) for i in range(top)
            )
            self.up_hierarchical_pos_embed_l = nn.ModuleList(
                PositionEmbedding(units[i], shapes[i], config.positions) for i in range(top)
            )
        self.down_self_blocks = nn.ModuleList(_self_blocks(config, i) for i in levels)
        self.up_self_blocks = nn.ModuleList(_self_blocks(config, i) for i in levels)
        down, up = cross in ("down", "both"), cross in ("up", "both")
        self.up_cross_blocks = nn.ModuleList(cross_blocks(config, i) for i in crossed if up)
        self.down_cross_blocks = nn.ModuleList(cross_blocks(config, i) for i in crossed if down)

    def forward(self, x: Tensor, memory: list[Tensor], vectors: list[Tensor | None]) -> Tensor:
        """Decode x: (B, T_out, H_0, W_0, C_0) -> the same shape."""
        top, vectors = len(memory) - 1, list(vectors)
        for i in range(top + 1):
            x, vectors[i] = self._level("down", i, x, memory[i], vectors[i])
            if i < top:
                x = self.downsample_layers[i](x)
                if self.hierarchical:
                    x = self.down_hierarchical_pos_embed_l[i](x)
        for i in reversed(range(top + 1)):
            x, _ = self._level("up", i, x, memory[i], vectors[i])
            if i > 0:
                x = self.upsample_layers[i - 1](x)
                if self.hierarchical:
                    x = self.up_hierarchical_pos_embed_l[i - 1](x)
        return x

    def _level(
        self, way: str, i: int, x: Tensor, memory: Tensor, g: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        selves = list(getattr(self, f"{way}_self_blocks")[i].children())
        crossing = getattr(self, f"{way}_cross_blocks")
        reads = len(crossing) > 0 and i >= self.cross_start
        crosses = list(crossing[i - self.cross_start].children()) if reads else []
        for k, block in enumerate(selves):
            read_later = way == "down" or k < len(selves) - 1 or (reads and self.cross_global)
            g_in = g if self.self_global else None
            x, g_out = block(x, g_in, update=self.update_global and read_later)
            if self.update_global:
                g = g_out
            if reads:
                x = crosses[k](x, memory, g if self.cross_global else None)
        return x, g


class AuxiliaryEarthformer(nn.Module):
    """Forecast of T_out frames from T frames and auxiliary fields of both.

    Parameters
    ----------
    config : EarthformerConfig
        Sizes and choices, with ``auxiliary`` set and no merging of time between levels.

    Raises
    ------
    ConfigError
        If the configuration has no auxiliary fields or merges time.

    Examples
    --------
    >>> import torch
    >>> from xearth.models.config import Auxiliary
    >>> config = EarthformerConfig.for_shape(
    ...     "icar_enso", (4, 6, 8, 2), (3, 6, 8, 1), base_units=16,
    ...     auxiliary=Auxiliary(channels=5),
    ... )
    >>> model = AuxiliaryEarthformer(config).eval()
    >>> past, future = torch.randn(1, 4, 6, 8, 5), torch.randn(1, 3, 6, 8, 5)
    >>> model(torch.randn(1, 4, 6, 8, 2), past, future).shape
    torch.Size([1, 3, 6, 8, 1])
    """

    def __init__(self, config: EarthformerConfig) -> None:
        super().__init__()
        if config.auxiliary is None:
            raise ConfigError(
                "an auxiliary network needs auxiliary=Auxiliary(channels=...); got None"
            )
        merged = config.encoder_shapes[0][0], config.downsample[0]
        if merged != (config.input_shape[0], 1):
            raise ConfigError(
                "an auxiliary network keeps every frame: the stem leaves "
                f"{merged[0]} of {config.input_shape[0]} frames and downsample merges "
                f"{merged[1]} frames; set both time factors to 1"
            )
        self.config = config
        units, top, stem = config.units, config.levels - 1, config.stem
        self.init_global_vectors = global_vectors(config)
        self.initial_encoder = initial_encoder(config, config.input_shape[-1])
        self.initial_aux_encoder = initial_encoder(config, config.auxiliary.channels)
        self.final_decoder = final_decoder(config)
        width = config.base_units if isinstance(stem, ConvStem) else stem.dims[0]
        self.dec_final_proj = linear(width, config.target_shape[-1], bias=True)
        self.encoder = Encoder(config)
        self.enc_pos_embed = PositionEmbedding(units[0], config.encoder_shapes[0], config.positions)
        if config.spare_decoder_positions:
            self.dec_pos_embed = PositionEmbedding(
                units[top], config.decoder_shapes[top], config.positions
            )
        self.decoder = UNetDecoder(config)

    def forward(self, x: Tensor, aux_enc: Tensor, aux_dec: Tensor) -> Tensor:
        """Forecast.

        Parameters
        ----------
        x : Tensor
            History (N, T, H, W, C).
        aux_enc, aux_dec : Tensor
            Auxiliary fields (N, t, h, w, C_aux) of history and horizon; other sizes than
            (T, H, W) and (T_out, H, W) are stretched to them (nearest cell).

        Returns
        -------
        Tensor
            Horizon (N, T_out, H, W, C_out).

        Raises
        ------
        GridMismatchError
            If x is not of the grid the network was built for.
        """
        config = self.config
        check_input("x", x, config.input_shape)
        past = self._auxiliary(aux_enc, config.input_shape[0])
        g = self.init_global_vectors
        memory, vectors = self.encoder(
            self.enc_pos_embed(self.initial_encoder(x) + past),
            None if g is None else g.expand(len(x), -1, -1),
        )
        y = self.decoder(self._auxiliary(aux_dec, config.target_shape[0]), memory, vectors)
        return self.dec_final_proj(self.final_decoder(y))

    def _auxiliary(self, fields: Tensor, T: int) -> Tensor:
        """Bring auxiliary fields to T frames of the data grid and encode them."""
        _, H, W, _ = self.config.input_shape
        auxiliary = self.config.auxiliary
        if fields.dim() != 5 or (auxiliary and fields.shape[-1] != auxiliary.channels):
            raise GridMismatchError(
                "auxiliary fields must be tensors (N, t, h, w, C) of as many channels as "
                f"{auxiliary}; got {tuple(fields.shape)}"
            )
        if fields.shape[1:4] != (T, H, W):
            stretched = functional.interpolate(fields.permute(0, 4, 1, 2, 3), size=(T, H, W))
            fields = stretched.permute(0, 2, 3, 4, 1)
        return self.initial_aux_encoder(fields)

    def describe(self) -> Description:
        """Return parameters, MACs and FLOPs of each part; print it."""
        return self.config.describe()
