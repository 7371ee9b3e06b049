"""From any product to what a forecaster reads: anomalies, on its grid.

A forecaster trained on anomalies of one product reads another one as

1. departures from the monthly climatology **of that product itself** (an offset between two
   products, or degrees Celsius in place of anomalies, is then of no account),
2. conservative means over the cells of its own grid (:mod:`xearth.fields.regrid`).

Both are linear in the field, so a derivative goes back the same way
(:mod:`xearth.forecasting.sensitivity`). Cells that a product does not know, such as small seas,
are read as the mean of the training data, as the forecaster does with cells it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr

from ..cf.attrs import append_history
from ..cf.discover import discover
from ..cf.timeaxis import TimeAxis
from ..data.geometry import take
from ..data.grid import Grid
from ..data.normalize import Normalizer
from ..errors import GridMismatchError, MissingDataError, MissingDataWarning, UnitsError, warn
from ..fields.climatology import Base, anomaly
from ..fields.regrid import Regridder
from ..units import compatible, convert, is_difference

if TYPE_CHECKING:
    from ..reference.protocol import Forecaster
    from .forecaster import NetworkForecaster

__all__ = ["Adapted", "Reads", "adapt", "as_history", "base_of", "canonical", "reader_of"]

#: The attribute that says what was done to the data before a forecaster read them.
READ_AS = "xearth_read_as"
#: Part of a cell of the forecaster that must be known: more than a sliver of a coast.
LEAST_OF_A_CELL = 0.1
#: Part of the area a forecaster reads that a product must cover. With the tropics within 15
#: degrees alone, 52 % of what enso-small reads, Nino3.4 of 1983-2003 was forecast as well as with
#: all of it: correlations of .96 .83 .71 .64 .57 at 1, 3, 6, 9, 12 months, and .96 .84 .70 .62 .57.
LEAST_OF_THE_AREA = 0.5
_WORTH_A_WARNING = 0.05
_COARSEST = 2.0  # cells of the data, in cells of the forecaster
_YEARS, _FEWEST_YEARS = 30, 10


class Reads(Protocol):
    """What of a forecaster decides what it can read."""

    @property
    def name(self) -> str:
        """Its name, for messages."""

    @property
    def grid(self) -> Grid:
        """Rows, columns and mask."""

    @property
    def normalizer(self) -> Normalizer:
        """Statistics with units."""

    @property
    def required(self) -> np.ndarray:
        """Cells (H, W) that may not be missing."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where it comes from."""


@dataclass(frozen=True, eq=False)
class Adapted:
    """Data as a forecaster reads them, and the way back.

    Parameters
    ----------
    history : DataArray or Dataset
        On the forecaster's cells, anomalies if it reads those.
    known : array of bool (H, W), optional
        Required cells, south-west first, that the product knows; None if it has the forecaster's
        own cells.
    regridder : Regridder, optional
        None if the data had the forecaster's own cells.
    """

    history: Any
    known: np.ndarray | None = None
    regridder: Regridder | None = None


def as_history(
    obj: xr.DataArray | xr.Dataset,
    model: Forecaster | str | Path,
    *,
    base: Base | None = None,
) -> Any:
    """Return another product as a forecaster reads it: anomalies on the forecaster's grid.

    :func:`xearth.forecast` and :func:`xearth.hindcast` do this themselves. Call it to choose the
    base period, or to see what is read.

    Parameters
    ----------
    obj : DataArray or Dataset (time, lat, lon)
        Any grid of 1-D latitude and longitude, absolute temperatures or anomalies. Dask arrays
        stay lazy (three fields are read, to see which cells are missing).
    model : Forecaster, path or str
        A network, or what reads through one (``enso-diffusion``). Others, such as those of radar,
        say themselves what they cannot read: for them the data are returned as they are.
    base : (str, str) or slice, optional
        Base period of the climatology that is subtracted. By default that of the forecaster's
        training data if the record has it; else the thirty years of the record next to it, or
        all whole years if there are fewer; ten are needed.

    Returns
    -------
    DataArray or Dataset
        ``attrs["base_period"]`` names the base, ``attrs["xearth_read_as"]`` says what was done
        (and forecasts carry both on). Cells less
        than 10 % of which is known hold the mean of the training data. (For a truth to verify
        against use :func:`xearth.regrid`, which leaves them missing.) Data that already are what
        the forecaster reads are returned as they are.

    Raises
    ------
    GridMismatchError
        The product covers less than half of the area that the forecaster reads, has cells more
        than twice as wide, or is the forecaster's own grid cut to a part.
    UnitsError
        Absolute temperatures with too short a record, or anomalies for a forecaster of absolute
        values.
    MissingDataError
        Less than half of the area is known.

    Warns
    -----
    MissingDataWarning
        More than 5 % of the area is not known.

    Examples
    --------
    >>> import xearth
    >>> oisst = xearth.samples.open("oisst")
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # the sample ends at 15S and 15N
    ...     history = xearth.as_history(oisst, "enso-small")
    >>> history.attrs["base_period"], history.attrs["units_metadata"], dict(history.sizes)
    ('1982-01/1996-12', 'temperature: difference', {'time': 180, 'lat': 12, 'lon': 22})
    """
    from .io import forecaster_of

    reader = reader_of(forecaster_of(model))
    if reader is None:
        return obj
    history = adapt(obj, reader.place.settle(reader, obj), base=base).history
    return history if reader.indices is None else reader.indices.kept(obj, history)


