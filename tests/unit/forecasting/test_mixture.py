"""The mixture of conditional laws, against scipy and against rejection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from xearth.errors import ConstraintError
from xearth.forecasting.mixture import BLOCK, Mixture
from xearth.models.conditions.linear import Linear
from xearth.models.conditions.rows import Rows
from xearth.models.heads import Prediction

INF = np.inf


def mixture(lower, upper, *, sd=None, networks=2, rank=5, seed=0):
    """Return sums with random means and factors, each a condition of its own."""
    rng = np.random.default_rng(seed)
    m = len(lower)
    return Mixture(
        rng.standard_normal((networks, m)),
        rng.standard_normal((networks, m, rank)),
        np.array(lower, dtype=float),
        np.array(upper, dtype=float),
        np.zeros(m) if sd is None else np.array(sd, dtype=float),
        tuple(np.array([i]) for i in range(m)),
        tuple(f"sum {i}" for i in range(m)),
    )


def weights_by_scipy(law):
    """Densities of what is given times probabilities of boxes, in closed form of scipy."""
    found = []
    given = law.given
    for a, B in zip(law.a, law.B, strict=True):
        S = B @ B.T + np.diag(law.sd**2)
        weight, center, cov = 1.0, a[~given], S[np.ix_(~given, ~given)]
        if given.any():
            S_gg, S_rg = S[np.ix_(given, given)], S[np.ix_(~given, given)]
            weight = stats.multivariate_normal(a[given], S_gg).pdf(law.lower[given])
            gain = S_rg @ np.linalg.inv(S_gg)
            center = center + gain @ (law.lower - a)[given]
            cov = cov - gain @ S_rg.T
        if (~given).any():
            normal = stats.multivariate_normal(center, cov, abseps=1e-6, maxpts=10**5)
            weight *= normal.cdf(law.upper[~given], lower_limit=law.lower[~given])
        found.append(weight)
    return np.array(found) / np.sum(found)


@pytest.mark.parametrize(
    ("lower", "upper", "sd"),
    [
        ([0.5], [INF], None),
        ([0.5], [0.5], None),
        ([0.5], [0.5], [0.3]),
        ([0.5, -INF], [0.5, 1.0], None),
        ([-1, 0, 0.2], [1, INF, 0.9], None),
        ([0.1, 0.2, 0.4, -1], [0.1, 0.2, 1.4, INF], [0, 0.5, 0, 0]),
    ],
    ids=["above", "equal", "observed", "both", "three intervals", "all kinds"],
)
def test_weights_of_networks(lower, upper, sd):
    law = mixture(lower, upper, sd=sd)
    np.testing.assert_allclose(law.weights(), weights_by_scipy(law), rtol=2e-4)
    assert abs(law.weights()[0] - 0.5) > 0.02  # so there is something to get right


def test_far_in_the_tail():
    """A probability of 1e-60 still weighs the networks."""
    law = mixture([40.0], [INF])
    odds = [
        stats.norm.logsf(40.0, a[0], np.sqrt((B**2).sum()))
        for a, B in zip(law.a, law.B, strict=True)
    ]
    np.testing.assert_allclose(law.log_weights, odds, rtol=1e-9)
    which, z = law.draw(20, seed=0, key=1)
    assert (law.a[which, 0] + np.einsum("mk,mk->m", law.B[which, 0], z) >= 40.0).all()


def test_probability_of_each_and_of_all():
    law = mixture([0.0, 0.4], [INF, 0.9])
    rng = np.random.default_rng(5)
    count = 400_000
    s = rng.integers(0, 2, count)
    v = law.a[s] + np.einsum("nmk,nk->nm", law.B[s], rng.standard_normal((count, 5)))
    holds = (v >= law.lower) & (v <= law.upper)
    assert law.probability(0) == pytest.approx(holds[:, 0].mean(), abs=4e-3)
    assert law.probability(1) == pytest.approx(holds[:, 1].mean(), abs=4e-3)
    assert law.probability() == pytest.approx(holds.all(1).mean(), abs=4e-3)
    assert mixture([0.0, 0.4], [0.0, 0.9]).probability() is None


def test_draws_against_rejection():
    law = mixture([0.0, 0.2], [INF, 1.2])
    rng = np.random.default_rng(6)
    s, z = rng.integers(0, 2, 200_000), rng.standard_normal((200_000, 5))
    v = law.a[s] + np.einsum("nmk,nk->nm", law.B[s], z)
    kept = ((v >= law.lower) & (v <= law.upper)).all(1)
    which, drawn = law.draw(4000, seed=1, key=2)
    for network in range(2):
        here, there = drawn[which == network], z[kept & (s == network)]
        error = np.sqrt(1 / len(here) + 1 / len(there))
        assert abs(here.mean(0) - there.mean(0)).max() < 4.5 * error
        assert abs(np.cov(here.T) - np.cov(there.T)).max() < 8 * error
    share = (s[kept] == 0).mean()
    assert (which == 0).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))


@pytest.mark.parametrize("equal", [False, True])
def test_more_intervals_than_factors(equal):
    """Sums that depend on each other have no joint density; their draws are those of rejection."""
    lower, upper = [-0.5, -1.0, -0.7, -0.6, -1.5], [INF, 1.5, INF, 2.0, INF]
    law = mixture(lower, upper, rank=3, networks=1)
    if equal:
        lower, upper = [0.0, *lower[1:]], [0.0, *upper[1:]]
        law = Mixture(law.a, law.B, np.array(lower), np.array(upper), law.sd, law.groups, law.names)
    z = np.random.default_rng(8).standard_normal((300_000, 3))
    if equal:
        b = law.B[0, 0]
        z = z - np.outer((z @ b + law.a[0, 0]) / (b @ b), b)
    v = law.a[0] + z @ law.B[0].T
    kept = z[((v >= law.lower) & (v <= law.upper))[:, int(equal) :].all(1)]
    _, drawn = law.draw(2000, seed=2, key=3)
    assert len(kept) > 3000
    made = law.a[0] + drawn @ law.B[0].T
    assert (made >= law.lower - 1e-9).all()
    assert (made <= law.upper + 1e-9).all()
    assert abs(drawn.mean(0) - kept.mean(0)).max() < 5 / np.sqrt(2000)
    assert abs(np.cov(drawn.T) - np.cov(kept.T)).max() < 8 / np.sqrt(2000)
    if not equal:
        assert law.probability() == pytest.approx(len(kept) / len(z), rel=0.05)


def test_equality_is_kriging():
    """Mean and covariance of z given B z = b - a, by the pseudoinverse."""
    law = mixture([0.7, -0.4], [0.7, -0.4], networks=1)
    _, z = law.draw(8000, seed=0, key=0)
    pinv = np.linalg.pinv(law.B[0])
    np.testing.assert_allclose(z @ law.B[0].T + law.a[0], np.tile(law.lower, (8000, 1)), atol=1e-9)
    assert abs(z.mean(0) - pinv @ (law.lower - law.a[0])).max() < 4.5 / np.sqrt(8000)
    assert abs(np.cov(z.T) - (np.eye(5) - pinv @ law.B[0])).max() < 8 / np.sqrt(8000)


def test_a_member_is_the_same_whatever_their_number():
    law = mixture([0.0, 0.2], [INF, 1.2])
    few, many = (law.draw(n, seed=3, key=9) for n in (5, BLOCK + 7))
    np.testing.assert_array_equal(few[0], many[0][:5])
    np.testing.assert_array_equal(few[1], many[1][:5])
    assert len(np.unique(many[1][:, 0])) == BLOCK + 7


def test_members_depend_on_seed_and_start():
    law = mixture([0.0], [INF])
    first, other_seed, other_start = (
        law.draw(5, seed=seed, key=key)[1] for seed, key in ((3, 9), (4, 9), (3, 8))
    )
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, other_start)
    np.testing.assert_array_equal(first, law.draw(5, seed=3, key=9)[1])


def test_sums_of_predictions():
    draw = torch.Generator().manual_seed(0)
    predictions = [
        Prediction(
            torch.randn(1, 2, 3, 4, 1, generator=draw),
            torch.randn(1, 2, 3, 4, 1, 6, generator=draw),
        )
        for _ in range(3)
    ]
    frames = Rows.over(torch.ones(2, 3, 4, 1), frames=True).mean()
    whole = Rows.over(torch.ones(2, 3, 4, 1), frames=False)
    law = Mixture.of(predictions, [Linear(frames, lower=0.1), Linear(whole, upper=3.0, name="all")])
    assert law.a.shape == (3, 3)
    assert [g.tolist() for g in law.groups] == [[0, 1], [2]]
    assert law.lower.tolist() == [0.1, 0.1, -INF]
    for s, one in enumerate(predictions):
        mean, L = one.mean.double().numpy()[0, ..., 0], one.factors.double().numpy()[0, ..., 0, :]
        np.testing.assert_allclose(law.a[s], [*mean.mean((1, 2)), mean.sum()], rtol=1e-5)
        np.testing.assert_allclose(law.B[s], [*L.mean((1, 2)), L.sum((0, 1, 2))], rtol=1e-5)


def test_more_than_the_factors_leave_free():
    with pytest.raises(ConstraintError, match=r"no network can meet sum 0; and sum 1.*3 factors"):
        mixture([0.0] * 4, [0.0] * 4, rank=3)


def test_networks_that_cannot_have_no_weight():
    law = mixture([0.3], [0.3])
    law.B[0] = 0.0
    still = Mixture(law.a, law.B, law.lower, law.upper, law.sd, law.groups, law.names)
    assert still.weights().tolist() == [0.0, 1.0]
