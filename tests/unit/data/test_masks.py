"""Masks: fill and restore are inverses; what a model expects must be there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xearth.cf.packing import fill_values
from xearth.data.masks import fill, require_valid, restore, static_mask, valid_mask
from xearth.errors import MissingDataError


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=4),
        elements=st.floats(-9, 9, width=32) | st.just(np.nan),
    )
)
def test_fill_and_restore(values: np.ndarray) -> None:
    valid = valid_mask(values)
    np.testing.assert_array_equal(valid, values == values)  # only NaN differs from itself
    filled = fill(values.copy(), valid)
    assert not np.isnan(filled).any()
    assert (filled[~valid] == 0).all()
    np.testing.assert_array_equal(restore(filled, valid), values)
    expected = [
        [valid[..., i, j].any() for j in range(valid.shape[-1])] for i in range(valid.shape[-2])
    ]
    np.testing.assert_array_equal(static_mask(valid), expected)


def test_declared_fill_values() -> None:
    attrs = {"_FillValue": np.int16(-1), "missing_value": np.array([-1, -2], dtype="i2")}
    assert fill_values(attrs) == (-1, -2)
    values = np.array([3, -1, -2], dtype="i2")
    valid = valid_mask(values, fill_values(attrs))
    np.testing.assert_array_equal(valid, [True, False, False])
    np.testing.assert_array_equal(fill(values.copy(), valid), values)  # integers stay packed
    np.testing.assert_array_equal(restore(values.copy(), valid), values)
    assert fill_values({"_FillValue": np.nan}) != ()
    assert valid_mask(np.array([1, 2]), (np.nan,)).all()


def test_require_valid_names_the_cell() -> None:
    expected = np.array([[True, True], [False, True]])
    valid = np.ones((3, 2, 2), dtype=bool)
    valid[:, 1, 0] = False
    require_valid(valid, expected, "sst")
    valid[2, 1, 1] = False
    with pytest.raises(MissingDataError, match=r"'sst'.*in 3 cells.*1 missing.*row 1, column 1"):
        require_valid(valid, expected, "sst")
