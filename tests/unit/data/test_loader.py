"""Loader: batches against isel, one window at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xearth.data.grid import Grid
from xearth.data.loader import Windows
from xearth.data.normalize import Normalizer
from xearth.data.windows import Window
from xearth.errors import (
    AxisError,
    DataTypeError,
    GridMismatchError,
    MissingDataError,
    TimeAxisError,
    TimeAxisWarning,
    UnitsError,
)
from xearth.testing.assertions import raise_if_dask_computes

WINDOW = Window(history=3, horizon=2)
LAT = {"units": "degrees_north"}
LON = {"units": "degrees_east"}


def field(months: int = 24, dtype: str = "f4", *, calendar: str = "standard") -> xr.DataArray:
    """Return random fields, north first, across Greenwich."""
    rng = np.random.default_rng(months)
    values = rng.integers(0, 200, (months, 3, 4)).astype(dtype)
    time = xr.date_range("2000-01", periods=months, freq="MS", calendar=calendar,
                         use_cftime=calendar != "standard")  # fmt: skip
    return xr.DataArray(
        values, dims=("time", "lat", "lon"), name="sst", attrs={"units": "K"},
        coords={"time": time, "lat": ("lat", [10.0, 0, -10], LAT),
                "lon": ("lon", [350.0, 355, 0, 5], LON)},
    )  # fmt: skip


def by_hand(da: xr.DataArray, init: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Return history and horizon (T, H, W) of one init, by label-free indexing."""
    south_first = da.sortby("lat").transpose("time", "lat", "lon").values
    first = init + window.gap + 1
    return (
        south_first[init - window.history + 1 : init + 1],
        south_first[first : first + window.horizon],
    )


