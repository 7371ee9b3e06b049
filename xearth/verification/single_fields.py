r"""One field from an ensemble: matched mean, probability of exceeding, a yes or no.

The mean of an ensemble has the least squared error, but less of the strong values than any member:
to count hits of a threshold in it tells of its smoothness. Two fields that do not have this fault:

* the *probability-matched mean* has the pattern of the mean and the values of the members
  (Ebert, E. E., 2001: Ability of a poor man's ensemble to predict the probability and distribution
  of precipitation. *Mon. Wea. Rev.* 129, 2461-2480): the cells in the order of their mean get the
  values of all members in their order, each the mean of :math:`M` of them that follow each other;
* *yes* where at least a share :math:`p^*` of the members reaches the threshold; which
  :math:`p^*` serves best is chosen on other data than those that are scored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..errors import AxisError, ConfigError
from .thresholds import read_thresholds

__all__ = ["exceeds", "probability_matched_mean"]


def probability_matched_mean(forecast: xr.DataArray) -> xr.DataArray:
    """Return the field with the pattern of the ensemble mean and the values of its members.

    Parameters
    ----------
    forecast : DataArray (..., member, y, x)
        Lazy data stay lazy.

    Returns
    -------
    DataArray (..., y, x)
        Missing where the mean is.

    Raises
    ------
    AxisError
        There are no members, rows or columns.

    Examples
    --------
    >>> members = xr.DataArray(
    ...     [[[0.0, 8.0, 2.0]], [[0.0, 4.0, 6.0]]], dims=("member", "y", "x"),
    ...     coords={"y": [0.0], "x": [0.0, 1.0, 2.0]}, attrs={"units": "mm h-1"})
    >>> probability_matched_mean(members).values
    array([[0., 7., 3.]])
    """
    member, y, x = _dims(forecast)
    found: xr.DataArray = xr.apply_ufunc(
        _matched,
        forecast,
        input_core_dims=[[member, y, x]],
        output_core_dims=[[y, x]],
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=[forecast.dtype],
    )
    name = forecast.attrs.get("long_name", forecast.name or "value")
    attrs = dict(forecast.attrs) | {"long_name": f"{name}, probability-matched mean"}
    return found.assign_attrs(attrs).transpose(*(d for d in forecast.dims if d != member))


def exceeds(
    forecast: xr.DataArray, threshold: Any, *, probability: float | None = None
) -> xr.DataArray:
    """Return the share of the members that reach a threshold, or where it is at least so much.

    Parameters
    ----------
    forecast : DataArray (..., member, y, x)
        Lazy data stay lazy.
    threshold : number or str
        In the units of the forecast, or with a unit of its own.
    probability : float, optional
        In (0, 1]: return 1 where the share is at least this, 0 elsewhere; default the share.

    Returns
    -------
    DataArray (..., y, x)
        Missing where a member is.

    Raises
    ------
    AxisError
        There are no members, rows or columns.
    ConfigError
        An impossible probability, or several thresholds.
    UnitsError
        The unit of the threshold does not convert.

    Examples
    --------
    >>> members = xr.DataArray(
    ...     [[[0.0, 8.0, 2.0]], [[0.0, 4.0, 6.0]]], dims=("member", "y", "x"),
    ...     coords={"y": [0.0], "x": [0.0, 1.0, 2.0]}, attrs={"units": "mm h-1"})
    >>> exceeds(members, "5 mm/h").values, exceeds(members, 5, probability=0.5).values
    (array([[0. , 0.5, 0.5]]), array([[0., 1., 1.]]))
    """
    member, _, _ = _dims(forecast)
    levels = read_thresholds(threshold, forecast)
    if len(levels.values) != 1:
        raise ConfigError(f"threshold={threshold!r}: expected a single one")
    if probability is not None and not 0 < probability <= 1:
        raise ConfigError(f"probability={probability!r}: expected more than 0, at most 1")
    level = float(levels.values[0])
    share = (forecast >= level).where(forecast.notnull()).mean(member, skipna=False)
    name = forecast.attrs.get("long_name", forecast.name or "value")
    said = f"{level:g} {forecast.attrs.get('units', '')}".strip()
    attrs = {"long_name": f"share of members with {said} or more of {name}", "units": "1"}
    if probability is not None:
        share = (share >= probability).where(share.notnull()).astype(share.dtype)
        attrs["long_name"] = f"{said} or more of {name} in {probability:g} of the members or more"
    for key in ("forecaster", "grid_mapping"):
        if key in forecast.attrs:
            attrs[key] = forecast.attrs[key]
    return share.assign_attrs(attrs)


def _dims(forecast: xr.DataArray) -> tuple[Any, Any, Any]:
    """Return the dims of members, rows and columns."""
    axes = discover(forecast, require=("y", "x"))
    if axes.member is None:
        raise AxisError(
            f"{forecast.name!r}: expected an ensemble with a member dim, found the dims "
            f"{forecast.dims}. Forecast with members=20, or mark the dim with "
            "attrs['standard_name'] = 'realization'."
        )
    return axes.member, axes.y, axes.x


def _matched(members: np.ndarray) -> np.ndarray:
    """Return the matched mean (..., H, W) of members (..., M, H, W)."""
    lead, (M, H, W) = members.shape[:-3], members.shape[-3:]
    flat = members.reshape(-1, M, H * W)
    out = np.full((len(flat), H * W), np.nan, dtype=members.dtype)
    for fields, row in zip(flat, out, strict=True):
        mean = fields.mean(axis=0)
        known = np.flatnonzero(np.isfinite(mean))
        order = np.argsort(mean[known], kind="stable")
        values = np.sort(fields[:, known], axis=None).reshape(-1, M).mean(axis=1)
        row[known[order]] = values
    return out.reshape(*lead, H, W)
