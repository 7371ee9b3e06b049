"""The recharge oscillator, all starts at once, against a loop over the starts.

Usage: python ci/bench/bench_recharge.py [--rounds 3] [--out FILE]

Hindcasts of the ten XRO indices, fit 1979-2001, float64, one thread. Both sides get the fitted
coefficients; the loop finds the operator of each month once and steps each start with it, as one
would write the equations down. Deterministic: 552 starts x 21 months. Ensemble: 276 starts x 100
members x 18 months with the same noise, against the loop over starts and members (of 2 starts,
times 138) and against a loop over starts that steps the members of one start together. The rivals
take turns in one process, their outputs are checked, and ratios are medians, round by round.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from common import Timing, machine, quiet_threads, race, ratio, rst_table, write

quiet_threads(1)

import numpy as np  # noqa: E402

from xearth.data.sources import samples  # noqa: E402
from xearth.reference.recharge import RechargeOscillator  # noqa: E402

OURS = "xearth, all at once"
Run = Callable[[], np.ndarray]


def rates(model: RechargeOscillator) -> np.ndarray:
    """Return the coefficients (12, K, K + P) of each calendar month, change per month."""
    return (model.step_matrices() - np.eye(*model.step_matrices().shape[1:])) * model.substeps


def loop(model: RechargeOscillator, x0: np.ndarray, months: np.ndarray, push=None) -> np.ndarray:
    """Step one trajectory after the other."""
    table, size, dt = rates(model), x0.shape[1], 1 / model.substeps
    out = np.empty((len(x0), model.horizon, size))
    for i in range(len(x0)):
        x = x0[i]
        for lead in range(model.horizon):
            rate = table[(months[i] + lead) % 12]
            total = np.zeros(size)
            for _ in range(model.substeps):
                change = rate[:, :size] @ x
                for p, (a, b) in enumerate(model.products):
                    change += rate[:, size + p] * x[a] * x[b]
                if push is not None:
                    change += push[i, lead]
                x = x + dt * change
                total += x
            x = np.clip(x, -model.limits, model.limits)
            out[i, lead] = np.clip(total / model.substeps, -model.limits, model.limits)
    return out


def loop_of_starts(
    model: RechargeOscillator, x0: np.ndarray, months: np.ndarray, push: np.ndarray, count: int
) -> np.ndarray:
    """Step the members of one start together, one start after the other."""
    table, size, dt = rates(model), x0.shape[1], 1 / model.substeps
    out = np.empty((len(x0), model.horizon, size))
    for i in range(0, len(x0), count):
        x = x0[i : i + count]
        for lead in range(model.horizon):
            rate = table[(months[i] + lead) % 12]
            total = np.zeros_like(x)
            for _ in range(model.substeps):
                change = x @ rate[:, :size].T + push[i : i + count, lead]
                for p, (a, b) in enumerate(model.products):
                    change += np.outer(x[:, a] * x[:, b], rate[:, size + p])
                x = x + dt * change
                total += x
            x = np.clip(x, -model.limits, model.limits)
            mean = total / model.substeps
            out[i : i + count, lead] = np.clip(mean, -model.limits, model.limits)
    return out


def compare(label: str, rivals: dict[str, tuple[Run, int]], rounds: int) -> list[list[str]]:
    """Check, race, and return the rows of the table; a rival did 1 / scale of the work."""
    ours = rivals[OURS][0]()
    for name, (run, _) in rivals.items():
        theirs = run()
        error = np.abs(theirs - ours[: len(theirs)]).max()
        if error > 1e-10:
            raise SystemExit(f"{name} differs by {error:.1e}.")
    times: dict[str, Timing] = race({name: run for name, (run, _) in rivals.items()}, rounds)
    out = []
    for name, (_, scale) in rivals.items():
        relative = ratio(times[name], times[OURS])[0] * scale
        out.append([label, name, f"{times[name].seconds * scale:.3f}", f"{relative:.0f}"])
        print("  ".join(out[-1]), flush=True)
    return out


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file of the RST table")
    arguments = parser.parse_args()
    indices = samples.open("xro_indices").load()
    model = RechargeOscillator.fit(indices.sel(time=slice("1979", "2001")), horizon=21)
    x = indices.to_dataarray("k").values.T.astype(float)
    months = np.arange(len(x)) % 12
    rows = compare(
        "552 starts x 21 months",
        {
            OURS: (lambda: model.integrate(x, months), 1),
            "loop over starts": (lambda: loop(model, x, months), 1),
        },
        arguments.rounds,
    )
    count, some = 100, 200
    model = replace(model, horizon=18)
    x0, when = np.repeat(x[276:], count, axis=0), np.repeat(months[276:], count)
    noise = np.random.default_rng(0).standard_normal((len(x0), 18, x.shape[1]))
    push = noise * model.spread[(when[:, None] + np.arange(18)) % 12]
    rows += compare(
        "276 starts x 100 members x 18 months",
        {
            OURS: (lambda: model.integrate(x0, when, push), 1),
            "loop over starts and members": (
                lambda: loop(model, x0[:some], when[:some], push[:some]),
                len(x0) // some,
            ),
            "loop over starts": (lambda: loop_of_starts(model, x0, when, push, count), 1),
        },
        arguments.rounds,
    )
    table = rst_table(["case", "how", "seconds", "x all at once"], rows)
    write(f"{table}\nMeasured on {machine()}.\n", arguments.out)


if __name__ == "__main__":
    main()
