"""Marks of nowcasts of radar files: persistence, extrapolation, forecasters, published pysteps.

    python ci/nowcast_marks.py FILE...                       # nowcast-small beside the others
    python ci/nowcast_marks.py FILE --model mine.safetensors --members 20

Protocol: four starts, evenly from the fourth frame to the last with an hour after it; leads up to
an hour. Scored are the cells that all frames of the file know; what a forecast does not know there
counts as dry. Reflectivity goes to mm/h by the relation of the file. CSI pools hits, misses and
false alarms over the starts; "mean" is over the leads, "last" the last lead. CRPS is
mean|x-y| - sum|xi-xj|/(2 m^2) in mm/h, for single forecasts their MAE. ("fair" divides by m (m-1):
that is for independent members, not for pairs of opposite ones.)

An ensemble has three rows: its mean; its probability-matched mean; and, for the CSI alone, yes
where the forecaster's probability of reaching the threshold is at least p*, which was fixed on the
events that trained it. A forecaster that tells probabilities has a fourth: yes in so many of the
likeliest cells of a lead that the threat score it expects itself is the best; that is fixed by
nothing but the forecast.

Rows "pysteps, quoted" are S-PROG and STEPS (20 members) of pysteps 1.21.5 on the same starts,
leads and cells, as they were measured once for the public events; they are not run here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xearth.data.sources import radar
from xearth.fields.rain import rain_rate
from xearth.forecasting.io import load
from xearth.reference.advection import Advection
from xearth.verification.scores.decisions import yes_of_chances
from xearth.verification.scores.ensembles import combine_members

LEVELS = (0.1, 1.0, 5.0)
COLUMNS = ("CSI>=0.1", "CSI>=1", "CSI>=5", "MSE", "MAE", "CRPS")
HOUR, STARTS, FIRST = 60.0, 4, 3
#: (mean, last) of each column, of S-PROG and of the mean of 20 members of STEPS; fair CRPS last.
QUOTED: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "bom_melbourne_20180616": {
        "S-PROG": ((0.617, 0.468), (0.532, 0.360), (0.298, 0.134), (2.352, 3.818), (0.6266,)),
        "STEPS": ((0.614, 0.478), (0.538, 0.380), (0.173, 0.010), (1.937, 2.650), (0.6121,),
                  (0.4630, 0.6308), 0.4461),
    },
    "fmi_20160928": {
        "S-PROG": ((0.804, 0.726), (0.539, 0.418), (0.141, 0.029), (0.316, 0.487), (0.1514,)),
        "STEPS": ((0.799, 0.722), (0.538, 0.421), (0.088, 0.000), (0.234, 0.344), (0.1404,),
                  (0.1048, 0.1366), 0.1009),
    },
    "knmi_20100826": {
        "S-PROG": ((0.738, 0.624), (0.542, 0.364), (0.126, 0.012), (0.315, 0.565), (0.2255,)),
        "STEPS": ((0.741, 0.639), (0.503, 0.311), (0.052, 0.000), (0.268, 0.465), (0.2231,),
                  (0.1677, 0.2347), 0.1611),
    },
    "mch_20150515": {
        "S-PROG": ((0.645, 0.489), (0.574, 0.422), (0.258, 0.093), (2.899, 3.645), (0.2952,)),
        "STEPS": ((0.622, 0.443), (0.575, 0.431), (0.253, 0.097), (1.802, 1.901), (0.2758,),
                  (0.1936, 0.2339), 0.1861),
    },
    "mch_20170131": {
        "S-PROG": ((0.648, 0.518), (0.501, 0.327), (0.191, 0.049), (0.496, 0.846), (0.2082,)),
        "STEPS": ((0.651, 0.529), (0.499, 0.331), (0.126, 0.000), (0.367, 0.556), (0.1983,),
                  (0.1414, 0.1921), 0.1357),
    },
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Event:
    """A radar file with the starts that are scored.

    Parameters
    ----------
    name : str
    rain : DataArray (time, y, x)
        mm/h.
    minutes : float
        Between frames.
    """

    name: str
    rain: xr.DataArray
    minutes: float

    @classmethod
    def read(cls, path: Path) -> Event:
        """Read a file."""
        rain = rain_rate(radar.open(path)).load()
        minutes = float(np.diff(rain[rain.dims[0]].values[:2])[0] / np.timedelta64(1, "s")) / 60
        return cls(path.stem.removeprefix("radar_"), rain, minutes)

    @property
    def leads(self) -> int:
        """Steps in an hour."""
        return int(HOUR / self.minutes)

    @property
    def positions(self) -> np.ndarray:
        """The starts, on the time axis."""
        last = self.rain.shape[0] - 1 - self.leads
        return np.rint(np.linspace(FIRST, last, STARTS)).astype(int)

    @property
    def inits(self) -> np.ndarray:
        """Times of the starts."""
        stamps: np.ndarray = self.rain[self.rain.dims[0]].values[self.positions]
        return stamps

    @property
    def seen(self) -> np.ndarray:
        """Cells that all frames know, (y, x)."""
        return np.isfinite(self.rain.values).all(axis=0)

    def cells(self, fields: np.ndarray) -> np.ndarray:
        """Return fields (..., y, x) at the cells that are scored; what is not known is dry."""
        return np.nan_to_num(fields[..., self.seen], nan=0.0)

    @property
    def truth(self) -> np.ndarray:
        """Observed (start, lead, cell)."""
        after = self.positions[:, None] + np.arange(1, self.leads + 1)
        return self.cells(self.rain.values[after])


@dataclass(frozen=True)
class Row:
    """Marks of one method: (mean, last) of each column, None where there is none."""

    name: str
    marks: tuple[tuple[float, ...] | None, ...]
    fair: float | None = None


class Tally:
    """Sums of one kind of field over the starts, by lead."""

    def __init__(self) -> None:
        self.both, self.either = np.zeros((2, len(LEVELS), 1))
        self.squared, self.absolute, self.crps = np.zeros((3, 1))
        self.starts = 0

    def add(self, field: np.ndarray, truth: np.ndarray) -> None:
        """Add one field (lead, cell), and its errors."""
        self.count([field >= level for level in LEVELS], truth)
        apart = (field - truth).astype(np.float64)
        self.squared = self.squared + (apart**2).mean(axis=1)
        self.absolute = self.absolute + np.abs(apart).mean(axis=1)

    def count(self, yes: Sequence[np.ndarray], truth: np.ndarray) -> None:
        """Add hits, misses and false alarms of a yes or no (lead, cell) for each level."""
        rained = [truth >= level for level in LEVELS]
        pairs = list(zip(yes, rained, strict=True))
        self.both = self.both + np.array([(a & b).sum(axis=1) for a, b in pairs])
        self.either = self.either + np.array([(a | b).sum(axis=1) for a, b in pairs])
        self.starts += 1

    def marks(self, *, errors: bool = True) -> tuple[tuple[float, float], ...]:
        """Return mean over leads and last lead of each column."""
        by_lead = list(self.both / np.maximum(self.either, 1))
        if errors:
            by_lead += [total / self.starts for total in (self.squared, self.absolute)]
        return tuple((float(values.mean()), float(values[-1])) for values in by_lead)


def single(name: str, field: np.ndarray, truth: np.ndarray) -> Row:
    """Return the marks of one forecast (start, lead, cell); its CRPS is its MAE."""
    tally = Tally()
    for some, observed in zip(field, truth, strict=True):
        tally.add(some, observed)
    marks = tally.marks()
    return Row(name, (*marks, marks[-1]))


def crps(members: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the score (lead,) of members (lead, m, cell)."""
    m = members.shape[1]
    # rows of members next to each other are sorted fastest
    ordered = np.sort(np.ascontiguousarray(np.moveaxis(members, 1, -1)), axis=-1)
    # sum over pairs |xi - xj| of an ordered sample
    pairs = 2 * (ordered @ (2 * np.arange(m) - m + 1).astype(np.float32)).astype(np.float64)
    apart = np.abs(ordered - truth[..., None]).mean(axis=-1, dtype=np.float64)
    score: np.ndarray = (apart - pairs / (2 * m * m)).mean(axis=1)
    return score


