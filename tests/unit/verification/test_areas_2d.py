"""Weights of the cells of a curvilinear grid."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xearth.verification.one_pass.verify import verify


def test_cells_of_a_curvilinear_grid_weigh_by_the_cosine_of_latitude():
    rng = np.random.default_rng(0)
    lat, lon = np.meshgrid([0.0, 20.0, 40.0], [200.0, 210.0], indexing="ij")
    grid = {
        "TLAT": (("nlat", "nlon"), lat + 0.5 * (lon - 200) / 10, {"units": "degrees_north"}),
        "TLONG": (("nlat", "nlon"), lon, {"units": "degrees_east"}),
    }
    lead = xr.Variable("lead", [1, 2], {"units": "months"})
    init = xr.date_range("2000-01", periods=3, freq="MS")
    time = xr.date_range("2000-01", periods=6, freq="MS")
    f = xr.DataArray(
        rng.normal(size=(3, 2, 3, 2)),
        {"init": init, "lead": lead, **grid},
        ("init", "lead", "nlat", "nlon"),
        attrs={"units": "K", "units_metadata": "temperature: difference"},
        name="ssta",
    )
    o = xr.DataArray(
        rng.normal(size=(6, 3, 2)),
        {"time": time, **grid},
        ("time", "nlat", "nlon"),
        attrs=f.attrs,
        name="ssta",
    )
    found = verify(f, o, "mse").mse
    for step in (1, 2):
        truth = np.stack([o.values[i + step] for i in range(3)])
        weight = np.cos(np.radians(grid["TLAT"][1]))
        error = (f.sel(lead=step).values - truth) ** 2
        expected = (error * weight).sum() / (3 * weight.sum())
        np.testing.assert_allclose(found.sel(lead=step), expected, rtol=1e-12)
