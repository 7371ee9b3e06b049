"""Processes: levels, predictions and back, grids, training targets, by closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xearth.errors import ConfigError
from xearth.models.prediff.flow import FlowMatching
from xearth.models.prediff.levels import CLEAN, Level, check_levels, posterior
from xearth.models.prediff.objective import denoising_errors, frame_means, vlb_weights
from xearth.models.prediff.process import Diffusion

SCHEDULES = ("linear", "sqrt_linear", "sqrt", "cosine")


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("zero", [False, True])
def test_noise_rises_and_its_parts_are_consistent(schedule, zero):
    process = Diffusion(schedule=schedule, zero_terminal=zero, prediction="v")
    assert np.all(np.diff(process.alpha_bar) < 0)
    assert np.all((process.betas > 0) & (process.betas <= 1))
    alpha, sigma = process.alphas_sigmas(np.arange(1000))
    np.testing.assert_allclose(alpha**2, process.alpha_bar, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(sigma**2, 1 - process.alpha_bar, rtol=1e-9)
    assert (process.alpha_bar[-1] == 0) == zero


def test_zero_terminal_keeps_the_first_level():
    plain, zero = Diffusion(), Diffusion(zero_terminal=True, prediction="v")
    assert zero.alpha_bar[0] == pytest.approx(plain.alpha_bar[0], rel=1e-12)
    assert zero.level(999).alpha == 0.0
    # the formula of Lin et al.: shifted and scaled roots
    root = np.sqrt(plain.alpha_bar)
    expected = (root - root[-1]) * root[0] / (root[0] - root[-1])
    np.testing.assert_allclose(np.sqrt(zero.alpha_bar), expected, atol=1e-7)


@pytest.mark.parametrize("v", [0.0, 0.3, 1.0])
def test_posterior_is_bayes_rule(v):
    """q(z_s | z_t, x_0) by conditioning a joint Gaussian, against tables and level formulas."""
    process = Diffusion(v_posterior=v)
    c1, c2 = process.posterior_coefficients
    for t in (0, 1, 10, 500, 999):
        here, there = process.level(t), process.level(t - 1)
        keep = np.sqrt(1 - process.betas[t])
        # z_s = alpha_s x_0 + sigma_s e, z_t = keep z_s + sqrt(beta) n
        gain = there.sigma**2 * keep / (keep**2 * there.sigma**2 + process.betas[t])
        of_clean, of_state = there.alpha * (1 - gain * keep), gain
        variance = there.sigma**2 * (1 - gain * keep)
        found = posterior(here, there)
        np.testing.assert_allclose(found, (of_clean, of_state, variance), rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose((c1[t], c2[t]), (of_clean, of_state), rtol=1e-7, atol=1e-12)
        expected = (1 - v) * variance + v * process.betas[t]
        assert process.posterior_variance[t] == pytest.approx(expected, rel=1e-7, abs=1e-15)


@pytest.mark.parametrize(
    "process",
    [
        Diffusion(),
        Diffusion(prediction="x0", schedule="cosine"),
        Diffusion(prediction="v", zero_terminal=True),
        FlowMatching(),
        FlowMatching(data_at=1, time_scale=1.0),
    ],
)
def test_what_is_trained_is_what_is_sampled(process):
    """A network that hits its target predicts the clean field, at every level."""
    generator = torch.Generator().manual_seed(3)
    x0, noise = (torch.randn(4, 2, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    for level in process.levels(7)[1 if isinstance(process, Diffusion) else 0 : -1]:
        t = torch.full((4,), level.t, dtype=torch.float64)
        z = process.noised(x0, t, noise)
        torch.testing.assert_close(z, level.alpha * x0 + level.sigma * noise)
        target = process.target(x0, t, noise)
        clean = process.predictor(lambda _, __, target=target: target)(z, level)
        torch.testing.assert_close(clean, x0, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(process.output(z, level, x0), target, rtol=1e-8, atol=1e-8)
        errors = denoising_errors(process, lambda _, __, r=target: r + 2, x0, t=t, noise=noise)
        torch.testing.assert_close(errors, torch.full((4,), 4.0, dtype=torch.float64))


@given(
    t=st.floats(0, 999),
    schedule=st.sampled_from(SCHEDULES),
    prediction=st.sampled_from(["eps", "x0", "v"]),
)
@settings(max_examples=60, deadline=None)
def test_prediction_round_trip(t, schedule, prediction):
    process = Diffusion(schedule=schedule, prediction=prediction)
    level = process.level(t)
    assume(level.alpha > 1e-6)  # below, noise says nothing of the field: no way back
    z = torch.linspace(-2, 2, 5, dtype=torch.float64)[None]
    x0 = torch.linspace(1, -3, 5, dtype=torch.float64)[None]
    back = process.clean(z, level, process.output(z, level, x0))
    torch.testing.assert_close(back, x0, rtol=1e-7, atol=1e-7)


def test_a_network_is_told_its_time():
    seen = []

    def network(z, t):
        seen.append(t)
        return z

    z = torch.zeros(3, 2)
    Diffusion().predictor(network)(z, Diffusion().level(7))
    FlowMatching().predictor(network)(z, FlowMatching().level(0.25))
    FlowMatching(data_at=1, time_scale=1).predictor(network)(
        z, FlowMatching(data_at=1, time_scale=1).level(0.25)
    )
    assert [t.tolist() for t in seen] == [[7.0] * 3, [250.0] * 3, [0.75] * 3]


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 37, 999])
@pytest.mark.parametrize("spacing", ["trailing", "linspace", "karras", "logsnr"])
def test_grids_fall_in_noise(spacing, steps):
    for zero in (False, True):
        process = Diffusion(prediction="v", zero_terminal=zero)
        if zero and spacing == "karras":
            continue
        levels = process.levels(steps, spacing)
        assert len(levels) == steps + 1
        assert levels[-1] is CLEAN
        assert levels[0].t == 999
        check_levels(levels)


def test_all_steps_are_all_times():
    assert [level.t for level in Diffusion().levels(1000)] == list(range(999, -2, -1))


def test_log_snr_is_even():
    lambdas = [level.log_snr for level in Diffusion().levels(20, "logsnr", end="first")]
    steps = np.diff(lambdas)
    np.testing.assert_allclose(steps, steps[0], rtol=2e-3)
    assert Diffusion().levels(20, "logsnr", end="first")[-1].t == 0.0


def test_times_draw_all_of_the_process():
    generator = torch.Generator().manual_seed(0)
    times = Diffusion(steps=5).draw_times(400, generator=generator)
    assert sorted(set(times.tolist())) == [0, 1, 2, 3, 4]
    flow = FlowMatching().draw_times(4000, generator=generator) / 1000
    assert 0 <= flow.min() < 0.01 < 0.99 < flow.max() < 1
    assert float(flow.mean()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("prediction", ["eps", "x0"])
def test_bound_weights_are_the_divergence(prediction):
    """KL of two posteriors whose means differ by what an error of 1 makes."""
    process = Diffusion(prediction=prediction)
    weights, (c1, _) = vlb_weights(process), process.posterior_coefficients
    for t in (1, 20, 999):
        level = process.level(t)
        of_clean = c1[t] * (level.sigma / level.alpha if prediction == "eps" else 1.0)
        assert weights[t] == pytest.approx(
            of_clean**2 / (2 * process.posterior_variance[t]), rel=1e-6
        )
    assert weights[0] == weights[1]
    with pytest.raises(ConfigError, match="'eps' or 'x0'"):
        vlb_weights(Diffusion(prediction="v"))


def test_frame_means():
    x = torch.arange(2 * 3 * 4.0).reshape(2, 3, 2, 2, 1)
    assert frame_means(x)[:, :, 0].tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]


@pytest.mark.parametrize("process", [Diffusion(end=0.03, prediction="v"), FlowMatching(data_at=1)])
def test_settings_round_trip(process):
    assert type(process).from_dict(process.to_dict()) == process
    with pytest.raises(ConfigError, match=r"unknown keys \['betas'\]; known are"):
        type(process).from_dict({"betas": 3})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Diffusion(steps=1), "steps=1.*at least 2"),
        (lambda: Diffusion(schedule="quadratic"), "one of linear, sqrt_linear, sqrt, cosine"),
        (lambda: Diffusion(prediction="noise"), "'eps', 'x0' or 'v'"),
        (lambda: Diffusion(steps=10.5), r"steps=10\.5.*whole"),
        (lambda: Diffusion(start="1e-4"), "start='1e-4'.*a number"),
        (lambda: FlowMatching(time_scale="1000"), "time_scale > 0"),
        (lambda: Diffusion(start=0.0), "0 < start <= end <= 1"),
        (lambda: Diffusion(start=0.3, end=0.2), "0 < start <= end <= 1"),
        (lambda: Diffusion(v_posterior=1.5), "between 0 and 1"),
        (lambda: Diffusion(zero_terminal=True), "prediction='v'"),
        (lambda: Diffusion().level(1000), "time 1000 is not between 0 and 999"),
        (lambda: Diffusion().levels(0), "steps=0: expected at least 1 and at most 1000"),
        (lambda: Diffusion().levels(1001), "at most 1000"),
        (lambda: Diffusion().levels(1000, "leading"), "Use spacing='trailing'"),
        (lambda: Diffusion().levels(9, "even"), "expected one of trailing, leading"),
        (
            lambda: Diffusion(zero_terminal=True, prediction="v").levels(9, "karras"),
            "needs signal in the last level",
        ),
        (lambda: FlowMatching(time_scale=0), "time_scale > 0"),
        (lambda: FlowMatching(data_at=2), "data_at 0 or 1"),
        (lambda: FlowMatching().level(1.5), "between 0"),
        (lambda: FlowMatching().levels(0), "steps=0"),
        (lambda: FlowMatching().levels(5, "karras"), "'linspace'"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_levels_must_fall():
    levels = Diffusion().levels(3)
    with pytest.raises(ConfigError, match=r"level 1.*the next one"):
        check_levels((levels[0], levels[2], levels[1], CLEAN))
    with pytest.raises(ConfigError, match="at least 2 levels"):
        check_levels((CLEAN,))
    assert Level(1.0, 0.0, 1.0).log_snr == -np.inf
    assert all(a.log_snr < b.log_snr for a, b in itertools.pairwise(levels))
