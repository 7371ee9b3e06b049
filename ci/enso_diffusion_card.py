"""Make the card of enso-diffusion: calibration beside enso-small, and what an El Nino looks like.

    python ci/enso_diffusion_card.py        # writes docs/models/enso-diffusion.rst; some ten minutes

All forecasts run anew. The choice is nested as in ci/train_enso_small.py: each of five stretches of
starts of 1982-2003 is forecast with what was chosen on the others, by both models.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import enso_whatif
import numpy as np
import torch
import train_enso_diffusion as training
import train_enso_small as small
import xarray as xr
from enso_cards.words import bullet, listed, paragraph

import xearth
from xearth import verification
from xearth.data.sources import samples
from xearth.fields.regions import NINO34
from xearth.forecasting.enso_diffusion import EnsoDiffusionForecaster
from xearth.forecasting.io import ARTIFACTS, load
from xearth.forecasting.steering import ways_of
from xearth.verification.one_pass.verify import verify
from xearth.verification.scores.indices import nino_index, running_mean

ROOT = Path(__file__).parents[1]
NAME, OWN, OTHER = "enso-diffusion", "enso-diffusion", "enso-small"
OUT = ROOT / "docs" / "models" / f"{NAME}.rst"
MEMBERS, ASKED = 60, 20
LEADS = (1, 3, 6, 9, 12, 15, 18)
SEASONS = {
    "July to September": (1, 2, 3),
    "December to February": (6, 7, 8),
    "March to May after": (9, 10, 11),
    "June to August after": (12, 13, 14),
}
LEVELS = (1.0, 1.5)


# -- forecasts ------------------------------------------------------------------------------------


def nested(model: EnsoDiffusionForecaster, sst: xr.DataArray) -> tuple[dict[str, Any], list[str]]:
    """Return fields forecast by both models whose choices never saw their targets, and the choices."""
    raw, season = small.unchosen(load(OTHER))
    parts = small.parts_of(raw, sst, small.STARTS)
    box = NINO34.weights(sst).transpose("lat", "lon").values
    box = box * np.cos(np.deg2rad(sst.lat.values))[:, None]
    sd = training.spread(
        model.model, torch.as_tensor(box).flatten(), float(raw.normalizer.scale[0])
    )
    starts = sst.sel(time=small.STARTS).time.values
    found: dict[str, list[xr.DataArray]] = {OWN: [], OTHER: []}
    said = []
    for own in np.array_split(np.arange(len(starts)), small.STRETCHES):
        reach = small.WINDOW.horizon
        far = np.r_[0 : max(own[0] - reach, 0), own[-1] + reach + 1 : len(starts)]
        choice = small.choose(parts.rows(far), season)
        width = training.choose(parts.rows(far), sd, choice.share)
        base = small.with_choice(raw, season, choice)
        for name, one in ((OWN, training.made(base, model.model, width)), (OTHER, base)):
            found[name].append(one.forecast(sst, init=starts[own], members=MEMBERS))
        ends = [str(starts[k])[:7] for k in own[[0, -1]]]
        said.append(f"{ends[0]}/{ends[1]}: width {width.width} + {width.extra}")
    whole = {k: xr.concat(v, "init", combine_attrs="override") for k, v in found.items()}
    return whole, said


# -- scores ---------------------------------------------------------------------------------------


def scores(indices: Mapping[str, xr.DataArray], truth: xr.DataArray) -> dict[str, xr.Dataset]:
    """Return scores of an index by lead, and the differences of the CRPS with their intervals."""
    names = ("crps_fair", "interval_coverage")
    found = {}
    for name, index in indices.items():
        mean = index.mean("member", keep_attrs=True)
        one = verify(index, truth, names, levels=[0.9])
        at = verification.observations_at(index, truth)
        error = np.square(mean - at).mean("init")
        variance = index.var("member", ddof=1).mean("init") * (1 + 1 / index.sizes["member"])
        found[name] = one.assign(rmse=np.sqrt(error), ratio=np.sqrt(variance / error))
    found["difference"] = verify(
        indices[OWN], truth, ("crps_fair",), confidence=0.95, reference={OTHER: indices[OTHER]}
    )
    return found


def pooled(indices: Mapping[str, xr.DataArray], truth: xr.DataArray) -> xr.Dataset:
    """Return the difference of the CRPS, leads 1 to 12 together, with its interval."""
    some = {k: v.isel(lead=slice(small.JUDGED)) for k, v in indices.items()}
    how = {"by": (), "confidence": 0.95}
    return verify(some[OWN], truth, ("crps_fair",), reference={OTHER: some[OTHER]}, **how)


def joint(fields: Mapping[str, xr.DataArray], sst: xr.DataArray) -> list[list[str]]:
    """Return scores of what hangs together: leads of Nino3.4, and cells."""
    rows: list[list[str]] = []
    truth = nino_index(sst)
    index = {k: nino_index(v) for k, v in fields.items()}
    obs = verification.observations_at(index[OWN], truth)
    later, now = {"lead": 12}, {"lead": 6}
    turn = {k: v.sel(later, drop=True) - v.sel(now, drop=True) for k, v in index.items()}
    turned = obs.sel(later, drop=True) - obs.sel(now, drop=True)

    def row(what: str, score: Any) -> None:
        rows.append([what, *(f"{float(score(name)):.3f}" for name in (OWN, OTHER))])

    fair = {"over": "lead", "estimator": "fair"}
    row(
        "energy score of Nino3.4 over the 18 leads (K)",
        lambda k: verification.energy_score(index[k], obs, **fair),
    )
    row(
        "variogram score of Nino3.4 over the 18 leads",
        lambda k: verification.variogram_score(index[k], obs, over="lead"),
    )
    row(
        "CRPS of the change of Nino3.4 from lead 6 to lead 12 (K)",
        lambda k: verification.crps_ensemble(turn[k], turned, estimator="fair"),
    )
    row(
        "CRPS of the highest of 18 leads of Nino3.4 (K)",
        lambda k: verification.crps_ensemble(
            index[k].max("lead", keep_attrs=True),
            obs.max("lead", keep_attrs=True),
            estimator="fair",
        ),
    )
    at = verification.observations_at(fields[OWN], sst)
    area = np.cos(np.deg2rad(sst.lat))
    for leads, what in ((slice(0, 3), "1-3"), (slice(3, 12), "4-12"), (slice(12, 18), "13-18")):
        part = {k: v.isel(lead=leads) for k, v in fields.items()}
        row(
            f"CRPS of cells, leads {what} (K)",
            lambda k, part=part, leads=leads: verification.crps_ensemble(
                part[k], at.isel(lead=leads), estimator="fair", weights=area
            ),
        )
        row(
            f"coverage of 90 % intervals of cells, leads {what}",
            lambda k, part=part, leads=leads: covered(part[k], at.isel(lead=leads), area),
        )
    return rows


def covered(fields: xr.DataArray, at: xr.DataArray, area: xr.DataArray) -> float:
    """Return how often the truth is among the central 90 % of members, by area."""
    found = verification.interval_coverage(fields, at, level=0.9, weights=area)
    return float(found.squeeze())


def ranks(indices: Mapping[str, xr.DataArray], truth: xr.DataArray) -> list[list[str]]:
    """Return how often the truth lies in each tenth of the ranks, leads 1 to 12."""
    rows = []
    for name, index in indices.items():
        some = index.isel(lead=slice(small.JUDGED))
        at = verification.observations_at(some, truth)
        found = verification.rank_histogram(some, at).values
        edges = np.linspace(0, len(found), 11)
        whole = np.concatenate([[0.0], np.cumsum(found)])
        tenths = np.diff(np.interp(edges, np.arange(len(whole)), whole))
        rows.append([name, *(f"{v:.3f}" for v in tenths)])
    return rows


# -- composites -----------------------------------------------------------------------------------


def winters(sst: xr.DataArray) -> xr.DataArray:
    """Return the mean of Nino3.4 in December to February, by the year of the December."""
    index = nino_index(sst)
    mean = running_mean(index, 3)
    mean = mean.sel(time=mean.time.dt.month == 2)
    mean = mean.assign_coords(year=mean.time.dt.year - 1).swap_dims(time="year")
    return mean.sel(year=slice(1982, 2001))


def composites(sst: xr.DataArray, level: float) -> tuple[list[list[str]], list[list[str]], str]:
    """Return pattern correlations and Nino3.4 of composites, and what they are of."""
    winter = winters(sst)
    events = winter.year.values[winter >= level]
    others = winter.year.values[winter < 1]
    warm = xearth.Nino34(season="DJF") >= xearth.Q(level, "K")
    seen = xr.concat([after(sst, year) for year in events], "event").mean("event")
    made = {"observed": seen}
    for name in (OWN, OTHER):
        for free in (False, True):
            asked: dict[str, Any] = {} if free else {"constraints": [warm]}
            fc = sst.earthformer.forecast(
                name, init=[f"{y}-06" for y in others], members=ASKED, **asked
            )
            fc = fc.assign_coords(lead=np.arange(1, fc.sizes["lead"] + 1))
            made[f"{name}{', not asked' if free else ''}"] = fc.mean(("init", "member"))
    cells, agree, index = np.cos(np.deg2rad(sst.lat)), [], []
    for name, field in made.items():
        both = [[], []]
        for leads in SEASONS.values():
            target, one = (f.sel(lead=list(leads)).mean("lead") for f in (seen, field))
            where = target.notnull() & one.notnull()
            weights = cells.broadcast_like(where)
            r = xr.corr(one.where(where), target.where(where), weights=weights)
            both[0].append(f"{float(r):.2f}")
            both[1].append(f"{box(one, sst):+.2f}")
        if name != "observed":
            agree.append([name, *both[0]])
        index.append([name, *both[1]])
    told = (
        f"{level:g} K: the observed composite is that of the {len(events)} winters "
        f"{', '.join(map(str, events))}; asked are the {len(others)} Junes of 1982-2001 whose winter "
        f"was below 1 K, with {ASKED} members each."
    )
    return agree, index, told


def after(sst: xr.DataArray, year: int) -> xr.DataArray:
    """Return the anomalies of the 14 months after a June, on the dim lead."""
    found = sst.sel(time=slice(f"{year}-07", f"{year + 1}-08"))
    return found.assign_coords(time=np.arange(1, found.sizes["time"] + 1)).rename(time="lead")


def box(field: xr.DataArray, sst: xr.DataArray) -> float:
    """Return Nino3.4 of a field in K."""
    weight = NINO34.weights(sst) * np.cos(np.deg2rad(sst.lat))
    return float((field * weight).sum() / weight.where(field.notnull()).sum())


# -- the page -------------------------------------------------------------------------------------


HEAD = """\
.. Made by ci/enso_diffusion_card.py: change that, not this.

