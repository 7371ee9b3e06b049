r"""PreDiff for rain that is followed: members of the scores that a nowcast network leaves open.

In the coordinates of the air (:mod:`xearth.models.nowcast`) a network has said the distribution
of each cell at each lead. What happens has normal scores :math:`r_{1 \dots T}` in it
(:mod:`~xearth.models.rain_scores`). As cosine coefficients of blocks, of unit variance
(:class:`~.blocks.Blocks`), these are the latent sequence :math:`x_0` that is drawn by flow
matching, given a context :math:`z_c`: the last frames and how probable rain is at some leads. The
velocity is

.. math:: v(z_t, t \mid z_c) = \hat v(z_t) + U(z_t, t \mid z_c),

that of a stationary Gaussian law (:class:`~.stationary.StationaryLaw`) and what the denoiser of
PreDiff, a U-shaped Earthformer, adds. The finest coefficients, waves of less than about four
cells, have the Gaussian law alone.

Sizes of the grid are free: convolutions and cuboids of fixed size, learned positions along time
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ConfigError
from ..cuboid.patterns import CuboidLayer
from .blocks import Blocks
from .config import DenoiserConfig
from .config_cuboid import Plain, check_positive
from .equalizer import Equalizer
from .flow import FlowMatching
from .guidance import Guidance, guided
from .levels import CLEAN, Level
from .noise import OppositePairs
from .sampler import run
from .sampler_dpm import DPMSolver
from .stationary import StationaryLaw

__all__ = ["RainDiffusion", "RainDiffusionConfig"]

BINS = 9
#: Logarithm of data over noise at the first and last level of a sampler; the draw of fine parts.
RATIOS, FINE = (-4.5, 2.2), 999


@dataclass(frozen=True, kw_only=True)
class RainDiffusionConfig(Plain):
    """Sizes of a :class:`RainDiffusion`.

    Parameters
    ----------
    leads : int
        Frames that are drawn, T.
    frames : tuple of int
        Which frames are context, counted back from the last.
    told : tuple of int
        For which leads the probability of rain is context.
    block : int
        Rows and columns of a block.
    channels : int
        Coefficients of a block that are drawn by diffusion; the others by the Gaussian law.
    base_units, heads, depth
        Of the denoiser.
    reach : int
        Rows and columns of blocks over which the denoiser adds nothing in the mean: structures
        that large have the Gaussian law alone.

    Raises
    ------
    ConfigError
        A value is impossible.

    Examples
    --------
    >>> config = RainDiffusionConfig(base_units=16)
    >>> RainDiffusionConfig.from_dict(config.to_dict()) == config
    True
    """

    leads: int = 12
    frames: tuple[int, ...] = (2, 0)
    told: tuple[int, ...] = (4, 8, 12)
    block: int = 8
    channels: int = 26
    base_units: int = 48
    heads: int = 4
    depth: tuple[int, ...] = (1, 1)
    reach: int = 9

    def __post_init__(self) -> None:
        for name in ("leads", "block", "channels", "base_units", "heads", "reach"):
            check_positive(name, getattr(self, name))
        if self.reach % 2 == 0:
            raise ConfigError(f"reach={self.reach}: expected an odd number of blocks")
        if self.channels >= self.block**2:
            raise ConfigError(
                f"channels={self.channels}: expected fewer than the {self.block**2} of a block"
            )
        if not self.told or any(not 1 <= n <= self.leads for n in self.told):
            raise ConfigError(f"told={self.told}: expected leads from 1 to {self.leads}")
        if not self.frames or any(n < 0 for n in self.frames):
            raise ConfigError(f"frames={self.frames}: expected steps back, 0 is the last frame")

    def denoiser(self, h: int, w: int) -> DenoiserConfig:
        """Return the configuration of the denoiser for a grid of blocks."""
        T = len(self.frames) + len(self.told)
        return DenoiserConfig(
            input_shape=(T, h, w, self.channels),
            target_shape=(self.leads, h, w, self.channels),
            base_units=self.base_units,
            heads=self.heads,
            depth=self.depth,
            patterns=tuple(
                (CuboidLayer((T + self.leads, 1, 1)), CuboidLayer((1, 4, 4), shift=(0, s, s)))
                for s in (2 * (i % 2) for i in range(len(self.depth)))
            ),
        )

    @property
    def multiple(self) -> int:
        """Rows and columns of cells of which a grid must be a multiple."""
        return int(self.block * 2 ** (len(self.depth) - 1))

    def build(self, h: int = 8, w: int = 8) -> RainDiffusion:
        """Return a new model for a grid of blocks."""
        return RainDiffusion(self, h, w)


class RainDiffusion(nn.Module):
    """Sequences of scores by flow matching, given frames and probabilities of rain.

    Parameters
    ----------
    config : RainDiffusionConfig
    h, w : int
        Blocks of the grid.

    Examples
    --------
    >>> config = RainDiffusionConfig(leads=3, told=(1, 3), block=4, channels=6, base_units=8)
    >>> model = config.build(4, 4).eval()
    >>> z, probit = torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 16, 16)
    >>> model.sample(model.context(z, probit), members=[0, 1], steps=2).shape
    torch.Size([2, 3, 16, 16])
    """

    scale: Tensor
    read: Tensor

    def __init__(self, config: RainDiffusionConfig, h: int, w: int) -> None:
        super().__init__()
        self.config = config
        C = config.channels
        self.denoiser = config.denoiser(h, w).build()
        positions = self.denoiser.down.positions
        for table in (positions.H_embed.weight, positions.W_embed.weight):
            nn.init.zeros_(table)
            table.requires_grad_(False)
        self.law = StationaryLaw(config.leads, C, BINS)
        self.rest = StationaryLaw(config.leads, config.block**2 - C, BINS)
        self.equalizer = Equalizer(config.leads)
        self.register_buffer("scale", torch.ones(config.leads, config.block**2))
        self.register_buffer("read", torch.ones(2, C))

    @cached_property
    def blocks(self) -> Blocks:
        """The latent space."""
        return Blocks(self.config.block)

    @property
    def process(self) -> FlowMatching:
        """How latent sequences are noised."""
        return FlowMatching()

    def weights(self) -> dict[str, Tensor]:
        """Return what a file keeps: all but what depends on the size of the grid."""
        return {k: v for k, v in self.state_dict().items() if not _sized(k)}

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take weights of :meth:`weights`, of a model for any grid."""
        own = {k: v for k, v in self.state_dict().items() if _sized(k)}
        self.load_state_dict({**weights, **own})

    def context(self, z: Tensor, probit: Tensor) -> Tensor:
        """Return the context (N, T_c, h, w, C).

        Parameters
        ----------
        z : Tensor (N, frames, H, W)
            Signal of the frames of the context.
        probit : Tensor (N, told, H, W)
            Of :func:`~xearth.models.rain_scores.wet_probit`.
        """
        parts = [self.blocks.encode(x)[..., : self.config.channels] for x in (z, probit)]
        return self.scaled(torch.cat(parts, dim=1))

    def scaled(self, context: Tensor) -> Tensor:
        """Return a context (N, T_c, h, w, C) of plain coefficients as the denoiser reads it."""
        counts = torch.tensor([len(self.config.frames), len(self.config.told)])
        scales = self.read.repeat_interleave(counts.to(self.read.device), dim=0)
        return context / scales[:, None, None]

    def latent(self, r: Tensor) -> Tensor:
        """Return all coefficients (N, T, h, w, n * n) of scores (N, T, H, W), scaled."""
        return self.blocks.encode(r) / self.scale[:, None, None]

    def velocity(self, context: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the velocity of states (N, T, h, w, C) at times (N,) of the process."""
        straight = self.law.velocity(z, t / self.process.time_scale)
        return straight + self._local(self.denoiser(z, t, context))

    def _local(self, v: Tensor) -> Tensor:
        """Return a velocity (N, T, h, w, C) without its mean over the blocks around."""
        flat, n = v.permute(0, 1, 4, 2, 3).flatten(1, 2), self.config.reach
        mean = functional.avg_pool2d(flat, n, 1, n // 2, count_include_pad=False)
        return v - mean.unflatten(1, (v.shape[1], v.shape[4])).permute(0, 1, 3, 4, 2)

    def decode(self, x: Tensor, fine: Tensor) -> Tensor:
        """Return the scores (N, T, H, W) of drawn coefficients and of finest ones."""
        found = self.blocks.decode(torch.cat([x, fine], dim=-1) * self.scale[:, None, None])
        return self.equalizer(found)

    def levels(self, steps: int) -> tuple[Level, ...]:
        """Return levels at even distances in log((1 - t) / t), then clean ones.

        The largest structures of the Gaussian law have a hundred times the variance of the noise
        and take shape near t = 1, the smallest near 0: equal distances in t would miss both.

        Raises
        ------
        ConfigError
            Fewer than one step.
        """
        check_positive("steps", steps)
        ratios = torch.linspace(*RATIOS, steps)
        return (*(self.process.level(float(t)) for t in torch.sigmoid(-ratios)), CLEAN)

    def sample(
        self,
        context: Tensor,
        *,
        members: Sequence[int],
        steps: int = 10,
        seed: int = 0,
        guidance: Any = (),
    ) -> Tensor:
        """Draw the scores (M, T, H, W) of members, for one context (1, T_c, h, w, C).

        Parameters
        ----------
        context : Tensor
        members : sequence of int
            Their numbers: member k of a seed is the same whatever is drawn beside it, and 2k + 1
            starts from the opposite noise of 2k.
        steps : int
        seed : int
        guidance : callable, optional
            (decode) -> guidances, with decode from latent sequences to scores.
        """
        T, C = self.config.leads, self.config.channels
        grid = tuple(context.shape[2:4])
        finest = OppositePairs((T, *grid, self.config.block**2 - C), members, seed)
        fine = self.rest.draw(finest(FINE))
        wraps: Sequence[Guidance] = guidance(partial(self.decode, fine=fine)) if guidance else ()
        draw = OppositePairs((T, *grid, C), members, seed)
        predict = guided(self.process.predictor(partial(self.velocity, context)), *wraps)
        with torch.no_grad():
            *_, x = run(DPMSolver(steps=steps), predict, self.levels(steps), draw)
            return self.decode(x, fine)


def _sized(name: str) -> bool:
    """Tell whether a tensor depends on the size of the grid."""
    return name.endswith(("H_embed.weight", "W_embed.weight"))
