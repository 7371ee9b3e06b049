r"""Constraints: what a forecast should hold, as a sentence, an audit and a condition.

A constraint measures a number :math:`a(y)` of a forecast :math:`y` and bounds it,
:math:`l \le a(y) \le u`. Its violation is the distance outside the bounds,

.. math:: v(y) = \max\{l - a(y),\ a(y) - u,\ 0\},

in the units of :math:`a`. One of the kind :math:`a \sim N(\mu, \sigma^2)` has the violation
:math:`|a(y) - \mu|` and holds within :math:`1.96\,\sigma`, where 95 % of that law are.

A constraint also compiles to a condition on the tensors of one forecast
(:mod:`xearth.models.conditions`), which samplers know how to impose.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..errors import ConstraintError
from ..units import compatible
from .amount import Amount
from .held import Held
from .reading import field_of, larger
from .reflectivity import asks_rate, rated_of

if TYPE_CHECKING:
    from ..models.conditions.protocol import Condition
    from .functional import Functional

__all__ = ["All", "Bound", "Constraint"]

Forecast = xr.DataArray | xr.Dataset

#: Part of the size of a number within which it equals another: sums of float32 cells.
ROUNDING = 1e-5
#: The same of cells that are compared: rounding of single precision, and of units.
CELLS = 1e-6
#: Standard deviations that hold 95 % of a Gaussian.
CENTRAL = 1.959964

_OVER_FRAMES = ("time", "y", "x", "lead")


class Constraint:
    """What a forecast should hold; the base of all kinds.

    Constraints are values: they compare and hash by what they say, and go to JSON and back.
    ``a & b`` asks for both. ``str()`` reads as a sentence.
    """

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how far a forecast is outside, in units, 0 where it holds.

        Parameters
        ----------
        obj : DataArray or Dataset
            A forecast (init, lead, member, y, x) or a sequence (time, y, x).

        Returns
        -------
        DataArray
            By init, member and frame, as the constraint has them; missing where nothing is known.
        """
        raise ConstraintError(f"{type(self).__name__}: expected a kind with a violation.")

    def tolerance(self, obj: Forecast) -> xr.DataArray | float:
        """Return the violation that is rounding, in units."""
        raise ConstraintError(f"{type(self).__name__}: expected a kind with a tolerance.")

    def on(self, template: Forecast) -> Condition:
        """Return the condition on tensors (N, T, H, W, C) of forecasts like a template.

        Parameters
        ----------
        template : DataArray or Dataset
            One start's forecast (lead, y, x), also with dims ``init`` and ``member`` of any size;
            its units are those of the tensors, its missing cells have no weight.

        Returns
        -------
        Condition
            Rows south to north and columns west to east, as :meth:`xearth.Grid.to_tensor` has them.

        Raises
        ------
        ConstraintError
            The forecast lacks the variable, or its units do not fit.
        LeadError, RegionError
            It lacks the leads or the place.
        """
        raise ConstraintError(f"{type(self).__name__}: expected a kind with a condition.")

    def check(self, obj: Forecast, *, tolerance: Any = None) -> xr.DataArray:
        """Tell for each start and member whether the constraint holds.

        Parameters
        ----------
        obj : DataArray or Dataset
            As for :meth:`violation`.
        tolerance : quantity, optional
            Violation that is let pass; by default rounding, and 1.96 standard deviations of a
            Gaussian bound.

        Returns
        -------
        DataArray of bool
        """
        if tolerance is None:
            return self.judged(obj)[1]
        return self.held(self.violation(obj), obj, tolerance=tolerance)

    def judged(self, obj: Forecast) -> tuple[xr.DataArray, xr.DataArray]:
        """Return the violation, and what `check` tells.

        Parameters
        ----------
        obj : DataArray or Dataset
            As for :meth:`violation`.
        """
        excess = self.violation(obj)
        return excess, self.held(excess, obj)

    def held(self, excess: xr.DataArray, obj: Forecast, *, tolerance: Any = None) -> xr.DataArray:
        """Tell what `check` tells, from a violation that is known.

        Parameters
        ----------
        excess : DataArray
            The violation of ``obj``.
        obj, tolerance
            As for :meth:`check`.

        Returns
        -------
        DataArray of bool
        """
        if tolerance is None:
            allowed = self.tolerance(obj)
        else:
            amount = Amount.of(tolerance, "tolerance", unit=str(excess.attrs.get("units", "1")))
            allowed = float(amount.within(excess, spread=True)[0])
        return self._within(excess, allowed, obj)

    def _within(
        self, excess: xr.DataArray, allowed: xr.DataArray | float, obj: Forecast
    ) -> xr.DataArray:
        axes = discover(obj, require=())
        cases = {axes.init, axes.member, *axes.other_dims(obj)}
        holds = (excess <= allowed).all([d for d in excess.dims if d not in cases])
        holds.attrs = {"long_name": f"whether {self}"}
        return holds.rename("holds")

    def __and__(self, other: object) -> All:
        if not isinstance(other, Constraint):
            return NotImplemented
        return All((*parts(self), *parts(other)))

    def __bool__(self) -> bool:
        raise ConstraintError(
            f"{self}: is neither true nor false without a forecast. Ask "
            "constraint.check(forecast); join constraints by &, not 'and'; a <= x <= b is "
            "x.between(a, b)."
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def to_json(self) -> str:
        """Return the constraint as JSON; :meth:`from_json` is the way back."""
        return json.dumps(encoded(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Constraint:
        """Return the constraint that JSON of :meth:`to_json` says.

        Raises
        ------
        ConstraintError
            It is no JSON of a constraint.

        Examples
        --------
        >>> import xearth
        >>> warm = xearth.Nino34(season="DJF") >= xearth.Q(1.5, "K")
        >>> xearth.Constraint.from_json(warm.to_json()) == warm
        True
        """
        from .kinds import decoded

        found = decoded(text)
        if not isinstance(found, Constraint):
            raise ConstraintError(f"expected a constraint, found {type(found).__name__}.")
        return found


def parts(constraint: Constraint) -> tuple[Constraint, ...]:
    """Return the constraints that a conjunction asks for, or the one there is."""
    return constraint.of if isinstance(constraint, All) else (constraint,)


def encoded(value: Any) -> Any:
    """Return a value of this room as JSON holds it, dataclasses with their name."""
    if isinstance(value, Held):
        return {"kind": "Held", **value.to_dict()}
    if hasattr(value, "__dataclass_fields__"):
        own = {f.name: encoded(getattr(value, f.name)) for f in fields(value)}
        return {"kind": type(value).__name__, **own}
    if isinstance(value, tuple):
        return [encoded(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True, repr=False)
class Bound(Constraint):
    """A measured number with bounds; written as a comparison.

    Parameters
    ----------
    of : Functional
        What is measured.
    lower, upper : Amount, optional
        Equal ones are an equality. One number, or one for each frame or point.
    sd : Amount, optional
        Standard deviation: the number is Gaussian about ``lower == upper``.

    Raises
    ------
    ConstraintError
        No bound, or a lower one above the upper one.

    Examples
    --------
    >>> import xearth
    >>> strong = xearth.AreaMean() >= xearth.Q(8, "mm/h")
    >>> print(strong)
    the area mean over the whole domain in each frame is at least 8 mm h-1
    >>> print(xearth.Nino34(lead=6).near(xearth.Q(1, "K"), sd=xearth.Q(0.2, "K")))
    nino34 at lead 6 is 1 K with a standard deviation of 0.2 K
    """

    of: Functional
    lower: Amount | None = None
    upper: Amount | None = None
    sd: Amount | None = None

    def __post_init__(self) -> None:
        from .functional import Functional

        given = [b for b in (self.lower, self.upper) if b is not None]
        strange = [b for b in (*given, self.sd) if b is not None and not isinstance(b, Amount)]
        if not isinstance(self.of, Functional) or strange:
            raise ConstraintError(
                f"bound of {self.of}: expected a functional and amounts with a unit, found "
                f"{strange or self.of}. Write a comparison such as "
                "xearth.AreaMean() >= xearth.Q(8, 'mm/h')."
            )
        if not given:
            raise ConstraintError(f"{self.of}: expected a bound, found none.")
        if len(given) == 2:
            attrs = {"units": given[1].unit}
            if given[1].difference:
                attrs["units_metadata"] = "temperature: difference"
            upper = xr.DataArray(np.zeros(()), attrs=attrs, name="upper bound")
            low, high = given[0].within(upper), given[1].array
            if 1 != low.size != high.size != 1:
                raise ConstraintError(
                    f"{self.of} between {self.lower} and {self.upper}: expected as many lower as "
                    f"upper bounds, or one of them, found {low.size} and {high.size}."
                )
            if (low > high).any():
                raise ConstraintError(
                    f"{self.of} between {self.lower} and {self.upper}: expected the lower bound "
                    "first, below the upper one. Swap them."
                )
        if self.sd is not None and (self.lower != self.upper or min(self.sd.values) <= 0):
            raise ConstraintError(
                f"{self.of}: expected a positive standard deviation about one mean, found "
                f"{self.sd} about {self.lower} to {self.upper}."
            )
        if self.sd is not None and not compatible(self.sd.unit, given[0].unit):
            raise ConstraintError(
                f"{self.of} near {given[0]}: expected a standard deviation in units of it, found "
                f"{self.sd}. Write xearth.Q(..., {given[0].unit!r})."
            )

    def __str__(self) -> str:
        if self.sd is not None:
            says = f"{self.lower} with a standard deviation of {self.sd}"
        elif self.lower == self.upper:
            says = f"{self.lower}"
        elif self.upper is None:
            says = f"at least {self.lower}"
        elif self.lower is None:
            says = f"at most {self.upper}"
        else:
            says = f"between {self.lower} and {self.upper}"
        return f"{self.of} is {says}"

    def measure(self, obj: Forecast) -> xr.DataArray:
        """Return what is bound, labeled, with units; rain rates of a reflectivity for a mean."""
        rated = self._rated(obj)
        self.of.require_bounded(obj)
        return self.of.measure(obj) if rated is None else rated[0].measure(rated[1])

    def _rated(self, obj: Forecast) -> tuple[Functional, xr.DataArray] | None:
        """Return what measures rain rates and these, where a mean of a reflectivity is bound."""
        bound = self.lower or self.upper
        if bound is None or not self.of.rounds or not hasattr(self.of, "variable"):
            return None
        field = field_of(obj, self.of.variable)
        if not asks_rate(bound.unit, field):
            return None
        return replace(self.of, variable=None), rated_of(field)  # type: ignore[type-var]

    def ends(self, measured: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
        """Return both bounds in the units of what was measured, infinite where there is none."""
        found = []
        for bound, none in ((self.lower, -np.inf), (self.upper, np.inf)):
            values = np.array([none]) if bound is None else bound.within(measured)
            found.append(self.of.spread_out(values, measured))
        return found[0], found[1]

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how far what is measured lies outside the bounds, in its units."""
        return self._excess(self.measure(obj), obj)

    def tolerance(self, obj: Forecast) -> xr.DataArray | float:
        """Return the violation that is rounding, or 1.96 standard deviations."""
        return self._allowed(self.measure(obj), obj)

    def judged(self, obj: Forecast) -> tuple[xr.DataArray, xr.DataArray]:
        """Return the violation, and what `check` tells; the forecast is measured once for both."""
        value = self.measure(obj)
        excess = self._excess(value, obj)
        return excess, self._within(excess, self._allowed(value, obj), obj)

    def _excess(self, value: xr.DataArray, obj: Forecast) -> xr.DataArray:
        lower, upper = self.ends(value)
        excess = larger(lower - value, value - upper).clip(min=0.0)
        excess = self.of.counted(excess.transpose(*value.dims), obj)
        excess.attrs = difference_attrs(value.attrs, f"violation: {self}")
        return excess.rename("violation")

    def _allowed(self, value: xr.DataArray, obj: Forecast) -> xr.DataArray | float:
        if self.sd is not None:
            return self.of.spread_out(CENTRAL * self.sd.within(value, spread=True), value)
        lower, upper = self.ends(value)
        ends = [abs(e.where(np.isfinite(e), 0.0)) for e in (lower, upper)]
        size = larger(*ends)
        if self.of.rounds:
            of, field = self._rated(obj) or (self.of, obj)
            size = larger(size, of.size(field, value))
        steps = (0.5 * (self.of.grain(obj) - (upper - lower))).clip(min=0.0)
        return ROUNDING * size + steps

    def on(self, template: Forecast) -> Condition:
        """Return the condition of the tensors of forecasts like a template."""
        if self._rated(template) is not None:
            from .compiled_kinds import rate_condition

            return rate_condition(self.of, template, self)  # type: ignore[arg-type]
        return self.of.condition(template, self)


@dataclass(frozen=True, repr=False)
class All(Constraint):
    """Constraints that hold together; written with ``&``.

    Parameters
    ----------
    of : tuple of Constraint

    Examples
    --------
    >>> import xearth
    >>> both = (xearth.AreaMean() >= xearth.Q(1, "mm/h")) & xearth.NonNegative()
    >>> len(both.of)
    2
    """

    of: tuple[Constraint, ...]

    def __post_init__(self) -> None:
        if not self.of or not all(isinstance(c, Constraint) for c in self.of):
            raise ConstraintError(f"expected constraints to join, found {self.of!r}.")

    def __str__(self) -> str:
        return "; and ".join(str(c) for c in self.of)

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how many of the constraints do not hold, by start and member."""
        holds = [c.check(obj) for c in self.of]
        broken = xr.concat(xr.broadcast(*holds), "constraint", coords="minimal", compat="override")
        count = (~broken).sum("constraint").astype(np.float64)
        count.attrs = {"long_name": "constraints that do not hold", "units": "1"}
        return count.rename("violation")

    def tolerance(self, obj: Forecast) -> float:
        """Return 0: each constraint has its own tolerance."""
        return 0.0

    def on(self, template: Forecast) -> Condition:
        """Return the conjunction of the conditions."""
        from .compiled import all_of

        return all_of([c.on(template) for c in self.of])


def difference_attrs(attrs: dict[str, Any], long_name: str) -> dict[str, Any]:
    """Return the attributes of a difference of what has the given ones."""
    from ..cf.attrs import temperature_metadata

    units = attrs.get("units", "1")
    found = {"long_name": long_name, "units": units}
    return found | temperature_metadata(str(units), "difference")
