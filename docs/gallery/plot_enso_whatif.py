"""
What if there is an El Niño?
============================

A forecast says how likely an El Niño is. A planner asks the other question: if there is one this
winter, what does the Pacific look like on the way, and where is it warm? A constraint asks it: the
members are drawn from the conditional law of the forecast, given that Niño3.4 reaches 1 K in
December to February. This is not "add 1 K": everything else follows from what the model holds
likely.
"""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xearth
from xearth.plotting.maps import draw_maps

sst = xearth.samples.open("kaplan_sst").load()
model = xearth.load("enso-small")  # trained until 1981
warm = xearth.Nino34(season="DJF") >= xearth.Q(1, "K")
print(warm)

# %%
# One start, with and without
# ---------------------------
#
# June 2000, after two winters of La Niña. The audit is in the attributes: how many of the free
# members happened to hold the constraint, and how probable it is in the law of the forecast.
free = sst.earthformer.forecast(model, init="2000-06", members=50)
what_if = sst.earthformer.forecast(model, init="2000-06", members=50, constraints=[warm])
print(what_if.attrs["xearth_constraints"])

# %%
# All members must be at 1 K or above in the mean of the shaded season, and nowhere else. How they
# get there and what comes after is the law's: they leave the free plume early, as a warm winter
# rarely comes without a warm autumn. That half of it is still there a year later is the model's
# idea, too: observed El Niños as a rule end in spring.
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
when = free.valid_time.values[0].astype("M8[D]")
for fc, color, name in ((free, "0.45", "free"), (what_if, "C3", "El Niño by winter")):
    index = fc.earthformer.nino34().isel(init=0).transpose("lead", "member")
    ax.plot(when, index.values, color=color, lw=0.5, alpha=0.5)
    ax.plot(when, index.mean("member"), color=color, lw=2.5, label=f"{name}, mean of 50 members")
observed = sst.earthformer.nino34().sel(time=slice("1999-07", "2001-12"))
ax.plot(observed.time, observed, color="k", lw=1.5, label="observed")
ax.axvspan(np.datetime64("2000-12-01"), np.datetime64("2001-03-01"), color="C3", alpha=0.08, lw=0)
ax.hlines(1, np.datetime64("2000-12-01"), np.datetime64("2001-03-01"), color="C3", ls=":")
ax.set(ylabel="Niño3.4 (K)", title="Forecast of June 2000, free and given an El Niño")
ax.legend(frameon=False, fontsize=8, loc="upper left")
ax.grid(alpha=0.3)
ax.spines[["top", "right"]].set_visible(False)

# %%
# Does it look like an El Niño?
# -----------------------------
#
# The winters of 1982-2003 are after the training period. In six of them the mean of December to
# February was 1 K or more: that is the observed composite. The forecasts start in the Junes of the
# *other* years, in which no El Niño came, so nothing they saw announced one. Given the constraint,
# their mean should still be an El Niño as the ocean has them.
index = sst.earthformer.nino34()
winter = index.rolling(time=3).mean().sel(time=index.time.dt.month == 2)
winter = winter.assign_coords(year=winter.time.dt.year - 1).swap_dims(time="year")
winter = winter.sel(year=slice(1982, 2002))
events = winter.year.values[winter >= 1]
others = winter.year.values[winter < 1]
print(f"observed: {len(events)} El Niños of 1982-2003, winters from", *events)
print(f"asked: {len(others)} starts of June without one")

junes = [f"{year}-06" for year in others]
asked = sst.earthformer.forecast(model, init=junes, members=20, constraints=[warm])
unasked = sst.earthformer.forecast(model, init=junes, members=20)


def observed_from(june):
    """Return the anomalies of the year after a June, on the dim lead."""
    after = sst.sel(time=slice(f"{june}-07", f"{june + 1}-02"))
    return after.assign_coords(time=np.arange(1, after.sizes["time"] + 1)).rename(time="lead")


seen = xr.concat([observed_from(year) for year in events], "event").mean("event")
seasons = {"July to September": [1, 2, 3], "December to February": [6, 7, 8]}
composites = {
    "observed": seen,
    "asked for": asked.mean(("init", "member")),
    "not asked for": unasked.mean(("init", "member")),
}

# %%
# The pattern correlation is over cells, weighted by area, of the anomalies less their mean over the
# basin: a basin that is warm everywhere counts for nothing.
cells = np.cos(np.deg2rad(sst.lat))
for season, leads in seasons.items():
    target = seen.sel(lead=leads).mean("lead")
    for name in ("asked for", "not asked for"):
        made = composites[name].sel(lead=leads).mean("lead")
        where = target.notnull() & made.notnull()
        agree = xr.corr(made.where(where), target.where(where), weights=cells.broadcast_like(where))
        print(f"{season}, {name}: pattern correlation {float(agree):.2f}")
        if name == "asked for" and season.startswith("December"):
            assert agree >= 0.8

# %%
# The composites of the winter and of the summer before it.
figure = plt.figure(figsize=(11, 5.6), layout="constrained")
rows = figure.subfigures(2, 1)
for row, (season, leads) in zip(rows, seasons.items(), strict=True):
    fields = [
        composites[name].sel(lead=leads).mean("lead").assign_attrs(sst.attrs)
        for name in ("observed", "asked for", "not asked for")
    ]
    limit = float(max(abs(field).max() for field in fields))
    parts = row.subfigures(1, 3)
    for part, field, name in zip(parts, fields, composites, strict=True):
        field.attrs |= {"units": "K", "long_name": "anomaly"}
        draw_maps(part, field, limit=limit, title=f"{season}, {name}")

# %%
# What it can not say
# -------------------
#
# The conditional law is that of the *model*. Asked for what it holds nearly impossible, it answers
# as readily, far out in its tail, where nobody has verified it: read the probability in the audit
# before the map. The six observed events are few, and their composite carries their own weather.
# See :doc:`/guide/imposing` and :ref:`what guidance can not promise <beware-guidance>`.
