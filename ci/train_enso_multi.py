"""Fit, measure and write the shipped forecaster enso-multi.

Usage: python ci/train_enso_multi.py [--out docs/models/enso-multi-table.rst] [--table]

All that is fitted is fitted to 1979-2001: operators, and in cross-validation the errors that the
members carry. Which parts the mean has was chosen by that cross-validation and with the scores of
2002-2012 in view, after a first version had failed on 2002-2024: docs/decisions/017-enso-multi.rst
tells. Judged are 2002-2024, as is usual, and 2013-2024 by themselves, against the recharge oscillator fitted to
1979-2001. It takes about a minute on one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import textwrap
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import xarray as xr

from xearth.data.sources import samples
from xearth.errors import LeakageWarning
from xearth.forecasting.io import load
from xearth.forecasting.multi import MultiForecaster, oscillators
from xearth.reference.dressed import Dressed
from xearth.reference.recharge import RechargeOscillator
from xearth.verification.one_pass.verify import verify

ROOT = Path(__file__).parents[1]
ARTIFACT = ROOT / "xearth" / "artifacts" / "enso-multi.safetensors"
NAME = "enso-multi"
HORIZON = 18
MEMBERS = 100
LEADS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 18)
LEVEL = 0.9
CHOSEN = "2002-01/2012-12"  # their scores were in view when the parts were chosen
UNSEEN = slice("2013", "2024")
JUDGE = ("2002", "2024")
GOAL = 0.95  # of the CRPS of the dressed recharge oscillator


def views(train: xr.Dataset) -> object:
    """Return the combination fitted to some years."""
    return oscillators(train, horizon=HORIZON)


def oscillator(train: xr.Dataset) -> RechargeOscillator:
    """Return the published model fitted to some years."""
    return RechargeOscillator.fit(train, horizon=HORIZON)


def measured(
    model: MultiForecaster, indices: xr.Dataset, learn: slice, judge: slice
) -> dict[str, xr.Dataset]:
    """Return the scores by lead of the judged years.

    Means are scored at all target months of these years, members from all starts of these years.
    """
    past, truth = indices.sel(time=learn), indices.Nino34.sel(time=judge)
    first = truth.time.values[0].astype("datetime64[M]")
    last = truth.time.values[-1].astype("datetime64[M]") - 1
    early = str(first - HORIZON)
    reference = Dressed.fit(oscillator, past)
    combination = model.model.forecaster
    given = slice(early, str(last))
    mean = model.forecast(indices, init=given).Nino34
    others = {
        "XRO": reference.forecaster.forecast(indices, init=given).Nino34,
        "dressed XRO": reference.forecast(indices, init=given).Nino34,
        **{
            label: part.forecast(indices, init=given).Nino34
            for label, part in combination.parts.items()
        },
    }
    found = {
        "mean": verify(mean, truth, ["correlation", "rmse"], confidence=0.95, reference=others)
    }
    for label, other in others.items():
        found[label] = verify(other, truth, ["correlation", "rmse"])
    given = slice(str(first), str(last))
    members = model.forecast(indices, init=given, members=MEMBERS).Nino34
    rival = reference.forecast(indices, init=given, members=MEMBERS).Nino34
    names = ["crps_fair", "interval_coverage", "spread_skill_ratio"]
    found["members"] = verify(
        members, truth, names, confidence=0.95, reference={"dressed XRO": rival}, levels=LEVEL
    )
    found["dressed members"] = verify(rival, truth, names, levels=LEVEL)
    found["pooled"] = verify(members, truth, names, by=(), confidence=0.95, levels=LEVEL)
    return found


PREFACE = """\
Nino3.4 of ORAS5, monthly. Fitted to {learn}. A first version, chosen by cross-validation inside
these years, was judged on 2002-2024 and failed; the parts of this one were then chosen with {chosen}
in view (decision 017 tells all looks). Means are scored at all target months of the judged
years, {members} members from all starts of these years. XRO is the published recharge oscillator
fitted to the same years, dressed XRO the same with the errors of its own cross-validation. Brackets
are 95 % intervals of a block bootstrap over the starts, paired for differences; a verdict says
whether the two can be told apart at 5 %, each lead by itself.
``nonlinear`` and ``linear`` are the parts of the mean. The indices are anomalies from the
climatology and trend of the whole record, 1979-2024, as their authors distribute them: a small
leak that all rows share. The leak guard says:

