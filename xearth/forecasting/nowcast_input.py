"""Labeled radar frames as a nowcast network reads them, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.packing import decoded
from ..cf.timeaxis import TimeAxis
from ..data.grid import Grid
from ..errors import AxisError, GridMismatchError, MissingDataError, TimeAxisError
from ..fields.rain import kind_of, rain_rate
from ..units import compatible, convert_array
from .place import spacing

__all__ = ["Frames", "read_frames"]

#: Width of the cells in km, and minutes between frames, that the public radar events have.
WIDTH = 2.0
WIDEST, STEPS = 10.0, (2.0, 20.0)
FEWEST, SMALLEST = 3, 16
_DEGREE = 111.195  # km


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of some starts.

    Parameters
    ----------
    source : DataArray (time, y, x)
        As given, unpacked.
    grid : Grid
    axis : TimeAxis
    positions : array of int (I,)
        Of the starts on the time axis.
    steps : array of int (I, T)
        Of the frames of each start on the time axis; -1 before the record begins.
    width, minutes : float
        Of the cells in km, and between frames.
    factor : int
        Rows and columns that are averaged.
    """

    source: xr.DataArray
    grid: Grid
    axis: TimeAxis
    positions: np.ndarray
    steps: np.ndarray
    width: float
    minutes: float
    factor: int

    @property
    def facts(self) -> tuple[float, float]:
        """Width of the averaged cells in km, and time step in minutes."""
        return self.width * self.factor, self.minutes

    @property
    def keys(self) -> np.ndarray:
        """A non-negative number per start that depends on its time alone."""
        return self.axis.microseconds[self.positions].astype(np.int64) % 2**62

    def rates(self, i: int) -> np.ndarray:
        """Return the rain rates (T, H, W) of a start in mm/h, south and west first, averaged.

        Raises
        ------
        MissingDataError
            A frame has no value at all, or infinite ones.
        """
        steps = self.steps[i]
        there = steps >= 0
        values = self._read(steps[there])
        whole = np.full((len(steps), *values.shape[1:]), np.nan, dtype=np.float32)
        whole[there] = values
        return _averaged(whole, self.factor)

    def hide(self, values: np.ndarray, i: int) -> np.ndarray:
        """Return fields (..., H, W), missing where the last frame of a start is."""
        unseen = np.isnan(self._read(self.positions[i : i + 1])[0])
        return np.where(unseen, np.float32(np.nan), values)

    def fine(self, values: np.ndarray) -> np.ndarray:
        """Return averaged fields (..., h, w) on the cells of the data (..., H, W)."""
        if self.factor == 1:
            return values
        H, W = self.grid.shape
        rows, columns = (
            np.minimum(np.arange(n) // self.factor, -(-n // self.factor) - 1) for n in (H, W)
        )
        return values[..., rows, :][..., columns]

    def _read(self, steps: np.ndarray) -> np.ndarray:
        time = self.grid.axes.time
        some = self.source.isel({time: steps})
        rate = _rates(some)
        values = self.grid.values(rate)[0, ..., 0].astype(np.float32)
        for frame, step in zip(values, steps, strict=True):
            stamp = str(self.axis.values[step])[:16]
            if np.isnan(frame).all():
                raise MissingDataError(
                    f"{self.source.name!r}: the frame {stamp} has no value at all; expected zeros "
                    "where there is no rain. Start elsewhere, or interpolate it: "
                    "xearth.data.sources.radar.fill_gaps."
                )
            if np.isinf(frame).any():
                raise MissingDataError(
                    f"{self.source.name!r}: expected finite values, found infinite ones in the "
                    f"frame {stamp}. Replace them, for example with .where(np.isfinite(da))."
                )
        return np.maximum(values, 0.0)


def read_frames(history: xr.DataArray, init: Any, *, depth: int, name: str) -> Frames:
    """Find the frames of the starts and refuse what cannot be read.

    Parameters
    ----------
    history : DataArray (time, y, x)
        Amounts of rain in each frame become rates.
    init : str, datetime, slice or sequence, optional
    depth : int
        Frames that are looked back on.
    name : str
        Of the forecaster, for messages.

    Raises
    ------
    AxisError, GridMismatchError, TimeAxisError, UnitsError
        As :meth:`xearth.forecasting.nowcast.NowcastForecaster.forecast`.
    """
    source = decoded(history)
    axes = discover(source)
    if source.ndim != 3:
        raise AxisError(
            f"{name} takes frames (time, y, x); {source.name!r} has the dims {source.dims}. Select "
            f"one of {list(axes.other_dims(source))}, for example with isel."
        )
    if kind_of(source) == "amount":
        source = rain_rate(source)  # which takes the time between frames
    _rates(source.isel({axes.time: slice(0, 0)}))
    grid = Grid.from_array(source, axes)
    if min(grid.shape) < SMALLEST:
        raise GridMismatchError(
            f"{name} needs {SMALLEST} rows and columns or more; {source.name!r} has "
            f"{grid.shape}. Give it a larger part of the field."
        )
    width = _width(grid)
    if width > WIDEST:
        raise GridMismatchError(
            f"{name} reads cells of up to {WIDEST:g} km; those of {source.name!r} are {width:.3g} "
            "km wide. Give it the finer product."
        )
    axis = TimeAxis.from_array(source[axes.time])
    minutes = _minutes(axis, source, name)
    positions = axis.select(init)
    steps = _steps(axis, positions, depth, source)
    factor = max(1, round(WIDTH / width))
    return Frames(source, grid, axis, positions, steps, width, minutes, factor)


def _rates(da: xr.DataArray) -> xr.DataArray:
    """Return rain rates in mm/h."""
    units = str(da.attrs.get("units", ""))
    if kind_of(da) is None and units and compatible(units, "mm h-1"):
        return convert_array(da, "mm h-1")
    return rain_rate(da)


def _width(grid: Grid) -> float:
    """Return the width of the cells in km."""
    found = []
    for axis, (step, unit) in enumerate(spacing(grid)):
        if unit == "m":
            found.append(step / 1000)
            continue
        lat = grid.lat
        shrink = 1.0 if axis == 0 or lat is None else float(np.cos(np.deg2rad(np.mean(lat))))
        found.append(step * _DEGREE * shrink)
    return float(np.sqrt(found[0] * found[1]))


def _minutes(axis: TimeAxis, source: xr.DataArray, name: str) -> float:
    seconds = axis.step.seconds if axis.step else None
    if seconds is None or not STEPS[0] <= seconds / 60 <= STEPS[1]:
        raise TimeAxisError(
            f"{name} reads frames {STEPS[0]:g} to {STEPS[1]:g} minutes apart; {source.name!r} has "
            f"the step {axis.step}. Give it the frames as the radars made them."
        )
    return float(seconds) / 60


def _steps(axis: TimeAxis, positions: np.ndarray, depth: int, source: xr.DataArray) -> np.ndarray:
    """Return the positions (I, T) of the frames up to each start, -1 before the record begins."""
    order = np.asarray(axis.order)
    known = axis.ordinals[order]
    wanted = axis.ordinals[positions][:, None] + np.arange(1 - depth, 1)
    place = np.searchsorted(known, wanted).clip(max=known.size - 1)
    lacking = known[place] != wanted
    early = wanted < np.maximum(known[0], 0)
    short = (~early).sum(axis=1) < min(FEWEST, depth)
    if short.any():
        stamp = str(axis.values[positions[short][0]])[:16]
        raise TimeAxisError(
            f"{source.name!r}: the start {stamp} has fewer than {FEWEST} frames up to it. Start "
            "later."
        )
    gap = lacking & ~early
    if gap.any():
        i, j = np.argwhere(gap)[0]
        missing = axis.offset(axis.values[positions[i]], int(j) - depth + 1)
        raise TimeAxisError(
            f"{source.name!r}: the frame {str(missing)[:16]} is missing before the start "
            f"{str(axis.values[positions[i]])[:16]}; expected {depth} frames without a gap. Start "
            "later, or interpolate it: xearth.data.sources.radar.fill_gaps."
        )
    return np.where(early, -1, order[place])


def _averaged(rates: np.ndarray, factor: int) -> np.ndarray:
    """Return means (T, h, w) of the known of factor x factor cells, NaN where less than half."""
    if factor == 1:
        return rates
    T, H, W = rates.shape
    pad = ((0, 0), (0, -H % factor), (0, -W % factor))
    blocks = np.pad(rates, pad, constant_values=np.nan)
    blocks = blocks.reshape(T, blocks.shape[1] // factor, factor, -1, factor)
    count = np.isfinite(blocks).sum(axis=(2, 4))
    total = np.nansum(blocks, axis=(2, 4))
    return np.where(2 * count >= factor**2, total / np.maximum(count, 1), np.nan).astype(np.float32)
