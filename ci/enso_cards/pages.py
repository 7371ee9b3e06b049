"""The pages: what is fixed, what the tables say, and what the files say of themselves."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xearth.data.sources import samples
from xearth.forecasting.io import ARTIFACTS, load
from xearth.verification import observations_at
from xearth.verification.scores.indices import nino_index

from .case import CHECK, FEW, LEVEL, MEMBERS, NAME, Case
from .tables import (
    against,
    calibration_table,
    era_table,
    own,
    recharge_table,
    start_table,
    with_intervals,
)
from .texts import MULTI, NESTED, PAGE
from .words import bullet, demoted, leads_in_words, listed, of, paragraph, plain, told, unheaded


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
