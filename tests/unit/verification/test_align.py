"""The truth at valid times, and skill by lead and start month."""

from __future__ import annotations

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.cf.conventions import as_hindcast
from xearth.cf.forecast_coords import forecast_coords
from xearth.cf.timeaxis import TimeAxis
from xearth.data.sources import samples
from xearth.errors import (
    AxisError,
    ConfigError,
    LeadError,
    MissingDataError,
    TimeAxisError,
    UnitsError,
    XearthWarning,
)
from xearth.reference.persistence import Persistence
from xearth.verification.align import observations_at
from xearth.verification.one_pass.verify import verify
from xearth.verification.scores.indices import running_mean

# These judge years that the reference learned from, on purpose: test_leakage.py is about that.
pytestmark = pytest.mark.filterwarnings("ignore::xearth.errors.LeakageWarning")

SCORES = ("correlation", "rmse", "bias", "mae", "crps_fair", "crps_ensemble", "spread")
SCORES += ("spread_skill_ratio",)


@pytest.fixture(scope="module")
def index():
    return samples.open("oisst_nino34").load()


@pytest.fixture(scope="module")
def hindcast(index):
    model = Persistence.fit(index, horizon=6)
    return model.forecast(index, init=slice("1985-03", "1995-08"), members=6)


def hindcast_of(stamps, n_leads=3, calendar=None):
    time = xr.DataArray(stamps, dims="time", name="time")
    coords = forecast_coords(TimeAxis.from_array(time), np.arange(len(stamps)), n_leads)
    values = np.zeros((len(stamps), n_leads))
    return xr.DataArray(values, coords, ("init", "lead"), "x")


def test_truth_by_selection(index, hindcast):
    truth = observations_at(hindcast, index)
    assert truth.dims == ("init", "lead")
    expected = index.sel(time=hindcast.valid_time.values.ravel()).values.reshape(truth.shape)
    np.testing.assert_array_equal(truth, expected)
    assert truth.attrs == index.attrs
    assert truth.valid_time.equals(hindcast.valid_time)


def test_truth_beyond_the_record_and_in_gaps_is_nan(index):
    fc = Persistence.fit(index, horizon=6).forecast(index, init=["2020-08", "2020-12"])
    truth = observations_at(fc, index)
    assert truth.isnull().sum("lead").values.tolist() == [2, 6]
    gone = index.sel(time="2020-11").time.values[0]
    gappy = index.drop_sel(time=gone)
    assert observations_at(fc, gappy).isnull().sum("lead").values.tolist() == [3, 6]


def test_months_match_whatever_the_day_and_the_calendar(index, hindcast):
    expected = observations_at(hindcast, index)
    middle = index.assign_coords(
        time=("time", index.time.values + np.timedelta64(14, "D"), {"standard_name": "time"})
    )
    np.testing.assert_array_equal(observations_at(hindcast, middle), expected)
    stamps = [
        cftime.datetime(int(str(t)[:4]), int(str(t)[5:7]), 30 if str(t)[5:7] != "02" else 28,
                        calendar="noleap")
        for t in index.time.values.astype("M8[M]")
    ]  # fmt: skip
    noleap = index.assign_coords(time=("time", stamps, {"standard_name": "time"}))
    np.testing.assert_array_equal(observations_at(hindcast, noleap), expected)


def test_unsorted_truth_with_other_dims():
    time = pd.date_range("2000-01", periods=24, freq="MS")
    values = np.arange(24.0)[:, None] + np.array([0.0, 100.0])
    coords = {"time": ("time", time, {"standard_name": "time"}), "cell": [5, 6]}
    obs = xr.DataArray(values, coords, ("time", "cell"), "x")
    fc = hindcast_of(time.values[2:5])
    order = np.random.default_rng(0).permutation(24)
    truth = observations_at(fc, obs.isel(time=order).transpose("cell", "time"))
    assert truth.dims == ("init", "lead", "cell")
    assert truth.sel(cell=6).values.tolist() == [[103, 104, 105], [104, 105, 106], [105, 106, 107]]


