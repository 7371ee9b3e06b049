r"""The denoiser: a U-shaped network of cuboid attention over context and noisy forecast.

.. math::
    \hat\epsilon = U(z_t, t \mid z_c) = P\Big(\mathrm{Up}\big(\mathrm{Down}
    ([z_c \,|\, z_t], t)\big)\Big)_{\text{frames of } z_t}

The context :math:`z_c` stands before the noisy forecast :math:`z_t` on one time axis, and one
more channel says which is which (1 and 0). What the output means - noise, clean field,
velocity - is a matter of the process it was trained for.

Source: Gao et al. (2023), *PreDiff: Precipitation Nowcasting with Latent Diffusion Models*.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import GridMismatchError
from .config import DenoiserConfig
from .trunk import Down, Up, check_field, check_times, start_at_zero

__all__ = ["Denoiser"]


class Denoiser(nn.Module):
    """Network output for a noisy latent forecast, its diffusion time and a latent context.

    Parameters
    ----------
    config : DenoiserConfig
        Sizes and choices.

    Examples
    --------
    >>> config = DenoiserConfig(
    ...     input_shape=(3, 4, 6, 2), target_shape=(2, 4, 6, 2), base_units=8, depth=(1, 1)
    ... )
    >>> network = Denoiser(config).eval()
    >>> z, context = torch.randn(5, 2, 4, 6, 2), torch.randn(1, 3, 4, 6, 2)
    >>> network(z, torch.tensor([999]), context).shape
    torch.Size([5, 2, 4, 6, 2])
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        channels, frames = config.input_shape[-1], config.target_shape[0]
        self.down = Down(config, channels + 1, read_vectors=True)
        self.up = Up(config, kernel=config.upsample_kernel, skip=config.skip, frames=frames)
        self.out = nn.Linear(config.units[0], channels)
        start_at_zero(self)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, z_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """Denoise.

        Parameters
        ----------
        z_t : Tensor
            Noisy latent forecasts (N, T, H, W, C).
        t : Tensor
            Diffusion times (N,), or one for all.
        context : Tensor
            Latent contexts (N, T_c, H, W, C), or one for all.

        Returns
        -------
        Tensor
            (N, T, H, W, C); exactly 0 from a new network.

        Raises
        ------
        GridMismatchError
            If a shape is not the one the network was built for.
        """
        check_field("z_t", z_t, self.config.target_shape)
        check_field("context", context, self.config.input_shape)
        if len(context) not in (1, len(z_t)):
            raise GridMismatchError(
                f"there are {len(context)} contexts for {len(z_t)} noisy forecasts; give one "
                "for all, or one for each"
            )
        context = context.expand(len(z_t), -1, -1, -1, -1)
        x = torch.cat([context, z_t], dim=1)
        known = torch.zeros_like(x[..., :1])
        known[:, : context.shape[1]] = 1.0
        features = self.down(torch.cat([x, known], dim=-1), check_times(t, len(x)))
        return self.out(self.up(features))
