r"""Contingency tables of events: hits, misses, false alarms, correct negatives.

======================  ================  =================
forecast \ observed     event             no event
======================  ================  =================
event                   hits              false alarms
no event                misses            correct negatives
======================  ================  =================

An event is a value ``>=`` (or, named, ``>``) the threshold, compared in the precision of the
data: 0.7 stored in single precision reaches the threshold 0.7. Counts are 64-bit integers, so
they add exactly, in any chunking. A pair of which one side is missing (NaN) is in none of the
four; ``missing`` says how many there were.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.packing import decoded
from ...errors import ConfigError, DataTypeError, GridMismatchError
from ..kernels.tally import bound
from ..kernels.tally import contingency as sweep
from ..pairs import Dims, refuse_record, same_terms
from ..thresholds import Op, Thresholds, check_op, read_thresholds
from .counting import Counted, Layout, count_blocks
from .ensembles import Ensemble, combine_members

__all__ = ["OUTCOMES", "contingency", "count_outcomes", "events_pair", "tabulate"]

Array = npt.NDArray[Any]

#: Names of the four outcomes, in the order of :func:`count_outcomes`.
OUTCOMES = ("hits", "misses", "false_alarms", "correct_negatives")

_MEANING = {
    "hits": "events forecast and observed",
    "misses": "events observed but not forecast",
    "false_alarms": "events forecast but not observed",
    "correct_negatives": "pairs without an event in either",
    "missing": "pairs of which one side is missing, counted in none of the four",
}


def contingency(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.Dataset:
    """Count hits, misses, false alarms and correct negatives at thresholds.

    Parameters
    ----------
    forecast, obs : DataArray
        Forecast and truth; the truth is converted to the units of the forecast. Dask arrays
        stay lazy, chunked as they are.
    thresholds : str, quantity, number, or a sequence of them
        With units, such as ``["1 mm/h", "5 mm/h"]``; see
        :func:`~xearth.verification.thresholds.read_thresholds`.
    op : {">=", ">"}
        Whether a value equal to the threshold is an event.
    dim : name or names, optional
        What to count over; by default all dimensions, ``()`` for none.
    ensemble : {"mean", "matched mean", "members", "first"} or Vote, optional
        How an ensemble is judged; has to be named for one. See
        :mod:`xearth.verification.scores.ensembles`.
    member : str
        Name of the member dimension.

    Returns
    -------
    Dataset
        (threshold, kept dimensions): ``hits``, ``misses``, ``false_alarms``,
        ``correct_negatives``, int64; and ``missing`` without thresholds. Tables of different
        data add: ``a + b``.

    Raises
    ------
    UnitsError
        Thresholds without units for data with units, or units that do not convert.
    GridMismatchError
        The labels differ.
    ConfigError
        An ensemble without ``ensemble``.

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([0.0, 2.0, 6.0, 7.0], dims="x", attrs={"units": "mm h-1"})
    >>> o = xr.DataArray([0.0, 5.0, 0.0, 9.0], dims="x", attrs={"units": "mm h-1"})
    >>> table = contingency(f, o, thresholds="5 mm/h")
    >>> [int(table[name].item()) for name in ("hits", "misses", "false_alarms")]
    [1, 1, 1]
    """
    forecast, obs, counted = events_pair(forecast, obs, ensemble, member)
    limits = read_thresholds(thresholds, forecast)
    return tabulate(
        forecast, obs, limits, check_op(op), Layout.of(forecast, obs, dim, pooled=counted)
    )


def events_pair(
    forecast: xr.DataArray, obs: xr.DataArray, ensemble: Ensemble | None, member: str
) -> tuple[xr.DataArray, xr.DataArray, tuple[Hashable, ...]]:
    """Return both with the same labels and units, in their own precision, and what is pooled.

    Raises
    ------
    ConfigError
        An ensemble without ``ensemble``.
    DataTypeError
        No numbers.
    GridMismatchError, UnitsError
        As :func:`~xearth.verification.pairs.same_terms`; other lengths.
    """
    forecast = decoded(forecast)
    if ensemble is not None:
        forecast = combine_members(forecast, ensemble, member=member)
    elif member in forecast.dims:
        raise ConfigError(
            f"forecast {forecast.name!r} is an ensemble ({forecast.sizes[member]} members): say "
            "how events of one are judged, ensemble='mean', 'members', 'matched mean', 'first' "
            "or Vote(0.5)."
        )
    refuse_record(forecast, obs)
    forecast, obs = same_terms(forecast, obs)
    for field in (forecast, obs):
        if field.dtype.kind not in "fiu":
            raise DataTypeError(
                f"events need numbers; {field.name!r} holds {field.dtype}. Convert it, for "
                "example with .astype('float32')."
            )
    differing = [
        d for d in forecast.dims if obs.sizes.get(d, forecast.sizes[d]) != forecast.sizes[d]
    ]
    if differing:
        raise GridMismatchError(
            f"forecast {forecast.name!r} and truth {obs.name!r} differ in length along "
            f"{differing}: {dict(forecast.sizes)} against {dict(obs.sizes)}. Select the common "
            "part."
        )
    return forecast, obs, (member,) if member in forecast.dims else ()


def tabulate(
    forecast: xr.DataArray, obs: xr.DataArray, limits: Thresholds, op: Op, layout: Layout
) -> xr.Dataset:
    """Count the outcomes of an aligned pair."""

    def count(x: Array, y: Array) -> Array:
        return count_outcomes(x, y, limits.values, op, kept=len(layout.kept))

    found = count_blocks(count, forecast, obs, layout, (len(OUTCOMES), len(limits.values)))
    sizes: Mapping[Hashable, int] = {**obs.sizes, **forecast.sizes}
    pairs = int(np.prod([sizes[name] for name in layout.pooled], dtype=np.int64))
    return outcome_table(found, pairs, limits, op)


def outcome_table(found: Counted, pairs: int, limits: Thresholds, op: Op) -> xr.Dataset:
    """Label the counts (4, T, kept...) of so many pairs."""
    kept, counts = found.kept, found.values
    table = xr.Dataset(
        {name: (("threshold", *kept), counts[k]) for k, name in enumerate(OUTCOMES)}
        | {"missing": (kept, pairs - counts[:, 0].sum(axis=0))}
    )
    for name, meaning in _MEANING.items():
        table[name].attrs = {"long_name": meaning, "units": "1"}
    table = table.assign_coords(limits.coord().coords).assign_coords(found.coords)
    table.attrs = {"event": f"value {op} threshold"}
    return table


# from so many pairs in a table on, one sweep for each table is the fastest
_LONG = 1024


def count_outcomes(
    f: Array, o: Array, limits: Sequence[float], op: Op, *, kept: int = 0
) -> npt.NDArray[np.int64]:
    """Count the four outcomes (4, T, kept...) of pairs (kept..., others...).

    Examples
    --------
    >>> import numpy as np
    >>> f, o = np.array([1.0, 3.0, np.nan]), np.array([2.0, 3.0, 3.0])
    >>> count_outcomes(f, o, (2.0,), ">=").ravel().tolist()
    [1, 1, 0, 0]
    """
    if kept == 0 or f[(0,) * kept].size >= _LONG:
        return np.stack(sweep(f, o, limits, op=op, keep=range(kept)))
    axes = tuple(range(kept, f.ndim))
    known = ~(np.isnan(f) | np.isnan(o))
    pairs = np.count_nonzero(known, axis=axes)
    counts = np.empty((4, len(limits), *f.shape[:kept]), dtype=np.int64)
    for k, limit in enumerate(limits):
        told, seen = (x >= bound(limit, x.dtype, op) for x in (f, o))
        told, seen = told & known, seen & known
        hits, ahead, events = (np.count_nonzero(m, axis=axes) for m in (told & seen, told, seen))
        counts[:, k] = hits, events - hits, ahead - hits, pairs - ahead - events + hits
    return counts
