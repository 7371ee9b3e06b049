"""Two routes to each number: labeled numpy and the condition on tensors; and projections hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import xearth
from xearth.errors import LeadError

from .conftest import forecast, labeled, tensor

Q = xearth.Q
BOX = xearth.Box(46, 61, 17, 38, "box")


def measures(projected: bool):
    """Return what can be measured, with a bound that cuts through what there is."""
    mask = (
        forecast(projected=projected).isel(init=0, lead=0, member=0, drop=True) > 2
    ).drop_attrs()
    second = xearth.Mask(mask, "wet") if projected else BOX
    rate = Q(3, "mm/h")
    for place, per in ((None, "horizon"), (second, "frame")):
        yield xearth.AreaMean(place, per=per), rate
        yield xearth.AreaMaximum(place, per=per), Q(9, "mm/h")
        yield xearth.AreaQuantile(place, per=per, level=0.7), rate
        yield xearth.AreaFraction(place, per=per, above=rate), Q(35, "%")
        yield xearth.AreaTotal(place, per=per, leads=(2, 4)), Q(1000, "m3/s")
        yield xearth.TransformedMean(place, per=per, least=Q(1, "mm/h")), Q(4, "1")
    yield xearth.AreaMean(season="DJF"), rate
    yield xearth.SpectrumSlope((1, 3)), Q(-1, "1")
    if not projected:
        points = xearth.Points(lat=(41.0, 64.2, 52.4), lon=(11.0, 44.9, 26.0))
        yield xearth.AtPoints(points), rate
        yield xearth.AtPoints(points, per="horizon", leads=(4, 1)), Q([1, 2, 3], "mm/h")
        yield xearth.Index(BOX, lead=3, steps=2), rate
        yield xearth.Index(BOX, season="DJF"), rate


CASES = [
    pytest.param(projected, up, *pair, id=f"{pair[0]} {projected} {up}")
    for projected, up in ((False, "north"), (True, "south"))
    for pair in measures(projected)
]


def values(da: xr.DataArray) -> np.ndarray:
    """Return labeled numbers as (members, m)."""
    return da.isel(init=0).transpose("member", ...).values.reshape(3, -1)


@pytest.mark.parametrize(("projected", "up", "functional", "bound"), CASES)
def test_labels_and_tensors_measure_the_same(projected, up, functional, bound):
    whole = isinstance(functional, xearth.SpectrumSlope)
    fc = forecast(projected=projected, descending=up == "north", missing=not whole)
    y = tensor(fc)
    measured = values(functional.measure(fc))
    fraction = isinstance(functional, xearth.AreaFraction)
    for constraint in (functional >= bound, functional <= bound, functional == bound):
        condition = constraint.on(fc)
        np.testing.assert_allclose(condition.measure(y).numpy(), measured, rtol=1e-12)
        residual = condition.residual(y).abs().numpy()
        if not fraction:  # whose residual counts from half a cell off
            np.testing.assert_allclose(residual, values(constraint.violation(fc)), rtol=1e-9)
        holds = (condition.residual(y).abs() <= 1e-9 * condition.magnitude(y)).all(1).numpy()
        np.testing.assert_array_equal(constraint.check(fc).values[0], holds)
        if condition.exact:
            held = labeled(condition.project(y), fc)
            assert constraint.check(held).all()
            assert float(abs(held - fc).max()) > 0 or constraint.check(fc).all()


def test_bounds_are_converted_and_so_is_a_forecast_in_other_units(fc):
    bound = xearth.AreaMean() >= Q(8, "mm/h")
    other = (fc / 3.6e6).assign_attrs(fc.attrs | {"units": "m s-1"})
    a, b = bound.violation(fc), bound.violation(other)
    np.testing.assert_allclose(b.values * 3.6e6, a.values, rtol=1e-12)
    assert b.attrs["units"] == "m s-1"
    c, d = bound.on(fc).residual(tensor(fc)), bound.on(other).residual(tensor(other))
    torch.testing.assert_close(d * 3.6e6, c)


def test_a_flux_of_mass_meets_a_bound_in_depth():
    flux = forecast() / 3600
    flux.attrs = {"standard_name": "rainfall_flux", "units": "kg m-2 s-1"}
    bound = xearth.AreaMean() <= Q(3, "mm/h")
    with pytest.warns(xearth.errors.UnitsWarning, match="liquid water"):
        found = bound.violation(flux)
    expected = bound.violation(forecast())
    np.testing.assert_allclose(found.values * 3600, expected.values, rtol=1e-9, atol=1e-12)


def test_anomalies_meet_kelvin_and_celsius_alike():
    fc = forecast(units="K").assign_attrs(
        standard_name="sea_surface_temperature", units_metadata="temperature: difference"
    )
    k, c = (xearth.AreaMean() >= Q(4, unit) for unit in ("K", "delta_degC"))
    xr.testing.assert_allclose(k.violation(fc), c.violation(fc))
    assert k.violation(fc).attrs["units_metadata"] == "temperature: difference"


def test_several_bounds_lie_along_the_frames_or_the_points(fc):
    each = xearth.AreaMean() == Q([1.0, 2, 3, 4], "mm/h")
    mean = xearth.AreaMean().measure(fc)
    found = each.violation(fc)
    for t in range(4):
        np.testing.assert_allclose(found.isel(lead=t), abs(mean.isel(lead=t) - (t + 1)), rtol=1e-12)
    np.testing.assert_allclose(
        each.on(fc).residual(tensor(fc)).abs().numpy(), values(found), rtol=1e-9
    )
    with pytest.raises(xearth.errors.ConstraintError, match="one for each frame"):
        (xearth.AreaMean() == Q([1.0, 2], "mm/h")).violation(fc)


def test_a_gaussian_bound_holds_within_its_central_95_percent():
    fc = forecast()
    mean = xearth.AreaMean().measure(fc)
    constraint = xearth.AreaMean().near(Q(3, "mm/h"), sd=Q(0.1, "mm/h"))
    np.testing.assert_allclose(constraint.violation(fc), abs(mean - 3), rtol=1e-12)
    expected = (abs(mean - 3) <= 0.1 * 1.959964).all("lead")
    xr.testing.assert_equal(
        constraint.check(fc).drop_attrs(), expected.drop_attrs().rename("holds")
    )
    condition = constraint.on(fc)
    energy = 0.5 * (((mean - 3) / 0.1) ** 2).sum("lead")
    np.testing.assert_allclose(condition.energy(tensor(fc)).numpy(), energy.values[0], rtol=1e-9)
    assert not condition.exact


def test_a_range_is_that_of_the_cells_in_the_place(fc):
    y = tensor(fc)
    cells = xearth.EachCell(leads=(2, 3)).between(Q(1, "mm/h"), Q(4, "mm/h"))
    excess = cells.violation(fc)
    assert excess.dims == fc.dims
    assert excess.sizes["lead"] == 2
    rows = fc.dims[-2:]
    low = (1 - fc.sel(lead=[2, 3])).clip(min=0).max(["lead", *rows])
    high = (fc.sel(lead=[2, 3]) - 4).clip(min=0).max(["lead", *rows])
    condition = cells.on(fc)
    residual = condition.residual(y).numpy()
    np.testing.assert_allclose(-residual[:, 0], low.values[0], rtol=1e-12)
    np.testing.assert_allclose(residual[:, 1], high.values[0], rtol=1e-12)
    held = labeled(condition.project(y), fc)
    assert cells.check(held).all()
    xr.testing.assert_equal(held.sel(lead=[1, 4]), fc.sel(lead=[1, 4]))


def test_no_negative_values_in_the_units_of_the_field(fc):
    less = fc - 2
    less.attrs = fc.attrs
    assert xearth.NonNegative().check(fc).all()
    assert not xearth.NonNegative().check(less).any()
    condition = xearth.NonNegative().on(less)
    assert xearth.NonNegative().check(labeled(condition.project(tensor(less)), less)).all()
    cold = less.assign_attrs(units="degC", standard_name="air_temperature")
    with pytest.raises(xearth.errors.ConstraintError, match="no lower limit"):
        xearth.NonNegative().check(cold)


def coarse_of(fc: xr.DataArray) -> xr.DataArray:
    """Return blocks of 2 by 2 cells with values of their own."""
    y, x = fc.dims[-2:]
    plain = fc.isel(init=0, lead=0, member=0, drop=True).sortby(y)
    blocks = plain.coarsen({y: 2, x: 2}).mean()
    for dim in (y, x):
        blocks[dim].attrs = fc[dim].attrs
    rng = np.random.default_rng(9)
    return blocks.copy(data=rng.uniform(1, 5, blocks.shape)).assign_attrs(fc.attrs)


def test_block_means_are_those_of_blocks(fc):
    y = tensor(fc)
    constraint = xearth.BlockMeans(coarse_of(fc))
    condition = constraint.on(fc)
    excess = constraint.violation(fc)
    residual = np.sort(condition.residual(y).abs().numpy(), 1)
    np.testing.assert_allclose(residual, np.sort(values(excess), 1), rtol=1e-9, atol=1e-12)
    held = labeled(condition.project(y), fc)
    assert constraint.check(held).all()
    if "lat" in fc.coords:  # by the exact mean over cells
        north = held.isel(init=0, lead=1, member=2).sortby("lat")
        means = xearth.regrid(north, like=constraint.coarse.da, minimum_covered=0.1)
        np.testing.assert_allclose(means.values, constraint.coarse.da.values, rtol=1e-9)


def test_block_means_may_be_given_by_frame_and_in_part(fc):
    coarse = coarse_of(fc).expand_dims(lead=fc["lead"][1:3]).copy()
    coarse[0, 0, 0] = np.nan
    constraint = xearth.BlockMeans(coarse)
    condition = constraint.on(fc)
    assert len(condition.rows) == 23
    held = labeled(condition.project(tensor(fc)), fc)
    assert constraint.check(held).all()
    xr.testing.assert_equal(held.sel(lead=[1, 4]), fc.sel(lead=[1, 4]))
    with pytest.raises(LeadError):
        xearth.BlockMeans(coarse.assign_coords(lead=[7, 8])).violation(fc)


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "standard"])
def test_block_means_of_frames_are_found_in_any_calendar(calendar):
    fc = forecast(missing=False, projected=True).isel(init=0, member=0, drop=True)
    times = xr.date_range("2001-02-27", periods=4, freq="D", calendar=calendar, use_cftime=True)
    fc = fc.rename(lead="time").assign_coords(time=("time", times, {"standard_name": "time"}))
    coarse = fc.isel(time=[1, 3]).coarsen(y=2, x=2).mean().assign_attrs(fc.attrs)
    constraint = xearth.BlockMeans(coarse)
    assert constraint.check(fc)
    turned = constraint.violation(fc.copy(data=fc.values[::-1]))
    means = fc.coarsen(y=2, x=2).mean().values
    np.testing.assert_allclose(turned, abs(means[[2, 0]] - means[[1, 3]]), atol=1e-12)
    condition = constraint.on(fc)
    assert len(condition.rows) == 2 * 3 * 4
    y = torch.as_tensor(fc.values)[None, ..., None]
    assert float(condition.residual(y).abs().max()) < 1e-12
    again = xearth.Constraint.from_json(constraint.to_json())
    assert again == constraint
    assert again.check(fc)
    with pytest.raises(LeadError, match="Select those"):
        xearth.BlockMeans(coarse.assign_coords(time=times[:2].shift(9, "D"))).check(fc)


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_frame_means_are_those_of_blocks_of_frames(fc, how):
    y, x = fc.dims[-2:]
    halves = fc.isel(init=0, member=0, drop=True).isel(lead=[0, 1]).rename(lead="block")
    given = (halves.drop_vars("block") * (1.5 if how == "mean" else 3)).assign_attrs(fc.attrs)
    constraint = xearth.FrameMeans(given, how)
    excess = constraint.violation(fc)
    pair = fc.isel(lead=slice(2, 4))
    made = pair.mean("lead") if how == "mean" else pair.sum("lead", skipna=False)
    expected = abs(made - given.isel(block=1)).fillna(0)
    np.testing.assert_allclose(excess.isel(block=1).transpose(*expected.dims), expected, rtol=1e-12)
    condition = constraint.on(fc)
    total = values(excess).sum(1)
    np.testing.assert_allclose(condition.residual(tensor(fc)).abs().sum(1), total, rtol=1e-9)
    assert constraint.check(labeled(condition.project(tensor(fc)), fc)).all()
    with pytest.raises(LeadError, match="blocks"):
        constraint.check(fc.isel(lead=slice(0, 3)))
    with pytest.raises(xearth.errors.GridMismatchError):
        constraint.check(fc.isel({x: slice(0, 5)}))
    assert y in fc.dims


@pytest.mark.parametrize("kind", [xearth.AreaMean, xearth.AreaTotal])
def test_what_is_conserved_does_not_change(fc, kind):
    y = tensor(fc)
    within = Q(0.05, "mm/h") if kind is xearth.AreaMean else Q(1, "m3/s")
    for constraint in (xearth.Conserved(kind()), xearth.Conserved(kind(), within=within)):
        condition = constraint.on(fc)
        np.testing.assert_allclose(
            condition.residual(y).abs().numpy(),
            values(constraint.violation(fc)),
            rtol=1e-8,
            atol=1e-9,
        )
        assert not constraint.check(fc).any()
        assert constraint.check(labeled(condition.project(y), fc)).all()


@pytest.mark.parametrize("direction", ["rising", "falling"])
def test_monotone_cells_go_one_way(fc, direction):
    y = tensor(fc)
    constraint = xearth.Monotone(direction)
    condition = constraint.on(fc)
    worst = values(constraint.violation(fc)).max(1)
    np.testing.assert_allclose(condition.residual(y).abs().numpy()[:, 0], worst, rtol=1e-12)
    held = labeled(condition.project(y), fc)
    assert constraint.check(held).all()
    sign = 1 if direction == "rising" else -1
    assert float((sign * held.diff("lead")).min()) >= 0
    xr.testing.assert_equal(held.isnull(), fc.isnull())


def backwards(fc: xr.DataArray) -> xr.DataArray:
    return fc.isel(lead=slice(None, None, -1)).assign_coords(lead=fc["lead"])


def several(fc: xr.DataArray) -> xr.Dataset:
    return xr.Dataset({"low": fc, "other": 7 + 0 * fc, "high": backwards(fc)})


def channels(ds: xr.Dataset) -> torch.Tensor:
    return torch.cat([tensor(da) for da in ds.data_vars.values()], -1)


def test_ordered_variables_are_ordered_in_each_cell(fc):
    ds = several(fc)
    constraint = xearth.Ordered(("low", "high"))
    condition = constraint.on(ds)
    y = channels(ds)
    worst = values(constraint.violation(ds)).max(1)
    np.testing.assert_allclose(condition.residual(y).abs().numpy()[:, 0], worst, rtol=1e-12)
    held = condition.project(y)
    assert bool((held[..., 0] <= held[..., 2]).all() | held.isnan().any())
    torch.testing.assert_close(held[..., 1], y[..., 1], equal_nan=True)
    kept = ds.assign(low=labeled(held[..., :1], fc), high=labeled(held[..., 2:], fc))
    assert constraint.check(kept).all()
    kelvin = ds.assign(high=ds["high"].assign_attrs(units="K"))
    with pytest.raises(xearth.errors.ConstraintError, match="Cannot convert"):
        constraint.check(kelvin)
    shifted = (ds["high"] / 10).assign_attrs(ds["high"].attrs | {"units": "cm h-1"})
    xr.testing.assert_allclose(
        constraint.violation(ds.assign(high=shifted)), constraint.violation(ds)
    )


def water(fc: xr.DataArray) -> xr.Dataset:
    """Return storage in mm, rain in mm/h and evaporation in mm/s, hourly frames."""
    lead = fc["lead"].assign_attrs(units="hours")
    fc = fc.assign_coords(lead=lead)
    rain = fc.assign_attrs(units="mm h-1")
    gone = (fc.isel(lead=slice(None, None, -1)).assign_coords(lead=lead) / 7200).assign_attrs(
        units="mm s-1"
    )
    stored = 100 + (rain - 3600 * gone).cumsum("lead").where(fc.notnull())
    names = {"standard_name": ""}
    return xr.Dataset(
        {
            "stored": stored.assign_coords(lead=lead).assign_attrs(names, units="mm"),
            "rain": rain.assign_attrs(names),
            "gone": gone.assign_attrs(names),
        }
    )


def test_a_budget_closes_when_the_storage_is_the_sum_of_the_fluxes(fc):
    ds = water(fc)
    budget = xearth.BudgetClosed("stored", sources="rain", sinks="gone")
    assert budget.check(ds).all()
    open_ = ds.assign(rain=(ds["rain"] * 1.1).assign_attrs(ds["rain"].attrs))
    found = budget.violation(open_)
    expected = 0.1 * xearth.AreaMean(variable="rain").measure(ds).isel(lead=slice(1, None))
    np.testing.assert_allclose(found, expected.transpose(*found.dims), rtol=1e-8)
    assert found.attrs["units"] == "mm h-1"
    condition, y = budget.on(open_), channels(open_)
    np.testing.assert_allclose(condition.residual(y).abs().numpy(), values(found), rtol=1e-7)
    torch.testing.assert_close(
        condition.residual(condition.project(y)) + 1, torch.ones(3, 3).double()
    )
    with pytest.raises(xearth.errors.ConstraintError, match="per time"):
        budget.check(ds.assign(rain=ds["rain"].assign_attrs(units="K")))


def test_a_mask_persists_or_not(fc):
    ocean = xearth.Mask(fc.isel(init=0, lead=0, member=0, drop=True).notnull().drop_attrs(), "sea")
    constraint = xearth.PersistentMask(ocean)
    assert constraint.check(fc).all()
    full = fc.fillna(0.0)
    assert float(constraint.violation(full).max()) == 2 / 48
    condition = constraint.on(fc)
    assert float(condition.residual(tensor(full)).max()) == 8  # cells, in four frames
    assert constraint.check(labeled(condition.project(tensor(full)), fc)).all()


def test_a_conjunction_holds_where_each_holds(fc):
    both = (
        (xearth.AreaMean() == Q(2, "mm/h"))
        & (xearth.EachCell() <= Q(4, "mm/h"))
        & (xearth.NonNegative())
    )
    condition = both.on(fc)
    held = labeled(condition.project(tensor(fc)), fc)
    assert both.check(held).all()
    assert not both.check(fc).any()
    assert both.violation(fc).values.tolist() == [[2.0, 2.0, 2.0]]  # rain is not negative


def test_rain_rates_of_a_reflectivity():
    rain = forecast()
    dbz = xearth.reflectivity(rain, a=200, b=1.6).assign_attrs(no_echo=-32.0)
    y = tensor(dbz)
    for functional in (xearth.AreaMean(), xearth.AreaMean(per="horizon")):
        constraint = functional == Q(2, "mm/h")
        np.testing.assert_allclose(
            constraint.violation(dbz).values, constraint.violation(rain).values, rtol=1e-9
        )
        condition = constraint.on(dbz)
        np.testing.assert_allclose(
            condition.measure(y).numpy(), values(functional.measure(rain)), rtol=1e-9
        )
        held = labeled(condition.project(y), dbz)
        assert constraint.check(held).all()
        assert constraint.check(xearth.rain_rate(held)).all()
    for functional in (xearth.AreaMaximum(), xearth.AreaQuantile(level=0.7)):
        constraint = functional <= Q(3, "mm/h")
        xr.testing.assert_equal(
            constraint.check(dbz).drop_attrs(), constraint.check(rain).drop_attrs()
        )
        assert constraint.violation(dbz).attrs["units"] == "dBZ"
    heavy = xearth.AreaFraction(above=Q(3, "mm/h"))
    np.testing.assert_allclose(heavy.measure(dbz).values, heavy.measure(rain).values)


@pytest.mark.parametrize("season", ["NDJ", (12,)])
def test_a_season_is_found_by_valid_time(season):
    starts = np.array(["2000-10-01", "2000-09-01"], "M8[ns]")
    fc = xr.concat([forecast(), forecast() + 1], "init").assign_coords(init=("init", starts))
    fc["init"].attrs = {"standard_name": "forecast_reference_time"}
    fc.attrs = forecast().attrs
    index = xearth.Index(BOX, season=season)
    found = index.measure(fc)
    leads = ([1, 2, 3], [2, 3, 4]) if season == "NDJ" else ([2], [3])
    for i, at in enumerate(leads):
        expected = xearth.box_mean(fc.isel(init=i).sel(lead=at), BOX).mean("lead")
        np.testing.assert_allclose(found.isel(init=i), expected, rtol=1e-12)
    area = xearth.AreaMean(BOX, season=season, per="horizon")
    np.testing.assert_allclose(area.measure(fc).values, found.values, rtol=1e-12)
    with pytest.raises(LeadError, match="each start"):
        (index >= Q(1, "mm/h")).on(fc)
    with pytest.raises(LeadError, match="each start"):
        (xearth.AreaMean(season=season) >= Q(1, "mm/h")).violation(fc)
    with pytest.raises(LeadError, match="whole season"):
        xearth.Index(BOX, season="JJA").measure(fc)


def test_lazy_forecasts_stay_lazy(fc):
    lazy = fc.chunk({"member": 1})
    for constraint in (
        xearth.AreaMean() >= Q(1, "mm/h"),
        xearth.AreaQuantile(level=0.9) <= Q(4, "mm/h"),
        xearth.EachCell() <= Q(4, "mm/h"),
        xearth.BlockMeans(coarse_of(fc)),
        xearth.Monotone(),
    ):
        found = constraint.violation(lazy)
        assert found.chunks is not None
        xr.testing.assert_allclose(found.compute(), constraint.violation(fc))
