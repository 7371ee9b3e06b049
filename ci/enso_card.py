"""Rebuild the tables, the figures and the card of enso-small from what the package ships.

    python ci/enso_card.py                 # writes docs/models/enso-small.rst and its figures
    python ci/enso_card.py --out elsewhere

Reads the sample data and the shipped file alone, runs every forecast anew, and states for each
number the years, the protocol and the uncertainty. Tables that the training scripts left in the
folder (``enso-small-table.rst``, ``enso-multi-table.rst``) go into the card as they are. A few
minutes on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr

from xearth import plotting
from xearth.data.sources import samples
from xearth.errors import LeakageWarning
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.io import ARTIFACTS, load, shipped
from xearth.reference.climatology import Climatology
from xearth.reference.cslim import CSLIM
from xearth.reference.lim import LIM
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.reference.recharge import RechargeOscillator
from xearth.verification import compare, observations_at, verify
from xearth.verification.scores.indices import nino_index, running_mean

NAME = "enso-small"
OUT = Path(__file__).parents[1] / "docs" / "models"
LEARN = slice(None, "1981-12")
FIRST, LAST = "1981-12", "2003-12"  # start and end of what is judged
MEMBERS = 40
CONFIDENCE = 0.95
LEVEL = 0.9
SHOWN = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 18)
FEW = (3, 6, 9, 12)
OPPONENTS = ("LIM-15", "CSLIM-15", "damped persistence", "persistence", "climatology")
CHECK = "1997-06"  # start of the forecast that tests compare with the card

# --- forecasts ----------------------------------------------------------------------------------


@dataclass
class Case:
    """What is judged: index forecasts of the model and of its opponents, and the truth.

    ``months``, ``ensembles``: (init, lead[, member]) of single months; ``means``: trailing 3-month
    means, from the third lead on; ``seconds`` what the model took.
    """

    model: Any
    sst: xr.DataArray
    months: dict[str, xr.DataArray] = field(default_factory=dict)
    ensembles: dict[str, xr.DataArray] = field(default_factory=dict)
    means: dict[str, xr.DataArray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @cached_property
    def truth(self) -> xr.DataArray:
        """Nino3.4 of the months."""
        return nino_index(self.sst)

    @cached_property
    def truth_means(self) -> xr.DataArray:
        """Trailing 3-month means of Nino3.4."""
        return running_mean(self.truth, 3)

    @property
    def starts(self) -> slice:
        """Starts whose every lead is judged within 1982-2003."""
        last = pd.Period(LAST, "M") - int(self.model.horizon)
        return slice(FIRST, str(last))

    @property
    def n(self) -> int:
        """Number of starts."""
        return int(self.months[NAME].sizes["init"])

    def scores(self, forecast: xr.DataArray, truth: xr.DataArray, *names: str, **more: Any) -> Any:
        """Verify with intervals, and keep what the leak guard says."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LeakageWarning)
            found = verify(forecast, truth, list(names), confidence=CONFIDENCE, **more)
        self.said += [str(one.message) for one in caught if one.category is LeakageWarning]
        return found


def forecasts(model: Any, sst: xr.DataArray) -> Case:
    """Run the model and its opponents, fit to 1856-1981, on the same starts."""
    case = Case(model, sst)
    past, horizon = sst.sel(time=LEARN), int(model.horizon)
    made = {
        NAME: model,
        "LIM-15": LIM.fit(past, horizon=horizon, modes=15),
        "CSLIM-15": CSLIM.fit(past, horizon=horizon, modes=15),
        "damped persistence": DampedPersistence.fit(past, horizon=horizon),
        "persistence": Persistence.fit(past, horizon=horizon),
        "climatology": Climatology.fit(past, horizon=horizon),
    }
    # the linear models of the literature forecast 3-month means themselves
    of_means = {
        "LIM-15": LIM.fit(past, horizon=horizon, modes=15, smoothing=3),
        "CSLIM-15": CSLIM.fit(past, horizon=horizon, modes=15, smoothing=3),
    }

    def index_of(one: Any, members: int | None = None) -> xr.DataArray:
        # a hindcast says what its model has seen, which the leak guard reads
        return nino_index(hindcast(sst, one, init=case.starts, members=members)).compute()

    for name, one in made.items():
        begin = time.perf_counter()
        case.ensembles[name] = index_of(one, MEMBERS)
        case.seconds[name] = time.perf_counter() - begin
        case.months[name] = index_of(one)
        if name in of_means:
            means = index_of(of_means[name])
        else:
            means = running_mean(case.months[name], 3, history=case.truth)
        case.means[name] = means.isel(lead=slice(2, None))
    return case


# --- words --------------------------------------------------------------------------------------


