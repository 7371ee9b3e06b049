"""Write a hindcast again and again, kill the writer at random moments, and report what is found.

Run as ``python kill_hindcast.py FOLDER ROUNDS KILLS SEED``: in each round a process that writes a
hindcast is killed (SIGKILL) KILLS times, then another one finishes. All of them are forked from
one process, so that none has to import anything. The report is one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import distributed  # noqa: F401 - these three are imported before the first fork
import numpy as np
import tqdm.auto  # noqa: F401
import xarray as xr
import zarr  # noqa: F401

from xearth.cf.writer import to_cf
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.store import write_hindcast
from xearth.reference.persistence import Persistence

THREADS = 2
BLOCKS = 24


class Slow:
    """Persistence that takes its time and writes down which starts it forecasts."""

    def __init__(self, model: Persistence, log: Path) -> None:
        self.model, self.log = model, str(log)
        self.name, self.history, self.horizon = "slow", 1, model.horizon

    def forecast(self, history, *, init=None, members=None, seed=0):
        made = self.model.forecast(history, init=init, members=members, seed=seed)
        if np.size(init) > 1:  # a block, not the look at the first start
            time.sleep(0.02)
            with open(self.log, "a") as log:
                log.write(f"{np.asarray(init)[0]}\n")
        return made


def data() -> xr.DataArray:
    """Twelve years of months on 6 x 8 cells."""
    time_axis = xr.date_range("2000-01", periods=144, freq="MS", use_cftime=False)
    values = np.random.default_rng(1).standard_normal((144, 6, 8)).astype("float32")
    values[:, 2, 3] = np.nan
    attrs = {"units": "K", "units_metadata": "temperature: difference", "long_name": "anomaly"}
    coords = {
        "time": ("time", time_axis, {"standard_name": "time"}),
        "lat": ("lat", np.linspace(-25.0, 25.0, 6), {"units": "degrees_north"}),
        "lon": ("lon", np.linspace(0.0, 315.0, 8), {"units": "degrees_east"}),
    }
    return xr.DataArray(values, coords, ("time", "lat", "lon"), "ssta", attrs)


def write(lazy: xr.DataArray, path: Path) -> None:
    """Write, or go on writing, the one hindcast; runs in a process of its own."""
    with (
        ThreadPoolExecutor(THREADS) as pool,
        dask.config.set(scheduler="threads", pool=pool),
    ):
        write_hindcast(lazy, path)


def tree(folder: Path) -> dict[str, str]:
    """Return a digest of every file of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def marked(folder: Path, reference: xr.Dataset) -> tuple[int, int]:
    """Return how many blocks are marked as done, and how many of these are not as they should."""
    done = sorted((folder / "done").glob("*")) if (folder / "done").exists() else []
    if not done:
        return 0, 0
    found = xr.open_zarr(folder / "store", consolidated=False)
    wrong = 0
    for marker in done:
        at = {"forecast_reference_time": slice(6 * int(marker.name), 6 * int(marker.name) + 6)}
        same = found.ssta.isel(at).load().equals(reference.ssta.isel(at).load())
        wrong += not same
    return len(done), wrong


def main(folder: Path, rounds: int, kills: int, seed: int) -> dict:
    """Return the report."""
    field, log = data(), folder / "log"
    model = Slow(Persistence.fit(field.sel(time=slice("2000", "2009")), horizon=2), log)
    lazy = hindcast(field, model, init=slice(None), members=3, starts_per_block=6)
    to_cf(lazy)  # all modules are in memory before the first fork, and no thread runs
    fork, chance = multiprocessing.get_context("fork"), random.Random(seed)

    def start(path: Path) -> multiprocessing.Process:
        process = fork.Process(target=write, args=(lazy, path))
        process.start()
        return process

    begin = time.monotonic()
    whole = start(folder / "whole.zarr")
    whole.join()
    length = time.monotonic() - begin
    blocks = len(log.read_text().splitlines())
    expected = tree(folder / "whole.zarr")
    report = {
        "exit": whole.exitcode, "blocks": blocks, "seconds": round(length, 2), "kills": 0,
        "done_at_kill": [], "made_again": [], "different": 0, "seen_early": 0, "left_over": [],
    }  # fmt: skip
    for number in range(rounds):
        path, part = folder / f"r{number}.zarr", folder / f"r{number}.zarr.incomplete"
        log.write_text("")
        for kill in range(kills):
            process = start(path)
            process.join(chance.uniform(0.0, 1.1 * length / (kill + 1)))
            if process.exitcode is None:
                report["kills"] += 1
                os.kill(process.pid, signal.SIGKILL)
            process.join()
            report["seen_early"] += path.exists() and tree(path) != expected
            report["done_at_kill"].append(len(list((part / "done").glob("*"))))
        if part.exists():
            shutil.copytree(part, folder / f"copy{number}")
        last = start(path)
        last.join()
        report["exit"] |= last.exitcode
        report["made_again"].append(len(log.read_text().splitlines()) - blocks)
        report["different"] += tree(path) != expected
        report["left_over"] += [p.name for p in folder.glob(f"*r{number}.zarr?*")]
    # only now: the reader of zarr has threads, which must not be forked
    reference = xr.open_zarr(folder / "whole.zarr")
    found = [marked(copy, reference) for copy in folder.glob("copy*")]
    report["marked"], report["marked_wrong"] = (sum(f[k] for f in found) for k in (0, 1))
    return report


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))))
