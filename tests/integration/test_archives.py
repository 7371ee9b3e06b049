"""Real archives, as their makers label them, verify to the marks measured on the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from xearth.cf.conventions import as_hindcast, count_members, open_hindcast
from xearth.data.sources import samples
from xearth.verification.align import observations_at
from xearth.verification.one_pass.verify import verify

DATA = Path(__file__).parents[1] / "data"


def test_geos_rmm1_verifies_to_its_marks():
    """Valid day = start + whole part of the label; marks of another evaluation of the file."""
    hc = as_hindcast(samples.open("geos_rmm1"))
    assert hc.dims == ("init", "lead", "member")
    assert hc.lead_label.values[:2].tolist() == [0.5, 1.5]
    assert (count_members(hc) == 4).all()
    scores = verify(hc, samples.open("rmm").rmm1, ("correlation", "crps_ensemble"))
    at = [0, 4, 9, 14, 19, 24, 29, 34]
    marks = [0.979, 0.939, 0.857, 0.782, 0.651, 0.533, 0.448, 0.394]
    np.testing.assert_allclose(scores.correlation.sel(lead=at), marks, atol=6e-4)
    marks = [0.365, 0.373, 0.522, 0.597, 0.660, 0.705, 0.746, 0.766]
    np.testing.assert_allclose(scores.crps_ensemble.sel(lead=at), marks, atol=6e-4)
    assert (scores.n == 330).all()


def test_persistence_of_the_day_before_verifies_to_its_marks():
    """The counting is right to the day: one day off, these would be others."""
    hc = as_hindcast(samples.open("geos_rmm1"))
    rmm1 = samples.open("rmm").rmm1.load()
    before = rmm1.reindex(time=hc.init.values - np.timedelta64(1, "D")).values
    persisted = hc.isel(member=0, drop=True).load()
    persisted[:] = before[:, None]
    scores = verify(persisted, rmm1, ("correlation",))
    marks = [0.970, 0.637, 0.219, -0.027]
    np.testing.assert_allclose(scores.correlation.sel(lead=[0, 4, 9, 14]), marks, atol=6e-4)


def test_years_of_cesm_dple():
    """Starts are bare years, leads are years after them."""
    hc = open_hindcast(DATA / "cesm_dple_global.nc")
    assert dict(hc.sizes) == {"init": 64, "lead": 10, "member": 10}
    assert hc.valid_time.dt.year.values[0].tolist() == list(range(1955, 1965))
    assert hc.lead.attrs["units"] == "years"
    time = xr.date_range("1950-01-01", periods=80, freq="YS", use_cftime=False)
    year = xr.DataArray(time.year.astype(float), {"time": time}, ("time",), "year")
    at = observations_at(hc.SST, year)
    assert (at == hc.valid_time.dt.year).all()
