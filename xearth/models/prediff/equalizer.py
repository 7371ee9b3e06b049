r"""An equalizer of fields: each lead's waves by a gain that depends on the wave number.

.. math:: y_l = F^{-1} \, G_l(|k|) \, F \, x_l ,

with the Fourier transform F in space. A law of coefficients of blocks, and a network that was
trained on them, draw fields whose spectrum is nearly right; what lacks is made up here, by gains
that are found once, from spectra of fields that are drawn and of those that are sought
(:meth:`Equalizer.fit`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import GridMismatchError

__all__ = ["Equalizer", "band_power"]

#: Wave lengths in cells at which there is a gain; between them it goes linearly in wave number.
LENGTHS = (128.0, 64.0, 32.0, 22.6, 16.0, 11.3, 8.0, 6.5, 5.0, 4.0, 3.2, 2.6, 2.0, 1.414)


def _number(h: int, w: int, like: Tensor) -> Tensor:
    """Return the wave numbers (h, w // 2 + 1) of a grid, in cycles per cell."""
    ky = torch.fft.fftfreq(h, dtype=like.dtype)[:, None]
    k: Tensor = (ky.square() + torch.fft.rfftfreq(w, dtype=like.dtype).square()).sqrt()
    return k.to(like.device)


def _shares(k: Tensor) -> Tensor:
    """Return by how much each gain counts for wave numbers, (gains, ...)."""
    knots = torch.tensor([1 / n for n in LENGTHS], dtype=k.dtype, device=k.device)
    inside = k.clamp(knots[0], knots[-1]).contiguous()
    high = torch.searchsorted(knots, inside).clamp(1, len(knots) - 1)
    share = (inside - knots[high - 1]) / (knots[high] - knots[high - 1])
    found = torch.zeros(len(knots), *k.shape, dtype=k.dtype, device=k.device)
    found.scatter_(0, (high - 1)[None], (1 - share)[None])
    return found.scatter_add_(0, high[None], share[None])


def band_power(x: Tensor) -> Tensor:
    """Return the mean power (L, gains) of fields (N, L, H, W) beside each wave length.

    A Hann window keeps what leaves on one side from entering on the other. Lengths that a grid
    has no waves beside have the power of the nearest that has.

    Examples
    --------
    >>> band_power(torch.randn(4, 2, 32, 32)).shape
    torch.Size([2, 14])
    """
    H, W = x.shape[-2:]
    window = torch.outer(torch.hann_window(H, dtype=x.dtype), torch.hann_window(W, dtype=x.dtype))
    waves = torch.fft.rfft2((x - x.mean((-2, -1), keepdim=True)) * window.to(x))
    power = waves.abs().square().mean(0)
    k = _number(H, W, x)
    share = _shares(k) * (k > 0)
    total = share.sum((1, 2))
    there = torch.nonzero(total > 0)[:, 0]
    nearest = there[(torch.arange(len(total))[:, None] - there).abs().argmin(1)]
    return torch.einsum("lhw,bhw->lb", power, share[nearest]) / total[nearest]


class Equalizer(nn.Module):
    """Gains of each lead by wave length; 1 until they are fitted.

    Parameters
    ----------
    leads : int
        L.

    Examples
    --------
    >>> x = torch.randn(2, 3, 16, 24)
    >>> torch.allclose(Equalizer(3)(x), x, atol=1e-5)
    True
    """

    gain: Tensor

    def __init__(self, leads: int) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones(leads, len(LENGTHS)))

    def forward(self, x: Tensor) -> Tensor:
        """Return fields (N, L, H, W) with the gains.

        Raises
        ------
        GridMismatchError
            Other leads.
        """
        if x.shape[1] != len(self.gain):
            raise GridMismatchError(
                f"the gains are for {len(self.gain)} leads, found {tuple(x.shape)}"
            )
        H, W = x.shape[-2:]
        gain = torch.einsum("lb,bhw->lhw", self.gain.to(x), _shares(_number(H, W, x)))
        return torch.fft.irfft2(torch.fft.rfft2(x) * gain, s=(H, W))

    @torch.no_grad()
    def change(self, factor: Tensor, limit: float = 4.0) -> None:
        """Multiply the gains by factors (L, gains), within a limit and one by it."""
        self.gain.mul_(factor.to(self.gain)).clamp_(1 / limit, limit)

    @torch.no_grad()
    def normalize(self, x: Tensor) -> None:
        """Scale the gains of each lead so that fields (N, L, H, W) get the mean square 1."""
        self.gain.mul_(self(x).square().mean((0, 2, 3)).rsqrt()[:, None])
