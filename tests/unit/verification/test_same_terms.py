"""Forecast and truth must stand at the same places and mean the same before they are compared."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

from xearth import verify
from xearth.errors import (
    AxisError,
    ConfigError,
    DataTypeError,
    GridMismatchError,
    LeakageWarning,
    UnitsError,
    XearthWarning,
)
from xearth.verification import (
    bias,
    brier,
    contingency,
    correlation,
    mae,
    observations_at,
    rmse,
    rps,
    slope,
)

RNG = np.random.default_rng(5)
J, K, N, L = 4, 6, 5, 2
INIT = xr.date_range("2000-01", periods=N, freq="MS")
TIME = xr.date_range("2000-01", periods=N + L, freq="MS")
LEAD = xr.Variable("lead", np.arange(L), {"units": "months"})


def plane() -> dict[str, Any]:
    """A grid turned against the meridians, as of an ocean model."""
    y, x = np.meshgrid(np.arange(J), np.arange(K), indexing="ij")
    return {
        "lat": (("j", "i"), -10.0 + 2.0 * y + 0.3 * x, {"units": "degrees_north"}),
        "lon": (("j", "i"), 170.0 + 3.0 * x - 0.2 * y, {"units": "degrees_east"}),
    }


def archive(**coords: Any) -> tuple[xr.DataArray, xr.DataArray]:
    attrs = {"units": "degC", "long_name": "temperature"}
    f = xr.DataArray(
        20 + RNG.standard_normal((N, L, J, K)),
        {"init": INIT, "lead": LEAD, **plane(), **coords},
        ("init", "lead", "j", "i"),
        "t",
        attrs,
    )
    o = xr.DataArray(
        20 + RNG.standard_normal((N + L, J, K)),
        {"time": TIME, **plane(), **coords},
        ("time", "j", "i"),
        "t",
        attrs,
    )
    return f, o


def each_way(f: xr.DataArray, o: xr.DataArray) -> list[Any]:
    """Calls that compare the two, by different ways into the room."""
    return [
        lambda: verify(f, o, "rmse"),
        lambda: rmse(f, observations_at(f, o)),
        lambda: contingency(f, observations_at(f, o), thresholds="20 degC"),
    ]


class TestPlaces:
    """Cells are paired by their place in the array, so that positions must agree."""

    def test_the_same_grid_passes(self) -> None:
        f, o = archive()
        truth = o.assign_coords(lon=o.lon.copy(data=o.lon - 360.0), lat=o.lat.astype(np.float32))
        # longitudes of the other convention, latitudes in single precision: the same cells
        for same in (o, truth, o.rename(lat="nav_lat", lon="nav_lon"), o.transpose("i", ...)):
            assert verify(f, same, "rmse", weights=None).rmse.notnull().all()
            assert rmse(f, observations_at(f, same)).notnull()

    @pytest.mark.parametrize("name", ["lat", "lon"])
    def test_shifted(self, name: str) -> None:
        f, o = archive()
        moved = o.assign_coords({name: o[name].copy(data=o[name] + 4.0)})
        for call in each_way(f, moved):
            with pytest.raises(GridMismatchError, match=rf"'{name}' is .* at {{'j': 0, 'i': 0}}"):
                call()

    def test_first_cell_that_differs(self) -> None:
        f, o = archive()
        lat = o.lat.values.copy()
        lat[2, 3] += 0.01
        moved = o.assign_coords(lat=(("j", "i"), lat, o.lat.attrs))
        for call in each_way(f, moved):
            with pytest.raises(GridMismatchError, match=r"at {'j': 2, 'i': 3}, the first of 1 "):
                call()

    def test_rows_the_other_way(self) -> None:
        f, o = archive()
        for call in each_way(f, o.isel(j=slice(None, None, -1))):
            with pytest.raises(GridMismatchError, match=r"isel\(j=slice\(None, None, -1\)\)"):
                call()

    def test_names_of_other_producers(self) -> None:
        f, o = archive()
        moved = o.assign_coords(lat=o.lat.copy(data=o.lat + 40)).rename(lat="nav_lat")
        with pytest.raises(GridMismatchError, match="'lat' is"):
            rmse(f, observations_at(f, moved))

    def test_unlabeled_lengths(self) -> None:
        f, o = (xr.DataArray(np.zeros(n), dims="x") for n in (3, 4))
        with pytest.raises(GridMismatchError, match="differ in length along 'x'"):
            rmse(f, o)

    def test_levels(self) -> None:
        attrs = {"units": "m", "standard_name": "depth", "positive": "down"}
        f, o = archive(depth=((), 5.0, attrs))
        for other in (100.0, 5.01):
            for call in each_way(f, o.assign_coords(depth=((), other, attrs))):
                with pytest.raises(GridMismatchError, match=r"'depth' = 5 m, truth 't' at 'depth'"):
                    call()
        same = o.assign_coords(depth=((), 500.0, {**attrs, "units": "cm"}))
        assert rmse(f, observations_at(f, same)).notnull()
        assert rmse(f, observations_at(f, o.drop_vars("depth"))).notnull()

    def test_dimensions_of_one_label(self) -> None:
        """A single height or model is no obstacle to verify, and must be the same."""
        f, o = archive()
        expected = verify(f, o, "rmse")
        clim = o.groupby("time.month").mean().drop_attrs(deep=False).assign_attrs(o.attrs)
        with_base = verify(f, o, "acc", climatology=clim)
        for height in ([2.0], None):
            tall = f.expand_dims(height=height or 1, axis=2)
            xr.testing.assert_equal(verify(tall, o, "rmse").drop_vars("height", errors="ignore"),
                                    expected)  # fmt: skip
            same = o.expand_dims(height=height or 1).expand_dims(member=1)
            xr.testing.assert_equal(verify(f, same, "rmse"), expected)
            xr.testing.assert_equal(verify(tall, same, "rmse"), expected)
            base = clim.expand_dims(height=height or 1)
            xr.testing.assert_equal(verify(f, same, "acc", climatology=base), with_base)
        tall = f.expand_dims(height=[2.0])
        with pytest.raises(GridMismatchError, match="'height' = 2, truth 't' at 'height' = 10"):
            verify(tall, o.expand_dims(height=[10.0]), "rmse")
        with pytest.raises(GridMismatchError, match=r"of 'model' = .*'a'.* of .*'b'"):
            verify(f.expand_dims(model=["a"]), o.expand_dims(model=["b"]), "rmse")
        with pytest.raises(AxisError, match=r"Select along \['height'\]"):
            verify(f.expand_dims(height=[2.0, 10.0]), o, "rmse")
        lone = o.isel(time=[3]).expand_dims(height=1)  # a single time stays one
        assert verify(f, lone, "rmse").n.sum().item() == 2 * J * K

    def test_one_latitude(self) -> None:
        lat = {"units": "degrees_north", "standard_name": "latitude"}
        f = xr.DataArray([0.0, 1.0], {"lat": ((), 10.0, lat)}, ("time",))
        with pytest.raises(GridMismatchError, match="'lat' = 10"):
            rmse(f, f.assign_coords(lat=((), -10.0, lat)))

    def test_times_are_no_places(self) -> None:
        stamps = {"standard_name": "forecast_period", "units": "months"}
        f = xr.DataArray([0.0, 1.0], {"lead": ((), 1, stamps)}, ("x",))
        assert rmse(f, f.assign_coords(lead=((), 2, stamps))) == 0


class TestRemedies:
    """The hint fits what is wrong."""

    def pair(self, labels: Any) -> tuple[xr.DataArray, xr.DataArray]:
        f = xr.DataArray(np.arange(3.0), {"lat": [0.1, 0.2, 0.3]}, ("lat",))
        return f, f.assign_coords(lat=labels)

    @pytest.mark.parametrize(
        "labels",
        [np.array([0.1, 0.2, 0.3]) + 1e-12, np.array([0.1, 0.2, 0.3], np.float32)],
        ids=["jitter", "single precision"],
    )
    def test_rounding(self, labels: Any) -> None:
        f, o = self.pair(labels)
        with pytest.raises(GridMismatchError, match=r"method='nearest', tolerance=") as caught:
            rmse(f, o)
        hint = str(caught.value).split("labels of one: ")[1].rstrip(".")
        tolerance = float(hint.split("tolerance=")[1].rstrip(")"))
        put = o.reindex(lat=f["lat"], method="nearest", tolerance=tolerance)
        assert f"tolerance={tolerance:.2g}" in hint
        assert rmse(f, put) == 0

    def test_order(self) -> None:
        f, o = self.pair([0.3, 0.2, 0.1])
        with pytest.raises(GridMismatchError, match=r"obs\.sortby\('lat'\)"):
            rmse(f, o)

    @pytest.mark.parametrize("east", [[0.0, 120.0, 240.0], [-120.0, 0.0, 120.0]])
    def test_meridians(self, east: list[float]) -> None:
        f = xr.DataArray(
            np.arange(3.0), {"lon": ("lon", east, {"units": "degrees_east"})}, ("lon",)
        )
        other = f["lon"] % 360 if min(east) < 0 else (f["lon"] + 180) % 360 - 180
        o = f.assign_coords(lon=other.assign_attrs(f["lon"].attrs)).sortby("lon")
        hint = "(obs['lon'] + 180) % 360 - 180" if min(east) < 0 else "obs['lon'] % 360"
        with pytest.raises(GridMismatchError, match=re.escape(f"lon={hint}).sortby('lon')")):
            rmse(f, o)
        # what the hint says
        wanted = (o["lon"] + 180) % 360 - 180 if min(east) < 0 else o["lon"] % 360
        assert rmse(f, o.assign_coords(lon=wanted).sortby("lon")) == 0

    def test_some_or_none_in_common(self) -> None:
        f, o = self.pair([0.1, 0.2, 0.4])
        with pytest.raises(GridMismatchError, match="join='inner'"):
            rmse(f, o)
        f, o = self.pair([5.1, 5.2, 5.4])
        with pytest.raises(GridMismatchError, match="none in common: regrid"):
            rmse(f, o)


def series(seed: int, **attrs: Any) -> xr.DataArray:
    values = np.random.default_rng(seed).standard_normal(30)
    return xr.DataArray(values, dims="init", name="t", attrs={"units": "degC", **attrs})


class TestAnomalies:
    """An anomaly by name is one, and its base counts."""

    @pytest.mark.parametrize("units", ["degC", "K"])
    @pytest.mark.parametrize("told", [{"long_name": "t anomaly"}, {"name": "sst_anom"}])
    def test_named_against_absolute(self, units: str, told: dict[str, str]) -> None:
        anomaly, absolute = series(0), series(1, units=units)
        anomaly.name = told.get("name", anomaly.name)
        anomaly.attrs |= {k: v for k, v in told.items() if k == "long_name"}
        for f, o in ((anomaly, absolute), (absolute, anomaly)):
            with pytest.raises(UnitsError, match=r"units_metadata'\] = 'temperature: difference'"):
                rmse(f, o)

    def test_named_with_an_offset(self) -> None:
        f, o = series(0, long_name="t anomaly"), series(1, long_name="t anomaly")
        assert rmse(f, o).notnull()
        with pytest.raises(UnitsError, match="by its name only"):
            rmse(f, o.assign_attrs(units="K"))
        marked = {"units_metadata": "temperature: difference"}
        kelvin = o.assign_attrs(marked, units="K")
        np.testing.assert_allclose(rmse(f.assign_attrs(marked), kelvin), rmse(f, o), rtol=1e-12)

    def test_on_scale_wins(self) -> None:
        f = series(0, long_name="no anomaly", units_metadata="temperature: on_scale")
        assert rmse(f, series(1)).notnull()

    def test_other_quantities(self) -> None:
        pressure = {"units": "hPa"}
        f = series(0, long_name="pressure anomaly", **pressure)
        with pytest.raises(UnitsError, match=r"long_name'\] = '\.\.\. anomaly'"):
            rmse(f, series(1, long_name="pressure", **pressure))
        named = series(1, standard_name="air_pressure_anomaly", **pressure)
        assert rmse(f, named).notnull()

    def test_leaks_of_either_base(self) -> None:
        """What either normal has seen is judged: the guard looks at both."""
        f, o = archive()
        told = {"units_metadata": "temperature: difference"}
        f = (f - 20).assign_attrs(told, units="degC", base_period="1951/1980")
        o = (o - 20).assign_attrs(told, units="degC", base_period="1996/2005")
        with (
            pytest.warns(XearthWarning, match="their difference holds that of the two normals"),
            pytest.warns(LeakageWarning, match=r"climatology: .*1951/1980, 1996/2005"),
        ):
            verify(f, o, "rmse")

    def test_bases(self) -> None:
        marked = {"units_metadata": "temperature: difference"}
        f = series(0, **marked, base_period="1951/1980")
        o = series(1, **marked, base_period="1985/1995")
        with pytest.warns(XearthWarning, match=r"1951/1980.*1985/1995.*xearth\.anomaly"):
            rmse(f, o)
        for same in ("1951/1980", "1951-01/1980-12", "1951/1980 (leave-one-out)"):
            rmse(f, o.assign_attrs(base_period=same))


class TestInput:
    """What is no number, or no weight, is refused before any work."""

    @pytest.mark.parametrize("bad", [np.array(["1"] * 30), np.ones(30) * 1j, np.ones(30, object)])
    def test_no_numbers(self, bad: Any) -> None:
        f, o = series(0), series(1)
        with pytest.raises(DataTypeError, match="expected real numbers"):
            rmse(f.copy(data=bad), o)
        with pytest.raises(DataTypeError, match="expected real numbers"):
            mae(f, o.copy(data=bad))

    @pytest.mark.parametrize("bad", [np.inf, -1.0])
    def test_weights(self, bad: float) -> None:
        f, o = archive()
        weights = xr.DataArray(np.ones((J, K)), dims=("j", "i"))
        weights[1, 1] = bad
        with pytest.raises(ConfigError, match="finite"):
            verify(f, o, "rmse", weights=weights)
        with pytest.raises(ConfigError, match="finite"):
            rmse(f, observations_at(f, o), weights=weights)


def test_slope_of_a_constant_truth() -> None:
    f, o = series(0), series(1) * 0 + 0.1
    o.attrs = f.attrs
    assert slope(f, o).isnull()
    assert correlation(f, o).isnull()


def test_thresholds_of_single_precision_agree() -> None:
    """A stored float32 0.7 meets 0.7 in contingency, in verify and in single scores."""
    rng = np.random.default_rng(2)
    choice = np.array([0.5, 0.7], np.float32)
    f = xr.DataArray(
        choice[rng.integers(0, 2, (N, L))], {"init": INIT, "lead": LEAD}, ("init", "lead")
    )
    o = xr.DataArray(choice[rng.integers(0, 2, N + L)], {"time": TIME}, ("time",))
    at = observations_at(f, o)
    table = contingency(f, at, thresholds=0.7)
    assert table.hits.item() + table.misses.item() == int((at > 0.6).sum())
    ensemble = f.expand_dims(member=2, axis=2)
    single = brier(ensemble, at, thresholds=0.7)
    ranked = rps(ensemble, at, thresholds=0.7)  # of one threshold: the Brier score
    whole = verify(ensemble, o, "brier", by=(), thresholds=0.7, weights=None).brier
    wrong = table.misses.item() + table.false_alarms.item()
    np.testing.assert_allclose(
        [single.item(), ranked.item(), whole.item()], wrong / (N * L), rtol=1e-12
    )


def test_single_precision_loses_nothing() -> None:
    """On a field far from zero, scores of float32 are those of the same numbers in float64."""
    f, o = ((x + 290).astype(np.float32) for x in (series(0), series(1)))
    for score in (bias, mae, rmse, correlation, slope):
        expected = score(f.astype(np.float64), o.astype(np.float64))
        np.testing.assert_allclose(score(f, o), expected, rtol=1e-12)
