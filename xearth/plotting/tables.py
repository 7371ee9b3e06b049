"""Reading tables of scores: one forecast or several, the variable to draw, what is known of it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..errors import AxisError, ConfigError, MissingDataError
from ..verification.facts import ScoreFacts
from ..verification.one_pass.index_scores import split_name
from ..verification.scores.event_scores import CATEGORICAL
from ..verification.scores.table import facts
from .style import axis_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Tables", "drawn", "facts_of", "has_zero", "lead_axis", "read_tables", "thresholds"]

#: Scores of one forecast, or of several by name.
Tables = xr.Dataset | Mapping[str, xr.Dataset]

#: Seven markers in the order lines take them.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def read_tables(scores: Tables, *, split: str = "forecaster") -> dict[str, xr.Dataset]:
    """Return the scores of each forecast by its name; one alone has the name "".

    Parameters
    ----------
    scores : Dataset or mapping of str to Dataset
        A Dataset with the dimension ``split`` is split along it.
    split : str

    Raises
    ------
    AxisError
        It is neither.

    Examples
    --------
    >>> both = xr.Dataset({"rmse": ("forecaster", [1.0, 2.0])}, {"forecaster": ["a", "b"]})
    >>> list(read_tables(both)), list(read_tables(both.isel(forecaster=0)))
    (['a', 'b'], [''])
    """
    if isinstance(scores, Mapping) and not isinstance(scores, xr.Dataset):
        tables: dict[str, xr.Dataset] = {str(name): table for name, table in scores.items()}
    elif isinstance(scores, xr.Dataset) and split in scores.dims:
        names = [str(name) for name in scores[split].values]
        tables = {n: scores.isel({split: i}, drop=True) for i, n in enumerate(names)}
    else:
        tables = {"": scores}
    wrong = [type(table).__name__ for table in tables.values() if not isinstance(table, xr.Dataset)]
    if wrong or not tables:
        raise AxisError(
            f"expected a Dataset of scores, or a mapping of names to such; found {wrong or 'none'}."
        )
    return tables


def drawn(
    table: xr.Dataset, name: str, dims: Sequence[Hashable], *, optional: Sequence[Hashable] = ()
) -> xr.DataArray:
    """Return a variable with these dimensions, in this order, its values computed.

    Parameters
    ----------
    table : Dataset
    name : str
    dims : sequence of str
        What it must have, and nothing else but ``optional``, which come first.

    Raises
    ------
    AxisError
        It is not there, or has other dimensions.
    MissingDataError
        All its values are missing.
    """
    if name not in table:
        raise AxisError(
            f"no score {name!r} in the Dataset; it holds {sorted(map(str, table.data_vars))}"
        )
    array = table[name]
    extra = [dim for dim in array.dims if dim not in (*dims, *optional)]
    if extra or not set(dims) <= set(array.dims):
        raise AxisError(
            f"{name!r} has dims {array.dims}; expected {tuple(dims)}"
            f"{f', and perhaps {tuple(optional)}' if optional else ''}: select or average the "
            "others first, or ask for by=... in verify"
        )
    array = array.transpose(*(dim for dim in optional if dim in array.dims), *dims).compute()
    if array.size == 0 or array.isnull().all():
        raise MissingDataError(f"{name!r} holds no value to draw, all are missing.")
    return array


def facts_of(name: str) -> ScoreFacts | None:
    """Return what is known of a score, None of a name that no table holds.

    Examples
    --------
    >>> facts_of("nino34_correlation").perfect, facts_of("csi").upper, facts_of("mine")
    (1.0, 1.0, None)
    """
    index = split_name(name)
    name = name if index is None else index[1]
    if name in CATEGORICAL:
        return CATEGORICAL[name]
    try:
        return facts(name)
    except ConfigError:
        return None


def has_zero(name: str) -> bool:
    """Tell if 0 means something for a score: no skill, no error, or no difference.

    Examples
    --------
    >>> has_zero("correlation"), has_zero("rmse_difference"), has_zero("rmse")
    (True, True, False)
    """
    facts = facts_of(name)
    return name.endswith("_difference") if facts is None else facts.lower < 0


def lead_axis(ax: Axes, lead: xr.DataArray) -> None:
    """Label the horizontal axis of leads, whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel(f"lead ({lead.attrs.get('units', 'steps')})")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 3, 5, 6, 10]))


def thresholds(table: xr.DataArray) -> list[tuple[str, xr.DataArray]]:
    """Return the part of each threshold with its label, such as "5 mm h-1"; [("", all)] of none."""
    if "threshold" not in table.dims:
        return [("", table)]
    units = str(table["threshold"].attrs.get("units", "1"))
    unit = "" if units == "1" else f" {axis_label_units(units)}"
    values = np.asarray(table["threshold"].values)
    return [(f"{value:g}{unit}", table.isel(threshold=i)) for i, value in enumerate(values)]


def axis_label_units(units: str) -> str:
    """Return a unit as figures write it."""
    return axis_label(xr.DataArray(0.0, name="x", attrs={"units": units}))[3:-1]
