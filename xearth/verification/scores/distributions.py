r"""Scores of forecasts that are distributions, quantiles, or fields as a whole.

The closed form of the normal distribution and the quadrature are those of ``properscoring``,
other families and the scores of several variables at once those of ``scoringrules`` (extra
``scores``). What is added here: labels, units (a location is converted as a value, a scale as a
difference), Dask, averages over any dimensions.

=================  =============================================================================
CRPS               :math:`\int (F(t) - 1(t \ge y))^2 \, dt`
logarithmic        :math:`-\log F'(y)`, in nats; it depends on the units of the truth
quantile           :math:`(1(y < q) - \alpha)(q - y)`, the pinball loss
CRPS of quantiles  twice the mean of the pinball loss over the levels
energy             :math:`\frac1M \sum_i |x_i - y| - \frac{1}{2 M^2} \sum_{i,j} |x_i - x_j|`
variogram          :math:`\sum_{a,b} \big(\frac1M \sum_i |x_{ia} - x_{ib}|^p - |y_a - y_b|^p
                   \big)^2`
=================  =============================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from ...cf.packing import decoded
from ...errors import ConfigError, UnitsError
from ...units import cf_format, compatible, convert, parse
from ..block import Array
from ..meaning import check_numbers
from ..pairs import Dims, finish, mean_over, pair, refuse_record
from ..thresholds import read_thresholds
from .families import Kind, check_family, load_scoringrules
from .gaussian import gaussian_crps, gaussian_log_score, load_properscoring

__all__ = [
    "crps_distribution",
    "crps_gaussian",
    "crps_quadrature",
    "crps_quantile",
    "log_score",
    "log_score_gaussian",
    "quantile_score",
]

#: A labeled parameter, or one number: with its unit as text where the truth has units.
Parameter = xr.DataArray | float | str


def crps_gaussian(
    location: Parameter,
    scale: Parameter,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
) -> xr.DataArray:
    """Return the CRPS of normal distributions.

    Parameters
    ----------
    location : DataArray, number or str
        Mean, converted to the units of the truth; one number needs a unit ("20 degC") where the
        truth has one.
    scale : DataArray, number or str
        Standard deviation, converted as a difference. Where 0 the score is the absolute error.
    obs : DataArray
        Truth.
    dim : name or names, optional
        What to average over; by default all dimensions, ``()`` for none.
    weights : DataArray, optional
        On dimensions that are averaged over.

    Returns
    -------
    DataArray
        Units of the truth; points where anything is missing do not count.

    Raises
    ------
    GridMismatchError
        The labels differ.
    UnitsError
        The units do not convert, or one has none.
    ConfigError
        A negative scale; in Dask arrays, which are not read before they are computed, the score
        is NaN there.

    Examples
    --------
    >>> import xarray as xr
    >>> o = xr.DataArray([20.0, 21.0], dims="time", attrs={"units": "degC"})
    >>> score = crps_gaussian("293.15 K", "1 K", o, dim=())
    >>> score.round(4).values.tolist(), score.attrs["units"]
    ([0.2337, 0.6024], 'degC')
    """
    load_properscoring()
    parameters = _parameters({"location": location, "scale": scale}, _NORMAL, obs)
    points = _points(lambda y, location, scale: gaussian_crps(y - location, scale), obs, parameters)
    name = "continuous ranked probability score of a normal distribution"
    return _average(points, obs, name, dim=dim, weights=weights).rename("crps_gaussian")


def log_score_gaussian(
    location: Parameter,
    scale: Parameter,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
) -> xr.DataArray:
    """Return the logarithmic score of normal distributions, in nats.

    Parameters as in :func:`crps_gaussian`. Where the scale is 0 it is infinite: minus where the
    truth is the location, plus elsewhere.

    Examples
    --------
    >>> import xarray as xr
    >>> o = xr.DataArray([20.0, 21.0], dims="time", attrs={"units": "degC"})
    >>> log_score_gaussian("293.15 K", "1 K", o, dim=()).round(4).values.tolist()
    [0.9189, 1.4189]
    """
    parameters = _parameters({"location": location, "scale": scale}, _NORMAL, obs)
    points = _points(
        lambda y, location, scale: gaussian_log_score(y - location, scale), obs, parameters
    )
    name = "logarithmic score of a normal distribution"
    return _average(points, obs, name, 0, dim=dim, weights=weights).rename("log_score_gaussian")


def crps_distribution(
    family: str,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    **parameters: Parameter,
) -> xr.DataArray:
    """Return the CRPS of a family of distributions, by the closed forms of scoringrules.

    Parameters
    ----------
    family : str
        One of :data:`~xearth.verification.scores.families.FAMILIES`, such as "gamma", "gev", "t",
        "logistic", "lognormal", "tnormal" (truncated) or "csg0" (censored, shifted gamma).
    obs : DataArray
        Truth.
    dim : name or names, optional
        What to average over; by default all dimensions, ``()`` for none.
    weights : DataArray, optional
        On dimensions that are averaged over.
    **parameters : DataArray, number or str
        Of the family, by the names of scoringrules. Locations and limits are converted to the
        units of the truth, scales as differences, rates as one over them.

    Returns
    -------
    DataArray
        Units of the truth; points where anything is missing, or a scale or rate is 0 (in Dask
        arrays: not positive), do not count.

    Raises
    ------
    ConfigError
        Another family, a parameter that it does not have, or a negative scale or rate.
    MissingDependencyError
        scoringrules is not installed (extra ``scores``).
    GridMismatchError, UnitsError
        As :func:`crps_gaussian`.

    Examples
    --------
    >>> import xarray as xr
    >>> rain = xr.DataArray([1.0, 4.0], dims="time", attrs={"units": "mm"})
    >>> crps_distribution("gamma", rain, shape=2.0, scale="0.2 cm").round(4).item()
    1.1153
    """
    points = _family("crps", family, obs, parameters)
    name = f"continuous ranked probability score of the family {family}"
    return _average(points, obs, name, dim=dim, weights=weights).rename(f"crps_{family}")


def log_score(
    family: str,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    **parameters: Parameter,
) -> xr.DataArray:
    """Return the logarithmic score of a family of distributions, in nats.

    Minus the logarithm of the density at the truth, by the closed forms of scoringrules;
    parameters as in :func:`crps_distribution`. The density is one over the units of the truth, so
    that only scores in the same units compare.

    Examples
    --------
    >>> import xarray as xr
    >>> log_score("exponential", xr.DataArray([1.0, 3.0], dims="time"), rate=0.5).round(4).item()
    1.6931
    """
    points = _family("logs", family, obs, parameters)
    name = f"logarithmic score of the family {family}"
    return _average(points, obs, name, 0, dim=dim, weights=weights).rename(f"log_score_{family}")


def crps_quadrature(
    distribution: Any,
    obs: xr.DataArray,
    *,
    lower: float | str | None = None,
    upper: float | str | None = None,
    tolerance: float = 1e-6,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
) -> xr.DataArray:
    """Return the CRPS of any one distribution by the quadrature of properscoring.

    Parameters
    ----------
    distribution : callable or frozen distribution of scipy.stats
        The cumulative distribution function of a value in the units of the truth, or what has a
        method ``cdf``.
    obs : DataArray
        Truth.
    lower, upper : number or str, optional
        Where the distribution begins and ends, found where not given.
    tolerance : float
        Largest error of the integrals.
    dim, weights
        As in :func:`crps_gaussian`.

    Raises
    ------
    ConfigError
        The distribution does not go from 0 to 1 between the bounds, or the tolerance is not met.

    Examples
    --------
    >>> import xarray as xr
    >>> crps_quadrature(lambda t: min(max(t, 0.0), 1.0), xr.DataArray([0.5])).round(4).item()
    0.0833
    """
    properscoring = load_properscoring()
    bounds = [None if b is None else _number(b, "location", obs) for b in (lower, upper)]

    def points(y: Array) -> Array:
        found, known = np.full(y.shape, np.nan), np.isfinite(y)
        if known.any():
            try:
                found[known] = properscoring.crps_quadrature(
                    y[known], distribution, *bounds, tol=tolerance
                )
            except ValueError as error:
                raise ConfigError(f"quadrature of {distribution!r}: {error}") from error
        return found

    found: xr.DataArray = xr.apply_ufunc(
        points, decoded(obs), dask="parallelized", output_dtypes=[np.float64]
    )
    name = "continuous ranked probability score (quadrature)"
    return _average(found, obs, name, dim=dim, weights=weights).rename("crps_quadrature")


def quantile_score(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    quantile: str = "quantile",
) -> xr.DataArray:
    """Return the quantile score (pinball loss) of each quantile.

    Parameters
    ----------
    forecast : DataArray
        Quantiles along a dimension whose coordinate holds their levels.
    obs : DataArray
        Truth, converted to the units of the forecast.
    dim : name or names, optional
        What to average over; by default all dimensions but that of the quantiles.
    weights : DataArray, optional
        On dimensions that are averaged over.
    quantile : str
        Name of the dimension of the quantiles.

    Returns
    -------
    DataArray
        By quantile; units of the forecast.

    Raises
    ------
    ConfigError
        No levels, or levels outside of 0 .. 1.
    GridMismatchError, UnitsError
        The labels differ, or the units do not convert.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 3.0]], {"quantile": [0.1, 0.9]}, ("init", "quantile"))
    >>> quantile_score(f, xr.DataArray([2.0], dims="init")).round(4).values.tolist()
    [0.1, 0.1]
    """
    points = _pinball(forecast, obs, quantile)
    dims = [name for name in points.dims if name != quantile] if dim is None else dim
    found = mean_over(points, dims, weights)
    return finish(found, forecast, "quantile score", 1).rename("quantile_score")


def crps_quantile(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    dim: Dims = None,
    weights: xr.DataArray | None = None,
    quantile: str = "quantile",
) -> xr.DataArray:
    """Return the CRPS estimated from quantiles: twice the mean of their scores.

    The levels should be equally spaced, (k - 1/2) / K. Parameters as in :func:`quantile_score`.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 3.0]], {"quantile": [0.25, 0.75]}, ("init", "quantile"))
    >>> crps_quantile(f, xr.DataArray([2.0], dims="init")).item()
    0.5
    """
    points = 2 * _pinball(forecast, obs, quantile).mean(quantile, skipna=False)
    name = "continuous ranked probability score estimated from quantiles"
    return _average(points, forecast, name, dim=dim, weights=weights).rename("crps_quantile")


_NORMAL: dict[str, Kind] = {"location": "location", "scale": "scale"}


def _pinball(forecast: xr.DataArray, obs: xr.DataArray, quantile: str) -> xr.DataArray:
    if quantile not in forecast.dims or quantile not in forecast.coords:
        raise ConfigError(
            f"forecast {forecast.name!r} needs a dimension {quantile!r} with the levels of the "
            f"quantiles as its coordinate; its dims are {forecast.dims}. Name it with quantile=..."
        )
    level = forecast[quantile].reset_coords(drop=True)
    if not bool(((level > 0) & (level < 1)).all()):
        raise ConfigError(
            f"the levels of quantiles must lie between 0 and 1; found {level.values.tolist()}."
        )
    refuse_record(forecast, obs)
    f, o = pair(forecast, obs)
    return (o - f) * (level - (o < f))


def _family(
    kind: str, family: str, obs: xr.DataArray, parameters: dict[str, Parameter]
) -> xr.DataArray:
    """Return the score of each point; NaN where a scale or a rate is not positive."""
    kinds = check_family(family, parameters)
    scoringrules = load_scoringrules()
    function = getattr(scoringrules, f"{kind}_{family}", None)
    if function is None:
        raise ConfigError(
            f"scoringrules {scoringrules.__version__} has no {kind}_{family}; use another family "
            "or a later version."
        )
    names = list(parameters)
    widths = [k for k, name in enumerate(names) if kinds[name] in ("scale", "rate")]

    def points(y: Array, *values: Array) -> Array:
        y, *given = np.broadcast_arrays(y, *values)
        good = ~np.isnan(y)
        for value in given:
            good = good & ~np.isnan(value)
        for k in widths:
            good = good & (given[k] > 0)
        found = np.full(y.shape, np.nan)
        if good.any():
            chosen = dict(zip(names, (value[good] for value in given), strict=True))
            found[good] = function(y[good], **chosen, backend="numpy")
        return found

    return _points(points, obs, _parameters(parameters, kinds, obs))


def _points(
    function: Callable[..., Array], obs: xr.DataArray, parameters: list[xr.DataArray | float]
) -> xr.DataArray:
    found: xr.DataArray = xr.apply_ufunc(
        function,
        decoded(obs).astype(np.float64),
        *parameters,
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    return found


def _average(
    points: xr.DataArray,
    like: xr.DataArray,
    name: str,
    power: int = 1,
    *,
    dim: Dims,
    weights: xr.DataArray | None,
) -> xr.DataArray:
    return finish(mean_over(points, dim, weights), like, name, power)


def _parameters(
    parameters: dict[str, Parameter], kinds: Any, obs: xr.DataArray
) -> list[xr.DataArray | float]:
    """Return the parameters in the units of the truth."""
    return [
        _labeled(value, kinds[name], obs)
        if isinstance(value, xr.DataArray)
        else _number(value, kinds[name], obs)
        for name, value in parameters.items()
    ]


def _frame(kind: Kind, obs: xr.DataArray) -> xr.DataArray:
    """Return the attributes that a parameter of a kind has to have, on an empty array."""
    attrs, units = dict(obs.attrs), obs.attrs.get("units")
    if kind == "number":
        attrs = {}
    elif units is not None and kind == "rate":
        attrs = {"units": cf_format(f"1/({parse(units)})")}
    elif units is not None and kind == "scale" and compatible(units, "K"):
        attrs["units_metadata"] = "temperature: difference"
    return xr.DataArray(np.empty(0), dims="none", attrs=attrs, name=kind)


def _number(value: float | str, kind: Kind, obs: xr.DataArray) -> float:
    frame = _frame(kind, obs)
    units = frame.attrs.get("units")
    bare = isinstance(value, int | float | np.number)
    if bare and units is not None and not compatible(units, "1"):
        raise UnitsError(
            f"the {kind} {value:g} has no unit, but the truth {obs.name!r} has the units "
            f"{obs.attrs['units']!r}. Write '{value:g} {units}', or the unit you mean."
        )
    found = read_thresholds(value, frame).values[0]
    _check_width(found, kind, f"the {kind} {value!r}")
    return found


def _check_width(values: Any, kind: Kind, what: str) -> None:
    """Refuse a negative scale or rate."""
    values = np.atleast_1d(values)
    negative = values[values < 0]
    if kind in ("scale", "rate") and negative.size:
        raise ConfigError(
            f"{what} holds {negative.size} negative value{'s' if negative.size > 1 else ''}, first "
            f"{negative[0]:g}; expected 0 or more. Mask what is missing as NaN."
        )


def _labeled(value: xr.DataArray, kind: Kind, obs: xr.DataArray) -> xr.DataArray:
    frame, value = _frame(kind, obs), decoded(value)
    check_numbers(value, kind)
    refuse_record(value, obs)
    if value.chunks is None:
        _check_width(value.values, kind, f"the {kind} {value.name!r}")
    target, source = frame.attrs.get("units"), value.attrs.get("units")
    if kind == "number":
        if source is not None:
            value = value.copy(data=convert(value.data, source, "1"))
        plain = value.drop_attrs(deep=False)
        return pair(decoded(obs).drop_attrs(deep=False), plain)[1]
    if (target is None) != (source is None):
        raise UnitsError(
            f"the {kind} {value.name!r} has units {source!r}, expected something like "
            f"{target!r} for the truth {obs.name!r}. Set attrs['units'] of both."
        )
    if source is not None and target is not None and kind in ("scale", "rate"):
        # a width is a difference whatever its metadata say
        value = value.copy(data=convert(value.data, source, target, difference=True))
        value.attrs = dict(obs.attrs)
    return pair(decoded(obs), value)[1]
