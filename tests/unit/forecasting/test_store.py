"""A hindcast on disk is the hindcast; what is there is not made again; another one is refused."""

from __future__ import annotations

import json
import os

import dask
import numpy as np
import pytest
import xarray as xr

from xearth.cf.writer import from_cf
from xearth.errors import AxisError, DataTypeError, SourceError
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.store import write_hindcast
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.testing.assertions import raise_if_dask_computes

pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def model(field):
    return DampedPersistence.fit(field, horizon=2)


class Failing:
    """A forecaster that fails after some blocks, and counts the blocks it makes."""

    def __init__(self, model, after=100):
        self.model, self.after, self.made = model, after, []
        self.name, self.history, self.horizon = "failing", 1, model.horizon

    def forecast(self, history, *, init=None, members=None, seed=0):
        first = np.atleast_1d(init)[0]
        if np.size(init) > 1:
            self.made.append(str(first)[:7])
        if len(self.made) > self.after:
            raise OSError("no room")
        return self.model.forecast(history, init=init, members=members, seed=seed)


def _one_forecaster(monkeypatch):
    """What it fails at, and what it has made, do not make another forecaster."""
    monkeypatch.setattr(
        "xearth.forecasting.hindcast.fingerprint", lambda obj: "f" * 32, raising=True
    )


@pytest.mark.parametrize("members", [None, 3])
@pytest.mark.parametrize("starts", [slice("2000-03", "2001-02"), ["2000-05"]])
def test_reading_back_gives_the_same_hindcast(field, model, tmp_path, members, starts):
    lazy = hindcast(field, model, init=starts, members=members, starts_per_block=5)
    path = write_hindcast(lazy, tmp_path / "hc.zarr")
    expected = lazy.compute()
    for read in (from_cf(path), from_cf(xr.open_zarr(path, decode_timedelta=False))):
        back = read["ssta"].load()
        back.attrs.pop("grid_mapping", None)
        xr.testing.assert_equal(back, expected)
        assert back.dims == expected.dims
        assert back.attrs == expected.attrs
        assert back["lead"].attrs == expected["lead"].attrs
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hc.zarr"]


def test_several_variables_in_one_store(field, model, tmp_path):
    one = hindcast(field, model, members=2, starts_per_block=6)
    two = (2 * one).rename("twice").assign_attrs(one.attrs)
    path = write_hindcast(xr.Dataset({"ssta": one, "twice": two}), tmp_path / "hc.zarr")
    back = from_cf(path).load()
    xr.testing.assert_equal(back["twice"], 2 * back["ssta"])
    xr.testing.assert_equal(back["ssta"], one.compute())


def test_the_store_is_cf(field, model, tmp_path):
    from compliance_checker.runner import CheckSuite, ComplianceChecker

    path = write_hindcast(hindcast(field, model, members=2), tmp_path / "hc.zarr")
    netcdf = tmp_path / "hc.nc"
    opened = xr.open_zarr(path, decode_timedelta=False)
    for name in opened.coords:
        opened[name].encoding.setdefault("_FillValue", None)
    opened.to_netcdf(netcdf)
    CheckSuite.load_all_available_checkers()
    report = tmp_path / "report.txt"
    passed, errors = ComplianceChecker.run_checker(
        str(netcdf), ["cf:1.11"], 0, "strict", output_filename=str(report)
    )
    assert passed, report.read_text()
    assert not errors


def test_finished_blocks_are_not_made_again(field, model, tmp_path, monkeypatch):
    _one_forecaster(monkeypatch)
    path = tmp_path / "hc.zarr"
    failing = Failing(model, 4)
    # without threads: one could still be writing when the failure of another is told
    with dask.config.set(scheduler="synchronous"), pytest.raises(OSError, match="no room"):
        write_hindcast(hindcast(field, failing, starts_per_block=6), path)
    assert not path.exists()
    assert (tmp_path / "hc.zarr.incomplete").is_dir()
    done = len(os.listdir(tmp_path / "hc.zarr.incomplete" / "done"))
    second = Failing(model)
    write_hindcast(hindcast(field, second, starts_per_block=6), path)
    assert len(second.made) == 8 - done
    assert done == 4
    third = Failing(model)
    assert write_hindcast(hindcast(field, third, starts_per_block=6), path) == path
    assert third.made == []
    whole = write_hindcast(hindcast(field, Failing(model), starts_per_block=6), tmp_path / "w.zarr")
    assert _tree(path) == _tree(whole)


