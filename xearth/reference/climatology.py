r"""Climatology as a forecast.

The forecast is the normal :math:`c` of the valid time: zero for anomalies, the monthly mean of
the training period for absolute values. A member is what followed a training step
:math:`s` in the calendar month of the start, :math:`c_{t+n} + x_{s+n}`, so the ensemble is the
climatological distribution with its own coherence in space and time. Steps whose sequel overlaps
the forecast are left out, so that a start inside the training period does not see its truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from ..errors import MissingDataError
from .persistence import origins_in_month
from .training import Floats, Starts, Training

__all__ = ["Climatology"]


@dataclass(frozen=True, eq=False)
class Climatology:
    """The mean of the calendar month, or what followed other years' starts.

    Attributes
    ----------
    training : Training
    horizon : int

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> sst = samples.open("oisst").isel(lat=[15], lon=[60])
    >>> model = Climatology.fit(sst.sel(time=slice("1982", "1991")), horizon=3)
    >>> fc = model.forecast(sst, init="1995-06").squeeze()
    >>> fc.astype(float).values.round(1).tolist(), fc.attrs["climatology_base"]
    ([26.9, 26.8, 26.8], 'mean of the training period 1982-01/1991-12')
    """

    training: Training
    horizon: int
    name: ClassVar[str] = "climatology"
    history: ClassVar[int] = 1

    @classmethod
    def fit(cls, train: xr.DataArray, *, horizon: int) -> Climatology:
        """Learn the monthly means of ``train`` (time, ...)."""
        return cls(Training.of(train, horizon=horizon), int(horizon))

    def forecast(
        self, history: xr.DataArray, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.DataArray:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`.

        Members are drawn without repetition while there are enough training years, then anew.
        """
        starts = self.training.starts(history, init)
        normals = starts.normals(self.horizon)
        known = np.isfinite(self.training.values).any(axis=0)
        values = np.where(known, normals, np.nan)
        if members is not None:
            values = values[:, :, None] + self._draws(starts, members, seed)
        return self.training.label(values, starts, name=self.name)

    def _draws(self, starts: Starts, members: int, seed: int) -> Floats:
        """(I, L, M, P): what followed training steps in the month of each start."""
        leads = np.arange(1, self.horizon + 1)
        chosen = []
        for month, step, key in zip(starts.months, starts.steps, starts.keys, strict=True):
            origins = origins_in_month(self.training, int(month), self.horizon)
            # what is to be forecast must not be among the members
            origins = origins[np.abs(origins - step) >= self.horizon]
            if origins.size == 0:
                raise MissingDataError(
                    f"the training period {self.training.period} holds no year whose "
                    f"{self.horizon} steps do not overlap the forecast itself; members need one. "
                    "Train on more years, or shorten the horizon."
                )
            random = np.random.default_rng([seed, key])
            # whole rounds: a member is the same however many there are
            count = max(1, -(-members // origins.size))
            rounds = [random.permutation(origins) for _ in range(count)]
            chosen.append(np.concatenate(rounds)[:members])
        steps = np.stack(chosen)[:, None, :] + leads[None, :, None]
        return self.training.values[steps]
