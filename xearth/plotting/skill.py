"""Scores against lead, one line for each forecaster, with intervals and what is perfect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..errors import AxisError
from .style import COLORS, axes_or_new, axis_label
from .tables import MARKERS, Tables, drawn, facts_of, has_zero, lead_axis, read_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["skill"]


def skill(scores: Tables, score: str = "correlation", *, ax: Axes | None = None) -> Axes:
    """Draw one score against lead, for one forecast or for several.

    Where the scores hold ``<score>_lower`` and ``<score>_upper``, the interval is shaded. A
    dashed line is the score of a perfect forecast, and a thin one is zero where scores have
    both signs.

    Parameters
    ----------
    scores : xarray.Dataset or mapping of str to xarray.Dataset
        Scores by ``lead``, as :func:`xearth.verify` makes them; a mapping, or a dimension
        ``forecaster``, gives a line for each name. The first is the forecast, drawn bold, the
        others are references.
    score : str
        The variable to draw. A difference ("rmse_difference", of ``verify(..., reference=...)``)
        has a line for each reference.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    AxisError
        If there is no such score, it has other dimensions than ``lead``, or other units in one
        forecast than in another.
    MissingDataError
        If it holds no value in any forecast; forecasts without one are left out beside others.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import xarray as xr
    >>> from xearth.plotting.skill import skill
    >>> scores = xr.Dataset(
    ...     {"rmse": (("forecaster", "lead"), [[0.2, 0.4], [0.3, 0.6]],
    ...               {"long_name": "root mean square error", "units": "K"})},
    ...     {"forecaster": ["model", "persistence"], "lead": ("lead", [1, 2], {"units": "months"})},
    ... )
    >>> ax = skill(scores, "rmse")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('lead (months)', 'root mean square error (K)')
    """
    differs = not isinstance(scores, Mapping) or isinstance(scores, xr.Dataset)
    differs = differs and score in scores and "reference" in scores[score].dims
    tables = read_tables(scores, split="reference" if differs else "forecaster")
    # a climatology has no correlation: it is left out beside forecasts that have one
    held = {n: t for n, t in tables.items() if score not in t or bool(t[score].notnull().any())}
    lines = {name: drawn(table, score, ("lead",)) for name, table in (held or tables).items()}
    units = {str(line.attrs.get("units", "1")) for line in lines.values()}
    if len(units) > 1:
        raise AxisError(
            f"{score!r} has different units in different forecasts, {sorted(units)}; convert the "
            "forecasts to the same units before they are scored"
        )
    ax = axes_or_new(ax, (5.6, 3.8))
    for number, (name, table) in enumerate(tables.items()):  # a color stays with its forecast
        if name in lines:
            _draw(ax, number, name, lines[name], table)
    first = next(iter(lines.values()))
    _references(ax, score, lines)
    lead_axis(ax, first["lead"])
    ax.set_ylabel(axis_label(first), fontsize=9)
    ax.grid(color="0.92", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    if any(lines):
        ax.legend(frameon=False, fontsize=8, title="compared with" if differs else None)
    return ax


def _draw(ax: Axes, number: int, name: str, line: xr.DataArray, table: xr.Dataset) -> None:
    """Draw one line and, where it is known, its interval."""
    color, bounds = (
        COLORS[number % len(COLORS)],
        [f"{line.name}_{end}" for end in ("lower", "upper")],
    )
    if all(bound in table for bound in bounds):
        low, high = (drawn(table, bound, ("lead",)).values for bound in bounds)
        ax.fill_between(line["lead"].values, low, high, color=color, alpha=0.15, linewidth=0)
        for end in (low, high):
            ax.plot(
                line["lead"].values, end, color=color, alpha=0.5, linewidth=0.6, label="_interval"
            )
    ax.plot(
        line["lead"].values,
        line.values,
        color=color,
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        linewidth=2.2 if number == 0 else 1.3,
        label=name or None,
        zorder=3 if number == 0 else 2,
    )


def _references(ax: Axes, score: str, lines: dict[str, xr.DataArray]) -> None:
    """Draw zero and the perfect value where they help to read the lines."""
    facts = facts_of(score)
    values = np.concatenate([line.values for line in lines.values()])
    low, high = np.nanmin(values), np.nanmax(values)
    if low < 0 < high or has_zero(score):
        ax.axhline(0.0, color="0.6", linewidth=0.9, zorder=1.8, label="_zero")
    if facts is not None and facts.perfect is not None:
        ax.axhline(
            facts.perfect, color="0.3", linewidth=0.9, linestyle="--", zorder=1.8, label="_perfect"
        )
        ax.annotate(
            "perfect", (1, facts.perfect), xycoords=("axes fraction", "data"), fontsize=7,
            color="0.3", ha="right", va="bottom", xytext=(0, 1), textcoords="offset points",
        )  # fmt: skip
