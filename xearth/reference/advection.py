r"""Advection: the last frame, carried along the motion of the last few.

The extrapolation of :mod:`~xearth.reference.flow`, labeled. What is carried is the field in its
own units. What its motion is found from is

.. math:: s = \begin{cases} 5 + 10 \log_{10} (x / x_0) & x \ge x_0 \\ 0 & x < x_0 \end{cases}

with the threshold :math:`x_0` (of a reflectivity :math:`5 + x - x_0`), so that weak rain, of which
there is much, counts as well as strong.

Rain neither grows nor decays, and what arrives from beyond the edge is not known: such cells are
missing, as are those whose air comes from where the radars do not see, and those that the radars
do not see in any frame of the history.

Source: Germann, U. and I. Zawadzki (2002): Scale-dependence of the predictability of precipitation
from continental radar images, part I. *Mon. Wea. Rev.* 130, 2859-2873.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from ..cf.discover import Axes, discover
from ..cf.packing import decoded
from ..cf.timeaxis import TimeAxis
from ..errors import AxisError, ConfigError, GridMismatchError, MissingDataError, UnitsError
from ..units import compatible, convert
from ..verification.thresholds import read_thresholds
from .flow import Floats, displacements, motion, warp
from .training import Starts, Training, check_whole

__all__ = ["Advection"]

_DBZ = "dBZ"
#: Thresholds by the units they convert to.
DEFAULTS = ("0.1 mm h-1", "0.1 kg m-2 h-1", "8 dBZ")
#: Signal of a value at the threshold, in decibels; below it is zero.
STEP = 5.0
SMALLEST = 8


@dataclass(frozen=True)
class Advection:
    """Extrapolation of frames along their own motion.

    Parameters
    ----------
    horizon : int
        Number of leads.
    history : int
        Number of frames that the motion is found from, at least 2.
    threshold : str, optional
        What is less does not count as a pattern, with its unit; by default 0.1 mm/h of a rain rate
        and 8 dBZ of a reflectivity.
    window : float
        Standard deviation, in cells, of the window in which the motion is the same.
    stiffness : float
        How much a cell follows the motion of all cells together; positive.

    Raises
    ------
    ConfigError
        ``horizon`` below 1, ``history`` below 2, a window or stiffness that is not positive.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> rain = samples.open("knmi_radar")
    >>> fc = Advection(horizon=12).forecast(rain, init="2010-08-26T04:30")
    >>> dict(fc.sizes), fc.units, fc.lead.units
    ({'init': 1, 'lead': 12, 'y': 208, 'x': 209}, 'mm h-1', 'minutes')
    """

    horizon: int
    history: int = 3
    threshold: str | None = None
    window: float = 8.0
    stiffness: float = 0.1
    name: ClassVar[str] = "advection"

    def __post_init__(self) -> None:
        check_whole(horizon=(self.horizon, 1), history=(self.history, 2))
        for label in ("window", "stiffness"):
            if not 0 < getattr(self, label) < np.inf:
                raise ConfigError(f"{label} must be positive; found {getattr(self, label)!r}.")

    def forecast(
        self, history: xr.DataArray, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.DataArray:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`.

        Parameters
        ----------
        history : DataArray (time, y, x)
            Rain rates, reflectivities, or with ``threshold`` any field of positive values.
        init, members, seed
            As there; there are no members.

        Returns
        -------
        DataArray (init, lead, y, x)
            In the units and on the grid of the history, with its projection.

        Raises
        ------
        ConfigError
            Members are asked for.
        AxisError
            The frames have dimensions beside rows and columns.
        GridMismatchError
            Fewer than 8 rows or columns.
        TimeAxisError
            A start has fewer steps without a gap up to it, or does not exist.
        MissingDataError
            A frame has no value at all.
        UnitsError
            The units of the threshold do not convert to those of the history.
        """
        if members is not None:
            raise ConfigError(
                f"{self.name} makes one forecast; found members={members!r}. Leave members out."
            )
        starts, _ = self._starts(history, init)
        values = []
        for frames in self._frames(starts):
            d = displacements(self._motion(frames, starts), self.horizon)
            seen = np.isfinite(frames).any(axis=0)
            values.append(np.where(seen, warp(frames[-1], d), np.nan))
        flat = np.stack(values).reshape(len(values), self.horizon, -1)
        made = starts.training.label(flat, starts, name=self.name, learned=False)
        # nothing was taken off
        made.attrs.pop("climatology_base", None)
        kept = {k: history.attrs[k] for k in ("zr_a", "zr_b", "no_echo") if k in history.attrs}
        return made.assign_attrs(kept)

    def motion(self, history: xr.DataArray, *, init: Any = None) -> xr.Dataset:
        """Return the motion that the forecast from each start follows.

        Parameters
        ----------
        history, init
            As in :meth:`forecast`.

        Returns
        -------
        Dataset
            ``x_motion`` and ``y_motion`` (init, y, x), along the coordinates x and y: in m s-1
            where these are lengths, in their units per second where they are not.

        Examples
        --------
        >>> from xearth.data.sources import samples
        >>> rain = samples.open("knmi_radar")
        >>> v = Advection(horizon=1).motion(rain, init="2010-08-26T04:30")
        >>> v.x_motion.units, bool(v.x_motion.mean() > 0)
        ('m s-1', True)
        """
        starts, axes = self._starts(history, init)
        template = starts.training.template
        seconds = starts.axis.step.seconds if starts.axis.step else None
        if seconds is None:
            raise AxisError(
                f"{history.name!r}: a speed needs steps of a fixed length; found "
                f"{starts.axis.step}."
            )
        found = np.stack([self._motion(frames, starts) for frames in self._frames(starts)])
        coords = {k: c for k, c in template.coords.items() if set(c.dims) <= set(template.dims)}
        init_of = ("init", starts.axis.values[starts.positions], {
            "standard_name": "forecast_reference_time"})  # fmt: skip
        variables = {}
        for dim, values in zip(template.dims, np.moveaxis(found, -1, 0), strict=True):
            spacing, unit = _spacing(template[dim])
            attrs = {"long_name": f"motion along {dim}", "units": unit}
            if "grid_mapping" in template.attrs:
                attrs["grid_mapping"] = template.attrs["grid_mapping"]
            name = "y_motion" if dim == axes.y else "x_motion"
            variables[name] = (("init", *template.dims), values * spacing / seconds, attrs)
        return xr.Dataset(variables, {**coords, "init": init_of})

    def _starts(self, history: xr.DataArray, init: Any) -> tuple[Starts, Axes]:
        """Find the starts and refuse what cannot be followed."""
        history = decoded(history)
        axes = discover(history)
        others = axes.other_dims(history)
        if history.ndim != 3:
            raise AxisError(
                f"{self.name} takes frames (time, y, x); {history.name!r} has the dims "
                f"{history.dims}. Select one of {list(others)}, for example with isel."
            )
        stale = [name for name, coord in history.coords.items() if axes.time in coord.dims]
        template = history.isel({axes.time: 0}).drop_vars(stale)
        if min(template.shape) < SMALLEST:
            raise GridMismatchError(
                f"{self.name} needs {SMALLEST} rows and columns or more; {history.name!r} has "
                f"{template.shape}. Give it a larger part of the field."
            )
        axis = TimeAxis.from_array(history[axes.time])
        cells = template.size
        nothing = np.empty((0, cells)), np.zeros(0, dtype=np.int64), np.zeros((1, cells))
        training = Training(str(axes.time), template, axis, *nothing)
        return training.starts(history, init), axes

    def _frames(self, starts: Starts) -> Floats:
        """Return the frames up to each start, (I, T, *grid)."""
        flat: Floats = starts.anomalies(self.history)
        empty = ~np.isfinite(flat).any(axis=-1)
        if empty.any():
            first = starts.axis.values[starts.positions[np.nonzero(empty)[0][0]]]
            raise MissingDataError(
                f"{starts.history.name!r}: a frame without any value among the {self.history} up "
                f"to {str(first)[:16]}; expected zeros where there is no rain. Start elsewhere, or "
                "interpolate it: xearth.data.sources.radar.fill_gaps."
            )
        return flat.reshape(*flat.shape[:2], *starts.training.template.shape)

    def _motion(self, frames: Floats, starts: Starts) -> Floats:
        template = starts.training.template
        units = str(template.attrs.get("units", "1"))
        limit = _threshold(self.threshold, template, units)
        return motion(
            _signal(frames, limit, logarithmic=compatible(units, _DBZ)),
            window=self.window,
            stiffness=self.stiffness,
        )


