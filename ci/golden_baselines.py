"""Golden vectors of the baselines: how each case of an index is built, called and compared.

A case has the keyword arguments of the published network, weights under ``sd/`` and arrays. All
is computed in float64 from the stored weights. :data:`CASES` maps the start of a case's model
name to its runner, which takes a :class:`Case` and returns the pairs (found, expected).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from golden_vectors import Result, _safely, _threads, relative_error
from torch import Tensor, nn

from xearth.models.baselines.persistence import Persistence, PersistenceConfig
from xearth.models.baselines.unet import UNet, UNetConfig

__all__ = ["CASES", "Case", "Pairs", "baselines"]

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

        ``renamed`` maps parts of official names to parts of ours; names of which a part is
        mapped to "" are dead in the published code and left out.
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
        if theirs in name:
            return name.replace(theirs, ours) if ours else ""
    return name


# --- persistence ------------------------------------------------------------------------------


def _persistence(case: Case) -> Pairs:
    x, target = case.tensor("x"), case.tensor("target")
    network = Persistence(PersistenceConfig(input_shape=x.shape[1:], target_shape=target.shape[1:]))
    y = network(x)
    return [(y, case.arrays["y"]), ((y - target).square().mean(), case.arrays["loss"])]


# --- UNet -------------------------------------------------------------------------------------


def _unet(case: Case) -> Pairs:
    x, k = case.tensor("x"), case.kwargs  # (N, H, W, T)
    grid = tuple(x.shape[1:3])
    config = UNetConfig(
        input_shape=(k["in_channels"], *grid, 1),
        target_shape=(k["out_channels"], *grid, 1),
        base_units=k["base"],
        levels=k["levels"],
        center_factor=k["center_mult"],
    )
    network = case.load(UNet(config))
    history = x.movedim(-1, 1)[..., None]

    def forecast() -> Tensor:
        return network(history)[..., 0].movedim(1, -1)

    outputs = [
        (forecast(), case.arrays[name]) for name in ("y", "y_f64_port") if name in case.arrays
    ]
    network.train()
    outputs.append((forecast(), case.arrays["y_train_mode"]))
    norm = network.enc[0].net[1]
    moved = [
        (norm.running_mean, case.arrays["first_bn_moving_mean_after_train"]),
        (norm.running_var, case.arrays["first_bn_moving_var_after_train"]),
    ]
    return outputs + moved


# Start of the model's name in an index -> runner; the longest start that fits counts.
CASES: dict[str, Callable[[Case], Pairs]] = {
    "Persistence": _persistence,
    "UNet": _unet,
}


# --- all cases of an index ----------------------------------------------------------------------


def _run(folder: Path, name: str, record: Mapping[str, Any]) -> Result:
    fitting = [start for start in CASES if record["model"].lower().startswith(start.lower())]
    if not fitting:
        raise LookupError(f"model {record['model']!r} is not known to this version")
    path = folder / record["file"]
    if not path.is_file():
        return Result(name, note=f"no file {record['file']}", failed=True)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    state = {
        key.removeprefix("sd/"): torch.from_numpy(value)
        for key, value in arrays.items()
        if key.startswith("sd/")
    }
    case = Case(record["kwargs"], state, arrays)
    with torch.no_grad():
        pairs = CASES[max(fitting, key=len)](case)
    error = max(relative_error(found, expected) for found, expected in pairs)
    return Result(name, output=error, note=f"float64, {len(pairs)} arrays")


def baselines(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    """Run the cases of an index of baselines."""
    for name, record in index.items():
        with _threads(1):
            yield _safely(name, lambda n=name, r=record: _run(folder, n, r))
