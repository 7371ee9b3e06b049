"""The composed kernel against the chain of plain torch modules it replaces."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import interpolate

from xearth.errors import ConfigError
from xearth.models.folding import compose, worth_composing

SCALES = [(2, 2), (3, 3), (1, 2), (2, 1), (3, 2), (4, 4), (1, 1)]


def chain(u, first, second, scale):
    """The definition, with torch's own operators."""
    return second(first(interpolate(u, scale_factor=scale, mode="nearest")))


def convolutions(c_i, c_m, c_o, *, bias=True, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    first = nn.Conv2d(c_i, c_m, 3, padding=1, bias=bias, dtype=dtype)
    return first, nn.Conv2d(c_m, c_o, 3, padding=1, bias=bias, dtype=dtype)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [(5, 7), (2, 3), (1, 1), (1, 4), (8, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_chain_up_to_double_rounding(scale, size, bias):
    first, second = convolutions(3, 4, 2, bias=bias)
    u = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = chain(u, first, second, scale)
    found = compose(first, second, scale)(u)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 4e-15 * max(1.0, expected.abs().max())


@settings(max_examples=40, deadline=None)
@given(
    scale=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 2**16),
)
def test_equals_the_chain_for_any_scale_size_and_width(scale, size, channels, seed):
    first, second = convolutions(*channels, seed=seed)
    u = torch.randn(1, channels[0], *size, dtype=torch.float64)
    expected = chain(u, first, second, scale)
    error = (compose(first, second, scale)(u) - expected).abs().max()
    assert error <= 1e-14 * max(1.0, expected.abs().max())


@pytest.mark.parametrize("scale", [(2, 2), (3, 3), (1, 2)])
def test_gradients_equal_the_chain(scale):
    first, second = convolutions(3, 4, 2)
    u = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    inputs = [u, *first.parameters(), *second.parameters()]
    expected_out = chain(u, first, second, scale)
    cotangent = torch.randn_like(expected_out)
    expected = torch.autograd.grad(expected_out, inputs, cotangent)
    found = torch.autograd.grad(compose(first, second, scale)(u), inputs, cotangent)
    for g, e in zip(found, expected, strict=True):
        assert (g - e).abs().max() <= 1e-13 * e.abs().max()


def test_gradients_by_finite_differences_also_of_second_order():
    first, second = convolutions(1, 2, 1)
    u = torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)

    def run(u, w1, w2):
        a, b = convolutions(1, 2, 1)
        del a.weight, b.weight
        a.weight, b.weight = w1, w2
        return compose(a, b, (2, 3))(u)

    weights = (first.weight.detach().requires_grad_(), second.weight.detach().requires_grad_())
    assert torch.autograd.gradcheck(run, (u, *weights))
    assert torch.autograd.gradgradcheck(run, (u, *weights))


def test_in_front_of_a_norm_and_an_activation_in_single_precision():
    """A decoder stage: the fold ends where the first nonlinearity begins."""
    first, second = convolutions(16, 16, 8, dtype=torch.float32)
    rest = nn.Sequential(nn.GroupNorm(2, 8), nn.LeakyReLU(0.1), nn.Conv2d(8, 8, 3, padding=1))
    u = torch.randn(3, 16, 16, 16).to(memory_format=torch.channels_last)
    expected = rest(chain(u, first, second, (3, 3)))
    found = rest(compose(first, second, (3, 3))(u))
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_result_is_channels_last_and_keeps_the_input():
    first, second = convolutions(3, 4, 2, dtype=torch.float32)
    u = torch.randn(2, 3, 6, 6)
    before = u.clone()
    found = compose(first, second, (2, 2))(u)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(u, before)


def test_follows_a_change_of_weights_however_it_is_made():
    """Nothing is remembered between compositions, so nothing can be stale."""
    first, second = convolutions(3, 4, 2)
    u = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    compose(first, second, (2, 2))(u)
    first.weight.data.mul_(2.0)
    second.bias.data.add_(1.0)
    expected = chain(u, first, second, (2, 2))
    assert torch.allclose(compose(first, second, (2, 2))(u), expected, atol=1e-13)


def test_kernel_of_a_threefold_scale_has_the_zero_taps_of_its_phases():
    """Phase 0 never reads the right neighbor, phase 2 never the left one."""
    composed = compose(*convolutions(2, 3, 4), (3, 3))
    kernel = composed.kernel.reshape(3, 3, 4, 2, 3, 3)
    assert composed.bias.shape == (36,)
    assert kernel[0, :, :, :, 2].abs().max() == 0.0
    assert kernel[2, :, :, :, 0].abs().max() == 0.0
    assert kernel[1, 1].abs().min() > 0.0


def test_runs_on_the_meta_device():
    first, second = convolutions(3, 4, 2)
    u = torch.empty(2, 3, 5, 5, dtype=torch.float64, device="meta")
    found = compose(first.to("meta"), second.to("meta"), (3, 2))(u)
    assert found.device.type == "meta"
    assert found.shape == (2, 2, 15, 10)


@pytest.mark.parametrize(
    ("channels", "scale", "pixels", "pays"),
    [
        ((128, 128, 128), (2, 2), 32 * 32, True),
        ((64, 64, 16), (3, 3), 128 * 128, True),
        ((64, 64, 64), (1, 2), 24 * 24 * 14, False),
        ((64, 64, 64), (1, 1), 10**6, False),
        ((64, 64, 64), (2, 2), 1, False),
    ],
)
def test_multiplications_are_counted_not_guessed(channels, scale, pixels, pays):
    first, second = convolutions(*channels, dtype=torch.float32)
    assert worth_composing(first, second, scale, pixels) is pays


@pytest.mark.parametrize("changes", [{"stride": 2}, {"dilation": 2}, {"padding": 0}])
def test_other_convolutions_are_refused(changes):
    first, _ = convolutions(3, 4, 2)
    other = nn.Conv2d(4, 2, 3, **{"padding": 1, **changes})
    assert not worth_composing(first, other, (2, 2), 10**6)
    with pytest.raises(ConfigError, match="3x3 kernel"):
        compose(first, other, (2, 2))


def test_channels_that_do_not_meet_are_refused():
    first, _ = convolutions(3, 4, 2)
    _, second = convolutions(3, 5, 2)
    with pytest.raises(ConfigError, match="4 channels"):
        compose(first, second, (2, 2))


def test_autocast_rounds_the_composed_kernel_once():
    first, second = convolutions(16, 16, 8, dtype=torch.float32)
    u = torch.randn(1, 16, 8, 8)
    exact = chain(u, first, second, (2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        composed = compose(first, second, (2, 2))
        rough = composed(u)
    assert composed.kernel.dtype == torch.float32
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() <= 3e-2 * exact.abs().max()
