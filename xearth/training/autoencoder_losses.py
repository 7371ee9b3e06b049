r"""Losses of the frame-wise autoencoder and of the discriminator it is trained against.

With :math:`\hat x` the decoded frames, D the discriminator and B frames in the batch,

.. math::
    L_G &= \frac{1}{B} \Big(\sum |x - \hat x|
           + w_{KL} \sum \tfrac12 (\mu^2 + \sigma^2 - 1 - \log\sigma^2)\Big)
           - w \, \overline{D(\hat x)}, \\
    L_D &= \tfrac12 \Big(\overline{\max(0, 1 - D(x))} + \overline{\max(0, 1 + D(\hat x))}\Big),

where w, for the last convolution W of the decoder, balances the two gradients,

.. math:: w = w_D \min\Big(10^4, \frac{\lVert \partial_W L_1 \rVert}
              {\lVert \partial_W \overline{D} \rVert + 10^{-4}}\Big),

and is 0 until the discriminator takes part. The two losses touch the weights of one network
each: the gradient of :math:`L_G` leaves nothing in the discriminator.

Sources: Esser et al. (2021), *Taming Transformers*; Rombach et al. (2022), *High-Resolution
Image Synthesis with Latent Diffusion Models*; Gao et al. (2023), *PreDiff*.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from ..errors import ConfigError
from ..models.prediff.autoencoder import Autoencoder

__all__ = ["AutoencoderLoss", "Terms", "hinge", "kl_divergence", "logistic"]

LARGEST = 1e4
SOFTENED = 1e-4


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""Return the divergence of latent frames from the standard normal law, (N, T).

    .. math:: \tfrac12 \sum_{h,w,c} (\mu^2 + \sigma^2 - 1 - \log\sigma^2)

    Parameters
    ----------
    mean, log_variance : Tensor
        (N, T, h, w, c).

    Examples
    --------
    >>> kl_divergence(torch.ones(1, 1, 2, 1, 1), torch.zeros(1, 1, 2, 1, 1)).item()
    1.0
    """
    excess = mean.square() + log_variance.exp() - 1.0 - log_variance
    return 0.5 * excess.sum(dim=(-3, -2, -1))


def hinge(real: Tensor, decoded: Tensor) -> Tensor:
    """Return the discriminator's loss of logits of data and of decoded frames.

    Examples
    --------
    >>> hinge(torch.tensor([2.0]), torch.tensor([0.0])).item()
    0.5
    """
    return 0.5 * (functional.relu(1.0 - real).mean() + functional.relu(1.0 + decoded).mean())


def logistic(real: Tensor, decoded: Tensor) -> Tensor:
    """Return the discriminator's loss by the logarithm of what it thinks probable.

    Examples
    --------
    >>> round(logistic(torch.zeros(1), torch.zeros(1)).item(), 4)
    0.6931
    """
    return 0.5 * (functional.softplus(-real).mean() + functional.softplus(decoded).mean())


@dataclass(frozen=True)
class Terms:
    """The autoencoder's loss and what it is the sum of, per frame.

    Parameters
    ----------
    total : Tensor
        What is minimized.
    absolute : Tensor
        Sum of absolute errors.
    divergence : Tensor
        Divergence of the latent frames, not weighted.
    adversarial : Tensor
        Mean logit of the decoded frames, its sign turned.
    weight : Tensor
        What balances the gradients of the two, before the discriminator takes part as well.
    decoded : Tensor
        Decoded frames (N, T, H, W, C).
    """

    total: Tensor
    absolute: Tensor
    divergence: Tensor
    adversarial: Tensor
    weight: Tensor
    decoded: Tensor


@dataclass(frozen=True, kw_only=True)
class AutoencoderLoss:
    """Absolute error, divergence from the standard normal law, and a discriminator's opinion.

    Parameters
    ----------
    divergence_weight, adversarial_weight : float
        w_KL and w_D.
    adversarial_start : int
        Step from which the discriminator takes part.

    Raises
    ------
    ConfigError
        If a number is negative.

    Examples
    --------
    >>> from xearth.models.prediff.config import AutoencoderConfig
    >>> from xearth.training.patchgan import Discriminator
    >>> config = AutoencoderConfig(latent_channels=2, widths=(8, 8), layers=1, groups=4)
    >>> loss, x = AutoencoderLoss(adversarial_start=0), torch.rand(1, 2, 32, 32, 1)
    >>> judge = Discriminator(1, units=4)
    >>> terms = loss.terms(config.build(), judge, x, torch.randn(1, 2, 16, 16, 2), step=0)
    >>> terms.total.backward()
    >>> all(p.grad is None for p in judge.parameters())
    True
    """

    divergence_weight: float = 1e-6
    adversarial_weight: float = 0.5
    adversarial_start: int = 50001

    def __post_init__(self) -> None:
        for name in ("divergence_weight", "adversarial_weight", "adversarial_start"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative; got {getattr(self, name)!r}")

    def terms(
        self, network: Autoencoder, judge: nn.Module, x: Tensor, noise: Tensor, *, step: int
    ) -> Terms:
        """Return the autoencoder's loss.

        Parameters
        ----------
        network : Autoencoder
            What is trained.
        judge : Module
            Discriminator; its weights get no gradient.
        x : Tensor
            (N, T, H, W, C).
        noise : Tensor
            Standard normal (N, T, h, w, c): the latent frames are drawn with it.
        step : int
            Number of the training step.
        """
        decoded, mean, log_variance = network(x, noise)
        frames = len(x) * x.shape[1]
        absolute = (x - decoded).abs().sum() / frames
        divergence = kl_divergence(mean, log_variance).mean()
        total = absolute + self.divergence_weight * divergence
        fixed = {name: p.detach() for name, p in judge.named_parameters()}
        adversarial = -functional_call(judge, fixed, (decoded,)).mean()
        weight = self._balance(network, absolute, adversarial)
        if step >= self.adversarial_start:
            total = total + weight * adversarial
        return Terms(total, absolute, divergence, adversarial, weight, decoded)

    def _balance(self, network: Autoencoder, absolute: Tensor, adversarial: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return absolute.new_zeros(())
        last = network.decoder.conv_out.weight
        (of_error,) = torch.autograd.grad(absolute, last, retain_graph=True)
        (of_judge,) = torch.autograd.grad(adversarial, last, retain_graph=True)
        ratio = of_error.norm() / (of_judge.norm() + SOFTENED)
        return self.adversarial_weight * ratio.clamp(0.0, LARGEST).detach()

    def judge(self, judge: nn.Module, x: Tensor, decoded: Tensor, *, step: int) -> Tensor:
        """Return the discriminator's loss, 0 before it takes part.

        Parameters
        ----------
        judge : Module
            Discriminator, what is trained.
        x, decoded : Tensor
            (N, T, H, W, C); no gradient goes back through ``decoded``.
        step : int
            Number of the training step.
        """
        loss = hinge(judge(x.detach()), judge(decoded.detach()))
        return loss if step >= self.adversarial_start else 0.0 * loss
