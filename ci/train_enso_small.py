"""Train, choose, measure and write the shipped forecaster enso-small.

Learned from 1856-1981: statistics, first guess, weights. Chosen on 1982-2003: the epoch that is
kept of each network, the settings below, and the width of the ensemble. Nothing else is read.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
import xarray as xr

from xearth.data.sources import samples
from xearth.data.windows import Window
from xearth.forecasting.firstguess import LinearGuess
from xearth.forecasting.fit import fit
from xearth.forecasting.forecaster import NetworkForecaster
from xearth.forecasting.io import load
from xearth.forecasting.recipe import Recipe
from xearth.models.config import EarthformerConfig
from xearth.models.config_parts import ConvStem, Dropout
from xearth.models.heads import LowRankGaussian
from xearth.reference.climatology import Climatology
from xearth.reference.lim import LIM
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.training.optim import Schedule
from xearth.training.options import TrainOptions
from xearth.verification.align import observations_at
from xearth.verification.one_pass.verify import verify
from xearth.verification.scores.indices import nino_index, running_mean
from xearth.verification.scores.probabilistic import skill, spread

ROOT = Path(__file__).parents[1]
ARTIFACT = ROOT / "xearth" / "artifacts" / "enso-small.safetensors"
WINDOW = Window(history=12, horizon=18)
TRAIN, CHOOSE = slice(None, "1981-12"), slice("1982-01", "2003-12")
STARTS = slice("1981-12", "2002-06")  # all leads of each start lie in 1982-2003
MEMBERS = 40
SCORES = ("correlation", "rmse")
TARGET = 0.95  # spread/skill that the width is chosen for
OPTIONS = TrainOptions(
    epochs=4,
    batch_size=16,
    schedule=Schedule(lr=5e-4, weight_decay=1e-2, warmup=0.1),
    ema=0.98,
    accelerator="cpu",
)
RECIPE = Recipe(
    name="enso-small",
    head=LowRankGaussian(16),
    guess=LinearGuess(components=10, lags=(0, 2, 4, 7, 10)),
    season=True,
    networks=3,
    options=OPTIONS,
)


def train(sst: xr.DataArray, recipe: Recipe) -> NetworkForecaster:
    """Return the forecaster of a recipe."""
    config = EarthformerConfig.for_data(
        sst,
        WINDOW,
        like="icar_enso",
        base_units=16,
        stem=ConvStem(scale=(1, 3, 3)),
        dropout=Dropout(attention=0.0, projection=0.1, ffn=0.1),
    )
    return fit(config, sst, window=WINDOW, validation=CHOOSE, recipe=recipe)


def pooled_ratio(model: NetworkForecaster, sst: xr.DataArray) -> float:
    """Return spread over skill of Nino3.4, pooled over starts and leads of 1982-2003."""
    index = nino_index(model.forecast(sst, init=STARTS, members=MEMBERS))
    truth = observations_at(index, nino_index(sst))
    dims = ["init", "lead"]
    return float(spread(index, dim=dims) / skill(index, truth, dim=dims))


def widened(model: NetworkForecaster, sst: xr.DataArray) -> NetworkForecaster:
    """Return the forecaster with the width that gives the target, to 0.05."""
    before = pooled_ratio(model, sst)
    width = round(20 * TARGET / before) / 20
    print(f"spread/skill of Nino3.4 {before:.2f}; width {width}")
    note = {"width": f"chosen on 1982-2003 for a spread/skill of {TARGET}; {before:.3f} without"}
    return dataclasses.replace(model, width=width, provenance={**model.provenance, **note})


def tables(model: NetworkForecaster, sst: xr.DataArray) -> dict[str, xr.Dataset]:
    """Return the scores by lead on 1982-2003 of the model and the references."""
    past = sst.sel(time=TRAIN)
    horizon = WINDOW.horizon
    references = {
        "LIM-15": LIM.fit(past, horizon=horizon, modes=15),
        "damped": DampedPersistence.fit(past, horizon=horizon),
        "persist.": Persistence.fit(past, horizon=horizon),
        "climat.": Climatology.fit(past, horizon=horizon),
    }
    truth = nino_index(sst)
    index = nino_index(model.forecast(sst, init=STARTS, members=MEMBERS))
    mean = nino_index(model.forecast(sst, init=STARTS))
    found = {
        "enso-small": verify(mean, truth, SCORES),
        "members": verify(index, truth, ("crps_fair", "spread_skill_ratio")),
    }
    guess = nino_index(guess_alone(model).forecast(sst, init=STARTS))
    found["guess"] = verify(guess, truth, SCORES)
    for name, reference in references.items():
        one = nino_index(reference.forecast(sst, init=STARTS))
        found[name] = verify(one, truth, SCORES)
    # the target of the literature: trailing means of 3 months
    smooth = running_mean(mean, 3, history=truth)
    found["enso-small, 3 months"] = verify(smooth, running_mean(truth, 3), SCORES)
    lim = LIM.fit(past, horizon=horizon, modes=15, smoothing=3)
    one = nino_index(lim.forecast(sst, init=STARTS))
    found["LIM-15, 3 months"] = verify(one, running_mean(truth, 3), SCORES)
    return found


def guess_alone(model: NetworkForecaster) -> NetworkForecaster:
    """Return the forecaster with networks that say nothing: its first guess."""
    silent = {name: torch.zeros_like(value) for name, value in model.states[0].items()}
    return dataclasses.replace(model, states=(silent,), name="guess")


def show(found: dict[str, xr.Dataset]) -> None:
    """Print one table per score, leads across."""
    for score in ("correlation", "rmse", "crps_fair", "spread_skill_ratio"):
        print(f"\n{score}")
        print(f"{'lead (months)':22}" + "".join(f"{lead:6d}" for lead in range(1, 19)))
        for name, scores in found.items():
            if score in scores:
                print(f"{name:22}" + "".join(f"{float(v):6.2f}" for v in scores[score]))


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ARTIFACT)
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints" / "enso-small")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--table", action="store_true", help="only measure the file at --output")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sst = samples.open("kaplan_sst").load()
    if not arguments.table:
        recipe = dataclasses.replace(RECIPE, checkpoints=arguments.checkpoints)
        model = widened(train(sst, recipe), sst)
        found = tables(model, sst)
        scores = {
            name: [round(float(v), 4) for v in value]
            for table in ("enso-small", "members")
            for name, value in found[table].items()
        }
        metrics = {**model.metrics, "nino34_1982_2003_by_lead": scores}
        dataclasses.replace(model, metrics=metrics).save(arguments.output)
        print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e6:.1f} MB)")
    model = load(arguments.output)
    print(f"{model}\nwidth {model.width}, spread/skill pooled {pooled_ratio(model, sst):.3f}")
    show(tables(model, sst))


if __name__ == "__main__":
    main()
