r"""Relations within a forecast: between frames, between variables, between cells and their mask.

With frames :math:`y_t`, means :math:`\bar y_t` over a place and the step :math:`\Delta` between
frames, the violations are

.. math::

   \textrm{conserved:} &\quad |a(y_t) - a(y_{t-1})| - \epsilon, \\
   \textrm{monotone:} &\quad \max_{s < t} y_s - y_t \quad\textrm{in each cell}, \\
   \textrm{ordered:} &\quad y^{(1)} - y^{(2)} \quad\textrm{in each cell}, \\
   \textrm{budget:} &\quad \left|\frac{\bar S_t - \bar S_{t-1}}{\Delta}
       - \sum_k \pm \bar F^{(k)}_t\right| - \epsilon ,

where positive. A flux :math:`F_t` is the mean over the step that ends at :math:`t`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from ..cf.calendars import SECONDS
from ..cf.discover import discover
from ..cf.forecast_coords import lead_counts, valid_time
from ..cf.timeaxis import MONTHS
from ..errors import ConstraintError, LeadError, UnitsError
from ..units import affine, cf_format, compatible, convert_array, parse
from .amount import Amount
from .areal import Areal, AreaMean
from .constraint import CELLS, ROUNDING, Constraint, difference_attrs
from .frames import frame_dim
from .functional import Forecast
from .reading import field_of, larger, plane, variable_text
from .where import Mask, Place, area_weights, place_text, valued_weights

if TYPE_CHECKING:
    from ..models.conditions.protocol import Condition

__all__ = [
    "BudgetClosed",
    "Conserved",
    "Monotone",
    "Ordered",
    "PersistentMask",
    "several_frames",
    "step_seconds",
]


def several_frames(field: xr.DataArray, what: object) -> str:
    """Return the dim of the frames, of which there are two or more."""
    dim = frame_dim(field)
    if dim is None or dim not in field.dims or field.sizes[dim] < 2:
        raise LeadError(
            f"{what}: expected two frames or more, found the sizes {dict(field.sizes)}."
        )
    return dim


@dataclass(frozen=True, repr=False)
class Conserved(Constraint):
    """What is measured does not change from frame to frame: mass, energy, a global mean.

    Parameters
    ----------
    of : Areal
        An area mean or total of each frame.
    within : quantity, optional
        Largest change from one frame to the next; by default none.

    Raises
    ------
    ConstraintError
        What is measured is no number of each frame.

    Examples
    --------
    >>> import xearth
    >>> print(xearth.Conserved(xearth.AreaMean(), within=xearth.Q(0.1, "mm/h")))
    the area mean over the whole domain changes by at most 0.1 mm h-1 from frame to frame
    >>> rain = xearth.samples.open("knmi_radar").isel(time=slice(0, 3))
    >>> xearth.Conserved(xearth.AreaMean()).violation(rain).values.round(3).tolist()
    [0.017, 0.003]
    """

    of: Areal = dataclasses.field(default_factory=AreaMean)
    within: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.of, Areal) or self.of.per != "frame" or not self.of.rounds:
            raise ConstraintError(
                f"conserved {self.of}: expected an area mean or total of each frame, such as "
                " xearth.AreaTotal()."
            )
        if self.within is not None:
            amount = Amount.of(self.within, f"change of {self.of}", unit=self.of.example_unit)
            object.__setattr__(self, "within", amount)

    def __str__(self) -> str:
        what = str(self.of).removesuffix(" in each frame")
        says = "does not change" if self.within is None else f"changes by at most {self.within}"
        return f"{what} {says} from frame to frame"

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how much it changes beyond what is let pass, by the later frame."""
        value = self.of.measure(obj)
        dim = several_frames(value, self)
        change = abs(value.diff(dim))
        allowed = 0.0 if self.within is None else self.within.within(value, spread=True)[0]
        excess = (change - allowed).clip(min=0.0)
        excess.attrs = difference_attrs(value.attrs, f"violation: {self}")
        return excess.rename("violation")

    def tolerance(self, obj: Forecast) -> xr.DataArray:
        """Return rounding errors of the two numbers."""
        size = self.of.size(obj)
        dim = several_frames(size, self)
        return ROUNDING * larger(size, size.shift({dim: 1})).isel({dim: slice(1, None)})

    def on(self, template: Forecast) -> Condition:
        """Return the linear condition of the differences."""
        from .compiled import conserved_condition

        return conserved_condition(self, template)


