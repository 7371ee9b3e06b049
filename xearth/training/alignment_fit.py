r"""Training of an alignment network: numbers of clean fields, read from noised latent ones.

.. math:: L = \big\langle \big(U_\phi(z_t, t) - m\big)^2 \big\rangle, \qquad
   t \sim \mathcal U, \quad \varepsilon \sim \mathcal N(0, I), \qquad z_t = \alpha_t z_0 + \sigma_t
   \varepsilon ,

with standardized numbers m, so that 1 is the error of their mean. The rate rises over a tenth of
the steps and falls as a cosine, as published.

Source: Gao, Z. and others (2023), PreDiff, arXiv:2307.10422, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError, TrainingError
from ..models.prediff.alignment import Alignment
from .diffusion_losses import alignment_errors

__all__ = ["AlignmentRecipe", "Noising", "errors_by_noise", "fit_alignment_network"]

#: (numbers of examples (N,), generator) -> their clean latent fields (N, T, h, w, C).
Latents = Callable[[Tensor, torch.Generator], Tensor]


class Noising(Protocol):
    """A process, as training needs it."""

    def draw_times(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return times (N,) at random."""

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the states at times (N,)."""

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return what a denoiser has to predict."""


@dataclass(frozen=True, kw_only=True)
class AlignmentRecipe:
    """How an alignment network is made and trained.

    Parameters
    ----------
    steps, batch : int
        Steps of the optimizer, and examples of each.
    rate, decay : float
        Highest learning rate, and weight decay of AdamW.
    held_out : float
        Part of the examples, the last ones in time, that it is judged by.
    seed : int
    sizes : mapping
        Fields of :class:`~xearth.models.prediff.config.AlignmentConfig` but its shapes.

    Raises
    ------
    ConfigError
        A number is out of range.

    Examples
    --------
    >>> AlignmentRecipe(steps=200).rate_at(0) < AlignmentRecipe(steps=200).rate_at(20)
    True
    """

    steps: int = 2000
    batch: int = 32
    rate: float = 1e-3
    decay: float = 0.01
    held_out: float = 0.2
    seed: int = 0
    sizes: Mapping[str, Any] = field(default_factory=lambda: {"base_units": 32})

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"AlignmentRecipe({name}={getattr(self, name)!r}): expected a positive number"
                )
        if not 0 < self.held_out < 1 or self.decay < 0:
            raise ConfigError(
                f"AlignmentRecipe(held_out={self.held_out}, decay={self.decay}): expected a part "
                "between 0 and 1, and a decay of at least 0"
            )

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        rising = max(1, self.steps // 10)
        if step < rising:
            return self.rate * (0.1 + 0.9 * step / rising)
        share = (step - rising) / max(1, self.steps - rising)
        return self.rate * (1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * share)))


def fit_alignment_network(
    network: Alignment,
    process: Noising,
    latents: Latents,
    numbers: Tensor,
    recipe: AlignmentRecipe,
) -> Alignment:
    """Train a network in place, and return it ready to use.

    Parameters
    ----------
    network : Alignment
    process : Noising
        What noises latent fields.
    latents : callable
        (numbers of examples, generator) -> clean latent fields.
    numbers : Tensor (N, T, m)
        Standardized, of each example.
    recipe : AlignmentRecipe

    Raises
    ------
    TrainingError
        The loss became NaN or infinite.

    Examples
    --------
    >>> from xearth.models.prediff.config import AlignmentConfig
    >>> from xearth.models.prediff.process import Diffusion
    >>> network = AlignmentConfig(base_units=8, input_shape=(2, 4, 4, 1), frames=2).build()
    >>> fields = torch.randn(8, 2, 4, 4, 1)
    >>> means = fields.mean((2, 3, 4)).unsqueeze(-1)  # what it shall read, of each frame
    >>> recipe = AlignmentRecipe(steps=2, batch=4)
    >>> clean = lambda chosen, generator: fields[chosen]
    >>> fitted = fit_alignment_network(network, Diffusion(), clean, means / means.std(), recipe)
    >>> fitted(fields, torch.tensor([0])).shape
    torch.Size([8, 2, 1])
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), recipe.rate, betas=(0.9, 0.999), weight_decay=recipe.decay
    )
    network.train().requires_grad_(True)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step)
        chosen = torch.randint(len(numbers), (recipe.batch,), generator=generator)
        z0 = latents(chosen, generator)
        t = process.draw_times(len(z0), generator=generator)
        noise = torch.randn(z0.shape, generator=generator)
        loss = alignment_errors(network, process, z0, numbers[chosen], t=t, noise=noise).mean()
        if not bool(loss.isfinite()):
            raise TrainingError(
                f"alignment network: the loss became {float(loss)} in step {step} of "
                f"{recipe.steps}. Choose a lower rate than {recipe.rate}."
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network.eval().requires_grad_(False)


@torch.no_grad()
def errors_by_noise(
    network: Alignment,
    process: Noising,
    latents: Latents,
    numbers: Tensor,
    *,
    parts: int = 4,
    seed: int = 0,
) -> list[float]:
    """Return the mean squared error where times are in each of some equal parts, low noise first.

    Parameters
    ----------
    network, process, latents, numbers
        As for :func:`fit_alignment_network`.
    parts : int
    seed : int
        Of times and noise.

    Returns
    -------
    list of float
        1 where nothing is read.
    """
    generator = torch.Generator().manual_seed(seed)
    errors, signals = [], []
    for chosen in torch.arange(len(numbers)).repeat(4).split(64):
        z0 = latents(chosen, generator)
        t = process.draw_times(len(z0), generator=generator)
        noise = torch.randn(z0.shape, generator=generator)
        errors.append(alignment_errors(network, process, z0, numbers[chosen], t=t, noise=noise))
        signals.append(process.noised(torch.ones_like(z0), t, torch.zeros_like(z0))[:, 0, 0, 0, 0])
    order = torch.cat(signals).argsort(descending=True)
    return [float(part.mean()) for part in torch.cat(errors)[order].tensor_split(parts)]
