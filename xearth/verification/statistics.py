r"""Statistics that add: what a score accumulates, block by block, in any order.

A statistic turns a block of points into a *state*, a mapping of named arrays, and combines
states. Combining is associative and commutative, so that any chunking, order or number of
workers gives the same result: exactly for counts, to rounding for sums.

=============  ==================================================================================
:class:`Mean`     :math:`\sum w t` and :math:`\sum w` of a term :math:`t`
:class:`Count`    the number of points with an event, in 64-bit integers, unweighted
:class:`Moments`  :math:`\sum w`, the means of two terms and the sums of products of deviations
                  from them, combined as in Chan, Golub and LeVeque (1983, Am. Stat. 37, 242-247),
                  which loses no digits where the mean is large
=============  ==================================================================================

Shapes: a block has n cases of S cells; R rows of weights (R, S), one for each region, give a
state (n, R, ...). :meth:`observe_cells` adds over the cases instead and keeps the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from .block import Array, Block

__all__ = ["Count", "Mean", "Moments", "Parts", "Statistic", "Term", "known"]

Parts = Mapping[str, Array]
Term = Callable[[Block], Array]


def known(block: Block) -> Array:
    """Return the points that count: a truth and a member are there (n, S)."""
    return block.valid


def _weighted(values: Array, weights: Array) -> Array:
    """Sum (n, S, ...) over the cells for each row of weights (R, S): (n, R, ...)."""
    if values.ndim == 2:
        return np.asarray(values @ weights.T)
    return np.moveaxis(np.tensordot(weights, values, axes=(1, 1)), 0, 1)


def every(points: Array) -> bool:
    """Tell whether all points count, at a glance where one value stands for all."""
    if points.size and not any(points.strides):
        return bool(points[(0,) * points.ndim])
    return bool(points.all())


def _counted(valid: Array, weights: Array) -> Array:
    """Sum the weights of the points that count (n, S, ...): (n, R, ...)."""
    if valid.ndim == 2 and every(valid):
        return np.broadcast_to(weights.sum(axis=1), (len(valid), len(weights)))
    return _weighted(valid.astype(np.float64), weights)


def _bare(values: Array, valid: Array) -> Array:
    """Return the values with 0 where they do not count, in double precision."""
    if not every(valid):
        valid = valid.reshape(valid.shape + (1,) * (values.ndim - valid.ndim))
        values = np.where(valid, values, 0)
    return values.astype(np.float64, copy=False)


@dataclass(frozen=True)
class Mean:
    """The weighted mean of a term.

    Parameters
    ----------
    name : str
        Name of the state; statistics of equal name are the same and computed once.
    term : callable
        Block to (n, S) or (n, S, K).
    valid : callable
        Block to the points (n, S) that count.
    dims : tuple of str
        Names of the trailing axes of the term, such as ``("threshold",)``.
    """

    name: str
    term: Term = field(compare=False)
    valid: Term = field(default=known, compare=False)
    dims: tuple[str, ...] = ()
    parts = ("sum", "weight")

    def observe(self, block: Block, weights: Array) -> dict[str, Array]:
        """Return the state of every case: sum (n, R, ...) and weight (n, R)."""
        valid = self.valid(block)
        values = _bare(self.term(block), valid)
        return {
            "sum": _weighted(values, weights),
            "weight": _counted(valid, weights),
        }

    def observe_cells(self, block: Block) -> dict[str, Array]:
        """Return the state of every cell over the cases: sum (S, ...) and weight (S,)."""
        valid = self.valid(block)
        return {
            "sum": _bare(self.term(block), valid).sum(axis=0),
            "weight": valid.sum(axis=0, dtype=np.float64),
        }

    def combine(self, parts: Parts, axis: int) -> dict[str, Array]:
        """Combine the states along an axis that all parts have."""
        return {name: parts[name].sum(axis=axis) for name in self.parts}

    def result(self, parts: Parts) -> Array:
        """Return the mean; NaN where nothing was seen."""
        total, weight = parts["sum"], parts["weight"]
        weight = weight.reshape(weight.shape + (1,) * (total.ndim - weight.ndim))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(weight > 0, total / weight, np.nan)


@dataclass(frozen=True)
class Count:
    """The number of points with an event.

    Parameters
    ----------
    name : str
        Name of the state.
    term : callable
        Block to booleans or integers (n, S) or (n, S, K), zero where nothing counts.
    dims : tuple of str
        Names of the trailing axes of the term.
    """

    name: str
    term: Term = field(compare=False)
    dims: tuple[str, ...] = ()
    parts = ("count",)

    def observe(self, block: Block, weights: Array) -> dict[str, Array]:
        """Return the counts of every case (n, R, ...): points of positive weight."""
        events, inside = self.term(block), weights > 0
        if events.ndim == 2 and events.dtype == np.bool_ and every(events):
            number = np.array([np.count_nonzero(row) for row in inside])
            return {"count": np.broadcast_to(number, (len(events), len(inside)))}
        rows = [
            (events if row.all() else events[:, row]).sum(axis=1, dtype=np.int64) for row in inside
        ]
        return {"count": np.stack(rows, axis=1)}

    def observe_cells(self, block: Block) -> dict[str, Array]:
        """Return the counts of every cell over the cases (S, ...)."""
        return {"count": self.term(block).sum(axis=0, dtype=np.int64)}

    def combine(self, parts: Parts, axis: int) -> dict[str, Array]:
        """Combine the states along an axis."""
        return {"count": parts["count"].sum(axis=axis)}

    def result(self, parts: Parts) -> Array:
        """Return the counts."""
        return parts["count"]


@dataclass(frozen=True)
class Moments:
    """Means and products of deviations of two terms.

    Parameters
    ----------
    name : str
        Name of the state.
    x, y : callable
        Block to (n, S).
    valid : callable
        Block to the points (n, S) that count.
    """

    name: str
    x: Term = field(compare=False)
    y: Term = field(compare=False)
    valid: Term = field(default=known, compare=False)
    dims: tuple[str, ...] = field(default=(), init=False)
    parts = ("weight", "x", "y", "xx", "yy", "xy")

    def observe(self, block: Block, weights: Array) -> dict[str, Array]:
        """Return the state of every case (n, R)."""
        valid = self.valid(block)
        x, y = _bare(self.x(block), valid), _bare(self.y(block), valid)
        weight = _counted(valid, weights)
        return _moments((x, y), (valid, weight), lambda v: _weighted(v, weights), axis=1)

    def observe_cells(self, block: Block) -> dict[str, Array]:
        """Return the state of every cell over the cases (S,)."""
        valid = self.valid(block)
        x, y = _bare(self.x(block), valid), _bare(self.y(block), valid)
        weight = valid.sum(axis=0, dtype=np.float64)
        return _moments((x, y), (valid, weight), lambda v: v.sum(axis=0), axis=0)

    def combine(self, parts: Parts, axis: int) -> dict[str, Array]:
        """Combine the states along an axis."""
        weight = parts["weight"].sum(axis=axis)
        total = np.where(weight > 0, weight, 1.0)
        x = (parts["weight"] * parts["x"]).sum(axis=axis) / total
        y = (parts["weight"] * parts["y"]).sum(axis=axis) / total
        dx = parts["x"] - np.expand_dims(x, axis)
        dy = parts["y"] - np.expand_dims(y, axis)
        return {
            "weight": weight,
            "x": x,
            "y": y,
            "xx": (parts["xx"] + parts["weight"] * dx * dx).sum(axis=axis),
            "yy": (parts["yy"] + parts["weight"] * dy * dy).sum(axis=axis),
            "xy": (parts["xy"] + parts["weight"] * dx * dy).sum(axis=axis),
        }

    def result(self, parts: Parts) -> SimpleNamespace:
        """Return ``weight``, ``mean_x``, ``mean_y``, ``var_x``, ``var_y`` and ``cov``."""
        weight = np.where(parts["weight"] > 0, parts["weight"], np.nan)
        return SimpleNamespace(
            weight=parts["weight"],
            mean_x=np.where(parts["weight"] > 0, parts["x"], np.nan),
            mean_y=np.where(parts["weight"] > 0, parts["y"], np.nan),
            var_x=parts["xx"] / weight,
            var_y=parts["yy"] / weight,
            cov=parts["xy"] / weight,
        )


def _moments(
    terms: tuple[Array, Array],
    counted: tuple[Array, Array],
    add: Callable[[Array], Array],
    *,
    axis: int,
) -> dict[str, Array]:
    """Return the moments of x and y, computed around the plain mean so that no digit is lost.

    ``counted`` are the points that count and the sum of their weights.
    """
    (x, y), (valid, weight) = terms, counted
    whole = every(valid)
    number = np.maximum(x.shape[axis] if whole else valid.sum(axis=axis), 1)
    cx, cy = x.sum(axis=axis) / number, y.sum(axis=axis) / number
    dx, dy = x - np.expand_dims(cx, axis), y - np.expand_dims(cy, axis)
    if not whole:
        dx[~valid], dy[~valid] = 0.0, 0.0
    total = np.where(weight > 0, weight, 1.0)
    mx, my = add(dx) / total, add(dy) / total
    if axis == 1:  # one center for each case, one mean for each region
        cx, cy = cx[:, None], cy[:, None]
    xy = add(dx * dy) - weight * mx * my
    return {
        "weight": weight,
        "x": np.where(weight > 0, cx + mx, 0.0),
        "y": np.where(weight > 0, cy + my, 0.0),
        "xx": add(np.multiply(dx, dx, out=dx)) - weight * mx * mx,
        "yy": add(np.multiply(dy, dy, out=dy)) - weight * my * my,
        "xy": xy,
    }


Statistic = Mean | Count | Moments

#: What the finish of a score sees: the result of each of its statistics, by name.
Results = Mapping[str, Any]
