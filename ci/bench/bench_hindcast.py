"""Verification of a hindcast straight from its store, against merely reading it, and peers.

Usage: python ci/bench/bench_hindcast.py [--rounds 5] [--stores a,b,c,nc] [--folder DIR]
       [--out docs/performance/hindcast.rst]

CRPS, ACC, RMSE and spread by lead of 40 starts x 12 leads x 10 members x 180 x 360 float32
(1.24 GB) in four layouts, two threads. The bound reads every chunk and does nothing with it.
Rivals take turns in one process; ratios are medians over the rounds. Peak memory is that of a
fresh process that does nothing else. xskillscore and climpred cannot take the stores as they are
chunked; they get them rechunked as their documentation asks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from common import machine, peak_rss, peak_rss_of, quiet_threads, race, ratio, rst_table, write

quiet_threads(1)

import dask  # noqa: E402
import numpy as np  # noqa: E402
import xarray as xr  # noqa: E402
from hindcast_case import LEADS, open_store, repeat  # noqa: E402
from hindcast_case import write as write_stores  # noqa: E402

from xearth.verification.one_pass.verify import verify  # noqa: E402

SCORES = ["crps_ensemble", "acc", "rmse", "spread"]
BARS = {"a": "1.7", "b": "2.6", "c": "2.2", "nc": ""}


def inputs(folder: Path, store: str) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return forecast, truth and climatology."""
    obs = xr.open_zarr(folder / "obs.zarr", consolidated=False).sst
    return open_store(folder, store), obs, xr.open_dataset(folder / "clim.nc").sst.load()


def read(folder: Path, store: str) -> object:
    """Read every chunk with Dask."""
    data = open_store(folder, store).data
    one = data.map_blocks(_drop, chunks=(1,) * data.ndim, dtype="f4", meta=np.empty((0,) * 5, "f4"))
    return one.sum().compute()


def _drop(block: np.ndarray) -> np.ndarray:
    return np.zeros((1,) * block.ndim, "f4")


def ours(folder: Path, store: str, engine: str = "numpy") -> xr.Dataset:
    """Verify with xearth, from opening the store to numbers."""
    f, o, clim = inputs(folder, store)
    return verify(f, o, SCORES, climatology=clim, engine=engine).compute()


def xskillscore(folder: Path, store: str) -> xr.Dataset:
    """Verify as a user of xskillscore would, after rechunking."""
    import xskillscore as xs

    f, o, clim = inputs(folder, store)
    f = f.chunk(init=-1, member=-1, lead=1, lat=30, lon=60)
    at, base = _aligned(f, o, clim)
    dims = ["init", "lat", "lon"]
    weights = np.cos(np.deg2rad(f.lat))
    mean = f.mean("member")
    crps = xs.crps_ensemble(at, f, dim=[]).weighted(weights).mean(dims)
    mse = xs.mse(mean, at, dim="init", skipna=True)
    acc = [(mean - base) * (at - base), (mean - base) ** 2, (at - base) ** 2]
    cross, ff, oo = (x.weighted(weights).mean(["lat", "lon"]) for x in acc)
    return xr.Dataset(
        {
            "crps_ensemble": crps,
            "rmse": np.sqrt(mse.weighted(weights).mean(["lat", "lon"])),
            "acc": (cross / np.sqrt(ff * oo)).mean("init"),
            "spread": np.sqrt(f.var("member", ddof=1).weighted(weights).mean(dims)),
        }
    ).compute()