def ranks(members: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return how often the truth has which rank (m + 1,), where it or a member is wet.

    Ties are broken at random.
    """
    wet = (truth >= LEVELS[0]) | (members >= LEVELS[0]).any(axis=1)
    below = (members < truth[:, None]).sum(axis=1)[wet]
    equal = (members == truth[:, None]).sum(axis=1)[wet]
    drawn = np.random.default_rng(0).integers(0, equal + 1)
    counts: np.ndarray = np.bincount(below + drawn, minlength=members.shape[1] + 1)
    return counts


def ensemble(event: Event, model: Any, members: int) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of a forecaster with members, and how well they are calibrated."""
    mean, matched, chance = Tally(), Tally(), Tally()
    score, variance, rank = np.zeros((3, 1))
    metrics = getattr(model, "metrics", {})
    limits = [float(dict(metrics.get("yes_from", {})).get(f"{v:g}", 0.5)) for v in LEVELS]
    for init, truth in zip(event.inits, event.truth, strict=True):
        whole = model.forecast(event.rain, init=init, members=members)
        fc = whole.isel(init=0, lead=slice(event.leads))
        fields = event.cells(fc.values)
        mean.add(fields.mean(axis=1), truth)
        score = score + crps(fields, truth)
        variance = variance + fields.var(axis=1, ddof=1, dtype=np.float64).mean(axis=1)
        rank = rank + ranks(fields, truth)
        matched.add(event.cells(combine_members(fc, "matched mean").values), truth)
        told = _chances(event, model, fc, init)
        chance.count([p >= limit for p, limit in zip(told, limits, strict=True)], truth)
    score = score / event.positions.size
    name = model.name
    rows = [
        Row(f"{name}, mean of {members}", (*mean.marks(), (float(score.mean()), float(score[-1])))),
        Row(f"{name}, matched mean", matched.marks()),
        Row(f"{name}, P >= p*", chance.marks(errors=False)),
    ]
    skill = np.sqrt(variance.mean() / mean.squared.mean())
    return rows, {"ranks": (rank / rank.sum()).round(4).tolist(), "spread_skill": float(skill)}


def _chances(event: Event, model: Any, fc: Any, init: Any) -> list[np.ndarray]:
    """Return the probability (lead, cell) of reaching each level."""
    if hasattr(model, "probability"):
        told = model.probability(event.rain, LEVELS, init=init).isel(init=0)
        fields = [
            told.isel(threshold=k, lead=slice(event.leads)).values for k in range(len(LEVELS))
        ]
    else:
        fields = [(fc >= level).mean("member").values for level in LEVELS]
    return [event.cells(np.asarray(field)) for field in fields]


def expecting(event: Event, model: Any) -> Row:
    """Return the row of the best yes that a forecaster with probabilities expects."""
    tally = Tally()
    for init, truth in zip(event.inits, event.truth, strict=True):
        tally.count([yes_of_chances(p) for p in _chances(event, model, None, init)], truth)
    return Row(f"{model.name}, best expected", tally.marks(errors=False))


def quoted_rows(name: str) -> Iterator[Row]:
    """Yield what was measured of pysteps, where it was."""
    for method, marks in QUOTED.get(name, {}).items():
        fair = marks[6] if len(marks) > 6 else None
        padded = (*marks[:6], *[marks[4]] * (6 - len(marks)))
        yield Row(f"{method} (pysteps, quoted)", padded, fair)


def references(event: Event) -> list[Row]:
    """Return the rows of persistence, extrapolation and pysteps."""
    last = event.cells(event.rain.values[event.positions])[:, None]
    truth = event.truth
    rows = [single("persistence", np.broadcast_to(last, truth.shape), truth)]
    moved = Advection(horizon=event.leads).forecast(event.rain, init=event.inits)
    rows.append(single("extrapolation", event.cells(moved.values), truth))
    return [*rows, *quoted_rows(event.name)]


def table(event: Event, rows: Sequence[Row]) -> str:
    """Return a table in text."""
    inits = ", ".join(str(stamp)[5:16] for stamp in event.inits)
    height, width = event.rain.shape[1:]
    out = [
        (
            f"{event.name}: {height} x {width} cells, step {event.minutes:g} min, leads up to "
            f"{event.leads * event.minutes:g} min, starts {inits}; cells scored "
            f"{event.seen.mean():.2f}"
        ),
        f"{'mean / last lead':<34}" + "".join(f"{column:>16}" for column in COLUMNS),
    ]
    for row in rows:
        cells = [_cell(mark, k) for k, mark in enumerate(row.marks)]
        fair = "" if row.fair is None else f"  (fair {row.fair:.4f})"
        out.append(f"{row.name:<34}" + "".join(f"{cell:>16}" for cell in cells) + fair)
    return "\n".join(out)


def _cell(mark: Sequence[float] | None, column: int) -> str:
    if mark is None:
        return "-"
    return " / ".join(f"{value:.{3 if column < 4 else 4}f}" for value in mark)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--model", action="append", help="shipped name or path; may be repeated")
    parser.add_argument("--members", type=int, default=20)
    options = parser.parse_args(arguments)
    models = [load(name) for name in options.model or ["nowcast-small"]]
    for path in options.files:
        event = Event.read(path)
        rows = references(event)
        for model in models:
            rows += ensemble(event, model, options.members)[0]
            if hasattr(model, "probability"):
                rows.append(expecting(event, model))
        print(table(event, rows), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
