"""verify on a cluster of processes: the same numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr
from distributed import Client, LocalCluster

from xearth.reference.persistence import Persistence
from xearth.verification.one_pass.verify import verify


def test_on_a_cluster_of_processes() -> None:
    rng = np.random.default_rng(0)
    lat = xr.Variable("lat", np.linspace(-75.0, 75.0, 6), {"units": "degrees_north"})
    lon = xr.Variable("lon", np.arange(8) * 45.0, {"units": "degrees_east"})
    time = xr.date_range("2000-01", periods=24, freq="MS")
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    sst = xr.DataArray(rng.standard_normal((24, 6, 8)), {"time": time, "lat": lat, "lon": lon},
                       ("time", "lat", "lon"), "sst", attrs)  # fmt: skip
    f = Persistence.fit(sst[:6], horizon=3).forecast(sst, init=slice("2000-08", "2001-09"))
    noise = xr.DataArray(rng.standard_normal((4,)), dims="member")
    f = (f + noise).transpose("init", "lead", "member", "lat", "lon").assign_attrs(f.attrs)
    names = ["rmse", "crps_fair", "acc", "acc_temporal", "nino34_correlation"]
    expected = verify(f, sst, names)
    lazy = verify(f.chunk(init=3, lat=3, member=2), sst.chunk(time=7), names)
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with LocalCluster(**options, dashboard_address=None) as cluster, Client(cluster):
        found = lazy.compute()
    xr.testing.assert_allclose(found, expected, rtol=1e-12)
