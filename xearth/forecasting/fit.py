"""Fit a forecaster to labeled data."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..data.grid import Grid
from ..data.splits import Split
from ..data.windows import Window
from ..errors import ConfigError
from ..training.options import TrainOptions
from .cases import Cases
from .crops import CropExamples
from .firstguess import FittedGuess
from .forecaster import NetworkForecaster
from .inputs import WindowExamples
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
    split: Split | None = None,
    recipe: Recipe | None = None,
    **options: Any,
) -> NetworkForecaster:
    """Train networks on labeled data and return them as a forecaster.

    Statistics, mask, first guess and weights come from the training period alone; no training
    window shares a step with the validation.

    Parameters
    ----------
    config : EarthformerConfig
        Sized for the fields of ``data`` and ``window`` with one channel per field (``for_data``),
        or for a crop of them if the recipe says so; the channels of the season, of index series
        and of the head are added here.
    data : DataArray or Dataset (time, lat, lon)
        Missing cells count for nothing. Series (time,) of a Dataset are read beside the fields
        and not forecast: see :func:`xearth.with_indices`.
    window : Window
        History and horizon in steps.
    validation : slice, DataArray or Dataset, optional
        A period of ``data``, in which all targets of a validation window lie, or other data on
        the same grid. The epoch with the best validation loss is kept.
    split : Split, optional
        Instead of ``validation``: its train part teaches, its choose part validates, its judge
        part is not looked at. The forecaster's provenance records it.
    recipe : Recipe, optional
        Head, loss, first guess, number of networks and all other options.
    **options : optional
        Fields of :class:`~xearth.training.options.TrainOptions` instead of those of
        ``recipe.options``: ``epochs``, ``batch_size``, ``seed``, ``progress`` and others.

    Returns
    -------
    NetworkForecaster

    Raises
    ------
    AxisError, TimeAxisError, UnitsError, GridMismatchError, MissingDataError
        If the data cannot be used; before anything is trained.
    ConfigError
        If the configuration does not fit the data, both ``validation`` and ``split`` are given,
        or an option is unknown.
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
    recipe = _recipe(recipe, options)
    cases = Cases.of(data, window, validation=validation, split=split, recipe=recipe)
    place, grid, required = _placed(config, cases, recipe)
    config = _sized(config, cases, (*grid.shape, len(cases.normalizer.variables)), recipe)
    guess, held = _first_guess(cases, recipe)
    rank = recipe.chosen_head().rank
    cut = _cutter(cases, grid.shape, recipe)
    training = cut(cases.examples(cases.reader, cases.training, rank=rank, guess=guess, means=held))
    checking = None
    if cases.checking is not None:
        checking = cut(cases.examples(*cases.checking, rank=rank, guess=guess))
    trained = [
        _train(config, training, checking, recipe=recipe, number=number)
        for number in range(recipe.networks)
    ]
    return NetworkForecaster(
        config=config,
        states=tuple(result.state for result in trained),
        head=recipe.chosen_head(),
        grid=grid,
        normalizer=cases.normalizer,
        indices=cases.indices,
        window=dataclasses.replace(window, stride=1),
        step=cases.step,
        required=required,
        guess=guess,
        season=recipe.season,
        place=place,
        name=recipe.name,
        provenance=_provenance(cases, recipe),
        metrics=_metrics(trained),
    )


def _recipe(recipe: Recipe | None, options: Mapping[str, Any]) -> Recipe:
    """Return the recipe with the options that were given by themselves; None means not given."""
    recipe = Recipe() if recipe is None else recipe
    unknown = sorted(set(options) - set(TrainOptions.names()))
    if unknown:
        raise ConfigError(
            f"fit({', '.join(f'{name}=' for name in unknown)}): expected data, window, "
            f"validation, split, recipe or an option of training, one of {TrainOptions.names()}"
        )
    changes: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    return dataclasses.replace(recipe, options=dataclasses.replace(recipe.options, **changes))


def _placed(
    config: EarthformerConfig, cases: Cases, recipe: Recipe
) -> tuple[Place, Grid, np.ndarray]:
    """Return place, grid and required cells: those of the data, or of a crop without a place."""
    if recipe.crops is None:
        return Fixed(), cases.grid, cases.required
    _, H, W, _ = config.input_shape
    return Anywhere.for_frame((H, W)), frame_of(cases.grid, (H, W)), np.zeros((H, W), dtype=bool)


def _cutter(
    cases: Cases, shape: tuple[int, int], recipe: Recipe
) -> Callable[[WindowExamples], Examples]:
    """Return what makes training samples of windows: crops of them, or the windows as they are."""
    if recipe.crops is None:
        return lambda examples: examples
    count, known, seed = recipe.crops, cases.area > 0, recipe.options.seed
    return lambda whole: CropExamples(whole, shape, per_window=count, known=known, seed=seed)


def _sized(
    config: EarthformerConfig, cases: Cases, size: tuple[int, int, int], recipe: Recipe
) -> EarthformerConfig:
    """Return the configuration with the channels of the season, the indices and the head."""
    window, indices = cases.reader.windows.window, cases.indices
    fields = "data" if indices is None else f"data.drop_vars({list(indices.names)})"
    expected = ((window.history, *size), (window.horizon, *size))
    found = (tuple(config.input_shape), tuple(config.target_shape))
    if found != expected:
        raise ConfigError(
            f"{type(config).__name__}: the data and {window!r} need input and target of {expected} "
            f"(T, H, W, C), found {found}. Size it with for_data({fields}, window, like=...)."
        )
    H, W, C = size
    beside = recipe.seasonal_channels + (0 if indices is None else indices.channels)
    return dataclasses.replace(
        config,
        input_shape=(window.history, H, W, C + beside),
        target_shape=(window.horizon, H, W, recipe.chosen_head().out_channels(C)),
    )


def _first_guess(cases: Cases, recipe: Recipe) -> tuple[FittedGuess | None, np.ndarray | None]:
    if recipe.guess is None:
        return None, None
    x, y, season = cases.examples(cases.reader, cases.training).arrays()
    rank = recipe.chosen_head().rank
    return recipe.guess.fit(x, y, season=season, area=cases.area, rank=rank)


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


def _provenance(cases: Cases, recipe: Recipe) -> dict[str, Any]:
    """Return where the forecaster comes from, as plain values."""
    attrs = dict(cases.data.attrs)
    options = recipe.options.to_dict()
    names = ("xearth", "torch", "numpy", "xarray")
    versions = {name: str(sys.modules[name].__version__) for name in names}  # all loaded by now
    facts: dict[str, Any] = {
        "data": str(
            attrs.get("title") or attrs.get("long_name") or getattr(cases.data, "name", "")
        ),
        "source": str(attrs.get("source", "")),
        "base_period": str(attrs.get("base_period", "")),
        **cases.periods(),
        "crops_per_window": recipe.crops,
        "head": repr(recipe.chosen_head()),
        "loss": repr(recipe.chosen_loss()),
        "guess": repr(recipe.guess),
        "options": {key: value for key, value in options.items() if key != "progress"},
        "seeds": [recipe.options.seed + k for k in range(recipe.networks)],
        "versions": versions,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    return facts


def _metrics(trained: list[Trained]) -> dict[str, Any]:
    """Return what was measured while training, as plain values."""
    return {
        "best_epoch": [result.best_epoch for result in trained],
        "epochs": [[dict(line) for line in result.history] for result in trained],
    }
