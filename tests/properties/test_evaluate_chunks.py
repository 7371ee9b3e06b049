"""Scores of labeled arrays stream: any chunks give the same, in memory of a few of them."""

from __future__ import annotations

import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.errors import GridMismatchError
from xearth.verification.evaluate import evaluate
from xearth.verification.scores.deterministic_rows import BIAS, CORRELATION
from xearth.verification.scores.table import Parameters, row
from xearth.verification.thresholds import Thresholds

SIZES = {"init": 6, "lead": 3, "member": 7, "lat": 5, "lon": 8}
GIVEN = Parameters(thresholds=Thresholds((-0.5, 0.5), "K"), members=7, levels=(0.5,))
SINGLE = ("rmse", "correlation", "acc", "msess_climatology", "csi")
ENSEMBLE = ("crps_fair", "spread_skill_ratio", "brier", "rank_histogram", "reliability")


def fields() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(8)
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    f = rng.standard_normal(tuple(SIZES.values())).astype("float32")
    f[rng.random(f.shape) < 0.02] = np.nan
    f[2, :, :3] = np.nan
    o = rng.standard_normal([n for name, n in SIZES.items() if name != "member"]).astype("float32")
    o[:, :, 1:3, 2:6] = np.nan
    forecast = xr.DataArray(f, dims=tuple(SIZES), attrs=attrs, name="sst")
    return forecast, xr.DataArray(o, dims=[d for d in SIZES if d != "member"], attrs=attrs)


FORECAST, TRUTH = fields()
WEIGHTS = xr.DataArray([1.0, 2.0, 3.0, 2.0, np.nan], dims="lat")
SMALLEST = {"init": 2, "lead": 1, "member": 3, "lat": 2, "lon": 3}
chunkings = st.fixed_dictionaries(
    {name: st.integers(SMALLEST[name], n) for name, n in SIZES.items()}
)
over = st.lists(st.sampled_from(["init", "lead", "lon"]), unique=True).map(lambda d: [*d, "lat"])


def scored(name: str, f: xr.DataArray, o: xr.DataArray, dim: list[str]) -> xr.DataArray:
    """Return a score that makes use of what it can be given."""
    base = 0 * o.isel(init=0, drop=True) + 0.1
    more = {"climatology": base} if name in ("acc", "msess_climatology") else {}
    member = None if name == "csi" else "member"
    f = f.isel(member=0) if member is None else f
    return evaluate(row(name, GIVEN), f, o, dim=dim, weights=WEIGHTS, member=member, **more)


@pytest.mark.parametrize("name", [*SINGLE, *ENSEMBLE])
@settings(max_examples=3, deadline=None)
@given(chunks=chunkings, order=st.permutations(list(SIZES)), dim=over, threads=st.integers(1, 2))
def test_any_chunks_give_the_same(
    name: str, chunks: dict[str, int], order: list[str], dim: list[str], threads: int
) -> None:
    expected = scored(name, FORECAST, TRUTH, dim)
    f = FORECAST.transpose(*order).chunk(chunks)
    o = TRUTH.chunk({"init": chunks["lead"], "lat": chunks["lat"]})
    lazy = scored(name, f, o, dim)
    assert isinstance(lazy.data, da.Array)
    assert lazy.dtype == expected.dtype == np.float64
    with dask.config.set(scheduler="threads", num_workers=threads):
        found = lazy.compute().transpose(*expected.dims)
    if name == "csi":  # a ratio of counts
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dim", [None, "init", ["lead", "lat"], ()])
def test_chunks_are_read_as_they_are(dim: str | list[str] | None) -> None:
    """No block is joined with another or cut; tasks are as many as blocks, to a factor."""

    def tasks(chunks: dict[str, int]) -> tuple[int, int]:
        f, o = FORECAST.chunk(chunks), TRUTH.chunk({k: chunks[k] for k in ("init", "lat")})
        lazy = evaluate(row("crps_fair"), f, o, dim=dim, member="member")
        layers = lazy.data.dask.layers
        assert not [name for name in layers if "rechunk" in name]
        (optimized,) = dask.optimize(lazy.data)
        return len(dict(optimized.dask)), f.data.npartitions

    for chunks in ({"init": 2, "lat": 5, "member": 7}, {"init": 1, "lat": 2, "member": 3}):
        found, blocks = tasks(chunks)
        assert found <= 5 * blocks + 20


