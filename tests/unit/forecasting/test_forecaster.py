from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr

from xearth.cf.discover import discover
from xearth.errors import AxisError, CheckpointError, ConfigError, LeadError, MissingDataError
from xearth.forecasting.firstguess import LinearGuess
from xearth.forecasting.forecaster import forecast
from xearth.reference.persistence import Persistence
from xearth.reference.protocol import Forecaster

same = xr.testing.assert_identical


def bare(obj):
    """Leave the dated history out."""
    return obj.assign_attrs(history=None)


def test_labels_of_an_ensemble(field, forecaster):
    fc = forecaster.forecast(field, init=["2001-06", "2002-01"], members=3)
    assert fc.dims == ("init", "lead", "member", "lat", "lon")
    assert fc.shape == (2, 2, 3, 4, 6)
    assert fc.dtype == field.dtype
    assert fc["lead"].values.tolist() == [1, 2]
    assert fc["lead"].attrs["units"] == "months"
    months = fc["valid_time"].values.astype("M8[M]").astype(str).tolist()
    assert months == [["2001-07", "2001-08"], ["2002-02", "2002-03"]]
    assert {key: fc.attrs[key] for key in ("units", "units_metadata", "standard_name")} == {
        key: field.attrs[key] for key in ("units", "units_metadata", "standard_name")
    }
    assert fc.attrs["long_name"] == "anomaly, forecast by toy"
    assert fc.attrs["training_period"] == "2000-01/2003-12"
    assert "forecast by" in fc.attrs["history"]
    found = discover(fc, require=("init", "lead", "y", "x"))
    assert (found.init, found.lead, found.member) == ("init", "lead", "member")


def test_the_mean_has_no_members_and_the_last_step_is_the_default(field, forecaster):
    fc = forecaster.forecast(field)
    assert fc.dims == ("init", "lead", "lat", "lon")
    assert fc["init"].values.astype("M8[M]").astype(str).tolist() == ["2003-12"]


def test_it_is_a_forecaster(forecaster):
    assert isinstance(forecaster, Forecaster)
    assert "2 x Earthformer, 3 -> 2 x 1 month of ssta" in repr(forecaster)


def test_numbers_by_hand(field, forecaster):
    """Another route: numpy in, the bare networks, numpy out."""
    at = 17
    mean, std = np.nanmean(field), np.nanstd(field)
    x = np.nan_to_num((field.values[at - 2 : at + 1] - mean) / std)[None, ..., None]
    angle = 2 * np.pi * (np.arange(at - 2, at + 1) % 12) / 12
    waves = np.broadcast_to(
        np.stack([np.cos(angle), np.sin(angle)], -1)[None, :, None, None], (1, 3, 4, 6, 2)
    )
    tensor = torch.tensor(np.concatenate([x, waves], -1), dtype=torch.float32)
    means, members = [], []
    for m in range(4):
        network = forecaster.config.build().eval()
        network.load_state_dict(forecaster.states[m % 2])
        with torch.no_grad():
            out = network(tensor).numpy()[0]
        stamp = int(field.time.values[at].astype("M8[us]").astype(np.int64))
        z = np.random.default_rng([5, stamp, m]).standard_normal(3)
        means.append(out[..., 0] * std + mean)
        members.append((out[..., 0] + out[..., 1:] @ z / np.sqrt(3)) * std + mean)
    ocean = ~np.isnan(field.values[0])
    fc = forecaster.forecast(field, init="2001-06", members=4, seed=5)[0]
    for m in range(4):
        np.testing.assert_allclose(
            fc.values[:, m][:, ocean], members[m][:, ocean], rtol=1e-4, atol=1e-5
        )
    mean_fc = forecaster.forecast(field, init="2001-06")[0].values
    np.testing.assert_allclose(
        mean_fc[:, ocean], np.mean(means[:2], 0)[:, ocean], rtol=1e-4, atol=1e-5
    )
    assert np.isnan(mean_fc[:, ~ocean]).all()
    assert np.isfinite(mean_fc[:, ocean]).all()


def test_members_do_not_depend_on_company(field, forecaster):
    many = forecaster.forecast(field, init=slice("2001-01", "2002-12"), members=5, seed=3)
    few = forecaster.forecast(field, init=["2002-03"], members=2, seed=3)
    np.testing.assert_allclose(
        few.values, many.sel(init=few["init"]).isel(member=[0, 1]).values, rtol=1e-5, atol=1e-6
    )
    other = forecaster.forecast(field, init=["2002-03"], members=2, seed=4)
    assert not np.allclose(other.values, few.values, equal_nan=True)
    apart = many.isel(lead=0, member=[0, 2], lat=0, lon=0)  # members of one network
    assert float(abs(apart.isel(member=0) - apart.isel(member=1)).min()) > 0


