"""Conditions of different kinds at once: all pairs hold, or are refused by name."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from scipy.optimize import LinearConstraint, minimize

from xearth.errors import ConstraintError
from xearth.models.conditions.conjunction import All
from xearth.models.conditions.linear import Linear
from xearth.models.conditions.ordered import Monotone
from xearth.models.conditions.protocol import Condition, relative
from xearth.models.conditions.ranges import Range
from xearth.models.conditions.rows import Rows

from .conftest import areas, conditions, field, means

KINDS = conditions()
#: What no field holds.
CONTRADICT = {("mean", "mean between"), ("mean between", "blocks"), ("mean between", "scaled")}
#: What projecting in turn does not reach: not convex, and it pulls to and fro.
APART = {
    ("mean", "decibel mean"),
    ("mean between", "decibel mean"),
    ("blocks", "decibel mean"),
    ("blocks", "log mean"),
    ("points", "quantile"),
    ("scaled", "decibel mean"),
    ("scaled", "log mean"),
    ("scaled", "monotone"),
    ("scaled", "ordering"),
    ("maximum", "decibel mean"),
    ("maximum at most", "decibel mean"),
    ("exceedance", "monotone"),
    ("exceedance", "ordering"),
    ("log mean", "conservation"),
    ("log mean", "budget"),
    ("decibel mean", "log mean"),
    ("decibel mean", "monotone"),
    ("decibel mean", "ordering"),
    ("decibel mean", "conservation"),
    ("decibel mean", "budget"),
}
PAIRS = list(combinations(KINDS, 2))


@pytest.mark.parametrize("pair", [p for p in PAIRS if p not in CONTRADICT | APART], ids=" + ".join)
def test_pairs_hold_in_single_precision(pair):
    parts, y = [KINDS[kind] for kind in pair], field(2, dtype=torch.float32)
    both = All(parts)
    assert isinstance(both, Condition)
    held = both.project(y)
    assert held.dtype == torch.float32
    assert max(float(relative(part, held).max()) for part in parts) <= 1e-6
    energy = parts[0].energy(y) + parts[1].energy(y)
    torch.testing.assert_close(both.energy(y), energy)
    assert both.residual(y).shape == both.measure(y).shape == both.magnitude(y).shape


CONVEX = [p for p in PAIRS if p not in CONTRADICT and all(KINDS[k].convex for k in p)]


@pytest.mark.parametrize("pair", [p for p in CONVEX if "mask" not in p][::3], ids=" + ".join)
def test_pairs_of_convex_ones_are_the_nearest(pair):
    y = field(1)
    both = All([KINDS[kind] for kind in pair])
    held, others = both.project(y), both.project(3 * field(3, seed=1))
    off, away = (y - held).flatten(1), (others - held).flatten(1)
    assert float((away @ off[0]).max()) <= 1e-6 * float(off.norm() * away.norm(dim=1).max())


@pytest.mark.parametrize("pair", sorted(CONTRADICT), ids=" + ".join)
def test_what_cannot_hold_together_is_refused(pair):
    with pytest.raises(ConstraintError, match="contradict"):
        All([KINDS[kind] for kind in pair]).project(field(1))


def test_two_that_contradict_are_named_among_others():
    low = Range(upper=2.0, name="dry")
    parts = [KINDS["ordering"], KINDS["monotone"], KINDS["mean"], low]
    with pytest.raises(ConstraintError, match=r"mean and dry: 3\.5 cannot hold with the range"):
        All(parts).project(field(1))
    rising = Linear(
        Rows.from_matrix(areas()[None] * torch.tensor([1.0, -1, 0, 0]).reshape(1, 4, 1, 1, 1)),
        lower=1.0,
        name="falling total",
    )
    with pytest.raises(ConstraintError, match="falling total and Monotone contradict each other"):
        All([KINDS["range"], rising, KINDS["monotone"]]).project(field(1))


@pytest.mark.parametrize("seed", range(3))
def test_three_kinds_agree_with_a_general_solver(seed):
    draw = torch.Generator().manual_seed(seed)
    y = torch.randn(1, 3, 1, 3, 1, generator=draw, dtype=torch.float64) * 2
    rows = Rows.from_matrix(torch.rand(2, 3, 1, 3, 1, generator=draw, dtype=torch.float64)).mean()
    parts = [Linear(rows, lower=0.6, upper=0.8), Range(lower=0.0, upper=3.0), Monotone()]
    found = All(parts).project(y)
    steps = torch.zeros(6, 3, 3, dtype=torch.float64)
    for i in range(6):
        steps[i, i // 3, i % 3], steps[i, i // 3 + 1, i % 3] = -1, 1
    start = y.flatten().numpy()
    best = minimize(
        lambda x: 0.5 * ((x - start) ** 2).sum(),
        start,
        jac=lambda x: x - start,
        bounds=[(0, 3)] * 9,
        constraints=[
            LinearConstraint(rows.matrix().to_dense().numpy(), 0.6, 0.8),
            LinearConstraint(steps.flatten(1).numpy(), 0.0, float("inf")),
        ],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    torch.testing.assert_close(found.flatten(), torch.from_numpy(best.x), atol=1e-5, rtol=0)


def test_mean_and_range_do_not_depend_on_the_batch():
    both = All([Linear(means(), lower=3.5, upper=3.5), Range(lower=0.0, upper=20.0)])
    y = field(4, dtype=torch.float32)
    apart = torch.cat([both.project(one[None]) for one in y])
    assert torch.equal(both.project(y), apart)


def test_all_of_none_is_refused():
    with pytest.raises(ConstraintError, match="at least one"):
        All([])
