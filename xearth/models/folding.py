r"""Exact composition of the linear chain "enlarge, convolve, convolve" on the small grid.

A decoder stage enlarges a field by an integer factor with nearest neighbors and applies two
3x3 convolutions with nothing nonlinear between them.  All three maps are linear, so their
composition is one convolution of the *small* field, whose outputs are the ``s_h s_w`` pixels
that each small pixel becomes.

Notation
--------
u : (N, C_i, h, w)
    The small field.
s_h, s_w : int
    The factors of enlargement; ``U[P] = u[floor(P / s)]`` is the enlarged field.
W1, b1 and W2, b2
    Kernels and biases of the two convolutions, padded by one zero pixel:
    ``M = b1 + W1 * U`` and ``Y = b2 + W2 * M``.
a, b : 0, 1, 2
    Taps of W2 and of W1.

On an unbounded plane ``Y[P] = b2 + sum_a W2[a] b1 + sum_{a,b} W2[a] W1[b] U[P + a + b - 2]``.
Writing ``P = s Q + p`` (small pixel Q, phase p), the small pixel that is read is
``Q + floor((p + a + b - 2) / s)``: at most three neighbors along an axis when ``s >= 2``,
five when ``s = 1``.  The kernel of phase p collects ``W2[a] W1[b]`` over the taps that read
the same neighbor.

The field is bounded, though: the second convolution sees zeros outside, while the unbounded
``M`` is not zero on the ring of pixels just outside.  Only the outermost pixels of Y read that
ring, and what they read from it is subtracted.  The result equals the chain to rounding.

Compose in every forward pass: the cost does not depend on the size of the field (two percent of
a SEVIR decoder), gradients reach W1 and W2 through it, and nothing can go stale when weights
change.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from ..errors import ConfigError

__all__ = ["Composition", "compose", "worth_composing"]


def _width(scale: int) -> int:
    """Small-grid neighbors read along an axis by the two kernels."""
    return 5 if scale == 1 else 3


def _selection(scale: int, like: Tensor) -> Tensor:
    """Return R (scale, 3, 3, width): one where phase p reads neighbor e through taps a and b."""
    tap = torch.arange(3, device=like.device)
    phase = torch.arange(scale, device=like.device)
    neighbor = torch.arange(_width(scale), device=like.device) - _width(scale) // 2
    read = (phase[:, None, None] + tap[:, None] + tap - 2).div(scale, rounding_mode="floor")
    return (read[..., None] == neighbor).to(like.dtype)


@dataclass(frozen=True, eq=False)
class Composition:
    """The chain "enlarge by `scale`, `first`, `second`" as one map of the small field.

    Made by `compose`; call it with u (N, C_i, h, w) to get Y (N, C_o, s_h * h, s_w * w) in
    channels-last memory.  It holds for the weights it was composed from: compose again after
    they change.

    Parameters
    ----------
    kernel : Tensor, (s_h * s_w * C_o, C_i, k_h, k_w)
        Outputs ordered (phase along H, phase along W, channel); k is 3, or 5 where the scale is 1.
    bias : Tensor, (s_h * s_w * C_o,)
        ``b2 + sum_a W2[a] b1`` for every phase.
    first, second : nn.Conv2d
        The convolutions, for what the border reads outside the field.
    scale : tuple of int
        Factors of enlargement (s_h, s_w).
    """

    kernel: Tensor
    bias: Tensor
    first: nn.Conv2d
    second: nn.Conv2d
    scale: tuple[int, int]

    def __call__(self, u: Tensor) -> Tensor:
        """Return Y (N, C_o, s_h * h, s_w * w) of the small field u (N, C_i, h, w)."""
        s_h, s_w = self.scale
        n, _, h, w = u.shape
        padding = (self.kernel.shape[2] // 2, self.kernel.shape[3] // 2)
        phases = functional.conv2d(u, self.kernel, self.bias, padding=padding)
        pixels = phases.permute(0, 2, 3, 1).reshape(n, h, w, s_h, s_w, -1).transpose(2, 3)
        pixels = pixels.clone(memory_format=torch.contiguous_format)
        large = _SubtractRing.apply(pixels, *self._ring(u))
        return large.view(n, s_h * h, s_w * w, -1).permute(0, 3, 1, 2)

    def _ring(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute what the border of the unbounded result reads outside the field.

        Returns the top and bottom rows (N, w, s_w, C_o), corners included, and the left and
        right columns (N, h, s_h, C_o), corners left to the rows.
        """
        s_h, s_w = self.scale
        w1, w2, b1 = self.first.weight, self.second.weight, self.first.bias

        def read(line: Tensor, s: int, tap1: Tensor, tap2: Tensor, beyond: int) -> Tensor:
            line = line.repeat_interleave(s, -1)
            outside = functional.conv1d(line, tap1, b1, padding=1 + beyond)
            return functional.conv1d(outside, tap2, padding=1 - beyond).mT.unflatten(1, (-1, s))

        return (
            read(u[:, :, 0], s_w, w1[:, :, 2], w2[:, :, 0], 1),
            read(u[:, :, -1], s_w, w1[:, :, 0], w2[:, :, 2], 1),
            read(u[:, :, :, 0], s_h, w1[:, :, :, 2], w2[:, :, :, 0], 0),
            read(u[:, :, :, -1], s_h, w1[:, :, :, 0], w2[:, :, :, 2], 0),
        )


