r"""States: what has been seen, small, labeled, ready to be added to more.

A :class:`State` holds the parts of every statistic for each start and lead (and region), and for
scores of cells those of each cell. States add: :math:`a + b` is what one pass over both would
have seen, up to rounding, whatever the order. So an archive can be verified year by year, or by
several jobs, and the results added; a state is a Dataset that can be written and read.

What adds are other starts, other leads or other regions, of the same cells with the same weights
and all else alike. The same start and lead of the same region in two states is an error: it would
count twice. So are parts of a grid: verify the whole, which can be as lazy as it is large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import xarray as xr

from ...errors import ConfigError, GridMismatchError
from ..score import Score
from ..statistics import Statistic
from .finish import PAIRS, area_of, statistics_of
from .recipe import Recipe

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
        """Return the state of both; labels that only one has are kept.

        Raises
        ------
        ConfigError
            They were not accumulated alike, or have a case in common.
        """
        if not isinstance(other, State):
            return NotImplemented
        if [s.name for s in self.scores] != [s.name for s in other.scores]:
            raise ConfigError(
                f"states of different scores do not add: {[s.name for s in self.scores]} and "
                f"{[s.name for s in other.scores]}. Accumulate both with the same scores."
            )
        _same_terms(self.parts, other.parts)
        _no_case_twice(self.parts, other.parts)
        # 0 is the neutral element of every part
        mine, theirs = xr.align(
            *(
                parts.drop_vars("valid_time", errors="ignore")
                for parts in (self.parts, other.parts)
            ),
            join="outer",
            fill_value=0,
        )
        sums: dict[str, xr.Variable] = {}
        for area, statistics in statistics_by_area(self.scores).items():
            for s in statistics:
                sums |= _sum(s, area, mine, theirs)
        total = mine.assign(sums)
        if "valid_time" in self.parts and "valid_time" in other.parts:
            valid = self.parts["valid_time"].combine_first(other.parts["valid_time"])
            total = total.assign_coords(valid_time=valid)
        return State(self.scores, total.assign_attrs(_recipe_of_both(self.parts, other.parts)))

    def __radd__(self, other: object) -> State:
        """Begin ``sum([a, b, ...])``."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def compute(self) -> State:
        """Return the state in memory."""
        return State(self.scores, self.parts.compute())

    def to_dataset(self) -> xr.Dataset:
        """Return the parts as a Dataset that can be written to NetCDF or Zarr."""
        return self.parts

    @classmethod
    def from_dataset(cls, parts: xr.Dataset, scores: Sequence[str | Score] | None = None) -> State:
        """Return the state of a Dataset that :meth:`to_dataset` made.

        Parameters
        ----------
        parts : Dataset
        scores : sequence of str or Score, optional
            Some of those it was accumulated for; by default all. Rows of one's own, which a file
            does not hold, have to be given.

        Raises
        ------
        ConfigError
            Scores that it was not accumulated for, or that it cannot name.
        """
        recipe = Recipe.read(parts.attrs)
        return cls(recipe.rows(scores, parts.attrs), _with_leads(parts, recipe.lead_units))

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
    dims = {part: mine.variables[name].dims for part, name in names.items()}
    both = {
        part: xr.Variable.concat(
            [mine.variables[name], theirs.variables[name].transpose(*dims[part])], "state"
        ).data
        for part, name in names.items()
    }
    total = s.combine(both, axis=0)
    return {name: xr.Variable(dims[part], total[part]) for part, name in names.items()}


def _same_terms(a: xr.Dataset, b: xr.Dataset) -> None:
    """Refuse to add what does not compare the same things."""
    recipes = [Recipe.read(x.attrs) for x in (a, b)]
    terms = {key: (a.attrs.get(key), b.attrs.get(key)) for key in ("units", "weighting", "by")}
    terms |= {key: (getattr(recipes[0], key), getattr(recipes[1], key)) for key in Recipe.SHARED}
    for key, (mine, theirs) in terms.items():
        if mine != theirs:
            raise ConfigError(
                f"states with different {key} do not add: {mine!r} and {theirs!r}. Accumulate "
                "both alike."
            )
    _same_cells(*(recipe.prints for recipe in recipes), with_cells="cells.n.count" in a)
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


def _same_cells(mine: Mapping[str, str], theirs: Mapping[str, str], *, with_cells: bool) -> None:
    """Refuse other cells, weights or masks under the same name."""
    differing = [name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name]]
    if differing or ("" in mine) != ("" in theirs):
        raise ConfigError(
            f"states of other cells, weights or regions do not add; they differ in "
            f"{sorted(filter(None, differing)) or 'what the cells weigh'}. Accumulate both on the "
            "whole grid with the same weights and regions."
        )
    if with_cells and mine.keys() != theirs.keys():
        raise ConfigError(
            f"states of scores of cells with other regions, {sorted(mine)} and {sorted(theirs)}, "
            "do not add: each keeps its cells once. Accumulate both for the same regions."
        )


def _no_case_twice(a: xr.Dataset, b: xr.Dataset) -> None:
    """Refuse a start and lead that both have seen in the same region."""
    mine, theirs = xr.align(
        *(x["n.count"].drop_vars("valid_time", errors="ignore") for x in (a, b)), join="inner"
    )
    if mine.chunks is None and theirs.chunks is None:
        twice = int(((mine > 0) & (theirs > 0)).sum())
        what = "have pairs in both states and would count twice"
    else:  # what a lazy state has seen is not known yet
        twice, what = mine.size, "are in both lazy states and may count twice"
    if twice:
        init = str(mine.dims[0])
        some = mine[init].values[:3].astype(str).tolist() if init in mine.coords else []
        raise ConfigError(
            f"{twice} cases (start, lead, region) {what}, of the starts {some} ... Add states of "
            "other starts, leads or regions; compute() lazy ones to know which cases have pairs."
        )


def _recipe_of_both(a: xr.Dataset, b: xr.Dataset) -> dict[str, str]:
    mine, theirs = (Recipe.read(x.attrs) for x in (a, b))
    if not mine.prints:
        return {}
    regions = mine.regions
    if mine.prints.keys() != theirs.prints.keys():
        regions = f"{mine.regions}, {theirs.regions}"
    prints = {**mine.prints, **theirs.prints}
    return replace(mine, prints=prints, regions=regions).attrs()


def _with_leads(parts: xr.Dataset, units: str) -> xr.Dataset:
    """Return the leads as numbers, where reading a file has made time spans of them."""
    lead = str(parts["n.count"].dims[1])
    if lead not in parts.coords or parts[lead].dtype.kind != "m" or units not in _SPANS:
        return parts
    exact = parts[lead].values / np.timedelta64(1, _SPANS[units])
    whole = np.rint(exact).astype(np.int64)
    numbers = whole if (whole == exact).all() else exact
    return parts.assign_coords({lead: (lead, numbers, {**parts[lead].attrs, "units": units})})


_SPANS: Mapping[str, Literal["W", "D", "h", "m", "s"]] = {
    "weeks": "W",
    "days": "D",
    "hours": "h",
    "minutes": "m",
    "seconds": "s",
}
