"""E3D-LSTM and Rainformer against published implementations; PhyDNet and SimVP have small twins.

The vectors of PhyDNet and SimVP are too large for a sample: tests/unit/models/baselines holds
second routes to their outputs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

SAMPLE = Path(__file__).parent / "baselines" / "physics"
sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

import golden_baselines  # noqa: E402

INDEX = json.loads((SAMPLE / "index.json").read_text())
# outputs of Rainformer are compared with its float32 run as well
LIMITS = {"e3d_lstm_fixed": 1e-10, "rainformer": 1e-5}


def _run(folder, name, **changes):
    record = {**INDEX[name], "kwargs": {**INDEX[name]["kwargs"], **changes}}
    (result,) = golden_baselines.baselines(folder, {name: record})
    return result


@pytest.mark.parametrize("name", LIMITS)
def test_case(name):
    result = _run(SAMPLE, name)
    assert not result.failed, result.line()
    assert result.output < LIMITS[name]


@pytest.mark.parametrize("array", ["y_scheduled", "loss_free", "sd/cells.1.conv_m.weight"])
def test_a_wrong_number_is_noticed(tmp_path, array):
    with np.load(SAMPLE / "e3d_lstm_fixed.npz") as archive:
        arrays = dict(archive)
    arrays[array] = arrays[array] * 1.01
    np.savez(tmp_path / "e3d_lstm_fixed.npz", **arrays)
    assert not _run(tmp_path, "e3d_lstm_fixed").ok


def test_the_old_memory_is_another_network():
    assert _run(SAMPLE, "e3d_lstm_fixed", update_memory=False).output > 1e-3


def test_what_only_the_published_network_can_do_is_named():
    result = _run(SAMPLE, "rainformer", layers=[2, 2, 4, 2])
    assert result.failed
    assert "layers=[2, 2, 4, 2] is not known" in result.note
