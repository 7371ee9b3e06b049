"""Undecoded data: packed numbers are never taken for values, wherever one field is reduced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xearth.cf.packing import decoded, fill_values, packed_on_file
from xearth.data.sources import samples
from xearth.errors import DataTypeError
from xearth.fields.climatology import anomaly, climatology
from xearth.fields.regions import NINO34, box_mean
from xearth.reference.persistence import Persistence
from xearth.testing.assertions import raise_if_dask_computes
from xearth.verification.align import observations_at
from xearth.verification.scores.deterministic import rmse
from xearth.verification.scores.indices import nino_index, running_mean
from xearth.verification.scores.probabilistic import spread

PACKING = {"scale_factor": 0.01, "add_offset": 10.0, "_FillValue": np.int16(-999)}


@pytest.fixture(scope="module")
def plain() -> xr.DataArray:
    return samples.open("oisst").isel(time=slice(0, 36)).load().astype("f8").round(2)


@pytest.fixture(scope="module")
def packed(plain: xr.DataArray) -> xr.DataArray:
    numbers = ((plain - 10.0) / 0.01).round().fillna(-999).astype("i2")
    numbers.attrs = {**plain.attrs, **PACKING, "valid_max": np.int16(4000)}
    return numbers


def test_decoded_is_what_xarray_decodes(packed: xr.DataArray, plain: xr.DataArray) -> None:
    found = decoded(packed)
    want = xr.decode_cf(packed.to_dataset(name="sst"), decode_times=False)["sst"]
    np.testing.assert_array_equal(found, want)
    np.testing.assert_allclose(found, plain, atol=1e-9)
    assert "valid_max" not in found.attrs  # it counts in packed numbers
    assert not PACKING.keys() & found.attrs.keys()
    assert found.name == "sst"


def test_decoded_leaves_what_is_decoded_and_stays_lazy(
    packed: xr.DataArray, plain: xr.DataArray
) -> None:
    assert decoded(plain) is plain
    with raise_if_dask_computes():
        assert decoded(packed.chunk(time=12)).chunks is not None
    sentinel = xr.DataArray([1.0, -999.0], dims="x", attrs={"missing_value": -999.0})
    np.testing.assert_array_equal(decoded(sentinel), [1.0, np.nan])


def test_fill_values_of_both_attributes() -> None:
    assert fill_values({"_FillValue": 255, "missing_value": [255, 254]}) == (255, 254)


REDUCTIONS: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "box_mean": lambda da: box_mean(da, NINO34),
    "box_mean of a Dataset": lambda da: box_mean(da.to_dataset(), NINO34)["sst"],
    "nino_index": nino_index,
    "climatology": climatology,
    "anomaly": anomaly,
    "running_mean": lambda da: running_mean(da.isel(lat=3, lon=3)),
    "rmse": lambda da: rmse(da, decoded(da) + 1),
    "spread": lambda da: spread(da.isel(lat=3), member="lon"),
    "persistence": lambda da: Persistence.fit(da, horizon=2).forecast(da),
}


@pytest.mark.parametrize("reduce", REDUCTIONS.values(), ids=REDUCTIONS.keys())
def test_reductions_see_values(
    reduce: Callable[[xr.DataArray], xr.DataArray], packed: xr.DataArray, plain: xr.DataArray
) -> None:
    found, want = reduce(packed), reduce(plain)
    np.testing.assert_allclose(found, want, atol=1e-5)
    assert not PACKING.keys() & found.attrs.keys()


def test_observations_at_see_values(packed: xr.DataArray, plain: xr.DataArray) -> None:
    fc = Persistence.fit(plain, horizon=2).forecast(plain, init="1983-06")
    np.testing.assert_allclose(observations_at(fc, packed), observations_at(fc, plain), atol=1e-9)


@pytest.mark.parametrize("reduce", [climatology, anomaly, nino_index, running_mean])
def test_a_dataset_is_refused_by_name(
    reduce: Callable[[xr.Dataset], xr.DataArray], plain: xr.DataArray
) -> None:
    with pytest.raises(DataTypeError, match=r"found a Dataset with \['sst'\]. .*ds\['sst'\]"):
        reduce(plain.to_dataset())


def test_packing_moves_to_the_encoding() -> None:
    time = pd.date_range("2000-01", periods=2, freq="MS")
    da = xr.DataArray(
        np.array([3, 255], "u1"), {"time": time}, ("time",), "dbz",
        {"units": "dBZ", "scale_factor": 0.5, "add_offset": -30.0, "_FillValue": np.uint8(255)},
    )  # fmt: skip
    found = packed_on_file(da)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [-28.5, np.nan])
    assert found.encoding["scale_factor"] == 0.5
    assert found.attrs == {"units": "dBZ"}
    assert packed_on_file(found) is found