enso-diffusion
==============

Sea-surface temperature anomalies of the eastern and central tropical Pacific up to 18 months ahead,
drawn by a diffusion model, free or given a statement in units:

.. code-block:: python

   import xearth

   sst = xearth.samples.open("kaplan_sst")
   warm = xearth.Nino34(season="DJF") >= xearth.Q(1.5, "K")
   fc = sst.earthformer.forecast("enso-diffusion", init="2000-06", members=50, constraints=[warm])
   print(fc.attrs["xearth_constraints"])

The mean is that of :doc:`enso-small`, which is inside the file. What it leaves open is drawn by flow
matching: patterns over all cells and leads, whose covariance depends on the month of the start, and
a small network for what is not Gaussian (:mod:`xearth.models.enso_diffusion`,
:mod:`xearth.forecasting.enso_diffusion`). :doc:`Decision 029 </decisions/029-enso-diffusion>` tells
why it is so, and what networks could not learn.
"""
WAYS = """\
Ways to impose a constraint
---------------------------
"""
LIMITS = """\
Limits
------

- It is not a better forecast of Nino3.4 than enso-small: it has the same mean, by construction, and the
  difference of the CRPS above is what the spread is worth.
- Intervals of single cells are somewhat too wide (those of enso-small are too narrow), those of Nino3.4
  about lead 6 too narrow, as those of enso-small are.
