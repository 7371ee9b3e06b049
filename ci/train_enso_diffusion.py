"""Train, choose and write the shipped forecaster enso-diffusion.

    python ci/train_enso_diffusion.py              # some minutes of one thread

It draws what enso-small leaves open, and has enso-small inside. Learned from 1856-1981: the Gaussian
law and the network, from errors of first guesses of enso-small that were made without the stretch of
time they are judged in. Chosen inside 1856-1981, on four stretches of fifteen years that did not
train what is judged there: the share of the network. Chosen on 1982-2003, as in enso-small: the
factor of the width at each lead. ci/enso_diffusion_card.py measures, with a nested choice.

Checkpoints are kept (--checkpoints); a run that is killed goes on where it was and ends with the same
file.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import train_enso_small as small
import xarray as xr
from scipy.special import ndtr

from xearth.data.sources import samples
from xearth.fields.regions import NINO34
from xearth.forecasting.cases import Cases
from xearth.forecasting.enso_diffusion import EnsoDiffusionForecaster
from xearth.forecasting.forecaster import NetworkForecaster
from xearth.forecasting.io import load
from xearth.models.enso_diffusion import EnsoDiffusion, EnsoDiffusionConfig
from xearth.training.enso_diffusion import (
    Aligned,
    EnsoDiffusionRecipe,
    Errors,
    aligned,
    best_share,
    fit_law,
    fit_network,
)

ROOT = Path(__file__).parents[1]
ARTIFACT = ROOT / "xearth" / "artifacts" / "enso-diffusion.safetensors"
CONFIG = EnsoDiffusionConfig()
RECIPE = EnsoDiffusionRecipe()
HALF_LIFE = 480.0  # starts so many before the last count half, as in enso-small
FOLDS = ((1921, 1936), (1936, 1951), (1951, 1966), (1966, 1982))  # of starts
APART = 30  # months of windows that reach from one start into the years of another


class Material(NamedTuple):
    """What the law and the network are fitted to.

    Parameters
    ----------
    errors : Errors
    year : Tensor (N,)
        Of the start, with its month as a fraction.
    area, nino : Tensor (P,)
        Of the cells, and the weights of Nino3.4.
    """

    errors: Errors
    year: torch.Tensor
    area: torch.Tensor
    nino: torch.Tensor

    def fit(self, model: EnsoDiffusion, rows: torch.Tensor) -> Any:
        """Set the law of a model by some of the errors."""
        return fit_law(model, self.errors.rows(rows), RECIPE, area=self.area, index=self.nino)


def material(sst: xr.DataArray) -> Material:
    """Return the errors of held-out first guesses of enso-small in 1856-1981."""
    past = sst.sel(time=small.TRAIN)
    cases = Cases.of(past, small.WINDOW, validation=None, split=None, recipe=small.RECIPE)
    x, y, season = cases.examples(cases.reader, cases.training).arrays()
    _, held = small.RECIPE.guess.fit(
        x, y, season=season, area=cases.area, rank=small.RECIPE.head.rank
    )
    mask = (cases.area > 0)[:, :, None]
    field = torch.as_tensor(((y - held) * mask).reshape(*y.shape[:2], -1)).double()
    count = torch.as_tensor(0.5 ** (np.arange(len(y))[::-1] / HALF_LIFE)).clone()
    month = torch.as_tensor(np.rint(season * 12).astype(np.int64) % 12)
    stamps = cases.reader.windows.axis.values[
        cases.reader.windows.init_positions[cases.training]
    ].astype("M8[M]")
    year = torch.as_tensor(1970 + stamps.astype(np.int64) / 12)
    box = NINO34.weights(sst).transpose("lat", "lon").values * cases.area
    return Material(
        Errors(field, month, count),
        year,
        torch.as_tensor(cases.area).flatten(),
        torch.as_tensor(box).flatten(),
    )


def judged(found: Material, folder: Path | None) -> list[Aligned]:
    """Return what a network is worth in each stretch of years, trained on the others."""
    worth = []
    for first, last in FOLDS:
        own = (found.year >= first) & (found.year < last)
        near = (found.year >= first - APART / 12) & (found.year < last + APART / 12)
        torch.manual_seed(RECIPE.seed)
        model = CONFIG.build()
        white = found.fit(model, ~near)
        others, mine = found.errors.rows(~near), found.errors.rows(own)
        kept = None if folder is None else folder / f"without-{first}.pt"
        fit_network(model, white(others), others, RECIPE, checkpoint=kept)
        worth.append(aligned(model, white(mine), mine.month))
        print(f"{first}-{last - 1}: a {worth[-1].a:+.4f}, b {worth[-1].b:.4f}", flush=True)
    return worth


def trained(found: Material, share: float, folder: Path | None) -> EnsoDiffusion:
    """Return the model of all training years."""
    torch.manual_seed(RECIPE.seed)
    model = CONFIG.build()
    every = torch.ones(len(found.year), dtype=torch.bool)
    white = found.fit(model, every)
    kept = None if folder is None else folder / "whole.pt"
    fit_network(model, white(found.errors), found.errors, RECIPE, checkpoint=kept)
    model.share.fill_(round(share, 3))
    return model


# -- the width ------------------------------------------------------------------------------------


class Width(NamedTuple):
    """The factor ``width + extra * exp(-(n - 1) / FADES)`` at lead n, as in enso-small."""

    width: float
    extra: float

    def factors(self, leads: int) -> np.ndarray:
        """Return the factor of each lead."""
        return self.width + self.extra * np.exp(-np.arange(leads) / small.FADES)


def spread(model: EnsoDiffusion, index: torch.Tensor, scale: float) -> np.ndarray:
    """Return the standard deviation (12, L) of Nino3.4 in the Gaussian law, in K."""
    weight = (index / index.sum()).float()
    found = [
        torch.einsum("npk,p->nk", model.factors(m), weight).square().sum(1).sqrt()
        for m in range(model.config.seasons)
    ]
    return torch.stack(found).numpy() * scale


def choose(parts: small.Parts, sd: np.ndarray, share: float) -> Width:
    """Return the width of the best logarithmic score of Nino3.4, mean over the judged leads."""
    center, _ = parts.normal(share)
    error, own = parts.truth - center, sd[parts.month]

    def score(one: Width) -> float:
        sigma = one.factors(own.shape[1]) * own
        each = np.log(sigma) + 0.5 * np.square(error / sigma)
        return float(each[:, : small.JUDGED].mean())

    every = [Width(*pair) for pair in itertools.product(small.WIDTHS, small.EXTRAS)]
    return min(every, key=score)


def crps(parts: small.Parts, sd: np.ndarray, share: float, width: Width) -> float:
    """Return the CRPS of Nino3.4 in the Gaussian law, mean over the judged leads, in K."""
    center, _ = parts.normal(share)
    sigma = width.factors(sd.shape[1]) * sd[parts.month]
    z = (parts.truth - center) / sigma
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    score = sigma * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return float(score[:, : small.JUDGED].mean())


def made(
    base: NetworkForecaster, model: EnsoDiffusion, width: Width, **told: Any
) -> EnsoDiffusionForecaster:
    """Return the forecaster of its parts."""
    return EnsoDiffusionForecaster(
        base=base,
        config=model.config,
        state=copy.deepcopy(model.state_dict()),
        width=np.round(width.factors(base.horizon), 4).tolist(),
        name="enso-diffusion",
        **told,
    )


def told(base: NetworkForecaster, width: Width, share: float) -> dict[str, Any]:
    """Return where the forecaster comes from."""
    kept = ("data", "source", "base_period", "training_period", "training_windows", "versions")
    facts = {key: base.provenance[key] for key in kept if key in base.provenance}
    return {
        **facts,
        "normalization_period": facts["training_period"],
        "validation_period": small.CHOICE,
        "calibration_period": small.CHOICE,
        "mean": f"that of {base.name}, as it ships",
        "recipe": repr(RECIPE),
        "choice": {
            "share": round(share, 3),
            "width": width.width,
            "extra": width.extra,
            "how": "share of the network by stretches of 1921-1981 that did not train it; width by "
            "the logarithmic score of Nino3.4 at leads 1-12 of 1982-2003",
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ARTIFACT)
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints" / "enso-diffusion")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    begin = time.perf_counter()
    sst, base = samples.open("kaplan_sst").load(), load("enso-small")
    assert isinstance(base, NetworkForecaster)
    found = material(sst)
    worth = judged(found, options.checkpoints)
    share, gain = best_share(worth)
    print(f"share of the network {share:.3f}, worth {gain:.3%} of what the law leaves open")
    model = trained(found, share, options.checkpoints)
    raw, _ = small.unchosen(base)
    parts = small.parts_of(raw, sst, small.STARTS)
    scale = float(base.normalizer.scale[0])
    mean = float(base.provenance["choice"]["share"])
    sd = spread(model, found.nino, scale)
    width = choose(parts, sd, mean)
    print(f"chosen on all of 1982-2003: {width}; CRPS {crps(parts, sd, mean, width):.4f} K")
    metrics = {"folds": [list(one) for one in worth], "gain": gain}
    forecaster = made(base, model, width, provenance=told(base, width, share), metrics=metrics)
    path = forecaster.save(options.output)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB, {time.perf_counter() - begin:.0f} s)")


if __name__ == "__main__":
    main()