{said}

"""


def text(found: dict[str, xr.Dataset]) -> str:
    """Return the goals and the tables as reStructuredText."""
    mean, members = found["mean"], found["members"]
    rival = found["dressed members"]
    blocks = []
    for score, digits in (("correlation", 3), ("rmse", 3)):
        rows = []
        for lead in LEADS:
            at, parts = mean.sel(lead=lead), mean.sel(lead=lead, reference="XRO")
            rows.append(
                [
                    str(lead),
                    span(at, score, digits),
                    f"{value(found['XRO'], score, lead):.{digits}f}",
                    span(parts, f"{score}_difference", digits, sign="+"),
                    str(parts[f"{score}_difference_verdict"].item()),
                    *(
                        f"{value(found[label], score, lead):.{digits}f}"
                        for label in ("nonlinear", "linear")
                    ),
                ]
            )
        title = {"correlation": "Correlation", "rmse": "RMSE (K)"}[score]
        header = ["lead", NAME, "XRO", "difference", "verdict", "nonlinear", "linear"]
        blocks.append(heading(title) + table(header, rows))
    rows = []
    for lead in LEADS:
        at = members.sel(lead=lead, reference="dressed XRO")
        theirs = value(rival, "crps_fair", lead)
        rows.append(
            [
                str(lead),
                span(at, "crps_fair", 3),
                f"{theirs:.3f}",
                f"{at.crps_fair.item() / theirs:.2f}",
                span(at, "crps_fair_difference", 3, sign="+"),
                str(at.crps_fair_difference_verdict.item()),
                percent(at, "interval_coverage"),
                f"{100 * value(rival, 'interval_coverage', lead):.0f} %",
                f"{at.spread_skill_ratio.item():.2f}",
            ]
        )
    header = [
        "lead", "CRPS (K)", "dressed XRO", "ratio", "difference", "verdict",
        "90 % interval holds", "that of dressed XRO", "spread / error",
    ]  # fmt: skip
    blocks.append(heading("Members") + table(header, rows))
    return "\n".join([goals(found), *blocks])


def goals(found: dict[str, xr.Dataset]) -> str:
    """Say which goals were reached."""
    mean, members, rival = found["mean"], found["members"], found["dressed members"]
    better = [
        lead
        for lead in range(3, 13)
        if value(mean, "correlation", lead) >= value(found["XRO"], "correlation", lead)
    ]
    ratios = {
        lead: value(members, "crps_fair", lead) / value(rival, "crps_fair", lead)
        for lead in range(1, 13)
    }
    sharp = [lead for lead, ratio in ratios.items() if ratio <= GOAL]
    held = [
        lead for lead in range(1, 13) if 0.87 <= value(members, "interval_coverage", lead) <= 0.93
    ]
    told = [
        lead
        for lead in range(3, 13)
        if str(
            mean.correlation_difference_verdict.sel(lead=lead, reference="XRO").item()
        ).startswith("yes, better")
    ]
    pooled = found["pooled"]
    return f"""\
* Correlation of XRO or more at leads 3-12: at {listed(better)}. Told apart from chance at
  {listed(told)}.
* CRPS of at most {GOAL} times that of dressed XRO at leads 1-12: at {listed(sharp)}. Mean ratio over
  leads 1-12 {np.mean(list(ratios.values())):.3f}.
