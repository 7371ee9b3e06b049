"""Train, choose, measure and write the shipped forecaster enso-small.

Learned from 1856-1981: statistics, first guess, networks, and how the spread changes with season
and lead. Chosen on 1982-2003: how much of what the networks add is kept, and the width of the
ensemble. The table for 1982-2003 is nested: each of five stretches of starts is forecast with what
was chosen on the others, no target of which it shares. The file that ships has what was chosen on
all of 1982-2003. Settings of the first guess were chosen inside 1856-1981 (ci/enso_small_inside.py);
docs/decisions/016-enso-small.rst tells what else was tried.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.special import ndtr

from xearth.data.sources import samples
from xearth.data.windows import Window
from xearth.fields.regions import NINO34
from xearth.forecasting.firstguess import LinearGuess
from xearth.forecasting.fit import fit
from xearth.forecasting.forecaster import NetworkForecaster
from xearth.forecasting.history import read_histories
from xearth.forecasting.inputs import first_guess
from xearth.forecasting.io import load
from xearth.forecasting.recipe import Recipe
from xearth.forecasting.stepwise import Stepwise
from xearth.models.config import EarthformerConfig
from xearth.models.config_parts import ConvStem, Dropout
from xearth.models.heads import LowRankGaussian
from xearth.reference.climatology import Climatology
from xearth.reference.cslim import CSLIM
from xearth.reference.lim import LIM
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.training.optim import Schedule
from xearth.training.options import TrainOptions
from xearth.verification.one_pass.verify import verify
from xearth.verification.scores.indices import nino_index, running_mean

ROOT = Path(__file__).parents[1]
ARTIFACT = ROOT / "xearth" / "artifacts" / "enso-small.safetensors"
WINDOW = Window(history=12, horizon=18)
TRAIN, CHOICE = slice(None, "1981-12"), "1982-01/2003-12"
STARTS = slice("1981-12", "2002-06")  # all leads of each start lie in 1982-2003
STRETCHES, JUDGED = 5, 12  # of starts; leads that a choice is judged by
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
WIDTHS = tuple(round(0.8 + 0.05 * k, 2) for k in range(25))
EXTRAS = tuple(round(0.1 * k, 1) for k in range(11))
FADES = 1.5  # leads in which what is extra falls by a factor of e
MEMBERS = 60
RECIPE = Recipe(
    name="enso-small",
    head=LowRankGaussian(16),
    guess=LinearGuess(
        components=(5, 10, 20),
        lags=(0, 1, 3, 6, 11),
        products=2,
        half_life=480.0,
        stepwise=Stepwise(share=0.5, leads=6, components=15),
        annual=0.7,
        penalties=(1.0, 3.0, 10.0, 30.0, 100.0),
    ),
    season=True,
    networks=3,
    options=TrainOptions(
        epochs=1,
        batch_size=16,
        schedule=Schedule(lr=5e-4, weight_decay=1e-2, warmup=0.1),
        ema=0.98,
        accelerator="cpu",
        progress=False,
    ),
)


ABOUT = (
    "Nino3.4 of Kaplan SST by ``ci/train_enso_small --table``. Everything is fitted to 1856-1981; "
    "starts are 1981-12 to 2002-06, pooled, so that all targets lie in 1982-2003. enso-small, "
    "nested: the share of the networks and the width of the ensemble were chosen on the other "
    "stretches of starts. As shipped: chosen on these same years. First guess alone: without the "
    f"networks. {MEMBERS} members. Intervals are of a block bootstrap over starts (95 %), paired "
    "for differences. LIM-15 and CS-LIM-15 forecast months; of 3-month means: their state is the "
    "trailing mean."
)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is chosen: how much of the networks is kept, and the factor of the width.

    Factors of fields at all leads together leave out most of what is lost at the first leads:
    the width is ``width + extra * exp(-(n - 1) / FADES)`` at lead n.
    """

    share: float
    width: float
    extra: float

    def widths(self, season: np.ndarray) -> np.ndarray:
        """Return the factors of a seasonal table (12, L)."""
        fading = np.exp(-np.arange(season.shape[1]) / FADES)
        return season * (self.width + self.extra * fading)


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """Nino3.4 of what forecasts are made of, in K.

    Attributes
    ----------
    guess : array (I, L)
    factors : array (L, K)
        Of the guess.
    mean, spread : array (S, I, L), (S, I, L, K)
        What each network adds to both.
    truth : array (I, L)
    month : array (I,)
        Calendar month of the start, from 0.
    """

    guess: np.ndarray
    factors: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    truth: np.ndarray
    month: np.ndarray

    def normal(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (I, L) of the ensemble with a share of the networks."""
        center = self.guess + share * self.mean.mean(0)
        inner = np.square(self.factors + share * self.spread).sum(-1).mean(0)
        return center, np.sqrt(inner + share**2 * self.mean.var(0))

    def rows(self, rows: np.ndarray) -> Parts:
        """Return the parts of some starts."""
        one = {"guess": self.guess[rows], "truth": self.truth[rows], "month": self.month[rows]}
        both = {"mean": self.mean[:, rows], "spread": self.spread[:, rows]}
        return dataclasses.replace(self, **one, **both)


def sized(sst: xr.DataArray) -> EarthformerConfig:
    """Return the configuration of the networks."""
    return EarthformerConfig.for_data(
        sst,
        WINDOW,
        like="icar_enso",
        base_units=16,
        stem=ConvStem(scale=(1, 3, 3)),
        dropout=Dropout(attention=0.0, projection=0.1, ffn=0.1),
    )


def train(sst: xr.DataArray, recipe: Recipe) -> NetworkForecaster:
    """Return the forecaster of a recipe; nothing after the training period is looked at."""
    past = sst.sel(time=TRAIN)
    return fit(sized(past), past, window=WINDOW, recipe=recipe)


def parts_of(model: NetworkForecaster, data: xr.DataArray | xr.Dataset, starts: slice) -> Parts:
    """Return what the forecasts from some starts are made of."""
    sst = data if isinstance(data, xr.DataArray) else data[model.normalizer.variables[0]]
    past = read_histories(model, data, starts)
    box = NINO34.weights(sst).transpose("lat", "lon").values
    box = box * np.cos(np.deg2rad(sst.lat.values))[:, None]
    box = torch.as_tensor(box / box.sum(), dtype=torch.float32)
    scale, center = float(model.normalizer.scale[0]), float(model.normalizer.center[0])

    def index(field: torch.Tensor) -> np.ndarray:
        return torch.einsum("nlhwc...,hw->nl...", field, box).numpy() * scale

    found: dict[str, list[Any]] = {"guess": [], "mean": [], "spread": [], "month": []}
    with torch.inference_mode():
        for start in range(0, len(past.positions), 32):
            x, read, season = past.batch(slice(start, start + 32))
            guess = first_guess(model.guess, x, season, rank=model.head.rank)
            added = [model.head.predict(network(read)) for network in model.networks]
            found["guess"].append(index(guess.mean) + center)
            found["mean"].append(np.stack([index(guess.unit * a.mean) for a in added]))
            unit = guess.unit[..., None]
            found["spread"].append(np.stack([index(unit * a.factors) for a in added]))
            found["month"].append(np.rint(season * 12).astype(int) % 12)
    truth = nino_index(sst).values[past.positions[:, None] + np.arange(1, WINDOW.horizon + 1)]
    return Parts(
        guess=np.concatenate(found["guess"]),
        factors=index(guess.factors)[0],
        mean=np.concatenate(found["mean"], 1),
        spread=np.concatenate(found["spread"], 1),
        truth=truth,
        month=np.concatenate(found["month"]),
    )


def seasonal_width(parts: Parts) -> np.ndarray:
    """Return error over spread (12, L) by month of the start, 1 in the mean of each lead.

    Of training starts: their errors are too small, as they were fitted, but not their seasons.
    """
    center, spread = parts.normal(1.0)
    ratio = np.empty((12, parts.guess.shape[1]))
    for month in range(12):
        near = np.abs((parts.month - month + 6) % 12 - 6) <= 1
        error = np.square(parts.truth - center)[near].mean(0)
        ratio[month] = np.sqrt(error / np.square(spread)[near].mean(0))
    return ratio / ratio.mean(0)


def ignorance(parts: Parts, season: np.ndarray, choices: Sequence[Choice]) -> np.ndarray:
    """Return the logarithmic score of Nino3.4 of each choice, mean over the judged leads.

    The CRPS has its minimum at nearly the same widths, but hardly tells 20 % of width apart.
    """
    found = []
    for share, several in itertools.groupby(choices, key=lambda choice: choice.share):
        center, spread = parts.normal(share)
        for choice in several:
            sigma = choice.widths(season)[parts.month] * spread
            score = np.log(sigma) + 0.5 * np.square((parts.truth - center) / sigma)
            found.append(score[:, :JUDGED].mean())
    return np.array(found)


def crps(parts: Parts, season: np.ndarray, choice: Choice) -> float:
    """Return the CRPS of Nino3.4 of a choice, mean over the judged leads, in K."""
    center, spread = parts.normal(choice.share)
    sigma = choice.widths(season)[parts.month] * spread
    z = (parts.truth - center) / sigma
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    score = sigma * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return float(score[:, :JUDGED].mean())


def choose(parts: Parts, season: np.ndarray, shares: Sequence[float] = SHARES) -> Choice:
    """Return the choice of the best logarithmic score."""
    every = [Choice(*each) for each in itertools.product(shares, WIDTHS, EXTRAS)]
    return every[int(ignorance(parts, season, every).argmin())]


def with_choice(model: NetworkForecaster, season: np.ndarray, choice: Choice) -> NetworkForecaster:
    """Return the forecaster with a choice in it."""
    guess = dataclasses.replace(model.guess, unit=choice.share * model.guess.unit).rounded()
    width = np.round(choice.widths(season), 4).tolist()
    return dataclasses.replace(model, guess=guess, width=width)


def nested(
    model: NetworkForecaster, sst: xr.DataArray, parts: Parts, season: np.ndarray
) -> tuple[xr.DataArray, list[str]]:
    """Return forecasts whose choices never saw their targets, and what was chosen, in words."""
    starts = sst.sel(time=STARTS).time.values
    forecasts, said = [], []
    for own in np.array_split(np.arange(len(starts)), STRETCHES):
        far = np.r_[0 : max(own[0] - WINDOW.horizon, 0), own[-1] + WINDOW.horizon + 1 : len(starts)]
        choice = choose(parts.rows(far), season)
        one = with_choice(model, season, choice)
        forecasts.append(nino_index(one.forecast(sst, init=starts[own], members=MEMBERS)))
        ends = [str(starts[k])[:7] for k in own[[0, -1]]]
        said.append(
            f"{ends[0]}/{ends[1]}: share {choice.share}, width {choice.width} + {choice.extra}"
        )
    return xr.concat(forecasts, "init", combine_attrs="override"), said


def guess_alone(model: NetworkForecaster) -> NetworkForecaster:
    """Return the forecaster with networks that say nothing: its first guess."""
    guess = dataclasses.replace(model.guess, unit=0 * model.guess.unit)
    return dataclasses.replace(model, guess=guess, states=model.states[:1], name="guess")


def references(sst: xr.DataArray, starts: Any, smoothing: int = 1) -> dict[str, xr.DataArray]:
    """Return Nino3.4 of the opponents, fitted to the training period."""
    past, how = sst.sel(time=TRAIN), {"horizon": WINDOW.horizon}
    found = {
        "LIM-15": LIM.fit(past, **how, modes=15, smoothing=smoothing),
        "CS-LIM-15": CSLIM.fit(past, **how, modes=15, smoothing=smoothing),
    }
    if smoothing == 1:
        found["damped persistence"] = DampedPersistence.fit(past, **how)
        found["persistence"] = Persistence.fit(past, **how)
        found["climatology"] = Climatology.fit(past, **how)
    alone = {"persistence"}
    return {
        name: nino_index(one.forecast(sst, init=starts, members=None if name in alone else MEMBERS))
        for name, one in found.items()
    }


def smoothed(index: xr.DataArray, truth: xr.DataArray) -> xr.DataArray:
    """Return the trailing mean of three months, with the months before the start observed."""
    return running_mean(index, 3, history=truth)


def measured(
    sst: xr.DataArray, own: Mapping[str, xr.DataArray]
) -> dict[str, dict[str, xr.Dataset]]:
    """Return the scores of all forecasters, of months and of means of three months.

    The first of ``own`` is compared with all others.
    """
    truth, starts = nino_index(sst), sst.sel(time=STARTS).time.values
    monthly = {**own, **references(sst, starts)}
    season = {name: smoothed(one, truth) for name, one in monthly.items()}
    for name, one in references(sst, starts, smoothing=3).items():
        season[f"{name} of 3-month means"] = one
    found: dict[str, dict[str, xr.Dataset]] = {}
    cases = {"months": (monthly, truth), "3-month means": (season, running_mean(truth, 3))}
    for kind, (forecasts, at) in cases.items():
        found[kind] = {name: scored(one, at) for name, one in forecasts.items()}
        first = next(iter(own))
        rest = {name: one for name, one in forecasts.items() if name != first}
        deterministic = {name: central(one) for name, one in rest.items()}
        found[kind]["difference"] = verify(
            central(forecasts[first]),
            at,
            ("correlation", "rmse"),
            confidence=0.95,
            reference=deterministic,
        )
    return found


def central(index: xr.DataArray) -> xr.DataArray:
    """Return the ensemble mean, or the single forecast."""
    return index.mean("member", keep_attrs=True) if "member" in index.dims else index


def scored(index: xr.DataArray, truth: xr.DataArray) -> xr.Dataset:
    """Return the scores by lead with their intervals."""
    scores = verify(central(index), truth, ("correlation", "rmse"), confidence=0.95)
    if "member" not in index.dims:
        return scores
    names = ("crps_fair", "interval_coverage")
    spread = verify(index, truth, names, levels=[0.9], confidence=0.95)
    pooled = verify(
        index.isel(lead=slice(JUDGED)), truth, names, levels=[0.9], by=(), confidence=0.95
    )
    spread = spread.assign({f"pooled_{name}": value for name, value in pooled.items()})
    return scores.merge(spread, compat="override")


ROWS = {
    "correlation": "Correlation",
    "rmse": "RMSE (K)",
    "crps_fair": "CRPS (K)",
    "interval_coverage": "Coverage of the central 90 % interval",
}


def text_of(found: Mapping[str, Mapping[str, xr.Dataset]], notes: list[str]) -> str:
    """Return the tables as reStructuredText."""
    lines = [*textwrap.wrap(ABOUT, 100), "", *(f"- {note}" for note in notes), ""]
    for kind, tables in found.items():
        for score, title in ROWS.items():
            rows = []
            for name, table in tables.items():
                if name != "difference" and score in table:
                    rows.append([name, *_cells(table, score)])
                    if name == "enso-small, nested":
                        rows.append(["95 % interval", *_spans(table, score)])
            lines += _table(f"{title}, {kind}, by lead in months", rows)
        table = tables["difference"]
        for score in ("correlation", "rmse"):
            rows = [
                [str(name), *_differences(table.sel(reference=name), score)]
                for name in table.reference.values
            ]
            title = f"{ROWS[score]} of enso-small (nested) less that of the reference, {kind}; "
            lines += _table(f"{title}\\* where it can be told from chance (95 %)", rows)
    return "\n".join(lines) + "\n"


def _cells(table: xr.Dataset, score: str) -> list[str]:
    return [f"{float(v):.2f}" for v in table[score].squeeze().values[:JUDGED]]


def _spans(table: xr.Dataset, score: str) -> list[str]:
    ends = [table[f"{score}_{end}"].squeeze().values[:JUDGED] for end in ("lower", "upper")]
    return [f"{low:.2f} to {high:.2f}" for low, high in zip(*ends, strict=True)]


def _differences(table: xr.Dataset, score: str) -> list[str]:
    values = table[f"{score}_difference"].values[:JUDGED]
    verdicts = table[f"{score}_difference_verdict"].values[:JUDGED]
    return [
        f"{v:+.2f}{'*' if str(verdict).startswith('yes') else ''}".replace("*", "\\*")
        for v, verdict in zip(values, verdicts, strict=True)
    ]


def _table(title: str, rows: list[list[str]]) -> list[str]:
    head = ["", *map(str, range(1, JUDGED + 1))]
    lines = [f".. csv-table:: {title}", "   :header-rows: 1", "   :stub-columns: 1", ""]
    lines += ["   " + ", ".join(f'"{cell}"' for cell in row) for row in [head, *rows]]
    return [*lines, ""]


def show(found: Mapping[str, Mapping[str, xr.Dataset]], notes: list[str]) -> None:
    """Print the tables, leads across."""
    print("\n".join(notes))
    for kind, tables in found.items():
        for score, title in ROWS.items():
            print(f"\n{title}, {kind}")
            for name, table in tables.items():
                if name != "difference" and score in table:
                    print(f"{name:28}" + "".join(f"{cell:>6}" for cell in _cells(table, score)))
        table = tables["difference"]
        for score in ("correlation", "rmse"):
            print(f"\n{ROWS[score]} less that of the reference, {kind} (* not by chance)")
            for name in table.reference.values:
                cells = _differences(table.sel(reference=name), score)
                print(f"{name:28}" + "".join(f"{c.replace(chr(92), ''):>7}" for c in cells))


def report(
    model: NetworkForecaster, sst: xr.DataArray
) -> tuple[dict[str, dict[str, xr.Dataset]], list[str]]:
    """Return the tables and the notes above them."""
    raw, season = unchosen(model)
    parts = parts_of(raw, sst, STARTS)
    judged, said = nested(raw, sst, parts, season)
    starts = sst.sel(time=STARTS).time.values
    own = {
        "enso-small, nested": judged,
        "enso-small, as shipped": nino_index(model.forecast(sst, init=starts, members=MEMBERS)),
        "its first guess alone": nino_index(
            guess_alone(model).forecast(sst, init=starts, members=MEMBERS)
        ),
    }
    found = measured(sst, own)
    notes = [f"Chosen without the stretch of starts that is forecast: {'; '.join(said)}."]
    notes += [coverage_told(kind, tables["enso-small, nested"]) for kind, tables in found.items()]
    return found, notes


def coverage_told(kind: str, scores: xr.Dataset, level: float = 0.9) -> str:
    """Return in words what the 90 % intervals hold, pooled and at each lead.

    At a lead they are right as far as can be told if the interval of their coverage, that of the
    block bootstrap over starts, holds the level.
    """
    value, low, high = (
        float(scores[f"pooled_interval_coverage{end}"].squeeze())
        for end in ("", "_lower", "_upper")
    )
    by_lead = scores.interval_coverage.squeeze()
    lower, upper = (scores[f"interval_coverage_{end}"].squeeze() for end in ("lower", "upper"))
    off = [int(n) for n in scores.lead[(lower > level) | (upper < level)].values]
    first, last = (int(n) for n in scores.lead.values[[0, -1]])
    judged = f"holds {level:.2f} at every lead {first}-{last}"
    if off:
        judged = f"does NOT hold {level:.2f} at {', '.join(f'lead {n}' for n in off)}"
    return (
        f"Coverage of {100 * level:.0f} % intervals, {kind}, nested: leads 1 to {JUDGED} pooled "
        f"{value:.3f} ({low:.3f} to {high:.3f}); by lead {float(by_lead.min()):.2f} to "
        f"{float(by_lead.max()):.2f}, and the 95 % interval of the coverage {judged}."
    )


def unchosen(model: NetworkForecaster) -> tuple[NetworkForecaster, np.ndarray]:
    """Return a shipped forecaster as it was before the choice, and its seasonal widths."""
    told = model.provenance["choice"]
    choice = Choice(*(float(told[name]) for name in ("share", "width", "extra")))
    guess = dataclasses.replace(model.guess, unit=model.guess.unit / choice.share)
    width = np.asarray(model.width)
    season = width / choice.widths(np.ones_like(width))
    return dataclasses.replace(model, guess=guess, width=1.0), season


def made(sst: xr.DataArray, recipe: Recipe) -> NetworkForecaster:
    """Return the trained forecaster with what is chosen on all of 1982-2003."""
    raw = train(sst, recipe)
    season = seasonal_width(parts_of(raw, sst, slice("1900-01", "1980-06")))
    parts = parts_of(raw, sst, STARTS)
    choice = choose(parts, season)
    print(f"chosen on all of 1982-2003: {choice}; CRPS {crps(parts, season, choice):.4f} K")
    for share in (0.0, *SHARES):
        best = choose(parts, season, (share,))
        print(f"  {best}: CRPS {crps(parts, season, best):.4f} K")
    model = with_choice(raw, season, choice)
    told = {
        "share": choice.share,
        "width": choice.width,
        "extra": choice.extra,
        "how": "best logarithmic score of Nino3.4 at leads 1-12; the table for these years is nested: "
        "each of five stretches of starts is judged by what was chosen on the others",
    }
    notes = {
        "validation_period": CHOICE,
        "choice": told,
        "calibration": "width by month of the start and lead from 1900-1981, factor from the choice",
    }
    return dataclasses.replace(model, provenance={**model.provenance, **notes})


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ARTIFACT)
    parser.add_argument("--out", type=Path, help="write the tables there, as reStructuredText")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints" / "enso-small")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--table", action="store_true", help="only measure the file at --output")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sst = samples.open("kaplan_sst").load()
    if not arguments.table:
        recipe = dataclasses.replace(RECIPE, checkpoints=arguments.checkpoints)
        made(sst, recipe).save(arguments.output)
        print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e6:.1f} MB)")
    model = load(arguments.output)
    found, notes = report(model, sst)
    show(found, notes)
    if arguments.out is not None:
        arguments.out.write_text(text_of(found, notes))


if __name__ == "__main__":
    main()
