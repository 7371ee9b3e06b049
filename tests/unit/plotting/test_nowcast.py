from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.colors import to_rgb, to_rgba
from PIL import Image

from xearth import rain_rate, verify
from xearth.data.sources.sevir import vil_from_pixels
from xearth.errors import (
    AxisError,
    ConfigError,
    GridMismatchError,
    LeadError,
    MissingDependencyError,
    TimeAxisError,
    UnitsError,
)
from xearth.plotting import (
    PROBABILITY,
    RAIN_RATE,
    REFLECTIVITY,
    VIL,
    VIL_PIXELS,
    Scale,
    animate,
    strip,
)
from xearth.plotting.scales import scale_of
from xearth.plotting.style import LAND

START = np.datetime64("2010-08-26T04:00", "ns")
STEP = np.timedelta64(5, "m")
Y, X = np.arange(10.0, 0.0, -1.0) * 2000.0, np.arange(12.0) * 2000.0


def cells() -> dict:
    return {
        "y": ("y", Y, {"standard_name": "projection_y_coordinate", "units": "m"}),
        "x": ("x", X, {"standard_name": "projection_x_coordinate", "units": "m"}),
    }


@pytest.fixture
def rain() -> xr.DataArray:
    """Eight frames; a corner that the radars do not see."""
    values = np.random.default_rng(0).gamma(0.5, 3.0, size=(8, Y.size, X.size))
    values[:, 5:, :] = 0.0
    values[:, 0, 0] = np.nan
    time = START + np.arange(-1, 7) * STEP
    return xr.DataArray(
        values,
        {"time": ("time", time, {"standard_name": "time"}), **cells()},
        ("time", "y", "x"),
        "rain",
        {"long_name": "rain rate", "standard_name": "rainfall_rate", "units": "mm h-1"},
    )


@pytest.fixture
def nowcast(rain) -> xr.DataArray:
    """Two starts, four leads, five members."""
    values = np.random.default_rng(1).gamma(0.5, 3.0, size=(2, 4, 5, Y.size, X.size))
    values[..., 0, 0] = np.nan
    values[:, :, 3, 1, 1] = np.nan
    init = START + np.arange(2) * STEP
    valid = init[:, None] + np.arange(1, 5) * STEP
    return xr.DataArray(
        values,
        {
            "init": ("init", init, {"standard_name": "forecast_reference_time"}),
            "lead": (
                "lead",
                np.arange(5, 25, 5),
                {"standard_name": "forecast_period", "units": "minutes"},
            ),
            "member": ("member", np.arange(5), {"standard_name": "realization", "units": "1"}),
            "valid_time": (("init", "lead"), valid, {"standard_name": "time"}),
            **cells(),
        },
        ("init", "lead", "member", "y", "x"),
        "rain",
        {**rain.attrs, "long_name": "rain rate, forecast by chance", "forecaster": "chance"},
    )


def drawn(ax) -> np.ndarray:
    return ax.collections[0].get_array().filled(np.nan)


def panels(figure, columns: int) -> np.ndarray:
    """The panels, row by row, without color bars."""
    shown = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    return np.array(shown, dtype=object).reshape(-1, columns)


def test_rows_are_observed_mean_members_and_probability(nowcast, rain):
    figure = strip(nowcast, rain, init="2010-08-26T04:05", leads=[5, 20], exceeding="5 mm/h")
    grid = panels(figure, 2)
    assert [ax.get_ylabel() for ax in grid[:, 0]] == [
        "observed",
        "chance,\nmean of 5",
        "member 0",
        "member 1",
        "P(≥ 5 mm h-1)",
    ]
    one = nowcast.sel(init=START + STEP, lead=20)
    # the second start is 04:05, its 20 minutes are 04:25
    at = rain.sel(time=np.datetime64("2010-08-26T04:25")).values
    np.testing.assert_allclose(drawn(grid[0, 1]), at)
    np.testing.assert_allclose(drawn(grid[1, 1]), one.values.mean(axis=0))
    np.testing.assert_allclose(drawn(grid[3, 1]), one.values[1])
    share = 100 * (one.values >= 5).sum(axis=0) / 5
    share[0, 0] = share[1, 1] = np.nan  # a member is missing there
    np.testing.assert_allclose(drawn(grid[4, 1]), share)
    assert [ax.get_title() for ax in grid[0]] == ["5 minutes, 04:10", "20 minutes, 04:25"]
    assert figure.get_suptitle() == "Rain rate from 2010-08-26 04:05"


