from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xearth.errors import ConfigError
from xearth.models.baselines.e3d_lstm import E3DLSTMConfig
from xearth.models.baselines.phydnet import PhyDNetConfig
from xearth.models.heads import Point
from xearth.training.losses import MSE
from xearth.training.physics_losses import (
    DifferenceDivergence,
    E3DLSTMLoss,
    PhyDNetLoss,
    TeacherForcing,
    difference_divergence,
    frame_error,
    kernel_moments,
    moment_loss,
    squared_and_absolute,
)
from xearth.training.strategies import ScheduledSampling, free_running


def differences(k):
    """Kernels whose moments are single ones, by solving for them: (k^2, k, k)."""
    place = np.arange(k) - k // 2
    powers = np.array([place**i / math.factorial(i) for i in range(k)])
    inverse = np.linalg.inv(powers)
    return torch.from_numpy(np.einsum("ui,vj->ijuv", inverse, inverse).reshape(k * k, k, k))


def test_moments_by_sums():
    kernels = torch.randn(2, 5, 5, dtype=torch.float64)
    found = kernel_moments(kernels)
    for i, j in ((0, 0), (1, 0), (3, 2), (4, 4)):
        expected = sum(
            kernels[:, u, v] * (u - 2) ** i / math.factorial(i) * (v - 2) ** j / math.factorial(j)
            for u in range(5)
            for v in range(5)
        )
        torch.testing.assert_close(found[:, i, j], expected)


