r"""Files of the reference implementation.

A ``.pt`` file holds one network. A ``.ckpt`` file of a trainer holds all parts under prefixes,
and moving averages of the denoiser's weights,

.. math:: \bar\theta_k = d_k \bar\theta_{k-1} + (1 - d_k) \, \theta_k, \qquad
          d_k = \min\big(d, (1 + k) / (10 + k)\big),

under names without dots; those are what sampling uses here. What else such a file holds, as the
configuration and the state of the optimizer, is not read and none of its code is run.

Source: the code published with Gao et al. (2023), *PreDiff*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...errors import CheckpointError
from ..checkpoints import Renamed, below, load_official_state, tensors_of
from ..foreign import content_of
from .alignment import Alignment
from .autoencoder import Autoencoder
from .config import AlignmentConfig, AutoencoderConfig, DenoiserConfig
from .denoiser import Denoiser
from .official_names import ALIGNMENT_NAMES, AUTOENCODER_NAMES, DENOISER_NAMES, DIFFUSERS_NAMES

__all__ = ["Weights", "load_alignment", "load_autoencoder", "load_denoiser"]

Weights = str | PathLike[str] | Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)

# Prefixes of each part in files of the trainers of the reference; the first that occurs counts, and
# any other where none does.
_PREFIXES = {
    "autoencoder": ("first_stage_model.", "torch_nn_module."),
    "denoiser": ("torch_nn_module.",),
    "alignment": ("alignment_model.torch_nn_module.", "alignment_model.", "torch_nn_module."),
}
# A name that only this part has, without prefix.
_MARKS = {
    "autoencoder": "encoder.conv_in.weight",
    "denoiser": "final_proj.weight",
    "alignment": "out.2.qkv_proj.weight",
}
_AVERAGES = "model_ema."
_COUNTERS = ("decay", "num_updates")


@dataclass(frozen=True)
class _Source:
    """A state_dict and where it is from."""

    state: Mapping[str, Tensor]
    name: str

    @classmethod
    def read(cls, weights: Weights, part: str) -> _Source:
        if isinstance(weights, Mapping):
            name, content = f"the state_dict given as {part}", dict(weights)
        elif isinstance(weights, str | PathLike):
            name, content = str(Path(weights)), content_of(weights)
        else:
            raise CheckpointError(
                f"{part} is given as {type(weights).__name__}; expected the path of a file or a "
                "state_dict (of a network: network.state_dict())"
            )
        return cls({k: torch.as_tensor(v) for k, v in tensors_of(content, name).items()}, name)

    def part(self, part: str) -> dict[str, Tensor]:
        """Return the weights of one part, without prefix."""
        mark, known = _MARKS[part], _PREFIXES[part]
        ends = [k.removesuffix(mark) for k in self.state if f".{k}".endswith(f".{mark}")]
        found = [prefix for prefix in known if prefix in ends] or ends
        if len(found) > 1 and not set(known) & set(found):
            raise CheckpointError(
                f"{self.name} holds {len(found)} times the weights of the {part}, below "
                f"{', '.join(map(repr, found))}: pass a state_dict with one of them"
            )
        prefixes = found[:1] or [p for p in known if below(self.state, p)][:1]
        return below(self.state, prefixes[0]) if prefixes else dict(self.state)

    def averaged(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the denoiser's weights with the moving averages where the file holds them."""
        averages = below(self.state, _AVERAGES)
        averages = {k: v for k, v in averages.items() if k not in _COUNTERS}
        if not averages:
            return state
        names = {name.replace(".", ""): name for name in state}
        unknown = sorted(averages.keys() - names.keys())
        learned = {k for k, v in names.items() if state[v].is_floating_point()}
        missing = sorted(learned - averages.keys())
        if unknown or missing or len(names) != len(state):
            raise CheckpointError(
                f"the moving averages in {self.name} are not of its denoiser: of "
                f"{len(learned)} weights {len(missing)} have none, and {len(unknown)} averages "
                f"are of no weight ({', '.join((unknown or missing)[:3])})"
            )
        return {**state, **{names[k]: v for k, v in averages.items()}}


def _checked(
    network: Network, state: Mapping[str, Tensor], source: str, names: Renamed, part: str
) -> Network:
    """Load weights that are all finite, and say where they are from where they do not fit."""
    others = [other for other, mark in _MARKS.items() if mark in state and other != part]
    if others and _MARKS[part] not in state:
        raise CheckpointError(
            f"{source} holds the weights of the {others[0]}, expected those of the {part}: pass "
            f"it as {others[0]}="
        )
    broken = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{source} holds weights that are not finite, first {broken[0]}: the file is damaged "
            "or its training diverged"
        )
    try:
        load_official_state(network, state, names)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    return network.eval()


def load_autoencoder(weights: Weights, config: AutoencoderConfig) -> Autoencoder:
    """Return the autoencoder of an official file or state_dict, in evaluation mode.

    Names of later releases of the library it was copied from are read as well.

    Raises
    ------
    CheckpointError
        If the file can not be read, or its weights do not fit.
    """
    source = _Source.read(weights, "autoencoder")
    state = source.part("autoencoder")
    later = any(".to_q." in name for name in state)
    names = DIFFUSERS_NAMES if later else AUTOENCODER_NAMES
    return _checked(config.build(), state, source.name, names, "autoencoder")


def load_denoiser(weights: Weights, config: DenoiserConfig) -> Denoiser:
    """Return the denoiser of an official file or state_dict, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file can not be read, or its weights do not fit.
    """
    source = _Source.read(weights, "denoiser")
    state = source.averaged(source.part("denoiser"))
    return _checked(config.build(), state, source.name, DENOISER_NAMES, "denoiser")


def load_alignment(weights: Weights, config: AlignmentConfig) -> Alignment:
    """Return the alignment network of an official file or state_dict, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file can not be read, or its weights do not fit.
    """
    source = _Source.read(weights, "alignment")
    state = source.part("alignment")
    return _checked(config.build(), state, source.name, ALIGNMENT_NAMES, "alignment")
