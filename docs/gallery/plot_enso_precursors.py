"""
What does the forecast look at? Precursors of El Niño
=====================================================

A skillful forecast that nobody understands is hard to act on. Its derivative says what it looks
at: by how much the forecast index changes for a change of one kelvin in one cell, months before.
The derivative goes through normalization, masks, first guess and networks, and comes back as a
labeled field.

The forecasts start in January, when next winter's El Niño is barely under way and the spring
barrier lies ahead.
"""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xearth
from xearth import plotting
from xearth.plotting.maps import draw_maps

sst = xearth.samples.open("kaplan_sst").load()
model = xearth.load("enso-small")
winters = [f"{year}-01" for year in range(1952, 1982, 5)]

# %%
# One sensitivity per start, on (init, lag, lat, lon): the forecast is not linear, so it may listen
# to other places in other winters. The mean over winters is what it listens to as a rule.
sensitivities = xr.concat(
    [
        sst.earthformer.sensitivity(model, of=xearth.Nino34(lead=lead), init=winters)
        for lead in (3, 6, 9)
    ],
    "lead",
)
g = sensitivities.mean("init")
g

# %%
# Where
# -----
#
# The sum over the last three months (lags 0 to 2) is the answer to an anomaly that stays for a
# season. At three months the forecast mostly carries on the equatorial anomaly that is there. At
# six and nine months, beyond the spring, that memory has faded, and the forecast looks to the
# subtropics: to the southeastern Pacific off Chile and Peru, and at nine months more weakly to the
# northeast, around 25N, 125W. These are the places where the South and North Pacific meridional
# modes live, trade winds that have slackened over warm water in winter and that prepare an El Niño.
# Nobody told the forecast about them: the regression of its first guess, which makes nearly all of
# the mean, found them in 1856-1981. (The derivative is by one cell; fields of a finer product have
# smaller values.)
season = g.sel(lag=slice(0, 2)).sum("lag", skipna=False)
season.attrs = g.attrs | {"long_name": "change of Niño3.4 per change of one cell"}
plotting.maps(season, title="Sensitivity of Niño3.4 to the winter before (starts in January)")

# %%
# How strong and how sure
# -----------------------
#
# Sums over cells of sensitivity times change are changes of the index. What does one kelvin in all
# of a box, for one season, do to Niño3.4? The spread over winters (standard deviation of six) is
# how far the forecast departs from a linear one: little, as its first guess is a regression with a
# few products.
boxes = {
    "Niño3.4": xearth.NINO34,
    "Niño1+2": xearth.NINO12,
    "North Pacific 10-25N": xearth.Box(10, 25, -160, -120, "npmm"),
    "South Pacific 25-10S": xearth.Box(-25, -10, -120, -80, "spmm"),
}
for name, box in boxes.items():
    inside = (box.weights(sst) > 0).where(sst.isel(time=0).notnull())
    answer = (sensitivities.sel(lag=slice(0, 2)) * inside).sum(("lag", "lat", "lon"))
    told = [
        f"lead {int(lead)}: {float(at.mean()):+.2f} ± {float(at.std()):.2f}"
        for lead, at in zip(answer.lead, answer, strict=True)
    ]
    print(f"{name:21s} K per K at", ", ".join(told))

# %%
# The best precursor, and what came before observed El Niños
# ----------------------------------------------------------
#
# Of all January anomalies of the same size, that along the sensitivity changes the index most.
# Beside it is what was observed in the Januaries before the ten warmest Octobers of 1950-1981.
#
# Both are warm in the southeast. They differ on the equator, and should: El Niño often follows a
# La Niña, so the mean over those Januaries is cold there, but cold water at the equator is no cause
# of a warm autumn. A composite shows what went before; a sensitivity what the forecast makes of it,
# all else being equal. Single cells are noisy, and a precursor that was learned may still be one
# that is not there: the next section asks.
january = g.sel(lead=9, lag=0, drop=True)
cells = np.cos(np.deg2rad(sst.lat))
pattern = january / cells  # per area, so that the size of cells is of no account
pattern = 0.3 * pattern / np.sqrt((pattern**2).weighted(cells).mean())
pattern.attrs = {"units": "K", "long_name": "best precursor of 0.3 K root mean square"}

index = sst.earthformer.nino34().sel(time=slice("1950", "1981"))
octobers = index[index.time.dt.month == 10]
warmest = octobers.sortby(octobers)[-10:].time.dt.year.values
observed = sst.sel(time=[f"{year}-01-01" for year in sorted(warmest)]).mean("time")
observed.attrs = {"units": "K", "long_name": "mean anomaly of January before ten warm Octobers"}

figure = plt.figure(figsize=(11, 3.6), layout="constrained")
left, right = figure.subfigures(1, 2)
draw_maps(left, pattern, title="what the forecast looks at (lead 9)")
draw_maps(right, observed, title="what came before")
where = pattern.notnull() & observed.notnull()
agree = xr.corr(pattern.where(where), observed.where(where), weights=cells.broadcast_like(where))
print(f"pattern correlation {float(agree):.2f}")

# %%
# Does the precursor forecast?
# ----------------------------
#
# Projected on the history of the twenty winters after the training period, the starts of January
# 1983-2002, the precursor is a linear forecast. What the full forecast has beyond it is the part
# that is not linear, or not the same in each winter. Twenty winters do not tell correlations apart
# that differ by a tenth or two, and the spread of the forecast was chosen on these years. What it
# is worth against others, with intervals, is on :doc:`its card </models/enso-small>`.
years = [f"{year}-01" for year in range(1983, 2003)]
truth = sst.earthformer.nino34()
for lead in (3, 6, 9):
    fc = sst.earthformer.forecast(model, init=years, leads=lead).sel(lead=lead).earthformer.nino34()
    seen = truth.sel(time=fc.valid_time.values).values
    lags = [
        sst.shift(time=int(lag)).sel(time=fc.init.values).drop_vars("time") for lag in g.lag.values
    ]
    histories = xr.concat(lags, g.lag)
    line = (g.sel(lead=lead) * histories).sum(("lag", "lat", "lon"))
    scores = [np.corrcoef(values, seen)[0, 1] for values in (line, fc)]
    print(f"lead {lead}: correlation of precursor {scores[0]:.2f}, of forecast {scores[1]:.2f}")

# %%
# The spring barrier from inside
# ------------------------------
#
# The same anomaly means more in some months than in others. The bars are what one kelvin in all of
# Niño3.4, for one season, does to the index six months on, by month of the start. Starts whose six
# months lead through spring carry least: there the forecast has to come from elsewhere. (The starts
# of 1974; other years look alike, the spread above says how much.)
of = xearth.Nino34(lead=6)
by_start = sst.earthformer.sensitivity(model, of=of, init=slice("1974-01", "1974-12"))
inside = xearth.NINO34.weights(sst) > 0
answer = (by_start.sel(lag=slice(0, 2)) * inside).sum(("lag", "lat", "lon"))

figure, ax = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
ax.bar(answer.init.dt.month, answer, color=plotting.style.COLORS[0])
ax.axhline(0, color="0.3", linewidth=0.8)
ax.set_xticks(range(1, 13), ["J", "F", "M", "A", "M", "J", "J", "A", "S", "O", "N", "D"])
ax.set_xlabel("month of the start")
ax.set_ylabel("change of Niño3.4 at lead 6\nper kelvin in Niño3.4 (K K$^{-1}$)")
ax.set_title("What an equatorial anomaly is worth six months on", fontsize=11)
ax.spines[["top", "right"]].set_visible(False)
