r"""Noise that belongs to a member: the same numbers in every batch.

The draw of member k in step j from seed s is
:math:`\varepsilon_{s,k,j} \sim \mathcal{N}(0, I)` of a generator that is seeded by (s, k, j) alone.
So a member does not change with the number of members, nor with those beside it in a batch, and
a forecast can be continued from any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from .grids import is_whole

__all__ = ["MemberNoise", "OppositePairs"]


@dataclass(frozen=True)
class MemberNoise:
    """Standard normal noise, one generator for each member and step.

    Parameters
    ----------
    shape : tuple of int
        Of one member's state.
    members : sequence of int
        Numbers of the members in this batch, one a row.
    seed : int
    dtype, device
        Of the noise; it is drawn in float32 on the CPU, so that a device does not change it.

    Raises
    ------
    ConfigError
        No member, a negative member or seed.

    Examples
    --------
    >>> two = MemberNoise((2, 3), members=[0, 1], seed=5)(0)
    >>> one = MemberNoise((2, 3), members=[1], seed=5)(0)
    >>> bool((two[1] == one[0]).all())
    True
    """

    shape: tuple[int, ...]
    members: Sequence[int]
    seed: int = 0
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if len(self.members) < 1:
            raise ConfigError("members: expected at least 1, found 0")
        if not all(is_whole(n) and n >= 0 for n in (self.seed, *self.members)):
            raise ConfigError(
                f"seed={self.seed!r}, members={list(self.members)}: expected whole numbers, and "
                "no negative number"
            )

    def __call__(self, step: int) -> Tensor:
        """Return the draw of a step, (members, *shape)."""
        rows = [self._row(member, step) for member in self.members]
        return torch.stack(rows).to(device=self.device, dtype=self.dtype)

    def _row(self, member: int, step: int) -> Tensor:
        state = np.random.SeedSequence((self.seed, member, step)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
        return torch.randn(self.shape, generator=generator)


@dataclass(frozen=True)
class OppositePairs(MemberNoise):
    r"""Noise of members that come in pairs: that of 2k + 1 is the opposite of that of 2k.

    Each member alone is drawn as before, since :math:`-\varepsilon` has the law of
    :math:`\varepsilon`; the mean of a pair varies less than that of two independent draws, and so
    do the estimates an ensemble gives. Estimators for independent members ("fair" scores) are
    biased.

    Examples
    --------
    >>> pair = OppositePairs((2, 3), members=[4, 5], seed=5)(0)
    >>> bool((pair[0] == -pair[1]).all())
    True
    """

    def _row(self, member: int, step: int) -> Tensor:
        row = super()._row(member // 2, step)
        return -row if member % 2 else row
