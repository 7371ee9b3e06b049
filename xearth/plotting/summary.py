"""One page that tells a forecast: the plume of an index, maps, and the skill to expect."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import xarray as xr

from ..cf.discover import discover
from ..verification.scores.indices import nino_index
from .maps import draw_maps
from .plume import plume
from .skill import skill
from .style import axis_label, plot_dates, pyplot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure, SubFigure

__all__ = ["summary"]


def summary(
    forecast: xr.DataArray,
    obs: xr.DataArray | None = None,
    scores: xr.Dataset | None = None,
    *,
    region: str = "nino34",
    leads: Sequence[int] | None = None,
) -> Figure:
    """Draw plume, maps and skill of an ENSO forecast on one page.

    Parameters
    ----------
    forecast : xarray.DataArray
        One start: (init, lead, member, y, x) with ``init`` of size 1, or without ``init``.
    obs : xarray.DataArray, optional
        Observed field (time, y, x), or the observed index (time,).
    scores : xarray.Dataset, optional
        Scores by ``lead`` (and ``forecaster``), with the variables ``correlation`` and
        ``rmse``; without it the two panels on skill are left out.
    region : str
        Name of the Nino region of the plume.
    leads : sequence of int, optional
        Leads of the maps; see :func:`xearth.plotting.maps.maps`.

    Returns
    -------
    matplotlib.figure.Figure
        The page.

    Raises
    ------
    AxisError
        If `forecast` holds several starts.
    MissingDependencyError
        If matplotlib is not installed.
    """
    figure = pyplot().figure(
        figsize=(11.0, 9.2 if scores is not None else 8.6), layout="constrained"
    )
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.0, 1.15], hspace=0.04)
    index = nino_index(forecast, region)
    if scores is None:
        plume(index, obs, region=region, ax=top.subplots())
    else:
        left, right = top.subfigures(1, 2, width_ratios=[1.75, 1.0])
        plume(index, obs, region=region, ax=left.subplots())
        _skill_panels(right, scores)
    draw_maps(bottom, forecast, leads=leads, title="Mean of the members (gray: no data)")
    figure.suptitle(textwrap.fill(_title(forecast), 84), fontsize=13, fontweight="bold")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.06)
    return figure


def _skill_panels(figure: SubFigure, scores: xr.Dataset) -> None:
    """Draw correlation above root mean square error, with one legend above both."""
    upper, lower = figure.subplots(2, 1, sharex=True)
    skill(scores, "correlation", ax=upper).set_xlabel("")
    name = axis_label(scores["rmse"].assign_attrs(long_name="RMSE"))
    skill(scores, "rmse", ax=lower).set_ylabel(name, fontsize=9)
    if lower.get_legend() is not None:
        for panel in (upper, lower):
            if (legend := panel.get_legend()) is not None:
                legend.remove()
        # below all stand; a climatology has no correlation
        handles, labels = lower.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8
        )


def _title(forecast: xr.DataArray) -> str:
    """Return the headline: what was forecast, and from which start."""
    name = str(forecast.attrs.get("long_name") or forecast.name or "field").replace("_", " ")
    name = name.partition(",")[0]
    init = discover(forecast, require=("y", "x")).init
    if init is None or init not in forecast.coords:
        return f"Forecast of {name}"
    start = plot_dates(forecast[init].values).ravel()[0].item()
    return f"Forecast of {name}, made with data to {start:%B %Y}"
