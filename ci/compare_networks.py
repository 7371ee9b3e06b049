"""All networks of the tables in miniature: one recipe, equal steps and equal time, on two data sets.

Bouncing digits that attract each other (N-body MNIST), and crops of radar images of events that
the networks never saw. Each run trains one network from one seed until it has had both budgets, so
many steps of the optimizer and so many seconds of one thread, and is scored at both.

    python ci/compare_networks.py train --results runs.jsonl --radar FOLDER
    python ci/compare_networks.py page --results runs.jsonl

``train`` adds a line to the file of results for each run that is done: killed and started again
it goes on. FOLDER holds radar archives ``radar_SERVICE_*.nc``; without it the shipped event is
used, its last third held out. Seconds are made steps once, from the process time of a step of each
network, measured in turns; so runs repeat whatever else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from comparison_page import write
from torch import Tensor, nn

from xearth.data.sources import nbody, radar, samples
from xearth.data.sources.nbody import NBody
from xearth.fields.rain import rain_rate
from xearth.models.baselines.convlstm import ConvLSTMConfig
from xearth.models.baselines.e3d_lstm import E3DLSTMConfig
from xearth.models.baselines.phydnet import PhyDNetConfig
from xearth.models.baselines.predrnn import PredRNNConfig
from xearth.models.baselines.rainformer import RainformerConfig
from xearth.models.baselines.simvp import SimVPConfig
from xearth.models.baselines.unet import UNetConfig
from xearth.models.config import EarthformerConfig
from xearth.models.config_parts import GlobalVectors, StackStem
from xearth.reference.advection import Advection
from xearth.training.optim import parameter_groups

HISTORY, HORIZON, SIDE = 6, 6, 24
_STEM = StackStem(dims=(16, 32), scales=(2, 2), convs=(1, 1))

#: Configuration and its sizes, for a quarter to almost a million parameters each.
NETWORKS: dict[str, tuple[type, dict[str, Any]]] = {
    "UNet": (UNetConfig, {"base_units": 16, "levels": 3, "center_factor": 8}),
    "ConvLSTM": (
        ConvLSTMConfig,
        {
            "channels": (16, 32, 48),
            "first_channels": 8,
            "last_channels": 8,
            "conv_kernels": (5, 3, 3),
            "deconv_kernels": (4, 4, 4),
        },
    ),
    "PredRNN": (PredRNNConfig, {"hidden": (24, 24)}),
    "PhyDNet": (PhyDNetConfig, {"width": 16, "hidden": (48, 32)}),
    "E3D-LSTM": (E3DLSTMConfig, {"hidden": (16, 16)}),
    "Rainformer": (
        RainformerConfig,
        {"width": 8, "factors": (1, 2, 2, 2), "heads": (1, 2, 2, 4), "window": 3},
    ),
    "Earthformer without global vectors": (EarthformerConfig, {"base_units": 32, "stem": _STEM}),
    "Earthformer": (
        EarthformerConfig,
        {"base_units": 32, "stem": _STEM, "global_vectors": GlobalVectors()},
    ),
    "SimVP-gSTA": (
        SimVPConfig,
        {"width": 16, "layers": 4, "translator_width": 80, "blocks": 4, "ratio": 4.0},
    ),
}
EVENTS = (0.1, 1.0, 5.0)  # mm/h
DATA = ("nbody", "radar")

Array = np.ndarray
Draw = Callable[[np.random.Generator], tuple[Array, Array]]
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Recipe:
    """What all networks have in common."""

    steps: int = 50
    seconds: float = 8.0
    seeds: int = 3
    batch: int = 4
    lr: float = 2e-3
    warmup: int = 10
    weight_decay: float = 1e-5
    clip: float = 1.0
    average: float = 0.95


@dataclass(frozen=True)
class Case:
    """Training samples without end, and held-out ones with what scores a forecast of them."""

    draw: Draw
    histories: Tensor
    score: Callable[[Array], Scores]
    references: dict[str, Scores]


def config(name: str) -> Any:
    """Return the configuration of a network."""
    kind, sizes = NETWORKS[name]
    return kind(**_shapes(), **sizes)


def _shapes() -> dict[str, tuple[int, int, int, int]]:
    return {
        "input_shape": (HISTORY, SIDE, SIDE, 1),
        "target_shape": (HORIZON, SIDE, SIDE, 1),
    }


# --- digits -------------------------------------------------------------------------------------


def digits(*, training: int = 1200, held: int = 60) -> Case:
    """Return sequences of digits; those of the held-out ones are in none of training."""
    world = NBody(canvas=96, size=SIDE, frames=HISTORY + HORIZON)
    bank = samples.open("mnist_digits")["image"].values
    cut = len(bank) * 4 // 5
    made = [
        nbody.generate(world, sequences=n, seed=seed, digits=part).values
        for n, seed, part in ((training, 0, bank[:cut]), (held, 1, bank[cut:]))
    ]
    frames, truth = made[0], made[1][:, HISTORY:]

    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        sequence = frames[rng.integers(training)]
        return sequence, np.ones_like(sequence)

    def score(forecast: Array) -> Scores:
        error = forecast - truth
        mse, mae = float(np.square(error).mean()), float(np.abs(error).mean())
        return {"held-out sequences": {"mse": mse, "mae": mae}}

    histories = made[1][:, :HISTORY]
    still = np.repeat(histories[:, -1:], HORIZON, axis=1)
    mean = np.broadcast_to(frames.mean((0, 1)), truth.shape)
    references = {"Persistence": score(still), "Mean of all frames": score(mean)}
    return Case(draw, torch.from_numpy(histories[..., None]), score, references)


# --- radar --------------------------------------------------------------------------------------


def encoded(rate: Array) -> Array:
    """Return what networks see of rain rates in mm/h, as magnitudes above 0.1 mm/h."""
    return np.log10(1 + np.maximum(rate, 0) / 0.1)


def decoded(z: Array) -> Array:
    """Return rain rates in mm/h."""
    return 0.1 * (10 ** np.clip(z, 0, 4) - 1)


def events(folder: Path | None) -> dict[str, xr.DataArray]:
    """Return rain rates of events by name, SERVICE_DAY; of the shipped one by the part of it."""
    if folder is None:
        rain = samples.open("knmi_radar").load()
        cut = rain.sizes["time"] * 2 // 3
        return {"before": rain.isel(time=slice(0, cut)), "after": rain.isel(time=slice(cut, None))}
    paths = sorted(folder.glob("radar_*.nc"))
    if not paths:
        raise SystemExit(f"{folder}: no radar_*.nc")
    return {
        p.stem.removeprefix("radar_"): rain_rate(radar.open(p)).load().astype("f4") for p in paths
    }


def held_out(names: list[str], fold: int, folds: int) -> list[str]:
    """Return the events of every so many services: none of them is trained on in this fold."""
    if names == ["before", "after"]:
        return ["after"]
    services = sorted({name.split("_")[0] for name in names})[fold::folds]
    return [name for name in names if name.split("_")[0] in services]


def _corner(frame: Array, rng: np.random.Generator, wet: float) -> tuple[int, int]:
    """Return the corner of a crop that is seen, with so much of it wet where one is soon found."""
    best, most = (0, 0), -1.0
    for _ in range(20):
        r, c = (int(rng.integers(n - SIDE + 1)) for n in frame.shape)
        part = frame[r : r + SIDE, c : c + SIDE]
        share = float((part >= 0.1).mean()) if np.isfinite(part).mean() > 0.9 else 0.0
        if share > most:
            best, most = (r, c), share
        if share >= wet:
            break
    return best


def crops(all_events: Mapping[str, xr.DataArray], held: list[str]) -> Case:
    """Return crops of events; those that are held out are scored event by event."""
    fields = {name: rain.values for name, rain in all_events.items()}
    names = [name for name in fields if name not in held]

    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        field = fields[names[rng.integers(len(names))]]
        first = int(rng.integers(len(field) - HISTORY - HORIZON + 1))
        r, c = _corner(field[first + HISTORY - 1], rng, 0.1)
        part = field[first : first + HISTORY + HORIZON, r : r + SIDE, c : c + SIDE]
        return encoded(np.nan_to_num(part)), np.isfinite(part).astype("f4")

    tests = {name: RadarTest.of(all_events[name], fields[name]) for name in held}
    histories = np.concatenate([test.histories for test in tests.values()])

    def score(forecast: Array) -> Scores:
        found, at = {}, 0
        for name, test in tests.items():
            n = len(test.truth)
            found[name] = test.scores(decoded(forecast[at : at + n]))
            at += n
        return found

    each = {name: test.references() for name, test in tests.items()}
    references = {
        kind: {name: scores[kind] for name, scores in each.items()}
        for kind in ("Persistence", "Extrapolation")
    }
    return Case(draw, torch.from_numpy(encoded(histories)[..., None]), score, references)


@dataclass(frozen=True)
class RadarTest:
    """Crops of one event: histories, truth, extrapolation (n, T, SIDE, SIDE) in mm/h."""

    histories: Array
    truth: Array
    extrapolation: Array

    @classmethod
    def of(cls, rain: xr.DataArray, field: Array, *, inits: int = 6, each: int = 4) -> RadarTest:
        """Cut the same crops each time, some at each of some evenly spaced starts.

        Extrapolation is of the whole field, so it knows what comes in from beyond the crop.
        """
        rng = np.random.default_rng(7)
        at = np.linspace(HISTORY - 1, len(field) - HORIZON - 1, inits).round().astype(int)
        ahead = Advection(horizon=HORIZON).forecast(rain, init=rain.time.values[at]).values
        cut: list[tuple[Array, Array, Array]] = []
        for i, position in enumerate(at):
            for _ in range(each):
                r, c = _corner(field[position], rng, 0.2)
                part = field[..., r : r + SIDE, c : c + SIDE]
                after = slice(position + 1, position + 1 + HORIZON)
                before = np.nan_to_num(part[position - HISTORY + 1 : position + 1])
                cut.append((before, part[after], ahead[i, :, r : r + SIDE, c : c + SIDE]))
        return cls(*(np.stack(parts).astype("f4") for parts in zip(*cut, strict=True)))

    def scores(self, forecast: Array) -> dict[str, float]:
        """Return MSE and CSI where truth and extrapolation are known, all crops and leads."""
        known = np.isfinite(self.truth) & np.isfinite(self.extrapolation)
        f, o = forecast[known].astype("f8"), self.truth[known].astype("f8")
        found = {"mse": float(np.square(f - o).mean())}
        for event in EVENTS:
            # the float32 of a threshold may lie below it
            yes, true = f >= event - 1e-6, o >= event - 1e-6
            found[f"csi {event:g}"] = float((yes & true).sum() / max((yes | true).sum(), 1))
        return found

    def references(self) -> dict[str, dict[str, float]]:
        """Return the scores of what needs no training."""
        last = np.repeat(self.histories[:, -1:], HORIZON, axis=1)
        return {
            "Persistence": self.scores(last),
            "Extrapolation": self.scores(np.nan_to_num(self.extrapolation)),
        }


# --- training -----------------------------------------------------------------------------------


class Run:
    """One network on its way."""

    def __init__(self, name: str, recipe: Recipe, seed: int) -> None:
        torch.manual_seed(seed)
        self.recipe, self.network, self.mean = recipe, config(name).build(), config(name).build()
        self.mean.load_state_dict(self.network.state_dict())
        groups = parameter_groups(self.network, recipe.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.lr)
        self.done = 0

    def step(self, frames: Tensor, weight: Tensor) -> None:
        """Take one step on frames (N, T + T_out, H, W, 1), and average the weights."""
        self.network.train()
        x, y, w = frames[:, :HISTORY], frames[:, HISTORY:], weight[:, HISTORY:]
        loss = (w * (self.network(x) - y).square()).sum() / w.sum().clamp_min(1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * min(1.0, (self.done + 1) / self.recipe.warmup)
        self.optimizer.step()
        self.done += 1
        keep = min(self.recipe.average, self.done / (10 + self.done))
        with torch.no_grad():
            own = self.network.state_dict()
            for key, mean in self.mean.state_dict().items():
                if mean.is_floating_point():
                    mean.lerp_(own[key], 1 - keep)
                else:
                    mean.copy_(own[key])

    @torch.no_grad()
    def forecast(self, histories: Tensor) -> Array:
        """Return the forecasts of the averaged network, (n, T_out, H, W)."""
        self.mean.eval()
        return torch.cat([self.mean(x) for x in histories.split(16)])[..., 0].numpy()


def batch(draw: Draw, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return frames and weights (N, T + T_out, H, W, 1)."""
    drawn = [draw(rng) for _ in range(size)]
    frames, weight = (torch.from_numpy(np.stack(p))[..., None] for p in zip(*drawn, strict=True))
    return frames, weight


