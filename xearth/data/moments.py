r"""Moments that merge: count, mean, sum of squared deviations and range of blocks of values.

For blocks :math:`a, b` with counts :math:`n`, means :math:`m` and sums of squares
:math:`S = \sum (x - m)^2` the union has

.. math:: m = m_a + \delta \frac{n_b}{n_a + n_b}, \qquad
          S = S_a + S_b + \delta^2 \frac{n_a n_b}{n_a + n_b}, \qquad \delta = m_b - m_a

(Chan, Golub and LeVeque 1983, *The American Statistician* 37, 242-247), so that any chunking gives
the moments of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
import xarray as xr

from ..cf.packing import fill_values
from .masks import valid_mask

__all__ = ["Moments", "moments_of", "tasks"]

# Bytes of data without chunks read at a time: large against the cost of a read, small in memory.
_BLOCK = 2**26


@dataclass(frozen=True)
class Moments:
    """Count, mean, sum of squared deviations, minimum and maximum of valid values."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, values: np.ndarray, missing: tuple[float, ...] = ()) -> Moments:
        """Return the moments of the valid values of an array.

        Examples
        --------
        >>> Moments.of(np.array([1.0, 3.0, np.nan]))
        Moments(count=2, mean=2.0, squares=2.0, low=1.0, high=3.0)
        """
        # Selecting by isnan, not by nanmax: numpy's nanmax is wrong on signalling NaN.
        valid = values[valid_mask(values, missing)].astype(np.float64)
        if valid.size == 0:
            return cls()
        with np.errstate(invalid="ignore"):
            mean = float(valid.mean())
            squares = float(np.square(valid - mean).sum())
        return cls(valid.size, mean, squares, float(valid.min()), float(valid.max()))

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        if count == 0:
            return self
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * other.count / count,
            self.squares + other.squares + apart**2 * self.count * other.count / count,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def std(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(self.squares / self.count)


def tasks(variable: xr.DataArray) -> Iterator[Moments]:
    """Yield the moments of each block: Dask tasks, not yet computed, if it is chunked."""
    missing = fill_values(variable.attrs)
    if variable.chunks is not None:
        import dask

        block_moments = dask.delayed(Moments.of, pure=True)
        yield from (block_moments(b, missing) for b in variable.data.to_delayed().ravel())
    elif variable.ndim == 0:
        yield Moments.of(np.atleast_1d(variable.values), missing)
    else:
        rows = max(1, _BLOCK // max(1, variable.nbytes // max(1, variable.shape[0])))
        for start in range(0, variable.shape[0], rows):
            part = variable.isel({variable.dims[0]: slice(start, start + rows)})
            yield Moments.of(part.values, missing)


def moments_of(variables: Iterable[xr.DataArray]) -> list[Moments]:
    """Return the moments of each variable; Dask-backed ones are computed in one graph.

    Examples
    --------
    >>> moments_of([xr.DataArray([1.0, 3.0])])[0].std
    1.0
    """
    blocks = [list(tasks(variable)) for variable in variables]
    if any(not isinstance(block, Moments) for parts in blocks for block in parts):
        import dask

        (blocks,) = dask.compute(blocks)
    return [reduce(Moments.__add__, parts, Moments()) for parts in blocks]
