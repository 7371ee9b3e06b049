r"""What the baselines share: the base of configurations and modules, layouts, patches, padding.

Fields are (N, T, H, W, C); convolutions want channels before the grid. A baseline that halves
its grid, or cuts it into patches, repeats the last row and column until the grid divides, and
cuts its output back: any H and W work, and where they divide nothing is added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from ...errors import ConfigError, GridMismatchError
from ..config_parts import from_plain, integers, to_plain

if TYPE_CHECKING:
    from ..describe import Description

__all__ = [
    "Baseline",
    "BaselineConfig",
    "Shape4",
    "channels_as_frames",
    "channels_first",
    "channels_last",
    "check_positive",
    "crop",
    "frames_as_channels",
    "pad_to_multiple",
    "patch",
    "unpatch",
]

Shape4 = tuple[int, int, int, int]


def check_positive(config: Any, *names: str) -> None:
    """Raise ConfigError unless each of these fields is a positive integer or a tuple of them.

    Examples
    --------
    >>> from xearth.models.baselines.unet import UNetConfig
    >>> check_positive(UNetConfig(), "levels", "input_shape")
    """
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers or any(not isinstance(n, int) or n < 1 for n in numbers):
            raise ConfigError(
                f"{type(config).__name__}.{name} must be positive integers; got {value!r}"
            )


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """Base of the configurations of all baselines.

    A subclass adds its fields (integers, floats, booleans, strings, tuples of integers), the
    checks of these in ``check``, ``build``, and the class methods ``sevir`` and ``icar_enso``.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon; H and W are the same.

    Raises
    ------
    ConfigError
        If a value is impossible; the message says which would do.
    """

    input_shape: Shape4 = (12, 24, 48, 1)
    target_shape: Shape4 = (14, 24, 48, 1)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, field.name, integers(field.name, value))
        for name in ("input_shape", "target_shape"):
            shape = getattr(self, name)
            if len(shape) != 4 or min(shape) < 1:
                raise ConfigError(
                    f"{name} must be four positive integers (T, H, W, C); got {shape!r}"
                )
        if self.input_shape[1:3] != self.target_shape[1:3]:
            raise ConfigError(
                f"history and horizon have frames of {self.input_shape[1:3]} and "
                f"{self.target_shape[1:3]}; the network keeps the frame: make them equal"
            )
        self.check()

    def check(self) -> None:
        """Raise ConfigError if a field of the subclass holds an impossible value."""

    def build(self) -> Baseline:
        """Return a new network."""
        raise NotImplementedError(f"{type(self).__name__}.build")

    def describe(self) -> Description:
        """Return parameters, MACs and FLOPs of each part of the network; print it."""
        from ..describe import describe

        return describe(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values; :meth:`from_dict` reads it."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration that :meth:`to_dict` wrote.

        Raises
        ------
        ConfigError
            If a key is unknown; the message lists the known ones.
        """
        return from_plain(cls, values)

    @classmethod
    def for_data(cls, data: Any, window: Any, **changes: Any) -> Self:
        """Size the network for labeled data.

        Parameters
        ----------
        data : DataArray or Dataset
            Its rows, columns and variables become H, W and C.
        window : Window
            Its history and horizon become the frames of input and target.
        **changes
            Any field of the configuration.

        Raises
        ------
        AxisError
            If ``data`` has no grid.
        ConfigError
            If a changed field does not exist or is impossible.
        """
        frame = tuple(data.earthformer.frame_shape)
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ConfigError(
                f"{cls.__name__} has no field {', '.join(unknown)}; it has "
                f"{', '.join(sorted(known))}"
            )
        shapes = {
            "input_shape": (window.history, *frame),
            "target_shape": (window.horizon, *frame),
        }
        return cls(**{**shapes, **changes})


class Baseline(nn.Module):
    """Base of the modules: checks the history and calls ``_forecast``, which a subclass has.

    Parameters
    ----------
    config : BaselineConfig
        Sizes and choices.
    """

    config: BaselineConfig

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        """Forecast.

        Parameters
        ----------
        x : Tensor
            History (N, T, H, W, C).

        Returns
        -------
        Tensor
            Horizon (N, T_out, H, W, C_out).

        Raises
        ------
        GridMismatchError
            If x is not of the shape the network was built for.
        """
        self.check_frames("x", x, self.config.input_shape)
        return self._forecast(x)

    def _forecast(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__}._forecast")

    def check_frames(self, name: str, x: Tensor, shape: tuple[int, ...]) -> None:
        """Raise GridMismatchError unless x is (N, T, H, W, C) with ``shape`` after N."""
        if tuple(x.shape[1:]) != tuple(shape):
            config = type(self.config).__name__
            raise GridMismatchError(
                f"{name} must be a tensor (N, T, H, W, C) = (N, {', '.join(map(str, shape))}), "
                f"what this {type(self).__name__} was built for; got {tuple(x.shape)}. Build one "
                f"for that shape with {config}(input_shape=..., target_shape=...)"
            )

    def describe(self) -> Description:
        """Return parameters, MACs and FLOPs of each part; print it."""
        return self.config.describe()


