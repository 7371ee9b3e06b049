r"""How far bounds shift the mean of a normal number.

For :math:`m \sim \mathcal{N}(\mu, s^2)` known to lie in :math:`[l, u]`, with
:math:`a = (l - \mu)/s` and :math:`b = (u - \mu)/s`,

.. math:: \mathrm{E}[m \mid l \le m \le u] - \mu = s\, \frac{\varphi(a) - \varphi(b)}
    {\Phi(b) - \Phi(a)},

which tends to :math:`u - \mu` as the interval closes. Computed by logarithms, so that bounds far
in a tail are no 0/0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["shift_within"]

#: An interval this narrow, in standard deviations, counts as its middle.
NARROW = 1e-5


def shift_within(mean: Tensor, variance: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the shift of the mean, in the shape of ``mean`` (float64).

    Parameters
    ----------
    mean, variance : Tensor
    lower, upper : Tensor
        Bounds, infinite where there are none, equal for an equality.

    Examples
    --------
    >>> zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    >>> shift_within(zero, one, zero, torch.inf * one)  # the mean of |N(0, 1)|
    tensor([0.7979], dtype=torch.float64)
    >>> shift_within(zero, one, 2 * one, 2 * one)
    tensor([2.], dtype=torch.float64)
    """
    std = variance.clamp(min=1e-300).sqrt()
    a, b = (lower - mean) / std, (upper - mean) / std
    # Mirror intervals that lie right of the mean: the left tail is where Phi is accurate.
    right = a > 0.0
    a, b = torch.where(right, -b, a), torch.where(right, -a, b)
    high, low = torch.special.log_ndtr(b), torch.special.log_ndtr(a)
    mass = high + torch.log(-torch.expm1(low - high))
    shift = torch.exp(_log_density(a) - mass) - torch.exp(_log_density(b) - mass)
    shift = torch.where(right, -shift, shift) * std
    narrow = upper - lower <= NARROW * std
    shift = torch.where(narrow, 0.5 * (lower + upper) - mean, shift)
    return torch.minimum(torch.maximum(shift, lower - mean), upper - mean)


def _log_density(x: Tensor) -> Tensor:
    return -0.5 * x.square() - 0.5 * math.log(2.0 * math.pi)
