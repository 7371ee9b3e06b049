from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import AxisError, ConfigError, GridMismatchError, LeadError
from xearth.plotting import by_scale, by_threshold


@pytest.fixture
def csi() -> xr.Dataset:
    values = np.linspace(0.9, 0.1, 12).reshape(4, 3)
    attrs = {"long_name": "critical success index", "units": "1"}
    return xr.Dataset(
        {
            "csi": (("lead", "threshold"), values, attrs),
            "csi_lower": (("lead", "threshold"), values - 0.05, attrs),
            "csi_upper": (("lead", "threshold"), values + 0.05, attrs),
        },
        {
            "lead": ("lead", [5, 10, 15, 20], {"units": "minutes"}),
            "threshold": ("threshold", [0.1, 1.0, 5.0], {"units": "mm h-1"}),
        },
    )


@pytest.fixture
def fss() -> xr.DataArray:
    return xr.DataArray(
        np.linspace(0.1, 1.0, 24).reshape(2, 3, 4),
        {
            "threshold": ("threshold", [1.0, 5.0], {"units": "mm h-1"}),
            "window": [1, 5, 11],
            "lead": ("lead", [5, 10, 15, 20], {"units": "minutes"}),
        },
        ("threshold", "window", "lead"),
        "fss",
        {"long_name": "fractions skill score", "units": "1"},
    )


def named(ax) -> dict:
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_a_panel_for_each_threshold_and_a_line_for_each_forecast(csi):
    figure = by_threshold({"model": csi, "persistence": csi * 0.5})
    assert [ax.get_title() for ax in figure.axes] == ["≥ 0.1 mm h-1", "≥ 1 mm h-1", "≥ 5 mm h-1"]
    for i, ax in enumerate(figure.axes):
        lines = named(ax)
        assert list(lines) == ["model", "persistence"]
        np.testing.assert_allclose(lines["model"].get_ydata(), csi.csi.values[:, i])
        np.testing.assert_allclose(lines["persistence"].get_ydata(), csi.csi.values[:, i] / 2)
        assert len(ax.collections) == 2, "an interval for each"
    assert [ax.get_legend() is None for ax in figure.axes] == [False, True, True]
    assert figure.axes[0].get_ylabel() == "critical success index"
    assert figure.axes[0].get_xlabel() == "lead (minutes)"


def test_a_score_without_thresholds_is_one_panel(csi):
    figure = by_threshold(csi.isel(threshold=0, drop=True))
    assert len(figure.axes) == 1


def test_an_event_that_never_was_says_so(csi):
    csi["csi"][:, 2] = np.nan
    figure = by_threshold(csi)
    assert "no such event" in [t.get_text() for t in figure.axes[2].texts]


def test_other_thresholds_and_other_scores_are_refused(csi):
    with pytest.raises(GridMismatchError, match="score both at the same"):
        by_threshold({"a": csi, "b": csi.isel(threshold=slice(0, 2))})
    with pytest.raises(AxisError, match="no score 'ets'"):
        by_threshold(csi, "ets")


def test_rows_are_leads_columns_thresholds_and_sizes_have_units(fss):
    figure = by_scale({"model": fss, "persistence": fss * 0.5}, leads=[5, 20], cell="2 km")
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [
        "≥ 1 mm h-1, 5 minutes", "≥ 5 mm h-1, 5 minutes",
        "≥ 1 mm h-1, 20 minutes", "≥ 5 mm h-1, 20 minutes",
    ]  # fmt: skip
    line = named(figure.axes[3])["persistence"]
    np.testing.assert_allclose(line.get_xdata(), [2, 10, 22])
    np.testing.assert_allclose(line.get_ydata(), fss.values[1, :, 3] / 2)
    assert figure.axes[2].get_xlabel() == "width of the neighborhood (km)"
    assert figure.axes[0].get_ylabel() == "fractions skill score"
    figure.canvas.draw()
    assert [t.get_text() for t in figure.axes[2].get_xticklabels()] == ["2", "10", "22"]


def test_without_a_width_sizes_are_in_cells_and_three_leads_are_rows(fss):
    figure = fss.earthformer.plot.by_scale()
    assert figure.axes[-1].get_xlabel() == "width of the neighborhood (cells)"
    assert [ax.get_title().split(", ")[1] for ax in figure.axes[::2]] == [
        "5 minutes", "15 minutes", "20 minutes",
    ]  # fmt: skip
    pooled = fss.mean("lead", keep_attrs=True).to_dataset().earthformer.plot.by_scale(cell="500 m")
    assert pooled.axes[0].lines[0].get_xdata().tolist() == [500, 2500, 5500]
    assert pooled.axes[0].get_xlabel() == "width of the neighborhood (m)"


def test_scales_that_cannot_be_drawn_are_refused(fss):
    with pytest.raises(LeadError, match=r"holds the leads \[5, 10, 15, 20\], not \[7\]"):
        by_scale(fss, leads=[7])
    with pytest.raises(LeadError, match="has no leads"):
        by_scale(fss.isel(lead=0, drop=True), leads=[5])
    with pytest.raises(ConfigError, match="one positive length"):
        by_scale(fss, cell="0 km")
    with pytest.raises(GridMismatchError, match="other leads"):
        by_scale({"a": fss, "b": fss.isel(lead=slice(0, 2))})
    with pytest.raises(AxisError, match="expected"):
        by_scale(fss.expand_dims("season"))
