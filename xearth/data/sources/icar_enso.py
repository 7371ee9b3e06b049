r"""Reader of ICAR-ENSO, the data of the 2021 competition that Earthformer's ENSO table is on.

The archive (``enso_round1_train_20210201``) is not shipped here and has to be downloaded. Its
files and their dimensions:

==============  ==========================================  =======================================
file            variables                                   rows (``year``)
==============  ==========================================  =======================================
CMIP_train.nc   sst, t300, ua, va (year, month, lat, lon)   4645: 15 CMIP6 runs of 151, then 17
                                                            CMIP5 runs of 140
CMIP_label.nc   nino (year, month)                          the same
SODA_train.nc   as CMIP_train.nc                            100: an ocean reanalysis
SODA_label.nc   nino (year, month)                          the same
==============  ==========================================  =======================================

*Folding.* A row is 36 months (``month``) that begin 12 months after those of the row before, so
two thirds of the file repeat what other rows hold. With :math:`R` rows a run has
:math:`N = 12 R + 24` months. The first :math:`36 B` of them, :math:`B = \lfloor (R-1)/3 \rfloor +
1`, come from the rows :math:`0, 3, 6, \dots`, the others from the end of the last row:

.. math::

   x_m = \begin{cases} D_{3 \lfloor m/36 \rfloor,\ m \bmod 36} & m < 36 B \\
                       D_{R-1,\ 36 - (N - m)} & \textrm{else.} \end{cases}

*Time.* The files hold no dates. All runs are put on one time axis of nominal years, one run after
the other with empty years between, so that a :class:`~xearth.Window`, which crosses no gap (and
warns that there are some), never mixes two runs, and a period selects runs. Run :math:`k` (0 to 31
in the order of the file) begins in January of the year :math:`1 + 160 k`; ``run`` names it. The
windows of the published training set are the starts of ``Window(12, 14)`` on that axis: 52,350.

*Grid.* 24 latitudes from 55S to 60N and, of the 72 longitudes of the file, the 48 from 95E to
330E that the table is on, every 5 degrees; plain labeled coordinates again.

*Label.* ``nino34`` is the Nino3.4 anomaly, mean of the month and the two after it.

*Normalization* of the table's MSE: minimum and range of the CMIP6 field, :func:`normalizer`.

Sources: Gao, Z. and others (2022), Earthformer, arXiv:2207.05833, and its data module of ICAR-ENSO;
Tianchi competition 531871.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from ...cf.timeaxis import TimeAxis
from ...errors import ConfigError, SourceError
from ..normalize import Normalizer
from ..windows import Window

__all__ = ["LAT", "LON", "RUNS", "SPLITS", "Run", "normalizer", "open", "starts"]

Whole = npt.NDArray[np.int64]

MONTHS, STRIDE, BLOCK = 36, 12, 3  # of a row; between rows; rows that do not overlap
PERIOD = 160  # nominal years from one run to the next: no window is longer than the rest

#: Latitudes of the file, longitudes of the file and those of the table, degrees.
LAT = np.arange(-55.0, 61.0, 5.0)
WHOLE_LON = np.arange(0.0, 360.0, 5.0)
LON = np.arange(95.0, 331.0, 5.0)

# Extremes of the CMIP6 field, K, by which the published data module scales.
LOWEST, HIGHEST = -16.549121856689453, 10.198975563049316

_DIFFERENCE = {"units": "K", "units_metadata": "temperature: difference"}
_ATTRS = {
    "sst": {
        "standard_name": "sea_surface_temperature",
        "long_name": "sea surface temperature anomaly",
        **_DIFFERENCE,
    }
}
_LABEL = {
    "standard_name": "sea_surface_temperature",
    "long_name": "Nino3.4 sea surface temperature anomaly, mean of the month and the two after it",
    "target": "forward mean over 3 steps",
    **_DIFFERENCE,
}
_DIMS = ("year", "month", "lat", "lon")


@dataclass(frozen=True)
class Run:
    """One run of a climate model: its rows in the file and its nominal years.

    Attributes
    ----------
    name : str
    first : int
        Its first row.
    rows : int
    year : int
        Nominal year in which it begins.

    Examples
    --------
    >>> RUNS[0], RUNS[0].months
    (Run(name='CMIP6-01', first=0, rows=151, year=1), 1836)
    >>> RUNS[-1], RUNS[-1].months
    (Run(name='CMIP5-17', first=4505, rows=140, year=4961), 1704)
    """

    name: str
    first: int
    rows: int
    year: int

    @property
    def months(self) -> int:
        """Length of the series that its rows fold to."""
        return STRIDE * self.rows + MONTHS - STRIDE

    def places(self) -> tuple[Whole, Whole]:
        """Return row and month of the file, one of each per month of the series.

        Examples
        --------
        >>> row, month = Run("short", 10, 5, 1).places()
        >>> row[[0, 35, 36, 71, 72, 83]].tolist(), month[[0, 35, 36, 71, 72, 83]].tolist()
        ([10, 10, 13, 13, 14, 14], [0, 35, 0, 35, 24, 35])
        """
        m = np.arange(self.months, dtype=np.int64)
        whole = MONTHS * ((self.rows - 1) // BLOCK + 1)
        row = np.where(m < whole, BLOCK * (m // MONTHS), self.rows - 1)
        month = np.where(m < whole, m % MONTHS, MONTHS - (self.months - m))
        return self.first + row, month

    def stamps(self) -> npt.NDArray[np.object_]:
        """Return the first day of each month, in a calendar without leap years."""
        years = range(self.year, self.year + self.months // 12)
        return np.array([cftime.DatetimeNoLeap(y, m, 1) for y in years for m in range(1, 13)])


def _runs() -> tuple[Run, ...]:
    found: list[Run] = []
    for generation, number, rows in (("CMIP6", 15, 151), ("CMIP5", 17, 140)):
        for i in range(number):
            first = found[-1].first + found[-1].rows if found else 0
            year = 1 + PERIOD * len(found)
            found.append(Run(f"{generation}-{i + 1:02d}", first, rows, year))
    return tuple(found)


#: The runs of CMIP_train.nc, in its order. The archive does not name the models.
RUNS = _runs()

#: What each split holds, as published: 15 CMIP6 and 15 CMIP5 runs, the 16th, and the 17th CMIP5
#: run; and the reanalysis, which the table does not use.
SPLITS: Mapping[str, tuple[Run, ...]] = {
    "train": RUNS[:30],
    "validation": RUNS[30:31],
    "test": RUNS[31:],
    "soda": (Run("SODA", 0, 100, 1),),
}


def open(
    folder: str | Path,
    *,
    split: str = "train",
    variables: Sequence[str] = ("sst",),
    first_year: int = 1,
    chunks: Any = None,
) -> xr.Dataset:
    """Open a split lazily, folded to series and labeled.

    Parameters
    ----------
    folder : path
        Where ``CMIP_train.nc`` and ``CMIP_label.nc`` (``SODA_train.nc`` and ``SODA_label.nc``
        for ``"soda"``) are.
    split : {"train", "validation", "test", "soda"}
        As published: see :data:`SPLITS`.
    variables : sequence of str
        Of the fields in the file; ``sst`` gets units and names, others keep what attributes the
        file has.
    first_year : int
        Nominal year of the reanalysis' first row. The file does not say it; give it if you know
        it, so that its months can be told from those that are judged.
    chunks : optional
        Dask chunks as in :meth:`xarray.Dataset.chunk`; by default xarray's own lazy arrays.

    Returns
    -------
    Dataset
        Fields (time, lat, lon), anomalies in physical units, and ``nino34`` (time), all in one
        axis of nominal years; ``run`` (time) names the runs. Only coordinates are read.

    Raises
    ------
    SourceError
        A file is missing or cannot be read, or its layout is another one.
    ConfigError
        An unknown split, or a first year for runs that have nominal ones.

    Examples
    --------
    >>> from xearth.data.sources import icar_enso
    >>> sst = icar_enso.open("enso_round1_train_20210201", split="test").sst  # doctest: +SKIP
    >>> sst.dims, sst.shape, sst.units                                        # doctest: +SKIP
    (('time', 'lat', 'lon'), (1704, 24, 48), 'K')
    """
    if split not in SPLITS:
        raise ConfigError(f"split={split!r}: expected one of {', '.join(SPLITS)}.")
    if first_year != 1 and split != "soda":
        raise ConfigError(
            f"first_year={first_year}: the runs of climate models keep their nominal years, so "
            "that the splits do not collide. It is for split='soda'."
        )
    runs, prefix = SPLITS[split], "SODA" if split == "soda" else "CMIP"
    fields, labels = (_opened(Path(folder), f"{prefix}_{kind}.nc") for kind in ("train", "label"))
    rows = 100 if split == "soda" else RUNS[-1].first + RUNS[-1].rows
    found = {name: _field(fields, name, rows) for name in variables}
    found["nino34"] = _checked(labels, "nino", _DIMS[:2], rows).assign_attrs(_LABEL)
    ds = xr.Dataset(
        {name: _folded(da, runs) for name, da in found.items()}, _times(runs, first_year - 1)
    )
    ds.attrs = {
        "title": f"ICAR-ENSO, {split} split of the published table",
        "source": f"{prefix}_train.nc and {prefix}_label.nc of enso_round1_train_20210201",
        "references": "Gao, Z. and others (2022): Earthformer: exploring space-time transformers "
        "for Earth system forecasting. arXiv:2207.05833",
        "comment": "Anomalies as distributed; climatology and years are not stated. Years are "
        "nominal, with empty ones between runs.",
    }
    return ds if chunks is None else ds.chunk(chunks)


def normalizer() -> Normalizer:
    """Return the normalization of the published table, the same for all splits.

    Examples
    --------
    >>> scale = normalizer()
    >>> scale.units, round(scale.scale[0], 6)
    (('K',), 26.748097)
    """
    return Normalizer(
        variables=("sst",),
        center=(LOWEST,),
        scale=(HIGHEST - LOWEST,),
        units=("K",),
        kind="minmax",
        difference=(True,),
    )


def starts(data: xr.DataArray | xr.Dataset, window: Window) -> Whole:
    """Return the positions of the inits of the published samples, counted anew in each run.

    Parameters
    ----------
    data : DataArray or Dataset
        Of :func:`open`.
    window : Window
        Its stride is the ``samples_gap`` of the published set-ups.

    Returns
    -------
    array of int64

    Examples
    --------
    >>> time = np.concatenate([run.stamps() for run in RUNS[:2]])
    >>> coords = {"time": time, "run": ("time", np.repeat(["CMIP6-01", "CMIP6-02"], 1836))}
    >>> data = xr.DataArray(np.zeros(3672), coords, ("time",))
    >>> starts(data, Window(history=12, horizon=26, stride=10)).size
    360
    """
    names = data["run"].values
    found = []
    for name in dict.fromkeys(names.tolist()):
        own = np.flatnonzero(names == name)
        found.append(own[window.starts(TimeAxis.from_array(data["time"][own]))])
    return np.concatenate(found)


def _opened(folder: Path, name: str) -> xr.Dataset:
    path = folder / name
    if not path.is_file():
        known = ", ".join(sorted(p.name for p in folder.glob("*.nc"))) or "no NetCDF file"
        raise SourceError(
            f"ICAR-ENSO needs {name} in {str(folder)!r}; found "
            f"{known if folder.is_dir() else 'no such folder'}. Unzip enso_round1_train_20210201 "
            "of the competition and give that folder."
        )
    try:
        return xr.open_dataset(path, decode_times=False)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{name} cannot be read as NetCDF: {error}. Unzip the archive again."
        ) from error


def _checked(ds: xr.Dataset, name: str, dims: tuple[str, ...], rows: int) -> xr.DataArray:
    """Return a variable with the dimensions of the distribution in their order."""
    path = Path(str(ds.encoding.get("source", "file"))).name
    if name not in ds.data_vars:
        raise SourceError(
            f"{path}: expected a variable {name!r}, found {sorted(map(str, ds.data_vars))}. "
            "The files are named CMIP_train.nc (fields) and CMIP_label.nc (nino)."
        )
    da = ds[name]
    if set(da.dims) != set(dims):
        raise SourceError(f"{path}: expected {name}{dims}, found the dimensions {da.dims}.")
    sizes: dict[str, tuple[int, ...]] = {
        "year": (rows,), "month": (MONTHS,), "lat": (LAT.size,), "lon": (WHOLE_LON.size, LON.size)
    }  # fmt: skip
    for dim in dims:
        if da.sizes[dim] not in sizes[dim]:
            expected = " or ".join(map(str, sizes[dim]))
            raise SourceError(
                f"{path}: expected {expected} along {dim!r}, found {da.sizes[dim]}. This reads "
                "the files as distributed, rows of 36 months that overlap; a file that is folded "
                "or cut already is opened with xarray.open_dataset."
            )
    return da.transpose(*dims)


def _field(ds: xr.Dataset, name: str, rows: int) -> xr.DataArray:
    """Return a field on the labeled grid of the table."""
    da = _checked(ds, name, _DIMS, rows)
    grids = {"lat": LAT, "lon": WHOLE_LON if da.sizes["lon"] == WHOLE_LON.size else LON}
    for dim, expected in grids.items():
        own = da[dim].values if dim in da.coords else expected
        if np.array_equal(own, np.arange(own.size)):  # numbered, not labeled
            own = expected
        if not np.array_equal(np.sort(own % 360 if dim == "lon" else own), expected):
            raise SourceError(
                f"{name}: expected {dim} from {expected[0]:g} to {expected[-1]:g} in steps of 5 "
                f"degrees, found {own.size} values from {own.min():g} to {own.max():g}."
            )
        da = da.assign_coords({dim: own % 360 if dim == "lon" else own}).sortby(dim)
    da = da.isel(lon=np.flatnonzero(np.isin(da["lon"].values, LON)))
    axes = {"lat": ("latitude", "degrees_north", "Y"), "lon": ("longitude", "degrees_east", "X")}
    for dim, (standard, units, axis) in axes.items():
        label = {"standard_name": standard, "long_name": standard, "units": units, "axis": axis}
        da = da.assign_coords({dim: (dim, da[dim].values.astype(np.float64), label)})
    return da.assign_attrs(_ATTRS.get(name, {}))


class _Folded(BackendArray):
    """Rows that overlap, read as one series of months; nothing is read before it is asked for."""

    def __init__(self, rows: xr.Variable, row: Whole, month: Whole) -> None:
        self.rows, self.row, self.month = rows, row, month
        self.shape = (row.size, *rows.shape[2:])
        self.dtype = rows.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        outer = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, outer, self._read)

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        at = np.arange(self.shape[0])[key[0]]
        needed, place = np.unique(self.row[at], return_inverse=True)
        block = self.rows[(needed, slice(None), *key[1:])].values
        read: npt.NDArray[Any] = block[place.reshape(np.shape(at)), self.month[at]]
        return read


def _folded(da: xr.DataArray, runs: tuple[Run, ...]) -> xr.DataArray:
    """Return the rows of runs as one series, lazily."""
    row, month = (np.concatenate(part) for part in zip(*(r.places() for r in runs), strict=True))
    dims = ("time", *da.dims[2:])
    series = indexing.LazilyIndexedArray(_Folded(da.variable, row, month))
    coords = {name: da.coords[name].variable for name in da.dims[2:]}
    return xr.DataArray(xr.Variable(dims, series, da.attrs), coords)


def _times(runs: tuple[Run, ...], shift: int) -> dict[str, Any]:
    stamps = np.concatenate([replace(run, year=run.year + shift).stamps() for run in runs])
    names = np.repeat([run.name for run in runs], [run.months for run in runs])
    time = {"standard_name": "time", "long_name": "time, nominal years", "axis": "T"}
    return {
        "time": ("time", stamps, time),
        "run": ("time", names, {"long_name": "run of a climate model"}),
    }
