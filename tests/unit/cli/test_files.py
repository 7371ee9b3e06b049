from __future__ import annotations

import os

import pytest
import xarray as xr

from xearth.cli.files import open_dataset, open_field, writable
from xearth.errors import SourceError


def test_opens_the_only_variable_lazily(netcdf, field):
    opened = open_field(netcdf)
    assert opened.chunks is not None
    xr.testing.assert_equal(opened, field)


def test_bounds_are_no_variables(field, tmp_path):
    dataset = field.to_dataset()
    dataset["time"].attrs["bounds"] = "time_bnds"
    dataset["time"].encoding["units"] = "days since 2000-01-01"
    dataset["time_bnds"] = (("time", "bnds"), [[i, i + 1] for i in range(48)])
    dataset.to_netcdf(tmp_path / "bounds.nc")
    assert open_field(tmp_path / "bounds.nc").name == "ssta"


def test_opens_a_zarr_store(field, tmp_path):
    field.to_dataset().to_zarr(tmp_path / "field.zarr", zarr_format=2)
    xr.testing.assert_equal(open_field(tmp_path / "field.zarr"), field)


def test_missing_file_is_named():
    with pytest.raises(SourceError, match=r"no file 'nowhere\.nc'; check the path"):
        open_dataset("nowhere.nc")


@pytest.mark.parametrize("content", [b"", b"not a field", b"\x89HDF\r\n\x1a\n" + b"\0" * 64])
def test_corrupt_file_is_one_message(content, tmp_path):
    path = tmp_path / "corrupt.nc"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"corrupt\.nc' cannot be read as NetCDF or Zarr"):
        open_dataset(path)


def test_truncated_file_is_refused(netcdf):
    content = netcdf.read_bytes()
    netcdf.write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match="cannot be read"):
        open_field(netcdf)


def test_empty_folder_is_no_store(tmp_path):
    with pytest.raises(SourceError, match="cannot be read"):
        open_dataset(tmp_path)


def test_unknown_variable_lists_those_there_are(netcdf):
    with pytest.raises(SourceError, match=r"no variable 'sst'; it holds: ssta"):
        open_field(netcdf, "sst")


def test_several_variables_need_a_choice(field, tmp_path):
    xr.Dataset({"a": field, "b": field}).to_netcdf(tmp_path / "two.nc")
    with pytest.raises(SourceError, match=r"holds 2 variables: a, b; choose one with --variable"):
        open_field(tmp_path / "two.nc")
    assert open_field(tmp_path / "two.nc", "b").name == "b"


def test_output_folder_must_exist(tmp_path):
    assert writable(tmp_path / "a.nc") == tmp_path / "a.nc"
    with pytest.raises(SourceError, match="create it first"):
        writable(tmp_path / "nowhere" / "a.nc")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_folder_must_be_writable(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SourceError, match="may not be written"):
        writable(tmp_path / "a.nc")
