r"""Intensity anomalies: how strong a sequence is among those of a climatology.

Let :math:`R_\tau` be the area mean of frame :math:`\tau` of a sequence, or of its frames together,
and :math:`g` a transform that rises. Over the sequences of a climatology

.. math:: \mu_\tau = \langle g(R_\tau) \rangle, \qquad
   \sigma_\tau^2 = \langle (g(R_\tau) - \mu_\tau)^2 \rangle ,

and the anomaly :math:`n` asks for :math:`g(R_\tau) = \mu_\tau + n \sigma_\tau`, which is the area
mean :math:`R_\tau = g^{-1}(\mu_\tau + n \sigma_\tau)`, a linear condition in units of the field.
Mean intensities are skewed: with :math:`g(R) = R` the anomaly :math:`n = -2` may be below no rain,
and :math:`n = 4` be far more common than for a Gaussian.

Source: Gao, Z. and others (2023), PreDiff, arXiv:2307.10422, section 4.2 (anticipated average
intensity); the transform is a choice made here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erfc, sqrt
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..errors import ConstraintError
from ..fields.rain import kind_of
from .amount import Amount, number_text
from .areal import Areal, AreaMean, weighted_mean
from .constraint import Bound, Constraint
from .frames import Per, frame_dim
from .functional import Forecast
from .reading import field_of
from .reflectivity import rated_of
from .where import Place

if TYPE_CHECKING:
    import pint

    from ..models.conditions.protocol import Condition

__all__ = ["IntensityAnomaly", "IntensityClimatology", "TransformedMean"]

Transform = Literal["log", "dBR", "none"]
_Map = Callable[[npt.NDArray], npt.NDArray]

#: Transform and its inverse, of the mean in units of the field.
TRANSFORMS: Mapping[str, tuple[_Map, _Map]] = MappingProxyType(
    {
        "log": (np.log, np.exp),
        "dBR": (lambda r: 10.0 * np.log10(r), lambda g: 10.0 ** (g / 10.0)),
        "none": (lambda r: r, lambda g: g),
    }
)
_FEWEST = 10


@dataclass(frozen=True)
class IntensityClimatology:
    """How strong sequences are: mean and standard deviation of their transformed area mean.

    Made by :meth:`of`.

    Parameters
    ----------
    mean, sd : tuple of float
        Of the transformed area mean; one, or one for each frame.
    sample : tuple of float
        Standardized anomalies of the sequences, sorted.
    unit : str
        Of the area mean.
    transform : {"log", "dBR", "none"}
    where, variable, per
        Of the area mean, as for :class:`xearth.AreaMean`.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar")
    >>> known = xearth.IntensityClimatology.of(rain, frames=12)
    >>> print(f"{known.intensity(0):.2f~}, {known.intensity(1):.2f~}")
    0.40 mm / h, 0.50 mm / h
    >>> known.probability(1) > known.probability(2)
    True
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    sample: tuple[float, ...]
    unit: str
    transform: Transform = "dBR"
    where: Place = None
    variable: str | None = None
    per: Per = "horizon"

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            raise ConstraintError(
                f"transform={self.transform!r}: expected one of {', '.join(TRANSFORMS)}."
            )
        if not self.mean or len(self.mean) != len(self.sd) or min(self.sd) <= 0:
            raise ConstraintError(
                f"climatology of intensity: expected means and positive standard deviations, found "
                f"{self.mean} and {self.sd}. Sequences that are all alike have no anomalies."
            )

    @classmethod
    def of(
        cls,
        sequences: Forecast,
        *,
        frames: int | None = None,
        where: Place = None,
        variable: str | None = None,
        transform: Transform = "dBR",
        per: Per = "horizon",
    ) -> IntensityClimatology:
        """Return the climatology of sequences.

        Parameters
        ----------
        sequences : DataArray or Dataset
            (sequence, time, y, x), or one long series (time, y, x) with ``frames``. Reflectivity
            is read as a rain rate in mm/h.
        frames : int, optional
            Cut a series into all runs of so many frames.
        where, variable, per
            Of the area mean, as for :class:`xearth.AreaMean`; one number of a sequence, or one of
            each of its frames.
        transform : {"dBR", "log", "none"}
            10 log10, the natural logarithm, or the mean itself. Sequences of no rain at all have
            no logarithm and are left out: the climatology is that of rain.

        Raises
        ------
        ConstraintError
            Fewer than 10 sequences with a value.
        """
        _refuse_strange(transform, per, frames)
        field = field_of(sequences, variable)
        field = rated_of(field) if kind_of(field) == "reflectivity" else field
        means = AreaMean(where).measure(field).compute()
        dim = frame_dim(means)
        if dim is None:
            raise ConstraintError(f"sequences: expected frames along time, found {means.dims}.")
        if frames is not None:
            means = (
                means.rolling({dim: frames}).construct("step").isel({dim: slice(frames - 1, None)})
            )
            means, dim = means.rename({dim: "sequence"}), "step"
        values = means.transpose(..., dim).values.reshape(-1, means.sizes[dim])
        values = values.mean(1, keepdims=True) if per == "horizon" else values
        positive = transform != "none"
        kept = values[np.isfinite(values).all(1) & ((values > 0).all(1) | (not positive))]
        if len(kept) < _FEWEST:
            raise ConstraintError(
                f"climatology of intensity: expected {_FEWEST} sequences or more with rain, found "
                f"{len(kept)} of {len(values)}. Give more, or frames=... for a long series."
            )
        g = TRANSFORMS[transform][0](kept)
        mu, sigma = g.mean(0), g.std(0)
        if not (sigma > 0).all():
            raise ConstraintError("climatology of intensity: all sequences are alike.")
        sample = np.sort(((g - mu) / sigma).mean(1))
        return cls(
            tuple(mu.tolist()),
            tuple(sigma.tolist()),
            tuple(sample.tolist()),
            str(means.attrs["units"]),
            transform,
            where,
            variable,
            per,
        )

    def amount(self, n: float) -> Amount:
        """Return the area mean of an anomaly, by frame if it is one of each.

        Raises
        ------
        ConstraintError
            It cannot exist: below no rain, or larger than any number.
        """
        with np.errstate(over="ignore", under="ignore"):
            level = np.asarray(self.mean) + n * np.asarray(self.sd)
            values = TRANSFORMS[self.transform][1](level)
        rain = self.transform != "none" or min(self.mean) >= 0
        least = 0.0 if self.transform == "none" else np.finfo(float).tiny
        if not np.isfinite(values).all() or (rain and (values < least).any()):
            found = values[~np.isfinite(values) | (values < least)][0]
            remedy = (
                ""
                if self.transform != "none"
                else (", or a climatology of the logarithm: transform='dBR'")
            )
            raise ConstraintError(
                f"an intensity {n:g} standard deviations from the mean: expected a finite one "
                f"{'above' if least else 'of at least'} 0, found {found:.3g} {self.unit}, which "
                f"cannot exist. Choose a smaller anomaly{remedy}."
            )
        return Amount(tuple(values.tolist()), self.unit)

    def intensity(self, n: float) -> pint.Quantity:
        """Return the area mean of an anomaly as a quantity: a number, or one for each frame."""
        from ..units import Q

        amount = self.amount(n)
        values = amount.array
        return Q(float(values[0]) if len(values) == 1 else values, amount.unit)

    def probability(self, n: float) -> float:
        """Return the part of the sequences whose anomaly is as far from the mean, on that side."""
        sample = np.asarray(self.sample)
        return float((sample >= n).mean() if n >= 0 else (sample <= n).mean())

    def gaussian_probability(self, n: float) -> float:
        """Return the same for a Gaussian: what the anomaly would mean without skewness."""
        return 0.5 * erfc(abs(n) / sqrt(2.0))

    def anomaly(self, value: Any) -> float:
        """Return the anomaly n of an area mean, a quantity; the mean over frames if one of each."""
        amount = Amount.of(value, "area mean", unit=self.unit)
        inside = amount.within(xr.DataArray(0.0, attrs={"units": self.unit}, name="area mean"))
        if self.transform != "none" and (inside <= 0).any():
            return -np.inf
        g = TRANSFORMS[self.transform][0](inside)
        return float(((g - np.asarray(self.mean)) / np.asarray(self.sd)).mean())


