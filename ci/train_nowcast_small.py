"""Train and write the shipped forecaster nowcast-small, and forecasters without some events.

    python ci/train_nowcast_small.py FOLDER                # FOLDER holds radar_*.nc
    python ci/train_nowcast_small.py FOLDER --leave-out    # also one without each event and service

The shipped file is trained on all events. What the recipe is (how many steps, which features) was
chosen by looking at forecasters trained without fmi_20160928 and without knmi_20100826, so the
marks of these two are of events that helped to choose, those of the others are not. Forecasters
without an event are for the table of the card (ci/nowcast_card.py), and are not shipped.

Samples and forecasters are kept in a folder (--work), and not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from xearth.data.sources import radar
from xearth.forecasting.io import load
from xearth.forecasting.nowcast import NowcastForecaster
from xearth.forecasting.nowcast_fit import EventPoints, NowcastRecipe, event_points, fit_nowcast
from xearth.models.checkpoints import load_tensors, save_tensors
from xearth.models.nowcast_cases import Points

ROOT = Path(__file__).parents[1]
ARTIFACT = ROOT / "xearth" / "artifacts" / "nowcast-small.safetensors"
RECIPE = NowcastRecipe(name="nowcast-small")
CHOSEN = "fmi_20160928, knmi_20100826"


def files(folder: Path) -> dict[str, Path]:
    """Return the radar files of a folder by the names of their events."""
    found = {path.stem.removeprefix("radar_"): path for path in sorted(folder.glob("radar_*.nc"))}
    if not found:
        raise SystemExit(f"{folder}: expected files radar_*.nc, found none")
    return found


def samples(name: str, path: Path, work: Path) -> EventPoints:
    """Return the samples of an event, from the folder of work if they are there."""
    kept = work / f"{name}.points.safetensors"
    if not kept.is_file():
        begun = time.monotonic()
        event = event_points(radar.open(path).load())
        save_tensors(kept, event.points._asdict(), {"mean": event.mean})
        print(f"{name}: {len(event.points.y)} samples, {time.monotonic() - begun:.0f} s")
    tensors, facts = load_tensors(kept)
    return EventPoints(Points(**tensors), float(facts["mean"]))


def left_out(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the events to leave out: each alone, and all of a service that has several."""
    for name in names:
        yield (name,)
    services = {name.partition("_")[0] for name in names}
    for service in sorted(services):
        group = tuple(name for name in names if name.startswith(f"{service}_"))
        if len(group) > 1:
            yield group


def without(out: Sequence[str], work: Path) -> Path:
    """Return the file of the forecaster that never saw some events."""
    return work / f"without-{'+'.join(out)}.safetensors"


def train(events: Mapping[str, EventPoints], out: Sequence[str], path: Path) -> NowcastForecaster:
    """Train on all events but some, and write the forecaster, if its file is not there."""
    if not path.is_file():
        begun = time.monotonic()
        some = {name: event for name, event in events.items() if name not in out}
        label = f"without {', '.join(out)}" if out else "all events"
        made = fit_nowcast(
            some, RECIPE, report=lambda step, loss: print(f"{label}: {step} {loss:.4f}", flush=True)
        )
        told = {"left_out": ", ".join(out)} if out else {"chosen_on": CHOSEN}
        dataclasses.replace(made, provenance={**made.provenance, **told}).save(path)
        print(f"{label}: {time.monotonic() - begun:.0f} s, {path.name}", flush=True)
    found = load(path)
    assert isinstance(found, NowcastForecaster)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="holds radar_*.nc")
    parser.add_argument("--leave-out", action="store_true", help="also without each event")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "nowcast-small")
    parser.add_argument("--out", type=Path, default=ARTIFACT)
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    paths = files(options.folder)
    events = {name: samples(name, path, options.work) for name, path in paths.items()}
    made = train(events, (), options.work / "all.safetensors")
    made.save(options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")
    if options.leave_out:
        for out in left_out(list(events)):
            train(events, out, without(out, options.work))


if __name__ == "__main__":
    main()
