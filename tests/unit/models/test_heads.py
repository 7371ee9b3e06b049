from __future__ import annotations

import math

import pytest
import torch

from xearth.errors import ConfigError
from xearth.models.heads import Guess, LowRankGaussian, Point, Prediction, head_from_dict


def make(rank=3, channels=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(2, 3, 4, 5, channels * (1 + rank), generator=generator)
    return output, LowRankGaussian(rank).predict(output)


def test_point_is_the_output_without_width():
    output = torch.randn(2, 3, 4, 5, 1)
    prediction = Point().predict(output)
    assert prediction.rank == Point().rank == 0
    assert torch.equal(prediction.mean, output)
    assert float(prediction.variance().abs().max()) == 0
    assert torch.equal(prediction.member(torch.zeros(2, 0)), output)


def test_channels_are_mean_then_factors_by_variable():
    output, prediction = make()
    assert LowRankGaussian(3).out_channels(2) == 8 == output.shape[-1]
    assert torch.equal(prediction.mean, output[..., :2])
    # variable 1, factor 2 sits at 2 + 1 * 3 + 2
    torch.testing.assert_close(prediction.factors[..., 1, 2], output[..., 7] / math.sqrt(3))


def test_member_moments_agree_with_mean_and_variance():
    _, prediction = make()
    z = torch.randn(20_000, 2, 3, generator=torch.Generator().manual_seed(1))
    members = torch.stack([prediction.member(draw) for draw in z])
    error = (members.mean(0) - prediction.mean).abs() / prediction.variance().sqrt()
    assert float(error.max()) < 5 / math.sqrt(20_000)
    ratio = members.var(0) / prediction.variance()
    assert 0.93 < float(ratio.min()) <= float(ratio.max()) < 1.07


def test_a_member_is_coherent_over_cells_and_leads():
    factors = torch.ones(1, 3, 4, 5, 1, 1)
    field = Prediction(torch.zeros(1, 3, 4, 5, 1), factors).member(torch.tensor([[0.7]]))
    torch.testing.assert_close(field, torch.full_like(field, 0.7))


def test_departure_from_a_guess():
    _, prediction = make()
    shape = (1, 3, 4, 5, 2)
    guess = Guess(torch.full((2, *shape[1:]), 2.0), torch.ones(*shape, 3), torch.full(shape, 0.5))
    moved = prediction.about(guess)
    torch.testing.assert_close(moved.mean, 2 + prediction.mean / 2)
    torch.testing.assert_close(moved.factors, 1 + prediction.factors / 2)
    one = prediction.about(guess.rows(slice(1, 2)).to(prediction.mean))
    torch.testing.assert_close(one.mean, moved.mean)


def test_the_neutral_guess_changes_nothing():
    _, prediction = make()
    same = prediction.about(Guess.none(3, prediction.mean).rows(slice(0, 1)))
    assert torch.equal(same.mean, prediction.mean)
    assert torch.equal(same.factors, prediction.factors)


@pytest.mark.parametrize("head", [Point(), LowRankGaussian(1), LowRankGaussian(7)])
def test_dict_round_trip(head):
    assert head_from_dict(head.to_dict()) == head


@pytest.mark.parametrize("rank", [0, -1, 2.0, True])
def test_impossible_rank(rank):
    with pytest.raises(ConfigError, match="at least 1"):
        LowRankGaussian(rank)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"kind": "laplace"}, "laplace.*low_rank_gaussian"),
        ({"kind": "point", "rank": 3}, "cannot take"),
        ({}, "unknown kind"),
    ],
)
def test_foreign_dict(values, match):
    with pytest.raises(ConfigError, match=match):
        head_from_dict(values)


def test_output_that_does_not_fit_the_head():
    with pytest.raises(ValueError, match=r"7 channels.*multiple of 4"):
        LowRankGaussian(3).predict(torch.zeros(1, 1, 1, 1, 7))
    with pytest.raises(ValueError, match="do not belong"):
        Prediction(torch.zeros(1, 2, 3, 4, 1), torch.zeros(1, 2, 3, 4, 2, 1))


def test_meta_device():
    prediction = LowRankGaussian(2).predict(torch.zeros(1, 2, 3, 4, 3, device="meta"))
    assert prediction.member(torch.zeros(1, 2, device="meta")).device.type == "meta"
