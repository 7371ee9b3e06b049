from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.models.baselines.common import (
    channels_as_frames,
    channels_first,
    channels_last,
    crop,
    frames_as_channels,
    pad_to_multiple,
    patch,
    unpatch,
)


def test_patch_order_is_row_column_channel():
    """Every number at the place that the formula names: (row p + column) C + channel."""
    p, (H, W, C) = 2, (4, 6, 3)
    x = torch.randn(1, 2, H, W, C)
    cut = patch(x, p)
    assert cut.shape == (1, 2, H // p, W // p, p * p * C)
    for i, j, c in np.ndindex(H, W, C):
        channel = ((i % p) * p + j % p) * C + c
        assert torch.equal(cut[..., i // p, j // p, channel], x[..., i, j, c])


@settings(max_examples=30, deadline=None)
@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    p=st.integers(1, 3),
)
def test_unpatch_is_the_inverse(lead, size, p):
    h, w, C = size
    x = torch.randn(*lead, h * p, w * p, C)
    assert torch.equal(unpatch(patch(x, p), p), x)


@settings(max_examples=30, deadline=None)
@given(H=st.integers(1, 7), W=st.integers(1, 7), multiple=st.integers(1, 9))
def test_padding_repeats_the_edge_and_crop_takes_it_back(H, W, multiple):
    x = torch.randn(2, 3, H, W, 2)
    y = pad_to_multiple(x, multiple)
    rows, columns = y.shape[2:4]
    assert rows % multiple == columns % multiple == 0
    assert rows - H < multiple
    assert columns - W < multiple
    expected = np.pad(
        x.numpy(), ((0, 0), (0, 0), (0, rows - H), (0, columns - W), (0, 0)), mode="edge"
    )
    np.testing.assert_array_equal(y.numpy(), expected)
    assert torch.equal(crop(y, H, W), x)


def test_nothing_is_copied_where_the_grid_divides():
    x = torch.randn(1, 1, 4, 8, 1)
    assert pad_to_multiple(x, 4) is x


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (channels_first, channels_last),
        (frames_as_channels, lambda x: channels_as_frames(x, 3)),
    ],
)
def test_layouts_come_back(there, back):
    x = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(back(there(x)), x)


def test_frames_as_channels_keeps_the_channels_of_a_frame_together():
    x = torch.randn(1, 3, 2, 2, 4)
    assert torch.equal(frames_as_channels(x)[0, 2 * 4 + 1], x[0, 2, :, :, 1])
