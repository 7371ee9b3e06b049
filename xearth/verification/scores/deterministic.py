r"""Scores of single-valued forecasts; of an ensemble, those of its mean.

Let :math:`f` and :math:`o` be forecast and truth and :math:`\langle\cdot\rangle` the (weighted)
mean over the pairs of which both are known. Moments :math:`f', o'` are deviations from
:math:`\langle f \rangle, \langle o \rangle`; anomalies :math:`f^*, o^*` are taken from the
climatology that is given, or are the values themselves where none is (they are anomalies then).

=====================  =========================================================================
bias                   :math:`\langle f - o \rangle`
mae                    :math:`\langle |f - o| \rangle`
mse, rmse              :math:`\langle (f - o)^2 \rangle` and its root
msess                  :math:`1 - \langle (f - o)^2 \rangle / \langle o'^2 \rangle`
msess_climatology      :math:`1 - \langle (f - o)^2 \rangle / \langle o^{*2} \rangle`
correlation            :math:`\langle f' o' \rangle / \sqrt{\langle f'^2 \rangle \langle o'^2
                       \rangle}`
acc                    :math:`\langle f^* o^* \rangle / \sqrt{\langle f^{*2} \rangle
                       \langle o^{*2} \rangle}` over the area, for each start and lead
acc_temporal           the same over the starts, for each cell
acc_centered,          as these two, of the moments instead of the anomalies
acc_temporal_centered
slope                  :math:`\langle f' o' \rangle / \langle f'^2 \rangle`
kge                    :math:`1 - \sqrt{(r - 1)^2 + (\sigma_f / \sigma_o - 1)^2 +
                       (\langle f \rangle / \langle o \rangle - 1)^2}`
=====================  =========================================================================

Moments of more than one place or season are pooled: take anomalies first, or the variance
between places passes for skill. Every score sets its own attributes: a correlation has no unit,
an error of a temperature is a difference.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ...cf.attrs import score_attrs
from ...cf.discover import discover
from ...cf.packing import decoded
from ..block import Array
from ..evaluate import evaluate
from ..pairs import Dims
from ..points import over_points
from .deterministic_rows import (
    ACC,
    ACC_CENTERED,
    ACC_TEMPORAL,
    ACC_TEMPORAL_CENTERED,
    BIAS,
    CORRELATION,
    KGE,
    MAE,
    MSE,
    MSESS,
    MSESS_CLIMATOLOGY,
    RMSE,
    SLOPE,
)

__all__ = [
    "acc",
    "acc_temporal",
    "bias",
    "correlation",
    "kge",
    "mae",
    "mse",
    "msess",
    "rank_correlation",
    "rmse",
    "slope",
]


def bias(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return the mean of forecast minus truth.

    Parameters
    ----------
    forecast, obs : DataArray
        Forecast and truth; the truth is converted to the units of the forecast and may lack
        dimensions of the forecast.
    dim : name or names, optional
        What to average over; by default all dimensions but the member's, ``()`` for none.
    weights : DataArray, optional
        On dimensions that are averaged over, such as the area of the cells.
    member : str, optional
        Name of the member dimension: the score is that of the mean of the known members.

    Returns
    -------
    DataArray
        Units of the forecast; NaN where no pair is known.

    Raises
    ------
    AxisError
        No such dimension, or weights on a dimension that is kept.
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
    return evaluate(BIAS, forecast, obs, dim=dim, weights=weights, member=member)


def mae(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return the mean absolute error; parameters as in :func:`bias`.

    Examples
    --------
    >>> import xarray as xr
    >>> mae(xr.DataArray([1.0, 3.0]), xr.DataArray([2.0, 1.0])).item()
    1.5
    """
    return evaluate(MAE, forecast, obs, dim=dim, weights=weights, member=member)


