r"""Regression of indices at each lead on the months up to the start.

Notation
--------
With the anomalies :math:`x_k(t)` of K indices, their standard deviations :math:`s_k`, the lags
:math:`\tau` and the calendar month :math:`m` of the start, the predictors of a start are

.. math::

   z_{k\tau h}(t) = \frac{x_k(t - \tau)}{s_k}\, h(m), \qquad
   h = 1, \cos\tfrac{2\pi m}{12}, \sin\tfrac{2\pi m}{12}, \dots

up to ``harmonics`` orders. For each index i and lead n the forecast is :math:`\sum B_{in}\, z`,
where :math:`B_{in}` minimizes, over the N starts of the training period that have all lags and
the lead,

.. math::

   \sum_t \bigl(x_i(t+n) - B_{in}\, z(t)\bigr)^2
   + \lambda N \sum_{k\tau h} w_{k\tau}\, u_h\, B_{in,k\tau h}^2 .

:math:`u_h` is 1 for the constant and a half for the waves; :math:`w_{k\tau}` is ``free`` for the
start itself (:math:`\tau = 0`) of index i and of the ``core``, else 1. There is no constant term:
the forecast of no anomaly is no anomaly. Each lead is fitted by itself, so nothing is assumed of
what lies between, and a slow cause (a warm pool that recharges, an Indian Ocean that follows) may
show that a model stepped from month to month smears out; the price is a forecast that needs a
strong penalty and is not a trajectory.

Source: Hoerl, A. E. and R. W. Kennard (1970): Ridge regression. Technometrics 12, 55-67.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..errors import ConfigError, MissingDataError
from .indices import IndexSet, waves_of_year
from .training import Floats, check_whole, refuse_members

__all__ = ["LaggedRegression"]


@dataclass(frozen=True, eq=False)
class LaggedRegression:
    """A ridge regression of each index at each lead.

    Attributes
    ----------
    indices : IndexSet
        Training data.
    horizon : int
    lags : tuple of int
        Months before the start, the start itself (0) among them.
    scale : ndarray (K,)
        Standard deviations of the indices.
    coefficients : ndarray (K, L, T, K, 1 + 2 J)
        Of each index and lead: lag, predictor and harmonic.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> indices = samples.open("xro_indices").load()
    >>> train = indices.sel(time=slice("1979", "2001"))
    >>> model = LaggedRegression.fit(train, horizon=12)
    >>> fc = model.forecast(indices, init="2015-05")
    >>> fc.Nino34.dims, model.history
    (('init', 'lead'), 10)
    """

    indices: IndexSet
    horizon: int
    lags: tuple[int, ...]
    scale: Floats
    coefficients: Floats
    name: ClassVar[str] = "lagged_regression"

    @property
    def history(self) -> int:
        """Number of months needed up to and including the start."""
        return max(self.lags) + 1

    @classmethod
    def fit(
        cls,
        train: xr.DataArray | xr.Dataset,
        *,
        horizon: int,
        lags: tuple[int, ...] = (0, 3, 6, 9),
        penalty: float = 2.0,
        free: float = 0.015,
        core: tuple[str, ...] = ("Nino34", "WWV"),
        harmonics: int = 1,
    ) -> LaggedRegression:
        """Find the coefficients.

        Parameters
        ----------
        train : Dataset or DataArray
            As of :meth:`~xearth.reference.recharge.RechargeOscillator.fit`.
        horizon : int
            Number of leads in months.
        lags : tuple of int
            Months before the start.
        penalty : float
            Of the coefficients, in units of the mean squares of standardized predictors.
        free : float
            Relative penalty of the start itself of the index and of the core.
        core : tuple of str
            Indices that matter to all.
        harmonics : int
            Orders of the annual cycle, J.

        Raises
        ------
        ConfigError
            Lags without 0, a penalty or ``free`` that is not positive, negative harmonics.
        MissingDataError
            No start has all lags and all leads.
        """
        check_whole(harmonics=(harmonics, 0), **{f"lag_{lag}": (lag, 0) for lag in lags})
        if 0 not in lags:
            raise ConfigError(f"lags must hold 0, the start itself; found {lags}.")
        if not (0 < penalty < np.inf and 0 < free < np.inf):
            raise ConfigError(
                f"penalty and free must be positive; found {penalty!r} and {free!r}. Twenty years "
                "do not determine these coefficients without a penalty."
            )
        indices = IndexSet.of(train, horizon=horizon)
        lags = tuple(sorted({int(lag) for lag in lags}))
        x = indices.values
        scale = np.nanstd(x, axis=0)
        scale[scale == 0] = 1.0
        steps = np.arange(max(lags), len(x))
        z = _predictors(_lagged(x, steps, lags) / scale, indices.months[steps], harmonics)
        relative = np.ones((x.shape[1], *z.shape[1:]))
        relative[..., 1:] *= 0.5
        for i in range(x.shape[1]):
            now = [k for k, name in enumerate(indices.names) if k == i or name in core]
            relative[i, 0, now] *= free
        shape = (x.shape[1], int(horizon), *z.shape[1:])
        flat, weights = z.reshape(len(z), -1), penalty * relative.reshape(x.shape[1], -1)
        coefficients = np.zeros((*shape[:2], flat.shape[1]))
        for lead in range(1, int(horizon) + 1):
            coefficients[:, lead - 1] = _of_lead(flat[:-lead], x[steps[lead:]], weights, indices)
        return cls(indices, int(horizon), lags, scale, coefficients.reshape(shape))

    def forecast(
        self,
        history: xr.DataArray | xr.Dataset,
        *,
        init: Any = None,
        members: int | None = None,
        seed: int = 0,
    ) -> Any:
        """Forecast all indices as described in :class:`~xearth.reference.protocol.Forecaster`.

        Raises
        ------
        ConfigError
            Members: a regression has none. :class:`~xearth.reference.dressed.Dressed` gives it
            the errors of cross-validation.
        MissingDataError, TimeAxisError
            A start misses a value or a month that a lag needs.
        """
        refuse_members(members, self.name, "forecasts one value and knows no spread")
        starts = self.indices.starts(history, init)
        past = np.concatenate([one.anomalies(self.history) for one in starts.values()], axis=2)
        lagged = past[:, [self.history - 1 - lag for lag in self.lags]]
        if not np.isfinite(lagged).all():
            lacking = [
                name
                for k, name in enumerate(self.indices.names)
                if not np.isfinite(lagged[..., k]).all()
            ]
            raise MissingDataError(
                f"starts miss values of {lacking} at the lags {self.lags} months before them. Fill "
                "them, or leave these starts out."
            )
        months = next(iter(starts.values())).months
        z = _predictors(lagged / self.scale, months, (self.coefficients.shape[-1] - 1) // 2)
        values = np.tensordot(z, self.coefficients, axes=([1, 2, 3], [2, 3, 4])).swapaxes(1, 2)
        return self.indices.label(values, starts, name=self.name)


def _lagged(x: Floats, steps: npt.NDArray[np.int64], lags: tuple[int, ...]) -> Floats:
    """Return the indices at each lag before each step, (N, T, K)."""
    return x[steps[:, None] - np.asarray(lags)]


def _predictors(lagged: Floats, months: npt.NDArray[np.int64], order: int) -> Floats:
    """Multiply by the harmonics of the calendar month of the start, (N, T, K, 1 + 2 J)."""
    return lagged[..., None] * waves_of_year(months, order)[:, None, None]


def _of_lead(z: Floats, after: Floats, weights: Floats, indices: IndexSet) -> Floats:
    """Coefficients of one lead for each index, (K, F)."""
    known = np.isfinite(z).all(axis=1) & np.isfinite(after).all(axis=1)
    if not known.any():
        raise MissingDataError(
            f"in the training period {indices.period} no start has all lags and all leads. Train "
            "on a longer unbroken record, or use shorter lags or a shorter horizon."
        )
    z, after = z[known], after[known]
    square = z.T @ z
    return np.stack(
        [
            np.linalg.solve(square + len(z) * np.diag(own), z.T @ after[:, i])
            for i, own in enumerate(weights)
        ]
    )
