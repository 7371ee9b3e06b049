"""
How cuboids cut space-time
==========================

Earthformer attends within cuboids: blocks of a few frames, rows and columns. Attention in all of
them costs what attention in one costs times their number, not the square of all cells. What a
cuboid holds is decided by its size, by a strategy (neighbors, or cells spread over the whole
field) and by a shift. Here is the example of the paper, a tensor of 6 x 4 x 4 cells cut into
cuboids of 3 x 2 x 2, drawn from the very function that cuts inside the network.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap

from xearth.models.cuboid.masks import self_mask
from xearth.models.cuboid.partition import Partition, cut
from xearth.models.cuboid.patterns import CuboidLayer

SHAPE, CUBOID = (6, 4, 4), (3, 2, 2)
LAYERS = {
    "local": CuboidLayer(CUBOID),
    "dilated": CuboidLayer(CUBOID, strategy="ddd"),
    "shifted": CuboidLayer(CUBOID, shift=(1, 1, 1)),
}

# %%
# Number the cells, let the partition cut the numbers, and see which turn up together.
partitions = {name: Partition.fit(SHAPE, layer) for name, layer in LAYERS.items()}
numbers = torch.arange(np.prod(SHAPE)).reshape(1, *SHAPE)
cuboids = {
    name: cut(p.roll(numbers), p.cuboid, p.strategy).reshape(p.cuboids, p.volume).numpy()
    for name, p in partitions.items()
}
for name, cells in cuboids.items():
    print(f"{name:8} {len(cells)} cuboids of {cells.shape[1]} cells; the first holds", cells[0])

# %%
# In space-time, cells of one color are in one cuboid. Time runs to the right, rows downward and
# columns to the back.
COLORS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee9944"]


def number_of_cuboid(cells: np.ndarray) -> np.ndarray:
    """Return the number of the cuboid of each cell, (T, H, W)."""
    found = np.empty(cells.size, dtype=int)
    found[cells] = np.arange(len(cells))[:, None]
    return found.reshape(SHAPE)


figure, axes = plt.subplots(
    1, 3, figsize=(10, 3.2), subplot_kw={"projection": "3d"}, layout="constrained"
)
for ax, (name, cells) in zip(axes, cuboids.items(), strict=True):
    found = number_of_cuboid(cells).transpose(0, 2, 1)[:, :, ::-1]
    faces = np.array(COLORS)[found]
    ax.voxels(np.ones(found.shape), facecolors=faces, edgecolor="w", linewidth=0.8, shade=False)
    ax.set_box_aspect(found.shape, zoom=1.12)
    ax.view_init(elev=24, azim=-60)
    ax.set_title(name)
    ax.set_axis_off()
    ax.text(3, 0, -0.8, "time", "x", ha="center", va="center")
    ax.text(6, 2, -0.8, "column", "y", ha="center", va="center")
    ax.text(0, -0.7, 2, "row", "z", ha="center", va="center")

# %%
# The same, frame by frame. One cuboid is framed; dots mark the cells of it that its first cell
# attends to. A local cuboid is a block of neighbors. A dilated one takes every second frame, row
# and column, so it sees the whole field, coarsely. A shifted one is a block that begins in the
# middle of a local one, so that what was in two cuboids comes together. What it cuts at one side
# of the field goes on at the other; a mask keeps such strangers from attending to each other.
figure, axes = plt.subplots(3, 6, figsize=(9, 4.9), layout="constrained")
for row, (name, cells) in zip(axes, cuboids.items(), strict=True):
    found, mask = number_of_cuboid(cells), self_mask(partitions[name], "ignore")
    last = len(cells) - 1
    seen = cells[last] if mask is None else cells[last][mask[last, 0]]
    for t, ax in enumerate(row):
        ax.pcolormesh(
            found[t], cmap=ListedColormap(COLORS), vmin=-0.5, vmax=7.5, edgecolor="w", linewidth=1.5
        )
        for i, j in np.argwhere(found[t] == last):
            ax.add_patch(plt.Rectangle((j + 0.1, i + 0.1), 0.8, 0.8, fill=False, lw=1.6))
        frame, i, j = np.unravel_index(seen, SHAPE)
        ax.plot(j[frame == t] + 0.5, i[frame == t] + 0.5, "k.", markersize=7)
        ax.set(aspect="equal", xticks=[], yticks=[])
        ax.invert_yaxis()
        ax.spines[:].set_visible(False)
        if name == "local":
            ax.set_title(f"t = {t}", fontsize=10)
    row[0].set_ylabel(name, fontsize=11)
