"""Cases: training and validation windows of labeled data, and what is learned from the former.

Which windows teach is said by a held period, by other data, or by a
:class:`~xearth.data.splits.Split`. Statistics and masks come from what teaches; data that neither
teach nor choose are looked at by nobody.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.timeaxis import TimeAxis
from ..data.grid import Grid
from ..data.loader import Windows
from ..data.normalize import Normalizer
from ..data.splits import Split
from ..data.windows import Window
from ..errors import ConfigError, TimeAxisError
from .history import refuse_other_dims
from .indices import Indices, fields_of
from .inputs import Reader, WindowExamples, ranks
from .recipe import Recipe

__all__ = ["Cases"]


@dataclass(frozen=True, eq=False)
class Cases:
    """Training and validation windows and all that is learned from the training data.

    Parameters
    ----------
    reader : Reader
    training : array of int
        Numbers of the training windows.
    checking : (Reader, array of int) or None
        Validation windows.
    normalizer : Normalizer
    indices : Indices or None
        Series beside the fields.
    grid : Grid
        With the mask of what training windows ever hold.
    required : array of bool (H, W)
        Cells that training windows always hold.
    data : DataArray or Dataset
        What teaches.
    told : mapping
        What is known about the periods beside the windows, for the provenance.
    """

    reader: Reader
    training: np.ndarray
    checking: tuple[Reader, np.ndarray] | None
    normalizer: Normalizer
    indices: Indices | None
    grid: Grid
    required: np.ndarray
    data: xr.DataArray | xr.Dataset
    told: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        data: xr.DataArray | xr.Dataset,
        window: Window,
        *,
        validation: Any,
        split: Split | None,
        recipe: Recipe,
    ) -> Cases:
        """Check the data, cut them in training and validation, and fit the statistics.

        Raises
        ------
        AxisError, TimeAxisError, UnitsError, GridMismatchError, MissingDataError
            If the data cannot be used.
        ConfigError
            Both ``validation`` and ``split``.
        """
        if window.horizon < 1:
            raise TimeAxisError(f"{window!r}: training needs a horizon of at least 1 step")
        if split is not None and validation is not None:
            raise ConfigError(
                f"fit(validation={validation!r:.80}, split={split}): expected one of them. A "
                "split names the validation itself, Split(train=..., choose=...)."
            )
        axes = discover(data)
        refuse_other_dims(data, axes)
        plain = dataclasses.replace(window, stride=1)
        if split is None:
            choice = _held(data, str(axes.time), window, validation)
        else:
            choice = _parted(data, str(axes.time), window, split)
        normalizer = Normalizer.fit(fields_of(choice.teaching), kind=recipe.normalize)
        indices = Indices.fit(choice.teaching, kind=recipe.normalize)
        windows = Windows(fields_of(choice.data), plain, normalizer=normalizer)
        training, checking = choice.numbers(windows)
        mask, required = _validity(windows, training)
        grid = windows.grid.horizontal().with_mask(mask)

        def reads(data: Any, windows: Windows) -> Reader:
            beside = None
            if indices is not None:
                beside = indices.beside(data, windows.axis, reader=recipe.name)
            return Reader(windows, season=recipe.season, known=mask, beside=beside)

        reader = reads(choice.data, windows)
        other: tuple[Reader, np.ndarray] | None = None
        if checking is not None:
            other = (reader, checking)
        elif validation is not None:
            refuse_other_dims(validation, discover(validation))
            apart = Windows(validation, plain, normalizer=normalizer, grid=grid)
            other = (reads(validation, apart), np.arange(len(apart)))
        told = {} if split is None else split.provenance()
        if indices is not None:
            told["indices"] = indices.told(choice.teaching)
        return cls(
            reader, training, other, normalizer, indices, grid, required, choice.teaching, told
        )

    @property
    def step(self) -> Any:
        """Step of the time axis."""
        return self.reader.windows.axis.step

    @property
    def area(self) -> np.ndarray:
        """Relative areas (H, W), 0 in cells that never hold a value."""
        mask = self.grid.mask
        return self.grid.cell_weights * (1.0 if mask is None else mask)

    def examples(self, reader: Reader, numbers: np.ndarray, **how: Any) -> WindowExamples:
        """Return windows as samples, weighted by area."""
        return WindowExamples(reader, numbers, cell_weights=self.area, **how)

    def periods(self) -> dict[str, Any]:
        """Return periods and numbers of the windows, as plain values."""
        facts: dict[str, Any] = {
            "training_period": _period(self.reader.windows, self.training),
            "training_windows": len(self.training),
        }
        if self.checking is not None:
            reader, numbers = self.checking
            facts["validation_period"] = _period(reader.windows, numbers)
            facts["validation_windows"] = len(numbers)
        return facts | dict(self.told)


@dataclass(frozen=True, eq=False)
class _Choice:
    """Which steps teach, and the inits (positions on the axis of ``data``) that train and check."""

    data: xr.DataArray | xr.Dataset
    teaching: xr.DataArray | xr.Dataset
    training: np.ndarray
    checking: np.ndarray | None

    def numbers(self, windows: Windows) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the numbers of the windows that train, and of those that check."""
        inits = windows.init_positions
        training = np.flatnonzero(np.isin(inits, self.training))
        if self.checking is None:
            return training, None
        return training, np.flatnonzero(np.isin(inits, self.checking))


