"""Pooling, fractions skill score and tables of neighborhoods."""

from __future__ import annotations

import operator
import re
from pathlib import Path

import dask
import numpy as np
import pytest
import scores.spatial
import torch
import xarray as xr
from scipy.ndimage import uniform_filter

from xearth.errors import ConfigError, UnitsError
from xearth.verification.scores.categorical import csi
from xearth.verification.scores.contingency import OUTCOMES
from xearth.verification.scores.ensembles import Vote
from xearth.verification.scores.pooling import pool, pool_values
from xearth.verification.scores.spatial import fss, fss_of, fss_sums, neighborhood_contingency

GOLDEN = np.load(Path(__file__).parents[2] / "data" / "events.npz")
DIMS = ("time", "y", "x")


def _fail(*_, **__):
    raise AssertionError("computed")


def rain(seed: int, shape: tuple[int, ...], dims: tuple[str, ...] = DIMS) -> xr.DataArray:
    values = np.random.default_rng(seed).gamma(0.5, 4.0, shape)
    smooth = uniform_filter(values, (*(1,) * (len(shape) - 2), 3, 3))
    return xr.DataArray(smooth, dims=dims, attrs={"units": "mm h-1"})


def classes(name: str) -> xr.DataArray:
    """Fields of which only the class of each value is stored."""
    values = np.array([1.0, 1.2, 1.5])[GOLDEN[name]]
    return xr.DataArray(values, dims=DIMS, attrs={"units": "1"})


# --- pooling -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4, 5])
@pytest.mark.parametrize("stride", [None, 1, 3])
@pytest.mark.parametrize("how", ["max", "mean"])
def test_pooling_equals_that_of_torch(size, stride, how):
    field = rain(0, (2, 3, 17, 19), ("init", *DIMS))
    field[0, 0, 3, 4] = np.nan
    own = pool(field, size, how=how, stride=stride)
    function = torch.nn.functional.max_pool2d if how == "max" else torch.nn.functional.avg_pool2d
    theirs = function(torch.from_numpy(field.values), size, stride).numpy()
    np.testing.assert_allclose(own, theirs, rtol=1e-12)


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize("skipna", [True, False])
@pytest.mark.parametrize("edge", ["drop", "keep"])
@pytest.mark.parametrize(("size", "stride"), [(4, 4), (4, 3), (7, 2), (3, 5)])
def test_pooling_by_brute_force(how, skipna, edge, size, stride):
    field = rain(1, (10, 13), ("y", "x"))
    field[2:4, 1:6] = np.nan
    own = pool(field, size, how=how, stride=stride, edge=edge, skipna=skipna)
    for i, j in np.ndindex(own.shape):
        cells = field.values[i * stride : i * stride + size, j * stride : j * stride + size].ravel()
        assert edge == "keep" or cells.size == size**2
        known = cells[~np.isnan(cells)]
        if known.size < cells.size and not (skipna and known.size):
            assert np.isnan(own[i, j])
        else:
            assert own[i, j] == pytest.approx(known.max() if how == "max" else known.mean())
    last = [(n - 1) * stride + size for n in own.shape]
    if edge == "keep":
        assert all(e >= n or e + stride - size >= n for e, n in zip(last, field.shape, strict=True))
    else:
        rest = [n - e for e, n in zip(last, field.shape, strict=True)]
        assert all(0 <= r < stride for r in rest)


@pytest.mark.parametrize("size", [4, 16])
def test_pooled_scores_equal_those_stored(size):
    fields = (
        xr.DataArray(GOLDEN[name], dims=("event", *DIMS), attrs={"units": "1"})
        for name in ("cat_fc", "cat_obs")
    )
    f, o = (pool(field, size) for field in fields)
    assert f.dtype == np.uint8
    own = csi(f, o, thresholds=[16, 74, 133, 160, 181, 219], dim=("event", "y", "x"))
    for peer in ("torch", "numpy"):
        np.testing.assert_allclose(own, GOLDEN[f"csi_maxpool{size}::{peer}"], rtol=1e-12)


def test_pooled_fields_are_labeled_and_lazy():
    lat = ("y", 10.0 + np.arange(9), {"units": "degrees_north", "standard_name": "latitude"})
    field = rain(2, (2, 9, 8)).assign_coords(y=lat, area=(("y", "x"), np.ones((9, 8))))
    field = field.assign_coords(time=[3, 4])
    whole = pool(field, 4, edge="keep")
    assert whole.y.values.tolist() == [11.5, 15.5, 18.0]
    assert whole.y.attrs["units"] == "degrees_north"
    assert "area" not in whole.coords
    assert whole.time.values.tolist() == [3, 4]
    assert whole.attrs == {"units": "mm h-1", "cell_methods": "y: x: maximum"}
    with dask.config.set(scheduler=_fail):
        lazy = pool(field.chunk(y=2, x=3, time=1), 4, edge="keep")
    xr.testing.assert_identical(lazy.compute(), whole)


