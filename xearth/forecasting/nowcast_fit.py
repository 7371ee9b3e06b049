r"""Training of nowcasts that follow the rain: from radar events to a forecaster.

Each event gives samples: cells at leads, with the features of :mod:`xearth.models.nowcast`, from
every second start or so. Rain is also averaged to cells of twice the width and taken at every
second frame, all rain of a start is multiplied by a number near 1, and the first frames of some
histories are taken away, so that other products and short records are known from training. The
features have no direction: turning and mirroring would add nothing.

The loss is the score of :mod:`xearth.models.nowcast_law` with one threshold drawn at random from
each of ten steps, relative to the mean rain of the event, plus that of the logarithm. Events are
equally likely, whatever their length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..errors import ConfigError, TimeAxisError
from .nowcast import NowcastForecaster
from .nowcast_input import read_frames

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..models.nowcast import NowcastConfig, NowcastNet
    from ..models.nowcast_cases import Points

__all__ = ["EventPoints", "NowcastRecipe", "event_points", "fit_nowcast"]

LEVELS = (0.1, 1.0, 5.0)
#: Width factor, step factor, every so many starts, cells of each lead, times with another factor.
VARIANTS = ((1, 1, 2, 500, 2), (2, 1, 3, 250, 1), (1, 2, 3, 400, 1), (2, 2, 4, 250, 1))
FACTORS = 0.35  # standard deviation of the logarithm of the factors of rain
DEPTHS = ((6, 4, 3), (0.6, 0.25, 0.15))  # frames that are known, and how often
_LEAST = 4  # leads that must lie in the record
_EDGES = (0.04, 0.2, 0.4, 0.8, 1.6, 3.2, 6.3, 12.6, 25.1, 50.1, 100.0)  # mm/h


@dataclass(frozen=True, eq=False)
class EventPoints:
    """Samples of an event, and its mean rain in mm/h."""

    points: Points
    mean: float


@dataclass(frozen=True, kw_only=True)
class NowcastRecipe:
    """How a nowcast network is trained.

    Parameters
    ----------
    width, hidden : int
        Of the network.
    steps : int
    batch : int
        Samples of a step.
    rate : float
        Highest learning rate; it rises for a tenth and falls as a cosine.
    decay : float
        Of the weights.
    logarithmic : float
        Weight of the score of the logarithm.
    seed : int
    name : str
        Of the forecaster.

    Raises
    ------
    ConfigError
        A number is not positive.
    """

    width: int = 96
    hidden: int = 48
    steps: int = 1000
    batch: int = 3072
    rate: float = 4e-3
    decay: float = 0.02
    logarithmic: float = 0.3
    seed: int = 0
    name: str = "nowcast"

    def __post_init__(self) -> None:
        for label in ("width", "hidden", "steps", "batch", "rate"):
            if not getattr(self, label) > 0:
                raise ConfigError(
                    f"NowcastRecipe({label}={getattr(self, label)!r}): expected a positive number"
                )


def event_points(rain: xr.DataArray, *, horizon: int = 12, seed: int = 0) -> EventPoints:
    """Return the samples of an event.

    Parameters
    ----------
    rain : DataArray (time, y, x)
        Whatever :meth:`NowcastForecaster.forecast` reads.
    horizon : int
        Leads.
    seed : int

    Raises
    ------
    TimeAxisError
        The record is too short for a start, or has a gap.
    XearthError
        As :meth:`NowcastForecaster.forecast`.
    """
    import torch

    from ..models.nowcast_cases import Points, case, coarsen, points

    frames = read_frames(rain, slice(None), depth=1, name="training")
    if len(frames.axis.runs()) != 1 or len(frames.positions) < 3 + _LEAST:
        raise TimeAxisError(
            f"{rain.name!r}: expected one record of {3 + _LEAST} frames or more without a gap, "
            f"found {len(frames.positions)}. Interpolate what is missing: "
            "xearth.data.sources.radar.fill_gaps."
        )
    width, minutes = frames.facts
    order = np.asarray(frames.axis.order)
    rates = np.concatenate([frames.rates(int(i)) for i in order])
    rng = np.random.default_rng([seed, 0x2A1])
    generator = torch.Generator().manual_seed(seed)
    found = []
    for factor, stride, every, count, times in VARIANTS:
        whole = torch.from_numpy(rates)
        record = coarsen(whole, factor) if factor > 1 else whole
        none = torch.full_like(record[0], torch.nan)
        for start in range(3 * stride, len(record) - _LEAST * stride, every):
            at = start + stride * np.arange(1 - DEPTHS[0][0], horizon + 1)
            stack = torch.stack([record[k] if 0 <= k < len(record) else none for k in at])
            past, future = stack.split([DEPTHS[0][0], horizon])
            made = case(past, future, (width * factor, minutes * stride))
            for _ in range(times):
                scaled = float(np.exp(rng.normal(0, FACTORS)))
                known = int(rng.choice(DEPTHS[0], p=DEPTHS[1]))
                some = points(made, count, generator, factor=scaled, frames=known)
                found.append(some._replace(x=some.x.half()))
    together = Points(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    return EventPoints(together, float(np.nanmean(rates)))


def fit_nowcast(
    events: Mapping[str, EventPoints],
    recipe: NowcastRecipe | None = None,
    *,
    report: Callable[[int, float], None] | None = None,
) -> NowcastForecaster:
    """Train a network on events.

    Parameters
    ----------
    events : mapping of str to EventPoints
        By name.
    recipe : NowcastRecipe, optional
    report : callable, optional
        Called with the number of steps and the mean loss of the last hundred of them.

    Returns
    -------
    NowcastForecaster
        Its provenance names the events and the recipe; ``metrics["yes_from"]`` are the
        probabilities from which *yes* has the best threat score on the events of training.

    Raises
    ------
    ConfigError
        There is no event.
    """
    import copy

    import torch

    from ..models.nowcast import NowcastConfig

    recipe = recipe or NowcastRecipe()
    if not events:
        raise ConfigError("expected at least one event to train on, found none")
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    config = NowcastConfig(width=recipe.width, hidden=recipe.hidden)
    net = config.build()
    some = torch.cat([event.points.x[::7].float() for event in events.values()])
    net.center.copy_(some.mean(0))
    net.scale.copy_(some.std(0).clamp_min(0.02))
    smooth = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=recipe.rate, weight_decay=recipe.decay, betas=(0.9, 0.98)
    )
    losses: list[float] = []
    for step in range(recipe.steps):
        rise = min(1.0, 10 * (step + 1) / recipe.steps)
        for group in optimizer.param_groups:
            fall = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
            group["lr"] = recipe.rate * rise * (fall + 0.01)
        loss = _loss(net, _batch(events, recipe.batch, generator), recipe.logarithmic, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        keep = min(0.995, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, new in zip(smooth.parameters(), net.parameters(), strict=True):
                mean.lerp_(new, 1 - keep)
        if report is not None and (step + 1) % 100 == 0:
            report(step + 1, float(np.mean(losses[-100:])))
    return _forecaster(smooth, config, events, recipe, generator)


def _forecaster(
    net: NowcastNet,
    config: NowcastConfig,
    events: Mapping[str, EventPoints],
    recipe: NowcastRecipe,
    generator: torch.Generator,
) -> NowcastForecaster:
    """Return the forecaster of a trained network."""
    said = {
        "trained_on": ", ".join(events),
        "recipe": f"{recipe.steps} steps of {recipe.batch} cells, learning rate {recipe.rate:g}, "
        f"seed {recipe.seed}",
    }
    return NowcastForecaster(
        config=config,
        state={name: value.detach().clone() for name, value in net.state_dict().items()},
        name=recipe.name,
        provenance=said,
        metrics={"yes_from": _yes_from(net, events, generator)},
    )


def _batch(
    events: Mapping[str, EventPoints], size: int, generator: torch.Generator
) -> tuple[Points, Tensor]:
    """Return samples, as many of each event, and the mean rain of their events."""
    import torch

    from ..models.nowcast_cases import Points

    each = size // len(events)
    parts, means = [], []
    for event in events.values():
        at = torch.randint(len(event.points.y), (each,), generator=generator)
        parts.append(Points(*(values[at] for values in event.points)))
        means.append(torch.full((each,), event.mean))
    chosen = Points(*(torch.cat(group) for group in zip(*parts, strict=True)))
    return chosen._replace(x=chosen.x.float()), torch.cat(means)


def _loss(
    net: NowcastNet,
    batch: tuple[Points, Tensor],
    logarithmic: float,
    generator: torch.Generator,
) -> Tensor:
    """Return the mean score of a batch, thresholds drawn at random from each step."""
    import torch

    from ..models.nowcast_law import law

    points, mean = batch
    rain = law(net(points.x, points.facts, points.minutes))
    edges = torch.tensor(_EDGES).log()[:, None]
    width = edges[1:] - edges[:-1]
    drawn = torch.rand((len(width), len(points.y)), generator=generator)
    level = edges[:-1] + width * drawn
    above = ((level - rain.scale) * (-rain.shape).exp()).clamp_max(30.0).exp()
    error = width * ((rain.wet - above).exp() - (points.y.log() > level).to(level.dtype)) ** 2
    natural = (error * level.exp()).sum(0) / mean
    return (natural + logarithmic * error.sum(0)).mean()


def _yes_from(
    net: NowcastNet, events: Mapping[str, EventPoints], generator: torch.Generator
) -> dict[str, float]:
    """Return the probability of each level from which yes has the best threat score."""
    import torch

    from ..models.nowcast_law import law

    shares = [round(0.05 * k, 2) for k in range(1, 14)]
    scores = torch.zeros(len(LEVELS), len(shares))
    for event in events.values():
        at = torch.randperm(len(event.points.y), generator=generator)[:60_000]
        x, y, facts, minutes = (values[at] for values in event.points)
        fine = (facts[:, 0] < 3) & (facts[:, 1] < 8)
        x, y, facts, minutes = x[fine].float(), y[fine], facts[fine], minutes[fine]
        with torch.inference_mode():
            rain = law(net(x, facts, minutes))
            for level, row in zip(LEVELS, scores, strict=True):
                chance, rained = rain.exceeding(level), y >= level
                for k, share in enumerate(shares):
                    row[k] += _threat(chance >= share, rained, minutes)
    best = scores.argmax(dim=1).tolist()
    return {f"{level:g}": shares[k] for level, k in zip(LEVELS, best, strict=True)}


def _threat(yes: Tensor, rained: Tensor, minutes: Tensor) -> float:
    """Return the threat score, the mean over leads."""
    import torch

    _, lead = minutes.unique(return_inverse=True)
    both = torch.bincount(lead, (yes & rained).float())
    either = torch.bincount(lead, (yes | rained).float())
    return float((both / either.clamp_min(1.0)).mean())
