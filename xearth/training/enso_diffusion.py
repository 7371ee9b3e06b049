r"""Training of what an ENSO forecast leaves open (:mod:`xearth.models.enso_diffusion`).

First the Gaussian law, in closed form, from departures :math:`e` of forecasts that did not see
their targets:

* the size for each month of the start and lead, from an index, whose errors depend on the season
  most;
* patterns :math:`E_k` over all leads and cells: the leading singular vectors of :math:`e`, each
  lead scaled alike; what they leave out is given back to the variance of each cell and lead;
* the covariance :math:`\Sigma_m` of their coordinates in each month of the start, from the months
  around it, shrunk to the identity, which is that of all months:
  :math:`I + D (\Sigma_m - I) D` with :math:`D_k^2 = \lambda / (1 + k / \kappa)`: the patterns that
  come later have been seen less often. :math:`R_m` is its root.

Then the network, by the error of the velocity in the coordinates it sees. What it adds counts with
a share, which has its best value where what it adds, projected on what the law leaves open in years
that did not train it, says so: :math:`\lambda^* = a / b` of :func:`aligned`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ..errors import ConfigError
from ..models.enso_diffusion import EnsoDiffusion
from .ema import warmed_average

__all__ = [
    "Aligned",
    "EnsoDiffusionRecipe",
    "Errors",
    "aligned",
    "best_share",
    "fit_law",
    "fit_network",
]

_LEAST = 0.05  # eigenvalue of a covariance in units of all months together
_GIVEN = 1.5  # most that the deviation of a cell is raised for what patterns leave out
EVERY = 100  # steps between checkpoints


@dataclass(frozen=True, kw_only=True)
class EnsoDiffusionRecipe:
    """How a model is fitted.

    Parameters
    ----------
    months : int
        A covariance is that of starts of so many months to both sides, the nearer the heavier.
    kept, fade : float
        Of the departure of a season's covariance from that of all: the share that is kept of the
        first pattern's, and how many patterns later it is half of it.
    steps, batch : int
        Of the network.
    rate, decay, average : float
        Learning rate, decay of the weights, and of their moving average.
    seed : int

    Raises
    ------
    ConfigError
        A number is out of range.
    """

    months: int = 2
    kept: float = 0.8
    fade: float = 48.0
    steps: int = 400
    batch: int = 512
    rate: float = 1e-3
    decay: float = 0.05
    average: float = 0.98
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("months", "fade", "steps", "batch", "rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"EnsoDiffusionRecipe({name}={getattr(self, name)!r}): expected a positive "
                    "number"
                )
        if not 0 <= self.kept <= 1:
            raise ConfigError(f"EnsoDiffusionRecipe(kept={self.kept!r}): expected a share of 1")


class Errors(NamedTuple):
    """Departures of forecasts from what came, float64.

    Parameters
    ----------
    field : Tensor (N, L, P)
        0 where there is never a value.
    month : Tensor of int (N,)
        Of the start, 0 is January.
    weight : Tensor (N,)
        How much each counts.
    """

    field: Tensor
    month: Tensor
    weight: Tensor

    def rows(self, kept: Tensor) -> Errors:
        """Return some of them."""
        return Errors(*(part[kept] for part in self))


def near(month: Tensor, m: int, months: int, seasons: int) -> Tensor:
    """Return the weights (N,) of starts around a month: 1 there, 0 more than ``months`` away.

    Examples
    --------
    >>> near(torch.arange(12), 0, 2, 12).tolist()[:4]
    [1.0, 0.6666666666666667, 0.33333333333333337, 0.0]
    """
    half = seasons // 2
    away = ((month - m + half) % seasons - half).abs().double()
    return (1 - away / (months + 1)).clamp_min(0.0)


@torch.no_grad()
def fit_law(
    model: EnsoDiffusion,
    errors: Errors,
    recipe: EnsoDiffusionRecipe,
    *,
    area: Tensor,
    index: Tensor,
) -> Callable[[Errors], Tensor]:
    """Set sizes, patterns and covariances of a model, rounded to float16.

    Parameters
    ----------
    model : EnsoDiffusion
    errors : Errors
    recipe : EnsoDiffusionRecipe
    area : Tensor (P,)
        Relative areas, 0 where there is never a value.
    index : Tensor (P,)
        Weights of the index.

    Returns
    -------
    callable
        From errors to their white coordinates (N, K), those of other years too.

    Raises
    ------
    ConfigError
        Fewer errors than coordinates.
    """
    K, S = model.config.coordinates, model.config.seasons
    if len(errors.field) < K:
        raise ConfigError(
            f"{K} coordinates need at least as many errors; found {len(errors.field)}"
        )
    count = errors.weight / errors.weight.mean()
    weight = area.double().sqrt()
    size = _sizes(errors, index.double(), recipe, S)
    scaled = errors.field / size[errors.month][..., None] * weight
    known = int((weight > 0).sum())
    level = ((count[:, None] * scaled.square().sum(2)).mean(0) / known).sqrt()
    size = size * level
    rows = (scaled / level[:, None]).flatten(1)
    _, strength, patterns = torch.linalg.svd(
        rows * (count / len(rows)).sqrt()[:, None], full_matrices=False
    )
    strength, patterns = strength[:K], patterns[:K]
    whole = (count[:, None] * rows.square()).mean(0)
    left = (whole / (strength[:, None] * patterns).square().sum(0).clamp_min(1e-12)).sqrt()
    raised = left.clamp(1.0, _GIVEN).nan_to_num(1.0)
    fields = (strength[:, None] * patterns * raised).unflatten(1, errors.field.shape[1:])
    inverse = torch.where(weight > 0, 1 / weight.clamp_min(1e-12), 0.0)
    model.modes.copy_((fields * inverse).half())
    model.size.copy_(size)

    def plain(some: Errors) -> Tensor:
        unit = some.field / size[some.month][..., None] * weight
        found: Tensor = unit.flatten(1) @ patterns.mT / strength
        return found

    roots = _roots(plain(errors), errors.month, count, recipe, S)
    model.root.copy_(roots.half())
    back = torch.linalg.inv(roots)

    def white(some: Errors) -> Tensor:
        found: Tensor = torch.einsum("nkj,nj->nk", back[some.month], plain(some))
        return found

    return white


def _sizes(errors: Errors, index: Tensor, recipe: EnsoDiffusionRecipe, seasons: int) -> Tensor:
    """Return the error of the index (S, L) by month of the start, 1 in the mean of each lead."""
    squares = (errors.field @ (index / index.sum())).square()
    found = []
    for m in range(seasons):
        w = errors.weight * (near(errors.month, m, 1, seasons) > 0)
        found.append(((w[:, None] * squares).sum(0) / w.sum()).sqrt())
    sizes = torch.stack(found)
    return sizes / sizes.square().mean(0).sqrt()


def _roots(
    c: Tensor, month: Tensor, count: Tensor, recipe: EnsoDiffusionRecipe, seasons: int
) -> Tensor:
    """Return the symmetric roots (S, K, K) of the covariances of coordinates (N, K)."""
    one = torch.eye(c.shape[1], dtype=c.dtype)
    D = (recipe.kept / (1 + torch.arange(c.shape[1], dtype=c.dtype) / recipe.fade)).sqrt()
    roots = []
    for m in range(seasons):
        w = count * near(month, m, recipe.months, seasons)
        raw = (c * w[:, None]).mT @ c / w.sum()
        values, vectors = torch.linalg.eigh(one + D[:, None] * (raw - one) * D)
        roots.append(vectors * values.clamp_min(_LEAST).sqrt() @ vectors.mT)
    return torch.stack(roots)


# -- the network ----------------------------------------------------------------------------------


def _open(model: EnsoDiffusion, x0: Tensor, month: Tensor, t: Tensor, noise: Tensor) -> Any:
    """Return what the network adds and what the law leaves open for it, both (N, C)."""
    C, process = model.config.refined, model.process
    z = process.noised(x0, t, noise)[:, :C]
    at = t[:, None]
    straight = (2 * at - 1) / ((1 - at).square() + at.square()) * z
    return model.network(z, t, month), process.target(x0, t, noise)[:, :C] - straight


class Aligned(NamedTuple):
    """How what a network adds lies to what the law leaves open, as parts of its square.

    Parameters
    ----------
    a, b : float
        Product of both, and square of what is added: at a share s of the network the error falls by
        2 s a - s^2 b.
    """

    a: float
    b: float


@torch.no_grad()
def aligned(model: EnsoDiffusion, x0: Tensor, month: Tensor, *, draws: int = 32) -> Aligned:
    """Return what a network is worth in years that did not train it.

    Parameters
    ----------
    model : EnsoDiffusion
    x0 : Tensor (N, K)
        White coordinates of these years.
    month : Tensor of int (N,)
    draws : int
        Noises for each.
    """
    generator = torch.Generator().manual_seed(0)
    model.eval()
    a = b = whole = 0.0
    for _ in range(draws):
        t = torch.rand(len(x0), generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        added, left = _open(model, x0.float(), month, t, noise)
        a, b = a + float((added * left).sum()), b + float(added.square().sum())
        whole += float(left.square().sum())
    return Aligned(a / whole, b / whole)


def fit_network(
    model: EnsoDiffusion,
    x0: Tensor,
    errors: Errors,
    recipe: EnsoDiffusionRecipe,
    *,
    checkpoint: Path | None = None,
) -> None:
    """Train the network of a model, whose weights become the moving average.

    Each step draws from a seed of its own: a run that was stopped ends with the same weights.

    Parameters
    ----------
    model : EnsoDiffusion
        With its law.
    x0 : Tensor (N, K)
        White coordinates.
    errors : Errors
        Whose month and weight are read.
    recipe : EnsoDiffusionRecipe
    checkpoint : Path, optional
        File that is written now and then, and continued from if it is there.
    """
    optimizer = torch.optim.AdamW(
        model.network.parameters(), recipe.rate, weight_decay=recipe.decay
    )
    average, step = warmed_average(model.network, recipe.average), 0
    if checkpoint is not None and checkpoint.is_file():
        step = _restored(checkpoint, model, average, optimizer)
    model.train()
    white = x0.float()
    with torch.random.fork_rng(devices=[]):
        while step < recipe.steps:
            torch.default_generator.manual_seed(recipe.seed * 1_000_003 + step)
            rows = torch.multinomial(errors.weight, recipe.batch, replacement=True)
            t, noise = torch.rand(recipe.batch), torch.randn(recipe.batch, white.shape[1])
            added, left = _open(model, white[rows], errors.month[rows], t, noise)
            loss = (added - left).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average.update_parameters(model.network)
            step += 1
            if checkpoint is not None and (step % EVERY == 0 or step == recipe.steps):
                _kept(checkpoint, model, average, optimizer, step)
    model.network.load_state_dict(average.module.state_dict())
    model.eval()


def _kept(
    path: Path, model: EnsoDiffusion, average: AveragedModel, optimizer: Any, step: int
) -> None:
    """Write a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    states = {
        "network": model.network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
    }
    aside = path.with_suffix(".part")
    torch.save(states, aside)
    aside.replace(path)


def _restored(path: Path, model: EnsoDiffusion, average: AveragedModel, optimizer: Any) -> int:
    """Continue from a checkpoint; return its step."""
    found = torch.load(path, weights_only=True)
    model.network.load_state_dict(found["network"])
    average.load_state_dict(found["average"])
    optimizer.load_state_dict(found["optimizer"])
    return int(found["step"])


def best_share(found: list[Aligned]) -> tuple[float, float]:
    """Return the best share, in [0, 1], of several stretches of years, and what it gains.

    Examples
    --------
    >>> share, gain = best_share([Aligned(0.01, 0.02), Aligned(0.0, 0.02)])
    >>> share, round(gain, 6)
    (0.25, 0.00125)
    """
    a, b = (math.fsum(getattr(one, name) for one in found) / len(found) for name in ("a", "b"))
    share = min(max(a / b, 0.0), 1.0) if b > 0 else 0.0
    return share, 2 * share * a - share**2 * b
