"""Tiles: the weights are a partition of unity, and cutting and blending loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.errors import ConfigError
from xearth.models.tiles import Tiles, axis_weights, starts


@st.composite
def axes(draw, largest=70):
    """Size of an axis, of a tile, and overlap."""
    tile = draw(st.integers(1, 24))
    return draw(st.integers(tile, largest)), tile, draw(st.integers(0, tile - 1))


@st.composite
def cuts(draw):
    pairs = [draw(axes(40)), draw(axes(40))]
    return Tiles(*(tuple(pair[i] for pair in pairs) for i in range(3)))


@given(axes())
def test_tiles_reach_both_ends_and_overlap_as_asked(sizes):
    size, tile, overlap = sizes
    first = starts(size, tile, overlap)
    assert first[0] == 0
    assert first[-1] == size - tile
    assert np.all(np.diff(first) >= 1)
    assert np.all(np.diff(first) <= tile - overlap)
    fewer = 1 + (len(first) - 2) * (tile - overlap)
    assert len(first) == 1 or fewer + tile - 1 < size  # one tile less could not do it


@given(axes())
def test_weights_of_a_cell_are_not_negative_and_add_up_to_one_exactly(sizes):
    size, tile, _ = sizes
    total = np.zeros(size, np.float32)
    weights = axis_weights(*sizes)
    for first, row in zip(starts(*sizes), weights, strict=True):
        total[first : first + tile] += row
    assert (total == 1).all()
    assert (weights >= 0).all()


@settings(max_examples=60, deadline=None)
@given(cuts())
def test_weights_of_the_plane_add_up_to_one_exactly(tiles):
    total = torch.zeros(tiles.grid)
    for (row, column), weight in zip(tiles.corners, tiles.weights, strict=True):
        total[row : row + tiles.tile[0], column : column + tiles.tile[1]] += weight
    assert torch.equal(total, torch.ones(tiles.grid))


def test_weights_change_smoothly_across_an_overlap():
    weights = axis_weights(96, 64, 32)
    assert weights.shape == (2, 64)
    assert np.abs(np.diff(weights, axis=1)).max() < 0.06  # pi / 2 / 32 and the rounding
    assert weights[0, -1] < 0.002
    assert weights[1, 0] < 0.002
    np.testing.assert_array_equal(weights[0], weights[1, ::-1])


@settings(max_examples=60, deadline=None)
@given(cuts(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_the_identity_returns_the_input(tiles, count, channels, seed):
    x = torch.randn(count, 2, *tiles.grid, channels, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(tiles.run(lambda part: part, x), x, rtol=1e-6, atol=1e-6)


def test_a_constant_comes_back_to_the_bit():
    tiles = Tiles((50, 61), (16, 20), (6, 9))
    for value in (1.0, 0.5, 3.0):
        x = torch.full((2, 3, 50, 61, 2), value)
        assert torch.equal(tiles.merge(tiles.split(x)), x)


def test_a_map_of_cells_needs_no_tiles():
    tiles = Tiles((30, 41), (16, 16), (5, 4))
    x = torch.randn(3, 4, 30, 41, 2)
    weight = torch.randn(2, 5)
    torch.testing.assert_close(tiles.run(lambda part: (part @ weight).exp(), x), (x @ weight).exp())


def test_one_tile_is_the_network_itself():
    tiles = Tiles((16, 20), (16, 20), (4, 4))
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    x = torch.randn(2, 1, 16, 20, 1)

    def run(part):
        return network(part[:, 0].movedim(-1, 1)).movedim(1, -1)[:, None]

    assert len(tiles) == 1
    assert torch.equal(tiles.run(run, x), run(x))


def test_samples_do_not_mix_and_batches_are_bounded():
    tiles = Tiles((40, 40), (8, 8), (4, 4))
    x = torch.randn(3, 2, 40, 40, 1)
    seen = []

    def run(part):
        seen.append(len(part))
        return part - part.mean((1, 2, 3, 4), keepdim=True)

    together = tiles.run(run, x)
    assert max(seen) <= 16
    assert sum(seen) == 3 * len(tiles)
    torch.testing.assert_close(together, torch.cat([tiles.run(run, one[None]) for one in x]))


def test_gradients_pass():
    tiles = Tiles((9, 7), (4, 4), (2, 1))
    x = torch.randn(1, 1, 9, 7, 1, requires_grad=True)
    tiles.run(lambda part: 3 * part, x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 3.0))


def test_small_grids_and_wide_overlaps_are_refused():
    with pytest.raises(ConfigError, match=r"at least 16 x 16 cells.*found 12 x 40"):
        Tiles((12, 40), (16, 16), (4, 4))
    with pytest.raises(ConfigError, match=r"overlap from 0 to 15"):
        Tiles((32, 40), (16, 16), (16, 4))


def test_a_run_is_split_network_merge():
    tiles = Tiles((30, 41), (16, 16), (5, 4))
    network = torch.nn.Conv3d(2, 3, 3, padding=1)
    x = torch.randn(3, 4, 30, 41, 2)

    def run(part):
        return network(part.movedim(-1, 1)).movedim(1, -1)

    with torch.no_grad():
        expected = tiles.merge(run(tiles.split(x)))
        torch.testing.assert_close(tiles.run(run, x), expected, rtol=1e-5, atol=1e-5)
