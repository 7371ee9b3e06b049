"""A nowcast, or what was observed, as a moving picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.packing import decoded
from ..errors import AxisError, ConfigError, MissingDependencyError
from .frames import Fields, draw_frame, read_frames, ready, stamp
from .scales import Scale, scale_of
from .strip import scale_bar, title_of, what_of
from .style import axis_label, pyplot

if TYPE_CHECKING:
    from matplotlib.animation import AbstractMovieWriter
    from matplotlib.figure import Figure

__all__ = ["animate"]

DPI = 110


def animate(
    field: Fields,
    path: str | Path,
    *,
    obs: xr.DataArray | None = None,
    init: Any = None,
    scale: Scale | None = None,
    fps: int = 4,
    title: str | None = None,
) -> Path:
    """Write one picture for each lead, what was observed and the forecasts side by side.

    The file is written under a temporary name and takes its own when it is whole.

    Parameters
    ----------
    field : xarray.DataArray or mapping of str to xarray.DataArray
        Forecasts as in :func:`strip`; of an ensemble its mean is shown. Or observed frames
        (time, y, x), a picture for each time.
    path : path
        Ends in .gif, or in .mp4, which needs the program ffmpeg.
    obs : xarray.DataArray, optional
        Frames (time, y, x) on the same cells, shown at the left of the forecasts.
    init, scale, title : optional
        As in :func:`strip`.
    fps : int
        Pictures in a second.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ConfigError
        Another ending, a speed below 1, or `obs` or `init` beside observed frames.
    MissingDependencyError
        If matplotlib or, for .mp4, ffmpeg is not installed.
    AxisError, TimeAxisError, LeadError, GridMismatchError, UnitsError
        As in :func:`strip`.

    Examples
    --------
    >>> import tempfile, xearth
    >>> from pathlib import Path
    >>> from xearth.plotting import animate
    >>> rain = xearth.samples.open("knmi_radar").isel(time=slice(54, 56))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     animate(rain, Path(folder) / "rain.gif").name
    'rain.gif'
    """
    path = Path(path)
    if isinstance(fps, bool) or not isinstance(fps, int) or fps < 1:
        raise ConfigError(f"fps: expected a whole number of pictures a second, found {fps!r}.")
    writer = _writer(path, fps)
    panels, texts, figure = _figure(field, obs, init, scale, title)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with writer.saving(figure, str(partial), DPI):
            for step, text in enumerate(texts):
                for ax, panel in zip(figure.axes, panels, strict=False):
                    ax.collections[0].set_array(np.ma.masked_invalid(panel[step].values))
                if step == 0:
                    # all pictures keep the places of the first
                    figure.canvas.draw()
                    figure.set_layout_engine("none")
                figure.suptitle(text, fontsize=10)
                writer.grab_frame()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        pyplot().close(figure)
    return path


def _writer(path: Path, fps: int) -> AbstractMovieWriter:
    """Return what writes files of this kind."""
    pyplot()
    from matplotlib.animation import FFMpegWriter, PillowWriter

    kind = path.suffix.lower()
    if kind not in (".gif", ".mp4"):
        raise ConfigError(f"{path}: expected a name that ends in .gif or .mp4, found {kind!r}.")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {str(path.parent)!r}; make it first.")
    if kind == ".gif":
        return PillowWriter(fps=fps)
    if not FFMpegWriter.isAvailable():
        raise MissingDependencyError(
            f"{path}: .mp4 is written by the program ffmpeg, which is not on the path; install it, "
            "set matplotlib.rcParams['animation.ffmpeg_path'], or write a .gif"
        )
    return FFMpegWriter(fps=fps)


def _figure(
    field: Fields, obs: xr.DataArray | None, init: Any, scale: Scale | None, title: str | None
) -> tuple[list[xr.DataArray], list[str], Figure]:
    """Return the panels (step, y, x), the text of each step, and the figure at the first step."""
    if isinstance(field, xr.DataArray) and _is_observed(field):
        if obs is not None or init is not None:
            raise ConfigError(
                f"{field.name!r} holds observed frames, which have neither a start nor something "
                "to compare with; leave out obs and init, or give a forecast"
            )
        shown = decoded(field)
        axes, scale = discover(shown), scale_of(shown, scale)
        panels = {"": ready(shown, axes, scale, along=str(axes.time))}
        titles = [stamp(value, day=True) for value in shown[axes.time].values]
        name = axis_label(panels[""])
        heading = name.partition(" (")[0].capitalize() if title is None else title
    else:
        frames = read_frames(field, obs, init=init, scale=scale)
        axes, scale, titles = frames.axes, frames.scale, list(frames.titles)
        panels = {} if frames.observed is None else {"observed": frames.observed}
        for label, one in frames.forecasts.items():
            count = frames.members(one)
            if count is None:
                panels[label] = one
            else:
                mean = one.mean(axes.member, skipna=False, keep_attrs=True)
                panels[f"{label}, mean of {count}"] = mean
        labeled = frames.first.assign_attrs(long_name=what_of(frames))
        name = axis_label(labeled)
        heading = title_of(frames) if title is None else title
    first = next(iter(panels.values()))
    shape = abs(np.ptp(first[axes.y].values) / (np.ptp(first[axes.x].values) or 1.0)) or 1.0
    figure, grid = pyplot().subplots(
        1, len(panels), squeeze=False, sharex=True, sharey=True, layout="compressed",
        figsize=(3.3 * len(panels) + 1.2, 3.3 * min(max(shape, 0.4), 2.5) + 0.9),
    )  # fmt: skip
    for ax, (label, panel) in zip(grid[0], panels.items(), strict=True):
        draw_frame(ax, panel[0], axes, scale, ticks=3)
        ax.set_title(label, fontsize=9)
        ax.label_outer()
    scale_bar(figure, grid, name)
    figure.suptitle(f"{heading}\n{titles[0]}", fontsize=10)
    texts = [f"{heading}\n{text}" for text in titles]
    return list(panels.values()), texts, figure


def _is_observed(field: xr.DataArray) -> bool:
    """Tell frames in time from a forecast."""
    axes = discover(field, require=("y", "x"))
    if axes.lead in field.dims and axes.lead is not None:
        return False
    if axes.time is None or set(field.dims) != {axes.time, axes.y, axes.x}:
        raise AxisError(
            f"{field.name!r}: expected a forecast (init, lead, member, y, x) or frames "
            f"(time, y, x); found the dims {field.dims}. Select one of each other."
        )
    return True
