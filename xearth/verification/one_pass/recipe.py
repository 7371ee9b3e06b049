"""How a state was accumulated, as text that goes with it into files.

A state adds to another one only if both were accumulated alike, and a file of it alone has to
give the scores back. So it carries its recipe: names of the scores and their parameters, units of
the leads, what the climatology and the regions were, and a hash of what the cells of each region
weigh, with their labels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from ...errors import ConfigError
from ...fields.regions import Box
from ..meaning import base_of
from ..score import Score
from ..scores.parameters import Parameters
from ..thresholds import Op, Thresholds
from .areas import Areas
from .resolve import of_cells, rows_of

__all__ = ["Recipe", "of_climatology", "of_regions", "of_weights", "prints_of"]

_KEY = "recipe"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What was accumulated and how, as far as attributes do not say it.

    Parameters
    ----------
    scores : sequence of str or None
        Names, None for a row that was given as such.
    thresholds : sequence of float, optional
        In the units of the forecast.
    op : {">=", ">"}
    levels : sequence of float
        Of central intervals.
    base_rates : sequence of float, optional
        Probability of the event at each threshold, of skill scores.
    members : int
    weighting, climatology, regions : str
        In words, given weights and masks with a hash.
    lead_units : str
    prints : mapping of str to str
        Of each region, a hash of what its cells weigh; "" is the name of a single one.

    Examples
    --------
    >>> one = Recipe(scores=("csi",), thresholds=(1.0, 5.0))
    >>> Recipe.read(one.attrs()) == one
    True
    """

    scores: Sequence[str | None] = ()
    thresholds: Sequence[float] | None = None
    op: Op = ">="
    levels: Sequence[float] = (0.5,)
    base_rates: Sequence[float] | None = None
    members: int = 0
    weighting: str = "none"
    climatology: str = "none"
    regions: str = "none"
    lead_units: str = ""
    prints: Mapping[str, str] = field(default_factory=dict)

    #: What two states must have in common to be added.
    SHARED = ("lead_units", "thresholds", "op", "levels", "base_rates", "climatology")

    def attrs(self) -> dict[str, str]:
        """Return the recipe as an attribute."""
        return {_KEY: json.dumps(asdict(self))}

    @classmethod
    def read(cls, attrs: Mapping[str, Any]) -> Recipe:
        """Read the recipe from attributes; an empty one where there is none."""
        stored: dict[str, Any] = json.loads(attrs.get(_KEY, "{}"))
        found: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        return cls(**found)

    def rows(
        self, scores: Sequence[str | Score] | None, attrs: Mapping[str, Any]
    ) -> tuple[Score, ...]:
        """Return the rows of all or some of the scores.

        Raises
        ------
        ConfigError
            No names, because rows of one's own were given.
        """
        if scores is None:
            if not self.scores or None in self.scores:
                raise ConfigError(
                    "the state does not name all of its scores, since rows of one's own were "
                    "accumulated. Give them: State.from_dataset(parts, scores=[...])."
                )
            scores = [str(name) for name in self.scores]
        limits = None
        if self.thresholds is not None:
            limits = Thresholds(tuple(self.thresholds), attrs.get("units"))
        given = Parameters(
            thresholds=limits,
            op=self.op,
            members=self.members,
            levels=self.levels,
            reference=self.base_rates,
        )
        rows = rows_of(scores, given)
        kept = {*str(attrs["by"]).split()} & {*str(attrs["grid"]).split()}
        return of_cells(rows) if len(kept) == 2 else rows

    def knobs(self, by: Sequence[str], attrs: Mapping[str, Any]) -> dict[str, str]:
        """Return what results have to share so that their numbers compare."""
        units = str(attrs.get("units", ""))
        limits = [f"{value:.9g} {units}".strip() for value in self.thresholds or ()]
        return {
            "by": ", ".join(by) or "none",
            "weighting": self.weighting,
            "regions": self.regions,
            "thresholds": ", ".join(limits) or "none",
            "op": self.op,
            "levels": ", ".join(f"{level:.9g}" for level in self.levels),
            "base_rates": ", ".join(f"{rate:.9g}" for rate in self.base_rates or ()) or "none",
            "climatology": self.climatology,
        }


def of_climatology(climatology: xr.DataArray | None, truth: xr.DataArray) -> str:
    """Return the climatology, or the base of anomalies, in words.

    Examples
    --------
    >>> clim = xr.DataArray(0.0, attrs={"base_period": "1981/2010"})
    >>> of_climatology(clim, clim), of_climatology(None, clim)
    ('1981/2010', 'anomalies from 1981/2010')
    """
    if climatology is not None:
        return base_of(climatology) or "given, of a base it does not name"
    base = base_of(truth)
    return "none" if base is None else f"anomalies from {base}"


def of_weights(weights: Any, areas: Areas) -> str:
    """Return weights in words, given ones with a short hash."""
    given = isinstance(weights, xr.DataArray)
    return f"{areas.long_name} {_hash(areas.cells)}" if given else areas.long_name


def of_regions(regions: Any) -> str:
    """Return regions in words: edges of boxes, and for masks a short hash.

    Examples
    --------
    >>> of_regions(None)
    'none'
    """
    if regions is None:
        return "none"
    if isinstance(regions, Mapping):
        return ", ".join(f"{name} {of_regions(region)}" for name, region in regions.items())
    if isinstance(regions, Box):
        edges = (regions.south, regions.north, regions.west, regions.east)
        return "box " + " ".join(f"{edge:g}" for edge in edges)
    return f"mask {_hash(np.asarray(regions.values, dtype=np.float64))}"


def prints_of(areas: Areas, grid: xr.DataArray) -> dict[str, str]:
    """Return a hash of what the cells weigh, with their labels, for each region.

    Rows of a line of the grid, such as every latitude, are hashed together.
    """
    labels = [np.asarray(grid[name].values) for name in grid.dims if name in grid.coords]
    if "region" not in areas.coords:
        return {"": _hash(areas.weights, *labels)}
    names = areas.coords["region"].values
    return {str(k): _hash(row, *labels) for k, row in zip(names, areas.weights, strict=True)}


def _hash(*arrays: np.ndarray) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape} {array.dtype.str}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