def pace(recipe: Recipe, rounds: int = 5) -> dict[str, float]:
    """Return the process time of a step of each network in seconds, medians of turns."""
    runs = {name: Run(name, recipe, 0) for name in NETWORKS}
    frames = torch.rand(recipe.batch, HISTORY + HORIZON, SIDE, SIDE, 1)
    spent: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run.step(frames, torch.ones_like(frames))
            spent[name].append(time.process_time() - start)
    return {name: round(statistics.median(taken[1:]), 4) for name, taken in spent.items()}


def train(name: str, case: Case, recipe: Recipe, *, seed: int, step: float) -> dict[str, Any]:
    """Return the scores of a network at both budgets."""
    run, rng = Run(name, recipe, seed), np.random.default_rng([seed, 11])
    budgets = {"steps": recipe.steps, "time": max(1, round(recipe.seconds / step))}
    found: dict[str, Any] = {}
    for budget, steps in sorted(budgets.items(), key=lambda item: item[1]):
        while run.done < steps:
            run.step(*batch(case.draw, recipe.batch, rng))
        found[budget] = {"steps": steps, "scores": case.score(run.forecast(case.histories))}
    return found


def jobs(recipe: Recipe, *, folds: int) -> Iterator[dict[str, Any]]:
    """Yield what is to be run: a fold of the radar for each seed first, then the others."""
    for turn in range(folds):
        for seed in range(recipe.seeds):
            for data in DATA if turn == 0 else ("radar",):
                fold = (seed + turn) % folds if data == "radar" else 0
                for name in NETWORKS:
                    yield {"seed": seed, "data": data, "fold": fold, "network": name}


