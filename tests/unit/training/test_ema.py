"""Averages of weights with a warm-up, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xearth.errors import ConfigError
from xearth.training.ema import warmed_average


def test_average_is_the_recursion():
    network = nn.Linear(2, 1).double()
    average = warmed_average(network, decay=0.4)
    expected = network.weight.detach().clone()
    for k in range(1, 9):
        with torch.no_grad():
            network.weight += k
        average.update_parameters(network)
        kept = min(0.4, (1 + k) / (10 + k))
        expected = kept * expected + (1 - kept) * network.weight.detach()
        torch.testing.assert_close(average.module.weight, expected)
    assert (1 + 8) / (10 + 8) > 0.4  # the last of them were at the full decay


def test_average_comes_back_from_its_state():
    network = nn.Linear(2, 1)
    first, second = warmed_average(network), warmed_average(nn.Linear(2, 1))
    first.update_parameters(network)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        network.weight += 1.0
    first.update_parameters(network)
    second.update_parameters(network)
    torch.testing.assert_close(first.module.weight, second.module.weight)


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0])
def test_refusals(decay):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        warmed_average(nn.Linear(1, 1), decay=decay)