def listed(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a list-table of reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [f"   {'*' if k == 0 else ' '} - {cell}" for k, cell in enumerate(row)]
    return "\n".join(lines)


def interval(value: Any, low: Any, high: Any, sign: str = "") -> str:
    """Return "0.83 [0.70, 0.91]"."""
    value, low, high = (round(float(x), 2) + 0.0 for x in (value, low, high))  # no -0.00
    if np.isnan(value):
        return "-"
    if np.isnan(low):
        return f"{value:{sign}.2f}"
    return f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def told(verdict: str) -> str:
    """Return "yes, better", "yes, worse" or "no" of a verdict."""
    return str(verdict).partition(" (")[0]


def of(scores: xr.Dataset, name: str, sign: str = "") -> str:
    """Return a score of one lead with its interval."""
    return interval(scores[name], scores[f"{name}_lower"], scores[f"{name}_upper"], sign)


def paragraph(text: str) -> str:
    """Break a text into lines."""
    return textwrap.fill(" ".join(text.split()), 99, break_long_words=False, break_on_hyphens=False)


def bullet(text: str) -> str:
    """Break an item of a list into lines."""
    return textwrap.fill(
        " ".join(text.split()), 99, initial_indent="- ", subsequent_indent="  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def leads_in_words(leads: Sequence[int], of_all: Sequence[int]) -> str:
    """Return "every lead 3-12" or "the leads 3, 4 and 7" or "no lead"."""
    if not leads:
        return f"none of the leads {of_all[0]}-{of_all[-1]}"
    if list(leads) == list(of_all):
        return f"every lead {of_all[0]}-{of_all[-1]}"
    *most, last = (str(lead) for lead in leads)
    return f"lead {last}" if not most else f"the leads {', '.join(most)} and {last}"


def heading(text: str, mark: str = "-") -> str:
    """Return a heading."""
    return f"{text}\n{mark * len(text)}"


def demoted(text: str, marks: str = "~^") -> str:
    """Return a fragment whose headings, of whatever levels, are those below a section.

    Comments at its top are left out.
    """
    lines = text.splitlines()
    while lines and (not lines[0].strip() or re.match(r"\.\. (?!_)[^:]*$", lines[0])):
        lines.pop(0)
    found: list[str] = []
    for k in range(1, len(lines)):
        rule = re.fullmatch(r"([=\-~^\"'`#*+])\1{2,}", lines[k])
        title = lines[k - 1]
        alone = k < 2 or not lines[k - 2].strip()
        if rule and alone and title[:1].strip() and len(lines[k]) >= len(title):
            if rule[1] not in found:
                found.append(rule[1])
            lines[k] = marks[min(found.index(rule[1]), len(marks) - 1)] * len(lines[k])
    return "\n".join(lines).strip()


# --- tables -------------------------------------------------------------------------------------


def shown(scores: xr.Dataset) -> list[int]:
    """Return the leads of a table."""
    return [lead for lead in SHOWN if lead in scores["lead"].values]


def against(scores: xr.Dataset, score: str) -> str:
    """Return a score by lead, and per opponent the difference, its interval and the verdict."""
    names = [name for name in OPPONENTS if name in scores["reference"].values]
    header = ["lead (months)", NAME, *(f"less {name}; distinguishable?" for name in names)]
    rows = []
    for lead in shown(scores):
        row, one = [str(lead), of(scores.sel(lead=lead), score)], scores.sel(lead=lead)
        for name in names:
            other = one.sel(reference=name)
            verdict = told(other[f"{score}_difference_verdict"].item())
            row.append(f"{of(other, f'{score}_difference', '+')}; {verdict}")
        rows.append(row)
    return listed(header, rows)


def own(tables: Mapping[str, xr.Dataset], score: str) -> str:
    """Return a score by lead, a column for each forecaster."""
    rows = []
    for lead in shown(tables[NAME]):
        cells = (float(table[score].sel(lead=lead)) for table in tables.values())
        rows.append([str(lead), *("-" if np.isnan(x) else f"{x:.2f}" for x in cells)])
    return listed(["lead (months)", *tables], rows)


def crps_skill(case: Case) -> xr.Dataset:
    """Return CRPSS from climatology, with intervals, by forecaster and lead."""
    losses = {}
    for name, index in case.ensembles.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeakageWarning)  # said by the scores above
            losses[name] = verify(index, case.truth, "crps_fair", by=["init", "lead"]).crps_fair
    base = losses.pop("climatology")
    found = [compare(loss, base, score="skill", confidence=CONFIDENCE) for loss in losses.values()]
    table = xr.concat(found, pd.Index(list(losses), name="forecaster"), combine_attrs="override")
    table = table.rename(value="crpss", lower="crpss_lower", upper="crpss_upper")
    table["crpss"].attrs = {"long_name": "CRPSS, climatology as reference", "units": "1"}
    table["lead"].attrs = case.months[NAME]["lead"].attrs
    return table


def with_intervals(table: xr.Dataset, score: str) -> str:
    """Return a score with its interval, a column for each forecaster."""
    names = [str(name) for name in table["forecaster"].values]
    rows = [
        [str(lead), *(of(table.sel(lead=lead, forecaster=name), score, "+") for name in names)]
        for lead in shown(table)
    ]
    return listed(["lead (months)", *names], rows)


# --- calibration --------------------------------------------------------------------------------


@dataclass
class Calibration:
    """Of the ensemble, by lead and pooled over the leads."""

    leads: xr.Dataset
    pooled: xr.Dataset
    ranks: xr.Dataset
    ranks_pooled: xr.Dataset
    ranked: int

    @property
    def holding(self) -> list[int]:
        """Leads whose interval of the coverage holds the level."""
        low, high = (
            self.leads[f"interval_coverage_{end}"].isel(level=0) for end in ("lower", "upper")
        )
        inside = (low <= LEVEL) & (high >= LEVEL)
        return [int(lead) for lead in self.leads["lead"].values[inside.values]]


def calibration(case: Case) -> Calibration:
    """Return coverage, spread over error, and the flatness of the rank histogram of 10 ranks."""
    index = case.ensembles[NAME]
    few = index.isel(member=slice(0, 9))
    names, levels = ("interval_coverage", "spread_skill_ratio"), [LEVEL]
    ranks = ("rank_flatness", "rank_histogram")
    return Calibration(
        case.scores(index, case.truth, *names, levels=levels),
        case.scores(index, case.truth, *names, levels=levels, by=()),
        case.scores(few, case.truth, *ranks),
        case.scores(few, case.truth, *ranks, by=()),
        few.sizes["member"],
    )


def calibration_table(found: Calibration) -> str:
    """Return the calibration by lead, and pooled in the last row."""

    def row(label: str, one: xr.Dataset, ranks: xr.Dataset) -> list[str]:
        one = one.isel(level=0)
        return [label, of(one, "interval_coverage"), of(one, "spread_skill_ratio"),
                of(ranks, "rank_flatness")]  # fmt: skip

    rows = [
        row(str(lead), found.leads.sel(lead=lead), found.ranks.sel(lead=lead))
        for lead in shown(found.leads)
    ]
    rows.append(row("all leads", found.pooled, found.ranks_pooled))
    header = ["lead (months)", f"coverage of the {100 * LEVEL:.0f} % interval", "spread / error",
              "rank flatness (0 is flat)"]  # fmt: skip
    return listed(header, rows)


# --- start months and eras ----------------------------------------------------------------------


def by_start(case: Case) -> dict[str, xr.Dataset]:
    """Return the correlation by month of the start and lead of each forecaster."""
    chosen = [name for name in case.months if name not in ("climatology", "persistence")]
    return {
        name: case.scores(case.months[name], case.truth, "correlation", by=["month", "lead"])
        for name in chosen
    }


def start_table(tables: Mapping[str, xr.Dataset], rival: str) -> str:
    """Return the correlation of the model by start month, and that of one rival."""
    leads = [lead for lead in (1, *FEW, 18) if lead in tables[NAME]["lead"].values]
    rows = []
    for month in tables[NAME]["month"].values:
        row = [pd.Timestamp(2000, int(month), 1).strftime("%b")]
        for lead in leads:
            one, other = (t.sel(month=month, lead=lead) for t in (tables[NAME], tables[rival]))
            row.append(f"{of(one, 'correlation')}; {float(other.correlation):.2f}")
        rows.append(row)
    return listed(["start", *(f"lead {lead}" for lead in leads)], rows)


def cut(index: xr.DataArray, first: str, last: str) -> xr.DataArray:
    """Return the starts whose leads are all valid within a period."""
    valid = index["valid_time"].dt.strftime("%Y-%m")
    inside = ((valid >= first) & (valid <= last)).all("lead")
    return index.isel(init=np.flatnonzero(inside.values))


def era_table(case: Case) -> str:
    """Return correlation and RMSE of the model and the rivals in three parts of 1982-2003."""
    eras = {"1982-1992": ("1982-01", "1992-12"), "1993-2003": ("1993-01", "2003-12"),
            "2000-2003": ("2000-01", "2003-12")}  # fmt: skip
    rows = []
    for era, (first, last) in eras.items():
        rivals = (name for name in OPPONENTS if name != "persistence")
        for name in (NAME, *rivals):
            part = cut(case.months[name].sel(lead=slice(None, max(FEW))), first, last)
            found = case.scores(part, case.truth, "correlation", "rmse")
            rows.append(_era_row(era, name, part.sizes["init"], found))
    return listed(_ERA_HEADER, rows)


_ERA_HEADER = ["years judged", "forecaster", "starts", *(f"r, RMSE (K) at lead {n}" for n in FEW)]


def _era_row(era: str, name: str, starts: int, found: xr.Dataset) -> list[str]:
    cells = []
    for lead in FEW:
        one = found.sel(lead=lead)
        flat = name == "climatology"  # its forecast does not depend on the start
        cells.append(f"{'-' if flat else of(one, 'correlation')}; {of(one, 'rmse')}")
    return [era, name, str(starts), *cells]


def recharge_table(case: Case) -> str:
    """Return what opponents score on the indices of ORAS5 before and after 2002."""
    indices = samples.open("xro_indices").load()
    halves = {"1979-2001": slice("1979-01", "2001-12"), "2002-2024": slice("2002-01", "2024-12")}
    rows = []
    for judged, learned in (("1979-2001", "2002-2024"), ("2002-2024", "1979-2001")):
        past = indices.sel(time=halves[learned])
        made: dict[str, Callable[..., Any]] = {
            "recharge oscillator (XRO)": RechargeOscillator.fit(past, horizon=12).forecast,
            "damped persistence": DampedPersistence.fit(past.Nino34, horizon=12).forecast,
            "persistence": Persistence.fit(past.Nino34, horizon=12).forecast,
            "climatology": Climatology.fit(past.Nino34, horizon=12).forecast,
        }
        if learned == "1979-2001" and "enso-multi" in shipped():
            made["``enso-multi``"] = load("enso-multi").forecast
        begin, end = (pd.Period(y, "M") for y in (halves[judged].start, halves[judged].stop))
        starts = slice(str(begin), str(end - 12))
        for name, forecast in made.items():
            whole = "persistence" not in name and name != "climatology"
            found_of = forecast(indices if whole else indices.Nino34, init=starts)
            index = (found_of.Nino34 if whole else found_of).sel(lead=slice(None, 12))
            found = case.scores(index, indices.Nino34, "correlation", "rmse")
            rows.append([f"{judged} (fit {learned})", *_era_row("", name, index.sizes["init"],
                                                                found)[1:]])  # fmt: skip
    return listed(_ERA_HEADER, rows)


# --- figures ------------------------------------------------------------------------------------


def figures(case: Case, tables: dict[str, Any], folder: Path) -> None:
    """Write the figures of the card."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    def write(figure: Any, name: str) -> None:
        buffer = BytesIO()
        figure.savefig(buffer, dpi=90)
        small = Image.open(buffer).convert("RGB").quantize(96, dither=Image.Dither.NONE)
        temporary = folder / f"{name}.tmp"
        small.save(temporary, format="PNG", optimize=True)
        os.replace(temporary, folder / f"{NAME}-{name}.png")
        plt.close(figure)

    lines = {name: t for name, t in tables["means"].items() if name != "climatology"}
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.0), layout="constrained")
    plotting.skill(lines, "correlation", ax=axes[0])
    axes[0].set_title("3-month means, correlation", fontsize=10)
    axes[0].get_legend().remove()
    crpss = tables["crpss"]
    lines = {
        str(name): crpss.sel(forecaster=name)
        if name == NAME
        else crpss[["crpss"]].sel(forecaster=name)
        for name in crpss["forecaster"].values
    }
    plotting.skill(lines, "crpss", ax=axes[1])
    axes[1].set_title("single months, CRPSS", fontsize=10)
    axes[1].get_legend().remove()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5,
                  frameon=False, fontsize=9)  # fmt: skip
    write(figure, "skill")

    gain = tables["gain"].sel(reference=["LIM-15", "CSLIM-15", "damped persistence"])
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.5), layout="constrained", sharey=True)
    for ax, name in zip(axes, gain["reference"].values, strict=True):
        plotting.skill(gain.sel(reference=[name]), "rmse_difference", ax=ax)
        ax.set_title(f"{NAME} less {name}", fontsize=10)
        ax.get_legend().remove()
        ax.set_ylabel("difference of the RMSE (K)" if ax is axes[0] else "")
    write(figure, "difference")

    write(_calibration_figure(tables["calibration"], case.n), "calibration")
    write(plotting.start_months_each(tables["start"], "correlation", columns=2), "start-months")


def _calibration_figure(found: Calibration, starts: int) -> Any:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.5), layout="constrained")
    for ax, name, target in (
        (axes[0], "interval_coverage", LEVEL), (axes[1], "spread_skill_ratio", 1.0)
    ):  # fmt: skip
        one = found.leads.isel(level=0)
        value, low, high = (one[f"{name}{end}"].values for end in ("", "_lower", "_upper"))
        around = np.abs([value - low, high - value])
        ax.errorbar(one["lead"].values, value, around, fmt="o", markersize=4, color="#0072B2",
                    elinewidth=1.2, capsize=2)  # fmt: skip
        ax.axhline(target, color="0.3", linewidth=0.9, linestyle="--")
        ax.set_xlabel("lead (months)")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.92", linewidth=0.8)
    axes[0].set_title(f"coverage of the {100 * LEVEL:.0f} % interval", fontsize=10)
    axes[0].set_ylim(top=1.0)
    axes[1].set_title("spread / error", fontsize=10)
    axes[1].set_ylim(bottom=0.0)
    plotting.rank_histogram(found.ranks_pooled.rank_histogram, n=starts, ax=axes[2])
    axes[2].set_title("ranks, all leads", fontsize=10)
    return figure


# --- the card -----------------------------------------------------------------------------------


def reached(case: Case, tables: dict[str, Any]) -> str:
    """Return in words what the tables say about the goals."""
    items = []
    for title, found in (("3-month means", tables["gain"]), ("single months", tables["single"])):
        leads = [int(lead) for lead in found["lead"].values if 2 <= lead <= 12]
        for rival in ("LIM-15", "CSLIM-15", "damped persistence"):
            one = found.sel(reference=rival, lead=leads)
            ahead = [n for n in leads if float(one.rmse_difference.sel(lead=n)) < 0]
            sure = [n for n in leads
                    if told(one.rmse_difference_verdict.sel(lead=n).item()) == "yes, better"]  # fmt: skip
            items.append(
                f"RMSE of {title} below that of {rival} at {leads_in_words(ahead, leads)}; told "
                f"from chance at {leads_in_words(sure, leads)}."
            )
    one, found = tables["calibration"].pooled.isel(level=0), tables["calibration"]
    leads = [int(lead) for lead in found.leads["lead"].values]
    items.append(
        f"{100 * LEVEL:.0f} % intervals hold {of(one, 'interval_coverage')} of the truths, pooled over "
        f"leads; the interval of the coverage holds {LEVEL:.2f} at "
        f"{leads_in_words(found.holding, leads)}."
    )
    crpss = tables["crpss"].sel(forecaster=NAME)
    better = [n for n in leads if float(crpss.crpss.sel(lead=n)) > 0]
    sure = [n for n in leads if float(crpss.crpss_lower.sel(lead=n)) > 0]
    items.append(
        f"CRPS below that of climatology at {leads_in_words(better, leads)}; told from chance at "
        f"{leads_in_words(sure, leads)}."
    )
    return "\n".join(bullet(item) for item in items)


def shares(case: Case, lead: int = 6) -> str:
    """Return in words which years of starts the gain over CSLIM and LIM comes from."""
    words = []
    for rival in ("LIM-15", "CSLIM-15"):
        losses = [
            (index.sel(lead=lead) - observations_at(index.sel(lead=[lead]), case.truth_means)
             .sel(lead=lead)) ** 2
            for index in (case.means[NAME], case.means[rival])
        ]  # fmt: skip
        saved = (losses[1] - losses[0]).groupby("init.year").sum()
        order = np.argsort(-saved.values)[:2]
        part = saved.values[order].sum() / saved.values.sum()
        years = " and ".join(str(year) for year in sorted(saved["year"].values[order]))
        words.append(f"{part:.0%} of what is saved against {rival} from the starts of {years}")
    return (
        f"Where the gain comes from: of the squared error of 3-month means at lead {lead}, "
        f"{words[0]}, {words[1]}. That few events carry the difference is why its interval is wide."
    ).replace("%", " %")


def data_table(sst: xr.DataArray) -> str:
    """Return what the sample says of itself."""
    years = sst["time"].dt.strftime("%Y-%m").values
    south, north = float(sst.lat.min()), float(sst.lat.max())
    west, east = 360 - float(sst.lon.min()), 360 - float(sst.lon.max())
    rows = [
        ["sample", f"``kaplan_sst``: {sst.attrs['title']}"],
        [
            "months",
            (
                f"{years[0]} to {years[-1]}, {years.size}; cell centers {abs(south):g}S to "
                f"{north:g}N, {west:g}W to {east:g}W, {sst.sizes['lat']} x {sst.sizes['lon']} cells"
            ),
        ],
        ["quantity", str(sst.attrs["long_name"])],
        ["units", str(sst.attrs["units"])],
        *_told_by(sst.attrs),
    ]
    return unheaded(rows)


def _told_by(attrs: Mapping[Any, Any]) -> list[list[str]]:
    """Return what the attributes of a sample say about where it comes from."""
    keys = {"source": "source", "license": "license", "cite": "references", "note": "comment"}
    return [[name, str(attrs[key])] for name, key in keys.items() if key in attrs]


def unheaded(rows: Iterable[Sequence[str]]) -> str:
    """Return a list-table of names and values, without a header."""
    lines = [".. list-table::", "   :widths: 18 82", ""]
    for name, value in rows:
        lines += [f"   * - {name}", f"     - {value}"]
    return "\n".join(lines)


def plain(value: Any) -> str:
    """Return a value of the provenance as text that reStructuredText leaves alone."""
    if isinstance(value, Mapping):
        value = ", ".join(f"{k}: {v}" for k, v in value.items())
    elif isinstance(value, list | tuple):
        value = ", ".join(str(v) for v in value)
    return textwrap.shorten(str(value).replace("`", "'"), 420, placeholder=" ...")


def training_table(model: Any) -> str:
    """Return what the file says about how it was made."""
    shape = (model.config.input_shape, model.config.target_shape)
    rows = [
        ["networks", (f"{len(model.states)}, each of {parameters(model) // len(model.states):,} "
         f"weights; input (T, H, W, C) {shape[0]}, output {shape[1]}")],
        *([str(key).replace("_", " "), f"``{plain(value)}``"]
          for key, value in model.provenance.items()),
    ]  # fmt: skip
    return unheaded(rows)


def parameters(model: Any) -> int:
    """Return the number of weights of all networks."""
    return sum(int(value.numel()) for state in model.states for value in state.values())


def cost(case: Case, path: Path) -> str:
    """Measure and return what a forecast costs."""
    import torch

    begin = time.perf_counter()
    load(path)
    loading, each = time.perf_counter() - begin, []
    for _ in range(3):
        begin = time.perf_counter()
        case.model.forecast(case.sst, init=CHECK, members=20)
        each.append(time.perf_counter() - begin)
    guess = case.model.guess
    arrays = () if guess is None else guess.arrays().values()
    guessed = f", {sum(a.size for a in arrays):,} numbers in the first guess" if arrays else ""
    rows = [
        ["parameters", (f"{parameters(case.model):,} weights in {len(case.model.states)} networks"
         f"{guessed}; the file has {path.stat().st_size / 1e6:.1f} MB")],
        ["loading", f"{loading:.2f} s"],
        ["one forecast, 20 members", f"{min(each):.2f} s (best of 3)"],
        [f"hindcast of {case.n} starts, {MEMBERS} members",
         (f"{case.seconds[NAME]:.0f} s; LIM-15 {case.seconds['LIM-15']:.1f} s, CSLIM-15 "
         f"{case.seconds['CSLIM-15']:.1f} s")],
        ["threads", (f"{torch.get_num_threads()}, on a machine that others use; torch "
         f"{torch.__version__}")],
    ]  # fmt: skip
    return listed(["", "measured when this page was made"], rows)


def fragment(folder: Path, name: str, marks: str = "~^") -> str:
    """Return a table that a training script left, or nothing."""
    path = folder / f"{name}-table.rst"
    return demoted(path.read_text(encoding="utf-8"), marks) if path.exists() else ""


def check_line(model: Any, sst: xr.DataArray) -> str:
    """Return the forecast that tests compare with the card."""
    index = nino_index(model.forecast(sst, init=CHECK)).squeeze("init")
    values = [f"{float(index.sel(lead=lead)):+.3f}" for lead in FEW]
    return f"{CHECK}: {' '.join(values)} K"


def digest(path: Path) -> str:
    """Return what tells the file from others."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the cards")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    path = ARTIFACTS / f"{NAME}.safetensors"
    sst, model = samples.open("kaplan_sst").load(), load(NAME)
    case = forecasts(model, sst)
    tables = measured(case)
    figures(case, tables, folder)
    write(folder / f"{NAME}.rst", card(case, tables, path, folder))
    if "enso-multi" in shipped():
        write(folder / "enso-multi.rst", multi_card(folder))
    print(f"done in {time.perf_counter() - begin:.0f} s")


