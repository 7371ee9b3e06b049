"""Make the card of prediff-small: marks of each event when it was left out, figures, limits.

    python ci/prediff_card.py FOLDER FOLDS --nowcasts NOWCASTS --event knmi   # one event, no page
    python ci/prediff_card.py FOLDER FOLDS --nowcasts NOWCASTS                # what is missing; page
    python ci/prediff_card.py FOLDER FOLDS --nowcasts NOWCASTS --page         # the page alone

FOLDER holds radar_*.nc, FOLDS prediff_without_{bom,fmi,knmi,mch}.safetensors (mch: without both
events of that service), NOWCASTS the forecasters of ``ci/train_nowcast_small.py --leave-out`` that
are inside of them. Marks are those of ci/prediff_marks.py. What was computed is kept in the folder
of work (--work), by event, start, method and content of the model's file, and not computed again.
With --pysteps, a python that has pysteps, STEPS runs on the same starts.
"""

from __future__ import annotations

import argparse
import hashlib
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nowcast_card import listing
from nowcast_marks import LEVELS, QUOTED, Event
from prediff_figures import DRAWN, SHOWN, figures
from prediff_marks import (
    ESTIMATORS,
    POOLS,
    Sums,
    csi,
    measured,
    octaves,
    spread_over_skill,
    steps,
    together,
    with_members,
)
from train_nowcast_small import ROOT, files, without

from xearth.forecasting.io import ARTIFACTS, load
from xearth.reference.advection import Advection

OUT = ROOT / "docs" / "models" / "prediff-small.rst"
MEMBERS, STEPS_MEMBERS = 10, 20
#: Services, and the events left out together.
GROUPS = ("bom", "fmi", "knmi", "mch")
#: Methods by what the tables call them, in their order.
METHODS = {
    "extrapolation": "extrapolation",
    "nowcast": "nowcast-small",
    "prediff": "prediff-small",
    "steps": "STEPS (pysteps)",
}
HEAD = """\
.. Made by ci/prediff_card.py: change that, not this.

prediff-small
=============

Rain of the next hour (12 steps) from radar frames, with members drawn by latent diffusion, on any
grid; members that hold constraints:

.. code-block:: python

   fc = radar.earthformer.forecast("prediff-small", members=10)      # (init, lead, member, y, x)
   wet = xearth.AreaMean(per="horizon") == xearth.Q(1.0, "mm/h")
   fc = radar.earthformer.forecast(
       "prediff-small", members=10, constraints=[wet], impose="guided"
   )

A nowcast network tells the distribution of each cell and lead in the coordinates of the air; the
normal scores that it leaves open are drawn by flow matching with the denoiser of PreDiff, given the
last frames and how probable rain is (:mod:`xearth.forecasting.prediff`,
:mod:`xearth.models.prediff.rain`). :doc:`Decision 026 </decisions/026-prediff-of-rain>` tells why it
is so.
"""
LIMITS = """\
Limits
------

- Four events of three services taught it, all of the middle latitudes.
- :doc:`nowcast-small </models/nowcast-small>` has the same CRPS, within 1 %, at a twentieth of the cost. What
  diffusion adds is how whole fields look, and guidance.
- Members come in pairs of opposite noise (0 and 1, 2 and 3, ...), which lowers the CRPS of ten by some
  3 %: the estimators of independent members ("fair" scores, flat ranks) do not hold to the letter.
- The spectrum is that of rain in the mean of events, not of each: at an hour it is off by up to 3 dB in
  some octave of each event left out (so are those of the other methods), and heavy rain in mm/h is
  mostly too weak at small scales.
- The forecasters that left out bom, fmi and mch had 400 steps of training, the shipped one, without
  knmi, 1100.
- Marks are of few starts of each event, and starts of one event are not independent: there is no
  interval that could be trusted.
- KNMI and FMI helped to choose the design of the nowcast network, KNMI that of the diffusion: their
  marks are a little too good.
- Guidance moves what is drawn to hold a constraint; it does not draw from the law of rain given the
  constraint (:doc:`/beware`).
"""


