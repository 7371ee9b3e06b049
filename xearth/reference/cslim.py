r"""Cyclostationary linear inverse model: one operator for each calendar month.

Notation
--------
The states :math:`x` are those of the :mod:`~xearth.reference.lim`. For the calendar month
:math:`m`, averages :math:`\langle\cdot\rangle_m` run over the training months :math:`t` in the
window of ``window`` calendar months around :math:`m`, so that neighbors lend each other data:

.. math::

   G_m = \langle x_{t+1} x_t^\top \rangle_m \langle x_t x_t^\top \rangle_m^{-1}, \qquad
   Q_m = \langle \epsilon_t \epsilon_t^\top \rangle_m, \quad
   \epsilon_t = x_{t+1} - G_m x_t .

A forecast from month :math:`m` is the product of the operators of the months on the way,
:math:`\hat x_{t+n} = G_{m+n-1} \cdots G_{m+1} G_m\, x_t`; members follow :math:`x_{t+1} = G_m x_t +
\epsilon` with :math:`\epsilon \sim N(0, Q_m)`. What the EOFs leave out is added as in the LIM.

Source: Shin, S.-I., P. D. Sardeshmukh, M. Newman, C. Penland and M. A. Alexander (2021): Impact of
annual cycle on ENSO variability and predictability. J. Climate 34, 171-193.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from ..errors import ConfigError, MissingDataError, TimeAxisError
from .eofs import Eofs
from .training import Floats, Training, months_apart

__all__ = ["CSLIM"]


@dataclass(frozen=True, eq=False)
class CSLIM:
    """A linear inverse model of the leading EOFs with an annual cycle.

    Attributes
    ----------
    eofs : Eofs
        Space of the states, with the training data.
    horizon : int
    green : ndarray (12, K, K)
        Operator from each calendar month to the next, G_m.
    noise : ndarray (12, K, K)
        A square root of Q_m.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> sst = samples.open("kaplan_sst")
    >>> model = CSLIM.fit(sst.sel(time=slice("1870", "1981")), horizon=6, smoothing=3)
    >>> fc = model.forecast(sst, init="1997-06", members=5)
    >>> dict(fc.sizes)
    {'init': 1, 'lead': 6, 'member': 5, 'lat': 12, 'lon': 22}
    """

    eofs: Eofs
    horizon: int
    green: Floats
    noise: Floats
    name: ClassVar[str] = "cslim"

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
        window: int = 3,
    ) -> CSLIM:
        """Find the EOFs and the operator of each calendar month.

        Parameters
        ----------
        train : DataArray
            (time, ...), monthly; anomalies, or absolute values (their monthly means are removed).
        horizon : int
            Number of leads.
        modes : int
            Number of EOFs, K.
        smoothing : int
            Length of the trailing mean that is the state *and the target*, as in
            :meth:`~xearth.reference.lim.LIM.fit`.
        window : int
            Calendar months pooled for one operator, an odd number; 1 takes each alone.

        Raises
        ------
        ConfigError
            An even window, or more modes or a shorter smoothing than there can be.
        TimeAxisError
            The steps are not single months.
        MissingDataError
            Too few pairs of months for an operator.
        """
        if window not in (1, 3, 5, 7, 9, 11):
            raise ConfigError(
                f"window must be an odd number of months from 1 to 11; found {window!r}. "
                "LIM.fit makes one operator for all months."
            )
        training = Training.of(train, horizon=horizon)
        if training.axis.step is None or training.axis.step.months != 1:
            raise TimeAxisError(
                f"training data {training.template.name!r} have the step {training.axis.step}; "
                "expected one month. Average to calendar months, or use LIM."
            )
        eofs = Eofs.fit(training, modes=modes, smoothing=smoothing)
        x = eofs.amplitudes
        pairs = [_operator(x, training, month, window // 2) for month in range(12)]
        green, noise = (np.stack(part) for part in zip(*pairs, strict=True))
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

        def of_step(n: int) -> tuple[Floats, Floats]:
            month = (starts.months + n) % 12
            return self.green[month], self.noise[month]

        anomalies = self.eofs.integrate(starts, of_step, self.horizon, members=members, seed=seed)
        return self.eofs.label(anomalies, starts, name=self.name)


def _operator(x: Floats, training: Training, month: int, half: int) -> tuple[Floats, Floats]:
    """Operator of a calendar month and a square root of its noise covariance, (K, K) each."""
    known = np.isfinite(x[:, 0])
    apart = months_apart(training.months[:-1], month)
    rows = np.flatnonzero(known[:-1] & known[1:] & (apart <= half))
    before, after = x[rows], x[rows + 1]
    modes = x.shape[1]
    if rows.size <= modes or np.linalg.matrix_rank(before) < modes:
        raise MissingDataError(
            f"the training period {training.period} holds {rows.size} pairs of months around "
            f"calendar month {month + 1}, too few for an operator of {modes} modes. Train on more "
            "years, widen the window, or use fewer modes."
        )
    solution = np.asarray(np.linalg.lstsq(before, after, rcond=None)[0], dtype=np.float64)
    residual = after - before @ solution
    values, vectors = np.linalg.eigh(residual.T @ residual / rows.size)
    return solution.T, vectors * np.sqrt(values.clip(min=0.0))
