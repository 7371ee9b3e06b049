"""Each kind of condition alone: feasible, idempotent, nearest, apart, with gradients."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import LinearConstraint, brentq, isotonic_regression, minimize
from torch.autograd import gradcheck

from xearth.errors import ConstraintError, MissingDataError
from xearth.models.conditions.conservation import budget
from xearth.models.conditions.covariance import Diagonal, LowRank, Stationary
from xearth.models.conditions.evaluated import Evaluated
from xearth.models.conditions.extremes import Exceedance, Maximum, Quantile
from xearth.models.conditions.linear import Linear, blocks, points
from xearth.models.conditions.ordered import isotonic
from xearth.models.conditions.persistent import Persistent
from xearth.models.conditions.protocol import Condition, relative
from xearth.models.conditions.ranges import Range
from xearth.models.conditions.rows import Rows
from xearth.models.conditions.scaled import Scaled
from xearth.models.conditions.spectrum import SpectrumSlope
from xearth.models.conditions.transformed import Decibel, TransformedMean

from .conftest import SHAPE, areas, conditions, field, soft

KINDS, SOFT = conditions(), soft()
each = pytest.mark.parametrize("kind", list(KINDS))


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_projection_holds_and_stays(kind, dtype):
    condition, y = KINDS[kind], field(dtype=dtype)
    assert isinstance(condition, Condition)
    assert condition.exact
    held = condition.project(y)
    assert held.dtype == dtype
    assert float(relative(condition, held).max()) <= 1e-6
    torch.testing.assert_close(condition.project(held), held, equal_nan=True, rtol=1e-6, atol=1e-6)
    if kind != "total of the horizon":
        assert float(relative(condition, y).max()) > 1e-3


@each
def test_a_field_that_holds_costs_nothing_and_one_that_does_not_costs(kind):
    condition, y = KINDS[kind], field()
    held = condition.project(y)
    torch.testing.assert_close(condition.energy(held), torch.zeros(3).double(), atol=1e-12, rtol=0)
    if kind not in ("mask", "total of the horizon"):
        assert bool((condition.energy(y) > 1e-6).all())


@each
def test_samples_do_not_see_each_other(kind):
    condition, y = KINDS[kind], field(dtype=torch.float32)
    apart = torch.cat([condition.project(one[None]) for one in y])
    torch.testing.assert_close(condition.project(y), apart, equal_nan=True, rtol=1e-6, atol=1e-6)
    energies = torch.cat([condition.energy(one[None]) for one in y])
    torch.testing.assert_close(condition.energy(y), energies)


@pytest.mark.parametrize("kind", [k for k, c in KINDS.items() if c.convex and k != "mask"])
def test_a_convex_projection_is_the_nearest(kind):
    # <y - P(y), z - P(y)> <= 0 for each z that holds: necessary and sufficient
    condition, y = KINDS[kind], field()
    held = condition.project(y)
    others = condition.project(3 * field(40, seed=1))
    off, away = (y - held).flatten(1), (others[:, None] - held).flatten(2)
    inner = torch.einsum("nk,znk->zn", off, away)
    assert float(inner.max()) <= 1e-6 * float(off.norm() * away.norm(dim=-1).max())


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("mask", "total of the horizon")])
def test_missing_cells_without_weight_stay_missing(kind):
    y = field(dtype=torch.float32)
    y[:, :, 0, 0] = torch.nan
    held = KINDS[kind].project(y)
    assert bool(held[:, :, 0, 0].isnan().all())
    assert int(held.isnan().sum()) == 3 * 4 * 3
    filled = y.clone()
    filled[:, :, 0, 0] = 1.0
    expected = KINDS[kind].project(filled)
    expected[:, :, 0, 0] = torch.nan
    torch.testing.assert_close(held, expected, equal_nan=True)
    assert bool(KINDS[kind].energy(y).isfinite().all())


SUMS = [k for k, c in KINDS.items() if hasattr(c, "rows")]


@pytest.mark.parametrize("kind", SUMS)
def test_a_missing_cell_with_weight_is_refused(kind):
    y = field(1)
    y[0, :, 1, 1] = torch.nan
    with pytest.raises(MissingDataError, match="weight 0"):
        KINDS[kind].project(y)


@pytest.mark.parametrize("kind", [k for k in [*KINDS, *SOFT] if k != "mask"])
def test_gradients_are_those_of_finite_differences(kind):
    condition = (KINDS | SOFT)[kind]
    shape = (2, *condition.shape) if kind == "spectrum" else (2, *SHAPE)
    draw = torch.Generator().manual_seed(3)
    y = 12 * torch.rand(shape, generator=draw, dtype=torch.float64) + 0.3
    direction = torch.randn(shape, generator=draw, dtype=torch.float64)

    def along(s):
        return condition.energy(y + s * direction)

    assert float(condition.energy(y).min()) > 0 or kind == "total of the horizon"
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert gradcheck(along, zero, eps=1e-6, atol=1e-5, rtol=1e-5)
    few = torch.rand(2, 2, dtype=torch.float64, generator=draw).requires_grad_()

    def corner(part):
        x = y.clone()
        x[:, 0, 1, 1:3, 0] = part
        return condition.energy(x)

    assert gradcheck(corner, few, eps=1e-6, atol=1e-5, rtol=1e-4)


def test_soft_kinds_name_the_alternative():
    y = field()
    for condition in (SOFT["gauges"], Evaluated(lambda x: x.flatten(1)[:, :1], lower=3.0)):
        assert not condition.exact
        with pytest.raises(ConstraintError, match="guidance"):
            condition.project(y)
    with pytest.raises(ConstraintError, match="guidance"):
        SOFT["spectrum"].project(torch.zeros(1, 4, 16, 20, 1))


def dense(rows: Rows) -> np.ndarray:
    return rows.matrix().to_dense().numpy()


@pytest.mark.parametrize("seed", range(8))
def test_overlapping_intervals_agree_with_a_general_solver(seed):
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(4, 1, 3, 3, 1, generator=draw, dtype=torch.float64) - 0.3
    rows = Rows.from_matrix(weights)
    y = torch.randn(1, 1, 3, 3, 1, generator=draw, dtype=torch.float64)
    lower = torch.tensor([0.5, -torch.inf, 1.0, -0.1], dtype=torch.float64)
    upper = torch.tensor([0.5, 0.2, torch.inf, 0.1], dtype=torch.float64)
    variance = torch.rand(1, 3, 3, 1, generator=draw, dtype=torch.float64) + 0.2
    for covariance in (None, Diagonal(variance)):
        found = Linear(rows, lower=lower, upper=upper, covariance=covariance).project(y)
        v = np.ones(9) if covariance is None else variance.flatten().numpy()
        start = y.flatten().numpy()
        best = minimize(
            lambda x, v=v, start=start: 0.5 * np.sum((x - start) ** 2 / v),
            start,
            jac=lambda x, v=v, start=start: (x - start) / v,
            constraints=[
                LinearConstraint(dense(rows)[part], lower.numpy()[part], upper.numpy()[part])
                for part in (slice(0, 1), slice(1, 4))
            ],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(found.flatten(), best.x, atol=2e-6)


def test_many_dependent_sums_are_solved():
    # block means, their mean and conservation that follows from both: A A^T is singular
    draw = torch.Generator().manual_seed(0)
    y = torch.randn(2, 4, 4, 4, 1, generator=draw)
    w = torch.zeros(6, 4, 4, 4, 1, dtype=torch.float64)
    for t in range(4):
        w[t, t] = 1
    w[4], w[5, 0], w[5, 1] = 1, 1, -1
    upper = torch.tensor([1.0, 1.0, 1.0, 1.0, torch.inf, 0.0], dtype=torch.float64)
    lower = torch.tensor([-torch.inf] * 4 + [4.0, 0.0], dtype=torch.float64)
    held = Linear(Rows.from_matrix(w), lower=lower, upper=upper).project(y)
    torch.testing.assert_close(held.sum((2, 3, 4)), torch.ones(2, 4), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["stationary", "factors"])
def test_a_correction_spreads_as_kriging_does(kind):
    draw = torch.Generator().manual_seed(1)
    L = torch.randn(1, 4, 6, 1, 5, generator=draw, dtype=torch.float64)
    C = Stationary.gaussian(4, 6, length=1.0) if kind == "stationary" else LowRank(L)
    basis = torch.eye(24, dtype=torch.float64).reshape(24, 1, 4, 6, 1)
    full = C.apply(basis).reshape(24, 24)
    torch.testing.assert_close(full, full.mT)
    assert float(torch.linalg.eigvalsh(full).min()) > -1e-10
    y = torch.randn(2, 1, 4, 6, 1, generator=draw, dtype=torch.float64)
    at = torch.tensor([[0, 1, 1, 0], [0, 2, 5, 0]])
    values = torch.tensor([2.0, -1.0], dtype=torch.float64)
    gauges = points((1, 4, 6, 1), at, values)
    found = Linear(gauges.rows, lower=values, upper=values, covariance=C).project(y)
    A = gauges.weights.to_dense()
    gain = full @ A.mT @ torch.linalg.inv(A @ full @ A.mT)
    expected = y.flatten(1) + (values - y.flatten(1) @ A.mT) @ gain.mT
    torch.testing.assert_close(found.flatten(1), expected)


def test_rows_are_a_matrix_and_its_adjoint():
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(5, *SHAPE, generator=draw) * (torch.rand(5, *SHAPE, generator=draw) > 0.6)
    y, r = field(2), torch.randn(2, 5, generator=draw, dtype=torch.float64)
    for rows in (Rows.from_matrix(weights), Rows.over(areas(), frames=True), KINDS["budget"].rows):
        A = rows.matrix().to_dense()
        torch.testing.assert_close(rows.apply(y), y.flatten(1) @ A.mT)
        torch.testing.assert_close(rows.absolute(y), y.flatten(1).abs() @ A.abs().mT)
        q = r.repeat(1, 4)[:, : len(rows)]
        torch.testing.assert_close(rows.adjoint(q).flatten(1), q @ A)
    expected = torch.einsum("tc,thwc->tc", torch.ones(4, 3).double(), areas() * y[0]).flatten()
    torch.testing.assert_close(Rows.over(areas(), frames=True).apply(y)[0], expected)


def test_blocks_are_means_in_space_and_time():
    y, coarse = field(2), torch.rand(2, 2, 3, 1, 3, dtype=torch.float64)
    held = blocks(SHAPE, (2, 2, 5), coarse, weights=areas()).project(y)
    w = areas().expand(2, *SHAPE)

    def pooled(x):
        return x.reshape(2, 2, 2, 3, 2, 1, 5, 3).sum((2, 4, 6))

    torch.testing.assert_close(pooled(held * w) / pooled(w), coarse)


def test_scaling_keeps_dry_cells_and_refuses_a_dry_field():
    held = KINDS["scaled"].project(field())
    assert torch.equal(held == 0, field() == 0)
    with pytest.raises(ConstraintError, match=r"no factor makes 3\.5 of 0"):
        KINDS["scaled"].project(torch.zeros(1, *SHAPE))


small = Rows.over(torch.ones(1, 1, 6, 1), frames=True)


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_and_fractions_move_the_nearest_cells(seed):
    draw = torch.Generator().manual_seed(seed)
    y = torch.randn(1, 1, 1, 6, 1, generator=draw, dtype=torch.float64)
    level = 0.3
    cases = [
        Quantile(small, q=0.6, lower=level, upper=level),
        Quantile(small, q=0.25, lower=level),
        Exceedance(small, threshold=level, lower=0.5, upper=0.5),
        Exceedance(small, threshold=level, upper=0.2),
        Maximum(small, lower=1.4, upper=1.4),
    ]
    for condition in cases:
        goal = 1.4 if isinstance(condition, Maximum) else level
        # each cell stays, is put there, or just below
        ways = torch.tensor(list(product((0, 1, 2), repeat=6))).reshape(-1, 1, 1, 6, 1)
        z = torch.where(ways == 0, y, torch.where(ways == 1, goal, goal - 1e-7))
        held = condition.residual(z).abs().amax(-1) < 1e-6
        best = float((z - y)[held].flatten(1).norm(dim=1).min())
        assert float((condition.project(y) - y).norm()) == pytest.approx(best, abs=1e-5)


def test_quantiles_agree_with_numpy():
    y, q = field(2), 0.75
    keep = (areas()[0, :, :, 0] > 0).numpy()
    values = y.numpy()[:, :, keep]  # (N, T, cells, C)
    expected = np.quantile(values, q, axis=2, method="inverted_cdf").reshape(2, -1)
    np.testing.assert_allclose(KINDS["quantile"].measure(y), expected)


def test_a_transformed_mean_is_shifted_to_the_root():
    y = field(1)
    condition = TransformedMean(
        Rows.over(areas(), frames=False, channels=False).mean(),
        transform=Decibel(0.1),
        lower=5.0,
        upper=5.0,
    )
    w = condition.rows.matrix().to_dense().numpy()[0]
    x = y.flatten().numpy()
    wet = x > 0.1

    def mean(s):
        z = np.full_like(x, -10.0)
        z[wet] = np.maximum(10 * np.log10(x[wet]) + s, -10.0)
        return w @ z - 5.0

    shift = brentq(mean, -40, 40, xtol=1e-13)
    expected = np.where(wet, 10 ** (np.log10(np.where(wet, x, 1)) + shift / 10), x)
    keep = w > 0
    np.testing.assert_allclose(condition.project(y).flatten().numpy()[keep], expected[keep])
    with pytest.raises(ConstraintError, match="cannot hold"):
        condition.project(torch.zeros(1, *SHAPE))


@pytest.mark.parametrize("seed", range(5))
def test_isotonic_agrees_with_another_library(seed):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(6, 11)) * 10.0 ** rng.integers(-2, 5)
    y[rng.random(y.shape) < 0.2] = np.nan
    found = isotonic(torch.from_numpy(y)).numpy()
    for one, given in zip(found, y, strict=True):
        has = ~np.isnan(given)
        np.testing.assert_allclose(one[has], isotonic_regression(given[has]).x, rtol=1e-9)
        assert np.isnan(one[~has]).all()


def test_conserved_totals_and_closed_budgets():
    y = field()
    totals = torch.einsum("nthwc,thwc->ntc", KINDS["conservation"].project(y), areas())
    torch.testing.assert_close(totals, totals[:, :1].expand_as(totals))
    held = KINDS["budget"].project(y)
    S, P, R = torch.einsum("nthwc,thwc->ntc", held, areas()).unbind(-1)
    torch.testing.assert_close(S.diff(dim=1), 0.1 * P[:, 1:] - 0.1 * R[:, 1:])


def test_a_mask_is_restored_and_lost_cells_are_an_error():
    sea = KINDS["mask"]
    y = field()
    y[1, 2, 5, 4, 1] = torch.nan
    with pytest.raises(MissingDataError, match="1 cells are NaN"):
        sea.project(y)
    assert sea.measure(field()).flatten().tolist() == [24.0] * 3


def test_the_slope_of_a_power_law_is_measured():
    H = W = 128
    k = torch.hypot(
        *torch.meshgrid(*(torch.fft.fftfreq(n, 1 / n).double() for n in (H, W)), indexing="ij")
    )
    k[0, 0] = torch.inf
    noise = torch.randn(8, H, W, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.fft.ifft2(torch.fft.fft2(noise) * k ** (-1.5)).real[:, None, :, :, None]
    slope = SpectrumSlope((1, H, W, 1), band=(6, 48)).measure(y)
    assert float(slope.mean()) == pytest.approx(-3.0, abs=0.15)


BAD = {
    "lower <= upper": lambda: Linear(KINDS["mean"].rows, lower=2.0, upper=1.0),
    "NaN|lower <= upper": lambda: Linear(KINDS["mean"].rows, lower=float("nan")),
    "positive scale": lambda: Linear(KINDS["mean"].rows, lower=1.0, sd=0.0),
    "one bound, or one for each of 12": lambda: Linear(KINDS["mean"].rows, lower=torch.zeros(5)),
    "no valid cell": lambda: Rows.from_matrix(torch.zeros(1, *SHAPE)),
    "fraction from 0 to 1": lambda: Exceedance(small, threshold=1.0, lower=3.0),
    "q=1.5": lambda: Quantile(small, q=1.5, upper=1.0),
    "do not divide": lambda: blocks(SHAPE, (3, 2, 5), torch.zeros(1, 3, 1, 3)),
    "share no cells": lambda: Maximum(KINDS["conservation"].rows, upper=1.0),
    "two factors": lambda: Scaled(KINDS["conservation"].rows, upper=1.0),
    "bool mask": lambda: Persistent(torch.zeros(2, 2, dtype=torch.bool)),
    "three or more wave numbers": lambda: SpectrumSlope((1, 16, 16, 1), band=(7, 8), upper=0.0),
    "channels within": lambda: budget(areas(), storage=0, fluxes={5: 1.0}),
    "above inf": lambda: Range(lower=float("inf")),
    "at least 0": lambda: Diagonal(torch.tensor(-1.0)),
}


@pytest.mark.parametrize("message", list(BAD))
def test_what_cannot_be_is_refused_when_made(message):
    with pytest.raises(ConstraintError, match=message):
        BAD[message]()


def test_a_field_of_another_shape_is_refused():
    with pytest.raises(ConstraintError, match="made for fields"):
        KINDS["mean"].project(torch.zeros(1, 4, 6, 6, 3))
