# ruff: noqa: SIM300 - quantities stand to the right of what is measured
from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import xearth
from xearth import Q
from xearth.data.sources.nbody import NBody, generate, trajectories
from xearth.errors import CheckpointError, ConfigError, ConstraintError, MissingDataError
from xearth.forecasting.alignment import FittedAlignment, fit_alignment
from xearth.models.prediff.config import AutoencoderConfig, PreDiffConfig
from xearth.models.prediff.gaussian import GaussianField
from xearth.models.prediff.guidance import guided
from xearth.models.prediff.noise import MemberNoise
from xearth.models.prediff.process import Diffusion
from xearth.models.prediff.sampler import make_sampler, sample
from xearth.training.alignment_fit import AlignmentRecipe

SIDE, FRAMES, PROCESS = 4, 2, Diffusion()
SPECTRUM = torch.full((SIDE, SIDE), 0.2)
SPECTRUM[0, 0] = 8.0  # the area mean has a variance of 8 / 16
LAW = GaussianField(torch.zeros(SIDE, SIDE), SPECTRUM)
MODEL = SimpleNamespace(process=PROCESS, frames=FRAMES)
SMALL = {"base_units": 8, "depth": (1,), "heads": 2}
MEAN = xearth.AreaMean(per="horizon")


def labeled(values):
    """Fields (time, y, x) of a mean of 3 mm/h."""
    side = np.arange(float(values.shape[-1]))
    axes = {
        name: (name, side, {"axis": name.upper(), "units": "km", "standard_name": standard})
        for name, standard in (("y", "projection_y_coordinate"), ("x", "projection_x_coordinate"))
    }
    time = pd.date_range("2020-01-01", periods=len(values), freq="5min")
    return xr.DataArray(
        3.0 + values, {"time": time, **axes}, ("time", "y", "x"), name="rain",
        attrs={"units": "mm h-1"},
    )  # fmt: skip


def encode(part):
    return torch.as_tensor(part.values[..., None] - 3.0, dtype=torch.float32)


def series(count=300):
    noise = torch.randn(count, 1, SIDE, SIDE, 1, generator=torch.Generator().manual_seed(1))
    return labeled(LAW.draw(noise)[:, 0, ..., 0].numpy().astype(float))


@pytest.fixture(scope="module")
def fitted():
    recipe = AlignmentRecipe(steps=150, batch=24, rate=4e-3, sizes=SMALL)
    return fit_alignment(MEAN, MODEL, series(), encode=encode, recipe=recipe)


def quick(of, data=None, **options):
    recipe = AlignmentRecipe(steps=2, batch=4, sizes=SMALL)
    data = series(40) if data is None else data
    return fit_alignment(of, MODEL, data, recipe=recipe, **{"encode": encode} | options)


def sampled(*guidances):
    """Area means of samples of the law, in mm/h."""
    noise = MemberNoise((FRAMES, SIDE, SIDE, 1), range(24), 0)
    walk = make_sampler("dpm-solver++", steps=12)
    with torch.no_grad():
        z = sample(walk, PROCESS, guided(LAW, *guidances), noise)
    return 3.0 + z.mean((1, 2, 3, 4)).numpy()


def test_it_reads_the_mean_nearly_as_well_as_can_be(fitted):
    errors = np.array(fitted.metrics["errors"])
    # the best there is: the mean of n cells of unit noise is told from the noise of the mean
    alpha, sigma = PROCESS.alphas_sigmas(np.arange(PROCESS.steps))
    noise = sigma**2 / (FRAMES * SIDE**2)
    variance = float(SPECTRUM[0, 0]) / SIDE**2 / FRAMES
    best = noise / (alpha**2 * variance + noise)
    best = np.array([part.mean() for part in np.array_split(best, 4)])
    assert (errors > 0.5 * best).all()
    assert (errors < best + 0.4).all()
    assert errors[:2].max() < 0.3
    np.testing.assert_allclose(fitted.center, 3.0, atol=0.2)
    np.testing.assert_allclose(fitted.scale, variance**0.5, rtol=0.2)


def test_guidance_moves_the_mean_to_the_bound(fitted):
    free = sampled()
    wet = sampled(fitted.towards(MEAN == Q(4, "mm/h"), scale=2))
    dry = sampled(fitted.towards(MEAN == Q(2, "mm/h"), scale=2))
    assert dry.mean() < free.mean() - 0.3
    assert wet.mean() > free.mean() + 0.3
    assert abs(wet - 4).mean() < 0.6 * abs(free - 4).mean()
    assert abs(dry - 2).mean() < 0.6 * abs(free - 2).mean()
    # units of the bound are its own, and a stronger guidance comes nearer
    same = sampled(fitted.towards(MEAN == Q(4 / 36e5, "m/s"), scale=2))
    np.testing.assert_allclose(same, wet, rtol=1e-4)
    weak = sampled(fitted.towards(MEAN == Q(4, "mm/h"), scale=0.5))
    assert free.mean() < weak.mean() < wet.mean()


