from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import xarray as xr

import xearth
from xearth.cli import commands, nowcast
from xearth.cli.main import main


@dataclass(frozen=True)
class Noisy:
    """Extrapolation with members that differ by a factor."""

    horizon: int = 12
    history: int = 3
    name: str = "nowcast-test"
    provenance: dict[str, Any] = field(default_factory=lambda: {"training_period": "2015/2017"})

    def forecast(self, history, *, init=None, members=None, seed=0):
        one = xearth.Advection(horizon=self.horizon).forecast(history, init=init)
        draws = np.random.default_rng(seed).lognormal(0, 0.5, members)
        factor = xr.DataArray(draws, {"member": np.arange(members)}, ["member"])
        made = (one * factor).transpose("init", "lead", "member", "y", "x").astype("float32")
        made["member"].attrs.update(standard_name="realization", units="1")
        return made.assign_attrs({**one.attrs, "forecaster": self.name})


@pytest.fixture
def few(monkeypatch):
    """Six starts of a part of the field are enough to see that it runs."""
    part = xearth.samples.open("knmi_radar").isel(y=slice(0, 90), x=slice(50, 140)).load()
    monkeypatch.setattr(nowcast, "STARTS", nowcast.STARTS[::2])
    monkeypatch.setattr(nowcast, "DRAWN", (10, 60))
    monkeypatch.setattr(nowcast.samples, "open", lambda _: part)


@pytest.fixture
def called(monkeypatch):
    """What the demos are called with."""
    calls = []
    monkeypatch.setattr(commands, "run_demo", lambda **options: calls.append(options))
    monkeypatch.setattr(commands, "run_nowcast", lambda **options: calls.append(options))
    return calls


def test_enso_is_the_demo_where_none_is_named(called, tmp_path):
    for argv in (["demo"], ["demo", "enso"]):
        assert main([*argv, "--output-dir", str(tmp_path)]) == 0
    first, second = called
    assert first == second
    assert first == {
        "init": "1997-06", "members": 20, "epochs": 2,
        "netcdf": tmp_path / "enso_forecast.nc", "figure": tmp_path / "enso_forecast.png",
    }  # fmt: skip


def test_options_stand_before_or_after_the_name(called, tmp_path):
    argv = ["--init", "2010-08-26T05:00", "--members", "3", "--output-dir", str(tmp_path)]
    assert main(["demo", "nowcast", *argv]) == main(["demo", *argv, "nowcast"]) == 0
    first, second = called
    assert first == second
    assert (first["init"], first["members"]) == ("2010-08-26T05:00", 3)
    assert {path.name for path in first["paths"].values()} == set(nowcast.FILES.values())


def test_help_lists_the_demos(capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    text = capsys.readouterr().out
    for name, one in commands.DEMOS.items():
        assert f"xearth demo {name}" in text
        assert one.summary in text
        assert all(file in text for file in one.files.values())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nowcast", "--epochs", "3"], ("--epochs 3", "trains nothing")),
        (["nowcast", "--init", "2010-08-27T00:00"], ("2010-08-27", "07:35")),
        (["nowcast", "--init", "2010-08-26T00:05"], ("fewer than 3 frames", "Start later")),
        (["nowcast", "--output-dir", "nowhere"], ("nowhere", "create it")),
    ],
)
def test_what_a_demo_cannot_do_is_one_line(argv, words, capsys, tmp_path):
    more = [] if "--output-dir" in argv else ["--output-dir", str(tmp_path)]
    assert main(["demo", *argv, *more]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words)
    assert not list(tmp_path.iterdir())


def test_it_says_who_saw_the_event():
    def seen(**provenance):
        return nowcast.Entry(Noisy(provenance=provenance)).seen

    assert "flatter" in seen(trained_on="fmi_20160928, knmi_20100826")
    assert "flatter" in seen(training_period="2010-08-26T00:00/2010-08-26T04:00")
    assert "never saw this event" in seen(trained_on="fmi_20160928, mch_20170131")
    assert "not trained" in seen()
    assert "not trained" in nowcast.Entry(xearth.Advection(horizon=2)).seen


@pytest.mark.usefixtures("few")
def test_a_nowcast_from_end_to_end(capsys, tmp_path, monkeypatch):
    """References and an ensemble: tables, what each knew, four files."""
    monkeypatch.setattr(nowcast, "shipped", lambda: ("enso-small", "nowcast-test"))
    monkeypatch.setattr(nowcast, "load", lambda _: Noisy())
    paths = {key: tmp_path / name for key, name in nowcast.FILES.items()}
    nowcast.run_nowcast(init="2010-08-26T04:30", members=4, paths=paths)
    out = capsys.readouterr().out
    for words in (
        "CSI, 0.1 mm h-1 and more", "CSI, 1 mm h-1", "CSI, 5 mm h-1", "MSE (mm2 h-2)",
        "CRPS (mm h-1)", "less extrapolation", "less persistence", "spread (mm/h)",
        "95 % of the members", "trained on 2015/2017", "not trained", "of one event",
    ):  # fmt: skip
        assert words in out.replace("\n", " "), words
    assert max(map(len, out.splitlines())) <= 130
    assert {path.name for path in tmp_path.iterdir()} == set(nowcast.FILES.values())
    again = xearth.from_cf(paths["forecast"])["rainfall_rate"]
    assert again.sizes["member"] == 4
    assert again.attrs["units"] == "mm h-1"
    assert all(path.stat().st_size > 5_000 for path in paths.values())


def test_scores_of_the_demo_are_those_of_the_same_cells():
    """CSI and CRPS of the table, worked out by hand on the cells that all forecasts have."""
    rain = xearth.samples.open("knmi_radar").isel(y=slice(0, 90), x=slice(50, 140)).load()
    starts = list(nowcast.STARTS[:5])
    made = {n: one.forecast(rain, starts) for n, one in nowcast.entries(rain, 2).items()}
    made = {n: one for n, one in made.items() if n in ("extrapolation", "persistence")}
    scores, _ = nowcast.compare(
        nowcast.on_common_cells(made), rain, nowcast.SCORES, thresholds=nowcast.EVENTS
    )
    lines = nowcast.table(scores, [30]).splitlines()
    truth = np.stack([rain.sel(time=s + np.timedelta64(30, "m")).values for s in starts])
    fields = {n: one.sel(lead=30).values for n, one in made.items()}
    seen = np.isfinite(np.stack([truth, *fields.values()])).all(0)
    for name, field_ in fields.items():
        hit = ((field_ >= 1) & (truth >= 1))[seen].sum()
        either = ((field_ >= 1) | (truth >= 1))[seen].sum()
        row = lines[lines.index("CSI, 1 mm h-1 and more") + 1 :]
        (found,) = [line for line in row[:2] if name in line]
        assert found.split()[-1] == f"{hit / either:.2f}"
        row = lines[lines.index("CRPS (mm h-1)") + 1 :]
        (found,) = [line for line in row[:2] if name in line]
        assert found.split()[-1] == f"{abs(field_ - truth)[seen].mean():.2f}"
