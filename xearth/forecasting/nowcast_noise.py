r"""Gaussian fields that are coherent in space and time, one sequence per member.

With the wave number :math:`k` in cycles per km, a field is white noise with the amplitude
:math:`(1 + (k \ell)^2)^{-\beta / 4}` and unit variance, and each wave follows an autoregressive
process of the air it moves with,

.. math:: \hat g_{n+1}(k) = \rho\, \hat g_n(k) + \sqrt{1 - \rho^2}\, \hat w, \qquad
          \rho = \exp(-\Delta t / \tau(k)), \quad \tau(k) = \tau_0 (1 + (k \ell)^2)^{-\gamma / 2},

so that large structures outlive small ones.

Source: Seed, A. W. (2003): A dynamic and spatial scaling approach to advection forecasting.
*J. Appl. Meteor.* 42, 381-388.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Noise"]

Floats = npt.NDArray[np.float32]
_ROOM = 16  # cells beside the grid, as what leaves on one side enters on the other


@dataclass(frozen=True)
class Noise:
    """Spectrum and memory of the fields.

    Parameters
    ----------
    length : float
        Of the largest structures, km.
    slope : float
        Of the power spectrum at small scales.
    minutes : float
        How long the largest structures live.
    decay : float
        Power of the scale by which smaller ones live shorter.

    Examples
    --------
    >>> fields = Noise().fields((40, 60), (2.0, 5.0), 12, np.random.default_rng(0))
    >>> fields.shape, fields.dtype
    ((12, 40, 60), dtype('float32'))
    """

    length: float = 100.0
    slope: float = 2.6
    minutes: float = 90.0
    decay: float = 0.8

    def fields(
        self,
        shape: tuple[int, int],
        facts: tuple[float, float],
        steps: int,
        rng: np.random.Generator,
    ) -> Floats:
        """Return standard normal fields (steps, H, W).

        Parameters
        ----------
        shape : (int, int)
            Rows and columns.
        facts : tuple of float
            Width of the cells in km, time step in minutes.
        steps : int
        rng : Generator
        """
        from scipy import fft

        rows, columns = (fft.next_fast_len(n + _ROOM, real=True) for n in shape)
        amplitude, memory = self._spectrum((rows, columns), facts)
        fresh = np.sqrt(1 - memory**2)
        out = np.empty((steps, *shape), dtype=np.float32)
        state = _white(amplitude.shape, rng)
        for n in range(steps):
            if n:
                state *= memory
                state += fresh * _white(amplitude.shape, rng)
            field = fft.irfft2(state * amplitude, s=(rows, columns))
            out[n] = field[: shape[0], : shape[1]]
        return out

    def _spectrum(
        self, shape: tuple[int, int], facts: tuple[float, float]
    ) -> tuple[Floats, Floats]:
        """Return amplitude and memory (H, W // 2 + 1) of the waves."""
        k = np.hypot(
            np.fft.fftfreq(shape[0], facts[0])[:, None], np.fft.rfftfreq(shape[1], facts[0])
        )
        ratio = 1 + (k * self.length) ** 2
        power = ratio ** (-self.slope / 2)
        # a wave that is not at the edge of the half plane stands for two
        weight = np.full(power.shape[1], 2.0)
        weight[0] = weight[-1] = 1.0
        scale = shape[0] * shape[1] / np.sqrt((power * weight).sum())
        # of those at the edge only the real part counts
        amplitude = np.sqrt(power) * scale * np.sqrt(2 / weight) / np.sqrt(2)
        memory = np.exp(-facts[1] / (self.minutes * ratio ** (-self.decay / 2)))
        return amplitude.astype(np.float32), memory.astype(np.float32)


def _white(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.complex64]:
    """Return complex numbers whose real and imaginary parts are standard normal."""
    return rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
