"""Small maps of a forecast, one for each lead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import Axes, discover
from ..errors import AxisError, GridMismatchError, LeadError, UnitsError
from .cells import edges, label_axes
from .style import LAND, axis_label, is_signed, plot_dates, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes as MatplotlibAxes
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure, SubFigure

__all__ = ["draw_maps", "maps"]

#: One forecast, or a map for each title.
Fields = xr.DataArray | Mapping[str, xr.DataArray]


def maps(
    field: Fields,
    *,
    leads: Sequence[int] | None = None,
    columns: int = 3,
    limit: float | None = None,
    title: str | None = None,
    significant: xr.DataArray | None = None,
) -> Figure:
    """Draw a map for each lead, or for each title; members are averaged.

    Cells without data stay gray, and one color scale serves all maps.

    The coast is the border between cells with and without data, so no map data are needed.

    Parameters
    ----------
    field : xarray.DataArray or mapping of str to xarray.DataArray
        (lead, [member,] y, x), or (y, x) for one map. A dimension ``init`` must have size 1.
        A mapping gives a map for each title, of fields ([member,] y, x) on the same cells and
        in the same units: forecasts of several models beside the truth, or composites.
    leads : sequence of int, optional
        The leads to draw, in the units of the ``lead`` coordinate. Default: up to six, evenly
        spread.
    columns : int
        Maps in a row.
    limit : float, optional
        Largest value of the color scale, in the units of `field`. Default: the 99th
        percentile of the magnitude.
    title : str, optional
        Title of the whole figure.
    significant : xarray.DataArray of bool, optional
        ([lead,] y, x) on the cells of `field`; cells where it is True are dotted. Such as
        ``significant`` of :func:`~xearth.verification.field_significance`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    AxisError
        If `field` has several starts, or a dimension that is no axis of a map; or a field of a
        mapping has several leads.
    LeadError
        If a lead that `field` does not hold was asked for.
    GridMismatchError
        If `significant` has other cells than `field`, or lacks a lead; or the fields of a
        mapping have different cells.
    UnitsError
        If the fields of a mapping have different units.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xearth.plotting.maps import maps
    >>> lat = xr.Variable("lat", [-2.5, 2.5], {"units": "degrees_north"})
    >>> lon = xr.Variable("lon", [177.5, 182.5, 187.5], {"units": "degrees_east"})
    >>> field = xr.DataArray(
    ...     np.arange(6.0).reshape(2, 3), {"lat": lat, "lon": lon}, ("lat", "lon"), "sst",
    ...     {"units": "K"},
    ... )
    >>> figure = maps(field)
    >>> len(figure.axes)  # the map and its color bar
    2
    >>> [ax.get_title() for ax in maps({"one": field, "half": field / 2}).axes[:2]]
    ['one', 'half']
    """
    plt = pyplot()
    panels, _, axes = _read(field, leads)
    rows, columns = math.ceil(len(panels) / columns), min(columns, len(panels))
    tall = min(max(3.4 * panels[0].sizes[axes.y] / panels[0].sizes[axes.x], 0.8), 3.4) + 0.3
    below = 1.6 if rows == 1 else 0.9
    figure = plt.figure(figsize=(3.4 * columns + 1.0, tall * rows + below), layout="constrained")
    draw_maps(
        figure, field, leads=leads, columns=columns, limit=limit, title=title,
        significant=significant,
    )  # fmt: skip
    return figure


def draw_maps(
    figure: Figure | SubFigure,
    field: Fields,
    *,
    leads: Sequence[int] | None = None,
    columns: int = 3,
    limit: float | None = None,
    title: str | None = None,
    significant: xr.DataArray | None = None,
) -> None:
    """Draw what :func:`maps` draws on a part of a figure; same parameters and errors."""
    panels, titles, axes = _read(field, leads)
    first = panels[0]
    rows, columns = math.ceil(len(panels) / columns), min(columns, len(panels))
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    norm, cmap = _colors(panels, limit)
    borders = {dim: edges(first[dim]) for dim in (axes.y, axes.x)}
    mesh: Any = None
    for ax, panel, name in zip(grid.flat, panels, titles, strict=False):
        mesh = ax.pcolormesh(
            borders[axes.x],
            borders[axes.y],
            np.ma.masked_invalid(panel.values),
            norm=norm,
            cmap=cmap,
        )
        _coast(ax, np.isfinite(panel.values), borders[axes.y], borders[axes.x])
        if significant is not None:
            _dots(ax, panel, axes, significant)
        ax.set_facecolor(LAND)
        ax.set_title(name, fontsize=9)
        label_axes(ax, first, axes)
    for ax in grid.flat[len(panels) :]:
        ax.set_visible(False)
    for ax in grid.flat:
        ax.label_outer()
    bar: dict[str, Any] = {"shrink": 0.85, "aspect": 30}
    if rows == 1:
        bar = {"location": "bottom", "aspect": 40, "shrink": 0.7}
    colorbar = figure.colorbar(mesh, ax=grid, extend="both", pad=0.02, **bar)
    colorbar.set_label(axis_label(first), fontsize=9)
    colorbar.ax.tick_params(labelsize=8)
    if significant is not None:
        name = str(significant.attrs.get("long_name", "significant"))
        figure.supxlabel(f"dots: {name}", fontsize=8, color="0.3")
    if title:
        figure.suptitle(title, fontsize=11)


def _read(field: Fields, leads: Sequence[int] | None) -> tuple[list[xr.DataArray], list[str], Axes]:
    """Return the maps to draw, their titles, and the axes that they share."""
    if isinstance(field, xr.DataArray):
        axes = discover(field, require=("y", "x"))
        panels = _panels(field, axes, leads)
        return panels, [_panel_title(panel, axes) for panel in panels], axes
    if not field:
        raise AxisError("maps draws one map or more, but the mapping of titles to fields is empty")
    panels = []
    for title, one in field.items():
        axes = discover(one, require=("y", "x"))
        found = _panels(one, axes, leads)
        if len(found) > 1:
            raise AxisError(
                f"{title!r} holds {len(found)} leads; a mapping gives one map for each title: "
                f"choose a lead with .sel({axes.lead}=...)"
            )
        panels += found
    first = panels[0]
    axes = discover(first, require=("y", "x"))
    for title, panel in zip(field, panels, strict=True):
        if panel.attrs.get("units") != first.attrs.get("units"):
            raise UnitsError(
                f"{title!r} has units {panel.attrs.get('units')!r}, the first map "
                f"{first.attrs.get('units')!r}; maps with one color scale need the same"
            )
        same = panel.dims == first.dims and all(
            np.array_equal(panel[dim].values, first[dim].values) for dim in first.dims
        )
        if not same:
            raise GridMismatchError(
                f"{title!r} has the dims {dict(panel.sizes)}, the first map {dict(first.sizes)}: "
                "they must be the same cells in the same order"
            )
    return panels, list(field), axes


def _panels(field: xr.DataArray, axes: Axes, leads: Sequence[int] | None) -> list[xr.DataArray]:
    """Return the maps (y, x) to draw: the one start, the mean over members, chosen leads."""
    if axes.init is not None and axes.init in field.dims:
        if field.sizes[axes.init] != 1:
            raise AxisError(
                f"maps draws one start, but {field.name!r} holds {field.sizes[axes.init]} of them; "
                f"choose one with .isel({axes.init}=0) or .sel({axes.init}=...)"
            )
        field = field.isel({axes.init: 0})
    if axes.member is not None and axes.member in field.dims:
        field = field.mean(axes.member)
    extra = [dim for dim in field.dims if dim not in (axes.lead, axes.y, axes.x)]
    if extra:
        raise AxisError(
            f"maps draws (lead, y, x), but {field.name!r} also has {extra}; select one value "
            f"of each, for example .isel({extra[0]}=0)"
        )
    field = field.load()
    if axes.lead is None or axes.lead not in field.dims:
        return [field.transpose(axes.y, axes.x)]
    have = field[axes.lead].values
    if leads is None:
        leads = have[
            np.unique(np.linspace(0, have.size - 1, min(6, have.size)).round().astype(int))
        ]
    unknown = [lead for lead in leads if lead not in have]
    if unknown:
        raise LeadError(
            f"{field.name!r} holds the leads {have.tolist()}, not {unknown}; choose among them"
        )
    return [field.sel({axes.lead: lead}).transpose(axes.y, axes.x) for lead in leads]


def _colors(panels: list[xr.DataArray], limit: float | None) -> tuple[BoundaryNorm, Any]:
    """Return the norm and the map of a stepped color scale that all panels share."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    stack = np.concatenate([panel.values.ravel() for panel in panels])
    stack = stack[np.isfinite(stack)]
    if any(is_signed(panel) for panel in panels):
        top = limit if limit is not None else np.percentile(np.abs(stack), 99) if stack.size else 1
        low, high, name = -(top or 1), top or 1, "RdBu_r"
    else:
        low, high = np.percentile(stack, [1, 99]) if stack.size else (0.0, 1.0)
        high, name = (limit if limit is not None else high), "cividis"
    levels = MaxNLocator(nbins=12, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return BoundaryNorm(levels, 256, extend="both"), colormaps[name]


def _coast(ax: MatplotlibAxes, valid: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
    """Draw the borders between cells with data (`valid`, (H, W)) and cells without."""
    from matplotlib.collections import LineCollection

    rows, columns = np.nonzero(valid[1:] != valid[:-1])
    lines = [[(x[j], y[i + 1]), (x[j + 1], y[i + 1])] for i, j in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(valid[:, 1:] != valid[:, :-1])
    lines += [[(x[j + 1], y[i]), (x[j + 1], y[i + 1])] for i, j in zip(rows, columns, strict=True)]
    ax.add_collection(LineCollection(lines, colors="0.25", linewidths=0.8))


def _dots(ax: MatplotlibAxes, panel: xr.DataArray, axes: Axes, significant: xr.DataArray) -> None:
    """Dot the cells that are significant; of a fine grid every second, third ... one."""
    if axes.lead is not None and axes.lead in significant.dims:
        lead = panel[axes.lead]
        if lead.item() not in significant[axes.lead].values:
            raise GridMismatchError(
                f"significant holds the leads {significant[axes.lead].values.tolist()}, not "
                f"{lead.item()}; test all leads that are drawn"
            )
        significant = significant.sel({axes.lead: lead.item()})
    try:
        (_, found) = xr.align(panel, significant, join="exact")
        found = found.transpose(axes.y, axes.x)
    except ValueError as error:
        raise GridMismatchError(
            f"significant has the dims {dict(significant.sizes)}, the map "
            f"{dict(panel.sizes)}: they must be the same cells. {error}"
        ) from error
    step = max(1, math.ceil(max(panel.shape[0] / 30, panel.shape[1] / 60)))
    chosen = np.asarray(found.values, dtype=bool) & np.isfinite(panel.values)
    rows, columns = np.nonzero(chosen[::step, ::step])
    x, y = (panel[dim].values[::step] for dim in (axes.x, axes.y))
    ax.scatter(x[columns], y[rows], s=2.5, color="0.1", linewidth=0, label="_significant")


def _panel_title(panel: xr.DataArray, axes: Axes) -> str:
    """Return "lead 3 months, Sep 1997" as far as the panel knows it."""
    parts = []
    if axes.lead is not None and axes.lead in panel.coords:
        lead = panel[axes.lead]
        units = str(lead.attrs.get("units", ""))
        units = units.removesuffix("s") if int(lead) == 1 else units
        parts.append(f"lead {int(lead)} {units}".rstrip())
    if "valid_time" in panel.coords:
        date = plot_dates(panel["valid_time"].values).item()
        monthly = not parts or "month" in parts[0] or "year" in parts[0]
        parts.append(date.strftime("%b %Y" if monthly else "%Y-%m-%d"))
    return ", ".join(parts)
