"""A short text that tells two forecasters (or two sets of labels) apart by what they hold."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["fingerprint"]

_PLAIN = (str, bytes, int, float, complex, bool, type(None), np.generic)


def fingerprint(obj: Any) -> str:
    """Return 32 hexadecimal digits that depend on the content of an object alone.

    Arrays, tensors, labeled arrays and dataclasses count with all they hold, so that a forecaster
    and what :func:`xearth.load` makes of its file are the same. Of an object of another kind the
    class and the attributes count; of an attribute that is none of these, the class alone.

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
    digest = hashlib.sha256()
    for part in _parts(obj, 0):
        digest.update(part)
    return digest.hexdigest()[:32]


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
    kind = obj if isinstance(obj, type) or callable(obj) else type(obj)
    yield f"<{kind.__module__}.{getattr(kind, '__qualname__', type(kind).__name__)}>".encode()
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        names = [field.name for field in dataclasses.fields(obj)]
        yield from _parts({name: getattr(obj, name) for name in names}, depth + 1)
    elif depth == 0 and hasattr(obj, "__dict__") and not isinstance(obj, type):
        yield from _parts(vars(obj), depth + 1)