@pytest.mark.parametrize("budget", [2**30, 0], ids=["memory", "disk"])
@pytest.mark.parametrize("chunks", [None, {"time": 5, "lon": 3}], ids=["numpy", "dask"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u1", ">f4"])
def test_batches_equal_isel(budget: int, chunks: dict | None, dtype: str) -> None:
    da = field(dtype=dtype)
    window = Window(3, 2, gap=1)
    windows = Windows(da.chunk(chunks) if chunks else da, window, memory_budget=budget)
    assert len(windows) == 24 - 6 + 1
    indices = [5, 0, len(windows) - 1, -1]
    batch = windows.batch(indices)
    assert batch.x.shape == (4, 3, 3, 4, 1)
    assert batch.y.shape == (4, 2, 3, 4, 1)
    packed = np.dtype(dtype).kind in "iu"
    assert batch.x.numpy().dtype == (np.dtype(dtype) if packed else np.float32)
    for k, init in enumerate(batch.init_positions):
        x, y = by_hand(da, init, window)
        np.testing.assert_array_equal(batch.x[k, ..., 0], x)
        np.testing.assert_array_equal(batch.y[k, ..., 0], y)
    np.testing.assert_array_equal(batch.init_positions, np.array([7, 2, 20, 20]))
    np.testing.assert_array_equal(batch.month, da.time.dt.month[batch.init_positions])
    assert batch.mask_x.all()
    assert batch.mask_y.all()


def test_nothing_is_read_before_the_first_batch_and_then_one_graph() -> None:
    da = field().chunk(time=2)
    normalizer = Normalizer.fit(field())
    with raise_if_dask_computes():
        ram = Windows(da, WINDOW, normalizer=normalizer)
        disk = Windows(da, WINDOW, normalizer=normalizer, memory_budget=0)
    with raise_if_dask_computes(max_computes=1):
        a = ram.batch(range(8))
        b = ram.batch(range(8))
    with raise_if_dask_computes(max_computes=1):
        c = disk.batch(range(8))
    for other in (b, c):
        assert torch.equal(a.x, other.x)
        assert torch.equal(a.y, other.y)


def test_loading_goes_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Windows(field(), WINDOW).batch(range(20))
    monkeypatch.setattr("xearth.data.blocks._BLOCK", 3 * 12 * 4)
    for da in (field(), field().chunk(time=4), field().chunk(time=1)):
        windows = Windows(da, WINDOW)
        edges = list(windows._source.time_blocks())
        assert (edges[0][0], edges[-1][1]) == (0, 24)
        assert all(a[1] == b[0] for a, b in pairwise(edges))
        assert len(edges) > 4
        batch = windows.batch(range(20))
        assert torch.equal(batch.x, whole.x)
        assert torch.equal(batch.y, whole.y)


@pytest.mark.parametrize("budget", [2**30, 0], ids=["memory", "disk"])
def test_normalized_and_filled(budget: int) -> None:
    da = field().where(lambda v: v > 40)
    normalizer = Normalizer.fit(da)
    batch = Windows(da, WINDOW, normalizer=normalizer, memory_budget=budget).batch([4])
    x, _ = by_hand(da, 6, WINDOW)
    z = (x - normalizer.center[0]) / normalizer.scale[0]
    np.testing.assert_allclose(batch.x[0, ..., 0], np.nan_to_num(z), atol=1e-6)
    np.testing.assert_array_equal(batch.mask_x[0, ..., 0], ~np.isnan(x))
    assert not batch.mask_x.all()
    assert (batch.x[~batch.mask_x] == 0).all()


def test_static_mask_takes_no_memory() -> None:
    da = field().where(lambda v: v.lat + v.lon > 0)
    windows = Windows(da, WINDOW)
    batch = windows.batch(range(10))
    assert batch.mask_x.shape == batch.x.shape
    assert batch.mask_x.untyped_storage().nbytes() == 12
    np.testing.assert_array_equal(windows.valid_cells(), da.sortby("lat").notnull().any("time"))
    ds = da.to_dataset().assign(index=("time", np.arange(24.0)))
    for budget in (2**30, 0):
        with_series = Windows(ds, WINDOW, memory_budget=budget).valid_cells()
        np.testing.assert_array_equal(with_series, windows.valid_cells())
    streamed = Windows(da.chunk(time=5), WINDOW, memory_budget=0)
    np.testing.assert_array_equal(streamed.valid_cells(), windows.valid_cells())
    assert torch.equal(streamed.batch(range(10)).mask_x, batch.mask_x)


@pytest.mark.parametrize("budget", [2**30, 0], ids=["memory", "disk"])
def test_packed_integers_are_normalized_by_one_map(budget: int) -> None:
    packed = field(dtype="u1").assign_attrs(
        units="degC", scale_factor=0.1, add_offset=5.0, _FillValue=np.uint8(7)
    )
    packed.values[0, 0, 0] = 7
    decoded = (packed.where(packed != 7) * 0.1 + 5.0 + 273.15).assign_attrs(units="K")
    normalizer = Normalizer.fit(decoded.astype("f8"))
    windows = Windows(packed, WINDOW, normalizer=normalizer, memory_budget=budget)
    batch = windows.batch(range(20))
    expected = Windows(decoded, WINDOW, normalizer=normalizer).batch(range(20))
    assert batch.x.dtype == torch.float32
    assert torch.equal(batch.mask_x, expected.mask_x)
    torch.testing.assert_close(batch.x, expected.x, atol=1e-5, rtol=0)
    if budget:
        assert windows._memory()[0].dtype == np.uint8
    raw = Windows(packed, WINDOW, memory_budget=budget).batch([0])
    assert raw.x.dtype == torch.uint8
    assert not raw.mask_x.all()


def test_members_are_separate_sequences() -> None:
    members = xr.concat([field(), field() + 1000], "member").transpose("time", "member", ...)
    members["member"] = ("member", [0, 1], {"standard_name": "realization"})
    for budget in (2**30, 0):
        windows = Windows(members, WINDOW, memory_budget=budget)
        assert len(windows) == 40
        batch = windows.batch([3, 23])
        np.testing.assert_array_equal(batch.sequences, [0, 1])
        np.testing.assert_array_equal(batch.init_positions, [5, 5])
        assert torch.equal(batch.x[0] + 1000, batch.x[1])


def test_dataset_channels_follow_the_normalizer() -> None:
    ds = xr.Dataset({"sst": field(), "wind": field(dtype="f8") * 2})
    ds["wind"].attrs["units"] = "m s-1"
    ds["nino34"] = ("time", np.arange(24.0), {"units": "K"})
    normalizer = Normalizer(
        ("nino34", "wind", "sst"), (0.0, 0.0, 0.0), (1.0, 2.0, 1.0), ("K", "m s-1", "K")
    )
    for budget in (2**30, 0):
        batch = Windows(ds, WINDOW, normalizer=normalizer, memory_budget=budget).batch([4])
        assert batch.x.shape == (1, 3, 3, 4, 3)
        np.testing.assert_array_equal(batch.x[0, :, 1, 2, 0], [4, 5, 6])
        assert torch.equal(batch.x[..., 1], batch.x[..., 2])
    with pytest.raises(MissingDataError, match="wind"):
        Windows(ds.drop_vars("wind"), WINDOW, normalizer=normalizer)


def test_model_grid_orients_the_data() -> None:
    da = field()
    model = Grid.from_array(da).horizontal()
    turned = da.assign_coords(lon=("lon", [-10.0, -5, 0, 5], LON)).sortby("lat")
    turned = turned.isel(lon=[3, 2, 1, 0])
    a, b = (
        Windows(da, WINDOW, grid=model).batch([1]),
        Windows(turned, WINDOW, grid=model).batch([1]),
    )
    assert torch.equal(a.x, b.x)
    with pytest.raises(GridMismatchError):
        Windows(da.isel(lon=slice(3)), WINDOW, grid=model)


def test_global_model_grid_rolls_the_data() -> None:
    lon = np.arange(0.0, 360, 60)
    values = np.arange(24.0)[:, None, None] + lon[None, None, :] + np.zeros((1, 2, 1))
    da = xr.DataArray(values, dims=("time", "lat", "lon"),
                      coords={"time": field().time, "lat": ("lat", [0.0, 5], LAT),
                              "lon": ("lon", lon, LON)})  # fmt: skip
    model = Grid.from_array(da).horizontal()
    rolled = da.assign_coords(lon=("lon", (lon + 180) % 360 - 180, LON)).sortby("lon")
    windows = Windows(rolled, WINDOW, grid=model)
    assert torch.equal(windows.batch([2]).x, Windows(da, WINDOW).batch([2]).x)
    back = windows.grid.label(windows.batch([2]).x[0, ..., 0], ("time",))
    np.testing.assert_array_equal(back, rolled[2:5])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.permutations(range(14)), st.sets(st.integers(1, 12), max_size=3))
@pytest.mark.filterwarnings("ignore::xearth.errors.TimeAxisWarning")
def test_unsorted_and_broken_axes(order: list[int], lost: set[int]) -> None:
    """Whatever the order and the gaps, a window holds consecutive months and its own init."""
    whole = field(20)
    kept = [m for m in [*order, *range(14, 20)] if m not in lost]
    da = whole.isel(time=kept)
    window = Window(2, 1)
    windows = Windows(da, window)
    batch = windows.batch(range(len(windows)))
    months = np.array(kept)[batch.init_positions]
    expected = [m for m in range(1, 19) if not {m - 1, m, m + 1} & lost]
    assert months.tolist() == expected
    for k, month in enumerate(months):
        x, y = by_hand(whole, month, window)
        np.testing.assert_array_equal(batch.x[k, ..., 0], x)
        np.testing.assert_array_equal(batch.y[k, ..., 0], y)


def test_the_user_is_told_once() -> None:
    da = field().drop_isel(time=10)
    with pytest.warns(TimeAxisWarning) as caught:
        Windows(da, WINDOW).batch([0])
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_choosing_inits() -> None:
    da = field(36)
    every = Windows(da, WINDOW).init_positions
    part = Windows(da, WINDOW, init=slice("2001-01", "2001-12")).init_positions
    np.testing.assert_array_equal(part, range(12, 24))
    edge = Windows(da, WINDOW, init=slice("2000-01", "2000-04")).init_positions
    np.testing.assert_array_equal(edge, [2, 3])
    one = Windows(da, Window(3, 0), init="2002-12")
    np.testing.assert_array_equal(one.init_positions, [35])
    assert one.batch([0]).y.shape == (1, 0, 3, 4, 1)
    apart = Windows(da.isel(time=[*range(8), *range(20, 28)]), WINDOW, init=["2000-04", "2001-12"])
    np.testing.assert_array_equal(apart.init_positions, [3, 11])  # and nothing is warned of
    listed = Windows(da, WINDOW, init=["2001-05", "2001-02"]).init_positions
    np.testing.assert_array_equal(listed, [16, 13])
    strided = Windows(da, Window(3, 2, stride=5)).init_positions
    np.testing.assert_array_equal(strided, every[::5])
    with pytest.raises(TimeAxisError, match=r"allows 2000-03-01.* to 2002-10-01"):
        Windows(da, WINDOW, init="2002-12")
    with pytest.raises(TimeAxisError, match="found none among 2"):
        Windows(da, WINDOW, init=slice("2002-11", "2002-12"))


def test_shuffled_batches_visit_each_window_once() -> None:
    windows = Windows(field(), WINDOW)
    runs = [
        np.concatenate([b.init_positions for b in windows.batches(6, shuffle_seed=seed)])
        for seed in (None, 1, 1, 2)
    ]
    np.testing.assert_array_equal(runs[0], windows.init_positions)
    np.testing.assert_array_equal(runs[1], runs[2])
    assert not np.array_equal(runs[1], runs[3])
    assert sorted(runs[3]) == sorted(runs[0])
    assert [len(b) for b in windows.batches(6)] == [6, 6, 6, 2]


def test_a_batch_in_use_is_never_overwritten() -> None:
    windows = Windows(field(), WINDOW)
    kept = [windows.batch([i, i + 1]) for i in range(10)]
    views = [windows.batch([i, i + 1]).y[0, 0] for i in range(10)]
    fresh = Windows(field(), WINDOW)
    for i in range(10):
        expected = fresh.batch([i, i + 1])
        assert torch.equal(kept[i].x, expected.x)
        assert torch.equal(views[i], expected.y[0, 0])


def test_dropped_buffers_are_used_again() -> None:
    windows = Windows(field(), WINDOW)
    places = {windows.batch([0, 1]).x.data_ptr() for _ in range(10)}
    assert len(places) == 1


def test_torch_data_loader_takes_it() -> None:
    windows = Windows(field(), WINDOW)
    sampler = torch.utils.data.BatchSampler(range(len(windows)), 8, drop_last=False)
    loader = torch.utils.data.DataLoader(windows, sampler=sampler, batch_size=None)
    found = torch.cat([batch.x.clone() for batch in loader])
    assert torch.equal(found, windows.batch(range(20)).x)


@pytest.mark.parametrize("index", [20, -21, [0, 20]])
def test_numbers_out_of_range(index: object) -> None:
    windows = Windows(field(), WINDOW)
    with pytest.raises(IndexError):
        windows[index]  # type: ignore[index]


def test_bad_input_before_any_compute() -> None:
    normalizer = Normalizer.fit(field())
    da = field().chunk(time=3)
    with raise_if_dask_computes():
        with pytest.raises(UnitsError):
            Windows(da.assign_attrs(units="m"), WINDOW, normalizer=normalizer)
        with pytest.raises(TimeAxisError):
            Windows(da, Window(20, 20))
        with pytest.raises(AxisError):
            Windows(da.isel(time=0, drop=True), WINDOW)
        holes = da.isel(time=[0, 1, 2, 3, 6, 7, 8, 9])
        with pytest.raises(TimeAxisError, match="missing steps"):
            Windows(holes, Window(4, 4))


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_other_calendars(calendar: str) -> None:
    da = field(calendar=calendar)
    batch = Windows(da, WINDOW).batch([9])
    np.testing.assert_array_equal(batch.month, [12])
    np.testing.assert_array_equal(batch.x[0, ..., 0], by_hand(da, 11, WINDOW)[0])


def test_long_integers_are_mapped_in_double_precision() -> None:
    da = field(dtype="i4") + 2_000_000_000
    da = da.assign_attrs(units="K", scale_factor=1e-3)
    normalizer = Normalizer(("sst",), (2e6,), (0.1,), ("K",))
    batch = Windows(da, WINDOW, normalizer=normalizer).batch([3])
    x, _ = by_hand(da, 5, WINDOW)
    np.testing.assert_allclose(batch.x[0, ..., 0], (x * 1e-3 - 2e6) / 0.1, rtol=1e-5, atol=1e-5)


def test_undecoded_fill_values_are_missing() -> None:
    da = field().assign_attrs(_FillValue=1e20).copy()
    da[5, 1, 1] = 1e20
    assert Normalizer.fit(da).center[0] < 200
    batch = Windows(da, WINDOW).batch([3])
    assert (~batch.mask_x).sum() == 1
    assert batch.x.max() < 200


def test_threads_get_buffers_of_their_own() -> None:
    from concurrent.futures import ThreadPoolExecutor

    windows = Windows(field(), WINDOW)
    expected = [windows.batch([i]).x.clone() for i in range(20)]

    def check(i: int) -> bool:
        batch = windows.batch([i % 20])
        return torch.equal(batch.x, expected[i % 20])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(check, range(400)))


