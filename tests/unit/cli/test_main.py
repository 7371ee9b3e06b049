from __future__ import annotations

import subprocess
import sys

import pytest
import xarray as xr

import xearth
from xearth.cli.main import main


def run(capsys, *argv: str) -> tuple[int, str, str]:
    status = main(argv)
    out, err = capsys.readouterr()
    return status, out, err


def assert_one_line_error(status: int, err: str, *words: str) -> None:
    assert status == 2
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize("command", ["demo", "info", "train", "forecast", "hindcast", "verify"])
def test_help_of_each_command_explains_and_gives_defaults(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--debug" in text
    if command != "demo":
        data = "hindcast.zarr sst.nc" if command == "verify" else "sst.nc"
        assert f"xearth {command} {data}" in text  # an example


def test_top_help_says_where_to_start(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "start here" in text
    assert all(name in text for name in ("demo", "info", "train", "forecast", "hindcast", "verify"))


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"xearth {xearth.__version__}"


def test_info_prints_what_was_found(netcdf, capsys):
    for argv in (["info", str(netcdf)], ["info", str(netcdf), "--variable", "ssta"]):
        status, out, _ = run(capsys, *argv)
        assert status == 0
        assert "time" in out
        assert "lat" in out


def test_missing_file_is_one_line_and_status_2(capsys):
    status, _, err = run(capsys, "info", "nowhere.nc")
    assert_one_line_error(status, err, "xearth info:", "nowhere.nc")


def test_wrong_variable_is_one_line_and_status_2(netcdf, capsys):
    status, _, err = run(capsys, "info", str(netcdf), "--variable", "sst")
    assert_one_line_error(status, err, "'sst'", "ssta")


def test_debug_shows_the_traceback(capsys):
    status, _, err = run(capsys, "info", "nowhere.nc", "--debug")
    assert status == 2
    assert "Traceback" in err


def test_wrong_units_are_one_line_and_status_2(field, tmp_path, capsys):
    path = tmp_path / "rain.nc"
    field.assign_attrs(units="mm h-1").to_netcdf(path)
    output = tmp_path / "fc.nc"
    status, _, err = run(capsys, "forecast", str(path), "--output", str(output))
    assert status == 2
    assert err.count("\n") == 1
    assert not output.exists()


def test_another_grid_than_the_models_is_one_line_and_status_2(netcdf, tmp_path, capsys):
    output = tmp_path / "fc.nc"
    status, _, err = run(capsys, "forecast", str(netcdf), "--output", str(output))
    assert_one_line_error(status, err, "grid")
    assert list(tmp_path.iterdir()) == [netcdf]


def test_unknown_model_is_one_line_and_status_2(netcdf, tmp_path, capsys):
    status, _, err = run(
        capsys, "forecast", str(netcdf), "--model", "nothing", "--output", str(tmp_path / "fc.nc")
    )
    assert_one_line_error(status, err, "nothing", "enso-small")


def test_output_must_be_netcdf_or_zarr(netcdf, tmp_path, capsys):
    status, _, err = run(capsys, "forecast", str(netcdf), "--output", str(tmp_path / "fc.grib"))
    assert_one_line_error(status, err, ".nc or .zarr", "fc.grib")


def test_output_folder_is_checked_before_the_work(netcdf, tmp_path, capsys):
    status, _, err = run(
        capsys, "forecast", str(netcdf), "--output", str(tmp_path / "none" / "fc.nc")
    )
    assert_one_line_error(status, err, "create it first")


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--train-until", "1999-12", "2000-01-01 to 2003-12-01"),
        ("--train-until", "never", "YYYY-MM"),
        ("--validate", "2010-01:2011-12", "2000-01-01 to 2003-12-01"),
    ],
)
def test_dates_outside_the_file_are_one_line_and_status_2(
    option, value, word, netcdf, tmp_path, capsys
):
    given = {"--train-until": "2001-12", "--validate": "2002-01:2003-12", option: value}
    argv = [piece for pair in given.items() for piece in pair]
    output = tmp_path / "model.safetensors"
    status, _, err = run(capsys, "train", str(netcdf), *argv, "--output", str(output))
    assert_one_line_error(status, err, word)
    assert not output.exists()


