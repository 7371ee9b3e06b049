"""One step of a sampler: what it knows, and what a sampler is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from .levels import Draw, Level, Predictor

__all__ = ["Sampler", "Stage"]


@dataclass(frozen=True)
class Stage:
    """What a sampler knows when it takes a step.

    Parameters
    ----------
    levels : sequence of Level
    index : int
        The step goes from ``levels[index]`` to the next.
    z : Tensor (N, ...)
        The state.
    clean : tuple of Tensor
        Predicted clean fields, the one of this state first, older ones after it.
    predict : Predictor
        For samplers that need more than one prediction in a step.
    draw : Draw
    """

    levels: Sequence[Level]
    index: int
    z: Tensor
    clean: tuple[Tensor, ...]
    predict: Predictor
    draw: Draw

    @property
    def here(self) -> Level:
        """The level of the state."""
        return self.levels[self.index]

    @property
    def there(self) -> Level:
        """The level the step leads to."""
        return self.levels[self.index + 1]

    def noise(self) -> Tensor:
        """Return the noise of this step."""
        return self.draw(self.index + 1)


class Sampler(Protocol):
    """A way to walk down the levels."""

    name: ClassVar[str]

    @property
    def steps(self) -> int:
        """The number of steps, if not told otherwise also of predictions."""

    @property
    def spacing(self) -> str:
        """Which levels are visited."""

    @property
    def memory(self) -> int:
        """How many predictions a step looks back on."""

    def step(self, stage: Stage) -> Tensor:
        """Return the state at the next level."""
