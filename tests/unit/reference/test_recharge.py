"""The recharge oscillator: a known operator, a plain loop, the published marks, and labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import (
    AxisError,
    ConfigError,
    GridMismatchError,
    LeadError,
    MissingDataError,
    TimeAxisError,
    UnitsError,
)
from xearth.forecasting.hindcast import hindcast
from xearth.reference.protocol import Forecaster
from xearth.reference.recharge import PUBLISHED, RechargeOscillator

NONLINEAR = {"T": (("T", "T"), ("T", "h"), ("T", "T", "T"))}


@pytest.fixture(scope="module")
def indices():
    return samples.open("xro_indices").load()


@pytest.fixture(scope="module")
def xro(indices):
    return RechargeOscillator.fit(indices.sel(time=slice("1979", "2001")), horizon=18)


def observed(forecast, truth):
    """Truth at the valid times of a forecast (I, L); NaN where it is not there."""
    found = truth.reindex(time=forecast.valid_time.values.ravel()).values
    return found.reshape(forecast.valid_time.shape).astype(float)


def operator(month):
    """A seasonal operator of two indices with a quadratic and a cubic term, change per month."""
    c, s = np.cos(2 * np.pi * month / 12), np.sin(2 * np.pi * month / 12)
    linear = np.array([[-0.15 + 0.1 * c, 0.25 - 0.05 * s], [-0.2, -0.08 + 0.04 * s]])
    return linear, (0.03 + 0.02 * c, -0.04 + 0.01 * s, -0.02 + 0.005 * c)


def oscillation(n=6000, noise=0.3, seed=0, start="1400-01"):
    """Series made of the operator at the middle of each month."""
    random = np.random.default_rng(seed)
    x = np.zeros((n, 2))
    for t in range(n - 1):
        linear, (b1, b2, b3) = operator(t % 12 + 0.5)
        change = linear @ x[t]
        change[0] += b1 * x[t, 0] ** 2 + b2 * x[t, 0] * x[t, 1] + b3 * x[t, 0] ** 3
        x[t + 1] = x[t] + change + noise * random.standard_normal(2)
    times = np.datetime64(start, "M") + np.arange(n)
    time = ("time", times.astype("M8[s]"), {"standard_name": "time"})
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    return xr.Dataset(
        {"T": ("time", x[:, 0], attrs), "h": ("time", x[:, 1], {"units": "m"})}, {"time": time}
    )


def plain(model, state, months, forcing=None):
    """The equations of the module, start by start and step by step."""
    out = np.empty((len(state), model.horizon, state.shape[1]))
    size = state.shape[1]
    for i in range(len(state)):
        x = state[i]
        for lead in range(model.horizon):
            phase = 2 * np.pi * ((months[i] + lead) % 12) / 12
            orders = range(1, (model.coefficients.shape[2] - 1) // 2 + 1)
            waves = [1.0, *(f(j * phase) for j in orders for f in (np.cos, np.sin))]
            rates = model.coefficients @ np.array(waves)
            passed = []
            for _ in range(model.substeps):
                change = rates[:, :size] @ x
                for p, factors in enumerate(model.products):
                    change += rates[:, size + p] * np.prod([x[k] for k in factors])
                if forcing is not None:
                    change += forcing[i, lead]
                x = x + change / model.substeps
                passed.append(x)
            x = np.clip(x, -model.limits, model.limits)
            out[i, lead] = np.clip(np.mean(passed, axis=0), -model.limits, model.limits)
    return out


def test_the_fit_recovers_a_known_seasonal_operator():
    model = RechargeOscillator.fit(oscillation(), horizon=3, nonlinear=NONLINEAR)
    assert model.products == ((0, 0), (0, 0, 0), (0, 1))
    for month in range(12):
        phase = 2 * np.pi * (month + 0.5) / 12
        waves = [1, np.cos(phase), np.sin(phase), np.cos(2 * phase), np.sin(2 * phase)]
        rates = model.coefficients @ np.array(waves)
        linear, (b1, b2, b3) = operator(month + 0.5)
        np.testing.assert_allclose(rates[:, :2], linear, atol=0.05)
        np.testing.assert_allclose(rates[0, 2:], [b1, b3, b2], atol=0.04)
    assert not model.coefficients[1, 2:].any()
    np.testing.assert_allclose(model.spread, 0.3, atol=0.04)
    np.testing.assert_allclose(model.autocorrelation, 0.0, atol=0.04)


def test_without_noise_the_operator_is_exact_and_one_step_is_the_equation():
    ds = oscillation(600, noise=0.02, seed=3)
    model = RechargeOscillator.fit(ds, horizon=2, nonlinear={}, harmonics=0, substeps=1)
    x = ds.to_dataarray("k").values.T
    expected = np.linalg.lstsq(x[:-1], x[1:] - x[:-1], rcond=None)[0].T
    np.testing.assert_allclose(model.coefficients[:, :, 0], expected, rtol=1e-8)
    state = model.integrate(x[:5], np.arange(5))
    step = np.eye(2) + expected
    np.testing.assert_allclose(state[:, 0], x[:5] @ step.T, rtol=1e-10)
    np.testing.assert_allclose(state[:, 1], x[:5] @ step.T @ step.T, rtol=1e-10)


def test_the_batch_equals_a_plain_loop(xro, indices):
    """Some starts run into the limits; chunks of starts and uneven months are covered."""
    rows = np.r_[0:40, 100:107, 300]
    state = indices.to_dataarray("k").values.T[rows].astype(float)
    state[3] *= 8
    months = rows % 12
    forcing = np.random.default_rng(0).standard_normal((len(rows), 18, 10)) * xro.spread[0]
    for pushed in (None, forcing):
        expected = plain(xro, state, months, pushed)
        np.testing.assert_allclose(xro.integrate(state, months, pushed), expected, atol=1e-10)
    assert (abs(expected[3]) == xro.limits).any()


def test_a_long_batch_is_the_same_in_pieces(xro, indices):
    state = np.tile(indices.to_dataarray("k").values.T.astype(float), (9, 1))
    months = np.tile(np.arange(552) % 12, 9)
    whole = xro.integrate(state, months)
    np.testing.assert_allclose(whole[4500:], xro.integrate(state[4500:], months[4500:]), atol=1e-10)


@pytest.mark.parametrize(
    ("train", "verify", "nonlinear", "marks"),
    [
        (
            ("1979", "2001"),
            ("2002", "2024"),
            PUBLISHED,
            "969 925 882 838 796 751 706 663 623 590 561 530 492 450 403 357 311 266",
        ),
        (
            ("1979", "2001"),
            ("2002", "2024"),
            {},
            "970 925 877 825 775 724 676 633 593 562 534 503 460 410 361 321 279 237",
        ),
        (
            ("1979", "2022"),
            ("1982", "2020"),
            PUBLISHED,
            "976 951 927 901 875 848 819 792 767 744 722 698 672 646 619 598 567 527",
        ),
        (
            ("1982", "2011"),
            ("2012", "2024"),
            PUBLISHED,
            "972 935 899 868 843 811 771 736 697 658 618 579 546 515 480 441 391 337",
        ),
        (
            ("2002", "2024"),
            ("1979", "2001"),
            PUBLISHED,
            "973 939 906 877 849 818 783 751 721 686 653 630 614 600 582 561 525 477",
        ),
    ],
)
def test_published_correlations(indices, train, verify, nonlinear, marks):
    """Nino3.4 by month, all targets of the period pooled, as the authors' code gives them."""
    model = RechargeOscillator.fit(indices.sel(time=slice(*train)), horizon=18, nonlinear=nonlinear)
    hindcast = model.forecast(indices, init=slice("1979", "2024-11"))
    truth = observed(hindcast.Nino34, indices.Nino34.sel(time=slice(*verify)))
    known = np.isfinite(truth)
    columns = [
        (f[k], t[k]) for f, t, k in zip(hindcast.Nino34.values.T, truth.T, known.T, strict=True)
    ]
    expected = [int(mark) / 1000 for mark in marks.split()]
    found = [np.corrcoef(pair)[0, 1] for pair in columns]
    np.testing.assert_allclose(found, expected, atol=0.001)
    if train == ("1979", "2001") and nonlinear:
        errors = [0.208, 0.327, 0.412, 0.483, 0.542, 0.595, 0.637, 0.669, 0.694, 0.710, 0.722]
        found = [np.sqrt(np.mean((f - t) ** 2)) for f, t in columns[:11]]
        np.testing.assert_allclose(found, errors, atol=0.001)


