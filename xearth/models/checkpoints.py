r"""Files of weights: our own (safetensors) and those of the reference implementation.

Our files hold tensors and one JSON text of metadata. Official files are pickles, of which no code
is run (:mod:`.foreign`). Names differ from the official ones by a table, :data:`RENAMED` for
Earthformer; the buffers ``relative_position_index`` are computed here, and checked where a file has
them.

Source: key tables of the published checkpoints.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .cuboid.relative import RelativePosition, relative_index
from .foreign import content_of, safetensors_of
from .official import official_config
from .unfilled import unfilled

if TYPE_CHECKING:
    from .auxiliary import AuxiliaryEarthformer
    from .config import EarthformerConfig
    from .earthformer import Earthformer

__all__ = [
    "Renamed",
    "below",
    "load_official",
    "load_official_state",
    "load_tensors",
    "official_name",
    "official_state",
    "our_name",
    "read_official",
    "require_weights",
    "save_tensors",
    "tensors_of",
]

# (official part, our part) of a parameter's name with a dot before it. Neither side of a pair
# occurs in the other side of a pair after it: names go both ways, pair by pair.
Renamed = Sequence[tuple[str, str]]
RENAMED: Renamed = ((".relative_position_bias_table", ".relative.bias_table"),)
INDEX = ".relative_position_index"
#: What trainers and wrappers put before the names of a network's weights.
WRAPPED = ("torch_nn_module.", "model.", "module.", "_orig_mod.")
METADATA_KEY = "xearth"
_LISTED = 8


def our_name(official: str, renamed: Renamed = RENAMED) -> str:
    """Return our name of an official parameter.

    Examples
    --------
    >>> our_name("encoder.blocks.0.0.attn_l.0.relative_position_bias_table")
    'encoder.blocks.0.0.attn_l.0.relative.bias_table'
    """
    name = f".{official}"
    for theirs, ours in renamed:
        name = name.replace(theirs, ours)
    return name[1:]


def official_name(ours: str, renamed: Renamed = RENAMED) -> str:
    """Return the official name of one of our parameters: the inverse of :func:`our_name`.

    Examples
    --------
    >>> official_name("decoder.cross_blocks.0.0.attn_l.0.relative.bias_table")
    'decoder.cross_blocks.0.0.attn_l.0.relative_position_bias_table'
    """
    name = f".{ours}"
    for theirs, mine in reversed(renamed):
        name = name.replace(mine, theirs)
    return name[1:]


def _positions(module: nn.Module, renamed: Renamed) -> dict[str, RelativePosition]:
    """Return the relative positions of a network by the official name of their index."""
    return {
        official_name(name.removesuffix(".relative") + INDEX, renamed): part
        for name, part in module.named_modules()
        if isinstance(part, RelativePosition)
    }


def official_state(module: nn.Module, renamed: Renamed = RENAMED) -> dict[str, Tensor]:
    """Return the state of a network under the official names, index buffers included.

    Examples
    --------
    >>> from xearth.models.config import EarthformerConfig
    >>> len(official_state(EarthformerConfig.icar_enso().build()))
    177
    """
    own = module.state_dict()
    state = {official_name(name, renamed): tensor for name, tensor in own.items()}
    for name, part in _positions(module, renamed).items():
        state[name] = torch.from_numpy(relative_index(part.table, part.table, part.table))
    return state


def _few(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _check_index(name: str, part: RelativePosition, found: Tensor) -> None:
    volume = int(np.prod(part.table))
    if tuple(found.shape) != (volume, volume):
        raise CheckpointError(
            f"{name} has shape {tuple(found.shape)}; the cuboid {part.table} of this network "
            f"needs {(volume, volume)}: the file is of another configuration"
        )
    if not np.array_equal(found.cpu().numpy(), relative_index(part.table, part.table, part.table)):
        raise CheckpointError(
            f"{name} is not the index of cuboid {part.table}: the file is of another configuration"
        )


def load_official_state(
    module: nn.Module, state: Mapping[str, Tensor], renamed: Renamed = RENAMED
) -> None:
    """Copy official weights into a network, all or none.

    Raises
    ------
    CheckpointError
        If keys are missing, unknown or of a wrong shape; the message names them.
    """
    positions = _positions(module, renamed)
    own = module.state_dict()
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        tensor = torch.as_tensor(value)
        if name in positions:
            _check_index(name, positions[name], tensor)
        else:
            weights[our_name(name, renamed)] = tensor
    problems = []
    missing, unknown = own.keys() - weights.keys(), weights.keys() - own.keys()
    if missing:
        problems.append(f"missing: {_few(official_name(name, renamed) for name in missing)}")
    if unknown:
        problems.append(f"unknown: {_few(official_name(name, renamed) for name in unknown)}")
    shapes = [
        f"{official_name(name, renamed)} is {tuple(weights[name].shape)}, "
        f"expected {tuple(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if weights[name].shape != own[name].shape
    ]
    if shapes:
        problems.append(f"wrong shapes: {_few(shapes)}")
    if problems:
        raise CheckpointError(
            f"the weights do not fit {type(module).__name__} ({len(own)} tensors): "
            f"{'; '.join(problems)}. Check that the configuration is the one of the checkpoint"
        )
    module.load_state_dict(weights, strict=True)


def read_official(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of an official ``.pt`` or ``.ckpt`` file, running none of its code.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or holds no tensors by name.
    """
    return _strip(content_of(path), str(path))


