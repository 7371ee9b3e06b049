r"""Grid: all that is needed to come back from a tensor to the labeled array.

A tensor (N, T, H, W, C) shows rows south to north and columns west to east; the Grid remembers
how the array was stored (dims, coordinates, attributes, encoding, orientation, chunks), so that
``grid.to_array(grid.to_tensor(da))`` is ``da`` again. `Grid.horizontal` keeps the geometry only:
that is what a trained model stores and matches new data against.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import Axes, discover
from ..errors import GridMismatchError
from .geometry import column_match, eastward, extent, inverse, listing, take
from .horizontal import (
    decode,
    encode,
    grid_mapping,
    horizontal_axes,
    is_temporal,
    orders,
    ruler_name,
)
from .layout import (
    Channel,
    channels,
    compute,
    full_dims,
    hollow,
    refill,
    tensor_dtype,
    to_numpy,
    torch_dtype,
)
from .masks import restore

if TYPE_CHECKING:
    import torch

__all__ = ["Grid"]

# Share of the distance between two rows or columns within which coordinates are the same.
_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """Geometry and layout of a labeled field; make one with `Grid.from_array`.

    Parameters
    ----------
    axes : Axes
        What plays which part.
    template : DataArray or Dataset
        The object without the values of its channels.
    channels : tuple of Channel
        The variables in the tensor's last axis.
    y_index, x_index : array of int (H,), (W,)
        Stored positions of the rows south to north and of the columns west to east.
    mask : array of bool (H, W), optional
        Cells that ever hold a value, in canonical order (True = valid).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> da = xr.DataArray(
    ...     np.arange(6.0).reshape(3, 2), dims=("lat", "lon"),
    ...     coords={"lat": ("lat", [10, 0, -10], {"units": "degrees_north"}),
    ...             "lon": ("lon", [0, 10], {"units": "degrees_east"})})
    >>> grid = Grid.from_array(da)
    >>> grid
    <Grid of 3 rows 10S .. 10N, 2 columns 0E .. 10E>
    >>> tensor = grid.to_tensor(da)  # (N, T, H, W, C), south first
    >>> tensor[0, 0, :, 0, 0].tolist()
    [4.0, 2.0, 0.0]
    >>> grid.to_array(tensor).identical(da)
    True
    """

    axes: Axes
    template: xr.DataArray | xr.Dataset
    channels: tuple[Channel, ...]
    y_index: np.ndarray
    x_index: np.ndarray
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.mask.shape != self.shape:
            raise GridMismatchError(
                f"{self!r}: expected a mask of shape {self.shape} (rows, columns), found "
                f"{self.mask.shape}. Give one value per cell, south-west first."
            )

    def __repr__(self) -> str:
        return f"<Grid of {self.summary()}>"

    @classmethod
    def from_array(cls, obj: xr.DataArray | xr.Dataset, axes: Axes | None = None) -> Grid:
        """Return the Grid of ``obj``; reads coordinates and riders, never the fields.

        Parameters
        ----------
        obj : DataArray or Dataset
            A field on rows and columns; time and other dims are optional.
        axes : Axes, optional
            What `xearth.cf.discover.discover` would find.

        Raises
        ------
        AxisError
            If rows and columns cannot be told, or a coordinate has missing values.
        DataTypeError
            If the data are not numbers.
        """
        axes = axes if axes is not None else discover(obj, require=("y", "x"))
        found = channels(obj, axes)
        return cls(axes, hollow(obj, found), found, *orders(obj, axes))

    # -- geometry ---------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W), rows and columns."""
        return self.y_index.size, self.x_index.size

    @property
    def dims(self) -> tuple[Hashable, ...]:
        """Dims in canonical order: others, time if there is one, rows, columns."""
        return full_dims(self.template, self.axes, self.channels)

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """(N, T, H, W, C) of the template's tensor."""
        sizes = dict(self.template.sizes)
        others = [d for d in self.dims if d not in (self.axes.time, self.axes.y, self.axes.x)]
        n = int(np.prod([sizes[d] for d in others], dtype=np.int64))
        t = 1 if self.axes.time is None else sizes[self.axes.time]
        return n, t, *self.shape, len(self.channels)

    @property
    def on_cells(self) -> np.ndarray:
        """Which channels (C,) vary over rows and columns; series along time do not."""
        plane = {self.axes.y, self.axes.x}
        return np.array([plane <= set(channel.dims) for channel in self.channels])

    @property
    def lat(self) -> np.ndarray | None:
        """Latitudes, degrees north, canonical: (H,), (H, W) on a projected grid, or None."""
        return None if self.axes.lat is None else self._canonical_coord(self.axes.lat)

    @property
    def lon(self) -> np.ndarray | None:
        """Longitudes, degrees east, canonical: (W,) rising eastward, (H, W), or None."""
        if self.axes.lon is None:
            return None
        lon = self._canonical_coord(self.axes.lon)
        return eastward(lon) if lon.ndim == 1 else lon

    @property
    def cell_weights(self) -> np.ndarray:
        r"""Relative area of the cells (H, W): :math:`\cos\varphi`, or 1 on a projected grid."""
        lat = self.lat
        if lat is None or lat.ndim == 2:
            return np.ones(self.shape)
        rows = np.clip(np.cos(np.deg2rad(lat.astype(np.float64))), 0.0, None)
        return np.repeat(rows[:, None], self.shape[1], axis=1)

    def _canonical_coord(self, name: Hashable) -> np.ndarray:
        """Return the values of a 1-D or 2-D horizontal coordinate in canonical order."""
        coord = self.template[name]
        values = coord.transpose(*(d for d in (self.axes.y, self.axes.x) if d in coord.dims)).values
        for axis, dim in enumerate(d for d in (self.axes.y, self.axes.x) if d in coord.dims):
            values = take(values, self.y_index if dim == self.axes.y else self.x_index, axis)
        return values

    def _ruler(self, dim: Hashable) -> np.ndarray | None:
        """Return the 1-D coordinate that measures rows or columns, canonical, or None."""
        name = ruler_name(self.template, self.axes, dim)
        if name is None:
            return None
        values = self._canonical_coord(name).astype(np.float64)
        return eastward(values) if name == self.axes.lon else values

    def summary(self) -> str:
        """Return the size and extent in words."""
        height, width = self.shape
        rows = extent(self._ruler(self.axes.y), "NS" if self._is_latlon else "")
        columns = extent(self._ruler(self.axes.x), "EW" if self._is_latlon else "")
        return f"{height} rows{rows}, {width} columns{columns}"

    @property
    def _is_latlon(self) -> bool:
        lat = self.axes.lat
        return lat is not None and self.template[lat].ndim == 1

    def horizontal(self) -> Grid:
        """Return the Grid of rows and columns alone, with the same mask; reads coordinates."""
        axes = horizontal_axes(self.axes)
        kept = {
            name: coord.variable.compute()
            for name, coord in self.template.coords.items()
            if set(coord.dims) <= {axes.y, axes.x} and not is_temporal(coord)
        }
        mapping = grid_mapping(self.template)
        if isinstance(self.template, xr.Dataset) and mapping in self.template.data_vars:
            kept[mapping] = self.template[mapping].variable
        height, width = (self.template.sizes[d] for d in (axes.y, axes.x))
        shell = xr.DataArray(
            np.broadcast_to(np.zeros(()), (height, width)), dims=(axes.y, axes.x), coords=kept
        )
        if mapping in kept:
            shell.attrs["grid_mapping"] = mapping
        return replace(Grid.from_array(shell, axes), mask=self.mask)

    def with_mask(self, mask: np.ndarray | None) -> Grid:
        """Return the same Grid with a static mask (H, W), True = valid, canonical order."""
        return replace(self, mask=None if mask is None else np.asarray(mask, dtype=bool))

    def align(self, other: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Return the permutation that brings data on ``other`` to this grid.

        Coordinates are compared by value, longitudes modulo 360; the storage direction of
        either grid does not matter, and a global grid may start at any longitude.

        Parameters
        ----------
        other : Grid
            The grid of the data.

        Returns
        -------
        y_index, x_index : array of int (H,), (W,)
            For canonical fields (..., H, W) of ``other``: ``field[..., y_index, :][..., x_index]``
            lies on this grid.

        Raises
        ------
        GridMismatchError
            If size or coordinates differ; tells both grids.
        """
        if self.shape != other.shape:
            raise self._mismatch(other, f"{self.shape} cells", f"{other.shape} cells")
        rows, columns = np.arange(self.shape[0]), np.arange(self.shape[1])
        if self._is_latlon != other._is_latlon:
            kinds = {True: "latitude and longitude", False: "projected coordinates"}
            raise self._mismatch(other, kinds[self._is_latlon], kinds[other._is_latlon])
        for dim, other_dim in ((self.axes.y, other.axes.y), (self.axes.x, other.axes.x)):
            mine, its = self._ruler(dim), other._ruler(other_dim)
            if mine is None or its is None:
                continue
            tolerance = _TOLERANCE * float(np.abs(np.diff(mine)).min() if mine.size > 1 else 1.0)
            if self._is_latlon and dim == self.axes.x:
                match = column_match(mine, its, tolerance)
                if match is None:
                    raise self._mismatch(other, listing(mine), listing(its))
                columns = match
            elif not np.all(np.abs(mine - its) <= tolerance):
                raise self._mismatch(other, listing(mine), listing(its))
        self._match_plane(other)
        return rows, columns

    def _match_plane(self, other: Grid) -> None:
        """Refuse projected grids whose 2-D latitudes or longitudes differ, if both have them."""
        if self._is_latlon:
            return
        for mine, its in ((self.lat, other.lat), (self.lon, other.lon)):
            if mine is None or its is None:
                continue
            apart = np.abs((mine.astype(np.float64) - its + 180.0) % 360.0 - 180.0)
            steps = [np.abs(np.diff(mine, axis=axis)).ravel() for axis in (0, 1)]
            step = float(np.nanmax(np.concatenate(steps), initial=1e-3))
            if np.nanmax(apart, initial=0.0) > _TOLERANCE * step:
                raise self._mismatch(other, listing(mine), listing(its))

    def _mismatch(self, other: Grid, expected: str, found: str) -> GridMismatchError:
        return GridMismatchError(
            f"grid of the data: expected {self.summary()}, found {other.summary()}; they differ "
            f"in {expected} against {found}. Select or interpolate the data to the expected grid."
        )

    # -- to tensors and back ----------------------------------------------------------------

    def to_tensor(
        self, obj: xr.DataArray | xr.Dataset, device: Any = None, dtype: Any = None
    ) -> torch.Tensor:
        """Return ``obj`` as a tensor (N, T, H, W, C); NaN stay NaN (signalling ones quieted).

        Parameters
        ----------
        obj : DataArray or Dataset
            An object of this Grid's layout; the number of times may differ.
        device, dtype : optional
            As in torch; by default the CPU and the dtype of the data (integers stay packed).

        Raises
        ------
        GridMismatchError
            If ``obj`` has another layout.
        """
        import torch

        tensor = torch.from_numpy(self.values(obj))
        return tensor.to(device=device, dtype=torch_dtype(dtype))

    def values(self, obj: xr.DataArray | xr.Dataset) -> np.ndarray:
        """Return ``obj`` as a new numpy array (N, T, H, W, C), computed with one Dask graph."""
        parts = [self._channel_of(obj, channel) for channel in self.channels]
        sizes = dict(obj.sizes)
        dims = self.dims
        shape = [sizes[d] for d in dims]
        out = np.empty((*shape, len(parts)), tensor_dtype(self.channels))
        arrays = compute([part.variable.data for part in parts])
        with np.errstate(invalid="ignore"):
            for c, (channel, array) in enumerate(zip(self.channels, arrays, strict=True)):
                out[..., c] = self.canonical(channel, array)
        if out.dtype.kind == "f":
            np.copyto(out, np.nan, where=np.isnan(out))
        steps = 1 if self.axes.time is None else sizes[self.axes.time]
        folded = int(np.prod(shape[:-3] if self.axes.time is not None else shape[:-2]))
        return out.reshape(folded, steps, *self.shape, len(parts))

    def canonical(self, channel: Channel, array: np.ndarray) -> np.ndarray:
        """Return stored values of one channel in the order of `dims`, size 1 where absent."""
        out = channel.spread(array, self.dims)
        if self.axes.y in channel.dims:
            out = take(out, self.y_index, -2)
        if self.axes.x in channel.dims:
            out = take(out, self.x_index, -1)
        return out

    def _channel_of(self, obj: xr.DataArray | xr.Dataset, channel: Channel) -> xr.DataArray:
        """Return the variable of a channel, refusing another layout."""
        variable = obj if isinstance(obj, xr.DataArray) else obj.get(channel.name)
        if variable is None:
            raise GridMismatchError(
                f"Dataset: expected the variable {channel.name!r}, found {list(obj.data_vars)}. "
                "Rename or add it."
            )
        want = dict(zip((self.axes.y, self.axes.x), self.shape, strict=True))
        found = {d: variable.sizes[d] for d in want if d in variable.dims}
        if set(variable.dims) != set(channel.dims) or any(want[d] != n for d, n in found.items()):
            raise GridMismatchError(
                f"{variable.name!r}: expected the dims {channel.dims} with {want}, found "
                f"{dict(variable.sizes)}. Make a Grid of this object with Grid.from_array."
            )
        return variable.transpose(*channel.dims)

    def to_array(self, tensor: torch.Tensor, mask: np.ndarray | None = None) -> Any:
        """Return the labeled object of a tensor (N, T, H, W, C): the inverse of `to_tensor`.

        Parameters
        ----------
        tensor : torch.Tensor (N, T, H, W, C)
            N, H, W, C as in this Grid. With another T the coordinates along time are left out.
        mask : array of bool, broadcastable to the tensor, optional
            Where values are valid; others become NaN. Default: the Grid's static mask.

        Returns
        -------
        DataArray or Dataset
            Stored dims, orientation, coordinates, attributes, encoding, name and chunks; the
            dtype of the tensor, or the stored one if the tensor has the Grid's own dtype.

        Raises
        ------
        GridMismatchError
            If the shape does not fit.
        """
        values = to_numpy(tensor)
        n, steps, *rest = self.sizes
        if values.ndim != 5 or values.shape[0] != n or list(values.shape[2:]) != rest:
            raise GridMismatchError(
                f"tensor: expected the shape (N, T, H, W, C) = ({n}, any, {rest[0]}, {rest[1]}, "
                f"{rest[2]}), found {tuple(values.shape)}. Use the Grid that made the tensor, or "
                "Grid.label for fields with other leading axes."
            )
        if mask is None and self.mask is not None:
            mask = self.mask[..., None] | ~self.on_cells
        if mask is not None:
            values = restore(values.copy(), np.broadcast_to(mask, values.shape))
        same = values.shape[1] == steps
        sizes = dict(self.template.sizes)
        if self.axes.time is not None:
            sizes[self.axes.time] = values.shape[1]
        values = values.reshape(*(sizes[d] for d in self.dims), values.shape[-1])
        return self._rebuild(self._stored(values), same=same)

    def _stored(self, values: np.ndarray) -> dict[Hashable, np.ndarray]:
        """Return the values of each channel as stored, from the canonical (..., C)."""
        own = tensor_dtype(self.channels)
        out: dict[Hashable, np.ndarray] = {}
        for c, channel in enumerate(self.channels):
            field = take(values[..., c], inverse(self.y_index), -2)
            field = take(field, inverse(self.x_index), -1)
            target = channel if values.dtype == own else replace(channel, dtype=values.dtype)
            out[channel.name] = target.collect(field, self.dims)
        return out

    def _rebuild(self, stored: Mapping[Hashable, np.ndarray], *, same: bool) -> Any:
        """Return the template filled with stored values; ``same``: as many times as before."""
        template, time = self.template, self.axes.time
        data: dict[Hashable, Any] = dict(stored)
        if not same:
            names = set(stored)
            others = template.coords if isinstance(template, xr.DataArray) else template.variables
            template = template.drop_vars(
                [n for n, v in others.items() if time in v.dims and n not in names]
            )
        else:
            for channel in self.channels:
                if channel.chunks is not None:
                    from dask.array import from_array

                    data[channel.name] = from_array(stored[channel.name], chunks=channel.chunks)
        if isinstance(template, xr.DataArray):
            return refill(template, data[self.channels[0].name])
        filled = {n: refill(v, data[n]) if n in data else v for n, v in template.data_vars.items()}
        out = xr.Dataset(filled, coords=template.coords, attrs=template.attrs)
        out.encoding = dict(template.encoding)
        return out

    def label(
        self,
        values: Any,
        dims: Sequence[Hashable] = (),
        *,
        coords: Mapping[Any, Any] | None = None,
        name: Hashable = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> xr.DataArray:
        """Return canonical fields with new leading axes as an array on this Grid.

        Parameters
        ----------
        values : array or tensor (..., H, W)
            For example a forecast (init, lead, member, H, W).
        dims : sequence of str
            Names of the leading axes.
        coords : mapping, optional
            Coordinates of the leading axes.
        name, attrs : optional
            Of the result.

        Returns
        -------
        DataArray (..., y, x)
            Rows and columns as stored; NaN outside the static mask.

        Raises
        ------
        GridMismatchError
            If the last two axes are not (H, W).
        """
        values = values if isinstance(values, np.ndarray) else to_numpy(values)
        if values.shape[-2:] != self.shape or values.ndim != len(dims) + 2:
            raise GridMismatchError(
                f"values: expected the axes {(*dims, 'y', 'x')} with the last two of size "
                f"{self.shape}, found the shape {values.shape}."
            )
        if self.mask is not None:
            values = restore(values.copy(), np.broadcast_to(self.mask, values.shape))
        field = take(values, inverse(self.y_index), -2)
        field = np.ascontiguousarray(take(field, inverse(self.x_index), -1))
        shell = self.horizontal().template
        return xr.DataArray(
            field,
            dims=(*dims, self.axes.y, self.axes.x),
            coords={**dict(shell.coords), **(coords or {})},
            name=name,
            attrs={**dict(attrs or {}), **dict(shell.attrs)},
        )

    # -- storage ----------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the horizontal Grid as JSON; numbers keep every bit."""
        grid = self.horizontal()
        return encode(grid.template, grid.axes, grid.mask)

    @classmethod
    def from_json(cls, text: str) -> Grid:
        """Return the horizontal Grid written by `to_json`.

        Raises
        ------
        CheckpointError
            If the text is not such a Grid.
        """
        shell, axes, mask = decode(text)
        return cls.from_array(shell, axes).with_mask(mask)
