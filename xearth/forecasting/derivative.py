r"""The first guess as a differentiable function of the history.

The same formula as :mod:`xearth.forecasting.firstguess`, in tensors: a test holds the two equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .firstguess import FittedGuess

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["guess_mean"]


def guess_mean(fitted: FittedGuess, x: Tensor, season: np.ndarray) -> Tensor:
    """Return the guess (N, L, H, W, C) of normalized histories x (N, T, H, W, C).

    Parameters
    ----------
    fitted : FittedGuess
    x : Tensor (N, T, H, W, C)
        0 where missing.
    season : array (N,)
        Time of year of the init, in [0, 1).
    """
    import torch

    def like(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=x.dtype, device=x.device)

    weight, eofs = like(fitted.weight), like(fitted.eofs)
    last = x[:, -1].flatten(1)
    past = [
        (x[:, x.shape[1] - 1 - lag].flatten(1) * weight) @ eofs.T / fitted.scale
        for lag in fitted.lags
    ]
    parts = [x.new_ones(len(x), 1), *past]
    if fitted.products:
        from .firstguess import _PRODUCT

        few = torch.cat([p[:, : fitted.products] for p in past], 1)
        i, j = np.triu_indices(few.shape[1])
        each = _PRODUCT / len(fitted.lags) * np.where(i == j, 1.0, np.sqrt(2.0))
        parts.append(few[:, i] * few[:, j] * like(each))
    base = torch.cat(parts, 1)
    angle = 2 * np.pi * np.asarray(season, dtype=np.float64)[:, None]
    waves = [base * like(fitted.annual * wave(angle)) for wave in (np.cos, np.sin)]
    features = torch.cat([base, *waves], 1)
    p = torch.einsum("nf,lfk->nlk", features, like(fitted.coefficients))
    p0 = (last * weight) @ eofs.T
    if len(fitted.cycle):
        phase = np.rint(np.asarray(season) * len(fitted.cycle)).astype(int) % len(fitted.cycle)
        state = torch.cat([x.new_ones(len(x), 1), p0], 1)
        p = p + torch.einsum("nf,nlfk->nlk", state, like(fitted.cycle[phase]))
    inverse = like(np.divide(1.0, fitted.weight, out=0 * fitted.weight, where=fitted.weight > 0))
    remainder = last * (weight > 0) - (p0 @ eofs) * inverse
    fields = (p @ eofs) * inverse + like(fitted.damping) * remainder[:, None]
    return fields.reshape(len(x), len(fitted.damping), *x.shape[2:])
