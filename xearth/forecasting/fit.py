"""Fit a forecaster to labeled data."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.timeaxis import TimeAxis
from ..data.grid import Grid
from ..data.loader import Windows
from ..data.normalize import Normalizer
from ..data.windows import Window
from ..errors import ConfigError, TimeAxisError
from .crops import CropExamples
from .firstguess import FittedGuess
from .forecaster import NetworkForecaster
from .history import refuse_other_dims
from .inputs import Reader, WindowExamples, ranks
from .place import Anywhere, Fixed, Place, frame_of
from .recipe import Recipe

if TYPE_CHECKING:
    from ..models.config import EarthformerConfig
    from ..training.examples import Examples
    from ..training.trainer import Trained

__all__ = ["fit"]


def fit(
    config: EarthformerConfig,
    data: xr.DataArray | xr.Dataset,
    *,
    window: Window,
    validation: xr.DataArray | xr.Dataset | slice | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    progress: bool | None = None,
    recipe: Recipe | None = None,
) -> NetworkForecaster:
    """Train networks on labeled data and return them as a forecaster.

    Statistics, mask, first guess and weights come from the training period alone; no training
    window shares a step with the validation.

    Parameters
    ----------
    config : EarthformerConfig
        Sized for ``data`` and ``window`` with one channel per variable (``for_data``), or for
        a crop of them if the recipe says so; the channels of the season and of the head are
        added here.
    data : DataArray or Dataset (time, lat, lon)
        Missing cells count for nothing.
    window : Window
        History and horizon in steps.
    validation : slice, DataArray or Dataset, optional
        A period of ``data``, in which all targets of a validation window lie, or other data on
        the same grid. The epoch with the best validation loss is kept.
    epochs, batch_size, seed, progress : optional
        Instead of those of ``recipe.options``.
    recipe : Recipe, optional
        Head, loss, first guess, number of networks and all other options.

    Returns
    -------
    NetworkForecaster

    Raises
    ------
    AxisError, TimeAxisError, UnitsError, GridMismatchError, MissingDataError
        If the data cannot be used; before anything is trained.
    ConfigError
        If the configuration does not fit the data.
    TrainingError
        If the loss becomes NaN.
    MissingDependencyError
        Without pytorch-lightning (``pip install 'xearth[train]'``).

    Examples
    --------
    >>> from xearth import EarthformerConfig, samples
    >>> sst = samples.open("kaplan_sst").sel(time=slice("1950", "1951"), lat=slice(-5, 5))
    >>> w = Window(history=2, horizon=2)
    >>> config = EarthformerConfig.for_data(sst, w, base_units=16)
    >>> model = fit(config, sst, window=w, epochs=1, progress=False)
    >>> model.forecast(sst, init="1951-06").sizes["lead"]
    2
    """
    recipe = _recipe(recipe, epochs, batch_size, seed, progress)
    split = _split(data, window, validation, recipe)
    place, grid, required = _placed(config, split, recipe)
    config = _sized(config, (*grid.shape, len(split.normalizer.variables)), window, recipe)
    guess, held = _first_guess(split, recipe)
    rank = recipe.chosen_head().rank
    cut = _cutter(split, grid.shape, recipe)
    training = cut(split.examples(split.reader, split.training, rank=rank, guess=guess, means=held))
    checking = None
    if split.checking is not None:
        checking = cut(split.examples(*split.checking, rank=rank, guess=guess))
    trained = [
        _train(config, training, checking, recipe=recipe, number=number)
        for number in range(recipe.networks)
    ]
    return NetworkForecaster(
        config=config,
        states=tuple(result.state for result in trained),
        head=recipe.chosen_head(),
        grid=grid,
        normalizer=split.normalizer,
        window=dataclasses.replace(window, stride=1),
        step=split.step,
        required=required,
        guess=guess,
        season=recipe.season,
        place=place,
        name=recipe.name,
        provenance=_provenance(split, recipe),
        metrics=_metrics(trained),
    )


@dataclass(frozen=True, eq=False)
class _Split:
    """Training and validation windows and all that is learned from the training data."""

    reader: Reader
    training: np.ndarray
    checking: tuple[Reader, np.ndarray] | None
    normalizer: Normalizer
    grid: Grid
    required: np.ndarray
    data: xr.DataArray | xr.Dataset

    @property
    def step(self) -> Any:
        return self.reader.windows.axis.step

    @property
    def area(self) -> np.ndarray:
        """Relative areas (H, W), 0 in cells that never hold a value."""
        mask = self.grid.mask
        return self.grid.cell_weights * (1.0 if mask is None else mask)

    def examples(self, reader: Reader, numbers: np.ndarray, **how: Any) -> WindowExamples:
        """Return windows as samples, weighted by area."""
        return WindowExamples(reader, numbers, cell_weights=self.area, **how)


def _recipe(
    recipe: Recipe | None,
    epochs: int | None,
    batch_size: int | None,
    seed: int | None,
    progress: bool | None,
) -> Recipe:
    """Return the recipe with the options that were given by themselves."""
    recipe = Recipe() if recipe is None else recipe
    given = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "progress": progress}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return dataclasses.replace(recipe, options=dataclasses.replace(recipe.options, **changes))


def _split(
    data: xr.DataArray | xr.Dataset, window: Window, validation: Any, recipe: Recipe
) -> _Split:
    """Check the data, cut them in training and validation, and fit the statistics."""
    if window.horizon < 1:
        raise TimeAxisError(f"{window!r}: training needs a horizon of at least 1 step")
    axes = discover(data)
    refuse_other_dims(data, axes)
    axis = TimeAxis.from_array(data[axes.time])
    held = np.zeros(len(axis.values), dtype=bool)
    if isinstance(validation, slice):
        held[axis.select(validation)] = True
    plain = dataclasses.replace(window, stride=1)
    plain.starts(axis)  # says what is wrong with a short axis before statistics are computed
    trained_on = data.isel({axes.time: np.flatnonzero(~held)}) if held.any() else data
    normalizer = Normalizer.fit(trained_on, kind=recipe.normalize)
    windows = Windows(data, plain, normalizer=normalizer)
    training, checking = _numbers(windows, held, window.stride)
    if training.size == 0:
        raise TimeAxisError(
            f"time axis {axis.name!r}: no training window of {window.length} steps lies outside "
            f"the validation {validation}. Shorten the validation or the window."
        )
    mask, required = _validity(windows, training)
    grid = windows.grid.horizontal().with_mask(mask)
    reader = Reader(windows, season=recipe.season, known=mask)
    other: tuple[Reader, np.ndarray] | None = None
    if isinstance(validation, slice):
        other = (reader, checking)
    elif validation is not None:
        refuse_other_dims(validation, discover(validation))
        apart = Windows(validation, plain, normalizer=normalizer, grid=grid)
        other = (Reader(apart, season=recipe.season, known=mask), np.arange(len(apart)))
    if other is not None and other[1].size == 0:
        raise TimeAxisError(
            f"validation={validation}: no window of {window.reach} target steps lies in it. "
            "Choose a longer period."
        )
    return _Split(reader, training, other, normalizer, grid, required, trained_on)


def _numbers(windows: Windows, held: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows without a held step, and those whose targets are all held."""
    axis, window = windows.axis, windows.window
    in_order = held[axis.order]
    at = ranks(axis)[windows.init_positions]
    whole = at[:, None] + np.arange(1 - window.history, window.reach + 1)
    targets = at[:, None] + np.arange(window.gap + 1, window.reach + 1)
    free = ~in_order[whole].any(1)
    inside = in_order[targets].all(1)
    return np.flatnonzero(free)[::stride], np.flatnonzero(inside)[::stride]


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