def test_what_holds_is_left_alone(fitted):
    np.testing.assert_array_equal(
        sampled(fitted.towards(MEAN >= Q(-100, "mm/h"), scale=2)), sampled()
    )
    raised = sampled(fitted.towards(MEAN >= Q(3, "mm/h"), scale=2)) - sampled()
    low, high = sampled() < 2.5, sampled() > 3.5
    assert raised[low].mean() > 0.3 > 0.1 > abs(raised[high]).mean()


def test_an_intensity_anomaly_is_a_bound_of_its_area_mean(fitted):
    known = xearth.IntensityClimatology.of(series(), frames=FRAMES, transform="none")
    assert fitted.towards(xearth.IntensityAnomaly(known, 1)).target.shape == (1, 1)
    assert quick(xearth.IntensityAnomaly(known, 1)).of == MEAN


def test_it_keeps_its_functional(fitted, tmp_path):
    path = fitted.save(tmp_path / "mean.safetensors")
    again = FittedAlignment.load(path)
    assert again.of == fitted.of
    assert (again.center, again.scale) == (fitted.center, fitted.scale)
    assert again.metrics == fitted.metrics
    assert "mm h-1" in repr(again)
    z, t = torch.randn(3, FRAMES, SIDE, SIDE, 1), torch.tensor([1, 400, 900])
    assert torch.equal(again.network(z, t), fitted.network(z, t))
    bound = MEAN >= Q(4, "mm/h")
    assert torch.equal(again.towards(bound).network(z, t), fitted.towards(bound).network(z, t))


def test_networks_of_other_constraints_are_refused(fitted, tmp_path):
    for other in (
        xearth.AreaMean() >= Q(4, "mm/h"),
        xearth.AreaMaximum(per="horizon") >= Q(4, "mm/h"),
        xearth.AreaMean(xearth.Mask(series(12)[0] * 0 + series(12)["x"] < 5, "west"), per="horizon")
        >= Q(4, "mm/h"),
    ):
        with pytest.raises(ConstraintError, match="alignment network of another constraint"):
            fitted.towards(other)
    with pytest.raises(ConstraintError, match="expected a bound of one functional"):
        fitted.towards((MEAN >= Q(1, "mm/h")) & (MEAN <= Q(2, "mm/h")))
    from xearth.models.checkpoints import save_tensors

    path = save_tensors(tmp_path / "a.safetensors", {"w": torch.ones(1)}, {"kind": "other"})
    with pytest.raises(CheckpointError, match="expected an alignment network"):
        FittedAlignment.load(path)


def test_numbers_of_each_frame_have_bounds_of_each_frame(tmp_path):
    fitted = quick(xearth.AreaMean())
    assert fitted.by_frame
    again = FittedAlignment.load(fitted.save(tmp_path / "frames.safetensors"))
    guidance = again.towards(xearth.AreaMean().between(Q([1, 2], "mm/h"), Q([1, 2], "mm/h")))
    z, t = torch.randn(3, FRAMES, SIDE, SIDE, 1), torch.tensor([5])
    read = fitted.network(z, t)[..., 0]
    wanted = (torch.tensor([1.0, 2.0]) - fitted.center[0]) / fitted.scale[0]
    torch.testing.assert_close(guidance.network(z, t)[:, 0], read - wanted)
    assert guidance.target.shape == (1, FRAMES)


def test_several_points_are_several_outputs():
    points = xearth.AtPoints(xearth.Points(lat=(52.0, 52.3), lon=(5.1, 5.2), name="gauges"))
    data = series(40)
    lat, lon = 52 + 0.1 * data["y"] + 0 * data["x"], 5 + 0.1 * data["x"] + 0 * data["y"]
    lat.attrs = {"units": "degrees_north", "standard_name": "latitude"}
    lon.attrs = {"units": "degrees_east", "standard_name": "longitude"}
    fitted = quick(points, data.assign_coords(lat=lat, lon=lon))
    assert fitted.config.outputs == 2
    guidance = fitted.towards(points <= Q([2, 5], "mm/h"))
    assert guidance.network(torch.randn(1, FRAMES, SIDE, SIDE, 1), torch.tensor([5])).shape == (
        1, 1, 2 * FRAMES,
    )  # fmt: skip


def test_what_cannot_be_learned_is_refused():
    with pytest.raises(ConstraintError, match="expected a bound of one functional"):
        quick(xearth.Monotone())
    with pytest.raises(ConstraintError, match="expected a constraint or a functional"):
        quick("the mean")
    with pytest.raises(ConstraintError, match="expected a number that varies"):
        quick(MEAN, series(40) * 0 + 1)
    with pytest.raises(MissingDataError, match="expected 10 runs"):
        quick(MEAN, series(8))
    with pytest.raises(MissingDataError, match="not finite"):
        quick(MEAN, series(40).where(lambda f: f["x"] > 0))
    with pytest.raises(ConfigError, match="expected latent fields"):
        quick(MEAN, encode=lambda part: encode(part)[:3])
    with pytest.raises(ConfigError, match="expected a positive number"):
        AlignmentRecipe(steps=0)


