r"""Climatologies and anomalies whose metadata name the base period.

Let :math:`g(t)` be the calendar month (or day of the year) of the stamp :math:`t` and
:math:`B` the base period. The climatology and the anomaly are

.. math:: c_k = \operatorname{mean}\{x_t : t \in B,\ g(t) = k\}, \qquad x'_t = x_t - c_{g(t)} .

Missing values are left out of the mean. An anomaly of a temperature is a difference
(``units_metadata = "temperature: difference"``), which converts between scales without the
offset.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from ..cf.attrs import anomaly_attrs, temperature_metadata
from ..cf.discover import discover
from ..cf.forecast_coords import valid_time
from ..cf.packing import decoded
from ..cf.timeaxis import TimeAxis
from ..errors import (
    ConfigError,
    GridMismatchError,
    MissingDataError,
    TimeAxisError,
    TimeAxisWarning,
    UnitsError,
    warn,
)
from ..units import convert_array, is_difference

__all__ = ["anomaly", "climatology", "from_anomaly"]

Frequency = Literal["month", "dayofyear"]
Base = tuple[str, str] | slice

_NAMES = {"month": "monthly", "dayofyear": "day-of-year"}


def climatology(
    da: xr.DataArray, *, base: Base | None = None, frequency: Frequency = "month"
) -> xr.DataArray:
    """Return the mean of each calendar month (or day of the year) over a base period.

    Parameters
    ----------
    da : DataArray
        With a time axis of any calendar. Dask arrays stay lazy.
    base : (str, str) or slice, optional
        First and last time of the base period, both included, such as ``("1951", "1980")``.
        By default the whole record, which the result then names.
    frequency : {"month", "dayofyear"}
        Day 60 of the year is 29 February or 1 March: on a calendar with leap years the days
        after it mix two dates.

    Returns
    -------
    DataArray
        ``month`` (1..12) or ``dayofyear`` in the place of the time dimension, units of the
        input, ``attrs["base_period"]`` = "first/last".

    Raises
    ------
    TimeAxisError
        The base period reaches beyond the record.
    MissingDataError
        A calendar month (day) of the record never occurs in the base period.

    Warns
    -----
    TimeAxisWarning
        Calendar months (days) occur unequally often in the named base period, as when
        months are missing in it.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> sst = samples.open("oisst").sel(lat=0.5, lon=200.5)
    >>> clim = climatology(sst, base=("1982", "1996"))
    >>> clim.sizes["month"], clim.attrs["base_period"]
    (12, '1982-01/1996-12')
    """
    if frequency not in _NAMES:
        raise ConfigError(
            f"frequency must be one of {', '.join(map(repr, _NAMES))}; found {frequency!r}."
        )
    da = decoded(da)
    time = str(discover(da, require=("time",)).time)
    axis = TimeAxis.from_array(da[time])
    positions, period = _base_positions(axis, base)
    part = da.isel({time: positions})
    _check_groups(da, part, time, frequency, named=base is not None)
    clim = part.groupby(f"{time}.{frequency}").mean(time, dtype=np.float64)
    if da.chunks is not None:
        clim = clim.chunk({frequency: -1})
    clim = clim.astype(np.result_type(da.dtype, np.float32)).rename(da.name)
    clim.attrs = {
        key: da.attrs[key]
        for key in ("standard_name", "units", "units_metadata")
        if key in da.attrs
    }
    name = da.attrs.get("long_name", da.name or "value")
    clim.attrs["long_name"] = f"{name}, {_NAMES[frequency]} mean over {period}"
    clim.attrs["base_period"] = period
    return clim.transpose(*(frequency if dim == time else dim for dim in da.dims))


def anomaly(
    da: xr.DataArray,
    clim: xr.DataArray | None = None,
    *,
    base: Base | None = None,
    frequency: Frequency = "month",
) -> xr.DataArray:
    """Return the departure from a climatology; the metadata name its base period.

    Parameters
    ----------
    da : DataArray
        With a time axis, or forecasts (init, lead, ...), for which ``clim`` must be given.
        Dask arrays stay lazy.
    clim : DataArray, optional
        A result of :func:`climatology`; converted to the units of ``da``. By default it is
        made from ``da`` itself.
    base, frequency
        Of the climatology made from ``da``; not allowed beside ``clim``.

    Returns
    -------
    DataArray
        Dimensions and coordinates of ``da``, ``attrs["base_period"]``, and
        ``units_metadata = "temperature: difference"`` for a temperature.

    Raises
    ------
    ConfigError
        Both ``clim`` and ``base`` were given, or ``clim`` has no month or dayofyear.
    GridMismatchError
        ``clim`` is on another grid.
    MissingDataError
        ``clim`` lacks a month (day) of ``da``.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> nino34 = anomaly(samples.open("oisst_nino34"), base=("1991", "2020"))
    >>> round(float(nino34.sel(time=slice("1997-12", "1998-02")).mean()), 2)
    2.43
    >>> nino34.attrs["units_metadata"], nino34.attrs["base_period"]
    ('temperature: difference', '1991-01/2020-12')
    """
    da = decoded(da)
    if clim is None:
        clim = climatology(da, base=base, frequency=frequency)
    elif base is not None:
        raise ConfigError(
            f"anomaly takes a climatology or a base period; found both (base = {base!r}). The "
            f"climatology given names its own base: {clim.attrs.get('base_period')!r}."
        )
    kinds = [name for name in _NAMES if name in decoded(clim).dims]
    if len(kinds) != 1:
        raise ConfigError(
            f"a climatology has the dim 'month' or 'dayofyear'; found {clim.dims}. Make it with "
            "xearth.climatology."
        )
    kind = kinds[0]
    keys = getattr(_times(da).dt, kind)
    if "units" in da.attrs and "units" in clim.attrs:
        clim = convert_array(clim, da.attrs["units"])
    absent = np.setdiff1d(keys.values, clim[kind].values)
    if absent.size:
        raise MissingDataError(
            f"the climatology of {da.name!r} lacks {kind} {absent.tolist()}, which the data "
            "have. Use a base period with all of them."
        )
    clim = _on_labels_of(da, clim, kind)
    own = clim.sel({kind: keys.reset_coords(drop=True)}).drop_vars(kind)
    if da.chunks is not None:
        own = own.chunk(da.chunksizes)
    departure = (da - own).transpose(*da.dims)
    period = str(clim.attrs.get("base_period", "an unnamed base"))
    departure.attrs = anomaly_attrs(da.attrs, f"{_NAMES[kind]} means of {period}")
    departure.attrs["base_period"] = period
    return departure.rename(da.name)


def from_anomaly(da: xr.DataArray, clim: xr.DataArray) -> xr.DataArray:
    """Return anomalies as values: the climatology added, the inverse of :func:`anomaly`.

    Parameters
    ----------
    da : DataArray
        Anomalies with a time axis, or forecasts of anomalies (init, lead, ...). Dask arrays stay
        lazy.
    clim : DataArray
        A result of :func:`climatology`, from the base period that the anomalies depart from.

    Returns
    -------
    DataArray
        In the units of ``clim``, ``units_metadata = "temperature: on_scale"`` for a temperature.

    Raises
    ------
    ConfigError
        ``clim`` has no month or dayofyear, or is of another base period than ``da`` says.
    UnitsError
        ``da`` is no anomaly.
    GridMismatchError
        ``clim`` is on another grid; bring ``da`` there with :func:`xearth.regrid`.
    MissingDataError
        ``clim`` lacks a month (day) of ``da``.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> nino34 = samples.open("oisst_nino34")
    >>> clim = climatology(nino34, base=("1991", "2020"))
    >>> back = from_anomaly(anomaly(nino34, clim), clim)
    >>> bool(abs(back - nino34).max() < 1e-5), back.attrs["units_metadata"]
    (True, 'temperature: on_scale')
    """
    if not is_difference(da.attrs):
        raise UnitsError(
            f"{da.name!r}: expected anomalies, found no sign of them in the attributes. Set "
            "attrs['units_metadata'] = 'temperature: difference' if they are."
        )
    own, base = da.attrs.get("base_period"), clim.attrs.get("base_period")
    if own is not None and base is not None and own != base:
        raise ConfigError(
            f"the anomalies {da.name!r} depart from the base {own!r}, the climatology is of "
            f"{base!r}. Make one with climatology(..., base={tuple(str(own).split('/'))})."
        )
    # a difference in the units of the climatology, from which that of zero is taken away
    units = clim.attrs.get("units")
    if units is not None and "units" in da.attrs:
        da = convert_array(da, units)
    zero = xr.zeros_like(da)
    zero.attrs = {**da.attrs, "units_metadata": "temperature: on_scale"}
    made = (da - anomaly(zero, clim)).transpose(*da.dims)
    name = str(da.attrs.get("long_name", da.name or "value")).replace(" anomaly", "")
    kept = {k: v for k, v in da.attrs.items() if k not in ("comment", "base_period")}
    made.attrs = kept | {"long_name": name, "comment": f"Climatology of {base} added."}
    made.attrs |= temperature_metadata(units, "on_scale")
    if base is not None:  # in a form that the leak guard reads
        made.attrs["xearth_climatology_base"] = base
    return made.rename(da.name)


def _on_labels_of(da: xr.DataArray, clim: xr.DataArray, kind: str) -> xr.DataArray:
    """Return the climatology in the order of the labels of ``da``, which must be its own."""
    for dim in clim.dims:
        if dim == kind:
            continue
        if dim not in da.dims:
            raise GridMismatchError(
                f"the climatology has the dim {dim!r}, which the data with dims {da.dims} "
                f"have not. Select or average over it: clim.isel({dim}=0)."
            )
        if dim not in da.indexes or dim not in clim.indexes:
            continue
        mine, its = da.indexes[dim], clim.indexes[dim]
        if not mine.equals(its):
            if mine.size != its.size or not mine.isin(its).all():
                apart = [str(v) for v in mine.symmetric_difference(its)[:4]]
                raise GridMismatchError(
                    f"the climatology and {da.name!r} differ along {dim!r}: {its.size} against "
                    f"{mine.size} labels, for example {apart}. Make the climatology from data on "
                    "the same grid, or select the common part of both."
                )
            clim = clim.sel({dim: mine})
    return clim


def _times(da: xr.DataArray) -> xr.DataArray:
    """Return the times of a record, or the valid times of a set of forecasts."""
    axes = discover(da, require=())
    if axes.time is None and axes.init is not None and axes.lead is not None:
        return valid_time(da)
    return da[str(discover(da, require=("time",)).time)]


def _base_positions(axis: TimeAxis, base: Base | None) -> tuple[np.ndarray, str]:
    """Return the positions inside the base period and its name, "first/last"."""
    if base is None:
        positions = axis.order
    else:
        if not isinstance(base, slice) and (isinstance(base, str) or len(base) != 2):
            raise ConfigError(
                f"a base period is its first and last time, such as ('1991', '2020'); found "
                f"{base!r}. Give both."
            )
        span = base if isinstance(base, slice) else slice(*base)
        positions = axis.select(span)
        _refuse_beyond(axis, span)
    stamps = axis.values[positions]
    length = 7 if axis.step is None or axis.step.months else 10
    return positions, f"{str(stamps.min())[:length]}/{str(stamps.max())[:length]}"


def _refuse_beyond(axis: TimeAxis, span: slice) -> None:
    """Raise when a stamp that would precede or follow the record lies in the base period."""
    if axis.step is None:
        return
    ordered = axis.values[axis.order]
    before, after = axis.offset(ordered[0], -1), axis.offset(ordered[-1], 1)
    longer = np.concatenate([[before], ordered, [after]])
    wide = TimeAxis.from_array(xr.DataArray(longer, dims=axis.name, name=axis.name))
    chosen = wide.select(span)
    if chosen.min() == 0 or chosen.max() == longer.size - 1:
        raise TimeAxisError(
            f"the base period {span.start} to {span.stop} reaches beyond the record of "
            f"{axis.name!r}, {str(ordered[0])[:10]} to {str(ordered[-1])[:10]}. Name a period "
            "inside it."
        )


def _check_groups(
    da: xr.DataArray, part: xr.DataArray, time: str, frequency: str, *, named: bool
) -> None:
    known, counts = np.unique(getattr(part[time].dt, frequency).values, return_counts=True)
    absent = np.setdiff1d(getattr(da[time].dt, frequency).values, known)
    if frequency == "month" and absent.size:
        raise MissingDataError(
            f"the base period of {da.name!r} has no {frequency} {absent.tolist()}, which the "
            "record has. Choose a longer base period."
        )
    if named and frequency == "month" and counts.min() != counts.max():
        warn(
            f"the base period of {da.name!r} holds {counts.min()} to {counts.max()} of each "
            f"calendar month (fewest: {known[counts == counts.min()].tolist()}): its means weigh "
            "years unequally. Choose whole years without missing months.",
            TimeAxisWarning,
        )
