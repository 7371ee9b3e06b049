r"""Means and totals that are met by a factor: dry cells stay dry.

.. math:: y'_i = y_i \, b / a(y)

for the cells of each sum, in place of the nearest field, which adds the same to every cell and so
puts drizzle where there was no rain. What is asked for, and its audit, are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import xarray as xr

from ..errors import ConstraintError
from .areal import AreaMean, AreaTotal
from .blocks import BlockMeans
from .constraint import Bound, Constraint
from .functional import Forecast
from .intensity import IntensityAnomaly

if TYPE_CHECKING:
    from ..models.conditions.protocol import Condition

__all__ = ["ByFactor"]


_REMEDY = (
    "A factor needs a field that is not 0 there, of the sign of what is asked. Leave "
    "xearth.ByFactor out, which adds to each cell instead, and join xearth.NonNegative() for rain; "
    "or bound only frames with rain: leads=..."
)


@dataclass(frozen=True, repr=False)
class ByFactor(Constraint):
    """A bound of means or totals that a forecast is brought to by multiplication.

    For fields of one sign, such as rain: zeros stay zero, ratios within a sum stay what they are.
    A forecast whose sum is 0 has no such factor and is refused while it is imposed.

    Parameters
    ----------
    of : Constraint
        A bound of :class:`xearth.AreaMean` or :class:`xearth.AreaTotal`,
        :class:`xearth.BlockMeans` or :class:`xearth.IntensityAnomaly`.

    Raises
    ------
    ConstraintError
        Something else, or a bound with a standard deviation.

    Examples
    --------
    >>> import xearth
    >>> wetter = xearth.ByFactor(xearth.AreaMean() == xearth.Q(1, "mm/h"))
    >>> print(wetter)
    the area mean over the whole domain in each frame is 1 mm h-1, by a factor
    >>> rain = xearth.samples.open("knmi_radar").isel(time=[0])
    >>> type(wetter.on(rain)).__name__
    'Scaled'
    """

    of: Bound | BlockMeans | IntensityAnomaly

    def __post_init__(self) -> None:
        sums = isinstance(self.of, BlockMeans | IntensityAnomaly) or (
            isinstance(self.of, Bound)
            and isinstance(self.of.of, AreaMean | AreaTotal)
            and self.of.sd is None
        )
        if not sums:
            raise ConstraintError(
                f"by a factor, {self.of}: expected a bound of an area mean or total without a "
                "standard deviation, BlockMeans or an IntensityAnomaly. Others are imposed as they "
                "are."
            )

    def __str__(self) -> str:
        return f"{self.of}, by a factor"

    def measure(self, obj: Forecast) -> xr.DataArray:
        """Return the means or totals."""
        return self.of.measure(obj)

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how far a forecast is outside, in units."""
        return self.of.violation(obj).assign_attrs(long_name=f"violation: {self}")

    def tolerance(self, obj: Forecast) -> Any:
        """Return rounding errors of the sums."""
        return self.of.tolerance(obj)

    def on(self, template: Forecast) -> Condition:
        """Return the condition that multiplies the cells of each sum.

        Raises
        ------
        ConstraintError
            The sums share cells, or are rain rates of a reflectivity, which are met by one factor
            as they are.
        """
        from ..models.conditions.linear import Linear
        from ..models.conditions.scaled import Scaled

        linear = self.of.on(template)
        if not isinstance(linear, Linear):
            raise ConstraintError(
                f"{self}: expected a forecast in units of what is bound. The mean rain rate of a "
                "reflectivity is met by one factor of all rates as it is: leave ByFactor out."
            )
        if not linear.rows.disjoint:
            raise ConstraintError(
                f"{self}: expected sums that share no cells, as a cell cannot have two factors. "
                "Leave ByFactor out, or give a coarse grid whose cells end where those of the "
                "forecast do."
            )
        return Scaled(
            linear.rows,
            lower=linear.lower,
            upper=linear.upper,
            scale=linear.scale,
            name=str(self),
            units=str(self.measure(template).attrs.get("units", "")),
            remedy=_REMEDY,
        )
