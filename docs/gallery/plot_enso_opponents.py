"""
ENSO: the model beside its opponents
====================================

A score over all starts hides where skill comes from. Here the same hindcasts are cut by month of
the start, by era and by event, for every forecaster at hand. The numbers with their protocol, and
what is to be held against them, are on :doc:`the card of the model </models/enso-small>`.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np

import xearth
from xearth import plotting, verify
from xearth.reference.analog import Analog
from xearth.reference.cslim import CSLIM
from xearth.reference.recharge import RechargeOscillator

sst = xearth.samples.open("kaplan_sst").load()
past = sst.sel(time=slice(None, "1981-12"))
forecasters = {
    "enso-small": xearth.load("enso-small"),
    "CSLIM-15": CSLIM.fit(past, horizon=18, modes=15),
    "LIM-15": xearth.LIM.fit(past, horizon=18, modes=15),
    "analogs": Analog.fit(past, horizon=18),
    "damped persistence": xearth.DampedPersistence.fit(past, horizon=18),
    "persistence": xearth.Persistence.fit(past, horizon=18),
}

# %%
# Starts from December 1981 to June 2002, whose 18 leads all lie in 1982-2003. The opponents learned
# from 1856-1981, as did the model.
starts = slice("1981-12", "2002-06")
fields = {
    name: xearth.hindcast(sst, one, init=starts).compute() for name, one in forecasters.items()
}
indices = {name: xearth.nino_index(field) for name, field in fields.items()}
truth = xearth.nino_index(sst)

# %%
# What chose the settings of the model, the leak guard says:


def guard(forecast, obs):
    """Print what the guard says of a forecast."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", xearth.errors.LeakageWarning)
        verify(forecast, obs, "rmse")
    for warning in said:
        print("-", warning.message)


guard(indices["enso-small"], truth)
warnings.simplefilter("ignore", xearth.errors.LeakageWarning)

# %%
# The spring barrier
# ------------------
#
# Correlation of Nino3.4 by month of the start, some twenty starts each. Forecasts that have to
# cross March to May lose their skill there, in every panel; the linear models come out on the
# wrong side. Hatched cells cannot be told from no skill (95 %, block bootstrap over starts).
kept = {"by": ["month", "lead"], "confidence": 0.95}
tables = {name: verify(index, truth, "correlation", **kept) for name, index in indices.items()}
figure = plotting.start_months_each(tables)

# %%
# Forecasters that read indices, the warm water volume above all, are fitted to 1979-2001 and judged
# on 2002-2024: other years and another analysis (ORAS5), so these panels compare with each other,
# not with those above. Their data are anomalies from the mean and trend of all years; all of them
# leak that much, and ``enso-multi`` what else the guard says.
ocean = xearth.samples.open("xro_indices").load()
early, late = slice("1979-01", "2001-12"), slice("2002-01", "2024-12")


def on_indices(learned, starts):
    """The recharge oscillator and both persistences on the indices."""
    oscillator = RechargeOscillator.fit(ocean.sel(time=learned), horizon=18)
    found = {"recharge oscillator": oscillator.forecast(ocean, init=starts).Nino34}
    own = ocean.Nino34.sel(time=learned)
    persistence = {
        "damped persistence": xearth.DampedPersistence.fit(own, horizon=18),
        "persistence": xearth.Persistence.fit(own, horizon=18),
    }
    return found | {k: one.forecast(ocean.Nino34, init=starts) for k, one in persistence.items()}


recent = slice("2001-12", "2023-06")
multi = xearth.load("enso-multi").forecast(ocean, init=recent).Nino34
guard(multi, ocean.Nino34)
after = on_indices(early, recent) | {"enso-multi": multi}
tables = {
    name: verify(index, ocean.Nino34, "correlation", **kept)
    for name, index in after.items()
    if name != "persistence"
}
figure = plotting.start_months_each(tables)

# %%
# Eras
# ----
#
# The same forecasters on two halves of the years. Above, fields, 1982-2003: the sample ends there.
# Below, indices of ORAS5, each half forecast by what the other half taught, so that the left panel
# has learned from its future (``enso-multi`` is fitted to the first half, and not in it). Bands are
# 95 % intervals of the first line.


