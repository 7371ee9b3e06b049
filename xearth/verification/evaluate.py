"""One score of labeled arrays, over any of their dimensions, lazily."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from ..errors import AxisError, ConfigError
from .block import Array, Block
from .pairs import (
    Dims,
    finish,
    floating,
    in_double,
    known_weights,
    reduced_dims,
    refuse_record,
    same_terms,
)
from .score import Score

__all__ = ["evaluate"]


def evaluate(
    score: Score,
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    climatology: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return one score of a forecast.

    Parameters
    ----------
    score : Score
        A row of one of the tables.
    forecast, obs : DataArray
        Forecast and truth; the truth is converted to the units of the forecast and may lack
        dimensions of the forecast. Dask arrays stay lazy.
    dim : name or names, optional
        What the score is taken over; by default all dimensions but the member's, ``()`` for
        none.
    weights : DataArray, optional
        On dimensions that are reduced, such as the area of the cells.
    climatology : DataArray, optional
        What anomalies are taken from, like ``obs``; without it both are anomalies already.
    member : str, optional
        Name of the member dimension; without it the forecast is taken as single forecasts.

    Returns
    -------
    DataArray
        The dimensions that are kept, then the score's own. Units of the forecast to the power
        of the score.

    Raises
    ------
    AxisError
        No such member dimension, or weights on a dimension that is kept.
    ConfigError
        Fewer members than the score is defined for, negative or infinite weights.
    DataTypeError, GridMismatchError, UnitsError
        As :func:`~xearth.verification.pairs.same_terms`.

    Warns
    -----
    XearthWarning
        Both are anomalies, from different base periods.
    """
    _check_members(score, forecast, member)
    refuse_record(forecast, obs)
    # a threshold is met by what is stored; all else is worked out in double precision
    of_events = any("threshold" in statistic.dims for statistic in score.statistics)
    exact = floating if of_events else in_double
    f, o = (exact(field) for field in same_terms(forecast, obs))
    if climatology is not None:
        climatology = exact(same_terms(forecast, climatology)[1])
    if set(o.dims) - set(f.dims):
        f = f.broadcast_like(o)
    single = f.isel({member: 0}, drop=True) if member else f
    dims = reduced_dims(single, dim)
    kept = [name for name in single.dims if name not in dims]
    shape = {**o.sizes, **f.sizes}
    w = _weights(weights, dims, {name: shape[name] for name in dims})
    inputs = [f, o.broadcast_like(single), w]
    if climatology is not None:
        inputs.append(climatology.broadcast_like(inputs[1]))
    cores = [[*([member] if member else []), *dims], *([dims] * (len(inputs) - 1))]
    result: xr.DataArray = xr.apply_ufunc(
        _score_block,
        *inputs,
        input_core_dims=cores,
        output_core_dims=[list(score.coords)],
        kwargs={"score": score, "reduced": len(dims), "ensemble": member is not None},
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={
            "allow_rechunk": True,
            "output_sizes": {name: len(labels) for name, labels in score.coords.items()},
        },
    )
    result = result.transpose(*kept, *score.coords).assign_coords(score.coords)
    result = finish(result, forecast, score.facts.long_name, score.facts.unit_power)
    return result.rename(score.name)


def _score_block(
    f: Array, o: Array, w: Array, *rest: Array, score: Score, reduced: int, ensemble: bool
) -> Array:
    """Return the score (kept..., own...) of f (kept..., M, reduced...), o (kept..., reduced...)."""
    kept = o.shape[: o.ndim - reduced]
    f = f if ensemble else np.expand_dims(f, len(kept))
    f = np.broadcast_to(f, (*kept, *f.shape[f.ndim - reduced - 1 :]))
    members = f.reshape(int(np.prod(kept)), f.shape[len(kept)], -1).transpose(1, 0, 2)
    truth = o.reshape(members.shape[1:])
    block = Block(members, truth, rest[0].reshape(truth.shape) if rest else None)
    found: dict[str, Any] = {}
    for statistic in score.statistics:
        state = statistic.observe(block, w.reshape(1, -1))
        found[statistic.name] = statistic.result({name: part[:, 0] for name, part in state.items()})
    value = np.asarray(score.finish(found), dtype=np.float64)
    return value.reshape((*kept, *value.shape[1:]))


def _weights(
    weights: xr.DataArray | None, dims: list[Hashable], sizes: dict[Hashable, int]
) -> xr.DataArray:
    """Return the weights on all reduced dimensions, 0 where they are missing."""
    ones = xr.DataArray(np.ones([sizes[name] for name in dims]), dims=dims)
    if weights is None:
        return ones
    return (ones * known_weights(weights, dims).drop_vars(list(weights.coords))).transpose(*dims)


def _check_members(score: Score, forecast: xr.DataArray, member: str | None) -> None:
    if member is not None and member not in forecast.dims:
        raise AxisError(
            f"forecast {forecast.name!r} has no member dimension {member!r}; its dims are "
            f"{forecast.dims}. Name it with member=..., or use a score of single forecasts."
        )
    size = 1 if member is None else forecast.sizes[member]
    if size < score.facts.members:
        raise ConfigError(
            f"score {score.name!r} needs {score.facts.members} members or more; forecast "
            f"{forecast.name!r} has {size}. Forecast with members=..., or use another score."
        )
