"""Conditions of different kinds at once: all pairs hold, or are refused by name."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from scipy.optimize import LinearConstraint, minimize

from xearth.errors import ConstraintError
from xearth.models.conditions.conjunction import All
from xearth.models.conditions.conservation import conservation
from xearth.models.conditions.extremes import Exceedance
from xearth.models.conditions.linear import Linear
from xearth.models.conditions.ordered import Monotone, Ordering
from xearth.models.conditions.protocol import Condition, relative
from xearth.models.conditions.ranges import Range
from xearth.models.conditions.rows import Rows
from xearth.models.conditions.transformed import Decibel, TransformedMean

from .conftest import areas, conditions, field, means

KINDS = conditions()
#: What no field holds.
CONTRADICT = {
    ("mean", "mean between"),
    ("mean between", "blocks"),
    ("mean between", "scaled"),
    ("mean between", "log mean"),  # of at least 1.3 > log(3 + 0.5), against Jensen's inequality
}
#: What holds only with dry cells made wet, which both leave as they are.
DRY = {
    ("scaled", "decibel mean"),
    ("maximum", "decibel mean"),
    ("maximum at most", "decibel mean"),
    ("decibel mean", "log mean"),
}
PAIRS = list(combinations(KINDS, 2))


@pytest.mark.parametrize("pair", [p for p in PAIRS if p not in CONTRADICT | DRY], ids=" + ".join)
def test_pairs_hold_in_single_precision(pair):
    parts, y = [KINDS[kind] for kind in pair], field(1, dtype=torch.float32)
    both = All(parts)
    assert isinstance(both, Condition)
    held = both.project(y)
    assert held.dtype == torch.float32
    assert max(float(relative(part, held).max()) for part in parts) <= 1e-6
    energy = parts[0].energy(y) + parts[1].energy(y)
    torch.testing.assert_close(both.energy(y), energy)
    assert both.residual(y).shape == both.measure(y).shape == both.magnitude(y).shape


@pytest.mark.parametrize("order", [Monotone(), Ordering((0, 1))], ids=["monotone", "ordering"])
def test_a_transformed_mean_holds_with_orders(order):
    y = torch.tensor([3.0, 1.0, 2.0, 2.0, 1.0, 2.0, 4.0, 3.0]).reshape(1, 2, 1, 2, 2)
    rows = Rows.over(torch.ones(y.shape[1:]), frames=True).mean()
    loud = TransformedMean(rows, transform=Decibel(0.1), lower=4.0, upper=4.0)
    held = All([loud, order]).project(y)
    assert max(float(relative(part, held).max()) for part in (loud, order)) <= 1e-6


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


def test_a_transformed_mean_beside_an_order_moves_no_more_than_a_general_solver():
    """In decibels both are linear: the nearest field there, by another route."""
    y = torch.tensor([3.0, 1.0, 2.0, 6.0, 4.0, 3.0], dtype=torch.float64).reshape(1, 3, 1, 2, 1)
    rows = Rows.over(torch.ones(y.shape[1:]), frames=True).mean()
    loud = TransformedMean(rows, transform=Decibel(0.1), lower=5.0, upper=5.0)
    held = All([loud, Monotone()]).project(y)
    start = loud.transform.forward(Monotone().project(y)).flatten().numpy()
    steps = torch.zeros(4, 3, 2, dtype=torch.float64)
    for i in range(4):
        steps[i, i // 2, i % 2], steps[i, i // 2 + 1, i % 2] = -1, 1
    best = minimize(
        lambda z: 0.5 * ((z - start) ** 2).sum(),
        start,
        jac=lambda z: z - start,
        constraints=[
            LinearConstraint(rows.matrix().to_dense().numpy(), 5.0, 5.0),
            LinearConstraint(steps.flatten(1).numpy(), 0.0, float("inf")),
        ],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    torch.testing.assert_close(
        loud.transform.forward(held).flatten(), torch.from_numpy(best.x), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("seed", range(4))
def test_sides_of_a_threshold_are_those_of_the_nearest_field(seed):
    """Of all choices of cells that exceed, beside an order, by trying each."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.rand(1, 2, 1, 4, 1, generator=draw, dtype=torch.float64) * 4
    frames = Rows.over(torch.ones(2, 1, 4, 1), frames=True)
    half = Exceedance(frames, threshold=2.0, lower=0.5, upper=0.5)
    held = All([half, Monotone()]).project(y)
    assert max(float(relative(part, held).max()) for part in (half, Monotone())) <= 1e-7
    best = torch.inf
    for wet in combinations(range(4), 2):  # the same cells in both frames, as none may fall
        over = torch.zeros(4, dtype=torch.bool)
        over[list(wet)] = True
        over = over.reshape(1, 1, 4, 1)
        low = torch.where(over, 2.0, -torch.inf)
        near = All([Range(lower=low, upper=torch.where(over, torch.inf, 2.0)), Monotone()]).project(
            y
        )
        best = min(best, float((near - y).norm()))
    found = float((held - y).norm())
    assert best - 1e-4 <= found <= 1.5 * best + 1e-4


