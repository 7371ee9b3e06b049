from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch

from xearth.errors import CheckpointError, ConfigError
from xearth.models.baselines.convlstm import ConvLSTMConfig
from xearth.models.baselines.predrnn import PredRNNConfig
from xearth.models.baselines.unet import UNetConfig
from xearth.models.heads import Guess, LowRankGaussian, Point
from xearth.training.examples import TrainingBatch
from xearth.training.optim import Schedule
from xearth.training.options import TrainOptions
from xearth.training.strategies import (
    NextFrameLoss,
    ReverseScheduledSampling,
    ScheduledSampling,
    decoupling_loss,
    free_running,
)
from xearth.training.trainer import train

SHAPES = {"input_shape": (3, 6, 8, 1), "target_shape": (3, 6, 8, 1)}


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


def test_cells_without_truth_do_not_count_in_any_frame():
    """What stands in them changes nothing but what the network reads there."""
    net = network()
    x, y, keep = torch.rand(2, 3, 6, 8, 1), torch.rand(2, 3, 6, 8, 1), torch.zeros(2, 4)
    weight = torch.ones(2, 1, 6, 8, 1)
    weight[..., 5:, :] = 0
    loss = NextFrameLoss(sampling=ScheduledSampling())
    other = torch.where(weight > 0, y, y + 9)
    assert torch.equal(loss.of(net, x, y, keep, weight), loss.of(net, x, other, keep, weight))
    assert not torch.equal(loss.of(net, x, y, keep), loss.of(net, x, other, keep))
    frames = torch.cat([x, y], 1)
    error = (net.rollout(frames[:, :-1], keep) - frames[:, 1:]).square()
    expected = error[..., :5, :].mean()
    torch.testing.assert_close(loss.of(net, x, y, keep, weight), expected)


def test_equal_weights_are_no_weights():
    net, frames, keep = network(), torch.rand(2, 6, 6, 8, 1), torch.zeros(2, 4)
    parts = (net, frames[:, :3], frames[:, 3:], keep)
    loss = NextFrameLoss(sampling=ScheduledSampling())
    torch.testing.assert_close(loss.of(*parts), loss.of(*parts, torch.full((8, 1), 0.3)))


# --- through the trainer ------------------------------------------------------------------------


class Waves:
    """Patterns that move by a cell per frame; the last column is never known."""

    def __init__(self, count=10, seed=0):
        base = torch.rand(count, 6, 8, generator=torch.Generator().manual_seed(seed))
        frames = torch.stack([base.roll(t, dims=-1) for t in range(6)], 1)[..., None]
        self.x, self.y = frames[:, :3], frames[:, 3:]
        self.weight = torch.ones(count, 1, 6, 8, 1)
        self.weight[..., -1, :] = 0

    def __len__(self):
        return len(self.x)

    def batch(self, indices):
        i = torch.as_tensor(indices)
        guess = Guess.none(0, self.x)
        return TrainingBatch(self.x[i], self.y[i], self.weight[i], guess, tuple(indices))

    def describe(self, indices):
        return str(indices)


@dataclass(frozen=True, kw_only=True)
class Noted:
    """A sampling that notes what it is asked."""

    inner: ScheduledSampling
    asked: list = field(default_factory=list, repr=False)

    def keep(self, iteration, *, samples, frames, generator=None):
        kept = self.inner.keep(iteration, samples=samples, frames=frames, generator=generator)
        self.asked.append((iteration, kept))
        return kept


def options(**changes):
    values = {"epochs": 4, "batch_size": 4, "progress": False, "accelerator": "cpu"}
    return TrainOptions(**{**values, "schedule": Schedule(lr=3e-3), **changes})


def trained(loss, *, net=None, examples=None, how=None, **kwargs):
    return train(
        net or network(decoupling=True),
        examples or Waves(),
        head=Point(),
        loss=loss,
        options=how or options(),
        **kwargs,
    )


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_the_trainer_counts_steps_over_epochs():
    sampling = Noted(inner=ScheduledSampling(start=0.5, rate=0.0))
    trained(NextFrameLoss(sampling=sampling))
    assert [iteration for iteration, _ in sampling.asked] == list(range(12))
    assert [len(kept) for _, kept in sampling.asked] == [4, 4, 2] * 4
    draws = torch.cat([kept[:2, 2:].flatten() for _, kept in sampling.asked])
    assert 0 < draws.float().mean() < 1, "the draws of different steps differ"


def test_a_strategy_is_resumed_with_the_draws_it_would_have_made(tmp_path):
    class Failing(Waves):
        left = 8  # in the middle of the third epoch

        def batch(self, indices):
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("power cut")
            return super().batch(indices)

    sampling = ReverseScheduledSampling(step1=2, step2=10, alpha=3.0)
    loss = NextFrameLoss(sampling=sampling, decoupling=0.1)
    straight = trained(loss)
    with pytest.raises(RuntimeError, match="power cut"):
        trained(loss, examples=Failing(), checkpoints=tmp_path)
    resumed = trained(loss, checkpoints=tmp_path)
    assert same(straight.state, resumed.state)
    assert straight.history == resumed.history
    assert not same(straight.state, trained(loss, how=options(seed=1)).state)


def test_another_schedule_is_another_run(tmp_path):
    trained(NextFrameLoss(sampling=ScheduledSampling()), checkpoints=tmp_path)
    with pytest.raises(CheckpointError, match="other network, number of samples, head, loss"):
        trained(NextFrameLoss(sampling=ScheduledSampling(rate=0.1)), checkpoints=tmp_path)


def test_micro_batches_draw_and_step_as_the_whole_batch():
    loss = NextFrameLoss(sampling=ScheduledSampling(start=0.5, rate=0.0), decoupling=0.1)
    whole = trained(loss)
    parts = trained(loss, how=options(micro_batch=3))
    for name in whole.state:
        torch.testing.assert_close(whole.state[name], parts.state[name], rtol=1e-3, atol=1e-5)


def test_validation_is_of_the_forecast():
    """Squared error of what the network says without any true frame, where truth is known."""
    held = Waves(4, seed=1)
    net = network(decoupling=True)
    loss = NextFrameLoss(sampling=ScheduledSampling())
    result = trained(loss, net=net, validation=held, how=options(epochs=1))
    net.load_state_dict(result.state)
    with torch.no_grad():
        expected = (net.eval()(held.x) - held.y)[..., :7, :].square().mean()
    assert result.history[0]["valid_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_bfloat16_runs():
    loss = NextFrameLoss(sampling=ScheduledSampling())
    assert trained(loss, how=options(epochs=1, precision="bf16-mixed")).history[0]["loss"] > 0


@pytest.mark.parametrize(
    ("build", "head", "message"),
    [
        (lambda: ConvLSTMConfig(**SHAPES).build(), Point(), "found ConvLSTM, which makes its"),
        (lambda: UNetConfig(**SHAPES, base_units=4, levels=1).build(), Point(), "found UNet"),
        (network, LowRankGaussian(rank=2), "a distribution does not predict"),
        (network, Point(), "has no adapter"),
        (
            lambda: PredRNNConfig(
                input_shape=(3, 6, 8, 3), target_shape=(3, 6, 8, 1), hidden=(4,), decoupling=True
            ).build(),
            Point(),
            "found 3 and 1. Leave out the season",
        ),
    ],
)
def test_networks_of_another_kind_are_refused_before_training(build, head, message):
    loss = NextFrameLoss(sampling=ScheduledSampling(), decoupling=0.1)
    with pytest.raises(ConfigError, match=message):
        train(build(), Waves(), head=head, loss=loss, options=options())
