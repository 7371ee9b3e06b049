"""Scores of events: by lead for each threshold, and by size of the neighborhood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..errors import ConfigError, GridMismatchError, LeadError, MissingDataError
from ..units import convert
from ..verification.thresholds import read_thresholds
from .skill import skill
from .style import COLORS, axis_label, pyplot
from .tables import MARKERS, Tables, drawn, read_tables, thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_scale", "by_threshold"]

#: Rows of leads where none are asked for.
ROWS = 3


def by_threshold(scores: Tables, score: str = "csi", *, title: str | None = None) -> Figure:
    """Draw a score of events against lead, a panel for each threshold.

    Each panel is one of :func:`skill`: lines for forecasters, intervals where they are known.

    Parameters
    ----------
    scores : xarray.Dataset or mapping of str to xarray.Dataset
        As :func:`xearth.verify` makes them with ``thresholds=``; several by name, or along a
        dimension ``forecaster``.
    score : str
        The variable (lead, threshold).
    title : str, optional
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    AxisError
        If there is no such score, or it has other dimensions.
    GridMismatchError
        If forecasts were scored at different thresholds.
    MissingDataError
        If it holds no value at all.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import xarray as xr
    >>> from xearth.plotting import by_threshold
    >>> scores = xr.Dataset(
    ...     {"csi": (("lead", "threshold"), [[0.9, 0.6], [0.8, 0.3]], {"units": "1"})},
    ...     {"lead": ("lead", [5, 10], {"units": "minutes"}),
    ...      "threshold": ("threshold", [1.0, 5.0], {"units": "mm h-1"})},
    ... )
    >>> [ax.get_title() for ax in by_threshold(scores).axes]
    ['≥ 1 mm h-1', '≥ 5 mm h-1']
    """
    tables = read_tables(scores)
    parts = {
        name: thresholds(drawn(table, score, ("lead",), optional=("threshold",)))
        for name, table in tables.items()
    }
    labels = _common(parts)
    figure, grid = _panels(1, len(labels))
    for column, (ax, label) in enumerate(zip(grid[0], labels, strict=True)):
        each = {
            name: table.isel(threshold=column) if "threshold" in table[score].dims else table
            for name, table in tables.items()
        }
        try:
            skill(each, score, ax=ax)
        except MissingDataError:
            ax.text(0.5, 0.5, "no such event", transform=ax.transAxes, ha="center", color="0.3")
        ax.set_title(_event(label), fontsize=9)
        ax.label_outer()
    _one_legend(grid)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def by_scale(
    scores: xr.DataArray | Tables | Mapping[str, xr.DataArray],
    *,
    leads: Sequence[int] | None = None,
    cell: str | None = None,
) -> Figure:
    """Draw the fractions skill score against the size of the neighborhood.

    Columns are thresholds, rows are leads, lines are forecasters. The line at 0.5 is where a
    forecast of rare rain begins to be useful: 0.5 + f / 2 for rain on a fraction f of the area.

    Parameters
    ----------
    scores : xarray.DataArray, xarray.Dataset, or mapping of str to one of these
        (threshold, window[, lead]) as :func:`xearth.verification.fss` makes them; in a Dataset the
        variable ``fss``.
    leads : sequence of int, optional
        Rows, in the units of the ``lead`` coordinate. Default: the first, the middle, the last.
    cell : str, optional
        The width of a cell with its unit, such as "2 km": sizes are then in this unit. Default:
        sizes in cells.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    AxisError
        If there is no such score, or it has other dimensions.
    GridMismatchError
        If forecasts were scored at different thresholds or leads.
    LeadError
        If there is no such lead.
    ConfigError
        If the width of a cell is not one positive length.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import xarray as xr
    >>> from xearth.plotting import by_scale
    >>> fss = xr.DataArray(
    ...     [[0.4, 0.7]], {"threshold": ("threshold", [1.0], {"units": "mm h-1"}),
    ...                    "window": [1, 5]}, ("threshold", "window"), "fss", {"units": "1"},
    ... )
    >>> figure = by_scale(fss, cell="2 km")
    >>> figure.axes[0].get_xlabel(), figure.axes[0].lines[0].get_xdata().tolist()
    ('width of the neighborhood (km)', [2.0, 10.0])
    """
    width, unit = _cell(cell)
    read = {
        name: drawn(table, "fss", ("window",), optional=("lead", "threshold"))
        for name, table in read_tables(_tables(scores)).items()
    }
    labels = _common({name: thresholds(table) for name, table in read.items()})
    rows = _rows(read, leads)
    figure, grid = _panels(len(rows), len(labels))
    for line, (lead, text) in zip(grid, rows, strict=True):
        for column, (ax, label) in enumerate(zip(line, labels, strict=True)):
            for number, (name, table) in enumerate(read.items()):
                part = thresholds(table)[column][1]
                part = part if lead is None else part.sel(lead=lead)
                ax.plot(
                    part["window"].values * width, part.values, color=COLORS[number % len(COLORS)],
                    marker=MARKERS[number % len(MARKERS)], markersize=4, label=name or None,
                    linewidth=2.2 if number == 0 else 1.3,
                )  # fmt: skip
            _dress(ax, next(iter(read.values())), width, unit)
            ax.set_title(", ".join(t for t in (_event(label), text) if t), fontsize=9)
            ax.label_outer()
    if any(read):
        grid[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _tables(scores: xr.DataArray | Tables | Mapping[str, xr.DataArray]) -> Tables:
    """Return Datasets where arrays were given."""
    if isinstance(scores, xr.DataArray):
        return scores.to_dataset(name="fss")
    if isinstance(scores, Mapping) and not isinstance(scores, xr.Dataset):
        return {
            name: one.to_dataset(name="fss") if isinstance(one, xr.DataArray) else one
            for name, one in scores.items()
        }
    return scores


def _common(parts: dict[str, list[tuple[str, xr.DataArray]]]) -> list[str]:
    """Return the labels of the thresholds that all share."""
    (name, first), *others = parts.items()
    labels = [label for label, _ in first]
    for other, table in others:
        found = [label for label, _ in table]
        if found != labels:
            raise GridMismatchError(
                f"{other!r} was scored at the thresholds {found}, {name!r} at {labels}; score both "
                "at the same"
            )
    return labels


def _rows(
    read: dict[str, xr.DataArray], leads: Sequence[int] | None
) -> list[tuple[int | None, str]]:
    """Return the leads to draw with their labels; one row without a label of none."""
    (name, first), *others = read.items()
    for other, table in others:
        same = ("lead" in table.dims) == ("lead" in first.dims) and (
            "lead" not in first.dims or np.array_equal(table["lead"], first["lead"])
        )
        if not same:
            raise GridMismatchError(
                f"{other!r} was scored at other leads than {name!r}; select those of both"
            )
    if "lead" not in first.dims:
        if leads is not None:
            raise LeadError(
                f"leads={list(leads)} were asked for, but the score has no leads; keep them: "
                "fss(..., dim='init')"
            )
        return [(None, "")]
    have = first["lead"].values.tolist()
    if leads is None:
        chosen = np.unique(np.linspace(0, len(have) - 1, min(ROWS, len(have))).round().astype(int))
        leads = [have[i] for i in chosen]
    leads = list(leads)
    unknown = [lead for lead in leads if lead not in have]
    if unknown or not leads:
        raise LeadError(f"the score holds the leads {have}, not {unknown or 'none'}")
    units = str(first["lead"].attrs.get("units", "steps"))
    return [(lead, f"{lead} {units}") for lead in leads]


def _cell(cell: str | None) -> tuple[float, str]:
    """Return the width of a cell and its unit."""
    if cell is None:
        return 1.0, "cells"
    found = read_thresholds(cell, xr.DataArray(0.0, name="cell", attrs={"units": "km"}))
    if len(found.values) != 1 or found.values[0] <= 0:
        raise ConfigError(f"cell: expected one positive length such as '2 km', found {cell!r}.")
    unit = cell.strip().lstrip("0123456789.eE+- ") or "km"
    return float(convert(found.values[0], "km", unit)), unit


def _panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    figure, grid = pyplot().subplots(
        rows, columns, squeeze=False, sharex=True, sharey=True, layout="constrained",
        figsize=(2.9 * columns + 0.8, 2.5 * rows + 0.6),
    )  # fmt: skip
    return figure, grid


def _event(label: str) -> str:
    return f"≥ {label}" if label else ""


def _one_legend(grid: np.ndarray) -> None:
    """Keep the first legend only."""
    found = [ax.get_legend() for ax in grid.flat if ax.get_legend() is not None]
    for legend in found[1:]:
        legend.remove()


def _dress(ax: Axes, table: xr.DataArray, width: float, unit: str) -> None:
    """Label the axes, sizes as they are; draw 0.5."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(table["window"].values * width)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set(ylim=(0, 1.03), xlabel=f"width of the neighborhood ({unit})")
    ax.set_ylabel(axis_label(table) if "long_name" in table.attrs else "FSS", fontsize=9)
    ax.axhline(0.5, color="0.3", linewidth=0.9, linestyle="--", zorder=1.8, label="_useful")
    ax.annotate(
        "0.5", (1, 0.5), xycoords=("axes fraction", "data"), fontsize=7, color="0.3",
        ha="right", va="bottom", xytext=(0, 1), textcoords="offset points",
    )  # fmt: skip
    ax.tick_params(labelsize=8)
    ax.grid(color="0.92", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
