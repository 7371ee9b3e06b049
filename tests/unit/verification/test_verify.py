"""verify against brute force and against xskillscore, lazily, chunked and refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import (
    AxisError,
    ConfigError,
    DataTypeError,
    GridMismatchError,
    LeakageWarning,
    MissingDataError,
    TimeAxisError,
    UnitsError,
)
from xearth.fields.climatology import climatology
from xearth.fields.regions import NINO34, Box, box_mean
from xearth.fields.weights import cos_lat_weights
from xearth.testing.assertions import raise_if_dask_computes
from xearth.verification.align import observations_at
from xearth.verification.one_pass.results import finish
from xearth.verification.one_pass.state import State
from xearth.verification.one_pass.verify import accumulate, verify

KELVIN = {"units": "K", "units_metadata": "temperature: difference"}
LEADS = xr.Variable("lead", [1, 2, 3], {"units": "months", "standard_name": "forecast_period"})
LAT = xr.Variable("lat", np.linspace(-75.0, 75.0, 6), {"units": "degrees_north"})
LON = xr.Variable("lon", np.arange(8) * 45.0, {"units": "degrees_east"})
SCORES = ["bias", "mae", "rmse", "correlation", "acc", "acc_temporal", "spread"]
ENSEMBLE = ["crps_ensemble", "crps_fair", "spread_skill_ratio"]
CHUNKS = {"init": 3, "lead": 2, "member": 2, "lat": 4, "lon": 5}


def months(first: str, count: int) -> xr.DataArray:
    return xr.date_range(first, periods=count, freq="MS")


@pytest.fixture
def truth() -> xr.DataArray:
    values = np.random.default_rng(1).standard_normal((10, 6, 8))
    values[:, 2, 3:6] = np.nan
    coords = {"time": months("2000-01", 10), "lat": LAT, "lon": LON}
    return xr.DataArray(values, coords, ("time", "lat", "lon"), "sst", KELVIN)


@pytest.fixture
def forecast(truth: xr.DataArray) -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((7, 3, 5, 6, 8))
    coords = {"init": months("2000-01", 7), "lead": LEADS, "member": range(5)}
    coords |= {"lat": LAT, "lon": LON}
    f = xr.DataArray(values, coords, ("init", "lead", "member", "lat", "lon"), "sst", KELVIN)
    at = observations_at(f, truth)
    f = (f + 0.7 * at).where(at.notnull()).transpose("init", "lead", "member", "lat", "lon")
    f[2, :, 4] = np.nan  # a member missing at one start
    f.attrs = KELVIN
    return f.drop_vars("valid_time")


def both(f: xr.DataArray, o: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Ensemble mean and truth where both are known."""
    at, mean = observations_at(f, o), f.mean("member")
    known = at.notnull() & mean.notnull()
    return mean.where(known), at.where(known)


def brute(f: xr.DataArray, o: xr.DataArray, weights: xr.DataArray) -> dict[str, xr.DataArray]:
    """Scores by lead with plain xarray."""
    mean, at = both(f, o)
    d, dims = mean - at, ("init", "lat", "lon")

    def average(x: xr.DataArray, over: tuple[str, ...] = dims) -> xr.DataArray:
        return x.weighted(weights).mean(over)

    def centered(x: xr.DataArray, over: tuple[str, ...]) -> xr.DataArray:
        return x - average(x, over)

    a, b = centered(mean, dims), centered(at, dims)
    space = ("lat", "lon")
    pattern = average(mean * at, space) / np.sqrt(average(mean**2, space) * average(at**2, space))
    cells = (mean * at).mean("init") / np.sqrt((mean**2).mean("init") * (at**2).mean("init"))
    spread = f.var("member", ddof=1).where(at.notnull())
    return {
        "bias": average(d),
        "mae": average(abs(d)),
        "rmse": np.sqrt(average(d**2)),
        "correlation": average(a * b) / np.sqrt(average(a**2) * average(b**2)),
        "acc": pattern.mean("init"),
        "acc_temporal": cells.weighted(weights).mean(space),
        "spread": np.sqrt(average(spread)),
    }


@pytest.mark.parametrize("name", SCORES)
def test_agrees_with_brute_force(name: str, forecast: xr.DataArray, truth: xr.DataArray) -> None:
    weights = cos_lat_weights(forecast)
    found = verify(forecast, truth, [name], weights=weights)
    expected = brute(forecast, truth, weights)[name]
    np.testing.assert_allclose(found[name], expected, rtol=1e-11)
    known = both(forecast, truth)[0].notnull().sum(("init", "lat", "lon"))
    assert found.n.dtype == np.int64
    assert found.n.values.tolist() == known.values.tolist()


