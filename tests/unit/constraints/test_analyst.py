"""What an analyst writes that is easily answered wrongly: units, errors, observed fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import xearth
from xearth.errors import ConstraintError, LeadError
from xearth.models.conditions.protocol import relative

from .conftest import forecast, labeled, tensor

Q = xearth.Q
BOX = xearth.Box(46, 61, 17, 38, "box")


def radar() -> xr.DataArray:
    """Return a forecast of reflectivity with the rain of the others."""
    rain = forecast(missing=False).assign_attrs(zr_a=200.0, zr_b=1.6)
    return xearth.reflectivity(rain)


def anomalies() -> xr.DataArray:
    fc = forecast(units="K", missing=False)
    return fc.rename("ssta").assign_attrs(
        standard_name="sea_surface_temperature", units_metadata="temperature: difference"
    )


@pytest.mark.parametrize(
    ("functional", "mean", "sd"),
    [
        (xearth.EachCell(), Q(3, "mm/h"), Q(0.5, "mm/h")),
        (xearth.AreaMaximum(), Q(9, "mm/h"), Q(0.5, "mm/h")),
        (xearth.AreaQuantile(level=0.7), Q(3, "mm/h"), Q(0.5, "mm/h")),
        (xearth.AreaFraction(above=Q(3, "mm/h")), Q(10, "%"), Q(2, "%")),
        (xearth.TransformedMean(least=Q(1, "mm/h")), Q(4, "1"), Q(0.5, "1")),
        (xearth.SpectrumSlope((1, 3)), Q(-1, "1"), Q(0.5, "1")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_known_with_an_error_is_guidance_for_every_kind(functional, mean, sd):
    fc = forecast(missing=False)
    y = tensor(fc)
    constraint, exact = functional.near(mean, sd), functional == mean
    condition = constraint.on(fc)
    assert not condition.exact
    with pytest.raises(ConstraintError, match="error"):
        condition.project(y)
    torch.testing.assert_close(condition.residual(y), exact.on(fc).residual(y))
    other = functional.near(mean, 2 * sd).on(fc).energy(y)
    if isinstance(functional, xearth.AreaFraction):  # whose scale is that of its threshold
        torch.testing.assert_close(other, condition.energy(y))
    else:
        torch.testing.assert_close(4 * other, condition.energy(y))


def test_a_mean_rain_rate_of_a_reflectivity_is_known_with_an_error():
    fc = radar()
    condition = xearth.AreaMean().near(Q(3, "mm/h"), sd=Q(0.5, "mm/h")).on(fc)
    expected = 0.5 * (((xearth.AreaMean().measure(forecast(missing=False)) - 3) / 0.5) ** 2)
    np.testing.assert_allclose(
        condition.energy(tensor(fc)).numpy(), expected.sum("lead").values[0], rtol=1e-6
    )
    assert not condition.exact


@pytest.mark.parametrize(
    ("constraint", "match"),
    [
        (xearth.NonNegative(), "weak rain"),
        (xearth.AreaTotal() <= Q(1e4, "m3/s"), "does not add up"),
        (xearth.TransformedMean(least=Q(0.1, "mm/h")) >= Q(1, "1"), "logarithm already"),
        (xearth.Conserved(xearth.AreaTotal()), "does not add up"),
    ],
    ids=str,
)
def test_what_has_no_meaning_for_decibels_is_refused(constraint, match):
    for ask in (constraint.violation, constraint.check, constraint.on):
        with pytest.raises(ConstraintError, match=match):
            ask(radar())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: xearth.AreaFraction(above=Q(1, "mm/h")) >= Q(120, "%"), "0 to 100 %"),
        (lambda: xearth.AreaFraction(above=Q(1, "mm/h")) >= Q(-0.1, "1"), "0 to 100 %"),
        (lambda: xearth.AreaFraction(above=Q(1, "mm/h")) >= Q(1, "mm/h"), "dimensionless"),
        (lambda: xearth.AreaQuantile(level=99), r"0\.99 for 99 %"),
        (lambda: xearth.AreaQuantile(level=Q(99, "%")), r"0\.99 for 99 %"),
        (lambda: xearth.AreaMean().near(Q(1, "mm/h"), sd=Q(10, "%")), r"units of it, found 10 %"),
        (lambda: xearth.AreaMean() != Q(1, "mm/h"), ">=, <= or =="),
        (lambda: Q(8, "mm/h") <= xearth.AreaMean(), "functional >= xearth"),
        (lambda: xearth.audit(forecast(), []), "found none"),
        (lambda: xearth.audit(forecast(), [xearth.AreaMean() == "8 mm/h"]), "found False"),
        (
            lambda: xearth.Constraint.from_json(
                '{"kind": "Bound", "of": {"kind": "AreaMean"}, "lower": 8}'
            ),
            "amounts with a unit",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_written(make, match):
    with pytest.raises(ConstraintError, match=match):
        make()


def test_an_index_of_observed_anomalies_is_that_of_its_season():
    winter = xearth.Index(BOX, season="DJF") >= Q(4, "K")
    fc = anomalies().isel(member=0)
    months = np.array(["2000-11", "2000-12", "2001-01", "2001-02"], "M8[ns]")
    seen = fc.isel(init=0, drop=True).rename(lead="time")
    time = ("time", months, {"standard_name": "time"})
    seen = seen.assign_coords(time=time).drop_vars("valid_time", errors="ignore")
    expected = winter.measure(fc).item()
    np.testing.assert_allclose(winter.measure(seen).item(), expected, rtol=1e-12)
    np.testing.assert_allclose(
        winter.on(seen).measure(tensor(anomalies().isel(member=[0]))).item(), expected, rtol=1e-12
    )
    with pytest.raises(LeadError, match="season='DJF'"):
        (xearth.Index(BOX, lead=3) >= Q(4, "K")).check(seen)


def test_an_index_names_its_variable():
    fc = anomalies()
    both = xr.Dataset({"a": fc, "b": fc + 1})
    named = xearth.Index(BOX, lead=3, variable="b") >= Q(4, "K")
    assert str(named) == "box of b at lead 3 is at least 4 K"
    assert xearth.Constraint.from_json(named.to_json()) == named
    expected = xearth.Index(BOX, lead=3).measure(fc) + 1
    np.testing.assert_allclose(named.measure(both), expected, rtol=1e-12)
    two = torch.cat([tensor(fc), tensor(fc) + 1], -1)
    np.testing.assert_allclose(
        named.on(both).measure(two)[:, 0].numpy(), expected.values[0], rtol=1e-12
    )


def test_a_bound_of_nino_asks_for_anomalies_in_every_way():
    lat, lon = np.arange(-7.5, 8, 5), np.arange(182.5, 250, 5)
    sst = xr.DataArray(
        np.full((1, 2, 4, 14), 300.0),
        dims=("init", "lead", "lat", "lon"),
        coords={
            "init": ("init", np.array(["2000-11"], "M8[ns]")),
            "lead": ("lead", [1, 2], {"units": "months", "standard_name": "forecast_period"}),
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
        name="sst",
        attrs={"units": "K", "standard_name": "sea_surface_temperature"},
    )
    warm = xearth.Nino34(lead=1) >= Q(1.5, "K")
    for ask in (warm.check, warm.violation, warm.on):
        with pytest.raises(ConstraintError, match="expected anomalies"):
            ask(sst)
    assert warm.check(sst.assign_attrs(units_metadata="temperature: difference")).all()


def test_by_a_factor_dry_cells_stay_dry_and_the_audit_is_that_of_the_bound(fc):
    rain = fc.where(fc > 2, 0.0).where(fc.notnull())
    bound = xearth.AreaMean() == Q(3, "mm/h")
    constraint = xearth.ByFactor(bound)
    xr.testing.assert_equal(
        constraint.violation(rain).drop_attrs(), bound.violation(rain).drop_attrs()
    )
    assert xearth.Constraint.from_json(constraint.to_json()) == constraint
    y = tensor(rain).float()
    held = constraint.on(rain).project(y)
    assert float(relative(constraint.on(rain), held).max()) <= 1e-6
    assert ((held == 0) == (y == 0)).all()
    assert (bound.on(rain).project(y)[y == 0] > 0).any()  # what the nearest field would do
    assert constraint.check(labeled(held.double(), rain)).all()
    assert "measured" in xearth.audit_attrs(rain, constraint)["xearth_constraints"]


def test_a_factor_contradicts_as_its_bound_does_and_no_rain_has_none():
    fc = forecast()
    constraint = xearth.ByFactor(xearth.AreaMean() == Q(3, "mm/h"))
    other = xearth.AreaMean() == Q(2, "mm/h")
    assert xearth.conflicts([constraint, other], fc) == (constraint, other)
    with pytest.raises(ConstraintError) as error:
        constraint.on(fc).project(tensor(fc.where(fc.isnull(), 0.0)))
    said = str(error.value)
    assert said.startswith(str(constraint))
    assert "no factor makes 3 mm h-1 of 0 mm h-1" in said
    assert "xearth.NonNegative()" in said
    assert "Linear" not in said
    with pytest.raises(ConstraintError, match="leave ByFactor out"):
        constraint.on(radar())
    for wrong in (xearth.NonNegative(), xearth.AreaMean().near(Q(1, "mm/h"), sd=Q(1, "mm/h"))):
        with pytest.raises(ConstraintError, match="by a factor"):
            xearth.ByFactor(wrong)
