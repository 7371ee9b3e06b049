"""Verify real archives of hindcasts and hold the scores against marks of another evaluation.

Usage: python ci/archive_marks.py FOLDER

FOLDER holds the archives under the names in ``ARCHIVES``. Prints a table: archive, score, mark,
found, ok. The exit status is 1 when a score is further from its mark than the mark is rounded.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

import xearth

Found = Mapping[str, xr.DataArray]

#: By archive and score: the marks by lead, and the leads they are of if not the first ones.
DAYS = [0, 4, 9, 14, 19, 24, 29, 34]
MARKS: dict[str, dict[str, tuple[list[float], list[int] | None]]] = {
    "GEOS RMM1": {
        "correlation": ([0.979, 0.939, 0.857, 0.782, 0.651, 0.533, 0.448, 0.394], DAYS),
        "CRPS": ([0.365, 0.373, 0.522, 0.597, 0.660, 0.705, 0.746, 0.766], DAYS),
        "persistence": ([0.970, 0.637, 0.219, -0.027], DAYS[:4]),
    },
    "ECMWF System 5": {
        "bias, K": ([-1.08, -0.98, -0.95], None),
        "CRPS, K": ([1.058, 1.329, 1.175], None),
        "CRPS without bias, K": ([0.499, 0.801, 0.774], None),
        "pooled ACC": ([0.493, -0.080, -0.015], None),
    },
    "CESM-DPLE": {
        "correlation": (
            [0.540, 0.198, 0.218, 0.221, 0.211, 0.206, 0.253, 0.157, 0.110, 0.145], None,
        ),
        "persistence": ([0.213, -0.351, 0.018, 0.190], None),
    },
    "IRI plume": {
        "correlation": ([0.96, 0.93, 0.89, 0.84, 0.79, 0.72, 0.65, 0.57, 0.47], None),
        "RMSE, K": ([0.24, 0.33, 0.41, 0.49, 0.57, 0.63, 0.68, 0.73, 0.78], None),
        "CRPS, K": ([0.138, 0.189, 0.235, 0.281, 0.324, 0.364, 0.393, 0.425, 0.453], None),
        "ECMWF correlation": ([0.96, 0.94, 0.92, 0.90, 0.86], None),
    },
}  # fmt: skip


def geos(folder: Path) -> Found:
    """Return the scores of a subseasonal index, and of the value of the day before the start."""
    hc = xearth.open_hindcast(folder / "hindcast_geos_rmm1_1999-2009.nc").RMM1
    truth = xr.open_dataset(folder / "obs_rmm_1998-2016.nc").rmm1
    found = xearth.verify(hc, truth, ["correlation", "crps_ensemble"])
    before = truth.reindex(time=hc.init.values - np.timedelta64(1, "D"))
    return {
        "correlation": found.correlation,
        "CRPS": found.crps_ensemble,
        "persistence": xearth.verify(_persisted(hc, before), truth, ["correlation"]).correlation,
    }


def system5(folder: Path) -> Found:
    """Return the scores of seasonal fields as they come and of departures from their means."""
    ds = xearth.open_hindcast(folder / "hindcast_c3s_system5_tas_med.nc")
    hc, truth, weights = ds.tas.load(), ds.tas_obs.load(), np.cos(np.deg2rad(ds.lat))
    raw = xearth.verify(hc, truth, ["bias", "crps_ensemble"], weights=weights)
    normal, usual = hc.mean(("init", "member")), truth.mean("init")
    corrected = (hc - (normal - usual)).assign_attrs(hc.attrs)
    departures = [(hc - normal).assign_attrs(hc.attrs), (truth - usual).assign_attrs(truth.attrs)]
    for each in departures:
        each.attrs["units_metadata"] = "temperature: difference"
    own = xearth.verify(corrected, truth, ["crps_ensemble"], weights=weights)
    acc = xearth.verify(*departures, ["correlation"], weights=weights)
    return {
        "bias, K": raw.bias,
        "CRPS, K": raw.crps_ensemble,
        "CRPS without bias, K": own.crps_ensemble,
        "pooled ACC": acc.correlation,
    }


def dple(folder: Path) -> Found:
    """Return the correlation of area means, of the hindcast and of the year of the start."""
    hc = xearth.open_hindcast(folder / "hindcast_cesm_dple_sst_epac.nc").SST.load()
    fosi = xr.open_dataset(folder / "obs_cesm_fosi_sst_epac.nc").SST.load()
    years = [np.datetime64(f"{year}-01-01", "ns") for year in fosi.time.values]
    fosi = (fosi - fosi.sel(time=slice(1964, 2014)).mean("time")).assign_coords(time=years)
    hc, truth = (a.weighted(a.TAREA).mean(("nlat", "nlon")) for a in (hc, fosi))
    truth = truth.assign_attrs(hc.attrs)
    start = truth.reindex(time=hc.init.values)
    return {
        "correlation": xearth.verify(hc, truth, ["correlation"]).correlation,
        "persistence": xearth.verify(_persisted(hc, start), truth, ["correlation"]).correlation,
    }


def plume(folder: Path) -> Found:
    """Return the scores of seasons by many models, as an ensemble and of one of them."""
    path = folder / "hindcast_iri_plume_200401-202206.nc"
    hc = xearth.open_hindcast(path, member="model").nino34.load()
    truth = xr.open_dataset(folder / "index_cpc_198201-202104.nc").nino34anom
    truth = xearth.running_mean(truth, align="centered")
    found = xearth.verify(hc, truth, ["correlation", "rmse", "crps_ensemble"])
    ecmwf = xearth.verify(hc.sel(member="ECMWF"), truth, ["correlation"])
    return {
        "correlation": found.correlation,
        "RMSE, K": found.rmse,
        "CRPS, K": found.crps_ensemble,
        "ECMWF correlation": ecmwf.correlation,
    }


def _persisted(hindcast: xr.DataArray, known: xr.DataArray) -> xr.DataArray:
    """Return a forecast like another that keeps a known value (time) of each start."""
    one = hindcast.isel(member=0, drop=True) if "member" in hindcast.dims else hindcast
    return one.copy(data=np.broadcast_to(known.values[:, None], one.shape))


ARCHIVES: dict[str, Callable[[Path], Found]] = {
    "GEOS RMM1": geos,
    "ECMWF System 5": system5,
    "CESM-DPLE": dple,
    "IRI plume": plume,
}


def main(folder: Path) -> int:
    """Print the table and return the exit status."""
    bad = 0
    print(f"{'archive':16}{'score':22}{'lead':>6}{'mark':>9}{'found':>10}  ok")
    for archive, evaluate in ARCHIVES.items():
        found = evaluate(folder)
        for score, (marks, leads) in MARKS[archive].items():
            values = found[score] if leads is None else found[score].sel(lead=leads)
            digits = max(len(f"{mark:g}".partition(".")[2]) for mark in marks)
            for mark, value in zip(marks, values[: len(marks)], strict=True):
                ok = abs(value.item() - mark) <= 0.6 * 10**-digits
                bad += not ok
                lead = value.lead.item()
                print(f"{archive:16}{score:22}{lead:6}{mark:9g}{value.item():10.4f}  {ok}")
    return int(bad > 0)


if __name__ == "__main__":
    warnings.simplefilter("ignore", xearth.errors.XearthWarning)
    sys.exit(main(Path(sys.argv[1])) if len(sys.argv) == 2 else __doc__)
