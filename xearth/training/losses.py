r"""Losses over masked, latitude-weighted fields; every one is a mean over samples.

Notation: :math:`y` is the truth, :math:`\mu, L_k` the forecast (see
:mod:`xearth.models.heads`), :math:`w \ge 0` the weight of a cell: 0 where the truth is missing,
otherwise proportional to its area. Each loss is a function of one sample,

.. math:: \ell_n = \frac{\sum_i w_{ni}\, s(\mu_{ni}, L_{ni}, y_{ni})}{\sum_i w_{ni}},

so that the mean over a batch is the same whether or not the batch is cut into micro-batches.
All tensors are (N, T, H, W, C), in normalized units.

Sources: Gneiting, Raftery, Westveld & Goldman 2005 (closed-form CRPS of a Gaussian);
Taggart 2022 (threshold-weighted squared error by a chaining function); Scheuerer & Hamill 2015
and Lang et al. 2024 for scoring means over areas as well as cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ..errors import ConfigError
from ..models.heads import Prediction

__all__ = [
    "MAE",
    "MSE",
    "GaussianCRPS",
    "Loss",
    "Scale",
    "ThresholdWeighted",
    "cos_latitude",
    "crps_gaussian",
]


class Loss(Protocol):
    """What the trainer asks of a loss."""

    def __call__(self, prediction: Prediction, truth: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of each sample, (N,)."""


def cos_latitude(latitudes: Tensor) -> Tensor:
    """Return cos(lat) of ``latitudes`` in degrees, scaled to mean 1; any shape.

    Examples
    --------
    >>> import torch
    >>> cos_latitude(torch.tensor([0.0, 60.0]))
    tensor([1.3333, 0.6667])
    """
    weights = torch.cos(torch.deg2rad(latitudes)).clamp_min(0)
    return weights / weights.mean()


