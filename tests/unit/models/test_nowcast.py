"""The network of nowcasts, its coordinates of the air, and its distributions of rain."""

from __future__ import annotations

import math

import pytest
import torch

from xearth.errors import ConfigError, GridMismatchError
from xearth.models.nowcast import (
    FEATURES,
    NowcastConfig,
    features,
    forward_places,
    lagrangian,
    predict,
    signal,
)
from xearth.models.nowcast_cases import case, coarsen, points
from xearth.models.nowcast_law import RainLaw, Thresholds, law, score


def showers(*, steps=6, rows=64, columns=96, speed=(0.5, -1.25)):
    """Signal of showers that move evenly, (1, T, H, W)."""
    y, x = torch.meshgrid(torch.arange(float(rows)), torch.arange(float(columns)), indexing="ij")
    frames = []
    for t in range(steps):
        i, j = y - speed[0] * t, x - speed[1] * t
        wave = torch.sin(0.23 * j) * torch.sin(0.19 * i + 1) + 0.3 * torch.sin(0.1 * j)
        frames.append(signal(4 * wave.clamp_min(0)))
    return torch.stack(frames)[None]


def rain_of(p, scale, shape):
    return RainLaw(*(torch.tensor(v, dtype=torch.float64).log() for v in (p, scale, shape)))


# --- distributions ------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [0.0, 0.4, 3.0, 20.0])
def test_the_score_of_an_exponential_law_has_its_closed_form(y):
    """CRPS of an exponential law: y - 2 s (1 - exp(-y / s)) + s / 2."""
    s = 2.5
    found, _ = score(
        rain_of(1.0, s, 1.0),
        torch.tensor(y, dtype=torch.float64),
        Thresholds.between(1e-4, 400, 6000),
    )
    assert float(found) == pytest.approx(y - 2 * s * (1 - math.exp(-y / s)) + s / 2, rel=2e-3)


@pytest.mark.parametrize(
    ("p", "scale", "shape"), [(0.3, 2.0, 0.5), (0.9, 6.0, 1.7), (1.0, 1.0, 1.0)]
)
def test_mean_exceeding_and_score_agree_with_samples(p, scale, shape):
    rain = rain_of(p, scale, shape)
    e = -torch.rand(400_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).log()
    x = rain.quantile(e)
    assert float(x.mean()) == pytest.approx(float(rain.mean()), rel=0.02)
    for level in (0.0, 0.5, 4.0):
        assert float((x > level).double().mean()) == pytest.approx(
            float(rain.exceeding(level)), abs=0.004
        )
    half = len(x) // 2
    for y in (0.0, 1.0, 7.0):
        sampled = (x - y).abs().mean() - (x[:half] - x[half:]).abs().mean() / 2
        found, _ = score(
            rain, torch.tensor(y, dtype=torch.float64), Thresholds.between(1e-4, 2e3, 6000)
        )
        assert float(found) == pytest.approx(float(sampled), rel=0.02, abs=0.003)


def test_the_score_is_proper():
    """Truth drawn from a law: no other law of these has a better score, of rates or logarithms."""
    truth = rain_of(0.6, 2.0, 0.8)
    e = -torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).log()
    y, steps = truth.quantile(e), Thresholds.between(0.05, 100, 40)
    others = [(0.5, 2.0, 0.8), (0.7, 2.0, 0.8), (0.6, 1.5, 0.8), (0.6, 2.6, 0.8), (0.6, 2.0, 0.5),
              (0.6, 2.0, 1.3)]  # fmt: skip

    def wide(values):
        return RainLaw(*(part.expand(len(y)) for part in rain_of(*values)))

    best = [float(part.mean()) for part in score(wide((0.6, 2.0, 0.8)), y, steps)]
    for values in others:
        found = [float(part.mean()) for part in score(wide(values), y, steps)]
        assert found[0] > best[0]
        assert found[1] > best[1]


def test_any_numbers_are_a_law():
    raw = torch.tensor([[-1e4, -1e4, -1e4], [1e4, 1e4, 1e4]])
    rain = law(raw)
    assert all(bool(part.isfinite().all()) for part in (rain.scale, rain.shape, rain.mean()))
    assert (rain.wet <= 0).all()


# --- coordinates of the air ---------------------------------------------------------------------


