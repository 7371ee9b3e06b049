r"""Self-attention inside cuboids, with global vectors.

For the cells of one cuboid, per head,

.. math::
    Y = \mathrm{softmax}\big(s\, Q K^\top + P \;\big|\; s\, Q_{lg} K_g^\top\big) \, [V ; V_g],

where P is the relative position bias and the second part, present with global vectors g,
lets every cell read all of them. Global vectors read all cells of all cuboids,

.. math:: g' = \mathrm{softmax}\big(s\, Q_{gl} K_{gl}^\top \;\big|\; s\, Q_{gg} K_{gg}^\top\big)
          \, [V_{gl} ; V_{gg}] .

The residual is added by the caller (:mod:`xearth.models.cuboid.blocks`).

Source: Gao et al. (2022), sections 3.1 and 3.2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ConfigError
from ..dropout import dropout
from ..layers import linear, norm
from .kernel import GlobalKeys, attend, softmax_masked
from .masks import global_mask, order_cells, self_mask
from .partition import Partition, pad_grid, unpad_grid
from .patterns import CuboidLayer, Shape3
from .relative import RelativePosition
from .settings import AttentionSettings, GlobalMode

__all__ = ["CuboidSelfAttention", "register_mask"]


def register_mask(module: nn.Module, name: str, mask: object) -> None:
    """Keep a numpy mask (or None) on a module: it moves with it, and no file holds it."""
    tensor = None if mask is None else torch.tensor(mask)
    module.register_buffer(name, tensor, persistent=False)


class CuboidSelfAttention(nn.Module):
    """Self-attention of one grid in cuboids of one size.

    Parameters
    ----------
    dim : int
        Channels C.
    shape : tuple of int
        Grid (T, H, W).
    layer : CuboidLayer
        Cuboid, strategy and shift.
    settings : AttentionSettings
        Shared by the layers of a network.
    global_mode : GlobalMode, optional
        None without global vectors.

    Raises
    ------
    ConfigError
        If the heads do not divide the channels.

    Examples
    --------
    >>> layer = CuboidSelfAttention(8, (4, 6, 6), CuboidLayer((2, 3, 3)), AttentionSettings())
    >>> layer(torch.randn(1, 4, 6, 6, 8))[0].shape
    torch.Size([1, 4, 6, 6, 8])
    """

    mask: Tensor | None
    global_mask: Tensor | None

    def __init__(
        self,
        dim: int,
        shape: Shape3,
        layer: CuboidLayer,
        settings: AttentionSettings,
        global_mode: GlobalMode | None = None,
    ) -> None:
        super().__init__()
        heads = settings.heads
        if dim % heads:
            raise ConfigError(f"{heads} heads do not divide {dim} channels; change one of them")
        self.settings, self.global_mode, self.heads = settings, global_mode, heads
        self.scale = settings.scale or (dim // heads) ** -0.5
        self.partition = Partition.fit(shape, layer)
        self.pieces = self._pieces()
        cuboid = self.partition.cuboid
        self.relative = (
            RelativePosition(
                layer.cuboid,
                cuboid,
                cuboid,
                heads=heads,
                sliced=settings.relative_index == "sliced",
            )
            if settings.relative
            else None
        )
        self.qkv = linear(dim, 3 * dim, bias=settings.bias)
        if global_mode is not None:
            self._add_global(dim, global_mode)
        if settings.projection:
            self.proj = linear(dim, dim, bias=True)
            if global_mode is not None:
                width = global_mode.ratio * dim
                self.global_proj = nn.Linear(width, width)
        self.norm = norm(settings.norm, dim)
        if global_mode is not None:
            self.global_vec_norm = norm(settings.norm, global_mode.ratio * dim)
        register_mask(self, "mask", self_mask(self.partition, settings.padding))
        register_mask(self, "global_mask", self._token_mask())

    def _add_global(self, dim: int, mode: GlobalMode) -> None:
        """Add the projections of global vectors."""
        wide, bias = mode.ratio * dim, self.settings.bias
        if not mode.separate:
            if mode.ratio != 1:
                raise ConfigError(
                    f"global vectors of ratio {mode.ratio} need separate projections; "
                    "set separate_qkv=True or ratio=1"
                )
            self.global_qkv = linear(dim, 3 * dim, bias=bias)
            return
        self.l2g_q_net = linear(dim, dim, bias=bias)
        self.l2g_global_kv_net = linear(wide, 2 * dim, bias=bias)
        self.g2l_global_q_net = linear(wide, dim, bias=bias)
        self.g2l_k_net = linear(dim, dim, bias=bias)
        self.g2l_v_net = linear(dim, wide, bias=bias)
        if mode.self_attention:
            self.g2g_global_qkv_net = linear(wide, 3 * wide, bias=bias)

    def _token_mask(self) -> NDArray[np.bool_] | None:
        """Return which cells of the padded grid, row by row, global vectors may read."""
        if self.global_mode is None or self.settings.padding != "ignore":
            return None
        part = self.partition
        mask = global_mask(part, reordered=self.global_mode.mask == "reordered")
        if mask is None:
            return None
        cells = order_cells(np.arange(mask.size).reshape(part.padded), part)
        grid = np.empty_like(mask)
        grid[cells.reshape(-1)] = mask
        return np.roll(grid.reshape(part.padded), part.shift, axis=(0, 1, 2)).reshape(-1)

    def _pieces(self) -> tuple[Partition, ...]:
        """Return the full cuboids and the cut-off ones, where padding need not be written out.

        Only the last cuboids along T may be cut off, and padded cells must map to zeros: then
        they are keys without content, of which only the number matters.
        """
        part = self.partition
        (p_T, p_H, p_W), zero = part.pad, not (self.settings.bias or any(part.shift))
        plain = self.global_mode is None and self.settings.padding != "nearest"
        if not (p_T and zero and plain) or p_H or p_W or part.strategy[0] != "l":
            return (part,)
        (T, H, W), (b_T, b_H, b_W) = part.shape, part.cuboid
        rest = T % b_T
        return (
            replace(part, shape=(T - rest, H, W)),
            replace(part, shape=(rest, H, W), cuboid=(rest, b_H, b_W)),
        )

    def _attend_pieces(self, n: Tensor, bias: Tensor | None, drop: float) -> Tensor:
        """Attend in full and in cut-off cuboids of n (B, T, H, W, C), without padding."""
        mapped, out, start = self.qkv(n), [], 0
        for part in self.pieces:
            stop, m = start + part.shape[0], part.volume
            q, k, v = part.tokens(mapped[:, start:stop], 3, self.heads).unbind(0)
            own = empty = None
            if bias is not None:
                own, empty = bias[..., :m, :m], bias[..., :m, m:]
            elif self.settings.padding == "zeros":
                empty = q.new_zeros(self.heads, 1, m, self.partition.volume - m)
            if self.settings.padding == "ignore" or m == self.partition.volume:
                empty = None
            cells = attend(q, k, v, scale=self.scale, bias=own, mask=None, drop=drop, empty=empty)
            out.append(part.grid(cells))
            start = stop
        return torch.cat(out, dim=1)

    def _tokens(self, map_: nn.Linear, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Map x (B, T, H, W, C) and cut it: parts of (B * cuboids, heads, volume, d)."""
        pad, padding = self.partition.pad, self.settings.padding
        if map_.bias is None:
            # A linear map of padding is padding: map the smaller grid.
            mapped = pad_grid(map_(x), pad, padding)
        else:
            mapped = map_(pad_grid(x, pad, padding))
        return self.partition.tokens(mapped, parts, self.heads).unbind(0)

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Cut (B, G, parts * heads * d) into parts of (B * heads, G, d)."""
        split = x.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return split.flatten(1, 2).unbind(0)

    def forward(
        self, x: Tensor, g: Tensor | None = None, *, update: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Parameters
        ----------
        x : Tensor
            (B, T, H, W, C).
        g : Tensor, optional
            Global vectors (B, G, ratio * C).
        update : bool
            Whether anyone reads the global vectors afterwards; if not they are left alone.

        Returns
        -------
        tuple of Tensor
            Updates of x and g, to be added to them.
        """
        n = self.norm(x)
        bias = None if self.relative is None else self.relative()
        drop = self.settings.attention_drop if self.training else 0.0
        if len(self.pieces) > 1:
            return self._project("proj", self._attend_pieces(n, bias, drop)), None
        q, k, v = self._tokens(self.qkv, n, 3)
        reads = writes = None
        if self.global_mode is not None and g is not None:
            reads, writes = self._exchange(n, self.global_vec_norm(g), update=update)
        part = self.partition
        out = attend(q, k, v, scale=self.scale, bias=bias, mask=self.mask, drop=drop, reads=reads)
        y = unpad_grid(part.grid(out), part.pad, self.settings.padding)
        return self._project("proj", y), writes

    def _project(self, name: str, y: Tensor) -> Tensor:
        if not self.settings.projection:
            return y
        return dropout(getattr(self, name)(y), self.settings.projection_drop, self.training)

    def _cell_maps(self) -> list[tuple[Tensor, Tensor | None]]:
        """Return weight and bias of the maps of cells that globals meet: Q_lg, K_gl, V_gl."""
        if self.global_mode is not None and self.global_mode.separate:
            maps = (self.l2g_q_net, self.g2l_k_net, self.g2l_v_net)
            return [(map_.weight, map_.bias) for map_ in maps]
        bias = self.qkv.bias
        biases = [None] * 3 if bias is None else bias.chunk(3)
        return list(zip(self.qkv.weight.chunk(3), biases, strict=True))

    def _vector_maps(self, g: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
        """Map g (B, G, ratio * C): (Q_gl, K_g, V_g), and what globals show each other."""
        mode = self.global_mode
        among = None
        if mode is not None and mode.separate:
            maps = (*self._split(self.g2l_global_q_net(g), 1),)
            maps += self._split(self.l2g_global_kv_net(g), 2)
            if mode.self_attention:
                among = self._split(self.g2g_global_qkv_net(g), 3)
            return maps, among
        maps = self._split(self.global_qkv(g), 3)
        return maps, maps if mode is not None and mode.self_attention else None

    def _exchange(self, n: Tensor, g: Tensor, *, update: bool) -> tuple[GlobalKeys, Tensor | None]:
        """Let cells n (B, T, H, W, C) and global vectors g (B, G, ratio * C) meet.

        The few vectors are mapped to the width of the cells, not the many cells to the width
        of a head: q_g^T (K n) = (K^T q_g)^T n.
        """
        cells = pad_grid(n, self.partition.pad, self.settings.padding)
        (q_g, k_g, v_g), among = self._vector_maps(g)
        l2g_q, g2l_k, g2l_v = self._cell_maps()
        against = self._meet(cells, k_g, *l2g_q)
        reads = GlobalKeys(self.partition.tokens(against, 1, self.heads)[0], v_g)
        if not update:
            return reads, None
        flat = cells.flatten(1, 3)
        raw = self._meet(cells, q_g, *g2l_k).flatten(1, 3).mT.unflatten(1, (self.heads, -1))
        mask, count = self.global_mask, flat.shape[1]
        if among is not None:
            q, k, v = (part.unflatten(0, (-1, self.heads)) for part in among)
            raw = torch.cat([raw, self.scale * (q @ k.mT)], dim=-1)
            if mask is not None:
                mask = functional.pad(mask, (0, q.shape[2]), value=True)
        weights = dropout(softmax_masked(raw, mask), self.settings.attention_drop, self.training)
        of_cells = weights[..., :count]
        weight, bias = g2l_v
        seen = (of_cells.flatten(1, 2) @ flat).unflatten(1, (self.heads, -1))
        out = seen @ weight.unflatten(0, (self.heads, -1)).mT
        if bias is not None:
            out = out + of_cells.sum(-1, keepdim=True) * bias.view(self.heads, 1, -1)
        if among is not None:
            out = out + weights[..., count:] @ v
        return reads, self._project("global_proj", out.transpose(1, 2).flatten(2))

    def _meet(self, cells: Tensor, vectors: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the scaled products of mapped cells with vectors (B * heads, G, d).

        cells are (B, T, H, W, C), their map (heads * d, C); the result is
        (B, T, H, W, heads * G).
        """
        vectors = self.scale * vectors.unflatten(0, (-1, self.heads))
        to_cells = (vectors @ weight.unflatten(0, (self.heads, -1))).flatten(1, 2)
        products = cells.flatten(1, 3) @ to_cells.mT
        if bias is not None:
            offset = vectors @ bias.view(self.heads, -1, 1)
            products = products + offset.flatten(1).unsqueeze(1)
        return products.unflatten(1, cells.shape[1:4])
