"""Scores of several variables, places or leads at once: energy and variogram scores.

The kernels are those of ``scoringrules`` (extra ``scores``); formulas in
:mod:`xearth.verification.scores.distributions`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

import numpy as np
import xarray as xr

from ...errors import AxisError, ConfigError
from ..block import Array
from ..pairs import Dims, finish, mean_over, pair, refuse_record
from .families import load_scoringrules

__all__ = ["energy_score", "variogram_score"]


def energy_score(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    over: str | Iterable[Hashable],
    estimator: str = "ensemble",
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the energy score: the CRPS with distances between vectors.

    Parameters
    ----------
    forecast : DataArray
        Ensemble.
    obs : DataArray
        Truth, converted to the units of the forecast.
    over : name or names
        The dimensions that make one vector, such as ``("lat", "lon")`` or ``"lead"``.
    estimator : {"ensemble", "fair"}
        Of the empirical distribution of the members, or unbiased for their number.
    dim : name or names, optional
        What to average over; by default all others, ``()`` for none.
    weights : DataArray, optional
        On dimensions that are averaged over.
    member : str
        Name of the member dimension.

    Returns
    -------
    DataArray
        Units of the forecast. A vector of which any value is missing does not count.

    Raises
    ------
    AxisError
        A dimension that is not there.
    ConfigError
        Another estimator, or the fair one of a single member.
    MissingDependencyError
        scoringrules is not installed (extra ``scores``).
    GridMismatchError, UnitsError
        The labels differ, or the units do not convert.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[[0.0, 0.0], [3.0, 4.0]]], dims=("init", "member", "lat"))
    >>> energy_score(f, xr.DataArray([[0.0, 0.0]], dims=("init", "lat")), over="lat").item()
    1.25
    """
    if estimator not in ("ensemble", "fair"):
        raise ConfigError(f"estimator must be 'ensemble' or 'fair'; found {estimator!r}.")
    scoringrules, fair = load_scoringrules(), estimator == "fair"
    if fair and forecast.sizes.get(member, 2) < 2:
        raise ConfigError("the fair energy score needs 2 members or more; found 1.")

    def score(x: Array, y: Array) -> Array:
        found = np.asarray(scoringrules.es_ensemble(y, x, estimator="nrg"))
        if fair:
            error = np.linalg.norm(x - y[..., None, :], axis=-1).mean(axis=-1)
            size = x.shape[-2]
            found = error - (error - found) * size / (size - 1)
        return found

    points = _vectors(score, forecast, obs, over, member)
    name = f"energy score over {_names(over)} ({estimator} estimator)"
    return finish(mean_over(points, dim, weights), forecast, name, 1).rename("energy_score")


def variogram_score(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    over: str | Iterable[Hashable],
    order: float = 0.5,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the variogram score of all pairs of components, with equal weights.

    Parameters as in :func:`energy_score`, and

    Parameters
    ----------
    order : float
        The power p of the differences; twice it, a whole number, is the power of the units.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[[0.0, 0.0], [0.0, 4.0]]], dims=("init", "member", "lat"))
    >>> variogram_score(f, xr.DataArray([[0.0, 1.0]], dims=("init", "lat")), over="lat").item()
    0.0
    """
    scoringrules = load_scoringrules()
    if not (order > 0 and float(2 * order).is_integer()):
        raise ConfigError(f"order must be 0.5, 1, 1.5 ...; found {order!r}.")

    def score(x: Array, y: Array) -> Array:
        return np.asarray(scoringrules.vs_ensemble(y, x, p=order))

    points = _vectors(score, forecast, obs, over, member)
    name = f"variogram score of order {order:g} over {_names(over)}"
    found = finish(mean_over(points, dim, weights), forecast, name, int(2 * order))
    return found.rename("variogram_score")


def _names(over: str | Iterable[Hashable]) -> str:
    return over if isinstance(over, str) else ", ".join(map(str, over))


def _vectors(
    score: Callable[[Array, Array], Array],
    forecast: xr.DataArray,
    obs: xr.DataArray,
    over: str | Iterable[Hashable],
    member: str,
) -> xr.DataArray:
    """Apply a score of vectors (n, M, D) and (n, D) to those without missing values."""
    dims = [over] if isinstance(over, str) else list(over)
    refuse_record(forecast, obs)
    for array, names in ((forecast, [member, *dims]), (obs, dims)):
        absent = [name for name in names if name not in array.dims]
        if absent or not dims:
            raise AxisError(
                f"{array.name!r} lacks the dims {absent}; it has {array.dims}. Name those that "
                "make a vector with over=..., and that of the members with member=..."
            )
    f, o = pair(forecast, obs)

    def points(x: Array, y: Array) -> Array:
        size = int(np.prod(y.shape[y.ndim - len(dims) :]))
        x = x.reshape(*x.shape[: x.ndim - len(dims)], size)
        y = y.reshape(*y.shape[: y.ndim - len(dims)], size)
        lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-1])
        x, y = np.broadcast_to(x, (*lead, *x.shape[-2:])), np.broadcast_to(y, (*lead, size))
        whole = ~(np.isnan(x).any(axis=(-2, -1)) | np.isnan(y).any(axis=-1))
        found = np.full(lead, np.nan)
        if whole.any():
            found[whole] = score(x[whole], y[whole])
        return found

    found: xr.DataArray = xr.apply_ufunc(
        points,
        f,
        o,
        input_core_dims=[[member, *dims], dims],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )
    return found