def test_pickle_starts_afresh() -> None:
    import pickle

    windows = Windows(field(), WINDOW)
    first = windows.batch([0])
    again = pickle.loads(pickle.dumps(windows)).batch([0])
    assert torch.equal(first.x, again.x)


def test_memory_is_bounded_by_the_batch() -> None:
    """Data of 38 MB by Dask, windows of 1.6 MB: a batch of two needs no more than a few chunks."""
    import tracemalloc

    import dask.array

    months = 240
    values = dask.array.random.default_rng(0).random((months, 200, 100), chunks=(12, 200, 100))
    da = xr.DataArray(
        values, dims=("time", "lat", "lon"), name="sst",
        coords={"time": field(months).time,
                "lat": ("lat", np.linspace(-50, 50, 200), LAT),
                "lon": ("lon", np.linspace(0, 99, 100), LON)},
    )  # fmt: skip
    windows = Windows(da, Window(12, 8), memory_budget=0)
    windows.batch([0])
    tracemalloc.start()
    with raise_if_dask_computes(max_computes=1):
        batch = windows.batch([0, 150])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert batch.x.shape == (2, 12, 200, 100, 1)
    assert peak < 25e6


@pytest.mark.parametrize("dtype", ["f4", "u1"])
def test_meta_device_holds_no_hidden_cpu_tensor(dtype: str) -> None:
    da = field(dtype=dtype).where(lambda v: v.lat > -5, 7).astype(dtype)
    da = da.assign_attrs(_FillValue=np.dtype(dtype).type(7))
    normalizer = Normalizer(("sst",), (100.0,), (10.0,), ("K",))
    batch = Windows(da, WINDOW, normalizer=normalizer, device="meta").batch([0, 3])
    for tensor in (batch.x, batch.y, batch.mask_x, batch.mask_y):
        assert tensor.device.type == "meta"
    assert batch.x.dtype == torch.float32


@pytest.mark.parametrize("numbers", [[0.5], [True, False], np.array([1.0])])
def test_window_numbers_are_whole(numbers: object) -> None:
    windows = Windows(field(), WINDOW)
    with pytest.raises(IndexError, match=r"expected whole numbers .* found dtype"):
        windows.batch(numbers)  # type: ignore[arg-type]
    assert len(windows.batch([])) == 0


def test_a_pair_of_numbers_is_no_window() -> None:
    with pytest.raises(DataTypeError, match="expected a Window, found tuple"):
        Windows(field(), (3, 2))  # type: ignore[arg-type]
