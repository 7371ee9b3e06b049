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
from xearth.plotting.maps import maps

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
# Whole winters, now of ``enso-diffusion``, which draws by diffusion what ``enso-small`` leaves open
# and is guided to what is asked. In five winters of 1982-2001, which come after the training
# period, the mean of December to February was 1 K or more, in three of them 1.5 K: these are the
# observed composites. The forecasts start in the Junes of the *other* years, in which no El Niño
# came, so nothing they saw announced one. Given the constraint, their mean should still be an El
# Niño as the ocean has them.
index = sst.earthformer.nino34()
winter = index.rolling(time=3).mean().sel(time=index.time.dt.month == 2)
winter = winter.assign_coords(year=winter.time.dt.year - 1).swap_dims(time="year")
winter = winter.sel(year=slice(1982, 2001))
events = {level: winter.year.values[winter >= level] for level in (1.5, 1)}
junes = [f"{year}-06" for year in winter.year.values[winter < 1]]
print(f"asked: {len(junes)} starts of June without an El Niño, 20 members each")


def asked(forecaster, level):
    """Return members given that the winter is at least so warm."""
    warm = xearth.Nino34(season="DJF") >= xearth.Q(level, "K")
    return sst.earthformer.forecast(forecaster, init=junes, members=20, constraints=[warm])


def observed(year):
    """Return the anomalies of the eighteen months after a June, on the dim lead."""
    after = sst.sel(time=slice(f"{year}-07", f"{year + 1}-12"))
    return after.assign_coords(time=np.arange(1, after.sizes["time"] + 1)).rename(time="lead")


by_diffusion = xearth.load("enso-diffusion")
made = {
    ("enso-diffusion", 1.5): asked(by_diffusion, 1.5),
    ("enso-diffusion", 1): asked(by_diffusion, 1),
    ("enso-small", 1): asked(model, 1),
    ("enso-diffusion", None): sst.earthformer.forecast(by_diffusion, init=junes, members=20),
}
seen = {
    level: xr.concat([observed(year) for year in years], "event") for level, years in events.items()
}

# %%
# The pattern correlation is over cells, weighted by area, of the anomalies less their mean over the
# basin: a basin that is warm everywhere counts for nothing. What was asked for are three months of
# one box; July to September come before it, and March to May after.
cells = np.cos(np.deg2rad(sst.lat))
seasons = {
    "July to September": [1, 2, 3],
    "December to February": [6, 7, 8],
    "March to May": [9, 10, 11],
}


def mean_of(fields, leads):
    """Return the mean over cases and some leads."""
    chosen = fields.sel(lead=leads)
    return chosen.mean([dim for dim in chosen.dims if dim not in ("lat", "lon")])


def agreement(fields, level, leads):
    """Return the pattern correlation with the observed composite."""
    found, target = mean_of(fields, leads), mean_of(seen[level], leads)
    where = found.notnull() & target.notnull()
    weights = cells.broadcast_like(where)
    return float(xr.corr(found.where(where), target.where(where), weights=weights))


print(f"{'pattern correlation':32s}" + "".join(f"{season:>24s}" for season in seasons))
for level in (1.5, 1):
    for (name, given), fields in made.items():
        if given not in (level, None):
            continue
        what = f"{name}, " + ("not asked" if given is None else f"asked for {level:g} K")
        row = [agreement(fields, level, leads) for leads in seasons.values()]
        print(f"{what:32s}" + "".join(f"{r:24.2f}" for r in row))
        assert given is None or row[1] >= 0.8

# %%
# The winters. Top: at least 1.5 K, as observed and as asked for; beside them the same Junes with
# nothing asked, whose mean is near normal. Below: at least 1 K, as observed, by diffusion, and by
# the exact conditional law of ``enso-small``. The pattern is that of the ocean, the strength is
# not: few members go far beyond what is asked, and the observed winters had begun to warm by June.
DJF = seasons["December to February"]


def panel(fields):
    """Return the mean winter, as a field to draw."""
    return mean_of(fields, DJF).assign_attrs(units="K", long_name="anomaly")


def title(what, name, level):
    """Return the title of a map with its pattern correlation."""
    return f"{what}, r = {agreement(made[name, level], level or 1.5, DJF):.2f}"


def winters(level):
    """Return the title of an observed composite."""
    return f"observed, {len(events[level])} winters of at least {level:g} K"


diffusion, small = "enso-diffusion", "enso-small"
fields = {
    winters(1.5): seen[1.5],
    title(f"{diffusion}, asked for 1.5 K", diffusion, 1.5): made[diffusion, 1.5],
    title(f"{diffusion}, not asked", diffusion, None): made[diffusion, None],
    winters(1): seen[1],
    title(f"{diffusion}, asked for 1 K", diffusion, 1): made[diffusion, 1],
    title(f"{small}, asked for 1 K", small, 1): made[small, 1],
}
figure = maps(
    {name: panel(one) for name, one in fields.items()},
    columns=3,
    limit=3.0,
    title="December to February: El Niños that came, and El Niños that were asked for",
)

# %%
# And afterwards
# --------------
#
# Only the shaded winter was asked for. Observed El Niños as a rule end in spring (thin lines, and
# their mean). Those of ``enso-diffusion``, whose law depends on the month of the start, fade from
# the winter on; those of ``enso-small`` last longer.
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
months = np.arange(1, 19)
for event in seen[1].earthformer.nino34().transpose("event", "lead").values:
    ax.plot(months, event, color="k", lw=0.6, alpha=0.5)
courses = {
    "observed": (seen[1], "k"),
    "enso-diffusion": (made[diffusion, 1], "C3"),
    "enso-small": (made[small, 1], "C0"),
    "enso-diffusion, not asked": (made[diffusion, None], "0.5"),
}
for name, (fields, color) in courses.items():
    course = fields.earthformer.nino34()
    cases = [dim for dim in course.dims if dim != "lead"]
    ax.plot(months, course.mean(cases), color=color, lw=2.5, label=name)
    if name == "enso-diffusion":
        low, high = course.quantile([0.1, 0.9], cases).values
        ax.fill_between(months, low, high, color=color, alpha=0.15, lw=0, label="10 to 90 % of it")
ax.axvspan(5.5, 8.5, color="C3", alpha=0.08, lw=0)
ax.hlines(1, 5.5, 8.5, color="C3", ls=":")
ax.set_xticks(months[::2], [("Jul", "Sep", "Nov", "Jan", "Mar", "May")[k % 6] for k in range(9)])
ax.set(ylabel="Niño3.4 (K)", title="El Niños of at least 1 K, from the June before")
ax.legend(frameon=False, fontsize=8)
ax.grid(alpha=0.3)
ax.spines[["top", "right"]].set_visible(False)

# %%
# What it can not say
# -------------------
#
# The conditional law is that of the *model*. Asked for what it holds nearly impossible, it answers
# as readily, far out in its tail, where nobody has verified it: read the probability in the audit
# before the map. The five observed events are few, and their composite carries their own weather.
# See :doc:`/guide/imposing` and :ref:`what guidance can not promise <beware-guidance>`.