def test_color_bars_have_names_and_units(nowcast, rain):
    figure = strip(nowcast, rain, init=START, leads=[5])
    bars = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert [bar.get_ylabel() for bar in bars] == ["rain rate (mm h-1)", "probability (%)"]
    # what white and gray are is said once
    assert [bar.get_xlabel() for bar in bars] == ["", "white: less\ngray: no data"]
    assert [t.get_text() for t in bars[0].get_yticklabels()] == [
        "0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50", "100",
    ]  # fmt: skip
    # of rain the probability is that of 1 mm/h, where nothing is asked for
    assert panels(figure, 1)[-1, 0].get_ylabel() == "P(≥ 1 mm h-1)"


def test_no_rain_is_white_and_no_data_gray(rain):
    ax = panels(strip_of(rain), 1)[0, 0]
    mesh = ax.collections[0]
    colors = mesh.to_rgba(mesh.get_array()).reshape(Y.size, X.size, 4)
    np.testing.assert_allclose(colors[7, 3], to_rgba("white"))
    np.testing.assert_allclose(colors[0, 0], to_rgba(LAND))
    assert to_rgba(ax.get_facecolor()) == to_rgba(LAND)


def strip_of(rain):
    """A strip of one deterministic forecast: the last frame."""
    return strip(frame(rain), leads=[5], title="")


def frame(rain) -> xr.DataArray:
    return rain.isel(time=[1], drop=True).rename(time="lead").assign_coords(
        lead=("lead", [5], {"standard_name": "forecast_period", "units": "minutes"})
    )  # fmt: skip


def test_axes_are_in_km_where_coordinates_are_in_meters(nowcast):
    figure = strip(nowcast, init=START, leads=[5], exceeding=[])
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("x (km)", "y (km)")
    corner = panels(figure, 1)[-1, 0]
    figure.canvas.draw()
    ticks = dict(zip(corner.get_xticks(), corner.get_xticklabels(), strict=True))
    assert {f"{value / 1000:g}" for value in ticks} == {t.get_text() for t in ticks.values()}
    # rows that run from north to south are drawn where they are
    low, high = sorted(corner.get_ylim())
    assert (low, high) == (1000.0, 21000.0)
    first_row = corner.collections[0].get_coordinates()[0, 0, 1]
    assert first_row == 21000.0


def test_single_forecasts_by_name_have_a_row_each_in_the_units_of_the_colors(nowcast):
    one = nowcast.isel(init=0, member=0, drop=True)
    si = one.copy(data=one.values / 3.6e6).assign_attrs(units="m s-1")
    grid = panels(strip({"a": one, "b": si}, leads=[10]), 1)
    assert [ax.get_ylabel() for ax in grid[:, 0]] == ["a", "b"]
    np.testing.assert_allclose(drawn(grid[1, 0]), drawn(grid[0, 0]))


def test_packed_and_lazy_fields_are_drawn_as_what_they_stand_for(nowcast, rain):
    packed = (rain * 100).round().fillna(-1).astype("int16")
    packed.attrs = rain.attrs | {"scale_factor": 0.01, "_FillValue": np.int16(-1)}
    lazy = nowcast.chunk(init=1, lead=2)
    grid = panels(strip(lazy, packed, init=START, leads=[5]), 1)
    at = rain.sel(time=START + STEP).values
    np.testing.assert_allclose(drawn(grid[0, 0]), at, atol=0.006)
    assert lazy.chunks is not None


def test_latitude_and_longitude_are_written_in_degrees(nowcast):
    one = nowcast.isel(init=0, member=0, drop=True).drop_vars("valid_time")
    one = one.rename(y="lat", x="lon").assign_coords(
        lat=("lat", 50 + Y / 2e4, {"standard_name": "latitude", "units": "degrees_north"}),
        lon=("lon", X / 2e4, {"standard_name": "longitude", "units": "degrees_east"}),
    )
    figure = strip({"a": one}, leads=[5])
    figure.canvas.draw()
    corner = panels(figure, 1)[-1, 0]
    assert all(t.get_text().endswith("°N") for t in corner.get_yticklabels())
    assert (figure.get_supxlabel(), figure.get_suptitle()) == ("", "Rain rate")


def test_a_start_chosen_before_is_known(nowcast, rain):
    one = nowcast.sel(init=START)
    grid = panels(strip(one, rain, leads=[15], members=0, exceeding=[]), 1)
    assert [ax.get_ylabel() for ax in grid[:, 0]] == ["observed", "chance,\nmean of 5"]
    at = rain.sel(time=START + 3 * STEP).values
    np.testing.assert_allclose(drawn(grid[0, 0]), at)


def test_what_was_not_observed_says_so(nowcast, rain):
    short = rain.isel(time=slice(0, 4))
    grid = panels(strip(nowcast, short, init=START, leads=[5, 20]), 2)
    assert [[t.get_text() for t in ax.texts] for ax in grid[0]] == [[], ["no data"]]