@pytest.mark.parametrize("k", [3, 5, 7])
def test_finite_differences_have_no_loss_and_differentiate(k):
    filters = differences(k)
    assert moment_loss(filters[:, None]).item() == pytest.approx(0.0, abs=1e-18)
    x, y = torch.meshgrid(*(torch.arange(k, dtype=torch.float64) - k // 2,) * 2, indexing="ij")
    # exact for polynomials: the derivative of x^2 y by x twice and y once is 2
    assert (filters[2 * k + 1] * x**2 * y).sum().item() == pytest.approx(2.0)
    assert (filters[k] * (3 * x + x**2)).sum().item() == pytest.approx(3.0)


def test_moment_loss_sums_over_inputs_and_leads_to_differences():
    filters = torch.randn(9, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    single = [moment_loss(filters[:, b : b + 1]) for b in range(4)]
    torch.testing.assert_close(moment_loss(filters), torch.stack(single).sum())
    optimizer = torch.optim.LBFGS([filters], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = moment_loss(filters)
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(filters.detach()[:, 0], differences(3), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 3, 5), (3,)])
def test_moments_of_other_kernels_are_refused(shape):
    with pytest.raises(ConfigError, match="square kernels of odd size"):
        kernel_moments(torch.zeros(shape))


def test_moment_loss_wants_a_filter_per_moment():
    with pytest.raises(ConfigError, match=r"8 filters of 3 x 3.*expected 9"):
        moment_loss(torch.zeros(8, 1, 3, 3))


def test_frame_error_is_a_sum_over_frames():
    a, b = torch.randn(2, 3, 4, 5, 1), torch.randn(2, 3, 4, 5, 1)
    expected = sum(torch.nn.functional.mse_loss(a[:, t], b[:, t]) for t in range(3))
    torch.testing.assert_close(frame_error(a, b), expected)


def test_squared_and_absolute():
    a, b = torch.randn(2, 3, 4, 5, 1), torch.randn(2, 3, 4, 5, 1)
    loss = torch.nn.functional
    expected = 0.5 * loss.mse_loss(a, b, reduction="sum") + loss.l1_loss(a, b, reduction="sum")
    torch.testing.assert_close(squared_and_absolute(a, b), expected)


def test_teacher_forcing():
    forcing = TeacherForcing(steps_per_epoch=10)
    found = [forcing.probability(n) for n in (0, 9, 10, 1005, 3330, 3340, 10_000)]
    assert found == pytest.approx([1.0, 1.0, 0.997, 0.7, 0.001, 0.0, 0.0])
    generator = torch.Generator().manual_seed(0)
    draws = [forcing.keep(1000, samples=2, frames=(4, 3), generator=generator) for _ in range(2000)]
    assert draws[0].shape == (2, 5)
    assert all(draw[:, :3].all() for draw in draws)
    forced = [bool(draw[:, 3:].all()) for draw in draws]
    assert all(f or not draw[:, 3:].any() for f, draw in zip(forced, draws, strict=True))
    assert np.mean(forced) == pytest.approx(0.7, abs=0.04)
    for wrong in ({"decay": -0.1, "steps_per_epoch": 5}, {"steps_per_epoch": 0}):
        with pytest.raises(ConfigError, match="at least 1 step per epoch"):
            TeacherForcing(**wrong)


SHAPES = {"input_shape": (3, 8, 8, 1), "target_shape": (2, 8, 8, 1)}


def phydnet():
    torch.manual_seed(0)
    return PhyDNetConfig(**SHAPES, width=16, hidden=(32,), derivatives=3).build()


def test_loss_of_phydnet():
    net, frames = phydnet(), torch.rand(2, 5, 8, 8, 1)
    x, y = frames[:, :3], frames[:, 3:]
    always, never = (TeacherForcing(steps_per_epoch=1, decay=d) for d in (0.0, 1.0))
    filters = net.physics.filters.weight
    for sampling, keep in ((always, torch.ones(2, 3)), (never, free_running(2, (3, 2)))):
        expected = frame_error(net.rollout(frames[:, :-1], keep), frames[:, 1:])
        found = PhyDNetLoss(sampling=sampling, moments=0.5)(net, x, y, iteration=7)
        torch.testing.assert_close(found, expected + 0.5 * moment_loss(filters))
    with pytest.raises(ConfigError, match="moments of 0 or more"):
        PhyDNetLoss(sampling=never, moments=-1.0)


def test_a_step_of_training_lowers_the_loss_of_phydnet():
    net, frames = phydnet(), torch.rand(2, 5, 8, 8, 1)
    loss = PhyDNetLoss(sampling=TeacherForcing(steps_per_epoch=1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    found = []
    for iteration in range(6):
        optimizer.zero_grad()
        value = loss(net, frames[:, :3], frames[:, 3:], iteration=iteration)
        value.backward()
        optimizer.step()
        found.append(float(value.detach()))
    assert found[-1] < found[0]


def test_loss_of_e3d_lstm():
    torch.manual_seed(0)
    net = E3DLSTMConfig(**SHAPES, hidden=(4, 4), kernel=(2, 3, 3)).build()
    frames = torch.rand(2, 5, 8, 8, 1)
    loss = E3DLSTMLoss(sampling=ScheduledSampling(start=1.0, rate=0.0))
    found = loss(net, frames[:, :3], frames[:, 3:], iteration=0)
    error = net.rollout(frames[:, :-1], torch.ones(2, 3)) - frames[:, 1:]
    expected = (0.5 * error.square() + error.abs()).sum((1, 2, 3, 4)).mean()
    torch.testing.assert_close(found, expected)
    with pytest.raises(ConfigError, match=r"E3DLSTM has no filters.*moments=0"):
        PhyDNetLoss(sampling=loss.sampling)(net, frames[:, :3], frames[:, 3:], iteration=0)
    with pytest.raises(ConfigError, match="found 1 and 2"):
        loss(net, frames[:, :3], frames[:, 3:].expand(2, 2, 8, 8, 2), iteration=0)


def test_divergence_in_closed_form():
    """Two cells, one change: softmax is a logistic function of the difference."""
    a, b, temperature = 0.03, -0.02, 0.1
    prediction = torch.zeros(1, 2, 1, 2, 1, dtype=torch.float64)
    truth = prediction.clone()
    prediction[0, 1, 0, 0], truth[0, 1, 0, 0] = a, b
    p, q = (1 / (1 + math.exp(-d / temperature)) for d in (a, b))
    expected = (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))) / 2
    found = difference_divergence(prediction, truth, temperature=temperature)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_divergence_of_known_cells_is_that_of_the_field_without_the_others():
    torch.manual_seed(0)
    prediction, truth = torch.randn(2, 2, 4, 4, 6, 1, dtype=torch.float64)
    known = torch.ones(2, 4, 4, 6, 1, dtype=torch.bool)
    known[:, :, :, 4:] = False
    truth_with_rubbish = truth.masked_fill(~known, 1e6)
    found = difference_divergence(prediction, truth_with_rubbish, known)
    expected = difference_divergence(prediction[:, :, :, :4], truth[:, :, :, :4])
    torch.testing.assert_close(found, expected)
    # one unknown frame hides both of its changes
    known[:] = True
    known[:, 1] = False
    found = difference_divergence(prediction, truth, known)
    torch.testing.assert_close(found, difference_divergence(prediction[:, 2:], truth[:, 2:]))
    assert difference_divergence(prediction, truth, torch.zeros_like(known)).tolist() == [0, 0]


def test_divergence_needs_two_frames():
    with pytest.raises(ConfigError, match="at least 2 frames"):
        difference_divergence(torch.zeros(1, 1, 2, 2, 1), torch.zeros(1, 1, 2, 2, 1))


def test_loss_of_tau():
    torch.manual_seed(0)
    prediction, truth = torch.randn(2, 2, 3, 4, 5, 1)
    weight = torch.rand(4, 1, 1)
    weight[0] = 0.0
    known = (weight > 0).expand_as(truth)
    found = DifferenceDivergence(gain=0.3)(Point().predict(prediction), truth, weight)
    expected = MSE()(Point().predict(prediction), truth, weight)
    expected = expected + 0.3 * difference_divergence(prediction, truth, known)
    torch.testing.assert_close(found, expected)
    for wrong in ({"gain": -1.0}, {"temperature": 0.0}):
        with pytest.raises(ConfigError, match="positive temperature"):
            DifferenceDivergence(**wrong)
