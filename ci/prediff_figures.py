"""The figures of the card of prediff-small."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from nowcast_marks import Event
from prediff_marks import EDGES, Sums, spread_over_skill

#: Minutes after the start that are drawn and told; members of which cells are kept.
DRAWN, SHOWN = (10, 30, 60), 4
#: Event and number of its start in the figure of members, and members drawn of each method.
PICTURED, STARTED = "knmi_20100826", 2
COLUMNS = {"prediff": 4, "nowcast": 2, "steps": 2}
NAMES = {"prediff": "prediff-small", "nowcast": "nowcast-small", "steps": "STEPS"}
COLORS = {"prediff": "C0", "nowcast": "C1", "steps": "C2"}

All = Mapping[str, tuple[Event, Sequence[Any], dict[str, Sums]]]


def figures(all_: All, work: Path, folder: Path) -> str:
    """Write the figures, and return what the first shows."""
    mpl.use("Agg")
    _write(marks(all_), folder / "prediff-small-marks.png", dpi=80)
    name = PICTURED if PICTURED in all_ else next(iter(all_))
    event, some, found = all_[name]
    case = next((c for c in some if c.start == STARTED), some[0])
    fields = {}
    for method in COLUMNS:
        if method in found:
            with np.load(case.kept(method, work)) as kept:
                fields[method] = kept["shown"].astype(np.float32)
    _write(members(event, case.position, fields), folder / "prediff-small-members.png", dpi=95)
    return (
        f"From {str(event.inits[case.start])[:16].replace('T', ' ')} ({name}, left out of "
        "training): what was seen and what came, and members of each method."
    )


def _write(figure: Any, path: Path, *, dpi: int) -> None:
    """Write a figure with few colors, whole or not at all."""
    import matplotlib.pyplot as plt
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    figure.savefig(buffer, dpi=dpi)
    small = Image.open(buffer).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    small.save(path.with_suffix(".tmp"), format="PNG", optimize=True)
    os.replace(path.with_suffix(".tmp"), path)
    plt.close(figure)


def members(event: Event, position: int, fields: Mapping[str, np.ndarray]) -> Any:
    """Draw what came and members (lead, member, y, x) of each method, a row for each lead."""
    import matplotlib.pyplot as plt

    from xearth.plotting.scales import scale_of

    scale = scale_of(event.rain)
    drawn = {method: COLUMNS[method] for method in fields}
    count = 2 + sum(drawn.values())
    height, width = event.rain.shape[1:]
    figure, grid = plt.subplots(
        len(DRAWN), count, figsize=(1.8 * count, len(DRAWN) * (1.8 * height / width + 0.25)),
        layout="constrained",
    )  # fmt: skip
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.04, wspace=0.0, hspace=0.0)
    values = event.rain.values
    downwards = bool(event.rain[event.rain.dims[1]][0] > event.rain[event.rain.dims[1]][1])
    hidden = ~np.isfinite(values[position])

    def draw(ax: Any, field: np.ndarray) -> None:
        ax.pcolormesh(np.where(hidden, np.nan, field), cmap=scale.colormap(), norm=scale.norm())
        ax.set_facecolor("0.85")
        ax.set(xticks=[], yticks=[], aspect="equal")
        ax.yaxis.set_inverted(downwards)

    for row, (line, minutes) in enumerate(zip(grid, DRAWN, strict=True)):
        back = int((len(DRAWN) - 1 - row) * DRAWN[0] / event.minutes)
        draw(line[0], values[position - back])
        line[0].set_title(f"seen, {-back * event.minutes:g} min".replace("-0", "0"), fontsize=9)
        lead = int(np.argmin(np.abs(event.minutes * np.arange(1, event.leads + 1) - minutes)))
        draw(line[1], values[position + 1 + lead])
        line[1].set_title(f"came, {minutes} min", fontsize=9)
        slots = [(method, k) for method, n in drawn.items() for k in range(n)]
        for ax, (method, k) in zip(line[2:], slots, strict=True):
            draw(ax, fields[method][row, k])
            ax.set_title(f"{NAMES[method]} {k}", fontsize=9)
    return figure


def marks(all_: All) -> Any:
    """Draw spectrum, ranks and spread over error of each event."""
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(
        3, len(all_), figsize=(2.3 * len(all_) + 0.6, 6.2), layout="constrained", squeeze=False,
        sharey="row",
    )  # fmt: skip
    middle = np.sqrt([a * b for a, b in itertools.pairwise(EDGES)])
    for column, (name, (event, _, found)) in zip(grid.T, all_.items(), strict=True):
        column[0].set_title(name.replace("_", "\n"), fontsize=9)
        for method in (m for m in NAMES if m in found):
            sums, style = found[method], {"color": COLORS[method], "label": NAMES[method]}
            ratio = 10 * np.log10(sums["power"][0] / sums["power_observed"][0])
            column[0].plot(middle, ratio, **style)
            ranks = sums["ranks"] / sums["ranks"].sum() * len(sums["ranks"])
            place = (np.arange(len(ranks)) + 0.5) / len(ranks)
            column[1].plot(place, ranks, marker=".", **style)
            minutes = event.minutes * np.arange(1, event.leads + 1)
            column[2].plot(minutes, spread_over_skill(sums), **style)
        column[0].set(xscale="log", xlabel="wavelength (cells)", ylim=(-6, 6))
        column[0].set_xticks([4, 8, 16, 32, 64, 128], [4, 8, 16, 32, 64, 128])
        column[0].minorticks_off()
        column[0].xaxis.set_inverted(True)
        column[0].axhspan(-1, 1, color="0.9")
        column[1].set(xlabel="rank of the truth", ylim=(0, 3), xlim=(0, 1))
        column[2].set(xlabel="lead (min)", ylim=(0, 1.5))
        for ax in column:
            ax.axhline(0 if ax is column[0] else 1, color="0.5", lw=0.8)
            ax.tick_params(labelsize=7)
            ax.xaxis.label.set_size(8)
    for ax, words in zip(grid[:, 0], _SAID, strict=True):
        ax.set_ylabel(words, fontsize=8)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False, fontsize=9)  # fmt: skip
    return figure


_SAID = (
    "power of decibels at 60 min\nover the observed (dB)",
    "how often, of flat ranks",
    "spread : error of the mean",
)
