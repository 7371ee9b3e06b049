r"""A small network for nowcasts that follow the rain: from moved frames to distributions.

It works in the coordinates of the air. All frames of the history have been brought along the
motion to the time of the last one (:func:`lagrangian`), so a cell holds the past of the rain that
is in it now, and what is said of lead :math:`\tau` holds for the rain that is in it now, wherever
that will be. One pass so serves all leads, and any number of them.

**Features.** With :math:`z = \log(1 + R / 0.1)` of the rain rate :math:`R` in mm/h and the mean
:math:`\langle \cdot \rangle_\ell` of the known of :math:`2^\ell \times 2^\ell` cells around a
cell, :math:`\ell = 0 \dots 5`, these are the scales of the last frame (of :math:`z`,
:math:`\sqrt R`, and whether it rains), how they have grown, :math:`\langle z_0 - z_{-k}
\rangle_\ell`, how well the motion has explained the past, :math:`\langle |z_0 - z_{-k}|
\rangle_\ell`, the variance inside each scale, and what is known. No feature knows a direction or
a place. (Large structures live longer than small ones: the cascade of Seed, 2003.)

**Network.** The same for each cell: layers :math:`U` of the features :math:`x`, then

.. math:: (p, \lambda, \kappa)_\tau = C(\tau) x
          + W \, \phi\big(a(\tau) \odot U(x) + b(\tau)\big)

with :math:`C, a, b` from lead, time step and width of the cells. The numbers are those of
:mod:`~xearth.models.nowcast_law`.

Source: Seed, A. W. (2003): A dynamic and spatial scaling approach to advection forecasting.
*J. Appl. Meteor.* 42, 381-388.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, GridMismatchError
from .advection import displacements, motion, sample
from .config_parts import from_plain, to_plain

__all__ = [
    "Lagrangian",
    "NowcastConfig",
    "NowcastNet",
    "features",
    "forward_places",
    "lagrangian",
    "predict",
    "signal",
]

#: Rain rate in mm/h below which the signal is nearly linear, above nearly logarithmic.
KNEE = 0.1
#: Frames, up to the last, that the motion is found from; cells that frames may come from outside.
FOLLOWED, BORDER = 4, 64
#: Halvings of the grid, and number of features of a cell.
LEVELS, FEATURES = 5, 59
#: Cells within which there must be rain for rain to come (to twice that), and what is said where
#: there is none.
FAR, NEVER = 32, -12.0
#: Widths of cells in km, steps in minutes, and the longest lead in minutes, of training.
WIDTHS, STEPS, LONGEST = (1.9, 4.1), (5.0, 12.0), 144.0
CHUNK = 8192  # cells that a processor's cache holds


@dataclass(frozen=True, kw_only=True)
class NowcastConfig:
    """Sizes of a :class:`NowcastNet`.

    Parameters
    ----------
    frames : int
        Of the history, at least 3.
    width : int
        Of the layers that are the same for all leads.
    hidden : int
        Of the layer that depends on the lead.

    Raises
    ------
    ConfigError
        A number is not a positive whole number, or there are fewer than 3 frames.

    Examples
    --------
    >>> config = NowcastConfig(width=16)
    >>> NowcastConfig.from_dict(config.to_dict()) == config
    True
    """

    frames: int = 6
    width: int = 96
    hidden: int = 48

    def __post_init__(self) -> None:
        numbers = (self.frames - 2, self.width, self.hidden)
        if any(not isinstance(n, int) or n < 1 for n in numbers):
            raise ConfigError(
                f"{self!r}: expected positive whole numbers, and frames of at least 3"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NowcastConfig:
        """Return the configuration that :meth:`to_dict` wrote.

        Raises
        ------
        ConfigError
            If a key is unknown; the message lists the known ones.
        """
        return from_plain(cls, values)

    def build(self) -> NowcastNet:
        """Return the network with new weights."""
        return NowcastNet(self)


class NowcastNet(nn.Module):
    """From features of cells to distributions of rain, for any leads.

    Parameters
    ----------
    config : NowcastConfig

    Examples
    --------
    >>> net = NowcastConfig(width=16, hidden=8).build()
    >>> x = torch.zeros(7, FEATURES)
    >>> net(x[:, None], torch.tensor([2.0, 5.0]), torch.tensor([5.0, 30.0, 60.0])).shape
    torch.Size([7, 3, 3])
    """

    center: Tensor
    scale: Tensor

    def __init__(self, config: NowcastConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("center", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.first = nn.Linear(FEATURES, width)
        self.second = nn.Linear(width, width)
        self.third = nn.Linear(width, config.hidden)
        told = 2 * config.hidden + 3 * FEATURES
        end = nn.Linear(48, told)
        for weights in (end.weight, end.bias):
            nn.init.zeros_(weights[2 * config.hidden :])
        self.lead = nn.Sequential(nn.Linear(7, 48), nn.GELU(), end)
        self.last = nn.Linear(config.hidden, 3)

    def forward(self, x: Tensor, facts: Tensor, minutes: Tensor) -> Tensor:
        """Return the numbers of the distributions, not yet bounded.

        Parameters
        ----------
        x : Tensor (..., 1, F) or (..., F)
            Features.
        facts : Tensor (..., 2)
            Width of the cells in km, time step in minutes.
        minutes : Tensor (..., L) or (...)
            Leads.

        Returns
        -------
        Tensor (..., L, 3) or (..., 3)
        """
        x = (x - self.center) / self.scale
        f = functional.silu(self.first(x))
        f = self.third(f + functional.silu(self.second(f)))
        hidden = self.config.hidden
        a, b, c = self.lead(_told(facts, minutes)).split([hidden, hidden, 3 * FEATURES], dim=-1)
        straight = torch.einsum("...f,...fk->...k", x, c.unflatten(-1, (FEATURES, 3)))
        raw: Tensor = self.last(functional.relu(torch.addcmul(b, f, 1 + a)))
        return raw + straight


def _told(facts: Tensor, minutes: Tensor) -> Tensor:
    """Return what the lead is told by, (..., 7), within what training has seen."""
    tau = minutes.clamp_max(LONGEST) / 60
    small = (tau / 0.25).log()
    width, step = (
        (facts[..., k].clamp(*limits) / usual).log().expand_as(tau)
        for k, (limits, usual) in enumerate(((WIDTHS, 2.0), (STEPS, 5.0)))
    )
    parts = [tau, small, small**2 / 2, (-tau / 0.25).exp(), width, step, width * small]
    return torch.stack(parts, dim=-1)


def features(z: Tensor, known: Tensor, speed: Tensor) -> Tensor:
    """Return the features of all cells.

    Parameters
    ----------
    z : Tensor (N, T, H, W)
        Signal of moved frames, zero where not known.
    known : Tensor of bool (N, T, H, W)
    speed : Tensor (N, H, W)
        Of the motion, m/s.

    Returns
    -------
    Tensor (N, H, W, F)

    Examples
    --------
    >>> z = torch.rand(1, 6, 40, 50)
    >>> features(z, z >= 0, z[:, 0]).shape == (1, 40, 50, FEATURES)
    True
    """
    H, W = z.shape[-2:]
    k = known.to(z.dtype)
    now, seen = z[:, -1], k[:, -1]
    earlier = k[:, :-3].sum(1)
    old = (z[:, :-3] * k[:, :-3]).sum(1) / earlier.clamp_min(1.0)
    changes = []
    for past, there in ((z[:, -2], k[:, -2]), (z[:, -3], k[:, -3]), (old, (earlier > 0) * 1.0)):
        changes.append((now - past) * seen * there)
    rate = KNEE * torch.expm1(now)
    fields = torch.stack(
        [seen, now * seen, (now > math.log(2.0)) * seen, rate.sqrt() * seen, now**2 * seen,
         *changes, changes[0].abs(), changes[1].abs()], dim=1)  # fmt: skip
    divisor = 2**LEVELS
    fields = functional.pad(fields, (0, -W % divisor, 0, -H % divisor))
    found = [
        fields[:, [0, 1, 2, 3, 5, 6, 7]],
        fields[:, 8:9],
        k.mean(1)[:, None],
        speed[:, None] / 20,
    ]
    found = [part[..., :H, :W] for part in found]
    top = (now * seen)[:, None]
    top = functional.max_pool2d(functional.pad(top, (0, -W % 8, 0, -H % 8)), 8)
    found.append(functional.interpolate(top, scale_factor=8, mode="bilinear")[..., :H, :W])
    for level in range(1, LEVELS + 1):
        fields = functional.avg_pool2d(fields, 2)
        share = fields[:, :1]
        mean = fields[:, 1:] / share.clamp_min(0.02)
        spread = (mean[:, 3:4] - mean[:, :1] ** 2).clamp_min(0.0).sqrt()
        kept = torch.cat([share, mean[:, :3], spread, mean[:, 4:]], dim=1)
        kept = kept if level < LEVELS else kept[:, [0, 1, 2, 3, 4, 5, 8, 9]]
        wide = functional.interpolate(kept, scale_factor=2**level, mode="bilinear")
        found.append(wide[..., :H, :W])
    return torch.cat(found, dim=1).movedim(1, -1)


# --- coordinates of the air ---------------------------------------------------------------------


def signal(rate: Tensor) -> Tensor:
    """Return log(1 + R / 0.1) of rain rates in mm/h.

    Examples
    --------
    >>> signal(torch.tensor([0.0, 0.1, 10.0])).round(decimals=3)
    tensor([0.0000, 0.6930, 4.6150])
    """
    return torch.log1p(rate.clamp_min(0.0) / KNEE)


class Lagrangian(NamedTuple):
    """Frames brought to where their rain is at the time of the last, on a grid with a border.

    Parameters
    ----------
    z : Tensor (N, T, H + 2 P, W + 2 P)
        Zero where not known.
    known : Tensor of bool (N, T, H + 2 P, W + 2 P)
    speed : Tensor (N, H + 2 P, W + 2 P)
        Of the motion, in cells per step.
    back : Tensor (N, L, H + 2 P, W + 2 P, 2)
        How far what arrives has come, in cells.
    border : int
        Cells on each side, P.
    """

    z: Tensor
    known: Tensor
    speed: Tensor
    back: Tensor
    border: int


def lagrangian(z: Tensor, known: Tensor, leads: int) -> Lagrangian:
    """Bring frames to the time of the last of them, and find how they will move on.

    The motion is that of cells of 2 x 2, which is smooth enough, and cheaper.

    Parameters
    ----------
    z : Tensor (N, T, H, W)
        Signal.
    known : Tensor of bool (N, T, H, W)
    leads : int
        Number of steps ahead, L.

    Raises
    ------
    GridMismatchError
        As :func:`~xearth.models.advection.motion`.

    Examples
    --------
    >>> z = torch.rand(1, 6, 40, 50)
    >>> moved = lagrangian(z, z >= 0, 12)
    >>> moved.z.shape[-2] == 40 + 2 * moved.border, moved.back.shape[1]
    (True, 12)
    """
    if known.shape != z.shape:
        raise GridMismatchError(
            f"known must have the shape of the frames, {tuple(z.shape)}; got {tuple(known.shape)}"
        )
    H, W = z.shape[-2:]
    steps = max(leads, z.shape[1] - 1)
    v = _coarse_motion(z[:, -FOLLOWED:], known[:, -FOLLOWED:])
    reach = float(displacements(v, leads)[:, -1].abs().max())
    half = min(8 * math.ceil(reach / 8), BORDER // 2)
    wide = functional.pad(v.movedim(-1, 1), [half] * 4, mode="replicate").movedim(1, -1)
    border = 2 * half
    size = (H + 2 * border, W + 2 * border)
    back = _fine(displacements(wide, steps), size)
    frame = functional.pad(
        torch.stack([z * known, known.to(z.dtype)], dim=-1), [0, 0, *[border] * 4]
    )
    now = [frame[:, -1:]]
    for k in range(1, z.shape[1]):
        at = _places(size, z) - back[:, k - 1]
        outside = ((at < -0.5) | (at > at.new_tensor(size) - 0.5)).any(-1, keepdim=True)
        now.insert(0, sample(frame[:, -1 - k], at).masked_fill(outside, 0.0)[:, None])
    values, share = torch.cat(now, dim=1).unbind(-1)
    seen = share >= 0.5
    moved = torch.where(seen, values / share.clamp_min(0.5), 0.0)
    speed = back[:, 0].norm(dim=-1)
    return Lagrangian(moved, seen, speed, back[:, :leads], border)


def predict(
    net: NowcastNet, moved: Lagrangian, facts: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Return what a network says of the cells of the grid, and where it was read.

    Parameters
    ----------
    net : NowcastNet
    moved : Lagrangian
        Of the leads that are wanted.
    facts : tuple of float
        Width of the cells in km, time step in minutes.

    Returns
    -------
    raw : Tensor (N, L, H, W, 3)
    at : Tensor (N, L, H, W, 2)
        Rows and columns on the grid with the border.
    """
    N, L = moved.back.shape[:2]
    P, size = moved.border, moved.z.shape[-2:]
    speed = moved.speed * facts[0] * 1000 / (facts[1] * 60)
    x = features(moved.z, moved.known, speed)
    told = x.new_tensor(facts)
    minutes = facts[1] * torch.arange(1, L + 1, dtype=x.dtype, device=x.device)
    # where it is dry far and wide it stays so, and nothing is computed
    wet = _wide(moved.z[:, -1]) | ~moved.known[:, -1]
    flat = x.new_tensor([NEVER, 0.0, 0.0]).expand(*wet.shape, L, 3).clone()
    flat[wet] = torch.cat([net(some[:, None], told, minutes) for some in x[wet].split(CHUNK)])
    raw = flat.movedim(3, 1)
    at = (_places(size, raw) - moved.back)[:, :, P : size[0] - P, P : size[1] - P]
    return sample(raw.flatten(0, 1), at.flatten(0, 1)).unflatten(0, (N, L)), at