def _aligned(
    f: xr.DataArray, o: xr.DataArray, clim: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return truth and climatology at starts and leads, chunked as the forecast."""
    place = np.arange(f.sizes["init"])[:, None] + np.arange(LEADS)
    where = xr.DataArray(place, dims=("init", "lead"), coords={"init": f.init, "lead": f.lead})
    loaded = o.load()
    at = loaded.isel(time=where).drop_vars("time")
    base = clim.sel(month=loaded.time.dt.month.isel(time=where)).drop_vars(["month", "time"])
    chunks = {"init": -1, "lead": 1, "lat": 30, "lon": 60}
    return at.chunk(chunks), base.chunk(chunks)


def climpred(folder: Path, store: str) -> xr.Dataset:
    """Verify as a user of climpred would, after rechunking."""
    import cf_xarray  # noqa: F401
    import climpred as cp
    from cf_xarray.accessor import CFDatasetAccessor

    # it would download the table of standard names
    CFDatasetAccessor.add_canonical_attributes = lambda self, *a, **k: self._obj
    f, o, _ = inputs(folder, store)
    weights = np.cos(np.deg2rad(f.lat))
    f = f.chunk(init=-1, member=-1, lead=1, lat=30, lon=60)
    o = o.chunk(time=-1, lat=30, lon=60)
    hindcast = cp.HindcastEnsemble(f.to_dataset(name="sst")).add_observations(o.to_dataset())
    options = {"alignment": "same_inits", "dim": "init"}
    crps = hindcast.verify(
        metric="crps", comparison="m2o", **(options | {"dim": ["member", "init"]})
    )
    mse = hindcast.verify(metric="mse", comparison="e2o", **options)
    acc = hindcast.verify(metric="acc", comparison="e2o", **options)
    found = xr.Dataset({"crps_ensemble": crps.sst, "mse": mse.sst, "acc": acc.sst})
    return found.weighted(weights).mean(["lat", "lon"]).compute()


RUNS: dict[str, Callable[[Path, str], object]] = {
    "read": read,
    "xearth": ours,
    "xearth, engine numba": lambda folder, store: ours(folder, store, "numba"),
    "xskillscore, rechunked": xskillscore,
    "climpred, rechunked": climpred,
}


def tasks(folder: Path, store: str) -> float:
    """Return the number of tasks a chunk."""
    f, o, clim = inputs(folder, store)
    lazy = verify(f, o, SCORES, climatology=clim)
    return len(dict(lazy.__dask_graph__())) / f.data.npartitions


def memory(folder: Path, store: str, run: str) -> float:
    """Return the peak in MB of a fresh process."""
    return 1000 * peak_rss_of(__file__, "--only", run, "--stores", store, "--folder", str(folder))


def rows(folder: Path, store: str, rounds: int) -> list[list[str]]:
    """Race the runs on one store."""
    names = ["read", "xearth", "xearth, engine numba"]
    times = race({name: lambda n=name: RUNS[n](folder, store) for name in names}, rounds)
    if store in ("a", "c"):
        peers = names[:1] + list(RUNS)[3:]
        slow = race({n: lambda n=n: RUNS[n](folder, store) for n in peers}, 1)
        times |= {n: t for n, t in slow.items() if n != "read"}
    table = []
    for name, timing in times.items():
        bound = times["read"] if len(timing.wall) == rounds else slow["read"]
        wall, cpu = ratio(timing, bound)
        ahead = timing.seconds / times["xearth"].seconds if name in list(RUNS)[3:] else 0.0
        table.append([
            store, name, f"{timing.seconds:.2f}", f"{wall:.2f}", f"{timing.cpu_seconds:.2f}",
            f"{cpu:.2f}", BARS[store] if name.startswith("xearth") else "",
            f"{memory(folder, store, name):.0f}", f"{ahead:.1f}" if ahead else "",
        ])  # fmt: skip
        print("  ".join(table[-1]), flush=True)
    return table


def check(folder: Path, store: str) -> str:
    """Return how far xskillscore's numbers are from ours, both with cosine weights."""
    f, o, clim = inputs(folder, store)
    weights = np.cos(np.deg2rad(f.lat))
    mine = verify(f, o, SCORES, climatology=clim, weights=weights).compute()
    theirs = xskillscore(folder, store)
    worst = max(float(abs(mine[n] / theirs[n] - 1).max()) for n in SCORES)
    return f"With the same weights xearth and xskillscore differ by {worst:.0e} at most."


def growth(folder: Path) -> str:
    """Return the peaks of store a and of eight times as many starts, read and verified."""
    repeat(folder, "a", 8)
    peaks = {run: [memory(folder, s, run) for s in ("a", "a8")] for run in ("read", "xearth")}
    grown = {run: f"{a:.0f} to {b:.0f} MB ({b / a - 1:+.0%})" for run, (a, b) in peaks.items()}
    return (
        "Peak memory from store a to the same with 8 times as many starts (10 GB): merely reading "
        f"{grown['read']}, xearth {grown['xearth']}."
    )


def report(folder: Path, stores: list[str], rounds: int) -> str:
    """Run everything and return the page."""
    table = [row for store in stores for row in rows(folder, store, rounds)]
    header = ["store", "run", "wall s", "/ read", "CPU s", "/ read", "bar", "peak MB", "x xearth"]
    graph = ", ".join(f"{store}: {tasks(folder, store):.1f}" for store in stores)
    what = " ".join((__doc__ or "").split("\n\n")[2].split())
    return "\n".join([
        f"{machine()}, 2 threads. {what}",
        "",
        rst_table(header, table),
        f"Tasks a chunk, reading included: {graph}. {growth(folder)} {check(folder, 'a')}",
        "",
    ])  # fmt: skip


def main() -> None:
    """Parse the command line, make the data, race."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stores", default="a,b,c,nc")
    parser.add_argument("--folder", type=Path, help="keep the data here, or use what is there")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with dask.config.set(scheduler="threads", num_workers=2):
        if options.only:
            RUNS[options.only](options.folder, options.stores)
            sys.exit(print(peak_rss()))
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            write_stores(folder, options.stores)
            write(report(folder, options.stores.split(","), options.rounds), options.out)


if __name__ == "__main__":
    main()
