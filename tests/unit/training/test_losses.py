from __future__ import annotations

import math

import numpy as np
import pytest
import scoringrules
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.errors import ConfigError
from xearth.models.heads import LowRankGaussian, Point, Prediction
from xearth.training.losses import (
    MAE,
    MSE,
    GaussianCRPS,
    Scale,
    ThresholdWeighted,
    cos_latitude,
    crps_gaussian,
)

SHAPE = (2, 4, 5, 7, 1)  # blocks of 3 do not divide 5 or 7


def fields(seed=0, rank=3):
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(*SHAPE[:-1], 1 + rank, generator=generator, dtype=torch.float64)
    truth = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    weight = torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    weight = weight * (torch.rand(SHAPE, generator=generator) > 0.3)
    return LowRankGaussian(rank).predict(output), truth, weight


def test_crps_against_another_library():
    error = torch.linspace(-3, 3, 41, dtype=torch.float64)
    for sigma in (0.05, 0.7, 4.0):
        ours = crps_gaussian(error, torch.tensor(sigma**2, dtype=torch.float64))
        other = scoringrules.crps_normal(error.numpy(), 0.0, sigma)
        np.testing.assert_allclose(ours.numpy(), other, atol=2e-6)


def test_crps_without_width_is_the_absolute_error():
    error = torch.tensor([-2.0, 0.0, 0.5], dtype=torch.float64)
    ours = crps_gaussian(error, torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(ours, error.abs(), atol=1e-6, rtol=0)


def test_crps_has_a_gradient_at_zero_width():
    factor = torch.zeros(3, requires_grad=True)
    crps_gaussian(torch.ones(3), factor.square()).sum().backward()
    assert torch.isfinite(factor.grad).all()


@pytest.mark.parametrize("scale", [Scale(), Scale((3, 3)), Scale(None), Scale((2, 4), leads=3)])
def test_pooled_crps_by_monte_carlo(scale):
    """Independent route: draw members, pool them by loops, take the ensemble CRPS."""
    prediction, truth, weight = fields()
    loss = GaussianCRPS((scale,))(prediction, truth, weight)
    draws = torch.randn(4000, 2, 3, generator=torch.Generator().manual_seed(3)).double()
    members = torch.stack([prediction.member(z) for z in draws]).numpy()
    (h, w), L = scale.block or SHAPE[2:4], scale.leads
    for n in range(SHAPE[0]):
        total = mass = 0.0
        for t in range(SHAPE[1] - L + 1):
            for i in range(0, SHAPE[2], h):
                for j in range(0, SHAPE[3], w):
                    part = (n, slice(t, t + L), slice(i, i + h), slice(j, j + w))
                    a = weight.numpy()[part]
                    if a.sum() == 0:
                        continue
                    obs = (a * truth.numpy()[part]).sum() / a.sum()
                    pooled = (a * members[(slice(None), *part)]).sum((1, 2, 3, 4)) / a.sum()
                    total += a.sum() * scoringrules.crps_ensemble(obs, pooled)
                    mass += a.sum()
        assert float(loss[n]) == pytest.approx(total / mass, rel=0.02)


def test_scales_are_averaged_by_their_gain():
    prediction, truth, weight = fields()
    one, two = Scale(), Scale(None, gain=3.0)
    both = GaussianCRPS((one, two))(prediction, truth, weight)
    apart = [GaussianCRPS((scale,))(prediction, truth, weight) for scale in (one, two)]
    torch.testing.assert_close(both, (apart[0] + 3 * apart[1]) / 4)


LOSSES = [
    MSE(),
    MAE(),
    ThresholdWeighted(0.5),
    ThresholdWeighted(-1.0, upper=False),
    GaussianCRPS(),
]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_missing_truth_counts_for_nothing(loss):
    prediction, truth, weight = fields()
    spoiled = torch.where(weight > 0, truth, torch.full_like(truth, 1e6))
    torch.testing.assert_close(
        loss(prediction, spoiled, weight), loss(prediction, truth, weight), rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_sample_without_truth_is_zero_and_has_no_gradient(loss):
    prediction, truth, weight = fields()
    weight[1] = 0
    mean = prediction.mean.clone().requires_grad_()
    values = loss(Prediction(mean, prediction.factors), truth, weight)
    values.sum().backward()
    assert float(values[1].detach()) == 0
    assert float(mean.grad[1].abs().max()) == 0
    assert float(mean.grad[0].abs().max()) > 0


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_gradient_by_finite_differences(loss):
    prediction, truth, weight = fields(rank=2)
    inputs = (prediction.mean.clone(), prediction.factors.clone())
    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda mean, factors: loss(Prediction(mean, factors), truth, weight).sum(),
        inputs,
        fast_mode=True,
    )


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_constant_weights_do_not_matter(loss):
    prediction, truth, weight = fields()
    torch.testing.assert_close(loss(prediction, truth, weight), loss(prediction, truth, 7 * weight))


def test_mse_and_mae_by_numpy():
    prediction, truth, weight = fields()
    error = (prediction.mean - truth).numpy()
    for loss, score in ((MSE(), error**2), (MAE(), np.abs(error))):
        expected = [np.average(score[n], weights=weight[n].numpy()) for n in range(2)]
        np.testing.assert_allclose(loss(prediction, truth, weight).numpy(), expected)


@settings(max_examples=30, deadline=None)
@given(st.floats(-2, 2), st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 5))
def test_threshold_weighted_by_cases(threshold, forecast, observed, gain):
    mean = torch.full((1, 1, 1, 1, 1), forecast, dtype=torch.float64)
    prediction = Point().predict(mean)
    truth = torch.full_like(mean, observed)
    loss = ThresholdWeighted(threshold, gain)(prediction, truth, torch.ones_like(mean))
    tail = max(forecast, threshold) - max(observed, threshold)
    assert float(loss) == pytest.approx((forecast - observed) ** 2 + gain * tail**2, abs=1e-9)


def test_cos_latitude():
    weights = cos_latitude(torch.tensor([-90.0, 0.0, 90.0]))
    torch.testing.assert_close(weights, torch.tensor([0.0, 3.0, 0.0]), atol=1e-6, rtol=0)
    assert float(cos_latitude(torch.linspace(-80, 80, 9)).mean()) == pytest.approx(1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Scale((0, 1)),
        lambda: Scale(leads=0),
        lambda: Scale(gain=0.0),
        lambda: GaussianCRPS(()),
        lambda: ThresholdWeighted(math.nan),
        lambda: ThresholdWeighted(0.0, gain=-1.0),
    ],
)
def test_impossible_values(make):
    with pytest.raises(ConfigError, match="expected"):
        make()
