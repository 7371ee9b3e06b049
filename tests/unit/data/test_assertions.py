"""The assertions see every kind of loss that the round trip could hide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from xearth.testing.assertions import assert_roundtrip, assert_same, raise_if_dask_computes


def field() -> xr.DataArray:
    """Return a small field with everything that can be lost."""
    da = xr.DataArray(
        np.array([[-0.0, 1.0], [np.nan, 3.0]]),
        dims=("lat", "lon"),
        coords={
            "lat": ("lat", [0.0, 1.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 1.0], {"units": "degrees_east"}),
            "area": (("lat", "lon"), np.ones((2, 2))),
        },
        name="a",
        attrs={"units": "K"},
    )
    da.encoding = {"dtype": "int16"}
    return da


def _encoding(da: xr.DataArray) -> xr.DataArray:
    da = da.copy()
    da.encoding = {"dtype": "int32"}
    return da


def _coordinate_encoding(da: xr.DataArray) -> xr.DataArray:
    da = da.copy()
    da["area"].encoding["zlib"] = True
    return da


LOSSES: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "name": lambda da: da.rename("b"),
    "attrs": lambda da: da.assign_attrs(units="degC"),
    "encoding": _encoding,
    "encoding of a coordinate": _coordinate_encoding,
    "dims order": lambda da: da.transpose(),
    "coordinate": lambda da: da.drop_vars("area"),
    "coordinate attrs": lambda da: da.assign_coords(lat=("lat", [0.0, 1.0])),
    "index": lambda da: da.drop_indexes("lat"),
    "value": lambda da: da.where(da != 3.0, 4.0),
    "missing": lambda da: da.fillna(0.0),
    "sign of zero": lambda da: da.where(da != 0, 0.0),
    "dtype": lambda da: da.astype("f4"),
    "chunks": lambda da: da.chunk(lat=1),
}


def test_same_is_same() -> None:
    assert_same(field(), field())
    assert_same(field().chunk(lat=1), field().chunk(lat=1))


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
def test_each_loss_is_seen(lose: Callable[[xr.DataArray], xr.DataArray]) -> None:
    lost = lose(field())
    if "encoding" not in lost.encoding and lost.encoding == {}:
        lost.encoding = {"dtype": "int16"}
    with pytest.raises(AssertionError):
        assert_same(lost, field())


def test_roundtrip_assertion_passes_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_roundtrip(field())
    monkeypatch.setattr("xearth.data.tensors.fill", lambda values, valid: values * 2)
    with pytest.raises(AssertionError):
        assert_roundtrip(field())


def test_computing_is_counted() -> None:
    lazy = field().chunk(lat=1)
    with pytest.raises(RuntimeError, match="at most 0 computed graphs"), raise_if_dask_computes():
        lazy.compute()
    with pytest.raises(RuntimeError, match="at most 1"), raise_if_dask_computes(max_computes=1):
        [lazy.mean().compute(), lazy.max().compute()]
