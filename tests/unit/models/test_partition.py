"""Cutting and joining grids: laws, and agreement with plain indexing."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.models.cuboid.masks import global_mask, order_cells, self_mask, valid_cells
from xearth.models.cuboid.partition import Partition, cut, join, pad_grid, unpad_grid
from xearth.models.cuboid.patterns import CuboidLayer

sizes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
letters = st.text("ld", min_size=3, max_size=3)
shapes = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))
shifts = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))


@settings(deadline=None, max_examples=50)
@given(count=sizes, cuboid=sizes, strategy=letters)
def test_join_undoes_cut(count, cuboid, strategy):
    T, H, W = (n * b for n, b in zip(count, cuboid, strict=True))
    x = torch.arange(2 * T * H * W * 3).view(2, T, H, W, 3)
    cells = cut(x, cuboid, strategy)
    assert cells.shape == (2, *count, *cuboid, 3)
    assert torch.equal(join(cells, strategy), x)


@settings(deadline=None, max_examples=50)
@given(count=sizes, cuboid=sizes, strategy=letters)
def test_cut_follows_its_definition(count, cuboid, strategy):
    T, H, W = (n * b for n, b in zip(count, cuboid, strict=True))
    x = torch.arange(T * H * W).view(1, T, H, W)
    cells = cut(x, cuboid, strategy)
    for index in itertools.product(*(range(n) for n in (*count, *cuboid))):
        where = [
            j * b + i if how == "l" else j + i * n
            for j, i, n, b, how in zip(index[:3], index[3:], count, cuboid, strategy, strict=True)
        ]
        assert cells[(0, *index)] == x[(0, *where)]


def test_cut_is_a_view():
    x = torch.randn(1, 4, 6, 8, 3)
    assert cut(x, (2, 3, 4), "ldl").untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


@settings(deadline=None, max_examples=50)
@given(shape=shapes, cuboid=sizes, strategy=letters, shift=shifts)
def test_grid_undoes_tokens(shape, cuboid, strategy, shift):
    partition = Partition.fit(shape, CuboidLayer(cuboid, strategy, shift))
    x = torch.randn(2, *partition.padded, 6)
    (tokens,) = partition.tokens(x, 1, 2).unbind(0)
    assert tokens.shape == (2 * partition.cuboids, 2, partition.volume, 3)
    assert torch.equal(partition.grid(tokens), x)


@settings(deadline=None, max_examples=50)
@given(shape=shapes, pad=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)))
def test_unpad_undoes_pad(shape, pad):
    x = torch.randn(1, *shape, 2)
    for padding in ("zeros", "ignore", "nearest"):
        padded = pad_grid(x, pad, padding)
        assert padded.shape[1:4] == tuple(n + p for n, p in zip(shape, pad, strict=True))
        if padding == "nearest":
            # Stretching loses cells: what comes back are cells of x, in order, first cell first.
            back = unpad_grid(padded, pad, padding)
            assert back.shape == x.shape
            assert torch.equal(back[:, 0, 0, 0], x[:, 0, 0, 0])
            assert torch.isin(back, x).all()
        else:
            assert torch.equal(unpad_grid(padded, pad, padding), x)


def test_left_padding_of_time():
    x = torch.ones(1, 2, 1, 1, 1)
    assert pad_grid(x, (1, 0, 0), "ignore", left=True).flatten().tolist() == [0, 1, 1]


@settings(deadline=None, max_examples=50)
@given(shape=shapes, cuboid=sizes, strategy=letters, shift=shifts)
def test_mask_marks_neighbors_only(shape, cuboid, strategy, shift):
    """Two cells of a cuboid attend when both are real and no border lies between them."""
    partition = Partition.fit(shape, CuboidLayer(cuboid, strategy, shift))
    mask = self_mask(partition, "ignore")
    padded = partition.padded
    index = np.indices(padded).reshape(3, -1).T
    index = np.roll(index.reshape(*padded, 3), [-s for s in partition.shift], axis=(0, 1, 2))
    where = np.stack([order_cells(index[..., a], partition) for a in range(3)], axis=-1)
    real = (where < np.array(shape)).all(-1)
    # The roll brings the first `shift` cells of an axis to its end: they are strangers there.
    wrapped = where < np.array(partition.shift)
    last = np.stack(
        [
            order_cells((np.indices(padded)[a] >= padded[a] - partition.cuboid[a]) * 1, partition)
            for a in range(3)
        ],
        axis=-1,
    ).astype(bool)
    region = np.where(np.array(partition.shift) > 0, last * 1 + (last & wrapped) * 1, 0)
    same = (region[:, :, None] == region[:, None, :]).all(-1)
    expected = same & real[:, :, None] & real[:, None, :]
    assert np.array_equal(np.ones_like(expected) if mask is None else mask, expected)


def test_zero_padding_masks_nothing():
    partition = Partition.fit((3, 1, 1), CuboidLayer((2, 1, 1)))
    assert self_mask(partition, "zeros") is None
    assert self_mask(partition, "ignore") is not None


def test_reordered_token_mask_marks_the_padded_cells():
    partition = Partition.fit((3, 3, 1), CuboidLayer((2, 2, 1)))
    right = global_mask(partition, reordered=True)
    flat = torch.from_numpy(valid_cells(partition)).view(1, *partition.padded, 1)
    (tokens,) = partition.tokens(flat.float(), 1, 1).unbind(0)
    assert np.array_equal(right, tokens.flatten().bool().numpy())
    assert not np.array_equal(right, global_mask(partition, reordered=False))
