"""Skill by lead, for all starts or by the month of the start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..errors import ConfigError, MissingDataError, XearthWarning, warn
from .align import observations_at
from .deterministic import bias, correlation, mae, rmse
from .pairs import pair
from .probabilistic import crps_ensemble, spread, spread_skill_ratio

__all__ = ["SCORES", "skill_by_lead"]

Score = Callable[..., xr.DataArray]


def _crps_fair(forecast: xr.DataArray, obs: xr.DataArray, *, dim: str) -> xr.DataArray:
    return crps_ensemble(forecast, obs, estimator="fair", dim=dim)


def _crps_ensemble(forecast: xr.DataArray, obs: xr.DataArray, *, dim: str) -> xr.DataArray:
    return crps_ensemble(forecast, obs, estimator="ensemble", dim=dim)


def _spread(forecast: xr.DataArray, obs: xr.DataArray, *, dim: str) -> xr.DataArray:
    return spread(forecast.where(obs.notnull()), dim=dim)


# What each score reads: the ensemble mean, or the members.
_OF_THE_MEAN: Mapping[str, Score] = {
    "correlation": correlation,
    "rmse": rmse,
    "bias": bias,
    "mae": mae,
}
_OF_THE_MEMBERS: Mapping[str, Score] = {
    "crps_fair": _crps_fair,
    "crps_ensemble": _crps_ensemble,
    "spread": _spread,
    "spread_skill_ratio": spread_skill_ratio,
}

#: Names that :func:`skill_by_lead` knows.
SCORES = (*_OF_THE_MEAN, *_OF_THE_MEMBERS)


def skill_by_lead(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    scores: Sequence[str] = ("correlation", "rmse"),
    *,
    by: Literal["month"] | None = None,
) -> xr.Dataset:
    """Return scores of a set of forecasts, one value per lead.

    Parameters
    ----------
    forecast : DataArray
        (init, lead[, member], ...), such as an index of hindcasts. A score of single forecasts
        is that of the ensemble mean.
    obs : DataArray
        Truth (time, ...), or already at the valid times (init, lead, ...).
    scores : sequence of str
        Of "correlation", "rmse", "bias", "mae", and for ensembles "crps_fair",
        "crps_ensemble", "spread", "spread_skill_ratio".
    by : "month", optional
        One row per calendar month of the start instead of all starts together.

    Returns
    -------
    Dataset
        ([month,] lead, ...) with one variable per score, each with its own units, and ``n``,
        the number of pairs behind it.

    Raises
    ------
    ConfigError
        An unknown score, or a score of ensembles for a forecast without members.
    MissingDataError
        No forecast has a truth.

    Warns
    -----
    XearthWarning
        One side holds means over several steps, the other does not (``attrs["target"]``).

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.persistence import Persistence
    >>> from xearth.fields.climatology import anomaly
    >>> nino34 = anomaly(samples.open("oisst_nino34"), base=("1991", "2020"))
    >>> fc = Persistence.fit(nino34, horizon=6).forecast(nino34, init=slice("1982", None))
    >>> skill_by_lead(fc, nino34).correlation.values.round(2).tolist()
    [0.95, 0.87, 0.76, 0.63, 0.51, 0.38]
    """
    axes = discover(forecast, require=("init", "lead"))
    _check_scores(scores, has_members=axes.member is not None)
    init, member = str(axes.init), axes.member
    _warn_of_targets(forecast, obs)
    at = obs if {axes.init, axes.lead} <= set(obs.dims) else observations_at(forecast, obs)
    forecast, truth = pair(forecast, at)
    mean = forecast
    if member is not None:
        forecast = forecast.rename({member: "member"})
        mean = forecast.mean("member")
        mean.attrs = forecast.attrs
    if by is None:
        found = _scores(forecast, mean, truth, scores, init)
    elif by == "month":
        found = _by_month(forecast, mean, truth, scores, init)
    else:
        raise ConfigError(f"by must be None or 'month'; found {by!r}.")
    if found.n.chunks is None and not found.n.any():
        raise MissingDataError(
            f"no forecast of {forecast.name!r} has a truth in {obs.name!r}: the valid times lie "
            "outside its record, or all values are missing."
        )
    return found


def _scores(
    forecast: xr.DataArray,
    mean: xr.DataArray,
    truth: xr.DataArray,
    scores: Sequence[str],
    init: str,
) -> xr.Dataset:
    found = {
        name: _OF_THE_MEAN[name](mean, truth, dim=init)
        if name in _OF_THE_MEAN
        else _OF_THE_MEMBERS[name](forecast, truth, dim=init)
        for name in scores
    }
    n = (mean.notnull() & truth.notnull()).sum(init)
    n.attrs = {"long_name": "number of pairs of forecast and truth", "units": "1"}
    return xr.Dataset({**found, "n": n})


def _by_month(
    forecast: xr.DataArray,
    mean: xr.DataArray,
    truth: xr.DataArray,
    scores: Sequence[str],
    init: str,
) -> xr.Dataset:
    months = forecast[init].dt.month.values
    kinds = np.unique(months)
    rows = []
    for month in kinds:
        chosen = {init: np.flatnonzero(months == month)}
        members, center, target = (part.isel(chosen) for part in (forecast, mean, truth))
        rows.append(_scores(members, center, target, scores, init))
    attrs = {"long_name": "calendar month of the start", "units": "1"}
    return xr.concat(rows, xr.Variable("month", kinds, attrs), combine_attrs="override")


def _warn_of_targets(forecast: xr.DataArray, obs: xr.DataArray) -> None:
    mine, theirs = (da.attrs.get("target", "value of the step") for da in (forecast, obs))
    if mine != theirs:
        warn(
            f"forecast {forecast.name!r} is of the {mine}, truth {obs.name!r} holds the {theirs}: "
            "the scores compare different things. Use xearth.verification.indices.running_mean "
            "on the other, or set attrs['target'] if both are the same.",
            XearthWarning,
        )


def _check_scores(scores: Sequence[str], *, has_members: bool) -> None:
    unknown = [name for name in scores if name not in SCORES]
    if unknown:
        raise ConfigError(f"unknown scores {unknown}; the known ones are {list(SCORES)}.")
    ensemble = [name for name in scores if name in _OF_THE_MEMBERS]
    if ensemble and not has_members:
        raise ConfigError(
            f"{ensemble} need an ensemble, but the forecast has no member dimension. Forecast "
            "with members=..., or ask for scores of single forecasts."
        )
