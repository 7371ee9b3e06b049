"""What a golden case came to: its largest errors and the verdict on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["DOUBLE_TOLERANCE", "TOLERANCE", "Result", "relative_error", "safely", "threads"]

TOLERANCE = 1e-4
# The stored values are float64 results rounded to float32. Where float32 arithmetic crosses a
# kink of an activation or divides by a tiny deviation, its gradients say nothing about the
# formulas; then the gradients are judged in float64, far more strictly.
DOUBLE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Result:
    """Largest errors of one case, relative to the largest reference value."""

    case: str
    output: float | None = None
    gradient: float | None = None
    parameters: float | None = None
    note: str = ""
    failed: bool = False
    in_double: float | None = None
    skipped: bool = False

    @property
    def worst(self) -> float:
        """The largest of the errors."""
        errors = [e for e in (self.output, self.gradient, self.parameters) if e is not None]
        return max(errors, default=float("inf"))

    @property
    def single(self) -> bool:
        """Whether all float32 errors are within the tolerance."""
        return not self.failed and self.worst <= TOLERANCE

    @property
    def ok(self) -> bool:
        """Whether the case passes, in float32 or, for its gradients only, in float64."""
        outputs = not self.failed and self.output is not None and self.output <= TOLERANCE
        double = self.in_double is not None and self.in_double <= DOUBLE_TOLERANCE
        return self.skipped or self.single or (outputs and double)

    @property
    def verdict(self) -> str:
        """``ok``, ``ok in float64``, ``skipped`` or ``FAIL``."""
        if self.skipped:
            return "skipped"
        if self.single:
            return "ok"
        return f"ok in float64 ({self.in_double:.1e})" if self.ok else "FAIL"

    def line(self) -> str:
        """Return ``case  output error  gradient error  verdict`` for the terminal."""
        return (
            f"{self.case:58} out {_number(self.output)}  grad {_number(self.gradient)}  "
            f"param {_number(self.parameters)}  {self.verdict}"
            f"{'  ' + self.note if self.note else ''}"
        )


def _number(error: float | None) -> str:
    return "   --  " if error is None else f"{error:.1e}"


def relative_error(found: Any, expected: Any) -> float:
    """Return max |found - expected| / max |expected|; inf for another shape or a NaN."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if a.shape != b.shape:
        return float("inf")
    if b.size == 0:
        return 0.0
    scale, worst = np.abs(b).max(), np.abs(a - b).max()
    if np.isnan(worst):
        return float("inf")
    return float(worst / scale) if scale > 0 else float(worst)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads: small tensors are slower with two than with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def safely(name: str, run: Callable[[], Result]) -> Result:
    try:
        return run()
    except Exception as error:  # one broken case must not hide the others
        return Result(name, note=f"{type(error).__name__}: {error}".splitlines()[0], failed=True)