@pytest.mark.parametrize(
    ("nonlinear", "marks"),
    [
        (PUBLISHED, "972 937 904 871 839 805 771 740 710 681 655 629 602 575 546 522 487 443"),
        ({}, "971 934 895 857 821 785 750 719 691 666 643 617 586 551 514 482 442 395"),
    ],
)
def test_cross_validated_correlations(indices, nonlinear, marks):
    """Targets in blocks of three years, fit without them, two years before and one after."""
    years = indices.time.dt.year.values
    truth = indices.Nino34.values
    found = np.full((552, 18), np.nan)
    for first in range(1982, 2021, 3):
        seen = np.flatnonzero((years < first - 2) | (years > first + 3))
        model = RechargeOscillator.fit(indices.isel(time=seen), horizon=18, nonlinear=nonlinear)
        fc = model.forecast(indices, init=slice("1979", "2024-11")).Nino34.values
        for lead in range(1, 19):
            targets = np.arange(551) + lead
            mine = (targets < 552) & np.isin(years[targets.clip(max=551)] - first, range(3))
            found[targets[mine], lead - 1] = fc[mine, lead - 1]
    judged = (years >= 1982) & (years <= 2020)
    skill = [np.corrcoef(column[judged], truth[judged])[0, 1] for column in found.T]
    np.testing.assert_allclose(skill, [int(mark) / 1000 for mark in marks.split()], atol=0.001)


