r"""Analogs: what followed the past states that are most like the present one.

Notation
--------
States are compared in the space of the leading EOFs (:mod:`~xearth.reference.eofs`). The library
holds the training steps :math:`s` whose calendar month is within ``season`` months of that of the
start and after which all leads are observed. With the distances :math:`d_s = |x_s - x_t|`, the
``neighbors`` nearest ones are the analogs; their weights are

.. math:: w_s \propto \exp\left(-\tfrac12 (d_s / \bar d\,)^2\right),

:math:`\bar d` being the median of their distances. The forecast is
:math:`\sum_s w_s\, a_{s+n}`, with the anomalies :math:`a` of all cells, not of the EOFs. A member
is the trajectory :math:`a_{s+n}` of one analog, drawn with its weight, so it is coherent in space
and from lead to lead.

Only the training period is searched. For a start within it, steps whose sequel overlaps the
forecast are left out.

Source: Lorenz, E. N. (1969): Atmospheric predictability as revealed by naturally occurring
analogues. J. Atmos. Sci. 26, 636-646; weights as in Zhao, Z. and D. Giannakis (2016): Analog
forecasting with dynamics-adapted kernels. Nonlinearity 29, 2888-2939.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..errors import MissingDataError
from .eofs import Eofs
from .training import Floats, Starts, Training, check_members, check_whole, months_apart

__all__ = ["Analog"]


@dataclass(frozen=True, eq=False)
class Analog:
    """What followed the nearest past states.

    Attributes
    ----------
    eofs : Eofs
        Space in which states are compared, with the training data.
    horizon : int
    neighbors : int
        Number of analogs.
    season : int
        Largest distance in calendar months between an analog and the start.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> sst = samples.open("kaplan_sst")
    >>> model = Analog.fit(sst.sel(time=slice("1856", "1981")), horizon=6)
    >>> model.forecast(sst, init="1997-06", members=5).sizes["member"]
    5
    """

    eofs: Eofs
    horizon: int
    neighbors: int
    season: int
    name: ClassVar[str] = "analog"

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
        modes: int = 10,
        smoothing: int = 1,
        neighbors: int = 20,
        season: int = 1,
    ) -> Analog:
        """Find the EOFs of the library.

        Parameters
        ----------
        train : DataArray
            (time, ...); anomalies, or absolute values (their monthly means are removed).
        horizon : int
            Number of leads.
        modes : int
            Number of EOFs, K.
        smoothing : int
            Length of the trailing mean that is the state *and the target*, as in
            :meth:`~xearth.reference.lim.LIM.fit`.
        neighbors : int
            Number of analogs.
        season : int
            0 takes analogs in the calendar month of the start alone, 6 or more in any. Where
            steps are not calendar months there are no seasons.

        Raises
        ------
        ConfigError
            ``neighbors`` below 1, ``season`` below 0, or more modes or a shorter smoothing than
            there can be.
        MissingDataError
            Every cell is missing at some time of the training period.
        """
        check_whole(neighbors=(neighbors, 1), season=(season, 0))
        training = Training.of(train, horizon=horizon)
        eofs = Eofs.fit(training, modes=modes, smoothing=smoothing)
        return cls(eofs, int(horizon), int(neighbors), int(season))

    def forecast(
        self, history: xr.DataArray, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.DataArray:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`.

        Raises
        ------
        MissingDataError
            A start misses a value in a cell that was never missing in training, or there are
            fewer past states in its season than analogs wanted.
        """
        starts = self.eofs.training.starts(history, init)
        check_members(members)
        origins, weights = self._analogs(self.eofs.project(starts), starts)
        leads, states = np.arange(1, self.horizon + 1), self.eofs.states
        if members is None:
            anomalies = np.stack(
                [
                    np.tensordot(w, states[own[:, None] + leads], axes=1)
                    for own, w in zip(origins, weights, strict=True)
                ]
            )
        else:
            drawn = _draw(origins, weights, starts, members, seed)
            anomalies = states[drawn[:, None, :] + leads[None, :, None]]
        return self.eofs.label(anomalies, starts, name=self.name)

    def _analogs(self, x: Floats, starts: Starts) -> tuple[npt.NDArray[np.int64], Floats]:
        """Training steps of the analogs, (I, A), and their weights."""
        library, training = self.eofs.amplitudes, self.eofs.training
        known = np.isfinite(library[:, 0])
        whole = np.lib.stride_tricks.sliding_window_view(known, self.horizon + 1).all(axis=1)
        usable = np.flatnonzero(whole)
        # a trailing mean reaches back beyond its own step
        reach = self.horizon + self.eofs.smoothing - 1
        origins = np.empty((len(x), self.neighbors), dtype=np.int64)
        weights = np.empty(origins.shape)
        for i, (state, month, step) in enumerate(zip(x, starts.months, starts.steps, strict=True)):
            apart = months_apart(training.months[usable], month)
            own = usable[(apart <= self.season) & (np.abs(usable - step) >= reach)]
            if own.size < self.neighbors:
                raise MissingDataError(
                    f"the training period {training.period} holds {own.size} past states within "
                    f"{self.season} months of calendar month {int(month) + 1} that are followed by "
                    f"{self.horizon} observed leads; expected {self.neighbors} or more. Ask for "
                    "fewer neighbors, a wider season or a shorter horizon, or train on more years."
                )
            distance = np.sqrt(((library[own] - state) ** 2).sum(axis=1))
            nearest = np.argsort(distance, kind="stable")[: self.neighbors]
            origins[i], weights[i] = own[nearest], _weights(distance[nearest])
        return origins, weights


def _weights(distance: Floats) -> Floats:
    """Weights that sum to 1, (A,)."""
    scale = np.median(distance)
    relative = distance / scale if scale > 0 else np.where(distance > 0, np.inf, 0.0)
    weights = np.exp(-0.5 * relative**2)
    return np.asarray(weights / weights.sum())


def _draw(
    origins: npt.NDArray[np.int64], weights: Floats, starts: Starts, members: int, seed: int
) -> npt.NDArray[np.int64]:
    """Draw analogs by weight, (I, M); a member is the same however many there are."""
    drawn = np.empty((len(origins), members), dtype=np.int64)
    for i, key in enumerate(starts.keys):
        shares = np.cumsum(weights[i])
        ticks = np.random.default_rng([seed, key]).random(members) * shares[-1]
        drawn[i] = origins[i, np.searchsorted(shares, ticks, side="right")]
    return drawn
