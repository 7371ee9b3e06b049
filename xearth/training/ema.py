r"""Averages of weights over training that forget the start.

.. math::
    \bar\theta_k = d_k\, \bar\theta_{k-1} + (1 - d_k)\, \theta_k, \qquad
    d_k = \min\left(d, \frac{1 + k}{10 + k}\right), \quad k = 1, 2, \dots

with :math:`\bar\theta_0` the weights at the start: early averages are short, so that they do not
carry the random start along. Samples are drawn with the averaged weights.

Source: the exponential moving average of the published PreDiff (decay .9999).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import ConfigError

__all__ = ["warmed_average"]


def warmed_average(network: nn.Module, decay: float = 0.9999) -> AveragedModel:
    """Return the average of a network's weights; ``update_parameters`` after every step.

    Parameters
    ----------
    network : nn.Module
    decay : float
        d, the decay after the warm-up.

    Returns
    -------
    AveragedModel
        ``.module`` is the averaged network. Buffers are taken from the network at the start.

    Raises
    ------
    ConfigError
        A decay not between 0 and 1.

    Examples
    --------
    >>> network = nn.Linear(1, 1)
    >>> average = warmed_average(network, decay=0.99)
    >>> average.update_parameters(network)
    >>> int(average.n_averaged)
    2
    """
    if not 0.0 < decay < 1.0:
        raise ConfigError(f"warmed_average(decay={decay}): expected a number between 0 and 1")

    @torch.no_grad()
    def blend(averages: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        k = int(count)
        kept = min(decay, (1 + k) / (10 + k))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1.0 - kept)
            else:
                average.copy_(value)

    averaged = AveragedModel(network, multi_avg_fn=blend)
    # Counted from 1: at 0 the first update would copy the weights instead of averaging them.
    averaged.n_averaged.fill_(1)
    return averaged
