"""Arrays whose items along the first axis are read, or made, one by one when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from xarray.backends import BackendArray
from xarray.core import indexing

__all__ = ["Items"]


class Items(BackendArray):
    """Items of one shape, for :class:`xarray.core.indexing.LazilyIndexedArray`.

    Parameters
    ----------
    number : int
        How many there are.
    shape : tuple of int
        Of one item.
    dtype : numpy.dtype
    read : callable
        Returns the item of a number, an array of that shape and dtype.
    """

    def __init__(
        self,
        number: int,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        read: Callable[[int], npt.NDArray[Any]],
    ) -> None:
        self.shape = (number, *shape)
        self.dtype = np.dtype(dtype)
        self.read = read

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        outer = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, outer, self._outer)

    def _outer(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        which = np.arange(self.shape[0])[key[0]]
        found = [_cut(self.read(int(k)), key[1:]) for k in np.ravel(which)]
        if not found:
            return _cut(np.empty(self.shape, self.dtype), key)
        stacked: npt.NDArray[Any] = np.stack(found) if np.ndim(which) else found[0]
        return stacked


def _cut(item: npt.NDArray[Any], key: tuple[Any, ...]) -> npt.NDArray[Any]:
    """Index each axis by its own key, from the last axis on."""
    for axis, own in reversed(list(enumerate(key))):
        item = item[(slice(None),) * axis + (own,)]
    return item
