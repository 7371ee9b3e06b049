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

from math import inf
from typing import Any, Literal

import xarray as xr

from ...cf.packing import decoded
from ...errors import ConfigError
from ..evaluate import evaluate
from ..pairs import Dims
from ..thresholds import read_thresholds
from .crps_rows import crps_interval
from .probabilistic_rows import (
    CRPS,
    CRPS_COMPONENTS,
    SKILL,
    SPREAD,
    SPREAD_SKILL_RATIO,
    UNBIASED_SPREAD_SKILL,
)

__all__ = [
    "crps_components",
    "crps_ensemble",
    "skill",
    "spread",
    "spread_skill_ratio",
    "threshold_weighted_crps",
    "unbiased_spread_skill",
]

Estimator = Literal["fair", "ensemble", "pwm"]


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
    estimator : {"fair", "ensemble", "pwm"}
        Unbiased for the ensemble size, or of the empirical distribution of the members. The
        estimator by probability-weighted moments, ``"pwm"``, is the same number as the fair one.
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
    score = CRPS[check_estimator(estimator)]
    return evaluate(score, forecast, obs, dim=dim, weights=weights, member=member)


def check_estimator(estimator: str) -> Literal["ensemble", "fair"]:
    """Return the name of an estimator of the CRPS; ``"pwm"`` is another name of ``"fair"``.

    Raises
    ------
    ConfigError
        Another one.

    Examples
    --------
    >>> check_estimator("pwm")
    'fair'
    """
    if estimator == "ensemble":
        return "ensemble"
    if estimator in ("fair", "pwm"):
        return "fair"
    raise ConfigError(
        f"estimator must be 'fair' ('pwm' is the same) or 'ensemble'; found {estimator!r}."
    )


def crps_components(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    estimator: Estimator,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the CRPS and its parts: penalties of under- and overforecasting, minus spread.

    Parameters as in :func:`crps_ensemble`.

    Returns
    -------
    DataArray
        With a dimension ``component``: ``"total"`` = ``"underforecast"`` + ``"overforecast"`` -
        ``"spread"``, where the penalties are the mean excess of the truth over the members and
        of the members over the truth.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 2.0, 4.0]], dims=("init", "member"), attrs={"units": "K"})
    >>> o = xr.DataArray([3.0], dims="init", attrs={"units": "K"})
    >>> crps_components(f, o, estimator="ensemble").round(4).values.tolist()
    [0.6667, 1.0, 0.3333, 0.6667]
    """
    score = CRPS_COMPONENTS[check_estimator(estimator)]
    return evaluate(score, forecast, obs, dim=dim, weights=weights, member=member)


def threshold_weighted_crps(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    estimator: Estimator,
    lower: Any = None,
    upper: Any = None,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    r"""Return the CRPS of what lies above, below or between thresholds.

    The CRPS of members and truth moved into the interval,
    :math:`v(x) = \min(\max(x, \mathrm{lower}), \mathrm{upper})`, which is
    :math:`\int_\mathrm{lower}^\mathrm{upper} (F(t) - 1(t \ge y))^2 \, dt` for the ensemble
    estimator. Parameters as in :func:`crps_ensemble`, and

    Parameters
    ----------
    lower, upper : str, quantity or number, optional
        Thresholds with units, such as ``"20 mm/h"``; one alone leaves the other side open. At
        least one.

    Raises
    ------
    ConfigError
        No threshold, or a lower one that is not below the upper one.
    UnitsError
        A threshold without units, or one that does not convert.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 2.0, 4.0]], dims=("init", "member"), attrs={"units": "mm"})
    >>> o = xr.DataArray([3.0], dims="init", attrs={"units": "mm"})
    >>> threshold_weighted_crps(f, o, lower="3 mm", estimator="ensemble").round(4).item()
    0.1111
    """
    limits = [
        None if given is None else _one_threshold(given, forecast) for given in (lower, upper)
    ]
    low, high = (
        (-inf if limits[0] is None else limits[0]),
        (inf if limits[1] is None else limits[1]),
    )
    if not low < high or (low, high) == (-inf, inf):
        raise ConfigError(
            f"expected a lower threshold, an upper one, or a lower one below an upper one; found "
            f"lower={lower!r}, upper={upper!r}. Without any, use crps_ensemble."
        )
    score = crps_interval(low, high, estimator=check_estimator(estimator))
    return evaluate(score, forecast, obs, dim=dim, weights=weights, member=member)


def _one_threshold(threshold: Any, forecast: xr.DataArray) -> float:
    values = read_thresholds(threshold, decoded(forecast)).values
    if len(values) != 1:
        raise ConfigError(f"expected one threshold on each side; found {threshold!r}.")
    return values[0]


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
    center = forecast.mean(member) if member in forecast.dims else forecast
    center.attrs = forecast.attrs
    return evaluate(SPREAD, forecast, center, dim=dim, weights=weights, member=member)


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
    return evaluate(SKILL, forecast, obs, dim=dim, weights=weights, member=member)


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
    return evaluate(SPREAD_SKILL_RATIO, forecast, obs, dim=dim, weights=weights, member=member)


def unbiased_spread_skill(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    r"""Return the ratio of spread to skill that infinitely many members would have.

    The part of the error that is due to the size of the ensemble is taken out of the skill
    instead of being added to the spread:
    :math:`\sqrt{\langle s^2 \rangle / \langle (\bar x - y)^2 - s^2 / M \rangle}`, as in
    WeatherBench-X. NaN where the difference is not positive. Parameters as in
    :func:`crps_ensemble`.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 3.0], [0.0, 2.0]], dims=("init", "member"))
    >>> unbiased_spread_skill(f, xr.DataArray([4.0, 0.0], dims="init")).round(4).item()
    1.1547
    """
    return evaluate(UNBIASED_SPREAD_SKILL, forecast, obs, dim=dim, weights=weights, member=member)
