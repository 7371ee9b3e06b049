"""Loader: windows of labeled data as batches of tensors.

Data that fit the memory budget are decoded once into one array; a batch is then a copy of
contiguous slices into a buffer. Larger data stay where they are, and a batch is one Dask graph.
Packed integers stay packed in memory and are normalized when a batch is made.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.timeaxis import TimeAxis
from ..errors import DataTypeError, MissingDataError, TimeAxisError
from .blocks import Source
from .grid import Grid
from .normalize import Normalizer
from .windows import Window, gaps_of

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Windows"]

_EVERYWHERE = np.ones((1,) * 5, dtype=bool)


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows side by side.

    Parameters
    ----------
    x, mask_x : torch.Tensor (N, history, H, W, C)
        Observed steps and where they are valid (bool); values are 0 elsewhere.
    y, mask_y : torch.Tensor (N, horizon, H, W, C)
        Steps asked for and where they are valid.
    init_positions : array of int64 (N,)
        Position of each init on the time axis as stored.
    sequences : array of int64 (N,)
        Folded index over the other dims (member ...), 0 without any.
    month : torch.Tensor of int64 (N,)
        Calendar month of each init, 1 to 12.
    """

    x: torch.Tensor
    y: torch.Tensor
    mask_x: torch.Tensor
    mask_y: torch.Tensor
    init_positions: np.ndarray
    sequences: np.ndarray
    month: torch.Tensor

    def __len__(self) -> int:
        return len(self.init_positions)


