#!/usr/bin/env python
"""Earthformer beside the reference implementation: time, memory, arithmetic, equal outputs.

    pip install --no-deps --target REFERENCE earthformer==0.2.1 einops
    python ci/bench/bench_earthformer.py --reference REFERENCE --out docs/performance/earthformer.rst

The reference (PyPI `earthformer` 0.2.1, whose model file is that of the publication) is needed
here only.  Both networks get the same weights and inputs, run in one process and take turns.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from common import machine, peak_rss, peak_rss_of, quiet_threads, race, ratio, rst_table, write

PUBLISHED: dict[str, Any] = {
    "enc_depth": [1, 1],
    "dec_depth": [1, 1],
    "enc_attn_patterns": ["axial", "axial"],
    "dec_self_attn_patterns": ["axial", "axial"],
    "dec_cross_attn_patterns": ["cross_1x1", "cross_1x1"],
    "attn_drop": 0.1,
    "proj_drop": 0.1,
    "ffn_drop": 0.1,
    "ffn_activation": "gelu",
    "padding_type": "zeros",
    "pos_embed_type": "t+h+w",
    "z_init_method": "zeros",
    "checkpoint_level": 0,
    "use_dec_self_global": False,
    "use_dec_cross_global": False,
    "use_global_vector_ffn": False,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "SEVIR": PUBLISHED
    | {
        "input_shape": [13, 384, 384, 1],
        "target_shape": [12, 384, 384, 1],
        "base_units": 128,
        "num_global_vectors": 8,
        "use_global_self_attn": True,
        "separate_global_qkv": True,
        "initial_downsample_type": "stack_conv",
        "initial_downsample_stack_conv_num_layers": 3,
        "initial_downsample_stack_conv_dim_list": [16, 64, 128],
        "initial_downsample_stack_conv_downscale_list": [3, 2, 2],
        "initial_downsample_stack_conv_num_conv_list": [2, 2, 2],
    },
    "ENSO": PUBLISHED
    | {
        "input_shape": [12, 24, 48, 1],
        "target_shape": [14, 24, 48, 1],
        "base_units": 64,
        "num_global_vectors": 0,
        "initial_downsample_type": "conv",
        "initial_downsample_scale": [1, 1, 2],
        "initial_downsample_conv_layers": 2,
        "final_upsample_conv_layers": 1,
    },
}
TOLERANCE = 1e-4
PARTS = ("initial_encoder", "encoder", "decoder", "final_decoder")


@dataclass(frozen=True)
class Case:
    """One row: a published network, a batch, forward or a training step, what is aimed at."""

    network: str
    batch: int
    train: bool
    bar: float
    goal: float
    micro_batch: int = 1

    @property
    def name(self) -> str:
        """Network, what runs and batch, as in the table."""
        what = "training step" if self.train else "forward"
        return f"{self.network} {what}, batch {self.batch}"


CASES = {
    "sevir": Case("SEVIR", 1, train=False, bar=0.60, goal=0.45),
    "enso16": Case("ENSO", 16, train=False, bar=0.55, goal=0.45),
    "enso1": Case("ENSO", 1, train=False, bar=0.80, goal=0.65),
    "train": Case("ENSO", 16, train=True, bar=0.55, goal=0.45),
}


def reference_class(folder: Path | None) -> Any:
    """Return the reference's model class, from a folder or from the environment.

    The package is opened without its own `__init__`, which needs a graphical map library.
    """
    if folder is not None:
        sys.path.insert(0, str(folder))
        package = types.ModuleType("earthformer")
        package.__path__ = [str(folder / "earthformer")]
        sys.modules["earthformer"] = package
    try:
        from earthformer.cuboid_transformer.cuboid_transformer import CuboidTransformerModel
    except ImportError as error:
        sys.exit(
            f"the reference cannot be imported ({error}).\n"
            "pip install --no-deps --target REFERENCE earthformer==0.2.1 einops\n"
            "and give --reference REFERENCE"
        )
    return CuboidTransformerModel


def build(case: Case, folder: Path | None, *, which: str = "both") -> dict[str, Any]:
    """Return the networks, same weights in both; nothing in them is left trivial."""
    import torch

    from xearth.models.earthformer import Earthformer
    from xearth.models.official import official_config

    official = NETWORKS[case.network]
    if which == "xearth":
        networks = {"xearth": official_config(official).build()}
    else:
        shapes = {k: tuple(official[k]) for k in ("input_shape", "target_shape")}
        torch.manual_seed(0)
        reference = reference_class(folder)(**(official | shapes))
        with torch.no_grad():
            for parameter in reference.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        networks = {"reference": reference}
        if which == "both":
            ours = Earthformer.from_official(reference.state_dict(), config=official)
            networks["xearth"] = ours
    for network in networks.values():
        network.train(case.train)
    return networks


def data(case: Case) -> tuple[Any, Any]:
    """Return history and horizon of a batch."""
    import torch

    torch.manual_seed(1)
    official = NETWORKS[case.network]
    x = torch.rand(case.batch, *official["input_shape"])
    return x, torch.rand(case.batch, *official["target_shape"])


def step(network: Any, x: Any, y: Any, micro_batch: int) -> Callable[[], object]:
    """Return a training step: mean squared error, gradients added over micro-batches, AdamW.

    The sum over micro-batches is the gradient of the batch: nothing here has batch statistics.
    """
    import torch

    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    pieces = list(zip(x.split(micro_batch), y.split(micro_batch), strict=True))

    def run() -> None:
        optimizer.zero_grad()
        for history, horizon in pieces:
            error = torch.nn.functional.mse_loss(network(history), horizon)
            (error * (len(history) / len(x))).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return run


def task(case: Case, name: str, network: Any, x: Any, y: Any) -> Callable[[], object]:
    """Return what is timed."""
    import torch

    if case.train:
        return step(network, x, y, case.micro_batch if name == "xearth" else case.batch)

    def run() -> object:
        with torch.no_grad():
            return network(x)

    return run


def difference(case: Case, networks: dict[str, Any], x: Any, y: Any) -> float:
    """Return the largest difference of outputs, or of gradients without dropout, over the maximum.

    Raises
    ------
    SystemExit
        If it exceeds the tolerance: a benchmark of something else is worth nothing.
    """
    import torch

    from xearth.models.checkpoints import official_name

    results = {}
    for name, network in networks.items():
        network.eval()
        if case.train:
            network.zero_grad()
            torch.nn.functional.mse_loss(network(x[:2]), y[:2]).backward()
            parameters = network.named_parameters()
            grads = {official_name(n): p.grad for n, p in parameters if p.grad is not None}
            results[name] = [grads[n].flatten() for n in sorted(grads)]
            network.zero_grad()
        else:
            with torch.no_grad():
                results[name] = [network(x)]
        network.train(case.train)
    pairs = list(zip(*results.values(), strict=True))
    largest = max(float(theirs.abs().max()) for theirs, _ in pairs)
    error = max(float((theirs - ours).abs().max()) for theirs, ours in pairs) / largest
    if not error <= TOLERANCE:
        sys.exit(f"{case.name}: results differ by {error:.1e} of the maximum, > {TOLERANCE}")
    return error


def gemm_peak() -> tuple[float, float]:
    """Return GFLOP/s of products of 4096^3 and 1024^3, best of several."""
    import torch

    def best(n: int, rounds: int) -> float:
        a, b = torch.randn(n, n), torch.randn(n, n)
        times = []
        for _ in range(rounds):
            start = perf_counter()
            a @ b
            times.append(perf_counter() - start)
        return 2 * n**3 / min(times) / 1e9

    return best(4096, 5), best(1024, 20)


@contextmanager
def clocks(network: Any) -> Iterator[dict[str, float]]:
    """Collect the seconds spent inside each part of a network."""
    spent = dict.fromkeys(PARTS, 0.0)
    handles = []
    for part in PARTS:
        module = getattr(network, part)
        started: list[float] = []

        def begin(*_: Any, started: list[float] = started) -> None:
            started.append(perf_counter())

        def end(*_: Any, part: str = part, started: list[float] = started) -> None:
            spent[part] += perf_counter() - started.pop()

        handles += [
            module.register_forward_pre_hook(begin),
            module.register_forward_hook(end),
        ]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def arithmetic(network: Any, x: Any) -> dict[str, float]:
    """Return the floating-point operations of each part, counted while it runs."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    in_place = {torch.ops.aten.baddbmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * a[2] * b[2]}
    counter = FlopCounterMode(display=False, custom_mapping=in_place)
    network.requires_grad_(False)  # the counter hooks on to what requires a gradient
    with torch.no_grad(), counter:
        network(x)
    network.requires_grad_(True)
    by_module = {name: sum(ops.values()) / 1e9 for name, ops in counter.get_flop_counts().items()}
    kind = type(network).__name__
    return {part: by_module[f"{kind}.{part}"] for part in PARTS} | {"all": by_module["Global"]}


