"""Make the card of nowcast-small: marks of each event when it was left out, calibration, limits.

    python ci/train_nowcast_small.py FOLDER --leave-out     # the forecasters without some events
    python ci/nowcast_card.py FOLDER                        # writes docs/models/nowcast-small.rst

Marks are those of ci/nowcast_marks.py; what was computed is kept in the folder of work (--work) and
not computed again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nowcast_marks import COLUMNS, Event, ensemble, expecting, references
from train_nowcast_small import ROOT, files, left_out, without

from xearth.forecasting.io import ARTIFACTS, load

OUT = ROOT / "docs" / "models" / "nowcast-small.rst"
MEMBERS = 20
HEAD = """\
.. Made by ci/nowcast_card.py: change that, not this.

nowcast-small
=============

Rain of the next hour (12 steps) from radar frames of the last half hour, with members, on any grid:

.. code-block:: python

   fc = radar.earthformer.forecast("nowcast-small", members=20)      # (init, lead, member, y, x)
   chance = xearth.load("nowcast-small").probability(radar, [0.1, 1.0, 5.0])

Frames are brought along their motion to the time of the last one; a network tells for each cell and
lead the distribution of the rain from what is there at six scales, how it has changed on its way,
and what is known; the distributions are carried on along the motion, and coherent Gaussian fields
draw members from them (:mod:`xearth.forecasting.nowcast`, :mod:`xearth.models.nowcast`). Width of
the cells and time step are inputs. :doc:`Decision 020 </decisions/020-nowcast-small>` tells why it is
so, and what else was tried.
"""
LIMITS = """\
Cost
----

20 members for an hour on 320 x 355 cells take a twelfth of the time of STEPS of pysteps on the same
machine (:doc:`/performance`, Nowcasts, made by ``ci/bench/bench_nowcast.py``).

Limits
------

- Five events of four services taught it: 273 frames, 2010 to 2018, all of the middle latitudes of
  Europe and Australia. It has seen no tropical rain.
- Trained on cells of 2 and 4 km and steps of 5 to 12 minutes. Finer cells are averaged to about
  2 km and the forecast is the same within them. Steps of 2 to 20 minutes and cells of up to 10 km are
  read; the network is told the nearest that it knows, which no event here has tested.
- Rain that comes in from beyond the edge is a guess: in the mean of what else the edge has.
- New showers far from any rain are not forecast: farther than 64 cells from rain it stays dry.
- Members come in pairs of opposite noise (0 and 1, 2 and 3, ...): the estimators of independent
  members ("fair" scores, flat ranks) do not hold to the letter. Pairs tell more of a distribution:
  the CRPS of 20 of them has about half of the 4 % that 20 independent members cost those of STEPS.
- The spectrum and the memory of the noise are set, not fitted to the events: how members hang together
  in space and time (sums over catchments) was not verified, only each cell at each lead.
- The mean, for a squared error, has no strong cores: count events of 5 mm/h in the
  probability-matched mean, in members or in probabilities. Where such rain is rare and smooth
  (knmi_20100826) the last frame carried on has more hits of it than any field of these.
- Chosen on fmi_20160928 and knmi_20100826: looking at forecasters trained without them settled the
  features, the number of steps, and that "best expected" is what is counted. Their marks above are
  therefore a little too good. No choice was made by the other three events.
"""


def judged(folder: Path, work: Path) -> Iterator[tuple[tuple[str, ...], str, Mapping[str, Any]]]:
    """Yield what was left out, the event that is judged, and its marks."""
    paths = files(folder)
    for out in left_out(list(paths)):
        if not without(out, work).is_file():
            continue
        for name in out:
            kept = work / f"marks-{'+'.join(out)}-{name}.json"
            if not kept.is_file():
                rows, facts = ensemble(Event.read(paths[name]), load(without(out, work)), MEMBERS)
                facts["rows"] = [[row.name, row.marks, row.fair] for row in rows]
                kept.write_text(json.dumps(facts))
                print(kept.name, flush=True)
            facts = json.loads(kept.read_text())
            more = work / f"expected-{'+'.join(out)}-{name}.json"
            if not more.is_file():
                row = expecting(Event.read(paths[name]), load(without(out, work)))
                more.write_text(json.dumps([row.name, row.marks, row.fair]))
                print(more.name, flush=True)
            facts["rows"].append(json.loads(more.read_text()))
            yield out, name, facts


def base(path: Path, work: Path) -> Mapping[str, Any]:
    """Return the rows of persistence, extrapolation and pysteps, and the caption of an event."""
    event = Event.read(path)
    kept = work / f"references-{event.name}.json"
    if not kept.is_file():
        rows = [[row.name, row.marks, row.fair] for row in references(event)]
        inits = ", ".join(str(stamp)[11:16] for stamp in event.inits)
        height, width = event.rain.shape[1:]
        caption = f"{height} x {width} cells, {event.minutes:g} min, starts {inits}"
        kept.write_text(json.dumps({"rows": rows, "caption": caption}))
    found: Mapping[str, Any] = json.loads(kept.read_text())
    return found


def listing(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        lines += [f"   {'* -' if k == 0 else '  -'} {cell}" for k, cell in enumerate(row)]
    return "\n".join(lines)


def shown(mark: Sequence[float] | None, column: int) -> str:
    """Return mean and last lead."""
    if mark is None:
        return ""
    return " / ".join(f"{value:.{3 if column < 4 else 4}f}" for value in mark)


def verdict(rows: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return which goals an event meets, in the order of the table of goals."""
    mean, yes = (
        next(v for n, v in rows.items() if n.endswith(key))
        for key in ("mean of 20", "best expected")
    )
    moved, sprog, steps = (
        next(v for n, v in rows.items() if n.startswith(key))
        for key in ("extrapolation", "S-PROG", "STEPS")
    )
    behind = [
        column
        for k, column in enumerate(COLUMNS[:5])
        if not (yes[k][0] > moved[k][0] if k < 3 else mean[k][0] < moved[k][0])
    ]
    chances = [f"{yes[k][0]:.3f} : {sprog[k][0]:.3f}" for k in range(3)]
    return [
        "yes" if not behind else "not in " + ", ".join(behind),
        f"{mean[3][0] / sprog[3][0]:.2f}",
        *chances,
        f"{mean[5][0] / steps[5][0]:.3f}",
    ]


