"""
A plume for El Niño
===================

An ensemble forecast of the tropical Pacific from June 1997, made by the model that comes with
xearth, whose training ended in 1981. Each thin line is one member.
"""

import xearth

sst = xearth.samples.open("kaplan_sst")
model = xearth.load("enso-small")
fc = sst.earthformer.forecast(model, init="1997-06", members=40)

# %%
# The index, and what was observed afterwards.
fc.earthformer.nino34().earthformer.plot.plume(obs=sst)

# %%
# The mean of the members on maps. The coast is drawn from the cells without data.
fc.earthformer.plot.maps(leads=[1, 3, 6, 9, 12, 18])