def multi_card(folder: Path) -> str:
    """Return the page of enso-multi, with the tables that its own script wrote."""
    path = ARTIFACTS / "enso-multi.safetensors"
    model, indices = load("enso-multi"), samples.open("xro_indices")
    stamps = indices["time"].dt.strftime("%Y-%m").values
    rows = [
        ["sample", f"``xro_indices``: {indices.attrs['title']}"],
        ["months", f"{stamps[0]} to {stamps[-1]}, {stamps.size}"],
        ["indices", ", ".join(map(str, indices.data_vars))],
        *_told_by(indices.attrs),
    ]
    return MULTI.format(
        horizon=model.horizon,
        model=repr_of(model),
        digest=digest(path),
        data=unheaded(rows),
        training=unheaded(
            [str(key).replace("_", " "), f"``{plain(value)}``"]
            for key, value in model.provenance.items()
        ),
        table=fragment(folder, "enso-multi") or "Its script has left no table.",
    )


def write(path: Path, text: str) -> None:
    """Write a page whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    print(f"wrote {path.name}")


def measured(case: Case) -> dict[str, Any]:
    """Return all scores of the card."""

    def others(indices: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
        return {name: indices[name] for name in OPPONENTS}

    scores = ("correlation", "rmse")
    with_correlation = [name for name in OPPONENTS if name != "climatology"]
    found: dict[str, Any] = {}
    for key, indices, truth in (
        ("single", case.months, case.truth), ("gain", case.means, case.truth_means)
    ):  # fmt: skip
        found[key] = case.scores(indices[NAME], truth, "rmse", reference=others(indices))
        found[f"{key}_r"] = case.scores(
            indices[NAME], truth, "correlation",
            reference={name: indices[name] for name in with_correlation},
        )  # fmt: skip
    found["means"] = {
        name: verify_quietly(index, case.truth_means, scores) for name, index in case.means.items()
    }
    ends = ["correlation_lower", "correlation_upper"]
    found["means"][NAME] = found["means"][NAME].assign(found["gain_r"][ends])
    found["crps"] = case.scores(
        case.ensembles[NAME], case.truth, "crps_fair", reference=others(case.ensembles)
    )
    found["crpss"] = crps_skill(case)
    found["calibration"] = calibration(case)
    found["start"] = by_start(case)
    return found


def verify_quietly(index: xr.DataArray, truth: xr.DataArray, scores: Sequence[str]) -> xr.Dataset:
    """Verify without repeating what the leak guard has said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakageWarning)
        return verify(index, truth, list(scores))


