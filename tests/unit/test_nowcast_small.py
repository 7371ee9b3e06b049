"""The forecaster that ships, its marks, and how it is made, on the event in the package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from xearth.data.sources import samples
from xearth.errors import ConfigError, TimeAxisError
from xearth.forecasting.io import ARTIFACTS, load
from xearth.forecasting.nowcast_fit import NowcastRecipe, event_points, fit_nowcast

CI = Path(__file__).parents[2] / "ci"
sys.path.insert(0, str(CI))

import nowcast_marks as marks  # noqa: E402


@pytest.fixture(scope="module")
def event():
    rain = samples.open("knmi_radar").load()
    return marks.Event("knmi_20100826", rain, 5.0)


def test_starts_and_marks_are_those_of_the_published_protocol(event):
    """Persistence has nothing to be tuned: CSI .603, .256, .047; MSE .707; MAE .4032."""
    assert [str(t)[11:16] for t in event.inits] == ["00:15", "02:20", "04:30", "06:35"]
    assert event.seen.mean() == pytest.approx(0.78, abs=0.005)
    last = event.cells(event.rain.values[event.positions])[:, None]
    row = marks.single("persistence", np.broadcast_to(last, event.truth.shape), event.truth)
    published = ((0.603, 0.504), (0.256, 0.126), (0.047, 0.006), (0.707, 0.988))
    for found, wanted in zip(row.marks, published, strict=False):
        assert found == pytest.approx(wanted, abs=0.001)
    assert row.marks[4][0] == pytest.approx(0.4032, abs=1e-4)


def test_the_score_of_members_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    members, truth = rng.gamma(1.0, 1.0, (3, 7, 50)), rng.gamma(1.0, 1.0, (3, 50))
    pairs = np.abs(members[:, :, None] - members[:, None]).sum(axis=(1, 2)) / (2 * 49)
    direct = (np.abs(members - truth[:, None]).mean(axis=1) - pairs).mean(axis=1)
    np.testing.assert_allclose(marks.crps(members, truth), direct, rtol=1e-6)
    counts = marks.ranks(members, truth)
    assert counts.sum() == 150 - ((members < 0.1).all(axis=1) & (truth < 0.1)).sum()


def test_what_ships_says_what_it_has_seen():
    path = ARTIFACTS / "nowcast-small.safetensors"
    assert path.stat().st_size < 10e6
    model = load("nowcast-small")
    assert (model.history, model.horizon) == (6, 12)
    for name in ("bom_melbourne_20180616", "fmi_20160928", "knmi_20100826", "mch_20150515",
                 "mch_20170131"):  # fmt: skip
        assert name in model.provenance["trained_on"]
    assert "fmi_20160928" in model.provenance["chosen_on"]
    assert sorted(model.metrics["yes_from"]) == ["0.1", "1", "5"]


def test_what_ships_beats_what_stays_and_what_moves(event):
    """One start of an event that trained it: this tells of the way, not of the skill."""
    init, truth = event.inits[1:2], event.truth[1]
    model = load("nowcast-small")
    mean = event.cells(model.forecast(event.rain, init=init).values[0])
    moved = marks.Advection(horizon=12).forecast(event.rain, init=init).values[0]
    stays = event.cells(event.rain.values[event.positions[1]])
    assert np.mean((mean - truth) ** 2) < 0.9 * np.mean((event.cells(moved) - truth) ** 2)
    assert np.mean((mean - truth) ** 2) < 0.5 * np.mean((stays - truth) ** 2)
    chance = model.probability(event.rain, [1.0], init=init).values[0, :, 0]
    yes = event.cells(chance) >= model.metrics["yes_from"]["1"]
    hits = (yes & (truth >= 1)).sum() / (yes | (truth >= 1)).sum()
    same = ((stays >= 1) & (truth >= 1)).sum() / ((stays >= 1) | (truth >= 1)).sum()
    assert hits > same + 0.1
    assert chance[:, event.seen].mean() == pytest.approx((truth >= 1).mean(), rel=0.35)


def test_training_learns_and_tells_of_what(event):
    rain = event.rain.isel(time=slice(0, 16), y=slice(80, 128), x=slice(70, 118))
    some = event_points(rain, horizon=4)
    assert some.mean == pytest.approx(float(rain.mean()), rel=0.01)
    assert set(some.points.facts[:, 0].tolist()) == {2.0, 4.0}
    assert set(some.points.facts[:, 1].tolist()) == {5.0, 10.0}
    losses = []
    recipe = NowcastRecipe(width=8, hidden=8, steps=200, batch=128, name="tiny")
    made = fit_nowcast({"knmi": some}, recipe, report=lambda step, loss: losses.append(loss))
    assert losses[1] < losses[0]
    assert (made.name, made.provenance["trained_on"]) == ("tiny", "knmi")
    again = fit_nowcast({"knmi": some}, recipe)
    np.testing.assert_array_equal(again.state["last.weight"], made.state["last.weight"])


def test_impossible_training_is_refused(event):
    with pytest.raises(ConfigError, match="steps=0"):
        NowcastRecipe(steps=0)
    with pytest.raises(ConfigError, match="at least one event"):
        fit_nowcast({})
    with pytest.raises(TimeAxisError, match="fill_gaps"):
        event_points(event.rain.isel(time=[0, 1, 2, 4, 5, 6, 7, 8, 9]))
