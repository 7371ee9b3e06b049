"""A sample of the golden vectors, and the runner that judges them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
SAMPLE = HERE / "earthformer"
CI = HERE.parents[1] / "ci"
sys.path.insert(0, str(CI))

import golden_run as run  # noqa: E402
import golden_vectors as vectors  # noqa: E402

CASES = [
    (group.path.parent, kind, name, record)
    for kind, group in ((g.path.name, g) for g in vectors.groups(SAMPLE))
    for name, record in json.loads(group.path.read_text()).items()
]


@pytest.mark.parametrize(
    ("folder", "kind", "name", "record"), CASES, ids=[f"{c[1]}:{c[2]}" for c in CASES]
)
def test_case(folder, kind, name, record):
    (result,) = vectors.RUNNERS[kind](folder, {name: record})
    assert result.single, result.line()


def _one_case(folder: Path) -> Path:
    """Copy one small case to a folder of its own."""
    name = "modules/rmsnorm_partial"
    index = json.loads((SAMPLE / "index_layers.json").read_text())
    (folder / "modules").mkdir()
    shutil.copy(SAMPLE / index[name]["file"], folder / index[name]["file"])
    (folder / "index_layers.json").write_text(json.dumps({name: index[name]}))
    return folder / index[name]["file"]


def _main(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["ci/golden", *map(str, arguments)])
    return run.main()


def test_runner_passes_and_writes_a_table(tmp_path, monkeypatch, capsys):
    _one_case(tmp_path)
    table = tmp_path / "parity.rst"
    assert _main(monkeypatch, tmp_path, "--out", table) == 0
    assert "1 cases, 1 passed" in capsys.readouterr().out
    assert "* - modules/rmsnorm_partial" in table.read_text()


def test_runner_fails_on_a_wrong_number(tmp_path, monkeypatch, capsys):
    path = _one_case(tmp_path)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["out/0"] = arrays["out/0"] * np.float32(1.001)
    np.savez(path, **arrays)
    assert _main(monkeypatch, tmp_path) == 1
    assert "FAIL" in capsys.readouterr().out


def test_runner_fails_on_a_wrong_gradient(tmp_path, monkeypatch, capsys):
    path = _one_case(tmp_path)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["grad/x"] = arrays["grad/x"] * np.float32(1.001)
    np.savez(path, **arrays)
    assert _main(monkeypatch, tmp_path) == 1
    assert "FAIL" in capsys.readouterr().out


def test_runner_fails_on_a_missing_file(tmp_path, monkeypatch, capsys):
    _one_case(tmp_path).unlink()
    assert _main(monkeypatch, tmp_path) == 1
    assert "no file" in capsys.readouterr().out


def test_runner_says_what_it_does_not_know(tmp_path, monkeypatch, capsys):
    (tmp_path / "index.json").write_text("{}")
    assert _main(monkeypatch, tmp_path) == 1
    assert "group not known to this version" in capsys.readouterr().out


def test_runner_says_that_it_skips_folders_without_an_index(tmp_path, monkeypatch, capsys):
    _one_case(tmp_path)
    (tmp_path / "metrics").mkdir()
    np.savez(tmp_path / "metrics" / "scores.npz", a=np.zeros(1))
    assert _main(monkeypatch, tmp_path) == 0
    assert "metrics: no index of cases" in capsys.readouterr().out


def test_runner_refuses_a_path_that_is_no_folder(tmp_path, monkeypatch):
    assert _main(monkeypatch, tmp_path / "nothing") == 2


def test_nothing_to_run_is_no_success(tmp_path, monkeypatch, capsys):
    assert _main(monkeypatch, tmp_path) == 1
    assert "nothing was run" in capsys.readouterr().out
