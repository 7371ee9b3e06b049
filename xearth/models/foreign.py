"""Files that other programs wrote: their tensors and plain values, and nothing of their code.

Pickles are read with ``weights_only=True``. A trainer's file also holds its configuration, objects
of classes that need not be installed and must not run; something inert stands in for each.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from ..errors import CheckpointError

__all__ = ["content_of", "safetensors_of"]

_DAMAGED = (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError)


class _Unread(dict[str, Any]):
    """What stands for an object of another library: it takes all and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""


def content_of(path: str | PathLike[str]) -> Any:
    """Return the tensors and plain values in a ``.pt``, ``.ckpt`` or ``.safetensors`` file.

    Parameters
    ----------
    path : path

    Raises
    ------
    CheckpointError
        If the file is missing or damaged.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "w.pt"
    >>> torch.save({"state_dict": {"w": torch.ones(2)}, "kind": Path}, path)
    >>> content_of(path)["state_dict"]
    {'w': tensor([1., 1.])}
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {path}; give the path of a .pt, .ckpt or .safetensors file"
        )
    return safetensors_of(path)[0] if path.suffix == ".safetensors" else _pickle(path)


def safetensors_of(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}. The file is truncated or no safetensors file"
        ) from error


def _pickle(path: Path) -> Any:
    try:
        foreign = get_unsafe_globals_in_checkpoint(path)
    except _DAMAGED:
        foreign = []  # whatever is wrong with the file, reading it says so
    try:
        with safe_globals([(_Unread, name) for name in foreign]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        what = f"{type(error).__name__}: {reason}" if len(reason) < 8 else reason
        raise CheckpointError(
            f"cannot read {path} as tensors only ({what}). It is damaged or no checkpoint; a "
            "file with other objects has to be re-saved as a plain state_dict first"
        ) from error
