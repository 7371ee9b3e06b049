r"""Stems: from the data grid to the working grid of the network and back.

Two kinds, each an encoder and its mirror image:

* convolution stem: n x [conv 3x3, group norm, activation] on each frame, one patch merging;
  back: one nearest enlargement with convolution, n x [conv, norm, activation];
* stack stem: stages of [convs, patch merging]; back: stages of [enlargement, convs].

Frames are (B*T, C, H, W) with channels last in memory: the tensors (B, T, H, W, C) of the
rest of the network are the same bytes.

Source: Gao et al. (2022), appendix on implementation details.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from .cuboid.patterns import Shape3
from .cuboid.settings import Padding
from .folding import compose, worth_composing
from .layers import PatchMerging3D, Upsample3D, activation, from_frames, to_frames
from .pieces import in_pieces

__all__ = [
    "ConvFinalDecoder",
    "ConvInitialEncoder",
    "StackFinalDecoder",
    "StackInitialEncoder",
    "conv_block",
]


def conv_block(dims: Sequence[int], groups: int, activation_name: str) -> nn.Sequential:
    """Return a chain of [conv 3x3, group norm, activation] through the given channels."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(dims):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.GroupNorm(groups, outputs),
            activation(activation_name),
        ]
    return nn.Sequential(*layers)


Frames = Callable[[Tensor], Tensor]


def _framewise(run: Frames, x: Tensor, largest: int) -> Tensor:
    """Map the frames (N, C, H, W) of x (B, T, H, W, C); `largest` as in `in_pieces`."""
    return from_frames(in_pieces(run, to_frames(x), largest), x.shape[1])


