#!/usr/bin/env python
"""nowcast-small and prediff-small beside STEPS of pysteps: seconds for an hour on one machine.

    python -m venv PYSTEPS && PYSTEPS/bin/pip install pysteps netCDF4
    python ci/bench/bench_nowcast.py FILE --pysteps PYSTEPS/bin/python --out docs/performance/nowcast.rst

FILE is a radar file in mm/h or dBZ (radar_mch_20150515.nc has 320 x 355 cells). pysteps runs in its
own process, with the set-up that the published marks were made with: Lucas-Kanade motion of three
frames in dBR, 6 cascade levels, nonparametric noise, bps perturbation of the motion, incremental
mask. Both read the same frames, warm up once, and take turns; medians of the runs are shown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from common import machine, write

from xearth.data.sources import radar
from xearth.fields.rain import rain_rate
from xearth.forecasting.io import load

MEMBERS, DRAWN, LEADS = 20, 10, 12  # members of STEPS and nowcast-small, of prediff-small
PYSTEPS = '''
import sys, time
import numpy as np
from pysteps import motion, nowcasts
from pysteps.utils import transformation

frames, members, leads, minutes, runs = np.load(sys.argv[1]), *map(int, sys.argv[2:6])
rain = np.nan_to_num(frames)
for k in range(runs + 1):
    begun = time.perf_counter()
    dbr, _ = transformation.dB_transform(rain, threshold=0.1, zerovalue=-15.0)
    v = motion.get_method("LK")(dbr)
    nowcasts.get_method("steps")(
        dbr, v, leads, n_ens_members=members, n_cascade_levels=6, precip_thr=-10.0, kmperpixel=2.0,
        timestep=minutes, noise_method="nonparametric", vel_pert_method="bps",
        mask_method="incremental", seed=24, num_workers=1,
    )
    print("SECONDS", time.perf_counter() - begun if k else "warm", flush=True)
'''  # fmt: skip


def theirs(python: str, frames: np.ndarray, minutes: int, runs: int) -> list[float]:
    """Return the seconds of STEPS."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.npy"
        np.save(path, frames)
        told = [str(n) for n in (MEMBERS, LEADS, minutes, runs)]
        done = subprocess.run(
            [python, "-c", PYSTEPS, str(path), *told], capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(f"pysteps failed:\n{done.stderr[-2000:]}")
    lines = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("SECONDS")]
    return [float(seconds) for seconds in lines if seconds != "warm"]


def ours(name: str, members: int, rain: object, init: object) -> float:
    """Return the seconds of a shipped forecaster, labels and all."""
    model = load(name)
    model.forecast(rain, init=init, members=2)  # type: ignore[arg-type]
    begun = perf_counter()
    model.forecast(rain, init=init, members=members)  # type: ignore[arg-type]
    return perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--pysteps", required=True, help="a python that has pysteps")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rain = rain_rate(radar.open(options.file)).load()
    at = 11
    minutes = int(np.diff(rain[rain.dims[0]].values[:2])[0] / np.timedelta64(1, "m"))
    init = rain[rain.dims[0]].values[at]
    rounds = [
        (
            ours("nowcast-small", MEMBERS, rain, init),
            ours("prediff-small", DRAWN, rain, init),
            theirs(options.pysteps, rain.values[at - 2 : at + 1], minutes, 1)[0],
        )
        for _ in range(options.runs)
    ]
    mine, drawn, steps = (median(side) for side in zip(*rounds, strict=True))
    ratios = [median(c / one[k] for one in rounds for c in one[2:]) for k in (0, 1)]
    height, width = rain.shape[1:]
    text = f"""\
Nowcasts
--------

{LEADS} leads, {height} x {width} cells ({options.file.stem}), one process each, in turns,
median of {options.runs}; motion and all labels included ({machine()}):

.. list-table::
   :header-rows: 1

   * - forecaster
     - members
     - seconds
     - seconds of STEPS by those, median of the turns
   * - ``nowcast-small``
     - {MEMBERS}
     - {mine:.2f}
     - {ratios[0]:.1f}
   * - ``prediff-small``
     - {DRAWN}
     - {drawn:.2f}
     - {ratios[1]:.2f}
   * - STEPS of pysteps, Lucas-Kanade motion
     - {MEMBERS}
     - {steps:.2f}
     - 1

.. code-block:: bash

   python ci/bench/bench_nowcast.py FILE --pysteps PYSTEPS/bin/python
"""
    write(text, options.out)


if __name__ == "__main__":
    main()
