r"""The slope of the power spectrum: how rough a field is from scale to scale.

Of each frame, its mean removed and its edges tapered by a Hann window, with the power
:math:`P(k)` averaged over rings of width 1 of the wave number,

.. math:: \beta = \frac{\sum_k (\ln k - \overline{\ln k})\, \ln P(k)}
   {\sum_k (\ln k - \overline{\ln k})^2} .

Smoothed forecasts have a steeper slope than what is observed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..data.geometry import take
from ..data.grid import Grid
from ..errors import ConstraintError
from .constraint import Bound
from .functional import Forecast, Functional
from .reading import field_of, plane, variable_text

if TYPE_CHECKING:
    from ..models.conditions.protocol import Condition

__all__ = ["SpectrumSlope"]


@dataclass(frozen=True, eq=False)
class SpectrumSlope(Functional):
    """The slope of the spectrum between two wave numbers, in each frame.

    Parameters
    ----------
    waves : (int, int)
        Least and largest number of waves in the shorter side of the domain.
    variable : str, optional

    Raises
    ------
    ConstraintError
        Fewer than three wave numbers; when measured, waves shorter than two cells.

    Examples
    --------
    >>> import xearth
    >>> rough = xearth.SpectrumSlope((8, 60)) >= xearth.Q(-3, "1")
    >>> print(rough)
    the slope of the spectrum between 8 and 60 waves is at least -3
    >>> rain = xearth.samples.open("knmi_radar").isel(time=[0], y=slice(0, 200), x=slice(0, 200))
    >>> float(xearth.SpectrumSlope((8, 60)).measure(rain.fillna(0)).item()) < -1
    True
    """

    waves: tuple[int, int]
    variable: str | None = None

    example_unit = "1"

    def __post_init__(self) -> None:
        first, last = (int(k) for k in self.waves)
        object.__setattr__(self, "waves", (first, last))
        if first < 1 or last - first < 2:
            raise ConstraintError(
                f"waves={self.waves}: expected three wave numbers or more from 1, such as (4, 30)."
            )

    def __str__(self) -> str:
        first, last = self.waves
        return (
            f"the slope of the spectrum{variable_text(self.variable)} between {first} and {last} "
            "waves"
        )

    def measure(self, obj: Forecast) -> xr.DataArray:
        """Return the slope of each frame; missing where cells are."""
        field = field_of(obj, self.variable)
        y, x = plane(field)
        grid = Grid.from_array(field)
        if self.waves[1] > min(field.sizes[y], field.sizes[x]) // 2:
            raise ConstraintError(
                f"{self}: expected at most {min(field.sizes[y], field.sizes[x]) // 2} waves in "
                f"{field.sizes[y]} x {field.sizes[x]} cells. Choose smaller wave numbers."
            )
        slope: xr.DataArray = xr.apply_ufunc(
            lambda v: _slope(take(take(v, grid.y_index, -2), grid.x_index, -1), *self.waves),
            field.chunk({y: -1, x: -1}) if field.chunks is not None else field,
            input_core_dims=[[y, x]],
            dask="parallelized",
            output_dtypes=[np.float64],
        )
        slope.attrs = {"long_name": str(self), "units": "1"}
        return slope.rename("slope")

    def size(self, obj: Forecast, measured: xr.DataArray | None = None) -> xr.DataArray:
        """Return 1."""
        return xr.ones_like(self.measure(obj) if measured is None else measured)

    def condition(self, template: Forecast, bound: Bound) -> Condition:
        """Return the condition on tensors; see :meth:`xearth.Constraint.on`."""
        from .compiled_kinds import spectrum_condition

        return spectrum_condition(self, template, bound)


def _slope(fields: npt.NDArray, first: int, last: int) -> npt.NDArray:
    """Return the slopes (...) of fields (..., H, W)."""
    height, width = fields.shape[-2:]
    side = min(height, width)
    window = [0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n) for n in (height, width)]
    tapered = (fields - fields.mean((-2, -1), keepdims=True)) * np.outer(*window)
    power = np.abs(np.fft.fft2(tapered)) ** 2
    ky, kx = (np.fft.fftfreq(n, 1 / side) for n in (height, width))
    ring = np.rint(np.hypot(ky[:, None], kx))
    waves = np.arange(first, last + 1)
    spectrum = np.stack([power[..., ring == k].mean(-1) for k in waves], -1)
    x = np.log(waves) - np.log(waves).mean()
    logs = np.log(np.maximum(spectrum, np.finfo(float).tiny))
    return np.asarray(logs @ x / (x @ x))
