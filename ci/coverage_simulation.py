"""How often intervals of a difference of two RMSE hold the truth, over simulated verifications.

Usage: python coverage_simulation.py [--replicates 1000] [--out docs/performance/coverage.rst]

Two forecasts have errors that are AR(1) with the coefficient phi, the second 1.2 times as large
(or, "near", of 95 % the same errors). The true difference of their RMSE is known, so each of
1,000 simulated records of n starts says whether the interval held it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench.common import machine, rst_table, write
from scipy.signal import lfilter
from scipy.special import stdtrit
from tqdm.auto import tqdm

from xearth.verification.significance.resampling import (
    Bootstrap,
    _counts,
    _Draw,
    _split,
    block_length,
)

PHI = (0.0, 0.5, 0.8, 0.9)
SPIN_UP = 300
RESAMPLES = 1000


@dataclass(frozen=True)
class Design:
    """Two forecasts: how much of their errors is common, and how large those of the second are."""

    name: str
    common: float
    factor: float

    def draw(self, phi: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Return the sums per start (replicates, n, 3): both squared errors and one."""
        noise = rng.standard_normal((3, shape[0], shape[1] + SPIN_UP)) * np.sqrt(1 - phi**2)
        c, a, b = lfilter([1], [1, -phi], noise, axis=-1)[..., SPIN_UP:]
        own = np.sqrt(1 - self.common**2)
        first = self.common * c + own * a
        second = self.factor * (self.common * c + own * b)
        return np.stack([first**2, second**2, np.ones_like(a)], -1)

    @property
    def truth(self) -> float:
        """The difference of the RMSE in the long run."""
        return 1.0 - self.factor


DESIGNS = (
    Design("independent errors", 0.0, 1.2),
    Design("half the errors common", np.sqrt(0.5), 1.2),
    Design("95 % of the errors common", np.sqrt(0.95), 1.02),
)
CASES = [(design, 264) for design in DESIGNS] + [(DESIGNS[1], 40), (DESIGNS[1], 1000)]


def difference(total: np.ndarray) -> np.ndarray:
    """Return the difference of the RMSE."""
    first, second, n = np.moveaxis(total, -1, 0)
    return np.sqrt(first / n) - np.sqrt(second / n)


