"""What every reference forecaster promises, and each one against its formula."""

from __future__ import annotations

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import (
    ConfigError,
    GridMismatchError,
    LeadError,
    MissingDataError,
    TimeAxisError,
    UnitsError,
)
from xearth.reference.analog import Analog
from xearth.reference.climatology import Climatology
from xearth.reference.cslim import CSLIM
from xearth.reference.lim import LIM
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.reference.protocol import Forecaster

NORTH, EAST = {"units": "degrees_north"}, {"units": "degrees_east"}
IN_EOFS = [LIM, CSLIM, Analog]
KINDS = [Persistence, DampedPersistence, Climatology, *IN_EOFS]


def field(n=240, lat=3, lon=4, start="1950-01", absolute=False, seed=0):
    """An AR(1) field, with a seasonal cycle when absolute."""
    random = np.random.default_rng(seed)
    x = np.empty((n, lat, lon))
    x[0] = random.standard_normal((lat, lon))
    for t in range(1, n):
        x[t] = 0.8 * x[t - 1] + 0.6 * random.standard_normal((lat, lon))
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    if absolute:
        x += 290 + 5 * np.cos(2 * np.pi * np.arange(n) / 12)[:, None, None]
        attrs = {"units": "K", "standard_name": "sea_surface_temperature"}
    coords = {
        "time": ("time", pd.date_range(start, periods=n, freq="MS"), {"standard_name": "time"}),
        "lat": ("lat", np.linspace(-10, 10, lat), NORTH),
        "lon": ("lon", np.linspace(180, 220, lon), EAST),
    }
    return xr.DataArray(x, coords, ("time", "lat", "lon"), "t", attrs)


