r"""Several index series that one model forecasts together.

Each series keeps its own name, units and attributes, so that temperatures in K and a depth in m
may stand side by side: as the variables of a Dataset, or along one dimension of a DataArray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..errors import AxisError, ConfigError, GridMismatchError, MissingDataError, TimeAxisError
from .training import Floats, Starts, Training

__all__ = ["IndexSet", "waves_of_year"]


@dataclass(frozen=True, eq=False)
class IndexSet:
    """Training series by name, monthly anomalies all of them.

    Attributes
    ----------
    series : mapping of str to Training
        In the order of the state vector.
    dim : str or None
        Dimension that holds the indices; None where they are variables of a Dataset.
    """

    series: Mapping[str, Training]
    dim: str | None

    @classmethod
    def of(cls, train: xr.DataArray | xr.Dataset, *, horizon: int) -> IndexSet:
        """Read the training data.

        Raises
        ------
        AxisError
            A series has other dimensions than time, or there is no time axis.
        TimeAxisError
            The steps are not single months.
        ConfigError
            A series is not an anomaly.
        MissingDataError
            A series holds no value.
        """
        series, dim = _split(train)
        found = {
            name: Training.of(da, horizon=horizon, anomalies=True) for name, da in series.items()
        }
        for name, training in found.items():
            if training.axis.step is None or training.axis.step.months != 1:
                raise TimeAxisError(
                    f"index {name!r} has the step {training.axis.step}; expected one month. "
                    "Average it to calendar months."
                )
            mean, spread = np.nanmean(training.values), np.nanstd(training.values)
            if abs(mean) > 2 * spread:
                raise ConfigError(
                    f"index {name!r} has the mean {mean:.3g} and the standard deviation "
                    f"{spread:.3g} over the training period; expected anomalies. Subtract the "
                    "monthly normals: xearth.anomaly(index)."
                )
        return cls(found, dim)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the indices in the order of the state vector."""
        return tuple(self.series)

    @property
    def values(self) -> Floats:
        """Anomalies by month, (N, K); NaN where missing."""
        return np.concatenate([training.values for training in self.series.values()], axis=1)

    @property
    def months(self) -> np.ndarray:
        """Calendar month 0..11 of each row of :attr:`values`."""
        return next(iter(self.series.values())).months

    @property
    def period(self) -> str:
        """First and last month, "1979-01/2001-12"."""
        return next(iter(self.series.values())).period

    def starts(self, history: xr.DataArray | xr.Dataset, init: Any) -> dict[str, Starts]:
        """Find the starts in a history, index by index.

        Raises
        ------
        GridMismatchError
            An index of the training data is not there, or the layout is another one.
        """
        if isinstance(history, xr.Dataset) and self.dim is None:
            history = history[[name for name in self.series if name in history]]
        series, dim = _split(history)
        missing = [name for name in self.series if name not in series]
        if missing or dim != self.dim:
            raise GridMismatchError(
                f"the history holds the indices {list(series)} along {dim!r}; expected "
                f"{list(self.series)} along {self.dim!r}. Give it in the layout of the training "
                "data (None stands for the variables of a Dataset)."
            )
        return {name: self.series[name].starts(series[name], init) for name in self.series}

    def state(self, starts: Mapping[str, Starts]) -> Floats:
        """Anomalies at each start, (I, K).

        Raises
        ------
        MissingDataError
            A value is missing at a start.
        """
        columns = [one.anomalies(1)[:, 0] for one in starts.values()]
        state = np.concatenate(columns, axis=1)
        bad = ~np.isfinite(state)
        if bad.any():
            one = next(iter(starts.values()))
            stamp = str(one.axis.values[one.positions[bad.any(axis=1)]][0])[:16]
            lacking = [name for k, name in enumerate(self.names) if bad[:, k].any()]
            raise MissingDataError(
                f"{bad.any(axis=1).sum()} of {len(bad)} starts, first {stamp}, miss a value of "
                f"{lacking}. Fill them, or leave these starts out."
            )
        return state

    def label(
        self, values: Floats, starts: Mapping[str, Starts], *, name: str
    ) -> xr.DataArray | xr.Dataset:
        """Give forecasts (I, L, K) or (I, L, M, K) their labels, in the layout of the training."""
        found = {
            index: self.series[index].label(values[..., [k]], one, name=name)
            for k, (index, one) in enumerate(starts.items())
        }
        if self.dim is None:
            return xr.Dataset(found)
        joined = xr.concat(
            list(found.values()),
            xr.Variable(self.dim, list(found)),
            coords="minimal",
            compat="override",
            join="override",
            combine_attrs="drop_conflicts",
        )
        return joined.transpose(..., self.dim)


def waves_of_year(month: npt.ArrayLike, order: int) -> Floats:
    """Constant, cosine and sine of each order at times in months, (..., 1 + 2 J).

    Examples
    --------
    >>> waves_of_year([0, 6], 1).round(12).tolist()
    [[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]
    """
    phase = 2 * np.pi / 12 * np.asarray(month, dtype=np.float64)
    waves = [np.ones_like(phase)]
    for j in range(1, order + 1):
        waves += [np.cos(j * phase), np.sin(j * phase)]
    return np.stack(waves, axis=-1)


def _split(obj: xr.DataArray | xr.Dataset) -> tuple[dict[str, xr.DataArray], str | None]:
    """Series by name, and the dimension that held them."""
    time = str(discover(obj, require=("time",)).time)
    if isinstance(obj, xr.Dataset):
        series = {str(name): da for name, da in obj.data_vars.items()}
        odd = [name for name, da in series.items() if da.dims != (time,)]
        if odd or not series:
            raise AxisError(
                f"expected index series along {time!r} alone; of the variables {list(series)} "
                f"these are not: {odd}. Select the indices: ds[['Nino34', 'WWV']]."
            )
        return series, None
    others = [str(dim) for dim in obj.dims if dim != time]
    if len(others) != 1 or others[0] not in obj.coords:
        raise AxisError(
            f"expected a DataArray along {time!r} and one dimension of named indices; found "
            f"{obj.dims}. Give a Dataset of series, or label that dimension."
        )
    (dim,) = others
    names = [str(name) for name in obj[dim].values]
    return {name: obj.isel({dim: k}, drop=True) for k, name in enumerate(names)}, dim
