r"""Rainformer: at every scale a branch of convolutions and one of window attention, and a gate.

Frames are channels. Four stages lead down, three up and one back to full size; each changes
the resolution, computes a local branch l and a global branch g, and returns

.. math::
    (z, r) = \mathrm{LN}(W * [g, l]), \qquad y = \sigma(z) \odot g + \sigma(r) \odot l .

* Down: space to depth, then a linear map. Up: depth to space, a linear map, and, but for the
  last stage, the output of the stage of the same size on the way down behind it.
* Local: two convolutions with batch normalization, then attention to channels and to places.
* Global: two blocks of attention in windows, the second with shifted windows; in both,
  attention to channels behind the output.

The published network has in each gate two convolutions that nothing reads and, in the norms of
its gates, one scale and offset per channel *and cell*: on SEVIR 63 % of the parameters, which
tie the weights to the grid. Both are kept by the set-ups of the tables (``gate="pixel"``,
``spare_convolutions=True``); the plain configuration has one scale and offset per channel and
no spare parts, and runs on any grid.

Source: Bai, Sun, Zhang, Song and Chen (2022), *Rainformer: Features Extraction Balanced Network
for Radar-Based Precipitation Nowcasting*, IEEE Geoscience and Remote Sensing Letters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ConfigError
from .common import (
    Baseline,
    BaselineConfig,
    channels_as_frames,
    check_positive,
    crop,
    frames_as_channels,
    pad_to_multiple,
)

__all__ = ["Rainformer", "RainformerConfig"]

_STAGES = 4


@dataclass(frozen=True, kw_only=True)
class RainformerConfig(BaselineConfig):
    """Sizes of a Rainformer.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon. Other grids are completed to whole windows at
        every scale and cut again.
    width : int
        Channels of the first stage, doubled by each stage down.
    factors : tuple of int
        By how much each stage down reduces H and W; four numbers.
    heads : tuple of int
        Attention heads of each stage down.
    head_width : int
        Channels of a head.
    window : int
        Cells along the side of a window.
    gate : str
        Scale and offset of the norm of a gate: one per ``channel``, or per ``pixel`` of each.
    spare_convolutions : bool
        Whether gates have the two convolutions of the published code that nothing reads.
    spare_frames : int
        Frames that are computed beyond the horizon and dropped.

    Raises
    ------
    ConfigError
        If a value is impossible; the message says which would do.

    Examples
    --------
    >>> RainformerConfig.icar_enso().multiple
    24
    """

    width: int = 32
    factors: tuple[int, ...] = (1, 2, 2, 2)
    heads: tuple[int, ...] = (4, 4, 8, 16)
    head_width: int = 8
    window: int = 3
    gate: Literal["channel", "pixel"] = "channel"
    spare_convolutions: bool = False
    spare_frames: int = 0

    @property
    def multiple(self) -> int:
        """What H and W are made multiples of: whole windows at the coarsest scale."""
        return math.prod(self.factors) * self.window

    @property
    def widths(self) -> tuple[tuple[int, int], ...]:
        """(Channels behind the change of resolution, channels of the blocks) of each stage."""
        down = [self.width * 2**level for level in range(_STAGES)]
        last = (self.target_shape[0] + self.spare_frames) * self.target_shape[3]
        up = [(channels, 2 * channels) for channels in reversed(down[:-1])]
        return (*((channels, channels) for channels in down), *up, (last, last))

    def check(self) -> None:
        """Raise ConfigError if a size does not fit its neighbors or a name is unknown."""
        check_positive(self, "width", "factors", "heads", "head_width", "window")
        if len(self.factors) != _STAGES or len(self.heads) != _STAGES:
            raise ConfigError(
                f"a Rainformer has {_STAGES} stages down: factors={self.factors} and "
                f"heads={self.heads} need one number for each"
            )
        channels = self.width * 2 ** (_STAGES - 1)
        for level in reversed(range(1, _STAGES)):
            if channels % self.factors[level] ** 2:
                raise ConfigError(
                    f"{channels} channels cannot become {self.factors[level]} x "
                    f"{self.factors[level]} cells each on the way up: choose a width or factors "
                    "so that they divide"
                )
            channels = self.width * 2**level
        if channels % self.factors[0] ** 2:
            raise ConfigError(
                f"{channels} channels cannot become {self.factors[0]} x {self.factors[0]} cells "
                "each in the last stage: make 2 * width a multiple of factors[0] squared"
            )
        if self.gate not in ("channel", "pixel"):
            raise ConfigError(f"gate must be 'channel' or 'pixel'; got {self.gate!r}")
        if self.spare_frames < 0:
            raise ConfigError(f"spare_frames must be 0 or more; got {self.spare_frames}")

    def build(self) -> Rainformer:
        """Return a new network.

        Examples
        --------
        >>> RainformerConfig(width=8).build()(torch.randn(1, 12, 24, 48, 1)).shape
        torch.Size([1, 14, 24, 48, 1])
        """
        return Rainformer(self)

    @classmethod
    def sevir(cls) -> RainformerConfig:
        """SEVIR, 13 -> 12 of 13 frames of 384 x 384: the network of the table (184,112,700)."""
        return cls(
            input_shape=(13, 384, 384, 1),
            target_shape=(12, 384, 384, 1),
            width=64,
            factors=(2, 2, 2, 2),
            window=4,
            gate="pixel",
            spare_convolutions=True,
            spare_frames=1,
        )

    @classmethod
    def icar_enso(cls) -> RainformerConfig:
        """ICAR-ENSO, 12 -> 14 months of 24 x 48: the network of the table (19,177,396)."""
        return cls(gate="pixel", spare_convolutions=True)


def _between(channels: int, least: int) -> int:
    """Return the width inside a channel gate: a sixteenth, or all when that is less than least."""
    return channels // 16 if channels // 16 >= least else channels


def _squeeze(channels: int, inside: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, inside), nn.ReLU(), nn.Linear(inside, channels))


class ChannelGate(nn.Module):
    """Weigh channels by what their mean and their maximum over the frame say.

    Parameters
    ----------
    channels : int
        Channels.
    shared : bool
        Whether mean and maximum pass through the same map.
    """

    def __init__(self, channels: int, *, shared: bool) -> None:
        super().__init__()
        inside = _between(channels, 1 if shared else 10)
        self.mean = _squeeze(channels, inside)
        self.maximum = None if shared else _squeeze(channels, inside)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh x: (N, C, H, W)."""
        of_maximum = self.mean if self.maximum is None else self.maximum
        weight = torch.sigmoid(self.mean(x.mean((2, 3))) + of_maximum(x.amax((2, 3))))
        return x * weight[:, :, None, None]


