"""ICAR-ENSO: files of exactly the distributed layout, most of whose chunks were never written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from xearth.cf.timeaxis import TimeAxis
from xearth.cf.writer import to_cf
from xearth.data.loader import Windows
from xearth.data.sources import icar_enso
from xearth.data.windows import Window
from xearth.errors import ConfigError, SourceError
from xearth.forecasting.hindcast import hindcast
from xearth.reference.persistence import Persistence
from xearth.verification.protocols.index_protocols import INDEX_PROTOCOLS

TEST = icar_enso.RUNS[-1]
LAT, LON = icar_enso.LAT, np.arange(0.0, 360.0, 5.0)
SIZES = {"year": 4645, "month": 36, "lat": 24, "lon": 72}


def make(path: Path, name: str, dims: tuple[str, ...], rows: dict[int, np.ndarray], **sizes: int):
    """Write a file; rows not given stay unwritten and cost nothing."""
    sizes = {dim: {**SIZES, **sizes}[dim] for dim in dims}
    with netCDF4.Dataset(path, "w") as nc:
        for dim, size in sizes.items():
            nc.createDimension(dim, size)
            labels = {"lat": LAT, "lon": LON}.get(dim, np.arange(1.0, size + 1))
            nc.createVariable(dim, "f8", (dim,))[:] = labels[:size]
        chunks = tuple(1 if dim == "year" else size for dim, size in sizes.items())
        variable = nc.createVariable(name, "f4", dims, chunksizes=chunks, zlib=True, complevel=1)
        at = dims.index("year")
        for row, values in rows.items():
            variable[(slice(None),) * at + (row,)] = values


def rows_of(series: np.ndarray, run: icar_enso.Run) -> dict[int, np.ndarray]:
    """Cut a series to rows of 36 months, each 12 months after the one before."""
    return {run.first + r: series[12 * r : 12 * r + 36] for r in range(run.rows)}


@pytest.fixture(scope="module")
def field() -> np.ndarray:
    """Months of the test run, (1704, 24, 72): one pattern that decays and is driven."""
    rng = np.random.default_rng(0)
    amplitude = np.zeros(TEST.months)
    for t in range(1, TEST.months):
        amplitude[t] = 0.9 * amplitude[t - 1] + 0.3 * rng.standard_normal()
    y, x = np.meshgrid(np.cos(np.deg2rad(LAT)), np.sin(np.deg2rad(LON / 2)), indexing="ij")
    return (amplitude[:, None, None] * (y * x) + 0.01 * LON).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, field) -> Path:
    """CMIP files with the test run and a few rows of others."""
    path = tmp_path_factory.mktemp("enso_round1_train_20210201")
    rows = rows_of(field, TEST)
    rows[0] = np.full((36, 24, 72), 2.0)
    rows[151] = np.full((36, 24, 72), 3.0)  # the first of the second run
    make(path / "CMIP_train.nc", "sst", ("year", "month", "lat", "lon"), rows)
    box = field[:, 10:13, 38:49].astype(np.float64).mean((1, 2))
    label = np.convolve(np.append(box, box[-2:]), np.ones(3) / 3, "valid")
    make(path / "CMIP_label.nc", "nino", ("year", "month"), rows_of(label, TEST))
    return path


def test_the_series_is_folded_and_labeled(folder, field):
    ds = icar_enso.open(folder, split="test")
    assert ds.sst.dims == ("time", "lat", "lon")
    assert ds.sst.shape == (1704, 24, 48)
    np.testing.assert_array_equal(ds.lat, LAT)
    np.testing.assert_array_equal(ds.lon, np.arange(95.0, 331.0, 5.0))
    np.testing.assert_array_equal(ds.sst, field[:, :, 19:67])
    assert ds.sst.units == "K"
    assert ds.sst.units_metadata == "temperature: difference"
    assert ds.lon.units == "degrees_east"
    assert set(ds.run.values) == {"CMIP5-17"}
    axis = TimeAxis.from_array(ds.time)
    assert (axis.calendar, str(axis.step), axis.gaps) == ("noleap", "1 month", [])
    assert (ds.time.values[0].year, ds.time.values[0].month) == (4961, 1)


def test_the_label_is_the_mean_of_the_month_and_the_two_after_it(folder, field):
    ds = icar_enso.open(folder, split="test")
    box = ds.sst.sel(lat=slice(-5, 5), lon=slice(190, 240)).astype(float).mean(("lat", "lon"))
    np.testing.assert_allclose(
        ds.nino34[:-2], (box.values[:-2] + box.values[1:-1] + box.values[2:]) / 3, atol=1e-6
    )
    assert ds.nino34.attrs["target"] == "forward mean over 3 steps"


def test_nothing_is_read_before_it_is_needed(folder):
    ds = icar_enso.open(folder)
    assert not ds.sst.variable._in_memory
    assert ds.sst.shape == (53100, 24, 48)
    assert ds.sst.isel(time=0, lat=5, lon=7).item() == 2.0
    assert ds.sst.isel(time=[35, 1836], lat=[0]).values[:, 0, 0].tolist() == [2.0, 3.0]
    assert ds.time.values[1836].year == 161
    lazy = icar_enso.open(folder, chunks={"time": 36})
    assert lazy.sst.chunks is not None
    assert lazy.sst.isel(time=slice(30, 36)).mean().compute().item() == 2.0


def test_published_splits_and_numbers_of_samples(folder):
    train = icar_enso.open(folder)
    names = dict.fromkeys(train.run.values.tolist())
    assert list(names) == [run.name for run in icar_enso.RUNS[:30]]
    window = Window(history=12, horizon=14)
    assert icar_enso.starts(train, window).size == 52_350
    assert icar_enso.starts(train, Window(12, 26, stride=10)).size == 5_205
    with pytest.warns(match="missing steps"):  # no window crosses from run to run
        np.testing.assert_array_equal(
            icar_enso.starts(train, window), window.starts(TimeAxis.from_array(train.time))
        )
    for split, run in (("validation", "CMIP5-16"), ("test", "CMIP5-17")):
        ds = icar_enso.open(folder, split=split)
        assert set(ds.run.values) == {run}
        assert icar_enso.starts(ds, window).size == 1_679
    periods = [{t.year for t in icar_enso.open(folder, split=s).time.values[[0, -1]]} for s in
               ("train", "validation", "test")]  # fmt: skip
    assert max(periods[0]) < min(periods[1]) < max(periods[1]) < min(periods[2])


def test_windows_are_normalized_as_published(folder, field):
    ds = icar_enso.open(folder, split="test")
    windows = Windows(ds.sst, Window(12, 14), normalizer=icar_enso.normalizer())
    assert len(windows) == 1679
    batch = windows.batch([5])
    expected = (field[5:17, :, 19:67] + 16.549121856689453) / 26.748097419738766
    np.testing.assert_allclose(batch.x[0, ..., 0], expected, rtol=2e-6)


def test_persistence_under_the_published_protocol(folder, field):
    """From the reader to C-Nino3.4-M, -WM and MSE, against the loops of the original."""
    ds = icar_enso.open(folder, split="test")
    model = Persistence.fit(ds.sst.isel(time=slice(0, 600)), horizon=14)
    hc = hindcast(ds.sst, model, init=slice("5020-01", "5040-12"))
    found = INDEX_PROTOCOLS["icar_enso"].score(hc, ds.sst).compute()
    at = np.flatnonzero([5020 <= t.year <= 5040 for t in ds.time.values])
    box = field[:, 10:13, 38:49].astype(np.float64).mean((1, 2))
    r = []
    for lead in range(1, 13):
        truth = np.mean([box[at + lead + k] for k in range(3)], 0)
        p, t = box[at] - box[at].mean(), truth - truth.mean()
        r.append((p * t).sum() / (np.sqrt((p**2).sum() * (t**2).sum()) + 1e-6))
    weights = np.array([1.5] * 4 + [2] * 7 + [3]) * np.log(np.arange(12) + 1)
    assert found.correlation_m.item() == pytest.approx(np.mean(r), rel=1e-6)
    assert found.correlation_wm.item() == pytest.approx((weights * r).sum() / 12, rel=1e-6)
    grid = field[:, :, 19:67].astype(np.float64)
    mse = np.mean([((grid[at] - grid[at + n]) ** 2).mean() for n in range(1, 15)])
    assert found.mse.item() == pytest.approx(mse / 26.748097419738766**2, rel=1e-5)
    labels = INDEX_PROTOCOLS["icar_enso"].score(hc, ds.nino34).compute()
    np.testing.assert_allclose(labels.correlation, found.correlation, atol=1e-6)


def test_it_goes_through_a_cf_file(folder, tmp_path):
    ds = icar_enso.open(folder, split="test").isel(time=slice(0, 24))
    to_cf(ds, tmp_path / "test.nc")
    coder = xr.coders.CFDatetimeCoder(use_cftime=True)
    with xr.open_dataset(tmp_path / "test.nc", decode_times=coder) as back:
        np.testing.assert_array_equal(back.sst, ds.sst)
        assert (back.time.values == ds.time.values).all()


def test_soda_is_an_own_file_with_years_that_you_give(tmp_path):
    rows = {0: np.arange(36.0)[:, None, None] * np.ones((24, 48)), 99: np.full((36, 24, 48), 9.0)}
    # the 48 longitudes of the table alone, in another order of dimensions, unlabeled
    swapped = {row: values.transpose(1, 2, 0) for row, values in rows.items()}
    dims = ("lat", "lon", "year", "month")
    make(tmp_path / "SODA_train.nc", "sst", dims, swapped, year=100, lon=48)
    with netCDF4.Dataset(tmp_path / "SODA_train.nc", "a") as nc:
        nc["lon"][:], nc["lat"][:] = np.arange(48), np.arange(24)
    make(tmp_path / "SODA_label.nc", "nino", ("year", "month"), {99: np.arange(36.0)}, year=100)
    ds = icar_enso.open(tmp_path, split="soda", first_year=1871)
    assert ds.sizes["time"] == 1224
    assert [ds.time.values[k].year for k in (0, -1)] == [1871, 1972]
    np.testing.assert_array_equal(ds.sst[:36, 0, 0], np.arange(36.0))
    np.testing.assert_array_equal(ds.lon, icar_enso.LON)
    # 100 rows fold to whole ones alone: 0, 3, ..., 99
    np.testing.assert_array_equal(ds.nino34[-36:], np.arange(36.0))
    assert icar_enso.open(tmp_path, split="soda").time.values[0].year == 1


def test_rows_from_north_to_south_are_turned(tmp_path):
    values = np.arange(24.0)[None, :, None] * np.ones((36, 1, 72))
    make(tmp_path / "SODA_train.nc", "sst", ("year", "month", "lat", "lon"), {0: values}, year=100)
    make(tmp_path / "SODA_label.nc", "nino", ("year", "month"), {}, year=100)
    with netCDF4.Dataset(tmp_path / "SODA_train.nc", "a") as nc:
        nc["lat"][:] = LAT[::-1]
    ds = icar_enso.open(tmp_path, split="soda")
    np.testing.assert_array_equal(ds.lat, LAT)
    np.testing.assert_array_equal(ds.sst[0, :, 0], np.arange(24.0)[::-1])


def test_other_variables_keep_their_own_attributes(tmp_path):
    make(tmp_path / "SODA_train.nc", "t300", ("year", "month", "lat", "lon"), {}, year=100)
    make(tmp_path / "SODA_label.nc", "nino", ("year", "month"), {}, year=100)
    ds = icar_enso.open(tmp_path, split="soda", variables=("t300",))
    assert ds.t300.shape == (1224, 24, 48)
    assert "units" not in ds.t300.attrs


def test_errors_teach(tmp_path, folder):
    with pytest.raises(ConfigError, match="train, validation, test, soda"):
        icar_enso.open(folder, split="dev")
    with pytest.raises(ConfigError, match="for split='soda'"):
        icar_enso.open(folder, split="test", first_year=1850)
    with pytest.raises(SourceError, match=r"needs SODA_train.nc .* CMIP_label.nc, CMIP_train.nc"):
        icar_enso.open(folder, split="soda")
    with pytest.raises(SourceError, match="no such folder"):
        icar_enso.open(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="no NetCDF file"):
        icar_enso.open(tmp_path)
    with pytest.raises(SourceError, match=r"expected a variable 'ssh', found \['sst'\]"):
        icar_enso.open(folder, variables=("ssh",))
    (tmp_path / "CMIP_train.nc").write_bytes(b"no NetCDF")
    with pytest.raises(SourceError, match="cannot be read as NetCDF"):
        icar_enso.open(tmp_path)


@pytest.mark.parametrize(
    ("dims", "sizes", "match"),
    [
        (("year", "month", "lat", "lon"), {"year": 50}, "expected 100 along 'year', found 50"),
        (
            ("year", "month", "lat", "lon"),
            {"year": 100, "lon": 60},
            "expected 72 or 48 along 'lon'",
        ),
        (("year", "lat", "lon"), {"year": 100}, "expected sst.*found the dimensions"),
    ],
)
def test_another_layout_is_refused(tmp_path, dims, sizes, match):
    make(tmp_path / "SODA_train.nc", "sst", dims, {}, **sizes)
    make(tmp_path / "SODA_label.nc", "nino", ("year", "month"), {}, year=100)
    with pytest.raises(SourceError, match=match):
        icar_enso.open(tmp_path, split="soda")


def test_another_grid_is_refused(tmp_path):
    make(tmp_path / "SODA_train.nc", "sst", ("year", "month", "lat", "lon"), {}, year=100)
    make(tmp_path / "SODA_label.nc", "nino", ("year", "month"), {}, year=100)
    with netCDF4.Dataset(tmp_path / "SODA_train.nc", "a") as nc:
        nc["lat"][:] = LAT + 2.5
    with pytest.raises(SourceError, match=r"expected lat from -55 to 60 .* -52.5 to 62.5"):
        icar_enso.open(tmp_path, split="soda")


def test_a_fold_takes_the_rows_that_the_original_takes():
    """Also where rows that should agree do not: 0, 3, 6 and the end of the last."""
    rows, months = replace(TEST, first=0, rows=8).places()
    assert rows.tolist() == [0] * 36 + [3] * 36 + [6] * 36 + [7] * 12
    assert months.tolist() == [*range(36)] * 3 + [*range(24, 36)]
