"""Futures that hold an intensity: members drawn towards a level, or brought there by a factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..constraints.cells import NonNegative
from ..constraints.factor import ByFactor
from ..constraints.intensity import IntensityAnomaly, IntensityClimatology
from ..errors import ConstraintError
from ..forecasting.impose import impose

__all__ = ["Future", "compared", "exact", "futures", "guided", "spectrum"]

#: Members whose nearest fields are made, to compare.
FEW = 4


@dataclass(frozen=True)
class Future:
    """Members that hold a level, or why there are none.

    Parameters
    ----------
    constraint : IntensityAnomaly
    members : DataArray, optional
        (init, lead, member, y, x).
    refused : str
        Why there are none.
    how : str
        What the label says of the way.
    """

    constraint: IntensityAnomaly
    members: xr.DataArray | None = None
    refused: str = ""
    how: str = ""

    @property
    def label(self) -> str:
        """What the level is called."""
        what = "" if self.constraint.climatology.transform != "none" else ", no log"
        how = f", {self.how}" if self.how else ""
        return f"n = {self.constraint.n:+g}{what}{how}".replace("+0", "0")

    @property
    def asked(self) -> float:
        """Area mean over the horizon, in the units of the climatology; NaN if there is none."""
        if self.members is None:
            return float("nan")
        return float(self.constraint.climatology.intensity(self.constraint.n).magnitude)


def futures(
    free: xr.DataArray, climatology: IntensityClimatology, levels: Sequence[float]
) -> list[Future]:
    """Return the members of a forecast, each brought by a factor to each level that can exist.

    Of all fields that hold a mean, this one is nearest in relative entropy: dry cells stay dry, and
    the spectrum of the field over its mean is that of the member. The nearest in squared distance
    adds a constant to all cells, which is drizzle everywhere or a loss of all light rain.

    Parameters
    ----------
    free : DataArray (init, lead, member, y, x)
    climatology : IntensityClimatology
        Over the horizon.
    levels : sequence of float
        Standard deviations from its mean.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").isel(y=slice(80, 100), x=slice(60, 80)).load()
    >>> known = IntensityClimatology.of(rain, frames=12, transform="none")
    >>> free = xearth.forecast(rain, "nowcast-small", init="2010-08-26T04:30", members=2)
    >>> [one.members is not None for one in futures(free, known, [-9, 1])]
    [False, True]
    """
    return [_future(climatology, n, lambda level: impose(free, ByFactor(level))) for n in levels]


def guided(
    draw: Callable[..., xr.DataArray], climatology: IntensityClimatology, levels: Sequence[float]
) -> list[Future]:
    """Return members that a diffusion model draws towards each level that can exist.

    Parameters
    ----------
    draw : callable
        (constraints=, impose=) -> members (init, lead, member, y, x), a forecast.
    climatology : IntensityClimatology
        Over the horizon.
    levels : sequence of float
        Standard deviations from its mean.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").load()
    >>> known = IntensityClimatology.of(rain, frames=12)
    >>> def draw(constraints, impose):  # a diffusion model in earnest
    ...     return rain
    >>> [one.label for one in guided(draw, known, [-1, 0])]
    ['n = -1', 'n = 0']
    """

    def drawn(level: IntensityAnomaly) -> xr.DataArray:
        return draw(constraints=[level], impose="guided")

    return [_future(climatology, n, drawn) for n in levels]


def exact(found: Sequence[Future]) -> list[Future]:
    """Return the nearest fields, not negative, that hold the level of each future.

    Of members that a diffusion model drew with ``impose="guided"`` these are what it draws with
    ``impose="exact"``.
    """
    return [
        Future(one.constraint, impose(one.members, [one.constraint, NonNegative()]), how="exact")
        for one in found
        if one.members is not None
    ]


def _future(
    climatology: IntensityClimatology, n: float, held: Callable[[IntensityAnomaly], xr.DataArray]
) -> Future:
    """Return the members that hold a level, or why there are none."""
    constraint = IntensityAnomaly(climatology, float(n))
    try:
        return Future(constraint, held(constraint))
    except ConstraintError as error:
        return Future(constraint, refused=f"refused: {error}")


def compared(free: xr.DataArray, found: Sequence[Future]) -> list[Future]:
    """Return the nearest fields of some free members at the outermost levels."""
    there = [one.constraint for one in found if one.members is not None]
    some = free.isel(member=slice(0, FEW))
    return [
        Future(level, impose(some, [level, NonNegative()]), how="nearest")
        for level in (there[0], there[-1])
    ]


def spectrum(field: xr.DataArray) -> xr.DataArray:
    r"""Return the power of a field over its mean, averaged over rings of the wave number.

    Of the square in the middle, half as wide as the shorter side, its mean removed and its edges
    tapered by a Hann window; missing cells count as 0. Averaged over all frames and members.

    Parameters
    ----------
    field : DataArray (..., y, x)

    Returns
    -------
    DataArray (wavelength)
        In dB; wavelengths in cells.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").isel(time=[0])
    >>> bool(abs(spectrum(2 * rain) - spectrum(rain)).max() < 1e-4)
    True
    """
    values = _middle(field.transpose(..., "y", "x").values.astype(np.float64))
    values = np.nan_to_num(values).reshape(-1, *values.shape[-2:])
    side = values.shape[-1]
    window = np.outer(*(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side),) * 2)
    tapered = (values - values.mean((-2, -1), keepdims=True)) * window
    power = (np.abs(np.fft.fft2(tapered)) ** 2).mean(0) / values.mean() ** 2
    waves = np.fft.fftfreq(side, 1 / side)
    ring = np.rint(np.hypot(waves[:, None], waves))
    numbers = np.arange(1, side // 2 + 1)
    mean = np.array([power[ring == k].mean() for k in numbers])
    return xr.DataArray(
        10 * np.log10(np.maximum(mean, np.finfo(float).tiny)),
        {"wavelength": ("wavelength", side / numbers, {"units": "1", "long_name": "cells"})},
        attrs={"long_name": "power over the squared mean", "units": "dB"},
    )


def _middle(values: npt.NDArray) -> npt.NDArray:
    half = min(values.shape[-2:]) // 4 * 2
    rows, columns = ((n - half) // 2 for n in values.shape[-2:])
    return values[..., rows : rows + half, columns : columns + half]
