"""Which cases (pairs of start and lead) belong together in a result.

=====================  ==========================================================================
``init``, ``lead``     each start, each lead
``month``, ``season``  calendar month and season of the start
``year``               year of the start
``valid_month`` ...    the same of the valid time
=====================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...errors import ConfigError

__all__ = ["PERIODS", "Groups", "groups_of"]

#: Periods that cases can be grouped by, of the start or (``valid_...``) of the valid time.
PERIODS = ("month", "season", "year")

_SEASONS = np.array(["DJF", "MAM", "JJA", "SON"])


@dataclass(frozen=True, eq=False)
class Groups:
    """A number for every case, and the labels of the groups.

    Parameters
    ----------
    codes : array (I, L)
        Position of the group of each case in the product of the labels.
    coords : dict
        One coordinate for each dimension of the result, in their order.
    """

    codes: npt.NDArray[np.int64]
    coords: dict[str, xr.Variable]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of labels along each dimension."""
        return tuple(coord.size for coord in self.coords.values())

    @property
    def size(self) -> int:
        """Number of groups, empty ones included."""
        return int(np.prod(self.shape, dtype=np.int64))


def groups_of(
    by: Sequence[str], coords: Mapping[str, xr.Variable], names: tuple[str, str]
) -> Groups:
    """Group the cases.

    Parameters
    ----------
    by : sequence of str
    coords : mapping
        Labels of starts and leads, and ``valid_time`` where it is known.
    names : (str, str)
        Names of the dimensions of starts and leads.

    Raises
    ------
    ConfigError
        A name that is none of these, or a period without times.
    """
    init, lead = (coords[name] for name in names)
    shape = (init.size, lead.size)
    codes = np.zeros(shape, dtype=np.int64)
    labels: dict[str, xr.Variable] = {}
    for name in by:
        if name in ("init", names[0]):
            label, code = init, np.broadcast_to(np.arange(init.size)[:, None], shape)
        elif name in ("lead", names[1]):
            label, code = lead, np.broadcast_to(np.arange(lead.size), shape)
        else:
            label, code = _period(name, coords, names[0], shape)
        labels[str(label.dims[0])] = label
        codes = codes * label.size + code
    return Groups(codes, labels)


def _period(
    name: str, coords: Mapping[str, xr.Variable], init: str, shape: tuple[int, int]
) -> tuple[xr.Variable, npt.NDArray[np.int64]]:
    kind = name.removeprefix("valid_")
    if kind not in PERIODS:
        known = ["init", "lead", *PERIODS, *(f"valid_{period}" for period in PERIODS)]
        raise ConfigError(
            f"cannot group by {name!r}: expected some of {known}, 'region', or the dimensions of "
            "the grid."
        )
    of_start = kind == name
    times = coords.get(init if of_start else "valid_time")
    if times is None or times.dtype.kind not in "MO":
        raise ConfigError(
            f"by={name!r} needs times; found {'no valid time' if times is None else times.dtype}. "
            "Give the starts as dates and the leads their units."
        )
    dates = xr.DataArray(times.values.ravel(), dims="case").dt
    found = getattr(dates, "month" if kind == "season" else kind).values
    of = "start" if of_start else "valid time"
    attrs = {"long_name": f"{'calendar ' if kind == 'month' else ''}{kind} of the {of}"}
    if kind == "season":
        found = (found // 3) % 4
    values, codes = np.unique(found, return_inverse=True)
    codes = codes.reshape(times.shape if times.ndim == 2 else (-1, 1))
    label = _SEASONS[values] if kind == "season" else values
    return xr.Variable((name,), label, attrs), np.broadcast_to(codes, shape)
