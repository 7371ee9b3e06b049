r"""Where a noised field stands between data and noise.

All parts of the diffusion room speak of one thing, a *level*:

.. math:: z_t = \alpha_t\, x_0 + \sigma_t\, \varepsilon, \qquad \varepsilon \sim \mathcal{N}(0, I).

A process says which levels there are, a sampler walks down a list of them, a denoiser predicts
the clean field :math:`\hat x_0(z_t)` at one, a guidance changes this prediction. None of them
needs to know another. The log signal-to-noise ratio is :math:`\lambda = \log(\alpha / \sigma)`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ...errors import ConfigError

__all__ = ["CLEAN", "Draw", "Level", "Predictor", "check_levels", "posterior"]


@dataclass(frozen=True)
class Level:
    r"""One level of noise.

    Parameters
    ----------
    t : float
        The time a network is told.
    alpha, sigma : float
        :math:`\alpha_t, \sigma_t`, not both 0.
    before : (float, float), optional
        :math:`\alpha, \sigma` one step of the process nearer to the data: what the posterior of
        a reverse step of the process itself needs. The level itself where time is continuous.

    Examples
    --------
    >>> Level(0.25, 0.75, 0.25).log_snr == math.log(3)
    True
    """

    t: float
    alpha: float
    sigma: float
    before: tuple[float, float] | None = None

    @property
    def log_snr(self) -> float:
        r""":math:`\lambda`: inf for a clean field, -inf for pure noise."""
        if self.sigma == 0.0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0.0 else -math.inf


#: The end of every walk: no noise.
CLEAN = Level(-1.0, 1.0, 0.0)

#: (z, level) -> the clean field predicted from z, in the shape of z.
Predictor = Callable[[Tensor, Level], Tensor]

#: Number of the draw (0 the start, k + 1 in step k) -> standard normal noise of the state's shape.
Draw = Callable[[int], Tensor]


def check_levels(levels: Sequence[Level]) -> None:
    """Check that noise falls from one level to the next.

    Raises
    ------
    ConfigError
    """
    if len(levels) < 2:
        raise ConfigError(f"sampling needs at least 2 levels (1 step), found {len(levels)}")
    for index, (here, there) in enumerate(itertools.pairwise(levels)):
        if not here.log_snr < there.log_snr:
            raise ConfigError(
                f"levels must fall in noise: level {index} (t={here.t:g}) has the log "
                f"signal-to-noise ratio {here.log_snr:.4g}, the next one (t={there.t:g}) "
                f"{there.log_snr:.4g}. Use fewer steps or another spacing."
            )


def posterior(here: Level, there: Level) -> tuple[float, float, float]:
    r"""Return the posterior of z_s given z_t and x_0: factors of x_0 and z_t, and the variance.

    With :math:`a = \alpha_t / \alpha_s` and :math:`\beta = \sigma_t^2 - a^2 \sigma_s^2` they are
    :math:`\alpha_s \beta / \sigma_t^2`, :math:`a \sigma_s^2 / \sigma_t^2` and
    :math:`\beta \sigma_s^2 / \sigma_t^2`.

    Examples
    --------
    >>> posterior(Level(1, 0.6, 0.8), CLEAN)
    (1.0, 0.0, 0.0)
    """
    if here.alpha == 0.0:
        return there.alpha, 0.0, there.sigma**2
    a = here.alpha / there.alpha
    beta, rest = here.sigma**2 - (a * there.sigma) ** 2, here.sigma**2
    return there.alpha * beta / rest, a * there.sigma**2 / rest, beta * there.sigma**2 / rest
