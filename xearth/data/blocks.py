"""Blocks: stretches of time read from labeled data into canonical arrays, decoded on the way.

A `Source` knows where each variable goes in an array (*others, T, H, W, C) and by which affine
map. Floating data arrive as float32 with missing cells 0; packed integers of one dtype stay as
they are. Reading is the only thing that computes, and a read is one Dask graph.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from ..cf.packing import fill_values
from .grid import Grid
from .layout import compute
from .masks import static_mask, valid_mask

__all__ = ["Source"]

# Bytes decoded at a time while an array is loaded: far below the budget, far above a read's cost.
_BLOCK = 2**26


@dataclass(frozen=True, eq=False)
class Source:
    """Labeled data with the way into a canonical array.

    Parameters
    ----------
    obj : DataArray or Dataset
        Data with time sorted.
    grid : Grid
        Its layout, oriented as the array shall be.
    affine : tuple of array (C,), optional
        Scale and offset of each channel; None leaves the numbers as they are.
    """

    obj: xr.DataArray | xr.Dataset
    grid: Grid
    affine: tuple[np.ndarray, np.ndarray] | None = None

    @cached_property
    def packed(self) -> np.dtype | None:
        """The one dtype of at most 16 bits of all channels, or None if they are not packed."""
        dtypes = {channel.dtype.newbyteorder("=") for channel in self.grid.channels}
        alone = dtypes.pop()
        # float32 holds 16 bits exactly; longer integers are mapped in double precision instead.
        return alone if not dtypes and alone.kind in "biu" and alone.itemsize <= 2 else None

    @cached_property
    def dtype(self) -> np.dtype:
        """Dtype of the array: the packed one or float32."""
        return self.packed if self.packed is not None else np.dtype(np.float32)

    @cached_property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(S, T, H, W, C) of all the data: sequences, times, rows, columns, channels."""
        n, _, height, width, count = self.grid.sizes
        return n, self.obj.sizes[self.time], height, width, count

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @cached_property
    def time(self) -> Hashable:
        """Name of the time dim."""
        return self.grid.dims[-3]

    @cached_property
    def others(self) -> tuple[Hashable, ...]:
        """Dims folded into S."""
        return self.grid.dims[:-3]

    @cached_property
    def variables(self) -> list[xr.Variable]:
        """Variable of each channel, without its coordinates: cutting those would cost more."""
        if isinstance(self.obj, xr.DataArray):
            return [self.obj.variable]
        return [self.obj[channel.name].variable for channel in self.grid.channels]

    def load(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Read everything, block by block.

        Returns
        -------
        values : array (S, T, H, W, C)
        valid : array of bool, broadcastable to it, or None
            None if nothing is missing; (1, 1, H, W, C) if the same cells always are.
        """
        sizes = self.grid.template.sizes
        lead = tuple(sizes[d] for d in self.others)
        values = np.empty((*lead, *self.shape[1:]), self.dtype)
        valid: np.ndarray | None = None
        for start, stop in self.time_blocks():
            steps = (..., slice(start, stop), slice(None), slice(None), slice(None))
            block = self.read([self._stretch(start, stop, {})])[0]
            found = self.decode(block, values[steps])
            if found is not None and valid is None:
                valid = np.ones(values.shape, dtype=bool)
            if found is not None and valid is not None:
                valid[steps] = found
        values = values.reshape(self.shape)
        return values, None if valid is None else _collapsed(valid.reshape(self.shape))

    def valid_cells(self) -> np.ndarray:
        """Return (H, W): cells valid at least once in any field; reads block by block."""
        cells = np.zeros(self.grid.shape, dtype=bool)
        for start, stop in self.time_blocks():
            block = self.read([self._stretch(start, stop, {})])[0]
            channels = zip(self.grid.channels, self.variables, self.grid.on_cells, strict=True)
            for (channel, variable, on_cells), array in zip(channels, block, strict=True):
                if on_cells:
                    valid = valid_mask(array, fill_values(variable.attrs))
                    cells |= static_mask(self.grid.canonical(channel, valid))
        return cells

    def time_blocks(self) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) of stretches of about `_BLOCK` bytes, along Dask chunks if any."""
        steps = self.shape[1]
        rows = max(1, _BLOCK // max(1, self.nbytes // max(1, steps)))
        chunks = [v.chunksizes[self.time] for v in self.variables if self.time in v.chunksizes]
        edges = np.cumsum(chunks[0]) if chunks else np.arange(rows, steps + rows, rows)
        start = 0
        for i, edge in enumerate(np.minimum(edges, steps).tolist()):
            if edge - start >= rows or i == len(edges) - 1:
                yield start, edge
                start = edge

    def windows(
        self, sequences: np.ndarray, starts: np.ndarray, out: np.ndarray
    ) -> np.ndarray | None:
        """Read windows (B,) into ``out`` (B, L, H, W, C) with one Dask graph.

        Parameters
        ----------
        sequences, starts : array of int (B,)
            Folded index and first time of each window.
        out : array (B, L, H, W, C)
            Filled in place.

        Returns
        -------
        array of bool (B, L, H, W, C) or None
            Where values are valid; None if all are.
        """
        sizes = [self.grid.template.sizes[d] for d in self.others]
        places = zip(*np.unravel_index(sequences, sizes), strict=True) if sizes else ()
        picks = [dict(zip(self.others, place, strict=True)) for place in places]
        picks = picks or [{}] * len(starts)
        length = out.shape[1]
        parts = [
            self._stretch(int(s), int(s) + length, pick)
            for s, pick in zip(starts, picks, strict=True)
        ]
        valid: np.ndarray | None = None
        for k, block in enumerate(self.read(parts)):
            view = out[k].reshape(*(1,) * len(sizes), *out.shape[1:])
            found = self.decode(block, view)
            if found is not None:
                valid = np.ones(out.shape, dtype=bool) if valid is None else valid
                valid[k] = found.reshape(out.shape[1:])
        return valid

    def _stretch(self, start: int, stop: int, pick: dict[Hashable, Any]) -> list[xr.Variable]:
        """Return each channel's variable at some times of one or all sequences, unread."""
        cuts = {self.time: slice(start, stop)}
        cuts |= {dim: slice(int(i), int(i) + 1) for dim, i in pick.items()}
        return [v.isel(cuts, missing_dims="ignore") for v in self.variables]

    @staticmethod
    def read(stretches: Sequence[Sequence[xr.Variable]]) -> list[list[np.ndarray]]:
        """Return the stored values of several stretches, computed together."""
        arrays = compute([v.data for stretch in stretches for v in stretch])
        return [[next(arrays) for _ in stretch] for stretch in stretches]

    def decode(self, block: Sequence[np.ndarray], out: np.ndarray) -> np.ndarray | None:
        """Write stored values of each channel into ``out`` (*others, T, H, W, C).

        Returns
        -------
        array of bool like ``out``, or None
            Where values are valid; None if all are.
        """
        valid: np.ndarray | None = None
        channels = zip(self.grid.channels, self.variables, block, strict=True)
        for c, (channel, variable, array) in enumerate(channels):
            found = valid_mask(array, fill_values(variable.attrs))
            if not found.all():
                valid = np.ones(out.shape, dtype=bool) if valid is None else valid
                valid[..., c] = self.grid.canonical(channel, found)
            out[..., c] = self.grid.canonical(channel, self._mapped(array, found, c))
        return valid

    def _mapped(self, array: np.ndarray, valid: np.ndarray, c: int) -> np.ndarray:
        """Return one channel's numbers as they are stored in the array."""
        if self.packed is not None:
            return array
        if self.affine is not None:
            # In double precision and rounded once: temperatures in K lose nothing.
            array = array * np.float64(self.affine[0][c]) + np.float64(self.affine[1][c])
        with np.errstate(invalid="ignore", over="ignore"):
            return np.where(valid, array, 0).astype(np.float32)


def _collapsed(valid: np.ndarray) -> np.ndarray:
    """Return (1, 1, H, W, C) if the mask (S, T, H, W, C) never changes, else the mask."""
    first = valid[:1, :1]
    return first.copy() if bool((valid == first).all()) else valid
