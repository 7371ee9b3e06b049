"""The published set-ups as data: fields of ``EarthformerConfig`` that differ from its defaults.

Source: the configurations published with Gao et al. (2022), and for the table networks the
parameter counts of the paper, which fix depth and global vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .config_parts import Auxiliary, ConvStem, GlobalVectors, StackStem

__all__ = ["SETUPS"]

_SEVIR: dict[str, Any] = {
    "input_shape": (13, 384, 384, 1),
    "target_shape": (12, 384, 384, 1),
    "base_units": 128,
    "stem": StackStem(dims=(16, 64, 128), scales=(3, 2, 2), convs=(2, 2, 2)),
}
_ENSO: dict[str, Any] = {
    "input_shape": (12, 24, 48, 1),
    "target_shape": (14, 24, 48, 1),
    "base_units": 64,
    "stem": ConvStem(scale=(1, 1, 2), encoder_layers=2, decoder_layers=1),
}
_TABLE_VECTORS = GlobalVectors(self_attention=False, separate_qkv=False)

SETUPS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "sevir": {**_SEVIR, "global_vectors": GlobalVectors()},
        "sevir_lr": {
            "input_shape": (7, 128, 128, 1),
            "target_shape": (6, 128, 128, 1),
            "base_units": 64,
            "stem": StackStem(dims=(4, 16, 64), scales=(1, 2, 2), convs=(2, 2, 2)),
        },
        "icar_enso": _ENSO,
        "earthnet": {
            "input_shape": (10, 128, 128, 4),
            "target_shape": (20, 128, 128, 4),
            "base_units": 256,
            "stem": StackStem(dims=(64, 256), scales=(2, 2), convs=(2, 2)),
            "positions": "t+hw",
            "global_vectors": GlobalVectors(),
            "auxiliary": Auxiliary(channels=7, cross="both"),
        },
        "moving_mnist": {
            "input_shape": (10, 64, 64, 1),
            "target_shape": (10, 64, 64, 1),
            "base_units": 64,
            "encoder_depth": (4, 4),
            "decoder_depth": (4, 4),
            "stem": ConvStem(scale=(1, 2, 2), encoder_layers=2, decoder_layers=1),
            "positions": "t+hw",
        },
        "sevir_table": {
            **_SEVIR,
            "encoder_depth": (2, 2),
            "decoder_depth": (2, 2),
            "global_vectors": _TABLE_VECTORS,
        },
        "icar_enso_table": {
            **_ENSO,
            "encoder_depth": (4, 4),
            "decoder_depth": (4, 4),
            "global_vectors": _TABLE_VECTORS,
        },
    }
)
