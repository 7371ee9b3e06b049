"""Verification of a set of forecasts: all scores in one pass, whatever the chunks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import xarray as xr

from ..cf.packing import decoded
from ..errors import ConfigError
from ..units import compatible, is_difference
from .areas import Areas, areas_of, box_weights
from .groups import Groups, groups_of
from .intervals import differences, intervals
from .leakage import guard
from .matched import Matched, matched, only_variable, with_starts
from .observe import Work
from .plan import lazy_parts
from .resolve import of_cells, rows_of
from .results import finish
from .score import Score
from .sorting import Engine, compiled
from .state import State, part_name, statistics_by_area
from .thresholds import read_thresholds

__all__ = ["accumulate", "verify"]

Scores = str | Score | Sequence[str | Score]
Fields = xr.DataArray | xr.Dataset


class Options(TypedDict, total=False):
    """How the scores are worked out."""

    engine: Engine


class Comparison(Options, total=False):
    """What :func:`verify` can say beyond the scores themselves."""

    confidence: float
    reference: Fields | Mapping[str, Fields]


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
        Names of :data:`~xearth.verification.scores.SCORES` ("rmse", "crps_fair", "acc" ...), of
        scores of events with ``thresholds`` ("csi", "brier", "reliability" ...), of ranks
        ("rank_histogram" ...), any of them behind a Nino box ("nino34_correlation"), or rows
        (:class:`~xearth.verification.score.Score`). A score of single forecasts is that of the
        ensemble mean.
    by : str or sequence of str
        What is kept: "init", "lead", "region", "month", "season" or "year" (of the start),
        "valid_month" ... (of the valid time), dimensions of the grid. Everything else is
        averaged over; ``()`` gives one number.
    weights : "area", DataArray or None
        Of the cells; None for equal weights.
    regions : Box, mask, or mapping of names to such, optional
        A mapping gives a dimension ``region``. A DataArray is the part of each cell that
        belongs to the region.
    climatology : DataArray, optional
        As :func:`xearth.climatology` gives it, for scores of anomalies of absolute values.
    thresholds : str, quantity, or sequence of such, optional
        Of events, with units: ``["1 mm/h", "5 mm/h"]``.
    confidence : float, optional
        For the interval of every score from a block bootstrap over the starts
        (:func:`~xearth.verification.intervals.intervals`): ``..._lower`` and ``..._upper``. What
        is lazy is computed then.
    reference : DataArray, Dataset or mapping of names to such, optional
        Other forecasts of the same starts, scored alike on the same pairs: ``..._difference``
        (forecast less reference, along a dimension ``reference``), its interval, p-value and
        verdict (:func:`~xearth.verification.intervals.differences`).
    engine : {"numpy", "numba"}, optional
        "numba" works the parts of ensembles out several times faster, to the same numbers; it
        needs the extra ``fast``.

    Returns
    -------
    Dataset
        One variable for each score, and ``n``, the number of pairs behind it. A point counts
        where the truth and at least one member are known; members that are missing are left
        out point by point. NaN, with ``n = 0``, where no point counts. Lazy if the forecast or
        the truth is.

    Raises
    ------
    UnitsError
        Units do not convert, one is an anomaly and the other is not, or thresholds without.
    GridMismatchError
        Labels or shapes of the grids differ.
    TimeAxisError
        The times of the truth repeat, or their step or calendar is not that of the forecast.
    MissingDataError
        The truth holds none of the valid times.
    ConfigError
        Unknown scores or groups, or fewer members than a score is defined for.

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
    _check_names("verify", comparison, ("confidence", "reference", "engine"))
    options: dict[str, Any] = {
        "by": by,
        "weights": weights,
        "regions": regions,
        "climatology": climatology,
        "thresholds": thresholds,
        "engine": comparison.get("engine", "numpy"),
    }
    state = accumulate(forecast, truth, scores, **options)
    confidence, reference = comparison.get("confidence"), comparison.get("reference")
    if confidence is None and reference is None:
        return finish(state)
    state = state.compute()
    found = finish(state) if confidence is None else intervals(state, confidence=confidence)
    if reference is None:
        return found
    others: Mapping[str, Any] = {"reference": reference}
    if isinstance(reference, Mapping) and not isinstance(reference, xr.Dataset):
        others = reference
    against = [
        differences(
            state, accumulate(other, truth, scores, **options), confidence=confidence or 0.95
        )
        for other in others.values()
    ]
    labels = xr.Variable("reference", list(others), {"long_name": "what is compared with"})
    return found.merge(_along(against, labels, [score.name for score in state.scores]))


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
        Lazy if the forecast or the truth is. ``a + b`` is the state of both.

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
    _check_names("accumulate", options, ("engine",))
    engine = options.get("engine", "numpy")
    compiled(engine)
    forecast, _ = with_starts(decoded(only_variable(forecast, "forecast")))
    truth = decoded(only_variable(truth, "truth"))
    names = [by] if isinstance(by, str) else list(by)
    limits = None if thresholds is None else read_thresholds(thresholds, forecast)
    pairs = matched(forecast, truth, climatology)
    members = pairs.forecast.shape[2] if pairs.is_ensemble else 0
    rows = rows_of(scores, limits, members=members)
    if "valid_time" in pairs.coords:
        guard(forecast, truth, climatology=climatology)
    _check(pairs, rows, climatology)
    grid = [name for name in names if name in pairs.names[2:]]
    if len(grid) == 2:
        rows = of_cells(rows)
        if regions is not None:
            raise ConfigError(
                f"by={names} keeps every cell, of which regions have many. Leave one out."
            )
    areas = areas_of(pairs.grid, weights, regions, grid[0] if len(grid) == 1 else None)
    if "region" in names and "region" not in areas.coords:
        raise ConfigError("by='region' needs regions={name: Box or mask}; found none with names.")
    cases = [name for name in names if name not in (*grid, "region")]
    groups = groups_of(cases, pairs.coords, pairs.names[:2])
    lazy_state = State(rows, _parts(pairs, rows, areas, groups, (names, engine)))
    lazy = any(v.chunks is not None for v in (pairs.forecast, pairs.truth))
    return lazy_state if lazy else lazy_state.compute()


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
