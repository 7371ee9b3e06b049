r"""Window: which stretches of a time axis are one sample.

With history :math:`h`, gap :math:`g` and horizon :math:`n` a window with init :math:`t` (the last
observed step) reads the steps :math:`t-h+1, \dots, t` and is asked for
:math:`t+g+1, \dots, t+g+n`. All of it is arithmetic on the ordinals of a
:class:`~xearth.cf.timeaxis.TimeAxis`: no value is read, and no window reaches over a missing step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..cf.timeaxis import TimeAxis
from ..errors import TimeAxisError, TimeAxisWarning, warn

__all__ = ["Window", "gaps_of"]


@dataclass(frozen=True)
class Window:
    """History and horizon of a sample, in steps of the time axis.

    Parameters
    ----------
    history : int
        Observed steps a sample holds, at least 1; the last one is the init.
    horizon : int
        Steps asked for after the init; 0 when only the history is wanted.
    stride : int, default 1
        Steps from one init to the next.
    gap : int, default 0
        Steps left out between the init and the first step asked for.

    Raises
    ------
    TimeAxisError
        If a number is not an integer or out of range.

    Examples
    --------
    >>> window = Window(history=12, horizon=18)
    >>> window.length
    30
    """

    history: int
    horizon: int
    stride: int = 1
    gap: int = 0

    def __post_init__(self) -> None:
        for field, low in (("history", 1), ("horizon", 0), ("stride", 1), ("gap", 0)):
            value = getattr(self, field)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or value < low:
                raise TimeAxisError(
                    f"Window({field}={value!r}): expected a whole number of steps >= {low}. "
                    "Count steps of the time axis, for example history=12 for a year of months."
                )

    @property
    def length(self) -> int:
        """Steps from the first of the history to the last of the horizon."""
        return self.history + self.reach

    @property
    def reach(self) -> int:
        """Steps from the init to the last step asked for."""
        return self.gap + self.horizon if self.horizon else 0

    def starts(self, axis: TimeAxis) -> np.ndarray:
        """Return the positions of all inits whose window is complete on ``axis``.

        Parameters
        ----------
        axis : TimeAxis
            The time axis of the data.

        Returns
        -------
        array of int64 (n,)
            Positions on the axis as stored, in the order of time.

        Warns
        -----
        TimeAxisWarning
            If stamps are missing, repeated or unsorted; says how many windows that costs.

        Raises
        ------
        TimeAxisError
            If the axis is too short, or a gap lies in the only window.

        Examples
        --------
        >>> import xarray as xr
        >>> time = xr.date_range("2000-01", periods=6, freq="MS", use_cftime=False)
        >>> axis = TimeAxis.from_array(xr.DataArray(time, dims="time", name="time"))
        >>> Window(history=2, horizon=3).starts(axis)
        array([1, 2])
        """
        ranks = self._some_ranks(axis)
        _tell(axis, [*self._lost(axis, ranks), *_disorder(axis)])
        return np.asarray(axis.order)[ranks[:: self.stride]]

    def allowed(self, axis: TimeAxis) -> np.ndarray:
        """Return the positions of all inits with a complete window, whatever the stride.

        As `starts`, without a word on gaps: for inits that are named and not taken as they come.

        Examples
        --------
        >>> import xarray as xr
        >>> time = xr.date_range("2000-01", periods=9, freq="MS", use_cftime=False)
        >>> apart = xr.DataArray(time, dims="time", name="time")[[0, 1, 2, 6, 7, 8]]
        >>> Window(history=2, horizon=1).allowed(TimeAxis.from_array(apart))
        array([1, 4])
        """
        ranks = self._some_ranks(axis)
        _tell(axis, _disorder(axis))
        return np.asarray(axis.order)[ranks]

    def _some_ranks(self, axis: TimeAxis) -> np.ndarray:
        """Return the ranks of the inits of all complete windows, of which there must be one."""
        order = np.asarray(axis.order)
        if order.size < self.length:
            raise TimeAxisError(
                f"time axis {axis.name!r}: {self!r} needs {self.length} consecutive steps, found "
                f"{order.size} ({_span(axis)}). Give more data or a shorter window."
            )
        ranks = self._ranks(axis)
        if ranks.size == 0:
            raise TimeAxisError(
                f"time axis {axis.name!r}: {self!r} needs {self.length} consecutive steps, found "
                f"at most {max(stop - start for start, stop in axis.runs())} because of "
                f"{gaps_of(axis)}. Fill the gap or use a shorter window."
            )
        return ranks

    def history_starts(self, axis: TimeAxis) -> np.ndarray:
        """Return the positions of all inits whose *history* is complete, as `starts` does.

        Examples
        --------
        >>> import xarray as xr
        >>> time = xr.date_range("2000-01", periods=4, freq="MS", use_cftime=False)
        >>> axis = TimeAxis.from_array(xr.DataArray(time, dims="time", name="time"))
        >>> Window(history=2, horizon=3).history_starts(axis)
        array([1, 2, 3])
        """
        return Window(self.history, 0, self.stride).starts(axis)

    def _ranks(self, axis: TimeAxis) -> np.ndarray:
        """Return the ranks, in time order, of the inits of all complete windows."""
        pieces = [
            np.arange(start + self.history - 1, stop - self.reach)
            for start, stop in axis.runs()
            if stop - start >= self.length
        ]
        return np.concatenate([np.zeros(0, dtype=np.int64), *pieces]).astype(np.int64)

    def _lost(self, axis: TimeAxis, ranks: np.ndarray) -> list[str]:
        """Return what gaps of the axis cost, in words."""
        lost = np.asarray(axis.order).size - self.length + 1 - ranks.size
        return [f"{gaps_of(axis)}: {lost} windows of {ranks.size + lost} dropped"] if lost else []


def _disorder(axis: TimeAxis) -> list[str]:
    """Return what is odd about the stamps of an axis, in words."""
    facts = []
    repeated = len(axis.values) - np.asarray(axis.order).size
    if repeated:
        facts.append(f"{repeated} repeated stamps: the first of each is used")
    if not axis.is_sorted:
        facts.append("stamps not sorted: windows follow the order of time")
    return facts


def _tell(axis: TimeAxis, facts: Sequence[str]) -> None:
    """Warn once about what the axis costs."""
    if facts:
        warn(f"time axis {axis.name!r}: {'; '.join(facts)}.", TimeAxisWarning)


def _span(axis: TimeAxis) -> str:
    """Return "first .. last" of an axis."""
    order = np.asarray(axis.order)
    if order.size == 0:
        return "empty"
    return f"{axis.values[order[0]]} .. {axis.values[order[-1]]}"


def gaps_of(axis: TimeAxis) -> str:
    """Return the gaps of an axis in words, the first three by name."""
    gaps = list(axis.gaps)
    named = ", ".join(f"{missing} after {after}" for after, _, missing in gaps[:3])
    more = f" and {len(gaps) - 3} more gaps" if len(gaps) > 3 else ""
    return f"missing steps ({named}{more})"
