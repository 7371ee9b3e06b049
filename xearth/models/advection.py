r"""Extrapolation along motion as part of a network: differentiable, without weights.

The twin of :mod:`xearth.reference.flow`, number for number: the same equations, on batches
(N, T, H, W, C) and on any device. Gradients go through what is carried, through the displacements,
and through the motion to the frames it was found from. A network can so forecast what the
extrapolation gets wrong (:class:`Extrapolation`), or correct its motion.

Tensors hold no missing values: a mask says what is known.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, GridMismatchError

__all__ = ["Extrapolation", "displacements", "motion", "sample", "warp"]

COARSEST = 16
MIDPOINT = 2
SINGULAR = 1e-9
NEARLY_ONE = 1 - 1e-3


def motion(
    frames: Tensor,
    mask: Tensor | None = None,
    *,
    window: float = 8.0,
    iterations: int = 3,
    stiffness: float = 0.1,
) -> Tensor:
    """Find the motion of a pattern.

    Parameters
    ----------
    frames : Tensor (N, T, H, W)
        At even steps, T at least 2. Logarithms of rain rates serve better than rates.
    mask : Tensor of bool (N, T, H, W), optional
        True where known; by default everywhere.
    window : float
        Standard deviation of the window in cells.
    iterations : int
        At each level.
    stiffness : float
        How much a cell follows the motion of all cells together.

    Returns
    -------
    Tensor (N, H, W, 2)
        Cells per step along rows and columns; zero where the frames hold no pattern at all.

    Raises
    ------
    GridMismatchError
        Not four dimensions, fewer than two frames, or a mask of another shape.

    Examples
    --------
    >>> rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    >>> def blob(t):
    ...     return torch.exp(-((rows - 14 - t) ** 2 + (columns - 20 - 2 * t) ** 2) / 40)
    >>> v = motion(torch.stack([blob(0), blob(1), blob(2)])[None])
    >>> v[0, 16, 24].round(decimals=2)
    tensor([1., 2.])
    """
    if frames.dim() != 4 or frames.shape[1] < 2:
        raise GridMismatchError(
            f"frames must be a tensor (N, T, H, W) with T >= 2; got {tuple(frames.shape)}. Take "
            "one channel of (N, T, H, W, C): x[..., 0]"
        )
    mask = torch.ones_like(frames, dtype=torch.bool) if mask is None else mask
    if mask.shape != frames.shape:
        raise GridMismatchError(
            f"mask must have the shape of the frames, {tuple(frames.shape)}; got "
            f"{tuple(mask.shape)}"
        )
    pyramid = [(torch.where(mask, frames, 0.0), mask.to(frames.dtype))]
    while min(pyramid[-1][0].shape[-2:]) >= 2 * COARSEST:
        pyramid.append(_halve(*pyramid[-1]))
    coarsest = pyramid[-1][0]
    v = coarsest.new_zeros((len(coarsest), *coarsest.shape[-2:], 2))
    for level in range(len(pyramid) - 1, -1, -1):
        z, known = _smooth(*pyramid[level])
        if v.shape[1:3] != z.shape[-2:]:
            v = _enlarge(v, z)
        for _ in range(iterations):
            v = _step(z, known, v, window / 2**level, stiffness)
    return v


def displacements(v: Tensor, steps: int) -> Tensor:
    """Follow trajectories backward.

    Parameters
    ----------
    v : Tensor (N, H, W, 2)
        Motion in cells per step; beyond the edge it is that of the edge.
    steps : int
        Number of leads, L.

    Returns
    -------
    Tensor (N, L, H, W, 2)
        How far what arrives in a cell has come, in cells.

    Examples
    --------
    >>> displacements(torch.full((1, 3, 4, 2), 0.5), 2)[0, :, 0, 0]
    tensor([[0.5000, 0.5000],
            [1.0000, 1.0000]])
    """
    x = _cells(v)
    d, alpha = torch.zeros_like(v), v
    found = []
    for _ in range(steps):
        for _ in range(MIDPOINT):
            alpha = sample(v, x - d - alpha / 2)
        d = d + alpha
        found.append(d)
    return torch.stack(found, dim=1)


def warp(x: Tensor, d: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Bring a field to the cells where it has moved.

    Parameters
    ----------
    x : Tensor (N, H, W, C)
    d : Tensor (N, L, H, W, 2)
        Displacements.
    mask : Tensor of bool (N, H, W, C), optional
        True where known; by default everywhere.

    Returns
    -------
    values : Tensor (N, L, H, W, C)
        Zero where not known.
    known : Tensor of bool (N, L, H, W, C)
        False where the values have come from beyond the edge, or more from unknown cells than
        from others.

    Examples
    --------
    >>> row = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)
    >>> values, known = warp(row, torch.tensor([0.0, 1.0]).expand(1, 1, 1, 4, 2))
    >>> values.flatten(), known.flatten()
    (tensor([0., 1., 2., 3.]), tensor([False,  True,  True,  True]))
    """
    N, H, W, C = x.shape
    if d.shape[0] != N or d.shape[2:] != (H, W, 2):
        raise GridMismatchError(
            f"displacements of a field {tuple(x.shape)} must be (N, L, H, W, 2) with N, H, W = "
            f"{(N, H, W)}; got {tuple(d.shape)}"
        )
    at = _cells(d) - d
    inside = _inside(at)
    if mask is None:
        values = sample(x, at)
        known = inside.expand_as(values)
    else:
        filled, weight = torch.where(mask, x, 0.0), mask.to(x.dtype)
        total, share = sample(torch.cat([filled, weight], dim=-1), at).split(C, dim=-1)
        values = total / torch.where(share > 0, share, 1.0)
        known = inside & (share >= 0.5)
    return torch.where(known, values, 0.0), known


