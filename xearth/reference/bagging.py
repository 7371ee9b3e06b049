r"""Recharge oscillators that the training years cannot tell apart, and the mean of what they say.

Notation
--------
Some twenty years hold half a dozen El Ninos, so the coefficients of a
:class:`~xearth.reference.recharge.RechargeOscillator` depend on the years they happen to be fitted
to. Replicate :math:`r` is fitted with a random weight for each year,
:math:`w_{ry} \sim \mathrm{Exp}(1)` (the Bayesian bootstrap), all months of a year having the same;
:math:`R` replicates are :math:`R` draws from what the coefficients may be. Each is integrated from
the same start, kept within 1.25 times the largest values of the training period at the end of
every month, and the forecast is their mean. What depends on single years partly cancels in it,
and no replicate that runs away is followed.

Sources: Breiman, L. (1996): Bagging predictors. Machine Learning 24, 123-140. Rubin, D. B. (1981):
The Bayesian bootstrap. Annals of Statistics 9, 130-134.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from .recharge import PUBLISHED, RechargeOscillator, Regression, Terms
from .training import Floats, check_whole, refuse_members

__all__ = ["BaggedOscillator"]

_HEADROOM = 1.25
_YEAR = 12


@dataclass(frozen=True, eq=False)
class BaggedOscillator:
    """The mean of oscillators fitted with random weights of the years.

    Attributes
    ----------
    oscillator : RechargeOscillator
        Fitted with equal weights; it gives all but the coefficients.
    coefficients : ndarray (R, K, K + P, 1 + 2 J)
        Of the replicates.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> indices = samples.open("xro_indices")[["Nino34", "WWV", "IOD"]].load()
    >>> train = indices.sel(time=slice("1979", "2001"))
    >>> model = BaggedOscillator.fit(train, horizon=6, replicates=5)
    >>> model.forecast(indices, init="2015-05").Nino34.dims, len(model.coefficients)
    (('init', 'lead'), 5)
    """

    oscillator: RechargeOscillator
    coefficients: Floats
    name: ClassVar[str] = "bagged_oscillator"
    history: ClassVar[int] = 1

    @property
    def horizon(self) -> int:
        """Number of leads."""
        return self.oscillator.horizon

    @classmethod
    def fit(
        cls,
        train: xr.DataArray | xr.Dataset,
        *,
        horizon: int,
        nonlinear: Terms = PUBLISHED,
        harmonics: int = 1,
        replicates: int = 30,
        seed: int = 0,
    ) -> BaggedOscillator:
        """Fit the replicates.

        Parameters
        ----------
        train, horizon, nonlinear, harmonics
            As of :meth:`~xearth.reference.recharge.RechargeOscillator.fit`; by default there is
            one harmonic less than in the published model.
        replicates : int
            R.
        seed : int
            Of the weights.

        Raises
        ------
        ConfigError, MissingDataError
            As of :meth:`~xearth.reference.recharge.RechargeOscillator.fit`, or ``replicates``
            below 1.
        """
        check_whole(replicates=(replicates, 1))
        oscillator = RechargeOscillator.fit(
            train, horizon=horizon, nonlinear=nonlinear, harmonics=harmonics
        )
        indices = oscillator.indices
        size = len(indices.values)
        years = np.arange(size) // _YEAR
        draws = np.random.default_rng(seed).exponential(size=(int(replicates), years[-1] + 1))
        found = [
            Regression.of(
                indices, nonlinear=nonlinear, harmonics=harmonics, weights=draw[years]
            ).coefficients
            for draw in draws
        ]
        limits = _HEADROOM * np.nanmax(np.abs(indices.values), axis=0)
        return cls(replace(oscillator, limits=limits), np.stack(found))

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
            Members: the replicates do not hold the noise of the months to come.
            :class:`~xearth.reference.dressed.Dressed` gives members.
        GridMismatchError, MissingDataError
            As :meth:`~xearth.reference.recharge.RechargeOscillator.forecast`.
        """
        why = "forecasts a mean: replicates differ by their coefficients alone, too little a spread"
        refuse_members(members, self.name, why)
        indices = self.oscillator.indices
        starts = indices.starts(history, init)
        state, months = indices.state(starts), next(iter(starts.values())).months
        values = np.zeros((len(state), self.horizon, state.shape[1]))
        for own in self.coefficients:
            values += replace(self.oscillator, coefficients=own).integrate(state, months)
        return indices.label(values / len(self.coefficients), starts, name=self.name)
