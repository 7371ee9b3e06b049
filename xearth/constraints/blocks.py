r"""Coarse fields that a fine forecast agrees with, in space and in time.

With the area :math:`A_{ji}` that fine cell :math:`i` and coarse cell :math:`j` share, and
:math:`v_i = 1` where cell :math:`i` has a value,

.. math::

   \frac{\sum_i A_{ji} v_i\, y_i}{\sum_i A_{ji} v_i} = x_j , \qquad
   \frac{1}{m} \sum_{t \in B} y_t = X_B \quad\textrm{or}\quad \sum_{t \in B} y_t = X_B ,

for the frames :math:`t` of each block :math:`B` of :math:`m` frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..errors import ConstraintError, GridMismatchError, LeadError, UnitsError
from ..fields.regrid import Regridder
from ..units import convert_array
from .constraint import ROUNDING, Constraint, difference_attrs
from .frames import frame_dim
from .functional import Forecast
from .held import Held
from .reading import field_of, plane, variable_text
from .where import matched

if TYPE_CHECKING:
    from ..models.conditions.protocol import Condition

__all__ = ["BlockMeans", "FrameMeans"]

_SLIVER = 1e-9  # part of a cell that neighbors share by rounding


def _in_units(coarse: xr.DataArray, field: xr.DataArray, what: object) -> xr.DataArray:
    """Return the coarse field in the units of the forecast."""
    if "units" not in coarse.attrs or "units" not in field.attrs:
        raise ConstraintError(
            f"{what}: expected units of both fields, found {coarse.attrs.get('units')!r} and "
            f"{field.attrs.get('units')!r}. Set da.attrs['units']."
        )
    try:
        return convert_array(coarse, str(field.attrs["units"])).astype(np.float64)
    except UnitsError as error:
        raise ConstraintError(f"{what}: {error}") from error


@dataclass(frozen=True, repr=False)
class BlockMeans(Constraint):
    """The means over the cells of a coarse grid are those of a coarse field: downscaling.

    Parameters
    ----------
    coarse : DataArray (y, x) or (lead, y, x)
        With units; on latitude and longitude, or on the projected coordinates of the forecast.
        Missing cells bind nothing. Without leads it holds in each frame.
    variable : str, optional

    Raises
    ------
    ConstraintError
        No DataArray, or when its units do not fit the forecast.
    GridMismatchError
        When the grids have nothing in common.

    Examples
    --------
    >>> import xearth
    >>> sst = xearth.samples.open("oisst").isel(time=0)
    >>> coarse = xearth.regrid(sst, like=xearth.samples.open("kaplan_sst"))
    >>> same = xearth.BlockMeans(coarse)
    >>> print(same)
    the means over the 12 x 22 cells of a coarse grid are those of sst there
    >>> bool(same.check(sst)), bool(same.check(sst + 0.1))
    (True, False)
    """

    coarse: Held
    variable: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "coarse", Held(self.coarse))
        _planar_dims(self.coarse.da)

    def __str__(self) -> str:
        rows, columns = (self.coarse.da.sizes[d] for d in _planar_dims(self.coarse.da))
        what = "the means" if self.variable is None else f"the means{variable_text(self.variable)}"
        name = self.coarse.da.name or "a field"
        return (
            f"{what} over the {rows} x {columns} cells of a coarse grid are those of {name} there"
        )

    def overlaps(self, field: xr.DataArray) -> tuple[npt.NDArray, npt.NDArray]:
        """Return the shares of fine rows (H', H) and columns (W', W) in coarse ones."""
        axes, dims = discover(field, require=("y", "x")), _planar_dims(self.coarse.da)
        flat = axes.lat is None or field[axes.lat].ndim == 2
        if not flat:
            found = Regridder.between(field, self.coarse.da)
            rows, columns = found.rows, found.columns
        else:
            y, x = plane(field)
            rows, columns = (
                _shared(_centers(self.coarse.da, theirs), _centers(field, mine))
                for mine, theirs in ((y, dims[0]), (x, dims[1]))
            )
        rows, columns = (np.where(m > _SLIVER, m, 0.0) for m in (rows, columns))
        if not (rows.any() and columns.any()):
            raise GridMismatchError(
                f"{self}: expected a coarse grid over that of {field.name!r}, found none of its "
                "cells there. Select the part over the forecast."
            )
        return rows, columns

    def matched(self, obj: Forecast) -> tuple[xr.DataArray, xr.DataArray]:
        """Return the fine field and the coarse one in its units, both on the same frames."""
        field = field_of(obj, self.variable)
        coarse = _in_units(self.coarse.da, field, self)
        dim = frame_dim(field)
        extra = [d for d in coarse.dims if d not in _planar_dims(coarse)]
        if not extra:
            return field, coarse
        if extra != [dim] or dim not in coarse.coords:
            raise LeadError(
                f"{self}: expected the frames along {dim!r} with their coordinate, found the dims "
                f"{extra}. Give the coarse field those of the forecast: "
                f"coarse.rename({extra[0]}={str(dim)!r}).assign_coords({dim}=forecast[{str(dim)!r}])."
            )
        absent = ~np.isin(coarse[dim].values, field[dim].values)
        if absent.any():
            raise LeadError(
                f"{self}: expected frames of the forecast, found {coarse[dim].values[absent][:3]} "
                f"among {field[dim].values[:3]} ... Select those that it has."
            )
        return field.sel({dim: coarse[dim].values}), coarse

    def measure(self, obj: Forecast) -> xr.DataArray:
        """Return the means over the coarse cells, missing where no fine cell has a value."""
        field, coarse = self.matched(obj)
        rows, columns = self.overlaps(field)
        dims, fine = _planar_dims(coarse), plane(field)
        known = np.broadcast_to(1.0, (len(rows), len(columns)))
        stale = [n for n, c in field.coords.items() if set(c.dims) & set(fine)]
        mean: xr.DataArray = xr.apply_ufunc(
            _block_means,
            field.drop_vars(stale),
            kwargs={"rows": rows, "columns": columns},
            input_core_dims=[list(fine)],
            output_core_dims=[list(dims)],
            exclude_dims=set(fine) | set(dims),
            dask="parallelized",
            output_dtypes=[np.float64],
            dask_gufunc_kwargs={
                "output_sizes": dict(zip(dims, known.shape, strict=True)),
                "allow_rechunk": True,
            },
        )
        mean = mean.assign_coords({d: coarse[d] for d in dims if d in coarse.coords})
        mean.attrs = {k: field.attrs[k] for k in ("units", "units_metadata") if k in field.attrs}
        return mean

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how far the means are from the coarse field, by frame and coarse cell."""
        mean = self.measure(obj)
        _, coarse = self.matched(obj)
        coarse = coarse.drop_vars([n for n in coarse.coords if n not in coarse.dims])
        coarse = coarse.assign_coords({d: mean[d] for d in coarse.dims if d in mean.coords})
        excess = abs(mean - coarse).fillna(0.0).transpose(*mean.dims)
        excess.attrs = difference_attrs(mean.attrs, f"violation: {self}")
        return excess.rename("violation")

    def tolerance(self, obj: Forecast) -> float:
        """Return rounding errors of the means."""
        field, coarse = self.matched(obj)
        return ROUNDING * max(float(abs(coarse).max()), float(abs(field).max()))

    def on(self, template: Forecast) -> Condition:
        """Return the linear condition of the means."""
        from .compiled import block_condition

        return block_condition(self, template)


