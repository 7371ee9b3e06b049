r"""Pooling of fields: the largest, or the mean, of every window of cells.

Pooled scores ask whether an event was forecast near the right place: both fields are replaced by
the maximum of windows of ``size`` x ``size`` cells, ``stride`` cells apart, before the events are
counted. With ``stride`` left out the windows do not overlap.

Edges: where the windows do not fill the field, ``edge="drop"`` leaves the rest out, as networks'
pooling layers do, ``edge="keep"`` adds windows that are cut off at the border, and
``edge="error"`` refuses.

Missing cells: a window with a missing cell is missing; with ``skipna=True`` only one without any
known cell is.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.discover import discover
from ...cf.packing import decoded
from ...errors import ConfigError

__all__ = ["Edge", "How", "field_dims", "pool", "pool_values"]

Array = npt.NDArray[Any]
How = Literal["max", "mean"]
Edge = Literal["drop", "keep", "error"]


def field_dims(
    da: xr.DataArray, field: tuple[Hashable, Hashable] | None = None
) -> tuple[Hashable, Hashable]:
    """Return the two dimensions of a field, (y, x), found or as named.

    Raises
    ------
    AxisError
        They cannot be told.
    """
    if field is None and {"y", "x"} <= set(da.dims):
        field = ("y", "x")
    if field is None:
        axes = discover(da, require=("y", "x"))
        field = (str(axes.y), str(axes.x))
    return field


def pool(
    da: xr.DataArray,
    size: int,
    *,
    how: How = "max",
    stride: int | None = None,
    edge: Edge = "drop",
    skipna: bool = False,
    field: tuple[Hashable, Hashable] | None = None,
) -> xr.DataArray:
    """Return the maximum or the mean of every window of a field.

    Parameters
    ----------
    da : DataArray
        With two horizontal dimensions. Dask arrays stay lazy; the chunks of a field are joined.
    size : int
        Cells along each side of a window.
    how : {"max", "mean"}
    stride : int, optional
        Cells from one window to the next, by default ``size``.
    edge : {"drop", "keep", "error"}
        What becomes of cells at the end that no full window reaches.
    skipna : bool
        Whether missing cells of a window are left out; by default they make it missing.
    field : (name, name), optional
        The dimensions y and x, where they cannot be told.

    Returns
    -------
    DataArray
        Coordinates along y and x are those of the centers; others that lie on them are dropped.

    Raises
    ------
    ConfigError
        A window, stride, edge or way that cannot be.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rain = xr.DataArray(np.arange(16.0).reshape(4, 4), dims=("y", "x"))
    >>> pool(rain, 2).values.tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    da = decoded(da)
    stride = size if stride is None else stride
    names = field_dims(da, field)
    _check(da, names, (size, stride), how, edge)
    if da.chunks is not None:
        da = da.chunk(dict.fromkeys(names, -1))
    lengths = {name: windows(da.sizes[name], size, stride, edge) for name in names}
    settings = {"size": size, "stride": stride, "how": how, "edge": edge, "skipna": skipna}
    pooled: xr.DataArray = xr.apply_ufunc(
        pool_values,
        da.drop_vars([name for name, c in da.coords.items() if set(c.dims) & set(names)]),
        input_core_dims=[names],
        output_core_dims=[names],
        exclude_dims=set(names),
        kwargs=settings,
        dask="parallelized",
        output_dtypes=[_dtype(da.dtype, how)],
        dask_gufunc_kwargs={"output_sizes": lengths},
        keep_attrs=True,
    )
    for name in names:
        if name in da.coords and da[name].dtype.kind in "fiu":
            line = da[name].values.astype(np.float64)
            step = {"size": size, "stride": stride, "count": lengths[name]}
            total, number = (_along(v, 0, np.add, **step) for v in (line, np.ones_like(line)))
            centers = total / number
            pooled = pooled.assign_coords({name: (name, centers, da[name].attrs)})
    method = f"{names[0]}: {names[1]}: {'maximum' if how == 'max' else 'mean'}"
    pooled.attrs["cell_methods"] = f"{da.attrs.get('cell_methods', '')} {method}".strip()
    return pooled.transpose(*da.dims)


def _check(
    da: xr.DataArray, names: tuple[Hashable, ...], steps: tuple[int, int], how: str, edge: str
) -> None:
    size, stride = steps
    if any(number != int(number) or number < 1 for number in steps):
        raise ConfigError(
            f"size and stride of a window are positive whole numbers; found {size} and {stride}."
        )
    if how not in ("max", "mean"):
        raise ConfigError(f"how must be 'max' or 'mean'; found {how!r}.")
    if edge not in ("drop", "keep", "error"):
        raise ConfigError(f"edge must be 'drop', 'keep' or 'error'; found {edge!r}.")
    for name in names:
        length = da.sizes[name]
        if edge != "keep" and length < size:
            raise ConfigError(
                f"{name!r} of {da.name!r} has {length} cells, fewer than a window of {size}. Take "
                "a smaller window, or edge='keep'."
            )
        if edge == "error" and (length - size) % stride:
            raise ConfigError(
                f"{name!r} of {da.name!r} has {length} cells, which windows of {size} at a stride "
                f"of {stride} do not fill. Choose edge='drop' or edge='keep'."
            )


def _dtype(dtype: np.dtype[Any], how: str) -> np.dtype[Any]:
    return dtype if how == "max" or dtype.kind == "f" else np.dtype(np.float64)


def windows(length: int, size: int, stride: int, edge: Edge) -> int:
    """Return the number of windows along an axis.

    Examples
    --------
    >>> windows(10, 4, 4, "drop"), windows(10, 4, 4, "keep")
    (2, 3)
    """
    if edge == "keep":
        return min(max(0, -(-(length - size) // stride)), (length - 1) // stride) + 1
    return (length - size) // stride + 1


def pool_values(
    x: Array, *, size: int, stride: int, how: How, edge: Edge, skipna: bool = False
) -> Array:
    """Pool fields (..., H, W); see :func:`pool`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, np.nan]])
    >>> pool_values(x, size=2, stride=2, how="max", edge="keep", skipna=True)
    array([[5., 3.]])
    """
    if how == "max":
        larger = np.fmax if skipna else np.maximum
        for axis in (-2, -1):
            x = _along(
                x,
                axis,
                larger,
                size=size,
                stride=stride,
                count=windows(x.shape[axis], size, stride, edge),
            )
        return x
    known = ~np.isnan(x) if skipna else np.ones(x.shape[-2:], dtype=bool)
    total = np.where(known, x, 0).astype(np.float64, copy=False)
    number = known.astype(np.int64)
    for axis in (-2, -1):
        count = windows(x.shape[axis], size, stride, edge)
        total, number = (
            _along(part, axis, np.add, size=size, stride=stride, count=count)
            for part in (total, number)
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / number).astype(_dtype(x.dtype, how), copy=False)


def _along(x: Array, axis: int, join: np.ufunc, *, size: int, stride: int, count: int) -> Array:
    """Join the cells of every window along one axis, one cell of all windows after the other."""
    x = np.moveaxis(x, axis, 0)
    short = (count - 1) * stride + size - x.shape[0]
    if short > 0:  # nothing is added by 0, and no maximum changed by the last cell
        pad = [(0, short), *([(0, 0)] * (x.ndim - 1))]
        x = np.pad(x, pad, mode="constant" if join is np.add else "edge")
    span = (count - 1) * stride + 1
    out = x[:span:stride].copy()
    for k in range(1, size):
        join(out, x[k : k + span : stride], out=out)
    return np.moveaxis(out, 0, axis)