def card(case: Case, tables: dict[str, Any], path: Path, folder: Path) -> str:
    """Return the page."""
    starts = case.months[NAME]["init"].dt.strftime("%B %Y").values
    found = tables["calibration"]
    chance = [np.sqrt(2 * found.ranked / (np.pi * n)) for n in (case.n, 22)]
    nested = fragment(folder, NAME)
    era, recharge = era_table(case), recharge_table(case)
    said = list({one.partition(", which holds")[0]: one for one in reversed(case.said)}.values())
    said = [one.partition(" Price:")[0] for one in reversed(said)]
    where = (
        "The numbers below are of the file as it is shipped; those of :ref:`the nested choice "
        "<enso-small-nested>`, whose years chose nothing, are the ones to quote for 1982-2003."
        if nested
        else ""
    )
    return PAGE.format(
        digest=digest(path), check=check_line(case.model, case.sst), model=repr_of(case.model),
        n=case.n, first=starts[0], last=starts[-1], members=MEMBERS, horizon=case.model.horizon,
        reached=reached(case, tables), shares=paragraph(shares(case)), data=data_table(case.sst), where=paragraph(where),
        training=training_table(case.model),
        nested=NESTED.format(table=nested) if nested else "",
        gain=against(tables["gain"], "rmse"), gain_r=against(tables["gain_r"], "correlation"),
        means=own(tables["means"], "correlation"),
        single=against(tables["single"], "rmse"), single_r=against(tables["single_r"], "correlation"),
        crps=against(tables["crps"], "crps_fair"), crpss=with_intervals(tables["crpss"], "crpss"),
        calibration=calibration_table(found), ranked=found.ranked,
        chance=f"{chance[0]:.2f}", chance_years=f"{chance[1]:.2f}",
        start=start_table(tables["start"], "CSLIM-15"), era=era, recharge=recharge,
        cost=cost(case, path), guard="\n".join(bullet(one.replace("`", "'")) for one in said),
    )  # fmt: skip


