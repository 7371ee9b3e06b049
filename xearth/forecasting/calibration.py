"""Coefficients of a calibration: labeled, applied block by block, to and from JSON.

They are kept for each group of cases (lead, and season or month of the start) and each cell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import find_axes
from ..cf.forecast_coords import valid_time
from ..cf.packing import decoded
from ..errors import (
    AxisError,
    CheckpointError,
    ConfigError,
    GridMismatchError,
    LeakageWarning,
    MissingDataError,
    UnitsError,
    warn,
)
from ..units import convert_array, is_difference
from ..verification.leaks.leakage import find_leaks
from ..verification.leaks.provenance import Judged, Provenance
from ..verification.one_pass.groups import Groups, groups_of

__all__ = ["MINIMUM", "Coefficients", "Kernel", "Names"]

Array = npt.NDArray[Any]

#: What is done with a block: members (I, L, M, cells...), the coefficients of each case
#: (K, I, L, cells...) and a number for each member of the result (I, M') to these members
#: (I, L, M', cells...).
Kernel = Callable[[Array, Array, Array], Array]

#: Fewer training cases than this say nothing.
MINIMUM = 10


@dataclass(frozen=True)
class Names:
    """The dimensions of an ensemble of forecasts: starts, leads, members, and cells."""

    init: str
    lead: str
    member: str
    cells: tuple[str, ...]

    @classmethod
    def of(cls, forecast: xr.DataArray) -> Names:
        """Read them; AxisError where one is missing."""
        axes = find_axes(forecast, require=("init", "lead", "member"))
        names = (str(axes.init), str(axes.lead), str(axes.member))
        absent = [name for name in names if name not in forecast.dims]
        if absent:
            raise AxisError(
                f"calibration needs an ensemble (init, lead, member, ...); {forecast.name!r} has "
                f"the dims {forecast.dims}, without {absent}. Use obj.expand_dims({absent[0]!r})."
            )
        if forecast.sizes[names[2]] < 2:
            raise ConfigError(
                f"calibration needs the spread of 2 members or more; {forecast.name!r} has "
                f"{forecast.sizes[names[2]]}. Forecast with members=..."
            )
        return cls(*names, tuple(str(dim) for dim in forecast.dims if dim not in names))

    @property
    def order(self) -> tuple[str, ...]:
        """Starts, leads, members, cells."""
        return (self.init, self.lead, self.member, *self.cells)

    def groups(self, forecast: xr.DataArray, by: Sequence[str]) -> Groups:
        """Return the group of each start and lead."""
        coords = {str(k): v.variable for k, v in forecast.coords.items()}
        if any(name.startswith("valid_") for name in by):
            coords["valid_time"] = valid_time(forecast).transpose(self.init, self.lead).variable
        return groups_of(by, coords, (self.init, self.lead))


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Coefficients of a calibration by group and cell.

    Attributes
    ----------
    table : Dataset
        One variable for each coefficient, and ``n``, the training cases behind it; NaN where they
        are fewer than :data:`MINIMUM`.
    by : tuple of str
    members : int
        Of the training forecasts.
    period : str
        First and last valid time among the training cases.
    attrs : dict
        Units of the training forecasts.
    """

    table: xr.Dataset
    by: tuple[str, ...]
    members: int
    period: str
    attrs: dict[str, Any]

    def apply(
        self,
        forecast: xr.DataArray,
        kernel: Kernel,
        *,
        method: str,
        numbers: Callable[[Judged, int], Array],
    ) -> xr.DataArray:
        """Apply a kernel to forecasts; lazy on Dask, chunked as they are but along members.

        Parameters
        ----------
        forecast : DataArray (init, lead, member, ...)
        kernel : Kernel
        method : str
            Put into the attributes.
        numbers : callable
            Starts and number of members to a number for each member of the result (I, M').

        Raises
        ------
        AxisError, ConfigError
            No ensemble.
        UnitsError, GridMismatchError
            Other units or cells than those of the training.
        MissingDataError
            A lead, season or month that was not trained.

        Warns
        -----
        LeakageWarning
            The forecasts are of times that the calibration has seen.
        """
        given, forecast = forecast, decoded(forecast)
        names, judged = Names.of(forecast), Judged.of(forecast)
        forecast = self._same_units(forecast.transpose(*names.order))
        self._check_cells(forecast, names)
        codes = self._codes(forecast, names)
        for leak in find_leaks(Provenance(calibration_period=self.period), judged):
            warn(str(leak), LeakageWarning)
        extra = numbers(judged, forecast.sizes[names.member])
        groups = tuple(self.table[name].size for name in self.table["n"].dims[: len(self.by)])
        values = np.stack([self.table[name].values for name in self.table if name != "n"])
        values = values.reshape(len(values), int(np.prod(groups)), *values.shape[1 + len(groups) :])
        data = _blockwise(kernel, forecast.data, codes, values, extra)
        found = self._labeled(data, forecast, names, method)
        if "units" in given.attrs:
            found = convert_array(found, given.attrs["units"])
        return found.transpose(*given.dims)

    def _same_units(self, forecast: xr.DataArray) -> xr.DataArray:
        units, mine = self.attrs.get("units"), forecast.attrs.get("units")
        if (units is None) != (mine is None) or (
            units is not None and is_difference(self.attrs) != is_difference(forecast.attrs)
        ):
            raise UnitsError(
                f"calibration was fitted to values with {self.attrs or 'no units'}; "
                f"{forecast.name!r} has units {mine!r}, units_metadata "
                f"{forecast.attrs.get('units_metadata')!r}. Give both the same attributes, and "
                "anomalies where anomalies were fitted."
            )
        return forecast if units is None else convert_array(forecast, units)

    def _check_cells(self, forecast: xr.DataArray, names: Names) -> None:
        cells = [str(dim) for dim in self.table["n"].dims[len(self.by) :]]
        if cells != list(names.cells):
            raise GridMismatchError(
                f"calibration was fitted to the cells {cells}, {forecast.name!r} has the dims "
                f"{forecast.dims}. Give it the same, in the same order."
            )
        for name in cells:
            a, b = self.table[name].values, forecast[name].values
            alike = a.shape == b.shape and a.dtype.kind in "iuf" and b.dtype.kind in "iuf"
            if not (np.allclose(a, b, rtol=0, atol=1e-4) if alike else np.array_equal(a, b)):
                raise GridMismatchError(
                    f"calibration and {forecast.name!r} differ along {name!r}: {a.size} against "
                    f"{b.size} labels, first {a[:3].tolist()} and {b[:3].tolist()}. Regrid or "
                    "select the forecast to the cells of the training."
                )

    def _codes(self, forecast: xr.DataArray, names: Names) -> npt.NDArray[np.int64]:
        """Return the row of the coefficients of each start and lead."""
        codes = np.zeros((forecast.sizes[names.init], forecast.sizes[names.lead]), dtype=np.int64)
        for name, dim in zip(self.by, self.table["n"].dims, strict=False):
            found = names.groups(forecast, [name])
            label = next(iter(found.coords.values()))
            known = self.table[dim]
            if name == "lead" and label.attrs.get("units") != known.attrs.get("units"):
                raise UnitsError(
                    f"calibration was fitted to leads in {known.attrs.get('units')!r}, the "
                    f"forecast has leads in {label.attrs.get('units')!r}. Give both the same."
                )
            places = {value: i for i, value in enumerate(known.values.tolist())}
            absent = [value for value in label.values.tolist() if value not in places]
            if absent:
                raise MissingDataError(
                    f"calibration holds no coefficients for {name} {absent}, only for "
                    f"{list(places)}. Fit it to starts and leads of every kind it is applied to."
                )
            rows = np.array([places[value] for value in label.values.tolist()])
            codes = codes * known.size + rows[found.codes]
        return codes

    def _labeled(
        self, data: Any, forecast: xr.DataArray, names: Names, method: str
    ) -> xr.DataArray:
        coords = {k: v.variable for k, v in forecast.coords.items() if names.member not in v.dims}
        if names.member in forecast.coords:
            label = forecast[names.member].variable
            if label.size != data.shape[2]:
                label = xr.Variable((names.member,), np.arange(data.shape[2]), label.attrs)
            coords[names.member] = label
        found = xr.DataArray(data, coords, names.order, forecast.name, dict(forecast.attrs))
        seen = Provenance.from_attrs(forecast.attrs)
        periods = [p for p in (seen.calibration_period, self.period) if p is not None]
        found.attrs |= replace(seen, calibration_period=", ".join(periods)).to_attrs()
        by = " and ".join(self.by) or "all cases together"
        found.attrs["calibration"] = f"{method} by {by}"
        return found

    def to_json(self, kind: str) -> str:
        """Return all of it as JSON that names its kind; numbers keep every bit."""
        parts = {
            str(name): {
                "dims": list(part.dims),
                "shape": list(part.shape),
                "values": [None if v != v else v for v in part.values.ravel().tolist()],  # noqa: PLR0124
                "attrs": {k: str(v) for k, v in part.attrs.items()},
            }
            for name, part in self.table.variables.items()
        }
        facts = {"by": list(self.by), "members": self.members, "period": self.period}
        return json.dumps({"calibration": kind, **facts, "attrs": self.attrs, "parts": parts})

    @classmethod
    def from_json(cls, text: str, kind: str) -> Coefficients:
        """Read what :meth:`to_json` wrote; CheckpointError if it is something else."""
        try:
            facts: Any = json.loads(text)
            if facts["calibration"] != kind:
                raise ValueError(f"it is of {facts['calibration']!r}")
            variables = {
                name: xr.Variable(part["dims"], _array(part), part["attrs"])
                for name, part in facts["parts"].items()
            }
            table = xr.Dataset({k: v for k, v in variables.items() if v.dims != (k,)})
            table = table.assign_coords({k: v for k, v in variables.items() if v.dims == (k,)})
            return cls(
                table, tuple(facts["by"]), facts["members"], facts["period"], dict(facts["attrs"])
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"expected the JSON of {kind}.to_json, found {text[:60]!r}: {error}"
            ) from error


