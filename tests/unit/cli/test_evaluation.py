"""Hindcasts and their scores from the command line: files in, files out, one line when refused."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xearth
from xearth.cli.evaluation import score_table
from xearth.cli.main import main
from xearth.forecasting.hindcast import hindcast
from xearth.verification.one_pass.verify import verify


def run(capsys, *argv):
    status = main([str(part) for part in argv])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(scope="module")
def sst():
    return xearth.samples.open("kaplan_sst").sel(time=slice("1981-01", "1984-12")).load()


@pytest.fixture(scope="module")
def made(sst, tmp_path_factory):
    """A hindcast of six starts with three members, and the observations, as files."""
    folder = tmp_path_factory.mktemp("made")
    xearth.to_cf(sst, folder / "sst.nc")
    status = main([
        "hindcast", str(folder / "sst.nc"), "--init", "1982-01:1982-06", "--members", "3",
        "--starts-per-block", "4", "-o", str(folder / "hc.zarr"),
    ])  # fmt: skip
    assert status == 0
    return folder


def test_hindcast_writes_what_the_library_makes(made, sst):
    back = xearth.from_cf(made / "hc.zarr")["ssta"].load()
    expected = hindcast(
        sst, "enso-small", init=slice("1982-01", "1982-06"), members=3, starts_per_block=4
    )
    xr.testing.assert_equal(back, expected.compute())


def test_hindcast_goes_on_unless_told_otherwise(made, capsys):
    again = ["hindcast", made / "sst.nc", "--init", "1982-01:1982-06", "--members", 3,
             "--starts-per-block", 4, "-o", made / "hc.zarr"]  # fmt: skip
    status, out, err = run(capsys, *again)
    assert (status, err) == (0, "")
    assert "init 6, lead 18, member 3" in out
    status, _, err = run(capsys, *again, "--seed", 1)
    assert status == 2
    assert err.count("\n") == 1
    assert "another hindcast: seed differ" in err
    assert "--no-resume" in err


def test_progress_only_if_asked_for_or_on_a_terminal(made, tmp_path, capsys):
    command = ["hindcast", made / "sst.nc", "--init", "1982-01:1982-02", "-o"]
    assert run(capsys, *command, tmp_path / "a.zarr")[2] == ""
    assert "1/1" in run(capsys, *command, tmp_path / "b.zarr", "--progress")[2]


@pytest.mark.filterwarnings("ignore::xearth.errors.LeakageWarning")
def test_verify_prints_writes_and_draws(made, sst, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    output, plot = tmp_path / "scores.nc", tmp_path / "skill.png"
    status, out, err = run(
        capsys, "verify", made / "hc.zarr", made / "sst.nc", "--scores", "crps,acc,rmse",
        "--by", "lead", "-o", output, "--plot", plot,
    )  # fmt: skip
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["lead", "crps_ensemble", "(K)", "acc", "rmse", "(K)", "n"]
    assert len(lines) == 1 + 18 + 2
    forecast = xearth.from_cf(made / "hc.zarr")["ssta"].load()
    expected = verify(forecast, sst, ["crps_ensemble", "acc", "rmse"])
    written = xearth.from_cf(output)
    for name in ("crps_ensemble", "acc", "rmse"):
        np.testing.assert_allclose(written[name].values, expected[name].values, rtol=1e-6)
    assert float(lines[1].split()[1]) == pytest.approx(expected.crps_ensemble[0].item(), abs=1e-4)
    assert plot.stat().st_size > 10_000


def test_verify_reads_archives(capsys, tmp_path):
    archive = xearth.samples.open("geos_rmm1").to_dataset(name="rmm1")
    archive.to_netcdf(tmp_path / "geos.nc")
    xearth.samples.open("rmm").to_netcdf(tmp_path / "obs.nc")
    status, out, err = run(
        capsys, "verify", tmp_path / "geos.nc", tmp_path / "obs.nc", "--scores", "correlation"
    )
    assert status == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert rows[1] == ["0", "0.9786", "330"]
    assert rows[5] == ["4", "0.9389", "330"]


def test_verify_counts_leads_and_members_as_told(capsys, tmp_path):
    time = pd.date_range("2000-01-01", periods=40, freq="MS")
    rng = np.random.default_rng(0)
    truth = xr.DataArray(rng.standard_normal(40), {"time": time}, ("time",), "t", {"units": "K"})
    at = np.arange(30)[:, None] + np.arange(3)
    values = truth.values[at][:, None] + rng.standard_normal((30, 4, 3)) / 100
    coords = {"init": time[:30], "lead": ("lead", [1, 2, 3], {"units": "months"})}
    forecast = xr.DataArray(values, coords, ("init", "model", "lead"), "t", {"units": "K"})
    truth.to_netcdf(tmp_path / "obs.nc")
    forecast.to_netcdf(tmp_path / "fc.nc")
    command = ["verify", tmp_path / "fc.nc", tmp_path / "obs.nc", "--member", "model",
               "--scores", "correlation,spread"]  # fmt: skip
    wrong = run(capsys, *command, "--counting", "elapsed")[1].splitlines()[1].split()
    right = run(capsys, *command, "--counting", "ordinal")[1].splitlines()[1].split()
    assert wrong[0] == "1"
    assert abs(float(wrong[1])) < 0.5
    assert right[0] == "0"
    assert float(right[1]) > 0.99
    assert right[3] == "30"


@pytest.fixture
def rain(tmp_path):
    """Twelve starts of rain in mm/h, the truth as a flux; observations of years as bare numbers."""
    rng = np.random.default_rng(0)
    time = pd.date_range("2001-01-01", periods=20, freq="D")
    truth = xr.DataArray(
        rng.gamma(1.0, 2.0, (20, 3, 4)) / 3600, dims=("time", "lat", "lon"), name="pr",
        coords={"time": time, "lat": ("lat", [0.0, 1.0, 2.0], {"units": "degrees_north"}),
                "lon": ("lon", [0.0, 1.0, 2.0, 3.0], {"units": "degrees_east"})},
        attrs={"units": "kg m-2 s-1", "standard_name": "precipitation_flux"},
    )  # fmt: skip
    forecast = xr.DataArray(
        rng.gamma(1.0, 2.0, (12, 2, 3, 4)), dims=("init", "lead", "lat", "lon"), name="rain",
        coords={"init": time[:12], "lead": ("lead", [1, 2], {"units": "days"}),
                "lat": truth.lat, "lon": truth.lon},
        attrs={"units": "mm h-1"},
    )  # fmt: skip
    truth.to_netcdf(tmp_path / "obs.nc")
    forecast.to_netcdf(tmp_path / "fc.nc")
    return tmp_path


@pytest.mark.filterwarnings("default::xearth.errors.UnitsWarning")
def test_verify_events_and_water(rain, capsys):
    status, out, err = run(
        capsys, "verify", rain / "fc.nc", rain / "obs.nc", "--scores", "rmse,csi",
        "--threshold", "1 mm/h", "--threshold", "5 mm/h",
    )  # fmt: skip
    assert status == 0, err
    assert "note: 'pr' is converted" in err
    assert "1000 kg m-3" in err
    assert "csi" in out
    assert len(out.splitlines()) == 1 + 2 * 2


@pytest.mark.filterwarnings("ignore::xearth.errors.LeakageWarning")
def test_operator_and_levels(tmp_path, capsys):
    time = pd.date_range("2001-01-01", periods=20, freq="D")
    rng = np.random.default_rng(0)
    truth = xr.DataArray(rng.integers(0, 3, 20) * 1.0, {"time": time}, ("time",), "t")
    truth.attrs["units"] = "m"
    coords = {"init": time[:12], "lead": ("lead", [1, 2], {"units": "days"}), "member": range(9)}
    values = rng.integers(0, 3, (12, 2, 9)) * 1.0
    forecast = xr.DataArray(values, coords, ("init", "lead", "member"), "t", {"units": "m"})
    for name, field in {"fc": forecast, "obs": truth}.items():
        field.to_netcdf(tmp_path / f"{name}.nc")
    status, _, err = run(
        capsys, "verify", tmp_path / "fc.nc", tmp_path / "obs.nc", "--weights", "none", "--scores",
        "brier,interval_width", "--threshold", "1 m", "--op", ">", "--levels", "0.2,0.8",
        "-o", tmp_path / "scores.nc",
    )  # fmt: skip
    assert status == 0, err
    options = {"thresholds": "1 m", "weights": None}
    expected = verify(
        forecast, truth, ["brier", "interval_width"], op=">", levels=[0.2, 0.8], **options
    )
    found = xr.load_dataset(tmp_path / "scores.nc")
    for name, last in {"brier": "threshold", "interval_width": "level"}.items():
        np.testing.assert_allclose(found[name].transpose(..., last), expected[name])
    other = verify(forecast, truth, "brier", **options).brier
    assert float(abs(expected.brier - other).max()) > 0
    for option, value in {"--op": "<", "--levels": "a,b"}.items():
        with pytest.raises(SystemExit):
            main(["verify", "fc.nc", "obs.nc", option, value])
        assert f"argument {option}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["fc.nc", "none.nc"], ["none.nc"]),
        (["none.nc", "obs.nc"], ["none.nc"]),
        (["fc.nc", "obs.nc", "--scores", "nonsense"], ["nonsense"]),
        (["fc.nc", "obs.nc", "--variable", "sst"], ["sst", "rain"]),
        (["fc.nc", "obs.nc", "--obs-variable", "sst"], ["sst", "pr"]),
        (["fc.nc", "obs.nc", "-o", "scores.txt"], ["--output", ".nc"]),
        (["fc.nc", "obs.nc", "--by", "init", "--plot", "a.png"], ["--plot", "init"]),
        (["fc.nc", "obs.nc", "--scores", "crps_fair"], ["member"]),
        (["obs.nc", "obs.nc"], ["No starts"]),
        (["fc.nc", "obs.nc", "-o", "obs.nc"], ["--output", "write over", "input", "obs.nc"]),
        (["fc.nc", "obs.nc", "-o", "fc.nc"], ["--output", "write over", "input", "fc.nc"]),
        (["f*.nc", "obs.nc", "-o", "fc.nc"], ["--output", "write over", "input", "fc.nc"]),
        (["fc.nc", "obs.nc", "-o", "link.nc"], ["--output", "write over", "obs.nc"]),
        (["fc.nc", "obs.nc", "-o", "hard.nc"], ["--output", "write over", "obs.nc"]),
        (["fc.nc", "obs.nc", "-o", "sub/../obs.nc"], ["--output", "write over", "obs.nc"]),
        (["fc.nc", "picture.png", "--plot", "picture.png"], ["--plot", "write over", "picture"]),
        (["fc.nc", "obs.nc", "--plot", "x.foo"], ["--plot", ".png", ".svg", "'.foo'"]),
        (["fc.nc", "obs.nc", "--plot", "x"], ["--plot", ".png", "'none'"]),
        (
            ["fc.nc", "obs.nc", "--by", "season,lead", "--plot", "a.png", "-o", "new.nc"],
            ["--plot", "rmse by season, lead"],
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::xearth.errors.UnitsWarning")
def test_what_cannot_be_verified_is_one_line(rain, capsys, argv, words):
    ends = (".nc", ".txt", ".png", "x.foo", "x")
    named = [f"{rain}/{part}" if part.endswith(ends) else part for part in argv]
    (rain / "sub").mkdir()
    (rain / "link.nc").symlink_to(rain / "obs.nc")
    (rain / "hard.nc").hardlink_to(rain / "obs.nc")
    before = {path: path.read_bytes() for path in rain.glob("*.nc")}
    status, out, err = run(capsys, "verify", *named)
    assert status == 2
    assert out == ""
    assert {path: path.read_bytes() for path in rain.glob("*.nc")} == before
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1
    assert all(word in lines[0] for word in words)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--init", "2030:"], ["2030"]),
        (["--model", "nonsense"], ["nonsense"]),
        (["-o", "hc.nc"], ["--output", ".zarr"]),
        (["-o", "none/hc.zarr"], ["no folder"]),
    ],
)
def test_what_cannot_be_forecast_is_one_line(made, capsys, argv, words):
    status, _, err = run(capsys, "hindcast", made / "sst.nc", *argv)
    assert status == 2
    assert err.count("\n") == 1
    assert all(word in err for word in words)


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("sst.nc", ["-o", "stores/a.zarr"]),
        ("stores/a.zarr", ["-o", "stores/a.zarr"]),
        ("stores/a.zarr", ["-o", "stores/a.zarr", "--no-resume"]),
        ("stores/b.zarr.incomplete/store", ["-o", "stores/b.zarr"]),
        ("stores/c.zarr/sst.nc", ["-o", "stores/c.zarr", "--no-resume"]),
    ],
)
def test_a_hindcast_never_takes_the_place_of_its_history(made, tmp_path, capsys, name, argv):
    (tmp_path / "stores").mkdir()
    source = tmp_path / name
    source.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made / "sst.nc", source)  # a store is a folder; what is compared is its place
    if name == "sst.nc":
        (tmp_path / "stores" / "a.zarr").symlink_to(source)
    argv = [tmp_path / part if part.startswith("stores") else part for part in argv]
    status, _, err = run(capsys, "hindcast", source, "--init", "1982-01", *argv)
    assert status == 2
    assert err.count("\n") == 1
    assert "write over the input" in err
    assert source.read_bytes() == (made / "sst.nc").read_bytes()


def test_a_forecast_never_takes_the_place_of_its_history(made, tmp_path, capsys):
    copy = tmp_path / "sst.nc"
    copy.write_bytes((made / "sst.nc").read_bytes())
    status, _, err = run(capsys, "forecast", copy, "--output", copy)
    assert status == 2
    assert "write over the input" in err
    assert copy.read_bytes() == (made / "sst.nc").read_bytes()
    status, _, err = run(
        capsys, "forecast", copy, "--output", tmp_path / "fc.nc", "--plot", "a.foo"
    )
    assert status == 2
    assert ".png" in err
    assert not (tmp_path / "fc.nc").exists()


@pytest.mark.filterwarnings("default::xearth.errors.UnitsWarning")
@pytest.mark.parametrize(
    ("argv", "labels"),
    [
        (["--scores", "csi,rmse", "--threshold", "1 mm/h", "--threshold", "5 mm/h"], 2),
        (["--scores", "rmse", "--by", "month,lead"], 0),
        (["--scores", "rmse", "--by", "lead,month"], 0),
    ],
)
def test_scores_with_thresholds_and_of_months_are_drawn(rain, capsys, argv, labels, monkeypatch):
    import matplotlib.figure

    drawn = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig",
        lambda self, *args, **kw: (drawn.append(self), save(self, *args, **kw)),
    )  # fmt: skip
    command = ["verify", rain / "fc.nc", rain / "obs.nc", *argv, "--plot", rain / "a.png"]
    status, _, err = run(capsys, *command)
    assert status == 0, err
    legend = drawn[0].axes[0].get_legend()
    assert len(legend.get_texts() if legend is not None else []) == labels
    assert (rain / "a.png").stat().st_size > 10_000


@pytest.mark.filterwarnings("ignore::xearth.errors.LeakageWarning")
def test_components_are_lines_and_ranks_are_refused_before_any_work(tmp_path, capsys):
    rng = np.random.default_rng(0)
    time = pd.date_range("2001-01-01", periods=20, freq="D")
    truth = xr.DataArray(rng.standard_normal(20), {"time": time}, ("time",), "t", {"units": "m"})
    coords = {"init": time[:12], "lead": ("lead", [1, 2], {"units": "days"}), "member": range(4)}
    values = rng.standard_normal((12, 2, 4))
    xr.DataArray(values, coords, ("init", "lead", "member"), "t", {"units": "m"}).to_netcdf(
        tmp_path / "fc.nc"
    )
    truth.to_netcdf(tmp_path / "obs.nc")
    command = ["verify", tmp_path / "fc.nc", tmp_path / "obs.nc", "--plot", tmp_path / "a.png",
               "-o", tmp_path / "scores.nc", "--scores"]  # fmt: skip
    status, out, err = run(capsys, *command, "rank_histogram")
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "xearth.plotting.rank_histogram" in err
    assert not (tmp_path / "scores.nc").exists()
    status, _, err = run(capsys, *command, "rank_histogram,crps_components")
    assert status == 0, err
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_names_are_given_once(rain, capsys):
    for option in ("--by", "--scores"):
        with pytest.raises(SystemExit) as stopped:
            run(capsys, "verify", rain / "fc.nc", rain / "obs.nc", option, "lead,lead")
        assert stopped.value.code == 2
        assert "once" in capsys.readouterr().err


def test_table_of_groups_and_of_one_number():
    scores = xr.Dataset(
        {"rmse": (("lead", "season"), [[0.1, 0.2]], {"units": "K"}), "n": ("lead", [3])},
        {"lead": [1], "season": ["DJF", "MAM"]},
    )
    rows = [line.split() for line in score_table(scores).splitlines()]
    assert rows[1:] == [["1", "DJF", "0.1000", "3"], ["1", "MAM", "0.2000", "3"]]
    one = xr.Dataset({"acc": ((), 0.5), "n": ((), 4)})
    assert [line.split() for line in score_table(one).splitlines()] == [
        ["acc", "n"],
        ["0.5000", "4"],
    ]
    maps = xr.Dataset({"acc": (("lat", "lon"), np.zeros((30, 30)))})
    assert score_table(maps) == "acc: lat 30, lon 30"
