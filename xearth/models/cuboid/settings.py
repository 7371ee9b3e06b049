"""Settings that every block of a network shares: few frozen values, made by the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "AttentionSettings",
    "BlockSettings",
    "Checkpoint",
    "GlobalMask",
    "GlobalMode",
    "Padding",
    "RelativeIndex",
]

Checkpoint = Literal["none", "ffn", "all"]
GlobalMask = Literal["reordered", "unordered"]
Padding = Literal["zeros", "ignore", "nearest"]
RelativeIndex = Literal["recomputed", "sliced"]


@dataclass(frozen=True, kw_only=True)
class GlobalMode:
    """How global vectors take part in attention.

    Parameters
    ----------
    ratio : int
        Width of a global vector, in widths of the block.
    separate : bool
        Whether local-to-global, global-to-local and global-to-global attention have
        projections of their own.
    self_attention : bool
        Whether global vectors attend to each other.
    mask : str
        ``reordered`` marks padded tokens where they are; ``unordered`` marks the tokens that
        the reference marks.
    """

    ratio: int = 1
    separate: bool = False
    self_attention: bool = False
    mask: GlobalMask = "reordered"


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """What all attention layers of a network have in common.

    Parameters
    ----------
    heads : int
        Attention heads.
    scale : float, optional
        Factor of the queries; (width / heads)^(-1/2) when None.
    bias : bool
        Whether the query, key and value projections have a bias.
    attention_drop, projection_drop : float
        Dropout of attention weights and of the output projection.
    norm, padding : str
        Normalization before attention; what fills incomplete cuboids.
    relative : bool
        Whether a learned bias per relative position is added to the scores.
    relative_index : str
        ``recomputed`` for the actual cuboid, or ``sliced`` as the reference does.
    projection : bool
        Whether self-attention ends with a linear projection.
    """

    heads: int = 4
    scale: float | None = None
    bias: bool = False
    attention_drop: float = 0.0
    projection_drop: float = 0.0
    norm: str = "layer_norm"
    padding: Padding = "ignore"
    relative: bool = True
    relative_index: RelativeIndex = "recomputed"
    projection: bool = True


@dataclass(frozen=True, kw_only=True)
class BlockSettings:
    """What all blocks of one network part have in common.

    Parameters
    ----------
    attention : AttentionSettings
        Settings of each attention layer.
    global_mode : GlobalMode, optional
        None when the block has no global vectors.
    global_ffn : bool
        Whether global vectors pass through feed-forward networks of their own.
    inter_ffn : bool
        One feed-forward network after each attention layer, or one after all of them.
    activation, gated, ffn_drop
        Of the feed-forward networks.
    checkpoint : str
        What is recomputed in the backward pass: ``none``, ``ffn`` or ``all``.
    """

    attention: AttentionSettings
    global_mode: GlobalMode | None = None
    global_ffn: bool = True
    inter_ffn: bool = True
    activation: str = "gelu"
    gated: bool = False
    ffn_drop: float = 0.0
    checkpoint: Checkpoint = "none"
