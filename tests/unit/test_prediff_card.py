"""Marks of ensembles of rain, from closed forms and by other routes, and the tables of the card."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from xearth.data.sources import samples

sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

import nowcast_marks as nowcasts
import prediff_card as card
import prediff_marks as marks


@pytest.fixture(scope="module")
def event():
    rain = samples.open("knmi_radar").isel(y=slice(60, 124), x=slice(70, 134)).load()
    return nowcasts.Event("knmi_20100826", rain, 5.0)


@pytest.fixture(scope="module")
def sums(event):
    """Of members that are the truth times factors, and of the truth itself."""
    position = int(event.positions[2])
    truth = event.rain.values[position + 1 : position + 13]
    factors = np.array([0.5, 1.0, 2.0], dtype=np.float32)[:, None, None]
    return [marks.measured(event, position, truth[:, None] * f) for f in (factors, factors[1:2])]


def test_three_estimators_of_the_score(event, sums):
    """|x - y| of half and double is y / 2 and y; pairs of 1/2, 1, 2 are 1/2, 1, 3/2 apart."""
    y = event.truth[2].mean(axis=1)
    ensemble, fair, normal = sums[0]["crps"]
    np.testing.assert_allclose(ensemble, (0.5 - 2 * 3 / (2 * 9)) * y, rtol=1e-4)
    np.testing.assert_allclose(fair, 0.0, atol=1e-4)
    mean, sd = 3.5 / 3, np.std([0.5, 1, 2], ddof=1)
    w = np.linspace(-12, 12, 200_001) * sd
    from scipy.stats import norm

    direct = np.trapezoid((norm.cdf(w, mean, sd) - (w >= 1)) ** 2, w)
    np.testing.assert_allclose(normal, direct * y, rtol=1e-3)
    np.testing.assert_allclose(sums[1]["crps"], 0.0, atol=1e-7)


def test_members_of_one_law_with_the_truth_have_a_ratio_of_one(event):
    rng = np.random.default_rng(0)
    drawn = rng.gamma(2.0, 1.0, (12, 9, 64, 64)).astype(np.float32)
    rain = event.rain.copy()
    position = int(event.positions[2])
    rain[position + 1 : position + 13] = drawn[:, 0]
    made = marks.measured(nowcasts.Event("x", rain, 5.0), position, drawn[:, 1:])
    np.testing.assert_allclose(marks.spread_over_skill(made), 1.0, atol=0.05)
    np.testing.assert_allclose(made["ranks"] / made["ranks"].mean(), 1.0, atol=0.05)
    np.testing.assert_allclose(marks.octaves(made, 0)[4], 0.0, atol=1.0)


def test_hits_of_cells_and_of_squares(event, sums):
    truth = event.truth[2]
    found = marks.csi(sums[0]["csi_members"])
    half, double = (truth * f >= 1 for f in (0.5, 2))
    wet = truth >= 1
    hits = [np.sum(some & wet, axis=1) for some in (half, wet, double)]
    either = [np.sum(some | wet, axis=1) for some in (half, wet, double)]
    assert found[0, 1] == pytest.approx((sum(hits) / sum(either)).mean())
    assert (marks.csi(sums[1]["csi_mean"]) == 1).all()
    field = np.zeros((1, 64, 64), dtype=np.float32)
    field[0, 5, 6] = 3
    assert marks.pooled(event, field, 16).tolist() == [[3.0] + 15 * [0.0]]


def test_the_spectrum_of_a_field_that_is_stronger_and_of_a_wave(event, sums):
    np.testing.assert_allclose(marks.octaves(sums[1], 0)[1:], 0.0, atol=1e-9)
    double = 10 * np.log10(np.mean([0.25, 1, 4]))
    np.testing.assert_allclose(marks.octaves(sums[0], 1)[1:], double, atol=1e-3)
    wave = 5 + np.sin(2 * np.pi * np.arange(64) / 9) * np.ones((64, 1))
    power = marks.spectra(event, wave[None])[1]
    assert marks.EDGES[np.nanargmax(power)] >= 9 >= marks.EDGES[np.nanargmax(power) + 1]


def test_starts_add_up_and_members_are_corrected(sums):
    both = marks.together([sums[0], sums[0]])
    np.testing.assert_array_equal(both["ranks"], 2 * sums[0]["ranks"])
    np.testing.assert_allclose(both["crps"], sums[0]["crps"])
    quoted = nowcasts.QUOTED["knmi_20100826"]["STEPS"]
    equal = marks.with_members(quoted[5][0], quoted[6], 20, 10)
    assert quoted[5][0] < equal < 1.05 * quoted[5][0]


def test_tables_hold_every_method(event, sums):
    found = {"extrapolation": sums[1], "prediff": sums[0], "nowcast": sums[0]}
    for text in (card.scores(event, found, 4), card.hits(found), card.texture(found)):
        for words in ("* - extrapolation", "* - prediff-small, 3 members", "* - nowcast-small, 3"):
            assert words in text
    case = card.Case(event, 2, {}, "")
    goals = card.goals({"knmi_20100826": (event, [case], found)})
    assert "* - knmi_20100826\n     - 1\n" in goals