class _Buffers:
    """Arrays lent to batches, and lent again once no tensor refers to them."""

    # A batch in use, one being made, one on its way to a device.
    kept = 3

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[_Buffers], tuple[()]]:
        return _Buffers, ()  # another process starts with buffers of its own

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array that nobody else holds; its content is arbitrary."""
        with self._lock:
            for i in range(len(self._arrays)):
                # Two references: the list and getrefcount's argument. A tensor would be a third.
                if sys.getrefcount(self._arrays[i]) == 2:
                    array = self._arrays[i]
                    if array.shape == shape and array.dtype == dtype:
                        return array
            array = np.empty(shape, dtype)
            self._arrays = [array, *self._arrays[: self.kept - 1]]
            return array


class Windows:
    """All windows of a labeled object, by number.

    Nothing but coordinates is read before the first batch.

    Parameters
    ----------
    obj : DataArray or Dataset
        Fields along time; the variables of a Dataset are channels, other dims (member ...) are
        separate sequences.
    window : Window
        History and horizon; ``horizon=0`` for histories alone.
    normalizer : Normalizer, optional
        Units are checked and converted, values normalized. Without one, packed integers (8 and 16
        bits) are returned as they are and all else is only cast to float32.
    grid : Grid, optional
        The grid of a model; the data must match it and are oriented like it.
    init : optional
        Which inits to keep, as `TimeAxis.select` reads them: a slice keeps those of its inits
        that have a complete window; a stamp or a list of stamps must have one each.
    memory_budget : int, default 2 GiB
        Bytes up to which the decoded data are kept in memory.
    device : optional
        Where the tensors go; packed integers are moved first and normalized there.

    Raises
    ------
    AxisError, TimeAxisError
        If an axis is missing, too short, or its only window has a gap.
    UnitsError
        If units do not fit the normalizer's.
    GridMismatchError
        If the data are on another grid.

    Examples
    --------
    >>> import xarray as xr
    >>> time = xr.date_range("2000-01", periods=24, freq="MS", use_cftime=False)
    >>> da = xr.DataArray(
    ...     np.arange(24.0 * 6).reshape(24, 2, 3), dims=("time", "lat", "lon"),
    ...     coords={"time": time,
    ...             "lat": ("lat", [0.0, 5.0], {"units": "degrees_north"}),
    ...             "lon": ("lon", [0.0, 5.0, 10.0], {"units": "degrees_east"})})
    >>> windows = Windows(da, Window(history=3, horizon=2))
    >>> len(windows)
    20
    >>> batch = windows.batch([0, 19])
    >>> batch.x.shape, batch.y.shape, batch.month
    (torch.Size([2, 3, 2, 3, 1]), torch.Size([2, 2, 2, 3, 1]), tensor([ 3, 10]))
    """

    def __init__(
        self,
        obj: xr.DataArray | xr.Dataset,
        window: Window,
        *,
        normalizer: Normalizer | None = None,
        grid: Grid | None = None,
        init: Any = None,
        memory_budget: int = 2 * 2**30,
        device: Any = None,
    ) -> None:
        axes = discover(obj)
        if not isinstance(window, Window):
            raise DataTypeError(
                f"window: expected a Window, found {type(window).__name__}. Make one: "
                "Window(history=12, horizon=18)."
            )
        if normalizer is not None and isinstance(obj, xr.Dataset):
            obj = _selected(obj, normalizer)
        self.window = window
        self.normalizer = normalizer
        self.axis = TimeAxis.from_array(obj[axes.time])
        self.init_positions = _chosen(window, self.axis, init)
        order = np.asarray(self.axis.order)
        if not np.array_equal(order, np.arange(obj.sizes[axes.time])):
            obj = obj.isel({axes.time: order})
        rank = np.empty(len(self.axis), dtype=np.int64)
        rank[order] = np.arange(order.size)
        self._starts = rank[self.init_positions] - window.history + 1
        self._months = obj[axes.time].dt.month.values[rank[self.init_positions]].astype(np.int64)
        data_grid = Grid.from_array(obj, axes)
        self.grid = data_grid if grid is None else _oriented(data_grid, grid)
        affine = None if normalizer is None else normalizer.affine(obj)
        self._source = Source(obj, self.grid, affine)
        self._count = len(self.init_positions) * self._source.shape[0]
        self.in_memory = self._source.nbytes <= memory_budget
        self._device = device
        self._buffers = _Buffers()
        self._loaded: tuple[np.ndarray, np.ndarray | None] | None = None
        self._constant: tuple[torch.Tensor, torch.Tensor] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int | Sequence[int]) -> Batch:
        if isinstance(index, int | np.integer) and not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        return self.batch(np.atleast_1d(index))

    def __repr__(self) -> str:
        return f"<Windows: {len(self)} of {self.window!r} on {self.grid.summary()}>"

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Return the windows of the given numbers, in that order.

        The tensors are yours: their memory is used again only when you have dropped them.

        Parameters
        ----------
        indices : sequence of int (N,)
            From 0 to ``len(self) - 1``; negative ones count from the end.

        Raises
        ------
        IndexError
            If a number is out of range.
        """
        import torch

        numbers = self._numbers(indices)
        sequences, at = np.divmod(numbers, len(self.init_positions))
        starts = self._starts[at]
        source, length = self._source, self.window.length
        out = self._buffers.take((len(numbers), length, *source.shape[2:]), source.dtype)
        valid = self._copy(sequences, starts, out)
        x, y = self._tensors(out, valid)
        mask_x, mask_y = self._masks(valid, len(numbers))
        return Batch(
            x,
            y,
            mask_x,
            mask_y,
            self.init_positions[at],
            sequences,
            torch.from_numpy(self._months[at]),
        )

    def _tensors(self, out: np.ndarray, valid: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return history and horizon of filled windows (N, L, H, W, C), normalized if packed."""
        import torch

        window, source = self.window, self._source
        # Cut by numpy, which takes a tenth of the time of torch: small batches feel it.
        cuts = out[:, : window.history], out[:, window.length - window.horizon :]
        x, y = (torch.from_numpy(cut).to(self._device) for cut in cuts)
        if source.packed is not None and source.affine is not None:
            mask_x, mask_y = self._masks(valid, len(out))
            x, y = (_normalized(v, m, source.affine) for v, m in ((x, mask_x), (y, mask_y)))
        return x, y

    def _masks(self, valid: np.ndarray, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the masks of history and horizon; those that never change are made once."""
        import torch

        static = self._loaded[1] if self._loaded is not None else None
        constant = valid is _EVERYWHERE or valid is static
        if constant and self._constant is not None and len(self._constant[0]) == count:
            return self._constant
        shape = (count, self.window.length, *self._source.shape[2:])
        mask = torch.from_numpy(valid).to(self._device).expand(shape)
        split = mask[:, : self.window.history], mask[:, self.window.length - self.window.horizon :]
        if constant:
            self._constant = split
        return split

    def batches(self, batch_size: int, shuffle_seed: int | None = None) -> Iterator[Batch]:
        """Yield all windows once, in order or shuffled by a seed; the last batch may be smaller.

        Examples
        --------
        See `Windows`; ``for batch in windows.batches(32, shuffle_seed=epoch): ...``
        """
        numbers = np.arange(len(self))
        if shuffle_seed is not None:
            np.random.default_rng(shuffle_seed).shuffle(numbers)
        for start in range(0, len(self), batch_size):
            yield self.batch(numbers[start : start + batch_size])

    def valid_cells(self) -> np.ndarray:
        """Return (H, W): cells valid at least once in any field; reads all the data."""
        if self.in_memory:
            valid = self._memory()[1]
            if valid is None:
                return np.ones(self.grid.shape, dtype=bool)
            return np.asarray(valid[..., self.grid.on_cells].any(axis=(0, 1, 4)))
        return self._source.valid_cells()

    def _numbers(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return window numbers as int64, from 0."""
        numbers = np.ravel(indices)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise IndexError(
                f"window numbers: expected whole numbers from 0 to {self._count - 1}, found dtype "
                f"{numbers.dtype}. Take the positions of a mask with np.flatnonzero(mask)."
            )
        numbers = numbers.astype(np.int64)
        low, high = (numbers.min(), numbers.max()) if numbers.size else (0, 0)
        if low < -self._count or high >= self._count:
            raise IndexError(
                f"window numbers: expected 0 to {self._count - 1}, found {low} to {high}."
            )
        return numbers % self._count if low < 0 else numbers

    def _memory(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the decoded data and mask, read at the first call."""
        if self._loaded is None:
            self._loaded = self._source.load()
        return self._loaded

    def _copy(self, sequences: np.ndarray, starts: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Fill ``out`` (N, L, H, W, C) with windows; return the mask, broadcastable to it."""
        if not self.in_memory:
            valid = self._source.windows(sequences, starts, out)
            return _EVERYWHERE if valid is None else valid
        values, valid = self._memory()
        length = out.shape[1]
        places = list(zip(sequences.tolist(), starts.tolist(), strict=True))
        for k, (s, t) in enumerate(places):
            out[k] = values[s, t : t + length]
        if valid is None:
            return _EVERYWHERE
        if valid.shape[1] == 1:
            return valid
        return np.stack([valid[s, t : t + length] for s, t in places])


def _oriented(data: Grid, grid: Grid) -> Grid:
    """Return the Grid of the data with the orientation of a model's grid."""
    rows, columns = grid.align(data)
    return replace(data, y_index=data.y_index[rows], x_index=data.x_index[columns])


def _selected(obj: xr.Dataset, normalizer: Normalizer) -> xr.Dataset:
    """Return the Dataset with the variables of a normalizer, in their order."""
    absent = [name for name in normalizer.variables if name not in obj]
    if absent:
        raise MissingDataError(
            f"Dataset: expected the variables {normalizer.variables}, found "
            f"{list(obj.data_vars)} without {absent}. Rename or add them."
        )
    return obj[list(normalizer.variables)]


def _chosen(window: Window, axis: TimeAxis, init: Any) -> np.ndarray:
    """Return the positions of the inits that are wanted and have a complete window."""
    if init is None:
        return window.starts(axis)
    every = replace(window, stride=1)
    complete = every.starts(axis) if isinstance(init, slice) else every.allowed(axis)
    wanted = axis.select(init)
    fits = np.isin(wanted, complete)
    if isinstance(init, slice):
        if not fits.any():
            raise TimeAxisError(
                f"init={init!r}: expected an init with a complete window, found none among "
                f"{wanted.size}; {window!r} allows {axis.values[complete[0]]} to "
                f"{axis.values[complete[-1]]}."
            )
        return wanted[fits][:: window.stride]
    if not fits.all():
        found = gaps_of(axis) if len(axis.gaps) else "fewer"
        raise TimeAxisError(
            f"init={axis.values[wanted[~fits][0]]}: expected {window.history} steps up to it and "
            f"{window.reach} after it without a gap, found {found}; {window!r} allows "
            f"{axis.values[complete[0]]} to {axis.values[complete[-1]]}."
        )
    return wanted


def _normalized(
    values: torch.Tensor, mask: torch.Tensor, affine: tuple[np.ndarray, np.ndarray]
) -> torch.Tensor:
    """Return ``a * values + b`` (float32) of packed integers, 0 where missing."""
    import torch

    a, b = (torch.as_tensor(part, dtype=torch.float32, device=values.device) for part in affine)
    out = values.to(torch.float32).mul_(a).add_(b)
    return out.masked_fill_(~mask, 0.0)
