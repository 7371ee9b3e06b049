"""
Nino3.4 from a grid, and the published one
==========================================

The index is the mean sea-surface temperature over 5°S-5°N, 170°W-120°W. Taken from the 1-degree
OISST grid by coordinates, with cells weighted by the area that lies inside the box, it should be
the series that is published.
"""

import matplotlib.pyplot as plt

import xearth

oisst = xearth.samples.open("oisst")
published = xearth.samples.open("oisst_nino34")
index = oisst.earthformer.nino34().load()

# %%
# The largest difference in any month, in kelvin. The grid of the sample is cut to 0.01 K, so
# half of that is its mean error.
both = published.sel(time=index.time).load()
difference = index - both.values
print(f"largest difference {abs(difference).max().item():.4f} K over {index.size} months")
print(f"mean difference    {difference.mean().item():.4f} K")

# %%
# The two series, and their difference a hundred times enlarged.
figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(7, 4.5), layout="constrained")
top.plot(index.time, index, color="#0072B2", linewidth=2, label="from the grid")
top.plot(both.time, both, color="black", linewidth=0.8, linestyle="--", label="published")
top.set_ylabel("Nino3.4 SST (°C)")
top.legend(frameon=False)
bottom.plot(index.time, 100 * difference, color="#D55E00", linewidth=1)
bottom.set_ylabel("difference (0.01 K)")
figure.align_ylabels()
