"""The demo of a nowcast: one real event, every forecast of it, scores side by side, pictures.

Every step is a call of a public function; what is here is the order, the starts and the words.
"""

from __future__ import annotations

import re
import textwrap
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from ..cf.describe import describe
from ..cf.timeaxis import TimeAxis
from ..cf.writer import to_cf
from ..data.sources import radar, samples
from ..errors import LeakageWarning
from ..forecasting.io import load, shipped
from ..reference.advection import Advection
from ..reference.persistence import Persistence
from ..verification.align import observations_at
from ..verification.one_pass.verify import verify
from .demo import compare, headline
from .files import writable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..reference.protocol import Forecaster

__all__ = ["FILES", "Entry", "differences", "entries", "on_common_cells", "run_nowcast", "table"]

#: What is written, by what it shows.
FILES = {
    "forecast": "nowcast.nc",
    "strip": "nowcast_strip.png",
    "scores": "nowcast_csi.png",
    "movie": "nowcast.gif",
}
#: How the event is called among those of a training.
EVENT = ("knmi", "20100826", "2010-08-26")
#: Leads of 5 minutes.
HORIZON = 12
#: One start each half hour; the leads of all of them lie within the event.
STARTS = pd.date_range("2010-08-26T01:00", "2010-08-26T06:30", freq="30min")
EVENTS = ("0.1 mm/h", "1 mm/h", "5 mm/h")
SCORES = ("csi", "mse", "crps_ensemble")
#: Leads, in minutes, that are printed, drawn, and compared with intervals.
PRINTED = (5, 15, 30, 45, 60)
DRAWN = (10, 20, 30, 45, 60)
COMPARED = (10, 30, 60)

_MEANT = (
    "CSI: hits among hits, misses and false alarms, at or above a rate; 1 is perfect. The CRPS of "
    "a single forecast is its mean absolute error. All at cells where every forecast has a value."
)
_OF_MEAN = (
    "CSI and MSE of an ensemble are those of its mean, which is smooth: of heavy rain its members "
    "and their probabilities say more."
)
_HOW_SURE = (
    "Intervals and p-values: paired block bootstrap over {n} starts, half an hour apart, of one "
    "event. They say how the figures vary within it, not how they would be on another day: that "
    "takes many events."
)
_NAMES = {"csi": "CSI", "mse": "MSE", "crps_ensemble": "CRPS"}


@dataclass(frozen=True)
class Entry:
    """A forecaster that takes part, and how many members it is asked for.

    Parameters
    ----------
    forecaster : Forecaster
    members : int, optional
        None of a single forecast.
    """

    forecaster: Forecaster
    members: int | None = None

    def forecast(self, rain: xr.DataArray, init: Any) -> xr.DataArray:
        """Return the forecast from one or several starts."""
        return self.forecaster.forecast(rain, init=init, members=self.members)

    @property
    def seen(self) -> str:
        """What the forecaster saw before the start, and whether this event was part of it."""
        provenance: Mapping[str, Any] = getattr(self.forecaster, "provenance", {})
        told = provenance.get("trained_on") or provenance.get("training_period")
        if not told:
            return "not trained: it sees the frames up to a start"
        if any(name in str(told).lower() for name in EVENT):
            return f"trained on {told}: this event too, so its figures here flatter it"
        return f"trained on {told}: it never saw this event"


def run_nowcast(*, init: str, members: int, paths: Mapping[str, Path]) -> None:
    """Run the whole path and write a CF file, two figures and a moving picture.

    Parameters
    ----------
    init : str
        Last observed frame of the forecast that is drawn.
    members : int
        Size of an ensemble.
    paths : mapping of str to pathlib.Path
        Where to write, by the keys of :data:`FILES`.

    Raises
    ------
    TimeAxisError
        If the event does not hold `init`, or too few frames before it.
    """
    begin = time.monotonic()
    for path in paths.values():
        writable(path)
    rain = radar.check(samples.open("knmi_radar").load())
    TimeAxis.from_array(rain["time"]).locate(init)

    headline("The data: rain over the Netherlands on 26 August 2010, as the radars of KNMI saw it")
    print(describe(rain))

    taking_part = entries(rain, members)
    headline(f"The forecast from {init.replace('T', ' ')}, an hour ahead")
    shown = {name: one.forecast(rain, init) for name, one in taking_part.items()}
    print(_amounts(shown, rain))

    headline(f"How good such forecasts are: {len(STARTS)} starts of this event")
    judged = {name: one.forecast(rain, list(STARTS)) for name, one in taking_part.items()}
    judged = on_common_cells(judged)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", LeakageWarning)
        scores, evidence = compare(judged, rain, SCORES, thresholds=EVENTS)
        spread = _spread(judged, rain)
    print(table(scores, PRINTED))
    print(_wrapped(_MEANT))
    if spread:
        print(f"{_wrapped(_OF_MEAN)}\n\nSpread of the members beside the error of their mean:")
        print(spread)
    print(f"\n{next(iter(judged))} less each other one at the same starts; is it better, at 95 %?")
    print(differences(evidence, COMPARED))
    print(_wrapped(_HOW_SURE.format(n=len(STARTS))))

    headline("What they knew of this event")
    for name, one in taking_part.items():
        print(_wrapped(f"{name}: {one.seen}", "- "))
    for message in dict.fromkeys(str(warning.message) for warning in said):
        print(_wrapped(f"the leak guard: {message}", "- "))

    headline("Files")
    _write(shown, rain, scores, paths)
    print(f"\ndone in {time.monotonic() - begin:.0f} s")


