r"""UNet: all frames of the history as channels, all frames of the forecast as channels, one shot.

Level :math:`i` of the encoder has :math:`b\,2^i` channels at :math:`2^{-i}` of the size, the
center :math:`32\,b`; the decoder enlarges by a transposed convolution, puts the encoder's field
beside it and convolves. Batch normalization keeps 0.99 of its statistics at each step and
moves them by the biased variance of the batch, as Keras does.

Source: Veillette, Samsi and Mattioli (2020), *SEVIR: A Storm Event Imagery Dataset for Deep
Learning Applications in Radar and Satellite Meteorology*, NeurIPS.
"""

from __future__ import annotations

from dataclasses import dataclass

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

__all__ = ["BatchNorm", "ConvBlock", "UNet", "UNetConfig", "UpBlock"]

EPS = 1e-3
MOMENTUM = 0.01


@dataclass(frozen=True, kw_only=True)
class UNetConfig(BaselineConfig):
    """Sizes of :class:`UNet`; grids that 2 ** levels does not divide are padded.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon.
    base_units : int
        Channels of level 0; each level has twice those of the one before.
    levels : int
        How often the grid is halved.
    center_factor : int
        Channels at the coarsest grid, in ``base_units``.

    Examples
    --------
    >>> UNetConfig.icar_enso().describe().total.parameters
    12062254
    """

    base_units: int = 32
    levels: int = 3
    center_factor: int = 32

    def check(self) -> None:
        """Raise ConfigError if a size is not positive or the center is a single cell."""
        check_positive(self, "base_units", "levels", "center_factor")
        _, H, W, _ = self.input_shape
        if max(H, W) <= 2**self.levels:
            raise ConfigError(
                f"{self.levels} levels reduce {H} x {W} cells to one, which has no variance to "
                "normalize by: use fewer levels or a larger grid"
            )

    @property
    def units(self) -> tuple[int, ...]:
        """Channels of each level, the center last."""
        levels = tuple(self.base_units * 2**i for i in range(self.levels))
        return (*levels, self.base_units * self.center_factor)

    def build(self) -> UNet:
        """Return a new network with the published initialization."""
        return UNet(self)

    @classmethod
    def sevir(cls) -> UNetConfig:
        """SEVIR, 13 -> 12 frames of 384 x 384: the row of the table (16,556,044 parameters)."""
        return cls(input_shape=(13, 384, 384, 1), target_shape=(12, 384, 384, 1), levels=4)

    @classmethod
    def icar_enso(cls) -> UNetConfig:
        """ICAR-ENSO, 12 -> 14 months of 24 x 48 cells: the row of the table (12,062,254)."""
        return cls()


class BatchNorm(nn.Module):
    """Batch normalization of (N, C, H, W) whose running variance is that of the batch, biased.

    torch moves its running variance by the unbiased one, n / (n - 1) times as large.

    Parameters
    ----------
    channels : int
        C.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize; in training by the statistics of the batch, which move the kept ones."""
        mean, var, weight, bias = self.running_mean, self.running_var, self.weight, self.bias
        if not self.training:
            return functional.batch_norm(x, mean, var, weight, bias, False, MOMENTUM, EPS)
        batch_mean, batch_var = torch.zeros_like(mean), torch.zeros_like(var)
        y = functional.batch_norm(x, batch_mean, batch_var, weight, bias, True, 1.0, EPS)
        n = x.numel() // x.shape[1]
        with torch.no_grad():
            mean.lerp_(batch_mean, MOMENTUM)
            var.lerp_(batch_var * ((n - 1) / n), MOMENTUM)
        return y


class ConvBlock(nn.Module):
    """Twice a convolution of 3 x 3, batch normalization and ReLU: (N, C, H, W) -> (N, C', H, W)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, out_channels, 3, padding=1),
            BatchNorm(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            BatchNorm(out_channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return self.net(x)


class UpBlock(nn.Module):
    """Enlarge (N, C, H / 2, W / 2), put it beside (N, C', H, W), convolve to (N, C', H, W)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, out_channels, 2, stride=2)
        self.bn0 = BatchNorm(2 * out_channels)
        self.net = ConvBlock(2 * out_channels, out_channels).net

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Enlarge x and read the encoder's field beside it."""
        return self.net(functional.relu(self.bn0(torch.cat([skip, self.up(x)], dim=1))))


class UNet(Baseline):
    """Forecast of T_out frames from T frames of a grid.

    Parameters
    ----------
    config : UNetConfig
        Sizes.

    Examples
    --------
    >>> config = UNetConfig(
    ...     input_shape=(4, 10, 14, 2), target_shape=(3, 10, 14, 1), base_units=2, levels=2
    ... )
    >>> UNet(config)(torch.randn(1, 4, 10, 14, 2)).shape
    torch.Size([1, 3, 10, 14, 1])
    """

    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        T, _, _, C = config.input_shape
        T_out, _, _, C_out = config.target_shape
        units = config.units
        self.enc = nn.ModuleList(
            ConvBlock(a, b) for a, b in zip((T * C, *units), units[:-1], strict=False)
        )
        self.center = ConvBlock(units[-2], units[-1])
        self.dec = nn.ModuleList(UpBlock(units[i + 1], units[i]) for i in range(config.levels))
        self.out = nn.Conv2d(units[0], T_out * C_out, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _forecast(self, x: Tensor) -> Tensor:
        T_out, H, W, _ = self.config.target_shape
        h = frames_as_channels(pad_to_multiple(x, 2**self.config.levels))
        skips = []
        for block in self.enc:
            skips.append(block(h))
            h = functional.max_pool2d(skips[-1], 2)
        h = self.center(h)
        for block, skip in zip(reversed(self.dec), reversed(skips), strict=True):
            h = block(h, skip)
        return crop(channels_as_frames(self.out(h), T_out), H, W)
