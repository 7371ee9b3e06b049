"""Pairs of forecast and truth: same labels, same units, and only where both are known."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import xarray as xr

from ..cf.attrs import score_attrs
from ..cf.clues import is_dates
from ..cf.packing import decoded
from ..errors import AxisError, UnitsError
from ..units import convert_array
from .labels import check_labels
from .meaning import check_anomalies, check_numbers, check_weights, warn_of_bases

__all__ = [
    "Dims",
    "comparable",
    "finish",
    "floating",
    "in_double",
    "known_weights",
    "mean_over",
    "pair",
    "reduced_dims",
    "refuse_record",
    "root",
    "same_terms",
]

Dims = str | Iterable[Hashable] | None


def pair(forecast: xr.DataArray, obs: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return both with the same labels and units, in float64, the truth converted.

    Raises and warns as :func:`same_terms`.
    """
    forecast, obs = same_terms(forecast, obs)
    return in_double(forecast), in_double(obs)


def same_terms(forecast: xr.DataArray, obs: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return both with the same labels and units, the truth converted, precision as it is.

    Raises
    ------
    DataTypeError
        No real numbers.
    GridMismatchError
        A dimension that both have carries different labels, cells of grids with 2-D latitude and
        longitude lie elsewhere, or single levels differ; nothing is dropped silently.
    UnitsError
        Only one has units, they do not convert, or one is an anomaly and the other is not.

    Warns
    -----
    XearthWarning
        Both are anomalies, from different base periods.
    """
    forecast, obs = comparable(forecast, obs)
    warn_of_bases(forecast, obs)
    return forecast, obs


def comparable(forecast: xr.DataArray, obs: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return what :func:`same_terms` does, without a word on base periods."""
    forecast, obs = decoded(forecast), decoded(obs)
    check_numbers(forecast, "forecast")
    check_numbers(obs, "truth")
    check_labels(forecast, obs)
    units = forecast.attrs.get("units")
    if ("units" in obs.attrs) != (units is not None):
        raise UnitsError(
            f"forecast {forecast.name!r} has units {units!r}, truth {obs.name!r} has "
            f"{obs.attrs.get('units')!r}; expected both or neither. Set attrs['units']."
        )
    if units is not None:
        check_anomalies(forecast, obs)
        obs = convert_array(obs, units)
    return forecast, obs


def floating(array: xr.DataArray) -> xr.DataArray:
    """Return single precision as it is, so that thresholds are met by what is stored; else double.

    Examples
    --------
    >>> floating(xr.DataArray(np.array([1, 2], "uint8"))).dtype
    dtype('float64')
    """
    return array if array.dtype in (np.float32, np.float64) else in_double(array)


def in_double(array: xr.DataArray) -> xr.DataArray:
    """Return an array in double precision."""
    return array.astype(np.float64)


def refuse_record(forecast: xr.DataArray, obs: xr.DataArray) -> None:
    """Refuse a truth along dates of its own: every start would be paired with every time.

    Raises
    ------
    AxisError
        Both have a dimension of dates that the other lacks.

    Examples
    --------
    >>> days = xr.date_range("2000-01-01", periods=3)
    >>> f = xr.DataArray([0.0, 0.0, 0.0], {"init": days})
    >>> refuse_record(f, f.rename(init="time"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    xearth.errors.AxisError: the truth None runs along 'time', the forecast None along 'init'...
    """
    own, theirs = (
        [d for d in a.dims if d not in b.dims and d in a.coords and is_dates(a[d])]
        for a, b in ((forecast, obs), (obs, forecast))
    )
    if own and theirs:
        raise AxisError(
            f"the truth {obs.name!r} runs along {theirs[0]!r}, the forecast {forecast.name!r} "
            f"along {own[0]!r}. Take the truth at the valid times, "
            "xearth.observations_at(forecast, obs), or use xearth.verify, which does."
        )


def reduced_dims(array: xr.DataArray, dim: Dims) -> list[Hashable]:
    """Return the dimensions to average over: all, one, several or (with ``()``) none.

    Raises
    ------
    AxisError
        One of them is not there.
    """
    if dim is None:
        return list(array.dims)
    dims: list[Hashable] = [dim] if isinstance(dim, str) else list(dim)
    absent = [name for name in dims if name not in array.dims]
    if absent:
        raise AxisError(
            f"cannot average over {absent}: the pairs have the dims {array.dims}. Name some of "
            "these, or None for all."
        )
    return dims


def mean_over(array: xr.DataArray, dim: Dims, weights: xr.DataArray | None = None) -> xr.DataArray:
    """Average the known values over dimensions; NaN where there is none.

    Raises
    ------
    AxisError
        The weights have a dimension that is not averaged over.
    ConfigError
        Negative or infinite weights.
    """
    dims = reduced_dims(array, dim)
    if weights is None:
        return array.mean(dims, skipna=True) if dims else array
    return array.weighted(known_weights(weights, dims)).mean(dims)


def known_weights(weights: xr.DataArray, dims: list[Hashable]) -> xr.DataArray:
    """Return weights on averaged dimensions, 0 where they are missing.

    Raises
    ------
    AxisError
        They have a dimension that is not averaged over.
    ConfigError
        Negative or infinite weights.
    """
    check_weights(weights)
    other = set(weights.dims) - set(dims)
    if other:
        raise AxisError(
            f"the weights have the dims {weights.dims}, of which {sorted(map(str, other))} are "
            f"not averaged over; found dim = {dims}. Average over them, or reduce the weights."
        )
    return weights.fillna(0.0)


def root(square: xr.DataArray) -> xr.DataArray:
    """Return the square root, lazily where the input is lazy."""
    return square**0.5


def finish(score: xr.DataArray, forecast: xr.DataArray, long_name: str, power: int) -> xr.DataArray:
    """Name a score and give it the units of the forecast to a power."""
    units = forecast.attrs.get("units")
    if units is None and power:
        score.attrs = {"long_name": long_name}
    else:
        score.attrs = score_attrs(long_name, units=units, unit_power=power)
    return score
