r"""Stacks of cuboid attention layers with feed-forward networks between them.

For the layers k of a pattern

.. math::
    x \leftarrow x + \mathrm{Attn}_k(x, g), \quad g \leftarrow g + \Delta g_k, \quad
    x \leftarrow \mathrm{FFN}_k(x), \quad g \leftarrow \mathrm{FFN}^g_k(g),

where each FFN holds its own residual. Without ``inter_ffn`` one FFN follows all layers.

Source: Gao et al. (2022), section 3.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers import FeedForward
from .attention import CuboidSelfAttention
from .cross_attention import CrossShape, CuboidCrossAttention
from .patterns import CrossPattern, Pattern, Shape3
from .settings import BlockSettings

__all__ = ["CrossBlock", "SelfBlock"]


def _feed_forward(dim: int, settings: BlockSettings) -> FeedForward:
    return FeedForward(
        dim,
        4 * dim,
        activation_name=settings.activation,
        norm_name=settings.attention.norm,
        gated=settings.gated,
        drop=settings.ffn_drop,
    )


class _Recomputing(nn.Module):
    """Runs parts of a block so that the backward pass may recompute them."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.settings = settings

    def _run(self, part: nn.Module, *inputs: Any, kind: str, **options: Any) -> Any:
        level = self.settings.checkpoint
        if self.training and torch.is_grad_enabled() and level in ("all", kind):
            return checkpoint(part, *inputs, use_reentrant=False, **options)
        return part(*inputs, **options)


class SelfBlock(_Recomputing):
    """Self-attention in the cuboids of one pattern.

    Parameters
    ----------
    dim : int
        Channels C.
    shape : tuple of int
        Grid (T, H, W).
    pattern : tuple of CuboidLayer
        One attention layer each.
    settings : BlockSettings
        Shared by the blocks of a network part.
    frames : int, optional
        How many frames, the last ones, are read afterwards: the others are left out once no
        layer mixes frames any more. All by default, and always with global vectors, which
        read every frame.

    Examples
    --------
    >>> from .patterns import axial
    >>> from .settings import AttentionSettings
    >>> settings = BlockSettings(attention=AttentionSettings(heads=2))
    >>> block = SelfBlock(8, (3, 4, 5), axial((3, 4, 5)), settings)
    >>> block(torch.randn(1, 3, 4, 5, 8))[0].shape
    torch.Size([1, 3, 4, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        shape: Shape3,
        pattern: Pattern,
        settings: BlockSettings,
        *,
        frames: int | None = None,
    ) -> None:
        super().__init__(settings)
        mode = settings.global_mode
        self.frames = None if mode is not None else frames
        # The last layer whose cuboids span frames, -1 if none does.
        self.mixes = max((k for k, layer in enumerate(pattern) if layer.cuboid[0] > 1), default=-1)
        rest = shape if self.frames is None else (self.frames, *shape[1:])
        ffns = len(pattern) if settings.inter_ffn else 1
        self.ffn_l = nn.ModuleList(_feed_forward(dim, settings) for _ in range(ffns))
        if mode is not None and settings.global_ffn:
            wide = mode.ratio * dim
            self.global_ffn_l = nn.ModuleList(_feed_forward(wide, settings) for _ in range(ffns))
        self.attn_l = nn.ModuleList(
            CuboidSelfAttention(
                dim, rest if k > self.mixes else shape, layer, settings.attention, mode
            )
            for k, layer in enumerate(pattern)
        )

    def forward(
        self, x: Tensor, g: Tensor | None = None, *, update: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Transform x: (B, T, H, W, C) and g: (B, G, ratio * C).

        ``update=False`` says that nobody reads g afterwards: its last update is skipped.
        """
        last = len(self.attn_l) - 1
        if self.mixes < 0:
            x = self._read(x)
        for k, attention in enumerate(self.attn_l):
            wanted = update or k < last
            change, change_g = self._run(attention, x, g, kind="attention", update=wanted)
            x = change.add_(x)  # a tensor of its own: no fresh memory for the sum
            if k == self.mixes:
                x = self._read(x)
            if g is not None and change_g is not None:
                g = g + change_g
            if self.settings.inter_ffn or k == last:
                x, g = self._feed(k if self.settings.inter_ffn else 0, x, g, wanted)
        return x, g

    def _read(self, x: Tensor) -> Tensor:
        """Return the frames that are read afterwards."""
        return x if self.frames is None else x[:, -self.frames :]

    def _feed(
        self, k: int, x: Tensor, g: Tensor | None, wanted: bool
    ) -> tuple[Tensor, Tensor | None]:
        x = self._run(self.ffn_l[k], x, kind="ffn")
        if g is not None and wanted and hasattr(self, "global_ffn_l"):
            g = self._run(self.global_ffn_l[k], g, kind="ffn")
        return x, g


class CrossBlock(_Recomputing):
    """Cross-attention to a memory in the windows of one pattern.

    Parameters
    ----------
    dim : int
        Channels C.
    shape : tuple of int
        (T of x, T of memory, H, W).
    pattern : tuple of CrossLayer
        One attention layer each.
    settings : BlockSettings
        Shared by the blocks of a network part.
    last_frames, span : int, optional
        As in :class:`~xearth.models.cuboid.cross_attention.CuboidCrossAttention`.

    Examples
    --------
    >>> from .patterns import cross
    >>> from .settings import AttentionSettings
    >>> settings = BlockSettings(attention=AttentionSettings(heads=2))
    >>> block = CrossBlock(8, (3, 2, 4, 5), cross(2)((2, 4, 5)), settings)
    >>> block(torch.randn(1, 3, 4, 5, 8), torch.randn(1, 2, 4, 5, 8)).shape
    torch.Size([1, 3, 4, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        shape: CrossShape,
        pattern: CrossPattern,
        settings: BlockSettings,
        *,
        last_frames: int | None = None,
        span: int | None = None,
    ) -> None:
        super().__init__(settings)
        ffns = len(pattern) if settings.inter_ffn else 1
        self.ffn_l = nn.ModuleList(_feed_forward(dim, settings) for _ in range(ffns))
        self.attn_l = nn.ModuleList(
            CuboidCrossAttention(
                dim,
                shape,
                layer,
                settings.attention,
                global_mode=settings.global_mode,
                last_frames=last_frames,
                span=span,
            )
            for layer in pattern
        )

    def forward(self, x: Tensor, mem: Tensor, g: Tensor | None = None) -> Tensor:
        """Transform x: (B, T, H, W, C) given mem: (B, T_mem, H, W, C), g: (B, G, ratio * C)."""
        last = len(self.attn_l) - 1
        for k, attention in enumerate(self.attn_l):
            x = self._run(attention, x, mem, g, kind="attention").add_(x)
            if self.settings.inter_ffn or k == last:
                x = self._run(self.ffn_l[k if self.settings.inter_ffn else 0], x, kind="ffn")
        return x