class LocalBranch(nn.Module):
    """Two convolutions, then attention to channels and to places.

    Parameters
    ----------
    channels : int
        Channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [
            layer
            for _ in range(2)
            for layer in (
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
        ]
        self.convolutions = nn.Sequential(*layers)
        self.channels = ChannelGate(channels, shared=True)
        self.places = nn.Sequential(nn.Conv2d(2, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1))

    def forward(self, x: Tensor) -> Tensor:
        """Transform x: (N, C, H, W)."""
        x = self.channels(self.convolutions(x))
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.places(summary))


def _windows(x: Tensor, w: int) -> Tensor:
    """Return x: (N, H, W, C) as windows (N, H/w * W/w, w*w, C)."""
    x = x.unflatten(2, (-1, w)).unflatten(1, (-1, w))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _frame(x: Tensor, size: tuple[int, int], w: int) -> Tensor:
    """Return windows (N, H/w * W/w, w*w, C) as a frame (N, H, W, C)."""
    x = x.unflatten(2, (w, w)).unflatten(1, (size[0] // w, size[1] // w))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _apart(size: tuple[int, int], w: int, shift: int, device: torch.device) -> Tensor:
    """Return which cells of a shifted window do not meet, (windows, 1, w*w, w*w).

    The last ``shift`` rows and columns come from the other end of the frame.
    """
    wrapped = [torch.arange(n, device=device) >= n - shift for n in size]
    part = 2 * wrapped[0].long()[:, None] + wrapped[1].long()
    parts = _windows(part[None, :, :, None], w)[0, :, :, 0]
    return (parts[:, :, None] != parts[:, None])[:, None]


class WindowAttention(nn.Module):
    """Attention in windows, whole or shifted by half of one; one table of offsets for all heads.

    Parameters
    ----------
    channels, heads, head_width, window : int
        Sizes.
    shift : int
        By how many cells windows are shifted.
    """

    def __init__(self, channels: int, heads: int, head_width: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * heads * head_width, bias=False)
        self.table = nn.Parameter(torch.randn(2 * window - 1, 2 * window - 1))
        self.out = nn.Linear(heads * head_width, channels)

    def _offsets(self) -> Tensor:
        """Return the bias of each query and key of a window, (w*w, w*w)."""
        w = self.window
        place = torch.arange(w, device=self.table.device)
        row, column = (n.flatten() for n in torch.meshgrid(place, place, indexing="ij"))
        down, right = (n[None] - n[:, None] + w - 1 for n in (row, column))
        return self.table[down, right]

    def forward(self, x: Tensor) -> Tensor:
        """Attend in x: (N, H, W, C)."""
        size = (x.shape[1], x.shape[2])
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        qkv = self.qkv(_windows(x, self.window)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + self._offsets()
        if self.shift:
            apart = _apart(size, self.window, self.shift, x.device)
            scores = scores.masked_fill(apart, float("-inf"))
        y = self.out((scores.softmax(-1) @ v).transpose(2, 3).flatten(3))
        y = _frame(y, size, self.window)
        return y.roll((self.shift, self.shift), (1, 2)) if self.shift else y


class WindowBlock(nn.Module):
    """Attention in windows with attention to channels behind it, and a feed-forward network.

    Parameters
    ----------
    channels, inside : int
        Channels of the block and inside its feed-forward network.
    attention : WindowAttention
        Its attention.
    """

    def __init__(self, channels: int, inside: int, attention: WindowAttention) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = attention
        self.channels = ChannelGate(channels, shared=False)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, inside), nn.GELU(), nn.Linear(inside, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform x: (N, H, W, C)."""
        attended = self.attention(self.attention_norm(x)).permute(0, 3, 1, 2)
        x = x + self.channels(attended).permute(0, 2, 3, 1)
        return x + self.mlp(self.mlp_norm(x))


