"""Networks: tensors (N, T, H, W, C) in, tensors out; no labels, no units, no paths.

Importing the room costs nothing: each network loads its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .baselines.convlstm import ConvLSTM, ConvLSTMConfig
    from .baselines.persistence import Persistence, PersistenceConfig
    from .baselines.predrnn import PredRNN, PredRNNConfig
    from .baselines.stacked_convlstm import StackedConvLSTM, StackedConvLSTMConfig
    from .baselines.unet import UNet, UNetConfig
    from .config import EarthformerConfig
    from .earthformer import Earthformer

# Where each network and its configuration live; a test keeps this equal to the imports above.
_HOMES = {
    "baselines.convlstm": ("ConvLSTM", "ConvLSTMConfig"),
    "baselines.persistence": ("Persistence", "PersistenceConfig"),
    "baselines.predrnn": ("PredRNN", "PredRNNConfig"),
    "baselines.stacked_convlstm": ("StackedConvLSTM", "StackedConvLSTMConfig"),
    "baselines.unet": ("UNet", "UNetConfig"),
    "config": ("EarthformerConfig",),
    "earthformer": ("Earthformer",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ConvLSTM",
    "ConvLSTMConfig",
    "Earthformer",
    "EarthformerConfig",
    "Persistence",
    "PersistenceConfig",
    "PredRNN",
    "PredRNNConfig",
    "StackedConvLSTM",
    "StackedConvLSTMConfig",
    "UNet",
    "UNetConfig",
]


def __getattr__(name: str) -> Any:
    """Load a network on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(
            f"module 'xearth.models' has no attribute {name!r}; it offers {__all__}"
        )
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the networks, those not loaded yet included."""
    return sorted({*globals(), *__all__})