def mse(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return the mean square error, in squared units; parameters as in :func:`bias`.

    Examples
    --------
    >>> import xarray as xr
    >>> kelvin = {"units": "K"}
    >>> f, o = (xr.DataArray(v, dims="x", attrs=kelvin) for v in ([1.0, 5.0], [1.0, 1.0]))
    >>> mse(f, o).item(), mse(f, o).attrs["units"]
    (8.0, 'K2')
    """
    return evaluate(MSE, forecast, obs, dim=dim, weights=weights, member=member)


def rmse(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return the root mean square error; parameters as in :func:`bias`.

    Examples
    --------
    >>> import xarray as xr
    >>> rmse(xr.DataArray([1.0, 5.0]), xr.DataArray([1.0, 1.0])).round(4).item()
    2.8284
    """
    return evaluate(RMSE, forecast, obs, dim=dim, weights=weights, member=member)


def msess(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    climatology: xr.DataArray | None = None,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return the skill of the mean square error against a climatology.

    Parameters as in :func:`bias`, and

    Parameters
    ----------
    climatology : DataArray, optional
        The reference forecast, labeled like ``obs``. Without it the reference is the mean of the
        judged truth (divisor n: the Nash-Sutcliffe efficiency), which no forecaster had: it is
        the stricter one.

    Returns
    -------
    DataArray
        1 for a perfect forecast, 0 for the reference; NaN where the reference has no error.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([1.0, 2.0, 4.0]), xr.DataArray([1.0, 2.0, 3.0])
    >>> msess(f, o).item(), msess(f, o, climatology=o * 0).round(4).item()
    (0.5, 0.9286)
    """
    score = MSESS if climatology is None else MSESS_CLIMATOLOGY
    return evaluate(
        score, forecast, obs, dim=dim, weights=weights, climatology=climatology, member=member
    )


def correlation(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return the Pearson correlation; parameters as in :func:`bias`.

    NaN where fewer than two pairs are known or one side does not vary.

    Examples
    --------
    >>> import xarray as xr
    >>> correlation(xr.DataArray([1.0, 2.0, 3.0]), xr.DataArray([2.0, 4.0, 7.0])).round(4).item()
    0.9934
    """
    return evaluate(CORRELATION, forecast, obs, dim=dim, weights=weights, member=member)


def rank_correlation(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return the Spearman correlation: that of the ranks, equal values sharing their mean rank.

    Ranks need all pairs at once: on Dask arrays the dimensions that are reduced become one chunk,
    and the score is none of :func:`~xearth.verification.verify`. Weights count in the
    correlation of the ranks, not in the ranks. Parameters as in :func:`bias`; NaN where one side
    does not vary.

    Examples
    --------
    >>> import xarray as xr
    >>> rank_correlation(xr.DataArray([1.0, 2.0, 3.0]), xr.DataArray([1.0, 4.0, 9.0])).item()
    1.0
    """
    forecast = decoded(forecast)
    if member is not None:
        attrs = forecast.attrs
        forecast = forecast.mean(member).assign_attrs(attrs)
    found = over_points(_spearman, forecast, obs, dim=dim, weights=weights, new={})
    found.attrs = score_attrs("Spearman rank correlation")
    return found.rename("rank_correlation")


def _spearman(f: Array, o: Array, w: Array) -> Array:
    """Return the weighted correlation of the ranks of points (n,)."""
    ranks = []
    for values in (f, o):
        _, kind, number = np.unique(values, return_inverse=True, return_counts=True)
        rank = (np.cumsum(number) - (number - 1) / 2)[kind]
        ranks.append(rank - np.average(rank, weights=w) if w.sum() > 0 else rank)
    a, b = ranks
    size = np.sqrt((w * a * a).sum() * (w * b * b).sum())
    return np.asarray((w * a * b).sum() / size if size > 0 else np.nan)


def acc(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    climatology: xr.DataArray | None = None,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    centered: bool = False,
    member: str | None = None,
) -> xr.DataArray:
    """Return the anomaly correlation over an area, for each start and lead.

    Parameters as in :func:`bias`, and

    Parameters
    ----------
    climatology : DataArray, optional
        What anomalies are taken from, labeled like ``obs``; without it forecast and truth are
        anomalies already.
    dim : name or names, optional
        The dimensions of the area, by default ``lat`` and ``lon``, or what the coordinates say
        are rows and columns. The mean over starts is ``.mean("init")``.
    centered : bool
        Take out the mean of the anomalies over the area as well (a Pearson correlation); WMO and
        this default do not.

    Returns
    -------
    DataArray
        In -1 .. 1; NaN where one side has no anomaly.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 2.0], [0.0, 1.0]], dims=("lat", "lon"))
    >>> o = xr.DataArray([[1.0, 1.0], [0.0, 2.0]], dims=("lat", "lon"))
    >>> acc(f, o).round(4).item(), acc(f, o, centered=True).round(4).item()
    (0.8333, 0.5)
    """
    if dim is None and {"lat", "lon"} <= set(forecast.dims):
        dim = ("lat", "lon")
    elif dim is None:
        axes = discover(forecast, require=("y", "x"))
        dim = (str(axes.y), str(axes.x))
    return evaluate(
        ACC_CENTERED if centered else ACC,
        forecast,
        obs,
        dim=dim,
        weights=weights,
        climatology=climatology,
        member=member,
    )


def acc_temporal(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    climatology: xr.DataArray | None = None,
    dim: Dims = "init",
    centered: bool = False,
    member: str | None = None,
) -> xr.DataArray:
    """Return the anomaly correlation over the starts, for each lead and cell.

    Parameters as in :func:`acc`; ``dim`` is that of the starts.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 2.0], [-1.0, 1.0]], dims=("init", "lat"))
    >>> o = xr.DataArray([[2.0, 1.0], [-2.0, -1.0]], dims=("init", "lat"))
    >>> acc_temporal(f, o).round(4).values.tolist()
    [1.0, 0.3162]
    """
    score = ACC_TEMPORAL_CENTERED if centered else ACC_TEMPORAL
    return evaluate(score, forecast, obs, dim=dim, climatology=climatology, member=member)


def slope(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return the explained slope: that of the regression of the truth on the forecast.

    1 means no conditional bias: of each kelvin of forecast anomaly the truth, on average, shows
    one. Below 1 the forecast is overconfident (its anomalies are too large), above 1 too timid.
    Parameters as in :func:`bias`; NaN where one of the two does not vary.

    Examples
    --------
    >>> import xarray as xr
    >>> slope(xr.DataArray([-2.0, 0.0, 2.0]), xr.DataArray([-1.0, 0.0, 1.0])).item()
    0.5
    """
    return evaluate(SLOPE, forecast, obs, dim=dim, weights=weights, member=member)


def kge(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str | None = None,
) -> xr.DataArray:
    """Return the Kling-Gupta efficiency with equal scaling factors; parameters as in :func:`bias`.

    It compares means by their ratio: meant for amounts (discharge, rain), not for anomalies or
    temperatures in degC.

    Examples
    --------
    >>> import xarray as xr
    >>> kge(xr.DataArray([1.0, 2.0, 3.0]), xr.DataArray([1.0, 2.0, 3.0])).item()
    1.0
    """
    return evaluate(KGE, forecast, obs, dim=dim, weights=weights, member=member)
