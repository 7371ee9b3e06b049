"""Planted faults: each leak is found, its clean twin raises no alarm, and its price is real."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter

from xearth import samples
from xearth.errors import ConfigError, LeakageWarning, MissingDataError
from xearth.fields.climatology import anomaly
from xearth.reference.persistence import Persistence
from xearth.verification.align import observations_at
from xearth.verification.leaks.evidence import evidence, fingerprints
from xearth.verification.leaks.honest import prices
from xearth.verification.leaks.leakage import RULES, find_leaks, guard
from xearth.verification.leaks.provenance import Judged, Provenance

LEADS = 6


def stamps(first: str, periods: int) -> xr.DataArray:
    time = xr.date_range(first, periods=periods, freq="MS")
    return xr.DataArray(time, dims="time", attrs={"standard_name": "time", "axis": "T"})


def judged(first: str = "1982-01", periods: int = 120, events: tuple[str, ...] = ()) -> Judged:
    fc = empty(first, periods)
    if events:
        fc = fc.assign_coords(event=("init", np.resize(events, periods)))
    return Judged.of(fc)


def empty(first: str, periods: int, leads: int = LEADS) -> xr.DataArray:
    init = xr.Variable(
        "init",
        xr.date_range(first, periods=periods, freq="MS"),
        {"standard_name": "forecast_reference_time"},
    )
    lead = xr.Variable(
        "lead", np.arange(1, leads + 1), {"units": "months", "standard_name": "forecast_period"}
    )
    return xr.DataArray(np.zeros((periods, leads)), {"init": init, "lead": lead}, ("init", "lead"))


# kind: (the fault, its clean twin), judged on starts 1982-01 to 1991-12, valid to 1992-06
PLANTED = {
    "climatology": (
        {"climatology_base": "1981-01/2010-12"},
        {"climatology_base": "1951-01/1980-12"},
    ),
    "detrending": ({"detrend_period": "1950-01/2020-12"}, {"detrend_period": "1950-01/1981-12"}),
    "overlap": (
        {"training_period": "1950-01/1984-12"},
        {"training_period": "1950-01/1981-12", "history": 12},
    ),
    "shared_months": (
        {"training_period": "1950-01/1982-03"},
        {"training_period": "1950-01/1982-01", "history": 12},
    ),
    "smoothing": (
        {"smoothing": "init 3 centered"},
        {"smoothing": "lead 3 centered, time 3 trailing"},
    ),
    "bias_removal": (
        {"bias_removal_period": "1982-01/1991-12"},
        {"bias_removal_period": "1982-01/1991-12 (leave-one-out)"},
    ),
    "threshold": ({"threshold_base": "1971/2000"}, {"threshold_base": "1951/1980"}),
    "calibration": (
        {"calibration_period": "1980/1985"},
        {"calibration_period": "1980/1991 (cross-validated)"},
    ),
    "members": ({"members_selected_on": "1990/1995"}, {"members_selected_on": "1970/1981"}),
    "validation": (
        {"validation_period": "1982-02/1992-06"},
        {"validation_period": "1970-01/1981-12"},
    ),
    "duplicates": ({"events": ("S1", "S2")}, {"events": ("S3", "S4")}),
    "normalization": (
        {"normalization_period": "1950/2020"},
        {"normalization_period": "1950/1981"},
    ),
}
ALSO = {"overlap": {"shared_months"}}  # the last starts trained on reach over the edge


def test_every_rule_is_planted():
    assert set(PLANTED) == {rule.kind for rule in RULES}
    assert len(RULES) >= 12


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_leak_is_found(kind):
    fault, _ = PLANTED[kind]
    seen = Provenance.from_attrs(Provenance(**fault).to_attrs())  # as read from a file
    leaks = find_leaks(seen, judged(events=("S2", "S9")))
    assert {leak.kind for leak in leaks} - ALSO.get(kind, set()) == {kind}
    message = str(next(leak for leak in leaks if leak.kind == kind))
    assert message.startswith(kind.replace("_", " ") + ": ")
    rule = next(rule for rule in RULES if rule.kind == kind)
    assert rule.remedy in message
    value = next(iter(fault.values()))
    assert (value if isinstance(value, str) else "S2") in message


@pytest.mark.parametrize("kind", PLANTED)
def test_clean_twin_raises_no_alarm(kind):
    _, clean = PLANTED[kind]
    assert find_leaks(Provenance(**clean), judged(events=("S2", "S9"))) == ()


def test_all_at_once_and_none_of_the_twins():
    faults = {k: v for fault, _ in PLANTED.values() for k, v in fault.items()}
    faults["training_period"] = "1950-01/1984-12"
    found = find_leaks(Provenance(**faults), judged(events=("S2",)))
    assert [leak.kind for leak in found] == [rule.kind for rule in RULES]
    clean = {k: v for _, twin in PLANTED.values() for k, v in twin.items()}
    assert find_leaks(Provenance(**clean), judged(events=("S9",))) == ()
    assert find_leaks(Provenance(), judged()) == ()


def test_one_month_decides():
    first_valid = judged().valid.min()
    assert first_valid == 19820201000000
    assert find_leaks(Provenance(validation_period="1970-01/1982-01"), judged()) == ()
    assert find_leaks(Provenance(validation_period="1970-01/1982-02"), judged())
    assert find_leaks(Provenance(detrend_period="1950/1981"), judged()) == ()
    assert find_leaks(Provenance(smoothing="init 1 centered"), judged()) == ()
    assert find_leaks(Provenance(smoothing="time 3 centered"), judged())


# -- with data ------------------------------------------------------------------------------------


def world(seed: int = 0, years: int = 60, trend: float = 0.0) -> xr.DataArray:
    """Anomalies 1950-2009 with a memory of months, a slow drift and a trend (K per year)."""
    rng = np.random.default_rng(seed)
    n = 12 * years
    fast = lfilter([0.5], [1, -0.85], rng.standard_normal(n))
    slow = lfilter([0.02], [1, -0.999], rng.standard_normal(n))
    time = stamps("1950-01", n)
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    values = fast + slow + trend * np.arange(n) / 12
    return xr.DataArray(values, {"time": time}, ("time",), name="sst", attrs=attrs)


def hindcast(obs: xr.DataArray, first: str = "1980-01", last: str = "2008-12") -> xr.DataArray:
    """Damped persistence of the anomaly, biased by lead, from starts first .. last."""
    chosen = obs.sel(time=slice(first, last))
    fc = empty(first, chosen.sizes["time"])
    damping = 0.85**fc.lead
    values = chosen.rename(time="init").drop_vars("init") * damping
    return fc.copy(data=values.transpose("init", "lead").values).assign_attrs(obs.attrs)


def caught(*arrays, **options):
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        leaks = guard(*arrays, **options)
    assert [w.category for w in raised] == [LeakageWarning] * len(leaks)
    assert [str(w.message) for w in raised] == [str(leak) for leak in leaks]
    return {leak.kind: {p.score: p for p in leak.prices} for leak in leaks}


def test_price_of_bias_removal():
    obs = world()
    fc = hindcast(obs) + 0.3 * xr.DataArray(np.arange(LEADS), dims="lead")
    truth = observations_at(fc, obs)
    error = fc - truth
    removed = (fc - error.mean("init")).assign_attrs(obs.attrs)
    clean = caught(fc.assign_attrs(obs.attrs), truth)
    assert clean == {}
    found = caught(removed, truth)  # nothing is declared: it shows in the numbers
    assert set(found) == {"bias_removal"}
    price = found["bias_removal"]["rmse"]
    assert price.gain > 0
    # second route: leave the year out of the raw forecasts
    years = fc.init.dt.year
    honest = xr.concat(
        [
            fc.isel(init=[i]) - error.isel(init=np.flatnonzero(years != years[i])).mean("init")
            for i in range(fc.sizes["init"])
        ],
        "init",
    )
    expected = float(np.sqrt(((honest - truth) ** 2).mean("init")).mean())
    np.testing.assert_allclose(price.honest, expected, rtol=1e-10)
    declared = {**obs.attrs, "xearth_bias_removal_period": "1980/2008 (leave-one-out)"}
    assert caught(honest.assign_attrs(declared), truth) == {}


def test_price_of_bias_removal_by_month():
    obs = world()
    fc = hindcast(obs)
    truth = observations_at(fc, obs)
    month = fc.init.dt.month
    by_month = (fc - truth).groupby(month).mean("init")
    removed = (fc.groupby(month) - by_month).drop_vars("month").assign_attrs(obs.attrs)
    found = caught(removed, truth)
    assert found["bias_removal"]["rmse"].gain > 0


def test_price_of_climatology():
    raw = world(seed=3)
    window = slice("1980-02", "2009-06")
    normal = raw.sel(time=window).groupby("time.month").mean()
    leaked = (raw.groupby("time.month") - normal).drop_vars("month").assign_attrs(raw.attrs)
    fc = hindcast(leaked)
    truth = observations_at(fc, leaked)
    found = caught(fc.assign_attrs(xearth_climatology_base="1980-02/2009-06"), truth, record=leaked)
    assert set(found) >= {"climatology"}
    assert found["climatology"]["rmse"].gain > 0
    # second route: damp towards the normal of the other years in the first place
    outside = raw.where((raw.time < truth.valid_time.min()) | (raw.time > truth.valid_time.max()))
    other = outside.groupby("time.month").mean()
    shift = (other - normal).sel(
        month=fc.valid_time.dt.month if "valid_time" in fc.coords else truth.valid_time.dt.month
    )
    expected = np.sqrt(((fc + shift - truth) ** 2).mean("init")).mean()
    np.testing.assert_allclose(found["climatology"]["rmse"].honest, expected, rtol=1e-9)
    honest_base = (
        (
            raw.groupby("time.month")
            - raw.sel(time=slice("1950", "1979")).groupby("time.month").mean()
        )
        .drop_vars("month")
        .assign_attrs(raw.attrs)
    )
    fc = hindcast(honest_base).assign_attrs(xearth_climatology_base="1950/1979")
    assert caught(fc, observations_at(fc, honest_base), record=honest_base) == {}


def test_climatology_shows_in_the_numbers():
    raw = world(seed=3)
    for dtype in (np.float64, np.float32):
        whole = (raw + 300).astype(dtype).sel(time=slice("1980-02", "2009-06"))
        normal = whole.groupby("time.month").mean()
        leaked = (whole.groupby("time.month") - normal).drop_vars("month").assign_attrs(raw.attrs)
        fc = empty("1980-01", 348).assign_attrs(raw.attrs) + 0.1
        truth = observations_at(fc, leaked)
        assert "climatology" in evidence(fc, truth)
    honest = raw.assign_attrs(base_period="1900/1949")
    assert evidence(fc, observations_at(fc, honest)) == {}


def test_price_of_detrending():
    raw = world(seed=5, trend=0.03)
    line = raw.polyfit("time", 1).polyfit_coefficients
    leaked = (raw - xr.polyval(raw.time, line)).assign_attrs(raw.attrs)
    fc = hindcast(leaked).assign_attrs(xearth_detrend_period="1950-01/2009-12")
    truth = observations_at(fc, leaked)
    found = caught(fc, truth, record=leaked)
    assert set(found) == {"detrending"}
    assert found["detrending"]["rmse"].gain > 0
    # second route: the line of the raw record up to the first start
    past = raw.sel(time=slice(None, "1980-01")).polyfit("time", 1).polyfit_coefficients
    raw_truth = observations_at(fc, raw)
    valid = truth.valid_time
    honest = fc - xr.polyval(valid, line) + xr.polyval(valid, past)
    raw_like = fc + xr.polyval(valid, past)
    expected = np.sqrt(((raw_like - raw_truth) ** 2).mean("init")).mean()
    assert not np.allclose(honest, fc)
    np.testing.assert_allclose(found["detrending"]["rmse"].honest, expected, rtol=1e-6)
    clean = (raw - xr.polyval(raw.time, past)).assign_attrs(raw.attrs)
    fc = hindcast(clean).assign_attrs(xearth_detrend_period="1950-01/1980-01")
    assert set(caught(fc, observations_at(fc, clean), record=clean)) == {"detrending"}  # one month
    fc = fc.isel(init=slice(1, None))
    assert caught(fc, observations_at(fc, clean), record=clean) == {}


def test_detrending_shows_in_the_numbers():
    raw = world(seed=5, trend=0.03)
    window = raw.sel(time=slice("1980-02", "2009-06"))
    line = window.polyfit("time", 1).polyfit_coefficients
    fc = empty("1980-01", 348).assign_attrs(raw.attrs) + 0.1
    leaked = (window - xr.polyval(window.time, line)).assign_attrs(raw.attrs)
    assert set(evidence(fc, observations_at(fc, leaked))) == {"detrending"}


def overfitted(obs: xr.DataArray, years: slice) -> xr.DataArray:
    """A regression with far too many inputs, fitted to the starts of some years."""
    rng = np.random.default_rng(1)
    fc = hindcast(obs)
    inputs = np.c_[fc.isel(lead=0), rng.standard_normal((fc.sizes["init"], 60))]
    truth = observations_at(fc, obs)
    known = fc.init.isin(fc.init.sel(init=years)).values & truth.notnull().all("lead").values
    slope = np.linalg.lstsq(inputs[known], truth.values[known], rcond=None)[0]
    return fc.copy(data=inputs @ slope)


def test_price_of_overlap():
    obs = world(seed=2)
    fc = overfitted(obs, slice("1980", "1999")).assign_attrs(
        obs.attrs, xearth_training_period="1980-01/1999-12"
    )
    truth = observations_at(fc, obs)
    found = caught(fc, truth)
    assert set(found) == {"overlap", "shared_months"}
    assert found["overlap"]["rmse"].gain > 0
    assert found["overlap"]["correlation"].gain > 0
    assert found["overlap"]["rmse"] == found["shared_months"]["rmse"]
    assert "109 starts that no leak concerns" in found["overlap"]["rmse"].how
    # where every start is concerned by one leak or another, nothing honest is left to score
    both = fc.assign_attrs(xearth_validation_period="2000-01/2010-12")
    assert not any(caught(both, truth).values())
    apart = fc.sel(init=slice("2000", None))
    assert caught(apart, truth.sel(init=slice("2000", None))) == {}


def test_price_of_smoothing():
    obs = world(seed=4)
    fc = hindcast(obs) + xr.DataArray(
        0.5 * np.random.default_rng(0).standard_normal((348, LEADS)), dims=("init", "lead")
    )
    truth = observations_at(fc, obs)

    def across(field):
        return field.rolling(init=3, center=True).mean()

    smooth = across(fc).assign_attrs(obs.attrs, xearth_smoothing="init 3 centered")
    found = caught(smooth, across(truth), honest={"smoothing": lambda: (fc, truth)})
    assert set(found) == {"smoothing"}
    assert found["smoothing"]["correlation"].gain > 0
    assert found["smoothing"]["rmse"].gain > 0
    assert caught(fc.assign_attrs(obs.attrs), truth, honest={"smoothing": lambda: 1 / 0}) == {}
    # without the unsmoothed forecasts the leak is named, without a price
    assert caught(smooth, across(truth))["smoothing"] == {}


def test_members_picked_on_test_years():
    obs = world(seed=6)
    fc = hindcast(obs)
    truth = observations_at(fc, obs)
    noise = np.random.default_rng(0).standard_normal((40, *fc.shape))
    every = xr.DataArray(fc.values + noise, dims=("member", "init", "lead"), coords=fc.coords)
    test = slice("1980", "1984")
    rank = ((every - truth) ** 2).sel(init=test).mean(("init", "lead")).argsort()
    best = every.isel(member=rank[:2].values).assign_attrs(
        obs.attrs, xearth_members_selected_on="1980-02/1985-06"
    )
    best = best.transpose("init", "lead", "member")
    found = caught(best, truth)
    assert set(found) == {"members"}
    assert found["members"]["rmse"].gain > 0


def test_normalization_shows_in_the_numbers():
    raw = world(seed=7).drop_attrs()
    fc = empty("1980-01", 348) + 0.1
    truth = observations_at(fc, raw)
    window = raw.sel(time=slice("1980-02", "2009-06"))
    scaled = observations_at(fc, (window - window.mean()) / window.std())
    assert "normalization" not in evidence(fc, truth)
    assert set(evidence(fc, scaled)) == {"normalization"}


def test_duplicate_events_by_content():
    rng = np.random.default_rng(0)
    train = xr.DataArray(rng.random((5, 4, 4)), dims=("event", "y", "x"))
    test = xr.concat([train[3], xr.DataArray(rng.random((4, 4)), dims=("y", "x"))], "event")
    seen = Provenance(events=fingerprints(train, "event"))
    names = fingerprints(test.transpose("x", "y", "event"), "event")
    fc = empty("2019-01", 2).assign_coords(event=("init", list(names)))
    found = find_leaks(seen, Judged.of(fc))
    assert [leak.kind for leak in found] == ["duplicates"]
    assert "1 judged events" in found[0].message
    assert find_leaks(seen, Judged.of(fc.isel(init=[1]))) == ()
    missing = train.where(train > 0.1)
    assert fingerprints(missing, "event") == fingerprints(missing.copy(deep=True), "event")


def test_dask_is_never_computed():
    obs = world()
    fc = hindcast(obs)
    truth = observations_at(fc, obs)
    removed = (fc - (fc - truth).mean("init")).assign_attrs(obs.attrs)

    def refuse(*_, **__):
        raise AssertionError("computed")

    import dask

    with dask.config.set(scheduler=refuse):
        lazy = removed.chunk(init=50).assign_attrs(xearth_validation_period="1980/1990")
        found = caught(lazy, truth.chunk(init=50))
    assert found == {"validation": {}}


def test_real_forecasts():
    nino = samples.open("oisst_nino34").load()
    base = anomaly(nino, base=("1991", "2020"))
    fc = Persistence.fit(base.sel(time=slice(None, "2005")), horizon=3).forecast(
        base, init=slice("2006", "2015")
    )
    truth = observations_at(fc, base)
    found = caught(fc, truth, record=base)
    assert set(found) == {"climatology"}  # the WMO normal holds the judged years
    assert found["climatology"]["rmse"].how.startswith("climatology of the years")
    early = anomaly(nino, base=("1982", "2005"))
    fc = Persistence.fit(early.sel(time=slice(None, "2005")), horizon=3).forecast(
        early, init=slice("2006", "2015")
    )
    assert caught(fc, observations_at(fc, early)) == {}


def test_wrong_use():
    with pytest.raises(ConfigError, match="telepathy"):
        find_leaks(Provenance(), judged(), honest={"telepathy": lambda: None})
    fc = empty("1982-01", 12).assign_attrs(xearth_training_period="long ago")
    with pytest.raises(ConfigError, match="long ago"):
        guard(fc)
    assert prices("duplicates", fc, fc, starts=np.ones(12, bool)) == ()
    assert prices("climatology", fc, fc, starts=np.ones(12, bool)) == ()


def test_large_fields_are_thinned_out(monkeypatch):
    """Forecasts of maps: the leak shows on every cell, the price is that of some of them."""
    rng = np.random.default_rng(0)
    obs = world()
    lat = xr.Variable("lat", np.linspace(-30, 30, 24), {"units": "degrees_north"})
    lon = xr.Variable("lon", np.linspace(120, 280, 40), {"units": "degrees_east"})
    noise = xr.DataArray(
        rng.standard_normal((720, 24, 40)), {"lat": lat, "lon": lon}, ("time", "lat", "lon")
    )
    field = (obs + 0.3 * noise).assign_attrs(obs.attrs)
    short = hindcast(obs).isel(init=slice(0, 120))
    truth = observations_at(short, field)
    fc = (short + 0.3).broadcast_like(truth)
    removed = (fc - (fc - truth).mean("init")).assign_attrs(obs.attrs)
    whole = caught(removed, truth)["bias_removal"]["rmse"]
    monkeypatch.setattr("xearth.verification.leaks.honest._POINTS", 100_000)
    some = caught(removed, truth)["bias_removal"]["rmse"]
    assert "steps" not in whole.how
    assert "rows and columns in steps of" in some.how
    assert whole.gain > 0
    np.testing.assert_allclose(some.gain, whole.gain, rtol=0.2)
    base = removed.assign_attrs(obs.attrs, xearth_climatology_base="1985/1990")
    assert caught(base, truth, record=field)["climatology"]["rmse"].gain != 0


def test_truth_as_a_record():
    """The truth as verify() takes it: matched, its years beyond the judged ones used for prices."""
    obs = world(seed=3)
    fc = hindcast(obs, "1985-01", "2009-12").assign_attrs(xearth_climatology_base="1981/2009")
    found = caught(fc, obs)
    at = caught(fc, observations_at(fc, obs), record=obs)
    assert set(found) == set(at) == {"climatology"}
    assert found["climatology"]["rmse"] == at["climatology"]["rmse"]
    # a start whose valid times lie beyond the record is not judged
    late = fc.assign_attrs(xearth_climatology_base="2010-01/2010-12")
    assert caught(late, obs) == {}
    assert [
        leak.kind
        for leak in find_leaks(Provenance(climatology_base="2010-01/2010-12"), Judged.of(late))
    ] == ["climatology"]
    ending = fc.assign_attrs(
        xearth_training_period="2009-11/2009-12", xearth_climatology_base="1950/1980"
    )
    messages = find_leaks(Provenance.from_attrs(ending.attrs), Judged.of(ending, obs))
    # 2009-10 and -11 have only 2009-11 and -12 left to be judged: all of it was trained on
    assert [leak.kind for leak in messages] == ["overlap", "shared_months"]
    assert "2 of 300 judged starts (2009-10-01 to 2009-11-01)" in messages[0].message
    with pytest.raises(MissingDataError):
        Judged.of(fc, obs.isel(time=slice(0, 24)))


def test_climatology_of_its_own():
    obs = world(seed=3)
    fc = hindcast(obs, "1985-01", "2000-12")
    clim = obs.groupby("time.month").mean().assign_attrs(base_period="1991/2020")
    assert set(caught(fc, obs, climatology=clim)) == {"climatology"}
    assert caught(fc, obs, climatology=clim.assign_attrs(base_period="1951/1980")) == {}


def test_a_single_start():
    fc = hindcast(world()).isel(init=0).assign_attrs(xearth_training_period="1950/1990")
    assert [leak.kind for leak in find_leaks(Provenance.from_attrs(fc.attrs), Judged.of(fc))] == [
        "overlap"
    ]
