"""
All networks in miniature
=========================

Ten networks, one recipe, two data sets: how good each is after equally many steps of training, and
after equally many seconds. Recipe, tables and what to mind are on :doc:`the page of the comparison
</models/comparison>`; the runs are made by ``python ci/compare_networks.py``, and drawn here.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

found = json.loads(Path("../models/comparison.json").read_text())
networks = list(found["costs"])
colors = {"steps": "tab:orange", "time": "tab:blue"}
labels = {
    "steps": f"after {found['recipe']['steps']} steps",
    "time": f"after {found['recipe']['seconds']:g} s",
}
short = [name.replace("without global vectors", "w/o g. v.") for name in networks]


def draw(ax, data, score, *, scale=1.0, each=False):
    """Draw a score of all networks at both budgets, and lines of what learns nothing."""
    for row in found["rows"]:
        if row["data"] != data:
            continue
        values = row["scores"][score]
        mean, low, high = (scale * np.array(values["interval"], float)).tolist()
        if row["budget"] is None:
            style = {"Persistence": ":", "Extrapolation": "--"}.get(row["network"], "-.")
            ax.axvline(mean, color="0.4", linestyle=style, label=row["network"].lower())
            continue
        at = networks.index(row["network"]) + (-0.15 if row["budget"] == "steps" else 0.15)
        color = colors[row["budget"]]
        if each:
            points = scale * np.array(list(values["each"].values()))
            ax.plot(points, np.full(len(points), at), ".", color=color, alpha=0.4)
        else:
            ax.plot([low, high], [at, at], color=color)
        ax.plot(mean, at, "o", color=color, label=labels[row["budget"]])
    ax.set_yticks(range(len(networks)), short)
    ax.set_ylim(len(networks) - 0.5, -0.5)
    ax.grid(axis="x", alpha=0.3)


def legend(fig, ax):
    """Name each color and line once, below."""
    named = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    fig.legend(named.values(), named.keys(), loc="outside lower center", ncols=4)


# %%
# Digits that attract each other
# ------------------------------
# Each dot is a mean over seeds, each line a 95 % interval of it. Dotted is the last frame as it is,
# dash-dotted the mean of all training frames, which knows nothing of the sequence.
fig, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
for ax, score in zip(axes, ("mse", "mae"), strict=True):
    draw(ax, "nbody", score, scale=1000)
    ax.set_xlabel(f"{score.upper()} of brightness (1e-3)")
legend(fig, axes[0])

# %%
# Radar: events of services that were not learned from
# ----------------------------------------------------
# Small dots are events, which differ more than networks do; large ones are their means. Dotted is
# persistence, dashed is extrapolation of the whole field, which sees beyond the edge of a crop.
fig, axes = plt.subplots(1, 3, figsize=(10, 4), sharey=True, layout="constrained")
names = {"mse": "MSE, (mm/h)²", "csi 0.1": "CSI at 0.1 mm/h", "csi 1": "CSI at 1 mm/h"}
for ax, (score, label) in zip(axes, names.items(), strict=True):
    draw(ax, "radar", score, each=True)
    ax.set_xlabel(label)
axes[0].set_xscale("log")
legend(fig, axes[0])

# %%
# The same events, paired
# -----------------------
# What a network has more than persistence, event by event: means and their 95 % intervals.
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for row in found["rows"]:
    if row["data"] == "radar" and row["budget"]:
        mean, low, high = row["less"]["Persistence"]["csi 1"]
        at = networks.index(row["network"]) + (-0.15 if row["budget"] == "steps" else 0.15)
        color = colors[row["budget"]]
        ax.plot([low, high], [at, at], color=color)
        ax.plot(mean, at, "o", color=color, label=labels[row["budget"]])
ax.axvline(0, color="0.4", linestyle=":", label="persistence")
ax.set_yticks(range(len(networks)), short)
ax.set_ylim(len(networks) - 0.5, -0.5)
ax.set_xlabel("CSI at 1 mm/h less that of persistence")
legend(fig, ax)
