"""The diffusion of what an ENSO forecast leaves open: its law, its fit, its conditions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from xearth.errors import ConfigError, SamplingError
from xearth.models.conditions.linear import Linear
from xearth.models.conditions.rows import Rows
from xearth.models.enso_diffusion import EnsoDiffusion, EnsoDiffusionConfig, in_coordinates
from xearth.models.heads import Prediction
from xearth.training.enso_diffusion import (
    EnsoDiffusionRecipe,
    Errors,
    aligned,
    best_share,
    fit_law,
    fit_network,
    near,
)

CONFIG = EnsoDiffusionConfig(leads=2, cells=3, coordinates=6, refined=2, width=4)


def errors(count: int = 600) -> Errors:
    g = torch.Generator().manual_seed(3)
    month = torch.arange(count) % 12
    mixing = torch.randn(12, 6, 6, generator=g, dtype=torch.float64) + 2 * torch.eye(6).double()
    field = torch.einsum(
        "nij,nj->ni", mixing[month], torch.randn(count, 6, generator=g, dtype=torch.float64)
    )
    return Errors(field.unflatten(1, (2, 3)), month, torch.ones(count, dtype=torch.float64))


AREA = torch.tensor([1.0, 0.5, 0.8])


def fitted(recipe: EnsoDiffusionRecipe) -> tuple[EnsoDiffusion, Errors, torch.Tensor]:
    model, found = CONFIG.build(), errors()
    white = fit_law(model, found, recipe, area=AREA, index=torch.tensor([1.0, 1.0, 0.0]))
    return model, found, white(found)


def test_with_all_patterns_kept_the_law_has_the_covariance_of_the_months_around() -> None:
    model, found, white = fitted(EnsoDiffusionRecipe(kept=1.0, fade=1e9))
    for m in (0, 7):
        w = near(found.month, m, 2, 12)
        same = found.field / model.size[found.month][..., None] * model.size[m][:, None]
        rows = same.flatten(1)
        direct = (rows * w[:, None]).mT @ rows / w.sum()
        F = model.factors(m).flatten(0, 1).double()
        torch.testing.assert_close(F @ F.mT, direct, rtol=0.01, atol=0.01 * float(direct.max()))
        own = found.month == m  # and the coordinates are those of the fields
        torch.testing.assert_close(
            white[own] @ F.mT, found.field[own].flatten(1), rtol=0, atol=0.05
        )


def test_nothing_kept_of_a_season_is_the_law_of_all_months() -> None:
    model, *_ = fitted(EnsoDiffusionRecipe(kept=0.0))
    torch.testing.assert_close(model.root, torch.eye(6).repeat(12, 1, 1))


def test_without_a_network_members_have_the_gaussian_law() -> None:
    model, *_ = fitted(EnsoDiffusionRecipe())
    x = model.eval().sample(4, members=range(4000), seed=2)
    F = model.factors(4).flatten(0, 1)
    fields = x @ F.mT
    law = F @ F.mT
    sd = law.diagonal().sqrt()
    assert float((fields.mean(0) / sd).abs().max()) < 4 / 4000**0.5
    off = (torch.cov(fields.mT) - law) / (sd[:, None] * sd)
    assert float(off.abs().max()) < 4 * (2 / 4000) ** 0.5


def test_what_a_network_adds_moves_the_first_coordinates_alone() -> None:
    model = CONFIG.build().eval()
    free = model.sample(4, members=[0, 1], seed=2)
    torch.nn.init.constant_(model.network.leave.bias, -0.5)
    other = model.sample(4, members=[0, 1], seed=2)
    assert bool((other[:, :2] > free[:, :2] + 0.1).all())
    torch.testing.assert_close(other[:, 2:], free[:, 2:])
    model.share.fill_(0.0)
    torch.testing.assert_close(model.sample(4, members=[0, 1], seed=2), free)


def test_sampling_stops_at_nan_with_the_step() -> None:
    model = CONFIG.build().eval()
    torch.nn.init.constant_(model.network.leave.bias, float("nan"))
    with pytest.raises(SamplingError, match=r"step 0 .*NaN"):
        model.sample(4, members=[0])
    with pytest.raises(ConfigError, match="steps"):
        model.sample(4, members=[0], steps=0)
    with pytest.raises(ConfigError, match="refined=9"):
        EnsoDiffusionConfig(coordinates=6, refined=9)


def test_a_condition_on_coordinates_is_that_on_fields() -> None:
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 2, 3, 2, 1, generator=g)
    law = Prediction(mean, torch.randn(*mean.shape, 5, generator=g))
    rows = Rows.from_matrix(torch.randn(2, 2, 3, 2, 1, generator=g))
    bounds = {"lower": torch.tensor([1.0, -torch.inf]), "upper": torch.tensor([1.0, 0.5])}
    one = Linear(rows, name="two sums", **bounds)
    there = in_coordinates(one, law)
    x = torch.randn(7, 1, 1, 5, 1, generator=g, dtype=torch.float64)

    def fields(x: torch.Tensor) -> torch.Tensor:
        return law.mean + torch.einsum("lhwck,mk->mlhwc", law.factors[0].double(), x.flatten(1))

    torch.testing.assert_close(there.residual(x), one.residual(fields(x)))
    held = there.project(x)
    assert float(one.residual(fields(held)).abs().max()) < 1e-10


def test_a_stopped_training_ends_with_the_same_network(tmp_path: Path) -> None:
    states = []
    for stops in ((30,), (10, 30)):
        torch.manual_seed(0)
        model, found, white = fitted(EnsoDiffusionRecipe())
        for steps in stops:
            recipe = EnsoDiffusionRecipe(steps=steps, batch=32)
            fit_network(
                model, white, found, recipe, checkpoint=tmp_path / f"{len(stops)}" / "kept.pt"
            )
        states.append(model.network.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=0)


def test_a_network_learns_a_law_that_is_not_gaussian() -> None:
    g = torch.Generator().manual_seed(1)
    two = torch.randint(2, (4000, 1), generator=g) * 1.9 - 0.95  # two peaks
    x = torch.randn(4000, 6, generator=g, dtype=torch.float64) * torch.tensor([0.3] + 5 * [1.0])
    x[:, :1] += two
    month = torch.arange(4000) % 12
    some = Errors(x.unflatten(1, (2, 3)), month, torch.ones(4000, dtype=torch.float64))
    torch.manual_seed(0)
    model = EnsoDiffusionConfig(leads=2, cells=3, coordinates=6, refined=2, width=16).build()
    recipe = EnsoDiffusionRecipe(rate=1e-2, steps=200, batch=128, average=0.95)
    fit_network(model, x[:3000], some.rows(torch.arange(4000) < 3000), recipe)
    share, gain = best_share([aligned(model, x[3000:], month[3000:], draws=4)])
    assert share > 0.7
    assert gain > 0.03
    own = model.sample(0, members=range(1000))[:, 0]
    assert float((own.abs() < 0.3).float().mean()) < 0.16  # a Gaussian: 0.24


def test_impossible_fits_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps=0"):
        EnsoDiffusionRecipe(steps=0)
    with pytest.raises(ConfigError, match="kept=2"):
        EnsoDiffusionRecipe(kept=2)
    with pytest.raises(ConfigError, match="as many errors"):
        fit_law(CONFIG.build(), errors(5), EnsoDiffusionRecipe(), area=AREA, index=AREA)