def entries(rain: xr.DataArray, members: int) -> dict[str, Entry]:
    """Return who takes part, by name: shipped nowcast models, then what needs no training.

    Examples
    --------
    >>> list(entries(samples.open("knmi_radar"), 20))[-2:]
    ['extrapolation', 'persistence']
    """
    models = [name for name in shipped() if name.startswith("nowcast")]
    start = rain.isel(time=slice(0, HORIZON + 1))
    return {
        **{name: Entry(load(name), members) for name in models},
        "extrapolation": Entry(Advection(horizon=HORIZON)),
        "persistence": Entry(Persistence.fit(start, horizon=HORIZON)),
    }


def on_common_cells(forecasts: Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Return forecasts where all of them have a value, so that none gains by what it leaves out.

    Examples
    --------
    >>> one = xr.DataArray([1.0, np.nan], dims="x", attrs={"units": "mm h-1"})
    >>> on_common_cells({"a": one, "b": one.copy(data=[2.0, 3.0])})["b"].values
    array([ 2., nan])
    """
    known = [
        one.notnull().all("member") if "member" in one.dims else one.notnull()
        for one in forecasts.values()
    ]
    seen = xr.concat(known, "forecaster", coords="minimal", compat="override").all("forecaster")
    return {
        name: one.where(seen).transpose(*one.dims).assign_attrs(one.attrs)
        for name, one in forecasts.items()
    }


def table(scores: xr.Dataset, leads: Sequence[int]) -> str:
    """Return the text table of `scores` (forecaster, lead): CSI, MSE and CRPS by lead.

    Examples
    --------
    >>> scores = xr.Dataset(
    ...     {"csi": (("forecaster", "lead", "threshold"), [[[0.9, np.nan]]]),
    ...      "mse": (("forecaster", "lead"), [[0.25]], {"units": "mm2 h-2"})},
    ...     {"forecaster": ["persistence"], "lead": ("lead", [5], {"units": "minutes"}),
    ...      "threshold": ("threshold", [0.1, 5.0], {"units": "mm h-1"})},
    ... )
    >>> print(table(scores, [5]))
    lead (minutes)                    5
    CSI, 0.1 mm h-1 and more
      persistence                  0.90
    CSI, 5 mm h-1 and more
      persistence                     -
    MSE (mm2 h-2)
      persistence                  0.25
    """
    lines = [f"{f'lead ({scores.lead.units})':28}" + "".join(f"{lead:>7}" for lead in leads)]
    for label, values in _parts(scores, ""):
        lines.append(label)
        for name in scores["forecaster"].values:
            row = values.sel(forecaster=name, lead=list(leads)).values
            lines.append(f"  {name:26}" + "".join(f"{_number(value):>7}" for value in row))
    return "\n".join(lines)


def differences(evidence: xr.Dataset, leads: Sequence[int]) -> str:
    """Return the text table of the differences that :func:`~xearth.cli.demo.compare` found.

    Examples
    --------
    >>> found = {"": -0.1, "_lower": -0.25, "_upper": -0.04}
    >>> found["_verdict"] = "yes, better (p = 0.010, n = 9)"
    >>> evidence = xr.Dataset(
    ...     {f"mse_difference{end}": (("reference", "lead"), [[value]])
    ...      for end, value in found.items()},
    ...     {"reference": ["persistence"], "lead": ("lead", [5], {"units": "minutes"})},
    ... )
    >>> print(differences(evidence, [5]))
    less persistence            lead  difference               better?
    MSE                            5  -0.100 [-0.250, -0.040]  yes (p = 0.010)
    """
    lines = []
    for name in evidence["reference"].values:
        lines.append(f"{f'less {name}':26}  lead  {'difference':23}  better?")
        one = evidence.sel(reference=name)
        kinds = [_parts(one, f"_difference{end}") for end in ("", "_lower", "_upper", "_verdict")]
        for (label, middle), *rest in zip(*kinds, strict=True):
            for lead in leads:
                numbers = [float(end.sel(lead=lead)) for end in (middle, rest[0][1], rest[1][1])]
                said = _short(str(rest[2][1].sel(lead=lead).item()))
                what = label if lead == leads[0] else ""
                value, low, high = numbers
                lines.append(
                    f"{what:26}  {lead:>4}  {value:+.3f} [{low:+.3f}, {high:+.3f}]  {said}"
                )
    return "\n".join(lines)


def _parts(scores: xr.Dataset, ending: str) -> list[tuple[str, xr.DataArray]]:
    """Return the scores with their labels, a part for each threshold."""
    found = []
    for name in (name for name in SCORES if f"{name}{ending}" in scores):
        score = scores[f"{name}{ending}"]
        if "threshold" not in score.dims:
            units = score.attrs.get("units", "1")
            text = _NAMES[name] if units == "1" else f"{_NAMES[name]} ({units})"
            found.append((text, score))
            continue
        limit = score["threshold"]
        for k, value in enumerate(limit.values):
            label = f"{_NAMES[name]}, {value:g} {limit.attrs.get('units', '')} and more"
            found.append((label, score.isel(threshold=k)))
    return found


def _short(verdict: str) -> str:
    """Return "yes, better (p = 0.010, n = 9)" as "yes (p = 0.010)"."""
    verdict = re.sub(r",? n = \d+", "", verdict)
    return verdict.replace("yes, better", "yes").replace("yes, worse", "no, worse")


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _amounts(shown: Mapping[str, xr.DataArray], rain: xr.DataArray) -> str:
    """Return the mean rain by lead, observed and forecast, where all have a value."""
    same = on_common_cells(shown)
    first = next(iter(same.values())).isel(member=0, missing_dims="ignore")
    observed = observations_at(first, rain)
    fields = on_common_cells({"observed": observed, **same})
    lines = [f"{'mean rain in mm/h at minute':28}" + "".join(f"{lead:>7}" for lead in DRAWN)]
    for name, field in fields.items():
        mean = field.sel(lead=list(DRAWN)).squeeze("init", drop=True).mean(["y", "x"])
        members = "member" in mean.dims
        middle = mean.mean("member") if members else mean
        lines.append(f"{name:28}" + "".join(f"{_number(value):>7}" for value in middle.values))
        if members:
            for share in (5, 95):
                row = mean.quantile(share / 100, "member").values
                label = f"  {share} % of the members"
                lines.append(f"{label:28}" + "".join(f"{_number(value):>7}" for value in row))
    return "\n".join(lines)


def _spread(judged: Mapping[str, xr.DataArray], rain: xr.DataArray) -> str:
    """Return lines of spread and error of each ensemble; "" if there is none."""
    lines = []
    for name, field in judged.items():
        if "member" not in field.dims:
            continue
        found = verify(field, rain, ["spread", "rmse", "spread_skill_ratio"])
        lines += [name, f"{'  lead (minutes)':28}" + "".join(f"{n:>7}" for n in PRINTED)]
        for score, text in (
            ("spread", "  spread (mm/h)"),
            ("rmse", "  error (mm/h)"),
            ("spread_skill_ratio", "  ratio; 1 is right"),
        ):
            row = found[score].sel(lead=list(PRINTED)).values
            lines.append(f"{text:28}" + "".join(f"{_number(value):>7}" for value in row))
    return "\n".join(lines)


def _write(
    shown: Mapping[str, xr.DataArray],
    rain: xr.DataArray,
    scores: xr.Dataset,
    paths: Mapping[str, Path],
) -> None:
    """Write the first forecast, and figures of all."""
    from ..plotting.animation import animate
    from ..plotting.events import by_threshold
    from ..plotting.strip import strip

    first, forecast = next(iter(shown.items()))
    to_cf(forecast, paths["forecast"], title=f"Nowcast by {first} of xearth")
    strip(shown, rain, leads=DRAWN).savefig(paths["strip"], dpi=150)
    title = f"Critical success index, {len(STARTS)} starts of one event"
    by_threshold(scores, "csi", title=title).savefig(paths["scores"], dpi=150)
    animate(shown, paths["movie"], obs=rain)
    for key, what in (
        ("forecast", f"CF-1.11, {first}"),
        ("strip", "observed and forecast"),
        ("scores", "CSI by lead"),
        ("movie", "the same as a moving picture"),
    ):
        print(f"wrote {paths[key]} ({what})")


def _wrapped(text: str, mark: str = "") -> str:
    return textwrap.fill(text, 96, initial_indent=mark, subsequent_indent=" " * len(mark))
