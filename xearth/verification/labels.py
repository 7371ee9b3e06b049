"""Whether two fields stand at the same places: dimension labels, 2-D grids, single levels.

Labels of dimensions must be equal, for cells are paired by their place in the array. Latitude and
longitude that are no labels (grids with (y, x) positions, lists of stations) must agree to
:data:`CELL` of a cell, or to the rounding of single precision where one is stored so. Single
values (a level, one latitude) must agree to the same part of themselves.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.clues import clues, is_dates
from ..errors import GridMismatchError, UnitsError
from ..units import compatible, convert

__all__ = ["CELL", "check_labels", "check_single"]

#: Part of a cell by which the positions of two grids may differ and still be the same.
CELL = 1e-5

Values = npt.NDArray[Any]
Pair = tuple[xr.DataArray, xr.DataArray]

_NOT_OF_SPACE = {"time", "forecast_reference_time", "forecast_period", "realization"}
_TELLS_PLACE = ("standard_name", "axis", "positive")


def check_labels(forecast: xr.DataArray, obs: xr.DataArray) -> None:
    """Refuse two fields of which cells at the same place in the array are not the same cell.

    Only coordinates are read.

    Raises
    ------
    GridMismatchError
        Labels, lengths, positions or levels differ; with the first that does, and the remedy.

    Examples
    --------
    >>> f = xr.DataArray([0.0, 0.0], {"lat": [10.0, 20.0]}, ("lat",))
    >>> check_labels(f, f[::-1])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    xearth.errors.GridMismatchError: forecast None and truth None differ along 'lat': 2 against ...
    """
    pair = (forecast, obs)
    for dim in [d for d in forecast.dims if d in obs.dims]:
        if dim in forecast.coords and dim in obs.coords:
            _check_dim(pair, dim)
        elif forecast.sizes[dim] != obs.sizes[dim]:
            raise GridMismatchError(
                f"forecast {forecast.name!r} and truth {obs.name!r} differ in length along "
                f"{dim!r}: {dict(forecast.sizes)} against {dict(obs.sizes)}. Select the common "
                "part, or label both."
            )
    for kind in ("lat", "lon"):
        for mine, theirs in _positions(pair, kind):
            _check_positions(pair, mine, theirs, kind)
    for mine, theirs in _single(pair):
        check_single(pair, mine, theirs)


def _check_dim(pair: Pair, dim: Hashable) -> None:
    mine, theirs = (field[dim].values for field in pair)
    if mine.shape == theirs.shape and (mine == theirs).all():
        return
    f, o = pair
    differing = [str(v) for v in np.setxor1d(mine, theirs)[:4]]
    raise GridMismatchError(
        f"forecast {f.name!r} and truth {o.name!r} differ along {dim!r}: "
        f"{mine.size} against {theirs.size} labels, differing for example in "
        f"{differing or 'their order'}. {_turned(f[dim], o[dim]) or _remedy(dim, mine, theirs)}"
    )


def _turned(mine: xr.DataArray, theirs: xr.DataArray) -> str | None:
    """Say how longitudes of the other convention become the same, if that is what differs."""
    name = str(mine.name)
    if "lon" not in clues(name, mine.variable) or mine.dtype.kind not in "fiu":
        return None
    a, b = (np.sort(x.values.astype(np.float64) % 360.0) for x in (mine, theirs))
    if a.shape != b.shape or not np.allclose(a, b, rtol=0.0, atol=1e-9):
        return None
    east = f"obs[{name!r}]"
    east = f"{east} % 360" if (mine.values >= 0).all() else f"({east} + 180) % 360 - 180"
    return (
        "They are the same meridians. Take the convention of one: "
        f"obs.assign_coords({name}={east}).sortby({name!r})."
    )


def _remedy(dim: Hashable, mine: Values, theirs: Values) -> str:
    """Say how two sets of labels become the same: what keeps the most of both."""
    if mine.shape == theirs.shape and (np.sort(mine) == np.sort(theirs)).all():
        return f"Sort both alike: forecast.sortby({dim!r}) and obs.sortby({dim!r})."
    numbers = all(x.dtype.kind in "fiu" for x in (mine, theirs))
    if numbers and mine.size == theirs.size and mine.size:
        a, b = (np.sort(x.astype(np.float64)) for x in (mine, theirs))
        apart = float(np.abs(a - b).max())
        step = float(np.diff(a).min()) if a.size > 1 else float(np.abs(a).max())
        if 0 < apart < 1e-3 * step:
            tolerance = 10.0 ** np.ceil(np.log10(2 * apart))
            return (
                f"They differ by {apart:.2g} at most, as rounding does. Take the labels of one: "
                f"obs.reindex({dim}=forecast[{str(dim)!r}], method='nearest', "
                f"tolerance={min(tolerance, step / 4):.2g})."
            )
    if np.intersect1d(mine, theirs).size:
        return "Select the common ones with xarray.align(forecast, obs, join='inner')."
    return "They have none in common: regrid one to the labels of the other."


def _positions(pair: Pair, kind: str) -> Iterator[Pair]:
    """Yield the latitudes (or longitudes) of both that lie on dimensions without being labels."""
    common = set(pair[0].dims) & set(pair[1].dims)
    found: list[dict[Hashable, xr.DataArray]] = [
        {
            name: coord
            for name, coord in field.coords.items()
            if coord.ndim and name not in common and set(coord.dims) <= common
            if coord.dtype.kind in "fiu" and kind in clues(str(name), coord.variable)
        }
        for field in pair
    ]
    mine, theirs = found
    both = [name for name in mine if name in theirs]
    if both:
        yield from ((mine[name], theirs[name]) for name in both)
    elif len(mine) == len(theirs) == 1:
        yield next(iter(mine.values())), next(iter(theirs.values()))


def _check_positions(pair: Pair, mine: xr.DataArray, theirs: xr.DataArray, kind: str) -> None:
    if set(mine.dims) != set(theirs.dims):
        return
    a: Values = np.asarray(mine.values, dtype=np.float64)
    b: Values = np.asarray(theirs.transpose(*mine.dims).values, dtype=np.float64)
    apart = np.abs(a - b)
    if kind == "lon":
        apart = np.abs((apart + 180.0) % 360.0 - 180.0)
    allowed = max(CELL * _cell(a), _rounding(mine, a), _rounding(theirs, b))
    if not (apart > allowed).any():
        return
    place = np.unravel_index(int(np.argmax(apart > allowed)), a.shape)
    cell = {str(dim): int(k) for dim, k in zip(mine.dims, place, strict=True)}
    forecast, obs = pair
    raise GridMismatchError(
        f"forecast {forecast.name!r} and truth {obs.name!r} do not lie on the same cells: "
        f"{mine.name!r} is {a[place]:g} against {b[place]:g} at {cell}, the first of "
        f"{int((apart > allowed).sum())} that differ by more than {allowed:.2g}. "
        f"{_order_remedy(mine, a, b, allowed)}"
    )


def _order_remedy(mine: xr.DataArray, a: Values, b: Values, allowed: float) -> str:
    """Say whether turning a dimension around makes the positions the same."""
    for axis, dim in enumerate(mine.dims):
        if (np.abs(a - np.flip(b, axis)) <= allowed).all():
            return f"The truth runs the other way: obs.isel({dim}=slice(None, None, -1))."
    return "Regrid one to the grid of the other."


def _cell(values: Values) -> float:
    """Return the size of a cell: the largest of the median steps along the dimensions."""
    steps = [np.abs(np.diff(values, axis=k)) for k in range(values.ndim)]
    known = [step[np.isfinite(step)] for step in steps]
    return max((float(np.median(step)) for step in known if step.size), default=0.0)


def _rounding(coord: xr.DataArray, values: Values) -> float:
    """Return what the precision of a coordinate cannot tell."""
    eps = np.finfo(coord.dtype).eps if coord.dtype.kind == "f" else np.finfo(np.float64).eps
    finite = values[np.isfinite(values)]
    return 2.0 * float(eps) * float(np.abs(finite).max()) if finite.size else 0.0


def _single(pair: Pair) -> Iterator[Pair]:
    """Yield the coordinates of one value that both have, by name or by standard name."""
    mine, theirs = (
        {name: c for name, c in field.coords.items() if _is_place(str(name), c, field.dims)}
        for field in pair
    )
    for name, coord in mine.items():
        said = coord.attrs.get("standard_name")
        same = [c for c in theirs.values() if said and c.attrs.get("standard_name") == said]
        other = theirs.get(name) if name in theirs else same[0] if len(same) == 1 else None
        if other is not None and not (name in pair[0].dims and other.name in pair[1].dims):
            yield coord, other


def _is_place(name: str, coord: xr.DataArray, dims: tuple[Hashable, ...]) -> bool:
    if coord.size != 1 or coord.dtype.kind not in "fiu" or is_dates(coord):
        return False
    if coord.ndim and (name not in dims or coord.dims != (name,)):
        return False
    said = str(coord.attrs.get("standard_name", "")).split(" ")[0]
    if said in _NOT_OF_SPACE or coord.attrs.get("axis") == "T":
        return False
    kinds = clues(name, coord.variable).keys()
    if kinds & {"time", "init", "lead", "member"}:
        return False
    return any(key in coord.attrs for key in _TELLS_PLACE) or bool(kinds & {"lat", "lon"})


def check_single(pair: Pair, mine: xr.DataArray, theirs: xr.DataArray) -> None:
    """Refuse two fields at different levels, heights, latitudes ... of one value each.

    Parameters
    ----------
    pair : tuple of DataArray
        The fields, for their names.
    mine, theirs : DataArray
        Coordinates of one value; converted where their units differ.

    Raises
    ------
    GridMismatchError

    Examples
    --------
    >>> f = xr.DataArray(0.0, {"height": ((), 2.0, {"units": "m"})}, name="t")
    >>> o = xr.DataArray(0.0, {"height": ((), 200.0, {"units": "cm"})}, name="t")
    >>> check_single((f, o), f.height, o.height)
    """
    units, other = (str(c.attrs.get("units", "")) for c in (mine, theirs))
    a, b = (float(c.values.ravel()[0]) for c in (mine, theirs))
    given = f"{b:g} {other}".strip()
    try:
        if units and other and units != other and compatible(units, other):
            b = float(convert(b, other, units))
    except UnitsError:  # such as "level", which is no unit
        pass
    apart = abs(a - b)
    if "lon" in clues(str(mine.name), mine.variable):
        apart = abs((apart + 180.0) % 360.0 - 180.0)
    if apart <= CELL * max(abs(a), abs(b), 1e-3) or np.isnan(a) or np.isnan(b):
        return
    forecast, obs = pair
    raise GridMismatchError(
        f"forecast {forecast.name!r} is at {mine.name!r} = {f'{a:g} {units}'.strip()}, truth "
        f"{obs.name!r} at {theirs.name!r} = {given}; expected the same. Select the same, or drop "
        f"it if the difference is meant: obs.drop_vars({str(theirs.name)!r})."
    )
