"""PreDiff of the scores that a nowcast leaves open: latent space, Gaussian law, sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import fft, stats

from xearth.errors import ConfigError, GridMismatchError
from xearth.models.conditions.linear import Linear
from xearth.models.conditions.rows import Rows
from xearth.models.nowcast_law import RainLaw, law
from xearth.models.prediff.blocks import Blocks
from xearth.models.prediff.equalizer import Equalizer, band_power
from xearth.models.prediff.levels import Level
from xearth.models.prediff.nearest import NearestGuidance
from xearth.models.prediff.rain import RainDiffusionConfig
from xearth.models.prediff.rain_cases import Example, crop, turned
from xearth.models.prediff.stationary import StationaryLaw
from xearth.models.rain_scores import rain_of, scores, wet_probit
from xearth.training.rain_diffusion import (
    RainDiffusionRecipe,
    drawn_scores,
    fit_laws,
    fit_rain_diffusion,
    loss_of,
)

SMALL = RainDiffusionConfig(leads=3, told=(1, 3), block=4, channels=6, base_units=8)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# -- blocks ----------------------------------------------------------------------------------------


def test_coefficients_are_those_of_scipy_after_the_filter() -> None:
    x, blocks = normal(2, 16, 24), Blocks(8)
    z = blocks.encode(x)
    lapped = x[1].double().numpy()
    P = blocks.filter.double().numpy()
    lapped[4:12] = P @ lapped[4:12]
    for left in (4, 12):
        lapped[:, left : left + 8] = lapped[:, left : left + 8] @ P.T
    expected = fft.dctn(lapped[8:16, 16:24], norm="ortho")
    for c, (u, v) in enumerate(blocks.waves):
        assert z[1, 1, 2, c] == pytest.approx(expected[u, v], abs=1e-5)


def test_blocks_gain_what_lapped_transforms_gain() -> None:
    """Over a first-order process of correlation 0.95: 9.22 dB, blocks without laps 8.83 dB."""
    lag = np.abs(np.subtract.outer(np.arange(24), np.arange(24)))
    images = torch.eye(24)[:, None].expand(-1, 24, -1)  # constant along rows
    basis = Blocks(8).encode(images)[:, 1, 1].double().numpy()
    across = [c for c, (u, _) in enumerate(Blocks(8).waves) if u == 0]
    basis = basis[:, across] / np.sqrt(8)
    variance = np.diag(basis.T @ 0.95**lag @ basis)
    assert -10 * np.log10(variance).mean() == pytest.approx(9.22, abs=0.01)


def test_blocks_keep_energy_and_come_back() -> None:
    x = normal(3, 12, 8)
    z = Blocks(4).encode(x)
    torch.testing.assert_close(z.square().sum(), x.square().sum())
    torch.testing.assert_close(Blocks(4).decode(z), x)


@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_blocks_are_blocks_of_the_mirror_image(axis: int) -> None:
    x, blocks = normal(2, 16, 24), Blocks(8)
    torch.testing.assert_close(
        blocks.mirrored(blocks.encode(x), axis), blocks.encode(x.flip(-2 + axis))
    )


def test_transposed_blocks_are_blocks_of_the_transpose() -> None:
    x, blocks = normal(2, 16, 24), Blocks(8)
    torch.testing.assert_close(blocks.transposed(blocks.encode(x)), blocks.encode(x.mT))
    with pytest.raises(ConfigError, match="first 2 channels"):
        blocks.transposed(blocks.encode(x)[..., :2])


def test_blocks_refuse_other_grids_and_sizes() -> None:
    with pytest.raises(GridMismatchError, match="multiples of 8"):
        Blocks(8).encode(torch.zeros(1, 12, 16))
    for size in (0, 3):
        with pytest.raises(ConfigError, match=f"size={size}"):
            Blocks(size)


# -- scores ----------------------------------------------------------------------------------------


def test_scores_of_rain_drawn_from_the_distributions_are_standard_normal() -> None:
    n = 20_000
    rain = law(normal(3).expand(n, 3))
    e = -torch.rand(n, generator=torch.Generator().manual_seed(1)).log()
    y = rain.quantile(e)
    assert 0.2 < float((y > 0).float().mean()) < 0.95
    r = scores(rain, y, normal(n, seed=2))
    assert stats.kstest(r.numpy(), "norm").pvalue > 0.01
    torch.testing.assert_close(rain_of(rain, r), y, rtol=2e-3, atol=2e-3)


def test_rain_of_scores_is_rain_as_often_as_the_law_says() -> None:
    n = 20_000
    rain = RainLaw(torch.full((n,), 0.3).log(), torch.zeros(n), torch.zeros(n))
    wet = rain_of(rain, normal(n)) > 0
    assert float(wet.float().mean()) == pytest.approx(0.3, abs=0.015)
    assert float(wet_probit(rain)[0]) == pytest.approx(stats.norm.ppf(0.3), abs=1e-4)


def test_rain_of_scores_has_gradients_without_nan_where_it_is_dry() -> None:
    rain = RainLaw(torch.tensor([0.5, 1e-6]).log(), torch.zeros(2), torch.full((2,), -1.0))
    r = torch.tensor([1.0, -3.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(rain_of(rain, r).sum(), r)
    assert gradient.isfinite().all()
    step = 1e-3
    up, down = (rain_of(rain, torch.tensor([1.0 + s, -3.0]))[0] for s in (step, -step))
    assert float(gradient[0]) == pytest.approx(float((up - down) / (2 * step)), rel=1e-2)


# -- Gaussian law ----------------------------------------------------------------------------------


def fitted(z: torch.Tensor) -> StationaryLaw:
    made = StationaryLaw(z.shape[1], z.shape[-1], 5)
    made.fit(z)
    return made


def correlated(n: int, T: int = 3, C: int = 2) -> torch.Tensor:
    """Sequences whose channels have their own correlation in time, white in space."""
    white = normal(n, T, 8, 8, C)
    out = [white[:, :1]]
    rho = torch.tensor([0.9, 0.2])
    for k in range(1, T):
        out.append(rho * out[-1] + (1 - rho**2).sqrt() * white[:, k : k + 1])
    return torch.cat(out, 1)


def test_law_has_the_covariance_in_time_that_it_was_fitted_to() -> None:
    z = correlated(300)
    made = fitted(z)
    for c, rho in enumerate((0.9, 0.2)):
        power = made.power[c].mean(-1)
        covariance = made.modes[c] @ torch.diag(power) @ made.modes[c].T
        expected = torch.tensor([[rho ** abs(i - j) for j in range(3)] for i in range(3)])
        torch.testing.assert_close(covariance, expected, atol=0.06, rtol=0)


def test_velocity_is_that_of_conditional_means_of_a_gaussian() -> None:
    made = fitted(correlated(300))
    made.power.copy_(made.power.mean(-1, keepdim=True).expand_as(made.power))  # white in space
    z, t = normal(1, 3, 4, 6, 2, seed=3), 0.3
    found = made.velocity(z, torch.tensor([t]))
    for c in range(2):
        cov = made.modes[c] @ torch.diag(made.power[c, :, 0]) @ made.modes[c].T
        state = (1 - t) ** 2 * cov + t**2 * torch.eye(3)
        x0 = (1 - t) * cov @ torch.linalg.solve(state, z[0, ..., c].flatten(1))
        x1 = t * torch.linalg.solve(state, z[0, ..., c].flatten(1))
        torch.testing.assert_close(found[0, ..., c].flatten(1), x1 - x0, atol=2e-5, rtol=1e-4)


def test_sampling_the_law_gives_its_variance() -> None:
    config = RainDiffusionConfig(leads=3, told=(1,), block=4, channels=6, base_units=8)
    model = config.build(8, 8).eval()
    rho = torch.tensor([[0.97 ** abs(i - j) for j in range(3)] for i in range(3)])
    values, modes = torch.linalg.eigh(rho)
    k = torch.linspace(0, 1, model.law.power.shape[-1])
    model.law.modes.copy_(modes.expand(6, 3, 3))
    model.law.power.copy_((values[:, None] * 40 * torch.exp(-6 * k)).expand(6, -1, -1))
    drawn = model.law.draw(normal(64, 3, 8, 8, 6))
    context = torch.zeros(1, 3, 8, 8, 6)
    C = model.config.channels
    r = torch.cat([model.sample(context, members=range(j, j + 32)) for j in (0, 32)])
    found = model.latent(r)[..., :C]  # the denoiser of a new model adds nothing
    ratio = float(found.var() / drawn.var())
    assert ratio == pytest.approx(1.0, abs=0.1)


# -- model -----------------------------------------------------------------------------------------


def test_weights_serve_grids_of_any_size() -> None:
    torch.manual_seed(0)
    model = SMALL.build(4, 4).eval()
    torch.nn.init.normal_(model.denoiser.out.weight, std=0.1)
    other = SMALL.build(8, 6).eval()
    other.load(model.weights())
    context = normal(1, 4, 8, 6, 6)
    x, t = normal(1, 3, 8, 6, 6, seed=1), torch.tensor([400.0])
    assert other.velocity(context, x, t).shape == x.shape
    again = SMALL.build(4, 4).eval()
    again.load(other.weights())
    x, context = x[:, :, :4, :4], context[:, :, :4, :4]
    torch.testing.assert_close(again.velocity(context, x, t), model.velocity(context, x, t))


def test_a_member_is_the_same_alone_and_among_others() -> None:
    torch.manual_seed(0)
    model = SMALL.build(4, 4).eval()
    torch.nn.init.normal_(model.denoiser.out.weight, std=0.1)
    context = normal(1, 4, 4, 4, 6)
    many = model.sample(context, members=[0, 1, 2], steps=3, seed=4)
    one = model.sample(context, members=[2], steps=3, seed=4)
    torch.testing.assert_close(many[2:], one, atol=1e-5, rtol=1e-4)
    assert float((many[0] - many[1]).abs().max()) > 0.1
    with pytest.raises(ConfigError, match="steps"):
        model.sample(context, members=[0], steps=0)


def test_members_of_a_pair_are_opposite_as_far_as_the_denoiser_lets_them() -> None:
    model = SMALL.build(4, 4).eval()  # the denoiser of a new model adds nothing
    pair = model.sample(normal(1, 4, 4, 4, 6), members=[0, 1], steps=3)
    assert float(pair.abs().max()) > 0.1
    torch.testing.assert_close(pair[1], -pair[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 16}, "fewer than the 16"),
        ({"told": (4,)}, "leads from 1 to 3"),
        ({"frames": (-1,)}, "steps back"),
        ({"leads": 0}, "leads"),
        ({"reach": 4}, "odd number"),
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RainDiffusionConfig(**{**SMALL.to_dict(), **change})


def test_structures_beyond_the_reach_have_the_gaussian_law_alone() -> None:
    torch.manual_seed(0)
    model = RainDiffusionConfig(**{**SMALL.to_dict(), "reach": 99}).build(8, 8).eval()
    torch.nn.init.normal_(model.denoiser.out.weight, std=0.1)
    x, t = normal(1, 3, 8, 8, 6), torch.tensor([400.0])
    with torch.no_grad():
        added = model.velocity(normal(1, 4, 8, 8, 6), x, t) - model.law.velocity(x, t / 1000)
    assert float(added.abs().max()) > 1e-3
    assert float(added.mean((2, 3)).abs().max()) < 1e-5


def test_equalizer_gives_the_power_that_is_sought_and_variance_one() -> None:
    rough = normal(40, 2, 64, 64)
    k = torch.fft.fftfreq(64)[:, None].square() + torch.fft.rfftfreq(64).square()
    smooth = torch.fft.irfft2(torch.fft.rfft2(rough) / (1 + 20 * k).sqrt(), s=(64, 64))
    smooth = smooth / smooth.std()
    made = Equalizer(2)
    made.change((band_power(smooth) / band_power(rough)).sqrt())
    made.normalize(rough)
    drawn = made(normal(40, 2, 64, 64, seed=1))
    assert float(drawn.square().mean()) == pytest.approx(1.0, abs=0.02)
    ratio = (band_power(drawn) / band_power(smooth)).log10() * 10
    assert float(ratio[:, 2:-1].abs().max()) < 0.5  # one or two waves beside the others
    with pytest.raises(GridMismatchError, match="2 leads"):
        made(normal(1, 3, 8, 8))


# -- guidance --------------------------------------------------------------------------------------


def weighted(count: int) -> Linear:
    index = torch.arange(12).expand(count, 12)
    rows = Rows(index=index, weights=normal(count, 12).double(), shape=torch.Size((1, 3, 4, 1)))
    target = torch.linspace(-0.2, 0.3, count)
    return Linear(rows=rows, lower=target, upper=target)


def test_nearest_guidance_of_one_sum_is_the_orthogonal_projection() -> None:
    condition, clean = weighted(1), 0.3 * normal(1, 1, 3, 4, 1, seed=5)
    level = Level(500.0, 0.5, 0.5)
    guide = NearestGuidance(condition=condition, decode=lambda x: x, moves=4)
    found = guide(clean, level, lambda z, at: clean)
    torch.testing.assert_close(found, condition.project(clean), atol=1e-5, rtol=0)


def test_nearest_guidance_makes_several_sums_hold_and_leaves_what_holds() -> None:
    condition, clean = weighted(3), 0.3 * normal(1, 1, 3, 4, 1, seed=5)
    level = Level(500.0, 0.5, 0.5)
    guide = NearestGuidance(condition=condition, decode=lambda x: x, moves=300)
    found = guide(clean, level, lambda z, at: clean)
    assert float(condition.residual(clean).abs().max()) > 0.05
    assert float(condition.residual(found).abs().max()) < 1e-4
    again = guide(found, level, lambda z, at: found)
    torch.testing.assert_close(again, found, atol=1e-4, rtol=0)
    with pytest.raises(ConfigError, match="moves=0"):
        NearestGuidance(condition=condition, decode=lambda x: x, moves=0)


# -- training --------------------------------------------------------------------------------------


def examples(count: int) -> list[Example]:
    """Scores that are the same in all frames, and rain where they are positive."""
    found = []
    for k in range(count):
        r = normal(1, 24, 24, seed=k).expand(3, -1, -1)
        x = Blocks(4).encode(r)
        context = x[:1, ..., :6].expand(4, -1, -1, -1)
        found.append(Example(x.half(), context.half(), torch.ones(3, 6, 6).half()))
    return found


def test_laws_are_fitted_and_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    recipe = RainDiffusionRecipe(steps=60, batch=4, blocks=4, rate=1e-2, average=0.9)
    events = [examples(6), examples(3)]
    model = SMALL.build(4, 4)
    fit_laws(model, events, recipe)
    np.testing.assert_allclose(model.scale.numpy(), 1.0, atol=0.25)
    assert float(model.law.power[0, -1].mean()) == pytest.approx(3.0, rel=0.3)  # one mode has all
    held = [
        turned(crop(e, 4, torch.Generator()), model.blocks, torch.Generator()) for e in events[0]
    ]
    t = torch.linspace(100, 900, 6)
    before = float(loss_of(model, held, t, normal(6, 3, 4, 4, 6, seed=9)).detach())
    trained = fit_rain_diffusion(model, events, recipe)
    after = float(loss_of(trained, held, t, normal(6, 3, 4, 4, 6, seed=9)).detach())
    assert after < before
    drawn = drawn_scores(trained, events, recipe, count=4)
    assert drawn.shape == (4, 3, 16, 16)
    assert 0.2 < float(drawn.square().mean()) < 3


def test_training_continues_from_its_checkpoint(tmp_path) -> None:
    recipe = RainDiffusionRecipe(steps=50, batch=1, blocks=4)
    model = SMALL.build(4, 4)
    path = tmp_path / "kept"
    steps: list[int] = []
    fit_rain_diffusion(
        model, [examples(2)], recipe, checkpoint=path, report=lambda n, *_: steps.append(n)
    )
    kept = torch.load(path, weights_only=True)
    assert steps == [50]
    assert kept["step"] == 50
    again = fit_rain_diffusion(SMALL.build(4, 4), [examples(2)], recipe, checkpoint=path)
    for name, value in again.state_dict().items():
        assert torch.equal(value, kept["average"][f"module.{name}"])


def test_training_refuses_squares_that_no_example_holds() -> None:
    with pytest.raises(ConfigError, match="squares of 16 x 16"):
        fit_rain_diffusion(SMALL.build(4, 4), [examples(1)], RainDiffusionRecipe())
    with pytest.raises(ConfigError, match="steps=0"):
        RainDiffusionRecipe(steps=0)
