"""Write the sample data that ship with the package.

Usage: python make_samples.py SOURCE_DIR [TARGET_DIR]

SOURCE_DIR holds the CF files named below. Packed integers are copied as they are, so no
value changes; what is set anew are the attributes (names, units, terms, citations), the
float32 scale factors (so that a sample decodes to float32) and the chunks.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import netCDF4
import numpy as np

DIFFERENCE = {"units": "K", "units_metadata": "temperature: difference"}
REYNOLDS_2002 = (
    "Reynolds, R. W., N. A. Rayner, T. M. Smith, D. C. Stokes and W. Wang (2002): An improved in "
    "situ and satellite SST analysis for climate. J. Climate 15, 1609-1625, "
    "doi:10.1175/1520-0442(2002)015<1609:AIISAS>2.0.CO;2"
)
REYNOLDS_2007 = (
    "Reynolds, R. W., T. M. Smith, C. Liu, D. B. Chelton, K. S. Casey and M. G. Schlax (2007): "
    "Daily high-resolution-blended analyses for sea surface temperature. J. Climate 20, "
    "5473-5496, doi:10.1175/2007JCLI1824.1"
)
KAPLAN_1998 = (
    "Kaplan, A., M. A. Cane, Y. Kushnir, A. C. Clement, M. B. Blumenthal and B. Rajagopalan "
    "(1998): Analyses of global sea surface temperature 1856-1991. J. Geophys. Res. 103, "
    "18567-18589, doi:10.1029/97JC01736"
)
ZHAO_2024 = (
    "Zhao, S., F.-F. Jin, M. F. Stuecker, P. R. Thompson, J.-S. Kug, M. J. McPhaden, M. A. Cane, "
    "A. T. Wittenberg and W. Cai (2024): Explainable El Nino predictability from climate mode "
    "interactions. Nature 630, 891-898, doi:10.1038/s41586-024-07534-6"
)
SUBX_2019 = (
    "Pegion, K., B. P. Kirtman, E. Becker and others (2019): The Subseasonal Experiment (SubX): a "
    "multimodel subseasonal prediction experiment. Bull. Amer. Meteor. Soc. 100, 2043-2060, "
    "doi:10.1175/BAMS-D-18-0270.1"
)
WHEELER_HENDON_2004 = (
    "Wheeler, M. C. and H. H. Hendon (2004): An all-season real-time multivariate MJO index: "
    "development of an index for monitoring and prediction. Mon. Wea. Rev. 132, 1917-1932, "
    "doi:10.1175/1520-0493(2004)132<1917:AARMMI>2.0.CO;2"
)
NINO_BOXES = {
    "nino12": "Nino1+2 (10S-0, 90W-80W)",
    "nino3": "Nino3 (5S-5N, 150W-90W)",
    "nino34": "Nino3.4 (5S-5N, 170W-120W)",
    "nino4": "Nino4 (5S-5N, 160E-150W)",
}


@dataclass(frozen=True)
class Sample:
    """One file to write: where it comes from and what its attributes must say."""

    source: str
    target: str
    attrs: dict[str, str]
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    last: str | None = None  # the dimension that CF wants behind the others


KAPLAN = Sample(
    "sst_kaplan_anom_185601-200312.nc",
    "kaplan_sst.nc",
    {
        "title": "Kaplan Extended SST v2 anomalies, eastern and central tropical Pacific, "
        "5 degrees, monthly, 1856-2003",
        "source": "Kaplan Extended SST v2 (NOAA PSL), data set sst of the R package sinkr "
        "(github.com/marchtaylor/sinkr, commit 3f235c0)",
        "license": "The R package it was taken from is GPL-3; the terms of the data themselves "
        "are not stated there. Cite the reference.",
        "references": KAPLAN_1998,
    },
    {
        "ssta": {
            "standard_name": "sea_surface_temperature",
            "long_name": "sea surface temperature anomaly from the 1951-1980 monthly means",
            "base_period": "1951-01/1980-12",
            "comment": "Departure from the 1951-1980 monthly means of the product itself "
            "(Kaplan et al. 1998); before about 1950 an optimal smoothing of few ships.",
            **DIFFERENCE,
        }
    },
)
OISST = Sample(
    "sst_oisst_198201-199612.nc",
    "oisst.nc",
    {
        "title": "NOAA OISST monthly means, tropical Pacific, 1 degree, 1982-1996",
        "source": "NOAA daily OISST averaged to months, pacificSST of the R package remote 1.2.3 "
        "(github.com/cran/remote, commit b8b9755)",
        "license": "The R package it was taken from is GPL (>= 3); the terms of the data "
        "themselves are not stated there. Cite the reference.",
        "references": REYNOLDS_2007,
    },
    {
        "sst": {
            "long_name": "sea surface temperature",
            "comment": "Values were truncated to 0.01 degC by the source.",
        }
    },
)
CPC = Sample(
    "index_cpc_198201-202104.nc",
    "cpc_nino.nc",
    {
        "title": "Nino indices of NOAA CPC, monthly, 1982-2021",
        "source": "NOAA CPC indices from OISST, data/enso_data.csv of "
        "github.com/ProjectPythia/pythia-datasets, commit a0b4fbb",
        "license": "Apache-2.0 (the repository they were taken from); the terms of the data "
        "themselves are not stated there. Cite the reference.",
        "references": REYNOLDS_2002,
    },
    {
        **{
            name: {"long_name": f"sea surface temperature, mean over {box}"}
            for name, box in NINO_BOXES.items()
        },
        **{
            f"{name}anom": {
                "standard_name": "sea_surface_temperature",
                "long_name": f"sea surface temperature anomaly, mean over {box}",
                "comment": "Anomaly as published by NOAA CPC.",
                **DIFFERENCE,
            }
            for name, box in NINO_BOXES.items()
        },
    },
)
OISST_NINO34 = Sample(
    "index_nino34_oisst_198111-202012.nc",
    "oisst_nino34.nc",
    {
        "title": "Nino3.4 SST of OISST v2, monthly, 1981-2020",
        "source": "IRI Data Library, NMME_Reyn_SmithOIv2_Nino34_sst.nc of "
        "github.com/pangeo-data/climpred-data",
        "license": "MIT (the repository it was taken from); the terms of the data themselves "
        "are not stated there. Cite the reference.",
        "references": REYNOLDS_2002,
    },
    {"nino34": {"long_name": f"sea surface temperature, mean over {NINO_BOXES['nino34']}"}},
)
_XRO_NAMES = {
    "Nino34": "Nino3.4 sea surface temperature",
    "NPMM": "North Pacific meridional mode sea surface temperature",
    "SPMM": "South Pacific meridional mode sea surface temperature",
    "IOB": "Indian Ocean basin mode sea surface temperature",
    "IOD": "Indian Ocean dipole sea surface temperature",
    "SIOD": "southern Indian Ocean dipole sea surface temperature",
    "TNA": "tropical North Atlantic sea surface temperature",
    "ATL3": "Atlantic Nino (ATL3) sea surface temperature",
    "SASD": "South Atlantic subtropical dipole sea surface temperature",
}
# The whole record: what is judged on it leaks, and the guard can only say so if it is told.
_XRO_BASE = {"base_period": "1979-01/2024-12"}
XRO = Sample(
    "index_xro_oras5_197901-202412.nc",
    "xro_indices.nc",
    {
        "title": "ENSO and pantropical climate-mode indices of ORAS5 as used by XRO, monthly, "
        "1979-2024",
        "source": "XRO_indices_oras5.nc of github.com/senclimate/XRO",
        "license": "CC BY 4.0",
        "references": ZHAO_2024,
        "comment": "Anomalies made with the climatology and trend of the whole record: a "
        "forecast verified on them leaks that much.",
    },
    {
        **{
            name: {"long_name": f"{text} anomaly index", **_XRO_BASE, **DIFFERENCE}
            for name, text in _XRO_NAMES.items()
        },
        "WWV": {
            **_XRO_BASE,
            "long_name": "warm water volume anomaly: mean depth of the 20 degC isotherm, "
            "equatorial Pacific",
        },
    },
)
_RMM_TERMS = (
    "MIT (the repository it was taken from); the terms of the data themselves are not stated "
    "there. Cite the reference."
)
GEOS_RMM1 = Sample(
    "hindcast_geos_rmm1_1999-2009.nc",
    "geos_rmm1.nc",
    {
        "title": "RMM1 hindcasts of GEOS_V2p1 in SubX, 4 members, 45 days, every 5 days, 1999-2009",
        "source": "GMAO-GEOS-V2p1.RMM1.nc of github.com/pangeo-data/climpred-data",
        "license": _RMM_TERMS,
        "references": SUBX_2019,
    },
    {
        "RMM1": {"long_name": "real-time multivariate MJO index, component 1, daily mean"},
        "member": {"long_name": "ensemble member"},
        "init": {"axis": "T", "long_name": "start of the forecast"},
        "lead": {
            "standard_name": "forecast_period",
            "comment": "Middles of days: 0.5 is the day of the start.",
        },
    },
    last="init",
)
RMM = Sample(
    "obs_rmm_1998-2016.nc",
    "rmm.nc",
    {
        "title": "Observed RMM1 and RMM2, daily, 1998-2016",
        "source": "RMM1.observed.interannual.1974-06.2017-07.nc and its RMM2 of "
        "github.com/pangeo-data/climpred-data",
        "license": _RMM_TERMS,
        "references": WHEELER_HENDON_2004,
    },
    {
        "rmm1": {"long_name": "real-time multivariate MJO index, component 1"},
        "rmm2": {"long_name": "real-time multivariate MJO index, component 2"},
        "time": {"axis": "T"},
    },
)
SAMPLES = (KAPLAN, OISST, CPC, OISST_NINO34, XRO, GEOS_RMM1, RMM)


def _copy_variable(
    old: netCDF4.Variable, new: netCDF4.Dataset, extra: dict[str, str], last: str | None
) -> None:
    """Copy one variable with its packed values; ``extra`` wins over the old attributes."""
    order = sorted(range(old.ndim), key=lambda axis: old.dimensions[axis] == last)
    attrs = {key: old.getncattr(key) for key in old.ncattrs()}
    fill = attrs.pop("_FillValue", None)
    packed = "scale_factor" in attrs
    for key in ("scale_factor", "add_offset") if packed else ():
        attrs[key] = np.float32(attrs[key])
    variable = new.createVariable(
        old.name,
        old.dtype,
        tuple(old.dimensions[axis] for axis in order),
        fill_value=fill if fill is not None else False,
        zlib=old.ndim > 0,
        complevel=9,
        shuffle=True,
        chunksizes=tuple(old.shape[axis] for axis in order) if old.ndim else None,
    )
    variable.setncatts({**attrs, **extra})
    old.set_auto_maskandscale(False)
    variable.set_auto_maskandscale(False)
    variable[...] = np.transpose(old[...], order)


def write(sample: Sample, source: Path, target: Path) -> Path:
    """Write one sample under a temporary name and move it into place."""
    path = target / sample.target
    temporary = path.with_suffix(".tmp")
    with netCDF4.Dataset(source / sample.source) as old, netCDF4.Dataset(temporary, "w") as new:
        new.setncatts(
            {
                "Conventions": "CF-1.11",
                **sample.attrs,
                "history": f"{old.history}\nci/make_samples.py: attributes set, values unchanged",
            }
        )
        for name, size in old.dimensions.items():
            new.createDimension(name, len(size))
        for variable in old.variables.values():
            extra = sample.variables.get(variable.name, {})
            _copy_variable(variable, new, extra, sample.last)
    os.replace(temporary, path)
    return path


def main(source: str, target: str = "xearth/data/samples") -> None:
    """Write all samples and say how large they are."""
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for sample in SAMPLES:
        path = write(sample, Path(source), folder)
        total += path.stat().st_size
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
    print(f"total {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
