"""A network trained on crops forecasts on any grid of its spacing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr

import xearth
from xearth.data.grid import Grid
from xearth.data.windows import Window
from xearth.errors import (
    AxisError,
    CheckpointError,
    ConfigError,
    GridMismatchError,
    MissingDataError,
    TimeAxisError,
)
from xearth.forecasting.crops import CropExamples, crop_corners
from xearth.forecasting.fingerprint import fingerprint
from xearth.forecasting.firstguess import LinearGuess
from xearth.forecasting.fit import fit
from xearth.forecasting.io import load
from xearth.forecasting.place import Anywhere, Fixed, frame_of, place_from_dict, spacing
from xearth.forecasting.recipe import Recipe
from xearth.models.baselines.persistence import PersistenceConfig
from xearth.models.baselines.simvp import SimVPConfig
from xearth.models.baselines.unet import UNetConfig
from xearth.models.config import EarthformerConfig
from xearth.models.heads import LowRankGaussian
from xearth.models.tiles import axis_weights, starts
from xearth.training.options import TrainOptions

WINDOW = Window(3, 2)
FRAME = (24, 32)
QUICK = TrainOptions(epochs=1, batch_size=8, progress=False, accelerator="cpu")


def unet(shape=FRAME):
    sizes = {"base_units": 4, "levels": 2, "center_factor": 8}
    return UNetConfig(input_shape=(3, *shape, 1), target_shape=(2, *shape, 1), **sizes)


def trained(data, *, shape=FRAME, **how):
    recipe = Recipe(crops=2, options=QUICK, name="nowcast", **how)
    return fit(unet(shape), data, window=WINDOW, recipe=recipe)


@pytest.fixture(scope="module")
def radar():
    """Twelve frames of a corner of the Netherlands, a quarter of it beyond the radar's reach."""
    whole = xearth.samples.open("knmi_radar")
    part = whole.isel(time=slice(20, 32), y=slice(128, 208), x=slice(109, 209)).load()
    assert 0.1 < float(part.isnull().mean()) < 0.9
    return part


@pytest.fixture(scope="module")
def model(radar):
    return trained(radar)


@pytest.fixture(scope="module")
def gaussian(radar):
    return trained(radar, head=LowRankGaussian(2), season=True, networks=2)


# -- forecasts ------------------------------------------------------------------------------------


def test_a_grid_larger_than_the_crops_keeps_its_labels(model, radar):
    fc = radar.earthformer.forecast(model)
    assert fc.dims == ("init", "lead", "y", "x")
    assert fc.shape == (1, 2, 80, 100)
    assert fc.attrs["units"] == "mm h-1"
    for name in ("x", "y", "lat", "lon", "crs"):
        xr.testing.assert_identical(fc[name].variable, radar[name].variable)
    assert fc.attrs["grid_mapping"] == "crs"
    assert fc.init.values == radar.time.values[-1:]
    assert fc.lead.values.tolist() == [5, 10]


def test_missing_is_what_the_last_frame_misses(model, radar):
    data = radar.copy()
    data[-1, 30:40, 20:30] = np.nan  # an outage at the init of the second forecast
    data[-2, 5:10, 20:30] = np.nan  # one before it, which is over then
    stamps = data.time.values[[-3, -1]]
    fc = model.forecast(data, init=stamps)
    for k, stamp in enumerate(stamps):
        for lead in range(2):
            found = fc[k, lead].isnull().values
            np.testing.assert_array_equal(found, data.sel(time=stamp).isnull().values)


def by_hand(model, history):
    """The blended forecast of a history (T, H, W), south first, cell by cell in numpy."""
    network = model.networks[0]
    mean, scale = model.normalizer.center[0], model.normalizer.scale[0]
    x = np.nan_to_num((history - mean) / scale).astype(np.float32)
    total, weight = np.zeros((2, *x.shape[1:])), np.zeros(x.shape[1:])
    (H, W), (h, w), (oh, ow) = x.shape[1:], FRAME, model.place.overlap
    rows, columns = axis_weights(H, h, oh), axis_weights(W, w, ow)
    for a, row in zip(starts(H, h, oh), rows, strict=True):
        for b, column in zip(starts(W, w, ow), columns, strict=True):
            tile = torch.from_numpy(x[None, :, a : a + h, b : b + w, None])
            with torch.no_grad():
                made = network(tile)[0, ..., 0].numpy()
            share = np.outer(row, column)
            total[:, a : a + h, b : b + w] += share * made
            weight[a : a + h, b : b + w] += share
    return total / weight * scale + mean


