from __future__ import annotations

import math

import pytest
import torch

from xearth.errors import ConfigError
from xearth.models.baselines.predrnn import PredRNNConfig
from xearth.training.strategies import (
    NextFrameLoss,
    ReverseScheduledSampling,
    ScheduledSampling,
    decoupling_loss,
    free_running,
)


def network(*, decoupling=False):
    torch.manual_seed(1)
    return PredRNNConfig(
        input_shape=(3, 6, 8, 1),
        target_shape=(3, 6, 8, 1),
        hidden=(4, 4),
        kernel=3,
        patch=2,
        decoupling=decoupling,
    ).build()


def test_scheduled_sampling_falls_to_nothing():
    sampling = ScheduledSampling(start=0.8, rate=0.1, stop=6)
    found = [sampling.probability(n) for n in range(9)]
    assert found == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0, 0, 0])
    assert ScheduledSampling(start=0.2, rate=0.1, stop=100).probability(50) == 0


def test_reverse_scheduled_sampling_by_hand():
    sampling = ReverseScheduledSampling(step1=10, step2=20, alpha=5)
    assert sampling.probabilities(9) == (0.5, 0.5)
    assert sampling.probabilities(15) == pytest.approx((1 - 0.5 * math.exp(-1), 0.25))
    assert sampling.probabilities(20) == (1.0, 0.0)


def test_draws_have_their_probabilities():
    generator = torch.Generator().manual_seed(0)
    asked = {"samples": 20_000, "frames": (4, 3), "generator": generator}
    keep = ScheduledSampling(start=1.0, rate=0.01, stop=100).keep(30, **asked)
    assert keep.shape == (20_000, 5)
    assert keep[:, :3].all()
    assert keep[:, 3:].float().mean(0).tolist() == pytest.approx([0.7, 0.7], abs=0.015)
    reverse = ReverseScheduledSampling(step1=0, step2=10, alpha=5)
    p, eta = reverse.probabilities(4)
    found = reverse.keep(4, **asked).float().mean(0).tolist()
    assert found == pytest.approx([p, p, p, eta, eta], abs=0.015)


def test_draws_repeat_with_their_generator():
    sampling = ReverseScheduledSampling()
    first, again = (
        sampling.keep(0, samples=5, frames=(4, 6), generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert torch.equal(first, again)


def test_free_running_is_what_a_forecast_does():
    net, frames = network().eval(), torch.rand(2, 6, 6, 8, 1)
    keep = free_running(2, (3, 3))
    with torch.no_grad():
        assert torch.equal(net.rollout(frames[:, :-1], keep)[:, -3:], net(frames[:, :3]))


def test_both_schedules_end_as_forecasts():
    for sampling in (ScheduledSampling(), ReverseScheduledSampling()):
        keep = sampling.keep(10**6, samples=2, frames=(3, 4))
        assert torch.equal(keep, free_running(2, (3, 4)))


def test_increments_along_each_other_count_one_and_across_nothing():
    delta = torch.randn(2, 3, 4, 5)
    same = torch.nn.Identity()
    assert float(decoupling_loss([(delta, -7 * delta)], same)) == pytest.approx(1, abs=1e-6)
    left, right = torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4)
    left[..., :2], right[..., 2:] = 1.0, 1.0
    assert float(decoupling_loss([(left, right)], same)) == 0
    both = decoupling_loss([(left, right), (left, left)], same)
    assert float(both) == pytest.approx(0.5)


def test_loss_is_that_of_every_frame():
    net = network()
    frames = torch.rand(2, 6, 6, 8, 1)
    keep = torch.ones(2, 4)
    loss = NextFrameLoss(sampling=ScheduledSampling()).of(net, frames[:, :3], frames[:, 3:], keep)
    expected = (net.rollout(frames[:, :-1], keep) - frames[:, 1:]).square().mean()
    assert torch.allclose(loss, expected)


def test_the_adapter_learns_from_decoupling_alone():
    frames = torch.rand(2, 6, 6, 8, 1)
    net = network(decoupling=True)
    loss = NextFrameLoss(sampling=ReverseScheduledSampling(), decoupling=0.1)
    loss(net, frames[:, :3], frames[:, 3:], iteration=0).backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_a_network_learns_a_pattern_that_moves():
    """A few steps bring the free-running error below persistence."""
    torch.manual_seed(0)
    base = torch.rand(4, 6, 8)
    frames = torch.stack([base.roll(t, dims=-1) for t in range(6)], 1)[..., None]
    x, y = frames[:, :3], frames[:, 3:]
    generator = torch.Generator().manual_seed(0)
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), 3e-2)
    loss = NextFrameLoss(sampling=ReverseScheduledSampling(step1=15, step2=45, alpha=10))
    for iteration in range(60):
        optimizer.zero_grad()
        loss(net, x, y, iteration=iteration, generator=generator).backward()
        optimizer.step()
    persistence = (x[:, -1:] - y).square().mean()
    with torch.no_grad():
        assert (net(x) - y).square().mean() < 0.5 * persistence


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScheduledSampling(start=1.5), "start must be a probability"),
        (lambda: ScheduledSampling(rate=-1.0), "must not be negative"),
        (lambda: ReverseScheduledSampling(step1=5, step2=5), "step1 < step2"),
        (lambda: ReverseScheduledSampling(alpha=0.0), "positive alpha"),
        (lambda: NextFrameLoss(sampling=ScheduledSampling(), decoupling=-1.0), "not be negative"),
    ],
)
def test_impossible_values_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_what_a_loss_cannot_compare_is_said():
    x, y = torch.rand(1, 3, 6, 8, 1), torch.rand(1, 3, 6, 8, 1)
    with pytest.raises(ConfigError, match="PredRNN has no adapter"):
        NextFrameLoss(sampling=ScheduledSampling(), decoupling=0.1)(network(), x, y, iteration=0)
    with pytest.raises(ConfigError, match="same channels, found 1 and 2"):
        NextFrameLoss(sampling=ScheduledSampling())(
            network(), x, y.expand(-1, -1, -1, -1, 2), iteration=0
        )
