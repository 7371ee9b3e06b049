"""
What if it rained as rarely seen?
=================================

The same hour of rain, were it far weaker or stronger than usual: members of a radar nowcast that
hold an intensity, as `PreDiff <https://arxiv.org/abs/2307.10422>`_ asks for it, :math:`\\mu + n
\\sigma` of a climatology of sequences. ``xearth demo whatif`` does the same from the command line.
"""

import xearth
from xearth import plotting

rain = xearth.samples.open("knmi_radar").load()

# %%
# How strong is an hour of rain?
# ------------------------------
# Mean and standard deviation of the area mean in decibels, over all runs of twelve frames. The
# sample that ships is one event, so the probabilities are those of this morning and of no other:
# none of its hours is two standard deviations away.
known = xearth.IntensityClimatology.of(rain, frames=12)
levels = [xearth.IntensityAnomaly(known, n) for n in (-4, -2, 0, 2, 4)]
for level in levels:
    gaussian = 100 * known.gaussian_probability(level.n)
    print(f"n = {level.n:g}: {known.intensity(level.n):.2f~}; Gaussian {gaussian:.2g} %")

# %%
# Of the mean itself in place of its logarithm, five standard deviations down is less than no rain.
# That is refused, before anything is drawn.
plain = xearth.IntensityClimatology.of(rain, frames=12, transform="none")
try:
    xearth.IntensityAnomaly(plain, -5).bound
except xearth.errors.ConstraintError as error:
    print(error)

# %%
# Futures that hold it
# --------------------
# Each member is brought to the level by a factor. The first row is what came, which is a little
# stronger than n = 1.
wetter = xearth.ByFactor(levels[3])
one = rain.earthformer.forecast(
    "nowcast-small", init="2010-08-26T04:30", members=4, constraints=[wetter], impose="projected"
)
print(one.attrs["xearth_constraints"])

# %%
# A forecast that has been made is brought there by :func:`xearth.impose`, from whatever model.
free = rain.earthformer.forecast("nowcast-small", init="2010-08-26T04:30", members=4)
held = {f"n = {level.n:g}": xearth.impose(free, xearth.ByFactor(level)) for level in levels}
first = {name: fc.isel(member=0, drop=True) for name, fc in held.items()}
plotting.strip(first, rain, leads=[20, 40, 60], title="An hour of rain at five intensities")

# %%
# Futures that are drawn
# ----------------------
# A diffusion model can be guided: in every step what it predicts is moved towards the level, and
# the steps that follow make rain of it. The audit says how near it came; ``impose="exact"`` takes
# the nearest fields that hold the level in the end. Here for a part of the field, with a
# climatology of its own; the strip leaves out the margin where unseen air came in from the west.
part = rain.isel(y=slice(52, 156), x=slice(22, 156))
level = xearth.IntensityAnomaly(xearth.IntensityClimatology.of(part, frames=12), 2)
drawn = part.earthformer.forecast(
    "prediff-small", init="2010-08-26T04:30", members=2, constraints=[level], impose="guided"
)
print(drawn.attrs["xearth_constraints"])
rough = xearth.SpectrumSlope((4, 26))
came = xearth.observations_at(drawn.isel(member=0, drop=True), part)
for name, fc in {"drawn": drawn, "observed": came}.items():
    print(f"slope of the spectrum, {name}: {float(rough.measure(fc).mean()):.2f}")
east = {"x": slice(30, None)}
two = {f"member {k}": drawn.isel(east).isel(member=k, drop=True) for k in (0, 1)}
plotting.strip(two, part.isel(east), leads=[20, 40, 60], title="Drawn towards n = 2")

# %%
# Is it still rain?
# -----------------
# A factor keeps the texture. The nearest field that is not negative has the same added to every
# cell instead: at n = 4 it drizzles everywhere. The slope of the spectrum does not see a constant;
# the wet part of the area does.
wet = xearth.AreaFraction(above=xearth.Q(0.1, "mm/h"), per="horizon")
strong = levels[-1]
middle = {"y": slice(52, 156), "x": slice(52, 156)}
nearest = xearth.impose(free, [strong, xearth.NonNegative()])
observed = xearth.observations_at(free.isel(member=0, drop=True), rain)
shown = {"observed": observed, "members": free, **held, "n = 4, nearest": nearest}
print(f"{'':16} mean (mm/h)   wet area   slope   CRPS (mm/h)")
for name, fc in shown.items():
    mean = float(xearth.AreaMean(per="horizon").measure(fc).mean())
    area = 100 * float(wet.measure(fc).mean())
    slope = float(rough.measure(fc.isel(middle)).mean())
    crps = "-"
    if "member" in fc.dims:
        crps = f"{float(xearth.verify(fc, rain, 'crps_ensemble').crps_ensemble.mean()):.3f}"
    print(f"{name:16} {mean:11.3f} {area:9.0f} % {slope:7.2f} {crps:>13}")

# %%
# What the figures can not say: the factor gives the members of this forecast another intensity, not
# the weather that would have had it. Rain of four standard deviations more comes with other clouds,
# which only a law of the fields, conditioned on it, knows. Guidance moves what a diffusion model
# draws, which is nearer to that; it is not that law either.
