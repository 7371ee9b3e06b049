"""A sample of the golden vectors of published evaluators, and the runner that judges them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

SAMPLE = Path(__file__).parent / "protocols"
CI = Path(__file__).parents[2] / "ci"
sys.path.insert(0, str(CI))

import golden_protocols  # noqa: E402
import golden_result  # noqa: E402
import golden_vectors  # noqa: E402

SEVIR = json.loads((SAMPLE / "sevir_skill.json").read_text())
NAMES = [f"sevir_skill/{name}" for name in [*SEVIR["results"], "one batch"]]


@pytest.fixture(scope="module")
def results() -> dict[str, golden_result.Result]:
    return {r.case: r for r in golden_protocols.sevir(SAMPLE, SEVIR)}


@pytest.mark.parametrize("name", NAMES)
def test_sevir(results, name):
    assert set(results) == set(NAMES)
    assert results[name].ok, results[name].line()
    assert results[name].output < golden_protocols.RATIO


def test_enso_scores():
    index = json.loads((SAMPLE / "enso_and_data.json").read_text())
    found = {r.case: r for r in golden_protocols.enso(SAMPLE, index)}
    exact = {"enso/12 leads", "enso/24 leads", "enso/weights", "enso/fields of 26 months"}
    exact.add("enso/fields of 14 months")
    whole = {case for case, r in found.items() if case[:5] != "enso/" and not r.skipped}
    assert {case for case, r in found.items() if r.skipped} == {"windows/(40, 2, 4, 12, 4, 7)"}
    assert len(whole) == 10
    assert all(r.ok for r in found.values())
    assert set(found) > exact | whole | {"enso/box and smoothing"}
    assert all(found[case].output < golden_protocols.RATIO for case in exact)
    assert all(found[case].output == 0 for case in whole)


def test_groups_are_found_by_their_files():
    found = {g.path.name: g.runner for g in golden_vectors.groups(SAMPLE)}
    assert set(found) == {"sevir_skill.json", "enso_and_data.json"}
    assert all(found.values())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda case: case["hits"].__setitem__(0, case["hits"][0] + 1), "hits"),
        (lambda case: case["scores"]["74"].__setitem__("pod", 0.5), "pod"),
        (lambda case: case["scores"]["avg"].__setitem__("csi", 0.5), "mean csi"),
    ],
)
def test_a_wrong_number_fails(tmp_path, change, what):
    name = "mode0_NTHWC_nanFalse"
    case = json.loads(json.dumps(SEVIR["results"][name]))
    change(case)
    shutil.copy(SAMPLE / "sevir_skill.npz", tmp_path)
    index = {key: SEVIR[key] for key in ("thresholds", "eps")} | {"results": {name: case}}
    first = next(golden_protocols.sevir(tmp_path, index))
    assert not first.ok
    assert f"{what}:" in first.note


def test_prediff_runs_its_evaluation_and_misses_no_network(tmp_path):
    rng = np.random.default_rng(0)
    ens, obs = rng.random((4, 2, 3, 3)), rng.random((2, 3, 3))
    absolute = np.abs(ens - obs).mean()
    between = np.mean([np.abs(a - b).mean() for a in ens for b in ens]) / 2
    means = {"crps_mean": absolute - between, "fair_mean": absolute - between * 4 / 3}
    np.savez(tmp_path / "eval_crps.npz", ens=ens, obs=obs, **means)
    cases = {"eval_crps": {"file": "eval_crps.npz"}, "unet_small": {"file": "unet_small.npz"}}
    (tmp_path / "index.json").write_text(json.dumps({"cases": cases}))
    (group,) = golden_vectors.groups(tmp_path)
    crps, network = group.results()
    assert crps.ok
    assert crps.output < golden_protocols.DOUBLE
    assert network.verdict == "FAIL"
    assert "unet_small.npz" in network.note
