"""Attributes of derived fields.

xarray keeps attributes through every operation, so an anomaly, a spread or a score still claims
to be the field it came from. Each derived field therefore gets its attributes from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..errors import UnitsError
from ..units import cf_format, compatible, parse

__all__ = [
    "anomaly_attrs",
    "append_history",
    "index_attrs",
    "origin_attrs",
    "score_attrs",
    "temperature_metadata",
]

# Standard names of anomalies that the CF table has, by the name of the field.
ANOMALY_NAMES: Mapping[str, str] = {
    "surface_temperature": "surface_temperature_anomaly",
    "air_temperature": "air_temperature_anomaly",
    "sea_water_temperature": "sea_water_temperature_anomaly",
    "air_pressure": "air_pressure_anomaly",
    "geopotential_height": "geopotential_height_anomaly",
    "geopotential": "geopotential_anomaly",
    "brightness_temperature": "brightness_temperature_anomaly",
}

_KEPT = ("grid_mapping", "cell_measures")
_ORIGIN = ("forecaster", "training_period", "validation_period", "target")


def temperature_metadata(units: str | None, kind: str) -> dict[str, str]:
    """Give ``units_metadata`` where the unit is a bare temperature, else nothing.

    Parameters
    ----------
    units : str or None
    kind : {"difference", "on_scale"}

    Returns
    -------
    dict

    Examples
    --------
    >>> temperature_metadata("degC", "difference")
    {'units_metadata': 'temperature: difference'}
    >>> temperature_metadata("m", "difference")
    {}
    """
    if units is None:
        return {}
    try:
        return {"units_metadata": f"temperature: {kind}"} if compatible(units, "K") else {}
    except UnitsError:
        return {}


def origin_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells where a forecast comes from and what it has seen.

    What is derived from a forecast has seen the same.

    Examples
    --------
    >>> origin_attrs({"units": "K", "xearth_training_period": "1856-01/1981-12"})
    {'xearth_training_period': '1856-01/1981-12'}
    """
    return {k: v for k, v in attrs.items() if k in _ORIGIN or k.startswith("xearth_")}


def anomaly_attrs(attrs: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Make the attributes of a field minus its climatology.

    Parameters
    ----------
    attrs : mapping
        Of the field.
    base : str
        The base period in words, for example ``"1991-01 to 2020-12"``.

    Returns
    -------
    dict
        The standard name becomes that of the anomaly where CF has one and stays otherwise (there
        is none for sea surface temperature); temperatures are marked as differences.

    Examples
    --------
    >>> attrs = {"standard_name": "sea_surface_temperature", "units": "degC", "valid_min": -2.0}
    >>> anomaly_attrs(attrs, "1991-01 to 2020-12")["units_metadata"]
    'temperature: difference'
    """
    units = attrs.get("units")
    found = {k: attrs[k] for k in (*_KEPT, "units", "cell_methods", "source") if k in attrs}
    name = str(attrs.get("standard_name", ""))
    if name:
        found["standard_name"] = ANOMALY_NAMES.get(name, name)
    label = str(attrs.get("long_name", name.replace("_", " ") or "field"))
    found["long_name"] = label if "anomaly" in label.lower() else f"{label} anomaly"
    found["comment"] = f"Anomaly from the climatology of {base}."
    found |= origin_attrs(attrs)
    found.pop("xearth_climatology_base", None)  # the base is another one now
    return found | temperature_metadata(units, "difference")


def index_attrs(attrs: Mapping[str, Any], long_name: str) -> dict[str, Any]:
    """Make the attributes of an area mean, such as an index.

    Parameters
    ----------
    attrs : mapping
        Of the field.
    long_name : str

    Returns
    -------
    dict
        Names and units as the field has them; ``area: mean`` joins the cell methods, without
        "where" and grid mapping, which belong to a grid.
    """
    keep = ("standard_name", "units", "units_metadata", "comment", "source")
    found = {k: attrs[k] for k in keep if k in attrs}
    rest = re.sub(r"area: \w+(?: where \w+)?", "", str(attrs.get("cell_methods", "")))
    methods = " ".join([*rest.split(), "area: mean"])
    return {**found, "long_name": long_name, "cell_methods": methods, **origin_attrs(attrs)}


def score_attrs(
    long_name: str,
    *,
    units: str | None = None,
    unit_power: int = 0,
    cell_methods: str | None = None,
) -> dict[str, Any]:
    """Make the attributes of a score.

    Parameters
    ----------
    long_name : str
    units : str, optional
        Of the verified field; needed when ``unit_power`` is not 0.
    unit_power : int
        The unit of the score is that of the field to this power: 0 for a correlation, 1 for a
        root mean square error, 2 for a variance.
    cell_methods : str, optional

    Returns
    -------
    dict
        Without a standard name (a score of a temperature is no temperature), and marked as a
        difference where the unit is one of temperature.

    Raises
    ------
    UnitsError
        The score has a unit but the field's is not given or not known.

    Examples
    --------
    >>> score_attrs("root mean square error", units="degC", unit_power=1)["units"]
    'degC'
    >>> score_attrs("mean square error", units="degC", unit_power=2)["units"]
    'K2'
    """
    found = {"long_name": long_name, "units": _power(long_name, units, unit_power)}
    if cell_methods:
        found["cell_methods"] = cell_methods
    return found | temperature_metadata(found["units"], "difference")


def _power(label: str, units: str | None, power: int) -> str:
    if power == 0:
        return "1"
    if units is None:
        raise UnitsError(
            f"The score {label!r} has the unit of its field to the power {power}, but the field "
            "has no units. Set attrs['units'] of forecast and observations."
        )
    if power == 1:
        return units
    # A power of a temperature difference has no scale of its own: it is written in kelvins.
    return cf_format(f"({'K' if compatible(units, 'K') else str(parse(units))}) ** {power}")


def append_history(attrs: Mapping[str, Any], text: str) -> dict[str, Any]:
    r"""Add a dated line to the history.

    Parameters
    ----------
    attrs : mapping
    text : str

    Returns
    -------
    dict
        A copy of ``attrs``; its ``history`` ends with the new line.

    Examples
    --------
    >>> append_history({"history": "made"}, "used")["history"].split(" ")[0]
    'made\n...Z:'
    """
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [str(attrs["history"]).rstrip()] if attrs.get("history") else []
    return {**attrs, "history": "\n".join([*lines, f"{stamp}: {text}"])}
