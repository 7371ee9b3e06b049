r"""Guidance: changes of the predicted clean field.

By Tweedie's formula the predicted clean field is
:math:`\hat x_0 = (z_t + \sigma_t^2 \nabla \log p(z_t)) / \alpha_t`; whatever multiplies the law of
the fields by :math:`\exp(-E)` changes it by

.. math:: \hat x_0' = \hat x_0 - \frac{\sigma_t^2}{\alpha_t} \nabla_{z_t} E(z_t).

So a guidance is a wrapper of a predictor, and no sampler knows of it:

>>> predict = guided(process.predictor(network), guidance)  # doctest: +SKIP

* :class:`AlignmentGuidance`: E is the distance of what a trained network reads from the noisy
  state (PreDiff);
* :class:`PosteriorGuidance`: E is the distance of the decoded :math:`\hat x_0` from a condition
  (DPS); :class:`ScoreGuidance`: its square over a variance that grows with the noise (SDA);
* :class:`~xearth.models.prediff.guidance_covariance.CovarianceGuidance`: the exact correction for
  Gaussian laws and linear conditions (MMPS);
* :class:`ProjectionGuidance`: the nearest field that holds the condition.

A state of pure noise (:math:`\alpha = 0`) says nothing of the field; nothing is guided there.

Sources: Gao et al. (2023), *PreDiff*; Chung et al. (2023), *Diffusion posterior sampling*; Rozet
and Louppe (2023), *Score-based data assimilation*; Rozet et al. (2024), *Learning diffusion priors
from observations by expectation maximization* (MMPS).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from ...errors import ConfigError, ConstraintError, SamplingError
from ..conditions.protocol import Condition
from .finite import count_bad
from .grids import is_number
from .levels import Level, Predictor, posterior
from .process import Network, network_time

__all__ = [
    "AlignmentGuidance",
    "Decode",
    "Guidance",
    "PosteriorGuidance",
    "ProjectionGuidance",
    "ScoreGuidance",
    "guided",
]

#: Clean state (N, ...) -> fields (N, T, H, W, C) in the values of the condition; gradients pass.
Decode = Callable[[Tensor], Tensor]


class Guidance(Protocol):
    """A change of a predicted clean field."""

    def __call__(self, z: Tensor, level: Level, predict: Predictor) -> Tensor:
        """Return the guided clean field, in the shape of z."""


def guided(predict: Predictor, *guidances: Guidance) -> Predictor:
    """Return the predictor with one guidance wrapped around another, the first innermost.

    Parameters
    ----------
    predict : Predictor
    *guidances : Guidance

    Returns
    -------
    Predictor
        It raises SamplingError where a guidance, not the network, made a value NaN or infinite.

    Examples
    --------
    >>> predict = guided(lambda z, level: z, lambda z, level, plain: 0.5 * plain(z, level))
    >>> predict(torch.ones(1, 2), Level(0.0, 0.9, 0.4))
    tensor([[0.5000, 0.5000]])
    """
    for guidance in guidances:
        predict = _wrapped(predict, guidance)
    return predict


def _wrapped(plain: Predictor, guidance: Guidance) -> Predictor:
    def predict(z: Tensor, level: Level) -> Tensor:
        clean = guidance(z, level, plain)
        bad = count_bad(clean)
        if bad and not count_bad(plain(z, level)):
            raise SamplingError(
                f"{type(guidance).__name__} made {bad} of {clean.numel()} values NaN or infinite "
                "where the network's prediction is finite. Likely cause: a scale that is too "
                "strong, a target that is not finite, or a decoder that overflows."
            )
        return clean

    return predict


def weight_of(level: Level) -> float:
    r"""Return :math:`\sigma_t^2 / \alpha_t`, by which a gradient changes the clean field."""
    return level.sigma**2 / level.alpha


def decoded(decode: Decode | None, clean: Tensor) -> Tensor:
    """Return the fields of clean states."""
    return clean if decode is None else decode(clean)


def differentiable(z: Tensor) -> Tensor:
    """Return the state as a leaf that gradients reach.

    Raises
    ------
    SamplingError
        Under inference mode, where no gradient can be had.
    """
    if torch.is_inference_mode_enabled():
        raise SamplingError(
            "guidance differentiates the prediction, which inference mode forbids. "
            "Run the sampler under torch.no_grad() instead."
        )
    return z.detach().requires_grad_()


# --- through the trained alignment network ----------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class AlignmentGuidance:
    r"""Guidance by a network that reads a quantity from the noisy state.

    .. math::
        F(z_t) = \lVert \tfrac1T \textstyle\sum_T U_\phi(z_t, t) - F_0 \rVert, \qquad
        \mu_\theta' = \mu_\theta - \lambda\, w_t\, \nabla_{z_t} F,

    with :math:`\mu_\theta` the mean of a reverse step and :math:`w_t` its variance
    :math:`\Sigma_t` (the paper) or its standard deviation (the published code; summed over all
    steps some ten times as much). The clean field is changed by what shifts the mean of one step
    of the process so; with DDPM in all steps that is the shift itself, and with fewer steps of
    any sampler the same total.

    Parameters
    ----------
    network : callable
        (z_t, t (N,)) -> (N, T, m).
    target : Tensor (N, m) or (1, m)
        :math:`F_0`, in what the network reads.
    scale : float
        :math:`\lambda`.
    scaling : {"variance", "sigma"}
        :math:`w_t`.
    norm : {"sample", "batch"}
        Over what the norm is taken: each sample, or the whole batch as in the published code,
        where the gradient of a sample depends on those beside it.

    Raises
    ------
    ConfigError
        A target without the dimension m, a scale that is not finite, an unknown name.

    Examples
    --------
    >>> from xearth.models.prediff.process import Diffusion
    >>> reads = lambda z, t: z.mean((2, 3, 4))[..., None]  # means of frames, for a network
    >>> guidance = AlignmentGuidance(network=reads, target=torch.ones(1, 1), scale=2.0)
    >>> z = torch.zeros(3, 2, 4, 4, 1)
    >>> led = guidance(z, Diffusion().level(500), lambda z, level: z)
    >>> led.shape, bool((led > z).all())
    (torch.Size([3, 2, 4, 4, 1]), True)
    """

    network: Network
    target: Tensor
    scale: float = 50.0
    scaling: Literal["variance", "sigma"] = "variance"
    norm: Literal["sample", "batch"] = "sample"

    def __post_init__(self) -> None:
        if not isinstance(self.target, Tensor):
            raise ConfigError(
                f"AlignmentGuidance: target is {self.target!r}; expected a tensor (N, m) or "
                "(1, m), such as torch.tensor([[0.4]])"
            )
        if self.target.ndim != 2:
            raise ConfigError(
                f"AlignmentGuidance: target of shape {tuple(self.target.shape)}; expected (N, m), "
                "one row for each sample, or (1, m)"
            )
        if not is_number(self.scale) or not bool(self.target.isfinite().all()):
            raise ConfigError("AlignmentGuidance: scale and target must be finite")
        if self.scaling not in ("variance", "sigma") or self.norm not in ("sample", "batch"):
            raise ConfigError(
                f"AlignmentGuidance(scaling={self.scaling!r}, norm={self.norm!r}): expected "
                "'variance' or 'sigma', and 'sample' or 'batch'"
            )

    def distance(self, z: Tensor, level: Level) -> Tensor:
        """Return F, (N,), or () for the norm of a batch."""
        read = self.network(z, network_time(z, level.t)).mean(1)
        target = self.target.to(read)
        if target.shape[1] != read.shape[1] or len(target) not in (1, len(read)):
            raise ConfigError(
                f"AlignmentGuidance: target of shape {tuple(target.shape)}; the network reads "
                f"{tuple(read.shape)}"
            )
        return torch.linalg.vector_norm(read - target, dim=1 if self.norm == "sample" else None)

    def gradient(self, z: Tensor, level: Level) -> Tensor:
        """Return the gradient of F with respect to the state."""
        with torch.enable_grad():
            leaf = differentiable(z)
            (gradient,) = torch.autograd.grad(self.distance(leaf, level).sum(), leaf)
        return gradient

    def weight(self, level: Level) -> float:
        """Return what a gradient changes the clean field by: w over its factor in the mean."""
        before = level.before or (level.alpha, level.sigma)
        step = Level(level.t, *before)
        if self.scaling == "variance":
            return step.sigma**2 / step.alpha
        factor, _, variance = posterior(level, step)
        if factor <= 0.0:
            raise ConfigError(
                "AlignmentGuidance(scaling='sigma') needs a process with steps, as it goes by the "
                "standard deviation of one. Use scaling='variance'."
            )
        return math.sqrt(max(variance, 1e-20)) / factor

    def __call__(self, z: Tensor, level: Level, predict: Predictor) -> Tensor:
        """Return the guided clean field."""
        clean = predict(z, level)
        if level.before is not None and level.before[0] == 0.0:
            return clean
        return clean - (self.scale * self.weight(level)) * self.gradient(z, level)


# --- through the predicted clean field --------------------------------------------------------


def _against(z: Tensor, level: Level, predict: Predictor, energy: Decode) -> tuple[Tensor, ...]:
    """Return the clean field, its energy (N,) and the gradient of that to the state."""
    with torch.enable_grad():
        leaf = differentiable(z)
        clean = predict(leaf, level)
        value = energy(clean)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return clean.detach(), value.detach(), gradient


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).reshape(-1, *([1] * (like.ndim - 1)))


@dataclass(frozen=True, eq=False, kw_only=True)
class PosteriorGuidance:
    r"""Diffusion posterior sampling: down the gradient of the distance from a condition.

    .. math:: \hat x_0' = \hat x_0 - \frac{\sigma_t^2}{\alpha_t}\, \zeta\,
        \nabla_{z_t} \sqrt{2 E(D(\hat x_0(z_t)))},

    with E the energy of the condition, so that the root is its residual in units of its scale.
    Soft: it neither holds the condition nor keeps the law; see ``CovarianceGuidance``.

    Parameters
    ----------
    condition : Condition
    decode : callable, optional
        D, from clean states to the fields of the condition; nothing where they are the same.
    scale : float
        :math:`\zeta`.

    Examples
    --------
    >>> from xearth.models.conditions.linear import Linear
    >>> from xearth.models.conditions.rows import Rows
    >>> from xearth.models.prediff.gaussian import GaussianField
    >>> mean = Rows.over(torch.ones(1, 4, 4, 1), frames=True).mean()
    >>> wet = Linear(mean, lower=1.0, upper=1.0)
    >>> clean = GaussianField(torch.zeros(4, 4), torch.ones(4, 4))
    >>> z = torch.zeros(2, 1, 4, 4, 1)
    >>> bool((PosteriorGuidance(condition=wet)(z, Level(9.0, 0.8, 0.6), clean) > 0).all())
    True
    """

    condition: Condition
    decode: Decode | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("PosteriorGuidance", scale=self.scale)

    def __call__(self, z: Tensor, level: Level, predict: Predictor) -> Tensor:
        """Return the guided clean field."""
        if level.alpha == 0.0:
            return predict(z, level)
        clean, energy, gradient = _against(
            z, level, predict, lambda x: self.condition.energy(decoded(self.decode, x))
        )
        root = (2.0 * energy).sqrt()
        share = torch.where(root > 0.0, 1.0 / root, torch.zeros_like(root))
        return clean - (weight_of(level) * self.scale) * _per_sample(share, z) * gradient


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreGuidance:
    r"""Score-based data assimilation: a likelihood that widens with the noise.

    .. math:: E = \sum_j \frac{r_j(D(\hat x_0))^2}{2 (s^2 + \gamma\, \sigma_t^2 / \alpha_t^2)}.

    Parameters
    ----------
    condition : Condition
    decode : callable, optional
        D.
    error : float
        s, the error of what is measured, in its units.
    gamma : float
        :math:`\gamma`, in its units squared: how uncertain the measure of the predicted clean field
        is for each unit of noise variance.

    Examples
    --------
    >>> from xearth.models.conditions.linear import Linear
    >>> from xearth.models.conditions.rows import Rows
    >>> from xearth.models.prediff.gaussian import GaussianField
    >>> mean = Rows.over(torch.ones(1, 4, 4, 1), frames=True).mean()
    >>> wet = Linear(mean, lower=1.0, upper=1.0)
    >>> clean = GaussianField(torch.zeros(4, 4), torch.ones(4, 4))
    >>> guidance = ScoreGuidance(condition=wet, error=0.01, gamma=0.1)
    >>> bool((guidance(torch.zeros(2, 1, 4, 4, 1), Level(9.0, 0.8, 0.6), clean) > 0).all())
    True
    """

    condition: Condition
    decode: Decode | None = None
    error: float
    gamma: float

    def __post_init__(self) -> None:
        _check_positive("ScoreGuidance", error=self.error, gamma=self.gamma)

    def __call__(self, z: Tensor, level: Level, predict: Predictor) -> Tensor:
        """Return the guided clean field."""
        if level.alpha == 0.0:
            return predict(z, level)
        variance = self.error**2 + self.gamma * (level.sigma / level.alpha) ** 2

        def energy(clean: Tensor) -> Tensor:
            residual = self.condition.residual(decoded(self.decode, clean))
            return residual.square().sum(-1) / (2.0 * variance)

        clean, _, gradient = _against(z, level, predict, energy)
        return clean - weight_of(level) * gradient


def _check_positive(name: str, **values: float) -> None:
    for key, value in values.items():
        if not (is_number(value) and value > 0.0):
            raise ConfigError(f"{name}({key}={value!r}): expected a positive number")


# --- exact ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class ProjectionGuidance:
    r"""The nearest field that holds a condition, in place of the predicted one.

    .. math:: \hat x_0' = \hat x_0 + \mathcal{E}(\Pi(y)) - \mathcal{E}(y), \qquad
        y = D(\hat x_0),

    so that what encoding and decoding lose is not lost at each step; without a decoder
    :math:`\Pi(\hat x_0)`. The last state of a sampler is its last predicted clean field: without a
    decoder it holds the condition, with one the field is projected once more after decoding. The
    law is not the conditional one: the nearest field corrects where the condition looks, and
    not what goes with it.

    Parameters
    ----------
    condition : Condition
        With an exact projection.
    decode, encode : callable, optional
        Both or neither.

    Raises
    ------
    ConstraintError
        The condition has no exact projection.
    ConfigError
        A decoder without an encoder, or the other way round.

    Examples
    --------
    >>> from xearth.models.conditions.linear import Linear
    >>> from xearth.models.conditions.rows import Rows
    >>> from xearth.models.prediff.gaussian import GaussianField
    >>> mean = Rows.over(torch.ones(1, 4, 4, 1), frames=True).mean()
    >>> wet = Linear(mean, lower=1.0, upper=1.0)
    >>> clean = GaussianField(torch.zeros(4, 4), torch.ones(4, 4))
    >>> guidance = ProjectionGuidance(condition=wet)
    >>> led = guidance(torch.randn(2, 1, 4, 4, 1), Level(9.0, 0.8, 0.6), clean)
    >>> torch.allclose(led.mean((1, 2, 3, 4)), torch.ones(2))
    True
    """

    condition: Condition
    decode: Decode | None = None
    encode: Decode | None = None

    def __post_init__(self) -> None:
        if not self.condition.exact:
            raise ConstraintError(
                f"{self.condition.name} has no exact projection. Use PosteriorGuidance or "
                "ScoreGuidance for it."
            )
        if (self.decode is None) != (self.encode is None):
            raise ConfigError("ProjectionGuidance: expected decode and encode, or neither")

    def __call__(self, z: Tensor, level: Level, predict: Predictor) -> Tensor:
        """Return the projected clean field."""
        clean = predict(z, level)
        if self.decode is None or self.encode is None:
            return self.condition.project(clean)
        fields = self.decode(clean)
        return clean + self.encode(self.condition.project(fields)) - self.encode(fields)
