r"""DPM-Solver++: multistep solvers in the log signal-to-noise ratio.

With :math:`h = \lambda_s - \lambda_t` and predictions :math:`m_0, m_1, m_2` (the latest first) at
distances :math:`r_0 h, r_1 h`,

.. math::
    z_s = \frac{\sigma_s}{\sigma_t} z_t + \alpha_s (1 - e^{-h}) \left(m_0 +
    \frac{m_0 - m_1}{2 r_0}\right)

is the second order (2M), and its stochastic form

.. math::
    z_s = \frac{\sigma_s}{\sigma_t} e^{-h} z_t + \alpha_s (1 - e^{-2h}) \left(m_0 +
    \frac{m_0 - m_1}{2 r_0}\right) + \sigma_s \sqrt{1 - e^{-2h}}\, \varepsilon.

Source: Lu et al. (2022), *DPM-Solver++: fast solver for guided sampling of diffusion models*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ...errors import ConfigError
from .grids import check_steps
from .stage import Stage

__all__ = ["DPMSolver", "DPMSolverSDE"]


def _slopes(stage: Stage) -> tuple[float, list[float]]:
    """Return h and the ratios r of the earlier steps to it, the latest first."""
    lambdas = [level.log_snr for level in stage.levels]
    i = stage.index
    h = lambdas[i + 1] - lambdas[i]
    back = range(i, max(0, i + 1 - len(stage.clean)), -1)
    return h, [(lambdas[k] - lambdas[k - 1]) / h for k in back]


@dataclass(frozen=True, kw_only=True)
class DPMSolver:
    """DPM-Solver++ with a memory of one (2M) or two (3M) earlier predictions.

    The first steps are of lower order, and so is the last one to a level without noise, where the
    step is infinite in log signal-to-noise ratio; with fewer than 15 steps the last but one is at
    most of second order.

    Parameters
    ----------
    steps : int
    spacing : str
    order : {2, 3}
        2 unless there is a reason: 3 is the worse one below some 50 steps.

    Examples
    --------
    >>> DPMSolver(steps=20).order
    2
    """

    name: ClassVar[str] = "dpm-solver++"
    steps: int = 20
    spacing: str = "logsnr"
    order: Literal[2, 3] = 2

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if self.order not in (2, 3):
            raise ConfigError(f"DPMSolver(order={self.order}): expected 2 or 3")

    @property
    def memory(self) -> int:
        """How many predictions a step looks back on."""
        return self.order

    def _order(self, stage: Stage) -> int:
        left = len(stage.levels) - 2 - stage.index
        if stage.there.sigma == 0.0:
            return 1
        few = left == 1 and len(stage.levels) - 1 < 15 and stage.levels[-1].sigma == 0.0
        return min(len(stage.clean), 2 if few else self.order)

    def step(self, stage: Stage) -> Tensor:
        """Return the state at the next level."""
        here, there = stage.here, stage.there
        h, r = _slopes(stage)
        gain = -there.alpha * math.expm1(-h)
        z = (there.sigma / here.sigma) * stage.z + gain * stage.clean[0]
        order = self._order(stage)
        if order == 1:
            return z
        m0, m1 = stage.clean[:2]
        if order == 2:
            return z + (0.5 * gain / r[0]) * (m0 - m1)
        first, second = (m0 - m1) / r[0], (m1 - stage.clean[2]) / r[1]
        bend = (first - second) / (r[0] + r[1])
        linear = there.alpha * (math.expm1(-h) / h + 1.0)
        square = there.alpha * ((math.expm1(-h) + h) / h**2 - 0.5)
        return z + linear * (first + r[0] * bend) - square * bend


@dataclass(frozen=True, kw_only=True)
class DPMSolverSDE:
    """The stochastic form of DPM-Solver++(2M).

    Parameters
    ----------
    steps : int
    spacing : str

    Examples
    --------
    >>> DPMSolverSDE(steps=20).memory
    2
    """

    name: ClassVar[str] = "sde-dpm-solver++"
    memory: ClassVar[int] = 2
    steps: int = 20
    spacing: str = "logsnr"

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def step(self, stage: Stage) -> Tensor:
        """Return the state at the next level."""
        here, there = stage.here, stage.there
        h, r = _slopes(stage)
        if there.sigma == 0.0:
            return there.alpha * stage.clean[0]
        gain = -there.alpha * math.expm1(-2.0 * h)
        z = (there.sigma / here.sigma * math.exp(-h)) * stage.z + gain * stage.clean[0]
        if len(stage.clean) > 1:
            z = z + (0.5 * gain / r[0]) * (stage.clean[0] - stage.clean[1])
        return z + there.sigma * math.sqrt(-math.expm1(-2.0 * h)) * stage.noise()
