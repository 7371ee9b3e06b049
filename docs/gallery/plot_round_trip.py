"""
Labels to tensors and back
==========================

A network sees tensors (N, T, H, W, C), rows from south to north. The way back is exact: the
field returns as it was, whatever the order of its dimensions, the direction of its latitudes and
the convention of its longitudes.
"""

import matplotlib.pyplot as plt
import xarray as xr

import xearth

sst = xearth.samples.open("kaplan_sst").sel(time="1997").load()

# %%
# The same year as other centers would write it: latitude from the north, longitude from -180,
# time last.
other = sst.isel(lat=slice(None, None, -1)).transpose("lat", "lon", "time")
other = other.assign_coords(lon=((other.lon + 180) % 360 - 180).assign_attrs(sst.lon.attrs))

for field in (sst, other):
    labeled = field.earthformer.to_tensor()
    xr.testing.assert_identical(labeled.to_array(), field)
    print(field.dims, "->", tuple(labeled.tensor.shape), "-> identical")

# %%
# What the network sees is the same picture in both cases; gray cells are land and masked.
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
for ax, field, name in zip(axes, (sst, other), ("as shipped", "turned around"), strict=True):
    frame = field.earthformer.to_tensor().tensor[0, -1, :, :, 0]
    ax.set_facecolor("0.85")
    ax.imshow(frame, origin="lower", cmap="RdBu_r", vmin=-4, vmax=4)
    ax.set(title=f"tensor, {name}", xlabel="column W", ylabel="row H")
