"""Scores against lead, one line for each forecaster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from ..errors import AxisError
from .style import COLORS, axes_or_new, axis_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["skill"]

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def skill(scores: xr.Dataset, score: str = "correlation", *, ax: Axes | None = None) -> Axes:
    """Draw one score against lead.

    Parameters
    ----------
    scores : xarray.Dataset
        Scores by ``lead``, as :func:`xearth.skill_by_lead` makes them; with a dimension
        ``forecaster`` each of its values gets a line.
    score : str
        The variable to draw.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    AxisError
        If `scores` has no such score, or other dimensions than ``forecaster`` and ``lead``.
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
    if score not in scores:
        raise AxisError(
            f"no score {score!r} in the Dataset; it holds {sorted(map(str, scores.data_vars))}"
        )
    table = scores[score]
    if "forecaster" not in table.dims:
        table = table.expand_dims("forecaster")
    if set(table.dims) != {"forecaster", "lead"}:
        raise AxisError(
            f"skill draws (forecaster, lead), but {score!r} has dims {table.dims}; "
            "select or average the others first"
        )
    ax = axes_or_new(ax, (5.6, 3.8))
    from matplotlib.ticker import MaxNLocator

    names = [str(name) for name in scores["forecaster"].values] if "forecaster" in scores else [""]
    for number, name in enumerate(names):
        line = table.isel(forecaster=number)
        ax.plot(
            line["lead"].values,
            line.values,
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linewidth=2.2 if number == 0 else 1.3,
            label=name or None,
            zorder=3 if number == 0 else 2,
        )
    ax.set_xlabel(f"lead ({scores['lead'].attrs.get('units', 'steps')})")
    ax.set_ylabel(axis_label(scores[score]), fontsize=9)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 3, 5, 6, 10]))
    ax.grid(color="0.92", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    if any(names):
        ax.legend(frameon=False, fontsize=8)
    return ax
