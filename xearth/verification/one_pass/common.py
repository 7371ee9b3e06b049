"""Several forecasts on the points that all of them have, so that their scores can be compared.

A difference of scores says something of two forecasts only where both were given the same cases
and cells. Of forecasts of other starts, or with other gaps, what only some have is left out of
all, lazily, before anything is scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import xarray as xr

from ...cf.discover import Axes, bounds_of, find_axes
from ...cf.packing import decoded
from ...errors import GridMismatchError, MissingDataError, XearthError
from ..align import observations_at
from ..pairs import same_terms
from ..score import Score
from ..scores.rank_rows import complete
from ..significance.resampling import MINIMUM
from .matched import named_as, only_variable, with_starts

__all__ = ["Common", "field_of", "least_members", "on_common_points"]


@dataclass(frozen=True, eq=False)
class Common:
    """Forecasts with values at the same points only.

    Parameters
    ----------
    forecasts : list of DataArray
        On the same starts and in the units of the first.
    truth : DataArray
        At these starts, if it is one of starts.
    left_out : dict of str to int or lazy scalar
        ``starts_left_out``: starts that not all have; ``cases_left_out``: starts and leads of the
        others at which there is no common point, but a pair of some forecast; ``points_left_out``:
        pairs of these starts that only some forecasts have.
    """

    forecasts: list[xr.DataArray]
    truth: xr.DataArray
    left_out: dict[str, Any]


def field_of(obj: xr.DataArray | xr.Dataset, what: str) -> xr.DataArray:
    """Return the only field of an object, decoded; bounds and grid mappings are no fields.

    Raises
    ------
    DataTypeError
        It holds none or several.

    Examples
    --------
    >>> ds = xr.Dataset({"t": ("x", [1.0]), "crs": ((), 0, {"grid_mapping_name": "x"})})
    >>> field_of(ds, "forecast").name
    't'
    """
    if isinstance(obj, xr.Dataset):
        bounds = bounds_of(obj)
        helpers = [
            name
            for name, variable in obj.data_vars.items()
            if name in bounds or "grid_mapping_name" in variable.attrs
        ]
        obj = obj.drop_vars(helpers)
    return decoded(only_variable(obj, what))


def least_members(scores: Sequence[Score], members: int) -> int:
    """Return how many members a point needs, of so many, to count for all of the scores.

    Examples
    --------
    >>> from xearth.verification.scores.table import SCORES
    >>> least_members([SCORES["rmse"]], 10), least_members([SCORES["crps_fair"]], 10)
    (1, 2)
    """
    statistics = [s for score in scores for s in (score.of or score).statistics]
    if any(getattr(s, "valid", None) is complete for s in statistics):
        return members
    return max(1, *(score.facts.members for score in scores))


def on_common_points(
    forecasts: Mapping[str, tuple[xr.DataArray, int]], truth: xr.DataArray
) -> Common:
    """Return forecasts with what not all of them have left out.

    Parameters
    ----------
    forecasts : mapping of str to (DataArray, int)
        (init, lead[, member][, y, x]) by name, and the members that a point needs. All are
        converted to the units of the first.
    truth : DataArray

    Raises
    ------
    GridMismatchError
        Leads or cells differ.
    UnitsError
        Units do not convert, or one is an anomaly and another is not.
    MissingDataError
        Fewer than 5 starts are common.

    Examples
    --------
    >>> import numpy as np
    >>> lead = xr.Variable("lead", [1], {"units": "months"})
    >>> time = xr.date_range("2000-01", periods=9, freq="MS")
    >>> f = xr.DataArray(np.zeros((7, 1)), {"init": time[:7], "lead": lead}, ("init", "lead"))
    >>> o = xr.DataArray(np.zeros(9), {"time": time}, ("time",))
    >>> found = on_common_points({"a": (f, 1), "b": (f[1:].where(f.init[1:] != time[2]), 1)}, o)
    >>> found.forecasts[0].values.ravel().tolist(), found.left_out["starts_left_out"]
    ([0.0, nan, 0.0, 0.0, 0.0, 0.0], 1)
    """
    first, *names = forecasts
    forecast, axes = with_starts(forecasts[first][0])
    init, lead = str(axes.init), str(axes.lead)
    others = {name: named_as(axes, with_starts(forecasts[name][0])[0]) for name in names}
    truth = named_as(axes, truth)
    given = [forecast, *others.values()]
    common, left_out = _common_starts(given, init, list(forecasts))
    if common is not None:
        forecast = forecast.sel({init: common})
        others = {name: other.sel({init: common}) for name, other in others.items()}
        truth = truth.sel({init: common}) if init in truth.dims else truth
    alike = [forecast, *(_in_terms_of(forecast, axes, o, name) for name, o in others.items())]
    known = [_points(f, least) for f, (_, least) in zip(alike, forecasts.values(), strict=True)]
    shared = reduce(lambda a, b: a & b, known)
    some = reduce(lambda a, b: a | b, known)
    at_starts = {init, lead} <= set(truth.dims)
    there = (truth if at_starts else observations_at(forecast, truth)).notnull()
    there = there.drop_vars(list(there.coords))
    space = [name for name in some.dims if name not in (init, lead)]
    pairs, both = (points & there for points in (some, shared))
    left = {
        "starts_left_out": left_out,
        "cases_left_out": (pairs.any(space) & ~both.any(space)).sum(),
        "points_left_out": (pairs & ~both).sum(),
    }
    masked = [f.where(shared).transpose(*f.dims).assign_attrs(f.attrs) for f in alike]
    return Common(masked, truth, left)


def _common_starts(
    forecasts: Sequence[xr.DataArray], init: str, names: Sequence[str]
) -> tuple[Any, int]:
    """Return the starts that all have, sorted, None without labels; and how many were lost."""
    if not all(init in f.indexes for f in forecasts):
        return None, 0
    starts = [f.indexes[init] for f in forecasts]
    common = reduce(lambda a, b: a.intersection(b), starts)
    if len(common) < MINIMUM:
        sizes = dict(zip(names, map(len, starts), strict=True))
        raise MissingDataError(
            f"of the starts {sizes}, {len(common)} are common; expected at least {MINIMUM}. "
            "Forecast the same starts with all."
        )
    union = reduce(lambda a, b: a.union(b), starts)
    return common.sort_values(), len(union) - len(common)


def _in_terms_of(
    forecast: xr.DataArray, axes: Axes, other: xr.DataArray, name: str
) -> xr.DataArray:
    """Return a reference in the units of the forecast; its leads and cells must be the same."""
    member = find_axes(other).member
    lead = str(axes.lead)
    mine = {d: n for d, n in forecast.sizes.items() if d != axes.member}
    theirs = {d: n for d, n in other.sizes.items() if d != member}
    units = [f[lead].attrs.get("units") if lead in f.coords else None for f in (forecast, other)]
    if mine != theirs or units[0] != units[1]:
        raise GridMismatchError(
            f"reference {name!r} has {theirs} with leads in {units[1]!r}, the forecast {mine} with "
            f"leads in {units[0]!r}; expected the same leads and cells. Select the common ones."
        )
    one = forecast.drop_vars(str(axes.init), errors="ignore")
    one = one if axes.member is None else one.isel({axes.member: 0}, drop=True)
    bare = other.drop_vars(str(axes.init), errors="ignore")
    # members of two forecasts need not be as many
    bare = bare if member is None else bare.rename({member: "member of the reference"})
    try:
        _, same = same_terms(one, bare)
    except XearthError as error:
        raise type(error)(f"reference {name!r}, converted as a truth is: {error}") from error
    dims = [d if d != member else "member of the reference" for d in other.dims]
    return other.copy(data=same.transpose(*dims).data).assign_attrs(same.attrs)


def _points(forecast: xr.DataArray, least: int) -> xr.DataArray:
    """Return where enough members are known."""
    known = forecast.notnull()
    member = find_axes(forecast).member
    if member is not None and member in known.dims:
        known = known.sum(member) >= least
    return known.drop_vars(list(known.coords))
