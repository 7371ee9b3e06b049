r"""Linear inverse model (Penland and Sardeshmukh 1995).

Notation
--------
:math:`x` are the amplitudes of the leading :math:`K` EOFs of the anomalies, weighted by
:math:`\sqrt{\cos\varphi}`, after a trailing mean over ``smoothing`` steps and removal of the
training mean. With :math:`C_\ell = \langle x_{t+\ell} x_t^\top \rangle` over the training period,
the Green function of one step and the forecast are

.. math:: G = (C_\ell C_0^{-1})^{1/\ell}, \qquad \hat x_{t+n} = G^n x_t ,

for a lag of :math:`\ell` steps, usually 1.

**Members** follow :math:`x_{t+1} = G x_t + \epsilon_t` with
:math:`\langle \epsilon \epsilon^\top \rangle = Q = C_0 - G C_0 G^\top` (the
fluctuation-dissipation relation in discrete time), so the covariance of the forecast error is

.. math:: \sum_{m<n} G^m Q G^{m\top} = C_0 - G^n C_0 G^{n\top} .

What the :math:`K` EOFs leave out is added as noise with its covariance in training, independent
from lead to lead.

Source: Penland, C. and P. D. Sardeshmukh (1995): The optimal growth of tropical sea surface
temperature anomalies. J. Climate 8, 1999-2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..errors import ConfigError, MissingDataError
from .eofs import Eofs
from .training import Floats, Training

__all__ = ["LIM"]


@dataclass(frozen=True, eq=False)
class LIM:
    """A linear inverse model of the leading EOFs.

    Attributes
    ----------
    eofs : Eofs
        Space of the states, with the training data.
    horizon : int
    green : ndarray (K, K)
        Green function of one step, G.
    noise : ndarray (K, K)
        A square root of Q.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> sst = samples.open("kaplan_sst")
    >>> lim = LIM.fit(sst.sel(time=slice("1856", "1981")), horizon=12, smoothing=3)
    >>> fc = lim.forecast(sst, init=["1982-06", "1997-06"])
    >>> fc.dims, fc.attrs["target"], fc.attrs["training_period"]
    (('init', 'lead', 'lat', 'lon'), 'trailing mean over 3 steps', '1856-01/1981-12')
    """

    eofs: Eofs
    horizon: int
    green: Floats
    noise: Floats
    name: ClassVar[str] = "lim"

    @property
    def history(self) -> int:
        """Number of steps needed up to and including the start: the smoothing."""
        return self.eofs.smoothing

    @classmethod
    def fit(
        cls,
        train: xr.DataArray,
        *,
        horizon: int,
        modes: int = 15,
        smoothing: int = 1,
        lag: int = 1,
    ) -> LIM:
        """Find the EOFs and the Green function.

        Parameters
        ----------
        train : DataArray
            (time, ...); anomalies, or absolute values (their monthly means are removed).
        horizon : int
            Number of leads.
        modes : int
            Number of EOFs, K.
        smoothing : int
            1 for a LIM of the monthly values themselves; 3 for the LIM of the literature, whose
            state *and target* are trailing 3-month means. The two are verified against
            different truths (:func:`~xearth.verification.running_mean`).
        lag : int
            Lag in steps of the covariance that gives the Green function. A longer one sees less
            of what does not last from month to month.

        Raises
        ------
        ConfigError
            More modes than the training data support, a smoothing or a lag below 1, or a lag at
            which the Green function has no real root.
        MissingDataError
            Every cell is missing at some time, or no two steps follow each other.
        """
        if lag != int(lag) or lag < 1:
            raise ConfigError(f"lag must be a whole number of steps >= 1; found {lag}.")
        training = Training.of(train, horizon=horizon)
        eofs = Eofs.fit(training, modes=modes, smoothing=smoothing)
        x = eofs.amplitudes
        rows = np.asarray(np.isfinite(x[:, 0]))
        if not (rows[lag:] & rows[:-lag]).any():
            raise MissingDataError(
                f"the training period {training.period} has no two steps {lag} apart with "
                f"{smoothing} steps up to each. Train on a longer unbroken record."
            )
        green, noise = _propagator(x, rows, int(lag))
        return cls(eofs, int(horizon), green, noise)

    def forecast(
        self, history: xr.DataArray, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.DataArray:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`.

        With a smoothing above 1 the forecast for a valid time is that of the trailing mean that
        ends there; ``attrs["target"]`` says so.

        Raises
        ------
        MissingDataError
            A start misses a value in a cell that was never missing in training.
        """
        starts = self.eofs.training.starts(history, init)
        anomalies = self.eofs.integrate(
            starts, lambda _: (self.green, self.noise), self.horizon, members=members, seed=seed
        )
        return self.eofs.label(anomalies, starts, name=self.name)


def _propagator(x: Floats, rows: npt.NDArray[np.bool_], lag: int) -> tuple[Floats, Floats]:
    """Green function of one step and a square root of its noise covariance, (K, K) each."""
    c0 = x[rows].T @ x[rows] / rows.sum()
    pairs = rows[lag:] & rows[:-lag]
    cn = x[lag:][pairs].T @ x[:-lag][pairs] / pairs.sum()
    green = _real_root(np.linalg.solve(c0.T, cn.T).T, lag)
    q = c0 - green @ c0 @ green.T
    values, vectors = np.linalg.eigh((q + q.T) / 2)
    # C0 and Cn come from finite samples, so a variance may turn out barely negative
    return green, vectors * np.sqrt(values.clip(min=0.0))


def _real_root(power: Floats, n: int) -> Floats:
    """Matrix whose n-th power is ``power``, by its eigenvalues."""
    if n == 1:
        return power
    values, vectors = np.linalg.eig(power)
    root = (vectors * values.astype(complex) ** (1 / n)) @ np.linalg.inv(vectors)
    if np.abs(root.imag).max() > 1e-8 * np.abs(root).max():
        raise ConfigError(
            f"the Green function at lag {n} has no real root: a mode changes sign within the lag "
            f"(eigenvalue {values.real.min():.2f}). Use a shorter lag or fewer modes."
        )
    return np.asarray(root.real)
