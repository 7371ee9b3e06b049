"""The demo of a what-if: the same hour of rain, were it much weaker or stronger than usual.

The condition is the anticipated average intensity of PreDiff: the area mean over the hour is n
standard deviations from that of a climatology, in decibels. A model that can be guided draws
members towards each level, and the nearest fields hold it exactly. Members of any other radar model
are brought there exactly, each by a factor (:class:`xearth.ByFactor`); what such a factor keeps,
and what the nearest field would not, is in the table.

Source: Gao, Z. and others (2023), PreDiff, arXiv:2307.10422, section 4.2.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from ..cf.timeaxis import TimeAxis
from ..constraints.intensity import IntensityClimatology
from ..data.sources import radar, samples
from ..errors import ConfigError
from ..forecasting.io import load, shipped
from ..forecasting.steering import ways_of
from ..verification.align import observations_at
from ..verification.one_pass.verify import verify
from .demo import headline
from .files import writable
from .futures import Future, compared, exact, futures, guided, spectrum

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


__all__ = ["FILES", "run_whatif", "spectra", "strips", "table", "text_of"]

#: What is written, by what it shows.
FILES = {"figure": "whatif.png", "spectrum": "whatif_spectrum.png", "table": "whatif.csv"}
#: The radar models that ship, the one to take first.
MODELS = ("prediff-small", "nowcast-small")
#: Members of a level where none are asked for: drawn for each level, or once for all.
DRAWN_MEMBERS, MEMBERS = 4, 20
#: Standard deviations from the mean of the climatology.
LEVELS = (-4.0, -2.0, 0.0, 2.0, 4.0)
#: An anomaly of the mean itself, not of its logarithm, that is below no rain.
IMPOSSIBLE = -5.0
#: Frames of an hour; minutes before the start, and leads, that are drawn.
FRAMES, BEFORE, DRAWN = 12, (30, 15, 0), (20, 40, 60)
#: Rain that is told from none, in mm/h.
WET = 0.1
#: Wavelengths in cells that are printed.
WAVES = (16, 8, 4)

_MEANT = (
    "counted, Gaussian: how probable an hour at least so far from the mean is on that side, among "
    "the hours of the climatology, and were their decibels Gaussian. asked, found: area mean over "
    "the hour in mm/h, and the largest relative difference of any member. wet: part of the area "
    "with {wet} mm/h and more. most: the largest cell in mm/h. CRPS: against what came, which was "
    "one certain hour: it is to be least near that. Last: power of the members "
    "over that of the observed rain at wavelengths of {waves} cells, in dB, both of the rain over "
    "its mean: 0 is the texture of real rain. "
)
_FACTOR = (
    "Members are brought to a level by a factor; 'nearest' is what the nearest fields in squared "
    "distance, not negative, would be instead."
)
#: Of the spectra, by whether members are drawn towards the levels.
_TITLES = {
    True: "Members drawn towards each level",
    False: "A factor keeps the texture of the members",
}
_GUIDED = (
    "Members are drawn towards a level; 'exact' are the fields nearest to them in squared "
    "distance, not negative, that hold it. Guidance does not draw from the law of rain given the "
    "level."
)
_CLIMATOLOGY = (
    "mu and sigma are of 10 log10 of the area mean over an hour, from all {count} runs of {frames} "
    "frames in the radar sample that ships: one event, 26 August 2010. The probabilities are "
    "those of that climatology; of another day or season they say nothing, and overlapping hours "
    "of one event are far fewer than they are many."
)


def run_whatif(
    *, init: str, members: int | None, model: str | None, paths: Mapping[str, Path]
) -> None:
    """Run the whole path and write a table and two figures.

    Parameters
    ----------
    init : str
        Last observed frame.
    members : int, optional
        Of each future.
    model : str, optional
        Name of a radar model that ships, or path of a file; by default the first that ships.
    paths : mapping of str to pathlib.Path
        Where to write, by the keys of :data:`FILES`.

    Raises
    ------
    TimeAxisError
        If the event does not hold `init`, or too few frames before it.
    ConfigError
        If no radar model ships.
    """
    begin = time.monotonic()
    for path in paths.values():
        writable(path)
    rain = radar.check(samples.open("knmi_radar").load())
    TimeAxis.from_array(rain["time"]).locate(init)
    forecaster = load(_model() if model is None else model)
    drawn = "guided" in ways_of(forecaster)
    count = (DRAWN_MEMBERS if drawn else MEMBERS) if members is None else members

    headline("How strong is an hour of rain?")
    known = IntensityClimatology.of(rain, frames=FRAMES)
    print(_wrapped(_CLIMATOLOGY.format(count=len(known.sample), frames=FRAMES)))
    print(f"mu = {known.mean[0]:.2f} dB, sigma = {known.sd[0]:.2f} dB of 1 mm/h")

    how = "drawn towards" if drawn else "brought to"
    headline(
        f"{count} members of {forecaster.name} from {init.replace('T', ' ')}, {how} each level"
    )
    draw = partial(forecaster.forecast, rain, init=init, members=count)
    free, found = draw(), []
    plain = IntensityClimatology.of(rain, frames=FRAMES, transform="none")
    for levels, scale in ((LEVELS, known), ((IMPOSSIBLE,), plain)):
        for level in levels:
            found += guided(draw, scale, [level]) if drawn else futures(free, scale, [level])
            one = found[-1]
            print(_wrapped(f"{one.label}: {one.refused or one.constraint}", "- "), flush=True)
    others = exact(found) if drawn else compared(free, found)

    headline("Is it still rain?")
    rows = table(free, [*found, *others], rain)
    print(text_of(rows))
    meant = _MEANT.format(wet=WET, waves=", ".join(map(str, WAVES)))
    print(_wrapped(meant + (_GUIDED if drawn else _FACTOR)))

    headline("Files")
    rows.to_csv(paths["table"])
    strips(free, found, rain).savefig(paths["figure"], dpi=150)
    lines = found if drawn else [*found, *others]
    spectra(free, lines, rain, _TITLES[drawn]).savefig(paths["spectrum"], dpi=150)
    for key, what in (
        ("figure", "what was seen, what came, and the futures"),
        ("spectrum", "power by wavelength"),
        ("table", "the table"),
    ):
        print(f"wrote {paths[key]} ({what})")
    print(f"\ndone in {time.monotonic() - begin:.0f} s")


def _model() -> str:
    """Return the first of the radar models that ships."""
    found = [name for name in MODELS if name in shipped()]
    if not found:
        raise ConfigError(
            f"demo 'whatif': expected one of {', '.join(MODELS)} among the models that ship, found "
            f"{', '.join(shipped()) or 'none'}. Install a release with its artifacts."
        )
    return found[0]


# -- what is kept ---------------------------------------------------------------------------------


def table(free: xr.DataArray, found: Sequence[Future], rain: xr.DataArray) -> pd.DataFrame:
    """Return a row of each future, of the members as they are, and of what was observed.

    Parameters
    ----------
    free : DataArray (init, lead, member, y, x)
    found : sequence of Future
    rain : DataArray (time, y, x)
    """
    observed = observations_at(free.isel(member=0, drop=True), rain)
    real = spectrum(observed)
    measure = found[0].constraint.measure
    rows = {
        "observed": {"found": float(measure(observed).mean()), **_kept(observed, real)},
        "members": {"found": float(measure(free).mean()), **_scored(free, rain, real)},
    }
    for one in found:
        known, n = one.constraint.climatology, one.constraint.n
        row: dict[str, Any] = {
            "counted": known.probability(n), "gaussian": known.gaussian_probability(n),
            "asked": one.asked,
        }  # fmt: skip
        if one.members is not None:
            excess = one.constraint.violation(one.members)
            row["found"] = float(measure(one.members).mean())
            row["off"] = float(excess.max()) / one.asked
            row |= _scored(one.members, rain, real)
        rows[one.label] = row
    columns = ["counted", "gaussian", "asked", "found", "off", "wet", "most", "crps"]
    return pd.DataFrame.from_dict(rows, orient="index").reindex(
        columns=[*columns, *(f"dB_{cells}" for cells in WAVES)]
    )


def _scored(members: xr.DataArray, rain: xr.DataArray, real: xr.DataArray) -> dict[str, float]:
    scores = verify(members, rain, "crps_ensemble")
    return {"crps": float(scores["crps_ensemble"].mean()), **_kept(members, real)}


def _kept(field: xr.DataArray, real: xr.DataArray) -> dict[str, float]:
    """Return wet area, largest cell and spectrum relative to the observed one."""
    excess = spectrum(field) - real
    powers = {f"dB_{n}": float(excess.sel(wavelength=n, method="nearest")) for n in WAVES}
    wet = (field >= WET).where(field.notnull())
    return {"wet": float(wet.mean()), "most": float(field.max()), **powers}


def text_of(rows: pd.DataFrame) -> str:
    """Return the table as text.

    Examples
    --------
    >>> print(text_of(pd.DataFrame({"counted": [0.0], "asked": [0.5], "off": [3e-8]}, ["n = 2"])))
                       counted     asked       off
    n = 2                0.0 %     0.500     3e-08
    """
    formats = {
        "counted": lambda v: f"{100 * v:.1f} %", "gaussian": lambda v: f"{100 * v:.2g} %",
        "off": lambda v: f"{v:.0e}", "wet": lambda v: f"{100 * v:.0f} %",
        "most": lambda v: f"{v:.0f}",
    }  # fmt: skip
    lines = [f"{'':16}" + "".join(f"{name:>10}" for name in rows.columns)]
    for label, row in rows.iterrows():
        line = f"{label:16}"
        for name, value in row.items():
            form = formats.get(str(name), _decimals(str(name)))
            line += f"{'-' if pd.isna(value) else form(value):>10}"
        lines.append(line)
    return "\n".join(lines)


def _decimals(name: str) -> Any:
    return (lambda v: f"{v:+.1f}") if name.startswith("dB") else (lambda v: f"{v:.3f}")


# -- figures --------------------------------------------------------------------------------------


def strips(free: xr.DataArray, found: Sequence[Future], rain: xr.DataArray) -> Any:
    """Draw what was seen and what came, and below two members of each future.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ..cf.discover import discover
    from ..plotting.frames import draw_frame, stamp
    from ..plotting.scales import scale_of
    from ..plotting.strip import scale_bar
    from ..plotting.style import pyplot

    start, axes, scale = (
        free["init"].values[0],
        discover(free, require=("lead", "y", "x")),
        scale_of(free),
    )
    seen = [rain.sel(time=start - np.timedelta64(n, "m")) for n in BEFORE]
    came = observations_at(free.isel(member=0, drop=True), rain).squeeze("init", drop=True)
    top = [(f"seen, {stamp(one['time'].values)}", one) for one in seen]
    top += [(f"came, {lead} min later", came.sel(lead=lead)) for lead in DRAWN]
    wide, tall = 1.7 * len(top) + 2.2, 1.7 * (len(found) + 1) + 0.9
    figure, grid = pyplot().subplots(
        len(found) + 1, len(top), squeeze=False, sharex=True, sharey=True, layout="compressed",
        figsize=(wide, tall),
    )  # fmt: skip
    for ax, (title, frame) in zip(grid[0], top, strict=True):
        draw_frame(ax, frame, axes, scale)
        ax.set_title(title, fontsize=8)
    for line, one in zip(grid[1:], found, strict=True):
        _draw_future(line, one, lambda ax, frame: draw_frame(ax, frame, axes, scale))
    for ax in grid.flat:
        ax.set(xlabel="", ylabel=ax.get_ylabel() if ax in grid[:, 0] else "", xticks=[], yticks=[])
    for k, ax in enumerate(grid[1]):
        ax.set_title(f"member {k // len(DRAWN)}, {DRAWN[k % len(DRAWN)]} min", fontsize=8)
    for ax, row in zip(grid[:, 0], [None, *found], strict=True):
        ax.set_ylabel("observed" if row is None else _says(row), fontsize=8)
    scale_bar(figure, grid, "rain (mm/h)")
    figure.suptitle(f"What if? The hour from {stamp(start, day=True)}", fontsize=11)
    return figure


