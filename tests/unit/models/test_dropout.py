"""Dropout by runs: the distribution of torch's own, the gradient of the mask that was drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.checkpoint import checkpoint

from xearth.models.dropout import dropout

PROBABILITIES = [0.01, 0.1, 0.5, 0.9]


def masks(p, n, repeats, seed=0):
    """Dropped elements, (repeats, n)."""
    torch.manual_seed(seed)
    return torch.stack([dropout(torch.ones(n), p, True) == 0 for _ in range(repeats)]).numpy()


@pytest.mark.parametrize("p", PROBABILITIES)
def test_number_dropped_is_binomial(p):
    counts = masks(p, 40, 3000).sum(axis=1)
    seen = np.bincount(counts, minlength=41)
    expected = 3000 * stats.binom.pmf(np.arange(41), 40, p)
    common = expected >= 5
    seen = np.append(seen[common], seen[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    keep = expected > 0
    assert stats.chisquare(seen[keep], expected[keep] * 3000 / expected[keep].sum()).pvalue > 1e-4


@pytest.mark.parametrize("p", PROBABILITIES)
def test_every_position_and_every_pair_is_dropped_as_often_as_it_should(p):
    dropped = masks(p, 24, 4000).astype(float)
    sigma = np.sqrt(p * (1 - p) / 4000)
    assert np.abs(dropped.mean(axis=0) - p).max() < 4.5 * sigma
    pairs = (dropped.T @ dropped / 4000)[np.triu_indices(24, 1)]
    sigma = np.sqrt(p**2 * (1 - p**2) / 4000)
    assert np.abs(pairs - p**2).max() < 5 * sigma + 1e-3


@pytest.mark.parametrize("p", PROBABILITIES)
def test_rate_over_a_large_tensor(p):
    n = 400_000
    torch.manual_seed(3)
    share = float((dropout(torch.ones(n), p, True) == 0).double().mean())
    assert abs(share - p) < 4.5 * np.sqrt(p * (1 - p) / n)


def test_expectation_is_kept():
    torch.manual_seed(0)
    x = torch.randn(100_000, dtype=torch.float64)
    mean = torch.stack([dropout(x, 0.1, True) for _ in range(20)]).mean(0)
    slope = float((mean * x).sum() / x.square().sum())
    assert slope == pytest.approx(1.0, abs=4.5 * np.sqrt(0.1 / 0.9 / 20 / 100_000) * np.sqrt(3))


def test_gradient_is_the_mask_that_was_drawn():
    x = torch.rand(40, 50, dtype=torch.float64) + 1.0
    x.requires_grad_()
    y = dropout(x, 0.3, True)
    cotangent = torch.randn_like(y)
    (grad,) = torch.autograd.grad(y, x, cotangent)
    assert torch.allclose(grad, cotangent * (y != 0) / 0.7, rtol=1e-12, atol=0.0)


def test_gradients_by_finite_differences_also_of_second_order():
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)

    def run(x):
        torch.manual_seed(5)
        return dropout(x, 0.4, True).square()

    assert torch.autograd.gradcheck(run, x)
    assert torch.autograd.gradgradcheck(run, x)


def test_follows_the_seed_and_moves_on():
    x = torch.ones(500)
    torch.manual_seed(1)
    first, second = dropout(x, 0.2, True), dropout(x, 0.2, True)
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.2, True), first)
    assert not torch.equal(first, second)


def test_recomputation_in_the_backward_pass_draws_the_same_mask():
    torch.manual_seed(0)
    x = torch.randn(300, requires_grad=True)

    def part(x):
        return dropout(x, 0.3, True).sin()

    y = checkpoint(part, x, use_reentrant=False)
    (grad,) = torch.autograd.grad(y.sum(), x)
    kept = y != 0
    assert torch.allclose(grad[kept], (x[kept] / 0.7).cos() / 0.7)
    assert torch.equal(grad == 0, ~kept)


@pytest.mark.parametrize("layout", ["permuted", "expanded"])
def test_any_strides(layout):
    x = torch.arange(1.0, 25.0).view(4, 6)
    x = x.t() if layout == "permuted" else x[:1].expand(5, 6)
    before = x.clone()
    y = dropout(x, 0.3, True)
    assert torch.equal(x, before)
    assert torch.allclose(y[y != 0], (x / 0.7)[y != 0])


def test_nothing_happens_outside_training_or_without_probability():
    x = torch.randn(5)
    assert dropout(x, 0.3, False) is x
    assert dropout(x, 0.0, True) is x
    assert torch.equal(dropout(x, 1.0, True), torch.zeros(5))
    assert dropout(torch.ones(0), 0.3, True).shape == (0,)


def test_runs_on_the_meta_device():
    assert dropout(torch.empty(3, 4, device="meta"), 0.3, True).shape == (3, 4)
