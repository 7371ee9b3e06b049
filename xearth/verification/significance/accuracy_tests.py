r"""Tests of equal accuracy without resampling, and what many tests at once are worth.

Notation
--------
:math:`d_i = a_i - b_i` is the difference of the losses of two forecasts from start :math:`i = 1
\dots n`, :math:`\bar d` its mean and :math:`\hat\gamma_k = \frac1n \sum_i (d_i - \bar d)(d_{i + k}
- \bar d)` its autocovariance. Forecasts :math:`h` steps ahead, started every step, overlap:
their errors are a moving average of order :math:`h - 1` even if the forecasts are perfect.

Diebold and Mariano (1995) divide :math:`\bar d` by :math:`\sqrt{V / n}`, with :math:`V` the
spectral density at frequency 0 and two estimates of it,

=========  ========================================================================================
harvey     :math:`V = \hat\gamma_0 + 2 \sum_{k < h} \hat\gamma_k`, with the factor
           :math:`\sqrt{(n + 1 - 2 h + h (h - 1) / n) / n}` of Harvey, Leybourne and Newbold (1997);
           may be negative, then there is no statistic
hering     :math:`V = \sigma^2 (1 + 2 \sum_{k < n} e^{-3 k / \theta})`, fitted by least squares to
           :math:`\hat\gamma_k` up to half the record (Hering and Genton 2011); never negative
=========  ========================================================================================

and compare with Student's distribution of :math:`n - 1` degrees of freedom.

References
----------
Benjamini, Y. and Hochberg, Y. (1995), J. R. Statist. Soc. B 57, 289-300.
DelSole, T. and Tippett, M. K. (2016), Mon. Wea. Rev. 144, 615-626.
Diebold, F. X. and Mariano, R. S. (1995), J. Bus. Econ. Stat. 13, 253-263.
Harvey, D., Leybourne, S. and Newbold, P. (1997), Int. J. Forecasting 13, 281-291.
Hering, A. S. and Genton, M. G. (2011), Technometrics 53, 414-425.
Wilks, D. S. (2016), Bull. Amer. Meteor. Soc. 97, 2263-2273.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...errors import ConfigError
from ..pairs import Dims, reduced_dims
from .bootstrap import paired_losses

__all__ = ["diebold_mariano", "field_significance", "sign_test"]

Floats = npt.NDArray[np.float64]


def diebold_mariano(
    losses: xr.DataArray,
    reference: xr.DataArray,
    *,
    dim: str = "init",
    steps: int | xr.DataArray = 1,
    variance: Literal["harvey", "hering"] = "harvey",
) -> xr.Dataset:
    """Test whether two forecasts have equal mean losses.

    Parameters
    ----------
    losses, reference : DataArray (init, ...)
        Losses of each start, as in :func:`~xearth.verification.compare`.
    dim : str
        The starts, sorted in time.
    steps : int or DataArray
        How many starts ahead the forecasts reach: the lead, in units of the time between starts.
        A DataArray, such as the lead itself where starts are monthly and leads count months.
    variance : {"harvey", "hering"}
        The estimate of the variance, see above.

    Returns
    -------
    Dataset
        ``value`` (the mean difference), ``statistic`` (negative where ``losses`` are smaller),
        ``p_value`` (two-sided) and ``n``. NaN where the variance is not positive or ``steps`` is
        not less than ``n``.

    Raises
    ------
    ConfigError
        An unknown variance, or steps below 1.
    AxisError, TimeAxisError, GridMismatchError, UnitsError, MissingDataError
        As :func:`~xearth.verification.compare`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> loss = xr.DataArray(rng.standard_normal(100), dims="init") ** 2
    >>> found = diebold_mariano(loss, loss + 0.1 * rng.standard_normal(100), steps=3)
    >>> found.n.item(), bool(found.p_value > 0.05)
    (100.0, True)
    """
    if variance not in _VARIANCES:
        raise ConfigError(f"variance={variance!r}: expected one of {sorted(_VARIANCES)}.")
    ahead = steps if isinstance(steps, xr.DataArray) else xr.DataArray(steps)
    ahead = ahead.drop_attrs()
    if ahead.dtype.kind not in "iu" or int(ahead.min()) < 1:
        raise ConfigError(f"steps={steps!r}: expected whole numbers of at least 1.")
    a, b, left_out = paired_losses(losses, reference, dim)
    found = xr.apply_ufunc(
        _diebold_mariano,
        (a - b).astype(np.float64),
        ahead,
        input_core_dims=[[dim], []],
        output_core_dims=[["statistic"]],
        kwargs={"variance": variance},
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True, "output_sizes": {"statistic": 4}},
        keep_attrs=False,
    )
    names = ("value", "statistic", "p_value", "n")
    table = xr.Dataset({name: found.isel(statistic=i) for i, name in enumerate(names)})
    units = losses.attrs.get("units")
    table["value"].attrs = {"long_name": "difference of the mean losses"}
    if units is not None:
        table["value"].attrs["units"] = units
    table["statistic"].attrs = {"long_name": "Diebold-Mariano statistic", "units": "1"}
    table["p_value"].attrs = {"long_name": "p-value of equal mean losses, two-sided", "units": "1"}
    table["n"].attrs = {"long_name": "number of starts", "units": "1"}
    table.attrs = {
        "method": f"Diebold-Mariano test, variance after {variance}",
        "starts_left_out": left_out,
    }
    return table


def sign_test(
    losses: xr.DataArray,
    reference: xr.DataArray,
    *,
    dim: str = "init",
    confidence: float = 0.95,
) -> xr.Dataset:
    r"""Count wins: the random walk of DelSole and Tippett.

    The walk goes up where the forecast beats the reference and down where it loses. If both were
    equally good and starts independent, it would stay within :math:`\pm z \sqrt i`.

    Parameters
    ----------
    losses, reference : DataArray (init, ...)
        Losses of each start.
    dim : str
        The starts, sorted in time.
    confidence : float
        Of the bound.

    Returns
    -------
    Dataset
        ``walk`` and ``bound`` after each start, and ``distinguishable`` where the walk is beyond
        the bound.

    Raises
    ------
    ConfigError
        A confidence outside 0 .. 1.
    AxisError, TimeAxisError, GridMismatchError, UnitsError, MissingDataError
        As :func:`~xearth.verification.compare`.

    Examples
    --------
    >>> loss = xr.DataArray([1.0, 2.0, 1.0, 3.0, 2.0], dims="init")
    >>> sign_test(loss, xr.full_like(loss, 2.5)).walk.values.tolist()
    [1, 2, 3, 2, 3]
    """
    from scipy.special import ndtri

    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence}: expected between 0 and 1, such as 0.95.")
    a, b, left_out = paired_losses(losses, reference, dim)
    known = a.notnull()
    walk = ((a < b).astype(np.int64) - (a > b).astype(np.int64)).cumsum(dim)
    bound = float(ndtri(0.5 + confidence / 2)) * np.sqrt(known.cumsum(dim))
    table = xr.Dataset({"walk": walk, "bound": bound, "distinguishable": np.abs(walk) > bound})
    names = ("wins less losses up to this start", "bound of a fair walk", "beyond the bound")
    for name, long_name in zip(table, names, strict=True):
        table[name].attrs = {"long_name": long_name}
    table["walk"].attrs["units"] = table["bound"].attrs["units"] = "1"
    table.attrs = {
        "method": "sign test of independent starts (DelSole and Tippett 2016)",
        "confidence": confidence,
        "starts_left_out": left_out,
    }
    return table


def field_significance(
    p_values: xr.DataArray, *, rate: float = 0.1, dim: Dims = None
) -> xr.Dataset:
    r"""Tell which of many tests are significant, with a bound on the false ones among them.

    A test at 5 % finds "significant" cells in 5 % of a map without any signal, and in a field
    that is correlated in space they form patterns. The false discovery rate of Benjamini and
    Hochberg admits :math:`p \le p^*`, the largest :math:`p_{(i)} \le \frac iN` ``rate``.

    Parameters
    ----------
    p_values : DataArray
        One test per point; NaN where there is none.
    rate : float
        Bound on the expected share of false discoveries. For fields correlated in space, twice
        the wanted global level (Wilks 2016): 0.1 for 5 %.
    dim : name or names, optional
        The dimensions that are one family of tests; by default all.

    Returns
    -------
    Dataset
        ``significant`` (bool, False where there is no test), ``threshold`` (the largest p-value
        admitted; 0 where none is) and ``n``, the number of tests.

    Raises
    ------
    ConfigError
        A p-value or a rate outside 0 .. 1.
    AxisError
        No such dimension.

    Examples
    --------
    >>> p = xr.DataArray([0.001, 0.02, 0.04, 0.5, float("nan")], dims="cell")
    >>> found = field_significance(p, rate=0.05)
    >>> found.significant.values.tolist(), found.threshold.item()
    ([True, True, False, False, False], 0.02)
    """
    if not 0 < rate < 1:
        raise ConfigError(f"rate={rate}: expected between 0 and 1, such as 0.1.")
    dims = reduced_dims(p_values, dim)
    if not dims:
        raise ConfigError("field_significance: expected the dimensions of a family, found dim=().")
    significant, threshold = xr.apply_ufunc(
        _discoveries,
        p_values,
        input_core_dims=[dims],
        output_core_dims=[dims, []],
        kwargs={"rate": rate, "axes": len(dims)},
        dask="parallelized",
        output_dtypes=[np.bool_, np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
        keep_attrs=False,
    )
    table = xr.Dataset(
        {
            "significant": significant.transpose(*p_values.dims),
            "threshold": threshold,
            "n": p_values.notnull().sum(dims),
        }
    )
    table["significant"].attrs = {"long_name": f"significant at a false discovery rate of {rate:g}"}
    table["threshold"].attrs = {"long_name": "largest p-value that is significant", "units": "1"}
    table["n"].attrs = {"long_name": "number of tests", "units": "1"}
    table.attrs = {"method": "false discovery rate (Benjamini and Hochberg 1995)", "rate": rate}
    return table


def _discoveries(p: Floats, rate: float, axes: int) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Return what is significant, and the threshold, of tests in the last axes."""
    from scipy.stats import false_discovery_control

    flat = p.reshape(*p.shape[: p.ndim - axes], -1)
    if ((flat < 0) | (flat > 1)).any():
        raise ConfigError(
            f"p-values between {np.nanmin(flat):g} and {np.nanmax(flat):g}: expected 0 .. 1."
        )
    significant = np.zeros(flat.shape, dtype=bool)
    for i in np.ndindex(*flat.shape[:-1]):
        there = ~np.isnan(flat[i])
        if there.any():
            significant[i][there] = false_discovery_control(flat[i][there], method="bh") <= rate
    threshold = np.where(significant, flat, 0.0).max(-1)
    return significant.reshape(p.shape), threshold


