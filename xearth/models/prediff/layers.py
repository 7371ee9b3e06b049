r"""Layers that diffusion adds to cuboid attention: embedded time, blocks that read it, a pool.

Diffusion time t is embedded as

.. math::
    e(t) = W_2 \, \mathrm{SiLU}\big(W_1 [\cos(t f_i) \,|\, \sin(t f_i)]\big), \qquad
    f_i = 10^{-4 i / n}, \quad i = 0, \dots, n - 1 .

Sources: Ho et al. (2020), *Denoising Diffusion Probabilistic Models*; Dhariwal and Nichol
(2021), *Diffusion Models Beat GANs on Image Synthesis* (blocks and pool).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..dropout import dropout

__all__ = [
    "AttentionPool",
    "TimeEmbedding",
    "TimeResidual",
    "group_norm",
    "normalized",
    "sinusoids",
]


def sinusoids(t: Tensor, width: int) -> Tensor:
    r"""Return cosines, then sines, of times at frequencies from 1 to nearly 1/10000.

    Parameters
    ----------
    t : Tensor
        Times (N,), whole or not.
    width : int
        Numbers per time; an odd one ends with a zero.

    Returns
    -------
    Tensor
        (N, width), float32 or, for times in float64, float64.

    Examples
    --------
    >>> sinusoids(torch.tensor([0]), 5).tolist()
    [[1.0, 1.0, 0.0, 0.0, 0.0]]
    """
    t = t if t.dtype == torch.float64 else t.float()
    half = width // 2
    i = torch.arange(half, dtype=t.dtype, device=t.device)
    angles = t[:, None] * torch.exp(-math.log(1e4) * i / half)
    return functional.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width % 2))


class TimeEmbedding(nn.Module):
    """Two linear maps with a SiLU between, of the sinusoids of a time.

    Parameters
    ----------
    width, out : int
        Numbers of the sinusoids and of the result.

    Examples
    --------
    >>> TimeEmbedding(8, 32)(torch.tensor([3, 500])).shape
    torch.Size([2, 32])
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, t: Tensor) -> Tensor:
        """Embed t: (N,) -> (N, out)."""
        waves = sinusoids(t, self.first.in_features).to(self.first.weight.dtype)
        return self.second(functional.silu(self.first(waves)))


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a normalization in 32 groups or, where 32 does not divide, of single channels.

    Examples
    --------
    >>> group_norm(65).num_groups
    65
    """
    return nn.GroupNorm(channels if channels % 32 else 32, channels)


def normalized(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Return norm(x), x (B, C, ...) with its channels last in memory or not.

    Examples
    --------
    >>> normalized(group_norm(2), torch.ones(1, 2, 3, 3)).any().item()
    False
    """
    if torch.is_grad_enabled() and not x.requires_grad:
        # With channels last, torch 2.13 crashes on gradients of the norm's weights alone. A single
        # channel is last and first, so contiguous() would leave its strides.
        x = x.clone(memory_format=torch.contiguous_format)
    return norm(x)


class TimeResidual(nn.Module):
    r"""Residual block of two 3 x 3 x 3 convolutions that reads diffusion time.

    .. math::
        h &= K_1 * \mathrm{SiLU}(\mathrm{GN}(x)), \\
        y &= S x + K_2 * \mathrm{SiLU}\big(\mathrm{GN}(h + W \, \mathrm{SiLU}(e))\big),

    or, where time scales and shifts,
    :math:`\mathrm{GN}(h) (1 + a) + b` with :math:`[a | b] = W \, \mathrm{SiLU}(e)`. S is the
    identity, or a map of channels where their number changes. It starts as S: :math:`K_2 = 0`.

    Parameters
    ----------
    channels, out_channels : int
        C in and out.
    time_units : int, optional
        Width of the embedded time; None for a block that reads none.
    drop : float
        Dropout before the second convolution.
    scale_shift : bool
        As above.

    Examples
    --------
    >>> block = TimeResidual(8, 16, time_units=4)
    >>> x = torch.randn(2, 3, 4, 5, 8)
    >>> block(x, block.read(torch.randn(2, 4))).shape
    torch.Size([2, 3, 4, 5, 16])
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        time_units: int | None = None,
        drop: float = 0.0,
        scale_shift: bool = False,
    ) -> None:
        super().__init__()
        self.drop, self.scale_shift = drop, scale_shift
        self.norm_1 = group_norm(channels)
        self.conv_1 = nn.Conv3d(channels, out_channels, 3, padding=1)
        self.time = None
        if time_units is not None:
            self.time = nn.Linear(time_units, (2 if scale_shift else 1) * out_channels)
        self.norm_2 = group_norm(out_channels)
        self.conv_2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        for parameter in self.conv_2.parameters():
            nn.init.zeros_(parameter)
        same = channels == out_channels
        self.skip = None if same else nn.Conv3d(channels, out_channels, 1)

    def read(self, e: Tensor) -> Tensor:
        """Return what the block needs of the embedded time: (N, time_units) -> (N, C or 2 C)."""
        if self.time is None:
            raise TypeError("this block reads no diffusion time: call it with x alone")
        return self.time(functional.silu(e))

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Transform x: (B, T, H, W, C), given what :meth:`read` returned."""
        x = x.permute(0, 4, 1, 2, 3)  # the same bytes: channels are last in memory
        h = self.conv_1(functional.silu(normalized(self.norm_1, x)))
        if time is not None:
            time = time[..., None, None, None]
        if time is None:
            h = normalized(self.norm_2, h)
        elif self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            h = normalized(self.norm_2, h) * (1 + scale) + shift
        else:
            h = normalized(self.norm_2, h + time)
        h = self.conv_2(dropout(functional.silu(h), self.drop, self.training))
        h = h + (x if self.skip is None else self.skip(x))
        return h.permute(0, 2, 3, 4, 1)


class AttentionPool(nn.Module):
    r"""Pool cells into a few numbers by attention of their mean to them.

    With tokens :math:`x_0 = \bar x, x_1, \dots, x_n` and learned positions p,

    .. math:: y = W_c \sum_j \mathrm{softmax}_j\big(d^{-1/2} q_0 \cdot k_j\big) \, v_j, \qquad
              [q | k | v] = W (x + p) .

    Parameters
    ----------
    cells, channels : int
        n and width of the tokens.
    heads : int
        Attention heads; d is the width of one.
    outputs : int
        Numbers per sample.

    Examples
    --------
    >>> AttentionPool(12, 16, heads=4, outputs=3)(torch.randn(5, 12, 16)).shape
    torch.Size([5, 3])
    """

    def __init__(self, cells: int, channels: int, *, heads: int, outputs: int) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(torch.randn(channels, cells + 1) / channels**0.5)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Pool x: (N, n, channels) -> (N, outputs)."""
        tokens = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positions.T
        q, k, v = self.qkv.weight[..., 0].chunk(3)
        a, b, c = (None,) * 3 if self.qkv.bias is None else self.qkv.bias.chunk(3)
        # Only the mean asks: one query instead of one per cell.
        query = functional.linear(tokens[:, :1], q, a)
        parts = (query, functional.linear(tokens, k, b), functional.linear(tokens, v, c))
        heads = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        pooled = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return functional.linear(pooled[:, 0], self.out.weight[..., 0], self.out.bias)