def _tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_block_without_its_marker_is_made_again(field, model, tmp_path, monkeypatch):
    _one_forecaster(monkeypatch)
    path, part = tmp_path / "hc.zarr", tmp_path / "hc.zarr.incomplete"
    # without threads: one could still be writing when the failure of another is told
    with dask.config.set(scheduler="synchronous"), pytest.raises(OSError, match="no room"):
        write_hindcast(hindcast(field, Failing(model, 4), starts_per_block=6), path)
    marker = min((part / "done").iterdir())
    marker.unlink()
    chunk = part / "store" / "ssta" / "c" / "0" / str(int(marker.name)) / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    (chunk.parent / "0.abc.partial").write_bytes(b"half")
    write_hindcast(hindcast(field, Failing(model), starts_per_block=6), path)
    whole = write_hindcast(hindcast(field, Failing(model), starts_per_block=6), tmp_path / "w.zarr")
    assert _tree(path) == _tree(whole)


def test_labels_that_were_not_finished_are_made_anew(field, model, tmp_path):
    path, part = tmp_path / "hc.zarr", tmp_path / "hc.zarr.incomplete"
    (part / "done").mkdir(parents=True)
    (part / "done" / "00000").touch()
    lazy = hindcast(field, model, starts_per_block=6)
    write_hindcast(lazy, path)
    xr.testing.assert_equal(from_cf(path)["ssta"].load(), lazy.compute())


CHANGES = {
    "model": lambda field, model: hindcast(field, Persistence.fit(field, horizon=2), members=2),
    "init": lambda field, model: hindcast(field, model, init=slice("2001", None), members=2),
    "members": lambda field, model: hindcast(field, model, members=3),
    "seed": lambda field, model: hindcast(field, model, members=2, seed=1),
    "block": lambda field, model: hindcast(field, model, members=2, starts_per_block=5),
    "data": lambda field, model: hindcast(field + np.float32(1), model, members=2),
    "leads": lambda field, model: hindcast(field, model, members=2).isel(lead=[0]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("finished", [True, False])
def test_another_hindcast_is_refused_before_any_work(field, model, tmp_path, change, finished):
    path = tmp_path / "hc.zarr"
    write_hindcast(hindcast(field, model, members=2), path)
    if not finished:
        part = tmp_path / "hc.zarr.incomplete"
        part.mkdir()
        attrs = json.loads((path / "zarr.json").read_text())["attributes"]
        (part / "request.json").write_text(attrs["xearth_request"])
        path.rename(part / "store")
    with xr.set_options(keep_attrs=True):
        other = CHANGES[change](field, model)
    word = {"init": "starts"}.get(change, change)
    with raise_if_dask_computes(), pytest.raises(SourceError, match=rf"another hindcast.*{word}"):
        write_hindcast(other, path)
    write_hindcast(other, path, resume=False)
    xr.testing.assert_equal(from_cf(path)["ssta"].load(), other.compute())
    assert [p.name for p in tmp_path.iterdir()] == ["hc.zarr"]


def test_what_is_no_hindcast_is_refused(field, model, tmp_path):
    lazy = hindcast(field, model)
    with pytest.raises(SourceError, match=r"\.zarr"):
        write_hindcast(lazy, tmp_path / "hc.nc")
    with pytest.raises(SourceError, match="does not exist"):
        write_hindcast(lazy, tmp_path / "none" / "hc.zarr")
    with pytest.raises(DataTypeError, match="lazy"):
        write_hindcast(lazy.compute(), tmp_path / "hc.zarr")
    with pytest.raises(AxisError):
        write_hindcast(field.chunk(), tmp_path / "hc.zarr")
    foreign = tmp_path / "foreign.zarr"
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(foreign, consolidated=False)
    with pytest.raises(SourceError, match="not written by write_hindcast"):
        write_hindcast(lazy, foreign)


def test_progress_is_shown_if_asked_for(field, model, tmp_path, capfd):
    write_hindcast(hindcast(field, model, starts_per_block=6), tmp_path / "a.zarr")
    assert capfd.readouterr().err == ""
    write_hindcast(hindcast(field, model, starts_per_block=6), tmp_path / "b.zarr", progress=True)
    assert "8/8" in capfd.readouterr().err


def test_large_blocks_are_cut_on_disk(field, model, tmp_path, monkeypatch):
    monkeypatch.setattr("xearth.forecasting.store.CHUNK_BYTES", 2000)
    lazy = hindcast(field, model, members=8, starts_per_block=12)
    path = write_hindcast(lazy, tmp_path / "hc.zarr")
    chunks = xr.open_zarr(path)["ssta"].encoding["chunks"]
    assert chunks == (1, 1, 12, 4, 6)
    xr.testing.assert_equal(from_cf(path)["ssta"].load(), lazy.compute())
