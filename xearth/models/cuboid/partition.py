r"""Cuboid partition: cut a grid into cuboids and put it together again.

Let :math:`X \in \mathbb{R}^{B \times T \times H \times W \times C}` and a cuboid of size
:math:`(b_T, b_H, b_W)`. Along an axis of length :math:`n` (a multiple of :math:`b`)

* a *local* cuboid :math:`j` holds the neighbors :math:`jb, \dots, jb + b - 1`;
* a *dilated* cuboid :math:`j` holds :math:`j, j + n/b, j + 2n/b, \dots`

Cuboids are counted in (T, H, W) row-major order, and so are the cells inside a cuboid.
Cutting is a view; the only copy is the one that makes the cells of a cuboid contiguous.

Source: Gao et al. (2022), section 3.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .patterns import CuboidLayer, Shape3
from .settings import Padding

__all__ = ["Partition", "cut", "join", "pad_grid", "unpad_grid"]


def cut(x: Tensor, cuboid: Shape3, strategy: str) -> Tensor:
    """View a grid as cuboids, without a copy.

    Parameters
    ----------
    x : Tensor
        (B, T, H, W, ...), each axis a multiple of the cuboid.
    cuboid : tuple of int
        (b_T, b_H, b_W).
    strategy : str
        One letter per axis, ``l`` or ``d``.

    Returns
    -------
    Tensor
        View (B, n_T, n_H, n_W, b_T, b_H, b_W, ...), cuboid counters first.

    Examples
    --------
    >>> x = torch.arange(6).view(1, 6, 1, 1)
    >>> cut(x, (2, 1, 1), "lll").reshape(3, 2).tolist()
    [[0, 1], [2, 3], [4, 5]]
    >>> cut(x, (2, 1, 1), "dll").reshape(3, 2).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    sizes: list[int] = []
    counters, cells = [], []
    for axis, (block, how) in enumerate(zip(cuboid, strategy, strict=True)):
        count = x.shape[1 + axis] // block
        first, second = 1 + 2 * axis, 2 + 2 * axis
        sizes += [count, block] if how == "l" else [block, count]
        counters.append(first if how == "l" else second)
        cells.append(second if how == "l" else first)
    split = x.view(x.shape[0], *sizes, *x.shape[4:])
    return split.permute(0, *counters, *cells, *range(7, split.dim()))


def join(y: Tensor, strategy: str) -> Tensor:
    """Undo :func:`cut`.

    Parameters
    ----------
    y : Tensor
        (B, n_T, n_H, n_W, b_T, b_H, b_W, ...).
    strategy : str
        The letters given to :func:`cut`.

    Returns
    -------
    Tensor
        (B, T, H, W, ...); a view where strides allow it.

    Examples
    --------
    >>> x = torch.randn(2, 4, 6, 8, 3)
    >>> bool((join(cut(x, (2, 3, 4), "ldl"), "ldl") == x).all())
    True
    """
    order = [0]
    for axis, how in enumerate(strategy):
        counter, cell = 1 + axis, 4 + axis
        order += [counter, cell] if how == "l" else [cell, counter]
    sizes = [y.shape[1 + axis] * y.shape[4 + axis] for axis in range(3)]
    return y.permute(*order, *range(7, y.dim())).reshape(y.shape[0], *sizes, *y.shape[7:])


def pad_grid(x: Tensor, pad: Shape3, padding: Padding, *, left: bool = False) -> Tensor:
    """Lengthen T, H and W by ``pad`` cells.

    ``zeros`` and ``ignore`` append zeros (``left``: T is lengthened at its start);
    ``nearest`` stretches the grid: cell i of the result is cell floor(i n / m) of x.

    Parameters
    ----------
    x : Tensor
        (B, T, H, W, C).

    Returns
    -------
    Tensor
        (B, T + p_T, H + p_H, W + p_W, C); x itself when there is nothing to pad.

    Examples
    --------
    >>> pad_grid(torch.ones(1, 1, 1, 2, 1), (0, 0, 1), "zeros").flatten().tolist()
    [1.0, 1.0, 0.0]
    """
    if not any(pad):
        return x
    if padding == "nearest":
        return _stretch(x, tuple(n + p for n, p in zip(x.shape[1:4], pad, strict=True)))
    p_T, p_H, p_W = pad
    before, after = (p_T, 0) if left else (0, p_T)
    return functional.pad(x, (0, 0, 0, p_W, 0, p_H, before, after))


def unpad_grid(x: Tensor, pad: Shape3, padding: Padding) -> Tensor:
    """Return to the grid before :func:`pad_grid` (padding at the end).

    Exact for ``zeros`` and ``ignore``. Stretching is not invertible: with ``nearest`` cell i
    comes back as cell floor(floor(i m / n) n / m), a neighbor where that is less than i.

    Examples
    --------
    >>> unpad_grid(torch.arange(3.0).view(1, 1, 1, 3, 1), (0, 0, 1), "zeros").flatten().tolist()
    [0.0, 1.0]
    """
    if not any(pad):
        return x
    T, H, W = (n - p for n, p in zip(x.shape[1:4], pad, strict=True))
    if padding == "nearest":
        return _stretch(x, (T, H, W))
    return x[:, :T, :H, :W]


