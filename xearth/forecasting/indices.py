r"""Index series that a forecaster reads beside its fields, and does not forecast.

A Dataset may hold, with fields (time, y, x), series along time alone: the warm water volume
beside the sea-surface temperature. :func:`xearth.fit` gives each series :math:`v_t` two input
channels, the same in all cells,

.. math:: a_t = m_t \, \frac{v_t - c}{s}, \qquad
          m_t = \begin{cases} 1 & v_t \text{ is known} \\ 0 & \text{else,} \end{cases}

with center :math:`c` and scale :math:`s` of the training period. Where nothing was measured both
are 0, whatever the data hold there: a network can tell "not known" from "average", and a record
that begins late needs no invented values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..cf.packing import decoded, fill_values
from ..cf.timeaxis import TimeAxis
from ..data.layout import channels
from ..data.masks import valid_mask
from ..data.normalize import Normalizer
from ..errors import AxisError, MissingDataError, MissingDataWarning, TimeAxisError, warn

__all__ = ["Beside", "Indices", "fields_of", "series_in", "with_indices"]

CHANNELS = 2  # of each series: value, and whether it is known


def series_in(data: xr.DataArray | xr.Dataset) -> tuple[str, ...]:
    """Return the names of the series along time alone that lie beside fields.

    Examples
    --------
    >>> import xearth
    >>> sst = xearth.samples.open("kaplan_sst")
    >>> series_in(with_indices(sst, xearth.samples.open("xro_indices").WWV)), series_in(sst)
    (('WWV',), ())
    """
    if isinstance(data, xr.DataArray):
        return ()
    axes = discover(data)
    found = channels(data, axes)
    return tuple(str(channel.name) for channel in found if channel.dims == (axes.time,))


def fields_of(data: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """Return data without the series beside the fields."""
    names = series_in(data)
    return data.drop_vars(names) if names and isinstance(data, xr.Dataset) else data


@dataclass(frozen=True)
class Indices:
    """Which series are read, in which units, with the statistics of the training period.

    Parameters
    ----------
    normalizer : Normalizer
    """

    normalizer: Normalizer

    @classmethod
    def fit(cls, teaching: xr.DataArray | xr.Dataset, *, kind: str = "standard") -> Indices | None:
        """Return the statistics of the series of a training period; None if there are no series.

        Raises
        ------
        MissingDataError
            A series that is nowhere known in the training period, or infinite.
        """
        names = series_in(teaching)
        if not names or isinstance(teaching, xr.DataArray):
            return None
        for name in names:
            if not _known(teaching[name]).any():
                raise MissingDataError(
                    f"index {name!r}: expected values in the training period, found none in its "
                    f"{teaching[name].size} steps: nothing can be learned from it. Leave it out, "
                    "or train on later years; if its stamps differ from those of the fields, join "
                    "them with xearth.with_indices(fields, series)."
                )
        each = [Normalizer.fit(teaching[name], kind=kind) for name in names]
        parts = ("variables", "center", "scale", "units", "difference")
        whole: Any = {part: tuple(getattr(one, part)[0] for one in each) for part in parts}
        return cls(Normalizer(kind=kind, **whole))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the series."""
        return self.normalizer.variables

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return CHANNELS * len(self.names)

    def beside(self, data: xr.DataArray | xr.Dataset, axis: TimeAxis, *, reader: str) -> Beside:
        """Return the series of some data as channels; only attributes are read.

        Parameters
        ----------
        data : Dataset
        axis : TimeAxis
            Of the data.
        reader : str
            Name of the forecaster, for messages.

        Raises
        ------
        MissingDataError
            A series is not there.
        AxisError
            A series has other dims than time.
        UnitsError
            Units that do not convert.
        """
        held = list(data.data_vars) if isinstance(data, xr.Dataset) else [data.name]
        absent = [name for name in self.names if isinstance(data, xr.DataArray) or name not in data]
        if absent:
            raise MissingDataError(
                f"{reader!r} reads {', '.join(self.names)} beside the fields; found a "
                f"{type(data).__name__} of {held} without {absent}. Put them into one Dataset: "
                "xearth.with_indices(fields, series). What is not measured may be missing (NaN)."
            )
        for name in self.names:
            if data[name].dims != (axis.name,):
                raise AxisError(
                    f"index {name!r}: expected a series with the dim ({axis.name!r},), found "
                    f"{data[name].dims}. Select one entry of each other dim."
                )
        series = [data[name] for name in self.names]
        return Beside(series, self.normalizer.affine(data), np.asarray(axis.order))

    def kept(self, data: xr.DataArray | xr.Dataset, fields: Any) -> Any:
        """Return ``fields``, made of ``data``, with the series of ``data`` beside them."""
        if not isinstance(data, xr.Dataset) or not isinstance(fields, xr.Dataset):
            return fields
        return fields.assign({name: data[name] for name in self.names if name in data})

    def warn_if_unknown(self, data: xr.DataArray | xr.Dataset, reader: str) -> None:
        """Tell of series in memory that hold no value in the whole of the data."""
        for name in self.names:
            lazy = isinstance(data, xr.DataArray) or name not in data or data[name].chunks
            if not lazy and not _known(data[name]).any():
                warn(
                    f"index {name!r}: no value in all of the data, so {reader!r} forecasts without "
                    "it. If its stamps differ from those of the fields, join them with "
                    "xearth.with_indices(fields, series).",
                    MissingDataWarning,
                )

    def told(self, teaching: xr.DataArray | xr.Dataset) -> dict[str, Any]:
        """Return what was known of each series in the training period, as plain values."""
        found = {}
        for name, unit in zip(self.names, self.normalizer.units, strict=True):
            attrs: Mapping[Any, Any] = teaching[name].attrs
            found[name] = {
                "units": unit,
                "known_training_steps": int(_known(teaching[name]).sum()),
                "base_period": str(attrs.get("base_period", "")),
            }
        return found


