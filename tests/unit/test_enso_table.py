"""The table of the paper's ENSO statistics: numbers by another route, and the page it writes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

CI = Path(__file__).parents[2] / "ci"
sys.path.insert(0, str(CI))

import enso_table  # noqa: E402

KELVIN = {"units": "K", "units_metadata": "temperature: difference"}


@pytest.fixture(scope="module")
def truth() -> xr.DataArray:
    """A monthly index of 30 years."""
    rng = np.random.default_rng(2)
    values = np.convolve(rng.standard_normal(420), np.ones(12), "valid")[:360] / 4
    time = pd.date_range("1970-01", periods=360, freq="MS")
    return xr.DataArray(values, {"time": time}, ("time",), name="nino34", attrs=KELVIN)


def months_of(truth: xr.DataArray, noise: float, seed: int) -> xr.DataArray:
    """Forecasts of months: the truth and noise that grows with the lead."""
    starts = np.arange(20, 320)
    leads = np.arange(1, 15)
    rng = np.random.default_rng(seed)
    values = truth.values[starts[:, None] + leads]
    values = values + noise * leads * rng.standard_normal(values.shape)
    coords = {"init": truth.time.values[starts], "lead": ("lead", leads, {"units": "months"})}
    return xr.DataArray(values, coords, ("init", "lead"), name="nino34", attrs=KELVIN)


def test_rows_hold_the_published_statistics(truth):
    good, bad = months_of(truth, 0.05, 0), months_of(truth, 0.5, 1)
    cases = [enso_table.Case("good", "none", good), enso_table.Case("bad", "none", bad)]
    rows = {row.name: row for row in enso_table.rows_of(cases, truth, reference="bad")}
    r = []
    for k in range(12):
        p = good.values[:, k : k + 3].mean(1)
        t = np.mean([truth.values[np.arange(20, 320) + 1 + k + j] for j in range(3)], 0)
        r.append(np.corrcoef(p, t)[0, 1])
    a = np.array([1.5] * 4 + [2] * 7 + [3]) * np.log(np.arange(1, 13))
    assert rows["good"].c_m[0] == pytest.approx(np.mean(r), rel=1e-6)
    assert rows["good"].c_wm[0] == pytest.approx((a * r).sum() / 12, rel=1e-6)
    value, lower, upper = rows["good"].difference
    assert value == pytest.approx(rows["good"].c_m[0] - rows["bad"].c_m[0], abs=1e-9)
    assert 0 < lower < value < upper
    assert rows["good"].p < 0.05
    assert rows["bad"].difference is None
    assert rows["good"].mse is None  # no fields


def test_means_of_three_months_are_judged_on_the_same_months(truth):
    """A forecast of trailing means scores as the months that it is made of."""
    months = months_of(truth, 0.2, 3)
    means = months.copy(data=np.full(months.shape, np.nan))
    means[:, 2:] = np.stack([months.values[:, k : k + 3].mean(1) for k in range(12)], 1)
    means.attrs = KELVIN | {"target": "trailing mean over 3 steps"}
    cases = [enso_table.Case("months", "none", months), enso_table.Case("means", "none", means)]
    a, b = enso_table.rows_of(cases, truth, reference="months")
    assert a.c_m == pytest.approx(b.c_m, abs=1e-9)
    assert a.c_wm == pytest.approx(b.c_wm, abs=1e-9)
    assert b.difference[0] == pytest.approx(0.0, abs=1e-9)


def test_mse_of_fields_with_its_interval():
    rng = np.random.default_rng(4)
    time = pd.date_range("1970-01", periods=200, freq="MS")
    lat = ("lat", [-2.5, 2.5], {"units": "degrees_north"})
    lon = ("lon", np.arange(192.5, 240.0, 5.0), {"units": "degrees_east"})
    coords = {"time": time, "lat": lat, "lon": lon}
    field = xr.DataArray(rng.standard_normal((200, 2, 10)), coords, ("time", "lat", "lon"), "sst")
    field.attrs = KELVIN
    field[:, 0, 0] = np.nan
    starts = np.arange(10, 170)
    leads = {"init": time[starts], "lead": ("lead", np.arange(1, 15), {"units": "months"})}
    zero = xr.DataArray(
        np.zeros((160, 14, 2, 10)), leads | {"lat": lat, "lon": lon},
        ("init", "lead", "lat", "lon"), "sst", attrs=KELVIN,
    )  # fmt: skip
    (row,) = enso_table.rows_of([enso_table.Case("zero", "none", zero)], field, reference="zero")
    seen = field.values[starts[:, None] + np.arange(1, 15)]
    expected = np.nanmean(seen**2) / 26.748097419738766**2
    assert row.mse[0] == pytest.approx(expected, rel=1e-9)
    assert row.mse[1] < expected < row.mse[2]
    assert row.cells()[2].startswith("0.000")


def test_the_page_is_what_the_docs_hold():
    """Same words and columns; the numbers are those of the last run."""
    page = (CI.parent / "docs" / "models" / "enso-seed-table.rst").read_text(encoding="utf-8")
    table = enso_table.listed(["forecaster", "C-Nino3.4-M"], [["persistence", "0.36"]])
    made = enso_table.page(
        {"ocean": table, "recharge": table, "published": table},
        {"ocean": 251, "recharge": 263}, enso_table.NOTE,
    )  # fmt: skip
    assert table.splitlines()[3:] == [
        "   * - forecaster", "     - C-Nino3.4-M", "   * - persistence", "     - 0.36",
    ]  # fmt: skip

    def words(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith(("   * -", "     -"))]

    assert words(page) == words(made)
    for name, *numbers in enso_table.PUBLISHED:
        assert name in page
        assert all(f"{number:g}"[:5] in page for number in numbers)
