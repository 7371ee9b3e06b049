"""What `import xearth` costs beside `import xarray, cf_xarray`.

Usage: python ci/bench/bench_import.py [--rounds 15] [--out docs/performance/import.rst]

Fresh interpreters take turns; each tells the CPU time and the wall time of the import alone, with
compiled bytecode as an installed package has it (kept in a temporary folder). The goal is a ratio
of at most 1.1; what must not be loaded is checked as well.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from common import machine, rst_table, write

RIVALS = {
    "import numpy": "import numpy",
    "import xarray, cf_xarray": "import xarray, cf_xarray",
    "import xearth": "import xearth",
}
HEAVY = ("torch", "matplotlib", "scipy.stats", "pint", "distributed", "properscoring", "numba")
SCRIPT = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
print(time.process_time() - cpu, time.perf_counter() - wall, *(m for m in {heavy} if m in sys.modules))
"""


def cost(statement: str, bytecode: str) -> tuple[float, float, list[str]]:
    """Return CPU seconds, wall seconds and heavy modules loaded by a statement."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    script = SCRIPT.format(statement=statement, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    cpu, wall, *heavy = done.stdout.split()
    return float(cpu), float(wall), heavy


def main() -> int:
    """Measure, print, write the table; return 1 if something heavy was loaded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="file of the RST table")
    arguments = parser.parse_args()
    costs: dict[str, list[tuple[float, float, list[str]]]] = {name: [] for name in RIVALS}
    with tempfile.TemporaryDirectory() as bytecode:
        for round_ in range(arguments.rounds + 1):
            for name, statement in RIVALS.items():
                found = cost(statement, bytecode)
                if round_:  # the first round fills the page cache and writes bytecode
                    costs[name].append(found)
    base = costs["import xarray, cf_xarray"]
    rows = []
    for name, found in costs.items():
        ratio = median(a[0] / b[0] for a, b in zip(found, base, strict=True))
        cpu, wall = (median(f[i] for f in found) for i in (0, 1))
        rows.append([f"``{name}``", f"{cpu:.3f}", f"{wall:.3f}", f"{ratio:.2f}"])
    heavy = costs["import xearth"][0][2]
    loaded = f"Loaded on the way: {', '.join(heavy) or 'nothing heavy'}."
    table = rst_table(["statement", "CPU s", "wall s", "ratio of CPU"], rows)
    write(f"{table}\n{loaded} Measured on {machine()}.\n", arguments.out)
    return 1 if heavy else 0


if __name__ == "__main__":
    sys.exit(main())
