"""Crops of windows as training samples, for networks that forecast anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .inputs import WindowExamples

if TYPE_CHECKING:
    from torch import Tensor

    from ..training.examples import TrainingBatch

__all__ = ["CropExamples", "crop_corners"]

_COVER = 0.5  # share of a crop that is known at some time, where there are such crops


def crop_corners(
    known: np.ndarray, shape: tuple[int, int], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return first rows and columns (count, 2) of random crops.

    All crops that are known to the half are equally likely; if there is none, those that are
    known best.

    Parameters
    ----------
    known : array of bool (H, W)
        Cells that ever hold a value.
    shape : (int, int)
        Rows and columns of a crop, at most (H, W).
    count : int
    rng : Generator

    Examples
    --------
    >>> known = np.zeros((6, 9), bool)
    >>> known[:, 5:] = True
    >>> corners = crop_corners(known, (4, 4), 100, np.random.default_rng(0))
    >>> corners.min(0).tolist(), corners.max(0).tolist()
    ([0, 3], [2, 5])
    """
    h, w = shape
    total = np.pad(known.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    cells = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    allowed = np.argwhere(cells >= min(_COVER * h * w, cells.max()))
    return allowed[rng.integers(len(allowed), size=count)]


class CropExamples:
    """Random crops of windows as training samples (:class:`xearth.training.examples.Examples`).

    Each window gives ``per_window`` crops; which ones depends on the seed alone, so that a
    killed run is resumed with the same samples.

    Parameters
    ----------
    whole : WindowExamples
        Windows on their whole grid, without a first guess.
    shape : (int, int)
        Rows and columns of a crop.
    per_window : int
    known : array of bool (H, W)
        Cells that ever hold a value.
    seed : int
    """

    def __init__(
        self,
        whole: WindowExamples,
        shape: tuple[int, int],
        *,
        per_window: int,
        known: np.ndarray,
        seed: int,
    ) -> None:
        self.whole, self.shape, self.per_window = whole, shape, per_window
        rng = np.random.default_rng([seed, 0xC209])
        self.corners = crop_corners(known, shape, len(whole) * per_window, rng)

    def __len__(self) -> int:
        return len(self.corners)

    def batch(self, indices: Sequence[int]) -> TrainingBatch:
        """Return the samples of ``indices``."""
        from ..models.heads import Guess
        from ..training.examples import TrainingBatch

        at = np.asarray(indices, dtype=np.int64)
        whole = self.whole.batch((at // self.per_window).tolist())
        corners = self.corners[at]
        x, y, weight = (self._cut(part, corners) for part in (whole.x, whole.y, whole.weight))
        return TrainingBatch(x, y, weight, Guess.none(self.whole.rank, x), tuple(at.tolist()))

    def describe(self, indices: Sequence[int]) -> str:
        """Return the inits and corners of ``indices``."""
        at = np.asarray(indices, dtype=np.int64)
        corners = ", ".join(f"({row}, {column})" for row, column in self.corners[at])
        whole = self.whole.describe((at // self.per_window).tolist())
        return f"{whole}, cropped at row and column {corners} from the south-west"

    def _cut(self, fields: Tensor, corners: np.ndarray) -> Tensor:
        """Return the crop of each of the fields (n, T, H, W, C)."""
        import torch

        h, w = self.shape
        places = zip(fields, corners.tolist(), strict=True)
        return torch.stack([one[:, r : r + h, c : c + w] for one, (r, c) in places])
