r"""ConvLSTM as encoder and forecaster: memories of three scales written forward, read backward.

Cell, with one convolution :math:`W` of the input and the hidden field side by side:

.. math::
    i &= \sigma(W_i * [x, h] + b_i), \quad f = \sigma(W_f * [x, h] + b_f), \quad
    g = \tanh(W_g * [x, h] + b_g), \\
    c' &= f \odot c + i \odot g, \quad o = \sigma(W_o * [x, h] + b_o), \quad
    h' = o \odot \tanh c'.

With peepholes :math:`w_i \odot c`, :math:`w_f \odot c` and :math:`w_o \odot c'` are added
inside :math:`i`, :math:`f` and :math:`o`. Level :math:`l` of the encoder reduces the grid by a
strided convolution and runs a ConvLSTM over the history; the forecaster starts each level from
the memory the encoder left there, the coarsest reading zeros, and enlarges by a transposed
convolution.

Source: Shi et al. (2015), *Convolutional LSTM Network*, and Shi et al. (2017), *Deep Learning
for Precipitation Nowcasting: A Benchmark and A New Model*, NeurIPS.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ConfigError
from .common import (
    Baseline,
    BaselineConfig,
    channels_first,
    channels_last,
    check_positive,
    crop,
    pad_to_multiple,
)

__all__ = ["ConvLSTM", "ConvLSTMCell", "ConvLSTMConfig"]

Memory = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class ConvLSTMConfig(BaselineConfig):
    """Sizes of :class:`ConvLSTM`; grids that the strides do not divide are padded.

    The published tables do not say the widths; these are the natural ones that give their
    number of parameters on all their grids.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon.
    channels : tuple of int
        Channels of the memory of each level, finest first.
    first_channels, last_channels : int
        Channels in front of the finest memory, and behind its enlargement.
    strides : tuple of int
        By how much each level reduces the grid.
    conv_kernels : tuple of int
        Odd sizes of the reducing convolutions.
    deconv_kernels : tuple of int
        Sizes of the enlarging convolutions, at least the strides.
    lstm_kernel : int
        Odd size of the convolution in the cells.
    convs_widen : bool
        Whether the reducing convolutions change the number of channels and the cells keep it,
        instead of the reverse.
    peephole : bool
        Whether gates see the memory through weights of each cell of the grid.
    leaky_slope : float
        Slope of the leaky ReLU below 0.

    Examples
    --------
    >>> ConvLSTMConfig.icar_enso().describe().total.parameters
    13971889
    """

    channels: tuple[int, ...] = (96, 128, 256)
    first_channels: int = 16
    last_channels: int = 16
    strides: tuple[int, ...] = (2, 2, 2)
    conv_kernels: tuple[int, ...] = (7, 5, 3)
    deconv_kernels: tuple[int, ...] = (6, 4, 4)
    lstm_kernel: int = 3
    convs_widen: bool = False
    peephole: bool = False
    leaky_slope: float = 0.2

    def check(self) -> None:
        """Raise ConfigError if the levels do not fit each other."""
        per_level = ("channels", "strides", "conv_kernels", "deconv_kernels")
        check_positive(self, *per_level, "first_channels", "last_channels", "lstm_kernel")
        if len({len(getattr(self, name)) for name in per_level}) != 1:
            raise ConfigError(
                f"{', '.join(per_level)} need one number per level, as many in all; got "
                f"{', '.join(str(getattr(self, name)) for name in per_level)}"
            )
        for name in ("conv_kernels", "lstm_kernel"):
            value = getattr(self, name)
            if any(n % 2 == 0 for n in (value if isinstance(value, tuple) else (value,))):
                raise ConfigError(f"{name} must be odd, to keep the grid centered; got {value}")
        for kernel, stride in zip(self.deconv_kernels, self.strides, strict=True):
            if kernel < stride:
                raise ConfigError(
                    f"deconv_kernels {self.deconv_kernels}: a convolution of {kernel} cells leaves "
                    f"holes at stride {stride}; make it at least the stride"
                )

    @property
    def reduction(self) -> int:
        """By how much all levels together reduce the grid."""
        return math.prod(self.strides)

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """Grid (H, W) of each level, finest first."""
        H, W = (-(-n // self.reduction) * self.reduction for n in self.input_shape[1:3])
        factors = tuple(itertools.accumulate(self.strides, lambda a, b: a * b))
        return tuple((H // f, W // f) for f in factors)

    def build(self) -> ConvLSTM:
        """Return a new network."""
        return ConvLSTM(self)

    @classmethod
    def sevir(cls) -> ConvLSTMConfig:
        """SEVIR, 13 -> 12 frames of 384 x 384: the row of the table (13,971,889 parameters)."""
        return cls(input_shape=(13, 384, 384, 1), target_shape=(12, 384, 384, 1), strides=(3, 2, 2))

    @classmethod
    def icar_enso(cls) -> ConvLSTMConfig:
        """ICAR-ENSO, 12 -> 14 months of 24 x 48 cells: the row of the table (13,971,889)."""
        return cls()


class ConvLSTMCell(nn.Module):
    """One step of a convolutional LSTM.

    Parameters
    ----------
    channels, units : int
        Channels of the input and of the memory.
    kernel : int
        Odd size of the convolution.
    grid : tuple of int, optional
        (H, W) of peephole weights; none without.
    """

    Wci: Tensor
    Wcf: Tensor
    Wco: Tensor

    def __init__(
        self, channels: int, units: int, kernel: int, grid: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.units = units
        self.conv = nn.Conv2d(channels + units, 4 * units, kernel, padding=kernel // 2)
        self.peephole = grid is not None
        if grid is not None:
            for name in ("Wci", "Wcf", "Wco"):
                self.register_parameter(name, nn.Parameter(torch.zeros(1, units, *grid)))

    def start(self, x: Tensor) -> Memory:
        """Return the empty memory (h, c), each (N, units, H, W), for inputs (N, C, H, W)."""
        empty = x.new_zeros(len(x), self.units, *x.shape[-2:])
        return empty, empty

    def forward(self, x: Tensor, memory: Memory) -> Memory:
        """Take one step from x: (N, C, H, W) and (h, c)."""
        h, c = memory
        i, f, g, o = self.conv(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        if self.peephole:
            i, f = i + self.Wci * c, f + self.Wcf * c
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        if self.peephole:
            o = o + self.Wco * c
        return torch.sigmoid(o) * torch.tanh(c), c


class EncoderLevel(nn.Module):
    """Reduce all frames of the history, then run the cell over them.

    Parameters
    ----------
    config : ConvLSTMConfig
        Sizes.
    level : int
        0 is the finest.
    """

    def __init__(self, config: ConvLSTMConfig, level: int) -> None:
        super().__init__()
        self.slope = config.leaky_slope
        units = config.channels[level]
        before = config.channels[level - 1] if level else config.input_shape[-1]
        after = config.first_channels
        if level:
            after = units if config.convs_widen else before
        k = config.conv_kernels[level]
        self.conv = nn.Conv2d(before, after, k, config.strides[level], k // 2)
        grid = config.grids[level] if config.peephole else None
        self.cell = ConvLSTMCell(after, units, config.lstm_kernel, grid)

    def forward(self, x: Tensor) -> tuple[Tensor, Memory]:
        """Encode x: (N, T, C, H, W) to (N, T, C', H / s, W / s) and the memory behind it."""
        x = functional.leaky_relu(self.conv(x.flatten(0, 1)), self.slope).unflatten(0, x.shape[:2])
        memory, hidden = self.cell.start(x[:, 0]), []
        for frame in x.unbind(1):
            memory = self.cell(frame, memory)
            hidden.append(memory[0])
        return torch.stack(hidden, dim=1), memory


class ForecasterLevel(nn.Module):
    """Run the cell on from the memory of the encoder, then enlarge all frames.

    Parameters
    ----------
    config : ConvLSTMConfig
        Sizes.
    level : int
        0 is the finest.
    """

    def __init__(self, config: ConvLSTMConfig, level: int) -> None:
        super().__init__()
        self.slope = config.leaky_slope
        units, top = config.channels[level], level == len(config.channels) - 1
        above = units if top or config.convs_widen else config.channels[level + 1]
        below = config.last_channels
        if level:
            below = config.channels[level - 1] if config.convs_widen else units
        grid = config.grids[level] if config.peephole else None
        self.cell = ConvLSTMCell(above, units, config.lstm_kernel, grid)
        kernel, stride = config.deconv_kernels[level], config.strides[level]
        surplus = kernel - stride
        self.deconv = nn.ConvTranspose2d(
            units,
            below,
            kernel,
            stride,
            padding=-(-surplus // 2),
            output_padding=surplus % 2,
        )

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """Decode the level above, (N, T_out, C, H, W), to (N, T_out, C', H s, W s)."""
        hidden = []
        for frame in x.unbind(1):
            memory = self.cell(frame, memory)
            hidden.append(memory[0])
        y = functional.leaky_relu(self.deconv(torch.cat(hidden)), self.slope)
        return y.unflatten(0, (x.shape[1], -1)).transpose(0, 1)


class ConvLSTM(Baseline):
    """Forecast of T_out frames from T frames of a grid.

    Parameters
    ----------
    config : ConvLSTMConfig
        Sizes.

    Examples
    --------
    >>> config = ConvLSTMConfig(
    ...     input_shape=(2, 9, 14, 2), target_shape=(3, 9, 14, 1), channels=(4, 4, 4),
    ...     first_channels=2, last_channels=2,
    ... )
    >>> ConvLSTM(config)(torch.randn(1, 2, 9, 14, 2)).shape
    torch.Size([1, 3, 9, 14, 1])
    """

    config: ConvLSTMConfig

    def __init__(self, config: ConvLSTMConfig) -> None:
        super().__init__(config)
        levels, width = range(len(config.channels)), config.last_channels
        self.encoder = nn.ModuleList(EncoderLevel(config, level) for level in levels)
        self.forecaster = nn.ModuleList(ForecasterLevel(config, level) for level in levels)
        self.tail = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(config.leaky_slope),
            nn.Conv2d(width, config.target_shape[-1], 1),
        )

    def _forecast(self, x: Tensor) -> Tensor:
        T_out, H, W, _ = self.config.target_shape
        h = channels_first(pad_to_multiple(x, self.config.reduction))
        memories = []
        for level in self.encoder:
            h, memory = level(h)
            memories.append(memory)
        y = torch.zeros_like(memories[-1][0])[:, None].expand(-1, T_out, -1, -1, -1)
        for level, memory in zip(reversed(self.forecaster), reversed(memories), strict=True):
            y = level(y, memory)
        out = self.tail(y.flatten(0, 1)).unflatten(0, (len(x), T_out))
        return crop(channels_last(out), H, W)