def _planar_dims(coarse: xr.DataArray) -> tuple[str, str]:
    axes = discover(coarse, require=())
    if axes.y is not None and axes.x is not None:
        return axes.y, axes.x
    if coarse.ndim < 2:
        raise ConstraintError(
            f"coarse field {coarse.name!r}: expected rows and columns, found {coarse.dims}."
        )
    return str(coarse.dims[-2]), str(coarse.dims[-1])


def _centers(field: xr.DataArray, dim: str) -> npt.NDArray:
    found = field.sizes[dim] if dim in field.coords else 0
    if found < 2:
        raise GridMismatchError(
            f"{field.name!r}: expected two coordinates or more along {dim!r}, by which cells are "
            f"told, found {found or 'none'}. Assign the coordinates of the projection, in the "
            "units of the other grid."
        )
    return np.asarray(field[dim].values, dtype=np.float64)


def _shared(target: npt.NDArray, source: npt.NDArray) -> npt.NDArray:
    """Return the part (n', n) of each target interval that a source interval has."""
    edges = []
    for centers in (target, source):
        half = np.gradient(centers) / 2
        edges.append(np.sort(np.stack([centers - half, centers + half], -1), -1))
    (out, given), width = edges, np.diff(edges[0], axis=1)
    low = np.maximum(out[:, None, 0], given[None, :, 0])
    high = np.minimum(out[:, None, 1], given[None, :, 1])
    return np.asarray((high - low).clip(min=0.0) / width)


