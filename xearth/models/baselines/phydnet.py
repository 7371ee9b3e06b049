r"""PhyDNet: a branch of learned finite differences beside a ConvLSTM, in the space of an encoder.

With the frame encoded to :math:`z = E(x_t)` at a quarter of its size, one step is

.. math::
    \tilde h &= h + F(h), \qquad
    h' = \tilde h + K \odot (u - \tilde h), \qquad u = E_p(z), \quad K = \sigma(W * [u, h]), \\
    r' &= \mathrm{ConvLSTM}(E_r(z)), \qquad
    \hat x_{t+1} = \mathrm{out}\big(D(D_p(h') + D_r(r'))\big),

where :math:`F` is a convolution with one filter per derivative, normalized and mixed linearly.
A loss on the moments of those filters (:mod:`xearth.training.physics_losses`) makes filter
:math:`7i + j` the finite difference :math:`\partial^{i+j} / \partial x^i \partial y^j`.

The published code ends in a sigmoid, which forces data between 0 and 1; that is the set-up of
the tables (:meth:`PhyDNetConfig.sevir`, :meth:`PhyDNetConfig.icar_enso`), while the plain
configuration ends in nothing. It also decodes both branches alone at each step, for display;
that is left out.

Source: Le Guen and Thome (2020), *Disentangling Physical Dynamics from Unknown Factors for
Unsupervised Video Prediction*, CVPR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from .common import BaselineConfig, check_positive, pad_to_multiple
from .next_frame import NextFrame, emitted

__all__ = ["PhyDNet", "PhyDNetConfig", "PhyDNetState"]

_GROUPS = 16
_SLOPE = 0.2
# by how much the encoder reduces H and W
_FACTOR = 4


@dataclass(frozen=True, kw_only=True)
class PhyDNetConfig(BaselineConfig):
    """Sizes of a PhyDNet.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon; H and W need not be multiples of 4.
    width : int
        Channels of the first convolution, a multiple of 16; both branches have twice as many.
    derivatives : int
        Odd size of the filters of the physical branch; their number is its square.
    hidden : tuple of int
        Channels of each ConvLSTM cell; the last one is decoded with the physical branch.
    kernel : int
        Odd size of the convolutions of the ConvLSTM.
    output : str
        ``identity`` or ``sigmoid`` (for data between 0 and 1).

    Raises
    ------
    ConfigError
        If a value is impossible; the message says which would do.

    Examples
    --------
    >>> PhyDNetConfig.icar_enso().hidden
    (128, 128, 64)
    """

    width: int = 32
    derivatives: int = 7
    hidden: tuple[int, ...] = (128, 128, 64)
    kernel: int = 3
    output: Literal["identity", "sigmoid"] = "identity"

    @property
    def dim(self) -> int:
        """Channels of both branches."""
        return 2 * self.width

    def check(self) -> None:
        """Raise ConfigError if a size or the name of the output is impossible."""
        check_positive(self, "width", "derivatives", "hidden", "kernel")
        if self.width % _GROUPS:
            raise ConfigError(
                f"PhyDNet normalizes in {_GROUPS} groups: width={self.width} must be a multiple "
                f"of {_GROUPS}"
            )
        if self.derivatives % 2 == 0 or self.kernel % 2 == 0:
            raise ConfigError(
                f"PhyDNetConfig.derivatives={self.derivatives} and kernel={self.kernel} are sizes "
                "of centered convolutions: both must be odd"
            )
        if self.hidden[-1] != self.dim:
            raise ConfigError(
                f"the last ConvLSTM cell has {self.hidden[-1]} channels and is decoded with the "
                f"physical branch, which has 2 * width = {self.dim}: make hidden[-1] equal to it"
            )
        if self.output not in ("identity", "sigmoid"):
            raise ConfigError(f"output must be 'identity' or 'sigmoid'; got {self.output!r}")

    def build(self) -> PhyDNet:
        """Return a new network.

        Examples
        --------
        >>> config = PhyDNetConfig(input_shape=(3, 8, 8, 1), target_shape=(2, 8, 8, 1))
        >>> config.build()(torch.randn(1, 3, 8, 8, 1)).shape
        torch.Size([1, 2, 8, 8, 1])
        """
        return PhyDNet(self)

    @classmethod
    def sevir(cls) -> PhyDNetConfig:
        """SEVIR, 13 -> 12 frames of 384 x 384: the network of the table (13,710,612)."""
        return cls(
            input_shape=(13, 384, 384, 1),
            target_shape=(12, 384, 384, 1),
            hidden=(256, 256, 256, 64),
            output="sigmoid",
        )

    @classmethod
    def icar_enso(cls) -> PhyDNetConfig:
        """ICAR-ENSO, 12 -> 14 months of 24 x 48: the network of the table (3,091,732)."""
        return cls(output="sigmoid")


class PhyDNetState(NamedTuple):
    """What a PhyDNet remembers between steps.

    Attributes
    ----------
    physics : Tensor
        (N, D, h, w), the state of the physical branch.
    cells : tuple of (Tensor, Tensor)
        (output, memory) of each ConvLSTM cell, (N, hidden, h, w).
    """

    physics: Tensor
    cells: tuple[tuple[Tensor, Tensor], ...]


def _down(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1),
        nn.GroupNorm(_GROUPS, outputs),
        nn.LeakyReLU(_SLOPE),
    )


def _enlarge(inputs: int, outputs: int, stride: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 3, stride, 1, output_padding=stride - 1)


def _up(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _enlarge(inputs, outputs, stride),
        nn.GroupNorm(_GROUPS, outputs),
        nn.LeakyReLU(_SLOPE),
    )


class PhysicalCell(nn.Module):
    r"""Advance a state by learned finite differences, then correct it by what is seen.

    Parameters
    ----------
    dim : int
        Channels of state and input.
    derivatives : int
        Odd size k of the k^2 filters.

    Examples
    --------
    >>> cell = PhysicalCell(4, 3)
    >>> cell(torch.randn(2, 4, 5, 6), torch.zeros(2, 4, 5, 6)).shape
    torch.Size([2, 4, 5, 6])
    """

    def __init__(self, dim: int, derivatives: int) -> None:
        super().__init__()
        filters = derivatives**2
        self.filters = nn.Conv2d(dim, filters, derivatives, padding=derivatives // 2)
        self.norm = nn.GroupNorm(derivatives, filters)
        self.mix = nn.Conv2d(filters, dim, 1)
        self.gate = nn.Conv2d(2 * dim, dim, 3, padding=1)

    def forward(self, u: Tensor, h: Tensor) -> Tensor:
        """Return the next state from the input u and the state h, all (N, dim, h, w)."""
        gain = torch.sigmoid(self.gate(torch.cat([u, h], 1)))
        advanced = h + self.mix(self.norm(self.filters(h)))
        return advanced + gain * (u - advanced)


class ResidualCell(nn.Module):
    """ConvLSTM cell with one convolution for its gates, in the order i, f, o, g.

    Parameters
    ----------
    inputs, hidden : int
        Channels.
    kernel : int
        Odd size of the convolution.
    """

    def __init__(self, inputs: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(inputs + hidden, 4 * hidden, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the next (output, memory), (N, hidden, h, w) each."""
        h, c = state
        i, f, o, g = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class PhyDNet(NextFrame):
    """Next-frame network of a physical and a residual branch.

    The frame is completed to multiples of 4 in each step and its prediction cut back.

    Parameters
    ----------
    config : PhyDNetConfig
        Sizes.

    Examples
    --------
    >>> config = PhyDNetConfig(input_shape=(3, 9, 14, 1), target_shape=(2, 9, 14, 1))
    >>> PhyDNet(config)(torch.randn(1, 3, 9, 14, 1)).shape
    torch.Size([1, 2, 9, 14, 1])
    """

    def __init__(self, config: PhyDNetConfig) -> None:
        super().__init__(config, patch_size=1)
        self.dim, self.hidden = config.dim, config.hidden
        self.output = nn.Sigmoid() if config.output == "sigmoid" else nn.Identity()
        channels, width, dim = config.input_shape[3], config.width, config.dim
        self.encoder = nn.Sequential(
            _down(channels, width, 2), _down(width, width, 1), _down(width, dim, 2)
        )
        self.to_physics = nn.Sequential(_down(dim, dim, 1), _down(dim, dim, 1))
        self.to_residual = nn.Sequential(_down(dim, dim, 1), _down(dim, dim, 1))
        self.physics = PhysicalCell(dim, config.derivatives)
        inputs = (dim, *config.hidden[:-1])
        self.residual = nn.ModuleList(
            ResidualCell(n, hidden, config.kernel)
            for n, hidden in zip(inputs, config.hidden, strict=True)
        )
        self.from_physics = nn.Sequential(_up(dim, dim, 1), _up(dim, dim, 1))
        self.from_residual = nn.Sequential(_up(dim, dim, 1), _up(dim, dim, 1))
        self.decoder = nn.Sequential(
            _up(dim, width, 2), _up(width, width, 1), _enlarge(width, emitted(config), 2)
        )

    def start(self, frame: Tensor) -> PhyDNetState:
        """Return the zero state before the first frame (N, C, H, W)."""
        size = tuple(-(-n // _FACTOR) for n in frame.shape[2:])
        zeros = [frame.new_zeros(len(frame), n, *size) for n in (self.dim, *self.hidden)]
        return PhyDNetState(zeros[0], tuple((zero, zero) for zero in zeros[1:]))

    def step(self, frame: Tensor, state: PhyDNetState) -> tuple[Tensor, PhyDNetState]:
        """Return the prediction (N, C_e, H, W) of the frame after (N, C, H, W), and the state."""
        H, W = frame.shape[2:]
        z = self.encoder(pad_to_multiple(frame.movedim(1, -1), _FACTOR).movedim(-1, 1))
        physics = self.physics(self.to_physics(z), state.physics)
        r, cells = self.to_residual(z), []
        for cell, before in zip(self.residual, state.cells, strict=True):
            cells.append(cell(r, before))
            r = cells[-1][0]
        y = self.decoder(self.from_physics(physics) + self.from_residual(r))
        return self.output(y)[..., :H, :W], PhyDNetState(physics, tuple(cells))
