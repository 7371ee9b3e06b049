"""Odd input: legal, and then the same answer; or not, and then refused by a typed error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import xearth
from xearth.errors import ConstraintError, GridMismatchError, LeadError, RegionError, UnitsWarning

from .conftest import forecast

Q = xearth.Q


def mm(value: object) -> object:
    return Q(value, "mm/h")


#: The one cell of the forecast that is missing at 45N 20E.
GONE = xearth.Box(43, 47, 18, 22, "gone")


@pytest.mark.parametrize(
    "constraint",
    [
        xearth.EachCell(GONE) <= mm(1),
        xearth.NonNegative(where=GONE),
        xearth.Monotone(where=GONE),
        xearth.AreaTotal(GONE) <= Q(1, "m3/s"),
    ],
    ids=str,
)
def test_nothing_holds_where_no_cell_has_a_value(constraint):
    fc = forecast()
    for ask in (constraint.check, constraint.on, lambda one: xearth.impose(one, constraint)):
        with pytest.raises(RegionError, match="some cell with a value"):
            ask(fc)


def test_the_total_of_a_missing_frame_is_not_known():
    fc = forecast()
    fc[0, 1, 0] = np.nan
    total = xearth.AreaTotal() <= Q(1e15, "m3/s")
    assert np.isnan(total.violation(fc)[0, 1, 0])
    assert total.check(fc).values.tolist() == [[False, True, True]]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: xearth.AreaMean().between(mm([1, 2]), mm([3, 4, 5])), "as many lower"),
        (lambda: xearth.AreaMean(leads=(1.7,)), "whole numbers"),
        (lambda: xearth.AreaMean(leads=()), "some lead"),
        (lambda: xearth.AreaFraction(above=mm(3)) == 0.03, r"xearth.Q\(0.03, '1'\)"),
        (lambda: xearth.AreaFraction(above=mm(3)) >= 3, r"xearth.Q\(3, '%'\)"),
        (lambda: xearth.IntensityClimatology.of(forecast(), transform="ln"), "'ln'"),
        (lambda: xearth.IntensityClimatology.of(forecast(), per="lead"), "'lead'"),
        (lambda: xearth.IntensityClimatology.of(forecast(), frames=0), "frames=0"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, match):
    with pytest.raises(ConstraintError, match=match):
        make()
    known = xearth.IntensityClimatology((0.0,), (1.0,), (0.0, 1.0), "mm h-1")
    for n in ("4", np.nan, Q(4, "1")):
        with pytest.raises(ConstraintError, match="standard deviations"):
            xearth.IntensityAnomaly(known, n)


def test_an_index_of_packed_anomalies_is_that_of_the_numbers():
    fc = forecast(units="K").assign_attrs(units_metadata="temperature: difference")
    numbers = np.round(fc * 100 - 200).fillna(-999).astype("i2")
    packing = {"scale_factor": 0.01, "add_offset": 2.0, "_FillValue": np.int16(-999)}
    packed = numbers.assign_attrs(fc.attrs | packing)
    plain = (fc.round(2)).assign_attrs(fc.attrs)
    index = xearth.Index(xearth.Box(41, 61, 12, 38, "box"), lead=2) >= Q(4, "K")
    xr.testing.assert_allclose(index.violation(packed), index.violation(plain))
    xr.testing.assert_allclose(index.tolerance(packed), index.tolerance(plain))


def test_given_fields_may_be_in_another_order():
    fc = forecast()
    fields = xearth.FrameMeans(
        fc.isel(init=0, member=0, drop=True).mean("lead").assign_attrs(fc.attrs)
    )
    turned = fields.coarse.da.isel(lat=slice(None, None, -1)).assign_coords(
        lon=lambda d: d.lon - 360
    )
    turned["lon"].attrs = fc["lon"].attrs
    other = xearth.FrameMeans(turned.transpose("lon", "lat"))
    xr.testing.assert_allclose(other.violation(fc), fields.violation(fc))
    with pytest.raises(GridMismatchError, match="'lat'"):
        xearth.FrameMeans(turned.assign_coords(lat=turned["lat"] + 1)).check(fc)
    coarse = fc.isel(init=0, member=0, drop=True).rename(lead="step")
    with pytest.raises(LeadError, match=r"rename\(step='lead'\)"):
        xearth.BlockMeans(coarse).check(fc)


@pytest.mark.parametrize("threshold", [0.7, 2.3, 3.1])
def test_single_precision_stays_on_its_side_of_a_threshold(threshold):
    fc = forecast().astype(np.float32)
    asked = xearth.AreaFraction(above=mm(threshold)) == Q(95, "%")
    few = xearth.AreaFraction(above=mm(threshold)) == Q(10, "%")
    for constraint in (asked, few, few & xearth.NonNegative()):
        held = xearth.impose(fc, constraint)
        assert held.dtype == np.float32
        assert bool(constraint.check(held).all()), str(constraint)


def test_decibels_are_above_one_unit_of_what_was_asked():
    fc = forecast()
    loud = xearth.TransformedMean(least=mm(0.1)) >= Q(5, "1")
    daily = (24 * fc).assign_attrs(fc.attrs | {"units": "mm/day"})
    xr.testing.assert_allclose(loud.violation(daily), loud.violation(fc))
    held = [xearth.impose(one, loud) for one in (fc, daily)]
    assert bool(loud.check(held[1]).all())
    xr.testing.assert_allclose(held[1] / 24, held[0])


def test_rain_in_depth_and_evaporation_in_mass_close_one_budget():
    rain = forecast(missing=False).isel(init=0, member=0, drop=True).rename(lead="time")
    hours = np.datetime64("2000-01-01", "ns") + np.arange(4) * np.timedelta64(1, "h")
    rain = rain.assign_coords(time=("time", hours, {"standard_name": "time"}))
    flux = {"units": "kg m-2 s-1", "standard_name": "water_evaporation_flux"}
    evaporation = (0.1 * rain / 3600).assign_attrs(flux)
    water = (0.9 * rain).cumsum("time").assign_coords(time=rain["time"])
    fields = {"rain": rain, "evaporation": evaporation, "water": water.assign_attrs(units="kg m-2")}
    ds = xr.Dataset(fields)
    closed = xearth.BudgetClosed("water", sources="rain", sinks="evaporation", within=mm(1e-9))
    for constraint, holds in ((closed, True), (replace(closed, sinks=()), False)):
        with pytest.warns(UnitsWarning, match="liquid water"):
            assert constraint.check(ds).item() is holds
    changes = xearth.Conserved(xearth.AreaMean(variable="evaporation"), within=mm(100))
    with pytest.warns(UnitsWarning, match="liquid water"):
        assert changes.check(ds).item()


def test_a_season_is_one_run_of_months_without_a_gap():
    fc = forecast(units="K").isel(init=0, member=0, drop=True).rename(lead="time")

    def at(*months):
        stamps = np.array(months, "M8[M]").astype("M8[ns]") + np.timedelta64(15, "D")
        return fc.assign_coords(time=("time", stamps, {"standard_name": "time"}))

    mean = xearth.AreaMean(season="DJF", per="horizon")
    with pytest.raises(LeadError, match="whole season"):
        mean.measure(at("1999-12", "2001-01", "2001-02", "2001-03"))
    later = mean.measure(at("1999-12", "2000-12", "2001-01", "2001-02"))
    xr.testing.assert_allclose(later, xearth.AreaMean().measure(fc[1:]).mean())


def test_what_is_conserved_needs_two_frames():
    one = forecast().isel(lead=[0])
    for ask in (xearth.Conserved().on, xearth.Conserved().check, xearth.Monotone().on):
        with pytest.raises(LeadError, match="two frames or more"):
            ask(one)


def test_a_difference_of_temperatures_is_no_bound_of_absolute_ones():
    sst = forecast(units="degC").assign_attrs(standard_name="sea_surface_temperature")
    warmer = xearth.AreaMean() >= Q(2, "delta_degC")
    with pytest.raises(ConstraintError, match="a difference of temperatures"):
        warmer.violation(sst)
    with pytest.raises(ConstraintError, match="a difference of temperatures"):
        warmer.on(sst)
    assert xearth.Constraint.from_json(warmer.to_json()) == warmer
    anomalies = sst.assign_attrs(units_metadata="temperature: difference")
    plain = xearth.AreaMean() >= Q(2, "K")
    xr.testing.assert_allclose(warmer.violation(anomalies), plain.violation(anomalies))
    assert xearth.AreaMean().near(Q(20, "degC"), sd=Q(50, "delta_degC")).check(sst).all()


def test_a_coarse_grid_without_coordinates_is_told_so():
    fc = forecast(projected=True)
    coarse = fc.isel(init=0, lead=0, member=0, drop=True).coarsen(y=2, x=2).mean()
    bare = coarse.drop_vars(["y", "x"]).assign_attrs(fc.attrs)
    with pytest.raises(GridMismatchError, match="found none"):
        xearth.BlockMeans(bare).check(fc)


def test_a_mask_beyond_the_values_of_a_forecast_is_refused_before():
    fc = forecast()
    everywhere = xearth.Mask(fc.isel(init=0, lead=0, member=0, drop=True).fillna(1.0) > -1)
    with pytest.raises(ConstraintError, match="2 cells of the mask"):
        xearth.PersistentMask(everywhere).on(fc)


def test_equal_constraints_are_one_to_dask():
    tokenize = pytest.importorskip("dask.base").tokenize
    fc = forecast()
    wet = xearth.Mask((fc.isel(init=0, lead=0, member=0, drop=True) > 2).drop_attrs(), "wet")
    known = xearth.IntensityClimatology((0.0,), (1.0,), (0.0, 1.0), "mm h-1", where=wet)
    for one in (xearth.AreaMean(wet) >= mm(1), xearth.IntensityAnomaly(known, np.float32(1))):
        again = xearth.Constraint.from_json(one.to_json())
        assert tokenize(again) == tokenize(one)
    other = xearth.Mask(wet.cells.da, "other")
    assert tokenize(xearth.AreaMean(other)) != tokenize(xearth.AreaMean(wet))