@pytest.mark.parametrize(
    "argv",
    [
        ["forecast", "a.nc", "--members", "0"],
        ["forecast", "a.nc", "--members", "many"],
        ["train", "a.nc", "--train-until", "2000", "--validate", "2001"],
        ["train", "a.nc"],
        ["unknown"],
        [],
    ],
)
def test_wrong_usage_stops_with_status_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage: xearth" in capsys.readouterr().err


def test_the_installed_command_runs():
    code = "import sys; from xearth.cli.main import main; sys.exit(main(['info', 'nowhere.nc']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("xearth info: no file")


def test_train_then_forecast_from_a_file(tmp_path, capsys):
    """The whole path on files: train, save, load, forecast, CF file, figure."""
    pytest.importorskip("pytorch_lightning")
    import numpy as np

    sst = xearth.samples.open("kaplan_sst").sel(time=slice("1970-01", "1974-12"))
    source = tmp_path / "sst.nc"
    xearth.to_cf(sst, source)
    model = tmp_path / "mine.safetensors"
    status, out, err = run(
        capsys, "train", str(source), "--history", "4", "--horizon", "3",
        "--train-until", "1971-12", "--validate", "1972-01:1972-12", "--epochs", "1",
        "--width", "16", "--rank", "2",
        "--output", str(model),
    )  # fmt: skip
    assert status == 0, err
    assert str(model) in out
    output, plot = tmp_path / "fc.nc", tmp_path / "fc.png"
    status, out, err = run(
        capsys, "forecast", str(source), "--model", str(model), "--init", "1974-06",
        "--members", "2", "--output", str(output), "--plot", str(plot),
    )  # fmt: skip
    assert status == 0, err
    again = xearth.from_cf(output)
    assert np.isfinite(again["ssta"] if isinstance(again, xr.Dataset) else again).any()
    assert plot.stat().st_size > 5_000


def test_forecast_that_holds_a_constraint_from_a_file(tmp_path, capsys):
    sst = xearth.samples.open("kaplan_sst").sel(time=slice("1984-01", "1986-06"))
    source, asked, output = (tmp_path / name for name in ("sst.nc", "warm.json", "fc.nc"))
    xearth.to_cf(sst, source)
    warm = xearth.Nino34(season="DJF") >= xearth.Q(1.5, "K")
    asked.write_text(warm.to_json(), "utf-8")
    argv = ["forecast", str(source), "--members", "3", "--output", str(output)]
    status, out, err = run(capsys, *argv, "--constraint", str(asked))
    assert status == 0, err
    assert "held by 3 of 3" in out
    found = xearth.from_cf(output)
    found = found["ssta"] if isinstance(found, xr.Dataset) else found
    assert float(warm.violation(found).max()) < 1e-3
    status, _, err = run(capsys, *argv, "--impose", "exact")
    assert status != 0
    assert "there are none" in err
    asked.write_text("{}", "utf-8")
    status, _, err = run(capsys, *argv, "--constraint", str(asked))
    assert status != 0
    assert "constraint" in err


def test_forecast_from_index_series(tmp_path, capsys):
    source = tmp_path / "indices.nc"
    xearth.to_cf(xearth.samples.open("xro_indices").load(), source)
    output = tmp_path / "fc.nc"
    asked = (
        "--model",
        "enso-multi",
        "--init",
        "2015-05",
        "--members",
        "3",
        "--output",
        str(output),
    )
    status, out, err = run(capsys, "forecast", str(source), *asked)
    assert status == 0, err
    assert str(output) in out
    written = xearth.from_cf(output)
    made = xearth.forecast(
        xearth.samples.open("xro_indices"), "enso-multi", init="2015-05", members=3
    )
    xr.testing.assert_allclose(written.Nino34.squeeze(), made.Nino34.squeeze())
    status, _, err = run(capsys, "forecast", str(source), *asked, "--plot", str(tmp_path / "a.png"))
    assert status == 2
    assert "maps need a field" in err
