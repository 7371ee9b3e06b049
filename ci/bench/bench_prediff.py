#!/usr/bin/env python
"""A denoiser step of PreDiff at the published size: rate, bfloat16, memory, savings; and samplers.

    python ci/bench/bench_prediff.py --threads 1 2 --out docs/performance/prediff.rst

The rate of a step is set beside that of the product of two 4096 x 4096 matrices, both in float32, in
one process for each number of threads; they take turns, and medians of the rounds are shown. Weights
are random. Peaks of memory are those of fresh processes. Samplers are compared on a Gaussian law,
where their mean and spread are known without any sampling.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import median

from common import machine, peak_rss, quiet_threads, race, ratio, rst_table, write

SIDE, BATCHES, MEMBERS, STEPS = 4096, (1, 2, 4), 10, 20
NARROW = 8  # the network that bfloat16 is tried on has this part of the width
MEAN, VARIANCE = 1.0, 0.25


def networks() -> tuple:
    """Return the published denoiser, one that keeps dead frames, the encoder and inputs of one."""
    import torch

    from xearth.models.cuboid.blocks import SelfBlock
    from xearth.models.prediff.config import PreDiffConfig

    torch.manual_seed(0)
    config = PreDiffConfig.sevir_lr()
    network = config.denoiser.build().eval()
    for parameter in network.parameters():
        if not bool(parameter.any()):  # what starts at zero, so that outputs depend on inputs
            torch.nn.init.normal_(parameter, std=0.02)
    fresh = SelfBlock(
        config.denoiser.units[0],
        config.denoiser.shapes[0],
        config.denoiser.patterns[0],
        config.denoiser.blocks(),
    ).eval()
    last = network.up.blocks[0][-1]
    fresh.load_state_dict(last.state_dict())
    z = torch.randn(1, *config.denoiser.target_shape)
    context = torch.randn(1, *config.denoiser.input_shape)
    return network, (last, fresh), config.autoencoder.build().eval(), (z, context)


def worker(threads: int, rounds: int) -> dict:
    """Return what one number of threads makes of a step."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    torch.set_num_threads(threads)
    network, (last, fresh), autoencoder, (z, context) = networks()
    time, stack = torch.tensor([500]), network.up.blocks[0]
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    frames = torch.rand(1, context.shape[1], *(8 * n for n in context.shape[2:4]), 1)

    def step() -> torch.Tensor:
        return network(z, time, context)

    def whole() -> torch.Tensor:
        stack[-1] = fresh
        try:
            return network(z, time, context)[:, -z.shape[1] :]
        finally:
            stack[-1] = last

    rivals = {
        "product": lambda: a @ b,
        "step": step,
        "whole": whole,
        "encode": lambda: autoencoder.encode(frames),
    }
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            exact = step()
        with FlopCounterMode(display=False) as counter_whole:
            same = whole()
        times = race(rivals, rounds)
    rates = [
        counter.get_total_flops() / one / (2 * SIDE**3 / other)
        for one, other in zip(times["step"].wall, times["product"].wall, strict=True)
    ]
    return {
        "flop": counter.get_total_flops(),
        "flop whole": counter_whole.get_total_flops(),
        "seconds": {name: timing.seconds for name, timing in times.items()},
        "share": median(rates),
        "skip": ratio(times["step"], times["whole"])[0],
        **rounded(),
        "error skip": float((same - exact).abs().max() / exact.abs().max()),
    }


