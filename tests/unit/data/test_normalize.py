"""Normalizer: statistics against numpy, maps against their composition, units against pint."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.data.moments import Moments, moments_of
from xearth.data.normalize import Normalizer
from xearth.errors import CheckpointError, ConfigError, MissingDataError, UnitsError
from xearth.testing.assertions import raise_if_dask_computes

COORDS = {
    "lat": ("lat", np.arange(4.0), {"units": "degrees_north"}),
    "lon": ("lon", np.arange(5.0), {"units": "degrees_east"}),
    "time": xr.date_range("2000-01", periods=30, freq="MS", use_cftime=False),
}


def field(seed: int = 0, *, units: str | None = "K", name: str = "sst") -> xr.DataArray:
    """Return 290 +- 5 with missing cells."""
    rng = np.random.default_rng(seed)
    values = 290 + 5 * rng.standard_normal((30, 4, 5))
    values[:, 0, 0] = np.nan
    da = xr.DataArray(values, dims=("time", "lat", "lon"), coords=COORDS, name=name)
    return da.assign_attrs(units=units) if units is not None else da


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(-1e3, 1e3) | st.just(np.nan), max_size=6), max_size=6))
def test_moments_merge_to_those_of_the_whole(blocks: list[list[float]]) -> None:
    parts = [Moments.of(np.array(b)) for b in blocks]
    found = sum(parts, Moments())
    whole = np.array([v for b in blocks for v in b if not np.isnan(v)])
    assert found.count == whole.size
    if whole.size:
        np.testing.assert_allclose(found.mean, whole.mean(), atol=1e-9)
        np.testing.assert_allclose(found.squares, whole.size * whole.var(), atol=1e-5, rtol=1e-9)
        assert (found.low, found.high) == (whole.min(), whole.max())
        assert found + Moments() == found


@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("chunks", [None, {"time": 7, "lat": 3}])
def test_fit_equals_numpy(kind: str, chunks: dict | None) -> None:
    da = field()
    values = da.values
    expected = {
        "standard": (np.nanmean(values), np.nanstd(values)),
        "minmax": (np.nanmin(values), np.nanmax(values) - np.nanmin(values)),
    }[kind]
    if chunks:
        da = da.chunk(chunks)
    with raise_if_dask_computes(max_computes=1 if chunks else 0):
        found = Normalizer.fit(da, kind=kind)
    np.testing.assert_allclose([found.center[0], found.scale[0]], expected, rtol=1e-12)
    assert (found.variables, found.units, found.kind) == (("sst",), ("K",), kind)


def test_fit_of_a_dataset_is_one_graph() -> None:
    ds = xr.Dataset({"sst": field(), "wind": field(1, units="m s-1", name="wind") - 290})
    ds["wind"].attrs["units"] = "m s-1"
    ds["nino34"] = ("time", np.arange(30.0), {"units": "K"})
    eager = Normalizer.fit(ds)
    with raise_if_dask_computes(max_computes=1):
        lazy = Normalizer.fit(ds.chunk(time=10))
    np.testing.assert_allclose(lazy.center, eager.center, rtol=1e-12)
    assert eager.variables == ("sst", "wind", "nino34")
    np.testing.assert_allclose(eager.scale[2], np.arange(30.0).std())


def test_fit_none_computes_nothing() -> None:
    with raise_if_dask_computes():
        found = Normalizer.fit(field().chunk(time=3), kind="none")
    assert (found.center, found.scale, found.units) == ((0.0,), (1.0,), ("K",))


def test_fit_reads_files_in_blocks(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xearth.data.moments._BLOCK", 500)
    path = f"{tmp_path}/a.nc"
    field().to_netcdf(path)
    with xr.open_dataset(path) as ds:
        found = Normalizer.fit(ds["sst"])
    np.testing.assert_allclose(found.center[0], np.nanmean(field().values), rtol=1e-12)


def test_signalling_nan_does_not_poison() -> None:
    signalling = np.array([0x7FF00000000007A2], dtype=np.uint64).view(np.float64)[0]
    da = field().copy()
    da.values[3, 2, 2] = signalling
    found = Normalizer.fit(da, kind="minmax")
    good = da.values[~np.isnan(da.values)]
    assert found.center[0] + found.scale[0] == pytest.approx(good.max(), rel=1e-15)


def test_packed_statistics_are_physical() -> None:
    packed = xr.DataArray(
        np.array([[0, 10, 255]], dtype="u1"), dims=("lat", "lon"), name="t",
        attrs={"units": "degC", "scale_factor": -0.5, "add_offset": 20.0,
               "_FillValue": np.uint8(255)},
    )  # fmt: skip
    standard, minmax = Normalizer.fit(packed), Normalizer.fit(packed, kind="minmax")
    np.testing.assert_allclose([standard.center[0], standard.scale[0]], [17.5, 2.5])
    np.testing.assert_allclose([minmax.center[0], minmax.scale[0]], [15.0, 5.0])


def test_constant_field_gets_scale_one() -> None:
    da = xr.zeros_like(field()).fillna(0)
    assert Normalizer.fit(da).scale == (1.0,)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "all missing"), (np.inf, "infinite")])
def test_fields_without_statistics(value: float, words: str) -> None:
    with pytest.raises(MissingDataError, match=f"'sst'.*{words}"):
        Normalizer.fit(xr.full_like(field(), value))


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
def test_apply_and_invert(make: object, dtype: str) -> None:
    normalizer = Normalizer(("a", "b"), (10.0, -3.0), (2.0, 0.5), ("K", None))
    values = np.arange(12).astype(dtype).reshape(2, 3, 2)
    z = normalizer.apply(make(values))  # type: ignore[operator]
    assert str(z.dtype).removeprefix("torch.") == ("float64" if dtype == "f8" else "float32")
    expected = np.stack([(values[..., 0] - 10.0) / 2.0, (values[..., 1] + 3.0) / 0.5], -1)
    np.testing.assert_allclose(np.asarray(z), expected, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(normalizer.invert(z)), values, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.asarray(normalizer.invert_scale(z)), expected * [2.0, 0.5])
    with pytest.raises(ConfigError, match="expected 2 channels"):
        normalizer.apply(make(values[..., :1]))  # type: ignore[operator]


def test_prepare_converts_lazily() -> None:
    normalizer = Normalizer.fit(field())
    celsius = (field() - 273.15).assign_attrs(units="degC")
    np.testing.assert_allclose(normalizer.prepare(celsius), field())
    assert normalizer.prepare(celsius).attrs["units"] == "K"
    with raise_if_dask_computes():
        lazy = normalizer.prepare(celsius.chunk(time=5))
    np.testing.assert_allclose(lazy.compute(), field())
    da = field()
    assert normalizer.prepare(da) is da
    ds = da.to_dataset()
    assert normalizer.prepare(ds) is ds
    xr.testing.assert_allclose(normalizer.prepare(celsius.to_dataset()), ds)


@pytest.mark.parametrize("units", ["K", "degC"])
@pytest.mark.parametrize("packed", [True, False])
def test_affine_is_prepare_then_apply(units: str, packed: bool) -> None:
    normalizer = Normalizer(("sst",), (288.0,), (4.0,), ("K",))
    da = xr.DataArray(np.arange(40, dtype="i2"), dims="x", name="sst", attrs={"units": units})
    if packed:
        da = da.assign_attrs(scale_factor=0.25, add_offset=10.0)
        physical = (da * 0.25 + 10.0).assign_attrs(units=units)
        prepared = normalizer.prepare(da)
        assert prepared.dtype == np.int16
        np.testing.assert_array_equal(prepared, da)
        decoded = xr.decode_cf(prepared.to_dataset()).sst
        np.testing.assert_allclose(decoded, normalizer.prepare(physical))
    else:
        da = da.astype("f8")
        physical = da
    a, b = normalizer.affine(da)
    z = normalizer.apply(normalizer.prepare(physical).values[:, None])[:, 0]
    np.testing.assert_allclose(a * da.values + b, z, atol=1e-12)


BAD = {
    "incompatible": ({"units": "m s-1"}, "'sst'.*m s-1"),
    "absent": ({}, "'sst'.*found no units"),
    "anomaly": ({"units": "K", "units_metadata": "temperature: difference"}, "found anomalies"),
}


@pytest.mark.parametrize(("attrs", "words"), BAD.values(), ids=BAD.keys())
def test_wrong_units_are_refused_before_compute(attrs: dict, words: str) -> None:
    normalizer = Normalizer.fit(field())
    da = field(units=None).chunk(time=5).assign_attrs(attrs)
    with raise_if_dask_computes():
        for action in (normalizer.prepare, normalizer.affine):
            with pytest.raises(UnitsError, match=words):
                action(da)


def test_anomalies_convert_as_differences() -> None:
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    normalizer = Normalizer.fit((field() - 290).assign_attrs(attrs))
    assert normalizer.difference == (True,)
    celsius = (field() - 290).assign_attrs(attrs, units="degC")
    np.testing.assert_allclose(normalizer.prepare(celsius), field() - 290)
    with pytest.raises(UnitsError, match="expected anomalies"):
        normalizer.prepare(field())


def test_without_a_unit_anything_goes() -> None:
    normalizer = Normalizer(("vil",), (0.0,), (1.0,), ("1",))
    da = field(units=None)
    assert normalizer.prepare(da) is da


def test_missing_variables_are_named() -> None:
    normalizer = Normalizer(("sst", "wind"), (0.0, 0.0), (1.0, 1.0), ("K", "m s-1"))
    with pytest.raises(MissingDataError, match="'wind', found"):
        normalizer.prepare(field().to_dataset())
    with pytest.raises(MissingDataError, match="expected a Dataset"):
        normalizer.affine(field())


@pytest.mark.parametrize(
    "change",
    [{"scale": (0.0,)}, {"center": (np.nan,)}, {"units": ()}, {"kind": "robust"},
     {"variables": ()}],
)  # fmt: skip
def test_impossible_statistics(change: dict) -> None:
    good = Normalizer(("sst",), (0.0,), (1.0,), ("K",))
    with pytest.raises(ConfigError):
        dataclasses.replace(good, **change)
    with pytest.raises(ConfigError, match="kind"):
        Normalizer.fit(field(), kind="robust")
    with pytest.raises(UnitsError):
        dataclasses.replace(good, units=("no such unit",))


@settings(deadline=None)
@given(st.floats(-1e30, 1e30), st.floats(1e-300, 1e300))
def test_json_keeps_bits(center: float, scale: float) -> None:
    normalizer = Normalizer(("sst",), (center,), (scale,), ("K",), "minmax", (True,))
    assert Normalizer.from_json(normalizer.to_json()) == normalizer


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"variables": ["a"], "wrong": 1}'])
def test_damaged_json_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="expected the JSON of Normalizer"):
        Normalizer.from_json(text)


def test_moments_of_several_dask_arrays_is_one_graph() -> None:
    a, b = field().chunk(time=4), field(1).chunk(lat=1)
    with raise_if_dask_computes(max_computes=1):
        found = moments_of([a, b])
    np.testing.assert_allclose(found[1].mean, np.nanmean(field(1).values))


def test_dates_have_no_statistics() -> None:
    with pytest.raises(TypeError, match="'time': expected numbers"):
        Normalizer.fit(field()["time"])
