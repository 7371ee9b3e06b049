r"""The slope of the power spectrum in a band of wavelengths.

.. math:: P(k) = \langle |\hat y|^2 \rangle_{|\mathbf k| \approx k}, \qquad
   \beta = \frac{\sum_k (\ln k - \overline{\ln k})\, \ln P(k)}
   {\sum_k (\ln k - \overline{\ln k})^2} ,

of each frame and channel, its mean removed and its edges tapered by a Hann window, averaged over
rings of width 1. Soft only: a field has the slope in many ways that are equally near.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...errors import ConstraintError
from .protocol import Bounded, square

__all__ = ["SpectrumSlope"]


@dataclass(frozen=True, eq=False)
class SpectrumSlope(Bounded):
    """Bounds of the slope of the radially averaged spectrum.

    Parameters
    ----------
    shape : (T, H, W, C)
    band : (int, int)
        Least and largest wave number, waves in the shorter side of the domain; both included.
    lower, upper : Tensor (m,) or float
        Of the slope, m = T C; -5/3 is a common one of energy.

    Raises
    ------
    ConstraintError
        As :class:`Bounded`; a band of fewer than three wave numbers or beyond the grid's.

    Examples
    --------
    >>> white = torch.randn(1, 1, 64, 64, 1, generator=torch.Generator().manual_seed(0))
    >>> slope = SpectrumSlope((1, 64, 64, 1), band=(4, 30), upper=-2.0)
    >>> bool(slope.measure(white).abs() < 0.3), bool(slope.residual(white) > 1.5)
    (True, True)
    """

    shape: tuple[int, int, int, int]
    _: KW_ONLY
    band: tuple[int, int]

    def __post_init__(self) -> None:
        super().__post_init__()
        first, last = self.band
        most = min(self.shape[1:3]) // 2
        if first < 1 or last - first < 2 or last > most:
            raise ConstraintError(
                f"{self.name}: band={self.band}: expected three or more wave numbers within "
                f"1..{most} of a field of {self.shape[1:3]} cells."
            )

    @property
    def exact(self) -> bool:
        """Whether there is a projection: no."""
        return False

    @property
    def convex(self) -> bool:
        """Whether the fields that hold it are a convex set: no."""
        return False

    @cached_property
    def _rings(self) -> tuple[Tensor, Tensor]:
        """Return the average over rings (K, H (W // 2 + 1)) and the logarithm of their number."""
        _, H, W, _ = self.shape
        side = min(H, W)
        ky = torch.fft.fftfreq(H, 1 / side, dtype=torch.float64)
        kx = torch.fft.rfftfreq(W, 1 / side, dtype=torch.float64)
        twice = torch.full_like(kx, 2.0)  # waves whose conjugate is not stored
        twice[0] = 1.0
        if W % 2 == 0:
            twice[-1] = 1.0
        k = (ky[:, None].square() + kx.square()).sqrt().round()
        numbers = torch.arange(self.band[0], self.band[1] + 1)
        rings = (k == numbers[:, None, None]).double() * twice
        rings = rings.flatten(1)
        return rings / rings.sum(1, keepdim=True), numbers.double().log()

    def measure(self, y: Tensor) -> Tensor:
        """Return the slopes, float64 (N, T C)."""
        square(y, torch.Size(self.shape), self.name)
        _, H, W, _ = self.shape
        taper = torch.hann_window(H, dtype=torch.float64)[:, None] * torch.hann_window(
            W, dtype=torch.float64
        )
        field = y.double().movedim(-1, 2)
        field = (field - field.mean((-2, -1), keepdim=True)) * taper.to(y.device)
        power = torch.fft.rfft2(field).abs().square().flatten(-2)
        rings, x = (part.to(y.device) for part in self._rings)
        spectrum = (power @ rings.mT).clamp(min=torch.finfo(torch.float64).tiny).log()
        x = x - x.mean()
        return (spectrum @ x / x.square().sum()).flatten(1)

    def project(self, y: Tensor) -> Tensor:
        """Refuse.

        Raises
        ------
        ConstraintError
            Always: impose it by guidance.
        """
        raise ConstraintError(
            f"{self.name}: a slope has no nearest field of its own. Impose it by guidance."
        )
