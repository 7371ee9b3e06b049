"""Advection as a labeled forecaster."""

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
    MissingDataError,
    TimeAxisError,
    UnitsError,
)
from xearth.forecasting.hindcast import hindcast
from xearth.reference.advection import Advection
from xearth.reference.protocol import Forecaster

SPEED = (0.8, -1.5)  # cells a step along y (from the north) and x


def rain(*, steps=6, units="mm h-1", factor=1.0):
    """Showers on a projected grid, y from the north, moving evenly."""
    rows, columns = np.mgrid[:48.0, :64.0]
    frames = []
    for t in range(steps):
        y, x = rows - SPEED[0] * t, columns - SPEED[1] * t
        frames.append(np.clip(4 * np.sin(0.23 * x) * np.sin(0.19 * y + 1) + np.sin(0.1 * x), 0, 9))
    time = pd.date_range("2020-06-01T12:00", periods=steps, freq="5min")
    return xr.DataArray(
        (factor * np.stack(frames)).astype(np.float32),
        dims=("time", "y", "x"),
        coords={
            "time": ("time", time, {"standard_name": "time"}),
            "y": ("y", -2000.0 * np.arange(48), {
                "standard_name": "projection_y_coordinate", "units": "m"}),
            "x": ("x", 2.0 * np.arange(64), {
                "standard_name": "projection_x_coordinate", "units": "km"}),
            "lat": (("y", "x"), np.linspace(52, 50, 48)[:, None] + np.zeros(64), {
                "standard_name": "latitude", "units": "degrees_north"}),
            "lon": (("y", "x"), np.linspace(4, 6, 64) + np.zeros((48, 1)), {
                "standard_name": "longitude", "units": "degrees_east"}),
            "crs": ((), 0, {"grid_mapping_name": "polar_stereographic"}),
        },
        name="rain",
        attrs={"standard_name": "rainfall_rate", "long_name": "rain rate", "units": units,
               "grid_mapping": "crs"},
    )  # fmt: skip


def test_it_is_a_forecaster_with_labels_of_the_history():
    da, model = rain(), Advection(horizon=3)
    assert isinstance(model, Forecaster)
    assert (model.name, model.history, model.horizon) == ("advection", 3, 3)
    fc = model.forecast(da, init=da.time.values[[2, 4]])
    assert fc.dims == ("init", "lead", "y", "x")
    assert fc.dtype == np.float32
    assert fc.lead.values.tolist() == [5, 10, 15]
    assert fc.lead.units == "minutes"
    assert fc.valid_time.values[1, 0] == da.time.values[5]
    assert fc.attrs["units"] == "mm h-1"
    assert fc.attrs["forecaster"] == "advection"
    assert fc.attrs["grid_mapping"] == "crs"
    assert "climatology_base" not in fc.attrs
    assert "training_period" not in fc.attrs
    for name in ("y", "x", "lat", "lon", "crs"):
        xr.testing.assert_identical(
            fc[name].drop_vars(fc[name].coords), da[name].drop_vars(da[name].coords)
        )


def test_moving_showers_are_forecast_better_than_by_persistence():
    da = rain()
    fc = Advection(horizon=3).forecast(da, init=da.time.values[2]).squeeze("init")
    for n in range(3):
        error = fc.values[n] - da.values[3 + n]
        known = np.isfinite(error)
        assert 0.7 < known.mean() < 1
        stays = da.values[2] - da.values[3 + n]
        assert np.sqrt(np.mean(error[known] ** 2)) < 0.25 * np.sqrt(np.mean(stays[known] ** 2))


def test_the_motion_has_units_and_a_sense():
    v = Advection(horizon=1).motion(rain())
    assert v.y_motion.dims == ("init", "y", "x")
    assert v.x_motion.attrs["units"] == v.y_motion.attrs["units"] == "m s-1"
    # y falls with the row: motion down the rows is southward
    np.testing.assert_allclose(v.y_motion.mean(), -SPEED[0] * 2000 / 300, rtol=0.05)
    np.testing.assert_allclose(v.x_motion.mean(), SPEED[1] * 2000 / 300, rtol=0.05)


def test_units_do_not_matter():
    """The threshold follows the units: the same rain, the same forecast."""
    one = Advection(horizon=2).forecast(rain())
    other = Advection(horizon=2).forecast(rain(units="m s-1", factor=1 / 3.6e6))
    np.testing.assert_allclose(other * 3.6e6, one, rtol=1e-4, atol=1e-5)
    flux = Advection(horizon=2).forecast(rain(units="kg m-2 s-1", factor=1 / 3600))
    np.testing.assert_allclose(flux * 3600, one, rtol=1e-4, atol=1e-5)


def test_reflectivity_moves_like_its_rain():
    da = rain()
    marshall = {"units": "dBZ", "zr_a": 200.0, "zr_b": 1.6, "no_echo": -32.0}
    dbz = (10 * np.log10(200 * np.maximum(da, 1e-4) ** 1.6)).clip(-32).assign_attrs(marshall)
    fc = Advection(horizon=2).forecast(dbz)
    assert fc.attrs["units"] == "dBZ"
    assert (fc.attrs["zr_a"], fc.attrs["zr_b"], fc.attrs["no_echo"]) == (200, 1.6, -32)
    one, other = (Advection(horizon=1).motion(field).x_motion for field in (da, dbz))
    np.testing.assert_allclose(other.mean(), one.mean(), rtol=0.02)


