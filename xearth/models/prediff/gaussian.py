r"""The exact predictor of a Gaussian law, to prove samplers and guidance with.

For :math:`x_0 \sim \mathcal{N}(\mu, C)` and a state :math:`z_t = \alpha_t x_0 + \sigma_t
\varepsilon`,

.. math:: \mathrm{E}[x_0 \mid z_t] = \mu + \alpha_t C (\alpha_t^2 C + \sigma_t^2 I)^{-1}
    (z_t - \alpha_t \mu).

With C stationary on a periodic grid it is diagonal in Fourier space: a field of any size costs
two transforms. No network: what a sampler makes of it can be compared with the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConfigError
from .levels import Level

__all__ = ["GaussianField"]


@dataclass(frozen=True, eq=False)
class GaussianField:
    """A stationary Gaussian field on a periodic grid, and its exact predictor.

    Parameters
    ----------
    mean : Tensor, broadcastable to (H, W)
        The mean.
    spectrum : Tensor (H, W)
        Eigenvalues of C, at the frequencies of :func:`torch.fft.fft2`.

    Raises
    ------
    ConfigError
        A spectrum that is negative or not that of a real field.

    Examples
    --------
    >>> white = GaussianField(torch.zeros(4, 4), torch.ones(4, 4))
    >>> z = torch.ones(2, 1, 4, 4, 1)
    >>> white(z, Level(500.0, 0.6, 0.8))[0, 0, 0, :, 0]
    tensor([0.6000, 0.6000, 0.6000, 0.6000])
    """

    mean: Tensor
    spectrum: Tensor

    def __post_init__(self) -> None:
        mirrored = self.spectrum.flip(0, 1).roll((1, 1), (0, 1))
        if not bool((self.spectrum >= 0.0).all()) or not torch.allclose(self.spectrum, mirrored):
            raise ConfigError(
                "GaussianField: expected eigenvalues (H, W) that are not negative and the same at "
                "opposite frequencies"
            )

    def __call__(self, z: Tensor, level: Level) -> Tensor:
        """Return E[x_0 | z], for z (N, T, H, W, C), each frame and channel on its own."""
        spectrum = self.spectrum[..., : self.spectrum.shape[1] // 2 + 1]
        gain = level.alpha * spectrum / (level.alpha**2 * spectrum + level.sigma**2)
        mean = self.mean.to(z)[..., None]
        return mean + self._filtered(z - level.alpha * mean, gain)

    def covariance(self, fields: Tensor) -> Tensor:
        """Return C fields, for fields (N, T, H, W, C)."""
        return self._filtered(fields, self.spectrum[..., : self.spectrum.shape[1] // 2 + 1])

    def draw(self, noise: Tensor) -> Tensor:
        """Return fields of this law from white noise (N, T, H, W, C)."""
        root = self.spectrum[..., : self.spectrum.shape[1] // 2 + 1].sqrt()
        return self.mean.to(noise)[..., None] + self._filtered(noise, root)

    def _filtered(self, fields: Tensor, gain: Tensor) -> Tensor:
        size = self.spectrum.shape
        waves = torch.fft.rfft2(fields, dim=(-3, -2))
        return torch.fft.irfft2(waves * gain.to(fields)[..., None], s=size, dim=(-3, -2))
