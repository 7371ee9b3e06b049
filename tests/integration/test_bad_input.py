"""Bad input meets a typed error that names object, expected, found and remedy, before any work.

One test per case of the list in docs/guide/errors; the input is lazy and refuses to be computed
wherever the labels alone tell what is wrong.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import xarray as xr

from xearth.cli.files import open_field
from xearth.data.windows import Window
from xearth.errors import (
    AxisError,
    CheckpointError,
    GridMismatchError,
    LeadError,
    MissingDataError,
    SourceError,
    TimeAxisError,
    UnitsError,
    XearthError,
)
from xearth.forecasting.fit import fit
from xearth.forecasting.forecaster import forecast
from xearth.forecasting.io import load
from xearth.forecasting.recipe import Recipe
from xearth.models.config import EarthformerConfig
from xearth.models.heads import LowRankGaussian
from xearth.training.options import TrainOptions

WINDOW = Window(history=3, horizon=2)


def make(months=24, lat=(-7.5, -2.5, 2.5, 7.5), lon=(150.0, 160.0, 170.0, 180.0, 190.0, 200.0)):
    rng = np.random.default_rng(0)
    time = xr.date_range("2000-01", periods=months, freq="MS", use_cftime=False)
    return xr.DataArray(
        rng.standard_normal((months, len(lat), len(lon))).astype("float32"),
        dims=("time", "lat", "lon"),
        coords={
            "time": ("time", time, {"standard_name": "time"}),
            "lat": ("lat", list(lat), {"units": "degrees_north"}),
            "lon": ("lon", list(lon), {"units": "degrees_east"}),
        },
        name="ssta",
        attrs={"units": "K", "units_metadata": "temperature: difference"},
    )


def untouchable(da):
    """The same labels over values that may not be computed."""

    def refuse(block):
        raise RuntimeError("computed before the input was checked")

    lazy = da.chunk()
    return lazy.map_blocks(refuse, template=lazy)


@pytest.fixture(scope="module")
def data():
    return make()


@pytest.fixture(scope="module")
def model(data):
    recipe = Recipe(
        head=LowRankGaussian(2),
        options=TrainOptions(epochs=1, batch_size=16, progress=False, accelerator="cpu"),
    )
    config = EarthformerConfig.for_data(data, WINDOW, base_units=16)
    return fit(config, data, window=WINDOW, recipe=recipe)


@pytest.fixture
def path(model, tmp_path):
    return model.save(tmp_path / "model.safetensors")


def told(error, *words):
    """The message is a sentence or more that holds all the words."""
    text = str(error.value)
    assert isinstance(error.value, XearthError)
    assert "\n" not in text.strip()
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in {text!r}"


def refused(error, data, model, *words):
    """Both doors, training and forecast, refuse the data in the same words."""
    with pytest.raises(error) as caught:
        forecast(data, model)
    told(caught, *words)
    with pytest.raises(error) as caught:
        fit(model.config, data, window=WINDOW)
    told(caught, *words)


def test_no_time_axis(data, model):
    bare = untouchable(data).drop_vars("time").rename(time="step")
    refused(AxisError, bare, model, "'ssta'", "time", "step")


def test_two_candidate_latitudes(data, model):
    rows = {
        name: ("row", data.lat.values + shift, {"units": "degrees_north"})
        for name, shift in (("geodetic", 0.0), ("geocentric", 0.1))
    }
    two = untouchable(data).drop_vars("lat").rename(lat="row").assign_coords(rows)
    refused(AxisError, two, model, "geodetic", "geocentric")


def test_non_uniform_step(data, model):
    days = np.array([0, 31, 60, 95, 96, 140, 182, 190, 200, 230, 260, 300])
    time = np.datetime64("2000-01-01", "ns") + days.astype("timedelta64[D]")
    odd = untouchable(data.isel(time=slice(12))).assign_coords(time=time)
    refused(TimeAxisError, odd, model, "time", "evenly spaced", "2000")


def test_gap_inside_the_only_window(data, model):
    holed = untouchable(data.isel(time=[0, 1, 2, 4, 5]))
    with pytest.raises(TimeAxisError) as caught:
        fit(model.config, holed, window=Window(3, 2))
    told(caught, "consecutive steps", "at most 3", "2000-03", "shorter window")
    with pytest.raises(TimeAxisError) as caught:
        forecast(holed, model, init="2000-06")
    told(caught, "2000-06", "3 steps", "missing steps (1 after 2000-03", "allows 2000-03")


def test_wrong_units(data, model):
    wrong = untouchable(data).assign_attrs(units="mm")
    with pytest.raises(UnitsError) as caught:
        forecast(wrong, model)
    told(caught, "'ssta'", "'K'", "'mm'")
    absolute = untouchable(data).assign_attrs(units_metadata="temperature: on_scale")
    with pytest.raises(UnitsError) as caught:
        forecast(absolute, model)
    told(caught, "'ssta'", "anomalies", "absolute", "units_metadata")


def test_all_missing_field(data, model):
    refused(MissingDataError, data.where(False).assign_attrs(data.attrs), model, "ssta", "missing")


def test_missing_where_the_model_saw_none(data, model):
    holed = data.copy()
    holed[-1, 1, 2] = np.nan
    with pytest.raises(MissingDataError) as caught:
        forecast(holed, model)
    told(caught, "ssta", "row 1, column 2", "interpolate_na")


@pytest.mark.parametrize(
    ("lat", "lon", "words"),
    [
        ((-7.5, -2.5, 2.5), (150.0, 160.0, 170.0, 180.0, 190.0, 200.0), ("(4, 6)", "(3, 6)")),
        ((12.5, 17.5, 22.5, 27.5), (150.0, 160.0, 170.0, 180.0, 190.0, 200.0), ("12.5N", "7.5S")),
        ((-7.5, -2.5, 2.5, 7.5), (0.0, 10.0, 20.0, 30.0, 40.0, 50.0), ("150E", "0E")),
    ],
    ids=["size", "latitudes", "longitudes"],
)
def test_grid_of_another_size_or_region(model, lat, lon, words):
    with pytest.raises(GridMismatchError) as caught:
        forecast(untouchable(make(lat=lat, lon=lon)), model)
    told(caught, "expected", "found", *words)


def test_lead_beyond_the_horizon(data, model):
    with pytest.raises(LeadError) as caught:
        forecast(untouchable(data), model, leads=3)
    told(caught, "leads=3", "1 to 2", "longer horizon")


def test_corrupt_netcdf(data, tmp_path):
    path = tmp_path / "broken.nc"
    data.to_netcdf(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SourceError) as caught:
        open_field(path)
    told(caught, "broken.nc", "cannot be read")


def test_foreign_checkpoint(data, tmp_path):
    path = tmp_path / "foreign.pt"
    torch.save({"model": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError) as caught:
        forecast(untouchable(data), path)
    told(caught, "foreign.pt", "no safetensors file")
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    with pytest.raises(CheckpointError) as caught:
        load(path)
    told(caught, "foreign.pt", "no safetensors file")


def test_truncated_safetensors(data, path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError) as caught:
        forecast(untouchable(data), path)
    told(caught, "model.safetensors", "truncated")


def test_no_such_init_or_too_little_history(data, model):
    with pytest.raises(TimeAxisError) as caught:
        forecast(untouchable(data), model, init="1990-01")
    told(caught, "1990-01", "2000-01")
    with pytest.raises(TimeAxisError) as caught:
        forecast(untouchable(data), model, init="2000-02")
    told(caught, "2000-02", "3 steps")


def test_another_step(data, model):
    daily = untouchable(data).assign_coords(
        time=xr.date_range("2000-01-01", periods=24, use_cftime=False)
    )
    with pytest.raises(TimeAxisError) as caught:
        forecast(daily, model)
    told(caught, "1 day", "1 month", "Resample")


def test_nothing_half_written(model, tmp_path, monkeypatch):
    """A failure while the file is written leaves the old file whole and no other."""
    import safetensors.torch

    path = model.save(tmp_path / "model.safetensors")
    before = path.read_bytes()

    def fail(tensors, filename, metadata=None):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        model.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
