r"""Named ways to make one forecast, or many, of an ensemble before events are counted.

A yes/no score is one of single forecasts. What it is of an ensemble depends on the way to a
single one, which changes the score more than most models differ:

``"mean"``
    The ensemble mean: smooth, so it seldom reaches a high threshold.
``"matched mean"``
    The probability-matched mean (Ebert 2001, Mon. Wea. Rev. 129, 2461-2480): the pattern of the
    mean with the values of the members. Of the M N values of a field of N cells, sorted from the
    largest, every M-th is kept, and the k-th of them goes where the mean is k-th largest.
``Vote(p)``
    An event is forecast where at least a fraction p of the members has it, that is where the
    :math:`\lceil p M \rceil`-th largest member does; the value of that member is returned.
``"members"``
    Every member is a forecast of its own; all of them are counted in one table.
``"first"``
    The first member alone.

Members that are NaN are left out point by point; the matched mean needs all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...errors import AxisError, ConfigError
from .pooling import field_dims

__all__ = ["Ensemble", "Vote", "apply_to_fields", "combine_members", "vote"]


@dataclass(frozen=True)
class Vote:
    """An event is forecast where at least this fraction of the members has it.

    Parameters
    ----------
    probability : float
        Above 0, at most 1.

    Raises
    ------
    ConfigError
        Outside of that.

    Examples
    --------
    >>> str(Vote(0.3))
    'vote P >= 0.3'
    """

    probability: float

    def __post_init__(self) -> None:
        if not 0.0 < self.probability <= 1.0:
            raise ConfigError(
                f"expected a fraction of the members above 0 and at most 1; found "
                f"{self.probability!r}. Give for example Vote(0.5)."
            )

    def __str__(self) -> str:
        return f"vote P >= {self.probability:g}"


Ensemble = Literal["mean", "matched mean", "members", "first"] | Vote

_KNOWN = "'mean', 'matched mean', 'members', 'first', Vote(0.5)"


def combine_members(
    forecast: xr.DataArray, ensemble: Ensemble, *, member: str = "member"
) -> xr.DataArray:
    """Return the single forecast that an ensemble stands for.

    Parameters
    ----------
    forecast : DataArray
        With a member dimension. Dask arrays stay lazy.
    ensemble : {"mean", "matched mean", "members", "first"} or Vote
        See the head of this module; ``"members"`` returns the forecast as it is.
    member : str
        Name of the member dimension.

    Returns
    -------
    DataArray
        Without the member dimension, except for ``"members"``; dtype of the forecast.

    Raises
    ------
    AxisError
        No member dimension, or for the matched mean no field.
    ConfigError
        Another way.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[0.0, 4.0], [3.0, 8.0], [6.0, 9.0]], dims=("member", "x"))
    >>> combine_members(f, "mean").values.tolist()
    [3.0, 7.0]
    >>> combine_members(f, Vote(0.5)).values.tolist()
    [3.0, 8.0]
    """
    if member not in forecast.dims:
        raise AxisError(
            f"forecast {forecast.name!r} has no member dimension {member!r}; its dims are "
            f"{forecast.dims}. Name it with member=..., or leave ensemble out."
        )
    if ensemble == "members":
        return forecast
    if ensemble == "first":
        return forecast.isel({member: 0}, drop=True)
    if ensemble == "mean":
        found = forecast.mean(member, skipna=True, dtype=np.float64)
        # the mean of float32 members is a float32 field: thresholds compare in that precision
        found = found.astype(np.result_type(forecast.dtype, np.float32))
        return found.assign_attrs(forecast.attrs)
    if ensemble == "matched mean":
        return _matched(forecast, member)
    if isinstance(ensemble, Vote):
        return apply_to_fields(vote, forecast, [member], [], probability=ensemble.probability)
    raise ConfigError(f"ensemble must be one of {_KNOWN}; found {ensemble!r}.")


def vote(members: npt.NDArray[Any], *, probability: float) -> npt.NDArray[Any]:
    """Return the value (...) that at least a fraction of the members (..., M) reaches.

    Examples
    --------
    >>> import numpy as np
    >>> vote(np.array([[3.0, 1.0, np.nan, 2.0]]), probability=0.5)
    array([2.])
    """
    members = members.astype(np.result_type(members.dtype, np.float32), copy=False)
    ordered = np.sort(members, axis=-1)  # NaN last
    known = (~np.isnan(members)).sum(axis=-1)
    needed = np.ceil(probability * known - 1e-9).astype(np.int64).clip(min=1)
    place = (known - needed).clip(min=0)[..., None]
    found: npt.NDArray[Any] = np.take_along_axis(ordered, place, axis=-1)[..., 0]
    return found


def _matched(forecast: xr.DataArray, member: str) -> xr.DataArray:
    field = [str(name) for name in field_dims(forecast)]
    return apply_to_fields(matched_mean, forecast, [member, *field], field)


def matched_mean(members: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the probability-matched mean (..., H, W) of members (..., M, H, W).

    Equal means are ranked in the order of the cells. A cell missing in one member is missing.
    """
    members = members.astype(np.result_type(members.dtype, np.float32), copy=False)
    lead, (count, *field) = members.shape[:-3], members.shape[-3:]
    flat = members.reshape(-1, count, int(np.prod(field)))
    out = np.full((flat.shape[0], flat.shape[2]), np.nan, dtype=members.dtype)
    for values, row in zip(flat, out, strict=True):
        known = ~np.isnan(values).any(axis=0)
        pooled = np.sort(values[:, known], axis=None)[::-1][::count]
        order = np.argsort(-values[:, known].mean(axis=0, dtype=np.float64), kind="stable")
        row[np.flatnonzero(known)[order]] = pooled
    return out.reshape(*lead, *field)


def apply_to_fields(
    function: Any, forecast: xr.DataArray, core: list[str], out: list[str], **kwargs: Any
) -> xr.DataArray:
    """Return a function of whole fields, lazily and with the dims in their order."""
    if forecast.chunks is not None:
        forecast = forecast.chunk(dict.fromkeys(core, -1))
    found: xr.DataArray = xr.apply_ufunc(
        function,
        forecast,
        input_core_dims=[core],
        output_core_dims=[out],
        kwargs=kwargs,
        dask="parallelized",
        output_dtypes=[np.result_type(forecast.dtype, np.float32)],
        keep_attrs=True,
    )
    return found.transpose(*(dim for dim in forecast.dims if dim in found.dims))
