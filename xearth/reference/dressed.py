r"""A forecaster dressed with the errors it makes on training years it was not fitted to.

Notation
--------
The training period is cut into blocks. For each block the forecaster is fitted to the rest,
without ``gap`` steps before the block and without the steps that the block's forecasts reach, and
started from every step of the block whose history lies within the block and the gap before it.
Forecast anomalies are kept within 1.25 times the largest one of the training period, for a
nonlinear model may run away. With those of the starts :math:`k` at lead :math:`n`,
:math:`f_{k,n}`, and the observed ones :math:`o_{k,n}`, the shrinkage is

.. math:: b_n = \max\Bigl(0, \sum_k f_{k,n} o_{k,n} \Big/ \sum_k f_{k,n}^2\Bigr)

in each cell, and the errors are :math:`e_{k,n} = o_{k,n} - b_n f_{k,n}`. The forecast of the
forecaster fitted to all years is multiplied by :math:`b_n`, and a member is

.. math:: b_n \hat x_n + \frac{1}{\sqrt K} \sum_{k=1}^{K} z_k\, e_{k,n}, \qquad z_k \sim N(0, 1),

over the :math:`K` starts in the calendar months around that of the start: a Gaussian with the
second moments of those errors, coherent in space, between variables and from lead to lead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..errors import ConfigError, MissingDataError
from .protocol import Forecaster
from .training import Floats, Starts, Training, check_members, check_whole, months_apart

__all__ = ["Dressed"]

_HEADROOM = 1.25


@dataclass(frozen=True, eq=False)
class Dressed:
    """A forecaster whose members have the errors of cross-validation.

    Attributes
    ----------
    forecaster : Forecaster
        Fitted to the whole training period.
    trainings : mapping of str to Training
        Of each variable; a DataArray has one, of its own name.
    shrinkage : mapping of str to ndarray (L, P)
        Factor of the forecast anomalies, b.
    errors : mapping of str to ndarray (S, L, P)
        Errors of the starts of the cross-validation; NaN where the truth is unknown.
    months : ndarray (S,)
        Calendar month 0..11 of these starts.
    season : int
        Months to either side of that of a start whose errors dress it.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.recharge import RechargeOscillator
    >>> indices = samples.open("xro_indices")[["Nino34", "WWV", "IOD"]].load()
    >>> train = indices.sel(time=slice("1979", "2001"))
    >>> xro = Dressed.fit(lambda years: RechargeOscillator.fit(years, horizon=3), train)
    >>> fc = xro.forecast(indices, init="2015-05", members=50)
    >>> fc.Nino34.attrs["forecaster"], fc.Nino34.sizes["member"]
    ('dressed_recharge_oscillator', 50)
    """

    forecaster: Forecaster
    trainings: Mapping[str, Training]
    shrinkage: Mapping[str, Floats]
    errors: Mapping[str, Floats]
    months: npt.NDArray[np.int64]
    season: int

    @property
    def name(self) -> str:
        """Name of the forecaster, dressed."""
        return f"dressed_{self.forecaster.name}"

    @property
    def history(self) -> int:
        """Number of steps needed up to and including the start."""
        return self.forecaster.history

    @property
    def horizon(self) -> int:
        """Number of leads."""
        return self.forecaster.horizon

    @classmethod
    def fit(
        cls,
        make: Callable[[Any], Forecaster],
        train: xr.DataArray | xr.Dataset,
        *,
        block: int = 36,
        gap: int = 12,
        season: int = 1,
    ) -> Dressed:
        """Cross-validate inside the training period, then fit to all of it.

        Parameters
        ----------
        make : callable
            Fits a forecaster to training data: ``lambda years: LIM.fit(years, horizon=12)``.
        train : DataArray or Dataset
            As ``make`` takes it.
        block : int
            Steps per block.
        gap : int
            Steps left out before each block.
        season : int
            Months to either side of that of a start whose errors dress it; 6 takes all.

        Raises
        ------
        ConfigError
            A block below one step, a negative gap or season, or a forecaster whose target is
            not the value of a step.
        MissingDataError
            A calendar month without two starts, or a block that leaves nothing to fit to.
        """
        check_whole(block=(block, 1), gap=(gap, 0), season=(season, 0))
        forecaster = make(train)
        parts = _parts(train)
        trainings = {
            name: Training.of(da, horizon=forecaster.horizon) for name, da in parts.items()
        }
        pairs = _cross_validate(make, train, trainings, forecaster.horizon, (block, gap))
        shrinkage, errors = {}, {}
        for name, (predicted, observed) in pairs.values.items():
            known = np.isfinite(predicted) & np.isfinite(observed)
            f, o = np.where(known, predicted, 0.0), np.where(known, observed, 0.0)
            power = (f**2).sum(axis=0)
            fitted = np.divide(
                (f * o).sum(axis=0), power, out=np.zeros_like(power), where=power > 0
            )
            shrinkage[name] = fitted.clip(min=0.0)
            errors[name] = np.where(known, observed - shrinkage[name] * predicted, np.nan)
        model = cls(forecaster, trainings, shrinkage, errors, pairs.months, int(season))
        for month in np.unique(pairs.months):
            model._of_month(int(month))
        return model

    @overload
    def forecast(
        self, history: xr.Dataset, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.Dataset: ...
    @overload
    def forecast(
        self, history: xr.DataArray, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.DataArray: ...
    def forecast(
        self,
        history: xr.DataArray | xr.Dataset,
        *,
        init: Any = None,
        members: int | None = None,
        seed: int = 0,
    ) -> xr.DataArray | xr.Dataset:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`."""
        check_members(members)
        plain: Any = self.forecaster.forecast(history, init=init)  # type: ignore[arg-type]
        means, series, found = _parts(plain), _parts(history), {}
        for name, training in self.trainings.items():
            starts = training.starts(series[name], init)
            normals = starts.normals(self.horizon)
            values = means[name].values.astype(np.float64).reshape(normals.shape)
            values = normals + self.shrinkage[name] * _bounded(values - normals, training)
            if members is not None:
                values = values[:, :, None] + self._noise(name, starts, members, seed)
            found[name] = training.label(values, starts, name=self.name)
        return xr.Dataset(found) if isinstance(plain, xr.Dataset) else found[next(iter(found))]

    def _of_month(self, month: int) -> npt.NDArray[np.int64]:
        """Find the starts of the cross-validation whose errors dress one in this month."""
        origins = np.flatnonzero(months_apart(self.months, month) <= self.season)
        if origins.size < 2:
            raise MissingDataError(
                f"{origins.size} starts of the cross-validation lie within {self.season} months of "
                f"calendar month {month + 1}; members need 2 or more. Train on more years, or "
                "widen the season."
            )
        return origins

    def _noise(self, name: str, starts: Starts, members: int, seed: int) -> Floats:
        """(I, L, M, P): members less their mean."""
        out = []
        for month, key in zip(starts.months, starts.keys, strict=True):
            errors = self.errors[name][self._of_month(int(month))]
            known = np.isfinite(errors)
            scale = np.sqrt(np.maximum(known.sum(axis=0), 1))
            scaled = np.where(known, errors, 0.0) / scale
            # the draws do not depend on the variable, so the variables err together
            z = np.random.default_rng([seed, key]).standard_normal((members, len(errors)))
            out.append(np.tensordot(z, scaled, axes=1).swapaxes(0, 1))
        return np.stack(out)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Forecast and observed anomalies (S, L, P) by variable, and the months of the starts."""

    values: Mapping[str, tuple[Floats, Floats]]
    months: npt.NDArray[np.int64]


def _cross_validate(
    make: Callable[[Any], Forecaster],
    train: xr.DataArray | xr.Dataset,
    trainings: Mapping[str, Training],
    horizon: int,
    cut: tuple[int, int],
) -> _Pairs:
    """Forecast each block with a fit that has not seen it."""
    time = str(discover(train, require=("time",)).time)
    block, gap = cut
    some = next(iter(trainings.values()))
    steps, parts = some.axis.ordinals, _parts(train)
    predicted: dict[str, list[Floats]] = {name: [] for name in trainings}
    observed: dict[str, list[Floats]] = {name: [] for name in trainings}
    months = []
    for first in range(0, int(steps.max()), block):
        last = min(first + block, int(steps.max()) + 1) - 1
        seen = (steps < first - gap) | (steps > last + horizon)
        if seen.sum() <= horizon:
            raise MissingDataError(
                f"without {block} steps, the {gap} before and the {horizon} after them, "
                f"{seen.sum()} of {seen.size} training steps are left to fit to. Train on more "
                "years, or use shorter blocks."
            )
        model = make(train.isel({time: np.flatnonzero(seen)}))
        # the gap before the block is unseen too, so a start may look back into it
        earliest = max(first, first + model.history - 1 - gap)
        rows = np.flatnonzero((steps >= max(earliest, model.history - 1)) & (steps <= last))
        if rows.size == 0:
            continue
        init = train[time].values[rows]
        fc: Any = model.forecast(train, init=init)  # type: ignore[arg-type]
        for name, da in _parts(fc).items():
            if "target" in da.attrs and da.attrs["target"] != parts[name].attrs.get("target"):
                raise ConfigError(
                    f"{model.name} forecasts the {da.attrs['target']!r} of {name!r}, not its value "
                    "at each step, so its errors are not those of the training data. Smooth the "
                    "data, and forecast them without smoothing."
                )
            starts = trainings[name].starts(parts[name], init)
            normals = starts.normals(horizon)
            values = da.values.astype(np.float64).reshape(normals.shape)
            predicted[name].append(_bounded(values - normals, trainings[name]))
            observed[name].append(_truth(trainings[name], starts.steps, horizon))
        months.append(starts.months)
    pairs = {
        name: (np.concatenate(predicted[name]), np.concatenate(observed[name]))
        for name in trainings
    }
    return _Pairs(pairs, np.concatenate(months))


def _bounded(anomalies: Floats, training: Training) -> Floats:
    """Bring anomalies (..., P) near those of the training period."""
    known = np.isfinite(training.values)
    limit = _HEADROOM * np.where(known, np.abs(training.values), 0.0).max(axis=0)
    return np.clip(anomalies, -limit, limit)


def _truth(training: Training, steps: npt.NDArray[np.int64], horizon: int) -> Floats:
    """Observed anomalies at all leads, (I, L, P); NaN beyond the training period."""
    wanted = steps[:, None] + np.arange(1, horizon + 1)
    inside = wanted < len(training.values)
    truth = training.values[np.where(inside, wanted, 0)]
    return np.where(inside[..., None], truth, np.nan)


def _parts(obj: xr.DataArray | xr.Dataset) -> dict[str, xr.DataArray]:
    """Variables by name."""
    if isinstance(obj, xr.Dataset):
        return {str(name): da for name, da in obj.data_vars.items()}
    return {str(obj.name): obj}