def _placed(
    config: EarthformerConfig, split: _Split, recipe: Recipe
) -> tuple[Place, Grid, np.ndarray]:
    """Return place, grid and required cells: those of the data, or of a crop without a place."""
    if recipe.crops is None:
        return Fixed(), split.grid, split.required
    _, H, W, _ = config.input_shape
    return Anywhere.for_frame((H, W)), frame_of(split.grid, (H, W)), np.zeros((H, W), dtype=bool)


def _cutter(
    split: _Split, shape: tuple[int, int], recipe: Recipe
) -> Callable[[WindowExamples], Examples]:
    """Return what makes training samples of windows: crops of them, or the windows as they are."""
    if recipe.crops is None:
        return lambda examples: examples
    count, known, seed = recipe.crops, split.area > 0, recipe.options.seed
    return lambda whole: CropExamples(whole, shape, per_window=count, known=known, seed=seed)


def _sized(
    config: EarthformerConfig, size: tuple[int, int, int], window: Window, recipe: Recipe
) -> EarthformerConfig:
    """Return the configuration with the channels of the season and of the head."""
    expected = ((window.history, *size), (window.horizon, *size))
    found = (tuple(config.input_shape), tuple(config.target_shape))
    if found != expected:
        raise ConfigError(
            f"{type(config).__name__}: the data and {window!r} need input and target of {expected} "
            f"(T, H, W, C), found {found}. Size it with for_data(data, window, like=...)."
        )
    H, W, C = size
    return dataclasses.replace(
        config,
        input_shape=(window.history, H, W, C + recipe.seasonal_channels),
        target_shape=(window.horizon, H, W, recipe.chosen_head().out_channels(C)),
    )


