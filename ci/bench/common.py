"""What the benchmarks share: fair timing of rivals, memory of a fresh process, tables.

Set OMP_WAIT_POLICY and the number of threads before torch is imported: `quiet_threads` first.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

__all__ = [
    "Timing",
    "machine",
    "peak_rss",
    "peak_rss_of",
    "quiet_threads",
    "race",
    "ratio",
    "rst_table",
    "write",
]


def quiet_threads(threads: int) -> None:
    """Give numerical libraries `threads` threads that sleep while they wait."""
    os.environ["OMP_WAIT_POLICY"] = "passive"
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)


@dataclass(frozen=True)
class Timing:
    """Seconds of each round of one rival: wall clock, and CPU time of the process."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Median wall time."""
        return median(self.wall)

    @property
    def cpu_seconds(self) -> float:
        """Median CPU time, all threads."""
        return median(self.cpu)


def race(rivals: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Run every rival once to warm up, then all in turn, `rounds` times.

    Taking turns shares out whatever else the machine does; compare with `ratio`.
    """
    for run in rivals.values():
        run()
    wall: dict[str, list[float]] = {name: [] for name in rivals}
    cpu: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, run in rivals.items():
            t, c = time.perf_counter(), time.process_time()
            run()
            wall[name].append(time.perf_counter() - t)
            cpu[name].append(time.process_time() - c)
    return {name: Timing(tuple(wall[name]), tuple(cpu[name])) for name in rivals}


def ratio(ours: Timing, theirs: Timing) -> tuple[float, float]:
    """Return the median over rounds of ours / theirs, for wall and for CPU time."""
    wall = median(a / b for a, b in zip(ours.wall, theirs.wall, strict=True))
    return wall, median(a / b for a, b in zip(ours.cpu, theirs.cpu, strict=True))


def peak_rss() -> float:
    """Return the largest resident set of this process so far, in GB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it forked
        peak = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return float(peak.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def peak_rss_of(script: str, *arguments: str) -> float:
    """Run a script in a fresh process that prints `peak_rss()` last; return it."""
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def machine() -> str:
    """Return one line on processor and system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def rst_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a list-table; cells are taken as they are."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def write(text: str, path: Path | None) -> None:
    """Print a report and, if there is a path, write it there, whole or not at all."""
    print(text)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as part:
        part.write(text)
    os.chmod(part.name, 0o644)
    os.replace(part.name, path)