def repr_of(model: Any) -> str:
    """Return the summary line of a forecaster without its brackets."""
    return paragraph(re.sub(r"^<\w+ '([^']*)'", r"``\1``", repr(model)).rstrip(">"))


NESTED = """\

.. _enso-small-nested:

Nested choice
-------------

What was chosen for each of these years was chosen without it; written by the script that trains.

{table}
"""

MULTI = """\
enso-multi
==========

.. This page is written by ci/enso_card.py; do not edit it.

Nino3.4 from indices of the upper ocean and of other basins, an ensemble up to {horizon} months ahead.

.. code-block:: python

   import xearth

   indices = xearth.samples.open("xro_indices")
   fc = xearth.forecast(indices, "enso-multi", init="2015-05", members=20)
   fc.Nino34

{model}. The file in the package has the sha256 ``{digest}``.

Data
----

{data}

Training
--------

What the file says of itself:

{training}

How good it is
--------------

{table}

Limits
------

- It reads indices as their authors distribute them, anomalies from the mean and trend of 1979-2024.
  New months need anomalies made in the same way.
- Two dozen years judge it; the intervals say what they can tell. Which of them had a part in
  choosing it, the table under *Training* says; scores on those flatter.

How this page is made
---------------------

.. code-block:: bash

   python ci/train_enso_multi.py --out docs/models/enso-multi-table.rst   # the model and its tables
   python ci/enso_card.py                                                 # this page
"""

