r"""What a denoiser and an alignment network learn.

A denoiser f of a process learns the target :math:`\tau` (noise, clean field, v or velocity) of
states that are noised at random times,

.. math::
    \ell_n = \frac{\lVert f(z_{t}, t) - \tau \rVert^2}{\text{size}}, \qquad
    L = \frac1N \sum_n \left( \frac{\ell_n}{e^{w_{t}}} + w_{t} \right),

with learned log-variances w of the times (0 if there are none; the loss may become negative). The
variational bound weighs the :math:`\ell_n` by

.. math::
    \frac{\beta_t^2}{2 \Sigma_t (1 - \beta_t) (1 - \bar\alpha_t)} \;\text{(noise)}, \qquad
    \frac12 \left(\frac{\bar\alpha_{t-1}}{1 - \bar\alpha_{t-1}} -
    \frac{\bar\alpha_t}{1 - \bar\alpha_t}\right) \;\text{(clean field)}.

Source: Ho et al. (2020), *Denoising diffusion probabilistic models*; Kingma et al. (2021),
*Variational diffusion models*.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from ...errors import ConfigError
from .process import Diffusion, Network

__all__ = ["Trained", "denoising_errors", "frame_means", "published_vlb_weights", "vlb_weights"]


class Trained(Protocol):
    """What a process offers to training."""

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the states at times (N,)."""

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return what a network has to predict."""


def denoising_errors(
    process: Trained, network: Network, x0: Tensor, *, t: Tensor, noise: Tensor
) -> Tensor:
    r"""Return the mean squared error :math:`\ell_n` of each sample, (N,).

    Parameters
    ----------
    process : Diffusion or FlowMatching
    network : callable
        (z, t) -> output, its context bound.
    x0 : Tensor (N, ...)
        Clean fields.
    t : Tensor (N,)
        From ``process.draw_times``.
    noise : Tensor (N, ...)

    Examples
    --------
    >>> import torch
    >>> x0, noise = torch.zeros(2, 3), torch.ones(2, 3)
    >>> t = torch.tensor([0, 9])
    >>> denoising_errors(Diffusion(), lambda z, t: 0 * z, x0, t=t, noise=noise)
    tensor([1., 1.])
    """
    output = network(process.noised(x0, t, noise), t)
    return (output - process.target(x0, t, noise)).square().flatten(1).mean(1)


def frame_means(x: Tensor) -> Tensor:
    """Return the mean intensity of each frame, (N, T, 1), of fields (N, T, H, W, C)."""
    return x.mean((2, 3, 4)).unsqueeze(-1)


def vlb_weights(process: Diffusion) -> np.ndarray:
    """Return the weights of the variational bound at each time, (T,); the first is the second's.

    Raises
    ------
    ConfigError
        For predictions of v, whose bound is not weighted by time alone.
    """
    abar, before = process.alpha_bar, process.alpha_bar_before
    with np.errstate(divide="ignore"):
        if process.prediction == "eps":
            rest = process.posterior_variance * (1.0 - process.betas) * (1.0 - abar)
            weights = np.square(process.betas) / (2.0 * rest)
        elif process.prediction == "x0":
            weights = 0.5 * (before / (1.0 - before) - abar / (1.0 - abar))
        else:
            raise ConfigError("vlb_weights: expected a process that predicts 'eps' or 'x0'")
    return np.append(weights[1], weights[1:])


def published_vlb_weights(process: Diffusion) -> np.ndarray:
    r"""Return the weights as the published code forms them.

    For noise those of :func:`vlb_weights`, of float32 tables: :math:`1 - \bar\alpha_t` loses up to
    2e-4 of itself near the data. For the clean field
    :math:`\tfrac12 \sqrt{\bar\alpha_t} / (2 - \bar\alpha_t)`, where a pair of brackets was lost. No
    loss uses them: their factor is 0.
    """
    single = np.float32
    abar, betas = single(process.alpha_bar), single(process.betas)
    with np.errstate(divide="ignore"):
        if process.prediction == "eps":
            rest = single(process.posterior_variance) * single(1.0 - process.betas) * (1 - abar)
            weights = np.square(betas) / (2 * rest)
        else:
            weights = single(0.5) * np.sqrt(abar) / (2 - abar)
    return np.append(weights[1], weights[1:])
