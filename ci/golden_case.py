"""A golden case of a baseline: what was stored, and weights under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Case", "Pairs"]

Pairs = Sequence[tuple[Any, Any]]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Case:
    """One case: keyword arguments, weights under their official names, arrays as stored."""

    kwargs: Mapping[str, Any]
    state: Mapping[str, Tensor]
    arrays: Mapping[str, np.ndarray]

    def tensor(self, name: str) -> Tensor:
        """Return an array as a float64 tensor."""
        return torch.from_numpy(np.asarray(self.arrays[name])).double()

    def load(self, network: Network, renamed: Mapping[str, str] | None = None) -> Network:
        """Return the network with the weights of the case, in float64 and evaluation mode.

        ``renamed`` maps patterns of parts of official names to parts of ours, the first that
        fits counts; names of which a part is mapped to "" are dead in the published code and
        left out.
        """
        named = {_ours(name, renamed or {}): value for name, value in self.state.items()}
        state = {name: value.double() for name, value in named.items() if name}
        found = network.double().load_state_dict(state, strict=False)
        missing = [n for n in found.missing_keys if not n.endswith("num_batches_tracked")]
        if missing or found.unexpected_keys:
            raise LookupError(f"missing {missing[:3]}, unknown {found.unexpected_keys[:3]}")
        return network.eval()


def _ours(name: str, table: Mapping[str, str]) -> str:
    """Return our name of an official weight, "" for a dead one."""
    for theirs, ours in table.items():
        if re.search(theirs, name):
            return re.sub(theirs, ours, name) if ours else ""
    return name
