r"""Dropout that draws one random number per dropped element instead of one per element.

Each element is zeroed with probability p on its own, and the others are divided by 1 - p.
The numbers of kept elements between consecutive dropped ones are then independent and
geometric, :math:`P(k) = (1 - p)^k p`, which is the floor of an exponential variable of rate
:math:`-\log(1 - p)`.  Drawing those runs gives the same distribution of masks with p times
the random numbers; a CPU draws them one after the other, so they are a third of the time of a
training step otherwise.  Only the positions are kept for the backward pass.

On other devices, which draw in parallel, torch's own dropout is used.

Source: Devroye (1986), *Non-Uniform Random Variate Generation*, section II.3 (runs of a
Bernoulli sequence).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

__all__ = ["dropout"]


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability p and divide the others by 1 - p.

    Parameters
    ----------
    x : Tensor
        Any shape.
    p : float
        Probability, 0 <= p <= 1.
    training : bool
        If False x is returned as it is.

    Returns
    -------
    Tensor
        Like x; follows ``torch.manual_seed``.

    Examples
    --------
    >>> y = dropout(torch.ones(1000), 0.25, training=True)
    >>> sorted(set(y.tolist())) == [0.0, torch.tensor(1 / 0.75).item()]
    True
    """
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu" or p == 1.0 or x.numel() == 0:
        return functional.dropout(x, p, training)
    return _Drop.apply(x, _dropped(x.numel(), p), 1.0 / (1.0 - p))


def _dropped(n: int, p: float) -> Tensor:
    """Return the ascending positions of the dropped among n elements, int64."""
    parts: list[Tensor] = []
    last = -1
    while last < n - 1:
        expected = (n - 1 - last) * p
        draws = int(expected + 2.0 * math.sqrt(expected)) + 16
        kept = torch.rand(draws).neg_().log1p_().div_(math.log1p(-p)).long()
        parts.append(kept.add_(1).cumsum_(0).add_(last))
        last = int(parts[-1][-1])
    positions = parts[0] if len(parts) == 1 else torch.cat(parts)
    return positions[: int(torch.searchsorted(positions, n))]


class _Drop(torch.autograd.Function):
    """Multiply by a factor and zero some positions; linear, so backward does the same."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, positions: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(positions)
        ctx.factor = factor  # type: ignore[attr-defined]
        y = (x * factor).contiguous()
        y.view(-1).index_fill_(0, positions, 0.0)
        return y

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        (positions,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return _Drop.apply(grad, positions, ctx.factor), None, None  # type: ignore[attr-defined]