def by_lead(some, obs):
    """Correlation by lead of forecasts by name, with the interval of the first."""
    first, *others = some
    found = {first: verify(some[first], obs, "correlation", confidence=0.95)}
    return found | {name: verify(some[name], obs, "correlation") for name in others}


def within(some, first, last):
    """The starts whose leads are all valid in these years."""
    year = next(iter(some.values())).valid_time.dt.year
    inside = ((year >= first) & (year <= last)).all("lead").values
    return {name: index.isel(init=np.flatnonzero(inside)) for name, index in some.items()}


few = {name: indices[name] for name in ("enso-small", "CSLIM-15", "LIM-15", "damped persistence")}
panels = {
    "fields, 1982-1992": by_lead(within(few, 1982, 1992), truth),
    "fields, 1993-2003": by_lead(within(few, 1993, 2003), truth),
    "indices, 1979-2001": by_lead(on_indices(late, slice("1979-01", "2000-06")), ocean.Nino34),
    "indices, 2002-2024": by_lead(after, ocean.Nino34),
}
figure, axes = plt.subplots(2, 2, figsize=(9.5, 7), sharex=True, sharey=True, layout="constrained")
for ax, (title, table) in zip(axes.flat, panels.items(), strict=True):
    plotting.skill(table, "correlation", ax=ax)
    ax.set_title(title, fontsize=10)
    ax.set_ylim(-0.8, 1.05)
    ax.legend(frameon=False, fontsize=8, loc="lower left")
    ax.label_outer()

# %%
# Two El Niños
# -------------
#
# Plumes from March (blue) and from September (red) of 1982 and of 1997, 40 members each, with what
# was observed. In March nobody knew what was coming. From September all see the event, and the
# linear model stays warm for another year: most of what the network gains over it, it gains from
# starts during the decay of these two.
shown = ("enso-small", "CSLIM-15", "damped persistence")
figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), sharey=True, layout="constrained")
for row, year in zip(axes, ("1982", "1997"), strict=True):
    for ax, name in zip(row, shown, strict=True):
        fc = forecasters[name].forecast(sst, init=[f"{year}-03", f"{year}-09"], members=40)
        plotting.plume(xearth.nino_index(fc), truth, ax=ax)
        ax.set_title(f"{name}, {year}/{int(year[2:]) + 1}", fontsize=10)
        ax.set_ylabel("Nino3.4 anomaly (K)" if name == shown[0] else "")
        if ax is not axes[0, 0]:
            ax.get_legend().remove()

# %%
# Composites
# ----------
#
# The mean December of six El Niños, of 1982, 1986, 1987, 1991, 1994 and 1997, as it was forecast
# three to nine months before. The upper row is what was seen at the starts, and in December.
years = [1982, 1986, 1987, 1991, 1994, 1997]


def composite(field, month):
    """The mean over these years of a month that is seen, or that is forecast."""
    time = "valid_time" if "valid_time" in field.coords else "time"
    chosen = field[time].dt.year.isin(years) & (field[time].dt.month == month)
    (dim,) = field[time].dims
    return field.isel({dim: np.flatnonzero(chosen.values)}).mean(dim)


maps = {
    "seen in March": composite(sst, 3),
    "seen in June": composite(sst, 6),
    "seen in September": composite(sst, 9),
    "December as it came": composite(sst, 12),
}
for name in ("enso-small", "CSLIM-15", "LIM-15"):
    for lead, month in ((9, "March"), (6, "June"), (3, "September"), (1, "November")):
        maps[f"{name}, from {month}"] = composite(fields[name].sel(lead=lead, drop=True), 12)
figure = plotting.maps(maps, columns=4, limit=2.5)

# %%
# From March hardly anything is forecast, from June the pattern, too weak. It must be: winters are
# chosen by how they turned out, and a forecast that does not know this is right to hedge. Whether
# it hedges by the right amount is a question to all years, not to these six.