def reader_of(forecaster: Any) -> NetworkForecaster | None:
    """Return the network by which a forecaster reads histories, None if it reads them otherwise.

    A network reads them itself; a diffusion about its mean names it in the attribute ``reads``.
    """
    from .forecaster import NetworkForecaster

    reader = getattr(forecaster, "reads", forecaster)
    return reader if isinstance(reader, NetworkForecaster) else None


def adapt(obj: xr.DataArray | xr.Dataset, reads: Reads, *, base: Base | None = None) -> Adapted:
    """Return data as a forecaster reads them; parameters and errors as :func:`as_history`."""
    if isinstance(obj, xr.Dataset) and set(reads.normalizer.variables) <= set(obj.data_vars):
        obj = obj[list(reads.normalizer.variables)]
    regridder = _regridder(obj, reads)
    history = _each(obj, reads, lambda da, i: _departure(da, reads, i, base))
    if regridder is None:
        return Adapted(history)
    part = _cropped(regridder)
    known = _known(obj, part, reads)
    _check_known(known, reads, obj)

    lacking = ~known & reads.required
    sizes = [f"{a} x {b}" for a, b in (regridder.source.shape, regridder.target.shape)]
    told = f"conservative means of {sizes[0]} cells over {sizes[1]}"
    if lacking.any():
        told += f"; {lacking.sum()} of {reads.required.sum()} cells unknown, at the training mean"

    def average(da: xr.DataArray, i: int) -> xr.DataArray:
        made = part.regridder(da.isel(part.crop), minimum_covered=LEAST_OF_A_CELL)
        made = _filled(made, _labeled(lacking, reads.grid), reads.normalizer, i)
        return _telling(made, da.attrs, told)

    return Adapted(_each(history, reads, average), known, regridder)


# -- the grid -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Part:
    """The rows and columns of a source grid that the target reads."""

    crop: dict[Any, np.ndarray]
    regridder: Regridder


def _cropped(whole: Regridder) -> _Part:
    """Return a regridder that reads no cell which the target does not touch."""
    index = [np.flatnonzero(m.any(0)) for m in (whole.rows, whole.columns)]
    crop = dict(zip(whole.source.dims, index, strict=True))
    source = whole.source.isel(crop)
    rows, columns = whole.rows[:, index[0]], whole.columns[:, index[1]]
    return _Part(crop, Regridder(source, whole.target, rows, columns))


def _regridder(obj: xr.DataArray | xr.Dataset, reads: Reads) -> Regridder | None:
    """Return the map to the forecaster's grid, None if the data are on it."""
    axes = discover(obj)
    data = Grid.from_array(obj, axes)
    try:
        reads.grid.align(data)
    except GridMismatchError as error:
        if not (_is_plain(data) and _is_plain(reads.grid)):
            raise
        regridder = Regridder.between(obj, reads.grid.template)
        _check_cover(regridder, reads, data, error)
        return regridder
    return None


def _is_plain(grid: Grid) -> bool:
    """Whether a grid has 1-D latitudes and longitudes."""
    lat, lon = grid.lat, grid.lon
    return lat is not None and lon is not None and lat.ndim == 1 and lon.ndim == 1


def _check_cover(regridder: Regridder, reads: Reads, data: Grid, error: GridMismatchError) -> None:
    """Refuse a product that does not cover what is read, or is too coarse; by coordinates alone."""
    overlap = canonical(regridder.overlap, reads.grid)
    share = _share(overlap >= LEAST_OF_A_CELL, reads)
    expected, found = reads.grid.summary(), data.summary()
    wide = _cell_ratio(data, reads.grid)
    if wide > _COARSEST:
        raise GridMismatchError(
            f"grid of the data: {reads.name!r} expected {expected}, found {found}, whose cells are "
            f"{wide:.1f} times as wide; regridding cannot bring back what they average over. Give "
            f"data with cells at most {_COARSEST:g} times as wide."
        ) from error
    whole = np.isclose(overlap, 0.0) | np.isclose(overlap, 1.0)
    if share < 1 and abs(wide - 1) < 1e-3 and whole.all():
        raise error  # the forecaster's own cells, cut to a part: the rest exists
    if share < LEAST_OF_THE_AREA:
        raise GridMismatchError(
            f"grid of the data: {reads.name!r} expected {expected}, found {found}, which cover "
            f"{share:.0%} of the area it reads; at least {LEAST_OF_THE_AREA:.0%} is needed. Give "
            "data of a larger region (longitudes in any convention), or a forecaster trained on "
            "this one."
        ) from error


