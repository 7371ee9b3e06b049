"""Train and write the forecaster prediff-small (docs/decisions/026).

    python ci/train_prediff_small.py FOLDER --base without-knmi_20100826.safetensors

FOLDER holds radar_*.nc. The model draws what a nowcast network leaves open, so it has one inside:
--base, made by ``ci/train_nowcast_small.py FOLDER --leave-out``, that never saw the event left out
here (--out, knmi_20100826 if not given; --out can be given again for further events). That event
is part of no step: the sample in the package is a test. Examples and a checkpoint are kept in a folder (--work), and training continues from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.lib.stride_tricks import sliding_window_view

from xearth.data.sources import radar
from xearth.fields.rain import rain_rate
from xearth.forecasting.io import load
from xearth.forecasting.nowcast import NowcastForecaster
from xearth.forecasting.nowcast_input import read_frames
from xearth.forecasting.prediff import PreDiffForecaster
from xearth.forecasting.prediff_fit import equalized
from xearth.models.checkpoints import load_tensors, save_tensors
from xearth.models.nowcast_cases import Case, case, coarsen
from xearth.models.prediff.rain import RainDiffusionConfig
from xearth.models.prediff.rain_cases import Example, Fill, example
from xearth.training.rain_diffusion import (
    RainDiffusionRecipe,
    drawn_scores,
    fit_laws,
    fit_rain_diffusion,
)

CONFIG = RainDiffusionConfig(base_units=32)
#: Factor of the width of cells and of the step, and every how many starts.
VARIANTS = ((1, 1, 2), (2, 1, 6))
FACTORS = 0.3  # standard deviation of the logarithm of the factors of rain, of every second start
FEWEST, DEPTH, SEEN = 3, 6, 4  # frames: at least, at most, and fewest leads that were observed
SQUARE = 192  # rows and columns of cells of an event that tell the spectrum of rain
RECIPE = RainDiffusionRecipe(steps=1100, rate=2e-3, average=0.98)


def cases(path: Path) -> list[Case]:
    """Return the cases of an event."""
    frames = read_frames(radar.open(path).load(), slice(None), depth=1, name="training")
    width, minutes = frames.facts
    rates = np.concatenate([frames.rates(int(i)) for i in np.asarray(frames.axis.order)])
    whole, found = torch.from_numpy(rates), []
    for factor, stride, every in VARIANTS:
        record = coarsen(whole, factor) if factor > 1 else whole
        none = torch.full_like(record[0], torch.nan)
        for start in range(FEWEST * stride, len(record) - SEEN * stride, every):
            at = start + stride * np.arange(1 - DEPTH, CONFIG.leads + 1)
            stack = torch.stack([record[k] if 0 <= k < len(record) else none for k in at])
            found.append(case(stack[:DEPTH], stack[DEPTH:], (width * factor, minutes * stride)))
    return found


def examples(name: str, path: Path, base: NowcastForecaster, work: Path) -> list[Example]:
    """Return the examples of an event, from the folder of work if they are there."""
    kept = work / f"{name}.examples.safetensors"
    if not kept.is_file():
        begun, rng, tensors = time.monotonic(), np.random.default_rng(0), {}
        held = CONFIG.block * RECIPE.blocks
        for k, one in enumerate(c for c in cases(path) if min(c.y.shape[-2:]) >= held):
            factor = float(np.exp(rng.normal(0.0, FACTORS))) if k % 2 else 1.0
            made = example(one, base.network, CONFIG, filling(base, one, rng), factor=factor)
            tensors |= {f"{k}.{part}": value for part, value in made._asdict().items()}
        save_tensors(kept, tensors, {"count": k + 1})
        print(f"{name}: {k + 1} examples, {time.monotonic() - begun:.0f} s", flush=True)
    tensors, facts = load_tensors(kept)
    return [
        Example(*(tensors[f"{k}.{part}"] for part in Example._fields))
        for k in range(int(facts["count"]))
    ]


def filling(base: NowcastForecaster, one: Case, rng: np.random.Generator) -> Fill:
    """Return what gives fields that have the scores of a case where it rains."""

    def fill(scores: torch.Tensor, wet: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(base.noise.given(scores.numpy(), wet.numpy(), one.facts, rng))

    return fill


def train(arguments: argparse.Namespace) -> PreDiffForecaster:
    """Train a forecaster on all events but one."""
    base = load(arguments.base)
    out = arguments.out or ["knmi_20100826"]
    if not isinstance(base, NowcastForecaster) or any(
        name in base.provenance["trained_on"] for name in out
    ):
        raise SystemExit(f"{arguments.base}: expected a NowcastForecaster that never saw {out}")
    files = sorted(arguments.folder.glob("radar_*.nc"))
    names = {path.stem.removeprefix("radar_"): path for path in files}
    for name in out:
        if names.pop(name, None) is None:
            raise SystemExit(f"--out {name}: expected one of {sorted(names)}")
    arguments.work.mkdir(parents=True, exist_ok=True)
    events = [examples(name, path, base, arguments.work) for name, path in names.items()]
    torch.manual_seed(RECIPE.seed)
    recipe = dataclasses.replace(RECIPE, steps=arguments.steps)
    model = CONFIG.build(recipe.blocks, recipe.blocks)
    fit_laws(model, events, recipe)
    trained = fit_rain_diffusion(
        model,
        events,
        recipe,
        checkpoint=arguments.work / "prediff-small.checkpoint",
        report=lambda step, loss, spent: print(f"{step} {loss:.4f} {spent:.0f} s", flush=True),
    )
    provenance = {
        "trained_on": ", ".join(names),
        "never_seen": ", ".join(out),
        "recipe": f"{recipe.steps} steps of {recipe.batch} squares, seed {recipe.seed}",
    }
    scores = drawn_scores(trained, events, recipe, count=16)
    made = PreDiffForecaster(
        config=CONFIG,
        state=trained.weights(),
        base=base,
        name="prediff-small",
        provenance=provenance,
    )
    return equalized(made, [wettest(path) for path in names.values()], scores)


def wettest(path: Path) -> xr.DataArray:
    """Return the square of an event with most rain."""
    rain = rain_rate(radar.open(path)).load()
    mean = np.nan_to_num(rain.mean(rain.dims[0]).values)
    size = min(SQUARE, *mean.shape)
    sums = sliding_window_view(mean, (size, size)).sum((-2, -1), dtype=np.float64)
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return rain[:, row : row + size, column : column + size]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, train and write."""
    text = __doc__ or ""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", action="append")
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument("--work", type=Path, default=Path("prediff-work"))
    parser.add_argument("--to", type=Path, default=Path("prediff-small.safetensors"))
    found = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    path = train(found).save(found.to, dtype="float16")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
