r"""Persistence as a network without weights: :math:`y_t = x_T` at every lead."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...errors import ConfigError
from .common import Baseline, BaselineConfig

__all__ = ["Persistence", "PersistenceConfig"]


@dataclass(frozen=True, kw_only=True)
class PersistenceConfig(BaselineConfig):
    """Sizes of :class:`Persistence`.

    Parameters
    ----------
    input_shape, target_shape : tuple of int
        (T, H, W, C) of history and horizon; a forecast of fewer channels is of the first ones.
    """

    def check(self) -> None:
        """Raise ConfigError if the forecast has channels that the history lacks."""
        if self.target_shape[-1] > self.input_shape[-1]:
            raise ConfigError(
                f"persistence cannot forecast {self.target_shape[-1]} channels from "
                f"{self.input_shape[-1]}: target_shape must not have more channels than input_shape"
            )

    def build(self) -> Persistence:
        """Return the module."""
        return Persistence(self)

    @classmethod
    def sevir(cls) -> PersistenceConfig:
        """SEVIR, 13 -> 12 frames of 384 x 384."""
        return cls(input_shape=(13, 384, 384, 1), target_shape=(12, 384, 384, 1))

    @classmethod
    def icar_enso(cls) -> PersistenceConfig:
        """ICAR-ENSO, 12 -> 14 months of 24 x 48 cells."""
        return cls()


class Persistence(Baseline):
    """The last frame of the history, repeated.

    Examples
    --------
    >>> import torch
    >>> config = PersistenceConfig(input_shape=(3, 1, 2, 1), target_shape=(2, 1, 2, 1))
    >>> Persistence(config)(torch.arange(6.0).reshape(1, 3, 1, 2, 1)).flatten()
    tensor([4., 5., 4., 5.])
    """

    def __init__(self, config: PersistenceConfig) -> None:
        super().__init__(config)

    def _forecast(self, x: Tensor) -> Tensor:
        T_out, _, _, C_out = self.config.target_shape
        return x[:, -1:, ..., :C_out].repeat_interleave(T_out, dim=1)