def _first_guess(split: _Split, recipe: Recipe) -> tuple[FittedGuess | None, np.ndarray | None]:
    if recipe.guess is None:
        return None, None
    x, y, season = split.examples(split.reader, split.training).arrays()
    rank = recipe.chosen_head().rank
    return recipe.guess.fit(x, y, season=season, area=split.area, rank=rank)


def _train(
    config: EarthformerConfig,
    training: Examples,
    checking: Examples | None,
    *,
    recipe: Recipe,
    number: int,
) -> Trained:
    """Train one network from its own seed."""
    import torch

    from ..training.trainer import train

    options = dataclasses.replace(recipe.options, seed=recipe.options.seed + number)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(options.seed)
        network = config.build()
    folder = None if recipe.checkpoints is None else Path(recipe.checkpoints) / f"network-{number}"
    return train(
        network,
        training,
        head=recipe.chosen_head(),
        loss=recipe.chosen_loss(),
        options=options,
        validation=checking,
        checkpoints=folder,
    )


def _period(windows: Windows, numbers: np.ndarray) -> str:
    """Return the first and last step that windows touch, "1856-01/1981-12"."""
    axis, window = windows.axis, windows.window
    at = ranks(axis)[windows.init_positions[numbers]]
    length = 7 if axis.step is not None and axis.step.months is not None else 16
    first = axis.values[axis.order[at.min() - window.history + 1]]
    last = axis.values[axis.order[at.max() + window.reach]]
    return f"{str(first)[:length]}/{str(last)[:length]}"


def _provenance(split: _Split, recipe: Recipe) -> dict[str, Any]:
    """Return where the forecaster comes from, as plain values."""
    attrs = dict(split.data.attrs)
    options = recipe.options.to_dict()
    names = ("xearth", "torch", "numpy", "xarray")
    versions = {name: str(sys.modules[name].__version__) for name in names}  # all loaded by now
    facts: dict[str, Any] = {
        "data": str(
            attrs.get("title") or attrs.get("long_name") or getattr(split.data, "name", "")
        ),
        "source": str(attrs.get("source", "")),
        "base_period": str(attrs.get("base_period", "")),
        "training_period": _period(split.reader.windows, split.training),
        "training_windows": len(split.training),
        "crops_per_window": recipe.crops,
        "head": repr(recipe.chosen_head()),
        "loss": repr(recipe.chosen_loss()),
        "guess": repr(recipe.guess),
        "options": {key: value for key, value in options.items() if key != "progress"},
        "seeds": [recipe.options.seed + k for k in range(recipe.networks)],
        "versions": versions,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    if split.checking is not None:
        reader, numbers = split.checking
        facts["validation_period"] = _period(reader.windows, numbers)
        facts["validation_windows"] = len(numbers)
    return facts


def _metrics(trained: list[Trained]) -> dict[str, Any]:
    """Return what was measured while training, as plain values."""
    return {
        "best_epoch": [result.best_epoch for result in trained],
        "epochs": [[dict(line) for line in result.history] for result in trained],
    }
