r"""Reader of SEVIR, storms over the United States in radar, satellite and lightning maps.

The data are not shipped here. As distributed they are a folder with ``CATALOG.csv`` and, below
``data``, HDF5 files whose names the catalog holds:

=========  ================================  ==============  ========================  ===========
type       what                              on file         physical                  pixels
=========  ================================  ==============  ========================  ===========
``vil``    vertically integrated liquid      uint8, 255 is   kg m-2, see below         384 of 1 km
           (radars)                          missing
``vis``    reflectance at 0.64 um            int16           1e-4, fraction            768 of
                                                                                       0.5 km
``ir069``  brightness temperature, 6.9 um    int16           0.01 degC                 192 of 2 km
``ir107``  brightness temperature, 10.7 um   int16           0.01 degC                 192 of 2 km
``lght``   flashes of lightning              table for each  number in 5 minutes       48 of 8 km
                                             event
=========  ================================  ==============  ========================  ===========

A file holds (event, y, x, time) under the name of its type, 49 frames of 5 minutes from two hours
before the time of the event to two hours after it. Pixel values :math:`v` of ``vil`` stand for

.. math::

   0 \; (v \le 5), \qquad (v - 2) / 90.66 \; (5 < v \le 18), \qquad
   \exp((v - 83.9) / 38.9) \; (18 < v \le 254).

*Stack and event.* :func:`open` gives all events of a split as one lazy stack (event, time, y, x),
on a nominal time axis that all share: what a network is trained on, in windows of
:data:`WINDOW`. :func:`event` takes one of them and gives it its own times, its projection and its
latitudes and longitudes.

*SEVIR-LR* is every second frame and the largest of each 3 x 3 pixels, of the numbers on file; as
distributed it is a folder of the same layout, which opens in the same way.

*Lightning.* A row of a table is the time in s, latitude, longitude, and x and y in pixels, of one
flash. Frame :math:`k` counts the flashes of the 5 minutes that begin with it; those earlier than
the first frame are counted in it, as the published loader does.

*Rows* are taken to run northward from the lower left corner that the catalog gives; the
description of the data does not say so in words.

Sources: Veillette, M., S. Samsi and C. Mattioli (2020): SEVIR: a storm event imagery dataset for
deep learning applications in radar and satellite meteorology. NeurIPS 33; Gao, Z. and others
(2022), Earthformer, arXiv:2207.05833, and (2023), PreDiff, arXiv:2307.10422, and their data
modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from xarray.core import indexing

from ...errors import ConfigError, SourceError
from ..normalize import Normalizer
from ..windows import Window
from .lazy import Items
from .places import placed
from .sevir_files import (
    MINUTES,
    TYPES,
    keys,
    pixels_from_vil,
    read,
    reduced_shape,
    verified,
    vil_from_pixels,
)

__all__ = [
    "SPLITS",
    "TYPES",
    "WINDOW",
    "WINDOW_LR",
    "catalog",
    "event",
    "normalizer",
    "open",
    "pixels_from_vil",
    "vil_from_pixels",
]

#: 13 frames in, 12 out, three windows an event, as published; and those of SEVIR-LR, 7 and 6.
WINDOW = Window(history=13, horizon=12, stride=12)
WINDOW_LR = Window(history=7, horizon=6, stride=6)

#: Splits by the time of the event, after the first date up to and with the second. Earthformer's
#: are train, validation and test; PreDiff trains on "development" (and takes a tenth of its
#: windows, at random, for validation) and has the same test.
SPLITS: Mapping[str, tuple[str | None, str | None]] = {
    "train": (None, "2019-01-01"),
    "validation": ("2019-01-01", "2019-06-01"),
    "test": ("2019-06-01", None),
    "development": (None, "2019-06-01"),
}

_COLUMNS = ("id", "file_name", "file_index", "img_type", "time_utc", "pct_missing")
_CORNERS = ("llcrnrlat", "llcrnrlon", "urcrnrlat", "urcrnrlon")
_EPOCH = np.datetime64("2000-01-01", "ns")
_SHOWN = 3


def catalog(
    folder: str | Path, *, types: Sequence[str] = ("vil",), split: str | None = None
) -> pd.DataFrame:
    """Return the rows of the catalog that pass its published filters.

    Kept are rows of the types without missing data (``pct_missing`` is 0), of events that have
    exactly one row of each type, in the split; in the order of their ids.

    Parameters
    ----------
    folder : path
        Where ``CATALOG.csv`` is.
    types : sequence of str
        Of :data:`TYPES`: an event counts if it has all of them.
    split : str, optional
        Of :data:`SPLITS`; by default all.

    Returns
    -------
    pandas.DataFrame
        Columns as on file; the index is the line of the file, the header being line 1.

    Raises
    ------
    SourceError
        The catalog is missing, lacks columns, or no row is left.
    ConfigError
        There is no such type or split.

    Examples
    --------
    >>> from xearth.data.sources import sevir
    >>> sevir.catalog("sevir", types=("vil", "ir107"), split="test")  # doctest: +SKIP
    """
    for name in types:
        if name not in TYPES:
            raise ConfigError(f"type {name!r}: expected of {', '.join(TYPES)}.")
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split={split!r}: expected one of {', '.join(SPLITS)}.")
    path = Path(folder) / "CATALOG.csv"
    if not path.is_file():
        raise SourceError(f"{path}: no such file. Give the folder of SEVIR that holds it.")
    try:
        rows = pd.read_csv(path, low_memory=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as a catalog: {error}.") from error
    absent = [name for name in _COLUMNS if name not in rows]
    if absent:
        raise SourceError(f"{path}: expected the columns {_COLUMNS}, found none of {absent}.")
    rows.index = pd.RangeIndex(2, len(rows) + 2, name="line")
    rows["time_utc"] = pd.to_datetime(rows["time_utc"])
    kept = rows[(rows["pct_missing"] == 0) & rows["img_type"].isin(types)]
    after, until = SPLITS[split] if split is not None else (None, None)
    kept = kept if after is None else kept[kept["time_utc"] > pd.Timestamp(after)]
    kept = kept if until is None else kept[kept["time_utc"] <= pd.Timestamp(until)]
    by_id = kept.groupby("id")["img_type"]
    whole = (by_id.transform("size") == len(types)) & (by_id.transform("nunique") == len(types))
    kept = kept[whole].sort_values(["id", "img_type"], kind="stable")
    if kept.empty:
        raise SourceError(
            f"{path}: no event has one complete row of each of {', '.join(types)} in the split "
            f"{split or 'of all'}; {len(rows)} rows were read, with types "
            f"{', '.join(map(str, rows['img_type'].unique()))}."
        )
    return kept


def open(
    folder: str | Path,
    img_type: str = "vil",
    *,
    split: str | None = None,
    types: Sequence[str] | None = None,
    low_resolution: bool = False,
    packed: bool = False,
    chunks: Any = None,
) -> xr.DataArray:
    """Open the events of a split lazily, as one stack on a nominal time axis.

    Parameters
    ----------
    folder : path
        Where ``CATALOG.csv`` and the folder ``data`` are.
    img_type : str
        Of :data:`TYPES`.
    split : str, optional
        Of :data:`SPLITS`; by default all events.
    types : sequence of str, optional
        Which ones an event must have, by default ``img_type`` alone: give the same for every type
        to get the same events.
    low_resolution : bool, default False
        Make SEVIR-LR of the whole data: every second frame, maxima of 3 x 3 pixels.
    packed : bool, default False
        The numbers on file, with a scale among the attributes where there is one, as networks of
        the published tables are trained on (``vil`` as pixel values). Otherwise physical units,
        missing as NaN.
    chunks : optional
        Dask chunks as in :meth:`xarray.DataArray.chunk`, by default xarray's own lazy arrays. A
        file is read event by event: ``{"event": 1}`` fits, and ``.load()`` what fits in memory.

    Returns
    -------
    DataArray (event, time, y, x)
        ``event`` holds the ids; beside it are the time and place of each. No map is read.

    Raises
    ------
    SourceError
        The catalog or files are missing, truncated, or do not hold what rows of the catalog
        name; the rows are told by their lines.
    MissingDependencyError
        h5py is not installed.
    ConfigError
        There is no such type or split, or SEVIR-LR of another type than ``vil``.

    Examples
    --------
    >>> from xearth.data.sources import sevir
    >>> vil = sevir.open("sevir", "vil", split="train", packed=True)  # doctest: +SKIP
    >>> vil.dims, vil.dtype, vil.sizes["time"]                        # doctest: +SKIP
    (('event', 'time', 'y', 'x'), dtype('uint8'), 49)
    """
    rows = catalog(folder, types=(img_type,) if types is None else types, split=split)
    rows = rows[rows["img_type"] == img_type]
    if rows.empty:
        raise ConfigError(f"types={types}: expected {img_type!r}, which is opened, among them.")
    if low_resolution and img_type != "vil":
        raise ConfigError(f"low_resolution of {img_type!r}: SEVIR-LR is made of 'vil'.")
    home = Path(folder) / "data"
    home = home if home.is_dir() else Path(folder)
    paths = [home / str(name) for name in rows["file_name"]]
    places = list(zip(paths, keys(rows, img_type), strict=True))
    shape = verified(rows, places, img_type)
    shape = reduced_shape(shape, home) if low_resolution else shape
    kind = TYPES[img_type]
    read_one = partial(read, places, img_type, low_resolution=low_resolution, packed=packed)
    dtype = kind.dtype if packed else "float32"
    lazy = indexing.LazilyIndexedArray(Items(len(rows), shape, dtype, read_one))
    dims = ("event", "time", "y", "x")
    da = xr.DataArray(
        xr.Variable(dims, lazy, _attrs(img_type, packed=packed)),
        _labels(rows, shape),
        name=img_type,
    )
    return da if chunks is None else da.chunk(chunks)


def event(stack: xr.DataArray, name: str) -> xr.DataArray:
    """Return one event with its own times and place.

    Parameters
    ----------
    stack : DataArray (event, time, y, x)
        Of :func:`open`.
    name : str
        Id of the event.

    Returns
    -------
    DataArray (time, y, x)
        UTC, projected y and x, lat, lon and grid mapping; lazy like the stack.

    Raises
    ------
    SourceError
        There is no such event in the stack, or its projection is not known.

    Examples
    --------
    >>> from xearth.data.sources import sevir
    >>> vil = sevir.open("sevir", split="test")          # doctest: +SKIP
    >>> storm = sevir.event(vil, "S858968")              # doctest: +SKIP
    >>> storm.dims, storm.units                          # doctest: +SKIP
    (('time', 'y', 'x'), 'kg m-2')
    """
    names = stack["event"].values.tolist()
    if name not in names:
        raise SourceError(
            f"event {name!r}: expected one of the {len(names)} in the stack, such as "
            f"{', '.join(map(str, names[:_SHOWN]))}. It may lie in another split, or have data "
            "missing."
        )
    one = stack.isel(event=names.index(name))
    unplaced = [name for name in (*_CORNERS, "proj") if name not in one.coords]
    if unplaced:
        raise SourceError(
            f"event {name!r}: expected its place, found no {', '.join(unplaced)}. The stack must "
            "be that of sevir.open, and CATALOG.csv hold these columns."
        )
    minutes = one["minutes"].values * np.timedelta64(60 * 10**9, "ns")
    time = {"standard_name": "time", "long_name": "time (UTC)", "axis": "T"}
    one = one.assign_coords(time=("time", one["event_time"].values + minutes, time))
    south, west, north, east = (float(one[corner]) for corner in _CORNERS)
    gone = ["event_time", "minutes", "proj", *_CORNERS]
    return placed(one.drop_vars(gone), str(one["proj"].values), (south, west), (north, east))


def normalizer(img_type: str = "vil", *, scaling: Literal["01", "sevir"] = "01") -> Normalizer:
    """Return a published normalization, for data opened packed.

    Parameters
    ----------
    img_type : str
    scaling : {"01", "sevir"}
        ``"01"``, of the published tables, divides ``vil`` by 255 and leaves the others as they
        are on file; ``"sevir"`` is that of the data's authors.

    Returns
    -------
    Normalizer

    Examples
    --------
    >>> normalizer("vil").scale
    (255.0,)
    """
    if img_type not in TYPES or scaling not in ("01", "sevir"):
        raise ConfigError(
            f"img_type={img_type!r}, scaling={scaling!r}: expected one of {', '.join(TYPES)}, and "
            "'01' or 'sevir'."
        )
    kind = TYPES[img_type]
    plain = (1 / 255, 0.0) if img_type == "vil" else (1.0, 0.0)
    scale, offset = kind.published if scaling == "sevir" else plain
    center = -offset * kind.factor + 0.0
    units = "1" if img_type == "vil" else kind.units
    return Normalizer((img_type,), (center,), (kind.factor / scale,), (units,))


# --- labels ------------------------------------------------------------------------------


def _attrs(img_type: str, *, packed: bool) -> dict[str, Any]:
    kind = TYPES[img_type]
    attrs: dict[str, Any] = {"long_name": kind.name, "units": kind.units}
    if kind.units == "degC":
        attrs |= {"standard_name": "toa_brightness_temperature"}
    if packed and img_type == "vil":
        attrs |= {"long_name": f"pixel value of {kind.name}", "units": "1"}
    if packed and kind.factor != 1.0:
        attrs["scale_factor"] = kind.factor
    if packed and kind.fill is not None:
        attrs["_FillValue"] = np.dtype(kind.dtype).type(kind.fill)
    attrs["references"] = "Veillette, M., S. Samsi and C. Mattioli (2020): SEVIR. NeurIPS 33"
    return attrs


def _labels(rows: pd.DataFrame, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return the coordinates of a stack; y and x are distances from the corner, if it is known."""
    frames, height, width = shape
    step = (MINUTES.size - 1) // (frames - 1) if frames > 1 else 0
    if frames == 1 or step * (frames - 1) != MINUTES.size - 1:
        raise SourceError(
            f"expected 49 frames of 5 minutes, or 25 of 10, found {frames}. Other intervals are "
            "not published."
        )
    minutes = MINUTES[::step]
    nominal = _EPOCH + (minutes - minutes[0]) * np.timedelta64(60 * 10**9, "ns")
    time = {"standard_name": "time", "long_name": "time, nominal", "axis": "T"}
    of_event = {"long_name": "time of the event (UTC)"}
    coords: dict[str, Any] = {
        "event": ("event", rows["id"].to_numpy(str), {"long_name": "id of the event"}),
        "time": ("time", nominal, time),
        "y": ("y", np.arange(height) + 0.5, _pixel("row, from the south", "Y")),
        "x": ("x", np.arange(width) + 0.5, _pixel("column, from the west", "X")),
        "minutes": ("time", minutes, {"long_name": "minutes after the time of the event"}),
        "event_time": ("event", rows["time_utc"].to_numpy("datetime64[ns]"), of_event),
    }
    for name in (*_CORNERS, "proj"):
        if name in rows:
            values = rows[name].to_numpy(str if name == "proj" else float)
            coords[name] = ("event", values, {"long_name": f"{name} of the catalog"})
    return coords


def _pixel(name: str, axis: str) -> dict[str, str]:
    return {"long_name": name, "units": "1", "axis": axis}
