"""Rank histograms and interval coverage: is the truth like one more member."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from ...errors import AxisError
from ..evaluate import evaluate
from ..pairs import Dims
from .rank_rows import interval_coverage as coverage_row
from .rank_rows import interval_width as width_row
from .rank_rows import rank_flatness as flatness_row
from .rank_rows import rank_histogram as histogram_row

__all__ = ["interval_coverage", "interval_width", "rank_flatness", "rank_histogram"]


def rank_histogram(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return how often the truth has each rank among the members.

    A truth that equals members gives an equal share to each rank it may have, so that the result
    needs no random numbers. Points where a member is missing do not count.

    Parameters
    ----------
    forecast : DataArray
        Ensemble of M members.
    obs : DataArray
        Truth, converted to the units of the forecast.
    dim : name or names, optional
        What to take together; by default all dimensions but the member's.
    weights : DataArray, optional
        On dimensions that are taken together.
    member : str
        Name of the member dimension.

    Returns
    -------
    DataArray
        Relative frequency by ``rank`` 1 .. M + 1; NaN where no point counts.

    Raises
    ------
    AxisError
        No member dimension.
    GridMismatchError, UnitsError
        The labels differ, or the units do not convert.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 3.0], [0.0, 2.0]], dims=("init", "member"))
    >>> rank_histogram(f, xr.DataArray([2.0, 2.0], dims="init")).values.tolist()
    [0.0, 0.75, 0.25]
    """
    score = histogram_row(_members(forecast, member))
    return evaluate(score, forecast, obs, dim=dim, weights=weights, member=member)


def rank_flatness(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the distance of the rank histogram from a flat one.

    The sum over the ranks of the distance of the frequency from 1 / (M + 1) (reliability index of
    Delle Monache et al. 2006): 0 is flat. Chance alone leaves about
    sqrt(2 M / (pi n)) of n independent points. Parameters as in :func:`rank_histogram`.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 3.0], [0.0, 2.0]], dims=("init", "member"))
    >>> round(rank_flatness(f, xr.DataArray([2.0, 2.0], dims="init")).item(), 4)
    0.8333
    """
    score = flatness_row(_members(forecast, member))
    return evaluate(score, forecast, obs, dim=dim, weights=weights, member=member)


def interval_coverage(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    level: float | Sequence[float],
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return how often the truth lies in a central interval of the ensemble, bounds included.

    The k-th of M ordered members stands for the probability k / (M + 1), with straight lines
    between, so that members and truth from one distribution give ``level``: exactly where its
    bounds fall on members, nearly elsewhere. Parameters as in :func:`rank_histogram`, and

    Parameters
    ----------
    level : float or sequence of float
        Probability of the interval, at most (M - 1) / (M + 1): from the lowest to the highest
        member.

    Returns
    -------
    DataArray
        With a dimension ``level``; a calibrated ensemble has ``level``.

    Raises
    ------
    ConfigError
        Levels that the ensemble is too small for.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 2.0, 3.0], [0.0, 1.0, 2.0]], dims=("init", "member"))
    >>> interval_coverage(f, xr.DataArray([2.5, 5.0], dims="init"), level=0.5).values.tolist()
    [0.5]
    """
    score = coverage_row(_levels(level), _members(forecast, member))
    return evaluate(score, forecast, obs, dim=dim, weights=weights, member=member)


def interval_width(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    level: float | Sequence[float],
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the mean width of a central interval of the ensemble, where a truth is known.

    Parameters as in :func:`interval_coverage`; units of the forecast.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 2.0, 3.0], [0.0, 1.0, 2.0]], dims=("init", "member"))
    >>> interval_width(f, xr.DataArray([2.5, 5.0], dims="init"), level=0.5).values.tolist()
    [2.0]
    """
    score = width_row(_levels(level), _members(forecast, member))
    return evaluate(score, forecast, obs, dim=dim, weights=weights, member=member)


def _levels(level: float | Sequence[float]) -> tuple[float, ...]:
    return (float(level),) if isinstance(level, int | float) else tuple(float(v) for v in level)


def _members(forecast: xr.DataArray, member: str) -> int:
    if member not in forecast.dims:
        raise AxisError(
            f"forecast {forecast.name!r} has no member dimension {member!r}; its dims are "
            f"{forecast.dims}. Name it with member=..."
        )
    return int(forecast.sizes[member])