def _held(data: Any, time: str, window: Window, validation: Any) -> _Choice:
    """Return the windows without a step of a held period, and those whose targets are all held."""
    axis = TimeAxis.from_array(data[time])
    plain = dataclasses.replace(window, stride=1)
    inits = plain.starts(axis)  # says what is wrong with a short axis before anything is computed
    held = np.zeros(len(axis.values), dtype=bool)
    if isinstance(validation, slice):
        held[axis.select(validation)] = True
    steps = _steps(axis, inits, window)
    free = inits[~held[steps].any(1)][:: window.stride]
    if free.size == 0:
        raise TimeAxisError(
            f"time axis {axis.name!r}: no training window of {window.length} steps lies outside "
            f"the validation {validation}. Shorten the validation or the window."
        )
    teaching = data.isel({time: np.flatnonzero(~held)}) if held.any() else data
    if not isinstance(validation, slice):
        return _Choice(data, teaching, free, None)
    asked = steps[:, window.history + window.gap :]
    inside = inits[held[asked].all(1)][:: window.stride]
    if inside.size == 0:
        raise TimeAxisError(
            f"validation={validation}: no window of {window.reach} target steps lies in it. "
            "Choose a longer period."
        )
    return _Choice(data, teaching, free, inside)


def _parted(data: Any, time: str, window: Window, split: Split) -> _Choice:
    """Return the windows that a split admits to train and choose, and the data they reach."""
    axis = TimeAxis.from_array(data[time])
    teaching = data.isel({time: np.sort(split.positions(axis, "train"))})
    training = split.inits(axis, window, "train")
    checking = split.inits(axis, window, "choose") if split.choose is not None else None
    used = training if checking is None else np.concatenate([training, checking])
    rank, touched = ranks(axis), _steps(axis, used, window)
    # what lies beyond the last window that teaches or chooses is not even read
    order = np.asarray(axis.order)[rank[touched].min() : rank[touched].max() + 1]
    kept = np.sort(order)
    chosen = None if checking is None else np.searchsorted(kept, checking)
    return _Choice(data.isel({time: kept}), teaching, np.searchsorted(kept, training), chosen)


def _steps(axis: TimeAxis, inits: np.ndarray, window: Window) -> np.ndarray:
    """Return the positions (n, length) of all steps that windows span, in the order of time."""
    order = np.asarray(axis.order)
    around = np.arange(1 - window.history, window.reach + 1)
    return order[ranks(axis)[inits][:, None] + around]


def _validity(windows: Windows, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells (H, W) valid at least once, and those always valid, in training windows."""
    ever = np.zeros(windows.grid.shape, dtype=bool)
    always = np.ones(windows.grid.shape, dtype=bool)
    for start in range(0, len(numbers), 64):
        batch = windows.batch(numbers[start : start + 64])
        for mask in (batch.mask_x.numpy(), batch.mask_y.numpy()):
            ever |= mask.any((0, 1, 4))
            always &= mask.all((0, 1, 4))
    return ever, always


def _period(windows: Windows, numbers: np.ndarray) -> str:
    """Return the first and last step that windows touch, "1856-01/1981-12"."""
    axis, window = windows.axis, windows.window
    at = ranks(axis)[windows.init_positions[numbers]]
    length = 7 if axis.step is not None and axis.step.months is not None else 16
    first = axis.values[axis.order[at.min() - window.history + 1]]
    last = axis.values[axis.order[at.max() + window.reach]]
    return f"{str(first)[:length]}/{str(last)[:length]}"
