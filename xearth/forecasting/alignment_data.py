"""Examples of an alignment network: labeled runs of frames, and what draws their latent fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.forecast_coords import forecast_coords
from ..cf.packing import decoded
from ..cf.timeaxis import TimeAxis
from ..data.grid import Grid
from ..data.windows import Window
from ..errors import ConfigError, MissingDataError

if TYPE_CHECKING:
    import torch

    from ..data.normalize import Normalizer
    from ..training.alignment_fit import Latents

__all__ = ["frames_of", "latents_of", "process_of", "runs", "sequences_of", "split"]

#: Runs that a mean and a standard deviation take.
FEWEST = 10


def process_of(model: Any) -> Any:
    """Return what noises latent fields."""
    return model.process if hasattr(model, "process") else model.config.process


def frames_of(model: Any) -> int:
    """Return the number of frames of a forecast."""
    from ..models.prediff.model import PreDiff

    if isinstance(model, PreDiff):
        return int(model.config.target_shape[0])
    return int(model.frames)


def runs(data: xr.DataArray, frames: int) -> xr.DataArray:
    """Return all runs of frames, labeled as forecasts (init, lead, y, x)."""
    axes = discover(data)
    axis = TimeAxis.from_array(data[axes.time])
    starts = Window(history=1, horizon=frames).starts(axis)
    if len(starts) < FEWEST:
        raise MissingDataError(
            f"alignment network: expected {FEWEST} runs of {frames} frames or more, found "
            f"{len(starts)}. Give a longer series."
        )
    ordered = decoded(data).isel({axes.time: np.asarray(axis.order)})
    values = ordered.transpose(axes.time, axes.y, axes.x).values
    coords = forecast_coords(axis, starts, frames)
    kept = {
        name: c.variable for name, c in data.coords.items() if axes.time not in c.dims
    }  # rows, columns, places
    return xr.DataArray(
        values[np.asarray(starts)[:, None] + 1 + np.arange(frames)],
        coords={**kept, **coords},
        dims=("init", "lead", axes.y, axes.x),
        name=data.name,
        attrs=data.attrs,
    )


def sequences_of(data: xr.DataArray, frames: int) -> xr.DataArray:
    """Return sequences (sequence, time, y, x) that stand each for itself as (init, lead, y, x)."""
    axes = discover(data)
    others = [d for d in data.dims if d not in (axes.time, axes.y, axes.x)]
    if len(others) != 1 or data.sizes[axes.time] != frames:
        raise ConfigError(
            f"alignment network: expected sequences of {frames} frames along one dimension, found "
            f"{dict(data.sizes)}. Cut them to the frames that the model forecasts."
        )
    ordered = decoded(data).transpose(others[0], axes.time, axes.y, axes.x)
    kept = [c for c in data.coords if {*data[c].dims} <= {axes.y, axes.x}]
    bare = ordered.drop_vars([c for c in data.coords if c not in kept])
    renamed = bare.rename({others[0]: "init", str(axes.time): "lead"})
    return renamed.assign_coords(
        init=np.arange(bare.sizes[others[0]]), lead=np.arange(1, frames + 1)
    )


def split(sequences: xr.DataArray, part: float) -> tuple[range, range]:
    """Return the sequences to learn from, and the later ones, which share no frame with them."""
    count, frames = sequences.sizes["init"], sequences.sizes["lead"]
    first = count - max(1, int(part * count))
    if first - frames < 2:
        raise MissingDataError(
            f"alignment network: expected sequences to learn from before the {count - first} held "
            f"out, {frames} frames apart, found {max(first - frames, 0)} of {count}. Give a longer "
            "series, or hold out less."
        )
    return range(first - frames), range(first, count)


def latents_of(
    model: Any,
    sequences: xr.DataArray,
    normalizer: Normalizer | None,
    encode: Callable[[xr.DataArray], torch.Tensor] | None,
) -> tuple[Latents, tuple[int, int, int, int]]:
    """Return what draws clean latent fields of sequences, and their shape (T, h, w, C)."""
    import torch

    if encode is not None:
        mean = encode(sequences)
        log_variance = torch.full((1,) * mean.ndim, -torch.inf)
    else:
        mean, log_variance = _encoded(model, sequences, normalizer)
    if len(mean) != sequences.sizes["init"] or mean.ndim != 5:
        raise ConfigError(
            f"encode: expected latent fields ({sequences.sizes['init']}, T, h, w, C), found "
            f"{tuple(mean.shape)}."
        )
    if not bool(mean.isfinite().all()):
        raise MissingDataError(
            "alignment network: latent fields are not finite, as cells are missing in the data. "
            "Fill them first."
        )
    sd = (0.5 * log_variance).exp()

    def draw(chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        spread = sd[chosen] if len(sd) == len(mean) else sd
        return mean[chosen] + spread * torch.randn(mean[chosen].shape, generator=generator)

    return draw, tuple(mean.shape[1:])  # type: ignore[return-value]


def _encoded(
    model: Any, sequences: xr.DataArray, normalizer: Normalizer | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and log variance of latent fields by the autoencoder of a model."""
    import torch

    fields = Grid.from_array(sequences).to_tensor(sequences)
    count, frames = sequences.sizes["init"], sequences.sizes["lead"]
    fields = fields.reshape(count, frames, *fields.shape[-3:]).float()
    if normalizer is not None:
        fields = normalizer.apply(fields)
    if tuple(fields.shape[1:]) != tuple(model.config.target_shape):
        raise ConfigError(
            f"alignment network: the model forecasts (T, H, W, C) = {model.config.target_shape}, "
            f"the data are {tuple(fields.shape[1:])}. Crop or pad them."
        )
    scale = model.config.latent_scale
    with torch.no_grad():
        parts = [model.autoencoder.encode(part) for part in fields.split(16)]
    mean = scale * torch.cat([m for m, _ in parts])
    return mean, torch.cat([v for _, v in parts]) + 2 * float(np.log(scale))