def test_moved_frames_lie_on_each_other_and_move_on():
    z = showers()
    moved = lagrangian(z, torch.ones_like(z, dtype=torch.bool), 4)
    assert moved.z.shape[-2:] == (64 + 2 * moved.border, 96 + 2 * moved.border)
    inner = (slice(None), slice(None), slice(24 + moved.border, -24 - moved.border),
             slice(24 + moved.border, -24 - moved.border))  # fmt: skip
    still = (z[:, 0] - z[:, -1])[:, 24:-24, 24:-24].abs().mean()
    apart = (moved.z[inner][:, 0] - moved.z[inner][:, -1]).abs().mean()
    assert apart < 0.2 * still
    middle = moved.back[0, :, moved.border + 32, moved.border + 48]
    for n in range(4):
        torch.testing.assert_close(
            middle[n], (n + 1) * torch.tensor([0.5, -1.25]), rtol=0.1, atol=0.1
        )


def test_where_rain_goes_is_where_it_comes_from():
    moved = lagrangian(showers(), torch.ones(1, 6, 64, 96, dtype=torch.bool), 6)
    ends = forward_places(moved)[0, 5]
    i, j = 32 + moved.border, 48 + moved.border
    end = ends[i, j]
    back = end - moved.back[0, 5, int(end[0]), int(end[1])]
    assert (back - torch.tensor([float(i), float(j)])).abs().max() <= 1.0


def test_features_know_no_direction():
    """Mirrored and turned frames have mirrored and turned features."""
    z = showers(rows=64, columns=64)
    known = torch.rand(z.shape, generator=torch.Generator().manual_seed(0)) > 0.1
    z = z * known
    x = features(z, known, z[:, 0])
    assert x.shape == (1, 64, 64, FEATURES)
    for turn in (lambda f: f.flip(-1), lambda f: f.flip(-2), lambda f: f.mT):
        other = features(turn(z), turn(known), turn(z[:, 0]))
        torch.testing.assert_close(
            other.movedim(-1, 1), turn(x.movedim(-1, 1)), rtol=1e-4, atol=1e-4
        )


def test_what_is_not_known_does_not_count():
    z = showers()
    known = torch.ones_like(z, dtype=torch.bool)
    known[..., 20:30] = False
    one = features(torch.where(known, z, 0.0), known, z[:, 0])
    other = features(torch.where(known, z, 7.0), known, z[:, 0])
    assert bool(one.isfinite().all())
    far = one.isclose(other).all(-1)[0]
    assert bool(far[:, :16].all())
    assert bool(far[:, 40:].all())


def test_leads_do_not_know_of_each_other():
    torch.manual_seed(0)
    net = NowcastConfig(width=16, hidden=8).build().eval()
    z = showers()
    known = torch.ones_like(z, dtype=torch.bool)
    with torch.inference_mode():
        many, _ = predict(net, lagrangian(z, known, 12), (2.0, 5.0))
        few, _ = predict(net, lagrangian(z, known, 3), (2.0, 5.0))
    inner = (slice(None), slice(None), slice(24, -24), slice(24, -24))
    torch.testing.assert_close(many[:, :3][inner], few[inner], rtol=1e-2, atol=2e-2)


def test_it_stays_dry_where_there_is_no_rain_at_all():
    net = NowcastConfig(width=16, hidden=8).build().eval()
    z = torch.zeros(1, 6, 40, 50)
    with torch.inference_mode():
        raw, _ = predict(net, lagrangian(z, z >= 0, 2), (2.0, 5.0))
    assert float(law(raw).wet.max()) < -10


def test_impossible_sizes_are_refused():
    for wrong in ({"frames": 2}, {"width": 0}, {"hidden": 1.5}):
        with pytest.raises(ConfigError, match="positive whole numbers"):
            NowcastConfig(**wrong)
    with pytest.raises(ConfigError, match="width"):
        NowcastConfig.from_dict({"wide": 3})
    with pytest.raises(GridMismatchError, match="shape of the frames"):
        lagrangian(torch.zeros(1, 3, 20, 20), torch.ones(1, 2, 20, 20, dtype=torch.bool), 2)


# --- cases --------------------------------------------------------------------------------------


def test_cases_of_moving_showers_see_them_arrive():
    rate = 0.1 * torch.expm1(showers(steps=10)[0])
    made = case(rate[:6], rate[6:], (2.0, 5.0))
    known = ~made.y[3].isnan() & ~made.rate[-1].isnan()
    apart = (made.y[3].float() - made.rate[-1].float())[known].abs().mean()
    still = (rate[9] - rate[5]).abs().mean()
    assert apart < 0.35 * still
    some = points(made, 50, torch.Generator().manual_seed(0), factor=2.0)
    assert some.x.shape == (200, FEATURES)
    assert sorted(set(some.minutes.tolist())) == [5, 10, 15, 20]
    assert bool(some.x.isfinite().all())


def test_coarser_cells_are_means():
    rate = torch.arange(16.0).reshape(1, 4, 4)
    torch.testing.assert_close(coarsen(rate, 2)[0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
