r"""Samplers along straight lines: Euler and Heun, for flow matching and everything else.

The rescaled state :math:`w = z / (\alpha + \sigma)` runs on a straight line between data and noise
in :math:`\tau = \sigma / (\alpha + \sigma)`,

.. math:: w = (1 - \tau)\, x_0 + \tau\, \varepsilon, \qquad
    \frac{dw}{d\tau} = \hat\varepsilon - \hat x_0.

For flow matching w is z and :math:`\tau` is t. A step of Euler is one of DDIM with
:math:`\eta = 0`, for every process. Sources: Liu et al. (2023), *Rectified flow*; Karras et al.
(2022), *Elucidating the design space of diffusion-based generative models* (Heun).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .finite import checked
from .grids import check_steps
from .levels import Level
from .stage import Stage

__all__ = ["Euler", "Heun"]


def _velocity(z: Tensor, level: Level, clean: Tensor) -> Tensor:
    return (z - level.alpha * clean) / level.sigma - clean


def _straight(stage: Stage, velocity: Tensor) -> Tensor:
    """Return the state at the next level if this velocity holds all the way."""
    (c, tau), (c_s, tau_s) = (
        (level.alpha + level.sigma, level.sigma / (level.alpha + level.sigma))
        for level in (stage.here, stage.there)
    )
    return (c_s / c) * stage.z + (c_s * (tau_s - tau)) * velocity


@dataclass(frozen=True, kw_only=True)
class Euler:
    """Straight steps along the velocity: order 1, what flow matching is sampled with.

    Parameters
    ----------
    steps : int
    spacing : str

    Examples
    --------
    >>> Euler().steps
    10
    """

    name: ClassVar[str] = "euler"
    memory: ClassVar[int] = 1
    steps: int = 10
    spacing: str = "linspace"

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def step(self, stage: Stage) -> Tensor:
        """Return the state at the next level."""
        return _straight(stage, _velocity(stage.z, stage.here, stage.clean[0]))


@dataclass(frozen=True, kw_only=True)
class Heun:
    """The mean of the velocities at both ends of a step: order 2, two predictions a step.

    The last step, to a level without noise, is one of Euler's: ``2 * steps - 1`` predictions.

    Parameters
    ----------
    steps : int
    spacing : str

    Examples
    --------
    >>> Heun(steps=5).steps
    5
    """

    name: ClassVar[str] = "heun"
    memory: ClassVar[int] = 1
    steps: int = 10
    spacing: str = "linspace"

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def step(self, stage: Stage) -> Tensor:
        """Return the state at the next level."""
        first = _velocity(stage.z, stage.here, stage.clean[0])
        guess = _straight(stage, first)
        if stage.there.sigma == 0.0:
            return guess
        clean = checked(stage.predict, guess, stage.there, stage.index)
        return _straight(stage, 0.5 * (first + _velocity(guess, stage.there, clean)))