def test_values_are_those_of_tiles_blended_by_hand(model, radar):
    expected = by_hand(model, radar.values[-3:, ::-1])[:, ::-1]  # stored north first
    found = model.forecast(radar).values[0]
    known = np.isfinite(found)
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-4, atol=1e-4)
    assert np.ptp(found[known]) > 0.1


def test_a_grid_of_the_frame_is_one_run_of_the_network(model, radar):
    part = radar.isel(y=slice(10, 34), x=slice(5, 37))
    found = model.forecast(part).values[0, :, ::-1]
    x = model.normalizer.apply(part.values[-3:, ::-1, :, None].copy())
    with torch.no_grad():
        out = model.networks[0](torch.from_numpy(np.nan_to_num(x)[None]))[0].numpy()
    expected = model.normalizer.invert(out)[..., 0]
    known = np.isfinite(found)
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-4, atol=1e-5)


def test_the_place_and_the_order_of_rows_do_not_matter(model, radar):
    here = model.forecast(radar)
    away = radar.drop_vars(["lat", "lon"]).assign_coords(
        x=radar.x + 4e5, y=("y", radar.y.values - 3e5, radar.y.attrs)
    )
    away.x.attrs.update(radar.x.attrs)
    np.testing.assert_array_equal(model.forecast(away).values, here.values)
    south = model.forecast(radar.isel(y=slice(None, None, -1)))
    np.testing.assert_array_equal(south.values[..., ::-1, :], here.values)


def test_other_units_of_rain_and_of_length(model, radar):
    expected = model.forecast(radar)
    daily = (radar * 24).assign_attrs(radar.attrs | {"units": "mm day-1"})
    daily = daily.assign_coords(
        {d: (d, radar[d].values / 1000, radar[d].attrs | {"units": "km"}) for d in ("x", "y")}
    )
    found = model.forecast(daily)
    assert found.attrs["units"] == "mm day-1"
    assert found.x.attrs["units"] == "km"
    np.testing.assert_allclose(found.values, 24 * expected.values, rtol=1e-4, atol=1e-3)


def test_packed_data_give_the_same(model, radar):
    packed = radar.fillna(-1.0).copy(data=np.nan_to_num(radar.values, nan=-1.0) * 100)
    packed = packed.round().astype("int16")
    packed.attrs = radar.attrs | {"scale_factor": 0.01, "add_offset": 0.0, "_FillValue": -100}
    found, expected = model.forecast(packed), model.forecast(radar)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-4)


def test_members_on_a_larger_grid(gaussian, radar):
    fc = gaussian.forecast(radar, members=5, seed=3)
    assert fc.dims == ("init", "lead", "member", "y", "x")
    last = radar[-1].isnull().values
    assert (fc.isnull().values == last).all()
    assert float(fc.std("member").max()) > 0
    np.testing.assert_array_equal(
        gaussian.forecast(radar, members=2, seed=3).values, fc.isel(member=slice(2)).values
    )


def test_all_inits_of_a_hindcast_and_the_outline(model, radar):
    inits = radar.time.values[4:9]
    whole = xearth.hindcast(radar, model, init=slice(inits[0], inits[-1]))
    one = model.forecast(radar, init=inits)
    np.testing.assert_allclose(whole.values, one.values, rtol=1e-5, atol=1e-5)
    shape = model.outline(radar, init=inits)
    assert shape.sizes == one.sizes
    assert bool(shape.isnull().all())


# -- what is refused ------------------------------------------------------------------------------


def test_a_grid_smaller_than_the_frame(model, radar):
    with pytest.raises(GridMismatchError, match=r"looks at 24 x 32 cells.*found 24 x 31"):
        model.forecast(radar.isel(y=slice(0, 24), x=slice(0, 31)))


def test_another_spacing(model, radar):
    coarse = radar.coarsen(y=2, x=2).mean()
    for name in ("x", "y"):
        coarse[name].attrs.update(radar[name].attrs)
    coarse.attrs = radar.attrs
    with pytest.raises(GridMismatchError, match=r"rows 2000 m apart, found 4000 m\. Interpolate"):
        model.forecast(coarse)
    fine = radar.assign_coords(
        {d: (d, radar[d].values / 2, radar[d].attrs) for d in ("x", "y")}
    ).drop_vars(["lat", "lon"])
    with pytest.raises(GridMismatchError, match=r"found 1000 m\. Average the cells: .coarsen"):
        model.forecast(fine)


