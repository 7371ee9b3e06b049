"""A network that reads the energy of digits which attract each other, from noise: how well.

Usage: python nbody_energy.py [--out docs/performance/nbody_energy.rst]

Trains two alignment networks on simulated sequences, with the energies of their trajectories as
labels. Of sequences that were held out it tells how far what the first reads follows the true
energy, by noise; and, for noised sequences that one step of guidance by the first network moved
towards another energy, how far off the second network, which guided nothing, finds them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import xarray as xr
from bench.common import rst_table, write

from xearth.constraints.bodies import EnergyConserved
from xearth.data.sources.nbody import NBody, generate, trajectories
from xearth.forecasting.alignment import FittedAlignment, fit_alignment
from xearth.models.prediff.process import Diffusion
from xearth.training.alignment_fit import AlignmentRecipe

WORLD = NBody(canvas=64, size=16, frames=2, masses=(1.0, 1.0))
RULE = EnergyConserved(masses=WORLD.masses)
PROCESS = Diffusion()
SEQUENCES, JUDGED = 600, 100
RECIPE = AlignmentRecipe(
    steps=400, batch=32, rate=4e-3, sizes={"base_units": 8, "depth": (1,), "heads": 2}
)
TIMES = (0, 100, 250, 500)
BLOCK = 4


def blocks(frames: xr.DataArray) -> torch.Tensor:
    """Return frames (N, T, H, W) from 0 to 1 as blocks (N, T, h, w, 16) from -1 to 1."""
    z = torch.as_tensor(2 * frames.values - 1, dtype=torch.float32)
    z = z.unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK))
    return z.permute(0, 1, 2, 4, 3, 5).flatten(-2)


@dataclass(frozen=True)
class Examples:
    """Frames of sequences and their energies."""

    frames: xr.DataArray
    energy: xr.DataArray

    @classmethod
    def of(cls, count: int, seed: int) -> Examples:
        """Simulate sequences."""
        made = [one(WORLD, sequences=count, seed=seed) for one in (generate, trajectories)]
        return cls(made[0].load(), RULE.measure(made[1].load()))

    def fit(self, seed: int) -> FittedAlignment:
        """Train a network on them."""
        model = SimpleNamespace(process=PROCESS, frames=WORLD.frames)
        recipe = replace(RECIPE, seed=seed)
        return fit_alignment(
            RULE, model, self.frames, labels=self.energy, encode=blocks, recipe=recipe
        )


def read(fitted: FittedAlignment, z: torch.Tensor, t: torch.Tensor) -> np.ndarray:
    """Return the energies (N, T) that a network reads."""
    with torch.no_grad():
        standard = fitted.network(z, t)[..., 0].numpy()
    return fitted.center[0] + fitted.scale[0] * standard


def follows(fitted: FittedAlignment, judged: Examples, t: int) -> float:
    """Return the correlation of what is read at a time with the true energy."""
    z0 = blocks(judged.frames)
    times = torch.full((len(z0),), t)
    noise = torch.randn(z0.shape, generator=torch.Generator().manual_seed(t))
    found = read(fitted, PROCESS.noised(z0, times, noise), times)
    return float(np.corrcoef(found.ravel(), judged.energy.values.ravel())[0, 1])


def moved(
    fitted: FittedAlignment, other: FittedAlignment, judged: Examples, t: int
) -> tuple[float, float]:
    """Return how far off another network finds sequences, before and after steps of guidance."""
    z0 = blocks(judged.frames)
    times = torch.full((len(z0),), t)
    noise = torch.randn(z0.shape, generator=torch.Generator().manual_seed(t))
    z = PROCESS.noised(z0, times, noise)
    wanted = fitted.center[0] + fitted.scale[0]
    guidance = fitted.towards(replace(RULE, energy=float(wanted)))
    walked = z.clone()
    for _ in range(10):
        with torch.enable_grad():
            x = walked.detach().requires_grad_()
            off = guidance.network(x, times).flatten(1).norm(dim=1)
            (slope,) = torch.autograd.grad(off.sum(), x)
        size = slope.flatten(1).norm(dim=1).clamp(min=1e-9)
        walked = walked - (0.02 * noise[0].norm() / size).reshape(-1, 1, 1, 1, 1) * slope
    return tuple(float(abs(read(other, one, times) - wanted).mean()) for one in (z, walked))  # type: ignore[return-value]


def main() -> None:
    """Train, judge, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="also write the table to this .rst file")
    options = parser.parse_args()
    train, judged = Examples.of(SEQUENCES, 0), Examples.of(JUDGED, 1)
    first, second = (train.fit(seed) for seed in (0, 1))
    rows = []
    for t in TIMES:
        before, after = moved(first, second, judged, t)
        share = float(PROCESS.noised(torch.ones(1), torch.tensor([t]), torch.zeros(1)))
        rows.append(
            [f"{share:.2f}", f"{follows(first, judged, t):.2f}", f"{before:.2f}", f"{after:.2f}"]
        )
    header = ["signal", "correlation", "off before", "off after"]
    spread = float(judged.energy.std())
    text = (
        f"Two digits, {WORLD.frames} frames of {WORLD.size} x {WORLD.size} cells; networks trained "
        f"for {RECIPE.steps:,} steps on {SEQUENCES:,} simulated sequences, judged on {JUDGED} "
        f"others, whose energy has a standard deviation of {spread:.2f}. *Signal* is what noise "
        "leaves of the frames, *correlation* that of the energy read with the true one. *Off* is "
        "the mean distance from an energy of one standard deviation above the mean as a second "
        "network reads it, which guided nothing: before and after ten steps of guidance by the "
        "first. Made by ``python ci/nbody_energy.py --out "
        "docs/performance/nbody_energy.rst``.\n\n"
    )
    text += rst_table(header, rows)
    write(text, options.out)


if __name__ == "__main__":
    main()
