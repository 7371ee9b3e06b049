"""Verification of a set of forecasts: all scores in one pass, whatever the chunks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import dask
import xarray as xr

from ...errors import ConfigError, TimeAxisError, WarnOnce
from ...units import compatible, is_difference
from ..align import check_counting
from ..kernels.sorting import Engine, compiled
from ..leaks.leakage import guard
from ..score import Score
from ..scores.parameters import Parameters
from ..statistics import Count
from ..thresholds import Op, read_thresholds
from .areas import Areas, areas_of, box_weights
from .common import field_of, least_members, on_common_points
from .groups import Groups, groups_of
from .intervals import differences, intervals
from .matched import Matched, matched, with_starts
from .observe import Work
from .plan import lazy_parts
from .recipe import Recipe, of_climatology, of_regions, of_weights, prints_of
from .resolve import of_cells, rows_of
from .results import finish
from .state import State, part_name, statistics_by_area

__all__ = ["accumulate", "verify"]

#: How messages call the forecast beside its references.
_FORECAST = "the forecast"

Scores = str | Score | Sequence[str | Score]
Fields = xr.DataArray | xr.Dataset


class Options(TypedDict, total=False):
    """What scores are made of besides thresholds, and what works them out."""

    op: Op
    levels: float | Sequence[float]
    base_rates: float | Sequence[float]
    engine: Engine


class Comparison(Options, total=False):
    """What :func:`verify` can say beyond the scores themselves."""

    confidence: float
    reference: Fields | Mapping[str, Fields]


_OPTIONS = tuple(Options.__annotations__)
_COMPARISON = ("confidence", "reference")


def verify(
    forecast: xr.DataArray | xr.Dataset,
    truth: xr.DataArray | xr.Dataset,
    scores: Scores = ("rmse",),
    *,
    by: str | Sequence[str] = "lead",
    weights: Any = "area",
    regions: Any = None,
    climatology: xr.DataArray | None = None,
    thresholds: Any = None,
    **comparison: Unpack[Comparison],
) -> xr.Dataset:
    """Return scores of forecasts against the truth at their valid times.

    The archive is read once, chunked as it is, however many scores are asked for; memory holds a
    few chunks and what the scores add up.

    Parameters
    ----------
    forecast : DataArray or Dataset
        (init, lead[, member][, y, x]) in any order. Dask arrays stay lazy.
    truth : DataArray or Dataset
        (time[, y, x]), matched by valid time; or (init, lead[, y, x]). Converted to the units
        of the forecast.
    scores : str or sequence
        Names of :data:`~xearth.verification.SCORES` ("rmse", "crps_fair", "acc" ...), of
        scores of events with ``thresholds`` ("csi", "brier", "reliability" ...), of ranks
        ("rank_histogram" ...), any of them behind a Nino box ("nino34_correlation"), or rows
        (:class:`~xearth.verification.Score`). A score of single forecasts is that of the
        ensemble mean.
    by : str or sequence of str
        What is kept: "init", "lead", "region", "month", "season" or "year" (of the start),
        "valid_month" ... (of the valid time), dimensions of the grid. Everything else is
        averaged over; ``()`` gives one number.
    weights : "area", DataArray or None
        Of the cells; None for equal weights. Scores of counts take only masks, of 0 and 1.
    regions : Box, mask, or mapping of names to such, optional
        A mapping gives a dimension ``region``. A DataArray is the part of each cell that
        belongs to the region; scores of counts and ``n`` count a cell of which any part does.
    climatology : DataArray, optional
        As :func:`xearth.climatology` gives it, for scores of anomalies of absolute values.
    thresholds : str, quantity, or sequence of such, optional
        Of events, with units: ``["1 mm/h", "5 mm/h"]``.
    op : {">=", ">"}
        An event is a value at or above its threshold (default), or above it.
    levels : float or sequence of float
        Probabilities of the central intervals of "interval_coverage" and "interval_width"; by
        default 0.5.
    base_rates : float or sequence of float
        Of "brier_skill" and "rps_skill": probability of the event at each threshold, in ascending
        order, from years that are not judged.
    confidence : float, optional
        For the interval of every score from a block bootstrap over the starts
        (:func:`~xearth.verification.intervals`): ``..._lower`` and ``..._upper``. What
        is lazy is computed then.
    reference : DataArray, Dataset or mapping of names to such, optional
        Other forecasts, converted to the units of the forecast: ``..._difference`` (forecast less
        reference, along a dimension ``reference``), its interval, p-value and verdict
        (:func:`~xearth.verification.differences`). All scores, those of the forecast
        itself too, are then of the starts and points that all forecasts have, with as many
        members as the scores need; the attributes ``starts_left_out``, ``cases_left_out`` and
        ``points_left_out`` count the others.
    engine : {"numpy", "numba"}, optional
        "numba" works the parts of ensembles out several times faster, to the same numbers; it
        needs the extra ``fast``.

    Returns
    -------
    Dataset
        One variable for each score, and ``n``, the number of pairs: of points at which the truth
        and at least one member are known; members that are missing are left out point by point.
        A score that not all of these count for has a number of its own: ``crps_fair_n`` of the
        pairs with two members or more, ``rank_histogram_n`` of those with all members,
        ``nino34_rmse_n`` of the starts with an index. NaN, with ``n = 0``, where no point counts.
        Scores of counts ("csi", "pod" ...) count cells, unweighted whatever their area. Lazy if
        the forecast or the truth is.

    Raises
    ------
    UnitsError
        Units do not convert, one is an anomaly and the other is not, or thresholds without.
    GridMismatchError
        Labels or shapes of the grids differ.
    LeadError
        Leads that count the period at the start as 1: see :func:`xearth.as_hindcast`.
    TimeAxisError
        Starts, leads or times of the truth repeat, or their step or calendar is not that of the
        forecast.
    MissingDataError
        The truth holds none of the valid times, or forecast and reference share fewer than 5
        starts.
    ConfigError
        Unknown scores, groups that are unknown or repeated, no reference in a mapping, or fewer
        members than a score is defined for.

    Warns
    -----
    LeakageWarning
        What the attributes of forecast, truth and climatology say they have seen is judged here.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.fields.climatology import anomaly
    >>> from xearth.reference.persistence import Persistence
    >>> sst = anomaly(samples.open("oisst").load(), base=("1982", "1991"))
    >>> persistence = Persistence.fit(sst.sel(time=slice(None, "1991")), horizon=3)
    >>> fc = persistence.forecast(sst, init=slice("1992", "1995"))
    >>> skill = verify(fc, sst, ["rmse", "nino34_correlation"])
    >>> skill.rmse.values.round(2).tolist()
    [0.36, 0.49, 0.58]
    >>> skill.rmse.attrs["units"], skill.nino34_correlation.dims
    ('degC', ('lead',))
    """
    _check_names("verify", comparison, (*_COMPARISON, *_OPTIONS))
    options: dict[str, Any] = {
        "by": by,
        "weights": weights,
        "regions": regions,
        "climatology": climatology,
        "thresholds": thresholds,
        **{name: value for name, value in comparison.items() if name in _OPTIONS},
    }
    confidence, reference = comparison.get("confidence"), comparison.get("reference")
    with WarnOnce():
        if reference is not None:
            return _compared((forecast, truth), scores, _named(reference), confidence, options)
        state = accumulate(forecast, truth, scores, **options)
        return finish(state) if confidence is None else intervals(state, confidence=confidence)


def _named(reference: Any) -> Mapping[str, Any]:
    """Return references by name; a single one is called "reference"."""
    several = isinstance(reference, Mapping) and not isinstance(reference, xr.Dataset)
    return reference if several else {"reference": reference}


def _compared(
    fields: tuple[Fields, Fields],
    scores: Scores,
    references: Mapping[str, Any],
    confidence: float | None,
    options: dict[str, Any],
) -> xr.Dataset:
    """Return the scores of a forecast and how those of references differ, on common points."""
    if not references:
        raise ConfigError("reference={} names no forecast; expected one or more, or None.")
    forecast = field_of(fields[0], "forecast")
    parameters = _parameters(options["thresholds"], forecast, options)
    given = {_FORECAST: _with_least(forecast, scores, parameters)}
    for name, other in references.items():
        field = field_of(other, f"reference {name!r}")
        given[name] = _with_least(field, scores, parameters)
    common = on_common_points(given, field_of(fields[1], "truth"))
    states = [accumulate(each, common.truth, scores, **options) for each in common.forecasts]
    parts, left_out = dask.compute([state.parts for state in states], common.left_out)
    state, *rest = (State(each.scores, own) for each, own in zip(states, parts, strict=True))
    found = finish(state) if confidence is None else intervals(state, confidence=confidence)
    against = [differences(state, other, confidence=confidence or 0.95) for other in rest]
    labels = xr.Variable("reference", list(references), {"long_name": "what is compared with"})
    found = found.merge(
        _along(against, labels, [score.name for score in state.scores]), combine_attrs="override"
    )
    method = {k: v for k, v in against[0].attrs.items() if k not in left_out}
    left_out = {name: int(number) for name, number in left_out.items()}
    return found.assign_attrs({**method, **found.attrs, **left_out})


def _with_least(
    forecast: xr.DataArray, scores: Scores, parameters: Parameters
) -> tuple[xr.DataArray, int]:
    """Return a forecast, and how many of its members a point needs to count for all scores."""
    check_counting(forecast)  # a reference is given the names of the forecast, which tell nothing
    forecast, axes = with_starts(forecast)
    _check_cases(forecast, (str(axes.init), str(axes.lead)))
    size = 0 if axes.member is None else forecast.sizes[axes.member]
    return forecast, least_members(rows_of(scores, replace(parameters, members=size)), size)


def _along(found: list[xr.Dataset], labels: xr.Variable, scores: list[str]) -> xr.Dataset:
    """Put differences from several references side by side, under names of their own."""
    ends = ("", "_lower", "_upper", "_p_value", "_verdict")
    names = {f"{score}{end}": f"{score}_difference{end}" for score in scores for end in ends}
    return xr.concat(
        [each.rename(names) for each in found],
        labels,
        coords="minimal",
        compat="override",
        combine_attrs="override",
    )


def accumulate(
    forecast: xr.DataArray | xr.Dataset,
    truth: xr.DataArray | xr.Dataset,
    scores: Scores = ("rmse",),
    *,
    by: str | Sequence[str] = "lead",
    weights: Any = "area",
    regions: Any = None,
    climatology: xr.DataArray | None = None,
    thresholds: Any = None,
    **options: Unpack[Options],
) -> State:
    """Return what :func:`verify` finishes, to be written, or added to that of other starts.

    Parameters and errors as of :func:`verify`.

    Returns
    -------
    State
        Lazy if the forecast or the truth is. ``a + b`` is the state of both, which must be of
        other starts, leads or regions.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> lead = xr.Variable("lead", [1, 2], {"units": "months"})
    >>> init = xr.date_range("2000-01", periods=3, freq="MS")
    >>> f = xr.DataArray(np.ones((3, 2)), {"init": init, "lead": lead}, ("init", "lead"))
    >>> time = xr.date_range("2000-01", periods=6, freq="MS")
    >>> o = xr.DataArray(np.arange(6.0), {"time": time}, ("time",))
    >>> state = accumulate(f, o, ["bias"])
    >>> state.parts["error.sum"].sel(lead=1).values.ravel().tolist()
    [0.0, -1.0, -2.0]
    """
    _check_names("accumulate", options, _OPTIONS)
    engine = options.get("engine", "numpy")
    compiled(engine)
    names = [by] if isinstance(by, str) else list(by)
    with WarnOnce():
        forecast, axes = with_starts(field_of(forecast, "forecast"))
        _check_cases(forecast, (str(axes.init), str(axes.lead)))
        truth = field_of(truth, "truth")
        given = _parameters(thresholds, forecast, options)
        pairs = matched(forecast, truth, climatology)
        members = pairs.forecast.shape[2] if pairs.is_ensemble else 0
        rows = rows_of(scores, replace(given, members=members))
        if "valid_time" in pairs.coords:
            guard(forecast, truth, climatology=climatology)
    _check(pairs, rows, climatology)
    _check_counts(rows, weights)
    rows, areas, groups = _layout(pairs, rows, names, (weights, regions))
    asked = [scores] if isinstance(scores, str | Score) else list(scores)
    recipe = Recipe(
        scores=tuple(score if isinstance(score, str) else None for score in asked),
        thresholds=None if given.thresholds is None else given.thresholds.values,
        op=given.op,
        levels=given.levels,
        base_rates=given.reference,
        members=members,
        weighting=of_weights(weights, areas),
        climatology=of_climatology(climatology, truth),
        regions=of_regions(regions),
        lead_units=str(pairs.coords[pairs.names[1]].attrs.get("units", "")),
        prints=prints_of(areas, pairs.grid),
    )
    parts = _parts(pairs, rows, areas, groups, (names, engine))
    lazy_state = State(rows, parts.assign_attrs(recipe.attrs()))
    lazy = any(v.chunks is not None for v in (pairs.forecast, pairs.truth))
    return lazy_state if lazy else lazy_state.compute()


def _layout(
    pairs: Matched, rows: tuple[Score, ...], by: list[str], over: tuple[Any, Any]
) -> tuple[tuple[Score, ...], Areas, Groups]:
    """Return the scores as those of what is kept, the weights of the cells and the groups."""
    weights, regions = over
    init, lead, *space = pairs.names
    same = [{"init": init, "lead": lead}.get(name, name) for name in by]
    if len(set(same)) < len(same):
        raise ConfigError(f"by={by} names a dimension more than once; expected each once.")
    grid = [name for name in by if name in space]
    if len(grid) == 2:
        rows = of_cells(rows)
        if regions is not None:
            raise ConfigError(
                f"by={by} keeps every cell, of which regions have many. Leave one out."
            )
    areas = areas_of(pairs.grid, weights, regions, grid[0] if len(grid) == 1 else None)
    if "region" in by and "region" not in areas.coords:
        raise ConfigError("by='region' needs regions={name: Box or mask}; found none with names.")
    cases = [name for name in by if name not in (*grid, "region")]
    return rows, areas, groups_of(cases, pairs.coords, pairs.names[:2])


def _parameters(thresholds: Any, forecast: xr.DataArray, options: Mapping[str, Any]) -> Parameters:
    """Return what scores are made of, but for the number of members."""
    return Parameters(
        thresholds=None if thresholds is None else read_thresholds(thresholds, forecast),
        op=options.get("op", ">="),
        levels=options.get("levels", (0.5,)),
        reference=options.get("base_rates"),
    )


def _check_cases(forecast: xr.DataArray, names: tuple[str, str]) -> None:
    """Refuse starts or leads that repeat: they would count twice."""
    for name in names:
        index = forecast.indexes.get(name)
        if index is not None and not index.is_unique:
            again = index[index.duplicated()]
            raise TimeAxisError(
                f"{again.nunique()} labels of {name!r} of {forecast.name!r} appear more than once, "
                f"first {again[0]}; expected each once, or they count twice. Drop the repeats: "
                f"forecast.drop_duplicates({name!r})."
            )


def _check_names(what: str, given: Iterable[str], known: tuple[str, ...]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ConfigError(f"{what} has no argument {unknown}; besides its own it knows {known}.")


def _parts(
    pairs: Matched,
    rows: tuple[Score, ...],
    areas: Areas,
    groups: Groups,
    how: tuple[list[str], Engine],
) -> xr.Dataset:
    """Return the labeled parts of all statistics."""
    by, engine = how
    statistics = statistics_by_area(rows)
    cells = statistics.pop("cells", ())
    weights = {"": areas.weights}
    weights |= {s.box.name: box_weights(pairs.grid, s.box)[None] for s in rows if s.box}
    lazy = lazy_parts(pairs, Work(statistics, cells, engine), weights, groups)
    init, lead, y, x = pairs.names
    region = areas.dim or "region"
    leading = {area: [init, lead, "box" if area else region] for area in statistics}
    leading["cells"] = [*groups.coords, y, x]
    own = {(a, s.name): s.dims for a, some in [*statistics.items(), ("cells", cells)] for s in some}
    variables: dict[str, Any] = {}
    for (area, name, part), data in lazy.items():
        dims = [*leading[area], *own[area, name]]
        variables[part_name(area, name, part)] = (dims[: data.ndim], data)
    coords: dict[str, Any] = {**pairs.coords, **areas.coords}
    if cells:
        variables["weights"] = (("row", y, x), areas.weights)
        coords |= {str(k): v.variable for k, v in pairs.grid.coords.items() if v.dims}
        coords |= groups.coords
    for score in rows:
        coords |= {k: v for k, v in score.coords.items() if _is_part_dim(k, variables)}
    attrs = {"by": " ".join(by), "grid": f"{y} {x}", "weighting": areas.long_name}
    if "units" in pairs.attrs:
        attrs["units"] = pairs.attrs["units"]
    return xr.Dataset(variables, coords, attrs)


def _is_part_dim(name: str, variables: dict[str, Any]) -> bool:
    return any(name in dims for dims, _ in variables.values())


def _check(pairs: Matched, rows: tuple[Score, ...], climatology: xr.DataArray | None) -> None:
    """Refuse scores that the forecast cannot have."""
    members = pairs.forecast.shape[2]
    for score in rows:
        if score.facts.members > (members if pairs.is_ensemble else 1):
            raise ConfigError(
                f"score {score.name!r} needs {score.facts.members} members or more; the forecast "
                f"has {members if pairs.is_ensemble else 'no member dimension'}. Forecast with "
                "members=..., or use another score."
            )
    units = pairs.attrs.get("units")
    absolute = units is not None and compatible(units, "K") and not is_difference(pairs.attrs)
    of_anomalies = [score.name for score in rows if score.facts.climatology]
    if of_anomalies and absolute and climatology is None:
        raise ConfigError(
            f"{of_anomalies} are scores of anomalies, but {pairs.attrs['name']!r} is an absolute "
            "temperature. Give climatology=xearth.climatology(...), or anomalies."
        )


def _check_counts(rows: tuple[Score, ...], weights: Any) -> None:
    """Refuse weights that scores of counts would not look at."""
    counts = [row.name for row in rows if all(isinstance(s, Count) for s in row.statistics)]
    if counts and isinstance(weights, xr.DataArray) and not weights.isin([0, 1]).all():
        raise ConfigError(
            f"{counts} are made of counts of cells, which have no weights; expected a mask of 0 "
            f"and 1, found {float(weights.min()):g} to {float(weights.max()):g}. Leave them out, "
            "or verify them alone with weights=None."
        )
