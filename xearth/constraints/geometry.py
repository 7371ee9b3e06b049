"""How a labeled forecast lies in a tensor, for conditions on it.

A forecast (init, lead, member, y, x) is a tensor (N, T, H, W, C): rows south to north, columns west
to east, one channel for each variable. Weights go the same way, once, when a condition is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..data.geometry import take
from ..data.grid import Grid
from .frames import frame_dim
from .reading import field_of

__all__ = ["Geometry"]


@dataclass(frozen=True, eq=False)
class Geometry:
    """The layout of the tensors of forecasts like a template.

    Parameters
    ----------
    template : DataArray or Dataset
        One start's forecast; starts and members are as one.
    """

    template: xr.DataArray | xr.Dataset

    @cached_property
    def grid(self) -> Grid:
        """Rows and columns."""
        return Grid.from_array(self.template)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Variables, in the order of the channels."""
        if isinstance(self.template, xr.DataArray):
            return (str(self.template.name),)
        return tuple(str(channel.name) for channel in self.grid.channels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, C)."""
        dim = frame_dim(self.template)
        frames = self.template.sizes[dim] if dim in self.template.dims else 1
        return frames, *self.grid.shape, len(self.names)

    def channel(self, variable: str | None) -> int:
        """Return the channel of a variable."""
        return self.names.index(str(field_of(self.template, variable).name))

    def one(self, variable: str | None) -> xr.DataArray:
        """Return the field of a variable for the first start and member."""
        field = field_of(self.template, variable)
        axes = discover(field, require=())
        cases = [d for d in (axes.init, axes.member) if d in field.dims]
        return field.isel({d: [0] if d == axes.init else 0 for d in cases})

    def canonical(self, values: xr.DataArray | npt.NDArray) -> npt.NDArray:
        """Return a field (..., y, x) as (..., H, W), rows south to north, columns eastward."""
        if isinstance(values, xr.DataArray):
            values = values.transpose(..., self.grid.axes.y, self.grid.axes.x).values
        return take(take(np.asarray(values), self.grid.y_index, -2), self.grid.x_index, -1)

    def known(self, variable: str | None) -> npt.NDArray[np.bool_]:
        """Return the cells (T, H, W) with values in every start and member."""
        field = field_of(self.template, variable)
        dim = frame_dim(field)
        kept = {dim, self.grid.axes.y, self.grid.axes.x}
        valid = field.notnull().all([d for d in field.dims if d not in kept])
        if dim in field.dims:
            valid = valid.transpose(dim, ...)
        cells = self.canonical(valid.compute())
        return np.broadcast_to(cells, self.shape[:3])

    def cells(self, frame: int, channel: int) -> npt.NDArray[np.intp]:
        """Return the number (H, W) of the cells of a frame in the flattened tensor."""
        T, H, W, C = self.shape
        del T
        return (frame * H * W + np.arange(H * W).reshape(H, W)) * C + channel
