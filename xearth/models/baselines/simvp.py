r"""SimVP: frames encoded one by one, all of them translated at once, decoded one by one.

.. math::
    z_t, s_t = E(x_t), \qquad
    (z'_1, \dots, z'_{T_{out}}) = \mathrm{Translator}(z_1, \dots, z_T), \qquad
    \hat x_t = D(z'_t, s'_t)

The encoder halves the frame with every second convolution; :math:`s_t` is the output of the
first one, at full size, which the last one of the decoder reads. The translator sees the
channels of all frames side by side. Its blocks are

* ``gsta``: gated attention by large kernels (5 x 5, then 7 x 7 over every third cell) and a
  feed-forward network with a 3 x 3 kernel inside;
* ``tau``: the same with a second weight, of the channels, in place of the gate.

Published code gives as many frames as it gets; a longer horizon is reached by a second pass and
a shorter one by dropping frames. Here the last map of the translator makes the frames of the
horizon, and :math:`s'` is :math:`s` with frames repeated or averaged to their number, so that
any horizon costs one pass. With as many frames as in the history it is the published network.

Sources: Gao, Tan, Wu and Li (2022), *SimVP: Simpler yet Better Video Prediction*, CVPR; Tan,
Gao, Li and Li (2022), *SimVPv2*; Tan et al. (2023), *Temporal Attention Unit*, CVPR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ConfigError
from ..dropout import dropout
from .common import (
    Baseline,
    BaselineConfig,
    channels_first,
    channels_last,
    check_positive,
    crop,
    pad_to_multiple,
)

__all__ = ["SimVP", "SimVPConfig"]

_FIRST_DROP_PATH = 0.01
_LAYER_SCALE = 0.01


@dataclass(frozen=True, kw_only=True)
class SimVPConfig(BaselineConfig):
    """Sizes of a SimVP.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon.
    width : int
        Channels of each frame in encoder and decoder, an even number.
    layers : int
        Convolutions of encoder and of decoder, an even number; every second one halves H and W.
    translator : str
        ``gsta`` or ``tau``.
    translator_width, blocks : int
        Channels and number of blocks of the translator; at least 2 blocks.
    ratio : float
        Width inside the feed-forward networks, in widths of their block.
    drop, drop_path : float
        Dropout in the feed-forward networks; probability with which the last block is left
        out of a sample, rising from 0.01 (or from 0, if it is less) in the first.
    encoder_kernel, decoder_kernel : int
        Odd sizes of the convolutions.

    Raises
    ------
    ConfigError
        If a value is impossible; the message says which would do.

    Examples
    --------
    >>> SimVPConfig.sevir().multiple
    8
    """

    width: int = 32
    layers: int = 2
    translator: Literal["gsta", "tau"] = "gsta"
    translator_width: int = 256
    blocks: int = 8
    ratio: float = 8.0
    drop: float = 0.0
    drop_path: float = 0.0
    encoder_kernel: int = 3
    decoder_kernel: int = 3

    @property
    def multiple(self) -> int:
        """What H and W are made multiples of."""
        return 2 ** (self.layers // 2)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each convolution of the encoder."""
        return (1, 2) * (self.layers // 2)

    def check(self) -> None:
        """Raise ConfigError if a size, a probability or the name of the translator is wrong."""
        check_positive(self, "width", "layers", "translator_width", "blocks")
        check_positive(self, "encoder_kernel", "decoder_kernel")
        if self.width % 2 or self.layers % 2:
            raise ConfigError(
                f"SimVPConfig.width={self.width} is normalized in two groups and layers="
                f"{self.layers} come in pairs: both must be even"
            )
        if self.encoder_kernel % 2 == 0 or self.decoder_kernel % 2 == 0:
            raise ConfigError(
                f"encoder_kernel={self.encoder_kernel} and decoder_kernel={self.decoder_kernel} "
                "are sizes of centered convolutions: both must be odd"
            )
        if self.blocks < 2:
            raise ConfigError(
                f"the translator needs a block to widen and one to narrow; got blocks={self.blocks}"
            )
        if self.translator not in _TRANSLATORS:
            raise ConfigError(
                f"translator must be one of {', '.join(_TRANSLATORS)}; got {self.translator!r}"
            )
        if int(self.ratio * self.translator_width) < 1:
            raise ConfigError(f"ratio must leave at least one channel; got {self.ratio!r}")
        for name in ("drop", "drop_path"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} must be in [0, 1); got {getattr(self, name)!r}")

    def build(self) -> SimVP:
        """Return a new network.

        Examples
        --------
        >>> config = SimVPConfig(translator_width=16, blocks=2)
        >>> config.build()(torch.randn(1, 12, 24, 48, 1)).shape
        torch.Size([1, 14, 24, 48, 1])
        """
        return SimVP(self)

    @classmethod
    def sevir(cls) -> SimVPConfig:
        """SEVIR, 13 -> 12 frames of 384 x 384, an eighth in the translator (10.5 M).

        Published code makes a 13th frame and drops it, for 0.90 more GMAC (38.78, not 37.88).
        """
        return cls(
            input_shape=(13, 384, 384, 1), target_shape=(12, 384, 384, 1), width=16, layers=6
        )

    @classmethod
    def icar_enso(cls) -> SimVPConfig:
        """ICAR-ENSO, 12 -> 14 months of 24 x 48 cells, a half in the translator (12.8 M)."""
        return cls()


class ConvUnit(nn.Module):
    """Convolution, normalization in two groups, SiLU; with a stride, or enlarging the frame twice.

    Parameters
    ----------
    inputs, outputs, kernel : int
        Channels and odd size of the convolution.
    stride : int
        Of the convolution.
    enlarge : bool
        Whether the frame is doubled.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, enlarge: bool = False
    ) -> None:
        super().__init__()
        channels = 4 * outputs if enlarge else outputs
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, kernel // 2)
        nn.init.trunc_normal_(self.conv.weight, std=0.02)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.enlarge = enlarge
        self.norm = nn.GroupNorm(2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Transform frames x: (N, inputs, h, w)."""
        y = self.conv(x)
        return functional.silu(self.norm(functional.pixel_shuffle(y, 2) if self.enlarge else y))


def _wide(dim: int) -> nn.Sequential:
    """Return a depth-wise kernel of 5 x 5, then one of 7 x 7 over every third cell."""
    return nn.Sequential(
        nn.Conv2d(dim, dim, 5, padding=2, groups=dim),
        nn.Conv2d(dim, dim, 7, padding=9, dilation=3, groups=dim),
    )


class GatedAttention(nn.Module):
    """Weight from large kernels, gated by itself.

    Parameters
    ----------
    dim : int
        Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.wide = _wide(dim)
        self.mix = nn.Conv2d(dim, 2 * dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x: (N, dim, h, w) attended."""
        f, g = self.mix(self.wide(x)).chunk(2, 1)
        return torch.sigmoid(g) * f


class TemporalAttention(nn.Module):
    """Weight from large kernels times a weight of the channels times the input.

    Parameters
    ----------
    dim : int
        Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.wide = _wide(dim)
        self.mix = nn.Conv2d(dim, dim, 1)
        inside = max(1, dim // max(dim // 16, 4))
        self.channels = nn.Sequential(
            nn.Linear(dim, inside, bias=False),
            nn.ReLU(),
            nn.Linear(inside, dim, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x: (N, dim, h, w) attended."""
        weight = self.channels(x.mean((2, 3)))[:, :, None, None]
        return weight * self.mix(self.wide(x)) * x


_TRANSLATORS: dict[str, type[GatedAttention | TemporalAttention]] = {
    "gsta": GatedAttention,
    "tau": TemporalAttention,
}


class TranslatorBlock(nn.Module):
    """Attention and a feed-forward network, each with a residual; then, perhaps, a new width.

    Parameters
    ----------
    dim, outputs : int
        Channels of the block and behind it.
    config : SimVPConfig
        Attention, width inside and dropout.
    drop_path : float
        Probability with which a sample passes by.
    """

    def __init__(self, dim: int, outputs: int, config: SimVPConfig, drop_path: float) -> None:
        super().__init__()
        self.drop, self.drop_path = config.drop, drop_path
        inside = int(dim * config.ratio)
        self.norm1, self.norm2 = nn.BatchNorm2d(dim), nn.BatchNorm2d(dim)
        self.into = nn.Conv2d(dim, dim, 1)
        self.attention = _TRANSLATORS[config.translator](dim)
        self.out = nn.Conv2d(dim, dim, 1)
        self.scale1 = nn.Parameter(torch.full((dim,), _LAYER_SCALE))
        self.scale2 = nn.Parameter(torch.full((dim,), _LAYER_SCALE))
        self.fc1 = nn.Conv2d(dim, inside, 1)
        self.near = nn.Conv2d(inside, inside, 3, padding=1, groups=inside)
        self.fc2 = nn.Conv2d(inside, dim, 1)
        self.change = nn.Identity() if dim == outputs else nn.Conv2d(dim, outputs, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x: (N, dim, h, w) -> (N, outputs, h, w)."""
        n = self.norm1(x)
        attended = n + self.out(self.attention(functional.gelu(self.into(n))))
        x = x + self._path(self.scale1[:, None, None] * attended)
        h = functional.gelu(self.near(self.fc1(self.norm2(x))))
        h = dropout(self.fc2(dropout(h, self.drop, self.training)), self.drop, self.training)
        return self.change(x + self._path(self.scale2[:, None, None] * h))

    def _path(self, x: Tensor) -> Tensor:
        """Leave whole samples out, the others enlarged so that the mean stays."""
        if not self.training or self.drop_path == 0.0:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_path
        return x * kept / (1.0 - self.drop_path)


class SimVP(Baseline):
    """All frames of the horizon at once from all frames of the history.

    Parameters
    ----------
    config : SimVPConfig
        Sizes.

    Examples
    --------
    >>> config = SimVPConfig(
    ...     input_shape=(3, 9, 14, 2),
    ...     target_shape=(5, 9, 14, 1),
    ...     width=4,
    ...     translator_width=16,
    ...     blocks=2,
    ... )
    >>> SimVP(config)(torch.randn(1, 3, 9, 14, 2)).shape
    torch.Size([1, 5, 9, 14, 1])
    """

    def __init__(self, config: SimVPConfig) -> None:
        super().__init__(config)
        self.multiple = config.multiple
        width, hidden, strides = config.width, config.translator_width, config.strides
        inputs = (config.input_shape[3], *[width] * (config.layers - 1))
        self.encoder = nn.ModuleList(
            ConvUnit(n, width, config.encoder_kernel, stride=stride)
            for n, stride in zip(inputs, strides, strict=True)
        )
        widths = [hidden] * (config.blocks + 1)
        widths[0], widths[-1] = config.input_shape[0] * width, config.target_shape[0] * width
        first = min(_FIRST_DROP_PATH, config.drop_path)
        rates = torch.linspace(first, config.drop_path, config.blocks, device="cpu").tolist()
        self.translator = nn.Sequential(
            *(
                TranslatorBlock(widths[i], widths[i + 1], config, rates[i])
                for i in range(config.blocks)
            )
        )
        self.decoder = nn.ModuleList(
            ConvUnit(width, width, config.decoder_kernel, enlarge=stride == 2)
            for stride in reversed(strides)
        )
        self.readout = nn.Conv2d(width, config.target_shape[3], 1)

    def _forecast(self, x: Tensor) -> Tensor:
        T_out, H, W, _ = self.config.target_shape
        frames = channels_first(pad_to_multiple(x, self.multiple))
        z = skip = self.encoder[0](frames.flatten(0, 1))
        for unit in self.encoder[1:]:
            z = unit(z)
        z = self.translator(z.unflatten(0, frames.shape[:2]).flatten(1, 2))
        z = z.unflatten(1, (T_out, -1)).flatten(0, 1)
        for unit in self.decoder[:-1]:
            z = unit(z)
        y = self.readout(self.decoder[-1](z + self._skip(skip, frames.shape[1], T_out)))
        return crop(channels_last(y.unflatten(0, (-1, T_out))), H, W)

    @staticmethod
    def _skip(skip: Tensor, T: int, T_out: int) -> Tensor:
        """Repeat or average the frames of (N T, C, H, W) to (N T_out, C, H, W)."""
        if T_out == T:
            return skip
        frames = skip.unflatten(0, (-1, T)).transpose(1, 2)
        fitted = functional.adaptive_avg_pool3d(frames, (T_out, *skip.shape[2:]))
        return fitted.transpose(1, 2).flatten(0, 1)
