"""Hindcasts: one forecaster, many starts, nothing computed until asked.

A hindcast is a Dask array with one block for a few starts, which go through a network together.
Each block reads only the steps its own starts need and no block needs another, so a hindcast can
be larger than memory and run on a cluster. :mod:`xearth.forecasting.shipping` says how the
forecaster gets there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.forecast_coords import forecast_coords
from ..cf.timeaxis import TimeAxis
from ..constraints.audit import unaudited_attrs
from ..data.windows import Window
from ..errors import ConfigError, TimeAxisError
from ..verification.leaks.provenance import Provenance
from .adapt import as_history, reader_of
from .asked import checked_members
from .fingerprint import data_identity, fingerprint, identity
from .forecaster import NetworkForecaster, forecast
from .shipping import Saved, resident, saved
from .steering import Asked, Steering

if TYPE_CHECKING:
    from ..reference.protocol import Forecaster

__all__ = ["hindcast"]

BLOCK_BYTES = 128 * 2**20  # of one block, unless a single start is larger
BLOCK_STARTS = 16
SERIES_STARTS = 512  # of index series: many starts cost their forecasters little more than one
_TRAINED_BASE = "mean of the training period "  # as reference forecasters say it


def hindcast(
    history: xr.DataArray | xr.Dataset,
    model: Forecaster | str | Path,
    *,
    init: Any = None,
    members: int | None = None,
    seed: int = 0,
    starts_per_block: int | None = None,
    **asked: Unpack[Asked],
) -> Any:
    """Return the forecasts from many starts, backed by Dask.

    Labels, units and the history of the first start are checked right away, before any long
    work; no network runs until values are asked for. (A forecaster of another kind than those of
    xearth forecasts its first start at once, to show what its forecasts look like.)

    Parameters
    ----------
    history : DataArray or Dataset
        Observed field (time, ...); Dask arrays stay lazy, and each block reads what it needs.
        (A file opened without Dask is read once, a part at a time, to know it again.)
    model : Forecaster, path or str
        A forecaster, the path of a saved one, or the name of a shipped one. With a path or a
        name each worker loads the file itself, so every worker must see it; a forecaster in
        memory is used as it is by threads and sent once to each worker of a cluster. (Dask's
        scheduler ``"processes"`` sends what is in memory with every task: give it a path.)
    init : slice, sequence, str or None
        Starts, each the last observed step. A slice keeps the starts in it whose history is
        complete; by default all such starts.
    members : int, optional
        Size of the ensemble; by default one forecast for each start.
    seed : int
        Of the ensemble. Member k of a start is the same for any number of members, any
        ``starts_per_block`` and whatever other starts there are.
    starts_per_block : int, optional
        Starts of one Dask block; by default 16 (of index series 512), or as many as fit into
        128 MiB.
    constraints, impose : optional
        What each member of each start shall hold, as for :func:`xearth.forecast`. They are checked
        on the first start, which is forecast for this; other starts when they are computed. The
        attributes say what was asked, and that residuals are not computed yet:
        ``xearth.audit(hindcast)`` tells them by start and member, lazily, and
        :func:`xearth.write_hindcast` writes the audit into the attributes.

    Returns
    -------
    DataArray or Dataset
        (init, lead[, member], ...), as ``model.forecast`` gives it. Its attributes say what the
        forecaster has seen (``xearth_training_period`` ...), which one it is (``xearth_model``,
        a fingerprint), the seed, and which history it looks back on (``xearth_data``). Equal
        hindcasts have equal names of their Dask arrays, in any process, so that
        :func:`xearth.write_hindcast` knows them again.

    Raises
    ------
    ConfigError
        If ``starts_per_block`` or ``members`` is not a positive whole number.
    TimeAxisError
        If no start has a complete history.
    ConstraintError
        If no forecast of the first start can hold the constraints, or not in this way.
    XearthError
        As ``model.forecast`` for the first start.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.persistence import Persistence
    >>> sst = samples.open("kaplan_sst")
    >>> model = Persistence.fit(sst.sel(time=slice("1950", "1981")), horizon=3)
    >>> hc = hindcast(sst, model, init=slice("1990-01", "1991-12"))
    >>> hc.dims, hc.sizes["init"], hc.chunks[0]
    (('init', 'lead', 'lat', 'lon'), 24, (16, 8))
    """
    if starts_per_block is not None and (
        starts_per_block != int(starts_per_block) or starts_per_block < 1
    ):
        raise ConfigError(
            f"starts_per_block must be a positive whole number; found {starts_per_block!r}."
        )
    members = checked_members(members)
    carried, forecaster = saved(model) if isinstance(model, str | Path) else (None, model)
    history = as_history(history, forecaster)
    reader = reader_of(forecaster)
    if reader is not None and reader.indices is not None:
        reader.indices.warn_if_unknown(history, reader.name)
    name = str(discover(history, require=("time",)).time)
    axis = TimeAxis.from_array(history[name])
    positions = _starts(axis, forecaster, init)
    steering = Steering.of(forecaster, members, **asked)
    plan = _Plan(history, name, axis, positions, forecaster, members, seed, steering)
    first = plan.outline()
    size = int(starts_per_block or _starts_that_fit(first))
    return plan.hindcast(first, size, forecaster if carried is None else carried)


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """Which starts, from which history, by which forecaster."""

    history: xr.DataArray | xr.Dataset
    time: str
    axis: TimeAxis
    positions: np.ndarray
    forecaster: Any
    members: int | None
    seed: int
    steering: Steering | None

    def needed(self, chosen: np.ndarray) -> Any:
        """Return the steps that some starts look back on, lazily."""
        return self.history.isel({self.time: _steps(self.axis, chosen, self.forecaster.history)})

    def outline(self) -> Any:
        """Return the first forecast, of networks without values."""
        past, start = self.needed(self.positions[:1]), self.axis.values[self.positions[0]]
        if self.steering is not None:
            asked = {"init": start, "members": 1, "seed": self.seed}
            self.steering.require(self.forecaster.forecast(past, **asked))
        if isinstance(self.forecaster, NetworkForecaster):
            return self.forecaster.outline(past, init=start, members=self.members)
        return self.forecaster.forecast(past, init=start, members=self.members, seed=self.seed)

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Return the positions of the starts of each block."""
        for begin in range(0, self.positions.size, size):
            yield self.positions[begin : begin + size]

    def hindcast(self, first: Any, size: int, model: Saved | Any) -> Any:
        """Return the labeled lazy forecasts, ``size`` starts in a block."""
        import dask

        data = self.data()
        starts = self.axis.values[self.positions]
        asked = [identity(self.forecaster), data, starts, self.members, self.seed, size]
        if self.steering is not None:
            asked += [[c.to_json() for c in self.steering.constraints], self.steering.way]
        key = f"hindcast-{identity(asked)}"
        shared = model if isinstance(model, Saved) else dask.delayed(model, traverse=False)
        variables = _variables(first)
        columns: list[list[Any]] = [[] for _ in variables]
        for number, chosen in enumerate(self.blocks(size)):
            made = dask.delayed(_block, nout=len(variables))(
                shared, self.needed(chosen), self.axis.values[chosen], members=self.members,
                seed=self.seed, steering=self.steering, dask_key_name=f"{key}-{number}",
            )  # fmt: skip
            for column, variable, part in zip(columns, variables, made, strict=True):
                column.append((part, (chosen.size, *variable.shape[1:])))
        fields = {
            variable.name: self._labeled(variable, column, data)
            for variable, column in zip(variables, columns, strict=True)
        }
        if isinstance(first, xr.DataArray):
            return next(iter(fields.values()))
        return xr.Dataset(fields, attrs=first.attrs)

    def data(self) -> str:
        """Return what tells the history of all starts apart."""
        steps = _steps(self.axis, self.positions, self.forecaster.history)
        whole = steps.size == steps[-1] - steps[0] + 1
        chosen = slice(int(steps[0]), int(steps[-1]) + 1) if whole else steps
        return data_identity(self.history.isel({self.time: chosen}))

    def _labeled(self, first: xr.DataArray, column: list[Any], told: str) -> xr.DataArray:
        import dask.array as da

        data = da.concatenate([da.from_delayed(p, shape, dtype=first.dtype) for p, shape in column])
        leads = first.sizes["lead"]
        coords = forecast_coords(self.axis, self.positions, leads, members=self.members)
        kept = {key: coord for key, coord in first.coords.items() if "init" not in coord.dims}
        kept.update({key: coord for key, coord in coords.items() if key not in kept})
        attrs = {key: value for key, value in first.attrs.items() if key != "history"}
        attrs |= _seen(self.forecaster, attrs).to_attrs()
        attrs |= {
            "xearth_model": fingerprint(self.forecaster),
            "xearth_seed": int(self.seed),
            "xearth_data": told,
        }
        if self.steering is not None:
            attrs |= {"xearth_imposed": self.steering.way}
            attrs |= unaudited_attrs(self.steering.constraints)
        return xr.DataArray(data, coords=kept, dims=first.dims, name=first.name, attrs=attrs)


