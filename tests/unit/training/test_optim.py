from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from xearth.errors import ConfigError
from xearth.training.optim import PUBLISHED, Schedule, no_decay_names, parameter_groups
from xearth.training.options import TrainOptions

GOLDEN = json.loads(
    (Path(__file__).parents[2] / "golden" / "optim.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("lr_100steps_sevir", PUBLISHED["sevir"]),
        ("lr_50steps_min0.1", Schedule(lr=1e-4, warmup_ratio=0.1, min_ratio=0.1)),
    ],
)
def test_learning_rate_of_the_reference(name, schedule):
    golden = GOLDEN[name]
    ours = [schedule.lr * schedule.factor(step, len(golden)) for step in range(len(golden))]
    assert ours == pytest.approx(golden, rel=1e-9, abs=1e-15)


def test_learning_rate_as_stepped():
    optimizer = Schedule(lr=1e-3).optimizer(nn.Linear(2, 2))
    scheduler = Schedule(lr=1e-3).scheduler(optimizer, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(GOLDEN["lr_100steps_sevir"], rel=1e-9, abs=1e-15)


def test_rate_stays_at_its_minimum_after_the_end():
    schedule = Schedule()
    assert schedule.factor(150, 100) == schedule.min_ratio
    assert schedule.factor(0, 1) == 1.0


def test_groups_by_hand():
    module = nn.ModuleDict(
        {
            "norm": nn.LayerNorm(3),
            "group": nn.GroupNorm(1, 3),
            "linear": nn.Linear(3, 3),
        }
    )
    module.register_parameter("relative_position_bias_table", nn.Parameter(torch.zeros(2)))
    assert no_decay_names(module) == [
        "relative_position_bias_table",
        "norm.weight",
        "norm.bias",
        "group.bias",
        "linear.bias",
    ]
    decayed, kept = parameter_groups(module, 0.3)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert len(decayed["params"]) == 2
    assert len(kept["params"]) == 5


@pytest.mark.parametrize(
    "values",
    [{"lr": 0}, {"weight_decay": -1}, {"clip": 0}, {"warmup": 1.5}, {"min_ratio": -0.1}],
)
def test_impossible_schedule(values):
    with pytest.raises(ConfigError, match="expected"):
        Schedule(**values)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"micro_batch": 0}, "micro_batch=0"),
        ({"patience": 0}, "patience=0"),
        ({"seed": -1}, "seed=-1"),
        ({"ema": 1.0}, "ema=1.0"),
        ({"averaging": "cosine"}, "'constant', 'warmed'"),
        ({"precision": "16-mixed"}, "bf16-mixed"),
    ],
)
def test_impossible_options(values, match):
    with pytest.raises(ConfigError, match=match):
        TrainOptions(**values)


def test_steps_of_a_run():
    assert TrainOptions(epochs=7, batch_size=16).steps(100) == 7 * math.ceil(100 / 16)


def test_groups_of_the_published_network():
    from xearth.models.checkpoints import official_name
    from xearth.models.config import EarthformerConfig

    network = EarthformerConfig.icar_enso().build()
    assert sorted(map(official_name, no_decay_names(network))) == sorted(GOLDEN["no_decay_enso"])
    decayed, _ = parameter_groups(network, 0.1)
    assert len(decayed["params"]) == GOLDEN["n_decay_enso"]
