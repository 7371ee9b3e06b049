"""SEVIR's files: what each type is, whether they hold what the catalog names, and reading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import MissingDependencyError, SourceError

__all__ = [
    "MINUTES",
    "TYPES",
    "Kind",
    "keys",
    "pixels_from_vil",
    "read",
    "reduced_shape",
    "verified",
    "vil_from_pixels",
]

Array = npt.NDArray[Any]

#: Frames, in minutes from the time of the event.
MINUTES = np.arange(-120, 121, 5)

_SHOWN = 3


@dataclass(frozen=True)
class Kind:
    """How one type is stored and what it means.

    Parameters
    ----------
    name, units : str
    dtype : str
        Of the numbers on file.
    fill : int, optional
        The number that means missing.
    factor : float
        From those numbers to the units.
    pixels : int
        Height and width of a map.
    published : tuple of float
        s and o of the authors' normalization s (v + o).
    """

    name: str
    units: str
    dtype: str = "int16"
    fill: int | None = -32768
    factor: float = 1.0
    pixels: int = 192
    published: tuple[float, float] = (1.0, 0.0)


#: What is known of each type.
TYPES: Mapping[str, Kind] = {
    "vil": Kind(
        "vertically integrated liquid", "kg m-2", "uint8", 255, 1.0, 384, (1 / 47.54, -33.44)
    ),
    "vis": Kind("reflectance at 0.64 um", "1", factor=1e-4, pixels=768),
    "ir069": Kind(
        "brightness temperature at 6.9 um", "degC", factor=0.01, published=(1 / 1174.68, 3683.58)
    ),
    "ir107": Kind(
        "brightness temperature at 10.7 um", "degC", factor=0.01, published=(1 / 2562.43, 1552.80)
    ),
    "lght": Kind(
        "lightning flashes in 5 minutes",
        "1",
        fill=None,
        pixels=48,
        published=(1 / 0.60517, -0.02990),
    ),
}


def vil_from_pixels(pixels: Any) -> Array:
    """Return vertically integrated liquid in kg m-2 of pixel values 0..254; others are missing.

    Examples
    --------
    >>> vil_from_pixels([0, 16, 74, 219, 255]).round(3)
    array([ 0.   ,  0.154,  0.775, 32.234,    nan])
    """
    v = np.asarray(pixels, dtype=np.float64)
    steep = np.exp((v - 83.9) / 38.9)
    found = np.where(v <= 5, 0.0, np.where(v <= 18, (v - 2) / 90.66, steep))
    return np.where((v >= 0) & (v < 255), found, np.nan)


def pixels_from_vil(vil: Any) -> Array:
    """Return pixel values, not rounded, of vertically integrated liquid in kg m-2.

    Examples
    --------
    >>> pixels_from_vil(vil_from_pixels([0, 16, 74, 219])).round(6).tolist()
    [0.0, 16.0, 74.0, 219.0]
    """
    y = np.asarray(vil, dtype=np.float64)
    positive = np.where(y > 0, y, 1.0)
    steep = np.clip(38.9 * np.log(positive) + 83.9, 18, 254)
    found = np.where(y * 90.66 + 2 <= 18 + 1e-9, y * 90.66 + 2, steep)
    return np.where(np.isnan(y), np.nan, np.where(y <= 0, 0.0, found))


def _h5py() -> Any:
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingDependencyError(
            "SEVIR is read with h5py, which is not installed: pip install 'xearth[io]'."
        ) from error
    return h5py


def keys(rows: pd.DataFrame, img_type: str) -> list[Any]:
    """Return what names an event within its file: its index, or its id among the tables."""
    if img_type == "lght":
        return [str(name) for name in rows["id"]]
    return [int(i) for i in rows["file_index"]]


def verified(
    rows: pd.DataFrame, places: list[tuple[Path, Any]], img_type: str
) -> tuple[int, int, int]:
    """Look into every file once and return (T, H, W); tell all rows that it cannot serve."""
    files: dict[Path, list[tuple[int, Any]]] = {}
    for line, (path, key) in zip(rows.index, places, strict=True):
        files.setdefault(path, []).append((line, key))
    shapes: dict[tuple[int, ...], Path] = {}
    problems: list[str] = []
    for path, wanted in files.items():
        try:
            found, absent = _inspected(path, wanted, img_type)
        except OSError as error:
            problems.append(f"{path} (lines {_listed([n for n, _ in wanted])}): {error}")
            continue
        problems += absent
        if found:
            shapes.setdefault(found, path)
    if problems:
        raise SourceError(
            f"SEVIR {img_type}: {len(problems)} entries of the catalog cannot be read:\n  "
            + "\n  ".join(problems[:10])
            + ("\n  ..." if len(problems) > 10 else "")
            + "\nDownload these files again, or leave their lines out of CATALOG.csv."
        )
    if img_type == "lght":
        return (MINUTES.size, TYPES["lght"].pixels, TYPES["lght"].pixels)
    if len(shapes) > 1:
        (one, first), (two, second) = list(shapes.items())[:2]
        raise SourceError(
            f"SEVIR {img_type}: expected maps of one size, found {one} in {first} and {two} in "
            f"{second} (y, x, time). Keep SEVIR and SEVIR-LR in folders of their own."
        )
    height, width, frames = next(iter(shapes))
    return frames, height, width


def _inspected(
    path: Path, wanted: list[tuple[int, Any]], img_type: str
) -> tuple[tuple[int, ...], list[str]]:
    """Return the shape (H, W, T) in one file, and the rows whose event it lacks."""
    if not path.is_file():
        raise OSError("no such file")
    with _h5py().File(path, "r") as file:
        if img_type == "lght":
            absent = [(line, key) for line, key in wanted if key not in file]
            return (), [f"line {n}: {path} has no table {key!r}" for n, key in absent]
        if img_type not in file or file[img_type].ndim != 4:
            raise OSError(f"expected {img_type!r} (event, y, x, time), found {list(file)}")
        stored = file[img_type]
        absent = [(line, key) for line, key in wanted if not 0 <= key < len(stored)]
        text = f"has {len(stored)} events"
        return stored.shape[1:], [f"line {n}: {path} {text}, not index {k}" for n, k in absent]


def _listed(lines: Sequence[int]) -> str:
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return ", ".join(map(str, lines[:_SHOWN])) + more


def read(
    places: list[tuple[Path, Any]],
    img_type: str,
    number: int,
    *,
    low_resolution: bool,
    packed: bool,
) -> Array:
    """Return one event (T, H, W)."""
    path, key = places[number]
    kind = TYPES[img_type]
    try:
        with _h5py().File(path, "r") as file:
            stored = file[key][()] if img_type == "lght" else file[img_type][key]
    except (OSError, KeyError) as error:
        raise SourceError(f"{path}: event {key!r} cannot be read: {error}.") from error
    if img_type == "lght":
        maps = _flashes(stored)
        return maps if packed else maps.astype(np.float32)
    maps = np.moveaxis(np.asarray(stored, kind.dtype), -1, 0)
    if low_resolution:
        maps = maps[::2]
        t, h, w = maps.shape
        maps = maps.reshape(t, h // 3, 3, w // 3, 3).max((2, 4))
    if packed:
        return maps
    if img_type == "vil":
        table: Array = vil_from_pixels(np.arange(256)).astype(np.float32)
        return np.asarray(table[maps])
    physical = maps.astype(np.float32) * np.float32(kind.factor)
    return np.where(maps == kind.fill, np.float32(np.nan), physical)


def _flashes(table: Array) -> Array:
    """Count the flashes of a table (N, 5) in each pixel and frame."""
    side = TYPES["lght"].pixels
    counts = np.zeros((MINUTES.size, side, side), TYPES["lght"].dtype)
    if not table.size:
        return counts
    seconds, x, y = table[:, 0], table[:, 3], table[:, 4]
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    frame = np.maximum(np.digitize(seconds[inside], MINUTES * 60) - 1, 0)
    np.add.at(counts, (frame, y[inside].astype(int), x[inside].astype(int)), 1)
    return counts


def reduced_shape(shape: tuple[int, int, int], home: Path) -> tuple[int, int, int]:
    """Return the shape (T, H, W) of SEVIR-LR made of maps of a shape."""
    frames, height, width = shape
    if frames != MINUTES.size or height % 3 or width % 3:
        raise SourceError(
            f"{home}: SEVIR-LR is made of 49 frames of 384 x 384, found {frames} of {height} x "
            f"{width}. Data that are of low resolution already open with low_resolution=False."
        )
    return (frames + 1) // 2, height // 3, width // 3
