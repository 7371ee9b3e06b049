"""Probabilities of events: are they reliable, are they sharp, do they tell events from others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..errors import AxisError
from .style import COLORS, axes_or_new, pyplot
from .tables import MARKERS, drawn, thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["reliability", "roc"]


def reliability(table: xr.Dataset, *, title: str | None = None) -> Figure:
    """Draw a reliability diagram above the histogram of the forecasts (sharpness).

    Points on the diagonal are reliable; the horizontal line is the frequency of the event
    (climatology), and in the shaded area forecasts add to the Brier skill against it. Both are
    drawn of a single event only. The size of a point is the share of the forecasts in its class.

    Parameters
    ----------
    table : xarray.Dataset
        Of :func:`~xearth.verification.reliability`: ``share``, ``probability`` and
        ``frequency`` by ``probability_class``, and ``threshold`` where there are several; or the
        score ``reliability`` of ``verify``, by ``quantity``.
    title : str, optional
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; its axes are the diagram and the histogram.

    Raises
    ------
    AxisError
        If a variable is missing, or has other dimensions.
    MissingDataError
        If nothing was forecast.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import xarray as xr
    >>> from xearth.plotting.probabilities import reliability as draw
    >>> from xearth.verification.scores.reliability import reliability
    >>> p, o = xr.DataArray([0.1, 0.2, 0.2, 0.9]), xr.DataArray([0, 0, 1, 1])
    >>> figure = draw(reliability(p, o, bins=2))
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['observed frequency', 'share of forecasts']
    """
    if "reliability" in table and "quantity" in table["reliability"].dims:
        parts = table["reliability"]
        table = xr.Dataset(
            {str(q): parts.sel(quantity=q, drop=True) for q in parts.quantity.values}
        )
    names = ("share", "probability", "frequency")
    share, probability, frequency = (
        drawn(table, name, ("probability_class",), optional=("threshold",)) for name in names
    )
    figure = pyplot().figure(figsize=(4.8, 6.2), layout="compressed")
    upper, lower = figure.subplots(2, 1, height_ratios=[3.2, 1.0], sharex=True)
    events = thresholds(share)
    if len(events) == 1:
        _areas_of_skill(upper, share.values.ravel(), frequency.values.ravel())
    upper.plot([0, 1], [0, 1], color="0.4", linewidth=0.9, linestyle="--", label="_reliable")
    for number, (label, part) in enumerate(events):
        x, y = (dict(thresholds(values))[label] for values in (probability, frequency))
        _points(upper, number, label, part, x, y)
        _sharpness(lower, number, part)
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="observed frequency")
    upper.set_box_aspect(1.0)
    lower.set_box_aspect(0.28)
    upper.grid(color="0.92", linewidth=0.8)
    lower.set(xlabel="forecast probability", ylabel="share of forecasts", ylim=(0, None))
    for ax in (upper, lower):
        ax.spines[["top", "right"]].set_visible(False)
    if len(events) > 1:
        upper.legend(
            frameon=False, fontsize=8, loc="upper left", title="event from", title_fontsize=8
        )
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _points(
    ax: Axes,
    number: int,
    label: str,
    share: xr.DataArray,
    *point: xr.DataArray,
) -> None:
    """Draw the classes of one event in the diagram, the full ones large."""
    some = np.isfinite(point[1].values)
    x, y = (part.values[some] for part in point)
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    ax.plot(x, y, color=color, linewidth=1.6, label=label or None)
    size = 12 + 120 * np.sqrt(share.values[some] / share.values.max())
    ax.scatter(x, y, s=size, color=color, marker=marker, zorder=3, edgecolor="white", linewidth=0.6)


def _sharpness(ax: Axes, number: int, share: xr.DataArray) -> None:
    """Draw how often each probability was forecast."""
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    ax.plot(
        share["probability_class"].values, share.values, color=color, linewidth=1.4,
        drawstyle="steps-mid", marker=marker, markersize=3,
    )  # fmt: skip


def _areas_of_skill(ax: Axes, share: np.ndarray, frequency: np.ndarray) -> None:
    """Draw the frequency of the event and the area nearer to the diagonal than to it."""
    base = float(np.nansum(share * frequency) / share[np.isfinite(frequency)].sum())
    x = np.array([0.0, base, 1.0])
    half = (x + base) / 2
    ax.fill_between(x[:2], 0.0, half[:2], color="0.93", linewidth=0, label="_skill")
    ax.fill_between(x[1:], half[1:], 1.0, color="0.93", linewidth=0, label="_skill")
    ax.axhline(base, color="0.5", linewidth=0.8, linestyle=":", label="_climatology")
    ax.annotate(
        "frequency of the event", (1, base), xytext=(0, 2), textcoords="offset points",
        ha="right", fontsize=7, color="0.4",
    )  # fmt: skip


def roc(curve: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw hit rate against false-alarm rate, one curve for each event, with the area under it.

    Parameters
    ----------
    curve : xarray.Dataset
        Of :func:`~xearth.verification.roc`: ``hit_rate`` and ``false_alarm_rate`` by
        ``least_probability``, and ``threshold`` where there are several; or the score ``roc`` of
        ``verify``, by ``rate``.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    AxisError
        If a variable is missing, or has other dimensions.
    MissingDataError
        If an event always or never happened.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import xarray as xr
    >>> from xearth.plotting.probabilities import roc as draw
    >>> from xearth.verification.scores.reliability import roc
    >>> p, o = xr.DataArray([0.1, 0.6, 0.4, 0.9]), xr.DataArray([0, 0, 1, 1])
    >>> ax = draw(roc(p, o, bins=[0, 0.2, 0.5, 0.7, 1]))
    >>> ax.get_legend().get_texts()[0].get_text()
    'area 0.75'
    """
    if "roc" in curve and "rate" in curve["roc"].dims:
        both = curve["roc"]
        curve = xr.Dataset({str(rate): both.sel(rate=rate, drop=True) for rate in both.rate.values})
    hits, alarms = (
        drawn(curve, name, ("least_probability",), optional=("threshold",))
        for name in ("hit_rate", "false_alarm_rate")
    )
    if hits.shape != alarms.shape:
        raise AxisError(f"hit rate has the shape {hits.shape}, false-alarm rate {alarms.shape}")
    ax = axes_or_new(ax, (4.8, 4.6))
    ax.plot([0, 1], [0, 1], color="0.4", linewidth=0.9, linestyle="--", label="_no skill")
    by_label = dict(thresholds(alarms))
    for number, (label, part) in enumerate(thresholds(hits)):
        x, y = by_label[label].values, part.values
        area = -np.trapezoid(y, x)
        words = f"{label}: area {area:.2f}" if label else f"area {area:.2f}"
        marker = MARKERS[number % len(MARKERS)] if x.size <= 30 else None
        color = COLORS[number % len(COLORS)]
        ax.plot(x, y, color=color, linewidth=1.6, marker=marker, markersize=3.5, label=words)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="false-alarm rate", ylabel="hit rate")
    ax.set_aspect("equal")
    ax.grid(color="0.92", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    return ax