def test_any_positive_field_moves_if_the_threshold_is_said():
    vil = rain(units="kg m-2").assign_attrs(standard_name="vil")
    with pytest.raises(UnitsError, match=r"threshold='0\.5 kg m-2'"):
        Advection(horizon=1).forecast(vil)
    fc = Advection(horizon=1, threshold="100 g m-2").forecast(vil)
    np.testing.assert_allclose(fc, Advection(horizon=1).forecast(rain()), atol=1e-5)


def test_what_radars_do_not_see_stays_missing():
    da = rain()
    da[:, :, 20:25] = np.nan  # never seen
    da[-1, 5:9, 5:9] = np.nan  # not seen in the last frame
    fc = Advection(horizon=1).forecast(da).squeeze(drop=True)
    assert np.isnan(fc.values[:, 20:25]).all()
    # what comes out of the hole in the last frame is not known either
    assert np.isnan(fc.values[6:9, 4:7]).all()
    assert np.isfinite(fc.values[12:, 30:-4]).all()


def test_packed_data_are_read():
    da = rain()
    packed = (da * 100).round().astype(np.int16).assign_attrs(da.attrs)
    packed.attrs |= {"scale_factor": 0.01, "_FillValue": np.int16(-1)}
    fc = Advection(horizon=2).forecast(packed)
    np.testing.assert_allclose(fc, Advection(horizon=2).forecast(da), atol=0.03)


def test_a_hindcast_of_it_is_lazy_and_the_same():
    da, model = rain(), Advection(horizon=2)
    hc = hindcast(da, model, starts_per_block=2)
    assert hc.chunks is not None
    assert hc.sizes["init"] == 4  # the first complete history ends at the third frame
    xr.testing.assert_equal(hc[1].compute(), model.forecast(da, init=da.time.values[3])[0])


def test_the_dutch_event_is_forecast_as_well_as_by_others():
    """Marks of a published extrapolation on the same starts: CSI 0.505 and 0.706, MSE 0.337.

    Threat scores at 1 and 0.1 mm/h of pooled counts, mean over leads of 5 to 60 minutes, in cells
    always seen; what is not known counts as dry.
    """
    da = samples.open("knmi_radar").load()
    starts = [np.datetime64(f"2010-08-26T{t}", "ns") for t in ("00:15", "02:20", "04:30", "06:35")]
    first = [int(np.flatnonzero(da.time.values == t)[0]) + 1 for t in starts]
    seen = np.isfinite(da.values).all(axis=0)
    truth = np.stack([da.values[k : k + 12] for k in first])[..., seen]
    made = Advection(horizon=12).forecast(da, init=starts).values
    moved = np.nan_to_num(made)[..., seen]
    stayed = np.stack([da.values[k - 1 : k] for k in first])[..., seen]

    def threat(f, limit):
        both = ((f >= limit) & (truth >= limit)).sum((0, 2))
        either = ((f >= limit) | (truth >= limit)).sum((0, 2))
        return (both / either).mean()

    # these two are of the protocol itself: persistence has nothing to be tuned
    assert threat(stayed, 1.0) == pytest.approx(0.256, abs=0.001)
    assert np.mean((stayed - truth) ** 2) == pytest.approx(0.707, abs=0.001)
    assert threat(moved, 1.0) > 0.505
    assert threat(moved, 0.1) > 0.706
    assert np.mean((moved - truth) ** 2) < 0.337


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda da: da.isel(time=slice(0, 2)), TimeAxisError, "fewer than 3 steps"),
        (lambda da: da.isel(time=[0, 1, 2, 4, 5]), TimeAxisError, "without a gap"),
        (lambda da: da.expand_dims(level=2), AxisError, "level"),
        (lambda da: da.isel(x=slice(0, 7)), GridMismatchError, "8 rows and columns"),
        (lambda da: da.where(da.time != da.time[-2]), MissingDataError, "without any value"),
        (lambda da: da.assign_attrs(units="K"), UnitsError, "neither a rain rate"),
    ],
)
def test_what_cannot_be_followed_is_refused(change, error, said):
    with pytest.raises(error, match=said):
        Advection(horizon=1).forecast(change(rain()))


def test_impossible_settings_are_refused():
    for wrong in ({"horizon": 0}, {"history": 1}, {"window": 0.0}, {"stiffness": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Advection(**{"horizon": 1, **wrong})
    with pytest.raises(ConfigError, match="members=5"):
        Advection(horizon=1).forecast(rain(), members=5)
    with pytest.raises(ConfigError, match="positive"):
        Advection(horizon=1, threshold="0 mm/h").forecast(rain())
    with pytest.raises(UnitsError):
        Advection(horizon=1, threshold="8 dBZ").forecast(rain())
