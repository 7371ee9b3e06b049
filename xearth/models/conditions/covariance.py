r"""How a correction spreads: the covariance C of :math:`y' = y - C A^\top \lambda`.

The nearest field in the norm of :math:`C^{-1}`: a correction at a gauge also moves its
neighborhood, as kriging and the ensemble Kalman filter do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...errors import ConstraintError

__all__ = ["Covariance", "Diagonal", "LowRank", "Stationary"]


class Covariance(Protocol):
    """A symmetric positive map of fields (N, T, H, W, C)."""

    def apply(self, x: Tensor) -> Tensor:
        """Return C x, (N, T, H, W, C)."""


@dataclass(frozen=True, eq=False)
class Diagonal:
    """Cells that vary apart from each other.

    Parameters
    ----------
    variance : Tensor, broadcastable to (T, H, W, C)
        Where it is 0 a cell stays as it is.

    Raises
    ------
    ConstraintError
        A variance below 0 or not finite.
    """

    variance: Tensor

    def __post_init__(self) -> None:
        if not bool((self.variance >= 0).all() & self.variance.isfinite().all()):
            raise ConstraintError(
                f"expected finite variances of at least 0, found {float(self.variance.min())} to "
                f"{float(self.variance.max())}."
            )

    def apply(self, x: Tensor) -> Tensor:
        """Return C x, (N, T, H, W, C)."""
        return x * self.variance.to(x)


@dataclass(frozen=True, eq=False)
class Stationary:
    """The same everywhere in space, periodic; frames and channels vary apart from each other.

    Parameters
    ----------
    spectrum : Tensor (H, W // 2 + 1)
        Eigenvalues, of the layout of :func:`torch.fft.rfft2`: the transform of the covariance of
        the first cell with each. Periodic: a correction near an edge reaches the other side, so
        keep correlations much shorter than the domain.

    Raises
    ------
    ConstraintError
        An eigenvalue below 0 or not finite.

    Examples
    --------
    >>> C = Stationary.gaussian(32, 32, length=2.0)
    >>> spread = C.apply(torch.eye(32).flatten()[:1024].reshape(1, 1, 32, 32, 1) * 0 + 1)
    >>> bool((spread > 1).all())
    True
    """

    spectrum: Tensor

    def __post_init__(self) -> None:
        if not bool((self.spectrum >= 0).all() & self.spectrum.isfinite().all()):
            raise ConstraintError(
                "expected finite eigenvalues of at least 0, found "
                f"{float(self.spectrum.min())} to {float(self.spectrum.max())}. A covariance is "
                "positive: take the spectrum of a valid covariance function."
            )

    @classmethod
    def gaussian(cls, H: int, W: int, *, length: float) -> Stationary:
        """Return the covariance exp(-distance^2 / (2 length^2)), in cells, on the torus."""
        if not length > 0:
            raise ConstraintError(f"length={length}: expected a positive number of cells.")
        y, x = (torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in (H, W))
        near = torch.exp(-(y[:, None] ** 2 + x**2) / (2 * length**2))
        return cls(torch.fft.rfft2(near).real.clamp(min=0))

    def apply(self, x: Tensor) -> Tensor:
        """Return C x, (N, T, H, W, C)."""
        spectrum = self.spectrum.to(x)[:, :, None]
        waves = torch.fft.rfft2(x, dim=(2, 3)) * spectrum
        return torch.fft.irfft2(waves, s=x.shape[2:4], dim=(2, 3))


@dataclass(frozen=True, eq=False)
class LowRank:
    """The covariance of a low-rank Gaussian, sum of L_k L_k^T.

    Parameters
    ----------
    factors : Tensor (T, H, W, C, K)
    """

    factors: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Return C x, (N, T, H, W, C)."""
        L = self.factors.to(x)
        return torch.einsum("thwck,nk->nthwc", L, torch.einsum("thwck,nthwc->nk", L, x))
