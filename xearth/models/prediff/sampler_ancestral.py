r"""Samplers by the posterior of the process: DDPM, and DDIM between it and no noise at all.

With a clean field :math:`\hat x_0` predicted at level :math:`t`, and :math:`s` the next level,

.. math::
    a = \alpha_t / \alpha_s, \qquad \beta = \sigma_t^2 - a^2 \sigma_s^2, \qquad
    \Sigma = \beta\, \sigma_s^2 / \sigma_t^2,

.. math::
    \text{DDPM:}\quad z_s &= \frac{\alpha_s \beta}{\sigma_t^2} \hat x_0 +
    \frac{a \sigma_s^2}{\sigma_t^2} z_t + \sqrt{\Sigma}\, \varepsilon, \\
    \text{DDIM:}\quad z_s &= \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - \eta^2 \Sigma}\,
    \frac{z_t - \alpha_t \hat x_0}{\sigma_t} + \eta \sqrt{\Sigma}\, \varepsilon,

the same for :math:`\eta = 1`. Sources: Ho et al. (2020), *Denoising diffusion probabilistic
models*; Song et al. (2021), *Denoising diffusion implicit models*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...errors import ConfigError
from .grids import check_steps
from .levels import Level, posterior
from .stage import Stage

__all__ = ["DDIM", "DDPM"]


@dataclass(frozen=True, kw_only=True)
class DDPM:
    r"""Ancestral sampling, the posterior of the process at the predicted clean field.

    Parameters
    ----------
    steps : int
        All 1000 by default: few steps leave the spread too small.
    spacing : str
    clip : float, optional
        Predicted clean fields, guided ones after guidance, are held within [-clip, clip].
    v_posterior : float
        Between :math:`\Sigma` (0) and :math:`\beta` (1) for the variance.

    Examples
    --------
    >>> DDPM(steps=250).name
    'ddpm'
    """

    name: ClassVar[str] = "ddpm"
    memory: ClassVar[int] = 1
    steps: int = 1000
    spacing: str = "trailing"
    clip: float | None = None
    v_posterior: float = 0.0

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if self.clip is not None and not self.clip > 0.0:
            raise ConfigError(f"DDPM(clip={self.clip}): expected a positive number or None")
        if not 0.0 <= self.v_posterior <= 1.0:
            raise ConfigError(f"DDPM(v_posterior={self.v_posterior}): expected between 0 and 1")

    def mean(self, stage: Stage) -> Tensor:
        """Return the mean of the next state."""
        clean = stage.clean[0]
        if self.clip is not None:
            clean = clean.clamp(-self.clip, self.clip)
        of_clean, of_state, _ = posterior(stage.here, stage.there)
        return of_clean * clean + of_state * stage.z

    def variance(self, here: Level, there: Level) -> float:
        """Return the variance of the next state."""
        _, _, exact = posterior(here, there)
        if here.alpha == 0.0 or self.v_posterior == 0.0:
            return exact
        beta = here.sigma**2 - (here.alpha / there.alpha * there.sigma) ** 2
        return (1.0 - self.v_posterior) * exact + self.v_posterior * beta

    def step(self, stage: Stage) -> Tensor:
        """Return the state at the next level; the last step adds no noise."""
        mean = self.mean(stage)
        if stage.there.sigma == 0.0:
            return mean
        return mean + math.sqrt(self.variance(stage.here, stage.there)) * stage.noise()


@dataclass(frozen=True, kw_only=True)
class DDIM:
    r"""Implicit sampling, from deterministic (eta = 0) to ancestral (eta = 1).

    Parameters
    ----------
    steps : int
    spacing : str
    eta : float
        Share of the posterior's standard deviation that is drawn anew.

    Examples
    --------
    >>> DDIM(steps=20).eta
    0.0
    """

    name: ClassVar[str] = "ddim"
    memory: ClassVar[int] = 1
    steps: int = 50
    spacing: str = "trailing"
    eta: float = 0.0

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if not 0.0 <= self.eta <= 1.0:
            raise ConfigError(f"DDIM(eta={self.eta}): expected a share between 0 and 1")

    def step(self, stage: Stage) -> Tensor:
        """Return the state at the next level."""
        here, there = stage.here, stage.there
        std = self.eta * math.sqrt(posterior(here, there)[2])
        kept = math.sqrt(max(0.0, there.sigma**2 - std**2)) / here.sigma
        z = kept * stage.z + (there.alpha - kept * here.alpha) * stage.clean[0]
        return z + std * stage.noise() if std > 0.0 else z
