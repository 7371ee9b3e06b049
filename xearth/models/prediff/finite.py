"""Predictions that must be finite: where sampling went astray, and why, most likely."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import SamplingError
from .levels import Level, Predictor

__all__ = ["check_state", "checked", "count_bad"]

#: A state is of order 1; beyond this it has run away.
RUNAWAY = 1e3


def count_bad(values: Tensor) -> int:
    """Return how many values are NaN or infinite; one pass where there are none."""
    if bool(torch.stack(values.detach().aminmax()).isfinite().all()):
        return 0
    return int((~values.isfinite()).sum())


def _where(index: int, level: Level) -> str:
    return f"step {index} (t={level.t:g}, alpha={level.alpha:.3g}, sigma={level.sigma:.3g})"


def check_state(z: Tensor, index: int, level: Level, when: str) -> None:
    """Check that a state is finite.

    Raises
    ------
    SamplingError
        With the step, the level and the likely cause.
    """
    if bad := count_bad(z):
        raise SamplingError(
            f"{_where(index, level)}: {bad} of {z.numel()} values of the state are NaN or infinite "
            f"{when}. Likely cause: the noise that was drawn, or a step that overflowed; use "
            "float32 and finite noise, and less guidance."
        )


def checked(predict: Predictor, z: Tensor, level: Level, index: int) -> Tensor:
    """Return the clean field predicted from a state, if both are finite and of one shape.

    Raises
    ------
    SamplingError
        With the step, the level and the likely cause.
    """
    where = _where(index, level)
    check_state(z, index, level, "before the network saw it")
    try:
        clean = predict(z, level)
    except SamplingError as error:
        raise SamplingError(f"{where}: {error}") from error
    if clean.shape != z.shape:
        raise SamplingError(
            f"{where}: the predicted clean field has the shape {tuple(clean.shape)}, expected that "
            f"of the state {tuple(z.shape)}. Likely cause: a network of another configuration."
        )
    bad = count_bad(clean)
    if not bad:
        return clean
    largest = float(z.abs().max())
    cause = (
        f"the state ran away (largest value {largest:.3g}, expected order 1): guidance too strong, "
        "or too few steps. Lower its scale or take more steps"
        if largest > RUNAWAY
        else "NaN in the context or in the weights, or an overflow in half precision, as the state "
        f"is sound (largest value {largest:.3g}). Check the history and the weights, sample in "
        "float32"
    )
    raise SamplingError(
        f"{where}: {bad} of {clean.numel()} values of the predicted clean field are NaN or "
        f"infinite. Likely cause: {cause}."
    )
