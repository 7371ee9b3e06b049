"""The demo: a real field, a short training, a shipped model, its forecast and its skill.

Every step is a call of a public function; what is here is the order, the years and the words.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from ..cf.describe import describe
from ..cf.timeaxis import TimeAxis
from ..cf.writer import to_cf
from ..data.sources import samples
from ..data.windows import Window
from ..errors import LeakageWarning
from ..forecasting.fit import fit
from ..forecasting.hindcast import hindcast
from ..forecasting.io import load
from ..forecasting.recipe import Recipe
from ..reference.climatology import Climatology
from ..reference.cslim import CSLIM
from ..reference.lim import LIM
from ..reference.persistence import DampedPersistence, Persistence
from ..verification.one_pass.verify import verify
from ..verification.scores.indices import nino_index, running_mean
from .files import writable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["compare", "difference_table", "headline", "run_demo", "skill_table"]

WINDOW = Window(history=12, horizon=18)

#: Years that trained the shipped model and fit the references.
LEARN = slice(None, "1981-12")
#: Starts whose every lead is verified within 1982-2003.
STARTS = slice("1981-12", "2002-06")
SCORES = ("correlation", "rmse")
#: Leads, in months, that intervals are printed of.
LEADS = (3, 6, 9, 12)
_HOW_SURE = (
    "Intervals and p-values: paired block bootstrap over the {n} starts of December 1981 to June "
    "2002. These years hold few El Ninos, so a large difference may still be luck."
)


def run_demo(*, init: str, members: int, epochs: int, netcdf: Path, figure: Path) -> None:
    """Run the whole path and write a CF file and a figure.

    Parameters
    ----------
    init : str
        Last observed month of the forecast.
    members : int
        Size of the ensemble.
    epochs : int
        Length of the short training.
    netcdf, figure : pathlib.Path
        Files to write.

    Raises
    ------
    TimeAxisError
        If the sample data do not hold `init`, or less than a year before it.
    """
    begin = time.monotonic()
    for path in (netcdf, figure):
        writable(path)
    sst = samples.open("kaplan_sst").load()
    TimeAxis.from_array(sst["time"]).locate(init)

    headline("The data: sea-surface temperature of the tropical Pacific, Kaplan et al. 1998")
    print(describe(sst))

    headline(f"A short training ({epochs} epochs), to see that it works. Its network is not kept:")
    print(_short_training(sst, epochs))

    headline(f"The forecast of the shipped model enso-small from {init}, {members} members")
    model: Any = load("enso-small")
    forecast = model.forecast(sst, init=init, members=members)
    print(_index_lines(nino_index(forecast)))

    headline("Its skill on 1982-2003, beside forecasts that need no network, fit to 1856-1981")
    forecasters = {"enso-small": model, **_references(sst.sel(time=LEARN))}
    indices = {name: _index(sst, one, STARTS) for name, one in forecasters.items()}
    truth = running_mean(nino_index(sst), 3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", LeakageWarning)
        scores, evidence = compare(indices, truth)
    print(skill_table(scores))
    print("r: correlation, RMSE in K; Nino3.4 anomaly, mean of the three months up to the lead.")
    print(f"\n{_own_intervals(evidence, LEADS)}")
    print("\nRMSE of enso-small less that of each at the same starts; is it better, at 95 %?")
    print(difference_table(evidence, LEADS))
    print(textwrap.fill(_HOW_SURE.format(n=int(evidence["n"].max())), 96))
    print("\nWhat the leak guard says:")
    for message in dict.fromkeys(str(warning.message) for warning in said):
        print(textwrap.fill(message, 96, initial_indent="- ", subsequent_indent="  "))

    headline("Files")
    to_cf(forecast, netcdf, title=f"ENSO forecast from {init} by enso-small of xearth")
    print(f"wrote {netcdf} (CF-1.11)")
    from ..plotting.summary import summary

    summary(forecast, sst, scores).savefig(figure, dpi=150)
    print(f"wrote {figure}")
    print(f"\ndone in {time.monotonic() - begin:.0f} s")


def compare(
    forecasts: Mapping[str, xr.DataArray],
    truth: xr.DataArray,
    scores: Sequence[str] = SCORES,
    *,
    thresholds: Sequence[str] | None = None,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the scores by lead of several forecasts, and how the first differs.

    Parameters
    ----------
    forecasts : mapping of str to xarray.DataArray
        (init, lead, ...) each, of the same starts, by the name they get in the table.
    truth : xarray.DataArray
        (time, ...).
    scores : sequence of str
        As of :func:`xearth.verify`.
    thresholds : sequence of str, optional
        Of events.

    Returns
    -------
    tuple of xarray.Dataset
        The scores with dimensions (forecaster, lead, ...); and for the first forecast the scores
        with their intervals (lead, ...), and the differences from the others with their intervals
        and verdicts (reference, lead, ...).
    """
    (_, first), *others = forecasts.items()
    tables = [verify(one, truth, scores, thresholds=thresholds) for one in forecasts.values()]
    names = pd.Index(list(forecasts), name="forecaster")
    table = xr.concat(tables, names, coords="minimal", compat="override", combine_attrs="override")
    return table, verify(
        first, truth, scores, thresholds=thresholds, confidence=0.95, reference=dict(others)
    )


