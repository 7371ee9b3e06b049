r"""Training of a model of rain that is followed (:mod:`xearth.models.prediff.rain`).

First what needs no gradients: the scale of each coefficient at each lead, and the Gaussian law of
the scaled sequences, where rain is likely. Then the denoiser, by the error of the velocity in the
blocks that are known,

.. math:: L = \frac{\sum w\, \lVert v(z_t, t \mid z_c) - (x_1 - x_0) \rVert^2}{C \sum w} ,

on squares of blocks that are mirrored and transposed at random. What is kept is the moving average
of the weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ..errors import ConfigError
from ..models.prediff.rain import RainDiffusion
from ..models.prediff.rain_cases import Example, crop, turned
from .ema import warmed_average

__all__ = ["RainDiffusionRecipe", "drawn_scores", "fit_laws", "fit_rain_diffusion"]

SQUARES = 160  # that the Gaussian law is estimated from, where rain is likely
EVERY = 50  # steps between reports and checkpoints


@dataclass(frozen=True, kw_only=True)
class RainDiffusionRecipe:
    """How a model is trained.

    Parameters
    ----------
    steps : int
    batch : int
        Squares of a step.
    blocks : int
        Rows and columns of blocks of a square.
    rate : float
        Highest learning rate; it rises for 30 steps and falls as a cosine.
    average : float
        Decay of the moving average of the weights.
    seed : int

    Raises
    ------
    ConfigError
        A number is not positive.
    """

    steps: int = 6000
    batch: int = 4
    blocks: int = 16
    rate: float = 1.5e-3
    average: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "blocks", "rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"RainDiffusionRecipe({name}={getattr(self, name)!r}): expected a positive "
                    "number"
                )


Events = Sequence[Sequence[Example]]


@torch.no_grad()
def fit_laws(model: RainDiffusion, events: Events, recipe: RainDiffusionRecipe) -> None:
    """Set the scales and Gaussian laws of a model.

    Parameters
    ----------
    model : RainDiffusion
    events : sequence of sequences of Example
    recipe : RainDiffusionRecipe
    """
    C, frames = model.config.channels, len(model.config.frames)
    squared, total = torch.zeros_like(model.scale), torch.zeros_like(model.scale[:, :1])
    read, count = torch.zeros_like(model.read), 0
    for one in (one for event in events for one in event):
        w = one.weight.float()[..., None]
        squared += (w * one.x.float().square()).sum((1, 2))
        total += w.sum((1, 2))
        context = one.context.float().square()
        for k, part in enumerate((context[:frames], context[frames:])):
            read[k] += part.mean((0, 1, 2))
        count += 1
    model.scale.copy_((squared / total).sqrt().clamp_min(1e-4))
    model.read.copy_((read / count).sqrt().clamp_min(1e-4))
    some = _wettest(model, events, recipe, SQUARES, seed=recipe.seed)
    x = torch.stack([one.x for one in some]) / model.scale[:, None, None]
    model.law.fit(x[..., :C])
    model.rest.fit(x[..., C:])


@torch.no_grad()
def drawn_scores(
    model: RainDiffusion, events: Events, recipe: RainDiffusionRecipe, count: int = 24
) -> Tensor:
    """Return a member (count, T, H, W) for each of some squares where rain is likely.

    Parameters
    ----------
    model : RainDiffusion
        Trained, for a grid of the recipe's squares.
    events : sequence of sequences of Example
    recipe : RainDiffusionRecipe
    count : int
    """
    found = []
    for k, one in enumerate(_wettest(model, events, recipe, count, seed=recipe.seed + 1)):
        members = [2 * k, 2 * k + 1]  # one alone would take a slower way
        found.append(model.sample(model.scaled(one.context[None]), members=members)[:1])
    return torch.cat(found)


def _wettest(
    model: RainDiffusion, events: Events, recipe: RainDiffusionRecipe, count: int, *, seed: int
) -> list[Example]:
    """Return squares where rain is likely: the first quarter of four times as many."""
    large, generator = _large(events, recipe), torch.Generator().manual_seed(seed)
    some = [square(large, recipe, model, generator) for _ in range(4 * count)]
    return sorted(some, key=lambda one: -float(one.weight.mean()))[:count]


def _large(events: Events, recipe: RainDiffusionRecipe) -> Events:
    """Return the examples that hold a whole square."""
    found = [[one for one in e if min(one.weight.shape[1:]) >= recipe.blocks] for e in events]
    if not found or not all(found):
        raise ConfigError(
            f"squares of {recipe.blocks} x {recipe.blocks} blocks: expected examples that hold one "
            "in each event. Give larger fields, or a recipe with fewer blocks."
        )
    return found


def square(
    events: Events, recipe: RainDiffusionRecipe, model: RainDiffusion, generator: torch.Generator
) -> Example:
    """Return a square of an example of an event, each as likely as the others."""
    event = events[int(torch.randint(len(events), (), generator=generator))]
    one = event[int(torch.randint(len(event), (), generator=generator))]
    return turned(crop(one, recipe.blocks, generator), model.blocks, generator)


def loss_of(model: RainDiffusion, batch: Sequence[Example], t: Tensor, noise: Tensor) -> Tensor:
    """Return the weighted error of the velocity.

    Parameters
    ----------
    model : RainDiffusion
    batch : sequence of Example
    t : Tensor (N,)
        Times of the process.
    noise : Tensor (N, T, h, w, C)
    """
    C = model.config.channels
    x0 = torch.stack([one.x for one in batch])[..., :C] / model.scale[:, None, None, :C]
    context = model.scaled(torch.stack([one.context for one in batch]))
    w = torch.stack([one.weight for one in batch])[..., None]
    process = model.process
    v = model.velocity(context, process.noised(x0, t, noise), t)
    error = w * (v - process.target(x0, t, noise)).square()
    return error.sum() / (C * w.sum()).clamp_min(1.0)


def fit_rain_diffusion(
    model: RainDiffusion,
    events: Events,
    recipe: RainDiffusionRecipe,
    *,
    checkpoint: Path | None = None,
    report: Callable[[int, float, float], Any] | None = None,
) -> RainDiffusion:
    """Train the denoiser of a model, and return the model with averaged weights.

    Parameters
    ----------
    model : RainDiffusion
        With laws (:func:`fit_laws`), for a grid of the recipe's squares.
    events : sequence of sequences of Example
        Each event is as likely as the others.
    recipe : RainDiffusionRecipe
    checkpoint : Path, optional
        File that is written now and then, and continued from if it is there.
    report : callable, optional
        (step, mean loss of the last 50 steps, seconds).
    """
    run = _Run.of(model, recipe)
    if checkpoint is not None and checkpoint.is_file():
        run.restore(checkpoint)
    events = _large(events, recipe)
    generator = torch.Generator().manual_seed(recipe.seed + 1 + run.step)
    model.train()
    losses: list[float] = []
    while run.step < recipe.steps:
        losses.append(run.advance(events, recipe, generator))
        if run.step % EVERY == 0:
            if report is not None:
                report(run.step, sum(losses[-EVERY:]) / len(losses[-EVERY:]), run.spent)
            if checkpoint is not None:
                run.save(checkpoint)
    return cast(RainDiffusion, run.average.module.eval())


@dataclass
class _Run:
    """Where training is."""

    model: RainDiffusion
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    spent: float = 0.0  # seconds

    @classmethod
    def of(cls, model: RainDiffusion, recipe: RainDiffusionRecipe) -> _Run:
        """Return the start of training."""
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, recipe.rate, betas=(0.9, 0.97), weight_decay=0.01)
        return cls(model, warmed_average(model, recipe.average), optimizer)

    def advance(
        self, events: Events, recipe: RainDiffusionRecipe, generator: torch.Generator
    ) -> float:
        """Take a step, and return its loss."""
        begun = time.process_time()
        model, n = self.model, recipe.batch
        falling = 0.02 + 0.49 * (1 + math.cos(math.pi * self.step / recipe.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate * min(1.0, (self.step + 1) / 30) * falling
        batch = [square(events, recipe, model, generator) for _ in range(n)]
        t = (torch.arange(n) + torch.rand(n, generator=generator)) / n * model.process.time_scale
        shape = (n, *model.denoiser.config.target_shape)
        loss = loss_of(model, batch, t, torch.randn(shape, generator=generator))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(model)
        self.step += 1
        self.spent += time.process_time() - begun
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        parts: dict[str, Any] = {
            "model": self.model,
            "average": self.average,
            "optimizer": self.optimizer,
        }
        aside = path.with_suffix(".part")
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**states, "step": self.step, "spent": self.spent}, aside)
        aside.replace(path)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint."""
        kept = torch.load(path, weights_only=True)
        self.step, self.spent = kept["step"], kept["spent"]
        self.model.load_state_dict(kept["model"])
        self.average.load_state_dict(kept["average"])
        self.optimizer.load_state_dict(kept["optimizer"])
