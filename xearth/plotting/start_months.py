"""A score by month of the start and lead: where in the year forecasts are hard."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..errors import AxisError
from .style import LAND, axes_or_new, axis_label, pyplot
from .tables import Tables, drawn, facts_of, has_zero, lead_axis, read_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["start_months", "start_months_each"]

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
HATCH = "////"


def start_months(
    scores: xr.Dataset,
    score: str = "correlation",
    *,
    distinguishable: xr.DataArray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one score by month of the start (rows) and lead (columns).

    The spring barrier of ENSO shows as a fall of skill where leads cross from March to May, a
    diagonal of this figure. Cells whose value cannot be told from no skill are hatched, those
    without a value gray.

    Parameters
    ----------
    scores : xarray.Dataset
        Scores by ``month`` and ``lead``: ``verify(..., by=["month", "lead"])``.
    score : str
        The variable to draw; of a difference select one reference first,
        ``scores.sel(reference="persistence")``.
    distinguishable : xarray.DataArray of bool, optional
        (month, lead), True where a difference was found, such as
        ``scores.rmse_difference_p_value < 0.05``, or ``significant`` of
        :func:`~xearth.verification.field_significance` where there are many tests.
        By default, where the
        scores hold ``<score>_lower`` and ``<score>_upper`` and 0 is no skill, whether the
        interval leaves 0 out.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    AxisError
        If there is no such score, or it has other dimensions than ``month`` and ``lead``.
    MissingDataError
        If it holds no value.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xearth.plotting.start_months import start_months
    >>> scores = xr.Dataset(
    ...     {"correlation": (("month", "lead"), np.linspace(1, 0, 36).reshape(12, 3),
    ...                      {"long_name": "correlation", "units": "1"})},
    ...     {"month": np.arange(1, 13), "lead": ("lead", [1, 2, 3], {"units": "months"})},
    ... )
    >>> start_months(scores).get_ylabel()
    'month of the start'
    """
    table = drawn(scores, score, ("month", "lead")).sortby("month")
    known = _distinguishable(scores, score, distinguishable, table)
    ax = axes_or_new(ax, (6.2, 4.2))
    mesh = _draw(ax, table, known, _colors(score, table.values))
    if known is not None:
        _say_what_hatches_mean(ax)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label(axis_label(table), fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return ax


def start_months_each(scores: Tables, score: str = "correlation", *, columns: int = 3) -> Figure:
    """Draw :func:`start_months` for several forecasts, with one color scale.

    Parameters
    ----------
    scores : mapping of str to xarray.Dataset, or xarray.Dataset
        Scores by ``month`` and ``lead`` of each forecast by its name, or along a dimension
        ``forecaster``. Leads may differ; the months of the axis are those of each.
    score : str
        The variable to draw; cells whose interval holds 0 are hatched as there.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each forecast, and the color bar.

    Raises
    ------
    AxisError
        If one has no such score, or other dimensions than ``month`` and ``lead``.
    MissingDataError
        If one holds no value.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xearth.plotting.start_months import start_months_each
    >>> one = xr.Dataset(
    ...     {"correlation": (("month", "lead"), np.linspace(1, 0, 36).reshape(12, 3),
    ...                      {"long_name": "correlation", "units": "1"})},
    ...     {"month": np.arange(1, 13), "lead": ("lead", [1, 2, 3], {"units": "months"})},
    ... )
    >>> figure = start_months_each({"model": one, "persistence": one / 2})
    >>> [ax.get_title() for ax in figure.axes[:2]]
    ['model', 'persistence']
    """
    tables = read_tables(scores)
    fields = {
        name: drawn(table, score, ("month", "lead")).sortby("month")
        for name, table in tables.items()
    }
    known = {
        name: _distinguishable(table, score, None, fields[name]) for name, table in tables.items()
    }
    colors = _colors(score, np.concatenate([field.values.ravel() for field in fields.values()]))
    columns = min(columns, len(fields))
    rows = math.ceil(len(fields) / columns)
    figure = pyplot().figure(figsize=(3.1 * columns + 1.2, 2.9 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for ax, (name, field) in zip(grid.flat, fields.items(), strict=False):
        mesh = _draw(ax, field, known[name], colors)
        ax.set_title(name, fontsize=9)
        if ax is not grid[ax.get_subplotspec().rowspan.start, 0]:
            ax.set_ylabel("")
    for ax in grid.flat[len(fields) :]:
        ax.set_visible(False)
    bar = figure.colorbar(mesh, ax=grid, pad=0.02, aspect=30)
    bar.set_label(axis_label(next(iter(fields.values()))), fontsize=9)
    bar.ax.tick_params(labelsize=8)
    if any(each is not None for each in known.values()):
        _say_what_hatches_mean(figure)
    return figure


def _draw(ax: Axes, table: xr.DataArray, known: np.ndarray | None, colors: tuple[Any, Any]) -> Any:
    """Draw the cells of one table, hatched where nothing is known, with its axes."""
    norm, cmap = colors
    edges = (_edges(table["lead"].values), np.arange(table.sizes["month"] + 1) - 0.5)
    values = np.ma.masked_invalid(table.values)
    mesh = ax.pcolormesh(*edges, values, norm=norm, cmap=cmap, label="_score")
    ax.set_facecolor(LAND)
    if known is not None:
        unknown = ~known & ~np.ma.getmaskarray(values)
        brightness = cmap(norm(values))[..., :3] @ (0.3, 0.6, 0.1)
        _hatch(ax, edges, unknown & (brightness >= 0.4), "0.15")
        _hatch(ax, edges, unknown & (brightness < 0.4), "0.8")
    lead_axis(ax, table["lead"])
    ax.set_yticks(np.arange(table.sizes["month"]))
    ax.set_yticklabels([MONTHS[int(month) - 1] for month in table["month"].values], fontsize=8)
    ax.set_ylim(table.sizes["month"] - 0.5, -0.5)
    ax.set_ylabel("month of the start")
    return mesh


def _distinguishable(
    scores: xr.Dataset, score: str, given: xr.DataArray | None, table: xr.DataArray
) -> np.ndarray | None:
    """Return where a difference was found, (month, lead), or None where nobody knows."""
    if given is not None:
        if set(given.dims) != {"month", "lead"} or dict(given.sizes) != dict(table.sizes):
            raise AxisError(
                f"distinguishable has dims {dict(given.sizes)}; expected those of {score!r}, "
                f"{dict(table.sizes)}"
            )
        return np.asarray(given.transpose("month", "lead").sortby("month").values, dtype=bool)
    ends = [f"{score}_{end}" for end in ("lower", "upper")]
    if not has_zero(score) or not all(end in scores for end in ends):
        return None
    low, high = (drawn(scores, end, ("month", "lead")).sortby("month").values for end in ends)
    return np.asarray((low > 0) | (high < 0))


def _hatch(ax: Axes, edges: tuple[np.ndarray, np.ndarray], cells: np.ndarray, color: str) -> None:
    """Hatch cells in a color that can be seen on theirs."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    x, y = edges
    boxes = [
        Rectangle((x[j], y[i]), x[j + 1] - x[j], y[i + 1] - y[i])
        for i, j in zip(*np.nonzero(cells), strict=True)
    ]
    look: dict[str, Any] = {"facecolor": "none", "edgecolor": color, "hatch": HATCH}
    ax.add_collection(PatchCollection(boxes, linewidth=0, label="_hatched", **look))


def _say_what_hatches_mean(where: Axes | Figure) -> None:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

    patch = Patch(
        label="not distinguishable", linewidth=0, facecolor="none", edgecolor="0.15", hatch=HATCH
    )
    look: dict[str, Any] = {"handles": [patch], "frameon": False, "fontsize": 8}
    if isinstance(where, Axes):
        where.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, **look)
    else:
        where.legend(loc="outside lower left", **look)


def _colors(score: str, values: np.ndarray) -> tuple[Any, Any]:
    """Return a stepped scale: around 0 for scores of both signs, else from least to most."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    facts, (low, high) = facts_of(score), (np.nanmin(values), np.nanmax(values))
    signed = low < 0 < high and not (facts is not None and facts.perfect == 1)
    if signed:
        high = max(-low, high)
        low = -high
    levels = MaxNLocator(nbins=10, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return BoundaryNorm(levels, 256), colormaps["RdBu_r" if signed else "cividis"]


def _edges(centers: np.ndarray) -> np.ndarray:
    """Return the borders of columns: halfway between leads, mirrored at the ends."""
    centers = np.asarray(centers, dtype=float)
    if centers.size == 1:
        return np.array([centers[0] - 0.5, centers[0] + 0.5])
    middle = (centers[1:] + centers[:-1]) / 2
    return np.concatenate([[2 * centers[0] - middle[0]], middle, [2 * centers[-1] - middle[-1]]])
