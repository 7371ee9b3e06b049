r"""Parts that every network here is made of: norms, feed-forward, positions, resampling.

Symbols: B batch, T, H, W grid, C channels; tensors are (B, T, H, W, C) unless said
otherwise. Linear maps start from :math:`N(0, 1/C_{in})` with zero bias, embeddings and
bias tables from a normal truncated at two units with standard deviation 0.02, norms from
1 and 0: the published initialization.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError
from .cuboid.partition import pad_grid
from .cuboid.patterns import Shape3
from .cuboid.settings import Padding
from .dropout import dropout
from .pieces import in_pieces

__all__ = [
    "ACTIVATIONS",
    "Downsample3D",
    "FeedForward",
    "PatchMerging3D",
    "PositionEmbedding",
    "RMSNorm",
    "Upsample3D",
    "activation",
    "from_frames",
    "linear",
    "norm",
    "small_normal",
    "to_frames",
]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(0.1),
    "identity": nn.Identity,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "softrelu": nn.Softplus,
    "softsign": nn.Softsign,
}
NORMS = ("layer_norm", "rms_norm", "none")


def activation(name: str) -> nn.Module:
    """Return a new activation module.

    Raises
    ------
    ConfigError
        If no activation has this name.

    Examples
    --------
    >>> activation("leaky")
    LeakyReLU(negative_slope=0.1)
    """
    if name not in ACTIVATIONS:
        raise ConfigError(f"no activation is called {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def norm(name: str, dim: int) -> nn.Module:
    """Return a new normalization over the last axis of width ``dim``.

    Raises
    ------
    ConfigError
        If no normalization has this name.

    Examples
    --------
    >>> norm("layer_norm", 8).eps
    1e-05
    """
    if name == "layer_norm":
        return nn.LayerNorm(dim)
    if name == "rms_norm":
        return RMSNorm(dim)
    if name == "none":
        return nn.Identity()
    raise ConfigError(f"no normalization is called {name!r}; there are {', '.join(NORMS)}")


def linear(inputs: int, outputs: int, *, bias: bool) -> nn.Linear:
    """Return a linear map started from N(0, 1 / inputs), its bias from 0."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def small_normal(tensor: Tensor) -> Tensor:
    """Fill a table of positions, biases or global vectors as the published runs did."""
    return nn.init.trunc_normal_(tensor, std=0.02)


class RMSNorm(nn.Module):
    r"""Root-mean-square normalization, its epsilon outside the root.

    .. math:: y = g \, \frac{x}{\lVert x \rVert_2 \, n^{-1/2} + \epsilon} \; (+ \, o)

    Parameters
    ----------
    dim : int
        Width of the last axis.
    eps : float
        Added to the root mean square.
    fraction : float, optional
        Leading part of the axis whose root mean square is taken (n is its length).
    bias : bool
        Whether an offset o is learned.

    Notes
    -----
    Zhang and Sennrich (2019), *Root Mean Square Layer Normalization*.

    Examples
    --------
    >>> RMSNorm(4, eps=0.0)(torch.full((1, 4), 3.0)).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(
        self, dim: int, *, eps: float = 1e-5, fraction: float | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        self.eps = eps
        self.width = dim if fraction is None else int(dim * fraction)
        self.scale = nn.Parameter(torch.ones(dim))
        self.offset = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axis of x: (..., dim)."""
        length = torch.linalg.vector_norm(x[..., : self.width], dim=-1, keepdim=True)
        y = self.scale * (x / (length * self.width**-0.5 + self.eps))
        return y if self.offset is None else y + self.offset


