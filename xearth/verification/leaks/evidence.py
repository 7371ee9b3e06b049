r"""Leaks that show in the numbers, whatever the attributes say.

A statistic taken from the judged data leaves a mark: what was subtracted is gone to the last
digit. The mean error over starts is 0 where the bias was removed with the same starts; the mean of
the anomalies of each calendar month is 0 where the climatology is that of the same window; their
regression on time is 0 where the trend is; mean 0 and standard deviation 1 betray a
normalization. Chance does not hit 0 to one part in :math:`10^5`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.discover import find_axes
from ...cf.forecast_coords import valid_time
from ...units import is_difference
from ..align import observations_at
from ..pairs import comparable
from .provenance import Provenance

__all__ = ["aligned", "evidence", "fingerprints"]

Floats = npt.NDArray[np.float64]

# What counts as 0, in standard deviations. A climatology rounded to float32 leaves 1e-5 to 1e-4;
# a mean over 300 independent values is below 1e-4 by chance once in 700, so that much is only
# granted where several means vanish together.
_EXACT, _EXACT_TOGETHER, _TOGETHER = 1e-5, 1e-4, 4
_FEWEST = 5
_CELLS = 256  # a mark is on every cell, so that some of them show it


def evidence(
    forecast: xr.DataArray, truth: xr.DataArray, seen: Provenance | None = None
) -> dict[str, str]:
    """Return leaks found in arrays that are in memory: kind and what shows it.

    Parameters
    ----------
    forecast, truth : DataArray (init, lead, ...)
    seen : Provenance, optional
        What is declared: a bias removed with the verifying time left out leaves the same mark, so
        a declared removal is believed.

    Returns
    -------
    dict of str

    Examples
    --------
    >>> init = xr.date_range("1990-01", periods=24, freq="MS")
    >>> coords = {"init": init, "lead": xr.Variable("lead", [1], {"units": "months"})}
    >>> noise = np.random.default_rng(0).standard_normal((2, 24, 1))
    >>> f, o = (xr.DataArray(x, coords, ("init", "lead")) for x in noise)
    >>> list(evidence(f, o)), list(evidence(f - (f - o).mean("init"), o))
    ([], ['bias_removal'])
    """
    seen = Provenance() if seen is None else seen
    small = aligned(forecast, truth, cells=_CELLS)
    if small is None:
        return {}
    forecast, truth, _ = small
    axes = find_axes(forecast, require=("init", "lead"))
    init, member = str(axes.init), axes.member
    center = forecast.mean(member) if member in forecast.dims else forecast
    found: dict[str, str] = {}
    if seen.bias_removal_period is None and init in truth.dims:
        error = center.astype(np.float64) - truth.astype(np.float64)
        if _vanishes(_columns(error, [init])):
            found["bias_removal"] = (
                "the mean error over the judged starts is 0 to the last digit at every lead, so "
                "it was removed with these starts, or the forecast was fitted to them (if each was "
                "left out in turn, declare it)"
            )
    series, time = _series(forecast, truth, init)
    if series is None:
        return found
    if is_difference(truth.attrs) or "base_period" in truth.attrs:
        months = time.dt.month.values
        groups = [series[months == month] for month in np.unique(months)]
        groups = [group for group in groups if len(group) >= _FEWEST]
        if groups and all(_vanishes(group, len(groups)) for group in groups):
            found["climatology"] = (
                "the anomalies of every calendar month average to 0 to the last digit over the "
                "judged window, so their climatology was taken from it"
            )
        if _vanishes(series) and _vanishes(series * _centered(time)[:, None]):
            found["detrending"] = (
                "the judged truth has neither mean nor trend to the last digit, so both were "
                "fitted to the judged window"
            )
    deviation = series[np.isfinite(series)].std()
    if "detrending" not in found and _vanishes(series.reshape(-1, 1)) and _is_one(deviation):
        found["normalization"] = (
            "the judged truth has mean 0 and standard deviation 1 to the last digit, so it was "
            "normalized with its own statistics"
        )
    return found


def aligned(
    forecast: xr.DataArray, truth: xr.DataArray, *, cells: int
) -> tuple[xr.DataArray, xr.DataArray, int] | None:
    """Return forecast and truth of each start and lead, on every k-th row and column, and k.

    Parameters
    ----------
    forecast, truth : DataArray
        In memory; the truth (time, ...) or (init, lead, ...).
    cells : int
        At most so many are kept: a large field is not copied.

    Returns
    -------
    tuple or None
        In double precision and the units of the forecast; None if the truth has dimensions that
        the forecast lacks.

    Examples
    --------
    >>> init = xr.Variable("init", xr.date_range("2000-01", periods=3, freq="MS"))
    >>> coords = {"init": init, "lead": xr.Variable("lead", [1], {"units": "months"})}
    >>> f = xr.DataArray(np.zeros((3, 1, 40, 80)), coords, ("init", "lead", "lat", "lon"))
    >>> aligned(f, f, cells=200)[0].sizes["lon"]
    20
    """
    axes = find_axes(forecast, require=("init", "lead"))
    own = (axes.init, axes.lead, axes.member)
    space = [dim for dim in forecast.dims if dim not in own and dim in truth.dims]
    size, k = int(np.prod([forecast.sizes[dim] for dim in space], dtype=np.int64)), 1
    while space and size > cells:
        k += 1
        size = int(np.prod([-(-forecast.sizes[dim] // k) for dim in space], dtype=np.int64))
    every = {dim: slice(None, None, k) for dim in space}
    forecast, truth = forecast.isel(every), truth.isel(every)
    if axes.init not in truth.dims:
        truth = observations_at(forecast, truth)
    if set(truth.dims) - set(forecast.dims):
        return None
    f, o = comparable(forecast, truth)
    return f.astype(np.float64), o.astype(np.float64), k


def fingerprints(events: xr.DataArray, dim: str) -> tuple[str, ...]:
    """Return a short name made of the content of each event, the same for the same numbers.

    Two events of equal content have equal fingerprints whatever they are called:
    ``Provenance(events=fingerprints(train, "event"))`` lets the guard find them among the judged.

    Parameters
    ----------
    events : DataArray (event, ...)
        In memory, or computed here one event at a time.
    dim : str

    Returns
    -------
    tuple of str
        16 hexadecimal digits each.

    Examples
    --------
    >>> rain = xr.DataArray(np.array([[0.0, 1.0], [2.0, 3.0], [0.0, 1.0]]), dims=("event", "x"))
    >>> first, second, third = fingerprints(rain, "event")
    >>> first == third, first == second
    (True, False)
    """
    rest = sorted(map(str, set(events.dims) - {dim}))
    names = []
    for i in range(events.sizes[dim]):
        field = np.asarray(events.isel({dim: i}).transpose(*rest).values, dtype=np.float64)
        field = np.where(np.isnan(field), np.nan, field) + 0.0  # one kind of NaN, no -0
        names.append(hashlib.blake2b(field.tobytes(), digest_size=8).hexdigest())
    return tuple(names)


def _series(forecast: xr.DataArray, truth: xr.DataArray, init: str) -> tuple[Any, xr.DataArray]:
    """Return the truth at each judged valid time once, (T, cells), and these times."""
    valid = valid_time(forecast)
    dims = [dim for dim in valid.dims if dim in truth.dims]
    if init not in dims or set(dims) != set(valid.dims):
        return None, valid
    flat = truth.astype(np.float64).transpose(*dims, ...).values
    flat = flat.reshape(valid.size, -1)
    times = valid.transpose(*dims).values.ravel()
    _, first = np.unique(times, return_index=True)
    time = xr.DataArray(times[first], dims="time")
    known = np.isfinite(flat[first]).any(1)
    if known.sum() < _FEWEST:
        return None, valid
    return flat[first][known], time[known]


def _columns(array: xr.DataArray, dims: list[str]) -> Floats:
    """Return an array as (what is averaged over, everything else)."""
    size = int(np.prod([array.sizes[dim] for dim in dims]))
    values: Floats = array.transpose(*dims, ...).values.reshape(size, -1)
    return values


def _vanishes(values: Floats, groups: int = 1) -> bool:
    """Tell whether the mean of every column is 0 compared with its standard deviation.

    ``groups`` is how many such arrays must vanish together.
    """
    known = np.isfinite(values)
    count = known.sum(0)
    use = count >= _FEWEST
    if not use.any():
        return False
    values, known, count = values[:, use], known[:, use], count[use]
    filled = np.where(known, values, 0.0)
    mean = filled.sum(0) / count
    size = np.sqrt((filled**2).sum(0) / count)
    varies = np.where(known, np.abs(values - mean), 0.0).max(0) > 1e-12 * np.maximum(size, 1e-300)
    exact = _EXACT_TOGETHER if groups * varies.sum() >= _TOGETHER else _EXACT
    return bool(varies.any() and (np.abs(mean) <= exact * size)[varies].all())


def _centered(time: xr.DataArray) -> Floats:
    """Return times as plain numbers with mean 0."""
    values = time.values
    days = (values - values[0]) / (
        np.timedelta64(1, "D") if values.dtype.kind == "M" else _one_day()
    )
    days = days.astype(np.float64)
    return np.asarray(days - days.mean())


def _one_day() -> Any:
    from datetime import timedelta

    return timedelta(days=1)


def _is_one(deviation: float) -> bool:
    return bool(abs(deviation - 1) <= _EXACT)
