"""Ensemble CRPS and counts of events against the libraries that compute them.

Usage: python ci/bench/bench_scores.py [--rounds 5] [--out docs/performance/scores.rst]

CRPS of the empirical distribution, float32: 51 members x 1e6 points and 10 x 1e7, the members on
the first axis (as archives keep them) or the last. Counts of hits, misses and false alarms by lead
at the 6 thresholds of SEVIR: 100 events x 12 x 384 x 384, float32 and uint8; ``scores`` on 10
events, times 10. All rivals take turns in one process and their outputs are checked; ratios are
medians of wall time, round by round. Extra memory is the growth of the peak of a fresh process.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import machine, peak_rss, peak_rss_of, quiet_threads, race, ratio, rst_table, write

quiet_threads(2)

import numpy as np  # noqa: E402
import properscoring  # noqa: E402
import scores  # noqa: E402
import scoringrules  # noqa: E402
import xarray as xr  # noqa: E402
import xskillscore  # noqa: E402

from xearth.verification.kernels.ensemble import contingency, crps_ensemble  # noqa: E402

THRESHOLDS = [16.0, 74.0, 133.0, 160.0, 181.0, 219.0]
EVENTS = (100, 12, 384, 384)
REFERENCE = "properscoring (numba)"
NAIVE = "numpy, threshold by threshold"
OTHERS = "scores (10 events, x 10)"
Rivals = dict[str, Callable[[], object]]


def ensemble(members: int, points: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return members and truth, float32."""
    rng = np.random.default_rng(0)
    shape = (members, points) if axis == 0 else (points, members)
    return rng.standard_normal(shape, np.float32), rng.standard_normal(points, np.float32)


def crps_rivals(x: np.ndarray, y: np.ndarray, axis: int) -> Rivals:
    """Return every way to the CRPS of members x and truth y."""
    dims = ("member", "point") if axis == 0 else ("point", "member")
    f, o = xr.DataArray(x, dims=dims), xr.DataArray(y, dims="point")

    def ours(engine: str) -> np.ndarray:
        return crps_ensemble(x, y, axis=axis, estimator="ensemble", engine=engine)

    def halves(engine: str) -> np.ndarray:
        def part(points: slice) -> np.ndarray:
            some = x[:, points] if axis == 0 else x[points]
            return crps_ensemble(some, y[points], axis=axis, estimator="ensemble", engine=engine)

        middle = y.size // 2
        with ThreadPoolExecutor(2) as pool:
            return np.concatenate(list(pool.map(part, [slice(0, middle), slice(middle, None)])))

    return {
        REFERENCE: lambda: properscoring.crps_ensemble(y, x, axis=axis),
        "xearth, numpy": lambda: ours("numpy"),
        "xearth, numpy, two threads": lambda: halves("numpy"),
        "xearth, numba": lambda: ours("numba"),
        "xearth, numba, two threads": lambda: halves("numba"),
        "xskillscore": lambda: xskillscore.crps_ensemble(o, f, dim=[]).values,
        "scoringrules (numba)": lambda: scoringrules.crps_ensemble(
            y, x, m_axis=axis, estimator="qd", backend="numba"
        ),
        "scores": lambda: (
            scores.probability.crps_for_ensemble(
                f, o, "member", method="ecdf", preserve_dims="all"
            ).values
        ),
    }