def test_published_crps_and_coverage(xro, indices):
    """100 members from the starts of 2002-2024; the draws differ, so do the last digits."""
    hindcast = xro.forecast(indices, init=slice("2002", "2024-11"), members=100, seed=1).Nino34
    leads = np.array([1, 3, 6, 9, 12, 15, 18])
    truth = observed(hindcast, indices.Nino34)[:, leads - 1]
    members = hindcast.sel(lead=leads).values.astype(float)
    error = np.abs(members - truth[..., None]).mean(axis=-1)
    pairs = np.abs(members[..., :, None] - members[..., None, :]).sum(axis=(-1, -2))
    crps = np.nanmean(error - pairs / (2 * 100 * 99), axis=0)
    np.testing.assert_allclose(crps, [0.133, 0.249, 0.356, 0.409, 0.424, 0.450, 0.464], atol=0.01)
    low, high = np.quantile(members, [0.05, 0.95], axis=-1)
    inside = np.where(np.isfinite(truth), (truth >= low) & (truth <= high), np.nan)
    covered = np.nanmean(inside, axis=0)
    np.testing.assert_allclose(covered, [0.47, 0.62, 0.66, 0.72, 0.78, 0.80, 0.80], atol=0.03)


def test_nothing_after_the_training_or_the_start_is_used(xro, indices):
    spoiled = indices.copy(deep=True)
    for name in spoiled:
        spoiled[name][{"time": slice(276, None)}] = 99.0
    again = RechargeOscillator.fit(spoiled.sel(time=slice("1979", "2001")), horizon=18)
    np.testing.assert_array_equal(again.coefficients, xro.coefficients)
    past = indices.sel(time=slice("1979", "2010-06"))
    xr.testing.assert_identical(
        xro.forecast(past, init="2010-06", members=3),
        xro.forecast(indices, init="2010-06", members=3),
    )


def test_a_member_is_the_same_however_many_and_whatever_other_starts(xro, indices):
    many = xro.forecast(indices, init=["1997-05", "2010-06"], members=9, seed=4)
    few = xro.forecast(indices, init="2010-06", members=3, seed=4)
    xr.testing.assert_allclose(many.isel(init=[1], member=slice(0, 3)), few, rtol=1e-6)
    other = xro.forecast(indices, init="2010-06", members=3, seed=5)
    assert float(abs(other - few).Nino34.max()) > 0.01


def test_members_spread_like_the_noise_of_the_fit():
    model = RechargeOscillator.fit(oscillation(), horizon=1, nonlinear={}, harmonics=1, substeps=1)
    ds = oscillation(13)
    fc = model.forecast(ds, init=ds.time.values[-1], members=4000)
    np.testing.assert_allclose(fc.T.std(), model.spread[0, 0], rtol=0.05)
    np.testing.assert_allclose(fc.h.std(), model.spread[0, 1], rtol=0.05)


def test_labels_and_units(xro, indices):
    assert isinstance(xro, Forecaster)
    fc = xro.forecast(indices, init=["2010-06", "2015-05"], members=2)
    assert list(fc) == list(indices)
    assert fc.Nino34.dims == ("init", "lead", "member")
    assert fc.Nino34.attrs["forecaster"] == "recharge_oscillator"
    assert fc.Nino34.attrs["training_period"] == "1979-01/2001-12"
    assert fc.WWV.attrs["units"] == "m"
    assert fc.valid_time.values[1, 6] == np.datetime64("2015-12-01")
    assert fc.lead.attrs["units"] == "months"


def test_a_history_in_other_units_is_converted(xro, indices):
    centimeters = indices.assign(WWV=(100 * indices.WWV).assign_attrs(units="cm"))
    expected = xro.forecast(indices, init="2010-06")
    xr.testing.assert_allclose(xro.forecast(centimeters, init="2010-06"), expected, rtol=1e-5)
    assert xro.forecast(centimeters, init="2010-06").WWV.attrs["units"] == "m"
    with pytest.raises(UnitsError):
        xro.forecast(indices.assign(WWV=indices.WWV.assign_attrs(units="s")), init="2010-06")