def _threshold(asked: str | None, template: xr.DataArray, units: str) -> float:
    """Return the threshold in the units of the field."""
    if asked is None:
        fitting = [text for text in DEFAULTS if compatible(text.split(maxsplit=1)[1], units)]
        if not fitting:
            raise UnitsError(
                f"{template.name!r} has the units {units!r}: neither a rain rate nor a "
                "reflectivity. Say what counts as a pattern, for example "
                "Advection(horizon=12, threshold='0.5 kg m-2')."
            )
        asked = fitting[0]
    limit = read_thresholds(asked, template).values[0]
    if limit <= 0 and not compatible(units, _DBZ):
        raise ConfigError(f"threshold must be positive; found {asked!r}.")
    return limit


def _signal(frames: Floats, limit: float, *, logarithmic: bool) -> Floats:
    """Return decibels above the threshold, NaN where missing."""
    top = np.maximum(frames, limit)
    above = top - limit if logarithmic else 10.0 * np.log10(top / limit)
    return np.where(np.isnan(frames), np.nan, np.where(frames >= limit, STEP + above, 0.0))


def _spacing(coord: xr.DataArray) -> tuple[float, str]:
    """Return the step of a coordinate and the unit of a speed along it."""
    values = coord.values.astype(np.float64)
    step, units = float(np.mean(np.diff(values))), str(coord.attrs.get("units", "1"))
    if compatible(units, "m"):
        return float(convert(step, units, "m")), "m s-1"
    return step, "s-1" if units == "1" else f"{units} s-1"
