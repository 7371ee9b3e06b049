"""The configurations of all networks, by the name of their class, as files name them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .baselines.common import BaselineConfig
from .baselines.convlstm import ConvLSTMConfig
from .baselines.e3d_lstm import E3DLSTMConfig
from .baselines.persistence import PersistenceConfig
from .baselines.phydnet import PhyDNetConfig
from .baselines.predrnn import PredRNNConfig
from .baselines.rainformer import RainformerConfig
from .baselines.simvp import SimVPConfig
from .baselines.stacked_convlstm import StackedConvLSTMConfig
from .baselines.unet import UNetConfig
from .config import EarthformerConfig

__all__ = ["CONFIGS", "NetworkConfig"]

NetworkConfig = EarthformerConfig | BaselineConfig

_KINDS: tuple[type[NetworkConfig], ...] = (
    EarthformerConfig,
    PersistenceConfig,
    UNetConfig,
    ConvLSTMConfig,
    StackedConvLSTMConfig,
    PredRNNConfig,
    PhyDNetConfig,
    E3DLSTMConfig,
    RainformerConfig,
    SimVPConfig,
)

CONFIGS: Mapping[str, type[NetworkConfig]] = MappingProxyType({c.__name__: c for c in _KINDS})
