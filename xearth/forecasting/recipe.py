"""What is fitted beside the network's size: head, loss, first guess, inputs, number of networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..training.options import TrainOptions
from .firstguess import LinearGuess

if TYPE_CHECKING:
    from ..models.heads import Head
    from ..training.losses import Loss
    from ..training.strategies import SampledLoss

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How :func:`xearth.fit` makes a forecaster from data and a model's configuration.

    The defaults are the published training: one network, a point forecast, squared error.

    Parameters
    ----------
    head : Point or LowRankGaussian, optional
        What the output means; default ``Point()``.
    loss : optional
        A loss of :mod:`xearth.training.losses`; default squared error for a point,
        ``GaussianCRPS()`` for a distribution. For networks that predict the next frame also a
        strategy: ``NextFrameLoss`` of :mod:`xearth.training.strategies`, ``PhyDNetLoss`` or
        ``E3DLSTMLoss`` of :mod:`xearth.training.physics_losses`; without a first guess.
    networks : int
        How many networks are trained, each from its own seed; together they are an ensemble.
    guess : LinearGuess, optional
        A linear first guess that the networks depart from; default none.
    season : bool
        Whether the time of year enters the network, as two channels (cosine and sine).
    normalize : {"standard", "minmax", "none"}
        How the data are normalized; fitted to the training period alone.
    crops : int, optional
        Train on so many random crops of each window, of the size the network is configured for,
        and forecast on any grid of that spacing; default the whole grid, whose cells the network
        then knows. For radar; without a first guess.
    options : TrainOptions
        Epochs, batches, schedule, averaging, stopping, devices.
    checkpoints : path, optional
        A directory from which a killed run is resumed.
    name : str
        Name of the forecaster, written in its forecasts.

    Raises
    ------
    ConfigError
        If the number of networks or of crops is not positive, or crops or a strategy meet a first
        guess.

    Examples
    --------
    >>> Recipe(networks=3).networks
    3
    """

    head: Head | None = None
    loss: Loss | SampledLoss | None = None
    networks: int = 1
    guess: LinearGuess | None = None
    season: bool = False
    normalize: str = "standard"
    crops: int | None = None
    options: TrainOptions = field(default_factory=TrainOptions)
    checkpoints: str | Path | None = None
    name: str = "network"

    def __post_init__(self) -> None:
        if self.networks < 1:
            raise ConfigError(f"Recipe(networks={self.networks}): expected at least 1")
        if self.crops is not None and self.crops < 1:
            raise ConfigError(f"Recipe(crops={self.crops}): expected at least 1, or None")
        if self.crops is not None and self.guess is not None:
            raise ConfigError(
                f"Recipe(crops={self.crops}, guess={self.guess!r}): a first guess is fitted to the "
                "cells of a grid, which crops do not have. Leave one of them out."
            )
        if self.guess is not None and hasattr(self.loss, "sampling"):
            raise ConfigError(
                f"Recipe(loss={self.loss!r}, guess={self.guess!r}): the network is to predict "
                "whole frames, which it reads next, not departures. Leave one of them out."
            )

    @property
    def seasonal_channels(self) -> int:
        """How many input channels tell the time of year."""
        return 2 if self.season else 0

    def chosen_head(self) -> Head:
        """Return the head, or the default one."""
        from ..models.heads import Point

        return Point() if self.head is None else self.head

    def chosen_loss(self) -> Callable[..., Any]:
        """Return the loss, or the default one of the head."""
        from ..training.losses import MSE, GaussianCRPS

        if self.loss is not None:
            return self.loss
        return GaussianCRPS() if self.chosen_head().rank else MSE()