# --- layouts --------------------------------------------------------------------------------


def channels_first(x: Tensor) -> Tensor:
    """Return (N, T, H, W, C) as (N, T, C, H, W).

    Examples
    --------
    >>> channels_first(torch.zeros(2, 3, 4, 5, 6)).shape
    torch.Size([2, 3, 6, 4, 5])
    """
    return x.permute(0, 1, 4, 2, 3)


def channels_last(x: Tensor) -> Tensor:
    """Return (N, T, C, H, W) as (N, T, H, W, C): the inverse of :func:`channels_first`.

    Examples
    --------
    >>> channels_last(torch.zeros(2, 3, 6, 4, 5)).shape
    torch.Size([2, 3, 4, 5, 6])
    """
    return x.permute(0, 1, 3, 4, 2)


def frames_as_channels(x: Tensor) -> Tensor:
    """Return (N, T, H, W, C) as (N, T C, H, W), the channels of a frame side by side.

    Examples
    --------
    >>> frames_as_channels(torch.zeros(2, 3, 4, 5, 6)).shape
    torch.Size([2, 18, 4, 5])
    """
    return channels_first(x).flatten(1, 2)


def channels_as_frames(x: Tensor, frames: int) -> Tensor:
    """Return (N, T C, H, W) as (N, T, H, W, C): the inverse of :func:`frames_as_channels`.

    Examples
    --------
    >>> channels_as_frames(torch.zeros(2, 18, 4, 5), frames=3).shape
    torch.Size([2, 3, 4, 5, 6])
    """
    return channels_last(x.unflatten(1, (frames, -1)))


# --- patches and padding --------------------------------------------------------------------


def patch(x: Tensor, size: int) -> Tensor:
    """Return (..., H, W, C) as (..., H / p, W / p, p p C); the order is (row, column, C).

    Examples
    --------
    >>> patch(torch.arange(8.0).reshape(2, 4, 1), 2)
    tensor([[[0., 1., 4., 5.],
             [2., 3., 6., 7.]]])
    """
    *lead, H, W, C = x.shape
    cut = x.reshape(*lead, H // size, size, W // size, size, C)
    return cut.movedim(-4, -3).reshape(*lead, H // size, W // size, size * size * C)


def unpatch(x: Tensor, size: int) -> Tensor:
    """Return (..., h, w, p p C) as (..., h p, w p, C): the inverse of :func:`patch`.

    Examples
    --------
    >>> x = torch.rand(2, 4, 6, 3)
    >>> torch.equal(unpatch(patch(x, 2), 2), x)
    True
    """
    *lead, h, w, channels = x.shape
    C = channels // size**2
    cut = x.reshape(*lead, h, w, size, size, C).movedim(-3, -4)
    return cut.reshape(*lead, h * size, w * size, C)


def _repeat_last(x: Tensor, dim: int, multiple: int) -> Tensor:
    n = x.shape[dim]
    if n % multiple == 0:
        return x
    index = torch.arange(-(-n // multiple) * multiple, device=x.device).clamp_max(n - 1)
    return x.index_select(dim, index)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of (..., H, W, C) until H and W are multiples.

    Examples
    --------
    >>> pad_to_multiple(torch.tensor([[[1.0], [2.0], [3.0]]]), 2)[..., 0]
    tensor([[1., 2., 3., 3.],
            [1., 2., 3., 3.]])
    """
    return _repeat_last(_repeat_last(x, -3, multiple), -2, multiple)


def crop(x: Tensor, rows: int, columns: int) -> Tensor:
    """Cut (..., H, W, C) back to its first rows and columns.

    Examples
    --------
    >>> crop(torch.zeros(1, 8, 8, 2), 5, 7).shape
    torch.Size([1, 5, 7, 2])
    """
    return x[..., :rows, :columns, :]
