r"""Frame-wise autoencoder: single frames to and from a latent space, by convolutions.

.. math::
    (\mu, \log\sigma^2) = Q * E(x), \qquad z \sim \mathcal{N}(\mu, \sigma^2), \qquad
    \hat x = D(P * z)

E and D are levels of residual blocks

.. math:: y = S x + K_2 * \mathrm{SiLU}\big(\mathrm{GN}(K_1 * \mathrm{SiLU}(\mathrm{GN}(x)))\big),

halving and doubling rows and columns between the levels; at the coarsest level every cell
attends to all others. Q, P and S are maps of channels. Sampling reads :math:`\mu` of the
context; values that D returns are not bounded.

Sources: Rombach et al. (2022), *High-Resolution Image Synthesis with Latent Diffusion
Models*; Gao et al. (2023), *PreDiff*, section 3.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import GridMismatchError
from ..layers import from_frames, to_frames
from ..pieces import in_pieces
from .config import AutoencoderConfig
from .layers import normalized

__all__ = ["Autoencoder"]

EPSILON = 1e-6
LOG_VARIANCE = (-30.0, 20.0)  # what keeps the variance of float32 finite and above 0


def _norm(groups: int, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=EPSILON)


class _Residual(nn.Module):
    """Two convolutions 3 x 3 and what they change."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = _norm(groups, inputs), _norm(groups, outputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_1(functional.silu(normalized(self.norm_1, x)))
        h = self.conv_2(functional.silu(normalized(self.norm_2, h)))
        return h + (x if self.skip is None else self.skip(x))


class _Attention(nn.Module):
    """Attention of all cells of a frame, in one head."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(groups, channels)
        self.q, self.k, self.v, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        cells = normalized(self.norm, x).flatten(2).mT[:, None]
        read = functional.scaled_dot_product_attention(self.q(cells), self.k(cells), self.v(cells))
        return x + self.out(read[:, 0]).mT.reshape(x.shape)


class _Middle(nn.Module):
    """The coarsest level: residual block, attention, residual block."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.before = _Residual(channels, channels, groups)
        self.attention = _Attention(channels, groups)
        self.after = _Residual(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.attention(self.before(x)))


class _Level(nn.Module):
    """Residual blocks; then half as many rows and columns, or twice as many, or the same."""

    def __init__(self, dims: Sequence[int], groups: int, then: str) -> None:
        super().__init__()
        pairs = itertools.pairwise(dims)
        self.blocks = nn.ModuleList(_Residual(a, b, groups) for a, b in pairs)
        self.shrink = nn.Conv2d(dims[-1], dims[-1], 3, stride=2) if then == "shrink" else None
        self.enlarge = nn.Conv2d(dims[-1], dims[-1], 3, padding=1) if then == "enlarge" else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        if self.shrink is not None:
            return self.shrink(functional.pad(x, (0, 1, 0, 1)))
        if self.enlarge is not None:
            return self.enlarge(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class _Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        w, n, groups = config.widths, config.layers, config.groups
        self.conv_in = nn.Conv2d(config.channels, w[0], 3, padding=1)
        self.levels = nn.ModuleList(
            _Level([w[max(i - 1, 0)], *[w[i]] * n], groups, "shrink" if i < len(w) - 1 else "keep")
            for i in range(len(w))
        )
        self.middle = _Middle(w[-1], groups)
        self.norm_out = _norm(groups, w[-1])
        self.conv_out = nn.Conv2d(w[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.levels:
            x = level(x)
        return self.conv_out(functional.silu(normalized(self.norm_out, self.middle(x))))


class _Decoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        w, n, groups = config.widths[::-1], config.layers + 1, config.groups
        self.conv_in = nn.Conv2d(config.latent_channels, w[0], 3, padding=1)
        self.middle = _Middle(w[0], groups)
        self.levels = nn.ModuleList(
            _Level([w[max(i - 1, 0)], *[w[i]] * n], groups, "enlarge" if i < len(w) - 1 else "keep")
            for i in range(len(w))
        )
        self.norm_out = _norm(groups, w[-1])
        self.conv_out = nn.Conv2d(w[-1], config.channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.middle(self.conv_in(z))
        for level in self.levels:
            x = level(x)
        return self.conv_out(functional.silu(normalized(self.norm_out, x)))


class Autoencoder(nn.Module):
    """Frames to and from a latent space.

    Parameters
    ----------
    config : AutoencoderConfig
        Sizes.

    Examples
    --------
    >>> config = AutoencoderConfig(latent_channels=3, widths=(8, 16), layers=1, groups=4)
    >>> network = Autoencoder(config).eval()
    >>> mean, log_variance = network.encode(torch.randn(2, 5, 6, 8, 1))
    >>> mean.shape, network.decode(mean).shape
    (torch.Size([2, 5, 3, 4, 3]), torch.Size([2, 5, 6, 8, 1]))
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        c = config.latent_channels
        self.encoder, self.decoder = _Encoder(config), _Decoder(config)
        self.to_moments = nn.Conv2d(2 * c, 2 * c, 1)
        self.from_latent = nn.Conv2d(c, c, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of the latent frames.

        Parameters
        ----------
        x : Tensor
            (N, T, H, W, C); H and W are multiples of the factor of the configuration.

        Returns
        -------
        tuple of Tensor
            (N, T, h, w, c) each.

        Raises
        ------
        ConfigError
            If the frame does not fit.
        """
        _check_fields("x", x)
        T, H, W, C = x.shape[1:]
        self.config.latent_shape((T, H, W, C))
        frames = in_pieces(self._encode, to_frames(x), H * W * self.config.widths[0])
        mean, log_variance = from_frames(frames, T).chunk(2, dim=-1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def decode(self, z: Tensor) -> Tensor:
        """Return the frames of latent frames.

        Parameters
        ----------
        z : Tensor
            (N, T, h, w, c).

        Returns
        -------
        Tensor
            (N, T, H, W, C).

        Raises
        ------
        GridMismatchError
            If z has other channels than the latent space.
        """
        _check_fields("z", z)
        if z.shape[-1] != self.config.latent_channels:
            raise GridMismatchError(
                f"z has {z.shape[-1]} channels; the latent space of this autoencoder has "
                f"{self.config.latent_channels}"
            )
        cells = z.shape[2] * z.shape[3] * self.config.factor**2
        frames = in_pieces(self._decode, to_frames(z), cells * self.config.widths[0])
        return from_frames(frames, z.shape[1])

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Encode and decode.

        Parameters
        ----------
        x : Tensor
            (N, T, H, W, C).
        noise : Tensor, optional
            Standard normal (N, T, h, w, c): the latent frames are drawn with it; their means
            are decoded without.

        Returns
        -------
        tuple of Tensor
            Decoded frames (N, T, H, W, C), mean and logarithm of the variance.
        """
        mean, log_variance = self.encode(x)
        z = mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise
        return self.decode(z), mean, log_variance

    def _encode(self, frames: Tensor) -> Tensor:
        return self.to_moments(self.encoder(frames))

    def _decode(self, frames: Tensor) -> Tensor:
        return self.decoder(self.from_latent(frames))


def _check_fields(name: str, x: Tensor) -> None:
    if x.dim() != 5:
        raise GridMismatchError(
            f"{name} must be a tensor (N, T, H, W, C); got shape {tuple(x.shape)}"
        )
