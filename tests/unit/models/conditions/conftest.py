"""One condition of each kind, on fields (N, 4, 6, 5, 3) of rates from 0 to about 20."""

from __future__ import annotations

import torch

from xearth.models.conditions.conservation import budget, conservation
from xearth.models.conditions.extremes import Exceedance, Maximum, Quantile
from xearth.models.conditions.linear import Linear, blocks, points
from xearth.models.conditions.ordered import Monotone, Ordering
from xearth.models.conditions.persistent import Persistent
from xearth.models.conditions.ranges import Range
from xearth.models.conditions.rows import Rows
from xearth.models.conditions.scaled import Scaled
from xearth.models.conditions.spectrum import SpectrumSlope
from xearth.models.conditions.transformed import Decibel, Log, TransformedMean

SHAPE = (4, 6, 5, 3)


def field(n: int = 3, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return skewed fields with dry cells, of a seed of their own each."""
    out = []
    for k in range(n):
        draw = torch.Generator().manual_seed(1000 * seed + k)
        out.append(torch.randn(SHAPE, generator=draw, dtype=torch.float64).exp() * 3 - 1)
    y = torch.stack(out).clamp(min=0)
    return y.to(dtype)


def areas() -> torch.Tensor:
    """Return areas of the cells (T, H, W, C), the same in all frames; two cells have none."""
    w = (
        torch.rand(SHAPE[1:3], generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        + 0.5
    )
    w[0, 0] = w[3, 2] = 0
    return w[None, :, :, None].expand(SHAPE)


def means() -> Rows:
    return Rows.over(areas(), frames=True).mean()


def equal_areas() -> Rows:
    return Rows.over((areas() > 0).double(), frames=True)


def conditions() -> dict[str, object]:
    """Return the kinds that have a projection, by name; all hold for some common field."""
    coarse = torch.full((2, 3, 1, 3), 3.5, dtype=torch.float64)
    coarse[0, 0, 0, 0] = torch.nan
    at = torch.tensor([[0, 1, 1, 0], [2, 4, 3, 1], [3, 5, 4, 2]])
    valid = (areas() > 0)[:1, :, :, :1]
    return {
        "mean": Linear(means(), lower=3.5, upper=3.5, name="mean"),
        "mean between": Linear(means(), lower=2.0, upper=3.0, name="mean between"),
        "total of the horizon": Linear(
            Rows.over(areas(), frames=False, channels=False), lower=1000.0, name="total"
        ),
        "blocks": blocks(SHAPE, (2, 2, 5), coarse, weights=areas()),
        "points": points(SHAPE, at, torch.tensor([4.0, 5.0, 6.0])),
        "range": Range(lower=0.5, upper=9.0),
        "scaled": Scaled(means(), lower=3.5, upper=3.5, name="scaled"),
        "maximum": Maximum(means(), lower=8.0, upper=8.5, name="maximum"),
        "maximum at most": Maximum(means(), upper=8.0, name="maximum at most"),
        "quantile": Quantile(equal_areas(), q=0.75, lower=4.0, upper=4.0),
        "exceedance": Exceedance(equal_areas(), threshold=6.0, lower=0.25, upper=0.25),
        "decibel mean": TransformedMean(means(), transform=Decibel(0.1), lower=4.5, upper=4.5),
        "log mean": TransformedMean(means(), transform=Log(0.5), lower=1.3, upper=1.4),
        "monotone": Monotone(),
        "ordering": Ordering((0, 2, 1)),
        "conservation": conservation(areas()),
        "budget": budget(areas(), storage=0, fluxes={1: 0.1, 2: -0.1}),
        "mask": Persistent(valid),
    }


def soft() -> dict[str, object]:
    """Return the kinds that have none."""
    at = torch.tensor([[0, 1, 1, 0], [2, 4, 3, 1]])
    return {
        "gauges": points(SHAPE, at, torch.tensor([4.0, 5.0]), sd=torch.tensor([0.5, 1.0])),
        "spectrum": SpectrumSlope((4, 16, 20, 1), band=(2, 8), upper=-3.0),
    }
