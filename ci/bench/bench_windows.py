"""Batches of windows against memcpy, plain xarray and xbatcher.

Usage: python ci/bench/bench_windows.py [--rounds 9] [--out docs/performance/windows.rst]

Case A: windows of 26 x 24 x 48 float32 (120 kB) out of 12,000 months, batches of 32.
Case B: events of 25 x 384 x 384 uint8 (3.7 MB), batches of 8, uint8 all the way.
The bound is copying the same windows, in the same order, from an array in memory into one batch
array that is used again and again. All rivals take turns in one process; ratios are medians of
CPU time, round by round.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from common import machine, quiet_threads, race, ratio, rst_table, write

quiet_threads(2)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import xarray as xr  # noqa: E402

from xearth.cf.timeaxis import TimeAxis  # noqa: E402
from xearth.data.loader import Windows  # noqa: E402
from xearth.data.windows import Window  # noqa: E402


def months(count: int = 12000) -> xr.DataArray:
    """Return case A: monthly fields (time, lat, lon) float32, year 1000 onward."""
    rng = np.random.default_rng(0)
    time = xr.date_range("1000-01", periods=count, freq="MS", calendar="noleap", use_cftime=True)
    return xr.DataArray(
        rng.standard_normal((count, 24, 48), dtype=np.float32),
        dims=("time", "lat", "lon"),
        coords={
            "time": time,
            "lat": ("lat", np.linspace(-57.5, 57.5, 24), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0.0, 352.5, 48), {"units": "degrees_east"}),
        },
        name="sst",
        attrs={"units": "K"},
    )


def events(count: int) -> xr.DataArray:
    """Return case B: radar-like events (event, time, y, x) uint8, 73 % zeros."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 256, (count, 25, 384, 384), dtype=np.uint8)
    values[rng.random((count, 25, 384, 384), dtype=np.float32) < 0.73] = 0
    side = np.arange(384) * 1000.0
    return xr.DataArray(
        values,
        dims=("event", "time", "y", "x"),
        coords={
            "time": np.datetime64("2019-06-01", "ns") + np.arange(25) * np.timedelta64(5, "m"),
            "y": ("y", side, {"standard_name": "projection_y_coordinate", "units": "m"}),
            "x": ("x", side, {"standard_name": "projection_x_coordinate", "units": "m"}),
        },
        name="vil",
        attrs={"units": "1"},
    )


def memcpy(values: np.ndarray, orders: list, length: int) -> Callable[[], None]:
    """Return the bound: copy windows (sequence, start) of ``values`` into one batch array."""
    batch = np.empty((len(orders[0]), length, *values.shape[2:]), values.dtype)

    def run() -> None:
        for order in orders:
            for k, (s, t) in enumerate(order):
                batch[k] = values[s, t : t + length]

    return run


def batches(windows: Windows, numbers: list[np.ndarray]) -> Callable[[], None]:
    """Return: make every batch with xearth and drop it."""

    def run() -> None:
        for indices in numbers:
            windows.batch(indices)

    return run


def stacked(da: xr.DataArray, picks: list[list[dict]]) -> Callable[[], None]:
    """Return: what a careful user writes with xarray and torch."""

    def run() -> None:
        for batch in picks:
            torch.stack([torch.from_numpy(da.isel(p).values) for p in batch])

    return run


def xbatcher(
    da: xr.DataArray, inputs: dict[str, int], overlap: dict[str, int], numbers: list
) -> Callable[[], None]:
    """Return: the same windows by xbatcher's torch dataset."""
    from xbatcher import BatchGenerator
    from xbatcher.loaders.torch import MapDataset

    dataset = MapDataset(BatchGenerator(da, input_dims=inputs, input_overlap=overlap))

    def run() -> None:
        for indices in numbers:
            torch.stack([dataset[int(i)] for i in indices])

    return run


def case_a(folder: Path, rounds: int) -> list[list[str]]:
    """Race case A and return the rows of the table."""
    window, count, size = Window(history=12, horizon=14), 8, 32
    da = months()
    path = folder / "a.nc"
    chunks = {"sst": {"zlib": True, "complevel": 2, "shuffle": True, "chunksizes": (120, 24, 48)}}
    da.to_netcdf(path, encoding=chunks)
    ram = Windows(da, window)
    rng = np.random.default_rng(2)
    numbers = [rng.choice(len(ram), size, replace=False) for _ in range(count)]
    orders = [[(0, int(i)) for i in batch] for batch in numbers]
    picks = [[{"time": slice(int(i), int(i) + 26)} for i in batch] for batch in numbers]
    inputs, overlap = {"time": 26, "lat": 24, "lon": 48}, {"time": 25}
    with xr.open_dataset(path) as ds, xr.open_dataset(path, chunks={"time": 120}) as lazy:
        few = [batch[:8] for batch in numbers[:2]]
        fast = {
            "memcpy from memory (the bound)": memcpy(da.values[None], orders, 26),
            "xearth, array in memory": batches(ram, numbers),
            "xearth, NetCDF decoded once": batches(Windows(ds.sst, window), numbers),
            "xarray isel + torch.stack, in memory": stacked(da, picks),
        }
        slow = {
            "xearth, NetCDF left on disk": batches(Windows(ds.sst, window, memory_budget=0), few),
            "xearth, Dask, one graph a batch": batches(
                Windows(lazy.sst, window, memory_budget=0), few
            ),
            "xbatcher, array in memory": xbatcher(da, inputs, overlap, few),
            "xbatcher, NetCDF": xbatcher(ds.sst, inputs, overlap, few),
        }
        table = rows("A", {**fast, **slow}, (count * size, 16), len(fast), rounds)
        return [*table, decoding("A", ds.sst, window)]