@dataclass(frozen=True)
class Case:
    """An event, a start, and the forecasters that never saw the event.

    Parameters
    ----------
    event : Event
    start : int
        Which of the four of the protocol.
    models : mapping of str to Path
        Files of "prediff" and "nowcast".
    pysteps : str
        A python that has pysteps; empty: STEPS is not run.
    """

    event: Event
    start: int
    models: Mapping[str, Path]
    pysteps: str

    @property
    def position(self) -> int:
        """The start on the time axis."""
        return int(self.event.positions[self.start])

    def kept(self, method: str, work: Path) -> Path:
        """Return where the sums of a method are kept."""
        path = self.models.get(method)
        mark = "" if path is None else "-" + hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        return work / f"{self.event.name}-{self.start}-{method}{mark}.npz"

    def fields(self, method: str) -> np.ndarray:
        """Return members (L, m, H, W) in mm/h of a method."""
        event, init = self.event, self.event.inits[self.start]
        if method == "steps":
            return steps(self.pysteps, event, self.position, STEPS_MEMBERS)
        if method == "extrapolation":
            moved = Advection(horizon=event.leads).forecast(event.rain, init=init)
            return moved.values[0][:, None]
        made = load(self.models[method]).forecast(event.rain, init=init, members=MEMBERS)
        found: np.ndarray = made.isel(init=0, lead=slice(event.leads)).values
        return found


def cases(options: argparse.Namespace, names: Sequence[str]) -> Iterator[Case]:
    """Yield the starts that are judged."""
    paths = files(options.folder)
    for name in names:
        service = name.partition("_")[0]
        out = tuple(n for n in paths if n.startswith(f"{service}_"))
        models = {
            "prediff": options.folds / f"prediff_without_{service}.safetensors",
            "nowcast": without(out, options.nowcasts),
        }
        if not models["prediff"].is_file():
            print(f"{name}: {models['prediff'].name} is not there, left out", flush=True)
            continue
        event = Event.read(paths[name])
        for start in options.starts or range(4):
            yield Case(event, start, models, options.pysteps)


def compute(case: Case, work: Path) -> None:
    """Compute and keep what is missing of a start."""
    for method in METHODS:
        path = case.kept(method, work)
        if path.is_file() or (method == "steps" and not case.pysteps):
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        fields = case.fields(method)
        spent = [time.perf_counter() - wall, time.process_time() - cpu]
        leads = [lead_of(case.event, minutes) for minutes in DRAWN]
        shown = np.nan_to_num(fields[leads, :SHOWN]).astype(np.float16)
        sums = measured(case.event, case.position, fields)
        work.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".tmp").open("wb") as stream:
            np.savez_compressed(stream, **sums, shown=shown, spent=np.array(spent))
        path.with_suffix(".tmp").replace(path)
        score = sums["crps"][0].mean()
        print(f"{path.name}: CRPS {score:.4f}, {spent[0]:.0f} s", flush=True)


def lead_of(event: Event, minutes: float) -> int:
    """Return the position of the lead next to some minutes."""
    return int(np.argmin(np.abs(event.minutes * np.arange(1, event.leads + 1) - minutes)))


def complete(some: Sequence[Case], work: Path) -> list[Case]:
    """Return the starts of which all is there but perhaps STEPS."""
    needed = [method for method in METHODS if method != "steps"]
    return [case for case in some if all(case.kept(m, work).is_file() for m in needed)]


def judged(some: Sequence[Case], work: Path) -> dict[str, Sums]:
    """Return the sums of each method over starts, where all of them are there."""
    found = {}
    for method in METHODS:
        paths = [case.kept(method, work) for case in some]
        if all(path.is_file() for path in paths):
            found[method] = together([dict(np.load(path)) for path in paths])
    return found


# -- tables ---------------------------------------------------------------------------------------


def pair(values: np.ndarray, digits: int = 4) -> str:
    """Return mean over leads and last lead."""
    return f"{values.mean():.{digits}f} / {values[-1]:.{digits}f}"


def label(method: str, sums: Mapping[str, Any]) -> str:
    """Return what a row of a table is called."""
    m = int(sums["members"])
    return METHODS[method] if m == 1 else f"{METHODS[method]}, {m} members"


def scores(event: Event, found: Mapping[str, Sums], starts: int) -> str:
    """Return the table of CRPS, spread and ranks."""
    header = ("", *(f"CRPS, {name}" for name in ESTIMATORS),
              "spread : error, " + ", ".join(f"{m}" for m in DRAWN) + " min",
              "below / above all members")  # fmt: skip
    rows = []
    for method, sums in found.items():
        m, ranks = int(sums["members"]), sums["ranks"] / sums["ranks"].sum()
        ratio = spread_over_skill(sums)
        spread = ", ".join(f"{ratio[lead_of(event, t)]:.2f}" for t in DRAWN) if m > 1 else ""
        outside = f"{ranks[0]:.3f} / {ranks[-1]:.3f} (1/{m + 1})" if m > 1 else ""
        several = (
            [pair(crps) for crps in sums["crps"]] if m > 1 else [pair(sums["crps"][0]), "", ""]
        )
        rows.append([label(method, sums), *several, spread, outside])
    quoted = QUOTED[event.name]["STEPS"]
    (mean, last), fair = quoted[5], quoted[6]
    four = "" if starts == 4 else " (all four starts)"
    rows.append([f"STEPS, 20 members, quoted{four}", f"{mean:.4f} / {last:.4f}", f"{fair:.4f}",
                 "", "", ""])  # fmt: skip
    equal = with_members(mean, fair, 20, MEMBERS)
    rows.append([f"the same, expected of {MEMBERS} members", f"{equal:.4f}", "", "", "", ""])
    return listing(header, rows)