def test_bounds_of_a_sum_that_is_given_elsewhere_do_not_contradict_it():
    y = torch.tensor([5.0, 3.0, 9.0, 7.0], dtype=torch.float64).reshape(1, 2, 1, 2, 1)
    rows = Rows.over(torch.ones(2, 1, 2, 1), frames=True).mean()
    given, within = Linear(rows, lower=0.3, upper=0.3), Linear(rows, lower=0.2, upper=0.4)
    torch.testing.assert_close(All([given, within]).project(y), given.project(y))
    same = conservation(torch.ones(2, 1, 2, 1))
    held = All([within, same]).project(y)  # both frames at the upper bound are the nearest
    torch.testing.assert_close(held, Linear(rows, lower=0.4, upper=0.4).project(y))


def test_what_no_choice_of_cells_holds_is_refused_by_name():
    frames = Rows.over(torch.ones(2, 1, 4, 1), frames=True)
    share = torch.tensor([0.75, 0.25])  # fewer exceed later, though none may fall
    fewer = Exceedance(frames, threshold=2.0, lower=share, upper=share)
    with pytest.raises(ConstraintError, match=r"^Exceedance and Monotone: no field"):
        All([fewer, Monotone()]).project(torch.rand(1, 2, 1, 4, 1))


def test_a_field_is_found_unless_dry_cells_would_have_to_be_wet():
    """With the part d of the area dry, at -10 dB, the others are at (4.5 + 10 d) / (1 - d) dB.

    By Jensen's inequality their mean is at least that level as a rate, so is their maximum, and
    their mean logarithm at least that of this rate: in the driest frame by itself, as in all.
    """
    y, rows = field(1), means()
    dry = (rows.weights * (rows.gather(y)[0] <= 0.1)).sum(-1)
    wet = 10 ** ((4.5 + 10 * dry) / (1 - dry) / 10)
    worst = int(dry.argmax())
    assert ((1 - dry) * wet)[worst] > 3.5
    assert wet[worst] > 8.5
    assert ((1 - dry) * (wet + 0.5).log() + dry * math.log(0.5))[worst] > 1.4
    with pytest.raises(ConstraintError, match="made wet"):
        All([KINDS["maximum"], KINDS["decibel mean"]]).project(y)
    frame, channel = divmod(worst, y.shape[-1])
    one = (slice(frame, frame + 1), slice(None), slice(None), slice(channel, channel + 1))
    mean = Rows.over(areas()[one], frames=True).mean()
    for pair in sorted(DRY):
        parts = [replace(KINDS[kind], rows=mean) for kind in pair]
        with pytest.raises(ConstraintError, match="made wet"):
            All(parts).project(y[:, *one])


def test_two_that_contradict_are_named_among_others():
    low = Range(upper=2.0, name="dry")
    parts = [KINDS["ordering"], KINDS["monotone"], KINDS["mean"], low]
    with pytest.raises(ConstraintError, match=r"mean and dry: 3\.5 cannot hold with the range"):
        All(parts).project(field(1))
    signs = torch.tensor([1.0, -1]).reshape(1, 2, 1, 1, 1).expand(1, 2, 1, 2, 1)
    falling = Linear(Rows.from_matrix(signs), lower=1.0, name="falling total")
    with pytest.raises(ConstraintError, match="falling total and Monotone contradict each other"):
        All([KINDS["range"], falling, KINDS["monotone"]]).project(torch.ones(1, 2, 1, 2, 1))


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
