r"""A diffusion of what an ENSO forecast leaves open.

Notation: a forecaster has said the mean :math:`\mu` (L, P) of the months to come, cell by cell.
What comes departs from it by

.. math:: y - \mu = a_{mn} \sum_k (R_m\, x_0)_k\, E_{kn}, \qquad m \textrm{ the month of the start},

with K patterns :math:`E_k` over all leads n and cells, a size :math:`a_{mn}` for each month of the
start and lead, and a matrix :math:`R_m` that makes the coordinates :math:`x_0` white: departures of
starts in May hang together over the leads otherwise than those of December, as El Niño is locked to
the year. In these coordinates a Gaussian law with all covariances of the season is
:math:`\mathcal N(0, I)`. They are drawn by flow matching,
:math:`z_t = (1 - t)\, x_0 + t\, \varepsilon`, with the velocity

.. math:: v(z_t, t \mid m) = \frac{t - (1 - t)}{(1 - t)^2 + t^2}\, z_t
          + \lambda\, U(z_t, t \mid m),

exact for the Gaussian law, plus the share :math:`\lambda` of what a network adds to the first
coordinates: all that is not Gaussian.

Sources: Lipman et al. (2023), *Flow matching for generative modeling*; Karras et al. (2022),
*Elucidating the design space of diffusion-based generative models* (a network for what an exact
linear denoiser leaves).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .conditions.linear import Linear
from .conditions.rows import Rows
from .heads import Prediction
from .prediff.config_cuboid import Plain, check_positive
from .prediff.flow import FlowMatching
from .prediff.guidance import Guidance, guided
from .prediff.levels import CLEAN, Level
from .prediff.noise import MemberNoise
from .prediff.sampler import run
from .prediff.sampler_dpm import DPMSolver

__all__ = ["EnsoDiffusion", "EnsoDiffusionConfig", "in_coordinates"]

#: Logarithm of data over noise at the first and the last level of a sampler.
RATIOS = (-4.5, 2.2)
WAVES = 6  # frequencies that tell the network the time


@dataclass(frozen=True, kw_only=True)
class EnsoDiffusionConfig(Plain):
    """Sizes of an :class:`EnsoDiffusion`.

    Parameters
    ----------
    leads, cells : int
        L and P.
    coordinates : int
        K.
    refined : int
        Of the coordinates, the first so many are those that the network sees and changes.
    width : int
        Of the network.
    seasons : int
        Months of a year.

    Raises
    ------
    ConfigError
        A number is impossible.

    Examples
    --------
    >>> config = EnsoDiffusionConfig(leads=2, cells=6, coordinates=5, refined=3)
    >>> EnsoDiffusionConfig.from_dict(config.to_dict()) == config
    True
    """

    leads: int = 18
    cells: int = 264
    coordinates: int = 192
    refined: int = 24
    width: int = 32
    seasons: int = 12

    def __post_init__(self) -> None:
        for name in ("leads", "cells", "coordinates", "refined", "width", "seasons"):
            check_positive(name, getattr(self, name))
        if self.refined > self.coordinates:
            raise ConfigError(
                f"refined={self.refined}: expected at most the {self.coordinates} coordinates"
            )

    def build(self) -> EnsoDiffusion:
        """Return a new model, whose law is white and whose network adds nothing."""
        return EnsoDiffusion(self)


class Refinement(nn.Module):
    """U, a network of one residual block, told the time of the process and the season.

    Parameters
    ----------
    config : EnsoDiffusionConfig
    dropout : float

    Examples
    --------
    >>> net = Refinement(EnsoDiffusionConfig(coordinates=4, refined=3))
    >>> net(torch.randn(2, 3), torch.rand(2), 5).shape
    torch.Size([2, 3])
    """

    def __init__(self, config: EnsoDiffusionConfig, dropout: float = 0.3) -> None:
        super().__init__()
        W, C = config.width, config.refined
        self.seasons = config.seasons
        self.enter, self.told = nn.Linear(C, W), nn.Linear(2 * WAVES + 2, W)
        self.norm, self.modulate = nn.LayerNorm(W), nn.Linear(W, 2 * W)
        self.block = nn.Sequential(
            nn.Linear(W, 2 * W), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * W, W)
        )
        self.leave = nn.Linear(W, C)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, z: Tensor, t: Tensor, month: Tensor | int) -> Tensor:
        """Return what is added to the velocity (N, C) of z (N, C) at times t (N,) in [0, 1]."""
        octaves = 0.5 * math.pi * 2.0 ** torch.arange(WAVES, dtype=z.dtype)
        angle = t.to(z)[:, None] * octaves
        turn = torch.as_tensor(month, dtype=z.dtype).expand(len(z))[:, None]
        year = 2 * math.pi * turn / self.seasons
        told = torch.cat([angle.sin(), angle.cos(), year.sin(), year.cos()], 1)
        scale, shift = self.modulate(nn.functional.silu(self.told(told))).chunk(2, 1)
        h = self.enter(z)
        found: Tensor = self.leave(h + self.block(self.norm(h) * (1 + scale) + shift))
        return found


class EnsoDiffusion(nn.Module):
    """The law of what an ENSO forecast leaves open, and how members of it are drawn.

    Parameters
    ----------
    config : EnsoDiffusionConfig

    Examples
    --------
    >>> model = EnsoDiffusionConfig(leads=2, cells=6, coordinates=5, refined=3).build().eval()
    >>> x = model.sample(4, members=[0, 1], seed=1)
    >>> x.shape, bool((model.sample(4, members=[1], seed=1)[0] - x[1]).abs().max() < 1e-5)
    (torch.Size([2, 5]), True)
    """

    modes: Tensor
    size: Tensor
    root: Tensor
    share: Tensor

    def __init__(self, config: EnsoDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        K, S = config.coordinates, config.seasons
        self.network = Refinement(config)
        self.register_buffer("modes", torch.zeros(K, config.leads, config.cells))
        self.register_buffer("size", torch.ones(S, config.leads))
        self.register_buffer("root", torch.eye(K).expand(S, -1, -1).contiguous())
        self.register_buffer("share", torch.ones(()))

    @property
    def process(self) -> FlowMatching:
        """How coordinates are noised."""
        return FlowMatching(time_scale=1.0)

    def factors(self, month: int) -> Tensor:
        """Return the fields (L, P, K) that the coordinates of starts in a month multiply."""
        mixed = torch.einsum("jnp,jk->npk", self.modes, self.root[month])
        return self.size[month][:, None, None] * mixed

    def velocity(self, month: Tensor | int, z: Tensor, t: Tensor) -> Tensor:
        """Return the velocity of states (N, K) at times (N,) of starts in a month."""
        C = self.config.refined
        at = t.to(z)[:, None]
        straight = (2 * at - 1) / ((1 - at).square() + at.square()) * z
        added = self.share * self.network(z[:, :C], t, month)
        return torch.cat([straight[:, :C] + added, straight[:, C:]], 1)

    def levels(self, steps: int) -> tuple[Level, ...]:
        """Return levels at even distances in log((1 - t) / t), then a clean one.

        Raises
        ------
        ConfigError
            Fewer than one step.
        """
        check_positive("steps", steps)
        times = torch.sigmoid(-torch.linspace(*RATIOS, steps)).tolist()
        return (*(self.process.level(t) for t in times), CLEAN)

    def sample(
        self,
        month: int,
        *,
        members: Sequence[int],
        steps: int = 20,
        seed: int = 0,
        guidance: Sequence[Guidance] = (),
    ) -> Tensor:
        """Draw the coordinates (M, K) of members of a start in a month.

        Parameters
        ----------
        month : int
            0 is January.
        members : sequence of int
            Their numbers: member k of a seed is the same whatever is drawn beside it, to rounding;
            to the bit in batches of one size, at the same place.
        steps : int
        seed : int
        guidance : sequence of Guidance
            On coordinates, the innermost first.

        Raises
        ------
        ConfigError
            No member, or no step.
        SamplingError
            A value became NaN or infinite.
        """
        levels = self.levels(steps)
        noise = MemberNoise((self.config.coordinates,), members, seed)
        first = math.hypot(levels[0].alpha, levels[0].sigma)  # of a white law at this level

        def draw(step: int) -> Tensor:
            return noise(step) if step else first * noise(step)

        predict = self.process.predictor(partial(self.velocity, month))
        *_, x = run(DPMSolver(steps=steps), guided(predict, *guidance), levels, draw)
        return x


def in_coordinates(condition: Linear, law: Prediction) -> Linear:
    r"""Return a linear condition on fields as one on the coordinates (N, 1, 1, K, 1) of a law.

    With :math:`y = \mu + F x`, :math:`l \le A y \le u` is
    :math:`l - A \mu \le A F x \le u - A \mu`. As the coordinates are white, the nearest ones that
    hold it are the most likely.

    Parameters
    ----------
    condition : Linear
    law : Prediction
        Of one start.

    Raises
    ------
    ConstraintError
        No coordinate moves a sum.

    Examples
    --------
    >>> law = Prediction(torch.zeros(1, 1, 1, 2, 1), torch.ones(1, 1, 1, 2, 1, 3))
    >>> rows = Rows.over(torch.ones(1, 1, 2, 1), frames=True).mean()
    >>> found = in_coordinates(Linear(rows, lower=3.0, upper=3.0, name="mean"), law)
    >>> found.project(torch.zeros(1, 1, 1, 3, 1)).flatten().tolist()
    [1.0, 1.0, 1.0]
    """
    base = condition.apply(law.mean.double())[0]
    moved = condition.apply(law.factors.double()[0].movedim(-1, 0)).mT
    lower, upper = condition.bounds(base)
    return Linear(
        Rows.from_matrix(moved[:, None, None, :, None]),
        lower=lower - base,
        upper=upper - base,
        sd=condition.sd,
        name=condition.name,
    )
