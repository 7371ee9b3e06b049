"""What every figure shares: colors, labels with units, dates on an axis, optional matplotlib.

The line colors are the Okabe-Ito set, which readers with any color vision can tell apart;
fields use ``RdBu_r`` around zero and ``cividis`` otherwise, for the same reason.

References
----------
Okabe, M. and Ito, K. (2008), Color Universal Design: how to make figures and presentations
that are friendly to colorblind people.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..errors import MissingDependencyError
from ..units import is_difference

if TYPE_CHECKING:
    from types import ModuleType

    from matplotlib.axes import Axes

__all__ = ["COLORS", "LAND", "axes_or_new", "axis_label", "is_signed", "plot_dates", "pyplot"]

#: Okabe-Ito colors in the order lines take them.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

#: How the names of the Nino indices are written.
NINO = {"nino12": "Nino1+2", "nino3": "Nino3", "nino34": "Nino3.4", "nino4": "Nino4"}

_OF_INDEX = re.compile(r" of the index (\w+) \([^)]*\)")

#: Fill of cells without data.
LAND = "#d9d9d9"


def pyplot() -> ModuleType:
    """Return ``matplotlib.pyplot``, or say which extra installs it.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependencyError(
            "a figure was asked for, but matplotlib is not installed; "
            "install it with `pip install 'xearth[plot]'`"
        ) from error
    return plt


def axes_or_new(ax: Axes | None, figsize: tuple[float, float] = (7.2, 4.0)) -> Axes:
    """Return `ax`, or the axes of a new figure of `figsize` inches."""
    if ax is not None:
        return ax
    return pyplot().subplots(figsize=figsize, layout="constrained")[1]


def axis_label(da: xr.DataArray) -> str:
    """Return "name (units)" for an axis or a color bar; the unit 1 is not written.

    What follows the first comma of a long name is left out, the rest broken into lines of 42
    characters; a Nino index goes by its name.

    Examples
    --------
    >>> import xarray as xr
    >>> axis_label(xr.DataArray(0.0, attrs={"long_name": "sea temperature", "units": "degC"}))
    'sea temperature (°C)'
    >>> axis_label(xr.DataArray(0.0, attrs={"long_name": "bias of the index nino3 (5S-5N, ...)"}))
    'bias of Nino3'
    """
    name = da.attrs.get("long_name") or da.attrs.get("standard_name") or da.name or "value"
    name = _OF_INDEX.sub(lambda found: f" of {NINO.get(found[1], found[1])}", str(name))
    name = name.partition(",")[0]
    if da.name in NINO:
        name = NINO[str(da.name)] + (" anomaly" if is_difference(da.attrs) else " SST")
    units = str(da.attrs.get("units", "1"))
    pretty = {"degC": "°C", "Celsius": "°C", "degrees_north": "°N", "degrees_east": "°E"}
    units = pretty.get(units, units)
    text = name.replace("_", " ")
    return textwrap.fill(text if units in ("", "1") else f"{text} ({units})", 42)


def is_signed(da: xr.DataArray) -> bool:
    """Return whether zero is the natural middle: a difference, or values of both signs."""
    if is_difference(da.attrs):
        return True
    values = np.asarray(da.values, dtype=float)
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() < 0 < finite.max())


def plot_dates(values: Any) -> np.ndarray:
    """Return stamps as ``datetime64[D]`` that matplotlib can draw.

    Stamps of other calendars keep year, month and day; a day that the civil calendar lacks
    (30 February of ``360_day``) becomes the last one of that month.

    Parameters
    ----------
    values : array_like of datetime64 or cftime.datetime
        Any shape.

    Returns
    -------
    numpy.ndarray
        ``datetime64[D]``, same shape.
    """
    values = np.asarray(values)
    if np.issubdtype(values.dtype, np.datetime64):
        return values.astype("datetime64[D]")
    dates = np.empty(values.shape, dtype="datetime64[D]")
    for index, stamp in np.ndenumerate(values):
        month = np.datetime64(f"{stamp.year:04d}-{stamp.month:02d}", "M")
        last = (month + 1).astype("datetime64[D]") - 1
        dates[index] = min(month.astype("datetime64[D]") + (stamp.day - 1), last)
    return dates