def compose(first: nn.Conv2d, second: nn.Conv2d, scale: tuple[int, int]) -> Composition:
    """Compose "enlarge by nearest neighbors, convolve twice" into one map on the small grid.

    Equal, to rounding and with its gradients, to
    ``second(first(interpolate(u, scale_factor=scale, mode="nearest")))``.

    Parameters
    ----------
    first, second : nn.Conv2d
        3x3 convolutions with one pixel of zero padding.
    scale : tuple of int
        Factors of enlargement (s_h, s_w).

    Returns
    -------
    Composition
        Takes u (N, C_i, h, w); channels-last memory is fastest.

    Raises
    ------
    ConfigError
        If a convolution is not 3x3 with padding 1, stride 1, one group, or the channels differ.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> first, second = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 2, 3, padding=1)
    >>> u = torch.randn(1, 3, 4, 4)
    >>> plain = second(first(nn.functional.interpolate(u, scale_factor=2, mode="nearest")))
    >>> torch.allclose(compose(first, second, (2, 2))(u), plain, atol=1e-5)
    True
    """
    _require_plain(first, second)
    s_h, s_w = scale
    w1, w2 = first.weight, second.weight
    # Rounding to half precision, where it is asked for, comes after the weights met.
    with _full_precision(w1.device.type):
        products = torch.einsum("omxy,miuv->oxyiuv", w2, w1)
        kernel = torch.einsum(
            "oxyiuv,pxue,qyvf->pqoief", products, _selection(s_h, w1), _selection(s_w, w1)
        ).flatten(0, 2)
        bias = w1.new_zeros(w2.shape[0]) if second.bias is None else second.bias
        if first.bias is not None:
            bias = bias + torch.einsum("omxy,m->o", w2, first.bias)
    return Composition(kernel, bias.repeat(s_h * s_w), first, second, scale)


# Share of the products of a chain below which composing it pays.
_WORTH = 0.7


def worth_composing(
    first: nn.Conv2d, second: nn.Conv2d, scale: tuple[int, int], pixels: int
) -> bool:
    """Whether the composed kernel needs much fewer multiplications than the chain it replaces.

    Its products are somewhat slower ones (larger kernels, outputs to be shuffled): at 0.85 of
    the products, as in the published ENSO network, the chain is the faster of the two; at 0.35
    and 0.12, as in the SEVIR network, the composition is.

    Parameters
    ----------
    first, second : nn.Conv2d
        The two convolutions.
    scale : tuple of int
        Factors of enlargement (s_h, s_w).
    pixels : int
        Small pixels in the batch, ``N * h * w``.

    Returns
    -------
    bool
        False too for convolutions that cannot be composed, and on the meta device, where
        nothing runs and operations are only counted: as published.

    Examples
    --------
    >>> from torch import nn
    >>> first, second = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 16, 3, padding=1)
    >>> worth_composing(first, second, (3, 3), 128 * 128)
    True
    >>> worth_composing(first, second, (1, 1), 99)
    False
    """
    if first.weight.is_meta or not (_plain(first) and _plain(second)):
        return False
    s_h, s_w = scale
    c_i, c_m, c_o = first.in_channels, first.out_channels, second.out_channels
    taps = _width(s_h) * _width(s_w)
    composed = pixels * s_h * s_w * taps * c_i * c_o
    composing = 81 * c_i * c_m * c_o
    chain = pixels * s_h * s_w * 9 * c_m * (c_i + c_o)
    return composed + composing < _WORTH * chain


class _SubtractRing(torch.autograd.Function):
    """Subtract lines from the border of a field (N, h, s_h, w, s_w, C_o) without copying it.

    Autograd's own rule for writing to slices clones the gradient of the whole field once per
    line; here the gradient of the field is passed on, and its border goes to the lines.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, field: Tensor, *lines: Tensor) -> Tensor:
        ctx.mark_dirty(field)
        top, bottom, left, right = lines
        field[:, 0, 0] -= top
        field[:, -1, -1] -= bottom
        field[:, :, :, 0, 0] -= left
        field[:, :, :, -1, -1] -= right
        return field

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, -grad[:, 0, 0], -grad[:, -1, -1], -grad[:, :, :, 0, 0], -grad[:, :, :, -1, -1]


def _full_precision(device: str) -> AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def _plain(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.padding == (1, 1)
        and conv.stride == (1, 1)
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
    )


def _require_plain(first: nn.Conv2d, second: nn.Conv2d) -> None:
    for conv in (first, second):
        if not _plain(conv):
            raise ConfigError(
                f"convolution {conv}: expected a 3x3 kernel, padding 1, stride 1, one group; "
                "other convolutions cannot be composed, apply them one after the other."
            )
    if first.out_channels != second.in_channels:
        raise ConfigError(
            f"convolutions in a chain: the first gives {first.out_channels} channels, "
            f"the second takes {second.in_channels}; they must be equal."
        )
