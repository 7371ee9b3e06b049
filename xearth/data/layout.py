"""Layout: how labeled variables lie in the axes (N, T, H, W, C) of a tensor, and back.

N folds every dimension that is not time, row or column (member, init ...) in stored order,
T is time, H the rows, W the columns, C the variables. A variable without time or without rows
and columns (an index series, a static field) is broadcast on the way in and collected on the
way back.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import Axes
from ..errors import AxisError, DataTypeError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Channel",
    "channels",
    "check_numeric",
    "compute",
    "full_dims",
    "hollow",
    "refill",
    "tensor_dtype",
    "to_numpy",
    "torch_dtype",
]


@dataclass(frozen=True)
class Channel:
    """One variable as a channel: its name, stored dims, dtype and Dask chunks (or None)."""

    name: Hashable
    dims: tuple[Hashable, ...]
    dtype: np.dtype
    chunks: tuple[tuple[int, ...], ...] | None = None

    def spread(self, values: np.ndarray, dims: Sequence[Hashable]) -> np.ndarray:
        """Return ``values`` (stored dims) in the order ``dims``, size 1 where a dim is absent."""
        present = [dim for dim in dims if dim in self.dims]
        ordered = np.transpose(values, [self.dims.index(dim) for dim in present])
        return np.expand_dims(ordered, tuple(i for i, d in enumerate(dims) if d not in self.dims))

    def collect(self, values: np.ndarray, dims: Sequence[Hashable]) -> np.ndarray:
        """Return ``values`` (all of ``dims``) in stored dims: undoes `spread` and broadcasting.

        Along a broadcast dim the mean is taken, as first value plus mean difference to it: exact
        if nothing changed.
        """
        absent = tuple(i for i, dim in enumerate(dims) if dim not in self.dims)
        if absent:
            values = _mean(values, absent)
        present = [dim for dim in dims if dim in self.dims]
        ordered = np.transpose(values, [present.index(dim) for dim in self.dims])
        return np.ascontiguousarray(self._cast(ordered))

    def _cast(self, values: np.ndarray) -> np.ndarray:
        """Return values in the stored dtype, unless an integer channel became fractional."""
        if self.dtype.kind in "biu" and values.dtype.kind == "f":
            whole = np.isfinite(values).all() and (values == np.rint(values)).all()
            return values.astype(self.dtype) if whole else values
        return values.astype(self.dtype, copy=False)


def _mean(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the mean over ``axes`` (removed), exact where the values along them are equal."""
    first = values[tuple(slice(0, 1) if i in axes else slice(None) for i in range(values.ndim))]
    if values.dtype.kind == "b":
        return np.squeeze(first, axes)
    with np.errstate(invalid="ignore"):
        apart = np.where(values == first, 0, values - first)
    mean = apart.mean(axis=axes)
    if values.dtype.kind in "iu":
        mean = np.rint(mean)
    return (np.squeeze(first, axes) + mean).astype(values.dtype)


def _attached(obj: xr.Dataset) -> set[Hashable]:
    """Return the names that bounds, climatology and grid_mapping attributes point to."""
    names: set[Hashable] = set()
    for variable in obj.variables.values():
        for source in (variable.attrs, variable.encoding):
            for key in ("bounds", "climatology", "grid_mapping"):
                if key in source:
                    names.update(str(source[key]).replace(":", " ").split())
    return names


def _rides(variable: xr.DataArray, dims: set[Hashable], axes: Axes) -> bool:
    """Whether a variable without rows or columns is a numeric series along time."""
    return (
        axes.time is not None
        and axes.time in variable.dims
        and set(variable.dims) <= dims - {axes.y, axes.x}
        and variable.dtype.kind in "biuf"
    )


def channels(obj: xr.DataArray | xr.Dataset, axes: Axes) -> tuple[Channel, ...]:
    """Return the channels of ``obj``: fields on (y, x), and the series along time with them.

    Other variables of a Dataset (bounds, grid mappings, scalars, text) are no channels; the
    Grid carries them along unchanged.

    Raises
    ------
    AxisError
        If no variable lies on the rows and columns.
    DataTypeError
        If a field holds what a tensor cannot (dates, text, complex or extended floats).
    """
    if isinstance(obj, xr.DataArray):
        found = [obj]
    else:
        attached = _attached(obj)
        own = {name: var for name, var in obj.data_vars.items() if name not in attached}
        fields = {n: v for n, v in own.items() if {axes.y, axes.x} <= set(v.dims)}
        dims: set[Hashable] = {dim for v in fields.values() for dim in v.dims}
        found = [v for n, v in own.items() if n in fields or (fields and _rides(v, dims, axes))]
    if not found:
        listing = {str(n): v.dims for n, v in obj.variables.items()}
        raise AxisError(
            f"Dataset: expected a variable with the dims ({axes.y!r}, {axes.x!r}), found "
            f"{listing}. Select or add a field on the grid."
        )
    for variable in found:
        check_numeric(variable)
    return tuple(
        Channel(v.name, v.dims, v.dtype, v.chunks if v.chunks is not None else None) for v in found
    )