def test_memory_is_that_of_a_few_chunks() -> None:
    """Sixteen times the archive takes the same; its labels are all there is of it before."""

    def peak(starts: int) -> int:
        shape, chunks = (starts, 10, 90, 180), (1, 5, 90, 180)
        f = xr.DataArray(da.random.default_rng(0).random(shape, chunks=chunks, dtype="float32"))
        o = xr.DataArray(
            da.zeros((starts, 90, 180), chunks=(1, 90, 180)), dims=("dim_0", "dim_2", "dim_3")
        )
        tracemalloc.start()
        with dask.config.set(scheduler="sync"):
            evaluate(row("crps_fair"), f, o, member="dim_1").compute()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(4)  # makes the room that is used again
    archive = 64 * 10 * 90 * 180 * 4
    small, large = peak(4), peak(64)
    assert large < small + 0.1 * archive
    assert large < 20e6  # a start is 1.3 MB in double precision


def test_a_lazy_truth_alone_makes_the_score_lazy() -> None:
    lazy = evaluate(CORRELATION, FORECAST, TRUTH.chunk(lat=2), dim="init", member="member")
    assert isinstance(lazy.data, da.Array)
    assert lazy.chunksizes["lat"] == (2, 2, 1)
    whole = evaluate(CORRELATION, FORECAST, TRUTH, dim="init", member="member")
    np.testing.assert_allclose(lazy, whole, rtol=1e-12, atol=1e-14)


def test_dimensions_of_the_truth_alone_are_kept_or_reduced() -> None:
    f, o = (
        xr.DataArray([1.0, 3.0], dims="x"),
        xr.DataArray(np.arange(6.0).reshape(3, 2), dims=("t", "x")),
    )
    for truth in (o, o.chunk(t=1)):
        np.testing.assert_array_equal(evaluate(BIAS, f, truth, dim="x"), [1.5, -0.5, -2.5])
        assert float(evaluate(BIAS, f, truth)) == -0.5
    assert not [
        k for k in evaluate(BIAS, f.chunk(), o.chunk(t=1)).data.dask.layers if "rechunk" in k
    ]


def test_a_point_without_a_climatology_does_not_count() -> None:
    base = xr.DataArray([0.0, np.nan, 0.0], dims="x")
    f, o = xr.DataArray([1.0, 9.0, 2.0], dims="x"), xr.DataArray([2.0, 3.0, 1.0], dims="x")
    found = evaluate(row("acc"), f, o, climatology=base)
    np.testing.assert_allclose(found, 4 / 5, rtol=1e-12)


@pytest.mark.parametrize("lazy", [False, True])
def test_no_points_are_a_missing_score(lazy: bool) -> None:
    empty = xr.DataArray(np.zeros((2, 0)), dims=("lead", "init"))
    empty = empty.chunk() if lazy else empty
    assert bool(evaluate(BIAS, empty, empty, dim="init").isnull().all())
    assert evaluate(BIAS, empty, empty, dim="lead").shape == (0,)


def test_labels_of_what_is_kept_and_of_weights() -> None:
    f = FORECAST.assign_coords(lat=range(5), lead=[1, 2, 3], level=2.0, valid=("lead", [2, 3, 4]))
    found = evaluate(BIAS, f.chunk(), TRUTH, dim=["init", "lat"], member="member")
    assert {*found.coords} == {"lead", "level", "valid"}
    turned = WEIGHTS.assign_coords(lat=range(5))[::-1]
    with pytest.raises(GridMismatchError, match="other labels along 'lat'"):
        evaluate(BIAS, f, TRUTH, dim=["init", "lat"], weights=turned, member="member")
    with pytest.raises(GridMismatchError, match="4 against 5"):
        evaluate(BIAS, f, TRUTH, dim="lat", weights=WEIGHTS[:4], member="member")