def test_uneven_spacing_and_no_spacing(model, radar):
    uneven = radar.isel(x=np.r_[0:40, 60:100])
    with pytest.raises(GridMismatchError, match="expected even steps, found 2000 to 42000 m"):
        model.forecast(uneven)
    bare = radar.copy()
    bare.x.attrs.pop("units")
    with pytest.raises(AxisError, match="which tells the spacing, found units ''"):
        model.forecast(bare)
    with pytest.raises(AxisError, match="which tells the spacing, found none"):
        model.forecast(radar.drop_vars("x"))


def test_another_step_and_a_gap(model, radar):
    with pytest.raises(TimeAxisError, match="step of 10 minutes"):
        model.forecast(radar.isel(time=slice(None, None, 2)))
    gap = radar.isel(time=[0, 1, 2, 3, 4, 6, 7])
    with pytest.raises(TimeAxisError, match=r"without a gap, found missing steps \(1 after "):
        model.forecast(gap)


def test_a_frame_without_any_value_is_named(model, radar):
    data = radar.copy()
    data[-2] = np.nan
    stamp = str(radar.time.values[-2])[:19]
    with pytest.raises(MissingDataError, match=f"found none in 1 of them: {stamp}"):
        model.forecast(data)
    assert model.forecast(data, init=radar.time.values[-3]).sizes["init"] == 1


def test_a_sensitivity_has_no_place(model, radar):
    with pytest.raises(ConfigError, match="anywhere"):
        xearth.sensitivity(radar, model, of=xearth.Nino34(lead=1))


# -- the file -------------------------------------------------------------------------------------


def test_the_file_keeps_the_place(gaussian, radar, tmp_path):
    again = load(gaussian.save(tmp_path / "nowcast.safetensors"))
    assert again.place == gaussian.place == Anywhere((6, 8))
    assert again.grid.shape == FRAME
    assert fingerprint(again) == fingerprint(gaussian)
    assert "any grid of 2000 m x 2000 m, in tiles of 24 x 32 cells" in repr(again)
    xr.testing.assert_equal(again.forecast(radar, members=2), gaussian.forecast(radar, members=2))


def test_files_of_older_and_of_later_versions():
    assert place_from_dict(None) == Fixed()
    assert load("enso-small").place == Fixed()
    assert place_from_dict(Fixed().to_dict()) == Fixed()
    with pytest.raises(CheckpointError, match="found 'Moon'"):
        place_from_dict({"kind": "Moon"})


def test_history_as_it_is_read(model, radar):
    assert xearth.as_history(radar, model) is radar


# -- training on crops ----------------------------------------------------------------------------


class Reads:
    """Windows that are their own numbers: a cell holds 10 000 window + 100 row + column."""

    rank = 1

    def __len__(self):
        return 5

    def batch(self, indices):
        from xearth.models.heads import Guess
        from xearth.training.examples import TrainingBatch

        cells = 100 * torch.arange(12.0)[:, None] + torch.arange(20.0)
        x = 10_000 * torch.tensor(indices)[:, None, None, None, None] + cells[..., None]
        return TrainingBatch(x, x + 0.5, x + 0.25, Guess.none(1, x), tuple(indices))

    def describe(self, indices):
        return f"with init {list(indices)}"


def crops(seed=0):
    return CropExamples(Reads(), (4, 6), per_window=3, known=np.ones((12, 20), bool), seed=seed)