- The network is worth next to nothing (see *Facts*): 126 years of months hold some eighty windows of
  18 months that do not overlap, from which no network learned anything of the errors that holds in
  years it had not seen. The model is a Gaussian law with a season, for which the denoiser is exact.
- Guidance draws from the conditional law nearly, not exactly: the table above has the distance. Several bounds at once, and measures that are not linear, have no such figure.
- Asked for what it holds nearly impossible it answers as readily: read in the audit how often free
  members hold it.
- It knows the cells of Kaplan SST. Other products are read as enso-small reads them.
"""


def facts(model: EnsoDiffusionForecaster, path: Path) -> str:
    """Return the facts of the shipped file."""
    told, config = model.provenance, model.config
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    weights = sum(p.numel() for p in model.model.network.parameters())
    folds = ", ".join(f"{a:+.4f} ({b:.4f})" for a, b in model.metrics["folds"])
    lines = [
        (
            f"File: {path.stat().st_size / 1e6:.1f} MB, sha256 ``{digest[:16]}``; {config.coordinates} "
            f"patterns, a network of {weights:,} weights on the first {config.refined}, "
            f"{model.steps} steps of DPM-Solver++."
        ),
        (
            f"Trained on {told['training_period']}, {told['training_windows']} windows: errors of first "
            "guesses of enso-small that did not see the stretch of time they are judged in."
        ),
        (
            "Share of the network: "
            f"{told['choice']['share']}, from four stretches of 1921-1981 that did not train what was "
            f"judged there; worth {100 * model.metrics['gain']:.2f} % of the squared velocity that the "
            "Gaussian law leaves open. Of each stretch the product with what was left open (and the "
            f"square of what is added), as parts of it: {folds}."
        ),
        (
            f"Width chosen on {told['validation_period']}: {told['choice']['width']} + "
            f"{told['choice']['extra']} exp(-(n - 1) / {small.FADES}) at lead n."
        ),
        f"Recipe: ``{told['recipe']}``.",
        f"Ways to impose constraints: {', '.join(f'``{w}``' for w in ways_of(model))}.",
    ]
    made = "``python ci/train_enso_diffusion.py`` makes the file, in some minutes of one thread."
    return "Facts\n-----\n\n" + "\n".join(bullet(line) for line in lines) + f"\n\n{made}\n"


def by_lead(found: Mapping[str, xr.Dataset]) -> str:
    """Return the table of scores by lead."""
    titles = {
        "crps_fair": "CRPS (K)",
        "rmse": "RMSE of the mean (K)",
        "ratio": "spread : error",
        "interval_coverage": "coverage of 90 %",
    }
    rows = []
    for score, title in titles.items():
        for name in (OWN, OTHER):
            values = found[name][score].squeeze()
            cells = [f"{float(values.isel(lead=n - 1)):.3f}" for n in LEADS]
            rows.append([f"{title}, {name}", *cells])
    low, high, value = (
        found["difference"][f"crps_fair_difference{end}"].squeeze()
        for end in ("_lower", "_upper", "")
    )
    cells = []
    for n in LEADS:
        each = [float(v.isel(lead=n - 1)) for v in (value, low, high)]
        cells.append(f"{each[0]:+.4f} [{each[1]:+.4f}, {each[2]:+.4f}]")
    rows.append(["CRPS, difference [95 %]", *cells])
    return listed(["lead in months", *map(str, LEADS)], rows)


def card(model: EnsoDiffusionForecaster, sst: xr.DataArray, path: Path) -> str:
    """Return the page."""
    fields, said = nested(model, sst)
    truth = nino_index(sst)
    indices = {name: nino_index(one) for name, one in fields.items()}
    together = pooled(indices, truth)
    value, low, high = (
        float(together[f"crps_fair_difference{end}"].squeeze()) for end in ("", "_lower", "_upper")
    )
    verdict = str(together["crps_fair_difference_verdict"].squeeze().item())
    calibration = f"""Nino3.4 of Kaplan SST at the 247 starts from December 1981 to June 2002, whose
        leads all lie in 1982-2003; {MEMBERS} members of both models. Nothing after 1981 was trained
        on, and what is chosen is nested: {"; ".join(said)}. (enso-small as on its card.) CRPS over
        the leads 1-12, enso-diffusion less enso-small: {value:+.4f} K [{low:+.4f}, {high:+.4f}], 95 %
        of a block bootstrap over starts; told from chance: {verdict}."""
    parts = [HEAD, facts(model, path), "Calibration\n-----------\n", paragraph(calibration), ""]
    parts += [by_lead(scores(indices, truth)), "", ("Share of the truths in each tenth of the ranks, "
              "leads 1-12; flat would be 0.1:\n"), listed(["", *map(str, range(1, 11))],
              ranks(indices, truth)), ""]  # fmt: skip
    parts += ["What hangs together\n-------------------\n", paragraph(
        "Of the same forecasts, smaller is better but for the coverage. Intervals were not worked "
        "out for these."), "", listed(["", OWN, OTHER], joint(fields, sst)), ""]  # fmt: skip
    parts += [what_if(sst), WAYS, enso_whatif.table(NAME, sst), LIMITS]
    return "\n".join(parts)


def what_if(sst: xr.DataArray) -> str:
    """Return the section of composites."""
    lines = ["What if there is an El Nino\n---------------------------\n", paragraph(
        """Nino3.4 of December to February at least as high as is said, asked for in the Junes of years
        in which it did not come about. Pattern correlations with the observed composite are over
        cells, by area, less the mean of the basin; the bar was 0.8 in the winter that is asked for.
        ``enso-small`` is conditioned exactly. *Not asked* are the same starts without constraint.
        The months after the winter were not asked for: what the models hold likely then."""), ""]  # fmt: skip
    for level in LEVELS:
        agree, index, told = composites(sst, level)
        lines += [paragraph(f"At least {told}"), "", "Pattern correlation:\n"]
        lines += [listed(["", *SEASONS], agree), "", "Nino3.4 (K):\n"]
        lines += [listed(["", *SEASONS], index), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args(arguments).out
    torch.set_num_threads(1)
    begin = time.perf_counter()
    sst, model = samples.open("kaplan_sst").load(), load(NAME)
    text = card(model, sst, ARTIFACTS / f"{NAME}.safetensors")
    aside = out.with_suffix(".tmp")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, out)
    print(f"wrote {out.name}, {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