def _block(
    model: Saved | Any,
    history: Any,
    init: np.ndarray,
    *,
    members: int | None,
    seed: int,
    steering: Steering | None,
) -> tuple[np.ndarray, ...]:
    """Forecast the starts of one block; runs on a worker."""
    # a new view: what a file-backed history reads is not kept by the graph
    past = history.isel({dim: slice(None) for dim in history.dims})
    asked: dict[str, Any] = {"init": init, "members": members, "seed": seed}
    if steering is None:
        made = resident(model).forecast(past, **asked)
    else:
        asked |= {"constraints": steering.constraints, "impose": steering.way}
        made = forecast(past, resident(model), **asked)
    return tuple(variable.values for variable in _variables(made))


def _variables(made: Any) -> tuple[xr.DataArray, ...]:
    return (made,) if isinstance(made, xr.DataArray) else tuple(made.data_vars.values())


def _starts_that_fit(first: Any) -> int:
    """Return how many starts make a block."""
    variables = _variables(first)
    one = sum(variable.nbytes for variable in variables)
    series = all(set(variable.dims) <= {"init", "lead", "member"} for variable in variables)
    most = SERIES_STARTS if series else BLOCK_STARTS
    return int(np.clip(BLOCK_BYTES // max(one, 1), 1, most))


def _seen(forecaster: Any, attrs: dict[str, Any]) -> Provenance:
    """Return what a forecaster has seen, as far as it says so."""
    told = Provenance.from_attrs({**attrs, **getattr(forecaster, "provenance", {})})
    training = told.training_period
    found: dict[str, Any] = {"history": forecaster.history, "horizon": forecaster.horizon}
    if isinstance(forecaster, NetworkForecaster):
        found["normalization_period"] = told.normalization_period or training
        if forecaster.width != 1.0:  # chosen where the epochs were
            found["calibration_period"] = told.calibration_period or told.validation_period
    base = str(attrs.get("climatology_base", ""))
    if told.climatology_base is None and base.startswith(_TRAINED_BASE):
        found["climatology_base"] = base.removeprefix(_TRAINED_BASE)
    return dataclasses.replace(told, **found)


def _starts(axis: TimeAxis, forecaster: Forecaster, init: Any) -> np.ndarray:
    """Return the positions of the starts; of a slice, those with a complete history."""
    if init is not None and not isinstance(init, slice):
        return axis.select(init)
    complete = Window(forecaster.history, 0).history_starts(axis)
    if init is None:
        return complete
    chosen = np.intersect1d(axis.select(init), complete, assume_unique=True)
    if chosen.size == 0:
        raise TimeAxisError(
            f"no start in {init} has the {forecaster.history} steps of history that "
            f"{forecaster.name!r} needs; complete histories end between "
            f"{axis.values[complete[0]]} and {axis.values[complete[-1]]}."
        )
    return chosen[np.argsort(axis.ordinals[chosen], kind="stable")]


def _steps(axis: TimeAxis, chosen: np.ndarray, history: int) -> np.ndarray:
    """Return, in stored order, the positions of all steps that the chosen starts look back on."""
    order = np.asarray(axis.order)
    ranks = np.empty(len(axis.values), dtype=np.int64)
    ranks[order] = np.arange(order.size)
    # One more step than needed keeps the step of the axis known for a history of one.
    back = np.arange(-max(history - 1, 1), 1)
    looked_at = np.unique(np.clip(ranks[chosen][:, None] + back, 0, order.size - 1))
    return np.sort(order[looked_at])
