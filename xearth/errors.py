"""Every error and warning xearth raises on purpose.

One tree, so that a caller can catch ``XearthError`` and know that the library, not a bug,
is speaking. Each class also derives from the builtin a newcomer would expect
(``ValueError``, ``KeyError`` ...), so generic handlers keep working.

A message names the object, what was expected, what was found and the remedy.
"""

from __future__ import annotations

import sys
import warnings
from contextvars import ContextVar
from types import TracebackType

__all__ = [
    "AxisError",
    "CheckpointError",
    "ConfigError",
    "ConstraintError",
    "DataTypeError",
    "DiscoveryWarning",
    "GridMismatchError",
    "LeadError",
    "LeakageWarning",
    "MissingDataError",
    "MissingDataWarning",
    "MissingDependencyError",
    "ProtocolError",
    "RegionError",
    "SamplingError",
    "SourceError",
    "TimeAxisError",
    "TimeAxisWarning",
    "TrainingError",
    "UnitsError",
    "UnitsWarning",
    "WarnOnce",
    "XearthError",
    "XearthWarning",
    "warn",
]


class XearthError(Exception):
    """Base class of every error raised by xearth."""


class AxisError(XearthError, ValueError):
    """An axis (time, latitude, longitude ...) is missing or ambiguous."""


class TimeAxisError(XearthError, ValueError):
    """The time axis cannot be used: irregular step, gap in the only window, no such time."""


class DataTypeError(XearthError, TypeError):
    """The data are of a kind that cannot be used: text, dates, a Dataset where one field fits."""


class UnitsError(XearthError, ValueError):
    """Units are missing, cannot be parsed, or are incompatible."""


class GridMismatchError(XearthError, ValueError):
    """Two grids that must be equal are not."""


class RegionError(XearthError, ValueError):
    """A region lies outside the grid, wholly or in part."""


class MissingDataError(XearthError, ValueError):
    """Values are missing where none may be."""


class LeadError(XearthError, ValueError):
    """A lead beyond the horizon of a forecaster was asked for."""


class ConfigError(XearthError, ValueError):
    """A configuration holds an unknown key or an impossible value."""


class CheckpointError(XearthError, ValueError):
    """A file of weights is corrupt, truncated, or of another model."""


class ConstraintError(XearthError, ValueError):
    """A constraint cannot be understood or met."""


class ProtocolError(XearthError, ValueError):
    """Scores of different protocols were combined, or a protocol does not fit the data."""


class SourceError(XearthError, OSError):
    """A data file is missing, corrupt, or not of the expected layout."""


class TrainingError(XearthError, RuntimeError):
    """Training stopped because it could not go on (for example a NaN loss)."""


class SamplingError(XearthError, RuntimeError):
    """Sampling stopped because it could not go on: NaN or inf, with the step and likely cause."""


class MissingDependencyError(XearthError, ImportError):
    """An optional dependency is needed; the message says which extra installs it."""


class XearthWarning(UserWarning):
    """Base class of every warning raised by xearth."""


class DiscoveryWarning(XearthWarning):
    """An axis was found by a weak hint (a bare name, plain degrees)."""


class LeakageWarning(XearthWarning):
    """What is judged was seen by what is judged: a score is better than it would be in use."""


class MissingDataWarning(XearthWarning):
    """Values were missing and others stand in for them; what was done is said."""


class TimeAxisWarning(XearthWarning):
    """The time axis has gaps, duplicates or is not sorted; what was done is said."""


class UnitsWarning(XearthWarning):
    """Units were absent or converted in a way the user should know of."""


#: Warnings that are held back, each once, in their order.
_held: ContextVar[dict[tuple[str, type[XearthWarning]], None] | None] = ContextVar(
    "held", default=None
)


class WarnOnce:
    """Hold back the warnings of xearth in a block; issue each once when it ends without an error.

    Only those of the thread that is in the block: filters of :mod:`warnings`, which all threads
    share, are not touched. A block within another one leaves its warnings to that.
    """

    def __enter__(self) -> None:
        self._token = _held.set({}) if _held.get() is None else None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        held = _held.get()
        if self._token is None or held is None:
            return
        _held.reset(self._token)
        if kind is None:
            for message, category in held:
                warn(message, category)


def warn(message: str, category: type[XearthWarning]) -> None:
    """Warn the line outside xearth that led here, so that Python shows each line once."""
    held = _held.get()
    if held is not None:
        held[message, category] = None
        return
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("xearth."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
