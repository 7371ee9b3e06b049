from __future__ import annotations

import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch
import xarray as xr

from xearth.errors import CheckpointError
from xearth.forecasting.io import forecaster_of, load, save, shipped
from xearth.models.checkpoints import load_tensors, save_tensors


@pytest.fixture
def path(forecaster, tmp_path):
    return forecaster.save(tmp_path / "toy.safetensors")


def test_round_trip(field, forecaster, path):
    back = load(path)
    for name in ("config", "head", "normalizer", "window", "step", "season", "name"):
        assert getattr(back, name) == getattr(forecaster, name), name
    assert back.provenance == dict(forecaster.provenance)
    np.testing.assert_array_equal(back.required, forecaster.required)
    back.grid.align(forecaster.grid)
    for ours, theirs in zip(back.states, forecaster.states, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    xr.testing.assert_equal(
        back.forecast(field, members=3, seed=2), forecaster.forecast(field, members=3, seed=2)
    )
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_file_can_be_read_without_us(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["xearth"])
    assert facts["normalizer"]["units"] == ["K"]
    assert facts["window"] == {"history": 3, "horizon": 2, "gap": 0}
    assert facts["provenance"]["training_period"] == "2000-01/2003-12"


def test_half_precision_halves_the_file(field, forecaster, path, tmp_path):
    small = save(forecaster, tmp_path / "half.safetensors", dtype="float16")
    assert small.stat().st_size < 0.75 * path.stat().st_size
    np.testing.assert_allclose(
        load(small).forecast(field).values, forecaster.forecast(field).values, atol=0.01
    )


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="truncated"):
        load(path)


def test_pickles_are_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "trap.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load(path)
    torch.save({"w": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load(path)
    assert not (tmp_path / "sprung").exists()


def test_foreign_safetensors(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_tensors(path, {"w": torch.zeros(2)}, {"kind": "Autoencoder", "format": 1})
    with pytest.raises(CheckpointError, match=r"expected a NetworkForecaster.*'Autoencoder'"):
        load(path)
    save_tensors(path, {"w": torch.zeros(2)}, {"kind": "NetworkForecaster", "format": 99})
    with pytest.raises(CheckpointError, match="format 99"):
        load(path)


def edited(path, change, drop=()):
    tensors, facts = load_tensors(path)
    change(facts)
    kept = {name: tensor for name, tensor in tensors.items() if name not in drop}
    return save_tensors(path, kept, facts)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda facts: facts.pop("grid"), "KeyError 'grid'"),
        (lambda facts: facts["config"].update(depth=3), "depth"),
        (lambda facts: facts.update(model="Unknown"), "EarthformerConfig"),
        (lambda facts: facts["head"].update(kind="flow"), "flow"),
        (lambda facts: facts["window"].update(history=4), "input_shape"),
        (lambda facts: facts["normalizer"].update(scale=[0.0]), "positive scales"),
        (lambda facts: facts.update(networks=1), "IndexError"),
        (lambda facts: facts.update(networks=3), "network 2"),
    ],
)
def test_damaged_metadata(path, change, match):
    edited(path, change)
    with pytest.raises(CheckpointError, match=match):
        load(path)


def test_missing_weights(path):
    name = "network.1.dec_final_proj.bias"
    edited(path, lambda facts: None, drop=[name])
    with pytest.raises(CheckpointError, match=r"network 1 do not fit.*'dec_final_proj.bias'"):
        load(path)


def test_unknown_name_lists_the_shipped_ones():
    with pytest.raises(CheckpointError, match=f"enso-huge.*{shipped()[0]}"):
        load("enso-huge")


def test_saving_needs_a_folder_and_leaves_nothing(forecaster, tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        forecaster.save(tmp_path / "absent" / "toy.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_forecaster_of(forecaster, path):
    assert forecaster_of(forecaster) is forecaster
    assert forecaster_of(str(path)).name == "toy"
