"""Write one file of each layout and let the CF checker judge it.

Usage: python ci/cf_report.py [--out docs/compliance.rst]

Needs the extra ``test`` (compliance-checker). Works offline. The exit status is 1 when a file
has an issue.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from compliance_checker.runner import CheckSuite, ComplianceChecker

import xearth
from xearth.cf.forecast_coords import forecast_coords
from xearth.cf.timeaxis import TimeAxis

COMMAND = "compliance-checker -t cf:1.11 -c strict"
HEAD = """CF compliance
=============

Files that :func:`xearth.to_cf` writes, judged by ``{command}``. Made by
``python ci/cf_report.py --out docs/compliance.rst``; the same layouts are tested on every commit
(``tests/integration/test_cf_compliance.py``), there with other calendars too.

.. list-table::
   :header-rows: 1

   * - layout
     - dimensions
     - points
     - issues
"""
ROW = """   * - {layout}
     - {dims}
     - {scored} of {possible}
     - {issues}
"""


def layouts() -> dict[str, xr.DataArray | xr.Dataset]:
    """Return one object of each layout, as a user holds it."""
    sst = xearth.samples.open("kaplan_sst").load()
    train = sst.sel(time=slice("1950", "1981"))
    model = xearth.LIM.fit(train, horizon=12)
    hindcast = xearth.hindcast(sst, model, init=slice("1990-01", "1991-12"), members=3)
    index = xearth.nino_index(hindcast).compute()
    truth = xearth.nino_index(sst)
    names = ("correlation", "rmse", "crps_fair", "spread")
    return {
        "ensemble forecast, one start": model.forecast(sst, init="1997-06", members=5),
        "hindcast, many starts": hindcast,
        "radar nowcast, projected grid": nowcast(),
        "scores by lead": xearth.verify(index, truth, names),
    }


def nowcast() -> xr.DataArray:
    """Return a synthetic rain-rate ensemble on a projected grid: only its labels matter here."""
    time = xr.DataArray(pd.date_range("2010-08-26", periods=4, freq="5min"), dims="time")
    km = np.arange(0.0, 40.0, 2.0)
    y = {"standard_name": "projection_y_coordinate", "units": "m"}
    x = {"standard_name": "projection_x_coordinate", "units": "m"}
    north, east = np.meshgrid(52.0 + km / 111.0, 5.0 + km / 68.0, indexing="ij")
    coords = {
        **forecast_coords(TimeAxis.from_array(time.rename("time")), [3], 12, members=4),
        "y": ("y", km * 1000, y),
        "x": ("x", km * 1000, x),
        "lat": (("y", "x"), north, {"standard_name": "latitude", "units": "degrees_north"}),
        "lon": (("y", "x"), east, {"standard_name": "longitude", "units": "degrees_east"}),
        "crs": (
            (),
            np.int32(0),
            {
                "grid_mapping_name": "lambert_azimuthal_equal_area",
                "longitude_of_projection_origin": 5.0,
                "latitude_of_projection_origin": 52.0,
                "false_easting": 0.0,
                "false_northing": 0.0,
                "earth_radius": 6370997.0,
            },
        ),
    }
    rain = np.random.default_rng(0).gamma(0.5, 2.0, (1, 12, 4, km.size, km.size))
    attrs = {
        "standard_name": "rainfall_rate",
        "long_name": "rain rate",
        "units": "mm h-1",
        "grid_mapping": "crs",
        "cell_methods": "time: point",
    }
    return xr.DataArray(
        rain.astype("f4"), coords, ("init", "lead", "member", "y", "x"), "rainfall_rate", attrs
    )


def judge(path: Path, report: Path) -> tuple[int, int, int]:
    """Return (points, possible points, issues) of one file."""
    ComplianceChecker.run_checker(
        str(path), ["cf:1.11"], 0, "strict", output_filename=str(report), output_format="json"
    )
    result = json.loads(report.read_text())["cf:1.11"]
    issues = sum(result[f"{level}_count"] for level in ("high", "medium", "low"))
    return result["scored_points"], result["possible_points"], issues


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="RST file to write; by default print")
    out = parser.parse_args().out
    CheckSuite.load_all_available_checkers()
    text, total = HEAD.format(command=COMMAND), 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (layout, obj) in enumerate(layouts().items()):
            path = Path(folder) / f"{number}.nc"
            encoded = xearth.to_cf(obj, path, title=layout)
            scored, possible, issues = judge(path, Path(folder) / "report.json")
            field = max(encoded.data_vars.values(), key=lambda v: v.ndim)
            text += ROW.format(
                layout=layout,
                dims=f"({', '.join(map(str, field.dims))})",
                scored=scored,
                possible=possible,
                issues=issues,
            )
            total += issues
    if out is None:
        print(text)
    else:
        out.write_text(text)
        print(f"wrote {out}: {total} issues")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
