r"""The largest value over a place, and quantiles.

Over cells with a value and the weights :math:`w_i` of a place,

.. math::

   \textrm{largest} = \max_{w_i > 0} y_i , \qquad
   q_p = \min \Big\{ q : \sum_{y_i \le q} w_i \ge p \sum_i w_i \Big\} ,

of each frame, or of all cells of all frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..errors import ConstraintError
from .amount import number_text
from .areal import Areal

__all__ = ["AreaMaximum", "AreaQuantile"]


@dataclass(frozen=True, eq=False)
class AreaMaximum(Areal):
    """The largest value over a place.

    Parameters
    ----------
    where, variable, leads, season, per
        As for :class:`AreaMean`.

    Examples
    --------
    >>> import xearth
    >>> print(xearth.AreaMaximum(per="horizon") >= xearth.Q(50, "mm/h"))
    the largest value over the whole domain, over the horizon is at least 50 mm h-1
    """

    rounds = False

    @property
    def what(self) -> str:
        """What is measured, in words."""
        return "the largest value"

    def reduced(self, field: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
        """Return the largest value over the dims."""
        return field.where(self._weights(field) > 0).max(list(dims))


@dataclass(frozen=True, eq=False)
class AreaQuantile(Areal):
    """The value that a part of the area stays at or below.

    Parameters
    ----------
    where, variable, leads, season, per
        As for :class:`AreaMean`.
    level : float
        Between 0 and 1.

    Examples
    --------
    >>> import xearth
    >>> print(xearth.AreaQuantile(level=0.9) <= xearth.Q(5, "mm/h"))
    the quantile 0.9 over the whole domain in each frame is at most 5 mm h-1
    """

    level: float = 0.5

    rounds = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.level, float | int) or not 0 < self.level < 1:
            raise ConstraintError(
                f"level={self.level}: expected a number between 0 and 1: 0.99 for 99 %."
            )

    @property
    def what(self) -> str:
        """What is measured, in words."""
        return f"the quantile {number_text(self.level)}"

    def reduced(self, field: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
        """Return the quantile over the dims."""
        weights = self._weights(field)
        order = [*dims]
        full = weights.broadcast_like(field.isel({d: 0 for d in field.dims if d not in dims}))
        w = full.transpose(*order).values.ravel()
        value: xr.DataArray = xr.apply_ufunc(
            lambda v: _quantile(v.reshape(*v.shape[: -len(order)], -1), w, self.level),
            field.chunk(dict.fromkeys(order, -1)) if field.chunks is not None else field,
            input_core_dims=[order],
            dask="parallelized",
            output_dtypes=[np.float64],
        )
        return value


def _quantile(values: npt.NDArray, weights: npt.NDArray, level: float) -> npt.NDArray:
    """Return the smallest value (...) that a part of the weights (n,) is at or below."""
    known = np.isfinite(values) & (weights > 0)
    order = np.argsort(np.where(known, values, np.inf), axis=-1)
    w = np.take_along_axis(np.where(known, weights, 0.0), order, -1)
    below = np.cumsum(w, -1)
    at = (below >= level * below[..., -1:] * (1 - 1e-12)).argmax(-1)
    found = np.take_along_axis(np.take_along_axis(values, order, -1), at[..., None], -1)[..., 0]
    return np.where(known.any(-1), found, np.nan)
