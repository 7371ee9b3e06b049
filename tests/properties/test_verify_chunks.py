"""The same scores whatever the chunks, the threads and the order; states add as they should."""

from __future__ import annotations

from functools import cache, reduce
from itertools import pairwise
from operator import add

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.verification.one_pass.results import finish
from xearth.verification.one_pass.verify import accumulate, verify
from xearth.verification.statistics import Count, Mean, Moments

SCORES = [
    "bias", "mae", "rmse", "correlation", "acc", "acc_temporal", "crps_fair", "crps_ensemble",
    "spread", "spread_skill_ratio", "nino34_rmse", "csi",
]  # fmt: skip
SIZES = {"init": 6, "lead": 3, "member": 7, "lat": 9, "lon": 12}
THRESHOLDS = ["0.2 K", "1 K"]


def hindcast(dtype: str = "float32") -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(3)
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    lat = xr.Variable("lat", np.linspace(-80, 80, 9), {"units": "degrees_north"})
    lon = xr.Variable("lon", np.arange(12) * 30.0, {"units": "degrees_east"})
    coords = {
        "init": xr.date_range("2000-11", periods=6, freq="MS"),
        "lead": xr.Variable("lead", [0, 1, 2], {"units": "months"}),
        "member": range(7),
        "lat": lat,
        "lon": lon,
    }
    values = rng.standard_normal(tuple(SIZES.values())).astype(dtype) + 30
    values[1, :, 3] = np.nan
    values[rng.random(values.shape) < 0.01] = np.nan
    values[:, 2, :, 4, 5] = np.nan
    f = xr.DataArray(values, coords, tuple(SIZES), "sst", attrs)
    time = xr.date_range("2000-11", periods=8, freq="MS")
    truth = rng.standard_normal((8, 9, 12)).astype(dtype) + 30
    truth[:, 2:5, 2:7] = np.nan
    o = xr.DataArray(truth, {"time": time, "lat": lat, "lon": lon}, ("time", "lat", "lon"), "sst",
                     attrs)  # fmt: skip
    return f, o


FORECAST, TRUTH = hindcast()
SMALLEST = {"init": 1, "lead": 1, "member": 2, "lat": 4, "lon": 5}
chunkings = st.fixed_dictionaries(
    {name: st.integers(SMALLEST[name], size) for name, size in SIZES.items()}
)


@cache
def expected() -> xr.Dataset:
    return verify(FORECAST, TRUTH, SCORES, thresholds=THRESHOLDS)


def assert_same(found: xr.Dataset, wanted: xr.Dataset) -> None:
    for name, values in wanted.data_vars.items():
        if values.dtype.kind == "i":
            np.testing.assert_array_equal(found[name].values, values.values)
        else:
            # a correlation near 0 is a difference of numbers of order 1
            np.testing.assert_allclose(
                found[name].values, values.values, rtol=1e-12, atol=1e-14, err_msg=name
            )


@settings(max_examples=12, deadline=None)
@given(chunkings, st.integers(1, 8), st.sampled_from([1, 2]))
def test_any_chunking_and_number_of_threads(
    chunks: dict[str, int], times: int, threads: int
) -> None:
    lazy = verify(FORECAST.chunk(chunks), TRUTH.chunk(time=times), SCORES, thresholds=THRESHOLDS)
    with dask.config.set(scheduler="threads", num_workers=threads):
        assert_same(lazy.compute(), expected())


def maps(forecast: xr.DataArray) -> xr.Dataset:
    names, by = ["rmse", "crps_fair", "correlation"], ["season", "lat", "lon"]
    return verify(forecast, TRUTH, names, by=by)


@cache
def maps_of_the_whole() -> xr.Dataset:
    return maps(FORECAST)


@settings(max_examples=8, deadline=None)
@given(chunkings)
def test_maps_in_any_chunking(chunks: dict[str, int]) -> None:
    lazy = maps(FORECAST.chunk(chunks))
    assert_same(lazy.compute(scheduler="sync"), maps_of_the_whole())


@settings(max_examples=6, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 5))
def test_states_add_in_any_order(order: list[int], cut: int) -> None:
    parts = [order[:cut], order[cut:][:2], order[cut:][2:]]
    states = [
        accumulate(FORECAST.isel(init=sorted(part)), TRUTH, SCORES, thresholds=THRESHOLDS)
        for part in parts
        if part
    ]
    assert_same(finish(reduce(add, states)), expected())
    assert_same(finish(reduce(lambda a, b: b + a, states)), expected())


STATISTICS = [
    Mean("mean", lambda block: block.mean_error),
    Count("count", lambda block: block.valid),
    Moments("moments", lambda block: block.truth, lambda block: block.mean_error),
]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.data())
@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: s.name)
def test_combining_is_associative_and_commutative(
    statistic: Mean | Count | Moments, sizes: list[int], data: st.DataObject
) -> None:
    from xearth.verification.block import Block

    rng = np.random.default_rng(sum(sizes))
    total = max(sum(sizes), 1)
    sizes = sizes if sum(sizes) else [*sizes, 1]
    x, y = rng.standard_normal((2, total)) + 1e3
    weights = rng.random((2, total))

    def state(part: slice) -> dict[str, np.ndarray]:
        return statistic.observe(Block(x[None, None, part], y[None, part]), weights[:, part])

    ends = np.cumsum([0, *sizes])
    states = [state(slice(a, b)) for a, b in pairwise(ends)]
    while len(states) > 1:
        i, j = data.draw(st.permutations(range(len(states))))[:2]
        both = {k: np.stack([states[i][k], states[j][k]]) for k in statistic.parts}
        states = [s for k, s in enumerate(states) if k not in (i, j)]
        states.append(statistic.combine(both, axis=0))
    whole = state(slice(None))
    for name in statistic.parts:
        np.testing.assert_allclose(states[0][name], whole[name], rtol=1e-9, atol=1e-9)
