r"""Scores of neighborhoods: near is good enough.

Let :math:`C_f` and :math:`C_o` be the numbers of cells with an event, forecast and observed, in a
window of w x w cells, and :math:`P = C / w^2`. The fractions skill score (Roberts and Lean 2008,
Mon. Wea. Rev. 136, 78-97), pooled over windows and fields, is

.. math:: \mathrm{FSS} = 1 - \frac{\sum (P_f - P_o)^2}{\sum P_f^2 + \sum P_o^2}
                       = 1 - \frac{\sum (C_f - C_o)^2}{\sum C_f^2 + \sum C_o^2} ,

so its sums are integers: they add exactly, for any chunking. It is NaN where neither side has an
event.

**Borders.** Three conventions are in use; they differ in the third digit, so one is named:

``"valid"``
    Only windows that lie inside the field: (H - w + 1) x (W - w + 1).
``"zero"``
    A window around every cell, H x W; outside the field there is no event. An even window
    reaches one cell further back than forward.
``"overhang"``
    As ``"zero"`` with one more row and column of windows, (H + 1) x (W + 1): what the package
    ``scores`` does with ``zero_padding=True``.

**Missing cells** (in either field) are treated like the outside of the field: with ``"valid"`` no
window that touches one is used, with the others there is no event in it, on either side.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.attrs import score_attrs
from ...errors import ConfigError
from ..kernels.tally import bound
from ..pairs import Dims
from ..thresholds import Op, check_op, read_thresholds
from .contingency import events_pair, outcome_table
from .counting import Layout, count_blocks
from .ensembles import Ensemble
from .pooling import field_dims

__all__ = ["Border", "fss", "fss_of", "fss_sums", "neighborhood_contingency", "window_counts"]

Array = npt.NDArray[Any]
Border = Literal["valid", "zero", "overhang"]

_SUMS = {
    "difference": "sum of the squared differences of the counts of events in windows",
    "reference": "sum of the squared counts of events in windows, of forecast and truth",
    "windows": "number of windows",
}


def fss(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    window: int | Sequence[int],
    border: Border,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
) -> xr.DataArray:
    """Return the fractions skill score.

    Parameters
    ----------
    forecast, obs : DataArray
        Fields; the truth is converted to the units of the forecast. Dask arrays stay lazy; the
        chunks of a field are joined.
    thresholds : str, quantity, number, or a sequence of them
        With units, such as ``["1 mm/h", "5 mm/h"]``.
    window : int or sequence of int
        Cells along each side.
    border : {"valid", "zero", "overhang"}
        What windows there are at the border of the field; see the head of this module.
    op : {">=", ">"}
        Whether a value equal to the threshold is an event.
    dim : name or names, optional
        What fields to pool, besides y and x; by default all.
    ensemble : {"mean", "matched mean", "members", "first"} or Vote, optional
        How an ensemble (dimension ``member``) is judged; has to be named for one.

    Returns
    -------
    DataArray
        (threshold, window, kept dimensions).

    Raises
    ------
    UnitsError, GridMismatchError, ConfigError
        As :func:`~xearth.verification.contingency`.
    ConfigError
        An unknown border, or a window that does not fit.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> o = xr.DataArray(np.eye(6), dims=("y", "x"))
    >>> f = o.copy(data=np.roll(o.values, 1, axis=1))
    >>> fss(f, o, thresholds=1, window=[1, 3], border="zero").values.round(2).tolist()
    [[0.0, 0.83]]
    """
    sums = fss_sums(
        forecast,
        obs,
        thresholds=thresholds,
        window=window,
        border=border,
        op=op,
        dim=dim,
        ensemble=ensemble,
    )
    return fss_of(sums)


def fss_of(sums: xr.Dataset) -> xr.DataArray:
    """Return the fractions skill score of the sums of :func:`fss_sums`, or of a sum of those."""
    reference = sums["reference"].astype(np.float64)
    score = 1.0 - sums["difference"] / reference.where(reference > 0)
    score.attrs = score_attrs("fractions skill score") | dict(sums.attrs)
    return score.rename("fss")


def fss_sums(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    window: int | Sequence[int],
    border: Border,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
) -> xr.Dataset:
    """Return the sums of the fractions skill score; those of different fields add.

    Parameters as in :func:`fss`.

    Returns
    -------
    Dataset
        (threshold, window, kept dimensions), int64: ``difference``, ``reference`` and
        ``windows``, their number.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> o = xr.DataArray(np.eye(6), dims=("y", "x"))
    >>> sums = fss_sums(o, o, thresholds=1, window=3, border="valid")
    >>> int(sums.windows.item()), fss_of(sums + sums).item()
    (16, 1.0)
    """
    sizes = _sizes(window)
    names = field_dims(forecast)
    _check(sizes, border, [forecast.sizes[name] for name in names])
    forecast, obs, pooled = events_pair(forecast, obs, ensemble, "member")
    limits = read_thresholds(thresholds, forecast)
    layout = Layout.of(forecast, obs, _or_field(dim, names), pooled=pooled, core=names)
    check_op(op)

    def count(x: Array, y: Array) -> Array:
        sums = _fss_block(*_rows(layout, x, y), _Events(limits.values, op, border), sizes)
        return sums.reshape(*sums.shape[:-1], *x.shape[: len(layout.kept)])

    found = count_blocks(count, forecast, obs, layout, (3, len(limits.values), len(sizes)))
    dims = ("threshold", "window", *found.kept)
    sums = xr.Dataset({name: (dims, found.values[k]) for k, name in enumerate(_SUMS)})
    for name, meaning in _SUMS.items():
        sums[name].attrs = {"long_name": meaning, "units": "1"}
    attrs = {"long_name": "side of the window in cells", "units": "1"}
    sums = sums.assign_coords(limits.coord().coords).assign_coords(found.coords)
    sums = sums.assign_coords(window=("window", np.asarray(sizes, dtype=np.int64), attrs))
    sums.attrs = {"event": f"value {op} threshold", "border": border}
    return sums


def neighborhood_contingency(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    window: int,
    border: Border,
    coverage: float | None = None,
    op: Op = ">=",
    dim: Dims = None,
) -> xr.Dataset:
    """Count hits, misses, false alarms and correct negatives of windows instead of cells.

    A window has an event where at least a fraction ``coverage`` of its cells has, or, by
    default, one cell (Ebert 2008, Meteorol. Appl. 15, 51-64: minimum coverage, upscaling to the
    maximum).

    Parameters
    ----------
    forecast, obs, thresholds, op, dim
        As :func:`fss`; of an ensemble give one forecast
        (:func:`~xearth.verification.combine_members`).
    window : int
        Cells along each side. Windows lie around every cell, so they overlap;
        :func:`~xearth.verification.pool` makes those that do not.
    border : {"valid", "zero", "overhang"}
    coverage : float, optional
        Above 0, at most 1.

    Returns
    -------
    Dataset
        As :func:`~xearth.verification.contingency`; ``missing`` counts the windows
        left out because of missing cells.

    Raises
    ------
    ConfigError
        A coverage outside of 0..1, an unknown border, or a window that does not fit.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> o = xr.DataArray(np.eye(6), dims=("y", "x"))
    >>> f = o.copy(data=np.roll(o.values, 1, axis=1))
    >>> table = neighborhood_contingency(f, o, thresholds=1, window=3, border="valid")
    >>> int(table.hits.item()), int(table.misses.item())
    (12, 2)
    """
    names = field_dims(forecast)
    lengths = [forecast.sizes[name] for name in names]
    windows = _sizes(window)
    if len(windows) != 1:
        raise ConfigError(f"tables of neighborhoods take one window; found {window!r}.")
    window = windows[0]
    _check(windows, border, lengths)
    if coverage is not None and not 0.0 < coverage <= 1.0:
        raise ConfigError(
            f"coverage is a fraction of the cells of a window, above 0 and at most 1; found "
            f"{coverage!r}."
        )
    needed = 1 if coverage is None else max(1, int(np.ceil(coverage * window**2 - 1e-9)))
    forecast, obs, _ = events_pair(forecast, obs, None, "member")
    limits = read_thresholds(thresholds, forecast)
    layout = Layout.of(forecast, obs, _or_field(dim, names), core=names)
    check_op(op)

    def count(x: Array, y: Array) -> Array:
        events = _Events(limits.values, op, border)
        counts = _window_block(*_rows(layout, x, y), events, window, needed)
        return counts.reshape(*counts.shape[:-1], *x.shape[: len(layout.kept)])

    found = count_blocks(count, forecast, obs, layout, (4, len(limits.values)))
    sizes = {**obs.sizes, **forecast.sizes}
    pairs = int(np.prod([sizes[name] for name in layout.pooled], dtype=np.int64))
    pairs *= int(np.prod([_number(length, window, border) for length in lengths]))
    table = outcome_table(found, pairs, limits, op)
    table.attrs |= {"window": window, "border": border, "cells_needed": needed}
    return table


def _rows(layout: Layout, x: Array, y: Array) -> tuple[Array, Array]:
    """Return blocks (kept..., pooled..., H, W) as (rows, pooled, H, W)."""
    shape = (int(np.prod(x.shape[: len(layout.kept)])), -1, *x.shape[-2:])
    return x.reshape(shape), y.reshape(shape)


def _or_field(dim: Dims, names: tuple[Hashable, Hashable]) -> Dims:
    """Return the dimensions to pool; y and x always are."""
    return dim if dim is None else [*([dim] if isinstance(dim, str) else dim), *names]


def _sizes(window: Any) -> tuple[int, ...]:
    """Return the sides of windows as integers; 5.0 is 5."""
    given = np.atleast_1d(np.asarray(window))
    whole = given.dtype.kind in "iuf" and given.ndim == 1
    if not whole or not given.size or not (np.isfinite(given) & (given == np.rint(given))).all():
        raise ConfigError(f"windows are positive whole numbers of cells; found {window!r}.")
    return tuple(int(size) for size in given)


def _check(sizes: Sequence[int], border: str, lengths: Sequence[int]) -> None:
    if border not in ("valid", "zero", "overhang"):
        raise ConfigError(
            f"border must be 'valid' (windows inside the field), 'zero' (one around every cell) "
            f"or 'overhang'; found {border!r}."
        )
    if any(size < 1 for size in sizes):
        raise ConfigError(f"windows are positive whole numbers of cells; found {sizes}.")
    if border == "valid" and max(sizes) > min(lengths):
        raise ConfigError(
            f"a window of {max(sizes)} cells does not fit into a field of {lengths}. Take a "
            "smaller one, or border='zero'."
        )


def _number(length: int, size: int, border: Border) -> int:
    return length - size + 1 if border == "valid" else length + (border == "overhang")


def window_counts(event: Array, size: int, border: Border) -> Array:
    """Return the number of cells with an event in every window of a field (H, W), int64.

    Examples
    --------
    >>> import numpy as np
    >>> window_counts(np.eye(3, dtype=bool), 2, "valid").tolist()
    [[2, 1], [1, 2]]
    """
    return _window_sums(_prefix(event), size, border)


def _prefix(event: Array) -> Array:
    """Return the sums of all cells above and to the left (H + 1, W + 1)."""
    total = np.zeros((event.shape[0] + 1, event.shape[1] + 1), dtype=np.int64)
    np.cumsum(event, axis=0, out=total[1:, 1:])
    np.cumsum(total[1:, 1:], axis=1, out=total[1:, 1:])
    return total


def _window_sums(prefix: Array, size: int, border: Border) -> Array:
    if border != "valid":
        before = size // 2
        after = size - 1 - before + (border == "overhang")
        prefix = np.pad(prefix, (before, after), mode="edge")
    columns = prefix[:, size:] - prefix[:, :-size]
    return columns[size:] - columns[:-size]


@dataclass(frozen=True)
class _Events:
    """What an event is, and which windows it is counted in."""

    limits: tuple[float, ...]
    op: Op
    border: Border

    def masks(self, f: Array, o: Array, absent: Array) -> Iterator[tuple[Array, Array]]:
        """Yield where forecast and truth reach each threshold."""
        for limit in self.limits:
            told, seen = (x >= bound(limit, x.dtype, self.op) for x in (f, o))
            yield told & ~absent, seen & ~absent


def _fss_block(x: Array, y: Array, events: _Events, sizes: tuple[int, ...]) -> Array:
    """Return the three sums (3, T, windows, rows) of fields (rows, pooled, H, W)."""
    border = events.border
    sums = np.zeros((3, len(events.limits), len(sizes), x.shape[0]), dtype=np.int64)
    for row, case in np.ndindex(x.shape[:2]):
        f, o = x[row, case], y[row, case]
        absent = np.isnan(f) | np.isnan(o)
        holes = _prefix(absent) if absent.any() else None
        used = [_used(holes, size, border) for size in sizes]
        for k, masks in enumerate(events.masks(f, o, absent)):
            told, seen = (_prefix(mask) for mask in masks)
            for j, size in enumerate(sizes):
                a, b = (_window_sums(p, size, border)[used[j]] for p in (told, seen))
                sums[:, k, j, row] += ((a - b) ** 2).sum(), (a * a + b * b).sum(), a.size
    return sums


def _used(holes: Array | None, size: int, border: Border) -> Any:
    """Return which windows count: all, or with ``"valid"`` those without a missing cell."""
    if holes is None or border != "valid":
        return slice(None)
    return _window_sums(holes, size, border) == 0


def _window_block(x: Array, y: Array, events: _Events, size: int, needed: int) -> Array:
    """Return the outcomes (4, T, rows) of the windows of fields (rows, pooled, H, W)."""
    border = events.border
    counts = np.zeros((4, len(events.limits), x.shape[0]), dtype=np.int64)
    for row, case in np.ndindex(x.shape[:2]):
        f, o = x[row, case], y[row, case]
        absent = np.isnan(f) | np.isnan(o)
        used = _used(_prefix(absent) if absent.any() else None, size, border)
        for k, masks in enumerate(events.masks(f, o, absent)):
            told, seen = (window_counts(mask, size, border)[used] >= needed for mask in masks)
            hits, ahead, behind = (np.count_nonzero(m) for m in (told & seen, told, seen))
            rest = told.size - ahead - behind + hits
            counts[:, k, row] += (hits, behind - hits, ahead - hits, rest)
    return counts
