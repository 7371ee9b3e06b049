r"""A block of paired values, and what many scores need of it, computed once.

Let :math:`x_1 \dots x_M` be the known members at a point and :math:`y` the truth. All terms of
error, spread and CRPS are functions of the deviations :math:`d_k = x_k - y`, which are small:
taken first, single precision loses nothing on fields far from zero (a temperature in K).

=================  =====================================================================
``count``          :math:`M`, the number of known members
``mean_error``     :math:`\bar d = \frac1M \sum_k d_k`
``variance``       :math:`s^2 = \frac{1}{M-1} \sum_k (d_k - \bar d)^2`
``absolute``       :math:`\frac1M \sum_k |d_k|`
``gini``           :math:`\sum_k (2k - M - 1)\, d_{(k)} = \sum_{i<j} |x_i - x_j|`
=================  =====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Block"]

Array = npt.NDArray[Any]


@dataclass(eq=False)
class Block:
    """Forecasts and truth of n cases (pairs of start and lead) at S cells.

    Parameters
    ----------
    members : array (M, n, S)
        Members; a single forecast has M = 1. NaN where missing.
    truth : array (n, S)
        In the units of the forecast. NaN where missing.
    climatology : array (n, S), optional
        What anomalies are taken from; without it the values are anomalies already.

    Examples
    --------
    >>> import numpy as np
    >>> block = Block(np.array([[[1.0]], [[2.0]], [[4.0]]]), np.array([[3.0]]))
    >>> block.mean_error.round(4).tolist(), block.gini.tolist(), block.count.tolist()
    ([[-0.6667]], [[6.0]], [[3]])
    """

    members: Array
    truth: Array
    climatology: Array | None = None

    def cells(self, chosen: Array) -> Block:
        """Return the block at some of its cells."""
        base = None if self.climatology is None else self.climatology[:, chosen]
        return Block(self.members[:, :, chosen], self.truth[:, chosen], base)

    def cases(self, chosen: Array) -> Block:
        """Return some of the cases of the block."""
        base = None if self.climatology is None else self.climatology[chosen]
        return Block(self.members[:, chosen], self.truth[chosen], base)

    @cached_property
    def deviation(self) -> Array:
        """Members minus truth (M, n, S)."""
        return self.members - self.truth

    @cached_property
    def known(self) -> Array:
        """Members that are there where the truth is (M, n, S)."""
        return ~np.isnan(self.deviation)

    @cached_property
    def count(self) -> Array:
        """Number of known members (n, S), 0 without a truth."""
        return self.known.sum(axis=0)

    @cached_property
    def valid(self) -> Array:
        """Points with a truth and a member (n, S)."""
        return self.count > 0

    @cached_property
    def mean_error(self) -> Array:
        """Ensemble mean minus truth (n, S), 0 where not valid."""
        total = np.where(self.known, self.deviation, 0).sum(axis=0)
        return total / np.maximum(self.count, 1)

    @cached_property
    def variance(self) -> Array:
        """Variance of the members, divisor M - 1 (n, S); 0 where fewer than two are known."""
        away = np.where(self.known, self.deviation - self.mean_error, 0)
        return (away * away).sum(axis=0) / np.maximum(self.count - 1, 1)

    @cached_property
    def absolute(self) -> Array:
        """Mean distance of the members from the truth (n, S), 0 where not valid."""
        total = np.where(self.known, np.abs(self.deviation), 0).sum(axis=0)
        return total / np.maximum(self.count, 1)

    @cached_property
    def ordered(self) -> Array:
        """Deviations in ascending order (M, n, S), missing members last as infinity."""
        return np.sort(np.where(self.known, self.deviation, np.inf), axis=0)

    @cached_property
    def gini(self) -> Array:
        """Sum of the distances of all pairs of members (n, S)."""
        rank = np.arange(1, len(self.members) + 1).reshape(-1, 1, 1)
        ordered = np.where(rank <= self.count, self.ordered, 0)
        return ((2 * rank - self.count - 1) * ordered).sum(axis=0)

    @cached_property
    def truth_anomaly(self) -> Array:
        """Truth minus climatology (n, S), 0 where not valid."""
        base = 0 if self.climatology is None else self.climatology
        return np.where(self.valid, self.truth - base, 0)

    @cached_property
    def forecast_anomaly(self) -> Array:
        """Ensemble mean minus climatology (n, S), 0 where not valid."""
        return self.truth_anomaly + self.mean_error
