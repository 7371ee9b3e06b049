"""Work in pieces that stay in the processor's cache, where nothing is recorded for gradients.

Every operation of these networks treats the samples of a batch, and the stems treat the frames
of a sample, one apart from the other.  A large batch at once writes each intermediate result to
memory and reads it back, and asks the system for fresh pages every time; in pieces the same
buffers are reused.  The numbers do not change.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["CACHE", "in_pieces"]

# Bytes of the largest tensor of a piece: a few times the cache of one core. Smaller pieces make
# narrow matrix products; larger ones wait for memory (measured from 0.5 to 32 MiB).
CACHE = 2 * 2**20


def in_pieces(run: Callable[[Tensor], Tensor], x: Tensor, largest: int) -> Tensor:
    """Apply a map that treats the entries of axis 0 one apart from the other.

    Parameters
    ----------
    run : callable
        Map of tensors (n, ...) for any n.
    x : Tensor
        (N, ...).
    largest : int
        Numbers in the largest tensor that `run` makes of one entry.

    Returns
    -------
    Tensor
        ``run(x)``; computed piece by piece on a CPU while gradients are off.

    Examples
    --------
    >>> with torch.no_grad():
    ...     in_pieces(lambda x: x.mul(2), torch.arange(3.0), CACHE // 4)
    tensor([0., 2., 4.])
    """
    size = max(1, CACHE // (largest * x.element_size()))
    if torch.is_grad_enabled() or x.device.type != "cpu" or len(x) <= size:
        return run(x)
    count = -(-len(x) // size)
    return torch.cat([run(piece) for piece in x.tensor_split(count)])
