"""What scores of probabilities are given: an ensemble and thresholds, or probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ...cf.packing import decoded
from ...errors import AxisError, ConfigError
from ...units import convert_array
from ..block import Array
from ..evaluate import evaluate
from ..pairs import Dims
from ..score import Score
from ..thresholds import check_op, read_thresholds
from .events import Classes, EnsembleEvent, EventSource, GivenEvent

__all__ = ["Bins", "EventInputs", "read_events"]

#: Number of equal classes of probability, their edges, or None for one class per member count.
Bins = int | Sequence[float] | None


@dataclass(frozen=True, eq=False)
class EventInputs:
    """Forecast and truth, with how events come from them."""

    source: EventSource
    forecast: xr.DataArray
    obs: xr.DataArray
    member: str | None

    def classes(self, bins: Bins, default: int) -> Classes:
        """Return the classes of probability: of the members, or ``default`` equal ones."""
        if bins is None and self.member is not None:
            return Classes.of_members(self.forecast.sizes[self.member])
        if bins is None or isinstance(bins, int):
            return Classes.between(tuple(np.linspace(0, 1, (bins or default) + 1).tolist()))
        return Classes.between(tuple(float(edge) for edge in bins))

    def evaluate(
        self, score: Score, *, dim: Dims = None, weights: xr.DataArray | None = None
    ) -> xr.DataArray:
        """Return a score of these events."""
        found = evaluate(
            score, self.forecast, self.obs, dim=dim, weights=weights, member=self.member
        )
        if isinstance(self.source, EnsembleEvent):
            found.attrs["event"] = f"value {self.source.op} threshold"
        return found


def read_events(
    forecast: xr.DataArray, obs: xr.DataArray, thresholds: Any, *, op: str, member: str
) -> EventInputs:
    """Read what a score of events is given.

    Parameters
    ----------
    forecast, obs : DataArray
        Ensemble and truth; or, without thresholds, a probability and an outcome (0 or 1).
    thresholds : str, quantity, number, a sequence of them, or None
    op : {">=", ">"}
    member : str
        Name of the member dimension, of ensembles.

    Returns
    -------
    EventInputs

    Raises
    ------
    AxisError
        No member dimension.
    ConfigError
        A probability outside of 0 .. 1 or an outcome that is neither 0 nor 1; of Dask arrays when
        they are computed.
    UnitsError
        A threshold without units, or one that does not convert.

    Examples
    --------
    >>> import xarray as xr
    >>> p = xr.DataArray([25.0], dims="init", attrs={"units": "%"})
    >>> read_events(p, xr.DataArray([1], dims="init"), None, op=">=", member="m").forecast.item()
    0.25
    """
    forecast = decoded(forecast)
    if thresholds is None:
        return EventInputs(GivenEvent(), _probability(forecast), _outcome(decoded(obs)), None)
    if member not in forecast.dims:
        raise AxisError(
            f"forecast {forecast.name!r} has no member dimension {member!r}; its dims are "
            f"{forecast.dims}. Name it with member=..., or leave thresholds out if it holds "
            "probabilities."
        )
    event = EnsembleEvent(read_thresholds(thresholds, forecast), check_op(op))
    return EventInputs(event, forecast, obs, member)


def _probability(forecast: xr.DataArray) -> xr.DataArray:
    if "units" in forecast.attrs:
        forecast = convert_array(forecast, "1")
    return _checked(forecast, _check_probability)


def _outcome(obs: xr.DataArray) -> xr.DataArray:
    return _checked(obs, _check_outcome)


def _checked(array: xr.DataArray, check: Any) -> xr.DataArray:
    found: xr.DataArray = xr.apply_ufunc(
        check, array.astype(np.float64), dask="parallelized", output_dtypes=[np.float64]
    )
    found.attrs = {}
    return found


def _check_probability(values: Array) -> Array:
    outside = values[(values < 0) | (values > 1)]
    if outside.size:
        raise ConfigError(
            f"expected probabilities in 0 .. 1; found {outside.flat[0]:g}. Set attrs['units'] = "
            "'%' if they are percent, or give thresholds if these are values of an ensemble."
        )
    return values


def _check_outcome(values: Array) -> Array:
    other = values[(values != 0) & (values != 1) & ~np.isnan(values)]
    if other.size:
        raise ConfigError(
            f"expected outcomes 0 or 1 (or False and True); found {other.flat[0]:g}. Compare the "
            "truth with a threshold first, or give thresholds=..."
        )
    return values
