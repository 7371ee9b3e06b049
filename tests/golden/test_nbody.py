"""The golden sequence of N-body MNIST, and that its runner tells when something is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

SAMPLE = Path(__file__).parent / "nbody"
sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

import golden_nbody  # noqa: E402
import golden_vectors  # noqa: E402


def test_every_case_passes():
    (group,) = golden_vectors.groups(SAMPLE)
    found = {r.case: r for r in group.results()}
    assert len(found) == 11
    assert all(r.ok for r in found.values()), [r.line() for r in found.values()]
    assert golden_vectors.skipped(SAMPLE) == []


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
