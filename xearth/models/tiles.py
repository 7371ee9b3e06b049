r"""Grids of any size through a network of one size: tiles that overlap, blended.

Along each axis, tiles of :math:`h` cells start at evenly spaced cells
:math:`s_0 = 0 < \dots < s_{n-1} = H - h`, as few as overlap by at least :math:`o` cells. Tile
:math:`i` has the weight

.. math:: w_i(r) = \frac{b(r - s_i)}{\sum_j b(r - s_j)}, \qquad
   b(d) = \sin^2\!\Big(\frac{\pi}{2}
   \min\big(1, \tfrac{d + 1/2}{o}, \tfrac{h - d - 1/2}{o}\big)\Big)

inside the tile and 0 outside, and the weight of a cell is the product of those of its row and of
its column. The weights are rounded to multiples of :math:`2^{-11}` and the largest one of each
cell takes what is left, so that products and sums are exact in single precision: the weights of a
cell add up to 1, not to 1 within rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError

__all__ = ["Tiles", "axis_weights", "starts"]

_BITS = 11  # of a weight along one axis: products of two fit into the 24 of a float32
_AT_ONCE = 16  # tiles in one batch


def starts(size: int, tile: int, overlap: int) -> np.ndarray:
    """Return the first cell of each tile along an axis, (n,).

    Parameters
    ----------
    size : int
        Cells of the axis, at least ``tile``.
    tile : int
        Cells of a tile.
    overlap : int
        Cells that two neighbors share at least, less than ``tile``.

    Examples
    --------
    >>> starts(10, 4, 1).tolist()
    [0, 3, 6]
    >>> starts(4, 4, 1).tolist()
    [0]
    """
    count = 1 + math.ceil((size - tile) / (tile - overlap))
    return np.rint(np.linspace(0, size - tile, count)).astype(np.int64)


def axis_weights(size: int, tile: int, overlap: int) -> np.ndarray:
    """Return the weights (n, tile) of the tiles along an axis, float32; they add up to 1 exactly.

    Parameters
    ----------
    size, tile, overlap : int
        As for :func:`starts`.

    Examples
    --------
    >>> axis_weights(6, 4, 2).round(2)
    array([[1.  , 1.  , 0.85, 0.15],
           [0.15, 0.85, 1.  , 1.  ]], dtype=float32)
    """
    first = starts(size, tile, overlap)
    inside = np.arange(tile) + 0.5
    edge = np.minimum(inside, tile - inside) / max(overlap, 1)
    bump = np.sin(0.5 * np.pi * np.minimum(edge, 1.0)) ** 2
    cells = first[:, None] + np.arange(tile)
    rows = np.arange(len(first))[:, None]
    whole = np.zeros((len(first), size))
    whole[rows, cells] = bump
    units = np.rint(2**_BITS * whole / whole.sum(0)).astype(np.int64)
    largest = units.argmax(0)
    units[largest, np.arange(size)] += 2**_BITS - units.sum(0)
    return (units[rows, cells] / 2**_BITS).astype(np.float32)


@dataclass(frozen=True)
class Tiles:
    """How a grid is cut into tiles and put together again.

    Parameters
    ----------
    grid : (int, int)
        Rows and columns of the grid.
    tile : (int, int)
        Rows and columns of a tile, what a network reads.
    overlap : (int, int)
        Rows and columns that neighbors share at least.

    Raises
    ------
    ConfigError
        If the grid is smaller than a tile, or the overlap does not lie in the tile.

    Examples
    --------
    >>> tiles = Tiles((7, 9), (4, 4), (2, 2))
    >>> len(tiles)
    12
    >>> x = torch.rand(2, 3, 7, 9, 1)  # (N, T, H, W, C)
    >>> parts = tiles.split(x)
    >>> parts.shape
    torch.Size([24, 3, 4, 4, 1])
    >>> torch.allclose(tiles.merge(parts), x)
    True
    """

    grid: tuple[int, int]
    tile: tuple[int, int]
    overlap: tuple[int, int]

    def __post_init__(self) -> None:
        for size, tile, overlap in zip(self.grid, self.tile, self.overlap, strict=True):
            if not 1 <= tile <= size:
                raise ConfigError(
                    f"tiles: expected a grid of at least {self.tile[0]} x {self.tile[1]} cells, "
                    f"the size of a tile, found {self.grid[0]} x {self.grid[1]}. Give a larger "
                    "grid, or a network of smaller tiles."
                )
            if not 0 <= overlap < tile:
                raise ConfigError(
                    f"tiles: expected an overlap from 0 to {tile - 1} cells for tiles of {tile}, "
                    f"found {overlap}. A quarter of the tile is usual."
                )

    def __len__(self) -> int:
        return len(self.corners)

    @cached_property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """First row and column of each tile."""
        rows, columns = (
            starts(*sizes).tolist()
            for sizes in zip(self.grid, self.tile, self.overlap, strict=True)
        )
        return tuple((row, column) for row in rows for column in columns)

    @cached_property
    def weights(self) -> Tensor:
        """Weights (K, h, w) of the tiles, float32: those of each cell add up to 1 exactly."""
        rows, columns = (
            torch.from_numpy(axis_weights(*sizes))
            for sizes in zip(self.grid, self.tile, self.overlap, strict=True)
        )
        return (rows[:, None, :, None] * columns[None, :, None, :]).flatten(0, 1)

    def split(self, x: Tensor) -> Tensor:
        """Return the tiles (K N, T, h, w, C) of fields x (N, T, H, W, C), tile by tile."""
        return torch.cat([self._cut(x, corner) for corner in self.corners])

    def merge(self, tiles: Tensor) -> Tensor:
        """Return the blended fields (N, T, H, W, C) of tiles (K N, T, h, w, C)."""
        parts = tiles.unflatten(0, (len(self), -1))
        _, N, T, _, _, C = parts.shape
        out = parts.new_zeros((N, T, *self.grid, C))
        weights = self.weights.to(parts)[..., None]
        for corner, weight, part in zip(self.corners, weights, parts, strict=True):
            self._cut(out, corner).add_(weight * part)
        return out

    def run(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return what a network of one tile's size makes of fields x (N, T, H, W, C).

        The same as splitting, running and merging, with no more than a few tiles in memory.

        Parameters
        ----------
        network : callable
            Map of tensors (n, T, h, w, C) to (n, T_out, h, w, C_out).
        x : Tensor
            N is at least 1.

        Returns
        -------
        Tensor (N, T_out, H, W, C_out)

        Examples
        --------
        >>> Tiles((7, 9), (4, 4), (2, 2)).run(lambda x: 2 * x, torch.ones(1, 3, 7, 9, 1)).sum()
        tensor(378.)
        """
        places = [(n, k) for k in range(len(self)) for n in range(len(x))]
        chunks = [places[at : at + _AT_ONCE] for at in range(0, len(places), _AT_ONCE)]
        weights = self.weights.to(x)[..., None]
        out = x.new_zeros(0)
        for chunk in chunks:
            made = network(torch.cat([self._cut(x[n : n + 1], self.corners[k]) for n, k in chunk]))
            if not out.numel():
                out = made.new_zeros((len(x), made.shape[1], *self.grid, made.shape[-1]))
            for (n, k), one in zip(chunk, made, strict=True):
                self._cut(out[n : n + 1], self.corners[k]).add_(weights[k] * one)
        return out

    def _cut(self, x: Tensor, corner: tuple[int, int]) -> Tensor:
        """Return one tile of fields (N, T, H, W, C) as a view."""
        (row, column), (height, width) = corner, self.tile
        return x[:, :, row : row + height, column : column + width]
