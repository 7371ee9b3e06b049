"""Yes/no forecasts on one page: detection, success ratio, frequency bias and CSI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .style import COLORS, axes_or_new
from .tables import MARKERS, Tables, drawn, read_tables, thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["performance"]

CSI = np.arange(0.1, 1.0, 0.1)
BIASES = (0.3, 0.5, 0.8, 1.0, 1.3, 2.0, 4.0)


def performance(scores: Tables, *, ax: Axes | None = None) -> Axes:
    r"""Draw a performance diagram: probability of detection against success ratio.

    With both on the axes, frequency bias is :math:`\mathrm{POD} / \mathrm{SR}` (straight lines)
    and :math:`1 / \mathrm{CSI} = 1 / \mathrm{SR} + 1 / \mathrm{POD} - 1` (curves): the upper right
    corner is perfect (Roebber 2009).

    Parameters
    ----------
    scores : xarray.Dataset or mapping of str to xarray.Dataset
        ``pod`` and ``sucr`` by ``threshold``, of ``verify`` or
        :func:`~xearth.verification.categorical_scores`; a mapping, or a dimension
        ``forecaster``, gives a line for each name. Points are labeled by their threshold.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    AxisError
        If ``pod`` or ``sucr`` is missing, or has other dimensions than ``threshold``.
    MissingDataError
        If a score holds no value.
    MissingDependencyError
        If matplotlib is not installed.

    References
    ----------
    Roebber, P. J. (2009), Wea. Forecasting 24, 601-608.

    Examples
    --------
    >>> import xarray as xr
    >>> from xearth.plotting.performance import performance
    >>> mm = ("threshold", [1.0, 5.0], {"units": "mm h-1"})
    >>> scores = xr.Dataset(
    ...     {"pod": ("threshold", [0.8, 0.5]), "sucr": ("threshold", [0.7, 0.6])},
    ...     {"threshold": mm},
    ... )
    >>> ax = performance(scores)
    >>> [text.get_text() for text in ax.texts if "mm" in text.get_text()]
    ['1 mm h-1', '5 mm h-1']
    """
    points = {
        name: [drawn(table, score, ("threshold",)) for score in ("sucr", "pod")]
        for name, table in read_tables(scores).items()
    }
    ax = axes_or_new(ax, (5.4, 4.9))
    from matplotlib.patheffects import withStroke

    _background(ax)
    for number, (name, (ratio, detection)) in enumerate(points.items()):
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        ax.plot(ratio.values, detection.values, color=color, linewidth=1.2, marker=marker,
                markersize=6, label=name or None, zorder=3)  # fmt: skip
        for (label, y), x in zip(thresholds(detection), ratio.values, strict=True):
            if np.isfinite(x) and np.isfinite(float(y)):
                ax.annotate(
                    label, (x, float(y)), xytext=(5, 5), textcoords="offset points", fontsize=7.5,
                    color=color, zorder=4, path_effects=[withStroke(linewidth=2, foreground="w")],
                )  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="success ratio (1 - false alarm ratio)")
    ax.set_ylabel("probability of detection")
    ax.set_aspect("equal")
    if any(points):
        ax.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize=8, loc="lower left")
    return ax


def _background(ax: Axes) -> None:
    """Draw the curves of equal CSI and the lines of equal frequency bias."""
    for csi in CSI:
        x = np.linspace(csi, 1.0, 200)
        ax.plot(x, 1 / (1 / csi + 1 - 1 / x), color="0.75", linewidth=0.8, zorder=1, label="_csi")
        ax.annotate(
            f"{csi:.1f}", (0.985, csi), fontsize=7, color="0.5", ha="right", va="center",
            bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none"}, zorder=1.5,
        )  # fmt: skip
    ax.annotate("CSI", (0.985, 0.955), fontsize=7, color="0.5", ha="right", va="center")
    for bias in BIASES:
        ax.plot(
            [0, 1], [0, bias], color="0.8", linewidth=0.7, linestyle="--", zorder=1, label="_bias"
        )
        over = bias > 1
        ax.annotate(
            f"{bias:g}", (1 / bias, 1.01) if over else (1.01, bias), fontsize=7, color="0.45",
            annotation_clip=False, ha="center" if over else "left",
            va="bottom" if over else "center",
        )  # fmt: skip
    ax.annotate("frequency bias", (1.075, 0.5), xycoords="axes fraction", fontsize=8, color="0.45",
                rotation=270, va="center", ha="left", annotation_clip=False)  # fmt: skip
