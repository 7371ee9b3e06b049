r"""What is kept from frame to frame: totals, and budgets of a storage and its fluxes.

.. math:: \sum_i w_i y_{t,i} = \sum_i w_i y_{0,i}, \qquad
   \sum_i w_i \Bigl(S_{t,i} - S_{t-1,i} - \Delta t \sum_c \epsilon_c F_{c,t,i}\Bigr) = 0 ,

with the sign :math:`\epsilon_c` of each flux (water: + precipitation, - evaporation, - runoff).
Both are linear, so their nearest fields are those of :mod:`.linear`: exact.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...errors import ConstraintError
from .linear import Linear
from .rows import Rows

__all__ = ["budget", "conservation"]


def conservation(weights: Tensor, *, scale: float = 1.0, name: str = "conservation") -> Linear:
    """Return the condition that each frame has the total of the first one.

    Parameters
    ----------
    weights : Tensor (T, H, W, C)
        Areas, the same in all frames; each channel is conserved apart from the others. For a given
        total use :class:`Linear` with one sum a frame.
    scale : float
        Of the energy, in units of the total.

    Raises
    ------
    ConstraintError
        Fewer than two frames, or weights that differ between frames.

    Examples
    --------
    >>> y = torch.tensor([1.0, 1.0, 2.0, 4.0]).reshape(1, 2, 1, 2, 1)
    >>> conservation(torch.ones(2, 1, 2, 1)).project(y).flatten().tolist()
    [2.0, 2.0, 1.0, 3.0]
    """
    T, H, W, C = weights.shape
    if T < 2 or not torch.equal(weights, weights[:1].expand_as(weights)):
        raise ConstraintError(
            f"{name}: expected the same weights in two or more frames, found {T} frames. Cells "
            "that are missing in one of them need the weight 0 in all."
        )
    cells = torch.arange(T * H * W * C).reshape(T, H * W, C).transpose(1, 2)
    w = weights.double().reshape(T, H * W, C).transpose(1, 2)
    first = (cells[:1].expand(T - 1, -1, -1), w[:1].expand(T - 1, -1, -1))
    index = torch.cat([cells[1:], first[0]], -1).flatten(0, 1)
    signed = torch.cat([w[1:], -first[1]], -1).flatten(0, 1)
    return Linear(Rows(index, signed, weights.shape), lower=0.0, upper=0.0, scale=scale, name=name)


def budget(
    weights: Tensor,
    *,
    storage: int,
    fluxes: Mapping[int, float],
    scale: float = 1.0,
    name: str = "budget",
) -> Linear:
    """Return the condition that the storage of a region changes by what flows in and out.

    Parameters
    ----------
    weights : Tensor (T, H, W, C)
        Areas of the region's cells, 0 outside, the same in all frames and channels.
    storage : int
        Channel of S.
    fluxes : mapping of int to float
        Of the channel of each flux to its sign times the length of a step, in units that make
        flux times length a change of storage. A flux is the mean over the step that ends at a
        frame.
    scale : float
        Of the energy, in units of storage.

    Raises
    ------
    ConstraintError
        Fewer than two frames, a channel twice or one that there is not.

    Examples
    --------
    >>> water = budget(torch.ones(2, 1, 1, 2), storage=0, fluxes={1: 3600.0})
    >>> y = torch.tensor([5.0, 0.0, 12.2, 0.002]).reshape(1, 2, 1, 1, 2)
    >>> water.residual(y).abs().max() < 1e-6
    tensor(True)
    """
    T, H, W, C = weights.shape
    channels = [storage, *fluxes]
    if T < 2 or not fluxes or len(set(channels)) != len(channels):
        raise ConstraintError(
            f"{name}: expected two or more frames and one or more fluxes other than the storage, "
            f"found {T} frames, storage {storage} and fluxes {list(fluxes)}."
        )
    if min(channels) < 0 or max(channels) >= C:
        raise ConstraintError(f"{name}: expected channels within 0..{C - 1}, found {channels}.")
    cells = torch.arange(T * H * W * C).reshape(T, H * W, C)
    w = weights.double().reshape(T, H * W, C)
    index = [cells[1:, :, storage], cells[:-1, :, storage]]
    signed = [w[1:, :, storage], -w[:-1, :, storage]]
    for channel, length in fluxes.items():
        index.append(cells[1:, :, channel])
        signed.append(-float(length) * w[1:, :, channel])
    rows = Rows(torch.cat(index, -1), torch.cat(signed, -1), weights.shape)
    return Linear(rows, lower=0.0, upper=0.0, scale=scale, name=name)
