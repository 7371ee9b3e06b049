r"""Scores of single-valued forecasts.

Let :math:`f` and :math:`o` be forecast and truth and :math:`\langle\cdot\rangle` the (weighted)
mean over the chosen dimensions, over the pairs of which both are known.

======================  ===============================================================
bias                    :math:`\langle f - o \rangle`
mae                     :math:`\langle |f - o| \rangle`
rmse                    :math:`\sqrt{\langle (f - o)^2 \rangle}`
correlation             :math:`\langle f' o' \rangle / \sqrt{\langle f'^2 \rangle \langle o'^2
                        \rangle}`, with :math:`f' = f - \langle f \rangle`
======================  ===============================================================

Every score sets its own attributes: a correlation has no unit, an error of a temperature is a
difference.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from .pairs import Dims, finish, mean_over, pair, root

__all__ = ["bias", "correlation", "mae", "rmse"]


def bias(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
) -> xr.DataArray:
    """Return the mean of forecast minus truth.

    Parameters
    ----------
    forecast, obs : DataArray
        Forecast and truth; the truth is converted to the units of the forecast and may lack
        dimensions of the forecast.
    dim : name or names, optional
        What to average over; by default all dimensions, ``()`` for none.
    weights : DataArray, optional
        On dimensions that are averaged over, such as the area of the cells.

    Returns
    -------
    DataArray
        Units of the forecast.

    Raises
    ------
    GridMismatchError
        The labels differ.
    UnitsError
        The units do not convert.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([1.0, 2.0, 4.0], dims="init", attrs={"units": "K"})
    >>> o = xr.DataArray([1.0, 1.0, float("nan")], dims="init", attrs={"units": "K"})
    >>> score = bias(f, o)
    >>> score.item(), score.attrs["units_metadata"]
    (0.5, 'temperature: difference')
    """
    f, o = pair(forecast, obs)
    return finish(mean_over(f - o, dim, weights), forecast, "bias", 1).rename("bias")


def mae(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
) -> xr.DataArray:
    """Return the mean absolute error; parameters as in :func:`bias`.

    Examples
    --------
    >>> import xarray as xr
    >>> mae(xr.DataArray([1.0, 3.0]), xr.DataArray([2.0, 1.0])).item()
    1.5
    """
    f, o = pair(forecast, obs)
    score = mean_over(abs(f - o), dim, weights)
    return finish(score, forecast, "mean absolute error", 1).rename("mae")


def rmse(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
) -> xr.DataArray:
    """Return the root mean square error; parameters as in :func:`bias`.

    Examples
    --------
    >>> import xarray as xr
    >>> rmse(xr.DataArray([1.0, 5.0]), xr.DataArray([1.0, 1.0])).round(4).item()
    2.8284
    """
    f, o = pair(forecast, obs)
    score = root(mean_over((f - o) ** 2, dim, weights))
    return finish(score, forecast, "root mean square error", 1).rename("rmse")


def correlation(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
) -> xr.DataArray:
    """Return the Pearson correlation; parameters as in :func:`bias`.

    NaN where fewer than two pairs are known or one side does not vary.

    Examples
    --------
    >>> import xarray as xr
    >>> correlation(xr.DataArray([1.0, 2.0, 3.0]), xr.DataArray([2.0, 4.0, 7.0])).round(4).item()
    0.9934
    """
    f, o = pair(forecast, obs)
    both = f.notnull() & o.notnull()
    f, o = f.where(both), o.where(both)
    fa, oa = f - mean_over(f, dim, weights), o - mean_over(o, dim, weights)
    ff, oo = mean_over(fa**2, dim, weights), mean_over(oa**2, dim, weights)
    # what rounding leaves of the variance of a constant is no variance
    varies = (ff > _rounding(f, dim, weights)) & (oo > _rounding(o, dim, weights))
    score = (mean_over(fa * oa, dim, weights) / np.sqrt(ff * oo)).where(varies)
    return finish(score, forecast, "Pearson correlation", 0).rename("correlation")


def _rounding(x: xr.DataArray, dim: Dims, weights: xr.DataArray | None) -> xr.DataArray:
    """Variance that float64 rounding can make out of a constant."""
    return mean_over(x**2, dim, weights) * (8 * np.finfo(np.float64).eps) ** 2