def _index(obs: xr.DataArray, forecaster: Any, starts: slice) -> xr.DataArray:
    """Return the trailing 3-month means of Nino3.4 that a forecaster gives from many starts.

    They are what the linear inverse models of the literature forecast, and what calls an
    El Nino. The first two leads, whose means would hold observed months, are left out for all.
    """
    index = nino_index(hindcast(obs, forecaster, init=starts)).compute()
    if "target" not in index.attrs:
        index = running_mean(index, 3)
    return index.isel(lead=slice(2, None))


def difference_table(evidence: xr.Dataset, leads: Sequence[int]) -> str:
    """Return the text table of what :func:`compare` found of the RMSE.

    Examples
    --------
    >>> import xarray as xr
    >>> K = {"units": "K"}
    >>> cells = ("reference", "lead")
    >>> found = {"": -0.1, "_lower": -0.25, "_upper": -0.04}
    >>> found["_verdict"] = "yes, better (p = 0.010, n = 9)"
    >>> evidence = xr.Dataset(
    ...     {f"rmse_difference{end}": (cells, [[value]]) for end, value in found.items()},
    ...     {"reference": ["LIM-15"], "lead": ("lead", [3], {"units": "months"})},
    ... )
    >>> print(difference_table(evidence, [3]))
            lead  difference (K)        better?
    LIM-15     3  -0.10 [-0.25, -0.04]  yes (p = 0.010)
    """
    names = [str(name) for name in evidence["reference"].values]
    width = max(map(len, names))
    lines = [f"{'':{width}}  lead  {'difference (K)':20}  better?"]
    for name in names:
        for lead in leads:
            one = evidence.sel(reference=name, lead=lead)
            value, low, high = (
                float(one[f"rmse_difference{end}"]) for end in ("", "_lower", "_upper")
            )
            verdict = re.sub(r",? n = \d+", "", str(one["rmse_difference_verdict"].item()))
            verdict = verdict.replace("yes, better", "yes").replace("yes, worse", "no, worse")
            label = name if lead == leads[0] else ""
            lines.append(
                f"{label:{width}}  {lead:>4}  {value:+.2f} [{low:+.2f}, {high:+.2f}]  {verdict}"
            )
    return "\n".join(lines)


def _own_intervals(evidence: xr.Dataset, leads: Sequence[int]) -> str:
    """Return the correlations of the first forecast with their intervals."""
    cells = []
    for lead in leads:
        one = evidence.sel(lead=lead)
        r, low, high = (float(one[f"correlation{end}"]) for end in ("", "_lower", "_upper"))
        cells.append(f"{r:.2f} [{low:.2f}, {high:.2f}] at {lead}")
    text = f"r of enso-small with 95 % intervals: {', '.join(cells)} months"
    return textwrap.fill(text, 96)