def test_minutes_match_to_a_hundredth_of_the_step():
    time = pd.date_range("2020-01-01", periods=12, freq="5min")
    coords = {"time": ("time", time, {"standard_name": "time"})}
    obs = xr.DataArray(np.arange(12.0), coords, ("time",), "rain")
    fc = hindcast_of(time.values[:3])
    assert observations_at(fc, obs).values.tolist() == [[1, 2, 3], [2, 3, 4], [3, 4, 5]]
    jitter = obs.assign_coords(
        time=("time", time + pd.to_timedelta([1] * 6 + [2] * 6, "s"), {"standard_name": "time"})
    )
    np.testing.assert_array_equal(observations_at(fc, jitter), observations_at(fc, obs))
    later = obs.assign_coords(time=("time", time + pd.Timedelta("100s"), {"standard_name": "time"}))
    assert bool(observations_at(fc, later).isnull().all())


def test_truth_stays_lazy(index, hindcast):
    lazy = observations_at(hindcast, index.chunk(time=100))
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy.compute(), observations_at(hindcast, index))


def yearly(leads=(1, 2), units="years"):
    """Forecasts from Januaries, and monthly truth that is the year plus a part of the month."""
    init = xr.date_range("2000-01", periods=3, freq="YS")
    lead = xr.Variable("lead", list(leads), {"units": units})
    fc = xr.DataArray(np.zeros((3, len(leads))), {"init": init, "lead": lead}, ("init", "lead"))
    time = xr.date_range("2000-01", periods=72, freq="MS")
    obs = xr.DataArray(time.year + (time.month - 6.5) / 100, {"time": time}, ("time",), "x")
    return fc, obs


@pytest.mark.parametrize(("units", "freq"), [("years", "YS"), ("seasons", "QS-DEC")])
def test_a_month_does_not_stand_for_a_year(units, freq):
    fc, obs = yearly(units=units)
    with pytest.raises(TimeAxisError, match=rf"time='{freq}'\)\.mean\(\)"):
        observations_at(fc, obs)
    with pytest.raises(TimeAxisError, match="Average the truth"):
        verify(fc, obs, "rmse", weights=None)
    # a mean over the months before is one of a whole year at every month
    at = observations_at(fc, obs.assign_attrs(target="trailing mean over 12 steps"))
    assert bool(at.notnull().all())


def test_years_match_by_year_wherever_they_are_stamped():
    fc, obs = yearly()
    truth = obs.resample(time="YS").mean()
    expected = [[2001, 2002], [2002, 2003], [2003, 2004]]
    np.testing.assert_allclose(observations_at(fc, truth), expected, atol=1e-9)
    for freq in ("YS-JUL", "YE"):
        stamps = xr.date_range("2000-01", periods=6, freq=freq)
        moved = truth.assign_coords(time=stamps)
        np.testing.assert_allclose(observations_at(fc, moved), expected, atol=1e-9)
    alone = truth.isel(time=[2])
    assert observations_at(fc, alone).notnull().sum().item() == 2


def test_a_year_does_not_stand_for_a_month():
    fc, obs = yearly(leads=(0, 1, 2), units="months")
    truth = obs.resample(time="YS").mean()
    with pytest.raises(TimeAxisError, match="leads are 1 month apart"):
        observations_at(fc, truth)
    whole, _ = yearly(leads=(12, 24), units="months")
    assert observations_at(whole, truth).values.round(6).tolist()[0] == [2001, 2002]


def test_repeated_truth_is_refused(index, hindcast):
    with pytest.raises(TimeAxisError, match="repeated"):
        observations_at(hindcast, index.isel(time=[0, 1, 1, 2, 3]))


