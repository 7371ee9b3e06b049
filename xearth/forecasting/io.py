"""A forecaster in one file, and the forecasters that ship with the package.

The file is safetensors. That of a network forecaster holds the weights ``network.K.NAME`` of each
network and the arrays ``guess.NAME`` of the first guess, with everything else as JSON in its
metadata; that of a combination of index forecasters is told in :mod:`~xearth.forecasting.multi`.
Nothing in it is executed. Weights kept in float16 are read as float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cf.timeaxis import Step
from ..data.grid import Grid
from ..data.normalize import Normalizer
from ..data.windows import Window
from ..errors import CheckpointError, XearthError
from .enso_diffusion import KIND as ENSO
from .enso_diffusion import EnsoDiffusionForecaster
from .firstguess import FittedGuess
from .forecaster import NetworkForecaster
from .indices import Indices
from .kept import FORMAT, arguments_of, facts_of
from .multi import KIND as MULTI
from .multi import MultiForecaster
from .nowcast import KIND as NOWCAST
from .nowcast import NowcastForecaster
from .place import place_from_dict
from .prediff import KIND as PREDIFF
from .prediff import PreDiffForecaster

if TYPE_CHECKING:
    import torch

    from ..reference.protocol import Forecaster

__all__ = ["forecaster_of", "load", "packed", "save", "shipped", "unpacked"]

ARTIFACTS = Path(__file__).parents[1] / "artifacts"
KIND = "NetworkForecaster"


def shipped() -> tuple[str, ...]:
    """Return the names of the forecasters that ship with the package.

    Examples
    --------
    >>> "enso-small" in shipped()
    True
    """
    return tuple(sorted(path.stem for path in ARTIFACTS.glob("*.safetensors")))


def save(forecaster: NetworkForecaster, path: str | Path, *, dtype: str | None = None) -> Path:
    """Write a forecaster to one safetensors file, whole or not at all.

    Parameters
    ----------
    forecaster : NetworkForecaster
    path : path
        ``.safetensors`` by custom.
    dtype : str, optional
        Keep the weights in this dtype, "float16" for half the size; default as they are.

    Raises
    ------
    CheckpointError
        If the folder does not exist.
    """
    from ..models.checkpoints import save_tensors

    return save_tensors(path, *packed(forecaster, dtype=dtype))


def packed(
    forecaster: NetworkForecaster, *, dtype: str | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and the facts of a file; the inverse of :func:`unpacked`."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for k, state in enumerate(forecaster.states):
        for name, value in state.items():
            keep = dtype is None or not value.is_floating_point()
            tensors[f"network.{k}.{name}"] = (
                value if keep else value.to(getattr(torch, dtype or ""))
            )
    guess = forecaster.guess
    if guess is not None:
        for name, array in guess.arrays().items():
            tensors[f"guess.{name}"] = torch.from_numpy(array.astype(np.float32))
    window, step, indices = forecaster.window, forecaster.step, forecaster.indices
    facts = facts_of(forecaster, KIND) | {
        "model": type(forecaster.config).__name__,
        "config": forecaster.config.to_dict(),
        "head": forecaster.head.to_dict(),
        "networks": len(forecaster.states),
        "grid": json.loads(forecaster.grid.to_json()),
        "required": ["".join("01"[int(cell)] for cell in row) for row in forecaster.required],
        "normalizer": json.loads(forecaster.normalizer.to_json()),
        "indices": None if indices is None else json.loads(indices.normalizer.to_json()),
        "window": {"history": window.history, "horizon": window.horizon, "gap": window.gap},
        "step": {"count": step.count, "unit": step.unit},
        "season": forecaster.season,
        "place": forecaster.place.to_dict(),
        "width": forecaster.width,
        "guess": None if guess is None else guess.facts(),
    }
    return tensors, facts


Loaded = (
    NetworkForecaster
    | MultiForecaster
    | NowcastForecaster
    | PreDiffForecaster
    | EnsoDiffusionForecaster
)


def load(path_or_name: str | Path) -> Loaded:
    """Return a forecaster from a file, or one that ships with the package by its name.

    Parameters
    ----------
    path_or_name : path or str
        A file written by ``forecaster.save``, or one of :func:`shipped`.

    Returns
    -------
    forecaster
        A NetworkForecaster, MultiForecaster, NowcastForecaster, PreDiffForecaster or
        EnsoDiffusionForecaster, whichever wrote the file.

    Raises
    ------
    CheckpointError
        If there is no such file or name, or the file is truncated or not a forecaster.

    Examples
    --------
    >>> load("enso-small").horizon
    18
    """
    from ..models.checkpoints import load_tensors

    path = Path(path_or_name)
    if not path.is_file():
        named = ARTIFACTS / f"{path_or_name}.safetensors"
        if not named.is_file():
            raise CheckpointError(
                f"{str(path_or_name)!r} is neither a file nor a shipped forecaster: expected a "
                f"path to a .safetensors file or one of {list(shipped())}"
            )
        path = named
    tensors, facts = load_tensors(path)
    kind = str(facts.get("kind"))
    if kind not in _READERS or facts.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected a {' or '.join(_READERS)} of format {FORMAT}, found {kind!r} of "
            f"format {facts.get('format')!r}. Write it with forecaster.save(path) of this version."
        )
    try:
        forecaster = _READERS[kind](tensors, facts)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        what = str(error) if isinstance(error, XearthError) else f"{type(error).__name__} {error}"
        raise CheckpointError(
            f"{path}: expected the whole of a {kind}, found it damaged or of another version "
            f"({what}). Write it again with forecaster.save(path)."
        ) from error
    if isinstance(forecaster, NetworkForecaster):
        _check_weights(forecaster, path)
    return forecaster


def forecaster_of(model: Forecaster | str | Path) -> Forecaster:
    """Return ``model`` itself if it is a forecaster, else what :func:`load` makes of it.

    Raises
    ------
    CheckpointError
        As :func:`load`.

    Examples
    --------
    >>> forecaster_of("enso-small").name
    'enso-small'
    """
    return load(model) if isinstance(model, str | Path) else model


def unpacked(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> NetworkForecaster:
    """Return the forecaster of a file's content."""
    from ..models.heads import head_from_dict

    states: list[dict[str, torch.Tensor]] = [{} for _ in range(facts["networks"])]
    arrays: dict[str, np.ndarray] = {}
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        tensor = value.float() if value.is_floating_point() else value
        if part == "guess":
            arrays[rest] = tensor.numpy()
            continue
        number, _, name = rest.partition(".")
        states[int(number)][name] = tensor
    guess, series = facts["guess"], facts.get("indices")
    required = np.array([[cell == "1" for cell in row] for row in facts["required"]])
    return NetworkForecaster(
        config=_config(facts["model"], facts["config"]),
        states=tuple(states),
        head=head_from_dict(facts["head"]),
        grid=Grid.from_json(json.dumps(facts["grid"])),
        normalizer=Normalizer.from_json(json.dumps(facts["normalizer"])),
        indices=None if series is None else Indices(Normalizer.from_json(json.dumps(series))),
        window=Window(**facts["window"]),
        step=Step(**facts["step"]),
        required=required,
        guess=None if guess is None else FittedGuess.restore(arrays, guess),
        season=facts["season"],
        place=place_from_dict(facts.get("place")),
        width=facts["width"],
        **arguments_of(facts),
    )


_READERS: Mapping[str, Callable[..., Loaded]] = {
    KIND: unpacked,
    MULTI: MultiForecaster.restore,
    NOWCAST: NowcastForecaster.restore,
    PREDIFF: PreDiffForecaster.restore,
    ENSO: EnsoDiffusionForecaster.restore,
}


def _config(model: str, values: Mapping[str, Any]) -> Any:
    """Return the configuration of a model by the name of its class."""
    from ..models.kinds import CONFIGS

    if model not in CONFIGS:
        raise CheckpointError(f"unknown model {model!r}: this version knows {sorted(CONFIGS)}")
    return CONFIGS[model].from_dict(values)


def _check_weights(forecaster: NetworkForecaster, path: Path) -> None:
    """Refuse weights that do not fit, before anything is computed."""
    from ..models.checkpoints import require_weights

    build = cache(lambda: forecaster.config.build().state_dict())
    for k, state in enumerate(forecaster.states):
        require_weights(build, state, f"{path}: the weights of network {k}")
