r"""ENSO indices of labeled fields, observed or forecast.

The Nino index of a box is the area mean over it (:func:`xearth.fields.regions.box_mean`). The
*relative* Nino3.4 index (van Oldenborgh et al. 2021, Environ. Res. Lett. 16, 044003; L'Heureux
et al. 2024, J. Climate 37, 1113-1129) takes out the warming of all the tropics:

.. math:: R_t = \frac{\sigma(N)}{\sigma(N - T)} \, (N_t - T_t),

with :math:`N` the Nino3.4 anomaly, :math:`T` the anomaly of the mean over 20S-20N, and
:math:`\sigma` the standard deviation over the record, so that :math:`R` has the variance of
:math:`N`. Its centered 3-month mean is NOAA's RONI.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from ...cf.discover import discover
from ...cf.forecast_coords import lead_steps
from ...cf.packing import decoded
from ...cf.timeaxis import Step, TimeAxis
from ...errors import ConfigError, RegionError, TimeAxisError
from ...fields.climatology import anomaly
from ...fields.regions import NINO3, NINO4, NINO12, NINO34, TROPICS, Box, box_mean
from ...units import is_difference
from ..align import observations_at
from ..pairs import pair

__all__ = [
    "REGIONS",
    "nino3",
    "nino4",
    "nino12",
    "nino34",
    "nino_index",
    "relative_nino34",
    "running_mean",
]

#: The boxes that :func:`nino_index` knows by name.
REGIONS = {box.name: box for box in (NINO12, NINO3, NINO34, NINO4)}


def nino_index(da: xr.DataArray, region: str | Box = "nino34") -> xr.DataArray:
    """Return the area mean over a Nino box.

    Parameters
    ----------
    da : DataArray
        Sea surface temperature or its anomaly, with latitude and longitude and any other
        dimensions. Dask arrays stay lazy.
    region : {"nino12", "nino3", "nino34", "nino4"} or Box

    Returns
    -------
    DataArray
        Without the horizontal dimensions, named after the region, units of the input.

    Raises
    ------
    RegionError
        An unknown name, or a box that the grid does not cover.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> index = nino_index(samples.open("kaplan_sst"))
    >>> index.name, index.dims, round(float(index.sel(time="1997-12").item()), 2)
    ('nino34', ('time',), 2.6)
    """
    box = region if isinstance(region, Box) else REGIONS.get(str(region))
    if box is None:
        raise RegionError(
            f"unknown region {region!r}: expected one of {', '.join(REGIONS)}, or a Box."
        )
    return box_mean(decoded(da), box).rename(box.name)


def nino12(da: xr.DataArray) -> xr.DataArray:
    """Return the Nino1+2 index (10S-0, 90W-80W); see :func:`nino_index`."""
    return nino_index(da, NINO12)


def nino3(da: xr.DataArray) -> xr.DataArray:
    """Return the Nino3 index (5S-5N, 150W-90W); see :func:`nino_index`."""
    return nino_index(da, NINO3)


def nino34(da: xr.DataArray) -> xr.DataArray:
    """Return the Nino3.4 index (5S-5N, 170W-120W); see :func:`nino_index`."""
    return nino_index(da, NINO34)


def nino4(da: xr.DataArray) -> xr.DataArray:
    """Return the Nino4 index (5S-5N, 160E-150W); see :func:`nino_index`."""
    return nino_index(da, NINO4)


def relative_nino34(
    da: xr.DataArray,
    *,
    base: tuple[str, str] | slice | None = None,
    tropics: Box = TROPICS,
    scale: float | None = None,
) -> xr.DataArray:
    """Return the relative Nino3.4 index: Nino3.4 minus the tropics, rescaled.

    Parameters
    ----------
    da : DataArray
        Sea surface temperature (time, lat, lon) over all the tropics, or its anomaly; with an
        anomaly also forecasts (init, lead, ...).
    base : (str, str) or slice, optional
        Base period of the anomalies of an absolute field, by default the whole record.
    tropics : Box
        What is subtracted, by default 20S-20N at all longitudes.
    scale : float, optional
        The factor on the difference; by default the ratio of the standard deviations in
        ``da``, which is computed at once, Dask or not. Give the observed one
        (``attrs["scale"]``) for forecasts; then all stays lazy.

    Returns
    -------
    DataArray
        Units of the input, marked as a difference; ``attrs["scale"]`` is the factor.

    Raises
    ------
    RegionError
        The grid does not cover the tropics or the Nino3.4 box.
    ConfigError
        A base period was given for a field of anomalies.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> belt = Box(-15, 15, 150, 290, "Pacific belt")
    >>> index = relative_nino34(samples.open("oisst"), tropics=belt)
    >>> index.name, round(float(index.attrs["scale"]), 2)
    ('relative_nino34', 1.55)
    """
    da = decoded(da)
    inner, outer = box_mean(da, NINO34), box_mean(da, tropics)
    if is_difference(da.attrs):
        if base is not None:
            raise ConfigError(
                f"{da.name!r} already is an anomaly; found base = {base!r}. Leave base out, or "
                "give the absolute field."
            )
    else:
        inner, outer = anomaly(inner, base=base), anomaly(outer, base=base)
    difference = inner - outer
    if scale is None:
        scale = float(inner.std() / difference.std())
    index = (difference * scale).rename("relative_nino34")
    index.attrs = {**inner.attrs, "units_metadata": "temperature: difference", "scale": scale}
    index.attrs["long_name"] = (
        f"relative Nino3.4 index: anomaly over {NINO34} minus anomaly over {tropics}, rescaled"
    )
    return index


def running_mean(
    index: xr.DataArray,
    months: int = 3,
    *,
    align: Literal["trailing", "centered"] = "trailing",
    history: xr.DataArray | None = None,
) -> xr.DataArray:
    """Return means over neighboring months; a window with a gap gives NaN.

    Parameters
    ----------
    index : DataArray
        With a time axis of calendar months, or a forecast: then along the lead.
    months : int
        Length of the window. A centered window must be odd.
    align : {"trailing", "centered"}
        Whether a mean is stamped with the last or the middle month of its window.
    history : DataArray, optional
        Observations (time, ...) that fill the windows of the first leads, which reach before
        the forecast. Without it these leads are NaN.

    Returns
    -------
    DataArray
        Same shape and coordinates. NaN where a month of the window is missing.
        ``attrs["target"]`` says that the values are means.

    Raises
    ------
    ConfigError
        A window that is not positive, even and centered, an unknown alignment, or a history
        for something that is no forecast.
    TimeAxisError
        Steps that are not single months, or repeated times.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> nino34 = samples.open("cpc_nino").nino34anom
    >>> djf = running_mean(nino34, align="centered").sel(time="1998-01")
    >>> round(djf.item(), 2)
    2.45
    """
    if months != int(months) or months < 1:
        raise ConfigError(f"months must be a positive whole number; found {months!r}.")
    if align not in ("trailing", "centered") or (align == "centered" and months % 2 == 0):
        raise ConfigError(
            "align must be 'trailing', or 'centered' with an odd number of months; found "
            f"{align!r} with months = {months}."
        )
    index = decoded(index)
    longer = index if history is None else _after(history, index, months - 1)
    dim, ordinals = _monthly_ordinals(longer)
    order = np.argsort(ordinals)
    last = ordinals + (months // 2 if align == "centered" else 0)
    data = longer.variable
    total = xr.zeros_like(data, dtype=np.result_type(data.dtype, np.float32))
    known = np.ones(ordinals.size, dtype=bool)
    for shift in range(months):
        place = np.searchsorted(ordinals, last - shift, sorter=order).clip(max=order.size - 1)
        known &= ordinals[order[place]] == last - shift
        total = total + data.isel({dim: order[place]})
    mean = (total / months).where(xr.Variable(dim, known))
    mean = mean.isel({dim: slice(longer.sizes[dim] - index.sizes[dim], None)})
    out = index.copy(data=mean.transpose(*index.dims).data)
    name = index.attrs.get("long_name", index.name or "value")
    out.attrs = {**index.attrs, "long_name": f"{name}, {align} {months}-month mean"}
    if months > 1:
        out.attrs["target"] = f"{align} mean over {months} steps"
    return out


def _after(history: xr.DataArray, forecast: xr.DataArray, months: int) -> xr.DataArray:
    """Put the observations of the last months up to each start before the leads."""
    axes = discover(forecast, require=())
    if axes.init is None or axes.lead is None:
        raise ConfigError(
            f"history belongs to forecasts (init, lead); {forecast.name!r} has the dims "
            f"{forecast.dims}. Leave history out."
        )
    _, obs = pair(forecast, history)
    lead = forecast[axes.lead]
    before = xr.Variable(axes.lead, np.arange(1 - months, 1), lead.attrs)
    starts = forecast[axes.init].reset_coords(drop=True)
    frame = starts.expand_dims({axes.lead: months}).assign_coords({axes.lead: before})
    past = observations_at(frame, obs).drop_vars("valid_time")
    past = past.broadcast_like(forecast.isel({axes.lead: 0}, drop=True))
    joined = xr.concat(
        [past.astype(forecast.dtype), forecast.drop_vars("valid_time", errors="ignore")],
        axes.lead,
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )
    joined[axes.lead].attrs.update(lead.attrs)
    return joined.transpose(*forecast.dims)


def _monthly_ordinals(index: xr.DataArray) -> tuple[str, np.ndarray]:
    """Return the dimension to average along and the number of the month of each step."""
    axes = discover(index, require=())
    if axes.lead is not None:
        steps = lead_steps(index[axes.lead], Step(1, "months"))
        return axes.lead, steps
    time = str(discover(index, require=("time",)).time)
    axis = TimeAxis.from_array(index[time])
    if axis.step is not None and axis.step.months != 1:
        raise TimeAxisError(
            f"a mean over months needs monthly steps; {time!r} of {index.name!r} has the step "
            f"{axis.step}. Resample it to months."
        )
    if axis.duplicates:
        raise TimeAxisError(
            f"{time!r} of {index.name!r} has repeated times, first {axis.duplicates[0]}; expected "
            f"one value per month. Drop them: obj.drop_duplicates({time!r})."
        )
    return time, axis.ordinals
