"""What the numbers of a result stand for: the pairs behind each score, counts, weights."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import ConfigError
from xearth.fields.regions import Box
from xearth.verification.align import observations_at
from xearth.verification.one_pass.intervals import differences
from xearth.verification.one_pass.results import finish
from xearth.verification.one_pass.verify import accumulate, verify

KELVIN = {"units": "K", "units_metadata": "temperature: difference"}
LAT = xr.Variable("lat", [-45.0, 0.0, 45.0, 75.0], {"units": "degrees_north"})
LON = xr.Variable("lon", [0.0, 90.0, 180.0, 270.0], {"units": "degrees_east"})


@pytest.fixture
def pair() -> tuple[xr.DataArray, xr.DataArray]:
    """Members are missing: all but one at two starts, one of five at another."""
    rng = np.random.default_rng(3)
    time = xr.date_range("2000-01", periods=12, freq="MS")
    coords = {"time": time, "lat": LAT, "lon": LON}
    o = xr.DataArray(rng.standard_normal((12, 4, 4)), coords, ("time", "lat", "lon"), "t", KELVIN)
    lead = xr.Variable("lead", [1, 2], {"units": "months"})
    coords = {"init": time[:10], "lead": lead, "lat": LAT, "lon": LON}
    dims = ("init", "lead", "member", "lat", "lon")
    f = xr.DataArray(rng.standard_normal((10, 2, 5, 4, 4)), coords, dims, "t", KELVIN)
    f[:2, :, 1:] = np.nan
    f[3, :, 2, 0] = np.nan
    return f, o


@pytest.mark.parametrize("chunks", [{}, {"init": 3, "member": 2, "lat": 3}])
def test_each_score_says_its_sample(
    pair: tuple[xr.DataArray, xr.DataArray], chunks: dict[str, int]
) -> None:
    f, o = pair
    names = ["rmse", "crps_fair", "spread", "rank_histogram", "brier_fair", "brier", "csi"]
    found = verify(f.chunk(chunks) if chunks else f, o, names, thresholds="0 K").compute()
    assert found.n.values.tolist() == [160, 160]
    for name in ("crps_fair", "spread", "brier_fair"):
        assert found[f"{name}_n"].values.tolist() == [128, 128]
        assert found[f"{name}_n"].dims == ("lead",)
        assert found[f"{name}_n"].dtype == np.int64
    assert found.rank_histogram_n.values.tolist() == [124, 124]
    counts = {name for name in found if str(name).endswith("_n")}
    assert counts == {"crps_fair_n", "spread_n", "brier_fair_n", "rank_histogram_n"}
    assert "crps_fair_n" in found.crps_fair.attrs["ancillary_variables"]
    assert found.rmse.attrs["ancillary_variables"] == "n"
    cells = verify(f, o, ["crps_fair"], by=["lead", "lat", "lon"])
    assert cells.n.values[0, 0, 0] == 10
    assert cells.crps_fair_n.values[0, 0, 0] == 8
    assert cells.crps_fair_n.dims == ("lead", "lat", "lon")


def test_sample_of_an_index(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    f, o = pair
    grid = {"lat": xr.Variable("lat", [-7.5, -2.5, 2.5, 7.5], LAT.attrs),
            "lon": xr.Variable("lon", [185.0, 200.0, 215.0, 230.0], LON.attrs)}  # fmt: skip
    f, o = f.assign_coords(grid), o.assign_coords(grid)
    o[5] = np.nan
    found = verify(f, o, ["nino34_rmse", "nino34_crps_fair"], weights=None)
    assert found.nino34_rmse_n.values.tolist() == [9, 9]
    assert found.nino34_crps_fair_n.values.tolist() == [7, 7]
    assert found.nino34_rmse_n.dims == ("lead",)


def test_verdicts_count_the_starts_of_the_score(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    f, o = pair
    states = [accumulate(x, o, ["rmse", "crps_fair"]) for x in (f, (f * 2).assign_attrs(KELVIN))]
    found = differences(*states, n=100)
    assert found.rmse_verdict.values[0].endswith("n = 10)")
    assert found.crps_fair_verdict.values[0].endswith("n = 8)")


def test_counts_say_that_they_are_not_weighted(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    f, o = pair
    found = verify(f, o, ["csi", "rmse"], thresholds="0 K")
    assert found.csi.attrs["cell_methods"].startswith("init: area: sum")
    assert "unweighted" in found.csi.attrs["comment"]
    assert found.rmse.attrs["cell_methods"].startswith("init: area: mean")
    weights = xr.DataArray([1.0, 0.5, 1.0, 0.0], dims="lat")
    with pytest.raises(ConfigError, match=r"\['csi'\].*0 and 1"):
        verify(f, o, ["csi", "rmse"], thresholds="0 K", weights=weights)
    assert verify(f, o, ["rmse"], weights=weights).n.values.tolist() == [120, 120]
    masked = verify(f, o, ["csi"], thresholds="0 K", weights=xr.where(weights > 0.6, 1.0, 0.0))
    north = [0, 2]
    part = verify(f.isel(lat=north), o.isel(lat=north), ["csi"], thresholds="0 K", weights=None)
    np.testing.assert_array_equal(masked.csi, part.csi)


def test_a_cell_counts_for_a_region_that_holds_any_of_it(
    pair: tuple[xr.DataArray, xr.DataArray],
) -> None:
    f, o = pair
    region = xr.DataArray([1.0, 0.01, 0.0, 0.0], dims="lat")
    found = verify(f, o, ["csi"], thresholds="0 K", regions=region)
    mean, at = f.mean("member").isel(lat=[0, 1]), observations_at(f, o).isel(lat=[0, 1])
    told, seen = mean >= 0, at >= 0
    over = ("init", "lat", "lon")
    np.testing.assert_allclose(
        found.csi.squeeze(), (told & seen).sum(over) / (told | seen).sum(over)
    )
    assert found.n.values.tolist() == [80, 80]
    assert "any part" in found.csi.attrs["comment"]
    boxed = verify(f, o, ["csi"], thresholds="0 K", regions=Box(-40, 10, 0, 90, "corner"))
    assert boxed.n.values.tolist() == [40, 40]


def test_finish_of_a_state_has_them_too(pair: tuple[xr.DataArray, xr.DataArray]) -> None:
    f, o = pair
    a, b = (accumulate(f.isel(init=i), o, ["crps_fair"]) for i in (slice(5), slice(5, None)))
    assert finish(a + b, by=()).crps_fair_n.item() == 256