class Gate(nn.Module):
    """Weigh the global and the local branch against each other.

    Parameters
    ----------
    channels : int
        Channels of each branch.
    size : tuple of int, optional
        The grid (H, W) when scale and offset are those of each cell.
    spare : bool
        Whether the two convolutions that nothing reads exist.
    """

    def __init__(self, channels: int, size: tuple[int, int] | None, *, spare: bool) -> None:
        super().__init__()

        def convolution(inputs: int, outputs: int) -> nn.Sequential:
            norm = nn.GroupNorm(1, outputs) if size is None else nn.LayerNorm((outputs, *size))
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), norm)

        self.gates = convolution(2 * channels, 2 * channels)
        self.spare = (
            nn.ModuleList([convolution(channels, channels), convolution(2 * channels, channels)])
            if spare
            else None
        )

    def forward(self, broad: Tensor, local: Tensor) -> Tensor:
        """Return the sum of both branches, (N, C, H, W), each times its gate."""
        z, r = self.gates(torch.cat([broad, local], 1)).chunk(2, 1)
        return torch.sigmoid(z) * broad + torch.sigmoid(r) * local


class Stage(nn.Module):
    """One scale: change of resolution, both branches, gate.

    Parameters
    ----------
    config : RainformerConfig
        Sizes.
    index : int
        0 to 3 down, 4 to 6 up, 7 back to full size.
    inputs : int
        Channels before the stage.
    """

    def __init__(self, config: RainformerConfig, index: int, inputs: int) -> None:
        super().__init__()
        self.down = index < _STAGES
        level = index if self.down else 2 * _STAGES - 1 - index
        self.factor = config.factors[level]
        outputs, channels = config.widths[index]
        area = self.factor**2
        self.linear = nn.Linear(inputs * area if self.down else inputs // area, outputs)
        heads, w = config.heads[level], config.window
        self.blocks = nn.Sequential(
            *(
                WindowBlock(
                    channels,
                    4 * outputs,
                    WindowAttention(channels, heads, config.head_width, w, shift),
                )
                for shift in (0, w // 2)
            )
        )
        self.local = LocalBranch(channels)
        reduced = math.prod(config.factors[: level + 1 if self.down else level])
        H, W = (
            -(-n // config.multiple) * config.multiple // reduced for n in config.input_shape[1:3]
        )
        size = (H, W) if config.gate == "pixel" else None
        self.gate = Gate(channels, size, spare=config.spare_convolutions)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Transform x: (N, inputs, h, w), with the output ``skip`` of the way down behind it."""
        change = functional.pixel_unshuffle if self.down else functional.pixel_shuffle
        x = self.linear(change(x, self.factor).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if skip is not None:
            x = torch.cat([x, skip], 1)
        broad = self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.gate(broad, self.local(x))


class Rainformer(Baseline):
    """All frames of the horizon at once from all frames of the history.

    Parameters
    ----------
    config : RainformerConfig
        Sizes.

    Examples
    --------
    >>> config = RainformerConfig(
    ...     input_shape=(3, 10, 15, 1),
    ...     target_shape=(2, 10, 15, 1),
    ...     width=4,
    ...     factors=(1, 2, 1, 2),
    ...     heads=(1, 1, 2, 2),
    ... )
    >>> Rainformer(config)(torch.randn(1, 3, 10, 15, 1)).shape
    torch.Size([1, 2, 10, 15, 1])
    """

    def __init__(self, config: RainformerConfig) -> None:
        super().__init__(config)
        self.multiple, self.spare_frames = config.multiple, config.spare_frames
        T, _, _, C = config.input_shape
        inputs = (T * C, *(channels for _, channels in config.widths))
        self.stages = nn.ModuleList(
            Stage(config, index, inputs[index]) for index in range(2 * _STAGES)
        )

    def _forecast(self, x: Tensor) -> Tensor:
        T, H, W, _ = self.config.target_shape
        frames = frames_as_channels(pad_to_multiple(x, self.multiple))
        down: list[Tensor] = []
        for stage in self.stages[:_STAGES]:
            frames = stage(frames)
            down.append(frames)
        for level, stage in zip((2, 1, 0), self.stages[_STAGES:-1], strict=True):
            frames = stage(frames, down[level])
        y = channels_as_frames(self.stages[-1](frames), T + self.spare_frames)
        return crop(y[:, :T], H, W)
