r"""Weighted sums over groups of cells: the rows of a sparse matrix.

.. math:: a_j(y) = \sum_k w_{jk}\, y_{i_{jk}}, \qquad A^\top r = \sum_j r_j\, w_j .

Rows are padded to the length of the longest with weight 0, so that one gather serves sums as well
as what sorts the cells of a group (quantiles, simplexes). Sums are kept in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...errors import ConstraintError
from .protocol import square

__all__ = ["Rows", "lowered", "products"]

#: So many rows are faster summed one by one.
_FEW = 16


@dataclass(frozen=True, eq=False)
class Rows:
    """m weighted sums over cells of fields (T, H, W, C).

    Parameters
    ----------
    index : Tensor, int64 (m, k)
        Cells of each sum, counted through the flattened field.
    weights : Tensor, float64 (m, k)
        0 where a row is padded.
    shape : torch.Size
        (T, H, W, C).

    Raises
    ------
    ConstraintError
        A row without weight (a region without valid cells), a weight that is not finite, an index
        outside of the field.

    Examples
    --------
    >>> frames = Rows.from_groups(torch.arange(2)[:, None, None, None].expand(2, 3, 4, 1)).mean()
    >>> frames.apply(torch.arange(24.0).reshape(1, 2, 3, 4, 1)).tolist()
    [[5.5, 17.5]]
    """

    index: Tensor
    weights: Tensor
    shape: torch.Size

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", torch.Size(self.shape))
        object.__setattr__(self, "weights", torch.as_tensor(self.weights, dtype=torch.float64))
        n = self.shape.numel()
        index, weights = self.index, self.weights
        if index.ndim != 2 or index.shape != weights.shape or not len(index):
            raise ConstraintError(
                "expected an index and weights of one shape (m, k) with m of at least 1, found "
                f"{tuple(index.shape)} and {tuple(weights.shape)}."
            )
        if not bool(weights.isfinite().all()):
            raise ConstraintError("expected finite weights; give missing cells the weight 0.")
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < n:
            raise ConstraintError(
                f"expected cells 0..{n - 1}, found {int(index.min())}..{int(index.max())}."
            )
        empty = torch.nonzero(~(weights != 0).any(1)).flatten().tolist()
        if empty:
            raise ConstraintError(
                f"{len(empty)} of {len(weights)} sums have no cell with weight (the first is "
                f"number {empty[0]}): the region has no valid cell. Choose one that has."
            )

    @classmethod
    def from_matrix(cls, weights: Tensor, shape: torch.Size | None = None) -> Rows:
        """Return the rows of weights (m, T, H, W, C), or (m, n) with the shape (T, H, W, C)."""
        shape = torch.Size(weights.shape[1:]) if shape is None else torch.Size(shape)
        dense = weights.reshape(len(weights), -1)
        if dense.shape[1] != shape.numel():
            raise ConstraintError(
                f"expected weights for {shape.numel()} cells {tuple(shape)}, found "
                f"{tuple(weights.shape)}."
            )
        groups, cells = torch.nonzero(dense, as_tuple=True)
        return cls(*_padded(groups, cells, dense[groups, cells], len(dense)), shape)

    @classmethod
    def from_groups(cls, groups: Tensor, weights: Tensor | None = None) -> Rows:
        """Return sums over groups of cells that do not overlap.

        Parameters
        ----------
        groups : Tensor, int64 (T, H, W, C)
            The number of the group of each cell, from 0; negative: in none.
        weights : Tensor, broadcastable to (T, H, W, C), optional
            By default 1.
        """
        weights = groups.new_ones((), dtype=torch.float64) if weights is None else weights
        weights = weights.double().broadcast_to(groups.shape).flatten()
        flat = groups.flatten()
        cells = torch.nonzero((flat >= 0) & (weights != 0)).flatten()
        m = int(flat.max()) + 1 if flat.numel() else 0
        return cls(*_padded(flat[cells], cells, weights[cells], m), groups.shape)

    @classmethod
    def over(cls, weights: Tensor, *, frames: bool, channels: bool = True) -> Rows:
        """Return sums over space: one of each frame, or one of the horizon; of each channel or all.

        Parameters
        ----------
        weights : Tensor (T, H, W, C)
        frames, channels : bool
            Whether each frame and each channel is a sum of its own, in the order (T, C).
        """
        T, _, _, C = weights.shape
        t = torch.arange(T).reshape(T, 1, 1, 1) if frames else torch.zeros(1, 1, 1, 1)
        c = torch.arange(C) if channels else torch.zeros(1)
        groups = (t * (C if channels else 1) + c).long().broadcast_to(weights.shape)
        return cls.from_groups(groups, weights)

    def __len__(self) -> int:
        return len(self.index)

    def mean(self) -> Rows:
        """Return the rows with weights that add up to 1.

        Raises
        ------
        ConstraintError
            They add up to nothing.
        """
        total = self.weights.sum(1, keepdim=True)
        if not bool((total > 0).all()):
            raise ConstraintError(
                f"expected weights with a positive sum for a mean, found {float(total.min())}."
            )
        return Rows(self.index, self.weights / total, self.shape)

    @cached_property
    def disjoint(self) -> bool:
        """Whether no cell is in two rows, nor twice in one."""
        cells = self.index[self.weights != 0]
        return len(torch.unique(cells)) == len(cells)

    @cached_property
    def _whole(self) -> bool:
        count = self.shape.numel()
        flat = self.index.flatten()
        return flat.numel() == count and bool((flat == torch.arange(count)).all())

    @cached_property
    def cells(self) -> Tensor:
        """Which cells have weight in some row, bool (n,)."""
        found = torch.zeros(self.shape.numel(), dtype=torch.bool)
        found[self.index[self.weights != 0]] = True
        return found

    def gather(self, y: Tensor, name: str = "sum") -> Tensor:
        """Return the cells of each row, (N, m, k); 0 where a row has no weight."""
        flat = square(y, self.shape, name)
        if self._whole:
            picked = flat.unflatten(1, self.index.shape)
        else:
            flat = flat.index_select(1, self.index.flatten().to(y.device))
            picked = flat.unflatten(1, self.index.shape)
        if self._full:
            return picked
        return torch.where(self.weights.to(y.device) != 0, picked, picked.new_zeros(()))

    @cached_property
    def _full(self) -> bool:
        return bool((self.weights != 0).all())

    def put(self, y: Tensor, cells: Tensor) -> Tensor:
        """Return ``y`` with the cells (N, m, k) of rows that do not overlap put in their places."""
        if self._whole and self._full:
            return cells.to(y.dtype).reshape(y.shape)
        index, values = self.index.flatten(), cells.flatten(1)
        if not self._full:
            has = torch.nonzero(self.weights.flatten() != 0).flatten()
            index, values = index[has], values.index_select(1, has.to(y.device))
        return replaced(y, index, values)

    def apply(self, y: Tensor, name: str = "sum") -> Tensor:
        """Return A y, (N, m), in the dtype of ``y``; summed in float64."""
        return self.sums(y, name).to(y.dtype)

    def sums(self, y: Tensor, name: str = "sum") -> Tensor:
        """Return A y, float64 (N, m); only cells of the rows are copied to float64."""
        if self._full:
            cells = self.gather(y, name).double()
            return torch.einsum("nmk,mk->nm", cells, self.weights.to(y.device))
        row, cell, weight = (part.to(y.device) for part in self.entries)
        terms = square(y, self.shape, name).index_select(1, cell).double() * weight
        if len(self) <= _FEW:
            each = terms.split(torch.bincount(row).tolist(), 1)
            return torch.stack([part.sum(1) for part in each], 1)
        return terms.new_zeros(len(y), len(self)).index_add(1, row, terms)

    def absolute(self, y: Tensor) -> Tensor:
        """Return the sums of |w y|, float64 (N, m)."""
        cells = self.gather(y).double().abs()
        return torch.einsum("nmk,mk->nm", cells, self.weights.abs().to(y.device))

    def adjoint(self, r: Tensor) -> Tensor:
        """Return A^T r, (N, T, H, W, C), in the dtype of ``r`` (N, m)."""
        spread = (r[..., None] * self.weights.to(r)).flatten(1)
        if self._whole:
            return spread.reshape(len(r), *self.shape)
        flat = r.new_zeros(len(r), self.shape.numel())
        flat = flat.index_add(1, self.index.flatten().to(r.device), spread)
        return flat.reshape(len(r), *self.shape)

    @cached_property
    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """The row, cell and weight of what is not padding, each (e,)."""
        has = self.weights != 0
        return torch.nonzero(has)[:, 0], self.index[has], self.weights[has]

    def lowered(self, y: Tensor, r: Tensor) -> Tensor:
        """Return y - A^T r in the dtype of ``y``, for rows that share no cells and r (N, m)."""
        row, cell, weight = (part.to(y.device) for part in self.entries)
        cells = y.flatten(1).index_select(1, cell).double()
        change = r if len(self) == 1 else r.index_select(1, row)
        return replaced(y, cell, torch.addcmul(cells, change, weight, value=-1))

    def matrix(self) -> Tensor:
        """Return A as a sparse tensor, float64 (m, n)."""
        row, cell, weight = self.entries
        size = (len(self), self.shape.numel())
        at = torch.stack([row, cell])
        return torch.sparse_coo_tensor(at, weight, size, check_invariants=True).coalesce()

    def norms(self) -> Tensor:
        """Return the sum of the squared weights of each row, float64 (m,): A A^T if disjoint."""
        return self.weights.square().sum(1)


def replaced(y: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Return the fields with other values (N, k) in the cells (k,), each named once."""
    index = index.to(y.device).expand(len(y), -1)
    return y.flatten(1).scatter(1, index, values.to(y.dtype)).reshape(y.shape)


