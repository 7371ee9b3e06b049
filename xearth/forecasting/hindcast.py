"""Hindcasts: one forecaster, many starts, nothing computed until asked.

A hindcast is a Dask array with one block for a few starts. Each block reads only the steps its
own starts need, so a hindcast can be larger than memory and run on a cluster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.forecast_coords import forecast_coords
from ..cf.timeaxis import TimeAxis
from ..data.windows import Window
from ..errors import ConfigError, TimeAxisError
from ..reference.protocol import Forecaster
from .io import forecaster_of

__all__ = ["hindcast"]


def hindcast(
    history: xr.DataArray,
    model: Any,
    *,
    init: Any = None,
    members: int | None = None,
    seed: int = 0,
    starts_per_block: int = 12,
) -> xr.DataArray:
    """Return the forecasts from many starts as one Dask-backed array.

    The first start is forecast right away: it checks the input before any long work and shows
    the dimensions, coordinates and attributes of all others.

    Parameters
    ----------
    history : DataArray
        Observed field (time, ...); Dask arrays stay lazy.
    model : Forecaster, path or str
        A forecaster, the path of a saved one, or the name of a shipped one.
    init : slice, sequence, str or None
        Starts, each the last observed step. A slice keeps the starts in it whose history is
        complete; by default all such starts.
    members : int, optional
        Size of the ensemble; by default one forecast for each start.
    seed : int
        Of the ensemble; a start gets the same members for any ``starts_per_block``.
    starts_per_block : int
        Starts of one Dask block.

    Returns
    -------
    DataArray
        (init, lead[, member], ...), as ``model.forecast`` gives it.

    Raises
    ------
    ConfigError
        If ``starts_per_block`` is not a positive whole number.
    TimeAxisError
        If no start has a complete history.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.persistence import Persistence
    >>> sst = samples.open("kaplan_sst")
    >>> model = Persistence.fit(sst.sel(time=slice("1950", "1981")), horizon=3)
    >>> hc = hindcast(sst, model, init=slice("1990-01", "1991-12"))
    >>> hc.dims, hc.sizes["init"], hc.chunks is not None
    (('init', 'lead', 'lat', 'lon'), 24, True)
    """
    import dask
    import dask.array as da

    if starts_per_block != int(starts_per_block) or starts_per_block < 1:
        raise ConfigError(
            f"starts_per_block must be a positive whole number; found {starts_per_block!r}."
        )
    forecaster = forecaster_of(model)
    name = str(discover(history, require=("time",)).time)
    axis = TimeAxis.from_array(history[name])
    positions = _starts(axis, forecaster, init)
    first = forecaster.forecast(history, init=axis.values[positions[0]], members=members, seed=seed)
    shared = dask.delayed(forecaster, traverse=False)
    blocks = []
    for begin in range(0, positions.size, int(starts_per_block)):
        chosen = positions[begin : begin + int(starts_per_block)]
        needed = history.isel({name: _steps(axis, chosen, forecaster.history)})
        block = shared.forecast(needed, init=axis.values[chosen], members=members, seed=seed)
        shape = (chosen.size, *first.shape[1:])
        blocks.append(da.from_delayed(block.data, shape, dtype=first.dtype))
    coords = forecast_coords(axis, positions, first.sizes["lead"], members=members)
    kept = {key: coord for key, coord in first.coords.items() if "init" not in coord.dims}
    kept.update({key: coord for key, coord in coords.items() if key not in kept})
    return xr.DataArray(
        da.concatenate(blocks), coords=kept, dims=first.dims, name=first.name, attrs=first.attrs
    )


def _starts(axis: TimeAxis, forecaster: Forecaster, init: Any) -> np.ndarray:
    """Return the positions of the starts; of a slice, those with a complete history."""
    if init is not None and not isinstance(init, slice):
        return axis.select(init)
    complete = Window(forecaster.history, 0).history_starts(axis)
    if init is None:
        return complete
    chosen = np.intersect1d(axis.select(init), complete, assume_unique=True)
    if chosen.size == 0:
        raise TimeAxisError(
            f"no start in {init} has the {forecaster.history} steps of history that "
            f"{forecaster.name!r} needs; complete histories end between "
            f"{axis.values[complete[0]]} and {axis.values[complete[-1]]}."
        )
    return chosen[np.argsort(axis.ordinals[chosen], kind="stable")]


def _steps(axis: TimeAxis, chosen: np.ndarray, history: int) -> np.ndarray:
    """Return, in stored order, the positions of all steps that the chosen starts look back on."""
    order = np.asarray(axis.order)
    ranks = np.empty(len(axis.values), dtype=np.int64)
    ranks[order] = np.arange(order.size)
    # One more step than needed keeps the step of the axis known for a history of one.
    back = np.arange(-max(history - 1, 1), 1)
    looked_at = np.unique(np.clip(ranks[chosen][:, None] + back, 0, order.size - 1))
    return np.sort(order[looked_at])
