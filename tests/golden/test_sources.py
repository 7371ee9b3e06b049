"""Golden vectors of data sources, and that their runners tell when something is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

SAMPLE = Path(__file__).parent / "sources"
sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

import golden_nbody  # noqa: E402
import golden_sevir  # noqa: E402
import golden_vectors  # noqa: E402


def test_every_case_passes():
    groups = golden_vectors.groups(SAMPLE)
    found = {group.path.name: list(group.results()) for group in groups}
    assert {name: len(results) for name, results in found.items()} == {
        "nbody.npz": 11,
        "sevir_preprocess.npz": 11,
    }
    results = [r for some in found.values() for r in some]
    assert all(r.ok for r in results), [r.line() for r in results]
    assert [r.case for r in results if r.skipped] == ["sevir_preprocess/avgpool_223_vil_NHWT"]
    assert golden_vectors.skipped(SAMPLE) == []


def test_windows_and_constants_of_sevir():
    index = {
        "sevir_sequences": {
            "sevir": {"raw_seq_len": 49, "seq_len": 25, "stride": 12, "starts": [0, 12, 24]},
            "sevir_lr": {"raw_seq_len": 25, "seq_len": 13, "stride": 6, "starts": [0, 6, 12]},
            "wrong": {"raw_seq_len": 49, "seq_len": 10, "stride": 20, "starts": [0, 40]},
        },
        "sevir_scale": {"scale": {"vil": 1 / 47.54}, "offset": {"vil": -33.44}},
    }
    assert [r.ok for r in golden_sevir.facts(index)] == [True, True, False, True]


@pytest.mark.parametrize(
    ("key", "case"),
    [("acc_r0", "acceleration"), ("affine_r0", "positions"), ("frames_r0", "frames")],
)
def test_a_wrong_number_fails(tmp_path, key, case):
    with np.load(SAMPLE / "nbody.npz") as archive:
        arrays = {k: archive[k] for k in archive.files}
    arrays[key] = arrays[key].copy()
    arrays[key][0, ..., -1] += 3
    np.savez(tmp_path / "nbody.npz", **arrays)
    results = {r.case: r.ok for r in golden_nbody.nbody(tmp_path / "nbody.npz")}
    assert not results[f"nbody/r0/{case}"]
    assert results[f"nbody/r1/{case}"]
