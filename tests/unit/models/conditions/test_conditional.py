"""Draws of a conditioned low-rank Gaussian against closed forms and rejection sampling."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest, truncnorm

from xearth.errors import ConstraintError
from xearth.models.conditions.conditional import Conditional, truncated_normal
from xearth.models.conditions.linear import Linear
from xearth.models.conditions.rows import Rows
from xearth.models.heads import Prediction

SHAPE, K = (2, 3, 4, 1), 6


def prediction(n: int = 1) -> Prediction:
    draw = torch.Generator().manual_seed(5)
    mean = torch.randn(n, *SHAPE, generator=draw, dtype=torch.float64)
    return Prediction(mean, torch.randn(n, *SHAPE, K, generator=draw, dtype=torch.float64))


def rows(m: int) -> Rows:
    draw = torch.Generator().manual_seed(6)
    return Rows.from_matrix(torch.rand(m, *SHAPE, generator=draw, dtype=torch.float64)).mean()


def law(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return z.mean(0), torch.cov(z.mT)


@pytest.mark.parametrize("low", [-30.0, -3.0, -0.5, 0.0, 2.0, 9.0, 40.0])
@pytest.mark.parametrize("width", [1e-3, 1.0, float("inf")])
def test_truncated_normals_agree_with_scipy(low, width):
    u = torch.linspace(0.001, 0.999, 9, dtype=torch.float64)
    found = truncated_normal(u, u * 0 + low, u * 0 + low + width)
    expected = torch.from_numpy(truncnorm.ppf(u.numpy(), low, low + width))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert bool((found >= low).all() & (found <= low + width).all())


@pytest.mark.parametrize("sd", [None, torch.tensor([0.3, 1.0], dtype=torch.float64)])
def test_equalities_and_observations_leave_the_gaussian_of_kriging(sd):
    p, A = prediction(), rows(2)
    b = torch.tensor([1.0, -0.5], dtype=torch.float64)
    one = Linear(A, lower=b, upper=b, sd=sd)
    z = Conditional(p, [one]).draw(40_000, generator=torch.Generator().manual_seed(0))[0]
    B = A.matrix().to_dense() @ p.factors[0].flatten(0, 3)
    R = torch.zeros(2, 2).double() if sd is None else sd.square().diag()
    gain = B.mT @ torch.linalg.inv(B @ B.mT + R)
    mean, cov = law(z)
    expected = gain @ (b - A.apply(p.mean)[0])
    torch.testing.assert_close(mean, expected, atol=0.02, rtol=0)
    torch.testing.assert_close(cov, torch.eye(K).double() - gain @ B, atol=0.03, rtol=0)
    if sd is None:
        fields = Conditional(p, [one]).members(z[None, :5])[0]
        torch.testing.assert_close(A.apply(fields), b.expand(5, 2))


@pytest.mark.parametrize("m", [1, 2, 3])
def test_inequalities_agree_with_rejection(m):
    p, A = prediction(), rows(m)
    center = A.apply(p.mean)[0]
    lower = center + torch.tensor([0.2, -0.1, 0.1], dtype=torch.float64)[:m]
    condition = Linear(A, lower=lower, upper=lower + 0.8)
    found = Conditional(p, [condition]).draw(
        4000, generator=torch.Generator().manual_seed(1), sweeps=60
    )[0]
    free = torch.randn(600_000, K, generator=torch.Generator().manual_seed(2)).double()
    v = free @ (A.matrix().to_dense() @ p.factors[0].flatten(0, 3)).mT + center
    kept = free[((v >= lower) & (v <= lower + 0.8)).all(-1)]
    assert len(kept) > 2000
    for mine, theirs in zip(law(found), law(kept), strict=True):
        torch.testing.assert_close(mine, theirs, atol=0.1, rtol=0)
    for k in range(K):
        assert kstest(found[:, k].numpy(), kept[:, k].numpy()).pvalue > 1e-4


def test_an_equality_an_inequality_and_an_observation_hold_at_once():
    p, A = prediction(2), rows(3)
    parts = [Rows(A.index[i : i + 1], A.weights[i : i + 1], SHAPE) for i in range(3)]
    target = torch.tensor([[0.5], [1.0]], dtype=torch.float64)
    conditions = [
        Linear(parts[0], lower=target, upper=target),
        Linear(parts[1], lower=0.7),
        Linear(parts[2], lower=0.1, upper=0.1, sd=0.2),
    ]
    law_of = Conditional(p, conditions)
    z = law_of.draw(500, generator=torch.Generator().manual_seed(3))
    fields = law_of.members(z)
    torch.testing.assert_close(parts[0].apply(fields[0]), target[0].expand(500, 1))
    torch.testing.assert_close(parts[0].apply(fields[1]), target[1].expand(500, 1))
    assert all(float(parts[1].apply(one).min()) >= 0.7 - 1e-9 for one in fields)


def test_what_factors_cannot_meet_is_refused():
    p, A = prediction(), rows(1)
    flat = Prediction(p.mean, torch.zeros_like(p.factors))
    with pytest.raises(ConstraintError, match="cannot meet"):
        Conditional(flat, [Linear(A, lower=9.0)]).draw(3)
    two = [Linear(A, lower=1.0, upper=1.0), Linear(A, lower=2.0, upper=2.0)]
    with pytest.raises(ConstraintError, match="cannot meet"):
        Conditional(p, two).draw(3)
    with pytest.raises(ConstraintError, match="point forecast"):
        Conditional(Prediction(p.mean, p.mean.new_zeros(1, *SHAPE, 0)), [Linear(A, lower=1.0)])
    with pytest.raises(ConstraintError, match="needs one value"):
        Conditional(p, [Linear(A, lower=1.0, sd=1.0)])