def skill_table(scores: xr.Dataset) -> str:
    """Return the text table of `scores` (forecaster, lead): correlation r and RMSE.

    Examples
    --------
    >>> import xarray as xr
    >>> scores = xr.Dataset(
    ...     {"correlation": (("forecaster", "lead"), [[0.9], [float("nan")]]),
    ...      "rmse": (("forecaster", "lead"), [[0.25], [0.8]], {"units": "K"})},
    ...     {"forecaster": ["LIM", "damped persistence"],
    ...      "lead": ("lead", [1], {"units": "months"})},
    ... )
    >>> print(skill_table(scores))
                              damped
                    LIM  persistence
      lead     r   RMSE     r   RMSE
         1  0.90   0.25     -   0.80
    """
    width = 13
    columns = [textwrap.wrap(str(name), width - 1) for name in scores["forecaster"].values]
    height = max(map(len, columns))
    columns = [[""] * (height - len(lines)) + lines for lines in columns]
    rows = [" " * 6 + "".join(f"{lines[k]:>{width}}" for lines in columns) for k in range(height)]
    rows.append(f"{'lead':>6}" + f"{'r':>6}{'RMSE':>7}" * len(columns))
    for lead in scores["lead"].values:
        row = scores.sel(lead=lead)
        cells = zip(row["correlation"].values, row["rmse"].values, strict=True)
        rows.append(
            f"{int(lead):>6}" + "".join(f"{_number(r):>6}{_number(e):>7}" for r, e in cells)
        )
    return "\n".join(rows)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _short_training(sst: xr.DataArray, epochs: int) -> str:
    """Train a small network on every eighth window, with a progress bar; say what came out."""
    from ..models.config import EarthformerConfig
    from ..models.heads import LowRankGaussian

    begin = time.monotonic()
    short = fit(
        EarthformerConfig.for_data(sst, WINDOW, like="icar_enso", base_units=16), sst,
        window=dataclasses.replace(WINDOW, stride=8), validation=slice("1982-01", "1989-12"),
        epochs=epochs, recipe=Recipe(head=LowRankGaussian(8), season=True, name="short"),
    )  # fmt: skip
    losses = [epoch["valid_loss"] for epoch in short.metrics["epochs"][0]]
    seconds = time.monotonic() - begin
    return (
        f"trained in {seconds:.0f} s; loss on 1982-1989 after each epoch: "
        f"{', '.join(f'{loss:.3f}' for loss in losses)}"
    )


def _references(train: xr.DataArray) -> dict[str, Any]:
    """Return the forecasts that any model has to beat, fit on `train`."""
    horizon = WINDOW.horizon
    return {
        "LIM-15": LIM.fit(train, horizon=horizon, smoothing=3),
        "CSLIM-15": CSLIM.fit(train, horizon=horizon, smoothing=3),
        "damped persistence": DampedPersistence.fit(train, horizon=horizon),
        "persistence": Persistence.fit(train, horizon=horizon),
        "climatology": Climatology.fit(train, horizon=horizon),
    }


def headline(text: str) -> None:
    """Print a line and underline it."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def _index_lines(index: xr.DataArray) -> str:
    """Return Nino3.4 by valid month: mean and 5-95 % of the members."""
    index = index.isel(init=0) if "init" in index.dims else index
    lines = [f"{'lead':>6}  {'month':8} {'mean':>6}   5-95 % of the members (K)"]
    for lead in index["lead"].values:
        one = index.sel(lead=lead)
        low, high = np.percentile(one.values, [5, 95])
        month = one["valid_time"].dt.strftime("%b %Y").item()
        mean = float(one.mean())
        lines.append(f"{int(lead):>6}  {month:8} {mean:+6.2f}   {low:+.2f} to {high:+.2f}")
    return "\n".join(lines)
