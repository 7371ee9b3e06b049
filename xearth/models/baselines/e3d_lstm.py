r"""E3D-LSTM: 3-D convolutions in the cell, and a recall of all that the cell has stored.

Frames come as patches; the input of step t are the last ``window`` of them, stacked in time.
With :math:`C_0, \dots, C_{t-1}` the stored cells, LN a normalization over all axes of a sample
with one scale and offset per channel, and :math:`*` 3-D convolutions with bias,

.. math::
    (i, g, r, o_h) &\leftarrow \mathrm{LN}(W_h * h), \qquad
    (i, g, r, o_x, i', g', f') \leftarrow \mathrm{LN}(W_x * x), \qquad
    (i', f', g', m_m) \leftarrow \mathrm{LN}(W_m * m), \\
    c' &= \mathrm{LN}\big(c + \mathrm{softmax}(\sigma(r)\, C^\top)\, C\big)
          + \sigma(i) \odot \tanh(g), \\
    m' &= \sigma(f' + 1) \odot \tanh(m_m) + \sigma(i') \odot \tanh(g'), \\
    o &= \tanh(o_x + o_h + W_{oc} * c' + W_{om} * m'), \qquad
    h' = \tanh(W_{out} [c', m']) \odot \sigma(o),

terms of one letter from two convolutions being added before the function. The global memory m
runs through the layers and on to the first layer of the next step.

The published code hands on the memory it was given, so that its global memory is zero for
ever. That is ``memory="given"``, kept by the set-ups of the tables; the plain configuration
hands on the new one.

Source: Wang, Jiang, Yang, Li, Long and Fei-Fei (2019), *Eidetic 3D LSTM: A Model for Video
Prediction and Beyond*, ICLR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ConfigError
from .common import BaselineConfig, check_positive
from .next_frame import NextFrame, emitted

__all__ = ["E3DLSTM", "E3DLSTMConfig", "E3DLSTMState"]

_EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True)
class E3DLSTMConfig(BaselineConfig):
    """Sizes of an E3D-LSTM.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon; H and W need not be multiples of the patch.
    patch : int
        Cells along the side of a patch.
    hidden : tuple of int
        Channels of each layer; all the same, because the global memory runs through them.
    window : int
        Frames in the input of a step, and of each state.
    kernel : tuple of int
        (time, height, width) of the convolutions; height and width odd.
    memory : str
        Which global memory a layer hands on: ``new``, or the one it was ``given``, as the
        published code does.

    Raises
    ------
    ConfigError
        If a value is impossible; the message says which would do.

    Examples
    --------
    >>> E3DLSTMConfig.sevir().patch
    32
    """

    patch: int = 4
    hidden: tuple[int, ...] = (64, 64, 64, 64)
    window: int = 2
    kernel: tuple[int, int, int] = (2, 5, 5)
    memory: Literal["new", "given"] = "new"

    def check(self) -> None:
        """Raise ConfigError if a size or the name of the memory is impossible."""
        check_positive(self, "patch", "hidden", "window", "kernel")
        if len(set(self.hidden)) != 1:
            raise ConfigError(
                f"the global memory runs through all layers of an E3D-LSTM: hidden={self.hidden} "
                "must be the same number for each"
            )
        if len(self.kernel) != 3 or self.kernel[1] % 2 == 0 or self.kernel[2] % 2 == 0:
            raise ConfigError(
                "E3DLSTMConfig.kernel must be (time, height, width) with odd height and width; "
                f"got {self.kernel}"
            )
        if self.memory not in ("new", "given"):
            raise ConfigError(f"memory must be 'new' or 'given'; got {self.memory!r}")

    def build(self) -> E3DLSTM:
        """Return a new network.

        Examples
        --------
        >>> config = E3DLSTMConfig(
        ...     input_shape=(3, 8, 8, 1), target_shape=(2, 8, 8, 1), hidden=(4, 4)
        ... )
        >>> config.build()(torch.randn(1, 3, 8, 8, 1)).shape
        torch.Size([1, 2, 8, 8, 1])
        """
        return E3DLSTM(self)

    @classmethod
    def sevir(cls) -> E3DLSTMConfig:
        """SEVIR, 13 -> 12 frames of 384 x 384: the network of the table (35,608,064)."""
        return cls(
            input_shape=(13, 384, 384, 1),
            target_shape=(12, 384, 384, 1),
            patch=32,
            memory="given",
        )

    @classmethod
    def icar_enso(cls) -> E3DLSTMConfig:
        """ICAR-ENSO, 12 -> 14 months of 24 x 48: the network of the table (12,898,832)."""
        return cls(memory="given")


class E3DLSTMState(NamedTuple):
    """What an E3D-LSTM remembers between steps.

    Attributes
    ----------
    frames : Tensor
        (N, patch channels, window - 1, h, w), the last inputs.
    cells : tuple of CellState
        One per layer.
    memory : Tensor
        (N, hidden, window, h, w), the global memory.
    """

    frames: Tensor
    cells: tuple[CellState, ...]
    memory: Tensor


class CellState(NamedTuple):
    """State of one layer.

    Attributes
    ----------
    h, c : Tensor
        (N, hidden, window, h, w), output and cell.
    stored : Tensor
        (N, tokens, hidden), all cells before ``c``, cell by cell.
    """

    h: Tensor
    c: Tensor
    stored: Tensor


def _layer_norm(channels: int) -> nn.GroupNorm:
    """Return a norm over all axes of a sample, with one scale and offset per channel."""
    return nn.GroupNorm(1, channels, eps=_EPSILON)


class SameConv3d(nn.Conv3d):
    """3-D convolution that keeps the grid; an even kernel sees one more cell ahead."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int]) -> None:
        super().__init__(inputs, outputs, kernel)
        self.around = [side for k in reversed(kernel) for side in ((k - 1) // 2, k // 2)]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x: (N, inputs, T, H, W) -> (N, outputs, T, H, W)."""
        return super().forward(functional.pad(x, self.around))


def _tokens(x: Tensor) -> Tensor:
    """Return (N, C, T, H, W) as tokens (N, T*H*W, C)."""
    return x.flatten(2).transpose(1, 2)


class EideticCell(nn.Module):
    """One layer of an E3D-LSTM; see the module for its formulas.

    Parameters
    ----------
    inputs, hidden : int
        Channels.
    kernel : tuple of int
        Of the convolutions.
    """

    def __init__(self, inputs: int, hidden: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv_h = SameConv3d(hidden, 4 * hidden, kernel)
        self.ln_h = _layer_norm(4 * hidden)
        self.conv_x = SameConv3d(inputs, 7 * hidden, kernel)
        self.ln_x = _layer_norm(7 * hidden)
        self.ln_attn = _layer_norm(hidden)
        self.conv_m = SameConv3d(hidden, 4 * hidden, kernel)
        self.ln_m = _layer_norm(4 * hidden)
        self.conv_oc = SameConv3d(hidden, hidden, kernel)
        self.conv_om = SameConv3d(hidden, hidden, kernel)
        self.conv_out = nn.Conv3d(2 * hidden, hidden, 1)

    def forward(self, x: Tensor, state: CellState, m: Tensor) -> tuple[CellState, Tensor]:
        """Return the next state and the new global memory; x and m are (N, ., window, h, w)."""
        h, c, stored = state
        i_h, g_h, r_h, o_h = self.ln_h(self.conv_h(h)).chunk(4, 1)
        i_x, g_x, r_x, o_x, im_x, gm_x, fm_x = self.ln_x(self.conv_x(x)).chunk(7, 1)
        im, fm, gm, mm = self.ln_m(self.conv_m(m)).chunk(4, 1)

        stored = torch.cat([stored, _tokens(c)], 1)
        recalled = self._recall(torch.sigmoid(r_x + r_h), stored)
        c = self.ln_attn(c + recalled) + torch.sigmoid(i_x + i_h) * torch.tanh(g_x + g_h)

        kept = torch.sigmoid(fm_x + fm + 1.0) * torch.tanh(mm)
        m = kept + torch.sigmoid(im_x + im) * torch.tanh(gm_x + gm)

        o = torch.tanh(o_x + o_h + self.conv_oc(c) + self.conv_om(m))
        h = torch.tanh(self.conv_out(torch.cat([c, m], 1))) * torch.sigmoid(o)
        return CellState(h, c, stored), m

    @staticmethod
    def _recall(r: Tensor, stored: Tensor) -> Tensor:
        """Attend from r: (N, C, T, H, W) to the tokens stored: (N, S, C), without scaling."""
        weights = torch.softmax(_tokens(r) @ stored.transpose(1, 2), -1)
        return (weights @ stored).transpose(1, 2).unflatten(2, r.shape[2:])


class E3DLSTM(NextFrame):
    """Next-frame network of eidetic cells.

    Parameters
    ----------
    config : E3DLSTMConfig
        Sizes.

    Examples
    --------
    >>> config = E3DLSTMConfig(
    ...     input_shape=(3, 9, 14, 1), target_shape=(2, 9, 14, 1), hidden=(4, 4)
    ... )
    >>> E3DLSTM(config)(torch.randn(1, 3, 9, 14, 1)).shape
    torch.Size([1, 2, 9, 14, 1])
    """

    def __init__(self, config: E3DLSTMConfig) -> None:
        super().__init__(config, patch_size=config.patch)
        self.hidden, self.window, self.memory = config.hidden[0], config.window, config.memory
        channels = config.input_shape[3] * config.patch**2
        inputs = (channels, *config.hidden[:-1])
        self.cells = nn.ModuleList(
            EideticCell(n, hidden, config.kernel)
            for n, hidden in zip(inputs, config.hidden, strict=True)
        )
        self.head = nn.Conv3d(self.hidden, emitted(config) * config.patch**2, (config.window, 1, 1))

    def start(self, frame: Tensor) -> E3DLSTMState:
        """Return the zero state before the first frame (N, p p C, h, w)."""
        N, channels, *size = frame.shape
        zero = frame.new_zeros(N, self.hidden, self.window, *size)
        cell = CellState(zero, zero, frame.new_zeros(N, 0, self.hidden))
        before = frame.new_zeros(N, channels, self.window - 1, *size)
        return E3DLSTMState(before, (cell,) * len(self.cells), zero)

    def step(self, frame: Tensor, state: E3DLSTMState) -> tuple[Tensor, E3DLSTMState]:
        """Return the prediction (N, p p C_e, h, w) of the frame after this one, and the state."""
        x = torch.cat([state.frames, frame[:, :, None]], 2)
        frames, cells, memory = x[:, :, 1:], [], state.memory
        for cell, before in zip(self.cells, state.cells, strict=True):
            after, new = cell(x, before, memory)
            cells.append(after)
            x, memory = after.h, new if self.memory == "new" else memory
        return self.head(x)[:, :, 0], E3DLSTMState(frames, tuple(cells), memory)