def hits(found: Mapping[str, Sums]) -> str:
    """Return the table of CSI."""
    header = ["", *(f"{kind}, {'cells' if p == 1 else f'squares of {p}'}"
                    for kind in ("mean", "members") for p in POOLS)]  # fmt: skip
    rows = []
    for method, sums in found.items():
        each = [csi(sums[key]) for key in ("csi_mean", "csi_members")]
        cells = [
            " / ".join(f"{v:.3f}" for v in part[k]) for part in each for k in range(len(POOLS))
        ]
        if int(sums["members"]) == 1:
            cells[len(POOLS) :] = [""] * len(POOLS)
        rows.append([label(method, sums), *cells])
    return listing(header, rows)


def texture(found: Mapping[str, Sums]) -> str:
    """Return the table of the spectrum at an hour."""
    header = ["dB over the observation at 60 min, wavelength in cells",
              *(f"{128 >> k}-{64 >> k}" for k in range(5))]  # fmt: skip
    rows = []
    for kind, words in enumerate(("of decibels", "of mm/h")):
        for method, sums in found.items():
            cells = ["" if np.isnan(v) else f"{v:+.1f}" for v in octaves(sums, kind)]
            rows.append([f"{label(method, sums)}, {words}", *cells])
    return listing(header, rows)


def goals(all_: Mapping[str, tuple[Event, Sequence[Case], dict[str, Sums]]]) -> str:
    """Return what was to be reached, and what was."""
    header = ("event, left out of training", "starts", "CRPS : STEPS, same starts", "CRPS : STEPS, quoted",
              "the same, equal members", "CRPS : nowcast-small", "largest dB, decibels",
              "largest dB, mm/h", "spread : error, 60 min")  # fmt: skip
    rows, met, power = [], [], []
    for name, (_, some, found) in all_.items():
        sums = found["prediff"]
        mean = float(sums["crps"][0].mean())
        quoted = QUOTED[name]["STEPS"]
        whole = len(some) == 4
        steps_ = found.get("steps")
        pooled = None if steps_ is None else [float(c.mean()) for c in steps_["crps"][:2]]
        if pooled is not None:
            equal = with_members(*pooled, STEPS_MEMBERS, MEMBERS)
            met.append((mean <= pooled[0], mean <= equal))
        against = [
            "" if pooled is None else f"{mean / pooled[0]:.3f}",
            f"{mean / quoted[5][0]:.3f}" if whole else "",
            "" if pooled is None else f"{mean / equal:.3f}",
            f"{mean / found['nowcast']['crps'][0].mean():.3f}",
        ]
        power.append([octaves(sums, kind) for kind in (0, 1)])
        last = f"{spread_over_skill(sums)[-1]:.2f}"
        rows.append([name, str(len(some)), *against, *map(farthest, power[-1]), last])
    over = np.mean(power, axis=0)
    moved = max(
        np.nanmax(np.abs(octaves(found["extrapolation"], 0))) for *_, found in all_.values()
    )
    rows.append(["mean of the events", *[""] * 5, *map(farthest, over), ""])
    text = f"""\
    What was to be reached
    ----------------------

    On events never seen: a CRPS of at most that of STEPS with {STEPS_MEMBERS} members, and a spectrum within 1 dB of the
    observed one at an hour, down to waves of 4 cells. Both as they were met, {MEMBERS} members
    against {STEPS_MEMBERS} (equal members: what the fair score says {MEMBERS} members of STEPS would have), and the octave
    that is farthest off. The CRPS is at most that of STEPS on {sum(m[0] for m in met)} of {len(met)} events, and on
    {sum(m[1] for m in met)} with equal members. The spectrum of decibels is within 1 dB in {(abs(over[0]) < 1).sum()} of {over[0].size} octaves of
    the mean of the events, not of each event (that of the last frame, carried on, is off by up to {moved:.1f} dB:
    it changes within an hour); that of mm/h in {(abs(over[1]) < 1).sum()}.
    """
    return f"{textwrap.dedent(text)}\n{listing(header, rows)}\n"


