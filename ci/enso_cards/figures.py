"""The figures of the card of enso-small."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from xearth import plotting

from .case import LEVEL, NAME, Case
from .tables import Calibration


def figures(case: Case, tables: dict[str, Any], folder: Path) -> None:
    """Write the figures of the card."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    def write(figure: Any, name: str) -> None:
        buffer = BytesIO()
        figure.savefig(buffer, dpi=90)
        small = Image.open(buffer).convert("RGB").quantize(96, dither=Image.Dither.NONE)
        temporary = folder / f"{name}.tmp"
        small.save(temporary, format="PNG", optimize=True)
        os.replace(temporary, folder / f"{NAME}-{name}.png")
        plt.close(figure)

    lines = {name: t for name, t in tables["means"].items() if name != "climatology"}
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.0), layout="constrained")
    plotting.skill(lines, "correlation", ax=axes[0])
    axes[0].set_title("3-month means, correlation", fontsize=10)
    axes[0].get_legend().remove()
    crpss = tables["crpss"]
    lines = {
        str(name): crpss.sel(forecaster=name)
        if name == NAME
        else crpss[["crpss"]].sel(forecaster=name)
        for name in crpss["forecaster"].values
    }
    plotting.skill(lines, "crpss", ax=axes[1])
    axes[1].set_title("single months, CRPSS", fontsize=10)
    axes[1].get_legend().remove()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5,
                  frameon=False, fontsize=9)  # fmt: skip
    write(figure, "skill")

    gain = tables["gain"].sel(reference=["LIM-15", "CSLIM-15", "damped persistence"])
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.5), layout="constrained", sharey=True)
    for ax, name in zip(axes, gain["reference"].values, strict=True):
        plotting.skill(gain.sel(reference=[name]), "rmse_difference", ax=ax)
        ax.set_title(f"{NAME} less {name}", fontsize=10)
        ax.get_legend().remove()
        ax.set_ylabel("difference of the RMSE (K)" if ax is axes[0] else "")
    write(figure, "difference")

    write(_calibration_figure(tables["calibration"], case.n), "calibration")
    write(plotting.start_months_each(tables["start"], "correlation", columns=2), "start-months")


def _calibration_figure(found: Calibration, starts: int) -> Any:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.5), layout="constrained")
    for ax, name, target in (
        (axes[0], "interval_coverage", LEVEL), (axes[1], "spread_skill_ratio", 1.0)
    ):  # fmt: skip
        one = found.leads.isel(level=0)
        value, low, high = (one[f"{name}{end}"].values for end in ("", "_lower", "_upper"))
        around = np.abs([value - low, high - value])
        ax.errorbar(one["lead"].values, value, around, fmt="o", markersize=4, color="#0072B2",
                    elinewidth=1.2, capsize=2)  # fmt: skip
        ax.axhline(target, color="0.3", linewidth=0.9, linestyle="--")
        ax.set_xlabel("lead (months)")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.92", linewidth=0.8)
    axes[0].set_title(f"coverage of the {100 * LEVEL:.0f} % interval", fontsize=10)
    axes[0].set_ylim(top=1.0)
    axes[1].set_title("spread / error", fontsize=10)
    axes[1].set_ylim(bottom=0.0)
    plotting.rank_histogram(found.ranks_pooled.rank_histogram, n=starts, ax=axes[2])
    axes[2].set_title("ranks, all leads", fontsize=10)
    return figure
