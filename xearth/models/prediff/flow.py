r"""Flow matching along straight lines.

.. math:: z_t = (1 - t)\, x_0 + t\, x_1, \qquad x_1 \sim \mathcal{N}(0, I), \quad t \in [0, 1];

a network predicts the velocity :math:`v = x_1 - x_0`, so that :math:`\hat x_0 = z_t - t v` and
:math:`\hat x_1 = z_t + (1 - t) v`. It is a level like another, :math:`\alpha = 1 - t` and
:math:`\sigma = t`: every sampler works on it.

Sources: Lipman et al. (2023), *Flow matching for generative modeling*; Liu et al. (2023),
*Rectified flow*.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from .grids import check_steps, is_number
from .levels import CLEAN, Level, Predictor
from .process import Network, network_time

__all__ = ["FlowMatching"]


@dataclass(frozen=True, kw_only=True)
class FlowMatching:
    """Straight lines between data (t = 0) and noise (t = 1).

    Parameters
    ----------
    time_scale : float
        What a network is told is ``time_scale`` times t; embeddings made for the times 0 to 999
        of a diffusion want 1000.
    data_at : {0, 1}
        Where the network has the data. Some codes count from noise (0) to data (1): their networks
        are told 1 - t and predict the opposite velocity.

    Examples
    --------
    >>> [level.t for level in FlowMatching(time_scale=1).levels(4)]
    [1.0, 0.75, 0.5, 0.25, -1.0]
    """

    time_scale: float = 1000.0
    data_at: Literal[0, 1] = 0

    def __post_init__(self) -> None:
        if not is_number(self.time_scale) or self.time_scale <= 0 or self.data_at not in (0, 1):
            raise ConfigError(f"{self}: expected time_scale > 0 and data_at 0 or 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> FlowMatching:
        """Return the process of :meth:`to_dict`; ConfigError for a key it does not have."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise ConfigError(f"FlowMatching: unknown keys {unknown}; known are {known}")
        return cls(**settings)

    def _told(self, t: float) -> float:
        return self.time_scale * (t if self.data_at == 0 else 1.0 - t)

    @property
    def _sign(self) -> int:
        return 1 if self.data_at == 0 else -1

    def level(self, t: float) -> Level:
        """Return the level of a time in [0, 1]; ConfigError outside."""
        if not 0.0 <= t <= 1.0:
            raise ConfigError(f"time {t:g} is not between 0 (data) and 1 (noise)")
        return Level(self._told(t), 1.0 - t, t, (1.0 - t, t))

    def levels(
        self, steps: int, spacing: str = "linspace", *, end: Literal["clean"] = "clean"
    ) -> tuple[Level, ...]:
        """Return the ``steps + 1`` levels at equal distances in t, noise first.

        Raises
        ------
        ConfigError
        """
        check_steps(steps)
        if spacing not in ("linspace", "trailing") or end != "clean":
            raise ConfigError(
                f"FlowMatching: spacing={spacing!r}, end={end!r}: expected 'linspace' (equal "
                "distances in t) and 'clean'"
            )
        return (*(self.level(float(t)) for t in np.linspace(1, 0, steps + 1)[:-1]), CLEAN)

    def clean(self, z: Tensor, level: Level, output: Tensor) -> Tensor:
        r"""Return :math:`\hat x_0 = z_t - t v`."""
        return z - self._sign * level.sigma * output

    def output(self, z: Tensor, level: Level, clean: Tensor) -> Tensor:
        """Return the velocity where this is the clean field (t > 0)."""
        return self._sign * (z - clean) / level.sigma

    def predictor(self, network: Network) -> Predictor:
        """Return the predictor of the clean field of a network (z, t (N,)) -> velocity."""

        def predict(z: Tensor, level: Level) -> Tensor:
            return self.clean(z, level, network(z, network_time(z, level.t)))

        return predict

    def draw_times(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return times (N,), as a network is told them, t uniform on [0, 1)."""
        return self.time_scale * torch.rand(count, generator=generator)

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return z_t of clean fields (N, ...) at times (N,), as a network is told them."""
        share = (t / self.time_scale).to(x0).reshape(-1, *([1] * (x0.ndim - 1)))
        if self.data_at == 1:
            share = 1.0 - share
        return (1.0 - share) * x0 + share * noise

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the velocity a network has to predict; it is the same at all times."""
        return self._sign * (noise - x0)
