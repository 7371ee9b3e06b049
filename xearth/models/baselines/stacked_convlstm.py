r"""ConvLSTM layers in a stack that predict the next frame: the simplest next-frame network.

.. math::
    i, f, g, o = W_x * x + W_h * h, \quad
    c' = \sigma(f) \odot c + \sigma(i) \odot \tanh g, \quad h' = \sigma(o) \odot \tanh c',

without biases; the last :math:`h` becomes the next frame by a 1 x 1 convolution. A published
implementation also holds two convolutions per layer that it never uses; they are left out.

Source: Shi et al. (2015), *Convolutional LSTM Network*, NeurIPS.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from .common import BaselineConfig, check_positive
from .next_frame import NextFrame, emitted, gates

__all__ = ["StackedConvLSTM", "StackedConvLSTMCell", "StackedConvLSTMConfig"]

Memories = tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True, kw_only=True)
class StackedConvLSTMConfig(BaselineConfig):
    """Sizes of :class:`StackedConvLSTM`; grids that the patch does not divide are padded.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon.
    hidden : tuple of int
        Channels of each layer.
    kernel : int
        Odd size of the convolutions.
    patch : int
        Side of the patches that become channels.
    layer_norm : bool
        Whether the gates are normalized, with weights of each cell of the grid.
    """

    hidden: tuple[int, ...] = (128, 128, 128, 128)
    kernel: int = 5
    patch: int = 4
    layer_norm: bool = False

    def check(self) -> None:
        """Raise ConfigError if a size is impossible."""
        check_positive(self, "hidden", "kernel", "patch")
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel must be odd, to keep the grid centered; got {self.kernel}")

    def build(self) -> StackedConvLSTM:
        """Return a new network."""
        return StackedConvLSTM(self)


class StackedConvLSTMCell(nn.Module):
    """One layer of one step.

    Parameters
    ----------
    channels, units : int
        Channels of the input and of the memory.
    config : StackedConvLSTMConfig
        Sizes.
    """

    def __init__(self, channels: int, units: int, config: StackedConvLSTMConfig) -> None:
        super().__init__()
        self.conv_x = gates(channels, 4 * units, config)
        self.conv_h = gates(units, 4 * units, config)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return h' and c', each (N, units, h, w)."""
        i, f, g, o = (self.conv_x(x) + self.conv_h(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class StackedConvLSTM(NextFrame):
    """Forecast of T_out frames from T frames of a grid, frame by frame.

    Parameters
    ----------
    config : StackedConvLSTMConfig
        Sizes.

    Examples
    --------
    >>> config = StackedConvLSTMConfig(
    ...     input_shape=(3, 10, 14, 1), target_shape=(2, 10, 14, 1), hidden=(4, 6), kernel=3
    ... )
    >>> StackedConvLSTM(config)(torch.randn(1, 3, 10, 14, 1)).shape
    torch.Size([1, 2, 10, 14, 1])
    """

    config: StackedConvLSTMConfig

    def __init__(self, config: StackedConvLSTMConfig) -> None:
        super().__init__(config, config.patch)
        area = config.patch**2
        inputs = (area * config.input_shape[-1], *config.hidden[:-1])
        self.cell_list = nn.ModuleList(
            StackedConvLSTMCell(c, n, config) for c, n in zip(inputs, config.hidden, strict=True)
        )
        self.conv_last = nn.Conv2d(config.hidden[-1], area * emitted(config), 1, bias=False)

    def start(self, frame: Tensor) -> Memories:
        """Return empty memories (h, c) of each layer for frames (N, p p C, h, w)."""
        N, size = len(frame), frame.shape[-2:]
        return tuple((frame.new_zeros(N, n, *size),) * 2 for n in self.config.hidden)

    def step(self, frame: Tensor, state: Memories) -> tuple[Tensor, Memories]:
        """Return the prediction (N, p p C_e, h, w) of the frame after this one, and the state."""
        x, after = frame, []
        for cell, (h, c) in zip(self.cell_list, state, strict=True):
            after.append(cell(x, h, c))
            x = after[-1][0]
        return self.conv_last(x), tuple(after)
