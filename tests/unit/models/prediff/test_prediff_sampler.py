"""Samplers on a Gaussian law, where what they make is known.

A sampler with a linear predictor is an affine map of its noise: its mean and its variance are
computed without any sampling, from the response to each draw.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xearth.errors import ConfigError, SamplingError
from xearth.models.prediff.flow import FlowMatching
from xearth.models.prediff.gaussian import GaussianField
from xearth.models.prediff.noise import MemberNoise, OppositePairs
from xearth.models.prediff.process import Diffusion
from xearth.models.prediff.sampler import SAMPLERS, make_sampler, run, sample
from xearth.models.prediff.sampler_ancestral import DDIM, DDPM
from xearth.models.prediff.sampler_dpm import DPMSolver, DPMSolverSDE
from xearth.models.prediff.sampler_straight import Euler, Heun

MEAN, VARIANCE = 1.0, 0.25


def _predict(z, level):
    gain = level.alpha * VARIANCE / (level.alpha**2 * VARIANCE + level.sigma**2)
    return MEAN + gain * (z - level.alpha * MEAN)


def _moments(sampler, levels):
    """Return the exact mean and variance of what a sampler makes."""

    def draw(k):
        unit = torch.zeros(len(levels) + 1, 1, dtype=torch.float64)
        unit[k + 1] = 1.0
        return unit

    *_, z = run(sampler, _predict, levels, draw)
    return float(z[0]), float((z[1:] - z[0]).square().sum())


def _variance(level):
    return level.alpha**2 * VARIANCE + level.sigma**2


def _flow_of_ode(start, end):
    """Mean and variance of the probability-flow ODE from N(0, 1)."""
    ratio = math.sqrt(_variance(end) / _variance(start))
    return end.alpha * MEAN - ratio * start.alpha * MEAN, ratio**2


def _reverse_process(start, end):
    """Mean and variance of the time-reversed process from N(0, 1)."""
    kept = start.alpha / end.alpha * _variance(end) / _variance(start)
    mean = end.alpha * MEAN - kept * start.alpha * MEAN
    return mean, _variance(end) - kept**2 * _variance(start) + kept**2


ORDERS = [
    (lambda n: DDPM(steps=n), _reverse_process, 1),
    (lambda n: DDIM(steps=n), _flow_of_ode, 1),
    (lambda n: DDIM(steps=n, eta=1.0), _reverse_process, 1),
    (lambda n: Euler(steps=n), _flow_of_ode, 1),
    (lambda n: DPMSolver(steps=n), _flow_of_ode, 2),
    # its first steps are of lower order, which the whole keeps
    (lambda n: DPMSolver(steps=n, order=3), _flow_of_ode, 2),
    (lambda n: DPMSolverSDE(steps=n), _reverse_process, 2),
    (lambda n: Heun(steps=n), _flow_of_ode, 2),
]


@pytest.mark.parametrize(("make", "truth", "order"), ORDERS)
def test_order_of_convergence(make, truth, order):
    """Halving the steps divides the errors of mean and variance by 2 to the order."""
    errors = []
    for steps in (80, 160, 320):
        levels = Diffusion().levels(steps, "logsnr", end="first")
        expected = truth(levels[0], levels[-1])
        found = _moments(make(steps), levels)
        errors.append(np.abs(np.subtract(found, expected)))
    errors = np.array(errors)
    orders = np.log2(errors[:-1] / np.maximum(errors[1:], 1e-300))
    assert orders[:, 1] == pytest.approx(order, abs=0.08 if order == 1 else 0.13)
    # ancestral samplers have the exact mean at any number of steps
    exact = errors[:, 0].max() < 1e-14
    assert exact or orders[:, 0] == pytest.approx(order, abs=0.05 if order == 1 else 0.13)
    assert exact == (truth is _reverse_process)


@pytest.mark.parametrize(("make", "order"), [(Euler, 1), (Heun, 2)])
def test_order_on_flow_matching(make, order):
    errors = []
    for steps in (20, 40, 80, 160):
        mean, variance = _moments(make(steps=steps), FlowMatching().levels(steps))
        assert mean == pytest.approx(MEAN, abs=1e-12)
        errors.append(abs(variance / VARIANCE - 1.0))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders == pytest.approx(order, abs=0.08)


def test_order_three_needs_less_error_once_started():
    """With exact predictions of the past, the last of few steps is of third order (local)."""
    errors = {}
    for order in (2, 3):
        levels = Diffusion().levels(40, "logsnr", end="first")
        expected = _flow_of_ode(levels[0], levels[-1])
        errors[order] = abs(_moments(DPMSolver(steps=40, order=order), levels)[1] - expected[1])
    assert errors[3] < 0.6 * errors[2]


def test_twenty_steps_are_as_good_as_a_thousand():
    """Mean and spread of 20 DPM-Solver++ steps within 2 % of those of 1000 DDPM steps, and true."""
    process = Diffusion()
    reference = _moments(DDPM(), process.levels(1000))
    for sampler in (DPMSolver(steps=20), DPMSolver(steps=20, spacing="trailing")):
        mean, variance = _moments(sampler, process.levels(20, sampler.spacing))
        assert mean == pytest.approx(reference[0], rel=0.02)
        assert math.sqrt(variance) == pytest.approx(math.sqrt(reference[1]), rel=0.02)
        assert mean == pytest.approx(MEAN, rel=0.02)
        assert math.sqrt(variance) == pytest.approx(math.sqrt(VARIANCE), rel=0.02)
    ddim = _moments(DDIM(steps=20), process.levels(20))
    assert math.sqrt(ddim[1]) < 0.95 * math.sqrt(VARIANCE)  # what 20 steps of DDIM are not


def test_ddpm_in_all_steps_is_the_ancestral_chain():
    """Two routes: the posterior tables step by step, and the sampler."""
    process = Diffusion(steps=40, end=0.4)
    draw = MemberNoise((6,), members=[0, 1, 2], dtype=torch.float64)
    z = draw(0)
    c1, c2 = process.posterior_coefficients
    for k, t in enumerate(range(39, -1, -1)):
        mean = c1[t] * _predict(z, process.level(t)) + c2[t] * z
        std = math.exp(0.5 * process.posterior_log_variance[t]) if t > 0 else 0.0
        z = mean + std * draw(k + 1)
    torch.testing.assert_close(sample(DDPM(steps=40), process, _predict, draw), z)


@pytest.mark.parametrize("process", [Diffusion(), FlowMatching(), Diffusion(steps=50, end=0.4)])
def test_equal_samplers(process):
    """DDIM with eta 1 is DDPM; with eta 0 it is Euler, and DPM-Solver++ of first order."""
    draw = MemberNoise((5,), members=[0, 1], dtype=torch.float64)
    levels = process.levels(12)

    def last(sampler):
        *_, z = run(sampler, _predict, levels, draw)
        return z

    torch.testing.assert_close(last(DDIM(eta=1.0)), last(DDPM()))
    torch.testing.assert_close(last(DDIM()), last(Euler()))
    first = next(run(DPMSolver(), _predict, levels, draw))
    torch.testing.assert_close(first, next(run(DDIM(), _predict, levels, draw)))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    "process", [FlowMatching(), Diffusion(prediction="v", zero_terminal=True), Diffusion()]
)
def test_every_sampler_on_every_process(name, process):
    """Also from a level without any signal, where the ratio of signal and noise is 0."""
    sampler = make_sampler(name, steps=60, spacing="linspace")
    mean, variance = _moments(sampler, process.levels(60, "linspace"))
    assert mean == pytest.approx(MEAN, abs=0.02)
    assert math.sqrt(variance) == pytest.approx(math.sqrt(VARIANCE), rel=0.09)


def _field(mean):
    x = torch.arange(8)
    distance = torch.minimum(x, 8 - x).double()
    kernel = torch.exp(-(distance[:, None] ** 2 + distance[None] ** 2) / 4.0)
    return GaussianField(torch.full((8, 8), mean), torch.fft.fft2(kernel).real.clamp(min=0))


def test_sampled_moments_match_the_exact_ones():
    """The second route: many draws, one law of a field with correlations."""
    prior = _field(0.0)
    draw = MemberNoise((1, 8, 8, 1), members=range(4000), seed=1)
    found = sample(DPMSolver(steps=20), Diffusion(), prior, draw).flatten(1).double()
    assert found.mean() == pytest.approx(0.0, abs=0.03)
    covariance = torch.cov(found.T)
    point = torch.zeros(1, 1, 8, 8, 1, dtype=torch.float64)
    point[0, 0, 3, 3, 0] = 1.0
    expected = prior.covariance(point).flatten()
    assert (covariance[8 * 3 + 3] - expected).abs().max() < 0.08
    assert covariance.trace() == pytest.approx(64.0, rel=0.03)


def test_signal_in_the_last_level_biases_the_mean():
    """N(0, 1) is not the law of a last level that holds signal: the mean of the field is missing
    there, times what a sampler without noise keeps of its start. Noise or zero signal cure it.
    """
    draw = MemberNoise((1, 8, 8, 1), members=range(400), seed=1)
    zero = Diffusion(prediction="v", zero_terminal=True)
    found = {
        "signal": sample(DPMSolver(), Diffusion(), _field(2.0), draw).mean(),
        "no signal": sample(DPMSolver(), zero, _field(2.0), draw).mean(),
        "noise": sample(DPMSolverSDE(), Diffusion(), _field(2.0), draw).mean(),
    }
    assert found["signal"] == pytest.approx(1.81, abs=0.07)
    assert found["no signal"] == pytest.approx(2.0, abs=0.07)
    assert found["noise"] == pytest.approx(2.0, abs=0.07)


def test_clip_holds_the_clean_field():
    levels = Diffusion(steps=10, end=0.4).levels(10)
    *_, z = run(
        DDPM(steps=10, clip=0.5), lambda z, _: z * 0 + 3.0, levels, lambda _: torch.zeros(2, 1)
    )
    assert z.flatten().tolist() == [0.5, 0.5]


def test_v_posterior_is_the_upper_variance():
    process = Diffusion(steps=10, end=0.4)
    here, there = process.level(5), process.level(4)
    assert DDPM(v_posterior=1.0).variance(here, there) == pytest.approx(process.betas[5])
    assert DDPM(v_posterior=0.0).variance(here, there) == pytest.approx(
        process.posterior_variance[5]
    )


# --- noise of members -----------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [DDPM(steps=6), DPMSolverSDE(steps=6), DDIM(steps=6)])
def test_a_member_is_the_same_in_any_batch(sampler):
    def members(which, seed=4):
        draw = MemberNoise((3, 2), members=which, seed=seed)
        return sample(sampler, Diffusion(), _predict, draw)

    together = members(range(5))
    for k in range(5):
        assert torch.equal(members([k])[0], together[k])
    assert torch.equal(members([3, 1]), together[[3, 1]])
    assert not torch.equal(members(range(5), seed=5), together)
    assert len({tuple(row.flatten().tolist()) for row in together}) == 5


def test_noise_is_standard_normal_and_apart():
    noise = MemberNoise((1000,), members=range(20))
    first, second = noise(0).double(), noise(1).double()
    assert float(first.mean()) == pytest.approx(0.0, abs=0.03)
    assert float(first.std()) == pytest.approx(1.0, abs=0.02)
    assert torch.corrcoef(torch.cat([first, second])).fill_diagonal_(0).abs().max() < 0.15
    assert torch.equal(noise(0), noise(0))  # a draw does not depend on those before it


def test_pairs_have_opposite_noise_whatever_is_drawn_beside_them():
    noise = OppositePairs((1000,), members=range(40), seed=3)
    plain = MemberNoise((1000,), members=range(20), seed=3)
    assert torch.equal(noise(1)[::2], plain(1))
    assert torch.equal(noise(1)[1::2], -plain(1))
    assert torch.equal(OppositePairs((1000,), members=[7, 2], seed=3)(1), noise(1)[[7, 2]])


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_sampler("plms"), "expected one of ddpm, ddim, dpm-solver"),
        (lambda: make_sampler("ddim", order=3), r"\['order'\].*unexpected keyword"),
        (lambda: make_sampler("ddim", steps=0), "steps=0: expected at least 1"),
        (lambda: DDIM(eta=1.5), "eta=1.5"),
        (lambda: DDPM(clip=0.0), "clip=0.0"),
        (lambda: DDPM(v_posterior=2), "v_posterior=2"),
        (lambda: DPMSolver(order=4), "order=4"),
        (lambda: MemberNoise((2,), members=[]), "at least 1, found 0"),
        (lambda: MemberNoise((2,), members=[0, -1]), "no negative"),
        (lambda: MemberNoise((2,), members=[0], seed=-1), "no negative"),
        (lambda: sample(DDIM(steps=2000), Diffusion(), _predict, lambda _: None), "at most 1000"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("predict", "start", "message"),
    [
        (lambda z, _: z * 1e30 * math.inf, 1.0, r"step 0 \(t=999.*NaN in the context or in the w"),
        (lambda z, _: z[:1], 1.0, r"step 0.*shape \(1, 3\), expected that of the state \(2, 3\)"),
        (lambda z, _: z, math.nan, r"step 0.*6 of 6 values of the state.*noise that was drawn"),
        (
            lambda z, level: z * 1e6 if level.t > 500 else z * math.nan,
            1.0,
            r"step [1-9].*the state ran away.*guidance too strong",
        ),
    ],
)
def test_not_a_number_stops_with_step_and_cause(predict, start, message):
    with pytest.raises(SamplingError, match=message):
        sample(DDIM(steps=10), Diffusion(), predict, lambda _: torch.full((2, 3), start))


def test_not_a_number_within_a_step_of_heun():
    def predict(z, level):
        return z * (math.nan if level.t < 600 else 0.5)

    with pytest.raises(SamplingError, match=r"step 1 \(t=499"):
        list(run(Heun(), predict, Diffusion().levels(4), lambda _: torch.ones(1, 1)))


def test_no_gradients_are_kept():
    weight = torch.nn.Parameter(torch.ones(()))
    z = sample(DDIM(steps=3), Diffusion(), lambda z, _: weight * z, lambda _: torch.ones(1, 1))
    assert not z.requires_grad
