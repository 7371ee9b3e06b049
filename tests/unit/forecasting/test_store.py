"""A hindcast on disk is the hindcast; what is there is not made again; another one is refused."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xearth
from xearth.cf.writer import from_cf, to_cf
from xearth.errors import AxisError, DataTypeError, SourceError
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.store import write_hindcast
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.testing.assertions import raise_if_dask_computes
from xearth.verification.align import observations_at
from xearth.verification.one_pass.verify import verify

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
    for name in ("fingerprint", "identity"):
        monkeypatch.setattr(f"xearth.forecasting.hindcast.{name}", lambda obj: "f" * 32)


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


def test_constraints_are_audited_in_the_attributes_of_the_store(field, model, tmp_path):
    asked = {"members": 3, "constraints": xearth.AreaMean() >= xearth.Q(0.2, "K")}
    starts = slice("2000-03", "2000-12")
    lazy = hindcast(field, model, init=starts, starts_per_block=5, **asked)
    back = from_cf(write_hindcast(lazy, tmp_path / "hc.zarr"))["ssta"]
    attrs = xearth.audit_attrs(xearth.forecast(field, model, init=starts, **asked))
    assert json.loads(back.attrs["xearth_audit"])[0]["held"] == 30
    assert {key: back.attrs[key] for key in attrs} == attrs
    assert write_hindcast(lazy, tmp_path / "hc.zarr") == tmp_path / "hc.zarr"  # it is known again


@pytest.mark.filterwarnings("ignore::xearth.errors.LeakageWarning")
@pytest.mark.parametrize("decode_timedelta", [False, True])
@pytest.mark.parametrize("kind", ["zarr", "nc"])
def test_what_plain_xarray_reads_can_be_verified(field, model, tmp_path, kind, decode_timedelta):
    """On file leads are nominal days; the whole months beside them count."""
    lazy = hindcast(field, model, init=slice("2001", "2002"))
    path = tmp_path / f"hc.{kind}"
    write_hindcast(lazy, path) if kind == "zarr" else to_cf(lazy, path)
    options = {"decode_timedelta": decode_timedelta}
    plain = xr.open_zarr(path, **options) if kind == "zarr" else xr.open_dataset(path, **options)
    truth, expected = observations_at(plain["ssta"], field), observations_at(lazy, field)
    names = {"forecast_period": "lead", "forecast_reference_time": "init"}
    found = truth.rename(names).transpose(*expected.dims).values
    np.testing.assert_array_equal(found, expected.values)
    np.testing.assert_allclose(
        verify(plain["ssta"], field, ["rmse"]).rmse.values,
        verify(lazy, field, ["rmse"]).rmse.values,
        rtol=1e-6,
    )


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


@pytest.fixture(scope="module")
def written(field, model, tmp_path_factory):
    """A store that is copied, never changed."""
    path = tmp_path_factory.mktemp("written") / "hc.zarr"
    return write_hindcast(hindcast(field, model, members=2), path)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("finished", [True, False])
def test_another_hindcast_is_refused_before_any_work(
    field, model, written, tmp_path, change, finished
):
    path = tmp_path / "hc.zarr"
    shutil.copytree(written, path)
    if not finished:
        part = tmp_path / "hc.zarr.incomplete"
        part.mkdir()
        attrs = json.loads((path / "zarr.json").read_text())["attributes"]
        (part / "request.json").write_text(attrs["xearth_request"])
        path.rename(part / "store")
    with xr.set_options(keep_attrs=True):
        other = CHANGES[change](field, model)
    word = {"init": "starts"}.get(change, change)
    with raise_if_dask_computes(), pytest.raises(SourceError, match=rf"another hindcast:.*{word}"):
        write_hindcast(other, path)
    write_hindcast(other, path, resume=False)
    xr.testing.assert_equal(from_cf(path)["ssta"].load(), other.compute())
    assert [p.name for p in tmp_path.iterdir()] == ["hc.zarr"]


def _foreign(values):
    """A lazy hindcast that xearth did not make."""
    coords = {
        "init": ("init", np.array(["2000-01", "2000-02"], "M8[ns]")),
        "lead": ("lead", [1, 2], {"units": "months"}),
    }
    return xr.DataArray(values, coords, ("init", "lead"), "t", {"units": "K"})


def _later(field):
    other = field.copy(deep=True)
    other.loc[{"time": "2002-01"}] += 5  # not in the history of the first start
    return other


# Each makes a hindcast of the same labels from a field and a value that come in two versions.
SAME_LABELS = {
    "history": lambda f, v, m, p: hindcast(f, m),
    "lazy history": lambda f, v, m, p: hindcast(f.chunk(time=12), m),
    "derived": lambda f, v, m, p: (2**v * hindcast(f, m)).assign_attrs(hindcast(f, m).attrs),
    "foreign": lambda f, v, m, p: _foreign(np.full((2, 2), v)).chunk(init=1),
    "unknown": lambda f, v, m, p: _foreign(
        da.from_delayed(dask.delayed(np.full)((2, 2), v), (2, 2), float)
    ),
    "static": lambda f, v, m, p: xr.Dataset(
        {"t": _foreign(np.ones((2, 2))).chunk(init=1), "mask": ("x", [v, v])}
    ),
    "forecaster": lambda f, v, m, p: hindcast(f, Shifted(m, _Hidden(v))),
    "lambda": lambda f, v, m, p: hindcast(f, Shifted(m, lambda: v)),
    "file": lambda f, v, m, p: hindcast(_on_file(f, p, chunks={}), m),
    "file without dask": lambda f, v, m, p: hindcast(_on_file(f, p, chunks=None), m),
    "store": lambda f, v, m, p: hindcast(_in_store(f, p), m),
}


class _Hidden:
    def __init__(self, value):
        self.value = value

    def __call__(self):
        return self.value


class Shifted:
    """A forecaster with a part of another kind."""

    name, history, horizon = "shifted", 1, 2

    def __init__(self, model, shift):
        self.model, self.shift = model, shift

    def forecast(self, history, **options):
        return self.model.forecast(history, **options) + np.float32(self.shift())


def _on_file(field, folder, **options):
    field.to_netcdf(folder / "new.nc")
    os.replace(folder / "new.nc", folder / "history.nc")
    return xr.open_dataset(folder / "history.nc", **options).ssta


def _in_store(field, folder):
    """The store is written to again; its folder does not change."""
    path = folder / "history.zarr"
    if path.exists():
        before = path.stat().st_mtime_ns
        part = field.isel(time=slice(24, 36)).drop_vars(["lat", "lon"])
        part.to_zarr(path, region="auto", consolidated=False)
        assert path.stat().st_mtime_ns == before
    else:
        field.chunk(time=12).to_zarr(path, consolidated=False)
    return xr.open_zarr(path, consolidated=False).ssta


@pytest.mark.parametrize("what", SAME_LABELS)
def test_other_values_under_the_same_labels_are_refused(field, model, tmp_path, what):
    path = tmp_path / "hc.zarr"
    first = SAME_LABELS[what](field, 0.0, model, tmp_path)
    write_hindcast(first, path)
    assert write_hindcast(first, path) == path
    with xr.set_options(keep_attrs=True):
        other = SAME_LABELS[what](_later(field), 1.0, model, tmp_path)
    with raise_if_dask_computes(), pytest.raises(
        SourceError, match=r"(other values|another hindcast).*resume=False"
    ):  # fmt: skip
        write_hindcast(other, path)
    write_hindcast(other, path, resume=False)
    name, values = ("mask", other["mask"]) if what == "static" else (other.name, other)
    np.testing.assert_array_equal(from_cf(path)[name].values, values.values)


_WRITE = """
import sys, numpy as np, xarray as xr
from ast import literal_eval
from xearth.forecasting.hindcast import hindcast
from xearth.forecasting.store import write_hindcast
from xearth.reference.lim import LIM
for k, how in enumerate(sys.argv[3:]):
    chunks, held, made = how.split()
    field = xr.open_dataset(sys.argv[1], chunks=literal_eval(chunks)).ssta
    model = LIM.fit(field.load() if held == "memory" else field.compute(), horizon=2, modes=3)
    lazy = hindcast(field, model, members=2, starts_per_block=6)
    if made == "derived":
        lazy = lazy.isel(lead=[0]) * np.float32(2)
    write_hindcast(lazy, f"{sys.argv[2]}/hc{k}.zarr")
    print(lazy.data.name)
"""


def test_another_process_knows_its_hindcasts_again(field, tmp_path, monkeypatch, capsys):
    """Another process, in which strings have other hashes, and then this one."""
    field.to_netcdf(tmp_path / "field.nc")
    hows = ("None memory plain", "{} file derived", "{'time':7} file plain")
    script = tmp_path / "write.py"
    script.write_text(_WRITE)
    argv = [str(script), str(tmp_path / "field.nc"), str(tmp_path), *hows]
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    ran = subprocess.run(
        [sys.executable, *argv], env={**os.environ, "PYTHONHASHSEED": seed}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    monkeypatch.setattr(sys, "argv", argv)
    runpy.run_path(str(script))
    assert capsys.readouterr().out == ran.stdout
    assert len(ran.stdout.split()) == len(set(ran.stdout.split())) == len(hows)


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
