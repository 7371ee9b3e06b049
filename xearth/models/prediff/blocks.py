r"""Fields as coefficients of lapped square blocks, largest structures first: a fixed latent space.

A block of :math:`n \times n` cells has the coefficients

.. math:: c_{uv} = \sum_{ij} B_{ui}\, B_{vj}\, (P x)_{ij}, \qquad
          B_{ui} = \sqrt{\tfrac{2 - [u = 0]}{n}} \cos\frac{\pi (2 i + 1) u}{2 n},

of the field after a filter across the borders of blocks, along rows and along columns,

.. math:: P = \frac{1}{2} \begin{pmatrix} I & J \\ J & -I \end{pmatrix}
              \begin{pmatrix} I & 0 \\ 0 & V \end{pmatrix}
              \begin{pmatrix} I & J \\ J & -I \end{pmatrix}, \qquad
          V = J\, C_{II}^T\, C_{IV}\, J,

on the :math:`n / 2` cells of both sides, J the reversal, :math:`C_{II}` and :math:`C_{IV}` cosine
transforms. The map is orthogonal, so that nothing has to be learned and nothing is lost. What a
coefficient stands for is :math:`2 n` cells wide and fades out at its ends: fields that are drawn
block by block have no seams. The channels stand by :math:`u^2 + v^2`; the first of them hold all
waves that are long enough, and unlike features of convolutions they do not depend on what else is
on the grid. Mirror images and transposes of fields are those of the blocks, with signs and order
of channels changed (:meth:`Blocks.mirrored`, :meth:`Blocks.transposed`).

Source: Tran, T. D., J. Liang and C. Tu (2003): Lapped transform via time-domain pre- and
post-filtering. *IEEE Trans. Signal Process.* 51, 1557-1571; Malvar, H. S. and D. H. Staelin
(1989): The LOT: transform coding without blocking effects. *IEEE Trans. Acoust. Speech Signal
Process.* 37, 553-559.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...errors import ConfigError, GridMismatchError

__all__ = ["Blocks"]


@dataclass(frozen=True)
class Blocks:
    """Lapped cosine transform of blocks.

    Parameters
    ----------
    size : int
        Rows and columns of a block, n.

    Raises
    ------
    ConfigError
        The size is no even positive whole number.

    Examples
    --------
    >>> x = torch.randn(2, 3, 16, 24)
    >>> z = Blocks(8).encode(x)
    >>> z.shape, torch.allclose(Blocks(8).decode(z), x, atol=1e-5)
    (torch.Size([2, 3, 2, 3, 64]), True)
    """

    size: int = 8

    def __post_init__(self) -> None:
        whole = isinstance(self.size, int) and not isinstance(self.size, bool)
        if not whole or self.size < 2 or self.size % 2:
            raise ConfigError(
                f"a block has an even number of rows and columns; got size={self.size!r}"
            )

    @property
    def channels(self) -> int:
        """Coefficients of a block."""
        return self.size**2

    @cached_property
    def waves(self) -> tuple[tuple[int, int], ...]:
        """Numbers (u, v) of the channels, half waves along rows and along columns of blocks."""
        n = self.size
        pairs = [(u, v) for u in range(n) for v in range(n)]
        return tuple(sorted(pairs, key=lambda p: (p[0] ** 2 + p[1] ** 2, p)))

    @cached_property
    def matrix(self) -> Tensor:
        """The orthogonal map (n * n, C) of the cells of a block."""
        n = self.size
        i = torch.arange(n, dtype=torch.float64)
        rows = [((2 * i + 1) * (math.pi * u / (2 * n))).cos() for u in range(n)]
        basis = torch.stack(rows) * math.sqrt(2 / n)
        basis[0] /= math.sqrt(2)
        images = [torch.outer(basis[u], basis[v]).flatten() for u, v in self.waves]
        return torch.stack(images, dim=1).float()

    @cached_property
    def filter(self) -> Tensor:
        """The orthogonal map P (n, n) of the cells at a border."""
        m = self.size // 2
        i = torch.arange(m, dtype=torch.float64)
        second = math.sqrt(2 / m) * (math.pi / m * torch.outer(i, i + 0.5)).cos()
        second[0] /= math.sqrt(2)
        fourth = math.sqrt(2 / m) * (math.pi / m * torch.outer(i + 0.5, i + 0.5)).cos()
        V = (second.T @ fourth).flip(0, 1)
        eye, zero = torch.eye(m, dtype=torch.float64), torch.zeros(m, m, dtype=torch.float64)
        fold = torch.cat([torch.cat([eye, eye.flip(0)], 1), torch.cat([eye.flip(0), -eye], 1)])
        middle = torch.cat([torch.cat([eye, zero], 1), torch.cat([zero, V], 1)])
        return (fold @ middle @ fold / 2).float()

    def encode(self, x: Tensor) -> Tensor:
        """Return the coefficients (..., h, w, C) of fields (..., H, W).

        Raises
        ------
        GridMismatchError
            Rows or columns are no multiple of the size.
        """
        n = self.size
        H, W = x.shape[-2:]
        if H % n or W % n:
            raise GridMismatchError(
                f"fields of {H} x {W} cells have no whole blocks of {n} x {n}: pad or crop them "
                f"to multiples of {n}"
            )
        x = self._lapped(x, self.filter)
        cells = x.unflatten(-1, (-1, n)).unflatten(-3, (-1, n)).transpose(-3, -2).flatten(-2)
        return cells @ self.matrix.to(x)

    def decode(self, z: Tensor) -> Tensor:
        """Return the fields (..., H, W) of the first coefficients (..., h, w, c); others are 0."""
        n = self.size
        cells = z @ self.matrix[:, : z.shape[-1]].T.to(z)
        x = cells.unflatten(-1, (n, n)).transpose(-3, -2).flatten(-2).flatten(-3, -2)
        return self._lapped(x, self.filter.T)

    def _lapped(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return fields with a map of the cells at the borders of blocks, along both axes."""
        n = self.size
        for _ in range(2):
            inner = x[..., n // 2 : x.shape[-1] - n // 2].unflatten(-1, (-1, n))
            inner = (inner @ matrix.T.to(x)).flatten(-2)
            x = torch.cat([x[..., : n // 2], inner, x[..., x.shape[-1] - n // 2 :]], -1).mT
        return x

    def mirrored(self, z: Tensor, axis: int) -> Tensor:
        """Return the coefficients of mirrored fields, along rows (0) or columns (1)."""
        signs = torch.tensor([(-1.0) ** wave[axis] for wave in self.waves[: z.shape[-1]]])
        return z.flip(-3 + axis) * signs.to(z)

    def transposed(self, z: Tensor) -> Tensor:
        """Return the coefficients of transposed fields.

        Raises
        ------
        ConfigError
            There is a wave (u, v) among the channels, but no (v, u).
        """
        waves = self.waves[: z.shape[-1]]
        if any((v, u) not in waves for u, v in waves):
            raise ConfigError(f"the first {len(waves)} channels are not those of transposes")
        order = [waves.index((v, u)) for u, v in waves]
        return z.transpose(-3, -2)[..., order]
