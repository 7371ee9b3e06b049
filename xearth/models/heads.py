r"""What the last channels of a network mean: one field, or a Gaussian over fields.

Notation: a network sees :math:`X` and its output is read as the mean :math:`\mu` and :math:`K`
factor fields :math:`L_1 \dots L_K`, all of shape (N, T, H, W, C). The forecast is the low-rank
Gaussian

.. math:: Y = \mu + \sum_{k=1}^{K} z_k L_k, \qquad z_k \sim \mathcal{N}(0, 1),

with one :math:`z` for all cells and leads of a member, so that a member is coherent in space and
in time. For any linear functional :math:`a` (a cell, a box mean, a mean over leads)
:math:`a(Y)` is Gaussian with mean :math:`a(\mu)` and variance :math:`\sum_k a(L_k)^2`, which is
what makes a closed-form score at every scale possible. :math:`K = 0` is a point forecast.

Source: Salinas et al. 2019, "High-dimensional multivariate forecasting with low-rank Gaussian
copula processes", for the low-rank Gaussian; Gneiting et al. 2005 for training by CRPS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError

__all__ = ["Guess", "Head", "LowRankGaussian", "Point", "Prediction", "head_from_dict"]


@dataclass(frozen=True)
class Prediction:
    """A low-rank Gaussian over fields.

    Parameters
    ----------
    mean : Tensor, (N, T, H, W, C)
    factors : Tensor, (N, T, H, W, C, K)
        K may be 0: a point forecast.

    Raises
    ------
    ValueError
        If the two shapes do not belong together.
    """

    mean: Tensor
    factors: Tensor

    def __post_init__(self) -> None:
        if self.factors.shape[:-1] != self.mean.shape:
            raise ValueError(
                f"factors of shape {tuple(self.factors.shape)} do not belong to a mean of shape "
                f"{tuple(self.mean.shape)}: expected {(*self.mean.shape, 'K')}"
            )

    @property
    def rank(self) -> int:
        """The number K of factor fields."""
        return self.factors.shape[-1]

    def about(self, guess: Guess) -> Prediction:
        """Return the distribution that departs from ``guess`` by ``guess.unit`` times this one."""
        mean = guess.mean + guess.unit * self.mean
        factors = guess.factors + guess.unit[..., None] * self.factors
        return Prediction(mean, factors)

    def variance(self) -> Tensor:
        """Return the variance of each cell, (N, T, H, W, C)."""
        return self.factors.square().sum(-1)

    def member(self, z: Tensor) -> Tensor:
        r"""Return :math:`\mu + \sum_k z_k L_k`.

        Parameters
        ----------
        z : Tensor, (N, K)
            The standard normal draw of each sample.

        Returns
        -------
        Tensor, (N, T, H, W, C)
        """
        return self.mean + torch.einsum("nthwck,nk->nthwc", self.factors, z)


class Guess(NamedTuple):
    """A first guess of the distribution, from which a network departs.

    Parameters
    ----------
    mean : Tensor, (N, T, H, W, C)
    factors : Tensor, (1, T, H, W, C, K)
    unit : Tensor, (1, T, H, W, C)
        What one unit of a network's output is worth.
    """

    mean: Tensor
    factors: Tensor
    unit: Tensor

    @classmethod
    def none(cls, rank: int, like: Tensor) -> Guess:
        """Return the guess that leaves a prediction of this rank as it is, (1, 1, 1, 1, 1)."""
        zero = like.new_zeros(1, 1, 1, 1, 1)
        return cls(zero, like.new_zeros(1, 1, 1, 1, 1, rank), zero + 1)

    def rows(self, part: slice) -> Guess:
        """Return the guess of some of the samples."""
        mean = self.mean if len(self.mean) == 1 else self.mean[part]
        return Guess(mean, self.factors, self.unit)

    def to(self, like: Tensor) -> Guess:
        """Return the guess on the device and in the dtype of ``like``."""
        return Guess(*(tensor.to(like) for tensor in self))


@dataclass(frozen=True)
class Point:
    """The output is the forecast: C channels in, C channels out.

    Examples
    --------
    >>> import torch
    >>> Point().predict(torch.zeros(2, 3, 4, 5, 1)).rank
    0
    """

    @property
    def rank(self) -> int:
        """The number of factor fields: none."""
        return 0

    def out_channels(self, channels: int) -> int:
        """Return how many output channels the network needs for ``channels`` variables."""
        return channels

    def predict(self, output: Tensor) -> Prediction:
        """Return ``output`` (N, T, H, W, C) as a distribution without width."""
        return Prediction(output, output.new_zeros(*output.shape, 0))

    def to_dict(self) -> dict[str, Any]:
        """Return the head as plain values; the inverse is :func:`head_from_dict`."""
        return {"kind": "point"}


@dataclass(frozen=True)
class LowRankGaussian:
    r"""C(1 + K) output channels: the mean of each variable, then its K factor fields.

    The raw factors are divided by :math:`\sqrt{K}`, so that the width at the start of training
    does not depend on the rank.

    Parameters
    ----------
    rank : int
        K, at least 1.

    Examples
    --------
    >>> import torch
    >>> head = LowRankGaussian(rank=4)
    >>> head.out_channels(1)
    5
    >>> prediction = head.predict(torch.ones(2, 3, 4, 5, 5))
    >>> prediction.rank, float(prediction.variance().mean())
    (4, 1.0)
    """

    rank: int

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ConfigError(
                f"LowRankGaussian(rank={self.rank!r}): expected a whole number of at least 1. "
                "A forecast without width is Point()."
            )

    def out_channels(self, channels: int) -> int:
        """Return how many output channels the network needs for ``channels`` variables."""
        return channels * (1 + self.rank)

    def predict(self, output: Tensor) -> Prediction:
        """Return the distribution that ``output`` (N, T, H, W, C(1+K)) stands for.

        Raises
        ------
        ValueError
            If the channels cannot be split in 1 + K equal parts.
        """
        channels, left = divmod(output.shape[-1], 1 + self.rank)
        if left or not channels:
            raise ValueError(
                f"the network gave {output.shape[-1]} channels, a head of rank {self.rank} needs "
                f"a multiple of {1 + self.rank}: size the network with out_channels()"
            )
        mean, factors = output.split([channels, channels * self.rank], dim=-1)
        factors = factors.unflatten(-1, (channels, self.rank))
        return Prediction(mean, factors * self.rank**-0.5)

    def to_dict(self) -> dict[str, Any]:
        """Return the head as plain values; the inverse is :func:`head_from_dict`."""
        return {"kind": "low_rank_gaussian", "rank": self.rank}


Head = Point | LowRankGaussian


def head_from_dict(values: dict[str, Any]) -> Head:
    """Return the head that :meth:`Point.to_dict` or :meth:`LowRankGaussian.to_dict` wrote.

    Raises
    ------
    ConfigError
        For an unknown kind or unknown keys.

    Examples
    --------
    >>> head_from_dict({"kind": "low_rank_gaussian", "rank": 3})
    LowRankGaussian(rank=3)
    """
    kinds: dict[str, type[Head]] = {"point": Point, "low_rank_gaussian": LowRankGaussian}
    rest = {key: value for key, value in values.items() if key != "kind"}
    kind = kinds.get(str(values.get("kind")))
    if kind is None:
        raise ConfigError(
            f"unknown kind of head {values.get('kind')!r}: this version knows {sorted(kinds)}"
        )
    try:
        return kind(**rest)
    except TypeError as error:
        raise ConfigError(
            f"a head of kind {values['kind']!r} cannot take {rest}: {error}"
        ) from None
