r"""PredRNN: spatiotemporal LSTM cells whose second memory climbs the layers, then the next step.

Cell, every convolution :math:`k \times k` without bias, and :math:`f, f'` with a bias of 1:

.. math::
    i, f, g, i', f', g', o_x &= W_x * x, \quad
    i_h, f_h, g_h, o_h = W_h * h, \quad i_m, f_m, g_m = W_m * m, \\
    \Delta c &= \sigma(i + i_h) \odot \tanh(g + g_h), \quad
    c' = \sigma(f + f_h + 1) \odot c + \Delta c, \\
    \Delta m &= \sigma(i' + i_m) \odot \tanh(g' + g_m), \quad
    m' = \sigma(f' + f_m + 1) \odot m + \Delta m, \\
    h' &= \sigma(o_x + o_h + W_o * [c', m']) \odot \tanh(W_{1 \times 1} * [c', m']).

The memory :math:`m` of the last layer enters the first at the next step. PredRNN-V2 is the same
network trained with the two increments pushed apart (:mod:`xearth.training.strategies`); the
convolution that loss looks through is the ``adapter``.

Source: Wang et al. (2017), *PredRNN*, NeurIPS; Wang et al. (2022), *PredRNN: A Recurrent Neural
Network for Spatiotemporal Predictive Learning*, IEEE TPAMI.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from .common import BaselineConfig, check_positive
from .next_frame import NextFrame, emitted, gates

__all__ = ["PredRNN", "PredRNNConfig", "PredRNNState", "SpatioTemporalLSTMCell"]


@dataclass(frozen=True, kw_only=True)
class PredRNNConfig(BaselineConfig):
    """Sizes of :class:`PredRNN`; grids that the patch does not divide are padded.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon.
    hidden : tuple of int
        Channels of each layer, all equal: one memory runs through them.
    kernel : int
        Odd size of the convolutions.
    patch : int
        Side of the patches that become channels.
    layer_norm : bool
        Whether the gates are normalized, with weights of each cell of the grid.
    forget_bias : float
        Added inside both forget gates.
    decoupling : bool
        Whether there is an adapter for the decoupling loss of PredRNN-V2; a forecast does not
        use it.

    Examples
    --------
    >>> PredRNNConfig.icar_enso().describe().total.parameters
    23838720
    """

    hidden: tuple[int, ...] = (128, 128, 128, 128)
    kernel: int = 5
    patch: int = 4
    layer_norm: bool = False
    forget_bias: float = 1.0
    decoupling: bool = False

    def check(self) -> None:
        """Raise ConfigError if the layers do not fit each other."""
        check_positive(self, "hidden", "kernel", "patch")
        if len(set(self.hidden)) != 1:
            raise ConfigError(
                f"hidden={self.hidden}: the spatiotemporal memory runs through all layers, give "
                "them the same number of channels"
            )
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel must be odd, to keep the grid centered; got {self.kernel}")

    def build(self) -> PredRNN:
        """Return a new network."""
        return PredRNN(self)

    @classmethod
    def sevir(cls) -> PredRNNConfig:
        """SEVIR, 13 -> 12 frames of 384 x 384: the row of the table (46,546,944 parameters)."""
        return cls(input_shape=(13, 384, 384, 1), target_shape=(12, 384, 384, 1), patch=32)

    @classmethod
    def icar_enso(cls) -> PredRNNConfig:
        """ICAR-ENSO, 12 -> 14 months of 24 x 48 cells: the row of the table (23,838,720)."""
        return cls()


class PredRNNState(NamedTuple):
    """What PredRNN remembers, one entry per layer, each (N, hidden, h, w).

    ``increments`` are the pairs (delta c, delta m) that the last step added to the memories.
    """

    h: tuple[Tensor, ...]
    c: tuple[Tensor, ...]
    m: Tensor
    increments: tuple[tuple[Tensor, Tensor], ...]


class SpatioTemporalLSTMCell(nn.Module):
    """One layer of one step.

    Parameters
    ----------
    channels : int
        Channels of the input.
    config : PredRNNConfig
        Sizes.
    """

    def __init__(self, channels: int, config: PredRNNConfig) -> None:
        super().__init__()
        n = config.hidden[0]
        self.forget_bias = config.forget_bias
        self.conv_x = gates(channels, 7 * n, config)
        self.conv_h = gates(n, 4 * n, config)
        self.conv_m = gates(n, 3 * n, config)
        self.conv_o = gates(2 * n, n, config)
        self.conv_last = nn.Conv2d(2 * n, n, 1, bias=False)

    def forward(self, x: Tensor, h: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, ...]:
        """Return h', c', m', delta c and delta m, each (N, hidden, h, w)."""
        i_x, f_x, g_x, i_xm, f_xm, g_xm, o_x = self.conv_x(x).chunk(7, dim=1)
        i_h, f_h, g_h, o_h = self.conv_h(h).chunk(4, dim=1)
        i_m, f_m, g_m = self.conv_m(m).chunk(3, dim=1)
        delta_c = torch.sigmoid(i_x + i_h) * torch.tanh(g_x + g_h)
        c = torch.sigmoid(f_x + f_h + self.forget_bias) * c + delta_c
        delta_m = torch.sigmoid(i_xm + i_m) * torch.tanh(g_xm + g_m)
        m = torch.sigmoid(f_xm + f_m + self.forget_bias) * m + delta_m
        memory = torch.cat([c, m], dim=1)
        o = torch.sigmoid(o_x + o_h + self.conv_o(memory))
        return o * torch.tanh(self.conv_last(memory)), c, m, delta_c, delta_m


class PredRNN(NextFrame):
    """Forecast of T_out frames from T frames of a grid, frame by frame.

    Parameters
    ----------
    config : PredRNNConfig
        Sizes.

    Examples
    --------
    >>> config = PredRNNConfig(
    ...     input_shape=(3, 10, 14, 2), target_shape=(2, 10, 14, 1), hidden=(4, 4), kernel=3
    ... )
    >>> PredRNN(config)(torch.randn(1, 3, 10, 14, 2)).shape
    torch.Size([1, 2, 10, 14, 1])
    """

    config: PredRNNConfig

    def __init__(self, config: PredRNNConfig) -> None:
        super().__init__(config, config.patch)
        area, n = config.patch**2, config.hidden[0]
        inputs = (area * config.input_shape[-1], *config.hidden[:-1])
        self.cell_list = nn.ModuleList(SpatioTemporalLSTMCell(c, config) for c in inputs)
        self.conv_last = nn.Conv2d(n, area * emitted(config), 1, bias=False)
        if config.decoupling:
            self.adapter = nn.Conv2d(n, n, 1, bias=False)

    def start(self, frame: Tensor) -> PredRNNState:
        """Return empty memories for frames (N, p p C, h, w)."""
        layers = len(self.cell_list)
        empty = frame.new_zeros(len(frame), self.config.hidden[0], *frame.shape[-2:])
        return PredRNNState((empty,) * layers, (empty,) * layers, empty, ())

    def step(self, frame: Tensor, state: PredRNNState) -> tuple[Tensor, PredRNNState]:
        """Return the prediction (N, p p C_e, h, w) of the frame after this one, and the state."""
        h, c, increments = list(state.h), list(state.c), []
        x, m = frame, state.m
        for n, cell in enumerate(self.cell_list):
            h[n], c[n], m, *added = cell(x, h[n], c[n], m)
            increments.append((added[0], added[1]))
            x = h[n]
        return self.conv_last(x), PredRNNState(tuple(h), tuple(c), m, tuple(increments))
