r"""Functionals that a network or another function evaluates; the energy of N-body MNIST.

The knowledge of PreDiff's second data set is that the energy of three attracting digits is
conserved. Positions and velocities of digits that overlap cannot be read from frames by a
formula that has gradients, so there is no projection: a trained network evaluates the energy
(:class:`Evaluated`), and where trajectories are known :func:`mechanical_energy` audits it. With
:math:`s_{ij} = |x_i - x_j|^2 + d^2` and the force :math:`m_i a_i` of
:class:`xearth.data.sources.nbody.NBody`,

.. math:: E = \sum_i \tfrac12 m_i |v_i|^2 + G \sum_{i<j} m_i m_j\, \phi(s_{ij}), \qquad
   \phi = \frac{s^{p+1}}{2 (p + 1)}, \quad \phi = \tfrac12 \ln s \textrm{ for } p = -1 .

The published motion keeps it only in part: speeds are clipped and steps are long.

Source: Gao, Z. and others (2023), PreDiff, arXiv:2307.10422, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConstraintError
from .protocol import Bounded

__all__ = ["Evaluated", "mechanical_energy"]


@dataclass(frozen=True, eq=False)
class Evaluated(Bounded):
    """Bounds of what a differentiable function finds in a field. Soft only.

    Parameters
    ----------
    function : callable
        Of fields (N, T, H, W, C) to numbers (N, m), each sample apart from the others.

    Examples
    --------
    >>> spread = Evaluated(lambda y: y.flatten(1).std(1, keepdim=True), lower=1.0, name="spread")
    >>> spread.residual(torch.zeros(2, 1, 2, 2, 1)).tolist()
    [[-1.0], [-1.0]]
    """

    function: Callable[[Tensor], Tensor]

    @property
    def exact(self) -> bool:
        """Whether there is a projection: no."""
        return False

    @property
    def convex(self) -> bool:
        """Whether the fields that hold it are a convex set: not known, so no."""
        return False

    def measure(self, y: Tensor) -> Tensor:
        """Return what the function finds, float64 (N, m)."""
        value = self.function(y).double()
        if value.ndim != 2 or len(value) != len(y):
            raise ConstraintError(
                f"{self.name}: expected a function to numbers ({len(y)}, m), found "
                f"{tuple(value.shape)}."
            )
        return value

    def project(self, y: Tensor) -> Tensor:
        """Refuse.

        Raises
        ------
        ConstraintError
            Always: impose it by guidance or a trained alignment network.
        """
        raise ConstraintError(
            f"{self.name}: there is no formula for the nearest field. Impose it by guidance, or by "
            "an alignment network trained for it."
        )


def mechanical_energy(
    positions: Tensor,
    velocities: Tensor,
    *,
    masses: Tensor,
    gravity: float,
    power: float,
    softening: float,
) -> Tensor:
    """Return the energy of bodies that attract each other, at each time.

    Parameters
    ----------
    positions, velocities : Tensor (..., bodies, 2)
        Pixels, and pixels per step.
    masses : Tensor (bodies,)
    gravity, power, softening : float
        G, p and d.

    Returns
    -------
    Tensor (...)
        Mass times pixels squared per step squared.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    >>> law = {"gravity": 1.0, "power": -0.5, "softening": 4.0}
    >>> float(mechanical_energy(x, torch.zeros_like(x), masses=torch.ones(2), **law))
    5.0
    """
    kinetic = 0.5 * (masses[:, None] * velocities.square()).sum((-2, -1))
    i, j = torch.triu_indices(len(masses), len(masses), offset=1)
    s = (positions[..., i, :] - positions[..., j, :]).square().sum(-1) + softening**2
    depth = 0.5 * s.log() if power == -1 else s ** (power + 1) / (2 * (power + 1))
    return kinetic + gravity * (masses[i] * masses[j] * depth).sum(-1)
