"""What ``compare_networks.py`` found, as JSON for the gallery and as a page.

Only seeds and folds in which every network has been trained are counted, so that all stand on the
same runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from enso_table import listed, plain
from scipy.stats import t as student

Line = dict[str, Any]
Values = dict[str, float]

BUDGETS = ("steps", "time")
REFERENCES = ("Persistence", "Mean of all frames", "Extrapolation")
#: Differences that the page shows for the radar: from what, in which score, and its heading.
LESS = (
    ("Persistence", "mse", "MSE less persistence's"),
    ("Persistence", "csi 1", "CSI 1 less persistence's"),
    ("Extrapolation", "csi 1", "CSI 1 less extrapolation's"),
)
SCORES = {
    "nbody": {"mse": "MSE", "mae": "MAE"},
    "radar": {"mse": "MSE", "csi 0.1": "CSI 0.1", "csi 1": "CSI 1", "csi 5": "CSI 5"},
}


Interval = list[float | None]


def interval(values: Iterable[float]) -> Interval:
    """Return mean and 95 % interval by Student's t; of a single value there is none.

    Examples
    --------
    >>> [round(x, 2) for x in interval([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    found = np.asarray(list(values), dtype=float)
    mean = float(found.mean())
    if len(found) < 2:
        return [mean, None, None]
    half = float(student.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    return [mean, mean - half, mean + half]


def complete(lines: list[Line], names: Iterable[str]) -> list[Line]:
    """Return the runs of seeds and folds in which all networks have been trained."""
    runs = [line for line in lines if "seed" in line]

    def key(run: Line) -> tuple[str, int, int]:
        return run["data"], run["fold"], run["seed"]

    whole = {k for k in map(key, runs) if {r["network"] for r in runs if key(r) == k} >= set(names)}
    return [run for run in runs if key(run) in whole]


def by_unit(runs: list[Line], data: str, network: str, budget: str, score: str) -> Values:
    """Return the score of each seed (digits) or of each event, a mean over seeds (radar)."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if (run["data"], run["network"]) == (data, network):
            for name, scores in run[budget]["scores"].items():
                unit = f"seed {run['seed']}" if data == "nbody" else name
                found.setdefault(unit, []).append(scores[score])
    return {unit: float(np.mean(values)) for unit, values in sorted(found.items())}


def of_references(lines: list[Line], data: str, network: str, score: str) -> Values:
    """Return the score of a forecast that learns nothing, for each event or for all sequences."""
    found: Values = {}
    for line in lines:
        if line.get("data") == data and "references" in line:
            for unit, scores in line["references"].get(network, {}).items():
                found[unit] = scores[score]
    return dict(sorted(found.items()))


def _row(each: Mapping[str, Values], others: Mapping[str, Mapping[str, Values]]) -> Line:
    """Return means and intervals of scores, and of their differences from others, by event."""
    row: Line = {"scores": {}, "less": {}}
    for score, values in each.items():
        row["scores"][score] = {"interval": interval(values.values()), "each": values}
    for name, other in others.items():
        row["less"][name] = {
            score: interval(values[unit] - other[score][unit] for unit in values)
            for score, values in each.items()
        }
    return row


def _rows(lines: list[Line], runs: list[Line], data: str, names: list[str]) -> Iterator[Line]:
    """Yield a row for what learns nothing, then for each network at each budget."""
    scores = SCORES[data]
    events = set(by_unit(runs, data, names[0], "time", "mse"))
    known: dict[str, dict[str, Values]] = {}
    for name in REFERENCES:
        each = {s: of_references(lines, data, name, s) for s in scores}
        if data == "radar":
            each = {s: {u: v for u, v in each[s].items() if u in events} for s in scores}
        if all(each.values()):
            known[name] = each
    # no reference of the digits has seeds
    others = known if data == "radar" else {}
    for name, each in known.items():
        rest = {other: values for other, values in others.items() if other != name}
        yield {"data": data, "network": name, "budget": None, **_row(each, rest)}
    for budget in BUDGETS:
        for name in names:
            each = {s: by_unit(runs, data, name, budget, s) for s in scores}
            steps = {r[budget]["steps"] for r in runs if (r["data"], r["network"]) == (data, name)}
            if steps:
                mark = {"data": data, "network": name, "budget": budget, "steps": steps.pop()}
                yield {**mark, **_row(each, others)}


def summary(lines: list[Line]) -> Line:
    """Return recipe, costs, and a row for each data set, budget and network."""
    head = lines[0]
    names = list(head["costs"])
    runs = complete(lines, names)
    rows = [row for data in SCORES for row in _rows(lines, runs, data, names)]
    seeds = {d: sorted({r["seed"] for r in runs if r["data"] == d}) for d in SCORES}
    count = {d: len([r for r in runs if r["data"] == d]) // len(names) for d in SCORES}
    kept = ("recipe", "events", "costs", "pace")
    return {**{k: head[k] for k in kept}, "seeds": seeds, "runs": count, "rows": rows}


# --- the page -----------------------------------------------------------------------------------


def number(found: Interval, digits: int, scale: float = 1) -> str:
    """Return mean and interval as text.

    Examples
    --------
    >>> number([0.5, 0.4, 0.6], 2), number([0.0005, None, None], 2, scale=1000)
    ('0.50 [0.40, 0.60]', '0.50')
    """
    mean, *bounds = (None if v is None else f"{scale * v:.{digits}f}" for v in found)
    return str(mean) if None in bounds else f"{mean} [{', '.join(map(str, bounds))}]"


def table(found: Line, data: str, budget: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: networks at a budget below what learns nothing."""
    header, body = ["network", "steps"], []
    if data == "nbody":
        header += [f"{label} (1e-3)" for label in SCORES[data].values()]
    else:
        header += [*SCORES[data].values(), *(label for _, _, label in LESS)]
    for row in found["rows"]:
        if row["data"] != data or row["budget"] not in (None, budget):
            continue
        line = [row["network"], str(row.get("steps", ""))]
        each = [row["scores"][score]["interval"] for score in SCORES[data]]
        if data == "nbody":
            line += [number(one, 2, 1000) for one in each]
        else:
            # events differ more than networks do: there the differences tell
            line += [number([one[0], None, None], 3) for one in each]
            less = [row["less"].get(other, {}).get(score) for other, score, _ in LESS]
            line += ["" if one is None else number(one, 3) for one in less]
        body.append(line)
    return header, body


def costs(found: Line) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of what the networks cost."""
    header = ["network", "parameters", "GMAC", "seconds of a step"]
    body = [
        [name, f"{cost['parameters']:,}", f"{cost['macs'] / 1e9:.3f}", f"{found['pace'][name]:.3f}"]
        for name, cost in found["costs"].items()
    ]
    return header, body


def outcome(found: Line) -> str:
    """Return how many networks have a lower MSE than what learns nothing, at both budgets."""
    budgets = (
        ("steps", f"After {found['recipe']['steps']} steps"),
        ("time", f"After {found['recipe']['seconds']:g} s"),
    )
    lines = []
    for budget, when in budgets:
        parts = []
        for data, what in (("nbody", "the digits"), ("radar", "the radar")):
            rows = [row for row in found["rows"] if row["data"] == data]
            of = {
                (row["network"], row["budget"]): row["scores"]["mse"]["interval"][0] for row in rows
            }
            ours = [mse for (_, at), mse in of.items() if at == budget]
            counts = [
                f"{sum(mse < bar for mse in ours)} than {name.lower()}"
                for (name, at), bar in of.items()
                if at is None
            ]
            parts.append(f"on {what} {', '.join(counts)}")
        lines.append(f"{when}, of {len(ours)} networks have a lower MSE: {'; '.join(parts)}.")
    return "\n".join(lines)


PAGE = """\
All networks in miniature
=========================

.. This page is written by ci/compare_networks.py; do not edit it.

Ten networks, small ones of each kind, trained by one recipe on two data sets that can be had, and
scored on what they never saw: after equally many steps of the optimizer, and after equally many
seconds. It says which of them learn something of these data within seconds on one core of a
processor; it does not say which is best at its full size, and it is not the published table
(:doc:`seed-tables`). :doc:`The gallery </auto_gallery/plot_comparison>` draws it.

{outcome}

.. code-block:: bash

   python ci/compare_networks.py train --results runs.jsonl --radar FOLDER
   python ci/compare_networks.py page --results runs.jsonl

How
---

- **Networks**: 6 frames of 24 x 24 cells in and 6 out, by the plain constructor, with sizes that
  give a third of a million to 0.9 million parameters.
- **One recipe**: AdamW at {lr:g} after {warmup} steps of warm-up, gradients clipped at {clip:g},
  batches of {batch}, squared error of the forecast, in which cells that are not known do not count.
  The weights that are scored are an average over steps (decay {average:g}), because a rate that
  falls would need to know its end, and there are two ends. Strategies of sampling, which some
  networks were published with, are left out: they are no part of one recipe. No network is tuned.
- **Equal steps**: {steps} steps. **Equal time**: {seconds:g} s of process time on one thread, made
  steps by the median time of a step of each network, measured in turns beforehand (the machine had
  other work to do, which slows all of them). So a run gives the same numbers whatever happens beside
  it. The same batches go to all networks.
- **Digits**: three digits that attract each other (:mod:`xearth.data.sources.nbody`, the law of
  the published set, in a box of 96 pixels drawn on 24), 1200 sequences to learn from, 60 of other
  digits to be scored on.
- **Radar**: {events} events of 5 or 6 minutes and 2 km. In each of three folds the events of some
  services are held out and the others are learned from: an event is scored by networks that never saw
  its service. Crops are drawn where it rains; networks see log10(1 + R / 0.1 mm/h) and are scored in
  mm/h, 24 crops of each event, the 6 leads together, where extrapolation has a value as well.
- **Extrapolation** (:class:`xearth.reference.advection.Advection`) follows the whole field, not the
  crop: it sees what comes in from beyond the edge, in half an hour half of a crop of 48 km when rain
  moves at 50 km/h. It is set beside because nowcasts always are; it knows more than the networks do.
- **Intervals**: 95 %, by Student's t; over seeds for the digits, over events (each a mean over
  seeds) for the radar. Differences are paired by event.

{costs}

Digits, {nbody_seeds} seeds
---------------------------

MSE and MAE of brightness, from 0 to 1.

After {steps} steps:

{nbody_steps}

After {seconds:g} s:

{nbody_time}

Radar, {radar_runs} runs of each network
----------------------------------------

MSE in (mm/h)\\ :sup:`2`, critical success index at 0.1, 1 and 5 mm/h: means over events.

After {steps} steps:

{radar_steps}

After {seconds:g} s:

{radar_time}

What to mind
------------

- A network whose error on the digits is that of the mean of all frames has learned where digits are
  on average, and no motion yet.
- UNet is scored with running means and variances of its layers, which move slowly: after few steps
  they are not those of the data, and what is too much in logarithms is far too much in mm/h.
- A squared error in logarithms makes smooth, low forecasts, which seldom reach 5 mm/h.
- Few steps favor networks that begin near a sensible forecast; time favors those whose steps are
  cheap. What is left of both when training goes on for days, this cannot tell.
- Five events and three seeds: an interval that holds 0 says that these runs cannot tell, not that
  there is no difference.
"""


def page(found: Line) -> str:
    """Return the page."""
    tables = {
        f"{data}_{budget}": listed(*table(found, data, budget))
        for data in SCORES
        for budget in BUDGETS
    }
    return PAGE.format(
        **found["recipe"],
        **tables,
        events=len(found["events"]),
        nbody_seeds=len(found["seeds"]["nbody"]),
        radar_runs=found["runs"]["radar"],
        costs=listed(*costs(found)),
        outcome=outcome(found),
    )


def write(lines: list[Line], folder: Path) -> None:
    """Print the tables; write ``comparison.json`` and ``comparison.rst``."""
    found = summary(lines)
    for data in SCORES:
        for budget in BUDGETS:
            print(f"\n{data}, {budget}\n\n{plain(*table(found, data, budget))}")
    texts = {"json": json.dumps(found, indent=1) + "\n", "rst": page(found)}
    for ending, text in texts.items():
        partial = folder / f"comparison.{ending}.tmp"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, folder / f"comparison.{ending}")
