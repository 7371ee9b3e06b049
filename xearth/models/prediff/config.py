r"""Configurations of the networks of PreDiff: every size and choice, nothing computed twice.

Grids are (T, H, W) of the latent space, tensors (N, T, H, W, C). Level 0 is the grid itself;
level i + 1 has its patches. The defaults are the published SEVIR-LR networks.

Source: Gao et al. (2023), *PreDiff: Precipitation Nowcasting with Latent Diffusion Models*,
NeurIPS, and the configurations published with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError
from ..config_parts import integers
from ..cuboid.patterns import Shape3
from .config_cuboid import CuboidConfig, Plain, Shape4, check_positive, check_shape
from .flow import FlowMatching
from .grids import is_number
from .process import Diffusion

if TYPE_CHECKING:
    from .alignment import Alignment
    from .autoencoder import Autoencoder
    from .denoiser import Denoiser
    from .model import PreDiff

__all__ = ["AlignmentConfig", "AutoencoderConfig", "DenoiserConfig", "PreDiffConfig"]


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Plain):
    """Sizes of the frame-wise autoencoder.

    Parameters
    ----------
    channels : int
        Channels of a frame of data.
    latent_channels : int
        Channels of a frame of the latent space.
    widths : tuple of int
        Channels of each level; a level has half the rows and columns of the one before.
    layers : int
        Residual blocks of each level of the encoder; the decoder has one more.
    groups : int
        Groups of each normalization; they divide all widths.

    Raises
    ------
    ConfigError
        If a value is impossible.

    Examples
    --------
    >>> AutoencoderConfig().latent_shape((7, 128, 128, 1))
    (7, 16, 16, 64)
    """

    channels: int = 1
    latent_channels: int = 64
    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    groups: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", integers("widths", self.widths))
        for name in ("channels", "latent_channels", "layers", "groups"):
            check_positive(name, getattr(self, name))
        if not self.widths or any(w < 1 or w % self.groups for w in self.widths):
            raise ConfigError(
                f"widths {self.widths} must be one or more multiples of groups={self.groups}: "
                "each level is normalized in so many groups of channels"
            )

    @property
    def factor(self) -> int:
        """Rows of data for one row of the latent space."""
        return int(2 ** (len(self.widths) - 1))

    def latent_shape(self, shape: Shape4) -> Shape4:
        """Return the shape (T, h, w, c) of the latent fields of data (T, H, W, C).

        Raises
        ------
        ConfigError
            If the frame is no multiple of the factor, or the channels are others.
        """
        sizes = integers("the shape of frames", shape) or ()
        check_shape("the shape of frames", sizes)
        T, H, W, C = sizes
        f = self.factor
        if H % f or W % f or self.channels != C:
            raise ConfigError(
                f"frames (H, W, C) = {(H, W, C)} do not fit an autoencoder of "
                f"{self.channels} channels that divides rows and columns by {f}: pad or crop "
                f"them to multiples of {f}"
            )
        return (T, H // f, W // f, self.latent_channels)

    def build(self) -> Autoencoder:
        """Return a new network."""
        from .autoencoder import Autoencoder

        return Autoencoder(self)


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig(CuboidConfig):
    """Everything that defines a denoiser: a U-shaped network of cuboid attention.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of the latent context and of the latent forecast; H, W and C are the same.
    upsample_kernel : int
        Odd size of the convolution after an enlargement between levels.
    skip : bool
        Whether the way down is added to the way up, level by level.
    **others
        As in :class:`CuboidConfig`.

    Raises
    ------
    ConfigError
        If a value is impossible; the message says which would do.

    Examples
    --------
    >>> config = DenoiserConfig()
    >>> config.grid, config.units
    ((13, 16, 16), (256, 512))
    >>> DenoiserConfig.from_dict(config.to_dict()) == config
    True
    """

    input_shape: Shape4 = (7, 16, 16, 64)
    target_shape: Shape4 = (6, 16, 16, 64)
    upsample_kernel: int = 3
    skip: bool = True

    def __post_init__(self) -> None:
        for name in ("input_shape", "target_shape"):
            object.__setattr__(self, name, integers(name, getattr(self, name)))
            check_shape(name, getattr(self, name))
        if self.input_shape[1:] != self.target_shape[1:]:
            raise ConfigError(
                f"context and forecast have latent frames of {self.input_shape[1:]} and "
                f"{self.target_shape[1:]}; they are joined along time: make them equal"
            )
        check_positive("upsample_kernel", self.upsample_kernel)
        if self.upsample_kernel % 2 != 1:
            raise ConfigError(f"upsample_kernel must be odd; got {self.upsample_kernel!r}")
        super().__post_init__()

    @property
    def grid(self) -> Shape3:
        """Grid (T, H, W) of level 0: frames of the context and of the forecast."""
        T, H, W, _ = self.input_shape
        return (T + self.target_shape[0], H, W)

    def build(self) -> Denoiser:
        """Return a new network with the published initialization."""
        from .denoiser import Denoiser

        return Denoiser(self)


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig(CuboidConfig):
    """Everything that defines an alignment network: the way down of a denoiser, then a pool.

    Parameters
    ----------
    input_shape : tuple of int
        (T, H, W, C) of the noisy latent forecast.
    frames : int
        How many frames, the last ones, numbers are read from.
    outputs : int
        Numbers per frame.
    **others
        As in :class:`CuboidConfig`.

    Raises
    ------
    ConfigError
        If a value is impossible.

    Examples
    --------
    >>> AlignmentConfig().units
    (128, 256)
    """

    base_units: int = 128
    depth: tuple[int, ...] = (1, 1)
    input_shape: Shape4 = (6, 16, 16, 64)
    frames: int = 6
    outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", integers("input_shape", self.input_shape))
        check_shape("input_shape", self.input_shape)
        for name in ("outputs", "frames"):
            check_positive(name, getattr(self, name))
        if not 1 <= self.frames <= self.input_shape[0]:
            raise ConfigError(
                f"numbers are read from {self.frames!r} frames of {self.input_shape[0]}; give 1 "
                f"to {self.input_shape[0]}"
            )
        super().__post_init__()

    @property
    def grid(self) -> Shape3:
        """Grid (T, H, W) of level 0."""
        T, H, W, _ = self.input_shape
        return (T, H, W)

    def build(self) -> Alignment:
        """Return a new network with the published initialization."""
        from .alignment import Alignment

        return Alignment(self)


@dataclass(frozen=True, kw_only=True)
class PreDiffConfig(Plain):
    """Everything that defines a latent diffusion model: its networks and its process.

    Parameters
    ----------
    autoencoder : AutoencoderConfig
        Between frames and latent frames.
    denoiser : DenoiserConfig
        What is predicted from a noisy latent forecast and a latent context.
    alignment : AlignmentConfig, optional
        What steers sampling by reading numbers from a noisy latent forecast.
    process : Diffusion or FlowMatching
        How latent forecasts are noised, and what the denoiser predicts.
    latent_scale : float
        Latent fields are the autoencoder's times this: 1 over their standard deviation makes
        them of the size of the noise. The published networks have 1.

    Raises
    ------
    ConfigError
        If the parts do not fit each other.

    Examples
    --------
    >>> config = PreDiffConfig.sevir_lr()
    >>> config.input_shape, config.target_shape
    ((7, 128, 128, 1), (6, 128, 128, 1))
    >>> PreDiffConfig.from_dict(config.to_dict()) == config
    True
    """

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    alignment: AlignmentConfig | None = None
    process: Diffusion | FlowMatching = field(default_factory=Diffusion)
    latent_scale: float = 1.0

    def __post_init__(self) -> None:
        kinds: dict[str, Any] = {"autoencoder": AutoencoderConfig, "denoiser": DenoiserConfig}
        kinds |= {"alignment": AlignmentConfig | None, "process": Diffusion | FlowMatching}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                said = getattr(kind, "__name__", str(kind))
                raise ConfigError(f"{name} is {getattr(self, name)!r:.80}; expected {said}")
        channels = self.denoiser.target_shape[-1]
        if channels != self.autoencoder.latent_channels:
            raise ConfigError(
                f"the denoiser works on {channels} channels, the autoencoder makes "
                f"{self.autoencoder.latent_channels}: make them equal"
            )
        if self.alignment is not None and self.alignment.input_shape != self.denoiser.target_shape:
            raise ConfigError(
                f"the alignment network reads latent forecasts {self.alignment.input_shape}, the "
                f"denoiser makes {self.denoiser.target_shape}: make them equal"
            )
        if not is_number(self.latent_scale) or self.latent_scale <= 0.0:
            raise ConfigError(f"latent_scale must be positive; got {self.latent_scale!r}")

    def _frames(self, latent: Shape4) -> Shape4:
        T, h, w, _ = latent
        f = self.autoencoder.factor
        return (T, f * h, f * w, self.autoencoder.channels)

    @property
    def input_shape(self) -> Shape4:
        """(T, H, W, C) of the context."""
        return self._frames(self.denoiser.input_shape)

    @property
    def target_shape(self) -> Shape4:
        """(T, H, W, C) of the forecast."""
        return self._frames(self.denoiser.target_shape)

    @classmethod
    def for_shape(
        cls,
        input_shape: Shape4,
        target_shape: Shape4,
        *,
        autoencoder: AutoencoderConfig | None = None,
        denoiser: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> PreDiffConfig:
        """Size the networks for frames of data.

        Parameters
        ----------
        input_shape, target_shape : tuple of int
            (T, H, W, C) of context and forecast; H and W multiples of the autoencoder's factor.
        autoencoder : AutoencoderConfig, optional
            The published one by default.
        denoiser : mapping, optional
            Fields of :class:`DenoiserConfig` but its shapes.
        **others
            Other fields of the configuration.

        Raises
        ------
        ConfigError
            If the frames do not fit the autoencoder.

        Examples
        --------
        >>> small = AutoencoderConfig(latent_channels=4, widths=(16, 32), layers=1, groups=8)
        >>> config = PreDiffConfig.for_shape(
        ...     (4, 32, 48, 1), (6, 32, 48, 1), autoencoder=small, denoiser={"base_units": 32}
        ... )
        >>> config.denoiser.grid
        (10, 16, 24)
        """
        autoencoder = AutoencoderConfig() if autoencoder is None else autoencoder
        if not isinstance(autoencoder, AutoencoderConfig):
            raise ConfigError(f"autoencoder is {autoencoder!r}; expected AutoencoderConfig")
        shapes = {
            "input_shape": autoencoder.latent_shape(input_shape),
            "target_shape": autoencoder.latent_shape(target_shape),
        }
        known = {f.name for f in fields(DenoiserConfig)} - shapes.keys()
        if unknown := sorted(map(str, set(denoiser or {}) - known)):
            raise ConfigError(
                f"denoiser holds {', '.join(unknown)}; its shapes follow from the frames, and what "
                f"else it has is {', '.join(sorted(known))}"
            )
        sized = DenoiserConfig(**{**(denoiser or {}), **shapes})
        return cls(autoencoder=autoencoder, denoiser=sized, **others)

    @classmethod
    def sevir_lr(cls) -> PreDiffConfig:
        """SEVIR-LR, 7 -> 6 frames of 128 x 128: the published networks.

        Parameters: 84,499,393 of the autoencoder, 136,817,538 of the denoiser, 8,937,033 of the
        alignment network.
        """
        return cls(alignment=AlignmentConfig())

    def build(self) -> PreDiff:
        """Return a new model."""
        from .model import PreDiff

        return PreDiff(self)
