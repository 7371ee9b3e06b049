"""Integers counted block by block, added up: the same for any chunking, lazily."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from ..pairs import Dims, reduced_dims

__all__ = ["Counted", "Layout", "count_blocks"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """All dimensions of a pair of fields: the kept ones, the pooled ones, those of a field.

    Parameters
    ----------
    kept, pooled, core : tuple of hashable
        The core is what one block has to hold whole, such as y and x.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[[0.0]]], dims=("init", "y", "x"))
    >>> Layout.of(f, f, ("y", "x"), core=("y", "x")).kept
    ('init',)
    """

    kept: tuple[Hashable, ...]
    pooled: tuple[Hashable, ...]
    core: tuple[Hashable, ...] = ()

    @classmethod
    def of(
        cls,
        forecast: xr.DataArray,
        obs: xr.DataArray,
        dim: Dims,
        *,
        pooled: tuple[Hashable, ...] = (),
        core: tuple[Hashable, ...] = (),
    ) -> Layout:
        """Return the layout of a pair counted over ``dim`` (None for all), ``pooled`` and core."""
        names = [*forecast.dims, *(name for name in obs.dims if name not in forecast.dims)]
        frame = xr.DataArray(np.empty((0,) * len(names)), dims=names)
        chosen = {*reduced_dims(frame, dim), *pooled, *core}
        kept = tuple(name for name in names if name not in chosen)
        return cls(kept, tuple(n for n in names if n in chosen and n not in core), core)

    @property
    def order(self) -> tuple[Hashable, ...]:
        """Kept, pooled, core."""
        return (*self.kept, *self.pooled, *self.core)

    def places(self, field: xr.Variable) -> tuple[int, ...]:
        """Return where the dimensions of a field stand in the order."""
        return tuple(self.order.index(name) for name in field.dims)

    def spread(self, values: Array, places: tuple[int, ...]) -> Array:
        """Give a block of a field an axis, perhaps of length 1, for every dimension."""
        sizes = dict(zip(places, values.shape, strict=True))
        return values.reshape([sizes.get(k, 1) for k in range(len(self.order))])


@dataclass(frozen=True)
class Counted:
    """Counts (new..., kept...) with what labels the kept dimensions."""

    values: Any
    kept: tuple[Hashable, ...]
    coords: Mapping[Hashable, xr.DataArray]


def count_blocks(
    function: Callable[[Array, Array], Array],
    forecast: xr.DataArray,
    obs: xr.DataArray,
    layout: Layout,
    new: tuple[int, ...],
) -> Counted:
    """Apply a counting function to every block of a pair and add its counts.

    Parameters
    ----------
    function : callable
        Of forecast and truth (kept..., pooled..., core...), to int64 counts (new..., kept...).
    forecast, obs : DataArray
        Each may lack dimensions of the other.
    layout : Layout
    new : tuple of int
        Lengths of the axes that the function makes.

    Returns
    -------
    Counted
    """
    f, o = (
        field.variable.transpose(*layout.order, missing_dims="ignore") for field in (forecast, obs)
    )
    rank, kept = len(layout.order), len(layout.kept)
    mine, theirs = layout.places(f), layout.places(o)

    def block(x: Array, y: Array) -> Array:
        """Count in one block; it must not hold on to the fields, which travel with every task."""
        x, y = np.broadcast_arrays(layout.spread(x, mine), layout.spread(y, theirs))
        counts = function(x, y)
        return counts.reshape(*counts.shape, *(1,) * (rank - kept))

    if f.chunks is None and o.chunks is None:
        counts = block(f.data, o.data)
    else:
        whole = dict.fromkeys(layout.core, -1)
        f, o = (v.chunk({k: -1 for k in whole if k in v.dims} if v.chunks else {}) for v in (f, o))
        counts = da.blockwise(
            block,
            (*range(-len(new), 0), *range(rank)),
            f.data,
            mine,
            o.data,
            theirs,
            new_axes=dict(zip(range(-len(new), 0), new, strict=True)),
            adjust_chunks=dict.fromkeys(range(kept, rank), 1),
            concatenate=True,
            dtype=np.int64,
            meta=np.empty((0,) * (len(new) + rank), dtype=np.int64),
        )
    counts = counts.sum(axis=tuple(range(len(new) + kept, len(new) + rank)))
    coords = {
        name: coord
        for field in (obs, forecast)
        for name, coord in field.coords.items()
        if set(coord.dims) <= set(layout.kept)
    }
    return Counted(counts, layout.kept, coords)
