"""Short texts that tell two forecasters, or two sets of data, apart by what they hold.

:func:`fingerprint` depends on content alone. :func:`identity` is the same where all content can be
seen, and different each time where it cannot, so that equal identities always mean equal content.
:func:`data_identity` tells data apart without reading what is lazy: there the name of the Dask
graph counts, and it holds the path of a file and the time of its last change.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from types import FunctionType
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["data_identity", "fingerprint", "identity"]

_PLAIN = (
    str, bytes, int, float, complex, bool, type(None), np.generic, slice, range, enum.Enum,
    datetime.date, datetime.timedelta,
)  # fmt: skip
_OPAQUE = b"<opaque "
_DEPTH = 12  # of objects within objects; deeper ones cannot be seen
_SLAB = 64 * 2**20  # bytes that are read together


def fingerprint(obj: Any) -> str:
    """Return 32 hexadecimal digits that depend on the content of an object alone.

    Arrays, tensors, labeled arrays and dataclasses count with all they hold, so that a forecaster
    and what :func:`xearth.load` makes of its file are the same. Of an object of another kind the
    class and the attributes count; of what cannot be seen (a lambda, a generator of random
    numbers, an object written in C) the class alone.

    Parameters
    ----------
    obj : object

    Returns
    -------
    str

    Examples
    --------
    >>> fingerprint({"a": 1, "b": [2.0]}) == fingerprint({"b": [2.0], "a": 1})
    True
    >>> fingerprint(np.zeros(3)) == fingerprint(np.zeros(4))
    False
    """
    return _digest(_parts(obj, 0))


def identity(obj: Any) -> str:
    """Return the :func:`fingerprint` where it tells everything, else one that never comes again.

    Parameters
    ----------
    obj : object

    Returns
    -------
    str

    Examples
    --------
    >>> identity([1, np.zeros(3)]) == fingerprint([1, np.zeros(3)])
    True
    >>> step = lambda x: x + 1
    >>> identity([step]) == identity([step])
    False
    """
    parts = list(_parts(obj, 0))
    if any(part.startswith(_OPAQUE) for part in parts):
        parts.append(uuid.uuid4().bytes)
    return _digest(parts)


def data_identity(obj: xr.DataArray | xr.Dataset) -> str:
    """Return 32 hexadecimal digits that two sets of data share only if their values are the same.

    Of values in memory, and of those of a file opened without Dask, which are read for this a
    part at a time, the content counts. Of Dask arrays the name of the graph counts, and the size
    and the time of the last change of each file of a local Zarr store that it reads.

    Parameters
    ----------
    obj : DataArray or Dataset

    Returns
    -------
    str

    Examples
    --------
    >>> a = xr.DataArray(np.zeros(3), dims="x")
    >>> data_identity(a) == data_identity(a.copy()), data_identity(a) == data_identity(a + 1)
    (True, False)
    >>> data_identity(a.chunk()) == data_identity(a.copy().chunk())
    True
    """
    variables = dict(obj.coords.variables)
    if isinstance(obj, xr.Dataset):
        variables |= dict(obj.variables)
    else:
        variables[obj.name] = obj.variable
    return _digest(
        part
        for name in sorted(variables, key=str)
        for part in _variable_parts(name, variables[name])
    )


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]


def _variable_parts(name: Any, variable: xr.Variable) -> Iterator[bytes]:
    """Yield what tells one variable from others, without keeping any of its values."""
    units = [variable.attrs.get(key) for key in ("units", "units_metadata")]
    yield f"<variable {name!s} {variable.dims} {variable.shape} {variable.dtype} {units}>".encode()
    if variable.chunks is not None:
        yield f"<graph {variable.data.name}>".encode()
        for path in sorted(_stores(variable.data)):
            yield from _signature(path)
    elif variable.ndim == 0 or variable.nbytes <= _SLAB:
        yield from _array(np.asarray(variable[(slice(None),) * variable.ndim].values))
    else:
        rows = max(1, _SLAB * variable.shape[0] // variable.nbytes)
        for begin in range(0, variable.shape[0], rows):
            yield from _array(np.asarray(variable[begin : begin + rows].values))


def _stores(data: Any) -> set[Path]:
    """Return the folders of the local Zarr arrays that a Dask array reads.

    Their name in the graph knows the time of the folder alone, which stays when values change.
    """
    found = set()
    for name, layer in data.__dask_graph__().layers.items():
        if not str(name).startswith("original-"):
            continue
        array = next(iter(dict(layer).values()))
        array = getattr(array, "value", array)
        while hasattr(array, "array"):  # what decodes and indexes lazily
            array = array.array
        array = array.get_array() if hasattr(array, "get_array") else array
        root = getattr(getattr(array, "store", None), "root", None)
        if root is not None:
            found.add(Path(root) / str(array.path))
    return found


def _signature(folder: Path) -> Iterator[bytes]:
    """Yield the name, the size and the time of each file of a folder."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            facts = os.stat(os.path.join(place, name))
            yield f"<{place}/{name} {facts.st_size} {facts.st_mtime_ns}>".encode()


