"""The plume of an index: members, their mean, and what was observed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..errors import AxisError
from ..verification.scores.indices import nino_index
from .style import COLORS, axes_or_new, axis_label, plot_dates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plume"]

#: Observed steps shown before the start of the forecast.
BEFORE = 12


def plume(
    index: xr.DataArray,
    obs: xr.DataArray | None = None,
    *,
    region: str = "nino34",
    ax: Axes | None = None,
) -> Axes:
    """Draw an index forecast against valid time: 5-95 % band, members, mean, observations.

    Parameters
    ----------
    index : xarray.DataArray
        (lead,), (lead, member) or (init, lead[, member]) with the coordinate ``valid_time``;
        each start is drawn.
    obs : xarray.DataArray, optional
        The observed index (time,), or a field (time, y, x) whose `region` index is taken.
    region : str
        Name of the Nino region, used when `obs` is a field.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    AxisError
        If `index` has no leads or other dimensions than those above.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, pandas as pd, xarray as xr
    >>> from xearth.plotting.plume import plume
    >>> months = pd.date_range("1997-07-01", periods=3, freq="MS").values
    >>> index = xr.DataArray(
    ...     np.random.default_rng(0).normal(size=(3, 10)),
    ...     {
    ...         "lead": ("lead", [1, 2, 3], {"standard_name": "forecast_period",
    ...                                      "units": "months"}),
    ...         "member": ("member", np.arange(10), {"standard_name": "realization"}),
    ...         "valid_time": ("lead", months),
    ...     },
    ...     ("lead", "member"), "nino34", {"long_name": "Nino3.4", "units": "K"},
    ... )
    >>> plume(index).get_ylabel()
    'Nino3.4 SST (K)'
    """
    axes = discover(index, require=("lead",))
    known = {axes.init, axes.lead, axes.member}
    extra = [dim for dim in index.dims if dim not in known]
    if extra or "valid_time" not in index.coords:
        raise AxisError(
            f"plume draws (init, lead, member) with a coordinate valid_time, but {index.name!r} "
            f"has dims {index.dims} and coordinates {sorted(map(str, index.coords))}; take an "
            f"index first, for example fc.earthformer.nino34()"
        )
    ax = axes_or_new(ax)
    index = index.load()
    starts = index[axes.init].size if axes.init in index.dims else 1
    for start in range(starts):
        one = index.isel({axes.init: start}) if axes.init in index.dims else index
        _draw_start(ax, one, axes.lead, axes.member if axes.member in one.dims else None, start)
    if obs is not None:
        _draw_obs(ax, obs, region, plot_dates(index["valid_time"].values))
    ax.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
    ax.set_ylabel(axis_label(index))
    ax.set_xlabel("")
    _date_axis(ax)
    ax.grid(axis="x", color="0.92", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="best")
    return ax


def _draw_start(
    ax: Axes, index: xr.DataArray, lead: str | None, member: str | None, start: int
) -> None:
    """Draw the members, the 5-95 % band and the mean of one start."""
    color = COLORS[start % (len(COLORS) - 1)]
    dates = plot_dates(index["valid_time"].values)
    label = start == 0
    if member is None:
        ax.plot(dates, index.values, color=color, linewidth=2, label="forecast" if label else None)
        return
    values = index.transpose(lead, member).values
    ax.plot(dates, values, color=color, alpha=0.25, linewidth=0.6)
    low, high = np.nanpercentile(values, [5, 95], axis=1)
    ax.fill_between(
        dates, low, high, color=color, alpha=0.18, linewidth=0,
        label=f"5-95 % of {values.shape[1]} members" if label else None,
    )  # fmt: skip
    ax.plot(
        dates, values.mean(axis=1), color=color, linewidth=2.2,
        label="mean of the members" if label else None,
    )  # fmt: skip


def _draw_obs(ax: Axes, obs: xr.DataArray, region: str, valid: np.ndarray) -> None:
    """Draw the observed index from some steps before the start to the last valid time."""
    if obs.ndim > 1:
        obs = nino_index(obs, region)
    time = discover(obs, require=("time",)).time
    dates = plot_dates(obs[time].values)
    order = np.argsort(dates)
    dates = dates[order]
    first = np.searchsorted(dates, valid.min())
    last = np.searchsorted(dates, valid.max(), side="right")
    shown = order[max(first - BEFORE, 0) : last]
    known = plot_dates(obs[time].values[shown])
    values = obs.isel({time: shown}).values
    before = known < valid.min()
    ax.plot(known, values, color="black", linewidth=1.2, linestyle="--", label="observed later")
    if before.any():
        ax.plot(known[before], values[before], color="black", linewidth=2.0, label="observed")
        ax.axvline(known[before][-1], color="0.6", linewidth=0.8, linestyle=":")


def _date_axis(ax: Axes) -> None:
    """Write dates as short as they can be told apart."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
