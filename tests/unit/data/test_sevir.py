"""SEVIR: small files of exactly the distributed layout, with maps of fewer pixels."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.cf.discover import discover
from xearth.cf.timeaxis import TimeAxis
from xearth.data.loader import Windows
from xearth.data.sources import sevir
from xearth.data.sources.places import EqualArea
from xearth.errors import ConfigError, ProtocolError, SourceError
from xearth.verification.protocols.event_protocols import EVENT_PROTOCOLS

PROJ = "+proj=laea +lat_0=38 +lon_0=-98 +units=m +a=6370997.0 +ellps=sphere "
SIZES = {"vil": 12, "ir069": 6, "ir107": 6}
# id -> time of the event; two files for each type, by year
EVENTS = {
    "S3": "2018-05-01 12:00:00",
    "S1": "2018-06-01 00:00:00",
    "S2": "2019-01-01 00:00:00",  # the last instant of the training split
    "S4": "2019-01-01 00:05:00",
    "S5": "2019-06-01 00:00:00",
    "S6": "2019-06-01 00:05:00",
}


def row(name: str, kind: str, index: int, **changes) -> dict:
    year = EVENTS[name][:4]
    corners = EqualArea.from_proj(PROJ).inverse([-500e3, -116e3], [200e3, 584e3])
    return {
        "id": name,
        "file_name": f"{kind}/{year}/SEVIR_{kind.upper()}_{year}.h5",
        "file_index": index,
        "img_type": kind,
        "time_utc": EVENTS[name],
        "minute_offsets": ":".join(map(str, range(-120, 125, 5))),
        "llcrnrlat": corners[0][0],
        "llcrnrlon": corners[1][0],
        "urcrnrlat": corners[0][1],
        "urcrnrlon": corners[1][1],
        "proj": PROJ,
        "pct_missing": 0.0,
        **changes,
    }


def stored(kind: str, n: int, frames: int = 49) -> np.ndarray:
    side = SIZES[kind]
    rng = np.random.default_rng(n)
    high, dtype = (256, "u1") if kind == "vil" else (3000, "i2")
    low = 0 if kind == "vil" else -9000
    return rng.integers(low, high, (n, side, side, frames)).astype(dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("sevir")
    rows, where = [], {"2018": ["S3", "S1"], "2019": ["S2", "S4", "S5", "S6"]}
    for kind in SIZES:
        for names in where.values():
            rows += [row(name, kind, i) for i, name in enumerate(names)]
            path = home / "data" / rows[-1]["file_name"]
            path.parent.mkdir(parents=True)
            with h5py.File(path, "w") as file:
                file["id"] = np.array(names, "S4")
                file[kind] = stored(kind, len(names))
    for names in where.values():
        rows += [row(name, "lght", 0) for name in names]
        path = home / "data" / rows[-1]["file_name"]
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            for name in names:
                file[name] = np.zeros((0, 5))
    with h5py.File(home / "data" / row("S1", "lght", 0)["file_name"], "a") as file:
        del file["S1"]
        file["S1"] = np.array(
            [  # seconds, lat, lon, x, y
                [-7200.0, 0, 0, 3.9, 7.2],
                [-6900.1, 0, 0, 3.0, 7.9],
                [-6900.0, 0, 0, 3.0, 7.0],  # the first of the second frame
                [-7500.0, 0, 0, 5.0, 6.0],  # before the first frame
                [0.0, 0, 0, 47.9, 0.0],
                [0.0, 0, 0, 48.0, 0.0],  # outside
                [0.0, 0, 0, 1.0, -0.5],
                [7299.0, 0, 0, 0.0, 47.0],
            ]
        )
    pd.DataFrame(rows).to_csv(home / "CATALOG.csv", index=False)
    return home


def changed(folder: Path, target: Path, change) -> Path:
    """Return a folder with the same files and a changed catalog."""
    target.mkdir(exist_ok=True)
    (target / "data").symlink_to(folder / "data")
    change(pd.read_csv(folder / "CATALOG.csv")).to_csv(target / "CATALOG.csv", index=False)
    return target


def test_events_open_lazily_and_packed_as_on_file(folder):
    vil = sevir.open(folder, "vil", packed=True)
    assert vil.dims == ("event", "time", "y", "x")
    assert (vil.shape, vil.dtype) == ((6, 49, 12, 12), np.uint8)
    assert not vil.variable._in_memory
    assert vil.event.values.tolist() == ["S1", "S2", "S3", "S4", "S5", "S6"]
    file = np.moveaxis(stored("vil", 2), -1, 1)  # S3, S1
    np.testing.assert_array_equal(vil.sel(event="S1"), file[1])
    np.testing.assert_array_equal(
        vil.isel(event=[2, 0], time=5, y=slice(2, 9, 3)), file[:, 5, 2:9:3]
    )
    assert vil.attrs["_FillValue"] == 255
    assert sevir.open(folder, packed=True, chunks={"event": 1}).chunks[0] == (1,) * 6


def test_physical_units(folder):
    vil = sevir.open(folder).sel(event="S1")
    assert vil.units == "kg m-2"
    v = np.moveaxis(stored("vil", 2)[1], -1, 0).astype(float)
    expected = np.select(
        [v == 255, v <= 5, v <= 18], [np.nan, 0, (v - 2) / 90.66], np.exp((v - 83.9) / 38.9)
    )
    np.testing.assert_allclose(vil, expected, rtol=1e-6)
    cold = sevir.open(folder, "ir069").sel(event="S1")
    assert (cold.units, cold.standard_name) == ("degC", "toa_brightness_temperature")
    np.testing.assert_allclose(cold, np.moveaxis(stored("ir069", 2)[1], -1, 0) * 0.01, rtol=1e-5)
    packed = sevir.open(folder, "ir069", packed=True)
    assert packed.scale_factor == 0.01


def test_liquid_and_pixels_are_inverse():
    v = np.r_[0, 6:255]
    np.testing.assert_allclose(sevir.pixels_from_vil(sevir.vil_from_pixels(v)), v, atol=1e-9)
    assert np.isnan(sevir.vil_from_pixels([255, -1])).all()
    assert np.isnan(sevir.pixels_from_vil(np.nan))
    assert (np.diff(sevir.vil_from_pixels(np.arange(5, 255))) > 0).all()


@pytest.mark.parametrize(
    ("split", "ids"),
    [
        ("train", ["S1", "S2", "S3"]),
        ("validation", ["S4", "S5"]),
        ("test", ["S6"]),
        ("development", ["S1", "S2", "S3", "S4", "S5"]),
        (None, ["S1", "S2", "S3", "S4", "S5", "S6"]),
    ],
)
def test_published_splits(folder, split, ids):
    assert sevir.open(folder, split=split).event.values.tolist() == ids


def test_filters_of_the_catalog(folder, tmp_path):
    def change(table):
        incomplete = (table.id == "S1") & (table.img_type == "vil")
        table.loc[incomplete, "pct_missing"] = 0.3
        twice = table[(table.id == "S3") & (table.img_type == "vil")]
        lacking = (table.id == "S4") & (table.img_type == "ir107")
        return pd.concat([table[~lacking], twice])

    home = changed(folder, tmp_path / "filters", change)
    assert sevir.open(home).event.values.tolist() == ["S2", "S4", "S5", "S6"]
    both = ("vil", "ir107")
    assert sevir.open(home, types=both).event.values.tolist() == ["S2", "S5", "S6"]
    assert sevir.open(home, "ir107", types=both).event.values.tolist() == ["S2", "S5", "S6"]
    lines = sevir.catalog(home).index
    assert pd.read_csv(home / "CATALOG.csv").loc[lines - 2, "id"].tolist() == [
        "S2",
        "S4",
        "S5",
        "S6",
    ]


def test_windows_are_the_published_ones(folder):
    vil = sevir.open(folder, split="train", packed=True)
    axis = TimeAxis.from_array(vil.time)
    assert str(axis.step) == "5 minutes"
    assert (sevir.WINDOW.starts(axis) - 12).tolist() == [0, 12, 24]
    windows = Windows(vil, sevir.WINDOW, normalizer=sevir.normalizer())
    assert len(windows) == 9
    batch = windows.batch([0, 4])
    assert batch.x.shape == (2, 13, 12, 12, 1)
    assert batch.y.shape[1] == 12
    file = np.moveaxis(stored("vil", 2)[1], -1, 0) / 255
    valid = file[:13] < 1
    np.testing.assert_allclose(batch.x[0, ..., 0][valid], file[:13][valid], rtol=1e-6)
    assert not batch.mask_x[0, ..., 0][~valid].any()


def test_low_resolution_is_every_second_frame_and_maxima(folder, tmp_path):
    whole = sevir.open(folder, packed=True)
    low = sevir.open(folder, packed=True, low_resolution=True)
    assert low.shape == (6, 25, 4, 4)
    assert not low.variable._in_memory
    expected = whole.load()[:, ::2].coarsen(y=3, x=3).max()
    np.testing.assert_array_equal(low, expected)
    axis = TimeAxis.from_array(low.time)
    assert str(axis.step) == "10 minutes"
    assert (sevir.WINDOW_LR.starts(axis) - 6).tolist() == [0, 6, 12]
    assert low.minutes.values.tolist() == list(range(-120, 121, 10))
    physical = sevir.open(folder, low_resolution=True)
    np.testing.assert_allclose(
        physical, np.float32(sevir.vil_from_pixels(expected.values)), rtol=1e-6
    )
    home = tmp_path / "lr"  # as distributed: a folder of the same layout
    for year in ("2018", "2019"):
        path = home / "data" / f"vil/{year}/SEVIR_VIL_{year}.h5"
        path.parent.mkdir(parents=True)
        names = [["S3", "S1"], ["S2", "S4", "S5", "S6"]][year == "2019"]
        with h5py.File(path, "w") as file:
            file["vil"] = low.sel(event=names).transpose("event", "y", "x", "time").values
    pd.read_csv(folder / "CATALOG.csv").to_csv(home / "CATALOG.csv")
    xr.testing.assert_identical(sevir.open(home, packed=True).load(), low.load())
    with pytest.raises(SourceError, match="already open with low_resolution=False"):
        sevir.open(home, low_resolution=True)


def test_an_event_has_its_own_time_and_place(folder):
    import pyproj

    stack = sevir.open(folder)
    storm = sevir.event(stack, "S3")
    assert not storm.variable._in_memory
    assert storm.dims == ("time", "y", "x")
    assert str(storm.time.values[0])[:16] == "2018-05-01T10:00"
    assert str(storm.time.values[-1])[:16] == "2018-05-01T14:00"
    axes = discover(storm)
    assert (axes.time, axes.y, axes.x, axes.lat, axes.lon) == ("time", "y", "x", "lat", "lon")
    np.testing.assert_allclose(storm.x, -500e3 + (np.arange(12) + 0.5) * 32e3, atol=1e-3)
    np.testing.assert_allclose(storm.y, 200e3 + (np.arange(12) + 0.5) * 32e3, atol=1e-3)
    crs = pyproj.CRS.from_cf(storm.crs.attrs)
    to_degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    lon, lat = to_degrees.transform(*np.meshgrid(storm.x, storm.y))
    proj = pyproj.Proj(PROJ)(*np.meshgrid(storm.x, storm.y), inverse=True)
    np.testing.assert_allclose(proj, (lon, lat), atol=1e-9)
    np.testing.assert_allclose(storm.lat, lat, atol=1e-9)
    np.testing.assert_allclose(storm.lon, lon, atol=1e-9)
    np.testing.assert_array_equal(storm, stack[2])


def test_the_stack_is_understood(folder):
    axes = discover(sevir.open(folder))
    assert (axes.time, axes.y, axes.x) == ("time", "y", "x")


def test_flashes_are_counted_in_pixels_and_frames(folder):
    flashes = sevir.open(folder, "lght")
    assert flashes.shape == (6, 49, 48, 48)
    one = flashes.sel(event="S1")
    assert one.sum() == 6
    assert one[0, 7, 3] == 2
    assert one[0, 6, 5] == 1
    assert one[1, 7, 3] == 1
    assert one[24, 0, 47] == 1
    assert one[48, 47, 0] == 1
    assert flashes.sel(event="S2").sum() == 0
    assert sevir.open(folder, "lght", packed=True).dtype == np.int16


@pytest.mark.parametrize(
    ("kind", "scaling", "raw", "expected"),
    [
        ("vil", "01", 255, 1.0),
        ("vil", "sevir", 100, (100 - 33.44) / 47.54),
        ("ir069", "01", -3000, -3000),
        ("ir069", "sevir", -3000, (-3000 + 3683.58) / 1174.68),
        ("ir107", "sevir", -3000, (-3000 + 1552.80) / 2562.43),
        ("lght", "sevir", 3, (3 - 0.02990) / 0.60517),
        ("vis", "sevir", 700, 700),
    ],
)
def test_published_normalizations_of_numbers_on_file(kind, scaling, raw, expected):
    scale = sevir.normalizer(kind, scaling=scaling)
    packed = xr.DataArray(np.array([raw], "i2"), dims="x", name=kind)
    factor = sevir.TYPES[kind].factor
    packed.attrs = {"units": scale.units[0], "scale_factor": factor}
    a, b = scale.affine(packed)
    assert a[0] * raw + b[0] == pytest.approx(expected, rel=1e-9)


def test_scores_tell_liquid_from_pixel_values(folder):
    """A protocol that counts pixel values must not take kg m-2 for fractions of 255."""
    vil = sevir.event(sevir.open(folder), "S1").load()
    forecast = vil.expand_dims(init=vil.time[:1].values).rename(time="lead")
    with pytest.raises(ProtocolError, match="kg m-2"):
        EVENT_PROTOCOLS["sevir"].score(forecast, forecast)


# --- what is missing is named -------------------------------------------------------------


def test_missing_files_are_named_with_their_lines(folder, tmp_path):
    def change(table):
        table.loc[table.id == "S5", "file_name"] = "vil/2019/GONE.h5"
        return table

    home = changed(folder, tmp_path / "gone", change)
    with pytest.raises(SourceError, match=r"GONE.h5 \(lines 6\): no such file"):
        sevir.open(home)
    assert sevir.open(home, split="train").sizes["event"] == 3  # others do not need it


def test_rows_whose_index_does_not_exist_are_named(folder, tmp_path):
    def change(table):
        table.loc[(table.id == "S6") & (table.img_type == "vil"), "file_index"] = 4
        return table

    home = changed(folder, tmp_path / "index", change)
    with pytest.raises(SourceError, match=r"line 7: .*2019.h5 has 4 events, not index 4"):
        sevir.open(home)

    def lightning(table):
        table.loc[table.id == "S6", "id"] = "S66"
        return table

    home = changed(folder, tmp_path / "tables", lightning)
    with pytest.raises(SourceError, match="has no table 'S66'"):
        sevir.open(home, "lght")


def test_truncated_files_are_named(folder, tmp_path):
    home = tmp_path / "cut"
    for path in (folder / "data" / "vil").rglob("*.h5"):
        target = home / path.relative_to(folder)
        target.parent.mkdir(parents=True)
        cut = len(path.read_bytes()) // 2 if "2019" in path.name else None
        target.write_bytes(path.read_bytes()[:cut])
    pd.read_csv(folder / "CATALOG.csv").to_csv(home / "CATALOG.csv", index=False)
    with pytest.raises(SourceError, match=r"2019.h5 \(lines 4, 5, 6 and 1 more\): .*truncated"):
        sevir.open(home)


def test_other_layouts_are_refused(folder, tmp_path):
    with pytest.raises(SourceError, match=r"CATALOG.csv: no such file"):
        sevir.open(tmp_path)
    home = changed(folder, tmp_path / "columns", lambda table: table.drop(columns="file_index"))
    with pytest.raises(SourceError, match="found none of \\['file_index'\\]"):
        sevir.open(home)
    home = changed(folder, tmp_path / "empty", lambda table: table.assign(pct_missing=1.0))
    with pytest.raises(SourceError, match="no event has one complete row"):
        sevir.open(home)
    home = changed(
        folder,
        tmp_path / "kind",
        lambda t: t.assign(
            file_name=t.file_name.str.replace("vil/2018/SEVIR_VIL", "ir069/2018/SEVIR_IR069")
        ),
    )
    with pytest.raises(
        SourceError, match=r"expected 'vil' \(event, y, x, time\), found \['id', 'ir069'\]"
    ):
        sevir.open(home)
    home = changed(folder, tmp_path / "place", lambda table: table.drop(columns="proj"))
    with pytest.raises(SourceError, match="expected its place, found no proj"):
        sevir.event(sevir.open(home), "S1")
    home = changed(folder, tmp_path / "proj", lambda table: table.assign(proj="+proj=lcc +a=1"))
    with pytest.raises(SourceError, match="azimuthal equal-area"):
        sevir.event(sevir.open(home), "S1")
    with pytest.raises(SourceError, match="'S9': expected one of the 6"):
        sevir.event(sevir.open(folder), "S9")


def test_sizes_that_differ_are_refused(folder, tmp_path):
    home = tmp_path / "mixed"
    for year, side in (("2018", 12), ("2019", 6)):
        path = home / "data" / f"vil/{year}/SEVIR_VIL_{year}.h5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            file["vil"] = np.zeros((4, side, side, 49), "u1")
    pd.read_csv(folder / "CATALOG.csv").to_csv(home / "CATALOG.csv", index=False)
    with pytest.raises(SourceError, match=r"maps of one size, found \(12, 12, 49\)"):
        sevir.open(home)


def test_frames_of_other_intervals_are_refused(folder, tmp_path):
    home = tmp_path / "frames"
    for year in ("2018", "2019"):
        path = home / "data" / f"vil/{year}/SEVIR_VIL_{year}.h5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            file["vil"] = np.zeros((4, 6, 6, 30), "u1")
    pd.read_csv(folder / "CATALOG.csv").to_csv(home / "CATALOG.csv", index=False)
    with pytest.raises(SourceError, match="found 30"):
        sevir.open(home)


def test_unknown_names_list_the_known_ones(folder):
    with pytest.raises(ConfigError, match="of vil, vis"):
        sevir.open(folder, "radar")
    with pytest.raises(ConfigError, match="train, validation, test"):
        sevir.open(folder, split="dev")
    with pytest.raises(ConfigError, match="SEVIR-LR is made of 'vil'"):
        sevir.open(folder, "ir069", low_resolution=True)
    with pytest.raises(ConfigError, match="among them"):
        sevir.open(folder, "vil", types=("ir069",))
    with pytest.raises(ConfigError, match="'01' or 'sevir'"):
        sevir.normalizer("vil", scaling="zscore")
