"""The statistics of Earthformer's ENSO table for every forecaster at hand, on the real ocean.

C-Nino3.4-M, C-Nino3.4-WM and MSE by the protocol ``icar_enso``, with intervals of a block
bootstrap over starts and the paired difference from the linear inverse model.

    python ci/enso_table.py                                           # prints the tables
    python ci/enso_table.py --out docs/models/enso-seed-table.rst     # and writes the page
    python ci/enso_table.py --model mine.safetensors                  # one more row
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xearth.data.sources import samples
from xearth.data.splits import Split
from xearth.data.windows import Window
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.io import load
from xearth.reference.analog import Analog
from xearth.reference.climatology import Climatology
from xearth.reference.cslim import CSLIM
from xearth.reference.lim import LIM
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.reference.recharge import RechargeOscillator
from xearth.verification.protocols.index_protocols import (
    INDEX_PROTOCOLS,
    IndexProtocol,
    icar_weights,
)
from xearth.verification.scores.indices import running_mean
from xearth.verification.significance.bootstrap import bootstrap

ICAR: IndexProtocol = INDEX_PROTOCOLS["icar_enso"]
# for forecasts of 3-month means themselves: the same months without a second mean
MEANS = replace(ICAR, name="icar_enso of 3-month means", smoothing="none", span=None)
LEADS = 14  # months, which give 12 means of three
RESAMPLES = 1000
WINDOW = Window(history=12, horizon=LEADS)
OCEAN = Split(train="1856-01/1981-12", judge="1982-01/2003-12", histories="past")
RECHARGE = Split(train="1979-01/2001-12", judge="2002-01/2024-12", histories="past")

#: Gao et al. (2022): C-Nino3.4-M, C-Nino3.4-WM, MSE in 1e-4.
PUBLISHED = (
    ("Persistence", 0.3221, 0.447, 4.581),
    ("Earthformer, 7.6 M parameters", 0.7329, 2.259, 2.546),
)


@dataclass(frozen=True)
class Row:
    """One forecaster: its statistics, each as (value, lower, upper)."""

    name: str
    seen: str
    c_m: tuple[float, ...]
    c_wm: tuple[float, ...]
    mse: tuple[float, ...] | None
    difference: tuple[float, ...] | None  # of C-M from the reference
    p: float | None

    def cells(self) -> list[str]:
        """Return the row as text."""
        verdict = "-"
        if self.difference is not None and self.p is not None:
            told = "yes" if self.p < 0.05 else "no"
            verdict = f"{_interval(self.difference, 3, sign='+')}; {told}, p {self.p:.3f}"
        mse = "-" if self.mse is None else _interval([1e4 * v for v in self.mse], 2)
        return [
            self.name, self.seen, _interval(self.c_m, 3), _interval(self.c_wm, 2), mse, verdict
        ]  # fmt: skip


def _interval(values: Any, digits: int, sign: str = "") -> str:
    value, lower, upper = (float(v) for v in values)
    value += 0.0 if abs(value) >= 0.5 * 10.0**-digits else -value  # no -0.000
    text = f"{value:{sign}.{digits}f}"
    if np.isnan(lower):
        return text
    return f"{text} [{lower:{sign}.{digits}f}, {upper:{sign}.{digits}f}]"


# --- scores -------------------------------------------------------------------------------------


def sums_of(f: xr.DataArray, o: xr.DataArray) -> xr.DataArray:
    """Return what adds over starts, (init, lead, moment), with the correlation made of it."""
    known = (f.notnull() & o.notnull()).astype(float)
    moments = (known, f, o, f * f, o * o, f * o)
    return xr.concat([m.drop_vars("valid_time", errors="ignore") for m in moments], "moment",
                     coords="minimal", compat="override").transpose("init", "lead", "moment")  # fmt: skip


def correlations(total: np.ndarray) -> np.ndarray:
    """Return the correlations (..., L) of totals (..., L, 6)."""
    n, f, o, ff, oo, fo = np.moveaxis(total, -1, 0)
    size = np.maximum(ff - f * f / n, 0) * np.maximum(oo - o * o / n, 0)
    found: np.ndarray = (fo - f * o / n) / (np.sqrt(size) + ICAR.epsilon)
    return found


def mean_of(total: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return C-Nino3.4-M."""
    return correlations(total["a"]).mean(-1)


