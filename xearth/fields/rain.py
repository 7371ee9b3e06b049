r"""Rain rate from radar reflectivity, and back.

With :math:`Z = 10^{\mathrm{dBZ} / 10}` in mm6 m-3 and :math:`R` in mm h-1,

.. math:: Z = a R^b, \qquad R = (Z / a)^{1/b} .

The coefficients depend on the kind of rain and on the service, and change the rate by a factor of
two: they are taken from attributes (``zr_a``, ``zr_b``) where data have them, and asked for where
they do not. Common ones are 200 and 1.6 (Marshall, J. S. and W. McK. Palmer, 1948: The distribution
of raindrops with size. *J. Meteor.* 5, 165-166), 223 and 1.53 (Finland), 316 and 1.5 (Switzerland).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.packing import decoded
from ..cf.timeaxis import TimeAxis
from ..errors import DataTypeError, TimeAxisError, UnitsError
from ..units import compatible, convert_array, parse

__all__ = ["kind_of", "rain_rate", "reflectivity"]

#: Level in dBZ that stands for no echo where nothing else is stated.
NO_ECHO = -32.0

_RATE, _FLUX, _DBZ = "mm h-1", "kg m-2 s-1", "dBZ"
_AMOUNTS = ("mm", "kg m-2")
_RATE_NAMES = {
    "standard_name": "rainfall_rate",
    "long_name": "rain rate from radar reflectivity",
    "units": _RATE,
}
_DBZ_NAMES = {
    "standard_name": "equivalent_reflectivity_factor",
    "long_name": "radar reflectivity factor from rain rate",
    "units": _DBZ,
}


def kind_of(da: xr.DataArray) -> str | None:
    """Tell "rate", "amount", "reflectivity" or none of them (None) from units and names.

    A length per time is rain if a name says so, or if it is given in mm and no standard name says
    otherwise. An amount is what fell between two frames.

    Examples
    --------
    >>> kind_of(xr.DataArray(0.0, name="rain", attrs={"units": "m s-1"}))
    'rate'
    >>> kind_of(xr.DataArray(0.0, name="RR", attrs={"units": "mm/h"}))
    'rate'
    >>> kind_of(xr.DataArray(0.0, name="RR", attrs={"units": "mm", "long_name": "precipitation"}))
    'amount'
    """
    units = str(da.attrs.get("units", ""))
    try:
        parse(units)
    except UnitsError:
        return None
    if compatible(units, _DBZ):
        return "reflectivity"
    words = " ".join(str(da.attrs.get(key, "")) for key in ("standard_name", "long_name"))
    wet = re.search(r"rain|precip(?!itable)", f"{words} {da.name}", re.IGNORECASE)
    if compatible(units, _RATE):
        plain = "standard_name" not in da.attrs and units.strip().lower().startswith("mm")
        return "rate" if wet or plain else None
    if not wet:
        return None
    if compatible(units, _FLUX):
        return "rate"
    return "amount" if any(compatible(units, amount) for amount in _AMOUNTS) else None


def rain_rate(
    dbz: xr.DataArray,
    *,
    a: float | None = None,
    b: float | None = None,
    no_echo: float | None = None,
) -> xr.DataArray:
    r"""Return the rain rate of a reflectivity, :math:`R = (10^{\mathrm{dBZ}/10} / a)^{1/b}`.

    Parameters
    ----------
    dbz : DataArray
        In dBZ; packed integers are unpacked, lazy data stay lazy. A rain rate is only brought to
        mm h-1, and an amount of rain in each frame (mm, kg m-2) is divided by the time between
        frames, so that archives of all kinds can be treated alike.
    a, b : float, optional
        Coefficients of :math:`Z = a R^b`; by default attributes ``zr_a`` and ``zr_b``.
    no_echo : float, optional
        Level in dBZ at and below which there is no rain, exactly 0; by default the attribute
        ``no_echo``, else none.

    Returns
    -------
    DataArray
        In mm h-1, missing where ``dbz`` is; the coefficients are attributes.

    Raises
    ------
    UnitsError
        ``dbz`` is neither in dBZ nor a rain rate nor an amount, no coefficients are stated, or
        some are given for a rain rate.
    TimeAxisError
        Amounts without frames at an even step of a fixed length.

    Examples
    --------
    >>> dbz = xr.DataArray([-32.0, 23.0, 40.0, np.nan], dims="x", attrs={"units": "dBZ"})
    >>> rain_rate(dbz, a=200, b=1.6, no_echo=-32).values.round(2)
    array([ 0.  ,  1.  , 11.53,   nan])
    """
    field = _field(dbz, "reflectivity", _DBZ)
    if kind_of(field) == "rate" and (a, b, no_echo) == (None, None, None):
        return convert_array(field, _RATE)
    if kind_of(field) == "amount" and (a, b, no_echo) == (None, None, None):
        return _per_hour(field)
    if kind_of(field) != "reflectivity":
        raise UnitsError(
            f"{field.name!r}: expected a reflectivity in dBZ, found {field.attrs['units']!r}. A "
            "rain rate takes no coefficients; linear Z in mm6 m-3 is 10 * log10(Z) in dBZ."
        )
    a, b = _coefficients(field, a, b)
    nothing = field.attrs.get("no_echo") if no_echo is None else no_echo
    rate = (10.0 ** (field / 10.0) / a) ** (1.0 / b)
    if nothing is not None:
        rate = rate.where((field > float(nothing)) | field.isnull(), 0.0)
    rate = rate.astype(field.dtype)
    rate.attrs = {**_kept(field, a, b), **_RATE_NAMES}
    if nothing is not None:
        rate.attrs["no_echo"] = float(nothing)
    return rate.rename("rainfall_rate")


def reflectivity(
    rate: xr.DataArray,
    *,
    a: float | None = None,
    b: float | None = None,
    no_echo: float | None = None,
) -> xr.DataArray:
    r"""Return the reflectivity of a rain rate, :math:`10 \log_{10}(a R^b)`.

    Parameters
    ----------
    rate : DataArray
        In mm h-1 or a unit that becomes it; packed integers are unpacked, lazy data stay lazy. A
        reflectivity is returned as it is.
    a, b : float, optional
        Coefficients of :math:`Z = a R^b`; by default attributes ``zr_a`` and ``zr_b``.
    no_echo : float, optional
        The level in dBZ that no rain gets, and any less than it; by default the attribute
        ``no_echo``, else -32.

    Returns
    -------
    DataArray
        In dBZ, missing where ``rate`` is; the coefficients are attributes.

    Raises
    ------
    UnitsError
        ``rate`` is neither a rain rate nor a reflectivity, no coefficients are stated, or some
        are given for a reflectivity.

    Examples
    --------
    >>> rate = xr.DataArray([0.0, 1, 10], dims="x", name="rain", attrs={"units": "mm h-1"})
    >>> reflectivity(rate, a=200, b=1.6).values.round(2)
    array([-32.  ,  23.01,  39.01])
    """
    field = _field(rate, "rain rate", _RATE)
    if kind_of(field) == "reflectivity" and (a, b, no_echo) == (None, None, None):
        return field
    if kind_of(field) != "rate" and not compatible(str(field.attrs["units"]), _RATE):
        raise UnitsError(
            f"{field.name!r}: expected a rain rate in {_RATE}, found {field.attrs['units']!r}. A "
            "reflectivity takes no coefficients."
        )
    a, b = _coefficients(field, a, b)
    field = convert_array(field, _RATE)
    nothing = float(field.attrs.get("no_echo", NO_ECHO) if no_echo is None else no_echo)
    lowest = (10.0 ** (nothing / 10.0) / a) ** (1.0 / b)
    level: Any = 10.0 * np.log10(a * field.clip(min=lowest) ** b)
    dbz: xr.DataArray = level.where((field > lowest) | field.isnull(), nothing).astype(field.dtype)
    dbz.attrs = {**_kept(field, a, b), **_DBZ_NAMES, "no_echo": nothing}
    return dbz.rename("reflectivity")


def _per_hour(amount: xr.DataArray) -> xr.DataArray:
    """Return the mean rate between frames, of amounts since the frame before."""
    name = discover(amount, require=("time",)).time
    step = TimeAxis.from_array(amount[name]).step
    if step is None or step.seconds is None:
        raise TimeAxisError(
            f"{amount.name!r}: an amount in {amount.attrs['units']!r} becomes a rate by the time "
            f"between frames; expected two frames or more at an even step, found "
            f"{amount.sizes.get(name, 1)} at {step}. Divide by the hours yourself, and set "
            "attrs['units'] to 'mm h-1'."
        )
    unit = next(unit for unit in _AMOUNTS if compatible(str(amount.attrs["units"]), unit))
    rate = convert_array(amount, unit) * np.asarray(3600.0 / step.seconds, amount.dtype)
    dropped = ("valid_min", "valid_max", "valid_range", "actual_range")
    kept = {key: value for key, value in amount.attrs.items() if key not in dropped}
    said = f"{kept.get('comment', '')} Amounts of {step} as mean rates.".strip()
    names = {"standard_name": "rainfall_rate", "long_name": "rain rate", "units": f"{unit} h-1"}
    rate.attrs = {**kept, **names, "cell_methods": f"{name}: mean", "comment": said}
    return convert_array(rate.rename("rainfall_rate"), _RATE)


def _field(da: xr.DataArray, what: str, unit: str) -> xr.DataArray:
    if not isinstance(da, xr.DataArray):
        raise DataTypeError(
            f"expected a {what} as a DataArray with units, found {type(da).__name__}. Label it, "
            f"for example xr.DataArray(values, dims=('y', 'x'), attrs={{'units': {unit!r}}})."
        )
    if "units" not in da.attrs:
        raise UnitsError(
            f"{da.name!r}: expected a {what} in {unit}, found no attrs['units']. Set them first: a "
            "rain rate taken for a reflectivity would go unnoticed."
        )
    field = decoded(da)
    field = field if field.dtype.kind == "f" else field.astype(np.float64)
    return field.drop_encoding()


def _coefficients(da: xr.DataArray, a: float | None, b: float | None) -> tuple[float, float]:
    given = (("zr_a", a), ("zr_b", b))
    found: list[Any] = [da.attrs.get(k) if v is None else v for k, v in given]
    if None in found:
        raise UnitsError(
            f"{da.name!r} does not state the coefficients of Z = a R^b (attributes zr_a and zr_b): "
            "give both, those of the service that made the data. a=200, b=1.6 (Marshall and "
            "Palmer) is a common choice where they are not known, and can be wrong by a factor of "
            "two."
        )
    a, b = (float(v) for v in found)
    if a <= 0 or b <= 0:
        raise UnitsError(f"a={a:g}, b={b:g}: expected positive coefficients of Z = a R^b.")
    return a, b


def _kept(da: xr.DataArray, a: float, b: float) -> dict[str, Any]:
    """Return the attributes that a converted field keeps, and its coefficients."""
    dropped = ("valid_min", "valid_max", "valid_range", "actual_range", "comment", "no_echo")
    kept = {key: value for key, value in da.attrs.items() if key not in dropped}
    return {**kept, "zr_a": a, "zr_b": b, "comment": f"Z = {a:g} R^{b:g}"}