@dataclass(frozen=True, repr=False)
class Monotone(Constraint):
    """Every cell only rises, or only falls, from frame to frame: accumulated rain.

    Parameters
    ----------
    direction : {"rising", "falling"}
    variable : str, optional
    where : Box or Mask, optional

    Examples
    --------
    >>> import xearth
    >>> print(xearth.Monotone(variable="accumulated_rain"))
    every cell of accumulated_rain over the whole domain is rising from frame to frame or the same
    >>> rain = xearth.samples.open("knmi_radar").isel(time=slice(0, 3))
    >>> bool(xearth.Monotone().check(rain)), bool(xearth.Monotone().check(rain.cumsum("time")))
    (False, True)
    """

    direction: Literal["rising", "falling"] = "rising"
    variable: str | None = None
    where: Place = None

    def __post_init__(self) -> None:
        if self.direction not in ("rising", "falling"):
            raise ConstraintError(f"direction={self.direction!r}: expected 'rising' or 'falling'.")

    def __str__(self) -> str:
        return (
            f"every cell{variable_text(self.variable)} over {place_text(self.where)} is "
            f"{self.direction} from frame to frame or the same"
        )

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how far cells are on the wrong side of an earlier frame, by frame and cell."""
        field = field_of(obj, self.variable)
        dim = several_frames(field, self)
        sign = 1.0 if self.direction == "rising" else -1.0
        inside = valued_weights(self.where, field, self) > 0
        along = field.chunk({dim: -1}) if field.chunks is not None else field
        highest: xr.DataArray = xr.apply_ufunc(
            lambda v: np.fmax.accumulate(v, axis=-1),
            sign * along,
            input_core_dims=[[dim]],
            output_core_dims=[[dim]],
            dask="parallelized",
            output_dtypes=[np.float64],
        )
        back = (highest - sign * field).isel({dim: slice(1, None)}).clip(min=0.0).fillna(0.0)
        excess = back * inside
        excess.attrs = difference_attrs(field.attrs, f"violation: {self}")
        return excess.transpose(*field.dims).rename("violation")

    def tolerance(self, obj: Forecast) -> xr.DataArray:
        """Return rounding errors of cells, of single precision."""
        return CELLS * abs(field_of(obj, self.variable)).max()

    def on(self, template: Forecast) -> Condition:
        """Return the condition of the cells along the frames."""
        from .compiled_kinds import monotone_condition

        return monotone_condition(self, template)


@dataclass(frozen=True, repr=False)
class Ordered(Constraint):
    """Variables are in order in every cell: the lowest, the mean and the highest temperature.

    Parameters
    ----------
    variables : tuple of str
        From the lowest to the highest; names or standard names.
    where : Box or Mask, optional

    Examples
    --------
    >>> print(Ordered(("tasmin", "tas", "tasmax")))
    tasmin <= tas <= tasmax in every cell over the whole domain
    """

    variables: tuple[str, ...]
    where: Place = None

    def __post_init__(self) -> None:
        names = (self.variables,) if isinstance(self.variables, str) else tuple(self.variables)
        object.__setattr__(self, "variables", names)
        if len(names) < 2 or len(set(names)) != len(names):
            raise ConstraintError(f"ordered {names}: expected two different variables or more.")

    def __str__(self) -> str:
        return f"{' <= '.join(self.variables)} in every cell over {place_text(self.where)}"

    def given(self, obj: Forecast) -> list[xr.DataArray]:
        """Return the fields in the units that they have."""
        return [field_of(obj, name) for name in self.variables]

    def fields(self, obj: Forecast) -> list[xr.DataArray]:
        """Return the fields, all in the units of the first."""
        found = self.given(obj)
        units = str(found[0].attrs.get("units", "1"))
        try:
            return [found[0], *(convert_array(field, units) for field in found[1:])]
        except UnitsError as error:
            raise ConstraintError(f"{self}: {error}") from error

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how far the lower is above the higher, by pair, frame and cell."""
        fields = self.fields(obj)
        inside = valued_weights(self.where, fields[0], self) > 0
        names = list(pairwise(self.variables))
        pairs = [low - high for low, high in pairwise(fields)]
        labels = xr.Variable("pair", [f"{a} <= {b}" for a, b in names])
        excess = xr.concat(pairs, labels, coords="minimal", compat="override")
        excess = excess.clip(min=0.0).fillna(0.0) * inside
        excess.attrs = difference_attrs(fields[0].attrs, f"violation: {self}")
        return excess.rename("violation")

    def tolerance(self, obj: Forecast) -> xr.DataArray:
        """Return rounding errors of cells, of single precision, also of units."""
        return CELLS * larger(*(abs(field).max() for field in self.fields(obj)))

    def on(self, template: Forecast) -> Condition:
        """Return the condition of the channels of each cell."""
        from .compiled_kinds import ordered_condition

        return ordered_condition(self, template)


