r"""Cross-attention of a target grid to a memory of the same frame size, in windows.

.. math::
    Y = \mathrm{softmax}\big(s\, Q K^\top + P \;\big|\; s\, Q_{lg} K_g^\top\big) \, [V ; V_g]

with Q from the normalized target x and K, V from the memory as it is. Both are cut into
windows of the same (b_H, b_W) and into the same number of temporal cuboids. Time in the
bias P counts from the first frame of each cuboid: the first target frame and the first
memory frame are simultaneous.

Source: Gao et al. (2022), section 3.3.
"""

from __future__ import annotations

from torch import Tensor, nn

from ...errors import ConfigError
from ..dropout import dropout
from ..layers import linear, norm
from .attention import register_mask
from .kernel import GlobalKeys, attend
from .masks import cross_mask
from .partition import Partition, pad_grid
from .patterns import CrossLayer
from .relative import RelativePosition
from .settings import AttentionSettings, GlobalMode

__all__ = ["CrossShape", "CuboidCrossAttention", "fit_cross"]

CrossShape = tuple[int, int, int, int]


def fit_cross(
    shape: CrossShape, layer: CrossLayer, last_frames: int | None = None
) -> tuple[Partition, Partition]:
    """Fit a layer to grids (T of x, T of memory, H, W): the partitions of both.

    x is padded at the end, the memory at its start.

    Examples
    --------
    >>> x, mem = fit_cross((14, 12, 24, 24), CrossLayer((1, 1), n_temporal=2))
    >>> x.cuboid, mem.cuboid
    ((7, 1, 1), (6, 1, 1))
    """
    T_x, T_mem, H, W = shape
    T_mem = T_mem if last_frames is None else min(last_frames, T_mem)
    count, shift = layer.n_temporal, (0, *layer.shift)
    x, mem = (
        Partition(
            (T, H, W),
            (-(-T // count), *layer.window),
            layer.strategy,
            shift,
            left=left,
            n_temporal=count,
        )
        for T, left in ((T_x, False), (T_mem, True))
    )
    return x, mem


class CuboidCrossAttention(nn.Module):
    """Cross-attention of one pair of grids in windows of one size.

    Parameters
    ----------
    dim : int
        Channels C of x and of the memory.
    shape : tuple of int
        (T of x, T of memory, H, W).
    layer : CrossLayer
        Window, strategy, shift, temporal cuboids.
    settings : AttentionSettings
        Shared by the layers of a network; padded cells are always masked here.
    global_mode : GlobalMode, optional
        None when the memory has no global vectors.
    last_frames : int, optional
        Use only the last frames of the memory.
    span : int, optional
        Number of frames the bias table is made for; the sum of both T by default.

    Raises
    ------
    ConfigError
        If the heads do not divide the channels or the span is too short.

    Examples
    --------
    >>> import torch
    >>> layer = CuboidCrossAttention(8, (3, 4, 6, 6), CrossLayer((2, 2)), AttentionSettings())
    >>> layer(torch.randn(1, 3, 6, 6, 8), torch.randn(1, 4, 6, 6, 8)).shape
    torch.Size([1, 3, 6, 6, 8])
    """

    mask: Tensor | None

    def __init__(
        self,
        dim: int,
        shape: CrossShape,
        layer: CrossLayer,
        settings: AttentionSettings,
        *,
        global_mode: GlobalMode | None = None,
        last_frames: int | None = None,
        span: int | None = None,
    ) -> None:
        super().__init__()
        heads, bias = settings.heads, settings.bias
        if dim % heads:
            raise ConfigError(f"{heads} heads do not divide {dim} channels; change one of them")
        self.settings, self.global_mode, self.heads = settings, global_mode, heads
        self.scale = settings.scale or (dim // heads) ** -0.5
        self.x_partition, self.mem_partition = fit_cross(shape, layer, last_frames)
        rows, columns = self.x_partition.cuboid, self.mem_partition.cuboid
        span = shape[0] + shape[1] if span is None else span
        if span < max(rows[0], columns[0]):
            raise ConfigError(
                f"a bias table for {span} frames is too short for cuboids of {rows[0]} target "
                f"and {columns[0]} memory frames; leave span out or raise it"
            )
        table = (span, *layer.window)
        self.relative = (
            RelativePosition(table, rows, columns, heads=heads, sliced=False)
            if settings.relative
            else None
        )
        self.q_proj = linear(dim, dim, bias=bias)
        self.kv_proj = linear(dim, 2 * dim, bias=bias)
        self.proj = linear(dim, dim, bias=True)
        if global_mode is not None and global_mode.separate:
            self.l2g_q_net = linear(dim, dim, bias=bias)
            self.l2g_global_kv_net = linear(global_mode.ratio * dim, 2 * dim, bias=bias)
        self.norm = norm(settings.norm, dim)
        register_mask(self, "mask", cross_mask(self.x_partition, self.mem_partition))

    def _tokens(self, x: Tensor, partition: Partition, parts: int) -> tuple[Tensor, ...]:
        """Pad and cut a mapped grid; padded cells are masked, so zeros will do."""
        padded = pad_grid(x, partition.pad, "ignore", left=partition.left)
        return partition.tokens(padded, parts, self.heads).unbind(0)

    def forward(self, x: Tensor, mem: Tensor, g: Tensor | None = None) -> Tensor:
        """Attend.

        Parameters
        ----------
        x : Tensor
            (B, T, H, W, C).
        mem : Tensor
            Memory (B, T_mem, H, W, C).
        g : Tensor, optional
            Global vectors of the memory (B, G, ratio * C), read as they are.

        Returns
        -------
        Tensor
            Update of x, to be added to it.
        """
        x_part, mem_part = self.x_partition, self.mem_partition
        n = self.norm(x)
        mem = mem[:, mem.shape[1] - mem_part.shape[0] :]
        (q,) = self._tokens(self.q_proj(n), x_part, 1)
        k, v = self._tokens(self.kv_proj(mem), mem_part, 2)
        reads = None
        if self.global_mode is not None and g is not None:
            reads = self._read(n, q, g)
        out = attend(
            q,
            k,
            v,
            scale=self.scale,
            bias=None if self.relative is None else self.relative(),
            mask=self.mask,
            drop=self.settings.attention_drop if self.training else 0.0,
            reads=reads,
        )
        T, H, W = x_part.shape
        y = x_part.grid(out)[:, :T, :H, :W]
        return dropout(self.proj(y), self.settings.projection_drop, self.training)

    def _read(self, n: Tensor, q: Tensor, g: Tensor) -> GlobalKeys:
        """Return what the cells need to read the global vectors."""
        separate = self.global_mode is not None and self.global_mode.separate
        mapped = self.l2g_global_kv_net(g) if separate else self.kv_proj(g)
        split = mapped.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        k_g, v_g = split.unbind(0)
        if separate:
            (q,) = self._tokens(self.l2g_q_net(n), self.x_partition, 1)
        apart = q.unflatten(0, (len(g), -1))
        scores = (self.scale * apart @ k_g[:, None].mT).flatten(0, 1)
        return GlobalKeys(scores, v_g.flatten(0, 1))
