r"""States of single cases as columns that simply add, so that starts can be resampled.

A block bootstrap draws starts again and again; that is a matrix product where the score is a
formula of plain sums over starts. Sums and counts are that already. Moments
(:class:`~xearth.verification.statistics.Moments`) are not: around a fixed center :math:`c` they
become the sums :math:`w`, :math:`w (\bar x - c_x)`, :math:`S_{xx} + w (\bar x - c_x)^2` ..., from
totals of which means and products of deviations follow again. The center is near the mean, so
that no digits are lost. Averages of the scores of cases are sums of these scores; an index is one
value for each case, whose state is that of a block of one cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..block import Array
from ..score import Score
from ..statistics import Mean, Moments, Parts, Statistic, known
from .finish import area_of
from .index_scores import MEMBERS, TRUTH, index_block

__all__ = ["Columns", "by_group", "columns_of"]

Codes = npt.NDArray[np.int64]
CaseStates = Mapping[tuple[str, str], Parts]


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns that add over starts, and how a score follows from their totals.

    Parameters
    ----------
    values : array (I, G, R, K)
        Sums of each start for each group of cases and each region.
    score : Score
    layout : tuple of (Statistic, part, shape)
        What the columns are, in order.
    """

    values: Array
    score: Score
    layout: tuple[tuple[Statistic, str, tuple[int, ...]], ...]

    def finish(self, totals: Array, q: int = 0) -> Array:
        """Return one element of the score (...) of totals (..., G * R, K)."""
        lead = totals.shape[:-1]
        flat = totals.reshape(-1, totals.shape[-1])
        parts: dict[str, dict[str, Array]] = {}
        start = 0
        for statistic, part, shape in self.layout:
            stop = start + int(np.prod(shape, dtype=np.int64))
            piece = flat[:, start:stop].reshape(len(flat), *shape)
            parts.setdefault(statistic.name, {})[part] = piece
            start = stop
        results: dict[str, Any] = {}
        for statistic in dict.fromkeys(s for s, _, _ in self.layout):
            own = parts[statistic.name]
            if isinstance(statistic, Moments):
                own = _moments(own)
            results[statistic.name] = statistic.result(own)
        if self.score.over == "case":
            value = results[self.score.name]
        else:
            row = self.score.of or self.score
            value = np.asarray(row.finish(results), dtype=np.float64)
        return value.reshape(len(flat), -1)[:, q].reshape(lead)


def columns_of(score: Score, states: CaseStates, codes: Codes, size: int) -> Columns:
    """Return the columns of a score of cases.

    Parameters
    ----------
    score : Score
        Of all points, of cases or of an index; not of cells.
    states : mapping of (area, statistic) to parts (I, L, R, ...)
    codes : array (I, L)
        Group of each case; negative for a case that is left out.
    size : int
        Number of groups G.
    """
    if score.over == "index":
        own = _index_states(score, states, codes.shape)
    else:
        own = {s: dict(states["", s.name]) for s in score.statistics}
        if score.over == "case":
            own = _case_values(score, own)
    layout, columns = [], []
    for statistic, parts in own.items():
        linear = _centered(parts) if isinstance(statistic, Moments) else parts
        for part, values in linear.items():
            layout.append((statistic, part, values.shape[3:]))
            columns.append(values.reshape(*values.shape[:3], -1).astype(np.float64))
    values = by_group(np.concatenate(columns, axis=-1), codes, size)
    return Columns(values, score, tuple(layout))


def by_group(values: Array, codes: Codes, size: int) -> Array:
    """Add (I, L, R, K) over the leads of each group: (I, G, R, K)."""
    total = np.zeros((values.shape[0], size, *values.shape[2:]))
    starts = np.arange(values.shape[0])
    for lead in range(values.shape[1]):
        there = codes[:, lead] >= 0
        total[starts[there], codes[there, lead]] += values[there, lead]
    return total


def _case_values(score: Score, own: Mapping[Statistic, Parts]) -> dict[Statistic, Any]:
    """Return the scores of single cases as the state of their mean."""
    with np.errstate(invalid="ignore", divide="ignore"):
        results = {
            s.name: s.result({k: v.reshape(-1, *v.shape[2:]) for k, v in parts.items()})
            for s, parts in own.items()
        }
        values = np.asarray(score.finish(results), dtype=np.float64)
    shape = next(iter(next(iter(own.values())).values())).shape[:2]
    values = values.reshape(*shape, *values.shape[1:])
    there = ~np.isnan(values)
    state = {"sum": np.where(there, values, 0.0), "weight": there.astype(np.float64)}
    return {Mean(score.name, known): state}


def _index_states(
    score: Score, states: CaseStates, shape: tuple[int, ...]
) -> dict[Statistic, dict[str, Array]]:
    """Return the states of the area means of single cases (I, L, 1, ...)."""
    area, row = area_of(score), score.of or score
    flat = {
        s: s.result(
            {k: v[:, :, 0].reshape(-1, *v.shape[3:]) for k, v in states[area, s.name].items()}
        )
        for s in (MEMBERS, TRUTH)
    }
    line = index_block(flat[MEMBERS], flat[TRUTH])
    block = type(line)(np.moveaxis(line.members, 1, 2), np.moveaxis(line.truth, 0, 1))
    weights = np.ones((1, 1))
    return {
        s: {k: v.reshape(*shape, *v.shape[1:]) for k, v in s.observe(block, weights).items()}
        for s in row.statistics
    }


def _centered(parts: Parts) -> dict[str, Array]:
    """Return moments as sums around the mean of all cases, which goes along as a constant."""
    w = parts["weight"]
    total = np.maximum(w.sum((0, 1)), np.finfo(np.float64).tiny)
    cx, cy = ((w * parts[k]).sum((0, 1)) / total for k in ("x", "y"))
    dx, dy = parts["x"] - cx, parts["y"] - cy
    return {
        "weight": w,
        "x": w * dx,
        "y": w * dy,
        "xx": parts["xx"] + w * dx * dx,
        "yy": parts["yy"] + w * dy * dy,
        "xy": parts["xy"] + w * dx * dy,
        "one": np.ones_like(w),
        "center_x": np.broadcast_to(cx, w.shape),
        "center_y": np.broadcast_to(cy, w.shape),
    }


def _moments(sums: Parts) -> dict[str, Array]:
    """Return the parts of moments of totals of sums around a center."""
    w = sums["weight"]
    there = np.where(w > 0, w, 1.0)
    x, y = sums["x"] / there, sums["y"] / there
    return {
        "weight": w,
        "x": x + sums["center_x"] / sums["one"],
        "y": y + sums["center_y"] / sums["one"],
        "xx": np.maximum(sums["xx"] - w * x * x, 0.0),
        "yy": np.maximum(sums["yy"] - w * y * y, 0.0),
        "xy": sums["xy"] - w * x * y,
    }
