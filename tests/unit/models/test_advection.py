"""The extrapolation on tensors is that on arrays, and has gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from xearth.errors import ConfigError, GridMismatchError
from xearth.models import advection as on_tensors
from xearth.reference import flow as on_arrays


def frames(*, holes: bool, seed: int = 0, shape: tuple[int, int] = (70, 83)) -> np.ndarray:
    """Three frames (T, H, W) of a drifting random pattern, with NaN."""
    pattern = 10 * ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 3)
    drift = [ndimage.shift(pattern, (1.3 * t, -0.7 * t), order=3) for t in range(3)]
    found = np.stack(drift)
    if holes:
        found[:, :20, :30] = np.nan
        found[1, 50, 60] = np.nan
    return found


def tensors(values: np.ndarray, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.tensor(np.nan_to_num(values), dtype=dtype),
        torch.tensor(np.isfinite(values)),
    )


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("holes", [False, True])
def test_equal_to_the_route_on_arrays(dtype, close, holes):
    both = [frames(holes=holes, seed=s) for s in (0, 1)]
    x, mask = tensors(np.stack(both), dtype)
    v = on_tensors.motion(x, mask)
    d = on_tensors.displacements(v, 6)
    ahead, known = on_tensors.warp(x[:, -1, ..., None], d, mask[:, -1, ..., None])
    for k, own in enumerate(both):
        v_own = on_arrays.motion(own)
        d_own = on_arrays.displacements(v_own, 6)
        w_own = on_arrays.warp(own[-1], d_own)
        np.testing.assert_allclose(v[k], v_own, atol=close)
        np.testing.assert_allclose(d[k], d_own, atol=10 * close)
        both_know = known[k, ..., 0].numpy() & np.isfinite(w_own)
        # at float32 a cell on the very edge may fall to either side
        assert (known[k, ..., 0].numpy() != np.isfinite(w_own)).sum() <= 2 * (close > 1e-6)
        np.testing.assert_allclose(
            ahead[k, ..., 0].numpy()[both_know], w_own[both_know], atol=10 * close
        )
    assert 0.5 < known.double().mean() < 1


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_warp_along_a_given_motion_is_equal(dtype, close):
    own = frames(holes=True)[-1]
    v = 2 * np.random.default_rng(3).standard_normal((70, 83, 2))
    x, mask = tensors(own, dtype)
    ahead, known = on_tensors.warp(
        x[None, ..., None], torch.tensor(v, dtype=dtype)[None, None], mask[None, ..., None]
    )
    expected = on_arrays.warp(own, v)
    np.testing.assert_array_equal(known[0, 0, ..., 0], np.isfinite(expected))
    np.testing.assert_allclose(ahead[0, 0, ..., 0], np.nan_to_num(expected), atol=close)


def test_without_a_mask_all_is_known_but_what_comes_from_beyond():
    x = torch.rand(1, 9, 11, 2)
    d = torch.full((1, 1, 9, 11, 2), 1.0)
    ahead, known = on_tensors.warp(x, d)
    torch.testing.assert_close(ahead[0, 0, 1:, 1:], x[0, :-1, :-1])
    assert not known[0, 0, 0].any()
    assert not known[0, 0, :, 0].any()
    assert known[0, 0, 1:, 1:].all()
    masked, seen = on_tensors.warp(x, d, torch.ones_like(x, dtype=torch.bool))
    torch.testing.assert_close(masked, ahead)
    assert torch.equal(seen, known)


def test_gradients_are_those_of_differences():
    torch.manual_seed(0)
    x = torch.rand(1, 6, 7, 1, dtype=torch.float64, requires_grad=True)
    d = (0.3 + 0.3 * torch.rand(1, 1, 6, 7, 2, dtype=torch.float64)).requires_grad_()
    mask = torch.rand(1, 6, 7, 1) > 0.2
    assert torch.autograd.gradcheck(lambda x, d: on_tensors.warp(x, d, mask)[0], (x, d))
    v = (0.4 * torch.rand(1, 6, 7, 2, dtype=torch.float64) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: on_tensors.displacements(v, 2), (v,))


def test_gradients_reach_the_frames_through_the_motion():
    x = torch.tensor(frames(holes=False, shape=(32, 40)))[None].requires_grad_()
    v = on_tensors.motion(x)
    v.square().mean().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[:, 0] != 0).any()
    step = torch.zeros_like(x)
    step[0, 0, 15, 20] = 1e-5
    with torch.no_grad():
        up, down = (on_tensors.motion(x + s).square().mean() for s in (step, -step))
    np.testing.assert_allclose(x.grad[0, 0, 15, 20], (up - down) / 2e-5, rtol=1e-4, atol=1e-10)


def test_fields_without_a_pattern_have_finite_gradients():
    x = torch.zeros(1, 3, 20, 20, requires_grad=True)
    on_tensors.motion(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_the_layer_extrapolates_all_channels_along_one():
    x = torch.tensor(frames(holes=False))[None, ..., None]
    pair = torch.cat([x, 2 * x + 1], dim=-1)
    ahead, known = on_tensors.Extrapolation(4)(pair)
    torch.testing.assert_close(ahead[..., 1][known[..., 1]], 2 * ahead[..., 0][known[..., 0]] + 1)
    v = on_arrays.motion(frames(holes=False))
    own = on_arrays.warp(frames(holes=False)[-1], on_arrays.displacements(v, 4))
    np.testing.assert_allclose(ahead[0, ..., 0], np.nan_to_num(own), atol=1e-10)
    assert not list(on_tensors.Extrapolation(4).parameters())
    mask = torch.ones_like(pair, dtype=torch.bool)
    torch.testing.assert_close(on_tensors.Extrapolation(4)(pair, mask)[0], ahead)


def test_wrong_shapes_are_named():
    with pytest.raises(GridMismatchError, match="T >= 2"):
        on_tensors.motion(torch.zeros(1, 1, 9, 9))
    with pytest.raises(GridMismatchError, match="mask"):
        on_tensors.motion(torch.zeros(1, 2, 9, 9), torch.ones(1, 2, 9, 8, dtype=torch.bool))
    with pytest.raises(GridMismatchError, match="displacements"):
        on_tensors.warp(torch.zeros(1, 9, 9, 1), torch.zeros(1, 9, 9, 2))
    with pytest.raises(ConfigError, match="steps"):
        on_tensors.Extrapolation(0)