def case_b(folder: Path, rounds: int) -> list[list[str]]:
    """Race case B and return the rows of the table."""
    window, count, size = Window(history=13, horizon=12), 3, 8
    da = events(24)  # 88 MB: more than the chunk cache of netCDF-C
    path = folder / "b.nc"
    chunks = {"vil": {"zlib": True, "complevel": 4, "chunksizes": (1, 25, 384, 384)}}
    da.to_netcdf(path, encoding=chunks)
    ram = Windows(da, window)
    numbers = np.random.default_rng(3).permutation(24)[: count * size].reshape(count, size)
    orders = [[(int(i), 0) for i in batch] for batch in numbers]
    picks = [[{"event": int(i)} for i in batch] for batch in numbers]
    inputs = {"event": 1, "time": 25, "y": 384, "x": 384}
    with xr.open_dataset(path) as ds:
        few = list(numbers)
        fast = {
            "memcpy from memory (the bound)": memcpy(da.values[..., None], orders, 25),
            "xearth, array in memory": batches(ram, list(numbers)),
            "xearth, NetCDF decoded once": batches(Windows(ds.vil, window), list(numbers)),
            "xarray isel + torch.stack, in memory": stacked(da, picks),
        }
        slow = {
            "xearth, NetCDF left on disk": batches(Windows(ds.vil, window, memory_budget=0), few),
            "xbatcher, array in memory": xbatcher(da, inputs, {}, few),
            "xbatcher, NetCDF": xbatcher(ds.vil, inputs, {}, few),
        }
        table = rows("B", {**fast, **slow}, (count * size, count * size), len(fast), rounds)
        return [*table, decoding("B", ds.vil, window)]


def rows(
    case: str, rivals: dict, windows: tuple[int, int], fast: int, rounds: int
) -> list[list[str]]:
    """Race the rivals; the first ``fast`` make windows[0] windows a round, the rest windows[1]."""
    times = race(rivals, rounds)
    bound = next(iter(times.values()))
    out = []
    for i, (name, timing) in enumerate(times.items()):
        made = windows[0] if i < fast else windows[1]
        per_window = timing.cpu_seconds / made * 1e6
        factor = ratio(timing, bound)[1] * windows[0] / made
        out.append([case, name, f"{per_window:,.1f}", f"{factor:,.2f}"])
        print("  ".join(out[-1]), flush=True)
    return out


def decoding(case: str, da: xr.DataArray, window: Window) -> list[str]:
    """Return a row on the first batch from a file, which decodes all of it."""
    timing = race({"load": lambda: Windows(da, window).batch([0])}, 3)["load"]
    name = f"(decoding the file's {da.nbytes / 1e6:.0f} MB, once)"
    row = [case, name, f"{timing.cpu_seconds * 1e6:,.0f} in all", ""]
    print("  ".join(row), flush=True)
    return row


def construction(rounds: int) -> str:
    """Return a sentence on building 12,000 windows, milliseconds."""
    time = xr.date_range("1000-01", periods=12029, freq="MS", calendar="noleap", use_cftime=True)
    axis = TimeAxis.from_array(xr.DataArray(time, dims="time", name="time"))
    window = Window(history=12, horizon=18)
    timing = race({"starts": lambda: window.starts(axis)}, rounds)["starts"]
    count = len(window.starts(axis))
    return f"Building {count:,} windows takes {timing.seconds * 1e3:.2f} ms."


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="file of the RST table")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        table = [
            *case_a(Path(folder), arguments.rounds),
            *case_b(Path(folder), arguments.rounds),
        ]
    sentence = construction(arguments.rounds)
    print(sentence)
    if arguments.out:
        header = ["case", "how", "CPU us per window", "x memcpy"]
        write(f"{rst_table(header, table)}\n{sentence} Measured on {machine()}.\n", arguments.out)


if __name__ == "__main__":
    main()
