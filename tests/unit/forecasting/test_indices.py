"""Index series beside fields: read, masked, checked, kept, never forecast."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

import xearth
from xearth import Split, as_history, forecast, hindcast
from xearth.constraints.functional import Index
from xearth.data.normalize import Normalizer
from xearth.data.windows import Window
from xearth.errors import (
    AxisError,
    ConfigError,
    MissingDataError,
    MissingDataWarning,
    TimeAxisError,
    UnitsError,
)
from xearth.forecasting.fingerprint import fingerprint
from xearth.forecasting.fit import fit
from xearth.forecasting.indices import Indices, fields_of, series_in, with_indices
from xearth.forecasting.io import load
from xearth.forecasting.recipe import Recipe
from xearth.models.baselines.unet import UNetConfig
from xearth.models.config import EarthformerConfig
from xearth.models.heads import LowRankGaussian
from xearth.training.optim import Schedule
from xearth.training.options import TrainOptions

WINDOW = Window(3, 2)
QUICK = TrainOptions(epochs=1, batch_size=16, progress=False, accelerator="cpu")


def series(field, first="2001-07", seed=5):
    """A series that begins late, with a hole, stamped in the middle of the month."""
    time = field.time.sel(time=slice(first, None))
    values = 10 + 3 * np.random.default_rng(seed).standard_normal(time.size)
    values[2] = np.nan
    return xr.DataArray(
        values.astype("float32"),
        dims="time",
        coords={"time": ("time", time.values + np.timedelta64(14, "D"), {"axis": "T"})},
        name="volume",
        attrs={"units": "m", "long_name": "warm water", "base_period": "2001/2003"},
    )


def quick(data, recipe=None, **how):
    recipe = Recipe(season=True, head=LowRankGaussian(2), name="fed", options=QUICK)
    config = EarthformerConfig.for_data(fields_of(data), WINDOW, base_units=16)
    return fit(config, data, window=WINDOW, recipe=recipe, **how)


@pytest.fixture(scope="module")
def pair(field):
    return with_indices(field, series(field))


@pytest.fixture(scope="module")
def fed(pair):
    return quick(pair)


def test_joined_by_calendar_month(field, pair):
    assert list(pair.data_vars) == ["ssta", "volume"]
    xr.testing.assert_identical(pair.ssta, field)
    own = series(field)
    assert pair.volume.attrs == own.attrs
    assert pair.volume.isel(time=slice(18)).isnull().all()
    np.testing.assert_array_equal(pair.volume.values[18:], own.values)
    longer = with_indices(field.isel(time=slice(20, 30)), own)
    np.testing.assert_array_equal(longer.volume.values, own.values[2:12])
    shuffled = with_indices(field, own.isel(time=slice(None, None, -1)))
    np.testing.assert_array_equal(shuffled.volume.values, pair.volume.values)


def test_joined_lazily_and_unpacked(field):
    own = series(field)
    lazy = with_indices(field.chunk(time=12), own.chunk(time=7))
    assert lazy.volume.chunks is not None
    np.testing.assert_array_equal(lazy.volume.values, with_indices(field, own).volume.values)
    packed = xr.DataArray(
        np.arange(30, dtype="int16"),
        dims="time",
        coords={"time": own.time},
        name="n",
        attrs={"scale_factor": 0.5, "_FillValue": np.int16(3)},
    )
    found = with_indices(field, packed).n.values[18:]
    expected = 0.5 * np.arange(30)
    expected[3] = np.nan
    np.testing.assert_array_equal(found, expected)
    whole = with_indices(field, packed.drop_attrs()).n
    assert whole.dtype == np.float64
    assert whole.values[20] == 2


def test_what_cannot_be_joined(field):
    own = series(field)
    with pytest.raises(AxisError, match="Give it one"):
        with_indices(field, own.rename(None))
    with pytest.raises(TimeAxisError, match="no step in common"):
        with_indices(field, own.assign_coords(time=own.time + np.timedelta64(36525, "D")))
    days = xr.date_range("2000-01-01", periods=own.size, use_cftime=False)
    with pytest.raises(TimeAxisError, match="resample"):
        with_indices(field, own.assign_coords(time=("time", days)))
    with pytest.raises(AxisError, match="other dim"):
        with_indices(field, own.expand_dims(member=2))


def test_series_are_read_and_fields_are_forecast(field, pair, fed):
    assert series_in(pair) == ("volume",)
    assert fed.normalizer.variables == ("ssta",)
    assert fed.config.input_shape == (3, 4, 6, 1 + 2 + 2)
    fc = fed.forecast(pair, init="2003-06", members=3)
    assert list(fc.data_vars) == ["ssta"]
    assert fc.ssta.dims == ("init", "lead", "member", "lat", "lon")
    plain = pair.earthformer.forecast(fed, init="2003-06", members=3)
    xr.testing.assert_equal(plain, fc)


def test_statistics_are_those_of_the_known_training_steps(field, pair):
    trained = quick(pair, split=Split(train="2000/2002", choose="2003"))
    values = pair.volume.sel(time=slice("2000", "2002")).values
    statistics = trained.indices.normalizer
    assert statistics.center[0] == pytest.approx(np.nanmean(values), rel=1e-6)
    assert statistics.scale[0] == pytest.approx(np.nanstd(values), rel=1e-6)
    assert statistics.units == ("m",)
    assert trained.provenance["indices"]["volume"] == {
        "units": "m",
        "known_training_steps": 17,
        "base_period": "2001/2003",
    }
    assert trained.provenance["split"]["train"] == "2000/2002"


def test_channels_are_value_and_mask(field, pair, fed):
    from xearth.forecasting.history import read_histories

    past = read_histories(fed, pair, ["2001-08", "2003-06"])
    read = past.batch(slice(0, 2))[1].numpy()
    statistics = fed.indices.normalizer
    for row, init in enumerate(("2001-08", "2003-06")):
        end = int(np.flatnonzero(pair.time.dt.strftime("%Y-%m").values == init)[0])
        values = pair.volume.values[end - 2 : end + 1].astype(np.float64)
        expected = np.nan_to_num((values - statistics.center[0]) / statistics.scale[0])
        for y, x in ((0, 0), (3, 5)):
            np.testing.assert_allclose(read[row, :, y, x, 3], expected, atol=1e-5)
            np.testing.assert_array_equal(read[row, :, y, x, 4], ~np.isnan(values))
    assert read[0, :, 0, 0, 4].tolist() == [0, 1, 1]


def test_what_is_masked_changes_nothing(pair, fed):
    """NaN and a declared fill value of any size are one and the same."""
    for number in (-999.0, 1e30):
        filled = pair.copy()
        filled["volume"] = pair.volume.fillna(number).assign_attrs(
            pair.volume.attrs, _FillValue=np.float32(number)
        )
        xr.testing.assert_equal(
            fed.forecast(filled, init="2001-09"), fed.forecast(pair, init="2001-09")
        )
    again = quick(filled)
    for name, value in fed.states[0].items():
        assert torch.equal(again.states[0][name], value)


def test_what_is_known_counts_and_what_comes_later_does_not(pair, fed):
    init = "2003-06"
    base = fed.forecast(pair, init=init)
    later = pair.copy(deep=True)
    later.volume.loc[{"time": slice("2003-07", None)}] = 1e6
    later.ssta.loc[{"time": slice("2003-07", None)}] = np.nan
    xr.testing.assert_equal(fed.forecast(later, init=init), base)
    earlier = pair.copy(deep=True)
    earlier.volume.loc[{"time": slice(None, "2003-03")}] = 1e6  # before the history
    xr.testing.assert_equal(fed.forecast(earlier, init=init), base)
    now = pair.copy(deep=True)
    now.volume.loc[{"time": "2003-06"}] += 5
    assert float(abs(fed.forecast(now, init=init) - base).ssta.max()) > 1e-6
    unknown = pair.copy(deep=True)
    unknown.volume.loc[{"time": slice("2003-04", "2003-06")}] = np.nan
    assert float(abs(fed.forecast(unknown, init=init) - base).ssta.max()) > 1e-6


def test_units_are_converted_and_checked(pair, fed):
    base = fed.forecast(pair, init="2003-06")
    other = pair.assign(volume=(pair.volume * 100).assign_attrs(pair.volume.attrs, units="cm"))
    xr.testing.assert_allclose(fed.forecast(other, init="2003-06"), base, rtol=1e-5, atol=1e-6)
    wrong = pair.assign(volume=pair.volume.assign_attrs(units="K"))
    with pytest.raises(UnitsError, match="volume"):
        fed.forecast(wrong, init="2003-06")
    with pytest.raises(UnitsError, match="volume"):
        fed.forecast(pair.assign(volume=pair.volume.drop_attrs()), init="2003-06")


def test_what_is_missing_is_named(field, pair, fed):
    with pytest.raises(MissingDataError, match=r"reads volume .*DataArray.*with_indices"):
        fed.forecast(field, init="2003-06")
    with pytest.raises(MissingDataError, match=r"without \['volume'\]"):
        fed.forecast(pair.drop_vars("volume"), init="2003-06")
    with pytest.raises(MissingDataError, match="infinite"):
        fed.forecast(pair.assign(volume=pair.volume.fillna(np.inf)), init="2001-09")
    with pytest.raises(AxisError, match="volume"):
        fed.forecast(pair.assign(volume=pair.ssta.assign_attrs(units="m")), init="2003-06")
    with pytest.raises(MissingDataError, match=r"index 'volume'.*training period"):
        quick(pair, validation=slice("2001-07", None))
    config = EarthformerConfig.for_data(pair, WINDOW, base_units=16)
    with pytest.raises(ConfigError, match=r"drop_vars\(\['volume'\]\)"):
        fit(config, pair, window=WINDOW, epochs=1, progress=False)
    with pytest.raises(MissingDataError, match="reads volume"):
        quick(pair.isel(time=slice(36)), validation=field.isel(time=slice(36, None)))


def test_a_series_without_any_value_is_told(pair, fed):
    early = pair.sel(time=slice("2000-01", "2001-06"))
    with pytest.warns(MissingDataWarning, match="no value in all of the data"):
        forecast(early, fed)
    with pytest.warns(MissingDataWarning, match="no value in all of the data"):
        hindcast(early, fed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast(pair, fed, init="2000-06")  # known later: the record simply begins late


def test_round_trip(pair, fed, tmp_path):
    path = fed.save(tmp_path / "fed.safetensors")
    back = load(path)
    assert back.indices == fed.indices
    assert fingerprint(back) == fingerprint(fed)
    xr.testing.assert_identical(
        back.forecast(pair, init="2003-06", members=2).drop_attrs(),
        fed.forecast(pair, init="2003-06", members=2).drop_attrs(),
    )
    with pytest.raises(ConfigError, match="need a network"):
        dataclasses.replace(fed, indices=None)


def test_hindcasts_are_lazy_and_equal(pair, fed):
    lazy = hindcast(pair.chunk(time=9), fed, members=2, starts_per_block=5)
    assert lazy.ssta.chunks is not None
    direct = fed.forecast(pair, init=slice("2000-03", None), members=2)
    np.testing.assert_array_equal(lazy.ssta.values, direct.ssta.values)
    changed = pair.assign(volume=pair.volume + 1)
    names = [hindcast(data, fed).ssta.data.name for data in (pair, pair.copy(), changed)]
    assert names[0] == names[1] != names[2]


def test_values_are_not_read_before_they_are_needed(pair, fed):
    def refuse(block):
        raise RuntimeError("read")

    lazy = pair.chunk(time=12)
    broken = lazy.volume.copy(data=lazy.volume.data.map_blocks(refuse, dtype="f4"))
    wrong = broken.assign_attrs(broken.attrs, units="K")
    with pytest.raises(UnitsError):
        fed.forecast(lazy.assign(volume=wrong), init="2003-06")
    with pytest.raises(RuntimeError, match="read"):
        fed.forecast(lazy.assign(volume=broken), init="2003-06")


def test_another_grid_keeps_its_series(pair, fed):
    twice = {"lat": np.repeat(np.arange(4), 2), "lon": np.repeat(np.arange(6), 2)}
    fine = pair.ssta.isel(twice).assign_coords(
        lat=("lat", np.arange(-8.75, 10, 2.5), pair.lat.attrs),
        lon=("lon", np.arange(147.5, 207, 5.0), pair.lon.attrs),
    )
    both = fine.to_dataset().assign(volume=pair.volume)
    read = as_history(both, fed)
    assert set(read.data_vars) == {"ssta", "volume"}
    np.testing.assert_allclose(
        fed.forecast(both, init="2003-06").ssta.values,
        fed.forecast(pair, init="2003-06").ssta.values,
        atol=1e-4,
    )
    lazy = hindcast(both, fed, init=slice("2003-05", "2003-06"))
    np.testing.assert_allclose(
        lazy.ssta.values[1], fed.forecast(pair, init="2003-06").ssta.values[0], atol=1e-4
    )


def test_sensitivity_holds_series_fixed(pair, fed):
    box = xearth.Box(-5, 5, 160, 190, "box")
    of = Index(box, lead=2)
    g = xearth.sensitivity(pair, fed, of=of, init="2003-06")
    assert g.dims == ("init", "lag", "lat", "lon")
    step = np.zeros(pair.ssta.shape, dtype="float32")
    step[-7, 2, 3] = 0.02  # 2003-06
    assert str(pair.time.values[-7])[:7] == "2003-06"

    def index(data):
        made = fed.forecast(data, init="2003-06").ssta.astype(np.float64)
        return float(xearth.box_mean(made.sel(lead=2), box).squeeze())

    up, down = (pair.assign(ssta=pair.ssta + sign * step) for sign in (1, -1))
    for data in (up, down):
        data.ssta.attrs = pair.ssta.attrs
    slope = (index(up) - index(down)) / 0.04
    assert float(g.isel(init=0).sel(lag=0, lat=2.5, lon=180)) == pytest.approx(slope, rel=0.05)
    with pytest.raises(MissingDataError, match="reads volume"):
        xearth.sensitivity(pair.ssta, fed, of=of)


def test_a_series_that_determines_the_target_is_learned(field):
    """The field is what the series was a step before, white noise: it cannot tell itself."""
    rng = np.random.default_rng(2)
    months = 240
    drive = rng.standard_normal(months).astype("float32")
    time = xr.date_range("1990-01", periods=months, freq="MS", use_cftime=False)
    values = np.zeros((months, 4, 4), "float32")
    values[1:] = drive[:-1, None, None]
    data = xr.DataArray(
        values,
        dims=("time", "lat", "lon"),
        coords={
            "time": ("time", time, {"standard_name": "time"}),
            "lat": field.lat,
            "lon": field.lon[:4],
        },
        name="t",
        attrs={"units": "K", "units_metadata": "temperature: difference"},
    )
    index = xr.DataArray(drive, dims="time", coords={"time": data.time}, name="drive")
    index.attrs["units"] = "1"
    size = {"input_shape": (2, 4, 4, 1), "target_shape": (1, 4, 4, 1)}
    config = UNetConfig(**size, base_units=8, levels=1)
    given = with_indices(data, index)
    model = fit(
        config, given, window=Window(2, 1), split=Split(train="1990/2005", judge="2006/2009"),
        epochs=16, batch_size=16, progress=False, accelerator="cpu", schedule=Schedule(lr=1e-2),
    )  # fmt: skip
    made = model.forecast(given, init=slice("2006-01", "2009-11")).t
    truth = data.sel(time=made.valid_time.isel(lead=0).values).values
    error = np.sqrt(np.mean((made.values[:, 0] - truth) ** 2))
    assert error < 0.5 < 0.8 < truth.std()


def test_indices_without_a_name_of_their_own_statistics():
    statistics = Normalizer(("a", "b"), (0.0, 1.0), (1.0, 2.0), ("m", "K"))
    assert Indices(statistics).names == ("a", "b")
    assert Indices(statistics).channels == 4
