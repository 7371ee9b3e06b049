from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from xearth.errors import CheckpointError, MissingDependencyError, TrainingError
from xearth.models.heads import Guess, LowRankGaussian, Point
from xearth.training.examples import EpochBatches, TrainingBatch
from xearth.training.losses import MSE, GaussianCRPS
from xearth.training.optim import Schedule
from xearth.training.options import TrainOptions
from xearth.training.trainer import LAST, train


class Toy(nn.Module):
    """A linear map of channels with dropout: as random as a real network."""

    def __init__(self, out=1, dropout=0.2):
        super().__init__()
        self.linear = nn.Linear(2, out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.linear(self.dropout(x))


class ToyExamples:
    """y = x0 - 2 x1 + noise; one missing cell."""

    def __init__(self, count=20, seed=0, scale=1.0, rank=0):
        self.rank = rank
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(count, 3, 4, 5, 2, generator=generator) * scale
        noise = 0.1 * torch.randn(count, 3, 4, 5, 1, generator=generator)
        self.y = self.x[..., :1] - 2 * self.x[..., 1:] + noise
        self.weight = torch.ones(1, 1, 4, 5, 1).expand(count, 1, 4, 5, 1).clone()
        self.weight[:, :, 0, 0] = 0

    def __len__(self):
        return len(self.x)

    def batch(self, indices):
        i = torch.as_tensor(indices)
        guess = Guess.none(self.rank, self.x)
        return TrainingBatch(self.x[i], self.y[i], self.weight[i], guess, tuple(indices))

    def describe(self, indices):
        return ", ".join(f"sample-{i}" for i in indices)


def build(seed=0, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Toy(**kwargs)


def options(**changes):
    values = {"epochs": 4, "batch_size": 8, "progress": False, "accelerator": "cpu"}
    return TrainOptions(**{**values, "schedule": Schedule(lr=0.1), **changes})


def fit(network=None, examples=None, *, how=None, **kwargs):
    kwargs = {"head": Point(), "loss": MSE(), **kwargs}
    examples = ToyExamples() if examples is None else examples
    return train(network or build(), examples, options=how or options(), **kwargs)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_it_learns_the_map():
    result = fit(build(dropout=0.0), how=options(epochs=30))
    weight = result.state["linear.weight"]
    torch.testing.assert_close(weight, torch.tensor([[1.0, -2.0]]), atol=0.05, rtol=0)
    assert result.history[-1]["loss"] < 0.05 * result.history[0]["loss"]
    assert [line["epoch"] for line in result.history] == list(range(1, 31))


def test_a_distribution_learns_the_noise():
    network = build(out=3, dropout=0.0)
    result = fit(
        network,
        ToyExamples(64, rank=2),
        head=LowRankGaussian(2),
        loss=GaussianCRPS(),
        how=options(epochs=10, ema=0.5),
        validation=ToyExamples(32, seed=1, rank=2),
    )
    assert result.history[-1]["valid_loss"] < 0.1 * result.history[0]["valid_loss"]
    assert "n_averaged" not in result.state


def test_the_users_random_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit()
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_repeat_and_differ():
    first, again, other = fit(), fit(), fit(how=options(seed=1))
    assert same(first.state, again.state)
    assert not same(first.state, other.state)


def test_micro_batches_give_the_same_step():
    whole = fit(build(dropout=0.0), how=options(batch_size=7))
    parts = fit(build(dropout=0.0), how=options(batch_size=7, micro_batch=3))
    for name in whole.state:
        torch.testing.assert_close(whole.state[name], parts.state[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_resume_after_a_failure_is_exact(tmp_path, stop_after):
    class Failing(ToyExamples):
        """Fails in the middle of an epoch, as a full disk or a lost node would."""

        left = stop_after * 3 + 1

        def batch(self, indices):
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("power cut")
            return super().batch(indices)

    how = options(epochs=5, ema=0.9, patience=4)
    extra = {"validation": ToyExamples(6, seed=1)}
    straight = fit(how=how, **extra)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(build(), Failing(), how=how, checkpoints=tmp_path, **extra)
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    resumed = fit(build(seed=9), how=how, checkpoints=tmp_path, **extra)
    assert same(straight.state, resumed.state)
    assert straight.history == resumed.history


def test_resume_after_a_kill_is_exact(tmp_path):
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_trainer import ToyExamples, fit, options

        class Dying(ToyExamples):
            left = 8
            def batch(self, indices):
                self.left -= 1
                if self.left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().batch(indices)

        fit(None, Dying(), how=options(), checkpoints={str(tmp_path)!r})
        """
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    resumed = fit(how=options(), checkpoints=tmp_path)
    assert same(fit().state, resumed.state)
    assert len(resumed.history) == 4


def test_a_finished_run_is_not_run_again(tmp_path):
    first = fit(checkpoints=tmp_path)

    class Untouchable(ToyExamples):
        def batch(self, indices):
            raise RuntimeError("read again")

    assert same(fit(None, Untouchable(), checkpoints=tmp_path).state, first.state)


def test_early_stop_keeps_the_best_epoch(tmp_path):
    # validation data of another map: training soon makes it worse
    other = ToyExamples(8, seed=3)
    other.y = torch.zeros_like(other.y)
    how = options(epochs=50, patience=2, schedule=Schedule(lr=0.3, warmup=0.0))
    result = fit(how=how, validation=other, checkpoints=tmp_path)
    losses = [line["valid_loss"] for line in result.history]
    assert len(losses) == result.best_epoch + 2 < 50
    assert result.best_epoch == int(np.argmin(losses)) + 1
    again = fit(how=how, validation=other, checkpoints=tmp_path)
    assert again.history == result.history


def test_nan_loss_says_where():
    examples = ToyExamples()
    examples.y[13] = torch.nan
    with pytest.raises(TrainingError, match=r"epoch 1 of 4, step \d.*sample-13.*the truth of"):
        fit(None, examples)


def test_divergence_says_where():
    examples = ToyExamples(scale=1e20)
    with pytest.raises(
        TrainingError, match=r"loss became (inf|nan) in epoch 1 of 4.*data are finite"
    ):
        fit(None, examples)


def test_no_samples_and_no_validation():
    with pytest.raises(TrainingError, match="found 0"):
        fit(None, ToyExamples(0))
    with pytest.raises(TrainingError, match="patience=2 needs a validation"):
        fit(how=options(patience=2))


def test_damaged_or_foreign_checkpoint(tmp_path):
    fit(checkpoints=tmp_path)
    with pytest.raises(CheckpointError, match="another run"):
        fit(how=options(seed=4), checkpoints=tmp_path)
    whole = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="remove it"):
        fit(checkpoints=tmp_path)


def test_missing_lightning_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    with pytest.raises(MissingDependencyError, match=r"xearth\[train\]"):
        fit()


def test_progress_bar_shows_and_hides(capsys):
    fit(how=options(epochs=1))
    assert capsys.readouterr() == ("", "")
    fit(how=options(epochs=1, progress=True))
    shown = capsys.readouterr()
    assert "Epoch" in shown.out + shown.err


def test_bfloat16_autocast_runs():
    result = fit(how=options(epochs=1, precision="bf16-mixed"))
    assert result.state["linear.weight"].dtype == torch.float32


def test_devices_share_an_epoch():
    orders = [EpochBatches(10, 3, seed=2, rank=rank, world=3) for rank in range(3)]
    seen = [index for order in orders for batch in order for index in batch]
    assert set(seen) == set(range(10))
    assert len({len(order) for order in orders}) == 1
    assert [len(list(order)) for order in orders] == [len(order) for order in orders]


def test_order_depends_on_seed_and_epoch():
    order = EpochBatches(10, 10, seed=2)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    order.set_epoch(0)
    assert first == list(order) != second
    assert list(EpochBatches(4, 2, seed=None)) == [[0, 1], [2, 3]]


def test_averaged_weights():
    steady = Schedule(lr=0.1, warmup=0.0, min_ratio=1.0)
    one_step = options(epochs=1, batch_size=20, schedule=steady)
    first = fit(how=one_step).state
    network = build()
    averaged = fit(network, how=options(epochs=2, batch_size=20, schedule=steady, ema=0.75)).state
    last = network.state_dict()
    assert averaged.keys() == last.keys()
    for name, value in averaged.items():
        torch.testing.assert_close(value, 0.75 * first[name] + 0.25 * last[name])


def test_averaged_weights_that_forget_the_start():
    """Decays of 2/11 and 3/12 in the first two steps, the start included; then the constant one."""
    steady = Schedule(lr=0.1, warmup=0.0, min_ratio=1.0)
    how = options(epochs=1, batch_size=20, schedule=steady)
    start, first = build().state_dict(), fit(how=how).state
    network = build()
    again = options(
        epochs=2, batch_size=20, schedule=steady, ema=0.9999, averaging="warmed", patience=None
    )
    averaged = fit(network, how=again).state
    for name, value in averaged.items():
        expected = 2 / 11 * start[name] + 9 / 11 * first[name]
        expected = 3 / 12 * expected + 9 / 12 * network.state_dict()[name]
        torch.testing.assert_close(value, expected)


def test_gradients_are_clipped(monkeypatch):
    plain, norms = torch.optim.AdamW.step, []

    def step(self, closure=None):
        parts = [p.grad.square().sum() for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.stack(parts).sum().sqrt()))
        return plain(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    fit(examples=ToyExamples(scale=1e6), how=options(epochs=1))
    assert norms == pytest.approx([1.0] * 3, rel=1e-3)
