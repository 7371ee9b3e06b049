"""Intensity anomalies against numpy; the energy of bodies against the tensor formula."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr

import xearth
from xearth.constraints.kinds import decoded
from xearth.data.sources.nbody import LAWS, NBody
from xearth.errors import ConstraintError
from xearth.models.conditions.evaluated import mechanical_energy

from .conftest import forecast, labeled, tensor

Q = xearth.Q


def sequences(n: int = 200) -> xr.DataArray:
    rng = np.random.default_rng(5)
    strength = rng.lognormal(0.0, 0.7, (n, 1, 1, 1))
    time = np.datetime64("2000-01-01", "ns") + np.arange(4) * np.timedelta64(300, "s")
    y = ("y", np.arange(6.0), {"axis": "Y", "units": "km"})
    x = ("x", np.arange(8.0), {"axis": "X", "units": "km"})
    return xr.DataArray(
        strength * rng.gamma(2, 1, (n, 4, 6, 8)),
        {"time": ("time", time, {"standard_name": "time"}), "y": y, "x": x},
        ("sequence", "time", "y", "x"),
        name="rain",
        attrs={"units": "mm h-1", "standard_name": "rainfall_rate"},
    )


@pytest.mark.parametrize("per", ["frame", "horizon"])
@pytest.mark.parametrize("transform", ["dBR", "log", "none"])
def test_an_anomaly_is_n_standard_deviations_of_the_transformed_mean(transform, per):
    data = sequences()
    known = xearth.IntensityClimatology.of(data, transform=transform, per=per)
    mean = data.mean(("y", "x")).values
    mean = mean.mean(1, keepdims=True) if per == "horizon" else mean
    g, inverse = {
        "dBR": (lambda r: 10 * np.log10(r), lambda v: 10 ** (v / 10)),
        "log": (np.log, np.exp),
        "none": (lambda r: r, lambda v: v),
    }[transform]
    expected = inverse(g(mean).mean(0) + 2 * g(mean).std(0))
    amount = known.amount(2)
    np.testing.assert_allclose(amount.array, expected, rtol=1e-12)
    assert amount.unit == "mm h-1"
    assert known.anomaly(known.intensity(2)) == pytest.approx(2)
    z = ((g(mean) - g(mean).mean(0)) / g(mean).std(0)).mean(1)
    assert known.probability(1) == pytest.approx((z >= 1).mean())
    assert known.probability(-1) == pytest.approx((z <= -1).mean())
    assert xearth.Constraint.from_json(
        xearth.IntensityAnomaly(known, 2).to_json()
    ) == xearth.IntensityAnomaly(known, 2)


def test_the_anomaly_is_met_exactly_in_units_of_the_field():
    fc = forecast(projected=True)
    known = xearth.IntensityClimatology.of(sequences())
    for n in (-4, -2, 0, 2, 4):
        asked = xearth.IntensityAnomaly(known, n)
        wanted = float(known.intensity(n).to("mm/h").magnitude)
        held = labeled(asked.on(fc).project(tensor(fc)), fc)
        assert asked.check(held).all()
        reached = xearth.AreaMean(per="horizon").measure(held)
        np.testing.assert_allclose(reached, wanted, rtol=1e-5)
        with_rain = asked & xearth.NonNegative()
        both = labeled(with_rain.on(fc).project(tensor(fc)), fc)
        assert with_rain.check(both).all()
    assert known.gaussian_probability(2) == pytest.approx(0.02275, abs=1e-5)


def test_a_level_that_cannot_exist_is_refused():
    linear = xearth.IntensityClimatology.of(sequences(), transform="none")
    with pytest.raises(ConstraintError, match="cannot exist"):
        xearth.IntensityAnomaly(linear, -4).on(forecast())
    for transform, n in (("dBR", 1e6), ("log", 1e5), ("dBR", -1e6), ("none", 1e308)):
        known = xearth.IntensityClimatology.of(sequences(), transform=transform)
        extreme = xearth.IntensityAnomaly(known, n)
        with pytest.raises(ConstraintError, match="cannot exist"):
            extreme.on(forecast())
        assert "cannot exist" in str(extreme)
        assert xearth.Constraint.from_json(extreme.to_json()) == extreme
    known = xearth.IntensityClimatology.of(sequences())
    asked = [xearth.IntensityAnomaly(known, 4), xearth.EachCell() <= Q(5, "mm/h")]
    assert len(xearth.conflicts(asked, forecast())) == 2
    with pytest.raises(ConstraintError, match="sequences or more"):
        xearth.IntensityClimatology.of(sequences(3))


def test_a_long_series_is_cut_into_runs_and_reflectivity_is_read_as_rain():
    time = np.datetime64("2000-01-01", "ns") + np.arange(40) * np.timedelta64(300, "s")
    one = sequences(10)
    coords = {"time": ("time", time, {"standard_name": "time"}), "y": one["y"], "x": one["x"]}
    values = one.values.reshape(40, 6, 8)
    series = xr.DataArray(values, coords, ("time", "y", "x"), name="rain", attrs=one.attrs)
    known = xearth.IntensityClimatology.of(series, frames=12)
    assert len(known.sample) == 29
    runs = np.lib.stride_tricks.sliding_window_view(series.mean(("y", "x")).values, 12)
    assert known.mean[0] == pytest.approx((10 * np.log10(runs.mean(1))).mean())
    dbz = xearth.reflectivity(series, a=200, b=1.6)
    again = xearth.IntensityClimatology.of(dbz, frames=12)
    np.testing.assert_allclose(again.sample, known.sample, rtol=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_energy_is_that_of_the_formula_on_tensors(law):
    rng = np.random.default_rng(2)
    x, v = rng.uniform(0, 100, (2, 5, 8, 3, 2)), rng.normal(size=(2, 5, 8, 3, 2))
    dims = ("time", "sequence", "body", "axis")
    ds = xr.Dataset({"position": (dims, x[0]), "velocity": (dims, v[0])})
    energy = xearth.EnergyConserved(law=law, masses=(1.0, 2.0, 3.0)).measure(ds)
    power, gravity = LAWS[law]
    expected = mechanical_energy(
        torch.as_tensor(x[0]),
        torch.as_tensor(v[0]),
        masses=torch.tensor([1.0, 2.0, 3.0]).double(),
        gravity=gravity,
        power=power,
        softening=10.0,
    )
    np.testing.assert_allclose(energy.values, expected.numpy(), rtol=1e-12)


def test_energy_is_kept_by_the_simulated_motion_away_from_walls():
    world = NBody(masses=(1.0, 1.0), gravity=0.002)
    start = np.array([[44.0, 60.0], [74.0, 60.0]])
    path = world.move(start, np.array([[0, 0.15], [0, -0.15]]), np.full((2, 2), 8.0), steps=200)
    da = xr.DataArray(path[::5].astype(float), dims=("time", "body", "axis"), name="position")
    rule = xearth.EnergyConserved(masses=(1.0, 1.0), gravity=0.002, within=0.05)
    inner = da.to_dataset()
    energy = rule.measure(inner)
    drift = abs(energy[1:-1] / energy[1] - 1).max()
    assert float(drift) < 0.01
    assert bool(rule.check(inner.isel(time=slice(1, -1))))
    faster = inner.assign(position=inner["position"] * (1 + 0.02 * np.arange(40))[:, None, None])
    assert not bool(rule.check(faster))


def test_energy_may_be_that_of_a_frame_that_was_seen_before():
    t, apart = np.arange(6), np.array([[-10.0, 0.0], [10.0, 0.0]])
    still = xr.DataArray(apart + 0 * t[:, None, None], dims=("time", "body", "axis")).to_dataset(
        name="position"
    )
    rule = xearth.EnergyConserved(masses=(1.0, 1.0), every=1)
    energy = float(rule.measure(still)[0])
    seen = dataclasses.replace(rule, energy=energy)
    assert bool(seen.check(still))
    other = dataclasses.replace(rule, energy=energy + 1.0)
    np.testing.assert_allclose(other.violation(still), 1.0)
    assert not bool(other.check(still))
    assert "stays that of the first frame" in str(rule)
    assert f"stays {energy:.6g}, to 5 %" in str(seen)
    assert decoded(seen.to_json()) == seen


def test_frames_have_no_energy_by_a_formula():
    rule = xearth.EnergyConserved()
    with pytest.raises(ConstraintError, match="position"):
        rule.check(sequences())
    with pytest.raises(ConstraintError, match="network"):
        rule.on(sequences())
    condition = rule.evaluated(lambda y: y.mean((-3, -2, -1)), torch.tensor([[2.0]]))
    residual = condition.residual(torch.full((1, 3, 4, 4, 1), 3.0))
    torch.testing.assert_close(residual, torch.full((1, 3), 0.9).double())