PAGE = """\
enso-small
==========

.. This page is written by ci/enso_card.py; do not edit it.

Sea-surface temperature anomalies of the eastern and central tropical Pacific, an ensemble up to
{horizon} months ahead.

.. code-block:: python

   import xearth

   sst = xearth.samples.open("kaplan_sst")
   fc = sst.earthformer.forecast("enso-small", init="1997-06", members=20)
   fc.earthformer.nino34()

{model}.

Everything on this page is measured by ``ci/enso_card.py`` from the sample data and the file in the
package (sha256 ``{digest}``), which runs all forecasts anew. Mean forecast of Nino3.4 at leads 3, 6,
9 and 12, for a check: ``{check}``.

Protocol
--------

Unless a table says otherwise: Nino3.4 of the {n} starts from {first} to {last}, whose leads
all lie in 1982-2003; Kaplan SST, anomalies from the 1951-1980 means; lead counted from the last
observed month. Correlations are centered and pooled over calendar months. Opponents are fit to
1856-1981. *Single months*: the month at the lead, LIM and CSLIM made of months. *3-month means*: of
the lead and the two months before it, the target of the literature; LIM and CSLIM of
3-month means, from lead 3 on, as shorter leads hold observed months. RMSE and correlation are of the
mean forecast, CRPS (fair) and calibration of {members} members.

In brackets are 95 % intervals of a block bootstrap over starts (1000 resamples, length of blocks
from the data). A difference is :doc:`paired </guide/verification>`: {name} less the opponent at the
same starts, so negative is better for RMSE and CRPS, positive for correlation. *distinguishable?*
says whether it can be told from chance at 5 %; each cell stands alone, and of twenty such tests of
nothing one says yes. Twenty-two years hold some five large events: intervals of correlation at
long leads are wide, and they are those of *these* years.

{where}

What is reached
---------------

On 1982-2003, by the protocol above:

{reached}

.. image:: enso-small-skill.png
   :alt: Correlation of 3-month means and CRPSS against lead, beside the opponents
   :width: 100%

.. image:: enso-small-difference.png
   :alt: Difference of the RMSE of 3-month means from three opponents, with intervals
   :width: 100%

Shaded are 95 % intervals, in the upper figure those of {name} alone.

{shares}

Data
----

{data}

Training
--------

What the file says of itself:

{training}

Splits
------

.. list-table::
   :header-rows: 1

   * - years
     - what saw them
   * - 1856-1981
     - statistics, first guess, weights; opponents
   * - 1982-2003
     - what the table above names under *validation period* and its like: settings, epochs, width.
       The same years are judged here.
   * - after 2003
     - nothing; the sample ends in December 2003, so nothing is judged either

What the leak guard says when these tables are made:

{guard}
{nested}
Skill by lead, 3-month means
----------------------------

RMSE (K), 1982-2003:

{gain}

Correlation, 1982-2003:

{gain_r}

Correlation of each, the opponents side by side, 1982-2003:

{means}

Skill by lead, single months
----------------------------

RMSE (K), 1982-2003:

{single}

Correlation, 1982-2003:

{single_r}

CRPS
----

Fair CRPS (K) of {members} members, single months, 1982-2003. Members of LIM and CSLIM are those of
their own noise, of both kinds of persistence their errors in training, of climatology its years:

{crps}

CRPSS, 1 - CRPS / CRPS of climatology:

{crpss}

Calibration
-----------

{members} members, single months, 1982-2003. Spread / error is corrected for the number of members, 1
is right. Ranks are those of the truth among the first {ranked} members; chance alone leaves a
flatness of {chance} if the {n} starts were independent, and {chance_years} if only the 22 years were.

{calibration}

.. image:: enso-small-calibration.png
   :alt: Coverage and spread over error by lead with intervals, and the rank histogram
   :width: 100%

Bars are 95 % intervals over starts; the gray band counts each start as independent and is therefore
too narrow.

Spring barrier
--------------

Correlation of single months by month of the start, 1982-2003, some 20 starts each; after the
semicolon that of CSLIM-15:

{start}

.. image:: enso-small-start-months.png
   :alt: Correlation by month of the start and lead, four forecasters
   :width: 100%

Hatched cells cannot be told from no skill.

Eras
----

Correlation and RMSE of single months, starts whose leads all lie in the years named. The sample
ends in 2003, so after 2000 there is hardly anything to judge by: some thirty starts of one weak
El Nino.

{era}

What opponents score on many years after 2000 can be seen on the indices of ORAS5, to which this
model cannot be applied. Each half is forecast by what the other half taught, so the first rows have
learned from the future of what they forecast; anomalies are from mean and trend of 1979-2024, so all
rows leak that much. What chose ``enso-multi`` its own card says.

{recharge}

Cost
----

{cost}

Limits
------

- Chosen on the years that judge it, but for what a section on nested choice says. Scores on
  1982-2003 are those of validation years.
- Sea-surface temperature alone. It holds little of the heat below the surface, and what is left of
  the correlation beyond about nine months has intervals that reach far down; there take a
  model with the warm water volume, or the normal.
- Not judged: years after 2003, other products and grids. The Kaplan analysis is smooth, and before
  about 1950 made from few observations.
- It expects anomalies from the 1951-1980 means. Anomalies from other years have other means: make
  them with ``xearth.anomaly(sst, base=("1951", "1980"))``.
- Coverage and spread are those of Nino3.4 of single months, not of cells or of seasonal means.
- The signal of leads beyond a year is partly that of slow trends.

How this page is made
---------------------

.. code-block:: bash

   python ci/enso_card.py         # this page, its tables and its figures
   ci/train_enso_small            # the model itself, from scratch
""".replace("{name}", NAME)

if __name__ == "__main__":
    main()
