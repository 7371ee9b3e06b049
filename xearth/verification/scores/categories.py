"""Categories between thresholds that differ from place to place or month to month."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ...cf.packing import decoded
from ...errors import AxisError, ConfigError
from ..pairs import pair
from ..thresholds import Op, check_op

__all__ = ["categories"]


def categories(
    da: xr.DataArray, edges: xr.DataArray, *, op: Op = ">=", dim: str = "threshold"
) -> xr.DataArray:
    """Return how many of a set of thresholds each value reaches.

    Terciles, say, are thresholds of their own in every cell and month. A value of category k or
    above is one that reaches the k-th threshold, so that every score of events can be had of
    forecast and truth made into categories: ``rps(categories(f, terciles), categories(o,
    terciles), thresholds=[1, 2])``. Take the edges from years that are not judged.

    Parameters
    ----------
    da : DataArray
        Forecast or truth; Dask arrays stay lazy.
    edges : DataArray
        Thresholds along ``dim`` in ascending order, on any other dimensions of ``da``; converted
        to its units.
    op : {">=", ">"}
        Whether a value equal to a threshold reaches it.
    dim : str
        The dimension of the thresholds.

    Returns
    -------
    DataArray
        0 .. number of thresholds, without a unit; NaN where the value or a threshold is missing.

    Raises
    ------
    AxisError
        The edges lack ``dim``, or have dimensions that the data lack.
    ConfigError
        Another operator.
    GridMismatchError, UnitsError
        The labels differ, or the units do not convert.

    Examples
    --------
    >>> import xarray as xr
    >>> rain = xr.DataArray([[1.0, 30.0], [9.0, 90.0]], dims=("time", "lat"), attrs={"units": "mm"})
    >>> terciles = xr.DataArray([[2.0, 50.0], [5.0, 80.0]], dims=("threshold", "lat"))
    >>> categories(rain, terciles.assign_attrs(units="mm")).values.tolist()
    [[0.0, 0.0], [2.0, 2.0]]
    """
    check_op(op)
    da = decoded(da)
    other = set(edges.dims) - {dim} - set(da.dims)
    if dim not in edges.dims or dim in da.dims or other:
        raise AxisError(
            f"expected edges on {dim!r} and some of the dims {da.dims} of {da.name!r}; found "
            f"{edges.dims}. Name the dimension of the thresholds with dim=..., and select the "
            "edges of each time first (edges.sel(month=da.time.dt.month))."
        )
    values, limits = pair(da, edges)
    compare = np.greater_equal if op == ">=" else np.greater

    def count(x: np.ndarray, edge: np.ndarray) -> np.ndarray:
        falling = (np.diff(edge, axis=-1) < 0).any()
        if falling:
            raise ConfigError(f"the edges along {dim!r} must ascend in every place; some do not.")
        reached = compare(x[..., None], edge).sum(axis=-1).astype(np.float64)
        return np.where(np.isnan(x) | np.isnan(edge).any(axis=-1), np.nan, reached)

    found: xr.DataArray = xr.apply_ufunc(
        count,
        values,
        limits,
        input_core_dims=[[], [dim]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )
    found.attrs = {"long_name": f"number of thresholds reached ({op})", "units": "1"}
    return found.transpose(*da.dims)
