"""Scores against the values of other libraries, entry by entry, and the runner that judges them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "verification"
CI = Path(__file__).parents[2] / "ci"


def _load(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, CI / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_load("golden_vectors")
golden = _load("golden_verification")
INDEX = json.loads((FOLDER / "index.json").read_text())


@pytest.fixture(scope="module")
def stored():
    return np.load(FOLDER / "inputs.npz"), dict(np.load(FOLDER / "values.npz"))


@pytest.mark.parametrize("record", INDEX["metrics"], ids=lambda record: record["metric"])
def test_entry_agrees_with_every_peer(record, stored):
    result = golden.run_entry(record, *stored)
    assert result.ok, result.line()


def test_a_wrong_value_is_found(stored):
    inputs, values = stored
    record = next(r for r in INDEX["metrics"] if r["metric"] == "brier")
    wrong = {key: value * (1 + 1e-5) for key, value in values.items()}
    result = golden.run_entry(record, inputs, wrong)
    assert not result.ok
    assert "differs from" in result.note


def test_an_unknown_entry_fails_and_does_not_hide_the_others(stored):
    record = INDEX["metrics"][0] | {"metric": "score_of_tomorrow"}
    assert not golden.run_entry(record, *stored).ok
    broken = INDEX["metrics"][0] | {"inputs": ["nothing_of_that_name"]}
    index = {"metrics": [broken, INDEX["metrics"][0]]}
    first, second = golden.verification(FOLDER, index)
    assert not first.ok
    assert second.ok
