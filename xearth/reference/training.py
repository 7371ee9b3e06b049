r"""Training data as a matrix of anomalies, and the way from numbers back to labels.

Notation
--------
:math:`X \in \mathbb{R}^{N \times P}` holds one row per step of the time axis (a missing step is a
row of NaN) and one column per cell, whatever dimensions the field has beside time. Its entries
are departures from the *normal* :math:`c`: for an absolute field with monthly (or 3-monthly ...)
steps the mean of each calendar month over the training period, for an anomaly field zero, else
the mean over the training period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..cf.forecast_coords import forecast_coords
from ..cf.packing import decoded
from ..cf.timeaxis import TimeAxis
from ..errors import (
    ConfigError,
    GridMismatchError,
    LeadError,
    MissingDataError,
    TimeAxisError,
    UnitsError,
)
from ..units import convert_array, is_difference

__all__ = [
    "Starts",
    "Training",
    "check_members",
    "check_whole",
    "months_apart",
    "normal_draws",
    "refuse_members",
]

Floats = npt.NDArray[np.float64]

_TIMES = ("time", "forecast_reference_time", "forecast_period", "realization")
_KEPT = ("standard_name", "units", "units_metadata", "cell_methods", "grid_mapping")


@dataclass(frozen=True, eq=False)
class Training:
    """Anomalies of the training period with all that is needed to label a forecast.

    Attributes
    ----------
    time : str
        Name of the time dimension of the training data.
    template : DataArray
        One step of the training data: dimensions, coordinates, attributes.
    axis : TimeAxis
        Of the training data.
    values : ndarray (N, P)
        Anomalies by step; NaN where missing.
    months : ndarray (N,)
        Calendar month 0..11 of each step; zeros where steps are not calendar months.
    normal : ndarray (12, P) or (1, P)
        What the anomalies depart from.
    """

    time: str
    template: xr.DataArray
    axis: TimeAxis
    values: Floats
    months: npt.NDArray[np.int64]
    normal: Floats

    @classmethod
    def of(cls, train: xr.DataArray, *, horizon: int, anomalies: bool = False) -> Training:
        """Read the training data.

        Parameters
        ----------
        train : DataArray
            (time, ...).
        horizon : int
            Number of leads.
        anomalies : bool
            The data are anomalies even where no attribute says so, so nothing is removed.

        Raises
        ------
        AxisError
            No time axis.
        LeadError
            The horizon is not a positive integer.
        TimeAxisError
            Repeated times, or fewer steps than the horizon and one.
        MissingDataError
            No value at all.
        """
        if horizon != int(horizon) or horizon < 1:
            raise LeadError(f"horizon must be a positive number of steps; found {horizon!r}.")
        train = decoded(train)
        time = str(discover(train, require=("time",)).time)
        axis = TimeAxis.from_array(train[time])
        _refuse_repeats(axis, train)
        n_steps = int(axis.ordinals.max()) + 1
        if n_steps <= horizon:
            raise TimeAxisError(
                f"training data {train.name!r} span {n_steps} steps; a horizon of {horizon} needs "
                f"at least {horizon + 1}. Train on more, or shorten the horizon."
            )
        rows = train.transpose(time, ...).values.reshape(len(axis), -1)
        values = np.full((n_steps, rows.shape[1]), np.nan)
        # np.where turns signalling NaN into quiet NaN, which some reductions mistreat
        values[axis.ordinals] = np.where(np.isnan(rows), np.nan, rows)
        if np.isnan(values).all():
            raise MissingDataError(f"training data {train.name!r} hold no value; all are missing.")
        months = _calendar_months(axis)[np.argmin(axis.ordinals)] + np.arange(n_steps) * (
            axis.step.months or 0 if axis.step else 0
        )
        months = months % 12
        if anomalies:
            normal = np.zeros((1, values.shape[1]))
        else:
            normal = _normal(values, months, train, monthly=bool(axis.step and axis.step.months))
        values -= normal[months % len(normal)]
        template = _template(train, time)
        return cls(time, template, axis, values, months, normal)

    @property
    def period(self) -> str:
        """First and last step, "1856-01/1981-12"."""
        stamps = self.axis.values[self.axis.order]
        length = 7 if self.axis.step is None or self.axis.step.months else 16
        return f"{str(stamps[0])[:length]}/{str(stamps[-1])[:length]}"

    @property
    def base(self) -> str:
        """What the anomalies inside the forecaster depart from, in words."""
        if self.normal.any():
            return f"mean of the training period {self.period}"
        return str(self.template.attrs.get("base_period", "that of the training data"))

    def starts(self, history: xr.DataArray, init: Any) -> Starts:
        """Find the starts in a history and check that its labels are those of the training.

        Raises
        ------
        GridMismatchError
            Other dimensions or other coordinate values than the training data.
        TimeAxisError
            Another step, repeated times, or no such start.
        UnitsError
            Units that do not convert to those of the training data.
        """
        history = decoded(history)
        time = str(discover(history, require=("time",)).time)
        history = _match_units(_match_grid(history, self.template, time), self.template)
        axis = TimeAxis.from_array(history[time])
        _refuse_repeats(axis, history)
        if axis.step is None and axis.calendar == self.axis.calendar:
            axis = replace(axis, step=self.axis.step, style=self.axis.style)
        if axis.step != self.axis.step:
            raise TimeAxisError(
                f"history {history.name!r} has the step {axis.step}, the training data had "
                f"{self.axis.step}. Resample the history to that step."
            )
        return Starts(self, history, time, axis, axis.select(init))

    def label(
        self,
        values: Floats,
        starts: Starts,
        *,
        name: str,
        target: str | None = None,
        learned: bool = True,
    ) -> xr.DataArray:
        """Give a forecast its dimensions, coordinates and attributes.

        Parameters
        ----------
        values : ndarray (I, L, P) or (I, L, M, P)
            Forecast values, the normal added.
        starts : Starts
        name : str
            Of the forecaster.
        target : str, optional
            What is forecast where it is not the value at the step itself.
        learned : bool
            If anything but the normal was learned from the training period.
        """
        template = self.template
        members = values.shape[2] if values.ndim == 4 else None
        coords = forecast_coords(starts.axis, starts.positions, values.shape[1], members=members)
        leading = ("init", "lead") if members is None else ("init", "lead", "member")
        attrs = {key: template.attrs[key] for key in _KEPT if key in template.attrs}
        long_name = template.attrs.get("long_name", template.name or "value")
        attrs["long_name"] = f"{long_name}, forecast by {name.replace('_', ' ')}"
        attrs["forecaster"] = name
        if learned:
            attrs["training_period"] = self.period
        attrs["climatology_base"] = self.base
        if self.normal.any():  # in a form that the leak guard reads
            attrs["xearth_climatology_base"] = self.period
        if "base_period" in template.attrs:
            attrs["base_period"] = template.attrs["base_period"]
        target = target or template.attrs.get("target")
        if target is not None:
            attrs["target"] = target
        dtype = template.dtype if template.dtype.kind == "f" else np.dtype(np.float64)
        return xr.DataArray(
            values.reshape(*values.shape[:-1], *template.shape).astype(dtype, copy=False),
            coords={**template.coords, **coords},
            dims=(*leading, *template.dims),
            name=template.name,
            attrs=attrs,
        )


@dataclass(frozen=True, eq=False)
class Starts:
    """The starts asked for, on the time axis of a history.

    Attributes
    ----------
    positions : ndarray (I,)
        Of the last observed step of each start.
    """

    training: Training
    history: xr.DataArray
    time: str
    axis: TimeAxis
    positions: npt.NDArray[np.int64]

    def anomalies(self, depth: int) -> Floats:
        """Return the last ``depth`` steps up to each start as anomalies, (I, depth, P).

        Raises
        ------
        TimeAxisError
            A start has fewer steps without a gap before it.
        """
        order = self.axis.order
        known = self.axis.ordinals[order]
        wanted = self.axis.ordinals[self.positions][:, None] + np.arange(1 - depth, 1)
        place = np.searchsorted(known, wanted).clip(max=known.size - 1)
        lacking = (known[place] != wanted).any(axis=1)
        if lacking.any():
            stamps = [str(v)[:16] for v in self.axis.values[self.positions[lacking]]]
            raise TimeAxisError(
                f"{len(stamps)} of {lacking.size} starts, first {stamps[0]}, have fewer than "
                f"{depth} steps without a gap up to them in {self.history.name!r}. Start later, "
                "or fill the gap."
            )
        rows, back = np.unique(order[place], return_inverse=True)
        block = self.history.isel({self.time: rows}).transpose(self.time, ...)
        values = block.values.reshape(rows.size, -1).astype(np.float64)
        values = np.where(np.isnan(values), np.nan, values)
        normal = self.training.normal
        values -= normal[_calendar_months(self.axis)[rows] % len(normal)]
        return values[back.reshape(wanted.shape)]

    def normals(self, n_leads: int, *, smoothing: int = 1) -> Floats:
        """Return the normal at each valid time, (I, L, P), or its trailing mean."""
        normal, step = self.training.normal, self.axis.step
        stride = step.months or 0 if step else 0
        first = _calendar_months(self.axis)[self.positions]
        months = first[:, None] + stride * np.arange(1, n_leads + 1)
        shifts = [normal[(months - stride * k) % len(normal)] for k in range(smoothing)]
        return np.mean(shifts, axis=0)

    @property
    def months(self) -> npt.NDArray[np.int64]:
        """Calendar month 0..11 of each start; zeros where steps are not calendar months."""
        return _calendar_months(self.axis)[self.positions]

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """Step of each start on the time axis of the training data; may lie beyond it."""
        axis = self.training.axis
        own, first = self.axis.values[self.positions], axis.order[:1]
        if axis.step is not None and axis.step.months is not None:
            months = self.axis.style.calendar.months(own)
            since = months - axis.style.calendar.months(axis.values[first])
            return since // axis.step.months
        since = self.axis.microseconds[self.positions] - axis.microseconds[first]
        length = 1_000_000 * (axis.step.seconds or 1) if axis.step is not None else 1
        return np.rint(since / length).astype(np.int64)

    @property
    def keys(self) -> list[int]:
        """One non-negative number per start that depends on its time alone."""
        stamps: Sequence[int] = self.axis.microseconds[self.positions].tolist()
        return [int(stamp) % 2**63 for stamp in stamps]


def check_whole(**least: tuple[float, int]) -> None:
    """Refuse numbers that are not whole, or below the least, given as name=(number, least).

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> check_whole(neighbors=(20, 1))
    """
    for label, (number, smallest) in least.items():
        if number != int(number) or number < smallest:
            raise ConfigError(f"{label} must be a whole number >= {smallest}; found {number}.")


def check_members(members: int | None) -> None:
    """Refuse a number of members that is no whole number of at least 1, or None.

    Raises
    ------
    LeadError
    """
    if members is not None and (members != int(members) or members < 1):
        raise LeadError(f"A forecast has at least 1 of its members; got {members!r}.")


def refuse_members(members: int | None, name: str, why: str) -> None:
    """Refuse members of a forecaster that has a mean alone.

    Parameters
    ----------
    members : int or None
    name : str
        Of the forecaster.
    why : str
        It has none.

    Raises
    ------
    ConfigError
        If members are asked for; names the way to have some.

    Examples
    --------
    >>> refuse_members(None, "mean of oscillators", "forecasts a mean")
    """
    if members is not None:
        raise ConfigError(
            f"{name} {why}; found members={members!r}. Dress it with the errors of its "
            "cross-validation: Dressed.fit(make, train), where make(years) fits one like it."
        )


def months_apart(months: npt.NDArray[np.int64], month: int) -> npt.NDArray[np.int64]:
    """Calendar months between each of ``months`` and ``month``, the shorter way round: 0 to 6.

    Examples
    --------
    >>> months_apart(np.array([0, 5, 11]), 0).tolist()
    [0, 5, 1]
    """
    return np.abs((months - month + 6) % 12 - 6)


def normal_draws(seed: int, starts: Starts, shape: tuple[int, ...], stream: int = 0) -> Floats:
    """Draw standard normal numbers (I, *shape).

    Those of a start depend on its time, the seed and the stream, not on the other starts.
    """
    return np.stack(
        [np.random.default_rng([seed, key, stream]).standard_normal(shape) for key in starts.keys]
    )


def _template(train: xr.DataArray, time: str) -> xr.DataArray:
    """One step without what belongs to its own time, such as the start of an analysis."""
    stale = [
        name
        for name, coord in train.coords.items()
        if time in coord.dims or (coord.ndim == 0 and coord.attrs.get("standard_name") in _TIMES)
    ]
    return train.isel({time: 0}).drop_vars(stale, errors="ignore")


def _calendar_months(axis: TimeAxis) -> npt.NDArray[np.int64]:
    if axis.step is None or axis.step.months is None:
        return np.zeros(len(axis), dtype=np.int64)
    return axis.style.calendar.months(axis.values) % 12


def _normal(
    values: Floats, months: npt.NDArray[np.int64], train: xr.DataArray, *, monthly: bool
) -> Floats:
    """Return the normal, (12, P) or (1, P)."""
    if is_difference(train.attrs) or "base_period" in train.attrs:
        return np.zeros((1, values.shape[1]))
    kinds = [months == month for month in range(12)] if monthly else [np.ones(len(values), bool)]
    normal = np.full((len(kinds), values.shape[1]), np.nan)
    for row, chosen in zip(normal, kinds, strict=True):
        known = np.isfinite(values[chosen])
        count = known.sum(axis=0)
        total = np.where(known, values[chosen], 0.0).sum(axis=0)
        row[count > 0] = total[count > 0] / count[count > 0]
    return normal


def _refuse_repeats(axis: TimeAxis, da: xr.DataArray) -> None:
    repeated = axis.duplicates
    if repeated:
        raise TimeAxisError(
            f"{da.name!r} has {len(repeated)} repeated times, first {str(repeated[0])[:16]}; "
            f"expected one step per time. Drop them: obj.drop_duplicates({axis.name!r})."
        )


def _match_grid(history: xr.DataArray, template: xr.DataArray, time: str) -> xr.DataArray:
    """Return the history in the order of the template; its labels must be the same."""
    if set(history.dims) - {time} != set(template.dims):
        raise GridMismatchError(
            f"history {history.name!r} has the dims {history.dims}, the training data had "
            f"{(time, *template.dims)}."
        )
    history = history.transpose(time, *template.dims)
    lon = discover(template, require=()).lon
    for dim in template.dims:
        if dim in template.coords and dim in history.coords:
            history = _match_labels(history, template, str(dim), turn=dim == lon)
    if history.shape[1:] != template.shape:
        raise GridMismatchError(
            f"history {history.name!r} has the shape {history.shape[1:]} beside time, the "
            f"training data had {template.shape}."
        )
    return history


def _match_labels(
    history: xr.DataArray, template: xr.DataArray, dim: str, *, turn: bool
) -> xr.DataArray:
    """Put the history in the order of the template along one dimension.

    With ``turn`` the labels are longitudes, equal when they differ by 360 degrees.
    """
    mine, theirs = _rounded(template[dim], turn=turn), _rounded(history[dim], turn=turn)
    order = np.argsort(theirs)
    place = order[np.searchsorted(theirs, mine, sorter=order).clip(max=order.size - 1)]
    if mine.size != theirs.size or not (theirs[place] == mine).all():
        differing = np.setxor1d(mine, theirs)[:4]
        raise GridMismatchError(
            f"history {history.name!r} differs from the training data along {dim!r}: "
            f"{theirs.size} values against {mine.size}, differing for example in "
            f"{differing.tolist()}. Regrid or select the history to the grid of the training data."
        )
    if not np.array_equal(place, np.arange(place.size)):
        history = history.isel({dim: place})
    return history


def _rounded(coord: xr.DataArray, *, turn: bool) -> npt.NDArray[Any]:
    """Labels that can be compared: degrees stored as float32 and float64 are the same."""
    if coord.dtype.kind != "f":
        return coord.values
    values = np.round(coord.values.astype(np.float64), 4)
    return values % 360.0 if turn else values


def _match_units(history: xr.DataArray, template: xr.DataArray) -> xr.DataArray:
    wanted = template.attrs.get("units")
    if wanted is None:
        return history
    if is_difference(history.attrs) != is_difference(template.attrs):
        raise UnitsError(
            f"history {history.name!r} and the training data must both be anomalies or both be "
            f"absolute; found units_metadata {history.attrs.get('units_metadata')!r} and "
            f"{template.attrs.get('units_metadata')!r}. Use xearth.anomaly on the absolute one, or "
            "mark an anomaly as one: attrs['units_metadata'] = 'temperature: difference'."
        )
    return convert_array(history, wanted)