def _array(part: Mapping[str, Any]) -> Array:
    values = [np.nan if v is None else v for v in part["values"]]
    return np.asarray(values).reshape(part["shape"])


def _blockwise(kernel: Kernel, data: Any, codes: Array, values: Array, extra: Array) -> Any:
    """Run a kernel on each block, with the coefficients of its cases."""
    dtype = data.dtype if data.dtype.kind == "f" else np.dtype(np.float64)
    run = _Block(kernel, dtype)
    if not isinstance(data, da.Array):
        return run(data, codes, values, extra)
    data = data.rechunk({2: -1})
    init, lead, _, *cells = data.chunks
    places = tuple(range(3, data.ndim))
    return da.blockwise(
        run,
        (0, 1, 2, *places),
        data,
        (0, 1, 2, *places),
        da.from_array(codes, chunks=(init, lead)),
        (0, 1),
        da.from_array(values, chunks=(-1, -1, *cells)),
        (-1, -2, *places),
        da.from_array(extra, chunks=(init, -1)),
        (0, -3),
        dtype=dtype,
        concatenate=True,
        adjust_chunks={2: (extra.shape[1],)},
        align_arrays=False,
        meta=np.empty((0,) * data.ndim, dtype),
    )


@dataclass(frozen=True)
class _Block:
    """A kernel on one block."""

    kernel: Kernel
    dtype: np.dtype[Any]

    def __call__(self, members: Array, codes: Array, values: Array, extra: Array) -> Array:
        found = self.kernel(members.astype(np.float64), values[:, codes], extra)
        return found.astype(self.dtype, copy=False)