def _draw_future(line: Sequence[Any], one: Future, draw: Any) -> None:
    """Draw two members, or that there are none."""
    if one.members is None:
        for ax in line:
            ax.patch.set(facecolor="white", hatch="///", edgecolor="0.8")
        reason = textwrap.fill(one.refused.partition(". ")[0], 44)
        ax = line[-1]
        text = ax.text(
            0.9, 0.5, reason, transform=ax.transAxes, ha="right", va="center", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "0.6"},
        )  # fmt: skip
        text.set_in_layout(False)
        return
    count = one.members.sizes["member"]
    for k, ax in enumerate(line):
        member, lead = k // len(DRAWN), DRAWN[k % len(DRAWN)]
        if member < count:
            draw(ax, one.members.isel(init=0, member=member).sel(lead=lead))


def _says(one: Future) -> str:
    """Return level, area mean and probability, in lines."""
    if one.members is None:
        return f"{one.label}\nrefused"
    known, n = one.constraint.climatology, one.constraint.n
    return (
        f"{one.label}\n{one.asked:.2f} mm/h\ncounted {100 * known.probability(n):.2g} %\n"
        f"Gaussian {100 * known.gaussian_probability(n):.2g} %"
    )


def spectra(free: xr.DataArray, found: Sequence[Future], rain: xr.DataArray, title: str) -> Any:
    """Draw the power of rain, over its mean, by wavelength.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ..plotting.style import COLORS, pyplot

    observed = observations_at(free.isel(member=0, drop=True), rain)
    cell = abs(float(rain["x"][1] - rain["x"][0])) / 1000
    figure, ax = pyplot().subplots(figsize=(6.4, 4.2), layout="constrained")
    colors = pyplot().get_cmap("plasma")
    lines: list[tuple[str, xr.DataArray, dict[str, Any]]] = [
        ("observed", observed, {"color": "0", "lw": 2}),
        ("members", free, {"color": COLORS[4], "lw": 4}),
    ]
    for one in found:
        if one.members is not None:
            color = colors(0.45 - one.constraint.n / 9)
            style = {"color": color, "lw": 1.3, "ls": ":" if one.how else "-"}
            lines.append((one.label, one.members, style))
    for label, field, style in lines:
        power = spectrum(field)
        ax.plot(power["wavelength"] * cell, power, label=label, **style)
    ax.set(xscale="log", xlabel="wavelength (km)", ylabel="power over the squared mean (dB)")
    ax.set_xticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
    ax.xaxis.set_inverted(True)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=8, ncols=2)
    ax.set_title(title, fontsize=10)
    return figure


def _wrapped(text: str, mark: str = "") -> str:
    return textwrap.fill(text, 96, initial_indent=mark, subsequent_indent=" " * len(mark))
