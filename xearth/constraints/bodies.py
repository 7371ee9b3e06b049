r"""The energy of digits that attract each other: the knowledge of PreDiff's N-body MNIST.

With positions :math:`x_i` and velocities :math:`v_i` in pixels and pixels per step, masses
:math:`m_i`, softening :math:`d` and the law :math:`p` of :class:`xearth.data.sources.nbody.NBody`,

.. math::

   E = \sum_i \tfrac12 m_i |v_i|^2 + G \sum_{i<j} m_i m_j\, \phi(|x_i - x_j|^2 + d^2), \qquad
   \phi(s) = \frac{s^{p+1}}{2 (p+1)}, \quad \phi = \tfrac12 \ln s \textrm{ for } p = -1 ,

whose negative gradient is the attraction. The paper asks that each frame of the future has the
energy of the last frame that was seen.

*What can be measured.* Energy is one of positions, not of brightness: no formula reads the places
of three digits that overlap from a frame. So it is audited where positions are known (simulated
sequences, or those that were tracked), and steered by a network trained on them
(:func:`xearth.fit_alignment` with the energies of simulated sequences as labels).

Source: Gao, Z. and others (2023), PreDiff, arXiv:2307.10422, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..data.sources.nbody import LAWS
from ..errors import ConstraintError
from .constraint import Constraint
from .functional import Forecast

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.conditions.protocol import Condition

__all__ = ["EnergyConserved"]

_BODY, _AXIS = "body", "axis"


@dataclass(frozen=True, repr=False)
class EnergyConserved(Constraint):
    """The energy of attracting bodies stays what it is in the first frame.

    Parameters
    ----------
    law : {"r0", "r1", "r2"}
        How attraction depends on distance, as of :class:`xearth.data.sources.nbody.NBody`.
    masses : tuple of float
        One for each body.
    gravity : float, optional
        By default that of the law.
    softening : float
        Pixels.
    every : int
        Steps of the motion from one frame to the next.
    within : float
        Largest departure, as a part of the kinetic energy and the range of the potential one of
        the first frame; 0.05 by default: clipped speeds, walls and long steps keep it only in part.
    energy : float, optional
        That all frames must have, such as that of the last frame that was seen. By default that of
        the first frame.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> t, apart = np.arange(20), np.array([[-10.0, 0.0], [10.0, 0.0]])
    >>> still = xr.DataArray(apart + 0 * t[:, None, None], dims=("time", "body", "axis"))
    >>> rule = EnergyConserved(masses=(1.0, 1.0), every=1)
    >>> bool(rule.check(still.to_dataset(name="position")))
    True
    >>> bool(rule.check((still * (1 + 0.1 * t[:, None, None])).to_dataset(name="position")))
    False
    """

    law: str = "r0"
    masses: tuple[float, ...] = (1.0, 1.0, 1.0)
    gravity: float | None = None
    softening: float = 10.0
    every: int = 5
    within: float = 0.05
    energy: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "masses", tuple(float(m) for m in self.masses))
        if self.law not in LAWS:
            raise ConstraintError(f"law={self.law!r}: expected one of {', '.join(LAWS)}.")
        if len(self.masses) < 1 or min(self.masses) <= 0 or self.softening <= 0:
            raise ConstraintError(
                f"masses={self.masses}, softening={self.softening}: expected positive numbers."
            )
        if self.every < 1 or not self.within >= 0:
            raise ConstraintError(
                f"every={self.every}, within={self.within}: expected one step or more, and a part "
                "of at least 0."
            )

    def __str__(self) -> str:
        kept = "that of the first frame" if self.energy is None else f"{self.energy:.6g}"
        return (
            f"the energy of {len(self.masses)} bodies under the law {self.law} stays {kept}, to "
            f"{100 * self.within:g} %"
        )

    def measure(self, obj: Forecast) -> xr.DataArray:
        """Return the energy of each frame, in mass times pixels squared per step squared.

        Parameters
        ----------
        obj : Dataset or DataArray
            ``position`` (..., time, body, axis) in pixels, and ``velocity`` in pixels per step if
            it is known; else it is the difference of neighboring frames.
        """
        kinetic, potential = self._parts(obj)
        energy = kinetic + potential
        energy.attrs = {"long_name": "energy of the bodies", "units": "1"}
        return energy.rename("energy")

    def _parts(self, obj: Forecast) -> tuple[xr.DataArray, xr.DataArray]:
        """Return kinetic and potential energy of each frame."""
        held = obj if isinstance(obj, xr.Dataset) else obj.to_dataset(name="position")
        if "position" not in held or not {_BODY, _AXIS} <= set(held["position"].dims):
            raise ConstraintError(
                f"{self}: expected a variable 'position' with the dims {_BODY!r} and {_AXIS!r}, "
                f"found {dict(held.sizes)}. Positions cannot be read from frames by a formula: "
                "simulate or track them."
            )
        x = held["position"].astype(np.float64)
        if x.sizes[_BODY] != len(self.masses):
            raise ConstraintError(
                f"{self}: expected positions of {len(self.masses)} bodies, found {x.sizes[_BODY]}."
            )
        time = self._time(x)
        if "velocity" in held:
            v = held["velocity"].astype(np.float64)
        else:
            v = x.copy(data=np.gradient(x.values, axis=x.get_axis_num(time)) / self.every)
        masses = xr.DataArray(np.asarray(self.masses), dims=_BODY)
        kinetic = 0.5 * (masses * (v**2).sum(_AXIS)).sum(_BODY)
        power, published = LAWS[self.law]
        strength = published if self.gravity is None else self.gravity
        potential = xr.zeros_like(kinetic)
        for i in range(len(self.masses)):
            for j in range(i):
                gap = x.isel({_BODY: i}, drop=True) - x.isel({_BODY: j}, drop=True)
                s = (gap**2).sum(_AXIS) + self.softening**2
                depth = 0.5 * np.log(s) if power == -1 else s ** (power + 1) / (2 * (power + 1))
                potential = potential + strength * self.masses[i] * self.masses[j] * depth
        return kinetic, potential

    def _time(self, x: xr.DataArray) -> str:
        axes = discover(x, require=())
        left = [d for d in x.dims if d in (axes.time, axes.lead, "time", "lead")]
        if not left or x.sizes[left[0]] < 2:
            raise ConstraintError(
                f"{self}: expected two frames or more along 'time', found {dict(x.sizes)}."
            )
        return str(left[0])

    def violation(self, obj: Forecast) -> xr.DataArray:
        """Return how far the energy departs from what it must stay, by frame."""
        energy = self.measure(obj)
        first = {self._time(energy): 0}
        kept = energy.isel(first, drop=True) if self.energy is None else self.energy
        excess = abs(energy - kept)
        excess.attrs = {"long_name": f"violation: {self}", "units": "1"}
        return excess.rename("violation")

    def tolerance(self, obj: Forecast) -> xr.DataArray:
        """Return the departure that is let pass."""
        kinetic, potential = self._parts(obj)
        time = self._time(kinetic)
        span = kinetic.max(time) + potential.max(time) - potential.min(time)
        return self.within * span + 1e-9 * abs(potential).max(time)

    def held(self, excess: xr.DataArray, obj: Forecast, *, tolerance: Any = None) -> xr.DataArray:
        """Tell for each sequence whether the energy is kept."""
        if tolerance is not None:
            raise ConstraintError(f"{self}: expected within=... in place of a tolerance.")
        holds = (excess <= self.tolerance(obj)).all(self._time(excess))
        holds.attrs = {"long_name": f"whether {self}"}
        return holds.rename("holds")

    def on(self, template: Forecast) -> Condition:
        """Refuse: there is no formula for the energy of frames; see :meth:`evaluated`."""
        raise ConstraintError(
            f"{self}: expected a network that tells the energy of frames, as no formula does. "
            "Train one on simulated sequences and give it to .evaluated(function, energy), or "
            "train an alignment network with xearth.fit_alignment(constraint, ..., labels=)."
        )

    def evaluated(self, function: Callable[[Tensor], Tensor], energy: Tensor) -> Condition:
        """Return the condition that what a function finds is the energy of the last seen frame.

        Parameters
        ----------
        function : callable
            Of fields (N, T, H, W, C) to energies (N, T).
        energy : Tensor (N, 1)
            Of the last frame that was seen.
        """
        from ..models.conditions.evaluated import Evaluated

        margin = self.within * energy.abs()
        return Evaluated(function, lower=energy - margin, upper=energy + margin, name=str(self))
