r"""States: what has been seen, small, labeled, ready to be added to more.

A :class:`State` holds the parts of every statistic for each start and lead (and region), and for
scores of cells those of each cell. States add: :math:`a + b` is what one pass over both would
have seen, up to rounding, whatever the order. So an archive can be verified year by year, or by
several jobs, and the results added; a state is a Dataset that can be written and read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..errors import ConfigError, GridMismatchError
from .finish import PAIRS, area_of, statistics_of
from .score import Score
from .statistics import Statistic

__all__ = ["State", "part_name", "statistics_by_area"]


@dataclass(frozen=True, eq=False)
class State:
    """What some scores have seen.

    Parameters
    ----------
    scores : tuple of Score
        What can be finished.
    parts : Dataset
        The parts of the statistics, Dask-backed while nothing is computed; its attributes say
        what was compared.

    Raises
    ------
    ConfigError
        A part is missing.
    """

    scores: tuple[Score, ...]
    parts: xr.Dataset

    def __post_init__(self) -> None:
        absent = [name for name in self._names() if name not in self.parts]
        if absent:
            raise ConfigError(
                f"the state has no {absent[:3]}, which {[s.name for s in self.scores]} need; it "
                f"holds {sorted(map(str, self.parts.data_vars))[:8]}. Give the scores that it was "
                "accumulated for, or some of them."
            )

    def __add__(self, other: State) -> State:
        """Return the state of both; labels that only one has are kept."""
        if not isinstance(other, State):
            return NotImplemented
        if [s.name for s in self.scores] != [s.name for s in other.scores]:
            raise ConfigError(
                f"states of different scores do not add: {[s.name for s in self.scores]} and "
                f"{[s.name for s in other.scores]}. Accumulate both with the same scores."
            )
        _same_terms(self.parts, other.parts)
        # 0 is the neutral element of every part
        mine, theirs = xr.align(
            *(
                parts.drop_vars("valid_time", errors="ignore")
                for parts in (self.parts, other.parts)
            ),
            join="outer",
            fill_value=0,
        )
        total = mine.copy()
        for area, statistics in statistics_by_area(self.scores).items():
            for s in statistics:
                total.update(_sum(s, area, mine, theirs))
        if "weights" in total:
            total["weights"] = np.maximum(mine["weights"], theirs["weights"])
        if "valid_time" in self.parts and "valid_time" in other.parts:
            valid = self.parts["valid_time"].combine_first(other.parts["valid_time"])
            total = total.assign_coords(valid_time=valid)
        return State(self.scores, total)

    def compute(self) -> State:
        """Return the state in memory."""
        return State(self.scores, self.parts.compute())

    def to_dataset(self) -> xr.Dataset:
        """Return the parts as a Dataset that can be written to NetCDF or Zarr."""
        return self.parts

    @classmethod
    def from_dataset(cls, parts: xr.Dataset, scores: Sequence[str | Score]) -> State:
        """Return the state of a Dataset that :meth:`to_dataset` made.

        Parameters
        ----------
        parts : Dataset
        scores : sequence of str or Score
            All or some of those it was accumulated for.
        """
        from .resolve import rows_of

        return cls(rows_of(scores, None), parts)

    def _names(self) -> list[str]:
        return [
            part_name(area, s.name, part)
            for area, statistics in statistics_by_area(self.scores).items()
            for s in statistics
            for part in s.parts
        ]


def part_name(area: str, statistic: str, part: str) -> str:
    """Return the name of the variable of a part."""
    return ".".join(piece for piece in (area, statistic, part) if piece)


def statistics_by_area(scores: Sequence[Score]) -> dict[str, tuple[Statistic, ...]]:
    """Return the statistics of scores by the weights they are taken with.

    The first, without a name, are the regions that were asked for; ``cells`` are none at all.
    """
    regional = [s for s in scores if s.over in ("all", "case")]
    found: dict[str, tuple[Statistic, ...]] = {"": (PAIRS, *statistics_of(regional))}
    for score in scores:
        if score.over == "index":
            found[area_of(score)] = score.statistics
    cells = [s for s in scores if s.over == "cell"]
    if cells:
        found["cells"] = (PAIRS, *statistics_of(cells))
    return found


def _sum(s: Statistic, area: str, mine: xr.Dataset, theirs: xr.Dataset) -> dict[str, xr.Variable]:
    """Return the parts of a statistic of both."""
    names = {part: part_name(area, s.name, part) for part in s.parts}
    dims = {part: mine[name].dims for part, name in names.items()}
    both = {
        part: xr.Variable.concat(
            [mine[name].variable, theirs[name].variable.transpose(*dims[part])], "state"
        ).data
        for part, name in names.items()
    }
    total = s.combine(both, axis=0)
    return {name: xr.Variable(dims[part], total[part]) for part, name in names.items()}


def _same_terms(a: xr.Dataset, b: xr.Dataset) -> None:
    """Refuse to add what does not compare the same things."""
    for key in ("units", "weighting", "by"):
        if a.attrs.get(key) != b.attrs.get(key):
            raise ConfigError(
                f"states with different {key} do not add: {a.attrs.get(key)!r} and "
                f"{b.attrs.get(key)!r}. Accumulate both alike."
            )
    if a["n.count"].dims != b["n.count"].dims:
        raise GridMismatchError(
            f"states with the dims {a['n.count'].dims} and {b['n.count'].dims} do not add."
        )
    shared = {*a["n.count"].dims, *a.attrs["by"].split(), *a.attrs["grid"].split()}
    for name in set(a.dims) - shared:
        if a.sizes[name] != b.sizes.get(name) or not a[name].equals(b[name]):
            raise ConfigError(
                f"states with different labels along {name!r} do not add: "
                f"{a[name].values.tolist()[:6]} and {b[name].values.tolist()[:6]}."
            )