def test_skill_by_numpy(index, hindcast):
    table = verify(hindcast, index, SCORES)
    truth = observations_at(hindcast, index)
    mean = hindcast.mean("member")
    for lead in (1, 4):
        f, o = mean.sel(lead=lead).values, truth.sel(lead=lead).values
        row = table.sel(lead=lead)
        assert row.correlation.item() == pytest.approx(np.corrcoef(f, o)[0, 1], rel=1e-6)
        assert row.rmse.item() == pytest.approx(np.sqrt(((f - o) ** 2).mean()), rel=1e-6)
        assert row.bias.item() == pytest.approx((f - o).mean(), abs=1e-6)
        assert row.mae.item() == pytest.approx(abs(f - o).mean(), rel=1e-6)
        variance = hindcast.sel(lead=lead).var("member", ddof=1).mean().item()
        assert row.spread.item() == pytest.approx(np.sqrt(variance), rel=1e-5)
        ratio = np.sqrt(7 / 6 * variance) / row.rmse.item()
        assert row.spread_skill_ratio.item() == pytest.approx(ratio, rel=1e-5)
    assert (table.crps_fair < table.crps_ensemble).all()
    assert table.n.values.tolist() == [126] * 6
    assert table.correlation.attrs["units"] == "1"
    assert table.rmse.attrs["units"] == "degC"
    assert table.rmse.attrs["units_metadata"] == "temperature: difference"
    assert table.lead.attrs["units"] == "months"


def test_by_month_splits_the_starts(index, hindcast):
    table = verify(hindcast, index, ["rmse", "crps_fair"], by=["month", "lead"])
    whole = verify(hindcast, index, ["rmse"])
    assert table.rmse.dims == ("month", "lead")
    assert table.n.sum("month").equals(whole.n)
    pooled = np.sqrt((table.rmse**2 * table.n).sum("month") / whole.n)
    np.testing.assert_allclose(pooled, whole.rmse, rtol=1e-12)
    june = hindcast.isel(init=hindcast.init.dt.month == 6)
    alone = verify(june, index, ["rmse"])
    np.testing.assert_allclose(table.rmse.sel(month=6), alone.rmse, rtol=1e-12)
    assert table.rmse.attrs["units"] == "degC"


def test_only_pairs_with_a_truth_count(index):
    fc = Persistence.fit(index, horizon=6).forecast(index, init=slice("2019-01", "2020-12"))
    table = verify(fc, index, ["bias"])
    assert table.n.values.tolist() == [23, 22, 21, 20, 19, 18]
    with pytest.raises(MissingDataError, match=r"valid times.*read as 1 to 6 months.*as_hindcast"):
        verify(fc, index.sel(time=slice("1990", "1995")))


def test_fields_give_maps(index):
    sst = samples.open("kaplan_sst").sel(time=slice("1950", "2003"))
    fc = Persistence.fit(sst, horizon=2).forecast(sst, init=slice("1990", "1995"))
    table = verify(fc, sst, ["rmse"], by=["lead", "lat", "lon"])
    assert table.rmse.dims == ("lead", "lat", "lon")
    assert int(table.n.min()) == 0
    assert table.rmse.isnull().equals(table.n == 0)


def test_what_cannot_be_scored(index, hindcast):
    with pytest.raises(ConfigError, match="known ones"):
        verify(hindcast, index, ["acc2"])
    with pytest.raises(ConfigError, match="members"):
        verify(hindcast.isel(member=0, drop=True), index, ["crps_fair"])
    with pytest.raises(ConfigError, match="season2"):
        verify(hindcast, index, by="season2")
    with pytest.raises(UnitsError):
        verify(hindcast, index.assign_attrs(units="m"))


def test_one_start_without_its_dimension(index, hindcast):
    one = hindcast.isel(init=3)
    truth = observations_at(one, index)
    assert truth.dims == ("lead",)
    np.testing.assert_array_equal(truth, observations_at(hindcast, index)[3])


def test_months_and_days_do_not_match(index, hindcast):
    time = pd.date_range("1985-01-01", "1996-01-01")
    coords = {"time": ("time", time, {"standard_name": "time"})}
    daily = xr.DataArray(np.zeros(time.size), coords, ("time",), "x")
    unit = r"'lead' in 'months' are read as 1 to 6 months.*xearth\.open_hindcast.*as_hindcast"
    with pytest.raises(TimeAxisError, match=f"step 1 day, but the leads count months.*{unit}"):
        observations_at(hindcast, daily)
    with pytest.raises(TimeAxisError, match=r"step 1 month, but the leads count fixed.*3 days"):
        observations_at(hindcast_of(time.values[:3]), index)


