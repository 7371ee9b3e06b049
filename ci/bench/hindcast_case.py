"""The hindcast of the benchmark: 40 starts x 12 leads x 10 members x 180 x 360, as archives.

Store a: Zarr, one chunk for a start and lead. b: one chunk for a start. c: all starts of one lead
on a part of the grid. nc: one NetCDF-4 file for a start, zlib 1. 24 % of the cells are land.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr

STARTS, LEADS, MEMBERS, ROWS, COLUMNS = 40, 12, 10, 180, 360
CHUNKS = {
    "a": (1, 1, MEMBERS, ROWS, COLUMNS),
    "b": (1, LEADS, MEMBERS, ROWS, COLUMNS),
    "c": (STARTS, 1, MEMBERS, 30, 60),
}
DIMS = ("init", "lead", "member", "lat", "lon")


def grid() -> dict[str, xr.Variable]:
    """Return latitude and longitude at 1 degree."""
    lat, lon = np.arange(-89.5, 90.0), np.arange(0.5, 360.0)
    return {
        "lat": xr.Variable("lat", lat, {"units": "degrees_north"}),
        "lon": xr.Variable("lon", lon, {"units": "degrees_east"}),
    }


def land(rng: np.random.Generator) -> np.ndarray:
    """Return 24 % of the cells, in continents."""
    rough = rng.standard_normal((ROWS // 15 + 1, COLUMNS // 15 + 1))
    lat, lon = np.linspace(0, ROWS / 15, ROWS), np.linspace(0, COLUMNS / 15, COLUMNS)
    i, j = lat.astype(int).clip(max=11)[:, None], lon.astype(int).clip(max=23)[None]
    u, v = lat[:, None] - i, lon[None] - j
    smooth = (rough[i, j] * (1 - u) + rough[i + 1, j] * u) * (1 - v)
    smooth += (rough[i, j + 1] * (1 - u) + rough[i + 1, j + 1] * u) * v
    return smooth > np.quantile(smooth, 0.76)


def write(folder: Path, stores: str) -> None:
    """Write the truth, its climatology and the archives that are not there yet."""
    rng = np.random.default_rng(20261122)
    mask = land(rng)
    months = STARTS + LEADS
    attrs = {"units": "K", "standard_name": "sea_surface_temperature"}
    time = xr.date_range("1990-01", periods=months, freq="MS")
    mean = (300 - 30 * np.sin(np.deg2rad(np.arange(-89.5, 90.0))) ** 2)[:, None]
    signal = rng.standard_normal((months, ROWS, COLUMNS), dtype=np.float32)
    truth = np.where(mask, np.nan, mean + signal).astype(np.float32)
    obs = xr.DataArray(truth, {"time": time, **grid()}, ("time", "lat", "lon"), "sst", attrs)
    obs.to_dataset().to_zarr(
        folder / "obs.zarr",
        mode="w",
        consolidated=False,
        encoding={"sst": {"chunks": (12, ROWS, COLUMNS)}},
    )
    clim = np.where(mask, np.nan, mean).astype(np.float32) * np.ones((12, 1, 1), np.float32)
    base = xr.DataArray(
        clim, {"month": np.arange(1, 13), **grid()}, ("month", "lat", "lon"), "sst", attrs
    )
    base.to_netcdf(folder / "clim.nc")
    absent = [name for name in stores.split(",") if not _place(folder, name).exists()]
    if not absent:
        return
    buffer = np.empty((STARTS, LEADS, MEMBERS, ROWS, COLUMNS), np.float32)
    for start in range(STARTS):
        for lead in range(LEADS):
            share = np.float32(0.95**lead)
            noise = rng.standard_normal((MEMBERS, ROWS, COLUMNS), dtype=np.float32)
            value = share * signal[start + lead] + (1.05 - share) * noise
            buffer[start, lead] = np.where(mask, np.nan, mean + value)
    for store in absent:
        _fill(folder, store, xr.Dataset({"sst": (DIMS, buffer, attrs)}, _coords(time)))


def _coords(time: xr.CFTimeIndex) -> dict:
    return {
        "init": ("init", time[:STARTS], {"standard_name": "forecast_reference_time"}),
        "lead": ("lead", np.arange(LEADS), {"units": "months", "standard_name": "forecast_period"}),
        "member": ("member", np.arange(MEMBERS), {"standard_name": "realization"}),
        **grid(),
    }


def _place(folder: Path, store: str) -> Path:
    return folder / ("nc" if store == "nc" else f"{store}.zarr")


def _fill(folder: Path, store: str, ds: xr.Dataset) -> None:
    if store == "nc":
        (folder / "nc").mkdir(exist_ok=True)
        for start in range(STARTS):
            ds.isel(init=[start]).to_netcdf(
                folder / "nc" / f"{start:04d}.nc",
                encoding={"sst": {"zlib": True, "complevel": 1, "chunksizes": CHUNKS["a"]}},
            )
        return
    ds.to_zarr(
        folder / f"{store}.zarr",
        mode="w",
        consolidated=False,
        encoding={"sst": {"chunks": CHUNKS[store]}},
    )


def repeat(folder: Path, store: str, times: int) -> Path:
    """Make an archive of the same starts over and over, by links to the same chunks."""
    new = folder / f"{store}{times}.zarr"
    if new.exists():
        return new
    starts = xr.date_range("1990-01", periods=STARTS, freq="MS")
    with xr.open_zarr(folder / f"{store}.zarr", consolidated=False) as ds:
        frame = xr.concat([ds] * times, "init", coords="minimal", compat="override")
        frame = frame.chunk(dict(zip(DIMS, CHUNKS[store], strict=True)))
        frame = frame.assign_coords(
            init=np.tile(starts, times)
            + np.repeat(np.arange(times), STARTS) * np.timedelta64(1, "h")
        )
        frame.to_zarr(new, mode="w", compute=False, consolidated=False)
    for source in (folder / f"{store}.zarr" / "sst" / "c").iterdir():
        for k in range(times):
            target = new / "sst" / "c" / str(int(source.name) + k * STARTS)
            for root, _, names in os.walk(source):
                place = target / os.path.relpath(root, source)
                place.mkdir(parents=True, exist_ok=True)
                for name in names:
                    os.link(os.path.join(root, name), place / name)
    return new


def open_store(folder: Path, store: str) -> xr.DataArray:
    """Open an archive lazily, as it is chunked."""
    if store == "nc":
        files = sorted((folder / "nc").glob("*.nc"))
        ds = xr.open_mfdataset(
            files,
            combine="nested",
            concat_dim="init",
            chunks={},
            coords="minimal",
            compat="override",
        )
        return ds.sst
    return xr.open_zarr(folder / f"{store}.zarr", consolidated=False).sst
