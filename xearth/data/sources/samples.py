"""Real data that ship with the package: sea surface temperature, ENSO indices, and rain.

==============  =========================================================  ===========
name            what                                                       years
==============  =========================================================  ===========
kaplan_sst      Kaplan Extended SST v2 anomalies, 5 degrees, 30S-30N,      1856-2003
                180-70W
oisst           NOAA OISST, 1 degree, 15S-15N, 150E-70W                    1982-1996
oisst_nino34    Nino3.4 of OISST v2                                        1981-2020
cpc_nino        Nino1+2, 3, 3.4 and 4 of NOAA CPC, values and anomalies    1982-2021
xro_indices     ten indices of ORAS5, warm water volume among them         1979-2024
geos_rmm1       hindcasts of the Madden-Julian index RMM1 by GEOS (SubX),  1999-2009
                4 members, 45 days, as the archive labels them
rmm             observed RMM1 and RMM2, daily                              1998-2016
knmi_radar      rainfall rate of the Dutch radars, 5 minutes, 2 km         2010-08-26
mnist_digits    1,500 handwritten digits of MNIST, for made sequences      --
==============  =========================================================  ===========

Each file states its source, license and citation in its attributes; the page *Sample data*
of the documentation repeats them. ``ci/make_samples.py`` and ``ci/make_radar_sample.py`` write
the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, overload

import xarray as xr

from ...errors import SourceError

__all__ = ["available", "open"]

FOLDER = Path(__file__).parents[1] / "samples"

_CARRIED = ("title", "source", "license", "references")


def available() -> tuple[str, ...]:
    """Return the names that :func:`open` knows.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> samples.available()
    ('cpc_nino', 'geos_rmm1', 'kaplan_sst', 'knmi_radar', 'mnist_digits', 'oisst',
     'oisst_nino34', 'rmm', 'xro_indices')
    """
    return tuple(sorted(path.stem for path in FOLDER.glob("*.nc")))


@overload
def open(
    name: Literal["geos_rmm1", "kaplan_sst", "knmi_radar", "oisst", "oisst_nino34"],
    *,
    chunks: Any = ...,
) -> xr.DataArray: ...
@overload
def open(
    name: Literal["cpc_nino", "mnist_digits", "rmm", "xro_indices"], *, chunks: Any = ...
) -> xr.Dataset: ...
@overload
def open(name: str, *, chunks: Any = ...) -> xr.DataArray | xr.Dataset: ...
def open(name: str, *, chunks: Any = None) -> xr.DataArray | xr.Dataset:
    """Open a sample lazily.

    Parameters
    ----------
    name : str
        One of :func:`available`.
    chunks : optional
        Dask chunks as in :meth:`xarray.Dataset.chunk`; ``{}`` makes one chunk. By default
        xarray's own lazy arrays are used. Either way nothing is read before it is needed.

    Returns
    -------
    DataArray or Dataset
        A DataArray where the file holds one variable (its attributes then include title,
        source, license and references of the file), else a Dataset.

    Raises
    ------
    SourceError
        No sample has that name, or its file cannot be read.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> sst = samples.open("kaplan_sst")
    >>> sst.sizes["time"], sst.units, sst.base_period
    (1776, 'K', '1951-01/1980-12')
    """
    if name not in available():
        raise SourceError(
            f"no sample named {name!r}: expected one of {', '.join(available())}. "
            "Open a file of your own with xarray.open_dataset."
        )
    path = FOLDER / f"{name}.nc"
    try:
        ds = xr.open_dataset(path, engine="netcdf4", decode_coords="all")
    except (OSError, ValueError) as error:
        raise SourceError(
            f"sample {name!r} cannot be read from {path.name}: {error}. Install xearth again."
        ) from error
    if chunks is not None:
        ds = ds.chunk(chunks)
    if len(ds.data_vars) > 1:
        return ds
    (variable,) = ds.data_vars
    da = ds[variable]
    return da.assign_attrs({key: ds.attrs[key] for key in _CARRIED})