def _parts(obj: Any, depth: int) -> Iterator[bytes]:
    """Yield the content of an object, each piece with what it is."""
    if isinstance(obj, _PLAIN):
        yield f"<{type(obj).__name__} {obj!r}>".encode()
    elif isinstance(obj, np.ndarray):
        yield from _array(obj)
    elif isinstance(obj, xr.DataArray | xr.Dataset | xr.Variable):
        yield from _labeled(obj, depth)
    elif isinstance(obj, Mapping):
        yield f"<mapping {len(obj)}>".encode()
        for key in sorted(obj, key=str):
            yield f"<key {key!s}>".encode()
            yield from _parts(obj[key], depth)
    elif isinstance(obj, set | frozenset):
        yield from _parts(sorted(obj, key=fingerprint), depth)
    elif isinstance(obj, list | tuple):
        yield f"<sequence {len(obj)}>".encode()
        for item in obj:
            yield from _parts(item, depth)
    elif isinstance(obj, PurePath | np.dtype):
        yield f"<{obj}>".encode()
    elif hasattr(obj, "detach") and hasattr(obj, "numpy"):  # a tensor, without importing torch
        yield from _array(obj.detach().cpu().numpy())
    else:
        yield from _object(obj, depth)


def _array(array: np.ndarray) -> Iterator[bytes]:
    yield f"<array {array.dtype} {array.shape}>".encode()
    if array.dtype.kind == "O":
        yield repr(array.ravel().tolist()).encode()
    else:
        yield np.ascontiguousarray(array).tobytes()


def _labeled(obj: xr.DataArray | xr.Dataset | xr.Variable, depth: int) -> Iterator[bytes]:
    if isinstance(obj, xr.Variable):
        yield f"<variable {obj.dims}>".encode()
        yield from _parts(dict(obj.attrs), depth)
        yield from _array(np.asarray(obj.values))
        return
    variables = dict(obj.variables) if isinstance(obj, xr.Dataset) else dict(obj.coords)
    yield f"<labeled {getattr(obj, 'name', None)!s}>".encode()
    yield from _parts({name: getattr(v, "variable", v) for name, v in variables.items()}, depth)
    yield from _parts(obj.variable if isinstance(obj, xr.DataArray) else dict(obj.attrs), depth)


def _object(obj: Any, depth: int) -> Iterator[bytes]:
    kind = obj if isinstance(obj, type | FunctionType) else type(obj)
    name = f"{kind.__module__}.{kind.__qualname__}"
    yield f"<{name}>".encode()
    local = "<locals>" in name or "<lambda>" in name  # several may have this name
    if local:
        yield _OPAQUE + b"kind>"
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        fields = [field.name for field in dataclasses.fields(obj)]
        yield from _parts({field: getattr(obj, field) for field in fields}, depth + 1)
    elif isinstance(obj, type | FunctionType):
        return
    elif _is_plain(obj) and depth < _DEPTH:
        yield from _parts(vars(obj), depth + 1)
    else:
        yield _OPAQUE + b"object>"


def _is_plain(obj: Any) -> bool:
    """Tell whether the attributes of an object are all it holds."""
    kind = type(obj)
    ordinary = kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__
    whole = ordinary and kind.__getstate__ is object.__getstate__
    return whole and hasattr(obj, "__dict__")
