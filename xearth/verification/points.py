"""Functions that need all of their points at once, such as ranks, of labeled arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from .block import Array
from .pairs import Dims, mean_over, pair, reduced_dims, refuse_record

__all__ = ["over_points"]


def over_points(
    function: Callable[[Array, Array, Array], Array],
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims,
    weights: xr.DataArray | None,
    new: Mapping[str, Any],
) -> xr.DataArray:
    """Apply a function of the known points (n,), with their weights, of each set to be reduced.

    For what needs all of its points at once, such as ranks: on Dask arrays the dimensions that
    are reduced become one chunk.
    """
    refuse_record(forecast, obs)
    forecast, obs = pair(forecast, obs)
    forecast, obs = xr.broadcast(forecast, obs)
    dims = reduced_dims(forecast, dim)
    w = xr.ones_like(forecast)
    if weights is not None:
        if set(weights.dims) - set(dims):
            mean_over(forecast, dims, weights)  # says what is wrong with them
        w = weights.fillna(0.0).drop_vars(list(weights.coords))

    def one(p: Array, o: Array, w: Array) -> Array:
        there = ~np.isnan(p) & ~np.isnan(o) & (w > 0)
        return function(p[there], o[there], w[there])

    order = {"points": dims}
    found: xr.DataArray = xr.apply_ufunc(
        one,
        *(a.broadcast_like(forecast).stack(order, create_index=False) for a in (forecast, obs, w)),
        input_core_dims=[["points"]] * 3,
        output_core_dims=[list(new)],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={
            "allow_rechunk": True,
            "output_sizes": {name: len(labels) for name, labels in new.items()},
        },
    )
    return found.assign_coords(new)