def farthest(power: np.ndarray) -> str:
    """Return the decibels of the octave that is farthest off."""
    return f"{power[np.nanargmax(np.abs(power))]:+.1f}"


def marks_of(event: Event, some: Sequence[Case], found: Mapping[str, Sums]) -> str:
    """Return the section of an event."""
    inits = ", ".join(str(event.inits[case.start])[11:16] for case in some)
    height, width = event.rain.shape[1:]
    text = (
        f"{event.name}\n{'~' * len(event.name)}\n\n{height} x {width} cells, {event.minutes:g} min, "
        f"starts {inits}; in mm/h, mean over the leads of an hour / last lead.\n"
    )
    explained = (
        f"CSI at {', '.join(f'{v:g}' for v in LEVELS)} mm/h, mean over the leads, of the mean of the "
        "members and of single members, for cells and for the maximum of squares.\n"
    )
    parts = (text, scores(event, found, len(some)), "", explained, hits(found), "", texture(found))
    return "\n".join(parts) + "\n"


def facts_of(path: Path) -> str:
    """Return the facts of the shipped file, and what it costs."""
    model: Any = load(path)
    weights = sum(tensor.numel() for tensor in model.state.values())
    inside = sum(tensor.numel() for tensor in model.base.state.values())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    told = {"Trained on": "trained_on", "Never seen": "never_seen", "Recipe": "recipe"}
    lines = [
        (
            f"File: {path.stat().st_size / 1e6:.1f} MB, {weights:,} numbers and {inside:,} of the "
            f"nowcast network, sha256 ``{digest[:16]}``."
        ),
        *(f"{w}: {model.provenance[k]}." for w, k in told.items() if k in model.provenance),
        (
            f"Sampler: DPM-Solver++, {model.steps} steps; member k of a seed is the same whatever is "
            "drawn beside it."
        ),
    ]
    return "Facts\n-----\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"


COST = """\
Cost
----

Far more than nowcast-small: ``python ci/bench/bench_nowcast.py FILE --pysteps PYTHON`` measures ten
members of the one, twenty of the other and of STEPS in turns.
"""
TRAINING = """\
Training
--------

``ci/train_prediff_small.py FOLDER --base NOWCAST --out EVENT`` makes a forecaster that never saw an
event; ``python ci/prediff_card.py FOLDER FOLDS`` this page, from one for each service.
"""
PICTURES = """\
Members
-------

{words}

.. image:: prediff-small-members.png
   :alt: Frames of rain: observed, and members of prediff-small, nowcast-small and STEPS

.. image:: prediff-small-marks.png
   :alt: Spectrum at an hour, ranks of the truth, and spread over error by lead
"""


def page(options: argparse.Namespace, names: Sequence[str]) -> str:
    """Return the card and write its figures."""
    by_event: dict[str, list[Case]] = {}
    for case in cases(options, names):
        by_event.setdefault(case.event.name, []).append(case)
    all_ = {}
    for name, some in by_event.items():
        there = complete(some, options.work)
        if not there:
            print(f"{name}: no start is computed, left out", flush=True)
            continue
        all_[name] = (some[0].event, there, judged(there, options.work))
    words = figures(all_, options.work, options.out.parent)
    return "\n".join(
        [
            HEAD,
            facts_of(options.shipped),
            TRAINING,
            goals(all_),
            PICTURES.format(words=words),
            "Marks\n-----\n",
            *(marks_of(*one) for one in all_.values()),
            COST,
            LIMITS,
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, compute what is missing, write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="holds radar_*.nc")
    parser.add_argument("folds", type=Path, help="holds prediff_without_*.safetensors")
    parser.add_argument("--nowcasts", type=Path, default=ROOT / "runs" / "nowcast-small")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "prediff-small")
    parser.add_argument("--event", action="append", help="begin of a name; may be repeated")
    parser.add_argument("--starts", type=int, nargs="+", help="which of the four, from 0")
    parser.add_argument("--page", action="store_true", help="compute nothing")
    parser.add_argument("--pysteps", default="", help="a python that has pysteps")
    parser.add_argument("--shipped", type=Path, default=ARTIFACTS / "prediff-small.safetensors")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    names = list(files(options.folder))
    some = [n for n in names if not options.event or n.startswith(tuple(options.event))]
    if not options.page:
        for case in cases(options, some):
            compute(case, options.work)
    if options.page or not options.event:
        options.out.write_text(page(options, names))
        print(options.out)


if __name__ == "__main__":
    main()