@pytest.mark.parametrize(
    ("size", "settings", "text"),
    [
        (0, {}, "positive whole"),
        (2.5, {}, "positive whole"),
        (2, {"stride": 0}, "positive whole"),
        (2, {"how": "min"}, "how must be"),
        (2, {"edge": "wrap"}, "edge must be"),
        (9, {}, "fewer than a window"),
        (3, {"edge": "error"}, "do not fill"),
    ],
)
def test_windows_that_cannot_be(size, settings, text):
    with pytest.raises(ConfigError, match=text):
        pool(rain(3, (1, 8, 8)), size, **settings)


def test_integers_have_a_mean():
    pooled = pool_values(np.array([[1, 2], [3, 5]]), size=2, stride=2, how="mean", edge="drop")
    assert pooled.item() == 2.75


# --- fractions skill score ----------------------------------------------------------------


@pytest.mark.parametrize(
    "key", [key for key in GOLDEN.files if key.startswith("fss") and ":" in key]
)
def test_fss_equals_that_of_the_libraries(key):
    metric, peer = key.split("::")
    window, limit = re.findall(r"[\d.]+", metric)
    border = "valid" if "interior" in metric else "overhang" if peer == "scores" else "zero"
    own = fss(
        classes("fss_fc"),
        classes("fss_obs"),
        thresholds=float(limit),
        window=int(window),
        border=border,
    )
    single = 1e-7 if peer == "weatherbenchX" else 1e-12
    assert own.item() == pytest.approx(float(GOLDEN[key]), rel=single)


@pytest.mark.parametrize("window", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("op", [">=", ">"])
def test_fss_with_zeros_outside_equals_a_moving_mean(window, op):
    f, o = rain(4, (3, 20, 17)).round(), rain(5, (3, 20, 17)).round()
    own = fss(f, o, thresholds="2 mm/h", window=window, border="zero", op=op)
    reaches = operator.ge if op == ">=" else operator.gt
    means = [
        uniform_filter(reaches(x.values, 2.0).astype(float), (1, window, window), mode="constant")
        for x in (f, o)
    ]
    top = ((means[0] - means[1]) ** 2).sum()
    bottom = (means[0] ** 2 + means[1] ** 2).sum()
    assert own.item() == pytest.approx(1 - top / bottom, rel=1e-12)


@pytest.mark.parametrize("window", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("border", ["valid", "overhang"])
def test_fss_equals_that_of_scores(window, border):
    f, o = rain(4, (3, 20, 17)), rain(5, (3, 20, 17))
    own = fss(f, o, thresholds="2 mm/h", window=window, border=border)
    theirs = scores.spatial.fss_2d(
        f,
        o,
        event_threshold=2.0,
        window_size=(window, window),
        spatial_dims=("y", "x"),
        zero_padding=border == "overhang",
    )
    assert own.item() == pytest.approx(float(theirs), rel=1e-12)


def test_sums_of_parts_add_to_the_whole():
    f, o = rain(6, (6, 16, 16)), rain(7, (6, 16, 16))
    how = {"thresholds": ["1 mm/h", "3 mm/h"], "window": [1, 5], "border": "valid"}
    whole = fss_sums(f, o, **how)
    parts = [fss_sums(f[k], o[k], **how) for k in range(6)]
    xr.testing.assert_equal(sum(parts[1:], start=parts[0]), whole)
    xr.testing.assert_equal(fss_of(whole), fss(f, o, **how))
    kept = fss(f, o, dim=(), **how)
    assert kept.dims == ("threshold", "window", "time")
    assert kept[1, 1, 2] == fss_of(parts[2])[1, 1]


def test_missing_cells_are_outside():
    f, o = rain(8, (1, 12, 12)), rain(9, (1, 12, 12))
    f[0, :, 8:], o[0, 9:, :] = np.nan, np.nan
    for border in ("valid", "zero"):
        how = {"thresholds": "2 mm/h", "window": 3, "border": border}
        inner = fss_sums(f[:, :9, :8], o[:, :9, :8], **how)
        own = fss_sums(f, o, **how)
        if border == "valid":
            xr.testing.assert_equal(own, inner)
        else:  # windows in the rim of the hole still see the events beside it
            told, seen = (np.where(np.isnan(f + o), 0.0, x) for x in (f, o))
            xr.testing.assert_equal(own, fss_sums(f.copy(data=told), o.copy(data=seen), **how))


def test_fss_of_nothing_is_nan_and_of_the_same_one():
    quiet = rain(10, (2, 8, 8)) * 0
    quiet.attrs["units"] = "mm h-1"
    assert np.isnan(fss(quiet, quiet, thresholds="1 mm/h", window=3, border="zero")).all()
    f = rain(11, (2, 8, 8))
    assert fss(f, f, thresholds="1 mm/h", window=3, border="zero").item() == 1.0


@pytest.mark.parametrize("chunks", [{"time": 1}, {"y": 3, "x": 5}, {"time": 2, "x": 1}])
def test_fss_is_lazy_and_equal_for_any_chunks(chunks):
    f, o = rain(12, (4, 10, 11)), rain(13, (4, 10, 11))
    how = {"thresholds": ["1 mm/h", "3 mm/h"], "window": [1, 3], "border": "zero"}
    with dask.config.set(scheduler=_fail):
        lazy = fss_sums(f.chunk(chunks), o, **how)
        table = neighborhood_contingency(
            f.chunk(chunks), o, thresholds="2 mm/h", window=3, border="zero"
        )
    xr.testing.assert_identical(lazy.compute(), fss_sums(f, o, **how))
    whole = neighborhood_contingency(f, o, thresholds="2 mm/h", window=3, border="zero")
    xr.testing.assert_identical(table.compute(), whole)


def test_fss_of_an_ensemble_says_how():
    f, o = rain(14, (5, 2, 9, 9), ("member", *DIMS)), rain(15, (2, 9, 9))
    how = {"thresholds": "2 mm/h", "window": 3, "border": "zero"}
    with pytest.raises(ConfigError, match="5 members"):
        fss(f, o, **how)
    pooled = fss_sums(f, o, ensemble="members", **how)
    parts = [fss_sums(f[k], o, **how) for k in range(5)]
    xr.testing.assert_equal(pooled, sum(parts[1:], start=parts[0]))
    voted = fss(f, o, ensemble=Vote(0.6), **how)
    events = ((f >= 2).sum("member") >= 3).astype(float).assign_attrs(units="mm h-1")
    seen = (o >= 2).astype(float).assign_attrs(units="mm h-1")
    again = fss(events, seen, thresholds="1 mm/h", window=3, border="zero")
    assert voted.item() == again.item()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"border": "wrap"}, "border must be"),
        ({"window": 0}, "positive whole"),
        ({"window": []}, "positive whole"),
        ({"window": 2.5}, "positive whole"),
        ({"window": "5"}, "positive whole"),
        ({"window": [3, np.nan]}, "positive whole"),
        ({"window": [3, 9], "border": "valid"}, "does not fit"),
        ({"op": "=="}, "op must be"),
    ],
)
def test_fss_that_cannot_be(settings, text):
    f = rain(16, (1, 8, 8))
    with pytest.raises(ConfigError, match=text):
        fss(f, f, **{"thresholds": "1 mm/h", "window": 3, "border": "zero"} | settings)