def test_an_array_of_named_indices_goes_in_and_out(xro, indices):
    array = indices.to_dataarray("index")
    model = RechargeOscillator.fit(array.sel(time=slice("1979", "2001")), horizon=18)
    fc = model.forecast(array.isel(index=slice(None, None, -1)), init="2010-06", members=2)
    assert fc.dims == ("init", "lead", "member", "index")
    expected = xro.forecast(indices, init="2010-06", members=2)
    np.testing.assert_allclose(fc.sel(index="Nino34"), expected.Nino34, rtol=1e-5)
    assert fc.valid_time.dims == ("init", "lead")
    with pytest.raises(GridMismatchError, match="layout"):
        model.forecast(indices)


def test_more_variables_are_not_looked_at(indices):
    two = {"Nino34": (("Nino34", "Nino34"), ("Nino34", "WWV"))}
    model = RechargeOscillator.fit(indices[["Nino34", "WWV"]], horizon=2, nonlinear=two)
    assert list(model.forecast(indices)) == ["Nino34", "WWV"]
    bounds = xr.DataArray(np.zeros((552, 2)), dims=("time", "nv"))
    assert list(model.forecast(indices.assign(time_bnds=bounds))) == ["Nino34", "WWV"]
    with pytest.raises(GridMismatchError, match=r"\['WWV'\]|'WWV'"):
        model.forecast(indices[["Nino34"]])


def test_missing_values(indices, xro):
    holed = indices.copy(deep=True)
    holed["IOD"][378] = np.nan
    with pytest.raises(MissingDataError, match=r"1 of 2 starts, first 2010-07.*IOD"):
        xro.forecast(holed, init=["2010-06", "2010-07"])
    assert bool(np.isfinite(xro.forecast(holed, init="2010-06").Nino34).all())
    # a missing month takes away the two changes it is part of, and no more
    holed["IOD"][100] = np.nan
    model = RechargeOscillator.fit(holed.isel(time=slice(0, 276)), horizon=18)
    gappy = indices.isel(time=slice(0, 276)).drop_isel(time=100)
    same = RechargeOscillator.fit(gappy, horizon=18)
    np.testing.assert_allclose(model.coefficients, same.coefficients, rtol=1e-9)


def test_bad_input_is_refused(indices, xro):
    with pytest.raises(ConfigError, match="IOD"):
        RechargeOscillator.fit(indices[["Nino34", "WWV"]], horizon=2)
    with pytest.raises(ConfigError, match="two factors"):
        RechargeOscillator.fit(indices, horizon=2, nonlinear={"IOD": (("IOD",),)})
    with pytest.raises(ConfigError, match="harmonics"):
        RechargeOscillator.fit(indices, horizon=2, harmonics=-1)
    with pytest.raises(ConfigError, match="substeps"):
        RechargeOscillator.fit(indices, horizon=2, substeps=0)
    with pytest.raises(ConfigError, match="expected anomalies"):
        RechargeOscillator.fit(indices.assign(IOB=indices.IOB + 27), horizon=2)
    with pytest.raises(MissingDataError, match="more years"):
        RechargeOscillator.fit(indices.isel(time=slice(0, 48)), horizon=2)
    with pytest.raises(MissingDataError, match="depend"):
        RechargeOscillator.fit(indices.assign(twice=2 * indices.IOB), horizon=2)
    with pytest.raises(TimeAxisError, match="one month"):
        RechargeOscillator.fit(indices.isel(time=slice(None, None, 3)), horizon=2)
    with pytest.raises(AxisError, match="alone"):
        RechargeOscillator.fit(indices.expand_dims(lat=[0.0]), horizon=2)
    with pytest.raises(AxisError, match="named indices"):
        RechargeOscillator.fit(indices.Nino34, horizon=2)
    with pytest.raises(LeadError, match="horizon"):
        RechargeOscillator.fit(indices, horizon=0)
    with pytest.raises(LeadError, match="members"):
        xro.forecast(indices, members=0)
    with pytest.raises(TimeAxisError):
        xro.forecast(indices, init="2050-01")


def test_mid_month_stamps_and_other_calendars(xro, indices):
    middle = indices.assign_coords(
        time=("time", pd.DatetimeIndex(indices.time) + pd.Timedelta(days=14), indices.time.attrs)
    )
    found = xro.forecast(middle, init="2015-05")
    np.testing.assert_allclose(found.Nino34, xro.forecast(indices, init="2015-05").Nino34)
    assert found.valid_time.values[0, 0] == np.datetime64("2015-06-15")


@pytest.mark.parametrize("as_array", [False, True])
def test_a_lazy_hindcast_is_the_forecast(indices, as_array):
    history = indices.to_dataarray("index") if as_array else indices
    model = RechargeOscillator.fit(history.sel(time=slice("1979", "2001")), horizon=3)
    starts = slice("2002-01", "2003-06")
    lazy = hindcast(history, model, init=starts, members=2, seed=3, starts_per_block=5)
    eager = model.forecast(history, init=starts, members=2, seed=3)
    assert lazy.chunks
    xr.testing.assert_allclose(lazy.compute(), eager, rtol=1e-5)
