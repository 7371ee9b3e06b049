r"""Masks of cuboid attention, built once from sizes alone.

For cell :math:`i` of a cuboid and cell :math:`j` of the same cuboid, :math:`M_{ij}` is True
when i may attend to j. Two facts forbid it:

* after a roll, cells of opposite borders meet in one cuboid although they are strangers:
  cells carry a *label* per region, and only equal labels attend;
* with padding ``ignore`` a padded cell neither attends nor is attended to.

Source: Liu et al. (2021), *Swin Transformer*, section 3.2, extended to three axes and to
dilated cuboids by Gao et al. (2022).
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from .partition import Partition
from .patterns import Shape3
from .settings import Padding

__all__ = ["cross_mask", "global_mask", "order_cells", "self_mask", "valid_cells"]


def order_cells(grid: NDArray, partition: Partition) -> NDArray:
    """Cut a padded (T, H, W) array into (cuboids, volume), as the tokens are.

    Examples
    --------
    >>> order_cells(np.arange(4).reshape(4, 1, 1), Partition((4, 1, 1), (2, 1, 1), "dll"))
    array([[0, 2],
           [1, 3]])
    """
    sizes: list[int] = []
    counters, cells = [], []
    for axis, (b, how) in enumerate(zip(partition.cuboid, partition.strategy, strict=True)):
        n = grid.shape[axis] // b
        sizes += [n, b] if how == "l" else [b, n]
        counters.append(2 * axis if how == "l" else 2 * axis + 1)
        cells.append(2 * axis + 1 if how == "l" else 2 * axis)
    ordered = grid.reshape(sizes).transpose(*counters, *cells)
    return ordered.reshape(partition.cuboids, partition.volume)


def valid_cells(partition: Partition) -> NDArray[np.bool_]:
    """Mark the cells that are not padding, on the padded and rolled grid (T, H, W)."""
    valid = np.zeros(partition.padded, dtype=bool)
    T, H, W = partition.shape
    start = partition.pad[0] if partition.left else 0
    valid[start : start + T, :H, :W] = True
    return np.roll(valid, [-s for s in partition.shift], axis=(0, 1, 2))


def _region_labels(padded: Shape3, cuboid: Shape3, shift: Shape3) -> NDArray[np.int64]:
    """Label the regions that the roll brought together, on the rolled grid (T, H, W).

    Along one axis the regions are [0, n-b), [n-b, n-s), [n-s, n); without a shift the
    axis is one region.
    """
    labels = np.zeros(padded, dtype=np.int64)
    edges = [
        [0, n] if s == 0 else [0, n - b, n - s, n]
        for n, b, s in zip(padded, cuboid, shift, strict=True)
    ]
    regions = itertools.product(*(itertools.pairwise(e) for e in edges))
    for label, ((t0, t1), (h0, h1), (w0, w1)) in enumerate(regions):
        labels[t0:t1, h0:h1, w0:w1] = label
    return labels


def self_mask(partition: Partition, padding: Padding) -> NDArray[np.bool_] | None:
    """Return the mask (cuboids, volume, volume) of self-attention, None if all may attend.

    Examples
    --------
    >>> self_mask(Partition((4, 4, 4), (2, 4, 4)), "ignore") is None
    True
    >>> self_mask(Partition((3, 1, 1), (2, 1, 1)), "ignore")[1].tolist()
    [[True, False], [False, False]]
    """
    return _pairs(partition, partition, padding)


def cross_mask(x: Partition, mem: Partition) -> NDArray[np.bool_] | None:
    """Return the mask (cuboids, volume of x, volume of mem) of cross-attention, or None.

    Padded cells are always left out: the reference knows no other way to pad here.

    Examples
    --------
    >>> cross_mask(Partition((2, 4, 4), (2, 1, 1)), Partition((3, 4, 4), (3, 1, 1))) is None
    True
    """
    return _pairs(x, mem, "ignore")


def _pairs(x: Partition, mem: Partition, padding: Padding) -> NDArray[np.bool_] | None:
    shifted = any(x.shift)
    ignored = padding == "ignore" and (any(x.pad) or any(mem.pad))
    if not (shifted or ignored):
        return None
    mask = np.ones((x.cuboids, x.volume, mem.volume), dtype=bool)
    if shifted:
        rows, columns = (
            order_cells(_region_labels(p.padded, p.cuboid, p.shift), p) for p in (x, mem)
        )
        mask &= rows[:, :, None] == columns[:, None, :]
    if ignored:
        rows, columns = (order_cells(valid_cells(p), p) for p in (x, mem))
        mask &= rows[:, :, None] & columns[:, None, :]
    return None if mask.all() else mask


def global_mask(partition: Partition, *, reordered: bool) -> NDArray[np.bool_] | None:
    """Mark the tokens (cuboids * volume,) that global vectors may attend to, None if all.

    ``reordered=False`` is what the reference does: the mask keeps the order of the grid
    although the tokens are in the order of the cuboids. Its checkpoints need it.

    Examples
    --------
    >>> p = Partition((3, 1, 1), (2, 1, 1), "dll")
    >>> global_mask(p, reordered=True).tolist(), global_mask(p, reordered=False).tolist()
    ([True, True, True, False], [True, True, True, False])
    """
    valid = valid_cells(partition)
    if valid.all():
        return None
    return (order_cells(valid, partition) if reordered else valid).reshape(-1)
