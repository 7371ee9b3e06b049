"""Labeled object -> tensor with its mask and its way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.packing import fill_values
from ..errors import GridMismatchError, MissingDataError
from .grid import Grid
from .layout import torch_dtype
from .masks import fill, static_mask, valid_mask

if TYPE_CHECKING:
    import torch

__all__ = ["LabeledTensor", "to_tensor"]


@dataclass(frozen=True, eq=False)
class LabeledTensor:
    """A tensor that knows where its numbers belong.

    Parameters
    ----------
    tensor : torch.Tensor (N, T, H, W, C)
        Values, rows south to north, columns west to east; 0 in missing cells of floating data.
    mask : torch.Tensor of bool (N, T, H, W, C)
        True where a value is valid.
    grid : Grid
        The way back, with the static mask (H, W) of cells that are valid at least once.
    """

    tensor: torch.Tensor
    mask: torch.Tensor
    grid: Grid

    def __post_init__(self) -> None:
        if self.tensor.shape != self.mask.shape or tuple(self.tensor.shape) != self.grid.sizes:
            raise GridMismatchError(
                f"LabeledTensor: expected a tensor and a mask of shape {self.grid.sizes}, found "
                f"{tuple(self.tensor.shape)} and {tuple(self.mask.shape)}. Make it with to_tensor."
            )

    def to_array(self, tensor: torch.Tensor | None = None) -> Any:
        """Return the labeled object: of this tensor, or of ``tensor`` on the same grid.

        Parameters
        ----------
        tensor : torch.Tensor (N, T', H, W, C), optional
            Other values, for example a prediction. With as many times as this tensor its own
            missing cells are put back; with another T' the cells that are never valid are, and
            coordinates along time are left out.

        Returns
        -------
        DataArray or Dataset

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> da = xr.DataArray([[1.0, np.nan]], dims=("lat", "lon"), name="sst",
        ...                   coords={"lat": ("lat", [0.0], {"units": "degrees_north"}),
        ...                           "lon": ("lon", [0.0, 1.0], {"units": "degrees_east"})})
        >>> labeled = to_tensor(da)
        >>> labeled.to_array().identical(da)
        True
        >>> labeled.to_array(labeled.tensor + 1).values
        array([[ 2., nan]])
        """
        if tensor is None:
            tensor = self.tensor
        mask = self.mask.cpu().numpy()
        if tensor.shape[1:2] != self.tensor.shape[1:2]:
            mask = np.asarray(mask.any(axis=(0, 1), keepdims=True))
        return self.grid.to_array(tensor, mask)


def to_tensor(
    obj: xr.DataArray | xr.Dataset, *, device: Any = None, dtype: Any = None
) -> LabeledTensor:
    """Return a labeled object as a tensor (N, T, H, W, C) with mask and way back.

    The round trip ``to_tensor(obj).to_array()`` is exact: values bit for bit (unless ``dtype``
    asks for fewer), dims order, coordinates, attributes, encoding, name, chunk structure and
    missing cells.

    Parameters
    ----------
    obj : DataArray or Dataset
        A field on rows and columns; time is optional (T = 1 without), other dims fold into N.
        The variables of a Dataset are channels; series along time are broadcast channels.
        Dask-backed data are computed here, in one graph.
    device : optional
        As in torch.
    dtype : torch dtype, numpy dtype or str, optional
        Default: the dtype of the data; packed integers stay packed (and are cast, not decoded,
        when a floating ``dtype`` is given).

    Returns
    -------
    LabeledTensor

    Raises
    ------
    AxisError
        If rows and columns cannot be told.
    DataTypeError
        If the data are not numbers.
    MissingDataError
        If floating data hold a fill value that was not decoded to NaN.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> da = xr.DataArray(
    ...     np.zeros((2, 3), dtype="uint8"), dims=("lat", "lon"),
    ...     coords={"lat": ("lat", [10, 0], {"units": "degrees_north"}),
    ...             "lon": ("lon", [0, 10, 20], {"units": "degrees_east"})})
    >>> to_tensor(da).tensor.shape, to_tensor(da).tensor.dtype
    (torch.Size([1, 1, 2, 3, 1]), torch.uint8)
    """
    import torch

    wanted = torch_dtype(dtype)
    grid = Grid.from_array(obj)
    values = grid.values(obj)
    valid = _valid(values, obj, grid)
    values = fill(values, valid)
    return LabeledTensor(
        torch.from_numpy(values).to(device=device, dtype=wanted),
        torch.from_numpy(valid).to(device=device),
        grid.with_mask(static_mask(np.moveaxis(valid[..., grid.on_cells], -1, 0))),
    )


def _valid(values: np.ndarray, obj: xr.DataArray | xr.Dataset, grid: Grid) -> np.ndarray:
    """Return where the values (N, T, H, W, C) are valid, by NaN or declared fill values."""
    valid = np.empty(values.shape, dtype=bool)
    for c, channel in enumerate(grid.channels):
        attrs = obj.attrs if isinstance(obj, xr.DataArray) else obj[channel.name].attrs
        numbers = fill_values(attrs)
        valid[..., c] = valid_mask(values[..., c], numbers)
        if channel.dtype.kind == "f" and (~valid[..., c] & ~np.isnan(values[..., c])).any():
            raise MissingDataError(
                f"{channel.name!r}: expected missing cells to be NaN, found the undecoded fill "
                f"value {numbers[0]}. Decode it: xr.decode_cf(ds), or da.where(da != {numbers[0]})."
            )
    return valid