def test_up_to_six_leads_from_first_to_last(rain):
    many = xr.concat([frame(rain).assign_coords(lead=[5 * i]) for i in range(1, 13)], "lead")
    many["lead"].attrs = {"standard_name": "forecast_period", "units": "minutes"}
    titles = [ax.get_title() for ax in panels(strip(many), 6)[0]]
    assert titles == [f"{lead} minutes" for lead in (5, 15, 25, 40, 50, 60)]


def test_what_cannot_be_drawn_is_refused_with_the_remedy(nowcast, rain):
    with pytest.raises(AxisError, match="Choose one with init='2010-08-26 04:00'"):
        strip(nowcast)
    with pytest.raises(TimeAxisError, match=r"no start .* holds 2: 2010-08-26 04:00"):
        strip(nowcast, init="2011-01-01")
    with pytest.raises(LeadError, match=r"holds the leads \[5, 10, 15, 20\], not \[7\]"):
        strip(nowcast, init=START, leads=[7])
    with pytest.raises(GridMismatchError, match=r"'obs' is on other cells .* along 'x'"):
        strip(nowcast, rain.isel(x=slice(1, None)), init=START)
    with pytest.raises(ConfigError, match=r"scale=xearth\.plotting\.Scale"):
        strip(nowcast.rename("sst").assign_attrs(units="K", long_name="", standard_name=""))
    with pytest.raises(ConfigError, match="have no members"):
        strip(nowcast.isel(member=0, drop=True), init=START, exceeding="1 mm/h")
    with pytest.raises(ConfigError, match="members: expected how many"):
        strip(nowcast, init=START, members=-1)
    with pytest.raises(AxisError, match=r"isel\(level=0\)"):
        strip(nowcast.expand_dims("level"), init=START)
    with pytest.raises(TimeAxisError, match="a start that both have"):
        strip({"a": nowcast.isel(init=0), "b": nowcast.isel(init=1)})


def test_reflectivity_beside_rain_rate_is_refused_and_converts_by_its_relation(nowcast, rain):
    dbz = rain.copy(data=23.0 + 16.0 * np.log10(np.maximum(rain.values, 0.01)))
    dbz.attrs = {"long_name": "reflectivity", "units": "dBZ", "zr_a": 200.0, "zr_b": 1.6}
    with pytest.raises(UnitsError, match=r"xearth\.rain_rate"):
        strip(nowcast, dbz, init=START)
    assert panels(strip(nowcast, rain_rate(dbz), init=START, leads=[5]), 1)[0, 0]


# colors


