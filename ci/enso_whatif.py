"""Ways to hold an El Niño in an ENSO forecast, measured: ci/enso_whatif.py [--model NAME].

The truth is by rejection: of a large free ensemble of the same model the members that happen to
hold the constraint. Each way makes an ensemble; compared are the mean and the spread of Nino3.4 at
all leads, the energy distance of the anomaly field at those leads, the residual, and the CPU time
of an ensemble of 50 against one without constraint.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import xarray as xr

import xearth

TIMED = 50
START = "1986-06"
WARM = xearth.Nino34(season="DJF") >= xearth.Q(1, "K")
#: Free members that are looked through for the truth, members, how often a time is taken, the ways.
MODELS = {
    "enso-small": (6000, 1000, 5, (None, "projected", "conditional")),
    "enso-diffusion": (2000, 384, 1, (None, "projected", "guided", "exact")),
}


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return 2 E|X - Y| - E|X - X'| - E|Y - Y'| of samples (n, d), unbiased."""
    between = np.sqrt(np.maximum(_squares(x, y), 0)).mean()
    within = [
        np.sqrt(np.maximum(_squares(v, v), 0)).sum() / (len(v) * (len(v) - 1)) for v in (x, y)
    ]
    return float(2 * between - sum(within))


def _squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T


def fields(forecast: xr.DataArray) -> np.ndarray:
    """Return the members (M, cells and leads), weighted by the root of the area."""
    weighted = forecast.isel(init=0) * np.sqrt(np.cos(np.deg2rad(forecast["lat"])))
    return weighted.stack(x=("lead", "lat", "lon")).dropna("x").transpose("member", "x").values


def row(name: str, made: xr.DataArray, truth: xr.DataArray, cost: str) -> list[str]:
    """Return the cells of a way."""
    a, b = (fc.earthformer.nino34().isel(init=0) for fc in (made, truth))
    off = float(abs(a.mean("member") - b.mean("member")).max())
    ratio = a.std("member") / b.std("member")
    return [
        name,
        f"{made.sizes['member']:,}",
        f"{off:.2f}",
        f"{float(ratio.min()):.2f} to {float(ratio.max()):.2f}",
        f"{energy_distance(fields(made), fields(truth)):.3f}",
        f"{float(WARM.violation(made).max()):.0e}",
        cost,
    ]


HEAD = [
    "way", "members", "mean of Nino3.4, largest error (K)", "spread, ratio", "energy distance",
    "residual (K)", "cost",
]  # fmt: skip


def table(name: str, sst: xr.DataArray) -> str:
    """Return the ways of a model, beside the truth by rejection from its own free members."""
    model, (pool, members, repeats, ways) = xearth.load(name), MODELS[name]
    free = model.forecast(sst, init=START, members=pool, seed=1)
    holds = WARM.check(free).values.ravel()
    truth = free.isel(member=np.flatnonzero(holds))
    half = truth.sizes["member"] // 2
    parts = (truth.isel(member=slice(half)), truth.isel(member=slice(half, None)))
    rows, base = [], 0.0
    for way in ways:
        asked = {} if way is None else {"constraints": WARM, "impose": way}
        made = model.forecast(sst, init=START, members=members, **asked)
        spent = []
        for _ in range(repeats):
            begin = time.process_time()
            model.forecast(sst, init=START, members=TIMED, **asked)
            spent.append(time.process_time() - begin)
        base = base or min(spent)
        cost = f"{min(spent):.2f} s, {min(spent) / base:.1f}"
        rows.append(row(f"``{way}``" if way else "no constraint", made, truth, cost))
    rows.append(row("rejection, one half against the other", *parts, f"{1 / holds.mean():.0f}"))
    text = (
        f"``{name}`` from {START}, given that {WARM}. Of {pool:,} free members {holds.sum():,} "
        f"hold it ({holds.mean():.1%}): these are the truth. Energy distances are of the anomalies "
        "of all cells and leads; costs are CPU times of 50 members on one thread, checks and audit "
        "included, and their ratio (of rejection: free members for each that is kept). Made by "
        f"``python ci/enso_whatif.py --model {name}``.\n\n.. list-table::\n   :header-rows: 1\n\n"
    )
    for cells in (HEAD, *rows):
        text += "".join(f"   {'*' if i == 0 else ' '} - {cell}\n" for i, cell in enumerate(cells))
    return text


def main() -> None:
    """Print or write the table of a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=tuple(MODELS), default="enso-small")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = table(options.model, xearth.samples.open("kaplan_sst").load())
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
