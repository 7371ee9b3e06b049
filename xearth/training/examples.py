"""What a trainer reads: samples by index, as tensors (N, T, H, W, C) with weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import Sampler

from ..models.heads import Guess

__all__ = ["EpochBatches", "Examples", "TrainingBatch"]


class TrainingBatch(NamedTuple):
    """One batch.

    Parameters
    ----------
    x : Tensor, (N, T, H, W, C_in)
        Network input.
    y : Tensor, (N, T_out, H, W, C)
        Truth; any finite number where the weight is 0.
    weight : Tensor, broadcastable to y
        0 where the truth is missing.
    guess : Guess
        First guess that the network departs from.
    indices : tuple of int
        Which samples these are.
    """

    x: Tensor
    y: Tensor
    weight: Tensor
    guess: Guess
    indices: tuple[int, ...]

    def pieces(self, size: int | None) -> Iterator[TrainingBatch]:
        """Yield the batch in pieces of at most ``size`` samples."""
        total = len(self.x)
        for start in range(0, total, size or total):
            part = slice(start, start + (size or total))
            yield TrainingBatch(
                self.x[part],
                self.y[part],
                self.weight[part],
                self.guess.rows(part),
                self.indices[part],
            )


class Examples(Protocol):
    """A finite set of samples."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def batch(self, indices: Sequence[int]) -> TrainingBatch:
        """Return the samples of ``indices``; every tensor has a leading axis of that length."""

    def describe(self, indices: Sequence[int]) -> str:
        """Return a text that names the samples, for example by their initial dates."""


class EpochBatches(Sampler[list[int]]):
    """The batches of an epoch: an order that depends on (seed, epoch) and nothing else.

    So a run that is resumed at the start of an epoch sees the same batches as one that was never
    stopped. On several devices each takes every ``world``-th of an epoch's indices.

    Parameters
    ----------
    count : int
        Number of samples.
    batch_size : int
        Samples in a batch; the last batch of an epoch may be smaller.
    seed : int or None
        None keeps the order of the samples (validation).
    rank, world : int
        Which device this is, of how many.

    Examples
    --------
    >>> [len(batch) for batch in EpochBatches(5, 2, seed=0)]
    [2, 2, 1]
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int | None, rank: int = 0, world: int = 1
    ) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; the trainer calls this."""
        self.epoch = epoch

    def _order(self) -> np.ndarray:
        order = np.arange(self.count)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        # devices must take equally many steps: the order wraps around to fill the last round
        rounds = math.ceil(self.count / self.world)
        return np.resize(order, rounds * self.world)[self.rank :: self.world]

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size].tolist()

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.count / self.world) / self.batch_size)
