"""Samplers by name, and the walk from noise to data that they all share.

A sampler takes the step from one level of noise to the next; it knows neither the process nor the
network nor what guides it: see :mod:`~xearth.models.prediff.levels`. Every sampler works with
every process. How each converges is measured in the tests, on a Gaussian law.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ...errors import ConfigError
from .finite import check_state, checked
from .levels import Draw, Level, Predictor, check_levels
from .sampler_ancestral import DDIM, DDPM
from .sampler_dpm import DPMSolver, DPMSolverSDE
from .sampler_straight import Euler, Heun
from .stage import Sampler, Stage

__all__ = ["SAMPLERS", "Process", "make_sampler", "run", "sample"]


class Process(Protocol):
    """What a process offers to samplers."""

    def levels(self, steps: int, spacing: Any = ..., *, end: Any = ...) -> tuple[Level, ...]:
        """Return the levels of a sampler."""


#: Name -> class.
SAMPLERS: Mapping[str, type[Sampler]] = {
    kind.name: kind for kind in (DDPM, DDIM, DPMSolver, DPMSolverSDE, Euler, Heun)
}


def make_sampler(name: str, **options: Any) -> Sampler:
    """Return a sampler by its name, with options of its class.

    Raises
    ------
    ConfigError
        A name that does not exist, an option the sampler does not have, a value it refuses.

    Examples
    --------
    >>> make_sampler("ddim", steps=20, eta=0.5)
    DDIM(steps=20, spacing='trailing', eta=0.5)
    """
    if name not in SAMPLERS:
        raise ConfigError(f"sampler {name!r}: expected one of {', '.join(SAMPLERS)}")
    try:
        return SAMPLERS[name](**options)
    except TypeError as error:
        raise ConfigError(f"sampler {name!r} with {sorted(options)}: {error}") from error


def run(
    sampler: Sampler, predict: Predictor, levels: Sequence[Level], draw: Draw
) -> Iterator[Tensor]:
    """Yield the state after every step, starting from ``draw(0)`` at the first level.

    No gradients are kept, guidance makes its own. For one that differentiates the prediction do
    not run this under :func:`torch.inference_mode`.

    Parameters
    ----------
    sampler : Sampler
    predict : Predictor
        (z, level) -> clean field.
    levels : sequence of Level
    draw : Draw
        Draw 0 is the start, draw k + 1 the noise of step k.

    Raises
    ------
    ConfigError
        Noise that does not fall from level to level.
    SamplingError
        A NaN or infinite value: with the step and the likely cause.

    Examples
    --------
    >>> from xearth.models.prediff.noise import MemberNoise
    >>> from xearth.models.prediff.process import Diffusion
    >>> levels, draw = Diffusion().levels(3), MemberNoise((2,), members=[0])
    >>> three = lambda z, level: torch.full_like(z, 3.0)  # all data are 3
    >>> [state.round(decimals=2).tolist() for state in run(DDIM(steps=3), three, levels, draw)][-1]
    [[3.0, 3.0]]
    """
    check_levels(levels)
    z = draw(0)
    past: tuple[Tensor, ...] = ()
    for index in range(len(levels) - 1):
        with torch.no_grad():
            now = checked(predict, z, levels[index], index)
            past = (now, *past)[: sampler.memory]
            z = sampler.step(Stage(levels, index, z, past, predict, draw))
        if index == len(levels) - 2:
            check_state(z, index + 1, levels[-1], "at the end")
        yield z


def sample(sampler: Sampler, process: Process, predict: Predictor, draw: Draw) -> Tensor:
    """Return clean fields: the last state of :func:`run` on the levels of a process.

    Parameters
    ----------
    sampler : Sampler
    process : Process
        Gives the levels.
    predict : Predictor
        ``process.predictor(network)``, guided or not.
    draw : Draw
        :class:`~xearth.models.prediff.noise.MemberNoise`, for example.

    Returns
    -------
    Tensor (N, ...)

    Raises
    ------
    ConfigError, SamplingError
        As :func:`run`.

    Examples
    --------
    >>> from xearth.models.prediff.noise import MemberNoise
    >>> from xearth.models.prediff.process import Diffusion
    >>> process = Diffusion()
    >>> draw = MemberNoise((4,), members=[0, 1])
    >>> mean_of_data = lambda z, level: torch.full_like(z, 3.0)  # all data are 3
    >>> sample(DPMSolver(steps=5), process, mean_of_data, draw)
    tensor([[3., 3., 3., 3.],
            [3., 3., 3., 3.]])
    """
    levels = process.levels(sampler.steps, sampler.spacing)
    *_, last = run(sampler, predict, levels, draw)
    return last
