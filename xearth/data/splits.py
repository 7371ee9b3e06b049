r"""Split: which years teach, which choose, which judge, and which windows each of them has.

Each step of a time axis belongs to one part or to none. The first ``gap`` steps of a part that
follow a step of another part belong to none. With the steps a window reads,
:math:`R = \{t-h+1, \dots, t\}`, and those it is asked for, :math:`Q = \{t+g+1, \dots, t+g+n\}`,
its init :math:`t` is admitted to

* train, if all of :math:`R \cup Q` belongs to train;
* choose or judge, if all of :math:`Q` belongs to it and no step of :math:`R` to another part.

So no window straddles two parts: what is chosen or judged by was never learned from, and histories
of the later part live in the gap. ``histories="past"`` lifts the condition on :math:`R`: a
forecaster in use has seen all that lies before its start, and scores of the first starts after
the training years are often wanted. Targets stay apart either way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.dates import bounds
from ..cf.dates import parts as date_parts
from ..cf.discover import discover
from ..cf.timeaxis import TimeAxis
from ..errors import ConfigError, TimeAxisError
from .windows import Window

__all__ = ["PARTS", "Split"]

Whole = npt.NDArray[np.int64]
Part = Literal["train", "choose", "judge"]

#: The parts, in the order in which they are used.
PARTS: tuple[Part, ...] = ("train", "choose", "judge")
HISTORIES = ("apart", "past")
_NONE = -1

_FIRST = (1, 1, 1, 0, 0, 0, 0)
_LAST = (9999, 12, 31, 23, 59, 59, 999_999)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Periods that teach, choose and judge, and the gap between them.

    Parameters
    ----------
    train : str
        ``"1856-01/1981-12"``, both ends included, of any precision; several spans with commas.
        All that is fitted sees these steps alone.
    choose : str, optional
        Where epochs, settings and members are chosen.
    judge : str, optional
        Kept back for the verdict.
    gap : int
        Steps after another part that belong to none. As long as the history of the windows, it
        costs choose and judge no start.
    histories : {"apart", "past"}
        Whether the history of a choosing or judging window may reach into another part.

    Raises
    ------
    ConfigError
        A period that cannot be read or ends before it begins, two that overlap, a gap that is no
        whole number of 0 or more, or an unknown word.

    Examples
    --------
    >>> from xearth import Window, samples
    >>> split = Split(train="1856/1981", choose="1982/1992", judge="1993/2003", gap=12)
    >>> sst = samples.open("kaplan_sst")
    >>> window = Window(history=12, horizon=18)
    >>> [split.inits(sst, window, part).size for part in PARTS]
    [1483, 103, 103]
    >>> str(split.select(sst, "judge").time.values[0])[:7]
    '1994-01'
    """

    train: str
    choose: str | None = None
    judge: str | None = None
    gap: int = 0
    histories: Literal["apart", "past"] = "apart"

    def __post_init__(self) -> None:
        whole = isinstance(self.gap, int | np.integer) and not isinstance(self.gap, bool)
        if not whole or self.gap < 0:
            raise ConfigError(f"Split(gap={self.gap!r}): expected a whole number of steps >= 0.")
        if self.histories not in HISTORIES:
            raise ConfigError(f"Split(histories={self.histories!r}): expected one of {HISTORIES}.")
        named = [(part, span) for part in self.parts for span in self._spans(part)]
        for (a, one), (b, other) in combinations(named, 2):
            if max(one[2], other[2]) <= min(one[3], other[3]):
                raise ConfigError(
                    f"Split: {a} {one[0]}/{one[1]} and {b} {other[0]}/{other[1]} overlap; expected "
                    "periods apart, so that nothing is judged by what was seen. End the earlier "
                    "one before the later one begins."
                )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that there are."""
        return tuple(part for part in PARTS if getattr(self, part) is not None)

    def slices(self, part: Part) -> tuple[slice, ...]:
        """Return the spans of a part as slices for ``.sel(time=...)``; they know of no gap.

        Examples
        --------
        >>> Split(train="1856/1981", judge="1982/2003").slices("judge")
        (slice('1982', '2003', None),)
        """
        return tuple(slice(first, last) for first, last, _, _ in self._spans(part))

    def positions(self, data: xr.DataArray | xr.Dataset | TimeAxis, part: Part) -> Whole:
        """Return the positions of the steps that belong to a part, in the order of time.

        Raises
        ------
        ConfigError
            A part that the split does not have.
        TimeAxisError
            The record holds no step of it, or the gap leaves none.
        """
        axis = _axis(data)
        own = self._known(part)
        order = np.asarray(axis.order)
        found = order[self._labels(axis) == PARTS.index(own)]
        if found.size == 0:
            raise TimeAxisError(
                f"time axis {axis.name!r}: no step of {part} {getattr(self, part)} is left with a "
                f"gap of {self.gap}; the record runs from {axis.values[order[0]]} to "
                f"{axis.values[order[-1]]}. Give a period inside it, a longer one or a shorter gap."
            )
        return found

    def select(self, data: xr.DataArray | xr.Dataset, part: Part) -> Any:
        """Return the steps of a part, in the order of the data; lazy data stay lazy."""
        time = str(discover(data, require=("time",)).time)
        return data.isel({time: np.sort(self.positions(data, part))})

    def inits(
        self, data: xr.DataArray | xr.Dataset | TimeAxis, window: Window, part: Part
    ) -> Whole:
        """Return the positions of the inits whose windows are admitted to a part.

        Parameters
        ----------
        data : DataArray, Dataset or TimeAxis
            Only its time axis is used.
        window : Window
            Its stride counts admitted inits.
        part : {"train", "choose", "judge"}

        Returns
        -------
        array of int64
            In the order of time; ``data.time[...]`` are the stamps.

        Raises
        ------
        ConfigError
            A part that the split does not have.
        TimeAxisError
            No window is admitted.
        """
        axis = _axis(data)
        code = PARTS.index(self._known(part))
        labels = self._labels(axis)
        order = np.asarray(axis.order)
        rank = np.empty(len(axis), dtype=np.int64)
        rank[order] = np.arange(order.size)
        at = rank[replace(window, stride=1).starts(axis)]
        read = labels[at[:, None] + np.arange(1 - window.history, 1)]
        asked = labels[at[:, None] + np.arange(window.reach - window.horizon + 1, window.reach + 1)]
        admitted = (asked == code).all(1)
        if part == "train" or window.horizon == 0:
            admitted &= (read == code).all(1)
        elif self.histories == "apart":
            admitted &= ((read == code) | (read == _NONE)).all(1)
        if not admitted.any():
            raise TimeAxisError(
                f"time axis {axis.name!r}: no {window!r} is admitted to {part} "
                f"{getattr(self, part)} with gap={self.gap} and histories={self.histories!r}. Give "
                "a longer period or a shorter window"
                + ("." if part == "train" else ", or let histories reach back: histories='past'.")
            )
        return order[at[admitted][:: window.stride]]

    def provenance(self) -> dict[str, Any]:
        """Return what a forecaster fitted by this split has seen, as plain values.

        To be merged into the ``provenance`` of an artifact. The leak guard reads the periods; the
        split itself is kept under ``"split"``.

        Examples
        --------
        >>> found = Split(train="1856/1981", choose="1982/2003").provenance()
        >>> found["training_period"], found["validation_period"], found["normalization_period"]
        ('1856/1981', '1982/2003', '1856/1981')
        """
        found = {"training_period": self.train, "normalization_period": self.train}
        if self.choose is not None:
            found["validation_period"] = self.choose
        if self.judge is not None:
            found["judging_period"] = self.judge
        return {**found, "split": asdict(self)}

    def to_json(self) -> str:
        """Return the split as JSON; :meth:`from_json` is the inverse."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Split:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ConfigError
            No JSON object, or an unknown key.

        Examples
        --------
        >>> split = Split(train="1856/1981", judge="1982/2003", gap=17)
        >>> Split.from_json(split.to_json()) == split
        True
        """
        try:
            given = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"Split: expected JSON, found {text[:40]!r} ({error}).") from error
        known = [field.name for field in fields(cls)]
        if not isinstance(given, Mapping) or set(given) - set(known) or "train" not in given:
            raise ConfigError(
                f"Split: expected an object with 'train' and of {known}; found {text[:120]!r}."
            )
        return cls(**given)

    def _known(self, part: str) -> Part:
        if part not in self.parts:
            raise ConfigError(f"part {part!r}: this split has {', '.join(self.parts)}.")
        return PARTS[PARTS.index(part)]

    def _spans(self, part: str) -> list[tuple[str, str, tuple[int, ...], tuple[int, ...]]]:
        """Return first and last stamp of each span as text, and the instants they mean."""
        text, found = getattr(self, self._known(part)), []
        for span in str(text).split(","):
            first, _, last = (word.strip() for word in span.partition("/"))
            last = last or first
            try:
                low, high = date_parts(first), date_parts(last)
            except TimeAxisError as error:
                raise ConfigError(
                    f"Split({part}={text!r}): expected 'first/last', such as '1856-01/1981-12'; "
                    f"{error}"
                ) from error
            low, high = low + _FIRST[len(low) :], high + _LAST[len(high) :]
            if low > high:
                raise ConfigError(f"Split({part}={text!r}): expected the first stamp first.")
            found.append((first, last, low, high))
        return found

    def _labels(self, axis: TimeAxis) -> npt.NDArray[np.int8]:
        """Return the part of each step (index in PARTS, -1 for none), in the order of time."""
        order = np.asarray(axis.order)
        label, stamp = np.full(len(axis), _NONE, dtype=np.int8), axis.microseconds
        for part in self.parts:
            for first, last, *_ in self._spans(part):
                inside = (stamp >= bounds(axis, first)[0]) & (stamp < bounds(axis, last)[1])
                label[inside] = PARTS.index(part)
        label, ordinal = label[order], np.asarray(axis.ordinals)[order]
        kept = label.copy()
        for code in range(len(PARTS)):
            own, others = label == code, ordinal[(label != code) & (label != _NONE)]
            # the latest step of another part before each step of this one
            before = np.searchsorted(others, ordinal[own]) - 1
            since = (
                np.where(before >= 0, others[np.maximum(before, 0)], -np.inf)
                if len(others)
                else -np.inf
            )
            kept[own] = np.where(ordinal[own] - since <= self.gap, _NONE, code)
        return kept


def _axis(data: xr.DataArray | xr.Dataset | TimeAxis) -> TimeAxis:
    if isinstance(data, TimeAxis):
        return data
    return TimeAxis.from_array(data[str(discover(data, require=("time",)).time)])