* 90 % intervals that hold 87-93 % at leads 1-12: at {listed(held)}. Pooled over leads 1-{HORIZON}:
  {percent(pooled, "interval_coverage")}.
"""


def listed(leads: list[int]) -> str:
    """Write leads in words."""
    return ", ".join(map(str, leads)) if leads else "no lead"


def value(scores: xr.Dataset, name: str, lead: int) -> float:
    """Return one number."""
    return float(scores[name].sel(lead=lead).item())


def span(at: xr.Dataset, name: str, digits: int, sign: str = "") -> str:
    """Write a score and its interval."""
    low, high = (float(at[f"{name}_{end}"].item()) for end in ("lower", "upper"))
    middle = float(at[name].item())
    return f"{middle:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def percent(at: xr.Dataset, name: str) -> str:
    """Write a share and its interval."""
    low, high = (100 * float(at[f"{name}_{end}"].item()) for end in ("lower", "upper"))
    return f"{100 * float(at[name].item()):.0f} % [{low:.0f}, {high:.0f}]"


def heading(title: str, line: str = "-") -> str:
    """Return a heading."""
    return f"{title}\n{line * len(title)}\n\n"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [f"   {'*' if k == 0 else ' '} - {cell}" for k, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifact", type=Path, default=ARTIFACT)
    parser.add_argument("--out", type=Path, help="file of the tables")
    parser.add_argument("--table", action="store_true", help="only measure the file there is")
    parser.add_argument("--fit", action="store_true", help="only fit and write, judge nothing")
    parser.add_argument("--learn", nargs=2, default=("1979", "2001"), metavar=("FIRST", "LAST"))
    parser.add_argument("--judge", nargs=2, default=JUDGE, metavar=("FIRST", "LAST"))
    arguments = parser.parse_args()
    learn, judge = slice(*arguments.learn), slice(*arguments.judge)
    indices = samples.open("xro_indices").load()
    if not arguments.table:
        model = MultiForecaster.fit(views, indices.sel(time=learn), name=NAME)
        errors = model.model.errors["Nino34"][..., 0]
        rmse = np.sqrt(np.nanmean(errors**2, axis=0)).round(4).tolist()
        data = {
            "validation_period": CHOSEN,
            "seen_before": "totals of 2002-2024 of a first version, see decision 017",
            "data": "xro_indices (ORAS5 1979-2024; anomalies from the whole record)",
        }
        model = dataclasses.replace(
            model,
            provenance={**model.provenance, **data},
            metrics={"nino34_rmse_cross_validated_by_lead": rmse},
        )
        model.save(arguments.artifact)
        print(f"RMSE of Nino3.4 in cross-validation, leads 1-{HORIZON}: {rmse}")
        print(f"wrote {arguments.artifact.name} ({arguments.artifact.stat().st_size / 1e6:.2f} MB)")
    if not arguments.fit:
        shipped = load(arguments.artifact)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LeakageWarning)
            parts = {f"{judge.start}-{judge.stop}": measured(shipped, indices, learn, judge)}
            if arguments.judge == JUDGE:
                unseen = measured(shipped, indices, learn, UNSEEN)
                parts[f"{UNSEEN.start}-{UNSEEN.stop}, which chose no part"] = unseen
        said = [str(one.message) for one in caught if one.category is LeakageWarning]
        tables = PREFACE.format(
            learn=f"{learn.start}-{learn.stop}",
            chosen=CHOSEN,
            members=MEMBERS,
            said=textwrap.fill(said[0], 98, initial_indent="   ", subsequent_indent="   "),
        )
        for title, found in parts.items():
            tables += heading(f"Judged on {title}", "=") + text(found) + "\n"
        print(tables)
        if arguments.out is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            temporary = arguments.out.with_suffix(".tmp")
            temporary.write_text(tables, encoding="utf-8")
            os.replace(temporary, arguments.out)


if __name__ == "__main__":
    main()
