"""Open a field from a file, or say in one line why not."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import xarray as xr

from ..errors import ConfigError, MissingDependencyError, SourceError

__all__ = ["apart", "open_dataset", "open_field", "picture", "with_suffix", "writable"]


def open_dataset(path: str | os.PathLike[str], *, decode_times: bool = True) -> xr.Dataset:
    """Open a NetCDF file or a Zarr store lazily, bounds and grid mappings as coordinates.

    Raises
    ------
    SourceError
        If there is no such file, or it cannot be read as NetCDF or Zarr.
    """
    path = Path(path)
    if not path.exists():
        raise SourceError(f"no file {str(path)!r}; check the path (now in {Path.cwd()})")
    try:
        if path.is_dir():
            return xr.open_zarr(path, decode_coords="all", decode_times=decode_times)
        return xr.open_dataset(path, decode_coords="all", decode_times=decode_times, chunks={})
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        detail = " ".join(str(error).split())[:200]
        raise SourceError(
            f"{str(path)!r} cannot be read as NetCDF or Zarr ({type(error).__name__}: {detail}); "
            "check that the file is whole and of one of these formats"
        ) from error


def open_field(path: str | os.PathLike[str], variable: str | None = None) -> xr.DataArray:
    """Open one variable of a file lazily.

    Parameters
    ----------
    path : path-like
        NetCDF file or Zarr store.
    variable : str, optional
        Name of the variable; not needed if the file holds one only.

    Raises
    ------
    SourceError
        If the file cannot be opened, does not hold `variable`, or holds several and none
        was named.
    """
    dataset = open_dataset(path)
    names = sorted(str(name) for name in dataset.data_vars)
    if variable is None:
        if len(names) != 1:
            raise SourceError(
                f"{str(path)!r} holds {len(names)} variables: {', '.join(names) or 'none'}; "
                "choose one with --variable"
            )
        variable = names[0]
    if variable not in names:
        raise SourceError(
            f"{str(path)!r} holds no variable {variable!r}; it holds: {', '.join(names) or 'none'}"
        )
    return dataset[variable]


def writable(path: Path) -> Path:
    """Return `path` if a file can be written there, before long work begins.

    Raises
    ------
    SourceError
        If the folder does not exist or may not be written.
    """
    folder = path.parent
    if not folder.is_dir():
        raise SourceError(f"no folder {str(folder)!r} to write {path.name!r} into; create it first")
    if not os.access(folder, os.W_OK):
        raise SourceError(f"the folder {str(folder)!r} of {path.name!r} may not be written")
    return path


def with_suffix(path: Path, suffixes: tuple[str, ...], option: str) -> Path:
    """Return `path` if its name ends as the format wants it.

    Raises
    ------
    ConfigError
        If it ends otherwise.
    """
    if path.suffix not in suffixes:
        raise ConfigError(
            f"{option} {str(path)!r}: expected a name ending in {' or '.join(suffixes)}, "
            f"found {path.suffix or 'none'!r}; rename it, for example {path.stem}{suffixes[0]}"
        )
    return path


def picture(path: Path) -> Path:
    """Return `path` if matplotlib can write a figure under its name.

    Raises
    ------
    ConfigError
        If its name ends otherwise.
    MissingDependencyError
        If matplotlib is not installed.
    SourceError
        As :func:`writable`.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise MissingDependencyError(
            f"--plot {str(path)!r} needs matplotlib, which is not installed; "
            "pip install 'xearth[plot]'"
        ) from error
    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in formats:
        raise ConfigError(
            f"--plot {str(path)!r}: expected a name ending in one of .{', .'.join(formats)}, found "
            f"{path.suffix or 'none'!r}; rename it, for example {path.stem}.png"
        )
    return writable(path)


def apart(outputs: Mapping[str, Path | None], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Make sure that nothing that is read, and nothing else that is written, is written over.

    Parameters
    ----------
    outputs : mapping
        What is written, by its option; None where nothing is.
    inputs : iterable of path
        What is read: files, stores and patterns.

    Raises
    ------
    ConfigError
        If an output is an input or another output, by whatever name, or lies inside one of them
        or around it.
    """
    read = [Path(found) for one in inputs for found in (glob.glob(str(one)) or [str(one)])]
    taken = {f"the input {str(path)!r}": path for path in read}
    for option, path in outputs.items():
        if path is None:
            continue
        for what, other in taken.items():
            if _overlap(path, other):
                raise ConfigError(
                    f"{option} {str(path)!r} would write over {what}; give it another name"
                )
        taken[f"the file of {option}"] = path


def _overlap(one: Path, other: Path) -> bool:
    if one.exists() and other.exists() and one.samefile(other):
        return True
    a, b = one.resolve(), other.resolve()
    return a == b or a in b.parents or b in a.parents
