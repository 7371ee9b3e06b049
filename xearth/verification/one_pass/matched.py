"""Forecasts and their truth, matched by labels and checked before any value is read."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.discover import Axes, find_axes
from ...cf.forecast_coords import valid_time
from ...cf.packing import decoded
from ...errors import (
    AxisError,
    ConfigError,
    DataTypeError,
    GridMismatchError,
    MissingDataError,
    XearthError,
    XearthWarning,
    warn,
)
from ..align import ONE_LAYOUT, check_counting, match, read_as
from ..labels import check_single
from ..pairs import same_terms

__all__ = ["Matched", "Places", "matched", "named_as", "only_variable", "with_starts"]

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matched:
    """Forecasts of I starts and L leads on Y x X cells, and where their truth stands.

    Parameters
    ----------
    forecast : Variable (init, lead, member, y, x)
        Dimensions that the forecast lacks have the size 1.
    truth : Variable (row, y, x)
        In the units of the forecast; a row is a time, or a pair of start and lead.
    rows : array (I, L)
        The row of the truth of each case, -1 where the record does not hold it.
    climatology : Variable (period, y, x), optional
    periods : array (I, L), optional
        The row of the climatology of each case.
    grid : DataArray (y, x)
        Labels of the cells, no values of interest.
    coords : dict
        ``init``, ``lead`` and, where it is known, ``valid_time``.
    names : tuple of str
        Names of the dimensions init, lead, y and x.
    attrs : dict
        Of the forecast.
    """

    forecast: xr.Variable
    truth: xr.Variable
    rows: Places
    climatology: xr.Variable | None
    periods: Places | None
    grid: xr.DataArray
    coords: dict[str, xr.Variable]
    names: tuple[str, str, str, str]
    attrs: dict[str, Any]
    is_ensemble: bool


def only_variable(obj: xr.DataArray | xr.Dataset, what: str) -> xr.DataArray:
    """Return the field of an object that holds one.

    Raises
    ------
    DataTypeError
        It holds none or several, or is no labeled object.
    """
    if isinstance(obj, xr.DataArray):
        return obj
    names = list(obj.data_vars) if isinstance(obj, xr.Dataset) else None
    if names is None or len(names) != 1:
        found = type(obj).__name__ if names is None else f"a Dataset of {names}"
        raise DataTypeError(
            f"expected the {what} as a DataArray or a Dataset of one variable; found {found}. "
            "Select one: ds[name]."
        )
    return obj[names[0]]


def _warn_of_targets(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    """Say when one side holds means over several steps and the other does not."""
    mine, theirs = (da.attrs.get("target", "value of the step") for da in (forecast, truth))
    if mine != theirs:
        warn(
            f"forecast {forecast.name!r} is of the {mine}, truth {truth.name!r} holds the "
            f"{theirs}: the scores compare different things. Use xearth.running_mean on the other, "
            "or set attrs['target'] if both are the same.",
            XearthWarning,
        )


def matched(
    forecast: xr.DataArray, truth: xr.DataArray, climatology: xr.DataArray | None = None
) -> Matched:
    """Match forecasts with their truth; nothing is computed.

    Raises
    ------
    AxisError
        No start or lead, or dimensions beyond start, lead, member and the two of space that have
        more than one label.
    UnitsError, GridMismatchError, LeadError, TimeAxisError
        As :func:`~xearth.verification.pairs.same_terms` and
        :func:`~xearth.verification.align.match`.
    MissingDataError
        The forecast is empty, the truth holds none of the valid times, or the climatology lacks
        one of their months.
    """
    if 0 in forecast.shape:
        raise MissingDataError(
            f"the forecast {forecast.name!r} is empty: {dict(forecast.sizes)}; expected one "
            "of each at least."
        )
    _warn_of_targets(forecast, truth)
    forecast, axes = with_starts(forecast)
    check_counting(forecast)
    init, lead = str(axes.init), str(axes.lead)
    truth = named_as(axes, truth)
    forecast, truth = _without_single(forecast, axes, truth)
    at_cases = {init, lead} <= set(truth.dims)
    forecast, truth = same_terms(forecast, truth)
    y, x = (axes.y or "y", axes.x or "x")
    order = (init, lead, axes.member or "member", y, x)
    stacked = _ordered(forecast, order)
    if at_cases:
        shape = (forecast.sizes[init], forecast.sizes[lead])
        rows = np.arange(shape[0] * shape[1]).reshape(shape)
        times = _ordered(truth, (init, lead, y, x))
    else:
        rows, time = _rows(forecast, truth, (init, lead))
        times = _ordered(truth, (time, y, x))
    _check_horizontal(stacked, times, forecast, truth)
    base, periods = _climatology(forecast, axes, climatology, order)
    single = forecast.isel({d: 0 for d in order[:3] if d in forecast.dims}, drop=True)
    return Matched(
        forecast=stacked,
        truth=times,
        rows=rows,
        climatology=base,
        periods=periods,
        grid=single.expand_dims([d for d in (y, x) if d not in single.dims]).transpose(y, x),
        coords=_coords(forecast, init, lead),
        names=(init, lead, y, x),
        attrs={**forecast.attrs, "name": forecast.name},
        is_ensemble=axes.member is not None,
    )


def with_starts(forecast: xr.DataArray) -> tuple[xr.DataArray, Axes]:
    """Give a single start or lead its dimension, and find all others.

    Raises
    ------
    AxisError
        No start or no lead.
    """
    axes = find_axes(forecast)
    for kind in ("init", "lead"):
        single = getattr(axes, kind) is None and kind in forecast.coords
        if single and forecast[kind].ndim == 0:
            forecast = forecast.expand_dims(kind)
    return forecast, find_axes(forecast, require=("init", "lead"))


def named_as(axes: Axes, other: xr.DataArray) -> xr.DataArray:
    """Give the dimensions of another field the names that the forecast has."""
    theirs = find_axes(decoded(other))
    names = {
        getattr(theirs, kind): getattr(axes, kind)
        for kind in ("y", "x", "init", "lead")
        if getattr(theirs, kind) and getattr(axes, kind)
    }
    names = {a: b for a, b in names.items() if a != b and b not in other.dims}
    return other.rename(names) if names else other


def _without_single(
    forecast: xr.DataArray, axes: Axes, truth: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray]:
    """Take single levels, heights ... out of the dimensions; where both have one, they are equal.

    Raises
    ------
    GridMismatchError
        They are not.
    """
    own = {axes.init, axes.lead, axes.member, axes.y, axes.x}
    single = [d for d in forecast.dims if forecast.sizes[d] == 1 and d not in own]
    kept = {find_axes(truth).time, *(own - {axes.member})}
    theirs = [d for d in truth.dims if truth.sizes[d] == 1 and d not in kept]
    for dim in set(single) & set(theirs) & set(forecast.coords) & set(truth.coords):
        mine, other = forecast[dim], truth[dim]
        if mine.dtype.kind in "fiu" and other.dtype.kind in "fiu":
            check_single((forecast, truth), mine, other)
        elif mine.values[0] != other.values[0]:
            raise GridMismatchError(
                f"forecast {forecast.name!r} is of {dim!r} = {mine.values[0]!r}, truth "
                f"{truth.name!r} of {other.values[0]!r}; expected the same. Select the same, or "
                f"drop it if the difference is meant: obs.squeeze({str(dim)!r}, drop=True)."
            )
    return forecast.squeeze(single), truth.squeeze(theirs)


def _ordered(array: xr.DataArray, order: tuple[Hashable, ...]) -> xr.Variable:
    """Return the variable with all of these dimensions and no other, in this order."""
    other = [name for name in array.dims if name not in order]
    if other:
        free = "member" in order and "member" not in array.dims
        members = f" If {other[0]!r} counts members: xearth.as_hindcast(da, member={other[0]!r})."
        raise AxisError(
            f"{array.name!r} has the dims {array.dims}; expected no more than {order}. Select "
            f"along {other}: da.isel({other[0]}=0), or verify one after the other."
            f"{members if free else ''}"
        )
    absent = [name for name in order if name not in array.dims]
    bare = array.drop_vars(list(array.coords)).expand_dims(absent)
    return bare.variable.transpose(*order)


def _rows(
    forecast: xr.DataArray, truth: xr.DataArray, cases: tuple[str, str]
) -> tuple[Places, str]:
    """Return the row of the truth of each case, -1 where there is none."""
    time, valid, place, known = match(forecast, truth)
    if not known.any():
        stamps = np.sort(truth[time].values)
        wanted = np.sort(valid.values, axis=None)
        raise MissingDataError(
            f"the truth {truth.name!r} ({stamps[0]} to {stamps[-1]}) holds none of the valid times "
            f"of {forecast.name!r} ({wanted[0]} to {wanted[-1]}){read_as(forecast)}; expected at "
            f"least one. Give observations of the time of the forecasts. {ONE_LAYOUT}"
        )
    rows = xr.DataArray(np.where(known, place, -1), dims=valid.dims)
    rows = rows.expand_dims([name for name in cases if name not in rows.dims])
    return rows.transpose(*cases).values, time


def _check_horizontal(
    forecast: xr.Variable, truth: xr.Variable, f: xr.DataArray, o: xr.DataArray
) -> None:
    mine, theirs = (dict(zip(v.dims[-2:], v.shape[-2:], strict=True)) for v in (forecast, truth))
    if mine != theirs:
        raise GridMismatchError(
            f"forecast {f.name!r} has the cells {mine}, truth {o.name!r} has {theirs}; expected "
            "the same. Regrid one, or take the same mean of both."
        )


def _climatology(
    forecast: xr.DataArray,
    axes: Axes,
    climatology: xr.DataArray | None,
    order: tuple[str, ...],
) -> tuple[xr.Variable | None, Places | None]:
    """Return the climatology (period, y, x) and the period of each case."""
    if climatology is None:
        return None, None
    clim = named_as(axes, decoded(climatology))
    kinds = [name for name in ("month", "dayofyear") if name in clim.dims]
    if len(kinds) != 1:
        raise ConfigError(
            f"a climatology has the dim 'month' or 'dayofyear'; found {clim.dims}. Make it with "
            "xearth.climatology."
        )
    clim = clim.squeeze([d for d in clim.dims if clim.sizes[d] == 1 and d not in (*kinds, *order)])
    _, clim = same_terms(forecast, clim)
    valid = valid_time(forecast)
    keys = getattr(valid.dt, kinds[0])
    keys = keys.expand_dims([d for d in order[:2] if d not in keys.dims]).transpose(*order[:2])
    place = clim[kinds[0]].to_index().get_indexer(keys.values.ravel()).reshape(keys.shape)
    if (place < 0).any():
        raise MissingDataError(
            f"the climatology lacks {kinds[0]} {np.unique(keys.values[place < 0]).tolist()}, which "
            f"valid times of {forecast.name!r} have. Use a base period with all of them."
        )
    variable = _ordered(clim, (kinds[0], *order[3:]))
    _check_horizontal(_ordered(forecast, order), variable, forecast, clim)
    return variable, place.astype(np.int64)


def _coords(forecast: xr.DataArray, init: str, lead: str) -> dict[str, xr.Variable]:
    """Return the labels of the cases."""
    found = {}
    for name in (init, lead):
        size = forecast.sizes[name]
        default = xr.Variable((name,), np.arange(size))
        found[name] = forecast[name].variable if name in forecast.coords else default
    if init in forecast.coords and lead in forecast.coords:
        try:
            valid = valid_time(forecast)
        except XearthError:  # the truth stands at starts and leads that need no times
            return found
        found["valid_time"] = valid.variable.transpose(init, lead)
    return found
