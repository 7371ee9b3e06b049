"""
An archive as it comes: GEOS in SubX
====================================

Eleven years of subseasonal hindcasts of the Madden-Julian index RMM1, four members and 45 days,
labeled as the SubX archive labels them. Nothing is renamed by hand.
"""

import matplotlib.pyplot as plt

import xearth
from xearth import EMOS, as_hindcast, observations_at, plotting, verify
from xearth.verification import rank_histogram, reliability

raw = xearth.samples.open("geos_rmm1")
observed = xearth.samples.open("rmm").rmm1
print("in the file:", raw.lead.values[:3], raw.lead.attrs["units"])

# %%
# SubX labels a daily mean by its middle: 0.5 is the day of the start. Whole days elapsed are what
# decides which observation belongs to a forecast, and ``valid_time`` says which.
hindcast = as_hindcast(raw)
print("here:", hindcast.lead.values[:3], hindcast.lead.attrs["units"])
print(hindcast.lead.attrs["comment"])
print(hindcast.valid_time.values[0, :3])

# %%
# Scores by lead in one pass, with the interval that eleven years of starts allow. Starts five
# days apart see the same oscillation; the blocks of the bootstrap keep that.
names = ["correlation", "crps_fair", "bias", "spread", "skill", "spread_skill_ratio"]
scores = verify(hindcast, observed, names, confidence=0.95)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
plotting.skill(scores, "correlation", ax=axes[0])
plotting.skill(scores, "crps_fair", ax=axes[1])

# %%
useful = scores.lead.where(scores.correlation > 0.5).max().item()
certain = scores.lead.where(scores.correlation_lower > 0.5).max().item()
print(f"correlation above 0.5 up to day {useful:.0f}, its interval up to day {certain:.0f}")

# %%
# The ensemble does not know how wrong it is: its members start nearly equal, and the truth falls
# above all four three times as often as it should. Part of that is a mean error from the first
# day on. The observed index keeps the variation from year to year, and whatever normals the
# forecasts depart from, they are others.
print("mean error:", scores.bias.sel(lead=[0, 7, 14, 28]).values.round(2))
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
plotting.spread_skill(scores, ax=axes[0])
truth = observations_at(hindcast, observed)
week = slice(7, 13)
ranks = rank_histogram(hindcast.sel(lead=week), truth.sel(lead=week), dim=("init", "lead"))
plotting.rank_histogram(ranks, n=hindcast.sizes["init"], ax=axes[1])
axes[1].set_title("days 7 to 13", fontsize=9)

# %%
# Probabilities follow: of an active phase, RMM1 of 1 or more, in the second week.
table = reliability(
    hindcast.sel(lead=week), truth.sel(lead=week), thresholds="1", dim=("init", "lead")
)
figure = plotting.reliability(table, title="RMM1 of 1 or more, days 7 to 13")

# %%
# A calibration learns from 1999 to 2004 what to do about it, and is judged on the years after.
# Members of a calibrated forecast are quantiles, for which the CRPS of the ensemble is the one to
# take.
emos = EMOS.fit(hindcast, observed, by="lead", training=slice("1999", "2004"))
later = hindcast.sel(init=slice("2005-03", None))
calibrated = emos.apply(later)
gain = verify(
    calibrated,
    observed,
    ["crps_ensemble", "spread_skill_ratio"],
    confidence=0.95,
    reference={"as it comes": later},
)
ax = plotting.skill(gain, "crps_ensemble_difference")

# %%
print("CRPS after calibration less CRPS before:")
for lead in (0, 7, 14, 28):
    here = gain.sel(lead=lead, reference="as it comes")
    print(
        f"day {lead:2d}: {here.crps_ensemble_difference:+.3f}; distinguishable? "
        f"{here.crps_ensemble_difference_verdict.item()}"
    )

# %%
# The guard found nothing to warn of. That is not much: the file does not say from which years its
# normals were taken, and what is not said cannot be checked (:doc:`../guide/verification`).
