"""What a model of :mod:`~xearth.models.prediff.rain` is trained on: latent examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..nowcast import NowcastNet, signal
from ..nowcast_cases import Case
from ..nowcast_law import law
from ..rain_scores import air_laws, scores, wet_probit
from .blocks import Blocks
from .rain import RainDiffusionConfig

__all__ = ["Example", "Fill", "crop", "example", "turned"]

Fill = Callable[[Tensor, Tensor], Tensor]

#: Probability of rain from which a block counts in full, and what one counts without.
LIKELY, LEAST = 0.05, 0.02


class Example(NamedTuple):
    """One start on the grid of blocks, kept in half precision.

    Parameters
    ----------
    x : Tensor (T, h, w, n * n)
        Coefficients of the scores of what was observed.
    context : Tensor (T_c, h, w, C)
        Coefficients of frames and of probits of rain, as they are.
    weight : Tensor (T, h, w)
        0 where a cell of the block is not known, less than 1 where rain is very unlikely.
    """

    x: Tensor
    context: Tensor
    weight: Tensor


def example(
    one: Case,
    net: NowcastNet,
    config: RainDiffusionConfig,
    fill: Fill,
    *,
    factor: float = 1.0,
) -> Example:
    """Return the example of a case.

    Parameters
    ----------
    one : Case
        Of as many leads as the model draws.
    net : NowcastNet
        What says the distributions.
    config : RainDiffusionConfig
    fill : callable
        (scores, wet) -> standard normal fields (T, H, W) that have the scores where it is wet:
        what the scores are where there is surely no rain, and bounded as rain is likelier.
    factor : float
        By which all rain is multiplied.

    Examples
    --------
    >>> from ..nowcast import NowcastConfig
    >>> from ..nowcast_cases import case
    >>> still = torch.rand(1, 48, 48)
    >>> made = case(still.expand(6, -1, -1), still.expand(3, -1, -1), (2.0, 5.0))
    >>> small = RainDiffusionConfig(leads=3, told=(1, 3), base_units=8)
    >>> net = NowcastConfig(width=8, hidden=8).build().eval()
    >>> example(made, net, small, lambda scores, wet: scores).x.shape[0]
    3
    """
    rate, y = one.rate.float() * factor, one.y.float() * factor
    rows, columns = (_whole(n, config.multiple) for n in y.shape[-2:])
    known = ~rate.isnan()
    z = torch.where(known, signal(rate.nan_to_num(0.0)), 0.0)
    with torch.no_grad():
        raw = air_laws(net, z, known, one.speed.float(), facts=one.facts, leads=config.leads)
        rain = law(raw)
        seen = ~y.isnan()
        y = y.nan_to_num(0.0)
        g = fill(scores(rain, y, torch.zeros_like(y)), seen & (y > 0))
        r = torch.where(seen, scores(rain, y, g), g)
        probit = wet_probit(rain)[[n - 1 for n in config.told]]
    blocks, C = Blocks(config.block), config.channels
    frames = z[[-1 - n for n in config.frames]]
    r, probit, frames = (x[..., rows, columns] for x in (r, probit, frames))
    parts = [blocks.encode(x)[..., :C] for x in (frames, probit)]
    n = config.block
    unseen = (~seen[:, None, rows, columns]).float()
    whole = 1 - functional.max_pool2d(unseen, 2 * n, n, n // 2)[:, 0]
    likely = functional.max_pool2d(rain.wet.exp()[:, None, rows, columns], n)[:, 0]
    weight = whole * (likely / LIKELY).clamp(LEAST, 1.0)
    return Example(blocks.encode(r).half(), torch.cat(parts).half(), weight.half())


def crop(one: Example, blocks: int, generator: torch.Generator, tries: int = 4) -> Example:
    """Return a square of blocks, the one that counts most of some at random."""
    h, w = one.weight.shape[-2:]
    found: list[tuple[float, int, int]] = []
    for _ in range(tries):
        i, j = (int(torch.randint(max(n - blocks, 0) + 1, (), generator=generator)) for n in (h, w))
        found.append((float(one.weight[:, i : i + blocks, j : j + blocks].float().mean()), i, j))
    _, i, j = max(found)
    rows, columns = slice(i, i + blocks), slice(j, j + blocks)
    return Example(one.x[:, rows, columns], one.context[:, rows, columns],
                   one.weight[:, rows, columns])  # fmt: skip


def turned(one: Example, blocks: Blocks, generator: torch.Generator) -> Example:
    """Return an example mirrored and transposed at random."""
    x, context, weight = (part.float() for part in one)
    by_row, by_column, over = (torch.rand(3, generator=generator) < 0.5).tolist()
    for axis, wanted in enumerate((by_row, by_column)):
        if wanted:
            x, context = blocks.mirrored(x, axis), blocks.mirrored(context, axis)
            weight = weight.flip(-2 + axis)
    if over:
        x, context, weight = blocks.transposed(x), blocks.transposed(context), weight.mT
    return Example(x, context, weight)


def _whole(cells: int, multiple: int) -> slice:
    """Return the middle of so many cells that is a multiple."""
    left = cells % multiple
    return slice(left // 2, left // 2 + cells - left)
