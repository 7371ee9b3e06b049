r"""What training adds to the errors of a denoiser, and the errors of an alignment network.

The errors :math:`\ell_n` of :mod:`xearth.models.prediff.objective` are small at some times and
large at others. With a learned :math:`s_t`, the logarithm of the error to expect at time t,

.. math:: L_n = \ell_n \exp(-s_t) + s_t

weighs all times the same; it can be negative. An alignment network is trained on

.. math:: \overline{\big(U_\phi(z_t, t) - m(x)\big)^2},

with m(x) numbers of each frame of the clean field, such as its mean.

Sources: Nichol and Dhariwal (2021), *Improved Denoising Diffusion Probabilistic Models*; Gao et
al. (2023), *PreDiff*.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.prediff.alignment import Alignment
from ..models.prediff.objective import Trained

__all__ = ["TimeWeights", "alignment_errors"]


class TimeWeights(nn.Module):
    """The learned logarithm of the error to expect at each time of a process.

    Parameters
    ----------
    steps : int
        Times of the process, 0 to steps - 1.

    Raises
    ------
    ConfigError
        If there is no time.

    Examples
    --------
    >>> TimeWeights(10)(torch.tensor([0.5]), torch.tensor([3])).tolist()
    [0.5]
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ConfigError(f"a process has at least 1 step; got {steps}")
        self.log_error = nn.Parameter(torch.zeros(steps))

    def forward(self, error: Tensor, t: Tensor) -> Tensor:
        """Return error * exp(-s_t) + s_t of errors (N,) at times (N,)."""
        s = self.log_error[t.long()]
        return error * torch.exp(-s) + s


def alignment_errors(
    network: Alignment, process: Trained, z0: Tensor, numbers: Tensor, *, t: Tensor, noise: Tensor
) -> Tensor:
    """Return the mean squared error of what an alignment network reads, (N,).

    Parameters
    ----------
    network : Alignment
        (z_t, t) -> numbers of each frame.
    process : Noising
        A process of :mod:`xearth.models.prediff`.
    z0, noise : Tensor
        Clean latent forecasts and standard normal noise (N, T, H, W, C).
    numbers : Tensor
        What is to be read from the clean fields (N, T, m).
    t : Tensor
        Times (N,).

    Raises
    ------
    ConfigError
        If there are other numbers than the network reads.

    Examples
    --------
    >>> from xearth.models.prediff.process import Diffusion
    >>> reads = lambda z, t: z.mean((2, 3, 4))[..., None]  # means of frames, for a network
    >>> z0, t = torch.ones(3, 2, 4, 4, 1), torch.tensor([0, 5, 9])
    >>> numbers, noise = torch.ones(3, 2, 1), torch.zeros(3, 2, 4, 4, 1)
    >>> errors = alignment_errors(reads, Diffusion(), z0, numbers, t=t, noise=noise)
    >>> errors.shape, bool((errors < 1e-5).all())
    (torch.Size([3]), True)
    """
    found = network(process.noised(z0, t, noise), t)
    if found.shape != numbers.shape:
        raise ConfigError(
            f"the alignment network reads {tuple(found.shape)} (N, frames, outputs), the numbers "
            f"to be read are {tuple(numbers.shape)}: they must be the same, without broadcasting"
        )
    return (found - numbers).square().flatten(1).mean(1)
