"""Labeled histories as a forecaster reads them, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr

from ..cf.discover import Axes, discover
from ..cf.timeaxis import Step, TimeAxis
from ..data.grid import Grid
from ..data.loader import Windows
from ..data.masks import require_valid
from ..data.windows import Window
from ..errors import AxisError, MissingDataError, TimeAxisError
from .adapt import Adapted, adapt
from .adapt import Reads as Readable
from .inputs import Reader, ranks

if TYPE_CHECKING:
    from torch import Tensor

    from .forecaster import NetworkForecaster
    from .place import Place

__all__ = ["Histories", "read_histories", "refuse_other_dims"]


class Reads(Readable, Protocol):
    """What of a forecaster decides how a history is read, beside what it can read."""

    @property
    def window(self) -> Window:
        """History and horizon."""

    @property
    def step(self) -> Step:
        """Of the time axis."""

    @property
    def season(self) -> bool:
        """Whether the time of year is read."""

    @property
    def place(self) -> Place:
        """Whether it stays on its grid."""


@dataclass(frozen=True, eq=False)
class Histories:
    """The histories of some inits.

    Parameters
    ----------
    source : DataArray or Dataset
        The data they come from; a Dataset holds the forecaster's variables in its order.
    reader : Reader
    positions : array of int (I,)
        Of the inits, on the time axis.
    grid : Grid
        Of the data, seen in the orientation of the forecaster, with the forecaster's mask.
    required : array of bool (H, W)
    adapted : Adapted
        How the source was made of what was given.
    """

    source: xr.DataArray | xr.Dataset
    reader: Reader
    positions: np.ndarray
    grid: Grid
    required: np.ndarray
    adapted: Adapted

    @property
    def axis(self) -> TimeAxis:
        """The time axis of the data."""
        return self.reader.windows.axis

    @property
    def keys(self) -> np.ndarray:
        """A non-negative number per init that depends on its time alone."""
        return self.axis.microseconds[self.positions].astype(np.int64) % 2**62

    @property
    def variables(self) -> tuple[xr.DataArray, ...]:
        """The variables, in the order of the channels."""
        if isinstance(self.source, xr.DataArray):
            return (self.source,)
        return tuple(self.source[name] for name in self.source.data_vars)

    @property
    def steps(self) -> np.ndarray:
        """Positions (I, T) of all steps of the histories, on the time axis as stored."""
        rank, order = ranks(self.axis), np.asarray(self.axis.order)
        back = np.arange(1 - self.reader.windows.window.history, 1)
        return order[rank[self.positions][:, None] + back]

    def batch(self, rows: slice) -> tuple[Tensor, Tensor, np.ndarray]:
        """Return x (n, T, H, W, C), the network's input (n, T, H, W, C') and the time of year.

        Raises
        ------
        MissingDataError
            If values are missing or infinite where the forecaster needs them, or a whole step
            of a history is missing.
        """
        numbers = np.arange(len(self.positions))[rows]
        batch = self.reader.windows.batch(numbers)
        names = ", ".join(str(variable.name) for variable in self.variables)
        valid = batch.mask_x.numpy()
        require_valid(np.moveaxis(valid, -1, 0), self.required, names)
        self._require_steps(valid.any(axis=(2, 3, 4)), rows, names)
        x = self.reader.fields(batch.x)
        if not bool(x.isfinite().all()):
            raise MissingDataError(
                f"{names}: expected finite values in the history, found infinite ones. Replace "
                "them, for example with .where(np.isfinite(da)) and .interpolate_na()."
            )
        network_input = self.reader.network_input(x, batch.init_positions)
        return x, network_input, self.reader.season_of(batch.init_positions)

    def valid(self, rows: slice) -> np.ndarray:
        """Return where the histories (n, T, H, W, C) of some inits hold a value."""
        numbers = np.arange(len(self.positions))[rows]
        return self.reader.windows.batch(numbers).mask_x.numpy()

    def _require_steps(self, seen: Any, rows: slice, names: str) -> None:
        """Refuse histories with a step (n, T) that holds no value at all."""
        if seen.all():
            return
        absent = np.unique(self.steps[rows][~seen])
        stamps = [str(self.axis.values[position])[:19] for position in absent]
        raise MissingDataError(
            f"{names}: expected values in every step of the history, found none in {len(stamps)} "
            f"of them: {', '.join(stamps[:5])}. Choose another init, or fill the step from its "
            f"neighbors, for example with .interpolate_na({self.axis.name!r})."
        )


def refuse_other_dims(obj: xr.DataArray | xr.Dataset, axes: Axes) -> None:
    """Refuse data with dims beside time, rows and columns.

    Raises
    ------
    AxisError
        If there are any; names them.
    """
    others = [str(dim) for dim in obj.dims if dim not in (axes.time, axes.y, axes.x)]
    if isinstance(obj, xr.Dataset):
        fields = [v.dims for v in obj.data_vars.values() if {axes.y, axes.x} <= set(v.dims)]
        others = [dim for dim in others if any(dim in dims for dims in fields)]
    if others:
        raise AxisError(
            f"data: expected the dims time, rows and columns, found {others} as well. Select one "
            f"entry of each, for example with .isel({others[0]}=0)."
        )


def _selected(history: xr.Dataset, reads: Reads) -> xr.Dataset:
    """Return the variables a forecaster reads, in its order."""
    names = reads.normalizer.variables
    absent = [name for name in names if name not in history]
    if absent:
        raise MissingDataError(
            f"Dataset: expected the variables {names}, found {list(history.data_vars)} without "
            f"{absent}. Rename or add them."
        )
    return history[list(names)]


def read_histories(
    forecaster: NetworkForecaster, history: xr.DataArray | xr.Dataset, init: Any
) -> Histories:
    """Check ``history`` against a forecaster and find the histories of ``init``.

    Only coordinates and attributes are read here.

    Parameters
    ----------
    forecaster : NetworkForecaster
    history : DataArray or Dataset
    init : optional
        As for :meth:`xearth.cf.timeaxis.TimeAxis.select`; None is the last step.

    Raises
    ------
    AxisError, TimeAxisError, UnitsError, GridMismatchError, MissingDataError
        See :meth:`NetworkForecaster.forecast`.
    """
    reads: Reads = forecaster
    axes = discover(history)
    axis = TimeAxis.from_array(history[axes.time])
    if axis.step is not None and axis.step != reads.step:
        raise TimeAxisError(
            f"time axis {axis.name!r} has a step of {axis.step}; {reads.name!r} was trained on "
            f"steps of {reads.step}. Resample the data, for example with "
            f".resample({axis.name}=...).mean()."
        )
    indices, beside = forecaster.indices, None
    if indices is not None:
        beside = indices.beside(history, axis, reader=reads.name)
    source = history
    if isinstance(history, xr.Dataset):
        source = _selected(history, reads)
    refuse_other_dims(source, axes)
    reads = reads.place.settle(reads, source)
    adapted = adapt(source, reads)
    source = adapted.history
    window = Window(reads.window.history, 0)
    windows = Windows(
        source,
        window,
        normalizer=reads.normalizer,
        grid=reads.grid,
        init=axis.values[axis.select(None)] if init is None else init,
    )
    known = reads.grid.mask
    return Histories(
        source,
        Reader(windows, season=reads.season, known=known, beside=beside),
        windows.init_positions,
        windows.grid.with_mask(known),
        reads.required,
        adapted,
    )