@dataclass(frozen=True, repr=False)
class BudgetClosed(Constraint):
    """What is stored changes by what comes in and goes out, in the mean over a place.

    Parameters
    ----------
    storage : str
        A variable, such as an amount of water in kg m-2.
    sources, sinks : tuple of str
        Fluxes, each the mean over the step that ends at its frame, such as kg m-2 s-1.
    where : Box or Mask, optional
    within : quantity, optional
        Largest imbalance, in units of the fluxes; by default none.

    Examples
    --------
    >>> water = BudgetClosed("soil_water", sources=("rain",), sinks=("evaporation", "runoff"))
    >>> print(water)
    the change of soil_water is rain - evaporation - runoff, in the mean over the whole domain
    """

    storage: str
    sources: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()
    where: Place = None
    within: Any = None

    def __post_init__(self) -> None:
        for name in ("sources", "sinks"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        if not self.sources + self.sinks:
            raise ConstraintError(f"budget of {self.storage}: expected some flux, found none.")
        if self.within is not None:
            amount = Amount.of(self.within, f"imbalance of {self.storage}", unit="kg m-2 s-1")
            object.__setattr__(self, "within", amount)

    def __str__(self) -> str:
        terms = " ".join([*(f"+ {n}" for n in self.sources), *(f"- {n}" for n in self.sinks)])
        most = "" if self.within is None else f", to {self.within}"
        return (
            f"the change of {self.storage} is {terms.removeprefix('+ ')}, in the mean over "
            f"{place_text(self.where)}{most}"
        )

    @property
    def terms(self) -> tuple[tuple[str, float], ...]:
        """The fluxes with their signs."""
        return (*((n, 1.0) for n in self.sources), *((n, -1.0) for n in self.sinks))

    def factors(self, obj: Forecast) -> tuple[str, float, list[float]]:
        """Return units of the imbalance, and factors to it of storage per second and of fluxes."""
        units = str(field_of(obj, self.terms[0][0]).attrs.get("units", "1"))
        stored = str(field_of(obj, self.storage).attrs.get("units", "1"))
        try:
            rate = _factor(cf_format(parse(stored) / parse("s")), units, self.storage)
            others = [
                _factor(str(field_of(obj, n).attrs.get("units", "1")), units, n)
                for n, _ in self.terms
            ]
        except UnitsError as error:
            raise ConstraintError(
                f"{self}: expected fluxes in the units of {self.storage} ({stored}) per time: "
                f"{error}"
            ) from error
        return units, rate, others

    def _terms(self, obj: Forecast) -> tuple[str, list[xr.DataArray]]:
        """Return the units and the change and each flux, with signs: they add up to 0."""
        units, rate, others = self.factors(obj)
        stored = AreaMean(self.where, self.storage).measure(obj)
        dim = several_frames(stored, self)
        seconds = step_seconds(field_of(obj, self.storage), self)
        change = stored.diff(dim) / seconds * rate
        found = [change]
        for (name, sign), factor in zip(self.terms, others, strict=True):
            flux = AreaMean(self.where, name).measure(obj).isel({dim: slice(1, None)})
            found.append(-sign * factor * flux)
        return units, found

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return the imbalance beyond what is let pass, by the later frame."""
        units, terms = self._terms(obj)
        total = xr.DataArray(sum(terms[1:], terms[0]))
        like = xr.DataArray(0.0, attrs={"units": units})
        allowed = 0.0 if self.within is None else self.within.within(like, spread=True)[0]
        excess = (abs(total) - allowed).clip(min=0.0)
        excess.attrs = {"long_name": f"violation: {self}", "units": units}
        return excess.rename("violation")

    def tolerance(self, obj: Forecast) -> xr.DataArray:
        """Return rounding errors: those of the storage, from which the change is a difference."""
        _, rate, _ = self.factors(obj)
        _, terms = self._terms(obj)
        field = field_of(obj, self.storage)
        stored = AreaMean(self.where, self.storage).size(obj)
        dim = str(frame_dim(field))
        size = stored.isel({dim: slice(1, None)}) * rate / step_seconds(field, self)
        return ROUNDING * larger(size, *(abs(t) for t in terms))

    def on(self, template: Forecast) -> Condition:
        """Return the linear condition of the terms."""
        from .compiled import budget_condition

        return budget_condition(self, template)


def _factor(source: str, target: str, name: str) -> float:
    """Return the factor between units, also between a depth of water and a mass on an area."""
    if compatible(source, target):
        return affine(source, target, difference=True)[0]
    one = xr.DataArray(1.0, attrs={"units": source}, name=name)
    return float(convert_array(one, target))


def step_seconds(field: xr.DataArray, what: object) -> float | xr.DataArray:
    """Return the seconds between frames, a number where they are even."""
    axes = discover(field, require=())
    dim = several_frames(field, what)
    if axes.lead is not None:
        counts, unit = lead_counts(field[dim])
        if unit not in MONTHS:
            seconds = np.diff(counts) * SECONDS[unit]
            return float(seconds[0]) if (seconds == seconds[0]).all() else _along(dim, seconds)
        stamps = valid_time(field)
    else:
        stamps = field[dim]
    step = stamps.diff(dim)
    values = np.asarray(step.values)
    if values.dtype.kind == "m":
        seconds = values / np.timedelta64(1, "s")
    else:
        seconds = np.vectorize(lambda d: d.total_seconds(), otypes=[float])(values)
    return step.copy(data=seconds).reset_coords(drop=True)


def _along(dim: str, seconds: np.ndarray) -> xr.DataArray:
    return xr.DataArray(seconds, dims=dim)


@dataclass(frozen=True, repr=False)
class PersistentMask(Constraint):
    """The same cells are missing in every frame: land, or what no radar sees.

    Parameters
    ----------
    valid : Mask
        Cells that hold values; all others are missing.
    variable : str, optional

    Examples
    --------
    >>> import xearth
    >>> sst = xearth.samples.open("oisst")
    >>> ocean = xearth.Mask(sst.isel(time=0).notnull(), "ocean")
    >>> bool(PersistentMask(ocean).check(sst.isel(time=slice(0, 3))))
    True
    """

    valid: Mask
    variable: str | None = None

    def __str__(self) -> str:
        what = "the field" if self.variable is None else self.variable
        return f"{what} has values in the {self.valid} and nowhere else"

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return the part of the cells that are missing and should not be, or the reverse."""
        field = field_of(obj, self.variable)
        valid = area_weights(self.valid, field) > 0
        wrong = field.notnull() != valid.drop_vars(list(valid.coords))
        part = wrong.mean(list(plane(field)))
        part.attrs = {"long_name": f"violation: {self}", "units": "1"}
        return part.rename("violation")

    def tolerance(self, obj: Forecast) -> float:
        """Return 0."""
        return 0.0

    def on(self, template: Forecast) -> Condition:
        """Return the condition of the missing cells."""
        from .compiled_kinds import mask_condition

        return mask_condition(self, template)
