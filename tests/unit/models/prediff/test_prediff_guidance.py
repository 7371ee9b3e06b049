"""Guidance on Gaussian laws, whose conditional laws are known, and against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from xearth.errors import ConfigError, ConstraintError, SamplingError
from xearth.models.conditions.conjunction import All
from xearth.models.conditions.linear import Linear
from xearth.models.conditions.ranges import Range
from xearth.models.conditions.rows import Rows
from xearth.models.prediff.flow import FlowMatching
from xearth.models.prediff.gaussian import GaussianField
from xearth.models.prediff.guidance import (
    AlignmentGuidance,
    PosteriorGuidance,
    ProjectionGuidance,
    ScoreGuidance,
    guided,
)
from xearth.models.prediff.guidance_covariance import (
    CovarianceGuidance,
    CovarianceWalk,
    conjugate_gradients,
)
from xearth.models.prediff.levels import Level, posterior
from xearth.models.prediff.noise import MemberNoise
from xearth.models.prediff.process import Diffusion
from xearth.models.prediff.sampler import sample
from xearth.models.prediff.sampler_ancestral import DDIM
from xearth.models.prediff.sampler_dpm import DPMSolver
from xearth.models.prediff.sampler_straight import Heun
from xearth.models.prediff.truncated import shift_within

SIZE = 4
SHAPE = (1, SIZE, SIZE, 1)
LEVEL = Level(300.0, 0.8, 0.6, (0.82, math.sqrt(1 - 0.82**2)))


def _prior():
    x = torch.arange(SIZE)
    d = torch.minimum(x, SIZE - x).double()
    kernel = torch.exp(-(d[:, None] ** 2 + 1.7 * d[None] ** 2) / 3.0)
    return GaussianField(
        torch.full((SIZE, SIZE), 0.3, dtype=torch.float64),
        torch.fft.fft2(kernel).real.clamp(min=0),
    )


def _matrix(prior):
    eye = torch.eye(SIZE**2, dtype=torch.float64).reshape(-1, *SHAPE)
    return prior.covariance(eye).reshape(SIZE**2, SIZE**2)


def _two_sums():
    weights = torch.zeros(2, SIZE**2, dtype=torch.float64)
    weights[0, :6] = torch.linspace(0.1, 0.3, 6)
    weights[1, 4:] = 1 / 12
    return weights


def _linear(lower, upper=None, **options):
    rows = Rows.from_matrix(_two_sums(), SHAPE)
    return Linear(rows, lower=lower, upper=lower if upper is None else upper, **options)


def _states(count=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)


def _given_state(prior, z, level):
    """Mean and covariance of x_0 given z by dense linear algebra."""
    C = _matrix(prior)
    mean = prior.mean.flatten()
    gain = (
        level.alpha
        * C
        @ torch.linalg.inv(
            level.alpha**2 * C + level.sigma**2 * torch.eye(len(C), dtype=torch.float64)
        )
    )
    return mean + (z.flatten(1) - level.alpha * mean) @ gain.T, C - level.alpha * gain @ C


# --- covariance-aware -------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["direct", "cg"])
@pytest.mark.parametrize("sd", [None, torch.tensor([0.2, 0.5])])
def test_covariance_guidance_is_bayes_rule(solver, sd):
    """E[x_0 | z, A x_0 = b (+ error)] by dense algebra, for equalities."""
    prior, z = _prior(), _states()
    b = torch.tensor([1.0, -0.5], dtype=torch.float64)
    guidance = CovarianceGuidance(condition=_linear(b, sd=sd), solver=solver)
    found = guided(prior, guidance)(z, LEVEL).flatten(1)
    mean, V = _given_state(prior, z, LEVEL)
    A = _two_sums()
    R = torch.zeros(2, 2) if sd is None else torch.diag(sd.double() ** 2)
    gain = V @ A.T @ torch.linalg.inv(A @ V @ A.T + R)
    torch.testing.assert_close(found, mean + (b - mean @ A.T) @ gain.T)
    if sd is None:
        torch.testing.assert_close(found @ A.T, b.expand(len(z), 2))


def test_parts_of_a_conjunction_are_taken_together():
    prior, z = _prior(), _states()
    rows = Rows.from_matrix(_two_sums(), SHAPE)
    both = _linear(torch.tensor([1.0, -0.5]))
    one = Linear(Rows(rows.index[:1], rows.weights[:1], SHAPE), lower=1.0, upper=1.0)
    two = Linear(Rows(rows.index[1:], rows.weights[1:], SHAPE), lower=-0.5, upper=-0.5)
    found = guided(prior, CovarianceGuidance(condition=All([one, two])))(z, LEVEL)
    torch.testing.assert_close(found, guided(prior, CovarianceGuidance(condition=both))(z, LEVEL))
    # a statement made twice is no singular matrix
    twice = guided(prior, CovarianceGuidance(condition=All([one, two, one])))(z, LEVEL)
    torch.testing.assert_close(found, twice, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("lower", "upper"), [(0.9, torch.inf), (-torch.inf, -0.4), (0.2, 0.5)])
def test_an_inequality_moves_to_the_truncated_law(lower, upper):
    """E[x_0 | z, l <= a x_0 <= u], through the regression of x_0 on a x_0."""
    prior, z = _prior(), _states()
    a = _two_sums()[:1]
    condition = Linear(Rows.from_matrix(a, SHAPE), lower=lower, upper=upper)
    found = guided(prior, CovarianceGuidance(condition=condition))(z, LEVEL).flatten(1)
    mean, V = _given_state(prior, z, LEVEL)
    center, sd = (mean @ a.T)[:, 0].numpy(), math.sqrt(float(a @ V @ a.T))
    law = stats.truncnorm((lower - center) / sd, (upper - center) / sd, loc=center, scale=sd)
    moved = torch.as_tensor(law.mean() - center)
    expected = mean + moved[:, None] * (V @ a.T / sd**2).T
    torch.testing.assert_close(found, expected)


def test_cg_refuses_inequalities_and_direct_takes_many():
    condition = _linear(0.0, torch.inf)
    with pytest.raises(ConstraintError, match="equalities only"):
        guided(_prior(), CovarianceGuidance(condition=condition, solver="cg"))(_states(), LEVEL)
    with pytest.raises(ConstraintError, match="no measure with bounds"):
        CovarianceGuidance(condition=_Curved())
    with pytest.raises(ConfigError, match="'direct' or 'cg'"):
        CovarianceGuidance(condition=condition, solver="lu")


@pytest.mark.parametrize(
    ("mean", "sd", "lower", "upper"),
    [
        (0.0, 1.0, 0.5, np.inf),
        (0.0, 1.0, -np.inf, -3.0),
        (2.0, 0.5, -1.0, 1.0),
        (0.0, 1.0, 8.0, 9.0),
        (0.0, 1.0, -9.0, -8.0),
        (0.3, 2.0, -1.0, 4.0),
    ],
)
def test_shift_within_bounds(mean, sd, lower, upper):
    law = stats.truncnorm((lower - mean) / sd, (upper - mean) / sd, loc=mean, scale=sd)
    numbers = [torch.tensor([v], dtype=torch.float64) for v in (mean, sd**2, lower, upper)]
    assert float(shift_within(*numbers)) == pytest.approx(law.mean() - mean, rel=1e-7)


def test_shift_within_is_finite_everywhere():
    mean = torch.linspace(-60, 60, 41, dtype=torch.float64)
    one = torch.ones_like(mean)
    for lower, upper in ((0.0, torch.inf), (-torch.inf, 0.0), (0.0, 1e-7), (0.0, 0.0), (0.0, 2.0)):
        shift = shift_within(mean, one, lower * one, upper * one)
        assert bool(shift.isfinite().all())
        assert bool((mean + shift >= lower - 1e-9).all() & (mean + shift <= upper + 1e-9).all())


def test_conjugate_gradients_solve_each_row():
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(4, 6, 6, generator=generator, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(6, dtype=torch.float64)
    right = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    right[2] = 0.0
    found = conjugate_gradients(
        lambda v: torch.einsum("nij,nj->ni", matrix, v), right, iterations=12
    )
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("process", [Diffusion(), FlowMatching()])
def test_the_conditional_law_is_sampled(process):
    """Mean, covariance and the condition itself, of 4000 samples; also from pure noise."""
    prior, b = _prior(), torch.tensor([1.0, -0.5], dtype=torch.float64)
    predict = guided(prior, CovarianceGuidance(condition=_linear(b)))
    draw = MemberNoise(SHAPE, members=range(4000), dtype=torch.float64)
    flow = isinstance(process, FlowMatching)
    sampler = DPMSolver(steps=40 if flow else 20, spacing="linspace" if flow else "logsnr")
    found = sample(sampler, process, predict, draw).flatten(1)
    A, C = _two_sums(), _matrix(prior)
    gain = C @ A.T @ torch.linalg.inv(A @ C @ A.T)
    mean = prior.mean.flatten()
    mean, covariance = mean + gain @ (b - A @ mean), C - gain @ A @ C
    assert (found @ A.T - b).abs().max() < 1e-9
    assert (found.mean(0) - mean).norm() < 0.06 * mean.norm()
    assert (torch.cov(found.T) - covariance).norm() < 0.06 * covariance.norm()


# --- gradients against finite differences -----------------------------------------------------


class _Curved:
    """A condition on the sum of squares."""

    name, exact, convex = "squares", False, False

    def measure(self, y):
        return y.double().square().flatten(1).sum(1, keepdim=True)

    def residual(self, y):
        return (self.measure(y) - 3.0).clamp(min=0.0)

    def magnitude(self, y):
        return self.measure(y)

    def energy(self, y):
        return 0.5 * (self.residual(y) / 0.5).square().sum(-1)

    def project(self, y):
        raise ConstraintError("squares: no projection")


def _decode(clean):
    return torch.tanh(clean) * 2.0 + 0.1 * clean.square()


def _slopes(energy, z, step=1e-5):
    """Return the gradient of the energy of each sample by central differences."""
    slopes = torch.zeros_like(z)
    for index in np.ndindex(*z.shape[1:]):
        moved = torch.zeros_like(z[:1])
        moved[(0, *index)] = step
        slopes[(slice(None), *index)] = (energy(z + moved) - energy(z - moved)) / (2 * step)
    return slopes


CONDITIONS = [_linear(torch.tensor([1.0, -0.5]), scale=0.3), _Curved(), Range(lower=0.1, scale=0.5)]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_posterior_guidance_follows_the_gradient(condition):
    prior, z = _prior(), _states()

    def distance(state):
        return (2 * condition.energy(_decode(prior(state, LEVEL)))).sqrt()

    guidance = PosteriorGuidance(condition=condition, decode=_decode, scale=0.7)
    change = guided(prior, guidance)(z, LEVEL) - prior(z, LEVEL)
    expected = -0.7 * LEVEL.sigma**2 / LEVEL.alpha * _slopes(distance, z)
    torch.testing.assert_close(change, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_score_guidance_follows_the_gradient(condition):
    prior, z = _prior(), _states()
    variance = 0.2**2 + 0.4 * (LEVEL.sigma / LEVEL.alpha) ** 2

    def energy(state):
        return condition.residual(_decode(prior(state, LEVEL))).square().sum(-1) / (2 * variance)

    guidance = ScoreGuidance(condition=condition, decode=_decode, error=0.2, gamma=0.4)
    change = guided(prior, guidance)(z, LEVEL) - prior(z, LEVEL)
    expected = -(LEVEL.sigma**2) / LEVEL.alpha * _slopes(energy, z)
    torch.testing.assert_close(change, expected, rtol=1e-5, atol=1e-7)


def test_covariance_through_a_decoder_is_its_linearization():
    """K = V G^T with G and V by central differences of decoder and predictor."""
    prior, z = _prior(), _states(1)
    condition = _linear(torch.tensor([0.4, 0.1]))
    found = guided(prior, CovarianceGuidance(condition=condition, decode=_decode))(z, LEVEL)
    clean = prior(z, LEVEL)
    G = torch.stack(
        [_slopes(lambda x, j=j: condition.measure(_decode(x))[:, j], clean)[0] for j in (0, 1)]
    ).flatten(1)
    V = _given_state(prior, z, LEVEL)[1]
    shift = -condition.residual(_decode(clean))[0]
    expected = clean.flatten() + V @ G.T @ torch.linalg.solve(G @ V @ G.T, shift)
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-6, atol=1e-6)


class _Counted:
    """A bent predictor, whose Jacobian depends on the state, that counts its calls with a graph."""

    def __init__(self):
        self.prior, self.calls, self.graphs = _prior(), 0, 0

    def __call__(self, z, level):
        self.calls += 1
        self.graphs += torch.is_grad_enabled()
        x = self.prior(z, level)
        return x + 0.1 * x.sin()


@pytest.mark.parametrize("sampler", [DPMSolver(steps=9), Heun(steps=5)])
@pytest.mark.parametrize("decode", [None, lambda x: x + 0.1 * x**3])
def test_a_walk_at_every_level_is_the_guidance(sampler, decode):
    guidance = CovarianceGuidance(
        condition=_linear(torch.tensor([1.0, -0.5]), sd=0.1), decode=decode
    )
    draw = MemberNoise(SHAPE, members=[0, 1, 2], seed=3)
    process, found = Diffusion(), {}
    for every in (0, 1, 2, 3):
        led = CovarianceWalk(guidance, every=every) if every else guidance
        predict = _Counted()
        found[every] = sample(sampler, process, guided(predict, led), draw)
        if every > 1 and isinstance(sampler, DPMSolver):
            assert predict.graphs == -(-predict.calls // every)
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)
    assert not torch.equal(found[2], found[0])
    for every in (2, 3):
        measured = guidance.measure(found[every]).value
        torch.testing.assert_close(measured, guidance.measure(found[0]).value, rtol=0, atol=0.1)
    alone = MemberNoise(SHAPE, members=[1], seed=3)
    one = sample(sampler, process, guided(_Counted(), CovarianceWalk(guidance, every=3)), alone)
    torch.testing.assert_close(one, found[3][1:2])


def test_a_walk_holds_an_equality_at_each_level_and_is_for_one_run():
    b = torch.tensor([1.0, -0.5])
    guidance = CovarianceGuidance(condition=_linear(b))
    draw = MemberNoise(SHAPE, members=[0, 1])
    walk = CovarianceWalk(guidance, every=4)
    led = guided(_Counted(), walk)
    last = sample(DPMSolver(steps=10), Diffusion(), led, draw)
    torch.testing.assert_close(guidance.measure(last).value.float(), b.expand(2, 2))
    with pytest.raises(SamplingError, match="make a new one for each run"):
        sample(DPMSolver(steps=10), Diffusion(), led, draw)
    many = CovarianceGuidance(condition=guidance.condition, solver="cg")
    for of, every in ((guidance, 0), (many, 2)):
        with pytest.raises(ConfigError, match=r"expected at least 1, and 'direct'"):
            CovarianceWalk(of, every=every)


def _reads(z, t):
    """An alignment network: (N, T, 2) of the state and the time."""
    features = torch.stack([z.square().mean((2, 3, 4)), torch.sin(z).mean((2, 3, 4))], -1)
    return features * (1.0 + t.reshape(-1, 1, 1) / 1000.0)


@pytest.mark.parametrize("scaling", ["variance", "sigma"])
def test_alignment_shifts_the_mean_by_variance_or_deviation(scaling):
    """The mean of a reverse step moves by -scale w gradient, with w of the posterior."""
    process, z = Diffusion(), _states()
    target = torch.tensor([[0.5, 0.1]], dtype=torch.float64)
    guidance = AlignmentGuidance(network=_reads, target=target, scale=3.0, scaling=scaling)
    for t in (1, 300, 999):
        level = process.level(t)

        def distance(state, level=level):
            read = _reads(state, torch.full((len(state),), level.t)).mean(1)
            return (read - target).norm(dim=1)

        of_clean, _, variance = posterior(level, process.level(t - 1))
        change = guided(_prior(), guidance)(z, level) - _prior()(z, level)
        weight = variance if scaling == "variance" else math.sqrt(variance)
        torch.testing.assert_close(
            of_clean * change, -3.0 * weight * _slopes(distance, z), rtol=1e-5, atol=1e-9
        )


def test_alignment_of_a_sample_does_not_depend_on_the_batch():
    z, level = _states(4), Diffusion().level(500)
    target = torch.tensor([[0.5, 0.1]], dtype=torch.float64)
    plain = AlignmentGuidance(network=_reads, target=target)
    published = AlignmentGuidance(network=_reads, target=target, norm="batch")
    alone = torch.cat([plain.gradient(row[None], level) for row in z])
    torch.testing.assert_close(plain.gradient(z, level), alone)
    coupled = published.gradient(z, level).flatten(1).norm(dim=1)
    assert bool((coupled < 0.9 * alone.flatten(1).norm(dim=1)).all())
    torch.testing.assert_close(published.gradient(z[:1], level), alone[:1])


def test_total_of_alignment_does_not_depend_on_the_number_of_steps():
    """A network whose gradient is constant moves the last field alike in 50 and 500 steps."""
    network = lambda z, t: z.mean((2, 3, 4))[..., None]  # noqa: E731
    guidance = AlignmentGuidance(network=network, target=torch.tensor([[1e6]]), scale=40.0)
    prior, draw = _prior(), MemberNoise(SHAPE, members=range(2), dtype=torch.float64)
    moved = []
    for steps in (50, 500):
        sampler = DDIM(steps=steps)
        plain = sample(sampler, Diffusion(), prior, draw)
        led = sample(sampler, Diffusion(), guided(prior, guidance), draw)
        moved.append(float((led - plain).mean()))
    assert moved[0] > 0.5
    assert moved[0] == pytest.approx(moved[1], rel=0.15)


# --- projection -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projected_samples_hold_the_condition(dtype):
    condition = _linear(torch.tensor([1.0, -0.5]))
    draw = MemberNoise(SHAPE, members=range(50), dtype=dtype)
    predict = guided(_prior(), ProjectionGuidance(condition=condition))
    found = sample(DPMSolver(steps=8), Diffusion(), predict, draw)
    assert found.dtype == dtype
    assert condition.residual(found).abs().max() < 1e-6


def test_projection_through_a_code_does_not_lose_what_the_code_loses():
    """An encoder that keeps half of the field: only the correction passes through it."""
    condition = _linear(torch.tensor([1.0, -0.5]))
    guidance = ProjectionGuidance(
        condition=condition, decode=lambda x: 2.0 * x, encode=lambda y: 0.25 * y
    )
    z = _states()
    clean = _prior()(z, LEVEL)
    expected = clean + 0.25 * (condition.project(2.0 * clean) - 2.0 * clean)
    torch.testing.assert_close(guided(_prior(), guidance)(z, LEVEL), expected)


# --- composition, pure noise, refusals --------------------------------------------------------


def test_the_last_guidance_has_the_last_word():
    condition = _linear(torch.tensor([1.0, -0.5]))
    soft = PosteriorGuidance(condition=Range(lower=0.0))
    both = guided(_prior(), soft, ProjectionGuidance(condition=condition))
    assert condition.residual(both(_states(), LEVEL)).abs().max() < 1e-12
    # an outer guidance differentiates through an inner one
    outer = guided(_prior(), ProjectionGuidance(condition=condition), soft)
    assert bool(outer(_states(), LEVEL).isfinite().all())


def test_pure_noise_is_not_guided():
    condition, level = _linear(torch.tensor([1.0, -0.5])), FlowMatching().level(1.0)
    target = torch.zeros(1, 2, dtype=torch.float64)
    plain = _prior()(_states(), level)
    for guidance in (
        CovarianceGuidance(condition=condition),
        PosteriorGuidance(condition=condition),
        ScoreGuidance(condition=condition, error=1.0, gamma=1.0),
        AlignmentGuidance(network=_reads, target=target),
    ):
        torch.testing.assert_close(guided(_prior(), guidance)(_states(), level), plain)


def test_a_condition_that_holds_changes_nothing():
    condition = _linear(-torch.inf, torch.inf)
    z = _states()
    for guidance in (
        CovarianceGuidance(condition=condition),
        PosteriorGuidance(condition=condition),
        ScoreGuidance(condition=condition, error=1.0, gamma=1.0),
        ProjectionGuidance(condition=condition),
    ):
        torch.testing.assert_close(guided(_prior(), guidance)(z, LEVEL), _prior()(z, LEVEL))


TARGET = torch.zeros(1, 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: AlignmentGuidance(network=_reads, target=torch.zeros(3)),
            ConfigError,
            r"target of shape \(3,\); expected \(N, m\)",
        ),
        (
            lambda: AlignmentGuidance(network=_reads, target=TARGET / 0),
            ConfigError,
            "must be finite",
        ),
        (
            lambda: AlignmentGuidance(network=_reads, target=TARGET, scaling="std"),
            ConfigError,
            "'variance' or 'sigma'",
        ),
        (
            lambda: AlignmentGuidance(network=_reads, target=torch.zeros(2, 2)).gradient(
                _states(), LEVEL
            ),
            ConfigError,
            r"target of shape \(2, 2\); the network reads \(3, 2\)",
        ),
        (
            lambda: AlignmentGuidance(network=_reads, target=TARGET, scaling="sigma").weight(
                FlowMatching().level(0.5)
            ),
            ConfigError,
            "needs a process with steps",
        ),
        (lambda: PosteriorGuidance(condition=_Curved(), scale=-1.0), ConfigError, r"scale=-1\.0"),
        (
            lambda: ScoreGuidance(condition=_Curved(), error=0.0, gamma=1.0),
            ConfigError,
            r"error=0\.0",
        ),
        (lambda: ProjectionGuidance(condition=_Curved()), ConstraintError, "no exact projection"),
        (
            lambda: ProjectionGuidance(condition=Range(lower=0.0), decode=_decode),
            ConfigError,
            "decode and encode",
        ),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_not_a_number_by_guidance_names_it():
    guidance = PosteriorGuidance(condition=Range(lower=0.0), decode=lambda x: x / 0.0 * 0.0)
    draw = MemberNoise(SHAPE, members=[0])
    with pytest.raises(SamplingError, match=r"step 0 \(t=999.*PosteriorGuidance made"):
        sample(DDIM(steps=4), Diffusion(), guided(_prior(), guidance), draw)


def test_inference_mode_is_named():
    guidance = PosteriorGuidance(condition=_linear(torch.tensor([1.0, -0.5])))
    with torch.inference_mode(), pytest.raises(SamplingError, match=r"torch\.no_grad"):
        guided(_prior(), guidance)(_states(), LEVEL)
