"""What is asked of a model: checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...errors import ConfigError, DataTypeError, MissingDataError
from .config import PreDiffConfig
from .flow import FlowMatching
from .grids import is_whole
from .guidance import AlignmentGuidance, Guidance
from .levels import check_levels
from .noise import MemberNoise
from .process import Diffusion
from .sampler import SAMPLERS, Process, make_sampler
from .sampler_ancestral import DDPM
from .stage import Sampler
from .trunk import check_field

__all__ = ["check_context", "check_counts", "check_walk", "chosen_sampler"]

# What a process is sampled with unless something else is said, and options its samplers need.
_SOLVERS: Mapping[type, tuple[str, Mapping[str, Any]]] = {
    Diffusion: ("dpm-solver++", {}),
    FlowMatching: ("euler", {"spacing": "linspace"}),
}


def chosen_sampler(
    process: Diffusion | FlowMatching, sampler: str | Sampler | None, steps: int | None
) -> Sampler:
    """Return the sampler that is meant by a name, or by none.

    Raises
    ------
    ConfigError
        There is no such sampler, or the number of steps is impossible or given twice.

    Examples
    --------
    >>> chosen_sampler(FlowMatching(), None, 5)
    Euler(steps=5, spacing='linspace')
    """
    if sampler is None or isinstance(sampler, str):
        name, options = _SOLVERS[type(process)]
        name = name if sampler is None else sampler
        given: dict[str, Any] = {} if steps is None else {"steps": steps}
        if name == DDPM.name and isinstance(process, Diffusion):
            given["v_posterior"] = process.v_posterior
        return make_sampler(name, **options, **given)
    if not all(hasattr(sampler, part) for part in ("step", "steps", "spacing", "memory")):
        raise ConfigError(
            f"sampler is {sampler!r}; expected one of {', '.join(SAMPLERS)}, or a sampler with its "
            "options, such as DDIM(steps=20)"
        )
    if steps is not None and steps != sampler.steps:
        raise ConfigError(
            f"steps={steps!r}, but the sampler has {sampler.steps}: give steps to the sampler"
        )
    return sampler


def check_counts(**counts: int) -> None:
    """Raise ConfigError unless all are whole numbers of at least 1."""
    for name, value in counts.items():
        if not is_whole(value) or value < 1:
            raise ConfigError(f"{name} must be at least 1 and a whole number; got {value!r}")


def check_walk(
    config: PreDiffConfig, sampler: Sampler, guidances: Sequence[Guidance], seed: int
) -> None:
    """Refuse what the first step would.

    Raises
    ------
    ConfigError
        Levels, seed or guidance are impossible.
    """
    process: Process = config.process
    levels = process.levels(sampler.steps, sampler.spacing)
    check_levels(levels)
    MemberNoise(config.denoiser.target_shape, (0,), seed)
    for guidance in guidances:
        if not callable(guidance):
            raise ConfigError(
                f"guidance holds {guidance!r}; expected a Guidance or several, such as "
                "model.towards(target), or () for none"
            )
        if not isinstance(guidance, AlignmentGuidance):
            continue
        if levels[-2].alpha > 0.0:
            guidance.weight(levels[-2])
        if len(guidance.target) != 1:
            raise ConfigError(
                f"AlignmentGuidance: the target has {len(guidance.target)} rows, but guidance is "
                "the same for all forecasts: give one row (1, m), and sample contexts with other "
                "targets by themselves"
            )


def check_context(context: Tensor, shape: tuple[int, ...]) -> None:
    """Check that a context is (N, *shape), of finite floating numbers.

    Raises
    ------
    DataTypeError
        It is no tensor, or not of floating numbers.
    GridMismatchError
        It has another shape.
    MissingDataError
        It is empty or not finite.
    """
    if not isinstance(context, Tensor) or not context.is_floating_point():
        found = context.dtype if isinstance(context, Tensor) else type(context).__name__
        raise DataTypeError(
            f"the context is of {found}; expected a tensor of floating numbers: "
            "torch.as_tensor(context, dtype=torch.float32)"
        )
    check_field("context", context, shape)
    bad = int((~context.isfinite()).sum())
    if bad or not len(context):
        raise MissingDataError(
            f"the context {tuple(context.shape)} holds {bad} values that are missing or infinite, "
            "expected one or more contexts without any: fill them first"
        )
