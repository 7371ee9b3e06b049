from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from xearth.errors import ConfigError
from xearth.models.layers import (
    ACTIVATIONS,
    FeedForward,
    PatchMerging3D,
    PositionEmbedding,
    RMSNorm,
    Upsample3D,
    activation,
    from_frames,
    norm,
    to_frames,
)


def test_rms_norm_is_its_formula():
    x = torch.randn(3, 6, dtype=torch.float64)
    layer = RMSNorm(6, eps=0.01, fraction=0.5, bias=True).double()
    with torch.no_grad():
        layer.scale.copy_(torch.arange(6.0))
        layer.offset.fill_(0.5)
    root = (x[:, :3] ** 2).mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(layer(x), torch.arange(6.0).double() * x / (root + 0.01) + 0.5)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_feed_forward_is_its_formula(gated, pre_norm):
    layer = FeedForward(4, 8, activation_name="tanh", gated=gated, pre_norm=pre_norm).eval()
    x = torch.randn(2, 4)
    n = functional.layer_norm(x, (4,)) if pre_norm else x
    inner = n @ layer.ffn_1.weight.T
    hidden = torch.tanh(n @ layer.ffn_1_gate.weight.T) * inner if gated else torch.tanh(inner)
    y = x + hidden @ layer.ffn_2.weight.T
    torch.testing.assert_close(layer(x), y if pre_norm else functional.layer_norm(y, (4,)))


def test_feed_forward_drops_only_in_training():
    layer = FeedForward(4, 8, drop=0.5)
    x = torch.randn(16, 4)
    torch.testing.assert_close(layer.eval()(x), layer(x))
    torch.manual_seed(0)
    assert (layer.train()(x) - layer(x)).abs().max() > 0


@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 1, 3)])
def test_patch_merging_gathers_time_then_rows_then_columns(factors):
    d_T, d_H, d_W = factors
    layer = PatchMerging3D(2, 5, factors, "zeros")
    x = torch.randn(1, 2 * d_T, 3 * d_H, 2 * d_W, 2)
    patch = x[0, d_T : 2 * d_T, d_H : 2 * d_H, :d_W].reshape(-1)
    expected = layer.reduction(layer.norm(patch))
    torch.testing.assert_close(layer(x)[0, 1, 1, 0], expected)


def test_patch_merging_pads_time_alone():
    """The reference forgets to pad when only T is incomplete."""
    layer = PatchMerging3D(2, 5, (2, 1, 1), "zeros")
    x = torch.randn(1, 3, 4, 4, 2)
    whole = torch.cat([x, torch.zeros(1, 1, 4, 4, 2)], dim=1)
    torch.testing.assert_close(layer(x), layer(whole))


@pytest.mark.parametrize("kind", ["t+h+w", "t+hw"])
def test_positions_of_a_smaller_grid_are_the_leading_ones(kind):
    layer = PositionEmbedding(4, (5, 6, 7), kind)
    full = layer(torch.zeros(1, 5, 6, 7, 4))
    torch.testing.assert_close(layer(torch.zeros(1, 2, 3, 4, 4)), full[:, :2, :3, :4])


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_from_frames_undoes_to_frames(B, T, H, W):
    x = torch.randn(B, T, H, W, 3)
    frames = to_frames(x)
    assert frames.shape == (B * T, 3, H, W)
    assert frames.data_ptr() == x.data_ptr()
    assert torch.equal(from_frames(frames, T), x)


def test_upsampling_repeats_cells_before_the_convolution():
    layer = Upsample3D(2, 3, (4, 6))
    x = torch.randn(1, 2, 2, 3, 2)
    fine = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = from_frames(functional.conv2d(to_frames(fine), layer.conv.weight, padding=1), 2)
    torch.testing.assert_close(layer(x), expected)


def test_names_are_checked():
    assert set(ACTIVATIONS) >= {"leaky", "gelu", "softrelu", "softsign"}
    assert activation("leaky")(torch.tensor(-1.0)).item() == pytest.approx(-0.1)
    with pytest.raises(ConfigError, match="swish"):
        activation("swish")
    with pytest.raises(ConfigError, match="batch_norm"):
        norm("batch_norm", 4)
    with pytest.raises(ConfigError, match="positions"):
        PositionEmbedding(4, (1, 1, 1), "hw")