def test_a_whole_number_of_any_type_is_a_window():
    f, o = rain(16, (1, 8, 8)), rain(17, (1, 8, 8))
    how = {"thresholds": "1 mm/h", "border": "zero"}
    for five in (5.0, np.float32(5), np.int8(5), np.array(5), [5.0]):
        xr.testing.assert_identical(fss(f, o, window=five, **how), fss(f, o, window=5, **how))
    xr.testing.assert_identical(
        neighborhood_contingency(f, o, window=5.0, **how),
        neighborhood_contingency(f, o, window=5, **how),
    )
    with pytest.raises(ConfigError, match="take one window"):
        neighborhood_contingency(f, o, window=[3, 5], **how)


def test_thresholds_need_units():
    f = rain(16, (1, 8, 8))
    with pytest.raises(UnitsError):
        fss(f, f, thresholds=1, window=3, border="zero")


# --- neighborhoods ----------------------------------------------------------------------


@pytest.mark.parametrize("border", ["valid", "zero", "overhang"])
@pytest.mark.parametrize("coverage", [None, 0.3, 1.0])
@pytest.mark.parametrize("window", [2, 3])
def test_neighborhoods_by_brute_force(border, coverage, window):
    f, o = rain(17, (2, 9, 8)), rain(18, (2, 9, 8))
    f[0, 2, 3] = np.nan
    own = neighborhood_contingency(
        f, o, thresholds=["1 mm/h", "3 mm/h"], window=window, border=border, coverage=coverage
    )
    first = 0 if border == "valid" else -(window // 2)
    count = {"valid": (10 - window, 9 - window), "zero": (9, 8), "overhang": (10, 9)}[border]
    needed = 1 if coverage is None else coverage * window**2
    for k, limit in enumerate((1.0, 3.0)):
        expected, missing = dict.fromkeys(OUTCOMES, 0), 0
        for t, i, j in np.ndindex(2, *count):
            rows, columns = (slice(max(first + n, 0), max(first + n + window, 0)) for n in (i, j))
            cells = [x.values[t, rows, columns] for x in (f, o)]
            absent = np.isnan(cells[0])
            if border == "valid" and absent.any():
                missing += 1
                continue
            told, seen = (((x >= limit) & ~absent).sum() >= needed for x in cells)
            outcome = {
                (True, True): "hits",
                (False, True): "misses",
                (True, False): "false_alarms",
                (False, False): "correct_negatives",
            }
            expected[outcome[bool(told), bool(seen)]] += 1
        assert {name: int(own[name][k]) for name in OUTCOMES} == expected
        assert int(own.missing) == missing


@pytest.mark.parametrize("coverage", [0.0, 1.2])
def test_coverage_is_a_fraction(coverage):
    f = rain(19, (1, 8, 8))
    with pytest.raises(ConfigError, match="coverage"):
        neighborhood_contingency(
            f, f, thresholds="1 mm/h", window=3, border="zero", coverage=coverage
        )
