"""Items read one by one are indexed as the array they stand for, and no more of them are read."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from xarray.core import indexing

from xearth.data.sources.lazy import Items

WHOLE = np.arange(5 * 3 * 4 * 2, dtype="i2").reshape(5, 3, 4, 2)
DIMS = ("item", "time", "y", "x")


def lazy(seen: list[int]) -> xr.DataArray:
    def read(k: int) -> np.ndarray:
        seen.append(k)
        return WHOLE[k]

    items = Items(5, (3, 4, 2), "i2", read)
    return xr.DataArray(xr.Variable(DIMS, indexing.LazilyIndexedArray(items)))


@st.composite
def key(draw, size: int):
    kinds = [
        st.integers(-size, size - 1),
        st.slices(size).filter(lambda k: (k.step or 1) > 0 or range(size)[k]),
        st.lists(st.integers(-size, size - 1), max_size=4).map(lambda k: np.array(k, int)),
    ]
    return draw(st.one_of(kinds))


@settings(deadline=None)
@given(st.fixed_dictionaries({d: key(n) for d, n in zip(DIMS, WHOLE.shape, strict=True)}))
def test_any_orthogonal_index(keys):
    seen: list[int] = []
    found = lazy(seen).isel(keys)
    assert not seen
    expected = xr.DataArray(WHOLE, dims=DIMS).isel(keys)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.values.dtype == np.int16


@pytest.mark.parametrize(("keys", "wanted"), [({"item": 2}, [2]), ({"item": [4, 0]}, [0, 4])])
def test_only_what_is_asked_for_is_read(keys, wanted):
    seen: list[int] = []
    lazy(seen).isel({**keys, "time": 1}).load()
    assert seen == wanted
