"""Run every golden vector of a folder (index + npz): print case, errors and verdict, and a summary.

Exit status: 0 when every case of every group passes; 1 when one fails, when a group is not
known to this version, or when there is nothing to run; 2 when the path is no folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from golden_result import DOUBLE_TOLERANCE, TOLERANCE, Result
from golden_vectors import groups, skipped


def rst(results: list[Result], summary: str) -> str:
    """Return the table of a run as reStructuredText."""
    head = f"""\
Parity with the reference
=========================

Every golden vector, computed in float32 on a CPU with torch {torch.__version__.split("+")[0]}.
Errors are the largest absolute difference over the largest reference value: of the outputs, of
the gradients of the inputs, and of the norms of the gradients of each parameter. A case passes
when none exceeds {TOLERANCE:g}. Where float32 gradients cross a kink of an activation (one
pre-activation within rounding of 0 is enough) or divide by a tiny deviation, they are computed
again in float64 and have to agree to {DOUBLE_TOLERANCE:g}. Command: ``ci/golden PATH --out docs/parity.rst``.

{summary}

.. list-table::
   :header-rows: 1

   * - case
     - output
     - input gradient
     - parameter gradients
     - verdict
"""
    rows = []
    for r in results:
        cells = ["--" if e is None else f"{e:.1e}" for e in (r.output, r.gradient, r.parameters)]
        verdict = r.verdict if r.ok else f"failed {r.note}"
        rows.append("\n".join(["   * - " + r.case, *(f"     - {c}" for c in [*cells, verdict])]))
    return head + "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/golden", description=__doc__)
    parser.add_argument("path", type=Path, help="folder with index*.json and npz files")
    parser.add_argument("--out", type=Path, help="also write the table to this .rst file")
    arguments = parser.parse_args()
    if not arguments.path.is_dir():
        print(f"ci/golden: {arguments.path} is no folder", file=sys.stderr)
        return 2
    started, results, unknown = time.perf_counter(), [], 0
    for group in groups(arguments.path):
        if group.runner is None:
            unknown += 1
            print(f"{group.path}: group not known to this version")
            continue
        print(f"# {group.path}")
        for result in group.results():
            results.append(result)
            if not result.skipped:
                print(result.line(), flush=True)
    for folder in skipped(arguments.path):
        print(f"{folder}: no index of cases; data are tested elsewhere, skipped")
    left_out = [r for r in results if r.skipped]
    results = [r for r in results if not r.skipped]
    for note, number in Counter(r.note for r in left_out).items():
        print(f"{number} cases skipped: {note}")
    failed = [r for r in results if not r.ok]
    double = [r for r in results if r.ok and not r.single]
    worst = max((r.output for r in results if r.output is not None), default=0.0)
    summary = (
        f"{len(results)} cases, {len(results) - len(failed)} passed ({len(double)} of them with "
        f"gradients judged in float64), {len(failed)} failed; largest output error {worst:.1e}, "
        f"tolerance {TOLERANCE:g}."
    )
    print(f"{summary} {time.perf_counter() - started:.0f} s")
    if arguments.out is not None:
        arguments.out.write_text(rst(results, summary))
    if not results:
        print("nothing was run")
    return int(bool(failed) or unknown > 0 or not results)


if __name__ == "__main__":
    sys.exit(main())
