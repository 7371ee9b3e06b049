"""N-body MNIST against closed forms; the golden sequence is tested elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from xearth.cf.discover import discover
from xearth.constraints.bodies import EnergyConserved
from xearth.data.loader import Windows
from xearth.data.sources import nbody
from xearth.data.sources.nbody import NBody, crop, generate, open_moving_mnist
from xearth.data.windows import Window
from xearth.errors import ConfigError, SourceError

FREE = NBody(law=None, masses=(1.0,), canvas=64, size=64, frames=8, every=1)


@pytest.mark.parametrize(("law", "power"), [("r0", -1), ("r1", -2), ("r2", -3)])
def test_two_bodies_attract_by_their_law(law, power):
    world = NBody(law=law, masses=(1.0, 4.0), gravity=2.0, softening=3.0)
    a = world.acceleration(np.array([[0.0, 0.0], [4.0, 0.0]]))
    np.testing.assert_allclose(a[0], [2.0 * 4.0 * 4.0 * 5.0**power, 0])  # |r|^2 + d^2 = 25
    np.testing.assert_allclose(np.array(world.masses) @ a, 0, atol=1e-12)  # no force from outside


def test_attraction_bends_every_path_and_keeps_the_momentum():
    at = np.array([[40.0, 40.0], [80.0, 45.0], [60.0, 80.0]])
    speed = np.array([[0.5, 0.0], [-0.3, 0.2], [0.1, -0.4]])
    sizes = np.full((3, 2), 12)
    path = NBody().move(at, speed, sizes, steps=10).astype(float)
    momentum = np.diff(path, axis=0).sum(1)
    np.testing.assert_allclose(momentum, np.tile(speed.sum(0), (9, 1)), atol=1e-4)
    free = NBody(law=None).move(at, speed, sizes, steps=10)
    assert np.abs(path[-1] - free[-1]).min() > 0.1


def test_free_digits_go_straight_and_turn_at_the_margin():
    path = FREE.move(np.array([[40.0, 20.0]]), np.array([[2.0, 0.5]]), np.array([[10, 8]]), steps=8)
    centers = path[:, 0, 0] + 5
    np.testing.assert_array_equal(centers, [45, 47, 49, 51, 53, 54, 52, 50])  # 64 - 10 is the wall
    np.testing.assert_array_equal(path[:, 0, 1], 20 + 0.5 * np.arange(8))


def test_a_digit_on_whole_pixels_is_copied_and_between_them_interpolated():
    digit = np.arange(1.0, 7).reshape(2, 3) * 40
    path = np.array([[[5, 9]], [[5.5, 9]]])
    whole, half = FREE.draw([digit], path)
    np.testing.assert_array_equal(whole[9:11, 5:8], digit)
    assert whole.sum() == half.sum() == digit.sum()
    np.testing.assert_allclose(half[9, 5:9], [20, 60, 100, 60])


def test_the_brighter_digit_covers():
    world = NBody(law=None, masses=(1.0, 1.0), canvas=64, size=64)
    faint, bright = np.full((4, 4), 90.0), np.full((4, 4), 200.0)
    (frame,) = world.draw([bright, faint], np.array([[[10, 10], [12, 10]]]))
    assert frame[10, 10:16].tolist() == [200, 200, 200, 200, 90, 90]


def test_resizing_is_the_bicubic_kernel():
    weights = nbody._cubic(64, 128)
    np.testing.assert_allclose(weights[10, 19:23], [-0.09375, 0.59375, 0.59375, -0.09375])
    np.testing.assert_allclose(nbody._cubic(50, 128).sum(1), 1)
    np.testing.assert_allclose(nbody._cubic(7, 7), np.eye(7), atol=1e-12)


def test_sequences_are_made_when_asked_for_and_always_the_same():
    da = generate(sequences=1000, seed=3)
    assert not da.variable._in_memory
    assert (da.dims, da.shape) == (("sequence", "time", "y", "x"), (1000, 20, 64, 64))
    one = da[700].load()
    assert one.dtype == np.float32
    assert 0 == one.min() < 0.8 < one.max() <= 1
    some = da.isel(sequence=[3, 700], time=slice(2, 9, 3), y=5)
    np.testing.assert_array_equal(some[1], one[2:9:3, 5])
    np.testing.assert_array_equal(generate(sequences=701, seed=3)[700], one)
    assert not np.array_equal(generate(sequences=701, seed=4)[700], one)
    assert da.isel(sequence=slice(0, 0), y=2).values.shape == (0, 20, 64)


def test_frames_are_every_fifth_step():
    bank = np.full((1, 28, 28), 255, np.uint8)
    frames = generate(NBody(), sequences=1, digits=bank)
    every = generate(NBody(frames=100, every=1), sequences=1, digits=bank)
    np.testing.assert_array_equal(frames[0], every[0, ::5])
    assert frames.time[3] == every.time[15]


def test_windows_of_it_are_batches():
    da = generate(NBody(frames=6), sequences=4, chunks={"sequence": 1})
    assert (discover(da).y, discover(da).x) == ("y", "x")
    windows = Windows(da, Window(history=3, horizon=3))
    assert len(windows) == 4
    batch = windows.batch([0, 3])
    assert batch.x.shape == (2, 3, 64, 64, 1)
    np.testing.assert_array_equal(batch.y[1, ..., 0].numpy()[:, ::-1], da[3, 3:])


def test_bad_input_teaches():
    with pytest.raises(ConfigError, match="law='r3'"):
        NBody(law="r3")
    with pytest.raises(ConfigError, match="half of the canvas"):
        NBody(margin=64)
    with pytest.raises(ConfigError, match="masses"):
        NBody(masses=())
    with pytest.raises(ConfigError, match="softening"):
        NBody(softening=0.0)
    with pytest.raises(ConfigError, match="frames=0"):
        NBody(frames=0)
    with pytest.raises(ConfigError, match="sequences=0"):
        generate(sequences=0)
    with pytest.raises(SourceError, match="reshape"):
        generate(digits=np.zeros((10, 784), "u1"))
    with pytest.raises(SourceError, match="not as fractions"):
        crop(np.full((28, 28), 1.0))


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    path = tmp_path_factory.mktemp("moving") / "mnist_test_seq.npy"
    frames = np.zeros((20, 1300, 8, 8), np.uint8)
    frames[:] = (np.arange(1300) % 251)[:, None, None]
    frames[:, :, 0, 0] = np.arange(20)[:, None]
    np.save(path, frames)
    return path


def test_moving_mnist_is_split_as_published(moving):
    parts = {s: open_moving_mnist(moving, split=s) for s in ("train", "validation", "test")}
    assert [da.sizes["sequence"] for da in parts.values()] == [270, 30, 1000]
    assert parts["test"].sequence.values.tolist() == list(range(300, 1300))
    both = np.concatenate([parts["train"].sequence, parts["validation"].sequence])
    assert sorted(both.tolist()) == list(range(300))
    # of scikit-learn 1.9: train_test_split(np.arange(300), test_size=0.1, random_state=123)
    assert parts["train"].sequence[:5].values.tolist() == [266, 127, 185, 144, 296]
    assert parts["validation"].sequence[:5].values.tolist() == [262, 114, 165, 278, 293]


def test_moving_mnist_stays_packed_and_on_the_file(moving):
    da = open_moving_mnist(moving, split="validation")
    assert not da.variable._in_memory
    assert da.dtype == np.uint8
    assert da.shape == (30, 20, 8, 8)
    np.testing.assert_array_equal(da[4, :, 0, 0], np.arange(20))
    assert da[4, 0, 3, 3] == da.sequence[4] % 251
    assert da.scale_factor == pytest.approx(1 / 255)


def test_moving_mnist_of_another_form_is_refused(tmp_path, moving):
    with pytest.raises(SourceError, match="Download"):
        open_moving_mnist(tmp_path / "none.npy")
    cut = tmp_path / "cut.npy"
    cut.write_bytes(moving.read_bytes()[:5000])
    with pytest.raises(SourceError, match="cannot be read"):
        open_moving_mnist(cut)
    np.save(cut, np.zeros((10, 20, 8, 8), "u1"))
    with pytest.raises(SourceError, match="Frames come first"):
        open_moving_mnist(cut)
    with pytest.raises(ConfigError, match="split='dev'"):
        open_moving_mnist(moving, split="dev")


def test_the_default_digits_are_those_of_the_sample():
    from xearth.data.sources import samples

    bank = samples.open("mnist_digits").image.values
    a = generate(sequences=2, seed=1)[1]
    b = generate(sequences=2, seed=1, digits=xr.DataArray(bank))[1]
    np.testing.assert_array_equal(a, b)


def test_trajectories_are_what_the_frames_show():
    world = NBody(masses=(1.0, 2.0), canvas=64, frames=6, every=2)
    shown, moved = (
        generate(world, sequences=2, seed=3),
        nbody.trajectories(world, sequences=2, seed=3),
    )
    assert moved["position"].dims == ("sequence", "time", "body", "axis")
    assert moved["time"].equals(shown["time"])
    bank = np.asarray(nbody.open_sample("mnist_digits")["image"])
    rng = np.random.default_rng((3, 1))
    chosen = [crop(bank[i]) for i in rng.integers(len(bank), size=2)]
    drawn = world.draw(chosen, moved["position"].values[1]) / np.float32(255)
    np.testing.assert_allclose(drawn, shown.values[1], atol=1e-5)
    every_step = nbody.trajectories(replace(world, every=1, frames=12), sequences=2, seed=3)
    steps = every_step["position"].diff("time").isel(time=slice(0, None, 2))
    np.testing.assert_allclose(steps.values, moved["velocity"].values, atol=1e-12)


def test_energy_of_slow_bodies_is_kept_where_they_do_not_meet_a_wall():
    world = NBody(masses=(1.0, 1.0), canvas=64, frames=5, every=1, speed=0.05, gravity=1e-4)
    rule = EnergyConserved(masses=(1.0, 1.0), gravity=1e-4, every=1)
    moved = nbody.trajectories(world, sequences=8, seed=1)
    turned = (abs(moved["velocity"].diff("time")) > 0.005).any(["time", "body", "axis"])
    holds = rule.check(moved)
    assert turned.any()
    assert not turned.all()
    assert holds.where(~turned, True).all()
    other = moved.assign(velocity=moved["velocity"] * (1 + moved["time"].dt.second / 2))
    assert not rule.check(other).any()