def check_numeric(variable: xr.DataArray) -> None:
    """Refuse data that a tensor cannot hold.

    Raises
    ------
    DataTypeError
        If the dtype is not bool, integer or floating of at most 64 bits.
    """
    dtype = variable.dtype
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataTypeError(
            f"{variable.name!r}: expected numbers (bool, integer, float up to 64 bits), found "
            f"dtype {dtype}. Convert it, for example with .astype('float64') or, for time "
            "differences, / np.timedelta64(1, 's')."
        )


def full_dims(obj: xr.DataArray | xr.Dataset, axes: Axes, found: Sequence[Channel]) -> tuple:
    """Return (*others, time if any, y, x): the canonical order of the dims of all channels."""
    dims = dict.fromkeys(dim for channel in found for dim in channel.dims)
    main = [dim for dim in (axes.time, axes.y, axes.x) if dim is not None]
    others = [dim for dim in dims if dim not in main]
    return (*others, *main)


def tensor_dtype(found: Sequence[Channel]) -> np.dtype:
    """Return the smallest dtype, in the machine's byte order, that holds all channels."""
    return np.result_type(*(channel.dtype for channel in found)).newbyteorder("=")


def hollow(obj: xr.DataArray | xr.Dataset, found: Sequence[Channel]) -> Any:
    """Return ``obj`` with the values of its channels replaced by a zero that fills no memory.

    Coordinates read from files are loaded, so that closing the file does no harm; Dask-backed
    ones stay lazy.
    """
    names = {channel.name for channel in found}

    def empty(variable: xr.DataArray | xr.Variable) -> np.ndarray:
        return np.broadcast_to(np.zeros((), variable.dtype), variable.shape)

    if isinstance(obj, xr.DataArray):
        shell: Any = obj.copy(deep=False, data=empty(obj))
    else:
        kept = {n: v.variable for n, v in obj.data_vars.items()}
        shell = obj.copy(
            deep=False, data={n: empty(v) if n in names else v.data for n, v in kept.items()}
        )
    for coord in shell.coords.values():
        if coord.chunks is None:
            coord.variable.load()  # DataArray.load would compute the coordinates of the coordinate
    return shell


def compute(arrays: Sequence[Any]) -> Iterator[np.ndarray]:
    """Yield numpy arrays of numpy or Dask arrays, all of them from one graph.

    Raises
    ------
    DataTypeError
        If an array is of another kind: turning it into numpy could drop units or fill zeros.
    """
    for array in arrays:
        if not isinstance(array, np.ndarray) and not type(array).__module__.startswith("dask."):
            raise DataTypeError(
                f"data: expected a numpy or Dask array, found {type(array).__module__}."
                f"{type(array).__name__}. Convert it first, for example with .pint.dequantify() or "
                ".as_numpy()."
            )
    if any(hasattr(array, "dask") for array in arrays):
        import dask

        arrays = dask.compute(*arrays)
    return (np.asarray(array) for array in arrays)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's values on the CPU; bfloat16, which numpy lacks, as float32."""
    import torch

    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return tensor.cpu().numpy()


def torch_dtype(dtype: Any) -> torch.dtype | None:
    """Return the torch dtype of a torch dtype, a numpy dtype or a name; None stays None.

    Raises
    ------
    DataTypeError
        If torch has no such dtype.

    Examples
    --------
    >>> torch_dtype("float32"), torch_dtype(np.uint8)
    (torch.float32, torch.uint8)
    """
    import torch

    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise DataTypeError(
            f"dtype={dtype!r}: expected a torch dtype or its name such as 'float32', found none "
            "of that name in torch."
        )
    return found


def refill(template: xr.DataArray, data: Any) -> xr.DataArray:
    """Return ``template`` with other data of the same dims: name, attrs and encoding are kept."""
    out = xr.DataArray(data, dims=template.dims, coords=template.coords, attrs=template.attrs)
    out.name = template.name  # None would become the name of a Dask array in the constructor
    out.encoding = dict(template.encoding)
    return out
