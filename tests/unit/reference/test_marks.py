"""The published marks: skill of the reference forecasts on real data."""

from __future__ import annotations

import numpy as np
import pytest

from xearth.data.sources import samples
from xearth.fields.climatology import anomaly
from xearth.reference.climatology import Climatology
from xearth.reference.lim import LIM
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.verification.one_pass.verify import verify
from xearth.verification.scores.indices import nino34, running_mean

# The published marks take climatologies of the judged years.
pytestmark = pytest.mark.filterwarnings("ignore::xearth.errors.LeakageWarning")

TRAIN = slice("1856-01", "1981-12")
STARTS = slice("1982-01", "2003-11")
SCORES = ("correlation", "rmse")


@pytest.fixture(scope="module")
def sst():
    return samples.open("kaplan_sst").load()


@pytest.fixture(scope="module")
def season(sst):
    """Trailing 3-month mean of Nino3.4."""
    return running_mean(nino34(sst))


def test_lim_with_10_eofs(sst, season):
    """Kaplan, trained 1856-1981, verified 1982-2003."""
    lim = LIM.fit(sst.sel(time=TRAIN), horizon=18, modes=10, smoothing=3)
    hindcast = nino34(lim.forecast(sst, init=STARTS))
    found = verify(hindcast, season, "correlation").correlation
    marks = [0.97, 0.91, 0.83, 0.74, 0.64, 0.55, 0.45, 0.36, 0.26, 0.17, 0.08, -0.01]
    marks += [-0.09, -0.16, -0.21, -0.23, -0.23, -0.19]
    np.testing.assert_allclose(found, marks, atol=0.006)


def test_lim_with_15_eofs(sst, season):
    """The marks verify 1982-2014, of which the sample holds the years to 2003."""
    lim = LIM.fit(sst.sel(time=TRAIN), horizon=6, modes=15, smoothing=3)
    found = verify(nino34(lim.forecast(sst, init=STARTS)), season, SCORES)
    np.testing.assert_allclose(found.correlation, [0.97, 0.92, 0.84, 0.76, 0.67, 0.59], atol=0.02)
    np.testing.assert_allclose(found.rmse, [0.21, 0.36, 0.49, 0.60, 0.69, 0.76], atol=0.04)


def test_lim_is_above_persistence_of_the_same_means(sst, season):
    """Persistence marks of 1982-2014: 0.97 0.90 0.80 0.68 0.56 0.44."""
    smooth = running_mean(sst)
    persistence = Persistence.fit(smooth.sel(time=TRAIN), horizon=6)
    kept = verify(nino34(persistence.forecast(smooth, init=STARTS)), season, SCORES).correlation
    np.testing.assert_allclose(kept, [0.97, 0.90, 0.80, 0.68, 0.56, 0.44], atol=0.06)
    lim = LIM.fit(sst.sel(time=TRAIN), horizon=6, modes=15, smoothing=3)
    model = verify(nino34(lim.forecast(sst, init=STARTS)), season, SCORES).correlation
    assert (model.values[2:] > kept.values[2:] + 0.015).all()


@pytest.mark.parametrize(
    ("smooth", "marks", "errors"),
    [
        (
            False,
            [0.95, 0.87, 0.76, 0.63, 0.50, 0.37, 0.25, 0.14, 0.06, -0.01, -0.05, -0.07],
            [0.29, 0.49, 0.66, 0.81, 0.94, 1.06, 1.16, 1.24, 1.31, 1.35, 1.38, 1.39],
        ),
        (
            True,
            [0.97, 0.90, 0.79, 0.66, 0.53, 0.40, 0.28, 0.17, 0.08, 0.01, -0.04, -0.07],
            None,
        ),
    ],
)
def test_persistence_of_the_oisst_index(smooth, marks, errors):
    """Targets 1982-01 to 2020-12; the record begins 1981-11."""
    index = anomaly(samples.open("oisst_nino34"), base=("1991", "2020"))
    index = running_mean(index) if smooth else index
    starts = slice("1982-01" if smooth else "1981-12", "2020-11")
    model = Persistence.fit(index, horizon=12)
    found = verify(model.forecast(index, init=starts), index, SCORES)
    np.testing.assert_allclose(found.correlation, marks, atol=0.012)
    if errors is not None:
        np.testing.assert_allclose(found.rmse, errors, atol=0.012)


def test_the_spring_barrier_shows_by_start_month():
    index = anomaly(samples.open("oisst_nino34"), base=("1991", "2020"))
    model = Persistence.fit(index, horizon=12)
    table = verify(
        model.forecast(index, init=slice("1982", "2020")), index, SCORES, by=["month", "lead"]
    )
    rows = {
        1: {1: 0.98, 2: 0.96, 3: 0.85, 4: 0.54, 5: 0.18, 6: -0.05, 9: -0.14, 12: -0.06},
        3: {1: 0.94, 2: 0.65, 3: 0.28, 4: 0.05, 5: -0.02, 6: -0.03, 9: -0.03, 12: 0.00},
        7: {1: 0.96, 2: 0.92, 3: 0.91, 4: 0.88, 5: 0.85, 6: 0.83, 9: 0.65, 12: -0.17},
    }
    for month, leads in rows.items():
        for lead, mark in leads.items():
            found = table.correlation.sel(month=month, lead=lead).item()
            assert found == pytest.approx(mark, abs=0.02), (month, lead)
    assert table.n.sel(month=3, lead=3).item() == 39


def test_damped_persistence_has_the_least_error_of_the_simple_ones(sst):
    index, train = nino34(sst), sst.sel(time=TRAIN)
    models = [kind.fit(train, horizon=12) for kind in (Persistence, DampedPersistence, Climatology)]
    kept, damped, none = (
        verify(nino34(model.forecast(sst, init=STARTS)), index).rmse for model in models
    )
    assert (damped.values[1:] < kept.values[1:]).all()
    assert (damped.values[:6] < none.values[:6]).all()


def test_ensembles_of_the_simple_ones_spread_as_they_err(sst):
    """In the training period, where the errors are those the members were made from."""
    train = sst.sel(time=TRAIN)
    index = nino34(sst)
    for kind in (Persistence, DampedPersistence, Climatology):
        model = kind.fit(train, horizon=6)
        hindcast = nino34(model.forecast(sst, init=slice("1925", "1960"), members=8))
        ratio = verify(hindcast, index, "spread_skill_ratio").spread_skill_ratio
        assert float(abs(ratio - 1).max()) < 0.15, kind