def _enlargement(
    upsample: Upsample3D, block: nn.Sequential | None, shape: tuple[int, int], count: int
) -> Frames:
    """Return the map of `count` frames of a shape through an enlargement and its block.

    Up to the first norm it is linear: composed on the small grid where that takes fewer
    products.
    """
    if block is None:
        return upsample.frames
    (h, w), (H, W) = shape, upsample.size
    if H % h == 0 and W % w == 0:
        first, second, scale = upsample.conv, cast("nn.Conv2d", block[0]), (H // h, W // w)
        if worth_composing(first, second, scale, count * h * w):
            chain, rest = compose(first, second, scale), block[1:]
            return lambda frames: rest(chain(frames))
    return lambda frames: block(upsample.frames(frames))


class ConvInitialEncoder(nn.Module):
    """Convolutions on each frame, then one patch merging.

    Parameters
    ----------
    dim, out_dim : int
        Channels in and out; 16 groups normalize ``out_dim``.
    scale : tuple of int
        Patch (d_T, d_H, d_W).
    layers : int
        Convolutions.
    activation_name, padding : str
        Activation; padding of the patch merging.

    Examples
    --------
    >>> import torch
    >>> stem = ConvInitialEncoder(
    ...     1, 16, scale=(1, 1, 2), layers=2, activation_name="leaky", padding="ignore"
    ... )
    >>> stem(torch.randn(1, 3, 4, 5, 1)).shape
    torch.Size([1, 3, 4, 3, 16])
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        *,
        scale: Shape3,
        layers: int,
        activation_name: str,
        padding: Padding,
    ) -> None:
        super().__init__()
        dims = [dim, *[out_dim] * layers]
        self.width = out_dim
        self.conv_block = conv_block(dims, 16, activation_name) if layers else None
        self.patch_merge = PatchMerging3D(dims[-1], out_dim, scale, padding)

    def forward(self, x: Tensor) -> Tensor:
        """Encode x: (B, T, H, W, dim) -> (B, T', H', W', out_dim)."""
        if self.conv_block is not None:
            H, W = x.shape[2:4]
            x = _framewise(self.conv_block, x, H * W * self.width)
        return self.patch_merge(x)


class ConvFinalDecoder(nn.Module):
    """One enlargement of each frame to the data grid, then convolutions.

    Parameters
    ----------
    dim : int
        Channels, kept.
    size : tuple of int
        Frame (H, W) of the data.
    layers : int
        Convolutions after the enlargement.
    activation_name : str
        Activation.

    Examples
    --------
    >>> import torch
    >>> ConvFinalDecoder(16, (6, 9), 1, "leaky")(torch.randn(1, 2, 3, 3, 16)).shape
    torch.Size([1, 2, 6, 9, 16])
    """

    def __init__(self, dim: int, size: tuple[int, int], layers: int, activation_name: str) -> None:
        super().__init__()
        self.conv_block = conv_block([dim] * (layers + 1), 16, activation_name) if layers else None
        self.upsample = Upsample3D(dim, dim, size)

    def forward(self, x: Tensor) -> Tensor:
        """Decode x: (B, T, H', W', dim) -> (B, T, H, W, dim)."""
        B, T, h, w, dim = x.shape
        run = _enlargement(self.upsample, self.conv_block, (h, w), B * T)
        return _framewise(run, x, math.prod(self.upsample.size) * dim)


class StackInitialEncoder(nn.Module):
    """Stages of convolutions and patch merging.

    Parameters
    ----------
    dim : int
        Channels of the data.
    dims : sequence of int
        Channels of each stage; a quarter of them is the number of norm groups.
    scales : sequence of int
        Patch (1, s, s) of each stage.
    convs : sequence of int
        Convolutions of each stage.
    activation_name, padding : str
        Activation; padding of the patch merging.

    Examples
    --------
    >>> import torch
    >>> stem = StackInitialEncoder(
    ...     1, (4, 8), scales=(3, 2), convs=(2, 1), activation_name="leaky", padding="ignore"
    ... )
    >>> stem(torch.randn(1, 2, 12, 18, 1)).shape
    torch.Size([1, 2, 2, 3, 8])
    """

    def __init__(
        self,
        dim: int,
        dims: Sequence[int],
        *,
        scales: Sequence[int],
        convs: Sequence[int],
        activation_name: str,
        padding: Padding,
    ) -> None:
        super().__init__()
        self.dims = tuple(dims)
        self.conv_block_list, self.patch_merge_list = nn.ModuleList(), nn.ModuleList()
        for before, after, scale, n in zip([dim, *dims[:-1]], dims, scales, convs, strict=True):
            chain = [before, *[after] * n]
            self.conv_block_list.append(conv_block(chain, max(1, after // 4), activation_name))
            self.patch_merge_list.append(PatchMerging3D(after, after, (1, scale, scale), padding))

    def forward(self, x: Tensor) -> Tensor:
        """Encode x: (B, T, H, W, dim) -> (B, T, H', W', dims[-1])."""
        B, T, H, W, _ = x.shape
        # One frame after the other through all stages: the wide ones never exist all at once.
        frames = x.reshape(B * T, 1, H, W, -1)
        return (
            in_pieces(self._encode, frames, H * W * max(self.dims)).squeeze(1).unflatten(0, (B, T))
        )

    def _encode(self, x: Tensor) -> Tensor:
        for block, merge in zip(self.conv_block_list, self.patch_merge_list, strict=True):
            x = merge(from_frames(block(to_frames(x)), 1))
        return x


class StackFinalDecoder(nn.Module):
    """Stages of enlargement and convolutions.

    Parameters
    ----------
    dim : int
        Channels of the working grid.
    dims : sequence of int
        Channels of each stage.
    sizes : sequence of (int, int)
        Frame (H, W) of each stage.
    convs : sequence of int
        Convolutions of each stage.
    activation_name : str
        Activation.

    Examples
    --------
    >>> import torch
    >>> stem = StackFinalDecoder(8, (8, 4), ((4, 6), (12, 18)), (1, 2), "leaky")
    >>> stem(torch.randn(1, 2, 2, 3, 8)).shape
    torch.Size([1, 2, 12, 18, 4])
    """

    def __init__(
        self,
        dim: int,
        dims: Sequence[int],
        sizes: Sequence[tuple[int, int]],
        convs: Sequence[int],
        activation_name: str,
    ) -> None:
        super().__init__()
        self.dims = tuple(dims)
        self.conv_block_list, self.upsample_list = nn.ModuleList(), nn.ModuleList()
        for before, after, size, n in zip([dim, *dims[:-1]], dims, sizes, convs, strict=True):
            chain = [before, *[after] * n]
            self.conv_block_list.append(conv_block(chain, max(1, after // 4), activation_name))
            self.upsample_list.append(Upsample3D(before, before, size))

    def forward(self, x: Tensor) -> Tensor:
        """Decode x: (B, T, H', W', dim) -> (B, T, H, W, dims[-1])."""
        B, T, h, w, _ = x.shape
        stages, largest, shape = [], 0, (h, w)
        for block, upsample, dim in zip(
            self.conv_block_list, self.upsample_list, self.dims, strict=True
        ):
            enlarge, rest = cast("Upsample3D", upsample), cast("nn.Sequential", block)
            stages.append(_enlargement(enlarge, rest, shape, B * T))
            shape = enlarge.size
            largest = max(largest, math.prod(shape) * dim)

        def decode(frames: Tensor) -> Tensor:
            for stage in stages:
                frames = stage(frames)
            return frames

        return _framewise(decode, x, largest)
