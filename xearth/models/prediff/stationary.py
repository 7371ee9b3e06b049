r"""A stationary Gaussian law of latent sequences, and the denoiser that is exact for it.

Each channel c has temporal modes :math:`Q_c` (T, T), orthogonal, and each mode a power
:math:`P_{cm}(k)` that depends on the wave number alone. With the Fourier transform F in space

.. math:: \hat v(z_t) = F^{-1} Q_c \,
          \frac{t - (1 - t) P}{(1 - t)^2 P + t^2} \, Q_c^T F z_t

is the velocity of flow matching, :math:`E[x_1 - x_0 \mid z_t]`. A network that is added to it
starts from a law with the right spectrum in space and time, and has to learn the rest: what
depends on the context, and what is not Gaussian.

Source: Karras et al. (2022), *Elucidating the design space of diffusion-based generative models*
(a network for what an exact linear denoiser leaves).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import GridMismatchError

__all__ = ["StationaryLaw"]

HIGHEST = 0.7072  # cycles per cell, along the diagonal


class StationaryLaw(nn.Module):
    """Temporal modes of each channel, and their power by wave number.

    Parameters
    ----------
    frames, channels, bins : int
        T, C and numbers of wave numbers, at even distances from 0 to the highest.

    Examples
    --------
    >>> law = StationaryLaw(3, 2, 4)
    >>> z = torch.randn(1, 3, 4, 6, 2)
    >>> v = law.velocity(z, torch.tensor([0.5]))  # white: nothing is known half way
    >>> v.abs().max() < 1e-5
    tensor(True)
    """

    modes: Tensor
    power: Tensor

    def __init__(self, frames: int, channels: int, bins: int) -> None:
        super().__init__()
        self.register_buffer("modes", torch.eye(frames).expand(channels, -1, -1).contiguous())
        self.register_buffer("power", torch.ones(channels, frames, bins))

    def velocity(self, z: Tensor, t: Tensor) -> Tensor:
        """Return the expected velocity of states (N, T, h, w, C) at times (N,) in [0, 1]."""
        power = self._powers(z)
        t = t.to(z).reshape(-1, 1, 1, 1, 1)
        gain = (t - (1 - t) * power) / ((1 - t) ** 2 * power + t**2).clamp_min(1e-6)
        return self._filtered(z, gain)

    def draw(self, noise: Tensor) -> Tensor:
        """Return sequences of this law from white noise (N, T, h, w, C)."""
        return self._filtered(noise, self._powers(noise).sqrt())

    @torch.no_grad()
    def fit(self, z: Tensor) -> None:
        """Set modes and power from sequences (N, T, h, w, C) of zero mean and known throughout.

        Raises
        ------
        GridMismatchError
            Other frames or channels.
        """
        C, T, bins = self.power.shape
        if z.shape[1] != T or z.shape[-1] != C:
            raise GridMismatchError(
                f"expected sequences of {T} frames and {C} channels, found {tuple(z.shape)}"
            )
        flat = z.movedim(-1, 0).transpose(1, 2).flatten(2)
        modes = torch.linalg.eigh(flat @ flat.mT / flat.shape[-1]).eigenvectors
        waves = torch.fft.fft2(self._in_modes(z, modes), dim=(2, 3)).abs().square().mean(0)
        waves = waves / (z.shape[2] * z.shape[3])
        place = self._places(z, half=False)
        share = torch.stack([(1 - (place - b).abs()).clamp_min(0.0) for b in range(bins)])
        total = share.flatten(1).sum(1)
        found = torch.einsum("bhw,thwc->ctb", share, waves) / total.clamp_min(1e-3)
        for b in range(bins):  # a wave number that this grid lacks has the power of the next
            if total[b] < 0.25:
                found[..., b] = found[..., b - 1]
        self.modes.copy_(modes)
        self.power.copy_(found.clamp_min(1e-4))

    @staticmethod
    def _in_modes(z: Tensor, modes: Tensor) -> Tensor:
        return torch.einsum("nthwc,ctm->nmhwc", z, modes)

    def _places(self, z: Tensor, *, half: bool = True) -> Tensor:
        """Return where the waves of a grid are among the bins."""
        h, w = z.shape[2:4]
        ky = torch.fft.fftfreq(h, dtype=z.dtype)[:, None]
        kx = (torch.fft.rfftfreq if half else torch.fft.fftfreq)(w, dtype=z.dtype)
        k: Tensor = (ky**2 + kx**2).sqrt() / HIGHEST * (self.power.shape[-1] - 1)
        return k.to(z.device)

    def _powers(self, z: Tensor) -> Tensor:
        """Return the power (1, T, h, w // 2 + 1, C) of the waves of a grid."""
        place = self._places(z)
        low = place.floor().long().clamp(0, self.power.shape[-1] - 2)
        share = (place - low).clamp(0.0, 1.0)
        table = self.power.to(z)
        found = table[..., low] * (1 - share) + table[..., low + 1] * share
        return found.permute(1, 2, 3, 0)[None]

    def _filtered(self, z: Tensor, gain: Tensor) -> Tensor:
        modes = self.modes.to(z)
        waves = torch.fft.rfft2(self._in_modes(z, modes), dim=(2, 3))
        back = torch.fft.irfft2(waves * gain, s=z.shape[2:4], dim=(2, 3))
        return torch.einsum("nmhwc,ctm->nthwc", back, modes)
