r"""Intervals of the scores of a state, and whether two forecasts can be told apart by them.

What :func:`~xearth.verification.accumulate` has seen of each start is all that is needed:
no forecast is read again. The resampling is that of
:mod:`xearth.verification.significance.resampling`.

An interval of a single score :math:`s` between bounds :math:`l` and :math:`u` is made on the scale
on which it is symmetric, and so stays within them: that of
:math:`\operatorname{artanh}(2 (s - l) / (u - l) - 1)`, which is Fisher's for a correlation, or of
:math:`\log(s - l)` without an upper bound. A score at its bound has no place on that scale; its
interval is made as it is, and cut at the bounds.
Differences of two scores need none of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from ...errors import ConfigError, GridMismatchError, MissingDataError
from ..block import Array
from ..facts import ScoreFacts
from ..score import Score
from ..significance.bootstrap import verdicts
from ..significance.resampling import MINIMUM, STATISTICS, Bootstrap
from .finish import PAIRS, area_of, sample_of
from .groups import Groups, groups_of
from .index_scores import TRUTH
from .linear import Columns, by_group, columns_of
from .results import finish
from .state import State, part_name, statistics_by_area

__all__ = ["differences", "intervals", "scale_of"]

Scale = Callable[[Array], Array]


def intervals(
    state: State,
    *,
    by: str | Sequence[str] | None = None,
    n: int = 1000,
    block: int | Literal["auto"] = "auto",
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Return the scores of a state with their intervals.

    Parameters
    ----------
    state : State
        Of :func:`~xearth.verification.accumulate`; computed if it is lazy.
    by : str or sequence of str, optional
        As of :func:`~xearth.verification.finish`, without "init": the uncertainty is that
        of having seen these starts and not others.
    n, block, confidence, seed : optional
        As of :func:`~xearth.verification.bootstrap`.

    Returns
    -------
    Dataset
        As of :func:`~xearth.verification.finish`, and ``..._lower`` and ``..._upper`` of
        the interval of each score. NaN with fewer than 5 starts, or where the score does not
        exist in too many resamples.

    Raises
    ------
    ConfigError
        Scores of single cells, of which no state of starts exists, or ``by`` the start.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.persistence import Persistence
    >>> from xearth.verification.one_pass.verify import accumulate
    >>> nino34 = samples.open("oisst_nino34")
    >>> model = Persistence.fit(nino34.sel(time=slice(None, "1999")), horizon=2)
    >>> fc = model.forecast(nino34, init=slice("2000", "2009"))
    >>> skill = intervals(accumulate(fc, nino34, ["rmse"], weights=None), n=200)
    >>> bool((skill.rmse_lower < skill.rmse).all() and (skill.rmse < skill.rmse_upper).all())
    True
    """
    options = Bootstrap(n=n, block=block, confidence=confidence, seed=seed)
    state, by = state.compute(), _checked_by(state, by)
    table, cases = finish(state, by=by), _Cases.of(state, by)
    for score in state.scores:
        like = table[score.name]
        ends = _ends(options, score, cases)
        for end, of_points in zip(("lower", "upper"), ends, strict=True):
            values = cases.labeled(of_points, score, like)
            label = f"{like.attrs['long_name']}, {end} end of its interval"
            table[f"{score.name}_{end}"] = values.assign_attrs(like.attrs, long_name=label)
    table.attrs.update(options.attrs)
    return table