def rounded() -> dict:
    """Return time and error of bfloat16 beside float32, of the network with an eighth of its width."""
    import torch

    from xearth.models.prediff.config import PreDiffConfig

    torch.manual_seed(0)
    published = PreDiffConfig.sevir_lr().denoiser
    config = dataclasses.replace(published, base_units=published.base_units // NARROW)
    network, time = config.build().eval(), torch.tensor([500])
    for parameter in network.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.02)
    z, context = torch.randn(1, *config.target_shape), torch.randn(1, *config.input_shape)

    def half() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(z, time, context)

    with torch.no_grad():
        exact = network(z, time, context)
        off = (half().float() - exact).abs().max() / exact.abs().max()
        times = race({"step": lambda: network(z, time, context), "half": half}, 3)
    return {
        "half": ratio(times["half"], times["step"])[0],
        "error half": float(off),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def memory(batch: int) -> None:
    """Print the peak of a process that takes one step with a batch, and that before the step."""
    import torch

    network, _, _, (z, context) = networks()
    before = peak_rss()
    with torch.no_grad():
        network(z.expand(batch, *z.shape[1:]).clone(), torch.tensor([500]), context)
    print(before, peak_rss())


def moments(sampler: object, levels: tuple) -> tuple[float, float]:
    """Return the exact mean and spread of what a sampler makes of a Gaussian law."""
    import torch

    from xearth.models.prediff.sampler import run

    def predict(z: torch.Tensor, level: object) -> torch.Tensor:
        gain = level.alpha * VARIANCE / (level.alpha**2 * VARIANCE + level.sigma**2)
        return MEAN + gain * (z - level.alpha * MEAN)

    def draw(k: int) -> torch.Tensor:
        unit = torch.zeros(len(levels) + 1, 1, dtype=torch.float64)
        unit[k + 1] = 1.0
        return unit

    *_, z = run(sampler, predict, levels, draw)
    return float(z[0]), math.sqrt(float((z[1:] - z[0]).square().sum()))


def samplers() -> str:
    """Return the table of samplers."""
    from xearth.models.prediff.process import Diffusion
    from xearth.models.prediff.sampler_ancestral import DDIM, DDPM
    from xearth.models.prediff.sampler_dpm import DPMSolver, DPMSolverSDE

    process, rows = Diffusion(), []
    reference = moments(DDPM(), process.levels(1000))
    for name, sampler, steps in (
        ("DDPM", DDPM(), 1000),
        ("DPM-Solver++ (2M)", DPMSolver(steps=STEPS), STEPS),
        ("SDE-DPM-Solver++", DPMSolverSDE(steps=STEPS), STEPS),
        ("DDIM", DDIM(steps=STEPS), STEPS),
        ("DPM-Solver++ (2M)", DPMSolver(steps=10), 10),
    ):
        spacing = () if steps == 1000 else (sampler.spacing,)
        mean, spread = moments(sampler, process.levels(steps, *spacing))
        truth = (mean / MEAN - 1, spread / math.sqrt(VARIANCE) - 1)
        beside = (mean / reference[0] - 1, spread / reference[1] - 1)
        rows.append([name, str(steps), *(f"{x:+.2%}" for x in (*truth, *beside))])
    head = ["sampler", "steps", "mean", "spread", "mean, against DDPM", "spread, against DDPM"]
    return rst_table(head, rows)


PAGE = """\
A step of the denoiser of PreDiff at the published size (``PreDiffConfig.sevir_lr()``, one member,
{flop:.1f} GFLOP) beside the product of two 4096 x 4096 matrices in the same process, float32, in turns;
medians of {rounds} rounds ({machine}):

{rates}
The frames of the context that nobody reads after the last layer that mixes frames are left out:
{saved:.1f} of {whole:.1f} GFLOP, equal to {error_skip:.0e} of the largest value. Encoding the context once
saves what each member or, in a network that reads frames, each step would encode again; a forecast
of {members} members in {steps} steps is {total:.0f} steps.

{savings}
bfloat16 by ``torch.autocast``, for the same network with an eighth of its width: its time over that of
float32, and its error, the largest difference over the largest value, for random weights. Without
instructions for it (AVX512 with bfloat16, or AMX) it is far slower than float32: leave it alone then.

{half}
Peak of memory of a fresh process with the denoiser alone, one step without gradients:

{memory}
{steps} steps in place of 1000: exact mean and spread of what samplers make of N({mean:g}, {variance:g}) by
the exact denoiser, errors relative to the truth and to DDPM in all steps. Nothing is drawn.

{samplers}
.. code-block:: bash

   python ci/bench/bench_prediff.py --threads {threads} --out docs/performance/prediff.rst
"""


def page(found: dict[int, dict], peaks: dict[int, list[float]], rounds: int) -> str:
    """Return the page."""
    one = next(iter(found.values()))
    rates, savings, half = [], [], []
    for threads, f in found.items():
        s = f["seconds"]
        product, step = 2 * SIDE**3 / s["product"] / 1e9, f["flop"] / s["step"] / 1e9
        rates.append(
            [str(threads), f"{product:.0f}", f"{step:.0f}", f"{s['step']:.2f}", f"{f['share']:.0%}"]
        )
        again = s["encode"] * (MEMBERS - 1) / (s["step"] * MEMBERS * STEPS)
        each = s["encode"] * (MEMBERS * STEPS - 1) / (s["step"] * MEMBERS * STEPS)
        shares = (1 - f["skip"], again, each)
        saved = [f"{share:.1%}" for share in shares]
        savings.append([str(threads), saved[0], f"{s['encode']:.2f}", *saved[1:]])
        half.append([str(threads), f["instructions"], f"{f['half']:.1f}", f"{f['error half']:.1e}"])
    return PAGE.format(
        flop=one["flop"] / 1e9,
        whole=one["flop whole"] / 1e9,
        saved=(one["flop whole"] - one["flop"]) / 1e9,
        error_skip=one["error skip"],
        rounds=rounds,
        machine=machine(),
        members=MEMBERS,
        steps=STEPS,
        total=MEMBERS * STEPS,
        mean=MEAN,
        variance=VARIANCE,
        threads=" ".join(map(str, found)),
        rates=rst_table(
            ["threads", "product, GFLOP/s", "step, GFLOP/s", "step, seconds", "share (bar 80 %)"],
            rates,
        ),
        savings=rst_table(
            [
                "threads",
                "dead frames, of a step",
                "encoding, seconds",
                "once a forecast, not a member",
                "not a step",
            ],
            savings,
        ),
        half=rst_table(["threads", "instructions", "time over float32", "error"], half),
        memory=rst_table(
            ["members at once", "peak, GB", "above the weights, GB"],
            [[str(b), f"{p[1]:.2f}", f"{p[1] - p[0]:.2f}"] for b, p in peaks.items()],
        ),
        samplers=samplers(),
    )


def _run(*arguments: str) -> str:
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="*", default=list(BATCHES))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    quiet_threads(a.worker or max(a.threads))
    if a.worker:
        print(json.dumps(worker(a.worker, a.rounds)))
    elif a.memory:
        memory(a.memory)
    else:
        found = {}
        for threads in a.threads:
            told = _run("--worker", str(threads), "--rounds", str(a.rounds))
            found[threads] = json.loads(told.splitlines()[-1])
        most = str(max(a.threads))
        peaks = {}
        for batch in a.batches:
            told = _run("--memory", str(batch), "--threads", most)
            peaks[batch] = [float(x) for x in told.split()[-2:]]
        write(page(found, peaks, a.rounds), a.out)


if __name__ == "__main__":
    main()
