r"""Conservative regridding between grids of 1-D latitude and longitude.

Let source cell :math:`i` hold the value :math:`x_i`, let :math:`A_{ji}` be the area that it shares
with target cell :math:`j`, and let :math:`A_j` be the area of target cell :math:`j`. With
:math:`v_i = 1` where :math:`x_i` is known and 0 where it is missing,

.. math::

   c_j = \frac{\sum_i A_{ji} v_i}{A_j}, \qquad
   y_j = \frac{\sum_i A_{ji} v_i x_i}{\sum_i A_{ji} v_i} \quad\text{where } c_j \ge c_{\min}.

:math:`c_j` is the covered fraction. The areas are exact on the sphere and separable,
:math:`A_{ji} = (\Delta\sin\varphi)_{ji}\,(\Delta\lambda)_{ji}`, so a field is regridded by one
small matrix for the rows and one for the columns. A fine field becomes the mean over coarse cells;
a coarse one is copied to the fine cells inside it. Without missing values the area integral over
what both grids cover is kept. Source: Jones, P. W. (1999): First- and second-order conservative
remapping schemes for grids in spherical coordinates. Mon. Wea. Rev. 127, 2204-2210 (first order).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.attrs import append_history
from ..cf.packing import decoded
from ..errors import AxisError, ConfigError, GridMismatchError
from .weights import lat_lon, latitude_edges, longitude_edges

__all__ = ["Regridder", "covered_fraction", "regrid"]

Floats = npt.NDArray[np.float64]
Obj = TypeVar("Obj", xr.DataArray, xr.Dataset)

#: Smallest part of a cell that must be known for the cell to hold a value.
MINIMUM_COVERED = 0.5

_ROUNDING = 1e-9  # part of a cell; neighbors whose edges are computed apart share less
_CYCLE = 360.0
_METHOD = "area: mean"


@dataclass(frozen=True, eq=False)
class Regridder:
    """The linear map from the cells of one grid to those of another.

    Made by :meth:`between`; :func:`regrid` is the short way.

    Parameters
    ----------
    source, target : DataArray
        Grids (lat, lon) in the order in which fields are stored; their values play no part.
    rows : ndarray (H', H)
        Difference of the sine of latitude that target row and source row share, as a part of
        that of the target row.
    columns : ndarray (W', W)
        Degrees of longitude that they share, as a part of those of the target column.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> oisst, kaplan = samples.open("oisst"), samples.open("kaplan_sst")
    >>> regridder = Regridder.between(oisst, kaplan)
    >>> regridder.rows.shape, regridder.columns.shape
    ((12, 30), (22, 140))
    >>> regridder.overlap.sel(lat=[12.5, 17.5], lon=182.5).values.round(6).tolist()
    [1.0, 0.0]
    """

    source: xr.DataArray
    target: xr.DataArray
    rows: Floats
    columns: Floats

    @classmethod
    def between(
        cls, source: xr.DataArray | xr.Dataset, target: xr.DataArray | xr.Dataset
    ) -> Regridder:
        """Return the map from the grid of ``source`` to that of ``target``; reads coordinates.

        Raises
        ------
        AxisError
            A grid whose latitude and longitude are not 1-D.
        GridMismatchError
            Cells of the source overlap, as with a repeated cyclic column.
        """
        (lat, lon), (lat_out, lon_out) = _names(source), _names(target)
        rows = _shared_rows(latitude_edges(target, lat_out), latitude_edges(source, lat))
        columns = _shared_columns(longitude_edges(target, lon_out), longitude_edges(source, lon))
        for name, matrix in ((lat, rows), (lon, columns)):
            twice = matrix.sum(1).max(initial=0.0)
            if twice > 1 + 1e-6:
                raise GridMismatchError(
                    f"grid of the data: expected cells that do not overlap, found some along "
                    f"{name!r} that cover others ({twice:.2f} times a cell of the target). Drop "
                    f"the repeated ones, as in obj.isel({name}=slice(None, -1))."
                )
        return cls(_shell(source, lat, lon), _shell(target, lat_out, lon_out), rows, columns)

    @property
    def overlap(self) -> xr.DataArray:
        """Part of each target cell inside the source grid (lat, lon), missing values or not."""
        values = self.rows.sum(1)[:, None] * self.columns.sum(1)
        return self.target.copy(data=values).assign_attrs(_covered_attrs())

    def covered(self, field: xr.DataArray) -> xr.DataArray:
        """Return the known part of each target cell (..., lat, lon), in [0, 1]; lazy on Dask.

        Parameters
        ----------
        field : DataArray (..., lat, lon)
            On the source grid.
        """
        out = self._mapped(_covered, decoded(field)).rename("covered_fraction")
        out.attrs = _covered_attrs()
        return out

    def __call__(
        self, field: xr.DataArray, *, minimum_covered: float = MINIMUM_COVERED
    ) -> xr.DataArray:
        """Return a field on the target grid; see :func:`regrid`."""
        field = decoded(field)
        least = _checked_minimum(minimum_covered)
        out = self._mapped(_averaged, field, least=least)
        out.attrs = dict(field.attrs)
        out.attrs.pop("grid_mapping", None)  # of the grid that was left
        methods = str(field.attrs.get("cell_methods", ""))
        if _METHOD not in methods:
            out.attrs["cell_methods"] = f"{methods} {_METHOD}".strip()
        shapes = [f"{a} x {b}" for a, b in (self.source.shape, self.target.shape)]
        told = f"conservative mean of {shapes[0]} cells over {shapes[1]}, each at least {least:g}"
        out.attrs = append_history(out.attrs, f"{told} known")
        return out.rename(field.name)

    def pull_back(self, gradient: xr.DataArray, known: xr.DataArray) -> xr.DataArray:
        r"""Return a gradient by target cells as one by source cells: the chain rule.

        With :math:`g_j` the derivative of a number by :math:`y_j`, its derivative by :math:`x_i`
        is :math:`\sum_j g_j A_{ji} v_i / \sum_k A_{jk} v_k`.

        Parameters
        ----------
        gradient : DataArray (..., lat, lon)
            On the target grid; 0 or missing where a value is not used.
        known : DataArray of bool (..., lat, lon)
            Where the regridded field had values, on the source grid.

        Returns
        -------
        DataArray (..., lat, lon)
            float64, on the source grid; 0 where the field was missing.
        """
        share = self.covered(xr.where(known, 1.0, np.nan))
        (lat, lon), (lat_out, lon_out) = self.source.dims, self.target.dims
        scaled = (gradient.fillna(0.0) / share.where(share > 0)).fillna(0.0)
        values = xr.apply_ufunc(
            lambda g: self.rows.T @ g @ self.columns,
            scaled,
            input_core_dims=[[lat_out, lon_out]],
            output_core_dims=[[lat, lon]],
            exclude_dims={lat_out, lon_out, lat, lon},
            keep_attrs=True,
        )
        values = values.assign_coords(dict(self.source.coords))
        return values * known

    def _mapped(self, function: Any, field: xr.DataArray, **options: Any) -> xr.DataArray:
        """Apply a function (array, rows, columns) to the last two dims of a field."""
        dims, out_dims = self.source.dims, self.target.dims
        absent = [dim for dim in dims if dim not in field.dims]
        if absent or any(field.sizes[d] != self.source.sizes[d] for d in dims):
            raise GridMismatchError(
                f"{field.name!r}: expected the cells {dict(self.source.sizes)}, found "
                f"{dict(field.sizes)}. Make a Regridder of its own grid: Regridder.between."
            )
        if field.chunks is not None:
            field = field.chunk(dict.fromkeys(dims, -1))
        order = [*(dim for dim in field.dims if dim not in dims), *out_dims]
        stale = [name for name, c in field.coords.items() if set(c.dims) & set(dims)]
        out = xr.apply_ufunc(
            function,
            field.drop_vars(stale),
            kwargs={"rows": self.rows, "columns": self.columns, **options},
            input_core_dims=[list(dims)],
            output_core_dims=[list(out_dims)],
            exclude_dims=set(dims) | set(out_dims),
            dask="parallelized",
            output_dtypes=[np.result_type(field.dtype, np.float32)],
            dask_gufunc_kwargs={"output_sizes": dict(self.target.sizes)},
            keep_attrs=True,  # of the coordinates
        )
        return out.assign_coords(dict(self.target.coords)).transpose(*order)


def regrid(
    obj: Obj, like: xr.DataArray | xr.Dataset, *, minimum_covered: float = MINIMUM_COVERED
) -> Obj:
    """Return ``obj`` on the grid of another object, by exact means over cells.

    Either latitude order, any longitude convention, global grids and regions. Cells without
    bounds reach halfway to their neighbors; the bounds of a Dataset are used when it has them.

    Parameters
    ----------
    obj : DataArray or Dataset
        With 1-D latitude and longitude. Dask arrays stay lazy. Variables of a Dataset that do not
        lie on the grid are passed on.
    like : DataArray or Dataset
        Whose latitude and longitude the result gets, as they are stored.
    minimum_covered : float
        Smallest part of a cell, above 0 and at most 1, that must be known for the cell to get a
        value; the others are missing. :func:`covered_fraction` returns the part itself.

    Returns
    -------
    DataArray or Dataset
        Units and names of ``obj``; ``cell_methods`` with ``area: mean``; the dims of latitude and
        longitude last.

    Raises
    ------
    AxisError
        Latitude or longitude is not 1-D.
    ConfigError
        An impossible ``minimum_covered``.
    GridMismatchError
        The grids have no cell in common, or cells of ``obj`` overlap.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> oisst = samples.open("oisst")
    >>> coarse = regrid(oisst, like=samples.open("kaplan_sst"))
    >>> dict(coarse.sizes), coarse.attrs["cell_methods"]
    ({'time': 180, 'lat': 12, 'lon': 22}, 'time: mean area: mean')
    """
    regridder = Regridder.between(obj, like)
    if not (regridder.overlap.values > _ROUNDING).any():
        raise GridMismatchError(
            f"grid of the data: expected some cell in common with {_extent(like)}, found "
            f"{_extent(obj)}. Select data of that region."
        )
    return _each(obj, regridder, lambda da: regridder(da, minimum_covered=minimum_covered))


def covered_fraction(obj: Obj, like: xr.DataArray | xr.Dataset) -> Obj:
    """Return the part of each cell of another grid in which ``obj`` has values.

    Parameters
    ----------
    obj, like
        As for :func:`regrid`.

    Returns
    -------
    DataArray or Dataset
        In [0, 1], units 1; with time if ``obj`` has it, since missing cells may move.

    Raises
    ------
    AxisError, GridMismatchError
        As :func:`regrid`.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> oisst, kaplan = samples.open("oisst"), samples.open("kaplan_sst")
    >>> part = covered_fraction(oisst.isel(time=0), like=kaplan)
    >>> print(f"{part.sel(lat=2.5, lon=282.5).item():.2f}")  # the rest is land
    0.36
    """
    regridder = Regridder.between(obj, like)
    return _each(obj, regridder, regridder.covered)


def _each(obj: Any, regridder: Regridder, function: Any) -> Any:
    """Apply a function to an array, or to the variables of a Dataset on the grid."""
    if isinstance(obj, xr.DataArray):
        return function(obj)
    on_grid = set(regridder.source.dims)
    made = {}
    for name, variable in obj.data_vars.items():
        if on_grid <= set(variable.dims):
            made[name] = function(variable)
        elif not on_grid & set(variable.dims):
            made[name] = variable.drop_vars(
                [n for n, c in variable.coords.items() if on_grid & set(c.dims)]
            )
    return xr.Dataset(made, attrs=obj.attrs)


def _names(obj: xr.DataArray | xr.Dataset) -> tuple[str, str]:
    """Return the names of 1-D latitude and longitude on dims of their own."""
    lat, lon = lat_lon(obj)
    if obj[lat].ndim != 1 or obj[lon].ndim != 1 or obj[lat].dims == obj[lon].dims:
        raise AxisError(
            f"regrid needs 1-D latitude and longitude; found {lat!r} with dims {obj[lat].dims} and "
            f"{lon!r} with dims {obj[lon].dims}. Interpolate curvilinear or projected data to a "
            "latitude-longitude grid first, for example with xESMF."
        )
    return lat, lon


def _shell(obj: xr.DataArray | xr.Dataset, lat: str, lon: str) -> xr.DataArray:
    """Return the grid alone: an array (lat, lon) without values."""
    dims = (*obj[lat].dims, *obj[lon].dims)
    shape = (obj[lat].size, obj[lon].size)
    coords = {name: obj[name].variable for name in (lat, lon)}
    empty = np.broadcast_to(np.zeros(()), shape)
    return xr.DataArray(empty, coords=coords, dims=dims, name="covered_fraction")


def _shared_rows(target: Floats, source: Floats) -> Floats:
    """Return (H', H) from edges in degrees (H', 2) and (H, 2)."""
    out, given = (np.sort(edges, axis=1) for edges in (target, source))
    low = np.maximum(out[:, None, 0], given[None, :, 0])
    high = np.maximum(np.minimum(out[:, None, 1], given[None, :, 1]), low)
    height = np.diff(np.sin(np.deg2rad(out)), axis=1)
    return np.asarray((np.sin(np.deg2rad(high)) - np.sin(np.deg2rad(low))) / height)


def _shared_columns(target: Floats, source: Floats) -> Floats:
    """Return (W', W) from edges in degrees (W', 2) and (W, 2), in any turn of the globe."""
    out, given = (np.sort(edges, axis=1) for edges in (target, source))
    width = np.diff(out, axis=1)
    start = (given[None, :, 0] - out[:, None, 0]) % _CYCLE
    stop = start + np.diff(given, axis=1)[:, 0]
    shared = np.zeros(start.shape)
    # a source cell that begins before the target cell reaches into it a turn later
    for turn in (0.0, _CYCLE):
        shared += (np.minimum(stop - turn, width) - np.maximum(start - turn, 0.0)).clip(min=0.0)
    return shared / width


def _averaged(values: npt.NDArray, *, rows: Floats, columns: Floats, least: float) -> npt.NDArray:
    """Return means (..., H', W') of values (..., H, W) over what is known, NaN below ``least``."""
    known = ~np.isnan(values)
    total = rows @ np.where(known, values, 0).astype(np.float64) @ columns.T
    share = rows @ known.astype(np.float64) @ columns.T
    mean = np.divide(total, share, out=np.full_like(total, np.nan), where=share > 0)
    mean[share < least - _ROUNDING] = np.nan
    return mean.astype(np.result_type(values.dtype, np.float32))


def _covered(values: npt.NDArray, *, rows: Floats, columns: Floats) -> npt.NDArray:
    """Return the known part (..., H', W') of cells, of values (..., H, W)."""
    share = rows @ (~np.isnan(values)).astype(np.float64) @ columns.T
    return share.clip(max=1.0).astype(np.result_type(values.dtype, np.float32))


def _covered_attrs() -> dict[str, str]:
    return {"long_name": "known part of the area of the grid cell", "units": "1"}


def _checked_minimum(minimum: float) -> float:
    if not 0 < minimum <= 1:
        raise ConfigError(
            f"minimum_covered={minimum!r}: expected the part of a cell that must be known, above 0 "
            "and at most 1."
        )
    return float(minimum)


def _extent(obj: xr.DataArray | xr.Dataset) -> str:
    """Return size and extent of a grid in words."""
    lat, lon = (obj[name].values for name in lat_lon(obj))
    return (
        f"{lat.size} x {lon.size} cells, latitude {lat.min():g} to {lat.max():g}, longitude "
        f"{lon.min():g} to {lon.max():g}"
    )
