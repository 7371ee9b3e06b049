"""The loop of next-frame networks, shown on one whose dynamics are known."""

from __future__ import annotations

import pytest
import torch

from xearth.errors import GridMismatchError
from xearth.models.baselines.common import BaselineConfig
from xearth.models.baselines.next_frame import NextFrame, emitted


class Doubling(NextFrame):
    """Predicts twice what it reads; counts its steps. Emits the frame, then 10 times it."""

    def start(self, frame):
        return 0

    def step(self, frame, state):
        C_e, C_out = emitted(self.config), self.config.target_shape[-1]
        twice = 2 * frame
        if C_e != self.config.input_shape[-1]:
            cells = twice.unflatten(1, (-1, self.config.input_shape[-1]))
            twice = torch.cat([cells, 10 * cells[:, :, :1].expand(-1, -1, C_out, -1, -1)], 2)
            twice = twice.flatten(1, 2)
        return twice, state + 1


def doubling(T=3, T_out=2, C=1, C_out=1, grid=(3, 5), p=2):
    config = BaselineConfig(input_shape=(T, *grid, C), target_shape=(T_out, *grid, C_out))
    return Doubling(config, p)


def frames(count, C=1):
    """Frame t is 1 + t everywhere."""
    return (1.0 + torch.arange(count)).reshape(1, count, 1, 1, 1).expand(2, count, 3, 5, C)


def values(y):
    """The one value of each frame of sample 0."""
    assert (y == y[:, :, :1, :1, :1]).all()
    return y[0, :, 0, 0, 0].tolist()


def test_a_forecast_reads_history_and_then_itself():
    y = doubling()(frames(3))
    assert y.shape == (2, 2, 3, 5, 1)
    assert values(y) == [6, 12]


def test_all_predictions_of_a_forecast():
    assert values(doubling().rollout(frames(3))) == [2, 4, 6, 12]


def test_frames_after_the_history_are_not_seen_by_default():
    assert values(doubling().rollout(frames(5))) == [2, 4, 6, 12]


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((1, 1, 1), [2, 4, 6, 8]),
        ((1, 1, 0), [2, 4, 6, 12]),
        ((0, 0, 0), [2, 4, 8, 16]),
        ((0, 1, 0), [2, 4, 6, 12]),
        ((1, 0, 1), [2, 4, 8, 8]),
        ((1, 1, 0.5), [2, 4, 6, 10]),
    ],
)
def test_what_is_kept_decides_what_is_read(kept, expected):
    keep = torch.tensor(kept).expand(2, 3)
    network = doubling()
    assert values(network.rollout(frames(4), keep)) == expected
    everywhere = keep.reshape(2, 3, 1, 1, 1)
    assert values(network.rollout(frames(4), everywhere)) == expected
    assert values(network.rollout(frames(4), everywhere.expand(-1, -1, 3, 5, 1))) == expected


def test_samples_keep_what_is_theirs():
    keep = torch.tensor([[1, 1, 1], [0, 0, 0]])
    y = doubling().rollout(frames(4), keep)
    assert y[:, -1, 0, 0, 0].tolist() == [8, 16]


def test_cells_keep_what_is_theirs():
    keep = torch.zeros(2, 3, 3, 5, 1)
    keep[:, :, 2, 4] = 1
    y = doubling().rollout(frames(4), keep)
    assert y[0, -1, 2, 4, 0] == 8
    assert y[0, -1, 1, 4, 0] == 16


@pytest.mark.parametrize(("C", "C_out"), [(2, 1), (1, 3)])
def test_with_other_channels_the_frame_is_fed_back_and_the_rest_returned(C, C_out):
    network = doubling(C=C, C_out=C_out)
    assert emitted(network.config) == C + C_out
    assert values(network(frames(3, C))) == [60, 120]
    assert network(frames(3, C)).shape[-1] == C_out


def test_states_come_with_the_predictions():
    assert [state for _, state in doubling().steps(frames(3))] == [1, 2, 3, 4]


def test_wrong_shapes_are_refused():
    network = doubling()
    with pytest.raises(GridMismatchError, match=r"frames must be .* \(N, 4, 3, 5, 1\)"):
        network.rollout(frames(3), torch.ones(2, 3))
    with pytest.raises(GridMismatchError, match=r"frames must be .* \(N, 3, 3, 5, 1\)"):
        network.rollout(frames(2))
    with pytest.raises(GridMismatchError, match=r"keep must be .* \(2, 3\).*got \(2, 4\)"):
        network.rollout(frames(4), torch.ones(2, 4))
    with pytest.raises(GridMismatchError, match=r"keep must be"):
        network.rollout(frames(4), torch.ones(2, 3, 5, 3, 1))
