r"""Losses of a denoiser and of an alignment network.

With :math:`z_t` a clean latent forecast :math:`z_0` noised to time t, and
:math:`\tau(z_0, t, n)` what the process wants predicted (the noise n, :math:`z_0`, a velocity),

.. math::
    e_n = \overline{\big(U(z_t, t \mid z_c) - \tau\big)^2}, \qquad
    L_n = e_n \exp(-s_t) + s_t ,

where the learned :math:`s_t`, the logarithm of the error to expect at time t, makes errors of
all times weigh the same; it can make the loss negative. An alignment network is trained on

.. math:: \overline{\big(U_\phi(z_t, t) - m(x)\big)^2},

with m(x) numbers of each frame of the clean field, such as its mean.

Sources: Ho et al. (2020), *Denoising Diffusion Probabilistic Models*; Nichol and Dhariwal
(2021); Gao et al. (2023), *PreDiff*.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.prediff.alignment import Alignment

__all__ = ["Noising", "TimeWeights", "alignment_error", "denoising_error", "frame_means"]


class Noising(Protocol):
    """What training asks of a process."""

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return clean fields (N, ...) at times (N,)."""

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return what a network has to predict."""


class TimeWeights(nn.Module):
    """The learned logarithm of the error to expect at each time of a process.

    Parameters
    ----------
    steps : int
        Times of the process, 0 to steps - 1.

    Raises
    ------
    ConfigError
        If there is no time.

    Examples
    --------
    >>> TimeWeights(10)(torch.tensor([0.5]), torch.tensor([3])).tolist()
    [0.5]
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ConfigError(f"a process has at least 1 step; got {steps}")
        self.log_error = nn.Parameter(torch.zeros(steps))

    def forward(self, error: Tensor, t: Tensor) -> Tensor:
        """Return error * exp(-s_t) + s_t of errors (N,) at times (N,)."""
        s = self.log_error[t.long()]
        return error * torch.exp(-s) + s


def denoising_error(
    network: nn.Module, process: Noising, z0: Tensor, context: Tensor, *, t: Tensor, noise: Tensor
) -> Tensor:
    """Return the mean squared error of what a denoiser predicts, (N,).

    Parameters
    ----------
    network : Module
        (z_t, t, context) -> what the process wants predicted.
    process : Noising
        A process of :mod:`xearth.models.prediff`.
    z0, noise : Tensor
        Clean latent forecasts and standard normal noise (N, T, H, W, C).
    context : Tensor
        Latent contexts (N, T_c, H, W, C).
    t : Tensor
        Times (N,).

    Examples
    --------
    >>> from xearth.models.prediff.process import Diffusion
    >>> silent = lambda z, t, context: torch.zeros_like(z)
    >>> z, noise = torch.zeros(2, 1, 2, 2, 1), torch.ones(2, 1, 2, 2, 1)
    >>> denoising_error(silent, Diffusion(), z, z, t=torch.tensor([5, 900]), noise=noise).tolist()
    [1.0, 1.0]
    """
    found = network(process.noised(z0, t, noise), t, context)
    return (found - process.target(z0, t, noise)).square().flatten(1).mean(1)


def frame_means(x: Tensor) -> Tensor:
    """Return the mean of each frame, the published target of alignment, (N, T, 1).

    Examples
    --------
    >>> frame_means(torch.arange(4.0).view(1, 2, 2, 1, 1)).flatten().tolist()
    [0.5, 2.5]
    """
    return x.mean(dim=(-3, -2, -1))[..., None]


def alignment_error(
    network: Alignment, process: Noising, z0: Tensor, numbers: Tensor, *, t: Tensor, noise: Tensor
) -> Tensor:
    """Return the mean squared error of what an alignment network reads, (N,).

    Parameters
    ----------
    network : Alignment
        (z_t, t) -> numbers of each frame.
    process : Noising
        A process of :mod:`xearth.models.prediff`.
    z0, noise : Tensor
        Clean latent forecasts and standard normal noise (N, T, H, W, C).
    numbers : Tensor
        What is to be read from the clean fields (N, T, m).
    t : Tensor
        Times (N,).

    Raises
    ------
    ConfigError
        If there are other numbers than the network reads.
    """
    found = network(process.noised(z0, t, noise), t)
    if found.shape != numbers.shape:
        raise ConfigError(
            f"the alignment network reads {tuple(found.shape)} (N, frames, outputs), the numbers "
            f"to be read are {tuple(numbers.shape)}: they must be the same, without broadcasting"
        )
    return (found - numbers).square().flatten(1).mean(1)
