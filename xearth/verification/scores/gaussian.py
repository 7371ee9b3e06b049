r"""Closed forms of a normal distribution, on plain arrays."""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType

import numpy as np

from ..block import Array

__all__ = ["gaussian_crps", "gaussian_log_score", "load_properscoring"]


@cache
def load_properscoring() -> ModuleType:
    """Import properscoring without the warnings of its source (escapes in its docstrings)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        import properscoring

    return properscoring


def gaussian_crps(error: Array, scale: Array) -> Array:
    """Return the CRPS by properscoring; of a distribution of no width, the absolute error.

    Parameters
    ----------
    error : array
        Truth minus mean.
    scale : array
        Standard deviation; NaN where negative.

    Examples
    --------
    >>> import numpy as np
    >>> gaussian_crps(np.array([0.0, 2.0]), np.array([1.0, 0.0])).round(4).tolist()
    [0.2337, 2.0]
    """
    wide = np.where(scale > 0, scale, 1.0)
    found = load_properscoring().crps_gaussian(error, 0.0, wide)
    return np.where(scale > 0, found, np.where(scale == 0, np.abs(error), np.nan))


def gaussian_log_score(error: Array, scale: Array) -> Array:
    r"""Return minus the logarithm of the density, in nats.

    :math:`\frac12 \log 2 \pi \sigma^2 + e^2 / 2 \sigma^2`. Of a distribution of no width it is
    infinite: minus where the truth is the mean, plus elsewhere. Parameters as in
    :func:`gaussian_crps`.

    Examples
    --------
    >>> import numpy as np
    >>> gaussian_log_score(np.array([0.0, 2.0]), np.array([1.0, 0.0])).round(4).tolist()
    [0.9189, inf]
    """
    wide = np.where(scale > 0, scale, 1.0)
    found = 0.5 * np.log(2 * np.pi) + np.log(wide) + 0.5 * (error / wide) ** 2
    sure = np.where(np.isnan(error), np.nan, np.where(error == 0, -np.inf, np.inf))
    return np.where(scale > 0, found, np.where(scale == 0, sure, np.nan))
