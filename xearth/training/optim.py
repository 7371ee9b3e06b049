r"""The published optimizer and learning rate: AdamW in two groups, warm-up, then a cosine.

With :math:`S` steps in all, :math:`S_w = \mathrm{round}(q S)` of them warm-up, the rate at step
:math:`s` is :math:`\eta` times

.. math::

   r_w + (1 - r_w)\, s / S_w \quad (s < S_w), \qquad
   r_m + \tfrac{1 - r_m}{2}\left(1 + \cos \pi \tfrac{s - S_w}{S - S_w}\right) \quad (s \ge S_w).

Parameters under a LayerNorm, and every parameter whose name contains "bias" (so also the tables
of relative position bias), are not decayed. Source: the training scripts of Gao et al. 2022,
Earthformer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["PUBLISHED", "Schedule", "no_decay_names", "parameter_groups"]


@dataclass(frozen=True)
class Schedule:
    """AdamW, its learning rate by step, and the clipping of gradients.

    Parameters
    ----------
    lr : float
        Highest learning rate.
    weight_decay : float
        Of the parameters that are decayed at all.
    warmup : float
        Share q of the steps in which the rate rises.
    warmup_ratio : float
        Rate at the first step, relative to ``lr``.
    min_ratio : float
        Rate at the end, relative to ``lr``.
    clip : float or None
        Largest norm of the gradient of all parameters together.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> schedule = Schedule(lr=1e-3)
    >>> [schedule.factor(step, 100) for step in (0, 10, 20)]
    [0.0, 0.5, 1.0]
    """

    lr: float = 1e-3
    weight_decay: float = 1e-5
    warmup: float = 0.2
    warmup_ratio: float = 0.0
    min_ratio: float = 1e-3
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        ratios = (self.warmup, self.warmup_ratio, self.min_ratio)
        if self.lr <= 0 or self.weight_decay < 0 or (self.clip is not None and self.clip <= 0):
            raise ConfigError(f"{self}: expected lr > 0, weight_decay >= 0 and clip > 0 or None")
        if not all(0 <= ratio <= 1 for ratio in ratios):
            raise ConfigError(f"{self}: expected warmup, warmup_ratio and min_ratio in [0, 1]")

    def factor(self, step: int, total: int) -> float:
        """Return the learning rate of ``step`` (from 0) of ``total``, relative to ``lr``."""
        rise = round(self.warmup * total)
        if step < rise:
            return self.warmup_ratio + (1 - self.warmup_ratio) * step / rise
        turn = min((step - rise) / max(total - rise, 1), 1.0)
        return self.min_ratio + (1 - self.min_ratio) / 2 * (1 + math.cos(math.pi * turn))

    def optimizer(self, module: nn.Module) -> torch.optim.AdamW:
        """Return AdamW over the two groups of ``module``'s parameters."""
        from torch.optim import AdamW

        return AdamW(parameter_groups(module, self.weight_decay), lr=self.lr)

    def scheduler(
        self, optimizer: torch.optim.Optimizer, total: int
    ) -> torch.optim.lr_scheduler.LambdaLR:
        """Return the learning rate of a run of ``total`` steps, to be stepped once per step."""
        from torch.optim.lr_scheduler import LambdaLR

        return LambdaLR(optimizer, lambda step: self.factor(step, total))


PUBLISHED: dict[str, Schedule] = {
    "sevir": Schedule(lr=1e-3, weight_decay=0.0),
    "sevir_lr": Schedule(lr=1e-3, weight_decay=0.0),
    "icar_enso": Schedule(lr=1e-4, weight_decay=1e-5),
    "earthnet": Schedule(lr=5e-4, weight_decay=1e-5),
    "moving_mnist": Schedule(lr=1e-3, weight_decay=1e-5),
}
"""The schedules of the published runs, by the name of the model's set-up."""


def no_decay_names(module: nn.Module) -> list[str]:
    """Return the names of the parameters that are not decayed, in the order of the module."""
    from torch import nn

    norms = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        if isinstance(part, nn.LayerNorm)
        for name, _ in part.named_parameters(recurse=False)
    }
    return [name for name, _ in module.named_parameters() if "bias" in name or name in norms]


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the two groups for an optimizer: decayed and not decayed.

    Examples
    --------
    >>> from torch import nn
    >>> groups = parameter_groups(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), 0.1)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(1, 0.1), (3, 0.0)]
    """
    kept = set(no_decay_names(module))
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    return [
        {"params": [p for name, p in named if name not in kept], "weight_decay": weight_decay},
        {"params": [p for name, p in named if name in kept], "weight_decay": 0.0},
    ]
