"""What a forecast is asked to hold and in which way, checked before anything is sampled.

Ways to impose constraints have names. ``projected`` is open to all forecasters with members: each
member is replaced by the nearest field that holds the constraints. A forecaster that knows better
says so in its attribute ``ways``, names of which the first is the default, and its ``forecast``
takes ``constraints`` and ``impose``: ``conditional`` of networks with a Gaussian head, ``exact``
and ``guided`` of diffusion models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import xarray as xr

from ..cf.attrs import append_history
from ..cf.discover import discover
from ..constraints.audit import audit_attrs, flattened
from ..constraints.constraint import Constraint
from ..constraints.feasible import feasible_conditions
from ..errors import ConstraintError

if TYPE_CHECKING:
    from ..models.conditions.linear import Linear
    from ..models.conditions.protocol import Condition

__all__ = ["PROJECTED", "Asked", "Steering", "audited", "linear", "starts", "ways_of"]

Forecast = xr.DataArray | xr.Dataset

PROJECTED = "projected"
_NUMBERS = ("worst", "mean", "held", "of", "lowest", "highest")  # that are told of before, too


class Asked(TypedDict, total=False):
    """What may be asked of a forecast beside its size.

    Parameters
    ----------
    constraints : Constraint or sequence of them
    impose : str
    """

    constraints: Constraint | Sequence[Constraint] | None
    impose: str | None


def ways_of(forecaster: Any) -> tuple[str, ...]:
    """Return the names of the ways in which a forecaster can hold constraints, the default first.

    Examples
    --------
    >>> import xearth
    >>> ways_of(xearth.load("enso-small"))
    ('conditional', 'projected')
    """
    own = tuple(getattr(forecaster, "ways", ()))
    return own if PROJECTED in own else (*own, PROJECTED)


@dataclass(frozen=True)
class Steering:
    """Constraints and the way to impose them; made by :meth:`of`.

    Parameters
    ----------
    constraints : tuple of Constraint
        Conjunctions taken apart.
    way : str
    """

    constraints: tuple[Constraint, ...]
    way: str

    @classmethod
    def of(
        cls,
        forecaster: Any,
        members: int | None,
        *,
        constraints: Constraint | Sequence[Constraint] | None = None,
        impose: str | None = None,
    ) -> Steering | None:
        """Return what is asked of a forecaster, None if nothing is.

        Raises
        ------
        ConstraintError
            Something else than constraints, none of them, a way that the forecaster does not
            have, or no members.
        """
        if constraints is None:
            if impose is not None:
                raise ConstraintError(
                    f"impose={impose!r}: expected constraints to impose, found none. Give "
                    "constraints=[...], or leave impose out."
                )
            return None
        flat = flattened(constraints)
        if members is None:
            raise ConstraintError(
                f"constraints on a forecast of {forecaster.name!r} without members: a condition "
                "chooses among the futures of an ensemble. Say how many: members=50."
            )
        ways = ways_of(forecaster)
        way = ways[0] if impose is None else impose
        if way not in ways:
            raise ConstraintError(
                f"impose={impose!r}: expected one of the ways of {forecaster.name!r}: "
                f"{', '.join(repr(one) for one in ways)}."
            )
        return cls(flat, way)

    def require(self, template: Forecast) -> list[list[Condition]]:
        """Refuse what no forecast like a template can hold; return the conditions of each start.

        Parameters
        ----------
        template : DataArray or Dataset
            A forecast like those that will hold the constraints; its values do not count.

        Raises
        ------
        ConstraintError
            They contradict each other, do not fit the forecast, or this way cannot impose them.
        LeadError, RegionError
            The forecast lacks the leads or the place.
        """
        found = [
            self._imposable(feasible_conditions(self.constraints, one)) for one in starts(template)
        ]
        audit_attrs(template, self.constraints)  # what cannot be audited is not imposed either
        return found

    def conditions(self, one: Forecast) -> list[Condition]:
        """Return the conditions on the tensors of one start's forecast."""
        return self._imposable([constraint.on(one) for constraint in self.constraints])

    def _imposable(self, conditions: list[Condition]) -> list[Condition]:
        """Return the conditions, which this way can impose."""
        for constraint, condition in zip(self.constraints, conditions, strict=True):
            if self.way == PROJECTED and not condition.exact:
                raise ConstraintError(
                    f"{constraint}: has no nearest forecast to project on (an observation with "
                    "error, or a number without a formula for it). Ask impose='conditional' of a "
                    "model with a Gaussian head, or impose='guided' of a diffusion model."
                )
        return conditions