def _stretch(x: Tensor, size: tuple[int, ...]) -> Tensor:
    channels_first = x.permute(0, 4, 1, 2, 3)
    return functional.interpolate(channels_first, size=size, mode="nearest").permute(0, 2, 3, 4, 1)


@dataclass(frozen=True)
class Partition:
    """How one layer cuts one grid: actual cuboid, shift and padding.

    Parameters
    ----------
    shape : tuple of int
        Grid (T, H, W) before padding.
    cuboid, strategy, shift
        As in :class:`~xearth.models.cuboid.patterns.CuboidLayer`, already fitted.
    left : bool
        Whether T is padded at its start (memory of cross-attention).
    n_temporal : int, optional
        Number of cuboids along T, when that is what is fixed (cross-attention).

    Examples
    --------
    >>> p = Partition.fit((14, 24, 24), CuboidLayer((12, 1, 1)))
    >>> p.pad, p.count, p.volume
    ((10, 0, 0), (2, 24, 24), 12)
    >>> Partition.fit((3, 24, 24), CuboidLayer((12, 1, 1), shift=(6, 0, 0))).cuboid
    (3, 1, 1)
    """

    shape: Shape3
    cuboid: Shape3
    strategy: str = "lll"
    shift: Shape3 = (0, 0, 0)
    left: bool = False
    n_temporal: int | None = None

    @classmethod
    def fit(cls, shape: Shape3, layer: CuboidLayer) -> Partition:
        """Fit a layer to a grid: a cuboid never exceeds it, and shifts only when smaller.

        Dilated axes are not shifted either: their cuboids are spread over the axis already.
        """
        cuboid, shift = [], []
        for n, b, s, how in zip(shape, layer.cuboid, layer.shift, layer.strategy, strict=True):
            cuboid.append(min(n, b))
            shift.append(0 if how == "d" or n <= b else s)
        T, H, W = cuboid
        s_T, s_H, s_W = shift
        return cls(shape, (T, H, W), layer.strategy, (s_T, s_H, s_W))

    @property
    def pad(self) -> Shape3:
        """Cells that complete the last cuboid, per axis."""
        T, H, W = (n - m for n, m in zip(self.padded, self.shape, strict=True))
        return (T, H, W)

    @property
    def padded(self) -> Shape3:
        """Grid (T, H, W) after padding."""
        T, H, W = (n * b for n, b in zip(self.count, self.cuboid, strict=True))
        return (T, H, W)

    @property
    def count(self) -> Shape3:
        """Cuboids (n_T, n_H, n_W) per axis."""
        T, H, W = (-(-n // b) for n, b in zip(self.shape, self.cuboid, strict=True))
        return (self.n_temporal or T, H, W)

    @property
    def cuboids(self) -> int:
        """Number of cuboids."""
        return math.prod(self.count)

    @property
    def volume(self) -> int:
        """Cells of one cuboid."""
        return math.prod(self.cuboid)

    def roll(self, x: Tensor, *, back: bool = False) -> Tensor:
        """Roll (B, T, H, W, ...) by the shift; ``back`` undoes it."""
        if not any(self.shift):
            return x
        sign = 1 if back else -1
        return torch.roll(x, tuple(sign * s for s in self.shift), dims=(1, 2, 3))

    def tokens(self, x: Tensor, parts: int, heads: int) -> Tensor:
        """Gather the cells of each cuboid, heads apart, in one copy.

        Parameters
        ----------
        x : Tensor
            (B, T, H, W, parts * heads * d), padded.

        Returns
        -------
        Tensor
            (parts, B * cuboids, heads, volume, d), contiguous.
        """
        x = self.roll(x)
        depth = x.shape[-1] // (parts * heads)
        cells = cut(x.unflatten(-1, (parts, heads, depth)), self.cuboid, self.strategy)
        # Heads stay inside the cuboid: what is copied together lies together.
        ordered = cells.permute(7, 0, 1, 2, 3, 8, 4, 5, 6, 9)
        return ordered.reshape(parts, -1, heads, self.volume, depth)

    def grid(self, tokens: Tensor) -> Tensor:
        """Put tokens back on the padded grid: the inverse of :meth:`tokens` for one part.

        Parameters
        ----------
        tokens : Tensor
            (B * cuboids, heads, volume, d).

        Returns
        -------
        Tensor
            (B, T, H, W, heads * d), padded, not rolled any more.
        """
        _, heads, _, depth = tokens.shape
        cells = tokens.reshape(-1, *self.count, heads, *self.cuboid, depth)
        joined = join(cells.permute(0, 1, 2, 3, 5, 6, 7, 4, 8), self.strategy)
        return self.roll(joined.flatten(-2), back=True)