def parts_table(case: Case, networks: dict[str, Any], x: Any, peak: float, rounds: int) -> str:
    """Return the table of seconds and achieved GFLOP/s by part, beside the GEMM peak."""
    import torch

    rows = []
    one = x[:1]
    for name, network in networks.items():
        flops = arithmetic(network, one)
        spent = dict.fromkeys((*PARTS, "all"), float("inf"))
        for _ in range(rounds):
            with torch.no_grad(), clocks(network) as now:
                start = perf_counter()
                network(one)
                total = perf_counter() - start
            spent = {p: min(spent[p], (now | {"all": total})[p]) for p in spent}
        for part, seconds in spent.items():
            speed = flops[part] / seconds
            rows.append(
                [
                    name,
                    part.replace("_", " "),
                    f"{flops[part]:.1f}",
                    f"{1e3 * seconds:.0f}",
                    f"{speed:.0f}",
                    f"{100 * speed / peak:.0f} %",
                ]
            )
    header = ["network", "part", "GFLOP", "ms", "GFLOP/s", "of GEMM peak"]
    return f"{case.network}, batch 1, best of {rounds}:\n\n" + rst_table(header, rows)


def bfloat16_rows(case: Case, network: Any, x: Any, rounds: int) -> list[str]:
    """Return one row on bfloat16 autocast: time beside float32 and error."""
    import torch

    def half() -> Any:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return network(x)

    def full() -> Any:
        with torch.no_grad():
            return network(x)

    exact, rough = full(), half().float()
    times = race({"full": full, "half": half}, rounds)
    wall, _ = ratio(times["half"], times["full"])
    error = (rough - exact).abs()
    return [
        case.name,
        f"{wall:.2f}",
        f"{float(error.max() / exact.abs().max()):.1e}",
        f"{float(error.square().mean().sqrt() / exact.std()):.1e}",
    ]


