"""What is chosen for enso-small, and that the file that ships is what its record says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import XearthWarning
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.io import load
from xearth.reference.cslim import CSLIM
from xearth.reference.lim import LIM
from xearth.verification.align import observations_at
from xearth.verification.leaks.leakage import guard
from xearth.verification.scores.indices import nino_index

CI = Path(__file__).parents[2] / "ci"
sys.path.insert(0, str(CI))

import train_enso_small as training  # noqa: E402

L, K, S, N = 18, 4, 3, 4000


def parts(share: float, width: float, extra: float, seed: int = 0) -> training.Parts:
    """Forecasts whose truth follows a share of the networks with a known width."""
    rng = np.random.default_rng(seed)
    one = training.Parts(
        guess=rng.standard_normal((N, L)),
        factors=0.3 * rng.standard_normal((L, K)),
        mean=0.3 * rng.standard_normal((S, N, L)),
        spread=0.05 * rng.standard_normal((S, N, L, K)),
        truth=np.zeros((N, L)),
        month=np.arange(N) % 12,
    )
    center, spread = one.normal(share)
    wide = training.Choice(share, width, extra).widths(np.ones((12, L)))
    truth = center + wide[one.month] * spread * rng.standard_normal((N, L))
    return training.dataclasses.replace(one, truth=truth)


@pytest.mark.parametrize("choice", [(0.25, 1.5, 0.4), (1.0, 0.9, 0.0)])
def test_the_right_choice_is_found(choice):
    found = training.choose(parts(*choice), np.ones((12, L)))
    assert found.share == choice[0]
    assert found.width == pytest.approx(choice[1], abs=0.051)
    assert found.extra == pytest.approx(choice[2], abs=0.11)


def test_the_spread_is_that_of_the_mixture():
    one = parts(0.5, 1.0, 0.0)
    center, spread = one.normal(0.5)
    rng = np.random.default_rng(1)
    network = np.arange(60_000) % S
    z = rng.standard_normal((network.size, K))
    factors = one.factors[0] + 0.5 * one.spread[:, 7, 0]
    drawn = one.guess[7, 0] + 0.5 * one.mean[network, 7, 0] + (factors[network] * z).sum(1)
    assert drawn.mean() == pytest.approx(center[7, 0], abs=0.01)
    assert drawn.std() == pytest.approx(spread[7, 0], rel=0.01)


def test_seasons_of_the_error_are_found():
    one = parts(1.0, 1.0, 0.0)
    center, spread = one.normal(1.0)
    factor = 1 + 0.5 * np.cos(2 * np.pi * one.month / 12)
    wide = center + factor[:, None] * (one.truth - center)
    found = training.seasonal_width(training.dataclasses.replace(one, truth=wide))
    assert found.mean(0) == pytest.approx(np.ones(L))
    assert (found.argmax(0) == 0).mean() > 0.5
    assert found[6].mean() < 0.65 < 1.35 < found[0].mean()
    assert spread.shape == center.shape


@pytest.fixture(scope="module")
def shipped():
    return load("enso-small")


def test_the_record_says_what_was_seen(shipped):
    told = shipped.provenance
    assert told["training_period"].endswith("1981-12")
    assert told["validation_period"] == "1982-01/2003-12"
    assert "nested" in told["choice"]["how"]
    assert np.shape(shipped.width) == (12, shipped.horizon)
    sst = samples.open("kaplan_sst")
    fc = hindcast(sst, shipped, init=slice("1990-01", "1990-03"), members=2)
    with pytest.warns(XearthWarning) as caught:
        guard(fc, sst)
    said = " ".join(str(warning.message) for warning in caught)
    assert "chosen on 1982-01/2003-12" in said
    assert "calibrated on 1982-01/2003-12" in said


def test_what_was_chosen_can_be_taken_out_again(shipped):
    raw, season = training.unchosen(shipped)
    told = shipped.provenance["choice"]
    choice = training.Choice(*(told[name] for name in ("share", "width", "extra")))
    again = training.with_choice(raw, season, choice)
    np.testing.assert_allclose(again.guess.unit, shipped.guess.unit, rtol=1e-6)
    np.testing.assert_allclose(again.width, shipped.width, atol=2e-4)
    assert season.mean(0) == pytest.approx(np.ones(shipped.horizon), abs=1e-3)


def test_it_is_better_than_inverse_models_where_it_was_not_trained(shipped):
    """Every third start; the table by stretches is what counts."""
    sst = samples.open("kaplan_sst").load()
    past, starts = sst.sel(time=slice(None, "1981-12")), sst.time.values[1511:1758:3]
    errors, correlations = {}, {}
    for name, one in {
        "enso-small": shipped,
        "LIM": LIM.fit(past, horizon=18),
        "CS-LIM": CSLIM.fit(past, horizon=18),
    }.items():
        index = nino_index(one.forecast(sst, init=starts))
        truth = observations_at(index, nino_index(sst)).values
        errors[name] = np.sqrt(np.square(index.values - truth).mean(0))[1:12]
        correlations[name] = np.array(
            [np.corrcoef(index.values[:, n], truth[:, n])[0, 1] for n in range(1, 12)]
        )
    for other in ("LIM", "CS-LIM"):
        assert (errors["enso-small"] < errors[other]).all()
        assert (correlations["enso-small"] > correlations[other]).all()


def test_coverage_is_told_by_lead():
    def scores(low):
        names = ("interval_coverage_lower", "interval_coverage", "interval_coverage_upper")
        rows = zip(names, ([low, 0.8, 0.8], [0.95, 0.9, 0.88], [0.97, 0.95, 0.93]), strict=True)
        found = {name: (("level", "lead"), [values]) for name, values in rows}
        found |= {f"pooled_interval_coverage{end}": ("level", [v]) for end, v in _POOLED.items()}
        return xr.Dataset(found, {"lead": [1, 2, 3]})

    assert "0.900 (0.850 to 0.950)" in training.coverage_told("months", scores(0.85))
    assert "holds 0.90 at every lead 1-3" in training.coverage_told("months", scores(0.85))
    assert "does NOT hold 0.90 at lead 1." in training.coverage_told("months", scores(0.92))


_POOLED = {"": 0.9, "_lower": 0.85, "_upper": 0.95}
