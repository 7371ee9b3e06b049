"""
A radar nowcast
===============

Rain over the Netherlands on 26 August 2010, as the radars of KNMI saw it, one frame every five
minutes. What a nowcast has to beat is set beside it: *persistence*, the last frame as it is, and
*extrapolation*, the last frame carried along the motion of the last three. The nowcast is
``nowcast-small``, 20 members; it was trained on this event and four others, so that its figures
here are not those of an event it never saw: :doc:`/models/nowcast-small` has these.
"""

import xearth
from xearth import plotting, verification
from xearth.reference.advection import Advection

rain = xearth.samples.open("knmi_radar").load()
# one start each half hour; the twelve leads of all of them lie within the event
starts = ["2010-08-26T03:30", "2010-08-26T04:00", "2010-08-26T04:30"]
past = rain.sel(time=slice(None, starts[0]))
forecasts = {
    "nowcast-small": rain.earthformer.forecast("nowcast-small", init=starts, members=20),
    "extrapolation": Advection(horizon=12).forecast(rain, init=starts),
    "persistence": xearth.Persistence.fit(past, horizon=12).forecast(rain, init=starts),
}

# %%
# One start as a strip
# --------------------
# White is no rain; gray is where there is no value. Air from beyond the sight of the radars is not
# known, so that extrapolation knows less with each lead: its gray grows from where the air comes.
plotting.strip(forecasts, rain, init=starts[-1], leads=[5, 20, 40, 60])

# %%
# The same from the accessor, one forecast at its own leads, as a strip or a moving picture
# (``fc.earthformer.plot.animate("nowcast.gif", obs=rain)``).
fc = forecasts["nowcast-small"].sel(init=starts[-2])
fc.earthformer.plot.strip(obs=rain, leads=[15, 45], members=2, exceeding="1 mm/h")

# %%
# Did it rain where it was said?
# ------------------------------
# The critical success index, hits among hits, misses and false alarms, at three intensities. A
# forecast is not to gain from cells that it leaves out: all are scored where extrapolation has a
# value. Of the ensemble it is the mean that is scored, which seldom reaches 5 mm/h.
seen = forecasts["extrapolation"].notnull()
same = {name: fc.where(seen).assign_attrs(fc.attrs) for name, fc in forecasts.items()}
events = ["0.1 mm/h", "1 mm/h", "5 mm/h"]
scores = {name: xearth.verify(fc, rain, "csi", thresholds=events) for name, fc in same.items()}
plotting.by_threshold(scores, "csi")

# %%
# Yes or no, when the answer is a chance
# --------------------------------------
# Members also tell how likely an event is. Where to say yes for the best score follows from the
# chances themselves, :func:`xearth.verification.expected_yes`; the answer dares more at 5 mm/h than
# the mean does.
chance = xearth.load("nowcast-small").probability(rain, [5.0], init=starts).squeeze()
said = verification.expected_yes(chance.where(seen))
event = (xearth.observations_at(said, rain) >= 5.0).where(said.notnull())
hits = (said * event).sum(["init", "y", "x"])
either = ((said + event) > 0).sum(["init", "y", "x"])
print("CSI at 5 mm/h, by lead:", (hits / either).values.round(2))

# %%
# Nearly, or not at all?
# ----------------------
# A cell is 2 km wide, and a shower that comes down one cell off is a miss and a false alarm. The
# fractions skill score compares how much of a neighborhood has rain. It needs fields without gaps,
# here the square of 180 km in the middle, where all forecasts have values for half an hour. Of the
# ensemble it is the probability-matched mean: the pattern of the mean with the values of members.
inside = {"lead": slice(0, 6), "y": slice(60, 150), "x": slice(80, 170)}
truth = xearth.observations_at(forecasts["persistence"], rain)
matched = verification.combine_members(forecasts["nowcast-small"], "matched mean")
single = forecasts | {"nowcast-small": matched}
fss = {
    name: verification.fss(
        fc.isel(inside),
        truth.isel(inside),
        thresholds=events,
        window=[1, 5, 11, 21, 41],
        border="valid",
        dim="init",
    )
    for name, fc in single.items()
}
plotting.by_scale(fss, leads=[5, 30], cell="2 km")

# %%
# Three starts of one event say how the figures are made, not which forecast is better; that takes
# many events, with intervals over them.
