"""Twelve kinds of conditions, alone and in pairs, held inside a sampler: ci/conditions_table.py.

    python ci/conditions_table.py --out docs/performance/conditions.rst

Sequences of a Gaussian law of mean 1 with an exact predictor are sampled with every projection inside; the table
has the largest relative residual of the fields, in float32, and of the pairs the time as well.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import torch
from gaussian_proof import Prior, matern
from torch import Tensor

from xearth.errors import ConstraintError
from xearth.models.conditions.conjunction import All
from xearth.models.conditions.conservation import conservation
from xearth.models.conditions.extremes import Exceedance, Maximum, Quantile
from xearth.models.conditions.linear import Linear, blocks, points
from xearth.models.conditions.ordered import Monotone, Ordering
from xearth.models.conditions.protocol import Condition, relative
from xearth.models.conditions.ranges import Range
from xearth.models.conditions.rows import Rows
from xearth.models.conditions.transformed import Log, TransformedMean
from xearth.models.prediff.guidance import ProjectionGuidance, guided
from xearth.models.prediff.process import Diffusion
from xearth.models.prediff.sampler import sample
from xearth.models.prediff.sampler_dpm import DPMSolver


def kinds(size: int) -> dict[str, Condition]:
    """Return twelve conditions on sequences (N, 2, size, size, 2) that hold together."""
    shape, half = (2, size, size, 2), size // 2
    ones = torch.ones(shape, dtype=torch.float64)
    frames = Rows.over(ones, frames=True)
    mean = frames.mean()
    coarse = torch.full((2, 4, 4, 2), 1.3, dtype=torch.float64)
    at = torch.tensor([[0, half, half, 0], [1, half, half, 1]])
    return {
        "mean": Linear(mean, lower=1.3, upper=1.3, name="mean"),
        "mean between": Linear(mean, lower=1.2, upper=1.4, name="mean between"),
        "blocks": blocks(shape, (1, size // 4, size // 4), coarse),
        "points": points(shape, at, torch.tensor([1.5, 2.5])),
        "range": Range(lower=-1.5, upper=4.0),
        "maximum": Maximum(frames, lower=3.0, upper=3.5, name="maximum"),
        "quantile": Quantile(frames, q=0.9, lower=2.4, upper=2.6),
        "exceedance": Exceedance(frames, threshold=2.0, lower=0.2, upper=0.25),
        "log mean": TransformedMean(mean, transform=Log(0.5), lower=0.3, upper=0.45),
        "monotone": Monotone(),
        "ordering": Ordering((0, 1)),
        "conservation": conservation(ones),
    }


def drawn(condition: Condition | None, size: int, steps: int) -> tuple[Tensor, float]:
    """Return two sequences that hold a condition and the seconds it took."""
    prior = Prior(torch.ones(size, size), matern(size).spectrum)
    guides = () if condition is None else (ProjectionGuidance(condition=condition),)
    draw = torch.Generator().manual_seed(0)
    begun = time.process_time()
    fields = sample(
        DPMSolver(steps=steps),
        Diffusion(),
        guided(prior, *guides),
        lambda _: torch.randn(2, 2, size, size, 2, generator=draw),
    )
    return fields, time.process_time() - begun


def cell(parts: list[Condition], size: int, steps: int) -> str:
    """Return the largest relative residual of what holds the parts, or how it was refused."""
    both = parts[0] if len(parts) == 1 else All(parts)
    try:
        fields, seconds = drawn(both, size, steps)
    except ConstraintError as error:
        print(" + ".join(part.name for part in parts), error, flush=True)
        return "refused"
    worst = max(float(relative(part, fields).max()) for part in parts)
    print(f"{both.name}: {worst:.0e}, {seconds:.1f} s", flush=True)
    return f"{worst:.0e}, {seconds:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    torch.set_num_threads(1)
    found = kinds(a.size)
    free = drawn(None, a.size, a.steps)[1]
    text = {(k,): cell([found[k]], a.size, a.steps) for k in found}
    for pair in itertools.combinations(found, 2):
        text[pair] = cell([found[k] for k in pair], a.size, a.steps)
    lines = [
        f"Twelve kinds alone (on the diagonal) and in pairs, projected on inside {a.steps} steps of",
        f"DPM-Solver++ of two sequences of two frames and two variables of {a.size} x {a.size} cells:",
        "largest relative residual in float32 and CPU seconds in all, where sampling without any",
        f"takes {free:.2f} s. ``python ci/conditions_table.py --out docs/performance/conditions.rst``",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "   :stub-columns: 1",
        "",
    ]
    rows = [["", *found]]
    for i, one in enumerate(found):
        cells = [text.get((two, one), "") if j < i else "" for j, two in enumerate(found)]
        cells[i] = text[(one,)]
        rows.append([one, *cells])
    for row in rows:
        lines += [f"   {'*' if i == 0 else ' '} - {c}".rstrip() for i, c in enumerate(row)]
    if a.out is not None:
        a.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