def sample(values: Tensor, at: Tensor) -> Tensor:
    """Interpolate bilinearly; beyond the edge the value is that of the edge.

    Parameters
    ----------
    values : Tensor (N, H, W, C)
    at : Tensor (N, ..., 2)
        Rows and columns, not whole.

    Returns
    -------
    Tensor (N, ..., C)

    Examples
    --------
    >>> square = torch.arange(4.0).reshape(1, 2, 2, 1)
    >>> sample(square, torch.tensor([[[0.5, 0.5], [9.0, 0.0]]])).flatten()
    tensor([1.5000, 2.0000])
    """
    N, H, W, C = values.shape
    row = at[..., 0].clamp(0, H - 1).flatten(1)
    column = at[..., 1].clamp(0, W - 1).flatten(1)
    i = row.detach().floor().clamp_max(max(H - 2, 0))
    j = column.detach().floor().clamp_max(max(W - 2, 0))
    p, q = (row - i)[..., None], (column - j)[..., None]
    first = (i * W + j).long()
    below, right = min(H - 1, 1) * W, min(W - 1, 1)
    flat = values.flatten(1, 2)

    def corner(shift: int) -> Tensor:
        return flat.gather(1, (first + shift)[..., None].expand(-1, -1, C))

    found = (1 - p) * ((1 - q) * corner(0) + q * corner(right)) + p * (
        (1 - q) * corner(below) + q * corner(below + right)
    )
    return found.reshape(N, *at.shape[1:-1], C)