#: Dichromacy of full strength in linear RGB: Machado, Oliveira and Fernandes (2009), table 1.
SIGHT = {
    "trichromat": np.eye(3),
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                  [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                    [-0.011820, 0.042940, 0.968881]],
    "tritanope": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                  [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def cielab(color: str, sight: str) -> np.ndarray:
    """CIELAB (D65) of a color as it is seen."""
    rgb = np.array(to_rgb(color))
    rgb = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    rgb = np.clip(np.asarray(SIGHT[sight]) @ rgb, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = xyz @ rgb / [0.9505, 1.0, 1.089]
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("scale", [RAIN_RATE, VIL, PROBABILITY], ids=lambda scale: scale.name)
@pytest.mark.parametrize("sight", SIGHT)
def test_colors_darken_class_by_class_and_are_told_apart_by_everyone(scale, sight):
    seen = np.array([cielab(color, sight) for color in ("white", *scale.colors)])
    assert (np.diff(seen[:, 0]) < -0.5).all()
    # a difference of 2.3 is just noticed
    assert (np.linalg.norm(np.diff(seen, axis=0), axis=1) > 7).all()
    assert (np.linalg.norm(seen - cielab(LAND, sight), axis=1) > 7).all()


def test_a_class_holds_its_lower_boundary():
    cmap, norm = RAIN_RATE.colormap(), RAIN_RATE.norm()
    for value, color in [(0.1, 0), (0.19, 0), (0.2, 1), (1.0, 3), (99.0, 8), (100.0, 9), (400, 9)]:
        np.testing.assert_allclose(cmap(norm(value)), to_rgba(RAIN_RATE.colors[color]))
    np.testing.assert_allclose(cmap(norm(0.0999)), to_rgba("white"))


def test_names_are_registered_on_use_only_and_never_twice_differently():
    scale = Scale("of_this_test", "1", (1.0, 2.0), ("red", "blue"))
    assert "xearth_of_this_test" not in mpl.colormaps
    scale.colormap()
    assert mpl.colormaps["xearth_of_this_test"] == scale.colormap()
    with pytest.raises(ConfigError, match="another name"):
        Scale("of_this_test", "1", (1.0, 2.0), ("red", "green")).colormap()


def test_scales_refuse_what_is_none():
    with pytest.raises(ConfigError, match="ascending boundaries"):
        Scale("bad", "1", (2.0, 1.0), ("red", "blue"))
    with pytest.raises(ConfigError, match="found 1 colors"):
        Scale("bad", "1", (1.0, 2.0), ("red",))
    with pytest.raises(ConfigError, match=r"expected an xearth\.plotting\.Scale"):
        scale_of(xr.DataArray(0.0), "viridis")


@pytest.mark.parametrize(
    ("name", "units", "scale"),
    [("rain", "mm h-1", RAIN_RATE), ("z", "dBZ", REFLECTIVITY), ("vil", "kg m-2", VIL),
     ("vil", "1", VIL_PIXELS)],
)  # fmt: skip
def test_fields_find_their_colors(name, units, scale):
    assert scale_of(xr.DataArray(0.0, name=name, attrs={"units": units})) is scale


def test_liquid_in_pixels_and_in_physical_units_has_the_same_colors():
    pixels = np.arange(255.0)
    one = VIL_PIXELS.norm()(pixels)
    # the published inverse is of floats: a boundary itself may fall to either side
    inside = ~np.isin(pixels, VIL_PIXELS.boundaries)
    np.testing.assert_array_equal(VIL.norm()(vil_from_pixels(pixels))[inside], one[inside])


# moving pictures


def test_a_gif_has_a_picture_for_each_lead_and_nothing_else_is_left(nowcast, rain, tmp_path):
    path = nowcast.earthformer.plot.animate(tmp_path / "a.gif", obs=rain, init=START, fps=5)
    assert path == tmp_path / "a.gif"
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]
    with Image.open(path) as image:
        assert image.n_frames == 4
        assert image.info["duration"] == 200
        pictures = []
        for step in range(4):
            image.seek(step)
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
    assert all(np.abs(a - b).max() > 50 for a, b in pairwise(pictures))
    assert mpl.pyplot.get_fignums() == []


@pytest.mark.skipif(not FFMpegWriter.isAvailable(), reason="needs the program ffmpeg")
def test_an_mp4_is_written_whole(nowcast, rain, tmp_path):
    path = animate(nowcast, tmp_path / "a.mp4", obs=rain, init=START)
    assert path.read_bytes()[4:8] == b"ftyp"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_observed_frames_move_by_themselves(rain, tmp_path):
    path = animate(rain.isel(time=slice(0, 2)), tmp_path / "seen.gif")
    with Image.open(path) as image:
        assert image.n_frames == 2


def test_a_picture_that_fails_leaves_no_file_and_an_older_one_as_it_was(
    nowcast, tmp_path, monkeypatch
):
    path = tmp_path / "a.gif"
    path.write_bytes(b"older")

    def fail(self):
        Path(self.outfile).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(PillowWriter, "finish", fail)
    with pytest.raises(OSError, match="the disk is full"):
        animate(nowcast, path, init=START)
    assert path.read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]
    assert mpl.pyplot.get_fignums() == []


def test_moving_pictures_refuse_what_they_cannot_write(nowcast, rain, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"ends in \.gif or \.mp4, found '\.avi'"):
        animate(nowcast, tmp_path / "a.avi", init=START)
    with pytest.raises(ConfigError, match="fps"):
        animate(nowcast, tmp_path / "a.gif", init=START, fps=0)
    with pytest.raises(ConfigError, match="make it first"):
        animate(nowcast, tmp_path / "no" / "a.gif", init=START)
    with pytest.raises(ConfigError, match="neither a start"):
        animate(rain, tmp_path / "a.gif", obs=rain)
    with pytest.raises(AxisError, match="Select one of each other"):
        animate(rain.expand_dims("level"), tmp_path / "a.gif")
    monkeypatch.setitem(mpl.rcParams, "animation.ffmpeg_path", "no-such-program")
    with pytest.raises(MissingDependencyError, match="ffmpeg"):
        animate(nowcast, tmp_path / "a.mp4", init=START)
    assert list(tmp_path.iterdir()) == []


def test_scores_of_a_nowcast_are_drawn_from_the_accessor(nowcast, rain):
    one = nowcast.isel(member=0, drop=True).assign_attrs(nowcast.attrs)
    scores = verify(one, rain, "csi", thresholds=["1 mm/h", "5 mm/h"], weights=None)
    figure = scores.earthformer.plot.by_threshold("csi", title="both starts")
    np.testing.assert_allclose(
        figure.axes[1].lines[0].get_ydata(), scores.csi.isel(threshold=1).values
    )
    assert figure.get_suptitle() == "both starts"
    assert pd.Index(figure.axes[0].lines[0].get_xdata()).tolist() == [5, 10, 15, 20]
