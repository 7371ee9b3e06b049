r"""Distribution of the rain in a cell: perhaps none, else Weibull; and what it is trained by.

With the probability of rain :math:`p`, the scale :math:`\lambda` in mm/h and the shape
:math:`\kappa`, rain exceeds :math:`r \ge 0` with the probability

.. math:: S(r) = p \, \exp\!\left(-(r / \lambda)^{1 / \kappa}\right),

so :math:`\kappa = 1` is exponential, smaller ones are narrower and larger ones have long tails.
The mean is :math:`p \lambda \Gamma(1 + \kappa)`. If :math:`e` is exponentially distributed, rain
is :math:`\lambda \max(0, e + \log p)^\kappa`: one field of :math:`e` that is coherent in space
gives one coherent field of rain.

**Score.** The continuous ranked probability score is the integral of the Brier score over all
thresholds, here a sum over steps :math:`r_{j-1} < r_j`, with :math:`t_j` inside each,

.. math:: \sum_j (r_j - r_{j-1}) \left(S(t_j) - [y > t_j]\right)^2
          \approx \int_0^\infty (F(r) - [y \le r])^2 \, dr .

With steps of :math:`\log r` it weighs weak rain like strong rain. Both are proper.

Source: Gneiting, T. and A. E. Raftery (2007): Strictly proper scoring rules, prediction, and
estimation. *J. Amer. Stat. Assoc.* 102, 359-378.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["RainLaw", "Thresholds", "law", "score"]

#: Limits of what networks may say: log of the scale in mm/h, of the shape.
SCALE = (math.log(0.01), math.log(200.0))
SHAPE = (math.log(0.12), math.log(3.0))


class RainLaw(NamedTuple):
    """Distributions of the rain rate, one per cell.

    Parameters
    ----------
    wet : Tensor
        Log of the probability of any rain, at most 0.
    scale : Tensor
        Log of the scale in mm/h, of the same shape.
    shape : Tensor
        Log of the shape.

    Examples
    --------
    >>> rain = RainLaw(torch.tensor(0.5).log(), torch.tensor(2.0).log(), torch.tensor(1.0).log())
    >>> rain.mean(), rain.exceeding(0.0), rain.exceeding(2.0)
    (tensor(1.), tensor(0.5000), tensor(0.1839))
    """

    wet: Tensor
    scale: Tensor
    shape: Tensor

    def mean(self) -> Tensor:
        """Return the mean in mm/h."""
        return (self.wet + self.scale + torch.lgamma(1 + self.shape.exp())).exp()

    def exceeding(self, threshold: float | Tensor) -> Tensor:
        """Return the probability of more rain than a threshold in mm/h, of 0 or more."""
        level = torch.as_tensor(threshold, dtype=self.scale.dtype).log()
        return (self.wet - ((level - self.scale) * (-self.shape).exp()).exp()).exp()

    def quantile(self, e: Tensor) -> Tensor:
        """Return the rain rate that is exceeded with the probability exp(-e), e of 0 or more."""
        above = (e + self.wet).clamp_min(0.0)
        return (self.shape.exp() * above.log() + self.scale).exp()


class Thresholds(NamedTuple):
    """Steps of the rain rate over which a score is summed.

    Parameters
    ----------
    at : Tensor (J,)
        A threshold inside each step, mm/h.
    width : Tensor (J,)
        Of the steps, mm/h.
    log_width : Tensor (J,)
        Of the steps, of the logarithm.
    """

    at: Tensor
    width: Tensor
    log_width: Tensor

    @classmethod
    def between(cls, low: float, high: float, steps: int) -> Thresholds:
        """Return steps that are even in the logarithm; the first of them begins at 0.

        Examples
        --------
        >>> Thresholds.between(0.1, 100.0, 3).width.round(decimals=1)
        tensor([ 1.,  9., 90.])
        """
        edges = torch.logspace(math.log10(low), math.log10(high), steps + 1)
        at = (edges[1:] * edges[:-1]).sqrt()
        log_width = (edges[1:] / edges[:-1]).log()
        start = torch.cat([torch.zeros(1), edges[1:-1]])
        return cls(at, edges[1:] - start, log_width)


def law(raw: Tensor) -> RainLaw:
    """Return the distributions of unbounded numbers (..., 3).

    Examples
    --------
    >>> law(torch.zeros(3)).wet.exp()
    tensor(0.5000)
    """
    wet, scale, shape = raw.unbind(-1)
    return RainLaw(
        torch.nn.functional.logsigmoid(wet), scale.clamp(*SCALE), _between(shape, *SHAPE)
    )


def score(rain: RainLaw, y: Tensor, thresholds: Thresholds) -> tuple[Tensor, Tensor]:
    """Return the score in mm/h, and that of the logarithm, per cell.

    Parameters
    ----------
    rain : RainLaw (...)
    y : Tensor (...)
        Observed rain rate, mm/h.
    thresholds : Thresholds

    Examples
    --------
    >>> narrow = RainLaw(torch.tensor(0.0), torch.tensor(4.0).log(), torch.tensor(0.01).log())
    >>> score(narrow, torch.tensor(1.0), Thresholds.between(0.01, 100.0, 400))[0].round(decimals=2)
    tensor(2.9500)
    """
    natural = torch.zeros_like(rain.scale)
    logarithmic = torch.zeros_like(rain.scale)
    inverse = (-rain.shape).exp()
    for at, width, log_width in zip(*(part.tolist() for part in thresholds), strict=True):
        exceeding = (rain.wet - ((math.log(at) - rain.scale) * inverse).clamp_max(30.0).exp()).exp()
        error = (exceeding - (y > at).to(y.dtype)) ** 2
        natural = natural + width * error
        logarithmic = logarithmic + log_width * error
    return natural, logarithmic


def _between(raw: Tensor, low: float, high: float) -> Tensor:
    """Return numbers between two limits, smoothly."""
    return low + (high - low) * torch.sigmoid(raw)
