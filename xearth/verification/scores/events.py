"""Probabilities of events, and what is summed by classes of probability.

An event comes from an ensemble and a threshold (:class:`EnsembleEvent`), or forecast and truth
are a probability and an outcome already (:class:`GivenEvent`). Both give the same terms, so that
every score of probabilities is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from ...errors import ConfigError
from ..block import Array, Block
from ..statistics import Mean, Term, known
from ..thresholds import Op, Thresholds

__all__ = ["Binned", "Classes", "EnsembleEvent", "EventSource", "GivenEvent", "binned"]


@dataclass(frozen=True)
class EnsembleEvent:
    """Events at thresholds, forecast by the fraction of the known members that have them.

    Parameters
    ----------
    thresholds : Thresholds
        In the units of the forecast.
    op : {">=", ">"}
    """

    thresholds: Thresholds
    op: Op = ">="
    dims = ("threshold",)

    @property
    def name(self) -> str:
        """What tells statistics of different events apart."""
        return f"{self.op}{','.join(map(repr, self.thresholds.values))}"

    @property
    def coords(self) -> dict[str, Any]:
        """Labels of the thresholds."""
        return {"threshold": self.thresholds.coord().threshold.variable}

    def _at(self, values: Array) -> list[Array]:
        compare = np.greater_equal if self.op == ">=" else np.greater
        return [compare(values, threshold) for threshold in self.thresholds.values]

    def probability(self, block: Block) -> Array:
        """Return the fraction of members with the event (n, S, K)."""
        count = np.maximum(block.count, 1)
        at = [(event & block.known).sum(axis=0) / count for event in self._at(block.members)]
        return np.stack(at, axis=-1)

    def outcome(self, block: Block) -> Array:
        """Return 1 where the event happened, else 0 (n, S, K)."""
        return np.stack(self._at(block.truth), axis=-1).astype(np.float64)


@dataclass(frozen=True)
class GivenEvent:
    """A forecast that is a probability, and a truth that is 0 or 1."""

    dims = ()
    name = "given"

    @property
    def coords(self) -> dict[str, Any]:
        """Nothing to label."""
        return {}

    def probability(self, block: Block) -> Array:
        """Return the probability (n, S)."""
        return np.asarray(block.members[0])

    def outcome(self, block: Block) -> Array:
        """Return the outcome (n, S)."""
        return np.asarray(block.truth)


EventSource = EnsembleEvent | GivenEvent


@dataclass(frozen=True)
class Classes:
    """Classes of probability, each from its edge to the next, the last one closed.

    Parameters
    ----------
    edges : tuple of float
        Lower edge of each class but the first, ascending in 0 .. 1.
    labels : tuple of float
        A probability that stands for each class.
    least : tuple of float
        The lowest probability of each class.
    """

    edges: tuple[float, ...]
    labels: tuple[float, ...]
    least: tuple[float, ...]

    @classmethod
    def of_members(cls, members: int) -> Classes:
        """Return one class for each number of members: k of M is not spread over two classes.

        Examples
        --------
        >>> Classes.of_members(2).labels
        (0.0, 0.5, 1.0)
        """
        edges = tuple((k + 0.5) / members for k in range(members))
        labels = tuple(k / members for k in range(members + 1))
        return cls(edges, labels, labels)

    @classmethod
    def between(cls, edges: tuple[float, ...]) -> Classes:
        """Return the classes between edges from 0 to 1, labeled by their middle.

        Raises
        ------
        ConfigError
            Edges that do not ascend from 0 to 1.

        Examples
        --------
        >>> Classes.between((0.0, 0.5, 1.0)).labels
        (0.25, 0.75)
        """
        ascending = all(a < b for a, b in pairwise(edges))
        if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or not ascending:
            raise ConfigError(
                f"classes of probability need ascending edges from 0 to 1; found {edges}. Give "
                "for example bins=10, or bins=[0, 0.05, 0.5, 1]."
            )
        middle = tuple((a + b) / 2 for a, b in pairwise(edges))
        return cls(tuple(edges[1:-1]), middle, tuple(edges[:-1]))

    @property
    def name(self) -> str:
        """What tells statistics of different classes apart."""
        return ",".join(map(repr, self.edges))

    def coords(self) -> Mapping[str, Any]:
        """Labels of the dimension ``probability_class``."""
        attrs = {"long_name": "class of forecast probability", "units": "1"}
        return {"probability_class": xr.Variable("probability_class", list(self.labels), attrs)}

    def index(self, probability: Array) -> Array:
        """Return the class of each probability."""
        return np.searchsorted(np.asarray(self.edges), probability, side="right")


#: A class for each point (n, S, ...), and what is summed in it, A arrays of that shape.
Sorted = tuple[Array, tuple[Array, ...]]


@dataclass(frozen=True)
class Binned(Mean):
    """The weighted mean of terms, each point in one class: (..., class, amount).

    The same numbers as a :class:`~xearth.verification.statistics.Mean` of a term that is zero in
    all classes but one, without that term.

    Parameters
    ----------
    sort : callable
        Block to the class of each point and what is summed.
    classes : int
    """

    sort: Callable[[Block], Sorted] = field(default=lambda block: (block.count, ()), compare=False)
    classes: int = 1

    def observe(self, block: Block, weights: Array) -> dict[str, Array]:
        """Return the state of every case: sum (n, R, ..., class, A) and weight (n, R)."""
        valid = self.valid(block)
        index, amounts = self.sort(block)
        cases, cells, *kinds = index.shape
        ones = (1,) * len(kinds)
        groups = cases * int(np.prod(kinds, dtype=int))
        size, group = groups * self.classes, np.arange(groups).reshape(cases, 1, *kinds)
        # points that do not count go to a class of their own, behind the others
        inside = valid.reshape(cases, cells, *ones)
        flat = np.where(inside, group * self.classes + index, size).ravel()
        rows = []
        for row in weights:
            share = row.reshape(1, cells, *ones)
            sums = [np.bincount(flat, (a * share).ravel(), size + 1)[:size] for a in amounts]
            rows.append(np.stack(sums, axis=-1).reshape(cases, *kinds, self.classes, len(sums)))
        weight = valid.astype(np.float64) @ weights.T
        return {"sum": np.stack(rows, axis=1), "weight": weight}

    def observe_cells(self, block: Block) -> dict[str, Array]:
        """Return the state of every cell over the cases: (S, ..., class, A)."""
        turned = Block(
            np.swapaxes(block.members, 1, 2),
            block.truth.T,
            None if block.climatology is None else block.climatology.T,
        )
        state = self.observe(turned, np.ones((1, turned.truth.shape[1])))
        return {name: part[:, 0] for name, part in state.items()}


def binned(
    name: str,
    sort: Callable[[Block], Sorted],
    classes: int,
    *,
    dims: tuple[str, ...],
    valid: Term = known,
) -> Binned:
    """Return a statistic by classes; parameters as in :class:`Binned`."""

    def term(block: Block) -> Array:
        index, amounts = sort(block)
        own = index[..., None, None] == np.arange(classes)[:, None]
        return np.where(own, np.stack(amounts, axis=-1)[..., None, :], 0.0)

    return Binned(name, term, valid, dims, sort, classes)