def weighted_mean_of(total: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return C-Nino3.4-WM."""
    r = correlations(total["a"])
    return (r * icar_weights(r.shape[-1])).mean(-1)


def gain_of(total: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the difference of two C-Nino3.4-M."""
    return (correlations(total["a"]) - correlations(total["b"])).mean(-1)


def ratio_of(total: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a mean."""
    return total["a"] / total["n"]


def _resampled(sums: Mapping[str, xr.DataArray], finish: Any, *, own: bool = True) -> xr.Dataset:
    dims = ("lead", "moment") if own else ()
    return bootstrap(sums, finish, own=dims, n=RESAMPLES)


def _three(found: xr.Dataset) -> tuple[float, ...]:
    return tuple(float(found[name]) for name in ("value", "lower", "upper"))


@dataclass(frozen=True)
class Case:
    """A forecast in memory (init, lead, ...) and what it has seen."""

    name: str
    seen: str
    forecast: xr.DataArray

    def pairs(self, obs: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, IndexProtocol]:
        """Return the index of both by the protocol that fits; leads count from 1."""
        if "target" in self.forecast.attrs:  # the mean that ends at lead 3 is that of leads 1 to 3
            index = ICAR._index(obs)
            own, truth, protocol = (
                self.forecast.isel(lead=slice(2, None)),
                running_mean(index),
                MEANS,
            )
        else:
            own, truth, protocol = self.forecast, obs, ICAR
        f, o = protocol.pairs(own, truth)
        leads = {"lead": np.arange(1, f.sizes["lead"] + 1)}
        return f.assign_coords(leads), o.assign_coords(leads), protocol


def rows_of(cases: list[Case], obs: xr.DataArray, *, reference: str) -> Iterator[Row]:
    """Yield the row of each case."""
    ahead = next(sums_of(*case.pairs(obs)[:2]) for case in cases if case.name == reference)
    for case in cases:
        f, o, protocol = case.pairs(obs)
        sums = {"a": sums_of(f, o)}
        found = _resampled(sums, mean_of)
        own = MEANS.score(f, o)  # the same statistic by the protocol itself
        np.testing.assert_allclose(float(found["value"]), own.correlation_m.item(), atol=1e-9)
        gain = None if case.name == reference else _resampled({**sums, "b": ahead}, gain_of)
        yield Row(
            name=case.name,
            seen=case.seen,
            c_m=_three(found),
            c_wm=_three(_resampled(sums, weighted_mean_of)),
            mse=_mse(case.forecast, obs) if protocol is ICAR and "lat" in obs.dims else None,
            difference=None if gain is None else _three(gain),
            p=None if gain is None else float(gain["p_value"]),
        )


def _mse(forecast: xr.DataArray, obs: xr.DataArray) -> tuple[float, ...]:
    """Return the mean square error of the fields with its interval."""
    from xearth.verification.align import observations_at

    error = (forecast - observations_at(forecast, obs)) ** 2 / (ICAR.span or 1.0) ** 2
    dims = [dim for dim in error.dims if dim != "init"]
    sums = {"a": error.sum(dims), "n": error.notnull().sum(dims).astype(float)}
    found = _three(_resampled(sums, ratio_of, own=False))
    np.testing.assert_allclose(found[0], ICAR.score(forecast, obs).mse.item(), rtol=1e-5)
    return found


# --- forecasters --------------------------------------------------------------------------------


def ocean(models: list[str]) -> tuple[list[Case], xr.DataArray]:
    """Return the forecasts of Kaplan SST and the truth."""
    sst = samples.open("kaplan_sst").load()
    past, init = OCEAN.select(sst, "train"), sst.time.values[OCEAN.inits(sst, WINDOW, "judge")]
    made: dict[str, Any] = {
        "persistence": Persistence.fit(past, horizon=LEADS),
        "damped persistence": DampedPersistence.fit(past, horizon=LEADS),
        "climatology": Climatology.fit(past, horizon=LEADS),
        "analog": Analog.fit(past, horizon=LEADS),
        "LIM-15, months": LIM.fit(past, horizon=LEADS, modes=15),
        "LIM-15, 3-month means": LIM.fit(past, horizon=LEADS, modes=15, smoothing=3),
        "CSLIM-15, months": CSLIM.fit(past, horizon=LEADS, modes=15),
        "CSLIM-15, 3-month means": CSLIM.fit(past, horizon=LEADS, modes=15, smoothing=3),
    }
    cases = [
        Case(name, _years(OCEAN.train), hindcast(sst, one, init=init).compute())
        for name, one in made.items()
    ]
    for name in models:
        model = load(name)
        forecast = hindcast(sst, model, init=init).isel(lead=slice(0, LEADS)).compute()
        cases.append(Case(Path(name).stem, _seen(model.provenance), forecast))
    return cases, sst


def recharge() -> tuple[list[Case], xr.DataArray]:
    """Return the forecasts of Nino3.4 on the XRO indices and the truth."""
    indices = samples.open("xro_indices").load()
    past = RECHARGE.select(indices, "train")
    init = indices.time.values[RECHARGE.inits(indices, WINDOW, "judge")]
    index, own = indices.Nino34, past.Nino34
    made = {
        "persistence": Persistence.fit(own, horizon=LEADS).forecast(index, init=init),
        "damped persistence": DampedPersistence.fit(own, horizon=LEADS).forecast(index, init=init),
        "climatology": Climatology.fit(own, horizon=LEADS).forecast(index, init=init),
        "recharge oscillator": RechargeOscillator.fit(past, horizon=LEADS)
        .forecast(indices, init=init)
        .Nino34,
    }
    return [Case(name, _years(RECHARGE.train), f) for name, f in made.items()], index


def _seen(provenance: Mapping[str, Any]) -> str:
    text = _years(str(provenance.get("training_period", "not stated")))
    chosen = provenance.get("validation_period")
    return text if chosen is None else f"{text}, chosen on {_years(str(chosen))}"


def _years(period: str) -> str:
    first, _, last = period.partition("/")
    return f"{first[:4]}-{last[:4]}" if last else period


# --- output -------------------------------------------------------------------------------------

HEADER = ["forecaster", "learned from", "C-Nino3.4-M", "C-Nino3.4-WM", "MSE (1e-4)",
          "C-Nino3.4-M less that of {reference}; told from chance?"]  # fmt: skip


def plain(header: list[str], rows: list[list[str]]) -> str:
    """Return a text table."""
    table = [header, *rows]
    widths = [max(len(line[k]) for line in table) for k in range(len(header))]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in table
    )


def listed(header: list[str], rows: list[list[str]]) -> str:
    """Return a list-table of reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [f"   {'*' if k == 0 else ' '} - {cell}" for k, cell in enumerate(row)]
    return "\n".join(lines)


PAGE = """\
The ENSO table of the paper, on the real ocean
==============================================

.. This page is written by ci/enso_table.py; do not edit it.

C-Nino3.4-M is the mean of the correlations of Nino3.4 over 12 leads, C-Nino3.4-WM their weighted
mean (3.41 if all were 1), MSE that of the fields divided by the square of 26.75 K, the range of the
published training data. All three by the protocol ``icar_enso``
(:mod:`xearth.verification.protocols.index_protocols`): 14 months of forecast, means of each month
and the two after it, all calendar months together. In brackets 95 % intervals of a block bootstrap
over starts ({resamples} resamples, blocks from the data). The last column is the paired difference
from one of the rows on the same starts, and whether it can be told from chance at 5 %.

Kaplan SST, {ocean_judged}
{ocean_line}

{ocean_starts} starts, whose leads all lie in {ocean_judged}; 12 x 22 cells of 5 degrees, 30S-30N,
180-70W. Forecasters of months are averaged along the lead. The linear models that forecast 3-month
means, as in the literature, are taken at the leads of the same three months; they have no field of
months to take an MSE of. {note}

{ocean}

Nino3.4 of ORAS5, {recharge_judged}
{recharge_line}

{recharge_starts} starts, on indices, so without an MSE. The anomalies are from the mean and trend
of 1979-2024: all rows leak that much.

{recharge}

Published, climate model, not reproduced
----------------------------------------

From Gao et al. (2022). Judged on a CMIP5 run, trained on other runs, on 24 x 48 cells from 55S to
60N and 95E to 330E: another ocean, other cells, other months, so no row of this table compares
with one above. It is here because the names of the columns are the same. Models of the climate are
more regular than the ocean. The weights behind these numbers were not published.
:mod:`xearth.data.sources.icar_enso` reads the data, if you have them.

{published}
"""


def page(tables: Mapping[str, str], counts: Mapping[str, int], note: str) -> str:
    """Return the page of the documentation."""
    judged = {"ocean": _years(str(OCEAN.judge)), "recharge": _years(str(RECHARGE.judge))}
    lines = {"ocean": "Kaplan SST, ", "recharge": "Nino3.4 of ORAS5, "}
    return PAGE.format(
        resamples=RESAMPLES,
        note=note,
        **tables,
        **{f"{key}_judged": text for key, text in judged.items()},
        **{f"{key}_line": "-" * (len(lines[key]) + len(judged[key])) for key in lines},
        **{f"{key}_starts": f"{number}" for key, number in counts.items()},
    )


NOTE = (
    "Shipped networks whose epochs or settings were chosen on these years "
    "(column *learned from*) look a little better here than they are."
)


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", default=[], help="name or path; repeatable")
    parser.add_argument("--out", type=Path, help="page of reStructuredText to write")
    arguments = parser.parse_args()
    tables: dict[str, str] = {}
    counts: dict[str, int] = {}
    parts = {
        "ocean": (ocean(["enso-small", *arguments.model]), "LIM-15, 3-month means"),
        "recharge": (recharge(), "persistence"),
    }
    for key, ((cases, obs), reference) in parts.items():
        header = [title.format(reference=reference) for title in HEADER]
        rows = [row.cells() for row in rows_of(cases, obs, reference=reference)]
        counts[key] = cases[0].forecast.sizes["init"]
        split = OCEAN if key == "ocean" else RECHARGE
        print(f"\n{obs.name}, judged on {split.judge}, {counts[key]} starts, icar_enso\n")
        print(plain(header, rows), flush=True)
        tables[key] = listed(header, rows)
    published = [[name, f"{m:.4f}", f"{wm:.3f}", f"{mse:.3f}"] for name, m, wm, mse in PUBLISHED]
    header = [HEADER[0], *HEADER[2:5]]
    print("\npublished, climate model, not reproduced\n")
    print(plain(header, published))
    tables["published"] = listed(header, published)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = arguments.out.with_suffix(".tmp")
        temporary.write_text(page(tables, counts, NOTE), encoding="utf-8")
        os.replace(temporary, arguments.out)
        print(f"\nwrote {arguments.out}")


if __name__ == "__main__":
    main()