@pytest.mark.parametrize(
    "rearranged",
    [
        lambda da: da.isel(lat=slice(None, None, -1)),
        lambda da: da.transpose("lon", "time", "lat"),
        lambda da: da.assign_coords(lon=(da.lon + 180) % 360 - 180),
        lambda da: da.assign_coords(lon=(da.lon + 180) % 360 - 180).sortby("lon"),
        lambda da: da.rename(lat="latitude", lon="longitude"),
        lambda da: da.isel(time=slice(None, None, -1)),
        lambda da: da.chunk(time=5),
        lambda da: da.astype("float64"),
    ],
    ids=["north first", "transposed", "-180..180", "sorted", "names", "backward", "dask", "double"],
)
def test_any_layout_gives_the_same_forecast_in_that_layout(field, forecaster, rearranged):
    plain = forecaster.forecast(field, init="2002-05", members=2)
    data = rearranged(field).assign_attrs(field.attrs)
    if data.time[0] > data.time[1]:
        with pytest.warns(UserWarning, match="not sorted"):
            fc = forecaster.forecast(data, init="2002-05", members=2)
    else:
        fc = forecaster.forecast(data, init="2002-05", members=2)
    axes = discover(data)
    np.testing.assert_array_equal(fc[axes.lat], data[axes.lat])
    np.testing.assert_array_equal(fc[axes.lon], data[axes.lon])
    assert fc.dtype == data.dtype
    back = fc.rename({axes.lat: "lat", axes.lon: "lon"})
    back = back.assign_coords(lon=back.lon % 360).sortby("lon").sortby("lat")
    np.testing.assert_allclose(back.values, plain.values, rtol=1e-5, atol=1e-6)


def test_units_of_the_input_come_back(field, forecaster):
    plain = forecaster.forecast(field, init="2002-05")
    data = (field * 1000).assign_attrs({**field.attrs, "units": "mK"})
    fc = forecaster.forecast(data, init="2002-05")
    assert fc.attrs["units"] == "mK"
    np.testing.assert_allclose(fc.values, 1000 * plain.values, rtol=1e-4, atol=1e-3)
    celsius = forecaster.forecast(field.assign_attrs(units="degC"), init="2002-05")
    np.testing.assert_allclose(celsius.values, plain.values, rtol=1e-5, atol=1e-6)


def test_a_dataset_gives_a_dataset(field, forecaster):
    both = field.to_dataset().assign(other=field * 2)
    fc = forecaster.forecast(both, init="2002-05")
    assert list(fc.data_vars) == ["ssta"]
    plain = forecaster.forecast(field, init="2002-05")
    same(bare(fc["ssta"]), bare(plain))
    with pytest.raises(MissingDataError, match="'ssta'"):
        forecaster.forecast(field.to_dataset(name="t2m"), init="2002-05")


def test_values_on_land_do_not_matter(field, forecaster):
    plain = forecaster.forecast(field, init="2002-05")
    fc = forecaster.forecast(field.fillna(40.0), init="2002-05")
    same(bare(fc), bare(plain))


def test_leads(field, forecaster):
    whole = forecaster.forecast(field, init="2002-05", members=2)
    short = forecaster.forecast(field, init="2002-05", members=2, leads=1)
    same(bare(short), bare(whole.isel(lead=[0])))
    for leads in (0, 3, 1.0, True):
        with pytest.raises(LeadError, match=f"leads={leads}.*1 to 2"):
            forecaster.forecast(field, leads=leads)


@pytest.mark.parametrize("members", [0, -1, 2.0, True])
def test_impossible_members(field, forecaster, members):
    with pytest.raises(LeadError, match="members="):
        forecaster.forecast(field, members=members)


def test_networks_without_width_are_as_many_members(field, point_forecaster):
    fc = point_forecaster.forecast(field, init="2002-05", members=2)
    np.testing.assert_allclose(
        fc.mean("member").values, point_forecaster.forecast(field, init="2002-05").values, atol=1e-6
    )
    with pytest.raises(LeadError, match="2 networks"):
        point_forecaster.forecast(field, init="2002-05", members=3)


