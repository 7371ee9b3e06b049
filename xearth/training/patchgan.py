r"""Discriminator of patches: which patches of a frame are data, and which are decoded.

Each output sees a patch of the frame, 70 x 70 cells with three layers; convolutions 4 x 4,
batch normalization and leaky rectifiers. A positive output means data.

Source: Isola et al. (2017), *Image-to-Image Translation with Conditional Adversarial
Networks* (PatchGAN); widths of Esser et al. (2021), *Taming Transformers*.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import ConfigError
from ..models.layers import to_frames

__all__ = ["Discriminator"]


class Discriminator(nn.Module):
    """Logits of patches of single frames.

    Parameters
    ----------
    channels : int
        Channels of a frame.
    units : int
        Channels of the first layer; they double with each layer, up to eight times.
    layers : int
        Layers that halve rows and columns.

    Raises
    ------
    ConfigError
        If there is no layer.

    Examples
    --------
    >>> import torch
    >>> sum(p.numel() for p in Discriminator(1).parameters())
    2763585
    >>> Discriminator(1, units=8)(torch.randn(2, 3, 64, 64, 1)).shape
    torch.Size([2, 3, 6, 6])
    """

    def __init__(self, channels: int, *, units: int = 64, layers: int = 3) -> None:
        super().__init__()
        if min(channels, units, layers) < 1:
            raise ConfigError(
                f"channels={channels}, units={units}, layers={layers}: each must be at least 1"
            )
        widths = [units * min(2**k, 8) for k in range(layers + 1)]
        parts: list[nn.Module] = [nn.Conv2d(channels, units, 4, 2, 1), nn.LeakyReLU(0.2)]
        for k in range(1, layers + 1):
            stride = 2 if k < layers else 1
            parts += [
                nn.Conv2d(widths[k - 1], widths[k], 4, stride, 1, bias=False),
                nn.BatchNorm2d(widths[k]),
                nn.LeakyReLU(0.2),
            ]
        self.main = nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        for part in self.main:
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, 0.0, 0.02)
            elif isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.weight, 1.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Judge x: (N, T, H, W, C) -> (N, T, h, w)."""
        return self.main(to_frames(x)).squeeze(1).unflatten(0, x.shape[:2])
