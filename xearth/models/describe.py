r"""What a network weighs and costs: parameters, multiply-accumulates and FLOPs per part.

One forward pass of one sample is counted on the ``meta`` device: operators see shapes and no
numbers. A multiply-accumulate (MAC) is two floating-point operations (FLOP). Matrix products
and convolutions are counted; normalizations, activations and softmax are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .unfilled import unfilled

if TYPE_CHECKING:
    from .baselines.common import BaselineConfig
    from .config import EarthformerConfig

__all__ = ["Description", "Part", "describe"]


@dataclass(frozen=True)
class Part:
    """One part of a network.

    Parameters
    ----------
    name : str
        Name of the submodule.
    parameters : int
        Learned numbers.
    flops : int
        Floating-point operations of one forward pass of one sample.
    """

    name: str
    parameters: int
    flops: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates: half of the FLOPs."""
        return self.flops // 2


@dataclass(frozen=True, repr=False)
class Description:
    """Parts of a network and their sum; printed, it is a table.

    Parameters
    ----------
    parts : tuple of Part
        In the order of the network.
    """

    parts: tuple[Part, ...]

    @property
    def total(self) -> Part:
        """The whole network."""
        return Part(
            "total",
            sum(part.parameters for part in self.parts),
            sum(part.flops for part in self.parts),
        )

    def __repr__(self) -> str:
        rows = [
            f"{part.name:22}{part.parameters:>14,}{part.macs / 1e9:>12.3f}{part.flops / 1e9:>12.3f}"
            for part in (*self.parts, self.total)
        ]
        return "\n".join([f"{'part':22}{'parameters':>14}{'GMAC':>12}{'GFLOP':>12}", *rows])


def _inputs(config: EarthformerConfig | BaselineConfig) -> list[torch.Tensor]:
    shapes = [config.input_shape]
    auxiliary = getattr(config, "auxiliary", None)
    if auxiliary is not None:
        frames = (config.input_shape[0], config.target_shape[0])
        shapes += [(T, *config.input_shape[1:3], auxiliary.channels) for T in frames]
    return [torch.empty(1, *shape, device="meta") for shape in shapes]


def _product_flops(
    start: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...], **_: object
) -> int:
    """Return the FLOPs of start + a b for shapes (N, n, k) and (N, k, m)."""
    return 2 * a[0] * a[1] * a[2] * b[2]


def _own(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _flops(counts: Mapping[str, Mapping[Any, int]], name: str, module: nn.Module) -> int:
    """Return the FLOPs counted under a name; a list is never called, its entries are."""
    if isinstance(module, nn.ModuleList):
        return sum(_flops(counts, f"{name}.{i}", m) for i, m in enumerate(module))
    return sum(counts.get(name, {}).values())


def describe(config: EarthformerConfig | BaselineConfig) -> Description:
    """Count parameters and operations of the network of a configuration.

    Examples
    --------
    >>> from xearth.models.config import EarthformerConfig
    >>> summary = describe(EarthformerConfig.icar_enso())
    >>> summary.total.parameters
    1394325
    >>> print(str(summary).splitlines()[0])
    part                      parameters        GMAC       GFLOP
    """
    with unfilled():
        network = config.build()
    # The counter knows baddbmm but not its in-place form.
    in_place = {torch.ops.aten.baddbmm_: _product_flops}
    counter = FlopCounterMode(display=False, custom_mapping=in_place)
    # Training mode counts the network as it is written, before anything is folded.
    with counter:
        network.train()(*_inputs(config))
    counts = counter.get_flop_counts()
    root = type(network).__name__
    parts = []
    for name, module in network.named_children():
        parts.append(Part(name, _own(module), _flops(counts, f"{root}.{name}", module)))
    loose = sum(p.numel() for p in network.parameters(recurse=False))
    rest = sum(counts.get(root, {}).values()) - sum(part.flops for part in parts)
    if loose or rest:
        parts.append(Part("other", loose, rest))
    return Description(tuple(parts))
