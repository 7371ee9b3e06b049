"""Write the radar event and the digits that ship with the package.

Usage: python make_radar_sample.py SOURCE_DIR [TARGET_DIR]

The radar frames are copied packed, so no value changes; new are attributes, the float32 scale,
chunks of 12 frames (an hour), and int16 in place of uint16, which checkers of CF refuse for packed
data (the numbers are below 2**15). Of the digits the first 1,500 are kept.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import netCDF4
import numpy as np
from make_samples import Sample

RADAR = Sample(
    "radar_knmi_20100826.nc",
    "knmi_radar.nc",
    {
        "title": "KNMI radar rainfall rate, Netherlands, 2010-08-26 00:00 to 07:35, 5 min, 2 km",
        "institution": "KNMI - Royal Netherlands Meteorological Institute",
        "source": "KNMI composite RAD_NL25_RAP_5min, radar/knmi/2010/08 of "
        "github.com/pySTEPS/pysteps-data, commit eaa59fb; means of 2 x 2 cells of 1 km",
        "license": "Not stated in the repository it was taken from. Name KNMI as the origin and "
        "cite the reference.",
        "references": "Overeem, A., I. Holleman and A. Buishand (2009): Derivation of a 10-year "
        "radar-based climatology of rainfall. J. Appl. Meteor. Climatol. 48, 1448-1463, "
        "doi:10.1175/2009JAMC1954.1; Pulkkinen, S. and others (2019): Pysteps: an open-source "
        "Python library for probabilistic precipitation nowcasting (v1.0). Geosci. Model Dev. "
        "12, 4185-4219, doi:10.5194/gmd-12-4185-2019",
    },
    {
        "rainfall_rate": {
            "comment": "Accumulation of 5 minutes times 12. 0 is no rain; missing is outside the "
            "range of the radars.",
        },
        "y": {"long_name": "distance along the projection, northward"},
        "x": {"long_name": "distance along the projection, eastward"},
        "lat": {"long_name": "latitude"},
        "lon": {"long_name": "longitude"},
        "crs": {"long_name": "grid mapping of the composite"},
    },
)
DIGITS = Sample(
    "mnist_t10k_0-7999.nc",
    "mnist_digits.nc",
    {
        "title": "The first 1,500 images of the MNIST test set",
        "source": "t10k-images-idx3-ubyte.gz of github.com/unixpickle/mnistlite, commit 7e77ce1",
        "license": "Not stated in the repository it was taken from. Cite the reference.",
        "references": "LeCun, Y., L. Bottou, Y. Bengio and P. Haffner (1998): Gradient-based "
        "learning applied to document recognition. Proc. IEEE 86, 2278-2324, "
        "doi:10.1109/5.726791",
    },
    {
        "image": {"long_name": "gray level of a handwritten digit, 0 to 255", "units": "1"},
        "label": {"long_name": "the digit that is meant", "units": "1"},
    },
)


def copy(sample: Sample, source: Path, target: Path, first: dict[str, int]) -> Path:
    """Write one sample: ``first`` tells how much of a dimension is kept."""
    path = target / sample.target
    temporary = path.with_suffix(".tmp")
    with netCDF4.Dataset(source / sample.source) as old, netCDF4.Dataset(temporary, "w") as new:
        text = f"{old.history}\nci/make_radar_sample.py: attributes set, values unchanged"
        new.setncatts({"Conventions": "CF-1.11", **sample.attrs, "history": text})
        for name, size in old.dimensions.items():
            new.createDimension(name, first.get(name, len(size)))
        for variable in old.variables.values():
            _variable(variable, new, sample.variables.get(variable.name, {}))
    os.replace(temporary, path)
    return path


def _variable(old: netCDF4.Variable, new: netCDF4.Dataset, extra: dict[str, str]) -> None:
    attrs = {key: old.getncattr(key) for key in old.ncattrs()}
    fill = attrs.pop("_FillValue", False)
    old.set_auto_maskandscale(False)
    sizes = [len(new.dimensions[name]) for name in old.dimensions]
    values = old[tuple(slice(n) for n in sizes)] if old.ndim else old[...]
    if values.dtype == np.uint16:
        missing, fill = values == fill, np.int16(-32768)
        if values[~missing].max() >= 2**15:
            sys.exit(f"{old.name}: values do not fit int16")
        values = np.where(missing, fill, values.astype(np.int16))
    for key in ("scale_factor", "add_offset"):
        if key in attrs:
            attrs[key] = np.float32(attrs[key])
    chunks = [
        min(n, 12) if name == "time" else n for name, n in zip(old.dimensions, sizes, strict=True)
    ]
    variable = new.createVariable(
        old.name,
        values.dtype,
        old.dimensions,
        fill_value=fill,
        zlib=old.ndim > 0,
        complevel=9,
        shuffle=old.name != "image",
        chunksizes=chunks or None,
    )
    variable.setncatts({**attrs, **extra})
    variable.set_auto_maskandscale(False)
    variable[...] = values


def main(source: str, target: str = "xearth/data/samples") -> None:
    """Write both samples and say how large they are."""
    for sample, first in ((RADAR, {}), (DIGITS, {"sample": 1500})):
        path = copy(sample, Path(source), Path(target), first)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
