"""A nowcast as a strip: leads from left to right, what was observed above what was forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..errors import ConfigError
from ..verification.thresholds import read_thresholds
from .frames import Fields, Frames, draw_frame, read_frames
from .scales import PROBABILITY, Scale
from .style import axis_label, pyplot
from .tables import axis_label_units

if TYPE_CHECKING:
    from matplotlib.axes import Axes as MplAxes
    from matplotlib.figure import Figure

__all__ = ["scale_bar", "strip", "title_of", "what_of"]

#: Columns where no leads are asked for.
COLUMNS = 6


@dataclass(frozen=True)
class Row:
    """A row: its label and its frames (lead, y, x), in the units of the colors."""

    label: str
    frames: xr.DataArray
    scale: Scale


def strip(
    forecast: Fields,
    obs: xr.DataArray | None = None,
    *,
    init: Any = None,
    leads: Sequence[int] | None = None,
    members: int = 2,
    exceeding: Any = None,
    scale: Scale | None = None,
    title: str | None = None,
) -> Figure:
    """Draw frames by lead in rows: observed, forecasts, members, probability of exceeding.

    A single forecast has one row. An ensemble has its mean, some members, and the share of its
    members at or above a threshold, in %. Cells without data (of any member, for the mean and the
    share) are gray, cells without rain white; projected axes are in km.

    Parameters
    ----------
    forecast : xarray.DataArray or mapping of str to xarray.DataArray
        ([init,] lead, [member,] y, x): rain rate, reflectivity, vertically integrated liquid, or
        what `scale` says. Several by name share rows of leads, cells and colors.
    obs : xarray.DataArray, optional
        Frames (time, y, x) on the same cells; those at the valid times are the first row.
    init : str or datetime, optional
        The start to draw, where there are several.
    leads : sequence of int, optional
        Columns, in the units of the ``lead`` coordinate. Default: up to six, evenly spread.
    members : int
        How many members of an ensemble are drawn; the first ones.
    exceeding : str, quantity, or a sequence of them, optional
        Thresholds with units, such as "5 mm/h". Default: one of the scale, 1 mm/h of rain; an
        empty list for none.
    scale : Scale, optional
        Colors and boundaries. Default: by the names and units of the forecast.
    title : str, optional
        Title of the figure. Default: what is drawn, and the start.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    AxisError
        Dimensions are missing or too many, or several starts and no `init`.
    TimeAxisError
        There is no such start, or forecasts have different ones.
    LeadError
        There is no such lead, or forecasts hold different ones.
    GridMismatchError
        Forecasts or observations are on different cells.
    UnitsError
        Units do not convert to those of the colors: reflectivity beside rain rate, say.
    ConfigError
        No colors are known for the field; a threshold is asked for and nothing has members; a
        negative number of members.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import xearth
    >>> from xearth.plotting import strip
    >>> rain = xearth.samples.open("knmi_radar")
    >>> model = xearth.Persistence.fit(rain, horizon=6)
    >>> fc = model.forecast(rain, init="2010-08-26T04:30")
    >>> figure = strip(fc, rain, leads=[15, 30])
    >>> [ax.get_title() for ax in figure.axes[:2]]
    ['15 minutes, 04:45', '30 minutes, 05:00']
    """
    if isinstance(members, bool) or not isinstance(members, int | np.integer) or members < 0:
        raise ConfigError(f"members: expected how many to draw, 0 or more; found {members!r}.")
    frames = read_frames(forecast, obs, init=init, leads=leads, scale=scale)
    if leads is None:
        frames = _spread(frames)
    rows = _rows(frames, int(members), exceeding)
    figure, grid = _canvas(rows, frames)
    for line, row in zip(grid, rows, strict=True):
        for ax, frame in zip(line, row.frames, strict=True):
            draw_frame(ax, frame, frames.axes, row.scale)
            if not np.isfinite(frame.values).any():
                ax.text(
                    0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center",
                    fontsize=8, color="0.3",
                )  # fmt: skip
    _label(figure, grid, rows, frames)
    _bars(figure, grid, rows, frames)
    figure.suptitle(title_of(frames) if title is None else title, fontsize=11)
    return figure


def _spread(frames: Frames) -> Frames:
    """Keep up to six leads, from the first to the last."""
    n, lead = len(frames.titles), frames.axes.lead
    kept = np.unique(np.linspace(0, n - 1, min(COLUMNS, n)).round().astype(int))
    return replace(
        frames,
        forecasts={name: one.isel({lead: kept}) for name, one in frames.forecasts.items()},
        observed=None if frames.observed is None else frames.observed.isel({lead: kept}),
        titles=tuple(frames.titles[i] for i in kept),
    )


def _rows(frames: Frames, members: int, exceeding: Any) -> list[Row]:
    """Return all rows from top to bottom."""
    rows = [] if frames.observed is None else [Row("observed", frames.observed, frames.scale)]
    ensembles = [one for one in frames.forecasts.values() if frames.members(one) is not None]
    none = exceeding is not None and not isinstance(exceeding, str) and np.size(exceeding) == 0
    if exceeding is not None and not none and not ensembles:
        raise ConfigError(
            f"exceeding={exceeding!r} asks for a probability, but {list(frames.forecasts)} have no "
            "members; leave it out, or forecast with members=..."
        )
    several = len(frames.forecasts) > 1
    chances: list[Row] = []
    for name, one in frames.forecasts.items():
        count, member = frames.members(one), frames.axes.member
        if count is None:
            rows.append(Row(name, one, frames.scale))
            continue
        mean = one.mean(member, skipna=False, keep_attrs=True)
        rows.append(Row(f"{name},\nmean of {count}", mean, frames.scale))
        for i in range(min(members, count)):
            drawn = one.isel({member: i})
            label = f"member {drawn[member].item()}" if member in drawn.coords else f"member {i}"
            rows.append(Row(f"{name},\n{label}" if several else label, drawn, frames.scale))
        if not none:
            chances += _chances(one, frames, exceeding, f"{name},\n" if several else "")
    return rows + chances


def _chances(one: xr.DataArray, frames: Frames, exceeding: Any, prefix: str) -> list[Row]:
    """Return the share of members at or above each threshold, in %."""
    if exceeding is None:
        if frames.scale.event is None:
            return []
        exceeding = xr.DataArray(frames.scale.event, attrs={"units": frames.scale.units})
    found = read_thresholds(exceeding, one)
    member = frames.axes.member
    seen = one.notnull().all(member)
    unit = "" if frames.scale.units == "1" else f" {axis_label_units(frames.scale.units)}"
    rows = []
    for value in found.values:
        share = 100.0 * (one >= value).mean(member).where(seen)
        rows.append(Row(f"{prefix}P(≥ {value:.3g}{unit})", share, PROBABILITY))
    return rows


def _canvas(rows: list[Row], frames: Frames) -> tuple[Figure, np.ndarray]:
    """Return a figure whose panels have about the shape of the field."""
    plt = pyplot()
    y, x = (frames.first[dim].values.astype(float) for dim in (frames.axes.y, frames.axes.x))
    shape = abs(np.ptp(y) / np.ptp(x)) if np.ptp(x) and np.ptp(y) else 1.0
    wide = 1.75
    tall = wide * min(max(shape, 0.4), 2.5)
    columns = len(frames.titles)
    figure, grid = plt.subplots(
        len(rows), columns, squeeze=False, sharex=True, sharey=True, layout="compressed",
        figsize=(wide * columns + 1.7, tall * len(rows) + 1.1),
    )  # fmt: skip
    # numbers at the edges of neighbors stay apart
    figure.set_layout_engine("compressed", wspace=0.05)
    return figure, grid


def _label(figure: Figure, grid: np.ndarray, rows: list[Row], frames: Frames) -> None:
    """Write leads above, rows at the left, and the axes once."""
    corner: MplAxes = grid[-1, 0]
    below, beside = corner.get_xlabel(), corner.get_ylabel()
    for ax in grid.flat:
        ax.set(xlabel="", ylabel="")
        ax.label_outer()
    for ax, title in zip(grid[0], frames.titles, strict=True):
        ax.set_title(title, fontsize=8)
    for ax, row in zip(grid[:, 0], rows, strict=True):
        ax.set_ylabel(row.label, fontsize=8, fontweight="bold")
    if below:
        figure.supxlabel(below, fontsize=8)
    if beside:
        figure.supylabel(beside, fontsize=8)


def _bars(figure: Figure, grid: np.ndarray, rows: list[Row], frames: Frames) -> None:
    """Draw a color bar beside the fields and one beside the probabilities."""
    fields = sum(row.scale is not PROBABILITY for row in rows)
    field = frames.first.assign_attrs(units=frames.scale.units)
    field.attrs["long_name"] = what_of(frames)
    for part, label in ((grid[:fields], axis_label(field)), (grid[fields:], "probability (%)")):
        if part.size:
            scale_bar(figure, part, label, explained=part[-1, 0] is grid[-1, 0])


def scale_bar(figure: Figure, part: np.ndarray, label: str, *, explained: bool = True) -> None:
    """Draw the color bar of some panels at their right; explain white and gray below it."""
    bar = figure.colorbar(
        part[0, 0].collections[0], ax=part.ravel().tolist(), extend="max", pad=0.01,
        aspect=14 * len(part), shrink=0.95, spacing="uniform",
        format=lambda value, _=None: f"{value:.2g}" if value < 10 else f"{value:.0f}",
    )  # fmt: skip
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if explained:
        bar.ax.set_xlabel("white: less\ngray: no data", fontsize=6.5, color="0.3", loc="left")


def what_of(frames: Frames) -> str:
    """Return the name of the field, without what forecast it."""
    name = str(frames.first.attrs.get("long_name") or frames.first.name or "field")
    return name.partition(",")[0]


def title_of(frames: Frames) -> str:
    """Return "Rain rate from 2010-08-26 04:30"."""
    what = what_of(frames).replace("_", " ")
    what = what[:1].upper() + what[1:]
    return f"{what} from {frames.start}" if frames.start else what