def memory(key: str, which: str, folder: Path | None) -> None:
    """Run one rival of one case twice and print the peak of this process."""
    case = CASES[key]
    networks = build(case, folder, which=which)
    x, y = data(case)
    run = task(case, which, networks[which], x, y)
    run()
    run()
    print(peak_rss())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, help="folder that holds the package earthformer")
    parser.add_argument("--out", type=Path, help="write the tables to this file")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", nargs=2, metavar=("CASE", "RIVAL"), help=argparse.SUPPRESS)
    parser.add_argument("--fast", action="store_true", help="ratios only: no memory, no parts")
    options = parser.parse_args()
    quiet_threads(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    if options.memory:
        memory(*options.memory, options.reference)
        return

    peak, small = gemm_peak()
    rows, tables, halves = [], [], []
    for key in options.cases:
        case = CASES[key]
        networks = build(case, options.reference)
        x, y = data(case)
        error = difference(case, networks, x, y)
        rounds = min(options.rounds, 3) if case.train else options.rounds
        tasks = {name: task(case, name, network, x, y) for name, network in networks.items()}
        times = race(tasks, rounds)
        wall, cpu = ratio(times["xearth"], times["reference"])
        ours, theirs = times["xearth"], times["reference"]
        row = [
            case.name,
            f"{theirs.seconds:.3g}",
            f"{ours.seconds:.3g}",
            f"**{wall:.2f}**",
            f"{cpu:.2f}",
            f"{case.bar:.2f} / {case.goal:.2f}",
        ]
        if options.fast:
            row += ["", ""]
        else:
            where = [] if options.reference is None else ["--reference", str(options.reference)]
            rss = [
                peak_rss_of(__file__, "--memory", key, rival, *where)
                for rival in ("reference", "xearth")
            ]
            row += [f"{rss[0]:.2f}", f"{rss[1]:.2f} ({rss[1] / rss[0]:.2f})"]
        rows.append([*row, f"{error:.0e}"])
        print(rows[-1], flush=True)
        if not case.train and case.batch == 1 and not options.fast:
            tables.append(parts_table(case, networks, x, peak, max(3, options.rounds // 2)))
            halves.append(bfloat16_rows(case, networks["xearth"], x, 3))
        del networks, tasks
    header = ["case", "reference s", "xearth s", "ratio", "ratio of CPU time", "bar / goal"]
    header += ["reference GB", "xearth GB (ratio)", "difference"]
    text = (
        f"{machine()}, torch {torch.__version__}, {options.threads} threads, float32. "
        f"Matrix products reach {peak:.0f} GFLOP/s (4096\\ :sup:`3`) and {small:.0f} GFLOP/s "
        "(1024\\ :sup:`3`) in the same run.\n\n" + rst_table(header, rows)
    )
    for table in tables:
        text += "\n" + table
    if halves:
        header = ["bfloat16 autocast", "time / float32", "largest error / maximum"]
        text += "\n" + rst_table([*header, "rms error / standard deviation"], halves)
    write(text, options.out)


if __name__ == "__main__":
    main()
