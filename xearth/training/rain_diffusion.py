r"""Training of a model of rain that is followed (:mod:`xearth.models.prediff.rain`).

First what needs no gradients: the scale of each coefficient at each lead, and the Gaussian law of
the scaled sequences. Then the denoiser, by the error of the velocity in the blocks that are known,

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
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..models.prediff.rain import RainDiffusion
from ..models.prediff.rain_cases import Example, crop, turned
from .ema import warmed_average

__all__ = ["RainDiffusionRecipe", "fit_laws", "fit_rain_diffusion"]

SQUARES = 320  # that the Gaussian law is estimated from


@dataclass(frozen=True, kw_only=True)
class RainDiffusionRecipe:
    """How a model is trained.

    Parameters
    ----------
    minutes : float
        Of processor time.
    batch : int
        Squares of a step.
    blocks : int
        Rows and columns of blocks of a square.
    rate : float
        Highest learning rate; it rises for 30 steps and falls as a cosine of the time.
    average : float
        Decay of the moving average of the weights.
    seed : int

    Raises
    ------
    ConfigError
        A number is not positive.
    """

    minutes: float = 25.0
    batch: int = 4
    blocks: int = 16
    rate: float = 1.5e-3
    average: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("minutes", "batch", "blocks", "rate"):
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
    squared, total, read, count = 0.0, 0.0, [0.0, 0.0], 0
    for one in (one for event in events for one in event):
        w = (one.weight > 0).float()[..., None]
        squared = squared + (w * one.x.float().square()).sum((1, 2))
        total = total + w.sum((1, 2))
        context = one.context.float().square()
        for k, part in enumerate((context[:frames], context[frames:])):
            read[k] = read[k] + part.mean((0, 1, 2))
        count += 1
    model.scale.copy_((squared / total).sqrt().clamp_min(1e-4))
    model.read.copy_(torch.stack([(x / count).sqrt().clamp_min(1e-4) for x in read]))
    generator = torch.Generator().manual_seed(recipe.seed)
    large = _large(events, recipe)
    some = [square(large, recipe, model, generator) for _ in range(SQUARES)]
    some.sort(key=lambda one: -float((one.weight > 0).float().mean()))
    x = torch.stack([one.x for one in some[: SQUARES // 2]]) / model.scale[:, None, None]
    model.law.fit(x[..., :C])
    model.rest.fit(x[..., C:])


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
    C, frames = model.config.channels, len(model.config.frames)
    x0 = torch.stack([one.x for one in batch])[..., :C] / model.scale[:, None, None, :C]
    context = torch.stack([one.context for one in batch])
    context = torch.cat(
        [context[:, :frames] / model.read[0], context[:, frames:] / model.read[1]], 1
    )
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
    events = _large(events, recipe)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, recipe.rate, betas=(0.9, 0.97), weight_decay=0.01)
    average = warmed_average(model, recipe.average)
    step, spent, losses = 0, 0.0, []
    if checkpoint is not None and checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=True)
        step, spent = kept["step"], kept["spent"]
        for part, state in ((model, "model"), (average, "average"), (optimizer, "optimizer")):
            part.load_state_dict(kept[state])
    generator = torch.Generator().manual_seed(recipe.seed + 1 + step)
    shape = (recipe.batch, *model.denoiser.config.target_shape)
    model.train()
    while (share := spent / (60 * recipe.minutes)) < 1.0:
        begun = time.process_time()
        rate = (
            recipe.rate
            * min(1.0, (step + 1) / 30)
            * (0.02 + 0.49 * (1 + math.cos(math.pi * share)))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = [square(events, recipe, model, generator) for _ in range(recipe.batch)]
        t = (
            torch.arange(recipe.batch) + torch.rand(recipe.batch, generator=generator)
        ) / recipe.batch
        loss = loss_of(
            model, batch, model.process.time_scale * t, torch.randn(shape, generator=generator)
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update_parameters(model)
        losses.append(float(loss.detach()))
        step, spent = step + 1, spent + time.process_time() - begun
        if step % 50 == 0:
            if report is not None:
                report(step, sum(losses[-50:]) / 50, spent)
            if checkpoint is not None:
                state = {"model": model, "average": average, "optimizer": optimizer}
                saved = {k: part.state_dict() for k, part in state.items()}
                aside = checkpoint.with_suffix(".part")
                torch.save({**saved, "step": step, "spent": spent}, aside)
                aside.replace(checkpoint)
    return average.module.eval()