def sample_mean(score: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of ``score`` over all but the first axis, (N,).

    A sample without any weight counts as 0: it has no gradient either.
    """
    weight = weight.expand_as(score)
    total = (score * weight).flatten(1).sum(1)
    mass = weight.flatten(1).sum(1)
    return torch.where(mass > 0, total / mass.clamp_min(torch.finfo(mass.dtype).tiny), 0 * total)


def crps_gaussian(error: Tensor, variance: Tensor) -> Tensor:
    r"""Return the CRPS of :math:`\mathcal{N}(\mu, \sigma^2)` for an observation ``y``.

    .. math:: \sigma\left[\omega(2\Phi(\omega) - 1) + 2\varphi(\omega) - \pi^{-1/2}\right],
              \qquad \omega = (y - \mu) / \sigma

    Parameters
    ----------
    error : Tensor
        :math:`y - \mu`.
    variance : Tensor
        :math:`\sigma^2`, broadcastable to ``error``.

    Examples
    --------
    >>> import torch
    >>> crps_gaussian(torch.tensor(0.0), torch.tensor(1.0))
    tensor(0.2337)
    """
    # sqrt has no gradient at 0; 1e-12 is far below any width in normalized units
    sigma = (variance + 1e-12).sqrt()
    omega = error / sigma
    density = torch.exp(-0.5 * omega.square()) / math.sqrt(2 * math.pi)
    return sigma * (omega * torch.erf(omega / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


@dataclass(frozen=True)
class MSE:
    """Mean squared error of the mean."""

    def __call__(self, prediction: Prediction, truth: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of each sample, (N,)."""
        return sample_mean((prediction.mean - truth).square(), weight)


@dataclass(frozen=True)
class MAE:
    """Mean absolute error of the mean."""

    def __call__(self, prediction: Prediction, truth: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of each sample, (N,)."""
        return sample_mean((prediction.mean - truth).abs(), weight)


@dataclass(frozen=True)
class ThresholdWeighted:
    r"""Squared error plus its part beyond a threshold.

    :math:`(\mu - y)^2 + g\,(v(\mu) - v(y))^2` with the chaining function
    :math:`v(x) = \max(x, t)`, or :math:`\min(x, t)` for the lower tail. Still consistent for the
    mean, unlike weighting by what was observed, so that extremes count without being over-forecast.

    Parameters
    ----------
    threshold : float
        t, in normalized units.
    gain : float
        g, how much the tail counts beside the whole.
    upper : bool
        The tail above the threshold, else the one below.
    """

    threshold: float
    gain: float = 1.0
    upper: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and self.gain >= 0):
            raise ConfigError(
                f"{self}: expected a finite threshold and a gain of at least 0 (normalized units)"
            )

    def _chain(self, x: Tensor) -> Tensor:
        return x.clamp_min(self.threshold) if self.upper else x.clamp_max(self.threshold)

    def __call__(self, prediction: Prediction, truth: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of each sample, (N,)."""
        whole = (prediction.mean - truth).square()
        tail = (self._chain(prediction.mean) - self._chain(truth)).square()
        return sample_mean(whole + self.gain * tail, weight)


@dataclass(frozen=True)
class Scale:
    """A pooling: blocks of cells and a running mean over leads, and how much it counts.

    Parameters
    ----------
    block : tuple of int or None
        Cells (along H, W) in a block; None is the whole field.
    leads : int
        Length of the running mean over leads.
    gain : float
        Weight of this scale in the sum.
    """

    block: tuple[int, int] | None = (1, 1)
    leads: int = 1
    gain: float = 1.0

    def __post_init__(self) -> None:
        sizes = (*(self.block or (1, 1)), self.leads)
        if min(sizes) < 1 or self.gain <= 0:
            raise ConfigError(f"{self}: expected sizes of at least 1 and a positive gain")

    def pool(self, fields: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return weighted means of the blocks and the weight of each.

        Parameters
        ----------
        fields : Tensor, (N, T, H, W, C, F)
        weight : Tensor, (N, T, H, W, C)

        Returns
        -------
        Tensor, (N, T', H', W', C, F)
        Tensor, (N, T', H', W', C)
            The weight in a block, 0 where nothing in it is known.
        """
        if self == Scale(gain=self.gain):
            return fields, weight
        T, H, W, C, count = fields.shape[1:]
        kernel = (min(self.leads, T), *((H, W) if self.block is None else self.block))
        stacked = torch.cat([fields * weight[..., None], weight[..., None]], -1)
        stacked = stacked.flatten(-2).movedim(-1, 1)
        # divisor 1: sums, so that a block cut by the edge counts by what it holds
        pooled = F.avg_pool3d(
            stacked, kernel, stride=(1, *kernel[1:]), ceil_mode=True, divisor_override=1
        )
        pooled = pooled.movedim(1, -1).unflatten(-1, (C, count + 1))
        mass = pooled[..., -1]
        mean = pooled[..., :-1] / mass.clamp_min(torch.finfo(mass.dtype).tiny)[..., None]
        return mean, mass


@dataclass(frozen=True)
class GaussianCRPS:
    r"""CRPS of the forecast Gaussian at several scales, in closed form.

    For each scale the truth, :math:`\mu` and each :math:`L_k` are pooled by the same weights; the
    pooled forecast is Gaussian with variance :math:`\sum_k \bar L_k^2`. Scoring pooled values
    teaches the spread of area means, which the spread of single cells does not fix. The result is
    :math:`\sum_s g_s \ell_s / \sum_s g_s`.

    Parameters
    ----------
    scales : tuple of Scale
        Default: cells, blocks of 3 by 3 and the whole field, each for single leads and for
        means of 3 leads.
    """

    scales: tuple[Scale, ...] = tuple(
        Scale(block, leads) for leads in (1, 3) for block in ((1, 1), (3, 3), None)
    )

    def __post_init__(self) -> None:
        if not self.scales:
            raise ConfigError("GaussianCRPS(scales=()): expected at least one Scale, found none")

    def __call__(self, prediction: Prediction, truth: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of each sample, (N,)."""
        weight = weight.expand_as(truth)
        error = truth - prediction.mean
        fields = torch.cat([error[..., None], prediction.factors], -1)
        total = torch.zeros(len(truth), dtype=truth.dtype, device=truth.device)
        for scale in self.scales:
            pooled, mass = scale.pool(fields, weight)
            score = crps_gaussian(pooled[..., 0], pooled[..., 1:].square().sum(-1))
            total = total + scale.gain * sample_mean(score, mass)
        return total / sum(scale.gain for scale in self.scales)
