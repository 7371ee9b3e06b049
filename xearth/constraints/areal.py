r"""What can be measured of a field over a place: mean, total, largest, quantile, fraction, cells.

With the part :math:`w_i` of the area of the place that is in cell :math:`i`, over the cells that
have a value,

.. math::

   \textrm{mean} = \frac{\sum_i w_i y_i}{\sum_i w_i}, \quad
   \textrm{total} = \sum_i A_i y_i, \quad
   \textrm{fraction} = \frac{\sum_i w_i [y_i \ge c]}{\sum_i w_i}, \quad
   \textrm{largest} = \max_{w_i > 0} y_i ,

and the quantile of level :math:`p` is the smallest value :math:`q` with
:math:`\sum_{y_i \le q} w_i \ge p \sum_i w_i`. Each is a number of every frame, or, with
``per="horizon"``, one of all frames: the mean over frames for mean, total and fraction, that of
all cells of all frames for the largest and the quantile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.attrs import index_attrs, temperature_metadata
from ..cf.discover import discover
from ..errors import ConstraintError
from ..fields.rain import kind_of
from ..fields.regions import Box
from ..units import cf_format, is_difference, parse
from .amount import Amount
from .constraint import Bound
from .frames import Frames, Per, frame_dim, months_of
from .functional import Forecast, Functional
from .reading import field_of, never_negative, plane, variable_text
from .where import Mask, Place, Points, areas, place_text, valued_weights

if TYPE_CHECKING:
    from ..models.conditions.protocol import Condition

__all__ = [
    "AreaFraction",
    "AreaMean",
    "AreaTotal",
    "Areal",
]


#: Attributes by which a bound of rain meets a reflectivity.
_OF_RADAR = ("zr_a", "zr_b", "no_echo")


@dataclass(frozen=True, eq=False)
class Areal(Functional):
    """The base of what is measured over a place.

    Parameters
    ----------
    where : Box, Mask or Points, optional
        By default the whole domain.
    variable : str, optional
        Name or standard name; needed where a forecast has several fields.
    leads : tuple of int, optional
        Frames, in the units of the forecast's lead; by default all.
    season : str or tuple of int, optional
        In place of leads: the first whole run of these months, by valid time.
    per : {"frame", "horizon"}
        A number of each of these frames, or one of them all.
    """

    where: Place = None
    variable: str | None = None
    leads: tuple[int, ...] | None = None
    season: str | tuple[int, ...] | None = None
    per: Per = "frame"

    def __post_init__(self) -> None:
        if self.where is not None and not isinstance(self.where, Box | Mask | Points):
            raise ConstraintError(
                f"{type(self).__name__} over {self.where!r}: expected a Box, a Mask or Points, or "
                "nothing for the whole domain."
            )
        if self.leads is not None:
            leads = np.atleast_1d(self.leads).tolist()
            whole = [int(n) if isinstance(n, float) and n.is_integer() else n for n in leads]
            object.__setattr__(self, "leads", tuple(whole))
            if not leads:
                raise ConstraintError("leads=(): expected some lead, or leads=None for all.")
        if self.season is not None:
            object.__setattr__(self, "season", months_of(self.season))
        if self.per not in ("frame", "horizon"):
            raise ConstraintError(f"per={self.per!r}: expected 'frame' or 'horizon'.")
        str(self.frames)  # refuses leads beside a season

    @property
    def frames(self) -> Frames:
        """The frames it looks at."""
        return Frames(self.leads or (), months_of(self.season) if self.season else ())

    @property
    def what(self) -> str:
        """What is measured, in words."""
        return "the field"

    def __str__(self) -> str:
        chosen = str(self.frames)
        when = {
            "frame": f" in each frame{f' of {chosen}' if chosen else ''}",
            "horizon": f", over {chosen or 'the horizon'}",
        }[self.per]
        return f"{self.what}{variable_text(self.variable)} over {place_text(self.where)}{when}"

    def measure(self, obj: Forecast) -> xr.DataArray:
        """Return the numbers, by start and member, and by frame where there is one of each."""
        field = field_of(obj, self.variable)
        dim = frame_dim(field)
        if dim is None or dim not in field.dims:
            self.frames.by_start(field)
            return self._labeled(self.reduced(field, plane(field)), field)
        each = self.frames.by_start(field)
        if self.per == "frame" or (each == each[0]).all():
            chosen = field.isel({dim: self.frames.positions(field)})
            return self._labeled(self._over(chosen, dim), field)
        init = str(discover(field, require=()).init)
        starts = [
            self._over(field.isel({init: [i], dim: at}), dim).drop_vars(dim, errors="ignore")
            for i, at in enumerate(each)
        ]
        return self._labeled(xr.concat(starts, init), field)

    def _over(self, field: xr.DataArray, dim: str) -> xr.DataArray:
        """Return the numbers of chosen frames."""
        return self.reduced(field, plane(field) if self.per == "frame" else (*plane(field), dim))

    def reduced(self, field: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
        """Return the number over rows and columns, and over frames where ``dims`` names them."""
        raise ConstraintError(f"{self}: expected a kind that reduces.")

    def _weights(self, field: xr.DataArray) -> xr.DataArray:
        """Return the weights (y, x) without coordinates, some of which meet a value."""
        return valued_weights(self.where, field, self)

    def units(self, field: xr.DataArray) -> str:
        """Return the units of what is measured."""
        if "units" not in field.attrs:
            raise ConstraintError(
                f"{self}: expected units of {field.name!r}, found no attrs['units']. Set them, for "
                "example da.attrs['units'] = 'mm h-1'."
            )
        return str(field.attrs["units"])

    def size(self, obj: Forecast, measured: xr.DataArray | None = None) -> xr.DataArray:
        """Return the measure of absolute values."""
        field = field_of(obj, self.variable)
        if measured is not None and never_negative(field):
            return abs(measured)
        return abs(self.measure(abs(field).assign_attrs(field.attrs)))

    def _labeled(self, value: xr.DataArray, field: xr.DataArray) -> xr.DataArray:
        units = self.units(field)
        kept = {k: field.attrs[k] for k in _OF_RADAR if k in field.attrs}
        value.attrs = {**kept, "long_name": str(self), "units": units}
        if is_difference(field.attrs):
            value.attrs |= temperature_metadata(units, "difference")
        return value.rename(field.name)

    def condition(self, template: Forecast, bound: Bound) -> Condition:
        """Return the condition on tensors; see :meth:`xearth.Constraint.on`."""
        from .compiled import areal_condition

        return areal_condition(self, template, bound)


def weighted_mean(part: xr.DataArray, weights: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
    """Return the weighted mean over the plane of the cells with a value, then over frames."""
    total = xr.dot(part.notnull().astype(np.float64), weights, dim=weights.dims)
    mean = xr.dot(part.fillna(0.0), weights, dim=weights.dims) / total.where(total > 0)
    return mean.mean([d for d in dims if d not in weights.dims], skipna=False)


@dataclass(frozen=True, eq=False)
class AreaMean(Areal):
    """The area mean over a place.

    Parameters
    ----------
    where, variable, leads, season, per
        As for all that is measured over a place: by default the whole domain, the only field, and
        a number of each frame; see :class:`xearth.constraints.areal.Areal`.

    Examples
    --------
    >>> import xearth
    >>> wet = xearth.AreaMean() >= xearth.Q(1, "mm/h")
    >>> print(wet)
    the area mean over the whole domain in each frame is at least 1 mm h-1
    >>> rain = xearth.samples.open("knmi_radar").isel(time=slice(0, 3))
    >>> wet.violation(rain).values.round(2).tolist(), wet.check(rain).item()
    ([0.6, 0.62, 0.61], False)
    >>> xearth.AreaMean() == xearth.AreaMean(), xearth.AreaMean() == xearth.AreaMean(xearth.NINO34)
    (True, False)
    >>> xearth.AreaMean() >= 1
    Traceback (most recent call last):
    ...
    xearth.errors.ConstraintError: bound of the area mean ...: expected a quantity, ...
    """

    @property
    def what(self) -> str:
        """What is measured, in words."""
        return "the area mean"

    def _labeled(self, value: xr.DataArray, field: xr.DataArray) -> xr.DataArray:
        value.attrs = index_attrs(field.attrs, str(self)) | {"units": self.units(field)}
        return value.rename(field.name)

    def reduced(self, field: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
        """Return the mean over rows and columns, then over frames where ``dims`` names them."""
        return weighted_mean(field, self._weights(field), dims)


@dataclass(frozen=True, eq=False)
class AreaTotal(Areal):
    """The integral over the area of a place: a rain rate in mm/h becomes m3/s, a mass per area kg.

    Parameters
    ----------
    where, variable, leads, season, per
        As for :class:`AreaMean`.

    Examples
    --------
    >>> import xearth
    >>> print(xearth.AreaTotal() <= xearth.Q(2e4, "m3/s"))
    the total over the whole domain in each frame is at most 20000 m3 s-1
    >>> rain = xearth.samples.open("knmi_radar").isel(time=[0])
    >>> total = xearth.AreaTotal().measure(rain)
    >>> total.attrs["units"], bool(total > 0)
    ('m2 mm h-1', True)
    """

    example_unit = "m3 s-1"

    @property
    def what(self) -> str:
        """What is measured, in words."""
        return "the total"

    def units(self, field: xr.DataArray) -> str:
        """Return the units of what is measured."""
        if kind_of(field) == "reflectivity":
            raise ConstraintError(
                f"{self}: expected rain, found the reflectivity {field.name!r}, which does not add "
                "up. Bound xearth.AreaMean() in mm/h, or give xearth.rain_rate(...) of it."
            )
        return cf_format(parse(super().units(field)) * parse("m2"))

    def reduced(self, field: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
        """Return the integral over rows and columns, and its mean over frames."""
        self._weights(field)  # refuses a place without values
        area = areas(self.where, field).reset_coords(drop=True)
        area = area.drop_vars(list(area.coords))
        known = xr.dot(field.notnull().astype(np.float64), area, dim=area.dims)
        total = xr.dot(field.fillna(0.0), area, dim=area.dims).where(known > 0)
        return total.mean([d for d in dims if d not in area.dims], skipna=False)


@dataclass(frozen=True, eq=False)
class AreaFraction(Areal):
    """The part of the area where a threshold is reached.

    Parameters
    ----------
    where, variable, leads, season, per
        As for :class:`AreaMean`.
    above : quantity
        The threshold.

    Examples
    --------
    >>> import xearth
    >>> heavy = xearth.AreaFraction(above=xearth.Q(20, "mm/h"))
    >>> print(heavy == xearth.Q(3, "%"))
    the part of the area with at least 20 mm h-1 over the whole domain in each frame is 3 %
    """

    above: Any = None

    example_unit = "%"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "above", Amount.of(self.above, "threshold above"))
        if len(self.above.values) != 1:
            raise ConstraintError(f"above={self.above}: expected one threshold.")

    def unit_of(self, bare: Any) -> str:
        """Return the unit that a number without one may mean: 0.03 is 3 %."""
        fraction = isinstance(bare, int | float | np.number) and bare <= 1
        return "1" if fraction else self.example_unit

    def _amount(self, bound: Any) -> Amount:
        amount = super()._amount(bound)
        parts = amount.within(xr.DataArray(0.0, attrs={"units": "1"}, name="part of the area"))
        if parts.min() < 0 or parts.max() > 1:
            raise ConstraintError(
                f"bound of {self}: expected 0 to 100 %, found {amount}. A part of the area is "
                "between none and all of it."
            )
        return amount

    @property
    def what(self) -> str:
        """What is measured, in words."""
        return f"the part of the area with at least {self.above}"

    def units(self, field: xr.DataArray) -> str:
        """Return the units of what is measured."""
        return "1"

    def size(self, obj: Forecast, measured: xr.DataArray | None = None) -> xr.DataArray:
        """Return 1: fractions are of the order of one."""
        return xr.ones_like(self.measure(obj) if measured is None else measured)

    def grain(self, obj: Forecast) -> xr.DataArray:
        """Return the part of the area that the largest cell is."""
        field = field_of(obj, self.variable)
        weights = self._weights(field)
        known = xr.dot(field.notnull().astype(np.float64), weights, dim=weights.dims)
        frames = 1 if self.per == "frame" else self.frames.by_start(field).shape[1]
        dim = frame_dim(field)
        return float(weights.max()) / known.min(dim) / frames

    def reduced(self, field: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
        """Return the fraction over rows and columns, then over frames where ``dims`` names them."""
        reached = (field >= self.above.within(field)[0]).astype(np.float64)
        return weighted_mean(reached.where(field.notnull()), self._weights(field), dims)

    def _labeled(self, value: xr.DataArray, field: xr.DataArray) -> xr.DataArray:
        value.attrs = {"long_name": str(self), "units": "1"}
        return value.rename("fraction")
