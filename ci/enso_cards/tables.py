"""The tables of the card of enso-small."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import LeakageWarning
from xearth.forecasting.io import load, shipped
from xearth.reference.climatology import Climatology
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.reference.recharge import RechargeOscillator
from xearth.verification import compare, verify

from .case import CONFIDENCE, FEW, LEVEL, NAME, OPPONENTS, Case, verify_quietly
from .words import listed, of, told

SHOWN = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 18)


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