def lowered(y: Tensor, parts: Sequence[tuple[Rows, Tensor]]) -> Tensor:
    """Return y - sum A^T r in the dtype of ``y``, for any rows and their r, float64 (N, m).

    Only cells of the rows are worked on in float64.
    """
    used = torch.stack([rows.cells for rows, _ in parts]).any(0)
    cells, place = torch.nonzero(used).flatten().to(y.device), used.cumsum(0) - 1
    fine = y.flatten(1).index_select(1, cells).double()
    for rows, r in parts:
        row, cell, weight = (part.to(r.device) for part in rows.entries)
        at = place.to(r.device)[cell]
        fine = fine.index_add(1, at, r.index_select(1, row) * weight, alpha=-1)
    return replaced(y, cells, fine)


def products(parts: Sequence[Rows], deviation: Tensor) -> Tensor:
    """Return A D A^T of the rows of all parts, float64 (m, m), with D = deviation^2 (n,)."""
    from scipy import sparse

    blocks = []
    for part in parts:
        A = part.matrix()
        row, cell = A.indices().numpy()
        values = (A.values() * deviation[A.indices()[1]]).numpy()
        blocks.append(sparse.csr_array((values, (row, cell)), shape=tuple(A.shape)))
    scaled = sparse.vstack(blocks).tocsr()
    return torch.from_numpy((scaled @ scaled.T).toarray())


def _padded(groups: Tensor, cells: Tensor, weights: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Return an index and weights (m, k) of entries, each with the number of its row."""
    order = torch.argsort(groups, stable=True)
    groups, cells, weights = groups[order], cells[order], weights[order].double()
    counts = torch.bincount(groups, minlength=m)
    first = counts.cumsum(0) - counts
    place = torch.arange(len(groups)) - first[groups]
    k = int(counts.max()) if len(counts) else 0
    index = torch.zeros(m, k, dtype=torch.int64)
    padded = torch.zeros(m, k, dtype=torch.float64)
    index[groups, place] = cells
    padded[groups, place] = weights
    return index, padded
