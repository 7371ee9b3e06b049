"""
How good is ``enso-small``?
===========================

A forecast proves nothing; a hindcast over twenty years, set beside forecasts that need no
network, begins to. Starts from 1982 to 2002, every second month to keep this page quick, are
forecast 18 months ahead and scored in one pass.
"""

import warnings

import matplotlib.pyplot as plt

import xearth
from xearth import observations_at, plotting, verify
from xearth.verification import rank_histogram

sst = xearth.samples.open("kaplan_sst").load()
starts = sst.time.sel(time=slice("1982-01", "2002-05")).values[::2]
model = xearth.load("enso-small")
hindcast = xearth.hindcast(sst, model, init=starts, members=10).compute()

# %%
# The same starts by three references, fitted to the years before: the linear inverse model (LIM)
# and both kinds of persistence.
past = sst.sel(time=slice(None, "1981-12"))
references = {
    "LIM": xearth.LIM.fit(past, horizon=18, modes=15),
    "damped persistence": xearth.DampedPersistence.fit(past, horizon=18),
    "persistence": xearth.Persistence.fit(past, horizon=18),
}
others = {
    name: reference.forecast(sst, init=starts, members=10) for name, reference in references.items()
}

# %%
# Every score, its 95 % interval, and the difference from each reference. What the model has seen
# travels with its forecasts, so the leak guard can speak up:
names = ["nino34_correlation", "nino34_rmse", "nino34_crps_fair"]
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always", xearth.errors.LeakageWarning)
    scores = verify(hindcast, sst, names, confidence=0.95, reference=others)
for warning in said:
    if issubclass(warning.category, xearth.errors.LeakageWarning):
        print(warning.message, "\n")

# %%
# That is true. The weights were trained on 1856-1981, but when to stop, and by how much to widen
# the ensemble, was decided by these very years. **What follows is therefore the score on
# validation years, and flatters the model by an amount nobody knows.** The references had no such
# help.
#
# Correlation and CRPS of Nino3.4 by lead; shaded is the interval over starts.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", xearth.errors.LeakageWarning)
    table = {"enso-small": scores}
    for name, other in others.items():
        table[name] = verify(other, sst, names)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
plotting.skill(table, "nino34_correlation", ax=axes[0])
plotting.skill(table, "nino34_crps_fair", ax=axes[1])

# %%
# Is the model better, or lucky? Two curves whose bands overlap may still differ for sure, as a
# hard year is hard for both. The interval of the *difference* at the same starts answers; below
# zero the model has the lower CRPS.
ax = plotting.skill(scores, "nino34_crps_fair_difference")

# %%
# In words, for four leads:
for name in others:
    for lead in (3, 6, 12, 18):
        verdict = scores.nino34_crps_fair_difference_verdict.sel(reference=name, lead=lead)
        print(f"{name:18s} lead {lead:2d}: {verdict.item()}")

# %%
# Where the skill is lost: the same score for each month of the start. Whether they begin in
# September, November or January, forecasts hold their skill until about March: the spring
# barrier. Hatched cells cannot be told from no skill; each holds some twenty starts only.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", xearth.errors.LeakageWarning)
    by_month = verify(hindcast, sst, "nino34_correlation", by=["month", "lead"], confidence=0.95)
ax = plotting.start_months(by_month, "nino34_correlation")

# %%
# Does the ensemble know how wrong it is? But for the first months spread and error of the index
# agree within a tenth or so, and the truth falls into every rank about equally often. Again: the
# width of the ensemble was chosen on these years.
index, truth = xearth.nino_index(hindcast), xearth.nino_index(sst)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", xearth.errors.LeakageWarning)
    spread = verify(index, truth, ["spread", "skill", "spread_skill_ratio"])
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
plotting.spread_skill(spread, ax=axes[0])
ranks = rank_histogram(index, observations_at(index, truth), dim=("init", "lead"))
plotting.rank_histogram(ranks, n=len(starts), ax=axes[1])
axes[1].set_title("all leads", fontsize=9)
print("spread / error:", spread.spread_skill_ratio.sel(lead=[1, 3, 6, 12, 18]).values.round(2))

# %%
# The band of the histogram counts each start once, as its 18 leads are not independent of each
# other (nor are neighboring starts, so that it is still too narrow).
