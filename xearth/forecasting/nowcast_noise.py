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
_ITERATIONS, _ERROR, _ENOUGH = 60, 0.05, 5e-3  # of conjugate gradients, of values
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

    def given(
        self,
        values: Floats,
        where: npt.NDArray[np.bool_],
        facts: tuple[float, float],
        rng: np.random.Generator,
    ) -> Floats:
        r"""Return fields (steps, H, W) as :meth:`fields` that have known values in some cells.

        Each step is :math:`g + \Sigma A^T (A \Sigma A^T + \epsilon I)^{-1} (y - A g)`, with the
        covariance of the fields and an error :math:`\epsilon` of 0.05, by conjugate gradients.

        Parameters
        ----------
        values : array (steps, H, W)
        where : array of bool (steps, H, W)
            Cells that are known.
        facts : tuple of float
            Width of the cells in km, time step in minutes.
        rng : Generator
        """
        fields = self.fields(values.shape[1:], facts, len(values), rng)
        for n, known in enumerate(where):
            if known.any():
                misfit = np.where(known, values[n] - fields[n], 0.0)
                fields[n] += self._pulled(misfit, known, facts)
        return fields

    def _pulled(
        self, misfit: Floats, known: npt.NDArray[np.bool_], facts: tuple[float, float]
    ) -> Floats:
        """Return the change of a field that removes its misfit in known cells."""
        from scipy import fft

        H, W = misfit.shape
        rows, columns = shape = tuple(fft.next_fast_len(n + _ROOM, real=True) for n in (H, W))
        amplitude, _ = self._spectrum(shape, facts)
        power = 2 * amplitude**2 / (rows * columns)
        power[:, [0, -1]] /= 2  # as in the amplitude

        def through(x: Floats, factor: Floats) -> Floats:
            waves = fft.rfft2(x.astype(np.float32), s=shape)
            return np.asarray(fft.irfft2(waves * factor, s=shape)[:H, :W], dtype=np.float32)

        def product(x: Floats) -> Floats:
            return np.where(known, through(x, power) + _ERROR * x, 0.0)

        def nearly_solved(x: Floats) -> Floats:
            return np.where(known, through(x, 1 / (power + _ERROR)), 0.0)

        residual, solved = misfit.astype(np.float32), np.zeros((H, W), dtype=np.float32)
        step = guess = nearly_solved(residual)
        size, enough = float((residual * guess).sum()), _ENOUGH * float((residual**2).sum())
        for _ in range(_ITERATIONS):
            if float((residual**2).sum()) <= enough:
                break
            moved = product(step)
            length = size / float((step * moved).sum())
            solved, residual = solved + length * step, residual - length * moved
            guess = nearly_solved(residual)
            before, size = size, float((residual * guess).sum())
            step = guess + size / before * step
        return through(solved, power)

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