def _wide(z: Tensor) -> Tensor:
    """Tell whether there is rain in the block of a cell (N, H, W), or in one next to it."""
    H, W = z.shape[-2:]
    blocks = functional.max_pool2d(functional.pad(z[:, None], (0, -W % FAR, 0, -H % FAR)), FAR)
    around = functional.max_pool2d(blocks, 3, stride=1, padding=1)
    return functional.interpolate(around, scale_factor=FAR, mode="nearest")[:, 0, :H, :W] > 0


def forward_places(moved: Lagrangian) -> Tensor:
    """Return where what is in a cell now will be, (N, L, H + 2 P, W + 2 P, 2), whole cells."""
    # trajectories of the opposite motion, backward; the motion is smooth, so half of it is enough
    size = moved.z.shape[-2:]
    v = -moved.back[:, 0]
    coarse = functional.avg_pool2d(v.movedim(-1, 1), 2).movedim(1, -1) / 2
    ahead = _fine(displacements(coarse, moved.back.shape[1]), size)
    return (_places(size, v) - ahead).round()


def _coarse_motion(z: Tensor, known: Tensor) -> Tensor:
    """Return the motion of cells of 2 x 2, in such cells per step, (N, H / 2, W / 2, 2)."""
    pad = (0, z.shape[3] % 2, 0, z.shape[2] % 2)
    share = functional.avg_pool2d(functional.pad(known.to(z.dtype), pad), 2)
    total = functional.avg_pool2d(functional.pad(z * known, pad), 2)
    return motion(total / share.clamp_min(0.25), share >= 0.5, window=4.0)


def _fine(d: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return displacements (N, L, h, w, 2) of cells of 2 x 2 for the cells (H, W) in them."""
    at = (_places(size, d) - 0.5) / 2
    N, L = d.shape[:2]
    flat = d.movedim(1, 3).flatten(-2)
    fine = sample(flat, at.expand(N, *at.shape)).unflatten(-1, (L, 2)).movedim(3, 1)
    return 2.0 * fine


def _places(size: tuple[int, ...], like: Tensor) -> Tensor:
    rows, columns = (torch.arange(n, dtype=like.dtype, device=like.device) for n in size[-2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