def test_a_first_guess_is_added(field, forecaster):
    windows = np.stack([field.values[i - 2 : i + 1] for i in range(2, 46)])[..., None]
    targets = np.stack([field.values[i + 1 : i + 3] for i in range(2, 46)])[..., None]
    mean, std = forecaster.normalizer.center[0], forecaster.normalizer.scale[0]
    x, y = (np.nan_to_num((a - mean) / std) for a in (windows, targets))
    season = (np.arange(2, 46) % 12) / 12
    spec = LinearGuess(components=3, lags=(0, 1), blocks=3)
    area = forecaster.required.astype(float)
    guess, _ = spec.fit(x, y, season=season, area=area, rank=3)
    with_guess = dataclasses.replace(forecaster, guess=guess, width=1.5)
    inits = slice("2000-03", "2003-10")
    factors, unit = guess.spread((4, 6, 1))
    plain = (forecaster.forecast(field, init=inits).values - mean) / std
    found = (with_guess.forecast(field, init=inits).values - mean) / std
    expected = guess(x, season)[..., 0] + unit[..., 0] * plain
    np.testing.assert_allclose(found, np.where(forecaster.required, expected, np.nan), atol=1e-4)
    # a member departs from its own network's mean by the factors of both, times the width
    apart = []
    for model in (forecaster, with_guess):
        members = model.forecast(field, init=inits, members=2)
        alone = dataclasses.replace(model, states=model.states[:1])
        apart.append((members[:, :, 0] - alone.forecast(field, init=inits)).values / std)
    stamps = field.time.values[2:46].astype("M8[us]").astype(np.int64)
    z = np.stack([np.random.default_rng([0, int(k), 0]).standard_normal(3) for k in stamps])
    static = np.einsum("tyxck,nk->ntyxc", factors[0], z)[..., 0]
    expected = 1.5 * (static + unit[..., 0] * apart[0])
    np.testing.assert_allclose(apart[1], np.where(forecaster.required, expected, np.nan), atol=1e-4)


def test_a_width_by_time_of_year_and_lead(field, forecaster):
    inits = slice("2000-03", "2001-02")
    width = np.random.default_rng(0).uniform(0.5, 2.0, (12, 2))
    wide = dataclasses.replace(forecaster, width=width.tolist())
    mean, plain, found = (
        model.forecast(field, init=inits, members=members).values
        for model, members in ((forecaster, None), (forecaster, 4), (wide, 4))
    )
    same(wide.forecast(field, init=inits), forecaster.forecast(field, init=inits))
    centers = np.stack(
        [
            dataclasses.replace(forecaster, states=(state,)).forecast(field, init=inits).values
            for state in forecaster.states
        ],
        2,
    )
    centers = centers[:, :, np.arange(4) % len(forecaster.states)]
    assert mean.shape == centers[:, :, 0].shape
    factor = width[np.arange(2, 14) % 12][:, :, None, None, None]
    np.testing.assert_allclose(found, centers + factor * (plain - centers), atol=1e-4)


@pytest.mark.parametrize("width", [-1.0, [1.0, 1.0], [[1.0] * 3] * 12])
def test_impossible_widths(forecaster, width):
    with pytest.raises(ConfigError, match="expected a width"):
        dataclasses.replace(forecaster, width=width)


def test_extra_dims_are_refused(field, forecaster):
    pair = field.expand_dims(member=[0, 1])
    pair["member"].attrs["standard_name"] = "realization"
    with pytest.raises(AxisError, match="member"):
        forecaster.forecast(pair)


def test_infinite_values_are_refused(field, forecaster):
    spoiled = field.copy()
    spoiled[-1, 0, 0] = np.inf
    with pytest.raises(MissingDataError, match="infinite"):
        forecaster.forecast(spoiled)


def test_a_configuration_of_another_size_is_refused(forecaster):
    with pytest.raises(ConfigError, match=r"input_shape.*\(3, 4, 6, 1\)"):
        dataclasses.replace(forecaster, season=False)
    with pytest.raises(ConfigError, match="found 0"):
        dataclasses.replace(forecaster, states=())


def test_weights_of_another_network_are_refused(field, forecaster):
    broken = dataclasses.replace(forecaster, states=({"w": torch.zeros(1)},))
    with pytest.raises(CheckpointError, match="do not fit"):
        broken.forecast(field)


def test_forecast_takes_forecasters_and_files(field, forecaster, tmp_path):
    plain = forecaster.forecast(field, init="2002-05", members=2, seed=1)
    path = forecaster.save(tmp_path / "toy.safetensors")
    for model in (forecaster, path, str(path)):
        same(bare(forecast(field, model, init="2002-05", members=2, seed=1)), bare(plain))


def test_forecast_takes_references(field):
    reference = Persistence.fit(field, horizon=3)
    assert forecast(field, reference, leads=2).sizes["lead"] == 2
    assert forecast(field, reference).sizes["lead"] == 3
    with pytest.raises(LeadError, match="1 to 3"):
        forecast(field, reference, leads=4)


def test_progress(field, forecaster, capsys):
    forecaster.forecast(field, init="2002-05")
    assert capsys.readouterr().err == ""
    forecaster.forecast(field, init="2002-05", progress=True)
    assert "1/1" in capsys.readouterr().err
