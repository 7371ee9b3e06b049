"""verify takes scores of probabilities, ranks and intervals by name, with its thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import ConfigError
from xearth.verification import (
    brier,
    brier_skill,
    csi,
    interval_coverage,
    interval_width,
    observations_at,
    rank_histogram,
    reliability,
    roc_area,
    rps,
    rps_skill,
    threshold_weighted_crps,
    verify,
)

LIMITS = ["0.3 K", "1 K"]


@pytest.fixture
def pair() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(5)
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    time = xr.date_range("2000-01", periods=40, freq="MS")
    truth = xr.DataArray(rng.standard_normal(40), {"time": time}, ("time",), "t", attrs)
    lead = xr.Variable("lead", [1, 2], {"units": "months"})
    labels = {"init": time[:36], "lead": lead}
    values = rng.standard_normal((36, 2, 7))
    return xr.DataArray(values, labels, ("init", "lead", "member"), "t", attrs), truth


def test_by_name_as_by_function(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    forecast, truth = pair
    names = ["brier", "rps", "roc_area", "rank_histogram", "interval_coverage", "crps_upper_tail"]
    found = verify(forecast, truth, [*names, "reliability"], thresholds=LIMITS, weights=None)
    there = observations_at(forecast, truth)
    for name, expected in {
        "brier": brier(forecast, there, thresholds=LIMITS, dim="init"),
        "rps": rps(forecast, there, thresholds=LIMITS, dim="init"),
        "roc_area": roc_area(forecast, there, thresholds=LIMITS, dim="init"),
        "rank_histogram": rank_histogram(forecast, there, dim="init"),
        "interval_coverage": interval_coverage(forecast, there, level=[0.5], dim="init"),
    }.items():
        np.testing.assert_allclose(
            found[name], expected.transpose(*found[name].dims), rtol=1e-12, err_msg=name
        )
    tails = [
        threshold_weighted_crps(forecast, there, estimator="ensemble", lower=limit, dim="init")
        for limit in LIMITS
    ]
    np.testing.assert_allclose(found.crps_upper_tail.T, tails, rtol=1e-12)
    table = reliability(forecast, there, thresholds=LIMITS, dim="init")
    shares = found["reliability"].sel(quantity="share")
    np.testing.assert_allclose(shares, table.share.transpose(*shares.dims), rtol=1e-12)


def test_in_chunks_and_of_an_index_series(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    forecast, truth = pair
    names = ["brier_fair", "rank_histogram", "rank_flatness"]
    whole = verify(forecast, truth, names, thresholds=LIMITS, weights=None)
    parts = forecast.chunk(init=7, member=2, lead=1)
    lazy = verify(parts, truth.chunk(time=11), names, thresholds=LIMITS, weights=None)
    assert lazy.brier_fair.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-12)


def test_what_is_missing_is_named(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    forecast, truth = pair
    with pytest.raises(ConfigError, match="needs thresholds"):
        verify(forecast, truth, "brier", weights=None)
    with pytest.raises(ConfigError, match="no member dimension"):
        verify(forecast.isel(member=0, drop=True), truth, "rank_histogram", weights=None)


def test_operator(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    whole = [x.round().astype("float32").assign_attrs(x.attrs) for x in pair]  # many equal 1
    forecast, truth = whole
    names, one = ["csi", "brier"], forecast.isel(member=0, drop=True)
    there = observations_at(forecast, truth)
    for op in (">=", ">"):
        found = verify(forecast, truth, "brier", thresholds="1 K", op=op, weights=None)
        expected = brier(forecast, there, thresholds="1 K", op=op, dim="init")
        np.testing.assert_allclose(found.brier, expected.transpose(*found.brier.dims), rtol=1e-12)
        told = verify(one, truth, names, thresholds="1 K", op=op, weights=None)
        counted = csi(one, there, thresholds="1 K", op=op, dim="init")
        np.testing.assert_array_equal(told.csi, counted.transpose(*told.csi.dims))
        assert f"op = {op};" in told.attrs["protocol_knobs"]
        lazy = verify(one.chunk(init=5), truth, names, thresholds="1 K", op=op, weights=None)
        np.testing.assert_array_equal(lazy.csi, told.csi)
    assert float(abs(told.brier - verify(one, truth, "brier", thresholds="1 K").brier).max()) > 0
    with pytest.raises(ConfigError, match="'>='"):
        verify(forecast, truth, "brier", thresholds="1 K", op="<")


def test_levels(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    forecast, truth = pair
    names, levels = ["interval_coverage", "interval_width"], [0.25, 0.5, 0.75]
    found = verify(forecast.chunk(init=9, member=3), truth, names, levels=levels, weights=None)
    there = observations_at(forecast, truth)
    for name, function in zip(names, (interval_coverage, interval_width), strict=True):
        expected = function(forecast, there, level=levels, dim="init")
        assert found[name].level.values.tolist() == levels
        np.testing.assert_allclose(found[name], expected.transpose(*found[name].dims), rtol=1e-12)
    one = verify(forecast, truth, "interval_width", levels=0.25, weights=None)
    np.testing.assert_allclose(one.interval_width, found.interval_width.isel(level=[0]), rtol=1e-12)
    for wrong in (0.9, 1.5, [], [0.5, 0.5], "most", None):
        with pytest.raises(ConfigError, match="level"):
            verify(forecast, truth, "interval_width", levels=wrong)
    against = verify(forecast, truth, names, levels=levels, reference=(forecast * 0.5).assign_attrs(
        forecast.attrs))  # fmt: skip
    assert against.interval_width_difference.sizes["level"] == 3


def test_base_rates(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    forecast, truth = pair
    rates = [0.4, 0.2]
    found = verify(
        forecast, truth, ["brier_skill", "rps_skill"], thresholds=LIMITS, base_rates=rates,
        weights=None,
    )  # fmt: skip
    there = observations_at(forecast, truth)
    for name, function in {"brier_skill": brier_skill, "rps_skill": rps_skill}.items():
        expected = function(forecast, there, thresholds=LIMITS, reference=rates, dim="init")
        np.testing.assert_allclose(found[name], expected.transpose(*found[name].dims), rtol=1e-12)
    for wrong in (None, 0.4, [0.2, 0.4], [1.4, 0.2], [0.4, float("nan")]):
        with pytest.raises(ConfigError, match="base_rates"):
            verify(forecast, truth, "brier_skill", thresholds=LIMITS, base_rates=wrong)


@pytest.mark.parametrize("name", ["fss", "rank_correlation", "crps_quantile"])
def test_what_is_a_function_only_is_named(
    pair: tuple[xr.DataArray, xr.DataArray], name: str
) -> None:
    import xearth.verification as room

    with pytest.raises(ConfigError, match=rf"needs .* function xearth\.verification\.{name},"):
        verify(*pair, name)
    assert callable(getattr(room, name))
