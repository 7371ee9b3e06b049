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

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .kernels.ensemble import EnsembleParts, ensemble_parts, gini
from .kernels.sorting import GROUP, Engine, ordered_rows, sort_members

__all__ = ["Array", "Block", "Room"]

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
    room : Room, optional
        Arrays to be written over again and again; by default new ones are made.
    engine : {"numpy", "numba"}
        What works out the parts of an ensemble; the numbers are the same.

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
    room: Room | None = None
    engine: Engine = "numpy"

    def cells(self, chosen: Array) -> Block:
        """Return the block at some of its cells."""
        base = None if self.climatology is None else self.climatology[:, chosen]
        return Block(self.members[:, :, chosen], self.truth[:, chosen], base, engine=self.engine)

    def cases(self, chosen: Array) -> Block:
        """Return some of the cases of the block."""
        base = None if self.climatology is None else self.climatology[chosen]
        return Block(self.members[:, chosen], self.truth[chosen], base, engine=self.engine)

    @cached_property
    def deviation(self) -> Array:
        """Members minus truth (M, n, S)."""
        shape = (len(self.members), *self.truth.shape)
        out = self._empty("deviation", shape, np.result_type(self.members, self.truth))
        return np.subtract(self.members, self.truth, out=out)

    @cached_property
    def known(self) -> Array:
        """Members that are there where the truth is (M, n, S)."""
        if self.complete:
            return np.broadcast_to(True, self.deviation.shape)
        return ~np.isnan(self.deviation)

    @cached_property
    def complete(self) -> bool:
        """If every member and the truth are known at every point."""
        if self.engine == "numba":
            return isinstance(self._compiled.count, int)
        return not np.isnan(self._mean).any()

    @cached_property
    def number(self) -> Array | int:
        """Number of known members: an integer where it is the same at all points, else (n, S)."""
        return len(self.members) if self.complete else self.count

    @cached_property
    def count(self) -> Array:
        """Number of known members (n, S), 0 without a truth."""
        if self.complete:
            return np.broadcast_to(np.int64(len(self.members)), self.truth.shape)
        if self.engine == "numba":
            return np.asarray(self._compiled.count)
        return np.asarray(self.known.sum(axis=0))

    @cached_property
    def valid(self) -> Array:
        """Points with a truth and a member (n, S)."""
        return np.broadcast_to(np.asarray(self.number) > 0, self.truth.shape)

    @cached_property
    def several(self) -> Array:
        """Points with a truth and two members or more (n, S)."""
        return np.broadcast_to(np.asarray(self.number) > 1, self.truth.shape)

    @cached_property
    def mean_error(self) -> Array:
        """Ensemble mean minus truth (n, S), 0 where not valid."""
        if self.engine == "numba":
            return self._compiled.mean
        return self._mean if self.complete else self._with_gaps(self._mean.copy(), "mean")

    @cached_property
    def variance(self) -> Array:
        """Variance of the members, divisor M - 1 (n, S); 0 where fewer than two are known."""
        if self.engine == "numba":
            return self._compiled.variance
        mean = self._mean.astype(self.deviation.dtype)

        def square(row: Array, out: Array) -> Array:
            np.subtract(row, mean, out=out)
            return np.multiply(out, out, out=out)

        total = self._sum("variance", square)
        total /= max(len(self.deviation) - 1, 1)
        return self._with_gaps(total, "variance")

    @cached_property
    def absolute(self) -> Array:
        """Mean distance of the members from the truth (n, S), 0 where not valid."""
        if self.engine == "numba":
            return self._compiled.absolute
        total = self._sum("absolute", np.absolute)
        total /= len(self.deviation)
        return self._with_gaps(total, "absolute")

    @cached_property
    def gini(self) -> Array:
        """Sum of the distances of all pairs of members (n, S)."""
        if self.engine == "numba":
            return self._compiled.gini
        d, buffer = self.deviation, self._buffer
        rows = ordered_rows(d.reshape(len(d), -1), buffer.reshape(len(buffer), -1))
        total = gini(rows, len(d))
        return self._with_gaps(total.reshape(self.truth.shape), "gini")

    @cached_property
    def ordered(self) -> Array:
        """Deviations in ascending order (M, n, S), missing members last as infinity."""
        return sort_members(np.where(self.known, self.deviation, np.inf))

    @cached_property
    def truth_anomaly(self) -> Array:
        """Truth minus climatology (n, S), 0 where not valid."""
        base = 0 if self.climatology is None else self.climatology
        anomaly = np.asarray(self.truth - base)
        return anomaly if self.complete else np.where(self.valid, anomaly, 0)

    @cached_property
    def forecast_anomaly(self) -> Array:
        """Ensemble mean minus climatology (n, S), 0 where not valid."""
        return self.truth_anomaly + self.mean_error

    @cached_property
    def _mean(self) -> Array:
        """Mean of the deviations (n, S), NaN where any is missing."""
        total = self._sum("mean")
        total /= len(self.deviation)
        return total

    @cached_property
    def _compiled(self) -> EnsembleParts:
        """All parts of an ensemble in one sweep."""
        return ensemble_parts(self.deviation, engine=self.engine)

    @cached_property
    def _buffer(self) -> Array:
        """Room for the members and one row more, to be written over by whoever uses it."""
        d = self.deviation
        return self._empty("members", (len(d) + 1, *d.shape[1:]), d.dtype)

    @cached_property
    def _gaps(self) -> tuple[Array, EnsembleParts]:
        """Points where a member or the truth is missing (n, S), and their parts."""
        gaps = np.isnan(self._mean)
        return gaps, ensemble_parts(self.deviation[:, gaps])

    def _with_gaps(self, values: Array, part: str) -> Array:
        """Put the values of points with missing members in their places."""
        if not self.complete:
            gaps, parts = self._gaps
            values[gaps] = getattr(parts, part)
        return values

    def _empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        return np.empty(shape, dtype) if self.room is None else self.room.take(name, shape, dtype)

    def _sum(self, name: str, term: Callable[[Array, Array], Array] | None = None) -> Array:
        """Sum a term (row, where to write it) of the deviations over the members (n, S).

        Rows are added one after the other, so that a point gets the same sum in any block: some
        in their own precision, these sums in double precision. A row at a time stays in cache.
        """
        rows = self.deviation
        total = self._empty(name, rows.shape[1:], np.float64)
        some, spare = self._empty("rows", (2, *rows.shape[1:]), rows.dtype)
        for first in range(0, len(rows), GROUP):
            for k, row in enumerate(rows[first : first + GROUP]):
                if k == 0:
                    some[...] = row if term is None else term(row, spare)
                else:
                    np.add(some, row if term is None else term(row, spare), out=some)
            if first == 0:
                total[...] = some
            else:
                np.add(total, some, out=total)
        return total


class Room(threading.local):
    """Arrays that a thread writes over again and again, since fresh memory costs more than sums.

    What is taken under a name is lost when the name is taken again.

    Examples
    --------
    >>> room = Room()
    >>> first, second = (room.take("sum", (2, 3), float) for _ in range(2))
    >>> first.shape, np.shares_memory(first, second)
    ((2, 3), True)
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, np.dtype[Any]], Array] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return an array of this shape; its values are anything."""
        size, key = prod(shape), (name, np.dtype(dtype))
        if key not in self._held or self._held[key].size < size:
            self._held[key] = np.empty(size, dtype)
        return self._held[key][:size].reshape(shape)
