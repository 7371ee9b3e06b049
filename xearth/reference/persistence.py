r"""Persistence and damped persistence of anomalies.

Let :math:`x_t` be the anomaly of a cell and :math:`r_n` its autocorrelation at lag :math:`n`
over the training period, whatever the calendar month. The forecasts from start :math:`t` are

.. math:: \hat x_{t+n} = x_t \quad\text{(persistence)}, \qquad
          \hat x_{t+n} = r_n \, x_t \quad\text{(damped persistence)} .

**Members.** With :math:`e_k` the error trajectories (all leads, all cells) that the same forecast
makes from the :math:`K` training starts in the calendar month of the start, a member is

.. math:: \hat x + \frac{1}{\sqrt K} \sum_{k=1}^{K} z_k \, e_k, \qquad z_k \sim N(0, 1),

a Gaussian with exactly the second moments of the errors in training, so the members are
coherent in space and from lead to lead, and their spread has the seasonal cycle of the errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from ..errors import MissingDataError
from .training import Floats, Starts, Training, normal_draws

__all__ = ["DampedPersistence", "Persistence", "origins_in_month"]


@dataclass(frozen=True, eq=False)
class Persistence:
    """The last anomaly, kept at all leads.

    Attributes
    ----------
    training : Training
    horizon : int

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> sst = samples.open("kaplan_sst")
    >>> model = Persistence.fit(sst.sel(time=slice("1950", "1981")), horizon=6)
    >>> fc = model.forecast(sst, init="1997-06")
    >>> dict(fc.sizes), bool((fc == sst.sel(time="1997-06").squeeze("time")).any())
    ({'init': 1, 'lead': 6, 'lat': 12, 'lon': 22}, True)
    """

    training: Training
    horizon: int
    name: ClassVar[str] = "persistence"
    history: ClassVar[int] = 1

    @classmethod
    def fit(cls, train: xr.DataArray, *, horizon: int) -> Persistence:
        """Learn the climatology (of absolute fields) and the errors for the members.

        Parameters
        ----------
        train : DataArray
            (time, ...); anomalies, or absolute values that are persisted as departures from
            their monthly means.
        horizon : int
            Number of leads.
        """
        return cls(Training.of(train, horizon=horizon), int(horizon))

    def forecast(
        self, history: xr.DataArray, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.DataArray:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`."""
        damping = np.ones((self.horizon, self.training.values.shape[1]))
        starts = self.training.starts(history, init)
        values = _forecast(self.training, damping, starts, members, seed)
        # without members only the normal comes from the training period
        learned = members is not None
        return self.training.label(values, starts, name=self.name, learned=learned)


@dataclass(frozen=True, eq=False)
class DampedPersistence:
    """The last anomaly times the autocorrelation of each cell at each lead.

    Attributes
    ----------
    training : Training
    horizon : int
    damping : ndarray (L, P)
        Autocorrelation at lags 1..L; NaN where a cell never varies or holds no value.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> sst = samples.open("kaplan_sst")
    >>> model = DampedPersistence.fit(sst.sel(time=slice("1950", "1981")), horizon=6)
    >>> model.forecast(sst, init="1997-06", members=3).dims
    ('init', 'lead', 'member', 'lat', 'lon')
    """

    training: Training
    horizon: int
    damping: Floats
    name: ClassVar[str] = "damped_persistence"
    history: ClassVar[int] = 1

    @classmethod
    def fit(cls, train: xr.DataArray, *, horizon: int) -> DampedPersistence:
        """Learn the autocorrelations.

        Parameters
        ----------
        train : DataArray
            (time, ...); anomalies, or absolute values that are damped towards their monthly
            means.
        horizon : int
            Number of leads.
        """
        training = Training.of(train, horizon=horizon)
        lags = [_autocorrelation(training.values, n) for n in range(1, int(horizon) + 1)]
        return cls(training, int(horizon), np.stack(lags))

    def forecast(
        self, history: xr.DataArray, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.DataArray:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`."""
        starts = self.training.starts(history, init)
        values = _forecast(self.training, self.damping, starts, members, seed)
        return self.training.label(values, starts, name=self.name)


def _autocorrelation(x: Floats, lag: int) -> Floats:
    """Autocorrelation around the normal over the pairs that are both known, (P,)."""
    first, second = x[:-lag], x[lag:]
    both = np.isfinite(first) & np.isfinite(second)
    first, second = np.where(both, first, 0.0), np.where(both, second, 0.0)
    product = (first * second).sum(axis=0)
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return np.divide(product, scale, out=np.full(product.shape, np.nan), where=scale > 0)


def _forecast(
    training: Training, damping: Floats, starts: Starts, members: int | None, seed: int
) -> Floats:
    """(I, L, P), or (I, L, M, P) with members; absolute values where the training was."""
    last = starts.anomalies(1)[:, 0]
    values = damping[None] * last[:, None] + starts.normals(len(damping))
    if members is None:
        return values
    noise = np.empty((*values.shape[:2], members, values.shape[2]))
    for month in np.unique(starts.months):
        chosen = starts.months == month
        origins = origins_in_month(training, month, len(damping))
        draws = normal_draws(seed, starts, (members, origins.size))[chosen] / np.sqrt(origins.size)
        for lead, factor in enumerate(damping):
            errors = training.values[origins + lead + 1] - factor * training.values[origins]
            noise[chosen, lead] = draws @ np.where(np.isfinite(errors), errors, 0.0)
    return values[:, :, None] + noise


def origins_in_month(training: Training, month: int, n_leads: int) -> np.ndarray:
    """Training steps in a calendar month from which all leads are observed."""
    observed = np.isfinite(training.values).any(axis=1)
    reach = np.lib.stride_tricks.sliding_window_view(observed, n_leads + 1).all(axis=1)
    origins = np.flatnonzero(reach & (training.months[: reach.size] == month))
    if origins.size < 2:
        raise MissingDataError(
            f"the training period {training.period} holds {origins.size} starts in calendar month "
            f"{month + 1} with {n_leads} observed leads after them; members need 2 or more. "
            "Train on more years, or shorten the horizon."
        )
    return origins