def test_a_whole_model_is_guided_by_it():
    autoencoder = AutoencoderConfig(latent_channels=2, widths=(8, 8), layers=1, groups=4)
    config = PreDiffConfig.for_shape(
        (3, 8, 8, 1), (FRAMES, 8, 8, 1), autoencoder=autoencoder,
        denoiser={"base_units": 8, "depth": (1,)}, latent_scale=2.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = xearth.PreDiff(config).eval()
    data = labeled(np.random.default_rng(0).normal(size=(40, 8, 8)))
    fitted = fit_alignment(
        MEAN, model, data, recipe=AlignmentRecipe(steps=2, batch=4, sizes=SMALL)
    )  # fmt: skip
    assert fitted.config.input_shape == config.denoiser.target_shape
    context = torch.rand(1, 3, 8, 8, 1)
    guidance = fitted.towards(MEAN >= Q(9, "mm/h"), scale=1.0)
    made = model.sample(context, members=2, steps=3, guidance=guidance)
    assert made.shape == (1, 2, FRAMES, 8, 8, 1)
    assert not torch.equal(made, model.sample(context, members=2, steps=3))
    with pytest.raises(ConfigError, match="the model forecasts"):
        fit_alignment(MEAN, model, series(40), recipe=AlignmentRecipe(steps=2, sizes=SMALL))


def test_the_file_is_readable_without_this_package(fitted, tmp_path):
    from safetensors import safe_open

    with safe_open(fitted.save(tmp_path / "mean.safetensors"), "pt") as file:
        facts = json.loads(file.metadata()["xearth"])
    assert json.loads(facts["functional"])["kind"] == "AreaMean"


# -- the energy of bodies, which frames do not show ------------------------------------------------

# Ten times the published gravity: places count more for the energy than speeds, which are hard to
# read in seconds of training (r = 0.33 after 300 steps on 500 sequences at the published one).
WORLD = NBody(canvas=64, size=16, frames=2, masses=(1.0, 1.0), gravity=0.5)
RULE = xearth.EnergyConserved(masses=WORLD.masses, gravity=WORLD.gravity)
LAST = SimpleNamespace(process=PROCESS, frames=2)


def blocks(part):
    """Frames of 16 x 16 cells as 4 x 4 blocks of as many channels, from -1 to 1."""
    z = torch.as_tensor(2 * part.values - 1, dtype=torch.float32)
    return z.unflatten(-1, (4, 4)).unflatten(-3, (4, 4)).permute(0, 1, 2, 4, 3, 5).flatten(-2)


def bodies(count, seed=0):
    """Sequences of two digits, and the energies of their frames."""
    made = [one(WORLD, sequences=count, seed=seed) for one in (generate, trajectories)]
    return made[0].load(), RULE.measure(made[1].load())


def energies(count, steps):
    recipe = AlignmentRecipe(steps=steps, batch=32, rate=5e-3, sizes=SMALL)
    frames, known = bodies(count)
    return fit_alignment(RULE, LAST, frames, labels=known, encode=blocks, recipe=recipe)


def test_energy_is_read_from_frames_that_were_not_seen():
    fitted = energies(200, 100)
    assert fitted.by_frame
    frames, known = bodies(60, seed=1)
    read = fitted.network(blocks(frames), torch.zeros(60, dtype=torch.long))[..., 0]
    assert np.corrcoef(read.numpy().ravel(), known.values.ravel())[0, 1] > 0.5


def test_energy_to_keep_is_that_of_the_last_frame_seen(tmp_path):
    fitted = energies(20, 1)
    fitted = FittedAlignment.load(fitted.save(tmp_path / "energy.safetensors"))
    assert fitted.of == RULE
    kept = dataclasses.replace(RULE, energy=12.0, within=0.2)
    guidance = fitted.towards(kept)
    z, t = torch.randn(3, 2, 4, 4, 16), torch.tensor([5])
    wanted = (12.0 - fitted.center[0]) / fitted.scale[0]
    read = fitted.network(z, t)[..., 0]
    torch.testing.assert_close(guidance.network(z, t)[:, 0], read - wanted)
    with pytest.raises(ConstraintError, match="not known before it is drawn"):
        fitted.towards(RULE)
    with pytest.raises(ConstraintError, match="alignment network of another constraint"):
        fitted.towards(dataclasses.replace(kept, law="r1"))
    with pytest.raises(ConstraintError, match="alignment network of another constraint"):
        fitted.towards(MEAN >= Q(1, "mm/h"))


def test_labels_that_do_not_fit_are_refused():
    frames, known = bodies(20)
    for labels, message in ((None, "expected labels= "), (known[:3], "each sequence and frame")):
        with pytest.raises(ConstraintError, match=message):
            fit_alignment(RULE, LAST, frames, labels=labels, encode=blocks)
    with pytest.raises(ConstraintError, match="for nothing else"):
        fit_alignment(MEAN, LAST, frames, labels=known, encode=blocks)
    with pytest.raises(ConfigError, match="sequences of 2 frames"):
        fit_alignment(RULE, LAST, frames[0], labels=known[0], encode=blocks)