class FeedForward(nn.Module):
    r"""Position-wise feed-forward network with its residual.

    .. math:: y = x + W_2 \, \sigma(W_1 \, \mathrm{LN}(x))

    (gated: :math:`\sigma(W_g n) \odot W_1 n`). With ``pre_norm=False`` the norm comes
    after the residual.

    Parameters
    ----------
    dim, hidden : int
        Width outside and inside.
    activation_name, norm_name : str
        Sigma and LN.
    gated, pre_norm : bool
        As above.
    drop : float
        Dropout after the activation and after the second map.

    Examples
    --------
    >>> FeedForward(8, 32)(torch.randn(2, 3, 8)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        activation_name: str = "gelu",
        norm_name: str = "layer_norm",
        gated: bool = False,
        pre_norm: bool = True,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.pre_norm, self.drop = pre_norm, drop
        self.ffn_1 = linear(dim, hidden, bias=True)
        self.ffn_1_gate = linear(dim, hidden, bias=True) if gated else None
        self.activation = activation(activation_name)
        self.ffn_2 = linear(hidden, dim, bias=True)
        self.layer_norm = norm(norm_name, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x: (..., dim) -> (..., dim)."""
        return in_pieces(self._transform, x.flatten(0, -2), self.ffn_1.out_features).view(x.shape)

    def _transform(self, x: Tensor) -> Tensor:
        n = self.layer_norm(x) if self.pre_norm else x
        if self.ffn_1_gate is None:
            h = self.activation(self.ffn_1(n))
        else:
            h = self.activation(self.ffn_1_gate(n)) * self.ffn_1(n)
        h = self.ffn_2(dropout(h, self.drop, self.training))
        h = dropout(h, self.drop, self.training)
        h = h.add_(x)
        return h if self.pre_norm else self.layer_norm(h)


class PositionEmbedding(nn.Module):
    """Learned positions added to a grid.

    Parameters
    ----------
    dim : int
        Channels.
    shape : tuple of int
        Largest grid (T, H, W).
    kind : str
        ``t+h+w``: one table per axis; ``t+hw``: one for time and one for the frame.

    Examples
    --------
    >>> PositionEmbedding(4, (2, 3, 5), "t+hw").HW_embed.weight.shape
    torch.Size([15, 4])
    """

    def __init__(self, dim: int, shape: Shape3, kind: str) -> None:
        super().__init__()
        T, H, W = shape
        self.kind, self.width = kind, W
        if kind not in ("t+h+w", "t+hw"):
            raise ConfigError(f"positions must be 't+h+w' or 't+hw'; got {kind!r}")
        self.T_embed = nn.Embedding(T, dim)
        if kind == "t+h+w":
            self.H_embed, self.W_embed = nn.Embedding(H, dim), nn.Embedding(W, dim)
        else:
            self.HW_embed = nn.Embedding(H * W, dim)
        for table in self.parameters():
            small_normal(table)

    def table(self, T: int, H: int, W: int) -> Tensor:
        """Return the positions of a grid: (T, H, W, dim)."""
        if self.kind == "t+h+w":
            frame = self.H_embed.weight[:H, None] + self.W_embed.weight[:W]
        else:
            frame = self.HW_embed.weight.unflatten(0, (-1, self.width))[:H, :W]
        return self.T_embed.weight[:T, None, None] + frame

    def forward(self, x: Tensor) -> Tensor:
        """Add the positions to x: (B, T, H, W, dim)."""
        return x + self.table(*x.shape[1:4])


class PatchMerging3D(nn.Module):
    r"""Merge patches of cells into one cell: concatenate, normalize, map linearly.

    .. math:: y = W \, \mathrm{LN}(\mathrm{concat}_{d_T \times d_H \times d_W} x)

    Grids that are no multiple of the patch are padded at their end.

    Parameters
    ----------
    dim, out_dim : int
        Channels in and out.
    factors : tuple of int
        Patch (d_T, d_H, d_W).
    padding : str
        As in :func:`~xearth.models.cuboid.partition.pad_grid`.

    Examples
    --------
    >>> PatchMerging3D(3, 8, (1, 2, 2), "ignore")(torch.randn(1, 2, 5, 6, 3)).shape
    torch.Size([1, 2, 3, 3, 8])
    """

    def __init__(self, dim: int, out_dim: int, factors: Shape3, padding: Padding) -> None:
        super().__init__()
        self.factors, self.padding = factors, padding
        merged = dim * math.prod(factors)
        self.reduction = linear(merged, out_dim, bias=False)
        self.norm = nn.LayerNorm(merged)

    def forward(self, x: Tensor) -> Tensor:
        """Merge x: (B, T, H, W, dim) -> (B, ceil(T/d_T), ceil(H/d_H), ceil(W/d_W), out_dim)."""
        d_T, d_H, d_W = self.factors
        missing = (-x.shape[1] % d_T, -x.shape[2] % d_H, -x.shape[3] % d_W)
        x = pad_grid(x, missing, self.padding)
        B, T, H, W, C = x.shape
        patches = x.reshape(B, T // d_T, d_T, H // d_H, d_H, W // d_W, d_W, C)
        merged = patches.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4)
        return self.reduction(self.norm(merged))


