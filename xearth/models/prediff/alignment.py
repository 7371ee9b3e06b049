r"""The alignment network: what a noisy latent forecast says of its clean field.

.. math:: u = U_\phi(z_t, t) \in \mathbb{R}^{T \times m}

It is trained to read, from a noisy latent forecast at diffusion time t, m numbers of each
frame of the clean field, such as its mean intensity; the gradient of a penalty on u with
respect to :math:`z_t` steers sampling. It sees no context.

Source: Gao et al. (2023), *PreDiff: Precipitation Nowcasting with Latent Diffusion Models*,
section 3.2.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from ..layers import to_frames
from .config import AlignmentConfig
from .layers import AttentionPool, group_norm, normalized
from .trunk import Down, check_field, check_times, start_at_zero

__all__ = ["Alignment"]


class Alignment(nn.Module):
    """Numbers of each frame, read from a noisy latent forecast.

    Parameters
    ----------
    config : AlignmentConfig
        Sizes and choices.

    Examples
    --------
    >>> import torch
    >>> config = AlignmentConfig(base_units=8, input_shape=(3, 4, 6, 2), frames=2)
    >>> Alignment(config)(torch.randn(5, 3, 4, 6, 2), torch.tensor([10])).shape
    torch.Size([5, 2, 1])
    """

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.config = config
        self.down = Down(config, config.input_shape[-1])
        units, cells = config.units[-1], math.prod(config.shapes[-1][1:])
        self.pool_norm = group_norm(units)
        self.pool = AttentionPool(cells, units, heads=config.heads, outputs=config.outputs)
        start_at_zero(self)

    def forward(self, z_t: Tensor, t: Tensor) -> Tensor:
        """Read numbers.

        Parameters
        ----------
        z_t : Tensor
            Noisy latent forecasts (N, T, H, W, C).
        t : Tensor
            Diffusion times (N,), or one for all.

        Returns
        -------
        Tensor
            (N, frames, outputs).

        Raises
        ------
        GridMismatchError
            If a shape is not the one the network was built for.
        """
        check_field("z_t", z_t, self.config.input_shape)
        x = self.down(z_t, check_times(t, len(z_t))).levels[-1][:, -self.config.frames :]
        cells = functional.silu(normalized(self.pool_norm, to_frames(x))).flatten(2).mT
        return self.pool(cells).unflatten(0, (len(z_t), -1))
