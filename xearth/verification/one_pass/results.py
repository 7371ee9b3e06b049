"""From a state to a labeled Dataset of scores."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from ...cf.attrs import score_attrs
from ...errors import ConfigError
from ..block import Array
from ..protocols.event_protocols import protocol_attrs
from ..score import Score
from ..statistics import Count
from .finish import finish_cases, finish_cells, sample_of
from .groups import Groups, groups_of
from .recipe import Recipe
from .state import State, part_name, statistics_by_area

__all__ = ["N_ATTRS", "finish"]

N_ATTRS = {
    "long_name": "number of pairs of forecast and truth",
    "units": "1",
    "comment": "Points with a truth and at least one known member.",
}


#: What scores of counts say of themselves.
COUNTS = (
    "From counts of cells, unweighted whatever their area; a cell counts for a region that any "
    "part of it belongs to."
)


def finish(state: State, *, by: str | Sequence[str] | None = None) -> xr.Dataset:
    """Return the scores of a state.

    Parameters
    ----------
    state : State
        Of :func:`~xearth.verification.accumulate`, or a sum of such.
    by : str or sequence of str, optional
        As of :func:`~xearth.verification.verify`; by default as the state was accumulated
        for. Scores of cells can be given only that way.

    Returns
    -------
    Dataset
        One variable for each score, ``n`` and ``..._n``; lazy if the state is.

    Raises
    ------
    ConfigError
        The state does not hold what is asked for.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xearth.verification.one_pass.verify import accumulate
    >>> lead = xr.Variable("lead", [1, 2], {"units": "months"})
    >>> init = xr.date_range("2000-01", periods=3, freq="MS")
    >>> f = xr.DataArray(np.ones((3, 2)), {"init": init, "lead": lead}, ("init", "lead"))
    >>> time = xr.date_range("2000-01", periods=6, freq="MS")
    >>> o = xr.DataArray(np.arange(6.0), {"time": time}, ("time",))
    >>> first, rest = (accumulate(f.isel(init=i), o, ["bias"]) for i in ([0], [1, 2]))
    >>> finish(first + rest).bias.values.tolist()
    [-1.0, -2.0]
    """
    parts = state.parts
    given = parts.attrs["by"].split()
    chosen = given if by is None else [by] if isinstance(by, str) else list(by)
    names = (str(parts["n.count"].dims[0]), str(parts["n.count"].dims[1]))
    grid = [name for name in parts.attrs["grid"].split() if name in given]
    if any(s.over == "cell" for s in state.scores) and chosen != given:
        raise ConfigError(
            f"scores of cells were accumulated by {given}; found by={chosen}. Accumulate them by "
            "what is wanted."
        )
    region = str(parts["n.count"].dims[2])
    own = [name for name in chosen if name not in (*grid, "region", region)]
    coords = {str(k): v.variable for k, v in parts.coords.items()}
    groups = groups_of(own, coords, names)
    found = _of_cases(state, groups, names)
    if any(s.over == "cell" for s in state.scores):
        found.update(_of_cells(state, groups, averaged=len(grid) < 2))
    order = [*(s.name for s in state.scores), "n", *_samples(state.scores, averaged=len(grid) < 2)]
    scores = xr.Dataset({name: found[name] for name in order})
    scores = scores.assign_coords(groups.coords)
    scores = scores.transpose(
        *[d for d in map(str, _order(chosen, names, region)) if d in scores.dims], ...
    )
    _describe(scores, state, names, chosen)
    return scores


def _samples(scores: Sequence[Score], *, averaged: bool = True) -> dict[str, Score]:
    """Return the names of the numbers of pairs that are not those of all, and their scores."""
    found = {}
    for score in scores:
        counted = sample_of(score) is not None and not (score.over == "cell" and averaged)
        if counted or score.over == "index":
            found[f"{score.name}_n"] = score
    return found


def _outputs(scores: Sequence[Score]) -> list[tuple[str, Mapping[str, Any], bool, Any]]:
    """Return what finishing cases gives: name, own coordinates, if of a box, and type."""
    found: list[tuple[str, Mapping[str, Any], bool, Any]] = [
        (score.name, score.coords, score.over == "index", np.float64) for score in scores
    ]
    found.append(("n", {}, False, np.int64))
    samples = _samples(scores).items()
    return [*found, *((name, {}, score.over == "index", np.int64) for name, score in samples)]


def _order(by: Sequence[str], names: tuple[str, str], region: str) -> list[str]:
    own = {"init": names[0], "lead": names[1], "region": region}
    return [own.get(name, name) for name in by]


def _of_cases(state: State, groups: Groups, names: tuple[str, str]) -> dict[str, xr.DataArray]:
    """Return the scores that states of cases make."""
    parts = state.parts
    scores = [s for s in state.scores if s.over != "cell"]
    arrays = {
        (area, s.name): {part: parts[part_name(area, s.name, part)].data for part in s.parts}
        for area, statistics in statistics_by_area(state.scores).items()
        if area != "cells"
        for s in statistics
    }
    rows = str(parts["n.count"].dims[2])
    values = _computed(scores, arrays, groups, parts.sizes[rows])
    found = {}
    for name, own, of_box, _ in _outputs(scores):
        rows_dim = "box" if of_box else rows
        array = xr.DataArray(values[name], dims=[*groups.coords, rows_dim, *own])
        array = array.assign_coords({k: _label(k, v) for k, v in own.items()})
        if rows_dim in parts.coords:
            array = array.assign_coords({rows_dim: parts[rows_dim].variable})
        else:
            array = array.isel({rows_dim: 0})
        found[name] = array
    return found


def _computed(
    scores: Sequence[Score],
    arrays: Mapping[tuple[str, str], Mapping[str, Any]],
    groups: Groups,
    rows: int,
) -> dict[str, Any]:
    """Finish the scores, in one task where the state is lazy."""
    arrays = {
        key: {k: v.rechunk(-1) if isinstance(v, da.Array) else v for k, v in parts.items()}
        for key, parts in arrays.items()
    }
    lazy: list[Any] = [
        a for parts in arrays.values() for a in parts.values() if isinstance(a, da.Array)
    ]
    if not lazy:
        states = {
            key: {k: np.asarray(v) for k, v in parts.items()} for key, parts in arrays.items()
        }
        return _grouped(scores, states, groups)
    token = f"scores-{tokenize([a.name for a in lazy], groups.codes, [s.name for s in scores])}"
    flat = {key: {k: _key(v) for k, v in parts.items()} for key, parts in arrays.items()}
    places = [(key, name) for key, parts in flat.items() for name in parts]
    values = [flat[key][name] for key, name in places]
    layer: dict[Any, Any] = {(token, "all"): (_Finish(tuple(scores), places, groups), values)}
    base = HighLevelGraph.from_collections(token, layer, dependencies=lazy)
    found: dict[str, Any] = {}
    for name, own, of_box, kind in _outputs(scores):
        shape = (*groups.shape, 1 if of_box else rows, *_sizes(own))
        key = f"{token}-{name}"
        graph = HighLevelGraph(
            {**base.layers, key: {(key, *(0,) * len(shape)): (dict.get, (token, "all"), name)}},
            {**base.dependencies, key: {token}},
        )
        found[name] = da.Array(graph, key, tuple((n,) for n in shape), dtype=kind)
    return found


class _Finish:
    """The last task; carries what is not lazy, so that no name is taken for a key."""

    def __init__(
        self, scores: tuple[Score, ...], places: list[tuple[tuple[str, str], str]], groups: Groups
    ) -> None:
        self.scores, self.places, self.groups = scores, places, groups

    def __call__(self, values: list[Array]) -> dict[str, Array]:
        states: dict[tuple[str, str], dict[str, Array]] = {}
        for (key, name), value in zip(self.places, values, strict=True):
            states.setdefault(key, {})[name] = value
        return _grouped(self.scores, states, self.groups)


def _key(array: Any) -> Any:
    """Return the key of the only block of a lazy array, else the array."""
    return (array.name, *(0,) * array.ndim) if isinstance(array, da.Array) else array


def _grouped(
    scores: Sequence[Score], states: Mapping[tuple[str, str], Any], groups: Groups
) -> dict[str, Array]:
    found = finish_cases(scores, states, groups.codes, groups.size)
    shaped = {}
    for name, _, of_box, _ in _outputs(scores):
        values = found[name]
        rows = (1, *values.shape[1:]) if of_box else values.shape[1:]
        shaped[name] = values.reshape(*groups.shape, *rows)
    return shaped


def _of_cells(state: State, groups: Groups, *, averaged: bool) -> dict[str, xr.DataArray]:
    """Return the scores that states of cells make, averaged over the regions or not."""
    parts = state.parts
    found = {}
    for score in (s for s in state.scores if s.over == "cell"):
        names = [part_name("cells", s.name, k) for s in score.statistics for k in s.parts]
        inputs = [parts[name] for name in names]
        plain = parts["cells.n.count"].dims
        value = xr.apply_ufunc(
            finish_cells,
            *inputs,
            input_core_dims=[[d for d in array.dims if d not in plain] for array in inputs],
            output_core_dims=[list(score.coords)],
            kwargs={"score": score},
            dask="parallelized",
            output_dtypes=[np.float64],
            dask_gufunc_kwargs={
                "output_sizes": dict(zip(score.coords, _sizes(score.coords), strict=True))
            },
        )
        value = value.assign_coords({k: _label(k, v) for k, v in score.coords.items()})
        found[score.name] = _area_mean(value, parts) if averaged else value
        sample = sample_of(score)
        if sample is not None and not averaged:
            found[f"{score.name}_n"] = parts[part_name("cells", sample.name, "count")]
    if not averaged:
        found["n"] = parts["cells.n.count"]
    return found


def _area_mean(value: xr.DataArray, parts: xr.Dataset) -> xr.DataArray:
    """Average over the cells that have a score, for each region."""
    weights, region = parts["weights"], str(parts["n.count"].dims[2])
    space = list(weights.dims[-2:])
    weights = weights.drop_vars(space, errors="ignore")
    bare = value.drop_vars(space, errors="ignore")
    total = xr.dot(bare.notnull().astype(np.float64), weights, dim=space)
    mean = xr.dot(bare.fillna(0.0), weights, dim=space) / total.where(total > 0)
    if region not in parts.coords:
        return mean.isel(row=0)
    return mean.rename(row=region).assign_coords({region: parts[region].variable})


def _label(name: str, values: Any) -> xr.Variable:
    return values if isinstance(values, xr.Variable) else xr.Variable((name,), np.asarray(values))


def _sizes(coords: Mapping[str, Any]) -> list[int]:
    return [len(_label(name, values)) for name, values in coords.items()]


def _describe(scores: xr.Dataset, state: State, names: tuple[str, str], by: Sequence[str]) -> None:
    """Give every score its units and what it is, and the whole what was compared."""
    attrs = state.parts.attrs
    reduced = [name for name in names if name not in scores.dims]
    averaged = [name for name in attrs["grid"].split() if name not in scores.dims]
    methods = " ".join(f"{name}:" for name in [*reduced, *(["area"] if averaged else [])])
    for score in state.scores:
        facts, units = score.facts, attrs.get("units")
        if units is None and facts.unit_power:
            found: dict[str, Any] = {"long_name": facts.long_name}
        else:
            found = score_attrs(facts.long_name, units=units, unit_power=facts.unit_power)
        counts = all(isinstance(s, Count) for s in score.statistics)
        if methods:
            how = (
                "sum (counts of cells, unweighted)"
                if counts
                else "mean (of what the score adds up)"
            )
            found["cell_methods"] = f"{methods} {how}"
        if counts:
            found["comment"] = COUNTS
        if facts.reference:
            found["references"] = facts.reference
        own = f"{score.name}_n"
        found["ancillary_variables"] = own if own in scores else "n"
        scores[score.name].attrs = found
    scores["n"].attrs = dict(N_ATTRS)
    for name, score in _samples(state.scores).items():
        if name in scores:
            what = "starts and leads with an index" if score.over == "index" else "pairs"
            label = f"number of {what} behind the {score.facts.long_name}"
            scores[name].attrs = {"long_name": label, "units": "1"}
    package = __name__.partition(".")[0]
    source = f"{package} {sys.modules[package].__version__}"
    knobs = Recipe.read(attrs).knobs(by, attrs)
    scores.attrs = {
        "weighting": attrs["weighting"],
        "source": source,
        **protocol_attrs(f"{package}.verify", source, knobs),
    }