def fit(kind, train, horizon=4):
    return kind.fit(
        train, horizon=horizon, **({"modes": 5, "smoothing": 3} if kind in IN_EOFS else {})
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_interface(kind):
    da = field()
    model = fit(kind, da.isel(time=slice(0, 180)))
    assert isinstance(model, Forecaster)
    assert model.horizon == 4
    fc = model.forecast(da, init=slice("1966", "1967"))
    assert fc.dims == ("init", "lead", "lat", "lon")
    assert fc.sizes == {"init": 24, "lead": 4, "lat": 3, "lon": 4}
    assert fc.lead.attrs["units"] == "months"
    assert fc.valid_time.dims == ("init", "lead")
    last = fc.valid_time.isel(init=-1, lead=-1).values
    assert last == np.datetime64("1968-04-01")
    learned = None if kind is Persistence else "1950-01/1964-12"
    assert fc.attrs.get("training_period") == learned
    assert fc.attrs["forecaster"] == kind.name
    assert fc.attrs["units"] == "K"
    assert fc.attrs["units_metadata"] == "temperature: difference"
    assert fc.attrs["long_name"].endswith(f"forecast by {kind.name.replace('_', ' ')}")
    ensemble = model.forecast(da, members=3)
    assert ensemble.dims == ("init", "lead", "member", "lat", "lon")
    assert ensemble.init.values == da.time.values[-1:]
    assert ensemble.member.attrs["standard_name"] == "realization"


@pytest.mark.parametrize("kind", KINDS)
def test_members_of_a_start_do_not_depend_on_the_other_starts(kind):
    da = field()
    model = fit(kind, da)
    together = model.forecast(da, init=["1960-03", "1963-07"], members=4, seed=5)
    alone = model.forecast(da, init="1963-07", members=4, seed=5)
    np.testing.assert_allclose(together.isel(init=[1]), alone, rtol=1e-10)
    other = model.forecast(da, init="1963-07", members=4, seed=6)
    assert float(abs(other - alone).max()) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_dims_and_rows_does_not_matter(kind):
    da = field()
    model = fit(kind, da)
    expected = model.forecast(da, init="1965-05")
    turned = da.transpose("lon", "time", "lat").isel(lat=slice(None, None, -1))
    xr.testing.assert_allclose(model.forecast(turned, init="1965-05"), expected)
    shuffled = da.isel(time=np.random.default_rng(0).permutation(da.sizes["time"]))
    xr.testing.assert_allclose(model.forecast(shuffled, init="1965-05"), expected)
    again = fit(kind, shuffled).forecast(da, init="1965-05")
    np.testing.assert_allclose(again, expected, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_absolute_fields_go_by_departures_from_their_months(kind):
    da = field(absolute=True)
    train = da.isel(time=slice(0, 180))
    clim = train.groupby("time.month").mean()
    departure = (da.groupby("time.month") - clim).assign_attrs(
        units="K", units_metadata="temperature: difference"
    )
    model = fit(kind, train)
    fc = model.forecast(da, init=["1966-02", "1966-11"])
    plain = fit(kind, departure.isel(time=slice(0, 180)))
    own = plain.forecast(departure, init=["1966-02", "1966-11"])
    back = clim.sel(month=own.valid_time.dt.month)
    if kind in IN_EOFS:
        months = own.valid_time.dt.month
        shifts = [clim.sel(month=(months - 1 - k) % 12 + 1).drop_vars("month") for k in range(3)]
        back = sum(shifts) / 3
    np.testing.assert_allclose(fc, (own + back).transpose(*fc.dims), rtol=1e-9)
    assert fc.attrs["climatology_base"] == "mean of the training period 1950-01/1964-12"
    assert fc.attrs.get("units_metadata") is None


@pytest.mark.parametrize("kind", KINDS)
def test_series_and_other_calendars(kind):
    da = field(lat=1, lon=1).squeeze(drop=True)
    time = [cftime.datetime(1950 + i // 12, i % 12 + 1, 16, calendar="360_day") for i in range(240)]
    da = da.assign_coords(time=("time", time, {"standard_name": "time"}))
    model = kind.fit(da, horizon=3, **({"modes": 1} if kind in IN_EOFS else {}))
    fc = model.forecast(da, init="1969-11")
    assert fc.dims == ("init", "lead")
    stamps = [str(v)[:10] for v in fc.valid_time.values.ravel()]
    assert stamps == ["1969-12-16", "1970-01-16", "1970-02-16"]


@pytest.mark.parametrize("kind", KINDS)
def test_land_stays_land(kind):
    da = field()
    da[:, 1, 2] = np.nan
    fc = fit(kind, da).forecast(da, init="1965-05", members=2)
    missing = fc.isnull()
    assert bool(missing.isel(lat=1, lon=2).all())
    assert int(missing.any(["init", "lead", "member"]).sum()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_units_are_converted_and_kinds_are_not_mixed(kind):
    celsius = field(absolute=True).assign_attrs(units="K")
    model = fit(kind, celsius)
    degc = (celsius - 273.15).assign_attrs(celsius.attrs, units="degC")
    fc = model.forecast(degc, init="1965-05")
    np.testing.assert_allclose(fc, model.forecast(celsius, init="1965-05"), rtol=1e-9)
    assert fc.attrs["units"] == "K"
    with pytest.raises(UnitsError, match="anomal"):
        model.forecast(field(), init="1965-05")
    with pytest.raises(UnitsError):
        model.forecast(celsius.assign_attrs(units="m"), init="1965-05")


@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_float32(kind):
    da = field().astype(np.float32)
    assert fit(kind, da).forecast(da, members=2).dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_another_grid_is_refused(kind):
    da = field()
    model = fit(kind, da)
    with pytest.raises(GridMismatchError, match="lon"):
        model.forecast(da.isel(lon=slice(0, 3)))
    with pytest.raises(GridMismatchError, match="lat"):
        model.forecast(da.assign_coords(lat=("lat", [-10.0, 1.0, 10.0], NORTH)))
    with pytest.raises(GridMismatchError, match="dims"):
        model.forecast(da.isel(lon=0, drop=True))


@pytest.mark.parametrize("kind", KINDS)
def test_bad_horizons_and_times(kind):
    da = field()
    with pytest.raises(LeadError, match="horizon"):
        fit(kind, da, horizon=0)
    with pytest.raises(TimeAxisError, match="needs at least 6"):
        fit(kind, da.isel(time=slice(0, 4)), horizon=5)
    with pytest.raises(TimeAxisError, match="repeated"):
        fit(kind, da.isel(time=[0, 1, 1, 2, 3, 4, 5, 6]))
    with pytest.raises(MissingDataError):
        fit(kind, da * np.nan)
    model = fit(kind, da)
    with pytest.raises(TimeAxisError):
        model.forecast(da, init="2050-01")
    with pytest.raises(TimeAxisError, match="step"):
        model.forecast(da.isel(time=slice(None, None, 3)))
    with pytest.raises(LeadError):
        model.forecast(da, members=0)


def test_persistence_keeps_the_last_value():
    da = field()
    fc = Persistence.fit(da, horizon=5).forecast(da, init=["1960-01", "1964-12"])
    last = da.sel(time=fc.init.values).values
    np.testing.assert_array_equal(fc, np.repeat(last[:, None], 5, axis=1))


def test_damping_is_the_autocorrelation():
    da = field(n=20_000, lat=1, lon=2)
    model = DampedPersistence.fit(da, horizon=4)
    np.testing.assert_allclose(
        model.damping, np.repeat(0.8 ** np.arange(1, 5)[:, None], 2, 1), atol=0.03
    )
    x = da.values.reshape(20_000, 2)
    for lag in (1, 4):
        expected = [np.corrcoef(x[:-lag, i], x[lag:, i])[0, 1] for i in range(2)]
        np.testing.assert_allclose(model.damping[lag - 1], expected, atol=2e-3)
    fc = model.forecast(da, init="1960-01").squeeze()
    last = da.sel(time="1960-01").values.ravel()
    np.testing.assert_allclose(fc, model.damping * last, rtol=1e-12)


def test_damping_over_a_gap_uses_the_pairs_that_are_there():
    da = field(n=400, lat=1, lon=1)
    gappy = da.drop_isel(time=range(150, 170))
    model = DampedPersistence.fit(gappy, horizon=2)
    x = da.values.ravel().copy()
    x[150:170] = np.nan
    for lag in (1, 2):
        a, b = x[:-lag], x[lag:]
        ok = np.isfinite(a) & np.isfinite(b)
        expected = (a[ok] @ b[ok]) / np.sqrt((a[ok] @ a[ok]) * (b[ok] @ b[ok]))
        assert model.damping[lag - 1, 0] == pytest.approx(expected, rel=1e-12)


def test_members_of_persistence_have_the_errors_of_training():
    da = field(n=600, lat=1, lon=2)
    model = Persistence.fit(da, horizon=3)
    fc = model.forecast(da, init="1960-06", members=6000)
    noise = (fc - model.forecast(da, init="1960-06")).squeeze("init")
    x = da.values.reshape(600, 2)
    starts = np.arange(5, 600 - 3, 12)
    errors = np.stack([x[starts + n] - x[starts] for n in (1, 2, 3)], axis=1).reshape(-1, 6)
    drawn = noise.transpose("member", "lead", "lat", "lon").values.reshape(6000, 6)
    expected = errors.T @ errors / len(errors)
    np.testing.assert_allclose(drawn.T @ drawn / 6000, expected, atol=0.08 * expected.max())


def test_members_of_climatology_are_what_followed_in_other_years():
    da = field(n=120)
    model = Climatology.fit(da, horizon=3)
    fc = model.forecast(da, init="1955-04", members=9).isel(init=0)
    april = np.flatnonzero(da.time.dt.month == 4)
    april = april[april + 3 < 120]
    paths = np.stack([da.values[april + n] for n in (1, 2, 3)], axis=1)
    seen = set()
    for m in range(9):
        member = fc.isel(member=m).values
        distance = abs(paths - member).max(axis=(1, 2, 3))
        assert distance.min() < 1e-12
        seen.add(int(distance.argmin()))
    assert len(seen) == 9


def test_lim_recovers_the_process_it_was_fitted_to():
    da = field(n=40_000, lat=1, lon=3, seed=3)
    lim = LIM.fit(da, horizon=3, modes=3, smoothing=1)
    np.testing.assert_allclose(lim.green, 0.8 * np.eye(3), atol=0.02)
    np.testing.assert_allclose(
        lim.noise @ lim.noise.T, 0.36 * np.eye(3) * lim_weight(da), atol=0.02
    )
    fc = lim.forecast(da, init="1960-01").squeeze()
    last = da.sel(time="1960-01").values.ravel()
    np.testing.assert_allclose(fc, 0.8 ** np.arange(1, 4)[:, None] * last, atol=0.08)


def lim_weight(da):
    return float(np.cos(np.deg2rad(da.lat.values[0])))


def test_lim_members_have_the_covariance_of_the_formula():
    da = samples.open("kaplan_sst").isel(lat=slice(4, 8), lon=slice(2, 12, 2)).load()
    lim = LIM.fit(da, horizon=6, modes=20, smoothing=1)
    assert lim.eofs.unresolved.shape[0] == 0
    fc = lim.forecast(da, init="1990-01", members=4000).isel(init=0)
    centered = (fc - lim.forecast(da, init="1990-01").isel(init=0)).astype(float)
    x = (da.values.reshape(da.sizes["time"], -1) - lim.eofs.mean) @ lim.eofs.projections
    c0 = x.T @ x / len(x)
    for lead in (1, 6):
        power = np.linalg.matrix_power(lim.green, lead)
        errors = centered.sel(lead=lead).transpose("member", "lat", "lon").values
        amplitudes = errors.reshape(4000, -1) @ lim.eofs.projections
        expected = c0 - power @ c0 @ power.T
        found = amplitudes.T @ amplitudes / 4000
        np.testing.assert_allclose(found, expected, atol=0.08 * np.diag(expected).max())


def test_lim_members_carry_what_the_eofs_leave_out():
    da = samples.open("kaplan_sst").isel(lat=slice(4, 8), lon=slice(2, 12, 2)).load()
    lim = LIM.fit(da, horizon=1, modes=2, smoothing=1)
    x = da.values.reshape(da.sizes["time"], -1).astype(float) - lim.eofs.mean
    rest = x - x @ lim.eofs.projections @ lim.eofs.patterns
    expected = rest.T @ rest / len(x)
    np.testing.assert_allclose(lim.eofs.unresolved.T @ lim.eofs.unresolved, expected, atol=1e-9)


def test_lim_state_and_target_are_trailing_means():
    da = field()
    lim = LIM.fit(da, horizon=2, modes=12, smoothing=3)
    assert lim.history == 3
    fc = lim.forecast(da, init="1960-05")
    state = da.sel(time=slice("1960-03", "1960-05")).mean("time").values.ravel()
    amplitudes = (state - lim.eofs.mean) @ lim.eofs.projections
    np.testing.assert_allclose(amplitudes @ lim.eofs.patterns + lim.eofs.mean, state, rtol=1e-9)
    expected = lim.green @ amplitudes @ lim.eofs.patterns + lim.eofs.mean
    np.testing.assert_allclose(fc.isel(init=0, lead=0).values.ravel(), expected, rtol=1e-9)
    assert fc.attrs["target"] == "trailing mean over 3 steps"
    monthly = LIM.fit(da, horizon=2, modes=3)
    assert monthly.history == 1
    assert "target" not in monthly.forecast(da).attrs


def test_lim_refuses_what_it_cannot_do():
    da = field()
    with pytest.raises(ConfigError, match="rank 12"):
        LIM.fit(da, horizon=2, modes=13)
    with pytest.raises(ConfigError, match="smoothing"):
        LIM.fit(da, horizon=2, modes=3, smoothing=0)
    lim = LIM.fit(da, horizon=2, modes=3, smoothing=3)
    with pytest.raises(TimeAxisError, match="fewer than 3 steps"):
        lim.forecast(da, init="1950-02")
    with pytest.raises(TimeAxisError, match="gap"):
        lim.forecast(da.drop_isel(time=100), init=da.time.values[101])
    holed = da.copy()
    holed[100, 0, 0] = np.nan
    with pytest.raises(MissingDataError, match="1 of 1 starts"):
        lim.forecast(holed, init=da.time.values[101])
    everywhere = da.copy()
    for i in range(12):
        everywhere[i, i // 4, i % 4] = np.nan
    with pytest.raises(MissingDataError, match="every one of the 12"):
        LIM.fit(everywhere, horizon=2, modes=3)


def test_simple_forecasts_span_gaps_of_the_history():
    da = field()
    gappy = da.drop_isel(time=range(100, 110))
    model = Persistence.fit(da, horizon=2)
    fc = model.forecast(gappy, init=[da.time.values[99], da.time.values[110]])
    np.testing.assert_array_equal(fc.isel(lead=1), da.isel(time=[99, 110]))


def test_steps_of_minutes_have_no_seasons():
    da = field(n=60, absolute=True)
    time = pd.date_range("2020-01-01", periods=60, freq="5min")
    da = da.assign_coords(time=("time", time, {"standard_name": "time"}))
    fc = Persistence.fit(da, horizon=3).forecast(da, init=da.time.values[50])
    np.testing.assert_allclose(fc.isel(init=0, lead=2), da.isel(time=50), rtol=1e-12)
    assert fc.lead.values.tolist() == [5, 10, 15]
    assert fc.lead.attrs["units"] == "minutes"


def test_dask_history_reads_the_steps_it_needs_only():
    da = field()
    model = Persistence.fit(da, horizon=2)
    seen = []

    def spy(block, block_info=None):
        seen.append(block_info[0]["array-location"][0])
        return block

    lazy = da.chunk(time=24)
    lazy = lazy.copy(data=lazy.data.map_blocks(spy, dtype=float))
    fc = model.forecast(lazy, init="1955-03")
    np.testing.assert_array_equal(fc, model.forecast(da, init="1955-03"))
    assert set(seen) == {(48, 72)}


@pytest.mark.parametrize("kind", KINDS)
def test_longitudes_that_differ_by_a_turn_are_the_same(kind):
    da = field()
    model = fit(kind, da)
    west = da.assign_coords(lon=("lon", (da.lon.values + 180) % 360 - 180, EAST)).sortby("lon")
    fc = model.forecast(west.astype(np.float32), init="1965-05")
    expected = model.forecast(da.astype(np.float32), init="1965-05")
    xr.testing.assert_allclose(fc, expected)
    assert fc.lon.values.tolist() == da.lon.values.tolist()


def test_members_of_climatology_never_hold_the_truth():
    da = field(n=120)
    model = Climatology.fit(da, horizon=14)
    fc = model.forecast(da, init="1955-04", members=50).isel(init=0)
    start = int(np.flatnonzero(da.time == np.datetime64("1955-04-01"))[0])
    for n in (1, 14):
        truth = da.isel(time=start + n)
        assert float(abs(fc.sel(lead=n) - truth).max(["lat", "lon"]).min()) > 0.05


def test_members_need_years_of_training():
    short = field(n=40)
    for kind in (Persistence, DampedPersistence, Climatology):
        with pytest.raises(MissingDataError, match="members need 2"):
            kind.fit(short, horizon=28).forecast(short, init="1951-01", members=3)
    with pytest.raises(MissingDataError, match="overlap"):
        Climatology.fit(short, horizon=14).forecast(short, init="1951-01", members=3)


def test_coordinates_of_the_training_time_do_not_stick():
    da = field()
    da = da.assign_coords(
        month=("time", da.time.dt.month.values),
        forecast_period=((), 0, {"standard_name": "forecast_period", "units": "hours"}),
        height=((), 2.0),
    )
    fc = Persistence.fit(da, horizon=2).forecast(da)
    assert set(fc.coords) == {"init", "lead", "valid_time", "lat", "lon", "height"}


@pytest.mark.parametrize("kind", [Persistence, DampedPersistence, Climatology])
def test_a_history_of_one_step_is_enough(kind):
    da = field()
    model = fit(kind, da)
    alone = model.forecast(da.isel(time=[77]), members=2)
    xr.testing.assert_allclose(alone, model.forecast(da, init=da.time.values[77], members=2))


def test_lim_at_a_longer_lag_finds_the_same_step():
    da = field(n=40_000, lat=1, lon=3, seed=3)
    lim = LIM.fit(da, horizon=3, modes=3, lag=3)
    np.testing.assert_allclose(lim.green, 0.8 * np.eye(3), atol=0.03)
    x = (da.values.reshape(40_000, 3) - lim.eofs.mean) @ lim.eofs.projections
    third = (x[3:].T @ x[:-3] / len(x[3:])) @ np.linalg.inv(x.T @ x / len(x))
    np.testing.assert_allclose(np.linalg.matrix_power(lim.green, 3), third, atol=1e-10)


def test_lim_refuses_a_lag_within_which_signs_change():
    da = field(n=400, lat=1, lon=1)
    swing = da * (-1.0) ** np.arange(400)[:, None, None]
    swing.attrs = da.attrs
    with pytest.raises(ConfigError, match="no real root"):
        LIM.fit(swing, horizon=2, modes=1, lag=3)
    with pytest.raises(ConfigError, match="lag"):
        LIM.fit(da, horizon=2, modes=1, lag=0)


def test_persistence_states_a_training_period_only_where_it_learned_from_one():
    sst = samples.open("kaplan_sst").load()
    model = Persistence.fit(sst.sel(time=slice("1950", "1981")), horizon=2)
    assert "training_period" not in model.forecast(sst, init="1997-06").attrs
    with_members = model.forecast(sst, init="1997-06", members=2)
    assert with_members.attrs["training_period"] == "1950-01/1981-12"


def test_normals_of_absolute_fields_are_stated_for_the_leak_guard():
    sst = samples.open("oisst").load()
    model = Persistence.fit(sst.sel(time=slice("1982", "1989")), horizon=2)
    fc = model.forecast(sst, init="1995-06")
    assert fc.attrs["xearth_climatology_base"] == "1982-01/1989-12"
