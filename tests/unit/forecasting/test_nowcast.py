"""Nowcasts by a network that follows the rain, on any radar grid."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from xearth.errors import (
    AxisError,
    CheckpointError,
    ConfigError,
    GridMismatchError,
    MissingDataError,
    TimeAxisError,
    UnitsError,
)
from xearth.forecasting.forecaster import forecast
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.io import load
from xearth.forecasting.nowcast import NowcastForecaster
from xearth.forecasting.nowcast_noise import Noise
from xearth.models.nowcast import NowcastConfig
from xearth.reference.protocol import Forecaster

SPEED = (0.8, -1.5)  # cells a step along y (from the north) and x


def rain(*, steps=7, minutes=5, width=2.0, units="mm h-1", factor=1.0, shape=(40, 56)):
    """Showers on a projected grid, y from the north, moving evenly."""
    rows, columns = np.mgrid[: float(shape[0]), : float(shape[1])]
    frames = []
    for t in range(steps):
        y, x = rows - SPEED[0] * t, columns - SPEED[1] * t
        frames.append(np.clip(4 * np.sin(0.23 * x) * np.sin(0.19 * y + 1) + np.sin(0.1 * x), 0, 9))
    time = pd.date_range("2020-06-01T12:00", periods=steps, freq=f"{minutes}min")
    return xr.DataArray(
        (factor * np.stack(frames)).astype(np.float32),
        dims=("time", "y", "x"),
        coords={
            "time": ("time", time, {"standard_name": "time"}),
            "y": ("y", -1000 * width * np.arange(shape[0]), {
                "standard_name": "projection_y_coordinate", "units": "m"}),
            "x": ("x", width * np.arange(shape[1]), {
                "standard_name": "projection_x_coordinate", "units": "km"}),
            "crs": ((), 0, {"grid_mapping_name": "polar_stereographic"}),
        },
        name="rain",
        attrs={"standard_name": "rainfall_rate", "long_name": "rain rate", "units": units,
               "grid_mapping": "crs"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    config = NowcastConfig(width=16, hidden=8)
    return NowcastForecaster(
        config=config, state=config.build().state_dict(), horizon=4, name="tiny",
        provenance={"trained_on": "nothing"},
    )  # fmt: skip


def same(a, b, **tolerance):
    np.testing.assert_allclose(a.values, b.values, **{"rtol": 1e-5, "atol": 1e-6, **tolerance})


def test_it_is_a_forecaster_with_labels_of_the_history(model):
    da = rain()
    assert isinstance(model, Forecaster)
    assert (model.history, model.horizon) == (6, 4)
    fc = model.forecast(da, init=da.time.values[[4, 6]], members=3)
    assert fc.dims == ("init", "lead", "member", "y", "x")
    assert fc.dtype == np.float32
    assert fc.lead.values.tolist() == [5, 10, 15, 20]
    assert fc.valid_time.values[1, 0] == np.datetime64("2020-06-01T12:35")
    assert (fc.attrs["units"], fc.attrs["forecaster"], fc.attrs["grid_mapping"]) == (
        "mm h-1", "tiny", "crs")  # fmt: skip
    assert float(fc.min()) >= 0
    for name in ("y", "x"):
        xr.testing.assert_equal(fc[name], da[name])
    single = model.forecast(da)
    assert single.dims == ("init", "lead", "y", "x")
    assert single.init.values[0] == da.time.values[-1]


def test_members_do_not_depend_on_how_many_or_which_other_starts(model):
    da = rain()
    many = model.forecast(da, members=5, seed=2)
    same(model.forecast(da, members=2, seed=2), many[:, :, :2], rtol=0)
    both = model.forecast(da, init=da.time.values[[5, 6]], members=2, seed=2)
    same(both[1:], many[:, :, :2], rtol=0)
    assert not np.allclose(model.forecast(da, members=2, seed=3), many[:, :, :2])
    assert not np.allclose(many[:, :, 0], many[:, :, 2])


def test_members_are_drawn_from_the_distributions(model):
    """Mean and probabilities of many members are those that the distributions have."""
    da = rain(shape=(24, 32))
    members = model.forecast(da, members=400)
    mean = model.forecast(da)
    assert float(members.mean()) == pytest.approx(float(mean.mean()), rel=0.03)
    share = (members >= 1.0).mean("member")
    told = model.probability(da, [1.0])
    assert float(abs(share - told[:, :, 0]).mean()) < 0.03
    assert told.dims == ("init", "lead", "threshold", "y", "x")
    assert told.units == "1"


def test_the_way_it_is_stored_does_not_matter(model):
    da = rain()
    fc = model.forecast(da, members=2)
    turned = da.isel(y=slice(None, None, -1)).transpose("x", "time", "y")
    same(model.forecast(turned, members=2).transpose(*fc.dims).sel(y=da.y), fc, rtol=0)
    packed = (da * 100).round().astype(np.int16).assign_attrs(da.attrs)
    packed.attrs |= {"scale_factor": 0.01, "_FillValue": np.int16(-1)}
    same(model.forecast(packed), model.forecast(da), atol=0.05)
    same(model.forecast(da.chunk(time=1)), model.forecast(da), rtol=0)


def test_units_are_those_of_the_history(model):
    one = model.forecast(rain(), members=2)
    other = model.forecast(rain(units="m s-1", factor=1 / 3.6e6), members=2)
    assert other.attrs["units"] == "m s-1"
    same(other * 3.6e6, one, rtol=1e-3, atol=1e-3)


def test_amounts_of_each_frame_are_forecast_as_rates(model):
    one = model.forecast(rain(), members=2)
    amounts = rain(units="mm", factor=5 / 60)
    amounts.attrs |= {"standard_name": "thickness_of_rainfall_amount", "long_name": "rain"}
    other = model.forecast(amounts, members=2)
    assert other.attrs["units"] == "mm h-1"
    same(other, one, rtol=1e-3, atol=1e-3)
    start = amounts.time.values[4]  # a single frame has no step
    same(model.forecast(amounts, init=start), model.forecast(rain(), init=start), atol=1e-3)


def test_reflectivity_comes_back_as_reflectivity(model):
    marshall = {"units": "dBZ", "standard_name": "equivalent_reflectivity_factor",
                "zr_a": 200.0, "zr_b": 1.6, "no_echo": -32.0}  # fmt: skip
    da = rain()
    dbz = (10 * np.log10(200 * np.maximum(da, 1e-5) ** 1.6)).clip(-32).assign_attrs(marshall)
    fc, rate = model.forecast(dbz, members=2), model.forecast(da, members=2)
    assert (fc.attrs["units"], fc.attrs["zr_a"], fc.attrs["no_echo"]) == ("dBZ", 200, -32)
    assert float(fc.min()) >= -32
    wet = rate.values > 0.05
    back = (10 ** (fc.values / 10) / 200) ** (1 / 1.6)
    np.testing.assert_allclose(back[wet], rate.values[wet], rtol=0.02, atol=0.02)
    with pytest.raises(UnitsError, match="zr_a"):
        model.forecast(dbz.drop_attrs(deep=False).assign_attrs(units="dBZ"))


@pytest.mark.parametrize(
    ("minutes", "width", "shape"),
    [(10, 2.0, (33, 47)), (6, 4.0, (16, 16)), (5, 1.0, (41, 60)), (15, 0.5, (64, 50))],
)
def test_any_step_spacing_and_size(model, minutes, width, shape):
    da = rain(minutes=minutes, width=width, shape=shape)
    fc = model.forecast(da, members=1)
    assert fc.shape == (1, 4, 1, *shape)
    assert fc.lead.values.tolist() == [minutes * n for n in range(1, 5)]
    assert bool(np.isfinite(fc).all())


def test_latitude_and_longitude_do(model):
    da = rain()
    plain = xr.DataArray(
        da.values[:, ::-1], dims=("time", "lat", "lon"),
        coords={"time": da.time,
                "lat": ("lat", 50 + 0.02 * np.arange(40), {"units": "degrees_north"}),
                "lon": ("lon", 5 + 0.03 * np.arange(56), {"units": "degrees_east"})},
        attrs={"units": "mm h-1", "standard_name": "rainfall_rate"}, name="rain",
    )  # fmt: skip
    assert model.forecast(plain).shape == (1, 4, 40, 56)


def test_what_radars_do_not_see_stays_missing(model):
    da = rain()
    da[:, :, 20:25] = np.nan
    da[-1, 5:9, 5:9] = np.nan
    for fc in (model.forecast(da, members=2), model.forecast(da)):
        missing = np.isnan(fc.values).any(axis=tuple(range(fc.ndim - 2)))
        np.testing.assert_array_equal(missing, np.isnan(da.values[-1]))


def test_it_looks_back_on_no_more_than_it_needs(model):
    da = rain(steps=9)
    same(model.forecast(da), model.forecast(da[-6:]), rtol=0)
    # a record that has just begun
    fc = model.forecast(da, init=da.time.values[2])
    same(model.forecast(da[:3]), fc, rtol=0)
    with pytest.raises(TimeAxisError, match="fewer than 3 frames"):
        model.forecast(da, init=da.time.values[1])


def test_a_hindcast_of_it_is_lazy_and_the_same(model):
    da = rain(steps=9)
    hc = hindcast(da, model, members=2, starts_per_block=2)
    assert hc.chunks is not None
    assert hc.sizes["init"] == 4
    same(hc[1].compute(), model.forecast(da, init=hc.init.values[1], members=2)[0], rtol=0)


def test_it_comes_back_from_its_file(model, tmp_path):
    path = model.save(tmp_path / "tiny.safetensors")
    again = load(path)
    assert isinstance(again, NowcastForecaster)
    assert (again.name, again.provenance, again.noise) == ("tiny", model.provenance, model.noise)
    same(
        forecast(rain(), path, members=2, leads=2), model.forecast(rain(), members=2)[:, :2], rtol=0
    )
    broken = NowcastForecaster(
        config=NowcastConfig(width=20, hidden=8), state=model.state, name="broken"
    ).save(tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        load(broken)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda da: da.isel(time=[0, 1, 2, 4, 5, 6]), TimeAxisError, "12:15 is missing.*fill_gaps"),
        (lambda da: da.expand_dims(level=2), AxisError, "level"),
        (lambda da: da.isel(x=slice(0, 15)), GridMismatchError, "16 rows and columns"),
        (lambda da: da.where(da.time != da.time[-2]), MissingDataError, "12:25 .* no value.*gaps"),
        (lambda da: da.where(da < 3, np.inf), MissingDataError, "infinite"),
        (lambda da: da.assign_attrs(units="K"), UnitsError, "dBZ"),
        (lambda da: da.drop_attrs(deep=False), UnitsError, "units"),
        (lambda da: da.assign_coords(x=da.x**2), GridMismatchError, "even steps"),
        (lambda da: da.assign_coords(y=10 * da.y, x=10 * da.x), GridMismatchError, "up to 10 km"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(model, change, error, said):
    with pytest.raises(error, match=said):
        model.forecast(change(rain()))


def test_other_steps_are_refused(model):
    with pytest.raises(TimeAxisError, match="2 to 20 minutes"):
        model.forecast(rain(minutes=30))
    with pytest.raises(ConfigError, match="members=0"):
        model.forecast(rain(), members=0)
    with pytest.raises(ConfigError, match="above 0"):
        model.probability(rain(), [0.0])


# --- noise --------------------------------------------------------------------------------------


def test_noise_is_standard_normal_and_remembers():
    """Variance 1; large structures live longer than small ones, and as long as they should."""
    noise = Noise(length=40.0, slope=2.6, minutes=60.0, decay=0.8)
    fields = np.stack(
        [noise.fields((48, 64), (2.0, 5.0), 5, np.random.default_rng(k)) for k in range(60)]
    )
    assert fields.mean() == pytest.approx(0, abs=0.05)
    assert fields.std() == pytest.approx(1, abs=0.03)
    whole = [float((fields[:, 0] * fields[:, n]).mean()) for n in range(5)]
    assert whole == sorted(whole, reverse=True)
    fine = fields - np.roll(fields, 1, axis=-1)
    small = float((fine[:, 0] * fine[:, 4]).mean() / (fine[:, 0] ** 2).mean())
    assert small < whole[4] / whole[0]
    assert whole[4] / whole[0] == pytest.approx(np.exp(-20 / 60), abs=0.25)


def test_noise_is_of_kilometers_not_of_cells():
    """On cells twice as wide the field is that smooth at half as many cells."""
    noise = Noise(length=40.0)

    def at_8_km(width):
        drawn = [
            noise.fields((64, 64), (width, 5.0), 1, np.random.default_rng(k))[0] for k in range(60)
        ]
        shift = round(8 / width)
        return np.mean([(f[:, shift:] * f[:, :-shift]).mean() for f in drawn])

    assert at_8_km(2.0) == pytest.approx(at_8_km(4.0), abs=0.08)


def test_noise_that_is_given_values_is_the_conditional_mean_plus_what_is_open():
    """Against the dense formula, in the mean of many; near the values close, far off free."""
    noise, shape, facts = Noise(length=20.0), (12, 14), (2.0, 5.0)
    where = np.zeros((1, *shape), dtype=bool)
    where[0, 4:7, 5:9] = True
    y = np.where(where, 1.5, 0.0).astype(np.float32)
    drawn = np.stack(
        [noise.given(y, where, facts, np.random.default_rng(k))[0] for k in range(400)]
    )
    many = np.stack([noise.fields(shape, facts, 1, np.random.default_rng(k)) for k in range(4000)])
    flat = many.reshape(4000, -1)
    covariance, known = flat.T @ flat / 4000, where.ravel()
    inner = covariance[np.ix_(known, known)] + 0.05 * np.eye(known.sum())
    expected = covariance[:, known] @ np.linalg.solve(inner, y.ravel()[known])
    assert np.abs(drawn.mean(0).ravel() - expected).max() < 0.25
    assert np.abs(drawn[:, where[0]] - 1.5).mean() < 0.25
    assert drawn[:, 0, 13].std() > 0.6