def test_crops_are_cut_from_their_window_alike_in_input_truth_and_weight():
    made = crops()
    assert len(made) == 15
    batch = made.batch([14, 0, 4])
    assert batch.x.shape == (3, 1, 4, 6, 1)
    assert batch.indices == (14, 0, 4)
    for k, number in enumerate((14, 0, 4)):
        row, column = made.corners[number]
        corner = 10_000 * (number // 3) + 100 * row + column
        assert batch.x[k, 0, 0, 0, 0] == corner
        assert batch.x[k, 0, -1, -1, 0] == corner + 305
    torch.testing.assert_close(batch.y, batch.x + 0.5)
    torch.testing.assert_close(batch.weight, batch.x + 0.25)
    assert made.describe([4]).startswith("with init [1], cropped at row and column (")


def test_crops_depend_on_the_seed_alone():
    np.testing.assert_array_equal(crops().corners, crops().corners)
    assert (crops().corners != crops(1).corners).any()
    assert len(np.unique(crops().corners, axis=0)) > 5


def test_crops_lie_where_there_is_radar():
    known = np.zeros((40, 50), bool)
    known[10:30, 20:40] = True
    corners = crop_corners(known, (10, 10), 4000, np.random.default_rng(0))
    shares = {known[r : r + 10, c : c + 10].mean() for r, c in corners}
    assert min(shares) == 0.5
    assert max(shares) == 1.0
    reached = np.unique(corners, axis=0)
    allowed = sum(known[r : r + 10, c : c + 10].mean() >= 0.5 for r in range(31) for c in range(41))
    assert len(reached) == pytest.approx(allowed, rel=0.05)
    best = crop_corners(known, (40, 50), 3, np.random.default_rng(0))
    assert best.tolist() == [[0, 0]] * 3


def test_training_sees_crops_and_learns(radar):
    quiet = radar.fillna(0.0)
    recipe = Recipe(
        crops=4,
        options=dataclasses.replace(QUICK, epochs=8),
        name="nowcast",
    )
    inside = slice(str(radar.time.values[8]), None)
    made = fit(unet(), quiet, window=WINDOW, recipe=recipe, validation=inside)
    losses = [line["valid_loss"] for line in made.metrics["epochs"][0]]
    assert losses[-1] < losses[0]
    assert made.provenance["crops_per_window"] == 4
    assert made.required.shape == FRAME


def test_a_crop_of_the_whole_grid_trains_as_the_whole_grid(radar):
    small = radar.isel(y=slice(10, 34), x=slice(5, 37))
    crop = fit(unet(), small, window=WINDOW, recipe=Recipe(crops=1, options=QUICK))
    whole = fit(unet(), small, window=WINDOW, recipe=Recipe(options=QUICK))
    for name, value in whole.states[0].items():
        torch.testing.assert_close(crop.states[0][name], value)


def test_crops_that_cannot_be_had(radar):
    with pytest.raises(GridMismatchError, match="crops of 24 x 32 cells: expected data of at leas"):
        trained(radar.isel(y=slice(0, 20)))
    with pytest.raises(AxisError, match="tells the spacing"):
        trained(radar.drop_vars("x"))
    with pytest.raises(ConfigError, match="at least 1, or None"):
        Recipe(crops=0)
    with pytest.raises(ConfigError, match="Leave one of them out"):
        Recipe(crops=2, guess=LinearGuess())


def test_a_first_guess_cannot_go_anywhere(model):
    with pytest.raises(ConfigError, match="cannot go anywhere"):
        dataclasses.replace(model, guess=object())
    with pytest.raises(ConfigError, match="two whole"):
        Anywhere((1, -1))


def test_the_frame_is_a_corner_without_a_place_on_earth(radar):
    frame = frame_of(Grid.from_array(radar), (24, 32))
    assert frame.shape == (24, 32)
    assert frame.lat is None
    assert set(frame.template.coords) == {"x", "y"}
    assert frame.template.attrs == {}
    assert spacing(frame) == ((2000.0, "m"), (2000.0, "m"))


# -- every network --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        PersistenceConfig(input_shape=(3, *FRAME, 1), target_shape=(2, *FRAME, 1)),
        SimVPConfig(
            input_shape=(3, *FRAME, 1),
            target_shape=(2, *FRAME, 1),
            width=8,
            translator_width=16,
            blocks=2,
        ),
        EarthformerConfig.for_shape("icar_enso", (3, *FRAME, 1), (2, *FRAME, 1), base_units=16),
    ],
    ids=lambda config: type(config).__name__,
)
def test_networks_of_other_kinds(model, radar, config):
    torch.manual_seed(0)
    other = dataclasses.replace(model, config=config, states=(config.build().state_dict(),))
    fc = other.forecast(radar)
    known = radar[-1].notnull().values
    assert (np.isfinite(fc.values) == known).all()
    if isinstance(config, PersistenceConfig):
        for lead in range(2):
            np.testing.assert_allclose(
                fc.values[0, lead][known], radar.values[-1][known], rtol=1e-4, atol=1e-4
            )
