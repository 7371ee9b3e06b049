r"""Cells by themselves: a physical range, no negative values, and the values at points.

A range bounds each cell, :math:`l \le y_i \le u`. A gauge with the error :math:`\sigma` asks for
:math:`y_i \sim N(o, \sigma^2)` in the cell that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import xarray as xr

from ..errors import ConstraintError
from ..fields.rain import kind_of
from ..units import compatible, is_difference
from .amount import Amount
from .areal import Areal
from .constraint import Constraint
from .frames import frame_dim
from .functional import Forecast
from .reading import field_of, plane, variable_text
from .where import Place, Points, cells_of, place_text

if TYPE_CHECKING:
    from ..models.conditions.protocol import Condition

__all__ = ["AtPoints", "EachCell", "NonNegative"]


@dataclass(frozen=True, eq=False)
class EachCell(Areal):
    """Every cell by itself: what is bound is the range of the field.

    Parameters
    ----------
    where, variable, leads, season
        As for :class:`AreaMean`.

    Examples
    --------
    >>> import xearth
    >>> humid = xearth.EachCell(variable="relative_humidity")
    >>> print(humid.between(xearth.Q(0, "%"), xearth.Q(100, "%")))
    every cell of relative_humidity over the whole domain in each frame is between 0 % and 100 %
    """

    rounds = False

    @property
    def what(self) -> str:
        """What is measured, in words."""
        return "every cell"

    def reduced(self, field: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
        """Return the cells of the place."""
        return field.where(self._weights(field) > 0)

    def bound_dim(self, measured: xr.DataArray) -> str | None:
        """Return the dim along which several bounds lie: frames."""
        return frame_dim(measured)

    def counted(self, excess: xr.DataArray, obj: Forecast) -> xr.DataArray:
        """Return the violation with cells that are missing or elsewhere set to 0."""
        return excess.fillna(0.0)


@dataclass(frozen=True, repr=False)
class NonNegative(Constraint):
    """No cell is below 0, in the field's own units.

    Parameters
    ----------
    variable : str, optional
    where : Box or Mask, optional

    Raises
    ------
    ConstraintError
        When it meets a field whose units have an arbitrary 0, such as degC.

    Examples
    --------
    >>> import xearth
    >>> print(xearth.NonNegative())
    every cell over the whole domain is at least 0
    >>> bool(xearth.NonNegative().check(xearth.samples.open("knmi_radar").isel(time=[0])))
    True
    """

    variable: str | None = None
    where: Place = None

    def __str__(self) -> str:
        return (
            f"every cell{variable_text(self.variable)} over {place_text(self.where)} is at least 0"
        )

    def bound(self, obj: Forecast) -> Constraint:
        """Return the bound in the units of a field."""
        field = field_of(obj, self.variable)
        cells = EachCell(self.where, self.variable)
        units = cells.units(field)
        if kind_of(field) == "reflectivity":
            raise ConstraintError(
                f"{self}: 0 {units} of {field.name!r} is weak rain and no lower limit; the rain of "
                "a reflectivity is never below 0. Leave it out."
            )
        if units != "K" and compatible(units, "K") and not is_difference(field.attrs):
            raise ConstraintError(
                f"{self}: the 0 of {field.name!r} in {units!r} is no lower limit. Bound it as you "
                f"mean, for example xearth.EachCell() >= xearth.Q(180, 'K')."
            )
        return cells >= Amount((0.0,), units)

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how far cells are below 0, by frame and cell."""
        excess = self.bound(obj).violation(obj)
        return excess.assign_attrs(long_name=f"violation: {self}")

    def tolerance(self, obj: Forecast) -> float:
        """Return 0."""
        return 0.0

    def on(self, template: Forecast) -> Condition:
        """Return the range of the cells."""
        return self.bound(template).on(template)


@dataclass(frozen=True, eq=False)
class AtPoints(Areal):
    """The cells that hold stations or gauges; one bound for all, or one for each.

    Parameters
    ----------
    where : Points
    variable, leads, season, per
        As for :class:`AreaMean`.

    Examples
    --------
    >>> import xearth
    >>> gauges = xearth.Points(lat=(52.1, 51.97), lon=(5.18, 4.93), name="gauges")
    >>> seen = xearth.AtPoints(gauges).near(xearth.Q([1.2, 0.4], "mm/h"), sd=xearth.Q(0.2, "mm/h"))
    >>> rain = xearth.samples.open("knmi_radar").isel(time=[0])
    >>> seen.violation(rain).dims
    ('time', 'point')
    """

    rounds = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.where, Points):
            raise ConstraintError(
                f"AtPoints({self.where!r}): expected xearth.Points(lat=..., lon=...)."
            )

    def __str__(self) -> str:
        return super().__str__().replace(" over ", " at ", 1)

    @property
    def what(self) -> str:
        """What is measured, in words."""
        return "the value"

    def reduced(self, field: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
        """Return the values of the cells, and their mean over frames where ``dims`` names them."""
        points = self.where
        if not isinstance(points, Points):
            raise ConstraintError(f"{self}: expected points.")
        y, x = plane(field)
        at = [xr.DataArray(index, dims="point") for index in cells_of(points, field)]
        value = field.isel({y: at[0], x: at[1]})
        stale = [n for n, c in value.coords.items() if "point" in c.dims]
        value = value.drop_vars(stale).assign_coords(
            lat=("point", list(points.lat), {"units": "degrees_north"}),
            lon=("point", list(points.lon), {"units": "degrees_east"}),
        )
        value = value.transpose(..., "point")
        return value.mean([d for d in dims if d not in (y, x)], skipna=False)

    def bound_dim(self, measured: xr.DataArray) -> str | None:
        """Return the dim along which several bounds lie."""
        return "point"