def naive(f: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Count with whole arrays, threshold by threshold: (3, thresholds, leads)."""
    out = []
    for threshold in THRESHOLDS:
        a, b = f >= threshold, t >= threshold
        pairs = (a & b, ~a & b, a & ~b)
        out.append([pair.sum(axis=(0, 2, 3)) for pair in pairs])
    return np.moveaxis(np.array(out), 0, 1)


def by_scores(f: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Count with ``scores``."""
    dims = ("event", "lead", "y", "x")
    f, t = xr.DataArray(f, dims=dims), xr.DataArray(t, dims=dims)
    out = []
    for threshold in THRESHOLDS:
        events = scores.categorical.ThresholdEventOperator(default_event_threshold=threshold)
        manager = events.make_contingency_manager(f, t).transform(preserve_dims="lead")
        counts = manager.get_counts()
        out.append([counts[name].values for name in ("tp_count", "fn_count", "fp_count")])
    return np.moveaxis(np.array(out), 0, 1)


def fields(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return forecast and truth with the values of radar images, 73 % of them zero."""
    rng = np.random.default_rng(1)
    out = []
    for _ in range(2):
        values = rng.integers(1, 256, EVENTS, dtype=np.uint8)
        for event in values:
            event[rng.random(event.shape, np.float32) < 0.73] = 0
        out.append(values.astype(kind))
    return out[0], out[1]


def count_rivals(f: np.ndarray, t: np.ndarray) -> Rivals:
    """Return every way to the counts; all of the 100 events, but for ``scores``."""

    def ours(engine: str) -> np.ndarray:
        return np.array(contingency(f, t, THRESHOLDS, keep=[1], engine=engine)[:3])

    rivals: Rivals = {
        NAIVE: lambda: naive(f, t),
        "xearth, numpy": lambda: ours("numpy"),
        "xearth, numba": lambda: ours("numba"),
    }
    return rivals | ({OTHERS: lambda: by_scores(f[:10], t[:10])} if f.dtype.kind == "f" else {})


def peak(case: str, name: str) -> float:
    """Return the extra memory of one rival in MB, measured in a process of its own."""
    return peak_rss_of(__file__, "--peak", case, name) * 1e3


def measure_peak(case: str, name: str) -> float:
    """Return the growth of this process's peak while one rival runs, GB."""
    if case.startswith("crps"):
        members, points, axis = (int(v) for v in case.split()[1:])
        small = ensemble(members, 1000, axis)
        crps_rivals(*small, axis)[name]()
        run = crps_rivals(*ensemble(members, points, axis), axis)[name]
    else:
        f, t = fields(case.split()[1])
        count_rivals(f[:10, :, :40], t[:10, :, :40])[name]()
        run = count_rivals(f, t)[name]
    before = peak_rss()
    run()
    return peak_rss() - before


def crps_case(members: int, points: int, axis: int, rounds: int) -> list[list[str]]:
    """Race the CRPS of one shape and return the rows of the table."""
    x, y = ensemble(members, points, axis)
    rivals = crps_rivals(x, y, axis)
    some = slice(0, 20_000)
    exact = properscoring.crps_ensemble(
        y[some].astype(float), (x[:, some] if axis == 0 else x[some]).astype(float), axis=axis
    )
    errors = {name: np.abs(run()[some] / exact - 1).max() for name, run in rivals.items()}
    for name, error in errors.items():
        if error > (1e-6 if name.startswith("xearth") else 1e-4):
            raise SystemExit(f"{name} is off by {error:.1e} relative.")
    times = race(rivals, rounds)
    place = "first" if axis == 0 else "last"
    label = f"{members} x {points:,}, members {place}"
    return report(label, f"crps {members} {points} {axis}", times)


def report(label: str, case: str, times: dict) -> list[list[str]]:
    """Return rows: case, rival, seconds, ratio to the first rival, extra memory."""
    first, out = next(iter(times.values())), []
    for name, timing in times.items():
        scale = 10 if name == OTHERS else 1
        relative = ratio(timing, first)[0] * scale
        memory = f"{peak(case, name):,.0f}"
        out.append([label, name, f"{timing.seconds * scale:.3f}", f"{relative:.2f}", memory])
        print("  ".join(out[-1]), flush=True)
    return out


def count_case(kind: str, rounds: int) -> list[list[str]]:
    """Race the counts on one type of data and return the rows of the table."""
    f, t = fields(kind)
    rivals = count_rivals(f, t)
    expected = {True: naive(f[:10], t[:10]), False: naive(f, t)}
    for name, run in rivals.items():
        if not np.array_equal(run(), expected[name == OTHERS]):
            raise SystemExit(f"{name} does not count the same.")
    return report(f"6 thresholds, {kind}", f"counts {kind}", race(rivals, rounds))


def main() -> None:
    """Measure, print, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file of the RST tables")
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "RIVAL"), help="of one rival only")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.peak:
        print(measure_peak(*arguments.peak))
        return
    crps = [
        row
        for members, points in ((51, 10**6), (10, 10**7))
        for axis in (0, 1)
        for row in crps_case(members, points, axis, arguments.rounds)
    ]
    counts = [row for kind in ("float32", "uint8") for row in count_case(kind, arguments.rounds)]
    if arguments.out:
        header = ["case", "how", "seconds", f"x {REFERENCE}", "extra MB"]
        tables = [
            rst_table(header, crps),
            rst_table([*header[:3], f"x {NAIVE}", "extra MB"], counts),
        ]
        write("\n".join([*tables, f"Measured on {machine()}.\n"]), arguments.out)


if __name__ == "__main__":
    main()
