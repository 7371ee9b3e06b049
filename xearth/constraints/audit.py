"""Audits: what a forecast was asked to hold and how far it is off, in units.

An audit goes with the forecast: as a Dataset by start and member, and as attributes that are
written into files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import xarray as xr

from ..cf.discover import discover
from ..errors import ConstraintError
from .constraint import Bound, Constraint, Forecast, parts
from .factor import ByFactor
from .intensity import IntensityAnomaly

__all__ = ["audit", "audit_attrs"]


def flattened(constraints: Constraint | Sequence[Constraint]) -> tuple[Constraint, ...]:
    """Return constraints as a flat tuple, conjunctions taken apart.

    Raises
    ------
    ConstraintError
        Something else than a constraint.
    """
    given = (constraints,) if isinstance(constraints, Constraint) else tuple(constraints)
    if not given:
        raise ConstraintError(
            "constraints: expected one or more, found none. Write a comparison such as "
            "xearth.AreaMean() >= xearth.Q(8, 'mm/h')."
        )
    wrong = [c for c in given if not isinstance(c, Constraint)]
    if wrong:
        raise ConstraintError(
            f"constraints: expected comparisons such as xearth.AreaMean() >= xearth.Q(8, 'mm/h'), "
            f"found {wrong[0]!r}."
        )
    return tuple(part for c in given for part in parts(c))


def asked_of(forecast: Forecast) -> tuple[Constraint, ...]:
    """Return the constraints that a forecast was asked to hold, as its attributes tell.

    Raises
    ------
    ConstraintError
        They tell of none.
    """
    fields = (forecast,) if isinstance(forecast, xr.DataArray) else forecast.data_vars.values()
    told = [field.attrs["xearth_audit"] for field in fields if "xearth_audit" in field.attrs]
    if not told:
        raise ConstraintError(
            "the forecast names no constraints in its attributes (xearth_audit): give those to "
            "look at, xearth.audit(forecast, constraints)."
        )
    entries = (json.dumps(entry["constraint"]) for entry in json.loads(told[0]))
    return tuple(Constraint.from_json(entry) for entry in entries)


def unaudited_attrs(constraints: Sequence[Constraint]) -> dict[str, str]:
    """Return attributes as those of :func:`audit_attrs` for a forecast that is not computed.

    Parameters
    ----------
    constraints : sequence of Constraint

    Returns
    -------
    dict
        What was asked, without numbers, and how to get them.
    """
    entries = [_asked(c) for c in constraints]
    later = "not computed yet, see xearth.audit(forecast)"
    return {
        "xearth_constraints": "\n".join(f"{entry['says']}: {later}" for entry in entries),
        "xearth_audit": json.dumps(entries, ensure_ascii=False),
    }


def audit(
    forecast: Forecast, constraints: Constraint | Sequence[Constraint] | None = None
) -> xr.Dataset:
    """Return how far a forecast is outside each constraint, by start and member.

    Parameters
    ----------
    forecast : DataArray or Dataset
        Dask arrays stay lazy.
    constraints : Constraint or sequence of them, optional
        Conjunctions are taken apart. By default those that the forecast was asked to hold, as its
        attributes tell.

    Returns
    -------
    Dataset
        ``holds`` (constraint, init, member), with the sentences as the coordinate ``constraint``;
        and for the k-th ``violation_k`` (init, member), the largest over frames and cells, in
        units.

    Raises
    ------
    ConstraintError, LeadError, RegionError
        The forecast lacks what a constraint asks for, or names no constraints.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").isel(time=slice(0, 3))
    >>> found = xearth.audit(rain, [xearth.NonNegative(), xearth.AreaMean() >= xearth.Q(1, "mm/h")])
    >>> found["holds"].values.tolist(), round(found["violation_2"].item(), 2)
    ([True, False], 0.62)
    """
    flat = asked_of(forecast) if constraints is None else flattened(constraints)
    sentences = xr.Variable("constraint", [str(c) for c in flat])
    excesses, holds = zip(*(c.judged(forecast) for c in flat), strict=True)
    found = xr.Dataset({"holds": xr.concat(holds, sentences, coords="minimal", compat="override")})
    found["holds"].attrs = {"long_name": "whether the constraint holds"}
    for k, excess in enumerate(excesses, start=1):
        found[f"violation_{k}"] = worst(excess, forecast)
    # the lead, the cell and the valid time of one constraint are not those of the others
    kept = {name: set(coord.dims) for name, coord in forecast.coords.items()}
    kept["constraint"] = {"constraint"}
    own = [name for name, coord in found.coords.items() if set(coord.dims) != kept.get(name)]
    return found.drop_vars(own)


def worst(excess: xr.DataArray, forecast: Forecast) -> xr.DataArray:
    """Return the largest of violations over frames and cells, by start and member."""
    axes = discover(forecast, require=())
    cases = {axes.init, axes.member, *axes.other_dims(forecast)}
    return excess.max([d for d in excess.dims if d not in cases]).assign_attrs(excess.attrs)


def audit_attrs(
    forecast: Forecast, constraints: Constraint | Sequence[Constraint] | None = None
) -> dict[str, str]:
    """Return attributes that say what was asked of a forecast and what it holds.

    Parameters
    ----------
    forecast, constraints
        As for :func:`audit`.

    Returns
    -------
    dict
        ``xearth_constraints``: a sentence for each, with what was reached, for readers.
        ``xearth_audit``: the same as JSON, one entry for each: ``says`` (the sentence),
        ``constraint`` (from which :meth:`xearth.Constraint.from_json` makes it again), ``units``,
        ``worst`` and ``mean`` violation, ``held`` and ``of`` forecasts, and ``lowest`` and
        ``highest`` of what was measured, where a number was.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").isel(time=slice(0, 3))
    >>> print(audit_attrs(rain, xearth.AreaMean() <= xearth.Q(1, "mm/h"))["xearth_constraints"])
    the area mean over the whole domain in each frame is at most 1 mm h-1: held by 1 of 1; measured 0.384 to 0.401 mm h-1
    """  # noqa: E501 - one line of output
    flat = asked_of(forecast) if constraints is None else flattened(constraints)
    entries = [_entry(c, forecast) for c in flat]
    lines = [_line(entry) for entry in entries]
    return {
        "xearth_constraints": "\n".join(lines),
        "xearth_audit": json.dumps(entries, ensure_ascii=False),
    }


def _asked(constraint: Constraint) -> dict[str, Any]:
    return {"says": str(constraint), "constraint": json.loads(constraint.to_json())}


def _entry(constraint: Constraint, forecast: Forecast) -> dict[str, Any]:
    every, holds = constraint.judged(forecast)
    excess, holds = worst(every, forecast).compute(), holds.compute()
    found = _asked(constraint) | {
        "units": str(excess.attrs.get("units", "1")),
        "worst": float(excess.max()),
        "mean": float(excess.mean()),
        "held": int(holds.sum()),
        "of": int(holds.size),
    }
    if isinstance(constraint, Bound | ByFactor | IntensityAnomaly):
        value = constraint.measure(forecast)
        found["lowest"], found["highest"] = (float(v) for v in (value.min(), value.max()))
    return {k: None if v is not None and v != v else v for k, v in found.items()}  # noqa: PLR0124


def _line(entry: dict[str, Any]) -> str:
    text = f"{entry['says']}: held by {entry['held']} of {entry['of']}"
    if entry["held"] < entry["of"]:
        text += f", off by {entry['worst']:.3g} {entry['units']} at most"
    if "lowest" in entry and entry["lowest"] is not None:
        low, high = (f"{entry[k]:.3g}" for k in ("lowest", "highest"))
        text += f"; measured {low if low == high else f'{low} to {high}'} {entry['units']}"
    return text
