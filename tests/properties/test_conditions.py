"""Projections on convex sets are firmly nonexpansive, whatever the fields."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.models.conditions.conjunction import All
from xearth.models.conditions.extremes import Maximum
from xearth.models.conditions.linear import Linear
from xearth.models.conditions.ordered import Monotone, Ordering
from xearth.models.conditions.protocol import relative
from xearth.models.conditions.ranges import Range
from xearth.models.conditions.rows import Rows

SHAPE = (3, 2, 2, 2)
MEAN = Rows.over(torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)), frames=True).mean()
SETS = {
    "equal": Linear(MEAN, lower=1.0, upper=1.0),
    "between": Linear(MEAN, lower=-1.0, upper=0.5),
    "range": Range(lower=-2.0, upper=3.0),
    "mean and range": All([Linear(MEAN, lower=1.0, upper=1.0), Range(lower=0.0)]),
    "monotone": Monotone(),
    "falling": Monotone(sign=-1),
    "ordering": Ordering((1, 0)),
    "maximum": Maximum(MEAN, upper=1.5),
}
cells = st.lists(
    st.floats(-1e4, 1e4, allow_nan=False, width=32).filter(lambda v: v == 0 or abs(v) > 1e-6),
    min_size=24,
    max_size=24,
)


@given(st.sampled_from(sorted(SETS)), cells, cells)
@settings(max_examples=60, deadline=None)
def test_projections_are_firmly_nonexpansive(kind, first, second):
    condition = SETS[kind]
    x, y = (torch.tensor(v, dtype=torch.float64).reshape(1, *SHAPE) for v in (first, second))
    px, py = condition.project(x), condition.project(y)
    apart = (px - py).square().sum()
    inner = ((px - py) * (x - y)).sum()
    assert float(apart - inner) <= 1e-9 * float((x - y).square().sum() + 1)
    assert float(relative(condition, px)) <= 1e-9
    torch.testing.assert_close(condition.project(px), px, rtol=1e-9, atol=1e-8)