def _refuse_strange(transform: str, per: str, frames: Any) -> None:
    if transform not in TRANSFORMS or per not in ("frame", "horizon"):
        raise ConstraintError(
            f"transform={transform!r}, per={per!r}: expected one of {', '.join(TRANSFORMS)}, and "
            "'frame' or 'horizon'."
        )
    if frames is not None and (not isinstance(frames, int | np.integer) or frames < 1):
        raise ConstraintError(f"frames={frames!r}: expected a whole number of at least 1.")


@dataclass(frozen=True, repr=False)
class IntensityAnomaly(Constraint):
    """The area mean is n standard deviations from that of a climatology, transformed.

    Parameters
    ----------
    climatology : IntensityClimatology
    n : float

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar")
    >>> known = xearth.IntensityClimatology.of(rain, frames=12)
    >>> print(xearth.IntensityAnomaly(known, 1))
    the area mean over the whole domain, over the horizon is 0.501 mm h-1 (1 sd above the mean in dBR, reached by 26 % of the sequences)
    """  # noqa: E501 - one line of output

    climatology: IntensityClimatology
    n: float

    def __post_init__(self) -> None:
        if not isinstance(self.n, int | float | np.number) or not np.isfinite(self.n):
            raise ConstraintError(
                f"n={self.n!r}: expected a number of standard deviations, such as 4 or -2."
            )
        object.__setattr__(self, "n", float(self.n))

    @property
    def bound(self) -> Bound:
        """The bound of the area mean in units of the field."""
        known = self.climatology
        amount = known.amount(self.n)
        return Bound(AreaMean(known.where, known.variable, per=known.per), amount, amount)

    def __str__(self) -> str:
        side = "above" if self.n >= 0 else "below"
        try:
            bound = self.bound
        except ConstraintError as error:
            return f"the area mean of {error}"
        part = 100 * self.climatology.probability(self.n)
        values = ", ".join(f"{v:.3g}" for v in bound.lower.values)  # type: ignore[union-attr]
        several = f"[{values}]" if "," in values else values
        return (
            f"{bound.of} is {several} {self.climatology.unit} ({number_text(abs(self.n))} "
            f"sd {side} the mean in {self.climatology.transform}, reached by "
            f"{part:.2g} % of the sequences)"
        )

    def measure(self, obj: Forecast) -> xr.DataArray:
        """Return the area mean."""
        return self.bound.measure(obj)

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how far the area mean is from the requested one, in units."""
        return self.bound.violation(obj).assign_attrs(long_name=f"violation: {self}")

    def tolerance(self, obj: Forecast) -> xr.DataArray | float:
        """Return rounding errors of the area mean."""
        return self.bound.tolerance(obj)

    def on(self, template: Forecast) -> Condition:
        """Return the condition of the area mean."""
        return self.bound.on(template)


@dataclass(frozen=True, eq=False)
class TransformedMean(Areal):
    """The area mean of 10 log10 of the field, in dB above one unit of ``least``: dBR for mm/h.

    Parameters
    ----------
    where, variable, leads, season, per
        As for :class:`xearth.AreaMean`.
    least : quantity
        Values below count as this one, such as the smallest rain that is told from none.

    Examples
    --------
    >>> import xearth
    >>> print(xearth.TransformedMean(least=xearth.Q(0.1, "mm/h")) >= xearth.Q(-5, "1"))
    the area mean of 10 log10, values below 0.1 mm h-1 as that, over the whole domain in each frame is at least -5
    """  # noqa: E501 - one line of output

    least: Any = None

    example_unit = "1"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "least", Amount.of(self.least, "least value"))
        if len(self.least.values) != 1 or self.least.values[0] <= 0:
            raise ConstraintError(f"least={self.least}: expected one positive value.")

    @property
    def what(self) -> str:
        """What is measured, in words."""
        return f"the area mean of 10 log10, values below {self.least} as that,"

    def units(self, field: xr.DataArray) -> str:
        """Return the units of what is measured."""
        super().units(field)
        if kind_of(field) == "reflectivity":
            raise ConstraintError(
                f"{self}: expected rain, found the reflectivity {field.name!r}, which is a "
                "logarithm already. Bound xearth.AreaMean() in dBZ, or give xearth.rain_rate(...) "
                "of it."
            )
        return "1"

    def ends(self, field: xr.DataArray) -> tuple[float, float]:
        """Return the smallest value and one unit, in units of a field."""
        both = Amount((self.least.values[0], 1.0), self.least.unit).within(field)
        return float(both[0]), float(both[1])

    def reduced(self, field: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
        """Return the mean of the transformed field."""
        self.units(field)
        least, unit = self.ends(field)
        level = 10.0 * np.log10(field.clip(min=least) / unit)
        return weighted_mean(xr.DataArray(level), self._weights(field), dims)

    def _labeled(self, value: xr.DataArray, field: xr.DataArray) -> xr.DataArray:
        value.attrs = {"long_name": str(self), "units": self.units(field)}
        return value.rename("level")
