from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure

import xearth
from xearth.cli import commands, futures, whatif
from xearth.cli.main import main
from xearth.forecasting.prediff import PreDiffForecaster
from xearth.models.prediff.rain import RainDiffusion, RainDiffusionConfig


@pytest.fixture(scope="module")
def rain():
    return xearth.samples.open("knmi_radar").isel(y=slice(60, 124), x=slice(70, 134)).load()


@pytest.fixture(scope="module")
def known(rain):
    return xearth.IntensityClimatology.of(rain, frames=12)


@pytest.fixture(scope="module")
def free(rain):
    return xearth.forecast(rain, "nowcast-small", init="2010-08-26T04:30", members=3)


@pytest.fixture(scope="module")
def strong(free, known):
    return futures.futures(free, known, [4])[0].members


def test_a_factor_makes_the_mean_and_nothing_else(free, known, strong):
    mean = strong.mean(["lead", "y", "x"])  # cells of one size, none missing
    np.testing.assert_allclose(mean, known.intensity(4).magnitude, rtol=1e-6)
    factor = (strong / free.where(free > 0)).max(["lead", "y", "x"])
    np.testing.assert_allclose(strong, free * factor, rtol=1e-5)
    assert strong.dims == free.dims
    assert strong.attrs["units"] == free.attrs["units"]
    assert "4 sd above the mean in dBR" in strong.attrs["xearth_constraints"]


def test_the_nearest_field_is_drizzle_and_the_factor_is_rain(free, known, strong):
    level = xearth.IntensityAnomaly(known, 4)
    near = xearth.impose(free, [level, xearth.NonNegative()])
    assert level.check(strong).all()
    assert level.check(near).all()
    assert ((strong > 0) == (free > 0)).all()
    assert (near > 0).mean() > (free > 0).mean() + 0.1
    real = futures.spectrum(free)
    assert abs(futures.spectrum(near) - real).max() > 2 > abs(futures.spectrum(strong) - real).max()
    # nearest in squared distance it is, of fields that are not negative
    assert ((near - free) ** 2).sum() < ((strong - free) ** 2).sum()


def test_levels_that_cannot_exist_are_refused_and_told(free, rain):
    plain = xearth.IntensityClimatology.of(rain, frames=12, transform="none")
    impossible, usual = futures.futures(free, plain, (-20, 0))
    assert impossible.members is None
    assert "cannot exist" in impossible.refused
    assert usual.members is not None
    assert not usual.refused
    dry = free.copy(data=np.zeros_like(free))
    (no_rain,) = futures.futures(dry, plain, (0,))
    assert no_rain.members is None
    assert "no factor" in no_rain.refused


def test_the_spectrum_of_a_wave_is_at_its_length():
    x = np.arange(64)
    wave = 1 + np.cos(2 * np.pi * x / 8) * np.ones((64, 1))
    power = futures.spectrum(xr.DataArray(wave, dims=("y", "x")))
    assert float(power.idxmax()) == 8
    assert power.sizes["wavelength"] == 16


def test_the_demo_writes_a_table_that_holds_what_was_asked_and_figures(
    monkeypatch, capsys, rain, known, tmp_path
):
    monkeypatch.setattr(whatif.samples, "open", lambda _: rain)
    monkeypatch.setattr(whatif, "LEVELS", (-1.0, 1.0))
    asked = ["--members", "2", "--model", "nowcast-small", "--output-dir", str(tmp_path)]
    assert main(["demo", "whatif", *asked]) == 0
    out = capsys.readouterr().out
    assert "one event" in out
    assert "refused: an intensity -5" in out
    assert "CRPS" in out
    assert {path.name for path in tmp_path.iterdir()} == set(whatif.FILES.values())
    rows = pd.read_csv(tmp_path / whatif.FILES["table"], index_col=0)
    labels = ["n = -1", "n = +1", "n = -5, no log", "n = -1, nearest", "n = +1, nearest"]
    assert list(rows.index) == ["observed", "members", *labels]
    levels = rows.loc[labels[:2]]
    assert (levels["off"] <= 1e-5).all()
    np.testing.assert_allclose(levels["found"], levels["asked"], rtol=1e-5)
    np.testing.assert_allclose(levels["counted"], [known.probability(-1), known.probability(1)])
    assert rows.loc["observed", "dB_8"] == 0
    assert rows["crps"].isna()[["observed", "n = -5, no log"]].all()
    assert rows["crps"].notna().sum() == 5
    assert whatif.text_of(rows) in out
    assert "-" in whatif.text_of(rows)


def test_a_diffusion_model_from_a_file_draws_its_futures(monkeypatch, capsys, rain, tmp_path):
    torch.manual_seed(0)
    config = RainDiffusionConfig(leads=12, told=(4, 12), block=4, channels=6, base_units=8)
    new = {"config": config, "state": config.build().weights(), "steps": 3, "name": "new"}
    model = PreDiffForecaster(base=xearth.load("nowcast-small"), **new)
    small = rain.isel(y=slice(16, 48), x=slice(16, 48))
    drawn, sample, found, table = [], RainDiffusion.sample, [], whatif.table

    def counted(self, *args, guidance=None, **options):
        drawn.append(guidance is not None)
        return sample(self, *args, guidance=guidance, **options)

    def kept(free, futures, rain):
        found.extend(futures)
        return table(free, futures, rain)

    monkeypatch.setattr(RainDiffusion, "sample", counted)
    monkeypatch.setattr(whatif, "table", kept)
    monkeypatch.setattr(whatif.samples, "open", lambda _: small)
    monkeypatch.setattr(whatif, "LEVELS", (1.0,))
    for figure in ("strips", "spectra"):  # drawn in the test above
        monkeypatch.setattr(whatif, figure, lambda *_: Figure())
    file = model.save(tmp_path / "new")
    asked = ["--model", str(file), "--members", "2", "--output-dir", str(tmp_path)]
    assert main(["demo", "whatif", *asked]) == 0
    assert drawn == [False, True]  # free members once, not again for a level
    out = capsys.readouterr().out
    assert "2 members of new from 2010-08-26 04:30, drawn towards each level" in out
    assert "refused: an intensity -5" in out
    rows = pd.read_csv(tmp_path / whatif.FILES["table"], index_col=0)
    assert rows.loc["n = +1", "off"] <= 0.05
    assert rows.loc["n = +1, exact", "off"] <= 1e-5
    # what is held exactly afterwards is what the model draws when it is asked for that
    (held,) = (one for one in found if one.label == "n = +1, exact")
    level = xearth.IntensityAnomaly(xearth.IntensityClimatology.of(small, frames=12), 1)
    again = model.forecast(small, init="2010-08-26T04:30", members=2, constraints=[level])
    np.testing.assert_allclose(held.members, again, atol=1e-5)


def test_options_of_other_demos_are_refused(tmp_path, capsys):
    where = ["--output-dir", str(tmp_path)]
    assert main(["demo", "whatif", "--epochs", "3", *where]) != 0
    assert "trains nothing" in capsys.readouterr().err
    assert main(["demo", "nowcast", "--model", "nowcast-small", *where]) != 0
    assert "has its own models" in capsys.readouterr().err
    assert commands.DEMOS["whatif"].files is whatif.FILES
