"""The accessor is a thin door: each method is one public function, and no state is kept."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xearth
from xearth.accessor import DataArrayAccessor, DatasetAccessor
from xearth.plotting.methods import Plots, ScorePlots
from xearth.reference.persistence import Persistence


@pytest.fixture(scope="module")
def sst() -> xr.DataArray:
    return xearth.samples.open("kaplan_sst").sel(time=slice("1970", "1985")).load()


def test_bare_accessor_prints_what_was_found(sst):
    text = repr(sst.earthformer)
    assert "lat" in text
    assert "1 month" in text
    assert "'K'" in text
    assert "<table" in sst.earthformer._repr_html_()
    assert "ssta" in repr(sst.to_dataset().earthformer)


def test_description_follows_changed_attributes(sst):
    """xarray caches accessors, so the accessor must not cache what it found."""
    field = sst.copy()
    assert "'K'" in repr(field.earthformer)
    field.attrs["units"] = "degC"
    assert "'degC'" in repr(field.earthformer)


@pytest.mark.parametrize("accessor", [DataArrayAccessor, DatasetAccessor, Plots, ScorePlots])
def test_public_methods_are_documented_and_spelled_out(accessor):
    for name, method in inspect.getmembers(accessor):
        if name.startswith("_"):
            continue
        function = method.fget if isinstance(method, property) else method
        assert inspect.getdoc(function), name
        kinds = {p.kind for p in inspect.signature(function).parameters.values()}
        assert inspect.Parameter.VAR_POSITIONAL not in kinds, name


def test_tensor_and_back(sst):
    tensor = sst.earthformer.to_tensor()
    assert tuple(tensor.tensor.shape) == (1, 192, 12, 22, 1)
    xr.testing.assert_identical(tensor.to_array(), sst)
    assert sst.earthformer.frame_shape == (12, 22, 1)
    pair = xr.Dataset({"a": sst, "b": sst * 2})
    assert pair.earthformer.frame_shape == (12, 22, 2)


def test_methods_are_the_functions(sst):
    box = xearth.Box(-5, 5, 190, 240, "nino34")
    xr.testing.assert_identical(sst.earthformer.nino34(), xearth.nino_index(sst))
    xr.testing.assert_identical(sst.earthformer.nino(box), xearth.nino_index(sst, box))
    xr.testing.assert_identical(sst.earthformer.box_mean(box), xearth.box_mean(sst, box))
    oisst = xearth.samples.open("oisst")
    base = ("1982", "1990")
    xr.testing.assert_identical(
        oisst.earthformer.climatology(base=base), xearth.climatology(oisst, base=base)
    )
    xr.testing.assert_identical(
        oisst.earthformer.anomaly(base=base), xearth.anomaly(oisst, base=base)
    )


def test_forecast_and_hindcast_take_a_reference(sst):
    model = Persistence.fit(sst.sel(time=slice("1970", "1981")), horizon=3)
    fc = sst.earthformer.forecast(model, init="1982-01", leads=2)
    np.testing.assert_array_equal(fc.isel(init=0, lead=1), sst.sel(time="1982-01").squeeze())
    hc = sst.earthformer.hindcast(model, init=slice("1982-01", "1982-06"))
    xr.testing.assert_equal(hc.isel(init=[0], lead=slice(2)).compute(), fc)


def test_to_cf_writes(sst, tmp_path):
    path = tmp_path / "sst.nc"
    sst.earthformer.to_cf(path, title="a title")
    with xr.open_dataset(path) as written:
        assert written.attrs["Conventions"] == "CF-1.11"
        assert written.attrs["title"] == "a title"
        np.testing.assert_allclose(written["ssta"], sst, atol=1e-6)


def test_missing_axis_teaches():
    field = xr.DataArray(np.zeros((3, 4)), dims=("a", "b"), name="field")
    with pytest.raises(xearth.errors.AxisError, match="field"):
        field.earthformer.to_tensor()


def test_figures(sst):
    pytest.importorskip("matplotlib")
    model = Persistence.fit(sst.sel(time=slice("1970", "1981")), horizon=3)
    fc = sst.earthformer.forecast(model, init="1982-01")
    assert fc.earthformer.plot.maps(leads=[1, 3]).axes
    ax = fc.earthformer.nino34().earthformer.plot.plume(obs=sst)
    assert ax.get_ylabel()


def test_index_series_needs_no_grid():
    time = pd.date_range("2000-01", periods=24, freq="MS")
    index = xr.DataArray(np.arange(24.0), {"time": time}, ("time",), "index", {"units": "K"})
    assert index.earthformer.axes.time == "time"
    assert index.earthformer.running_mean(3).sel(time="2000-03").item() == 1.0


def test_import_registers_without_torch():
    code = (
        "import sys, xarray as xr, xearth; xr.DataArray([1.0]).earthformer; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_figures_of_scores():
    """Each figure is reached from the scores that it draws."""
    from matplotlib import pyplot as plt

    leads = xr.Variable("lead", [1, 2, 3], {"units": "months"})
    scores = xr.Dataset({"rmse": ("lead", [0.2, 0.4, 0.5])}, {"lead": leads})
    assert "skill" in repr(scores.earthformer.plot)
    ax = scores.earthformer.plot.skill("rmse")
    assert ax.lines[0].get_ydata().tolist() == [0.2, 0.4, 0.5]
    table = xr.Dataset(
        {"correlation": (("month", "lead"), np.eye(12, 3))},
        {"month": np.arange(1, 13), "lead": leads},
    )
    drawn = table.earthformer.plot.start_months().collections[0].get_array()
    assert drawn.reshape(12, 3).tolist() == np.eye(12, 3).tolist()
    plt.close("all")
