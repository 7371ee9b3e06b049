r"""What is measured of a forecast, as an object.

A functional is a number :math:`a(y)` of each frame of a field :math:`y`, or of its horizon. The
same object is compared with a quantity to make a constraint, and an :class:`Index` is what a
sensitivity is the derivative of.

An :class:`Index` is the area mean over a box, at a lead :math:`n`, or the mean over the :math:`m`
leads that end there or that make up a season,

.. math:: J = \frac{1}{m} \sum_{k} \sum_i w_i\, y_{n_k,\,i},

with the weights :math:`w` of :meth:`xearth.Box.weights`. It is linear in the forecast.

*Comparisons.* ``functional >= quantity``, ``<=`` and ``==`` make a :class:`Constraint
<xearth.Constraint>`. Between two functionals ``==`` is equality of values, as of any frozen
dataclass: true when they measure the same; they hash alike. A bare number is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..errors import ConfigError, ConstraintError, LeadError
from ..fields.regions import NINO3, NINO4, NINO12, NINO34, Box, box_mean
from ..units import is_difference
from .amount import Amount
from .constraint import Bound, Constraint
from .frames import Frames, frame_dim, months_of, season_text
from .reading import field_of, never_negative, variable_text

if TYPE_CHECKING:
    from ..models.conditions.protocol import Condition

__all__ = ["Functional", "Index", "Nino3", "Nino4", "Nino12", "Nino34"]

Forecast = xr.DataArray | xr.Dataset


class Functional:
    """What is measured; the base of all kinds, which are frozen dataclasses."""

    #: A unit that bounds of it could have, for messages.
    example_unit = "mm/h"
    #: Whether it is a sum over cells, which rounding changes.
    rounds = True

    def measure(self, obj: Forecast) -> xr.DataArray:
        """Return the numbers, labeled, with units."""
        raise ConstraintError(f"{self}: expected a kind that measures.")

    def size(self, obj: Forecast, measured: xr.DataArray | None = None) -> xr.DataArray:
        """Return what rounding errors are small against; spares a measure that is given."""
        return abs(self.measure(obj) if measured is None else measured)

    def grain(self, obj: Forecast) -> xr.DataArray | float:
        """Return the steps in which it moves: a cell, for a fraction of the area."""
        return 0.0

    def spread_out(self, values: npt.NDArray, measured: xr.DataArray) -> xr.DataArray:
        """Return bounds (n,) along the dim of what was measured that they belong to."""
        if values.size == 1:
            return xr.DataArray(values[0])
        dim = self.bound_dim(measured)
        if dim is None or measured.sizes[dim] != values.size:
            found = "no such dim" if dim is None else f"{measured.sizes[dim]} along {dim!r}"
            raise ConstraintError(
                f"{self}: expected one bound, or one for each frame (or point), found "
                f"{values.size} for {found}."
            )
        return xr.DataArray(values, dims=dim)

    def bound_dim(self, measured: xr.DataArray) -> str | None:
        """Return the dim along which several bounds lie."""
        return frame_dim(measured) if measured.dims else None

    def require_bounded(self, obj: Forecast) -> None:
        """Refuse a forecast whose measure has no meaning as a bound; by default none is.

        Raises
        ------
        ConstraintError
        """

    def counted(self, excess: xr.DataArray, obj: Forecast) -> xr.DataArray:
        """Return the violation with what does not count set to 0."""
        return excess

    def condition(self, template: Forecast, bound: Bound) -> Condition:
        """Return the condition on tensors; see :meth:`xearth.Constraint.on`."""
        raise ConstraintError(f"{self}: expected a kind with a condition.")

    # -- comparisons ------------------------------------------------------------------------

    def __ge__(self, bound: Any) -> Constraint:
        return Bound(self, lower=self._amount(bound))

    def __le__(self, bound: Any) -> Constraint:
        return Bound(self, upper=self._amount(bound))

    def __gt__(self, bound: Any) -> Constraint:
        raise ConstraintError(
            f"{self} > or < {bound}: expected >= or <=, as there is no nearest forecast strictly "
            "above a bound."
        )

    __lt__ = __gt__

    def __eq__(self, other: object) -> Any:
        if isinstance(other, Functional):
            own = tuple(getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]
            its = tuple(getattr(other, f.name) for f in fields(other))  # type: ignore[arg-type]
            return type(self) is type(other) and own == its
        if hasattr(other, "magnitude") or isinstance(other, Amount | int | float | np.number):
            if not hasattr(other, "magnitude") and not isinstance(other, Amount):
                if other == 0:
                    raise ConstraintError(
                        f"bound of {self}: expected the quantity to the right of >=, <= or ==, "
                        "found 0 without a unit, as which a quantity to the left compares. Write "
                        f"functional >= xearth.Q(8, {self.example_unit!r})."
                    )
                raise ConstraintError(
                    f"bound of {self}: expected a quantity to the right of ==, found {other!r} "
                    f"without a unit. Write xearth.Q({other!r}, {self.unit_of(other)!r})."
                )
            amount = self._amount(other)
            return Bound(self, lower=amount, upper=amount)
        return NotImplemented

    def __ne__(self, other: object) -> Any:
        if isinstance(other, Functional):
            return not self == other
        if hasattr(other, "magnitude") or isinstance(other, Amount):
            raise ConstraintError(
                f"{self} != {other}: expected >=, <= or ==, as there is no nearest forecast that "
                "only differs from a value."
            )
        return NotImplemented

    def __hash__(self) -> int:
        own = tuple(getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]
        return hash((type(self).__name__, own))

    def between(self, lower: Any, upper: Any) -> Constraint:
        """Return the constraint that it lies between two quantities."""
        return Bound(self, lower=self._amount(lower), upper=self._amount(upper))

    def near(self, mean: Any, sd: Any) -> Constraint:
        """Return the constraint that it is Gaussian, with a mean and a standard deviation."""
        amount = self._amount(mean)
        return Bound(self, lower=amount, upper=amount, sd=self._amount(sd))

    def _amount(self, bound: Any) -> Amount:
        return Amount.of(bound, f"bound of {self}", unit=self.unit_of(bound))

    def unit_of(self, bare: Any) -> str:
        """Return the unit that a number without one may mean, for messages."""
        return self.example_unit


@dataclass(frozen=True, eq=False)
class Index(Functional):
    """The mean over a box at a lead, or over a season.

    Parameters
    ----------
    box : Box
    lead : int, optional
        In the units of the forecast's ``lead`` coordinate.
    steps : int
        Mean over so many leads, the last of which is ``lead``; 3 for the seasonal index of
        monthly forecasts.
    season : str or tuple of int, optional
        In place of a lead: the mean over the first whole run of these months in the forecast, by
        valid time; initials such as ``"DJF"`` or numbers such as ``(12,)``. Also of an observed
        sequence, by its time.
    variable : str, optional
        Name or standard name; needed where a forecast has several fields.

    Raises
    ------
    ConfigError
        A lead or a number of steps that is no whole number of at least 1, or not one of lead and
        season.

    Examples
    --------
    >>> import xearth
    >>> str(Index(xearth.NINO34, lead=9))
    'nino34 at lead 9'
    >>> fc = xearth.samples.open("kaplan_sst").earthformer.forecast("enso-small", init="1997-06")
    >>> Nino34(lead=3).measure(fc).equals(fc.sel(lead=3).earthformer.nino34())
    True
    >>> winter = Nino34(season="DJF")
    >>> print(winter >= xearth.Q(1.5, "K"))
    nino34 in DJF is at least 1.5 K
    >>> (winter >= xearth.Q(1.5, "K")).check(fc).item()
    True
    """

    box: Box
    lead: int | None = None
    steps: int = 1
    season: str | tuple[int, ...] | None = None
    variable: str | None = None

    example_unit = "K"

    def __post_init__(self) -> None:
        if (self.lead is None) == (self.season is None):
            raise ConfigError(
                f"index {self.box.name!r}: expected a lead or a season, found lead={self.lead!r} "
                f"and season={self.season!r}."
            )
        for name, number in (("lead", self.lead or 1), ("steps", self.steps)):
            given = self.lead if name == "lead" and self.lead is not None else number
            whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
            if not whole or given < 1:
                raise ConfigError(
                    f"{name}={given!r} of the index {self.box.name!r}: expected a whole number of "
                    "at least 1."
                )
        if self.season is not None:
            object.__setattr__(self, "season", months_of(self.season))
            if self.steps != 1:
                raise ConfigError(f"index {self.box.name!r}: steps go with a lead, not a season.")

    def __str__(self) -> str:
        what = f"{self.box.name}{variable_text(self.variable)}"
        if self.season is not None:
            return f"{what} in {season_text(months_of(self.season))}"
        mean = f", mean over {self.steps} leads" if self.steps > 1 else ""
        return f"{what} at lead {self.lead}{mean}"

    def positions(self, leads: np.ndarray) -> np.ndarray:
        """Return the positions (m,) in ``leads`` that are averaged.

        Raises
        ------
        LeadError
            A lead that there is not, or a season, whose leads depend on the start.
        """
        if self.lead is None:
            raise LeadError(
                f"{self}: expected an index at a lead, as the leads of a season depend on the "
                f"start. Write {self.box.name} at lead=..., steps={len(self.season or ())}."
            )
        found = np.flatnonzero(np.asarray(leads) == self.lead)
        if found.size != 1 or found[0] + 1 < self.steps:
            raise LeadError(
                f"{self}: expected a forecast with that lead and {self.steps - 1} before it, found "
                f"the leads {np.asarray(leads).tolist()}. Choose one of them."
            )
        return np.arange(found[0] + 1 - self.steps, found[0] + 1)

    def by_start(self, forecast: xr.DataArray) -> npt.NDArray[np.intp]:
        """Return the positions (inits, m) of the leads that are averaged, for each start."""
        if self.season is not None:
            return Frames(months=months_of(self.season)).by_start(forecast)
        if "lead" not in forecast.coords:
            raise LeadError(
                f"{self}: expected a forecast with leads, found the dims {forecast.dims}. Of an "
                f"observed sequence bound a season: season='DJF'."
            )
        return self.positions(np.atleast_1d(forecast["lead"].values))[None]

    def measure(self, obj: Forecast) -> xr.DataArray:
        """Return the index of a forecast (..., lead, y, x), without the dim ``lead``.

        Raises
        ------
        LeadError
            A lead that the forecast has not.
        RegionError
            The grid does not cover the box.
        """
        forecast = self._field(obj)
        each = self.by_start(forecast)
        if (each == each[0]).all():
            return self._averaged(forecast, each[0])
        init = discover(forecast, require=()).init
        starts = [
            self._averaged(forecast.isel({init: [i]}), at).drop_vars("lead", errors="ignore")
            for i, at in enumerate(each)
        ]
        joined = xr.concat(starts, init, coords="different", compat="equals")
        return joined.assign_attrs(starts[0].attrs)

    def _averaged(self, forecast: xr.DataArray, at: npt.NDArray[np.intp]) -> xr.DataArray:
        dim = frame_dim(forecast)
        if dim is None or dim not in forecast.dims:
            raise LeadError(f"{self}: expected frames along 'lead', found {forecast.dims}.")
        index = box_mean(forecast.isel({dim: at}), self.box)
        last = index.isel({dim: -1})
        mean = index.mean(dim).assign_coords(last.coords)
        when = f"lead {self.lead}" if self.season is None else str(self).split(" in ")[-1]
        mean.attrs = index.attrs | {"long_name": f"{index.attrs['long_name']}, {when}"}
        return mean

    def size(self, obj: Forecast, measured: xr.DataArray | None = None) -> xr.DataArray:
        """Return the index of absolute values."""
        field = self._field(obj)
        if measured is not None and never_negative(field):
            return abs(measured)
        return abs(self.measure(abs(field).assign_attrs(field.attrs)))

    def condition(self, template: Forecast, bound: Bound) -> Condition:
        """Return the linear condition; see :meth:`xearth.Constraint.on`."""
        from .compiled import index_condition

        self.require_bounded(template)
        return index_condition(self, template, bound)

    def require_bounded(self, obj: Forecast) -> None:
        """Refuse bounds of an El Nino index where a field is no anomaly.

        Raises
        ------
        ConstraintError
        """
        field = self._field(obj)
        if self.box.name.startswith("nino") and not is_difference(field.attrs):
            raise ConstraintError(
                f"{self}: expected anomalies, found {field.name!r} on its own scale "
                f"({field.attrs.get('units')}). Forecast anomalies, or bound the area mean: "
                "xearth.AreaMean(box). If they are anomalies, say so: "
                "da.attrs['units_metadata'] = 'temperature: difference'."
            )

    def _field(self, obj: Forecast) -> xr.DataArray:
        return field_of(obj, self.variable)


def Nino34(  # noqa: N802 (reads as the object it makes)
    lead: int | None = None, *, steps: int = 1, season: str | tuple[int, ...] | None = None
) -> Index:
    """Return Nino3.4 (5S-5N, 170W-120W) at a lead or in a season.

    Examples
    --------
    >>> Nino34(lead=9).box.name
    'nino34'
    >>> str(Nino34(season="NDJ"))
    'nino34 in NDJ'
    """
    return Index(NINO34, lead, steps, season)


def Nino3(  # noqa: N802
    lead: int | None = None, *, steps: int = 1, season: str | tuple[int, ...] | None = None
) -> Index:
    """Return Nino3 (5S-5N, 150W-90W) at a lead or in a season.

    Examples
    --------
    >>> str(Nino3(lead=6, steps=3))
    'nino3 at lead 6, mean over 3 leads'
    """
    return Index(NINO3, lead, steps, season)


def Nino4(  # noqa: N802
    lead: int | None = None, *, steps: int = 1, season: str | tuple[int, ...] | None = None
) -> Index:
    """Return Nino4 (5S-5N, 160E-150W) at a lead or in a season.

    Examples
    --------
    >>> str(Nino4(lead=3))
    'nino4 at lead 3'
    """
    return Index(NINO4, lead, steps, season)


def Nino12(  # noqa: N802
    lead: int | None = None, *, steps: int = 1, season: str | tuple[int, ...] | None = None
) -> Index:
    """Return Nino1+2 (10S-0, 90W-80W) at a lead or in a season.

    Examples
    --------
    >>> str(Nino12(lead=3))
    'nino12 at lead 3'
    """
    return Index(NINO12, lead, steps, season)