def ours(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The interval of xearth.verification.significance.bootstrap."""
    found = Bootstrap(n=RESAMPLES, seed=seed).run(x, difference)
    return found[:, 1], found[:, 2]


def unaware(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, as if starts were independent."""
    found = Bootstrap(n=RESAMPLES, seed=seed, block=1).run(x, difference)
    return found[:, 1], found[:, 2]


def percentile(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of the block bootstrap itself, blocks of the optimal length for the variance."""
    R, n, _ = x.shape
    series = _linearized(x)
    lengths = np.rint(block_length(series)).astype(int)
    ends = np.empty((2, R))
    for length in np.unique(lengths):
        i = np.flatnonzero(lengths == length)
        blocks = max(2, round(n / length))
        weights = _counts(n, blocks, RESAMPLES, [seed, int(length)]) / blocks
        draw = _Draw(*_split(x[i]), weights, int(length), blocks)
        score = difference(n * (draw.mean + draw._average(draw.block_means)))
        ends[:, i] = np.quantile(score, [0.025, 0.975], axis=0)
    return ends[0], ends[1]


def cosine(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """No resampling: equal-weighted cosine variance and Student's t (Lazarus et al. 2018)."""
    n = x.shape[1]
    series = _linearized(x)
    waves = int(0.41 * n ** (2 / 3))
    k, time = np.arange(1, waves + 1)[:, None], (np.arange(n) + 0.5) / n
    parts = series @ (np.sqrt(2 / n) * np.cos(np.pi * k * time)).T
    half = stdtrit(waves, 0.975) * np.sqrt((parts**2).mean(-1) / n)
    value = difference(x.sum(1))
    return value - half, value + half


def _linearized(x: np.ndarray) -> np.ndarray:
    mean = x.mean(1)
    series = x[..., 0] / (2 * np.sqrt(mean[:, :1])) - x[..., 1] / (2 * np.sqrt(mean[:, 1:2]))
    return series - series.mean(1, keepdims=True)


def single_scores(replicates: int) -> list[list[str]]:
    """Return one row for each phi: intervals of single scores, on their own scales."""
    rows = []
    for n in (264, 40):
        for phi in PHI:
            rng = np.random.default_rng([20261126, n, int(100 * phi)])
            x = DESIGNS[1].draw(phi, (replicates, n), rng)
            found = Bootstrap(n=RESAMPLES).run(x, lambda t: np.log(t[..., 0] / t[..., 2]) / 2)
            cells = [str(n), f"{phi:g}", _held(found, 0.0)]
            for r in (0.5, 0.9):
                f, o = _pair(r, phi, (replicates, n), rng)
                sums = np.stack([f, o, f * f, o * o, f * o, np.ones_like(f)], -1)
                found = Bootstrap(n=RESAMPLES).run(sums, fisher)
                cells.append(_held(found, np.arctanh(r)))
            rows.append(cells)
    return rows


def _pair(
    r: float, phi: float, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return AR(1) forecasts and truths with the correlation r."""
    noise = rng.standard_normal((2, shape[0], shape[1] + SPIN_UP)) * np.sqrt(1 - phi**2)
    o, rest = lfilter([1], [1, -phi], noise, axis=-1)[..., SPIN_UP:]
    return r * o + np.sqrt(1 - r**2) * rest, o


def fisher(total: np.ndarray) -> np.ndarray:
    """Return the correlation on the scale on which its interval is symmetric."""
    f, o, ff, oo, fo, n = np.moveaxis(total, -1, 0)
    f, o = f / n, o / n
    return np.arctanh((fo / n - f * o) / np.sqrt((ff / n - f * f) * (oo / n - o * o)))


def _held(found: np.ndarray, truth: float) -> str:
    return f"{100 * ((found[:, 1] <= truth) & (truth <= found[:, 2])).mean():.1f} %"


METHODS: dict[str, Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]] = {
    "xearth": ours,
    "percentile block bootstrap": percentile,
    "cosine variance and t": cosine,
    "xearth with block=1": unaware,
}


def simulate(replicates: int) -> list[list[str]]:
    """Return one row for each case, phi and all methods."""
    rows = []
    with tqdm(total=len(CASES) * len(PHI) * len(METHODS), unit="run") as bar:
        for number, (design, n) in enumerate(CASES):
            for phi in PHI:
                rng = np.random.default_rng([20261125, number, int(100 * phi)])
                x = design.draw(phi, (replicates, n), rng)
                cells = [design.name, str(n), f"{phi:g}"]
                for method in METHODS.values():
                    lower, upper = method(x, number)
                    held = (lower <= design.truth) & (design.truth <= upper)
                    cells.append(f"{100 * held.mean():.1f} % ({np.mean(upper - lower):.3f})")
                    bar.update()
                rows.append(cells)
    return rows


def main() -> None:
    """Simulate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = simulate(options.replicates)
    table = rst_table(["errors", "starts", "phi", *METHODS], rows)
    single = rst_table(
        ["starts", "phi", "RMSE", "correlation 0.5", "correlation 0.9"],
        single_scores(options.replicates),
    )
    margin = 196 * np.sqrt(0.95 * 0.05 / options.replicates)
    write(
        f"""{options.replicates:,} simulated records of two forecasts with AR(1) errors; {RESAMPLES:,}
resamples each. How often the nominal 95 % interval of the difference of the two RMSE held the
true difference (in brackets its mean width). Simulation error: {margin:.1f} %. Made by ``python
ci/coverage_simulation.py --out docs/performance/coverage.rst``.

{table}
Starts that lie close compared with the memory of the errors are few independent starts: 40 of
them at phi = 0.9 do not show how long the memory is, and every method claims too much.

A single score is less certain than the difference of two, because its spread grows with its
value. Coverage of xearth's intervals of single scores, made on the scale of the logarithm
(RMSE) and of Fisher (correlation):

{single}
Computed on {machine()}.
""",
        options.out,
    )


if __name__ == "__main__":
    main()
