r"""The two halves of a U-shaped network of cuboid attention that reads diffusion time.

With e the embedded time, R a residual block of convolutions and S a stack of cuboid
attention, level i of either half is

.. math:: (x, g) \leftarrow S_{ik}\big(R_i(x, e), g\big), \qquad k = 1, \dots, \text{depth}_i ;

all k share the weights of :math:`R_i`. Patches are merged between the levels on the way down,
and cells enlarged on the way up, where the way down is added.

Source: Gao et al. (2023), *PreDiff: Precipitation Nowcasting with Latent Diffusion Models*.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...errors import GridMismatchError
from ..cuboid.attention import CuboidSelfAttention
from ..cuboid.blocks import SelfBlock
from ..layers import FeedForward, PatchMerging3D, PositionEmbedding, Upsample3D
from .config_cuboid import CuboidConfig
from .layers import TimeEmbedding, TimeResidual

__all__ = ["Down", "Features", "Up", "check_field", "check_times", "start_at_zero"]


def check_field(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise GridMismatchError unless x is (N, *shape)."""
    if tuple(x.shape[1:]) != tuple(shape):
        raise GridMismatchError(
            f"{name} must be a tensor (N, T, H, W, C) = (N, {', '.join(map(str, shape))}), what "
            f"this network was built for; got {tuple(x.shape)}. Build one for that shape: it is "
            "part of the configuration"
        )


def check_times(t: Tensor, count: int) -> Tensor:
    """Return diffusion times (count,) from one for all or one each; else GridMismatchError."""
    if t.dim() > 1 or t.numel() not in (1, count):
        raise GridMismatchError(
            f"t must hold one diffusion time, or one for each of the {count} samples; got a "
            f"tensor {tuple(t.shape)}"
        )
    return t.reshape(-1).expand(count)


def start_at_zero(network: nn.Module) -> None:
    """Set the last map of each residual part to 0: a new network passes on what it gets.

    Examples
    --------
    >>> ffn = FeedForward(4, 8)
    >>> start_at_zero(ffn)
    >>> x = torch.randn(2, 4)
    >>> bool((ffn(x) == x).all())
    True
    """
    for part in network.modules():
        last: list[nn.Module] = []
        if isinstance(part, FeedForward):
            last = [part.ffn_2]
        elif isinstance(part, CuboidSelfAttention) and part.settings.projection:
            last = [part.proj, *([part.global_proj] if part.global_mode is not None else [])]
        for parameter in itertools.chain.from_iterable(map_.parameters() for map_ in last):
            nn.init.zeros_(parameter)


@dataclass(frozen=True)
class Features:
    """What the way down leaves.

    Parameters
    ----------
    levels : list of Tensor
        (B, T, H_i, W_i, C_i) of each level, finest first.
    e : Tensor
        Embedded time (B, time_units).
    g : Tensor, optional
        Global vectors (B, G, ratio * C) of the coarsest level.
    """

    levels: list[Tensor]
    e: Tensor
    g: Tensor | None


def _time_blocks(config: CuboidConfig) -> nn.ModuleList:
    return nn.ModuleList(
        TimeResidual(
            units,
            units,
            time_units=config.time_units,
            drop=config.time_drop,
            scale_shift=config.time_scale_shift,
        )
        for units in config.units
    )


def _stacks(config: CuboidConfig, frames: int | None = None) -> nn.ModuleList:
    """Return the attention blocks of all levels; `frames` of the last one are read."""
    settings = config.blocks()
    stacks = nn.ModuleList()
    for i, depth in enumerate(config.depth):
        shape = (config.units[i], config.shapes[i], config.patterns[i])
        blocks = [SelfBlock(*shape, settings) for _ in range(depth - 1)]
        last = SelfBlock(*shape, settings, frames=frames if i == 0 else None)
        stacks.append(nn.ModuleList([*blocks, last]))
    return stacks