def _diebold_mariano(d: Floats, steps: npt.NDArray[Any], variance: str) -> Floats:
    """Return mean, statistic, p-value and number (..., 4) of differences (..., n)."""
    from scipy.special import stdtr

    known = np.isfinite(d)
    n = known.sum(-1)
    steps = np.broadcast_to(steps, n.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, d, 0.0).sum(-1) / n
        rest = np.where(known, d - mean[..., None], 0.0)
        t = mean / np.sqrt(_VARIANCES[variance](rest, n, steps) / n)
        if variance == "harvey":
            t = t * np.sqrt((n + 1 - 2 * steps + steps * (steps - 1) / n) / n)
        t = np.where(steps < n, t, np.nan)
        p = 2 * stdtr(n - 1, -np.abs(t))
    return np.stack([mean, t, p, n], axis=-1)


def _autocovariances(rest: Floats, n: npt.NDArray[Any], lags: int) -> Floats:
    """Return the autocovariances (..., lags) of departures (..., N) with 0 where missing."""
    spectrum = np.abs(np.fft.rfft(rest, 2 * rest.shape[-1], axis=-1)) ** 2
    return np.fft.irfft(spectrum, axis=-1)[..., :lags] / np.maximum(n, 1)[..., None]


def _truncated(rest: Floats, n: npt.NDArray[Any], steps: npt.NDArray[Any]) -> Floats:
    """Return the sum of the autocovariances at lags below ``steps``; NaN if not positive."""
    lags = min(int(steps.max()), rest.shape[-1])
    gamma = _autocovariances(rest, n, lags)
    inside = np.arange(lags) < steps[..., None]
    total = 2 * (gamma * inside).sum(-1) - gamma[..., 0]
    return np.where(total > _ROUNDING * gamma[..., 0], total, np.nan)


