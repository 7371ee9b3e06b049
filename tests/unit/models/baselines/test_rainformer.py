from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from xearth.models.baselines.rainformer import (
    ChannelGate,
    Rainformer,
    RainformerConfig,
    WindowAttention,
    _frame,
    _windows,
)

SMALL = {
    "input_shape": (3, 12, 24, 1),
    "target_shape": (2, 12, 24, 1),
    "width": 4,
    "factors": (1, 2, 1, 2),
    "heads": (1, 1, 2, 2),
    "head_width": 4,
}


def test_windows_and_back():
    x = torch.randn(2, 6, 9, 4)
    windows = _windows(x, 3)
    assert windows.shape == (2, 6, 9, 4)
    assert torch.equal(windows[1, 4], x[1, 3:6, 3:6].reshape(9, 4))
    assert torch.equal(_frame(windows, (6, 9), 3), x)


@pytest.mark.parametrize(("window", "shift"), [(3, 0), (3, 1), (2, 1), (4, 2)])
def test_attention_by_loops(window, shift):
    """Each cell attends to the cells of its shifted window that are its neighbors."""
    torch.manual_seed(0)
    H, W, heads, width = 2 * window, 3 * window, 2, 4
    attention = WindowAttention(6, heads, width, window, shift).double()
    x = torch.randn(1, H, W, 6, dtype=torch.float64)
    found = attention(x)[0]
    q, k, v = attention.qkv(x[0]).view(H, W, 3, heads, width).unbind(2)

    def window_of(row, column):
        # the frame shifted by -s: what wraps around belongs to windows of its own
        places = [(n - shift) % size for n, size in ((row, H), (column, W))]
        wrapped = (row < shift, column < shift)
        return (places[0] // window, places[1] // window, *wrapped), places

    for row, column in ((0, 0), (H - 1, W - 1), (shift, 2), (H - 1, 0), (window, W - 1)):
        own, place = window_of(row, column)
        peers = [
            (r, c, window_of(r, c)[1])
            for r in range(H)
            for c in range(W)
            if window_of(r, c)[0] == own
        ]
        out = []
        for head in range(heads):
            scores = torch.stack(
                [
                    q[row, column, head] @ k[r, c, head] / math.sqrt(width)
                    + attention.table[p[0] - place[0] + window - 1, p[1] - place[1] + window - 1]
                    for r, c, p in peers
                ]
            )
            values = torch.stack([v[r, c, head] for r, c, _ in peers])
            out.append(scores.softmax(0) @ values)
        expected = attention.out(torch.cat(out))
        torch.testing.assert_close(found[row, column], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("channels", "shared", "inside"),
    [(8, True, 8), (32, True, 2), (32, False, 32), (160, False, 10), (159, False, 159)],
)
def test_width_inside_a_channel_gate(channels, shared, inside):
    gate = ChannelGate(channels, shared=shared)
    assert gate.mean[0].out_features == inside
    assert (gate.maximum is None) == shared


def spare(config):
    with torch.device("meta"):
        net = Rainformer(config)
    return sum(p.numel() for n, p in net.named_parameters() if ".spare." in n)


def test_what_is_dead_in_the_published_networks():
    assert spare(RainformerConfig.sevir()) == pytest.approx(77.1e6, rel=1e-3)
    assert spare(RainformerConfig.icar_enso()) == pytest.approx(5.54e6, rel=1e-3)


def test_spare_parameters_get_no_gradient_and_change_nothing():
    torch.manual_seed(0)
    published = Rainformer(RainformerConfig(**SMALL, spare_convolutions=True))
    sane = Rainformer(RainformerConfig(**SMALL))
    state = {n: p for n, p in published.state_dict().items() if ".spare." not in n}
    sane.load_state_dict(state)
    x = torch.randn(2, 3, 12, 24, 1)
    y = published.eval()(x)
    assert torch.equal(sane.eval()(x), y)
    y.square().sum().backward()
    without = [n for n, p in published.named_parameters() if p.grad is None]
    assert without == [n for n, _ in published.named_parameters() if ".spare." in n]


def test_scale_per_channel_equals_scale_per_cell_that_is_the_same_everywhere():
    torch.manual_seed(0)
    channel = Rainformer(RainformerConfig(**SMALL)).eval()
    pixel = Rainformer(RainformerConfig(**SMALL, gate="pixel")).eval()
    state = channel.state_dict()
    torch.manual_seed(1)
    for name, value in pixel.state_dict().items():
        if ".gate.gates.1." in name:
            state[name] = torch.randn(len(value))
    channel.load_state_dict(state)
    pixel.load_state_dict(
        {
            n: state[n][:, None, None].expand_as(p) if ".gate.gates.1." in n else state[n]
            for n, p in pixel.state_dict().items()
        }
    )
    x = torch.randn(1, 3, 12, 24, 1)
    with torch.no_grad():
        torch.testing.assert_close(channel(x), pixel(x), rtol=1e-4, atol=1e-5)


def test_spare_frames_are_the_last_ones():
    torch.manual_seed(0)
    config = RainformerConfig(**SMALL)
    more = Rainformer(dataclasses.replace(config, spare_frames=1)).eval()
    all_frames = Rainformer(dataclasses.replace(config, target_shape=(3, 12, 24, 1))).eval()
    all_frames.load_state_dict(more.state_dict())
    x = torch.randn(1, 3, 12, 24, 1)
    with torch.no_grad():
        assert torch.equal(more(x), all_frames(x)[:, :2])


def test_weights_of_the_plain_network_fit_any_grid():
    small = Rainformer(RainformerConfig(**SMALL))
    shapes = {"input_shape": (3, 30, 17, 1), "target_shape": (2, 30, 17, 1)}
    other = Rainformer(RainformerConfig(**{**SMALL, **shapes}))
    other.load_state_dict(small.state_dict())
    assert other(torch.randn(1, 3, 30, 17, 1)).shape == (1, 2, 30, 17, 1)
