"""Motion and extrapolation against what moves in a known way."""

from __future__ import annotations

import numpy as np
import pytest

from xearth.reference.flow import displacements, motion, sample, warp

ROWS, COLUMNS = np.mgrid[:96.0, :120.0]


def pattern(y, x):
    """Smooth field without an end: waves of several lengths and directions."""
    return (
        np.sin(0.21 * x + 0.10 * y)
        + np.sin(0.15 * y - 0.07 * x + 1)
        + np.sin(0.11 * x - 0.13 * y + 2)
        + np.sin(0.05 * x + 0.06 * y)
    )


def moved(v, t):
    """Pattern after t steps of uniform motion."""
    return pattern(ROWS - v[0] * t, COLUMNS - v[1] * t)


def turned(omega, t):
    """Pattern after t steps of rotation about the middle."""
    y, x = ROWS - 47.5, COLUMNS - 59.5
    c, s = np.cos(omega * t), np.sin(omega * t)
    return pattern(c * y - s * x, s * y + c * x)


@pytest.mark.parametrize("v", [(0.0, 0.0), (0.4, -0.3), (1.7, 2.6), (-3.0, 5.0)])
@pytest.mark.parametrize("frames", [2, 3])
def test_uniform_motion_is_found(v, frames):
    found = motion(np.stack([moved(v, t) for t in range(frames)]))
    assert found.shape == (96, 120, 2)
    inner = found[8:-8, 8:-8]
    assert np.abs(inner - v).max() < 0.05


def test_forecast_of_uniform_motion_is_the_moved_field():
    v = (1.2, -0.7)
    past = np.stack([moved(v, t) for t in (-2, -1, 0)])
    ahead = warp(past[-1], displacements(motion(past), 12))
    for n, field in enumerate(ahead, start=1):
        truth = moved(v, n)
        known = np.isfinite(field)
        assert known.mean() > 0.6  # what has come from beyond the edge is missing
        error = np.sqrt(np.mean((field - truth)[known] ** 2))
        stays = np.sqrt(np.mean((past[-1] - truth)[known] ** 2))
        assert error < 0.02 < 0.1 < stays


def test_without_motion_the_forecast_is_persistence():
    field = moved((0, 0), 0)
    v = motion(np.stack([field] * 3))
    assert np.abs(v).max() < 1e-12
    np.testing.assert_allclose(warp(field, displacements(v, 3)), np.stack([field] * 3), atol=1e-9)


@pytest.mark.parametrize("field", [np.zeros((40, 50)), np.full((40, 50), np.nan)])
def test_where_there_is_no_pattern_there_is_no_motion(field):
    assert (motion(np.stack([field, field])) == 0).all()


def test_a_pattern_of_one_direction_says_nothing_of_the_other():
    stripes = [np.sin(0.2 * (COLUMNS - 0.5 * t)) for t in range(3)]
    found = motion(np.stack(stripes))[8:-8, 8:-8]
    np.testing.assert_allclose(found[..., 0], 0.0, atol=1e-6)
    np.testing.assert_allclose(found[..., 1], 0.5, atol=0.05)


def test_a_lone_pattern_moves_all_cells():
    """Cells far from any pattern follow the motion of all cells together."""
    blob = [np.exp(-((ROWS - 30 - t) ** 2 + (COLUMNS - 30 - 2 * t) ** 2) / 60) for t in range(3)]
    np.testing.assert_allclose(motion(np.stack(blob))[90, 110], (1, 2), atol=0.05)


def test_rotation_is_found():
    omega = 0.02
    found = motion(np.stack([turned(omega, t) for t in (-2, -1, 0)]), window=4, stiffness=0.01)
    y, x = ROWS - 47.5, COLUMNS - 59.5
    exact = np.stack([omega * x, -omega * y], axis=-1)
    near = np.hypot(y, x) < 35
    slope = (found * exact)[near].sum() / (exact**2)[near].sum()
    np.testing.assert_allclose(slope, 1, atol=0.03)  # omega
    assert np.sqrt(np.mean((found - exact)[near] ** 2)) < 0.1 * np.abs(exact[near]).max()


def test_trajectories_of_a_rotation_are_arcs():
    omega, steps = 0.03, 12
    y, x = ROWS - 47.5, COLUMNS - 59.5
    d = displacements(np.stack([omega * x, -omega * y], axis=-1), steps)
    near = np.hypot(y, x) < 40
    for n in range(1, steps + 1):
        c, s = np.cos(omega * n), np.sin(omega * n)
        origin = np.stack([c * y - s * x, s * y + c * x], axis=-1)
        exact = np.stack([y, x], axis=-1) - origin
        assert np.abs(d[n - 1] - exact)[near].max() < 0.005


def test_missing_cells_move_along_and_disturb_nothing():
    v = (0.0, 1.0)
    past = np.stack([moved(v, t) for t in (-2, -1, 0)])
    holed = past.copy()
    holed[:, 40:60, 50:70] = np.nan
    holed[1, 10, 10] = np.nan
    found = motion(holed)
    assert np.isfinite(found).all()
    assert np.abs(found - motion(past))[8:-8, 8:-8].max() < 0.05
    d = np.broadcast_to(np.array(v), (1, 96, 120, 2))
    ahead = warp(holed[-1], d)[0]
    assert np.isnan(ahead[40:60, 51:71]).all()
    assert np.isfinite(ahead[40:60, 50]).all()
    assert np.isnan(ahead[:, 0]).all()  # from beyond the edge
    assert np.isnan(ahead).sum() == 20 * 20 + 96


def test_between_a_known_and_a_missing_cell_the_nearer_one_decides():
    row = np.array([[1.0, 3.0, np.nan, np.nan]])
    for shift, expected in ((0.4, [1.0, 2.2, 3.0, np.nan]), (0.6, [np.nan, 1.8, 3.0, np.nan])):
        d = np.broadcast_to((0.0, shift), (1, 4, 2))
        found = warp(row, d)[0]
        np.testing.assert_allclose(found[[0, 1, 3]], np.take(expected, [0, 1, 3]))
        # 0.4: six tenths of the cell are missing
        assert np.isnan(found[2]) == (shift < 0.5)


def test_samples_are_bilinear():
    plane = (2 * ROWS + 3 * COLUMNS)[..., None]
    at = np.array([[3.25, 7.5], [0.0, 0.1], [94.9, 118.2]])
    np.testing.assert_allclose(sample(plane, at)[:, 0], 2 * at[:, 0] + 3 * at[:, 1])
    beyond = sample(plane, np.array([[-5.0, 4.0], [200.0, 300.0]]))[:, 0]
    np.testing.assert_allclose(beyond, [12.0, 2 * 95 + 3 * 119])
