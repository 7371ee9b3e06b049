r"""The arithmetic of cuboid attention: scores, softmax, weighted sum.

.. math:: Y = \mathrm{softmax}\big(s\, Q K^\top + P \;\big|\; s\, Q_{lg} K_g^\top\big) \,
          [V ; V_g]

Cuboids and batch entries are one axis N (cuboids fastest), heads the next. Global vectors, shared
by all cuboids, come as scores against the cells and as values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..dropout import dropout

__all__ = ["GlobalKeys", "attend", "scores", "softmax_masked"]

# Above this volume the fused kernel wins on CPUs; below, three plain calls do (measured at
# volumes 12-32 and 256, width 16-32).
FUSED_VOLUME = 64


@dataclass(frozen=True)
class GlobalKeys:
    """What cells need to read G global vectors.

    Parameters
    ----------
    scores : Tensor
        Scaled scores of cells against vectors, (N, heads, n, G).
    v : Tensor
        Values (B * heads, G, d).
    """

    scores: Tensor
    v: Tensor


def scores(q: Tensor, k: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """Return scale * q k^T + bias in one pass over the result.

    Parameters
    ----------
    q, k : Tensor
        (N, heads, n, d) and (N, heads, m, d).
    scale : float
        Factor s.
    bias : Tensor, optional
        (heads, 1, n, m).

    Returns
    -------
    Tensor
        (N, heads, n, m), freshly allocated.

    Examples
    --------
    >>> q = torch.ones(2, 3, 4, 5)
    >>> scores(q, q, 0.1, torch.ones(3, 1, 4, 4))[0, 0, 0].tolist()
    [1.5, 1.5, 1.5, 1.5]
    """
    (N, heads, n, _), m = q.shape, k.shape[2]
    left, right = q.flatten(0, 1), k.flatten(0, 1).mT
    if bias is None:
        plain = torch.baddbmm(q.new_zeros(1, 1, 1), left, right, beta=0, alpha=scale)
        return plain.view(N, heads, n, m)
    start = bias.to(q.dtype).squeeze(1).expand(N, heads, n, m)
    # The clone is what the product is added to: no second pass, and the bias stays whole.
    flat = start.clone(memory_format=torch.contiguous_format).view(-1, n, m)
    return flat.baddbmm_(left, right, alpha=scale).view(N, heads, n, m)


def softmax_masked(raw: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last axis; a row without any valid key is exactly 0.

    Parameters
    ----------
    raw : Tensor
        Scores (..., m).
    mask : Tensor, optional
        Boolean, broadcast against ``raw``; False keys get no weight.

    Examples
    --------
    >>> mask = torch.tensor([[True, True], [False, False]])
    >>> softmax_masked(torch.zeros(2, 2), mask).tolist()
    [[0.5, 0.5], [0.0, 0.0]]
    """
    if mask is None:
        return torch.softmax(raw, dim=-1)
    # A finite fill keeps the gradients of empty rows finite; the product makes them 0.
    lowest = torch.finfo(raw.dtype).min
    return torch.softmax(raw.masked_fill(~mask, lowest), dim=-1) * mask


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    bias: Tensor | None,
    mask: Tensor | None,
    drop: float = 0.0,
    reads: GlobalKeys | None = None,
    empty: Tensor | None = None,
) -> Tensor:
    """Attend inside each cuboid, and to the global vectors if there are any.

    Parameters
    ----------
    q, k, v : Tensor
        (N, heads, n, d), (N, heads, m, d) twice.
    scale : float
        Factor of the scores.
    bias : Tensor, optional
        (heads, 1, n, m).
    mask : Tensor, optional
        Boolean (cuboids, n, m).
    drop : float
        Dropout of the attention weights; 0 outside training.
    reads : GlobalKeys, optional
        Global vectors, open to every cell.
    empty : Tensor, optional
        Scores (heads, 1, n, e) of padded cells, which take weight and give nothing.

    Returns
    -------
    Tensor
        (N, heads, n, d).

    Examples
    --------
    >>> q = torch.randn(6, 4, 8, 16)
    >>> attend(q, q, q, scale=0.25, bias=None, mask=None).shape
    torch.Size([6, 4, 8, 16])
    """
    m = k.shape[2]
    plain = mask is None and reads is None and empty is None and drop == 0.0
    if plain and m >= FUSED_VOLUME and not torch.is_grad_enabled():
        added = None if bias is None else bias.to(q.dtype).squeeze(1)
        return functional.scaled_dot_product_attention(q, k, v, added, scale=scale)
    raw = scores(q, k, scale, bias)
    if empty is not None:
        added = empty.to(q.dtype).squeeze(1).expand(len(q), -1, -1, -1)
        weights = torch.softmax(torch.cat([raw, added], dim=-1), dim=-1)[..., :m]
        return dropout(weights, drop, drop > 0) @ v
    if reads is not None:
        raw = torch.cat([raw, reads.scores], dim=-1)
        G, entries = reads.v.shape[1], reads.v.shape[0] // q.shape[1]
        shared = reads.v.view(entries, 1, -1, G, v.shape[-1])
        shared = shared.expand(-1, len(v) // entries, -1, -1, -1).flatten(0, 1)
        v = torch.cat([v, shared], dim=2)
    if mask is not None:
        if reads is not None:
            mask = functional.pad(mask, (0, reads.v.shape[1]), value=True)
        apart = raw.unflatten(0, (-1, len(mask)))
        weights = softmax_masked(apart, mask[:, None]).flatten(0, 1)
    else:
        weights = softmax_masked(raw, None)
    return dropout(weights, drop, drop > 0) @ v