class Beside:
    """Series as channels of the steps of a time axis; their values are read when asked for.

    Parameters
    ----------
    series : list of DataArray (time,)
    affine : (array (K,), array (K,))
        Scale and offset to normalized values.
    order : array of int
        Positions in the order of time.
    """

    def __init__(
        self,
        series: list[xr.DataArray],
        affine: tuple[npt.NDArray[Any], npt.NDArray[Any]],
        order: npt.NDArray[Any],
    ) -> None:
        self._series, self._affine, self._order = series, affine, order

    @cached_property
    def table(self) -> npt.NDArray[np.float32]:
        """Values and masks (steps in the order of time, 2 K), float32.

        Raises
        ------
        MissingDataError
            An infinite value.
        """
        columns = []
        for variable, a, b in zip(self._series, *self._affine, strict=True):
            values = np.asarray(variable.values)[self._order]
            known = valid_mask(values, fill_values(variable.attrs))
            normal = np.where(known, values.astype(np.float64) * a + b, 0.0)
            if not np.isfinite(normal).all():
                raise MissingDataError(
                    f"index {variable.name!r}: expected finite values or NaN for what is not "
                    "known, found infinite ones. Replace them with NaN: "
                    "series.where(np.isfinite(series))."
                )
            columns += [normal, known]
        return np.stack(columns, 1).astype(np.float32)


def _known(series: xr.DataArray) -> npt.NDArray[np.bool_]:
    """Return where a series holds a value."""
    return valid_mask(np.asarray(series.values), fill_values(series.attrs))


def with_indices(
    fields: xr.DataArray | xr.Dataset, indices: xr.DataArray | xr.Dataset
) -> xr.Dataset:
    """Put index series beside fields, on the time axis of the fields.

    Calendar months are matched whatever day they are stamped with, other steps by their stamps.
    Steps of the fields that a series does not have are missing (NaN), steps that the fields do not
    have are left out. Lazy arrays stay lazy.

    Parameters
    ----------
    fields : DataArray or Dataset (time, lat, lon)
    indices : DataArray or Dataset (time,)
        One or more series, each with a name.

    Returns
    -------
    Dataset
        For :func:`xearth.fit`, which reads the series and forecasts the fields, and for forecasts
        of what it returns.

    Raises
    ------
    AxisError
        A series without a name, or with other dims than time.
    TimeAxisError
        Other steps than those of the fields, or no step in common.

    Examples
    --------
    >>> import xearth
    >>> sst = xearth.samples.open("kaplan_sst")
    >>> data = with_indices(sst, xearth.samples.open("xro_indices").WWV)
    >>> data.WWV.sizes["time"] == sst.sizes["time"], str(data.WWV.dropna("time").time.values[0])[:7]
    (True, '1979-01')
    """
    if isinstance(fields, xr.DataArray):
        fields = fields.to_dataset(name="field" if fields.name is None else fields.name)
    time = str(discover(fields).time)
    axis = TimeAxis.from_array(fields[time])
    if isinstance(indices, xr.DataArray) and indices.name is None:
        raise AxisError("index series: expected a name, found None. Give it one: da.rename('WWV').")
    series = [indices] if isinstance(indices, xr.DataArray) else list(indices.data_vars.values())
    return fields.assign({str(da.name): _on_axis(da, axis) for da in series})


def _on_axis(series: xr.DataArray, axis: TimeAxis) -> xr.Variable:
    """Return a series on another time axis, missing where it has no step of that axis."""
    series = decoded(series)
    own = TimeAxis.from_array(series[str(discover(series, require=("time",)).time)])
    if series.dims != (own.name,):
        raise AxisError(
            f"index {series.name!r}: expected a series with the dim ({own.name!r},), found "
            f"{series.dims}. Select one entry of each other dim."
        )
    if own.step != axis.step:
        raise TimeAxisError(
            f"index {series.name!r}: expected steps of {axis.step} as the fields have, found "
            f"{own.step}. Resample it, for example with .resample({own.name}=...).mean()."
        )
    order = np.asarray(own.order)
    mine, wanted = _keys(own)[order], _keys(axis)
    at = np.clip(np.searchsorted(mine, wanted), 0, mine.size - 1)
    found = mine[at] == wanted
    if not found.any():
        raise TimeAxisError(
            f"index {series.name!r}: its time axis, {own.values[order[0]]} to "
            f"{own.values[order[-1]]}, has no step in common with that of the fields, "
            f"{axis.values[axis.order[0]]} to {axis.values[axis.order[-1]]}. Give other years."
        )
    picked = series.isel({own.name: order[at]}).variable
    if picked.dtype.kind != "f":
        picked = picked.astype(np.float64)
    picked = picked.where(xr.Variable((own.name,), found))
    return xr.Variable((axis.name,), picked.data, dict(series.attrs))


def _keys(axis: TimeAxis) -> npt.NDArray[np.int64]:
    """Return a number per step that is the same on any axis: the month, or the instant."""
    if axis.step is not None and axis.step.months is not None:
        return np.asarray(axis.style.calendar.months(axis.values), dtype=np.int64)
    return np.asarray(axis.microseconds, dtype=np.int64)
