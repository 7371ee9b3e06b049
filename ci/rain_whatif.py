"""Ways to hold an intensity in a nowcast, measured: ci/rain_whatif.py [--members M].

An hour of the KNMI sample is asked for an area mean n standard deviations from that of the
climatology of the sample, in decibels. No member of a free ensemble comes near the outer levels, so
there is no truth by rejection: beside residual and CPU time stands what tells rain from other
fields, its spectrum, wet area and largest cell.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import xarray as xr
from nowcast_card import listing

import xearth
from xearth.cli.futures import Future
from xearth.cli.whatif import table
from xearth.constraints.cells import NonNegative
from xearth.constraints.factor import ByFactor
from xearth.constraints.intensity import IntensityAnomaly, IntensityClimatology

MODEL, START, LEVELS = "prediff-small", "2010-08-26T04:30", (-2.0, 2.0, 4.0)
HEAD = [
    "way", "mean asked, found (mm/h)", "off, relative", "power at 16, 8, 4 cells (dB)", "wet",
    "largest cell (mm/h)", "cost",
]  # fmt: skip


def timed(make) -> tuple[xr.DataArray, float]:
    """Return what a function returns, and its CPU seconds."""
    begin = time.process_time()
    return make(), time.process_time() - begin


def ways(
    model, rain: xr.DataArray, free: xr.DataArray, level: IntensityAnomaly
) -> Iterator[tuple[Future, float, bool]]:
    """Yield each way's members, its CPU seconds, and whether those of the free members count, too."""
    asked = {"init": START, "members": free.sizes["member"], "constraints": [level]}
    for way in ("guided", "exact"):
        made, spent = timed(partial(model.forecast, rain, impose=way, **asked))
        yield Future(level, made, how=f"``{way}``"), spent, False
    for name, held in (
        ("``projected``", [level, NonNegative()]),
        ("``projected``, by a factor", [ByFactor(level)]),
    ):
        made, spent = timed(partial(xearth.impose, free, held))
        yield Future(level, made, how=name), spent, True


def cells_of(row, name: str, cost: str) -> list[str]:
    """Return the cells of a row of the table of the demo."""
    asked = "" if row["asked"] != row["asked"] else f"{row['asked']:.3f}, "
    off = "" if row["off"] != row["off"] else f"{row['off']:.0e}"
    powers = ", ".join(f"{row[f'dB_{n}']:+.1f}" for n in (16, 8, 4))
    found = f"{asked}{row['found']:.3f}"
    return [name, found, off, powers, f"{row['wet']:.0%}", f"{row['most']:.0f}", cost]


def page(members: int) -> str:
    """Return the table of all levels."""
    rain, model = xearth.samples.open("knmi_radar").load(), xearth.load(MODEL)
    known = IntensityClimatology.of(rain, frames=model.horizon)
    free, base = timed(partial(model.forecast, rain, init=START, members=members))
    levels = [IntensityAnomaly(known, n) for n in LEVELS]
    found = [one for level in levels for one in ways(model, rain, free, level)]
    measured = table(free, [future for future, *_ in found], rain)
    costs = {"observed": "", "members": f"{base:.0f} s, 1.00"} | {
        future.label: f"{(spent + base * added) / base:.2f}" for future, spent, added in found
    }
    names = {"members": "no constraint"}
    rows = [cells_of(row, names.get(name, name), costs[name]) for name, row in measured.iterrows()]
    text = (
        f"``{MODEL}`` on the KNMI sample, the hour from {START.replace('T', ' ')}, {members} members: "
        "the area mean over the hour is n standard deviations from that of the climatology of the "
        "sample, in decibels. Off: the largest of all members. Power: of the rain over its mean, "
        "against the observed rain. Costs are CPU times, of "
        "``projected`` with the free members that it starts from. Made by "
        "``python ci/rain_whatif.py --out docs/performance/rain_whatif.rst``.\n\n"
    )
    return text + listing(HEAD, rows) + "\n"


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = page(options.members)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