def test_a_single_truth_is_matched_in_the_unit_of_the_leads(index, hindcast):
    one = index.sel(time=["1990-01-01"])
    assert int(observations_at(hindcast, one).notnull().sum()) == 6
    time = pd.date_range("2020-01-01", periods=12, freq="5min")
    single = xr.DataArray(
        [7.0], {"time": ("time", time[3:4], {"standard_name": "time"})}, ("time",)
    )
    truth = observations_at(hindcast_of(time.values[:3]), single)
    assert np.argwhere(truth.notnull().values).tolist() == [[0, 2], [1, 1], [2, 0]]


def test_skill_of_a_lazy_hindcast_is_lazy(index, hindcast):
    lazy = hindcast.chunk(init=12)
    table = verify(lazy, index, ["correlation", "crps_fair"])
    assert table.correlation.chunks is not None
    assert table.crps_fair.chunks is not None
    xr.testing.assert_allclose(
        table.compute(), verify(hindcast, index, ["correlation", "crps_fair"])
    )


def test_a_month_is_not_scored_as_a_mean_unawares(index, hindcast):
    with pytest.warns(XearthWarning, match="trailing mean over 3 steps"):
        verify(hindcast, running_mean(index))
    smooth = running_mean(index)
    fc = Persistence.fit(smooth, horizon=2).forecast(smooth, init=slice("1990", "1995"))
    assert fc.attrs["target"] == "trailing mean over 3 steps"
    verify(fc, smooth)
    verify(running_mean(hindcast, history=index), smooth)


@pytest.fixture
def ordinal(hindcast):
    """The same hindcast as C3S labels it: forecastMonth 2 is the month after that of the start."""
    labels = hindcast.lead.values + 1
    attrs = {"units": "months", "standard_name": "forecast_period"}
    bare = hindcast.drop_vars(["lead", "valid_time"]).rename(lead="forecastMonth")
    return bare.assign_coords(forecastMonth=("forecastMonth", labels, attrs))


def test_months_counted_from_one_are_no_elapsed_months(index, hindcast, ordinal):
    text = r"'forecastMonth' count the period at the start as 1.*open_hindcast.*as_hindcast"
    at_cases = observations_at(hindcast, index).drop_vars(["lead", "valid_time"])
    at_cases = at_cases.rename(lead="forecastMonth").assign_coords(
        forecastMonth=ordinal.forecastMonth
    )
    for call in (
        lambda: verify(ordinal, index),
        lambda: verify(ordinal, at_cases),
        lambda: verify(hindcast, index, reference=ordinal),
        lambda: verify(ordinal.isel(init=[0]), index),
        lambda: observations_at(ordinal, index),
        lambda: observations_at(ordinal.isel(init=0), index),
    ):
        with pytest.raises(LeadError, match=text):
            call()
    told = verify(as_hindcast(ordinal), index, ["rmse", "bias"])
    expected = verify(hindcast, index, ["rmse", "bias"])
    assert told.lead.equals(expected.lead)
    np.testing.assert_array_equal(told.rmse, expected.rmse)
    said = ordinal.rename(forecastMonth="lead")
    said.lead.attrs["long_name"] = "lead, 1 = month of the start"
    with pytest.raises(LeadError, match="'lead' count"):
        verify(said, index)


def test_valid_times_tell_what_a_label_does_not(index, hindcast, ordinal):
    valid = (("init", "forecastMonth"), hindcast.valid_time.values, hindcast.valid_time.attrs)
    found = verify(ordinal.assign_coords(valid_time=valid), index)
    np.testing.assert_array_equal(found.rmse, verify(hindcast, index).rmse)


def test_members_under_a_name_of_their_own(index, hindcast):
    nmme = hindcast.drop_vars("member").rename(member="M")
    with pytest.raises(AxisError, match=r"xearth\.as_hindcast\(da, member='M'\)"):
        verify(nmme, index, "crps_fair")
    found = verify(as_hindcast(nmme, member="M"), index, "crps_fair")
    np.testing.assert_array_equal(found.crps_fair, verify(hindcast, index, "crps_fair").crps_fair)
    with pytest.raises(AxisError) as refused:
        verify(hindcast.expand_dims(plev=[1.0, 2.0]), index)
    assert "as_hindcast" not in str(refused.value)