def differences(
    state: State,
    reference: State,
    *,
    by: str | Sequence[str] | None = None,
    n: int = 1000,
    block: int | Literal["auto"] = "auto",
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Return how the scores of a forecast differ from those of a reference, and whether for sure.

    Both are compared at the starts and leads at which both have the same number of pairs; others
    are left out and counted. Which cells these pairs are of a state does not know: accumulate
    both of the same points, as ``verify(..., reference=...)`` does.

    Parameters
    ----------
    state, reference : State
        Of :func:`~xearth.verification.accumulate` with the same scores, by and weights.
    by, n, block, confidence, seed : optional
        As of :func:`intervals`.

    Returns
    -------
    Dataset
        For each score the difference (forecast less reference), ``..._lower``, ``..._upper``,
        ``..._p_value`` and the text ``..._verdict``: "yes, better (p = 0.004, n = 264)", "yes,
        worse ...", "no ..." or "unknown ..."; of scores that can only be near to their perfect
        value, the difference is that of the distances from it. Intervals end where differences
        of the score do. The attribute ``cases_left_out`` counts what only one has; how many of
        the intervals are not studentized, for the spread vanishes in too many resamples, is the
        attribute ``expanded_percentile_intervals`` of the lower ends, if there are any.

    Raises
    ------
    ConfigError
        As :func:`intervals`, or states of different scores or units.
    GridMismatchError
        Leads or regions differ.
    MissingDataError
        Fewer than 5 starts are common.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.climatology import Climatology
    >>> from xearth.reference.persistence import Persistence
    >>> from xearth.verification.one_pass.verify import accumulate
    >>> nino34 = samples.open("oisst_nino34")
    >>> past, inits = nino34.sel(time=slice(None, "1999")), slice("2000", "2009")
    >>> persistence, climatology = (
    ...     accumulate(kind.fit(past, horizon=2).forecast(nino34, init=inits), nino34, ["rmse"],
    ...                weights=None)
    ...     for kind in (Persistence, Climatology)
    ... )
    >>> found = differences(persistence, climatology, n=200)
    >>> str(found.rmse_verdict.values[0])
    'yes, better (p = 0.010, n = 120)'
    """
    options = Bootstrap(n=n, block=block, confidence=confidence, seed=seed)
    by = _checked_by(state, by)
    _checked_by(reference, by)
    mine, theirs, left_out = _paired(state.compute(), reference.compute())
    counts = [each.parts["n.count"].values for each in (mine, theirs)]
    there = np.any(counts[0] > 0, axis=2) | np.any(counts[1] > 0, axis=2)
    same = there & np.all(counts[0] == counts[1], axis=2)
    cases = [_Cases.of(each, by, kept=same) for each in (mine, theirs)]
    labels = finish(mine, by=by)
    table = xr.Dataset(attrs={**options.attrs, "starts_left_out": left_out})
    table.attrs["cases_left_out"] = int((there & ~same).sum())
    for score in state.scores:
        found = _statistics(options, score, cases)
        table.update(_described(found, score, cases[0], labels[score.name], 1 - confidence))
        plain = int((found[..., _STUDENTIZED] == 0).sum())
        if plain:
            table[f"{score.name}_lower"].attrs["expanded_percentile_intervals"] = plain
    return table


def _described(
    found: Array, score: Score, cases: _Cases, like: xr.DataArray, level: float
) -> dict[str, xr.DataArray]:
    """Return a difference, its interval, p-value and verdict, labeled."""
    facts, name = score.facts, score.name
    like = like.assign_attrs()
    like.attrs.pop("ancillary_variables", None)
    table = {}
    farthest = facts.upper - facts.lower
    found[..., 1:3] = np.clip(found[..., 1:3], -farthest, farthest)
    for k, (suffix, words) in _COLUMNS.items():
        attrs = {**like.attrs, "long_name": f"difference of the {facts.long_name}{words}"}
        if k == _P:
            attrs = {"long_name": f"p-value of equal {facts.long_name}", "units": "1"}
        values = cases.labeled(found[..., k], score, like).drop_attrs()
        table[f"{name}{suffix}"] = values.assign_attrs(attrs)
    sign = _SIGNS.get(str(facts.better), np.nan)
    words_of = verdicts(sign * found[..., 0], found[..., _P], found[..., 5], level)
    label = f"whether the {facts.long_name} differs from that of the reference"
    verdict = cases.labeled(words_of, score, like).drop_attrs()
    table[f"{name}_verdict"] = verdict.assign_attrs(long_name=label)
    return table


_P, _STUDENTIZED = (STATISTICS.index(name) for name in ("p_value", "studentized"))
_COLUMNS = {
    0: ("", ""),
    1: ("_lower", ", lower end of its interval"),
    2: ("_upper", ", upper end of its interval"),
    _P: ("_p_value", ""),
}
# What makes a difference negative where the forecast is better.
_SIGNS = {"higher": -1.0, "lower": 1.0, "nearest": 1.0}


@dataclass(frozen=True, eq=False)
class _Cases:
    """The states of single cases, and the groups of cases whose scores are wanted.

    Attributes
    ----------
    arrays : mapping of (area, statistic) to parts (I, L, R, ...)
    groups : Groups
    codes : array of int (I, L)
        Group of each case, -1 for one that is left out.
    regions : str or None
        Name of the dimension of regions, if there is one.
    """

    arrays: Mapping[tuple[str, str], Mapping[str, Array]]
    groups: Groups
    codes: Array
    regions: str | None

    @classmethod
    def of(cls, state: State, by: Sequence[str], kept: Array | None = None) -> _Cases:
        """Read a state in memory; ``kept`` (I, L) are the cases to use."""
        parts = state.parts
        init, lead, rows = map(str, parts["n.count"].dims[:3])
        if kept is None and init in parts.indexes:
            parts = parts.sortby(init)  # blocks are of starts that follow each other in time
        arrays = {
            (area, s.name): {k: parts[part_name(area, s.name, k)].values for k in s.parts}
            for area, statistics in statistics_by_area(state.scores).items()
            for s in statistics
        }
        own = [name for name in by if name not in ("region", rows)]
        coords = {str(k): v.variable for k, v in parts.coords.items()}
        groups = groups_of(own, coords, (init, lead))
        codes = groups.codes if kept is None else np.where(kept, groups.codes, -1)
        return cls(arrays, groups, codes, rows if rows in parts.coords else None)

    def sums(self, columns: Columns) -> Array:
        """Return the sums of starts (G * R, I, K), NaN for a start without a pair."""
        score, values = columns.score, columns.values
        if score.over == "index":
            pairs = self.arrays[area_of(score), TRUTH.name]["weight"][:, :, :1]
        else:
            sample = sample_of(score) or PAIRS
            pairs = self.arrays["", sample.name]["count"].astype(np.float64)
        there = by_group(pairs, self.codes, self.groups.size) > 0
        known = np.where(there[..., None], values, np.nan)
        return known.transpose(1, 2, 0, 3).reshape(-1, values.shape[0], values.shape[3])

    def labeled(self, values: Array, score: Score, like: xr.DataArray) -> xr.DataArray:
        """Return values (G * R, Q) with the labels of a finished score."""
        own = [np.asarray(labels).size for labels in score.coords.values()]
        shaped = values.reshape(*self.groups.shape, -1, *own)
        with_regions = self.regions in like.dims
        dims = [*self.groups.coords, *([str(self.regions)] if with_regions else []), *score.coords]
        if not with_regions:
            shaped = np.take(shaped, 0, axis=len(self.groups.shape))
        return like.copy(data=xr.DataArray(shaped, dims=dims).transpose(*like.dims).values)


def scale_of(facts: ScoreFacts) -> tuple[Scale, Scale]:
    """Return the scale on which a score has no bounds, and the way back.

    Examples
    --------
    >>> there, back = scale_of(ScoreFacts(name="r", long_name="r", lower=-1.0, upper=1.0))
    >>> round(float(there(0.5)), 4), round(float(back(there(0.5))), 4)
    (0.5493, 0.5)
    """
    low, high = facts.lower, facts.upper
    if np.isfinite(low) and np.isfinite(high):
        size = high - low
        return (
            lambda s: np.arctanh(2 * (s - low) / size - 1),
            lambda z: low + size * (np.tanh(z) + 1) / 2,
        )
    if np.isfinite(low):
        return lambda s: np.log(s - low), lambda z: low + np.exp(z)
    return lambda s: s, lambda z: z


def _ends(options: Bootstrap, score: Score, cases: _Cases) -> tuple[Array, Array]:
    """Return both ends (G * R, Q) of the intervals of a score."""
    facts = score.facts
    there, back = scale_of(facts)
    found = _statistics(options, score, [cases], there)
    lower, upper = back(found[..., 1]), back(found[..., 2])
    lost = np.isnan(lower)
    if lost.any():
        plain = _statistics(options, score, [cases])
        lower[lost] = np.clip(plain[..., 1], facts.lower, facts.upper)[lost]
        upper[lost] = np.clip(plain[..., 2], facts.lower, facts.upper)[lost]
    return lower, upper


def _statistics(
    options: Bootstrap, score: Score, cases: Sequence[_Cases], scale: Scale | None = None
) -> Array:
    """Return the statistics (G * R, Q, 8) of the Q elements of a score, or of a difference."""
    columns = [columns_of(score, c.arrays, c.codes, c.groups.size) for c in cases]
    sums = [c.sums(part) for c, part in zip(cases, columns, strict=True)]
    x, split = np.concatenate(sums, axis=-1), sums[0].shape[-1]
    perfect = score.facts.perfect if score.facts.better == "nearest" else None
    size = int(np.prod([np.asarray(labels).size for labels in score.coords.values()], dtype=int))

    def element(q: int) -> Array:
        def alone(totals: Array) -> Array:
            value = columns[0].finish(totals, q)
            return value if scale is None else scale(value)

        def difference(totals: Array) -> Array:
            a = columns[0].finish(totals[..., :split], q)
            b = columns[1].finish(totals[..., split:], q)
            return a - b if perfect is None else np.abs(a - perfect) - np.abs(b - perfect)

        formula = alone if len(cases) == 1 else difference
        found = np.empty((len(x), len(STATISTICS)))
        for rows, starts in _alike(x):
            found[rows] = options.run(x[rows][:, starts], formula)
        return found

    return np.stack([element(q) for q in range(size)], axis=1)


def _alike(x: Array) -> list[tuple[Array, Array]]:
    """Return rows of (P, I, K) with the same known starts, and these: a month has its own."""
    known = np.isfinite(x).all(-1)
    patterns, which = np.unique(known, axis=0, return_inverse=True)
    return [(np.flatnonzero(which.ravel() == k), pattern) for k, pattern in enumerate(patterns)]


def _checked_by(state: State, by: str | Sequence[str] | None) -> list[str]:
    """Return what is kept; refuse what leaves no starts to resample."""
    parts = state.parts
    given = str(parts.attrs["by"]).split()
    chosen = given if by is None else [by] if isinstance(by, str) else list(by)
    cells = [s.name for s in state.scores if s.over == "cell"]
    starts = [name for name in chosen if name in ("init", parts["n.count"].dims[0])]
    grid = [name for name in chosen if name in str(parts.attrs["grid"]).split()]
    if cells or starts or grid:
        raise ConfigError(
            f"no interval over starts for {cells or starts or grid}: the uncertainty is that of "
            "having seen these starts, so they must be averaged over, and of single cells a state "
            "keeps no starts. For maps use xearth.verification.compare on the losses."
        )
    return chosen


def _paired(state: State, reference: State) -> tuple[State, State, int]:
    """Return both on the starts that both have, and how many only one has."""
    a, b = state.parts, reference.parts
    names = [s.name for s in state.scores]
    if names != [s.name for s in reference.scores] or a.attrs.get("units") != b.attrs.get("units"):
        raise ConfigError(
            f"the scores {names} in {a.attrs.get('units')!r} are not compared with "
            f"{[s.name for s in reference.scores]} in {b.attrs.get('units')!r}. Accumulate both "
            "alike."
        )
    init, lead, rows = map(str, a["n.count"].dims[:3])
    if a["n.count"].dims != b["n.count"].dims or not a[lead].equals(b[lead]):
        raise GridMismatchError(
            f"the forecast has {a['n.count'].sizes} and leads {a[lead].values.tolist()[:6]}, the "
            f"reference {b['n.count'].sizes} and {b[lead].values.tolist()[:6]}; expected the same "
            "leads and regions. Select the common ones before."
        )
    if rows in a.coords and not a[rows].equals(b[rows]):
        raise GridMismatchError(
            f"the forecast has the regions {a[rows].values.tolist()}, the reference "
            f"{b[rows].values.tolist()}. Give both the same regions."
        )
    common = a.indexes[init].intersection(b.indexes[init])
    if len(common) < MINIMUM:
        raise MissingDataError(
            f"forecast and reference have {len(common)} starts in common, of {a.sizes[init]} and "
            f"{b.sizes[init]}; expected at least {MINIMUM}. Forecast the same starts with both."
        )
    left_out = a.sizes[init] + b.sizes[init] - 2 * len(common)
    chosen = {init: common.sort_values()}
    return (
        State(state.scores, a.sel(chosen)),
        State(reference.scores, b.sel(chosen)),
        left_out,
    )
