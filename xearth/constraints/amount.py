r"""Amounts: what a constraint asks for, a number or several with a CF unit.

Bounds arrive as pint quantities and are kept as plain numbers beside a CF string, which compare,
hash and go to JSON and back without loss. An amount meets a field in the field's own unit,

.. math:: b_\mathrm{field} = a\, b + c ,

with :math:`c = 0` where the field is a difference of temperatures (an anomaly).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..errors import ConstraintError, UnitsError
from ..fields.rain import reflectivity
from ..units import affine, cf_format, compatible, convert_array, is_difference, parse
from .reflectivity import asks_rate, no_echo

__all__ = ["Amount", "number_text"]


@dataclass(frozen=True)
class Amount:
    """Numbers with a unit.

    Parameters
    ----------
    values : tuple of float
        One, or one for each point or frame.
    unit : str
        A CF unit.
    difference : bool
        Whether it is a difference of temperatures (a quantity in delta_degC).

    Examples
    --------
    >>> from xearth.units import Q
    >>> print(Amount.of(Q(8, "mm/h"), "the area mean"))
    8 mm h-1
    >>> Amount.of(8, "the area mean", unit="mm/h")
    Traceback (most recent call last):
    ...
    xearth.errors.ConstraintError: the area mean: expected a quantity, found 8 without a unit. Write xearth.Q(8, 'mm/h'), in the unit that you mean.
    """  # noqa: E501 - the message is one line

    values: tuple[float, ...]
    unit: str
    difference: bool = False

    def __post_init__(self) -> None:
        parse(self.unit)
        if not self.values or not np.isfinite(self.values).all():
            raise ConstraintError(
                f"bound {self}: expected finite numbers. Leave a side without a bound open, with "
                ">= or <= alone."
            )

    @classmethod
    def of(cls, quantity: Any, what: object, *, unit: str = "mm/h") -> Amount:
        """Return the amount of a quantity.

        Parameters
        ----------
        quantity : pint.Quantity or Amount
            Of any registry; a number or a sequence of them.
        what : object
            What it bounds, for messages.
        unit : str
            A unit that would fit, for messages.

        Raises
        ------
        ConstraintError
            A number without a unit, or no number at all.
        """
        if isinstance(quantity, Amount):
            return quantity
        if not (hasattr(quantity, "magnitude") and hasattr(quantity, "units")):
            raise ConstraintError(
                f"{what}: expected a quantity, found {quantity!r} without a unit. Write "
                f"xearth.Q({quantity!r}, {unit!r}), in the unit that you mean."
            )
        try:
            values = np.asarray(quantity.magnitude, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConstraintError(
                f"{what}: expected numbers, found {quantity!r}. Write xearth.Q(8, {unit!r})."
            ) from error
        if values.ndim > 1:
            raise ConstraintError(
                f"{what}: expected one number or a list of them, found an array of the shape "
                f"{values.shape}. Bound fields with BlockMeans or FrameMeans."
            )
        delta = "delta_" in str(quantity.units)
        return cls(tuple(values.ravel().tolist()), cf_format(quantity.units), delta)

    @property
    def array(self) -> npt.NDArray[np.float64]:
        """The numbers (n,)."""
        return np.asarray(self.values)

    def within(self, field: xr.DataArray, *, spread: bool = False) -> npt.NDArray[np.float64]:
        """Return the numbers (n,) in the unit of a field, whose attributes say what it is.

        Parameters
        ----------
        field : DataArray
        spread : bool
            The numbers are a spread or a tolerance: a difference whatever the field is.

        Raises
        ------
        ConstraintError
            The units do not fit.
        """
        name, units = field.name or "the field", field.attrs.get("units")
        if units is None:
            raise ConstraintError(
                f"{name!r} has no attrs['units'], so a bound of {self} cannot meet it. Set them "
                f"first, for example da.attrs['units'] = {self.unit!r}."
            )
        try:
            if self.difference and not spread:
                self._require_difference(field)
            if spread and (compatible(self.unit, units) or asks_rate(self.unit, field)):
                return self.array * affine(self.unit, units, difference=True)[0]
            kept = {k: v for k, v in field.attrs.items() if "valid" not in k and "range" not in k}
            if asks_rate(self.unit, field):
                rate = xr.DataArray(self.array, attrs=field.attrs | {"units": self.unit})
                return np.asarray(reflectivity(rate, no_echo=no_echo(field)).values)
            bound = xr.DataArray(self.array, attrs=kept | {"units": self.unit}, name=field.name)
            return np.asarray(convert_array(bound, units).values)
        except UnitsError as error:
            raise ConstraintError(f"bound {self} of {name!r} in {units!r}: {error}") from error

    def _require_difference(self, field: xr.DataArray) -> None:
        units = str(field.attrs["units"])
        if compatible(units, "K") and not is_difference(field.attrs):
            raise ConstraintError(
                f"bound {self} of {field.name or 'the field'!r} in {units!r}: expected a "
                "temperature, found a difference of temperatures (delta_degC). Write "
                "xearth.Q(20, 'degC'), or bound anomalies, whose attributes say so: "
                "units_metadata='temperature: difference'."
            )

    def __str__(self) -> str:
        numbers = [number_text(v) for v in self.values[:4]]
        several = f"[{', '.join(numbers)}{', ...' if len(self.values) > 4 else ''}]"
        text = numbers[0] if len(self.values) == 1 else several
        return text if self.unit == "1" else f"{text} {self.unit}"


def number_text(value: float) -> str:
    """Return a number as a reader writes it, without trailing zeros."""
    return f"{value:.6g}"
