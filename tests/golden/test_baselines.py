"""Baselines against published implementations, and that the runner notices a difference."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "baselines" / "networks"
CI = Path(__file__).parents[2] / "ci"
sys.path.insert(0, str(CI))

import golden_baselines as golden  # noqa: E402
import golden_vectors as vectors  # noqa: E402

INDEX = json.loads((FOLDER / "index.json").read_text())


@pytest.mark.parametrize("name", INDEX)
def test_case(name):
    (result,) = golden.baselines(FOLDER, {name: INDEX[name]})
    assert not result.failed, result.line()
    # What Keras and torch computed in float32 is known to seven digits; the rest was in float64.
    single = name in ("unet_4level", "persistence")
    assert result.output < (2e-5 if single else 1e-9), result.line()


def _copy(folder: Path, name: str) -> dict[str, np.ndarray]:
    record = INDEX[name]
    (folder / "index.json").write_text(json.dumps({name: record}))
    shutil.copy(FOLDER / record["file"], folder / record["file"])
    with np.load(FOLDER / record["file"]) as archive:
        return dict(archive)


def test_the_folder_is_recognized_by_what_its_records_hold(tmp_path):
    _copy(tmp_path, "persistence")
    (group,) = vectors.groups(tmp_path)
    (result,) = group.results()
    assert result.ok


@pytest.mark.parametrize("array", ["y_train", "loss_test", "x_patched", "sd/adapter.weight"])
def test_a_wrong_number_is_noticed(tmp_path, array):
    arrays = _copy(tmp_path, "predrnn_v2_rss")
    arrays[array] = arrays[array] * np.float32(1.001)
    if array == "sd/adapter.weight":  # the loss does not see its scale
        arrays[array] = np.roll(arrays[array], 1, axis=1)
    np.savez(tmp_path / "predrnn_v2_rss.npz", **arrays)
    (result,) = golden.baselines(tmp_path, {"predrnn_v2_rss": INDEX["predrnn_v2_rss"]})
    assert not result.ok


def test_a_missing_weight_is_named(tmp_path):
    arrays = _copy(tmp_path, "predrnn_v2_rss")
    del arrays["sd/conv_last.weight"]
    np.savez(tmp_path / "predrnn_v2_rss.npz", **arrays)
    (result,) = golden.baselines(tmp_path, {"predrnn_v2_rss": INDEX["predrnn_v2_rss"]})
    assert result.failed
    assert "conv_last.weight" in result.note


def test_an_unknown_model_is_no_success(tmp_path):
    _copy(tmp_path, "persistence")
    record = {**INDEX["persistence"], "model": "Oracle"}
    (result,) = golden.baselines(tmp_path, {"persistence": record})
    assert result.failed
    assert "'Oracle' is not known" in result.note
