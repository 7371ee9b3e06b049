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

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ConfigError
from ..dropout import dropout
from ..layers import linear, norm
from .kernel import GlobalKeys, attend, softmax_masked
from .masks import global_mask, self_mask
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

    def _token_mask(self) -> object:
        """Return which tokens, in the order of the cuboids, global vectors may read."""
        if self.global_mode is None or self.settings.padding != "ignore":
            return None
        return global_mask(self.partition, reordered=self.global_mode.mask == "reordered")

    def _tokens(self, map_: nn.Linear, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Map x (B, T, H, W, C) and cut it: parts of (B * heads, cuboids * volume, d)."""
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
        q, k, v = self._tokens(self.qkv, n, 3)
        reads = writes = None
        if self.global_mode is not None and g is not None:
            g = self.global_vec_norm(g)
            if self.global_mode.separate:
                reads = self._read_separate(n, g)
                writes = self._write_separate(n, g) if update else None
            else:
                q_g, k_g, v_g = self._split(self.global_qkv(g), 3)
                reads = GlobalKeys(q, k_g, v_g)
                among = (q_g, k_g, v_g) if self.global_mode.self_attention else None
                writes = self._write(q_g, (k, v), among) if update else None
        part = self.partition
        cuboids = (part.cuboids, part.volume)
        drop = self.settings.attention_drop if self.training else 0.0
        out = attend(
            *(tokens.unflatten(1, cuboids) for tokens in (q, k, v)),
            scale=self.scale,
            bias=None if self.relative is None else self.relative(),
            mask=self.mask,
            drop=drop,
            reads=reads,
        )
        y = unpad_grid(part.grid(out, self.heads), part.pad, self.settings.padding)
        return self._project("proj", y), writes

    def _project(self, name: str, y: Tensor) -> Tensor:
        if not self.settings.projection:
            return y
        return dropout(getattr(self, name)(y), self.settings.projection_drop, self.training)

    def _read_separate(self, n: Tensor, g: Tensor) -> GlobalKeys:
        (q,) = self._tokens(self.l2g_q_net, n, 1)
        return GlobalKeys(q, *self._split(self.l2g_global_kv_net(g), 2))

    def _write_separate(self, n: Tensor, g: Tensor) -> Tensor:
        (q,) = self._split(self.g2l_global_q_net(g), 1)
        (k,) = self._tokens(self.g2l_k_net, n, 1)
        (v,) = self._tokens(self.g2l_v_net, n, 1)
        among = None
        if self.global_mode is not None and self.global_mode.self_attention:
            among = self._split(self.g2g_global_qkv_net(g), 3)
        return self._write(q, (k, v), among)

    def _write(
        self, q: Tensor, kv: tuple[Tensor, Tensor], among: tuple[Tensor, ...] | None
    ) -> Tensor:
        """Let global vectors read all tokens, and each other if they may.

        q is (B * heads, G, d), kv are (B * heads, tokens, d), among are (B * heads, G, d').
        """
        k, v = kv
        raw, mask = self.scale * (q @ k.mT), self.global_mask
        tokens = k.shape[1]
        if among is not None:
            raw = torch.cat([raw, self.scale * (among[0] @ among[1].mT)], dim=-1)
            if mask is not None:
                mask = functional.pad(mask, (0, among[1].shape[1]), value=True)
        drop = self.settings.attention_drop
        weights = dropout(softmax_masked(raw, mask), drop, self.training)
        out = weights[..., :tokens] @ v
        if among is not None:
            out = out + weights[..., tokens:] @ among[2]
        joined = out.unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)
        return self._project("global_proj", joined)
