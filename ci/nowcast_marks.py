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
events that trained it.

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
from xearth.verification.single_fields import exceeds, probability_matched_mean

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


def threat(yes: np.ndarray, truth: np.ndarray, level: float) -> tuple[float, float]:
    """Return the threat score of pooled counts: mean over leads, last lead."""
    rained = truth >= level
    both = (yes & rained).sum(axis=(0, 2))
    either = (yes | rained).sum(axis=(0, 2))
    score = both / np.maximum(either, 1)
    return float(score.mean()), float(score[-1])


def errors(field: np.ndarray, truth: np.ndarray) -> list[tuple[float, float]]:
    """Return squared and absolute error: mean over leads, last lead."""
    apart = (field - truth).astype(np.float64)
    by_lead = [(apart**2).mean(axis=(0, 2)), np.abs(apart).mean(axis=(0, 2))]
    return [(float(values.mean()), float(values[-1])) for values in by_lead]


def single(name: str, field: np.ndarray, truth: np.ndarray) -> Row:
    """Return the marks of one field (start, lead, cell)."""
    csi = [threat(field >= level, truth, level) for level in LEVELS]
    mse, mae = errors(field, truth)
    return Row(name, (*csi, mse, mae, mae))


def crps(members: np.ndarray, truth: np.ndarray) -> tuple[tuple[float, float], float]:
    """Return mean over leads and last lead, and the fair mean, of members (start, lead, m, cell)."""
    m = members.shape[2]
    ordered = np.sort(members, axis=2).astype(np.float64)
    weight = 2 * np.arange(m) - m + 1
    # sum over pairs |xi - xj| of an ordered sample
    pairs = 2 * np.einsum("m,slmc->slc", weight, ordered)
    apart = np.abs(ordered - truth[:, :, None]).mean(axis=2)
    by_lead = (apart - pairs / (2 * m * m)).mean(axis=(0, 2))
    fair = (apart - pairs / (2 * m * (m - 1))).mean()
    return (float(by_lead.mean()), float(by_lead[-1])), float(fair)


def ensemble_rows(event: Event, model: Any, members: int) -> Iterator[Row]:
    """Yield the rows of a forecaster with members."""
    truth = event.truth
    fc = model.forecast(event.rain, init=event.inits, members=members).isel(lead=slice(event.leads))
    fields = event.cells(fc.values)
    score, _ = crps(fields, truth)
    label = f"{model.name}, mean of {members}"
    row = single(label, fields.mean(axis=2), truth)
    yield Row(label, (*row.marks[:5], score))
    matched = event.cells(probability_matched_mean(fc).values)
    yield Row(f"{model.name}, matched mean", single("", matched, truth).marks[:5])
    chances = dict(model.metrics.get("yes_from", {})) if hasattr(model, "metrics") else {}
    csi = []
    for level in LEVELS:
        at = float(chances.get(f"{level:g}", 0.5))
        csi.append(threat(event.cells(_chance(event, model, fc, level)) >= at, truth, level))
    yield Row(f"{model.name}, P >= p*", tuple(csi))


def _chance(event: Event, model: Any, fc: xr.DataArray, level: float) -> np.ndarray:
    """Return the probability (start, lead, y, x) of reaching a level."""
    if hasattr(model, "probability"):
        told = model.probability(event.rain, [level], init=event.inits)
        return np.asarray(told.isel(threshold=0, lead=slice(event.leads)).values)
    return np.asarray(exceeds(fc, f"{level} mm h-1").values)


def quoted_rows(name: str) -> Iterator[Row]:
    """Yield what was measured of pysteps, where it was."""
    for method, marks in QUOTED.get(name, {}).items():
        fair = marks[6] if len(marks) > 6 else None
        padded = (*marks[:6], *[marks[4]] * (6 - len(marks)))
        yield Row(f"{method} (pysteps, quoted)", padded, fair)


def rows_of(event: Event, models: Sequence[Any], members: int) -> list[Row]:
    """Return the rows of an event."""
    last = event.cells(event.rain.values[event.positions])[:, None]
    truth = event.truth
    rows = [single("persistence", np.broadcast_to(last, truth.shape), truth)]
    moved = Advection(horizon=event.leads).forecast(event.rain, init=event.inits)
    rows.append(single("extrapolation", event.cells(moved.values), truth))
    rows += quoted_rows(event.name)
    for model in models:
        rows += ensemble_rows(event, model, members)
    return rows


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
        print(table(event, rows_of(event, models, options.members)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
