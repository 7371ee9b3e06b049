"""How a network is trained, as values: epochs, batches, schedule, averaging, stopping, devices."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from ..errors import ConfigError
from .optim import Schedule

__all__ = ["TrainOptions"]

# fp16 needs a gradient scaler between backward and clipping, which exact accumulation cannot see
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "64-true")
AVERAGINGS = ("constant", "warmed")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Everything about a run that is neither the model, nor the data, nor the loss.

    Parameters
    ----------
    epochs : int
        Passes over the training samples.
    batch_size : int
        Samples in one step of the optimizer (on each device).
    micro_batch : int or None
        Samples held in memory at once: a batch is cut into such pieces and their gradients are
        added, which gives the gradient of the whole batch. None: the whole batch.
    seed : int
        Order of the samples and dropout derive from (seed, epoch).
    schedule : Schedule
        Optimizer and learning rate.
    ema : float or None
        Decay per step of an exponential moving average of the weights; the average is what is
        validated and returned.
    averaging : {"constant", "warmed"}
        Whether that decay holds from the first step, or rises to it with the number of steps, so
        that a short run does not carry its start along
        (:func:`~xearth.training.ema.warmed_average`: the average of the published PreDiff).
    patience : int or None
        Stop after so many epochs without a better validation loss.
    progress : bool
        Show lightning's progress bar.
    precision, accelerator, devices, strategy : see ``pytorch_lightning.Trainer``
        Passed through. Precision "16-mixed" is refused: use "bf16-mixed".

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> TrainOptions(epochs=3, batch_size=8).steps(samples=20)
    9
    """

    epochs: int = 100
    batch_size: int = 32
    micro_batch: int | None = None
    seed: int = 0
    schedule: Schedule = field(default_factory=Schedule)
    ema: float | None = None
    averaging: Literal["constant", "warmed"] = "constant"
    patience: int | None = None
    progress: bool = True
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int | str | tuple[int, ...] = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "micro_batch", "patience"):
            value = getattr(self, name)
            optional = name in ("micro_batch", "patience")
            if (value is None and optional) or (isinstance(value, int) and value >= 1):
                continue
            raise ConfigError(f"TrainOptions({name}={value!r}): expected a whole number >= 1")
        if self.seed < 0:
            raise ConfigError(f"TrainOptions(seed={self.seed}): expected a whole number >= 0")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"TrainOptions(ema={self.ema}): expected a decay between 0 and 1")
        if self.averaging not in AVERAGINGS:
            raise ConfigError(
                f"TrainOptions(averaging={self.averaging!r}): expected one of {AVERAGINGS}"
            )
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"TrainOptions(precision={self.precision!r}): expected one of {PRECISIONS}"
            )

    def steps(self, samples: int) -> int:
        """Return the number of optimizer steps of a whole run over ``samples`` samples."""
        return self.epochs * math.ceil(samples / self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain values, for provenance and for comparing runs."""
        return asdict(self)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the options."""
        return tuple(item.name for item in fields(cls))
