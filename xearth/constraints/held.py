"""Fields that belong to a constraint: a mask, block means, a spectrum.

A labeled array compares cell by cell. :class:`Held` wraps one so that it compares as one value, can
be hashed, and goes to JSON and back with its coordinates.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from ..errors import ConstraintError

__all__ = ["Held"]

#: How dates of other calendars are written: exactly.
_SINCE = "microseconds since 1970-01-01"


class Held:
    """A labeled array as a value.

    Examples
    --------
    >>> import xarray as xr
    >>> a = Held(xr.DataArray([1.0, 2.0], dims="x", coords={"x": [10.0, 20.0]}))
    >>> a == Held.from_dict(a.to_dict())
    True
    """

    __slots__ = ("da",)
    da: xr.DataArray

    def __init__(self, da: xr.DataArray | Held) -> None:
        found = da.da if isinstance(da, Held) else da
        if not isinstance(found, xr.DataArray):
            raise ConstraintError(
                f"expected a DataArray, found {type(found).__name__}. Label it, for example "
                "xr.DataArray(values, dims=('lat', 'lon'), coords=..., attrs={'units': 'K'})."
            )
        plain = [n for n, c in found.coords.items() if c.dims and _kept(c)]
        kept = found.drop_vars([n for n in found.coords if n not in plain]).compute()
        kept.attrs = {str(k): _plain(v) for k, v in kept.attrs.items()}
        self.da = kept

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self.da.identical(other.da)

    def __hash__(self) -> int:
        return hash((self.da.dims, self.da.shape, np.nansum(self.da.values.astype(float))))

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what tells it from others, for graphs."""
        coords = [(str(n), _told(c.variable)) for n, c in sorted(self.da.coords.items())]
        return type(self).__name__, self.da.name, _told(self.da.variable), coords

    def __repr__(self) -> str:
        sizes = ", ".join(f"{dim}: {size}" for dim, size in self.da.sizes.items())
        return f"<{self.da.name or 'field'} ({sizes})>"

    def to_dict(self) -> dict[str, Any]:
        """Return names, numbers and lists only."""
        coords = {str(n): _variable(c.variable) for n, c in self.da.coords.items()}
        name = None if self.da.name is None else str(self.da.name)
        return {"name": name, "coords": coords, **_variable(self.da.variable)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Held:
        """Return what :meth:`to_dict` was made from."""
        coords = {name: _from(given) for name, given in data["coords"].items()}
        return cls(xr.DataArray(_from(data), coords=coords, name=data["name"]))


def _kept(coord: xr.DataArray) -> bool:
    """Tell whether a coordinate is of numbers or times."""
    return coord.dtype.kind in "fiuMm" or _is_cftime(coord.values)


def _is_cftime(values: np.ndarray) -> bool:
    first = values.flat[0] if values.size else None
    return values.dtype == object and hasattr(first, "calendar")


def _variable(v: xr.Variable) -> dict[str, Any]:
    if _is_cftime(v.values):
        return _of_cftime(v)
    values = v.values.astype("M8[ns]").astype(str) if v.dtype.kind == "M" else v.values
    numbers = values.tolist()
    if v.dtype.kind == "f":
        numbers = [None if math.isnan(x) else x for x in values.ravel().tolist()]
    elif values.ndim != 1:
        numbers = values.ravel().tolist()
    attrs = {str(k): _plain(a) for k, a in v.attrs.items()}
    return {
        "dims": [str(d) for d in v.dims],
        "shape": list(v.shape),
        "dtype": v.dtype.newbyteorder("=").str[1:],
        "values": numbers,
        "attrs": attrs,
    }


def _told(v: xr.Variable) -> Any:
    """Return a variable as plain arrays and names."""
    return _of_cftime(v) if _is_cftime(v.values) else (v.dims, v.values, sorted(v.attrs.items()))


def _of_cftime(v: xr.Variable) -> dict[str, Any]:
    import cftime

    calendar = v.values.flat[0].calendar
    counts = cftime.date2num(v.values.ravel(), _SINCE, calendar=calendar)
    attrs = {str(k): _plain(a) for k, a in v.attrs.items()}
    return {
        "dims": [str(d) for d in v.dims],
        "shape": list(v.shape),
        "dtype": f"cftime {calendar}",
        "values": np.asarray(counts).tolist(),
        "attrs": attrs,
    }


def _from(data: dict[str, Any]) -> xr.Variable:
    kind, _, calendar = data["dtype"].partition(" ")
    if kind == "cftime":
        import cftime

        dates = cftime.num2date(
            np.array(data["values"], dtype=np.int64),
            _SINCE,
            calendar=calendar,
            only_use_cftime_datetimes=True,
        )
        return xr.Variable(data["dims"], np.reshape(dates, data["shape"]), data["attrs"])
    dtype = np.dtype(data["dtype"])
    values = np.array([np.nan if x is None else x for x in data["values"]])
    return xr.Variable(data["dims"], values.astype(dtype).reshape(data["shape"]), data["attrs"])


def _plain(value: Any) -> Any:
    """Return an attribute as JSON holds it: text, a number, or a list of them."""
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in np.asarray(value).tolist()]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool) else str(value)
