r"""Conditions on tensors that are not linear: extremes, transformed means, orders, masks, spectra.

Each is made from the same places, frames and units as the linear ones of
:mod:`xearth.constraints.compiled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..errors import ConstraintError, MissingDataError, RegionError
from ..units import affine
from .areal import AreaFraction, Areal, AreaMean
from .constraint import Bound
from .extremes import AreaMaximum, AreaQuantile
from .geometry import Geometry
from .intensity import TransformedMean
from .reflectivity import no_echo, rated_of
from .relations import Monotone, Ordered, PersistentMask, several_frames
from .spectrum import SpectrumSlope
from .sums import bounds_of, mean_rows, observed, sums
from .where import Place, area_weights

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.conditions.protocol import Condition

Forecast = xr.DataArray | xr.Dataset

__all__ = [
    "Part",
    "Rate",
    "extreme_condition",
    "mask_condition",
    "monotone_condition",
    "ordered_condition",
    "rate_condition",
    "spectrum_condition",
    "transformed_condition",
]


def extreme_condition(
    functional: AreaMaximum | AreaQuantile | AreaFraction,
    geometry: Geometry,
    options: dict[str, Any],
) -> Condition:
    """Return the condition of the largest value, a quantile or a fraction of the area."""
    from ..models.conditions.extremes import Exceedance, Maximum, Quantile

    options, wrapped = observed(options, one=True)
    rows = sums(mean_rows(functional, geometry), geometry)
    if isinstance(functional, AreaMaximum):
        return wrapped(Maximum(rows, **options))
    if isinstance(functional, AreaQuantile):
        return wrapped(Quantile(rows, q=functional.level, **options))
    threshold = float(functional.above.within(geometry.one(functional.variable))[0])
    scale = {"scale": abs(threshold) or 1.0}
    return wrapped(Exceedance(rows, threshold=threshold, **options | scale))


def transformed_condition(
    functional: TransformedMean, geometry: Geometry, options: dict[str, Any]
) -> Condition:
    """Return the condition of the mean of the transformed field."""
    from ..models.conditions.transformed import Decibel
    from ..models.conditions.transformed import TransformedMean as Condition

    options, wrapped = observed(options)
    least, unit = functional.ends(geometry.one(functional.variable))
    rows = sums(mean_rows(functional, geometry), geometry)
    return wrapped(Condition(rows, transform=Decibel(least, unit), **options))


def rate_condition(functional: Areal, template: Forecast, bound: Bound) -> Condition:
    """Return the condition that the mean rain rate of a reflectivity lies within bounds."""
    from ..models.conditions.transformed import TransformedMean as Condition

    if not isinstance(functional, AreaMean):
        raise ConstraintError(
            f"{functional}: expected an area mean of a rain rate, as the forecast is in dBZ. Bound "
            "xearth.AreaMean()."
        )
    geometry = Geometry(template)
    field = geometry.one(functional.variable)
    rated = rated_of(field)
    options = bounds_of(replace(functional, variable=None), bound, Geometry(rated))
    options, wrapped = observed(options)
    rows = sums(mean_rows(functional, geometry), geometry)
    rate = Rate(float(rated.attrs["zr_a"]), float(rated.attrs["zr_b"]), no_echo(field))
    return wrapped(Condition(rows, transform=rate, **options))


@dataclass(frozen=True)
class Rate:
    r"""The rain rate of a reflectivity, :math:`(10^{z / 10} / a)^{1 / b}`, and back."""

    a: float
    b: float
    dry: float

    @property
    def floor(self) -> float:
        """No rain."""
        return 0.0

    @property
    def least(self) -> float:
        """The rate in mm/h at and below which nothing is seen."""
        return float((10.0 ** (self.dry / 10.0) / self.a) ** (1.0 / self.b))

    def forward(self, y: Tensor) -> Tensor:
        """Return the rate in mm/h of a reflectivity in dBZ, 0 where nothing is seen."""
        rate = (10.0 ** (y.clamp(min=self.dry) / 10.0) / self.a) ** (1.0 / self.b)
        return rate.masked_fill(y <= self.dry, 0.0)

    def inverse(self, z: Tensor) -> Tensor:
        """Return the reflectivity in dBZ of a rate in mm/h."""
        level = 10.0 * (self.a * z.clamp(min=self.least) ** self.b).log10()
        return level.masked_fill(z <= self.least, self.dry)

    def least_mean(self, z: Tensor) -> Tensor:
        """Return no bound: one cell may have all the rain."""
        return z.new_full(z.shape, float("-inf"))


@dataclass(frozen=True, eq=False)
class Part:
    """A condition on some channels and cells of a field; the others are as if missing.

    Parameters
    ----------
    condition : Condition
        That skips missing cells.
    channels : tuple of int
    where : Tensor of bool, (T, H, W, 1)
    """

    condition: Condition
    channels: tuple[int, ...]
    where: Tensor

    @property
    def name(self) -> str:
        """What a reader calls it."""
        return self.condition.name

    @property
    def exact(self) -> bool:
        """Whether there is a projection."""
        return self.condition.exact

    @property
    def convex(self) -> bool:
        """Whether the fields that hold it are a convex set."""
        return self.condition.convex

    def _of(self, y: Tensor) -> Tensor:
        part = y[..., list(self.channels)]
        return part.masked_fill(~self.where.to(y.device), float("nan"))

    def measure(self, y: Tensor) -> Tensor:
        """Return what is bound (N, m)."""
        return self.condition.measure(self._of(y))

    def residual(self, y: Tensor) -> Tensor:
        """Return the signed distance outside the bounds (N, m)."""
        return self.condition.residual(self._of(y))

    def magnitude(self, y: Tensor) -> Tensor:
        """Return what a residual is small or large against (N, m)."""
        return self.condition.magnitude(self._of(y))

    def energy(self, y: Tensor) -> Tensor:
        """Return a smooth penalty (N,)."""
        return self.condition.energy(self._of(y))

    def project(self, y: Tensor) -> Tensor:
        """Return the nearest field that holds it."""
        held = y.clone()
        own = y[..., list(self.channels)]
        held[..., list(self.channels)] = self.condition.project(self._of(y)).where(
            self.where.to(y.device), own
        )
        return held


def _part(
    condition: Condition, where: Place, names: Sequence[str | None], geometry: Geometry
) -> Condition:
    """Return a condition on the fields of some variables in a place, itself if that is all."""
    import torch

    field = geometry.one(names[0])
    inside = geometry.canonical(area_weights(where, field)) > 0
    known = np.stack([geometry.known(name) for name in names]).all(0) & inside
    if not known.any():
        raise RegionError(f"{condition.name}: expected some cell with a value, found none.")
    channels = tuple(geometry.channel(name) for name in names)
    if known.all() and channels == tuple(range(geometry.shape[-1])):
        return condition
    return Part(condition, channels, torch.as_tensor(known[..., None]))


def monotone_condition(constraint: Monotone, template: Forecast) -> Condition:
    """Return the condition of cells along the frames."""
    from ..models.conditions.ordered import Monotone as Condition

    several_frames(Geometry(template).one(constraint.variable), constraint)
    sign = 1 if constraint.direction == "rising" else -1
    condition = Condition(sign=sign, name=str(constraint))
    return _part(condition, constraint.where, [constraint.variable], Geometry(template))


def ordered_condition(constraint: Ordered, template: Forecast) -> Condition:
    """Return the condition of the channels of each cell, which are of one unit."""
    from ..models.conditions.ordered import Ordering

    units = [str(f.attrs.get("units", "1")) for f in constraint.given(template)]
    if any(affine(u, units[0]) != (1.0, 0.0) for u in units):
        raise ConstraintError(
            f"{constraint}: expected one unit for a condition, found {units}. Bring the variables "
            "to one unit before the forecast; its violation can be audited as it is."
        )
    condition = Ordering(tuple(range(len(units))), name=str(constraint))
    return _part(condition, constraint.where, constraint.variables, Geometry(template))


def mask_condition(constraint: PersistentMask, template: Forecast) -> Condition:
    """Return the condition of missing cells."""
    import torch

    from ..models.conditions.persistent import Persistent

    geometry = Geometry(template)
    field = geometry.one(constraint.variable)
    valid = geometry.canonical(area_weights(constraint.valid, field)) > 0
    if len(geometry.names) > 1:
        raise ConstraintError(
            f"{constraint}: expected a forecast of one variable, found {geometry.names}. Its "
            "violation can be audited."
        )
    lost = int((valid & ~geometry.known(constraint.variable)).any(0).sum())
    if lost:
        raise ConstraintError(
            f"{constraint}: expected values in every cell of the mask, found a forecast that has "
            f"none in {lost} cells of the mask. Nothing can be put there: make the mask of its own "
            "cells, such as forecast.notnull()."
        )
    return Persistent(torch.as_tensor(valid[None, :, :, None]), name=str(constraint))


def spectrum_condition(functional: SpectrumSlope, template: Forecast, bound: Bound) -> Condition:
    """Return the condition of the slope of the spectrum; soft only."""
    import torch

    from ..models.conditions.spectrum import SpectrumSlope as Condition

    geometry = Geometry(template)
    options, wrapped = observed(bounds_of(functional, bound, geometry))
    if not geometry.known(functional.variable).all():
        raise MissingDataError(
            f"{functional}: expected a field without missing cells, whose spectrum is not that of "
            "their shape. Select a part without them."
        )
    T, _, _, C = geometry.shape
    channel = geometry.channel(functional.variable)
    scale = torch.as_tensor(options["scale"], dtype=torch.float64)
    for side, none in (("lower", -np.inf), ("upper", np.inf), ("scale", float(scale.max()))):
        full = torch.full((T, C), none, dtype=torch.float64)
        full[:, channel] = scale if side == "scale" else options[side]
        options[side] = full.flatten()
    return wrapped(Condition(geometry.shape, band=functional.waves, **options))
