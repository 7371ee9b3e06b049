r"""Normal scores of rain: what of an observation its forecast distribution leaves open.

With the distribution F of a cell and lead,

.. math:: r = \Phi^{-1}(F(y)) \text{ where it rains}, \qquad
          r = \Phi^{-1}(\Phi(g) F(0)) \text{ where it does not},

with a standard normal field g that is coherent in space and time: all that is known of a dry cell
is :math:`r \le \Phi^{-1}(F(0))`, and so r is standard normal wherever F is right. The way back,
:math:`y = F^{-1}(\Phi(r))`, is exact. A law of fields of r is a law of fields of rain whose cells
have the forecast distributions, whatever the fields look like: it is what is left to learn.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .nowcast import FAR, NEVER, NowcastNet, features
from .nowcast_law import RainLaw

__all__ = ["air_laws", "rain_of", "scores", "wet_probit"]

SMALLEST = 1e-6  # probability
CHUNK = 8192


def scores(rain: RainLaw, y: Tensor, g: Tensor) -> Tensor:
    """Return the scores of rain rates in mm/h.

    Parameters
    ----------
    rain : RainLaw (...)
    y : Tensor (...)
        Finite.
    g : Tensor (...)
        Standard normal.

    Examples
    --------
    >>> half = RainLaw(torch.tensor(0.5).log(), torch.tensor(0.0), torch.tensor(0.0))
    >>> scores(half, torch.tensor([0.0, 1.0]), torch.zeros(2)).round(decimals=3)
    tensor([-0.6740,  0.9000])
    """
    chance = rain.wet.double().exp().clamp(SMALLEST, 1 - SMALLEST)
    above = rain.wet - ((y.clamp_min(1e-6).log() - rain.scale) * (-rain.shape).exp()).exp()
    wet = -torch.special.ndtri(above.double().exp().clamp(SMALLEST, 1 - SMALLEST))
    c = torch.special.ndtri(1 - chance)
    dry = torch.special.ndtri((torch.special.ndtr(g.double()) * (1 - chance)).clamp_min(SMALLEST))
    return torch.where(y > 0, torch.maximum(wet, c), dry).to(y.dtype)


def rain_of(rain: RainLaw, r: Tensor) -> Tensor:
    """Return the rain rates in mm/h of scores; gradients pass.

    Examples
    --------
    >>> half = RainLaw(torch.tensor(0.5).log(), torch.tensor(0.0), torch.tensor(0.0))
    >>> rain_of(half, scores(half, torch.tensor([0.0, 1.0]), torch.zeros(2))).round(decimals=3)
    tensor([0., 1.])
    """
    above = -torch.special.log_ndtr(-r) + rain.wet
    rate = (rain.shape.exp() * above.clamp_min(1e-9).log() + rain.scale).exp()
    return torch.where(above > 1e-9, rate, torch.zeros_like(rate))


def wet_probit(rain: RainLaw, limit: float = 3.0) -> Tensor:
    """Return the score that probability of rain is, within limits.

    Examples
    --------
    >>> wet_probit(RainLaw(torch.tensor([0.5, 1e-9]).log(), torch.zeros(2), torch.zeros(2)))
    tensor([ 0., -3.])
    """
    chance = rain.wet.exp().clamp(1e-4, 1 - 1e-4)
    return torch.special.ndtri(chance).clamp(-limit, limit)


def air_laws(
    net: NowcastNet, z: Tensor, known: Tensor, speed: Tensor, *, facts: tuple[float, float],
    leads: int,
) -> Tensor:  # fmt: skip
    """Return what a nowcast network says of the cells of the air, not yet bounded.

    Parameters
    ----------
    net : NowcastNet
    z, known : Tensor (T, H, W)
        Signal of moved frames, 0 where not known.
    speed : Tensor (H, W)
        m/s.
    facts : tuple of float
        Width of the cells in km, time step in minutes.
    leads : int
        L.

    Returns
    -------
    Tensor (L, H, W, 3)
    """
    H, W = z.shape[-2:]
    x = features(z[None], known[None], speed[None])[0]
    minutes = facts[1] * torch.arange(1, leads + 1, dtype=x.dtype)
    blocks = functional.max_pool2d(functional.pad(z[None, -1:], (0, -W % FAR, 0, -H % FAR)), FAR)
    near = functional.interpolate(functional.max_pool2d(blocks, 3, 1, 1), scale_factor=FAR)
    wet = (near[0, 0, :H, :W] > 0) | ~known[-1]
    flat = x.new_tensor([NEVER, 0.0, 0.0]).expand(H, W, leads, 3).clone()
    if bool(wet.any()):
        told = x.new_tensor(facts)
        flat[wet] = torch.cat([net(some[:, None], told, minutes) for some in x[wet].split(CHUNK)])
    return flat.movedim(2, 0)