def to_frames(x: Tensor) -> Tensor:
    """View (B, T, H, W, C) as frames (B*T, C, H, W), channels last in memory."""
    return x.flatten(0, 1).permute(0, 3, 1, 2)


def from_frames(frames: Tensor, T: int) -> Tensor:
    """View frames (B*T, C, H, W) as (B, T, H, W, C): the inverse of :func:`to_frames`."""
    return frames.permute(0, 2, 3, 1).unflatten(0, (-1, T))


class Upsample3D(nn.Module):
    """Nearest-neighbor enlargement of each frame, then a convolution.

    Parameters
    ----------
    dim, out_dim : int
        Channels in and out.
    size : tuple of int
        Frame (H, W) of the result.
    kernel : int
        Odd size of the convolution.

    Examples
    --------
    >>> Upsample3D(4, 3, (6, 9))(torch.randn(2, 5, 3, 4, 4)).shape
    torch.Size([2, 5, 6, 9, 3])
    """

    def __init__(self, dim: int, out_dim: int, size: tuple[int, int], kernel: int = 3) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.Conv2d(dim, out_dim, kernel, padding=kernel // 2)
        nn.init.kaiming_normal_(self.conv.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge x: (B, T, h, w, dim) -> (B, T, H, W, out_dim)."""
        return from_frames(self.frames(to_frames(x)), x.shape[1])

    def frames(self, x: Tensor) -> Tensor:
        """Enlarge frames x: (N, dim, h, w) -> (N, out_dim, H, W)."""
        if x.shape[2:] != self.size:
            x = functional.interpolate(x, size=self.size, mode="nearest")
        return self.conv(x)


class Downsample3D(nn.Module):
    """Convolution, leaky rectifier, nearest-neighbor reduction, convolution.

    Part of the reference's library though none of its networks uses it.

    Parameters
    ----------
    channels : tuple of int
        (in, between, out).
    size : tuple of int
        Grid (T, H, W) of the result.
    temporal : bool
        Whether the first convolution spans time (3 x 3 x 3) or sees single frames (3 x 3).

    Examples
    --------
    >>> Downsample3D((2, 4, 5), (2, 3, 4), temporal=True)(torch.randn(1, 4, 6, 8, 2)).shape
    torch.Size([1, 2, 3, 4, 5])
    """

    def __init__(self, channels: tuple[int, int, int], size: Shape3, *, temporal: bool) -> None:
        super().__init__()
        inner, between, out = channels
        self.size, self.temporal = size, temporal
        convolution = nn.Conv3d if temporal else nn.Conv2d
        self.inter_conv = convolution(inner, between, 3, padding=1)
        self.activation = activation("leaky")
        self.conv = nn.Conv2d(between, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Reduce x: (B, T, H, W, C) -> (B, t, h, w, out)."""
        if self.temporal:
            inner = self.activation(self.inter_conv(x.permute(0, 4, 1, 2, 3)))
        else:
            frames = self.activation(self.inter_conv(to_frames(x)))
            inner = from_frames(frames, x.shape[1]).permute(0, 4, 1, 2, 3)
        reduced = functional.interpolate(inner, size=self.size).permute(0, 2, 3, 4, 1)
        return from_frames(self.conv(to_frames(reduced)), self.size[0])