def _cell_ratio(data: Grid, model: Grid) -> float:
    """Return the width of the cells of data in cells of a model, the larger of rows, columns."""
    ratios = []
    for mine, its in ((data.lat, model.lat), (data.lon, model.lon)):
        steps = [np.median(np.diff(v)) for v in (mine, its) if v is not None and v.size > 1]
        ratios.append(float(steps[0] / steps[1]) if len(steps) == 2 else 1.0)
    return max(ratios)


def canonical(field: xr.DataArray, grid: Grid) -> np.ndarray:
    """Return a field (..., y, x) on a forecaster's grid as an array, south-west first."""
    values = field.transpose(..., grid.axes.y, grid.axes.x).values
    return take(take(values, grid.y_index, -2), grid.x_index, -1)


def _labeled(values: np.ndarray, grid: Grid) -> xr.DataArray:
    """Return an array (H, W) as a field on the grid, every cell kept."""
    return grid.with_mask(None).label(values)


def _share(known: np.ndarray, reads: Reads) -> float:
    """Return the known part of the area that a forecaster needs."""
    area = reads.grid.cell_weights * reads.required
    return float((area * known).sum() / area.sum())


# -- missing cells ------------------------------------------------------------------------------


def _known(obj: xr.DataArray | xr.Dataset, part: _Part, reads: Reads) -> np.ndarray:
    """Return the cells (H, W) known in the first, a middle or the last step."""
    time = discover(obj).time
    steps = obj.sizes[time]
    few = obj.isel({time: sorted({0, steps // 2, steps - 1}), **part.crop})
    known = np.ones(reads.grid.shape, dtype=bool)
    for variable in few.data_vars.values() if isinstance(few, xr.Dataset) else (few,):
        if set(part.crop) <= set(variable.dims):
            covered = canonical(part.regridder.covered(variable), reads.grid)
            known &= (covered >= LEAST_OF_A_CELL).any(0) if covered.ndim == 3 else covered > 0
    return known


def _check_known(known: np.ndarray, reads: Reads, obj: xr.DataArray | xr.Dataset) -> None:
    """Refuse what is mostly missing, warn of what lacks more than small seas."""
    share = _share(known, reads)
    if 1 - share <= _WORTH_A_WARNING:
        return
    name = obj.name if isinstance(obj, xr.DataArray) else ", ".join(map(str, obj.data_vars))
    lacking = ~known & reads.required
    told = f"{lacking.sum()} of {reads.required.sum()} cells ({_named(lacking, reads.grid)})"
    if share < LEAST_OF_THE_AREA:
        raise MissingDataError(
            f"{name!r}: expected values in at least {LEAST_OF_THE_AREA:.0%} of the area that "
            f"{reads.name!r} reads, found {share:.0%}; missing are {told}. Give data of a larger "
            "region, or fill what is missing."
        )
    warn(
        f"{name!r} knows {share:.0%} of the area that {reads.name!r} reads; {told} are read as the "
        "mean of its training data. Expect a little less skill than with the whole area.",
        MissingDataWarning,
    )


def _named(cells: np.ndarray, grid: Grid) -> str:
    """Return some cells by latitude and longitude."""
    lat, lon = grid.lat, grid.lon
    if lat is None or lon is None:
        return "unnamed"
    found = []
    for row, column in np.argwhere(cells)[:4]:
        y, x = lat[row], (lon[column] + 180.0) % 360.0 - 180.0
        found.append(f"{abs(y):g}{'N' if y >= 0 else 'S'} {abs(x):g}{'E' if x >= 0 else 'W'}")
    return ", ".join(found) + (" ..." if cells.sum() > len(found) else "")


def _filled(da: xr.DataArray, lacking: xr.DataArray, normalizer: Normalizer, i: int) -> Any:
    """Return a variable with the center of its statistics where it lacks a cell."""
    if not bool(lacking.any()):
        return da
    center, unit = normalizer.center[i], normalizer.units[i]
    if unit is not None and "units" in da.attrs:
        center = float(convert(center, unit, da.attrs["units"], difference=is_difference(da.attrs)))
    lacking = lacking.reset_coords(drop=True)
    filled = da.where(da.notnull() | ~lacking, np.asarray(center, da.dtype))
    return filled.transpose(*da.dims)


def _telling(da: xr.DataArray, attrs: Mapping[str, Any], told: str) -> xr.DataArray:
    """Return an array that says what was done to it, where forecasts say it too."""
    told = "; ".join([str(attrs[READ_AS]), told] if READ_AS in attrs else [told])
    history = {"history": attrs["history"]} if "history" in attrs else {}
    kept = {key: value for key, value in da.attrs.items() if key not in ("history", READ_AS)}
    da = da.copy(deep=False)
    da.attrs = append_history(kept | history, told) | {READ_AS: told}
    return da


# -- anomalies ----------------------------------------------------------------------------------


def _departure(da: xr.DataArray, reads: Reads, i: int, base: Base | None) -> xr.DataArray:
    """Return a variable as anomalies if the forecaster reads anomalies and they are none."""
    difference, unit = reads.normalizer.difference[i], reads.normalizer.units[i]
    units = da.attrs.get("units")
    if not difference or unit is None or units is None or not compatible(units, unit):
        return da  # reading it says what is wrong, if anything is
    if is_difference(da.attrs) and base is None:
        return da
    chosen = base if base is not None else base_of(da, reads)
    made = anomaly(da, base=chosen)
    told = f"anomalies from its own monthly means of {made.attrs['base_period']}"
    return _telling(made, da.attrs, told)


def base_of(da: xr.DataArray, reads: Reads) -> tuple[str, str]:
    """Return the base period for the anomalies of a record: see :func:`as_history`.

    Raises
    ------
    UnitsError
        The record is too short, or has no monthly steps.
    """
    axis = TimeAxis.from_array(da[discover(da, require=("time",)).time])
    wanted = _months_of(reads.provenance.get("base_period")) or _months_of(
        reads.provenance.get("training_period")
    )
    if axis.step is None or axis.step.months is None:
        _refuse_absolute(da, reads, f"on steps of {axis.step}, not of months")
    months = axis.style.calendar.months(axis.values)
    first, stop = int(months.min()), int(months.max()) + 1
    if (
        wanted is not None
        and wanted[1] - wanted[0] + 1 >= 12 * _FEWEST_YEARS
        and first <= wanted[0]
        and wanted[1] < stop
    ):
        return _stamp(wanted[0]), _stamp(wanted[1])
    january = first + (-first) % 12
    start = january if (stop - january) // 12 >= _FEWEST_YEARS else first
    years = (stop - start) // 12
    if years < _FEWEST_YEARS:
        _refuse_absolute(da, reads, f"in a record of {(stop - first) / 12:.1f} years")
    length = 12 * min(years, _YEARS)
    starts = np.arange(start, stop - length + 1, 12)
    middle = starts[0] if wanted is None else (wanted[0] + wanted[1] + 1 - length) / 2
    begin = int(starts[np.argmin(np.abs(starts - middle))])
    return _stamp(begin), _stamp(begin + length - 1)


def _refuse_absolute(da: xr.DataArray, reads: Reads, found: str) -> None:
    raise UnitsError(
        f"{da.name!r}: {reads.name!r} reads anomalies (temperature: difference), found absolute "
        f"values {found}; a climatology of its own takes at least {_FEWEST_YEARS} whole years of "
        "months. Give the whole record and choose the start with init; or name a base, "
        "xearth.as_history(da, model, base=(first, last)); or subtract a climatology, "
        "xearth.anomaly(da, clim). If these are anomalies, set attrs['units_metadata'] = "
        "'temperature: difference'."
    )


def _months_of(period: Any) -> tuple[int, int] | None:
    """Return first and last month, counted from the year 0, of "1951-01/1980-12"."""
    try:
        ends = [[int(part) for part in end.split("-")[:2]] for end in str(period).split("/")]
        (y0, m0), (y1, m1) = ends
    except ValueError:
        return None
    return 12 * y0 + m0 - 1, 12 * y1 + m1 - 1


def _stamp(month: int) -> str:
    return f"{month // 12:04d}-{month % 12 + 1:02d}"


def _each(obj: Any, reads: Reads, function: Any) -> Any:
    """Apply ``function(variable, channel)`` to an array, or to what of a Dataset is on cells."""
    if isinstance(obj, xr.DataArray):
        return function(obj, 0)
    axes, names = discover(obj), reads.normalizer.variables
    found = dict(obj.data_vars)
    made = {
        name: function(variable, names.index(str(name)))
        for name, variable in found.items()
        if {axes.y, axes.x} <= set(variable.dims) and name in names
    }
    if all(variable is found[name] for name, variable in made.items()):
        return obj
    return xr.Dataset({**found, **made}, attrs=obj.attrs)
