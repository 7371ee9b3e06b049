r"""What a leak is worth: the same forecasts scored again without it.

Let :math:`f` and :math:`a` be forecast and truth as judged. Some leaks can be undone with the
numbers at hand:

bias removal
    The error removed is that of all judged starts: :math:`f'_i = f_i - \langle f_j - a_j \rangle`
    over the starts :math:`j` of other years.
climatology
    The normal of the judged window differs from that of all other years of the record by
    :math:`\delta(m) = \langle a_t \rangle_{t \notin J}` in calendar month :math:`m`. A forecaster
    that departs from the normal it can know says :math:`f' = f + \delta`.
detrending
    A line through the record up to the first start, carried on: :math:`f' = f + \alpha + \beta t`.
    What is left of the trend that was fitted with the future.
all others but smoothing and duplicates
    Only the starts that no such leak concerns are scored.

For the rest, and where the default is not what was done, a function that makes forecast and truth
again (``honest=`` of :func:`~xearth.verification.find_leaks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.discover import find_axes, find_time
from ...cf.forecast_coords import valid_time
from .evidence import aligned

__all__ = ["BY_STARTS", "Price", "Redo", "prices"]

Pair = tuple[xr.DataArray, xr.DataArray]
Redo = Callable[[], Pair]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_FEWEST = 5
_POINTS = 4_000_000  # of a forecast that prices are computed from


@dataclass(frozen=True)
class Price:
    """A score as reported and without the leak.

    Examples
    --------
    >>> price = Price("rmse", 0.5, 0.6, "verifying year left out")
    >>> round(price.gain, 3), str(price)
    (0.1, 'rmse 0.5 as judged, 0.6 honestly (verifying year left out)')
    """

    score: str
    judged: float
    honest: float
    how: str

    @property
    def gain(self) -> float:
        """By how much the leak makes the score look better; negative if it does not."""
        gain = self.judged - self.honest
        return gain if self.score == "correlation" else -gain

    def __str__(self) -> str:
        return f"{self.score} {self.judged:.3g} as judged, {self.honest:.3g} honestly ({self.how})"


def prices(
    kind: str,
    forecast: xr.DataArray,
    truth: xr.DataArray,
    *,
    starts: Mask,
    record: xr.DataArray | None = None,
    redo: Redo | None = None,
) -> tuple[Price, ...]:
    """Return correlation and RMSE, mean over leads, with and without a leak.

    Parameters
    ----------
    kind : str
        Of the leak.
    forecast, truth : DataArray (init, lead, ...)
        In memory.
    starts : ndarray of bool (I,)
        Starts that this leak or another of :data:`BY_STARTS` concerns.
    record : DataArray (time, ...), optional
        Truth beyond the judged window.
    redo : callable, optional
        Makes forecast and truth again without the leak.

    Returns
    -------
    tuple of Price
        Empty where the leak cannot be undone.

    Examples
    --------
    >>> init = xr.date_range("1990-01", periods=60, freq="MS")
    >>> coords = {"init": init, "lead": xr.Variable("lead", [1], {"units": "months"})}
    >>> noise = np.random.default_rng(0).standard_normal((2, 60, 1))
    >>> f, o = (xr.DataArray(x, coords, ("init", "lead")) for x in noise)
    >>> removed = f - (f - o).mean("init")
    >>> correlation, rmse = prices("bias_removal", removed, o, starts=np.ones(60, bool))
    >>> rmse.gain > 0
    True
    """
    small = _small(forecast, truth)
    if small is None:
        return ()
    f, o, k = small
    if record is None and find_time(truth) in truth.dims:
        record = truth
    undone: tuple[Pair, str] | None = None
    if redo is not None:
        again = _small(*redo())
        undone = None if again is None else (again[:2], "made again without it")
    elif kind in _UNDO:
        undone = _UNDO[kind](f, o, _on_cells_of(record, f))
    elif kind in BY_STARTS:
        undone = _elsewhere(f, o, starts)
    if undone is None:
        return ()
    (f2, o2), how = undone
    how = how if k == 1 else f"{how}; rows and columns in steps of {k}"
    before, after = _scores(f, o), _scores(f2, o2)
    return tuple(Price(name, before[name], after[name], how) for name in before)


def _small(
    forecast: xr.DataArray, truth: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray, int] | None:
    """Return the mean of the members and the truth, thinned out until they cost little memory."""
    axes = find_axes(forecast, require=("init", "lead"))
    each = [forecast.sizes[d] for d in (axes.init, axes.lead, axes.member) if d in forecast.dims]
    cells = max(1, _POINTS // int(np.prod(each, dtype=np.int64)))
    small = aligned(forecast, truth, cells=cells)
    if small is None:
        return None
    f, o, k = small
    return (f.mean(axes.member) if axes.member in f.dims else f), o, k


def _on_cells_of(record: xr.DataArray | None, f: xr.DataArray) -> xr.DataArray | None:
    """Return the record on the cells of thinned forecasts."""
    if record is None:
        return None
    shared = {d: f[d].values for d in f.dims if d in record.dims and d in record.coords}
    return record.sel(shared).astype(np.float64)


def _scores(f: xr.DataArray, o: xr.DataArray) -> dict[str, float]:
    """Return correlation and RMSE over all but the leads, averaged over these."""
    lead = find_axes(f, require=("init", "lead")).lead
    f, o = xr.broadcast(f, o)
    known = f.notnull() & o.notnull()
    f, o = f.where(known), o.where(known)
    dims = [dim for dim in f.dims if dim != lead]
    fa, oa = f - f.mean(dims), o - o.mean(dims)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (fa * oa).mean(dims) / np.sqrt((fa**2).mean(dims) * (oa**2).mean(dims))
    rmse = np.sqrt(((f - o) ** 2).mean(dims))
    return {"correlation": float(correlation.mean()), "rmse": float(rmse.mean())}


def _without_own_year(
    f: xr.DataArray, o: xr.DataArray, record: xr.DataArray | None
) -> tuple[Pair, str] | None:
    """Remove the mean error of the starts of other years."""
    init = str(find_axes(f, require=("init", "lead")).init)
    error = f - o
    month = f[init].dt.month
    by_month = error.groupby(month).mean(init)
    small = 1e-5 * float(error.std())
    kind = month if bool((abs(by_month) <= small).all()) else xr.zeros_like(month)
    error = error.transpose(init, ...)
    removed = _mean_of_other_years(error.values, f[init].dt.year.values, kind.values)
    if removed is None:
        return None
    return (f - error.copy(data=removed), o), "verifying year left out of the mean error"


def _mean_of_other_years(error: Floats, years: Floats, kinds: Floats) -> Floats | None:
    """Return for each start the mean error (I, ...) of the starts of its kind in other years."""
    known = np.isfinite(error)
    filled = np.where(known, error, 0.0)
    mean = np.empty_like(filled)
    for kind in np.unique(kinds):
        same = kinds == kind
        total, count = filled[same].sum(0), known[same].sum(0)
        for year in np.unique(years[same]):
            own = same & (years == year)
            others = count - known[own].sum(0)
            if not others.any():
                return None
            with np.errstate(invalid="ignore", divide="ignore"):
                mean[own] = (total - filled[own].sum(0)) / others
    return mean


def _rebased(
    f: xr.DataArray, o: xr.DataArray, record: xr.DataArray | None
) -> tuple[Pair, str] | None:
    """Depart from the normal of the years that are not judged."""
    if record is None:
        return None
    time = str(find_time(record))
    valid = valid_time(f)
    first, last = valid.values.min(), valid.values.max()
    stamps = record[time].values
    rest = record.isel({time: np.flatnonzero((stamps < first) | (stamps > last))})
    if rest.sizes[time] < _FEWEST:
        return None
    shift = rest.astype(np.float64).groupby(rest[time].dt.month).mean(time)
    months = valid.dt.month
    if not np.isin(np.unique(months.values), shift.month.values).all():
        return None
    moved = f + shift.sel(month=months).drop_vars("month")
    return (moved.transpose(*f.dims), o), "climatology of the years not judged"


def _retrended(
    f: xr.DataArray, o: xr.DataArray, record: xr.DataArray | None
) -> tuple[Pair, str] | None:
    """Carry on the line through the record up to the first start."""
    if record is None:
        return None
    axes = find_axes(f, require=("init", "lead"))
    time = str(find_time(record))
    first = f[str(axes.init)].values.min()
    past = record.isel({time: np.flatnonzero(record[time].values <= first)}).astype(np.float64)
    if past.sizes[time] < _FEWEST:
        return None
    valid = valid_time(f)
    age, ahead = _days(past[time], first), _days(valid, first)
    age = age.where(past.notnull())
    spread = age - age.mean(time)
    slope = (spread * past).sum(time) / (spread**2).sum(time)
    line = past.mean(time) + slope * (ahead - age.mean(time))
    return ((f + line).transpose(*f.dims), o), "trend of the years up to the first start"


def _days(stamps: xr.DataArray, origin: object) -> xr.DataArray:
    """Return days since a stamp, of any calendar."""
    from datetime import timedelta

    one = np.timedelta64(1, "D") if stamps.dtype.kind == "M" else timedelta(days=1)
    days = (stamps.values - origin) / one
    return xr.DataArray(days.astype(np.float64), stamps.coords, stamps.dims)


def _elsewhere(f: xr.DataArray, o: xr.DataArray, starts: Mask) -> tuple[Pair, str] | None:
    """Score the starts that no leak concerns."""
    init = str(find_axes(f, require=("init", "lead")).init)
    clean = np.flatnonzero(~starts)
    if init not in f.dims or starts.size != f.sizes[init] or clean.size < _FEWEST:
        return None
    pair = (f.isel({init: clean}), o.isel({init: clean}))
    return pair, f"the {clean.size} starts that no leak concerns"


_UNDO: Mapping[
    str,
    Callable[[xr.DataArray, xr.DataArray, xr.DataArray | None], tuple[Pair, str] | None],
] = {
    "bias_removal": _without_own_year,
    "climatology": _rebased,
    "detrending": _retrended,
}
#: Leaks that concern some starts and not others.
BY_STARTS = (
    "overlap",
    "shared_months",
    "threshold",
    "calibration",
    "members",
    "validation",
    "normalization",
)
