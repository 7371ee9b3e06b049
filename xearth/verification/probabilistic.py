r"""Scores of ensembles.

Let :math:`x_1 \dots x_M` be the known members and :math:`y` the truth.

**CRPS.** With :math:`a = \frac1M \sum_i |x_i - y|` and
:math:`b = \sum_{i<j} |x_i - x_j| = \sum_k (2k - M - 1)\, x_{(k)}`,

.. math:: \mathrm{CRPS_{ensemble}} = a - \frac{b}{M^2}, \qquad
          \mathrm{CRPS_{fair}} = a - \frac{b}{M (M - 1)} .

The first is that of the empirical distribution; the second is its unbiased estimate for an
ensemble of infinitely many members, comparable between ensembles of different sizes.

**Spread and skill.** With :math:`s^2 = \frac{1}{M-1} \sum_i (x_i - \bar x)^2`,

.. math:: \mathrm{spread} = \sqrt{\langle s^2 \rangle}, \quad
          \mathrm{skill} = \sqrt{\langle (\bar x - y)^2 \rangle}, \quad
          \mathrm{ratio} = \sqrt{\frac{M + 1}{M}} \; \frac{\mathrm{spread}}{\mathrm{skill}} .

The factor is what makes the ratio 1 for members and truth drawn from the same distribution
(Fortin et al. 2014, J. Hydrometeorol. 15, 1708-1713).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.packing import decoded
from ..errors import AxisError, ConfigError
from .deterministic import rmse
from .pairs import Dims, finish, mean_over, pair, root

__all__ = ["crps_ensemble", "skill", "spread", "spread_skill_ratio"]

Estimator = Literal["fair", "ensemble"]


def crps_ensemble(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    estimator: Estimator,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the continuous ranked probability score.

    Parameters
    ----------
    forecast : DataArray
        Ensemble; members that are NaN are left out, point by point.
    obs : DataArray
        Truth, converted to the units of the forecast.
    estimator : {"fair", "ensemble"}
        Unbiased for the ensemble size, or of the empirical distribution of the members.
    dim : name or names, optional
        What to average over; by default all dimensions but the member's, ``()`` for none.
    weights : DataArray, optional
        On dimensions that are averaged over.
    member : str
        Name of the member dimension.

    Returns
    -------
    DataArray
        Units of the forecast; NaN where the truth or all members are missing, and with
        ``"fair"`` where fewer than two members are known.

    Raises
    ------
    AxisError
        No member dimension.
    ConfigError
        Another estimator, or the fair one for a single member.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 2.0, 4.0]], dims=("init", "member"), attrs={"units": "K"})
    >>> o = xr.DataArray([3.0], dims="init", attrs={"units": "K"})
    >>> crps_ensemble(f, o, estimator="fair").round(4).item()
    0.3333
    >>> crps_ensemble(f, o, estimator="ensemble").round(4).item()
    0.6667
    """
    if estimator not in ("fair", "ensemble"):
        raise ConfigError(f"estimator must be 'fair' or 'ensemble'; found {estimator!r}.")
    _require_member(forecast, member)
    if estimator == "fair" and forecast.sizes[member] < 2:
        raise ConfigError(
            f"the fair CRPS needs 2 members or more; found {forecast.sizes[member]}. Use "
            "estimator='ensemble' (of one member: the absolute error)."
        )
    f, o = pair(forecast, obs)
    points: xr.DataArray = xr.apply_ufunc(
        _crps,
        f,
        o,
        input_core_dims=[[member], []],
        kwargs={"fair": estimator == "fair"},
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )
    score = mean_over(points, dim, weights)
    name = f"continuous ranked probability score ({estimator} estimator)"
    return finish(score, forecast, name, 1).rename(f"crps_{estimator}")


def _crps(x: npt.NDArray[Any], y: npt.NDArray[Any], *, fair: bool) -> npt.NDArray[np.float64]:
    """Return the CRPS (...) of x (..., M) and y (...); NaN members are left out."""
    known = ~np.isnan(x)
    count = known.sum(axis=-1)
    rank = np.arange(1, x.shape[-1] + 1)
    # np.sort puts NaN last, behind the known members
    ordered = np.where(rank <= count[..., None], np.sort(x, axis=-1), 0.0)
    pairs = ((2 * rank - count[..., None] - 1) * ordered).sum(axis=-1)
    error = np.where(known, np.abs(x - y[..., None]), 0.0).sum(axis=-1)
    others = count - 1 if fair else count
    with np.errstate(invalid="ignore", divide="ignore"):
        score = error / count - pairs / (count * others)
    return np.where(~np.isnan(y) & (others > 0), score, np.nan)


def spread(
    forecast: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the root of the mean ensemble variance (divisor M - 1).

    Parameters as in :func:`crps_ensemble`.

    Examples
    --------
    >>> import xarray as xr
    >>> spread(xr.DataArray([[1.0, 3.0], [0.0, 0.0]], dims=("init", "member"))).item()
    1.0
    """
    forecast = decoded(forecast)
    _require_member(forecast, member)
    variance = forecast.astype(np.float64).var(member, ddof=1)
    score = root(mean_over(variance, dim, weights))
    return finish(score, forecast, "ensemble spread (standard deviation)", 1).rename("spread")


def skill(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the root mean square error of the ensemble mean.

    Parameters as in :func:`crps_ensemble`.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 3.0], [0.0, 0.0]], dims=("init", "member"))
    >>> skill(f, xr.DataArray([2.0, 2.0], dims="init")).round(4).item()
    1.4142
    """
    _require_member(forecast, member)
    score = rmse(forecast.mean(member), obs, dim=dim, weights=weights)
    return finish(score, forecast, "root mean square error of the ensemble mean", 1).rename("skill")


def spread_skill_ratio(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the ratio of spread to skill with the factor of a finite ensemble; 1 is calibrated.

    Parameters as in :func:`crps_ensemble`. Points without a truth, or with fewer than two known
    members, count in neither.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> draws = np.random.default_rng(0).standard_normal((4000, 6))
    >>> f = xr.DataArray(draws[:, :5], dims=("init", "member"))
    >>> o = xr.DataArray(draws[:, 5], dims="init")
    >>> spread_skill_ratio(f, o).round(1).item()
    1.0
    """
    _require_member(forecast, member)
    f, o = pair(forecast, obs)
    count = f.notnull().sum(member)
    known = o.notnull() & (count > 1)
    count = count.where(known)
    variance = f.var(member, ddof=1).where(known) * (count + 1) / count
    error = ((f.mean(member) - o) ** 2).where(known)
    score = root(mean_over(variance, dim, weights) / mean_over(error, dim, weights))
    name = "spread over skill, times sqrt((M + 1) / M)"
    return finish(score, forecast, name, 0).rename("spread_skill_ratio")


def _require_member(forecast: xr.DataArray, member: str) -> None:
    if member not in forecast.dims:
        raise AxisError(
            f"forecast {forecast.name!r} has no member dimension {member!r}; its dims are "
            f"{forecast.dims}. Name it with member=..., or use a score of single forecasts."
        )
