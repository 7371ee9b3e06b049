"""What a constraint reads of a forecast: the field of a variable, as plain numbers with units."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.packing import decoded
from ..errors import ConstraintError, DataTypeError

__all__ = ["field_of", "larger", "never_negative", "plane", "variable_text"]


def field_of(obj: xr.DataArray | xr.Dataset, variable: str | None) -> xr.DataArray:
    """Return the field that a variable means, unpacked, as float64; lazy data stay lazy.

    Parameters
    ----------
    obj : DataArray or Dataset
    variable : str, optional
        A name or a standard name; needed where there are several fields.

    Raises
    ------
    ConstraintError
        There is no such field, or more than one.
    """
    return decoded(_found(obj, variable)).astype(np.float64)


def _found(obj: xr.DataArray | xr.Dataset, variable: str | None) -> xr.DataArray:
    if isinstance(obj, xr.DataArray):
        has = {str(obj.name): obj}
    elif isinstance(obj, xr.Dataset):
        axes = discover(obj, require=("y", "x"))
        has = {str(n): v for n, v in obj.data_vars.items() if {axes.y, axes.x} <= set(v.dims)}
    else:
        raise DataTypeError(
            f"expected a forecast as DataArray or Dataset, found {type(obj).__name__}. Label it."
        )
    named = {n: v for n, v in has.items() if variable in (None, n, v.attrs.get("standard_name"))}
    if len(named) == 1:
        return next(iter(named.values()))
    told = {n: v.attrs.get("standard_name", "without standard name") for n, v in has.items()}
    wanted = "a variable" if variable is None else f"the variable {variable!r}"
    raise ConstraintError(
        f"constraint on {wanted}: expected one field of the forecast, found {len(named)} among "
        f"{told}. Name one with variable=..."
    )


def never_negative(field: xr.DataArray) -> bool:
    """Tell whether no value is below 0; lazy values are not looked at, and may be."""
    return field.chunks is None and not bool((field.values < 0).any())


def plane(field: xr.DataArray) -> tuple[str, str]:
    """Return the dims of rows and columns."""
    axes = discover(field, require=("y", "x"))
    return str(axes.y), str(axes.x)


def variable_text(variable: str | None) -> str:
    """Return a variable in words that follow what is measured of it."""
    return "" if variable is None else f" of {variable}"


def larger(first: xr.DataArray, *others: xr.DataArray) -> xr.DataArray:
    """Return the largest of labeled numbers, one by one."""
    for other in others:
        first = xr.apply_ufunc(np.maximum, first, other, dask="allowed")
    return first
