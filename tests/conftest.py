"""What makes a run of the tests the same as the next one: clock, random numbers, examples."""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest

# A machine under load takes longer than any deadline; new examples are looked for by
# `pytest --hypothesis-profile default`.
hypothesis.settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("same")

# scoringrules compiles kernels for seconds wherever it finds numba; its plain ones tell the same.
with pytest.MonkeyPatch.context() as patch:
    patch.setitem(sys.modules, "numba", None)
    import scoringrules  # noqa: F401


def pytest_runtest_setup() -> None:
    """Start every test, and the fixtures it is the first to ask for, from the same seeds."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what libraries draw from
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.manual_seed(0)  # manual_seed keeps stacks: 1 ms


@pytest.fixture(autouse=True, scope="session")
def clock():
    """Stop the clock that dates histories: results of two seconds would differ."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xearth.cf.attrs.datetime", SimpleNamespace(now=lambda zone: moment))
        yield
