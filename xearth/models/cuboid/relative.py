r"""Learned bias per relative position inside a cuboid.

For cells :math:`i, j` of cuboids of size :math:`(b_T, b_H, b_W)` the bias of head h is
:math:`P_h[\phi(i - j)]` with one table row per relative position,

.. math:: \phi(\delta) = \big((\delta_T + b_T - 1)(2 b_H - 1) + \delta_H + b_H - 1\big)
                         (2 b_W - 1) + \delta_W + b_W - 1 .

Source: Liu et al. (2021), *Swin Transformer*, extended to three axes by Gao et al. (2022).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..layers import small_normal
from .patterns import Shape3

__all__ = ["RelativePosition", "relative_index"]


def _coordinates(cuboid: Shape3) -> NDArray[np.int64]:
    return np.indices(cuboid).reshape(3, -1).T


def relative_index(rows: Shape3, columns: Shape3, table: Shape3) -> NDArray[np.int64]:
    """Return phi(i - j) for cells i of cuboid ``rows`` and j of cuboid ``columns``.

    ``table`` is the largest cuboid, the one that sized the table.

    Examples
    --------
    >>> relative_index((2, 1, 1), (2, 1, 1), (2, 1, 1))
    array([[1, 0],
           [2, 1]])
    """
    largest = np.array(table)
    offset = _coordinates(rows)[:, None] - _coordinates(columns)[None] + largest - 1
    b = 2 * largest - 1
    return (offset[..., 0] * b[1] + offset[..., 1]) * b[2] + offset[..., 2]


class RelativePosition(nn.Module):
    """Table of relative biases and the index of one pair of cuboids into it.

    Parameters
    ----------
    table : tuple of int
        Largest cuboid.
    rows, columns : tuple of int
        Cuboids of queries and of keys.
    heads : int
        Columns of the table.
    sliced : bool
        Take the leading rows and columns of the index of the *largest* cuboid, as the
        reference does; wrong where the cuboid is smaller along H or W.
    """

    index: Tensor

    def __init__(
        self, table: Shape3, rows: Shape3, columns: Shape3, *, heads: int, sliced: bool
    ) -> None:
        super().__init__()
        self.table = table
        length = math.prod(2 * b - 1 for b in table)
        self.bias_table = nn.Parameter(small_normal(torch.empty(length, heads)))
        make = self._sliced if sliced else relative_index
        index = make(rows, columns, table)
        self.register_buffer("index", torch.tensor(index), persistent=False)

    @staticmethod
    def _sliced(rows: Shape3, columns: Shape3, table: Shape3) -> NDArray[np.int64]:
        # Leading cells of the largest cuboid, without its full index of volume^2 entries.
        _, H, W = table
        n, m = math.prod(rows), math.prod(columns)
        cells = np.stack(np.unravel_index(np.arange(max(n, m)), table), axis=-1)
        offset = cells[:n, None] - cells[None, :m] + np.array(table) - 1
        return (offset[..., 0] * (2 * H - 1) + offset[..., 1]) * (2 * W - 1) + offset[..., 2]

    def forward(self) -> Tensor:
        """Return the bias (heads, 1, rows, columns)."""
        bias = self.bias_table[self.index.view(-1)]
        return bias.view(*self.index.shape, -1).permute(2, 0, 1).contiguous().unsqueeze(1)
