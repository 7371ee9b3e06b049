"""Assertions: the round trip is exact, and nothing lazy is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr

from ..data.tensors import to_tensor

__all__ = ["assert_roundtrip", "assert_same", "raise_if_dask_computes"]


def assert_same(found: Any, expected: Any) -> None:
    """Assert that two labeled objects agree in everything the round trip promises.

    Values bit for bit (any NaN equals any NaN), dims order, coordinates and their order, names,
    attributes, encoding, dtypes, chunks, and the indexes.

    Parameters
    ----------
    found, expected : DataArray or Dataset

    Raises
    ------
    AssertionError
        Names the first thing that differs.

    Examples
    --------
    >>> da = xr.DataArray([1.0, np.nan], dims="x", name="a")
    >>> assert_same(da.copy(), da)
    """
    xr.testing.assert_identical(found, expected)
    _equal("type", type(found), type(expected))
    _equal("encoding", _texts(found.encoding), _texts(expected.encoding))
    _equal("order of coordinates", list(found.coords), list(expected.coords))
    _equal("indexes", list(found.xindexes), list(expected.xindexes))
    if isinstance(expected, xr.DataArray):
        pairs = [("data", found.variable, expected.variable)]
    else:
        _equal("order of variables", list(found.data_vars), list(expected.data_vars))
        pairs = [(str(n), found[n].variable, v.variable) for n, v in expected.data_vars.items()]
    pairs += [(str(n), found[n].variable, v.variable) for n, v in expected.coords.items()]
    for name, mine, its in pairs:
        _same_variable(name, mine, its)


def _same_variable(name: str, found: xr.Variable, expected: xr.Variable) -> None:
    """Assert that two variables agree in dims, dtype, encoding, chunks and bits."""
    _equal(f"dims of {name}", found.dims, expected.dims)
    _equal(f"dtype of {name}", found.dtype, expected.dtype)
    _equal(f"chunks of {name}", found.chunks, expected.chunks)
    _equal(f"encoding of {name}", _texts(found.encoding), _texts(expected.encoding))
    if expected.dtype.kind == "f":
        mine, its = found.values, expected.values
        present = ~np.isnan(its)
        _equal(f"sign bits of {name}", np.signbit(mine)[present].tolist(),
               np.signbit(its)[present].tolist())  # fmt: skip


def _texts(encoding: Mapping[Any, Any]) -> dict[str, str]:
    """Return an encoding in comparable form: NaN equals NaN, arrays are one value."""
    return {str(key): repr(value) for key, value in encoding.items()}


def _equal(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def assert_roundtrip(obj: xr.DataArray | xr.Dataset, **options: Any) -> None:
    """Assert that ``to_tensor(obj).to_array()`` is ``obj`` again, in everything.

    Parameters
    ----------
    obj : DataArray or Dataset
    **options
        Given to `xearth.data.tensors.to_tensor`; with ``dtype`` the expected object is cast.

    Raises
    ------
    AssertionError
        Names the first thing that differs.

    Examples
    --------
    >>> assert_roundtrip(xr.DataArray(
    ...     [[1.0, 2.0]], dims=("lat", "lon"),
    ...     coords={"lat": ("lat", [0.0], {"units": "degrees_north"}),
    ...             "lon": ("lon", [0.0, 1.0], {"units": "degrees_east"})}))
    """
    labeled = to_tensor(obj, **options)
    steps = labeled.tensor.shape
    _equal("axes of the tensor", len(steps), 5)
    expected = obj
    if options.get("dtype") is not None:
        encoding = dict(obj.encoding)
        expected = obj.astype(str(labeled.tensor.dtype).removeprefix("torch."))
        expected.encoding = encoding
    assert_same(labeled.to_array(), expected)


@contextmanager
def raise_if_dask_computes(max_computes: int = 0) -> Iterator[None]:
    """Raise if Dask computes more than ``max_computes`` graphs inside the ``with`` block.

    Parameters
    ----------
    max_computes : int
        Graphs allowed.

    Raises
    ------
    RuntimeError
        At the first graph too many.

    Examples
    --------
    >>> import dask.array as da
    >>> with raise_if_dask_computes():
    ...     total = da.ones(3).sum()
    >>> with raise_if_dask_computes(max_computes=1):
    ...     float(total.compute())
    3.0
    """
    import dask

    count = 0

    def scheduler(graph: Any, keys: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count > max_computes:
            raise RuntimeError(
                f"Dask: expected at most {max_computes} computed graphs, found {count}. "
                "Something lazy was computed too early."
            )
        get: Callable[..., Any] = dask.get
        return get(graph, keys, **kwargs)

    with dask.config.set(scheduler=scheduler):
        yield
