"""Frames to be drawn side by side: forecasts of one start, and what was observed, made equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import Axes, discover
from ..cf.packing import decoded
from ..errors import AxisError, GridMismatchError, LeadError, TimeAxisError, UnitsError
from ..units import convert_array
from ..verification.align import observations_at
from .cells import edges, label_axes
from .scales import Scale, scale_of
from .style import LAND

if TYPE_CHECKING:
    from matplotlib.axes import Axes as MplAxes
    from matplotlib.collections import QuadMesh

__all__ = ["Fields", "Frames", "draw_frame", "read_frames", "ready", "stamp"]

#: One forecast, or several by name.
Fields = xr.DataArray | Mapping[str, xr.DataArray]


@dataclass(frozen=True)
class Frames:
    """Frames in the units of their colors.

    Parameters
    ----------
    forecasts : dict of str to DataArray
        (lead, [member,] y, x) each, on the same leads and cells.
    observed : DataArray, optional
        (lead, y, x), missing where nothing was observed.
    axes : Axes
    scale : Scale
    titles : tuple of str
        One for each lead.
    start : str
        When the forecasts begin; "" where that is not known.
    """

    forecasts: dict[str, xr.DataArray]
    observed: xr.DataArray | None
    axes: Axes
    scale: Scale
    titles: tuple[str, ...]
    start: str

    @property
    def first(self) -> xr.DataArray:
        """The first forecast."""
        return next(iter(self.forecasts.values()))

    def members(self, forecast: xr.DataArray) -> int | None:
        """Return the number of members, None of a single forecast."""
        member = self.axes.member
        return forecast.sizes[member] if member in forecast.dims else None


def read_frames(
    forecast: Fields,
    obs: xr.DataArray | None,
    *,
    init: Any = None,
    leads: Sequence[int] | None = None,
    scale: Scale | None = None,
) -> Frames:
    """Choose one start and the leads, convert to the units of the colors, and compute.

    Parameters
    ----------
    forecast : DataArray or mapping of str to DataArray
        ([init,] lead, [member,] y, x).
    obs : DataArray, optional
        (time, y, x), on the cells of the forecasts.
    init : optional
        Which start.
    leads : sequence of int, optional
        By default all.
    scale : Scale, optional
        By default by the name and units of the first forecast.

    Raises
    ------
    AxisError
        Dimensions are missing or too many, or several starts and none was chosen.
    TimeAxisError
        There is no such start.
    LeadError
        There is no such lead, or forecasts hold different ones.
    GridMismatchError
        Cells differ.
    UnitsError
        Units do not convert to those of the colors.
    """
    named = _named(forecast)
    scale = scale_of(next(iter(named.values())), scale)
    chosen = {name: _one_start(name, one, init) for name, one in named.items()}
    first = next(iter(chosen.values()))
    axes = discover(first, require=("lead", "y", "x"))
    have = first[axes.lead].values
    _same(chosen, axes)
    leads = list(have) if leads is None else list(leads)
    unknown = [lead for lead in leads if lead not in have]
    if unknown or not leads:
        raise LeadError(
            f"{first.name!r} holds the leads {have.tolist()}, not {unknown or 'none'}; choose "
            "among them"
        )
    chosen = {name: one.sel({axes.lead: leads}) for name, one in chosen.items()}
    found = None if obs is None else _observed(chosen, obs, axes, scale)
    first = next(iter(chosen.values()))
    start = stamp(first[axes.init].values, day=True) if axes.init in first.dims else ""
    drawn = {name: ready(one, axes, scale) for name, one in chosen.items()}
    # a start that all frames share is no axis any more
    return Frames(drawn, found, axes, scale, tuple(_titles(first, str(axes.lead))), start)


def draw_frame(
    ax: MplAxes, frame: xr.DataArray, axes: Axes, scale: Scale, *, ticks: int = 2
) -> QuadMesh:
    """Draw one frame (y, x): gray where missing, white below the first boundary."""
    values = np.ma.masked_invalid(frame.transpose(axes.y, axes.x).values)
    mesh = ax.pcolormesh(
        edges(frame[axes.x]),
        edges(frame[axes.y]),
        values,
        cmap=scale.colormap(),
        norm=scale.norm(),
        rasterized=True,
    )
    ax.set_facecolor(LAND)
    label_axes(ax, frame, axes, ticks=ticks)
    ax.tick_params(labelsize=6.5, length=2)
    return mesh


def stamp(value: Any, *, day: bool = False) -> str:
    """Return a time to the minute, "04:35", or with its day, "2010-08-26 04:35".

    Examples
    --------
    >>> import numpy as np
    >>> stamp(np.datetime64("2010-08-26T04:35")), stamp(np.datetime64("2010-08-26"), day=True)
    ('04:35', '2010-08-26 00:00')
    """
    value = np.ravel(value)[0]
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[s]").item()
    text = str(value.strftime("%Y-%m-%d %H:%M"))
    return text if day else text[-5:]


def _named(forecast: Fields) -> dict[str, xr.DataArray]:
    """Return forecasts by the names that label them, unpacked."""
    if isinstance(forecast, xr.DataArray):
        return {str(forecast.attrs.get("forecaster", "forecast")): decoded(forecast)}
    if not isinstance(forecast, Mapping) or not forecast:
        raise AxisError(
            "expected a forecast, or a mapping of names to forecasts; found "
            f"{type(forecast).__name__} {'without any' if isinstance(forecast, Mapping) else ''}"
        )
    return {str(name): decoded(one) for name, one in forecast.items()}


def _one_start(name: str, forecast: xr.DataArray, init: Any) -> xr.DataArray:
    """Return ([init,] lead, [member,] y, x) of one start, with `init` of size 1 if at all."""
    axes = discover(forecast, require=("lead", "y", "x"))
    extra = [d for d in forecast.dims if d not in (axes.init, axes.lead, axes.member, *_yx(axes))]
    if extra or axes.lead not in forecast.dims:
        raise AxisError(
            f"{name!r}: frames are drawn of (init, lead, member, y, x); found the dims "
            f"{forecast.dims}. Select one of each other, for example .isel({(extra or ['x'])[0]}=0)"
        )
    dim = axes.init
    if dim is None or dim not in forecast.dims:
        known = [
            str(key)
            for key, coord in forecast.coords.items()
            if coord.ndim == 0
            and (key == "init" or coord.attrs.get("standard_name") == "forecast_reference_time")
        ]
        if not known:
            return _without_start(name, forecast, init)
        dim = known[0]
        forecast = forecast.expand_dims(dim)
    starts = [stamp(value, day=True) for value in forecast[dim].values]
    listed = ", ".join(starts[:4]) + (" ..." if len(starts) > 4 else "")
    if init is not None:
        try:
            forecast = forecast.sel({dim: init})
        except (KeyError, TypeError, ValueError) as error:
            raise TimeAxisError(
                f"{name!r} has no start {init!r}; it holds {len(starts)}: {listed}"
            ) from error
        forecast = forecast if dim in forecast.dims else forecast.expand_dims(dim)
    if forecast.sizes[dim] != 1:
        raise AxisError(
            f"{name!r}: frames of one start are drawn, {forecast.sizes[dim]} were found: {listed}. "
            f"Choose one with init={starts[0]!r}"
        )
    return forecast


def _without_start(name: str, forecast: xr.DataArray, init: Any) -> xr.DataArray:
    if init is None:
        return forecast
    raise TimeAxisError(
        f"init={init!r} was asked for, but {name!r} has neither a dimension nor a coordinate "
        "'init'; leave init out"
    )


def _yx(axes: Axes) -> tuple[str | None, str | None]:
    return axes.y, axes.x


def _same(chosen: dict[str, xr.DataArray], axes: Axes) -> None:
    """Refuse forecasts of different starts, leads or cells."""
    (name, first), *others = chosen.items()
    for other, one in others:
        if not np.array_equal(one[axes.lead].values, first[axes.lead].values):
            raise LeadError(
                f"{other!r} holds the leads {one[axes.lead].values.tolist()}, {name!r} "
                f"{first[axes.lead].values.tolist()}; select those that both have"
            )
        _same_cells(other, one, name, first, axes)
        if "valid_time" in first.coords and "valid_time" in one.coords:
            times = (one["valid_time"].values.ravel(), first["valid_time"].values.ravel())
            if not np.array_equal(*times):
                raise TimeAxisError(
                    f"{other!r} is valid from {stamp(times[0][0], day=True)} on, {name!r} from "
                    f"{stamp(times[1][0], day=True)}; give init=..., a start that both have"
                )


def _same_cells(other: str, one: xr.DataArray, name: str, first: xr.DataArray, axes: Axes) -> None:
    for dim in (str(axes.y), str(axes.x)):
        if dim not in one.dims or not np.array_equal(one[dim].values, first[dim].values):
            found = one[dim].values if dim in one.dims else one.dims
            raise GridMismatchError(
                f"{other!r} is on other cells than {name!r} along {dim!r}: found {_ends(found)}, "
                f"expected {_ends(first[dim].values)}. Bring both to one grid: xearth.regrid."
            )


def _ends(values: Any) -> str:
    values = list(values)
    return f"{len(values)} from {values[0]} to {values[-1]}"


def ready(
    field: xr.DataArray, axes: Axes, scale: Scale, *, along: str | None = None
) -> xr.DataArray:
    """Return (lead, [member,] y, x) in the units of the scale, computed; or `along` for lead."""
    if axes.init in field.dims:
        field = field.isel({axes.init: 0})
    try:
        field = convert_array(field, scale.units)
    except UnitsError as error:
        raise UnitsError(
            f"{error} The colors {scale.name!r} are of {scale.units!r}: convert first, rates and "
            "reflectivities by xearth.rain_rate and xearth.reflectivity."
        ) from error
    member = [axes.member] if axes.member in field.dims else []
    return field.transpose(along or axes.lead, *member, axes.y, axes.x).load()


def _observed(
    chosen: dict[str, xr.DataArray], obs: xr.DataArray, axes: Axes, scale: Scale
) -> xr.DataArray:
    """Return what was observed at the leads of the forecasts."""
    obs = decoded(obs)
    name, first = next(iter(chosen.items()))
    _same_cells("obs", obs, name, first, axes)
    if axes.member in first.dims:
        first = first.isel({axes.member: 0}, drop=True)
    if axes.init is None or axes.init not in first.dims:
        raise AxisError(
            f"{name!r} has no start, so it is not known when its leads are; keep the coordinate "
            "'init', or leave obs out"
        )
    return ready(observations_at(first, obs), axes, scale)


def _titles(forecast: xr.DataArray, lead: str) -> list[str]:
    """Return "5 minutes, 04:35" for each lead; the date where steps are days or longer."""
    units = str(forecast[lead].attrs.get("units", "steps"))
    texts = [f"{value:g} {units}" for value in forecast[lead].values]
    if "valid_time" not in forecast.coords:
        return texts
    short = units.startswith(("min", "hour", "sec"))
    times = [stamp(value, day=True) for value in forecast["valid_time"].values.ravel()]
    if len(times) != len(texts):
        return texts
    return [f"{t}, {s[-5:] if short else s[:10]}" for t, s in zip(texts, times, strict=True)]
