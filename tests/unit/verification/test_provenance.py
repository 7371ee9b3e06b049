from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xearth.errors import ConfigError, MissingDataError
from xearth.verification.leaks.provenance import Judged, Period, Provenance, Smoothing

months = st.tuples(st.integers(1000, 2500), st.integers(1, 12)).map(lambda p: f"{p[0]}-{p[1]:02d}")
spans = st.lists(st.tuples(months, months).map(sorted).map(tuple), min_size=1, max_size=3)
schemes = st.sampled_from(["in-sample", "leave-one-out", "cross-validated"])


@given(spans, schemes)
def test_period_text_and_back(parts, scheme):
    period = Period(tuple(parts), scheme)
    assert Period.parse(str(period)) == period


@given(spans, months)
def test_contains_is_what_comparing_months_says(parts, month):
    year, number = map(int, month.split("-"))
    stamp = np.array([year * 10**10 + number * 10**8 + 15 * 10**6])
    expected = any(first <= month <= last for first, last in parts)
    assert Period(tuple(parts)).contains(stamp)[0] == expected


def test_ends_are_whole():
    period = Period.parse("1981-12/1981-12")
    assert period.contains(np.array([19811201000000, 19811231235959])).all()
    assert not period.contains(np.array([19811130235959, 19820101000000])).any()
    assert Period.parse("2019-06-01T00:05/2019-06-01 01:00").first == 20190601000500


@pytest.mark.parametrize(
    "text", ["", "spring", "1981/1980", "1981 (by eye)", "1981-13-45-1", "1981,"]
)
def test_unreadable_period(text):
    with pytest.raises(ConfigError):
        Period.parse(text)


def test_attrs_and_back():
    seen = Provenance(
        training_period="1856-01/1981-12",
        validation_period="1970/1981",
        bias_removal_period="1982/2016 (leave-one-out)",
        smoothing="init 3 centered, lead 3 trailing",
        history=12,
        horizon=18,
        events=("S1", "S2"),
    )
    attrs = seen.to_attrs()
    assert all(isinstance(value, str | int) for value in attrs.values())
    assert Provenance.from_attrs(attrs) == seen
    assert seen.smoothings == (Smoothing("init", 3, "centered"), Smoothing("lead", 3, "trailing"))


def test_reads_what_forecasters_write():
    seen = Provenance.from_attrs(
        {"training_period": "1856-01/1981-12", "base_period": "none named"}
    )
    assert seen == Provenance(training_period="1856-01/1981-12")
    both = {"training_period": "1900/1901", "xearth_training_period": "1950/1951"}
    assert Provenance.from_attrs(both).training_period == "1950/1951"
    with pytest.raises(ConfigError, match="by eye"):
        Provenance.from_attrs({"xearth_climatology_base": "by eye"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"training_period": "soon"},
        {"history": 0},
        {"smoothing": "three months"},
        {"smoothing": "init 3 sideways"},
        {"events": "S1"},
        {"events": ("S1,S2",)},
    ],
)
def test_wrong_provenance(wrong):
    with pytest.raises(ConfigError, match="expected"):
        Provenance(**wrong)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_judged_in_any_calendar(calendar):
    use = None if calendar == "standard" else True
    init = xr.date_range("1999-12", periods=2, freq="MS", calendar=calendar, use_cftime=use)
    lead = xr.Variable("lead", [1, 2], {"units": "months", "standard_name": "forecast_period"})
    coords = {
        "init": ("init", init, {"standard_name": "forecast_reference_time"}),
        "lead": lead,
    }
    fc = xr.DataArray(np.zeros((2, 2)), coords, ("init", "lead"))
    judged = Judged.of(fc)
    assert judged.inits.tolist() == [19991201000000, 20000101000000]
    assert judged.valid.tolist() == [
        [20000101000000, 20000201000000],
        [20000201000000, 20000301000000],
    ]
    assert judged.window == "2000-01-01 to 2000-03-01"


def test_judging_nothing():
    with pytest.raises(MissingDataError):
        Judged(np.zeros(0, np.int64), np.zeros((0, 3), np.int64))