def head(recipe: Recipe, names: list[str]) -> dict[str, Any]:
    """Return the first line of a file of results: what all runs share."""
    costs = {name: config(name).describe().total for name in NETWORKS}
    return {
        "recipe": asdict(recipe),
        "events": names,
        "costs": {n: {"parameters": c.parameters, "macs": c.macs} for n, c in costs.items()},
        "pace": pace(recipe),
    }


def run_all(path: Path, folder: Path | None, recipe: Recipe, minutes: float) -> None:
    """Do what is not in the file yet, for at most so many minutes of process time."""
    torch.set_num_threads(1)
    found, lines = events(folder), read(path)
    if not lines:
        lines = [head(recipe, list(found))]
        add(path, lines[0])
    if lines[0]["recipe"] != asdict(recipe) or lines[0]["events"] != list(found):
        raise SystemExit(f"{path} is of another recipe or other events: {lines[0]}")
    done = [{k: r[k] for k in ("seed", "data", "fold", "network")} for r in lines if "seed" in r]
    cases: dict[tuple[str, int], Case] = {}
    folds = 1 if folder is None else recipe.seeds
    for job in jobs(recipe, folds=folds):
        if job in done:
            continue
        if time.process_time() > 60 * minutes:
            print("out of time")
            return
        key = (job["data"], job["fold"])
        if key not in cases:
            held = held_out(list(found), job["fold"], folds)
            cases[key] = digits() if job["data"] == "nbody" else crops(found, held)
            add(path, {"data": key[0], "fold": key[1], "references": cases[key].references})
        start, step = time.process_time(), lines[0]["pace"][job["network"]]
        result = train(job["network"], cases[key], recipe, seed=job["seed"], step=step)
        add(path, {**job, **result})
        print(*job.values(), f"{time.process_time() - start:.0f} s", flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of results."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def add(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a file of results."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("train", "page"))
    parser.add_argument("--results", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--radar", type=Path, help="folder of radar_SERVICE_*.nc")
    parser.add_argument("--out", type=Path, default=Path("docs/models"), help="folder of the page")
    parser.add_argument("--minutes", type=float, default=60.0, help="process time to train for")
    arguments = parser.parse_args()
    if arguments.command == "train":
        run_all(arguments.results, arguments.radar, Recipe(), arguments.minutes)
    else:
        write(read(arguments.results), arguments.out)


if __name__ == "__main__":
    main()