def _block_means(values: npt.NDArray, *, rows: npt.NDArray, columns: npt.NDArray) -> npt.NDArray:
    known = np.isfinite(values)
    total = rows @ np.where(known, values, 0.0) @ columns.T
    share = rows @ known.astype(np.float64) @ columns.T
    return np.divide(total, share, out=np.full_like(total, np.nan), where=share > _SLIVER)


@dataclass(frozen=True, repr=False)
class FrameMeans(Constraint):
    """The means, or sums, of blocks of frames are given fields: days of a month, hours of a day.

    Parameters
    ----------
    coarse : DataArray (y, x) or (block, y, x)
        With units and the cells of the forecast; missing cells bind nothing. The frames of the
        forecast are cut into as many blocks of one length.
    how : {"mean", "sum"}
        Sums are for amounts, such as daily sums of rain that make a monthly one.
    variable : str, optional

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").isel(time=slice(0, 12))
    >>> hour = rain.mean("time").assign_attrs(rain.attrs)
    >>> print(xearth.FrameMeans(hour))
    the mean of all frames is that of rainfall_rate in every cell
    >>> bool(xearth.FrameMeans(hour).check(rain))
    True
    """

    coarse: Held
    how: Literal["mean", "sum"] = "mean"
    variable: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "coarse", Held(self.coarse))
        if self.how not in ("mean", "sum"):
            raise ConstraintError(f"how={self.how!r}: expected 'mean' or 'sum'.")
        _planar_dims(self.coarse.da)

    def __str__(self) -> str:
        n, name = self.blocks, self.coarse.da.name or "a field"
        of = "all frames" if n == 1 else f"each of {n} blocks of frames"
        return (
            f"the {self.how}{variable_text(self.variable)} of {of} is that of {name} in every cell"
        )

    @property
    def blocks(self) -> int:
        """How many blocks of frames there are."""
        extra = [d for d in self.coarse.da.dims if d not in _planar_dims(self.coarse.da)]
        return int(np.prod([self.coarse.da.sizes[d] for d in extra], dtype=int))

    def matched(self, obj: Forecast) -> tuple[xr.DataArray, xr.DataArray, str]:
        """Return the field, the coarse one (block, y, x) in its units and cells, and their dim."""
        field = field_of(obj, self.variable)
        dim, n = frame_dim(field), self.blocks
        if dim is None or dim not in field.dims or field.sizes[dim] % n:
            raise LeadError(
                f"{self}: expected frames that make {n} blocks of one length, found the sizes "
                f"{dict(field.sizes)}."
            )
        coarse = _in_units(self.coarse.da, field, self)
        y, x = plane(field)
        rows, columns = _planar_dims(coarse)
        order = {}
        for mine, theirs in ((y, rows), (x, columns)):
            at = np.arange(field.sizes[mine])
            if mine in field.coords and theirs in coarse.coords:
                cyclic = discover(field, require=()).lon == mine
                at = matched(coarse[theirs].values, field[mine].values, cyclic=cyclic)
            if coarse.sizes[theirs] != field.sizes[mine] or (at < 0).any():
                raise GridMismatchError(
                    f"{self}: expected the {field.sizes[y]} x {field.sizes[x]} cells of the "
                    f"forecast, found others along {theirs!r}. Select them in the given field, or "
                    "regrid it."
                )
            order[theirs] = at
        coarse = coarse.transpose(..., rows, columns).isel(order)
        values = coarse.values.reshape(n, field.sizes[y], field.sizes[x])
        return field, xr.DataArray(values, dims=("block", y, x)), dim

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how far the means or sums are from the given fields, by block and cell."""
        field, coarse, dim = self.matched(obj)
        blocks = field.coarsen({dim: field.sizes[dim] // self.blocks}).construct(
            {dim: ("block", "step")}
        )
        found = (
            blocks.mean("step", skipna=False)
            if self.how == "mean"
            else blocks.sum("step", skipna=False)
        )
        excess = abs(found - coarse).fillna(0.0).transpose(*found.dims)
        excess.attrs = difference_attrs(field.attrs, f"violation: {self}")
        return excess.rename("violation")

    def tolerance(self, obj: Forecast) -> float:
        """Return rounding errors of the means or sums."""
        field, coarse, dim = self.matched(obj)
        many = field.sizes[dim] // self.blocks if self.how == "sum" else 1
        return ROUNDING * max(float(abs(coarse).max()), many * float(abs(field).max()))

    def on(self, template: Forecast) -> Condition:
        """Return the linear condition of the means or sums."""
        from .compiled import frame_means_condition

        return frame_means_condition(self, template)