class Extrapolation(nn.Module):
    """The last frame carried along the motion of all frames, as a layer without weights.

    Parameters
    ----------
    steps : int
        Number of leads, L.
    channel : int
        The channel whose pattern is followed; all are carried along it.
    window, stiffness : float
        As in :func:`motion`.

    Raises
    ------
    ConfigError
        ``steps`` is not positive.

    Examples
    --------
    >>> ahead, known = Extrapolation(6)(torch.rand(2, 4, 20, 30, 1))
    >>> ahead.shape, known.shape
    (torch.Size([2, 6, 20, 30, 1]), torch.Size([2, 6, 20, 30, 1]))
    """

    def __init__(
        self, steps: int, *, channel: int = 0, window: float = 8.0, stiffness: float = 0.1
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ConfigError(f"steps must be a positive number of leads; got {steps}")
        self.steps, self.channel = steps, channel
        self.window, self.stiffness = window, stiffness

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Extrapolate.

        Parameters
        ----------
        x : Tensor (N, T, H, W, C)
            History, in logarithms where that is what it should be followed by.
        mask : Tensor of bool (N, T, H, W, C), optional
            True where known.

        Returns
        -------
        values, known : Tensor (N, L, H, W, C)
            As of :func:`warp`.
        """
        seen = None if mask is None else mask[..., self.channel]
        v = motion(x[..., self.channel], seen, window=self.window, stiffness=self.stiffness)
        last = None if mask is None else mask[:, -1]
        return warp(x[:, -1], displacements(v, self.steps), last)


# --- least squares ------------------------------------------------------------------------------


def _step(z: Tensor, known: Tensor, v: Tensor, window: float, stiffness: float) -> Tensor:
    """Improve the motion once."""
    x = _cells(v)
    n = z.shape[1] - 1
    before, after = x - v / 2, x + v / 2
    early = sample(torch.cat([z[:, :-1], known[:, :-1]], dim=1).movedim(1, -1), before)
    late = sample(torch.cat([z[:, 1:], known[:, 1:]], dim=1).movedim(1, -1), after)
    a, b = early[..., :n], late[..., :n]
    sure = early[..., n:] * late[..., n:] > NEARLY_ONE
    w = (_inside(before) & _inside(after) & sure).to(z.dtype)
    e = b - a
    row, column = _gradient((a + b) / 2)
    r = row * v[..., :1] + column * v[..., 1:] - e
    products = (row * row, row * column, column * column, row * r, column * r)
    sums = torch.stack([(w * p).sum(-1) for p in products], dim=-1)
    nothing = v.new_zeros(())
    whole = _solve(sums.sum((1, 2), keepdim=True), nothing, v.new_zeros(1, 1, 1, 2))
    local = _window(sums, window)
    scale = stiffness * (local[..., 0] + local[..., 2]).mean((1, 2), keepdim=True) / 2
    return _solve(local, scale, whole)


def _solve(sums: Tensor, stiffness: Tensor, toward: Tensor) -> Tensor:
    """Solve two equations per cell, (..., 5) -> (..., 2); zero where there are none."""
    g00, g01, g11, r0, r1 = sums.unbind(-1)
    g00, g11 = g00 + stiffness, g11 + stiffness
    r0, r1 = r0 + stiffness * toward[..., 0], r1 + stiffness * toward[..., 1]
    det = g00 * g11 - g01 * g01
    sound = det > SINGULAR * (g00 + g11) ** 2
    det = torch.where(sound, det, 1.0)
    rows = torch.where(sound, g11 * r0 - g01 * r1, 0.0) / det
    columns = torch.where(sound, g00 * r1 - g01 * r0, 0.0) / det
    return torch.stack([rows, columns], dim=-1)


def _gradient(z: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along rows and columns of (N, H, W, K), zero at the edge."""
    row = functional.pad((z[:, 2:] - z[:, :-2]) / 2, (0, 0, 0, 0, 1, 1))
    column = functional.pad((z[:, :, 2:] - z[:, :, :-2]) / 2, (0, 0, 1, 1))
    return row, column


def _box(field: Tensor, width: int, dim: int) -> Tensor:
    """Mean of ``width`` neighbors along one of the last two dims of (N, K, H, W), zeros beyond."""
    kernel, half = [1, 1], [0, 0]
    kernel[dim], half[dim] = width, width // 2
    return functional.avg_pool2d(field, kernel, stride=1, padding=half, count_include_pad=True)


def _window(sums: Tensor, window: float) -> Tensor:
    """Sum in a window around each cell, up to a factor; beyond the edge is zero."""
    width = 2 * max(1, round(window)) + 1
    field = sums.movedim(-1, 1)
    for dim in (0, 1):
        for _ in range(3):
            field = _box(field, width, dim)
    return field.movedim(1, -1)


# --- levels -------------------------------------------------------------------------------------


def _cells(like: Tensor) -> Tensor:
    """Rows and columns of all cells, (H, W, 2), for a tensor (..., H, W, 2)."""
    H, W = like.shape[-3:-1]
    rows = torch.arange(H, dtype=like.dtype, device=like.device)
    columns = torch.arange(W, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)


def _inside(at: Tensor) -> Tensor:
    """Whether the places (..., H, W, 2) of all cells lie within the grid, (..., H, W, 1)."""
    H, W = at.shape[-3:-1]
    top = at.new_tensor([H - 0.5, W - 0.5])
    return ((at >= -0.5) & (at <= top)).all(dim=-1, keepdim=True)


def _halve(z: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the known of 2 x 2 cells; an odd row or column has its own cells."""
    pad = (0, z.shape[3] % 2, 0, z.shape[2] % 2)
    total, count = (
        4 * functional.avg_pool2d(functional.pad(field, pad), 2) for field in (z * known, known)
    )
    return total / count.clamp_min(1.0), (count >= 2).to(z.dtype)


def _enlarge(v: Tensor, z: Tensor) -> Tensor:
    """Motion in cells of the level below."""
    at = (_cells(z[..., None].expand(*z.shape, 2)) - 0.5) / 2
    return 2.0 * sample(v, at.expand(len(v), *at.shape))


def _smooth(z: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Twice the mean of the known of 3 x 3 cells, and 1 where all of these are known."""
    whole = known
    for _ in range(2):
        total, share, whole = _mean(z * known), _mean(known), _mean(whole)
        z = torch.where(known > 0, total / share.clamp_min(1 / 9), 0.0)
    return z, (whole > NEARLY_ONE).to(z.dtype)


def _mean(field: Tensor) -> Tensor:
    """Mean of 3 x 3 cells, zeros beyond the edge."""
    return _box(_box(field, 3, 0), 3, 1)