def test_agrees_with_xskillscore(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    xs = pytest.importorskip("xskillscore")
    weights = cos_lat_weights(forecast)
    f = forecast.drop_isel(init=2)
    found = verify(f, truth, [*SCORES, *ENSEMBLE], weights=weights)
    mean, at = both(f, truth)
    dims, w = ["init", "lat", "lon"], weights.broadcast_like(mean.isel(lead=0, drop=True))
    w = w.transpose(*dims)
    options = {"dim": dims, "weights": w, "skipna": True}
    for name, function in {"bias": xs.me, "mae": xs.mae, "rmse": xs.rmse}.items():
        np.testing.assert_allclose(found[name], function(mean, at, **options), rtol=1e-10)
    np.testing.assert_allclose(found.correlation, xs.pearson_r(mean, at, **options), rtol=1e-10)
    crps = xs.crps_ensemble(at, f, dim=[])
    np.testing.assert_allclose(found.crps_ensemble, crps.weighted(weights).mean(dims), rtol=1e-10)


def test_agrees_with_scores(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    continuous = pytest.importorskip("scores.probability")
    weights = cos_lat_weights(forecast)
    found = verify(forecast, truth, ["crps_fair", "crps_ensemble"], weights=weights)
    at = observations_at(forecast, truth)
    for name, method in {"crps_fair": "fair", "crps_ensemble": "ecdf"}.items():
        points = continuous.crps_for_ensemble(
            forecast, at, "member", method=method, preserve_dims="all"
        )
        expected = points.weighted(weights).mean(("init", "lat", "lon"))
        np.testing.assert_allclose(found[name], expected, rtol=1e-10)


def test_chunked_is_lazy_and_the_same(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    expected = verify(forecast, truth, [*SCORES, *ENSEMBLE])
    with raise_if_dask_computes():
        lazy = verify(forecast.chunk(CHUNKS), truth.chunk(time=4), [*SCORES, *ENSEMBLE])
    assert all(v.chunks is not None for v in lazy.data_vars.values())
    xr.testing.assert_allclose(lazy.compute(), expected, rtol=1e-12)
    assert lazy.rmse.attrs == expected.rmse.attrs
    assert expected.rmse.chunks is None


@pytest.mark.parametrize("dims", [("lat", "lon", "member", "lead", "init"), (..., "init")])
def test_order_of_dims_does_not_matter(
    dims: tuple[str, ...], forecast: xr.DataArray, truth: xr.DataArray
) -> None:
    expected = verify(forecast, truth, ["rmse", "crps_fair", "acc"])
    turned = forecast.transpose(*dims)
    for f in (turned, turned.chunk(CHUNKS)):
        found = verify(f, truth.transpose("lon", "time", "lat"), ["rmse", "crps_fair", "acc"])
        xr.testing.assert_allclose(found.compute(), expected, rtol=1e-12)


def test_few_tasks_a_chunk(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    f = forecast.chunk(init=1, lead=1)
    lazy = verify(f, truth.chunk(time=5), ["rmse", "crps_fair", "acc", "spread"])
    assert len(dict(lazy.__dask_graph__())) <= 5 * f.data.npartitions


def test_each_chunk_is_read_once(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    import dask.array as da

    reads: list[int] = []

    def read(block: np.ndarray) -> np.ndarray:
        reads.append(block.size)
        return block

    f = forecast.chunk(init=2, lat=3)
    counted = f.copy(data=da.map_blocks(read, f.data, dtype=float, meta=np.empty(0)))
    verify(counted, truth, [*SCORES, *ENSEMBLE]).compute(scheduler="sync")
    assert len(reads) == f.data.npartitions


def test_by_month_and_region(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    box = Box(-60, 60, 0, 180, "east")
    mask = forecast.lat > 0
    regions = {"east": box, "north": mask}
    found = verify(forecast, truth, ["rmse", "acc"], by=["region", "lead", "season"],
                   regions=regions)  # fmt: skip
    assert found.rmse.dims == ("region", "lead", "season")
    assert found.season.values.tolist() == ["DJF", "MAM", "JJA"]
    alone = verify(forecast.isel(init=[2, 3, 4]), truth, ["rmse", "acc"], regions=box)
    here = found.sel(region="east", season="MAM", drop=True)
    xr.testing.assert_allclose(alone.drop_attrs(), here.drop_attrs(), rtol=1e-12)
    north = verify(forecast.where(mask), truth, ["rmse"], by=["lead", "month"])
    several = verify(forecast, truth, ["rmse"], by=["month", "lead"], regions={"n": mask})
    np.testing.assert_allclose(several.rmse.isel(region=0).T, north.rmse, rtol=1e-12)


def test_by_valid_time_and_nothing(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    found = verify(forecast, truth, ["bias"], by="valid_month", weights=None)
    mean, at = both(forecast, truth)
    expected = (mean - at).groupby(at.valid_time.dt.month).mean(...)
    np.testing.assert_allclose(found.bias, expected, rtol=1e-11)
    total = verify(forecast, truth, ["bias"], by=(), weights=None)
    assert total.bias.dims == ()
    np.testing.assert_allclose(total.bias, (mean - at).mean(), rtol=1e-11)


def test_maps(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    names = ["rmse", "correlation", "crps_fair"]
    found = verify(forecast.chunk(CHUNKS), truth, names, by=["lead", "lat", "lon"])
    assert found.rmse.chunks == ((3,), (4, 2), (5, 3))
    mean, at = both(forecast, truth)
    np.testing.assert_allclose(found.rmse, np.sqrt(((mean - at) ** 2).mean("init")), rtol=1e-11)
    np.testing.assert_allclose(found.correlation, xr.corr(mean, at, "init"), rtol=1e-10)
    assert int(found.n.sel(lat=-15, lon=180).sum()) == 0
    assert bool(found.rmse.sel(lat=-15, lon=180).isnull().all())
    seasons = verify(forecast, truth, ["rmse"], by=["season", "lat", "lon"])
    assert seasons.rmse.dims == ("season", "lat", "lon")
    bands = verify(forecast, truth, ["rmse", "acc_temporal"], by=["lead", "lat"], weights=None)
    expected = np.sqrt(((mean - at) ** 2).mean(("init", "lon")))
    np.testing.assert_allclose(bands.rmse, expected, rtol=1e-11)


def test_index(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    names = ["nino34_correlation", "nino34_rmse", "nino34_crps_fair"]
    found = verify(forecast.chunk(CHUNKS), truth, names).compute()
    f, o = box_mean(forecast, NINO34), box_mean(observations_at(forecast, truth), NINO34)
    np.testing.assert_allclose(found.nino34_correlation, xr.corr(f.mean("member"), o, "init"))
    rmse = np.sqrt(((f.mean("member") - o) ** 2).mean("init"))
    np.testing.assert_allclose(found.nino34_rmse, rmse)
    series = verify(f, box_mean(truth, NINO34), ["crps_fair"])
    np.testing.assert_allclose(found.nino34_crps_fair, series.crps_fair)


def test_climatology_and_units(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    degrees = {"units": "degC", "units_metadata": "temperature: on_scale"}
    season = xr.DataArray(np.arange(12.0), {"month": range(1, 13)}, ("month",))
    month = observations_at(forecast, truth).valid_time.dt.month
    f = (
        (forecast + season.sel(month=month))
        .assign_attrs(degrees)
        .drop_vars(["month", "valid_time"])
    )
    o = (truth + season.sel(month=truth.time.dt.month) + 273.15).drop_vars("month")
    o.attrs = {"units": "K", "units_metadata": "temperature: on_scale"}
    base = (season + xr.zeros_like(truth.isel(time=0, drop=True)).fillna(0.0)).assign_attrs(degrees)
    expected = verify(forecast, truth, ["acc", "rmse"])
    found = verify(f, o, ["acc", "rmse"], climatology=base)
    xr.testing.assert_allclose(found.drop_attrs(), expected.drop_attrs(), rtol=1e-9)
    assert found.rmse.attrs["units"] == "degC"
    with pytest.raises(ConfigError, match="climatology"):
        verify(f, o, ["acc"])
    made = climatology(o, base=("2000-01", "2000-10"))
    assert made.sizes["month"] == 10
    with pytest.warns(LeakageWarning, match="climatology"):
        leaky = verify(f.chunk(), o, ["acc"], climatology=made)
    assert bool(leaky.acc.isnull().all())  # the truth of one year is its own climatology


def test_missing_climatology_is_a_missing_truth(
    forecast: xr.DataArray, truth: xr.DataArray
) -> None:
    base = xr.zeros_like(truth.isel(time=0, drop=True)).fillna(0.0).expand_dims(month=range(1, 13))
    base = base.where(base.lat < 50).assign_attrs(KELVIN)
    found = verify(forecast, truth, ["acc", "rmse"], climatology=base)
    expected = verify(forecast, truth.where(truth.lat < 50), ["acc", "rmse"])
    xr.testing.assert_allclose(found, expected)


def test_thresholds(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    found = verify(forecast, truth, ["csi", "rmse"], thresholds=["0 K", "500 mK"])
    mean, at = both(forecast, truth)
    for limit in (0.0, 0.5):
        f, o = mean >= limit, at >= limit
        hits = (f & o).sum(("init", "lat", "lon"))
        csi = hits / (f | o).sum(("init", "lat", "lon"))
        np.testing.assert_allclose(found.csi.sel(threshold=limit), csi)
    with pytest.raises(UnitsError, match="unit"):
        verify(forecast, truth, ["csi"], thresholds=[0.5])
    with pytest.raises(ConfigError, match="thresholds"):
        verify(forecast, truth, ["csi"])


def test_missing_leads_and_starts(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    names = ["rmse", "crps_fair", "acc", "spread"]
    f = forecast.copy()
    f[:, 1] = np.nan
    found = verify(f, truth, names)
    assert found.n.values.tolist()[1] == 0
    assert all(np.isnan(found[name].values[1]) for name in names)
    assert all(np.isfinite(found[name].values[[0, 2]]).all() for name in names)
    short = truth.isel(time=slice(0, 5))
    found = verify(forecast, short, names)
    expected = verify(forecast, truth.where(truth.time < short.time[-1] + np.timedelta64(1, "D")),
                      names)  # fmt: skip
    xr.testing.assert_allclose(found, expected)


def test_single_forecasts_and_index_series(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    point = {"lat": 1, "lon": 1}
    f, o = forecast.isel(member=0, **point, drop=True), truth.isel(**point, drop=True)
    found = verify(f, o, ["rmse", "correlation"])
    at = observations_at(f, o)
    np.testing.assert_allclose(found.rmse, np.sqrt(((f - at) ** 2).mean("init")))
    one = verify(f.isel(init=0), o, ["bias"], by="lead")
    np.testing.assert_allclose(one.bias, (f - at).isel(init=0))
    again = verify(f, at.drop_vars("valid_time"), ["rmse"])
    xr.testing.assert_allclose(again.rmse, found.rmse)


def test_attrs(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    found = verify(forecast, truth, ["rmse", "mse", "correlation"])
    assert found.rmse.attrs["units"] == "K"
    assert found.rmse.attrs["units_metadata"] == "temperature: difference"
    assert found.mse.attrs["units"] == "K2"
    assert found.correlation.attrs["units"] == "1"
    assert found.rmse.attrs["cell_methods"].startswith("init: area: mean")
    assert "standard_name" not in found.rmse.attrs
    assert found.attrs["source"].startswith("xearth ")
    assert found.attrs["weighting"] == "area of the cell"


def test_states_add(forecast: xr.DataArray, truth: xr.DataArray, tmp_path) -> None:
    names = [*SCORES, *ENSEMBLE, "nino34_rmse"]
    whole = accumulate(forecast, truth, names)
    expected = finish(whole)
    for f in (forecast, forecast.chunk(CHUNKS)):
        first, second = accumulate(f.isel(init=[0, 4]), truth, names), None
        for part in ([1, 2], [3, 5, 6]):
            state = accumulate(f.isel(init=part), truth, names)
            second = state if second is None else state + second
        assert second is not None
        xr.testing.assert_allclose(finish(first + second).compute(), expected, rtol=1e-12)
    whole.to_dataset().to_netcdf(tmp_path / "state.nc")
    with xr.open_dataset(tmp_path / "state.nc") as parts:
        again = State.from_dataset(parts.load(), names)
    xr.testing.assert_identical(finish(again), expected)
    by_month = finish(accumulate(forecast, truth, ["rmse"]), by=["month"])
    xr.testing.assert_allclose(by_month, verify(forecast, truth, ["rmse"], by="month"))


def test_states_that_do_not_add(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    rmse = accumulate(forecast, truth, ["rmse"])
    with pytest.raises(ConfigError, match="different scores"):
        rmse + accumulate(forecast, truth, ["bias"])
    with pytest.raises(ConfigError, match="weighting"):
        rmse + accumulate(forecast, truth, ["rmse"], weights=None)
    events = [accumulate(forecast, truth, ["csi"], thresholds=t) for t in ("1 K", "2 K")]
    with pytest.raises(ConfigError):
        events[0] + events[1]
    with pytest.raises(ConfigError, match="no "):
        State.from_dataset(rmse.parts, ["crps_fair"])
    with pytest.raises(ConfigError, match="cells"):
        finish(accumulate(forecast, truth, ["acc_temporal"]), by="month")


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (UnitsError, "anomaly", {"truth": lambda o: o.assign_attrs(units_metadata="")}),
        (UnitsError, "units", {"truth": lambda o: o.assign_attrs(units="m", units_metadata="")}),
        (UnitsError, "units", {"truth": lambda o: o.drop_attrs()}),
        (GridMismatchError, "lat", {"truth": lambda o: o.assign_coords(lat=o.lat + 1e-9)}),
        (GridMismatchError, "cells", {"truth": lambda o: o.isel(lat=0, drop=True)}),
        (TimeAxisError, "repeated", {"truth": lambda o: o.isel(time=[0, 0, 1])}),
        (TimeAxisError, "step", {"truth": lambda o: o.assign_coords(
            time=xr.date_range("2000-01-01", periods=10, freq="D"))}),
        (MissingDataError, "none of the valid", {"truth": lambda o: o.assign_coords(
            time=months("1950-01", 10))}),
        (AxisError, "start|starts", {"forecast": lambda f: f.rename(init="z").drop_vars("z")}),
        (AxisError, "level", {"forecast": lambda f: f.expand_dims(level=2)}),
        (DataTypeError, "one variable", {"forecast": lambda f: xr.Dataset({"a": f, "b": f})}),
        (MissingDataError, "empty", {"forecast": lambda f: f.isel(member=slice(0, 0))}),
        (ConfigError, "needs 2 members", {"forecast": lambda f: f.isel(member=[0])}),
        (ConfigError, "needs 2 members", {"forecast": lambda f: f.isel(member=0, drop=True)}),
        (ConfigError, "unknown score", {"scores": ["rsme"]}),
        (ConfigError, "each once", {"scores": ["rmse", "rmse"]}),
        (ConfigError, "cannot group", {"by": "decade"}),
        (ConfigError, "region", {"by": "region"}),
        (ConfigError, "whole field", {"by": ["lat", "lon"], "scores": ["acc"]}),
        (ConfigError, "must be 'area'", {"weights": "mass"}),
        (ConfigError, "negative|0 or more", {"weights": -LAT * 0 - 1}),
        (GridMismatchError, "labels", {"weights": xr.DataArray(np.ones(5), dims="lat")}),
        (GridMismatchError, "dims", {"weights": xr.DataArray(np.ones(5), dims="time")}),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_any_work(
    error: type[Exception],
    words: str,
    change: dict,
    forecast: xr.DataArray,
    truth: xr.DataArray,
) -> None:
    options = {"scores": ["crps_fair"]} | change
    f, o = forecast.chunk(init=2), truth.chunk(time=5)
    f = options.pop("forecast", lambda x: x)(f)
    o = options.pop("truth", lambda x: x)(o)
    if isinstance(options.get("weights"), xr.Variable):
        options["weights"] = xr.DataArray(options["weights"])
    with raise_if_dask_computes(), pytest.raises(error, match=words):
        verify(f, o, **options)


def test_intervals_and_references(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    mean = forecast.mean("member", keep_attrs=True)
    f = xr.Dataset({"a": mean})
    found = verify(f, truth, ["rmse"], confidence=0.9, reference={"zero": mean * 0, "same": mean})
    assert bool((found.rmse_lower < found.rmse).all() and (found.rmse < found.rmse_upper).all())
    assert found.rmse_difference.dims == ("reference", "lead")
    zero = verify(mean * 0, truth, ["rmse"])
    difference = found.rmse_difference.sel(reference="zero")
    np.testing.assert_allclose(difference, found.rmse - zero.rmse, rtol=1e-10)
    assert str(found.rmse_difference_verdict.sel(reference="same", lead=1).item())[:2] == "no"
    assert found.attrs["confidence"] == 0.9
    alone = verify(mean, truth, ["rmse"], reference=mean * 0)
    np.testing.assert_allclose(alone.rmse_difference[0], difference)
    with pytest.raises(ConfigError, match="no argument"):
        verify(mean, truth, ["rmse"], confidance=0.9)


def test_compiled_gives_the_same(forecast: xr.DataArray, truth: xr.DataArray) -> None:
    pytest.importorskip("numba")
    names = [*SCORES, *ENSEMBLE]
    for kind in ("float64", "float32"):
        f, o = forecast.astype(kind), truth.astype(kind)
        found = verify(f.chunk(init=2), o, names, engine="numba").compute()
        xr.testing.assert_allclose(found, verify(f, o, names), rtol=1e-12)
    with pytest.raises(ConfigError, match="engine"):
        verify(forecast, truth, names, engine="fortran")
