r"""Guidance to the nearest clean field whose decoded field holds a condition.

With E the energy of the condition and :math:`\rho(x) = \sqrt{2 E(D(x))}` the distance from it in
units of its scale, the predicted clean field is moved

.. math:: \hat x_0 \leftarrow \hat x_0 - \rho\, \frac{\nabla \rho}{\lVert \nabla \rho \rVert^2}

a few times: Newton's step to the nearest point where :math:`\rho` is 0 to first order. The
decoder is differentiated, the network is not, so a step costs little more than one without
guidance; and it has no strength to choose.

Source: He et al. (2024), *Manifold preserving guided diffusion* (guidance of the clean field
without derivatives of the network).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConfigError
from ..conditions.protocol import Condition
from .guidance import Decode
from .levels import Level, Predictor

__all__ = ["NearestGuidance"]

LONGEST = 0.5  # root mean square of a move, in units of the latent space


@dataclass(frozen=True, eq=False, kw_only=True)
class NearestGuidance:
    """Moves of the predicted clean field towards a condition, through the decoder alone.

    Parameters
    ----------
    condition : Condition
    decode : callable
        D, from clean states to the fields of the condition.
    moves : int
        At each level.

    Raises
    ------
    ConfigError
        Fewer than one move.

    Examples
    --------
    A clean field that a network predicts as it is; its decoder doubles it:

    >>> from xearth.models.conditions.linear import Linear
    >>> from xearth.models.conditions.rows import Rows
    >>> mean = Rows.over(torch.ones(1, 1, 2, 1), frames=True).mean()
    >>> wet = Linear(mean, lower=1.0, upper=1.0)
    >>> nearest = NearestGuidance(condition=wet, decode=lambda x: 2 * x)
    >>> clean = nearest(torch.zeros(1, 1, 1, 2, 1), None, lambda z, level: z)
    >>> clean.flatten().tolist(), wet.residual(2 * clean).abs().max().item() < 1e-6
    ([0.5, 0.5], True)
    """

    condition: Condition
    decode: Decode
    moves: int = 3

    def __post_init__(self) -> None:
        if self.moves < 1:
            raise ConfigError(f"NearestGuidance(moves={self.moves}): expected at least 1")

    def __call__(self, z: Tensor, level: Level, predict: Predictor) -> Tensor:
        """Return the moved clean field."""
        clean = predict(z, level)
        for _ in range(self.moves):
            with torch.enable_grad():
                leaf = clean.detach().requires_grad_()
                root = (2.0 * self.condition.energy(self.decode(leaf))).clamp_min(0.0)
                away = root.detach() > 1e-12
                if not bool(away.any()):
                    return clean
                root = torch.where(away, root, torch.ones_like(root)).sqrt()
                (gradient,) = torch.autograd.grad(root.sum(), leaf)
            size = gradient.flatten(1).square().sum(1).clamp_min(1e-20)
            length = torch.where(away, root.detach() / size, torch.zeros_like(size))
            move = length.to(clean).reshape(-1, *[1] * (clean.ndim - 1)) * gradient
            rms = move.flatten(1).square().mean(1).sqrt()
            short = (LONGEST / rms.clamp_min(1e-12)).clamp_max(1.0)
            clean = clean - short.reshape(-1, *[1] * (clean.ndim - 1)) * move
        return clean
