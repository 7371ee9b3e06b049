r"""Cases that a nowcast network is trained on, in the coordinates of the air.

A case holds the frames before a start, brought to its time, and for each cell and lead the rain
observed where the cell's rain has moved: in the cell :math:`q` of the grid that its trajectory
ends in, :math:`q = [x + D_n(x)]`. What arrives there was at :math:`q - d_n(q) = x + \delta`,
where :math:`\delta` is a fraction of a cell; there the distributions of the network are read, as
in a forecast.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .advection import sample
from .nowcast import KNEE, Lagrangian, features, forward_places, lagrangian, signal

__all__ = ["Case", "Points", "case", "coarsen", "points"]

DRY = 0.15  # share of the cells without rain around that are taken
_SHIFTS = 100  # steps of a cell in which fractions of it are kept


class Case(NamedTuple):
    """One start, as small as it can be kept.

    Parameters
    ----------
    rate : Tensor of float16 (T, H, W)
        Moved frames, mm/h; NaN where not known.
    speed : Tensor of float16 (H, W)
        m/s.
    y : Tensor of float16 (L, H, W)
        Observed at the end of the trajectory, mm/h; NaN where not known.
    shift : Tensor of int8 (L, H, W, 2)
        Fractions of a cell, in hundredths.
    facts : tuple of float
        Width of the cells in km, time step in minutes.
    """

    rate: Tensor
    speed: Tensor
    y: Tensor
    shift: Tensor
    facts: tuple[float, float]


class Points(NamedTuple):
    """Samples: a cell at a lead each.

    Parameters
    ----------
    x : Tensor (n, F)
        Features.
    y : Tensor (n,)
        Observed rain rate, mm/h.
    facts : Tensor (n, 2)
        Width of the cells in km, time step in minutes.
    minutes : Tensor (n,)
        Lead.
    """

    x: Tensor
    y: Tensor
    facts: Tensor
    minutes: Tensor


def case(past: Tensor, future: Tensor, facts: tuple[float, float]) -> Case:
    """Return the case of frames up to a start and after it.

    Parameters
    ----------
    past : Tensor (T, H, W)
        mm/h, NaN where missing.
    future : Tensor (L, H, W)
        Likewise; frames that do not exist are all missing.
    facts : tuple of float
        Width of the cells in km, time step in minutes.

    Examples
    --------
    >>> still = torch.rand(1, 40, 48)
    >>> made = case(still.expand(4, -1, -1), still.expand(3, -1, -1), (2.0, 5.0))
    >>> bool(((made.y - made.rate[-1]).abs() < 0.01).all())
    True
    """
    known = ~past.isnan()
    moved = lagrangian(signal(past.nan_to_num(0.0))[None], known[None], len(future))
    y, shift = _ends(moved, future)
    rate = torch.where(moved.known[0], KNEE * torch.expm1(moved.z[0]), torch.nan)
    speed = moved.speed[0] * facts[0] * 1000 / (facts[1] * 60)
    return Case(rate.half(), speed.half(), y.half(), shift, facts)


def coarsen(rate: Tensor, factor: int) -> Tensor:
    """Return means of factor x factor cells (T, H, W), missing where one of them is.

    Examples
    --------
    >>> coarsen(torch.tensor([[[1.0, 3.0, 9.0], [0.0, 0.0, 9.0]]]), 2)
    tensor([[[1.]]])
    """
    return functional.avg_pool2d(rate[:, None], factor)[:, 0]


def points(
    one: Case,
    count: int,
    generator: torch.Generator,
    *,
    factor: float = 1.0,
    frames: int | None = None,
) -> Points:
    """Return so many cells of each lead of a case, most of them with rain around.

    Which cells are taken depends on what is known at the start alone, so that what is learned of
    them holds for all.

    Parameters
    ----------
    one : Case
    count : int
        Of each lead.
    generator : torch.Generator
    factor : float
        By which all rain is multiplied.
    frames : int, optional
        Only the last so many are known; default all.

    Examples
    --------
    >>> still = torch.rand(1, 40, 48)
    >>> made = case(still.expand(4, -1, -1), still.expand(3, -1, -1), (2.0, 5.0))
    >>> points(made, 10, torch.Generator().manual_seed(0)).x.shape[0]
    30
    """
    rate = one.rate.float() * factor
    known = ~rate.isnan()
    if frames is not None:
        known[:-frames] = False
    z = torch.where(known, signal(rate.nan_to_num(0.0)), 0.0)
    x = features(z[None], known[None], one.speed.float()[None])
    L, H, W = one.y.shape
    near = functional.max_pool2d(z[None, -1:], 33, stride=1, padding=16)[0, 0] > math.log(2.0)
    likely = torch.where(near | ~known[-1], 1.0, DRY).expand(L, H, W) * ~one.y.isnan()
    groups = []
    for n in range(L):
        if int((likely[n] > 0).sum()) < count:
            continue
        cells = torch.multinomial(likely[n].flatten(), count, generator=generator)
        at = (
            torch.stack([cells // W, cells % W], dim=-1)
            + one.shift[n].flatten(0, 1)[cells] / _SHIFTS
        )
        groups.append(
            Points(
                sample(x, at[None])[0],
                one.y[n].flatten()[cells].float() * factor,
                torch.tensor(one.facts).expand(count, 2),
                torch.full((count,), (n + 1) * one.facts[1]),
            )
        )
    return Points(*(torch.cat(parts) for parts in zip(*groups, strict=True)))


def _ends(moved: Lagrangian, future: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is observed where the cells' rain has moved, and the fractions of a cell."""
    P, size = moved.border, moved.z.shape[-2:]
    ends = forward_places(moved)[0].long()
    top = torch.tensor(size) - 1
    held = ends.clamp_min(0).minimum(top)
    came = (
        moved.back[0]
        .flatten(1, 2)
        .gather(1, (held[..., 0] * size[1] + held[..., 1]).flatten(1)[..., None].expand(-1, -1, 2))
        .unflatten(1, size)
    )
    rows, columns = torch.arange(size[0]), torch.arange(size[1])
    cells = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
    delta = held - came - cells
    wide = functional.pad(future, [P] * 4, value=torch.nan)
    y = wide.flatten(1).gather(1, (held[..., 0] * size[1] + held[..., 1]).flatten(1))
    y = y.unflatten(1, size)
    sound = (held == ends).all(-1) & (delta.abs() <= 1.2).all(-1)
    return torch.where(sound, y, torch.nan), (delta.clamp(-1.2, 1.2) * _SHIFTS).round().to(
        torch.int8
    )
