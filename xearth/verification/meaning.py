"""Whether two fields mean the same: numbers, absolute values or anomalies, from which base.

Units alone do not tell a temperature from its anomaly. What tells is ``units_metadata``, a
standard name of an anomaly, or the name or long name of the field (:func:`kind_of`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from ..errors import ConfigError, DataTypeError, UnitsError, XearthWarning, warn
from ..units import affine, compatible, is_difference
from .leaks.provenance import same_periods

__all__ = [
    "base_of",
    "check_anomalies",
    "check_numbers",
    "check_weights",
    "kind_of",
    "warn_of_bases",
]

Kind = Literal["anomaly", "named", "absolute"]


def check_numbers(array: xr.DataArray, what: str) -> None:
    """Refuse text, dates, objects and complex numbers before any work.

    Raises
    ------
    DataTypeError

    Examples
    --------
    >>> check_numbers(xr.DataArray(["a"], name="t"), "truth")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    xearth.errors.DataTypeError: the truth 't' holds <U1; expected real numbers...
    """
    if array.dtype.kind not in "fiub":
        remedy = "its .real or .imag" if array.dtype.kind == "c" else ".astype('float64')"
        raise DataTypeError(
            f"the {what} {array.name!r} holds {array.dtype}; expected real numbers. Convert it, "
            f"for example with {remedy}."
        )


def kind_of(array: xr.DataArray) -> Kind:
    """Tell whether a field is marked as an anomaly, only named so, or absolute.

    Examples
    --------
    >>> kind_of(xr.DataArray(0.0, name="sst_anom", attrs={"units": "degC"}))
    'named'
    """
    if is_difference(array.attrs):
        return "anomaly"
    if "on_scale" in str(array.attrs.get("units_metadata", "")):
        return "absolute"
    words = f"{array.name} {array.attrs.get('long_name', '')} {array.attrs.get('standard_name')}"
    return "named" if "anom" in words.lower() else "absolute"


def check_anomalies(forecast: xr.DataArray, obs: xr.DataArray) -> None:
    """Refuse an anomaly against an absolute value, and one whose conversion would add an offset.

    Raises
    ------
    UnitsError

    Examples
    --------
    >>> f = xr.DataArray(0.5, name="t", attrs={"units": "degC", "long_name": "t anomaly"})
    >>> o = xr.DataArray(20.5, name="t", attrs={"units": "degC"})
    >>> check_anomalies(f, o)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    xearth.errors.UnitsError: forecast 't' is an anomaly by its name, truth 't' is absolute...
    """
    kinds = kind_of(forecast), kind_of(obs)
    mark = "attrs['units_metadata'] = 'temperature: difference'"
    if not compatible(str(forecast.attrs["units"]), "K"):
        mark = "attrs['long_name'] = '... anomaly'"
    if "absolute" in kinds and kinds != ("absolute", "absolute"):
        words = {"anomaly": "an anomaly", "named": "an anomaly by its name", "absolute": "absolute"}
        raise UnitsError(
            f"forecast {forecast.name!r} is {words[kinds[0]]}, truth {obs.name!r} is "
            f"{words[kinds[1]]}: one is an anomaly and the other is not. Use xearth.anomaly on the "
            f"absolute one, or mark an anomaly as one: {mark}."
        )
    named = [a for a, kind in zip((forecast, obs), kinds, strict=True) if kind == "named"]
    source, target = str(obs.attrs["units"]), str(forecast.attrs["units"])
    if named and compatible(source, target) and affine(source, target)[1] != 0:
        raise UnitsError(
            f"{named[0].name!r} is an anomaly by its name only, and {source!r} to {target!r} would "
            f"be converted as absolute values. Mark it as an anomaly: {mark}."
        )


def base_of(array: xr.DataArray) -> str | None:
    """Return the base period of the anomalies as the attributes state it."""
    stated = array.attrs.get("xearth_climatology_base", array.attrs.get("base_period"))
    text = "" if stated is None else str(stated).strip()
    return text if any(letter.isdigit() for letter in text) else None


def warn_of_bases(forecast: xr.DataArray, obs: xr.DataArray) -> None:
    """Say when anomalies depart from normals of different years.

    Warns
    -----
    XearthWarning

    Examples
    --------
    >>> f = xr.DataArray(0.5, attrs={"base_period": "1981/2010"})
    >>> warn_of_bases(f, f.assign_attrs(base_period="1981-01/2010-12"))
    """
    mine, theirs = base_of(forecast), base_of(obs)
    if mine is None or theirs is None or same_periods(mine, theirs):
        return
    warn(
        f"forecast {forecast.name!r} is an anomaly from {mine}, truth {obs.name!r} from {theirs}: "
        "their difference holds that of the two normals. Take both from one base, "
        "xearth.anomaly(..., base=(first, last)), or set attrs['base_period'] if they are the "
        "same.",
        XearthWarning,
    )


def check_weights(weights: xr.DataArray) -> None:
    """Refuse weights that are no numbers, negative or infinite; missing ones count as 0.

    Dask arrays are only told by their type.

    Raises
    ------
    DataTypeError, ConfigError
    """
    check_numbers(weights, "weights")
    if weights.chunks is not None:
        return
    values = np.asarray(weights.values, dtype=np.float64)
    bad = (values < 0) | np.isinf(values)
    if bad.any():
        raise ConfigError(
            f"weights {weights.name!r} must be finite and 0 or more; found {values[bad][0]:g}. "
            "Correct them, or leave a point out with 0."
        )
