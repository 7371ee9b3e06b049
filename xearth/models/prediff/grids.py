r"""Which of the T times of a discrete process a sampler with n steps visits.

Times are counted from 0 (least noise) to :math:`T - 1`. By name, latest first:

====================  ============================================================================
``trailing``          :math:`\mathrm{round}(T - kT/n) - 1`: starts at :math:`T - 1`; all for n = T
``leading``           :math:`(n-1-k)\lfloor T/n \rfloor + 1`, the "uniform" helper of the reference
``linspace``          n + 1 equal parts of :math:`[0, T-1]` without the 0
``quad``              squares of equal parts of :math:`[0, \sqrt{0.8\,T}]`, plus 1 (repeats if many)
``karras``            equal parts in :math:`(\sigma/\alpha)^{1/7}`, which crowd near the data
``logsnr``            equal parts in :math:`\lambda`, at times between the integers
====================  ============================================================================

Sources: Song et al. (2021), *Denoising diffusion implicit models* (uniform, quad); Lin et al.
(2024), *Common diffusion noise schedules and sample steps are flawed* (trailing); Karras et al.
(2022), *Elucidating the design space*; Lu et al. (2022), *DPM-Solver* (log-SNR).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from ...errors import ConfigError

__all__ = ["TIMES", "Spacing", "check_steps", "is_number", "is_whole", "karras_ratios"]

Spacing = Literal["trailing", "leading", "linspace", "quad", "karras", "logsnr"]


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number; true is none.

    Examples
    --------
    >>> [is_whole(value) for value in (3, np.int64(3), 3.0, True, "3")]
    [True, True, False, False, False]
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite real number; true is none.

    Examples
    --------
    >>> [is_number(value) for value in (3, 0.5, float("nan"), True, "1e-4")]
    [True, True, False, False, False]
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value)


def check_steps(steps: int, most: int | None = None) -> None:
    """Check a number of steps.

    Raises
    ------
    ConfigError
    """
    if not is_whole(steps) or steps < 1 or (most is not None and steps > most):
        limit = "" if most is None else f" and at most {most}, the number of the process"
        raise ConfigError(f"steps={steps!r}: expected at least 1{limit}, and a whole number")


def _trailing(T: int, n: int) -> np.ndarray:
    return np.round(np.arange(n) * (-T / n) + T).astype(np.int64) - 1


def _leading(T: int, n: int) -> np.ndarray:
    times = np.arange(n)[::-1] * (T // n) + 1
    if times[0] > T - 1:
        raise ConfigError(
            f"spacing='leading' with {n} of {T} steps starts beyond the last time {T - 1}. "
            "Use spacing='trailing' for all steps."
        )
    return times


def _linspace(T: int, n: int) -> np.ndarray:
    return np.round(np.linspace(0, T - 1, n + 1)).astype(np.int64)[:0:-1]


def _quad(T: int, n: int) -> np.ndarray:
    return np.square(np.linspace(0, np.sqrt(0.8 * T), n)).astype(np.int64)[::-1] + 1


#: Spacing by integer times -> (T, n) -> times, latest first.
TIMES: Mapping[str, Callable[[int, int], np.ndarray]] = {
    "trailing": _trailing,
    "leading": _leading,
    "linspace": _linspace,
    "quad": _quad,
}


def karras_ratios(least: float, most: float, n: int) -> np.ndarray:
    r"""Return n ratios :math:`\sigma/\alpha` from ``most`` to ``least``, rho = 7.

    Examples
    --------
    >>> karras_ratios(1.0, 128.0, 3).round(2).tolist()
    [128.0, 17.09, 1.0]
    """
    ramp = np.linspace(0, 1, n)
    low, high = least ** (1 / 7), most ** (1 / 7)
    return (high + ramp * (low - high)) ** 7