def linear(constraints: Sequence[Constraint], conditions: Sequence[Condition]) -> list[Linear]:
    """Return conditions that are linear, one for each constraint.

    Raises
    ------
    ConstraintError
        One is not.
    """
    from ..models.conditions.linear import Linear

    found = []
    for constraint, condition in zip(constraints, conditions, strict=True):
        if not isinstance(condition, Linear):
            raise ConstraintError(
                f"{constraint}: is no bound of weighted sums of cells, so the conditional law of a "
                "Gaussian forecast is not known for it. Ask impose='projected', which takes the "
                "nearest field of each member, or bound a mean, a total or an index."
            )
        found.append(condition)
    return found


def starts(forecast: Forecast) -> Iterator[Any]:
    """Yield the forecasts of each start."""
    init = discover(forecast, require=()).init
    if init is None or init not in forecast.dims:
        yield forecast
        return
    for i in range(forecast.sizes[init]):
        yield forecast.isel({init: [i]})


def audited(
    after: Forecast,
    before: Forecast | None,
    steering: Steering,
    probability: Mapping[str, Any] | None = None,
) -> Any:
    """Return a forecast with an audit in its attributes.

    Parameters
    ----------
    after : DataArray or Dataset
        With the constraints.
    before : DataArray or Dataset, optional
        Without them; None where it would have to be made for this alone.
    steering : Steering
    probability : mapping, optional
        From the sentence of a constraint to its probability for each start without it.

    Returns
    -------
    DataArray or Dataset
        ``after`` with the attributes of :func:`xearth.audit_attrs`, each entry with
        ``probability`` and, where it is known, ``before``, the same numbers of the forecast without
        constraints; and with ``xearth_imposed``, the way.
    """
    attrs = audit_attrs(after, steering.constraints)
    entries = json.loads(attrs["xearth_audit"])
    lines = attrs["xearth_constraints"].split("\n")
    for k, old in enumerate(_entries(before, steering)):
        entries[k]["before"] = {key: old[key] for key in _NUMBERS if key in old}
        lines[k] += f"; before: held by {old['held']} of {old['of']}"
        if old["held"] < old["of"] and old["worst"] is not None:
            lines[k] += f", off by {old['worst']:.3g} {old['units']} at most"
    for k in range(len(entries)):
        known = None if probability is None else probability.get(entries[k]["says"])
        entries[k]["probability"] = known
        if known is not None:
            told = ", ".join(f"{p:.3g}" for p in np.unique(known)[[0, -1][: len(set(known))]])
            lines[k] += f"; probability without it {told.replace(', ', ' to ')}"
    told_attrs = {
        "xearth_imposed": steering.way,
        "xearth_constraints": "\n".join(lines),
        "xearth_audit": json.dumps(entries, ensure_ascii=False),
    }
    text = f"constraints imposed, {steering.way}: {'; '.join(map(str, steering.constraints))}"
    return with_attrs(after, lambda attrs: append_history(attrs, text) | told_attrs)


def _entries(forecast: Forecast | None, steering: Steering) -> list[dict[str, Any]]:
    """Return the entries of the audit of a forecast, if there is one."""
    if forecast is None:
        return []
    return list(json.loads(audit_attrs(forecast, steering.constraints)["xearth_audit"]))


def with_attrs(forecast: Forecast, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    """Return a forecast with changed attributes of each field."""
    if isinstance(forecast, xr.DataArray):
        return forecast.drop_attrs(deep=False).assign_attrs(change(forecast.attrs))
    return forecast.assign(
        {
            name: field.drop_attrs(deep=False).assign_attrs(change(field.attrs))
            for name, field in forecast.data_vars.items()
        }
    )