def card(folder: Path, work: Path) -> str:
    """Return the card."""
    paths = files(folder)
    told = {name: base(path, work) for name, path in paths.items()}
    goals, tables, calibration = [], [], []
    for out, name, facts in judged(folder, work):
        alone = len(out) == 1
        label = name if alone else f"{name}, without all of its service"
        rows = [*told[name]["rows"], *facts["rows"]]
        goals.append([label, *verdict({row[0]: row[1] for row in rows})])
        lines = [
            [
                row[0].replace("nowcast-small", "nowcast"),
                *[shown(m, k) for k, m in enumerate(padded(row[1]))],
            ]
            for row in (rows if alone else facts["rows"])
        ]
        heading = f"{label}\n{'~' * len(label)}\n\n{told[name]['caption']}; not trained on {', '.join(out)}."
        tables.append(f"{heading}\n\n{listing(('mean / last lead', *COLUMNS), lines)}\n")
        ranks = facts["ranks"]
        middle = sum(ranks[1:-1])
        calibration.append(
            [
                label,
                f"{facts['spread_skill']:.2f}",
                f"{ranks[0]:.3f}",
                f"{ranks[-1]:.3f}",
                f"{middle:.3f}",
            ]
        )
    return "\n".join(
        [
            HEAD,
            facts_of(),
            training(paths),
            goals_of(goals),
            "Marks\n-----\n",
            *tables,
            spread(calibration),
            LIMITS,
        ]
    )


def padded(marks: Sequence[Any]) -> list[Any]:
    return [*marks, *[None] * (len(COLUMNS) - len(marks))]


def facts_of() -> str:
    """Return the facts of the shipped file."""
    path = ARTIFACTS / "nowcast-small.safetensors"
    model: Any = load(path)
    weights = sum(tensor.numel() for tensor in model.state.values())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    yes = ", ".join(
        f"{share:g} at {level} mm/h" for level, share in model.metrics["yes_from"].items()
    )
    lines = [
        f"File: {path.stat().st_size / 1e3:.0f} kB, {weights:,} numbers, sha256 ``{digest[:16]}``.",
        f"Trained on: {model.provenance['trained_on']}.",
        f"Chosen on: {model.provenance['chosen_on']}, each left out of training for that.",
        f"Recipe: {model.provenance['recipe']}.",
        f"Yes from (p*, the best threat score on the events of training): {yes}.",
    ]
    return "Facts\n-----\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def training(paths: Mapping[str, Path]) -> str:
    text = f"""\
    Training
    --------

    ``ci/train_nowcast_small FOLDER`` makes the file from a folder of the {len(paths)} events; ``--leave-out``
    the forecasters without some of them that are judged here; ``python ci/nowcast_card.py FOLDER`` this
    page. Samples are cells at leads from every second start or so, with the rain also averaged to
    4 km, taken at every second frame, and multiplied by a number near 1. Every event counts as
    much as any other. The score is that of :mod:`xearth.models.nowcast_law`.
    """
    return textwrap.dedent(text)


def goals_of(rows: Sequence[Sequence[str]]) -> str:
    header = (
        "event, left out of training", "better than extrapolation in CSI, MSE, MAE",
        "MSE, share of S-PROG's", "CSI >= 0.1 : S-PROG", "CSI >= 1 : S-PROG", "CSI >= 5 : S-PROG",
        "CRPS, share of STEPS'",
    )  # fmt: skip
    text = """\
    What was to be reached
    ----------------------

    On events never seen: better than extrapolation on every score, a smaller squared error than S-PROG
    and more CSI from 1 mm/h, a CRPS of 20 members at most 0.95 of that of STEPS. Means over leads of an
    hour; errors are those of the mean of 20 members, CSI is that of "best expected", yes in so many of
    the likeliest cells that the threat score which the probabilities expect is the best. Extrapolation is
    ours (:class:`~xearth.reference.advection.Advection`), which has smaller errors than that of pysteps on all five events.
    """
    return f"{textwrap.dedent(text)}\n{listing(header, rows)}\n"


def spread(rows: Sequence[Sequence[str]]) -> str:
    header = (
        "event, left out of training", "spread : error", "below all members", "above all members",
        "between",
    )  # fmt: skip
    text = f"""\
    Calibration
    -----------

    Of {MEMBERS} members over all leads, in cells where one of them or the truth is wet: spread divided by
    the error of the mean, and how often the truth lies below or above all members. Of independent
    members that would be {1 / (MEMBERS + 1):.3f} each, and {1 - 2 / (MEMBERS + 1):.3f} between.
    """
    return f"{textwrap.dedent(text)}\n{listing(header, rows)}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="holds radar_*.nc")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "nowcast-small")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    options.out.write_text(card(options.folder, options.work))
    print(options.out)


if __name__ == "__main__":
    main()