class _Half(nn.Module):
    """The levels of one half: its residual blocks and stacks."""

    def __init__(self, config: CuboidConfig, frames: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.time_blocks = _time_blocks(config)
        self.blocks = _stacks(config, frames)

    def _level(
        self, i: int, x: Tensor, e: Tensor, g: Tensor | None, *, last: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Run level i; `last` says that nobody reads the global vectors afterwards."""
        residual, blocks = self.time_blocks[i], list(self.blocks[i].children())
        time = residual.read(e)  # type: ignore[operator]
        for k, block in enumerate(blocks):
            if self.config.checkpoint != "none" and self.training and torch.is_grad_enabled():
                x = checkpoint(residual, x, time, use_reentrant=False)
            else:
                x = residual(x, time)
            x, g = block(x, g, update=not (last and k == len(blocks) - 1))
        return x, g


class Down(_Half):
    """The way down: project, add positions, then level by level.

    Parameters
    ----------
    config : CuboidConfig
        Sizes and choices.
    channels : int
        Channels of what comes in.
    read_vectors : bool
        Whether somebody reads the global vectors of the coarsest level.

    Examples
    --------
    >>> from .config import AlignmentConfig
    >>> config = AlignmentConfig(base_units=8, input_shape=(3, 4, 6, 2), frames=2)
    >>> features = Down(config, 2)(torch.randn(1, 3, 4, 6, 2), torch.tensor([7]))
    >>> [tuple(level.shape) for level in features.levels]
    [(1, 3, 4, 6, 8), (1, 3, 2, 3, 16)]
    """

    def __init__(self, config: CuboidConfig, channels: int, *, read_vectors: bool = False) -> None:
        super().__init__(config)
        units, g = config.units, config.global_vectors
        self.read_vectors = read_vectors
        self.first = TimeResidual(channels, units[0], drop=config.dropout.projection)
        self.positions = PositionEmbedding(units[0], config.grid, config.positions)
        self.embed = TimeEmbedding(units[0], config.time_units)
        steps = list(itertools.pairwise(units))
        self.merge = nn.ModuleList(
            PatchMerging3D(a, b, config.downsample, config.padding) for a, b in steps
        )
        if g is not None:
            self.vectors = nn.Parameter(torch.zeros(g.count, g.ratio * units[0]))
            self.merge_global = nn.ModuleList(nn.Linear(g.ratio * a, g.ratio * b) for a, b in steps)

    def forward(self, x: Tensor, t: Tensor) -> Features:
        """Go down from x: (B, T, H, W, channels) at diffusion times t: (B,)."""
        x, e, levels = self.positions(self.first(x)), self.embed(t), []
        g = None
        if self.config.global_vectors is not None:
            g = self.vectors.expand(len(x), -1, -1)
        top = self.config.levels - 1
        for i in range(top + 1):
            if i > 0:
                x = self.merge[i - 1](x)
                g = None if g is None else self.merge_global[i - 1](g)
            x, g = self._level(i, x, e, g, last=i == top and not self.read_vectors)
            levels.append(x)
        return Features(levels, e, g)


class Up(_Half):
    """The way up: level by level, coarsest first, with enlargement between.

    Parameters
    ----------
    config : CuboidConfig
        Sizes and choices.
    kernel : int
        Size of the convolution after an enlargement.
    skip : bool
        Whether the way down is added.
    frames : int
        How many frames, the last ones, are read in the end: the others are left out once no
        layer mixes frames any more.
    """

    def __init__(self, config: CuboidConfig, *, kernel: int, skip: bool, frames: int) -> None:
        super().__init__(config, frames)
        units, shapes, g = config.units, config.shapes, config.global_vectors
        self.skip, self.frames = skip, frames
        steps = list(itertools.pairwise(range(config.levels)))
        self.enlarge = nn.ModuleList(
            Upsample3D(units[b], units[a], shapes[a][1:], kernel) for a, b in steps
        )
        if g is not None:
            self.enlarge_global = nn.ModuleList(
                nn.Linear(g.ratio * units[b], g.ratio * units[a]) for a, b in steps
            )

    def forward(self, features: Features) -> Tensor:
        """Go up from what the way down left: (B, frames, H, W, C_0)."""
        levels: Sequence[Tensor] = features.levels
        x, g, top = levels[-1], features.g, len(levels) - 1
        for i in reversed(range(top + 1)):
            if self.skip and i < top:
                x = x + levels[i]
            x, g = self._level(i, x, features.e, g, last=i == 0)
            if i > 0:
                x = self.enlarge[i - 1](x)
                g = None if g is None else self.enlarge_global[i - 1](g)
        return x[:, -self.frames :]