def tensors_of(content: Any, source: str) -> dict[str, Tensor]:
    """Return the state_dict in the content of a file or mapping.

    Raises
    ------
    CheckpointError
        If it holds anything else than tensors by name.
    """
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{source} holds {type(content).__name__}, expected a mapping of names to tensors"
        )
    foreign = [str(k) for k, v in content.items() if not isinstance(v, Tensor | np.ndarray)]
    if foreign:
        raise CheckpointError(f"{source} holds no tensors under: {_few(foreign)}")
    return {str(name): value for name, value in content.items()}


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the entries whose names begin with a prefix, without it.

    Examples
    --------
    >>> below({"net.weight": torch.ones(1), "logvar": torch.ones(1)}, "net.")
    {'weight': tensor([1.])}
    """
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _strip(content: Any, source: str) -> dict[str, Tensor]:
    """Return the state_dict in the content of a file or mapping, without trainer prefixes."""
    state = tensors_of(content, source)
    while inside := next(filter(None, (below(state, prefix) for prefix in WRAPPED)), None):
        state = inside
    return state


def load_official(
    weights: str | PathLike[str] | Mapping[str, Tensor],
    config: str | PathLike[str] | Mapping[str, Any] | EarthformerConfig,
) -> Earthformer | AuxiliaryEarthformer:
    """Build a network and load official weights; see ``Earthformer.from_official``."""
    if isinstance(weights, Mapping):
        state = _strip(weights, "the given state_dict")
    else:
        state = read_official(weights)
    auxiliary = any(name.startswith("initial_aux_encoder.") for name in state)
    network = official_config(config, auxiliary=auxiliary).build()
    load_official_state(network, _fit_positions(network, state))
    return network.eval()


def _fit_positions(
    network: Earthformer | AuxiliaryEarthformer, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Cut the positions that the reference's auxiliary decoder made for a finer level.

    Its downward tables are sized for the history and the level above; only the rows that
    are read are kept.
    """
    fitted = dict(state)
    own = network.state_dict()
    prefix = "decoder.down_hierarchical_pos_embed_l."
    for name in [n for n in own if n.startswith(prefix) and n in state]:
        table, wanted = torch.as_tensor(state[name]), own[name].shape[0]
        if name.endswith("HW_embed.weight") and table.shape[0] > wanted:
            level = int(name.removeprefix(prefix).split(".")[0])
            shapes = network.config.decoder_shapes
            (_, h, w), (_, H, W) = shapes[level + 1], shapes[level]
            if table.shape[0] == H * W:
                fitted[name] = table.unflatten(0, (H, W))[:h, :w].flatten(0, 1)
        elif table.shape[0] > wanted:
            fitted[name] = table[:wanted]
    return fitted


def save_tensors(
    path: str | PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> Path:
    """Write tensors and JSON metadata to one safetensors file, whole or not at all.

    Parameters
    ----------
    path : path
        File to write; replaced if it exists.
    tensors : mapping
        Tensors by name.
    metadata : mapping
        Anything JSON can hold.

    Raises
    ------
    CheckpointError
        If the metadata is not JSON or the folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = save_tensors(folder / "a.safetensors", {"w": torch.ones(2)}, {"kind": "demo"})
    >>> tensors, metadata = load_tensors(folder / "a.safetensors")
    >>> tensors["w"].tolist(), metadata
    ([1.0, 1.0], {'kind': 'demo'})
    """
    from safetensors.torch import save_file

    path = Path(path)
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"metadata of {path.name} is not JSON: {error}") from error
    if not path.parent.is_dir():
        raise CheckpointError(f"there is no folder {path.parent} to write {path.name} to")
    # safetensors refuses views and shared storage; a fresh copy has neither.
    whole = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    # A name of our own, not mkstemp: the file keeps the permissions the user's umask gives.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        save_file(whole, temporary, metadata={METADATA_KEY: text})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load_tensors(path: str | PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, or not one of ours.
    """
    path = Path(path)
    tensors, metadata = safetensors_of(path)
    if METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file without xearth metadata (found "
            f"{sorted(metadata) or 'none'}); official weights are read by from_official"
        )
    try:
        decoded = json.loads(metadata[METADATA_KEY])
    except json.JSONDecodeError as error:
        raise CheckpointError(f"the metadata of {path} are not JSON ({error})") from error
    if not isinstance(decoded, dict):
        raise CheckpointError(
            f"the metadata of {path} are {decoded!r:.40}, expected names and values"
        )
    return tensors, decoded


def require_weights(
    build: Callable[[], Mapping[str, Tensor]],
    found: Mapping[str, Tensor],
    what: str = "the weights",
) -> None:
    """Refuse weights that do not fit, before anything is computed.

    Parameters
    ----------
    build : callable
        Returns weights as they should be; called without memory for their values.
    found : mapping of str to Tensor
    what : str
        Begin of the message.

    Raises
    ------
    CheckpointError
        Some are missing, too many, or of another shape; the first is named.

    Examples
    --------
    >>> require_weights(lambda: nn.Linear(2, 1).state_dict(), nn.Linear(2, 1).state_dict())
    >>> require_weights(lambda: nn.Linear(2, 1).state_dict(), {})
    Traceback (most recent call last):
    xearth.errors.CheckpointError: the weights do not fit the configuration; 2 of 2 differ, ...
    """
    with unfilled():
        wanted = {name: tuple(tensor.shape) for name, tensor in build().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    names = wanted.keys() | shapes.keys()
    odd = sorted(name for name in names if wanted.get(name) != shapes.get(name))
    if odd:
        raise CheckpointError(
            f"{what} do not fit the configuration; {len(odd)} of {len(names)} differ, first "
            f"{odd[0]!r}: expected {wanted.get(odd[0])}, found {shapes.get(odd[0])}. Write "
            "the file again with save(path)."
        )
