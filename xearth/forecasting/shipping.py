"""A forecaster where it is needed: loaded once in each process, never once for each task.

A task carries a :class:`Saved`: the path of the file (or the name of a shipped forecaster) and the
fingerprint of what it held when the hindcast was defined. The process that runs the task loads
the file when it first needs it and keeps it. A forecaster that exists in memory alone is one
entry of the graph that all tasks share: threads use the object itself, and a cluster sends it
once to each worker.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from .fingerprint import fingerprint
from .forecaster import NetworkForecaster
from .io import ARTIFACTS, load

if TYPE_CHECKING:
    from ..reference.protocol import Forecaster

__all__ = ["Saved", "resident", "saved"]

_KEPT = 4  # forecasters in memory of one process; the one loaded first goes first
_loaded: dict[str, Forecaster] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Saved:
    """A forecaster by its file.

    Parameters
    ----------
    place : str
        Absolute path, or the name of a shipped forecaster.
    content : str
        Its fingerprint.
    """

    place: str
    content: str


def saved(path_or_name: str | Path) -> tuple[Saved, Forecaster]:
    """Return what tasks carry, and the forecaster itself, loaded in this process.

    Raises
    ------
    CheckpointError
        As :func:`xearth.load`.

    Examples
    --------
    >>> carried, forecaster = saved("enso-small")
    >>> carried.place, resident(carried) is forecaster
    ('enso-small', True)
    """
    path = Path(path_or_name)
    shipped = not path.is_file() and (ARTIFACTS / f"{path_or_name}.safetensors").is_file()
    place = str(path_or_name) if shipped else str(path.absolute())
    forecaster = load(path_or_name)
    carried = Saved(place, fingerprint(forecaster))
    with _lock:
        return carried, _keep(carried, forecaster)


def resident(model: Saved | Any) -> Any:
    """Return the forecaster of this process, ready to be used by several threads.

    Parameters
    ----------
    model : Saved or Forecaster

    Raises
    ------
    CheckpointError
        The file is gone, or holds another forecaster than when the hindcast was defined.
    """
    with _lock:
        forecaster = _from_file(model) if isinstance(model, Saved) else model
        if isinstance(forecaster, NetworkForecaster):
            forecaster.networks  # noqa: B018 - built once, not by each thread at the same time
        return forecaster


def _from_file(carried: Saved) -> Forecaster:
    if carried.content in _loaded:
        return _loaded[carried.content]
    forecaster = load(carried.place)
    found = fingerprint(forecaster)
    if found != carried.content:
        raise CheckpointError(
            f"{carried.place}: the forecaster in this file is not the one that the hindcast was "
            f"defined with (fingerprint {found}, expected {carried.content}). Define the hindcast "
            "again, or restore the file."
        )
    return _keep(carried, forecaster)


def _keep(carried: Saved, forecaster: Forecaster) -> Forecaster:
    while len(_loaded) >= _KEPT and carried.content not in _loaded:
        del _loaded[next(iter(_loaded))]
    return _loaded.setdefault(carried.content, forecaster)
