r"""Gaussian diffusion in T steps.

.. math::
    q(z_t \mid z_{t-1}) &= \mathcal{N}(\sqrt{1 - \beta_t}\, z_{t-1},\, \beta_t I), \qquad
    \bar\alpha_t = \prod_{s \le t} (1 - \beta_s), \\
    z_t &= \alpha_t x_0 + \sigma_t \varepsilon, \qquad
    \alpha_t = \sqrt{\bar\alpha_t}, \quad \sigma_t = \sqrt{1 - \bar\alpha_t}.

The posterior of one step is Gaussian with the mean :math:`c_1 x_0 + c_2 z_t`,

.. math::
    c_1 = \frac{\beta_t \sqrt{\bar\alpha_{t-1}}}{1 - \bar\alpha_t}, \quad
    c_2 = \frac{(1 - \bar\alpha_{t-1}) \sqrt{1 - \beta_t}}{1 - \bar\alpha_t}, \quad
    \Sigma_t = (1 - v) \frac{\beta_t (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} + v \beta_t.

A network predicts the noise ("eps"), the clean field ("x0") or
:math:`v = \alpha_t \varepsilon - \sigma_t x_0` ("v"). Tables are float64: forming
:math:`1 - \bar\alpha_t` in float32 costs 2e-4 of a step near the data.

Sources: Ho et al. (2020), *Denoising diffusion probabilistic models*; Nichol and Dhariwal (2021)
for the cosine schedule; Salimans and Ho (2022) for v; Lin et al. (2024) for a terminal level
without signal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from .grids import TIMES, Spacing, check_steps, is_number, is_whole, karras_ratios
from .levels import CLEAN, Level, Predictor

__all__ = ["Diffusion", "Network", "Prediction", "network_time"]

#: (z_t, t of shape (N,)) -> output of the shape of z_t; a context is bound outside.
Network = Callable[[Tensor, Tensor], Tensor]
Prediction = Literal["eps", "x0", "v"]
Schedule = Literal["linear", "sqrt_linear", "sqrt", "cosine"]


def network_time(z: Tensor, t: float) -> Tensor:
    """Return the time of every sample, (N,): a float, as times may lie between the integers."""
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    return torch.full((len(z),), t, dtype=dtype, device=z.device)


def _broadcast(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).reshape(-1, *([1] * (like.ndim - 1)))


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    r"""A variance-preserving process of T steps.

    Parameters
    ----------
    steps : int
        T.
    schedule : {"linear", "sqrt_linear", "sqrt", "cosine"}
        :math:`\beta`: "linear" is linear in :math:`\sqrt\beta` (other libraries call it
        "scaled_linear"), "sqrt_linear" linear in :math:`\beta`, "sqrt" the root of that.
    start, end : float
        First and last :math:`\beta` (of the linear ones).
    cosine_offset : float
        Offset s of the cosine.
    prediction : {"eps", "x0", "v"}
        What a network predicts.
    zero_terminal : bool
        Whether the schedule is rescaled so that the last level holds no signal.
    v_posterior : float
        v, between the lower (0) and the upper (1) bound of the posterior variance.

    Raises
    ------
    ConfigError
        Unknown names, fewer than 2 steps, betas outside of (0, 1], noise predicted where there is
        nothing else.

    Examples
    --------
    >>> process = Diffusion()
    >>> level = process.level(999)
    >>> round(level.alpha**2, 6), round(level.alpha**2 + level.sigma**2, 12)
    (0.000733, 1.0)
    >>> [round(level.t) for level in process.levels(4)]
    [999, 749, 499, 249, -1]
    """

    steps: int = 1000
    schedule: Schedule = "linear"
    start: float = 1e-4
    end: float = 2e-2
    cosine_offset: float = 8e-3
    prediction: Prediction = "eps"
    zero_terminal: bool = False
    v_posterior: float = 0.0

    def __post_init__(self) -> None:
        if not is_whole(self.steps) or self.steps < 2:
            raise ConfigError(f"Diffusion(steps={self.steps!r}): expected at least 2, and whole")
        for name in ("start", "end", "cosine_offset", "v_posterior"):
            if not is_number(value := getattr(self, name)):
                raise ConfigError(f"Diffusion({name}={value!r}): expected a number")
        if self.schedule not in tuple(_BETAS):
            raise ConfigError(
                f"Diffusion(schedule={self.schedule!r}): expected one of {', '.join(_BETAS)}"
            )
        if self.prediction not in ("eps", "x0", "v"):
            raise ConfigError(
                f"Diffusion(prediction={self.prediction!r}): expected 'eps', 'x0' or 'v'"
            )
        if not 0.0 < self.start <= self.end <= 1.0:
            raise ConfigError(
                f"Diffusion(start={self.start}, end={self.end}): expected 0 < start <= end <= 1"
            )
        if not 0.0 <= self.v_posterior <= 1.0:
            raise ConfigError(
                f"Diffusion(v_posterior={self.v_posterior}): expected a share between 0 and 1"
            )
        if self.zero_terminal and self.prediction == "eps":
            raise ConfigError(
                "Diffusion(zero_terminal=True, prediction='eps'): the last level is pure noise, "
                "which says nothing of the field. Use prediction='v' (or 'x0')."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Diffusion:
        """Return the process of :meth:`to_dict`; ConfigError for a key it does not have."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise ConfigError(f"Diffusion: unknown keys {unknown}; known are {known}")
        return cls(**settings)

    # --- tables, float64 (T,) ---------------------------------------------------------------

    @cached_property
    def betas(self) -> np.ndarray:
        r""":math:`\beta_t`."""
        betas = _BETAS[self.schedule](self)
        if not self.zero_terminal:
            return betas
        root = np.sqrt(np.cumprod(1.0 - betas))
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        abar = np.square(root)
        return 1.0 - abar / np.append(1.0, abar[:-1])

    @cached_property
    def alpha_bar(self) -> np.ndarray:
        r""":math:`\bar\alpha_t`."""
        return np.cumprod(1.0 - self.betas)

    @cached_property
    def alpha_bar_before(self) -> np.ndarray:
        r""":math:`\bar\alpha_{t-1}`, 1 before the first."""
        return np.append(1.0, self.alpha_bar[:-1])

    @cached_property
    def posterior_variance(self) -> np.ndarray:
        r""":math:`\Sigma_t`."""
        exact = self.betas * (1.0 - self.alpha_bar_before) / (1.0 - self.alpha_bar)
        return (1.0 - self.v_posterior) * exact + self.v_posterior * self.betas

    @cached_property
    def posterior_log_variance(self) -> np.ndarray:
        r""":math:`\log \Sigma_t`, of at least 1e-20."""
        return np.log(np.maximum(self.posterior_variance, 1e-20))

    @cached_property
    def posterior_coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """c_1 and c_2."""
        rest = 1.0 - self.alpha_bar
        c1 = self.betas * np.sqrt(self.alpha_bar_before) / rest
        c2 = (1.0 - self.alpha_bar_before) * np.sqrt(1.0 - self.betas) / rest
        return c1, c2

    # --- levels -----------------------------------------------------------------------------

    def alphas_sigmas(self, t: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        r"""Return :math:`\alpha_t, \sigma_t`: from the tables, between integers linear in alpha."""
        knots = np.arange(-1, self.steps)
        alpha = np.interp(t, knots, np.append(1.0, np.sqrt(self.alpha_bar)))
        return alpha, np.sqrt(np.maximum(0.0, 1.0 - np.square(alpha)))

    def level(self, t: float) -> Level:
        """Return the level of a time in [-1, T - 1], -1 being clean.

        Raises
        ------
        ConfigError
        """
        if not -1.0 <= t <= self.steps - 1:
            raise ConfigError(f"time {t:g} is not between 0 and {self.steps - 1}")
        if t == -1.0:
            return CLEAN
        (alpha, before), (sigma, sigma_before) = self.alphas_sigmas(np.array([t, max(t - 1, -1)]))
        return Level(float(t), float(alpha), float(sigma), (float(before), float(sigma_before)))

    def levels(
        self, steps: int, spacing: Spacing = "trailing", *, end: Literal["clean", "first"] = "clean"
    ) -> tuple[Level, ...]:
        """Return the ``steps + 1`` levels a sampler visits, the noisiest first.

        Parameters
        ----------
        steps : int
        spacing : str
            See :mod:`xearth.models.prediff.grids`.
        end : {"clean", "first"}
            The last level: no noise, or the first level of the process, as some codes have it.

        Raises
        ------
        ConfigError
        """
        check_steps(steps, self.steps)
        last = CLEAN if end == "clean" else self.level(0)
        if spacing in TIMES:
            return (*(self.level(t) for t in TIMES[spacing](self.steps, steps)), last)
        if spacing == "karras":
            return (*self._karras(steps), last)
        if spacing == "logsnr":
            times = self._log_snr_times(steps if end == "clean" else steps + 1)
            return (*(self.level(t) for t in times[:steps]), last)
        raise ConfigError(
            f"spacing={spacing!r}: expected one of {', '.join([*TIMES, 'karras', 'logsnr'])}"
        )

    def _karras(self, steps: int) -> list[Level]:
        """Return levels with Karras' ratios; a network is told the nearest integer time."""
        alpha, sigma = self.alphas_sigmas(np.arange(self.steps))
        if alpha[-1] == 0.0:
            raise ConfigError("spacing='karras' needs signal in the last level: zero_terminal=True")
        ratios = karras_ratios(sigma[0] / alpha[0], sigma[-1] / alpha[-1], steps)
        levels = []
        for ratio, t in zip(ratios, self._karras_times(steps), strict=True):
            a = 1.0 / math.sqrt(ratio**2 + 1.0)
            levels.append(Level(float(t), a, float(ratio) * a, self.level(t).before))
        return levels

    def _karras_times(self, steps: int) -> np.ndarray:
        """Return the integer times of Karras' ratios, rounded from float32 tables.

        That is where other libraries round them; of 50 times one lies within 5e-4 of a half.
        """
        alpha_bar = np.cumprod(np.float32(1.0) - np.float32(self.betas), dtype=np.float32)
        table = np.sqrt((1 - alpha_bar) / alpha_bar)
        ratios = karras_ratios(float(table[0]), float(table[-1]), steps)
        return np.round(np.interp(np.log(ratios), np.log(table), np.arange(self.steps)))

    def _log_snr_times(self, count: int) -> np.ndarray:
        """Return times at equal distances in the log signal-to-noise ratio; the first is T - 1."""
        last = self.steps - 2 if self.zero_terminal else self.steps - 1
        # Below -6 a state holds 1/400 of the field: steps there would be lost to nearly pure noise.
        low, high = max(self.level(last).log_snr, -6.0), self.level(0).log_snr
        wanted = np.linspace(low, high, count)
        alpha = 1.0 / np.sqrt(1.0 + np.exp(-2.0 * wanted))
        knots = np.sqrt(self.alpha_bar)
        times = np.interp(alpha, knots[::-1], np.arange(self.steps)[::-1])
        times[0], times[1:] = self.steps - 1, times[1:].clip(0)
        return times

    # --- clean field <-> output of a network --------------------------------------------------

    def clean(self, z: Tensor, level: Level, output: Tensor) -> Tensor:
        r"""Return :math:`\hat x_0` from what a network predicted at a level."""
        if self.prediction == "x0":
            return output
        if self.prediction == "v":
            return level.alpha * z - level.sigma * output
        return z * (1.0 / level.alpha) - output * (level.sigma / level.alpha)

    def output(self, z: Tensor, level: Level, clean: Tensor) -> Tensor:
        """Return what a network predicts where this is the clean field (sigma > 0)."""
        if self.prediction == "x0":
            return clean
        if self.prediction == "v":
            return (level.alpha * z - clean) / level.sigma
        return (z - level.alpha * clean) / level.sigma

    def predictor(self, network: Network) -> Predictor:
        """Return the predictor of the clean field of a network (z, t (N,)) -> output."""

        def predict(z: Tensor, level: Level) -> Tensor:
            return self.clean(z, level, network(z, network_time(z, level.t)))

        return predict

    # --- training -----------------------------------------------------------------------------

    def draw_times(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return times (N,) at random, each equally likely."""
        return torch.randint(0, self.steps, (count,), generator=generator)

    def _at(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.alphas_sigmas(t.cpu().numpy())
        return _broadcast(torch.as_tensor(alpha), like), _broadcast(torch.as_tensor(sigma), like)

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return z_t of clean fields (N, ...) at times (N,)."""
        alpha, sigma = self._at(t, x0)
        return alpha * x0 + sigma * noise

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return what a network has to predict at times (N,)."""
        if self.prediction == "eps":
            return noise
        if self.prediction == "x0":
            return x0
        alpha, sigma = self._at(t, x0)
        return alpha * noise - sigma * x0


# --- schedules --------------------------------------------------------------------------------


def _linear(p: Diffusion) -> np.ndarray:
    return np.square(np.linspace(math.sqrt(p.start), math.sqrt(p.end), p.steps))


def _cosine(p: Diffusion) -> np.ndarray:
    angle = (np.arange(p.steps + 1) / p.steps + p.cosine_offset) / (1.0 + p.cosine_offset)
    alpha_bar = np.square(np.cos(angle * (math.pi / 2)))
    return np.clip(1.0 - alpha_bar[1:] / alpha_bar[:-1], 0.0, 0.999)


_BETAS: dict[str, Callable[[Diffusion], np.ndarray]] = {
    "linear": _linear,
    "sqrt_linear": lambda p: np.linspace(p.start, p.end, p.steps),
    "sqrt": lambda p: np.sqrt(np.linspace(p.start, p.end, p.steps)),
    "cosine": _cosine,
}