def _exponential(rest: Floats, n: npt.NDArray[Any], steps: npt.NDArray[Any]) -> Floats:
    """Return the sum of exponential autocovariances fitted to those of the data.

    For a given decay r = exp(-3 / theta) the variance follows in closed form; the decay is found
    on a grid that is refined three times.
    """
    size = rest.shape[-1]
    lags = max((size - 1) // 2, int(steps.max()), 2)
    gamma = _autocovariances(rest, n, min(lags, size))
    k = np.arange(gamma.shape[-1])
    used = k < np.maximum((n - 1) // 2, steps)[..., None]
    gamma = gamma * used
    low = np.zeros(gamma.shape[:-1])
    high = np.full(gamma.shape[:-1], np.exp(-3 / (4.0 * size)))
    for _ in range(_REFINEMENTS):
        grid = low + (high - low) * np.linspace(0, 1, _GRID).reshape(-1, *[1] * low.ndim)
        gain = np.stack([_fit(gamma, used, r, k)[1] for r in grid])
        best = gain.argmax(0)
        low, high = (
            np.take_along_axis(grid, np.clip(best + side, 0, _GRID - 1)[None], 0)[0]
            for side in (-1, 1)
        )
    r = np.take_along_axis(grid, best[None], 0)[0]
    sigma2 = _fit(gamma, used, r, k)[0]
    tail = (r - r ** np.maximum(n, 1)) / (1 - r)
    total = sigma2 * (1 + 2 * tail)
    return np.where(total > 0, total, np.nan)


def _fit(gamma: Floats, used: npt.NDArray[np.bool_], r: Floats, k: Any) -> tuple[Floats, Floats]:
    """Return the variance for a decay, and how much of the autocovariances it explains."""
    shape = used * r[..., None] ** k
    product, norm = (shape * gamma).sum(-1), (shape**2).sum(-1)
    sigma2 = np.maximum(product, 0.0) / norm
    return sigma2, sigma2**2 * norm


_ROUNDING = 1e-13
_GRID = 65
_REFINEMENTS = 6

_VARIANCES: Mapping[str, Callable[[Floats, npt.NDArray[Any], npt.NDArray[Any]], Floats]] = {
    "harvey": _truncated,
    "hering": _exponential,
}
