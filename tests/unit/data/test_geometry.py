"""Orders of rows and columns against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.data.geometry import column_match, column_order, eastward, inverse, is_global, take

CASES = {
    "global 0..360": (np.arange(0.0, 360, 30), np.arange(12)),
    "global -180..180": (np.arange(-180.0, 180, 30), np.arange(12)),
    "global starting in the Pacific": (np.arange(30.0, 390, 30) % 360, np.arange(12)),
    "global westward": (np.arange(0.0, 360, 90)[::-1], np.arange(4)[::-1]),
    "global with a cyclic column": (np.array([0.0, 120, 240, 360]), np.arange(4)),
    "date line in eastward order": (np.array([170.0, 175, -180, -175]), np.arange(4)),
    "date line sorted": (np.array([-180.0, -175, 170, 175]), np.array([2, 3, 0, 1])),
    "Greenwich in 0..360 unsorted": (np.array([350.0, 355, 0, 5]), np.arange(4)),
    "Greenwich in 0..360 sorted": (np.array([0.0, 5, 350, 355]), np.array([2, 3, 0, 1])),
    "westward region": (np.array([290.0, 285, 280]), np.array([2, 1, 0])),
    "shuffled": (np.array([20.0, 0, 10]), np.array([1, 2, 0])),
    "one column": (np.array([200.0]), np.array([0])),
    "half the globe": (np.arange(-90.0, 91, 30), np.arange(7)),
    "wider than half, cut at the date line": (
        np.array([-180.0, -150, -120, -90, 60, 90, 120, 150]),
        np.array([4, 5, 6, 7, 0, 1, 2, 3]),
    ),
}


@pytest.mark.parametrize(("lon", "expected"), CASES.values(), ids=CASES.keys())
def test_column_order(lon: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(column_order(lon), expected)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 359), min_size=2, max_size=8, unique=True),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, -180.0]),
)
def test_column_order_does_not_depend_on_storage(
    columns: list[int], random: object, low: float
) -> None:
    """A region has one widest gap, wherever its columns are stored."""
    gaps = np.diff(np.sort(columns), append=min(columns) + 360)
    if np.sort(gaps)[-1] <= 1.5 * np.sort(gaps)[-2]:
        return
    lon = (np.array(columns, dtype=float) - low) % 360 + low
    shuffled = lon.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for stored in (lon, shuffled, np.sort(lon), np.sort(lon)[::-1]):
        canonical = eastward(stored[column_order(stored)])
        assert np.all(np.diff(canonical) > 0)
        start = np.sort(columns)[(np.argmax(gaps) + 1) % len(columns)]
        assert canonical[0] % 360 == start
        np.testing.assert_array_equal(np.sort(canonical % 360), np.sort(columns))


def test_float32_noise_does_not_break_a_global_grid() -> None:
    lon = (np.arange(0, 360, 0.25) + 1e-5).astype(np.float32)
    np.testing.assert_array_equal(column_order(lon), np.arange(lon.size))
    assert is_global(eastward(lon))


def test_match_rolls_only_global_grids() -> None:
    whole = np.arange(0.0, 360, 10)
    index = column_match(whole, whole - 180, 0.1)
    assert index is not None
    np.testing.assert_allclose((whole - 180)[index] % 360, whole)
    part = np.arange(120.0, 280, 10)
    assert column_match(part, part - 360, 0.1) is not None
    assert column_match(part, part + 10, 0.1) is None
    assert column_match(part, np.roll(part, 3), 0.1) is None


@given(st.permutations(range(6)))
def test_take_and_inverse(order: list[int]) -> None:
    index = np.array(order)
    values = np.arange(18.0).reshape(3, 6)
    turned = take(values, index, 1)
    np.testing.assert_array_equal(turned, values[:, index])
    np.testing.assert_array_equal(take(turned, inverse(index), 1), values)
