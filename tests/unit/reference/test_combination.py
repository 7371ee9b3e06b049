"""Shrinkage, lags, bags and their combination: by hand, on known processes, and labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import (
    ConfigError,
    GridMismatchError,
    LeadError,
    MissingDataError,
    TimeAxisError,
)
from xearth.reference.bagging import BaggedOscillator
from xearth.reference.combination import Combination
from xearth.reference.dressed import Dressed
from xearth.reference.lagged import LaggedRegression
from xearth.reference.protocol import Forecaster
from xearth.reference.recharge import RechargeOscillator
from xearth.reference.shrinkage import Shrinkage


@pytest.fixture(scope="module")
def indices():
    return samples.open("xro_indices")[["Nino34", "WWV", "IOD", "NPMM"]].load()


@pytest.fixture(scope="module")
def train(indices):
    return indices.sel(time=slice("1979", "2001"))


@pytest.fixture(scope="module")
def both(train):
    return combined(train)


def combined(train):
    pair = train[["Nino34", "WWV"]]
    return Combination(
        {
            "all": RechargeOscillator.fit(train, horizon=6, harmonics=1, shrinkage=Shrinkage(0.1)),
            "pair": RechargeOscillator.fit(pair, horizon=6, nonlinear={}),
            "lagged": LaggedRegression.fit(train, horizon=6, lags=(0, 2)),
        },
        name="both",
    )


def table(train):
    return np.stack([da.values for da in train.data_vars.values()], axis=1).astype(float)


# --- shrinkage ----------------------------------------------------------------------------------


def test_the_shrunken_operator_solves_the_penalized_normal_equations(train):
    own = Shrinkage(0.2, remote=4.0, seasonal=2.0)
    model = RechargeOscillator.fit(train, horizon=3, harmonics=1, shrinkage=own)
    x = table(train)
    phase = 2 * np.pi * (np.arange(275) % 12 + 0.5) / 12
    waves = np.stack([np.ones(275), np.cos(phase), np.sin(phase)], axis=1)
    terms = np.concatenate([x, x[:, :1] ** 2, x[:, :1] * x[:, 1:2]], axis=1)[:275]
    design = (terms[:, :, None] * waves[:, None]).reshape(275, -1)
    # of Nino34: itself and WWV free in the mean, IOD and NPMM remote, then T^2 and T h
    weight = np.array(
        [[0, 1, 1], [0, 1, 1], [4, 4, 4], [4, 4, 4], [1, 1, 1], [1, 1, 1]], dtype=float
    )
    penalty = 0.2 * 275 * weight * (terms.std(axis=0) ** 2)[:, None]
    expected = np.linalg.solve(
        design.T @ design + np.diag(penalty.ravel()), design.T @ np.diff(x[:, 0])
    )
    found = model.coefficients[0, [0, 1, 2, 3, 4, 5]]
    assert model.products[:2] == ((0, 0), (0, 1))
    np.testing.assert_allclose(found, expected.reshape(6, 3), rtol=1e-9, atol=1e-12)


def test_no_weight_is_least_squares_and_much_leaves_the_core_alone(train):
    plain = RechargeOscillator.fit(train, horizon=3)
    none = RechargeOscillator.fit(train, horizon=3, shrinkage=Shrinkage(0.0))
    np.testing.assert_allclose(none.coefficients, plain.coefficients, atol=1e-9)
    much = RechargeOscillator.fit(train, horizon=3, shrinkage=Shrinkage(1e9))
    alone = RechargeOscillator.fit(train[["Nino34", "WWV"]], horizon=3, nonlinear={}, harmonics=0)
    found = much.coefficients[:2]
    np.testing.assert_allclose(found[:, :2, :1], alone.coefficients, atol=1e-6)
    assert np.abs(found[:, 2:]).max() < 1e-6
    assert np.abs(found[:, :, 1:]).max() < 1e-6


def test_shrinkage_forecasts_left_out_years_better():
    """The reason for it: two halves of the training period, each forecast by the other."""
    ds = samples.open("xro_indices").load().sel(time=slice("1979", "2001"))
    halves = (slice("1979", "1989"), slice("1991", "2001"))
    errors = {}
    for shrinkage in (None, Shrinkage(0.1)):
        found = []
        for own, other in (halves, halves[::-1]):
            model = RechargeOscillator.fit(ds.sel(time=own), horizon=6, shrinkage=shrinkage)
            fc = model.forecast(ds.sel(time=other), init=slice(None)).Nino34.sel(lead=6)
            truth = ds.Nino34.reindex(time=fc.valid_time.values).values
            found.append((fc.values - truth) ** 2)
        errors[shrinkage] = np.sqrt(np.nanmean(found))
    assert errors[Shrinkage(0.1)] < 0.8 * errors[None]


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"weight": np.nan}, {"remote": np.inf}])
def test_shrinkage_refuses(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Shrinkage(**{"weight": 0.1, **wrong})


# --- lagged regression --------------------------------------------------------------------------


def test_the_regression_solves_its_normal_equations(train, indices):
    model = LaggedRegression.fit(train, horizon=4, lags=(3, 0), penalty=1.5, free=0.1)
    x = table(train)
    x = x / x.std(axis=0)
    steps = np.arange(3, 276 - 4)
    phase = 2 * np.pi * (steps % 12) / 12
    waves = np.stack([np.ones(len(steps)), np.cos(phase), np.sin(phase)], axis=1)
    states = np.stack([x[steps], x[steps - 3]], axis=1)
    z = (states[..., None] * waves[:, None, None]).reshape(len(steps), -1)
    weight = np.ones((2, 4, 3))
    weight[..., 1:] = 0.5
    weight[0, [0, 1, 2]] *= 0.1  # of IOD: itself, Nino34 and WWV at the start
    # as observations of zero: another way to the same minimum
    rows = np.diag(np.sqrt(1.5 * len(steps) * weight.ravel()))
    aim = np.concatenate([train.IOD.values[steps + 4].astype(float), np.zeros(24)])
    expected = np.linalg.lstsq(np.concatenate([z, rows]), aim, rcond=None)[0]
    np.testing.assert_allclose(model.coefficients[2, 3].ravel(), expected, rtol=1e-6, atol=1e-9)
    fc = model.forecast(indices, init="1995-11").IOD.sel(lead=4).item()
    at = 16 * 12 + 10 - 3  # the start among the steps
    np.testing.assert_allclose(fc, z[at] @ expected, rtol=1e-5)


def test_a_process_with_a_delay_is_found():
    """x follows y of five months before in winter, and nothing else."""
    random = np.random.default_rng(0)
    n = 2400
    y = random.standard_normal(n)
    season = 0.5 + 0.5 * np.cos(2 * np.pi * (np.arange(n) % 12) / 12)
    x = np.zeros(n)
    x[5:] = season[5:] * y[:-5]
    time = np.arange(np.datetime64("1700-01", "M"), np.datetime64("1900-01", "M")).astype("M8[s]")
    ds = xr.Dataset({"x": ("time", x), "y": ("time", y)}, {"time": time})
    model = LaggedRegression.fit(ds, horizon=3, lags=(0, 2), penalty=1e-6, core=())
    fc = model.forecast(ds, init=slice("1750-01", "1899-06")).x.sel(lead=3)
    valid = fc.valid_time.values
    np.testing.assert_allclose(fc, ds.x.sel(time=valid), atol=1e-4)
    known = model.forecast(ds, init=slice("1750-01", "1899-06")).x.sel(lead=1)
    assert np.abs(known).max() < 0.3  # y of four months before is not among the predictors


def test_only_the_history_up_to_the_start_is_read(train, indices):
    model = LaggedRegression.fit(train, horizon=4)
    plain = model.forecast(indices, init="2010-06")
    changed = indices.copy(deep=True)
    changed.loc[{"time": slice("2010-07", None)}] = 9.0
    changed.loc[{"time": slice(None, "2009-08")}] = 9.0
    xr.testing.assert_identical(model.forecast(changed, init="2010-06"), plain)
    changed.loc[{"time": "2009-09"}] = 9.0  # nine months before the start
    assert not model.forecast(changed, init="2010-06").equals(plain)


def test_what_the_regression_refuses(train, indices):
    for wrong, match in (
        ({"lags": (1, 3)}, "hold 0"),
        ({"lags": (0, -1)}, "lag_-1"),
        ({"penalty": 0.0}, "penalty"),
        ({"free": -1.0}, "free"),
        ({"harmonics": -1}, "harmonics"),
    ):
        with pytest.raises(ConfigError, match=match):
            LaggedRegression.fit(train, horizon=3, **wrong)
    with pytest.raises(MissingDataError, match="no start"):
        LaggedRegression.fit(train.isel(time=slice(0, 12)), horizon=6)
    model = LaggedRegression.fit(train, horizon=3)
    with pytest.raises(ConfigError, match="Dressed"):
        model.forecast(indices, members=3)
    with pytest.raises(TimeAxisError, match="fewer than 10"):
        model.forecast(indices, init="1979-09")
    holes = indices.copy(deep=True)
    holes.WWV.loc[{"time": "2000-03"}] = np.nan
    with pytest.raises(MissingDataError, match=r"\['WWV'\]"):
        model.forecast(holes, init="2000-09")
    assert model.forecast(holes, init="2000-08").Nino34.notnull().all()  # no lag meets the hole


# --- combination --------------------------------------------------------------------------------


def test_each_index_is_the_mean_of_the_parts_that_forecast_it(both, indices):
    assert isinstance(both, Forecaster)
    assert (both.name, both.history, both.horizon) == ("both", 3, 6)
    init = ["1997-05", "2015-05"]
    fc = both.forecast(indices, init=init)
    parts = [part.forecast(indices, init=init) for part in both.parts.values()]
    assert list(fc) == ["Nino34", "WWV", "IOD", "NPMM"]
    expected = sum(part.Nino34.astype(float) for part in parts) / 3
    np.testing.assert_allclose(fc.Nino34, expected, rtol=1e-6)
    np.testing.assert_allclose(fc.IOD, (parts[0].IOD.astype(float) + parts[2].IOD) / 2, rtol=1e-6)
    assert fc.Nino34.attrs["forecaster"] == "both"
    assert fc.Nino34.attrs["long_name"].endswith("forecast by both")
    assert (fc.Nino34.attrs["units"], fc.WWV.attrs["units"]) == ("K", "m")


def test_what_the_combination_refuses(both, train, indices):
    with pytest.raises(ConfigError, match="one horizon"):
        Combination({})
    short = RechargeOscillator.fit(train, horizon=2)
    with pytest.raises(ConfigError, match="'short': 2"):
        Combination({**both.parts, "short": short})
    with pytest.raises(ConfigError, match="Dressed"):
        both.forecast(indices, members=2)
    with pytest.raises(GridMismatchError, match="Dataset"):
        both.forecast(indices.to_dataarray("index"))


def test_dressed_combinations(train, indices):
    model = Dressed.fit(combined, train, block=60)
    fc = model.forecast(indices, init="2015-05", members=4)
    assert dict(fc.Nino34.sizes) == {"init": 1, "lead": 6, "member": 4}
    with pytest.raises(LeadError):
        model.forecast(indices, members=0)


def test_a_start_may_look_back_into_the_gap_of_its_block(train):
    """The gap is unseen by the fit, so every step of a block is a start once it has a history."""

    def count(gap):
        fit = Dressed.fit(
            lambda years: LaggedRegression.fit(years, horizon=2, lags=(0, 6)), train, gap=gap
        )
        return len(fit.months)

    assert count(6) == 276 - 6  # the first block alone has no months before it
    assert count(0) == 276 - 6 * 8


# --- bags of oscillators ------------------------------------------------------------------------


def test_a_replicate_is_weighted_least_squares_and_the_forecast_their_mean(train, indices):
    model = BaggedOscillator.fit(train, horizon=5, replicates=3, seed=4)
    assert isinstance(model, Forecaster)
    draws = np.random.default_rng(4).exponential(size=(3, 23))
    x = table(train)
    phase = 2 * np.pi * (np.arange(275) % 12 + 0.5) / 12
    waves = np.stack([np.ones(275), np.cos(phase), np.sin(phase)], axis=1)
    design = (x[:275, :, None] * waves[:, None]).reshape(275, -1)
    for draw, own in zip(draws, model.coefficients, strict=True):
        # of WWV, which has no products; months counted as often as their year weighs
        w = np.repeat(draw, 12)[:275, None]
        expected = np.linalg.solve(design.T @ (w * design), design.T @ (w[:, 0] * np.diff(x[:, 1])))
        np.testing.assert_allclose(own[1, :4].ravel(), expected, rtol=1e-6, atol=1e-9)
    init = ["1997-05", "2015-05"]
    parts = [
        dataclasses.replace(model.oscillator, coefficients=own).forecast(indices, init=init)
        for own in model.coefficients
    ]
    fc = model.forecast(indices, init=init)
    expected = sum(part.IOD.astype(float) for part in parts) / 3
    np.testing.assert_allclose(fc.IOD, expected, rtol=1e-5)
    assert fc.Nino34.attrs["forecaster"] == "bagged_oscillator"


def test_bags_are_the_same_again_and_narrow_with_more_replicates(train, indices):
    def forecast(replicates, seed):
        model = BaggedOscillator.fit(train, horizon=6, replicates=replicates, seed=seed)
        return model.forecast(indices, init=slice("2000", "2010")).Nino34.sel(lead=6)

    xr.testing.assert_identical(forecast(2, 1), forecast(2, 1))
    few = [forecast(2, seed).values for seed in range(6)]
    many = [forecast(32, seed).values for seed in range(6)]
    # a mean of 16 times as many draws has a quarter of the spread
    ratio = np.std(many, axis=0).mean() / np.std(few, axis=0).mean()
    assert 0.15 < ratio < 0.4


def test_no_replicate_runs_away(train, indices):
    model = BaggedOscillator.fit(train, horizon=6, replicates=2)
    wild = model.coefficients.copy()
    wild[0, :, :, 0] *= 40.0
    model = dataclasses.replace(model, coefficients=wild)
    fc = model.forecast(indices, init=slice("2000", "2010"))
    for name, da in fc.data_vars.items():
        assert np.isfinite(da).all()
        assert np.abs(da).max() <= 1.25 * np.abs(train[name]).max() + 1e-5


def test_what_bags_refuse(train, indices):
    with pytest.raises(ConfigError, match="replicates"):
        BaggedOscillator.fit(train, horizon=3, replicates=0)
    model = BaggedOscillator.fit(train, horizon=3, replicates=1)
    with pytest.raises(ConfigError, match="Dressed"):
        model.forecast(indices, members=3)
